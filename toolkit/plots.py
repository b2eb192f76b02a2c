"""Figures from plain data: histories, comparisons, costs, confusion matrices and predictions.

Every function returns a `matplotlib.figure.Figure` of its own (see `figures` for styles and colours) with a description
in words (`alt_text`); no difference is told by colour alone. Histories are Keras History objects, our TrainResult,
dicts of lists, or groups of runs over seeds (`zoo_results`), whose curves are means with a band of one standard
deviation. `visualize_architecture` comes from `drawings`; figures of the zoo's results are in `zoo_plots`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from toolkit.arithmetic import require_whole
from toolkit.blocks import rows_from
from toolkit.curves import BANDS, MARKERS, Curve, draw_curves, percent, short_number, spread
from toolkit.drawings import visualize_architecture
from toolkit.errors import InputError
from toolkit.figures import (
    OKABE_ITO,
    Picture,
    Style,
    Theme,
    add_heading,
    alt_text,
    contrast,
    described,
    dress,
    mix,
    new_picture,
    printable,
    save_figure,
    say,
    theme_of,
)
from toolkit.pixel_scores import VOID, PixelScores, wide
from toolkit.show import readable_bytes, readable_count

__all__ = [
    "alt_text",
    "class_colours",
    "compare_models",
    "params_of",
    "per_class_bar",
    "plot_borders",
    "plot_confusion_matrix",
    "plot_explanations",
    "plot_history",
    "plot_layer_costs",
    "plot_learning_curve",
    "plot_memory_parts",
    "plot_memory_predictions",
    "plot_parameter_comparison",
    "plot_photo_groups",
    "plot_predictions",
    "plot_segmentation",
    "plot_streaming",
    "row_shares",
    "save_figure",
    "spread",
    "visualize_architecture",
]

Floats = NDArray[np.float64]

HATCHES = ("", "////", "....")
ACCURACY_NAMES = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy")


# Histories.


class _History(dict[str, object]):
    """Lists by name, and under the same names the standard deviations over seeds of those that are means."""

    deviations: Mapping[str, object] = {}


def _history(history: object) -> _History:
    """The lists in a Keras History, a TrainResult, a group or a dict; raises InputError for anything else."""
    inner = getattr(history, "history", history)
    if not isinstance(inner, Mapping):
        raise InputError(
            "a history is a Keras History, a training result or a dict such as {'loss': [0.9, 0.5]}; "
            f"{type(history).__name__} came"
        )
    if inner and "loss" not in inner:
        raise InputError(f"a history needs the key 'loss'; this one has {', '.join(map(repr, inner))}")
    found = _History(inner)
    found.deviations = getattr(history, "deviations", {})
    return found


def _values(history: Mapping[str, object], key: str) -> Floats:
    """One value an epoch, NaN for None and infinities; raises InputError where `history[key]` is no list of numbers."""
    raw = history.get(key, ())
    try:
        values = np.array([math.nan if v is None else float(v) for v in raw])  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InputError(f"history[{key!r}] must be a list of numbers, one an epoch; {raw!r} came") from None
    return np.where(np.isfinite(values), values, math.nan)


def _curve(history: _History, key: str, label: str) -> Curve:
    """The curve under `key`; a list k times shorter than the loss has every k-th epoch (Keras's `validation_freq`)."""
    values, epochs = _values(history, key), len(_values(history, "loss"))
    step = max(1, epochs // max(1, len(values)))
    step = step if len(values) * step <= epochs < (len(values) + 1) * step else 1
    deviations = _values(history.deviations, key) if key in history.deviations else None
    return Curve(label, step * np.arange(1.0, len(values) + 1), values, deviations)


def _accuracy_name(history: Mapping[str, object]) -> str | None:
    named = [key for key in ACCURACY_NAMES if key in history]
    ending = [key for key in history if key.endswith("accuracy") and not key.startswith("val_")]
    return next(iter(named + ending), None)


def _two_curves(history: _History, key: str) -> list[Curve]:
    """Training and, where the history has it, validation."""
    curves = [_curve(history, key, "training")]
    return curves + [_curve(history, f"val_{key}", "validation")] * (f"val_{key}" in history)


def _loss_axes(axes: Axes, theme: Theme, curves: Sequence[Curve], title: str = "loss") -> None:
    dress(axes, theme, title)
    draw_curves(axes, theme, curves, short_number)


def _accuracy_axes(axes: Axes, theme: Theme, curves: Sequence[Curve], title: str = "accuracy") -> None:
    dress(axes, theme, title)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    draw_curves(axes, theme, curves, percent)


def _in_words(what: str, curves: Sequence[Curve], show: Callable[[float], str], pick: Callable[[Floats], Any]) -> str:
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
            f"({best_is} {show(best)} in epoch {epoch:.0f}{_seeds_in_words(curve, show)})"
        )
    return f"{what}: {'; '.join(parts)}."


def _seeds_in_words(curve: Curve, show: Callable[[float], str]) -> str:
    """How far the last value varies over seeds."""
    if curve.deviations is None or not curve.last:
        return ""
    return f"; standard deviation over seeds {show(float(curve.deviations[~np.isnan(curve.values)][-1]))} at the end"


def _epochs(count: int) -> str:
    return "no epochs yet" if count == 0 else f"{count} epoch{'s' * (count != 1)}"


def plot_history(history: object, title: str = "Training history", *, style: Style = "auto") -> Figure:
    """Loss and, where the history has one, accuracy by epoch: training and validation side by side.

    Missing values (None, NaN, infinities) leave a gap. Raises InputError for a history without the key 'loss'.
    """
    theme, data = theme_of(style), _history(history)
    accuracy = _accuracy_name(data)
    figure = new_picture(theme, 11 if accuracy else 6.5, 3.8)
    add_heading(figure, theme, title)
    panels = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    losses = _two_curves(data, "loss")
    _loss_axes(panels[0], theme, losses)
    words = [_in_words("Loss", losses, short_number, np.nanargmin)]
    if accuracy:
        accuracies = _two_curves(data, accuracy)
        _accuracy_axes(panels[1], theme, accuracies)
        words.append(_in_words("Accuracy", accuracies, percent, np.nanargmax))
    return described(figure, f"{title}, {_epochs(len(losses[0].values))}.", *words)


def plot_learning_curve(history: object, title: str = "Learning curve", *, style: Style = "auto") -> Figure:
    """Training and validation loss in one picture, the gap between them shaded and the best epoch marked.

    The best epoch is the one with the lowest validation loss: training on after it is overfitting. Raises InputError
    for a history without the key 'loss'.
    """
    theme, data = theme_of(style), _history(history)
    curves = _two_curves(data, "loss")
    figure = new_picture(theme, 7, 4.2)
    axes = figure.subplots()
    _loss_axes(axes, theme, curves, title)
    words = [_in_words("Loss", curves, short_number, np.nanargmin)]
    if curves[0].last:
        axes.set_ylabel("loss", color=theme.ink)
    if len(curves) == 2 and curves[1].last:
        words += _mark_best(axes, theme, *curves)
    return described(figure, f"{title}, {_epochs(len(curves[0].values))}.", *words)


def _mark_best(axes: Axes, theme: Theme, training: Curve, validation: Curve) -> list[str]:
    """Shade the gap between the curves and mark the lowest validation loss; returns the same in words."""
    epoch, loss = validation.best(np.nanargmin)
    both = np.isin(training.epochs, validation.epochs)
    if both.sum() == len(validation.epochs):
        axes.fill_between(validation.epochs, training.values[both], validation.values, color=theme.tint(1), linewidth=0)
    axes.axvline(epoch, color=theme.line, linewidth=1, linestyle=(0, (2, 3)), zorder=0.9)
    bands = "" if validation.deviations is None else BANDS
    axes.set_xlabel(f"epoch (dotted: lowest validation loss, epoch {epoch:.0f}){bands}", color=theme.ink)
    after = validation.last[0] - epoch if validation.last else 0
    return [f"The lowest validation loss, {short_number(loss)}, is in epoch {epoch:.0f}, {after:.0f} before the last."]


# Models.


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
    return sum(row.params for row in rows_from(model))


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


def _metric(names: Sequence[str], data: Sequence[_History], metric: str) -> tuple[str, list[Curve]]:
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
    figure = new_picture(theme, 15 if counts else 11, 4.0)
    add_heading(figure, theme, title)
    panels = figure.subplots(1, 3 if counts else 2)
    accuracy, accuracies = _metric(names, data, "accuracy")
    loss, losses = _metric(names, data, "loss")
    _accuracy_axes(panels[0], theme, accuracies, accuracy)
    _loss_axes(panels[1], theme, losses, loss)
    if counts:
        dress(panels[2], theme, "parameters")
        _draw_bars(panels[2], theme, names, counts, "{:,}".format, theme.marks(len(names)))
    return described(
        figure,
        f"{title} of {len(names)} models: {', '.join(names)}.",
        _in_words(accuracy.capitalize(), accuracies, percent, np.nanargmax),
        _in_words(loss.capitalize(), losses, short_number, np.nanargmin),
        _listing("Parameters", zip(names, counts, strict=True), "{:,}".format) if counts else "",
    )


# Bars.


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
    axes.set_yticks(places, [printable(name, 28) for name in names], parse_math=False)
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
    figure = new_picture(theme, 7.5, 1.2 + 0.36 * max(2, len(nets)))
    axes = figure.subplots()
    dress(axes, theme, title)
    if not counts:
        say(axes, theme, "no models yet")
    else:
        draw = _draw_dots if max(counts) > 100 * min(counts) > 0 else _draw_bars
        draw(axes, theme, names, counts, "{:,}".format, theme.marks(len(counts)))
    return described(
        figure,
        _listing(title, zip(names, counts, strict=True), "{:,}".format) if counts else f"{title}: no models yet.",
    )


def _shares(accuracies: object) -> dict[str, float]:
    """Names and accuracies, None as NaN; raises InputError where one is no share."""
    accuracies = getattr(accuracies, "per_class_accuracy", accuracies)
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
    accuracy_dict: Mapping[str, float | None] | object,
    title: str = "Accuracy by class",
    *,
    most: int = 120,
    style: Style = "auto",
) -> Figure:
    """Accuracy of each class, the worst first, in columns of at most 40; of many classes the `most` worst.

    A training result or a group of runs, whose standard deviations over seeds are drawn too, may come in place of the
    dict. None and NaN stand for a class without test images. Raises InputError where a value is no share from 0 to 1.
    """
    theme = theme_of(style)
    require_whole("most", most)
    shares = sorted(_shares(accuracy_dict).items(), key=lambda item: (math.isnan(item[1]), item[1]))
    known = [value for _, value in shares if not math.isnan(value)]
    drawn = shares[:most]
    columns = max(1, math.ceil(len(drawn) / 40))
    each = math.ceil(len(drawn) / columns)
    figure = new_picture(theme, 3 + 3.6 * columns, 1.3 + 0.23 * max(3, each))
    mean = float(np.mean(known)) if known else math.nan
    told = f"mean {percent(mean)}" if known else "no test images yet"
    only = f", the {len(drawn)} worst of {len(shares)} classes" if len(drawn) < len(shares) else ""
    add_heading(figure, theme, f"{title} ({told}{only})")
    for index, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        column = drawn[index * each : (index + 1) * each]
        _class_axes(axes, theme, column, mean, each)
        _class_errors(axes, theme, column, getattr(accuracy_dict, "per_class_deviations", {}))
    extremes = _extremes([item for item in shares if not math.isnan(item[1])])
    return described(figure, f"{title}, {len(shares)} classes, {told}.", extremes)


