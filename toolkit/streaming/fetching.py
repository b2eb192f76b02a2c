"""One image from anywhere, as bytes: over HTTP, from a file, or from an object store through fsspec.

Whatever a server does, a fetch ends within its limits of time and bytes, with the image or with a `SampleError`.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from toolkit.streaming.admission import Budget, HostSlots, Ticket, Turn, Window
from toolkit.streaming.bodies import Body, HttpBody, StoredBody
from toolkit.streaming.downloads import MayPass, download, open_session, parse_url, retrying
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.locations import REFUSED, scheme
from toolkit.streaming.reading import read_all, read_file, read_store
from toolkit.streaming.threads import DaemonPool

__all__ = ["Budget", "FetchLimits", "Fetcher", "Ticket"]

_READERS = 32  # threads for files, object stores and names, started as they are needed
_LONG_RECEIVE_BUFFER = 1 << 21  # bytes: 20 MB a second over a way of 100 ms
_MOST_HOSTS = 256  # that are remembered though nobody asks them
_MOST_KEPT = 64  # hosts whose connections are kept from the first request on


class Fetcher:
    """Fetches images on one event loop, as an asynchronous context manager.

    At most `limits.connections` downloads are in flight, and fewer where fewer give the same speed; callers beyond
    that wait for their turn, those with the older ticket first.
    """

    def __init__(self, limits: FetchLimits | None = None) -> None:
        self.limits = limits or FetchLimits()
        self._window = Window(self.limits.start, self.limits.connections)
        self._hosts: dict[str, HostSlots] = {}
        self._many = False  # hosts
        self.threads = DaemonPool(_READERS, "toolkit-reader")

    @property
    def in_flight(self) -> int:
        """Downloads that go on now."""
        return self._window.taken

    @property
    def window(self) -> int:
        """How many may be in flight now."""
        return self._window.limit

    async def __aenter__(self) -> Self:
        self._keeping = open_session(self.limits, self.threads)
        self._closing = open_session(self.limits, self.threads, keep=False)
        self._long = open_session(self.limits, self.threads, keep=False, receive_buffer=_LONG_RECEIVE_BUFFER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._keeping, self._closing, self._long):
            await session.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, location: str, ticket: Ticket) -> bytes:
        """The bytes at a URL or path; the ticket holds them afterwards, and nothing after an error.

        Raises SampleError. The ticket stays open either way: whoever made it releases it.
        """
        data = b""
        try:
            data = await self._bytes(location, ticket)
        finally:
            ticket.keep(len(data))
        if not data:
            raise SampleError(Cause.EMPTY, "an image was expected; 0 bytes came")
        return data

    def body(self, location: str) -> Body:
        """A long body at a URL or path, to be read in pieces. Raises SampleError for what may not be read."""
        kind = scheme(location)
        if kind in {"http", "https"}:
            return HttpBody(self._long, parse_url(location), self.limits)
        _require_allowed(kind, self.limits)
        return StoredBody(read_store if kind else read_file, location, self.threads)

    async def _bytes(self, location: str, ticket: Ticket) -> bytes:
        kind = scheme(location)
        if kind in {"http", "https"}:
            return await self._over_http(parse_url(location), ticket)
        _require_allowed(kind, self.limits)
        read = read_store if kind else read_file
        return await read_all(read, location, self.limits, ticket, self.threads)

    async def _over_http(self, url: URL, ticket: Ticket) -> bytes:
        turn = Turn(self.limits.total_seconds, ticket)
        try:
            return await self._follow(url, turn)
        except MayPass as error:
            first = [error]

        # Tenacity costs as much as a tenth of a fetch, so it sees only those that failed once.
        async def again() -> bytes:
            if first:
                raise first.pop()
            ticket.keep(0)
            return await self._follow(url, turn)

        return await retrying(self.limits)(again)

    async def _follow(self, url: URL, turn: Turn) -> bytes:
        """The body at the end of the redirects."""
        for _ in range(self.limits.max_redirects + 1):
            answer = await self._in_turn(url, turn)
            if isinstance(answer, bytes):
                return answer
            url = answer
        most = self.limits.max_redirects
        raise SampleError(Cause.TOO_MANY_REDIRECTS, f"{most} redirects are followed at most; more came")

    async def _in_turn(self, url: URL, turn: Turn) -> bytes | URL:
        """Ask when the host and the window let us, and tell them how it went."""
        host = self._host(url.raw_host or "")
        congested = False
        try:
            await turn.begin((host, self._window))
            return await download(self._session(host), url, self.limits, turn)
        except MayPass as error:
            congested = error.congested
            raise
        finally:
            host.finished(congested)
            self._window.finished(asyncio.get_running_loop().time())
            turn.end()

    def _session(self, host: HostSlots) -> aiohttp.ClientSession:
        """The session that keeps its connections; among many hosts only for those that are met again, as the idle
        connections of the others would use up all that a process may have open (1,024 on Linux, 256 on macOS).
        """
        host.met += 1
        self._many = self._many or len(self._hosts) > _MOST_KEPT
        return self._closing if self._many and host.met == 1 else self._keeping

    def _host(self, name: str) -> HostSlots:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _MOST_HOSTS:
                now = asyncio.get_running_loop().time()
                self._hosts = {key: each for key, each in self._hosts.items() if each.busy or each.free_at > now}
            host = self._hosts[name] = HostSlots(self.limits.per_host, self.limits.politeness_delay)
        return host


def _require_allowed(kind: str, limits: FetchLimits) -> None:
    if kind in REFUSED:
        raise SampleError(Cause.BAD_ADDRESS, f"{kind}: URLs are refused; give a path, or an address with https://")
    if kind and not limits.allow_private:
        raise SampleError(
            Cause.BAD_ADDRESS, f"{kind}:// is read only where allow_private=True says so; https:// is always read"
        )
    if not kind and not limits.local_files:
        raise SampleError(Cause.BAD_ADDRESS, "only URLs are read here; a path came")
