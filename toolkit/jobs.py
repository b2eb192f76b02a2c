"""Who trains when: a registry of jobs for a page with many visitors.

A job is one or more runs, each in a process of its own, two at a time. What a run does is told by its view: `RunView`
is the training of a network, and other modules know other kinds. Trainings and errands (short questions, such as what a
trained network says of a photo) stand in two lines, so that a question does not wait for a training. At most `slots`
jobs train at once; the others wait in line and can see their place. A job belongs to those who watch it: when the last
viewer has been gone for `grace_seconds`, its processes end and its folder is removed. Everything a page shows is a
frozen `JobView`.
"""

import atexit
import os
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, reduce
from pathlib import Path
from string import ascii_lowercase
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, overload

import psutil

from toolkit import arithmetic, show, system
from toolkit.batches import SHARE, plan_batches
from toolkit.costs import Costs, costs
from toolkit.datasets import DATASETS, DatasetInfo
from toolkit.errors import InputError
from toolkit.processes import can_fork
from toolkit.recipes import memory_slots
from toolkit.runtimes import MemoryEstimate, predict_memory
from toolkit.training import (
    Done,
    EpochEnd,
    Failed,
    Memory,
    Started,
    Step,
    TrainConfig,
    TrainResult,
    network_of,
    split_sizes,
)

RunState = Literal["waiting", "starting", "training", "done", "stopped", "failed"]
JobState = Literal["waiting", "running", "finished"]
Lane = Literal["training", "errand"]
ENDED: tuple[RunState, ...] = ("done", "stopped", "failed")

# Resident bytes of a forked worker before it builds a network: the pages of the framework that it touches (measured
# with Keras 3.15 and TensorFlow 2.21; a fresh process has about 650 MB). The fork server holds the rest for all.
FORKED_BYTES = 360 * 10**6
# So many runs of one job are at work at the same time; the others wait for their turn.
SIDE_BY_SIDE = 2
# More points than this on one curve cannot be told apart on a screen.
CURVE_POINTS = 240

# What a visitor may take home from a run.
FILES = ("model.keras", "run.py", "history.csv", "result.json")
FOLDER_PREFIX = "cnn-toolkit-jobs-"
DIED = "the process ended without a word, most likely for want of memory; try something smaller"


class Worker(Protocol):
    """A process at work, as `processes.start_worker` returns it."""

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""

    def poll(self) -> Iterable[object]:
        """What arrived since the last call; never blocks."""

    def stop(self) -> None:
        """Ask the process to end and to keep what it learned; never blocks."""

    def kill(self) -> None:
        """End the process now."""


Start = Callable[[Any, Path], Worker]


@dataclass(frozen=True)
class Limits:
    """What one server gives to its visitors. Seconds are wall time; `run_macs` counts a whole training run.

    `run_memory_bytes` is for the whole process that trains or measures: framework, network and data. `errands` run at
    once, each for `errand_seconds`. `upload_bytes` is for one file, `photos` and `photo_bytes` for what is in a zip of
    photos.
    """

    slots: int = 2
    waiting: int = 50
    grace_seconds: float = 60.0
    run_seconds: float = 3600.0
    kill_after_seconds: float = 2.0
    measure_seconds: float = 180.0
    run_memory_bytes: int = 8 * 10**9
    run_macs: int = 10**14
    errands: int = 1
    errand_seconds: float = 180.0
    upload_bytes: int = 256 * 10**6
    photos: int = 10_000
    photo_bytes: int = 10**9
    kept_jobs: int = 64
    kept_seconds: float = 6 * 3600.0

    @staticmethod
    def here(environment: Mapping[str, str] = os.environ) -> "Limits":
        """The limits of this machine: tight ones on a Hugging Face Space, which is open to everyone.

        A variable such as CNN_TOOLKIT_RUN_SECONDS changes one of them; raises InputError where it is no number.

        >>> Limits.here({"SPACE_ID": "someone/cnn", "CNN_TOOLKIT_SLOTS": "1"}).slots
        1
        """
        base = VISITORS if environment.get("SPACE_ID") else Limits()
        names = [each.name for each in fields(Limits)]
        given = {name: environment.get(f"CNN_TOOLKIT_{name.upper()}") for name in names}
        changes: dict[str, Any] = {name: _limit(name, text) for name, text in given.items() if text}
        return replace(base, **changes)


