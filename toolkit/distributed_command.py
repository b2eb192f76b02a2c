"""The terminal's side of several workers: `python -m toolkit stream-service` and `python -m toolkit train-workers`.

Each worker is a process of its own (`toolkit.processes`), which ends with this one.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from toolkit import show, system
from toolkit.errors import InputError
from toolkit.processes import INTERRUPTED, Context, Ending, Worker, start_worker
from toolkit.streaming.distributed import (
    Images,
    PartResult,
    ServiceEpochs,
    WorkerPlan,
    epochs_done,
    free_ports,
    run_dispatcher,
    run_service_worker,
    saved_model,
    train_part,
)

# A worker that is lost this often is not lost by accident.
MOST_RESTARTS = 10
LOOK_SECONDS = 0.05
# How long workers are listened to after one was lost: they notice within about a second.
LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True)
class Lost:
    """A worker ended: in words why, and whether somebody asked it to."""

    sentence: str
    wanted: bool


@dataclass(frozen=True)
class Finished:
    """A worker's last word: an error in words, or "" where all went well."""

    sentence: str


class _Task:
    """What the tasks here share: how they end without a last word."""

    def ended(self, ending: Ending) -> Lost:
        """In words, the last line of the log first: it names the error."""
        said = [line for line in ending.log.splitlines() if line.strip()]
        code = ending.exit_code
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return Lost(f"it ended with {how}" + (f": {said[-1]}" if said else ""), ending.stopped)


@dataclass(frozen=True)
class DispatcherTask(_Task):
    """Run the dispatcher of a tf.data service."""

    port: int
    work: str = "toolkit.distributed_command:dispatcher"


@dataclass(frozen=True)
class ServiceTask(_Task):
    """Run one worker of a tf.data service."""

    epochs: ServiceEpochs
    dispatcher: str
    address: str
    register: bool
    work: str = "toolkit.distributed_command:service_worker"


@dataclass(frozen=True)
class TrainingTask(_Task):
    """Train one part."""

    plan: WorkerPlan
    work: str = "toolkit.distributed_command:training_worker"


def dispatcher(task: DispatcherTask, context: Context) -> Finished:
    """In the worker."""
    return _finished(lambda: run_dispatcher(task.port, context))


def service_worker(task: ServiceTask, context: Context) -> Finished:
    """In the worker."""
    return _finished(lambda: run_service_worker(task.epochs, task.dispatcher, task.address, task.register, context))


def training_worker(task: TrainingTask, context: Context) -> Finished:
    """In the worker."""
    return _finished(lambda: train_part(task.plan, context))


def _finished(work: Callable[[], object]) -> Finished:
    try:
        work()
    except InputError as error:
        return Finished(str(error))
    return Finished("")


def _close(workers: Sequence[Worker | None]) -> None:
    """End all of them at the same time."""
    living = [worker for worker in workers if worker]
    for worker in living:
        worker.stop()
    for worker in living:
        worker.close()


def _require_tensorflow(command: str) -> None:
    if system.backend() != "tensorflow":
        raise InputError(
            f"{command} needs TensorFlow, and Keras computes with {system.backend()} here; "
            "install tensorflow-cpu, and set KERAS_BACKEND=tensorflow"
        )


# A service.


