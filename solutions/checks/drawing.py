"""What several checks draw from a generator: plain Python numbers and small arrays."""

import numpy as np
from numpy.random import Generator

from toolkit.grading.questions import Compare

# Answers computed in float32 are as right as those in float64.
ARRAYS = Compare(rtol=1e-4, atol=1e-5)


def whole(random: Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(random.integers(low, high, endpoint=True))


def normal(random: Generator, *shape: int) -> np.ndarray:
    """An array of normally distributed numbers."""
    return random.standard_normal(shape)
