"""Who measures when: measurements of memory for a page with many visitors, one at a time and within limits.

A measurement builds the network in a process of its own and takes a few real steps; an estimate by probing or compiling
is found in the same way. It belongs to the visitor who asked for it: when that visitor leaves, the process ends.
"""

import asyncio
import atexit
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from toolkit import show, system
from toolkit.costs import Network, rows_of
from toolkit.errors import InputError
from toolkit.jobs import Limits, memory_limit
from toolkit.memory import Asked, Failed, Measurement, Progress, probe_batches, start_estimating, start_measuring
from toolkit.memory_reports import predicted
from toolkit.runtimes import MemoryEstimate

MeasuringState = Literal["waiting", "running", "done", "failed"]
# Ended measurements that can still be looked at.
KEPT = 64
STOPPED = "stopped before it was done"


@dataclass(frozen=True)
class Question:
    """What is to be measured: one step of a network, under these conditions.

    method: "measuring", or "probing" or "compiling", which end with an estimate (see `memory.estimate_memory`).
    """

    net: Network
    batch_size: int = 1
    training: bool = True
    dtype_policy: str = "float32"
    optimizer: str = "adam"
    name: str = "model"
    method: str = "measuring"
    accumulation_steps: int = 1

    @property
    def largest_step(self) -> int:
        """The most images that any process of this method computes at once; compiling computes none."""
        return {"measuring": self.batch_size, "probing": probe_batches(self.batch_size)[-1]}.get(self.method, 1)

    @property
    def estimate(self) -> MemoryEstimate:
        """What arithmetic says; raises InputError where the question makes no sense."""
        return predicted(
            tuple(rows_of(self.net)),
            self.batch_size,
            self.training,
            self.dtype_policy,
            self.optimizer,
            name=getattr(self.net, "name", self.name),
            accumulation_steps=self.accumulation_steps,
        )


@dataclass(frozen=True)
class MeasuringView:
    """One measurement at one moment. `place` counts those ahead of it plus one while it waits; `stage` says how far the
    process is (see `memory.Progress`). `estimated` is the answer of a method that measures nothing itself.
    """

    estimate: MemoryEstimate
    state: MeasuringState
    place: int
    stage: str
    seconds: float
    measurement: Measurement | None
    message: str
    estimated: MemoryEstimate | None = None
    method: str = "measuring"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("done", "failed")


@dataclass
class _Measuring:
    """Touched under the registry's lock only."""

    id: str
    owner: str
    question: Question
    estimate: MemoryEstimate
    state: MeasuringState = "waiting"
    begun: float = 0.0
    stage: str = ""
    worker: Asked | None = None
    seconds: float = 0.0
    measurement: Measurement | None = None
    estimated: MemoryEstimate | None = None
    message: str = ""

    def end(self, message: str) -> None:
        self.state, self.message = "failed", message
        if self.worker is not None:
            self.worker.kill()


@dataclass(frozen=True)
class Caps:
    """What a measurement may take: bytes for the whole process, seconds, and a folder for its log."""

    memory_bytes: int
    seconds: float
    folder: Path


Start = Callable[[Question, Caps], Asked]


