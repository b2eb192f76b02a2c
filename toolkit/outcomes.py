"""What a fine-tuning came to: its figures from the test's answers, and its files, all of them or none.

The model card follows the headings of M. Mitchell et al., Model Cards for Model Reporting (2019), as far as figures can
fill them. Imports Keras.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from toolkit import system
from toolkit.bases import Classifier
from toolkit.deploying import COPIES, export_copies
from toolkit.errors import InputError
from toolkit.explaining import grad_cam
from toolkit.finetuning import (
    ALPHAS,
    BASES,
    CURVES,
    MODEL_FILE,
    ClassScores,
    FinetuneConfig,
    FinetuneResult,
    Mistake,
    class_table,
    wilson_interval,
)
from toolkit.photos import Split
from toolkit.show import readable_bytes
from toolkit.training import RESULT_FILE, files_beside

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

CLASSES_FILE = "classes.json"
MOST_MISTAKES = 50
_EXPLAINED = 6
_NO_PACKAGES = {"backend", "threads", "photos_at_once"}


def outcome(
    config: FinetuneConfig,
    split: Split,
    places: Numbers,
    probabilities: Floats,
    *,
    photos: str,
    classifier: Classifier,
    history: Mapping[str, list[Any]],
    seconds: Mapping[str, float],
    note: str,
    folder: Path,
    made_with: Mapping[str, str | int | None],
    weights_sha256: str,
) -> FinetuneResult:
    """The result of a run whose answers to the test photos `places` are `probabilities` (n, classes)."""
    names = split.report.class_names
    if not np.isfinite(probabilities).all():
        raise InputError(
            f"the classifier does not answer with numbers; try a learning rate below {config.learning_rate:g}"
        )
    labels, answers = split.report.labels[places], probabilities.argmax(axis=1)
    right, classes = int((labels == answers).sum()), range(len(names))
    shares = probabilities.astype(np.float64)
    core = classifier.core
    return FinetuneResult(
        config=config,
        photos=photos,
        class_names=names,
        images={part: len(numbers) for part, numbers in split.parts.items()},
        params=core.count_params(),
        trainable_params=sum(int(np.prod(variable.shape)) for variable in core.trainable_variables),
        history={name: list(values) for name, values in history.items()},
        test_accuracy=right / len(labels),
        test_interval=wilson_interval(right, len(labels)),
        test_loss=float(metrics.log_loss(labels, shares / shares.sum(axis=1, keepdims=True), labels=classes)),
        tested_images=len(labels),
        confusion=tuple(tuple(row) for row in metrics.confusion_matrix(labels, answers, labels=classes).tolist()),
        classes=_scores(labels, answers, names),
        mistakes=_mistakes(split, places, probabilities),
        seconds={part: round(value, 1) for part, value in seconds.items()},
        peak_memory_bytes=system.peak_memory(),
        stopped=bool(note),
        folder=folder,
        note=note,
        weights_sha256=weights_sha256,
        made_with=made_with,
    )


def _scores(labels: Numbers, answers: Numbers, names: Sequence[str]) -> dict[str, ClassScores]:
    """Precision, recall and F1 of each class; 0 where a share has nothing to be a share of."""
    found = metrics.precision_recall_fscore_support(labels, answers, labels=range(len(names)), zero_division=0.0)
    rows = zip(names, *(values.tolist() for values in found), strict=True)
    return {name: ClassScores(precision, recall, f1, images) for name, precision, recall, f1, images in rows}


def _mistakes(split: Split, places: Numbers, probabilities: Floats) -> tuple[Mistake, ...]:
    """The wrong answers, the surest first."""
    names, photos = split.report.class_names, split.report.photos
    answers = probabilities.argmax(axis=1)
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = [at for at in order.tolist() if photos[places[at]].label != answers[at]]
    return tuple(
        Mistake(
            str(photos[places[at]].path),
            names[photos[places[at]].label],
            names[answers[at]],
            float(probabilities[at, answers[at]]),
        )
        for at in wrong[:MOST_MISTAKES]
    )


def made_with(threads: int | None, photos_at_once: int) -> dict[str, str | int | None]:
    """What else the figures depend on."""
    backend = keras.backend.backend()
    packages = ("tensorflow-cpu", "tensorflow") if backend == "tensorflow" else (backend,)
    versions = system.package_versions("cnn-toolkit", "keras", "numpy", "pillow", *packages)
    return {"backend": backend, "threads": threads, "photos_at_once": photos_at_once, **versions}


# Files.

# All that a run may write besides its checkpoint and its settings.
FILES = (
    RESULT_FILE,
    MODEL_FILE,
    "history.csv",
    "predictions.csv",
    "photos.md",
    "README.md",
    *("history.png", "confusion.png", "mistakes.png"),
    *COPIES,
)


def write_outcome(
    result: FinetuneResult, classifier: Classifier, split: Split, places: Numbers, probabilities: Floats
) -> None:
    """Write the model, its figures and its card beside the folder's files, then move them in, the result last."""
    with files_beside(result.folder) as part:
        save_model(classifier.model, result.class_names, part / MODEL_FILE)
        _write_history(part / "history.csv", result.history)
        _write_predictions(part / "predictions.csv", split, places, probabilities)
        (part / "photos.md").write_text(split.report.table(markdown=True) + "\n", encoding="utf-8")
        _write_words(result, split, part)


