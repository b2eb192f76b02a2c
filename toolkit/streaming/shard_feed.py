"""The samples of tar shards, dealt out to the groups that wait for them.

A shard can only be read from its beginning, so that its samples are shuffled in blocks, while they are encoded and
small, and the shards themselves in each epoch. In the order of the source one shard is read after the other; in
completion order several at once, and whichever sample comes first gets the next place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError
from toolkit.streaming.admission import Budget, Ticket
from toolkit.streaming.contents import Contents
from toolkit.streaming.failures import Cause, Failure, Report, SampleError
from toolkit.streaming.groups import Group, stops
from toolkit.streaming.order import Position, shuffled
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import Kept, ShardSample, ShardSource, member, read_shard

if TYPE_CHECKING:
    from toolkit.streaming.engine import Engine
    from toolkit.streaming.fetching import Fetcher
    from toolkit.streaming.network import Network

BLOCK_BYTES = 4_000_000
"""Encoded bytes after which a block ends, however few its samples: a block and the next one's begin fit the budget."""

SHARDS_AT_ONCE = 4
"""Shards that are read at once in completion order."""

Seat = tuple[Group, int]


class _Block:
    """Samples of a shard that are shuffled together, and hold one ticket together until all of them are decoded."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.samples: list[ShardSample] = []
        self.size = 0
        self._closed = 0

    def add(self, sample: ShardSample) -> None:
        self.samples.append(sample)
        self.size += sample.size

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
                self._block.add(sample)
                if len(self._block.samples) >= self._length or self._block.size >= BLOCK_BYTES:
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


class _Standing:
    """How many samples of each shard were dealt out, by the shard's number in the epoch's order."""

    def __init__(self, start: Position) -> None:
        self._first = start.shards  # the first that is not through
        self._dealt = dict(enumerate((start.done, *start.ahead), start.shards))
        self._through: set[int] = set()

    def of(self, shard: int) -> int:
        """So many samples of this shard."""
        return self._dealt.get(shard, 0)

    def deal(self, shard: int) -> None:
        """One more."""
        self._dealt[shard] = self.of(shard) + 1

    def end(self, shard: int) -> None:
        """No more samples come from this shard."""
        self._through.add(shard)
        while self._first in self._through:
            self._through.discard(self._first)
            self._dealt.pop(self._first, None)
            self._first += 1

    def told(self) -> tuple[int, int, tuple[int, ...]]:
        """`shards`, `done` and `ahead` of a position."""
        later = range(self._first + 1, max(self._dealt, default=0) + 1)
        return self._first, self.of(self._first), tuple(map(self.of, later))


class ShardFeed:
    """Fills groups with the samples of an epoch's shards, from a position on; the last group is cut to what is left.

    `lost`: samples that earlier epochs could not decode, by their names.
    """

    def __init__(
        self,
        source: ShardSource,
        settings: StreamSettings,
        start: Position,
        report: Report,
        engine: Engine,
        lost: Mapping[str, Failure],
    ) -> None:
        self._source, self._settings, self._start, self._report = source, settings, start, report
        self._engine = engine
        self._contents = Contents(engine.shelf, source, settings, lost) if engine.shelf else None
        self._standing = _Standing(start)
        self._waiting: asyncio.Queue[Group] = asyncio.Queue()
        self._seating = asyncio.Lock()
        self._group: Group | None = None
        self._filled = 0
        self._unread = 0  # shards that gave no sample
        self._end: InputError | None = None
        self._missing: dict[str, dict[str, Seat]] = {}  # by shard and key

    def wants(self, group: Group) -> None:
        """Fill this group after those before. Runs on the loop."""
        self._waiting.put_nowait(group)

    async def run(self, fetcher: Fetcher, network: Network) -> None:
        """Deal out all samples, then tell every group that waits that there are no more; ends when it is cancelled."""
        self._fetcher, self._network = fetcher, network
        self._budget, self._spare = Budget(network.budget_bytes), Budget(network.budget_bytes)
        shards = iter(list(enumerate(self._shards()))[self._start.shards :])
        at_once = 1 if self._settings.order == "source" else SHARDS_AT_ONCE
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.gather(*(self._read(shards) for _ in range(at_once)))
            self._close(self._group, self._filled)
            while True:
                self._close(await self._waiting.get(), 0)

    def _shards(self) -> list[str]:
        locations = list(self._source.locations)
        return shuffled(locations, self._settings.seed, self._start.epoch) if self._settings.shuffle else locations

    def _close(self, group: Group | None, filled: int) -> None:
        """Let a group end with what it has, or with the error that ends everything."""
        if group and self._end:
            group.give_up(self._end)
        elif group:
            group.through = self._standing.told()
            group.cut(filled)

    async def _read(self, shards: Iterator[tuple[int, str]]) -> None:
        """Deal out shard after shard, until there are no more."""
        for number, shard in shards:
            if self._end:
                return
            try:
                await self._deal(number, shard)
            except SampleError as error:
                self._lose(number, shard, error)
            self._standing.end(number)

    def _lose(self, number: int, shard: str, error: SampleError) -> None:
        """A shard, or the rest of one, cannot be read; how many samples the rest has nobody knows."""
        failure = Failure(-1, shard, error.cause, error.sentence)
        self._report.add(failure)
        self._unread += not self._standing.of(number)
        share, count = self._settings.max_failed_share, len(self._source.locations)
        if self._settings.on_error == "fail":
            self._end = InputError(stops(failure))
        elif self._unread > share * count:
            self._end = InputError(
                f"{self._unread:,} of {count:,} shards gave no sample, and max_failed_share allows a share of "
                f"{share:g}; the last is {shard} ({error.sentence}); mend the list, or allow more"
            )

    async def _deal(self, number: int, shard: str) -> None:
        """Give each sample of a shard its place in a group."""
        done, skipped = 0, self._standing.of(number)
        blocks = _Blocks(self._budget, self._settings.shuffle_block if self._settings.shuffle else 1)
        async for block in blocks.of(self._samples(shard, blocks)):
            for sample in self._shuffled(block.samples, number, done):
                done += 1
                if done <= skipped:
                    block.close()
                    continue
                group, place = await self._seat()
                self._standing.deal(number)
                if place == len(group) - 1:
                    group.through = self._standing.told()
                self._give(group, place, shard, sample, block)

    async def _samples(self, shard: str, blocks: _Blocks) -> AsyncIterator[ShardSample]:
        """The samples of a shard: from the cache if it has all of them."""
        if self._contents is None:
            async for sample in self._from_afar(shard, blocks):
                yield sample
            return
        kept = await self._in_thread(self._contents.samples, shard)
        if kept is not None:
            for sample in kept:
                yield sample
            return
        seen = []
        async for sample in self._from_afar(shard, blocks):
            seen.append(sample._replace(data=Kept(sample.size)) if isinstance(sample.data, bytes) else sample)
            yield sample
        await self._in_thread(self._contents.keep, shard, seen)

    def _from_afar(self, shard: str, blocks: _Blocks) -> AsyncIterator[ShardSample]:
        return read_shard(shard, self._fetcher, blocks, self._source.class_names)

    async def _in_thread(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Reading and writing the cache must not keep the network waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._fetcher.threads, call, *arguments)

    def _shuffled(self, samples: list[ShardSample], *numbers: int) -> list[ShardSample]:
        settings = self._settings
        return shuffled(samples, settings.seed, self._start.epoch, *numbers) if settings.shuffle else samples

    async def _seat(self) -> Seat:
        """The next free place; a consumer that takes its time is waited for here."""
        async with self._seating:
            if self._group is None or self._filled == len(self._group):
                self._group, self._filled = await self._waiting.get(), 0
            self._filled += 1
            return self._group, self._filled - 1

    def _give(self, group: Group, place: int, shard: str, sample: ShardSample, block: _Block) -> None:
        """Let the engine make the sample's image, from its bytes or from the cache."""
        group.locations[place], data = member(shard, sample.key), sample.data
        if isinstance(data, SampleError):
            block.close()
            group.fail(place, data)
            return
        group.labels[place] = sample.label
        if isinstance(data, Kept):
            block.close()
            self._engine.restore(
                group, place, lambda: self._network.call(self._miss, shard, sample.key, (group, place))
            )
        else:
            self._network.deliver(group, place, data, lambda: self._network.release(block.close))

    # Samples that the cache has lost since it was asked for them.

    def _miss(self, shard: str, key: str, seat: Seat) -> None:
        """Read the shard once more for this sample. Runs on the loop."""
        begun = shard in self._missing
        self._missing.setdefault(shard, {})[key] = seat
        if not begun:
            self._tasks.create_task(self._read_again(shard))

    async def _read_again(self, shard: str) -> None:
        wanted = self._missing[shard]
        while wanted:
            asked, reason = tuple(wanted), SampleError(Cause.DAMAGED_SHARD, "it is not in its shard any more")
            try:
                await self._search(shard, wanted)
            except SampleError as error:
                reason = error
            for group, place in [wanted.pop(key) for key in asked if key in wanted]:
                group.fail(place, reason)
        del self._missing[shard]

    async def _search(self, shard: str, wanted: dict[str, Seat]) -> None:
        """Take what is wanted out of a shard. The bytes are counted apart: the reader may wait for these very ones."""
        blocks = _Blocks(self._spare, 1)
        async for block in blocks.of(self._from_afar(shard, blocks)):
            sample = block.samples[0]
            seat = wanted.pop(sample.key, None)
            if seat:
                self._give(*seat, shard, sample, block)
            else:
                block.close()