def _class_axes(axes: Axes, theme: Theme, shares: Sequence[tuple[str, float]], mean: float, places: int) -> None:
    """One column of classes with room for `places`, their accuracies at the right, a dotted line at the mean of all."""
    dress(axes, theme)
    if not shares:
        say(axes, theme, "no classes yet")
        return
    names, values = zip(*shares, strict=True)
    _draw_bars(axes, theme, names, np.nan_to_num(values), lambda _: "", [theme.mark(0)] * len(values))
    for place, value in enumerate(values):
        words = "no images" if math.isnan(value) else percent(value)
        axes.text(1.02, place, words, color=theme.ink, fontsize=9, va="center")
    axes.set(xlim=(0, 1.2), ylim=(places - 0.4, -0.6))
    if not math.isnan(mean):
        axes.axvline(mean, color=theme.ink, linewidth=1, linestyle=":")


def _class_errors(
    axes: Axes, theme: Theme, shares: Sequence[tuple[str, float]], deviations: Mapping[str, float]
) -> None:
    """A line of one standard deviation to each side of the end of every bar that has one."""
    known = [(place, share, deviations[name]) for place, (name, share) in enumerate(shares) if name in deviations]
    for place, share, deviation in known:
        axes.errorbar(share, place, xerr=deviation, fmt="none", ecolor=theme.ink, elinewidth=1.2, capsize=2.5)
    if known:
        axes.xaxis.set_visible(True)
        axes.set_xticks([])
        axes.set_xlabel("lines: ± 1 standard deviation over seeds", color=theme.ink, fontsize=9)


