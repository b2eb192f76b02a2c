"""A real server on this machine that misbehaves in every way that was met on the internet: each path is one of them.

    with BadServer() as server:
        server.url("good/7.jpg")        an image that belongs to the number 7
        server.url("slow-loris/7.jpg")  one byte every now and then

`FAULTS` says for each what a client should make of it. The server runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from PIL import Image

from toolkit.streaming.failures import Cause
from toolkit.streaming.limits import FetchLimits

# So that a test of many faults takes seconds.
IMPATIENT = FetchLimits(
    allow_private=True, connect_seconds=2, read_seconds=0.8, total_seconds=3, grace_seconds=0.3, backoff_seconds=0.01
)
SLOW = 0.1  # seconds between two bytes of a slow server
_ENDLESS = b"\xff" * 65_536


@lru_cache(maxsize=4096)
def image_bytes(number: int, size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> bytes:
    """An image of one colour that tells its number: red is the upper and green the lower four bits, times 16."""
    file = io.BytesIO()
    colour = (number // 16 % 16 * 16 + 8, number % 16 * 16 + 8, 128)
    Image.new("RGB", size, colour).save(file, kind, quality=95)
    return file.getvalue()


def number_of(pixel: tuple[int, int, int]) -> int:
    """The number (modulo 256) that a pixel of such an image tells."""
    return int(pixel[0]) // 16 * 16 + int(pixel[1]) // 16


@dataclass
class Request:
    """One request to the server."""

    path: str
    times: int  # how often this path was asked for, with this
    port: int
    head: str
    writer: asyncio.StreamWriter

    @property
    def image(self) -> bytes:
        """The image that belongs to the number in the path."""
        digits = "".join(filter(str.isdigit, self.path.rsplit("/", 1)[-1]))
        return image_bytes(int(digits or 0))

    @property
    def range_start(self) -> int:
        """The first byte that is asked for."""
        found = re.search(r"^range: bytes=([0-9]+)-", self.head, re.IGNORECASE | re.MULTILINE)
        return int(found[1]) if found else 0

    async def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    async def answer(self, body: bytes, *headers: str, status: str = "200 OK", kind: str = "image/jpeg") -> bool:
        """A well-formed answer; the connection is kept."""
        await self.send(head(status, f"Content-Length: {len(body)}", f"Content-Type: {kind}", *headers), body)
        return True

    async def trickle(self, data: bytes) -> None:
        """Send slowly, byte by byte, for ever."""
        while True:
            for value in data:
                await self.send(bytes([value]))
                await asyncio.sleep(SLOW)

    def reset(self) -> None:
        """Break the connection with RST instead of FIN."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


async def forever() -> bool:
    await asyncio.sleep(3600)
    return False


Behaviour = Callable[[Request], Awaitable[bool]]
"""Answers a request; True keeps the connection."""


@dataclass(frozen=True)
class Fault:
    """What a client should make of a path: the cause of its failure, or None where the image is to be delivered.

    `by_fetching`: whether the fetch itself fails; otherwise the bytes come, and decoding them fails.
    """

    name: str
    cause: Cause | None
    by_fetching: bool
    behave: Behaviour


FAULTS: dict[str, Fault] = {}


def fault(name: str, cause: Cause | None, by_fetching: bool = True) -> Callable[[Behaviour], Behaviour]:
    def register(behave: Behaviour) -> Behaviour:
        FAULTS[name] = Fault(name, cause, by_fetching, behave)
        return behave

    return register


def statuses() -> None:
    """The plain refusals."""
    plain = {
        "400 Bad Request": Cause.HTTP_ERROR,
        "401 Unauthorized": Cause.FORBIDDEN,
        "403 Forbidden": Cause.FORBIDDEN,
        "404 Not Found": Cause.NOT_FOUND,
        "410 Gone": Cause.NOT_FOUND,
        "418 I'm a teapot": Cause.HTTP_ERROR,
        "429 Too Many Requests": Cause.TOO_MANY_REQUESTS,
        "451 Unavailable For Legal Reasons": Cause.FORBIDDEN,
        "500 Internal Server Error": Cause.SERVER_ERROR,
        "501 Not Implemented": Cause.SERVER_ERROR,
        "503 Service Unavailable": Cause.SERVER_ERROR,
        "599 \xff\xfe": Cause.SERVER_ERROR,
        "206 Partial Content": Cause.HTTP_ERROR,
        "204 No Content": Cause.HTTP_ERROR,
    }
    for status, cause in plain.items():

        async def behave(request: Request, status: str = status) -> bool:
            return await request.answer(b"" if status < "205" else b"no", status=status, kind="text/html")

        fault(status[:3], cause)(behave)


