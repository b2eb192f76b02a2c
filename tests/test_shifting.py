"""Moves, shuffles and blurs against the reference solutions of the course and against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solutions.ch01_why_cnns import permute_pixels
from solutions.ch03_pooling import blur_pool as solved_blur_pool
from toolkit.arithmetic import InputError
from toolkit.forward import conv2d, max_pool
from toolkit.shifting import agreement, blur_pool, blur_weights, directions, move, shuffle_pixels

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 7, 9, 2)).astype(np.uint8)


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_a_moved_pixel_comes_from_its_place_or_the_nearest_edge(down: int, right: int) -> None:
    moved = move(IMAGES, down, right)
    assert moved.dtype == IMAGES.dtype
    for row in range(7):
        for column in range(9):
            source = IMAGES[:, min(max(row - down, 0), 6), min(max(column - right, 0), 8)]
            assert (moved[:, row, column] == source).all()


def test_a_convolution_moves_with_its_image() -> None:
    images = RANDOM.normal(size=(2, 12, 12, 1)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 3, 1, 4)).astype(np.float32)
    first = conv2d(move(images, 2, -1), kernel, padding="same")
    last = move(conv2d(images, kernel, padding="same"), 2, -1)
    np.testing.assert_allclose(first[:, 4:-4, 4:-4], last[:, 4:-4, 4:-4], atol=1e-5)


def test_directions_are_as_far_as_asked() -> None:
    assert directions(0) == ((0, 0),)
    assert len({*directions(3)}) == 4
    assert {abs(down) + abs(right) for down, right in directions(3)} == {3}
    with pytest.raises(InputError, match="pixels must be at least 0"):
        directions(-1)


def test_a_shuffle_is_one_permutation_of_pixels_for_all_images() -> None:
    numbers = np.arange(63).reshape(1, 7, 9, 1)
    order = shuffle_pixels(numbers, seed=4).ravel()
    assert sorted(order.tolist()) == list(range(63))
    shuffled = shuffle_pixels(IMAGES, seed=4)
    for image, expected in zip(shuffled, IMAGES, strict=True):
        assert (image == permute_pixels(expected, order)).all()
    assert (shuffle_pixels(IMAGES, seed=5) != shuffled).any()


def test_answers_to_different_images_are_not_compared() -> None:
    with pytest.raises(InputError, match="the same images"):
        agreement([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="the same images"):
        agreement([], [])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_blur_keeps_the_mean(size: int) -> None:
    weights = blur_weights(3, size)
    assert weights.shape == (size, size, 3, 1)
    np.testing.assert_allclose(weights.sum(axis=(0, 1)), 1)
    assert (weights[:, :, 0] == weights[:, :, 2]).all()
    flat = np.full((1, 6, 5, 3), 7, np.float32)
    np.testing.assert_allclose(blur_pool(flat, 2, size), 7)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_blur_pooling_is_that_of_the_solutions(stride: int) -> None:
    expected = np.stack([solved_blur_pool(image, stride) for image in IMAGES])
    np.testing.assert_allclose(blur_pool(IMAGES, stride), expected, rtol=1e-5)


def test_zhangs_row_of_eight_pixels() -> None:
    """Zhang 2019, section 3: max pooling makes 0 1 0 1 of one row and 1 1 1 1 of the same row moved by one pixel."""
    row = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.float32).reshape(1, 1, 8, 1)
    pooled = [max_pool(np.roll(row, by, axis=2), (1, 2), (1, 2)).ravel().tolist() for by in (0, 1)]
    assert pooled == [[0, 1, 0, 1], [1, 1, 1, 1]]
