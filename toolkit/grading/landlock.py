"""Landlock through ctypes: from here on, this process reads and writes only beneath the paths that it is given (Linux).

Works for ordinary users and inside Docker. Structures and constants from the kernel's `linux/landlock.h`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVS = 38
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 5, 8, 14))
_READ = _READ_FILE | _READ_DIR
# No new folders, links, pipes or devices: one flat folder of regular files is easily counted and removed.
_KEEP = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE
# How many rights over files each version of the interface knows; and rights over the network, and over signals.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3


def version() -> int:
    """The version of Landlock's interface that this kernel has, 0 for none.

    >>> version() >= 0
    True
    """
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Allow reading beneath `readable`, reading and writing regular files in `writable`, and nothing else, for good.

    Paths that are not there are left out. Raises OSError where the kernel refuses.
    """
    known = version()
    rights = (1 << _FILE_RIGHTS.get(known, 16)) - 1
    attributes = struct.pack("QQQ", rights, _ALL_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS)
    size = 8 if known < 4 else 16 if known < 6 else 24
    libc = ctypes.CDLL(None, use_errno=True)
    rules = libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    if rules < 0:
        raise OSError(ctypes.get_errno(), "Landlock was refused")
    try:
        for paths, wanted in ((readable, _READ), (writable, _KEEP)):
            for path in paths:
                _allow(libc, rules, path, wanted & rights)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_RESTRICT, rules, ctypes.c_uint(0)):
            raise OSError(ctypes.get_errno(), "Landlock was refused")
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        file = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
        try:
            folder = stat.S_ISDIR(os.fstat(file).st_mode)
            rule = struct.pack("=Qi", rights if folder else rights & _OF_FILES, file)
            if libc.syscall(_ADD, rules, ctypes.c_uint(1), rule, ctypes.c_uint(0)):
                raise OSError(ctypes.get_errno(), f"Landlock took no rule for {path}")
        finally:
            os.close(file)
