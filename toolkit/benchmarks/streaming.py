"""Images streamed from a web server beside images in RAM: speed of training, memory, accuracy; and the ways of others.

Speed is told twice: in CPU time, which another program on the machine hardly changes, and in wall time, whose promises
are about a machine that has nothing else to do and are left out where others took more than a tenth of it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from toolkit import system
from toolkit.benchmarks import Check, Measured, Report, Row
from toolkit.benchmarks.image_server import ImageServer
from toolkit.benchmarks.image_set import ImageSet, make_image_set
from toolkit.benchmarks.loaders import BATCH, KINDS, SIZE, WARM_UP_IMAGES, Answer, Job, Orders
from toolkit.processes import Ending, spawn, start_worker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY, STREAM, BYTES, TENSORS, NOTES = "in memory", *KINDS, "notes"
THREADS, DIRECTORY = "requests in threads", "image_dataset_from_directory"
IMG2DATASET = "img2dataset"

FIRST_EPOCH, LATER_EPOCHS = 0.90, 0.97
TIMES_NOTES = {20: 3.0, 100: 20.0}
TIMES_IMG2DATASET = 2.0
MOST_BYTES, EQUAL_PEAKS = 64 * 10**6, 0.10
EQUAL_WEIGHTS = 1e-5
OTHERS = 0.10
"""The share of the machine that others may take while wall time is compared."""
MB = 10**6
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Plan:
    """How much is measured: images in the set and of one epoch, of one load; the ways and rounds of training."""

    set_images: int
    images: int
    rounds: int
    trained: tuple[tuple[str, int], ...]
    slow: Mapping[tuple[str, int], int]
    loads: tuple[tuple[str, int, int], ...]
    flat: tuple[int, ...]
    compared: int
    peer_images: int


QUICK = Plan(
    set_images=320,
    images=448,
    rounds=2,
    trained=((MEMORY, 0), (STREAM, 100), (TENSORS, 100)),
    slow={(NOTES, 20): 30, (NOTES, 100): 12},
    loads=(),
    flat=(1_000, 3_000),
    compared=96,
    peer_images=0,
)
FULL = Plan(
    set_images=3_000,
    images=3_000,
    rounds=5,
    trained=(
        (MEMORY, 0),
        *((STREAM, latency) for latency in (0, 20, 100)),
        *((way, latency) for way in (BYTES, TENSORS) for latency in (0, 100)),
        (DIRECTORY, 0),
    ),
    slow={
        (NOTES, 0): 1_000, (NOTES, 20): 400, (NOTES, 100): 150,
        (THREADS, 0): 1_000, (THREADS, 20): 1_000, (THREADS, 100): 1_000,
    },
    loads=tuple(
        (way, latency, images)
        for way, latency, images in (
            (STREAM, 0, 3_000), (STREAM, 20, 3_000), (STREAM, 100, 3_000),
            (THREADS, 0, 3_000), (THREADS, 20, 3_000), (THREADS, 100, 3_000),
            (NOTES, 0, 1_000), (NOTES, 20, 400), (NOTES, 100, 150),
            (DIRECTORY, 0, 3_000),
        )
    ),
    flat=(1_000, 5_000, 50_000),
    compared=640,
    peer_images=3_000,
)  # fmt: skip


@dataclass(frozen=True)
class LoadRow(Row):
    """One way to load or to train at one latency; `median`, `least` and `most` are images a second (wall).

    cpu_ms: CPU milliseconds an image, all threads of the process. peak_bytes: over what the process had before.
    others: the share of the machine that other programs took meanwhile. accuracy: of the last epoch, where trained.
    """

    way: str
    latency_ms: int
    images: int
    trains: bool
    cpu_ms: float
    peak_bytes: int
    others: float
    accuracy: float | None = None


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` does the same on less work."""
    plan = QUICK if quick else FULL
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-")))
        images = make_image_set(folder / "set", plan.set_images, seed)
        server = stack.enter_context(ImageServer(images))
        bench = Bench(plan, folder, images, server, seed)
        trained = bench.training()
        flat = bench.flat_memory()
        loads = bench.loads()
        peer = bench.img2dataset() if plan.peer_images and img2dataset_command() else []
    rows = (*trained.rows, *loads, *flat, *peer)
    checks = (
        *trained.checks,
        *memory_checks(flat),
        *img2dataset_checks(peer),
    )
    return Measured(rows, checks)


