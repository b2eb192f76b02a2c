"""Every layer against the Keras layer of its name: shapes, counts and refusals; MACs against TensorFlow's own count."""

import inspect
from collections.abc import Callable
from traceback import walk_tb
from typing import Any

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import arithmetic, layers
from toolkit.arithmetic import InputError
from toolkit.build import keras_layer, without_weights
from toolkit.layers import (
    Activation,
    Architecture,
    AveragePooling2D,
    BatchNormalization,
    Branches,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    InputLayer,
    Layer,
    LayerNormalization,
    LeakyReLU,
    LocalResponseNormalization,
    MaxPooling2D,
    Merge,
    MultiHeadAttention,
    Other,
    PositionEmbedding,
    PReLU,
    ReLU,
    Rescaling,
    Reshape,
    SeparableConv2D,
    Shape,
    Softmax,
    UpSampling2D,
    Windowed,
    ZeroPadding2D,
)

patiently = settings(deadline=None)  # the first example waits for Keras

IMAGE, TOKENS, FEATURES = (13, 10, 6), (7, 12), (20,)

# Every option of every layer, away from its default, in at least one case.
CASES: list[tuple[Layer, Shape]] = [
    (Conv2D(8, 3), IMAGE),
    (Conv2D(8, (1, 7), strides=(2, 1), padding="same", activation="relu", use_bias=False), IMAGE),
    (Conv2D(9, 3, groups=3, dilation_rate=(2, 1)), IMAGE),
    (DepthwiseConv2D(3, padding="same"), IMAGE),
    (DepthwiseConv2D(3, strides=2, depth_multiplier=3, activation="silu", use_bias=False), IMAGE),
    (DepthwiseConv2D((3, 2), dilation_rate=2), IMAGE),
    (SeparableConv2D(5, 3), IMAGE),
    (SeparableConv2D(5, (3, 2), strides=2, padding="same", depth_multiplier=2, use_bias=False), IMAGE),
    (SeparableConv2D(5, 3, dilation_rate=2, activation="gelu"), IMAGE),
    (Conv2DTranspose(4, 4, strides=2, padding="same"), IMAGE),
    (Conv2DTranspose(4, (2, 5), strides=(3, 2), use_bias=False, activation="tanh"), IMAGE),
    (Conv2DTranspose(4, 3, dilation_rate=2), IMAGE),
    (Dense(9), FEATURES),
    (Dense(9, activation="softmax", use_bias=False), TOKENS),
    (Dense(9), IMAGE),
    (MultiHeadAttention(3, 5), TOKENS),
    (MultiHeadAttention(3, 5, value_dim=2, use_bias=False), TOKENS),
    (PositionEmbedding(), TOKENS),
    (MaxPooling2D(), IMAGE),
    (MaxPooling2D(3, strides=2, padding="same"), IMAGE),
    (AveragePooling2D((2, 3), strides=(1, 2)), IMAGE),
    (GlobalAveragePooling2D(), IMAGE),
    (GlobalMaxPooling2D(keepdims=True), IMAGE),
    (GlobalAveragePooling1D(), TOKENS),
    (BatchNormalization(), IMAGE),
    (BatchNormalization(momentum=0.9, epsilon=1e-5, center=False), FEATURES),
    (BatchNormalization(scale=False, center=False), TOKENS),
    (LayerNormalization(epsilon=1e-6), TOKENS),
    (LayerNormalization(scale=False), IMAGE),
    (GroupNormalization(groups=3, center=False), IMAGE),
    (LocalResponseNormalization(depth_radius=1, bias=1.0, alpha=2e-5, beta=0.5), IMAGE),
    (Activation("gelu"), IMAGE),
    (ReLU(max_value=6.0, negative_slope=0.1), IMAGE),
    (LeakyReLU(negative_slope=0.2), FEATURES),
    (PReLU(), IMAGE),
    (Softmax(), FEATURES),
    (Dropout(0.5), TOKENS),
    (Rescaling(scale=1 / 255), IMAGE),
    (Rescaling(scale=(0.1,) * 6, offset=(-1.0,) * 6), IMAGE),
    (Flatten(), IMAGE),
    (Flatten(), FEATURES),
    (Reshape((-1, 6)), IMAGE),
    (Reshape((4, 5, 1)), FEATURES),
    (ZeroPadding2D(), IMAGE),
    (ZeroPadding2D((1, 2)), IMAGE),
    (ZeroPadding2D(((0, 1), (2, 3))), IMAGE),
    (Cropping2D(), IMAGE),
    (Cropping2D((1, 2)), IMAGE),
    (Cropping2D(((0, 1), (2, 3))), IMAGE),
    (UpSampling2D(), IMAGE),
    (UpSampling2D((1, 3), interpolation="bilinear"), IMAGE),
]
WITHOUT_A_CASE = {
    "Activated",
    "GlobalPooling2D",
    "InputLayer",
    "Layer",
    "Merge",
    "Other",
    "Pooling2D",
    "Scaled",
    "Windowed",
}


