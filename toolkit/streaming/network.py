"""The one thread that speaks with the network: an event loop that fetches what other threads ask for."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from toolkit.errors import InputError
from toolkit.streaming.admission import BUDGET_BYTES
from toolkit.streaming.groups import Group

if TYPE_CHECKING:
    from toolkit.streaming.fetching import Budget, Fetcher, Ticket
    from toolkit.streaming.limits import FetchLimits

_JOIN_SECONDS = 1.0


class Encoded(Protocol):
    """What takes the bytes of a sample, in any thread; `release` is called when they are not needed any more."""

    def __call__(self, group: Group, place: int, data: bytes, release: Callable[[], None]) -> None: ...


class Feed(Protocol):
    """What fetches samples in an order of its own, on the network's loop."""

    async def run(self, fetcher: Fetcher, network: Network) -> None: ...

    def wants(self, group: Group) -> None: ...


class Network:
    """Fetches samples in a thread of its own and hands their bytes to `deliver`.

    At most `limits.connections` are in flight, and at most `budget_bytes` of theirs in memory, until they are released.
    If the thread ends by a mistake, `broken` gets the error. Raises InputError where aiohttp is missing.
    """

    def __init__(
        self,
        limits: FetchLimits,
        deliver: Encoded,
        broken: Callable[[BaseException], None],
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self.deliver = deliver
        self.budget_bytes = budget_bytes
        self._limits, self._broken = limits, broken
        self._wanted: asyncio.Queue[tuple[Group, int]] = asyncio.Queue()
        self._released: deque[Callable[[], None]] = deque()
        self._releases = False  # whether the loop was told of them
        self._fetcher: Fetcher | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="toolkit-network", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    @property
    def in_flight(self) -> int:
        """Downloads that go on now."""
        return self._fetcher.in_flight if self._fetcher else 0

    def fetch(self, group: Group, places: list[int]) -> None:
        """Fetch the samples at these places of the group, after all that were asked for before."""
        self.call(self._queue, group, places)

    def start(self, feed: Feed) -> Future[None]:
        """Run a feed; cancelling what comes back ends it."""
        return asyncio.run_coroutine_threadsafe(self._run_feed(feed), self._loop)

    def release(self, release: Callable[[], None]) -> None:
        """As `call`, but for many: waking the loop costs a system call, which all that wait share."""
        self._released.append(release)
        if not self._releases:
            self._releases = True
            self.call(self._release_all)

    def close(self) -> None:
        """Break off everything; returns when the thread has ended, or after a second."""
        if self._task:
            self.call(self._task.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call this on the loop, from any thread."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop has ended: nobody waits for it any more
            return

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            return  # `close`
        except BaseException as error:  # or whoever waits for an image would wait for ever
            self._broken(error) if self._ready.done() else self._ready.set_exception(error)

    async def _serve(self) -> None:
        try:
            from toolkit.streaming.fetching import Budget, Fetcher
        except ImportError as error:
            raise InputError(f"images are fetched with {error.name}; install it with: pip install aiohttp") from error
        # Errors of ours end the tasks below and are told to `broken`. What else the loop would print is aiohttp's:
        # connections that were lost when nobody used them any more.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        self._task = asyncio.current_task()
        budget = Budget(self.budget_bytes)
        async with Fetcher(self._limits) as self._fetcher, asyncio.TaskGroup() as tasks:
            for _ in range(self._limits.connections):
                tasks.create_task(self._work(self._fetcher, budget))
            self._ready.set_result(asyncio.get_running_loop())

    async def _run_feed(self, feed: Feed) -> None:
        try:
            if self._fetcher:
                await feed.run(self._fetcher, self)
        except Exception as error:  # or whoever waits for an image would wait for ever
            self._broken(error)
            if self._task:
                self._task.cancel()  # nobody knows us any more

    async def _work(self, fetcher: Fetcher, budget: Budget) -> None:
        """One of those that fetch sample after sample; all in flight are as many as there are of these."""
        while True:
            group, place = await self._wanted.get()
            if not group.abandoned:
                await self._fetch(fetcher, budget.ticket(), group, place)

    async def _fetch(self, fetcher: Fetcher, ticket: Ticket, group: Group, place: int) -> None:
        try:
            data = await fetcher.fetch(group.locations[place], ticket)
        except Exception as error:
            ticket.release()
            group.fail(place, error)
        else:
            self.deliver(group, place, data, lambda: self.release(ticket.release))

    def _queue(self, group: Group, places: list[int]) -> None:
        for place in places:
            self._wanted.put_nowait((group, place))

    def _release_all(self) -> None:
        self._releases = False
        while self._released:
            self._released.popleft()()
