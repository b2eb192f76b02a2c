"""What our training costs beside Keras's own, how fast it starts and stops, and what it leaves behind."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from toolkit import processes, system
from toolkit.benchmarks import Check, Measured, Row, in_turn, median_ratio
from toolkit.processes import Ending, start_worker
from toolkit.training import ENDED, Done, Event, Failed, Started, Step, TrainConfig, train

OVERHEAD_LIMIT = 1.05
FIRST_STEP_LIMIT, STOP_LIMIT, GROWTH_LIMIT = 5.0, 1.0, 0.2

MIB = 2**20


@dataclass(frozen=True)
class Overhead:
    """A task for a worker: time our fit and a bare `model.fit` of equal models, in turn, compiled before."""

    config: TrainConfig
    pairs: int
    seconds: float

    work: ClassVar[str] = "toolkit.benchmarks.fits:in_one_process"

    def ended(self, ending: Ending) -> object:
        raise RuntimeError(f"the benchmark's process ended: {ending}")


@dataclass(frozen=True)
class Bare:
    """A task for a worker: what `train` does in its process, with Keras alone; returns the seconds of `model.fit`."""

    config: TrainConfig

    work: ClassVar[str] = "toolkit.benchmarks.fits:bare"

    def ended(self, ending: Ending) -> object:
        raise RuntimeError(f"the benchmark's process ended: {ending}")


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` does the same on less work."""
    config = TrainConfig(seed=seed, schedule="constant")
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        warm = _warm_up()
        parts = [
            _overhead(replace(config, epochs=2), folder, 20 if quick else 60, 12.0 if quick else 120.0),
            _processes(replace(config, epochs=2 if quick else 20), folder, 2 if quick else 5),
            _starts_and_stops(replace(config, epochs=10**6), folder, 5 if quick else 30),
        ]
        if not quick:
            parts.append(_side_by_side(replace(config, epochs=20), folder, 3))
    rows = [row for part in parts for row in part.rows]
    return Measured((*warm, *rows), tuple(check for part in parts for check in part.checks))


def _warm_up() -> tuple[Row, ...]:
    """Seconds until the fork server is ready; nothing where workers are not forked."""
    server = processes.launcher()
    if not isinstance(server, processes.ForkServer):
        return ()
    begun = time.perf_counter()
    server.threads()
    return (Row.of("fork server: start to ready", "s", [time.perf_counter() - begun]),)


def _overhead(config: TrainConfig, folder: Path, pairs: int, seconds: float) -> Measured:
    """Our fit beside a bare one, in one process of one thread.

    The promise is held against CPU seconds: where others use the machine too, wall seconds measure the others. Nothing
    in our fit waits, so that both tell the same on an idle machine.
    """
    worker = start_worker(Overhead(config, pairs, seconds), folder / "overhead", threads=1)
    *_, ((ours, bare), (ours_cpu, bare_cpu)) = (event for event in worker.events() if event is not None)
    ratio = median_ratio(ours_cpu, bare_cpu)
    rows = (
        Row.of("our fit", "CPU s", ours_cpu),
        Row.of("model.fit", "CPU s", bare_cpu),
        Row.of("our fit / model.fit, pairs", "CPU ratio", [a / b for a, b in zip(ours_cpu, bare_cpu, strict=True)]),
        Row.of("our fit / model.fit, pairs", "wall ratio", [a / b for a, b in zip(ours, bare, strict=True)]),
    )
    return Measured(rows, (Check.at_most("overhead of training, CPU seconds", ratio, OVERHEAD_LIMIT),))


def _processes(config: TrainConfig, folder: Path, pairs: int) -> Measured:
    """A whole run of ours beside a process that only builds the model and calls `model.fit`."""

    def ours() -> float:
        return _done(train(config, folder / "ours", threads=1)).result.seconds

    def bare() -> float:
        worker = start_worker(Bare(config), folder / "bare", threads=1)
        *_, seconds = (event for event in worker.events() if event is not None)
        return float(seconds)

    found = in_turn(ours, bare, pairs, seconds=0)
    return Measured((Row.of("our run", "s", found[0]), Row.of("a process with model.fit", "s", found[1])), ())


