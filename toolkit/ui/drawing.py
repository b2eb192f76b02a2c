"""A network as a picture: one box for each layer, as tall as its image and as wide as its channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2

from toolkit.costs import Row
from toolkit.layers import Shape
from toolkit.ui.markup import Html, tag

# What a reader looks for, in the order of the legend: (class, name in the legend, parts of the type names).
FAMILIES = (
    ("conv", "convolution", ("Conv2D",)),
    ("pool", "pooling", ("Pooling",)),
    ("dense", "dense", ("Dense",)),
    ("norm", "normalization", ("Normalization",)),
    ("attention", "attention", ("Attention",)),
    ("merge", "branches meet", ("Add", "Concatenate", "Multiply", "Subtract", "Average", "Maximum", "Minimum")),
)
# These change neither the size nor the channels; a box for each would hide the shape of the network.
QUIET = ("BatchNormalization", "LayerNormalization", "Activation", "ReLU", "Softmax", "Dropout", "Rescaling")
ROOMY = 30  # with more boxes than this, only those where the image changes its size are named
GAP = 26


def family(type_name: str) -> str:
    """The class that colours a type of layer.

    >>> family("DepthwiseConv2D"), family("AveragePooling2D"), family("Dropout")
    ('conv', 'pool', 'other')
    """
    return next((name for name, _, parts in FAMILIES if any(part in type_name for part in parts)), "other")


@dataclass(frozen=True)
class Box:
    """A layer in its place: `level` counts from the input, `lane` from the main path; `reads` are numbers of boxes."""

    label: str
    type: str
    shape: Shape
    reads: tuple[int, ...]
    level: int
    lane: int

    @property
    def height(self) -> float:
        """Pixels, by the logarithm of the image's height (or of the features, where there is no image)."""
        size = self.shape[0] if len(self.shape) == 3 else self.shape[-1] ** 0.5
        return 10 + 13 * log2(size + 1)

    @property
    def width(self) -> float:
        """Pixels, by the logarithm of the channels."""
        return 6 + 3 * log2(self.shape[-1] + 1) if len(self.shape) == 3 else 14

    @property
    def text(self) -> str:
        """The shape as people write it."""
        return "×".join(str(size) for size in self.shape)


def boxes(rows: Sequence[Row]) -> list[Box]:
    """The boxes of a network; quiet layers are left out and what they feed reads through them."""
    found: list[Box] = []
    place: dict[int, int] = {}
    readers: dict[int, int] = {}
    for index, row in enumerate(rows):
        reads = tuple(place[source] for source in row.reads)
        if row.type in QUIET and len(reads) == 1:
            place[index] = reads[0]
            continue
        place[index] = len(found)
        found.append(_box(row, reads, found, readers))
    return found


def _box(row: Row, reads: tuple[int, ...], found: Sequence[Box], readers: dict[int, int]) -> Box:
    """The first reader of a box goes on in its lane, the next ones take the lanes below; paths meet in the highest."""
    level = max((found[source].level + 1 for source in reads), default=0)
    lane = min((found[source].lane for source in reads), default=0)
    if len(reads) == 1:
        lane += readers.get(reads[0], 0)
        readers[reads[0]] = readers.get(reads[0], 0) + 1
    return Box(row.name, row.type, row.output_shape, reads, level, lane)


@dataclass(frozen=True)
class Spot:
    """Where a box lies, in pixels: its left edge and the middle of its height."""

    box: Box
    x: float
    y: float

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.box.width


def spots(found: Sequence[Box]) -> list[Spot]:
    """Columns from left to right by level, lanes from top to bottom."""
    widths = _largest(found, lambda box: box.level, lambda box: box.width)
    heights = _largest(found, lambda box: box.lane, lambda box: box.height)
    gap = 0.6 * GAP if len(found) > ROOMY else 2.6 * GAP
    left = _offsets(widths, gap, 1.5 * GAP)
    top = _offsets(heights, GAP, 2 * GAP)
    return [Spot(box, left[box.level], top[box.lane] + heights[box.lane] / 2) for box in found]


