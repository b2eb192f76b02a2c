"""Which images there are: their locations (URLs and paths), their labels, and nothing else of them in memory.

A list of 50,000 URLs that was read from a file is one piece of bytes and an array of offsets, not 50,000 objects.
"""

from __future__ import annotations

import csv
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError
from toolkit.streaming.locations import REFUSED, scheme

Labels = NDArray[np.int64]

URL_COLUMNS = ("url", "location", "image_url", "image", "path", "file_name", "filename", "file")
LABEL_COLUMNS = ("label", "class", "target", "category", "class_name", "label_name", "y")

_LONGEST_LINE = 65_536  # bytes
_PARQUET_ROWS = 8_192  # read at once
_PARTS = frozenset({"train", "test", "val", "valid", "validation"})


class Lines(Sequence[str]):
    """Texts in one piece of memory.

    >>> lines = Lines(["a", "bc"])
    >>> lines[1], list(lines[::-1])
    ('bc', ['bc', 'a'])
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._blob = bytearray()
        self._ends = array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add a text at the end."""
        self._blob += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._blob))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _View(self, range(len(self))[index])
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        return self._blob[start : self._ends[index]].decode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class _View(Sequence[str]):
    """Some of a sequence, in the order of `indices`, without a copy."""

    base: Sequence[str]
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _View(self.base, self.indices[index])
        return self.base[self.indices[index]]


@dataclass(frozen=True, eq=False)
class Source:
    """Locations and labels of samples, in the order of the source.

    labels: int64 (n,), from 0; all 0 where the source has none. class_names: by number; may be empty.
    `numbers[i]` is what sample i is called where this is a part of a larger source.
    """

    locations: Sequence[str] = field(repr=False)
    labels: Labels = field(repr=False)
    class_names: tuple[str, ...] = ()
    name: str = "images"
    numbers: Sequence[int] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", self.numbers or range(len(self.locations)))
        if self.labels.shape != (len(self.locations),):
            raise InputError(
                f"a label for each of the {len(self.locations)} images was expected; "
                f"labels of shape {self.labels.shape} came"
            )
        _require_range(self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.locations)

    def part(self, index: int, count: int) -> Source:
        """Part `index` of `count`: every count-th sample. The parts hold every sample once, and sizes differ by 1.

        >>> source = read_source(["a.jpg", "b.jpg", "c.jpg"], [0, 1, 0])
        >>> list(source.part(0, 2).locations), list(source.part(1, 2).locations)
        (['a.jpg', 'c.jpg'], ['b.jpg'])
        """
        require_part(index, count)
        locations = _View(self.locations, range(len(self))[index::count])
        numbers = self.numbers[index::count]
        return Source(locations, self.labels[index::count], self.class_names, self.name, numbers)


def require_part(index: int, count: int) -> None:
    """Raise InputError unless `index` is one of `count` parts, counted from 0."""
    if require_whole("the number of the part", index, 0) >= require_whole("the number of parts", count):
        raise InputError(f"parts are numbered from 0 to {count - 1} when there are {count}; {index} came")