class Service:
    """A tf.data service of this machine: a dispatcher and workers, each in a process; lost workers are started again.

    `join` is the address of a dispatcher elsewhere, which these workers work for then. `host` is the name under which
    readers find this machine. Raises InputError where a process does not begin.
    """

    def __init__(
        self,
        images: Images,
        workers: int,
        epochs: int,
        *,
        port: int = 0,
        host: str = "localhost",
        join: str = "",
        folder: Path,
        said: Callable[[str], None],
    ) -> None:
        self._folder, self._said, self._restarts = folder, said, 0
        offered = ServiceEpochs(images, images.parts(workers), epochs)
        self.processes: list[Worker | None] = [None] * (workers + 1)
        own, *ports = free_ports(workers + 1)
        self.address = join or f"grpc://{host}:{port or own}"
        try:
            if not join:
                self.processes[0] = start_worker(DispatcherTask(port or own), folder / "dispatcher", 1)
            addresses = [f"{host}:{free}" for free in ports]
            self._tasks = [
                ServiceTask(offered, self.address, address, not join and number == 0)
                for number, address in enumerate(addresses)
            ]
            for number in range(1, workers + 1):
                self._start(number)
            for number in range(1 if join else 0, workers + 1):
                self._first_word(number)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes."""
        _close(self.processes)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, number: int) -> None:
        task = self._tasks[number - 1]
        self.processes[number] = start_worker(task, self._folder / f"worker-{number}", None)

    def _first_word(self, number: int) -> object:
        worker = self.processes[number]
        assert worker is not None  # noqa: S101 - it was started a moment ago
        for event in worker.events():
            if isinstance(event, Lost | Finished):
                raise InputError(f"{self._name(number)} did not begin: {event.sentence}")
            if event is not None:
                return event
        raise InputError(f"{self._name(number)} did not begin")

    @staticmethod
    def _name(number: int) -> str:
        return f"worker {number}" if number else "the dispatcher"

    def look(self) -> None:
        """Start workers again that were lost; raises InputError where the dispatcher is, or workers are too often."""
        for number, worker in enumerate(self.processes):
            for event in worker.poll() if worker else ():
                if isinstance(event, Lost | Finished):
                    self._lost(number, event.sentence)

    def _lost(self, number: int, sentence: str) -> None:
        if number == 0:
            raise InputError(f"the dispatcher is gone ({sentence}); whoever reads must begin the epoch again")
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            raise InputError(f"workers were lost {self._restarts} times, the last time because {sentence}")
        self._said(
            f"worker {number} is gone ({sentence}); it is started again. What it had read and not yet sent of its "
            "part is missing from the epoch that runs now"
        )
        self._tasks[number - 1] = _joining(self._tasks[number - 1])
        self._start(number)


def _joining(task: ServiceTask) -> ServiceTask:
    """The task of a worker that takes the place of a lost one: the datasets are registered."""
    return ServiceTask(task.epochs, task.dispatcher, task.address, register=False)


def service_command(images: Images, workers: int, epochs: int, port: int, host: str, join: str) -> int:
    """Run a service until Ctrl-C; returns the exit status. Raises InputError where it cannot go on."""
    _require_tensorflow("stream-service")
    console = Console(stderr=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="cnn-toolkit-service-", ignore_cleanup_errors=True) as name,
            ExitStack() as stack,
        ):
            console.print(
                "starting a dispatcher and workers" if not join else "starting workers", highlight=False, soft_wrap=True
            )
            service = stack.enter_context(
                Service(images, workers, epochs, port=port, host=host, join=join, folder=Path(name), said=console.print)
            )
            sys.stdout.write(service_text(service.address, workers, epochs) + "\n")
            sys.stdout.flush()
            while True:
                service.look()
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        console.print(
            "stopped; the dispatcher and the workers have ended" if not join else "stopped",
            highlight=False,
            soft_wrap=True,
        )
    return INTERRUPTED


def service_text(address: str, workers: int, epochs: int) -> str:
    """How to read from a running service.

    >>> print(service_text("grpc://localhost:5050", 2, 3))
    a tf.data service with 2 workers at grpc://localhost:5050, epochs 0 to 2; Ctrl-C ends it
    <BLANKLINE>
        from toolkit.streaming.distributed import service_dataset
        dataset = service_dataset("grpc://localhost:5050", epoch=0)
    """
    return (
        f"a tf.data service with {workers} workers at {address}, epochs 0 to {epochs - 1}; Ctrl-C ends it\n\n"
        "    from toolkit.streaming.distributed import service_dataset\n"
        f'    dataset = service_dataset("{address}", epoch=0)'
    )


# Training.


def cluster_environment(addresses: Sequence[str], index: int) -> Mapping[str, str]:
    """What tells TensorFlow who trains with it.

    >>> cluster_environment(["a:1", "b:1"], 1)["TF_CONFIG"]
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    """
    config = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
    return {"TF_CONFIG": json.dumps(config)}


def train_workers_command(
    images: Images,
    network: str,
    epochs: int,
    learning_rate: float,
    workers: int,
    folder: Path,
    cluster: Sequence[str] = (),
    index: int | None = None,
    as_json: bool = False,
    classes: int | None = None,
) -> int:
    """Train in several processes, each with its part of the images, and return the exit status.

    With `cluster` ("host:port" of every worker) and `index`, only that worker runs here and the others elsewhere. A
    folder that holds a model of an earlier run is gone on with. `classes`: how many there are, where only tar shards
    could tell. Raises InputError where a worker is lost: the model of the last full epoch is kept.
    """
    _require_tensorflow("train-workers")
    if bool(cluster) != (index is not None):
        raise InputError("--cluster and --index belong together: all workers' addresses, and which of them this is")
    if index is not None and not 0 <= index < len(cluster):
        raise InputError(f"--index is from 0 to {len(cluster) - 1}, one for each address of --cluster; {index} came")
    count = images.classes(classes)
    addresses = list(cluster) or [f"127.0.0.1:{port}" for port in free_ports(workers)]
    done = epochs_done(folder)
    if done >= epochs:
        raise InputError(
            f"{saved_model(folder, done)} was trained for {done} epochs already; ask for more, or name another --folder"
        )
    here = range(len(addresses)) if index is None else [index]
    plans = [
        WorkerPlan(images, network, count, epochs, learning_rate, number, len(addresses), folder.resolve(), done)
        for number in here
    ]
    console = Console(stderr=True)
    if done:
        console.print(f"going on after epoch {done}, from {saved_model(folder, done)}", highlight=False, soft_wrap=True)
    try:
        results = _train(plans, addresses, console)
    except KeyboardInterrupt:
        console.print(f"stopped; {_kept(folder)}", highlight=False, soft_wrap=True)
        return INTERRUPTED
    _print(results, folder, as_json)
    return 0


def _train(plans: Sequence[WorkerPlan], addresses: Sequence[str], console: Console) -> list[list[PartResult]]:
    """The epochs, each with the result of every worker here; raises InputError when one is lost."""
    results: list[list[PartResult]] = []
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-workers-", ignore_cleanup_errors=True) as name:
        workers = [
            start_worker(
                TrainingTask(plan), Path(name) / str(plan.index), threads=None,
                environment=cluster_environment(addresses, plan.index),
            )
            for plan in plans
        ]  # fmt: skip
        try:
            for epoch in _epochs(workers, plans):
                results.append(epoch)
                console.print(epoch_text(epoch, len(plans)), highlight=False, soft_wrap=True)
        finally:
            _close(workers)
    return results


def _epochs(workers: Sequence[Worker], plans: Sequence[WorkerPlan]) -> Iterator[list[PartResult]]:
    """Each finished epoch with the results of all workers here.

    Where workers are lost, the others have a few seconds for their last words; an epoch of which only some could tell
    is finished all the same. Raises InputError afterwards.
    """
    pending: list[list[PartResult]] = [[] for _ in workers]
    lost: list[tuple[bool, str]] = []
    living, end = True, math.inf
    while living and time.monotonic() < end:
        living = any(worker.alive for worker in workers)  # asked first, so that no last word is missed
        for worker, plan, said in zip(workers, plans, pending, strict=True):
            events = worker.poll()
            said += [event for event in events if isinstance(event, PartResult)]
            lost += _losses(events, plan)
        while all(pending):
            yield [said.pop(0) for said in pending]
        end = min(end, time.monotonic() + LAST_WORDS_SECONDS) if lost else end
        time.sleep(LOOK_SECONDS)
    while lost and any(pending):
        yield [said.pop(0) for said in pending if said]
    if lost:
        raise InputError(f"the training stopped: {min(lost)[1]}; {_kept(plans[0].folder)}")


def _losses(events: Iterable[object], plan: WorkerPlan) -> Iterator[tuple[bool, str]]:
    """What a worker says that is neither a result nor a good end; with False, what others say of one that died."""
    for event in events:
        if not isinstance(event, PartResult) and event != Finished(""):
            sentence = event.sentence if isinstance(event, Lost | Finished) else str(event)
            yield not isinstance(event, Lost), f"worker {plan.index + 1} of {plan.workers}: {sentence}"


def _kept(folder: Path) -> str:
    done = epochs_done(folder)
    if not done:
        return "no epoch was finished, so nothing is kept"
    return f"{saved_model(folder, done)} holds the model after epoch {done}, and the same command goes on from there"


def epoch_text(results: Sequence[PartResult], workers: int = 1) -> str:
    """One epoch in a line, as those of the workers tell it that could.

    >>> epoch_text([PartResult(0, 50, 0, 99, 1.25, 0.5, 7.0, 2.0), PartResult(0, 49, 1, 99, 1.25, 0.5, 7.0, 2.0)], 2)
    'epoch 1: loss 1.2500, accuracy 50.0 %, 99 images (50 + 49), 1 failure, 2.0 s'
    """
    first, failures = results[0], sum(result.failures for result in results)
    shares = " + ".join([*(f"{result.images:,}" for result in results), *"?" * (workers - len(results))])
    bad = f"{failures:,} failure{'s' * (failures != 1)}, " if failures else ""
    return (
        f"epoch {first.epoch + 1}: loss {first.loss:.4f}, accuracy {first.accuracy:.1%}, ".replace("%", " %")
        + f"{first.all_images:,} images ({shares}), {bad}{first.seconds:.1f} s"
    )


def _print(results: Sequence[Sequence[PartResult]], folder: Path, as_json: bool) -> None:
    """The result for people or for programs."""
    model = saved_model(folder, epochs_done(folder))
    if as_json:
        told = {"model": str(model), "epochs": [[asdict(part) for part in epoch] for epoch in results]}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    heading = ["epoch", "loss", "accuracy", "images", "seconds"]
    lines = [
        [str(epoch[0].epoch + 1), f"{epoch[0].loss:.4f}", f"{epoch[0].accuracy:.1%}", f"{epoch[0].all_images:,}",
         f"{epoch[0].seconds:.1f}"]
        for epoch in results
    ]  # fmt: skip
    sys.stdout.write(show.columns([heading, *lines]) + f"\n\nthe model is in {model}\n")
