"""What the grader and a student's process say to each other: framed, typed data, never pickle.

A frame is eight bytes of length and one value. A value is a letter for its type and its bytes: numbers, text, lists,
tuples, dictionaries and arrays of allow-listed types as raw bytes. Reading builds plain Python objects and calls
nothing that the sender chose. Integers travel in base 16, which has no limit of digits; depth, values and bytes have
limits. What this module needs of others is bound to its own names: a student's code may replace theirs.
"""

from __future__ import annotations

import os
import queue
import select
import struct
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import prod
from os import read as _read
from os import write as _os_write
from typing import Any

import numpy as np
from numpy import asarray as _asarray
from numpy import ascontiguousarray as _contiguous
from numpy import dtype as _dtype
from numpy import frombuffer as _frombuffer

LARGEST_FRAME = 64 * 2**20
DEEPEST = 40
MOST_VALUES = 2_000_000
MOST_KEYS = 2000
DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
_LENGTH = struct.Struct(">Q")
_COUNT = struct.Struct(">I")
_FLOAT = struct.Struct(">d")
_LONGDOUBLE = np.dtype(np.longdouble)


class ProtocolError(Exception):
    """What came is no message, or what shall be sent is no plain data; the text is a sentence."""


class EndedError(Exception):
    """The other side is gone."""


class LateError(Exception):
    """The answer did not come in time."""


# Writing.


