"""Bytes by key on disk, in a way that no crash can spoil: what the caches of streams are made of.

A store is two files: data, which is only appended, and an index of records of one size, each written after its data.
A process may be killed, or the power fail, at any moment: a record counts only if its own checksum is right, and its
data only if it agrees with the checksum in the record when it is first read. Several processes may read and write one
store; each append is made under a lock of the file, which the system takes back from a process that dies.

Data is read with `preadv` into the caller's memory. A memory map would be as fast, but the system counts the pages of
a map as memory of the process, so the process would seem to grow with its data set.
"""

import errno
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from toolkit.show import readable_bytes

try:
    import fcntl
except ImportError:  # Windows, which lacks `preadv` too
    fcntl = None  # type: ignore[assignment]

Key = tuple[int, int]
"""128 bits, in two halves."""

Buffer = bytes | bytearray | memoryview

# An index begins with these words and the token in its data file's name. A file that begins otherwise is not ours.
_MAGIC = b"cnn-toolkit cache 1 "
_HEADER_BYTES = 64
_RECORD = np.dtype(
    [("high", "<u8"), ("low", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("data_crc", "<u4"), ("crc", "<u4")]
)
_SEALED_BYTES = _RECORD.itemsize - 4  # of a record, which its checksum covers
_RECENT = 4096  # records in the dictionary before they join the sorted arrays
_PIECE = 1 << 16  # records of an index that are read at a time
_LOCK_TRIES = 20  # of a millisecond; what cannot be kept then is kept in the next epoch


class CacheInfo(NamedTuple):
    """Where a cache lies and what it holds. Bytes are data and index; hits and misses count since it was opened."""

    folder: Path
    entries: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int


class Entry(NamedTuple):
    """Where data lies and what its checksum is; `checked`: it was found right once."""

    offset: int
    length: int
    data_crc: int
    checked: bool = False


class _Index:
    """Where the data of each key lies: sorted arrays, 45 bytes a key, and a dictionary of the latest.

    A dictionary of all would take about 250 bytes a key: memory that streaming is there to save.
    """

    def __init__(self) -> None:
        self._records: NDArray[np.void] = np.empty(0, _RECORD)
        self._checked = np.empty(0, bool)
        self._high = np.empty(0, np.uint64).data
        self._recent: dict[Key, Entry] = {}

    def __len__(self) -> int:
        return len(self._records) + len(self._recent)

    def find(self, key: Key) -> Entry | None:
        if key in self._recent:
            return self._recent[key]
        place = self._place(key)
        if place is None:
            return None
        _, _, offset, length, data_crc, _ = self._records[place].item()
        return Entry(offset, length, data_crc, bool(self._checked[place])) if length else None

    def _place(self, key: Key) -> int | None:
        high, low = key
        for place in range(bisect_left(self._high, high), len(self._high)):
            if self._high[place] != high:
                break
            if self._records["low"][place] == low:
                return place
        return None

    def add(self, key: Key, entry: Entry) -> None:
        self._recent[key] = entry
        if len(self._recent) >= _RECENT:
            self.join(np.array([_row(key, entry) for key, entry in self._recent.items()], _RECORD))
            self._recent.clear()

    def join(self, records: NDArray[np.void]) -> None:
        """Sort records in; of two with the same key the later one counts."""
        joined = np.concatenate([self._records, records])
        order = np.argsort(joined["high"], kind="stable")
        joined = joined[order]
        differs = (joined["high"][1:] != joined["high"][:-1]) | (joined["low"][1:] != joined["low"][:-1])
        last = np.append(differs, True)[: len(joined)]
        self._records = joined[last]
        self._checked = np.append(self._checked, np.zeros(len(records), bool))[order][last]
        self._high = self._records["high"].copy().data

    def mark(self, key: Key, good: bool) -> None:
        """Remember that data was found right, or forget where data lies that was found wrong."""
        place = self._place(key)
        if place is not None:
            self._checked[place] = good
            self._records["length"][place] *= good
        recent = self._recent.pop(key, None)
        if recent is not None and good:
            self._recent[key] = recent._replace(checked=True)


def _row(key: Key, entry: Entry) -> tuple[int, int, int, int, int, int]:
    return (*key, entry.offset, entry.length, entry.data_crc, 0)


def _sealed(key: Key, entry: Entry) -> bytes:
    """A record as it is written, with its checksum."""
    record = np.array([_row(key, entry)], _RECORD).tobytes()[:_SEALED_BYTES]
    return record + crc32(record).to_bytes(4, "little")


def _unsealed(raw: bytes) -> NDArray[np.void]:
    """The records whose checksum is right."""
    records = np.frombuffer(raw, _RECORD)
    starts = range(0, len(raw), _RECORD.itemsize)
    crcs = np.fromiter((crc32(raw[start : start + _SEALED_BYTES]) for start in starts), np.uint32, len(records))
    good: NDArray[np.void] = records[(records["crc"] == crcs) & (records["length"] > 0)]
    return good


class _File:
    """A file by its number, closed when its last reader lets go of it: by then the number might name another."""

    def __init__(self, path: Path, flags: int) -> None:
        self.number = os.open(path, flags)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)

    def size(self) -> int:
        return os.fstat(self.number).st_size

    def write(self, data: Buffer, offset: int) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(self.number, rest, offset)
            rest, offset = rest[written:], offset + written

    def read_into(self, out: Buffer, offset: int) -> bool:
        """Fill `out`; False where the file ends before."""
        rest = memoryview(out).cast("B")
        while rest:
            count = os.preadv(self.number, [rest], offset)
            if not count:
                return False
            rest, offset = rest[count:], offset + count
        return True


