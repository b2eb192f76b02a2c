"""A network computed with NumPy alone: what the app predicts with, and what the book takes apart.

First come the layers as plain functions of arrays, the textbook's formulas at prediction. Then `compute` says which
function and which weights belong to a layer of the description, and `forward` walks over the rows. Images and what
becomes of them are float32 with the batch first and the channels last: (n, height, width, channels).
"""

from __future__ import annotations

import math
import os
import secrets
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce, singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from toolkit import arithmetic, costs, layers
from toolkit.arithmetic import InputError
from toolkit.layers import Layer, Pair, Shape

if TYPE_CHECKING:
    from toolkit.costs import Row

Array = npt.NDArray[Any]  # float32 throughout
# The arrays of one layer, in the order of Keras's `get_weights()`, by Keras's names.
Named = Mapping[str, Array]
# The arrays of all layers that have some, by the names of their rows.
Weights = Mapping[str, Sequence[Array]]

# The windows of a convolution are laid out in memory for one matrix product. Measured: in blocks of this size they
# stay in the processor's cache, which is faster than all at once, and no image is too large.
BLOCK_BYTES = 4 * 2**20
# Images go through the whole network together as long as the largest output fits into this.
CHUNK_BYTES = 2 * 2**20

# Activations.


def relu(x: Array) -> Array:
    """max(x, 0).

    >>> relu(np.float32([-1, 2])).tolist()
    [0.0, 2.0]
    """
    return np.maximum(x, 0)


def leaky_relu(x: Array, negative_slope: float | Array = 0.2) -> Array:
    """Return x above 0 and `negative_slope` x below; Keras's activation has 0.2, its layer LeakyReLU 0.3.

    >>> leaky_relu(np.float32([-10, 2])).tolist()
    [-2.0, 2.0]
    """
    return np.maximum(x, 0) + negative_slope * np.minimum(x, 0)


def elu(x: Array) -> Array:
    """Return x above 0 and e^x - 1 below (Clevert et al. 2016).

    >>> elu(np.float32([-1, 2])).round(3).tolist() == np.float32([-0.632, 2]).tolist()
    True
    """
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """The exponential unit that keeps mean 0 and variance 1 (Klambauer et al. 2017, equation 2).

    >>> float(selu(np.float32(0)))
    0.0
    """
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), written so that no power of e overflows.

    >>> sigmoid(np.float32([-1000, 0, 1000])).tolist()
    [0.0, 0.5, 1.0]
    """
    power: Array = np.exp(-np.abs(x))
    share: Array = np.where(x >= 0, 1, power) / (1 + power)
    return share


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6) (Howard et al. 2017).

    >>> relu6(np.float32([-1, 3, 8])).tolist()
    [0.0, 3.0, 6.0]
    """
    return np.clip(x, 0, 6)


def hard_sigmoid(x: Array) -> Array:
    """min(max(x + 3, 0), 6) / 6, as in Keras 3 (Howard et al. 2019, section 5.2).

    >>> hard_sigmoid(np.float32([-3, 0, 3])).tolist()
    [0.0, 0.5, 1.0]
    """
    share: Array = relu6(x + 3) / 6
    return share