def _extremes(shares: Sequence[tuple[str, float]]) -> str:
    """The three worst and the three best classes, or all of up to ten, in words."""
    if not shares:
        return ""
    if len(shares) <= 10:
        return _listing("Worst first", shares, percent)
    return f"{_listing('Worst', shares[:3], percent)} {_listing('Best', shares[:-4:-1], percent)}"


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
    theme, rows = theme_of(style), rows_from(model)
    require_whole("largest", largest)
    require_whole("batch", batch)
    params = [(row.name, row.params) for row in rows]
    memory = [(row.name, row.activation_bytes(batch, dtype)) for row in rows]
    sides = [_largest(params, largest), _largest(memory, largest)]
    figure = new_picture(theme, 12, 1.2 + 0.26 * max(4, *map(len, sides)))
    add_heading(figure, theme, title)
    titles = "parameters", f"memory of outputs ({batch} image{'s' * (batch != 1)}, {dtype})"
    words = [
        _cost_axes(axes, theme, what, side, largest, show)
        for axes, what, side, show in zip(
            figure.subplots(1, 2), titles, sides, ("{:,}".format, readable_bytes), strict=True
        )
    ]
    name = title or getattr(model, "name", "") or "The network"
    return described(figure, f"{name}: {len(rows)} layers, {sum(count for _, count in params):,} parameters.", *words)


