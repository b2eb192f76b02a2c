"""Figures of the zoo's results: accuracy beside cost, ablations, calibration, robustness, feature maps.

In the manner of `plots`: a `matplotlib.figure.Figure` each, with a description in words (`alt_text`). Whiskers, bands
and words beside them say what they are: standard deviations over seeds, or standard errors. One run alone has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from toolkit.calibration import Bin, Calibration
from toolkit.curves import LINE_STYLES, MARKERS, Curve, label_ends, percent
from toolkit.errors import InputError
from toolkit.figures import (
    Style,
    Theme,
    add_heading,
    described,
    dress,
    mix,
    new_picture,
    printable,
    save_figure,
    say,
    theme_of,
)
from toolkit.plots import plot_confusion_matrix
from toolkit.records import Record
from toolkit.show import readable_bytes, readable_count
from toolkit.zoo_results import (
    Difference,
    Group,
    Spread,
    ablation,
    ablation_base,
    datasets_of,
    group_records,
    is_ablation,
)

__all__ = [
    "Point",
    "plot_ablation",
    "plot_accuracy_against_cost",
    "plot_feature_maps",
    "plot_reliability",
    "plot_robustness",
    "save_zoo_figures",
]

# cost -> its name on an axis
COST_NAMES = {
    "params": "parameters",
    "macs": "MACs for one image",
    "training_flops": "FLOPs of the whole training",
    "seconds": "seconds of training",
    "peak_bytes": "peak memory of training",
    "images_per_second": "images a second in training",
}
# Ticks of an axis of accuracy, and the least share of errors that it shows.
_SHARES = (
    *(0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.975),
    *(0.98, 0.985, 0.988, 0.99, 0.991, 0.992, 0.993, 0.994, 0.995, 0.996, 0.997, 0.998, 0.999),
)
_FEWEST_ERRORS = 1e-5
SEEDS = "± 1 standard deviation over seeds"


# All of them.


def save_zoo_figures(records: Iterable[Record], folder: str | Path) -> list[Path]:
    """Draw what records tell of each dataset into a folder, as PNG files called by dataset and figure; returns them.

    Accuracy against parameters, FLOPs and seconds, calibration of the most accurate network and of the most accurate
    AlexNet, what the former confuses, and what each ingredient brings, where that was tried.
    """
    known = list(records)
    return [
        save_figure(figure, Path(folder) / f"{dataset}-{name}.png")
        for dataset in datasets_of(known)
        for name, figure in _figures_of(group_records(each for each in known if each.dataset == dataset))
    ]


def _figures_of(groups: Sequence[Group]) -> Iterator[tuple[str, Figure]]:
    """The figures of one dataset's groups, and what they are called."""
    networks = sorted((each for each in groups if not is_ablation(each)), key=lambda each: -each.accuracy.mean)
    for cost in ("params", "training_flops", "seconds") if networks else ():
        yield cost, plot_accuracy_against_cost(networks, cost, style="light")
    if networks:
        beside = [each for each in networks[1:] if "alexnet" in each.first.architecture][:1]
        told = {each.name: each.calibration for each in (networks[0], *beside)}
        yield "calibration", plot_reliability(told, style="light")
        yield "confusion", plot_confusion_matrix(networks[0], title=networks[0].name, style="light")
    base = ablation_base(groups)
    if base is not None:
        words = f"{base.name}, {base.accuracy.percent()}"
        yield "ingredients", plot_ablation(ablation(groups, base), words, style="light")


# Accuracy against cost.


def plot_accuracy_against_cost(
    groups: Sequence[Group], cost: str = "params", title: str = "", *, style: Style = "auto"
) -> Figure:
    """A point a group, accuracy up and a cost across (logarithmic), whiskers of one standard deviation over seeds.

    The dotted line leads over the groups than which none is both cheaper and better. The key names them from the most
    accurate down. Raises InputError for a cost that is none of `COSTS`.
    """
    theme = theme_of(style)
    points = sorted(((group, group.cost(cost)) for group in groups), key=lambda point: -point[0].accuracy.mean)
    figure = new_picture(theme, 9.5, 1.6 + max(3.2, 0.27 * len(points)))
    axes = figure.subplots()
    dress(axes, theme, title or f"Test accuracy against {COST_NAMES[cost]}")
    if not points:
        say(axes, theme, "no results yet")
        return described(figure, f"{title or 'Test accuracy against cost'}: no results yet.")
    # Half the errors are the same way up everywhere, so that 99.4 and 99.6 % are apart beside 90 %.
    axes.set_yscale("function", functions=(_nines, _of_nines))
    for index, (group, spent) in enumerate(points):
        _draw_point(axes, theme, index, group, spent)
    _draw_front(axes, theme, points)
    _cost_axis(axes, theme, cost, [spent.mean for _, spent in points])
    words = [f"{group.name}: {group.accuracy.percent()} at {_readable(cost, spent.mean)}." for group, spent in points]
    return described(figure, f"Test accuracy against {COST_NAMES[cost]}, {len(points)} networks.", *words)


