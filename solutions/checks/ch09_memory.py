"""The checks of chapter 9."""

import numpy as np
from numpy.random import Generator

from solutions import ch09_memory as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question


def batch_cases(random: Generator) -> list[tuple[int, int, int]]:
    """Some images fit, exactly so many, one byte less, none, and not even the weights."""
    fixed, each = whole(random, 10**5, 10**7), whole(random, 1000, 10**5)
    many = whole(random, 2, 200)
    drawn = [(fixed + whole(random, 10**6, 10**8), fixed, each + number) for number in range(4)]
    edges = [(fixed + many * each + spare, fixed, each) for spare in (0, -1)]
    return [*drawn, *edges, (fixed + each - 1, fixed, each), (fixed // 3, fixed, each)]


def accumulation_cases(random: Generator) -> list[tuple[int, int]]:
    """Numbers with many divisors, a prime, everything fits, one at a time."""
    drawn = [(60 * whole(random, 2, 12), whole(random, 7, 59)) for _ in range(5)]
    return [*drawn, (97, whole(random, 10, 60)), (64, 64), (32, 100), (12, 1), (130, 40)]


def gradient_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Parts of very different sizes, of equal sizes, and one part."""
    drawn = [(normal(random, parts, 4), random.integers(1, 40, parts)) for parts in (2, 3, 5)]
    uneven = normal(random, 3, 5), np.array([32, 32, whole(random, 1, 9)])
    return [*drawn, uneven, (normal(random, 3, 2), np.array([8, 8, 8])), (normal(random, 1, 3), np.array([7]))]


def part_cases(random: Generator) -> list[tuple[np.ndarray, int, float]]:
    """Two parts, more, one, and channels of very different sizes."""
    cases = []
    for images, channels, parts in ((8, 3, 2), (12, 2, 3), (12, 4, 4), (6, 3, 1)):
        scaled = normal(random, images, channels) * random.uniform(0.3, 5, channels) + normal(random, channels)
        cases.append((scaled, parts, float(random.uniform(0.05, 0.5))))
    return cases


def saving_cases(random: Generator) -> list[tuple[int, int, int]]:
    """Large weights, large activations, large batches."""
    drawn = [(whole(random, 10**3, 10**7), whole(random, 10**3, 10**6), whole(random, 2, 256)) for _ in range(6)]
    return [*drawn, (whole(random, 10, 99), 10**6, 1)]


# What goes wrong.


def rounded_steps(wanted: int, largest: int) -> tuple[int, int]:
    """Enough parts, but not equal ones."""
    steps = -(-wanted // largest)
    return -(-wanted // steps), steps


def full_batches(wanted: int, largest: int) -> tuple[int, int]:
    """The largest batch, as often as it takes."""
    batch = min(wanted, largest)
    return batch, -(-wanted // batch)


def powers_of_two(wanted: int, largest: int) -> tuple[int, int]:
    """Twice as many parts each time."""
    steps = 1
    while wanted / steps > largest:
        steps *= 2
    return wanted // steps, steps


def one_by_one(wanted: int, largest: int) -> tuple[int, int]:
    """One image at a time, which always fits."""
    return 1, wanted


def normalized(what: str, activations: np.ndarray, parts: int, epsilon: float) -> np.ndarray:
    """Batch normalization with the mistake `what`."""
    if what == "one batch":
        return solution.normalize_in_parts(activations, 1, epsilon)
    axes = None if what == "all channels" else 0
    results = []
    for part in np.split(activations, parts):
        variance = part.var(axis=axes, ddof=1 if what == "n - 1" else 0)
        spread = {"variance": variance + epsilon, "outside": np.sqrt(variance) + epsilon, "none": np.sqrt(variance)}
        results.append((part - part.mean(axis=axes)) / spread.get(what, np.sqrt(variance + epsilon)))
    return np.concatenate(results)


def interleaved(activations: np.ndarray, parts: int, epsilon: float) -> np.ndarray:
    """Parts of every `parts`-th image."""
    result = np.empty(activations.shape)
    for first in range(parts):
        result[first::parts] = solution.normalize_in_parts(activations[first::parts], 1, epsilon)
    return result


EXERCISE = Exercise(
    "ch09_memory",
    "Out of memory",
    (
        Question(
            "largest_batch",
            (Item("the most images that fit", 2, ((1_000_000, 300_000, 80_000), (300_000, 299_999, 10)), batch_cases),),
            solution.largest_batch,
            hints=(
                Hint("What is taken whatever the batch has to be subtracted first.", lambda m, f, p: m // p),
                Hint(
                    "There are no parts of an image: `//` divides and rounds down.", lambda m, f, p: max(0, (m - f) / p)
                ),
                Hint("Where not even the weights fit, the answer is 0 and not negative.", lambda m, f, p: (m - f) // p),
                Hint("This is one image too many.", lambda m, f, p: max(0, -((f - m) // p))),
                Hint("The fixed bytes are there once, not for each image.", lambda m, f, p: m // (f + p)),
                Hint("0 is a possible answer: not even one image may fit.", lambda m, f, p: max(1, (m - f) // p)),
            ),
        ),
        Question(
            "accumulation",
            (Item("the least number of equal parts", 2, ((300, 64), (100, 30)), accumulation_cases),),
            solution.accumulation,
            hints=(
                Hint("The batch comes first, then the steps.", lambda n, m: solution.accumulation(n, m)[::-1]),
                Hint("The parts have to be equal: batch × steps is exactly the number wanted.", rounded_steps),
                Hint("The parts have to be equal; a full batch again and again gives too many images.", full_batches),
                Hint("The number of steps need not be a power of two.", powers_of_two),
                Hint("One image at a time fits, but fewer steps do too.", one_by_one),
            ),
        ),
        Question(
            "accumulated_gradient",
            (
                Item(
                    "every image counts the same",
                    2,
                    ((np.array([[1.0, 0.0], [4.0, 6.0]]), np.array([2, 1])),),
                    gradient_cases,
                ),
            ),
            solution.accumulated_gradient,
            ARRAYS,
            hints=(
                Hint(
                    "A small part counts as much as a large one here; weight each by its images.",
                    lambda g, n: g.mean(axis=0),
                ),
                Hint("This is a sum; divide by the number of all images.", lambda g, n: n @ g),
                Hint("Divide by the number of images, not by that of parts.", lambda g, n: n @ g / len(n)),
                Hint("The gradients were added up; the mean over all images is wanted.", lambda g, n: g.sum(axis=0)),
            ),
        ),
        Question(
            "normalize_in_parts",
            (Item("each part by itself", 2, ((np.array([[1.0], [3.0], [10.0], [30.0]]), 2, 0.0),), part_cases),),
            solution.normalize_in_parts,
            ARRAYS,
            hints=(
                Hint(
                    "Each part has its own mean and variance; these are those of the whole batch.",
                    lambda *a: normalized("one batch", *a),
                ),
                Hint("Each channel has its own mean and variance (axis=0).", lambda *a: normalized("all channels", *a)),
                Hint(
                    "The variance is divided by the number of images, not by one less (ddof=0).",
                    lambda *a: normalized("n - 1", *a),
                ),
                Hint("Divide by the root of the variance.", lambda *a: normalized("variance", *a)),
                Hint(
                    "Epsilon is added to the variance, before the root is taken.", lambda *a: normalized("outside", *a)
                ),
                Hint("Epsilon is missing.", lambda *a: normalized("none", *a)),
                Hint("The parts are in the order of the images: the first ones together, then the next.", interleaved),
            ),
        ),
        Question(
            "mixed_precision_saving",
            (Item("the share that is saved", 2, ((1000, 4000, 1), (1000, 4000, 4)), saving_cases),),
            solution.mixed_precision_saving,
            Compare(rtol=1e-5, atol=1e-6),
            hints=(
                Hint(
                    "Not everything is halved: weights, gradients and Adam's numbers stay in 4 bytes.",
                    lambda p, a, b: 0.5,
                ),
                Hint(
                    "This is the share that remains; 1 minus it is saved.",
                    lambda p, a, b: 1 - solution.mixed_precision_saving(p, a, b),
                ),
                Hint(
                    "The activations are there for each image of the batch.",
                    lambda p, a, b: solution.mixed_precision_saving(p, a, 1),
                ),
                Hint(
                    "Each weight comes with a gradient and two numbers of Adam: four numbers in all.",
                    lambda p, a, b: 2 * a * b / (4 * p + 4 * a * b),
                ),
                Hint("These are bytes; the share of the whole is wanted.", lambda p, a, b: 2 * a * b),
            ),
        ),
    ),
)
