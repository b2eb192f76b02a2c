"""Tar shards in the layout of WebDataset: `000123.jpg` and `000123.cls` (or `.json`) lie side by side.

A shard is read as a stream: what is in memory is the sample that is being read. Format of tar: POSIX.1-2001 (pax)
and GNU's long names; layout: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from toolkit.errors import InputError
from toolkit.show import readable_bytes
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.locations import scheme
from toolkit.streaming.samples import Source, read_source, require_part

if TYPE_CHECKING:
    from toolkit.streaming.bodies import Body
    from toolkit.streaming.fetching import Fetcher

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
_LABELS = ("cls", "json", "txt")
_MOST_LABEL = 1_000_000  # bytes of a label or of its JSON
_MOST_SHARDS = 1_000_000  # of one range
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
_BLOCK = tarfile.BLOCKSIZE
_Parts = dict[str, bytes | SampleError]
_SAMPLE = re.compile(r"((?:.*/)?[^/.][^/.]*)\.([^/]+)", re.DOTALL)  # WebDataset: to the first dot of the last part


@dataclass(frozen=True)
class ShardSource:
    """Shards at URLs or paths, read in any order. class_names: what labels that are names mean; may be empty.

    A range in braces stands for many, as WebDataset has it. Raises InputError without shards.

    >>> ShardSource(["https://a.org/birds-{008..010}.tar"]).locations[1:]
    ('https://a.org/birds-009.tar', 'https://a.org/birds-010.tar')
    """

    locations: Sequence[str]
    class_names: tuple[str, ...] = ()
    name: str = "shards"

    def __post_init__(self) -> None:
        if not self.locations:
            raise InputError("a shard source needs the URL or path of at least one shard; none came")
        expanded = tuple(each for location in self.locations for each in _expanded(location))
        object.__setattr__(self, "locations", expanded)

    def part(self, index: int, count: int) -> ShardSource:
        """Part `index` of `count`: every count-th shard. Raises InputError when there are fewer shards than parts.

        >>> ShardSource(("a.tar", "b.tar", "c.tar")).part(0, 2).locations
        ('a.tar', 'c.tar')
        """
        require_part(index, count)
        if count > len(self.locations):
            raise InputError(
                f"{len(self.locations)} shards cannot be divided among {count} workers; "
                "take fewer workers or more shards"
            )
        return ShardSource(tuple(self.locations[index::count]), self.class_names, self.name)


def _expanded(location: str) -> Iterator[str]:
    """A location for each number of the first range in braces, and so on for further ones."""
    found = _RANGE.search(location)
    if found is None:
        yield location
        return
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + _MOST_SHARDS:
        raise InputError(f"a range of shards goes up, like {{000..099}}, to at most {_MOST_SHARDS:,}; {found[0]} came")
    for number in range(first, last + 1):
        yield from _expanded(f"{location[: found.start()]}{number:0{len(found[1])}d}{location[found.end() :]}")


def open_source(
    what: Any, labels: Any = None, *, class_names: Sequence[str] | None = None, stores: bool = False
) -> Source | ShardSource:
    """A shard source, the address of a shard, or several of them, as a shard source; else what `read_source` makes.

    A shard is known by its name's end, `.tar`. Raises InputError as `read_source` does.

    >>> open_source("https://a.org/birds-{0..2}.tar").name, open_source(["a.jpg"]).name
    ('shards', 'images')
    """
    if isinstance(what, ShardSource):
        return what
    several = what if isinstance(what, (list, tuple)) else [what]
    found = [str(each) for each in several if isinstance(each, (str, os.PathLike)) and _is_shard(str(each))]
    if not found or len(found) < len(several):
        return read_source(what, labels, class_names=class_names, stores=stores)
    if labels is not None:
        raise InputError("tar shards bring their own labels: leave labels out")
    return ShardSource(found, tuple(class_names or ()))


def _is_shard(location: str) -> bool:
    return urlsplit(location).path.endswith(".tar") if scheme(location) else location.endswith(".tar")


class Kept(NamedTuple):
    """Stands for the bytes of an image that the cache has, or has decoded: how many there were."""

    size: int


class ShardSample(NamedTuple):
    """One sample of a shard: its key, its label (-1 where it failed), and its encoded image or why there is none."""

    key: str
    label: int
    data: bytes | Kept | SampleError

    @property
    def size(self) -> int:
        """Bytes of the encoded image; 0 where there is none."""
        return self.data.size if isinstance(self.data, Kept) else len(self.data) if isinstance(self.data, bytes) else 0


def member(shard: str, key: str) -> str:
    """What a sample of a shard is called in reports and caches.

    >>> member("a.tar", "000123")
    'a.tar#000123'
    """
    return f"{shard}#{key}"


class Grants(Protocol):
    """What grants bytes before they are read: a `Ticket`."""

    async def take(self, count: int) -> None: ...


async def read_shard(
    location: str, fetcher: Fetcher, ticket: Grants, class_names: Sequence[str] = ()
) -> AsyncIterator[ShardSample]:
    """The samples of a shard in its order; `ticket` grants the bytes of each before they are read.

    A sample without an image or label, or one too large, brings its failure. A damaged shard, or one that cannot be
    reached, raises SampleError after the samples before the damage.
    """
    places = {name: number for number, name in enumerate(class_names)}
    body = fetcher.body(location)
    try:
        async for key, parts in _groups(_Reader(body), ticket, fetcher.limits.max_bytes):
            yield _sample(key, parts, places)
    finally:
        body.close()


def _sample(key: str, parts: _Parts, places: Mapping[str, int]) -> ShardSample:
    image = next((parts[kind] for kind in IMAGE_EXTENSIONS if kind in parts), None)
    try:
        if image is None:
            raise SampleError(Cause.NOT_AN_IMAGE, f"{key} should have an image; it has {', '.join(parts)[:80]}")
        return ShardSample(key, -1 if isinstance(image, SampleError) else _label(parts, places), image)
    except SampleError as error:
        return ShardSample(key, -1, error)


def _label(parts: _Parts, places: Mapping[str, int]) -> int:
    kind = next((kind for kind in _LABELS if kind in parts), None)
    data = parts[kind] if kind else b""
    if isinstance(data, SampleError):
        raise data
    text = _json_label(data) if kind == "json" else data.decode("utf-8", "replace").strip()
    if text in places:
        return places[text]
    if text.isdecimal() and len(text) < 19:
        return int(text)
    wanted = "a class name or a number from 0" if places else "a number from 0"
    raise SampleError(Cause.NO_LABEL, f".cls, .json (label) or .txt should hold {wanted}; {text[:80]!r} came")


def _json_label(data: bytes) -> str:
    with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):
        label = json.loads(data)["label"]
        if isinstance(label, (int, str)) and not isinstance(label, bool):
            return str(label)
    return ""


# Tar


class _Reader:
    """Exact numbers of bytes from a body that comes in pieces."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._piece = memoryview(b"")

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes; raises SampleError where the body ends before."""
        if count <= len(self._piece):
            return self._cut(count)
        parts = [self._cut(len(self._piece))]
        missing = count - len(parts[0])
        while missing:
            await self._next()
            parts.append(self._cut(min(missing, len(self._piece))))
            missing -= len(parts[-1])
        return b"".join(parts)

    async def skip(self, count: int) -> None:
        """Leave out `count` bytes."""
        while count > len(self._piece):
            count -= len(self._piece)
            await self._next()
        self._piece = self._piece[count:]

    async def ended(self) -> bool:
        """Whether the body has no more bytes."""
        if not self._piece:
            self._piece = memoryview(await self._body.read())
        return not self._piece

    def _cut(self, count: int) -> bytes:
        data, self._piece = bytes(self._piece[:count]), self._piece[count:]
        return data

    async def _next(self) -> None:
        self._piece = memoryview(await self._body.read())
        if not self._piece:
            raise SampleError(Cause.DAMAGED_SHARD, "the shard ends in the middle of a sample")


async def _headers(reader: _Reader) -> AsyncIterator[tarfile.TarInfo]:
    """The headers of regular files with their whole names; whoever takes one reads or skips its data first."""
    name = ""
    while not await reader.ended():
        block = await reader.exactly(_BLOCK)
        if not any(block):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise SampleError(Cause.DAMAGED_SHARD, f"a header of tar was expected; it is damaged ({error})") from error
        if header.size < 0:
            raise SampleError(Cause.DAMAGED_SHARD, "a file of negative size is in it")
        if header.type in {tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}:
            name = await _long_name(reader, header) or name
        elif header.isreg():
            header.name, name = name or header.name, ""
            yield header
        else:
            name = ""
            await reader.skip(_padded(header.size))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


async def _long_name(reader: _Reader, header: tarfile.TarInfo) -> str:
    """The name that an extra header gives to the next file."""
    if header.size > _MOST_LABEL:
        raise SampleError(Cause.DAMAGED_SHARD, "a name of a file should be short; a very long one is announced")
    data = (await reader.exactly(_padded(header.size)))[: header.size]
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    found = re.search(rb"(?:^|\n)[0-9]+ path=([^\n]*)\n", data)
    return found[1].decode("utf-8", "surrogateescape") if found else ""


async def _groups(reader: _Reader, ticket: Grants, most: int) -> AsyncIterator[tuple[str, _Parts]]:
    """Neighbours with the same key."""
    key, parts = "", _Parts()
    async for header in _headers(reader):
        found = _SAMPLE.fullmatch(header.name)
        if found and found[1] != key:
            if parts:
                yield key, parts
            key, parts = found[1], _Parts()
        kind = found[2].lower().rpartition(".")[2] if found else ""
        if _is_needed(kind, parts):
            parts[kind] = await _data(reader, header, most if kind in IMAGE_EXTENSIONS else _MOST_LABEL, ticket)
        else:
            await reader.skip(_padded(header.size))
    if parts:
        yield key, parts


def _is_needed(kind: str, parts: _Parts) -> bool:
    """Whether a sample needs this file: its first image, and one label of each kind."""
    if kind in IMAGE_EXTENSIONS:
        return not any(image in parts for image in IMAGE_EXTENSIONS)
    return kind in _LABELS and kind not in parts


async def _data(reader: _Reader, header: tarfile.TarInfo, most: int, ticket: Grants) -> bytes | SampleError:
    if header.size > most:
        await reader.skip(_padded(header.size))
        return SampleError(Cause.TOO_LARGE, f"{header.name[:80]} may have {readable_bytes(most)}; it has more")
    await ticket.take(header.size)
    return (await reader.exactly(_padded(header.size)))[: header.size]