# Processes.


class Loader:
    """A process that does jobs in one way (`toolkit.benchmarks.loaders`): a `fresh` Python, or one that has Keras."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(LOOK_SECONDS)
        self._orders: socket.socket | None = None
        task = Orders(self._server.getsockname()[1])
        self._worker = start_worker(task, folder, threads=None, launch=spawn if fresh else None)

    def ask(self, job: Job) -> None:
        """Let it begin a job."""
        if self._orders is None:
            self._orders = self._connected()
        if self._orders is not None:
            self._orders.sendall((json.dumps(asdict(job)) + "\n").encode())

    def _connected(self) -> socket.socket | None:
        """The line to the process; None where it ended before it took it."""
        while self._worker.alive:
            with suppress(TimeoutError):
                return self._server.accept()[0]
        return None

    def answer(self) -> Answer:
        """Wait for the job's end; raises RuntimeError with the end of the process's log where it has died."""
        for event in self._worker.events():
            if isinstance(event, Answer):
                return event
            if isinstance(event, Ending):
                raise RuntimeError(f"a process of the benchmark ended:\n{event.log[-2000:]}")
        raise RuntimeError("a process of the benchmark ended without an answer")

    def do(self, job: Job) -> Answer:
        """Do a job and wait for it."""
        self.ask(job)
        return self.answer()

    def close(self) -> None:
        """End it."""
        self._server.close()
        if self._orders is not None:
            self._orders.close()
        self._worker.close()


class Watch:
    """What other programs take of the processors that this process may use."""

    def __init__(self, server: int) -> None:
        self._server = psutil.Process(server)
        self._begun = self._now()

    def _now(self) -> tuple[float, float, float]:
        """(wall, CPU seconds of everybody, CPU seconds of this process and the server)."""
        ours = sum(sum(process.cpu_times()[:2]) for process in (psutil.Process(), self._server))
        processors = psutil.cpu_times(percpu=True)
        bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(processors))
        busy = sum(
            sum(times) - times.idle - getattr(times, "iowait", 0) for i, times in enumerate(processors) if i in bound
        )
        return time.monotonic(), busy, ours

    def others(self, measured: float) -> float:
        """The share of the processors' time since the start that was neither ours nor `measured` seconds; 0 to 1."""
        wall, busy, ours = (now - then for now, then in zip(self._now(), self._begun, strict=True))
        return min(max((busy - ours - measured) / max(wall * system.cpu_count(), 1e-9), 0.0), 1.0)


