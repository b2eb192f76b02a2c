"""The whole stream against a server on this machine: order, epochs, positions, policies, caches, and its end."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.image_server import Answer, ImageServer, every_image, numbers_in, png
from toolkit.errors import InputError
from toolkit.streaming.failures import Cause, Report
from toolkit.streaming.groups import Batch
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.order import Position
from toolkit.streaming.pipeline import ImageStream, stream_images

pytestmark = pytest.mark.once
ROOT = Path(__file__).parent.parent
HERE = FetchLimits(allow_private=True, retries=0)
ORDERS = ("source", "completion")


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def stream(server: ImageServer, count: int, **options: Any) -> ImageStream:
    """Numbers from 0 as labels and as colours, in batches of 8."""
    settings = {"image_size": 6, "batch_size": 8, "limits": HERE, **options}
    return stream_images(server.urls(count), np.arange(count), **settings)


def numbers(batch: Batch) -> list[int]:
    """The numbers of the samples of a batch; image and label must agree."""
    images, labels = batch
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.shape == (len(labels), 6, 6, 3)
    assert numbers_in(images) == labels.tolist()
    return [int(label) for label in labels]


def epoch(images: ImageStream) -> list[list[int]]:
    """One epoch, as the numbers of its batches."""
    return [numbers(batch) for batch in images]


def flat(batches: list[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def toolkit_threads() -> list[str]:
    """Those that streams have started; the one in which the process decodes large images belongs to no stream."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("toolkit") and not name.startswith("toolkit-large-images")]


