"""Records of trainings put together over seeds: means, differences, ablations and what is taken for what.

Nothing is trained or measured here. A mean comes with the sample's standard deviation (n - 1) over seeds, and a
difference of two means with its standard error, so that luck can be told from gain.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from toolkit.calibration import Calibration
from toolkit.errors import InputError
from toolkit.records import Record

COSTS = ("params", "macs", "training_flops", "seconds", "peak_bytes", "images_per_second")


def _kind(record: Record) -> tuple[Any, ...]:
    """What records of one group have in common."""
    return (
        *(record.dataset, record.experiment, record.architecture, record.recipe_name, record.params),
        *(record.backend, record.device),
    )


# Over seeds.


@dataclass(frozen=True)
class Spread:
    """The mean of `n` values and their sample standard deviation, None for one value.

    >>> str(Spread.of([0.90, 0.92]))
    '0.91 ± 0.0141'
    """

    mean: float
    deviation: float | None
    n: int

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Mean and deviation of some values, at least one."""
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + ("" if self.deviation is None else f" ± {self.deviation:.3g}")

    def percent(self) -> str:
        """A share as a percentage with its deviation.

        >>> Spread.of([0.9142, 0.9100, 0.9121]).percent()
        '91.21 % ± 0.21'
        """
        return f"{100 * self.mean:.2f} %" + ("" if self.deviation is None else f" ± {100 * self.deviation:.2f}")


@dataclass(frozen=True)
class Group:
    """Records that differ in their seed only: one point of a figure. Figures take it as a model and as a history."""

    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        kinds = {_kind(record) for record in self.records}
        if len(kinds) != 1:
            raise InputError(
                f"the records of a group differ in their seed only; {len(self.records)} records of {len(kinds)} kinds "
                "came; use group_records"
            )

    @property
    def first(self) -> Record:
        """The record of the smallest seed: what all have in common, it has."""
        return self.records[0]

    @property
    def name(self) -> str:
        """Network and recipe: what tells the groups of a dataset apart."""
        return self.first.name

    @property
    def params(self) -> int:
        """Parameters of the network."""
        return self.first.params

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the confusion matrix."""
        return tuple(self.first.class_names)

    @property
    def accuracy(self) -> Spread:
        """Test accuracy over seeds."""
        return Spread.of([record.test_accuracy for record in self.records])

    def cost(self, name: str) -> Spread:
        """One of `COSTS` over seeds. Raises InputError for another name."""
        if name not in COSTS:
            raise InputError(f"there is no cost {name!r}; choose one of {', '.join(COSTS)}")
        return Spread.of([getattr(record, name) for record in self.records])

    @property
    def history(self) -> dict[str, list[float]]:
        """The mean of each curve, epoch by epoch, as far as any record goes."""
        return {name: [spread.mean for spread in curve] for name, curve in self._curves().items()}

    @property
    def deviations(self) -> dict[str, list[float]]:
        """The standard deviation of each curve over seeds, epoch by epoch; empty for one record."""
        if len(self.records) < 2:
            return {}
        return {name: [spread.deviation or 0.0 for spread in curve] for name, curve in self._curves().items()}

    def _curves(self) -> dict[str, list[Spread]]:
        histories = [record.history for record in self.records]
        names = [name for name in histories[0] if all(name in history for history in histories)]
        return {name: _by_epoch([history[name] for history in histories]) for name in names}

    @property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The counts of all records together, empty where none has any."""
        tables = [record.confusion for record in self.records if record.confusion]
        return tuple(map(tuple, np.sum(tables, axis=0).tolist())) if tables else ()

    @property
    def per_class_accuracy(self) -> dict[str, float]:
        """The accuracy of each class, the mean over seeds."""
        return {name: spread.mean for name, spread in self._per_class().items()}

    @property
    def per_class_deviations(self) -> dict[str, float]:
        """The standard deviation of each class's accuracy over seeds; empty for one record."""
        return {name: each.deviation for name, each in self._per_class().items() if each.deviation is not None}

    def _per_class(self) -> dict[str, Spread]:
        told = [record.per_class_accuracy for record in self.records if record.per_class]
        return {name: Spread.of([shares[name] for shares in told]) for name in (self.class_names if told else ())}

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The classes that are taken for each other, the most confused first."""
        return confusion_pairs(self.confusion, self.class_names) if self.confusion else ()

    @property
    def calibration(self) -> Calibration:
        """Confidence and accuracy of the answers of all records together."""
        told = [record.calibration for record in self.records if record.calibration]
        return Calibration.together([Calibration.from_dict(each) for each in told])


def _by_epoch(curves: Sequence[Sequence[float]]) -> list[Spread]:
    """Mean and deviation of each epoch over the curves that reach it."""
    longest = max(map(len, curves))
    return [Spread.of([curve[epoch] for curve in curves if epoch < len(curve)]) for epoch in range(longest)]


def group_records(records: Iterable[Record]) -> tuple[Group, ...]:
    """Records put together over seeds, in the order in which their kinds first came; of one seed the last counts."""
    kinds: dict[tuple[Any, ...], dict[int, Record]] = {}
    for record in records:
        kinds.setdefault(_kind(record), {})[record.seed] = record
    return tuple(Group(tuple(each[seed] for seed in sorted(each))) for each in kinds.values())


def datasets_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The datasets that there are records of, each once, in their order."""
    return tuple(dict.fromkeys(record.dataset for record in records))