@dataclass(frozen=True)
class Timed:
    """A job that was done: what it took, and the share of the machine that others took meanwhile."""

    job: Job
    answer: Answer
    others: float

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.answer.images / self.answer.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an image."""
        return 1000 * self.answer.cpu_seconds / self.answer.images


@dataclass
class Bench:
    """What all measurements share."""

    plan: Plan
    folder: Path
    images: ImageSet
    server: ImageServer
    seed: int
    _count: int = field(default=0, init=False)

    def job(self, do: Any, way: str, images: int, latency: int = 0) -> Job:
        """A job on the first `images` images."""
        own = str(self.folder / "kept" / way.replace(" ", "-"))
        return Job(do, way, images, str(self.images.folder), self.server.address, latency, own, self.seed)

    @contextmanager
    def loaders(self, count: int, fresh: bool = False) -> Iterator[list[Loader]]:
        """So many new processes."""
        with ExitStack() as stack:
            yield [self._loader(stack, fresh) for _ in range(count)]

    def _loader(self, stack: ExitStack, fresh: bool) -> Loader:
        self._count += 1
        loader = Loader(self.folder / "processes" / str(self._count), fresh)
        stack.callback(loader.close)
        return loader

    def timed(self, loader: Loader, job: Job) -> Timed:
        """Do a job while nothing else of ours runs."""
        watch = Watch(self.server.pid)
        answer = loader.do(job)
        done = Timed(job, answer, watch.others(answer.cpu_seconds))
        _say(f"{job.do}, {job.way} at {job.latency_ms} ms: {done.speed:,.0f} images/s, {done.cpu_ms:.2f} CPU ms")
        return done

    # Training.

    def training(self) -> Measured:
        """All ways to train in turn, round after round, each in a process of its own; then those that mostly wait."""
        ways = [way for way, _ in (*self.plan.trained, *self.plan.slow) if usable(way)]
        names = list(dict.fromkeys(ways))
        with self.loaders(len(names)) as loaders:
            by_way = dict(zip(names, loaders, strict=True))
            self._warm_up(by_way)
            rounds = [self._round(by_way, number) for number in range(self.plan.rounds)]
            slow = [
                self.timed(by_way[way], self.job("train", way, images, latency))
                for (way, latency), images in self.plan.slow.items()
                if way in by_way
            ]
            equal = equality_check(by_way[STREAM].do(self.job("compare", STREAM, self.plan.compared)))
        rows = [load_row([found[case] for found in rounds]) for case in rounds[0]] + [load_row([each]) for each in slow]
        return Measured(tuple(rows), (*speed_checks(rounds), *notes_checks(rounds, slow), equal))

    def _warm_up(self, loaders: Mapping[str, Loader]) -> None:
        """Import Keras, compile the network, and fill the caches: at the same time in all processes."""
        for way, loader in loaders.items():
            loader.ask(self.job("train", way, BATCH if way == NOTES else WARM_UP_IMAGES))
        for loader in loaders.values():
            loader.answer()
        for way, latency in self.plan.trained:
            if way in (BYTES, TENSORS):
                self.timed(loaders[way], self.job("load", way, self.plan.images, latency))

    def _round(self, loaders: Mapping[str, Loader], number: int) -> dict[tuple[str, int], Timed]:
        """One epoch of each way; every other round begins at the other end."""
        cases = [(way, latency) for way, latency in self.plan.trained if way in loaders]
        turned = cases if number % 2 else cases[::-1]
        found = {
            (way, latency): self.timed(loaders[way], self.job("train", way, self.plan.images, latency))
            for way, latency in turned
        }
        return {case: found[case] for case in cases}

    # Loading alone.

    def flat_memory(self) -> list[LoadRow]:
        """The stream alone on ever more images, each in a new process."""
        return [load_row([self._alone(STREAM, images, 0)]) for images in self.plan.flat]

    def loads(self) -> list[LoadRow]:
        """The ways to load, without a network that learns."""
        return [
            load_row([self._alone(way, images, latency)]) for way, latency, images in self.plan.loads if usable(way)
        ]

    def _alone(self, way: str, images: int, latency: int) -> Timed:
        with self.loaders(1, fresh=True) as (loader,):
            return self.timed(loader, self.job("load", way, images, latency))

    # img2dataset.

    def img2dataset(self) -> list[LoadRow]:
        """The peer that writes resized files, beside our loader on the same images, in turn."""
        ours = [self._alone(STREAM, self.plan.peer_images, 0)]
        theirs = self._img2dataset(self.plan.peer_images)
        ours.append(self._alone(STREAM, self.plan.peer_images, 0))
        return [load_row(ours), load_row([theirs])]

    def _img2dataset(self, images: int) -> Timed:
        """Its work on `images` images: what starting it takes, seen on one image, is left out of the CPU time."""
        watch = Watch(self.server.pid)
        _, started, _ = self._run_img2dataset(1)
        seconds, cpu, peak = self._run_img2dataset(images)
        job = self.job("load", IMG2DATASET, images)
        return Timed(job, Answer(images, seconds, max(cpu - started, 1e-3), peak), watch.others(started + cpu))

    def _run_img2dataset(self, images: int) -> tuple[float, float, int]:
        """(wall seconds, CPU seconds, peak of resident bytes) of the program and all that it starts."""
        place = self.folder / f"img2dataset-{images}"
        place.mkdir()
        (place / "urls.txt").write_text("\n".join(self.job("load", STREAM, images).urls))
        command = [
            *(img2dataset_command() or ()),
            "--url_list", str(place / "urls.txt"), "--output_folder", str(place / "out"),
            "--output_format", "files", "--image_size", str(SIZE), "--resize_mode", "center_crop",
            "--processes_count", "1", "--thread_count", "32", "--disallowed_header_directives", "[]",
        ]  # fmt: skip
        environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}  # or it asks its home for news
        begun = time.perf_counter()
        with (place / "log.txt").open("w") as log:
            process = psutil.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
            seconds, peak = follow(process)
        written = sum(1 for _ in (place / "out").rglob("*.jpg"))
        if written != images:
            raise RuntimeError(
                f"img2dataset wrote {written} of {images} images: {(place / 'log.txt').read_text()[-500:]}"
            )
        return time.perf_counter() - begun, seconds, peak


def follow(process: psutil.Popen) -> tuple[float, int]:
    """(CPU seconds, highest resident bytes seen) of a process and all below it, looked at until it ends."""
    cpu: dict[int, float] = {}
    peak = 0
    while process.poll() is None:
        resident = 0
        for each in _family(process):
            try:
                cpu[each.pid] = sum(each.cpu_times()[:2])
                resident += each.memory_info().rss
            except psutil.Error:
                continue
        peak = max(peak, resident)
        time.sleep(0.02)
    return sum(cpu.values()), peak


def _family(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def img2dataset_command() -> list[str] | None:
    """The peer as a command: what the path has, or the installed package; None where there is neither."""
    found = shutil.which(IMG2DATASET)
    if found:
        return [found]
    return [sys.executable, "-m", IMG2DATASET] if find_spec(IMG2DATASET) else None


def usable(way: str) -> bool:
    """Whether this machine has what a way needs.

    >>> usable("in memory")
    True
    """
    if way in (NOTES, THREADS):
        return find_spec("requests") is not None
    return way != DIRECTORY or find_spec("tensorflow") is not None


def _say(line: str) -> None:
    """A line on standard error: the full run takes minutes."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


