"""The samples of tar shards, read one after the other and dealt out to the groups that wait for them.

A shard can only be read from its beginning, so that its samples are shuffled in blocks, while they are encoded and
small, and the shards themselves in each epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.streaming.admission import Budget, Ticket
from toolkit.streaming.failures import Failure, Report, SampleError
from toolkit.streaming.groups import Group
from toolkit.streaming.order import Position, shuffled
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import ShardSample, ShardSource, read_shard

if TYPE_CHECKING:
    from toolkit.streaming.fetching import Fetcher
    from toolkit.streaming.network import Network

BLOCK_BYTES = 4_000_000
"""Encoded bytes after which a block ends, however few its samples: two blocks fit well into the budget."""


class _Block:
    """Samples of a shard that are shuffled together, and hold one ticket together until all of them are decoded."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.samples: list[ShardSample] = []
        self._closed = 0

    def close(self) -> None:
        """One of the samples is decoded. Runs on the loop."""
        self._closed += 1
        if self._closed == len(self.samples):
            self.ticket.release()


class _Blocks:
    """A shard's samples in blocks; to the reader of the shard, the ticket of the block that is being read."""

    def __init__(self, budget: Budget, length: int) -> None:
        self._budget, self._length = budget, length
        self._block = _Block(budget.ticket())

    async def take(self, count: int) -> None:
        await self._block.ticket.take(count)

    async def of(self, samples: AsyncIterator[ShardSample]) -> AsyncIterator[_Block]:
        """The samples in blocks; the error that ends them comes after the last block."""
        damage: SampleError | None = None
        try:
            async for sample in samples:
                self._block.samples.append(sample)
                if len(self._block.samples) >= self._length or self._block.ticket.held >= BLOCK_BYTES:
                    yield self._next()
        except SampleError as error:
            damage = error
        if self._block.samples:
            yield self._block
        else:
            self._block.ticket.release()
        if damage:
            raise damage

    def _next(self) -> _Block:
        block, self._block = self._block, _Block(self._budget.ticket())
        return block


class ShardFeed:
    """Fills groups with the samples of an epoch's shards, from a position on; the last group is cut to what is left."""

    def __init__(self, source: ShardSource, settings: StreamSettings, start: Position, report: Report) -> None:
        self._source, self._settings, self._start, self._report = source, settings, start, report
        self._waiting: asyncio.Queue[Group] = asyncio.Queue()
        self._group: Group | None = None
        self._filled = 0
        self._damaged: list[str] = []

    def require_some(self) -> None:
        """Raise InputError if no shard could be read to its end, and no sample came."""
        if self._group is None and len(self._damaged) == len(self._source.locations):
            raise InputError(
                f"none of the {len(self._damaged)} shards could be read ({self._damaged[0]}); mend their addresses"
            )

    def wants(self, group: Group) -> None:
        """Fill this group after those before. Runs on the loop."""
        self._waiting.put_nowait(group)

    async def run(self, fetcher: Fetcher, network: Network) -> None:
        """Deal out all samples, then tell every group that waits that there are no more; ends when it is cancelled."""
        budget = Budget(network.budget_bytes)
        for number, location in enumerate(self._shards()):
            if number >= self._start.shards:
                blocks = _Blocks(budget, self._settings.shuffle_block if self._settings.shuffle else 1)
                try:
                    samples = read_shard(location, fetcher, blocks, self._source.class_names)
                    await self._deal(location, number, blocks.of(samples), network)
                except SampleError as error:
                    self._report.add(Failure(-1, location, error.cause, error.sentence))
                    self._damaged.append(f"{location}: {error}")
        if self._group:
            self._group.cut(self._filled)
        while True:
            (await self._waiting.get()).cut(0)

    def _shards(self) -> list[str]:
        locations = list(self._source.locations)
        return shuffled(locations, self._settings.seed, self._start.epoch) if self._settings.shuffle else locations

    async def _deal(self, location: str, number: int, blocks: AsyncIterator[_Block], network: Network) -> None:
        """Give each sample of a shard its place in a group."""
        done = 0
        skipped = self._start.done if number == self._start.shards else 0
        async for block in blocks:
            for sample in self._shuffled(block.samples, number, done):
                done += 1
                if done > skipped:
                    group, place = await self._seat()
                    group.shards, group.first = number, done
                    group.locations[place] = f"{location}#{sample.key}"
                    self._give(group, place, sample, block, network)
                else:
                    block.close()

    def _shuffled(self, samples: list[ShardSample], *numbers: int) -> list[ShardSample]:
        settings = self._settings
        return shuffled(samples, settings.seed, self._start.epoch, *numbers) if settings.shuffle else samples

    async def _seat(self) -> tuple[Group, int]:
        """The next free place; a consumer that takes its time is waited for here."""
        if self._group is None or self._filled == len(self._group):
            self._group, self._filled = await self._waiting.get(), 0
        self._filled += 1
        return self._group, self._filled - 1

    def _give(self, group: Group, place: int, sample: ShardSample, block: _Block, network: Network) -> None:
        if isinstance(sample.data, SampleError):
            block.close()
            group.fail(place, sample.data)
        else:
            group.labels[place] = sample.label
            network.deliver(group, place, sample.data, lambda: network.release(block.close))
