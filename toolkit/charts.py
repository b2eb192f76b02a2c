"""Figures of the book's experiments: pictures side by side, lines with what lies between seeds, dots, and scatters.

As in `plots`, every function returns a figure of its own with a description in words; no difference is told by colour
alone. A measured value is (median, least, most), as the rows of a benchmark have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from toolkit.errors import InputError
from toolkit.figures import Style, Theme, add_heading, described, dress, new_picture, printable, say, theme_of

Spread = tuple[float, float, float]  # median, least, most
T = TypeVar("T")

LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "D", "^", "v", "P")
# Light to dark for everybody, also without colours.
SHADES = "cividis"


def percent(value: float) -> str:
    """A share as people read it.

    >>> percent(0.98765)
    '98.8 %'
    """
    return f"{100 * value:.1f} %"


def plain(value: float) -> str:
    """A number with three digits that count.

    >>> plain(1234.5), plain(0.012345)
    ('1,234', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread_of(row: Mapping[str, Any]) -> Spread:
    """Median, least and most of a benchmark's row, as it stands in a report.

    >>> spread_of({"what": "an epoch", "unit": "s", "median": 2.0, "least": 1.0, "most": 3.0, "n": 3})
    (2.0, 1.0, 3.0)
    """
    return float(row["median"]), float(row["least"]), float(row["most"])


def spreads(rows: Mapping[T, Sequence[Mapping[str, Any]]]) -> dict[T, Spread]:
    """The spread of the first row that was found under each name; names without a row are left out.

    >>> row = {"what": "an epoch", "unit": "s", "median": 2.0, "least": 1.0, "most": 3.0, "n": 3}
    >>> spreads({"ours": [row], "theirs": []})
    {'ours': (2.0, 1.0, 3.0)}
    """
    return {name: spread_of(found[0]) for name, found in rows.items() if found}


def plot_pictures(
    pictures: Sequence[tuple[str, ArrayLike]],
    title: str = "",
    *,
    columns: int = 4,
    one_scale: bool = False,
    words: str = "",
    style: Style = "auto",
) -> Figure:
    """Pictures side by side, with what each is under it: uint8 (h, w, 3), or (h, w) in shades from dark to light.

    Shades go from the least to the largest number of each picture, or of all of them with `one_scale`. `words` say
    what the pictures show to people who do not see them. Raises InputError for an array of another shape.
    """
    theme = theme_of(style)
    arrays = [(caption, _picture(values)) for caption, values in pictures]
    across = max(1, min(columns, len(arrays)))
    deep = max(1, math.ceil(len(arrays) / across))
    figure = new_picture(theme, max(3.0, min(2.4, 9.6 / across) * across), 0.5 + (min(2.4, 9.6 / across) + 0.25) * deep)
    add_heading(figure, theme, title)
    panels = figure.subplots(deep, across, squeeze=False).ravel().tolist()
    shades = [values for _, values in arrays if values.ndim == 2]
    limits = (min(map(np.min, shades)), max(map(np.max, shades))) if one_scale and shades else (None, None)
    for axes in panels[len(arrays) :]:
        axes.set_axis_off()
    for axes, (caption, values) in zip(panels, arrays, strict=False):
        axes.imshow(values, cmap=SHADES, vmin=limits[0], vmax=limits[1])
        axes.set(xticks=(), yticks=())
        axes.spines[:].set_color(theme.line)
        axes.set_xlabel(printable(caption, 34), color=theme.ink, fontsize=9, parse_math=False)
    if not arrays:
        say(panels[0], theme, "no pictures")
    captions = "; ".join(caption for caption, _ in arrays if caption)
    return described(figure, f"{title}.", words, f"Pictures: {captions}." if captions else "")


def _picture(values: ArrayLike) -> NDArray[Any]:
    """An array that can be drawn: one channel as (h, w)."""
    array = np.asarray(values)
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim != 2 and array.shape[2:] != (3,):
        raise InputError(f"a picture is (h, w), (h, w, 1) or (h, w, 3); an array of shape {array.shape} came")
    return array


def plot_lines(
    series: Mapping[str, Mapping[int, Spread] | Mapping[float, Spread]],
    title: str = "",
    *,
    x_label: str = "",
    y_label: str = "",
    form: Callable[[float], str] = percent,
    style: Style = "auto",
) -> Figure:
    """A line for each series through its medians, and around it a band from the least to the most.

    Each series is {x: (median, least, most)}; empty ones are left out. Lines differ in colour, dashes and marks.
    """
    theme = theme_of(style)
    figure = new_picture(theme, 7.2, 4.2 + 0.12 * len(series))
    axes = figure.subplots()
    dress(axes, theme, title)
    drawn = {name: values for name, values in series.items() if values}
    for number, (name, values) in enumerate(drawn.items()):
        _draw_line(axes, theme, number, name, values)
    axes.set_xlabel(x_label, color=theme.ink)
    axes.set_ylabel(y_label, color=theme.ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value).replace(".0 %", " %")))
    axes.grid(axis="y", color=theme.faint)
    if drawn:
        columns = 2 if len(drawn) > 2 else 3
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=columns,
            frameon=False,
            labelcolor=theme.ink,
            fontsize=9,
        )
    told = (
        f"{name}: " + ", ".join(f"{form(value[0])} at {x:g}" for x, value in sorted(values.items())) + "."
        for name, values in drawn.items()
    )
    return described(figure, f"{title}: {y_label} by {x_label}.", *told)


