"""Where a student's code runs: the isolation that this machine can give, and processes under it, as the grader sees it.

From the weakest to the strongest, with what each level does not stop:

- `process` (every system, Windows too): a process of its own with limits of time. The code may read and change what
  its user may, use the network, and fill memory and disk until its time is over.
- `rlimits` (macOS, Linux): limits of memory, CPU time, processes and file sizes, too. It may still read the solutions,
  use the network and harm the user's other processes. Where the grader is root, the code is not.
- `landlock` (Linux 5.13 and newer, as any user and inside Docker): it reads Python's own folders only, writes regular
  files of bounded size into one folder that is removed, has no network, starts no process, sends no signal. It still
  sees that a file elsewhere exists, the time, and how busy the machine is.
- `bubblewrap`: `landlock` where there is that, inside namespaces that hold nothing but Python's folders.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from toolkit.errors import InputError
from toolkit.grading import landlock, seccomp
from toolkit.grading.confinement import SYSTEM_FOLDERS, Confinement, python_folders
from toolkit.grading.forkserver import remove
from toolkit.grading.protocol import EndedError, LateError, Line, ProtocolError, ThreadedLine

LEVELS = ("process", "rlimits", "landlock", "bubblewrap")
SENTENCES = {
    "process": "a process of its own with limits of time; it may read files and use the network",
    "rlimits": "a process with limits of time, memory, processes and file sizes; it may read files and use the network",
    "landlock": "Landlock, a system call filter and limits: no files but Python's, no network, no other processes",
    "bubblewrap": "bubblewrap's namespaces, a system call filter and limits: no files but Python's, no network",
}
PRELOADED = {"numpy": "numpy,resource", "keras": "numpy,resource,keras"}
STARTING_SECONDS = {"numpy": 30.0, "keras": 120.0}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Limits:
    """What a submission may use; seconds are of the wall clock where they are not called CPU.

    `starts` is how often the process may be started again after it ended in a question or in a statement.
    """

    statement_seconds: float = 4.0
    submission_seconds: float = 10.0
    cpu_seconds: int = 12
    memory_bytes: int = 2 * 2**30
    keras_memory_bytes: int = 12 * 2**30
    keras_seconds: float = 30.0
    file_bytes: int = 16 * 2**20
    folder_bytes: int = 64 * 2**20
    processes: int = 64
    starts: int = 6


def levels() -> tuple[str, ...]:
    """The levels that this machine can give, from the weakest to the strongest.

    >>> levels()[0]
    'process'
    """
    return tuple(level for level in LEVELS if _can(level))


@functools.cache
def _can(level: str) -> bool:
    if level == "process":
        return True
    if level == "rlimits":
        return sys.platform != "win32"
    if level == "landlock":
        return landlock.version() > 0 and seccomp.available()
    found = shutil.which("bwrap") if sys.platform == "linux" else None
    return found is not None and _succeeds([*_bubblewrap(found, _ROOT), sys.executable, "-S", "-c", ""])


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def choose(isolation: str | None = None, require: str | None = None) -> str:
    """The level to use: `isolation`, or the best there is; `require` is the least that will do.

    Raises InputError for a name that is none, and where the machine cannot give what is demanded.

    >>> choose("process")
    'process'
    """
    for name in filter(None, (isolation, require)):
        if name not in LEVELS:
            raise InputError(f"isolation is one of {', '.join(LEVELS)}; {name!r} came")
    there = levels()
    if isolation and isolation not in there:
        raise InputError(f"this machine cannot give the isolation {isolation!r}; it has {', '.join(there)}")
    chosen = isolation or there[-1]
    if require and LEVELS.index(chosen) < LEVELS.index(require):
        raise InputError(
            f"{require!r} is required and {chosen!r} is what there is: on Linux install bubblewrap, or use a kernel "
            "with Landlock (5.13 and newer; not inside gVisor)"
        )
    return chosen


class DiedError(Exception):
    """The student's process ended, hung or spoke nonsense; the text says what happened, as the end of a sentence."""


class NoSandboxError(InputError):
    """The machine could not start a process under the isolation."""


