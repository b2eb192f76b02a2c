"""Tar shards as a stream: every sample once, the same order for a seed, positions, damage, bounded blocks."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bad_server import BadServer, Request
from tests.image_server import numbers_in, png
from toolkit.errors import InputError
from toolkit.streaming import shard_feed
from toolkit.streaming.failures import Cause
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.pipeline import ImageStream, stream_images
from toolkit.streaming.shards import ShardSource

pytestmark = pytest.mark.once
HERE = FetchLimits(allow_private=True, retries=0)
SAMPLES = 23  # in a shard


def shard(start: int, image: Callable[[int], bytes] = png) -> bytes:
    """Samples whose label, key and colour are their number."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(start, start + SAMPLES):
            for kind, data in (("png", image(number)), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{number:06}.{kind}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.tar" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(shard(SAMPLES * number))
    return paths


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


@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_a_resumed_stream_repeats_and_loses_nothing(shards: list[Path], after: int) -> None:
    with stream(shards) as images:
        whole = epoch(images)
    with stream(shards) as images:
        batches = iter(images)
        for _ in range(after):
            next(batches)
        position = images.position.to_dict()
    with stream(shards).resume(position) as images:
        assert epoch(images) == whole[after:]


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


def test_no_readable_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 1 shards could be read.*nothing.tar"):
        epoch(stream([tmp_path / "nothing.tar"]))


def test_bad_samples_of_a_shard_are_failures(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(shard(0, lambda number: b"text" if number % 5 == 0 else png(number)))
    with stream(tmp_path / "a.tar", shuffle=False) as images:
        assert flat(epoch(images)) == [number for number in range(SAMPLES) if number % 5]
        assert images.report.counts == {Cause.NOT_AN_IMAGE: 5}
        assert images.report.failures[0].location == f"{tmp_path / 'a.tar'}#000000"


def test_shards_come_over_http_in_blocks_that_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a megabyte: a block ends by its bytes, and the next waits until it is decoded."""
    monkeypatch.setattr(shard_feed, "BLOCK_BYTES", 2_000_000)
    data = shard(0, lambda number: png(number) + bytes(1_000_000))

    async def serve(request: Request) -> bool:
        return await request.answer(data)

    with BadServer(extra={"shard": serve}) as server, stream(server.url("shard/0.tar")) as images:
        assert sorted(flat(epoch(images))) == list(range(SAMPLES))


def test_what_shards_cannot_do_is_refused_with_a_sentence(shards: list[Path]) -> None:
    for options in ({"order": "completion"}, {"cache": "tensors"}):
        with pytest.raises(InputError, match="tar shards are read in their order and not cached"):
            stream(shards, **options)
    images = stream(shards)
    for call in (lambda: len(images), lambda: images.batch(0), images.as_pydataset):
        with pytest.raises(TypeError, match="no number of batches"):
            call()
    assert images.progress().total is None


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
