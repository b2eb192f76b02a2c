"""One request over HTTP: an answer becomes bytes, the next URL of a redirect, or a `SampleError` with its cause.

aiohttp speaks HTTP; the limits of time, size, memory and place are held here, as the bytes come.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import zlib
from asyncio import selector_events, sslproto
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from http.client import responses
from time import time
from typing import Any, NamedTuple, Protocol

import aiohttp
import tenacity
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from toolkit.show import readable_bytes
from toolkit.streaming.addresses import PrivateAddress, Resolver, is_public, literal_address, socket_factory
from toolkit.streaming.admission import Turn
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.limits import FetchLimits

PIECE = 1 << 16
"""Bytes that are read at once, and that the budget grants at once."""

# What keeps an image out of training; img2dataset honours the same four (its README, "Opt-out directives").
_OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CAUSES = {
    **dict.fromkeys((404, 410), Cause.NOT_FOUND),
    **dict.fromkeys((401, 402, 403, 407, 451), Cause.FORBIDDEN),
    429: Cause.TOO_MANY_REQUESTS,
}
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524})
_CONGESTED = frozenset({429, 503})
_HOST = re.compile(r"[\w.:%-]+", re.ASCII)  # a name, or an address; a name in Unicode is ASCII by now (IDNA)
_BUFFER = 1 << 14  # bytes that aiohttp takes in before they are asked for, but for the last piece that came
_GZIP_OR_ZLIB, _RAW_DEFLATE = 47, -15  # zlib's window bits


class MayPass(SampleError):  # noqa: N818 - it says what is known
    """A failure that another attempt may not meet.

    `wait`: seconds that the server asks for. `congested`: whether it came of asking for too much at once.
    """

    def __init__(self, cause: Cause, sentence: str, wait: float = 0.0, congested: bool = False) -> None:
        super().__init__(cause, sentence)
        self.wait, self.congested = wait, congested


def open_session(
    limits: FetchLimits, names: Executor, *, keep: bool = True, receive_buffer: int = PIECE
) -> aiohttp.ClientSession:
    """A session that keeps connections and nothing else: no cookies, no proxies of the environment, no unpacking.

    `names`: where host names are looked up. `keep`: keep the connections. `receive_buffer`: bytes that the system
    takes in for a connection before we ask for them; one image needs few, and a long body as many as are on the way.
    """
    _read_in_pieces()
    connector = aiohttp.TCPConnector(
        limit=0,  # the fetcher counts
        force_close=not keep,
        resolver=Resolver(names, public_only=not limits.allow_private),
        socket_factory=socket_factory(not limits.allow_private, receive_buffer),
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": limits.user_agent, "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_read=limits.read_seconds),
        auto_decompress=False,
        read_bufsize=_BUFFER,
    )


def _read_in_pieces() -> None:
    """Let asyncio read 64 kB at once instead of 256: 128 connections with TLS took 46 MB for it, and now 20.

    Each connection with TLS has a buffer of this size while it is open; other users of asyncio notice nothing else.
    """
    kinds: list[Any] = [sslproto.SSLProtocol, getattr(selector_events, "_SelectorTransport", sslproto.SSLProtocol)]
    for kind in kinds:
        kind.max_size = min(kind.max_size, PIECE)


def parse_url(location: str) -> URL:
    """The URL, sent as it is written where that is plain ASCII, because a signature may cover how it is quoted.

    Raises SampleError for text that is no URL of a host.

    >>> parse_url("http://a.org/%7Ebob/a%2Fb.jpg").raw_path
    '/%7Ebob/a%2Fb.jpg'
    >>> parse_url("http://ä.org/ü b.jpg").human_repr()
    'http://ä.org/ü b.jpg'
    """
    plain = location.isascii() and location.isprintable() and " " not in location
    try:
        url = URL(location, encoded=plain)
        if _HOST.fullmatch(url.raw_host or "") and url.port:
            return url
    except ValueError:  # UnicodeError is one
        pass
    raise SampleError(Cause.BAD_ADDRESS, "a URL such as https://example.org/cat.jpg was expected; this is none")


async def download(session: aiohttp.ClientSession, url: URL, limits: FetchLimits, turn: Turn) -> bytes | URL:
    """The body behind a URL, or the URL that it redirects to. Raises SampleError, MayPass where it pays to try again.

    The turn's ticket holds at least the bytes of the body afterwards.
    """
    require_place(url, limits)
    loop = asyncio.get_running_loop()
    scope = turn.start(loop.time())
    try:
        async with scope:
            response = await session.get(url, allow_redirects=False)
            end_with_connection(response)
            try:
                return await _answer(url, response, limits, turn)
            finally:
                response.release()  # keeps the connection if the body was read to its end, and closes it otherwise
    except SampleError:
        raise
    except Exception as error:  # what a broken server can make a library raise is not known beforehand
        raise _too_long(limits) if scope.expired() else reason(error) from error
    finally:
        turn.stop(loop.time())


def end_with_connection(response: aiohttp.ClientResponse) -> None:
    """See to it that whoever reads the body hears of the end of the connection.

    aiohttp 3.14 closes the connection at an error between two chunks without a word to the reader, who would wait
    for ever.
    """
    content, connection = response.content, response.connection
    if response.content_length is not None or connection is None or connection.protocol is None or content.is_eof():
        return  # there are no chunks, or no more of them
    closed = connection.protocol.closed
    if closed is None:
        _break_off(content)
    else:
        tell = partial(_break_off, content)
        closed.add_done_callback(tell)
        content.on_eof(lambda: _forget(closed, tell))  # the connection goes on to other bodies


def _forget(closed: asyncio.Future[None], tell: Callable[[asyncio.Future[None]], None]) -> None:
    closed.remove_done_callback(tell)


def _break_off(content: aiohttp.StreamReader, closed: asyncio.Future[None] | None = None) -> None:
    if closed is not None and not closed.cancelled():
        closed.exception()  # or asyncio would complain that nobody asked for it
    if not content.is_eof() and content.exception() is None:
        content.set_exception(HttpProcessingError(message="the body broke off"))


def _too_long(limits: FetchLimits) -> SampleError:
    return SampleError(Cause.TIMED_OUT, f"an image may take {limits.total_seconds:g} seconds; this one took longer")


def require_place(url: URL, limits: FetchLimits) -> None:
    """Raise SampleError for a URL whose host is an address that may not be asked."""
    if not limits.allow_private:
        _require_public(url.raw_host or "")


@lru_cache(maxsize=1024)
def _require_public(host: str) -> None:
    """Refuse a host that is written as an address; a name is judged when it is resolved."""
    address = literal_address(host)
    if address is not None and not is_public(address):
        raise _private(f"{host} means {address}, which is not public")


def _private(what: str) -> SampleError:
    return SampleError(
        Cause.PRIVATE_ADDRESS, f"only hosts on the public internet are asked; {what} (allow_private=True asks all)"
    )


async def _answer(url: URL, response: aiohttp.ClientResponse, limits: FetchLimits, turn: Turn) -> bytes | URL:
    if response.status in REDIRECTS:
        return redirect_target(url, response)
    require_usable(response, limits)
    body: _Readable = _Wire(response, limits, turn)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        body = _Unpacked(body, encoding, limits, turn)
    return await _collect(body)


def redirect_target(url: URL, response: aiohttp.ClientResponse) -> URL:
    """Where a redirect leads. Raises SampleError when that is no web address."""
    location = response.headers.get("Location", "")
    try:
        target = url.join(URL(location))
        if location and target.scheme in {"http", "https"} and _HOST.fullmatch(target.raw_host or ""):
            return target
    except ValueError:
        pass
    raise SampleError(Cause.BAD_ADDRESS, f"a redirect should name a http:// or https:// URL; {location[:80]!r} came")


def require_usable(response: aiohttp.ClientResponse, limits: FetchLimits) -> None:
    """Raise SampleError for an answer without a body of ours, or one that opts out."""
    status = response.status
    if status not in {200, 203}:
        raise _refused(status, response.headers.get("Retry-After", ""))
    if limits.honour_noai and opted_out(response.headers.getall("X-Robots-Tag", ()), limits.user_agent):
        raise SampleError(Cause.OPTED_OUT, "its X-Robots-Tag asks not to use it for machine learning")


def _refused(status: int, retry_after: str) -> SampleError:
    """What an answer other than 200 means."""
    cause = _CAUSES.get(status, Cause.SERVER_ERROR if status >= 500 else Cause.HTTP_ERROR)
    phrase = responses.get(status, "unknown")  # the server's own words may be anything
    sentence = f"an image was expected; the server answered {status} ({phrase})"
    if status in _MAY_PASS:
        return MayPass(cause, sentence, retry_seconds(retry_after), status in _CONGESTED)
    return SampleError(cause, sentence)


def retry_seconds(header: str) -> float:
    """Seconds to wait that a Retry-After header asks for: a number, or a date; 0 for anything else.

    >>> retry_seconds("7"), retry_seconds("soon"), retry_seconds("Thu, 01 Jan 1970 00:00:00 GMT")
    (7.0, 0.0, 0.0)
    """
    if header.isdecimal() and len(header) < 10:
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, OverflowError):
        return 0.0


def opted_out(tags: list[str] | tuple[()], user_agent: str) -> bool:
    """Whether X-Robots-Tag headers keep an image from being trained with; one may be for a single user agent.

    >>> opted_out(["noarchive, noai"], "me/1"), opted_out(["otherbot: noai"], "me/1"), opted_out(["me: noai"], "me/1")
    (True, False, True)
    """
    ours = user_agent.lower().partition("/")[0]
    return any(not _OPT_OUT.isdisjoint(_directives(tag.lower(), ours)) for tag in tags)


def _directives(tag: str, ours: str) -> list[str]:
    """The directives of a header, none where it is for another user agent."""
    agent, colon, rest = (part.strip() for part in tag.partition(":"))
    if colon and "," not in agent and agent not in _WITH_VALUE:
        tag = rest if agent == ours else ""
    return [word.strip() for word in tag.split(",")]


# Bodies


class _Readable(Protocol):
    async def read(self) -> bytes:
        """The next piece, b"" at the end."""


class _Wire:
    """A body as it comes, with its limits: no byte is read before the budget grants it."""

    def __init__(self, response: aiohttp.ClientResponse, limits: FetchLimits, turn: Turn) -> None:
        self._content, self._limits, self._turn = response.content, limits, turn
        self._length = response.content_length
        self._granted = self._received = 0
        self._time = 0.0  # left on the clock when the body began
        if self._length is not None and self._length > limits.max_bytes:
            raise _too_large(limits, f"{readable_bytes(self._length)} are announced")

    async def read(self) -> bytes:
        if self._content.at_eof():
            return b""
        wanted = self._received + PIECE
        if self._length is not None and self._length < wanted:
            wanted = self._length
        if wanted > self._granted:
            await self._turn.take(wanted - self._granted)
            self._granted = wanted
        data = await self._content.read(wanted - self._received)
        self._received += len(data)
        if not self._content.at_eof():
            self._judge()
        return data

    def _judge(self) -> None:
        """Of a body that goes on: is it too large or too slow?"""
        if self._received > self._limits.max_bytes:
            raise _too_large(self._limits, "more came")
        left = self._turn.stop(asyncio.get_running_loop().time())
        self._time = self._time or left
        seconds = self._time - left
        if seconds > self._limits.grace_seconds and self._received < self._limits.least_bytes_per_second * seconds:
            raise SampleError(
                Cause.TOO_SLOW,
                f"at least {readable_bytes(self._limits.least_bytes_per_second)} a second are expected; "
                f"{readable_bytes(self._received)} came in {seconds:.0f} seconds",
            )


def _too_large(limits: FetchLimits, what: str) -> SampleError:
    return SampleError(Cause.TOO_LARGE, f"an image may have {readable_bytes(limits.max_bytes)}; {what}")


class _Unpacked:
    """A body that came as gzip or deflate though nobody asked for it, unpacked piece by piece."""

    def __init__(self, packed: _Readable, encoding: str, limits: FetchLimits, turn: Turn) -> None:
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise SampleError(Cause.BAD_ENCODING, f"a body that is not packed was asked for; {encoding[:40]!r} came")
        self._packed, self._limits, self._turn = packed, limits, turn
        self._pieces: Iterator[bytes] = iter(())
        self._unpacker: zlib._Decompress | None = None
        self._total = 0

    async def read(self) -> bytes:
        while True:
            for piece in self._pieces:
                self._total += len(piece)
                if self._total > self._limits.max_bytes:
                    raise _too_large(self._limits, "it unpacks to more")
                await self._turn.take(len(piece))
                return piece
            data = await self._packed.read()
            if not data:
                return self._end()
            self._pieces = self._unpack(data)

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        """Pieces of bounded size: a kilobyte may unpack to a megabyte."""
        unpacker = self._unpacker
        if unpacker is None:
            # Some servers call raw deflate "deflate", which the standard says is zlib's format (RFC 9110, 8.4.1.2).
            raw = data[0] & 0x0F != 8 and data[:1] != b"\x1f"
            unpacker = self._unpacker = zlib.decompressobj(_RAW_DEFLATE if raw else _GZIP_OR_ZLIB)
        while not unpacker.eof:
            try:
                piece = unpacker.decompress(data, PIECE)
            except zlib.error as error:
                raise SampleError(Cause.BAD_ENCODING, "the packed body is damaged") from error
            data = unpacker.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < PIECE:  # a whole piece may have more behind it though all input is consumed
                return

    def _end(self) -> bytes:
        if self._unpacker is not None and not self._unpacker.eof:
            raise SampleError(Cause.BAD_ENCODING, "the packed body ends too early")
        return b""


async def _collect(body: _Readable) -> bytes:
    """All of a body; several pieces are put together when it is known that they are not too many."""
    pieces = []
    while piece := await body.read():
        pieces.append(piece)
    return b"".join(pieces)


# What an error of the network means


def reason(error: Exception) -> SampleError:
    """The cause of a failed request, and whether to try again."""
    inner = getattr(error, "os_error", error)
    match inner:
        case PrivateAddress():
            return _private(str(inner))
        case socket.gaierror(errno=number):
            sentence = "the address of its host was not found"
            return (MayPass if number == socket.EAI_AGAIN else SampleError)(Cause.NAME_NOT_FOUND, sentence)
        case _:
            return _http_reason(error)


def retrying(limits: FetchLimits) -> tenacity.AsyncRetrying:
    """Calls a coroutine until it raises no MayPass, or one too many; once a call, as it keeps count."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(MayPass),
        stop=tenacity.stop_after_attempt(limits.retries + 1),
        wait=partial(_seconds, limits=limits),
        reraise=True,
    )


