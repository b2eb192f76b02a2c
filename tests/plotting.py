"""What the tests of figures share: data to draw, and what a reader sees in a figure."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from toolkit.blocks import Box, Fork, Repeat
from toolkit.costs import Row
from toolkit.figures import THEMES, Style, contrast
from toolkit.layers import Merge

Numbers = NDArray[Any]

STYLES: tuple[Style, ...] = ("light", "dark")
HISTORY = {
    "loss": [0.9, 0.5, 0.3],
    "accuracy": [0.6, 0.8, 0.9],
    "val_loss": [0.8, 0.55, 0.6],
    "val_accuracy": [0.65, 0.78, 0.77],
}


# What can be seen.


def draw(figure: Figure) -> FigureCanvasAgg:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return canvas


def pixels(figure: Figure) -> Numbers:
    """Draw the figure; (height, width, 3) from 0 to 255."""
    return np.asarray(draw(figure).buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """What is written, with its place in pixels. Tick labels beyond the ends of an axis are not drawn."""
    draw(figure)
    unseen = {id(label) for axes in figure.axes for label in outside(axes)}
    return [
        (text, Text.get_window_extent(text))
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_text() and text.get_visible() and id(text) not in unseen
    ]


def outside(axes: Axes) -> Iterator[Text]:
    for axis, (low, high), coordinate in ((axes.xaxis, axes.get_xlim(), 0), (axes.yaxis, axes.get_ylim(), 1)):
        shown = axes.axison and axis.get_visible()
        for label in axis.get_ticklabels():
            if not (shown and min(low, high) <= label.get_position()[coordinate] <= max(low, high)):
                yield label
        if not shown:
            yield axis.label


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_fill()]


def widths(axes: Axes) -> list[float]:
    return [bar.get_width() for bar in bars(axes)]


def ground(image: Numbers, box: Bbox) -> str:
    """The commonest colour of a drawing in a box."""
    height = image.shape[0]
    part = image[int(height - box.y1) : int(height - box.y0) + 1, int(box.x0) : int(box.x1) + 1].reshape(-1, 3)
    colours, counts = np.unique(part, axis=0, return_counts=True)
    return to_hex(tuple(colours[np.argmax(counts)] / 255))


def marks(figure: Figure) -> set[str]:
    """Colours of lines, bars and the edges of boxes."""
    lines = {to_hex(line.get_color()) for axes in figure.axes for line in axes.get_lines()}
    edges = {
        patch.get_edgecolor() for axes in figure.axes for patch in axes.patches if isinstance(patch, FancyBboxPatch)
    }
    return lines | {to_hex(bar.get_facecolor()) for axes in figure.axes for bar in bars(axes)} | set(map(to_hex, edges))


def covering(written: Sequence[tuple[Text, Bbox]]) -> list[str]:
    """Pairs of words that share more than a pixel or two."""
    left, bottom, right, top = np.array([box.extents for _, box in written]).T[..., np.newaxis]
    shared = np.minimum(
        np.minimum(right, right.T) - np.maximum(left, left.T), np.minimum(top, top.T) - np.maximum(bottom, bottom.T)
    )
    return [
        f"{written[i][0].get_text()!r} and {written[j][0].get_text()!r} cover each other"
        for i, j in np.argwhere(shared > 2)
        if i < j
    ]


def faults(figure: Figure, style: Style) -> list[str]:
    """Why it cannot be read: words or marks too pale for what is behind them, outside the figure, over other words."""
    written, inside = texts(figure), figure.bbox.padded(1)
    for text, _ in written:
        text.set_alpha(0)
    image, paper = pixels(figure), to_hex(figure.get_facecolor())
    outer = [text for text, box in written if not all(inside.fully_contains(*corner) for corner in (box.min, box.max))]
    pale = [text for text, box in written if contrast(to_hex(text.get_color()), ground(image, box)) < 4.5]
    faint = [colour for colour in marks(figure) - {THEMES[style].faint} if contrast(colour, paper) < 3]
    return [
        *(f"{text.get_text()!r} is not wholly inside the figure" for text in outer),
        *(f"{text.get_text()!r} hardly differs from its ground" for text in pale),
        *(f"a mark of {colour} hardly differs from {paper}" for colour in faint),
        *covering(written),
    ]


# Networks as blocks.


def all_rows(chain: Sequence[Box | Fork | Repeat]) -> list[Row]:
    return [row for item in chain for row in item.rows]


def forks(chain: Sequence[Box | Fork | Repeat]) -> Iterator[Fork]:
    for item in chain:
        if isinstance(item, Repeat):
            yield from forks(item.chains[0])
        elif isinstance(item, Fork):
            yield item
            for path in item.paths:
                yield from forks(path)


def wired(reads: Sequence[tuple[int, ...]]) -> tuple[Row, ...]:
    """Rows of sums with the given wiring."""
    shape = (4, 4, 2)
    return tuple(
        Row(f"row_{i}", Merge("add"), feeders, (shape,) * len(feeders), shape, 1, 0, 0, (1, 1), (1.0, 1.0))
        for i, feeders in enumerate(reads)
    )


@st.composite
def wirings(draw: st.DrawFn) -> list[tuple[int, ...]]:
    count = draw(st.integers(1, 14))
    choose = [st.sets(st.integers(0, i - 1), min_size=1, max_size=3) for i in range(1, count)]
    return [(), *(tuple(sorted(draw(feeders))) for feeders in choose)]