class Measurements:
    """The registry. Every method may be called from any thread and none waits.

    `folder` is for the logs of the processes; `start` begins a measurement, `clock` gives seconds and `memory` the
    bytes that are free. `tick` does the work that time brings; a thread calls it ten times a second while there is
    any, unless `watchman` is false.
    """

    def __init__(
        self,
        limits: Limits,
        folder: Path,
        *,
        start: Start | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] = system.available_memory,
        watchman: bool = True,
    ) -> None:
        self.limits, self.folder = limits, folder
        self._start = start or _start
        self._clock, self._memory, self._watchman = clock, memory, watchman
        self._all: dict[str, _Measuring] = {}
        self._lock = threading.RLock()
        self._watched = False
        atexit.register(self.close)

    def submit(self, question: Question, owner: str) -> str:
        """Put a measurement in line and return its unguessable id; raises InputError where it is too large."""
        estimate, limit = question.estimate, memory_limit(self.limits, self._memory())
        needed = replace(question, batch_size=question.largest_step).estimate.process_bytes
        if needed > limit:
            raise InputError(
                f"this step is predicted to reach {show.readable_bytes(needed)} and a measurement may "
                f"have {show.readable_bytes(limit)}; choose a smaller batch, or measure it on your own machine: "
                "python -m toolkit measure"
            )
        with self._lock:
            self._refuse_crowds(owner)
            new = _Measuring(secrets.token_urlsafe(16), owner, question, estimate)
            self._all[new.id] = new
            self._begin_next()
            self._wake()
        return new.id

    async def followed(self, question: Question, owner: str, pause: float = 0.25) -> AsyncIterator[MeasuringView]:
        """Put a measurement in line and view it every `pause` seconds until it has ended; raises as `submit` does.

        It costs a coroutine and no thread while it waits.
        """
        asked = await asyncio.to_thread(self.submit, question, owner)
        while not (view := self.view(asked)).ended:
            yield view
            await asyncio.sleep(pause)
        yield view

    def view(self, measuring_id: str) -> MeasuringView:
        """The measurement at this moment; raises InputError where it is not known (any more)."""
        with self._lock:
            found = self._find(measuring_id)
            seconds = self._clock() - found.begun if found.state == "running" else found.seconds
            return MeasuringView(
                estimate=found.estimate,
                state=found.state,
                place=self._place(found),
                stage=found.stage,
                seconds=seconds,
                measurement=found.measurement,
                message=found.message,
                estimated=found.estimated,
                method=found.question.method,
            )

    def leave(self, owner: str) -> None:
        """Note that a visitor is gone: what was asked for is not needed any more."""
        self._end_those_of(owner, "stopped, because the page was left")

    def stop(self, owner: str) -> None:
        """End what this visitor has asked for, at once; what was found before stays."""
        self._end_those_of(owner, STOPPED)

    def _end_those_of(self, owner: str, message: str) -> None:
        with self._lock:
            for each in self._active():
                if each.owner == owner:
                    each.end(message)

    def tick(self) -> None:
        """Read what the running measurement says, hold the limits, begin the next one."""
        with self._lock:
            for each in self._active():
                if each.worker is not None:
                    self._tend(each, each.worker)
            self._begin_next()
            ended = [each for each in self._all.values() if each.state in ("done", "failed")]
            for each in ended:
                self._clear(each)
            for each in ended[:-KEPT]:
                del self._all[each.id]

    def close(self) -> None:
        """End every process. Safe to call twice."""
        with self._lock:
            for each in self._active():
                each.end("stopped, because the server ends")
        atexit.unregister(self.close)

    def _active(self) -> list[_Measuring]:
        return [each for each in self._all.values() if each.state in ("waiting", "running")]

    def _refuse_crowds(self, owner: str) -> None:
        active = self._active()
        if any(each.owner == owner for each in active):
            raise InputError("your measurement is still running; wait for it to end")
        if len(active) > self.limits.waiting:
            raise InputError(f"{len(active)} measurements are in line already; please try again in a minute")

    def _find(self, measuring_id: str) -> _Measuring:
        try:
            return self._all[measuring_id]
        except KeyError:
            raise InputError("this measurement is no longer here; measure again") from None

    def _place(self, found: _Measuring) -> int:
        waiting = [each.id for each in self._all.values() if each.state == "waiting"]
        return waiting.index(found.id) + 1 if found.id in waiting else 0

    def _begin_next(self) -> None:
        active = self._active()
        if active and all(each.state == "waiting" for each in active):
            active[0].state, active[0].begun = "running", self._clock()
            threading.Thread(target=self._launch, args=(active[0],), daemon=True, name="measure").start()

    def _launch(self, begun: _Measuring) -> None:
        """Start the process. A cold start takes seconds, so it happens outside the lock."""
        memory = memory_limit(self.limits, self._memory())
        try:
            worker = self._start(begun.question, Caps(memory, self.limits.measure_seconds, self._folder(begun)))
        except Exception as error:  # whatever it is, it must reach the page and not this thread's end
            with self._lock:
                begun.end(f"the measurement could not start: {error}")
            return
        with self._lock:
            begun.worker = worker
            if begun.state == "failed":  # it was left meanwhile
                worker.kill()

    def _tend(self, each: _Measuring, worker: Asked) -> None:
        alive = worker.alive  # asked before reading, so that the last words of a process that ends now are read
        for event in worker.poll():
            match event:
                case Progress(stage):
                    each.stage = stage
                case Measurement():
                    each.state, each.measurement, each.seconds = "done", event, self._clock() - each.begun
                case MemoryEstimate():
                    each.state, each.estimated, each.seconds = "done", event, self._clock() - each.begun
                case Failed(words):
                    each.end(words)
        if each.state == "running" and not alive:
            each.end("the measuring process ended without a word; try again")
        elif each.state == "running" and self._clock() - each.begun > self.limits.measure_seconds:
            each.end(
                f"stopped after {self.limits.measure_seconds:.0f} seconds, the limit of this server; choose a smaller "
                "network or batch"
            )

    def _clear(self, ended: _Measuring) -> None:
        """Remove the folder of a measurement that has ended."""
        if ended.worker is not None and not ended.worker.alive:
            shutil.rmtree(self._folder(ended), ignore_errors=True)
            ended.worker = None

    def _folder(self, each: _Measuring) -> Path:
        return self.folder / f"measurement-{each.id}"

    def _wake(self) -> None:
        if self._watchman and not self._watched:
            self._watched = True
            threading.Thread(target=self._keep_watch, daemon=True, name="measurements").start()

    def _keep_watch(self) -> None:
        while True:
            self.tick()
            with self._lock:
                if not self._active() and not any(each.worker for each in self._all.values()):
                    self._watched = False
                    return
            time.sleep(0.1)


def _start(question: Question, caps: Caps) -> Asked:
    conditions: dict[str, Any] = {
        "training": question.training,
        "dtype_policy": question.dtype_policy,
        "optimizer": question.optimizer,
        "accumulation_steps": question.accumulation_steps,
        "limit_bytes": caps.memory_bytes,
        "timeout": caps.seconds,
        "folder": caps.folder,
    }
    if question.method == "measuring":
        return start_measuring(question.net, question.batch_size, **conditions)
    return start_estimating(question.net, question.batch_size, method=question.method, **conditions)