def _seconds(state: tenacity.RetryCallState, limits: FetchLimits) -> float:
    """A random time, whose mean doubles with each attempt (full jitter), or what the server asked for."""
    jitter = tenacity.wait_random_exponential(limits.backoff_seconds, limits.max_wait_seconds)(state)
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, MayPass) else 0.0
    return min(limits.max_wait_seconds, max(jitter, asked))


class _Reason(NamedTuple):
    """What an exception means: its cause, a sentence, and whether to try again."""

    kinds: type[Exception] | tuple[type[Exception], ...]
    cause: Cause
    sentence: str
    again: bool


_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)
# RuntimeError: aiohttp says so of a body whose parser has closed the connection already.
_NOT_HTTP = (aiohttp.ClientResponseError, HttpProcessingError, RuntimeError)
# The first that fits counts.
_REASONS = (
    _Reason(_UNTRUSTED, Cause.BAD_CERTIFICATE, "the certificate of the server is not one to trust", False),
    _Reason(aiohttp.ClientSSLError, Cause.CANNOT_CONNECT, "the server does not speak https, or not as we do", False),
    _Reason(TimeoutError, Cause.TIMED_OUT, "the server said nothing for too long", True),
    _Reason(aiohttp.ClientConnectorError, Cause.CANNOT_CONNECT, "its host takes no connection ({words})", True),
    _Reason(aiohttp.ClientPayloadError, Cause.WRONG_LENGTH, "the body ended before its announced length", True),
    _Reason(aiohttp.ClientConnectionError, Cause.CONNECTION_LOST, "the server closed the connection too early", True),
    _Reason(_NOT_HTTP, Cause.NOT_HTTP, "an answer in HTTP was expected; something else came", True),
    _Reason((aiohttp.InvalidURL, ValueError), Cause.BAD_ADDRESS, "its address is not one that can be asked", False),
    _Reason(OSError, Cause.CONNECTION_LOST, "the connection broke off ({words})", True),
    _Reason(Exception, Cause.UNEXPECTED, "the network library gave up with {kind}: {words}", False),
)


def _http_reason(error: Exception) -> SampleError:
    found = next(each for each in _REASONS if isinstance(error, each.kinds))
    words = getattr(error, "strerror", None) or str(error)[:200]
    sentence = found.sentence.format(words=words, kind=type(error).__name__)
    if found.again:
        return MayPass(found.cause, sentence, congested=isinstance(error, TimeoutError))
    return SampleError(found.cause, sentence)