def described(case: tuple[Layer, Shape]) -> str:
    return f"{case[0].type}-{case[1]}"


def built(layer: Layer, shape: Shape) -> Any:
    """The Keras layer of the same name, built for this input without memory for its weights."""

    def make() -> Any:
        made, entry = keras_layer(layer, "it"), keras.Input(shape)
        made(*[entry] * (2 if isinstance(layer, MultiHeadAttention) else 1))
        return made

    return without_weights(make)


def count(weights: list[Any]) -> int:
    return sum(arithmetic.elements(tuple(weight.shape)) for weight in weights)


def test_every_layer_has_a_case() -> None:
    kinds = {name for name, kind in vars(layers).items() if inspect.isclass(kind) and issubclass(kind, Layer)}
    assert {layer.type for layer, _ in CASES} == kinds - WITHOUT_A_CASE


@pytest.mark.parametrize("case", CASES, ids=described)
def test_shape_and_counts_are_keras_s(case: tuple[Layer, Shape]) -> None:
    layer, shape = case
    made = built(layer, shape)
    assert layer.output_shape(shape) == made.output.shape[1:]
    assert layer.params(shape) == made.count_params()
    assert layer.trainable_params(shape) == count(made.trainable_weights)
    assert layer.non_trainable_params(shape) == count(made.non_trainable_weights)


@pytest.mark.parametrize("case", CASES, ids=described)
def test_layers_are_values(case: tuple[Layer, Shape]) -> None:
    """Equal descriptions are equal and hash alike, and nobody can change one."""
    layer = case[0]
    twin = type(layer)(**vars(layer))
    assert twin == layer
    assert hash(twin) == hash(layer)
    with pytest.raises(AttributeError, match="cannot assign"):
        layer.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("mode", layers.MERGES)
@pytest.mark.parametrize("shapes", [(IMAGE, IMAGE), ((13, 10, 1), IMAGE), (IMAGE, (1, 1, 6)), (FEATURES, FEATURES)])
def test_paths_meet_as_in_keras(mode: str, shapes: tuple[Shape, ...]) -> None:
    inputs = [keras.Input(shape) for shape in shapes]
    try:
        expected = getattr(keras.layers, mode.capitalize())()(inputs).shape[1:]
    except ValueError:
        with pytest.raises(InputError, match="the paths end in"):
            Merge(mode).merged_shape(shapes)
    else:
        assert Merge(mode).merged_shape(shapes) == expected


def test_what_has_no_keras_layer_of_its_own() -> None:
    assert InputLayer(shape=IMAGE).output_shape(()) == IMAGE
    other = Other(kind="Mystery", shape=(3,), trainable=5, non_trainable=2)
    assert (other.type, other.output_shape(IMAGE), other.params(IMAGE), other.macs(IMAGE)) == ("Mystery", (3,), 7, 0)


# Properties.

lengths, windows, steps = st.integers(1, 24), st.integers(1, 6), st.integers(1, 3)
pairs = st.tuples(windows, windows)
paddings = st.sampled_from(arithmetic.PADDINGS)
images = st.tuples(lengths, lengths, st.integers(1, 3).map(lambda third: 2 * third))


CONVOLUTIONS: tuple[Any, ...] = (Conv2D, DepthwiseConv2D, SeparableConv2D, Conv2DTranspose)
POOLS: tuple[Any, ...] = (MaxPooling2D, AveragePooling2D)


