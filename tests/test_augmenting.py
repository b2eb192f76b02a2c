"""Batches as recipes make them: where pixels come from, whose labels they carry, and that a seed repeats them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from toolkit.augmenting import RecipeBatches, cut, padded, smoothed, views
from toolkit.recipes import Recipe

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(24) % 4
PLAIN = Recipe(batch_size=10)


def batches(recipe: Recipe, seed: int = 0, images: Any = IMAGES, labels: Any = LABELS) -> RecipeBatches:
    return RecipeBatches(images, labels, recipe, 4, seed)


def test_an_epoch_has_each_image_once_in_a_new_order() -> None:
    fed = batches(PLAIN)
    assert len(fed) == 3
    first = np.concatenate([fed[number][0] for number in range(3)])
    fed.on_epoch_end()
    second = np.concatenate([fed[number][0] for number in range(3)])
    assert not np.array_equal(first, second)
    for epoch in (first, second):
        assert sorted(image.tobytes() for image in epoch) == sorted(image.tobytes() for image in IMAGES)
    assert [len(fed[number][0]) for number in range(3)] == [10, 10, 4]


def test_labels_stay_with_their_images() -> None:
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    images, labels = batches(PLAIN)[1]
    assert [known[image.tobytes()] for image in images] == labels.tolist()


def test_random_flips_mirror_half_of_the_images_anew() -> None:
    fed = batches(replace(PLAIN, flip="random", batch_size=24))
    told = []
    for _ in range(40):
        images, _ = fed[0]
        told.append([image.tobytes() in {each.tobytes() for each in IMAGES} for image in images])
        fed.on_epoch_end()
    assert 0.4 < np.mean(told) < 0.6


def test_alternating_flips_show_both_sides_in_every_two_epochs() -> None:
    """Jordan 2024, section 3.6: each image is mirrored in exactly one of two epochs that follow each other."""
    fed = batches(replace(PLAIN, flip="alternating", batch_size=24))
    sides = []
    for _ in range(4):
        sides.append({image.tobytes() for image in fed[0][0]})
        fed.on_epoch_end()
    assert sides[0] == sides[2]
    assert sides[1] == sides[3]
    plain, mirrored = ({image.tobytes() for image in each} for each in (IMAGES, IMAGES[:, :, ::-1]))
    assert sides[0] | sides[1] == plain | mirrored
    assert not sides[0] & sides[1]
    assert 4 < len(sides[0] & plain) < 20


@pytest.mark.parametrize(("padding", "mode"), [("edge", "edge"), ("reflect", "reflect"), ("zero", "constant")])
def test_shifts_are_windows_of_the_padded_image(padding: str, mode: Any) -> None:
    recipe = replace(PLAIN, shift=2, padding=padding, batch_size=24)
    around = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=mode)
    windows = {
        around[number, top : top + 8, left : left + 8].tobytes(): (top, left)
        for number in range(24)
        for top in range(5)
        for left in range(5)
    }
    fed, places = batches(recipe), []
    for _ in range(8):
        places += [windows[image.tobytes()] for image in fed[0][0]]
        fed.on_epoch_end()
    assert len(set(places)) == 25


def test_a_window_can_be_cut_by_hand() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    whole = padded(image, 1, "zero")
    assert whole.shape == (1, 6, 6, 1)
    found = cut(whole, np.array([0, 0]), (4, 4), 1, np.array([False, True]), np.random.default_rng(1))
    corners = np.random.default_rng(1).integers(0, 2, (2, 2), endpoint=True)
    for number, (top, left) in enumerate(corners.T):
        window = whole[0, top : top + 4, left : left + 4]
        assert np.array_equal(found[number], window[:, ::-1] if number else window)


def test_smoothed_labels_are_keras_s() -> None:
    import keras

    labels, answers = np.array([0, 2, 3]), np.random.default_rng(0).dirichlet(np.ones(4), 3).astype(np.float32)
    ours = keras.losses.CategoricalCrossentropy()(smoothed(labels, 4, 0.2), answers)
    keras_s = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(smoothed(labels, 4, 0.0), answers)
    assert float(ours) == pytest.approx(float(keras_s), rel=1e-6)


def test_views_are_the_image_moved_and_mirrored() -> None:
    seen = views(IMAGES, Recipe(test_flip=True, test_shift=1, padding="reflect"))
    assert len(seen) == 6
    around = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for view, place in zip(seen, (1, 0, 2), strict=False):
        assert np.array_equal(view, around[:, place : place + 8, place : place + 8])
    for view, mirrored in zip(seen[:3], seen[3:], strict=True):
        assert np.array_equal(view[:, :, ::-1], mirrored)


MIXING = [replace(PLAIN, mixup=0.4), replace(PLAIN, cutmix=1.0), replace(PLAIN, mixup=0.4, cutmix=1.0)]


@pytest.mark.parametrize("recipe", MIXING, ids=["mixup", "cutmix", "both"])
def test_mixed_images_carry_shares_of_their_labels(recipe: Recipe) -> None:
    """Every image has its own class's grey, so that the mean of a mixed one tells what it is made of.

    CutMix counts a cut pixel at the border as a part of one: of 64 × 64, a 32nd at most.
    """
    greys = np.array([0, 60, 120, 240], np.uint8)
    images = np.broadcast_to(greys[LABELS][:, None, None, None], (24, 64, 64, 1)).copy()
    fed = batches(recipe, images=images)
    changed = 0
    for number in range(len(fed)):
        mixed, shares = fed[number]
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert np.allclose(mixed.mean(axis=(1, 2, 3)), shares @ greys, atol=240 / 32)
        changed += int((shares.max(axis=1) < 0.99).sum())
    assert changed


LAYERS = [replace(PLAIN, rotation=20), replace(PLAIN, random_erasing=1.0), replace(PLAIN, randaugment=0.5)]


@pytest.mark.parametrize("recipe", [*LAYERS, *MIXING], ids=["rotation", "erasing", "randaugment", *"abc"])
def test_a_seed_repeats_what_keras_s_layers_do(recipe: Recipe) -> None:
    first, again, other = (batches(recipe, seed) for seed in (3, 3, 4))
    again[0]  # asked for once more: each batch has a seed of its own
    for number in (1, 0):
        assert all(np.array_equal(a, b) for a, b in zip(first[number], again[number], strict=True))
    assert not np.array_equal(first[0][0], other[0][0])
    images = first[0][0]
    assert images.dtype == np.float32
    assert images.min() >= -1e-3
    assert images.max() <= 255.001
    plain = batches(replace(PLAIN), 3)[0][0]
    assert not np.array_equal(images, plain)


def test_rotation_turns_about_the_middle() -> None:
    """A round spot in the middle stays where it is; one beside it moves."""
    images = np.zeros((10, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 255
    images[:, 0:3, 3:6] = 200
    turned, _ = batches(Recipe(batch_size=10, rotation=90), images=images, labels=LABELS[:10])[0]
    assert np.allclose(turned[:, 4, 4], 255, atol=1)
    assert np.abs(turned - images).max() > 100
