"""Somebody's zip file into a folder of our own, whatever is in it: all of it or nothing.

A zip can name places outside its folder ("zip slip"), hold links, say that it is small and be huge (D. Fifield, A
better zip bomb, 2019), or have a million empty files. Every name is looked at before anything is written, bytes are
counted while they come, and the folder appears with its last file.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError

_CHUNK = 1 << 18
_LONGEST_NAME, _DEEPEST = 200, 8
_ENCRYPTED = 0x1
# What Python unpacks a piece at a time. Of LZMA and bzip2 it takes whole blocks into memory, however large they grow.
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# An entry of the directory: 46 bytes, a name, and what else writers put there. Its end has at most 64 KiB of comment.
_ENTRY_BYTES = 46 + 254
_END_BYTES = 22 + 0xFFFF + 76
# Names that Windows keeps for devices, and letters that it has no files with.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_FORBIDDEN = set('<>:"|?*\\')
_LEFT_OUT = ("__macosx", ".", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class ZipLimits:
    """What a zip may hold: files, bytes of all of them unpacked, and bytes of one; its own size is that of the caller.

    Raises InputError for a limit below 1.
    """

    files: int = 20_000
    bytes: int = 2_000_000_000
    file_bytes: int = 50_000_000

    def __post_init__(self) -> None:
        for name in ("files", "bytes", "file_bytes"):
            require_whole(name, getattr(self, name))


def unpack_zip(
    file: str | os.PathLike[str] | IO[bytes], folder: str | os.PathLike[str], limits: ZipLimits | None = None
) -> Path:
    """Unpack a zip into a new folder, which is returned: all of it, or nothing is left.

    What systems put beside people's files (`__MACOSX`, names that begin with a dot, Thumbs.db) is left out. Raises
    InputError, before anything is written where that can be known: no zip or a damaged one, encrypted, above the
    limits, with links, with names that lead out of the folder, that are none on some system, or the same to it.
    """
    limits = limits or ZipLimits()
    try:
        _require_few_entries(file, limits)
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, limits)
            with new_folder(folder) as part:
                _unpack(archive, members, part, limits)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no file {error.filename}; give the path of a zip file") from None
    except OSError as error:
        raise InputError(
            f"the zip file cannot be unpacked ({error.strerror or error}); nothing of it was kept"
        ) from error
    except Exception as error:  # damaged bytes can make a reader raise anything
        raise InputError(f"the zip file is damaged or is none ({error}); make it anew") from error
    return Path(folder)


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder that appears when the block ends: until then its files lie beside it, and go where the block fails.

    Raises InputError where it exists already, or cannot be made.
    """
    target = Path(folder)
    if target.exists():
        raise InputError(f"{target} exists already; give the name of a new folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    except OSError as error:
        raise InputError(
            f"{target} cannot be made ({error.strerror}); choose a folder that you may write to"
        ) from error
    try:
        yield part
        part.chmod(0o755)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _require_few_entries(file: str | os.PathLike[str] | IO[bytes], limits: ZipLimits) -> None:
    """Refuse a directory longer than that of so many files, before it is read: each of its entries takes memory.

    Its length stands 12 bytes into the last record and 40 into the one of 64 bits before it, where there is one
    (PKWARE's APPNOTE, 4.3.14 and 4.3.16); whatever looks like either counts, because readers differ in which they take.
    """
    with Path(file).open("rb") if isinstance(file, str | os.PathLike) else nullcontext(file) as raw:
        raw.seek(0, os.SEEK_END)
        raw.seek(max(0, raw.tell() - _END_BYTES))
        end = raw.read()
    told = [end[at.start() + 12 : at.start() + 16] for at in re.finditer(b"PK\x05\x06", end)]
    told += [end[at.start() + 40 : at.start() + 48] for at in re.finditer(b"PK\x06\x06", end)]
    size = max((int.from_bytes(each, "little") for each in told if each != b"\xff" * 4), default=0)
    if size > 2 * limits.files * _ENTRY_BYTES:  # folders count as well
        raise InputError(
            f"a zip of at most {limits.files:,} files was expected; its directory alone has {size:,} bytes"
        )


def _members(archive: zipfile.ZipFile, limits: ZipLimits) -> list[zipfile.ZipInfo]:
    """The files to unpack, when all of them may be."""
    infos = archive.infolist()
    if len(infos) > 2 * limits.files:  # folders count as well
        raise InputError(f"a zip of at most {limits.files:,} files was expected; it has {len(infos):,} entries")
    for info in infos:
        _require_harmless(info)
    members = [info for info in infos if not info.is_dir() and not _is_left_out(info.filename)]
    if not members:
        raise InputError("the zip file holds no files; put a folder of photos for each class into it")
    if len(members) > limits.files:
        raise InputError(f"a zip of at most {limits.files:,} files was expected; it has {len(members):,}")
    for info in members:
        _require_size(info.filename, info.file_size, limits.file_bytes)
    _require_total(sum(info.file_size for info in members), limits)
    _require_different([info.filename for info in members])
    return members


def _is_left_out(name: str) -> bool:
    return any(part.lower().startswith(_LEFT_OUT) for part in PurePosixPath(name).parts)


def _require_harmless(info: zipfile.ZipInfo) -> None:
    """Refuse what is encrypted, what is no file or folder, and names that are not plain."""
    name = info.filename
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)[:80]
    if info.flag_bits & _ENCRYPTED:
        raise InputError(f"{shown!r} in the zip file is encrypted; make it anew without a password")
    if info.compress_type not in _PACKINGS:
        raise InputError(
            f"{shown!r} in the zip file is packed in an unusual way; make it anew with ordinary compression"
        )
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InputError(f"{shown!r} in the zip file is a link or a device; files and folders were expected")
    # Python cuts a name at a zero byte, and what stands in the file is what other programs would use.
    if not _is_plain(name) or not _is_plain(info.orig_filename.replace("\\", "/")):
        raise InputError(
            f"{shown!r} in the zip file is no plain name inside a folder; give it one of letters and digits"
        )


