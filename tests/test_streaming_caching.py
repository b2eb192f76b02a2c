"""Caches, held against what was put in: after kill -9, torn writes, damage, a full disk, and with several processes."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.streaming import store
from toolkit.streaming.caching import BytesCache, TensorCache, default_folder, open_cache
from toolkit.streaming.decoding import Pixels

ROOT = Path(__file__).parent.parent
LARGE = 10**9
RECORD, HEADER = store._RECORD.itemsize, store._HEADER_BYTES


def image_of(number: int, size: int = 8) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def unexpected(sentence: str) -> None:
    raise AssertionError(sentence)


def tensors(folder: Path, max_bytes: int = LARGE, size: int = 8, warn: Any = unexpected) -> TensorCache:
    return TensorCache(folder, max_bytes, warn, height=size, width=size)


def files(folder: Path) -> tuple[Path, Path]:
    (index,), (data,) = folder.glob("*.index"), folder.glob("*.data")
    return index, data


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    program = textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: "subprocess.Popen[str]") -> str:
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    return out


def right(cache: TensorCache, numbers: range) -> list[bool]:
    """Which of the images are there; each must be the right one."""
    found = [(n, cache.get(str(n))) for n in numbers]
    assert all(image is None or (image == n % 251).all() for n, image in found)
    return [image is not None for _, image in found]


# What goes in comes out


def test_images_come_back_in_this_process_and_the_next(tmp_path: Path) -> None:
    with tensors(tmp_path) as cache:
        assert all(cache.put(f"http://x.org/{n}", image_of(n)) for n in range(20))
        for n in range(20):
            found = cache.get(f"http://x.org/{n}")
            assert found is not None
            assert np.array_equal(found, image_of(n))
    with tensors(tmp_path) as cache:
        batch = np.zeros((20, 8, 8, 3), np.uint8)
        assert all(cache.read_into(f"http://x.org/{n}", batch[n]) for n in range(20))
        assert np.array_equal(batch, np.stack([image_of(n) for n in range(20)]))
        assert cache.get("http://x.org/20") is None
        assert "http://x.org/3" in cache
        assert "http://x.org/20" not in cache
        info = cache.info()
        assert (info.entries, info.hits, info.misses) == (20, 20, 1)
        assert info.bytes == 20 * (8 * 8 * 3 + RECORD) + HEADER


@given(st.dictionaries(st.text(max_size=9), st.binary(min_size=1, max_size=99), max_size=9))
def test_any_bytes_at_any_location(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("cache")
    with BytesCache(folder, LARGE, unexpected) as cache:
        assert all(cache.put(location, data) for location, data in samples.items())
    with BytesCache(folder, LARGE, unexpected) as cache:
        assert {location: cache.get(location) for location in samples} == samples


def test_many_more_than_the_dictionary_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_RECENT", 16)
    monkeypatch.setattr(store, "_PIECE", 64)
    with BytesCache(tmp_path, LARGE, unexpected) as cache:
        for n in range(300):
            assert cache.put(str(n), str(n).encode())
            assert cache.get(str(n // 2)) == str(n // 2).encode()
        assert cache.info().entries == 300
    with BytesCache(tmp_path, LARGE, unexpected) as cache:
        assert all(cache.get(str(n)) == str(n).encode() for n in range(300))
        assert cache.info().entries == 300
        assert cache.get("300") is None


def test_a_key_is_written_once_and_belongs_to_its_transformation(tmp_path: Path) -> None:
    with tensors(tmp_path) as small, tensors(tmp_path, size=9) as large:
        assert small.put("a", image_of(1))
        assert small.put("a", image_of(2))
        assert np.array_equal(small.get("a"), image_of(1))  # type: ignore[arg-type]
        assert large.get("a") is None
        assert small.info().entries == 1
    with TensorCache(tmp_path, LARGE, unexpected, height=8, width=8, fit="pad") as padded:
        assert padded.get("a") is None


def test_an_image_of_another_shape_is_refused(tmp_path: Path) -> None:
    with tensors(tmp_path) as cache, pytest.raises(InputError, match=r"uint8 of shape \(8, 8, 3\); uint8 of shape"):
        cache.put("a", image_of(1, size=9))


def test_nothing_is_kept_for_no_bytes(tmp_path: Path) -> None:
    with BytesCache(tmp_path, LARGE, unexpected) as cache:
        assert not cache.put("a", b"")
        assert cache.get("a") is None


def test_clearing_begins_anew_and_leaves_other_readers_what_they_had(tmp_path: Path) -> None:
    with tensors(tmp_path) as cache, tensors(tmp_path) as other:
        cache.put("a", image_of(1))
        assert "a" not in other  # it has not looked since
        assert other.get("a") is not None
        cache.clear()
        assert cache.get("a") is None
        assert len(list(tmp_path.iterdir())) == 2
        cache.put("a", image_of(2))
        assert np.array_equal(other.get("a"), image_of(1))  # type: ignore[arg-type]
        assert np.array_equal(cache.get("a"), image_of(2))  # type: ignore[arg-type]


def test_a_closed_cache_finds_and_keeps_nothing(tmp_path: Path) -> None:
    cache = tensors(tmp_path)
    cache.put("a", image_of(1))
    cache.close()
    cache.close()
    assert cache.get("a") is None
    assert not cache.put("b", image_of(2))


def test_the_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache("none", tmp_path, LARGE, height=8, width=8) is None
    for kind, expected in (("bytes", BytesCache), ("tensors", TensorCache)):
        cache = open_cache(kind, tmp_path, LARGE, height=8, width=8)  # type: ignore[arg-type]
        assert isinstance(cache, expected)
        cache.close()
    with pytest.raises(InputError, match="cache must be one of none, bytes, tensors"):
        open_cache("disk", tmp_path, LARGE, height=8, width=8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_bytes must be at least 1"):
        open_cache("bytes", tmp_path, 0, height=8, width=8)
    monkeypatch.setenv("CNN_TOOLKIT_CACHE", str(tmp_path / "mine"))
    assert default_folder() == tmp_path / "mine" / "streams"


# The budget and the disk


def test_the_byte_budget_is_kept(tmp_path: Path) -> None:
    said: list[str] = []
    with tensors(tmp_path, max_bytes=10_000, warn=said.append) as cache:
        kept = [cache.put(str(n), image_of(n)) for n in range(100)]
        assert kept == [True] * sum(kept) + [False] * (100 - sum(kept))
        assert sum(kept) == (10_000 - HEADER) // (8 * 8 * 3 + RECORD)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) == cache.info().bytes <= 10_000
        assert cache.get("0") is not None
        assert cache.get("99") is None
    (sentence,) = said
    assert "is full" in sentence


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is POSIX's")
def test_a_full_disk_turns_writing_off_with_one_sentence(tmp_path: Path) -> None:
    """The system refuses to let a file grow beyond 5,000 bytes; what was written before stays good."""
    code = """
        import resource, sys
        import numpy as np
        from toolkit.streaming.caching import TensorCache
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        said = []
        with TensorCache(sys.argv[1], 10**9, said.append, height=8, width=8) as cache:
            kept = [cache.put(str(n), np.full((8, 8, 3), n, np.uint8)) for n in range(60)]
            right = [(cache.get(str(n)) == n).all() for n in range(sum(kept))]
        print(sum(kept), all(right), len(said), "cannot be written (File too large)" in said[0])
    """
    assert output(start(code, tmp_path)).split() == ["26", "True", "1", "True"]
    with tensors(tmp_path) as cache:
        assert cache.info().entries == 26
        assert cache.put("30", image_of(30))  # there is room again: what was torn is written over
        assert np.array_equal(cache.get("30"), image_of(30))  # type: ignore[arg-type]
        assert right(cache, range(26)) == [True] * 26


@pytest.mark.parametrize("place", ["file", "nothing"])
def test_a_folder_that_cannot_be_made_turns_the_cache_off(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    folder = tmp_path / "file" / "cache" if place == "file" else Path("/proc/no/such/folder")
    with tensors(folder, warn=said.append) as cache:
        assert not cache.put("a", image_of(1))
        assert cache.get("a") is None
        assert cache.info().entries == 0
    (sentence,) = said
    assert "cannot be used" in sentence


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_only_be_read_is_read() -> None:
    code = """
        import os, sys
        import numpy as np
        from toolkit.streaming.caching import TensorCache
        os.setuid(65534)
        said = []
        with TensorCache(sys.argv[1], 10**9, said.append, height=8, width=8) as cache:
            print(cache.get("a").sum(), cache.put("b", np.zeros((8, 8, 3), np.uint8)), len(said))
    """
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders belong to one user alone
        Path(name).chmod(0o755)
        with tensors(Path(name)) as cache:
            cache.put("a", image_of(1))
        assert output(start(code, name)).split() == [str(image_of(1).sum()), "False", "0"]


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with BytesCache(tmp_path, LARGE, unexpected):
        pass
    index, _ = files(tmp_path)
    index.write_bytes(b"my diary")
    said: list[str] = []
    with BytesCache(tmp_path, LARGE, said.append) as cache:
        assert not cache.put("a", b"a")
    assert index.read_bytes() == b"my diary"
    assert "was not made by this version; remove it or choose another folder" in said[0]


# Crashes and damage


def test_half_a_record_is_not_read_and_is_written_over(tmp_path: Path) -> None:
    with tensors(tmp_path) as cache:
        cache.put("a", image_of(1))
        cache.put("b", image_of(2))
    index, _ = files(tmp_path)
    os.truncate(index, HEADER + RECORD + RECORD // 2)
    with tensors(tmp_path) as cache:
        assert cache.info().entries == 1
        assert cache.get("b") is None
        assert cache.put("c", image_of(3))
    with tensors(tmp_path) as cache:
        assert np.array_equal(cache.get("a"), image_of(1))  # type: ignore[arg-type]
        assert np.array_equal(cache.get("c"), image_of(3))  # type: ignore[arg-type]


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_wrong_byte_anywhere_never_becomes_a_wrong_image(
    tmp_path_factory: pytest.TempPathFactory, where: int, change: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    with tensors(folder) as cache:
        for n in range(5):
            cache.put(str(n), image_of(n))
    index, data = files(folder)
    total = index.stat().st_size - HEADER + data.stat().st_size
    path, place = (data, where % total) if where % total < data.stat().st_size else (index, 0)
    place = place or HEADER + where % (5 * RECORD)
    content = bytearray(path.read_bytes())
    content[place] ^= change
    path.write_bytes(content)
    with tensors(folder) as cache:
        found = [cache.get(str(n)) for n in range(5)]
        assert sum(each is None for each in found) == 1
        assert all(each is None or np.array_equal(each, image_of(n)) for n, each in enumerate(found))
        for n in range(5):  # and what was lost is kept again
            assert cache.put(str(n), image_of(n))
            assert np.array_equal(cache.get(str(n)), image_of(n))  # type: ignore[arg-type]


def test_data_that_never_reached_the_disk_is_not_read(tmp_path: Path) -> None:
    """After a power failure the index may be there and the end of the data not."""
    with tensors(tmp_path) as cache:
        for n in range(5):
            cache.put(str(n), image_of(n))
    _, data = files(tmp_path)
    os.truncate(data, 4 * 192 - 1)
    with data.open("r+b") as file:
        file.seek(2 * 192)
        file.write(bytes(192))
    with tensors(tmp_path) as cache:
        assert [cache.get(str(n)) is not None for n in range(5)] == [True, True, False, False, False]


WRITER = """
    import sys
    import numpy as np
    from toolkit.streaming.caching import TensorCache
    first, count = int(sys.argv[2]), int(sys.argv[3])
    with TensorCache(sys.argv[1], 10**9, height=64, width=64) as cache:
        print("open", flush=True)
        for n in range(first, first + count):
            cache.put(str(n), np.full((64, 64, 3), n % 251, np.uint8))
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX's")
def test_a_killed_writer_leaves_only_whole_images(tmp_path: Path) -> None:
    chance, before = random.Random(0), 0
    for _ in range(4):
        writer = start(WRITER, tmp_path, before, 200_000)
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == "open\n"
        while files(tmp_path)[0].stat().st_size <= HEADER + before * RECORD:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        writer.stderr.close()
        with tensors(tmp_path, size=64) as cache:
            entries = cache.info().entries
            assert entries > before
            assert right(cache, range(entries + 1)) == [True] * entries + [False]
            assert cache.put(str(entries), np.full((64, 64, 3), entries % 251, np.uint8))
            before = entries + 1


