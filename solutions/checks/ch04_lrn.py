"""The checks of chapter 4."""

from typing import Any

import numpy as np
from numpy.random import Generator

from solutions import ch04_lrn as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question

FOUR = np.array([1.0, 2.0, 3.0, 4.0])


def pixel_cases(random: Generator) -> list[tuple[np.ndarray, int]]:
    """One pixel: radii from 0 to more than there are channels."""
    return [(normal(random, channels), radius) for channels, radius in ((8, 2), (7, 1), (6, 3), (5, 0), (4, 9), (1, 2))]


def map_cases(random: Generator) -> list[tuple[np.ndarray, int]]:
    """Maps of one image and of several."""
    shapes = [(3, 4, 7), (2, 5, 6), (2, 3, 2, 8), (4, 9)]
    return [(normal(random, *shape), whole(random, 1, 3)) for shape in shapes]


def lrn_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Settings of all kinds, those of AlexNet, zeros."""
    drawn = [
        (3 * normal(random, 2, 3, 8), whole(random, 1, 3), *(float(each) for each in random.uniform(0.5, 2, 3)))
        for _ in range(5)
    ]
    alexnet = 100 * normal(random, 1, 2, 9), 2, 2.0, 1e-4, 0.75
    return [*drawn, alexnet, (np.zeros((2, 6)), 2, 1.5, 1.0, 0.5)]


def settings_cases(random: Generator) -> list[tuple[int, float]]:
    """Odd sizes from 1 on."""
    return [(2 * whole(random, 1, 20) + 1, float(random.uniform(1e-4, 2))) for _ in range(6)] + [(1, 0.5)]


def norm_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Maps, vectors, and a variance so small that epsilon counts."""
    cases = []
    for shape in ((2, 3, 4, 5), (3, 4, 2), (6, 3)):
        gamma, beta, mean = (normal(random, shape[-1]) for _ in range(3))
        variance = random.uniform(0.2, 4, shape[-1])
        cases.append((normal(random, *shape), gamma, beta, mean, variance, float(random.uniform(0.01, 0.5))))
    return [*cases, (normal(random, 4, 2), np.ones(2), np.ones(2), np.zeros(2), np.zeros(2), 0.25)]


# What goes wrong.


def band_sums(squares: np.ndarray, before: int, after: int, *, around: bool = False) -> np.ndarray:
    """Sums over the channels from `before` ones back to `after` ones ahead."""
    channels = squares.shape[-1]
    distance = np.subtract.outer(np.arange(channels), np.arange(channels))
    reach = (distance <= before) & (distance >= -after)
    if around:
        reach |= (distance - channels >= -after) | (distance + channels <= before)
    return np.asarray(squares @ reach.T.astype(float))


def pixel_sums(activations: np.ndarray, radius: int) -> np.ndarray:
    """Sums along the axis before the channels, where there is one."""
    turned = activations if activations.ndim == 1 else activations.swapaxes(-1, -2)
    found = band_sums(turned**2, radius, radius) if activations.ndim > 1 else turned**2
    return found if activations.ndim == 1 else found.swapaxes(-1, -2)


def lrn(activations: np.ndarray, radius: int, bias: float, alpha: float, beta: float, size: int = 1) -> np.ndarray:
    """Normalization with alpha divided by `size`."""
    sums = band_sums(activations**2, radius, radius)
    return np.asarray(activations / (bias + alpha / size * sums) ** beta)


