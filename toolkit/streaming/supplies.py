"""Where the groups of an epoch come from: samples with an address each, or tar shards."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from toolkit.streaming.engine import Engine
from toolkit.streaming.failures import LASTING, Cause, Failure, Report, SampleError
from toolkit.streaming.groups import Group
from toolkit.streaming.order import Order, Position
from toolkit.streaming.runs import as_completed, in_order
from toolkit.streaming.samples import Source
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import ShardSource

Step = tuple[Group, Position]

MOST_LOST = 10_000
"""Bad samples that are remembered from epoch to epoch, in some 3 MB; further ones are asked for again."""


class Supply(Protocol):
    """The groups of each epoch.

    samples: those of an epoch that come to be in a batch; None where nobody knows before its end. identity: stands for
    everything that the order depends on.
    """

    @property
    def samples(self) -> int | None: ...

    @property
    def identity(self) -> str: ...

    def steps(self, engine: Engine, start: Position, report: Report) -> Generator[Step]:
        """The groups of an epoch from a position on, finished, and where the stream stands after each."""

    def lose(self, failures: Iterable[Failure]) -> None:
        """Be told of failures."""


class SampleSupply:
    """Samples with an address each, in an order that is known beforehand."""

    def __init__(self, source: Source, settings: StreamSettings) -> None:
        self._source, self._settings = source, settings
        self._order = Order(len(source), settings.shuffle, settings.seed)
        ends = [source.locations[place] for place in (0, -1)] if len(source) else []
        self.identity = _identity(settings, len(source), *ends)
        self.batches = self._order.groups(settings.batch_size, settings.drop_remainder)
        self.samples = min(len(source), self.batches * settings.batch_size)
        self._lost: dict[int, Failure] = {}

    def group(self, epoch: int, first: int, length: int) -> Group:
        """The samples at these places of the epoch's order."""
        source, places = self._source, self._order.places(epoch, first, first + length)
        numbers, locations = zip(*((source.numbers[place], source.locations[place]) for place in places), strict=True)
        group = Group(np.array(numbers), locations, source.labels[places], self._settings.shape, first)
        for place, number in enumerate(numbers if self._lost else ()):
            if number in self._lost:
                group.fail(place, SampleError(*self._lost[number][2:]))
        return group

    def lose(self, failures: Iterable[Failure]) -> None:
        """Do not ask again for samples that failed for a lasting reason: in later epochs they fail at once."""
        for failure in failures:
            if failure.cause in LASTING and len(self._lost) < MOST_LOST:
                self._lost[failure.number] = failure

    def steps(self, engine: Engine, start: Position, report: Report) -> Generator[Step]:
        return self._in_order(engine, start) if self._settings.order == "source" else self._as_completed(engine, start)

    def _in_order(self, engine: Engine, start: Position) -> Generator[Step]:
        size = self._settings.batch_size
        groups = (self.group(start.epoch, first, size) for first in range(start.done, self.samples, size))
        with closing(in_order(groups, engine.submit, self._settings.ahead)) as run:
            for batches, group in enumerate(run, start.batches + 1):
                yield group, replace(start, batches=batches, done=group.first + len(group))

    def _as_completed(self, engine: Engine, start: Position) -> Generator[Step]:
        """Groups of one sample each, put together as they are finished."""
        size, through = self._settings.batch_size, _Through(start.done, start.ahead)
        places = (place for place in range(start.done, self.samples) if place not in start.ahead)
        singles = (self.group(start.epoch, place, 1) for place in places)
        # Nobody waits for the slowest, so that as many as may be in flight are enough.
        ahead = self._settings.limits.connections + size
        with closing(as_completed(singles, engine.submit, ahead)) as run:
            for batches, found in enumerate(_batched(run, size), start.batches + 1):
                through.add(group.first for group in found)
                position = replace(start, batches=batches, done=through.done, ahead=through.ahead)
                yield _merged(found, self._settings.shape), position


class ShardSupply:
    """Tar shards: how many samples they have is known when they end."""

    samples = None

    def __init__(self, source: ShardSource, settings: StreamSettings) -> None:
        self._source, self._settings = source, settings
        self.identity = _identity(settings, settings.shuffle_block, *source.locations)
        self._lost: dict[str, Failure] = {}

    def steps(self, engine: Engine, start: Position, report: Report) -> Generator[Step]:
        """A feed fills empty groups; the first that stays empty tells that there are no more samples."""
        from toolkit.streaming.shard_feed import ShardFeed

        feed = ShardFeed(self._source, self._settings, start, report, engine, self._lost)
        reading = engine.start(feed)
        least = self._settings.batch_size if self._settings.drop_remainder else 1
        try:
            with closing(in_order(self._empty_groups(), partial(engine.submit_to, feed), self._settings.ahead)) as run:
                for batches, group in enumerate(run, start.batches + 1):
                    if len(group) < least:
                        return
                    shards, done, ahead = group.through
                    yield group, replace(start, batches=batches, shards=shards, done=done, ahead=ahead)
        finally:
            reading.cancel()

    def lose(self, failures: Iterable[Failure]) -> None:
        """Remember what could not be decoded: a shard is read again if the cache lacks one of the others only."""
        for failure in failures if self._settings.cache != "none" else ():
            if failure.cause is not Cause.UNEXPECTED and len(self._lost) < MOST_LOST:
                self._lost[failure.location] = failure

    def _empty_groups(self) -> Iterator[Group]:
        size = self._settings.batch_size
        while True:
            numbers, labels = np.full(size, -1), np.zeros(size, np.int64)
            yield Group(numbers, [""] * size, labels, self._settings.shape)


class _Through:
    """The places of an epoch's order that are through, when they are not so one after the other."""

    def __init__(self, done: int, ahead: Iterable[int]) -> None:
        self.done = done
        self._ahead = set(ahead)

    @property
    def ahead(self) -> tuple[int, ...]:
        """Places after the first one that is not through."""
        return tuple(sorted(self._ahead))

    def add(self, places: Iterable[int]) -> None:
        """These are through, too."""
        self._ahead.update(places)
        while self.done in self._ahead:
            self._ahead.remove(self.done)
            self.done += 1


def _batched(groups: Iterable[Group], size: int) -> Iterator[list[Group]]:
    found: list[Group] = []
    for group in groups:
        found.append(group)
        if len(found) == size:
            yield found
            found = []
    if found:
        yield found


def _merged(groups: Sequence[Group], shape: tuple[int, int, int]) -> Group:
    """Groups of one sample each as one group."""
    numbers, labels = (np.concatenate([getattr(group, name) for group in groups]) for name in ("numbers", "labels"))
    merged = Group(numbers, [group.locations[0] for group in groups], labels, shape)
    for place, group in enumerate(groups):
        merged.images[place] = group.images[0]
        if group.failures:
            merged.failures[place] = group.failures[0]
    return merged


def _identity(settings: StreamSettings, *facts: object) -> str:
    chosen = (settings.shuffle, settings.seed, settings.batch_size, settings.order, settings.drop_remainder)
    return hashlib.blake2b(repr((*facts, *chosen)).encode(errors="surrogatepass"), digest_size=8).hexdigest()
