"""The inside of the training benchmark: what its workers do. It imports Keras, and only workers import it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import keras
import numpy as np

from toolkit import system
from toolkit.architectures import architecture
from toolkit.benchmarks import in_turn
from toolkit.benchmarks.experiments import EXPERIMENTS
from toolkit.benchmarks.speed import BATCH, LEARNING_RATE, MOMENTUM, TorchPeer
from toolkit.build import build
from toolkit.datasets import DATASETS
from toolkit.fitting import Run, Split, compiled, fit_arguments, limit_threads, prepare, train_model
from toolkit.layers import Architecture
from toolkit.processes import Context
from toolkit.recipes import Recipe
from toolkit.training import TrainConfig, network_of

if TYPE_CHECKING:
    from toolkit.benchmarks.speed import Race
    from toolkit.benchmarks.training import Bare, Overhead
    from toolkit.benchmarks.zoo import Smoke

Times = tuple[list[float], list[float]]


def in_one_process(task: Overhead, context: Context) -> tuple[Times, Times]:
    """(ours, bare) wall seconds and (ours, bare) CPU seconds of equal fits, in turn, each model compiled before."""
    limit_threads(context.threads)
    data = prepare(task.config)
    net = network_of(task.config, data.info)
    models = [compiled(task.config, net, data) for _ in range(2)]
    cpu: Times = ([], [])

    def timed(which: int, fit: Callable[[], object]) -> float:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        fit()
        cpu[which].append(time.process_time() - cpu_begun)
        return time.perf_counter() - begun

    def ours(fits: object = None) -> float:
        run = Run(task.config, context, net, data, models[0])
        return timed(0, lambda: train_model(run, lambda: None))

    def bare() -> float:
        return timed(1, lambda: models[1].fit(**fit_arguments(task.config, data)))

    ours(), bare()
    for times in cpu:
        times.clear()
    return in_turn(ours, bare, task.pairs, task.seconds), cpu


def bare(task: Bare, context: Context) -> float:
    """Wall seconds of `model.fit`, the first step's compilation included, as `TrainResult.seconds` has them."""
    limit_threads(context.threads)
    data = prepare(task.config)
    model = compiled(task.config, network_of(task.config, data.info), data)
    begun = time.perf_counter()
    model.fit(**fit_arguments(task.config, data))
    return time.perf_counter() - begun


def smoke(task: Smoke, context: Context) -> dict[str, tuple[float, float]]:
    """(seconds, training loss) of each experiment on a few digits, eagerly: compiling would take longer than that."""
    limit_threads(context.threads)
    found = {}
    for name in task.names:
        begun = time.perf_counter()
        config = EXPERIMENTS[name].smoke(task.seed)
        data = prepare(config)
        model = compiled(config, network_of(config, data.info), data)
        model.run_eagerly = True
        history = model.fit(**fit_arguments(config, data)).history
        found[name] = (time.perf_counter() - begun, float(history["loss"][0]))
    return found


def race(task: Race, context: Context) -> dict[str, list[float]]:
    """Seconds of each round: ours, ours in float32, a bare `model.fit`, and PyTorch where there is one.

    Each round begins with another of them. Pixels are noise, which takes as long as pictures.
    """
    limit_threads(context.threads)
    data = _noise(task)
    net = architecture(task.network, data.info.image_shape, data.info.classes)
    with ExitStack() as stack:
        racers: dict[str, Callable[[], float]] = {
            "ours": _ours(task, data, task.precision, context),
            "float32": _ours(task, data, "float32", context),
            "bare": _bare_fit(net, data, task.seed),
        }
        if task.torch:
            threads = context.threads or system.cpu_count()
            racers["torch"] = stack.enter_context(TorchPeer(task.torch, net, task.images, threads)).epoch
        for racer in racers.values():
            racer()
        seconds: dict[str, list[float]] = {name: [] for name in racers}
        for number in range(task.rounds):
            names = list(racers)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                seconds[name].append(racers[name]())
    return seconds


def _noise(task: Race) -> Split:
    """Images like CIFAR-10's that show nothing."""
    rng, info = np.random.default_rng(task.seed), DATASETS["cifar10"]
    images = rng.integers(0, 256, (task.images + 32, *info.image_shape), dtype=np.uint8)
    labels = rng.integers(0, info.classes, len(images))
    train, rest = slice(0, task.images), slice(task.images, None)
    return Split(info, images[train], labels[train], images[rest], labels[rest], images[rest], labels[rest])


def _ours(task: Race, data: Split, precision: str, context: Context) -> Callable[[], float]:
    """Our training, augmentation, reports and all, of one epoch."""
    rule = {"optimizer": "sgd", "learning_rate": LEARNING_RATE, "momentum": MOMENTUM, "schedule": "constant"}
    recipe = Recipe(**rule, batch_size=BATCH, epochs=1, flip="alternating", shift=2, precision=precision)  # type: ignore[arg-type]
    config = TrainConfig(dataset="cifar10", architecture=task.network, recipe=recipe, seed=task.seed)
    net = network_of(config, data.info)
    model = compiled(config, net, data)
    return lambda: _timed(lambda: train_model(Run(config, context, net, data, model), lambda: None))


def _bare_fit(net: Architecture, data: Split, seed: int) -> Callable[[], float]:
    """What a person writes: the images as floats from 0 to 1, and `model.fit`."""
    model = build(net, seed=seed)
    rule = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    model.compile(rule, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x, validation = data.x_train.astype(np.float32) / 255, data.x_validation.astype(np.float32) / 255
    arguments = {"batch_size": BATCH, "validation_data": (validation, data.y_validation), "verbose": 0}
    return lambda: _timed(lambda: model.fit(x, data.y_train, **arguments))


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