def encode(value: Any) -> bytes:
    """The bytes of plain data; raises ProtocolError for anything else.

    >>> decode(encode({"a": [1, 2.5, None, (True, "x")]}))
    {'a': [1, 2.5, None, (True, 'x')]}
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes], depth: int) -> None:
    if depth > DEEPEST:
        raise ProtocolError(f"the answer is nested deeper than {DEEPEST} levels, or holds itself")
    if len(parts) > 4 * MOST_VALUES:
        raise ProtocolError(f"the answer has more than {MOST_VALUES:,} values; return an array")
    write = _WRITERS.get(type(value)) or next(
        (found for kind, found in _WRITERS.items() if isinstance(value, kind) and kind is not type(None)), None
    )
    if write is None:
        value, write = _as_array(value), _write_array
    write(value, parts, depth)


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    """What says that it is an array (of TensorFlow, JAX, PyTorch …), as NumPy's; this runs in the student's process."""
    if not hasattr(value, "__array__") or isinstance(value, type):
        raise ProtocolError(
            f"an answer of the type {type(value).__name__} cannot be read; "
            "return numbers, text, lists, tuples, dictionaries or NumPy arrays of them"
        )
    return _asarray(value)


def _counted(letter: bytes, data: bytes, parts: list[bytes]) -> None:
    parts += (letter, _COUNT.pack(len(data)), data)


def _write_constant(value: Any, parts: list[bytes], _: int) -> None:
    parts.append({None: b"N", True: b"T", False: b"F"}[value])


def _write_int(value: int, parts: list[bytes], _: int) -> None:
    _counted(b"i", format(int(value), "x").encode(), parts)


def _write_float(value: float, parts: list[bytes], _: int) -> None:
    parts += (b"d", _FLOAT.pack(value))


def _write_ratio(value: Any, parts: list[bytes], depth: int) -> None:
    whole = value.is_finite() if isinstance(value, Decimal) else True
    _write(int(value) if whole and value == int(value) else float(value), parts, depth)


def _write_text(value: str, parts: list[bytes], _: int) -> None:
    _counted(b"s", str(value).encode("utf-8", "surrogatepass"), parts)


def _write_bytes(value: bytes, parts: list[bytes], _: int) -> None:
    _counted(b"b", bytes(value), parts)


def _write_many(letter: bytes) -> Callable[[Any, list[bytes], int], None]:
    def write(value: Any, parts: list[bytes], depth: int) -> None:
        items = list(value)
        parts += (letter, _COUNT.pack(len(items)))
        for item in items:
            _write(item, parts, depth + 1)

    return write


def _write_dict(value: dict[Any, Any], parts: list[bytes], depth: int) -> None:
    items = list(value.items())
    parts += (b"m", _COUNT.pack(len(items)))
    for key, item in items:
        _write(key, parts, depth + 1)
        _write(item, parts, depth + 1)


def _write_array(value: Any, parts: list[bytes], depth: int) -> None:
    array = _asarray(value)
    if array.dtype.kind in "OSU":  # of Python's objects or of text: its members decide
        _write(array.tolist(), parts, depth)
        return
    if array.dtype == _LONGDOUBLE:
        array = array.astype("float64")
    name = array.dtype.name
    if name not in DTYPES:
        raise ProtocolError(f"an array of the type {name} cannot be read; return one of numbers or booleans")
    if array.nbytes > LARGEST_FRAME:
        raise ProtocolError(f"the answer has {array.nbytes:,} bytes; at most {LARGEST_FRAME:,} are read")
    _counted(b"a", name.encode(), parts)
    parts.append(bytes([array.ndim]))
    parts += map(_LENGTH.pack, array.shape)
    raw = _contiguous(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts += (_LENGTH.pack(len(raw)), raw)


# Sorted so that a subclass finds the nearest entry: a boolean is an integer in Python.
_WRITERS: dict[type, Callable[[Any, list[bytes], int], None]] = {
    type(None): _write_constant,
    bool: _write_constant,
    np.ndarray: _write_array,
    np.str_: _write_text,
    np.bytes_: _write_bytes,
    np.generic: _write_array,
    int: _write_int,
    float: _write_float,
    Fraction: _write_ratio,
    Decimal: _write_ratio,
    str: _write_text,
    bytes: _write_bytes,
    list: _write_many(b"l"),
    tuple: _write_many(b"t"),
    set: _write_many(b"e"),
    frozenset: _write_many(b"e"),
    range: _write_many(b"l"),
    dict: _write_dict,
}


# Reading.


def decode(data: bytes) -> Any:
    """The value in these bytes; raises ProtocolError for bytes that hold none, or too much.

    >>> decode(b"i" + bytes([0, 0, 0, 2]) + b"1a")
    26
    """
    try:
        reader = _Reader(memoryview(data))
        value = reader.value(0)
    except (struct.error, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"the message cannot be read ({error})") from None
    if reader.at != len(data):
        raise ProtocolError(f"{len(data) - reader.at} bytes follow the message")
    return value


class _Reader:
    """Reads values from bytes, and counts them."""

    def __init__(self, data: memoryview) -> None:
        self.at, self._data, self._values, self._keys = 0, data, 0, 0

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise ProtocolError(f"the message ends {size - len(self._data) + self.at} bytes early")
        self.at += size
        return bytes(self._data[self.at - size : self.at])

    def _count(self) -> int:
        return int(_COUNT.unpack(self._take(4))[0])

    def value(self, depth: int) -> Any:
        self._values += 1
        if depth > DEEPEST or self._values > MOST_VALUES:
            raise ProtocolError(f"at most {DEEPEST} levels and {MOST_VALUES:,} values are read")
        letter = self._take(1)
        read = _READERS.get(letter)
        if read is None:
            raise ProtocolError(f"no value begins with {letter!r}")
        return read(self, depth)

    def integer(self, _: int) -> int:
        text = self._take(self._count())
        if not text or text.strip(b"0123456789abcdef") not in (b"", b"-"):
            raise ProtocolError("an integer is not written in base 16")
        return int(text, 16)

    def floating(self, _: int) -> float:
        return float(_FLOAT.unpack(self._take(8))[0])

    def text(self, _: int) -> str:
        return self._take(self._count()).decode("utf-8", "surrogatepass")

    def data(self, _: int) -> bytes:
        return self._take(self._count())

    def many(self, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(self._count())]

    def pairs(self, depth: int) -> dict[Any, Any]:
        found = {}
        for _ in range(self._few()):
            key = _hashable(self.value(depth + 1))
            found[key] = self.value(depth + 1)
        return found

    def members(self, depth: int) -> frozenset[Any]:
        return frozenset([_hashable(self.value(depth + 1)) for _ in range(self._few())])

    def _few(self) -> int:
        """A number of keys that costs little even where all of them have the same hash."""
        count = self._count()
        self._keys += count
        if count > MOST_KEYS or self._keys > 10 * MOST_KEYS:
            raise ProtocolError(f"dictionaries and sets of more than {MOST_KEYS:,} keys are not read; return a list")
        return count

    def array(self, _: int) -> np.ndarray[Any, Any]:
        name = self.data(0).decode("ascii")
        if name not in DTYPES:
            raise ProtocolError(f"arrays of the type {name[:20]!r} are not read")
        dims = self._take(1)[0]
        shape = tuple(_LENGTH.unpack(self._take(8))[0] for _ in range(dims))
        dtype = _dtype(name).newbyteorder("<")
        raw = self._take(_LENGTH.unpack(self._take(8))[0])
        if dims > 32 or prod(shape) * dtype.itemsize != len(raw):
            raise ProtocolError("an array's shape does not fit its bytes")
        return _frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _hashable(key: Any) -> Any:
    """A key of a dictionary or a member of a set."""
    if isinstance(key, np.ndarray) and key.ndim == 0:
        return key.item()
    if isinstance(key, tuple):
        return tuple(_hashable(part) for part in key)
    if key is None or isinstance(key, (bool, int, float, str, bytes)):
        return key
    raise ProtocolError(f"a {type(key).__name__} is no key of a dictionary that can be read")


_READERS: dict[bytes, Callable[[_Reader, int], Any]] = {
    b"N": lambda _, __: None,
    b"T": lambda _, __: True,
    b"F": lambda _, __: False,
    b"i": _Reader.integer,
    b"d": _Reader.floating,
    b"s": _Reader.text,
    b"b": _Reader.data,
    b"l": _Reader.many,
    b"t": lambda reader, depth: tuple(reader.many(depth)),
    b"e": _Reader.members,
    b"m": _Reader.pairs,
    b"a": _Reader.array,
}


# Frames.


def send(file: int, value: Any) -> None:
    """Write one frame to a file descriptor that waits; raises ProtocolError for what is no plain data or too large."""
    send_bytes(file, encode(value))


def send_bytes(file: int, data: bytes) -> None:
    """Write encoded data as one frame."""
    if len(data) > LARGEST_FRAME:
        raise ProtocolError(f"the answer has {len(data):,} bytes; at most {LARGEST_FRAME:,} are read")
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[_os_write(file, rest) :]


def receive(file: int) -> Any:
    """The next frame's value from a file descriptor that waits; raises EndedError at its end."""
    return decode(_exactly(file, _length(_exactly(file, _LENGTH.size))))


