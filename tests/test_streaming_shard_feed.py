"""Tar shards as a stream: every sample once, the same order for a seed, positions, damage, bounded blocks."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bad_server import BadServer, Request
from tests.image_server import numbers_in, png
from tests.test_streaming_shards import tar
from toolkit.errors import InputError
from toolkit.streaming import shard_feed
from toolkit.streaming.failures import Cause
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.pipeline import ImageStream, stream_images
from toolkit.streaming.shards import ShardSource
from toolkit.streaming.shelves import ImageShelf

pytestmark = pytest.mark.once
HERE = FetchLimits(allow_private=True, retries=0)
SAMPLES = 23  # in a shard


def shard(start: int, image: Callable[[int], bytes] = png) -> bytes:
    """Samples whose label, key and colour are their number."""
    numbers = range(start, start + SAMPLES)
    return tar([pair for n in numbers for pair in ((f"{n:06}.png", image(n)), (f"{n:06}.cls", str(n).encode()))])


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.tar" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(shard(SAMPLES * number))
    return paths


async def serve_numbered(request: Request) -> bool:
    """`0.tar`, `1.tar` and `2.tar`."""
    return await request.answer(shard(SAMPLES * int(request.path[-5])))


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer(extra={"shard": serve_numbered}) as server:
        yield server


def urls(server: BadServer) -> list[str]:
    return [server.url(f"shard/{number}.tar") for number in range(3)]


def stream(shards: Any, **options: Any) -> ImageStream:
    return stream_images(shards, **{"image_size": 4, "batch_size": 8, "limits": HERE, "shuffle_block": 6, **options})


def epoch(images: ImageStream) -> list[list[int]]:
    batches = []
    for pixels, labels in images:
        assert numbers_in(pixels) == labels.tolist()
        batches.append(labels.tolist())
    return batches


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def test_every_sample_comes_once_and_the_order_is_that_of_the_seed(shards: list[Path]) -> None:
    with stream(shards) as images:
        first, second = epoch(images), epoch(images)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(3 * SAMPLES))
    assert [len(batch) for batch in first] == [8] * 8 + [5]
    assert first != second
    with stream(shards) as images:
        assert [epoch(images), epoch(images)] == [first, second]
    with stream(shards, shuffle=False) as images:
        assert flat(epoch(images)) == list(range(3 * SAMPLES))
    with stream(shards, drop_remainder=True) as images:
        assert epoch(images) == first[:-1]


def test_samples_are_shuffled_within_their_block_and_shards_as_a_whole(shards: list[Path]) -> None:
    with stream(shards) as images:
        numbers = flat(epoch(images))
    whole = [numbers[start : start + SAMPLES] for start in range(0, 3 * SAMPLES, SAMPLES)]
    assert [sorted(part) for part in whole] != [list(part) for part in whole]
    for part in whole:
        start = min(part)
        blocks = [part[first : first + 6] for first in range(0, SAMPLES, 6)]
        assert [set(block) for block in blocks] == [
            set(range(start + first, start + min(first + 6, SAMPLES))) for first in range(0, SAMPLES, 6)
        ]


@pytest.mark.parametrize("order", ["source", "completion"])
@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_a_resumed_stream_repeats_and_loses_nothing(shards: list[Path], after: int, order: str) -> None:
    with stream(shards, order=order) as images:
        batches = iter(images)
        first = [next(batches)[1].tolist() for _ in range(after)]
        position = images.position.to_dict()
        assert images.progress().images == 8 * after
    with stream(shards, order=order).resume(position) as images:
        rest = epoch(images)
        assert images.position.to_dict() == {**position, "epoch": 1, "batches": 0, "done": 0, "shards": 0, "ahead": []}
    assert sorted(flat(first + rest)) == list(range(3 * SAMPLES))
    if order == "source":
        with stream(shards) as images:
            assert epoch(images) == first + rest


def test_completion_order_does_not_wait_for_a_slow_shard() -> None:
    async def serve(request: Request) -> bool:
        slow = request.path.endswith("0.tar")
        await asyncio.sleep(0.5 if slow else 0)
        return await serve_numbered(request)

    with BadServer(extra={"shard": serve}) as server:
        with stream(urls(server), order="completion", shuffle=False) as images:
            found = flat(epoch(images))
        assert server.requests["/shard/0.tar"] == 1
    assert sorted(found) == list(range(3 * SAMPLES))
    assert found[-SAMPLES:] == list(range(SAMPLES))


def test_parts_share_out_the_shards(shards: list[Path]) -> None:
    found = []
    for index in range(3):
        with stream(ShardSource([str(path) for path in shards]), part=(index, 3)) as images:
            found += flat(epoch(images))
    assert sorted(found) == list(range(3 * SAMPLES))


def test_a_damaged_shard_loses_what_is_behind_the_damage(shards: list[Path]) -> None:
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[: len(whole) // 2 + 100])
    shards[2].unlink()
    with stream(shards, shuffle=False) as images:
        numbers = flat(epoch(images))
        assert numbers[:SAMPLES] == list(range(SAMPLES))
        assert SAMPLES < len(numbers) < 2 * SAMPLES
        failures = {each.cause: (each.number, each.location) for each in images.report.failures}
        assert failures[Cause.DAMAGED_SHARD] == (-1, str(shards[1]))
        assert failures[Cause.UNREADABLE_FILE] == (-1, str(shards[2]))
    with pytest.raises(InputError, match=rf"{shards[1]} cannot be used: the shard ends in the middle"):
        epoch(stream(shards, shuffle=False, on_error="fail"))
    shards[0].unlink()
    with pytest.raises(InputError, match=r"2 of 3 shards gave no sample.*share of 0.5.*2.tar"):
        epoch(stream(shards, shuffle=False))
    with stream(shards, shuffle=False, max_failed_share=0.7) as images:
        assert flat(epoch(images)) == numbers[SAMPLES:]


def test_no_readable_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 1 shards gave no sample.*nothing.tar"):
        epoch(stream([tmp_path / "nothing.tar"]))


def test_bad_samples_of_a_shard_are_failures(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(shard(0, lambda number: b"text" if number % 5 == 0 else png(number)))
    with stream(tmp_path / "a.tar", shuffle=False) as images:
        assert flat(epoch(images)) == [number for number in range(SAMPLES) if number % 5]
        assert images.report.counts == {Cause.NOT_AN_IMAGE: 5}
        assert images.report.failures[0].location == f"{tmp_path / 'a.tar'}#000000"
    with stream(tmp_path / "a.tar", shuffle=False, on_error="replace") as images:
        assert flat(epoch(images))[:8] == [7, 1, 2, 3, 4, 4, 6, 7]
    with pytest.raises(InputError, match=r"a.tar#000000 cannot be used: .*it is none of"):
        epoch(stream(tmp_path / "a.tar", shuffle=False, on_error="fail"))


def test_shards_come_over_http_in_blocks_that_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a megabyte: a block ends by its bytes, and the next waits until it is decoded."""
    monkeypatch.setattr(shard_feed, "BLOCK_BYTES", 2_000_000)
    data = shard(0, lambda number: png(number) + bytes(1_000_000))

    async def serve(request: Request) -> bool:
        return await request.answer(data)

    with BadServer(extra={"shard": serve}) as server, stream(server.url("shard/0.tar")) as images:
        assert sorted(flat(epoch(images))) == list(range(SAMPLES))