class Student:
    """A student's process: one request at a time, each with a nonce of its own."""

    def __init__(self, line: Line | ThreadedLine) -> None:
        self._line = line
        self._nonce = ""

    def begin(self, seconds: float) -> str:
        """Wait until the process is confined; what went wrong, or an empty text."""
        problem = "it ended"
        with contextlib.suppress(LateError, EndedError, ProtocolError):
            told = self._line.receive(time.monotonic() + seconds)
            problem = "" if told == {"ready": True} else str(told.get("error"))
        if problem:
            self.stop()
        return problem

    def ask(self, request: Mapping[str, Any], until: float) -> dict[str, Any]:
        """The answer to a request; raises DiedError, after which the process is of no use any more."""
        self._send(request, until)
        return self._answer(until)

    def ask_many(
        self, request: Mapping[str, Any], count: int, seconds: float, until: float
    ) -> Iterator[dict[str, Any]]:
        """So many answers to one request, each within its seconds and all before `until`; otherwise as `ask`."""
        self._send(request, min(time.monotonic() + seconds, until))
        for _ in range(count):
            yield self._answer(min(time.monotonic() + seconds, until))

    def _send(self, request: Mapping[str, Any], until: float) -> None:
        self._nonce = secrets.token_hex(16)
        with self._died_of_it():
            self._line.send({**request, "nonce": self._nonce}, until)

    def _answer(self, until: float) -> dict[str, Any]:
        with self._died_of_it():
            answer = self._line.receive(until)
        if not isinstance(answer, dict) or answer.get("nonce") != self._nonce:
            self.stop()
            raise DiedError("gave an answer to another question")
        return answer

    @contextlib.contextmanager
    def _died_of_it(self) -> Iterator[None]:
        try:
            yield
        except LateError:
            self.stop()
            raise DiedError("took longer than its time") from None
        except EndedError:
            raise DiedError(_ending(self.stop())) from None
        except ProtocolError as error:
            self.stop()
            raise DiedError(f"gave an answer that cannot be read: {error}") from None

    def stop(self) -> Mapping[str, Any]:
        """End the process and all that it started; how it ended (`code`, `why`). A second time does nothing."""
        raise NotImplementedError


def _ending(status: Mapping[str, Any]) -> str:
    """What an exit code means, as the end of a sentence.

    >>> _ending({"code": -11, "why": "ended"}), _ending({"code": 0, "why": "ended"})
    ('crashed the process (SIGSEGV)', 'ended the process (exit status 0)')
    """
    code, why = status.get("code"), status.get("why")
    if why == "disk":
        return "wrote more files than it may"
    if not isinstance(code, int):
        return "ended the process"
    if code >= 0:
        return f"ended the process (exit status {code})"
    if -code == getattr(signal, "SIGXCPU", 0):
        return "used more CPU time than it may"
    with contextlib.suppress(ValueError):
        return f"crashed the process ({signal.Signals(-code).name})"
    return f"crashed the process (signal {-code})"


class _Guarded(Student):
    """A student's process under a warden, which tells how it ended."""

    def __init__(self, line: Line, control: socket.socket) -> None:
        super().__init__(line)
        self._control: socket.socket | None = control

    def stop(self) -> Mapping[str, Any]:
        control, self._control = self._control, None
        if control is None:
            return {}
        with control, contextlib.suppress(OSError, ValueError):
            control.shutdown(socket.SHUT_WR)
            control.settimeout(10)
            told = control.recv(4096)
            self._line.close()
            return dict(json.loads(told))
        self._line.close()
        return {}


class _Fresh(Student):
    """A student's process that is an interpreter of its own, and its folder."""

    def __init__(self, line: Line | ThreadedLine, process: subprocess.Popen[bytes], folder: str) -> None:
        super().__init__(line)
        self._process, self._folder = process, folder

    def stop(self) -> Mapping[str, Any]:
        if not self._folder:
            return {}
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that ended by itself has a code to tell
            self._process.wait(0.05 if self._process.stdin is None else 0)
        code = self._process.poll()
        _kill_tree(self._process)
        self._line.close()
        remove(self._folder)
        self._folder = ""
        return {"code": code, "why": "ended"} if code is not None else {}


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


