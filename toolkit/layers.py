"""The description of a network: frozen data with Keras's names. Everything else in the toolkit is a reading of it.

People write a tree. `Conv2D(64, 3, strides=2)` is one layer; `Branches("add", (path, ()))` is a residual block, where
`()` is the identity; `Branches("concatenate", …)` an Inception block; `Branches("multiply", …)` a
squeeze-and-excitation gate.
Shapes leave the batch out: (height, width, channels), (tokens, channels) or (features,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from toolkit import arithmetic
from toolkit.arithmetic import PADDINGS, InputError, require_choice, require_whole

Shape = tuple[int, ...]
Pair = tuple[int, int]
Size = int | Pair
Buffer = Literal["new", "view", "in_place"]

# Activations whose gradient needs their input; the others need their output alone.
SMOOTH_ACTIVATIONS = ("silu", "swish", "gelu", "hard_silu", "hard_swish", "mish", "softplus")
ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softmax"),
    *SMOOTH_ACTIVATIONS,
)
MERGES = ("add", "concatenate", "multiply", "subtract", "average", "maximum", "minimum")


def pair(what: str, value: Size, least: int = 1) -> Pair:
    """One number for both axes, or one for each, as (height, width); raises InputError for anything else.

    >>> pair("strides", 2), pair("kernel_size", (1, 7))
    ((2, 2), (1, 7))
    """
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2:
        raise InputError(f"{what} must be one whole number or two (height, width); {value!r} came")
    return require_whole(what, both[0], least), require_whole(what, both[1], least)


def tupled(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that frozen data needs; all the way down.

    >>> tupled([[0, 1], [2, 3]])
    ((0, 1), (2, 3))
    """
    return tuple(tupled(item) for item in value) if isinstance(value, (list, tuple)) else value


def require_sizes(what: str, shape: Shape) -> Shape:
    """Return `shape` if it is a tuple of whole numbers of at least 1; raises InputError otherwise.

    >>> require_sizes("input_shape", (224, 224, 3))
    (224, 224, 3)
    """
    if not isinstance(shape, tuple) or not shape:
        raise InputError(f"{what} must be a tuple such as (224, 224, 3); {shape!r} came")
    for size in shape:
        require_whole(f"{what}: each size", size)
    return shape


def require_share(what: str, value: float) -> float:
    """Return `value` if it is at least 0 and below 1; raises InputError otherwise.

    >>> require_share("rate", 0.25)
    0.25
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InputError(f"{what} must be a number from 0 to below 1; {value!r} came; 0.25 is a usual choice")
    return value


# What every layer answers.


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What every layer answers. By itself it changes nothing and costs nothing.

    `name` may stay empty: the rows then number the layers in Keras's manner (conv2d, conv2d_1, …).
    """

    name: str = ""

    # How the output is stored: in memory of its own, as a view of the input, or over the input where nobody else
    # reads that.
    buffer: ClassVar[Buffer] = "new"
    # Whether the backward pass needs the input again.
    keeps_input: ClassVar[bool] = False

    @property
    def type(self) -> str:
        """Keras's name for this kind of layer."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """Type, with the name where there is one, for sentences."""
        return f"{self.type} {self.name!r}" if self.name else self.type

    @property
    def keeps_output(self) -> bool:
        """Whether the backward pass needs the output again."""
        return False

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the output for an input of `shape`; raises InputError where the two cannot meet."""
        return shape

    def trainable_params(self, shape: Shape) -> int:
        """Numbers that training changes."""
        return 0

    def non_trainable_params(self, shape: Shape) -> int:
        """Numbers that are kept but not learned by gradient, such as moving averages."""
        return 0

    def params(self, shape: Shape) -> int:
        """All numbers that the layer keeps."""
        return self.trainable_params(shape) + self.non_trainable_params(shape)

    def macs(self, shape: Shape) -> int:
        """MACs for one image: those of the matrix products, which is what the field counts."""
        return 0

    def extent(self, shape: Shape) -> Pair | None:
        """Inputs (height, width) that one output sees; None for all of them."""
        return (1, 1)

    def jump(self) -> tuple[float, float]:
        """Inputs (height, width) from one output to the next; below 1 where the layer enlarges."""
        return (1.0, 1.0)

    def kept_elements(self, shape: Shape) -> int:
        """Numbers kept for the backward pass besides input and output, for one image."""
        return 0

    def kept_mask_elements(self, shape: Shape) -> int:
        """Marks of one byte kept for the backward pass, for one image."""
        return 0

    def require_image(self, shape: Shape) -> tuple[int, int, int]:
        """`shape` as (height, width, channels); raises InputError where it is something else."""
        if len(shape) != 3:
            raise InputError(
                f"{self.label} needs an image (height, width, channels); {shape} came; "
                "move it before the Flatten, or put a Reshape before it"
            )
        return shape[0], shape[1], shape[2]