def read_source(
    what: Source | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    labels: Iterable[int] | Iterable[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    url_column: str | None = None,
    label_column: str | None = None,
    stores: bool = False,
) -> Source:
    """Samples from a list, a file of locations, or a folder of images by class.

    A list holds URLs or paths, and `labels` a number or a name for each. A file is .txt (a location a line, or
    location, tab, label; empty lines and lines that begin with # do not count), .csv, .tsv, .jsonl or .parquet with a
    column for each (`url_column` and `label_column` where they are not called as usual); paths in it are relative to
    its folder. A folder holds a subfolder for each class; with `stores` it may be in an object store
    (`s3://bucket/photos`). Names become numbers in their sorted order, or in that of `class_names`. Without
    labels, all are 0.
    Raises InputError, with the number of the line, for anything else.

    >>> read_source(["https://a.org/1.jpg", "cats/2.jpg"], ["dog", "cat"]).labels
    array([1, 0])
    """
    names = tuple(class_names) if class_names is not None else None
    if isinstance(what, (str, os.PathLike, Source)):
        if labels is not None:
            raise InputError("labels belong to a list of locations; a file or folder brings its own: leave labels out")
        if isinstance(what, Source):
            return what
        if scheme(os.fspath(what)):
            return _read_store(os.fspath(what), names, stores)
        return _read_path(Path(what), names, url_column, label_column)
    locations = _locations(what)
    numbers, names = _numbers(labels, len(locations), names)
    return Source(locations, numbers, names)


def _read_path(path: Path, names: tuple[str, ...] | None, url_column: str | None, label_column: str | None) -> Source:
    if path.is_dir():
        return _read_folder(path, names)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} should be a folder of images by class or a file of locations ({', '.join(_READERS)}); "
            f"{'such a file' if path.exists() else 'nothing'} is there"
        )
    found = _Found(path)
    try:
        reader(found, _Columns(url_column, label_column))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file that you may open") from error
    return found.source(names)


# Lists


def _locations(what: Iterable[str | os.PathLike[str]]) -> Sequence[str]:
    """The list itself where it holds texts, so that nothing is copied."""
    if isinstance(what, (list, tuple)) and all(type(each) is str for each in what):
        return what
    lines = Lines()
    for number, each in enumerate(what):
        if not isinstance(each, (str, os.PathLike)):
            raise InputError(f"a list of URLs and paths was expected; number {number} (from 0) is {each!r:.80}")
        lines.append(os.fspath(each))
    return lines