@st.composite
def windowed(draw: st.DrawFn, kinds: tuple[Any, ...] = CONVOLUTIONS + POOLS) -> Any:
    """Any of these layers with any window, strides, dilation and padding that it allows."""
    kind = draw(st.sampled_from(kinds))
    window, stride = draw(pairs), draw(st.one_of(steps, st.tuples(steps, steps)))
    options: dict[str, Any] = {"strides": stride, "padding": draw(paddings)}
    if kind in POOLS:
        return kind(window, **options)
    if stride in (1, (1, 1)):
        options["dilation_rate"] = draw(steps)
    filters = () if kind is DepthwiseConv2D else (4,)
    return kind(*filters, window, use_bias=draw(st.booleans()), **options)


@patiently
@given(windowed(), images)
def test_windows_give_keras_s_shape_or_are_refused_where_keras_refuses_them(layer: Layer, shape: Shape) -> None:
    try:
        expected = tuple(keras_layer(layer, "it").compute_output_shape((None, *shape))[1:])
    except ValueError:
        expected = (0,)
    if min(expected) < 1:
        with pytest.raises(InputError, match="does not fit"):
            layer.output_shape(shape)
    else:
        assert layer.output_shape(shape) == expected


@patiently
@given(windowed(CONVOLUTIONS), images, st.integers(1, 4))
def test_macs_grow_with_the_output_and_parameters_do_not(layer: Windowed, shape: Shape, times: int) -> None:
    """A convolution's MACs are its weights times the pixels that it visits; its parameters know no image size."""
    large = (shape[0] * times + 30, shape[1] * times + 30, shape[2])
    output = large if isinstance(layer, Conv2DTranspose) else layer.output_shape(large)
    biases = layer.output_shape(large)[2] if layer.use_bias else 0
    assert layer.macs(large) == arithmetic.elements(output[:2]) * (layer.params(large) - biases)
    assert layer.params(large) == layer.params((50, 60, shape[2]))


@patiently
@given(st.integers(1, 4), images)
def test_groups_divide_the_work(groups: int, shape: Shape) -> None:
    image = (*shape[:2], shape[2] * groups)
    whole, split = Conv2D(6 * groups, 3, padding="same"), Conv2D(6 * groups, 3, padding="same", groups=groups)
    assert whole.macs(image) == groups * split.macs(image)


@patiently
@given(images)
def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one(shape: Shape) -> None:
    together = SeparableConv2D(8, 3, padding="same")
    depthwise = DepthwiseConv2D(3, padding="same", use_bias=False)
    pointwise = Conv2D(8, 1)
    between = depthwise.output_shape(shape)
    assert together.macs(shape) == depthwise.macs(shape) + pointwise.macs(between)
    assert together.params(shape) == depthwise.params(shape) + pointwise.params(between)
    assert together.output_shape(shape) == pointwise.output_shape(between)
    assert together.kept_elements(shape) == arithmetic.elements(between)


@patiently
@given(images)
def test_a_dense_layer_is_a_convolution_of_the_whole_image(shape: Shape) -> None:
    dense, conv = Dense(7), Conv2D(7, (shape[0], shape[1]))
    flat = Flatten().output_shape(shape)
    assert (dense.params(flat), dense.macs(flat)) == (conv.params(shape), conv.macs(shape))


def countable(case: tuple[Layer, Shape]) -> bool:
    """Whether TensorFlow counts the products of this layer as they are done.

    It has no figure for groups and attention, counts pixels that dilation moves into the batch, and for a transposed
    convolution divides the output by the strides, which is the input with "same" padding only.
    """
    layer, shape = case
    known = not isinstance(layer, MultiHeadAttention) and getattr(layer, "groups", 1) == 1
    plain = getattr(layer, "dilation", (1, 1)) == (1, 1)
    exact = not isinstance(layer, Conv2DTranspose) or layer.padding == "same"
    return layer.macs(shape) > 0 and known and plain and exact


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", [case for case in CASES if countable(case)], ids=described)
def test_macs_are_half_of_the_operations_that_tensorflow_counts(case: tuple[Layer, Shape]) -> None:
    layer, shape = case
    assert arithmetic.flops(layer.macs(shape)) == tensorflow_flops(layer, shape)


