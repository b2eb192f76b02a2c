"""Work in a process of its own, which can be watched, stopped and killed, and which outlives nobody.

On Linux with TensorFlow a *fork server* ("zygote") imports Keras once and stays single-threaded, so that it may fork: a
worker then starts in some 30 ms and shares its memory. Everywhere else (Windows, macOS, JAX, which must not be forked) a
worker is a fresh Python. Both get the same two pipes:

    inbox   the surroundings and the task; later one byte for "stop"; its end says that the parent is gone
    outbox  events, and last of all the value that the task returned

Neither runs the caller's main script again, so that a script needs no `if __name__ == "__main__"` to train.
Nothing here imports Keras: whatever a task needs, it imports when it runs.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import pickle
import queue
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import psutil

from toolkit.errors import InputError

# The modules that the fork server imports before it forks: all that a training needs.
PRELOAD = ("toolkit.fitting",)
# Keras can run on these; the order is the order of preference where nobody chose.
BACKENDS = ("tensorflow", "jax", "torch")
# Set in the fork server and in workers only. TensorFlow would fill the terminal, and OpenBLAS would start threads, after
# which the fork server could not fork any more; TensorFlow has its own threads and does not need those.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
# A worker leaves the processor to the page that its visitors look at.
NICENESS = 10
GRACE_SECONDS = 2.0
LOG = "log.txt"

_STOP = b"s"
_FOREVER = 10**9


class Task(Protocol):
    """What a worker does. It travels by pickle, so its class must be importable."""

    def run(self, context: Context) -> object:
        """Do the work in the worker's process and return the last event."""

    def ended(self, ending: Ending) -> object:
        """In the parent: the last event of a worker that ended without returning one."""


class StopFlag:
    """Tells a task to end. A task looks at it between two pieces of work; see `interrupting` for pieces without a seam."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._interrupts = False

    def is_set(self) -> bool:
        """Whether the task should end."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the task to end."""
        with self._lock:
            self._event.set()
            if self._interrupts:
                self._interrupts = False
                _thread.interrupt_main()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """In this block of the main thread, a stop raises KeyboardInterrupt, at once if it came before."""
        with self._lock:
            if self._event.is_set():
                raise KeyboardInterrupt
            self._interrupts = True
        try:
            yield
        finally:
            with self._lock:
                self._interrupts = False


@dataclass(frozen=True)
class Context:
    """What a running task has: a folder for its files, a thread limit (None: no limit), its voice and its stop flag."""

    folder: Path
    threads: int | None
    send: Callable[[object], None]
    stop: StopFlag


@dataclass(frozen=True)
class Ending:
    """How a worker ended that did not return. `exit_code` is negative for a signal and None where nobody knows."""

    folder: Path
    exit_code: int | None
    stopped: bool
    killed: bool
    log: str


@dataclass(frozen=True)
class _Surroundings:
    """What a fresh process would inherit and a forked one must be told: the parent may have changed it meanwhile."""

    environment: Mapping[str, str]
    working_folder: str
    module_path: Sequence[str]
    folder: Path
    threads: int | None

    def settle(self) -> None:
        """Make this process stand where the parent stands."""
        os.environ.clear()
        os.environ.update({**self.environment, **QUIET, "KERAS_BACKEND": backend(self.environment)})
        os.chdir(self.working_folder)
        sys.path[:] = self.module_path
        self.folder.mkdir(parents=True, exist_ok=True)


def backend(environment: Mapping[str, str] = os.environ) -> str:
    """The library that Keras will compute with, found without importing anything.

    As Keras has it: the environment, then the user's `keras.json`; after that the first one that is installed. Raises
    InputError where none is.

    >>> backend({"KERAS_BACKEND": "jax"})
    'jax'
    """
    chosen = environment.get("KERAS_BACKEND") or _configured_backend(environment)
    installed = (name for name in BACKENDS if importlib.util.find_spec(name))
    found = chosen or next(installed, None)
    if found is None:
        raise InputError(
            f"training needs one of {', '.join(BACKENDS)} beside Keras and none is installed; "
            "install one, for example with: pip install tensorflow-cpu"
        )
    return found


def _configured_backend(environment: Mapping[str, str]) -> str | None:
    home = Path(environment.get("KERAS_HOME") or Path("~/.keras").expanduser())
    try:
        name = json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
    return str(name) if name else None


# The worker's side.


def work(inbox_fd: int, outbox_fd: int) -> None:
    """The life of a worker: read the task, run it, say its last word. Never returns."""
    code = 1
    with contextlib.suppress(BaseException):
        code = _work(os.fdopen(inbox_fd, "rb"), os.fdopen(outbox_fd, "wb"))
    # Skips what the fork server has registered for its own end, and does not wait for a library's threads.
    os._exit(code)