def plot_memory_parts(
    parts: Mapping[str, int], title: str = "Memory of one training step", *, style: Style = "auto"
) -> Figure:
    """Where the bytes of a training step go: the dict that `costs.memory_parts` returns, as bars; 1 MB is 10^6 bytes.

    Raises InputError for an empty dict and for negative bytes.
    """
    theme = theme_of(style)
    if not parts or min(parts.values()) < 0:
        raise InputError(f"parts of memory are a dict such as {{'weights': 4000}}, bytes of 0 or more; {parts!r} came")
    figure = new_picture(theme, 7.5, 1.1 + 0.36 * max(2, len(parts)))
    words = _cost_axes(figure.subplots(), theme, title, list(parts.items()), len(parts), readable_bytes)
    return described(figure, words)


def plot_memory_predictions(
    measured: Sequence[int],
    predictions: Mapping[str, Sequence[int]],
    title: str = "Predicted memory beside measured",
    *,
    style: Style = "auto",
) -> Figure:
    """Predicted bytes over measured bytes, both logarithmic, one mark a step and one kind of mark a way to predict.

    On the line both are the same; between the dashed lines the prediction is within 10 %. Raises InputError where a way
    has another number of predictions than there are measurements, or a number is not above 0.
    """
    theme = theme_of(style)
    for name, values in predictions.items():
        if len(values) != len(measured):
            raise InputError(
                f"{len(measured)} measurements need {len(measured)} predictions; {name!r} has {len(values)}"
            )
    if not all(value > 0 for values in (measured, *predictions.values()) for value in values):
        raise InputError("bytes on a logarithmic axis are above 0; leave out the steps that were not measured")
    figure = new_picture(theme, 7.5, 5.5)
    axes = figure.subplots()
    dress(axes, theme, title)
    if not measured:
        say(axes, theme, "no measurements yet")
        return described(figure, f"{title}: no measurements yet.")
    ends = np.array([min(measured) / 1.25, max(measured) * 1.25])
    for factor, dashes in ((1.0, "-"), (0.9, ":"), (1.1, ":")):
        axes.plot(ends, factor * ends, color=theme.line, linestyle=dashes, linewidth=1)
    for index, (name, values) in enumerate(predictions.items()):
        axes.plot(
            measured, values, label=printable(name, 28), color=theme.mark(index), linestyle="none",
            marker=MARKERS[index % len(MARKERS)], markersize=6,
        )  # fmt: skip
    _byte_axes(axes, theme)
    words = [_ratio_words(measured, name, values) for name, values in predictions.items()]
    return described(figure, f"{title}: {len(measured)} steps.", *words)


def _byte_axes(axes: Axes, theme: Theme) -> None:
    """Measured across and predicted up, in bytes on logarithmic axes, and the key."""
    axes.set(xscale="log", yscale="log")
    for axis, what in ((axes.xaxis, "measured"), (axes.yaxis, "predicted")):
        axis.set_label_text(what, color=theme.ink)
        axis.set_major_formatter(FuncFormatter(lambda value, _: readable_bytes(round(value))))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color=theme.faint, linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=theme.ink, fontsize=9)


def _ratio_words(measured: Sequence[int], name: str, values: Sequence[int]) -> str:
    """How one way of predicting did."""
    ratios = [value / real for value, real in zip(values, measured, strict=True)]
    within = sum(abs(ratio - 1) <= 0.1 for ratio in ratios)
    extent = f"from {min(ratios):.2g} to {max(ratios):.2g} times the measurement"
    return f"{name}: {within} of {len(ratios)} within 10%, {extent}."


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
    dress(axes, theme, f"{what}: {show(total)}")
    if not items:
        say(axes, theme, f"no {what}")
        return f"No {what}."
    names, values = zip(*items, strict=True)
    colours = [theme.mark(0)] * min(largest, len(items)) + [theme.line] * (len(items) > largest)
    _draw_bars(axes, theme, names, values, lambda value: f"{show(value)} ({value / (total or 1):.0%})", colours)
    return _listing(f"{what.capitalize()}, {show(total)} in all", items, show)


# Ways to load images.


