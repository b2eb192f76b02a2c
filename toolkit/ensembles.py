"""What several networks know together: their probabilities averaged. NumPy alone.

B. Lakshminarayanan, A. Pritzel, C. Blundell: Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles
(2017): networks that differ in their seed only, and the mean of what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.calibration import checked, cross_entropy, reliability
from toolkit.errors import InputError

MOST_SUBSETS = 100
"""A size with more subsets of the members is told by the first so many."""


@dataclass(frozen=True)
class Ensemble:
    """All ensembles of one size: test accuracy of each, and the mean of their cross-entropy and calibration error."""

    size: int
    accuracies: tuple[float, ...]
    cross_entropy: float
    ece: float

    @property
    def accuracy(self) -> float:
        """The mean over the ensembles of this size."""
        return float(np.mean(self.accuracies))


def average(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The mean of the members' probabilities, (n, classes); raises InputError where they differ in shape.

    >>> average([[[1.0, 0.0]], [[0.5, 0.5]]]).tolist()
    [[0.75, 0.25]]
    """
    arrays = [np.asarray(member, np.float64) for member in members]
    if not arrays or len({array.shape for array in arrays}) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays) or "none"
        raise InputError(f"an ensemble has at least one member and all answer for the same images; {shapes} came")
    return np.asarray(np.mean(arrays, axis=0), np.float64)


def ensembles(
    members: Sequence[ArrayLike], labels: ArrayLike, sizes: Sequence[int] = (1, 2, 3, 4, 5)
) -> list[Ensemble]:
    """How good ensembles of each size are, over all subsets of the members; sizes with no subset are left out.

    `members` are probabilities (n, classes) for the same images.
    """
    return [_of_size(members, labels, size) for size in sizes if 1 <= size <= len(members)]


def _of_size(members: Sequence[ArrayLike], labels: ArrayLike, size: int) -> Ensemble:
    together = [average(subset) for subset in islice(combinations(members, size), MOST_SUBSETS)]
    right = [_accuracy(shares, labels) for shares in together]
    losses = [cross_entropy(shares, labels) for shares in together]
    errors = [reliability(shares, labels).ece for shares in together]
    return Ensemble(size, tuple(right), float(np.mean(losses)), float(np.mean(errors)))


def _accuracy(probabilities: NDArray[np.float64], labels: ArrayLike) -> float:
    shares, true = checked(probabilities, labels)
    return float((shares.argmax(axis=1) == true).mean())