statuses()


@fault("good", None)
async def good(request: Request) -> bool:
    return await request.answer(request.image)


# What passes when it is tried again, and what only looks odd


@fault("500-then-200", None)
async def error_then_good(request: Request) -> bool:
    return await (request.answer(b"", status="500 Oops") if request.times == 1 else good(request))


@fault("429-then-200", None)
async def too_many_then_good(request: Request) -> bool:
    if request.times == 1:
        return await request.answer(b"", "Retry-After: 0", status="429 Slow Down")
    return await good(request)


@fault("reset-then-200", None)
async def reset_then_good(request: Request) -> bool:
    if request.times > 1:
        return await good(request)
    request.reset()
    return False


@fault("half-then-whole", None)
async def half_then_whole(request: Request) -> bool:
    if request.times > 1:
        return await good(request)
    image = request.image
    await request.send(head("200 OK", f"Content-Length: {len(image)}"), image[: len(image) // 2])
    return False


@fault("closes-after-each", None)
async def closes_after_each(request: Request) -> bool:
    await good(request)  # it says that it keeps the connection, and does not
    return False


@fault("old-http", None)
async def old_http(request: Request) -> bool:
    await request.send(b"HTTP/1.0 200 OK\r\n\r\n", request.image)
    return False


@fault("chunked", None)
async def chunked(request: Request) -> bool:
    image = request.image
    await request.send(head("200 OK", "Transfer-Encoding: chunked"))
    for start in range(0, len(image), 100):
        part = image[start : start + 100]
        await request.send(f"{len(part):x}\r\n".encode(), part, b"\r\n")
    await request.send(b"0\r\n\r\n")
    return True


@fault("continues", None)
async def continues(request: Request) -> bool:
    await request.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 3)
    return await good(request)


@fault("text-plain", None)
async def wrong_type(request: Request) -> bool:
    return await request.answer(request.image, kind="text/plain")


@fault("gzip", None)
async def gzipped(request: Request) -> bool:
    return await request.answer(gzip.compress(request.image), "Content-Encoding: gzip")


@fault("raw-deflate", None)
async def raw_deflate(request: Request) -> bool:
    return await request.answer(zlib.compress(request.image, wbits=-15), "Content-Encoding: deflate")


@fault("zlib-deflate", None)
async def zlib_deflate(request: Request) -> bool:
    return await request.answer(zlib.compress(request.image), "Content-Encoding: deflate")


@fault("five-redirects", None)
async def five_redirects(request: Request) -> bool:
    steps = request.path.count("+")
    if steps == 5:
        return await good(request)
    return await request.answer(b"moved", f"Location: {request.path}+", status="302 Found")


@fault("unicode-\N{GREEK SMALL LETTER ALPHA} b", None)
async def unicode_path(request: Request) -> bool:
    return await good(request)


# Silence and slowness


@fault("no-answer", Cause.TIMED_OUT)
async def no_answer(request: Request) -> bool:
    return await forever()


@fault("stalled-headers", Cause.TIMED_OUT)
async def stalled_headers(request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    return await forever()


@fault("slow-headers", Cause.TIMED_OUT)
async def slow_headers(request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\n")
    await request.trickle(b"X-Slow: very\r\n")
    return False


@fault("endless-continue", Cause.TIMED_OUT)
async def endless_continue(request: Request) -> bool:
    while True:
        await request.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(SLOW)


@fault("stalled-body", Cause.TIMED_OUT)
async def stalled_body(request: Request) -> bool:
    image = request.image
    await request.send(head("200 OK", f"Content-Length: {len(image)}"), image[: len(image) // 2])
    return await forever()


@fault("slow-loris", Cause.TOO_SLOW)
async def slow_loris(request: Request) -> bool:
    await request.send(head("200 OK", "Content-Length: 20000"))
    await request.trickle(request.image)
    return False


# Lost connections


@fault("closes", Cause.CONNECTION_LOST)
async def closes(request: Request) -> bool:
    return False


@fault("resets", Cause.CONNECTION_LOST)
async def resets(request: Request) -> bool:
    request.reset()
    return False


@fault("resets-in-body", Cause.WRONG_LENGTH)
async def resets_in_body(request: Request) -> bool:
    image = request.image
    await request.send(head("200 OK", f"Content-Length: {len(image)}"), image[: len(image) // 2])
    await asyncio.sleep(SLOW)
    request.reset()
    return False


@fault("announces-more", Cause.WRONG_LENGTH)
async def announces_more(request: Request) -> bool:
    image = request.image
    await request.send(head("200 OK", f"Content-Length: {len(image) + 10}"), image)
    return False


@fault("cut-chunks", Cause.WRONG_LENGTH)
async def cut_chunks(request: Request) -> bool:
    await request.send(head("200 OK", "Transfer-Encoding: chunked"), b"64\r\n", request.image[:50])
    return False


# No HTTP


@fault("garbage", Cause.NOT_HTTP)
async def garbage(request: Request) -> bool:
    await request.send(bytes(range(256)) * 8)
    return False


@fault("image-without-headers", Cause.NOT_HTTP)
async def image_without_headers(request: Request) -> bool:
    await request.send(request.image)
    return False


@fault("endless-headers", Cause.NOT_HTTP)
async def endless_headers(request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await request.send(b"X-Many: 1\r\n" * 100)


@fault("long-header", Cause.NOT_HTTP)
async def long_header(request: Request) -> bool:
    await request.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        await request.send(_ENDLESS)


@fault("length-no-number", Cause.NOT_HTTP)
async def length_no_number(request: Request) -> bool:
    await request.send(head("200 OK", "Content-Length: -7"), request.image)
    return False


@fault("two-lengths", Cause.NOT_HTTP)
async def two_lengths(request: Request) -> bool:
    await request.send(head("200 OK", "Content-Length: 7", "Content-Length: 8"), request.image)
    return False


@fault("bad-chunk", Cause.NOT_HTTP)
async def bad_chunk(request: Request) -> bool:
    await request.send(head("200 OK", "Transfer-Encoding: chunked"), b"zz\r\n", request.image)
    return False


@fault("late-bad-chunk", Cause.NOT_HTTP)
async def late_bad_chunk(request: Request) -> bool:
    await request.send(head("200 OK", "Transfer-Encoding: chunked"), b"5\r\nimage\r\n")
    await asyncio.sleep(SLOW)
    await request.send(b"zz\r\n", request.image)
    return False


# Too much


@fault("announces-30-mb", Cause.TOO_LARGE)
async def announces_30_mb(request: Request) -> bool:
    await request.send(head("200 OK", "Content-Length: 30000000", "Content-Type: image/jpeg"), request.image)
    return await endless(request)


@fault("endless-body", Cause.TOO_LARGE)
async def endless_body(request: Request) -> bool:
    await request.send(head("200 OK", "Content-Type: image/jpeg"), request.image)
    return await endless(request)


@fault("endless-chunks", Cause.TOO_LARGE)
async def endless_chunks(request: Request) -> bool:
    await request.send(head("200 OK", "Transfer-Encoding: chunked"))
    while True:
        await request.send(b"10000\r\n", _ENDLESS, b"\r\n")


async def endless(request: Request) -> bool:
    while True:
        await request.send(_ENDLESS)


@lru_cache
def bomb(wbits: int) -> bytes:
    """30 MB of zeros, packed small."""
    packer = zlib.compressobj(1, wbits=wbits)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(30)) + packer.flush()


@fault("gzip-bomb", Cause.TOO_LARGE)
async def gzip_bomb(request: Request) -> bool:
    return await request.answer(await asyncio.to_thread(bomb, 31), "Content-Encoding: gzip")


@fault("deflate-bomb", Cause.TOO_LARGE)
async def deflate_bomb(request: Request) -> bool:
    return await request.answer(await asyncio.to_thread(bomb, -15), "Content-Encoding: deflate")


# Wrong packing


@fault("no-gzip", Cause.BAD_ENCODING)
async def no_gzip(request: Request) -> bool:
    return await request.answer(request.image, "Content-Encoding: gzip")


@fault("cut-gzip", Cause.BAD_ENCODING)
async def cut_gzip(request: Request) -> bool:
    return await request.answer(gzip.compress(request.image)[:-20], "Content-Encoding: gzip")


@fault("brotli", Cause.BAD_ENCODING)
async def brotli(request: Request) -> bool:
    return await request.answer(request.image, "Content-Encoding: br")


# Elsewhere


@fault("redirect-loop", Cause.TOO_MANY_REDIRECTS)
async def redirect_loop(request: Request) -> bool:
    return await request.answer(b"", f"Location: {request.path}", status="301 Moved Permanently")


@fault("redirect-to-file", Cause.BAD_ADDRESS)
async def redirect_to_file(request: Request) -> bool:
    return await request.answer(b"", "Location: file:///etc/passwd", status="302 Found")


@fault("redirect-nowhere", Cause.BAD_ADDRESS)
async def redirect_nowhere(request: Request) -> bool:
    return await request.answer(b"", status="302 Found")


@fault("redirect-to-garbage", Cause.BAD_ADDRESS)
async def redirect_to_garbage(request: Request) -> bool:
    return await request.answer(b"", "Location: http://[::g]:port/\xff", status="302 Found")


@fault("redirect-to-a-closed-port", Cause.CANNOT_CONNECT)
async def redirect_to_a_closed_port(request: Request) -> bool:
    return await request.answer(b"", "Location: http://127.0.0.1:1/", status="302 Found")


@fault("redirect-to-no-name", Cause.NAME_NOT_FOUND)
async def redirect_to_no_name(request: Request) -> bool:
    return await request.answer(b"", "Location: http://nothing.invalid/", status="302 Found")


@fault("redirect-to-plain-https", Cause.CANNOT_CONNECT)
async def redirect_to_plain_https(request: Request) -> bool:
    return await request.answer(b"", f"Location: https://127.0.0.1:{request.port}/good/1.jpg", status="302 Found")


@fault("noai", Cause.OPTED_OUT)
async def noai(request: Request) -> bool:
    return await request.answer(request.image, "X-Robots-Tag: noindex, noai")


# What is no image


@fault("empty", Cause.EMPTY)
async def empty(request: Request) -> bool:
    return await request.answer(b"")


@fault("html", Cause.NOT_AN_IMAGE, by_fetching=False)
async def html(request: Request) -> bool:
    return await request.answer(b"<!DOCTYPE html><title>Log in</title>", kind="text/html")


@fault("text-as-image", Cause.NOT_AN_IMAGE, by_fetching=False)
async def text_as_image(request: Request) -> bool:
    return await request.answer(b"this is no image\n" * 100)


@fault("truncated", Cause.TRUNCATED_IMAGE, by_fetching=False)
async def truncated(request: Request) -> bool:
    return await request.answer(noise(64)[:-200])


async def announces_less(request: Request) -> bool:
    """Harms whoever uses the connection next, and is therefore none of FAULTS."""
    image = noise(64)
    await request.send(head("200 OK", f"Content-Length: {len(image) // 2}"), image[: len(image) // 2])
    await asyncio.sleep(SLOW)  # the rest meets a connection that waits for its next request, or an answer to that one
    await request.send(image[len(image) // 2 :])
    return False


@lru_cache
def noise(size: int) -> bytes:
    """A JPEG that is all data: what is cut off is missed."""
    file = io.BytesIO()
    Image.effect_noise((size, size), 64).save(file, "JPEG", quality=95)
    return file.getvalue()


@fault("400-megapixels", Cause.TOO_MANY_PIXELS, by_fetching=False)
async def megapixels(request: Request) -> bool:
    return await request.answer(await asyncio.to_thread(huge_png, 20_000, 20_000), kind="image/png")


@lru_cache
def huge_png(width: int, height: int) -> bytes:
    """A whole black PNG of one bit a pixel: 50 MB of scan lines, packed small."""
    packer = zlib.compressobj(1)
    line = bytes(1 + width // 8)
    data = b"".join(packer.compress(line * 100) for _ in range(height // 100)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# The server


class BadServer:
    """The server, listening on a port of `host` from entering to leaving the context.

    With `certificate` (the paths of a certificate and its key) it speaks TLS. `requests` counts them by path.
    `extra` adds behaviours by name.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path] | None = None,
        extra: dict[str, Behaviour] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host, self.port = host, 0
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.behaviours = {name: each.behave for name, each in FAULTS.items()} | (extra or {})
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # clients go away in the middle, as they should
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restart(self, pause: float = 0.3) -> None:
        """Break all connections, be away for `pause` seconds, and come back at the same port."""
        self._do(self._hang_up())
        time.sleep(pause)
        self._do(self._listen())

    def _do(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        self._server.close()
        for _ in range(20):
            # A connection that was accepted a moment ago is a task of the loop's before it is one of ours.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if not others:
                break
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others, timeout=0.05)
        await asyncio.sleep(0.01)  # until the transports have closed their sockets

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await asyncio.wait_for(writer.wait_closed(), 0.5)
            writer.transport.abort()  # what nobody reads would keep it open
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await reader.readexactly(1)
        if request == b"\x16":  # a greeting in TLS
            writer.write(head("400 Bad Request"))
            return False
        request += await reader.readuntil(b"\r\n\r\n")
        text = request.decode("latin-1")
        path = text.split(" ")[1]
        self.requests[path] += 1
        behave = self.behaviours[unquote(path.split("/")[1])]
        return await behave(Request(path, self.requests[path], self.port, text, writer))


def self_signed(folder: Path) -> tuple[Path, Path] | None:
    """A certificate for 127.0.0.1 that nobody signed, and its key, made by openssl; None where there is no openssl."""
    if shutil.which("openssl") is None:
        return None
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *names], check=True, capture_output=True)
    return certificate, key
