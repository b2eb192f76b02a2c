"""Pictures as SVG from plain data: light enough to send twice a second, and coloured by the theme."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from toolkit.ui.markup import Html, join, tag

Point = tuple[float, float]

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 26, 12, 34
# Beside bars stand bytes with their unit, which are longer than the numbers beside curves.
BAR_LEFT = 58


@dataclass(frozen=True)
class Curve:
    """One line of a picture. `class_` names its colour; points are (x, y)."""

    name: str
    class_: str
    points: tuple[Point, ...]
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` onto pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)


@dataclass(frozen=True)
class Bar:
    """One bar of a picture: what stands below it, how tall it is, and the class that names its colour."""

    name: str
    value: float
    class_: str


@dataclass(frozen=True)
class Mark:
    """A place on the x axis with its name, such as where another phase begins."""

    name: str
    at: float


@dataclass(frozen=True)
class Dots:
    """A row of a picture: its name and values on one line, each with a class that names its colour."""

    name: str
    values: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Level:
    """A line across a picture at one height, with its name."""

    name: str
    value: float
    class_: str


def nice_step(span: float, steps: int = 5) -> float:
    """The step of 1, 2 or 5 times a power of ten that divides `span` into about `steps`.

    >>> nice_step(1.0), nice_step(2.3), nice_step(30, 6)
    (0.2, 0.5, 5.0)
    """
    rough = max(span, 1e-9) / steps
    power: float = 10.0 ** floor(log10(rough))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(step - rough))


def ticks(low: float, high: float, steps: int = 5) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    step = nice_step(high - low, steps)
    return [round(step * i, 10) for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    x_high: float,
    y_high: float,
    x_label: str,
    show_y: Callable[[float], str] = "{:g}".format,
    marks: Sequence[Mark] = (),
) -> Html:
    """Curves over one pair of axes that begin at 0, each with its name at its end; `marks` stand along x."""
    x = Axis(0, x_high, LEFT, WIDTH - RIGHT)
    y = Axis(0, y_high, HEIGHT - BOTTOM, TOP)
    lines = [_curve(curve, x, y, show_y) for curve in curves if curve.points]
    names = _end_labels([curve for curve in curves if curve.dots], x, y)
    picture = tag(
        "svg",
        _grid(x, y, show_y, x_label),
        *(_mark(mark, x, y) for mark in marks),
        *lines,
        *names,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_spoken(title, curves, show_y),
    )
    return tag("figure", tag("figcaption", title), picture, class_="chart")


def _spoken(title: str, curves: Sequence[Curve], show_y: Callable[[float], str]) -> str:
    last = [f"{curve.name} {show_y(curve.points[-1][1])}" for curve in curves if curve.points]
    return f"{title}: {', '.join(last) or 'no values yet'}"


def _grid(x: Axis, y: Axis, show_y: Callable[[float], str], x_label: str) -> Html:
    across = [_y_tick(value, x, y, show_y(value)) for value in ticks(y.low, y.high)]
    along = [_x_tick(value, x, y) for value in ticks(x.low, x.high) if value == int(value)]
    return tag("g", *across, *along, _x_name(x_label, x), class_="grid", aria_hidden="true")


def _y_tick(value: float, x: Axis, y: Axis, text: str) -> Html:
    height = y(value)
    line = tag("line", x1=x.start, x2=x.end, y1=height, y2=height)
    return join([line, tag("text", text, x=x.start - 6, y=height + 4, text_anchor="end")])


def _x_tick(value: float, x: Axis, y: Axis) -> Html:
    return tag("text", f"{value:g}", x=x(value), y=y.start + 16, text_anchor="middle")


def _mark(mark: Mark, x: Axis, y: Axis) -> Html:
    line = tag("line", x1=x(mark.at), x2=x(mark.at), y1=y.start, y2=y.end, class_="level share")
    return join([line, tag("text", mark.name, x=x(mark.at) + 4, y=y.start - 5, class_="level-name")])


def _curve(curve: Curve, x: Axis, y: Axis, show_y: Callable[[float], str]) -> Html:
    path = " ".join(f"{x(a)},{y(min(b, y.high))}" for a, b in curve.points)
    line = tag("polyline", points=path, class_=f"curve {curve.class_} {'bold' if curve.dots else ''}")
    dots = [_dot(curve, point, x, y, show_y) for point in curve.points] if curve.dots else []
    return join([line, *dots])


def _dot(curve: Curve, point: Point, x: Axis, y: Axis, show_y: Callable[[float], str]) -> Html:
    hint = tag("title", f"{curve.name}, epoch {point[0]:g}: {show_y(point[1])}")
    return tag("circle", hint, cx=x(point[0]), cy=y(min(point[1], y.high)), r=3.5, class_=curve.class_)


def _end_labels(curves: Sequence[Curve], x: Axis, y: Axis) -> list[Html]:
    """The first letter of each curve at its end, moved apart where they would overlap."""
    ends = [(y(min(curve.points[-1][1], y.high)), curve) for curve in curves if curve.points]
    labels: list[Html] = []
    lowest = float("-inf")
    for height, curve in sorted(ends, key=lambda end: end[0]):
        lowest = max(height, lowest + 14)
        place = x(curve.points[-1][0]) + 8
        labels.append(tag("text", curve.name[0], x=place, y=lowest + 4, class_=f"name {curve.class_}"))
    return labels


# Bars.


def bar_chart(
    title: str,
    bars: Sequence[Bar],
    levels: Sequence[Level],
    *,
    y_high: float,
    x_label: str,
    show_y: Callable[[float], str] = "{:g}".format,
) -> Html:
    """Bars side by side, with levels across them. A bar taller than `y_high` is cut off and gets an arrow."""
    y = Axis(0, y_high, HEIGHT - BOTTOM, TOP)
    x = Axis(0, len(bars), BAR_LEFT, WIDTH - TOP)
    drawn = [_bar(bar, x(index), x(index + 1), y, show_y) for index, bar in enumerate(bars)]
    across = [_level(level, x, y) for level in levels if level.value <= y_high]
    values = [(each.name, each.value) for each in bars] + [(each.name, each.value) for each in levels]
    spoken = f"{title}: {', '.join(f'{name} {show_y(value)}' for name, value in values)}"
    grid = [*(_y_tick(value, x, y, show_y(value)) for value in ticks(0, y_high)), _x_name(x_label, x)]
    inside = [tag("g", *grid, class_="grid", aria_hidden="true"), *drawn, *across]
    picture = tag("svg", *inside, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=spoken)
    return tag("figure", tag("figcaption", title), picture, class_="chart")


def _x_name(text: str, x: Axis) -> Html:
    return tag("text", text, x=(x.start + x.end) / 2, y=HEIGHT - 3, text_anchor="middle")


def _bar(bar: Bar, left: float, right: float, y: Axis, show_y: Callable[[float], str]) -> Html:
    gap, top = 0.15 * (right - left), y(min(bar.value, y.high))
    width, middle = round(right - left - 2 * gap, 1), round((left + right) / 2, 1)
    hint = tag("title", f"{bar.name}: {show_y(bar.value)}")
    box = tag(
        "rect", hint, x=left + gap, y=top, width=width, height=round(y.start - top, 1), class_=f"column {bar.class_}"
    )
    arrow = [tag("text", "↑", x=middle, y=top - 2, text_anchor="middle")] if bar.value > y.high else []
    return join([box, *arrow, tag("text", bar.name, x=middle, y=y.start + 16, text_anchor="middle")])


def _level(level: Level, x: Axis, y: Axis) -> Html:
    height = y(level.value)
    line = tag("line", x1=x.start, x2=x.end, y1=height, y2=height, class_=f"level {level.class_}")
    return join([line, tag("text", level.name, x=x.start + 4, y=height - 4, class_="level-name")])


# Rows of dots.

ROW = 34
DOTS_LEFT = 92


def dot_chart(title: str, rows: Sequence[Dots], keys: Sequence[str], *, x_label: str) -> Html:
    """Values from 0 to 1 on one line a row, joined, so that their distances can be compared; `keys` names them."""
    height = TOP + ROW * len(rows) + BOTTOM
    x = Axis(0, 1, DOTS_LEFT, WIDTH - RIGHT)
    across = [_x_line(value, x, height) for value in ticks(0, 1)]
    name = tag("text", x_label, x=(x.start + x.end) / 2, y=height - 3, text_anchor="middle")
    drawn = [_dots(row, x, TOP + ROW * (place + 0.5), keys) for place, row in enumerate(rows)]
    spoken = "; ".join(
        f"{row.name}: {', '.join(f'{key} {value:.3f}' for key, (value, _) in zip(keys, row.values, strict=True))}"
        for row in rows
    )
    grid = tag("g", *across, name, class_="grid", aria_hidden="true")
    picture = tag("svg", grid, *drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=f"{title}: {spoken}")
    return tag("figure", tag("figcaption", title), picture, class_="chart")


def _x_line(value: float, x: Axis, height: int) -> Html:
    line = tag("line", x1=x(value), x2=x(value), y1=TOP, y2=height - BOTTOM)
    return join([line, tag("text", f"{value:g}", x=x(value), y=height - BOTTOM + 16, text_anchor="middle")])


def _dots(row: Dots, x: Axis, y: float, keys: Sequence[str]) -> Html:
    places = [x(value) for value, _ in row.values]
    line = tag("line", x1=min(places), x2=max(places), y1=y, y2=y, class_="joint")
    name = tag("text", row.name, x=x.start - 8, y=y + 4, text_anchor="end")
    dots = (
        tag("circle", tag("title", f"{row.name}, {key}: {value:.3f}"), cx=x(value), cy=y, r=5.5, class_=class_)
        for key, (value, class_) in zip(keys, row.values, strict=True)
    )
    return join([line, name, *dots])
