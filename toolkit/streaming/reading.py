"""The bytes of a file, or of an object in a store that fsspec knows, read in threads in pieces of bounded size."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from concurrent.futures import Executor
from io import BytesIO

from toolkit.show import readable_bytes
from toolkit.streaming.admission import Ticket
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.limits import FetchLimits

PIECE = 1 << 18
"""Bytes that are read at once: nearly every image is one piece."""

Read = Callable[[str, int, int], bytes]
"""`read(location, start, stop)`: the bytes from start to stop, fewer where it ends before. It runs in a thread."""


def read_file(path: str, start: int, stop: int) -> bytes:
    """A part of a regular file; a pipe or a device could keep us waiting, or go on, for ever. Raises SampleError.

    >>> read_file(__file__, 0, 3)
    b'\"\"\"'
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "it is no regular file")
            file.seek(start)
            return file.read(stop - start)
    except (OSError, ValueError) as error:  # a ValueError for a path with a zero byte in it
        words = getattr(error, "strerror", None) or "it is no path"
        raise SampleError(Cause.UNREADABLE_FILE, f"the file cannot be read ({words})") from error


def _open_at_once(path: str, flags: int) -> int:
    """Without O_NONBLOCK, opening a pipe waits until somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_store(location: str, start: int, stop: int) -> bytes:
    """A part of an object that fsspec finds: `s3://bucket/key`, `gs://`, `memory://`. Raises SampleError."""
    from fsspec.core import url_to_fs

    try:
        store, path = url_to_fs(location)
        if start and start >= store.size(path):
            return b""
        data: bytes = store.cat_file(path, start=start, end=stop)
    except FileNotFoundError as error:
        raise SampleError(Cause.NOT_FOUND, "the store has no such object") from error
    except PermissionError as error:
        raise SampleError(Cause.FORBIDDEN, "the store does not let us read it") from error
    except ImportError as error:  # the message names the package
        raise SampleError(Cause.BAD_ADDRESS, f"a package is missing for this store: {error}") from error
    except Exception as error:  # each store has its own
        raise SampleError(
            Cause.UNREADABLE_FILE, f"the store says: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    return data


async def read_all(read: Read, location: str, limits: FetchLimits, ticket: Ticket, threads: Executor) -> bytes:
    """All of a file or object, granted by the ticket. Raises SampleError when it takes too long or is too large."""
    first = await _piece(read, location, 0, limits, threads)
    await ticket.take(len(first))  # afterwards: the threads are few
    if len(first) < PIECE:
        return first
    whole = BytesIO()
    last = whole.write(first)
    while last == PIECE and whole.tell() <= limits.max_bytes:
        await ticket.take(PIECE)
        last = whole.write(await _piece(read, location, whole.tell(), limits, threads))
    if whole.tell() > limits.max_bytes:
        raise SampleError(Cause.TOO_LARGE, f"an image may have {readable_bytes(limits.max_bytes)}; this has more")
    return whole.getvalue()


async def _piece(read: Read, location: str, start: int, limits: FetchLimits, threads: Executor) -> bytes:
    try:
        async with asyncio.timeout(limits.total_seconds):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, read, location, start, start + PIECE)
    except TimeoutError as error:
        sentence = f"a read may take {limits.total_seconds:g} seconds; this one took longer"
        raise SampleError(Cause.TIMED_OUT, sentence) from error
