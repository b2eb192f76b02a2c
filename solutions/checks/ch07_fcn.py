"""The checks of chapter 7."""

from typing import Any

import numpy as np
from numpy.random import Generator

from solutions import ch07_fcn as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Exercise, Hint, Item, Question

LINE = np.array([[[0.0], [4.0]]])


def kernel_cases(random: Generator) -> list[tuple[np.ndarray, int, int]]:
    """Maps that are not square, several channels and units, and one pixel."""
    cases = []
    for height, width in ((2, 3), (4, 2), (3, 5)):
        cases.append((normal(random, height * width * whole(random, 2, 4), whole(random, 2, 5)), height, width))
    return [*cases, (normal(random, 6, 2), 1, 1)]


def score_case(random: Generator, window: tuple[int, int], more: tuple[int, int]) -> tuple[Any, ...]:
    """A map that is larger by `more` than the window."""
    height, width = window
    channels, units = whole(random, 2, 3), whole(random, 2, 4)
    features = normal(random, height + more[0], width + more[1], channels)
    return features, normal(random, height * width * channels, units), normal(random, units), height, width


def one_place_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Maps of the trained size."""
    return [score_case(random, window, (0, 0)) for window in ((2, 3), (3, 2), (4, 2))]


def many_place_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Larger maps, also along one axis only, and windows of one pixel."""
    windows = (2, 3), (3, 2), (4, 3), (1, 1)
    return [
        score_case(random, window, more) for window, more in zip(windows, ((3, 1), (0, 4), (2, 3), (2, 1)), strict=True)
    ]


def upsample_cases(random: Generator) -> list[tuple[np.ndarray, int]]:
    """Odd and even factors, a factor of 1, one pixel."""
    drawn = [(normal(random, whole(random, 2, 3), whole(random, 4, 5), 2), factor) for factor in (2, 3, 4, 1)]
    return [*drawn, (normal(random, 1, 1, 3), 3)]


def iou_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Void pixels everywhere, classes that are absent, and answers that are all wrong."""
    cases = []
    for classes in (2, 3, 4, 5):
        truth = random.integers(0, classes, (6, 7))
        answers = np.where(random.random((6, 7)) < 0.6, truth, random.integers(0, classes, (6, 7)))
        cases.append((np.where(random.random((6, 7)) < 0.2, 255, truth), answers, classes + 2))
    return [
        *cases,
        (np.array([[0, 0, 255]]), np.array([[1, 1, 2]]), 4),
        (np.array([[2, 2, 255]]), np.array([[2, 0, 0]]), 3),
    ]


# What goes wrong.


def padded_scores(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> np.ndarray:
    """Zeros around the map, so that the answer has its size."""
    zeros = [((size - 1) // 2, size // 2) for size in (height, width)]
    return solution.score_map(np.pad(features, (*zeros, (0, 0))), kernel, bias, height, width)


def side_by_side(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> np.ndarray:
    """A window's size apart."""
    return solution.score_map(features, kernel, bias, height, width)[::height, ::width]