# Rows and promises.


def load_row(found: Sequence[Timed]) -> LoadRow:
    """The row of one way at one latency, measured once or several times."""
    job = found[0].job
    what = "training" if job.do == "train" else "loading"
    cpu = statistics.median(each.cpu_ms for each in found)
    peak = max(each.answer.peak_bytes for each in found)
    row = Row.of(
        f"{what} {job.images:,} images, {job.way}, {job.latency_ms} ms: {cpu:.2f} CPU ms an image, {peak / MB:,.0f} MB",
        "images/s",
        [each.speed for each in found],
    )
    return LoadRow(
        **asdict(row),
        way=job.way,
        latency_ms=job.latency_ms,
        images=job.images,
        trains=job.do == "train",
        cpu_ms=cpu,
        peak_bytes=peak,
        others=statistics.median(each.others for each in found),
        accuracy=found[-1].answer.accuracy,
    )


Round = Mapping[tuple[str, int], Timed]


def speed_checks(rounds: Sequence[Round]) -> list[Check]:
    """Streaming beside arrays in RAM, in the same round: in CPU time, and in wall time where nobody else was busy."""
    checks = []
    for way, latency in rounds[0]:
        if way not in KINDS or latency not in (0, 100):
            continue
        epoch = "first epoch" if way == STREAM else "later epochs"
        goal = LATER_EPOCHS if way == TENSORS else FIRST_EPOCH  # cached bytes are decoded again
        name = f"{way}, {epoch}, {latency} ms: speed over that in memory"
        pairs = [(found[way, latency], found[MEMORY, 0]) for found in rounds]
        checks.append(Check.at_least(f"{name}, CPU", statistics.median(b.cpu_ms / a.cpu_ms for a, b in pairs), goal))
        calm = [a.speed / b.speed for a, b in pairs if max(a.others, b.others) <= OTHERS]
        if len(calm) * 2 > len(pairs):
            checks.append(Check.at_least(f"{name}, wall", statistics.median(calm), goal))
    return checks


