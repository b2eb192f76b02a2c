"""Two measurements about architectures: how long a forward pass takes beside its MACs, and what shortcuts are for.

The forward passes are those of the book's networks with random weights, timed in seconds of the processor, all cores
together: where others use the machine too, wall seconds measure the others. The shortcuts are left out of and put into
networks of equal parameters, shallow and deep (He et al. 2016, figure 6, in small).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import ClassVar

from toolkit.architectures import architecture
from toolkit.benchmarks import Check, Measured, Row
from toolkit.benchmarks.trials import MOMENTUM, Trial, Tried, accuracy, more, row, try_out
from toolkit.costs import costs
from toolkit.datasets import DATASETS
from toolkit.layers import (
    Activation,
    Architecture,
    BatchNormalization,
    Branches,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    Shape,
)
from toolkit.processes import Ending, follow
from toolkit.training import TrainConfig

SEEDS = 3
FULL = TrainConfig(dataset="cifar10", epochs=6, train_limit=1_000, batch_size=32)
SHALLOW, DEEP = 8, 26
# How much better a deep network learns its training images with shortcuts than without, as a share of 1; and by how
# much the fastest network passes the slowest in MACs a second.
ADDED, APART = 0.05, 2.0

NETWORKS = (*("alexnet", "vgg16", "googlenet", "resnet50", "se_resnet50", "xception", "mobilenet_v2", "vit_tiny"),)
QUICK_NETWORKS = ("alexnet", "googlenet", "mobilenet_v2")


@dataclass(frozen=True)
class Passes:
    """A task for a worker: time forward passes of a batch through networks of these names."""

    networks: tuple[str, ...]
    batch: int
    passes: int

    work: ClassVar[str] = "toolkit.benchmarks.trial_fits:pass_forward"

    def ended(self, ending: Ending) -> object:
        return f"the process ended ({ending.exit_code}): {ending.log}", []


def deep_cnn(
    depth: int, shortcuts: bool, input_shape: Shape = (32, 32, 3), classes: int = 10, channels: int = 16
) -> Architecture:
    """`depth` 3 × 3 convolutions with batch normalization, and a head; behind the first the maps are halved twice.

    Behind the second they come in pairs. With `shortcuts` each pair is added to its input, else it only follows it.
    Both have the same parameters.

    >>> [costs(deep_cnn(8, shortcuts)).params for shortcuts in (True, False)]
    [17242, 17242]
    """
    conv = Conv2D(channels, 3, strides=2, padding="same", use_bias=False)
    first = (conv, BatchNormalization(momentum=MOMENTUM), Activation("relu"), MaxPooling2D(2))
    pairs = (step for _ in range(depth // 2 - 1) for step in _pair(channels, shortcuts))
    head = (GlobalAveragePooling2D(), Dense(classes, activation="softmax"))
    return Architecture("deep_cnn", input_shape, (*first, *_norm_conv(channels), *pairs, *head))


def _name(depth: int, shortcuts: bool) -> str:
    return f"{depth} layers {'with' if shortcuts else 'without'} shortcuts"


def _norm_conv(channels: int) -> tuple[Layer, ...]:
    """A convolution, its normalization and ReLU."""
    conv = Conv2D(channels, 3, padding="same", use_bias=False)
    return conv, BatchNormalization(momentum=MOMENTUM), Activation("relu")


def _pair(channels: int, shortcuts: bool) -> tuple[Layer | Branches, ...]:
    """Two convolutions, added to their input before the last ReLU or not."""
    *path, relu = (*_norm_conv(channels), *_norm_conv(channels))
    return (Branches("add", (tuple(path), ())), relu) if shortcuts else (*path, relu)


def measure(quick: bool, seed: int) -> Measured:
    """Time all networks and train deep ones on CIFAR-10; `quick` times three and trains on some digits."""
    if quick:
        config = TrainConfig(epochs=3, batch_size=32, train_limit=600)
        parts = (_passes(Passes(QUICK_NETWORKS, 1, 3)), _depths(config, range(seed, seed + 1), 20))
    else:
        parts = (_passes(Passes(NETWORKS, 2, 3)), _depths(FULL, range(seed, seed + SEEDS), DEEP))
    rows = tuple(row for part in parts for row in part.rows)
    return Measured(rows, tuple(check for part in parts for check in part.checks))


def _passes(task: Passes) -> Measured:
    """Processor time of a forward pass for one image, and the MACs of it in a second of that."""
    rows, speeds = list[Row](), list[float]()
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as folder:
        for name, seconds in follow(task, Path(folder)):
            if not seconds:
                raise RuntimeError(f"a forward pass of the benchmark gave no result: {name}")
            each, macs = [second / task.batch for second in seconds], costs(architecture(name)).macs
            rows.append(Row.of(f"{name}: forward pass of an image", "CPU ms", [1000 * second for second in each]))
            rows.append(Row.of(f"{name}: speed", "GMAC / CPU s", [macs / second / 1e9 for second in each]))
            speeds.append(macs / median(each))
            sys.stderr.write(f"{name}: {1000 * median(each):.1f} ms an image\n")
    apart = Row.of("MACs in a second: the fastest network over the slowest", "ratio", [max(speeds) / min(speeds)])
    return Measured((*rows, apart), (Check.at_least(apart.what, apart.median, APART),))


def _depths(config: TrainConfig, seeds: Sequence[int], deep: int) -> Measured:
    tried = try_out(_trials(config, seeds, deep))
    what = f"training accuracy that shortcuts add to {deep} layers"
    added = more(tried, _name(deep, True), _name(deep, False), _train_accuracy, what)
    return Measured((*_rows(tried, deep), added), (Check.at_least(what, added.median, ADDED),))


def _trials(config: TrainConfig, seeds: Sequence[int], deep: int) -> Iterator[Trial]:
    info = DATASETS[config.dataset]
    for seed in seeds:
        for depth, shortcuts in _kinds(deep):
            net = deep_cnn(depth, shortcuts, info.image_shape, info.classes)
            yield Trial(_name(depth, shortcuts), replace(config, network=net, seed=seed))


def _kinds(deep: int) -> tuple[tuple[int, bool], ...]:
    return tuple((depth, shortcuts) for depth in (SHALLOW, deep) for shortcuts in (False, True))


def _train_accuracy(tried: Tried) -> float:
    return tried.train_accuracy


def _rows(tried: Sequence[Tried], deep: int) -> Iterator[Row]:
    for kind in _kinds(deep):
        yield row(tried, _name(*kind), _train_accuracy, "training accuracy")
        yield row(tried, _name(*kind), accuracy, "test accuracy")
