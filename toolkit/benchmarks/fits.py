"""The inside of the training benchmark: what its workers do. It imports Keras, and only workers import it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from toolkit.benchmarks import in_turn
from toolkit.fitting import Run, compiled, fit_arguments, limit_threads, prepare, train_model
from toolkit.processes import Context
from toolkit.training import network_of

if TYPE_CHECKING:
    from toolkit.benchmarks.training import Bare, Overhead

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
