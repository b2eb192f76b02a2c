"""A small exercise of 10 points for the tests of the grader: a number, an array, a tuple."""

from __future__ import annotations

import numpy as np

from toolkit.grading.questions import Exercise, Hint, Item, Question


# The reference
def parameters(channels: int, filters: int, size: int) -> int:
    return filters * (channels * size * size + 1)


def pooled(image: np.ndarray, window: int) -> np.ndarray:
    rows, columns = image.shape[0] // window, image.shape[1] // window
    cut = image[: rows * window, : columns * window]
    return cut.reshape(rows, window, columns, window).max(axis=(1, 3))  # type: ignore[no-any-return]


def halved(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side // 2 for side in shape)


# The checks
def _layers(rng: np.random.Generator) -> list[tuple[int, ...]]:
    return [tuple(map(int, row)) for row in rng.integers(2, 40, (5, 3))]


def _images(rng: np.random.Generator) -> list[tuple[object, ...]]:
    return [(rng.normal(size=(2 * rows + 1, 3 * rows)), 2) for rows in (2, 3, 4)]


def _shapes(rng: np.random.Generator) -> list[tuple[object, ...]]:
    return [(tuple(map(int, rng.integers(2, 500, sides))),) for sides in (1, 2, 3)]


TRIAL = Exercise(
    "trial",
    "Trial",
    (
        Question(
            "parameters",
            (Item("some layers", 4, examples=((3, 8, 5), (1, 6, 3)), cases=_layers),),
            parameters,
            hints=(Hint("every filter has a bias", lambda channels, filters, size: filters * channels * size * size),),
            seconds=1.0,
        ),
        Question("pooled", (Item("some images", 4, cases=_images),), pooled, seconds=1.0),
        Question("halved", (Item("some shapes", 2, examples=(((6, 4),),), cases=_shapes),), halved, seconds=1.0),
    ),
)
EXERCISE = TRIAL  # the name that a file of checks is read for