def softplus(x: Array) -> Array:
    """log(1 + e^x).

    >>> softplus(np.float32([1000])).tolist()
    [1000.0]
    """
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks, to 6e-7 in float32 (Abramowitz and Stegun 1964, formula 7.1.26).

    >>> round(float(erf(np.float32(0.5))), 5)
    0.5205
    """
    t: Array = 1 / (1 + 0.3275911 * np.abs(x))
    series: Array = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    share: Array = np.sign(x) * (1 - series * np.exp(-x * x))
    return share


def gelu(x: Array) -> Array:
    """Each x times the share of a normal distribution below it (Hendrycks and Gimpel 2016), not the tanh approximation.

    >>> round(float(gelu(np.float32(1))), 4)
    0.8413
    """
    return x * (0.5 + 0.5 * erf(x * math.sqrt(0.5)))


def softmax(x: Array) -> Array:
    """Probabilities along the last axis: e^x over the sum of all e^x, with the largest x taken off first.

    >>> softmax(np.float32([[1000, 1000]])).tolist()
    [[0.5, 0.5]]
    """
    power: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = power / power.sum(axis=-1, keepdims=True)
    return shares


def silu(x: Array) -> Array:
    """Each x times sigmoid(x), also called swish (Ramachandran et al. 2017).

    >>> silu(np.float32([-1000, 0, 1000])).tolist()
    [-0.0, 0.0, 1000.0]
    """
    return x * sigmoid(x)


def hard_silu(x: Array) -> Array:
    """Each x times hard_sigmoid(x), also called hard swish (Howard et al. 2019, section 5.2).

    >>> hard_silu(np.float32([-3, 3])).tolist()
    [-0.0, 3.0]
    """
    return x * hard_sigmoid(x)


def mish(x: Array) -> Array:
    """Each x times tanh(softplus(x)) (Misra 2020).

    >>> round(float(mish(np.float32(1))), 4)
    0.8651
    """
    return x * np.tanh(softplus(x))


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": np.tanh,
    "softmax": softmax,
    "silu": silu,
    "swish": silu,
    "gelu": gelu,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "mish": mish,
    "softplus": softplus,
}

# Windows.


def pad(images: Array, sides: tuple[Pair, Pair], value: float = 0) -> Array:
    """Images with `value` around them: ((top, bottom), (left, right)) pixels.

    >>> pad(np.ones((1, 1, 1, 1), np.float32), ((0, 1), (2, 0)))[0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    (top, bottom), (left, right) = sides
    count, height, width, channels = images.shape
    padded = np.full((count, top + height + bottom, left + width + right, channels), value, images.dtype)
    padded[:, top : top + height, left : left + width] = images
    return padded


def pad_same(images: Array, window: Pair, strides: Pair = (1, 1), dilation: Pair = (1, 1), value: float = 0) -> Array:
    """Images with what "same" padding puts around them.

    >>> pad_same(np.ones((1, 28, 28, 1), np.float32), (5, 5)).shape
    (1, 32, 32, 1)
    """
    axes = zip(images.shape[1:3], window, strides, dilation, strict=True)
    sides = [arithmetic.same_padding(size, taps, step, apart) for size, taps, step, apart in axes]
    return pad(images, (sides[0], sides[1]), value) if any(map(any, sides)) else images


def windows(images: Array, window: Pair, strides: Pair = (1, 1), dilation: Pair = (1, 1)) -> Array:
    """All that a sliding window sees, (n, rows, columns, window height, window width, channels); nothing is copied.

    >>> windows(np.zeros((8, 28, 28, 3), np.float32), (5, 5), strides=(2, 2)).shape
    (8, 12, 12, 5, 5, 3)
    """
    extent = arithmetic.window_extent(window[0], dilation[0]), arithmetic.window_extent(window[1], dilation[1])
    seen = sliding_window_view(images, extent, axis=(1, 2))
    return np.moveaxis(seen[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]], 3, -1)


