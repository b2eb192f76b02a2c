"""Images that move or lose their order, blur before pixels are skipped, and how far two networks agree.

What chapters 1 and 3 of the book measure with. Images are (n, height, width, channels).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.arithmetic import InputError, require_whole
from toolkit.forward import Array, depthwise_conv2d

Images = npt.NDArray[Any]


def move(images: Images, down: int = 0, right: int = 0) -> Images:
    """Images moved by whole pixels; negative numbers move up and left. What comes in repeats the edge.

    >>> move(np.arange(3).reshape(1, 1, 3, 1), right=1).ravel().tolist()
    [0, 0, 1]
    """
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[:, rows][:, :, columns]


def directions(pixels: int) -> tuple[tuple[int, int], ...]:
    """The four moves (down, right) by so many pixels along an axis; one for 0.

    >>> directions(2)
    ((2, 0), (-2, 0), (0, 2), (0, -2))
    """
    require_whole("pixels", pixels, least=0)
    return ((pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)) if pixels else ((0, 0),)


def shuffle_pixels(images: Images, seed: int) -> Images:
    """All images with their pixels in the same other order, which `seed` decides; a pixel keeps its channels together.

    >>> pixels = np.arange(4).reshape(1, 2, 2, 1)
    >>> sorted(shuffle_pixels(pixels, seed=0).ravel().tolist())
    [0, 1, 2, 3]
    """
    count, height, width, channels = images.shape
    order = np.random.default_rng(seed).permutation(height * width)
    shuffled: Images = images.reshape(count, height * width, channels)[:, order].reshape(images.shape)
    return shuffled


def agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """The share of images to which both give the same class: the consistency of Zhang (2019, section 4.1).

    Raises InputError where the two do not answer the same number of images, or none.

    >>> agreement([3, 1, 4, 1], [3, 1, 4, 2])
    0.75
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape or not one.size:
        raise InputError(f"two lists of answers to the same images are compared; {one.shape} and {other.shape} came")
    return float(np.mean(one == other))


def blur_weights(channels: int, size: int = 3) -> Array:
    """The kernel (size, size, channels, 1) of a depthwise convolution that blurs each channel by itself.

    Binomial coefficients along both axes, all together 1: 1 2 1 for three pixels, 1 4 6 4 1 for five (Zhang 2019,
    section 4: "Triangle-3" and "Binomial-5").

    >>> (16 * blur_weights(1))[:, :, 0, 0].tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    require_whole("channels", channels)
    require_whole("size", size)
    row = np.array([math.comb(size - 1, place) for place in range(size)], np.float32) / 2 ** (size - 1)
    square = np.outer(row, row).astype(np.float32)
    return np.repeat(square[:, :, np.newaxis, np.newaxis], channels, axis=2)


def blur_pool(images: Images, stride: int = 2, size: int = 3) -> Array:
    """Blur each channel, then keep every `stride`-th row and column, the first included; edges are repeated.

    Two lines for what Zhang (2019) puts in place of plain skipping; he reflects the edge where this repeats it.

    >>> blur_pool(np.float32([0, 0, 16, 0, 0]).reshape(1, 1, 5, 1)).ravel().tolist()
    [0.0, 8.0, 0.0]
    """
    before, after = (size - 1) // 2, size // 2
    wide = np.pad(np.asarray(images, np.float32), ((0, 0), (before, after), (before, after), (0, 0)), mode="edge")
    return depthwise_conv2d(wide, blur_weights(images.shape[-1], size), strides=(stride, stride))
