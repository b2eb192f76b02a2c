"""A filter of system calls, installed through ctypes: no network, no new process, no look into others (Linux).

The kernel runs the filter before every system call of the process, and nothing can take it off again. Threads are
allowed; what a student's code has no use for and what Landlock does not cover is refused with an error that Python
raises as OSError. Numbers from the kernel's `unistd_64.h` and `asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# name -> its number on x86_64 and on aarch64, None where there is none.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Other processes: new ones, and what reaches into those that are there.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setattr": (314, 274), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # The network, and memory that outlives a process or is not counted.
    "socket": (41, 198), "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279),
    # Files by their names: rights, times and lengths are not Landlock's business.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "sync": (162, 81), "syncfs": (306, 267),
    # The system itself.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "syslog": (103, 116), "vhangup": (153, 58),
    "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
}  # fmt: skip
# Allowed where the first argument is the process itself (or 0, where that means the same).
_ONLY_ONESELF = {"kill": (62, 129), "tgkill": (234, 131)}
_ONLY_ONESELF_OR_ZERO = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122)}
_CLONE = (56, 220)
_CLONE_THREAD = 0x10000
# From this number on, system calls have the same number everywhere; of them, and of those to come, these are allowed:
# close_range, openat2, faccessat2, epoll_pwait2, futex_waitv, futex_wake, futex_wait, futex_requeue, mseal.
_NEWER = 424
_ALLOWED_NEWER = (436, 437, 439, 441, 449, 454, 455, 456, 462)
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
Instruction = tuple[int, int, int, int]


def available() -> bool:
    """Whether this kernel and this processor can filter system calls.

    >>> isinstance(available(), bool)
    True
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # Without a program the kernel says EFAULT where it has filters, EINVAL where it has none.
    return libc.prctl(_SET_SECCOMP, _FILTER, None, 0, 0) != 0 and ctypes.get_errno() == errno.EFAULT


def install() -> None:
    """Filter this process's system calls from now on; raises OSError where the kernel refuses."""
    program = b"".join(struct.pack("HBBI", *each) for each in _program(platform.machine(), os.getpid()))
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter of system calls was refused")


def _program(machine: str, pid: int) -> Iterator[Instruction]:
    """The filter: load the number of the call, compare it with one after the other, return a verdict."""
    architecture, column = _ARCHITECTURES[machine]
    yield from ((_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0))
    yield from ((_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS))
    yield (_AT_LEAST, 0, 2 * len(_ALLOWED_NEWER) + 1, _NEWER)
    for number in _ALLOWED_NEWER:
        yield from ((_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW))
    yield _refuse(errno.ENOSYS)  # clone3, too: the C library asks again with clone, whose flags can be read
    for numbers in _REFUSED.values():
        if (refused := numbers[column]) is not None:
            yield from ((_EQUAL, 0, 1, refused), _refuse(errno.EPERM))
    for numbers in _ONLY_ONESELF.values():
        yield from ((_EQUAL, 0, 4, numbers[column]), (_LOAD, 0, 0, 16), (_EQUAL, 0, 1, pid))
        yield from ((_RETURN, 0, 0, _ALLOW), _refuse(errno.EPERM))
    for numbers in _ONLY_ONESELF_OR_ZERO.values():
        yield from ((_EQUAL, 0, 5, numbers[column]), (_LOAD, 0, 0, 16), (_EQUAL, 1, 0, pid), (_EQUAL, 0, 1, 0))
        yield from ((_RETURN, 0, 0, _ALLOW), _refuse(errno.EPERM))
    yield from ((_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, 16), (_ANY_BIT, 1, 0, _CLONE_THREAD))
    yield from (_refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW))


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)