@dataclass(frozen=True, kw_only=True)
class InputLayer(Layer):
    """Where the images enter.

    >>> InputLayer(shape=(28, 28, 1)).output_shape(())
    (28, 28, 1)
    """

    shape: Shape

    def __post_init__(self) -> None:
        require_sizes("input_shape", self.shape)

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape


# Convolutions.


def keeps_activation_output(activation: str) -> bool:
    """Whether the gradient of this activation is computed from its output.

    >>> keeps_activation_output("relu"), keeps_activation_output("gelu")
    (True, False)
    """
    return activation != "linear" and activation not in SMOOTH_ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Activated(Layer):
    """A layer with weights, and with Keras's `activation=` behind them."""

    activation: str = "linear"
    use_bias: bool = True

    keeps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_choice(f"{self.label}: activation", self.activation, ACTIVATIONS)

    @property
    def keeps_output(self) -> bool:
        return keeps_activation_output(self.activation)

    def kept_elements(self, shape: Shape) -> int:
        return arithmetic.elements(self.output_shape(shape)) if self.activation in SMOOTH_ACTIVATIONS else 0


@dataclass(frozen=True, kw_only=True)
class Windowed(Activated):
    """A layer with weights whose kernel slides over the image."""

    strides: Size = 1
    padding: str = "valid"
    dilation_rate: Size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        pair(f"{self.label}: kernel_size", self.kernel)
        require_choice(f"{self.label}: padding", self.padding, PADDINGS)
        strides = pair(f"{self.label}: strides", self.strides)
        dilation = pair(f"{self.label}: dilation_rate", self.dilation_rate)
        if max(strides) > 1 and max(dilation) > 1:
            raise InputError(
                f"{self.label}: strides {self.strides} and dilation_rate {self.dilation_rate} came; "
                "Keras allows only one of them above 1; set the other to 1"
            )

    @property
    def kernel(self) -> Size:
        """The kernel's size as it was given."""
        raise NotImplementedError

    @property
    def window(self) -> Pair:
        """The kernel's size (height, width)."""
        return pair("kernel_size", self.kernel)

    @property
    def step(self) -> Pair:
        """The strides (height, width)."""
        return pair("strides", self.strides)

    @property
    def dilation(self) -> Pair:
        """The dilation (height, width)."""
        return pair("dilation_rate", self.dilation_rate)

    def positions(self, shape: Shape) -> Pair:
        """Output pixels (height, width) of a window that slides over an image of `shape`."""
        height, width, _ = self.require_image(shape)
        return (
            arithmetic.output_size(height, self.window[0], self.step[0], self.padding, self.dilation[0]),
            arithmetic.output_size(width, self.window[1], self.step[1], self.padding, self.dilation[1]),
        )

    def extent(self, shape: Shape) -> Pair:
        window, dilation = self.window, self.dilation
        return arithmetic.window_extent(window[0], dilation[0]), arithmetic.window_extent(window[1], dilation[1])

    def jump(self) -> tuple[float, float]:
        return float(self.step[0]), float(self.step[1])