def _numbers(
    labels: Iterable[int] | Iterable[str] | None, count: int, names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    if labels is None:
        return np.zeros(count, np.int64), names or ()
    given = np.asarray(labels if isinstance(labels, np.ndarray) else list(labels))
    if given.shape != (count,):
        raise InputError(f"a label for each of the {count} images was expected; labels of shape {given.shape} came")
    if given.dtype.kind in "iu" or not count:
        return given.astype(np.int64), names or ()
    if given.dtype.kind not in "UO" or not all(isinstance(each, str) for each in given):
        raise InputError(f"labels are whole numbers or names; {given.dtype} such as {given[0]!r} came")
    found, codes = np.unique(given.astype(np.str_), return_inverse=True)
    return _renumbered(codes, [str(name) for name in found], names)


def _renumbered(
    codes: NDArray[Any], found: Sequence[str], names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    """Codes that number `found` as numbers of `names`, or of `found` sorted."""
    names = tuple(sorted(found)) if names is None else names
    places = {name: number for number, name in enumerate(names)}
    unknown = [name for name in found if name not in places]
    if unknown:
        raise InputError(f"labels should be among class_names ({', '.join(names)[:200]}); {unknown[0]!r} came")
    return np.array([places[name] for name in found], np.int64)[codes], names


def _require_range(labels: Labels, names: tuple[str, ...]) -> None:
    if len(labels) and labels.min() < 0:
        raise InputError(f"labels are numbers from 0; {labels.min()} came")
    if len(labels) and names and labels.max() >= len(names):
        raise InputError(f"labels should be below {len(names)}, the number of class_names; {labels.max()} came")


# Files


class _Columns(NamedTuple):
    """The names that the user gave."""

    url: str | None
    label: str | None


class _Found:
    """What a file holds, as it is read: locations, and codes of the labels in the order in which they were met."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.parent
        self._lines = Lines()
        self._codes = array("q")
        self._places: dict[str, int] = {}

    def error(self, number: int, expected: str, came: str) -> InputError:
        return InputError(f"line {number} of {self.path} should have {expected}; {came} came")

    def add(self, number: int, location: object, label: object = None) -> None:
        """Line `number` has this; a label of None means that it has none, as then all others must."""
        if not isinstance(location, str) or not location.strip():
            raise self.error(number, "a URL or path", f"{location!r:.80}")
        if isinstance(label, bool) or not isinstance(label, (str, int, type(None))) or label == "":
            raise self.error(number, "a label that is a whole number or a name", f"{label!r:.80}")
        if len(self._lines) and (label is None) != (not self._codes):
            raise self.error(number, "a label as the others, or none as the others", f"{label!r:.80}")
        self._lines.append(self._placed(location.strip()))
        if label is not None:
            self._codes.append(self._places.setdefault(str(label).strip(), len(self._places)))

    def _placed(self, location: str) -> str:
        return location if scheme(location) else str(self._folder / location)

    def source(self, names: tuple[str, ...] | None) -> Source:
        if not len(self._lines):
            raise InputError(f"{self.path} should have a URL or path a line; it has none")
        found = list(self._places)
        codes = np.frombuffer(self._codes, np.int64) if self._codes else np.zeros(len(self._lines), np.int64)
        known = names is not None and all(name in names for name in found)
        if not known and all(_is_number(name) for name in found):
            labels = np.array([int(name) for name in found] or [0], np.int64)[codes]
            return Source(self._lines, labels, names or (), self.path.stem)
        labels, names = _renumbered(codes, found, names)
        return Source(self._lines, labels, names, self.path.stem)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 19


def _text_lines(found: _Found, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbered lines; a file without line ends is refused before it fills the memory."""
    for number, raw in enumerate(iter(partial(file.readline, _LONGEST_LINE + 1), b""), 1):
        if len(raw) > _LONGEST_LINE:
            raise found.error(number, f"at most {_LONGEST_LINE:,} bytes", "more")
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise found.error(number, "text in UTF-8", f"{raw[:40]!r}") from None


def _read_txt(found: _Found, _: _Columns) -> None:
    with found.path.open("rb") as file:
        for number, line in _text_lines(found, file):
            location, tab, label = line.rstrip("\r\n").partition("\t")
            if line.strip() and not line.startswith("#"):
                found.add(number, location, label.strip() if tab else None)


def _read_csv(found: _Found, columns: _Columns, delimiter: str = ",") -> None:
    with found.path.open("rb") as file:
        rows = csv.reader((line for _, line in _text_lines(found, file)), delimiter=delimiter, strict=True)
        try:
            url, label = _find_columns(found, 1, next(rows, []), columns)
            for row in rows:
                if row and len(row) <= max(url, -1 if label is None else label):
                    raise found.error(rows.line_num, "as many columns as the first line", f"{len(row)}")
                if row:
                    found.add(rows.line_num, row[url], None if label is None else row[label])
        except csv.Error as error:
            raise found.error(rows.line_num, "cells as CSV has them", f"something else ({error})") from error


def _find_columns(found: _Found, number: int, heads: Sequence[str], columns: _Columns) -> tuple[int, int | None]:
    """The places of the two columns; the label's is None where there is none and none was asked for."""
    names = [head.strip().lower() for head in heads]
    url = _find_column(names, columns.url, URL_COLUMNS)
    label = _find_column(names, columns.label, LABEL_COLUMNS)
    came = ", ".join(heads)[:200] or "nothing"
    if url is None:
        wanted = columns.url or f"one of {', '.join(URL_COLUMNS)}"
        raise found.error(number, f"a name for the column of locations ({wanted}; url_column says which)", came)
    if label is None and columns.label:
        raise found.error(number, f"the column {columns.label}, which label_column names", came)
    return url, label


def _find_column(names: Sequence[str], given: str | None, usual: Sequence[str]) -> int | None:
    wanted = [given.lower()] if given else usual
    return next((names.index(name) for name in wanted if name in names), None)


def _read_jsonl(found: _Found, columns: _Columns) -> None:
    with found.path.open("rb") as file:
        for number, line in _text_lines(found, file):
            if line.strip():
                record = _record(found, number, line)
                values = tuple(record.values())
                url, label = _find_columns(found, number, tuple(record), columns)
                found.add(number, values[url], None if label is None else values[label])


def _record(found: _Found, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise found.error(number, "a JSON object", repr(line[:80]))
    return record


def _read_parquet(found: _Found, columns: _Columns) -> None:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(f"{found.path} needs pyarrow: pip install pyarrow, or give a .csv") from error
    try:
        with parquet.ParquetFile(found.path) as file:
            heads = file.schema_arrow.names
            url, label = _find_columns(found, 1, heads, columns)
            wanted = [heads[url]] if label is None else [heads[url], heads[label]]
            number = 0
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                for row in zip(*(batch.column(name).to_pylist() for name in wanted), strict=True):
                    number += 1
                    found.add(number, *row)
    except ArrowException as error:
        raise InputError(f"{found.path} should be a Parquet file; it is none, or damaged ({error})") from error


_READERS: dict[str, Callable[[_Found, _Columns], None]] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


# Folders


def _read_folder(folder: Path, names: tuple[str, ...] | None) -> Source:
    """Every file below a class folder, in an order that is the same on every machine; hidden ones are left out."""
    classes = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__")))
    if not classes:
        raise InputError(f"{folder} should hold a subfolder of images for each class; it holds none")
    if names is None and {name.lower() for name in classes} <= _PARTS:
        raise InputError(f"{folder} holds {', '.join(classes)}; choose one of them, such as {folder / classes[0]}")
    return _by_class(folder, classes, (_files(folder / name) for name in classes), names)


def _by_class(
    folder: Path | str, classes: Sequence[str], files: Iterable[Iterable[str]], names: tuple[str, ...] | None
) -> Source:
    """The files of each class."""
    lines = Lines()
    ends = [0]
    for several in files:
        for file in several:
            lines.append(file)
        ends.append(len(lines))
    if not len(lines):
        raise InputError(f"the subfolders of {folder} should hold images; they are empty")
    codes = np.repeat(np.arange(len(classes)), [stop - start for start, stop in pairwise(ends)])
    labels, names = _renumbered(codes, classes, names)
    return Source(lines, labels, names, Path(folder).name)


def _files(folder: Path) -> Iterator[str]:
    """The files below a folder: those of each folder sorted, before those of its subfolders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(root, name) for name in sorted(names) if not name.startswith("."))  # noqa: PTH118


def _read_store(where: str, names: tuple[str, ...] | None, allowed: bool) -> Source:
    """The objects below a URL that fsspec can list, by the first part of their path; hidden ones are left out."""
    if scheme(where) in {"http", "https", *REFUSED}:
        raise InputError(
            f"a list, a file on this machine, or a folder here or in an object store was expected; the URL "
            f"{where[:80]!r} came; put a single image into a list, and download a file of URLs first"
        )
    if not allowed:
        raise InputError(f"{where[:80]!r} is listed only where a script says allow_private=True (--allow-private)")
    root, found = _listed(where)
    classes = sorted({name.split("/")[0] for name in found if "/" in name})
    if not classes:
        raise InputError(f"{where} should hold a subfolder of images for each class; it holds none")
    return _by_class(
        where, classes, ((f"{root}/{name}" for name in found if name.startswith(f"{each}/")) for each in classes), names
    )


def _listed(where: str) -> tuple[str, list[str]]:
    """The URL without a slash at its end, and the sorted names of what is below it."""
    from fsspec.core import url_to_fs

    try:
        store, path = url_to_fs(where)
        found = [name.removeprefix(path).lstrip("/") for name in store.find(path)]
    except Exception as error:  # each store has its own
        raise InputError(
            f"{where} cannot be listed ({type(error).__name__}: {str(error)[:200]}); it should be a folder in an "
            "object store that fsspec knows, and its package must be installed"
        ) from error
    return where.rstrip("/"), sorted(
        name for name in found if not any(each.startswith(".") for each in name.split("/"))
    )
