"""How good fine-tuning is on real photos, how long it takes, and what computing the features once saves.

The full form needs 937 photos of waste in six classes (`photos/trashnet6` in the folder that CNN_TOOLKIT_DATA names)
and ImageNet's weights of MobileNetV2; the quick one has digits from scikit-learn and a base with random weights, whose
accuracy says nothing and is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

from PIL import Image

from toolkit.benchmarks import Check, Measured, Row
from toolkit.errors import InputError
from toolkit.finetuning import FinetuneConfig, FinetuneResult, Finished, PhaseBegins, finetune
from toolkit.loading import load_dataset
from toolkit.training import EpochEnd, Step

ACCURACY, SMALL_ACCURACY, MINUTES, SPEED_UP, STOP_SECONDS = 0.88, 0.84, 15.0, 10.0, 1.0
SAME = 0.01
SPLITS = 3

# The waste lies on a table and has no side that is up.
FULL = FinetuneConfig(augmentation="round", copies=False)
# With and without cached features the same is learned: no augmentation, no dropout.
CACHE = FinetuneConfig(augmentation="none", dropout=0.0, head_epochs=3, epochs=0, patience=0, copies=False)
QUICK = replace(CACHE, base="MobileNet", image_size=160, weights=None, head_units=0, head_epochs=4)


@dataclass(frozen=True)
class _Life:
    """One run: its result, its wall seconds, and the seconds of each epoch of the first phase."""

    result: FinetuneResult
    seconds: float
    head_epochs: Sequence[float]


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` compares cached features with computed ones on digits, and stops a run."""
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        photos = _digits(folder / "photos", seed) if quick else _waste()
        cached = replace(QUICK if quick else CACHE, seed=seed)
        stopped = replace(cached, alpha=0.25, image_size=96) if quick else cached
        parts = [_cache(photos, cached, folder), _stop(photos, stopped, folder)]
        if not quick:
            parts.append(_accuracy(photos, replace(FULL, seed=seed), folder, ACCURACY))
            parts.append(_accuracy(photos, replace(FULL, alpha=0.35, seed=seed), folder, SMALL_ACCURACY))
    rows = tuple(row for part in parts for row in part.rows)
    return Measured(rows, tuple(check for part in parts for check in part.checks))


def _waste() -> Path:
    """The photos of the full form; raises InputError where this machine has none."""
    folder = Path(os.environ.get("CNN_TOOLKIT_DATA", "")) / "photos" / "trashnet6"
    if not folder.is_dir():
        raise InputError(f"the full benchmark needs photos by class in {folder}; set CNN_TOOLKIT_DATA, or give --quick")
    return folder


def _digits(folder: Path, seed: int) -> Path:
    """Sixty digits of each of three classes as files."""
    data = load_dataset("digits", seed=seed)
    for number in range(3):
        (folder / str(number)).mkdir(parents=True)
        for place, image in enumerate(data.x_train[data.y_train == number][:60]):
            Image.fromarray(image[..., 0]).save(folder / str(number) / f"{place}.png")
    return folder


def _run(photos: Path, config: FinetuneConfig, folder: Path) -> _Life:
    begun, phase, epochs = time.perf_counter(), "", []
    for event in finetune(photos, config, folder):
        if isinstance(event, PhaseBegins):
            phase = event.phase
        elif isinstance(event, EpochEnd) and phase == "head":
            epochs.append(event.seconds)
    if not isinstance(event, Finished):
        raise RuntimeError(f"a fine-tuning of the benchmark gave no result: {event}")
    life = _Life(event.result, time.perf_counter() - begun, epochs)
    sys.stderr.write(f"{folder.name}: {event.result.test_accuracy:.1%} in {life.seconds:.0f} s\n")
    return life


def _cache(photos: Path, config: FinetuneConfig, folder: Path) -> Measured:
    """The first phase with features that were computed once beside the same with the base in every epoch.

    Both learn the same from the same batches. The first epoch, in which the backend compiles, is left out of both.
    """
    cached = _run(photos, config, folder / "cached")
    computed = _run(photos, replace(config, cache_features=False), folder / "computed")
    speed_up = median(computed.head_epochs[1:]) / median(cached.head_epochs[1:])
    apart = abs(cached.result.test_accuracy - computed.result.test_accuracy)
    rows = (
        Row.of("an epoch of the head on cached features", "s", cached.head_epochs[1:]),
        Row.of("an epoch of the head with the base computed", "s", computed.head_epochs[1:]),
        Row.of("features of all photos, once, with reading them", "s", [cached.result.seconds["preparing"]]),
    )
    checks = (
        Check.at_least("cached features: times faster per epoch", speed_up, SPEED_UP),
        Check.at_most("cached features: test accuracy apart", apart, SAME),
    )
    return Measured(rows, checks)


def _stop(photos: Path, config: FinetuneConfig, folder: Path) -> Measured:
    """Seconds from a stop in the second phase to the result: a step, a short test and the saved model."""
    stop, since, phase = threading.Event(), 0.0, ""
    config = replace(config, head_epochs=1, epochs=100)
    for event in finetune(photos, config, folder / "stopped", stop):
        if isinstance(event, PhaseBegins):
            phase = event.phase
        elif isinstance(event, Step) and phase == "blocks" and not stop.is_set():
            stop.set()
            since = time.perf_counter()
    seconds = time.perf_counter() - since
    if not isinstance(event, Finished):
        raise RuntimeError(f"a stopped fine-tuning of the benchmark gave no result: {event}")
    row = Row.of("stop in the second phase to result", "s", [seconds])
    return Measured((row,), (Check.at_most("stop in the second phase to result, seconds", seconds, STOP_SECONDS),))


def _accuracy(photos: Path, config: FinetuneConfig, folder: Path, goal: float) -> Measured:
    """Test accuracy and minutes over three splits."""
    name = f"{config.base} {config.alpha:g}"
    seeds = range(config.seed, config.seed + SPLITS)
    lives = [_run(photos, replace(config, seed=seed), folder / f"{name} {seed}") for seed in seeds]
    minutes = [life.seconds / 60 for life in lives]
    heads = [_head_only(life.result) for life in lives]
    rows = (
        Row.of(f"{name}: test accuracy", "share", [life.result.test_accuracy for life in lives]),
        Row.of(f"{name}: best validation accuracy of the head alone", "share", heads),
        Row.of(f"{name}: the whole run", "minutes", minutes),
    )
    accuracy = mean(life.result.test_accuracy for life in lives)
    checks = (
        Check.at_least(f"{name}: mean test accuracy of {SPLITS} splits", accuracy, goal),
        Check.at_most(f"{name}: minutes of the longest run", max(minutes), MINUTES),
    )
    return Measured(rows, checks)


def _head_only(result: FinetuneResult) -> float:
    pairs = zip(result.history["phase"], result.history["val_accuracy"], strict=True)
    return float(max(accuracy for phase, accuracy in pairs if phase == "head"))