class Sandbox:
    """Starts students' processes under one level of isolation; a context manager that leaves nothing behind.

    On Linux they are forked from a server that has loaded NumPy (or Keras, where `needs="keras"`); elsewhere each is
    an interpreter of its own, as with `fork=False`. The server loads in the background, so make this early.
    """

    def __init__(
        self,
        level: str | None = None,
        limits: Limits | None = None,
        needs: str = "numpy",
        fork: bool | None = None,
    ) -> None:
        self.level = level or choose()
        self.limits = limits or Limits()
        self._needs = needs
        self._fork = _can_fork(needs) if fork is None else fork
        self._folder = ""
        if not self._fork or self.level != "bubblewrap":  # which has a file system of its own
            self._folder = tempfile.mkdtemp(prefix="grading-")
            Path(self._folder).chmod(0o711)  # another user's process passes through it
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        if self._fork:
            self._start_server()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and remove the folder."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(1)  # it ends with its line, and takes its last children along
            self._server.kill()
            self._server.wait()
            self._server = None
        remove(self._folder)

    def start(self) -> Student:
        """A new process, confined and waiting for requests; raises NoSandboxError where there can be none."""
        problem = ""
        for _ in range(3):
            try:
                student = self._forked() if self._fork else self._fresh()
            except OSError as error:
                problem = str(error)
            else:
                if not (problem := student.begin(STARTING_SECONDS[self._needs])):
                    return student
            if self._fork:
                self._restart()
        raise NoSandboxError(f"no process could be started under {self.level!r} ({problem}); choose another isolation")

    # Forked processes.

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = _python(f"serve({theirs.fileno()}, {PRELOADED[self._needs]!r}, {self._folder!r})")
            if self.level == "bubblewrap":
                command = [*_bubblewrap(str(shutil.which("bwrap")), _ROOT), *command]
            self._server = subprocess.Popen(  # noqa: S603 - this very Python
                command,
                pass_fds=(theirs.fileno(),),
                env=_environment(self._folder if self.level != "bubblewrap" else "/tmp"),  # noqa: S108
                cwd="/",
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control = ours

    def _forked(self) -> Student:
        wanted = {
            "parent": self._folder if self.level != "bubblewrap" else "/tmp",  # noqa: S108 - one of its own
            "folder_bytes": self.limits.folder_bytes,
            "confinement": {name: value for name, value in asdict(self._confinement("")).items() if name != "folder"},
        }
        message = json.dumps(wanted).encode()
        their_inbox, outbox = os.pipe()
        inbox, their_outbox = os.pipe()
        ours, theirs = socket.socketpair()
        try:
            if self._control is None:
                raise OSError("there is no server")
            socket.send_fds(self._control, [message], (their_inbox, their_outbox, theirs.fileno()))
        except OSError:
            os.close(inbox)
            os.close(outbox)
            ours.close()
            raise
        finally:
            os.close(their_inbox)
            os.close(their_outbox)
            theirs.close()
        return _Guarded(Line(inbox, outbox), ours)

    def _restart(self) -> None:
        if self._server is not None:
            self._server.kill()  # first: at the end of its line it would remove the folder
            self._server.wait()
        if self._control is not None:
            self._control.close()
        self._start_server()

    # Fresh interpreters.

    def _fresh(self) -> Student:
        folder = tempfile.mkdtemp(prefix="student-", dir=self._folder)
        wanted = json.dumps(asdict(self._confinement(folder)))
        process = subprocess.Popen(  # noqa: S603 - this very Python
            _python(f"work_alone({wanted!r}, {PRELOADED[self._needs]!r})"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(folder),
            cwd=folder,
            start_new_session=sys.platform != "win32",
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        files = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdout.close()
        process.stdin.close()
        process.stdin = process.stdout = None
        return _Fresh((ThreadedLine if sys.platform == "win32" else Line)(*files), process, folder)

    def _confinement(self, folder: str) -> Confinement:
        """What the level means on this system, as data."""
        limits, at_least = self.limits, LEVELS.index(self.level)
        confined = at_least >= LEVELS.index("landlock")
        return Confinement(
            folder=folder,
            memory_bytes=limits.memory_bytes,
            cpu_seconds=limits.cpu_seconds,
            file_bytes=limits.file_bytes,
            processes=_processes(limits.processes),
            rlimits=at_least >= LEVELS.index("rlimits"),
            landlock=confined and landlock.version() > 0,
            seccomp=confined and seccomp.available(),
        )


def _can_fork(needs: str) -> bool:
    """Whether a process that has loaded this much may be forked: JAX has threads from its import on."""
    if sys.platform != "linux" or needs != "keras":
        return sys.platform == "linux"
    from toolkit.system import backend

    return backend() == "tensorflow"


def _processes(most: int) -> int:
    """The limit of processes: on Linux it counts threads, and an ordinary user's other ones, too; on macOS no fork."""
    if sys.platform == "darwin":
        return 1
    if sys.platform != "linux" or os.geteuid() == 0:
        return most
    return most + sum(_threads_of(os.geteuid()))


def _threads_of(user: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == user:
                yield sum(1 for _ in (folder / "task").iterdir())


def _python(call: str) -> list[str]:
    """A Python with none of our paths, which calls one function of the fork server's module."""
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from toolkit.grading.forkserver import *; {call}"
    return [sys.executable, "-s", "-P", "-c", code]


def _environment(folder: str) -> dict[str, str]:
    """What the student's process sees of ours: nothing. Sets iterate in the same order every time."""
    names = ("KERAS_BACKEND", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **dict.fromkeys(("HOME", "TMPDIR", "TEMP", "TMP", "KERAS_HOME", "MPLCONFIGDIR"), folder),
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def _bubblewrap(program: str, root: Path) -> list[str]:
    """The command of namespaces that hold Python, this package and nothing else."""
    system = [path for path in SYSTEM_FOLDERS if not path.startswith(("/dev/", "/proc/"))]
    shown = [*map(str, python_folders()), *system, sys.executable, os.path.realpath(sys.executable)]
    shown += [str(Path(sys.prefix) / "pyvenv.cfg"), str(root / "toolkit" / "__init__.py")]
    shown += [
        str(root / "toolkit" / "errors.py"),
        str(root / "toolkit" / "arithmetic.py"),
        str(root / "toolkit" / "grading"),
    ]
    bound = [option for path in shown if Path(path).exists() for option in ("--ro-bind", path, path)]
    return [
        *(program, "--unshare-all", "--new-session", "--cap-drop", "ALL"),
        *("--proc", "/proc", "--dev", "/dev", "--size", str(128 * 2**20), "--tmpfs", "/tmp"),  # noqa: S108
        *bound,
        "--",
    ]