@dataclass(frozen=True)
class Conv2D(Windowed):
    """Convolution (LeCun et al. 1998; groups: Krizhevsky et al. 2012).

    >>> Conv2D(100, 3, strides=2, padding="same").output_shape((200, 300, 3))
    (100, 150, 100)
    """

    filters: int
    kernel_size: Size
    groups: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: filters", self.filters)
        require_whole(f"{self.label}: groups", self.groups)
        if self.filters % self.groups:
            raise InputError(
                f"{self.label}: filters must be a multiple of groups; {self.filters} and {self.groups} came"
            )
        super().__post_init__()

    @property
    def kernel(self) -> Size:
        return self.kernel_size

    def output_shape(self, shape: Shape) -> Shape:
        channels = self.require_image(shape)[2]
        if channels % self.groups:
            raise InputError(
                f"{self.label}: {channels} channels do not split into {self.groups} equal groups; change groups"
            )
        return (*self.positions(shape), self.filters)

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.conv_params(*self.window, shape[2], self.filters, self.groups, self.use_bias)

    def macs(self, shape: Shape) -> int:
        return arithmetic.conv_macs(*self.positions(shape), *self.window, shape[2], self.filters, self.groups)


@dataclass(frozen=True)
class DepthwiseConv2D(Windowed):
    """One filter for each channel (Howard et al. 2017).

    >>> DepthwiseConv2D(3, padding="same", use_bias=False).params((112, 112, 32))
    288
    """

    kernel_size: Size
    depth_multiplier: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: depth_multiplier", self.depth_multiplier)
        super().__post_init__()

    @property
    def kernel(self) -> Size:
        return self.kernel_size

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.positions(shape), shape[2] * self.depth_multiplier)

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.depthwise_params(*self.window, shape[2], self.depth_multiplier, self.use_bias)

    def macs(self, shape: Shape) -> int:
        return arithmetic.conv_macs(*self.positions(shape), *self.window, 1, shape[2] * self.depth_multiplier)


@dataclass(frozen=True)
class SeparableConv2D(Windowed):
    """A depthwise convolution, then a pointwise one (Chollet 2017).

    >>> SeparableConv2D(64, 3, padding="same", use_bias=False).params((112, 112, 32))
    2336
    """

    filters: int
    kernel_size: Size
    depth_multiplier: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: filters", self.filters)
        require_whole(f"{self.label}: depth_multiplier", self.depth_multiplier)
        super().__post_init__()

    @property
    def kernel(self) -> Size:
        return self.kernel_size

    def output_shape(self, shape: Shape) -> Shape:
        return (*self.positions(shape), self.filters)

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.separable_params(*self.window, shape[2], self.filters, self.depth_multiplier, self.use_bias)

    def macs(self, shape: Shape) -> int:
        weights = arithmetic.separable_params(*self.window, shape[2], self.filters, self.depth_multiplier, bias=False)
        return arithmetic.elements(self.positions(shape)) * weights

    def kept_elements(self, shape: Shape) -> int:
        between = arithmetic.elements(self.positions(shape)) * shape[2] * self.depth_multiplier
        return between + super().kept_elements(shape)