def blocks(seen: Array, limit: int = BLOCK_BYTES) -> Iterator[tuple[slice, slice]]:
    """Slices (images, rows) that cut what `windows` gives into parts of at most `limit` bytes, or single rows.

    >>> len(list(blocks(windows(np.zeros((8, 28, 28, 3), np.float32), (5, 5)), limit=10**6)))
    2
    """
    count, rows = seen.shape[:2]
    fitting = max(1, limit // (seen.itemsize * max(1, math.prod(seen.shape[2:]))))
    images_at_once, rows_at_once = max(1, fitting // rows), min(fitting, rows)
    for image in range(0, count, images_at_once):
        for row in range(0, rows, rows_at_once):
            yield slice(image, image + images_at_once), slice(row, row + rows_at_once)


def taps(seen: Array) -> Iterator[Array]:
    """What each single place of the window sees, (n, rows, columns, channels), from the top left one on.

    >>> pixels = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> [tap.ravel().tolist() for tap in taps(windows(pixels, (1, 2)))]
    [[0.0, 1.0, 3.0, 4.0, 6.0, 7.0], [1.0, 2.0, 4.0, 5.0, 7.0, 8.0]]
    """
    for row, column in np.ndindex(seen.shape[3:5]):
        yield seen[:, :, :, row, column]


# Convolutions.


def conv2d(
    images: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Convolution: each window times the `kernel` (height, width, channels / groups, filters), summed.

    >>> images, kernel = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 1), np.float32)
    >>> conv2d(images, kernel, np.float32([0.5]))[0, :, :, 0].tolist()
    [[18.5, 18.5], [18.5, 18.5]]
    """
    window = kernel.shape[0], kernel.shape[1]
    padded = pad_same(images, window, strides, dilation) if padding == "same" else images
    pairs = zip(np.split(padded, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
    parts = [_correlate(windows(part, window, strides, dilation), filters) for part, filters in pairs]
    return add_bias(parts[0] if groups == 1 else np.concatenate(parts, axis=-1), bias)


def _correlate(seen: Array, kernel: Array) -> Array:
    """The sum over the last three axes of `seen` times the `kernel`: one matrix product for each block."""
    result = np.empty((*seen.shape[:3], kernel.shape[-1]), seen.dtype)
    for block in blocks(seen):
        result[block] = np.tensordot(seen[block], kernel, axes=3)
    return result


def add_bias(x: Array, bias: Array | None) -> Array:
    """Add the bias, if there is one, in place: to the result of a product, which nobody else reads.

    >>> add_bias(np.float32([[1, 2]]), np.float32([10, 20])).tolist()
    [[11.0, 22.0]]
    """
    if bias is not None:
        x += bias
    return x


def depthwise_conv2d(
    images: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    dilation: Pair = (1, 1),
) -> Array:
    """A convolution of each channel by itself; the `kernel` is (height, width, channels, multiplier).

    >>> images, kernel = np.float32([[[[1, 10]]]]), np.float32([[[[1, 2], [3, 4]]]])
    >>> depthwise_conv2d(images, kernel).tolist()
    [[[[1.0, 2.0, 30.0, 40.0]]]]
    """
    window = kernel.shape[0], kernel.shape[1]
    padded = pad_same(images, window, strides, dilation) if padding == "same" else images
    seen = windows(padded, window, strides, dilation)
    each = [np.einsum("nhwijc,ijc->nhwc", seen, kernel[..., number]) for number in range(kernel.shape[-1])]
    return add_bias(np.stack(each, axis=-1).reshape(*seen.shape[:3], -1), bias)


def conv2d_transpose(
    images: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    dilation: Pair = (1, 1),
) -> Array:
    """Transposed convolution: each pixel paints the `kernel` (height, width, filters, channels) onto the output.

    "same" keeps the n s middle pixels of each axis, those that a convolution with "same" padding would have seen.

    >>> conv2d_transpose(np.ones((1, 2, 1, 1), np.float32), np.ones((3, 1, 1, 1), np.float32)).ravel().tolist()
    [1.0, 2.0, 2.0, 1.0]
    """
    axes = list(zip(images.shape[1:3], kernel.shape[:2], strides, dilation, strict=True))
    size = [arithmetic.transpose_output_size(length, taps, step, "valid", apart) for length, taps, step, apart in axes]
    canvas = np.zeros((len(images), *size, kernel.shape[2]), images.dtype)
    for place in np.ndindex(kernel.shape[:2]):
        rows, columns = (
            slice(at * apart, at * apart + length * step, step)
            for at, (length, _, step, apart) in zip(place, axes, strict=True)
        )
        canvas[:, rows, columns] += images @ kernel[place].T
    if padding == "same":
        canvas = canvas[:, *(_middle(*axis) for axis in axes)]
    return add_bias(canvas, bias)


def _middle(length: int, taps: int, step: int, apart: int) -> slice:
    """The part of a transposed convolution's output that "same" padding keeps."""
    before, _ = arithmetic.same_padding(length * step, taps, step, apart)
    return slice(before, before + length * step)


def dense(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """Every row of x times the `kernel` (inputs, units), along the last axis.

    >>> dense(np.float32([[1, 2]]), np.float32([[1], [10]]), np.float32([0.5])).tolist()
    [[21.5]]
    """
    return add_bias(x @ kernel, bias)


# Attention.


def attention(query: Array, key: Array, value: Array) -> Array:
    """softmax(Q Kᵀ / √d) V over the last two axes (Vaswani et al. 2017, equation 1).

    >>> one = np.ones((1, 3, 4), np.float32)
    >>> attention(one, one, 5 * one)[0, 0].tolist()
    [5.0, 5.0, 5.0, 5.0]
    """
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    return softmax(scores) @ value


def project(tokens: Array, kernel: Array, bias: Array | None = None) -> Array:
    """(n, tokens, channels) to (n, heads, tokens, size), by a `kernel` (channels, heads, size).

    >>> project(np.zeros((2, 197, 192), np.float32), np.zeros((192, 3, 64), np.float32)).shape
    (2, 3, 197, 64)
    """
    heads = np.tensordot(tokens, kernel, axes=1)
    return np.moveaxis(add_bias(heads, bias), 2, 1)


def multi_head_attention(tokens: Array, source: Array, weights: Named) -> Array:
    """Several attentions of `tokens` to `source` beside each other, and one projection (Vaswani et al. 2017, 3.2.2).

    >>> shapes = {"query": (4, 2, 3), "key": (4, 2, 3), "value": (4, 2, 5), "output": (2, 5, 4)}
    >>> weights = {f"{name}_kernel": np.ones(shape, np.float32) for name, shape in shapes.items()}
    >>> tokens = np.ones((1, 7, 4), np.float32)
    >>> multi_head_attention(tokens, tokens, weights)[0, 0]
    array([40., 40., 40., 40.], dtype=float32)
    """
    query = project(tokens, weights["query_kernel"], weights.get("query_bias"))
    key = project(source, weights["key_kernel"], weights.get("key_bias"))
    value = project(source, weights["value_kernel"], weights.get("value_bias"))
    heads = np.moveaxis(attention(query, key, value), 1, 2)
    return add_bias(np.tensordot(heads, weights["output_kernel"], axes=2), weights.get("output_bias"))


# Pooling.


def max_pool(images: Array, window: Pair, strides: Pair, padding: str = "valid") -> Array:
    """The largest number of each window and channel.

    >>> max_pool(np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1), (2, 2), (2, 2)).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    padded = pad_same(images, window, strides, value=-math.inf) if padding == "same" else images
    return reduce(np.maximum, taps(windows(padded, window, strides)))


def average_pool(images: Array, window: Pair, strides: Pair, padding: str = "valid") -> Array:
    """The mean of each window and channel; what "same" padding adds is not counted.

    >>> average_pool(np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1), (2, 2), (2, 2), "same").ravel().tolist()
    [2.0, 3.5, 6.5, 8.0]
    """
    if padding == "valid":
        return reduce(np.add, taps(windows(images, window, strides))) / math.prod(window)
    inside = np.ones((1, *images.shape[1:3], 1), images.dtype)
    total, count = (
        reduce(np.add, taps(windows(pad_same(part, window, strides), window, strides))) for part in (images, inside)
    )
    return total / count


# Normalization.


def normalize(x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """(x - mean) / √(variance + epsilon).

    >>> normalize(np.float32([1, 3]), np.float32(2), np.float32(1), 0).tolist()
    [-1.0, 1.0]
    """
    return (x - mean) / np.sqrt(variance + epsilon)


def scale_and_shift(x: Array, weights: Named) -> Array:
    """Return gamma x + beta, with those of the two that the layer has.

    >>> scale_and_shift(np.float32([[1, 2]]), {"gamma": np.float32([10, 10])}).tolist()
    [[10.0, 20.0]]
    """
    scaled = x * weights["gamma"] if "gamma" in weights else x
    return scaled + weights["beta"] if "beta" in weights else scaled


def layer_normalization(x: Array, weights: Named, epsilon: float = 1e-3) -> Array:
    """Each token normalized over its channels (Ba et al. 2016).

    >>> layer_normalization(np.float32([[[1, 3]]]), {}, epsilon=0).tolist()
    [[[-1.0, 1.0]]]
    """
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return scale_and_shift(normalize(x, mean, variance, epsilon), weights)


def group_normalization(images: Array, weights: Named, groups: int, epsilon: float = 1e-3) -> Array:
    """Each image normalized over its pixels and the channels of one group (Wu and He 2018).

    >>> group_normalization(np.float32([[[[1, 3, 10, 30]]]]), {}, groups=2, epsilon=0).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    count, channels = len(images), images.shape[-1]
    grouped = images.reshape(count, math.prod(images.shape[1:-1]), groups, channels // groups)
    mean, variance = grouped.mean(axis=(1, 3), keepdims=True), grouped.var(axis=(1, 3), keepdims=True)
    return scale_and_shift(normalize(grouped, mean, variance, epsilon).reshape(images.shape), weights)


def batch_normalization(x: Array, weights: Named, epsilon: float = 1e-3) -> Array:
    """Each channel normalized with the averages of training (Ioffe and Szegedy 2015): one factor and one offset.

    >>> averages = {"moving_mean": np.float32([2]), "moving_variance": np.float32([4])}
    >>> batch_normalization(np.float32([[4]]), averages, epsilon=0).tolist()
    [[1.0]]
    """
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    factor = weights.get("gamma", np.float32(1)) / np.sqrt(variance + epsilon)
    return x * factor + (weights.get("beta", np.float32(0)) - mean * factor)


def local_response_normalization(x: Array, depth_radius: int, bias: float, alpha: float, beta: float) -> Array:
    """x_i / (bias + alpha Σ x_j²)^beta over the channels i - depth_radius … i + depth_radius (Krizhevsky et al. 2012).

    >>> local_response_normalization(np.float32([[1, 2, 3]]), 1, 1, 1, 1).round(4).tolist() == [
    ...     [float(np.float32(x)) for x in (0.1667, 0.1333, 0.2143)]]
    True
    """
    channel = np.arange(x.shape[-1])
    band = np.abs(channel[:, np.newaxis] - channel) <= depth_radius
    activity = bias + alpha * (np.square(x) @ band.astype(x.dtype))
    normalized: Array = x * np.exp(-beta * np.log(activity))
    return normalized


# Sizes.


def repeat(images: Array, times: Pair) -> Array:
    """Each pixel so many times downwards and to the right ("nearest").

    >>> repeat(np.float32([[[[1], [2]]]]), (1, 2)).ravel().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    return images.repeat(times[0], axis=1).repeat(times[1], axis=2)


def interpolate(images: Array, times: Pair) -> Array:
    """Straight lines between the centres of the pixels, level beyond the outermost ("bilinear").

    >>> interpolate(np.float32([[[[1], [3]]]]), (1, 2)).ravel().tolist()
    [1.0, 1.5, 2.5, 3.0]
    """
    return _interpolate(_interpolate(images, times[0], axis=1), times[1], axis=2)


def _interpolate(images: Array, times: int, axis: int) -> Array:
    """`interpolate` along one axis."""
    last = images.shape[axis] - 1
    place = np.clip((np.arange((last + 1) * times) + 0.5) / times - 0.5, 0, last)
    lower = place.astype(np.intp)
    share = np.expand_dims((place - lower).astype(images.dtype), tuple(range(1, images.ndim - axis)))
    upper = np.minimum(lower + 1, last)
    mixed: Array = images.take(lower, axis) * (1 - share) + images.take(upper, axis) * share
    return mixed


# The layers of the description: their weights.


@singledispatch
def weight_shapes(layer: Layer, shape: Shape) -> dict[str, Shape]:
    """Names and shapes of a layer's weights for an input of `shape`, in the order of Keras's `get_weights()`.

    >>> weight_shapes(layers.Conv2D(16, 3), (28, 28, 1))
    {'kernel': (3, 3, 1, 16), 'bias': (16,)}
    >>> weight_shapes(layers.Flatten(), (28, 28, 1))
    {}
    """
    return {}


@weight_shapes.register
def _(layer: layers.Conv2D, shape: Shape) -> dict[str, Shape]:
    kernel = *layer.window, shape[-1] // layer.groups, layer.filters
    return {"kernel": kernel} | _bias(layer.use_bias, layer.filters)


@weight_shapes.register
def _(layer: layers.DepthwiseConv2D, shape: Shape) -> dict[str, Shape]:
    kernel = *layer.window, shape[-1], layer.depth_multiplier
    return {"kernel": kernel} | _bias(layer.use_bias, shape[-1] * layer.depth_multiplier)


@weight_shapes.register
def _(layer: layers.SeparableConv2D, shape: Shape) -> dict[str, Shape]:
    depthwise = *layer.window, shape[-1], layer.depth_multiplier
    pointwise = 1, 1, shape[-1] * layer.depth_multiplier, layer.filters
    return {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise} | _bias(layer.use_bias, layer.filters)


@weight_shapes.register
def _(layer: layers.Conv2DTranspose, shape: Shape) -> dict[str, Shape]:
    return {"kernel": (*layer.window, layer.filters, shape[-1])} | _bias(layer.use_bias, layer.filters)


@weight_shapes.register
def _(layer: layers.Dense, shape: Shape) -> dict[str, Shape]:
    return {"kernel": (shape[-1], layer.units)} | _bias(layer.use_bias, layer.units)


@weight_shapes.register
def _(layer: layers.MultiHeadAttention, shape: Shape) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for name, size in (("query", layer.key_dim), ("key", layer.key_dim), ("value", layer.value)):
        found[f"{name}_kernel"] = shape[-1], layer.num_heads, size
        found |= _bias(layer.use_bias, layer.num_heads, size, name=f"{name}_bias")
    found["output_kernel"] = layer.num_heads, layer.value, shape[-1]
    return found | _bias(layer.use_bias, shape[-1], name="output_bias")


@weight_shapes.register
def _(layer: layers.PositionEmbedding, shape: Shape) -> dict[str, Shape]:
    return {"embedding": shape}


@weight_shapes.register
def _(layer: layers.PReLU, shape: Shape) -> dict[str, Shape]:
    return {"alpha": shape}


@weight_shapes.register
def _(layer: layers.Scaled, shape: Shape) -> dict[str, Shape]:
    return {name: shape[-1:] for name, there in (("gamma", layer.scale), ("beta", layer.center)) if there}


@weight_shapes.register
def _(layer: layers.BatchNormalization, shape: Shape) -> dict[str, Shape]:
    learned = weight_shapes.dispatch(layers.Scaled)(layer, shape)
    return learned | {"moving_mean": shape[-1:], "moving_variance": shape[-1:]}


def _bias(there: bool, *shape: int, name: str = "bias") -> dict[str, Shape]:
    return {name: shape} if there else {}


# The layers of the description: what they compute.


@singledispatch
def compute(layer: Layer, weights: Named, *inputs: Array) -> Array:
    """The output of one layer at prediction; `weights` are named as in `weight_shapes`.

    Raises InputError for layers that only Keras knows (`Other`).

    >>> weights = {"kernel": np.float32([[2]]), "bias": np.float32([-1])}
    >>> compute(layers.Dense(1, activation="relu"), weights, np.float32([[3]]))
    array([[5.]], dtype=float32)
    """
    raise _not_known(layer.label)


def _not_known(layer: str) -> InputError:
    return InputError(
        f"{layer} is not known to the NumPy forward pass; predict with Keras, or build it of the toolkit's layers"
    )


def _slide(layer: layers.Windowed) -> dict[str, Any]:
    """How a kernel moves, as the arguments of the functions above."""
    return {"strides": layer.step, "padding": layer.padding, "dilation": layer.dilation}


@compute.register
def _(layer: layers.Conv2D, weights: Named, x: Array) -> Array:
    return ACTIVATIONS[layer.activation](
        conv2d(x, weights["kernel"], weights.get("bias"), groups=layer.groups, **_slide(layer))
    )


@compute.register
def _(layer: layers.DepthwiseConv2D, weights: Named, x: Array) -> Array:
    return ACTIVATIONS[layer.activation](depthwise_conv2d(x, weights["kernel"], weights.get("bias"), **_slide(layer)))


@compute.register
def _(layer: layers.SeparableConv2D, weights: Named, x: Array) -> Array:
    between = depthwise_conv2d(x, weights["depthwise_kernel"], **_slide(layer))
    return ACTIVATIONS[layer.activation](conv2d(between, weights["pointwise_kernel"], weights.get("bias")))


@compute.register
def _(layer: layers.Conv2DTranspose, weights: Named, x: Array) -> Array:
    return ACTIVATIONS[layer.activation](conv2d_transpose(x, weights["kernel"], weights.get("bias"), **_slide(layer)))


@compute.register
def _(layer: layers.Dense, weights: Named, x: Array) -> Array:
    return ACTIVATIONS[layer.activation](dense(x, weights["kernel"], weights.get("bias")))


@compute.register
def _(layer: layers.MultiHeadAttention, weights: Named, *inputs: Array) -> Array:
    return multi_head_attention(inputs[0], inputs[-1], weights)


@compute.register
def _(layer: layers.PositionEmbedding, weights: Named, x: Array) -> Array:
    return x + weights["embedding"]


@compute.register
def _(layer: layers.MaxPooling2D, weights: Named, x: Array) -> Array:
    return max_pool(x, layer.window, layer.step, layer.padding)


@compute.register
def _(layer: layers.AveragePooling2D, weights: Named, x: Array) -> Array:
    return average_pool(x, layer.window, layer.step, layer.padding)


@compute.register
def _(layer: layers.GlobalAveragePooling2D, weights: Named, x: Array) -> Array:
    return np.asarray(x.mean(axis=(1, 2), keepdims=layer.keepdims))


@compute.register
def _(layer: layers.GlobalMaxPooling2D, weights: Named, x: Array) -> Array:
    return np.asarray(x.max(axis=(1, 2), keepdims=layer.keepdims))


@compute.register
def _(layer: layers.GlobalAveragePooling1D, weights: Named, x: Array) -> Array:
    return np.asarray(x.mean(axis=1))


@compute.register
def _(layer: layers.BatchNormalization, weights: Named, x: Array) -> Array:
    return batch_normalization(x, weights, layer.epsilon)


@compute.register
def _(layer: layers.LayerNormalization, weights: Named, x: Array) -> Array:
    return layer_normalization(x, weights, layer.epsilon)


@compute.register
def _(layer: layers.GroupNormalization, weights: Named, x: Array) -> Array:
    return group_normalization(x, weights, layer.groups, layer.epsilon)


@compute.register
def _(layer: layers.LocalResponseNormalization, weights: Named, x: Array) -> Array:
    return local_response_normalization(x, layer.depth_radius, layer.bias, layer.alpha, layer.beta)


@compute.register
def _(layer: layers.Activation, weights: Named, x: Array) -> Array:
    return ACTIVATIONS[layer.activation](x)


@compute.register
def _(layer: layers.ReLU, weights: Named, x: Array) -> Array:
    cut = x if layer.max_value is None else np.minimum(x, layer.max_value)
    return leaky_relu(cut, layer.negative_slope) if layer.negative_slope else relu(cut)


@compute.register
def _(layer: layers.LeakyReLU, weights: Named, x: Array) -> Array:
    return leaky_relu(x, layer.negative_slope)


@compute.register
def _(layer: layers.PReLU, weights: Named, x: Array) -> Array:
    return leaky_relu(x, weights["alpha"])


@compute.register
def _(layer: layers.Softmax, weights: Named, x: Array) -> Array:
    return softmax(x)


@compute.register
def _(layer: layers.Dropout, weights: Named, x: Array) -> Array:
    return x


@compute.register
def _(layer: layers.Rescaling, weights: Named, x: Array) -> Array:
    scaled: Array = x * np.asarray(layer.scale, x.dtype) + np.asarray(layer.offset, x.dtype)
    return scaled


@compute.register(layers.Flatten)
@compute.register(layers.Reshape)
def _(layer: Layer, weights: Named, x: Array) -> Array:
    return x.reshape(len(x), *layer.output_shape(x.shape[1:]))


@compute.register
def _(layer: layers.ZeroPadding2D, weights: Named, x: Array) -> Array:
    return pad(x, layer.sides)


@compute.register
def _(layer: layers.Cropping2D, weights: Named, x: Array) -> Array:
    (top, bottom), (left, right) = layer.sides
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


@compute.register
def _(layer: layers.UpSampling2D, weights: Named, x: Array) -> Array:
    times = layers.pair("size", layer.size)
    return repeat(x, times) if layer.interpolation == "nearest" else interpolate(x, times)


_ARITHMETIC = {
    "add": np.add,
    "multiply": np.multiply,
    "subtract": np.subtract,
    "average": np.add,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@compute.register
def _(layer: layers.Merge, weights: Named, *inputs: Array) -> Array:
    if layer.mode == "concatenate":
        return np.concatenate(inputs, axis=-1)
    merged = reduce(_ARITHMETIC[layer.mode], inputs)
    return merged / len(inputs) if layer.mode == "average" else merged


# The whole network.


def forward(rows: Sequence[Row], weights: Weights, images: npt.ArrayLike) -> Array:
    """What the last row gives for a batch of images (n, *input shape), at prediction.

    Outputs are let go when the last row that reads them has run, and large batches pass in parts: memory stays near
    that of a few images. Raises InputError where images or weights do not fit the rows, and for several outputs.

    >>> from toolkit.costs import trace
    >>> rows = trace(layers.Architecture("sum", (2,), (layers.Dense(1, use_bias=False),)))
    >>> forward(rows, {"dense": [np.ones((2, 1))]}, [[1, 2], [3, 4]]).tolist()
    [[3.0], [7.0]]
    """
    outputs = [rows[index].name for index in costs.results(rows)]
    if len(outputs) > 1:
        raise InputError(f"the network has {len(outputs)} outputs, {', '.join(outputs)}; use `activations`")
    named, images = check_weights(rows, weights), check_images(rows, images)
    results = []
    for part in _parts(rows, images):
        _name, result = deque(_outputs(rows, named, part), maxlen=1).pop()
        results.append(result)
    return np.concatenate(results)


def activations(rows: Sequence[Row], weights: Weights, images: npt.ArrayLike) -> dict[str, Array]:
    """What every row gives, by its name. Raises InputError as `forward` does.

    >>> from toolkit.costs import trace
    >>> rows = trace(layers.Architecture("small", (4, 4, 1), (layers.MaxPooling2D(2), layers.Flatten())))
    >>> {name: value.shape for name, value in activations(rows, {}, np.zeros((5, 4, 4, 1))).items()}
    {'input_layer': (5, 4, 4, 1), 'max_pooling2d': (5, 2, 2, 1), 'flatten': (5, 4)}
    """
    named, images = check_weights(rows, weights), check_images(rows, images)
    found: dict[str, list[Array]] = {row.name: [] for row in rows}
    for part in _parts(rows, images):
        for name, value in _outputs(rows, named, part):
            found[name].append(value)
    return {name: np.concatenate(values) for name, values in found.items()}


def _outputs(rows: Sequence[Row], named: Mapping[str, Named], images: Array) -> Iterator[tuple[str, Array]]:
    """Name and output of each row in turn; only what later rows read is kept."""
    last_reader = {read: index for index, row in enumerate(rows) for read in row.reads}
    alive: dict[int, Array] = {}
    for index, row in enumerate(rows):
        output = compute(row.layer, named[row.name], *(alive[read] for read in row.reads)) if index else images
        for read in set(row.reads):
            if last_reader[read] == index:
                del alive[read]
        if index in last_reader:
            alive[index] = output
        yield row.name, output


def _parts(rows: Sequence[Row], images: npt.NDArray[Any]) -> Iterator[Array]:
    """The images as float32, as many at a time as fit into `CHUNK_BYTES` in the row with the largest output."""
    largest = max(arithmetic.tensor_bytes(row.output_shape) for row in rows)
    at_once = max(1, CHUNK_BYTES // largest)
    for start in range(0, max(1, len(images)), at_once):
        yield np.asarray(images[start : start + at_once], np.float32)


def check_images(rows: Sequence[Row], images: npt.ArrayLike) -> npt.NDArray[Any]:
    """The images as an array, if they are numbers of the network's input shape; raises InputError otherwise.

    >>> from toolkit.costs import trace
    >>> check_images(trace(layers.Architecture("none", (2, 2, 1), ())), np.zeros((2, 2, 1)))
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: images must have the shape (n, 2, 2, 1), n of them; (2, 2, 1) came; \
for a single one give image[np.newaxis]
    """
    entries = sum(isinstance(row.layer, layers.InputLayer) for row in rows)
    if entries != 1:
        raise InputError(f"the NumPy forward pass knows networks with one input; this one has {entries}; use Keras")
    expected = rows[0].output_shape
    try:
        batch = np.asarray(images)
    except ValueError as error:
        raise InputError(f"images must be numbers in one array; {error}; give all of them the same size") from None
    if batch.dtype.kind not in "biuf":
        raise InputError(f"images must be numbers; an array of {batch.dtype} came; read the files with Pillow first")
    if batch.shape[1:] != expected or batch.ndim == 0:
        wanted = ", ".join(map(str, ("n", *expected)))
        advice = "for a single one give image[np.newaxis]" if batch.shape == expected else "resize or reshape them"
        raise InputError(f"images must have the shape ({wanted}), n of them; {batch.shape} came; {advice}")
    return batch


# Weights.


def check_weights(rows: Sequence[Row], weights: Weights) -> dict[str, Named]:
    """The weights of each row by name, as float32; raises InputError where an array is missing or has another shape.

    >>> from toolkit.costs import trace
    >>> rows = trace(layers.Architecture("sum", (2,), (layers.Dense(1),)))
    >>> list(check_weights(rows, {"dense": [np.ones((2, 1)), np.zeros(1)]})["dense"])
    ['kernel', 'bias']
    """
    return {row.name: _named(row, weights) for row in rows}


def _named(row: Row, weights: Weights) -> Named:
    """One row's weights by name; a Keras layer that is called again has a row of its own and the same weights."""
    if isinstance(row.layer, layers.Other):
        raise _not_known(f"{row.type} {row.name!r}")
    shapes = weight_shapes(row.layer, row.input_shapes[0]) if row.reads else {}
    arrays = [np.asarray(array) for array in weights.get(row.name, weights.get(row.layer.name, ()))]
    numbers = all(array.dtype.kind in "biuf" for array in arrays)
    if not numbers or [array.shape for array in arrays] != list(shapes.values()):
        needed = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no weights"
        came = ", ".join(f"{array.dtype} {array.shape}" for array in arrays) or "none"
        raise InputError(
            f"layer {row.name!r} ({row.type}) needs {needed}; {came} came; "
            "give the weights of this very network, in the order of Keras's get_weights()"
        )
    return {name: np.asarray(array, np.float32) for name, array in zip(shapes, arrays, strict=True)}


class KerasLayer(Protocol):
    """What is asked of a Keras layer, so that Keras need not be imported to say it."""

    name: str

    def get_weights(self) -> list[npt.NDArray[Any]]:
        """The layer's arrays."""


class KerasModel(Protocol):
    """What is asked of a Keras model."""

    @property
    def layers(self) -> Iterable[Any]:
        """Its layers, some of which may be models."""


def weights_of(model: KerasModel) -> dict[str, list[Array]]:
    """The weights of a Keras model by layer, float32; a layer of a model within is called "model/layer".

    >>> class Bias:
    ...     name = "bias"
    ...     def get_weights(self):
    ...         return [np.zeros(3)]
    >>> class Model:
    ...     layers = (Bias(),)
    >>> weights_of(Model())
    {'bias': [array([0., 0., 0.], dtype=float32)]}
    """
    found: dict[str, list[Array]] = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= {f"{layer.name}/{name}": arrays for name, arrays in weights_of(layer).items()}
        elif arrays := layer.get_weights():
            found[layer.name] = [np.asarray(array, np.float32) for array in arrays]
    return found


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write weights as an `.npz` archive of "layer/0", "layer/1", …; the file is there whole or not at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights(f"{folder}/weights.npz", {"dense": [np.zeros((2, 1)), np.zeros(1)]})
    ...     load_weights(f"{folder}/weights.npz")["dense"][1]
    array([0.], dtype=float32)
    """
    arrays: dict[str, Any] = {
        f"{name}/{number}": np.asarray(array, np.float32)
        for name, list_of_arrays in weights.items()
        for number, array in enumerate(list_of_arrays)
    }
    whole = Path(path)
    part = whole.with_name(f".{whole.name}.{secrets.token_hex(4)}")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(part, whole)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: str | Path) -> dict[str, list[Array]]:
    """Weights from a file of `save_weights`; nothing in it is run. Raises InputError where it is something else.

    >>> load_weights("nowhere.npz")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: nowhere.npz holds no weights (...); give a file that save_weights wrote
    """
    found: dict[str, dict[int, Array]] = {}
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                name, _, number = key.rpartition("/")
                found.setdefault(name, {})[int(number)] = np.asarray(archive[key], np.float32)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{Path(path).name} holds no weights ({error}); give a file that save_weights wrote") from None
    return {name: [array for _, array in sorted(arrays.items())] for name, arrays in found.items()}
