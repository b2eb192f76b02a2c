"""Figures from plain data: histories, confusion matrices, predictions, costs, and the drawing of a network.

Every function returns a `matplotlib.figure.Figure` of its own and leaves pyplot and every global setting alone.
Histories are Keras History objects, our TrainResult or dicts of lists. `style` is "light", "dark" or "auto" (what
matplotlib's own `figure.facecolor` is). Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), moved
towards black or white until text has a contrast of 4.5 to its background and marks have 3 (WCAG 2.2, 1.4.3 and
1.4.11); no difference is told by colour alone. Every figure carries a description in words (`alt_text`), which
`save_figure` writes into the file.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from toolkit.arithmetic import require_whole
from toolkit.costs import Row, trace
from toolkit.errors import InputError
from toolkit.keras_files import rows_from_config
from toolkit.layers import Activated, Activation, Architecture, BatchNormalization, Dropout, ReLU
from toolkit.show import readable_bytes, readable_count

Style = Literal["light", "dark", "auto"]
Floats = NDArray[np.float64]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TEXT_CONTRAST = 4.5
MARK_CONTRAST = 3.0
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
ACCURACY_NAMES = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy")


# ---- colour and style ------------------------------------------------------------------------------------------------


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


# ---- figures, words in them, and files -------------------------------------------------------------------------------


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


def _picture(
    theme: Theme, width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Picture:
    figure = Picture(figsize=(width, height), facecolor=theme.background, layout=layout)
    if layout:
        figure.set_layout_engine(layout, w_pad=0.12, h_pad=0.1, wspace=0.04, hspace=0.04)
    return figure


def _described(figure: Picture, *sentences: str) -> Figure:
    figure.set_label(" ".join(sentence for sentence in sentences if sentence))
    return figure


def _dress(axes: Axes, theme: Theme, title: str = "") -> None:
    """Give axes the theme's colours, no frame where none is needed, and a title on the left."""
    axes.set_facecolor(theme.background)
    axes.tick_params(colors=theme.ink, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.line)
    axes.set_axisbelow(True)
    if title:
        fitting = int(axes.bbox.width / axes.figure.dpi / 0.095)
        axes.set_title(
            _printable(title, fitting), loc="left", color=theme.ink, fontsize=11, fontweight="bold", parse_math=False
        )


def _heading(figure: Picture, theme: Theme, title: str) -> None:
    if title:
        fitting = int(figure.get_figwidth() / 0.125)
        figure.suptitle(_printable(title, fitting), color=theme.ink, fontsize=13, fontweight="bold", parse_math=False)


def _say(axes: Axes, theme: Theme, sentence: str) -> None:
    """Fill empty axes with the reason why they are empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color=theme.ink, wrap=True)


def _printable(text: object, longest: int = 200) -> str:
    """Text on one line, its middle left out where it is long, "?" for each letter that the fonts in use do not have."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in matplotlib.rcParams["font.family"]]
    line = " ".join(str(text).split())
    if len(line) > longest:
        line = f"{line[: math.ceil((longest - 1) / 2)]}…{line[len(line) - (longest - 1) // 2 :]}"
    return "".join(c if any(font.get_char_index(ord(c)) for font in fonts) else "?" for c in line)


def _number(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:.4g}"


def _percent(value: float) -> str:
    return "no value" if math.isnan(value) else f"{100 * value:.1f}%"


# ---- histories -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curve:
    """One line: a value an epoch, NaN where there is none."""

    label: str
    epochs: Floats
    values: Floats

    @property
    def last(self) -> tuple[float, float] | None:
        """Epoch and value of the last epoch that has one."""
        known = np.flatnonzero(~np.isnan(self.values))
        return (float(self.epochs[known[-1]]), float(self.values[known[-1]])) if known.size else None

    def best(self, pick: Callable[[Floats], Any]) -> tuple[float, float]:
        """Epoch and value that `pick` (np.nanargmin or np.nanargmax) chooses."""
        index = int(pick(self.values))
        return float(self.epochs[index]), float(self.values[index])


def _history(history: object) -> Mapping[str, object]:
    """The dict of lists in a Keras History, a TrainResult or a dict; raises InputError for anything else."""
    inner = getattr(history, "history", history)
    if not isinstance(inner, Mapping):
        raise InputError(
            "a history is a Keras History, a training result or a dict such as {'loss': [0.9, 0.5]}; "
            f"{type(history).__name__} came"
        )
    if inner and "loss" not in inner:
        raise InputError(f"a history needs the key 'loss'; this one has {', '.join(map(repr, inner))}")
    return inner


def _values(history: Mapping[str, object], key: str) -> Floats:
    """One value an epoch, NaN for None and infinities; raises InputError where `history[key]` is no list of numbers."""
    raw = history.get(key, ())
    try:
        values = np.array([math.nan if v is None else float(v) for v in raw])  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InputError(f"history[{key!r}] must be a list of numbers, one an epoch; {raw!r} came") from None
    return np.where(np.isfinite(values), values, math.nan)


