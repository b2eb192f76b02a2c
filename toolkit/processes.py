"""Work in a process of its own, which can be watched, stopped and killed, and which outlives nobody.

On Linux with TensorFlow a *fork server* ("zygote") imports Keras once and stays single-threaded, so that it may fork:
a worker then starts in some 30 ms and shares its memory. Everywhere else (Windows, macOS, JAX, which must not be
forked) a worker is a fresh Python. Both get the same two pipes:

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
import os
import pickle
import queue
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

import psutil

from toolkit.system import backend

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""

# The modules that the fork server imports before it forks: all that a training needs.
PRELOAD = ("toolkit.fitting",)
# Set in the fork server and in workers only. TensorFlow would fill the terminal, and OpenBLAS would start threads,
# after which the fork server could not fork any more; TensorFlow has its own threads and does not need those.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
# A worker leaves the processor to the page that its visitors look at.
NICENESS = 10
GRACE_SECONDS = 2.0
LOG = "log.txt"

_STOP = b"s"
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows, SIGTERM ends a process at once


class Task(Protocol):
    """What a worker is to do. It travels by pickle."""

    @property
    def work(self) -> str:
        """The function `(task, context) -> last event` that does it, as "module:name": the parent never imports it."""

    def ended(self, ending: Ending) -> object:
        """In the parent: the last event of a worker that ended without giving one."""


class StopFlag:
    """Tells a task to end. It looks at the flag between pieces of work; `interrupting` is for one without a seam."""

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
        # What a shell starts in its background ignores this signal, and so would everything that it starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        except Exception as error:
            if self._interrupts or not self.is_set():
                raise
            # The backend's own code makes an error of its own of an interruption that comes to it, now and then.
            raise KeyboardInterrupt from error
        finally:
            with self._lock:
                self._interrupts = False
            signal.signal(signal.SIGINT, before)


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

    @staticmethod
    def here(folder: Path, threads: int | None, changes: Mapping[str, str]) -> _Surroundings:
        """Those of this process, with these variables of the environment changed."""
        changed = {**os.environ, **changes}
        chosen = backend(changed)
        limits = _thread_limits(chosen, threads)
        environment = {**changed, **QUIET, **limits, "KERAS_BACKEND": chosen}
        return _Surroundings(environment, str(Path.cwd()), list(sys.path), folder.resolve(), threads)

    def settle(self) -> None:
        """Make this process stand where the parent stands."""
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.working_folder)
        sys.path[:] = self.module_path
        self.folder.mkdir(parents=True, exist_ok=True)


def _thread_limits(name: str, threads: int | None) -> dict[str, str]:
    """What a backend reads when it is imported. TensorFlow, which is imported before it knows, is told by the task."""
    if threads is None:
        return {}
    limits = {"OMP_NUM_THREADS": str(threads)}
    if name == "jax" and threads == 1:
        flags = (os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
        limits["XLA_FLAGS"] = " ".join(flags).strip()
    return limits


# The worker's side.


def work(inbox_fd: int, outbox_fd: int) -> NoReturn:
    """The life of a worker: read the task, do it, say its last word. Ends the process."""
    code = 1
    with contextlib.suppress(BaseException):
        code = _work(os.fdopen(inbox_fd, "rb"), os.fdopen(outbox_fd, "wb"))
    # Skips what the fork server has registered for its own end, and does not wait for a library's threads.
    os._exit(code)


def work_on_standard_streams() -> NoReturn:
    """`work` with its two pipes at standard input and output."""
    work(os.dup(0), os.dup(1))


def _work(inbox: BinaryIO, outbox: BinaryIO) -> int:
    surroundings: _Surroundings = pickle.load(inbox)  # noqa: S301 - it comes from our own parent
    surroundings.settle()
    _be_modest()
    log = surroundings.folder / LOG
    _leave_the_terminal(log)
    try:
        _speak(outbox, True, _run(inbox, outbox, surroundings))
    except BaseException:
        traceback.print_exc()
        return 1
    log.unlink(missing_ok=True)
    return 0


def _run(inbox: BinaryIO, outbox: BinaryIO, surroundings: _Surroundings) -> object:
    task: Task = pickle.load(inbox)  # noqa: S301 - it comes from our own parent
    module, _, name = task.work.partition(":")
    stop = StopFlag()
    threading.Thread(target=_listen, args=(inbox, stop), daemon=True, name="stop").start()

    def send(event: object) -> None:
        _speak(outbox, False, event)

    function = getattr(importlib.import_module(module), name)
    return function(task, Context(surroundings.folder, surroundings.threads, send, stop))


def _speak(outbox: BinaryIO, last: bool, event: object) -> None:
    """One frame: whether it is the last, and the event."""
    outbox.write(pickle.dumps((last, event)))
    outbox.flush()


def _listen(inbox: BinaryIO, stop: StopFlag) -> None:
    """Raise the flag at the word "stop". When the parent is gone, end, with the grace that it would have given."""
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


def _leave_the_terminal(log: Path) -> None:
    """Send all output, that of C libraries too, into a file, and read no input: the terminal belongs to the parent."""
    for path, flags, fds in ((os.devnull, os.O_RDONLY, (0,)), (log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, (1, 2))):
        opened = os.open(path, flags, 0o644)
        for fd in fds:
            os.dup2(opened, fd)
        os.close(opened)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115 - it lives with the process
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115


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
        try:
            pid = self._fork(inbox, outbox, single=_threads() == 1)
        except OSError:  # no more processes, or no memory: the parent sees its line end without a word
            os.close(status)
        else:
            self._status[pid] = status
            with contextlib.suppress(BrokenPipeError):
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


class Process(Protocol):
    """A started process as its parent sees it. Both calls block until the answer is known."""

    def begun(self) -> int | None:
        """The process id; None when it could not be started."""

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None when nobody knows."""


