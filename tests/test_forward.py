"""The NumPy forward pass: each layer against loops that anybody can check, and against Keras; then whole networks."""

import itertools
import math
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from toolkit import architectures, forward, layers
from toolkit.arithmetic import InputError
from toolkit.build import build, read_model
from toolkit.costs import Row, trace
from toolkit.layers import Architecture, Branches, Layer, Pair, Shape

Array = npt.NDArray[Any]


def random(*shape: int, scale: float = 1, seed: int = 0) -> Array:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def random_weight(name: str, shape: Shape, generator: np.random.Generator) -> Array:
    """Kernels that keep the size of what passes, variances above 0, and everything else away from its first value."""
    if name in ("gamma", "moving_variance"):
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = 1 if "kernel" not in name else math.prod(shape[:-1])
    return (generator.standard_normal(shape) * (0.1 if fan_in == 1 else fan_in**-0.5)).astype(np.float32)


def random_weights(rows: Sequence[Row], seed: int = 0) -> dict[str, list[Array]]:
    generator = np.random.default_rng(seed)
    found = {}
    for row in rows[1:]:
        shapes = forward.weight_shapes(row.layer, row.input_shapes[0])
        found[row.name] = [random_weight(name, shape, generator) for name, shape in shapes.items()]
    return found


def keras_outputs(model: keras.Model, images: Array) -> dict[str, Array]:
    """What every layer of a Keras model gives."""
    every = keras.Model(model.inputs[0], {layer.name: layer.output for layer in model.layers})
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in every(images, training=False).items()}


def assert_close(found: Array, expected: Array, tolerance: float = 1e-5, what: str = "") -> None:
    """Equal within `tolerance` of the largest number that was expected."""
    assert found.shape == expected.shape, what
    assert found.dtype == np.float32, what
    error = np.abs(found - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30)
    assert error <= tolerance, f"{what}: {error:.2e}"


def compare_with_keras(net: Architecture, images: Array, tolerance: float = 1e-5) -> None:
    """Every row of the network gives what the Keras layer of the same name gives."""
    rows = trace(net)
    weights = random_weights(rows)
    model = build(rows)
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    found = forward.activations(rows, weights, images)
    for name, expected in keras_outputs(model, images).items():
        assert_close(found[name], expected, tolerance, name)
    assert_close(forward.forward(rows, forward.weights_of(model), images), found[rows[-1].name], 0)


# Against loops.


