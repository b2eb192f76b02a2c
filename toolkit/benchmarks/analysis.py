"""What trained networks know and where they fail: calibration, confusion, robustness, int8, ensembles, transfer, sizes.

The full form takes the networks of the zoo that lie in runs/zoo, the most accurate of each dataset and the best AlexNet
beside it, and trains five small ones on digits; the quick form trains two on digits. It promises what must hold of
any network: a search finds worse pictures than one step does and than chance does, an ensemble's cross-entropy is not
above its members', a temperature does not make it worse, int8 costs a point of accuracy at most, and more images do not
harm. It takes some 10 minutes a network of CIFAR-10 on two processors: python -m toolkit bench analysis
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toolkit.attacks import Attacker
from toolkit.benchmarks import ROOT, Check, Measured, Report, Row
from toolkit.calibration import best_temperature, brier_score, cross_entropy, reliability, tempered
from toolkit.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from toolkit.deploying import accuracy
from toolkit.ensembles import ensembles
from toolkit.errors import InputError
from toolkit.keras_layers import LocalResponseNormalization, PositionEmbedding
from toolkit.loading import Dataset, load_dataset
from toolkit.quantizing import compare_int8, probabilities
from toolkit.training import Done, TrainConfig, TrainResult, train
from toolkit.zoo_results import confusion_pairs, place_of

RUNS = ROOT / "runs" / "zoo"

BEYOND_CHANCE, INT8_LOSS, TEMPERATURE_HARM = 0.1, 0.01, 0.01
# Largest change of a pixel of 255: what is hardly seen on photos (Madry et al. 2017), and on digits.
EPSILONS = {3: (2.0, 8.0), 1: (25.5, 51.0)}
# Test images, so that hours become minutes: for corruptions, for attacks.
CORRUPTED, ATTACKED = 1000, 400
MOST_SEEDS = 5
SIZES = (100, 200, 400, 800)
# What the course's notes name as the classes that are taken for each other on CIFAR-10.
SAID_OF_CIFAR = ("frog", "deer")

UNCORRUPTED = "accuracy on these images as they are"
SMALL = TrainConfig(channels=8, epochs=10)


@dataclass(frozen=True)
class Subject:
    """Networks that differ in their seed only, the images that they are tested with, and how many of these."""

    name: str
    data: Dataset
    folders: tuple[Path, ...]
    corrupted: int = CORRUPTED
    attacked: int = ATTACKED

    @cached_property
    def models(self) -> tuple[keras.Model, ...]:
        """The networks; they stay in memory, so that each is compiled once."""
        own = {each.__name__: each for each in (LocalResponseNormalization, PositionEmbedding)}
        return tuple(
            keras.saving.load_model(folder / "model.keras", custom_objects=own, compile=False)
            for folder in self.folders
        )

    def rows(self, found: Mapping[str, tuple[str, Sequence[float]]]) -> tuple[Row, ...]:
        """Rows from what was found: name -> unit and values over seeds."""
        return tuple(Row.of(f"{self.name}: {what}", unit, values) for what, (unit, values) in found.items())


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` does the same with two small networks on digits and fewer images."""
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        small = _trained(2 if quick else MOST_SEEDS, seed, folder)
        if quick:
            small = replace(small, corrupted=180, attacked=100)
        subjects = [small, *([] if quick else stored_subjects(RUNS))]
        parts = [part for subject in subjects for part in analyse(subject, seed, short=quick)]
        parts += [
            _sizes(small, folder, seed, SIZES[:1] if quick else SIZES, 1 if quick else MOST_SEEDS),
            _transfer(subjects, quick),
        ]
    rows = tuple(row for part in parts for row in part.rows)
    return Measured(rows, tuple(check for part in parts for check in part.checks))


# Whose networks.


def _trained(count: int, seed: int, folder: Path) -> Subject:
    """Small networks on digits that differ in their seed."""
    folders = [
        _train(replace(SMALL, seed=seed + number), folder / f"digits-{number}").folder for number in range(count)
    ]
    return Subject("small_cnn on digits", load_dataset("digits"), tuple(folders))


