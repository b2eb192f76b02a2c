"""Numbers and networks as text: the only place where bytes become "MB" and rows become tables and diagrams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from toolkit.arithmetic import InputError, require_choice
from toolkit.costs import Costs, Network, Row, rows_of
from toolkit.layers import Shape

_BYTE_UNITS = {"MB": 1000, "MiB": 1024}
_HEADINGS = ("layer", "type", "output", "parameters", "MACs", "activations", "sees")


# Numbers.


def readable_bytes(count: int, unit: str = "MB") -> str:
    """Bytes for people, three digits: powers of 1,000 (kB, MB, GB), or of 1,024 when `unit` is "MiB".

    >>> readable_bytes(12_613_600), readable_bytes(2**21, "MiB"), readable_bytes(320)
    ('12.6 MB', '2.00 MiB', '320 B')
    """
    base = _BYTE_UNITS[require_choice("unit", unit, tuple(_BYTE_UNITS))]
    middle = "" if base == 1000 else "i"
    prefixes = ("k" if base == 1000 else "K", "M", "G", "T", "P")
    return _scaled(count, base, "B", [f"{prefix}{middle}B" for prefix in prefixes])


def readable_count(count: int) -> str:
    """A large count for people, three digits: thousands k, millions M, billions G.

    >>> readable_count(138_357_544), readable_count(15_470_264_320), readable_count(80)
    ('138 M', '15.5 G', '80')
    """
    return _scaled(count, 1000, "", ["k", "M", "G", "T", "P"])


def _scaled(count: int, base: int, smallest: str, units: Sequence[str]) -> str:
    """`count` in the largest unit that leaves at least 1."""
    if abs(count) < base:
        return f"{count} {smallest}".rstrip()
    value = float(count)
    for unit in units:
        value /= base
        # 999.5 would be written as 1000 of this unit; the next one says it in three digits.
        if abs(value) < base - 0.5 or unit == units[-1]:
            break
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def readable_shape(shape: Iterable[float]) -> str:
    """A shape for people.

    >>> readable_shape((224, 224, 3))
    '224 × 224 × 3'
    """
    return " × ".join(f"{size:g}" for size in shape)


def parse_shape(text: str) -> Shape:
    """A shape as people write it: 720x1280x3, (720, 1280, 3), 720 × 1280 × 3; raises InputError for anything else.

    >>> parse_shape("720x1280x3"), parse_shape("(28, 28, 1)")
    ((720, 1280, 3), (28, 28, 1))
    """
    sizes = [part.strip() for part in re.split("[x×,]", text.lower().strip("()[] "))]
    if len(sizes) > 4 or not all(re.fullmatch("[0-9]{1,9}", size) for size in sizes):
        raise InputError(f"a size is written like 224x224x3 (height x width x channels); {text[:60]!r} came")
    return tuple(int(size) for size in sizes)


# Tables.


def table_cells(costs: Costs) -> list[list[str]]:
    """The text of the cost table: headings, one line a row, and the totals, whose numbers are sums over the rows."""
    activations = sum(row.activation_bytes(costs.batch, costs.dtype) for row in costs.rows)
    total = ["total", "", "", f"{costs.params:,}", f"{costs.macs:,}", readable_bytes(activations), ""]
    return [list(_HEADINGS), *(_row_cells(row, costs) for row in costs.rows), total]


def _row_cells(row: Row, costs: Costs) -> list[str]:
    """One line of the cost table."""
    stored = readable_bytes(row.activation_bytes(costs.batch, costs.dtype))
    shapes = readable_shape(row.output_shape), readable_shape(row.receptive_field)
    return [row.name, row.type, shapes[0], f"{row.params:,}", f"{row.macs:,}", stored, shapes[1]]


def summary(costs: Costs) -> list[tuple[str, str]]:
    """The totals with the convention of each, as (what, how much)."""
    how = f"batch {costs.batch}, {costs.dtype}"
    macs = readable_count(costs.macs)
    if costs.uncounted:
        macs += f" and those of {', '.join(costs.uncounted)}, which are not known"
    parts = ", ".join(f"{name} {readable_bytes(size)}" for name, size in costs.training_parts.items())
    return [
        ("parameters", f"{costs.params:,} ({costs.trainable_params:,} trainable)"),
        ("MACs an image", f"{macs} (1 MAC = 2 FLOPs)"),
        ("weights", f"{readable_bytes(costs.weights_bytes)} ({costs.dtype})"),
        ("inference", f"{readable_bytes(costs.inference_bytes)} ({how}: weights and activations alive at once)"),
        ("training", f"{readable_bytes(costs.training_bytes)} ({how}, {costs.optimizer}: {parts})"),
    ]


def table(costs: Costs) -> str:
    """The cost table and its totals as text of fixed width.

    >>> from toolkit.architectures import lenet5
    >>> from toolkit.costs import costs
    >>> print(table(costs(lenet5())).splitlines()[-1].split()[:3])
    ['training', '1.02', 'MB']
    """
    cells = table_cells(costs)
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    rule = "-" * max(map(len, lines))
    title = f"{costs.name}, input {readable_shape(costs.input_shape)}"
    totals = [f"{what:<15}{amount}" for what, amount in summary(costs)]
    return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], "", *totals])


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Texts to the left, numbers to the right."""
    return [
        cell.ljust(width) if column < 3 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def markdown(costs: Costs) -> str:
    """The cost table and its totals in Markdown."""
    cells = table_cells(costs)
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    alignment = "|" + "|".join([" --- "] * 3 + [" ---: "] * (len(_HEADINGS) - 3)) + "|"
    totals = [f"- **{what}**: {amount}" for what, amount in summary(costs)]
    title = f"### {costs.name}, input {readable_shape(costs.input_shape)}"
    return "\n".join([title, "", *totals, "", lines[0], alignment, *lines[1:], ""])


def to_json(costs: Costs) -> str:
    """All that is known about the costs as one JSON object; bytes are integers."""
    return json.dumps(costs.to_dict(), indent=2, ensure_ascii=False)


# The diagram.


def diagram(net: Network) -> str:
    """The network from top to bottom; a line beside the layers is an output that a later layer still reads.

    >>> from toolkit.layers import Architecture, Branches, Conv2D
    >>> block = Branches("add", ((Conv2D(4, 3, padding="same"),), ()))
    >>> print(diagram(Architecture("block", (8, 8, 4), (block,))))
    ●    input_layer  InputLayer  8 × 8 × 4
    ├─╮
    │ ●  conv2d       Conv2D      8 × 8 × 4  148 parameters
    ├─╯
    ●    add          Add         8 × 8 × 4
    """
    rows = rows_of(net)
    drawing = list(_lanes(rows))
    width = max(len(lanes) for lanes, _ in drawing)
    names, types = max(len(row.name) for row in rows), max(len(row.type) for row in rows)
    shapes = max(len(readable_shape(row.output_shape)) for row in rows)
    lines = []
    for lanes, row in drawing:
        text = _diagram_text(row, names, types, shapes) if row else ""
        lines.append(f"{lanes:<{width}}  {text}".rstrip())
    return "\n".join(lines)


def _diagram_text(row: Row, names: int, types: int, shapes: int) -> str:
    """What stands beside the dot of a row."""
    params = f"{row.params:,} parameters" if row.params else ""
    return f"{row.name:<{names}}  {row.type:<{types}}  {_padded_shape(row.output_shape, shapes)}  {params}"


def _padded_shape(shape: Shape, width: int) -> str:
    """The shape, filled up to `width`."""
    return f"{readable_shape(shape):<{width}}"


def _lanes(rows: Sequence[Row]) -> Iterable[tuple[str, Row | None]]:
    """The lines at the left: a lane for each output that is still to be read, as in a commit graph."""
    reads_left = [0] * len(rows)
    for row in rows:
        for index in row.reads:
            reads_left[index] += 1
    lanes: list[int] = []
    for number, row in enumerate(rows):
        for index in row.reads:
            reads_left[index] -= 1
        sources = sorted({lanes.index(index) for index in row.reads})
        closing = [lane for lane in sources if not reads_left[lanes[lane]]]
        joint, lane = _joint(len(lanes), sources, closing)
        if joint:
            yield joint, None
        for position in reversed(closing[1:]):
            del lanes[position]
        if lane == len(lanes):
            lanes.append(number)
        lanes[lane] = number
        yield " ".join("●" if position == lane else "│" for position in range(len(lanes))), row
        if not reads_left[number] and number < len(rows) - 1:
            reads_left[number] = 1  # a result that nobody reads keeps its lane to the end


def _joint(width: int, sources: Sequence[int], closing: Sequence[int]) -> tuple[str, int]:
    """The line between two rows where lanes part or meet (empty where none do), and the lane of the next row."""
    lane = closing[0] if closing else width
    ends = sorted({*sources, lane})
    if len(ends) < 2:
        return "", lane
    line = []
    for position in range(max(width, lane + 1)):
        inside = ends[0] <= position < ends[-1]
        line.append(_corner(position, ends, closing, lane, width) + ("─" if inside else " "))
    return "".join(line).rstrip(), lane


def _corner(position: int, ends: Sequence[int], closing: Sequence[int], lane: int, width: int) -> str:
    """The sign at one lane of a joint."""
    if position not in ends:
        return "│" if not ends[0] < position < ends[-1] else "┼"
    if position == ends[0]:
        return "├"
    if position == width:  # the lane that begins here
        return "╮"
    leaves = position in closing and position != lane
    if position == ends[-1]:
        return "╯" if leaves else "┤"
    return "┴" if leaves else "┼"
