"""What a process does to itself before it runs a student's code: limits, another user, Landlock, a system call filter.

Imported in the process that runs the code, so it imports nothing that a student should not find.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from toolkit.grading import landlock, seccomp

if sys.platform != "win32":
    import resource

# Far above the users of a system, so that nothing else runs under these numbers.
_FIRST_USER, _USERS, _NOBODY = 1_879_000_000, 2**16, 65534
_READ_ANYTHING = 2  # CAP_DAC_READ_SEARCH
_CAPABILITIES = 0x20080522  # version 3 of the structure
_KEEP_CAPABILITIES, _DUMPABLE, _NO_NEW_PRIVS = 8, 4, 38
# What Python and its libraries read besides their own folders. All of /usr would be too much: a course may lie in it.
SYSTEM_FOLDERS = (
    *("/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/local/lib", "/usr/share/zoneinfo"),
    *("/usr/share/fonts", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/fonts", "/dev/null"),
    *("/dev/zero", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
    *("/sys/devices/system/node", "/proc/self"),
)


@dataclass(frozen=True)
class Confinement:
    """What a process of a student may use. Bytes and seconds; `folder` is the only place that it may write to.

    `processes` counts all of the user's, on Linux with their threads; 0 for no limit.
    """

    folder: str
    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    processes: int
    rlimits: bool = True
    landlock: bool = True
    seccomp: bool = True


def python_folders() -> list[Path]:
    """Where this Python and its libraries are.

    >>> any((folder / "os.py").is_file() for folder in python_folders())
    True
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {Path(sysconfig.get_path(name)) for name in names}
    found |= {Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix, sys.base_exec_prefix)}
    if not any(path in (Path("/usr/lib"), Path("/lib")) for path in found):
        return sorted(found)
    return sorted(found - {Path("/usr/lib"), Path("/lib")})


def confine(wanted: Confinement) -> None:
    """Enter the folder and give up everything that the confinement does not leave; raises OSError where that fails."""
    os.chdir(wanted.folder)
    if wanted.rlimits:
        _set_limits(wanted)
    if sys.platform == "linux":
        _drop_rights(wanted)
        ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)
    if wanted.landlock:
        landlock.restrict((*python_folders(), *map(Path, SYSTEM_FOLDERS)), (Path(wanted.folder),))
    if wanted.seccomp:
        seccomp.install()


def _set_limits(wanted: Confinement) -> None:
    limits: dict[str, tuple[int, int]] = {
        "RLIMIT_AS": (wanted.memory_bytes,) * 2,
        "RLIMIT_CPU": (wanted.cpu_seconds, wanted.cpu_seconds + 1),
        "RLIMIT_FSIZE": (wanted.file_bytes,) * 2,
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (128, 128),
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
    }
    if wanted.processes:
        limits["RLIMIT_NPROC"] = (wanted.processes,) * 2
    for name, (soft, hard) in limits.items():
        number = getattr(resource, name, None)
        if number is not None:
            highest = resource.getrlimit(number)[1]
            most = soft if highest == resource.RLIM_INFINITY else min(soft, highest)
            with contextlib.suppress(ValueError, OSError):  # macOS has some of them in name only
                resource.setrlimit(number, (most, hard if highest == resource.RLIM_INFINITY else min(hard, highest)))


def _drop_rights(wanted: Confinement) -> None:
    """Where we are root: become a user of our own without root's rights, so that limits hold and signals reach nobody.

    Reading every file is kept where Landlock says which ones, and where Python lies in root's own folder.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kept = 1 << _READ_ANYTHING if wanted.landlock or not all(map(_all_may_read, python_folders())) else 0
    if os.geteuid() == 0:
        libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
        for user in (_FIRST_USER + os.getpid() % _USERS, _NOBODY):
            with contextlib.suppress(OSError):  # a namespace may not have this user
                os.chown(wanted.folder, user, user)
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                break
    header = struct.pack("Ii", _CAPABILITIES, 0)
    for rights in (kept, 0):
        if not libc.capset(header, struct.pack("6I", rights, rights, 0, 0, 0, 0)):
            return


def _all_may_read(folder: Path) -> bool:
    """Whether every user gets into this folder, or it is not there at all."""
    return not folder.exists() or all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))