def start_of(size: int, taps: int, step: int, apart: int, padding: str) -> tuple[int, int]:
    """Positions of a window along one axis, and where the first one begins: TensorFlow's definition of "same"."""
    extent = apart * (taps - 1) + 1
    if padding == "valid":
        return (size - extent) // step + 1, 0
    positions = math.ceil(size / step)
    return positions, -(max((positions - 1) * step + extent - size, 0) // 2)


def looks(size: Pair, window: Pair, strides: Pair, dilation: Pair, padding: str) -> Iterator[tuple[int, ...]]:
    """(output row, column, window row, column, input row, column) of everything that a window sees of an image."""
    (rows, top), (columns, left) = (
        start_of(*axis, padding) for axis in zip(size, window, strides, dilation, strict=True)
    )
    for row, column, i, j in itertools.product(range(rows), range(columns), range(window[0]), range(window[1])):
        y, x = top + row * strides[0] + i * dilation[0], left + column * strides[1] + j * dilation[1]
        if 0 <= y < size[0] and 0 <= x < size[1]:
            yield row, column, i, j, y, x


def positions(size: Pair, window: Pair, strides: Pair, dilation: Pair, padding: str) -> Pair:
    first, second = (start_of(*axis, padding)[0] for axis in zip(size, window, strides, dilation, strict=True))
    return first, second


windows = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(5, 9), st.integers(5, 9)),
        "window": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "padding": st.sampled_from(["valid", "same"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(slide=windows, groups=st.integers(1, 3), inputs=st.integers(1, 2), outputs=st.integers(1, 2))
def test_convolution_is_the_loop(slide: dict[str, Any], groups: int, inputs: int, outputs: int) -> None:
    images = random(2, *slide["size"], groups * inputs)
    kernel, bias = random(*slide["window"], inputs, groups * outputs, seed=1), random(groups * outputs, seed=2)
    expected = np.zeros((2, *positions(**slide), groups * outputs)) + bias
    for row, column, i, j, y, x in looks(**slide):
        for filter_ in range(groups * outputs):
            first = filter_ // outputs * inputs
            for channel in range(inputs):
                expected[:, row, column, filter_] += images[:, y, x, first + channel] * kernel[i, j, channel, filter_]
    sizes = {name: slide[name] for name in ("strides", "padding", "dilation")}
    assert_close(forward.conv2d(images, kernel, bias, groups=groups, **sizes), expected)


@settings(max_examples=60, deadline=None)
@given(slide=windows, channels=st.integers(1, 3), multiplier=st.integers(1, 3))
def test_depthwise_convolution_is_the_loop(slide: dict[str, Any], channels: int, multiplier: int) -> None:
    images, kernel = random(2, *slide["size"], channels), random(*slide["window"], channels, multiplier, seed=1)
    expected = np.zeros((2, *positions(**slide), channels * multiplier))
    for row, column, i, j, y, x in looks(**slide):
        for channel, number in itertools.product(range(channels), range(multiplier)):
            seen = images[:, y, x, channel] * kernel[i, j, channel, number]
            expected[:, row, column, channel * multiplier + number] += seen
    sizes = {name: slide[name] for name in ("strides", "padding", "dilation")}
    assert_close(forward.depthwise_conv2d(images, kernel, **sizes), expected)


@settings(max_examples=60, deadline=None)
@given(slide=windows, channels=st.integers(1, 3), filters=st.integers(1, 3))
def test_transposed_convolution_is_the_convolutions_loop_backwards(
    slide: dict[str, Any], channels: int, filters: int
) -> None:
    """Whatever pixel a convolution would have seen, the transposed one paints (Dumoulin and Visin 2016, section 4)."""
    size = slide.pop("size")
    extents = [apart * (taps - 1) + 1 for taps, apart in zip(slide["window"], slide["dilation"], strict=True)]
    over = [max(extent - step, 0) for extent, step in zip(extents, slide["strides"], strict=True)]
    painted = tuple(
        length * step + (more if slide["padding"] == "valid" else 0)
        for length, step, more in zip(size, slide["strides"], over, strict=True)
    )
    images, kernel = random(2, *size, channels), random(*slide["window"], filters, channels, seed=1)
    expected = np.zeros((2, *painted, filters))
    for row, column, i, j, y, x in looks(size=painted, **slide):
        for filter_, channel in itertools.product(range(filters), range(channels)):
            expected[:, y, x, filter_] += images[:, row, column, channel] * kernel[i, j, filter_, channel]
    sizes = {name: slide[name] for name in ("strides", "padding", "dilation")}
    assert_close(forward.conv2d_transpose(images, kernel, **sizes), expected)


@settings(max_examples=60, deadline=None)
@given(slide=windows)
def test_pooling_is_the_loop(slide: dict[str, Any]) -> None:
    slide["dilation"] = (1, 1)
    images = random(2, *slide["size"], 2) - 5  # below 0 everywhere: a zero of the padding would show
    largest = np.full((2, *positions(**slide), 2), -np.inf)
    total, count = np.zeros(largest.shape), np.zeros(largest.shape)
    for row, column, _, _, y, x in looks(**slide):
        largest[:, row, column] = np.maximum(largest[:, row, column], images[:, y, x])
        total[:, row, column] += images[:, y, x]
        count[:, row, column] += 1
    window, strides, padding = slide["window"], slide["strides"], slide["padding"]
    assert_close(forward.max_pool(images, window, strides, padding), largest, 0)
    assert_close(forward.average_pool(images, window, strides, padding), total / count)


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(1, 5000), count=st.integers(0, 4), window=st.integers(1, 3))
def test_blocks_cover_everything_once_within_their_limit(limit: int, count: int, window: int) -> None:
    seen = forward.windows(random(count, 6, 5, 2), (window, window))
    visits = np.zeros(seen.shape[:2], np.int64)
    for block in forward.blocks(seen, limit):
        visits[block] += 1
        assert seen[block].nbytes <= limit or visits[block].size == 1
    assert (visits == 1).all()


def test_error_function_and_gelu_are_exact_to_single_precision() -> None:
    x = np.linspace(-8, 8, 4001, dtype=np.float32)
    exact = np.array([math.erf(float(value)) for value in x])
    assert np.abs(forward.erf(x) - exact).max() < 6e-7
    share = np.array([0.5 + 0.5 * math.erf(float(value) / math.sqrt(2)) for value in x])
    assert np.abs(forward.gelu(x) - x * share).max() < 1e-6


# Layers against Keras.

IMAGE = (9, 10, 4)
SLIDES: tuple[dict[str, Any], ...] = (
    {},
    {"padding": "same"},
    {"strides": 2},
    {"strides": 2, "padding": "same"},
    {"dilation_rate": 2},
    {"dilation_rate": 2, "padding": "same"},
    {"use_bias": False, "activation": "relu"},
)
UNEQUAL: tuple[dict[str, Any], ...] = (
    {"strides": (2, 3), "padding": "same"},
    {"strides": (3, 1)},
    {"dilation_rate": (1, 2), "padding": "same"},
)
CASES: list[tuple[Layer, Shape]] = [
    *((layers.Conv2D(6, kernel, **slide), IMAGE) for kernel in (1, 3, (2, 5)) for slide in SLIDES),
    *((layers.Conv2D(6, (3, 2), **slide), IMAGE) for slide in UNEQUAL),
    *((layers.Conv2D(6, 3, groups=2, **slide), IMAGE) for slide in (*SLIDES, *UNEQUAL)),
    (layers.Conv2D(8, 3, groups=4), IMAGE),
    *((layers.DepthwiseConv2D(3, depth_multiplier=times, **slide), IMAGE) for times in (1, 2) for slide in SLIDES),
    *((layers.SeparableConv2D(6, 3, depth_multiplier=times, **slide), IMAGE) for times in (1, 2) for slide in SLIDES),
    *((layers.Conv2DTranspose(5, kernel, **slide), IMAGE) for kernel in (1, 3, (4, 2)) for slide in SLIDES),
    *((layers.Conv2DTranspose(5, (3, 4), **slide), IMAGE) for slide in UNEQUAL),
    (layers.Conv2DTranspose(3, 16, strides=8, padding="same", use_bias=False), (3, 4, 3)),
    (layers.Dense(7), (5,)),
    (layers.Dense(7, activation="softmax", use_bias=False), (6, 5)),
    (layers.Dense(7, activation="gelu"), IMAGE),
    *(
        (pool(window, **options), IMAGE)
        for pool in (layers.MaxPooling2D, layers.AveragePooling2D)
        for window in (2, 3, (1, 3))
        for options in ({}, {"padding": "same"}, {"strides": 2}, {"strides": (1, 2), "padding": "same"})
    ),
    *((layers.GlobalAveragePooling2D(keepdims=keep), IMAGE) for keep in (False, True)),
    *((layers.GlobalMaxPooling2D(keepdims=keep), IMAGE) for keep in (False, True)),
    (layers.GlobalAveragePooling1D(), (6, 5)),
    *(
        (kind(center=center, scale=scale, epsilon=epsilon), shape)
        for kind in (layers.BatchNormalization, layers.LayerNormalization)
        for center, scale, epsilon in ((True, True, 1e-3), (True, False, 0.5), (False, True, 1e-5), (False, False, 0.1))
        for shape in (IMAGE, (6, 5))
    ),
    *((layers.GroupNormalization(groups=groups, epsilon=1e-2), IMAGE) for groups in (1, 2, 4)),
    (layers.GroupNormalization(groups=2, center=False), (6, 4)),
    (layers.GroupNormalization(groups=2, scale=False), IMAGE),
    (layers.LocalResponseNormalization(), IMAGE),
    (layers.LocalResponseNormalization(depth_radius=1, bias=1.0, alpha=2.0, beta=0.5), (3, 2, 7)),
    (layers.MultiHeadAttention(3, 4), (6, 5)),
    (layers.MultiHeadAttention(1, 2, use_bias=False), (6, 5)),
    (layers.PositionEmbedding(), (6, 5)),
    *((layers.Activation(name), (6, 40)) for name in layers.ACTIVATIONS),
    (layers.ReLU(), IMAGE),
    (layers.ReLU(max_value=0.5), IMAGE),
    (layers.ReLU(max_value=0.5, negative_slope=0.1), IMAGE),
    (layers.LeakyReLU(), IMAGE),
    (layers.LeakyReLU(negative_slope=0.05), IMAGE),
    (layers.PReLU(), IMAGE),
    (layers.Softmax(), IMAGE),
    (layers.Dropout(0.5), IMAGE),
    (layers.Rescaling(scale=1 / 127.5, offset=-1.0), IMAGE),
    (layers.Rescaling(scale=(0.1, 0.2, 0.3, 0.4), offset=(1.0, 2.0, 3.0, 4.0)), IMAGE),
    (layers.Flatten(), IMAGE),
    (layers.Flatten(), (5,)),
    (layers.Reshape((-1, 8)), IMAGE),
    (layers.Reshape((4, 90)), IMAGE),
    (layers.ZeroPadding2D(2), IMAGE),
    (layers.ZeroPadding2D(((0, 1), (2, 3))), IMAGE),
    (layers.Cropping2D(1), IMAGE),
    (layers.Cropping2D(((0, 1), (2, 3))), IMAGE),
    *((layers.UpSampling2D(size), IMAGE) for size in (2, (3, 1))),
    *((layers.UpSampling2D(size, interpolation="bilinear"), IMAGE) for size in (2, 3, (1, 4))),
    (layers.UpSampling2D(3, interpolation="bilinear"), (1, 2, 3)),
]


@pytest.mark.tensorflow  # Keras 3.15 on JAX wants values as large as keys
def test_attention_with_small_values() -> None:
    net = Architecture("one", (6, 5), (layers.MultiHeadAttention(2, 4, value_dim=3),))
    compare_with_keras(net, random(3, 6, 5, scale=2))


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=str)
def test_layer_is_keras_layer(layer: Layer, shape: Shape) -> None:
    compare_with_keras(Architecture("one", shape, (layer,)), random(3, *shape, scale=2))


