"""Curves as figures draw them: lines that differ in more than colour, named at their ends, with bands over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from toolkit.figures import Theme, printable, say

Floats = NDArray[np.float64]

LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
BANDS = "\nbands: ± 1 standard deviation over seeds"


def short_number(value: float) -> str:
    """Four digits that count.

    >>> short_number(0.123456), short_number(math.nan)
    ('0.1235', 'no value')
    """
    return "no value" if math.isnan(value) else f"{value:.4g}"


def percent(value: float) -> str:
    """A share with one digit after the point.

    >>> percent(0.9137)
    '91.4%'
    """
    return "no value" if math.isnan(value) else f"{100 * value:.1f}%"


@dataclass(frozen=True)
class Curve:
    """One line: a value an epoch, NaN where there is none, and how far it varies over seeds where that is known."""

    label: str
    epochs: Floats
    values: Floats
    deviations: Floats | None = None

    @property
    def last(self) -> tuple[float, float] | None:
        """Epoch and value of the last epoch that has one."""
        known = np.flatnonzero(~np.isnan(self.values))
        return (float(self.epochs[known[-1]]), float(self.values[known[-1]])) if known.size else None

    def best(self, pick: Callable[[Floats], Any]) -> tuple[float, float]:
        """Epoch and value that `pick` (np.nanargmin or np.nanargmax) chooses."""
        index = int(pick(self.values))
        return float(self.epochs[index]), float(self.values[index])


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places from 0 to 1 in the order of `wanted` and near to it, at least `gap` apart (closer where they do not fit).

    >>> spread([0.5, 0.5], 0.25)
    [0.5, 0.75]
    """
    gap = min(gap, 1 / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    floor = 0.0
    for i in order:
        places[i] = floor = max(wanted[i], floor)
        floor += gap
    ceiling = 1.0
    for i in reversed(order):
        places[i] = ceiling = min(places[i], ceiling)
        ceiling -= gap
    return places


def draw_curves(axes: Axes, theme: Theme, curves: Sequence[Curve], show: Callable[[float], str]) -> None:
    """Lines that differ in colour, dashes and markers, each with its name and last value at its end."""
    if not any(curve.last for curve in curves):
        say(axes, theme, "no values in any epoch" if any(curve.values.size for curve in curves) else "no epochs yet")
        return
    for index, curve in enumerate(curves):
        axes.plot(
            curve.epochs, curve.values, label=curve.label, color=theme.mark(index), linestyle=LINE_STYLES[index % 4],
            linewidth=2, marker=MARKERS[index % len(MARKERS)], markersize=5, markevery=max(1, len(curve.values) // 20),
        )  # fmt: skip
        draw_band(axes, theme.mark(index), curve)
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)
    banded = any(curve.deviations is not None for curve in curves)
    axes.set_xlabel(f"epoch{BANDS if banded else ''}", color=theme.ink, fontsize=9 if banded else None)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))
    longest = max(curve.epochs[-1] for curve in curves if curve.values.size)
    axes.set_xlim(0.5 if longest < 20 else 0, longest + max(0.25, 0.02 * longest))
    label_ends(axes, theme, curves, show)


def draw_band(axes: Axes, colour: str, curve: Curve) -> None:
    """The deviation over seeds around a curve."""
    if curve.deviations is not None:
        low, high = curve.values - curve.deviations, curve.values + curve.deviations
        axes.fill_between(curve.epochs, low, high, color=colour, alpha=0.22, linewidth=0)


def label_ends(axes: Axes, theme: Theme, curves: Sequence[Curve], show: Callable[[float], str]) -> None:
    """Write each curve's name beside its end, names kept apart, with a thin line from the end to its name."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = [(i, curve, curve.last) for i, curve in enumerate(curves) if curve.last]
    places = spread([(last[1] - low) / (high - low) for _, _, last in ends if last], 0.07)
    for (index, curve, last), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{printable(curve.label, 28)} {show(last[1])}", last, (1.03, place), "data", "axes fraction",
            color=theme.text(index), fontsize=9, va="center", annotation_clip=False, parse_math=False,
            arrowprops={"arrowstyle": "-", "color": theme.mark(index), "linewidth": 0.7, "linestyle": ":"},
        )  # fmt: skip
