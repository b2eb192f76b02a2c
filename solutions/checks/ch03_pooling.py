"""The checks of chapter 3."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator

from solutions import ch03_pooling as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Exercise, Hint, Item, Question

SMALL = np.arange(16).reshape(4, 4, 1)
RAMP = np.arange(9.0).reshape(3, 3, 1)


def pool_cases(random: Generator) -> list[tuple[np.ndarray, int, int]]:
    """Windows that overlap, touch and leave gaps; pixels left over; negative numbers; whole numbers of one byte."""
    shapes = [(7, 9, 2), (8, 5, 3), (6, 7, 2), (5, 8, 1)]
    steps = [(2, 2), (3, 2), (2, 3), (3, 1)]
    drawn = [(normal(random, *shape), *step) for shape, step in zip(shapes, steps, strict=True)]
    whole_image = np.linspace(-9, -1, 6 * 4 * 2).reshape(6, 4, 2), 4, 2
    return [*drawn, whole_image, (random.integers(0, 256, (5, 6, 3), np.uint8), 2, whole(random, 2, 3))]


def convolution_case(random: Generator, window: tuple[int, int], stride: int, padding: str) -> tuple[Any, ...]:
    """An image that is not square, several channels and filters."""
    height, width = whole(random, 5, 6), whole(random, 7, 8)
    channels, filters = whole(random, 2, 3), whole(random, 2, 4)
    kernel, bias = normal(random, *window, channels, filters), normal(random, filters)
    return normal(random, height, width, channels), kernel, bias, stride, padding


def plain_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Stride 1, inside the image."""
    return [convolution_case(random, window, 1, "valid") for window in ((3, 3), (2, 3), (3, 1), (1, 1), (4, 4))]


def strided_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Larger strides, inside the image."""
    windows = (3, 3), (2, 3), (4, 2), (1, 1)
    return [convolution_case(random, window, stride, "valid") for window in windows for stride in (2, 3)]


def same_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Zeros around the image, odd numbers of them, and none at all."""
    windows = (3, 3), (2, 2), (4, 3), (5, 2), (1, 1)
    return [convolution_case(random, window, stride, "same") for window in windows for stride in (1, 2, 3)]


def blur_cases(random: Generator) -> list[tuple[np.ndarray, int]]:
    """Sizes that the stride divides and others, one pixel, one colour, whole numbers."""
    drawn = [(normal(random, whole(random, 4, 6), whole(random, 7, 9), 2), stride) for stride in (1, 2, 3, 2)]
    flat = np.full((5, 4, 1), whole(random, 100, 255), np.uint8)
    return [*drawn, (flat, 2), (normal(random, 1, 1, 3), 2), (random.integers(0, 256, (6, 5, 2), np.uint8), 2)]


# What goes wrong.


def pooled(image: np.ndarray, window: int, stride: int, reduce: Callable[..., Any]) -> np.ndarray:
    """Any pooling."""
    seen = sliding_window_view(image, (window, window), axis=(0, 1))[::stride, ::stride]
    return np.asarray(reduce(seen, axis=(-2, -1)))


def side_by_side(image: np.ndarray, window: int, stride: int, reduce: Callable[..., Any]) -> np.ndarray:
    """As if the stride were the window."""
    return pooled(image, window, window, reduce)


def transposed(image: np.ndarray, window: int, stride: int, reduce: Callable[..., Any]) -> np.ndarray:
    """Rows and columns swapped."""
    return pooled(image, window, stride, reduce).swapaxes(0, 1)


def over_channels(image: np.ndarray, window: int, stride: int, reduce: Callable[..., Any]) -> np.ndarray:
    """One number for all channels."""
    return np.asarray(reduce(pooled(image, window, stride, reduce), axis=2, keepdims=True))