def _work(inbox: BinaryIO, outbox: BinaryIO) -> int:
    surroundings: _Surroundings = pickle.load(inbox)  # noqa: S301 - it comes from our own parent
    surroundings.settle()
    _be_modest()
    with _output_into(surroundings.folder / LOG):
        try:
            _speak(outbox, True, _run(inbox, outbox, surroundings))
        except BaseException:
            traceback.print_exc()
            return 1
    (surroundings.folder / LOG).unlink(missing_ok=True)
    return 0


def _run(inbox: BinaryIO, outbox: BinaryIO, surroundings: _Surroundings) -> object:
    task: Task = pickle.load(inbox)  # noqa: S301 - it comes from our own parent
    stop = StopFlag()
    threading.Thread(target=_listen, args=(inbox, stop), daemon=True, name="stop").start()

    def send(event: object) -> None:
        _speak(outbox, False, event)

    return task.run(Context(surroundings.folder, surroundings.threads, send, stop))


def _speak(outbox: BinaryIO, last: bool, event: object) -> None:
    """One frame: whether it is the last, and the event. Written whole, so that a kill leaves no half frame behind it."""
    outbox.write(pickle.dumps((last, event)))
    outbox.flush()


def _listen(inbox: BinaryIO, stop: StopFlag) -> None:
    """Raise the flag at the word "stop". When the parent is gone, end with the grace that the parent would have given."""
    while inbox.read(1):
        stop.set()
    stop.set()
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _be_modest() -> None:
    """Give way to others: run at low priority, and be the first to go where memory ends (the page must stay)."""
    if sys.platform != "win32":
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


@contextlib.contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Send all output, C libraries' too, into a file: the terminal belongs to the parent."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 - it lives with the process
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    yield
    sys.stdout.flush()
    sys.stderr.flush()


# The fork server's side.


def serve(control_fd: int, preload: Sequence[str]) -> None:
    """The fork server: import `preload`, then fork a worker for every request until the parent closes the line."""
    for module in preload:
        # A worker will meet the same error and report it, with nothing lost but time.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else the collector writes into pages that the workers share
    control = socket.socket(fileno=control_fd)
    control.sendall(bytes([min(_threads(), 255)]))
    _Zygote(control).serve()


def _threads() -> int:
    return int(psutil.Process().num_threads())


class _Zygote:
    """The loop of the fork server: requests come in on `control`, ends of workers through SIGCHLD."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status: dict[int, int] = {}
        self._wake, wake_write = socket.socketpair()
        self._wake.setblocking(False)
        wake_write.setblocking(False)
        self._wake_write = wake_write
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    self._reap()
                if self._control in ready and not self._accept():
                    return

    def _accept(self) -> bool:
        """Start one worker; False when the parent is gone."""
        message, fds, _, _ = socket.recv_fds(self._control, 1, 3)
        if not message:
            return False
        inbox, outbox, status = fds
        pid = self._fork(inbox, outbox, single=_threads() == 1)
        self._status[pid] = status
        _write_number(status, pid)
        os.close(inbox)
        os.close(outbox)
        return True

    def _fork(self, inbox: int, outbox: int, single: bool) -> int:
        """Fork a worker. Locks that other threads held would stay locked in it, so with threads it starts afresh."""
        pid = os.fork()
        if pid:
            return pid
        try:
            self._forget()
            if not single:
                os.set_inheritable(inbox, True)
                os.set_inheritable(outbox, True)
                os.execv(sys.executable, _command("work", inbox, outbox))  # noqa: S606 - this very Python
        finally:
            work(inbox, outbox)

    def _forget(self) -> None:
        """In the forked worker: let go of what is the server's, the lines to other workers above all."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._control, self._wake, self._wake_write):
            each.close()
        for status in self._status.values():
            os.close(status)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._report(ended[0], os.waitstatus_to_exitcode(ended[1]))

    def _report(self, pid: int, code: int) -> None:
        status = self._status.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            _write_number(status, code)
        os.close(status)


def _write_number(fd: int, number: int) -> None:
    os.write(fd, number.to_bytes(8, "little", signed=True))


def _read_number(fd: int) -> int | None:
    """The next number on this line, or None where it ended."""
    data = os.read(fd, 8)
    return int.from_bytes(data, "little", signed=True) if data else None


def _command(function: str, *arguments: object) -> list[str]:
    """The command line of a Python that calls one function of this module with our module path."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from toolkit import processes as p; p.{function}{arguments!r}"
    return [sys.executable, "-c", code]


# The parent's side.


class _Process(Protocol):
    """A started process: its id as soon as it has one, and its exit code when it has ended (None: nobody knows)."""

    def pid(self) -> int | None: ...
    def wait(self) -> int | None: ...
