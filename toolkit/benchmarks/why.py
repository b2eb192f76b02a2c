"""What convolution knows of images: a convolutional network beside dense ones, on images, moved ones, shuffled ones.

The dense network has as many parameters as the convolutional one, as near as whole units go; a second dense network
has 512 hidden units. All see the same images in the same order. On shuffled pixels neighbours mean nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from toolkit.architectures import dense_baseline, small_cnn
from toolkit.benchmarks import Check, Measured, Row
from toolkit.benchmarks.trials import Trial, Tried, accuracy, more, moved_accuracy, row, try_out
from toolkit.costs import costs
from toolkit.datasets import DATASETS
from toolkit.layers import Architecture, Rescaling, Shape
from toolkit.training import TrainConfig

SEEDS = 3
FULL = TrainConfig(epochs=8, train_limit=1_000, batch_size=32)
TESTED = 1000
MOVES = (1, 2, 3, 4)
# Accuracy that convolution adds, as shares of 1: on images as they are at least so much, and on those moved by three
# pixels (the 359 digits are too few, and too easy, for the first); on shuffled pixels at most so much.
ADDED = {"mnist": 0.01, "cifar10": 0.01}
MOVED = {"mnist": 0.10, "digits": 0.02}
LEFT = 0.01

CENTRED = Rescaling(scale=1 / 127.5, offset=-1.0, name="rescaling")
CONV, DENSE, LARGE = "convolutional", "dense", "dense, 512 units"


def equal_dense(net: Architecture, classes: int) -> Architecture:
    """One hidden layer with the number of units that brings its parameters nearest to those of `net`.

    >>> costs(small_cnn()).params, costs(equal_dense(small_cnn(), 10)).params
    (54666, 54865)
    """
    inputs = costs(dense_baseline(net.input_shape, classes, 1)).params - 2 * classes
    units = round((costs(net).params - classes) / (inputs + classes))
    return dense_baseline(net.input_shape, classes, max(units, 1))


def networks(input_shape: Shape, classes: int) -> dict[str, Architecture]:
    """The networks that are compared, by the names of the rows.

    Colours come into them centred, from -1 to 1: with pixels from 0 to 1, all above zero, the few units of the small
    dense network were all dead within the first steps.
    """
    net = small_cnn(input_shape, classes, channels=8)
    nets = {CONV: net, DENSE: equal_dense(net, classes), LARGE: dense_baseline(input_shape, classes, 512)}
    if input_shape[-1] == 1:
        return nets
    return {name: replace(net, layers=(CENTRED, *net.layers)) for name, net in nets.items()}


def measure(quick: bool, seed: int) -> Measured:
    """Train everything on MNIST and CIFAR-10; `quick` on the digits that are always there, with one seed."""
    if quick:
        return _measured("digits", try_out(_trials(TrainConfig(epochs=8, batch_size=32), range(seed, seed + 1))))
    parts = []
    for dataset in ("mnist", "cifar10"):
        config = replace(FULL, dataset=dataset)
        parts.append(_measured(dataset, try_out(_trials(config, range(seed, seed + SEEDS)))))
    rows = tuple(row for part in parts for row in part.rows)
    return Measured(rows, tuple(check for part in parts for check in part.checks))


def _trials(config: TrainConfig, seeds: Sequence[int]) -> Iterator[Trial]:
    """For each seed the networks on the images as they are; the first two, of equal size, on shuffled pixels, too."""
    info = DATASETS[config.dataset]
    for seed in seeds:
        for name, net in networks(info.image_shape, info.classes).items():
            settings = replace(config, network=net, seed=seed)
            yield Trial(name, settings, moves=MOVES if config.dataset in MOVED else (), tested=TESTED)
            if name != LARGE:
                yield Trial(f"{name}, shuffled pixels", settings, shuffled=True, tested=TESTED)


def _measured(dataset: str, tried: Sequence[Tried]) -> Measured:
    shuffled = (f"{CONV}, shuffled pixels", f"{DENSE}, shuffled pixels")
    added = more(tried, CONV, DENSE, accuracy, f"{dataset}: accuracy that convolution adds")
    left = more(tried, *shuffled, accuracy, f"{dataset}: of it, on shuffled pixels")
    return Measured((*_rows(dataset, tried), added, left), tuple(_checks(dataset, tried, added, left)))


def _rows(dataset: str, tried: Sequence[Tried]) -> Iterator[Row]:
    for name in (CONV, DENSE, LARGE):
        yield _named(dataset, row(tried, name, lambda each: each.params, "parameters", ""))
        yield _named(dataset, row(tried, name, accuracy, "test accuracy"))
        if name != LARGE:
            yield _named(dataset, row(tried, f"{name}, shuffled pixels", accuracy, "test accuracy"))
        for pixels in MOVES if dataset in MOVED else ():
            yield _named(dataset, row(tried, name, moved_accuracy(pixels), f"test accuracy, moved by {pixels}"))


def _named(dataset: str, found: Row) -> Row:
    return replace(found, what=f"{dataset}, {found.what}")


def _checks(dataset: str, tried: Sequence[Tried], added: Row, left: Row) -> Iterator[Check]:
    if dataset in ADDED:
        yield Check.at_least(added.what, added.median, ADDED[dataset])
    yield Check.at_most(left.what, left.median, LEFT)
    if dataset in MOVED:
        moved = more(tried, CONV, DENSE, moved_accuracy(3), f"{dataset}: what it adds on images moved by 3 pixels")
        yield Check.at_least(moved.what, moved.median, MOVED[dataset])
