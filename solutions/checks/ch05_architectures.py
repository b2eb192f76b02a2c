"""The checks of chapter 5."""

from typing import Any

from numpy.random import Generator

from solutions import ch05_architectures as solution
from solutions.checks.drawing import whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question

KERAS = Compare(kind="keras")
Pair = tuple[int, int]


def stacked_cases(random: Generator) -> list[tuple[int, int]]:
    """Odd windows."""
    return [(2 * whole(random, 2, 15) + 1, whole(random, 2, 512)) for _ in range(6)] + [(3, 7)]


def bottleneck_cases(random: Generator) -> list[tuple[int, int]]:
    """Few and many channels."""
    return [(whole(random, 40, 2048), whole(random, 2, 39)) for _ in range(6)]


def saving_cases(random: Generator) -> list[tuple[int, int, int]]:
    """Windows of one pixel too, for which it saves nothing."""
    return [(whole(random, 2, 7), whole(random, 2, 512), whole(random, 2, 512)) for _ in range(6)] + [(1, 5, 9)]


def identity_cases(random: Generator) -> list[tuple[int, ...]]:
    """Input and output have the same shape."""
    channels = whole(random, 2, 5)
    return [(whole(random, 5, 8), whole(random, 9, 12), channels, channels, 1)]


def projection_cases(random: Generator) -> list[tuple[int, ...]]:
    """Other channels, or other strides."""
    channels = whole(random, 2, 5)
    sizes = whole(random, 5, 8), whole(random, 9, 12)
    return [(*sizes, channels, channels + 2, 1), (*sizes, channels, channels, 2)]


def inception_cases(random: Generator) -> list[tuple[Any, ...]]:
    """Branches of different widths."""
    numbers = [whole(random, 2, 6) for _ in range(6)]
    ones, threes, fives = numbers[0], (numbers[1], numbers[1] + 2), (numbers[2], numbers[2] + 3)
    return [(whole(random, 5, 8), whole(random, 9, 12), whole(random, 2, 5), ones, threes, fives, numbers[3] + 1)]


def squeeze_cases(random: Generator) -> list[tuple[int, ...]]:
    """Channels that the ratio divides and such that it does not."""
    return [
        (whole(random, 5, 8), 9, 8 * whole(random, 1, 3), 4),
        (6, whole(random, 5, 8), 2 * whole(random, 3, 6) + 1, 2),
    ]


# What goes wrong.


def residual(what: str, height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """A residual block with the mistake `what`."""
    import keras
    from keras import layers

    bias, project = what == "bias", strides != 1 or channels != filters
    image = keras.Input((height, width, channels))
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=bias)(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=bias)(x)
    x = layers.BatchNormalization()(x)
    if what == "no short cut":
        return keras.Model(image, layers.ReLU()(x))
    short = image
    if project or what == "always projected":
        short = layers.Conv2D(filters, 1, strides=strides, padding="same", use_bias=bias)(image)
        short = layers.BatchNormalization()(short)
    if what == "ReLU too early":
        return keras.Model(image, layers.Add()([layers.ReLU()(x), short]))
    joined = layers.Add()([x, short])
    return keras.Model(image, joined if what == "no last ReLU" else layers.ReLU()(joined))


