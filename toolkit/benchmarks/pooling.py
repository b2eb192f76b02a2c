"""Five ways to make feature maps smaller: accuracy, and how often a move of the image changes the answer.

The same three convolutions and a global mean; between them the maps are halved by max pooling, average pooling, a
stride of the convolution, or by one of these behind a blur (Zhang 2019). Nothing but that halving, and the edges, can
make such a network notice by how many pixels an image moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from toolkit.arithmetic import require_choice
from toolkit.benchmarks import Check, Measured, Row
from toolkit.benchmarks.trials import MOMENTUM, Trial, Tried, accuracy, agreed, more, of_name, row, try_out
from toolkit.datasets import DATASETS
from toolkit.layers import (
    Activation,
    Architecture,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Path,
    Shape,
)
from toolkit.training import TrainConfig

SEEDS = 3
TESTED = 500
FULL = TrainConfig(dataset="mnist", epochs=8, train_limit=1_000, batch_size=32)
MOVES = (1, 2, 3)
# Of the answers that change when the image moves by one pixel, so many are left at most when max pooling is blurred;
# and what the blur may cost in accuracy.
CHANGES_LEFT, LOST = 0.9, 0.02

MAX, AVERAGE, STRIDED = "max pooling", "average pooling", "strided convolution"
BLURRED_MAX, BLURRED = "max pooling, blurred", "strided convolution, blurred"
WAYS = (MAX, AVERAGE, STRIDED, BLURRED_MAX, BLURRED)


def halving_cnn(way: str, input_shape: Shape = (28, 28, 1), classes: int = 10, channels: int = 8) -> Architecture:
    """Three 3 × 3 convolutions, the maps halved behind the first and the second as `way` says, and a global mean.

    Each convolution has batch normalization and ReLU behind it. A layer called blur1 or blur2 is a depthwise
    convolution whose nine weights a channel are set, not learned (`shifting.blur_weights`). Raises InputError for a way
    that is none of `WAYS`.

    >>> [layer.name for layer in halving_cnn("max pooling, blurred").layers[:5]]
    ['conv1', 'norm1', 'relu1', 'pool1', 'blur1']
    """
    require_choice("way", way, WAYS)
    strides = 2 if way == STRIDED else 1
    layers = (
        *_conv(channels, 1, strides),
        *_halved(way, 1),
        *_conv(2 * channels, 2, strides),
        *_halved(way, 2),
        *_conv(4 * channels, 3),
        GlobalAveragePooling2D(name="avg_pool"),
        Dense(classes, activation="softmax", name="predictions"),
    )
    return Architecture("halving_cnn", input_shape, layers)


def _conv(filters: int, number: int, strides: int = 1) -> Path:
    """A convolution, its normalization and ReLU."""
    return (
        Conv2D(filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv{number}"),
        BatchNormalization(momentum=MOMENTUM, name=f"norm{number}"),
        Activation("relu", name=f"relu{number}"),
    )


def _halved(way: str, number: int) -> Path:
    """What halves the maps behind a convolution; nothing where its stride has done so."""
    blur = DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name=f"blur{number}")
    behind: dict[str, Path] = {
        MAX: (MaxPooling2D(2, name=f"pool{number}"),),
        AVERAGE: (AveragePooling2D(2, name=f"pool{number}"),),
        STRIDED: (),
        BLURRED_MAX: (MaxPooling2D(2, strides=1, padding="same", name=f"pool{number}"), blur),
        BLURRED: (blur,),
    }
    return behind[way]


def measure(quick: bool, seed: int) -> Measured:
    """Train everything on MNIST; `quick` two ways on the digits that are always there, with one seed."""
    if quick:
        config = TrainConfig(epochs=6, batch_size=32, learning_rate=5e-3)
        return _measured(config, range(seed, seed + 1), (MAX, BLURRED_MAX))
    return _measured(FULL, range(seed, seed + SEEDS), WAYS)


def _measured(config: TrainConfig, seeds: Sequence[int], ways: Sequence[str]) -> Measured:
    tried = try_out(_trials(config, seeds, ways))
    blurred, plain = (of_name(tried, way) for way in (BLURRED_MAX, MAX))
    changes = [sum(1 - each.agreed[1] for each in tries) for tries in (blurred, plain)]
    left = changes[0] / max(changes[1], 1 / TESTED)  # nothing may have changed at all
    changed = Row.of("changed answers of max pooling with the blur, over those without", "ratio", [left])
    lost = more(tried, MAX, BLURRED_MAX, accuracy, "accuracy of max pooling that the blur costs")
    checks = (
        Check.at_most(changed.what, changed.median, CHANGES_LEFT),
        Check.at_most(lost.what, lost.median, LOST),
    )
    return Measured((*_rows(tried, ways), changed, lost), checks)


def _trials(config: TrainConfig, seeds: Sequence[int], ways: Sequence[str]) -> Iterator[Trial]:
    info = DATASETS[config.dataset]
    for seed in seeds:
        for way in ways:
            net = halving_cnn(way, info.image_shape, info.classes)
            yield Trial(way, replace(config, network=net, seed=seed), moves=MOVES, tested=TESTED)


def _rows(tried: Sequence[Tried], ways: Sequence[str]) -> Iterator[Row]:
    for way in ways:
        yield row(tried, way, accuracy, "test accuracy")
        for pixels in MOVES:
            yield row(tried, way, agreed(pixels), f"same answer, moved by {pixels}")
        yield Row.of(f"{way}: an epoch", "CPU s", [s for each in of_name(tried, way) for s in each.epoch_cpu])
