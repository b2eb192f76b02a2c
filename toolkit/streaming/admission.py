"""Who may go next: the bytes that downloads may hold, and the number of them in flight.

Everything here lives on one event loop, and every call but `Ticket.take` and `Slots.take` returns at once. Where
several wait, the oldest goes first, so that whoever consumes samples in their order never waits for a younger one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from heapq import heappop, heappush
from types import TracebackType
from typing import Self

BUDGET_BYTES = 6_000_000
"""Encoded bytes that are in flight or wait to be decoded: 270 photos of 22 kB, or one that is as large as allowed."""


class Budget:
    """At most `total` bytes held by all tickets together, except that the oldest ticket gets what it asks for.

    Without that exception a few large images, each waiting for the rest of the others, would stop everything.
    So at most `total` and one largest image are held.
    """

    def __init__(self, total: int = BUDGET_BYTES) -> None:
        self.total = total
        self.used = 0
        self._made = 0
        self._open: OrderedDict[int, Ticket] = OrderedDict()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def ticket(self) -> Ticket:
        """The next ticket; those made earlier go first. Whoever made it releases it."""
        self._made += 1
        ticket = self._open[self._made] = Ticket(self, self._made)
        return ticket

    def _admits(self, number: int, count: int) -> bool:
        return self.used + count <= self.total or number == next(iter(self._open))

    def _wake(self) -> None:
        while self._waiting:
            number, count, future = self._waiting[0]
            if not future.done():
                if not self._admits(number, count):
                    return
                self._open[number].add(count)
                future.set_result(None)
            heappop(self._waiting)


class Ticket:
    """What one sample holds of a budget, and its place in the line."""

    def __init__(self, budget: Budget, number: int) -> None:
        self._budget, self.number, self.held = budget, number, 0

    def take_now(self, count: int) -> bool:
        """Take `count` bytes if nobody has to wait for them; False takes none."""
        budget = self._budget
        if (budget._waiting and budget._waiting[0][0] < self.number) or not budget._admits(self.number, count):
            return False
        self.add(count)
        return True

    async def take(self, count: int) -> None:
        """Take `count` bytes, and wait for them if need be."""
        if not self.take_now(count):
            future = asyncio.get_running_loop().create_future()
            heappush(self._budget._waiting, (self.number, count, future))
            await future

    def add(self, count: int) -> None:
        """Hold `count` bytes more, whatever the budget says."""
        self.held += count
        self._budget.used += count

    def keep(self, count: int) -> None:
        """Give back all but `count` bytes, and stay in the line."""
        if self.held > count:
            self._budget.used -= self.held - count
            self.held = count
            self._budget._wake()

    def release(self) -> None:
        """Give back everything and leave the line; a second time does nothing."""
        if self._budget._open.pop(self.number, None) is not None:
            self._budget.used -= self.held
            self.held = 0
            self._budget._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Slots:
    """A semaphore whose limit may change, and which lets the smallest number through first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether somebody has a slot or waits for one."""
        return bool(self.taken or self._waiting)

    async def take(self, number: int) -> None:
        """Take a slot as number `number`, and wait for it if need be."""
        if self.taken < self.limit and not self._waiting:
            self.taken += 1
            return
        future = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heappush(self._waiting, (number, self._arrivals, future))
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self.wake()

    def wake(self) -> None:
        """Let through as many as the limit has room for; to be called when it has grown."""
        while self._waiting and self.taken < self.limit:
            future = heappop(self._waiting)[2]
            if not future.done():
                self.taken += 1
                future.set_result(None)


class HostSlots(Slots):
    """The slots of one host: halved when it says that it is too much, and one more after each round that went well.

    Additive increase with multiplicative decrease is what keeps TCP fair (Chiu and Jain 1989). Between two requests
    there are at least `delay` seconds.
    """

    def __init__(self, most: int, delay: float = 0.0) -> None:
        super().__init__(most)
        self.most, self.delay = most, delay
        self.met = 0  # how often it was asked
        self.free_at = 0.0  # when it may be asked next, on the loop's clock
        self._count = 0  # downloads since the limit changed

    async def take(self, number: int) -> None:
        await super().take(number)
        if not self.delay:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self.free_at)
        self.free_at = start + self.delay
        try:
            await asyncio.sleep(start - now)
        except asyncio.CancelledError:
            self.give()
            raise

    def finished(self, congested: bool) -> None:
        """Note the end of a download, and whether it was too much for the host."""
        self._count += 1
        if congested and self._count > 0:
            self.limit = max(1, min(self.limit, self.taken) // 2)
            self._count = -self.limit  # those that were asked for before may say the same
        elif self._count >= self.limit < self.most:
            self.limit += 1
            self._count = 0
            self.wake()


_FIRST_GROWTH = 2.0  # of the window in one step, until a step brought nothing
_GROWTH = 1.5  # later
_SHRINKING = 0.75  # a step down
_GAIN = 1.2  # of the rate, which makes a step up worth keeping
_LOSS = 0.95  # of the rate, below which a step down is taken back
_REST = 3  # rounds until the next try after a step that was taken back
_FIRST_SECONDS = 0.2  # of a round at least: the rate of a few downloads from nearby is mostly chance
_SECONDS = 0.5  # later, when there is no hurry


class Window(Slots):
    """Slots whose limit looks for the smallest number in flight that gives the full speed, from `start` to `most`.

    A round is as many downloads as the limit, and takes some time. While others wait for a slot, the limit is doubled
    (later it grows by half), and goes back if the rate did not grow with it; then less is tried.
    """

    def __init__(self, start: int, most: int) -> None:
        super().__init__(min(start, most))
        self.least, self.most = self.limit, most
        self._since: float | None = None  # when this round began
        self._count = 0  # downloads in it
        self._before: tuple[int, float] | None = None  # limit and rate before the step that this round tries
        self._rest = 0
        self._step = _FIRST_GROWTH  # what the limit is multiplied with next

    def finished(self, now: float) -> None:
        """Note the end of a download at `now`, in seconds of the loop's clock."""
        if self._since is None:  # a round goes from end to end
            self._since = now
            return
        self._count += 1
        least = _FIRST_SECONDS if self._step == _FIRST_GROWTH else _SECONDS
        if self._count >= self.limit and now >= self._since + least:
            self._adapt(self._count / (now - self._since))
            self._since, self._count = now, 0

    def _adapt(self, rate: float) -> None:
        before, self._before = self._before, None
        self._rest = max(0, self._rest - 1)
        if before and rate < before[1] * (_GAIN if self._step > 1 else _LOSS):
            self._turn(before[0])
        elif not self._rest and (self.waiting or self._step < 1):
            wanted = min(self.most, max(self.least, round(self.limit * self._step)))
            if wanted == self.limit:
                self._turn(wanted)
            else:
                self._before = (self.limit, rate)
                self.limit = wanted
        self.wake()

    def _turn(self, limit: int) -> None:
        """Go to this limit, and try the other direction after a while, if there is room."""
        self.limit, self._rest = limit, _REST
        self._step = _SHRINKING if self._step > 1 and limit > self.least else _GROWTH


