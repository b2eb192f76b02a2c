"""int8 copies: how many bytes, how far the numbers move, and that the network itself stays as it is."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.quantizing import Copy, compare_int8, int8_share, probabilities, round_kernels, weights_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.DepthwiseConv2D(3),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(5, activation="softmax"),
    ]
    return keras.Sequential(layers)


@pytest.fixture(scope="module")
def labels(model: keras.Model) -> NDArray[np.int64]:
    return np.asarray(probabilities(model, IMAGES).argmax(axis=1))


@pytest.fixture(scope="module")
def copies(model: keras.Model, labels: NDArray[np.int64]) -> tuple[Copy, ...]:
    return compare_int8(model, IMAGES, labels)


def test_probabilities_are_the_models(model: keras.Model) -> None:
    wanted = keras.ops.convert_to_numpy(model(IMAGES.astype(np.float32), training=False))
    np.testing.assert_allclose(probabilities(model, IMAGES), wanted, atol=1e-5)


def test_keras_makes_the_dense_layer_int8_and_leaves_the_rest(model: keras.Model, copies: tuple[Copy, ...]) -> None:
    plain, quantized, _ = copies
    dense, numbers = model.layers[-1].kernel.shape, model.count_params()
    assert plain.weights_bytes == weights_bytes(model) == 4 * numbers
    assert plain.weights_bytes - quantized.weights_bytes == 3 * dense[0] * dense[1] - 4 * dense[1]  # a scale a column
    assert quantized.int8_share == pytest.approx(dense[0] * dense[1] / (numbers + dense[1]))
    assert (plain.file_bytes or 0) > (quantized.file_bytes or 0) > quantized.weights_bytes


def test_little_is_lost(copies: tuple[Copy, ...]) -> None:
    """The labels are what the network says, so that its own accuracy is 1."""
    assert [each.name for each in copies] == ["float32", "Keras int8", "all kernels int8"]
    assert copies[0].accuracy == 1
    assert all(0.9 <= each.accuracy <= 1 for each in copies)


def test_rounded_kernels_are_within_half_a_step_of_255(model: keras.Model, copies: tuple[Copy, ...]) -> None:
    copy, size, share = round_kernels(model)
    kernels, scales = 9 * 4 + 9 * 4 + 64 * 5, 4 + 4 + 5
    assert size == kernels + 4 * (model.count_params() - kernels + scales) == copies[2].weights_bytes
    assert share == copies[2].int8_share == kernels / model.count_params()
    assert copies[2].file_bytes is None
    for before, after in zip(model.get_weights(), copy.get_weights(), strict=True):
        if before.ndim == 1:
            assert (before == after).all()
            continue
        channels = (0, 1) if before.ndim == 4 else (0,)
        axes = channels if before.shape[-1] == 1 else tuple(range(before.ndim - 1))
        step = np.abs(before).max(axis=axes, keepdims=True) / 127
        assert (np.abs(before - after) <= 0.5001 * step).all()
        assert len(np.unique(np.rint(after / step))) <= 255
        assert (before != after).any()


def test_the_network_stays_as_it_is(model: keras.Model, copies: tuple[Copy, ...]) -> None:
    assert int8_share(model) == 0
    assert copies[0].int8_share == 0
    assert {weight.dtype for weight in model.weights} == {"float32"}