def plot_streaming(
    speeds: Mapping[str, Mapping[int, float]],
    peaks: Mapping[str, int],
    title: str = "Training on streamed images",
    *,
    style: Style = "auto",
) -> Figure:
    """Images a second of each way to load them, a bar for each latency in ms, and beside it the memory that each takes.

    `speeds` has for each way the images a second by latency, `peaks` its bytes over the baseline. Raises InputError
    where the two name different ways, and for numbers below 0.
    """
    theme = theme_of(style)
    if list(speeds) != list(peaks):
        raise InputError(f"speeds and peaks name the same ways in the same order; {list(speeds)}, {list(peaks)} came")
    if not all(value >= 0 for value in (*peaks.values(), *(v for by in speeds.values() for v in by.values()))):
        raise InputError("speeds and bytes are 0 or more; leave out the ways that were not measured")
    latencies = sorted({latency for by_latency in speeds.values() for latency in by_latency})
    bars = sum(map(len, speeds.values()))
    figure = new_picture(theme, 11, 1.6 + 0.25 * max(4, bars) + 0.12 * len(speeds))
    add_heading(figure, theme, title)
    if not bars:
        say(figure.subplots(), theme, "no measurements yet")
        return described(figure, f"{title}: no measurements yet.")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_speeds(left, theme, speeds, latencies)
    _draw_peaks(right, theme, peaks, left)
    words = [
        _listing(
            f"{name}, images a second", [(f"at {ms} ms", value) for ms, value in sorted(by.items())], _whole_number
        )
        for name, by in speeds.items()
    ]
    return described(figure, f"{title}.", *words, _listing("Memory", list(peaks.items()), readable_bytes))


def _whole_number(value: float) -> str:
    return f"{value:,.0f}"


def _draw_speeds(axes: Axes, theme: Theme, speeds: Mapping[str, Mapping[int, float]], latencies: Sequence[int]) -> None:
    """A group of bars for each way, one for each latency, which differ in colour and in hatching."""
    dress(axes, theme, "images a second")
    tops = np.cumsum([0.0, *(len(by) + 0.8 for by in speeds.values())])
    for number, latency in enumerate(latencies):
        places, values = [], []
        for top, by in zip(tops, speeds.values(), strict=False):
            if latency in by:
                places.append(top + sorted(by).index(latency))
                values.append(by[latency])
        bars = axes.barh(
            places, values, height=0.86, color=theme.mark(number), label=f"answers after {latency} ms",
            hatch=HATCHES[number % len(HATCHES)], edgecolor=theme.background, linewidth=0,
        )  # fmt: skip
        axes.bar_label(bars, [_whole_number(value) for value in values], padding=4, color=theme.ink, fontsize=9)
    middles = [top + (len(by) - 1) / 2 for top, by in zip(tops, speeds.values(), strict=False)]
    _name_bars(axes, list(speeds), np.array(middles))
    axes.set_ylim(tops[-1] - 0.8, -0.8)
    axes.set_xlim(0, (max(value for by in speeds.values() for value in by.values()) or 1) / 0.85)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.01), ncols=3, frameon=False, labelcolor=theme.ink, fontsize=9,
    )  # fmt: skip


def _draw_peaks(axes: Axes, theme: Theme, peaks: Mapping[str, int], beside: Axes) -> None:
    """A bar for each way at the height of its group in the axes beside."""
    dress(axes, theme, "memory over the baseline")
    bars = axes.barh(beside.get_yticks(), list(peaks.values()), height=0.86, color=theme.line)
    axes.bar_label(bars, list(map(readable_bytes, peaks.values())), padding=4, color=theme.ink, fontsize=9)
    axes.set_yticks([])
    axes.set_ylim(beside.get_ylim())
    axes.set_xlim(0, (max(peaks.values()) or 1) / 0.72)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


# Confusion matrices.


def _matrix(cm: Any, class_names: Sequence[object] | None) -> tuple[Floats, list[str]]:
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
    cm: ArrayLike | object,
    class_names: Sequence[object] | None = None,
    title: str = "Confusion matrix",
    *,
    style: Style = "auto",
) -> Figure:
    """Counts of true class (down) and predicted class (across), each cell shaded by its share of the true class.

    A result with a `confusion` may come in place of the table; its own `class_names` count where none are given.
    The shade grows with the root of the share, so that rare mistakes show. Above 20 classes the numbers give way to a
    list of the most frequent mistakes. Raises InputError for a matrix that is not square or names of another number.
    """
    theme = theme_of(style)
    own = getattr(cm, "class_names", None) or None
    matrix, names = _matrix(getattr(cm, "confusion", cm), own if class_names is None else class_names)
    many = len(names) > 20
    side = min(7.5, max(3.2, 0.46 * len(names)))
    figure = new_picture(theme, side + (6.2 if many else 2.6), side + (2.1 if many else 1.5))
    axes, *beside = figure.subplots(1, 2 if many else 1, squeeze=False, width_ratios=(3, 1.2) if many else None)[0]
    dress(axes, theme, title)
    _draw_matrix(figure, axes, theme, row_shares(matrix), names, side / len(names))
    for axis in beside:
        _draw_mistakes(axis, theme, _mistakes(matrix, names)[:15])
    if not many:
        _write_counts(axes, theme, matrix)
    return described(figure, f"{title}, {len(names)} classes.", *_matrix_words(matrix, names))