def residual_without_short_cut(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """A plain stack."""
    return residual("no short cut", height, width, channels, filters, strides)


def residual_with_bias(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """Convolutions with biases."""
    return residual("bias", height, width, channels, filters, strides)


def residual_without_last_relu(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """The sum comes out."""
    return residual("no last ReLU", height, width, channels, filters, strides)


def residual_early_relu(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """ReLU before the addition."""
    return residual("ReLU too early", height, width, channels, filters, strides)


def residual_always_projected(height: int, width: int, channels: int, filters: int, strides: int) -> Any:
    """A convolution in the short cut always."""
    return residual("always projected", height, width, channels, filters, strides)


def inception(
    what: str, height: int, width: int, channels: int, ones: int, threes: Pair, fives: Pair, pooled: int
) -> Any:
    """An Inception block with the mistake `what`."""
    import keras
    from keras import layers

    def conv(filters: int, window: int, x: Any) -> Any:
        activation = None if what == "no ReLU" else "relu"
        return layers.Conv2D(filters, window, padding="same", activation=activation)(x)

    image = keras.Input((height, width, channels))
    reduce = what != "no reduction"
    pool = layers.MaxPooling2D(3, strides=1, padding="same")(image)
    branches = [
        conv(ones, 1, image),
        conv(threes[1], 3, conv(threes[0], 1, image) if reduce else image),
        conv(fives[1], 5, conv(fives[0], 1, image) if reduce else image),
        pool if what == "plain pooling" else conv(pooled, 1, pool),
    ]
    return keras.Model(image, layers.Concatenate()(branches[::-1] if what == "other order" else branches))


def inception_without_reduction(
    height: int, width: int, channels: int, ones: int, threes: Pair, fives: Pair, pooled: int
) -> Any:
    """No 1 × 1 convolutions before the windows."""
    return inception("no reduction", height, width, channels, ones, threes, fives, pooled)


def inception_plain_pooling(
    height: int, width: int, channels: int, ones: int, threes: Pair, fives: Pair, pooled: int
) -> Any:
    """No convolution behind the pooling."""
    return inception("plain pooling", height, width, channels, ones, threes, fives, pooled)


def inception_without_relu(
    height: int, width: int, channels: int, ones: int, threes: Pair, fives: Pair, pooled: int
) -> Any:
    """No activations."""
    return inception("no ReLU", height, width, channels, ones, threes, fives, pooled)


def squeeze(what: str, height: int, width: int, channels: int, ratio: int) -> Any:
    """A squeeze-and-excitation block with the mistake `what`."""
    import keras
    from keras import layers

    image = keras.Input((height, width, channels))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(image)
    gate = layers.Dense(channels if what == "no squeeze" else channels // ratio, activation="relu")(gate)
    gate = layers.Dense(channels, activation="softmax" if what == "softmax" else "sigmoid")(gate)
    if what == "no multiplication":
        return keras.Model(image, gate)
    join = layers.Add() if what == "added" else layers.Multiply()
    return keras.Model(image, join([image, gate]))


def squeeze_not_squeezed(height: int, width: int, channels: int, ratio: int) -> Any:
    """As many units as channels."""
    return squeeze("no squeeze", height, width, channels, ratio)


def squeeze_softmax(height: int, width: int, channels: int, ratio: int) -> Any:
    """Softmax for sigmoid."""
    return squeeze("softmax", height, width, channels, ratio)


def squeeze_gate_alone(height: int, width: int, channels: int, ratio: int) -> Any:
    """The gate comes out."""
    return squeeze("no multiplication", height, width, channels, ratio)


def squeeze_added(height: int, width: int, channels: int, ratio: int) -> Any:
    """The gate is added."""
    return squeeze("added", height, width, channels, ratio)


EXERCISE = Exercise(
    "ch05_architectures",
    "Architectures",
    (
        Question(
            "stacked",
            (Item("layers and weights", 1, ((5, 64), (7, 10)), stacked_cases),),
            solution.stacked,
            hints=(
                Hint("Each 3 × 3 layer adds 2 pixels to the first one's 3.", lambda w, c: (w // 3, w // 3 * 9 * c * c)),
                Hint("These are the weights of one layer; there are several.", lambda w, c: ((w - 1) // 2, 9 * c * c)),
                Hint(
                    "Each layer reads `channels` channels and gives as many: channels × channels.",
                    lambda w, c: ((w - 1) // 2, (w - 1) // 2 * 9 * c),
                ),
                Hint("There are no biases here.", lambda w, c: ((w - 1) // 2, (w - 1) // 2 * (9 * c + 1) * c)),
                Hint("A number of layers is whole: `//` rounds down.", lambda w, c: (w / 2, w / 2 * 9 * c * c)),
            ),
        ),
        Question(
            "bottleneck_weights",
            (Item("weights of the three convolutions", 1, ((256, 64), (8, 2)), bottleneck_cases),),
            solution.bottleneck_weights,
            hints=(
                Hint("The last convolution, back to many channels, is missing.", lambda c, r: c * r + 9 * r * r),
                Hint("There are no biases here.", lambda c, r: 2 * c * r + 9 * r * r + 2 * r + c),
                Hint(
                    "The 3 × 3 convolution has 9 weights for each pair of channels.", lambda c, r: 2 * c * r + 3 * r * r
                ),
                Hint("The 3 × 3 convolution works on the few channels.", lambda c, r: 2 * c * r + 9 * c * c),
            ),
        ),
        Question(
            "separable_saving",
            (Item("ordinary over separable", 2, ((3, 32, 64), (5, 2, 2)), saving_cases),),
            solution.separable_saving,
            hints=(
                Hint(
                    "It is the other way round: the ordinary convolution takes more.",
                    lambda k, c, f: (k * k * c + c * f) / (k * k * c * f),
                ),
                Hint("The 1 × 1 convolution is missing.", lambda k, c, f: k * k * c * f / (k * k * c)),
                Hint(
                    "The quotient has a fraction: `/`, not `//`.", lambda k, c, f: k * k * c * f // (k * k * c + c * f)
                ),
                Hint(
                    "A depthwise convolution reads one channel for each of its channels, not all of them.",
                    lambda k, c, f: k * k * c * f / (k * k * c * c + c * f),
                ),
                Hint("A window has window × window pixels.", lambda k, c, f: k * c * f / (k * c + c * f)),
            ),
        ),
        Question(
            "residual_block",
            (
                Item("the input is added as it is", 1, ((8, 8, 4, 4, 1),), identity_cases),
                Item("the input is projected where shapes differ", 1, ((8, 8, 4, 6, 2),), projection_cases),
            ),
            solution.residual_block,
            KERAS,
            (
                Hint("The short way is missing: the input has to be added.", residual_without_short_cut),
                Hint("The convolutions should have no bias: batch normalization has one.", residual_with_bias),
                Hint("The last ReLU is missing, behind the addition.", residual_without_last_relu),
                Hint("ReLU comes behind the addition, not before it.", residual_early_relu),
                Hint(
                    "Where input and output have the same shape, the short way is the input itself.",
                    residual_always_projected,
                ),
            ),
            needs="keras",
            seconds=20,
        ),
        Question(
            "inception_block",
            (Item("four branches, side by side", 2, ((8, 8, 3, 2, (2, 4), (1, 3), 2),), inception_cases),),
            solution.inception_block,
            KERAS,
            (
                Hint(
                    "The 1 × 1 convolutions before the 3 × 3 and 5 × 5 ones are missing.", inception_without_reduction
                ),
                Hint("Behind the pooling comes a 1 × 1 convolution.", inception_plain_pooling),
                Hint("Each convolution has the activation ReLU.", inception_without_relu),
            ),
            needs="keras",
            seconds=20,
        ),
        Question(
            "squeeze_excite",
            (Item("a gate for each channel", 2, ((8, 8, 8, 4),), squeeze_cases),),
            solution.squeeze_excite,
            KERAS,
            (
                Hint("The first Dense layer has channels // ratio units.", squeeze_not_squeezed),
                Hint(
                    "The gate's activation is sigmoid: every channel for itself, not all against each other.",
                    squeeze_softmax,
                ),
                Hint("The image has to be multiplied by the gate.", squeeze_gate_alone),
                Hint("The gate is multiplied, not added.", squeeze_added),
            ),
            needs="keras",
            seconds=20,
        ),
    ),
)
