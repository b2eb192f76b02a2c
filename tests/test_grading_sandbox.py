"""What a student's process may do on every level of isolation that this machine has, and what is left of it after."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import InputError
from toolkit.grading import landlock, sandbox, seccomp
from toolkit.grading.sandbox import LEVELS, DiedError, Limits, NoSandboxError, Sandbox, Student, choose, levels

LIMITS = Limits(memory_bytes=2**30, file_bytes=2**20, folder_bytes=4 * 2**20)
SOURCE = b"""
import os, signal, socket, subprocess, sys, threading, time
import numpy as np

def value(text):
    return eval(text)

def run(text):
    names = {}
    exec(text, globals(), names)
    return names.get("found")
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="wardens and forks are Linux's")
walled = pytest.mark.skipif("landlock" not in levels(), reason="this kernel has no Landlock, or no filter of calls")


@pytest.fixture(scope="module", params=levels())
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(request.param, LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def wall() -> Iterator[Sandbox]:
    """The strongest level."""
    with Sandbox(levels()[-1], LIMITS) as made:
        yield made


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def begun(box: Sandbox) -> Student:
    """A process that has loaded the functions above."""
    student = box.start()
    found = student.ask({"do": "load", "name": "answers.py", "source": SOURCE}, soon())
    numbers = list(range(len(found["statements"])))
    assert all(each["error"] is None for each in student.ask_many({"do": "run", "numbers": numbers}, 4, 30, soon()))
    return student


def call(student: Student, name: str, text: str, seconds: float = 30.0) -> dict[str, Any]:
    return student.ask({"do": "call", "name": name, "call": "", "cases": [[text]]}, soon(seconds))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# What works.


def test_a_student_computes_prints_and_writes_in_its_folder(box: Sandbox) -> None:
    student = begun(box)
    assert call(student, "value", "np.arange(3).sum()")["value"] == 3
    assert call(student, "value", "print('hello')")["printed"] == "hello\n"
    assert call(student, "value", "open('a.txt', 'w').write('abc')")["value"] == 3
    assert call(student, "value", "os.listdir()")["value"] == ["a.txt"]
    threads = "found = []; t = threading.Thread(target=found.append, args=[7]); t.start(); t.join()"
    assert call(student, "run", threads)["value"] == [7]
    assert "EOFError" in call(student, "value", "input()")["error"]
    assert call(student, "value", "open('/dev/null').read()")["value"] == ""
    student.stop()


def test_its_folder_goes_and_the_next_one_is_empty(box: Sandbox) -> None:
    first = begun(box)
    call(first, "value", "open('left.txt', 'w').write('abc')")
    folder = call(first, "value", "os.getcwd()")["value"]
    first.stop()
    assert not Path(folder).exists()
    second = begun(box)
    assert call(second, "value", "os.listdir()")["value"] == []
    second.stop()


def test_the_toolkit_and_the_environment_are_not_there(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    student = begun(box)
    root = str(Path(sandbox.__file__).parents[2])
    assert root not in call(student, "value", "sys.path")["value"]
    assert (
        call(student, "value", "[name for name in sys.modules if 'toolkit' in name or 'solutions' in name]")["value"]
        == []
    )
    assert not {"USER", "PYTHONPATH", "SSH_AUTH_SOCK"} & set(call(student, "value", "list(os.environ)")["value"])
    student.stop()


# How it ends.

STRAY = """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(w, str(os.getpid()).encode())
        time.sleep(60)
    os._exit(0)
found = int(os.read(r, 20))
"""
GRADER = """
import sys, time
sys.path.insert(0, {root!r})
from toolkit.grading.sandbox import Sandbox
student, until = Sandbox("rlimits").start(), time.monotonic() + 30
student.ask({{"do": "load", "name": "a.py", "source": b"import os\\ndef pid(): return os.getpid()"}}, until)
list(student.ask_many({{"do": "run", "numbers": [0, 1]}}, 2, 9, until))
print(student.ask({{"do": "call", "name": "pid", "call": "", "cases": [[]]}}, until)["value"], flush=True)
time.sleep(60)
"""


def test_endings_are_told_in_words(box: Sandbox) -> None:
    for text, said in (
        ("os._exit(3)", r"ended the process .exit status 3."),
        ("os.kill(os.getpid(), 11)", r"crashed the process .SIGSEGV."),
        ("time.sleep(60)", "took longer than its time"),
    ):
        with pytest.raises(DiedError, match=said):
            call(begun(box), "value", text, 1.0)


def test_replies_that_are_none_end_it(box: Sandbox) -> None:
    lines = "[file for file in range(3, 64) if os.path.exists(f'/dev/fd/{file}')] or range(3, 64)"
    for junk in ("b'x' * 64", "bytes(7) + b'\\x01N'"):
        student = begun(box)
        written = f"for file in {lines}:\n try: os.write(file, {junk})\n except OSError: pass"
        with pytest.raises(DiedError, match=r"cannot be read|another question"):
            call(student, "run", written)


@linux
def test_what_it_leaves_behind_is_ended_with_it() -> None:
    """Where processes can be started, even one that has left its session goes when the submission does."""
    with Sandbox("rlimits", LIMITS) as box:
        student = begun(box)
        pid = call(student, "run", STRAY)["value"]
        assert alive(pid)
        student.stop()
        assert not alive(pid)


@linux
def test_a_copy_of_the_process_does_not_answer() -> None:
    with Sandbox("rlimits", LIMITS) as box:
        student = begun(box)
        assert call(student, "run", "found = 0 if os.fork() == 0 else 1")["value"] == 1
        assert call(student, "value", "6 * 7")["value"] == 42
        student.stop()


@linux
def test_nothing_goes_on_when_the_grader_is_killed(tmp_path: Path) -> None:
    code = GRADER.format(root=str(Path(sandbox.__file__).parents[2]))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as grader:
        assert grader.stdout is not None
        pid = int(grader.stdout.readline())
        assert alive(pid)
        assert list(tmp_path.iterdir())
        grader.kill()
    until = soon()
    while (alive(pid) or list(tmp_path.iterdir())) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)
    assert not list(tmp_path.iterdir())


@linux
def test_a_server_that_died_is_started_again() -> None:
    with Sandbox("landlock" if "landlock" in levels() else "process", LIMITS) as box:
        begun(box).stop()
        assert box._server is not None
        box._server.kill()
        box._server.wait()
        student = begun(box)
        assert call(student, "value", "1 + 1")["value"] == 2
        student.stop()
    folder = Path(box._folder)
    assert not folder.exists()


# Limits.


def test_memory_has_a_limit(box: Sandbox) -> None:
    if box.level == "process":
        pytest.skip("this level has no limit of memory")
    student = begun(box)
    assert "MemoryError" in call(student, "value", "bytes(3 * 2**30)")["error"]
    assert call(student, "value", "1 + 1")["value"] == 2
    student.stop()


def test_files_and_their_folder_have_a_limit(box: Sandbox) -> None:
    if box.level != "process":
        student = begun(box)
        assert "File too large" in call(student, "value", "open('a', 'wb').write(bytes(2 * 2**20))")["error"]
        student.stop()
    many = "for number in range(400):\n open(str(number), 'wb').write(bytes(2**19)); time.sleep(0.002)"
    with pytest.raises(DiedError, match="wrote more files than it may"):
        call(begun(box), "run", many + "\ntime.sleep(30)")


def test_output_has_a_limit(box: Sandbox) -> None:
    student = begun(box)
    answer = call(student, "value", "[print('x' * 10**6) for _ in range(20)] and 1")
    assert answer["value"] == 1
    assert 1000 < len(answer["printed"]) < 10_000
    student.stop()


def test_cpu_time_has_a_limit() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no limit of CPU time")
    with Sandbox("rlimits", Limits(cpu_seconds=1)) as box, pytest.raises(DiedError, match=r"CPU time|SIGKILL"):
        call(begun(box), "run", "while True: pass", 60)


# What the strong levels refuse.

REFUSED = {
    "a fork": "os.fork()",
    "another program": "subprocess.run(['true'])",
    "a socket": "socket.socket()",
    "a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a local socket": "socket.socket(socket.AF_UNIX)",
    "signals": "os.kill(os.getppid(), 9)",
    "signals to everybody": "os.kill(-1, 15)",
    "the limits of others": "__import__('resource').prlimit(os.getppid(), 7, (1, 1))",
    "the system's users": "open('/etc/passwd').read()",
    "the parent's memory": "open(f'/proc/{os.getppid()}/mem').read()",
    "the solutions": f"open({str(Path(__file__))!r}).read()",
    "the project's folder": f"os.listdir({str(Path(__file__).parent)!r})",
    "a file elsewhere": f"open({str(Path(__file__).parent / 'written')!r}, 'w')",
    "temporary files elsewhere": "open('/tmp/elsewhere-cnn', 'w')",
    "rights of files": "os.chmod('/tmp', 0o700)",
    "folders": "os.mkdir('folder')",
    "links": "os.symlink('/etc', 'etc')",
    "pipes": "os.mkfifo('pipe')",
    "memory that is shared": "os.memfd_create('a')",
    "another root": "os.chroot('.')",
    "priorities": "os.setpriority(os.PRIO_USER, 0, 19)",
}


@walled
@pytest.mark.parametrize("level", [level for level in ("landlock", "bubblewrap") if level in levels()])
def test_what_the_strong_levels_refuse(level: str) -> None:
    with Sandbox(level, LIMITS) as box:
        student = begun(box)
        got = {what: call(student, "value", text) for what, text in REFUSED.items()}
        student.stop()
    allowed = {what: answer for what, answer in got.items() if "value" in answer}
    assert not allowed
    assert all("Error: " in answer["error"] for answer in got.values())


@walled
def test_two_students_do_not_meet(wall: Sandbox) -> None:
    one, other = begun(wall), begun(wall)
    folder = call(one, "value", "os.getcwd()")["value"]
    call(one, "value", "open('secret', 'w').write('abc')")
    assert "Error" in call(other, "value", f"open({folder + '/secret'!r}).read()")["error"]
    pid = call(one, "value", "os.getpid()")["value"]
    assert "PermissionError" in call(other, "value", f"os.kill({pid}, 9)")["error"]
    assert call(one, "value", "1")["value"] == 1
    one.stop()
    other.stop()


# Fresh interpreters, as on Windows and macOS.


@pytest.mark.parametrize("level", [level for level in ("process", "rlimits", "landlock") if level in levels()])
def test_a_fresh_interpreter_does_the_same(level: str) -> None:
    with Sandbox(level, LIMITS, fork=False) as box:
        student = begun(box)
        assert call(student, "value", "np.ones(3)")["value"].tolist() == [1, 1, 1]
        folder = call(student, "value", "os.getcwd()")["value"]
        with pytest.raises(DiedError, match="took longer"):
            call(student, "value", "time.sleep(60)", 0.3)
        assert not Path(folder).exists()
        with pytest.raises(DiedError, match="exit status 5"):
            call(begun(box), "value", "os._exit(5)")


# The ladder.


def test_the_ladder() -> None:
    there = levels()
    assert there[0] == "process"
    assert list(there) == sorted(there, key=LEVELS.index)
    assert choose() == there[-1]
    assert choose(require="process") == there[-1]
    with pytest.raises(InputError, match="isolation is one of"):
        choose("magic")
    with pytest.raises(InputError, match="is required"):
        choose("process", require="landlock")


def test_a_level_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "levels", lambda: ("process",))
    with pytest.raises(InputError, match="cannot give the isolation 'landlock'"):
        choose("landlock")
    with pytest.raises(InputError, match="'landlock' is required and 'process' is what there is"):
        choose(require="landlock")
    assert choose() == "process"


