"""The web server of the streaming benchmark, in a process of its own: JPEGs from RAM over kept-alive connections.

`/20/123.jpg` is image 123 of an image set, 20 ms after the request came: one server plays near and far ones alike. It
is written on asyncio's protocols and answers with bytes made beforehand, so that it takes little of the processors that
are being measured. It speaks only as much HTTP/1.1 as a well-behaved client needs, and to this machine only.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from toolkit.benchmarks.image_set import ImageSet

MOST_HEADER_BYTES = 16_384
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def answer_of(image: bytes) -> bytes:
    r"""The whole answer that carries a JPEG.

    >>> answer_of(b"abc").split(b"\r\n")[-1]
    b'abc'
    """
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
    return head.encode("ascii") + image


def wanted(request: bytes) -> tuple[float, int] | None:
    r"""(seconds to wait, image number) of a request; None where its path has another form.

    >>> wanted(b"GET /20/123.jpg HTTP/1.1\r\nHost: localhost"), wanted(b"GET /index.html HTTP/1.1")
    ((0.02, 123), None)
    """
    _, _, path = request.partition(b" /")
    milliseconds, _, name = path[: path.find(b" ")].partition(b"/")
    number, _, ending = name.partition(b".")
    if not (request.startswith(b"GET ") and milliseconds.isdigit() and number.isdigit() and ending == b"jpg"):
        return None
    return int(milliseconds) / 1000, int(number)


class Images(asyncio.Protocol):
    """One connection. Requests that come together are answered in their order."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = answers
        self._received = b""
        self._due = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - a server's connections can be written to
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            request, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                break
            self._received = rest
            self._answer(wanted(request))
        if len(self._received) > MOST_HEADER_BYTES:
            self._send(BAD_REQUEST)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def _answer(self, asked: tuple[float, int] | None) -> None:
        """Now, or when the time has come; never before what was asked earlier."""
        delay, number = asked or (0.0, -1)
        answer = self._answers[number % len(self._answers)] if asked else NOT_FOUND
        now = self._loop.time()
        self._due = max(self._due, now + delay)
        if self._due > now:
            self._loop.call_at(self._due, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(folder: Path, orders: IO[str], said: IO[str]) -> None:
    """Serve the image set of a folder on a free port of this machine, say which, and end when `orders` end."""
    images = ImageSet.read(folder)
    answers = [answer_of(images.image(number)) for number in range(len(images))]
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def wait_for_the_end() -> None:
        orders.read()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(over.set)

    server = await loop.create_server(lambda: Images(answers), "127.0.0.1", 0, backlog=1024)
    async with server:
        said.write(f"{server.sockets[0].getsockname()[1]}\n")
        said.flush()
        threading.Thread(target=wait_for_the_end, daemon=True, name="orders").start()
        await over.wait()
        server.close()


class ImageServer:
    """The server's process as its parent sees it: started on entry, ended on exit, and by the end of the parent."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def __enter__(self) -> ImageServer:
        command = [sys.executable, "-m", "toolkit.benchmarks.image_server", str(self._images.folder)]
        # In a session of its own no Ctrl-C of the terminal reaches it: it ends with its parent, and not before.
        self._process = subprocess.Popen(  # noqa: S603 - this very Python
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        port = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not port:
            self.__exit__(None, None, None)
            raise RuntimeError("the benchmark's web server ended before it said its port")
        self.address = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        with self._process as process:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def pid(self) -> int:
        """The server's process id; raises RuntimeError where it is not running."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process.pid


def urls_of(address: str, count: int, latency_ms: int) -> list[str]:
    """The URLs of the images 0 to `count` - 1 at a server, each answered after so many milliseconds.

    >>> urls_of("http://127.0.0.1:80", 2, 20)
    ['http://127.0.0.1:80/20/0.jpg', 'http://127.0.0.1:80/20/1.jpg']
    """
    return [f"{address}/{latency_ms}/{number}.jpg" for number in range(count)]


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.stdin, sys.stdout))
