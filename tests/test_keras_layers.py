"""The layers that Keras lacks: held against TensorFlow's own, loops, and the gradient written out by hand."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from toolkit.keras_layers import LocalResponseNormalization, PositionEmbedding

Array = npt.NDArray[Any]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"depth_radius": 0},
    {"depth_radius": 5, "bias": 1.0, "alpha": 1.0, "beta": 0.5},
    {"depth_radius": 9, "bias": 1.0, "alpha": 2e-5, "beta": 0.75},
    {"depth_radius": 1, "bias": 0.5, "alpha": 3.0, "beta": 1.0},
]


def random(*shape: int, scale: float = 1, seed: int = 0) -> Array:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def activity_by_loops(x: Array, depth_radius: int, bias: float, alpha: float) -> Array:
    """What the layer divides by, before the power; float64."""
    activity = np.full(x.shape, bias, np.float64)
    for place in np.ndindex(x.shape):
        *others, channel = place
        for neighbour in range(max(0, channel - depth_radius), min(x.shape[-1], channel + depth_radius + 1)):
            activity[place] += alpha * float(x[(*others, neighbour)]) ** 2
    return activity


def gradient(layer: keras.Layer, x: Array, upstream: Array) -> Array:
    """The gradient of sum(upstream · layer(x)) with respect to x, by the backend in use."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tensor = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            loss = ops.sum(layer(tensor) * upstream)
        return np.asarray(tape.gradient(loss, tensor))
    if keras.backend.backend() == "jax":
        import jax  # type: ignore[import-not-found, unused-ignore]

        return np.asarray(jax.grad(lambda tensor: ops.sum(layer(tensor) * upstream))(x))
    tensor = ops.convert_to_tensor(x)
    tensor.requires_grad_(True)
    ops.sum(layer(tensor) * upstream).backward()
    return np.asarray(ops.convert_to_numpy(tensor.grad))


@pytest.mark.tensorflow
@pytest.mark.parametrize("options", OPTIONS)
def test_normalization_is_tensorflows(options: dict[str, Any]) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is the oracle and is not installed")
    x = random(3, 5, 4, 12, scale=3)
    layer = LocalResponseNormalization(**options)
    arguments = {name: getattr(layer, name) for name in ("depth_radius", "bias", "alpha", "beta")}
    expected = tf.nn.local_response_normalization(x, **arguments)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.tensorflow
@pytest.mark.parametrize("options", OPTIONS)
def test_gradient_is_tensorflows(options: dict[str, Any]) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is the oracle and is not installed")
    x, upstream = random(2, 3, 4, 12, scale=3), random(2, 3, 4, 12, seed=1)
    layer = LocalResponseNormalization(**options)
    arguments = {name: getattr(layer, name) for name in ("depth_radius", "bias", "alpha", "beta")}
    tensor = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        loss = tf.reduce_sum(tf.nn.local_response_normalization(tensor, **arguments) * upstream)
    found = gradient(layer, x, upstream)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, np.asarray(tape.gradient(loss, tensor)), rtol=1e-5, atol=2e-6)


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 9),
    depth_radius=st.integers(0, 10),
    bias=st.floats(0.25, 4),
    alpha=st.floats(0, 4),
    beta=st.floats(0, 2),
    leading=st.sampled_from([(2,), (2, 3), (1, 2, 2)]),
)
def test_normalization_and_gradient_are_those_written_out(
    channels: int, depth_radius: int, bias: float, alpha: float, beta: float, leading: tuple[int, ...]
) -> None:
    x, upstream = random(*leading, channels), random(*leading, channels, seed=1)
    layer = LocalResponseNormalization(depth_radius, bias, alpha, beta)
    activity = activity_by_loops(x, depth_radius, bias, alpha)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x / activity**beta, rtol=1e-5, atol=1e-6)
    near = [[abs(one - other) <= depth_radius for one in range(channels)] for other in range(channels)]
    through_others = (upstream * x * activity ** (-beta - 1)) @ near
    by_hand = upstream * activity**-beta - 2 * alpha * beta * x * through_others
    np.testing.assert_allclose(gradient(layer, x, upstream), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_survives_numbers_whose_squares_do_not_fit(dtype: str) -> None:
    x = random(2, 4, 4, 16, scale=400)
    assert np.square(x).max() > np.finfo(np.float16).max
    layer = LocalResponseNormalization(dtype=f"mixed_{dtype}")
    output = layer(x)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    exact = ops.convert_to_numpy(LocalResponseNormalization()(x))
    error = np.abs(ops.convert_to_numpy(ops.cast(output, "float32")) - exact).max() / np.abs(exact).max()
    assert error < (2e-3 if dtype == "float16" else 2e-2)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless the whole process asks for it")
def test_double_precision_stays_double() -> None:
    x = random(2, 6).astype(np.float64)
    output = ops.convert_to_numpy(LocalResponseNormalization(1, 1.0, 1.0, 0.5, dtype="float64")(x))
    np.testing.assert_allclose(output, x / np.sqrt(activity_by_loops(x, 1, 1.0, 1.0)), rtol=1e-12)


def test_position_embedding_adds_its_one_weight() -> None:
    layer = PositionEmbedding()
    tokens = random(3, 7, 4)
    layer(tokens)
    table = random(7, 4, seed=1)
    layer.set_weights([table])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(tokens)), tokens + table)
    assert [weight.path.rpartition("/")[2] for weight in layer.trainable_weights] == ["embedding"]


def test_position_embedding_begins_small_and_is_learned() -> None:
    keras.utils.set_random_seed(0)
    layer = PositionEmbedding()
    model = keras.Sequential([keras.Input((64, 32)), layer])
    (before,) = layer.get_weights()
    assert 0.015 < before.std() < 0.025
    model.compile(keras.optimizers.SGD(100.0), "mse")
    model.fit(np.zeros((8, 64, 32)), np.zeros((8, 64, 32)), epochs=3, verbose=0)
    assert np.abs(layer.get_weights()[0]).mean() < 0.9 * np.abs(before).mean()


def test_a_saved_model_comes_back_with_its_options(tmp_path: Path) -> None:
    entry = keras.Input((6, 8))
    normalized = LocalResponseNormalization(3, 1.5, 0.25, 0.6, name="norm")(entry)
    model = keras.Model(entry, PositionEmbedding(name="positions")(normalized))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random(2, 6, 8, scale=4)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(model(x)))
    layer = loaded.get_layer("norm")
    assert (layer.depth_radius, layer.bias, layer.alpha, layer.beta) == (3, 1.5, 0.25, 0.6)
    assert keras.saving.get_registered_name(LocalResponseNormalization) == "cnn_toolkit>LocalResponseNormalization"
    assert keras.saving.get_registered_name(PositionEmbedding) == "cnn_toolkit>PositionEmbedding"


@pytest.mark.parametrize("layer", [LocalResponseNormalization, PositionEmbedding])
def test_shape_is_kept_for_any_batch(layer: type[keras.Layer]) -> None:
    assert tuple(layer()(keras.Input((5, 4))).shape) == (None, 5, 4)
    assert layer().compute_output_shape((None, 5, 4)) == (None, 5, 4)
