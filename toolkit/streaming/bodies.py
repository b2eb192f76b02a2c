"""Long bodies, piece by piece: a shard over HTTP, from a file, or from an object store."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Protocol

import aiohttp
from yarl import URL

from toolkit.show import readable_bytes
from toolkit.streaming.downloads import (
    PIECE,
    REDIRECTS,
    end_with_connection,
    reason,
    redirect_target,
    require_place,
    require_usable,
    retrying,
)
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.reading import Read

_STORE_PIECE = 1 << 20  # bytes of one request to a store


class Body(Protocol):
    """A body that is read once, from its beginning."""

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises SampleError."""

    def close(self) -> None:
        """Read no more."""


class StoredBody:
    """A file, or an object in a store, read in a thread."""

    def __init__(self, read: Read, location: str, threads: Executor) -> None:
        self._read, self._location, self._threads = read, location, threads
        self._position = 0
        self._ended = False

    async def read(self) -> bytes:
        if self._ended:
            return b""
        loop = asyncio.get_running_loop()
        start, stop = self._position, self._position + _STORE_PIECE
        data = await loop.run_in_executor(self._threads, self._read, self._location, start, stop)
        self._position += len(data)
        self._ended = len(data) < _STORE_PIECE
        return data

    def close(self) -> None:
        self._ended = True


class HttpBody:
    """A body over HTTP. Where the connection is lost, it is taken up again at the byte where it broke off.

    Each piece may take `limits.retries` more attempts. Its speed is judged by the time that we waited for it.
    """

    def __init__(self, session: aiohttp.ClientSession, url: URL, limits: FetchLimits) -> None:
        self._session, self._url, self._limits = session, url, limits
        self._response: aiohttp.ClientResponse | None = None
        self._position = 0  # bytes that were given out
        self._skip = 0  # bytes that came once more, because the server cannot begin in the middle
        self._tag = ""
        self._waited = 0.0

    async def read(self) -> bytes:
        return await retrying(self._limits)(self._piece)

    def close(self) -> None:
        if self._response is not None:
            self._response.release()
            self._response = None

    async def _piece(self) -> bytes:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            data = await self._unskipped(self._response or await self._open())
        except SampleError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise reason(error) from error
        self._position += len(data)
        self._judge(loop.time() - begun)
        return data

    async def _unskipped(self, response: aiohttp.ClientResponse) -> bytes:
        while data := await response.content.read(PIECE):
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            if dropped < len(data):
                return data[dropped:]
        return b""

    def _judge(self, seconds: float) -> None:
        self._waited += seconds
        least = self._limits.least_bytes_per_second
        if self._waited > self._limits.grace_seconds and self._position < least * self._waited:
            raise SampleError(Cause.TOO_SLOW, f"at least {readable_bytes(least)} a second are expected; fewer came")

    async def _open(self) -> aiohttp.ClientResponse:
        async with asyncio.timeout(self._limits.total_seconds):
            response = self._response = await self._respond()
        tag = response.headers.get("ETag", "")
        if self._position and tag != self._tag:
            raise SampleError(Cause.DAMAGED_SHARD, "it changed on the server while it was read")
        self._tag = tag
        self._skip = self._position if response.status == 200 else 0
        return response

    async def _respond(self) -> aiohttp.ClientResponse:
        """The answer at the end of the redirects."""
        headers = {"Range": f"bytes={self._position}-"} if self._position else None
        url = self._url
        for _ in range(self._limits.max_redirects + 1):
            require_place(url, self._limits)
            response = await self._session.get(url, allow_redirects=False, headers=headers)
            end_with_connection(response)
            if response.status not in REDIRECTS:
                return self._usable(response)
            response.release()
            url = redirect_target(url, response)
        most = self._limits.max_redirects
        raise SampleError(Cause.TOO_MANY_REDIRECTS, f"{most} redirects are followed at most; more came")

    def _usable(self, response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
        if self._position and response.status == 206:
            if response.headers.get("Content-Range", "").startswith(f"bytes {self._position}-"):
                return response
            response.release()
            raise SampleError(Cause.NOT_HTTP, f"the bytes from {self._position:,} on were asked for; others came")
        try:
            require_usable(response, self._limits)
        except SampleError:
            response.release()
            raise
        return response
