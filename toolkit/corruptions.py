"""Pictures made worse on purpose, to ask how much a network stands: noise, blur and shifts in five severities.

D. Hendrycks, T. Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (2019):
the severities of noise and blur are theirs for pictures of 32 pixels; a shift is what a person who aims badly does.
NumPy alone. Pictures are uint8 (n, height, width, channels).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_choice
from toolkit.errors import InputError
from toolkit.shifting import directions, move

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

SEVERITIES = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Standard deviations of Gaussian noise, of pixels from 0 to 1 (`gaussian_noise` of CIFAR-10-C)."""
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
"""Standard deviations of a Gaussian blur in pixels (`gaussian_blur` of CIFAR-10-C)."""
SHIFT = (1, 2, 3, 4, 5)
"""Pixels by which a picture of 32 moves, in one of four directions; what comes in repeats the edge."""


def corrupt(images: Pixels, kind: str, severity: int, seed: int = 0) -> Pixels:
    """The pictures with one corruption ("noise", "blur" or "shift") in a severity from 1 to 5; 0 changes nothing.

    `seed` decides the noise and the directions of the shifts, so that all networks meet the same pictures. Raises
    InputError for another kind, another severity, and for what is no uint8 (n, height, width, channels).

    >>> corrupt(np.zeros((1, 8, 8, 1), np.uint8), "noise", 0).max().item()
    0
    """
    require_choice("kind", kind, tuple(CORRUPTIONS))
    if severity not in (0, *SEVERITIES):
        raise InputError(f"a severity is a whole number from 0 to 5; {severity!r} came")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise InputError(f"pictures are uint8 (n, height, width, channels); {images.dtype} of {images.shape} came")
    if severity == 0:
        return images
    return CORRUPTIONS[kind](images, severity, np.random.default_rng(seed))


def _noise(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    noise = rng.normal(scale=255 * NOISE[severity - 1], size=images.shape)
    return _pixels(images + noise)


def _blur(images: Pixels, severity: int, _: np.random.Generator) -> Pixels:
    """A Gaussian blur: down, then across, edges repeated."""
    weights = _gaussian(BLUR[severity - 1] * images.shape[1] / 32)
    return _pixels(_along(_along(images.astype(np.float64), weights, 1), weights, 2))


def _gaussian(sigma: float) -> Floats:
    """The weights of a Gaussian window of four deviations to each side, whose sum is 1."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def _along(images: Floats, weights: Floats, axis: int) -> Floats:
    reach, size = len(weights) // 2, images.shape[axis]
    padded = np.pad(images, [(reach, reach) if each == axis else (0, 0) for each in range(4)], mode="edge")
    windows = (padded.take(range(first, first + size), axis) for first in range(len(weights)))
    return np.asarray(sum(weight * window for weight, window in zip(weights, windows, strict=True)))


def _shift(images: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Each picture moves in its own direction."""
    moves = directions(max(1, round(SHIFT[severity - 1] * images.shape[1] / 32)))
    chosen, shifted = rng.integers(len(moves), size=len(images)), images.copy()
    for number, (down, right) in enumerate(moves):
        shifted[chosen == number] = move(images[chosen == number], down, right)
    return shifted


def _pixels(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CORRUPTIONS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "shift": _shift,
}