# A Space has 16 GB: two jobs of two models and one measurement at once leave room for the page.
VISITORS = Limits(
    run_seconds=300.0,
    measure_seconds=60.0,
    errand_seconds=60.0,
    run_memory_bytes=2_500_000_000,
    run_macs=4 * 10**12,
    upload_bytes=64 * 10**6,
    photos=2_000,
    photo_bytes=200 * 10**6,
)


def _limit(name: str, text: str) -> float | int:
    """The value of a limit as it stands in the environment."""
    try:
        return type(getattr(VISITORS, name))(text)  # type: ignore[no-any-return]
    except ValueError:
        raise InputError(f"CNN_TOOLKIT_{name.upper()} must be a number; {text!r} came") from None


@dataclass(frozen=True)
class Forecast:
    """What a run will take, known before it starts.

    estimate: the peak of a training step. framework_bytes: what of the framework counts in a process that trains.
    data_bytes: the images, which lie in the same process.
    macs: all MACs of the run, backward passes included.
    """

    costs: Costs
    estimate: MemoryEstimate
    accumulation_steps: int
    framework_bytes: int
    data_bytes: int
    images: int
    macs: int

    @property
    def process_bytes(self) -> int:
        """The predicted peak of the process that trains: framework, network and data."""
        return self.framework_bytes + self.estimate.peak_bytes + self.data_bytes


@lru_cache(maxsize=256)
def forecast(config: TrainConfig) -> Forecast:
    """Predict parameters, memory and work of a run; raises InputError where the network cannot be.

    One training step takes about three times the MACs of a prediction: one forward pass, and two products of the
    same size backward (for the weights and for the inputs). Source: Kaplan et al. 2020, section 2.1.
    """
    info = _known(config)
    net = network_of(config, info)
    price = costs(net, batch=config.batch_size, optimizer=memory_slots(config.learning))
    estimate = predict_memory(
        net,
        config.batch_size,
        optimizer=memory_slots(config.learning),
        execution=system.default_execution(),
        accumulation_steps=config.accumulation_steps,
    )
    images = config.epochs * split_sizes(config, info)[0]
    return Forecast(
        costs=price,
        estimate=estimate,
        accumulation_steps=config.accumulation_steps,
        framework_bytes=framework_bytes(estimate),
        data_bytes=_data_bytes(config, info),
        images=images,
        macs=3 * images * price.macs,
    )


def framework_bytes(estimate: MemoryEstimate) -> int:
    """What of the framework counts in a process that trains: all of it, or what a forked process touches of it."""
    return min(estimate.framework_bytes, FORKED_BYTES) if can_fork() else estimate.framework_bytes


def _data_bytes(config: TrainConfig, info: DatasetInfo) -> int:
    """All images as they were read, one byte a number, and the copy of the training images that the framework makes."""
    images = info.train_size + info.test_size + split_sizes(config, info)[0]
    return images * arithmetic.elements(info.image_shape)


def _known(config: TrainConfig) -> DatasetInfo:
    info = DATASETS.get(config.dataset)
    if info is None:
        raise InputError(f"the dataset must be one of {', '.join(DATASETS)}; folders are for the command line")
    return info


def memory_limit(limits: Limits, available: int | None = None) -> int:
    """Bytes that one process may take: what the server gives to a run, and never more than is free (`available`)."""
    return min(limits.run_memory_bytes, system.available_memory() if available is None else available)


def check_size(config: TrainConfig, limits: Limits, available: int | None = None) -> Forecast:
    """Return the forecast; raises InputError where the run is larger than this server allows, with what would fit."""
    ahead, available = forecast(config), system.available_memory() if available is None else available
    if ahead.process_bytes > (limit := memory_limit(limits, available)):
        check_memory(ahead.process_bytes, limits, available, _what_fits(config, ahead, limit))
    check_work(ahead.macs, limits, "choose fewer epochs, fewer channels or a smaller dataset")
    return ahead