class Launcher(Protocol):
    """A way to start a worker that reads `inbox` and writes `outbox` (file descriptors, to be closed by the caller)."""

    def __call__(self, inbox: int, outbox: int) -> Process:
        """Start it; never waits for it."""


class _Forked:
    """A child of the fork server, which reports on a line of its own."""

    def __init__(self, status: int) -> None:
        self._status = status

    def begun(self) -> int | None:
        return _read_number(self._status)

    def exit_code(self) -> int | None:
        code = _read_number(self._status)
        os.close(self._status)
        return code


class _Fresh:
    """A new Python."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def begun(self) -> int | None:
        return self._process.pid

    def exit_code(self) -> int | None:
        return self._process.wait()


def _popen(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a Python that no Ctrl-C of our terminal reaches: the parent alone decides when it stops."""
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["start_new_session"] = True
    environment = {**os.environ, **QUIET}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **options)  # noqa: S603 - this Python


def spawn(inbox: int, outbox: int) -> Process:
    """The launcher that works everywhere: a new Python, which imports Keras itself."""
    return _Fresh(_popen(_command("work_on_standard_streams"), stdin=inbox, stdout=outbox))


class ForkServer:
    """The launcher that forks: one process with `preload` imported, started on first use and again if it died."""

    def __init__(self, preload: Sequence[str] = PRELOAD) -> None:
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._threads: int | None = None

    def __call__(self, inbox: int, outbox: int) -> Process:
        """Ask for a worker. A server that is still warming up forks it as soon as it is ready."""
        ours, theirs = os.pipe()
        with self._lock:
            try:
                self._ask((inbox, outbox, theirs))
            finally:
                os.close(theirs)
        return _Forked(ours)

    def _ask(self, fds: Sequence[int]) -> None:
        for last_try in (False, True):
            try:
                socket.send_fds(self._line(), [b"w"], fds)
            except OSError:
                self._close()
                if last_try:
                    raise
            else:
                return

    def warm_up(self) -> None:
        """Start the server, if it does not run, and do not wait for it."""
        with self._lock:
            self._line()

    def threads(self) -> int:
        """Wait until the server is warm, and return how many threads it has: 1, or it could not fork."""
        with self._lock:
            line = self._line()
        if self._threads is None:
            self._threads = (line.recv(1) or b"\0")[0]
        return self._threads

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def close(self) -> None:
        """End the server; its workers go on."""
        with self._lock:
            self._close()

    def _line(self) -> socket.socket:
        """The line to a living server."""
        if self._control is not None and self.pid is not None:
            return self._control
        self._close()
        return self._start()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._control = ours
        with theirs:
            command = _command("serve", theirs.fileno(), self._preload)
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            self._process = _popen(command, pass_fds=(theirs.fileno(),), **quiet)
        return ours

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing that a kill could damage, and may be in the middle of an import
            self._process.wait()
        self._control, self._process, self._threads = None, None, None


_server = ForkServer()
atexit.register(_server.close)


def can_fork() -> bool:
    """Whether workers are forked: on Linux, with TensorFlow. JAX has threads from its import on, and macOS's own
    libraries do not survive a fork.
    """
    return sys.platform == "linux" and backend() == "tensorflow"


def launcher() -> Launcher:
    """The best launcher for this system and backend."""
    return _server if can_fork() else spawn


def warm_up() -> None:
    """Let the fork server import Keras in the background, so that the first training starts at once; returns at once.

    Where nothing is forked there is nothing to warm. Raises InputError where no backend is installed.
    """
    if can_fork():
        _server.warm_up()