def _draw_line(
    axes: Axes, theme: Theme, number: int, name: str, values: Mapping[int, Spread] | Mapping[float, Spread]
) -> None:
    places = sorted(values)
    middle, low, high = np.array([spread for _, spread in sorted(values.items())]).T
    colour = theme.mark(number)
    dashes, mark = LINE_STYLES[number % len(LINE_STYLES)], MARKERS[number % len(MARKERS)]
    axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(places, middle, color=colour, linestyle=dashes, marker=mark, markersize=5, label=name)


def plot_dots(
    values: Mapping[str, Spread],
    title: str = "",
    *,
    x_label: str = "",
    form: Callable[[float], str] = percent,
    style: Style = "auto",
) -> Figure:
    """A dot for each name at the median, and a line from the least to the most; the median is written beside it."""
    theme = theme_of(style)
    figure = new_picture(theme, 7.2, 1.1 + 0.42 * max(1, len(values)))
    axes = figure.subplots()
    dress(axes, theme, title)
    for place, (middle, low, high) in enumerate(values.values()):
        axes.plot((low, high), (place, place), color=theme.mark(0), linewidth=2)
        axes.plot(middle, place, marker="o", markersize=7, color=theme.mark(0))
        axes.annotate(
            form(middle), (high, place), (8, 0), textcoords="offset points", va="center", color=theme.ink, fontsize=9
        )
    axes.set_yticks(range(len(values)), [printable(name, 40) for name in values])
    axes.set_ylim(max(len(values), 1) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlabel(x_label, color=theme.ink)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value).replace(".0 %", " %")))
    axes.grid(axis="x", color=theme.faint)
    told = (f"{name}: {form(middle)} ({form(low)} to {form(high)})." for name, (middle, low, high) in values.items())
    return described(figure, f"{title}: {x_label}, median (least to most).", *told)


def plot_scatter(
    points: Mapping[str, tuple[float, float]],
    title: str = "",
    *,
    x_label: str = "",
    y_label: str = "",
    style: Style = "auto",
) -> Figure:
    """Named points on two logarithmic axes; raises InputError for coordinates that are not above 0."""
    theme = theme_of(style)
    if not all(x > 0 and y > 0 for x, y in points.values()):
        raise InputError("logarithmic axes have no 0 and no negative numbers; leave such points out")
    figure = new_picture(theme, 7.2, 4.8)
    axes = figure.subplots()
    dress(axes, theme, title)
    axes.set(xscale="log", yscale="log")
    for number, (name, (x, y)) in enumerate(points.items()):
        axes.plot(x, y, marker=MARKERS[number % len(MARKERS)], markersize=8, color=theme.mark(number), linestyle="")
        # Every other name hangs below its point, so that those of near points keep apart.
        offset = (8, -12 if number % 2 else 4)
        axes.annotate(printable(name, 30), (x, y), offset, textcoords="offset points", color=theme.ink, fontsize=9)
    axes.margins(x=0.18, y=0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label, color=theme.ink)
    axes.set_ylabel(y_label, color=theme.ink)
    axes.grid(color=theme.faint, which="major")
    told = (f"{name}: {plain(x)} and {plain(y)}." for name, (x, y) in points.items())
    return described(figure, f"{title}: {x_label}, and {y_label}.", *told)
