"""What the page shows of stored results: points of accuracy over cost with error bars, and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from toolkit import show
from toolkit.datasets import DATASETS
from toolkit.ui.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis
from toolkit.ui.markup import Html, join, message, table, tag
from toolkit.ui.views import title
from toolkit.zoo_results import Group, Spread, ablation, ablation_base, is_ablation

# cost -> its name below the axis
COSTS = {
    "params": "parameters",
    "training_flops": "training FLOPs",
    "seconds": "seconds of training",
}
NOTHING_YET = "There are no stored results yet. They are made, in hours, by: python -m toolkit bench zoo"
# The course's question: what a lean network does beside AlexNet.
ALEXNET = "alexnet"
RADIUS = 3.5
APART = "margin-top:.8rem"
_FEWEST_ERRORS = 1e-4
# Where a number may stand beside its point, the best place first: right, down and which end of it is there.
_PLACES = (
    *((7, -5, "start"), (-7, -5, "end"), (7, 13, "start"), (-7, 13, "end"), (0, -8, "middle"), (0, 18, "middle")),
    *((20, 4, "start"), (-20, 4, "end"), (16, -16, "start"), (-16, -16, "end"), (16, 24, "start"), (-16, 24, "end")),
)
_SHARES = (0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99, 0.993, 0.995, 0.997, 0.999)


def comparison(groups: Sequence[Group]) -> Html:
    """Everything about one dataset: three pictures, the table, what ingredients bring, and where it comes from."""
    ranked = sorted((group for group in groups if not is_ablation(group)), key=lambda each: -each.accuracy.mean)
    if not ranked:
        return message(NOTHING_YET, "note")
    charts = tag("div", *(points_chart(ranked, cost) for cost in COSTS), class_="pair")
    return join([_key(), charts, results_table(ranked), _sentence(ranked[0]), _ingredients(groups), _source(ranked)])


def _key() -> Html:
    words = "Points are means over seeds, lines ± 1 standard deviation; the numbers are those of the table."
    keys = (tag("li", "other networks", class_="key a"), tag("li", "AlexNet style (squares)", class_="key b"))
    return tag("ul", *keys, tag("li", words), class_="legend")


# Points.


@dataclass(frozen=True)
class _Scales:
    """Where a cost and an accuracy lie in the picture: both axes are logarithmic, that of accuracy in the errors."""

    x: Axis
    y: Axis

    def across(self, cost: float) -> float:
        return self.x(log10(max(cost, 1e-9)))

    def up(self, share: float) -> float:
        return self.y(_nines(share))


def _nines(share: float) -> float:
    return -log10(max(1 - share, _FEWEST_ERRORS))


def _scales(groups: Sequence[Group], cost: str) -> _Scales:
    costs = [log10(max(group.cost(cost).mean, 1e-9)) for group in groups]
    heights = [_nines(share) for group in groups for share in _reach(group.accuracy)]
    wide, high = 0.08 * (max(costs) - min(costs)) or 0.5, 0.08 * (max(heights) - min(heights)) or 0.3
    return _Scales(
        Axis(min(costs) - wide, max(costs) + wide, LEFT, WIDTH - RIGHT),
        Axis(max(min(heights) - high, 0.0), max(heights) + high, HEIGHT - BOTTOM, TOP),
    )


def _reach(spread: Spread) -> tuple[float, float]:
    """One standard deviation to each side."""
    deviation = spread.deviation or 0.0
    return spread.mean - deviation, spread.mean + deviation


def points_chart(groups: Sequence[Group], cost: str) -> Html:
    """A numbered point a group: its accuracy over a cost, with error bars."""
    name, scales = COSTS[cost], _scales(groups, cost)
    grid = tag(
        "g", *_lines_up(scales), *_lines_across(scales), _axis_name(name, scales.x), class_="grid", aria_hidden="true"
    )
    points = [_point(number, group, cost, scales) for number, group in enumerate(groups, 1)]
    spoken = "; ".join(
        f"{_called(group)} {group.accuracy.percent()} at {_told(group.cost(cost).mean)}" for group in groups
    )
    heading = f"Test accuracy over {name}"
    picture = tag(
        "svg", grid, *points, *_numbers(groups, cost, scales), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        aria_label=f"{heading}: {spoken}",
    )  # fmt: skip
    return tag("figure", tag("figcaption", heading), picture, class_="chart")


def _point(number: int, group: Group, cost: str, scales: _Scales) -> Html:
    """A circle, or a square for AlexNet, and its error bars."""
    spent, accuracy = group.cost(cost), group.accuracy
    x, y = scales.across(spent.mean), scales.up(accuracy.mean)
    class_ = "b" if ALEXNET in group.first.architecture else "a"
    hint = tag("title", f"{number}. {_called(group)}: {accuracy.percent()}, {_told(spent.mean)} {COSTS[cost]}")
    bars = _bars(x, y, tuple(map(scales.up, _reach(accuracy))), tuple(map(scales.across, _reach(spent))), class_)
    if class_ == "a":
        return join([*bars, tag("circle", hint, cx=x, cy=y, r=RADIUS, class_=class_)])
    side, style = 2 * RADIUS, f"fill:var(--{class_})"
    return join([*bars, tag("rect", hint, x=x - RADIUS, y=y - RADIUS, width=side, height=side, style=style)])


def _bars(x: float, y: float, up: tuple[float, ...], across: tuple[float, ...], class_: str) -> list[Html]:
    """Lines from the lower to the upper end, with a short line across each end; none where there is no deviation."""
    style = f"stroke:var(--{class_});stroke-width:1.4"
    (low, high), (left, right) = up, across
    lines = [(x, x, low, high), *((x - 4, x + 4, end, end) for end in up)] if low != high else []
    lines += [(left, right, y, y), *((end, end, y - 4, y + 4) for end in across)] if left != right else []
    return [tag("line", x1=a, x2=b, y1=c, y2=d, style=style) for a, b, c, d in lines]


def _numbers(groups: Sequence[Group], cost: str, scales: _Scales) -> list[Html]:
    """The number of each point beside it, where neither points nor other numbers are."""
    points = [(scales.across(group.cost(cost).mean), scales.up(group.accuracy.mean)) for group in groups]
    taken = list(points)
    written = []
    for number, (x, y) in enumerate(points, 1):
        free = [place for place in _PLACES if not _covers(place, x, y, taken)]
        right, down, anchor = (free or _PLACES)[0]
        taken.append(_middle(right, down, anchor, x, y))
        if abs(right) > 10:
            thin = "stroke:var(--quiet);stroke-width:.7"
            written.append(tag("line", x1=x, x2=x + right, y1=y, y2=y + down - 4, style=thin))
        written.append(tag("text", str(number), x=x + right, y=y + down, text_anchor=anchor, class_="name"))
    return written


def _covers(place: tuple[float, float, str], x: float, y: float, taken: Sequence[tuple[float, float]]) -> bool:
    middle, height = _middle(*place, x, y)
    return any(abs(middle - left) < 13 and abs(height - top) < 10 for left, top in taken if (left, top) != (x, y))


def _middle(right: float, down: float, anchor: str, x: float, y: float) -> tuple[float, float]:
    """The middle of a number of two digits that stands there."""
    return x + right + {"start": 7, "end": -7, "middle": 0}[anchor], y + down - 4


def _lines_up(scales: _Scales) -> list[Html]:
    """The accuracies beside the picture, as far apart as they can be read."""
    lines: list[Html] = []
    lowest = float("inf")
    for share in _SHARES:
        height = scales.up(share)
        if scales.y.low <= _nines(share) <= scales.y.high and lowest - height >= 18:
            lowest = height
            line = tag("line", x1=scales.x.start, x2=scales.x.end, y1=height, y2=height)
            lines += [line, tag("text", f"{100 * share:g}%", x=scales.x.start - 6, y=height + 4, text_anchor="end")]
    return lines


def _lines_across(scales: _Scales) -> list[Html]:
    """Round costs below the picture."""
    steps = (1, 2, 5) if scales.x.high - scales.x.low < 2.4 else (1,)
    powers = range(floor(scales.x.low), ceil(scales.x.high) + 1)
    costs = [step * 10.0**power for power in powers for step in steps]
    inside = [cost for cost in costs if scales.x.low <= log10(cost) <= scales.x.high]
    return [
        tag("text", _told(cost), x=scales.across(cost), y=scales.y.start + 16, text_anchor="middle") for cost in inside
    ]


def _axis_name(name: str, x: Axis) -> Html:
    return tag("text", f"{name} (logarithmic)", x=(x.start + x.end) / 2, y=HEIGHT - 3, text_anchor="middle")


def _told(value: float) -> str:
    """A cost in three digits at most.

    >>> _told(85_000), _told(40), _told(2.9e14)
    ('85 k', '40', '290 T')
    """
    if value < 1000:
        return f"{value:.3g}"
    head, _, unit = show.readable_count(round(value)).partition(" ")
    return f"{float(head):g} {unit}"


def _called(group: Group) -> str:
    return f"{title(group.first.architecture)}, {group.first.recipe_name.replace('_', ' ')}"


# Tables and sentences.

# heading -> what stands below it
_COLUMNS: dict[str, Callable[[Group], str]] = {
    "seeds": lambda group: str(group.accuracy.n),
    "test accuracy": lambda group: group.accuracy.percent(),
    "parameters": lambda group: f"{group.params:,}",
    "MACs": lambda group: show.readable_count(group.first.macs),
    "training FLOPs": lambda group: show.readable_count(group.first.training_flops),
    "training": lambda group: f"{group.cost('seconds').mean:,.0f} s",
    "peak memory": lambda group: show.readable_bytes(round(group.cost("peak_bytes").mean)),
    "ECE": lambda group: f"{100 * group.calibration.ece:.1f} %",
}


def results_table(groups: Sequence[Group]) -> Html:
    """A line a group, numbered as in the pictures."""
    body = [
        [f"{number}. {_called(group)}", *(cell(group) for cell in _COLUMNS.values())]
        for number, group in enumerate(groups, 1)
    ]
    caption = "Stored results, the most accurate first"
    return tag("figure", tag("figcaption", caption), table(["network, recipe", *_COLUMNS], body, caption=caption))


def _sentence(best: Group) -> Html:
    """What the most accurate network confuses."""
    if not best.pairs or not best.pairs[0].mistakes:
        return Html("")
    told = [f"{pair.one} and {pair.other} ({pair.share:.0%} of all mistakes)" for pair in best.pairs[:3]]
    return tag(
        "p",
        f"{_called(best)} takes for each other, most often first: {', '.join(told)}.",
        class_="forecast",
        style=APART,
    )


def _ingredients(groups: Sequence[Group]) -> Html:
    """What each change of a recipe brings, where that was tried."""
    base = ablation_base(groups)
    if base is None:
        return Html("")
    body = [
        [each.name, each.group.accuracy.percent(), str(each), _verdict(each.is_clear)]
        for each in ablation(groups, base)
    ]
    words = f"beyond {_called(base)}, {base.accuracy.percent()}; percentage points ± 1 standard error"
    head = ("change", "test accuracy", "brings", "more than two standard errors")
    caption = tag("figcaption", "What each ingredient brings", tag("small", words))
    return tag("figure", caption, table(head, body, caption="What each ingredient brings"))


def _verdict(is_clear: bool | None) -> str:
    return "one seed" if is_clear is None else "yes" if is_clear else "no"


def _source(groups: Sequence[Group]) -> Html:
    """Where the results come from."""
    records = [record for group in groups for record in group.records]
    dates = sorted(record.date[:10] for record in records)
    devices = " and ".join(dict.fromkeys(f"{record.device} ({record.backend})" for record in records))
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    data = DATASETS[records[0].dataset].title if records[0].dataset in DATASETS else records[0].dataset
    words = f"{len(records)} trainings on {data}, {days}, on {devices}. Each stored result names the command for it."
    return tag("p", words, class_="forecast", style=APART)
