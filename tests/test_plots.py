"""The figures hold the data they were given, can be read in light and dark, and say in words what they show."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.plotting import HISTORY, STYLES, Numbers, faults, pixels, widths
from toolkit import plots
from toolkit.architectures import googlenet, lenet5
from toolkit.costs import memory_parts, trace
from toolkit.errors import InputError
from toolkit.figures import Style, alt_text

WORDS = ("cat", "a class with a very long name that nobody would want to read to its end", "€ $5 and $6", "ship")
MATRIX = np.array([[40, 3, 0, 1], [2, 38, 4, 0], [0, 9, 31, 0], [0, 0, 0, 0]])
PIXELS = np.linspace(0, 255, 5 * 8 * 8).reshape(5, 8, 8).astype(np.uint8)
SHARES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [1, 0, 0], [0.34, 0.33, 0.33]])


@dataclass
class Run:
    """What a Keras History and a TrainResult have in common."""

    history: dict[str, list[float]]
    params: object = field(default_factory=dict)


def long_history(epochs: int) -> dict[str, list[float]]:
    times = np.arange(1, epochs + 1)
    return {"loss": list(np.exp(-times / 9)), "val_loss": list(np.exp(-times / 9) + times / 300)}


def many_classes(count: int) -> Numbers:
    return np.random.default_rng(0).poisson(0.4, (count, count)) + np.diag(np.full(count, 80))


# Every kind of figure, and the edges that used to break: one epoch, none, holes, many classes, long names.
FIGURES: dict[str, Callable[[Style], Figure]] = {
    "history": lambda style: plots.plot_history(HISTORY, style=style),
    "history of one epoch": lambda style: plots.plot_history({k: v[:1] for k, v in HISTORY.items()}, style=style),
    "history of none": lambda style: plots.plot_history({}, style=style),
    "history with holes": lambda style: plots.plot_history(
        {"loss": [math.nan, 0.5, math.inf, 0.2], "val_loss": [None, None, 0.3, None]}, style=style
    ),
    "history of 300": lambda style: plots.plot_history(long_history(300), style=style),
    "learning curve": lambda style: plots.plot_learning_curve(HISTORY, "Small CNN", style=style),
    "learning curve of 40": lambda style: plots.plot_learning_curve(long_history(40), style=style),
    "learning curve of one": lambda style: plots.plot_learning_curve({"loss": [1], "val_loss": [2]}, style=style),
    "two models": lambda style: plots.compare_models([lenet5(), 9_000], [HISTORY, long_history(7)], style=style),
    "seven models": lambda style: plots.compare_models(
        [f"a model with a long name, number {i}" for i in range(7)], [HISTORY] * 7, style=style
    ),
    "no models": lambda style: plots.compare_models([], [], style=style),
    "confusion": lambda style: plots.plot_confusion_matrix(MATRIX, WORDS, style=style),
    "confusion of 20": lambda style: plots.plot_confusion_matrix(many_classes(20), style=style),
    "confusion of 100": lambda style: plots.plot_confusion_matrix(
        many_classes(100), [f"class number {i}" for i in range(100)], style=style
    ),
    "classes": lambda style: plots.per_class_bar(dict(zip(WORDS, (0.9, 0.97, None, 1.0), strict=True)), style=style),
    "100 classes": lambda style: plots.per_class_bar({f"class {i}": i / 99 for i in range(100)}, style=style),
    "no classes": lambda style: plots.per_class_bar({}, style=style),
    "parameters": lambda style: plots.plot_parameter_comparison({"A": 30_000, "B": 91_000}, style=style),
    "parameters far apart": lambda style: plots.plot_parameter_comparison([61_706, 138_357_544], style=style),
    "predictions": lambda style: plots.plot_predictions(PIXELS, SHARES, [0, 2, 0, 0, 1], WORDS[:3], style=style),
    "predictions of two": lambda style: plots.plot_predictions(
        PIXELS, {"16 channels": SHARES, "32 channels": SHARES[::-1]}, columns=2, style=style
    ),
    "no predictions": lambda style: plots.plot_predictions(PIXELS[:0], SHARES[:0], style=style),
    "layer costs": lambda style: plots.plot_layer_costs(googlenet(), style=style),
    "memory": lambda style: plots.plot_memory_parts(memory_parts(lenet5()), style=style),
    "streaming": lambda style: plots.plot_streaming(
        {"in memory": {0: 400.0}, "stream": {0: 385.0, 20: 384.0, 100: 0.0}, "a way with a very long name": {100: 9.0}},
        {"in memory": 90_000_000, "stream": 40_000_000, "a way with a very long name": 0},
        style=style,
    ),
    "no streaming": lambda style: plots.plot_streaming({}, {}, style=style),
    "predicted memory": lambda style: plots.plot_memory_predictions(
        [90_000_000, 800_000_000, 4_000_000_000],
        {"by arithmetic": [95_000_000, 700_000_000, 4_100_000_000], "input alone": [200_000, 11_000_000, 9_000_000]},
        style=style,
    ),
    "no predicted memory": lambda style: plots.plot_memory_predictions([], {"by arithmetic": []}, style=style),
}


# Reading: every figure, both styles.


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FIGURES)
def test_it_can_be_read(name: str, style: Style) -> None:
    """Each word stands out from the pixels behind it, nothing is outside the figure or over other words."""
    assert not faults(FIGURES[name](style), style)


def test_every_line_differs_in_more_than_colour() -> None:
    lines = plots.compare_models([f"net {i}" for i in range(7)], [HISTORY] * 7).axes[0].get_lines()
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 7


@pytest.mark.parametrize("name", ["$", "$a$", "$\\nonsense$", "中文", "a\nb\tc", "", "x" * 300, "😀", "_^{}%"])
def test_any_name_can_be_drawn(name: str) -> None:
    pixels(plots.plot_confusion_matrix([[1, 2], [3, 4]], [name, f"{name}2"], name))
    pixels(plots.per_class_bar({name: 0.5}, name))
    pixels(plots.plot_history({"loss": [1.0]}, name))
    pixels(plots.compare_models([name], [HISTORY], name))
    pixels(plots.plot_predictions(PIXELS[:1], {name: SHARES[:1, :2]}, [0], [name, "b"], name))


# Histories.


def line_values(axes: Axes) -> list[list[float]]:
    return [np.asarray(line.get_ydata(), float).tolist() for line in axes.get_lines()]


def epochs(axes: Axes, line: int) -> list[float]:
    return [float(x) for x in np.asarray(axes.get_lines()[line].get_xdata())]


@pytest.mark.parametrize("history", [HISTORY, Run(HISTORY), Run(HISTORY, params=61_706)], ids=["dict", "keras", "ours"])
def test_a_history_is_drawn_as_it_is(history: object) -> None:
    loss, accuracy = plots.plot_history(history).axes
    assert line_values(loss) == [HISTORY["loss"], HISTORY["val_loss"]]
    assert line_values(accuracy) == [HISTORY["accuracy"], HISTORY["val_accuracy"]]
    assert epochs(loss, 0) == [1, 2, 3]


def test_a_history_in_words() -> None:
    assert alt_text(plots.plot_history(HISTORY)) == (
        "Training history, 3 epochs. "
        "Loss: training from 0.9 to 0.3 (lowest 0.3 in epoch 3); validation from 0.8 to 0.6 (lowest 0.55 in epoch 2). "
        "Accuracy: training from 60.0% to 90.0% (highest 90.0% in epoch 3); "
        "validation from 65.0% to 77.0% (highest 78.0% in epoch 2)."
    )


def test_missing_values_are_gaps() -> None:
    axes = plots.plot_history({"loss": [None, 0.5, math.inf, 0.25]}).axes[0]
    np.testing.assert_array_equal(line_values(axes)[0], [math.nan, 0.5, math.nan, 0.25])
    assert [text.get_text() for text in axes.texts] == ["training 0.25"]


def test_one_epoch_is_a_marker() -> None:
    figure = plots.plot_history({"loss": [0.5]}, style="light")
    line = figure.axes[0].get_lines()[0]
    with_marker = (pixels(figure) == [0x00, 0x72, 0xB2]).all(axis=-1).sum()
    line.set_marker("")
    assert with_marker - (pixels(figure) == [0x00, 0x72, 0xB2]).all(axis=-1).sum() > 10


@pytest.mark.parametrize(
    ("history", "sentence"),
    [({}, "no epochs yet"), ({"loss": []}, "no epochs yet"), ({"loss": [math.nan]}, "no values in any epoch")],
)
def test_an_empty_panel_says_so(history: dict[str, list[float]], sentence: str) -> None:
    for figure in (plots.plot_history(history), plots.plot_learning_curve(history)):
        assert [text.get_text() for text in figure.axes[0].texts] == [sentence]


def test_rare_validation_stands_at_its_epochs() -> None:
    """Keras with validation_freq=2 gives a shorter list."""
    axes = plots.plot_history({"loss": [4, 3, 2, 1, 0.5], "val_loss": [3.5, 1.5]}).axes[0]
    assert epochs(axes, 1) == [2, 4]


def test_other_names_of_accuracy() -> None:
    assert len(plots.plot_history({"loss": [1], "sparse_categorical_accuracy": [0.5]}).axes) == 2
    assert len(plots.plot_history({"loss": [1], "top_5_accuracy": [0.5]}).axes) == 2
    assert len(plots.plot_history({"loss": [1], "learning_rate": [0.5]}).axes) == 1


def test_the_learning_curve_marks_the_best_epoch() -> None:
    figure = plots.plot_learning_curve(HISTORY, "Small CNN")
    assert figure.axes[0].get_title(loc="left") == "Small CNN"
    assert epochs(figure.axes[0], 2) == [2, 2]
    assert "lowest validation loss, 0.55, is in epoch 2, 1 before the last" in alt_text(figure)


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0, 0.3))
def test_spread_keeps_order_and_gap(wanted: list[float], gap: float) -> None:
    places = plots.spread(wanted, gap)
    fitting = min(gap, 1 / max(1, len(wanted) - 1))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(places[b] - places[a] >= fitting - 1e-9 for a, b in itertools.pairwise(order))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_spread_leaves_what_is_apart(wanted: list[float]) -> None:
    apart = all(b - a >= 0.05 for a, b in itertools.pairwise(sorted(wanted)))
    assert not apart or plots.spread(wanted, 0.05) == pytest.approx(wanted)


# Models beside each other.


def test_models_are_compared_on_validation() -> None:
    figure = plots.compare_models({"A": 100, "B": 250}, {"B": HISTORY, "A": {"loss": [2.0, 1.0]}})
    accuracy, loss, params = figure.axes
    assert line_values(loss) == [[2.0, 1.0], HISTORY["val_loss"]]
    assert loss.get_title(loc="left") == "validation or training loss"
    assert [text.get_text() for text in accuracy.texts] == ["B 77.0%"]
    assert widths(params) == [100, 250]
    assert "Parameters: A 100, B 250." in alt_text(figure)


def test_results_bring_their_parameters() -> None:
    figure = plots.compare_models(["small", "large"], [Run(HISTORY, params=1_000), Run(HISTORY, params=4_000)])
    assert widths(figure.axes[2]) == [1_000, 4_000]
    assert len(plots.compare_models(["small", "large"], [HISTORY, HISTORY]).axes) == 2


def test_parameters_of_all_that_has_them() -> None:
    rows = trace(lenet5())
    assert plots.params_of(lenet5()) == plots.params_of(rows) == plots.params_of(np.int64(61_706)) == 61_706
    figure = plots.plot_parameter_comparison([lenet5(), rows, 50_000], ["one", "two", "three"])
    assert widths(figure.axes[0]) == [61_706, 61_706, 50_000]
    assert alt_text(figure) == "Parameters: one 61,706, two 61,706, three 50,000."


def test_parameters_of_keras_models() -> None:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    assert plots.params_of(model) == 8 * 2 + 2 + 4 * 2
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(InputError, match="not built"):
        plots.plot_parameter_comparison([unbuilt])


def test_far_apart_parameters_are_dots_on_a_logarithmic_axis() -> None:
    axes = plots.plot_parameter_comparison([lenet5(), 138_357_544]).axes[0]
    assert axes.get_xscale() == "log"
    assert [float(np.asarray(line.get_xdata())[0]) for line in axes.get_lines()] == [61_706, 138_357_544]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lenet5", "model B"]


def test_per_class_bars_are_the_worst_first() -> None:
    figure = plots.per_class_bar({"cat": 0.75, "dog": None, "ship": 0.5}, "Small CNN")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ship", "cat", "dog"]
    assert widths(axes) == [0.5, 0.75, 0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["50.0%", "75.0%", "no images"]
    assert alt_text(figure) == "Small CNN, 3 classes, mean 62.5%. Worst first: ship 50.0%, cat 75.0%."


def test_of_very_many_classes_the_worst_are_drawn() -> None:
    figure = plots.per_class_bar({str(i): i / 1000 for i in range(1000)})
    drawn = [width for axes in figure.axes for width in widths(axes)]
    assert drawn == [i / 1000 for i in range(120)]
    assert "the 120 worst of 1000 classes" in str(figure.get_suptitle())


def test_layer_costs_sum_to_the_network() -> None:
    rows = trace(googlenet())
    figure = plots.plot_layer_costs(rows, largest=5, batch=2, dtype="float16")
    totals = [sum(widths(axes)) for axes in figure.axes]
    assert totals == [6_998_552, sum(row.activation_bytes(2, "float16") for row in rows)]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[0] == "loss3_classifier"
    assert len(names) == 6
    assert names[-1].endswith(" others")
    assert "loss3_classifier 1,025,000" in alt_text(figure)


def test_streaming_has_a_bar_for_each_speed_and_each_peak() -> None:
    speeds = {"in memory": {0: 400.0}, "stream": {100: 380.0, 0: 390.0}, "notes": {0: 140.0, 100: 9.0}}
    figure = plots.plot_streaming(speeds, {"in memory": 90_000_000, "stream": 40_000_000, "notes": 8_000_000})
    left, right = figure.axes
    assert widths(left) == [400, 390, 140, 380, 9], "all at 0 ms, then all at 100 ms, from the top down"
    tops = [bar.get_y() for bar in left.patches if isinstance(bar, Rectangle)]
    assert tops[0] < tops[1] < tops[3] < tops[2] < tops[4]
    assert widths(right) == [90_000_000, 40_000_000, 8_000_000]
    assert "stream, images a second: at 0 ms 390, at 100 ms 380." in alt_text(figure)
    assert "Memory: in memory 90.0 MB, stream 40.0 MB, notes 8.00 MB." in alt_text(figure)


def test_predicted_memory_is_told_in_words_and_drawn_where_it_belongs() -> None:
    figure = plots.plot_memory_predictions([100, 200, 400], {"ours": [95, 210, 480], "naive": [1, 2, 4]}, "Peaks")
    assert alt_text(figure) == (
        "Peaks: 3 steps. ours: 2 of 3 within 10%, from 0.95 to 1.2 times the measurement. "
        "naive: 0 of 3 within 10%, from 0.01 to 0.01 times the measurement."
    )
    marked = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "None"]
    assert [list(np.asarray(line.get_xdata())) for line in marked] == [[100, 200, 400]] * 2
    assert [list(np.asarray(line.get_ydata())) for line in marked] == [[95, 210, 480], [1, 2, 4]]


# Confusion matrices.


def test_the_confusion_matrix_holds_counts_and_shares() -> None:
    figure = plots.plot_confusion_matrix(MATRIX, WORDS)
    axes = figure.axes[0]
    expected = MATRIX / np.maximum(1, MATRIX.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), expected)
    counts = {tuple(map(int, t.get_position()[::-1])): t.get_text() for t in axes.texts}
    assert counts == {(i, j): str(MATRIX[i, j]) for i, j in np.argwhere(MATRIX)}
    assert axes.get_yticklabels()[0].get_text() == "cat"
    assert alt_text(figure).startswith("Confusion matrix, 4 classes. 109 of 128 right (85.2%). ")
    assert f"{WORDS[2]} taken for {WORDS[1]} 9" in alt_text(figure)


def test_many_classes_have_a_list_instead_of_numbers() -> None:
    matrix = np.eye(100, dtype=int)
    matrix[3, 7] = 12
    axes, beside, *_ = plots.plot_confusion_matrix(matrix).axes
    assert not axes.texts
    assert [text.get_text() for text in beside.texts] == ["12: 3 → 7"]


@given(st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=3, max_size=3))
def test_shares_of_a_row_sum_to_one(matrix: list[list[int]]) -> None:
    shares = plots.row_shares(np.array(matrix, float))
    sums = np.where(np.sum(matrix, axis=1) > 0, 1.0, 0.0)
    np.testing.assert_allclose(shares.sum(axis=1), sums)


# Predictions.


def test_predictions_hold_images_and_probabilities() -> None:
    figure = plots.plot_predictions(PIXELS, SHARES, [0, 2, 0, 0, 1], ["a", "b", "c"], top=2)
    images = [axes for axes in figure.axes if axes.images]
    answers = [axes for axes in figure.axes if axes.containers]
    for axes, image in zip(images, PIXELS, strict=True):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), image / 255)
    drawn = [widths(axes)[2:] for axes in answers]  # after the two pale ones behind
    assert drawn == [sorted(row, reverse=True)[:2] for row in SHARES.tolist()]
    assert [axes.get_title() for axes in images] == [f"true: {name}" for name in "acaab"]
    assert [axes.texts[0].get_text() for axes in answers] == ["right", "right", "wrong", "right", "wrong"]
    assert "3 of 5 right" in alt_text(figure)
    assert "3: b 50% (true: a)." in alt_text(figure)


def test_predictions_of_two_models_side_by_side() -> None:
    figure = plots.plot_predictions(PIXELS[:1], {"A": SHARES[:1], "B": SHARES[1:2]}, [0])
    headings = [axes.texts[0].get_text() for axes in figure.axes if axes.containers]
    assert headings == ["A: right", "B: wrong"]


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 1), (2, 8, 8, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_of_every_kind(shape: tuple[int, ...], kind: type) -> None:
    whole = np.full(shape, 255, np.uint8)
    images = whole if kind is np.uint8 else (whole / 255).astype(kind)
    axes = plots.plot_predictions(images, SHARES[:2]).axes[0]
    assert float(np.asarray(axes.images[0].get_array()).min()) == 1.0


def test_only_the_first_of_many_images_are_drawn() -> None:
    figure = plots.plot_predictions(np.zeros((50, 4, 4)), np.full((50, 2), 0.5), most=4)
    assert len([axes for axes in figure.axes if axes.images]) == 4
    assert "for 4 of 50 images" in alt_text(figure)


# Bad input.


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.plot_history(3), "int came"),
        (lambda: plots.plot_history({"accuracy": [1]}), "needs the key 'loss'; this one has 'accuracy'"),
        (lambda: plots.plot_history({"loss": 3}), "list of numbers"),
        (lambda: plots.plot_learning_curve({"loss": ["a"]}), "list of numbers"),
        (lambda: plots.plot_history(HISTORY, style="blue"), "'blue' came"),  # type: ignore[arg-type]
        (lambda: plots.compare_models(["A"], [HISTORY, HISTORY]), "1 models and 2 histories"),
        (lambda: plots.plot_confusion_matrix([[1, 2]]), r"shape \(1, 2\) came"),
        (lambda: plots.plot_confusion_matrix([[1, 2], [3]]), "square"),
        (lambda: plots.plot_confusion_matrix([]), "square"),
        (lambda: plots.plot_confusion_matrix([[-1]]), "0 or more"),
        (lambda: plots.plot_confusion_matrix([[math.nan]]), "0 or more"),
        (lambda: plots.plot_confusion_matrix([[1]], ["a", "b"]), "1 classes need 1 names; 2 came"),
        (lambda: plots.per_class_bar({"cat": 93.0}), "'cat' must be a share between 0 and 1; 93.0 came"),
        (lambda: plots.per_class_bar({"cat": "x"}), "between 0 and 1"),
        (lambda: plots.per_class_bar([0.5]), "list came"),
        (lambda: plots.plot_parameter_comparison([1, 2], ["a"]), "2 models need 2 names; 1 came"),
        (lambda: plots.plot_parameter_comparison(["vgg16"]), "a name alone"),
        (lambda: plots.plot_parameter_comparison([-1]), "0 or more"),
        (lambda: plots.plot_parameter_comparison([1.5]), "float came"),
        (lambda: plots.plot_layer_costs(lenet5(), largest=0), "largest"),
        (lambda: plots.plot_layer_costs(lenet5(), batch=0), "batch"),
        (lambda: plots.plot_layer_costs(lenet5(), dtype="float3"), "float3"),
        (lambda: plots.plot_memory_parts({}), "bytes of 0 or more"),
        (lambda: plots.plot_memory_predictions([1], {"A": []}), "1 measurements need 1 predictions; 'A' has 0"),
        (lambda: plots.plot_memory_predictions([1], {"A": [0]}), "above 0"),
        (lambda: plots.plot_streaming({"A": {0: 1.0}}, {"B": 1}), "name the same ways in the same order"),
        (lambda: plots.plot_streaming({"A": {0: -1.0}}, {"A": 1}), "are 0 or more"),
        (lambda: plots.plot_predictions(PIXELS[0], SHARES), r"shape \(8, 8\) came"),
        (lambda: plots.plot_predictions(PIXELS, SHARES[:2]), r"shape \(2, 3\) came"),
        (lambda: plots.plot_predictions(PIXELS, SHARES * 9), "softmax"),
        (lambda: plots.plot_predictions(PIXELS, SHARES, [0]), "5 images need 5 labels; 1 came"),
        (lambda: plots.plot_predictions(PIXELS, SHARES, [0, 1, 2, 3, 0]), "0 to 2; 0 to 3 came"),
        (lambda: plots.plot_predictions(PIXELS, SHARES, None, ["a"]), "3 classes need 3 names"),
        (lambda: plots.plot_predictions(PIXELS, {"A": SHARES, "B": SHARES[:, :2]}), r"\[2, 3\]"),
        (lambda: plots.plot_predictions(PIXELS, SHARES, top=0), "top"),
    ],
)
def test_bad_input_gets_a_sentence(call: Callable[[], Figure], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()