def channels_first(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> np.ndarray:
    """Flattened with the channels first."""
    channels = features.shape[2]
    turned = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
    return solution.score_map(features, turned, bias, height, width)


def one_score(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean over all places."""
    return np.asarray(solution.score_map(features, kernel, bias, height, width).mean(axis=(0, 1)))


def tiled(scores: np.ndarray, factor: int) -> np.ndarray:
    """The whole map again and again."""
    return np.asarray(np.tile(scores, (factor, factor, 1)))


def bilinear(scores: np.ndarray, factor: int, how: str) -> np.ndarray:
    """Bilinear upsampling with other places: from corner to corner, or without the half pixel."""
    large = np.asarray(scores, float)
    for axis in (0, 1):
        size = large.shape[axis]
        places = np.arange(size * factor) / factor
        if how == "corners":
            places = np.linspace(0, size - 1, size * factor)
        places = np.minimum(places, size - 1)
        weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))
        large = np.moveaxis(np.tensordot(weights, large, axes=(1, axis)), 0, axis)
    return large


def ious(truth: np.ndarray, answers: np.ndarray, classes: int, known: np.ndarray) -> list[float]:
    """Intersection over union of each class; nan for a class that is nowhere."""
    pairs = [((truth == number) & known, (answers == number) & known) for number in range(classes)]
    unions = [int((one | other).sum()) for one, other in pairs]
    return [
        float((one & other).sum() / union) if union else float("nan")
        for (one, other), union in zip(pairs, unions, strict=True)
    ]


def iou(what: str, truth: np.ndarray, answers: np.ndarray, classes: int) -> float:
    """A score of label maps with the mistake `what`."""
    known = truth != 255
    shares = ious(truth, answers, classes, known)
    if what == "absent":
        return float(np.nan_to_num(shares).mean())
    if what == "void":
        return float(np.nanmean(ious(truth, answers, classes, np.ones_like(known))))
    right = (truth == answers) & known
    if what == "accuracy":
        return float(right.sum() / known.sum())
    if what == "pooled":
        return float(right.sum() / (2 * known.sum() - right.sum()))
    there = [number for number in range(classes) if (truth == number).any()]
    if what == "true classes":
        return float(np.mean([shares[number] for number in there]))
    return float(np.mean([right[truth == number].mean() for number in there]))


EXERCISE = Exercise(
    "ch07_fcn",
    "Fully convolutional networks and segmentation",
    (
        Question(
            "dense_to_convolution",
            (
                Item(
                    "the kernel in its new shape",
                    2,
                    ((np.arange(12).reshape(12, 1), 2, 3), (np.arange(8).reshape(4, 2), 1, 2)),
                    kernel_cases,
                ),
            ),
            solution.dense_to_convolution,
            ARRAYS,
            hints=(
                Hint("Height and width are swapped.", lambda k, h, w: solution.dense_to_convolution(k, w, h)),
                Hint(
                    "The channels come last in a flattened map: they change fastest, and not slowest.",
                    lambda k, h, w: k.reshape(-1, h, w, k.shape[1]).transpose(1, 2, 0, 3),
                ),
                Hint(
                    "The map is flattened row by row: the columns change faster than the rows.",
                    lambda k, h, w: k.reshape(w, h, -1, k.shape[1]).swapaxes(0, 1),
                ),
                Hint(
                    "The units come last: (height, width, channels, units).",
                    lambda k, h, w: k.reshape(h, w, k.shape[1], -1),
                ),
            ),
        ),
        Question(
            "score_map",
            (
                Item(
                    "one place: the dense layer's numbers",
                    1,
                    ((LINE, np.array([[1.0], [2.0]]), np.array([0.5]), 1, 2),),
                    one_place_cases,
                ),
                Item(
                    "a larger map",
                    2,
                    ((np.arange(6.0).reshape(2, 3, 1), np.ones((4, 1)), np.array([0.5]), 2, 2),),
                    many_place_cases,
                ),
            ),
            solution.score_map,
            ARRAYS,
            hints=(
                Hint("The bias is missing.", lambda x, k, b, h, w: solution.score_map(x, k, 0 * b, h, w)),
                Hint("The window has to stay inside the map; here zeros were put around it.", padded_scores),
                Hint("The windows are one step apart, not a window's size.", side_by_side),
                Hint("A map is flattened row by row with the channels last.", channels_first),
                Hint("There is a score for every place, not one for the map.", one_score),
                Hint(
                    "Activations are not asked for: the bare scores.",
                    lambda x, k, b, h, w: np.maximum(solution.score_map(x, k, b, h, w), 0),
                ),
            ),
        ),
        Question(
            "upsample_nearest",
            (Item("pixels repeated", 1, ((np.array([[[1], [2]]]), 2),), upsample_cases),),
            solution.upsample_nearest,
            ARRAYS,
            hints=(
                Hint("The map was laid out again and again, like tiles; each pixel should be repeated.", tiled),
                Hint("The columns have to be repeated too.", lambda x, n: x.repeat(n, axis=0)),
                Hint("The rows have to be repeated too.", lambda x, n: x.repeat(n, axis=1)),
                Hint("Rows and columns are swapped.", lambda x, n: solution.upsample_nearest(x.swapaxes(0, 1), n)),
            ),
        ),
        Question(
            "upsample_bilinear",
            (Item("pixels in between", 2, ((LINE, 2), (np.array([[[0.0]], [[3.0]]]), 3)), upsample_cases),),
            solution.upsample_bilinear,
            ARRAYS,
            hints=(
                Hint(
                    "The corners were laid on each other; the middle of pixel i lies at (i + 1/2) / factor - 1/2.",
                    lambda x, n: bilinear(x, n, "corners"),
                ),
                Hint(
                    "The half pixel is missing: (i + 1/2) / factor - 1/2, not i / factor.",
                    lambda x, n: bilinear(x, n, "no half"),
                ),
                Hint(
                    "These are repeated pixels; the numbers between two middles change evenly.",
                    solution.upsample_nearest,
                ),
                Hint("Rows and columns are swapped.", lambda x, n: solution.upsample_bilinear(x.swapaxes(0, 1), n)),
            ),
        ),
        Question(
            "mean_iou",
            (
                Item(
                    "the mean over the classes",
                    2,
                    (
                        (np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]]), 3),
                        (np.array([[0, 0, 1]]), np.array([[0, 0, 1]]), 2),
                    ),
                    iou_cases,
                ),
            ),
            solution.mean_iou,
            ARRAYS,
            hints=(
                Hint(
                    "Classes that are nowhere are left out of the mean, not counted as 0.", lambda *a: iou("absent", *a)
                ),
                Hint("Pixels whose truth is 255 must be left out of the answers too.", lambda *a: iou("void", *a)),
                Hint("This is the accuracy: divide by the union, class by class.", lambda *a: iou("accuracy", *a)),
                Hint("This is each class's share that was found; divide by the union.", lambda *a: iou("recall", *a)),
                Hint("Divide class by class first, then take the mean.", lambda *a: iou("pooled", *a)),
                Hint("A class that is only in the answers counts too: with 0.", lambda *a: iou("true classes", *a)),
            ),
        ),
    ),
)
