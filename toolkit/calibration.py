"""Whether a network's probabilities can be believed: reliability, calibration error, and temperature. NumPy alone.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks (2017). Of all images to which
a calibrated network says "80 %", 80 % are what it says. Probabilities are (n, classes), labels whole numbers (n,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError

Floats = NDArray[np.float64]

_LEAST, _MOST = 1 / 64, 64.0
_STEPS = 60


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in one part of 0 to 1: how many, their mean confidence, the share that is right.

    An empty bin has 0 in all three.
    """

    count: int
    confidence: float
    accuracy: float

    @property
    def gap(self) -> float:
        """Confidence beyond accuracy: above 0 the network is too sure."""
        return self.confidence - self.accuracy


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy are apart; `bins` divide the confidences from 0 to 1 evenly."""

    bins: tuple[Bin, ...]

    @classmethod
    def from_dict(cls, told: Mapping[str, Sequence[float]]) -> Calibration:
        """The calibration that `to_dict` wrote down."""
        rows = zip(told["counts"], told["confidence"], told["accuracy"], strict=True)
        return cls(tuple(Bin(int(count), confidence, accuracy) for count, confidence, accuracy in rows))

    @classmethod
    def together(cls, many: Sequence[Calibration]) -> Calibration:
        """The calibration of all answers of several networks. Raises InputError where their bins differ in number.

        >>> one = Calibration((Bin(1, 0.9, 1.0),))
        >>> Calibration.together([one, Calibration((Bin(3, 0.9, 0.0),))]).bins
        (Bin(count=4, confidence=0.9, accuracy=0.25),)
        """
        if len({len(each.bins) for each in many}) > 1:
            raise InputError("calibrations are put together bin by bin, so all need the same number of bins")
        return cls(tuple(_joined(bins) for bins in zip(*(each.bins for each in many), strict=True)))

    @property
    def count(self) -> int:
        """Answers in all bins."""
        return sum(each.count for each in self.bins)

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al. 2017, equation 3): the mean gap, weighted by the bins' answers.

        >>> Calibration((Bin(3, 0.9, 0.6), Bin(1, 0.5, 0.5))).ece.__round__(4)
        0.225
        """
        return sum(each.count * abs(each.gap) for each in self.bins) / (self.count or 1)

    @property
    def mce(self) -> float:
        """Maximum calibration error (equation 5): the largest gap of a bin that has answers."""
        return max((abs(each.gap) for each in self.bins if each.count), default=0.0)

    def to_dict(self) -> dict[str, list[float]]:
        """The bins as plain data: lists of counts, confidence and accuracy."""
        return {
            "counts": [each.count for each in self.bins],
            "confidence": [each.confidence for each in self.bins],
            "accuracy": [each.accuracy for each in self.bins],
        }


def _joined(bins: Sequence[Bin]) -> Bin:
    count = sum(each.count for each in bins)
    confidence = sum(each.count * each.confidence for each in bins) / (count or 1)
    return Bin(count, confidence, sum(each.count * each.accuracy for each in bins) / (count or 1))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """Confidence and accuracy in so many bins of equal width, (0, 1/bins] … ((bins - 1)/bins, 1].

    Guo et al. use 15 bins. Raises InputError where the parts do not fit each other.

    >>> reliability([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=2).bins[1].count
    3
    """
    require_whole("bins", bins)
    shares, true = checked(probabilities, labels)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == true
    # Rounding first: 0.2 * 15 is 3.0000000000000004 in float64, and belongs to the third bin.
    places = np.clip(np.ceil(np.round(confidence * bins, 9)).astype(int) - 1, 0, bins - 1)
    return Calibration(tuple(_bin(confidence[places == number], right[places == number]) for number in range(bins)))


def _bin(confidence: Floats, right: NDArray[np.bool_]) -> Bin:
    return Bin(len(right), float(confidence.mean()), float(right.mean())) if len(right) else Bin(0, 0.0, 0.0)


def checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities (n, classes) and labels (n,) as arrays; raises InputError for anything else."""
    shares, true = np.asarray(probabilities, np.float64), np.asarray(labels)
    if shares.ndim != 2 or true.shape != shares.shape[:1] or true.dtype.kind not in "iu" or not len(true):
        raise InputError(
            f"probabilities (n, classes) and a whole number for each of n images were expected; {shares.shape} and "
            f"{true.dtype} of {true.shape} came"
        )
    if not (shares.min() >= 0 and shares.max() <= 1 + 1e-4) or true.min() < 0 or true.max() >= shares.shape[1]:
        raise InputError(
            f"probabilities lie between 0 and 1 and labels between 0 and {shares.shape[1] - 1}; "
            f"{shares.min():.3g} to {shares.max():.3g} and {true.min()} to {true.max()} came; apply softmax first"
        )
    return shares, true.astype(np.int64)


def cross_entropy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean of -ln of the probability of what is true, in nats, probabilities of less than 1e-12 taken as that.

    >>> round(cross_entropy([[0.5, 0.5]], [0]), 4)
    0.6931
    """
    shares, true = checked(probabilities, labels)
    return float(-np.log(np.maximum(shares[np.arange(len(true)), true], 1e-12)).mean())


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean squared distance of the probabilities to the truth, 0 (perfect) to 2 (G. W. Brier, 1950).

    >>> brier_score([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    1.0
    """
    shares, true = checked(probabilities, labels)
    return float(((shares - np.eye(shares.shape[1])[true]) ** 2).sum(axis=1).mean())


def tempered(probabilities: ArrayLike, temperature: float) -> Floats:
    """The probabilities with every score divided by a temperature: above 1 less sure, below 1 surer.

    softmax(z / T) is softmax(ln(softmax(z)) / T), so that no scores are needed. Raises InputError for a temperature
    that is not above 0.

    >>> tempered([[0.9, 0.1]], 2.0).round(2).tolist()
    [[0.75, 0.25]]
    """
    if not temperature > 0:
        raise InputError(f"a temperature is above 0; {temperature!r} came; 1 changes nothing")
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12)) / temperature
    scaled = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float64)


def best_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the lowest cross-entropy (Guo et al. 2017, section 4.2), from 1/64 to 64.

    It is to be found on images that are not tested with. No answer changes by it, only how sure it is. The
    cross-entropy has one minimum over 1 / temperature, so that a golden-section search finds it.
    """
    shares, true = checked(probabilities, labels)
    low, high = np.log(_LEAST), np.log(_MOST)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        losses = [cross_entropy(tempered(shares, float(np.exp(at))), true) for at in (left, right)]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return float(np.exp((low + high) / 2))