def notes_checks(rounds: Sequence[Round], slow: Sequence[Timed]) -> list[Check]:
    """Streaming beside the way of the course's notes, in wall time, at the same latency or a higher one.

    The notes' way waits most of the time, and loses nothing where others are busy; ours does, and is not judged then.
    """
    checks = []
    for each in slow:
        latency = each.job.latency_ms
        measured = [ms for way, ms in rounds[0] if way == STREAM and ms >= latency]
        if each.job.way == NOTES and latency in TIMES_NOTES and measured:
            ours = [found[STREAM, min(measured)] for found in rounds]
            calm = [found.speed for found in ours if found.others <= OTHERS]
            if len(calm) * 2 > len(ours):
                name = f"first epoch, {latency} ms: times as fast as the notes' way"
                checks.append(Check.at_least(name, statistics.median(calm) / each.speed, TIMES_NOTES[latency]))
    return checks


def equality_check(answer: Answer) -> Check:
    """Training from the stream beside training from arrays with the same batches."""
    if answer.difference is None:
        raise RuntimeError("two networks were to be compared, and no difference came")
    name = "equal batches: largest difference of a weight to training in memory"
    return Check.at_most(name, answer.difference, EQUAL_WEIGHTS)


def memory_checks(rows: Sequence[LoadRow]) -> list[Check]:
    """The stream's memory: small, and the same however many images there are."""
    peaks = [row.peak_bytes for row in rows]
    sizes = ", ".join(f"{row.images:,}" for row in rows)
    return [
        Check.at_most(f"peak of the loader over the baseline, {sizes} images, MB", max(peaks) / MB, MOST_BYTES / MB),
        Check.at_most(f"peak of the loader, {sizes} images: largest deviation", spread(peaks), EQUAL_PEAKS),
    ]


def spread(peaks: Sequence[int]) -> float:
    """How far the numbers are from their middle at most, as a share of it.

    >>> spread([90, 100, 110])
    0.1
    """
    middle = (max(peaks) + min(peaks)) / 2
    return (max(peaks) - middle) / middle


def img2dataset_checks(rows: Sequence[LoadRow]) -> list[Check]:
    """Images per CPU second beside the peer, where it was measured."""
    theirs = [row for row in rows if row.way == IMG2DATASET]
    ours = [row for row in rows if row.way == STREAM and not row.trains and theirs and row.images == theirs[0].images]
    return [
        Check.at_least(
            "fetch, decode and resize: images a CPU second, times img2dataset's", theirs[0].cpu_ms / ours[-1].cpu_ms,
            TIMES_IMG2DATASET,
        )
    ] if theirs and ours else []  # fmt: skip


# The picture.


def picture(report: Report) -> Figure:
    """Speed of training and memory of every way at every latency."""
    from toolkit.plots import plot_streaming

    rows = [row for row in report.rows if isinstance(row, LoadRow) and row.trains]
    ways = list(dict.fromkeys(row.way for row in rows))
    speeds = {way: {row.latency_ms: row.median for row in rows if row.way == way} for way in ways}
    peaks = {way: max(row.peak_bytes for row in rows if row.way == way) for way in ways}
    return plot_streaming(speeds, peaks, "A small CNN trained on 96 × 96 images", style="light")