@pytest.mark.parametrize("order", ["source", "completion"])
@pytest.mark.parametrize("cache", ["bytes", "tensors"])
def test_later_epochs_come_from_the_cache(server: BadServer, tmp_path: Path, cache: str, order: str) -> None:
    with stream(urls(server)) as images:
        expected = [epoch(images) for _ in range(3)]
    server.requests.clear()
    options = {"cache": cache, "cache_folder": tmp_path, "order": order}
    with stream(urls(server), **options) as images:
        found = [epoch(images), epoch(images)]
    with stream(urls(server), **options) as images:
        found += [epoch(images.resume({**images.position.to_dict(), "epoch": 2}))]
    assert set(server.requests.values()) == {1}
    for each, wanted in zip(found, expected, strict=True):
        assert each == wanted or (order == "completion" and sorted(flat(each)) == sorted(flat(wanted)))


def test_bad_samples_do_not_keep_a_shard_from_the_cache(tmp_path: Path) -> None:
    async def serve(request: Request) -> bool:
        return await request.answer(shard(0, lambda number: b"text" if number % 5 == 0 else png(number)))

    good = [number for number in range(SAMPLES) if number % 5]
    with (
        BadServer(extra={"shard": serve}) as server,
        stream(server.url("shard/0.tar"), cache="tensors", cache_folder=tmp_path) as images,
    ):
        assert [sorted(flat(epoch(images))) for _ in range(3)] == [good] * 3
        assert images.report.counts == {Cause.NOT_AN_IMAGE: 3 * 5}
        assert set(server.requests.values()) == {1}