def check_work(macs: int, limits: Limits, advice: str) -> None:
    """Raise InputError, with this advice, where a run computes more than the server allows."""
    if macs > limits.run_macs:
        raise InputError(
            f"this run would compute {macs / 1e12:.1f} million million MACs and the server allows "
            f"{limits.run_macs / 1e12:.0f}; {advice}"
        )


def check_memory(process_bytes: int, limits: Limits, available: int, advice: str) -> None:
    """Raise InputError, with this advice, where a process would take more memory than it may have."""
    limit = memory_limit(limits, available)
    if process_bytes > limit:
        raise InputError(
            f"this run would reach about {show.readable_bytes(process_bytes)} of memory and it may have "
            f"{show.readable_bytes(limit)}; {advice}"
        )


def _what_fits(config: TrainConfig, ahead: Forecast, limit: int) -> str:
    """The batch and the accumulation steps in place of those that do not fit: with a margin, or without if need be."""
    info = _known(config)
    for share in (SHARE, 1.0):
        try:
            plan = plan_batches(
                network_of(config, info),
                config.update_images,
                limit + ahead.estimate.process_bytes - ahead.process_bytes,
                share=share,
                train_size=split_sizes(config, info)[0],
                test_size=info.test_size,
                optimizer=memory_slots(config.learning),
            )
        except InputError:
            continue
        steps = f"{plan.accumulation_steps} accumulation steps" if plan.accumulation_steps > 1 else "no accumulation"
        return f"a batch of {plan.batch_size} with {steps} would fit"
    return "not even a batch of 1 would fit; choose fewer channels, a smaller network or smaller images"


def _check_together(processes: Sequence[int], available: int) -> None:
    """Runs of a job work side by side: refuse those that do not fit into what is free together."""
    together = sum(sorted(processes)[-SIDE_BY_SIDE:])
    if together > available:
        raise InputError(
            f"the models would reach about {show.readable_bytes(together)} of memory together and "
            f"{show.readable_bytes(available)} are free; choose a smaller batch or fewer channels for one of them"
        )


@dataclass(frozen=True)
class TaskView:
    """One run of a job: how the work of its process stands. `folder` is where its files are or will be.

    Each kind of work is a class below this one: it knows its events, its size, and what a visitor may take home.
    """

    config: Any
    folder: Path
    state: RunState = "waiting"
    memory: Memory | None = None
    message: str = ""
    result: Any = None

    lane: ClassVar[Lane] = "training"
    files: ClassVar[tuple[str, ...]] = ()
    # Seconds in which such a run, when it is stopped, writes down what it has; None takes the server's limit.
    stop_seconds: ClassVar[float | None] = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ENDED

    @classmethod
    def price(cls, config: Any, limits: Limits, available: int) -> int:
        """Predicted bytes of the process; raises InputError where the run is larger than the server allows."""
        return FORKED_BYTES

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        match event:
            case Memory():
                return {"memory": event}
            case Failed(message):
                return {"state": "failed", "message": message}
        return {}


V = TypeVar("V", bound=TaskView)


def advance(run: V, event: object) -> V:
    """The run after one more event."""
    return replace(run, **run.news(event))


@dataclass(frozen=True)
class RunView(TaskView):
    """The training of one model: the last event of each kind, and the curves so far."""

    config: TrainConfig
    started: Started | None = None
    step: Step | None = None
    steps: tuple[Step, ...] = ()
    epochs: tuple[EpochEnd, ...] = ()
    result: TrainResult | None = None

    files: ClassVar[tuple[str, ...]] = FILES

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of the images that the model takes."""
        return DATASETS[self.config.dataset].image_shape

    @classmethod
    def price(cls, config: TrainConfig, limits: Limits, available: int) -> int:
        """See `check_size`."""
        return check_size(config, limits, available).process_bytes

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        match event:
            case Started():
                return {"state": "training", "started": event}
            case Step():
                return {"step": event, "steps": thinned((*self.steps, event))}
            case EpochEnd():
                return {"epochs": (*self.epochs, event)}
            case Done(result):
                return {"state": "stopped" if result.stopped else "done", "result": result}
        return super().news(event)


def thinned(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps, every other one left out where there are more than a curve needs."""
    return steps if len(steps) <= CURVE_POINTS else steps[::2]


