"""The textbook: one plain function for each formula of a convolutional network's shape and cost.

Plain functions, no imports: the book runs this very file in the reader's browser under MicroPython.
Sizes are pixels, shapes leave the batch out, channels come last. One MAC is one multiplication with its addition,
which is 2 FLOPs. Bytes are integers; 1 MB = 10**6 bytes and 1 MiB = 2**20 bytes are only made when something is shown.
"""


class InputError(ValueError):
    """What a person gave cannot be used. The text says what was expected, what came and what to do."""


PADDINGS = ("valid", "same")

# Bytes of one stored number. "float8" stands for both of the 8-bit floating-point formats.
DTYPE_BYTES = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int8": 1,
    "uint8": 1,
}

# Numbers an optimizer remembers for each trainable parameter.
OPTIMIZER_SLOTS = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adagrad": 1, "lion": 1, "adam": 2, "adamw": 2, "nadam": 2}


def require_whole(what: str, value: int, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`; raise InputError otherwise.

    >>> require_whole("filters", 64)
    64
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{what} must be a whole number; {value!r} came; give a number such as {max(least, 1)}")
    if value < least:
        raise InputError(f"{what} must be at least {least}; {value} came; give {least} or more")
    return value


def require_choice(what: str, value: str, choices: "tuple[str, ...] | dict[str, int]") -> str:
    """Return `value` if it is one of `choices`; raise InputError with the choices otherwise.

    >>> require_choice("padding", "same", PADDINGS)
    'same'
    """
    if value not in choices:
        raise InputError(f"{what} must be one of {', '.join(choices)}; {value!r} came")
    return value


def elements(shape: "tuple[int, ...]") -> int:
    """Numbers in a tensor of this shape.

    >>> elements((28, 28, 3))
    2352
    """
    count = 1
    for size in shape:
        count *= size
    return count


# Shapes.


def window_extent(window: int, dilation: int = 1) -> int:
    """Pixels that a window covers when its taps lie `dilation` apart: d (k - 1) + 1 (Yu and Koltun 2016, section 2).

    >>> window_extent(3, dilation=2)
    5
    """
    return dilation * (window - 1) + 1


def output_size(size: int, window: int, stride: int = 1, padding: str = "valid", dilation: int = 1) -> int:
    """Positions of a sliding window along one axis (Dumoulin and Visin 2016, relationship 6; "same" as in TensorFlow).

    "valid": floor((n - e) / s) + 1 with the extent e of the window; "same": ceil(n / s).
    Raises InputError where the window does not fit.

    >>> output_size(224, 7, stride=2, padding="same"), output_size(227, 11, stride=4)
    (112, 55)
    """
    if padding == "same":
        return -(-size // stride)
    extent = window_extent(window, dilation)
    if extent > size:
        raise InputError(
            f"a window of {extent} does not fit into {size} pixels; "
            'use padding="same", a smaller window or a larger input'
        )
    return (size - extent) // stride + 1


def same_padding(size: int, window: int, stride: int = 1, dilation: int = 1) -> "tuple[int, int]":
    """Zeros that "same" padding puts (before, after) one axis; an odd one goes after, as in TensorFlow.

    >>> same_padding(224, 3, stride=2), same_padding(28, 5)
    ((0, 1), (2, 2))
    """
    positions = output_size(size, window, stride, "same", dilation)
    total = max((positions - 1) * stride + window_extent(window, dilation) - size, 0)
    return total // 2, total - total // 2


def transpose_output_size(size: int, window: int, stride: int = 1, padding: str = "valid", dilation: int = 1) -> int:
    """Pixels along one axis after a transposed convolution (Dumoulin and Visin 2016, relationship 13; Keras's default).

    "same": n s; "valid": n s + max(e - s, 0).

    >>> transpose_output_size(16, 4, stride=2, padding="same"), transpose_output_size(16, 4, stride=2)
    (32, 34)
    """
    if padding == "same":
        return size * stride
    return size * stride + max(window_extent(window, dilation) - stride, 0)


def receptive_field(field: float, jump: float, extent: int) -> float:
    """Input pixels that one output sees after a window of `extent`, r + (e - 1) j (Araujo et al. 2019, equation 2).

    `field` and `jump` (input pixels between two neighbouring outputs) are those before the layer.

    >>> receptive_field(receptive_field(1, 1, 3), 2, 3)
    7
    """
    return field + (extent - 1) * jump


# Parameters.


def conv_params(kernel_h: int, kernel_w: int, channels: int, filters: int, groups: int = 1, bias: bool = True) -> int:
    """Parameters of a convolution: k_h k_w (c / g) f, and f biases (Krizhevsky et al. 2012 for groups).

    >>> conv_params(3, 3, 3, 100)
    2800
    """
    return kernel_h * kernel_w * (channels // groups) * filters + (filters if bias else 0)


def depthwise_params(kernel_h: int, kernel_w: int, channels: int, multiplier: int = 1, bias: bool = True) -> int:
    """Parameters of a depthwise convolution: k_h k_w c m, and c m biases (Howard et al. 2017, section 3.1).

    >>> depthwise_params(3, 3, 32, bias=False)
    288
    """
    return (kernel_h * kernel_w + (1 if bias else 0)) * channels * multiplier


def separable_params(
    kernel_h: int, kernel_w: int, channels: int, filters: int, multiplier: int = 1, bias: bool = True
) -> int:
    """Parameters of a depthwise and then a pointwise convolution with one bias (Chollet 2017, section 3).

    >>> separable_params(3, 3, 32, 64, bias=False)
    2336
    """
    depthwise = depthwise_params(kernel_h, kernel_w, channels, multiplier, bias=False)
    return depthwise + conv_params(1, 1, channels * multiplier, filters, bias=bias)


def dense_params(inputs: int, units: int, bias: bool = True) -> int:
    """Parameters of a dense layer: (n + 1) u.

    >>> dense_params(4096, 1000)
    4097000
    """
    return (inputs + (1 if bias else 0)) * units


def attention_params(channels: int, heads: int, key_dim: int, value_dim: int, bias: bool = True) -> int:
    """Parameters of multi-head self-attention: query, key, value and output projections (Vaswani et al. 2017, 3.2.2).

    >>> attention_params(192, heads=3, key_dim=64, value_dim=64)
    148224
    """
    query_and_key = 2 * dense_params(channels, heads * key_dim, bias)
    return (
        query_and_key
        + dense_params(channels, heads * value_dim, bias)
        + dense_params(heads * value_dim, channels, bias)
    )


# Multiply-accumulates.


def conv_macs(
    output_h: int, output_w: int, kernel_h: int, kernel_w: int, channels: int, filters: int, groups: int = 1
) -> int:
    """MACs of a convolution for one image: every output pixel of every filter reads k_h k_w c / g numbers.

    >>> conv_macs(112, 112, 7, 7, 3, 64)
    118013952
    """
    return output_h * output_w * conv_params(kernel_h, kernel_w, channels, filters, groups, bias=False)


def conv_transpose_macs(input_h: int, input_w: int, kernel_h: int, kernel_w: int, channels: int, filters: int) -> int:
    """MACs of a transposed convolution for one image: every input pixel is spread over k_h k_w f outputs.

    >>> conv_transpose_macs(16, 16, 4, 4, 21, 21)
    1806336
    """
    return input_h * input_w * conv_params(kernel_h, kernel_w, channels, filters, bias=False)


def dense_macs(inputs: int, units: int) -> int:
    """MACs of a dense layer for one vector; the bias is an addition alone and is not counted.

    >>> dense_macs(4096, 1000)
    4096000
    """
    return inputs * units


def attention_macs(tokens: int, channels: int, heads: int, key_dim: int, value_dim: int) -> int:
    """MACs of multi-head self-attention for one image: four projections, scores, weighted sums (Vaswani et al. 2017).

    >>> attention_macs(197, 192, heads=3, key_dim=64, value_dim=64)
    43951488
    """
    projections = tokens * attention_params(channels, heads, key_dim, value_dim, bias=False)
    return projections + tokens * tokens * heads * (key_dim + value_dim)


def flops(macs: int) -> int:
    """Floating-point operations of so many MACs: one multiplication and one addition each.

    >>> flops(1000)
    2000
    """
    return 2 * macs


# Bytes.


def dtype_bytes(dtype: str) -> int:
    """Bytes of one number of this dtype; raises InputError for an unknown one.

    >>> dtype_bytes("float32"), dtype_bytes("int8")
    (4, 1)
    """
    return DTYPE_BYTES[require_choice("dtype", dtype, DTYPE_BYTES)]


def optimizer_slots(optimizer: str) -> int:
    """Numbers that the optimizer keeps for each trainable parameter (Kingma and Ba 2015: Adam keeps m and v).

    >>> optimizer_slots("adam"), optimizer_slots("sgd")
    (2, 0)
    """
    return OPTIMIZER_SLOTS[require_choice("optimizer", optimizer, OPTIMIZER_SLOTS)]


def tensor_bytes(shape: "tuple[int, ...]", batch: int = 1, dtype: str = "float32") -> int:
    """Bytes of a batch of tensors of this shape.

    >>> tensor_bytes((100, 150, 100))
    6000000
    """
    return batch * elements(shape) * dtype_bytes(dtype)
