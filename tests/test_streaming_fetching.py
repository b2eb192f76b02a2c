"""Fetching, against a real server that misbehaves in every way, real files and a real store of fsspec."""

import asyncio
import gc
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import StreamReader
from hypothesis import given
from hypothesis import strategies as st

from tests.bad_server import FAULTS, IMPATIENT, BadServer, Request, announces_less, good, head, image_bytes, self_signed
from toolkit.errors import InputError
from toolkit.streaming import addresses, downloads
from toolkit.streaming.addresses import is_public
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.fetching import Budget, Fetcher, FetchLimits
from toolkit.streaming.reading import PIECE

LIMITS = replace(IMPATIENT, max_bytes=1_000_000, retries=1)
PUBLIC = FetchLimits(retries=0)


@pytest.fixture(scope="module")
def server() -> Iterator[BadServer]:
    with BadServer() as server:
        yield server


async def fetched(locations: list[str], limits: FetchLimits = LIMITS) -> list[bytes | SampleError]:
    """All of them at once, each as its bytes or its failure."""
    budget = Budget(1_000_000)
    async with Fetcher(limits) as fetcher:

        async def one(location: str) -> bytes | SampleError:
            with budget.ticket() as ticket:
                try:
                    data = await fetcher.fetch(location, ticket)
                except SampleError as error:
                    assert ticket.held == 0
                    return error
                assert ticket.held == len(data)
                return data

        results = await asyncio.gather(*map(one, locations))
        assert fetcher.in_flight == 0
    assert budget.used == 0
    return results


def fetch(location: str, limits: FetchLimits = LIMITS) -> bytes | SampleError:
    return asyncio.run(fetched([location], limits))[0]


def outcome(result: bytes | SampleError) -> Cause | None:
    return result.cause if isinstance(result, SampleError) else None


def test_every_fault_has_its_cause_and_none_hangs(server: BadServer) -> None:
    names = list(FAULTS)
    begun = time.monotonic()
    results = asyncio.run(fetched([server.url(f"{name}/{number}.jpg") for number, name in enumerate(names)]))
    assert time.monotonic() - begun < 2 * LIMITS.total_seconds + 3
    expected = {name: FAULTS[name].cause if FAULTS[name].by_fetching else None for name in names}
    assert {name: outcome(result) for name, result in zip(names, results, strict=True)} == expected
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        if FAULTS[name].cause is None:
            assert result == image_bytes(number), name
        if isinstance(result, SampleError):
            assert not result.sentence.startswith(("an error", "Error")), result.sentence
    assert len([name for name in names if FAULTS[name].cause]) >= 40


def test_a_server_that_says_too_much_harms_no_other() -> None:
    with BadServer(extra={"announces-less": announces_less}) as server:
        urls = [server.url(f"{'good' if number % 4 else 'announces-less'}/{number}.jpg") for number in range(80)]
        results = asyncio.run(fetched(urls, replace(LIMITS, retries=5)))
    assert [results[n] == image_bytes(n) for n in range(80)] == [bool(n % 4) for n in range(80)]


def test_connections_are_kept(server: BadServer) -> None:
    before = server.connections
    asyncio.run(fetched([server.url(f"good/{number}.jpg") for number in range(300)], replace(LIMITS, connections=8)))
    assert server.connections - before <= 8


def test_a_connection_that_is_kept_keeps_nothing_of_its_bodies() -> None:
    """Each body comes after its headers, so that the end of the connection is watched for."""

    def readers() -> int:
        gc.collect()
        return sum(isinstance(each, StreamReader) for each in gc.get_objects())

    async def run(server: BadServer) -> int:
        budget = Budget()
        async with Fetcher(LIMITS) as fetcher:
            for number in range(50):
                with budget.ticket() as ticket:
                    assert await fetcher.fetch(server.url(f"pieces/{number}.jpg"), ticket) == image_bytes(number)
            return readers()

    async def pieces(request: Request) -> bool:
        await request.send(head("200 OK", "Transfer-Encoding: chunked"))
        await asyncio.sleep(0.002)
        await request.send(b"%x\r\n" % len(request.image), request.image, b"\r\n0\r\n\r\n")
        return True

    with BadServer(extra={"pieces": pieces}) as server:
        assert asyncio.run(run(server)) <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at every address of 127.0.0.0/8")