@dataclass(frozen=True)
class JobView(Generic[V]):
    """One job at one moment. `place` counts the jobs ahead of it plus one while it waits, and is 0 afterwards."""

    id: str
    state: JobState
    place: int
    seconds: float
    runs: tuple[V, ...]


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve: how many epochs are over, and the means since the point before."""

    epochs: float
    loss: float
    accuracy: float


class EpochMeans(Protocol):
    """What every kind of training says at the end of an epoch."""

    @property
    def epoch(self) -> int:
        """Its number, from 1."""

    @property
    def loss(self) -> float:
        """Mean loss over it."""

    @property
    def accuracy(self) -> float:
        """Mean accuracy over it."""


def training_curve(steps: Sequence[Step], epochs: Sequence[EpochMeans]) -> tuple[CurvePoint, ...]:
    """The curve over the training images as it went.

    Steps report the mean over their epoch so far, which begins anew with each epoch and would draw teeth. The mean
    over the steps since the last report follows from two of them: (s₂ m₂ - s₁ m₁) / (s₂ - s₁). A stretch of less than
    a twentieth of an epoch is left out: it holds too few images to mean anything. An epoch that was too short for a
    report has its mean as its point.
    """
    points: list[CurvePoint] = []
    before: Step | None = None
    for step in steps:
        start = before if before is not None and before.epoch == step.epoch else None
        if step.step - (start.step if start else 0) >= step.steps / 20:
            points.append(_since(start, step))
            before = step
    reported = {step.epoch for step in steps}
    points += [CurvePoint(end.epoch, end.loss, end.accuracy) for end in epochs if end.epoch not in reported]
    return tuple(sorted(points, key=lambda point: point.epochs))


def _since(before: Step | None, step: Step) -> CurvePoint:
    over = step.epoch - 1 + step.step / step.steps
    if before is None:
        return CurvePoint(over, step.loss, step.accuracy)
    width = step.step - before.step
    loss = (step.step * step.loss - before.step * before.loss) / width
    accuracy = (step.step * step.accuracy - before.step * before.accuracy) / width
    return CurvePoint(over, loss, min(max(accuracy, 0.0), 1.0))


def seconds_left(run: RunView) -> float | None:
    """How long a run will still train at its present speed; None where that cannot be said yet."""
    if run.started is None or run.step is None or not run.step.images_per_second:
        return None
    over = run.step.epoch - 1 + run.step.step / run.step.steps
    return (run.config.epochs - over) * run.started.train_images / run.step.images_per_second


def bundle(run: TaskView) -> list[Path]:
    """The files of a run that ended, an archive of all of them first; empty where nothing was learned."""
    if run.result is None:
        return []
    files = [run.folder / name for name in run.files if (run.folder / name).exists()]
    archive = run.folder.with_name(f"model-{run.folder.name}.zip")
    if not archive.exists():
        with zipfile.ZipFile(
            archive, "w"
        ) as together:  # not packed: most of it is a .keras, which is an archive itself
            for file in files:
                together.write(file, f"model-{run.folder.name}/{file.name}")
    return [archive, *files]


@dataclass
class _Run:
    """A view and the process behind it. Touched under the registry's lock only."""

    view: TaskView
    worker: Worker | None = None
    begun: float = 0.0
    stop_asked: float | None = None

    def end(self, state: RunState, message: str = "") -> None:
        self.view = replace(self.view, state=state, message=message or self.view.message)

    def ask_stop(self, now: float, message: str = "") -> None:
        """Raise the stop flag once; a run that has not begun ends here."""
        if self.view.ended or self.stop_asked is not None:
            return
        self.stop_asked = now
        self.view = replace(self.view, message=message)
        if self.worker is not None:
            self.worker.stop()
        elif self.view.state == "waiting":
            self.end("stopped", message)

    def kill(self) -> None:
        if self.worker is not None and self.worker.alive:
            self.worker.kill()