@dataclass(frozen=True)
class Conv2DTranspose(Windowed):
    """Transposed convolution: each pixel paints a window of the output (Dumoulin and Visin 2016).

    >>> Conv2DTranspose(21, 4, strides=2, padding="same").output_shape((16, 16, 21))
    (32, 32, 21)
    """

    filters: int
    kernel_size: Size

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: filters", self.filters)
        super().__post_init__()

    @property
    def kernel(self) -> Size:
        return self.kernel_size

    def output_shape(self, shape: Shape) -> Shape:
        sizes = zip(self.require_image(shape)[:2], self.window, self.step, self.dilation, strict=True)
        height, width = (arithmetic.transpose_output_size(n, k, s, self.padding, d) for n, k, s, d in sizes)
        return height, width, self.filters

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.conv_params(*self.window, shape[2], self.filters, bias=self.use_bias)

    def macs(self, shape: Shape) -> int:
        return arithmetic.conv_transpose_macs(shape[0], shape[1], *self.window, shape[2], self.filters)

    def extent(self, shape: Shape) -> Pair:
        covered = super().extent(shape)
        return -(-covered[0] // self.step[0]), -(-covered[1] // self.step[1])

    def jump(self) -> tuple[float, float]:
        return 1 / self.step[0], 1 / self.step[1]


# Dense layers and attention.


@dataclass(frozen=True)
class Dense(Activated):
    """Every input to every unit, along the last axis.

    >>> Dense(1000).params((4096,))
    4097000
    """

    units: int

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: units", self.units)
        super().__post_init__()

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.units)

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.dense_params(shape[-1], self.units, self.use_bias)

    def macs(self, shape: Shape) -> int:
        return arithmetic.elements(shape[:-1]) * arithmetic.dense_macs(shape[-1], self.units)

    def extent(self, shape: Shape) -> Pair | None:
        return None if len(shape) == 1 else (1, 1)


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Self-attention over (tokens, channels) (Vaswani et al. 2017); `value_dim` of 0 means `key_dim`, as Keras's None.

    >>> MultiHeadAttention(3, 64).params((197, 192))
    148224
    """

    num_heads: int
    key_dim: int
    value_dim: int = field(default=0, kw_only=True)
    use_bias: bool = field(default=True, kw_only=True)

    keeps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: num_heads", self.num_heads)
        require_whole(f"{self.label}: key_dim", self.key_dim)
        require_whole(f"{self.label}: value_dim", self.value_dim, least=0)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise InputError(f"{self.label} needs (tokens, channels); {shape} came; put a Reshape before it")
        return shape

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.attention_params(shape[1], self.num_heads, self.key_dim, self.value, self.use_bias)

    def macs(self, shape: Shape) -> int:
        return arithmetic.attention_macs(shape[0], shape[1], self.num_heads, self.key_dim, self.value)

    @property
    def value(self) -> int:
        """Size of one head's values."""
        return self.value_dim or self.key_dim

    def extent(self, shape: Shape) -> None:
        return None

    def kept_elements(self, shape: Shape) -> int:
        projected = 2 * shape[0] * self.num_heads * (self.key_dim + self.value)
        return projected + self.num_heads * shape[0] ** 2


@dataclass(frozen=True)
class PositionEmbedding(Layer):
    """Adds one learned vector to each token (Dosovitskiy et al. 2021, equation 1).

    >>> PositionEmbedding().params((196, 192))
    37632
    """

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.elements(shape)


# Pooling.


@dataclass(frozen=True)
class Pooling2D(Layer):
    """A window that keeps one number of each channel; `strides` of 0 means `pool_size`, as Keras's None."""

    pool_size: Size = 2
    strides: Size = field(default=0, kw_only=True)
    padding: str = field(default="valid", kw_only=True)

    def __post_init__(self) -> None:
        pair(f"{self.label}: pool_size", self.pool_size)
        pair(f"{self.label}: strides", self.strides, least=0)
        require_choice(f"{self.label}: padding", self.padding, PADDINGS)

    @property
    def window(self) -> Pair:
        """The window (height, width)."""
        return pair("pool_size", self.pool_size)

    @property
    def step(self) -> Pair:
        """The strides (height, width)."""
        return pair("strides", self.strides or self.pool_size)

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = self.require_image(shape)
        return (
            arithmetic.output_size(height, self.window[0], self.step[0], self.padding),
            arithmetic.output_size(width, self.window[1], self.step[1], self.padding),
            channels,
        )

    def extent(self, shape: Shape) -> Pair:
        return self.window

    def jump(self) -> tuple[float, float]:
        return float(self.step[0]), float(self.step[1])


@dataclass(frozen=True)
class MaxPooling2D(Pooling2D):
    """The largest number of each window.

    >>> MaxPooling2D(3, strides=2).output_shape((55, 55, 96))
    (27, 27, 96)
    """

    keeps_input: ClassVar[bool] = True

    @property
    def keeps_output(self) -> bool:
        return True


