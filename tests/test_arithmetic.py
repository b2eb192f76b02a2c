"""The formulas against loops that count, and against NumPy: nothing here knows a formula."""

from collections.abc import Callable
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import arithmetic
from toolkit.arithmetic import InputError

Array = npt.NDArray[Any]

sizes, windows, strides, dilations = st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4)
small = st.integers(1, 4)
patiently = settings(deadline=None)  # other people's work on the same machine is no defect


def taps(window: int, dilation: int = 1) -> list[int]:
    """Places that a window at 0 reads."""
    return [dilation * tap for tap in range(window)]


def places(size: int, window: int, stride: int, dilation: int = 1) -> list[int]:
    """Where a window may begin so that all its taps lie inside."""
    return [start for start in range(0, size, stride) if start + taps(window, dilation)[-1] < size]


# Shapes.


@patiently
@given(windows, dilations)
def test_window_extent_is_from_the_first_tap_to_the_last(window: int, dilation: int) -> None:
    read = taps(window, dilation)
    assert arithmetic.window_extent(window, dilation) == read[-1] - read[0] + 1


@patiently
@given(st.integers(0, 40), windows, strides, dilations)
def test_valid_output_size_counts_the_places_of_the_window(more: int, window: int, stride: int, dilation: int) -> None:
    size = taps(window, dilation)[-1] + 1 + more
    found = arithmetic.output_size(size, window, stride, "valid", dilation)
    assert found == len(places(size, window, stride, dilation))


@patiently
@given(st.integers(0, 40), st.integers(2, 9), strides, dilations)
def test_a_window_that_fits_nowhere_is_refused(less: int, window: int, stride: int, dilation: int) -> None:
    size = max(1, taps(window, dilation)[-1] - less)
    assert not places(size, window, stride, dilation)
    with pytest.raises(InputError, match=f"does not fit into {size} pixels; use padding"):
        arithmetic.output_size(size, window, stride, "valid", dilation)


@patiently
@given(sizes, windows, strides, dilations)
def test_same_output_size_is_a_place_every_stride(size: int, window: int, stride: int, dilation: int) -> None:
    assert arithmetic.output_size(size, window, stride, "same", dilation) == len(range(0, size, stride))


@patiently
@given(sizes, windows, strides, dilations)
def test_same_padding_is_the_least_that_gives_the_same_size(size: int, window: int, stride: int, dilation: int) -> None:
    wanted = len(range(0, size, stride))
    least = next(zeros for zeros in range(1000) if len(places(size + zeros, window, stride, dilation)) >= wanted)
    before, after = arithmetic.same_padding(size, window, stride, dilation)
    assert before + after == least
    assert after - before in (0, 1)


@patiently
@given(sizes, windows, strides, dilations)
def test_transpose_valid_output_holds_every_painted_window(size: int, window: int, stride: int, dilation: int) -> None:
    """Each pixel owns `stride` cells of the output, and paints its taps from the first of them on."""
    cells = {stride * pixel + offset for pixel in range(size) for offset in (*range(stride), *taps(window, dilation))}
    assert arithmetic.transpose_output_size(size, window, stride, "valid", dilation) == max(cells) + 1


@patiently
@given(sizes, windows, strides, dilations, st.sampled_from(arithmetic.PADDINGS))
def test_a_convolution_undoes_the_size_of_its_transpose(
    size: int, window: int, stride: int, dilation: int, padding: str
) -> None:
    large = arithmetic.transpose_output_size(size, window, stride, padding, dilation)
    assert arithmetic.output_size(large, window, stride, padding, dilation) == size


@patiently
@given(st.lists(st.tuples(windows, strides, dilations), min_size=1, max_size=4))
def test_receptive_field_is_what_one_output_reads(layers: list[tuple[int, int, int]]) -> None:
    read = {0}
    for window, stride, dilation in reversed(layers):
        read = {stride * place + tap for place in read for tap in taps(window, dilation)}
    field, jump = 1.0, 1
    for window, stride, dilation in layers:
        field = arithmetic.receptive_field(field, jump, arithmetic.window_extent(window, dilation))
        jump *= stride
    assert field == max(read) - min(read) + 1