def _is_plain(name: str) -> bool:
    """Whether a name stays inside its folder, on every system.

    >>> [_is_plain(name) for name in ("cats/1.jpg", "../1.jpg", "/1.jpg", "C:/1.jpg", "cats/nul.jpg", "cats/1.jpg ")]
    [True, False, False, False, False, False]
    """
    parts = name.removesuffix("/").split("/")
    return len(name) <= _LONGEST_NAME and len(parts) <= _DEEPEST and all(map(_is_plain_part, parts))


def _is_plain_part(part: str) -> bool:
    printable = part.isprintable() and not _FORBIDDEN & set(part)
    return bool(part) and printable and part[-1] not in ". " and part.lower().partition(".")[0] not in _DEVICES


def _require_different(names: Sequence[str]) -> None:
    """Refuse names that are one to a system which does not tell capitals, and a file where another needs a folder."""
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise InputError(f"{name[:80]!r} comes twice in the zip file; every file needs a name of its own")
        seen.add(name.lower())
    for name in names:
        above = next((str(folder) for folder in PurePosixPath(name.lower()).parents if str(folder) in seen), None)
        if above is not None:
            raise InputError(f"{above[:80]!r} in the zip file is a file and a folder; give one of them another name")


def _require_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise InputError(f"{name[:80]!r} in the zip file has more than {limit:,} bytes; make it smaller")


def _require_total(size: int, limits: ZipLimits) -> None:
    if size > limits.bytes:
        raise InputError(f"the zip file has more than {limits.bytes:,} bytes when it is unpacked; give fewer photos")


def _unpack(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], folder: Path, limits: ZipLimits) -> None:
    """Write the files, and trust no size that was promised."""
    total = 0
    for info in members:
        target = folder / PurePosixPath(info.filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as packed, target.open("xb") as file:
            size = 0
            while chunk := packed.read(_CHUNK):
                size += len(chunk)
                total += len(chunk)
                _require_size(info.filename, size, limits.file_bytes)
                _require_total(total, limits)
                file.write(chunk)