# Differences.


@dataclass(frozen=True)
class Difference:
    """What one group has beyond another: the difference of the mean accuracies and its standard error.

    name: what was changed. error: Welch's, sqrt(s1²/n1 + s2²/n2); None where one of the two has one record only.
    """

    name: str
    group: Group
    gain: float
    error: float | None

    @property
    def is_clear(self) -> bool | None:
        """Whether the gain is more than two standard errors away from nothing; None where no error is known."""
        return None if self.error is None else abs(self.gain) > 2 * self.error

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {100 * self.error:.2f}"
        return f"{100 * self.gain:+.2f}{error}"


def difference(group: Group, base: Group) -> Difference:
    """How much more accurate one group is than another."""
    ours, theirs = group.accuracy, base.accuracy
    error = None
    if ours.deviation is not None and theirs.deviation is not None:
        error = math.sqrt(ours.deviation**2 / ours.n + theirs.deviation**2 / theirs.n)
    name = group.first.recipe_name.removeprefix(f"{base.first.recipe_name}_").replace("_", " ")
    return Difference(name, group, ours.mean - theirs.mean, error)


def is_ablation(group: Group) -> bool:
    """Whether the group belongs to an experiment that changes one ingredient of another's recipe."""
    return "_ablation_" in group.first.experiment


def ablation_base(groups: Iterable[Group]) -> Group | None:
    """The group whose recipe the ablations among the groups change, None where there are none.

    It has their network, and of all such groups the recipe with the fewest settings that are not theirs.
    """
    known = list(groups)
    changed = [group for group in known if is_ablation(group)]
    likely = [group for group in known if not is_ablation(group) and changed and _net(group) == _net(changed[0])]
    return min(likely, key=lambda base: sum(len(recipe_changes(each, base)) for each in changed), default=None)


def recipe_changes(group: Group, base: Group) -> dict[str, Any]:
    """The settings of a group's recipe that are not those of a base, but for the name."""
    theirs = base.first.recipe
    return {name: value for name, value in group.first.recipe.items() if name != "name" and theirs.get(name) != value}


def ablation(groups: Iterable[Group], base: Group) -> tuple[Difference, ...]:
    """What each change of the recipe of `base` brings to its network, the largest gain first.

    Of the groups those count that belong to ablations, with the network, dataset and device of the base.
    """
    same = [group for group in groups if is_ablation(group) and _net(group) == _net(base)]
    return tuple(sorted((difference(group, base) for group in same), key=lambda each: -each.gain))


def _net(group: Group) -> tuple[Any, ...]:
    record = group.first
    return (record.dataset, record.architecture, record.params, record.backend, record.device)


# Confusion.


@dataclass(frozen=True)
class Pair:
    """Two classes and how often each was taken for the other; `share` is that of all mistakes."""

    one: str
    other: str
    one_as_other: int
    other_as_one: int
    share: float

    @property
    def mistakes(self) -> int:
        """How often either was taken for the other."""
        return self.one_as_other + self.other_as_one


def confusion_pairs(confusion: ArrayLike, names: Sequence[str] = ()) -> tuple[Pair, ...]:
    """All pairs of classes, those that are most often taken for each other first.

    `confusion` has counts, rows are true classes and columns answers. Raises InputError where it is not square or the
    names are of another number.

    >>> [(pair.one, pair.other, pair.mistakes) for pair in confusion_pairs([[5, 2, 0], [1, 6, 0], [0, 1, 7]], "abc")]
    [('a', 'b', 3), ('b', 'c', 1), ('a', 'c', 0)]
    """
    counts = np.asarray(confusion)
    known = [*names] or [str(number) for number in range(len(counts))]
    if counts.ndim != 2 or counts.shape != (len(known), len(known)):
        raise InputError(
            f"a confusion matrix of {len(known)} classes is {len(known)} × {len(known)}; {counts.shape} came"
        )
    wrong = max(1, int(counts.sum() - np.trace(counts)))
    pairs = [
        Pair(known[i], known[j], int(counts[i, j]), int(counts[j, i]), float(counts[i, j] + counts[j, i]) / wrong)
        for i, j in combinations(range(len(known)), 2)
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.mistakes))


def place_of(pairs: Sequence[Pair], one: str, other: str) -> int:
    """At which place, from 1, a pair of classes stands among the pairs; raises InputError where it does not.

    >>> place_of(confusion_pairs([[5, 2, 0], [1, 6, 0], [0, 1, 7]], "abc"), "c", "b")
    2
    """
    for place, pair in enumerate(pairs, 1):
        if {pair.one, pair.other} == {one, other}:
            return place
    raise InputError(f"there is no pair of {one!r} and {other!r} among these {len(pairs)}")
