"""Figures of the zoo's results hold what they were given, with their error bars, and can be read in light and dark."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.plotting import STYLES, faults
from tests.zoo_records import ALEXNET, LEAN, record, some_records
from toolkit import plots, zoo_plots
from toolkit.calibration import Bin, Calibration, reliability
from toolkit.errors import InputError
from toolkit.figures import Style, alt_text
from toolkit.zoo_plots import Point
from toolkit.zoo_results import Spread, ablation, ablation_base, group_records

pytestmark = pytest.mark.once

GROUPS = group_records(some_records())
BASE = ablation_base(GROUPS)
assert BASE is not None
CHANGES = ablation(GROUPS, BASE)
LONG = group_records(record(i % 2, 0.5 + i / 100, architecture=f"a network with a long name, $ {i}") for i in range(16))
SHARES = np.random.default_rng(0).dirichlet(np.full(3, 0.3), 400)
SURE = reliability(SHARES, np.random.default_rng(1).integers(3, size=400))
MODEST = Calibration((Bin(0, 0, 0), Bin(30, 0.5, 0.9)))
LINES = {"lean": [Point.of(x, Spread(0.9 - x / 20, 0.01, 3)) for x in range(6)], "AlexNet": [Point(0, 0.8, 0.8, 0.8)]}
MAPS = {"conv2d": np.random.default_rng(0).normal(size=(8, 8, 12)), "a long name of a layer": np.ones((4, 4, 2))}

FIGURES: dict[str, Callable[[Style], Figure]] = {
    "parameters": lambda style: zoo_plots.plot_accuracy_against_cost(GROUPS, style=style),
    "FLOPs": lambda style: zoo_plots.plot_accuracy_against_cost(LONG, "training_flops", style=style),
    "memory": lambda style: zoo_plots.plot_accuracy_against_cost(GROUPS[:1], "peak_bytes", "Memory", style=style),
    "no networks": lambda style: zoo_plots.plot_accuracy_against_cost([], style=style),
    "ablation": lambda style: zoo_plots.plot_ablation(CHANGES, BASE.name, style=style),  # type: ignore[union-attr]
    "no ablation": lambda style: zoo_plots.plot_ablation([], "nothing", style=style),
    "reliability": lambda style: zoo_plots.plot_reliability({"lean, notes": SURE}, style=style),
    "reliability of four": lambda style: zoo_plots.plot_reliability(
        {"a network with a name": SURE, "b": MODEST, "c": Calibration(()), "d": SURE}, style=style
    ),
    "robustness": lambda style: zoo_plots.plot_robustness(
        {"noise": LINES, "blur": LINES, "shift": LINES, "FGSM": LINES}, "severity", style=style
    ),
    "sizes": lambda style: zoo_plots.plot_robustness(
        {"digits": {"lean": [Point(x, 0.9, 0.88, 0.91) for x in (100, 200, 400, 1294)]}},
        {"digits": "training images"}, logarithmic=True, whiskers="least to most", style=style,
    ),
    "feature maps": lambda style: zoo_plots.plot_feature_maps(np.full((8, 8, 1), 90), MAPS, most=4, style=style),
    "history": lambda style: plots.plot_history(GROUPS[0], "Lean", style=style),
    "learning curve": lambda style: plots.plot_learning_curve(GROUPS[0], style=style),
    "comparison": lambda style: plots.compare_models(GROUPS[:2], GROUPS[:2], style=style),
    "classes": lambda style: plots.per_class_bar(GROUPS[0], style=style),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FIGURES)
def test_it_can_be_read(name: str, style: Style) -> None:
    figure = FIGURES[name](style)
    assert not faults(figure, style)
    assert alt_text(figure)


def whiskers(figure: Figure) -> list[tuple[float, float]]:
    """(from, to) of every upright whisker of all axes, in the order in which they were drawn."""
    found = []
    for container in (c for axes in figure.axes for c in axes.containers if isinstance(c, ErrorbarContainer)):
        for lines in container.lines[2]:
            assert isinstance(lines, LineCollection)
            segments = [np.asarray(each) for each in lines.get_segments()]
            found += [(float(s[0, 1]), float(s[1, 1])) for s in segments if s.size and s[0, 0] == s[1, 0]]
    return found


# Accuracy against cost.


def test_points_have_whiskers_of_one_deviation_and_one_seed_has_none() -> None:
    found = whiskers(zoo_plots.plot_accuracy_against_cost(GROUPS[:3]))
    wanted = [(np.mean(each) - np.std(each, ddof=1), np.mean(each) + np.std(each, ddof=1)) for each in (LEAN, ALEXNET)]
    np.testing.assert_allclose(found, wanted)


def test_the_front_leads_over_what_nothing_cheaper_beats() -> None:
    figure = zoo_plots.plot_accuracy_against_cost(GROUPS[:3], "seconds")
    front = figure.axes[0].get_lines()[-1]
    np.testing.assert_allclose(np.asarray(front.get_xdata(), float), [101.0])
    rising = zoo_plots.plot_accuracy_against_cost(
        group_records([record(params=1000, test_accuracy=0.8), record(params=100, test_accuracy=0.9),
                       record(params=10_000, test_accuracy=0.95)])
    )  # fmt: skip
    front = rising.axes[0].get_lines()[-1]
    np.testing.assert_allclose(np.asarray(front.get_xdata(), float), [100, 10_000])


def test_the_key_goes_from_the_best_down_and_words_say_the_same() -> None:
    figure = zoo_plots.plot_accuracy_against_cost(GROUPS[:3])
    key = figure.axes[0].get_legend()
    assert key is not None
    assert [text.get_text().split(":")[0] for text in key.get_texts()] == [
        "small_cnn, lean", "alexnet_28, lean", "vit_tiny_28, notes",
    ]  # fmt: skip
    assert "small_cnn, lean: 99.20 % ± 0.20 at 85.0 k." in alt_text(figure)


def test_half_the_errors_are_the_same_way_up() -> None:
    axes = zoo_plots.plot_accuracy_against_cost(GROUPS).axes[0]
    heights = axes.transData.transform([(10**5, share) for share in (0.96, 0.98, 0.99)])[:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1])


def test_an_unknown_cost_is_a_sentence() -> None:
    with pytest.raises(InputError, match="there is no cost 'euros'"):
        zoo_plots.plot_accuracy_against_cost(GROUPS, "euros")


# Ablations.


def test_bars_are_the_gains_and_what_may_be_luck_is_hatched() -> None:
    axes = zoo_plots.plot_ablation(CHANGES, "lean").axes[0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose([bar.get_width() for bar in bars], [100 * each.gain for each in CHANGES])
    assert [bool(bar.get_hatch()) for bar in bars] == [True, False]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["mixup", "no flip"]


# Calibration.


def test_reliability_shows_accuracy_gap_and_standard_error() -> None:
    figure = zoo_plots.plot_reliability({"modest": MODEST})
    tops = [bar.get_y() + bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(tops, [0.5, 0.9])
    error = np.sqrt(0.9 * 0.1 / 30)
    np.testing.assert_allclose(whiskers(figure), [(0.9 - error, 0.9 + error)])
    assert "expected calibration error 40.0% of 30 answers, on the whole not sure enough by 40.0%" in alt_text(figure)


def test_nothing_to_draw_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"at least one network, .* none came"):
        zoo_plots.plot_reliability({})
    with pytest.raises(InputError, match=r"at least one kind, .* none came"):
        zoo_plots.plot_robustness({}, "x")


# Robustness and maps.


def test_whiskers_lie_between_low_and_high() -> None:
    points = [Point(1, 0.5, 0.4, 0.55), Point(2, 0.6, 0.6, 0.6)]
    figure = zoo_plots.plot_robustness({"noise": {"lean": points}}, "severity", whiskers="least to most over seeds")
    np.testing.assert_allclose(whiskers(figure), [(0.4, 0.55), (0.6, 0.6)])
    assert "least to most over seeds" in figure.axes[0].get_xlabel()
    plain = zoo_plots.plot_robustness({"noise": {"lean": points[1:]}}, "severity")
    assert plain.axes[0].get_xlabel() == "severity"
    assert "noise, lean: 60.0% at 2." in alt_text(plain)


def test_the_channels_that_vary_most_are_drawn() -> None:
    maps = np.zeros((4, 4, 3))
    maps[0, 0] = (1, 3, 2)
    figure = zoo_plots.plot_feature_maps(np.zeros((4, 4, 3)), {"conv": maps}, most=2)
    assert [axes.get_title() for axes in figure.axes] == ["", "channel 1", "channel 2"]
    with pytest.raises(InputError, match=r"no maps came"):
        zoo_plots.plot_feature_maps(np.zeros((4, 4, 3)), {})
    with pytest.raises(InputError, match=r"\(4, 4\) and \(4, 4, 3\) came"):
        zoo_plots.plot_feature_maps(np.zeros((4, 4)), {"conv": maps})


# The course's figures take groups.


def test_bands_are_one_deviation_around_the_mean() -> None:
    axes = plots.plot_history(GROUPS[0]).axes[0]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    assert len(bands) == 2
    heights = np.asarray(bands[0].get_paths()[0].vertices, float)[:, 1]
    assert heights.min() == pytest.approx(0.30)
    assert {round(float(height), 6) for height in heights} >= {0.9, 0.5, 0.3, 0.32}
    assert "standard deviation over seeds" in axes.get_xlabel()
    assert "standard deviation over seeds 0.01 at the end" in alt_text(axes.figure)  # type: ignore[arg-type]


def test_one_seed_has_no_band() -> None:
    axes = plots.plot_history(GROUPS[2]).axes[0]
    assert not [each for each in axes.collections if isinstance(each, PolyCollection)]
    assert axes.get_xlabel() == "epoch"


def test_classes_and_confusion_of_groups() -> None:
    figure = plots.per_class_bar(GROUPS[0])
    assert sum(isinstance(each, ErrorbarContainer) for each in figure.axes[0].containers) == 3
    assert "mean 99.5%" in alt_text(figure)
    matrix = alt_text(plots.plot_confusion_matrix(GROUPS[0]))
    assert "846 of 900 right" in matrix
    assert "cat taken for dog 27" in matrix
    assert "85,000" in alt_text(plots.plot_parameter_comparison(GROUPS[:2]))
    assert alt_text(plots.compare_models(GROUPS[:2], GROUPS[:2])).count("alexnet_28, lean") >= 3


def test_all_figures_of_all_datasets_are_saved(tmp_path: Path) -> None:
    records = [*some_records(), record(dataset="digits")]
    saved = zoo_plots.save_zoo_figures(records, tmp_path)
    names = ["params", "training_flops", "seconds", "calibration", "confusion"]
    wanted = [*(f"mnist-{name}" for name in [*names, "ingredients"]), *(f"digits-{name}" for name in names)]
    assert [path.stem for path in saved] == wanted
    assert all(path.stat().st_size > 5000 for path in tmp_path.glob("*.png"))
    assert zoo_plots.save_zoo_figures([], tmp_path) == []