def test_every_layer_of_the_description_was_compared() -> None:
    def below(kind: type[Layer]) -> Iterator[type[Layer]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    known = {kind for kind in below(Layer) if not kind.__subclasses__() and kind.__module__ == layers.__name__}
    compared = {type(layer) for layer, _ in CASES}
    assert known - compared == {layers.InputLayer, layers.Merge, layers.Other}


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
def test_activation_is_finite_wherever_the_input_is(activation: str) -> None:
    x = np.array([[-3e4, -100, -1, 0, 1, 100, 3e4]], np.float32)
    found = forward.ACTIVATIONS[activation](x)
    assert np.isfinite(found).all()
    assert_close(found, np.asarray(ops.convert_to_numpy(keras.activations.get(activation)(ops.convert_to_tensor(x)))))


def test_every_activation_is_there() -> None:
    assert set(forward.ACTIVATIONS) == set(layers.ACTIVATIONS)


@pytest.mark.parametrize("mode", layers.MERGES)
def test_merges_are_keras_merges(mode: str) -> None:
    count = 2 if mode == "subtract" else 3
    paths = ((), (layers.Activation("tanh"),), (layers.Conv2D(4, 1),))[:count]
    compare_with_keras(Architecture("merge", IMAGE, (Branches(mode, paths), layers.ReLU())), random(2, *IMAGE))


def test_one_number_for_each_channel_multiplies_the_whole_image() -> None:
    gate = layers.GlobalAveragePooling2D(keepdims=True), layers.Dense(4, activation="sigmoid")
    compare_with_keras(Architecture("gate", IMAGE, (Branches("multiply", ((), gate)),)), random(2, *IMAGE))


def test_attention_to_other_tokens() -> None:
    entry = keras.Input((6, 5))
    other = keras.layers.Dense(5)(entry)
    model = keras.Model(entry, keras.layers.MultiHeadAttention(2, 3)(entry, other))
    rows = read_model(model)
    tokens = random(3, 6, 5)
    expected = ops.convert_to_numpy(model(tokens))
    assert len(rows[-1].reads) == 2
    assert_close(forward.forward(rows, forward.weights_of(model), tokens), np.asarray(expected))


# Whole networks against Keras.

NETWORKS: dict[str, Architecture] = {
    "small_cnn": architectures.small_cnn(),
    "lenet5": architectures.lenet5(),
    "alexnet_32": architectures.alexnet_32(),
    "mobilenet_v2": architectures.mobilenet_v2((64, 64, 3), 10, alpha=0.35),
    "resnet50": architectures.resnet50((64, 64, 3), 10),
    "se_resnet50": architectures.se_resnet50((64, 64, 3), 10),
    "xception": architectures.xception((75, 75, 3), 10),
    "googlenet": architectures.googlenet((64, 64, 3), 10),
    "vit_tiny": architectures.vit_tiny((32, 32, 3), 10, patch_size=4, depth=4),
}


# JAX compiles each operation for each size: ten to thirty seconds for each of these.
SLOW_ON_JAX = ("xception", "googlenet", "mobilenet_v2", "se_resnet50")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.once if name in SLOW_ON_JAX else ()) for name in NETWORKS]
)
def test_network_is_keras_network_in_every_row(name: str) -> None:
    net = NETWORKS[name]
    compare_with_keras(net, np.random.default_rng(0).uniform(-1, 1, (2, *net.input_shape)).astype(np.float32))


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_weights_of_every_architecture_are_its_parameters(name: str) -> None:
    for row in trace(architectures.architecture(name)):
        shapes = forward.weight_shapes(row.layer, row.input_shapes[0]) if row.reads else {}
        assert sum(map(math.prod, shapes.values())) == row.params, row.name