def write_extras(
    result: FinetuneResult, classifier: Classifier, split: Split, pixels: Pixels, places: Numbers
) -> FinetuneResult:
    """Write copies of the model for other places, and pictures, and tell of them in the result and its card."""
    with files_beside(result.folder) as part:
        test, labels = pixels[places], split.report.labels[places]
        exports = export_copies(result.folder / MODEL_FILE, classifier.core, test, labels, part)
        result = replace(result, exports=exports)
        _draw(result, classifier.core, split, pixels, part)
        _write_words(result, split, part, pictures=True)
    return result


def _write_words(result: FinetuneResult, split: Split, folder: Path, pictures: bool = False) -> None:
    """The result for programs, and the card for people."""
    told = json.dumps(result.to_dict(), indent=2, ensure_ascii=False)
    (folder / RESULT_FILE).write_text(told, encoding="utf-8", errors="surrogateescape")
    (folder / "README.md").write_text(model_card(result, split, pictures), encoding="utf-8", errors="surrogateescape")


def save_model(model: keras.Model, class_names: Sequence[str], path: Path) -> None:
    """Save a model as .keras with the names of its classes in it, as classes.json; Keras minds no file more."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CLASSES_FILE, json.dumps(list(class_names), ensure_ascii=False))


def load_model(path: Path) -> tuple[keras.Model, tuple[str, ...]]:
    """A model that `save_model` saved and the names of its classes; numbers where another model has none.

    `path` is the file, or the folder of a run. Raises InputError where there is no such thing.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no model at {file}; give the folder of a finished fine-tuning, or its {MODEL_FILE}")
    try:
        model = keras.saving.load_model(file, compile=False)
        with zipfile.ZipFile(file) as archive:
            names = json.loads(archive.read(CLASSES_FILE)) if CLASSES_FILE in archive.namelist() else []
    except Exception as error:  # damaged bytes can make a reader raise anything
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{file} is no model that can be loaded ({first_line}); give a {MODEL_FILE} of ours"
        ) from error
    if len(model.inputs) != 1 or len(model.output_shape) != 2 or model.input_shape[-1] != 3:
        raise InputError(f"{file} takes {model.input_shape} and gives {model.output_shape}; a classifier was expected")
    classes = model.output_shape[-1]
    return model, tuple(map(str, names)) if len(names) == classes else tuple(map(str, range(classes)))


def classify(model: keras.Model, image: Pixels) -> Floats:
    """The probabilities that a saved classifier gives for one photo of any size, uint8 (h, w, 3).

    The photo is resized by the model's own first layer before the rest sees it, so that nothing is compiled anew for
    every size of photo.
    """
    pixels = image[np.newaxis]
    first = next((layer for layer in model.layers if isinstance(layer, keras.layers.Resizing)), None)
    if first is not None:
        resized = keras.ops.convert_to_numpy(first(pixels.astype(np.float32)))
        pixels = np.rint(resized).clip(0, 255).astype(np.uint8)
    return np.asarray(model.predict_on_batch(pixels)[0], np.float32)


def _write_history(path: Path, history: Mapping[str, list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["phase", *CURVES])
        writer.writerows(zip(*(history[name] for name in ("phase", *CURVES)), strict=True))


def _write_predictions(path: Path, split: Split, places: Numbers, probabilities: Floats) -> None:
    names, photos = split.report.class_names, split.report.photos
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "true", "answer", *names])
        for place, shares in zip(places.tolist(), probabilities, strict=True):
            answer = names[int(shares.argmax())]
            writer.writerow(
                [photos[place].path, names[photos[place].label], answer, *(f"{share:.6f}" for share in shares)]
            )


# Pictures.


