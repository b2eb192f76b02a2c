"""The checks of chapter 6."""

import math
from typing import Any

import numpy as np
from numpy.random import Generator

from solutions import ch06_training as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question


def loss_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Small logits, large ones, and one image."""
    drawn = []
    for images, classes, size in ((4, 3, 1), (7, 10, 3), (5, 2, 2), (3, 4, 400), (1, 5, 1)):
        drawn.append((size * normal(random, images, classes), random.integers(0, classes, images)))
    huge = np.array([[1000.0, 998.0], [-1000.0, -1001.0]]), np.array([1, 0])
    return [*drawn, huge]


def crop_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Images that are not square; all flipped, none, some; the whole height."""
    cases = []
    for size, flips in (
        (3, (True, False, True)),
        (2, (True, True, True)),
        (4, (False, False, False)),
        (5, (False, True, False)),
    ):
        images = normal(random, 3, 5, 8, whole(random, 1, 3))
        lefts = random.integers(1, 9 - size, 3)
        cases.append((images, size, random.integers(0, 6 - size, 3), lefts, np.array(flips)))
    return cases


def rate_cases(random: Generator) -> list[tuple[int, int, int, float]]:
    """On the way up, at the top, on the way down, at the last step, and without a warm-up."""
    steps, warmup, peak = whole(random, 100, 900), whole(random, 5, 40), float(random.uniform(0.01, 1))
    at = (0, whole(random, 1, 3), warmup - 1, warmup, whole(random, warmup + 1, steps - 2), steps - 1)
    return [*((step, steps, warmup, peak) for step in at), (0, steps, 0, peak), (steps // 3, steps, 0, peak)]


def confusion_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Many images, few images, the last class never seen, one class alone."""
    cases = []
    for images, classes, seen in ((40, 4, 4), (100, 10, 10), (12, 6, 5), (5, 3, 2)):
        cases.append((random.integers(0, seen, images), random.integers(0, seen, images), classes))
    return [*cases, (np.zeros(3, int), np.array([0, 1, 1]), 3)]


def accuracy_cases(random: Generator) -> list[tuple[np.ndarray]]:
    """Every class seen, a class without images, a class that is never answered."""
    cases = []
    for classes in (2, 4, 6):
        matrix = random.integers(1, 30, (classes, classes))
        without = matrix.copy()
        without[-1] = 0
        cases += [(matrix,), (without,)]
    return [*cases, (np.array([[0, 3], [0, 5]]),), (np.array([[1, 0], [4, 9]]),)]


# What goes wrong.


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax."""
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


def true_ones(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probabilities of the true classes."""
    return np.asarray(probabilities(logits)[np.arange(len(labels)), labels])


def softmax_over_images(logits: np.ndarray, labels: np.ndarray) -> float:
    """Probabilities along the wrong axis."""
    chances = np.maximum(probabilities(logits.T).T[np.arange(len(labels)), labels], 1e-300)
    return float(-np.log(chances).mean())


def overflowing(logits: np.ndarray, labels: np.ndarray) -> float:
    """The powers without taking the largest logit off."""
    with np.errstate(all="ignore"):
        power = np.exp(logits)
        return float(-np.log(power / power.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels].mean())


def cropped(
    how: str, images: np.ndarray, size: int, tops: np.ndarray, lefts: np.ndarray, flipped: np.ndarray
) -> np.ndarray:
    """Cut-outs with the mistake `how`."""
    if how == "flipped first":
        turned = np.where(np.reshape(flipped, (-1, 1, 1, 1)), images[:, :, ::-1], images)
        return solution.crop_and_flip(turned, size, tops, lefts, np.zeros_like(flipped))
    right = solution.crop_and_flip(images, size, tops, lefts, np.zeros_like(flipped))
    parts = [part[::-1] if mirrored else part for part, mirrored in zip(right, flipped, strict=True)]
    return np.stack(parts)


def swapped_corner(
    images: np.ndarray, size: int, tops: np.ndarray, lefts: np.ndarray, flipped: np.ndarray
) -> np.ndarray:
    """Rows and columns of the corner swapped; kept inside the image."""
    most = images.shape[1] - size, images.shape[2] - size
    return solution.crop_and_flip(images, size, np.minimum(lefts, most[0]), np.minimum(tops, most[1]), flipped)


def rate(how: str, step: int, steps: int, warmup: int, peak: float) -> float:
    """The learning rate with the mistake `how`."""
    if step < warmup and how != "no warm-up":
        return peak * (step + (how != "from 0")) / warmup
    progress = step / steps if how in ("no warm-up", "from the start") else (step - warmup) / (steps - warmup)
    wave = math.cos(progress * (1 if how == "no pi" else math.pi))
    return peak * wave if how == "no half" else peak * (1 + wave) / 2


def small_confusion(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Only as many classes as were seen."""
    return solution.confusion_matrix(truth, answers, int(max(truth.max(), answers.max())) + 1)


def marked(truth: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """1 where a pair was seen: `matrix[truth, answers] += 1` counts each pair once."""
    matrix = np.zeros((classes, classes), int)
    matrix[truth, answers] += 1
    return matrix


def shares(matrix: np.ndarray, axis: int | None, nothing: float = 0) -> np.ndarray:
    """The diagonal over the sums along an axis; `nothing` where the sum is 0."""
    sums = np.broadcast_to(matrix.sum(axis=axis), len(matrix))
    return np.where(sums > 0, np.diag(matrix) / np.maximum(sums, 1), nothing)


EXERCISE = Exercise(
    "ch06_training",
    "Training",
    (
        Question(
            "cross_entropy",
            (
                Item(
                    "the mean loss, also of large logits",
                    2,
                    (
                        (np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1])),
                        (np.array([[1000.0, 0.0]]), np.array([1])),
                    ),
                    loss_cases,
                ),
            ),
            solution.cross_entropy,
            ARRAYS,
            hints=(
                Hint(
                    "This is the sum; the mean over the images is wanted.",
                    lambda x, y: solution.cross_entropy(x, y) * len(y),
                ),
                Hint(
                    "The natural logarithm is wanted (np.log), not that to base 2.",
                    lambda x, y: solution.cross_entropy(x, y) / math.log(2),
                ),
                Hint(
                    "The natural logarithm is wanted (np.log), not that to base 10.",
                    lambda x, y: solution.cross_entropy(x, y) / math.log(10),
                ),
                Hint("The sign is missing: a loss is positive.", lambda x, y: -solution.cross_entropy(x, y)),
                Hint(
                    "This is the mean probability; take its negative logarithm, image by image.",
                    lambda x, y: float(true_ones(x, y).mean()),
                ),
                Hint("The softmax goes over the classes of an image, not over the images.", softmax_over_images),
                Hint(
                    "e to the power of 1000 is too large: take the largest logit of each image off first.", overflowing
                ),
                Hint("The softmax is missing.", lambda x, y: float(-x[np.arange(len(y)), y].mean())),
            ),
        ),
        Question(
            "crop_and_flip",
            (
                Item(
                    "cut out, then mirrored",
                    2,
                    ((np.arange(9).reshape(1, 3, 3, 1), 2, np.array([1]), np.array([0]), np.array([True])),),
                    crop_cases,
                ),
            ),
            solution.crop_and_flip,
            ARRAYS,
            hints=(
                Hint("Mirror left to right; these are upside down.", lambda *a: cropped("upside down", *a)),
                Hint(
                    "Cut out first and mirror then; here it was the other way round.",
                    lambda *a: cropped("flipped first", *a),
                ),
                Hint(
                    "All were mirrored; only those where flipped is true should be.",
                    lambda x, n, t, c, f: solution.crop_and_flip(x, n, t, c, f | True),
                ),
                Hint("None was mirrored.", lambda x, n, t, c, f: solution.crop_and_flip(x, n, t, c, f & False)),
                Hint(
                    "The wrong ones were mirrored: those where flipped is false.",
                    lambda x, n, t, c, f: solution.crop_and_flip(x, n, t, c, ~f),
                ),
                Hint("tops are rows and lefts are columns; they are swapped.", swapped_corner),
            ),
        ),
        Question(
            "learning_rate",
            (Item("up, then down", 2, ((0, 100, 10, 0.5), (10, 100, 10, 0.5), (55, 100, 10, 0.5)), rate_cases),),
            solution.learning_rate,
            Compare(rtol=1e-5, atol=1e-9),
            hints=(
                Hint("The warm-up is missing.", lambda *a: rate("no warm-up", *a)),
                Hint("Step 0 already has peak / warmup: count step + 1.", lambda *a: rate("from 0", *a)),
                Hint("p counts from the end of the warm-up.", lambda *a: rate("from the start", *a)),
                Hint(
                    "1 is added to the cosine and the sum is halved, so that the rate ends at 0.",
                    lambda *a: rate("no half", *a),
                ),
                Hint("π is missing in the cosine.", lambda *a: rate("no pi", *a)),
            ),
        ),
        Question(
            "confusion_matrix",
            (Item("rows are true classes", 2, ((np.array([0, 0, 1]), np.array([0, 1, 1]), 2),), confusion_cases),),
            solution.confusion_matrix,
            hints=(
                Hint(
                    "Rows and columns are swapped: rows are the true classes.",
                    lambda t, a, n: solution.confusion_matrix(a, t, n),
                ),
                Hint(
                    "Classes that nobody saw need a row and a column too: there are `classes` of them.", small_confusion
                ),
                Hint("matrix[truth, answers] += 1 counts each pair only once; use a loop, or np.add.at.", marked),
                Hint(
                    "These are shares; the numbers of images are wanted.",
                    lambda t, a, n: solution.confusion_matrix(t, a, n) / len(t),
                ),
            ),
        ),
        Question(
            "per_class_accuracy",
            (
                Item(
                    "the share of each true class", 2, ((np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]),),), accuracy_cases
                ),
            ),
            solution.per_class_accuracy,
            ARRAYS,
            hints=(
                Hint(
                    "Divided by the columns, this is how many of the answers are right (precision).",
                    lambda m: shares(m, 0),
                ),
                Hint("Divide by the images of each class, not by all images.", lambda m: shares(m, None)),
                Hint("A class without images should get 0.", lambda m: shares(m, 1, math.nan)),
                Hint("This is the accuracy of all images together.", lambda m: np.full(len(m), np.trace(m) / m.sum())),
                Hint("The shares have fractions: `/`, not `//`.", lambda m: np.floor(shares(m, 1))),
            ),
        ),
    ),
)