class Worker:
    """A process at work on a task. Every method may be called from any thread; only `close` and `events` wait."""

    def __init__(
        self, task: Task, folder: Path, threads: int | None, launch: Launcher, environment: Mapping[str, str]
    ) -> None:
        self._task, self._folder = task, folder
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._pid: int | None = None
        self._briefed = self._stopped = self._killed = False
        briefing = pickle.dumps(_Surroundings.here(folder, threads, environment)) + pickle.dumps(task)
        inbox, outbox, self._process = _launched(launch)
        self._inbox, self._outbox = os.fdopen(inbox, "wb"), os.fdopen(outbox, "rb")
        threading.Thread(target=self._attend, args=(briefing,), daemon=True, name="worker").start()

    @property
    def pid(self) -> int | None:
        """The process id, as soon as there is one and while the process lives."""
        with self._lock:
            return self._pid

    @property
    def alive(self) -> bool:
        """Whether more events may come. Once this is false, the last one can be read."""
        return not self._finished.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopped

    def poll(self) -> list[Any]:
        """The events that came since the last call, without waiting."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._events.get_nowait())
        return found

    def events(self, wait: float = 0.05) -> Iterator[Any]:
        """All events as they come, and None whenever `wait` seconds passed without one."""
        while True:
            alive = self.alive
            try:
                yield self._events.get(timeout=wait if alive else 0)
            except queue.Empty:
                if not alive:
                    return
                yield None

    def stop(self) -> None:
        """Ask the worker to end and to keep what it has; never waits."""
        with self._lock:
            if self._briefed and not self._stopped:
                self._write(_STOP)
            self._stopped = True

    def kill(self) -> None:
        """End the process now; what its folder holds is kept. Never waits."""
        with self._lock:
            self._killed = True
            begun = self._pid is not None
            self._kill_begun()
        if not begun:
            self._finish(None)

    def close(self, grace: float = GRACE_SECONDS) -> None:
        """Stop, give it `grace` seconds, then kill it."""
        self.stop()
        if not self._finished.wait(grace):
            self.kill()
        self._finished.wait(grace)

    def _kill_begun(self) -> None:
        if self._killed and self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, _KILL)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the worker has ended
            self._inbox.write(data)
            self._inbox.flush()

    def _attend(self, briefing: bytes) -> None:
        """In a thread of its own: brief the worker, pass on what it says, and note how it ended."""
        self._write(briefing)  # may wait: a long task does not fit into the pipe before the worker reads
        with self._lock:
            self._briefed = True
            if self._stopped:
                self._write(_STOP)
        pid = self._process.begun()
        with self._lock:
            self._pid = pid
            self._kill_begun()
        complete = self._listen()
        self._hang_up()
        code = self._process.exit_code()
        with self._lock:
            self._pid = None
        self._finish(code, complete)

    def _hang_up(self) -> None:
        """Close both lines, at which a worker that still lives ends."""
        with self._lock, contextlib.suppress(OSError):
            self._inbox.close()
        self._outbox.close()

    def _listen(self) -> bool:
        """Put every event into the queue; True when the last of them came."""
        # Whatever keeps us from reading on (the end, half a frame after a kill), the worker has said its last.
        with contextlib.suppress(Exception):
            while True:
                last, event = pickle.load(self._outbox)  # noqa: S301 - it comes from our own worker
                self._events.put(event)
                if last:
                    return True
        return False

    def _finish(self, code: int | None, complete: bool = False) -> None:
        """Put the last event into the queue, if the worker did not, and call the work finished; once."""
        with self._lock:
            try:
                if not complete and not self._finished.is_set():
                    self._events.put(self._task.ended(self._ending(code)))
            finally:
                self._finished.set()

    def _ending(self, code: int | None) -> Ending:
        log = self._folder / LOG
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return Ending(self._folder, code, self._stopped, self._killed, text[-4000:])


def _launched(launch: Launcher) -> tuple[int, int, Process]:
    """Our ends of the two pipes, and the process at their other ends."""
    their_inbox, inbox = os.pipe()
    outbox, their_outbox = os.pipe()
    try:
        return inbox, outbox, launch(their_inbox, their_outbox)
    except BaseException:
        os.close(inbox)
        os.close(outbox)
        raise
    finally:
        os.close(their_inbox)
        os.close(their_outbox)


def start_worker(
    task: Task,
    folder: str | os.PathLike[str],
    threads: int | None = 1,
    launch: Launcher | None = None,
    environment: Mapping[str, str] | None = None,
) -> Worker:
    """Start work on a task in a process of its own and return at once.

    `folder` is where the worker keeps its files. `threads` limits the threads of one operation; with 1, two workers
    side by side finish sooner than one after the other, and None lets the backend take every processor. `environment`
    holds variables that the worker shall see otherwise than we do; what a library reads when it is imported is heard
    by a fresh Python only (`launch=spawn`), and what the C library reads when a process begins is not.
    Raises InputError where no backend is installed, OSError where no process can be started.
    """
    return Worker(task, Path(folder), threads, launch or launcher(), environment or {})


def follow(
    task: Task,
    folder: str | os.PathLike[str] | None = None,
    stop: threading.Event | None = None,
    threads: int | None = None,
    launch: Launcher | None = None,
) -> Iterator[Any]:
    """Start work on a task when the first event is asked for, and yield its events until it ends.

    `folder`: see `start_worker`; None for one of its own. Setting `stop` ends the work within seconds, in the
    background, so that events go on until then; so does closing the generator.
    """
    stop = stop or threading.Event()
    worker = start_worker(task, folder or own_folder(), threads, launch)
    try:
        for event in worker.events():
            if stop.is_set() and not worker.stopping:
                threading.Thread(target=worker.close, daemon=True, name="stop").start()
            if event is not None:
                yield event
    finally:
        worker.close()


def own_folder() -> Path:
    """A new folder that goes when this Python ends."""
    folder = tempfile.mkdtemp(prefix="cnn-toolkit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
