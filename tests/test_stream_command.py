"""`stream` in the terminal: real files, real servers of this machine, and Ctrl-C."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.image_server import png
from tests.test_streaming_shards import tar
from toolkit.__main__ import main
from toolkit.errors import InputError
from toolkit.processes import INTERRUPTED
from toolkit.stream_command import parse_part, parse_size, stream_command
from toolkit.streaming.settings import StreamSettings

ROOT = Path(__file__).parent.parent
COUNT = 20


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Twenty good images, and two that are not: one is missing, one is text."""
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        Image.new("RGB", (20, 30), (number, 0, 0)).save(path)
    (tmp_path / "text.jpg").write_text("no image")
    return write(tmp_path / "list.csv", [*map(str, paths), str(tmp_path / "text.jpg"), str(tmp_path / "missing.jpg")])


def write(path: Path, locations: list[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["url", "label"], *([location, 1] for location in locations)])
    return path


def toolkit(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "toolkit", "stream", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_everything_that_could_be_used_is_counted_and_everything_else_reported(listed: Path, tmp_path: Path) -> None:
    run = toolkit(
        listed, "--size", "16x24", "--batch", "4", "--epochs", "2", "--report", tmp_path / "bad.csv", "--json"
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["samples"], told["delivered"], told["failed"], told["interrupted"]) == (22, 40, 4, False)
    assert [(each["epoch"], each["images"], each["failures"]) for each in told["epochs"]] == [(0, 20, 2), (1, 20, 2)]
    assert all(0 < each["peak_bytes"] < 64_000_000 for each in told["epochs"])
    assert sorted(each["count"] for each in told["causes"]) == [2, 2]
    assert {Path(each["example"]).name for each in told["causes"]} == {"text.jpg", "missing.jpg"}
    assert told["position"]["epoch"] == 2
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 1 + 4
    assert [line.split(":")[0] for line in run.stderr.splitlines()] == ["epoch 1", "epoch 2"]


def test_the_report_for_people(listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream_command(str(listed), StreamSettings(16, 4), report=tmp_path / "bad.csv") == 0
    out, err = capsys.readouterr()
    assert f"all failures are in {tmp_path / 'bad.csv'}\n20 images were delivered" in out
    assert "not an image" in out
    assert err.startswith("epoch 1: 20 images in 6 batches, 2 failures, ")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_part_is_another_third(listed: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    stream_command(str(listed), StreamSettings(16, 4), part=(number, 3), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == told["delivered"] + told["failed"]
    assert told["samples"] in (7, 8)


def test_labels_of_a_shard_may_be_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar").write_bytes(tar([("1.png", png(1)), ("1.cls", b"dog"), ("2.png", png(2)), ("2.cls", b"eel")]))
    shard = str(tmp_path / "a.tar")
    stream_command(shard, StreamSettings(16, 4), as_json=True, class_names=("cat", "dog"))
    told = json.loads(capsys.readouterr().out)
    assert (told["delivered"], [each["example"] for each in told["causes"]]) == (1, [f"{shard}#2"])


def test_too_many_failures_are_reported_before_they_stop_the_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "list.csv", [str(tmp_path / f"{number}.png") for number in range(5)])
    with pytest.raises(InputError, match=r"5 of 5 samples cannot be used"):
        stream_command(str(source), StreamSettings(16, 4))
    assert "of 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-file.csv"], "no-such-file.csv"),
        (["LIST", "--size", "large"], "a size is written like 96"),
        (["LIST", "--part", "2/2"], "a part is written like 0/2"),
        (["LIST", "--order", "random"], "order must be"),
        (["LIST", "--cache", "tensors", "--cache-bytes", "many"], "memory is written like"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str],
    sentence: str,
    listed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(listed) if word == "LIST" else word for word in arguments]
    monkeypatch.setattr(sys, "argv", ["toolkit", "stream", *words])
    with pytest.raises(SystemExit) as exit_status:
        main()
    out, err = capsys.readouterr()
    assert (exit_status.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err


@given(st.integers(1, 9999), st.integers(1, 9999), st.sampled_from(["x", "×", " x ", "X"]))
def test_sizes(height: int, width: int, times: str) -> None:
    assert parse_size(f"{height}{times}{width}") == (height, width)
    assert parse_size(f" {height} ") == (height, height)


@pytest.mark.parametrize("text", ["", "x", "96x", "96x96x3", "-1", "9.5", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="a size is written like 96"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "1/0", "a/b", "1/2/3"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(InputError, match="a part is written like 0/2"):
        parse_part(text)


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as a POSIX terminal does")
def test_ctrl_c_says_what_was_done(listed: Path, tmp_path: Path, silent_server: socket.socket) -> None:
    urls = [f"http://127.0.0.1:{silent_server.getsockname()[1]}/{number}.jpg" for number in range(40)]
    good = [str(tmp_path / f"{number}.png") for number in range(COUNT)]
    source = write(tmp_path / "both.csv", [*good, *urls])
    # Whoever starts the tests in the background has Ctrl-C ignored, and children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"sys.argv = ['toolkit', 'stream', {str(source)!r}, '--no-shuffle', '--batch', '4', '--allow-private'];"
        "from toolkit.__main__ import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        connection, _ = silent_server.accept()
        time.sleep(0.3)  # for the images that come before
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            connection.close()
    assert time.monotonic() - begun < 2
    assert process.returncode == INTERRUPTED, err
    assert err.splitlines()[-1] == "stopped in epoch 1 after 20 images; nothing is left running"
    assert out == "20 images, no failures\n"
    assert "Traceback" not in err
    assert not psutil.pid_exists(process.pid)