def not_squared(activations: np.ndarray, radius: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """Sums of absolute numbers."""
    return np.asarray(activations / (bias + alpha * band_sums(np.abs(activations), radius, radius)) ** beta)


def batch_statistics(x: np.ndarray, g: np.ndarray, b: np.ndarray, m: np.ndarray, v: np.ndarray, e: float) -> np.ndarray:
    """The mean and variance of these numbers, as in training."""
    axes = tuple(range(x.ndim - 1))
    with np.errstate(invalid="ignore"):
        return solution.batch_normalization(x, g, b, x.mean(axes), x.var(axes), e)


EXERCISE = Exercise(
    "ch04_lrn",
    "Local response normalization",
    (
        Question(
            "squared_sums",
            (
                Item("one pixel", 1, ((FOUR, 1), (FOUR, 0)), pixel_cases),
                Item("feature maps", 2, ((FOUR.reshape(2, 1, 2), 1),), map_cases),
            ),
            solution.squared_sums,
            ARRAYS,
            hints=(
                Hint("The squares are missing.", lambda x, r: band_sums(x, r, r)),
                Hint(
                    "The last neighbour is missing: a slice ends before its second number.",
                    lambda x, r: band_sums(x**2, r, r - 1) if r else 0 * x,
                ),
                Hint(
                    "The channels were wrapped around; the first has no neighbour before it.",
                    lambda x, r: band_sums(x**2, r, r, around=True),
                ),
                Hint(
                    "The radius is how far it goes to each side, not the number of channels.",
                    lambda x, r: band_sums(x**2, r // 2, r // 2),
                ),
                Hint("The number itself belongs to the sum.", lambda x, r: band_sums(x**2, r, r) - x**2),
                Hint("The sum goes along the channels, the last axis, not along the pixels.", pixel_sums),
                Hint(
                    "This is the mean; the sum is wanted.",
                    lambda x, r: band_sums(x**2, r, r) / band_sums(np.ones_like(x), r, r),
                ),
            ),
        ),
        Question(
            "local_response_normalization",
            (
                Item(
                    "normalized across channels",
                    4,
                    ((np.array([1.0, 2.0, 3.0]), 1, 1.0, 1.0, 1.0), (FOUR, 2, 2.0, 0.5, 0.75)),
                    lrn_cases,
                ),
            ),
            solution.local_response_normalization,
            ARRAYS,
            hints=(
                Hint(
                    "Alpha was divided by the number of channels in the sum, as PyTorch does; here it is not.",
                    lambda x, r, k, a, b: lrn(x, r, k, a, b, 2 * r + 1),
                ),
                Hint("The power beta is missing.", lambda x, r, k, a, b: lrn(x, r, k, a, 1)),
                Hint(
                    "The bias is missing.",
                    lambda x, r, k, a, b: np.divide(
                        x, (a * band_sums(x**2, r, r)) ** b, out=np.zeros_like(x), where=x != 0
                    ),
                ),
                Hint("Alpha is missing.", lambda x, r, k, a, b: lrn(x, r, k, 1, b)),
                Hint("Divide by it; it was multiplied.", lambda x, r, k, a, b: lrn(x, r, k, a, -b)),
                Hint("The squares are missing in the sum.", not_squared),
            ),
        ),
        Question(
            "tensorflow_settings",
            (Item("radius and alpha", 1, ((5, 0.001), (3, 0.75)), settings_cases),),
            solution.tensorflow_settings,
            Compare(rtol=1e-6, atol=0),
            hints=(
                Hint(
                    "The radius counts the channels on one side: half of size, rounded down.", lambda n, a: (n, a / n)
                ),
                Hint("PyTorch divides alpha by size; TensorFlow does not, so you have to.", lambda n, a: (n // 2, a)),
                Hint("Divide alpha by size, and do not multiply.", lambda n, a: (n // 2, a * n)),
                Hint("A radius is a whole number: `//` rounds down.", lambda n, a: (n / 2, a / n)),
            ),
        ),
        Question(
            "batch_normalization",
            (
                Item(
                    "normalized with kept statistics",
                    2,
                    ((np.array([[5.0]]), np.array([2.0]), np.array([1.0]), np.array([3.0]), np.array([4.0]), 0.0),),
                    norm_cases,
                ),
            ),
            solution.batch_normalization,
            ARRAYS,
            hints=(
                Hint(
                    "Divide by the root of the variance, not by the variance.",
                    lambda x, g, b, m, v, e: g * (x - m) / (v + e) + b,
                ),
                Hint("Epsilon is missing.", lambda x, g, b, m, v, e: g * (x - m) / np.sqrt(np.maximum(v, 1e-300)) + b),
                Hint(
                    "Epsilon is added to the variance, before the root is taken.",
                    lambda x, g, b, m, v, e: g * (x - m) / (np.sqrt(v) + e) + b,
                ),
                Hint("The offset beta is missing.", lambda x, g, b, m, v, e: g * (x - m) / np.sqrt(v + e)),
                Hint("The scale gamma is missing.", lambda x, g, b, m, v, e: (x - m) / np.sqrt(v + e) + b),
                Hint(
                    "At prediction the kept mean and variance are used, not those of these numbers.", batch_statistics
                ),
            ),
        ),
    ),
)