def _train(config: TrainConfig, folder: Path) -> TrainResult:
    *_, last = train(config, folder)
    if not isinstance(last, Done):
        raise RuntimeError(f"a training of the benchmark gave no result: {last}")
    return last.result


def stored_subjects(folder: Path) -> tuple[Subject, ...]:
    """Of each dataset the most accurate network of the zoo in a folder, and the most accurate AlexNet beside it."""
    experiments: dict[str, list[TrainResult]] = {}
    for path in sorted(folder.glob("*-[0-9]*/result.json")):
        experiments.setdefault(path.parent.name.rpartition("-")[0], []).append(TrainResult.load(path.parent))
    ranked = sorted(experiments.items(), key=lambda each: -np.mean([run.test_accuracy for run in each[1]]))
    chosen: dict[tuple[str, bool], Subject] = {}
    for name, runs in ranked:
        dataset = runs[0].config.dataset
        kind = (dataset, "alexnet" in runs[0].config.architecture)
        if kind not in chosen:
            folders = tuple(run.folder for run in runs[:MOST_SEEDS])
            chosen[kind] = Subject(name, load_dataset(dataset), folders)
    return tuple(chosen.values())


# One kind of network.


def analyse(subject: Subject, seed: int, short: bool = False) -> Iterator[Measured]:
    """Everything that is measured of trained networks alone; `short` takes fewer severities and steps."""
    labels = subject.data.y_test
    answers = [probabilities(model, subject.data.x_test) for model in subject.models]
    yield Measured(subject.rows({"test accuracy": ("share", [accuracy(each, labels) for each in answers])}), ())
    yield _calibration(subject, answers, labels)
    yield _confusion(subject, answers, labels)
    yield _ensembles(subject, answers, labels)
    yield _corruptions(subject, seed, (3, 5) if short else SEVERITIES)
    yield _attacks(subject, seed, steps=5 if short else 20)
    yield _int8(subject)


def _calibration(subject: Subject, answers: Sequence[NDArray[Any]], labels: NDArray[Any]) -> Measured:
    """Calibration before and after a temperature, found on one half of the test images and measured on the other."""
    fitted, held = np.arange(len(labels)) % 2 == 0, np.arange(len(labels)) % 2 == 1
    true = labels[held]
    temperatures = [best_temperature(each[fitted], labels[fitted]) for each in answers]
    before = [each[held] for each in answers]
    after = [tempered(each, temperature) for each, temperature in zip(before, temperatures, strict=True)]
    harm = np.mean([cross_entropy(b, true) - cross_entropy(a, true) for a, b in zip(before, after, strict=True)])
    rows = subject.rows(
        {
            "expected calibration error": ("share", [reliability(each, true).ece for each in before]),
            "expected calibration error, with temperature": ("share", [reliability(each, true).ece for each in after]),
            "temperature": ("", temperatures),
            "cross-entropy": ("nats", [cross_entropy(each, true) for each in before]),
            "cross-entropy, with temperature": ("nats", [cross_entropy(each, true) for each in after]),
            "Brier score": ("", [brier_score(each, true) for each in before]),
        }
    )
    name = f"{subject.name}: cross-entropy that a temperature adds"
    return Measured(rows, (Check.at_most(name, float(harm), TEMPERATURE_HARM),))


def _confusion(subject: Subject, answers: Sequence[NDArray[Any]], labels: NDArray[Any]) -> Measured:
    """Which classes are taken for each other, over all seeds; of CIFAR-10 also where the notes' pair stands."""
    names = subject.data.info.class_names
    counts = np.zeros((len(names), len(names)), np.int64)
    for each in answers:
        np.add.at(counts, (labels, each.argmax(axis=1)), 1)
    pairs = confusion_pairs(counts, names)
    found: dict[str, tuple[str, Sequence[float]]] = {
        f"mistakes between {pair.one} and {pair.other}": ("share", [pair.share]) for pair in pairs[:3]
    }
    if set(SAID_OF_CIFAR) <= set(names):
        place = place_of(pairs, *SAID_OF_CIFAR)
        found[f"{' and '.join(SAID_OF_CIFAR)}: place among {len(pairs)} pairs"] = ("", [place])
        found[f"mistakes between {' and '.join(SAID_OF_CIFAR)}"] = ("share", [pairs[place - 1].share])
    return Measured(subject.rows(found), ())


