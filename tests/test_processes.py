"""Processes of their own: told, heard, stopped, killed, crashed, orphaned. The tasks are small, the processes real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fake_tasks import Task
from toolkit import processes
from toolkit.processes import Ending, ForkServer, Launcher, StopFlag, Worker, spawn, start_worker

pytestmark = pytest.mark.once
ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="the fork server runs on Linux")


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(preload=())
    yield server
    server.close()


@pytest.fixture(params=[pytest.param("fork", marks=linux), "spawn"])
def launch(request: pytest.FixtureRequest) -> Launcher:
    return request.getfixturevalue("fork_server") if request.param == "fork" else spawn


@pytest.fixture
def start(tmp_path: Path, launch: Launcher) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def begin(name: str, load: str = "", threads: int | None = 1) -> Worker:
        started.append(start_worker(Task(name, load), tmp_path / f"run{len(started)}", threads, launch))
        return started[-1]

    yield begin
    for worker in started:
        worker.close(0)


def everything(worker: Worker, seconds: float = 20) -> list[Any]:
    """All events of a worker; fails when it does not end."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    for event in worker.events():
        assert time.monotonic() < end, f"still alive after {seconds} s, {found} so far"
        if event is not None:
            found.append(event)
    return found


def first(worker: Worker) -> Any:
    return next(event for event in worker.events() if event is not None)


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether a process ends within so many seconds; a zombie that nobody has buried yet has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_events_come_in_order_and_the_last_one_ends_it(start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start("count")
    assert everything(worker) == [0, 1, 2, "last"]
    assert not worker.alive
    assert worker.poll() == []
    assert worker.pid is None
    assert list((tmp_path / "run0").iterdir()) == []


def test_polling_never_waits(start: Callable[..., Worker]) -> None:
    worker = start("patient")
    begun = time.monotonic()
    worker.poll()
    assert time.monotonic() - begun < 0.02
    assert first(worker) == "working"
    assert worker.alive
    assert worker.pid is not None
    worker.stop()
    worker.stop()
    assert everything(worker) == ["kept"]


def test_a_worker_stands_where_its_parent_stands(
    start: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(start("count"))  # the fork server runs from here on and must hear of what changes below
    monkeypatch.setenv("CNN_TOOLKIT_TEST_WORD", "late")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = everything(start("surroundings", threads=3))[-1]
    assert found["word"] == "late"
    assert found["folder"] == str(tmp_path)
    assert found["path"] == sys.path
    assert found["threads"] == 3
    assert found["pid"] != os.getpid()
    assert found["input"] == ""
    assert "CNN_TOOLKIT_TEST_WORD" not in everything(start("count"))


@linux
def test_a_worker_gives_way_to_others_and_hears_no_ctrl_c(start: Callable[..., Worker]) -> None:
    worker = start("patient")
    first(worker)
    assert psutil.Process(worker.pid).nice() == min(os.nice(0) + processes.NICENESS, 19)
    assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text() == "1000\n"
    assert os.getsid(worker.pid or 0) != os.getsid(0)


def test_a_stop_is_quick_even_in_one_long_piece(start: Callable[..., Worker]) -> None:
    worker = start("seamless")
    first(worker)
    begun = time.monotonic()
    worker.stop()
    assert everything(worker) == ["interrupted"]
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("name", ["patient", "seamless"])
def test_a_stop_before_the_process_begins_is_not_lost(start: Callable[..., Worker], name: str) -> None:
    worker = start(name, load="x" * 200_000)  # longer than a pipe holds: the briefing itself has to wait
    worker.stop()
    assert everything(worker)[-1] in {"kept", "interrupted"}


def test_what_does_not_listen_is_killed(start: Callable[..., Worker]) -> None:
    worker = start("deaf")
    first(worker)
    pid = worker.pid
    begun = time.monotonic()
    worker.close(grace=0.2)
    assert time.monotonic() - begun < 1
    (ending,) = worker.poll()
    assert (ending.stopped, ending.killed) == (True, True)
    assert ending.exit_code == -signal.SIGKILL
    assert gone(pid or 0)


def test_an_error_is_told_with_what_was_printed(start: Callable[..., Worker]) -> None:
    ending = everything(start("error"))[-1]
    assert (ending.exit_code, ending.stopped, ending.killed) == (1, False, False)
    assert "before the error" in ending.log
    assert "ArithmeticError: seven is not eight" in ending.log


def test_a_crash_is_told(start: Callable[..., Worker]) -> None:
    working, ending = everything(start("crash"))
    assert working == "working"
    assert ending.exit_code == -signal.SIGABRT
    assert everything(start("vanish"))[-1].exit_code == 3


def test_the_kill_of_somebody_else_is_told(start: Callable[..., Worker]) -> None:
    """As the operating system kills when memory runs out; the worker beside it must not keep the line open."""
    victim, witness = start("deaf"), start("patient")
    assert first(victim) == first(witness) == "working"
    begun = time.monotonic()
    os.kill(victim.pid or 0, signal.SIGKILL)
    (ending,) = everything(victim)
    assert time.monotonic() - begun < 1
    assert (ending.exit_code, ending.killed) == (-signal.SIGKILL, False)
    assert witness.alive
    witness.stop()
    assert everything(witness) == ["kept"]


def test_nothing_reaches_the_terminal(launch: Launcher, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert everything(start_worker(Task("noisy"), tmp_path, launch=launch)) == ["last"]
    assert capfd.readouterr() == ("", "")


def test_many_runs_leave_nothing_behind(start: Callable[..., Worker]) -> None:
    def census() -> tuple[int, int]:
        me = psutil.Process()
        return me.num_fds(), me.num_threads()

    runs = 6
    everything(start("count"))
    files, threads = census()
    for _ in range(runs):
        everything(start("count"))
    time.sleep(0.1)
    left_files, left_threads = census()
    # What a run left behind would be there six times; one more may be something else of this process.
    assert left_files - files < runs
    assert left_threads - threads < runs


SCRIPT = """
import json, sys, time
from pathlib import Path
from tests.fake_tasks import Task
from toolkit import processes
launch = processes.ForkServer(()) if {fork} else processes.spawn
worker = processes.start_worker(Task({name!r}), Path({folder!r}), launch=launch)
event = next(event for event in worker.events() if event is not None)
print(json.dumps([event, worker.pid, getattr(launch, "pid", None)]), flush=True)
{then}
"""


def script(launch: Launcher, tmp_path: Path, name: str, then: str) -> subprocess.Popen[str]:
    """A script of somebody who has never heard of `if __name__ == "__main__"`."""
    path = tmp_path / "script.py"
    fork = isinstance(launch, ForkServer)
    path.write_text(SCRIPT.format(fork=fork, name=name, folder=str(tmp_path), then=then))
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("task", ["patient", "deaf"])
def test_nothing_outlives_a_parent_that_is_killed(launch: Launcher, tmp_path: Path, task: str) -> None:
    parent = script(launch, tmp_path, task, "time.sleep(60)")
    with parent:
        assert parent.stdout is not None
        event, worker, server = json.loads(parent.stdout.readline())
        assert event == "working"
        parent.kill()
    assert gone(worker, seconds=processes.GRACE_SECONDS + 1)
    assert server is None or gone(server)


def test_nothing_outlives_a_parent_that_ends(launch: Launcher, tmp_path: Path) -> None:
    with script(launch, tmp_path, "patient", "") as parent:
        assert parent.stdout is not None
        _, worker, server = json.loads(parent.stdout.readline())
        assert parent.wait(20) == 0
    assert gone(worker, seconds=processes.GRACE_SECONDS + 1)
    assert server is None or gone(server)


@linux
class TestForkServer:
    def test_has_one_thread_and_forks_its_children(self, fork_server: ForkServer, tmp_path: Path) -> None:
        assert fork_server.threads() == 1
        found = everything(start_worker(Task("surroundings"), tmp_path, launch=fork_server))[-1]
        assert found["parent"] == fork_server.pid

    def test_with_threads_it_starts_a_fresh_python(self, tmp_path: Path) -> None:
        server = ForkServer(preload=("tests.fake_preload_threads",))
        try:
            assert server.threads() == 2
            worker = start_worker(Task("patient"), tmp_path, launch=server)
            assert first(worker) == "working"
            assert "work" in psutil.Process(worker.pid).cmdline()[-1]
            assert psutil.Process(worker.pid).cmdline() != psutil.Process(server.pid).cmdline()
            worker.kill()
            assert everything(worker)[-1].exit_code == -signal.SIGKILL
        finally:
            server.close()

    def test_is_started_again_when_it_died(self, tmp_path: Path) -> None:
        server = ForkServer(preload=())
        try:
            server.threads()
            dead = server.pid
            os.kill(dead or 0, signal.SIGKILL)
            assert gone(dead or 0)
            assert everything(start_worker(Task("count"), tmp_path, launch=server))[-1] == "last"
            assert server.pid not in {dead, None}
        finally:
            server.close()

    def test_its_death_does_not_hurt_a_worker(self, tmp_path: Path) -> None:
        server = ForkServer(preload=())
        worker = start_worker(Task("patient"), tmp_path, launch=server)
        first(worker)
        server.close()
        worker.stop()
        assert everything(worker) == ["kept"]

    def test_its_death_with_a_request_in_hand_is_told(self, tmp_path: Path) -> None:
        server = ForkServer(preload=("tests.fake_preload_slow",))
        worker = start_worker(Task("count"), tmp_path, launch=server)
        server.close()
        (ending,) = everything(worker)
        assert (ending.exit_code, ending.killed) == (None, False)

    def test_warms_up_in_the_background(self, tmp_path: Path) -> None:
        server = ForkServer(preload=("tests.fake_preload_slow",))
        try:
            begun = time.monotonic()
            server.warm_up()
            worker = start_worker(Task("count"), tmp_path / "waits", launch=server)
            hasty = start_worker(Task("patient"), tmp_path / "killed", launch=server)
            hasty.kill()
            assert [event.killed for event in everything(hasty)] == [True]
            assert time.monotonic() - begun < 1
            assert everything(worker)[-1] == "last"
            assert 1.4 < time.monotonic() - begun < 10
            assert gone_children(server)
        finally:
            server.close()

    def test_an_import_that_fails_is_left_to_the_worker(self, tmp_path: Path) -> None:
        server = ForkServer(preload=("no_such_module",))
        try:
            assert everything(start_worker(Task("count"), tmp_path, launch=server))[-1] == "last"
        finally:
            server.close()


def gone_children(server: ForkServer) -> bool:
    """Whether the server ends up without children: the worker that was killed before it began, too."""
    return all(gone(child.pid) for child in psutil.Process(server.pid).children())


def test_ending_tells_its_folder(tmp_path: Path, launch: Launcher) -> None:
    (ending,) = everything(start_worker(Task("vanish"), tmp_path / "there", launch=launch))
    assert ending == Ending(tmp_path / "there", 3, stopped=False, killed=False, log="")


def test_only_tensorflow_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert processes.launcher() is spawn
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert isinstance(processes.launcher(), ForkServer) == (sys.platform == "linux")


@pytest.mark.parametrize("stopped", [True, False])
def test_an_interruption_that_became_another_error_is_one_still(stopped: bool) -> None:
    """C code that is interrupted may raise an error of its own instead: SystemError, seen in TensorFlow."""
    stop = StopFlag()
    with pytest.raises(KeyboardInterrupt if stopped else SystemError), stop.interrupting():  # noqa: PT012
        try:
            if stopped:
                stop.set()
            while stopped:
                time.sleep(0.01)
        except KeyboardInterrupt:
            pass
        raise SystemError("bad argument to internal function")
    assert stop.is_set() is stopped


def test_an_error_before_the_stop_is_an_error() -> None:
    with pytest.raises(ValueError, match="mine"), StopFlag().interrupting():
        raise ValueError("mine")
