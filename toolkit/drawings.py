"""The drawing of a network: its blocks put down as boxes and lines, on one page.

`blocks` says what is drawn and how large it is; here a pen draws it, in columns where the network is long.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from toolkit.blocks import (
    ARROW,
    BUS,
    GAP,
    PAD,
    ROW,
    Box,
    Chain,
    Fork,
    Item,
    Repeat,
    Size,
    blocks_of,
    box_count,
    chain_size,
    rows_from,
    space_before,
)
from toolkit.costs import Row
from toolkit.figures import Style, Theme, described, mix, new_picture, printable, save_figure, theme_of

FAMILIES = (("Conv", 0), ("Dense", 1), ("Pooling", 2), ("Attention", 3), ("Normalization", 4))  # type, series
MARGIN, HEADER, FOOTER, GUTTER, TALL = 0.25, 0.55, 0.4, 0.5, 8.5  # inches


# The pen.


class Pen:
    """Draws in inches from the top left, and collects lines so that they are drawn at once."""

    def __init__(self, axes: Axes, theme: Theme) -> None:
        self.axes, self.theme = axes, theme
        self.lines: list[list[Size]] = []
        self.heads: list[Size] = []

    def line(self, *points: Size, arrow: bool = False) -> None:
        """A line through points, with an arrow head at its end."""
        self.lines.append(list(points))
        if arrow:
            self.heads.append(points[-1])

    def box(self, x: float, y: float, box: Box) -> None:
        """A coloured box centred at `x`, its first line bold."""
        fill, edge = _box_colours(self.theme, box)
        width, height = box.size
        frame = FancyBboxPatch(
            (x - width / 2 + 0.04, y + 0.04), width - 0.08, height - 0.08, boxstyle="round,pad=0.04", facecolor=fill,
            edgecolor=edge, linewidth=1.3, linestyle="--" if box.tangled else "-", gid=f"layer-{box.rows[0].name}",
        )  # fmt: skip
        self.axes.add_patch(frame)
        for index, line in enumerate(box.lines):
            self.write(x, y + PAD / 2 + (index + 0.5) * ROW, line, bold=index == 0)

    def frame(self, x: float, y: float, size: Size, label: str) -> None:
        """A dashed frame centred at `x`, with a label in its upper left corner."""
        corner = x - size[0] / 2, y
        self.axes.add_patch(
            Rectangle(corner, *size, fill=False, edgecolor=self.theme.line, linewidth=1, linestyle=(0, (4, 3)))
        )
        self.write(corner[0] + 0.07, y + 0.12, label, bold=True, align="left")

    def write(
        self, x: float, y: float, text: str, *, bold: bool = False, align: str = "center", size: float = 7.5
    ) -> None:
        """One line of text, its middle at `y`."""
        self.axes.text(
            x, y, printable(text), ha=align, va="center", fontsize=size, fontweight="bold" if bold else "normal",
            color=self.theme.ink, parse_math=False,
        )  # fmt: skip

    def finish(self) -> None:
        """Put the collected lines and arrow heads down."""
        self.axes.add_collection(LineCollection(self.lines, colors=self.theme.line, linewidths=1.1, zorder=0.5))
        if self.heads:
            x, y = zip(*self.heads, strict=True)
            self.axes.plot(x, np.array(y) - 0.035, linestyle="none", marker="v", markersize=4.5, color=self.theme.line)


def _box_colours(theme: Theme, box: Box) -> tuple[str, str]:
    """Fill and edge by the family of the layer; joins, shapes and the rest are grey."""
    index = next((index for part, index in FAMILIES if part in box.rows[0].type), None)
    if index is None or box.tangled:
        return mix(theme.background, theme.ink, 0.07), mix(theme.ink, theme.background, 0.45)
    return theme.tint(index), theme.mark(index)


# From blocks to lines.


def draw_chain(pen: Pen, chain: Chain, x: float, y: float) -> None:
    """Draw the items one under the other, centred at `x` from `y` down."""
    for index, item in enumerate(chain):
        space = space_before(item) if index else 0.0
        if space:
            pen.line((x, y), (x, y + space), arrow=isinstance(item, Box))
        draw_item(pen, item, x, y + space)
        y += space + item.size[1]


def draw_item(pen: Pen, item: Item, x: float, y: float) -> None:
    """Draw a box, a fork or a repeat, centred at `x` from `y` down."""
    match item:
        case Box():
            pen.box(x, y, item)
        case Fork():
            _draw_fork(pen, item, x, y)
        case Repeat():
            _draw_repeat(pen, item, x, y)


def _draw_fork(pen: Pen, fork: Fork, x: float, y: float) -> None:
    """The paths side by side below `y`, with lines from and to the middle `x`, and the join under them."""
    end = y + fork.depth
    for path, offset in zip(fork.paths, fork.centres, strict=True):
        at, top = x + offset, y + BUS + (ARROW if path else 0)
        pen.line((x, y), (x, y + BUS), (at, y + BUS), (at, top), arrow=bool(path))
        draw_chain(pen, path, at, top)
        pen.line((at, top + chain_size(path)[1]), (at, end - ARROW), (x, end - ARROW))
    if fork.join:
        pen.line((x, end - ARROW), (x, end), arrow=True)
        pen.box(x, end, fork.join)


def _draw_repeat(pen: Pen, repeat: Repeat, x: float, y: float) -> None:
    """One of the chains in a dashed frame that says how often."""
    chain, bottom = repeat.chains[0], y + repeat.size[1]
    pen.frame(x, y, repeat.size, f"{len(repeat.chains)} ×")
    pen.line((x, y), (x, y + GAP), arrow=isinstance(chain[0], Box))
    draw_chain(pen, chain, x, y + GAP)
    pen.line((x, bottom - GAP), (x, bottom))


# The page.


def in_columns(chain: Chain) -> list[Chain]:
    """The chain cut into columns: one if it is short, else as many as bring the page nearest to 4 : 3."""
    total = chain_size(chain)[1]
    if total <= TALL:
        return [chain]
    tallest = max(item.size[1] for item in chain)
    pages = [_level(chain, count, max(tallest, total / count)) for count in range(1, 31)]
    return min(pages, key=lambda page: abs(math.log(_page_size(page)[0] / _page_size(page)[1] / (4 / 3))))


def _cut(chain: Chain, height: float) -> list[Chain]:
    """Columns of at most `height`, each as full as it can be."""
    columns: list[list[Item]] = [[chain[0]]]
    filled = chain[0].size[1]
    for item in chain[1:]:
        filled += space_before(item) + item.size[1]
        if filled > height:
            columns.append([])
            filled = item.size[1]
        columns[-1].append(item)
    return [tuple(column) for column in columns]


def _level(chain: Chain, count: int, height: float) -> list[Chain]:
    """At most `count` columns, as level as can be: the least height, from `height` on, that needs no more."""
    while len(columns := _cut(chain, height)) > count:
        height *= 1.02
    return columns


def _page_size(columns: Sequence[Chain]) -> Size:
    """Width and height of the whole drawing in inches."""
    sizes = [chain_size(column) for column in columns]
    width = sum(width for width, _ in sizes) + GUTTER * (len(sizes) - 1) + 2 * MARGIN
    return max(width, 5.5), max(height for _, height in sizes) + HEADER + FOOTER + 2 * BUS


def _draw_columns(pen: Pen, columns: Sequence[Chain], width: float) -> None:
    """Columns from left to right, a line from the end of each to the start of the next."""
    top = HEADER + BUS
    bottom = top + max(chain_size(column)[1] for column in columns) + BUS
    sizes = [chain_size(column) for column in columns]
    left = (width - sum(w for w, _ in sizes) - GUTTER * (len(sizes) - 1)) / 2
    middles = []
    for column, (wide, _) in zip(columns, sizes, strict=True):
        middles.append(left + wide / 2)
        draw_chain(pen, column, middles[-1], top)
        left += wide + GUTTER
    for index in range(1, len(columns)):
        x, next_x, end = middles[index - 1], middles[index], top + sizes[index - 1][1]
        turn = next_x - sizes[index][0] / 2 - GUTTER / 2
        pen.line(
            (x, end),
            (x, bottom),
            (turn, bottom),
            (turn, top - BUS),
            (next_x, top - BUS),
            (next_x, top),
            arrow=isinstance(columns[index][0], Box),
        )


def _drawing_words(name: str, rows: Sequence[Row], chain: Chain) -> list[str]:
    """The network in words: totals, then its boxes in order (above 100 only how many layers of each type)."""
    params = sum(row.params for row in rows)
    first = f"{name}: {len(rows)} layers, {params:,} parameters, input {'×'.join(map(str, rows[0].output_shape))}."
    if box_count(chain) > 100:
        types = Counter(row.type for row in rows)
        return [first, f"{', '.join(f'{count} {kind}' for kind, count in types.most_common())}."]
    return [first, f"From input to output: {'; '.join(item.words for item in chain)}."]


def visualize_architecture(
    model: object,
    save_path: str | Path | None = None,
    title: str = "",
    *,
    style: Style = "auto",
) -> Figure:
    """Draw a network: a box for each layer, branches beside each other, repeated blocks once, long nets in columns.

    A box holds the layer, what is attached to it (normalization, activation, dropout), its output shape and its
    parameters. `save_path` also writes the drawing as .png, .svg or .pdf. Raises InputError for something that is no
    network and for a path that cannot be written.
    """
    theme, rows = theme_of(style), rows_from(model)
    chain = blocks_of(rows)
    name = title or getattr(model, "name", "") or "network"
    columns = in_columns(chain)
    width, height = _page_size(columns)
    figure = new_picture(theme, width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    pen = Pen(axes, theme)
    _draw_columns(pen, columns, width)
    heading = f"{printable(name, int(width / 0.12) - 25)}: {sum(row.params for row in rows):,} parameters"
    pen.write(MARGIN, 0.28, heading, bold=True, align="left", size=12)
    pen.write(
        MARGIN,
        height - 0.2,
        "each box: the layer, + what comes right after it, output shape · parameters",
        align="left",
    )
    pen.finish()
    described(figure, *_drawing_words(name, rows, chain))
    if save_path is not None:
        save_figure(figure, save_path)
    return figure
