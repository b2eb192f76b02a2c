"""The inside of the streaming benchmark: a process that loads or trains in one way, as its parent orders.

A process serves one way only, so that its peak of memory is that way's.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.benchmarks.image_server import urls_of
from toolkit.benchmarks.image_set import ImageSet
from toolkit.processes import Context, Ending
from toolkit.streaming.groups import Batch
from toolkit.system import PeakMemory, backend

if TYPE_CHECKING:
    import keras

    from toolkit.streaming.pipeline import ImageStream

SIZE, BATCH = 96, 32
WORKERS = 32
"""Threads of the peer that downloads with `requests` in threads: enough for 300 images a second at 100 ms."""
CHANNELS, LEARNING_RATE = 24, 1e-3
"""So wide, an image costs about 5 ms of CPU time in a training step, as it did where others were measured."""
WARM_UP_IMAGES = 2 * BATCH

Do = Literal["load", "train", "compare"]


@dataclass(frozen=True)
class Job:
    """What a process is to do with so many images of a set, which a server at `address` gives after `latency_ms`.

    do: "load" reads them in batches, "train" trains one epoch on them, "compare" trains two equal networks, one from
    the stream and one from arrays with the same batches. way: one of `WAYS`. folder: for caches and files.
    """

    do: Do
    way: str
    images: int
    set_folder: str
    address: str = ""
    latency_ms: int = 0
    folder: str = ""
    seed: int = 0

    @property
    def urls(self) -> list[str]:
        """Where the images are."""
        return _urls(self.address, self.images, self.latency_ms)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Their classes, (images,)."""
        return image_set(self.set_folder).labels_of(self.images)


@dataclass(frozen=True)
class Answer:
    """What a job took: wall and CPU seconds of this process, and its peak over what it had before it began to load.

    accuracy: over the images of the epoch, as the network was while it learned. difference: the largest between the
    weights of the two networks that were compared.
    """

    images: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    accuracy: float | None = None
    difference: float | None = None


_urls = cache(urls_of)


@cache
def image_set(folder: str) -> ImageSet:
    """The set in a folder, read once."""
    return ImageSet.read(Path(folder))


# Ways to load.


def one_after_the_other(job: Job) -> Iterator[Batch]:
    """As the course's notes have it: `requests.get` and Pillow, image after image."""
    import requests
    from PIL import Image

    def load(url: str) -> NDArray[np.uint8]:
        answer = requests.get(url, timeout=10)
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB").resize((SIZE, SIZE)))

    return stacked(map(load, job.urls), job.labels)


def in_threads(job: Job) -> Iterator[Batch]:
    """`requests` with kept connections in 32 threads, each image decoded by Pillow; three batches are under way."""
    import threading

    import requests
    from PIL import Image

    own = threading.local()

    def load(url: str) -> NDArray[np.uint8]:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        answer = own.session.get(url, timeout=10)
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB").resize((SIZE, SIZE)))

    with ThreadPoolExecutor(WORKERS) as pool:
        yield from stacked(_ahead(pool, load, job.urls, 3 * BATCH), job.labels)


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[str], NDArray[np.uint8]], urls: list[str], window: int
) -> Iterator[NDArray[np.uint8]]:
    """The loaded images in order, with no more than `window` of them under way."""
    running = [pool.submit(load, url) for url in urls[:window]]
    for number in range(len(urls)):
        yield running[number % window].result()
        if number + window < len(urls):
            running[number % window] = pool.submit(load, urls[number + window])


def stacked(images: Iterator[NDArray[np.uint8]], labels: NDArray[np.int64]) -> Iterator[Batch]:
    """Images one by one, and their labels, as batches.

    >>> [len(batch) for batch, _ in stacked(iter(np.zeros((40, 2, 2, 3), np.uint8)), np.zeros(40, np.int64))]
    [32, 8]
    """
    for first in range(0, len(labels), BATCH):
        part = labels[first : first + BATCH]
        yield np.stack([next(images) for _ in part]), part