def _curve(history: Mapping[str, object], key: str, label: str) -> _Curve:
    """The curve under `key`; a list k times shorter than the loss has every k-th epoch (Keras's `validation_freq`)."""
    values, epochs = _values(history, key), len(_values(history, "loss"))
    step = max(1, epochs // max(1, len(values)))
    step = step if len(values) * step <= epochs < (len(values) + 1) * step else 1
    return _Curve(label, step * np.arange(1.0, len(values) + 1), values)


def _accuracy_name(history: Mapping[str, object]) -> str | None:
    named = [key for key in ACCURACY_NAMES if key in history]
    ending = [key for key in history if key.endswith("accuracy") and not key.startswith("val_")]
    return next(iter(named + ending), None)


def _two_curves(history: Mapping[str, object], key: str) -> list[_Curve]:
    """Training and, where the history has it, validation."""
    curves = [_curve(history, key, "training")]
    return curves + [_curve(history, f"val_{key}", "validation")] * (f"val_{key}" in history)


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


def _draw_curves(axes: Axes, theme: Theme, curves: Sequence[_Curve], show: Callable[[float], str]) -> None:
    """Lines that differ in colour, dashes and markers, each with its name and last value at its end."""
    if not any(curve.last for curve in curves):
        _say(axes, theme, "no values in any epoch" if any(curve.values.size for curve in curves) else "no epochs yet")
        return
    for index, curve in enumerate(curves):
        axes.plot(
            curve.epochs, curve.values, label=curve.label, color=theme.mark(index), linestyle=LINE_STYLES[index % 4],
            linewidth=2, marker=MARKERS[index % len(MARKERS)], markersize=5, markevery=max(1, len(curve.values) // 20),
        )  # fmt: skip
    axes.grid(axis="y", color=theme.faint, linewidth=0.8)
    axes.set_xlabel("epoch", color=theme.ink)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))
    longest = max(curve.epochs[-1] for curve in curves if curve.values.size)
    axes.set_xlim(0.5 if longest < 20 else 0, longest + max(0.25, 0.02 * longest))
    _label_ends(axes, theme, curves, show)


def _label_ends(axes: Axes, theme: Theme, curves: Sequence[_Curve], show: Callable[[float], str]) -> None:
    """Write each curve's name beside its end, names kept apart, with a thin line from the end to its name."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = [(i, curve, curve.last) for i, curve in enumerate(curves) if curve.last]
    places = spread([(last[1] - low) / (high - low) for _, _, last in ends if last], 0.07)
    for (index, curve, last), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{_printable(curve.label, 28)} {show(last[1])}", last, (1.03, place), "data", "axes fraction",
            color=theme.text(index), fontsize=9, va="center", annotation_clip=False, parse_math=False,
            arrowprops={"arrowstyle": "-", "color": theme.mark(index), "linewidth": 0.7, "linestyle": ":"},
        )  # fmt: skip


def _loss_axes(axes: Axes, theme: Theme, curves: Sequence[_Curve], title: str = "loss") -> None:
    _dress(axes, theme, title)
    _draw_curves(axes, theme, curves, _number)


def _accuracy_axes(axes: Axes, theme: Theme, curves: Sequence[_Curve], title: str = "accuracy") -> None:
    _dress(axes, theme, title)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _draw_curves(axes, theme, curves, _percent)


def _in_words(what: str, curves: Sequence[_Curve], show: Callable[[float], str], pick: Callable[[Floats], Any]) -> str:
    """Say where each curve starts, ends and is best."""
    best_is = "lowest" if pick is np.nanargmin else "highest"
    parts = []
    for curve in curves:
        if not curve.last:
            parts.append(f"{curve.label} has no values")
            continue
        epoch, best = curve.best(pick)
        parts.append(
            f"{curve.label} from {show(float(curve.values[0]))} to {show(curve.last[1])} "
            f"({best_is} {show(best)} in epoch {epoch:.0f})"
        )
    return f"{what}: {'; '.join(parts)}."


def _epochs(count: int) -> str:
    return "no epochs yet" if count == 0 else f"{count} epoch{'s' * (count != 1)}"


def plot_history(history: object, title: str = "Training history", *, style: Style = "auto") -> Figure:
    """Loss and, where the history has one, accuracy by epoch: training and validation side by side.

    Missing values (None, NaN, infinities) leave a gap. Raises InputError for a history without the key 'loss'.
    """
    theme, data = theme_of(style), _history(history)
    accuracy = _accuracy_name(data)
    figure = _picture(theme, 11 if accuracy else 6.5, 3.8)
    _heading(figure, theme, title)
    panels = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    losses = _two_curves(data, "loss")
    _loss_axes(panels[0], theme, losses)
    words = [_in_words("Loss", losses, _number, np.nanargmin)]
    if accuracy:
        accuracies = _two_curves(data, accuracy)
        _accuracy_axes(panels[1], theme, accuracies)
        words.append(_in_words("Accuracy", accuracies, _percent, np.nanargmax))
    return _described(figure, f"{title}, {_epochs(len(losses[0].values))}.", *words)


def plot_learning_curve(history: object, title: str = "Learning curve", *, style: Style = "auto") -> Figure:
    """Training and validation loss in one picture, the gap between them shaded and the best epoch marked.

    The best epoch is the one with the lowest validation loss: training on after it is overfitting. Raises InputError
    for a history without the key 'loss'.
    """
    theme, data = theme_of(style), _history(history)
    curves = _two_curves(data, "loss")
    figure = _picture(theme, 7, 4.2)
    axes = figure.subplots()
    _loss_axes(axes, theme, curves, title)
    words = [_in_words("Loss", curves, _number, np.nanargmin)]
    if curves[0].last:
        axes.set_ylabel("loss", color=theme.ink)
    if len(curves) == 2 and curves[1].last:
        words += _mark_best(axes, theme, *curves)
    return _described(figure, f"{title}, {_epochs(len(curves[0].values))}.", *words)


def _mark_best(axes: Axes, theme: Theme, training: _Curve, validation: _Curve) -> list[str]:
    """Shade the gap between the curves and mark the lowest validation loss; returns the same in words."""
    epoch, loss = validation.best(np.nanargmin)
    both = np.isin(training.epochs, validation.epochs)
    if both.sum() == len(validation.epochs):
        axes.fill_between(validation.epochs, training.values[both], validation.values, color=theme.tint(1), linewidth=0)
    axes.axvline(epoch, color=theme.line, linewidth=1, linestyle=(0, (2, 3)), zorder=0.9)
    axes.set_xlabel(f"epoch (dotted: lowest validation loss, epoch {epoch:.0f})", color=theme.ink)
    after = validation.last[0] - epoch if validation.last else 0
    return [f"The lowest validation loss, {_number(loss)}, is in epoch {epoch:.0f}, {after:.0f} before the last."]


# ---- models ----------------------------------------------------------------------------------------------------------


def _rows_of(model: object) -> tuple[Row, ...]:
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


def params_of(model: object) -> int | None:
    """Parameters of a network, of a result that has `params`, or of a whole number; None where it is only a name.

    >>> params_of(61_706), params_of("LeNet-5")
    (61706, None)
    """
    if isinstance(model, (str, type(None))):
        return None
    if isinstance(model, (int, np.integer)) and not isinstance(model, bool):
        return _whole(int(model))
    if hasattr(model, "count_params"):
        return _count_params(model)
    if isinstance(getattr(model, "params", None), int):
        return int(model.params)  # type: ignore[attr-defined]
    return sum(row.params for row in _rows_of(model))


def _whole(params: int) -> int:
    if params < 0:
        raise InputError(f"a number of parameters is 0 or more; {params} came")
    return params


def _count_params(model: Any) -> int:
    try:
        return int(model.count_params())
    except ValueError as error:
        raise InputError(
            f"the model {model.name!r} is not built, so its parameters are unknown; give it an Input or call build()"
        ) from error


def _names_of(models: Sequence[object], names: Sequence[str] | None) -> list[str]:
    """The given names, or each model's own, or A, B, C …; raises InputError where there are too few or too many."""
    if names is not None and len(names) != len(models):
        raise InputError(f"{len(models)} models need {len(models)} names; {len(names)} came")
    if names is not None:
        return [str(name) for name in names]
    own = [model if isinstance(model, str) else getattr(model, "name", None) for model in models]
    return [str(name or f"model {chr(65 + i % 26)}") for i, name in enumerate(own)]