def _draw(result: FinetuneResult, core: keras.Model, split: Split, pixels: Pixels, folder: Path) -> None:
    """The curves, the confusion matrix, and the surest mistakes with what the model looked at."""
    from toolkit import plots

    plots.save_figure(plots.plot_history(result.history, style="light"), folder / "history.png")
    confusion = plots.plot_confusion_matrix(np.array(result.confusion), result.class_names, style="light")
    plots.save_figure(confusion, folder / "confusion.png")
    shown = result.mistakes[:_EXPLAINED]
    if shown:
        by_path = {str(photo.path): place for place, photo in enumerate(split.report.photos)}
        images = pixels[[by_path[mistake.path] for mistake in shown]]
        answers = [result.class_names.index(mistake.answer) for mistake in shown]
        said = [f"{each.answer} {each.probability:.0%}, is {each.true}" for each in shown]
        maps = grad_cam(core, images, answers)
        figure = plots.plot_explanations(
            images, maps, said, "The surest mistakes, and what they rest on", style="light"
        )
        plots.save_figure(figure, folder / "mistakes.png")


# The model card.


def model_card(result: FinetuneResult, split: Split, pictures: bool = False) -> str:
    """What the model is, what it was made of, how good it is and what it is not for, in Markdown."""
    sections = {
        f"# A classifier of photos: {', '.join(result.class_names)}": _what_it_is(result),
        "## How good it is": _how_good(result, pictures),
        "## What it was made of": _what_of(result, split),
        "## How it was made": _how_made(result),
        "## Copies": _copies(result),
        "## What it is not for": (
            "It knows these classes only and answers with one of them whatever it is shown. Photos of another kind "
            "(camera, light, background) than those above may fare worse than the test says. Nothing here was tested "
            "for decisions about people."
        ),
    }
    return "\n\n".join(f"{heading}\n\n{text}" for heading, text in sections.items()) + "\n"


def _what_it_is(result: FinetuneResult) -> str:
    config, size = result.config, result.config.image_size
    width = f", alpha {config.alpha:g}" if config.base in ALPHAS else ""
    return (
        f"{config.base}{width} with a new head, fine-tuned on {sum(result.images.values()):,} photos. It takes uint8 "
        f'RGB photos of any size, of which it sees {size} × {size} pixels ("{config.fit}"), and answers with a '
        f"probability for each of {len(result.class_names)} classes."
    )


def _how_good(result: FinetuneResult, pictures: bool) -> str:
    low, high = result.test_interval
    stopped = f" The run was {result.note}." if result.stopped else ""
    parts = [
        f"**{result.test_accuracy:.1%} of {result.tested_images} test photos** are answered rightly; of all such "
        f"photos it is between {low:.1%} and {high:.1%}, as far as so few can tell (Wilson's interval at 95 %). Mean "
        f"cross-entropy {result.test_loss:.3f}.{stopped}",
        _table(class_table(result)),
        "![Confusion matrix](confusion.png)" if pictures else "",
    ]
    return "\n\n".join(filter(None, parts))


def _what_of(result: FinetuneResult, split: Split) -> str:
    labels, names = split.report.labels, split.report.class_names
    counts = [np.bincount(labels[part], minlength=len(names)).tolist() for part in split.parts.values()]
    rows = [[str(cell) for cell in row] for row in zip(names, *counts, strict=True)]
    return (
        f"Photos from `{Path(result.photos).name}`, split by class with the seed {result.config.seed}; photos that "
        f"look alike are on one side.\n\n{_table([['class', *split.parts], *rows])}\n\n"
        "What a look at the photos found is in [photos.md](photos.md)."
    )


def _how_made(result: FinetuneResult) -> str:
    config, epochs, made = result.config, result.epochs_done, result.made_with
    sources = {"imagenet": "ImageNet's, from keras.applications", None: "random"}
    source = sources.get(config.weights, f"the file `{Path(config.weights or '').name}`")
    versions = ", ".join(f"{name} {value}" for name, value in made.items() if name not in _NO_PACKAGES)
    return (
        f"Weights of the base: {source} (SHA-256 of all of them: {result.weights_sha256[:16]}…). First the head alone "
        f"({epochs['head']} epochs), then the last {config.unfrozen_blocks} blocks of the base too ({epochs['blocks']} "
        f"epochs, learning rate {config.learning_rate:g}); batch normalization kept the base's statistics. "
        f"Augmentation of training photos: {config.augmentation}. Pixels are scaled inside the model "
        f'("{BASES[config.base]}"). It '
        f"took {sum(result.seconds.values()) / 60:.1f} minutes with {versions}."
    )


def _copies(result: FinetuneResult) -> str:
    rows = [
        [each.file or name, readable_bytes(each.bytes), _share(each.test_accuracy), each.note]
        for name, each in result.exports.items()
    ]
    return _table([["file", "size", "test accuracy", "note"], *rows]) if rows else "None."


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _table(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([head, "|" + " --- |" * len(cells[0]), *rows])