_streams: dict[tuple[str, int, int], ImageStream] = {}


def stream_of(job: Job) -> ImageStream:
    """The stream of a job; the same one when the same images are asked for again, so that its cache is used."""
    from toolkit.streaming.limits import FetchLimits
    from toolkit.streaming.pipeline import stream_images

    key = (job.way, job.images, job.latency_ms)
    if key not in _streams:
        kind: Any = KINDS[job.way]
        _streams[key] = stream_images(
            job.urls,
            job.labels,
            image_size=SIZE,
            batch_size=BATCH,
            seed=job.seed,
            cache=kind,
            cache_folder=Path(job.folder) / f"{kind}-{job.latency_ms}-{job.images}" if kind != "none" else None,
            limits=FetchLimits(allow_private=True),
        )
    return _streams[key]


def close_streams() -> list[ImageStream]:
    """End the streams that `stream_of` keeps, and return them."""
    streams = list(_streams.values())
    for stream in streams:
        stream.close()
    _streams.clear()
    return streams


def order_of(job: Job) -> NDArray[np.int64]:
    """The numbers of the images in the order of the stream's first epoch."""
    from toolkit.streaming.order import Order

    return Order(job.images, shuffle=True, seed=job.seed).places(0, 0, job.images)


def streamed(job: Job) -> Iterator[Batch]:
    """Ours."""
    return iter(stream_of(job))


@cache
def arrays(set_folder: str, images: int) -> Batch:
    """The images in RAM, decoded as the stream does it."""
    from toolkit.streaming.decoding import decode_image

    found = image_set(set_folder)
    out = np.empty((images, SIZE, SIZE, 3), np.uint8)
    for number in range(images):
        out[number] = decode_image(found.image(number), SIZE, SIZE)
    return out, found.labels_of(images)


def from_arrays(job: Job) -> Iterator[Batch]:
    """Slices of arrays in RAM."""
    images, labels = arrays(job.set_folder, job.images)
    for first in range(0, job.images, BATCH):
        yield images[first : first + BATCH], labels[first : first + BATCH]


def directory_dataset(job: Job) -> Any:
    """Keras's data set of files on the disk, in folders by class."""
    import keras

    folder = Path(job.folder) / f"files-{job.images}"
    if not folder.exists():
        image_set(job.set_folder).write_files(folder, job.images)
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), batch_size=BATCH, seed=job.seed, crop_to_aspect_ratio=True, verbose=False
    ).prefetch(2)


def from_directory(job: Job) -> Iterator[Batch]:
    """`keras.utils.image_dataset_from_directory`, read by nobody."""
    for images, labels in directory_dataset(job):
        yield np.asarray(images), np.asarray(labels)


# What `stream_images` keeps for later epochs.
KINDS = {"stream": "none", "stream, bytes cached": "bytes", "stream, tensors cached": "tensors"}
# name -> the batches of an epoch
WAYS: dict[str, Callable[[Job], Iterator[Batch]]] = {
    "in memory": from_arrays,
    **dict.fromkeys(KINDS, streamed),
    "notes": one_after_the_other,
    "requests in threads": in_threads,
    "image_dataset_from_directory": from_directory,
}


# Jobs.


