"""Attacks on a linear network, where the worst picture is known in closed form, and on a convolutional one."""

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.attacks import Attacker
from toolkit.errors import InputError

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def images() -> Floats:
    return np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int64]:
    return np.arange(10) % 2


@pytest.fixture(scope="module")
def linear() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4, 4, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])


@pytest.fixture(scope="module")
def attacker(linear: keras.Model) -> Attacker:
    return Attacker(linear, batch_size=4)


def worst(linear: keras.Model, images: Floats, labels: NDArray[np.int64], epsilon: float) -> Floats:
    """Of two classes the loss grows with the other's score: every pixel goes the way of the weights' difference."""
    kernel = linear.layers[-1].get_weights()[0]
    away = np.sign(kernel[:, 1] - kernel[:, 0])[np.newaxis] * np.where(labels == 0, 1, -1)[:, np.newaxis]
    return np.asarray(np.clip(images + epsilon * away.reshape(images.shape), 0, 255))


@pytest.mark.parametrize("epsilon", [0.0, 2.0, 30.0])
def test_one_step_finds_the_worst_picture_of_a_linear_network(
    attacker: Attacker, linear: keras.Model, images: Floats, labels: NDArray[np.int64], epsilon: float
) -> None:
    found = attacker.fgsm(images, labels, epsilon)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, worst(linear, images, labels, epsilon), atol=1e-4)


def test_the_search_finds_it_too(
    attacker: Attacker, linear: keras.Model, images: Floats, labels: NDArray[np.int64]
) -> None:
    found = attacker.pgd(images, labels, 30.0, steps=4)
    np.testing.assert_allclose(found, worst(linear, images, labels, 30.0), atol=1e-3)


def test_the_search_stays_near_and_its_seed_repeats(
    attacker: Attacker, images: Floats, labels: NDArray[np.int64]
) -> None:
    found = [attacker.pgd(images, labels, 8.0, steps=1, step_size=3.0, seed=seed) for seed in (0, 0, 1)]
    assert np.abs(found[0] - images).max() <= 8.0 + 1e-4
    assert 0 <= found[0].min() <= found[0].max() <= 255
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_a_convolutional_network_fares_worse_after_an_attack_than_after_chance() -> None:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((6, 6, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3, activation="relu")]
    model = keras.Sequential(
        [*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3), keras.layers.Softmax()]
    )
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (16, 6, 6, 3)).astype(np.uint8)
    true = rng.integers(3, size=16)

    def loss(shown: NDArray[Any]) -> float:
        shares = keras.ops.convert_to_numpy(model(shown.astype(np.float32), training=False))
        return float(-np.log(shares[np.arange(16), true]).mean())

    chance = np.clip(pictures + 16.0 * rng.choice((-1, 1), pictures.shape), 0, 255)
    attacker = Attacker(model)
    one_step, search = attacker.fgsm(pictures, true, 16.0), attacker.pgd(pictures, true, 16.0)
    assert loss(search) > loss(one_step) - 1e-4 > loss(chance)
    assert loss(one_step) > loss(pictures)


def test_no_pictures_are_none(attacker: Attacker, images: Floats) -> None:
    assert attacker.pgd(images[:0], np.zeros(0, int), 8.0).shape == (0, 4, 4, 1)


def test_what_cannot_be_attacked_is_a_sentence(attacker: Attacker, images: Floats, labels: NDArray[np.int64]) -> None:
    with pytest.raises(InputError, match="and n labels were expected"):
        attacker.fgsm(images, labels[:3], 8.0)
    with pytest.raises(InputError, match="epsilon is 0 or more"):
        attacker.pgd(images, labels, -1.0)
    with pytest.raises(InputError, match="steps must be at least 1"):
        attacker.pgd(images, labels, 1.0, steps=0)
