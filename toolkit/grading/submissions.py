"""Which exercise a file answers, and who handed it in: files, folders and zip archives as courses collect them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from toolkit.errors import InputError
from toolkit.grading.questions import Exercise, Pack

CHECKS = Path("solutions", "checks")
SUFFIXES = (".py", ".ipynb")
LARGEST_FILE, LARGEST_ARCHIVE = 16 * 2**20, 200_000_000
MOST_CANDIDATES, MOST_FILES, DEEPEST = 3, 5000, 6
_HOMES = (Path(__file__).parents[2], Path())  # beside the toolkit as it was cloned, or where we are


# Exercises.


def exercise_names() -> tuple[str, ...]:
    """The stems of all exercises that have checks."""
    found = {path.stem for home in _HOMES for path in (home / CHECKS).glob("ch*.py")}
    return tuple(sorted(found))


@dataclass(frozen=True)
class Source:
    """An exercise with what its checks were read from; `digest` changes when they do."""

    exercise: Exercise
    path: Path
    digest: str


def load_exercise(name: str) -> Source:
    """The exercise of this stem, or of a file of checks that defines `EXERCISE`.

    Raises InputError where there is none, and for a file that cannot be imported.
    """
    path = _checks_file(name)
    module = _import(path, f"grading_checks_{path.stem}")
    exercise = getattr(module, "EXERCISE", None)
    if not isinstance(exercise, Exercise):
        raise InputError(f"{path.name} defines no EXERCISE; write EXERCISE = Exercise(...) in it")
    answers = path.parents[1] / path.name
    return Source(exercise, path, digest([path, *([answers] if answers.is_file() else [])]))


def _checks_file(name: str) -> Path:
    given = Path(name)
    if given.suffix == ".py" and given.is_file():
        return given.resolve()
    for home in _HOMES:
        if (found := home / CHECKS / f"{name}.py").is_file() and name.isidentifier():
            return found.resolve()
    names = ", ".join(exercise_names()) or "none: the folder solutions/ is not here"
    raise InputError(f"there is no exercise {name!r}; there are {names}")


def load_pack(path: Path) -> Pack:
    """An instructor's own cases: the `PACK` of a Python file, functions from a generator to cases, by question.

    Raises InputError for a file that has none.
    """
    if not path.is_file():
        raise InputError(f"there is no pack {str(path)!r}; give a Python file that defines PACK")
    pack = getattr(_import(path.resolve(), "grading_pack"), "PACK", None)
    if not isinstance(pack, dict) or not all(callable(cases) for cases in pack.values()):
        raise InputError(f"{path.name}: PACK has to be a dictionary from a question's name to a function of cases")
    return pack


def _import(path: Path, name: str) -> ModuleType:
    """Import a file of ours, which may import its neighbours: `from solutions import …`."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _on_path(path.parents[2] if path.parent.name == CHECKS.name else path.parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"{path.name} cannot be imported ({type(error).__name__}: {error})") from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def digest(paths: Iterable[Path]) -> str:
    """One number for the content of some files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# Submissions.


@dataclass(frozen=True)
class Task:
    """What one student handed in: files, folders or archives. `folder` is the name of the results' folder."""

    student: str
    folder: str
    paths: tuple[Path, ...]


def stem_in(name: str, stems: Sequence[str]) -> str | None:
    """The exercise that a file's name speaks of.

    >>> stem_in("ana_ch02_parameters (1).py", ["ch02_parameters", "ch03_pooling"])
    'ch02_parameters'
    """
    return next((stem for stem in sorted(stems, key=len, reverse=True) if stem in name), None)


def stem_of(path: Path) -> str:
    """The exercise that a submission, or a folder of submissions, is for; raises InputError where that is not clear."""
    stems = exercise_names()
    if found := stem_in(path.name, stems):
        return found
    inside = {found for each in _files(path) if (found := stem_in(each.name, stems))} if path.is_dir() else set()
    if len(inside) == 1:
        return inside.pop()
    if not stems:
        raise InputError(f"there are no exercises here; go to the folder that holds {CHECKS}")
    why = f"{path.name} holds {', '.join(sorted(inside))}" if inside else f"{path.name} names none"
    raise InputError(f"{why}; say which exercise it is, as in --exercise {stems[0]}")