def _draw_matrix(figure: Picture, axes: Axes, theme: Theme, shares: Floats, names: Sequence[str], cell: float) -> None:
    """The shaded square of cells `cell` inches wide, with its names and its key."""
    image = axes.imshow(shares, cmap=_shades(theme), norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    places = range(0, len(names), math.ceil(len(names) / 40))
    labels = [printable(names[i], 18) for i in places]
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
    dress(axes, theme, "most frequent mistakes")
    axes.set_axis_off()
    lines = [f"{count}: {printable(true, 18)} → {printable(guess, 18)}" for true, guess, count in mistakes]
    for index, line in enumerate(lines or ["none"]):
        axes.text(
            0,
            0.98 - index * 0.055,
            printable(line),
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
    return [f"{right:.10g} of {total:.10g} right ({percent(right / total)}).", most]


# Predictions.

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
    figure = new_picture(theme, max(3.5, CELL * across), 0.5 + height * max(1, deep), layout=None)
    add_heading(figure, theme, title)
    for index in range(count):
        left = (figure.get_figwidth() - CELL * across) / 2 + CELL * (index % across)
        above = figure.get_figheight() - 0.45 - height * (index // across)
        _draw_prediction(figure, theme, answers, index, (left, above), top)
    if not count:
        say(figure.subplots(), theme, "no images yet")
    return described(
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
        axes.set_title(f"true: {printable(name, 16)}", color=theme.ink, fontsize=9, pad=3, parse_math=False)
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
    heading = ": ".join(part for part in (printable(model, 18), verdict) if part)
    axes.text(
        0, -0.6, heading, color=theme.text(series), fontsize=8.5, fontweight="bold", va="center", parse_math=False
    )
    for place, index_of_class in zip(places, order, strict=True):
        name = printable(answers.names[index_of_class], 18)
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


# Labelled pixels.

TILE = 1.9  # inches: side of one picture


def class_colours(count: int) -> Floats:
    """Colours (count, 3) of 0 to 1 for classes; the first is grey, for what is no thing.

    The palette's six, then the same nearer to white and nearer to black, then these again.

    >>> class_colours(2).round(2).tolist()
    [[0.5, 0.5, 0.5], [0.0, 0.45, 0.7]]
    """
    shades = [mix(colour, end, share) for end, share in (("#ffffff", 0), ("#ffffff", 0.55), ("#000000", 0.45))
              for colour in OKABE_ITO]  # fmt: skip
    things = [to_rgb(shades[i % len(shades)]) for i in range(max(0, count - 1))]
    return np.array([(0.5, 0.5, 0.5), *things][:count])


def plot_segmentation(
    images: ArrayLike,
    masks: Mapping[str, ArrayLike],
    class_names: Sequence[object],
    title: str = "Labelled pixels",
    *,
    style: Style = "auto",
) -> Figure:
    """Images, and beside each its label maps by whoever made them: {"true": …, "fcn8s": …}, each (n, h, w).

    A class's colour lies over the picture, its name on its largest patch, and the key tells both; the first class,
    the background, is only darkened. `images` are (n, h, w, 3). Raises InputError where shapes or numbers do not fit.
    """
    theme = theme_of(style)
    pictures = _pictures(images)
    labelled = {str(name): _label_maps(labels, pictures, len(class_names)) for name, labels in masks.items()}
    names, colours = [printable(name, 18) for name in class_names], class_colours(len(class_names))
    deep, across = max(1, len(pictures)), 1 + len(labelled)
    shape = pictures.shape[1] / pictures.shape[2] if len(pictures) else 1.0
    figure = new_picture(theme, TILE * across + 1.9, (TILE * shape + 0.1) * deep + 0.9)
    add_heading(figure, theme, title)
    axes = figure.subplots(deep, across, squeeze=False)
    for row, picture in enumerate(pictures):
        _draw_labels(axes[row][0], theme, picture, None, names, colours)
        for column, labels in enumerate(labelled.values(), 1):
            _draw_labels(axes[row][column], theme, picture, labels[row], names, colours)
    for axis, heading in zip(axes[0], ("image", *labelled), strict=True):
        axis.set_title(printable(heading, 20), color=theme.ink, fontsize=10, parse_math=False)
    there = sorted({int(label) for labels in labelled.values() for label in np.unique(labels) if label < len(names)})
    _class_key(figure, theme, [names[i] for i in there], colours[there])
    if not len(pictures):
        say(axes[0][0], theme, "no images yet")
    return described(figure, f"{title}, {len(pictures)} images.", *_label_words(labelled, names))


def _label_maps(labels: ArrayLike, pictures: Floats, classes: int) -> NDArray[np.int64]:
    """(n, h, w) class numbers of the pictures; 255 is no class. Raises InputError for anything else."""
    array = np.asarray(labels)
    if array.shape != pictures.shape[:3] or array.dtype.kind not in "iu":
        raise InputError(
            f"label maps of these images are whole numbers of shape {pictures.shape[:3]}; {array.dtype} of "
            f"{array.shape} came"
        )
    if not np.all((array < classes) & (array >= 0) | (array == VOID)):
        raise InputError(f"label maps hold numbers from 0 to {classes - 1}, or {VOID} for no class; {array.max()} came")
    return array.astype(np.int64)


def _draw_labels(
    axes: Axes, theme: Theme, picture: Floats, labels: NDArray[np.int64] | None, names: Sequence[str], colours: Floats
) -> None:
    """A picture, with the colours and names of its classes over it where there are labels."""
    shown = np.repeat(picture, 3 // picture.shape[-1], axis=-1)
    axes.set(xticks=(), yticks=())
    axes.spines[:].set_color(theme.line)
    if labels is None:
        axes.imshow(shown, interpolation="nearest")
        return
    painted = np.append(colours, [[1.0, 1.0, 1.0]], axis=0)[np.minimum(labels, len(colours))]
    share = np.where(labels == 0, 0.0, 0.8)[..., np.newaxis]
    axes.imshow((1 - share) * 0.45 * shown + share * painted, interpolation="nearest")
    for label in set(np.unique(labels).tolist()) - {0, VOID}:
        row, column = _inner_point(labels == label)
        ground = to_hex(painted[row, column])
        ink = max("#000000", "#ffffff", key=lambda colour: contrast(colour, ground))
        axes.text(
            column, row, names[label], color=ink, fontsize=7, fontweight="bold", ha="center", va="center",
            parse_math=False, clip_on=True, bbox={"facecolor": ground, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _inner_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) of a pixel of the mask that is farthest from its edge, by taking borders away until none is left.

    >>> _inner_point(np.ones((5, 7), bool))
    (2, 2)
    """
    left = mask
    while True:
        padded = np.pad(left, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & left
        if not inner.any():
            row, column = np.argwhere(left)[0]
            return int(row), int(column)
        left = inner


def _class_key(figure: Picture, theme: Theme, names: Sequence[str], colours: Floats) -> None:
    """The names of the classes beside their colours, at the right."""
    patches = [Patch(facecolor=to_hex(colour), edgecolor=theme.line) for colour in colours]
    if patches:
        figure.legend(patches, names, loc="outside right upper", frameon=False, labelcolor=theme.ink, fontsize=9)


def _label_words(labelled: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> list[str]:
    """What each labeller found: the share of the pixels that each class has, largest first."""
    words = []
    for who, labels in labelled.items():
        counts = np.bincount(labels[labels < len(names)], minlength=len(names)) / max(1, labels.size)
        order = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]][:6]
        words.append(f"{who}: {', '.join(f'{names[i]} {percent(float(counts[i]))}' for i in order) or 'nothing'}.")
    return words


def plot_borders(
    found: Mapping[str, PixelScores], title: str = "At the borders, and away from them", *, style: Style = "auto"
) -> Figure:
    """Boundary IoU, mean IoU and interior IoU of each network on one line: how far borders fall behind insides.

    Raises InputError where nothing came.
    """
    theme = theme_of(style)
    if not found:
        raise InputError("borders are compared of at least one network's scores, {'fcn8s': scores}; none came")
    figure = new_picture(theme, 8.0, 1.5 + 0.5 * len(found))
    axes = figure.subplots()
    dress(axes, theme, title)
    kinds = {
        f"boundary IoU ({wide(next(iter(found.values())).boundary_pixels)})": "boundary_iou",
        "mean IoU": "mean_iou",
        "interior IoU": "interior_iou",
    }
    places = np.arange(len(found))
    shares = {kind: [getattr(each, name) for each in found.values()] for kind, name in kinds.items()}
    lowest, highest = np.min(list(shares.values()), axis=0), np.max(list(shares.values()), axis=0)
    axes.hlines(places, lowest, highest, color=theme.faint, linewidth=3, zorder=1)
    for index, (kind, values) in enumerate(shares.items()):
        axes.plot(
            values, places, label=kind, color=theme.mark(index), marker=MARKERS[index], linestyle="none", markersize=8
        )
    axes.set(xlim=(0, 1), ylim=(len(found) - 0.5, -0.5), xlabel="intersection over union")
    axes.xaxis.label.set_color(theme.ink)
    axes.set_yticks(places, [printable(name, 22) for name in found], parse_math=False)
    axes.grid(axis="x", color=theme.faint, linewidth=0.8)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=theme.ink, fontsize=9)
    words = [
        f"{name}: boundary {each.boundary_iou:.3f}, mean {each.mean_iou:.3f}, interior {each.interior_iou:.3f}."
        for name, each in found.items()
    ]
    return described(figure, f"{title}: {len(found)} networks.", *words)


# Photos.


def _picture_grid(theme: Theme, title: str, count: int, columns: int) -> tuple[Picture, list[Axes]]:
    """A figure with room for so many pictures, `columns` in a row, and their axes."""
    across = max(1, min(columns, count))
    deep = max(1, math.ceil(count / across))
    figure = new_picture(theme, max(3.5, CELL * across), 0.5 + (IMAGE + 0.6) * deep)
    add_heading(figure, theme, title)
    panels = figure.subplots(deep, across, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def _draw_picture(axes: Axes, theme: Theme, picture: NDArray[Any], words: str) -> None:
    """One picture in a frame, with words under it."""
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=(), yticks=())
    axes.spines[:].set_color(theme.line)
    axes.set_xlabel(printable(words, 30), color=theme.ink, fontsize=8.5, parse_math=False)


def plot_explanations(
    images: ArrayLike,
    maps: ArrayLike,
    words: Sequence[str],
    title: str = "What the answers rest on",
    *,
    columns: int = 3,
    style: Style = "auto",
) -> Figure:
    """Each image twice: as it is, and dimmed where the evidence for the answer is not (`explaining.grad_cam`).

    `images` are uint8 (n, h, w, 1 or 3), `maps` from 0 to 1 (n, any, any), `words` what stands under each pair;
    `columns` pairs stand in a row. Light and dark tell what matters, no colour does. Raises InputError where the
    numbers differ.
    """
    theme = theme_of(style)
    pictures, evidence = np.asarray(images), np.asarray(maps, float)
    if not len(pictures) == len(evidence) == len(words):
        raise InputError(f"{len(pictures)} images need as many maps and words; {len(evidence)} and {len(words)} came")
    if pictures.shape[-1] == 1:
        pictures = np.repeat(pictures, 3, axis=-1)
    figure, panels = _picture_grid(theme, title, 2 * len(pictures), 2 * columns)
    for number, picture in enumerate(pictures):
        strength = _enlarged(evidence[number], (picture.shape[0], picture.shape[1]))
        shown = (picture * (0.15 + 0.85 * strength[..., np.newaxis])).astype(np.uint8)
        _draw_picture(panels[2 * number], theme, picture, words[number])
        _draw_picture(panels[2 * number + 1], theme, shown, _place_words(evidence[number]))
    told = (f"{said}: {_place_words(one)}." for said, one in zip(words, evidence, strict=True))
    return described(figure, f"{title}: {len(pictures)} images.", *told)


def _enlarged(values: NDArray[Any], shape: tuple[int, int]) -> Floats:
    """A map of values at another size, in between by straight lines."""
    found = values
    for axis, size in enumerate(shape):
        places = (np.arange(size) + 0.5) * found.shape[axis] / size - 0.5
        low = np.clip(np.floor(places).astype(int), 0, found.shape[axis] - 1)
        high = np.minimum(low + 1, found.shape[axis] - 1)
        share = np.clip(places - low, 0, 1).reshape((-1, 1) if axis == 0 else (1, -1))
        found = (1 - share) * found.take(low, axis) + share * found.take(high, axis)
    return found


def _place_words(values: NDArray[Any]) -> str:
    """Where the strongest evidence is, in words."""
    if not values.any():
        return "no evidence anywhere"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    down = ("top", "middle", "bottom")[3 * int(row) // values.shape[0]]
    across = ("left", "centre", "right")[3 * int(column) // values.shape[1]]
    return f"most at {down} {across}"


def plot_photo_groups(
    groups: Sequence[tuple[str, Sequence[ArrayLike]]],
    title: str = "What a look at the photos found",
    *,
    most: int = 6,
    style: Style = "auto",
) -> Figure:
    """Rows of photos that have something in common: (what, photos), such as two that look alike.

    Of each row the first `most` photos, uint8 (h, w, 3), are drawn.
    """
    theme = theme_of(style)
    rows = [(what, [np.asarray(photo) for photo in photos[:most]]) for what, photos in groups]
    across = max((len(photos) for _, photos in rows), default=1)
    figure, panels = _picture_grid(theme, title, max(1, len(rows)) * across, across)
    for axes in panels:
        axes.set_axis_off()
    if not rows:
        say(panels[0], theme, "nothing")
    for number, (what, photos) in enumerate(rows):
        for axes, photo in zip(panels[number * across :], photos, strict=False):
            axes.set_axis_on()
            _draw_picture(axes, theme, photo, what if photo is photos[0] else "")
    told = (f"{what}: {len(photos)} photos." for what, photos in rows)
    return described(figure, f"{title}: {len(rows)} groups.", *told)