def _listed(many: Any) -> tuple[list[Any], list[str] | None]:
    """The values and, from a dict, the names."""
    return (list(many.values()), [str(name) for name in many]) if isinstance(many, Mapping) else (list(many), None)


def _paired(models: Any, histories: Any) -> tuple[list[Any], list[Any], list[str]]:
    """Models, histories and names of equal number; raises InputError where the numbers differ."""
    nets, net_names = _listed(models)
    runs, run_names = _listed(histories)
    if len(nets) != len(runs):
        raise InputError(f"each model needs its history; {len(nets)} models and {len(runs)} histories came")
    if net_names and run_names and set(net_names) == set(run_names):
        runs = [histories[name] for name in models]
    return nets, runs, _names_of(nets, net_names or run_names)


def _metric(names: Sequence[str], data: Sequence[Mapping[str, object]], metric: str) -> tuple[str, list[_Curve]]:
    """What is drawn, and a curve for each history: its validation values where it has any, else those of training."""
    kinds, curves = set(), []
    for name, history in zip(names, data, strict=True):
        key = "loss" if metric == "loss" else _accuracy_name(history) or metric
        validation = _curve(history, f"val_{key}", name)
        kinds.add("validation" if validation.last else "training")
        curves.append(validation if validation.last else _curve(history, key, name))
    return f"{' or '.join(sorted(kinds, reverse=True))} {metric}".strip(), curves


def _comparable_params(models: Sequence[object], histories: Sequence[object]) -> list[int]:
    """The parameters of every model (or of its training result); an empty list where one is unknown."""
    pairs = zip(models, histories, strict=True)
    found = [params_of(m) if not isinstance(m, str) else getattr(h, "params", None) for m, h in pairs]
    counts = [count for count in found if isinstance(count, int)]
    return counts if len(counts) == len(found) else []


def compare_models(
    models: Sequence[object] | Mapping[str, object],
    histories: Sequence[object] | Mapping[str, object],
    title: str = "Comparison",
    *,
    style: Style = "auto",
) -> Figure:
    """Accuracy and loss of several models by epoch (on validation data where there are any), and their parameters.

    A model is a name, a Keras model, an Architecture, rows or a number of parameters; parameters are drawn where all
    are known. Either argument may be a dict by name. Raises InputError where there are more of one than of the other.
    """
    theme = theme_of(style)
    nets, runs, names = _paired(models, histories)
    data = [_history(run) for run in runs]
    counts = _comparable_params(nets, runs)
    figure = _picture(theme, 15 if counts else 11, 4.0)
    _heading(figure, theme, title)
    panels = figure.subplots(1, 3 if counts else 2)
    accuracy, accuracies = _metric(names, data, "accuracy")
    loss, losses = _metric(names, data, "loss")
    _accuracy_axes(panels[0], theme, accuracies, accuracy)
    _loss_axes(panels[1], theme, losses, loss)
    if counts:
        _dress(panels[2], theme, "parameters")
        _draw_bars(panels[2], theme, names, counts, "{:,}".format, theme.marks(len(names)))
    return _described(
        figure,
        f"{title} of {len(names)} models: {', '.join(names)}.",
        _in_words(accuracy.capitalize(), accuracies, _percent, np.nanargmax),
        _in_words(loss.capitalize(), losses, _number, np.nanargmin),
        _listing("Parameters", zip(names, counts, strict=True), "{:,}".format) if counts else "",
    )


# ---- bars ------------------------------------------------------------------------------------------------------------


