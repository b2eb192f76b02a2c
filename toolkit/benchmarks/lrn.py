"""What local response normalization brings beside none, and beside batch normalization; and what each costs.

A small network on CIFAR-10, the data on which its authors report a gain (Krizhevsky et al. 2012, section 3.3: from 13
to 11 % error with four layers). Their pixels went from 0 to 255 and ours from 0 to 1. So alpha is tried as it stands
in the paper, and times 255², which weighs our squares as the paper weighs its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from toolkit.architectures import small_cnn
from toolkit.arithmetic import require_choice
from toolkit.benchmarks import Check, Measured, Row
from toolkit.benchmarks.trials import MOMENTUM, Trial, Tried, accuracy, more, of_name, row, try_out
from toolkit.datasets import DATASETS
from toolkit.layers import Architecture, BatchNormalization, Layer, LocalResponseNormalization, Shape
from toolkit.training import TrainConfig

SEEDS = 3
FULL = TrainConfig(dataset="cifar10", epochs=8, train_limit=1_500, batch_size=32)
NONE, PAPER, SCALED, BATCH = "none", "LRN", "LRN, alpha × 255²", "batch normalization"
KINDS = (NONE, PAPER, SCALED, BATCH)
# Batch normalization is at least so much more accurate than LRN.
GAINED = 0.0


def normalized_cnn(kind: str, input_shape: Shape = (32, 32, 3), classes: int = 10) -> Architecture:
    """Three convolutions with one of `KINDS` behind the first and the second, before the pool, where AlexNet has it.

    Raises InputError for another kind.

    >>> [layer.name for layer in normalized_cnn("LRN").layers[:6]]
    ['conv1', 'norm1', 'pool1', 'conv2', 'norm2', 'pool2']
    """
    norms = {f"pool{number}": _normalization(kind, f"norm{number}") for number in (1, 2)}
    net = small_cnn(input_shape, classes)
    layers = (each for layer in net.layers if isinstance(layer, Layer) for each in (*norms.get(layer.name, ()), layer))
    return Architecture("normalized_cnn", input_shape, tuple(layers))


def _normalization(kind: str, name: str) -> tuple[Layer, ...]:
    """The layer of this kind, none where there is to be none."""
    paper = LocalResponseNormalization(name=name)
    return {
        NONE: (),
        PAPER: (paper,),
        SCALED: (replace(paper, alpha=paper.alpha * 255**2),),
        BATCH: (BatchNormalization(momentum=MOMENTUM, name=name),),
    }[require_choice("kind", kind, KINDS)]


def measure(quick: bool, seed: int) -> Measured:
    """Train everything on CIFAR-10; `quick` on some of the digits that are always there, with one seed."""
    if quick:
        return _measured(TrainConfig(epochs=3, batch_size=32, train_limit=600), range(seed, seed + 1))
    return _measured(FULL, range(seed, seed + SEEDS))


def _measured(config: TrainConfig, seeds: Sequence[int]) -> Measured:
    tried = try_out(_trials(config, seeds))
    gained = more(tried, BATCH, PAPER, accuracy, "accuracy that batch normalization has more than LRN")
    return Measured((*_rows(tried), gained), (Check.at_least(gained.what, gained.median, GAINED),))


def _trials(config: TrainConfig, seeds: Sequence[int]) -> Iterator[Trial]:
    info = DATASETS[config.dataset]
    for seed in seeds:
        for kind in KINDS:
            net = normalized_cnn(kind, info.image_shape, info.classes)
            yield Trial(kind, replace(config, network=net, seed=seed))


def _rows(tried: Sequence[Tried]) -> Iterator[Row]:
    base = median(_epochs(tried, NONE))
    for kind in KINDS:
        yield row(tried, kind, accuracy, "test accuracy")
        yield row(tried, kind, lambda each: each.train_accuracy, "training accuracy")
        yield Row.of(f"{kind}: an epoch", "CPU s", _epochs(tried, kind))
        yield Row.of(f"{kind}: an epoch over one without", "ratio", [each / base for each in _epochs(tried, kind)])


def _epochs(tried: Sequence[Tried], kind: str) -> list[float]:
    return [seconds for each in of_name(tried, kind) for seconds in each.epoch_cpu]
