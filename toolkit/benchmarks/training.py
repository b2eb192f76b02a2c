"""What our training costs beside Keras's own, how fast it starts and stops, and what it leaves behind."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from toolkit import processes, system
from toolkit.benchmarks import Check, Measured, Row, in_turn, median_ratio
from toolkit.processes import Context, Ending, StopFlag, start_worker
from toolkit.training import Done, Event, Started, Step, TrainConfig, train

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
