"""The app as a process: what it loads, how much it takes, and what it leaves behind."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from PIL import Image

from tests.app_server import ROOT, Server, serving

pytestmark = pytest.mark.app

SMALL = {"epochs": 1, "train_limit": 200, "channels": 4}
ENDLESS = {**SMALL, "epochs": 10_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("app"), CNN_TOOLKIT_GRACE_SECONDS="1") as server:
        yield server


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def loaded_after(code: str) -> list[str]:
    """The heavy packages that a fresh Python has loaded after some code."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({"tensorflow", "keras", "sklearn", "scipy", "matplotlib"} & set(out.split()))


def test_building_the_page_loads_no_framework() -> None:
    assert loaded_after("from toolkit.ui.page import build_page; build_page()") == []


def test_importing_the_app_starts_nothing() -> None:
    assert loaded_after("import app; assert 'gradio' not in __import__('sys').modules") == []


def test_the_first_page_takes_few_seconds_of_work(server: Server) -> None:
    """On an idle machine the wall time is about the processor's; on a busy one only the latter says something."""
    assert server.first_page_cpu_seconds < 6


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is loaded is read from Linux's /proc")
def test_the_web_process_stays_small_and_never_loads_tensorflow(server: Server, tmp_path: Path) -> None:
    client = Client(server.url, verbose=False)
    client.predict("resnet50", api_name="/cost")
    job = client.predict(SMALL, {**SMALL, "architecture": "dense_baseline"}, api_name="/train")
    wait_for(lambda: client.predict(job, api_name="/job")["state"] == "finished", "the training did not end", 90)
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    assert set(client.predict(job, handle_file(tmp_path / "black.png"), api_name="/predict")) == {"A", "B"}
    client.close()
    assert "tensorflow" not in Path(f"/proc/{server.pid}/maps").read_text()
    assert psutil.Process(server.pid).memory_info().rss <= 250 * 10**6


def test_a_visitor_who_leaves_takes_the_training_along(server: Server, tmp_path: Path) -> None:
    from tests.test_app_browser import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_role("tab", name="Train two").click()
        page.get_by_label("number input for Epochs").last.fill("30")
        page.get_by_label("number input for Channels").last.fill("64")
        page.locator("#train").click()
        page.locator("#live .run.b", has_text="step").wait_for(timeout=90_000)
        assert workers(server)
        assert job_folders(server)
        browser.close()
    wait_for(lambda: not workers(server), "the training goes on", 30)
    wait_for(lambda: not job_folders(server), "the folder of the training is still there", 30)


def workers(server: Server) -> list[int]:
    """The training processes: what lives below the fork server, or below the app where nothing is forked."""
    below = psutil.Process(server.pid).children(recursive=True)
    return [process.pid for process in below if process.name() and process.ppid() != server.pid]


def job_folders(server: Server) -> list[Path]:
    return [path for path in server.log.parent.glob("cnn-toolkit-jobs-*/*") if path.name != "datasets"]


def test_ending_the_app_ends_its_processes_and_removes_its_folders(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        client = Client(server.url, verbose=False)
        client.predict(ENDLESS, ENDLESS, api_name="/train")
        wait_for(lambda: len(workers(server)) >= 2, "the training did not start", 90)
        started = psutil.Process(server.pid).children(recursive=True)
        client.close()
    wait_for(lambda: not any(process.is_running() for process in started), "processes are left", 30)
    assert list(tmp_path.glob("cnn-toolkit-*")) == []