def test_a_sequential_model_made_elsewhere() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.Sequential([keras.layers.DepthwiseConv2D(3, strides=2), keras.layers.ReLU(6.0)]),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )
    images = random(3, 8, 8, 3)
    expected = np.asarray(ops.convert_to_numpy(model(images, training=False)))
    assert_close(forward.forward(read_model(model), forward.weights_of(model), images), expected)


def test_layers_within_models_and_shared_layers_have_their_weights() -> None:
    shared = keras.layers.Dense(4, activation="tanh", name="shared")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="hidden")], name="inner")
    entry = keras.Input((4,))
    model = keras.Model(entry, shared(inner(shared(entry))))
    x = random(3, 4)
    weights = forward.weights_of(model)
    assert set(weights) == {"shared", "inner/hidden"}
    expected = ops.convert_to_numpy(model(x))
    assert_close(forward.forward(read_model(model), weights, x), np.asarray(expected))


# The walk over the rows.


@pytest.fixture
def small() -> tuple[tuple[Row, ...], dict[str, list[Array]]]:
    rows = trace(architectures.small_cnn((12, 12, 1), 10, 4))
    return rows, random_weights(rows)


def test_a_batch_is_its_images(small: tuple[tuple[Row, ...], dict[str, list[Array]]]) -> None:
    rows, weights = small
    images = random(1000, 12, 12, 1)
    assert rows[1].activation_bytes(1000) > forward.CHUNK_BYTES  # so it goes in parts
    together = forward.forward(rows, weights, images)
    one_by_one = [forward.forward(rows, weights, images[index : index + 1]) for index in (0, 500, 999)]
    assert_close(together[[0, 500, 999]], np.concatenate(one_by_one))
    assert_close(forward.activations(rows, weights, images)["predictions"], together, 0)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-6)


