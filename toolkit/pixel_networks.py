"""Networks that give every pixel its classes, as data: FCN with and without skips, dilated convolutions, U-Net.

Each is an `Architecture` like those of `architectures`, and any of those can be the base that sees. They end in a map
(height, width, classes) of probabilities as large as the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.costs import Row, trace
from toolkit.errors import InputError
from toolkit.layers import (
    Activation,
    Architecture,
    BatchNormalization,
    Branches,
    Conv2D,
    Conv2DTranspose,
    Flatten,
    GlobalPooling2D,
    Layer,
    MaxPooling2D,
    Path,
    Pooling2D,
    Shape,
    Windowed,
)

# A base's path in parts of equal resolution: (input pixels from one output to the next, the part).
Stages = list[tuple[int, Path]]


# Bases.

# Of each stage of the small base: channels as a multiple of the first stage's, and how many convolutions.
_STAGES = ((1, 1), (1.5, 1), (3, 2), (6, 2), (8, 2), (8, 1))


def small_base(input_shape: Shape = (128, 128, 3), channels: int = 16) -> Architecture:
    """Five stages of 3 × 3 convolutions with normalization and a pool, in the manner of VGG, for learning from scratch.

    The channels grow up to eight times the first; the map comes out 1/32 as large as the image. What is computed at
    high resolution is little, so that a processor can train it in minutes.

    >>> rows = trace(small_base())
    >>> rows[-1].output_shape, sum(row.params for row in rows)
    ((4, 4, 128), 567760)
    """
    require_whole("channels", channels)
    sizes = [(max(1, round(channels * share)), depth) for share, depth in _STAGES]
    blocks = [_block(filters, depth, f"block{stage}_") for stage, (filters, depth) in enumerate(sizes, 1)]
    *pooled, last = blocks
    steps = ((*block, MaxPooling2D(2, name=f"block{stage}_pool")) for stage, block in enumerate(pooled, 1))
    return Architecture("small_base", input_shape, (*chain.from_iterable(steps), *last))


def _block(filters: int, depth: int, prefix: str) -> Path:
    """So many 3 × 3 convolutions, each normalized and behind a ReLU."""
    return tuple(
        layer
        for number in range(1, depth + 1)
        for layer in (
            Conv2D(filters, 3, padding="same", use_bias=False, name=f"{prefix}conv{number}"),
            BatchNormalization(momentum=0.9, name=f"{prefix}norm{number}"),
            Activation("relu", name=f"{prefix}relu{number}"),
        )
    )


def features(base: Architecture) -> Path:
    """The part of a classifier that gives maps: all before the first Flatten or global pool.

    >>> from toolkit.architectures import vgg16
    >>> features(vgg16())[-1].name
    'block5_pool'
    """
    head = (at for at, step in enumerate(base.layers) if isinstance(step, (Flatten, GlobalPooling2D)))
    return base.layers[: next(head, len(base.layers))]


def stages(base: Architecture) -> Stages:
    """The maps' part of a base, cut where the resolution falls; raises InputError where it does not fall evenly.

    >>> [stride for stride, _ in stages(small_base())]
    [1, 2, 4, 8, 16, 32]
    """
    path = features(base)
    net = Architecture(base.name, base.input_shape, path)
    rows = trace(net)
    _require_shrinking(net.name, rows)
    _require_map(net, rows)
    found: Stages = []
    for row, step in zip(_ends(path, rows), path, strict=True):
        stride = round(row.stride[0])
        if found and found[-1][0] == stride:
            found[-1] = (stride, (*found[-1][1], step))
        else:
            found.append((stride, (step,)))
    if found[0][0] > 1:
        found.insert(0, (1, ()))
    return found


def _ends(path: Path, rows: Sequence[Row]) -> Iterator[Row]:
    """The row at the end of each step of the outermost path."""
    at = 0
    for step in path:
        at += _row_count(step)
        yield rows[at]


def _row_count(step: Layer | Branches) -> int:
    return 1 + sum(map(_row_count, chain.from_iterable(step.paths))) if isinstance(step, Branches) else 1


def _require_shrinking(name: str, rows: Sequence[Row]) -> None:
    """Refuse a base whose last map is not its coarsest: what enlarges already needs no head that does."""
    if max(row.stride[0] for row in rows) > rows[-1].stride[0]:
        raise InputError(f"{name} enlarges its maps again; take a base whose last map is its smallest, such as vgg16")


def _require_map(net: Architecture, rows: Sequence[Row]) -> None:
    """Refuse a base whose last map is not exactly as many times smaller than the image as its strides say."""
    shape, stride = rows[-1].output_shape, round(rows[-1].stride[0])
    if len(shape) != 3 or len(net.input_shape) != 3 or len(rows) == 1:
        raise InputError(f"{net.name} gives {shape} where a map (height, width, channels) was expected; take a CNN")
    if any(length % stride for length in net.input_shape[:2]):
        near = " × ".join(str(max(round(length / stride), 1) * stride) for length in net.input_shape[:2])
        raise InputError(
            f"{net.name} makes its maps {stride} times smaller and needs a height and a width that are multiples of "
            f"that; {net.input_shape[0]} × {net.input_shape[1]} came; give {near}"
        )
    if any(size * stride != length for size, length in zip(shape[:2], net.input_shape[:2], strict=True)):
        raise InputError(
            f"{net.name} cuts the borders off its maps, so that they do not lie on the image evenly; choose a base "
            'with "same" padding, such as small_base, vgg16, resnet50 or mobilenet_v2'
        )


# Heads.


def fcn(base: Architecture, classes: int, stride: int = 8) -> Architecture:
    """A fully convolutional network with skips down to `stride` (Long et al. 2015, figure 3): 32 is FCN-32s, 8 FCN-8s.

    Each resolution of the base is scored by a 1 × 1 convolution. The coarsest scores are enlarged, step by step, by
    transposed convolutions and added to those of the next resolution, down to `stride`; a last transposed convolution
    enlarges the sum to the image. All of them are learned, and begin as bilinear interpolation where they are given
    `bilinear_kernel`. Scores are read from the last map of each resolution (the paper reads the pools behind).

    Raises InputError where the base has no such resolution, or sizes do not divide.

    >>> net = fcn(small_base(), classes=11)
    >>> [row.name for row in trace(net) if row.type in ("Add", "Conv2DTranspose")]
    ['enlarge32', 'fuse16', 'enlarge16', 'fuse8', 'enlarge8']
    >>> trace(net)[-1].output_shape
    (128, 128, 11)
    """
    require_whole("classes", classes, least=2)
    levels = stages(base)
    strides = [level for level, _ in levels]
    if stride not in strides:
        raise InputError(
            f"{base.name} has maps at strides {', '.join(map(str, strides))}; there is no skip at {stride!r}"
        )
    coarsest, path = levels.pop()
    path = (*path, _scores(coarsest, classes))
    while coarsest > stride:
        finer, steps = levels.pop()
        enlarged = (*path, _enlarged(coarsest, classes, coarsest // finer))
        path = (*steps, Branches("add", (enlarged, (_scores(finer, classes),)), name=f"fuse{finer}"))
        coarsest = finer
    before = chain.from_iterable(steps for _, steps in levels)
    return Architecture(f"fcn{stride}s", base.input_shape, (*before, *path, *_to_image(coarsest, classes)))


def dilated(base: Architecture, classes: int, stride: int = 8) -> Architecture:
    """The base with its maps kept at 1/`stride` of the size by dilation, then scores, enlarged to the image.

    >>> trace(dilated(small_base(), classes=11))[-4].output_shape
    (16, 16, 128)
    """
    require_whole("classes", classes, least=2)
    net = Architecture(base.name, base.input_shape, features(base))
    _require_shrinking(net.name, trace(net))
    wide = dilate(net, stride)
    rows = trace(wide)
    _require_map(wide, rows)
    reached = round(rows[-1].stride[0])
    layers = (*wide.layers, _scores(reached, classes), *_to_image(reached, classes))
    return Architecture(f"dilated{reached}", base.input_shape, layers)


def _scores(stride: int, classes: int) -> Conv2D:
    return Conv2D(classes, 1, name=f"score{stride}")


def _enlarged(stride: int, classes: int, times: int) -> Conv2DTranspose:
    """A transposed convolution that can hold bilinear interpolation: a window of twice the stride."""
    return Conv2DTranspose(classes, 2 * times, strides=times, padding="same", use_bias=False, name=f"enlarge{stride}")


def _to_image(stride: int, classes: int) -> Path:
    """From scores at `stride` to a probability of each class for each pixel."""
    larger = (_enlarged(stride, classes, stride),) if stride > 1 else ()
    return *larger, Activation("softmax", name="probabilities")


def bilinear_kernel(times: int, channels: int) -> NDArray[np.float32]:
    """The kernel (2 times, 2 times, channels, channels) with which a transposed convolution interpolates bilinearly.

    For strides of `times`, "same" padding and no bias; each channel stays by itself (Long et al. 2015, section 3.3).

    >>> bilinear_kernel(2, 1)[:, :, 0, 0][0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    require_whole("times", times)
    tent = 1 - np.abs((np.arange(2 * times) - times + 0.5) / times)
    kernel = np.zeros((2 * times, 2 * times, channels, channels), np.float32)
    kernel[:, :, range(channels), range(channels)] = np.outer(tent, tent)[..., np.newaxis]
    return kernel


def interpolating_weights(net: Architecture) -> dict[str, list[NDArray[np.float32]]]:
    """Bilinear kernels, by name, for the layers of a network that enlarge scores: where training shall begin.

    >>> list(interpolating_weights(fcn(small_base(), classes=11, stride=16)))
    ['enlarge32', 'enlarge16']
    """
    return {
        row.name: [bilinear_kernel(row.layer.step[0], row.layer.filters)]
        for row in trace(net)
        if isinstance(row.layer, Conv2DTranspose) and row.name.startswith("enlarge")
    }


# Dilation.


def dilate(net: Architecture, stride: int) -> Architecture:
    """The network without the strides beyond `stride`: later windows are dilated as much as the steps would have been.

    So every layer keeps its weights and sees the same pixels of its input, but maps stay at 1/`stride` of the image
    (Chen et al. 2015; Yu and Koltun 2016). A pool beyond that keeps its window with stride 1.

    >>> from toolkit.layers import Conv2D
    >>> net = Architecture("two", (64, 64, 3), (Conv2D(8, 3, strides=2), Conv2D(8, 3, strides=2), Conv2D(8, 3)))
    >>> [(layer.strides, layer.dilation_rate) for layer in dilate(net, 2).layers]
    [(2, 1), (1, 1), (1, (2, 2))]
    """
    require_whole("stride", stride)
    layers, _, _ = _dilated(net.layers, 1, 1, stride)
    return Architecture(f"{net.name}_dilated", net.input_shape, layers)


def _dilated(path: Path, jump: int, rate: int, most: int) -> tuple[Path, int, int]:
    """The path from a map at stride `jump` on, windows `rate` times wider; and both numbers at its end."""
    found: list[Layer | Branches] = []
    for step in path:
        if isinstance(step, Branches):
            parts = [_dilated(inner, jump, rate, most) for inner in step.paths]
            found.append(replace(step, paths=tuple(part for part, _, _ in parts)))
            jump, rate = max(part[1] for part in parts), max(part[2] for part in parts)
            continue
        stays = jump * round(step.jump()[0]) > most
        found.append(_widened(step, rate, stays))
        jump, rate = (jump, rate * round(step.jump()[0])) if stays else (jump * round(step.jump()[0]), rate)
    return tuple(found), jump, rate


def _widened(layer: Layer, rate: int, stays: bool) -> Layer:
    """The layer with its window `rate` times wider and, where the map `stays` as large as it is, without a step."""
    if isinstance(layer, Pooling2D) and stays:
        return replace(layer, strides=1, padding="same")
    if not isinstance(layer, Windowed):
        return layer
    changed = replace(layer, strides=1) if stays else layer
    if rate == 1 or layer.window == (1, 1):
        return changed
    return replace(changed, dilation_rate=(layer.dilation[0] * rate, layer.dilation[1] * rate))


# U-Net.


def unet(input_shape: Shape = (128, 128, 3), classes: int = 11, channels: int = 16, depth: int = 4) -> Architecture:
    """A small U-Net (Ronneberger et al. 2015, figure 1): down `depth` pools and up again, joined at each resolution.

    With "same" padding and normalization, 16 channels at first where the paper has 64.

    >>> [row.output_shape for row in trace(unet()) if row.type == "Concatenate"]
    [(16, 16, 256), (32, 32, 128), (64, 64, 64), (128, 128, 32)]
    """
    require_whole("channels", channels)
    require_whole("depth", depth)
    require_whole("classes", classes, least=2)
    steps = 2**depth
    if len(input_shape) == 3 and (input_shape[0] % steps or input_shape[1] % steps):
        near = " × ".join(str(max(round(length / steps), 1) * steps) for length in input_shape[:2])
        raise InputError(
            f"a U-Net with {depth} pools needs a height and a width that are multiples of {steps}; "
            f"{input_shape[0]} × {input_shape[1]} came; give {near}"
        )
    scores = (Conv2D(classes, 1, name="score1"), Activation("softmax", name="probabilities"))
    return Architecture("unet", input_shape, (*_level(0, depth, channels), *scores))


def _level(level: int, depth: int, channels: int) -> Path:
    """One resolution of a U-Net, with all below it in a branch."""
    filters = channels * 2**level
    down = _block(filters, 2, f"down{level}_")
    if level == depth:
        return down
    enlarged = Conv2DTranspose(filters, 2, strides=2, name=f"larger{level}")
    below = (MaxPooling2D(2, name=f"pool{level}"), *_level(level + 1, depth, channels), enlarged)
    joined = Branches("concatenate", (below, ()), name=f"join{level}")
    return (*down, joined, *_block(filters, 2, f"up{level}_"))


# By name.

# What each network adds to its base, by the name that a training knows it by; U-Net brings its own base.
HEADS: dict[str, Callable[[Architecture, int], Architecture]] = {
    "fcn32s": lambda base, classes: fcn(base, classes, 32),
    "fcn16s": lambda base, classes: fcn(base, classes, 16),
    "fcn8s": lambda base, classes: fcn(base, classes, 8),
    "fcn4s": lambda base, classes: fcn(base, classes, 4),
    "dilated": dilated,
}
NETWORKS = (*HEADS, "unet")
# What they can be taught by: see `pixel_losses.PixelLoss`.
LOSSES = ("cross_entropy", "focal", "dice", "cross_entropy_dice")