# Parameters and MACs.


class Counted:
    """NumPy products that count their multiplications."""

    def __init__(self) -> None:
        self.macs = 0

    def matmul(self, left: Array, right: Array) -> Array:
        for _ in product(range(left.shape[0]), range(left.shape[1]), range(right.shape[1])):
            self.macs += 1
        return left @ right


@patiently
@given(small, small, small, small, small, st.integers(1, 3), st.booleans())
def test_conv_params_and_macs_are_what_a_loop_counts(
    height: int, width: int, kernel_h: int, kernel_w: int, inputs: int, groups: int, bias: bool
) -> None:
    """Every filter of every group, at every output pixel, multiplies every tap of the channels of its group."""
    channels, filters = inputs * groups, 2 * groups
    weights: set[tuple[int, ...]] = set()
    macs = 0
    for _, group, filter_, y, x, channel in product(
        range(height * width), range(groups), range(2), range(kernel_h), range(kernel_w), range(inputs)
    ):
        weights.add((group, filter_, y, x, channel))
        macs += 1
    biases = len({(group, filter_) for group, filter_, *_ in weights}) if bias else 0
    assert arithmetic.conv_params(kernel_h, kernel_w, channels, filters, groups, bias) == len(weights) + biases
    assert arithmetic.conv_macs(height, width, kernel_h, kernel_w, channels, filters, groups) == macs


@patiently
@given(small, small, small, small, small)
def test_transposed_convolution_multiplies_what_it_paints(
    height: int, width: int, kernel: int, channels: int, filters: int
) -> None:
    """Every input pixel adds its channels, each times a kernel, to a window of every output map."""
    stride = 2
    additions = np.zeros((height * stride + kernel, width * stride + kernel, filters))
    for y, x, dy, dx, _ in product(range(height), range(width), range(kernel), range(kernel), range(channels)):
        additions[y * stride + dy, x * stride + dx, :] += 1
    assert arithmetic.conv_transpose_macs(height, width, kernel, kernel, channels, filters) == additions.sum()


@patiently
@given(small, small, small, small, st.booleans())
def test_depthwise_params_are_a_filter_for_each_channel(
    kernel_h: int, kernel_w: int, channels: int, multiplier: int, bias: bool
) -> None:
    filters = [np.zeros((kernel_h, kernel_w)) for _ in range(channels) for _ in range(multiplier)]
    biases = len(filters) if bias else 0
    found = arithmetic.depthwise_params(kernel_h, kernel_w, channels, multiplier, bias)
    assert found == sum(kernel.size for kernel in filters) + biases


@patiently
@given(small, small, small, small, small, st.booleans())
def test_separable_params_are_a_depthwise_and_a_pointwise_kernel(
    kernel_h: int, kernel_w: int, channels: int, filters: int, multiplier: int, bias: bool
) -> None:
    depthwise = np.zeros((kernel_h, kernel_w, channels, multiplier))
    pointwise = np.zeros((1, 1, depthwise[0, 0].size, filters))
    found = arithmetic.separable_params(kernel_h, kernel_w, channels, filters, multiplier, bias)
    assert found == depthwise.size + pointwise.size + (filters if bias else 0)