def _ensembles(subject: Subject, answers: Sequence[NDArray[Any]], labels: NDArray[Any]) -> Measured:
    """Ensembles of 2 and more beside their members."""
    found = ensembles(answers, labels)
    if len(found) < 2:
        return Measured((), ())
    largest = found[-1]
    rows = subject.rows({f"ensemble of {each.size}": ("share", each.accuracies) for each in found})
    more = subject.rows(
        {
            f"ensemble of {largest.size}: cross-entropy": ("nats", [largest.cross_entropy]),
            f"ensemble of {largest.size}: expected calibration error": ("share", [largest.ece]),
        }
    )
    name = f"{subject.name}: cross-entropy of an ensemble of {largest.size} beyond its members'"
    return Measured((*rows, *more), (Check.at_most(name, largest.cross_entropy - found[0].cross_entropy, 0.0),))


def _corruptions(subject: Subject, seed: int, severities: Sequence[int]) -> Measured:
    """Accuracy on noisy, blurred and shifted pictures; all networks meet the same ones."""
    images, labels = subject.data.x_test[: subject.corrupted], subject.data.y_test[: subject.corrupted]
    found: dict[str, list[float]] = {}
    for model in subject.models:
        found.setdefault(UNCORRUPTED, []).append(accuracy(probabilities(model, images), labels))
        for kind in CORRUPTIONS:
            for severity in severities:
                worse = corrupt(images, kind, severity, seed)
                right = accuracy(probabilities(model, worse), labels)
                found.setdefault(f"{kind}, {severity}", []).append(right)
    return Measured(subject.rows({what: ("share", shares) for what, shares in found.items()}), ())


def _attacks(subject: Subject, seed: int, steps: int) -> Measured:
    """Accuracy under attacks of two sizes, and under noise of the same size that knows nothing of the network."""
    images, labels = subject.data.x_test[: subject.attacked], subject.data.y_test[: subject.attacked]
    found: dict[str, list[float]] = {}
    epsilons = EPSILONS[images.shape[-1]]
    signs = np.random.default_rng(seed).choice((-1, 1), images.shape)
    for model in subject.models:
        attacker = Attacker(model)
        for epsilon in epsilons:
            pictures = {
                "chance": np.clip(images + epsilon * signs, 0, 255).astype(np.float32),
                "FGSM": attacker.fgsm(images, labels, epsilon),
                f"PGD of {steps} steps": attacker.pgd(images, labels, epsilon, steps=steps, seed=seed),
            }
            for what, worse in pictures.items():
                right = accuracy(probabilities(model, worse), labels)
                found.setdefault(f"{what}, {epsilon:g}", []).append(right)
    chance, one_step, search = (
        found[f"{what}, {epsilons[-1]:g}"] for what in ("chance", "FGSM", f"PGD of {steps} steps")
    )
    size = f"by {epsilons[-1]:g} of 255"
    checks = (
        Check.at_least(
            f"{subject.name}: right after chance {size} beyond those after PGD",
            float(np.mean(chance) - np.mean(search)),
            BEYOND_CHANCE,
        ),
        Check.at_least(
            f"{subject.name}: right after FGSM {size} beyond those after PGD",
            float(np.mean(one_step) - np.mean(search)),
            0.0,
        ),
    )
    return Measured(subject.rows({what: ("share", shares) for what, shares in found.items()}), checks)


def _int8(subject: Subject) -> Measured:
    """Size and accuracy before and after int8: Keras's own, and all kernels rounded."""
    images, labels = subject.data.x_test[: subject.corrupted], subject.data.y_test[: subject.corrupted]
    copies = [compare_int8(model, images, labels) for model in subject.models]
    found: dict[str, tuple[str, Sequence[float]]] = {}
    for each in zip(*copies, strict=True):
        name = each[0].name
        found[f"{name}: weights"] = ("kB", [copy.weights_bytes / 1000 for copy in each])
        if each[0].file_bytes is not None:
            found[f"{name}: file"] = ("kB", [(copy.file_bytes or 0) / 1000 for copy in each])
        found[f"{name}: share of the numbers in int8"] = ("share", [copy.int8_share for copy in each])
        found[f"{name}: accuracy on {len(images)} images"] = ("share", [copy.accuracy for copy in each])
    losses = [max(plain.accuracy - copy.accuracy for copy in others) for plain, *others in copies]
    name = f"{subject.name}: accuracy that int8 costs"
    return Measured(subject.rows(found), (Check.at_most(name, float(np.mean(losses)), INT8_LOSS),))