def _exactly(file: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = _read(file, min(size - len(data), 2**20))
        if not part:
            raise EndedError
        data += part
    return bytes(data)


def _length(data: bytes) -> int:
    length = int(_LENGTH.unpack(data)[0])
    if length > LARGEST_FRAME:
        raise ProtocolError(f"a message of {length:,} bytes is announced; at most {LARGEST_FRAME:,} are read")
    return length


def encode_frame(value: Any) -> bytes:
    """A value as the bytes of one frame."""
    data = encode(value)
    return _LENGTH.pack(len(data)) + data


class Line:
    """The grader's ends of the two pipes to a student's process. Nothing on it waits longer than it is told."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        os.set_blocking(inbox, False)
        os.set_blocking(outbox, False)

    def close(self) -> None:
        """Close both ends; a second time does nothing."""
        for file in {self._inbox, self._outbox} - {-1}:
            os.close(file)
        self._inbox = self._outbox = -1

    def send(self, value: Any, until: float) -> None:
        """Send a value; `until` is a time of `time.monotonic`. Raises EndedError, LateError or ProtocolError."""
        rest = memoryview(encode_frame(value))
        while rest:
            _wait(self._outbox, select.POLLOUT, until)
            try:
                rest = rest[os.write(self._outbox, rest) :]
            except BlockingIOError:
                continue
            except OSError:
                raise EndedError from None

    def receive(self, until: float) -> Any:
        """The next value that comes. Raises EndedError, LateError or ProtocolError."""
        length = _length(self._take(_LENGTH.size, until))
        return decode(self._take(length, until))

    def _take(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            _wait(self._inbox, select.POLLIN, until)
            try:
                part = os.read(self._inbox, min(size - len(data), 2**20))
            except BlockingIOError:
                continue
            except OSError:
                raise EndedError from None
            if not part:
                raise EndedError
            data += part
        return bytes(data)


def _wait(file: int, event: int, until: float) -> None:
    ready = select.poll()
    ready.register(file, event)
    left = until - time.monotonic()
    if left <= 0 or not ready.poll(left * 1000 + 1):
        raise LateError


class ThreadedLine:
    """A `Line` for systems whose pipes cannot be waited for (Windows): a thread reads, another one writes."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._frames: queue.SimpleQueue[bytes | ProtocolError | None] = queue.SimpleQueue()
        self._sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True, name="grading").start()

    def close(self) -> None:
        """Let the threads end; they close their ends as soon as the process is gone."""
        self._sent.put(None)

    def send(self, value: Any, until: float) -> None:
        """As `Line.send`, but never waits."""
        self._sent.put(encode_frame(value))

    def receive(self, until: float) -> Any:
        """As `Line.receive`."""
        try:
            frame = self._frames.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise LateError from None
        if frame is None:
            raise EndedError
        if isinstance(frame, ProtocolError):
            raise frame
        return decode(frame)

    def _read(self) -> None:
        try:
            while True:
                self._frames.put(_exactly(self._inbox, _length(_exactly(self._inbox, _LENGTH.size))))
        except ProtocolError as error:
            self._frames.put(error)
        except (EndedError, OSError):
            pass
        finally:
            self._frames.put(None)
            os.close(self._inbox)

    def _write(self) -> None:
        try:
            while (frame := self._sent.get()) is not None:
                rest = memoryview(frame)
                while rest:
                    rest = rest[os.write(self._outbox, rest) :]
        except OSError:
            pass
        finally:
            os.close(self._outbox)