@dataclass(frozen=True)
class AveragePooling2D(Pooling2D):
    """The mean of each window; zeros of "same" padding do not count.

    >>> AveragePooling2D(2).output_shape((28, 28, 6))
    (14, 14, 6)
    """


@dataclass(frozen=True)
class GlobalPooling2D(Layer):
    """One number for each channel of the whole image."""

    keepdims: bool = field(default=False, kw_only=True)

    def output_shape(self, shape: Shape) -> Shape:
        channels = self.require_image(shape)[2]
        return (1, 1, channels) if self.keepdims else (channels,)

    def extent(self, shape: Shape) -> None:
        return None


@dataclass(frozen=True)
class GlobalAveragePooling2D(GlobalPooling2D):
    """The mean of each channel (Lin et al. 2014).

    >>> GlobalAveragePooling2D().output_shape((7, 7, 2048))
    (2048,)
    """


@dataclass(frozen=True)
class GlobalMaxPooling2D(GlobalPooling2D):
    """The largest number of each channel.

    >>> GlobalMaxPooling2D(keepdims=True).output_shape((7, 7, 512))
    (1, 1, 512)
    """

    keeps_input: ClassVar[bool] = True

    @property
    def keeps_output(self) -> bool:
        return True


@dataclass(frozen=True)
class GlobalAveragePooling1D(Layer):
    """The mean over the tokens of (tokens, channels).

    >>> GlobalAveragePooling1D().output_shape((196, 192))
    (192,)
    """

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2:
            raise InputError(f"{self.label} needs (tokens, channels); {shape} came; put a Reshape before it")
        return shape[1:]

    def extent(self, shape: Shape) -> None:
        return None


# Normalization.


@dataclass(frozen=True, kw_only=True)
class Scaled(Layer):
    """A normalization with a learned scale and offset for each channel."""

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    keeps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise InputError(f"{self.label}: epsilon must be above 0; {self.epsilon!r} came; 0.001 is usual")

    def trainable_params(self, shape: Shape) -> int:
        return (int(self.center) + int(self.scale)) * shape[-1]


@dataclass(frozen=True)
class BatchNormalization(Scaled):
    """Normalizes each channel over the batch, and keeps moving mean and variance (Ioffe and Szegedy 2015).

    >>> layer = BatchNormalization()
    >>> layer.trainable_params((56, 56, 64)), layer.non_trainable_params((56, 56, 64))
    (128, 128)
    """

    momentum: float = field(default=0.99, kw_only=True)
    buffer: ClassVar[Buffer] = "in_place"

    def non_trainable_params(self, shape: Shape) -> int:
        return 2 * shape[-1]


@dataclass(frozen=True)
class LayerNormalization(Scaled):
    """Normalizes each token over its channels (Ba et al. 2016).

    >>> LayerNormalization().params((197, 192))
    384
    """


