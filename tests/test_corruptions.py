"""Corrupted pictures: the blur is SciPy's, the noise has its deviation, a shift is a move in one direction."""

import numpy as np
import pytest
from scipy import ndimage

from toolkit.corruptions import BLUR, CORRUPTIONS, NOISE, SEVERITIES, corrupt
from toolkit.errors import InputError
from toolkit.shifting import directions, move

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_blur_is_scipys(severity: int) -> None:
    sigma = BLUR[severity - 1]
    wanted = ndimage.gaussian_filter(IMAGES.astype(float), (0, sigma, sigma, 0), mode="nearest", truncate=4)
    assert np.abs(corrupt(IMAGES, "blur", severity) - wanted).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_deviation(severity: int) -> None:
    grey = np.full((20, 32, 32, 1), 128, np.uint8)
    noisy = corrupt(grey, "noise", severity).astype(float)
    assert noisy.std() / 255 == pytest.approx(NOISE[severity - 1], rel=0.03)
    assert noisy.mean() == pytest.approx(128, abs=1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_picture_moves_in_one_direction(severity: int) -> None:
    moved = corrupt(IMAGES, "shift", severity)
    ways = [move(IMAGES, down, right) for down, right in directions(severity)]
    chosen = [[bool((way[i] == moved[i]).all()) for way in ways] for i in range(len(IMAGES))]
    assert all(sum(each) == 1 for each in chosen)
    assert len({each.index(True) for each in chosen}) > 1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severities_grow_and_seeds_repeat(kind: str) -> None:
    smooth = ndimage.gaussian_filter(IMAGES.astype(float), (0, 3, 3, 0)).astype(np.uint8)
    apart = [np.abs(corrupt(smooth, kind, s, seed=1).astype(float) - smooth).mean() for s in (0, *SEVERITIES)]
    assert apart[0] == 0
    assert sorted(apart) == apart
    assert (corrupt(IMAGES, kind, 3, seed=1) == corrupt(IMAGES, kind, 3, seed=1)).all()
    assert corrupt(IMAGES, kind, 3).dtype == np.uint8


def test_what_cannot_be_corrupted_is_a_sentence() -> None:
    with pytest.raises(InputError, match="kind must be one of noise, blur, shift; 'fog' came"):
        corrupt(IMAGES, "fog", 1)
    with pytest.raises(InputError, match="from 0 to 5; 6 came"):
        corrupt(IMAGES, "noise", 6)
    with pytest.raises(InputError, match="pictures are uint8"):
        corrupt((IMAGES / 255).astype(np.float32), "noise", 1)