def test_no_image_gives_no_answer(small: tuple[tuple[Row, ...], dict[str, list[Array]]]) -> None:
    rows, weights = small
    assert forward.forward(rows, weights, np.zeros((0, 12, 12, 1))).shape == (0, 10)


def test_images_may_have_any_kind_of_number(small: tuple[tuple[Row, ...], dict[str, list[Array]]]) -> None:
    rows, weights = small
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 1))
    answers = [forward.forward(rows, weights, images.astype(kind)) for kind in (np.uint8, np.int64, np.float64)]
    answers.append(forward.forward(rows, weights, images.tolist()))
    for answer in answers:
        assert_close(answer, answers[0], 0)


def test_nothing_that_came_in_is_changed() -> None:
    net = Architecture(
        "in place",
        (4,),
        (layers.Dense(4, use_bias=False), Branches("add", ((layers.Dense(4, activation="relu"),), ())), layers.ReLU()),
    )
    rows = trace(net)
    weights, images = random_weights(rows), random(3, 4)
    kept = {name: [array.copy() for array in arrays] for name, arrays in weights.items()}
    first, again = forward.activations(rows, weights, images), forward.activations(rows, weights, images)
    np.testing.assert_array_equal(images, random(3, 4))
    for name, arrays in kept.items():
        for array, now in zip(arrays, weights[name], strict=True):
            np.testing.assert_array_equal(array, now)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    np.testing.assert_array_equal(first["dense"], images @ weights["dense"][0])