@dataclass(frozen=True)
class GroupNormalization(Scaled):
    """Normalizes groups of channels within an image (Wu and He 2018).

    >>> GroupNormalization(groups=8).params((28, 28, 64))
    128
    """

    groups: int = field(default=32, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(f"{self.label}: groups", self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] % self.groups:
            raise InputError(
                f"{self.label}: {shape[-1]} channels do not split into {self.groups} equal groups; change groups"
            )
        return shape


@dataclass(frozen=True, kw_only=True)
class LocalResponseNormalization(Layer):
    """Divides by the activity of neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    b_i = a_i / (bias + alpha Σ a_j²)^beta over the channels i - depth_radius … i + depth_radius.
    The names and the meaning of alpha are TensorFlow's; the paper's n is 2 depth_radius + 1.

    >>> LocalResponseNormalization().params((55, 55, 96))
    0
    """

    depth_radius: int = 2
    bias: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    keeps_input: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_whole(f"{self.label}: depth_radius", self.depth_radius, least=0)
        if not self.bias > 0:
            raise InputError(f"{self.label}: bias must be above 0; {self.bias!r} came; 2.0 and 1.0 are usual")

    @property
    def keeps_output(self) -> bool:
        return True


# Activations and what has no weights.


@dataclass(frozen=True)
class Activation(Layer):
    """An activation as a layer of its own.

    >>> Activation("relu").output_shape((28, 28, 16))
    (28, 28, 16)
    """

    activation: str

    buffer: ClassVar[Buffer] = "in_place"

    def __post_init__(self) -> None:
        require_choice(f"{self.label}: activation", self.activation, ACTIVATIONS)

    @property
    def keeps_output(self) -> bool:
        return keeps_activation_output(self.activation)

    def kept_elements(self, shape: Shape) -> int:
        return arithmetic.elements(shape) if self.activation in SMOOTH_ACTIVATIONS else 0


@dataclass(frozen=True, kw_only=True)
class ReLU(Layer):
    """max(x, 0), cut at `max_value` where that is given (6 in Howard et al. 2017).

    >>> ReLU(max_value=6.0).output_shape((56, 56, 24))
    (56, 56, 24)
    """

    max_value: float | None = None
    negative_slope: float = 0.0

    buffer: ClassVar[Buffer] = "in_place"

    @property
    def keeps_output(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class LeakyReLU(Layer):
    """max(x, negative_slope x) (Maas et al. 2013).

    >>> LeakyReLU().output_shape((8, 8, 4))
    (8, 8, 4)
    """

    negative_slope: float = 0.3

    buffer: ClassVar[Buffer] = "in_place"

    @property
    def keeps_output(self) -> bool:
        return True


@dataclass(frozen=True)
class PReLU(Layer):
    """max(x, a x) with a learned for every position (He et al. 2015).

    >>> PReLU().params((8, 8, 4))
    256
    """

    keeps_input: ClassVar[bool] = True

    def trainable_params(self, shape: Shape) -> int:
        return arithmetic.elements(shape)


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities along the last axis.

    >>> Softmax().output_shape((10,))
    (10,)
    """

    buffer: ClassVar[Buffer] = "in_place"

    @property
    def keeps_output(self) -> bool:
        return True


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets a share of the numbers to zero while training (Srivastava et al. 2014); nothing at prediction.

    >>> Dropout(0.5).kept_mask_elements((4096,))
    4096
    """

    rate: float

    buffer: ClassVar[Buffer] = "in_place"

    def __post_init__(self) -> None:
        require_share(f"{self.label}: rate", self.rate)

    def kept_mask_elements(self, shape: Shape) -> int:
        return arithmetic.elements(shape) if self.rate else 0


@dataclass(frozen=True, kw_only=True)
class Rescaling(Layer):
    """x scale + offset.

    >>> Rescaling(scale=1 / 255).output_shape((28, 28, 1))
    (28, 28, 1)
    """

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0

    buffer: ClassVar[Buffer] = "in_place"

    def __post_init__(self) -> None:
        for what, value in (("scale", self.scale), ("offset", self.offset)):
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
                raise InputError(f"{self.label}: {what} must be a number, or one for each channel; {value!r} came")


@dataclass(frozen=True)
class Flatten(Layer):
    """All numbers in one row.

    >>> Flatten().output_shape((7, 7, 512))
    (25088,)
    """

    buffer: ClassVar[Buffer] = "view"

    def output_shape(self, shape: Shape) -> Shape:
        return (arithmetic.elements(shape),)


@dataclass(frozen=True)
class Reshape(Layer):
    """The same numbers in another shape; one size may be -1, "what is left".

    >>> Reshape((-1, 192)).output_shape((14, 14, 192))
    (196, 192)
    """

    target_shape: Shape

    buffer: ClassVar[Buffer] = "view"

    def __post_init__(self) -> None:
        if not isinstance(self.target_shape, tuple):
            raise InputError(f"{self.label}: target_shape must be a tuple such as (-1, 64); {self.target_shape!r} came")
        if sum(size == -1 for size in self.target_shape) > 1:
            raise InputError(f"{self.label}: only one size may be -1; {self.target_shape} came")
        for size in self.target_shape:
            if size != -1:
                require_whole(f"{self.label}: each size", size)

    def output_shape(self, shape: Shape) -> Shape:
        total, known = arithmetic.elements(shape), arithmetic.elements(tuple(s for s in self.target_shape if s != -1))
        if total % known or (-1 not in self.target_shape and total != known):
            raise InputError(f"{self.label}: {shape} has {total} numbers; they do not fill {self.target_shape}")
        return tuple(total // known if size == -1 else size for size in self.target_shape)


def sides(what: str, value: int | tuple[int, int] | tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    """Keras's three ways to write ((top, bottom), (left, right)), as that; raises InputError for anything else.

    >>> sides("padding", 1), sides("padding", ((0, 1), (0, 1)))
    (((1, 1), (1, 1)), ((0, 1), (0, 1)))
    """
    if isinstance(value, int):
        return pair(what, value, least=0), pair(what, value, least=0)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(f"{what} must be a number, (height, width) or ((top, bottom), (left, right)); {value!r} came")
    return pair(what, value[0], least=0), pair(what, value[1], least=0)


@dataclass(frozen=True)
class ZeroPadding2D(Layer):
    """Zeros around the image.

    >>> ZeroPadding2D(3).output_shape((224, 224, 3))
    (230, 230, 3)
    """

    padding: int | tuple[int, int] | tuple[Pair, Pair] = 1

    def __post_init__(self) -> None:
        sides(f"{self.label}: padding", self.padding)

    @property
    def sides(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right))."""
        return sides("padding", self.padding)

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = self.require_image(shape)
        return height + sum(self.sides[0]), width + sum(self.sides[1]), channels


@dataclass(frozen=True)
class Cropping2D(Layer):
    """Takes rows and columns away at the edges.

    >>> Cropping2D(((1, 0), (1, 0))).output_shape((8, 8, 3))
    (7, 7, 3)
    """

    cropping: int | tuple[int, int] | tuple[Pair, Pair] = 1

    def __post_init__(self) -> None:
        sides(f"{self.label}: cropping", self.cropping)

    @property
    def sides(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right))."""
        return sides("cropping", self.cropping)

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = self.require_image(shape)
        left = height - sum(self.sides[0]), width - sum(self.sides[1])
        if min(left) < 1:
            raise InputError(f"{self.label}: {self.cropping} takes all of {height} × {width} pixels; crop less")
        return (*left, channels)


@dataclass(frozen=True)
class UpSampling2D(Layer):
    """Repeats rows and columns, or interpolates between them.

    >>> UpSampling2D(2).output_shape((7, 7, 64))
    (14, 14, 64)
    """

    size: Size = 2
    interpolation: str = field(default="nearest", kw_only=True)

    def __post_init__(self) -> None:
        pair(f"{self.label}: size", self.size)
        require_choice(f"{self.label}: interpolation", self.interpolation, ("nearest", "bilinear"))

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = self.require_image(shape)
        times = pair("size", self.size)
        return height * times[0], width * times[1], channels

    def extent(self, shape: Shape) -> Pair:
        return (2, 2) if self.interpolation == "bilinear" else (1, 1)

    def jump(self) -> tuple[float, float]:
        times = pair("size", self.size)
        return 1 / times[0], 1 / times[1]


@dataclass(frozen=True, kw_only=True)
class Other(Layer):
    """A layer of a Keras model that this description has no word for: its shape and parameters are Keras's own.

    Where its MACs are not known (`counted` is False), `Costs.uncounted` names it.

    >>> Other(kind="LSTM", shape=(64,), trainable=33024).params((10, 64))
    33024
    """

    kind: str
    shape: Shape
    trainable: int = 0
    non_trainable: int = 0
    counted: bool = False

    keeps_input: ClassVar[bool] = True

    @property
    def type(self) -> str:
        return self.kind

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape

    def trainable_params(self, shape: Shape) -> int:
        return self.trainable

    def non_trainable_params(self, shape: Shape) -> int:
        return self.non_trainable


# Where paths meet.


@dataclass(frozen=True)
class Merge(Layer):
    """Where paths meet: Keras's Add, Concatenate, Multiply, Subtract, Average, Maximum and Minimum.

    >>> Merge("add").merged_shape(((7, 7, 64), (7, 7, 64)))
    (7, 7, 64)
    """

    mode: str

    # A concatenation is larger than each of its inputs, so it never finds one to write over.
    buffer: ClassVar[Buffer] = "in_place"

    def __post_init__(self) -> None:
        require_choice("the way in which branches meet", self.mode, MERGES)

    @property
    def type(self) -> str:
        return self.mode.capitalize()

    @property
    def keeps_inputs(self) -> bool:
        """Whether the backward pass needs all the inputs again."""
        return self.mode in ("multiply", "maximum", "minimum")

    def merged_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Shape of what comes out; sizes of 1 are repeated; raises InputError where the shapes do not meet."""
        if self.mode == "subtract" and len(shapes) != 2:
            raise InputError(f"{self.label} takes exactly two paths; {len(shapes)} came; subtract one after the other")
        ranks = {len(shape) for shape in shapes}
        if len(ranks) != 1:
            raise InputError(f"{self.label}: the paths end in different ranks, {list(shapes)}; reshape one of them")
        if self.mode == "concatenate":
            return self._concatenated(shapes)
        sizes = [set(axis) - {1} or {1} for axis in zip(*shapes, strict=True)]
        if any(len(axis) > 1 for axis in sizes):
            raise InputError(
                f"{self.label}: the paths end in {list(shapes)}; they must be equal; "
                "give the shorter path a 1 × 1 convolution with the same filters and strides"
            )
        return tuple(axis.pop() for axis in sizes)

    def _concatenated(self, shapes: tuple[Shape, ...]) -> Shape:
        if len({shape[:-1] for shape in shapes}) != 1:
            raise InputError(f"{self.label}: the paths end in {list(shapes)}; all but the channels must be equal")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


Path = tuple["Layer | Branches", ...]


@dataclass(frozen=True)
class Branches:
    """Several paths from one input that meet again; `()` is the identity.

    >>> block = Branches("add", ((Conv2D(64, 3, padding="same"),), ()))
    >>> len(block.paths)
    2
    """

    mode: str
    paths: tuple[Path, ...]
    name: str = ""

    def __post_init__(self) -> None:
        require_choice("Branches: mode", self.mode, MERGES)
        if not isinstance(self.paths, tuple):
            raise InputError(
                f"Branches: paths must be a tuple of paths; {type(self.paths).__name__} came; write (path, ())"
            )
        if len(self.paths) < 2:
            raise InputError(f"Branches need at least two paths; {len(self.paths)} came; () is the identity")
        for path in self.paths:
            require_path(path)


def require_path(path: Path) -> Path:
    """Return `path` if it is a tuple of layers and branches; raises InputError otherwise.

    >>> require_path((Flatten(), Dense(10)))[1]
    Dense(name='', activation='linear', use_bias=True, units=10)
    """
    if not isinstance(path, tuple):
        raise InputError(f"a path is a tuple of layers; {type(path).__name__} came; write (layer,) for a single one")
    for step in path:
        if not isinstance(step, (Layer, Branches)):
            raise InputError(f"a path holds layers and Branches; {step!r} came")
    return path


@dataclass(frozen=True)
class Architecture:
    """A network as data: a name, what enters, and the path through it.

    >>> Architecture("one layer", (28, 28, 1), (Flatten(), Dense(10, activation="softmax"))).name
    'one layer'
    """

    name: str
    input_shape: Shape
    layers: Path

    def __post_init__(self) -> None:
        require_sizes("input_shape", self.input_shape)
        require_path(self.layers)
