"""The real app for tests: `python app.py` in a process of its own, on a free port, with folders of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Server:
    """A running app. `first_page_seconds` is the wall time from the command to the first whole page."""

    url: str
    pid: int
    first_page_seconds: float
    first_page_cpu_seconds: float
    log: Path


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    """Serve until the block ends. `folder` is for temporary files and the log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "TMPDIR": str(folder)}
    log = folder / "app.log"
    begin = time.monotonic()
    with log.open("wb") as output:
        command = [sys.executable, "app.py"]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **own, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_page(f"http://127.0.0.1:{port}/", process, log)
        took, used = time.monotonic() - begin, psutil.Process(process.pid).cpu_times()
        yield Server(f"http://127.0.0.1:{port}/", process.pid, took, used.user + used.system, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_for_page(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the app did not answer:\n{log.read_text('utf-8', 'replace')}")