class Turn:
    """One sample's turn to download: a slot of each of `slots`, bytes of its ticket, and what is left of its time.

    Both the clock and the slots rest while it waits for bytes, so that whoever holds a slot is never kept from
    finishing, and whoever is the oldest gets one.
    """

    def __init__(self, seconds: float, ticket: Ticket) -> None:
        self.left = seconds
        self.ticket = ticket
        self._slots: tuple[Slots, ...] = ()
        self._held = 0
        self._since = 0.0
        self._scope = asyncio.timeout(None)

    async def begin(self, slots: tuple[Slots, ...]) -> None:
        """Wait for a slot of each."""
        self._slots = slots
        await self._enter()

    def end(self) -> None:
        """Give the slots back."""
        while self._held:
            self._held -= 1
            self._slots[self._held].give()

    async def _enter(self) -> None:
        for slots in self._slots:
            await slots.take(self.ticket.number)
            self._held += 1

    def start(self, now: float) -> asyncio.Timeout:
        """Let the clock run, and return the scope that is cancelled when the time is up."""
        self._since = now
        self._scope = asyncio.timeout_at(now + self.left)
        return self._scope

    def stop(self, now: float) -> float:
        """Take the time since the last call from what is left, and return that."""
        self.left -= now - self._since
        self._since = now
        return self.left

    async def take(self, count: int) -> None:
        """Take `count` bytes from the ticket."""
        if self.ticket.take_now(count):
            return
        loop = asyncio.get_running_loop()
        self.stop(loop.time())
        self._scope.reschedule(None)
        self.end()
        await self.ticket.take(count)
        await self._enter()
        self._since = loop.time()
        self._scope.reschedule(self._since + self.left)
