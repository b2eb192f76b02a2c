"""A process with NumPy (or Keras) loaded that forks a fresh one for every submission (Linux).

Between it and the student's process stands a warden: it makes the folder that the student may write to, adopts
whatever the student's process leaves behind (PR_SET_CHILD_SUBREAPER), ends it all when the grader says so or is gone,
watches how full the folder gets, and tells how it ended. Started as a fresh interpreter that never saw a solution.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from toolkit.grading.confinement import Confinement, confine
from toolkit.grading.protocol import send
from toolkit.grading.worker import Worker

_SUBREAPER = 36
# What an editable installation of this project adds to the places where Python looks for modules.
_EDITABLE = "__editable__"
MOST_FILES = 200


def serve(control: int, preload: str, folder: str) -> None:
    """Import what is named in `preload` (separated by commas), then fork a warden for every request until the end.

    A request is one JSON object with three file descriptors: the student's inbox and outbox, and the warden's line.
    `folder` holds those of the students; it is removed at the end, which comes even when the grader is killed.
    """
    _import_all(preload)
    hide()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for wardens
    line = socket.socket(fileno=control)
    while True:
        message, files, _, _ = socket.recv_fds(line, 65536, 3)
        if not message:
            break
        if os.fork() == 0:
            line.close()
            try:
                _guard(json.loads(message), *files)
            finally:
                os._exit(0)
        for file in files:
            os.close(file)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)  # until all wardens have ended
    remove(folder)


def _import_all(names: str) -> None:
    for name in filter(None, names.split(",")):
        with contextlib.suppress(ImportError):  # `resource` is not everywhere; what an exercise needs, it will miss
            importlib.import_module(name)


def hide() -> None:
    """Take the toolkit out of the modules and the path that a student's code sees."""
    root = str(Path(__file__).parents[2])
    sys.path[:] = [entry for entry in sys.path if entry and str(Path(entry).resolve()) != root]
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(_EDITABLE)]
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith(_EDITABLE)
    ]
    for name in [name for name in sys.modules if name.split(".")[0] == "toolkit" or name.startswith(_EDITABLE)]:
        del sys.modules[name]


def _guard(wanted: dict[str, Any], inbox: int, outbox: int, control: int) -> None:
    """The warden: fork the student's process, wait for its end or for the grader's word, then leave nothing behind."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    folder = tempfile.mkdtemp(prefix="student-", dir=wanted["parent"])
    most = wanted["folder_bytes"]
    pid = os.fork()
    if pid == 0:
        os.close(control)
        work(Confinement(folder=folder, **wanted["confinement"]), inbox, outbox)
    os.close(inbox)
    os.close(outbox)
    try:
        why = _watch(pid, control, folder, most)
        code = _end(pid)
    finally:
        remove(folder)
    with contextlib.suppress(OSError):
        os.write(control, json.dumps({"code": code, "why": why}).encode())
    os.close(control)


def work(wanted: Confinement, inbox: int, outbox: int) -> None:
    """Confine this process, say how that went, and serve the grader; never returns."""
    with contextlib.suppress(BaseException):
        try:
            if sys.platform != "win32" and os.getsid(0) != os.getpid():
                os.setsid()
                _let_go(inbox, outbox)
            os.environ.update(HOME=wanted.folder, TMPDIR=wanted.folder, MPLCONFIGDIR=wanted.folder)
            tempfile.tempdir = None
            confine(wanted)
        except Exception as error:
            send(outbox, {"ready": False, "error": f"{type(error).__name__}: {error}"})
            os._exit(1)
        send(outbox, {"ready": True})
        Worker(inbox, outbox).serve()
    os._exit(0)


def work_alone(wanted: str, preload: str) -> None:
    """The work of a fresh process, where nothing is forked: the two lines are standard input and output."""
    inbox, outbox = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # a library that greets when it is imported greets nobody
    _import_all(preload)
    hide()
    work(Confinement(**json.loads(wanted)), inbox, outbox)


def _let_go(inbox: int, outbox: int) -> None:
    """Close every file but the two lines; standard input, output and error become nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    for file in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        if file > 2 and file not in (inbox, outbox):
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(file)


def _watch(pid: int, control: int, folder: str, most: int) -> str:
    """Wait until the process ended ("ended"), the grader has a word or is gone ("stopped"), or the folder is full."""
    process = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(control, select.POLLIN | select.POLLHUP)
    try:
        while True:
            ready = {file for file, _ in poll.poll(50)}
            if process in ready:
                return "ended"
            if ready:
                return "stopped"
            if _is_full(folder, most):
                return "disk"
    finally:
        os.close(process)


def _is_full(folder: str, most: int) -> bool:
    """Whether a folder holds more than `most` bytes, or too many files."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
            if total > most or count >= MOST_FILES:
                return True
    return False


def _end(pid: int) -> int:
    """Kill a process and everything that it left behind; its exit code, negative for a signal."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            for child in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
    return code


def _children() -> list[int]:
    """The processes whose parent this one is."""
    me = os.getpid()
    try:
        return [int(each) for each in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    except OSError:
        return []


def remove(folder: str) -> None:
    """Delete a folder however deep it is, if there is one."""
    if not os.path.lexists(folder):
        return
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        subprocess.run(["rm", "-rf", "--", folder], check=False, capture_output=True)  # noqa: S603, S607
