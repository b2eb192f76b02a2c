"""The networks of the book as data: each one a page of its paper, with Keras's layer names where Keras has the network.

Every function takes the images' shape, the number of classes and its own options, and returns an `Architecture`. Its
docstring names the paper, the reading of it that was taken, and the parameters that come out. Classifiers end in
probabilities (softmax), as `keras.applications` has them.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from itertools import chain

from toolkit.arithmetic import InputError, require_whole
from toolkit.costs import trace
from toolkit.layers import (
    Activation,
    Architecture,
    AveragePooling2D,
    BatchNormalization,
    Branches,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    Layer,
    LayerNormalization,
    LocalResponseNormalization,
    MaxPooling2D,
    MultiHeadAttention,
    Path,
    PositionEmbedding,
    ReLU,
    Reshape,
    SeparableConv2D,
    Shape,
    ZeroPadding2D,
)

# Small networks.


def three_layers(input_shape: Shape = (200, 300, 3), classes: int = 0) -> Architecture:
    """Three convolutions of 100, 200 and 400 filters, 3 × 3, stride 2: the course's first question about cost.

    Géron, Hands-On Machine Learning (2nd edition 2019), chapter 14, exercise 2. It asks for the convolutions alone, and
    so does `classes=0`; more classes add global average pooling and a dense layer. 903,400 parameters.

    >>> [layer.name for layer in three_layers(classes=10).layers]
    ['conv1', 'conv2', 'conv3', 'avg_pool', 'predictions']
    """
    require_whole("classes", classes, least=0)
    convolutions = tuple(
        _relu_conv(filters, 3, f"conv{number}", strides=2) for number, filters in enumerate((100, 200, 400), 1)
    )
    return Architecture("three_layers", input_shape, convolutions + (_pooled_head(classes) if classes else ()))


def dense_baseline(input_shape: Shape = (28, 28, 1), classes: int = 10, units: int = 128) -> Architecture:
    """One hidden dense layer: what a network reaches that does not know that pixels have neighbours.

    101,770 parameters for 28 × 28 grey images and 128 units.

    >>> [layer.name for layer in dense_baseline(units=32).layers]
    ['flatten', 'hidden', 'predictions']
    """
    hidden = Dense(units, activation="relu", name="hidden")
    return Architecture("dense_baseline", input_shape, (Flatten(name="flatten"), hidden, _softmax(classes)))


def small_cnn(
    input_shape: Shape = (28, 28, 1), classes: int = 10, channels: int = 16, dropout: float = 0.25
) -> Architecture:
    """Three 3 × 3 convolutions of `channels`, twice and four times as many, with pools between them; then dropout.

    A small network in the manner of VGG (Simonyan and Zisserman 2015): it learns MNIST in two epochs on two CPU cores.
    54,666 parameters for 28 × 28 grey images and 16 channels.

    >>> [layer.name for layer in small_cnn(channels=8).layers]
    ['conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'flatten', 'dropout', 'predictions']
    """
    require_whole("channels", channels)
    layers = (
        _relu_conv(channels, 3, "conv1"),
        MaxPooling2D(2, name="pool1"),
        _relu_conv(2 * channels, 3, "conv2"),
        MaxPooling2D(2, name="pool2"),
        _relu_conv(4 * channels, 3, "conv3"),
        Flatten(name="flatten"),
        Dropout(dropout, name="dropout"),
        _softmax(classes),
    )
    return Architecture("small_cnn", input_shape, layers)


def lean_cnn_28(input_shape: Shape = (28, 28, 1), classes: int = 10, *, width: int = 16) -> Architecture:
    """A lean network for 28 × 28 grey pixels: four convolutions of 32, 48, 48 and 64 filters, 64,426 parameters.

    Batch normalization behind each convolution, and behind the pool where there is one, on a quarter of the numbers
    (as Jordan 2024 has it); the mean of each channel in place of dense layers. `width` is a sixteenth of the filters'
    common measure. 64,042 of the parameters are trained.

    >>> [layer.name for layer in lean_cnn_28().layers if "conv" in layer.name]
    ['conv1', 'conv2', 'conv3', 'conv4']
    """
    require_whole("width", width)
    layers = (
        *_lean_conv("1", 2 * width, 5, pool=True),
        *_lean_conv("2", 3 * width),
        *_lean_conv("3", 3 * width, pool=True),
        *_lean_conv("4", 4 * width),
        *_pooled_head(classes),
    )
    return Architecture("lean_cnn_28", input_shape, layers)


def tiny_cnn_28(input_shape: Shape = (28, 28, 1), classes: int = 10) -> Architecture:
    """A network of 9,540 parameters for 28 × 28 grey pixels: five convolutions of 10 to 20 filters.

    Built as `lean_cnn_28` is; 9,384 of the parameters are trained.

    >>> sum(isinstance(layer, BatchNormalization) for layer in tiny_cnn_28().layers)
    5
    """
    layers = (
        *_lean_conv("1", 10),
        *_lean_conv("2", 16, pool=True),
        *_lean_conv("3", 16),
        *_lean_conv("4", 16, pool=True),
        *_lean_conv("5", 20),
        *_pooled_head(classes),
    )
    return Architecture("tiny_cnn_28", input_shape, layers)


def lean_cnn_32(input_shape: Shape = (32, 32, 3), classes: int = 10, *, width: int = 16) -> Architecture:
    """A lean network for 32 × 32 coloured pixels: seven convolutions of 16 to 192 filters, 802,554 parameters.

    Each of the first convolutions has as many MACs as the one before it, because a pool halves the sides where the
    filters double; the last two stages add a second convolution to their input, in the manner of ResNet-9 (Page 2018).
    801,050 of the parameters are trained. `width` is the number of the first filters.

    >>> sum(isinstance(step, Branches) for step in lean_cnn_32().layers)
    2
    """
    require_whole("width", width)
    layers = (
        *_lean_conv("1", width),
        *_lean_conv("2", 2 * width, pool=True),
        *_lean_conv("3", 4 * width, pool=True),
        *_lean_conv("4", 8 * width),
        Branches("add", (_lean_conv("5", 8 * width), ()), name="add5"),
        MaxPooling2D(2, name="pool5"),
        *_lean_conv("6", 12 * width),
        Branches("add", (_lean_conv("7", 12 * width), ()), name="add7"),
        *_pooled_head(classes),
    )
    return Architecture("lean_cnn_32", input_shape, layers)


def _lean_conv(number: str, filters: int, kernel_size: int = 3, pool: bool = False) -> Path:
    """A convolution, a pool where it is wanted, batch normalization with a short memory, and ReLU."""
    return (
        Conv2D(filters, kernel_size, padding="same", use_bias=False, name=f"conv{number}"),
        *((MaxPooling2D(2, name=f"pool{number}"),) if pool else ()),
        BatchNormalization(momentum=0.9, name=f"norm{number}"),
        ReLU(name=f"relu{number}"),
    )


def _relu_conv(filters: int, kernel_size: int, name: str, strides: int = 1) -> Conv2D:
    """A convolution with "same" padding and ReLU."""
    return Conv2D(filters, kernel_size, strides=strides, padding="same", activation="relu", name=name)


def _joined(paths: Iterable[Path]) -> Path:
    """Paths one behind the other, as one."""
    return tuple(chain.from_iterable(paths))


def _softmax(classes: int, name: str = "predictions") -> Dense:
    """The last layer of a classifier: a probability for each class."""
    require_whole("classes", classes)
    return Dense(classes, activation="softmax", name=name)


def _pooled_head(classes: int) -> Path:
    """The mean of each channel, and the probabilities of the classes (Lin et al. 2014, section 3.2)."""
    return GlobalAveragePooling2D(name="avg_pool"), _softmax(classes)


# LeNet, AlexNet, VGG.


def lenet5(input_shape: Shape = (32, 32, 1), classes: int = 10) -> Architecture:
    """LeNet-5 (LeCun et al. 1998, section II.B): 61,706 parameters.

    The usual reading: every map of the second convolution sees all six maps of the first (the paper connects them by
    table I and has 60,000), the pools are plain averages without weights, tanh, and softmax instead of Gaussian units.

    >>> [layer.name for layer in lenet5().layers]
    ['c1', 's2', 'c3', 's4', 'flatten', 'c5', 'f6', 'output']
    """
    layers = (
        Conv2D(6, 5, activation="tanh", name="c1"),
        AveragePooling2D(2, name="s2"),
        Conv2D(16, 5, activation="tanh", name="c3"),
        AveragePooling2D(2, name="s4"),
        Flatten(name="flatten"),
        Dense(120, activation="tanh", name="c5"),
        Dense(84, activation="tanh", name="f6"),
        _softmax(classes, "output"),
    )
    return Architecture("lenet5", input_shape, layers)


def alexnet(input_shape: Shape = (227, 227, 3), classes: int = 1000, *, lrn: bool = True) -> Architecture:
    """AlexNet (Krizhevsky et al. 2012, section 3) with its two groups and normalization: 60,965,224 parameters.

    The paper writes 224 × 224, but its 55 × 55 outputs need 227 × 227, as Caffe and everybody since has it. Like the
    paper it normalizes first and pools afterwards. `lrn=False` leaves the normalization out.

    >>> alexnet().layers[1]
    LocalResponseNormalization(name='norm1', depth_radius=2, bias=2.0, alpha=0.0001, beta=0.75)
    """
    first = Conv2D(96, 11, strides=4, activation="relu", name="conv1")
    features = _alexnet_features(first, (256, 384, 384, 256), groups=(2, 1, 2, 2), lrn=lrn)
    return Architecture("alexnet", input_shape, features + _alexnet_head(4096, classes))


def alexnet_28(
    input_shape: Shape = (28, 28, 1), classes: int = 10, *, width: int = 24, units: int = 256, lrn: bool = True
) -> Architecture:
    """AlexNet for 28 × 28 pixels: a quarter of its filters and a sixteenth of its dense units, 367,034 parameters.

    The first convolution is 5 × 5 with stride 1 and "same" padding, and there are no groups, which the paper needed
    for its two graphics cards. All else is AlexNet's. `lrn=False` leaves the normalization out; `width` are the
    filters of the first convolution, a multiple of 3 that all others follow, and `units` those of the dense layers
    (48 and 936: 2,296,202 parameters).

    >>> alexnet_28(lrn=False).layers[1].name
    'pool1'
    """
    return _small_alexnet("alexnet_28", input_shape, classes, width, units, lrn)


def alexnet_32(
    input_shape: Shape = (32, 32, 3), classes: int = 10, *, width: int = 48, units: int = 512, lrn: bool = True
) -> Architecture:
    """AlexNet for 32 × 32 pixels: half of its filters and an eighth of its dense units, 1,790,154 parameters.

    Built as `alexnet_28` is (with 600 units: 1,990,442 parameters).

    >>> alexnet_32().layers[0].filters
    48
    """
    return _small_alexnet("alexnet_32", input_shape, classes, width, units, lrn)


def _small_alexnet(name: str, input_shape: Shape, classes: int, width: int, units: int, lrn: bool) -> Architecture:
    require_whole("width", width)
    if width % 3:
        raise InputError(f"width must be a multiple of 3, as 96 is; {width} came; give {3 * max(width // 3, 1)}")
    first = Conv2D(width, 5, padding="same", activation="relu", name="conv1")
    filters = (8 * width // 3, 4 * width, 4 * width, 8 * width // 3)
    features = _alexnet_features(first, filters, groups=(1, 1, 1, 1), lrn=lrn)
    return Architecture(name, input_shape, features + _alexnet_head(units, classes))


def _alexnet_features(first: Conv2D, filters: tuple[int, ...], groups: tuple[int, ...], lrn: bool) -> Path:
    """The five convolutions; normalization behind the first two, pools behind the first two and the last."""
    norms = tuple((LocalResponseNormalization(name=f"norm{number}"),) if lrn else () for number in (1, 2))
    pools = tuple(MaxPooling2D(3, strides=2, name=f"pool{number}") for number in (1, 2, 5))
    second, *others = (
        Conv2D(count, 3 if number > 2 else 5, padding="same", groups=group, activation="relu", name=f"conv{number}")
        for number, (count, group) in enumerate(zip(filters, groups, strict=True), 2)
    )
    return first, *norms[0], pools[0], second, *norms[1], pools[1], *others, pools[2]


def _alexnet_head(units: int, classes: int) -> Path:
    """Two dense layers with dropout of a half behind them, and the classes."""
    hidden = (
        layer
        for number in (6, 7)
        for layer in (Dense(units, activation="relu", name=f"fc{number}"), Dropout(0.5, name=f"drop{number}"))
    )
    return Flatten(name="flatten"), *hidden, _softmax(classes, "fc8")


def vgg11(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """VGG with 11 weight layers (Simonyan and Zisserman 2015, table 1, column A): 132,863,336 parameters.

    Named as `vgg16` is; like that one it leaves out the dropout of training.

    >>> len(vgg11().layers)
    17
    """
    return Architecture("vgg11", input_shape, _vgg_features((1, 1, 2, 2, 2)) + _vgg_head(classes))


def vgg16(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """VGG with 16 weight layers (Simonyan and Zisserman 2015, table 1, column D): 138,357,544 parameters.

    In the form of `keras.applications`, which has no dropout.

    >>> vgg16().layers[-1].name
    'predictions'
    """
    return Architecture("vgg16", input_shape, _vgg_features((2, 2, 3, 3, 3)) + _vgg_head(classes))


def _vgg_features(depths: tuple[int, ...], start: int = 1) -> Path:
    """Blocks of so many convolutions; `start` is the number of the first."""
    return _joined(_vgg_block(block, depth) for block, depth in enumerate(depths, start))


def _vgg_block(block: int, depth: int, start: int = 64) -> Path:
    """3 × 3 convolutions of 64 (or `start`), 128, 256, 512, 512 filters, and a pool."""
    filters = min(start * 2 ** (block - 1), 512)
    convolutions = (_relu_conv(filters, 3, f"block{block}_conv{number}") for number in range(1, depth + 1))
    return *convolutions, MaxPooling2D(2, name=f"block{block}_pool")


def _vgg_head(classes: int) -> Path:
    hidden = (Dense(4096, activation="relu", name=name) for name in ("fc1", "fc2"))
    return Flatten(name="flatten"), *hidden, _softmax(classes)


# GoogLeNet.

# Szegedy et al. 2015, table 1: 1×1; 3×3 reduce, 3×3; 5×5 reduce, 5×5; pool projection.
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """GoogLeNet (Szegedy et al. 2015, table 1) without the auxiliary classifiers: 6,998,552 parameters.

    Normalization where figure 3 has it, with the constants of Caffe's `bvlc_googlenet` (whose alpha of 1e-4 is divided
    by the window of 5). No batch normalization, which came later.

    >>> sum(isinstance(step, Branches) for step in googlenet().layers)
    9
    """
    blocks = {name: _inception(f"inception_{name}", *filters) for name, filters in _INCEPTIONS.items()}
    layers: Path = (
        _relu_conv(64, 7, "conv1_7x7_s2", strides=2),
        _same_pool("pool1_3x3_s2"),
        _inception_lrn("pool1_norm1"),
        _relu_conv(64, 1, "conv2_3x3_reduce"),
        _relu_conv(192, 3, "conv2_3x3"),
        _inception_lrn("conv2_norm2"),
        _same_pool("pool2_3x3_s2"),
        *(blocks[name] for name in ("3a", "3b")),
        _same_pool("pool3_3x3_s2"),
        *(blocks[name] for name in ("4a", "4b", "4c", "4d", "4e")),
        _same_pool("pool4_3x3_s2"),
        *(blocks[name] for name in ("5a", "5b")),
        GlobalAveragePooling2D(name="pool5_7x7_s1"),
        Dropout(0.4, name="pool5_drop"),
        _softmax(classes, "loss3_classifier"),
    )
    return Architecture("googlenet", input_shape, layers)


def _same_pool(name: str, strides: int = 2) -> MaxPooling2D:
    return MaxPooling2D(3, strides=strides, padding="same", name=name)


def _inception_lrn(name: str) -> LocalResponseNormalization:
    return LocalResponseNormalization(depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75, name=name)


def _inception(name: str, one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int) -> Branches:
    """Figure 2(b): windows of three sizes and a pool beside each other, each behind a 1 × 1 convolution."""
    paths = (
        (_relu_conv(one, 1, f"{name}_1x1"),),
        (_relu_conv(reduce3, 1, f"{name}_3x3_reduce"), _relu_conv(three, 3, f"{name}_3x3")),
        (_relu_conv(reduce5, 1, f"{name}_5x5_reduce"), _relu_conv(five, 5, f"{name}_5x5")),
        (_same_pool(f"{name}_pool", strides=1), _relu_conv(pooled, 1, f"{name}_pool_proj")),
    )
    return Branches("concatenate", paths, name=f"{name}_output")


# Residual networks.


def resnet18(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """ResNet with 18 weight layers (He et al. 2016, table 1, shortcuts B): 11,689,512 trainable parameters.

    Basic blocks of two 3 × 3 convolutions without biases, as the paper's footnotes and torchvision have them, and a
    1 × 1 convolution on the shortcut where the size changes. With the moving averages of the batch normalization, which
    are not trained, 11,699,112 numbers.

    >>> resnet18().layers[6].name
    'conv2_block1_add'
    """
    return Architecture("resnet18", input_shape, _resnet(_basic_block, (2, 2, 2, 2), classes, use_bias=False))


def resnet50(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """ResNet with 50 weight layers (He et al. 2016, table 1): 25,636,712 parameters, 25,583,592 of them trainable.

    In the form of `keras.applications`, which is the paper's: the stride is on the first 1 × 1 convolution of a stage
    (torchvision moves it to the 3 × 3, "v1.5", with 6 % more MACs), and the convolutions have biases.

    >>> resnet50().layers[0].name
    'conv1_pad'
    """
    return Architecture("resnet50", input_shape, _resnet(_bottleneck, (3, 4, 6, 3), classes, use_bias=True))


def se_resnet50(input_shape: Shape = (224, 224, 3), classes: int = 1000) -> Architecture:
    """ResNet-50 with squeeze-and-excitation (Hu et al. 2018, table 1, reduction 16): 28,088,024 trainable parameters.

    The stride is on the first 1 × 1 convolution and the convolutions have no biases, as in the authors' Caffe models;
    the two dense layers of a gate have. With the moving averages 28,141,144 numbers.

    >>> len(se_resnet50().layers) == len(resnet50().layers)
    True
    """
    return Architecture("se_resnet50", input_shape, _resnet(_se_bottleneck, (3, 4, 6, 3), classes, use_bias=False))


def _resnet(
    block: Callable[[str, int, int, bool, bool], Path], depths: tuple[int, ...], classes: int, *, use_bias: bool
) -> Path:
    """The stem, four stages of so many blocks with 64, 128, 256 and 512 filters, and the head."""
    stem = (
        ZeroPadding2D(3, name="conv1_pad"),
        Conv2D(64, 7, strides=2, use_bias=use_bias, name="conv1_conv"),
        *_norm_relu("conv1"),
        ZeroPadding2D(1, name="pool1_pad"),
        MaxPooling2D(3, strides=2, name="pool1_pool"),
    )
    stages = (
        block(f"conv{stage}_block{number}", 64 * 2 ** (stage - 2), 2 if stage > 2 else 1, number == 1, use_bias)
        for stage, depth in enumerate(depths, 2)
        for number in range(1, depth + 1)
    )
    return stem + _joined(stages) + _pooled_head(classes)


def _norm(name: str) -> BatchNormalization:
    """Batch normalization with the epsilon of Keras's residual networks."""
    return BatchNormalization(epsilon=1.001e-5, name=f"{name}_bn")


