"""Shards, made by tarfile, read from a real server, from files and from a store, whole and damaged."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bad_server import BadServer, Behaviour, Request, head, image_bytes
from toolkit.errors import InputError
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.fetching import Budget, Fetcher, FetchLimits
from toolkit.streaming.shards import ShardSample, ShardSource, read_shard

LIMITS = FetchLimits(allow_private=True, retries=2, backoff_seconds=0.01, read_seconds=1, grace_seconds=0.3)
GOOD = [(f"{number:06d}", number % 10, image_bytes(number)) for number in range(20)]


def tar(files: list[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT, extra: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        if extra:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
        for name, data in files:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def usual(samples: list[tuple[str, int, bytes]] = GOOD) -> list[tuple[str, bytes]]:
    return [pair for key, label, image in samples for pair in ((f"{key}.cls", b"%d" % label), (f"{key}.jpg", image))]


async def collect(samples: AsyncIterator[ShardSample], found: list[ShardSample]) -> None:
    async for sample in samples:
        found.append(sample)  # noqa: PERF401 - what came before an error is kept


async def samples_of(
    location: str, class_names: tuple[str, ...] = (), limits: FetchLimits = LIMITS
) -> tuple[list[ShardSample], SampleError | None]:
    """All samples, and the error that ended them."""
    found: list[ShardSample] = []
    budget = Budget()
    async with Fetcher(limits) as fetcher:
        with budget.ticket() as ticket:
            try:
                await collect(read_shard(location, fetcher, ticket, class_names), found)
            except SampleError as error:
                return found, error
    return found, None


def read(location: str, class_names: tuple[str, ...] = (), limits: FetchLimits = LIMITS) -> list[ShardSample]:
    found, error = asyncio.run(samples_of(location, class_names, limits))
    assert error is None, error
    return found


def read_bytes(data: bytes, folder: Path, **options: Any) -> list[ShardSample]:
    (folder / "shard.tar").write_bytes(data)
    return read(str(folder / "shard.tar"), **options)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_come_whole_and_in_order_in_every_format_of_tar(tmp_path: Path, kind: int) -> None:
    assert read_bytes(tar(usual(), kind, extra=True), tmp_path) == GOOD


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["long/" * 40 + "a", "ü" * 60, "folder.with.dots/b"])
def test_long_and_odd_names(tmp_path: Path, kind: int, name: str) -> None:
    assert read_bytes(tar(usual([(name, 3, b"image")]), kind), tmp_path) == [(name, 3, b"image")]


def test_names_are_split_at_the_first_dot_and_neighbours_belong_together(tmp_path: Path) -> None:
    files = [
        *[("a/1.cls", b"1"), ("a/1.left.JPG", b"image"), ("a/1.txt", b"a caption")],
        *[("a/2.json", json.dumps({"label": 5, "x": 1}).encode()), ("a/2.png", b"png")],
        *[("README", b"no sample"), ("b/2.txt", b" 7\n"), ("b/2.webp", b"webp"), ("b/2.npy", bytes(5000))],
    ]
    assert read_bytes(tar(files), tmp_path) == [("a/1", 1, b"image"), ("a/2", 5, b"png"), ("b/2", 7, b"webp")]


def test_a_sample_with_many_images_is_its_first(tmp_path: Path) -> None:
    files = [("1.cls", b"1"), ("1.png", b"first"), ("1.jpg", bytes(900)), ("1.png", bytes(900)), ("1.cls", b"2")]

    async def held() -> int:
        (tmp_path / "shard.tar").write_bytes(tar(files * 50))
        budget = Budget()
        async with Fetcher(LIMITS) as fetcher:
            with budget.ticket() as ticket:
                found: list[ShardSample] = []
                await collect(read_shard(str(tmp_path / "shard.tar"), fetcher, ticket), found)
                assert found == [("1", 1, b"first")]
                return ticket.held

    assert asyncio.run(held()) == 6


def test_a_size_below_zero_is_damage(tmp_path: Path) -> None:
    block = bytearray(tar(usual())[:512])
    block[124:136] = (-512).to_bytes(12, "big", signed=True)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    (tmp_path / "shard.tar").write_bytes(block + tar(usual()))
    found, error = asyncio.run(samples_of(str(tmp_path / "shard.tar")))
    assert not found
    assert error
    assert error.cause is Cause.DAMAGED_SHARD
    assert "negative" in error.sentence


def test_names_of_classes_become_their_numbers(tmp_path: Path) -> None:
    files = [("1.cls", b"dog"), ("1.jpg", b"a"), ("2.json", b'{"label": "cat"}'), ("2.jpg", b"b"), ("3.cls", b"1")]
    data = tar([*files, ("3.jpg", b"c")])
    assert read_bytes(data, tmp_path, class_names=("cat", "dog")) == [("1", 1, b"a"), ("2", 0, b"b"), ("3", 1, b"c")]


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ([("1.cls", b"1")], Cause.NOT_AN_IMAGE),
        ([("1.jpg", b"a")], Cause.NO_LABEL),
        ([("1.jpg", b"a"), ("1.cls", b"cat")], Cause.NO_LABEL),
        ([("1.jpg", b"a"), ("1.cls", b"-1")], Cause.NO_LABEL),
        ([("1.jpg", b"a"), ("1.cls", b"\xff\xfe")], Cause.NO_LABEL),
        ([("1.jpg", b"a"), ("1.json", b"[" * 5000)], Cause.NO_LABEL),
        ([("1.jpg", b"a"), ("1.json", b'{"label": null}')], Cause.NO_LABEL),
        ([("1.jpg", bytes(2000)), ("1.cls", b"1")], Cause.TOO_LARGE),
    ],
)
def test_a_bad_sample_is_one_failure_and_no_more(tmp_path: Path, files: list[tuple[str, bytes]], cause: Cause) -> None:
    files = [*usual(GOOD[:2]), *files, *usual(GOOD[2:])]
    found = read_bytes(tar(files), tmp_path, limits=replace(LIMITS, max_bytes=1000))
    bad = found.pop(2)
    assert found == GOOD
    assert (bad.key, bad.label) == ("1", -1)
    assert isinstance(bad.data, SampleError)
    assert bad.data.cause is cause


@given(st.data())
def test_a_damaged_shard_gives_what_came_before_the_damage(data: st.DataObject) -> None:
    whole = tar(usual(), tarfile.GNU_FORMAT)
    ends = 1024 * 2 * len(GOOD)  # each file: a header and one or two blocks
    place = data.draw(st.integers(0, ends - 1))
    damaged = whole[:place] if data.draw(st.booleans()) else whole[:place] + os.urandom(512) + whole[place + 512 :]

    class Memory:
        def __init__(self) -> None:
            self.pieces = [damaged[start : start + 700] for start in range(0, len(damaged), 700)]

        async def read(self) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

        def close(self) -> None:
            self.pieces = []

    async def run() -> tuple[list[ShardSample], SampleError | None]:
        found: list[ShardSample] = []
        fetcher = Fetcher(LIMITS)
        fetcher.body = lambda location: Memory()  # type: ignore[method-assign]
        try:
            await collect(read_shard("", fetcher, Budget().ticket()), found)
        except SampleError as error:
            return found, error
        return found, None

    found, error = asyncio.run(run())
    assert error is None or error.cause is Cause.DAMAGED_SHARD
    before = place // 2560  # the largest sample: two headers, a block of label, two of image
    assert found[: max(0, before - 1)] == GOOD[: max(0, before - 1)]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", None),
        (bytes(1024), None),
        (b"no tar at all", Cause.DAMAGED_SHARD),
        (bytes(range(256)) * 8, Cause.DAMAGED_SHARD),
        (image_bytes(1) * 3, Cause.DAMAGED_SHARD),
        (tar(usual())[:10_000], Cause.DAMAGED_SHARD),
    ],
)
def test_what_is_no_shard(tmp_path: Path, data: bytes, cause: Cause | None) -> None:
    (tmp_path / "shard.tar").write_bytes(data)
    _, error = asyncio.run(samples_of(str(tmp_path / "shard.tar")))
    assert (error and error.cause) is cause


def test_a_store_of_fsspec() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/shards/1.tar", tar(usual()))
    assert read("memory://shards/1.tar") == GOOD


# A server that breaks off

LARGE = tar([*usual(), ("x.jpg", os.urandom(900_000)), ("x.cls", b"3"), *usual([("z", 1, b"end")])])
EXPECTED = [*[key for key, _, _ in GOOD], "x", "z"]


async def by_ranges(request: Request, ranges: bool = True, breaks: bool = True) -> bool:
    """The shard, 300 kB a connection; it goes on in the middle where `ranges` are known."""
    asked = request.range_start
    start = asked if ranges else 0
    status = "206 Partial Content" if start else "200 OK"
    headers = [f"Content-Length: {len(LARGE) - start}", 'ETag: "1"']
    if start:
        headers.append(f"Content-Range: bytes {start}-{len(LARGE) - 1}/{len(LARGE)}")
    stop = (asked + 300_000) if breaks else len(LARGE)
    await request.send(head(status, *headers), LARGE[start:stop])
    return False


async def from_the_start(request: Request) -> bool:
    return await by_ranges(request, ranges=False)


async def another_each_time(request: Request) -> bool:
    headers = (f"Content-Length: {len(LARGE)}", f'ETag: "{request.times}"')
    await request.send(head("200 OK", *headers), LARGE[:300_000])
    return False


async def never(request: Request) -> bool:
    return await request.answer(b"", status="503 Away")


async def trickling(request: Request) -> bool:
    await request.send(head("200 OK", f"Content-Length: {len(LARGE)}"), LARGE[:100])
    await request.trickle(b"\0")
    return False


async def moved(request: Request) -> bool:
    return await request.answer(b"", "Location: /by-ranges/1.tar", status="302 Found")


BEHAVIOURS: dict[str, Behaviour] = {
    "by-ranges": by_ranges,
    "from-the-start": from_the_start,
    "another": another_each_time,
    "never": never,
    "trickling": trickling,
    "moved": moved,
}


def test_a_shard_goes_on_where_the_connection_broke() -> None:
    with BadServer(extra=BEHAVIOURS) as server:
        for name in ("by-ranges", "from-the-start", "moved"):
            found = read(server.url(f"{name}/1.tar"))
            assert [sample.key for sample in found] == EXPECTED
            assert found[:20] == GOOD
            assert isinstance(found[20].data, bytes)
            assert found[20].data in LARGE
        assert server.requests["/by-ranges/1.tar"] > 4


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("another", Cause.DAMAGED_SHARD),
        ("never", Cause.SERVER_ERROR),
        ("404", Cause.NOT_FOUND),
        ("noai", Cause.OPTED_OUT),
        ("redirect-loop", Cause.TOO_MANY_REDIRECTS),
        ("redirect-to-file", Cause.BAD_ADDRESS),
        ("trickling", Cause.TOO_SLOW),
        ("garbage", Cause.NOT_HTTP),
        ("no-answer", Cause.TIMED_OUT),
        ("late-bad-chunk", Cause.NOT_HTTP),
    ],
)
def test_a_server_of_shards_that_does_not_do_its_work(name: str, cause: Cause) -> None:
    with BadServer(extra=BEHAVIOURS) as server:
        found, error = asyncio.run(samples_of(server.url(f"{name}/1.tar"), limits=replace(LIMITS, read_seconds=0.3)))
    assert error
    assert error.cause is cause
    assert found == GOOD[: len(found)]


def test_shards_have_the_same_places_as_images() -> None:
    for location in ("file:///a.tar", "http://"):
        _, error = asyncio.run(samples_of(location))
        assert error
        assert error.cause is Cause.BAD_ADDRESS
    with BadServer(extra=BEHAVIOURS) as server:
        _, error = asyncio.run(samples_of(server.url("by-ranges/1.tar"), limits=FetchLimits(retries=0)))
        assert error
        assert error.cause is Cause.PRIVATE_ADDRESS
        assert not server.requests


def test_shards_are_divided_whole() -> None:
    source = ShardSource([f"{number}.tar" for number in range(7)], ("a", "b"), "birds")
    parts = [source.part(index, 3) for index in range(3)]
    assert sorted(each for part in parts for each in part.locations) == sorted(source.locations)
    assert {part.class_names for part in parts} == {("a", "b")}
    with pytest.raises(InputError, match="7 shards cannot be divided among 8 workers"):
        source.part(0, 8)
    with pytest.raises(InputError, match="at least one shard; none came"):
        ShardSource([])


def test_ranges_of_shards() -> None:
    assert ShardSource(["a{0..1}-{9..11}.tar", "b.tar"]).locations == (
        *("a0-9.tar", "a0-10.tar", "a0-11.tar", "a1-9.tar", "a1-10.tar", "a1-11.tar"),
        "b.tar",
    )
    for wrong in ("{5..4}.tar", "{0..999999999}.tar"):
        with pytest.raises(InputError, match="a range of shards goes up"):
            ShardSource([wrong])