# Trained for a question.


def _sizes(small: Subject, folder: Path, seed: int, sizes: Sequence[int], seeds: int) -> Measured:
    """Accuracy over the number of training images, beside that of all of them."""
    found = {
        size: [
            _train(replace(SMALL, seed=seed + number, train_limit=size), folder / f"{size}-{number}").test_accuracy
            for number in range(seeds)
        ]
        for size in sizes
    }
    everything = [TrainResult.load(each) for each in small.folders]
    images = split_images(everything[0])
    found[images] = [run.test_accuracy for run in everything]
    rows = small.rows({f"trained on {size} images": ("share", shares) for size, shares in found.items()})
    gain = np.mean(found[images]) - np.mean(found[sizes[0]])
    name = f"{small.name}: accuracy of {images} training images beyond {sizes[0]}"
    return Measured(rows, (Check.at_least(name, float(gain), 0.0),))


def split_images(run: TrainResult) -> int:
    """How many images a run on a dataset as it is was trained with."""
    data = load_dataset(run.config.dataset)
    return round(len(data.x_train) * (1 - run.config.validation_fraction))


def _transfer(subjects: Sequence[Subject], quick: bool) -> Measured:
    """Digits that were written for another dataset: networks of MNIST on scikit-learn's digits and the other way."""
    rows: list[Row] = []
    for subject in subjects:
        other = {"digits": "mnist", "mnist": "digits"}.get(subject.data.info.name)
        data = None if quick or other is None else _loaded(other)
        if data is not None:
            found = [accuracy(probabilities(model, data.x_test), data.y_test) for model in subject.models]
            rows += subject.rows({f"tested on {other}": ("share", found)})
    return Measured(tuple(rows), ())


def _loaded(name: str) -> Dataset | None:
    """A dataset, or None where this machine has none."""
    try:
        return load_dataset(name, progress=False)
    except InputError:
        return None


# The picture.

_PANELS = {
    "noise": "severity of noise",
    "blur": "severity of blur",
    "shift": "severity of shifts",
    "FGSM": "change of a pixel, of 255, in one step",
    "PGD": "change of a pixel, of 255, by a search",
    "ensemble": "networks in an ensemble",
    "images": "training images",
}


def picture(report: Report) -> Figure:
    """What each kind of network stands, and what ensembles bring, from a report's rows."""
    from toolkit.zoo_plots import Point, plot_robustness

    panels: dict[str, dict[str, list[Point]]] = {}
    plain = {row.what.partition(": ")[0]: row for row in report.rows if row.what.endswith(UNCORRUPTED)}
    for row in report.rows:
        name, _, what = row.what.partition(": ")
        place = _place(what)
        if place is not None:
            kind, x = place
            start = [Point(0, *_shares(plain[name]))] if kind in CORRUPTIONS else []
            panels.setdefault(kind, {}).setdefault(name, start).append(Point(x, *_shares(row)))
    title = "What networks stand, and what several know together"
    return plot_robustness(panels, _PANELS, title, whiskers="least to most over seeds")


def _shares(row: Row) -> tuple[float, float, float]:
    return row.median, row.least, row.most


def _place(what: str) -> tuple[str, float] | None:
    """The panel and the place of a row, None for a row that is not drawn."""
    if what.startswith("ensemble of ") and ":" not in what:
        return "ensemble", float(what.rpartition(" ")[2])
    if what.startswith("trained on "):
        return "images", float(what.split()[2])
    kind, _, x = what.rpartition(", ")
    kind = kind.split(" ")[0]
    return (kind, float(x)) if kind in _PANELS and kind != "ensemble" else None