def _norm_relu(name: str) -> Path:
    return _norm(name), Activation("relu", name=f"{name}_relu")


def _conv_norm(name: str, filters: int, kernel_size: int = 1, strides: int = 1, *, use_bias: bool) -> Path:
    """A convolution without activation, and its batch normalization."""
    padding = "same" if kernel_size > 1 else "valid"
    conv = Conv2D(filters, kernel_size, strides=strides, padding=padding, use_bias=use_bias, name=f"{name}_conv")
    return conv, _norm(name)


def _conv_norm_relu(name: str, filters: int, kernel_size: int = 1, strides: int = 1, *, use_bias: bool) -> Path:
    activation = Activation("relu", name=f"{name}_relu")
    return *_conv_norm(name, filters, kernel_size, strides, use_bias=use_bias), activation


def _residual(name: str, path: Path, shortcut: Path) -> Path:
    """What the path adds to its input, then ReLU (He et al. 2016, figure 2)."""
    return Branches("add", (path, shortcut), name=f"{name}_add"), Activation("relu", name=f"{name}_out")


def _basic_block(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    """Two 3 × 3 convolutions; the shortcut is a convolution where the stride changes the size (figure 5, left)."""
    path = _basic_path(name, filters, strides if first else 1, use_bias)
    return _residual(name, path, _basic_shortcut(name, filters, strides, first, use_bias))


def _se_basic_block(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    """A basic block whose path passes a gate before it is added."""
    path = (*_basic_path(name, filters, strides if first else 1, use_bias), _gate(f"{name}_se", filters, 8))
    return _residual(name, path, _basic_shortcut(name, filters, strides, first, use_bias))


def _basic_path(name: str, filters: int, strides: int, use_bias: bool) -> Path:
    return (
        *_conv_norm_relu(f"{name}_1", filters, 3, strides, use_bias=use_bias),
        *_conv_norm(f"{name}_2", filters, 3, use_bias=use_bias),
    )


def _basic_shortcut(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    return _conv_norm(f"{name}_0", filters, strides=strides, use_bias=use_bias) if first and strides > 1 else ()


def _bottleneck(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    """1 × 1, 3 × 3, 1 × 1 with four times the filters; the shortcut of a stage's first block is a convolution."""
    path = _bottleneck_path(name, filters, strides if first else 1, use_bias)
    return _residual(name, path, _bottleneck_shortcut(name, filters, strides, first, use_bias))


def _se_bottleneck(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    """A bottleneck whose path passes a gate before it is added (Hu et al. 2018, figure 3)."""
    path = (*_bottleneck_path(name, filters, strides if first else 1, use_bias), _gate(f"{name}_se", 4 * filters))
    return _residual(name, path, _bottleneck_shortcut(name, filters, strides, first, use_bias))


def _bottleneck_path(name: str, filters: int, strides: int, use_bias: bool) -> Path:
    return (
        *_conv_norm_relu(f"{name}_1", filters, strides=strides, use_bias=use_bias),
        *_conv_norm_relu(f"{name}_2", filters, 3, use_bias=use_bias),
        *_conv_norm(f"{name}_3", 4 * filters, use_bias=use_bias),
    )


def _bottleneck_shortcut(name: str, filters: int, strides: int, first: bool, use_bias: bool) -> Path:
    return _conv_norm(f"{name}_0", 4 * filters, strides=strides, use_bias=use_bias) if first else ()


def _gate(name: str, channels: int, reduction: int = 16) -> Branches:
    """Squeeze-and-excitation: the image as a whole says how much of each channel passes (Hu et al. 2018, section 3)."""
    excitation = (
        GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze"),
        Dense(channels // reduction, activation="relu", name=f"{name}_reduce"),
        Dense(channels, activation="sigmoid", name=f"{name}_expand"),
    )
    return Branches("multiply", ((), excitation), name=f"{name}_scale")


# Depthwise networks.


def xception(input_shape: Shape = (299, 299, 3), classes: int = 1000) -> Architecture:
    """Xception (Chollet 2017, figure 5): 22,910,480 parameters.

    In the form of `keras.applications`, that is the paper's figure without its optional dense layers and dropout.

    >>> sum(isinstance(step, Branches) for step in xception().layers)
    12
    """
    entry = (
        *_xception_stem(),
        _downsampled("block2", (128, 128), leading_relu=False),
        _downsampled("block3", (256, 256)),
        _downsampled("block4", (728, 728)),
    )
    middle = (Branches("add", (_separable_stack(f"block{block}", (728, 728, 728)), ())) for block in range(5, 13))
    end = (
        _downsampled("block13", (728, 1024)),
        *_separable("block14_sepconv1", 1536, relu="after"),
        *_separable("block14_sepconv2", 2048, relu="after"),
    )
    return Architecture("xception", input_shape, (*entry, *middle, *end, *_pooled_head(classes)))


def _xception_stem() -> Path:
    """Two plain 3 × 3 convolutions without padding, the first with stride 2."""
    return _joined(
        (
            Conv2D(filters, 3, strides=strides, use_bias=False, name=name),
            BatchNormalization(name=f"{name}_bn"),
            Activation("relu", name=f"{name}_act"),
        )
        for name, filters, strides in (("block1_conv1", 32, 2), ("block1_conv2", 64, 1))
    )


def _separable(name: str, filters: int, relu: str) -> Path:
    """A separable convolution and its normalization, with a ReLU "before", "after" or "none" of it."""
    activation = (Activation("relu", name=f"{name}_act"),)
    convolution = (
        SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name),
        BatchNormalization(name=f"{name}_bn"),
    )
    return {"before": activation + convolution, "after": convolution + activation, "none": convolution}[relu]


def _separable_stack(block: str, filters: tuple[int, ...], leading_relu: bool = True) -> Path:
    """Separable convolutions, each behind a ReLU; without the first where one has just been."""
    return _joined(
        _separable(f"{block}_sepconv{number}", count, "before" if number > 1 or leading_relu else "none")
        for number, count in enumerate(filters, 1)
    )


def _downsampled(block: str, filters: tuple[int, ...], leading_relu: bool = True) -> Branches:
    """Separable convolutions and a pool beside a 1 × 1 convolution with stride 2; Keras leaves the latter unnamed."""
    path = (*_separable_stack(block, filters, leading_relu), _same_pool(f"{block}_pool"))
    shortcut = (Conv2D(filters[-1], 1, strides=2, padding="same", use_bias=False), BatchNormalization())
    return Branches("add", (path, shortcut))


# Sandler et al. 2018, table 2: expansion, channels, repeats, stride of the first.
_INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(input_shape: Shape = (224, 224, 3), classes: int = 1000, *, alpha: float = 1.0) -> Architecture:
    """MobileNetV2 (Sandler et al. 2018, table 2): 3,538,984 parameters, 3,504,872 of them trainable.

    In the form of `keras.applications`, but with "same" padding where Keras writes the same zeros as a layer of their
    own. `alpha` multiplies all channels; the last convolution is only ever widened, as in the paper.

    >>> mobilenet_v2(alpha=0.5).layers[0].filters
    16
    """
    _require_alpha(alpha)
    layers = (
        Conv2D(_multiple_of_8(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="Conv1"),
        *_norm_relu6("bn_Conv1", "Conv1_relu"),
        *_inverted_residuals(alpha),
        Conv2D(_multiple_of_8(1280 * max(alpha, 1.0)), 1, use_bias=False, name="Conv_1"),
        *_norm_relu6("Conv_1_bn", "out_relu"),
        *_pooled_head(classes),
    )
    return Architecture("mobilenet_v2", input_shape, layers)


def _require_alpha(alpha: float) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < float("inf"):
        raise InputError(
            f"alpha must be a number above 0; {alpha!r} came; 1.0 is the paper's network, 0.5 a narrow one"
        )


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where that takes more than a tenth away."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _inverted_residuals(alpha: float, halvings: int = 4) -> Path:
    """The seventeen blocks; those that change neither size nor channels are added to their input.

    Only the last so many `halvings` of the four are done.
    """
    steps: list[Layer | Branches] = []
    channels, block, left_out = _multiple_of_8(32 * alpha), 0, 4 - halvings
    for expansion, filters, repeats, first_stride in _INVERTED_RESIDUALS:
        stride = 1 if left_out and first_stride == 2 else first_stride
        left_out -= stride != first_stride
        for strides in (stride, *[1] * (repeats - 1)):
            prefix, width = f"block_{block}_" if block else "expanded_conv_", _multiple_of_8(int(filters * alpha))
            path = _inverted_residual(prefix, expansion * channels, width, strides)
            added = strides == 1 and width == channels
            steps += (Branches("add", (path, ()), name=f"{prefix}add"),) if added else path
            channels, block = width, block + 1
    return tuple(steps)


def _inverted_residual(prefix: str, expanded: int, filters: int, strides: int) -> Path:
    """1 × 1 to many channels (the first block has them already), 3 × 3 on each, and 1 × 1 to few without activation."""
    expansion = (
        Conv2D(expanded, 1, padding="same", use_bias=False, name=f"{prefix}expand"),
        *_norm_relu6(f"{prefix}expand_BN", f"{prefix}expand_relu"),
    )
    return (
        *(() if prefix == "expanded_conv_" else expansion),
        DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, name=f"{prefix}depthwise"),
        *_norm_relu6(f"{prefix}depthwise_BN", f"{prefix}depthwise_relu"),
        Conv2D(filters, 1, padding="same", use_bias=False, name=f"{prefix}project"),
        BatchNormalization(momentum=0.999, name=f"{prefix}project_BN"),
    )


def _norm_relu6(norm_name: str, relu_name: str) -> Path:
    return BatchNormalization(momentum=0.999, name=norm_name), ReLU(max_value=6.0, name=relu_name)


# Segmentation and attention.


def fcn8s(input_shape: Shape = (512, 512, 3), classes: int = 21) -> Architecture:
    """FCN-8s on VGG16 (Long et al. 2015, section 4.2): a class for every pixel, 134,489,759 parameters.

    The scores of 1/32 of the size are enlarged twice, added to scores read off pool4, enlarged again, added to those of
    pool3, and enlarged eight times. "Same" padding stands for Caffe's 100 zeros around the image and the crops behind;
    the transposed convolutions have no biases and are all learned. Raises InputError where height or width is no
    multiple of 32.

    >>> fcn8s((224, 320, 3)).layers[-1].name
    'probabilities'
    """
    deep = (*_vgg_features((3,), start=5), *_fcn_scores(classes), _enlarged("upscore2", classes, 2))
    middle = (
        *_vgg_features((3,), start=4),
        Branches("add", (deep, _pool_scores("pool4", classes)), name="fuse_pool4"),
        _enlarged("upscore_pool4", classes, 2),
    )
    layers = (
        *_vgg_features((2, 2, 3)),
        Branches("add", (middle, _pool_scores("pool3", classes)), name="fuse_pool3"),
        _enlarged("upscore8", classes, 8),
        Activation("softmax", name="probabilities"),
    )
    net = Architecture("fcn8s", input_shape, layers)
    _require_multiple(net.input_shape, 32, "the five pools")
    return net


def _fcn_scores(classes: int) -> Path:
    """VGG16's dense layers as convolutions, and a score for each class (Long et al. 2015, figure 2)."""
    require_whole("classes", classes)
    return (
        _relu_conv(4096, 7, "fc6"),
        Dropout(0.5, name="drop6"),
        _relu_conv(4096, 1, "fc7"),
        Dropout(0.5, name="drop7"),
        Conv2D(classes, 1, name="score_fr"),
    )


def _pool_scores(pool: str, classes: int) -> Path:
    return (Conv2D(classes, 1, name=f"score_{pool}"),)


def _enlarged(name: str, classes: int, times: int) -> Conv2DTranspose:
    """A transposed convolution that can hold bilinear interpolation: a window of twice the stride."""
    return Conv2DTranspose(classes, 2 * times, strides=times, padding="same", use_bias=False, name=name)


def _require_multiple(shape: Shape, size: int, who: str) -> None:
    """Raise InputError where height or width is no multiple of `size`; other ranks are for the layers to refuse."""
    if len(shape) == 3 and (shape[0] % size or shape[1] % size):
        near = " × ".join(str(max(round(length / size), 1) * size) for length in shape[:2])
        raise InputError(
            f"{who} need a height and a width that are multiples of {size}; {shape[0]} × {shape[1]} came; give {near}"
        )


def vit_tiny(
    input_shape: Shape = (224, 224, 3),
    classes: int = 1000,
    *,
    patch_size: int = 16,
    channels: int = 192,
    heads: int = 3,
    depth: int = 12,
) -> Architecture:
    """A small vision transformer (Dosovitskiy et al. 2021, with the sizes of DeiT-Ti, Touvron et al. 2021).

    5,717,032 parameters. Pre-norm blocks, and the mean of all tokens in place of the class token (as Zhai et al. 2022
    prefer), which is 384 parameters less than DeiT-Ti has. For small images take small patches:
    `vit_tiny((28, 28, 1), 10, patch_size=4)`. Raises InputError where the patches do not fill the image or the heads do
    not share the channels.

    >>> vit_tiny(depth=2).layers[-1].name
    'predictions'
    """
    for what, value in (("patch_size", patch_size), ("channels", channels), ("heads", heads), ("depth", depth)):
        require_whole(what, value)
    if channels % heads:
        raise InputError(f"channels must be a multiple of heads; {channels} and {heads} came; change one of them")
    layers = (
        Conv2D(channels, patch_size, strides=patch_size, name="patches"),
        Reshape((-1, channels), name="tokens"),
        PositionEmbedding(name="positions"),
        *_joined(_transformer_block(f"block{number}", channels, heads) for number in range(1, depth + 1)),
        LayerNormalization(epsilon=1e-6, name="norm"),
        GlobalAveragePooling1D(name="avg_pool"),
        _softmax(classes),
    )
    net = Architecture("vit_tiny", input_shape, layers)
    _require_multiple(net.input_shape, patch_size, "the patches")
    return net


def _transformer_block(name: str, channels: int, heads: int) -> Path:
    """Attention and two dense layers, each normalized before and added to its input (equations 2 and 3)."""
    attention = (
        LayerNormalization(epsilon=1e-6, name=f"{name}_norm1"),
        MultiHeadAttention(heads, channels // heads, name=f"{name}_attention"),
    )
    perceptron = (
        LayerNormalization(epsilon=1e-6, name=f"{name}_norm2"),
        Dense(4 * channels, activation="gelu", name=f"{name}_mlp1"),
        Dense(channels, name=f"{name}_mlp2"),
    )
    return Branches("add", (attention, ()), name=f"{name}_add1"), Branches("add", (perceptron, ()), name=f"{name}_add2")


# The famous ones in small, for 32 × 32 pixels.


def vgg_32(input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """VGG's blocks for 32 × 32 pixels: two convolutions of 32, 64 and 128 filters each, 550,570 parameters.

    Without normalization, as the paper (Simonyan and Zisserman 2015); one dense layer with dropout behind it.

    >>> [layer.name for layer in vgg_32().layers][:3]
    ['block1_conv1', 'block1_conv2', 'block1_pool']
    """
    head = Dense(128, activation="relu", name="fc1"), Dropout(0.5, name="drop1"), _softmax(classes)
    features = _joined(_vgg_block(block, 2, start=32) for block in (1, 2, 3))
    return Architecture("vgg_32", input_shape, (*features, Flatten(name="flatten"), *head))


def googlenet_32(input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """GoogLeNet for 32 × 32 pixels: five of its blocks with a quarter of their filters, 206,638 parameters.

    The blocks are 3a, 3b, 4a, 4e and 5b. One 3 × 3 convolution stands for the stem, which makes 28 of 224 pixels, and
    there is no normalization (Szegedy et al. 2015).

    >>> sum(isinstance(step, Branches) for step in googlenet_32().layers)
    5
    """
    blocks = {name: _inception(f"inception_{name}", *(n // 4 for n in _INCEPTIONS[name])) for name in _INCEPTIONS}
    layers: Path = (
        _relu_conv(48, 3, "conv1_3x3"),
        _same_pool("pool1_3x3_s2"),
        *(blocks[name] for name in ("3a", "3b")),
        _same_pool("pool3_3x3_s2"),
        *(blocks[name] for name in ("4a", "4e")),
        _same_pool("pool4_3x3_s2"),
        blocks["5b"],
        GlobalAveragePooling2D(name="pool5"),
        Dropout(0.4, name="pool5_drop"),
        _softmax(classes, "loss3_classifier"),
    )
    return Architecture("googlenet_32", input_shape, layers)


def resnet20(input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """ResNet with 20 weight layers for CIFAR (He et al. 2016, section 4.2): 272,474 trainable parameters.

    With 1 × 1 convolutions where the size changes (the paper's shortcuts A, without weights, make 269,722 of it). With
    the moving averages 274,042 numbers.

    >>> sum(isinstance(step, Branches) for step in resnet20().layers)
    9
    """
    return Architecture("resnet20", input_shape, _small_resnet(_basic_block, classes))


def se_resnet20(input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """ResNet-20 with squeeze-and-excitation (Hu et al. 2018, section 6.2, reduction 8): 276,884 trainable parameters.

    >>> len(se_resnet20().layers) == len(resnet20().layers)
    True
    """
    return Architecture("se_resnet20", input_shape, _small_resnet(_se_basic_block, classes))


def _small_resnet(block: Callable[[str, int, int, bool, bool], Path], classes: int) -> Path:
    """One 3 × 3 convolution, three stages of three blocks with 16, 32 and 64 filters, and the head."""
    stages = (
        block(f"conv{stage}_block{number}", 16 * 2 ** (stage - 2), 2 if stage > 2 else 1, number == 1, False)
        for stage in (2, 3, 4)
        for number in (1, 2, 3)
    )
    return (*_conv_norm_relu("conv1", 16, 3, use_bias=False), *_joined(stages), *_pooled_head(classes))


def xception_32(input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """Xception for 32 × 32 pixels: 32 to 384 filters and two middle blocks, 414,282 parameters.

    The stem keeps the size; three blocks halve it in place of four (Chollet 2017, figure 5).

    >>> sum(isinstance(step, Branches) for step in xception_32().layers)
    4
    """
    middle = (Branches("add", (_separable_stack(f"block{block}", (192, 192, 192)), ())) for block in (4, 5))
    layers = (
        Conv2D(32, 3, padding="same", use_bias=False, name="block1_conv1"),
        BatchNormalization(name="block1_conv1_bn"),
        Activation("relu", name="block1_conv1_act"),
        _downsampled("block2", (96, 96), leading_relu=False),
        _downsampled("block3", (192, 192)),
        *middle,
        *_separable("block6_sepconv1", 384, relu="after"),
        *_pooled_head(classes),
    )
    return Architecture("xception_32", input_shape, layers)


def mobilenet_v2_32(input_shape: Shape = (32, 32, 3), classes: int = 10, *, alpha: float = 0.5) -> Architecture:
    """MobileNetV2 for 32 × 32 pixels, half as wide: 607,674 parameters.

    The first two of its five halvings are left out, as is usual for CIFAR (Sandler et al. 2018 have 224 pixels), and
    the last convolution has 640 filters.

    >>> mobilenet_v2_32().layers[0].strides
    1
    """
    _require_alpha(alpha)
    layers = (
        Conv2D(_multiple_of_8(32 * alpha), 3, padding="same", use_bias=False, name="Conv1"),
        *_norm_relu6("bn_Conv1", "Conv1_relu"),
        *_inverted_residuals(alpha, halvings=3),
        Conv2D(_multiple_of_8(1280 * alpha), 1, use_bias=False, name="Conv_1"),
        *_norm_relu6("Conv_1_bn", "out_relu"),
        *_pooled_head(classes),
    )
    return Architecture("mobilenet_v2_32", input_shape, layers)


def vit_32(input_shape: Shape = (32, 32, 3), classes: int = 10, *, patch_size: int = 4) -> Architecture:
    """A vision transformer for 32 × 32 pixels: patches of 4 × 4, 128 channels, 4 heads, 4 blocks, 809,098 parameters.

    `vit_tiny` in small (Dosovitskiy et al. 2021).

    >>> vit_32().layers[0].name
    'patches'
    """
    net = vit_tiny(input_shape, classes, patch_size=patch_size, channels=128, heads=4, depth=4)
    return Architecture("vit_32", net.input_shape, net.layers)


# By name.

ARCHITECTURES: dict[str, Callable[..., Architecture]] = {
    make.__name__: make
    for make in (
        *(three_layers, dense_baseline, small_cnn, lenet5, alexnet, alexnet_28, alexnet_32, vgg11, vgg16, googlenet),
        *(resnet18, resnet50, se_resnet50, xception, mobilenet_v2, fcn8s, vit_tiny),
        *(lean_cnn_28, tiny_cnn_28, lean_cnn_32, vgg_32, googlenet_32, resnet20, se_resnet20),
        *(xception_32, mobilenet_v2_32, vit_32),
    )
}


def architecture(
    name: str, input_shape: Shape | None = None, classes: int | None = None, **options: object
) -> Architecture:
    """The network of this name; without `input_shape` and `classes` with those of its paper.

    Raises InputError for a name or an option that does not exist, for values that cannot be used, and where the images
    are too small for the network, with the network's name in front.

    >>> architecture("small_cnn", (32, 32, 3), channels=8).layers[0].filters
    8
    """
    make = _named(name)
    _require_options(name, make, options)
    common = {"input_shape": input_shape, "classes": classes}
    try:
        net = make(**options, **{key: value for key, value in common.items() if value is not None})
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    trace(net)  # refuses what does not fit, with the network's name
    return net


def _named(name: str) -> Callable[..., Architecture]:
    """The function of this name; raises InputError with the nearest names otherwise."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    wanted = str(name).lower().replace("-", "_").replace(" ", "_")
    close = difflib.get_close_matches(wanted, ARCHITECTURES, n=1)
    nearest = f"the nearest is {close[0]!r}; " if close else ""
    raise InputError(f"there is no network {name!r}; {nearest}choose one of {', '.join(ARCHITECTURES)}")


def _require_options(name: str, make: Callable[..., Architecture], options: dict[str, object]) -> None:
    """Raise InputError for an option that the function does not have."""
    own = [option for option in inspect.signature(make).parameters if option not in ("input_shape", "classes")]
    for option in options:
        if option not in own:
            choice = f"its options are {', '.join(own)}" if own else "it has no options besides input_shape and classes"
            raise InputError(f"{name} has no option {option!r}; {choice}")