def test_many_hosts_do_not_use_up_the_sockets() -> None:
    async def run(server: BadServer) -> int:
        budget = Budget()
        async with Fetcher(LIMITS) as fetcher:
            for host in range(600):
                with budget.ticket() as ticket:
                    url = f"http://127.0.{host // 250}.{host % 250 + 1}:{server.port}/good/{host}.jpg"
                    assert await fetcher.fetch(url, ticket) == image_bytes(host)
            return server.open_connections

    with BadServer(host="0.0.0.0") as server:
        assert asyncio.run(run(server)) <= 70


def test_no_more_than_the_limit_are_in_flight() -> None:
    flying: list[int] = [0, 0]  # now, most

    async def counted(request: Request) -> bool:
        flying[0] += 1
        flying[1] = max(flying)
        await asyncio.sleep(0.002)
        flying[0] -= 1
        return await good(request)

    with BadServer(extra={"counted": counted}) as server:
        urls = [server.url(f"counted/{number}.jpg") for number in range(200)]
        asyncio.run(fetched(urls, replace(LIMITS, connections=7)))
        assert flying[1] <= 7
        flying[1] = 0
        asyncio.run(fetched(urls, replace(LIMITS, per_host=3)))
        assert flying[1] <= 3


def test_the_window_opens_for_a_server_far_away() -> None:
    async def far(request: Request) -> bool:
        await asyncio.sleep(0.2)
        return await good(request)

    async def windows(url: str) -> int:
        budget = Budget()
        async with Fetcher(replace(LIMITS, read_seconds=5)) as fetcher:

            async def one() -> None:
                with budget.ticket() as ticket:
                    await fetcher.fetch(url, ticket)

            await asyncio.gather(*(one() for _ in range(500)))
            return fetcher.window

    with BadServer(extra={"far": far}) as server:
        assert asyncio.run(windows(server.url("far/1.jpg"))) >= 32


def test_a_server_that_restarts_loses_nothing() -> None:
    limits = replace(LIMITS, retries=8, backoff_seconds=0.2, total_seconds=10)
    halfway = threading.Event()
    urls: list[str] = []
    asked: list[str] = []

    def restart(server: BadServer) -> None:
        halfway.wait(10)
        server.restart(0.2)

    async def slow(request: Request) -> bool:
        asked.append(request.path)
        if len(asked) > 200:
            halfway.set()
        await asyncio.sleep(0.02)
        return await good(request)

    async def run(server: BadServer) -> list[bytes | SampleError]:
        restarted = asyncio.get_running_loop().run_in_executor(None, restart, server)
        results = await fetched(urls, limits)
        await restarted
        return results

    with BadServer(extra={"slow": slow}) as server:
        urls += [server.url(f"slow/{number}.jpg") for number in range(400)]
        results = asyncio.run(run(server))
        assert len(asked) > 400  # some were lost and asked for again
    assert results == [image_bytes(number) for number in range(400)]


def test_retry_after_is_waited_for_and_what_cannot_pass_is_asked_once() -> None:
    async def busy(request: Request) -> bool:
        if request.times > 1:
            return await good(request)
        return await request.answer(b"", "Retry-After: 1", status="503 Busy")

    with BadServer(extra={"busy": busy}) as server:
        begun = time.monotonic()
        assert fetch(server.url("busy/1.jpg")) == image_bytes(1)
        assert time.monotonic() - begun >= 1
        begun = time.monotonic()
        limits = replace(LIMITS, max_wait_seconds=0.1)
        assert fetch(server.url("busy/2.jpg"), limits) == image_bytes(2)
        assert time.monotonic() - begun < 0.9
        for name in ("404", "410", "403", "noai", "redirect-to-file", "announces-30-mb", "no-gzip"):
            fetch(server.url(f"{name}/1.jpg"))
            assert server.requests[f"/{name}/1.jpg"] == 1, name
        fetch(server.url("500/1.jpg"), replace(LIMITS, retries=3))
        assert server.requests["/500/1.jpg"] == 4