def _draw_point(axes: Axes, theme: Theme, index: int, group: Group, spent: Spread) -> None:
    accuracy = group.accuracy
    axes.errorbar(
        spent.mean, accuracy.mean, yerr=accuracy.deviation, xerr=spent.deviation or None, color=theme.mark(index),
        marker=MARKERS[index % len(MARKERS)], markersize=8, linestyle="none", elinewidth=1.4, capsize=3,
        label=f"{printable(group.name, 40)}: {accuracy.percent()}",
    )  # fmt: skip


def _draw_front(axes: Axes, theme: Theme, points: Sequence[tuple[Group, Spread]]) -> None:
    """A line over the points that are better than all that are cheaper."""
    front: list[tuple[float, float]] = []
    for group, spent in sorted(points, key=lambda point: (point[1].mean, -point[0].accuracy.mean)):
        if not front or group.accuracy.mean > front[-1][1]:
            front.append((spent.mean, group.accuracy.mean))
    axes.plot(*zip(*front, strict=True), color=theme.line, linewidth=1, linestyle=":", zorder=0.9)


def _cost_axis(axes: Axes, theme: Theme, cost: str, costs: Sequence[float]) -> None:
    """The logarithmic axis of a cost, that of accuracy, and the key."""
    low, high = min(costs), max(costs)
    wide = max((high / low) ** 0.12, 1.3)
    axes.set_xlim(low / wide, high * wide)
    axes.set_xscale("log")
    subs = (1, 2, 5) if high < 300 * low else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(_readable(cost, value))))
    _accuracy_ticks(axes)
    axes.set_xlabel(f"{COST_NAMES[cost]} (logarithmic)", color=theme.ink)
    axes.set_ylabel(f"test accuracy (logarithmic in the errors)\nwhiskers: {SEEDS}", color=theme.ink, fontsize=9)
    axes.grid(color=theme.faint, linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, labelcolor=theme.ink, fontsize=9)


