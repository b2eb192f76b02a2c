"""A network as blocks: boxes, the forks that its branches make, and repeats, each with its size on paper.

`blocks_of` finds them in the rows' `reads`; `drawings` puts them down. Nothing here draws: a block is plain data, its
size in inches follows from the words in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from toolkit.costs import Row, trace
from toolkit.errors import InputError
from toolkit.keras_files import rows_from_config
from toolkit.layers import Activated, Activation, Architecture, BatchNormalization, Dropout, ReLU

# Layers without a shape of their own: written into the box of the layer before them.
ATTACHED = ("BatchNormalization", "Activation", "ReLU", "LeakyReLU", "PReLU", "Softmax", "Dropout")
FOLD_ABOVE = 30  # boxes; larger networks show blocks that repeat once

# Inches. LETTER and BOLD are what a 7.5 point letter takes on the average of wide words.
LETTER, BOLD, ROW, PAD = 0.066, 0.071, 0.145, 0.14
ARROW, BUS, GAP, SIDE = 0.2, 0.14, 0.2, 0.22

Size = tuple[float, float]


# Boxes, forks and repeats.


@dataclass(frozen=True)
class Box:
    """One layer and what is attached to it, or (`tangled`) layers that are wired too densely to draw one by one."""

    rows: tuple[Row, ...]
    tangled: bool = False

    @cached_property
    def lines(self) -> list[str]:
        """What is written in the box: the layer, what is attached, output shape and parameters."""
        shape = "×".join(map(str, self.rows[-1].output_shape))
        params = sum(row.params for row in self.rows)
        last = f"{shape} · {params:,}" if params else shape
        if self.tangled:
            return [f"{len(self.rows)} layers", "wired too densely to draw", last]
        attached = [_own_activation(self.rows[0]), *map(_attachment, self.rows[1:])]
        extra = ", ".join(word for word in attached if word)
        return [layer_label(self.rows[0]), *([f"+ {extra}"] if extra else []), last]

    @cached_property
    def size(self) -> Size:
        first, *rest = map(len, self.lines)
        return max(first * BOLD, *(length * LETTER for length in rest)) + PAD, len(self.lines) * ROW + PAD

    @cached_property
    def kind(self) -> object:
        """Equal for boxes that look the same."""
        return tuple(self.lines)

    @property
    def words(self) -> str:
        return f"{self.lines[0]} ({'×'.join(map(str, self.rows[-1].output_shape))})"


@dataclass(frozen=True)
class Fork:
    """Paths that leave one layer and meet again in `join`; an empty path is the identity."""

    paths: tuple[Chain, ...]
    join: Box | None

    @cached_property
    def sizes(self) -> list[Size]:
        return [chain_size(path) if path else (SIDE, 0.0) for path in self.paths]

    @cached_property
    def size(self) -> Size:
        left, right = self.reach
        under = self.join.size if self.join else (0.0, 0.0)
        return 2 * max(left, right, under[0] / 2), self.depth + under[1]

    @property
    def depth(self) -> float:
        """From the top of the fork to the top of its join."""
        return max(height for _, height in self.sizes) + 2 * (BUS + ARROW)

    @cached_property
    def centres(self) -> list[float]:
        """Where each path's middle lies, right of the fork's; a path beside which there are only identities is at 0."""
        edges = list(accumulate((width + GAP for width, _ in self.sizes), initial=0.0))
        middles = [edge + width / 2 for edge, (width, _) in zip(edges, self.sizes, strict=False)]
        real = [i for i, path in enumerate(self.paths) if path]
        zero = middles[real[0]] if len(real) == 1 else (edges[-1] - GAP) / 2
        return [middle - zero for middle in middles]

    @property
    def reach(self) -> Size:
        """How far the fork extends to the left and to the right of its middle."""
        ends = [
            (centre - size[0] / 2, centre + size[0] / 2) for centre, size in zip(self.centres, self.sizes, strict=True)
        ]
        return -min(left for left, _ in ends), max(right for _, right in ends)

    @cached_property
    def kind(self) -> object:
        return tuple(tuple(item.kind for item in path) for path in self.paths), self.join and self.join.kind

    @property
    def rows(self) -> tuple[Row, ...]:
        inner = tuple(row for path in self.paths for item in path for row in item.rows)
        return inner + (self.join.rows if self.join else ())

    @property
    def words(self) -> str:
        paths = " | ".join(", ".join(item.words for item in path) or "identity" for path in self.paths)
        return f"{len(self.paths)} branches [{paths}] into {self.join.words if self.join else 'several outputs'}"


@dataclass(frozen=True)
class Repeat:
    """Chains that look the same, one after the other: drawn once."""

    chains: tuple[Chain, ...]

    @cached_property
    def size(self) -> Size:
        width, height = chain_size(self.chains[0])
        return width + 2 * GAP + 0.3, height + 2 * GAP

    @cached_property
    def kind(self) -> object:
        return len(self.chains), tuple(item.kind for item in self.chains[0])

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for chain in self.chains for item in chain for row in item.rows)

    @property
    def words(self) -> str:
        return f"{len(self.chains)} times [{', '.join(item.words for item in self.chains[0])}]"


Item = Box | Fork | Repeat
Chain = tuple[Item, ...]
Edges = set[tuple[int, int]]


def space_before(item: Item) -> float:
    """Room for the line into an item that is not the first of its chain."""
    return 0.0 if isinstance(item, Fork) else ARROW


def chain_size(chain: Chain) -> Size:
    """Width and height of a chain in inches."""
    if not chain:
        return 0.0, 0.0
    sizes = [item.size for item in chain]
    return max(width for width, _ in sizes), sum(h for _, h in sizes) + sum(map(space_before, chain[1:]))


# From a network to blocks.


def rows_from(model: object) -> tuple[Row, ...]:
    """The rows of an Architecture, of `Costs`, of rows, or of a Keras model (read from its configuration).

    Raises InputError for anything else, and for a Keras model that Keras itself cannot describe.
    """
    if isinstance(model, Architecture):
        return trace(model)
    rows = getattr(model, "rows", model)
    if isinstance(rows, Sequence) and rows and all(isinstance(row, Row) for row in rows):
        return tuple(rows)
    if not hasattr(model, "get_config"):
        raise InputError(f"a network is an Architecture, its rows or a Keras model; {type(model).__name__} came")
    try:
        config = model.get_config()
    except NotImplementedError as error:
        raise InputError(
            "only Sequential and Functional Keras models can be read; this one is a class of its own"
        ) from error
    return rows_from_config(config)


def layer_label(row: Row) -> str:
    """Type and what distinguishes it: window, filters or units, stride, groups, dilation.

    >>> from toolkit.layers import Architecture, Conv2D
    >>> layer_label(trace(Architecture("one", (28, 28, 1), (Conv2D(6, 5, strides=2),)))[1])
    'Conv2D 5×5, 6, stride 2'
    """
    layer, parts = row.layer, []
    window, step = getattr(layer, "window", None), getattr(layer, "step", (1, 1))
    if window:
        parts.append("×".join(map(str, window)))
    parts += [str(size) for size in (getattr(layer, "filters", 0), getattr(layer, "units", 0)) if size]
    if step != (1, 1) and not (row.type.endswith("Pooling2D") and step == window):
        parts.append(f"stride {step[0]}" if step[0] == step[1] else f"stride {step[0]}×{step[1]}")
    counted = (("groups", "groups"), ("num_heads", "heads"))
    parts += [f"{getattr(layer, key)} {word}" for key, word in counted if getattr(layer, key, 1) != 1]
    if getattr(layer, "dilation", (1, 1)) != (1, 1):
        parts.append(f"dilation {layer.dilation[0]}")  # type: ignore[attr-defined]
    return f"{row.type} {', '.join(parts)}".strip()


def _own_activation(row: Row) -> str:
    """The activation within a layer with weights, if it has one."""
    name = row.layer.activation if isinstance(row.layer, Activated) else "linear"
    return "" if name == "linear" else name


def _attachment(row: Row) -> str:
    """The short name of an attached layer."""
    match row.layer:
        case BatchNormalization():
            return "batch norm"
        case Activation(activation=name):
            return name
        case Dropout(rate=rate):
            return f"dropout {rate:g}"
        case ReLU(max_value=float() | int() as limit):
            return f"relu{limit:g}"
    return row.type


def blocks_of(rows: Sequence[Row]) -> Chain:
    """The network as a chain of boxes, forks (found in the rows' `reads`) and repeats; each row is in it once."""
    start, end = -1, len(rows)
    edges = {(feeder, i) for i, row in enumerate(rows) for feeder in row.reads or (start,)}
    edges |= {(i, end) for i in set(range(end)) - {feeder for feeder, _ in edges}}
    chain = _chain(rows, edges, start, range(end), end)
    return _fold(chain) if box_count(chain) > FOLD_ABOVE else chain


def _chain(rows: Sequence[Row], edges: Edges, start: int, members: Sequence[int], end: int) -> Chain:
    """The chain of `members` between `start` and `end`: a member that no edge passes by is a step of it."""
    inner = set(members)
    near = {(a, b) for a, b in edges if a in inner or b in inner}
    furthest: dict[int, int] = {}
    for a, b in near:
        furthest[a] = max(b, furthest.get(a, b))
    chain: list[Item] = []
    previous, passed, reach = start, list[int](), furthest.get(start, start)
    for member in (*members, end):
        if reach > member:
            passed.append(member)
        else:
            own = Box((rows[member],)) if member in inner else None
            chain += _step(rows, near, previous, passed, member, own)
            previous, passed = member, []
        reach = max(reach, furthest.get(member, member))
    return _attach(chain)


def _step(
    rows: Sequence[Row], near: Edges, previous: int, passed: Sequence[int], member: int, own: Box | None
) -> list[Item]:
    """What lies between two steps of a chain, and the second step itself, `own`."""
    alone: list[Item] = [own] if own else []
    if not passed:
        return alone
    groups = _groups(near, passed)
    identity = (previous, member) in near
    if len(groups) == 1 and not identity:
        return [Box(tuple(rows[i] for i in passed), tangled=True), *alone]
    paths = [_chain(rows, near, previous, group, member) for group in groups]
    return [Fork((*paths, ()) if identity else tuple(paths), own)]


def _groups(near: Edges, members: Sequence[int]) -> list[list[int]]:
    """Members that edges among them connect, in groups."""
    home = {member: {member} for member in members}
    for a, b in near:
        if a in home and b in home and home[a] is not home[b]:
            home[a] |= home[b]
            for member in home[b]:
                home[member] = home[a]
    return [sorted(group) for first, group in home.items() if first == min(group)]


def _attach(chain: Sequence[Item]) -> Chain:
    """The chain with attached layers in the box before them."""
    done: list[Item] = []
    for item in chain:
        before = done[-1] if done else None
        host = before.join if isinstance(before, Fork) else before
        if not (_attaches(item) and isinstance(host, Box) and _hosts(host)):
            done.append(item)
            continue
        grown = Box(host.rows + item.rows)
        done[-1] = Fork(before.paths, grown) if isinstance(before, Fork) else grown
    return tuple(done)


def _attaches(item: Item) -> bool:
    return isinstance(item, Box) and not item.tangled and item.rows[0].type in ATTACHED


def _hosts(box: Box) -> bool:
    return not box.tangled and box.rows[0].type != "InputLayer"


def box_count(chain: Chain) -> int:
    """How many boxes are drawn."""
    return sum(_boxes_of(item) for item in chain)


def _boxes_of(item: Item) -> int:
    if isinstance(item, Fork):
        return sum(map(box_count, item.paths)) + (item.join is not None)
    return box_count(item.chains[0]) if isinstance(item, Repeat) else 1


def _fold(chain: Chain) -> Chain:
    """The chain with repeated parts drawn once, where that saves two boxes or more."""
    inner = [Fork(tuple(map(_fold, item.paths)), item.join) if isinstance(item, Fork) else item for item in chain]
    kinds, done, at = [item.kind for item in inner], list[Item](), 0
    while at < len(inner):
        period, times = _longest_repeat(kinds[at:])
        parts = tuple(tuple(inner[at + i * period : at + (i + 1) * period]) for i in range(times))
        worth = (times - 1) * box_count(parts[0]) >= 2
        done += [Repeat(parts)] if worth else parts[0]
        at += period * (times if worth else 1)
    return tuple(done)


def _longest_repeat(kinds: Sequence[object], most: int = 8) -> tuple[int, int]:
    """(period, times) of the repeat at the start that covers most, of those the shortest period.

    >>> _longest_repeat("ababac"), _longest_repeat("abc")
    ((2, 2), (1, 1))
    """
    best = (1, 1)
    for period in range(1, min(most, len(kinds) // 2) + 1):
        times = 1
        while kinds[times * period : (times + 1) * period] == kinds[:period]:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = period, times
    return best