def _done(events: Iterator[Event]) -> Done:
    *_, last = events
    if not isinstance(last, Done):
        raise RuntimeError(f"a training of the benchmark gave no result: {last}")
    return last


@dataclass(frozen=True)
class _Life:
    """Seconds of one run: start to the first event, start to the first step, stop to the result."""

    begun: float
    first_step: float
    stopped: float


def _live(config: TrainConfig, folder: Path, steps: int) -> _Life:
    """Start a run, stop it after so many reported steps. One that had to be ended counts until then."""
    stop, started_at = threading.Event(), time.perf_counter()
    begun = first_step = stopped_at = 0.0
    for event in train(config, folder, stop, threads=1):
        now = time.perf_counter()
        if isinstance(event, Started):
            begun = now - started_at
        elif isinstance(event, Step):
            first_step = first_step or now - started_at
            steps -= 1
        if steps == 0 and not stop.is_set():
            stopped_at = now
            stop.set()
    if not isinstance(event, Done) and event != Failed(ENDED):
        raise RuntimeError(f"a training of the benchmark gave no result: {event}")
    return _Life(begun, first_step, time.perf_counter() - stopped_at)


def _starts_and_stops(config: TrainConfig, folder: Path, runs: int) -> Measured:
    """Runs that are stopped soon; and how much this process and the fork server grow over them."""
    memory: list[tuple[int, ...]] = []
    lives = []
    for number in range(runs):
        lives.append(_live(config, folder / "stopped", steps=1 + number % 3))
        memory.append(_memory())
    growth = [(now - before) / MIB for now, before in zip(memory[-1], memory[1], strict=True)]
    rows = (
        Row.of("start to data loaded and network built", "s", [life.begun for life in lives]),
        Row.of("start to first step", "s", [life.first_step for life in lives]),
        Row.of("stop to result", "s", [life.stopped for life in lives]),
        *(Row.of(f"growth of {who} a run", "MiB", [mib / (runs - 2)]) for who, mib in zip(_WHO, growth, strict=False)),
    )
    checks = [
        Check.at_most("slowest stop, seconds", max(life.stopped for life in lives), STOP_LIMIT),
        Check.at_most("growth of the parent a run, MiB", growth[0] / (runs - 2), GROWTH_LIMIT),
    ]
    if processes.can_fork():
        first_steps = Row.of("", "s", [life.first_step for life in lives])
        checks.append(Check.at_most("start to first step, seconds", first_steps.median, FIRST_STEP_LIMIT))
    return Measured(rows, tuple(checks))


_WHO = ("this process", "the fork server")


def _memory() -> tuple[int, ...]:
    """Resident bytes of this process, and of the fork server where there is one."""
    server = processes.launcher()
    others = [server.pid] if isinstance(server, processes.ForkServer) and server.pid else []
    return tuple(system.process_memory(pid) for pid in (None, *others))


def _side_by_side(config: TrainConfig, folder: Path, pairs: int) -> Measured:
    """Two models at once, one thread each, beside one after the other with all processors."""

    def together() -> float:
        begun = time.perf_counter()
        runs = [threading.Thread(target=_run, args=(config, folder / name, 1)) for name in ("a", "b")]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        return time.perf_counter() - begun

    def in_sequence() -> float:
        begun = time.perf_counter()
        for name in ("a", "b"):
            _run(config, folder / name, None)
        return time.perf_counter() - begun

    found = in_turn(together, in_sequence, pairs, seconds=0)
    return Measured(
        (Row.of("two models side by side", "s", found[0]), Row.of("one after the other", "s", found[1])), ()
    )


def _run(config: TrainConfig, folder: Path, threads: int | None) -> None:
    _done(train(config, folder, threads=threads))
