"""What a stream has fetched or decoded, kept on disk for the next epoch.

Both caches may be used by any thread, and by several processes at once; `store` says how they survive a crash. What
lies at a location is taken to be the same for ever: `clear` a cache when it is not.
"""

import os
import warnings
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from struct import unpack
from typing import Literal, Self

import numpy as np

from toolkit.arithmetic import require_choice, require_whole
from toolkit.errors import InputError
from toolkit.streaming.decoding import Fit, Pixels
from toolkit.streaming.store import CacheInfo, Key, Store

CacheKind = Literal["none", "bytes", "tensors"]
Folder = str | os.PathLike[str]


class _Cache:
    """What both caches share."""

    def __init__(self, store: Store, transform: str) -> None:
        self._store, self._transform = store, transform

    def _key(self, location: str) -> Key:
        text = f"{self._transform}\0{location}".encode("utf-8", "surrogatepass")
        high, low = unpack("<QQ", blake2b(text, digest_size=16).digest())
        return high, low

    def __contains__(self, location: str) -> bool:
        return self._store.has(self._key(location))

    def note(self, location: str) -> bytes | None:
        """The bytes that `keep_note` was given for this location."""
        key = self._key(location)
        entry = self._store.find(key)
        if entry is None:
            return None
        data = bytearray(entry.length)
        return bytes(data) if self._store.take(key, entry, data) else None

    def keep_note(self, location: str, data: bytes) -> bool:
        """Keep bytes; True if they are there now, False where the cache is full or off."""
        return bool(data) and self._store.put(self._key(location), data)

    def info(self) -> CacheInfo:
        """What it holds, and how often it helped."""
        return self._store.info()

    def clear(self) -> None:
        """Delete all of it, also on disk, and begin anew."""
        self._store.clear()

    def close(self) -> None:
        """Let go of the files; afterwards nothing is found and nothing kept."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BytesCache(_Cache):
    """Files as they came, by their location: the next epoch fetches nothing, and decodes anew.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, BytesCache(folder, 10**6) as cache:
    ...     cache.put("http://example.org/a.jpg", b"bytes"), cache.get("http://example.org/a.jpg")
    (True, b'bytes')
    """

    def __init__(self, folder: Folder, max_bytes: int, warn: Callable[[str], None] = warnings.warn) -> None:
        super().__init__(Store(Path(folder), "bytes", require_whole("max_bytes", max_bytes), warn), "")

    def get(self, location: str) -> bytes | None:
        """The bytes that were put for this location."""
        return self.note(location)

    def put(self, location: str, data: bytes) -> bool:
        """Keep bytes; True if they are there now, False where the cache is full or off."""
        return self.keep_note(location, data)


class TensorCache(_Cache):
    """Decoded images of one size, uint8 (height, width, 3), by location and transformation: nothing is left to do.

    >>> import tempfile
    >>> image = np.full((2, 2, 3), 7, np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder, TensorCache(folder, 10**6, height=2, width=2) as cache:
    ...     _ = cache.put("a.jpg", image)
    ...     cache.get("a.jpg").tolist() == image.tolist(), cache.get("b.jpg")
    (True, None)
    """

    def __init__(
        self,
        folder: Folder,
        max_bytes: int,
        warn: Callable[[str], None] = warnings.warn,
        *,
        height: int,
        width: int,
        fit: Fit = "crop",
    ) -> None:
        self._shape = (require_whole("height", height), require_whole("width", width), 3)
        transform = f"{height}x{width}-{fit}"
        super().__init__(
            Store(Path(folder), f"tensors-{transform}", require_whole("max_bytes", max_bytes), warn), transform
        )

    def read_into(self, location: str, out: Pixels) -> bool:
        """Put the image into `out`, C-contiguous; False, with `out` in any state, where it is not there."""
        key = self._key(location)
        entry = self._store.find(key)
        return entry is not None and entry.length == out.nbytes and self._store.take(key, entry, out.data)

    def get(self, location: str) -> Pixels | None:
        """The image as a new array."""
        out = np.empty(self._shape, np.uint8)
        return out if self.read_into(location, out) else None

    def put(self, location: str, image: Pixels) -> bool:
        """Keep an image; True if it is there now, False where the cache is full or off.

        Raises InputError for another shape.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise InputError(f"the cache holds uint8 of shape {self._shape}; {image.dtype} of shape {image.shape} came")
        return self._store.put(self._key(location), np.ascontiguousarray(image).data)


def open_cache(
    kind: CacheKind,
    folder: Folder | None,
    max_bytes: int,
    *,
    height: int,
    width: int,
    fit: Fit = "crop",
    warn: Callable[[str], None] = warnings.warn,
) -> BytesCache | TensorCache | None:
    """A cache of this kind in this folder (None: in the user's cache), for at most `max_bytes` of data and index.

    `warn` gets a sentence when the disk does not let it read or write: it then turns itself off and the stream goes on.
    None for the kind "none". Raises InputError for any other kind and for a budget that is no whole number.

    >>> open_cache("none", None, 10**9, height=96, width=96) is None
    True
    """
    require_choice("cache", kind, ("none", "bytes", "tensors"))
    if kind == "none":
        return None
    where = default_folder() if folder is None else folder
    if kind == "bytes":
        return BytesCache(where, max_bytes, warn)
    return TensorCache(where, max_bytes, warn, height=height, width=width, fit=fit)


def default_folder() -> Path:
    """`streams` in the user's cache, which CNN_TOOLKIT_CACHE moves, as for datasets.

    >>> default_folder().name
    'streams'
    """
    import pooch

    return Path(os.environ.get("CNN_TOOLKIT_CACHE") or pooch.os_cache("cnn-toolkit")) / "streams"