def tensorflow_flops(layer: Layer, shape: Shape) -> int:
    """FLOPs of the convolutions and products in the layer's TensorFlow graph, for one image."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    made = keras_layer(layer, "it")
    made.build((1, *shape))
    graph = convert_variables_to_constants_v2(tf.function(made).get_concrete_function(tf.TensorSpec((1, *shape)))).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output().build()
    node, total = profiler.profile(graph, cmd="op", options=options), 0
    while node.children:
        (node,) = node.children
        if node.name in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"):
            total += node.total_float_ops - sum(child.total_float_ops for child in node.children)
    return total


@pytest.mark.parametrize(
    ("layer", "extent", "jump"),
    [
        (Conv2D(4, (3, 5), strides=(1, 2)), (3, 5), (1, 2)),
        (Conv2D(4, 3, dilation_rate=(1, 2)), (3, 5), (1, 1)),
        (MaxPooling2D(2), (2, 2), (2, 2)),
        (AveragePooling2D(3, strides=2), (3, 3), (2, 2)),
        (Conv2DTranspose(4, 4, strides=2), (2, 2), (0.5, 0.5)),
        (Conv2DTranspose(4, (3, 2), strides=(2, 3)), (2, 1), (1 / 2, 1 / 3)),
        (UpSampling2D((2, 4)), (1, 1), (1 / 2, 1 / 4)),
        (UpSampling2D(2, interpolation="bilinear"), (2, 2), (0.5, 0.5)),
        (Dense(3), (1, 1), (1, 1)),
        (GlobalAveragePooling2D(), None, (1, 1)),
        (Activation("relu"), (1, 1), (1, 1)),
    ],
)
def test_what_one_output_sees_and_how_far_the_next_one_is(
    layer: Layer, extent: tuple[int, int] | None, jump: tuple[float, float]
) -> None:
    assert layer.extent(IMAGE) == extent
    assert layer.jump() == jump


@patiently
@given(windows, steps, lengths)
def test_a_pixel_of_a_transposed_convolution_is_painted_by_at_most_its_extent(
    window: int, stride: int, size: int
) -> None:
    painted: dict[int, int] = {}
    for pixel in range(size):
        for tap in range(window):
            painted[stride * pixel + tap] = painted.get(stride * pixel + tap, 0) + 1
    extent = Conv2DTranspose(1, window, strides=stride).extent((size, size, 1))
    assert extent is not None
    assert max(painted.values()) == min(extent[0], size)


# What is refused.

REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: layers.pair("strides", (1, 2, 3)),  # type: ignore[arg-type]
        r"strides must be one whole number or two \(height, width\); \(1, 2, 3\) came",
    ),
    (lambda: layers.pair("strides", "two"), "strides must be a whole number; 'two' came"),  # type: ignore[arg-type]
    (lambda: Conv2D(0, 3), "Conv2D: filters must be at least 1; 0 came; give 1 or more"),
    (lambda: Conv2D(8, 0, name="stem"), "Conv2D 'stem': kernel_size must be at least 1; 0 came"),
    (lambda: Conv2D(8, 3, strides=0), "Conv2D: strides must be at least 1; 0 came"),
    (lambda: Conv2D(8, 3, padding="full"), "Conv2D: padding must be one of valid, same; 'full' came"),
    (lambda: Conv2D(8, 3, activation="magic"), "Conv2D: activation must be one of .*'magic' came"),
    (
        lambda: Conv2D(8, 3, strides=2, dilation_rate=2),
        "Conv2D: strides 2 and dilation_rate 2 came; Keras allows only one of them above 1; set the other to 1",
    ),
    (lambda: Conv2D(8, 3, groups=0), "Conv2D: groups must be at least 1; 0 came"),
    (lambda: Conv2D(8, 3, groups=3), "Conv2D: filters must be a multiple of groups; 8 and 3 came"),
    (
        lambda: Conv2D(8, 3, groups=4).output_shape(IMAGE),
        "Conv2D: 6 channels do not split into 4 equal groups; change groups",
    ),
    (
        lambda: Conv2D(8, 3).output_shape(FEATURES),
        r"Conv2D needs an image \(height, width, channels\); \(20,\) came; move it before the Flatten",
    ),
    (
        lambda: Conv2D(8, 11).output_shape((8, 8, 3)),
        'a window of 11 does not fit into 8 pixels; use padding="same", a smaller window or a larger input',
    ),
    (lambda: DepthwiseConv2D(3, depth_multiplier=0), "DepthwiseConv2D: depth_multiplier must be at least 1; 0 came"),
    (lambda: DepthwiseConv2D(3).output_shape(TOKENS), "DepthwiseConv2D needs an image"),
    (lambda: SeparableConv2D(0, 3), "SeparableConv2D: filters must be at least 1; 0 came"),
    (lambda: SeparableConv2D(3, 3, depth_multiplier=0), "SeparableConv2D: depth_multiplier must be at least 1; 0 came"),
    (lambda: Conv2DTranspose(0, 3), "Conv2DTranspose: filters must be at least 1; 0 came"),
    (lambda: Conv2DTranspose(3, 3).output_shape(TOKENS), "Conv2DTranspose needs an image"),
    (lambda: Dense(0), "Dense: units must be at least 1; 0 came"),
    (lambda: Dense("ten"), "Dense: units must be a whole number; 'ten' came"),  # type: ignore[arg-type]
    (lambda: MultiHeadAttention(0, 4), "MultiHeadAttention: num_heads must be at least 1; 0 came"),
    (lambda: MultiHeadAttention(4, 0), "MultiHeadAttention: key_dim must be at least 1; 0 came"),
    (lambda: MultiHeadAttention(4, 4, value_dim=-1), "MultiHeadAttention: value_dim must be at least 0; -1 came"),
    (
        lambda: MultiHeadAttention(4, 4).output_shape(IMAGE),
        r"MultiHeadAttention needs \(tokens, channels\); \(13, 10, 6\) came; put a Reshape before it",
    ),
    (lambda: MaxPooling2D(0), "MaxPooling2D: pool_size must be at least 1; 0 came"),
    (lambda: MaxPooling2D(2, strides=-1), "MaxPooling2D: strides must be at least 0; -1 came"),
    (lambda: MaxPooling2D(2, padding="full"), "MaxPooling2D: padding must be one of valid, same"),
    (lambda: AveragePooling2D(2).output_shape(TOKENS), "AveragePooling2D needs an image"),
    (lambda: GlobalMaxPooling2D().output_shape(TOKENS), "GlobalMaxPooling2D needs an image"),
    (lambda: GlobalAveragePooling1D().output_shape(IMAGE), r"GlobalAveragePooling1D needs \(tokens, channels\)"),
    (lambda: GroupNormalization(groups=0), "GroupNormalization: groups must be at least 1; 0 came"),
    (
        lambda: GroupNormalization(groups=4).output_shape(IMAGE),
        "GroupNormalization: 6 channels do not split into 4 equal groups; change groups",
    ),
    (
        lambda: LocalResponseNormalization(bias=0.0),
        "LocalResponseNormalization: bias must be above 0; 0.0 came",
    ),
    (
        lambda: LayerNormalization(epsilon=0.0),
        "LayerNormalization: epsilon must be above 0; 0.0 came",
    ),
    (
        lambda: Rescaling(scale=float("inf")),
        "Rescaling: scale must be a number, or one for each channel; inf came",
    ),
    (
        lambda: LocalResponseNormalization(depth_radius=-1),
        "LocalResponseNormalization: depth_radius must be at least 0",
    ),
    (lambda: Activation("magic"), "Activation: activation must be one of .*'magic' came"),
    (lambda: Dropout(1.0), "Dropout: rate must be a number from 0 to below 1; 1.0 came; 0.25 is a usual choice"),
    (lambda: Dropout("much"), "Dropout: rate must be a number from 0 to below 1; 'much' came"),  # type: ignore[arg-type]
    (lambda: Reshape(5), r"Reshape: target_shape must be a tuple such as \(-1, 64\); 5 came"),  # type: ignore[arg-type]
    (lambda: Reshape((-1, -1)), r"Reshape: only one size may be -1; \(-1, -1\) came"),
    (lambda: Reshape((0, 3)), "Reshape: each size must be at least 1; 0 came"),
    (lambda: Reshape((-1, 7)).output_shape(FEATURES), r"Reshape: \(20,\) has 20 numbers; they do not fill \(-1, 7\)"),
    (lambda: Reshape((2, 5)).output_shape(FEATURES), r"Reshape: \(20,\) has 20 numbers; they do not fill \(2, 5\)"),
    (
        lambda: ZeroPadding2D(1.5),  # type: ignore[arg-type]
        r"ZeroPadding2D: padding must be a number, \(height, width\) or \(\(top, bottom\), \(left, right\)\); 1.5 came",
    ),
    (lambda: ZeroPadding2D(-1), "ZeroPadding2D: padding must be at least 0; -1 came"),
    (lambda: ZeroPadding2D().output_shape(FEATURES), "ZeroPadding2D needs an image"),
    (lambda: Cropping2D((1, 2, 3)), "Cropping2D: cropping must be a number"),  # type: ignore[arg-type]
    (lambda: Cropping2D((0, 5)).output_shape(IMAGE), r"Cropping2D: \(0, 5\) takes all of 13 × 10 pixels; crop less"),
    (lambda: UpSampling2D(0), "UpSampling2D: size must be at least 1; 0 came"),
    (lambda: UpSampling2D(interpolation="area"), "UpSampling2D: interpolation must be one of nearest, bilinear"),
    (lambda: UpSampling2D().output_shape(FEATURES), "UpSampling2D needs an image"),
    (lambda: InputLayer(shape=(8, 0, 3)), "input_shape: each size must be at least 1; 0 came"),
    (lambda: Merge("stack"), "the way in which branches meet must be one of add, .*'stack' came"),
    (
        lambda: Merge("subtract").merged_shape((FEATURES,) * 3),
        "Subtract takes exactly two paths; 3 came; subtract one after the other",
    ),
    (lambda: Merge("add").merged_shape((IMAGE, FEATURES)), "Add: the paths end in different ranks, .*reshape one"),
    (
        lambda: Merge("add").merged_shape((IMAGE, (13, 10, 5))),
        "Add: the paths end in .*; they must be equal; give the shorter path a 1 × 1 convolution",
    ),
    (
        lambda: Merge("concatenate").merged_shape((IMAGE, (13, 9, 6))),
        "Concatenate: the paths end in .*; all but the channels must be equal",
    ),
    (lambda: Branches("stack", ((), ())), "Branches: mode must be one of add, .*'stack' came"),
    (lambda: Branches("add", [(), ()]), r"Branches: paths must be a tuple of paths; list came; write \(path, \(\)\)"),  # type: ignore[arg-type]
    (lambda: Branches("add", ((),)), r"Branches need at least two paths; 1 came; \(\) is the identity"),
    (
        lambda: Branches("add", ([Flatten()], ())),  # type: ignore[arg-type]
        r"a path is a tuple of layers; list came; write \(layer,\) for a single one",
    ),
    (lambda: Branches("add", (("conv",), ())), "a path holds layers and Branches; 'conv' came"),  # type: ignore[arg-type]
    (
        lambda: Architecture("net", [8, 8, 3], ()),  # type: ignore[arg-type]
        r"input_shape must be a tuple such as \(224, 224, 3\); \[8, 8, 3\] came",
    ),
    (lambda: Architecture("net", (), ()), "input_shape must be a tuple such as"),
    (lambda: Architecture("net", (8, 8, 0), ()), "input_shape: each size must be at least 1; 0 came"),
    (lambda: Architecture("net", (8, 8, 3), Flatten()), "a path is a tuple of layers; Flatten came"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("ask", "sentence"), REFUSED)
def test_what_cannot_be_is_said_in_a_sentence(ask: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        ask()


def test_every_refusal_of_the_file_is_met_above() -> None:
    lines, _ = inspect.getsourcelines(layers)
    written = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith("raise InputError(")}
    met: set[int] = set()
    for ask, _ in REFUSED:
        with pytest.raises(InputError) as caught:
            ask()
        met |= {number for frame, number in walk_tb(caught.tb) if frame.f_code.co_filename == layers.__file__}
    assert written - met == set()