def test_noai_can_be_read_by_name(server: BadServer) -> None:
    assert fetch(server.url("noai/3.jpg"), replace(LIMITS, honour_noai=False)) == image_bytes(3)


@pytest.mark.parametrize(
    ("tags", "opted"),
    [
        ([], False),
        (["all"], False),
        (["noarchive, NoAI"], True),
        (["noimageai"], True),
        (["noindex"], True),
        (["noimageindex"], True),
        (["cnn-toolkit: noai"], True),
        (["googlebot: noai"], False),
        (["max-image-preview: large, noai"], True),
        (["noai, unavailable_after: 25 Jun 2030 15:00:00 PST"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST"], False),
        (["googlebot: noai", "cnn-toolkit: nofollow, noimageai"], True),
    ],
)
def test_directives_as_img2dataset_reads_them(tags: list[str], opted: bool) -> None:
    assert downloads.opted_out(tags, FetchLimits().user_agent) is opted


def test_packed_bodies_of_every_size_come_whole() -> None:
    bodies = [bytes(downloads.PIECE * times + more) for times in (1, 2, 9) for more in (-1, 0, 1)]

    async def packed(request: Request) -> bool:
        body = bodies[int(request.path[-1])]
        return await request.answer(gzip.compress(body), "Content-Encoding: gzip")

    with BadServer(extra={"packed": packed}) as server:
        assert asyncio.run(fetched([server.url(f"packed/{number}") for number in range(len(bodies))])) == bodies


# Places


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"),
        *("169.254.169.254", "10.0.0.1", "192.168.1.1", "[fe80::1]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "0.0.0.0"),
    ],
)
def test_private_places_are_never_asked(server: BadServer, host: str) -> None:
    before = server.connections
    result = fetch(f"http://{host}:{server.port}/good/1.jpg", PUBLIC)
    assert outcome(result) is Cause.PRIVATE_ADDRESS
    assert "not public" in str(result)
    assert server.connections == before


@pytest.mark.parametrize(
    "target",
    ["127.0.0.2", "2130706434", "0x7f.2", "[::1]", "[::ffff:7f00:2]", "10.0.0.1", "169.254.169.254", "localhost"],
)
def test_a_redirect_to_a_private_place_is_not_followed(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """Here 127.0.0.1 plays a public host, and only it."""

    def only_this(address: str) -> bool:
        return address == "127.0.0.1" or is_public(address)

    monkeypatch.setattr(addresses, "is_public", only_this)
    monkeypatch.setattr(downloads, "is_public", only_this)
    monkeypatch.setattr(addresses, "_look_up", two_answers(addresses._look_up))

    async def redirect(request: Request) -> bool:
        location = f"Location: http://{target}:{request.port}/good/1.jpg"
        return await request.answer(b"", location, status="302 Found")

    with BadServer(extra={"redirect": redirect}) as server:
        assert fetch(server.url("good/5.jpg"), PUBLIC) == image_bytes(5)
        assert outcome(fetch(server.url("redirect/1.jpg"), PUBLIC)) is Cause.PRIVATE_ADDRESS
        assert sum(server.requests.values()) == 2


def two_answers(look_up: Any) -> Any:
    """localhost has a public address (as far as this test goes) and a private one."""

    def answer(host: str, port: int, family: socket.AddressFamily) -> Any:
        return [*look_up("127.0.0.1", port, family), *look_up("127.0.0.2", port, family)]

    return answer


def test_a_name_is_looked_up_once_for_check_and_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebinding name: public at first, and this machine a moment later."""
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    answers = iter(["127.0.0.1"] + ["127.0.0.2"] * 100)
    real = addresses._look_up
    monkeypatch.setattr(addresses, "_look_up", lambda host, port, family: real(next(answers), port, family))
    with BadServer() as server:
        url = f"http://rebinding.example:{server.port}/good/1.jpg"
        assert fetch(url, PUBLIC) == image_bytes(1)
        assert outcome(fetch(url, PUBLIC)) is Cause.PRIVATE_ADDRESS
        assert sum(server.requests.values()) == 1


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        ("file:///etc/passwd", Cause.BAD_ADDRESS),
        ("FILE:/etc/passwd", Cause.BAD_ADDRESS),
        ("data:image/png;base64,AAAA", Cause.BAD_ADDRESS),
        ("ftp://127.0.0.1/a.jpg", Cause.BAD_ADDRESS),
        ("nothing://127.0.0.1/a.jpg", Cause.UNREADABLE_FILE),
        ("http://", Cause.BAD_ADDRESS),
        ("http:///a.jpg", Cause.BAD_ADDRESS),
        ("http://[::1", Cause.BAD_ADDRESS),
        ("http://a b.example/", Cause.BAD_ADDRESS),
        ("http://127.0.0.1:99999/", Cause.BAD_ADDRESS),
        ("http://127.0.0.1:port/", Cause.BAD_ADDRESS),
        ("http://\x00/", Cause.BAD_ADDRESS),
        ("http://\ud800.example/", Cause.BAD_ADDRESS),
        (f"http://{'a' * 300}.example/", Cause.BAD_ADDRESS),
        ("http://nothing.invalid/a.jpg", Cause.NAME_NOT_FOUND),
        ("http://127.0.0.1:1/", Cause.CANNOT_CONNECT),
        ("no/such/file.jpg", Cause.UNREADABLE_FILE),
        ("a\x00b.jpg", Cause.UNREADABLE_FILE),
        ("", Cause.UNREADABLE_FILE),
        ("/", Cause.UNREADABLE_FILE),
        ("/dev/zero", Cause.UNREADABLE_FILE),
    ],
)
def test_places_that_are_none(location: str, cause: Cause) -> None:
    result = fetch(location)
    assert outcome(result) is cause, result


def test_bad_unicode_and_new_lines_in_a_url_do_no_harm(server: BadServer) -> None:
    for tail in ("\ud800.jpg", "ü.jpg", "a\r\nX-Injected: 1.jpg", "%zz.jpg", "a%2Fb%20.jpg", "\u202e.jpg"):
        result = fetch(server.url(f"good/7{tail}"))
        assert isinstance(result, bytes) or result.cause is Cause.BAD_ADDRESS, (tail, result)
    assert "/good/7a%2Fb%20.jpg" in server.requests


@given(st.text(max_size=30))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(SampleError):
        assert downloads.parse_url(f"http://{text}").raw_host


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    if certificate is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    with BadServer(certificate) as server:
        assert outcome(fetch(server.url("good/1.jpg"))) is Cause.BAD_CERTIFICATE
        assert not server.requests


def test_app_settings_read_no_paths_and_no_stores(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(image_bytes(1))
    assert fetch(str(path), PUBLIC) == image_bytes(1)
    assert outcome(fetch(str(path), replace(PUBLIC, local_files=False))) is Cause.BAD_ADDRESS
    assert outcome(fetch("memory://a.jpg", PUBLIC)) is Cause.BAD_ADDRESS


# Files and stores


def test_files_and_objects_come_whole_whatever_their_size(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for size in (1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE):
        data = os.urandom(size)
        path = tmp_path / "photo.jpg"
        path.write_bytes(data)
        store.pipe_file("/bucket/photo.jpg", data)
        assert fetch(str(path)) == data
        assert fetch("memory://bucket/photo.jpg") == data
    path.write_bytes(bytes(1_000_001))
    store.pipe_file("/bucket/photo.jpg", bytes(1_000_001))
    assert outcome(fetch(str(path))) is outcome(fetch("memory://bucket/photo.jpg")) is Cause.TOO_LARGE
    assert outcome(fetch("memory://bucket/none.jpg")) is Cause.NOT_FOUND
    path.write_bytes(b"")
    assert outcome(fetch(str(path))) is Cause.EMPTY


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    begun = time.monotonic()
    assert outcome(fetch(str(tmp_path / "pipe.jpg"))) is Cause.UNREADABLE_FILE
    assert time.monotonic() - begun < 1


# Memory


def test_what_is_in_flight_is_bounded_however_much_comes() -> None:
    body = os.urandom(4_000_000)

    async def large(request: Request) -> bool:
        return await request.answer(body)

    async def run(server: BadServer) -> int:
        budget, limits = Budget(2_000_000), replace(LIMITS, max_bytes=5_000_000, start=64, total_seconds=60)
        async with Fetcher(limits) as fetcher:

            async def one(number: int) -> None:
                with budget.ticket() as ticket:
                    assert await fetcher.fetch(server.url(f"large/{number}.jpg"), ticket) == body

            tracemalloc.start()
            async with asyncio.timeout(60):
                await asyncio.gather(*map(one, range(40)))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return peak

    with BadServer(extra={"large": large}) as server:
        # The budget, one whole image, and what the sockets and aiohttp took in before it was asked for.
        assert asyncio.run(run(server)) < 2_000_000 + 5_000_000 + 40 * 300_000


TLS_CHILD = """
import asyncio, sys
from toolkit.streaming.fetching import Budget, Fetcher, FetchLimits
from toolkit.system import PeakMemory

async def run(url):
    budget, peak = Budget(), PeakMemory()
    async with Fetcher(FetchLimits(allow_private=True, start=100, retries=0)) as fetcher:
        async def one(number):
            with budget.ticket() as ticket:
                await fetcher.fetch(f"{url}/{number}.jpg", ticket)
        await asyncio.gather(*map(one, range(200)))
    print(peak.read() - peak.before, peak.exact)

asyncio.run(run(sys.argv[1]))
"""


def test_a_hundred_connections_with_tls_take_little_memory(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    if certificate is None:
        pytest.skip("openssl, which makes the certificate, is not installed")

    async def late(request: Request) -> bool:
        await asyncio.sleep(0.3)
        return await good(request)

    with BadServer(certificate, extra={"late": late}) as server:
        trusting = {**os.environ, "SSL_CERT_FILE": str(certificate[0])}
        command = [sys.executable, "-c", TLS_CHILD, server.url("late")]
        child = subprocess.run(command, env=trusting, capture_output=True, text=True, timeout=60, check=True)
        assert server.connections >= 50
    grown, exact = child.stdout.split()
    assert int(grown) < 30_000_000 or exact == "False"


# Ends


def test_leaving_in_the_middle_leaves_nothing_behind() -> None:
    async def run(server: BadServer) -> float:
        budget = Budget()
        async with Fetcher(LIMITS) as fetcher:
            names = ("no-answer", "slow-loris", "endless-body", "endless-chunks", "good")
            tickets = [budget.ticket() for _ in range(100)]
            urls = [server.url(f"{names[number % 5]}/{number}.jpg") for number in range(100)]
            tasks = [asyncio.create_task(fetcher.fetch(*pair)) for pair in zip(urls, tickets, strict=True)]
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert fetcher.in_flight == 0
        for ticket in tickets:
            ticket.release()
        assert budget.used == 0
        assert len(asyncio.all_tasks()) == 1
        return time.monotonic() - begun

    with BadServer() as server:
        assert asyncio.run(run(server)) < 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("toolkit-reader"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connections": 0}, "connections must be more than 0"),
        ({"retries": -1}, "retries must not be negative"),
        ({"total_seconds": float("nan")}, "total_seconds must not be negative; nan came"),
        ({"user_agent": "a\r\nb"}, "user_agent must be one line of ASCII"),
    ],
)
def test_limits_that_cannot_be(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FetchLimits(**change)