def _largest(found: Sequence[Box], key: Callable[[Box], int], size: Callable[[Box], float]) -> dict[int, float]:
    """The largest size for each column or lane, in order."""
    largest: dict[int, float] = {}
    for box in found:
        largest[key(box)] = max(largest.get(key(box), 0.0), size(box))
    return dict(sorted(largest.items()))


def _offsets(sizes: dict[int, float], gap: float, start: float) -> dict[int, float]:
    """Where each column or lane begins."""
    offsets: dict[int, float] = {}
    for key, size in sizes.items():
        offsets[key] = start
        start += size + gap
    return offsets


def network_drawing(name: str, rows: Sequence[Row]) -> Html:
    """The whole network as SVG with a legend; what does not fit scrolls sideways in its own box."""
    placed = spots(boxes(rows))
    width = max(spot.right for spot in placed) + 2 * GAP
    floor = max(spot.y + spot.box.height / 2 for spot in placed)
    picture = tag(
        "svg",
        *(_edge(placed[source], spot) for spot in placed for source in spot.box.reads),
        *(_block(spot) for spot in placed),
        *_names(placed, floor),
        viewBox=f"0 0 {width:.0f} {floor + 40:.0f}",
        width=f"{width:.0f}",
        height=f"{floor + 40:.0f}",
        role="img",
        aria_label=f"Drawing of {name}: {len(placed)} boxes from left to right",
    )
    scroll = tag("div", picture, class_="scroll drawing", tabindex=0, role="region", aria_label=f"Drawing of {name}")
    return tag("figure", _legend(placed), scroll)


def _legend(placed: Sequence[Spot]) -> Html:
    used = {family(spot.box.type) for spot in placed}
    items = [tag("li", text, class_=f"key {name}") for name, text, _ in FAMILIES if name in used]
    return tag("ul", *items, tag("li", "a box is as tall as its image and as wide as its channels"), class_="legend")


def _block(spot: Spot) -> Html:
    box = spot.box
    hint = tag("title", f"{box.label} ({box.type}) → {box.text}")
    size = {"width": f"{box.width:.1f}", "height": f"{box.height:.1f}", "rx": 2}
    return tag("rect", hint, x=f"{spot.x:.1f}", y=f"{spot.y - box.height / 2:.1f}", **size, class_=family(box.type))


def _edge(source: Spot, target: Spot) -> Html:
    """A line between neighbours, an arch over what a shortcut jumps; from a lower lane, a rise just before the end."""
    x1, y1, x2, y2 = source.right, source.y, target.x, target.y
    jump = source.box.lane == target.box.lane and target.box.level - source.box.level > 1
    top = y1 - source.box.height / 2 - 26 if jump else y1
    bend = 10 if jump else max(0.0, x2 - x1 - GAP) if source.box.lane > target.box.lane else 0
    if jump:
        path = f"C{x1 + bend:.0f},{top:.0f} {x2 - bend:.0f},{top:.0f} {x2:.0f},{y2:.0f}"
    else:
        path = f"h{bend:.0f} C{x2 - 8:.0f},{y1:.0f} {x1 + bend + 8:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
    return tag("path", d=f"M{x1:.0f},{y1:.0f} {path}", class_="edge")


def _names(placed: Sequence[Spot], floor: float) -> list[Html]:
    """Under every box its type and shape where there is room; else shapes along the bottom, where the size changes."""
    if len(placed) <= ROOMY:
        return [_text(spot, spot.y + spot.box.height / 2, spot.box.type, spot.box.text) for spot in placed]
    texts: list[Html] = []
    last: Shape | None = None
    free = 0.0
    for spot in (spot for spot in placed if spot.box.lane == 0):
        if spot.box.shape[:-1] != last and spot.x >= free:
            texts.append(_text(spot, floor, spot.box.text))
            last, free = spot.box.shape[:-1], spot.x + 84
    return texts


def _text(spot: Spot, y: float, *lines: str) -> Html:
    x = f"{(spot.x + spot.right) / 2:.0f}"
    parts = (tag("tspan", line, x=x, dy=15) for line in lines)
    return tag("text", *parts, y=f"{y:.0f}", text_anchor="middle")