class Subject:
    """The process: what it keeps between jobs."""

    def __init__(self) -> None:
        self._peak: PeakMemory | None = None
        self._model: keras.Model | None = None

    def do(self, job: Job) -> Answer:
        """Do a job and say what it took."""
        return {"load": self._load, "train": self._train, "compare": self._compare}[job.do](job)

    def _load(self, job: Job) -> Answer:
        if job.way == "image_dataset_from_directory":
            import keras  # noqa: F401 - Keras itself is no part of what its loader takes
        if job.way in KINDS:
            import toolkit.streaming.pipeline  # noqa: F401 - as above; what it loads on first use counts
        job.urls, job.labels  # noqa: B018 - the caller has them before he begins
        begun = self._begin()
        images = sum(len(labels) for _, labels in WAYS[job.way](job))
        return self._answer(images, begun)

    def _train(self, job: Job) -> Answer:
        model = self._compiled(job)
        options = {"epochs": 1, "verbose": 0}
        if job.way == "in memory":
            images, labels = arrays(job.set_folder, job.images)
            begun = self._begin()
            history = model.fit(images, labels, batch_size=BATCH, **options)
        else:
            data = fit_data(job)
            begun = self._begin()
            history = model.fit(data, **options)
        answer = self._answer(job.images, begun)
        if job.images <= WARM_UP_IMAGES:
            close_streams()
        return replace(answer, accuracy=float(history.history["accuracy"][-1]))

    def _compiled(self, job: Job) -> keras.Model:
        """The network, after two steps on black images: what they leave behind is no part of what a way takes."""
        if self._model is None:
            self._model = network(len(image_set(job.set_folder).class_names), job.seed)
            blank = np.zeros((WARM_UP_IMAGES, SIZE, SIZE, 3), np.uint8), np.zeros(WARM_UP_IMAGES, np.int64)
            if job.way == "in memory":
                self._model.fit(*blank, batch_size=BATCH, verbose=0)
            else:
                self._model.fit(stacked(iter(blank[0]), blank[1]), verbose=0)
        return self._model

    def _compare(self, job: Job) -> Answer:
        classes = len(image_set(job.set_folder).class_names)
        begun = self._begin()
        ours = trained(network(classes, job.seed), streamed(job))
        images, labels = arrays(job.set_folder, job.images)
        order = order_of(job)
        batches = (order[first : first + BATCH] for first in range(0, job.images, BATCH))
        theirs = trained(network(classes, job.seed), ((images[each], labels[each]) for each in batches))
        difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
        close_streams()
        return replace(self._answer(job.images, begun), difference=difference)

    def _begin(self) -> tuple[float, float]:
        """The clocks now; the memory is watched from the first job on."""
        if self._peak is None:
            self._peak = PeakMemory()
        return time.perf_counter(), time.process_time()

    def _answer(self, images: int, begun: tuple[float, float]) -> Answer:
        seconds, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
        assert self._peak is not None  # noqa: S101 - `_begin` made it
        return Answer(images, seconds, cpu, self._peak.read() - self._peak.before)


def fit_data(job: Job) -> Any:
    """One epoch of a way in the form in which `fit` takes it with the least ado."""
    if job.way in KINDS:
        stream = stream_of(job)
        return stream.as_tf_dataset() if backend() == "tensorflow" else stream.as_pydataset()
    if job.way == "image_dataset_from_directory":
        return directory_dataset(job)
    return WAYS[job.way](job)


def network(classes: int, seed: int) -> keras.Model:
    """The small CNN of the toolkit for 96 × 96 pixels from 0 to 255, compiled."""
    import keras

    from toolkit.architectures import small_cnn
    from toolkit.build import build

    inner = build(small_cnn((SIZE, SIZE, 3), classes, CHANNELS), seed=seed)
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(1 / 255), inner])
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(model: keras.Model, batches: Iterator[Batch]) -> list[NDArray[np.float32]]:
    """The weights after one step on each batch."""
    for images, labels in batches:
        model.train_on_batch(images, labels)
    return list(model.get_weights())


@dataclass(frozen=True)
class Orders:
    """A task for a worker: connect to a port of this machine, and do the jobs that come from there."""

    port: int

    work: ClassVar[str] = "toolkit.benchmarks.loaders:obey"

    def ended(self, ending: Ending) -> Ending:
        return ending


def obey(task: Orders, context: Context) -> None:
    """In the worker: do a job for every line of JSON, and send its answer, until the line is closed."""
    subject = Subject()
    with socket.create_connection(("127.0.0.1", task.port)) as line, line.makefile("r") as orders:
        for order in orders:
            context.send(subject.do(Job(**json.loads(order))))
    close_streams()