@walled
def test_no_student_runs_where_the_walls_do_not_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process whose confinement fails says so and ends; nothing is run without it."""
    with Sandbox("landlock", LIMITS) as box:
        monkeypatch.setattr(box, "_folder", str(tmp_path / "missing"))
        with pytest.raises(NoSandboxError, match="no process could be started under 'landlock'"):
            box.start()
        monkeypatch.undo()


# The filter of system calls, run by a machine of our own: it has to hold on processors that this one is not.

NUMBERS = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000


def verdict(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    """What the filter says to a call of process 77, by the rules of the kernel's `filter.rst`."""
    program = list(seccomp._program(machine, 77))
    assert len(program) < 4096
    arch = NUMBERS[machine][0] if architecture is None else architecture
    loaded, at = 0, 0
    while True:
        code, yes, no, value = program[at]
        assert 0 <= yes < 256
        assert 0 <= no < 256
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = {0: number, 4: arch, 16: first}[value]
            at += 1
            continue
        true = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += 1 + (yes if true else no)


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter(machine: str) -> None:
    column = NUMBERS[machine][1]
    for name, numbers in seccomp._REFUSED.items():
        if (number := numbers[column]) is not None:
            assert verdict(machine, number) == EPERM, name
    kill, clone, prlimit = (62, 129)[column], (56, 220)[column], (302, 261)[column]
    assert [verdict(machine, kill, pid) for pid in (77, 78, 0, 2**32 - 1)] == [ALLOW, EPERM, EPERM, EPERM]
    assert [verdict(machine, prlimit, pid) for pid in (77, 0, 78)] == [ALLOW, ALLOW, EPERM]
    assert verdict(machine, clone, 0x3D0F00) == ALLOW  # what pthread_create asks for
    assert verdict(machine, clone, 0x01200011) == EPERM  # what fork asks for
    read, write, mmap = ((0, 1, 9), (63, 64, 222))[column]
    assert {verdict(machine, number) for number in (read, write, mmap)} == {ALLOW}
    assert verdict(machine, 435) == ENOSYS  # clone3, whose flags a filter cannot read
    assert {verdict(machine, number) for number in (424, 425, 434, 452, 463, 470)} == {ENOSYS}
    assert verdict(machine, 439) == ALLOW
    assert verdict(machine, read, architecture=0x40000003) == KILL  # 32 bits have other numbers
    assert verdict(machine, 0x40000000 + read) == ENOSYS


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_the_kernel_s(machine: str, header: str) -> None:
    import re

    if not Path(header).is_file():
        pytest.skip("the kernel's headers are not here")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    named = {**seccomp._REFUSED, **seccomp._ONLY_ONESELF, **seccomp._ONLY_ONESELF_OR_ZERO, "clone": seccomp._CLONE}
    for name, numbers in named.items():
        ours = numbers[NUMBERS[machine][1]]
        assert str(ours) == known.get(name, "None"), name


def test_landlock_says_what_it_is() -> None:
    assert landlock.version() >= 0
    assert seccomp.available() in (True, False)
    assert (landlock.version() > 0 and seccomp.available()) == ("landlock" in levels())


def test_endings_of_every_kind() -> None:
    assert sandbox._ending({"code": -24, "why": "ended"}).startswith(("used more CPU", "crashed"))
    assert sandbox._ending({"code": -9, "why": "disk"}) == "wrote more files than it may"
    assert sandbox._ending({}) == "ended the process"
    assert sandbox._ending({"code": -signal.SIGKILL, "why": "ended"}) == "crashed the process (SIGKILL)"
    assert os.name == "posix" or sys.platform == "win32"
