"""Figures that can be read: colours with enough contrast, light and dark, a description in words, files.

What `plots` and `drawings` stand on. A figure is a `matplotlib.figure.Figure` of its own; pyplot and every global
setting are left alone. `style` is "light", "dark" or "auto" (what matplotlib's own `figure.facecolor` is). Colours are
those of Okabe and Ito (https://jfly.uni-koeln.de/color/), moved towards black or white until text has a contrast of
4.5 to its background and marks have 3 (WCAG 2.2, 1.4.3 and 1.4.11). Every figure carries a description in words
(`alt_text`), which `save_figure` writes into the file.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from toolkit.errors import InputError

Style = Literal["light", "dark", "auto"]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TEXT_CONTRAST = 4.5
MARK_CONTRAST = 3.0


# Colour and style.


def luminance(colour: str) -> float:
    """Relative luminance of a colour, 0 (black) to 1 (white), as WCAG 2.2 defines it.

    >>> luminance("#ffffff")
    1.0
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, background: str) -> float:
    """Contrast of two colours, 1 (the same) to 21 (black on white), as WCAG 2.2 defines it.

    >>> round(contrast("#000000", "#ffffff"), 3)
    21.0
    """
    dark, light = sorted((luminance(colour), luminance(background)))
    return (light + 0.05) / (dark + 0.05)


def mix(colour: str, other: str, share: float) -> str:
    """`colour` with `share` (0 to 1) of `other` in it.

    >>> mix("#ff0000", "#0000ff", 0.2)
    '#cc0033'
    """
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(to_rgb(colour), to_rgb(other), strict=True))
    return to_hex((red, green, blue))


def readable(colour: str, background: str, least: float) -> str:
    """The nearest colour to `colour`, towards black or white, whose contrast to `background` is `least` (at most 4.5).

    >>> readable("#0072b2", "#ffffff", 4.5)
    '#0072b2'
    """
    end = max("#000000", "#ffffff", key=lambda c: contrast(c, background))
    steps = (mix(colour, end, i / 50) for i in range(51))
    return next(c for c in steps if contrast(c, background) >= least)


@dataclass(frozen=True)
class Theme:
    """The colours of a style: ground, words, lines that only guide the eye, and the strong end of a shading."""

    background: str
    ink: str
    faint: str
    strong: str
    mark_contrast: float = MARK_CONTRAST

    def mark(self, index: int) -> str:
        """Colour of the lines and bars of series `index`."""
        return readable(OKABE_ITO[index % len(OKABE_ITO)], self.background, self.mark_contrast)

    def marks(self, count: int) -> list[str]:
        """Colours of `count` series; one colour for all where there are more than colours."""
        return [self.mark(i if count <= len(OKABE_ITO) else 0) for i in range(count)]

    def text(self, index: int) -> str:
        """Colour of words about series `index`."""
        return readable(OKABE_ITO[index % len(OKABE_ITO)], self.background, TEXT_CONTRAST)

    def tint(self, index: int) -> str:
        """A fill of series `index` that `ink` can be read on."""
        return mix(self.background, OKABE_ITO[index % len(OKABE_ITO)], 0.14)

    @property
    def line(self) -> str:
        """Colour of axes, frames and connecting lines."""
        return mix(self.ink, self.background, 0.35)


THEMES = {
    "light": Theme("#ffffff", "#1b1f24", "#d9dde2", strong="#0072b2"),
    "dark": Theme("#14171c", "#e8eaed", "#39404a", strong="#56b4e9", mark_contrast=TEXT_CONTRAST),
}


def theme_of(style: Style) -> Theme:
    """The theme of a style; raises InputError for a style that is none of the three."""
    if style == "auto":
        facecolor = to_hex(matplotlib.rcParams["figure.facecolor"])
        return THEMES["dark" if luminance(facecolor) < 0.18 else "light"]
    if style not in THEMES:
        raise InputError(f'style must be "light", "dark" or "auto"; {style!r} came')
    return THEMES[style]


# Figures, words in them, and files.


class Picture(Figure):
    """A Figure that a notebook shows without pyplot, its description with it."""

    def _repr_html_(self) -> str:
        png = io.BytesIO()
        self.savefig(png, format="png", facecolor=self.get_facecolor())
        alt = alt_text(self).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words and numbers computed from its data: the text for people who do not see it."""
    return str(figure.get_label())


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure as .png, .svg or .pdf, with its description, making the folders above; returns the path.

    Raises InputError for another suffix and where the file cannot be written.
    """
    path, alt = Path(path), alt_text(figure)
    title = alt.split(". ")[0]
    metadata = {
        ".png": {"Title": title, "Description": alt},
        ".svg": {"Title": alt, "Date": None},
        ".pdf": {"Title": title, "Subject": alt, "CreationDate": None},
    }
    suffix = path.suffix.lower()
    if suffix not in metadata:
        raise InputError(f"a figure is saved as .png, .svg or .pdf; the name {path.name!r} ends otherwise")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, facecolor=figure.get_facecolor(), metadata=metadata[suffix])
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); choose a folder that you may write to"
        ) from error
    return path


def new_picture(
    theme: Theme, width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Picture:
    """An empty figure on the theme's ground, width and height in inches; without a layout, axes are placed by hand."""
    figure = Picture(figsize=(width, height), facecolor=theme.background, layout=layout)
    if layout:
        figure.set_layout_engine(layout, w_pad=0.12, h_pad=0.1, wspace=0.04, hspace=0.04)
    return figure


def described(figure: Picture, *sentences: str) -> Figure:
    """The figure with the sentences, empty ones left out, as its `alt_text`."""
    figure.set_label(" ".join(sentence for sentence in sentences if sentence))
    return figure


def dress(axes: Axes, theme: Theme, title: str = "") -> None:
    """Give axes the theme's colours, no frame where none is needed, and a title on the left."""
    axes.set_facecolor(theme.background)
    axes.tick_params(colors=theme.ink, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.line)
    axes.set_axisbelow(True)
    if title:
        fitting = int(axes.bbox.width / axes.figure.dpi / 0.095)
        axes.set_title(
            printable(title, fitting), loc="left", color=theme.ink, fontsize=11, fontweight="bold", parse_math=False
        )


def add_heading(figure: Picture, theme: Theme, title: str) -> None:
    """Write a title over all axes, shortened to the figure's width."""
    if title:
        fitting = int(figure.get_figwidth() / 0.125)
        figure.suptitle(printable(title, fitting), color=theme.ink, fontsize=13, fontweight="bold", parse_math=False)


def say(axes: Axes, theme: Theme, sentence: str) -> None:
    """Fill empty axes with the reason why they are empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color=theme.ink, wrap=True)


def printable(text: object, longest: int = 200) -> str:
    """Text on one line, its middle left out where it is long, "?" for each letter that the fonts in use do not have."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in matplotlib.rcParams["font.family"]]
    line = " ".join(str(text).split())
    if len(line) > longest:
        line = f"{line[: math.ceil((longest - 1) / 2)]}…{line[len(line) - (longest - 1) // 2 :]}"
    return "".join(c if any(font.get_char_index(ord(c)) for font in fonts) else "?" for c in line)