def _draw_bars(
    axes: Axes,
    theme: Theme,
    names: Sequence[str],
    values: Sequence[float],
    show: Callable[[Any], str],
    colours: Sequence[str],
) -> None:
    """Horizontal bars from the top down, each in its colour and with its value behind it."""
    places = np.arange(len(values))
    bars = axes.barh(places, values, height=0.66, color=colours)
    axes.bar_label(bars, [show(value) for value in values], padding=4, color=theme.ink, fontsize=9)
    _name_bars(axes, names, places)
    axes.set_xlim(0, (max(values) or 1) / 0.72)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _draw_dots(
    axes: Axes,
    theme: Theme,
    names: Sequence[str],
    values: Sequence[float],
    show: Callable[[Any], str],
    colours: Sequence[str],
) -> None:
    """Dots on a logarithmic axis for values of very different size, where the length of a bar would mean nothing."""
    places = np.arange(len(values))
    axes.set_xscale("log")
    for place, value, colour in zip(places, values, colours, strict=True):
        axes.plot([value], [place], marker=MARKERS[place % len(MARKERS)], color=colour, markersize=9, linestyle="none")
        axes.annotate(
            show(value), (value, place), (9, 0), textcoords="offset points", va="center", color=theme.ink, fontsize=9
        )
    _name_bars(axes, names, places)
    axes.set_xlim(min(values) / 2, max(values) * (max(values) / min(values)) ** 0.35)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: readable_count(round(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="both", color=theme.faint, linewidth=0.8)
    axes.set_xlabel("logarithmic scale", color=theme.ink)


def _name_bars(axes: Axes, names: Sequence[str], places: NDArray[Any]) -> None:
    axes.set_yticks(places, [_printable(name, 28) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _listing(what: str, items: Iterable[tuple[str, Any]], show: Callable[[Any], str]) -> str:
    return f"{what}: {', '.join(f'{name} {show(value)}' for name, value in items)}."


def plot_parameter_comparison(
    models: Sequence[object] | Mapping[str, object],
    names: Sequence[str] | None = None,
    title: str = "Parameters",
    *,
    style: Style = "auto",
) -> Figure:
    """Parameters of several models: bars, or dots on a logarithmic axis where the largest has 100 times the smallest.

    A model is a Keras model, an Architecture, rows or a number of parameters; a dict names them too. Raises InputError
    for names of another number than the models, and for a model whose parameters are unknown.
    """
    theme = theme_of(style)
    nets, own = _listed(models)
    names = _names_of(nets, names if names is not None else own)
    counts = [count for count in map(params_of, nets) if count is not None]
    if len(counts) != len(nets):
        raise InputError("a name alone has no parameters to compare; give networks, or numbers of parameters")
    figure = _picture(theme, 7.5, 1.2 + 0.36 * max(2, len(nets)))
    axes = figure.subplots()
    _dress(axes, theme, title)
    if not counts:
        _say(axes, theme, "no models yet")
    else:
        draw = _draw_dots if max(counts) > 100 * min(counts) > 0 else _draw_bars
        draw(axes, theme, names, counts, "{:,}".format, theme.marks(len(counts)))
    return _described(
        figure,
        _listing(title, zip(names, counts, strict=True), "{:,}".format) if counts else f"{title}: no models yet.",
    )


def _shares(accuracies: Mapping[str, float | None]) -> dict[str, float]:
    """Names and accuracies, None as NaN; raises InputError where one is no share."""
    if not isinstance(accuracies, Mapping):
        raise InputError(f"accuracies are a dict such as {{'cat': 0.93}}; {type(accuracies).__name__} came")
    return {str(name): _share(str(name), value) for name, value in accuracies.items()}


def _share(name: str, value: object) -> float:
    try:
        share = math.nan if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        share = math.inf
    if not (math.isnan(share) or 0 <= share <= 1):
        raise InputError(f"the accuracy of {name!r} must be a share between 0 and 1; {value!r} came")
    return share


def per_class_bar(
    accuracy_dict: Mapping[str, float | None],
    title: str = "Accuracy by class",
    *,
    most: int = 120,
    style: Style = "auto",
) -> Figure:
    """Accuracy of each class, the worst first, in columns of at most 40; of many classes the `most` worst.

    None and NaN stand for a class without test images. Raises InputError where a value is no share between 0 and 1.
    """
    theme = theme_of(style)
    require_whole("most", most)
    shares = sorted(_shares(accuracy_dict).items(), key=lambda item: (math.isnan(item[1]), item[1]))
    known = [value for _, value in shares if not math.isnan(value)]
    drawn = shares[:most]
    columns = max(1, math.ceil(len(drawn) / 40))
    each = math.ceil(len(drawn) / columns)
    figure = _picture(theme, 3 + 3.6 * columns, 1.3 + 0.23 * max(3, each))
    mean = float(np.mean(known)) if known else math.nan
    told = f"mean {_percent(mean)}" if known else "no test images yet"
    only = f", the {len(drawn)} worst of {len(shares)} classes" if len(drawn) < len(shares) else ""
    _heading(figure, theme, f"{title} ({told}{only})")
    for index, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        _class_axes(axes, theme, drawn[index * each : (index + 1) * each], mean, each)
    extremes = _extremes([item for item in shares if not math.isnan(item[1])])
    return _described(figure, f"{title}, {len(shares)} classes, {told}.", extremes)


def _class_axes(axes: Axes, theme: Theme, shares: Sequence[tuple[str, float]], mean: float, places: int) -> None:
    """One column of classes with room for `places`, their accuracies at the right, a dotted line at the mean of all."""
    _dress(axes, theme)
    if not shares:
        _say(axes, theme, "no classes yet")
        return
    names, values = zip(*shares, strict=True)
    _draw_bars(axes, theme, names, np.nan_to_num(values), lambda _: "", [theme.mark(0)] * len(values))
    for place, value in enumerate(values):
        words = "no images" if math.isnan(value) else _percent(value)
        axes.text(1.02, place, words, color=theme.ink, fontsize=9, va="center")
    axes.set(xlim=(0, 1.2), ylim=(places - 0.4, -0.6))
    if not math.isnan(mean):
        axes.axvline(mean, color=theme.ink, linewidth=1, linestyle=":")


def _extremes(shares: Sequence[tuple[str, float]]) -> str:
    """The three worst and the three best classes, or all of up to ten, in words."""
    if not shares:
        return ""
    if len(shares) <= 10:
        return _listing("Worst first", shares, _percent)
    return f"{_listing('Worst', shares[:3], _percent)} {_listing('Best', shares[:-4:-1], _percent)}"


def plot_layer_costs(
    model: object,
    largest: int = 12,
    title: str = "",
    *,
    batch: int = 1,
    dtype: str = "float32",
    style: Style = "auto",
) -> Figure:
    """Where parameters and memory go: the layers with the most parameters and those with the largest outputs.

    Each side shows its `largest` layers and, as one bar, all the others. Memory is that of the outputs for `batch`
    images of `dtype`; 1 MB is 10^6 bytes. Raises InputError for something that is no network.
    """
    theme, rows = theme_of(style), _rows_of(model)
    require_whole("largest", largest)
    require_whole("batch", batch)
    params = [(row.name, row.params) for row in rows]
    memory = [(row.name, row.activation_bytes(batch, dtype)) for row in rows]
    sides = [_largest(params, largest), _largest(memory, largest)]
    figure = _picture(theme, 12, 1.2 + 0.26 * max(4, *map(len, sides)))
    _heading(figure, theme, title)
    titles = "parameters", f"memory of outputs ({batch} image{'s' * (batch != 1)}, {dtype})"
    words = [
        _cost_axes(axes, theme, what, side, largest, show)
        for axes, what, side, show in zip(
            figure.subplots(1, 2), titles, sides, ("{:,}".format, readable_bytes), strict=True
        )
    ]
    name = title or getattr(model, "name", "") or "The network"
    return _described(figure, f"{name}: {len(rows)} layers, {sum(count for _, count in params):,} parameters.", *words)


def plot_memory_parts(
    parts: Mapping[str, int], title: str = "Memory of one training step", *, style: Style = "auto"
) -> Figure:
    """Where the bytes of a training step go: the dict that `costs.memory_parts` returns, as bars; 1 MB is 10^6 bytes.

    Raises InputError for an empty dict and for negative bytes.
    """
    theme = theme_of(style)
    if not parts or min(parts.values()) < 0:
        raise InputError(f"parts of memory are a dict such as {{'weights': 4000}}, bytes of 0 or more; {parts!r} came")
    figure = _picture(theme, 7.5, 1.1 + 0.36 * max(2, len(parts)))
    words = _cost_axes(figure.subplots(), theme, title, list(parts.items()), len(parts), readable_bytes)
    return _described(figure, words)


def _largest(items: Sequence[tuple[str, int]], largest: int) -> list[tuple[str, int]]:
    """The largest items, largest first, then the sum of the other ones that are not 0.

    >>> _largest([("a", 1), ("b", 5), ("c", 2), ("d", 0)], 1)
    [('b', 5), ('2 others', 3)]
    """
    ranked = sorted((item for item in items if item[1]), key=lambda item: -item[1])
    rest = ranked[largest:]
    return ranked[:largest] + [(f"{len(rest)} others", sum(value for _, value in rest))] * bool(rest)


def _cost_axes(
    axes: Axes, theme: Theme, what: str, items: Sequence[tuple[str, int]], largest: int, show: Callable[[Any], str]
) -> str:
    """Bars with their share of the total, what is beyond the `largest` in grey; returns the same in words."""
    total = sum(value for _, value in items)
    _dress(axes, theme, f"{what}: {show(total)}")
    if not items:
        _say(axes, theme, f"no {what}")
        return f"No {what}."
    names, values = zip(*items, strict=True)
    colours = [theme.mark(0)] * min(largest, len(items)) + [theme.line] * (len(items) > largest)
    _draw_bars(axes, theme, names, values, lambda value: f"{show(value)} ({value / (total or 1):.0%})", colours)
    return _listing(f"{what.capitalize()}, {show(total)} in all", items, show)


# ---- confusion matrices ----------------------------------------------------------------------------------------------


def _matrix(cm: ArrayLike, class_names: Sequence[object] | None) -> tuple[Floats, list[str]]:
    """The matrix and its names; raises InputError where it is not square, not counts, or has not as many names."""
    try:
        matrix = np.asarray(cm, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            "a confusion matrix is a square table of numbers: true classes down, predicted classes across"
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"a confusion matrix is square, one row and one column a class; the shape {matrix.shape} came")
    if not np.all(np.isfinite(matrix)) or matrix.min() < 0:
        raise InputError("a confusion matrix holds counts, 0 or more; a negative number, NaN or infinity came")
    names = [str(i) for i in range(len(matrix))] if class_names is None else [str(name) for name in class_names]
    if len(names) != len(matrix):
        raise InputError(f"{len(matrix)} classes need {len(matrix)} names; {len(names)} came")
    return matrix, names


def row_shares(matrix: Floats) -> Floats:
    """Each row divided by its sum; a row of zeros stays zeros.

    >>> row_shares(np.array([[3.0, 1.0], [0.0, 0.0]])).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    sums = matrix.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(matrix, sums, out=np.zeros_like(matrix), where=sums > 0)
    return shares


def plot_confusion_matrix(
    cm: ArrayLike,
    class_names: Sequence[object] | None = None,
    title: str = "Confusion matrix",
    *,
    style: Style = "auto",
) -> Figure:
    """Counts of true class (down) and predicted class (across), each cell shaded by its share of the true class.

    The shade grows with the root of the share, so that rare mistakes show. Above 20 classes the numbers give way to a
    list of the most frequent mistakes. Raises InputError for a matrix that is not square or names of another number.
    """
    theme = theme_of(style)
    matrix, names = _matrix(cm, class_names)
    many = len(names) > 20
    side = min(7.5, max(3.2, 0.46 * len(names)))
    figure = _picture(theme, side + (6.2 if many else 2.6), side + (2.1 if many else 1.5))
    axes, *beside = figure.subplots(1, 2 if many else 1, squeeze=False, width_ratios=(3, 1.2) if many else None)[0]
    _dress(axes, theme, title)
    _draw_matrix(figure, axes, theme, row_shares(matrix), names, side / len(names))
    for axis in beside:
        _draw_mistakes(axis, theme, _mistakes(matrix, names)[:15])
    if not many:
        _write_counts(axes, theme, matrix)
    return _described(figure, f"{title}, {len(names)} classes.", *_matrix_words(matrix, names))


def _draw_matrix(figure: Picture, axes: Axes, theme: Theme, shares: Floats, names: Sequence[str], cell: float) -> None:
    """The shaded square of cells `cell` inches wide, with its names and its key."""
    image = axes.imshow(shares, cmap=_shades(theme), norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    places = range(0, len(names), math.ceil(len(names) / 40))
    labels = [_printable(names[i], 18) for i in places]
    size = 9 if len(names) <= 20 else 7
    upright = max(map(len, labels)) * 0.09 < cell
    axes.set_yticks(places, labels, fontsize=size, parse_math=False)
    axes.set_xticks(places, labels, fontsize=size, rotation=0 if upright else 90, parse_math=False)
    axes.set_xlabel("predicted class", color=theme.ink)
    axes.set_ylabel("true class", color=theme.ink)
    key = figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), ticks=[0, 0.01, 0.05, 0.25, 0.5, 1], shrink=0.8)
    key.ax.tick_params(colors=theme.ink, labelsize=8)
    key.set_label("share of the true class", color=theme.ink, fontsize=9)
    key.outline.set_visible(False)
    axes.set_anchor("N")


def _shades(theme: Theme) -> LinearSegmentedColormap:
    """From the background to the strong end."""
    return LinearSegmentedColormap.from_list("shares", [theme.background, theme.strong])


def _write_counts(axes: Axes, theme: Theme, matrix: Floats) -> None:
    """The count into each cell that is not 0, in black or white, whichever can be read on its shade."""
    shade, norm, shares = _shades(theme), PowerNorm(0.5, 0, 1), row_shares(matrix)
    size = 10 if len(matrix) <= 12 else 7
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            ground = to_hex(shade(norm(shares[row, column])))
            colour = max("#000000", "#ffffff", key=lambda c: contrast(c, ground))
            axes.text(column, row, f"{value:.4g}", ha="center", va="center", color=colour, fontsize=size)


def _draw_mistakes(axes: Axes, theme: Theme, mistakes: Sequence[tuple[str, str, str]]) -> None:
    """The list of mistakes: how often, true class → predicted class."""
    _dress(axes, theme, "most frequent mistakes")
    axes.set_axis_off()
    lines = [f"{count}: {_printable(true, 18)} → {_printable(guess, 18)}" for true, guess, count in mistakes]
    for index, line in enumerate(lines or ["none"]):
        axes.text(
            0,
            0.98 - index * 0.055,
            _printable(line),
            transform=axes.transAxes,
            color=theme.ink,
            fontsize=9,
            va="top",
            parse_math=False,
        )


def _mistakes(matrix: Floats, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(true class, predicted class, count) of the mistakes, most frequent first."""
    wrong = matrix * (1 - np.eye(len(matrix)))
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    cells = (np.unravel_index(flat, wrong.shape) for flat in order)
    return [(names[row], names[column], f"{wrong[row, column]:.4g}") for row, column in cells]


def _matrix_words(matrix: Floats, names: Sequence[str]) -> list[str]:
    """How many are right, and the most frequent mistakes."""
    total, right = matrix.sum(), np.trace(matrix)
    if not total:
        return ["It is empty."]
    mistakes = [f"{true} taken for {guess} {count}" for true, guess, count in _mistakes(matrix, names)[:5]]
    most = f"Most frequent mistakes: {', '.join(mistakes)}." if mistakes else "No mistakes."
    return [f"{right:.10g} of {total:.10g} right ({_percent(right / total)}).", most]


# ---- predictions -----------------------------------------------------------------------------------------------------

CELL, IMAGE, LINE = 2.1, 1.5, 0.3  # inches: width of a cell, side of its image, height of one answer


@dataclass(frozen=True)
class _Answers:
    """Checked predictions: pictures (n, h, w, 1 or 3) of 0 to 1, (n, classes) by model, labels, class names."""

    pictures: Floats
    models: Mapping[str, Floats]
    labels: Sequence[int] | None
    names: Sequence[str]

    def verdict(self, model: str, index: int) -> str:
        """The word over one model's answers for one picture."""
        if self.labels is None:
            return ""
        return "right" if int(np.argmax(self.models[model][index])) == self.labels[index] else "wrong"


def _pictures(images: ArrayLike) -> Floats:
    """Images as numbers from 0 to 1; raises InputError where they are none."""
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise InputError(
            f"images are (number, height, width) or (number, height, width, 1 or 3); the shape {array.shape} came"
        )
    top = 255.0 if array.dtype == np.uint8 or (array.size and array.max() > 1) else 1.0
    return np.clip(np.asarray(array, dtype=float) / top, 0, 1)


def _probabilities(values: ArrayLike, count: int) -> Floats:
    """(count, classes) of shares; raises InputError for another shape or for numbers that are no probabilities."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 2 or len(array) != count:
        raise InputError(
            f"probabilities for {count} images have the shape ({count}, classes); the shape {array.shape} came"
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1 + 1e-6):
        raise InputError("probabilities must lie between 0 and 1; apply softmax to the network's outputs first")
    return array


def _answers(images: ArrayLike, probabilities: Any, labels: Any, class_names: Sequence[object] | None) -> _Answers:
    """Everything checked; raises InputError where the parts do not fit each other."""
    pictures = _pictures(images)
    given = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    models = {str(name): _probabilities(values, len(pictures)) for name, values in given.items()}
    widths = {array.shape[1] for array in models.values()}
    if len(widths) != 1:
        raise InputError(f"all models must answer for the same classes; they have {sorted(widths)}")
    names = [str(name) for name in (range(widths.pop()) if class_names is None else class_names)]
    classes = next(iter(models.values())).shape[1]
    if len(names) != classes:
        raise InputError(f"{classes} classes need {classes} names; {len(names)} came")
    return _Answers(pictures, models, _labels(labels, len(pictures), classes), names)


def _labels(labels: Any, count: int, classes: int) -> list[int] | None:
    if labels is None:
        return None
    whole = [int(label) for label in np.asarray(labels).reshape(-1)]
    if len(whole) != count:
        raise InputError(f"{count} images need {count} labels; {len(whole)} came")
    if whole and not 0 <= min(whole) <= max(whole) < classes:
        raise InputError(f"labels are whole numbers from 0 to {classes - 1}; {min(whole)} to {max(whole)} came")
    return whole


def plot_predictions(
    images: ArrayLike,
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike | None = None,
    class_names: Sequence[object] | None = None,
    title: str = "Predictions",
    *,
    top: int = 3,
    columns: int = 6,
    most: int = 24,
    style: Style = "auto",
) -> Figure:
    """Images with the `top` answers of one model, or of several (a dict by name), and the true label where it is given.

    `images` are (n, h, w), (n, h, w, 1) or (n, h, w, 3), of 0 to 255 or 0 to 1; `probabilities` are (n, classes). The
    first `most` are drawn. Raises InputError where the shapes do not fit each other.
    """
    theme = theme_of(style)
    for what, number in (("top", top), ("columns", columns), ("most", most)):
        require_whole(what, number)
    answers = _answers(images, probabilities, labels, class_names)
    count = min(most, len(answers.pictures))
    across = max(1, min(columns, count))
    deep = math.ceil(count / across)
    top = min(top, len(answers.names))
    height = IMAGE + 0.5 + len(answers.models) * (0.25 + LINE * top)
    figure = _picture(theme, max(3.5, CELL * across), 0.5 + height * max(1, deep), layout=None)
    _heading(figure, theme, title)
    for index in range(count):
        left = (figure.get_figwidth() - CELL * across) / 2 + CELL * (index % across)
        above = figure.get_figheight() - 0.45 - height * (index // across)
        _draw_prediction(figure, theme, answers, index, (left, above), top)
    if not count:
        _say(figure.subplots(), theme, "no images yet")
    return _described(
        figure, f"{title} for {count} of {len(answers.pictures)} images.", *_prediction_words(answers, count)
    )


def _box(figure: Picture, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


def _draw_prediction(
    figure: Picture, theme: Theme, answers: _Answers, index: int, corner: tuple[float, float], top: int
) -> None:
    """One image, its true label over it and each model's answers under it."""
    left, above = corner
    axes = _box(figure, left + (CELL - IMAGE) / 2, above - IMAGE - 0.25, IMAGE, IMAGE)
    picture = answers.pictures[index]
    axes.imshow(
        picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set(xticks=(), yticks=())
    axes.spines[:].set_color(theme.line)
    if answers.labels is not None:
        name = answers.names[answers.labels[index]]
        axes.set_title(f"true: {_printable(name, 16)}", color=theme.ink, fontsize=9, pad=3, parse_math=False)
    bottom = above - IMAGE - 0.3
    for model in answers.models:
        bottom -= 0.25 + LINE * top
        _draw_answers(
            _box(figure, left + 0.2, bottom, CELL - 0.4, 0.22 + LINE * top), theme, answers, model, index, top
        )


def _draw_answers(axes: Axes, theme: Theme, answers: _Answers, model: str, index: int, top: int) -> None:
    """The `top` classes with a bar under each name, as long as its probability."""
    shares, verdict = answers.models[model][index], answers.verdict(model, index)
    order = np.argsort(-shares, kind="stable")[:top]
    series = 1 if verdict == "wrong" else 0
    axes.set(xlim=(0, 1), ylim=(top - 0.2, -0.95))
    axes.set_axis_off()
    places = np.arange(top) + 0.45
    axes.barh(places, np.ones(top), height=0.24, color=theme.faint)
    axes.barh(
        places,
        shares[order],
        height=0.24,
        color=theme.mark(series),
        hatch="////" * series,
        edgecolor=theme.background,
        linewidth=0,
    )
    heading = ": ".join(part for part in (_printable(model, 18), verdict) if part)
    axes.text(
        0, -0.6, heading, color=theme.text(series), fontsize=8.5, fontweight="bold", va="center", parse_math=False
    )
    for place, index_of_class in zip(places, order, strict=True):
        name = _printable(answers.names[index_of_class], 18)
        axes.text(0, place - 0.2, name, color=theme.ink, fontsize=8, va="bottom", parse_math=False)
        axes.text(1, place - 0.2, f"{shares[index_of_class]:.0%}", color=theme.ink, fontsize=8, va="bottom", ha="right")


def _prediction_words(answers: _Answers, count: int) -> list[str]:
    """For each model, how many are right; then each image's answer."""
    words = []
    for model, shares in answers.models.items():
        verdicts = [answers.verdict(model, i) for i in range(count)]
        if count and answers.labels is not None:
            words.append(f"{model or 'The model'}: {verdicts.count('right')} of {count} right.")
        best = [(answers.names[int(np.argmax(row))], float(row.max())) for row in shares[:count]]
        truths = [f" (true: {answers.names[answers.labels[i]]})" if answers.labels else "" for i in range(count)]
        words += [f"{i + 1}: {name} {share:.0%}{truths[i]}." for i, (name, share) in enumerate(best)]
    return words


# ---- the drawing of a network: from rows to blocks -------------------------------------------------------------------

# Layers without a shape of their own: written into the box of the layer before them.
ATTACHED = ("BatchNormalization", "Activation", "ReLU", "LeakyReLU", "PReLU", "Softmax", "Dropout")
FAMILIES = (("Conv", 0), ("Dense", 1), ("Pooling", 2), ("Attention", 3), ("Normalization", 4))
FOLD_ABOVE = 30  # boxes; larger networks show blocks that repeat once

# Inches. LETTER and BOLD are what a 7.5 point letter takes on the average of wide words.
LETTER, BOLD, ROW, PAD = 0.066, 0.071, 0.145, 0.14
ARROW, BUS, GAP, SIDE = 0.2, 0.14, 0.2, 0.22
MARGIN, HEADER, FOOTER, GUTTER, TALL = 0.25, 0.55, 0.4, 0.5, 8.5

Size = tuple[float, float]


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

    def draw(self, pen: Pen, x: float, y: float) -> None:
        """Draw the box centred at `x` from `y` down."""
        pen.box(x, y, self)


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
        edges = np.cumsum([0.0] + [width + GAP for width, _ in self.sizes])
        middles = [float(edge + width / 2) for edge, (width, _) in zip(edges, self.sizes, strict=False)]
        real = [i for i, path in enumerate(self.paths) if path]
        zero = middles[real[0]] if len(real) == 1 else (float(edges[-1]) - GAP) / 2
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

    def draw(self, pen: Pen, x: float, y: float) -> None:
        """Draw the paths side by side below `y`, with lines from and to the middle `x`, and the join under them."""
        end = y + self.depth
        for path, offset in zip(self.paths, self.centres, strict=True):
            at, top = x + offset, y + BUS + (ARROW if path else 0)
            pen.line((x, y), (x, y + BUS), (at, y + BUS), (at, top), arrow=bool(path))
            draw_chain(pen, path, at, top)
            pen.line((at, top + chain_size(path)[1]), (at, end - ARROW), (x, end - ARROW))
        if self.join:
            pen.line((x, end - ARROW), (x, end), arrow=True)
            self.join.draw(pen, x, end)


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

    def draw(self, pen: Pen, x: float, y: float) -> None:
        """Draw one of the chains in a dashed frame that says how often."""
        pen.frame(x, y, self.size, f"{len(self.chains)} ×")
        pen.line((x, y), (x, y + GAP), arrow=isinstance(self.chains[0][0], Box))
        draw_chain(pen, self.chains[0], x, y + GAP)
        pen.line((x, y + self.size[1] - GAP), (x, y + self.size[1]))


Item = Box | Fork | Repeat
Chain = tuple[Item, ...]
Edges = set[tuple[int, int]]


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
    return _fold(chain) if _boxes(chain) > FOLD_ABOVE else chain


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


def _boxes(chain: Chain) -> int:
    """How many boxes are drawn."""
    return sum(_boxes_of(item) for item in chain)


def _boxes_of(item: Item) -> int:
    if isinstance(item, Fork):
        return sum(map(_boxes, item.paths)) + (item.join is not None)
    return _boxes(item.chains[0]) if isinstance(item, Repeat) else 1


def _fold(chain: Chain) -> Chain:
    """The chain with repeated parts drawn once, where that saves two boxes or more."""
    inner = [Fork(tuple(map(_fold, item.paths)), item.join) if isinstance(item, Fork) else item for item in chain]
    kinds, done, at = [item.kind for item in inner], list[Item](), 0
    while at < len(inner):
        period, times = _longest_repeat(kinds[at:])
        parts = tuple(tuple(inner[at + i * period : at + (i + 1) * period]) for i in range(times))
        worth = (times - 1) * _boxes(parts[0]) >= 2
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


# ---- the drawing of a network: from blocks to lines ------------------------------------------------------------------


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
            x, y, _printable(text), ha=align, va="center", fontsize=size, fontweight="bold" if bold else "normal",
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


def _space_before(item: Item) -> float:
    """Room for the line into an item that is not the first of its chain."""
    return 0.0 if isinstance(item, Fork) else ARROW


def chain_size(chain: Chain) -> Size:
    """Width and height of a chain in inches."""
    if not chain:
        return 0.0, 0.0
    sizes = [item.size for item in chain]
    return max(width for width, _ in sizes), sum(h for _, h in sizes) + sum(map(_space_before, chain[1:]))


def draw_chain(pen: Pen, chain: Chain, x: float, y: float) -> None:
    """Draw the items one under the other, centred at `x` from `y` down."""
    for index, item in enumerate(chain):
        space = _space_before(item) if index else 0.0
        if space:
            pen.line((x, y), (x, y + space), arrow=isinstance(item, Box))
        item.draw(pen, x, y + space)
        y += space + item.size[1]


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
        filled += _space_before(item) + item.size[1]
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
    if _boxes(chain) > 100:
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
    theme, rows = theme_of(style), _rows_of(model)
    chain = blocks_of(rows)
    name = title or getattr(model, "name", "") or "network"
    columns = in_columns(chain)
    width, height = _page_size(columns)
    figure = _picture(theme, width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    pen = Pen(axes, theme)
    _draw_columns(pen, columns, width)
    heading = f"{_printable(name, int(width / 0.12) - 25)}: {sum(row.params for row in rows):,} parameters"
    pen.write(MARGIN, 0.28, heading, bold=True, align="left", size=12)
    pen.write(
        MARGIN,
        height - 0.2,
        "each box: the layer, + what comes right after it, output shape · parameters",
        align="left",
    )
    pen.finish()
    _described(figure, *_drawing_words(name, rows, chain))
    if save_path is not None:
        save_figure(figure, save_path)
    return figure
