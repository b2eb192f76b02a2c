"""What the engine keeps for later epochs: encoded bytes or decoded images, by where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from toolkit.streaming.caching import BytesCache, TensorCache, open_cache
from toolkit.streaming.decoding import Pixels
from toolkit.streaming.failures import SampleError
from toolkit.streaming.locations import scheme
from toolkit.streaming.settings import StreamSettings

Decode = Callable[[bytes], Pixels]


class Shelf(Protocol):
    """Keeps samples. Any thread may ask."""

    def restore(self, location: str, out: Pixels) -> bool:
        """Write the image of this sample to `out`, if it is here."""

    def keep(self, location: str, data: bytes, image: Pixels) -> None:
        """Keep what came for this sample, or what was decoded from it."""

    def has(self, location: str) -> bool:
        """Whether `restore` would find this sample."""

    def note(self, location: str) -> bytes | None:
        """What was noted of a location."""

    def keep_note(self, location: str, data: bytes) -> None:
        """Note something of a location."""

    def close(self) -> None:
        """Let go of the files."""


class ImageShelf:
    """Keeps decoded images."""

    def __init__(self, cache: TensorCache) -> None:
        self._cache = cache
        self.close = cache.close

    def restore(self, location: str, out: Pixels) -> bool:
        return self._cache.read_into(_key(location), out)

    def keep(self, location: str, data: bytes, image: Pixels) -> None:
        self._cache.put(_key(location), image)

    def has(self, location: str) -> bool:
        return _key(location) in self._cache

    def note(self, location: str) -> bytes | None:
        return self._cache.note(_key(location))

    def keep_note(self, location: str, data: bytes) -> None:
        self._cache.keep_note(_key(location), data)


class FileShelf:
    """Keeps files as they came over the network; those that are on a disk already need no copy."""

    def __init__(self, cache: BytesCache, decode: Decode) -> None:
        self._cache, self._decode = cache, decode
        self.close = cache.close

    def restore(self, location: str, out: Pixels) -> bool:
        data = self.note(location)
        if data is None:
            return False
        try:
            out[...] = self._decode(data)
        except SampleError:  # kept under other limits: it is fetched and judged anew
            return False
        return True

    def keep(self, location: str, data: bytes, image: Pixels) -> None:
        self.keep_note(location, data)

    def has(self, location: str) -> bool:
        return bool(scheme(location)) and location in self._cache

    def note(self, location: str) -> bytes | None:
        return self._cache.note(location) if scheme(location) else None

    def keep_note(self, location: str, data: bytes) -> None:
        if scheme(location):
            self._cache.keep_note(location, data)


def open_shelf(settings: StreamSettings, decode: Decode, warn: Callable[[str], None]) -> Shelf | None:
    """The shelf that the settings ask for, if any; what goes wrong with it later is told to `warn`, once."""
    height, width, _ = settings.shape
    cache = open_cache(
        settings.cache,
        settings.cache_folder,
        settings.cache_bytes,
        height=height,
        width=width,
        fit=settings.fit,
        warn=warn,
    )
    if isinstance(cache, TensorCache):
        return ImageShelf(cache)
    return FileShelf(cache, decode) if cache else None


def _key(location: str) -> str:
    """A URL is what it is called; a file that was changed is another one, and so is what is in a changed shard."""
    path = "" if scheme(location) else location
    while path:
        try:
            return f"{location}|{Path(path).stat().st_mtime_ns}"
        except (OSError, ValueError):
            path = path.rpartition("#")[0]
    return location
