"""The checks of chapter 1."""

import numpy as np
from numpy.random import Generator

from solutions import ch01_why_cnns as solution
from solutions.checks.drawing import normal, whole
from toolkit.grading.questions import Exercise, Hint, Item, Question


def dense_cases(random: Generator) -> list[tuple[int, int, int, int]]:
    """Images that are not square, and one of a single pixel."""
    drawn = [
        (whole(random, 5, 300), whole(random, 301, 900), whole(random, 2, 8), whole(random, 2, 500)) for _ in range(6)
    ]
    return [*drawn, (1, 1, 1, 3), (2160, 3840, 3, 10_000)]


def conv_cases(random: Generator) -> list[tuple[int, int, int, int]]:
    """Windows that are not square."""
    drawn = [(whole(random, 2, 5), whole(random, 6, 11), whole(random, 2, 64), whole(random, 2, 512)) for _ in range(6)]
    return [*drawn, (1, 7, 3, 5), (7, 1, 1, 1)]


def budget_cases(random: Generator) -> list[tuple[int, int, int]]:
    """Budgets in general, one that is met exactly, one that just fails, and one that buys nothing."""
    window, channels = whole(random, 2, 7), whole(random, 2, 64)
    one = window * window * channels + 1
    filters = whole(random, 2, 500)
    drawn = [(whole(random, 10_000, 10**6), whole(random, 2, 7), whole(random, 2, 64)) for _ in range(4)]
    return [
        *drawn,
        (one * filters, window, channels),
        (one * filters - 1, window, channels),
        (one - 1, window, channels),
    ]


def shift_cases(random: Generator) -> list[tuple[np.ndarray, int, int]]:
    """Moves in all four directions, no move, and one out of sight; images of whole and of other numbers."""
    moves = [(1, 2), (-1, 2), (2, -1), (-2, -3), (0, 0), (0, 1), (9, 1), (1, -9)]
    images = [normal(random, whole(random, 4, 5), whole(random, 6, 7), 2) for _ in moves]
    return [(image, down, right) for image, (down, right) in zip(images, moves, strict=True)] + [
        (random.integers(1, 255, (4, 5, 3)), whole(random, 1, 3), 2)
    ]


def permute_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images that are not square, with one channel and with more."""
    shapes = [(3, 4, 1), (4, 3, 3), (2, 6, 2), (5, 2, 4)]
    return [(normal(random, *shape), random.permutation(shape[0] * shape[1])) for shape in shapes]


def shift_around(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """What moves out comes back on the other side."""
    return np.roll(image, (down, right), axis=(0, 1))


def shift_repeating(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The edge is repeated."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def permute_columns_first(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pixels numbered column by column."""
    turned = image.swapaxes(0, 1)
    return solution.permute_pixels(turned, order).swapaxes(0, 1)


def permute_in_place_of(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pixel i goes to order[i], where it should come from there."""
    return solution.permute_pixels(image, np.argsort(order))


def permute_channel_planes(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Colours torn from their pixels: the flat numbers are taken for planes, one channel after the other."""
    planes = image.reshape(image.shape[2], -1)
    return np.reshape(planes[:, order], image.shape)


def first_channel_only(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The other channels stay where they are."""
    moved = image.copy()
    moved[:, :, 0] = solution.permute_pixels(image[:, :, :1], order)[:, :, 0]
    return moved


EXERCISE = Exercise(
    "ch01_why_cnns",
    "Why convolutional networks",
    (
        Question(
            "dense_parameters",
            (Item("weights and biases of a dense layer", 2, ((28, 28, 1, 10), (32, 32, 3, 100)), dense_cases),),
            solution.dense_parameters,
            hints=(
                Hint("The biases are missing: each unit has one.", lambda h, w, c, u: h * w * c * u),
                Hint(
                    "Every unit has a bias of its own; this counts one for all of them.",
                    lambda h, w, c, u: h * w * c * u + 1,
                ),
                Hint("A bias belongs to a unit, not to an input.", lambda h, w, c, u: h * w * c * (u + 1)),
                Hint(
                    "Each pixel has several channels, and every one of them has a weight.",
                    lambda h, w, c, u: (h * w + 1) * u,
                ),
            ),
        ),
        Question(
            "conv_parameters",
            (Item("weights and biases of a convolution", 2, ((3, 3, 3, 100), (1, 5, 16, 8)), conv_cases),),
            solution.conv_parameters,
            hints=(
                Hint("The biases are missing: each filter has one.", lambda h, w, c, f: h * w * c * f),
                Hint("Each filter sees all channels of its window.", lambda h, w, c, f: (h * w + 1) * f),
                Hint(
                    "Every filter has a bias of its own; this counts one for all of them.",
                    lambda h, w, c, f: h * w * c * f + 1,
                ),
                Hint(
                    "The window may be higher than wide: its height was taken for its width.",
                    lambda h, w, c, f: (h * h * c + 1) * f,
                ),
                Hint("A filter has one bias, not one for each channel.", lambda h, w, c, f: (h * w + 1) * c * f),
            ),
        ),
        Question(
            "filters_for_budget",
            (Item("the most filters within the budget", 2, ((1000, 3, 3), (27, 3, 3)), budget_cases),),
            solution.filters_for_budget,
            hints=(
                Hint("Each filter costs a bias too.", lambda b, k, c: b // (k * k * c)),
                Hint(
                    "There are no parts of a filter: `//` divides and rounds down.", lambda b, k, c: b / (k * k * c + 1)
                ),
                Hint(
                    "This is one filter too many: the budget must not be exceeded.",
                    lambda b, k, c: b // (k * k * c + 1) + 1,
                ),
                Hint("Each filter sees all channels of its window.", lambda b, k, c: b // (k * k + 1)),
                Hint("Round down, not to the nearest number.", lambda b, k, c: round(b / (k * k * c + 1))),
            ),
        ),
        Question(
            "shift",
            (
                Item(
                    "an image moved over zeros",
                    2,
                    ((np.array([[[1], [2]], [[3], [4]]]), 0, 1), (np.arange(1, 10).reshape(3, 3, 1), -1, 1)),
                    shift_cases,
                ),
            ),
            solution.shift,
            hints=(
                Hint(
                    "What moves out on one side came in again on the other (as with np.roll); 0 should.", shift_around
                ),
                Hint("The rows and the columns are swapped.", lambda x, down, right: solution.shift(x, right, down)),
                Hint(
                    "It moved the other way: positive numbers move down and right.",
                    lambda x, d, r: solution.shift(x, -d, -r),
                ),
                Hint("The edge was repeated; what comes in should be 0.", shift_repeating),
            ),
        ),
        Question(
            "permute_pixels",
            (
                Item(
                    "pixels in another order",
                    2,
                    ((np.array([[[1], [2]], [[3], [4]]]), np.array([3, 0, 1, 2])),),
                    permute_cases,
                ),
            ),
            solution.permute_pixels,
            hints=(
                Hint(
                    "Pixel i of the answer is pixel order[i] of the image; here it went to order[i].",
                    permute_in_place_of,
                ),
                Hint("The pixels were numbered column by column; number them row by row.", permute_columns_first),
                Hint(
                    "The channels of a pixel have to stay together; reshape to (pixels, channels).",
                    permute_channel_planes,
                ),
                Hint("All channels move, not only the first.", first_channel_only),
            ),
        ),
    ),
)