@pytest.mark.once
def test_processes_and_threads_write_one_cache_at_the_same_time(tmp_path: Path) -> None:
    writers = [start(WRITER, tmp_path, first, 300) for first in (0, 200, 400)]
    with tensors(tmp_path, size=64) as cache, ThreadPoolExecutor(4) as pool:
        while any(writer.poll() is None for writer in writers):
            list(pool.map(lambda n: right(cache, range(n, 700, 50)), range(4)))
        for writer in writers:
            output(writer)
        there = right(cache, range(700))
        assert sum(there) == cache.info().entries
        assert sum(there) > 350  # a writer that waits too long for the lock leaves an image out


def test_a_stopped_writer_does_not_stop_others(tmp_path: Path) -> None:
    with BytesCache(tmp_path, LARGE, unexpected) as cache, BytesCache(tmp_path, LARGE, unexpected) as other:
        cache.put("a", b"a")
        index = cache._store._files[0]  # type: ignore[index]
        with store._locked(index):
            began = time.perf_counter()
            assert not other.put("b", b"b")
            assert other.get("a") == b"a"
            assert time.perf_counter() - began < 5
        assert other.put("b", b"b")
        assert cache.get("b") == b"b"


# What it costs


@pytest.mark.once
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_large_cache_is_no_memory_of_ours(tmp_path: Path) -> None:
    """21 MB in 20,000 images: a memory map would count all of it, and a dictionary for an index 5 MB."""
    code = """
        import sys
        import numpy as np
        from toolkit.streaming.caching import TensorCache
        from toolkit.system import PeakMemory
        with TensorCache(sys.argv[1], 10**9, height=1, width=1) as cache:
            cache.put("warm", np.zeros((1, 1, 3), np.uint8)), cache.get("warm")
        with TensorCache(sys.argv[1], 10**9, height=16, width=22) as cache:
            peak, image = PeakMemory(), np.zeros((16, 22, 3), np.uint8)
            for n in range(20_000):
                cache.put(str(n), image)
            for n in range(20_000):
                assert cache.read_into(str(n), image)
            print(peak.read() - peak.before)
    """
    assert int(output(start(code, tmp_path))) < 8_000_000