@dataclass
class _Job:
    id: str
    owner: str
    runs: tuple[_Run, ...]
    folder: Path
    needs: frozenset[str] = frozenset()
    begun: float | None = None
    ended: float | None = None
    left: float | None = None
    viewers: set[str] = field(default_factory=set)

    @property
    def kind(self) -> type[TaskView]:
        return type(self.runs[0].view)

    @property
    def state(self) -> JobState:
        if all(run.view.ended for run in self.runs):
            return "finished"
        return "waiting" if self.begun is None else "running"


class Jobs:
    """The registry. Every method may be called from any thread and none blocks for longer than a few milliseconds.

    `start` begins the work of one run (by default `processes.start_worker`); `clock` gives seconds and `memory`
    the bytes that are free. `tick` does all the work that time brings; a thread calls it ten times a second unless
    `watchman` is false.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        folder: Path | None = None,
        *,
        start: Start | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], int] = system.available_memory,
        watchman: bool = True,
    ) -> None:
        self.limits = limits
        self.folder = folder if folder is not None else own_folder()
        self._start = start or _start_worker
        self._clock = clock
        self._memory = memory
        self._watchman = watchman
        self._jobs: dict[str, _Job] = {}
        self._rubbish: set[Path] = set()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(self.close)

    # What visitors do.

    def submit(
        self, configs: Sequence[Any], owner: str, kind: type[TaskView] = RunView, needs: Iterable[str] = ()
    ) -> str:
        """Put a job in line and return its unguessable id; raises InputError where it is too large or too many.

        `configs` are the tasks of its runs, which are of one `kind`. The jobs in `needs` are kept as long as this one.
        The owner looks at the new job from now on, and no longer at an older one of its kind.
        """
        available = self._memory()
        _check_together([kind.price(config, self.limits, available) for config in configs], available)
        with self._lock:
            needed = frozenset(self._find(each).id for each in needs)
            self._refuse_crowds(owner, kind.lane)
            self.leave(owner, kind=kind)
            job = self._new_job(configs, owner, kind, needed)
            self._jobs[job.id] = job
            self._begin_waiting()
            self._wake()
        return job.id

    @overload
    def view(self, job_id: str) -> JobView[RunView]: ...

    @overload
    def view(self, job_id: str, kind: type[V]) -> JobView[V]: ...

    def view(self, job_id: str, kind: type[Any] = RunView) -> JobView[Any]:
        """The job at this moment; raises InputError where no job of this kind is known (any more)."""
        with self._lock:
            job = self._find(job_id, kind)
            runs = tuple(run.view for run in job.runs)
            return JobView(job.id, job.state, self._place(job), self._seconds(job), runs)

    def knows(self, job_id: str | None, kind: type[TaskView] = RunView) -> bool:
        """Whether such a job of this kind still exists."""
        with self._lock:
            return job_id in self._jobs and issubclass(self._jobs[job_id].kind, kind)

    def stop(self, job_id: str, model: int | None = None) -> None:
        """Ask one model, or all models, of a job to stop; what they learned is kept."""
        with self._lock:
            runs = self._find(job_id).runs
            for run in runs if model is None else runs[model : model + 1]:
                run.ask_stop(self._clock(), "stopped by you")

    def watch(self, job_id: str, viewer: str) -> None:
        """Note that `viewer` looks at the job, which keeps it."""
        with self._lock:
            job = self._find(job_id)
            job.viewers.add(viewer)
            job.left = None

    def leave(self, viewer: str, job_id: str | None = None, kind: type[TaskView] = TaskView) -> None:
        """Note that `viewer` no longer looks at the job (or at any job of this kind)."""
        with self._lock:
            for job in self._jobs.values():
                if job_id in (None, job.id) and issubclass(job.kind, kind) and viewer in job.viewers:
                    job.viewers.discard(viewer)
                    job.left = job.left if job.viewers else self._clock()

    # What time brings.

    def tick(self) -> None:
        """Read events, hold the limits, forget what nobody watches, and begin what waits."""
        with self._lock:
            now = self._clock()
            for job in list(self._jobs.values()):
                self._tend(job, now)
            for job in self._forgettable(now):
                self._forget(job)
            self._begin_waiting()
            self._clear_rubbish()

    def close(self) -> None:
        """End every process and remove every folder. Safe to call twice."""
        self._closed.set()
        with self._lock:
            for job in list(self._jobs.values()):
                self._forget(job)
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def _in_lane(self, lane: Lane, *states: JobState) -> list[_Job]:
        return [job for job in self._jobs.values() if job.kind.lane == lane and job.state in states]

    def _refuse_crowds(self, owner: str, lane: Lane) -> None:
        active = self._in_lane(lane, "waiting", "running")
        if any(job.owner == owner for job in active):
            if lane == "errand":
                raise InputError("your last question is still being answered; wait for it to end")
            raise InputError("your training is still running; wait for it to end or press Stop first")
        if len(active) >= self._slots(lane) + self.limits.waiting:
            what = "trainings" if lane == "training" else "questions"
            raise InputError(f"{len(active)} {what} are in line already; please try again in a few minutes")

    def _slots(self, lane: Lane) -> int:
        return self.limits.slots if lane == "training" else self.limits.errands

    def _new_job(self, configs: Sequence[Any], owner: str, kind: type[TaskView], needs: frozenset[str]) -> _Job:
        job_id = secrets.token_urlsafe(16)
        folder = self.folder / job_id
        runs = tuple(
            _Run(kind(config, folder / letter)) for letter, config in zip(ascii_lowercase, configs, strict=False)
        )
        return _Job(job_id, owner, runs, folder, needs, viewers={owner})

    def _find(self, job_id: str, kind: type[TaskView] = TaskView) -> _Job:
        if (job := self._jobs.get(job_id)) is None or not issubclass(job.kind, kind):
            raise InputError("this training is no longer here; press Train to start a new one")
        return job

    def _place(self, job: _Job) -> int:
        waiting = [other.id for other in self._in_lane(job.kind.lane, "waiting")]
        return waiting.index(job.id) + 1 if job.id in waiting else 0

    def _seconds(self, job: _Job) -> float:
        if job.begun is None:
            return 0.0
        return (self._clock() if job.ended is None else job.ended) - job.begun

    def _begin_waiting(self) -> None:
        """Fill the free slots, first come first served, and begin the runs whose turn has come."""
        lanes: tuple[Lane, ...] = ("training", "errand")
        for lane in lanes:
            free = max(0, self._slots(lane) - len(self._in_lane(lane, "running")))
            for job in self._in_lane(lane, "waiting")[:free]:
                job.begun = self._clock()
            for job in self._in_lane(lane, "running"):
                self._begin_runs(job)

    def _begin_runs(self, job: _Job) -> None:
        at_work = sum(run.view.state in ("starting", "training") for run in job.runs)
        due = [run for run in job.runs if run.view.state == "waiting"][: max(0, SIDE_BY_SIDE - at_work)]
        for run in due:
            run.view, run.begun = replace(run.view, state="starting"), self._clock()
        if due:
            threading.Thread(target=self._launch, args=(job, due), daemon=True, name=f"launch {job.id}").start()

    def _launch(self, job: _Job, runs: Sequence[_Run]) -> None:
        """Start the processes of runs. A cold start takes seconds, so it happens outside the lock."""
        for run in runs:
            if run.view.ended or not self.knows(job.id, TaskView):
                continue
            try:
                run.view.folder.mkdir(parents=True, exist_ok=True)
                worker = self._start(run.view.config, run.view.folder)
            except Exception as error:  # whatever it is, it must reach the page and not this thread's end
                self._end(run, f"the training could not start: {error}")
            else:
                self._attach(job, run, worker)

    def _end(self, run: _Run, message: str) -> None:
        with self._lock:
            run.end("failed", message)

    def _attach(self, job: _Job, run: _Run, worker: Worker) -> None:
        """Hand the process to its run, or end it where the job was stopped or forgotten meanwhile."""
        with self._lock:
            run.worker = worker
            if job.id not in self._jobs:
                self._forget(job)
            elif run.stop_asked is not None:
                worker.stop()

    def _tend(self, job: _Job, now: float) -> None:
        for run in job.runs:
            if run.worker is not None and not run.view.ended:
                self._tend_run(run, run.worker, now)
        if job.state == "finished" and job.ended is None:
            job.ended = now

    def _tend_run(self, run: _Run, worker: Worker, now: float) -> None:
        limits, lane = self.limits, run.view.lane
        seconds = limits.run_seconds if lane == "training" else limits.errand_seconds
        patience = run.view.stop_seconds or limits.kill_after_seconds
        alive = worker.alive  # asked before reading, so that the last words of a process that ends now are read
        run.view = reduce(advance, worker.poll(), run.view)
        if run.view.ended:
            return
        if not alive:
            run.end("stopped" if run.stop_asked is not None else "failed", run.view.message or DIED)
        elif run.stop_asked is not None and now - run.stop_asked > patience:
            worker.kill()
        elif now - run.begun > seconds:
            run.ask_stop(now, f"stopped after {seconds:.0f} seconds, the limit of this server")
        elif run.view.memory is not None and run.view.memory.rss_bytes > limits.run_memory_bytes:
            run.ask_stop(now, f"stopped at {run.view.memory.rss_bytes / 1e9:.1f} GB, the memory limit of this server")

    def _forgettable(self, now: float) -> list[_Job]:
        """Those that nobody wants, and of each kind the oldest beyond what is kept; none that another needs."""
        needed = frozenset[str]().union(*(job.needs for job in self._jobs.values()))
        free = [job for job in self._jobs.values() if job.id not in needed]
        gone = [job for job in free if self._abandoned(job, now)]
        finished = [job for job in free if job.state == "finished" and job not in gone]
        for kind in {job.kind for job in finished}:
            alike = [job for job in finished if job.kind is kind]
            gone += alike[: max(0, len(alike) - self.limits.kept_jobs)]
        return gone

    def _abandoned(self, job: _Job, now: float) -> bool:
        nobody = job.left is not None and now - job.left > self.limits.grace_seconds
        old = job.ended is not None and now - job.ended > self.limits.kept_seconds
        return nobody or old

    def _forget(self, job: _Job) -> None:
        for run in job.runs:
            run.kill()
        self._jobs.pop(job.id, None)
        self._rubbish.add(job.folder)

    def _clear_rubbish(self) -> None:
        """Remove the folders of forgotten jobs; one into which a dying process still writes goes next time."""
        for folder in list(self._rubbish):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                self._rubbish.discard(folder)

    def _wake(self) -> None:
        """See that the watchman's thread runs; it begins with the first job."""
        if self._watchman and self._thread is None:
            self._thread = threading.Thread(target=self._keep_watch, daemon=True, name="jobs")
            self._thread.start()

    def _keep_watch(self) -> None:
        while not self._closed.wait(0.1):
            self.tick()


def _start_worker(config: Any, folder: Path) -> Worker:
    from toolkit.processes import start_worker

    return start_worker(config, folder)


def own_folder(parent: Path | None = None) -> Path:
    """A new folder for this process's jobs; those that a crash left behind an hour ago or more are removed."""
    home = parent or Path(tempfile.gettempdir())
    for old in home.glob(f"{FOLDER_PREFIX}*"):
        if not psutil.pid_exists(_owner_of(old)) and time.time() - old.stat().st_mtime > 3600:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=home))


def _owner_of(folder: Path) -> int:
    """The process id in a folder's name, or -1."""
    number = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
    return int(number) if number.isdigit() else -1
