"""A small server of images on this machine: `/17.png` is one colour that says 17. It can be slow, and it can refuse."""

import asyncio
import io
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 12


def png(number: int) -> bytes:
    """An image whose colour is the number, which survives any resizing."""
    colour = (number % 256, number // 256 % 256, number // 65536)
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(file, "PNG")
    return file.getvalue()


def numbers_in(images: NDArray[np.uint8]) -> list[int]:
    """What the images say; each must be one colour."""
    assert (images == images[:, :1, :1]).all()
    return [int(red) + 256 * int(green) + 65536 * int(blue) for red, green, blue in images[:, 0, 0]]


@dataclass(frozen=True)
class Answer:
    """What comes for one request: after `delay` seconds; a body of None never comes."""

    status: int = 200
    body: bytes | None = b""
    delay: float = 0.0


def every_image(number: int) -> Answer:
    """The server without faults."""
    return Answer(body=png(number))


class ImageServer:
    """Serves in a thread of its own. `requests` counts them by number; `answer` may be exchanged at any time."""

    def __init__(self, answer: Callable[[int], Answer] = every_image) -> None:
        self.answer = answer
        self.requests: Counter[int] = Counter()
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="image-server")

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port}/{number}.png"

    def urls(self, count: int) -> list[str]:
        return [self.url(number) for number in range(count)]

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                await self._reply(int(request.split(b"/", 1)[1].split(b".")[0]), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._open.discard(task)

    async def _reply(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.requests[number] += 1
        answer = self.answer(number)
        await asyncio.sleep(answer.delay)
        if answer.body is None:
            await asyncio.sleep(3600)
        body = answer.body or b""
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (answer.status, len(body)) + body)
        await writer.drain()