def _accuracy_ticks(axes: Axes) -> None:
    """Round shares, not too many."""
    low, high = (min(max(each, 0.0), 1 - _FEWEST_ERRORS) for each in axes.get_ylim())
    axes.set_ylim(low, high)
    inside = [share for share in _SHARES if low <= share <= high]
    axes.set_yticks(inside[:: math.ceil(len(inside) / 9)] if inside else [low, high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def _nines(shares: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(-np.log10(np.maximum(1 - np.asarray(shares, float), _FEWEST_ERRORS)))


def _of_nines(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 - 10.0 ** -np.asarray(values, float))


def _short(text: str) -> str:
    """A number without the zeros that tell nothing.

    >>> _short("1.00 M"), _short("20.0 k"), _short("300 T")
    ('1 M', '20 k', '300 T')
    """
    head, _, unit = text.partition(" ")
    return f"{float(head):g} {unit}".rstrip()


def _readable(cost: str, value: float) -> str:
    """A cost for people.

    >>> _readable("params", 85_000), _readable("seconds", 90), _readable("training_flops", 3e14)
    ('85.0 k', '90', '300 T')
    """
    if cost == "peak_bytes":
        return readable_bytes(round(value))
    return f"{value:.3g}" if value < 1000 else readable_count(round(value))


# Ablations.


def plot_ablation(
    differences: Sequence[Difference], base: str, title: str = "What each ingredient brings", *, style: Style = "auto"
) -> Figure:
    """Gains and losses against a base as bars from nothing, in percentage points, with their standard errors.

    `base` is what the bars are measured from, in words. A gain within two standard errors may be luck: it is hatched.
    """
    theme = theme_of(style)
    figure = new_picture(theme, 9, 1.6 + 0.38 * max(2, len(differences)))
    axes = figure.subplots()
    dress(axes, theme, title)
    if not differences:
        say(axes, theme, "no results yet")
        return described(figure, f"{title}: no results yet.")
    gains = 100 * np.array([each.gain for each in differences])
    errors = 100 * np.array([each.error or 0.0 for each in differences])
    for place, each in enumerate(differences):
        _draw_gain(axes, theme, place, each)
    names = [printable(each.name, 44) for each in differences]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    reach = 1.0 * max(np.abs(gains).max() + errors.max(), 1e-6)
    axes.set(xlim=(min(gains - errors).clip(max=0) - 0.25 * reach, max(gains + errors).clip(min=0) + 0.25 * reach))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.axvline(0, color=theme.line, linewidth=1)
    axes.grid(axis="x", color=theme.faint, linewidth=0.8)
    axes.set_xlabel(
        f"percentage points of test accuracy beyond {printable(base, 44)}\n"
        "whiskers: ± 1 standard error; hatched: less than two of them",
        color=theme.ink, fontsize=9, parse_math=False,
    )  # fmt: skip
    words = [f"{name} {each} percentage points." for name, each in zip(names, differences, strict=True)]
    return described(figure, f"{title}, against {base}.", *words)


def _draw_gain(axes: Axes, theme: Theme, place: int, each: Difference) -> None:
    series, gain = (0 if each.gain >= 0 else 1), 100 * each.gain
    axes.barh(
        place, gain, height=0.62, color=theme.mark(series), edgecolor=theme.background, linewidth=0,
        hatch="" if each.is_clear else "////",
    )  # fmt: skip
    if each.error is not None:
        axes.errorbar(gain, place, xerr=100 * each.error, fmt="none", ecolor=theme.ink, elinewidth=1.4, capsize=3)
    end, side = gain + math.copysign(100 * (each.error or 0), gain), "left" if gain >= 0 else "right"
    axes.annotate(
        f"{gain:+.2f}", (end, place), (6 if gain >= 0 else -6, 0), textcoords="offset points", color=theme.ink,
        fontsize=9, va="center", ha=side,
    )  # fmt: skip


# Calibration.

TOO_SURE, NOT_SURE = "says more than is right", "says less than is right"


def plot_reliability(
    calibrations: Mapping[str, Calibration], title: str = "Can the probabilities be believed?", *, style: Style = "auto"
) -> Figure:
    """Accuracy over confidence, a panel a network: on the diagonal a network is as often right as it says.

    The hatched part of a bar is the gap to what the network says, the whisker one standard error of so few answers, and
    the bars under each panel say how many answers had this confidence. Raises InputError where nothing came.
    """
    theme = theme_of(style)
    if not calibrations:
        raise InputError("reliability is drawn of at least one network, {'small_cnn': calibration}; none came")
    across = min(3, len(calibrations))
    deep = math.ceil(len(calibrations) / across)
    figure = new_picture(theme, max(5.6, 1.0 + 3.6 * across), 0.7 + 4.3 * deep)
    add_heading(figure, theme, title)
    grid = figure.subplots(2 * deep, across, squeeze=False, sharex=True, height_ratios=[3.4, 1] * deep)
    for place, (name, calibration) in enumerate(calibrations.items()):
        row, column = 2 * (place // across), place % across
        _draw_reliability(grid[row][column], theme, name, calibration)
        _draw_confidences(grid[row + 1][column], theme, calibration)
    keys = [Patch(facecolor=theme.mark(0)), *(Patch(**_gap_style(theme, gap)) for gap in (TOO_SURE, NOT_SURE))]
    labels = ("right", TOO_SURE, NOT_SURE)
    figure.legend(keys, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=theme.ink, fontsize=9)
    for place in range(len(calibrations), deep * across):
        for row in (0, 1):
            grid[2 * (place // across) + row][place % across].set_axis_off()
    words = [_reliability_words(name, each) for name, each in calibrations.items()]
    return described(figure, f"{title} {len(calibrations)} networks.", *words)


def _draw_reliability(axes: Axes, theme: Theme, name: str, calibration: Calibration) -> None:
    dress(axes, theme)
    axes.set_title(
        f"{printable(name, 36)}\nexpected calibration error {percent(calibration.ece)}",
        loc="left", color=theme.ink, fontsize=10, fontweight="bold", parse_math=False,
    )  # fmt: skip
    width = 1 / max(1, len(calibration.bins))
    axes.plot([0, 1], [0, 1], color=theme.line, linewidth=1, linestyle=":")
    for number, each in enumerate(calibration.bins):
        if each.count:
            _draw_bin(axes, theme, (number + 0.5) * width, 0.9 * width, each)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("share that is right", color=theme.ink, fontsize=9)


def _draw_bin(axes: Axes, theme: Theme, place: float, width: float, each: Bin) -> None:
    """What is right, the gap to what the network says, and how sure so few answers make us."""
    low, high = sorted((each.accuracy, each.confidence))
    gap = TOO_SURE if each.gap > 0 else NOT_SURE
    axes.bar(place, low, width=width, color=theme.mark(0))
    axes.bar(place, high - low, bottom=low, width=width, **_gap_style(theme, gap))
    error = math.sqrt(each.accuracy * (1 - each.accuracy) / each.count)
    axes.errorbar(place, each.accuracy, yerr=error, fmt="none", ecolor=theme.ink, elinewidth=1.2, capsize=2)


def _gap_style(theme: Theme, gap: str) -> dict[str, Any]:
    """How one of the two kinds of gaps looks."""
    index, hatch = (1, "////") if gap == TOO_SURE else (2, "....")
    return {"facecolor": theme.mark(index), "hatch": hatch, "edgecolor": theme.background, "linewidth": 0}


def _draw_confidences(axes: Axes, theme: Theme, calibration: Calibration) -> None:
    """How many answers there are of each confidence."""
    dress(axes, theme)
    width = 1 / max(1, len(calibration.bins))
    places = (np.arange(len(calibration.bins)) + 0.5) * width
    shares = np.array([each.count for each in calibration.bins]) / max(1, calibration.count)
    axes.bar(places, shares, width=0.9 * width, color=theme.line)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_yticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("what the network says", color=theme.ink, fontsize=9)
    axes.set_ylabel("answers", color=theme.ink, fontsize=9)


def _reliability_words(name: str, calibration: Calibration) -> str:
    gap = sum(each.count * each.gap for each in calibration.bins) / (calibration.count or 1)
    kind = "too sure" if gap > 0 else "not sure enough"
    return (
        f"{name}: expected calibration error {percent(calibration.ece)} of {calibration.count:,} answers, on the whole "
        f"{kind} by {percent(abs(gap))}."
    )


# Robustness, and everything else that has accuracy over some quantity.


@dataclass(frozen=True)
class Point:
    """An accuracy at some x, and what it lies between; `low` and `high` are the value itself where that is unknown."""

    x: float
    value: float
    low: float
    high: float

    @staticmethod
    def of(x: float, spread: Spread) -> Point:
        """The mean with one standard deviation to each side.

        >>> Point.of(3, Spread(0.9, 0.01, 3))
        Point(x=3, value=0.9, low=0.89, high=0.91)
        """
        deviation = spread.deviation or 0.0
        return Point(x, spread.mean, spread.mean - deviation, spread.mean + deviation)


def plot_robustness(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    x_labels: Mapping[str, str] | str,
    title: str = "How much a network stands",
    *,
    whiskers: str = SEEDS,
    logarithmic: bool = False,
    style: Style = "auto",
) -> Figure:
    """Accuracy over a severity, a size or a number, a panel a kind and a line a network.

    `panels` has for each kind the points of each network; `x_labels` says what x is, for each panel or for all;
    `whiskers` says what the points lie between. Raises InputError where nothing came.
    """
    theme = theme_of(style)
    if not panels:
        raise InputError("robustness is drawn of at least one kind, {'noise': {'small_cnn': points}}; none came")
    across = min(3, len(panels))
    deep = math.ceil(len(panels) / across)
    figure = new_picture(theme, 1.2 + 4.3 * across, 0.8 + 3.3 * deep)
    add_heading(figure, theme, title)
    grid = figure.subplots(deep, across, squeeze=False).ravel()
    for axes, (kind, lines) in zip(grid, panels.items(), strict=False):
        dress(axes, theme, kind)
        _draw_lines(axes, theme, lines)
        _name_x(axes, theme, lines, x_labels if isinstance(x_labels, str) else x_labels[kind], whiskers, logarithmic)
        label_ends(axes, theme, [_as_curve(name, points) for name, points in lines.items()], percent)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    words = [_line_words(kind, name, points) for kind, lines in panels.items() for name, points in lines.items()]
    return described(figure, f"{title}.", *words)


def _as_curve(name: str, points: Sequence[Point]) -> Curve:
    return Curve(name, np.array([float(each.x) for each in points]), np.array([each.value for each in points]))


def _draw_lines(axes: Axes, theme: Theme, lines: Mapping[str, Sequence[Point]]) -> None:
    for index, points in enumerate(lines.values()):
        reach = [[each.value - each.low for each in points], [each.high - each.value for each in points]]
        axes.errorbar(
            [each.x for each in points], [each.value for each in points], yerr=np.maximum(reach, 0),
            color=theme.mark(index), linestyle=LINE_STYLES[index % 4], linewidth=2,
            marker=MARKERS[index % len(MARKERS)], markersize=5, elinewidth=1.2, capsize=3,
        )  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)


def _name_x(
    axes: Axes,
    theme: Theme,
    lines: Mapping[str, Sequence[Point]],
    label: str,
    whiskers: str,
    logarithmic: bool,
) -> None:
    """What x is, what the whiskers are where there are any, and a tick at each place that has points."""
    everything = [each for points in lines.values() for each in points]
    known = any(each.low < each.high for each in everything)
    axes.set_xlabel(f"{label}\nwhiskers: {whiskers}" if known else label, color=theme.ink, fontsize=9)
    if logarithmic:
        axes.set_xscale("log")
    ticks = sorted({float(each.x) for each in everything})
    if logarithmic or len(ticks) <= 8:
        axes.set_xticks(ticks, [_short(_readable("", x)) for x in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())


def _line_words(kind: str, name: str, points: Sequence[Point]) -> str:
    told = ", ".join(f"{percent(each.value)} at {each.x:g}" for each in points)
    return f"{kind}, {name}: {told}."


# Feature maps.


def plot_feature_maps(
    image: ArrayLike,
    maps: Mapping[str, ArrayLike],
    title: str = "Feature maps",
    *,
    most: int = 8,
    style: Style = "auto",
) -> Figure:
    """One image, and row by row what layers make of it: the channels that answer most, white where they do.

    `image` is (h, w, 1 or 3) of 0 to 255; `maps` has for each layer (height, width, channels), of which the `most` with
    the largest deviation are drawn, each scaled for itself. Raises InputError where a map has another form.
    """
    theme = theme_of(style)
    picture = np.clip(np.asarray(image, float) / 255, 0, 1)
    layers = {str(name): np.asarray(each, float) for name, each in maps.items()}
    if picture.ndim != 3 or any(each.ndim != 3 for each in layers.values()) or not layers:
        shapes = ", ".join(str(each.shape) for each in layers.values()) or "no maps"
        raise InputError(f"an image and maps are (height, width, channels); {picture.shape} and {shapes} came")
    figure = new_picture(theme, 1.4 + 1.05 * (most + 1), 0.6 + 1.15 * len(layers))
    add_heading(figure, theme, title)
    grid = figure.subplots(len(layers), most + 1, squeeze=False)
    chosen = {name: _strongest(each, most) for name, each in layers.items()}
    for row, (name, each) in enumerate(layers.items()):
        _draw_map(grid[row][0], theme, picture if row == 0 else None)
        grid[row][0].set_ylabel(printable(name, 14), color=theme.ink, fontsize=8.5, parse_math=False)
        for column in range(most):
            number = chosen[name][column] if column < len(chosen[name]) else None
            _draw_map(grid[row][column + 1], theme, None if number is None else _scaled(each[..., number]))
            if number is not None:
                grid[row][column + 1].set_title(f"channel {number}", color=theme.ink, fontsize=7, pad=2)
    words = [
        f"{name}: {each.shape[2]} channels of {each.shape[0]} × {each.shape[1]}, strongest {chosen[name][0]}."
        for name, each in layers.items()
    ]
    return described(figure, f"{title} of one image.", *words)


def _strongest(maps: NDArray[Any], most: int) -> list[int]:
    """Numbers of the channels that vary most."""
    return [int(number) for number in np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:most]]


def _scaled(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((values - values.min()) / (np.ptp(values) or 1.0))


def _draw_map(axes: Axes, theme: Theme, picture: NDArray[Any] | None) -> None:
    """A picture of 0 to 1 in a frame, or nothing."""
    axes.set(xticks=(), yticks=())
    axes.set_facecolor(theme.background)
    visible = picture is not None
    axes.spines[:].set_visible(visible)
    axes.spines[:].set_color(mix(theme.line, theme.background, 0.3))
    if picture is not None:
        shown = picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