class Store:
    """Data by key on disk. Any thread may use it. After an error of the disk it warns once and goes on without."""

    def __init__(self, folder: Path, name: str, max_bytes: int, warn: Callable[[str], None]) -> None:
        self.folder, self.name, self.max_bytes, self._warn = folder, name, max_bytes, warn
        self._reading, self._appending = threading.Lock(), threading.Lock()
        self._open()

    def _open(self) -> None:
        self.hits = self.misses = self._known = self._end = 0
        self._keys = _Index()
        self._files: tuple[_File, _File] | None = None
        self._writable = True
        try:
            self._files = self._opened()
            self._refresh()
        except OSError as error:
            self._files = None
            self._warn(f"the cache in {self.folder} cannot be used ({error.strerror or error}); nothing is kept")

    def _opened(self) -> tuple[_File, _File]:
        """Index and data, made where they are missing; to read only where the folder cannot be written."""
        if fcntl is None:
            raise OSError("this system lacks positioned reads and file locks")
        path = self.folder / f"{self.name}.index"
        try:
            if not path.exists():
                self._create(path)
            return self._pair(path, os.O_RDWR)
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise
            self._writable = False
            return self._pair(path, os.O_RDONLY)

    def _pair(self, path: Path, flags: int) -> tuple[_File, _File]:
        index = _File(path, flags)
        header = os.pread(index.number, _HEADER_BYTES, 0)
        if not header.startswith(_MAGIC):
            raise OSError(f"{path.name} was not made by this version; remove it or choose another folder")
        token = header[len(_MAGIC) :].split(b"\n")[0].decode("ascii", "replace")
        return index, _File(self._data_path(token), flags)

    def _data_path(self, token: str) -> Path:
        return self.folder / f"{self.name}-{token}.data"

    def _create(self, path: Path) -> None:
        """The index appears under its name when all of it is there, and after its data file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        token = token_hex(8)
        self._data_path(token).touch()
        new = path.with_suffix(f".{token}")
        with new.open("wb") as file:
            file.write((_MAGIC + token.encode() + b"\n").ljust(_HEADER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def find(self, key: Key) -> Entry | None:
        """Where the data of a key lies, looked for among the records of other processes, too."""
        with self._reading:
            try:
                found = self._keys.find(key)
                if found is None and self._refresh():
                    found = self._keys.find(key)
            except OSError as error:
                self._turn_off(error)
                found = None
            self.misses += found is None
            return found

    def has(self, key: Key) -> bool:
        with self._reading:
            return self._keys.find(key) is not None

    def _refresh(self) -> bool:
        """Read the records that were written since; True if there were any."""
        if self._files is None:
            return False
        index, _ = self._files
        count = (index.size() - _HEADER_BYTES) // _RECORD.itemsize
        news = range(self._known, count, _PIECE)
        for first in news:
            raw = bytearray((min(first + _PIECE, count) - first) * _RECORD.itemsize)
            if index.read_into(raw, _HEADER_BYTES + first * _RECORD.itemsize):
                self._learn(_unsealed(bytes(raw)))
        self._known = max(self._known, count)
        return bool(news)

    def _learn(self, records: NDArray[np.void]) -> None:
        if len(records) > _RECENT:
            self._keys.join(records)
        else:
            for high, low, offset, length, data_crc, _ in records.tolist():
                self._keys.add((high, low), Entry(offset, length, data_crc))
        ends = records["offset"] + records["length"]
        self._end = max(self._end, int(ends.max(initial=0)))

    def take(self, key: Key, entry: Entry, out: Buffer) -> bool:
        """Read data into `out`; False, and never asked for again, where it is not what was written."""
        files = self._files
        try:
            good = files is not None and files[1].read_into(out, entry.offset)
        except OSError as error:
            self._turn_off(error)
            return False
        good = good and (entry.checked or crc32(out) == entry.data_crc)
        with self._reading:
            self.hits += good
            self.misses += not good
            if not (good and entry.checked):
                self._keys.mark(key, good)
        return good

    def put(self, key: Key, data: Buffer) -> bool:
        """Append data; False where that is not possible now. What is there already is not written twice."""
        files = self._files
        if files is None or not self._writable:
            return False
        try:
            with self._appending, _locked(files[0]):
                return self._append(files, key, memoryview(data).cast("B"))
        except BlockingIOError:
            return False
        except OSError as error:
            self._stop_writing(f"cannot be written ({error.strerror or error})")
            return False

    def _append(self, files: tuple[_File, _File], key: Key, data: memoryview) -> bool:
        with self._reading:
            self._refresh()
            known = self._keys.find(key) is not None
            offset, count = self._end, self._known
        if known or self._files is not files:
            return known
        place = _HEADER_BYTES + count * _RECORD.itemsize
        if offset + len(data) + place + _RECORD.itemsize > self.max_bytes:
            self._stop_writing(f"is full ({readable_bytes(self.max_bytes)}, {count:,} images)")
            return False
        index, file = files
        entry = Entry(offset, len(data), crc32(data))
        file.write(data, offset)
        index.write(_sealed(key, entry), place)
        with self._reading:
            self._keys.add(key, entry)
            self._known, self._end = count + 1, offset + len(data)
        return True

    def _stop_writing(self, what: str) -> None:
        if self._writable:
            self._writable = False
            self._warn(f"the cache in {self.folder} {what}; what is in it is used, the rest comes from its source")

    def _turn_off(self, error: OSError) -> None:
        if self._files is not None:
            self._files, self._keys = None, _Index()
            self._warn(f"the cache in {self.folder} cannot be read ({error.strerror or error}); it is not used")

    def info(self) -> CacheInfo:
        with self._reading:
            index_bytes = _HEADER_BYTES + self._known * _RECORD.itemsize if self._files else 0
            size = self._end + index_bytes
            return CacheInfo(self.folder, len(self._keys), size, self.max_bytes, self.hits, self.misses)

    def clear(self) -> None:
        """Delete the files and begin anew. Who still reads them keeps what they were."""
        with self._appending, self._reading:
            for path in [*self.folder.glob(f"{self.name}.*"), *self.folder.glob(f"{self.name}-*.data")]:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            self._open()

    def close(self) -> None:
        with self._appending, self._reading:
            self._files, self._keys, self._writable = None, _Index(), False


@contextmanager
def _locked(index: _File) -> Iterator[None]:
    """Alone among all processes. Raises BlockingIOError where another one, perhaps stopped, does not let go."""
    for tries in range(_LOCK_TRIES):
        try:
            fcntl.flock(index.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if tries == _LOCK_TRIES - 1:
                raise
            time.sleep(0.001)
    try:
        yield
    finally:
        fcntl.flock(index.number, fcntl.LOCK_UN)