def peak_bytes(rows: Sequence[Row], images: Array) -> int:
    weights = random_weights(rows)
    tracemalloc.start()
    try:
        forward.forward(rows, weights, images)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_windows_of_large_images_are_never_all_in_memory() -> None:
    rows = trace(Architecture("wide", (300, 300, 16), (layers.Conv2D(16, 3), layers.GlobalMaxPooling2D())))
    windows_bytes = 298 * 298 * 9 * 16 * 4  # 51 MB for each of 4 images, 6 MB an image itself
    assert peak_bytes(rows, np.zeros((4, 300, 300, 16), np.float32)) < windows_bytes / 2


def test_outputs_are_let_go_after_their_last_use() -> None:
    rows = trace(Architecture("deep", (256, 256, 8), tuple(layers.Activation("relu") for _ in range(20))))
    assert peak_bytes(rows, np.zeros((1, 256, 256, 8), np.float32)) < 5 * 256 * 256 * 8 * 4


def test_it_needs_no_keras() -> None:
    code = (
        "import sys, numpy as np; from toolkit import forward; from toolkit.architectures import small_cnn;"
        "from toolkit.costs import trace; rows = trace(small_cnn());"
        "weights = {row.name: [np.zeros(s) for s in forward.weight_shapes(row.layer, row.input_shapes[0]).values()]"
        " for row in rows[1:]};"
        "print(forward.forward(rows, weights, np.zeros((1, 28, 28, 1)))[0, 0]);"
        "assert not {'keras', 'tensorflow', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.strip() == "0.1", answer.stderr


# What does not fit, and files.


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((12, 12, 1)), r"\(n, 12, 12, 1\).*\(12, 12, 1\) came; for a single one give image\[np.newaxis\]"),
        (np.zeros((2, 28, 28, 1)), r"\(n, 12, 12, 1\).*\(2, 28, 28, 1\) came; resize or reshape"),
        (np.zeros(()), r"\(\) came"),
        (np.array([["a"]]), r"images must be numbers"),
        (np.zeros((1, 12, 12, 1), complex), r"images must be numbers; an array of complex128 came"),
        ([[1], [1, 2]], r"images must be numbers in one array"),
    ],
)
def test_images_that_do_not_fit_get_a_sentence(
    small: tuple[tuple[Row, ...], dict[str, list[Array]]], images: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        forward.forward(*small, images)


@pytest.mark.parametrize("change", ["missing", "fewer", "more", "shape", "text"])
def test_weights_that_do_not_fit_get_a_sentence(
    small: tuple[tuple[Row, ...], dict[str, list[Array]]], change: str
) -> None:
    rows, weights = small
    kernel, bias = weights["conv2"]
    changed: dict[str, list[Any]] = {
        "missing": [],
        "fewer": [kernel],
        "more": [kernel, bias, bias],
        "shape": [kernel.transpose(0, 1, 3, 2), bias],
        "text": [kernel, ["a"] * 8],
    }
    with pytest.raises(InputError, match=r"layer 'conv2' \(Conv2D\) needs kernel \(3, 3, 4, 8\), bias \(8,\); .* came"):
        forward.forward(rows, weights | {"conv2": changed[change]}, np.zeros((1, 12, 12, 1)))


def test_a_layer_that_only_keras_knows_gets_a_sentence() -> None:
    convolution = keras.layers.Conv2D(3, 2, activation=keras.layers.LeakyReLU(negative_slope=0.05), name="odd")
    rows = read_model(keras.Sequential([keras.Input((4, 4, 1)), convolution]))
    with pytest.raises(InputError, match="Conv2D 'odd' is not known to the NumPy forward pass; predict with Keras"):
        forward.forward(rows, {"odd": convolution.get_weights()}, random(1, 4, 4, 1))


def test_a_network_with_two_inputs_gets_a_sentence() -> None:
    entries = [keras.Input((4,)), keras.Input((4,))]
    rows = read_model(keras.Model(entries, keras.layers.Add()(entries)))
    with pytest.raises(InputError, match="networks with one input; this one has 2"):
        forward.forward(rows, {}, random(1, 4))


def test_saved_weights_come_back(tmp_path: Path) -> None:
    rows = trace(NETWORKS["mobilenet_v2"])
    weights = random_weights(rows) | {
        "block/with/path": [random(2), random(3)] + [random(1, seed=n) for n in range(12)]
    }
    forward.save_weights(tmp_path / "weights.npz", weights)
    loaded = forward.load_weights(tmp_path / "weights.npz")
    assert set(loaded) == {name for name, arrays in weights.items() if arrays}
    for name, arrays in loaded.items():
        for found, expected in zip(arrays, weights[name], strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == np.float32
    forward.check_weights(rows, loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.npz"
    forward.save_weights(path, {"dense": [np.ones(3)]})

    def full_disk(file: Any, **arrays: Array) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        forward.save_weights(path, {"dense": [np.zeros(3)]})
    assert forward.load_weights(path)["dense"][0].tolist() == [1, 1, 1]
    assert [found.name for found in tmp_path.iterdir()] == ["weights.npz"]


def broken_files(folder: Path) -> Iterator[Path]:
    """What may lie where weights are expected."""
    yield folder / "absent.npz"
    for name, content in (("empty", b""), ("text", b"hello"), ("half", b"PK\x03\x04 and then nothing")):
        path = folder / f"{name}.npz"
        path.write_bytes(content)
        yield path
    np.save(folder / "array.npy", np.zeros(3))
    yield folder / "array.npy"
    np.savez(folder / "objects.npz", **{"dense/0": np.array([{"run": "me"}], dtype=object)})  # type: ignore[arg-type]
    yield folder / "objects.npz"
    np.savez(folder / "names.npz", dense=np.zeros(3))
    yield folder / "names.npz"
    with zipfile.ZipFile(folder / "other.npz", "w") as archive:
        archive.writestr("dense/0", "not an array")
    yield folder / "other.npz"


def test_files_without_weights_get_a_sentence(tmp_path: Path) -> None:
    for path in broken_files(tmp_path):
        with pytest.raises(
            InputError, match=rf"{path.name} holds no weights \(.+\); give a file that save_weights wrote"
        ):
            forward.load_weights(path)


def test_a_network_with_two_outputs_is_not_taken_for_one() -> None:
    import keras

    entry = keras.Input((4,))
    left = keras.layers.Dense(3, name="left")(entry)
    model = keras.Model(
        entry, [left, keras.layers.Dense(2, name="right")(left), keras.layers.Dense(2, name="up")(entry)]
    )
    rows, weights, images = read_model(model), forward.weights_of(model), np.ones((2, 4))
    with pytest.raises(InputError, match="use `activations`"):
        forward.forward(rows, weights, images)
    assert forward.activations(rows, weights, images)["right"].shape == (2, 2)
