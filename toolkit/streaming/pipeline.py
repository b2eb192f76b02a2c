"""Images from anywhere as batches of arrays, epoch after epoch, in bounded memory.

What a batch is: a group of `batch_size` consecutive samples of the epoch's order. Bad samples are left out of it, or
replaced by good ones of the same group. So what is in a batch, and how many there are, never depends on the network.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from toolkit.errors import InputError
from toolkit.streaming.decoding import Pixels, decode_image
from toolkit.streaming.engine import Engine
from toolkit.streaming.failures import Report
from toolkit.streaming.groups import Batch, Group
from toolkit.streaming.locations import scheme
from toolkit.streaming.order import Position
from toolkit.streaming.reading import PIECE, read_file
from toolkit.streaming.samples import Source
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import ShardSource, open_source
from toolkit.streaming.shelves import open_shelf
from toolkit.streaming.supplies import SampleSupply, ShardSupply, Step, Supply
from toolkit.system import process_memory

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LEAST_JUDGED = 100
"""Samples after which the share of bad ones is judged for the first time."""


@dataclass(frozen=True)
class Progress:
    """A look at a running stream.

    images: of this epoch that are through, of `total` (None for tar shards). in_flight: downloads. queued: batches that
    are worked on or wait.
    memory_bytes: resident, of this process. seconds_left: of the epoch, None where nobody can tell.
    """

    epoch: int
    images: int
    total: int | None
    images_per_second: float
    in_flight: int
    queued: int
    failures: int
    memory_bytes: int
    seconds_left: float | None


class ImageStream:
    """Batches of images and labels: uint8 (n, height, width, 3) and int64 (n,), as `settings` say.

    Each `for` loop runs one epoch from `position` on; one that follows a loop that was left goes on where that stopped.
    `batch(i)` is a batch by its number. `report` counts what failed. `close`, the end of a `with` block, or the end of
    the last reference ends its threads; it can be used again afterwards.
    """

    def __init__(self, source: Source | ShardSource, settings: StreamSettings, report: Report | None = None) -> None:
        self.source, self.settings = source, settings
        self.report = report if report is not None else Report()
        self._supply = _supply(source, settings)
        self._position = Position(stream=self._supply.identity)
        self._tally = _Tally(settings, 0)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closer: weakref.finalize[..., ImageStream] | None = None
        self._loop: object = None
        self._through = 0  # samples of this epoch
        self._began = (time.monotonic(), 0)  # when this loop began, and `_through` then

    def __len__(self) -> int:
        """Batches of an epoch; one whose samples all fail is left out. Raises TypeError for tar shards."""
        return self._addressed().batches

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, from 0."""
        return self._position.epoch

    @property
    def position(self) -> Position:
        """Where the stream stands after the last batch that it gave."""
        return self._position

    def resume(self, position: Position | Mapping[str, Any]) -> Self:
        """Go on from a position, of this stream or of one with the same source and settings.

        Raises InputError for a position of another stream.
        """
        wanted = position if isinstance(position, Position) else Position.from_dict(position)
        if wanted.stream != self._position.stream:
            raise InputError(
                "the position belongs to a stream with another source, order, seed or batch size; "
                "make the stream as the one that gave the position"
            )
        self._loop = None
        self._position = wanted
        return self

    def __iter__(self) -> Iterator[Batch]:
        self._loop = loop = object()
        start = self._position
        self._through = start.batches * self.settings.batch_size
        self._began = (time.monotonic(), self._through)
        try:
            with closing(self._steps(start)) as steps:
                for group, position in steps:
                    self._require_latest(loop)
                    batch = self._judged(group, position.epoch)
                    self._position = position
                    self._through += len(group)
                    if len(batch[1]):
                        yield batch
            self._require_latest(loop)
            self._tally_of(start.epoch).judge(self.report)
        except GeneratorExit:
            raise
        except BaseException:  # a stop, or Ctrl-C: nothing is left running
            if self._loop is loop:
                self.close()
            raise
        self._position = Position(epoch=self.epoch + 1, stream=self._position.stream)

    def batches(self, epoch: int) -> Generator[Batch]:
        """All batches of an epoch, wherever the stream stands; `position` stays as it is."""
        with closing(self._steps(Position(epoch))) as steps:
            for group, _ in steps:
                batch = self._judged(group, epoch)
                if len(batch[1]):
                    yield batch
        self._tally_of(epoch).judge(self.report)

    def batch(self, number: int, epoch: int | None = None) -> Batch:
        """The batch with this number, from 0, of an epoch (of the current one); it may be empty where all samples fail.

        Any number of threads may ask at once. `position` stays as it is. Raises IndexError beyond the last batch.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"batches are numbered from 0 to {len(self) - 1}; {number} came")
        epoch = self.epoch if epoch is None else epoch
        group = self._addressed().group(epoch, number * self.settings.batch_size, self.settings.batch_size)
        self._running().submit(group)
        group.wait()
        return self._judged(group, epoch)

    def progress(self) -> Progress:
        """How the current epoch goes."""
        (since, before), done = self._began, self._through
        engine, total = self._engine, self._supply.samples
        rate = (done - before) / max(time.monotonic() - since, 1e-9)
        return Progress(
            epoch=self.epoch,
            images=done,
            total=total,
            images_per_second=rate,
            in_flight=engine.in_flight if engine else 0,
            queued=engine.groups if engine else 0,
            failures=self.report.failed,
            memory_bytes=process_memory(),
            seconds_left=(total - done) / rate if total is not None and rate else None,
        )

    def as_pydataset(self, **options: Any) -> keras.utils.PyDataset:
        """The stream for `fit` and `evaluate` of Keras on any backend; see `toolkit.streaming.outputs.pydataset`."""
        from toolkit.streaming.outputs import pydataset

        return pydataset(self, **options)

    def as_tf_dataset(self) -> tf.data.Dataset:
        """The stream as a `tf.data.Dataset`; see `toolkit.streaming.outputs.tf_dataset`."""
        from toolkit.streaming.outputs import tf_dataset

        return tf_dataset(self)

    def close(self) -> None:
        """End the stream's threads within a second."""
        self._loop = None
        with self._lock:
            engine, self._engine = self._engine, None
            if self._closer:
                self._closer.detach()
        if engine:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _addressed(self) -> SampleSupply:
        if not isinstance(self._supply, SampleSupply):  # a TypeError, because `list` asks for a length if there is one
            raise TypeError("tar shards have no number of batches before they end; go over them in a loop")
        return self._supply

    def _running(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _make_engine(self.settings, self.report)
                self._closer = weakref.finalize(self, self._engine.close_elsewhere)
                self._closer.atexit = False
            return self._engine

    def _require_latest(self, loop: object) -> None:
        if self._loop is not loop:
            raise InputError(
                "another loop over the stream has begun, or it was closed, and this one cannot go on; "
                "make a stream for each loop"
            )

    def _steps(self, start: Position) -> Generator[Step]:
        return self._supply.steps(self._running(), start, self.report)

    def _tally_of(self, epoch: int) -> _Tally:
        with self._lock:
            if self._tally.epoch != epoch:
                self._tally = _Tally(self.settings, epoch)
            return self._tally

    def _judged(self, group: Group, epoch: int) -> Batch:
        """The group's batch, after its failures were counted; raises InputError where they are too many."""
        tally = self._tally_of(epoch)
        for failure in group.failures.values():
            self.report.add(failure)
        self._supply.lose(group.failures.values())
        batch = group.batch(self.settings.on_error)
        self.report.deliver(len(group) - len(group.failures))
        tally.add(len(group), len(group.failures), self.report)
        return batch


class _Tally:
    """Counts the samples and the failures of one epoch, for any thread."""

    def __init__(self, settings: StreamSettings, epoch: int) -> None:
        self.epoch = epoch
        self._share = settings.max_failed_share
        self._samples = self._failed = 0
        self._lock = threading.Lock()

    def add(self, samples: int, failed: int, report: Report) -> None:
        """Count a group; raises InputError where too large a share has failed."""
        with self._lock:
            self._samples += samples
            self._failed += failed
        if self._samples >= LEAST_JUDGED:
            self.judge(report)

    def judge(self, report: Report) -> None:
        """Raise InputError where too large a share has failed."""
        if self._failed <= self._share * self._samples:
            return
        worst = report.causes[0]
        raise InputError(
            f"{self._failed:,} of {self._samples:,} samples cannot be used, and max_failed_share allows a share of "
            f"{self._share:g}; the commonest cause is {str(worst.cause)!r} ({worst.example.location}: "
            f"{worst.example.sentence}); mend the list, or allow more"
        )


def _supply(source: Source | ShardSource, settings: StreamSettings) -> Supply:
    return ShardSupply(source, settings) if isinstance(source, ShardSource) else SampleSupply(source, settings)


def _make_engine(settings: StreamSettings, report: Report) -> Engine:
    height, width, _ = settings.shape

    def decode(data: bytes) -> Pixels:
        return decode_image(data, height, width, fit=settings.fit, limits=settings.decode_limits)

    def read(location: str) -> bytes | None:
        """A small local file: a large one has to wait for its part of the memory, as what the network sends."""
        if scheme(location) or not settings.limits.local_files:
            return None
        data = read_file(location, 0, PIECE)
        return data if 0 < len(data) < PIECE else None

    return Engine(settings.limits, decode, read, open_shelf(settings, decode, report.warn))


def stream_images(
    source: Any,
    labels: Any = None,
    *,
    image_size: int | tuple[int, int],
    class_names: Sequence[str] | None = None,
    part: tuple[int, int] = (0, 1),
    report: Report | str | PathLike[str] | None = None,
    **options: Any,
) -> ImageStream:
    """Batches of images from anywhere, for a loop over (images, labels).

    source: URLs and paths with `labels` (numbers or names), a file that lists them (.txt, .csv, .tsv, .jsonl,
    .parquet), a folder of images by class, here or in an object store, or tar shards (`birds-{000..099}.tar`). part:
    (i, n) for worker i of n, each sample in exactly one.
    report: a `Report`, or the CSV file for a new one. options: the fields of `StreamSettings`.
    Raises InputError for a source that cannot be read and for options that cannot be.
    """
    settings = StreamSettings(image_size, **options)
    return open_stream(source, settings, labels, class_names=class_names, part=part, report=report)


def open_stream(
    source: Any,
    settings: StreamSettings,
    labels: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    part: tuple[int, int] = (0, 1),
    report: Report | str | PathLike[str] | None = None,
) -> ImageStream:
    """`stream_images` for settings that are there already.

    >>> len(open_stream([], StreamSettings(8)))
    0
    """
    found = open_source(source, labels, class_names=class_names, stores=settings.limits.allow_private)
    if not isinstance(report, Report):
        report = Report(report)
    return ImageStream(found.part(*part), settings, report)