@patiently
@given(st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_dense_is_one_product(inputs: int, units: int, bias: bool) -> None:
    counted, weights = Counted(), np.ones((inputs, units))
    counted.matmul(np.ones((1, inputs)), weights)
    assert arithmetic.dense_macs(inputs, units) == counted.macs
    assert arithmetic.dense_params(inputs, units, bias) == weights.size + (units if bias else 0)


@patiently
@given(small, small, small, small, small, st.booleans())
def test_attention_is_four_projections_and_two_products_a_head(
    tokens: int, channels: int, heads: int, key_dim: int, value_dim: int, bias: bool
) -> None:
    """Self-attention written out (Vaswani et al. 2017, section 3.2), head by head."""
    counted, params, x = Counted(), 0, np.ones((tokens, channels))

    def project(inputs: Array, width: int) -> Array:
        nonlocal params
        params += inputs.shape[1] * width + (width if bias else 0)
        return counted.matmul(inputs, np.ones((inputs.shape[1], width)))

    read = []
    for _ in range(heads):
        query, key, value = project(x, key_dim), project(x, key_dim), project(x, value_dim)
        read.append(counted.matmul(counted.matmul(query, key.T), value))
    assert project(np.concatenate(read, axis=1), channels).shape == x.shape
    assert arithmetic.attention_params(channels, heads, key_dim, value_dim, bias) == params
    assert arithmetic.attention_macs(tokens, channels, heads, key_dim, value_dim) == counted.macs


# Bytes.


@patiently
@given(st.lists(st.integers(1, 6), max_size=4).map(tuple))
def test_elements_are_numpy_s(shape: tuple[int, ...]) -> None:
    assert arithmetic.elements(shape) == np.zeros(shape).size


@pytest.mark.parametrize("dtype", sorted(set(arithmetic.DTYPE_BYTES) - {"float8"}))
def test_dtypes_have_the_size_that_numpy_or_ml_dtypes_gives_them(dtype: str) -> None:
    known = np.dtype(getattr(ml_dtypes, dtype, dtype))
    assert arithmetic.dtype_bytes(dtype) == known.itemsize
    assert arithmetic.tensor_bytes((5, 7, 3), 4, dtype) == np.zeros((4, 5, 7, 3), known).nbytes


def test_float8_stands_for_both_of_its_formats() -> None:
    assert {arithmetic.dtype_bytes(dtype) for dtype in arithmetic.DTYPE_BYTES if "float8" in dtype} == {1}


KERAS_OPTIMIZERS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "lion": ("Lion", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "nadam": ("Nadam", {}),
}


@pytest.mark.parametrize("optimizer", sorted(arithmetic.OPTIMIZER_SLOTS))
def test_optimizers_keep_as_many_numbers_as_keras_s(optimizer: str) -> None:
    import keras

    name, options = KERAS_OPTIMIZERS[optimizer]
    made = getattr(keras.optimizers, name)(**options)
    made.build([keras.Variable(np.zeros((5, 7), np.float32))])
    slots = sum(tuple(variable.shape) == (5, 7) for variable in made.variables)
    assert arithmetic.optimizer_slots(optimizer) == slots


# What is refused.


@pytest.mark.parametrize("value", [1, 7, 10**12])
def test_whole_numbers_pass(value: int) -> None:
    assert arithmetic.require_whole("filters", value) == value


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: arithmetic.require_whole("filters", 0), "filters must be at least 1; 0 came; give 1 or more"),
        (lambda: arithmetic.require_whole("seed", -1, 0), "seed must be at least 0; -1 came; give 0 or more"),
        (
            lambda: arithmetic.require_whole("filters", 2.0),  # type: ignore[arg-type]
            "filters must be a whole number; 2.0 came; give a number such as 1",
        ),
        (
            lambda: arithmetic.require_whole("filters", "64"),  # type: ignore[arg-type]
            "filters must be a whole number; '64' came; give a number such as 1",
        ),
        (
            lambda: arithmetic.require_whole("filters", True),
            "filters must be a whole number; True came; give a number such as 1",
        ),
        (lambda: arithmetic.require_choice("padding", "full", ("valid", "same")), "padding must be one of valid, same"),
        (lambda: arithmetic.dtype_bytes("int4"), "dtype must be one of .*'int4' came"),
        (lambda: arithmetic.optimizer_slots("magic"), "optimizer must be one of .*'magic' came"),
        (
            lambda: arithmetic.output_size(8, 11),
            'a window of 11 does not fit into 8 pixels; use padding="same", a smaller window or a larger input',
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(ask: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        ask()
