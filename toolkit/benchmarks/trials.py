"""Small experiments for the book: train some networks on the same images, and test them also on moved images.

What the benchmarks of chapters share. The training happens in a worker (`trial_fits`); nothing here imports Keras.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from toolkit.benchmarks import Row
from toolkit.processes import Ending, follow
from toolkit.training import TrainConfig

# Of the averages that batch normalization keeps. Keras's 0.99 needs many hundreds of steps to forget where it began,
# and these trainings are short: with it, a network that knew all its training images told 14 % of the digits right.
MOMENTUM = 0.9


@dataclass(frozen=True)
class Trial:
    """One training: its settings, what is done to the images, and how the network is tested.

    shuffled: all images, those of the test too, have their pixels in another order, which the seed decides.
    moves: by so many pixels in each of four directions the test images are moved.
    tested: test images at most, evenly from all of them; None for all.
    """

    name: str
    config: TrainConfig
    shuffled: bool = False
    moves: tuple[int, ...] = ()
    tested: int | None = None


@dataclass(frozen=True)
class Tried:
    """What a training gave.

    moved: by pixels, the test accuracy on moved images, the mean over the four directions.
    agreed: by pixels, the share of answers that a move does not change, the mean over the four directions.
    epoch_cpu: CPU seconds of each epoch but the first, in which the backend compiles the network.
    """

    name: str
    seed: int
    params: int
    train_accuracy: float
    test_accuracy: float
    moved: Mapping[int, float] = field(default_factory=dict)
    agreed: Mapping[int, float] = field(default_factory=dict)
    epoch_cpu: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trials:
    """A task for a worker: so many trainings, one after the other."""

    trials: tuple[Trial, ...]

    work: ClassVar[str] = "toolkit.benchmarks.trial_fits:run"

    def ended(self, ending: Ending) -> object:
        return f"the process ended ({ending.exit_code}): {ending.log}"


def try_out(trials: Iterable[Trial]) -> tuple[Tried, ...]:
    """Run all of them in one process and tell each result on the standard error output."""
    wanted, found = tuple(trials), list[Tried]()
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as folder:
        for event in follow(Trials(wanted), Path(folder)):
            if not isinstance(event, Tried):
                raise RuntimeError(f"a training of the benchmark gave no result: {event}")
            found.append(event)
            sys.stderr.write(f"{len(found)}/{len(wanted)} {event.name}, seed {event.seed}: {event.test_accuracy:.1%}\n")
    return tuple(found)


def of_name(tried: Sequence[Tried], name: str) -> list[Tried]:
    """The results of this name, by seed."""
    return sorted((each for each in tried if each.name == name), key=lambda each: each.seed)


def row(tried: Sequence[Tried], name: str, figure: Callable[[Tried], float], what: str, unit: str = "share") -> Row:
    """The row of one figure over the seeds of one name."""
    return Row.of(f"{name}: {what}", unit, [figure(each) for each in of_name(tried, name)])


def more(
    tried: Sequence[Tried], ours: str, other: str, figure: Callable[[Tried], float], what: str, unit: str = "share"
) -> Row:
    """The row of how much more `ours` has of a figure than `other`, seed by seed."""
    pairs = zip(of_name(tried, ours), of_name(tried, other), strict=True)
    return Row.of(what, unit, [figure(one) - figure(two) for one, two in pairs])


def accuracy(tried: Tried) -> float:
    """The share of test images told right."""
    return tried.test_accuracy


def moved_accuracy(pixels: int) -> Callable[[Tried], float]:
    """The share of moved test images told right."""
    return lambda tried: tried.moved[pixels]


def agreed(pixels: int) -> Callable[[Tried], float]:
    """The share of answers that a move does not change."""
    return lambda tried: tried.agreed[pixels]