def rounded_means(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """The fractions cut off."""
    return np.asarray(np.trunc(pooled(image, window, stride, np.mean)))


def means_in_image_dtype(image: np.ndarray, window: int, stride: int) -> np.ndarray:
    """Means put into an array of the image's type."""
    return np.asarray(pooled(image, window, stride, np.mean), image.dtype)


def flipped(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """The kernel turned around, as in mathematics."""
    return solution.convolve(image, kernel[::-1, ::-1], bias, stride, padding)


def one_channel(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """The first channel alone."""
    return solution.convolve(image[..., :1], kernel[:, :, :1], bias, stride, padding)


def other_padding(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """The paddings mixed up."""
    return solution.convolve(image, kernel, bias, stride, "valid" if padding == "same" else "same")


def odd_zero_first(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """An odd zero before the image."""
    mirrored = solution.convolve(image[::-1, ::-1], kernel[::-1, ::-1], bias, stride, padding)
    right = solution.convolve(image, kernel, bias, stride, padding)
    return mirrored[::-1, ::-1] if padding == "same" else right


def half_window_zeros(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str) -> np.ndarray:
    """Half a window of zeros on each side whatever the stride."""
    if padding == "same":
        rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
        image = np.pad(image, ((rows, rows), (columns, columns), (0, 0)))
    return solution.convolve(image, kernel, bias, stride, "valid")


def blur_rows_only(image: np.ndarray, stride: int) -> np.ndarray:
    """Blurred along one axis."""
    wide = np.pad(np.asarray(image, float), ((1, 1), (0, 0), (0, 0)), mode="edge")
    return np.asarray((wide[:-2] + 2 * wide[1:-1] + wide[2:]) / 4)[::stride, ::stride]


def blur_over_zeros(image: np.ndarray, stride: int) -> np.ndarray:
    """Zeros around the image."""
    wide = np.pad(np.asarray(image, float), ((1, 1), (1, 1), (0, 0)))
    return solution.blur_pool(wide, 1)[1:-1, 1:-1][::stride, ::stride]


EXERCISE = Exercise(
    "ch03_pooling",
    "Pooling and strided convolution",
    (
        Question(
            "max_pool",
            (Item("the largest number of each window", 2, ((SMALL, 2, 2), (SMALL, 3, 1)), pool_cases),),
            solution.max_pool,
            ARRAYS,
            hints=(
                Hint(
                    "The stride is missing: the windows are `stride` pixels apart.",
                    lambda x, w, s: pooled(x, w, 1, np.max),
                ),
                Hint(
                    "The windows are `stride` pixels apart, which may be more or less than their size.",
                    lambda x, w, s: side_by_side(x, w, s, np.max),
                ),
                Hint("These are the means; the largest numbers are wanted.", lambda x, w, s: pooled(x, w, s, np.mean)),
                Hint("Rows and columns are swapped.", lambda x, w, s: transposed(x, w, s, np.max)),
                Hint("Each channel has its own largest number.", lambda x, w, s: over_channels(x, w, s, np.max)),
            ),
        ),
        Question(
            "average_pool",
            (Item("the mean of each window", 2, ((SMALL, 2, 2), (SMALL, 3, 1)), pool_cases),),
            solution.average_pool,
            ARRAYS,
            hints=(
                Hint(
                    "These are the sums: divide by the number of pixels in a window.",
                    lambda x, w, s: pooled(x, w, s, np.sum),
                ),
                Hint(
                    "Divided by the side of the window; it has window × window pixels.",
                    lambda x, w, s: pooled(x, w, s, np.sum) / w,
                ),
                Hint("The means were rounded: `/` keeps the fraction, `//` and int() do not.", rounded_means),
                Hint(
                    "The means were rounded: an array made like the image keeps its whole numbers (np.zeros_like).",
                    means_in_image_dtype,
                ),
                Hint("These are the largest numbers; the means are wanted.", lambda x, w, s: pooled(x, w, s, np.max)),
                Hint(
                    "The stride is missing: the windows are `stride` pixels apart.",
                    lambda x, w, s: pooled(x, w, 1, np.mean),
                ),
            ),
        ),
        Question(
            "convolve",
            (
                Item(
                    "stride 1, valid",
                    2,
                    (
                        (RAMP, np.ones((2, 2, 1, 1)), np.array([0.5]), 1, "valid"),
                        (RAMP, RAMP[..., None], np.array([1.0]), 1, "valid"),
                    ),
                    plain_cases,
                ),
                Item(
                    "larger strides",
                    1,
                    ((SMALL, np.arange(4.0).reshape(2, 2, 1, 1), np.array([1.0]), 2, "valid"),),
                    strided_cases,
                ),
                Item(
                    "same padding",
                    1,
                    ((RAMP, np.arange(4.0).reshape(2, 2, 1, 1), np.array([1.0]), 1, "same"),),
                    same_cases,
                ),
            ),
            solution.convolve,
            ARRAYS,
            hints=(
                Hint("The bias is missing.", lambda x, k, b, s, p: solution.convolve(x, k, 0 * b, s, p)),
                Hint("The kernel was turned around; deep learning does not turn it.", flipped),
                Hint("Only the first channel was read; sum over all of them.", one_channel),
                Hint("The stride is missing.", lambda x, k, b, s, p: solution.convolve(x, k, b, 1, p)),
                Hint('"valid" and "same" are mixed up.', other_padding),
                Hint(
                    '"same" padding is missing: put the zeros around the image first.',
                    lambda x, k, b, s, p: solution.convolve(x, k, b, s, "valid"),
                ),
                Hint("An odd zero goes after the image, not before it.", odd_zero_first),
                Hint(
                    "How many zeros there are depends on the stride and on the size, not on the window alone.",
                    half_window_zeros,
                ),
            ),
        ),
        Question(
            "blur_pool",
            (
                Item(
                    "blurred, then skipped",
                    2,
                    ((np.array([[[0.0], [0.0], [16.0], [0.0], [0.0]]]), 2), (SMALL, 2)),
                    blur_cases,
                ),
            ),
            solution.blur_pool,
            ARRAYS,
            hints=(
                Hint("The blur is missing.", lambda x, s: x[::s, ::s]),
                Hint(
                    "Blur first and skip then; here it was the other way round.",
                    lambda x, s: solution.blur_pool(x[::s, ::s], 1),
                ),
                Hint("The edge should be repeated; zeros around the image make it darker there.", blur_over_zeros),
                Hint("Divide by 16, the sum of the weights.", lambda x, s: 16 * solution.blur_pool(x, s)),
                Hint("Blur along the rows and along the columns.", blur_rows_only),
                Hint("The skipping is missing.", lambda x, s: solution.blur_pool(x, 1)),
            ),
        ),
    ),
)