@pytest.mark.parametrize("order", ["source", "completion"])
def test_what_the_cache_has_lost_is_read_again(
    server: BadServer, tmp_path: Path, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples that vanish between the look into the cache and their turn; one that is in its shard no more, too."""
    options = {"cache": "tensors", "cache_folder": tmp_path, "order": order}
    with stream(urls(server), **options) as images:
        epoch(images)
        restore, lost = ImageShelf.restore, ("000003", "000004", "000050")
        monkeypatch.setattr(
            ImageShelf, "restore", lambda self, name, out: not name.endswith(lost) and restore(self, name, out)
        )
        assert sorted(flat(epoch(images))) == list(range(3 * SAMPLES))
        assert server.requests == {"/shard/0.tar": 2, "/shard/1.tar": 1, "/shard/2.tar": 2}
        server.behaviours["shard"] = lambda request: request.answer(shard(500))
        assert sorted(flat(epoch(images))) == [number for number in range(3 * SAMPLES) if number not in {3, 4, 50}]
        assert images.report.counts == {Cause.DAMAGED_SHARD: 3}
        server.behaviours["shard"] = lambda request: request.answer(b"", status="404 Gone")
        epoch(images)
        assert images.report.counts == {Cause.DAMAGED_SHARD: 3, Cause.NOT_FOUND: 3}


def test_a_cache_that_is_full_costs_no_sample(server: BadServer, tmp_path: Path) -> None:
    with stream(urls(server), cache="tensors", cache_folder=tmp_path, cache_bytes=4 * 4 * 3 * 40) as images:
        for _ in range(2):
            assert sorted(flat(epoch(images))) == list(range(3 * SAMPLES))
        assert "is full" in images.report.warnings[0]


def test_a_shard_that_was_changed_is_read_anew(shards: list[Path], tmp_path: Path) -> None:
    with stream(shards[0], cache="tensors", cache_folder=tmp_path / "cache") as images:
        first = epoch(images)
        shards[0].write_bytes(shard(100))
        os.utime(shards[0], (1, 1))
        assert sorted(flat(epoch(images))) == list(range(100, 100 + SAMPLES))
        assert sorted(flat(first)) == list(range(SAMPLES))


def test_two_samples_of_one_name_stay_two(tmp_path: Path) -> None:
    kinds = [("a", 1), ("b", 2), ("a", 3)]
    data = tar([pair for key, n in kinds for pair in ((f"{key}.png", png(n)), (f"{key}.cls", str(n).encode()))])
    (tmp_path / "twice.tar").write_bytes(data)
    with stream(tmp_path / "twice.tar", cache="tensors", cache_folder=tmp_path) as images:
        assert [sorted(flat(epoch(images))) for _ in range(2)] == [[1, 2, 3]] * 2


def test_what_shards_cannot_do_is_refused_with_a_sentence(shards: list[Path]) -> None:
    images = stream(shards)
    for call in (lambda: len(images), lambda: images.batch(0)):
        with pytest.raises(TypeError, match="no number of batches"):
            call()
    assert images.progress().total is None
    with pytest.raises(InputError, match="bring their own labels"):
        stream_images(shards, [1, 2, 3], image_size=4)


def test_leaving_a_shard_in_the_middle_ends_its_reading(shards: list[Path]) -> None:
    with stream(shards, batch_size=2) as images:
        whole = epoch(images)
        next(iter(images))
        assert epoch(images) == epoch(images.resume({**images.position.to_dict(), "epoch": 1, "batches": 1, "done": 2}))
        assert len(whole) == 3 * SAMPLES // 2 + 1


@pytest.mark.tensorflow
def test_shards_feed_a_tf_dataset(shards: list[Path]) -> None:
    with stream(shards) as images:
        expected = epoch(images)
    with stream(shards) as images:
        assert [labels.numpy().tolist() for _, labels in images.as_tf_dataset()] == expected