def wait_for_no_threads(seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while toolkit_threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert toolkit_threads() == []


def late(number: int) -> Answer:
    """Some images come late: a stream that gave them as they come would mix them up."""
    return Answer(body=png(number), delay=random.Random(number).choice([0, 0, 0.02, 0.05]))


# Order.


@pytest.mark.parametrize("order", ORDERS)
def test_every_sample_comes_exactly_once(server: ImageServer, order: str) -> None:
    server.answer = late
    with stream(server, 100, order=order) as images:
        batches = epoch(images)
    assert sorted(flat(batches)) == list(range(100))
    assert [len(batch) for batch in batches] == [8] * 12 + [4]
    assert set(server.requests.values()) == {1}


def test_the_order_is_that_of_the_seed_whatever_the_network_does(server: ImageServer) -> None:
    with stream(server, 60) as images:
        expected = [epoch(images), epoch(images)]
    server.answer = late
    with stream(server, 60) as images:
        assert [epoch(images), epoch(images)] == expected
    assert expected[0] != expected[1]
    with stream(server, 60, seed=1) as images:
        assert epoch(images) not in expected
    with stream(server, 20, shuffle=False) as images:
        assert flat(epoch(images)) == list(range(20))


def test_completion_order_does_not_wait_for_the_slow_ones(server: ImageServer) -> None:
    server.answer = lambda number: Answer(body=png(number), delay=1.0 if number == 0 else 0)
    with stream(server, 40, shuffle=False, order="completion") as images:
        batches = epoch(images)
    assert 0 in batches[-1]
    assert sorted(flat(batches)) == list(range(40))


def test_drop_remainder_leaves_the_small_batch_out(server: ImageServer) -> None:
    for order in ORDERS:
        with stream(server, 20, drop_remainder=True, order=order) as images:
            assert len(images) == 2
            assert [len(batch) for batch in epoch(images)] == [8, 8]


def test_parts_share_out_every_sample(server: ImageServer) -> None:
    found = []
    for index in range(3):
        with stream(server, 50, part=(index, 3)) as images:
            found += flat(epoch(images))
    assert sorted(found) == list(range(50))


def test_a_failure_has_its_number_in_the_whole_source(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status=404) if number == 31 else every_image(number)
    with stream(server, 50, part=(1, 3)) as images:
        epoch(images)
    assert [(failure.number, failure.location) for failure in images.report.failures] == [(31, server.url(31))]


def test_any_batch_can_be_had_by_its_number(server: ImageServer) -> None:
    server.answer = late
    with stream(server, 50) as images:
        batches = epoch(images)
        found = {number: numbers(images.batch(number, epoch=0)) for number in (6, 0, 3, 3)}
    assert found == {number: batches[number] for number in (6, 0, 3)}
    with pytest.raises(IndexError, match="from 0 to 6; 7 came"):
        images.batch(7)


# Positions.


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_a_resumed_stream_repeats_and_loses_nothing(server: ImageServer, order: str, after: int) -> None:
    server.answer = late
    first: list[list[int]] = []
    with stream(server, 50, order=order) as images:
        for batch in images if after else ():
            first.append(numbers(batch))
            if len(first) == after:
                break
        position = images.position.to_dict()
    with stream(server, 50, order=order).resume(position) as images:
        rest = epoch(images)
    assert sorted(flat(first + rest)) == list(range(50))
    if order == "source":
        with stream(server, 50) as images:
            assert first + rest == epoch(images)


def test_a_loop_that_was_left_goes_on_where_it_stopped(server: ImageServer) -> None:
    with stream(server, 50) as images:
        whole = epoch(images)
        images.resume(Position(stream=images.position.stream))
        first = numbers(next(iter(images)))
        assert (images.epoch, images.position.batches, images.position.done) == (0, 1, 8)
        assert [first, *epoch(images)] == whole
        assert (images.epoch, images.position.batches) == (1, 0)


def test_another_streams_position_is_refused(server: ImageServer) -> None:
    position = stream(server, 50).position
    for other in (stream(server, 51), stream(server, 50, seed=1), stream(server, 50, batch_size=4)):
        with pytest.raises(InputError, match="belongs to a stream with another source"):
            other.resume(position)


def test_an_older_loop_ends_with_a_sentence(server: ImageServer) -> None:
    with stream(server, 50) as images:
        older = iter(images)
        next(older)
        assert len(flat(epoch(images))) == 42
        with pytest.raises(InputError, match="another loop over the stream has begun"):
            next(older)
        assert images.epoch == 1


# Bad samples.


def some_missing(number: int) -> Answer:
    return Answer(status=404) if number % 5 == 0 else every_image(number)


def test_skipped_samples_make_their_batch_smaller(server: ImageServer) -> None:
    with stream(server, 50) as images:
        expected = [[number for number in batch if number % 5] for batch in epoch(images)]
    server.answer = some_missing
    with stream(server, 50) as images:
        assert epoch(images) == expected
        assert images.report.counts == {Cause.NOT_FOUND: 10}
        assert images.report.delivered == 40
        assert {failure.number for failure in images.report.failures} == set(range(0, 50, 5))
        assert images.report.failures[0].location == server.url(images.report.failures[0].number)


def test_what_failed_for_good_is_not_asked_for_again(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status={3: 404, 4: 503}.get(number, 200), body=png(number))
    for order in ORDERS:
        server.requests.clear()
        with stream(server, 20, order=order) as images:
            for _ in range(3):
                assert sorted(flat(epoch(images))) == [number for number in range(20) if number not in {3, 4}]
            assert images.report.counts == {Cause.NOT_FOUND: 3, Cause.SERVER_ERROR: 3}
        assert (server.requests[3], server.requests[4], server.requests[5]) == (1, 3, 3)


def test_replaced_samples_keep_their_batch_full(server: ImageServer) -> None:
    with stream(server, 50) as images:
        expected = epoch(images)
    server.answer = some_missing
    with stream(server, 50, on_error="replace") as images:
        batches = epoch(images)
    assert [len(batch) for batch in batches] == [len(batch) for batch in expected]
    for batch, wanted in zip(batches, expected, strict=True):
        assert [number for number in batch if number % 5]
        assert all(number in wanted for number in batch)
        assert all(found == number for found, number in zip(batch, wanted, strict=True) if number % 5)


def test_fail_stops_with_the_samples_address(server: ImageServer) -> None:
    server.answer = some_missing
    with pytest.raises(InputError, match=rf"sample 0 \({server.url(0)}\) cannot be used.*mend or remove it"):
        epoch(stream(server, 8, shuffle=False, on_error="fail"))
    wait_for_no_threads()


def test_too_many_failures_stop_the_stream(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status=404) if number % 3 else every_image(number)
    with pytest.raises(InputError, match=r"of \d\d\d samples cannot be used.*share of 0.5.*'not found' \(http"):
        epoch(stream(server, 400))
    assert sum(server.requests.values()) < 400
    with pytest.raises(InputError, match="20 of 30 samples cannot be used"):
        epoch(stream(server, 30))
    assert len(flat(epoch(stream(server, 30, max_failed_share=0.7)))) == 10


def test_a_batch_without_a_good_sample_is_left_out(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status=410) if number < 8 else every_image(number)
    with stream(server, 24, shuffle=False) as images:
        assert [len(batch) for batch in epoch(images)] == [8, 8]
        assert len(images) == 3


def test_a_report_goes_to_a_file(server: ImageServer, tmp_path: Path) -> None:
    server.answer = some_missing
    with stream(server, 20, report=tmp_path / "failures.csv") as images:
        epoch(images)
    lines = (tmp_path / "failures.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + 4
    report = Report()
    with stream(server, 20, report=report) as images:
        epoch(images)
    assert report.failed == 4


def test_duplicate_addresses_are_samples_of_their_own(server: ImageServer) -> None:
    urls = [server.url(3)] * 20
    with stream_images(urls, [3] * 20, image_size=6, batch_size=8, limits=HERE) as images:
        assert flat(epoch(images)) == [3] * 20


# Where samples come from.


def test_local_files_mix_with_urls(server: ImageServer, tmp_path: Path) -> None:
    places = server.urls(30)
    for number in range(0, 30, 2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        places[number] = str(tmp_path / f"{number}.png")
    places[4] = str(tmp_path / "missing.png")
    (tmp_path / "6.png").write_bytes(b"")
    # Larger than what a decoding thread reads at once: it goes the way of what the network sends.
    (tmp_path / "8.png").write_bytes(png(8) + bytes(400_000))
    with stream_images(places, range(30), image_size=6, batch_size=8, limits=HERE) as images:
        assert sorted(flat(epoch(images))) == [number for number in range(30) if number not in {4, 6}]
        assert images.report.counts == {Cause.UNREADABLE_FILE: 1, Cause.EMPTY: 1}
    assert set(server.requests) == set(range(1, 30, 2))


@pytest.mark.parametrize("cache", ["bytes", "tensors"])
def test_the_second_epoch_comes_from_the_cache(server: ImageServer, tmp_path: Path, cache: str) -> None:
    with stream(server, 50, cache=cache, cache_folder=tmp_path) as images:
        first = epoch(images)
        assert epoch(images) != first
    with stream(server, 50, cache=cache, cache_folder=tmp_path) as images:
        assert epoch(images) == first
    assert set(server.requests.values()) == {1}


# The end.


def test_a_slow_consumer_is_not_overrun(server: ImageServer) -> None:
    with stream(server, 2000, batch_size=4, image_size=256) as images:
        batches = iter(images)
        next(batches)
        time.sleep(0.5)
        assert sum(server.requests.values()) <= 4 * (images.settings.ahead + 1)
        assert images.progress().queued <= images.settings.ahead


def test_loops_that_were_left_leave_no_batches_behind(server: ImageServer) -> None:
    with stream(server, 200) as images:
        for _ in range(5):
            next(iter(images))
            assert images.progress().queued == 0


def test_close_ends_all_threads_while_somebody_waits(server: ImageServer) -> None:
    server.answer = lambda number: Answer(body=None)
    images = stream(server, 50)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            epoch(images)
        except InputError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not server.requests:
        time.sleep(0.01)
    images.close()
    waiting.join(2)
    assert not waiting.is_alive()
    assert "closed" in str(errors[0])
    wait_for_no_threads()


def test_a_stream_that_nobody_holds_ends_its_threads(server: ImageServer) -> None:
    images = stream(server, 50)
    next(iter(images))
    assert toolkit_threads()
    del images
    wait_for_no_threads()


def test_a_closed_stream_can_be_used_again(server: ImageServer) -> None:
    images = stream(server, 30)
    first = numbers(next(iter(images)))
    images.close()
    wait_for_no_threads()
    with images:
        assert sorted(first + flat(epoch(images))) == list(range(30))


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal on POSIX")
@pytest.mark.parametrize("where", ["waiting", "using"])
def test_ctrl_c_ends_within_two_seconds(server: ImageServer, where: str) -> None:
    """While the loop waits for a batch that never comes, and while it uses one."""
    server.answer = lambda number: Answer(body=None) if where == "waiting" and number > 7 else every_image(number)
    script = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job inherits as ignored
from toolkit.streaming import FetchLimits, stream_images
urls = [f"http://127.0.0.1:{server.port}/{{number}}.png" for number in range(100)]
for batch in stream_images(urls, image_size=6, batch_size=8, shuffle=False, limits=FetchLimits(allow_private=True)):
    print("ready", flush=True)
    time.sleep({0 if where == "waiting" else 60})
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.2)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert time.monotonic() - begin < 2
    assert process.returncode == -signal.SIGINT
    assert errors.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception ignored" not in errors.decode()


def test_a_broken_network_thread_is_told_to_who_waits(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.streaming.fetching import Fetcher

    async def broken(*arguments: object) -> bytes:
        raise SystemExit("a mistake of ours")

    monkeypatch.setattr(Fetcher, "fetch", broken)
    with pytest.raises(BaseException, match=r"a mistake of ours|unhandled errors"):
        epoch(stream(server, 10))


def test_a_missing_library_is_named(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "toolkit.streaming.fetching", raising=False)
    monkeypatch.delitem(sys.modules, "toolkit.streaming.downloads", raising=False)
    with pytest.raises(InputError, match="images are fetched with aiohttp; install it with: pip install aiohttp"):
        epoch(stream(server, 10))
    wait_for_no_threads()


def test_progress_counts(server: ImageServer) -> None:
    server.answer = some_missing
    with stream(server, 50) as images:
        assert images.progress().images == 0
        batches = iter(images)
        next(batches)
        seen = images.progress()
        assert (seen.epoch, seen.images, seen.total) == (0, 8, 50)
        assert seen.images_per_second > 0
        assert seen.seconds_left is not None
        list(batches)
        assert images.progress().failures == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"image_size": 5000}, "image_size must be at most 4096 pixels"),
        ({"image_size": (1, 2, 3)}, r"image_size is one number or \(height, width\)"),
        ({"order": "random"}, "order must be one of source, completion"),
        ({"on_error": "ignore"}, "on_error must be one of skip, replace, fail"),
        ({"fit": "cover"}, "fit must be one of"),
        ({"cache": "ram"}, "cache must be one of none, bytes, tensors"),
        ({"max_failed_share": 1.5}, "a share from 0 to 1; 1.5 came"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(server: ImageServer, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        stream(server, 4, **options)


def test_importing_the_package_loads_nothing_and_files_need_no_network(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    script = f"""
import sys
import toolkit.streaming
assert "numpy" not in sys.modules
for images, labels in toolkit.streaming.stream_images([{str(tmp_path / "1.png")!r}], [1], image_size=4):
    print(labels.tolist(), images[0, 0, 0].tolist())
print([name for name in ("aiohttp", "keras", "tensorflow", "pandas", "fsspec") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["[1] [1, 0, 0]", "[]"]