def tasks(folder: Path, stem: str) -> list[Task]:
    """What is in a folder of submissions, one task for every student.

    A student is a subfolder, an archive, or the files that are called alike but for the exercise's name. Files of
    another exercise are left out.
    """
    stems = [*exercise_names(), stem]
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or stem_in(path.name, stems) not in (stem, None):
            continue
        found.setdefault(student_of(path, stem), []).append(path)
    if not found:
        raise InputError(f"{folder} holds no submission; a file, folder or zip archive for each student was expected")
    taken: set[str] = set()
    return [Task(student, _folder_name(student, taken), tuple(paths)) for student, paths in found.items()]


def student_of(path: Path, stem: str) -> str:
    """The student that a file, a folder or an archive is named for.

    >>> student_of(Path("ana_ch02_parameters.py"), "ch02_parameters"), student_of(Path("bo.zip"), "ch02_parameters")
    ('ana', 'bo')
    """
    name = path.stem if path.suffix in (*SUFFIXES, ".zip") else path.name
    return name.replace(stem, "").strip(" _-.") or name


def _folder_name(student: str, taken: set[str]) -> str:
    """A name that every system takes for a folder, and that nobody else has."""
    wanted = re.sub(r"[^\w-]+", "_", student, flags=re.ASCII)[:60].strip("_") or "student"
    number, name = 1, wanted
    while name.lower() in taken:
        number += 1
        name = f"{wanted}-{number}"
    taken.add(name.lower())
    return name


def candidates(path: Path, stem: str, scratch: Path) -> list[Path]:
    """The files that may answer the exercise, the likeliest first; archives are unpacked into `scratch`.

    Raises InputError, in a sentence, where there is none.
    """
    if path.is_symlink():
        raise InputError(f"{path.name} is a link; a file, a folder or a zip archive was expected")
    if path.is_dir():
        return _named(path, stem)
    if not path.exists():
        raise InputError(f"there is no {path.name}; a .py or .ipynb file was expected")
    if path.suffix.lower() == ".zip":
        require_small_file(path, path.stat(), LARGEST_ARCHIVE)
        return _named(_unpacked(path, scratch), stem)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name}: a .py or .ipynb file, a folder or a zip archive was expected")
    require_small_file(path, path.stat(), LARGEST_FILE)
    return [path]


def _named(path: Path, stem: str) -> list[Path]:
    """The files of a folder that may answer the exercise."""
    there = [each for each in _files(path) if each.suffix in SUFFIXES]
    named = [each for each in there if stem in each.name]
    if not named and len(there) != 1:
        raise InputError(f"{path.name} holds no {stem}.py and no {stem}.ipynb")
    found = sorted(named or there, key=lambda each: (len(each.parts), str(each)))[:MOST_CANDIDATES]
    for each in found:
        require_small_file(each, each.stat(), LARGEST_FILE)
    return found


def require_small_file(path: Path, status: os.stat_result, largest: int) -> None:
    """Raise InputError for a pipe, a device, and a file that is larger than any answer."""
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path.name} is no regular file")
    if status.st_size > largest:
        raise InputError(f"{path.name} has {status.st_size:,} bytes; at most {largest:,} are read")


def _unpacked(archive: Path, scratch: Path) -> Path:
    from toolkit.zips import ZipLimits, unpack_zip

    limits = ZipLimits(files=MOST_FILES, bytes=200_000_000, file_bytes=50_000_000)
    return unpack_zip(archive, scratch / archive.stem, limits)


def _files(folder: Path) -> Iterator[Path]:
    """The regular files beneath a folder, without links and hidden ones; not deeper or more than anyone hands in."""
    count = 0
    for root, folders, names in os.walk(folder):
        deep = len(Path(root).relative_to(folder).parts) >= DEEPEST
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = Path(root, name)
            count += 1
            if count > MOST_FILES:
                return
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path
