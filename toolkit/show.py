"""Numbers and networks as text: the only place where bytes become "MB" and rows become tables and diagrams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from toolkit.arithmetic import InputError, require_choice
from toolkit.costs import Costs, Network, Row, rows_of
from toolkit.layers import Shape
from toolkit.runtimes import MemoryEstimate

_BYTE_UNITS = {"MB": 1000, "MiB": 1024}
_PREFIXES = "kmgtp"
# No machine has more; a longer number is a slip of the hand.
_MOST_BYTES = 10**18
# How a step is executed, in words.
EXECUTIONS = {
    "tensorflow": "TensorFlow on the processor",
    "onednn": "TensorFlow with oneDNN on the processor",
    "xla": "TensorFlow with XLA on the processor",
    "jax": "JAX on the processor",
    "gpu": "the memory of a GPU",
}
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


def parse_bytes(text: str) -> int:
    """Bytes as people write them: 4GiB, 800 MB, 1.5GB; raises InputError for anything else.

    kB, MB, GB, TB are powers of 1,000, and KiB, MiB, GiB, TiB powers of 1,024. A number alone is bytes.

    >>> parse_bytes("4GiB"), parse_bytes("800 MB"), parse_bytes("1.5 GB")
    (4294967296, 800000000, 1500000000)
    """
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(?:([kmgtp]?)(i?)b)?", text.strip().lower().replace(" ", ""))
    unit = (1024 if found[3] else 1000) ** (_PREFIXES.find(found[2]) + 1 if found[2] else 0) if found else 0
    size = int(Fraction(found[1]) * unit) if found and not (found[3] and not found[2]) else 0
    if not 0 < size <= _MOST_BYTES:
        raise InputError(f"memory is written like 4GiB (2^30 bytes each) or 800MB (10^6 each); {text[:60]!r} came")
    return size


# Tables.


def columns(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lines of cells as text of fixed width: the first `left` cells begin, and the others end, below each other.

    >>> print(columns([["weights", "3.6 MB"], ["input", "14.4 MB"]]))
    weights   3.6 MB
    input    14.4 MB
    """
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(_aligned(line, widths, left)).rstrip() for line in lines)


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


def conditions(estimate: MemoryEstimate) -> str:
    """Under which conditions an estimate holds, in words.

    >>> from toolkit.architectures import lenet5
    >>> from toolkit.runtimes import predict_memory
    >>> conditions(predict_memory(lenet5(), 32, training=False, execution="tensorflow"))
    'batch 32, float32, TensorFlow on the processor'
    """
    how = [f"batch {estimate.batch_size}", estimate.dtype_policy]
    how += [estimate.optimizer] if estimate.training else []
    return ", ".join([*how, EXECUTIONS.get(estimate.execution, estimate.execution)])


def estimate_summary(estimate: MemoryEstimate) -> tuple[str, str]:
    """A predicted peak as (what, how much), in the manner of `summary`."""
    what = "training peak" if estimate.training else "inference peak"
    over = f"over the process's own {readable_bytes(estimate.framework_bytes)}" if estimate.framework_bytes else ""
    return (
        what,
        f"{readable_bytes(estimate.peak_bytes)} predicted ({', '.join(filter(None, (conditions(estimate), over)))})",
    )


def memory_cells(estimate: MemoryEstimate) -> list[list[str]]:
    """Where the bytes of a predicted peak go, as lines of part, bytes and share of the peak, then the totals."""
    peak = estimate.peak_bytes or 1
    parts = [(name, size, f"{size / peak:.0%}") for name, size in estimate.parts.items() if size]
    totals = [
        ("peak over the start", estimate.peak_bytes, ""),
        ("the process at its start", estimate.framework_bytes, ""),
        ("peak of the process", estimate.process_bytes, ""),
    ]
    return [[name, readable_bytes(size), share] for name, size, share in [*parts, *totals]]


def table(costs: Costs, *estimates: MemoryEstimate) -> str:
    """The cost table and its totals as text of fixed width, predicted peaks last.

    >>> from toolkit.architectures import lenet5
    >>> from toolkit.costs import costs
    >>> print(table(costs(lenet5())).splitlines()[-1].split()[:3])
    ['training', '1.02', 'MB']
    """
    lines = columns(table_cells(costs), left=3).splitlines()
    rule = "-" * max(map(len, lines))
    title = f"{costs.name}, input {readable_shape(costs.input_shape)}"
    totals = [f"{what:<15}{amount}" for what, amount in _totals(costs, estimates)]
    return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], "", *totals])


def _totals(costs: Costs, estimates: Sequence[MemoryEstimate]) -> list[tuple[str, str]]:
    return [*summary(costs), *map(estimate_summary, estimates)]


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    """Texts to the left, numbers to the right."""
    return [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def markdown(costs: Costs, *estimates: MemoryEstimate) -> str:
    """The cost table and its totals in Markdown."""
    cells = table_cells(costs)
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    alignment = "|" + "|".join([" --- "] * 3 + [" ---: "] * (len(_HEADINGS) - 3)) + "|"
    totals = [f"- **{what}**: {amount}" for what, amount in _totals(costs, estimates)]
    title = f"### {costs.name}, input {readable_shape(costs.input_shape)}"
    return "\n".join([title, "", *totals, "", lines[0], alignment, *lines[1:], ""])


def to_json(costs: Costs, *estimates: MemoryEstimate) -> str:
    """All that is known about the costs as one JSON object; bytes are integers. `predicted` holds the estimates."""
    return json.dumps(told(costs, *estimates), indent=2, ensure_ascii=False)


def told(costs: Costs, *estimates: MemoryEstimate) -> dict[str, object]:
    """The costs as plain data, with the predicted peaks of "training" and "inference" under `predicted`."""
    predicted = {"training" if each.training else "inference": each.to_dict() for each in estimates}
    return costs.to_dict() | ({"predicted": predicted} if predicted else {})


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
