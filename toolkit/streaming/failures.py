"""What can go wrong with one sample, in words, and the report that counts it.

A bad sample never raises out of a stream: it becomes a `Failure` with one of these causes, which the report counts,
keeps (the first thousand) and appends to a CSV file where one is named.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Mapping
from enum import StrEnum
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from toolkit.show import columns

MOST_KEPT = 1_000
"""Failures that a report keeps in memory; the CSV file gets all."""

_HEADINGS = ("number", "location", "cause", "sentence")
_SHOWN = 60  # characters of a location in a table


class Cause(StrEnum):
    """Why a sample could not be used. The value is what tables show.

    >>> Cause.TIMED_OUT.value
    'timed out'
    """

    # Where it is said to be.
    BAD_ADDRESS = "bad address"
    PRIVATE_ADDRESS = "private address"
    NAME_NOT_FOUND = "name not found"
    UNREADABLE_FILE = "unreadable file"
    # The way there.
    CANNOT_CONNECT = "cannot connect"
    BAD_CERTIFICATE = "bad certificate"
    TIMED_OUT = "timed out"
    TOO_SLOW = "too slow"
    CONNECTION_LOST = "connection lost"
    NOT_HTTP = "not HTTP"
    TOO_MANY_REDIRECTS = "too many redirects"
    # What the server says.
    NOT_FOUND = "not found"
    FORBIDDEN = "forbidden"
    TOO_MANY_REQUESTS = "too many requests"
    HTTP_ERROR = "HTTP error"
    SERVER_ERROR = "server error"
    OPTED_OUT = "opted out of machine learning"
    # What comes.
    EMPTY = "empty"
    TOO_LARGE = "too large"
    WRONG_LENGTH = "wrong length"
    BAD_ENCODING = "bad content encoding"
    DAMAGED_SHARD = "damaged shard"
    NO_LABEL = "no label"
    # What is in it.
    NOT_AN_IMAGE = "not an image"
    UNKNOWN_FORMAT = "unknown image format"
    TRUNCATED_IMAGE = "truncated image"
    DAMAGED_IMAGE = "damaged image"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_COSTLY = "too costly to decode"
    # A mistake of ours or of a library; the sentence names it.
    UNEXPECTED = "unexpected"


LASTING = frozenset(
    {
        *(Cause.BAD_ADDRESS, Cause.PRIVATE_ADDRESS, Cause.NOT_FOUND, Cause.FORBIDDEN, Cause.OPTED_OUT),
        *(Cause.TOO_LARGE, Cause.NOT_AN_IMAGE, Cause.UNKNOWN_FORMAT, Cause.TOO_MANY_PIXELS, Cause.TOO_COSTLY),
    }
)
"""Causes that the next epoch would meet again, so that a stream does not ask again."""


class SampleError(Exception):
    """One sample cannot be used: its cause, and a sentence for people that names what was expected and what came.

    >>> str(SampleError(Cause.EMPTY, "an image was expected; 0 bytes came"))
    'an image was expected; 0 bytes came'
    """

    def __init__(self, cause: Cause, sentence: str) -> None:
        super().__init__(cause, sentence)
        self.cause = cause
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class Failure(NamedTuple):
    """A sample that could not be used: its number in the source (-1 for a whole shard), where it is, and why."""

    number: int
    location: str
    cause: Cause
    sentence: str


class CauseCount(NamedTuple):
    """How often a cause was met, and its first sample."""

    cause: Cause
    samples: int
    example: Failure


class Report:
    """What a stream delivered and what failed, by cause. Any thread may add to it and read it.

    `path`: a CSV file that every failure is appended to (number, location, cause, sentence); a file that cannot be
    written ends with a warning in `warnings`, not with an error.

    >>> report = Report()
    >>> report.add(Failure(3, "http://example.org/a.jpg", Cause.NOT_FOUND, "it answered 404"))
    >>> report.failed, report.counts[Cause.NOT_FOUND]
    (1, 1)
    """

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else None
        self.delivered = 0
        self._counts: dict[Cause, int] = {}
        self._examples: dict[Cause, Failure] = {}
        self._kept: list[Failure] = []
        self._warnings: list[str] = []
        self._lock = threading.Lock()
        self._writes = self.path is not None

    @property
    def failed(self) -> int:
        """Samples that could not be used."""
        return sum(self._counts.copy().values())

    @property
    def attempted(self) -> int:
        """Samples that were delivered or failed."""
        return self.delivered + self.failed

    @property
    def counts(self) -> Mapping[Cause, int]:
        """Failures by cause, in the order in which the causes were first met."""
        return MappingProxyType(self._counts.copy())

    @property
    def causes(self) -> list[CauseCount]:
        """The causes with an example, the commonest first."""
        with self._lock:
            found = [CauseCount(cause, count, self._examples[cause]) for cause, count in self._counts.items()]
        return sorted(found, key=lambda each: -each.samples)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The first thousand failures."""
        return tuple(self._kept.copy())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What did not go as asked without losing a sample: a cache turned off, a report that cannot be written."""
        return tuple(self._warnings.copy())

    def add(self, failure: Failure) -> None:
        """Count a failure."""
        with self._lock:
            self._counts[failure.cause] = self._counts.get(failure.cause, 0) + 1
            self._examples.setdefault(failure.cause, failure)
            if len(self._kept) < MOST_KEPT:
                self._kept.append(failure)
            if self._writes and self.path is not None:
                self._append(self.path, failure)

    def deliver(self, count: int) -> None:
        """Count samples that were delivered."""
        with self._lock:
            self.delivered += count

    def warn(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        with self._lock:
            self._warn(sentence)

    def table(self, markdown: bool = False) -> str:
        """Causes, counts and an example of each, as text or Markdown; a sentence when nothing failed.

        >>> Report().table()
        '0 images, no failures'
        """
        found = self.causes
        if not found:
            return f"{self.delivered:,} images, no failures"
        rows = [[str(cause), f"{count:,}", _shown(example.location)] for cause, count, example in found]
        lines = [["cause", "count", "example"], *rows, ["all", f"{self.failed:,}", f"of {self.attempted:,}"]]
        return _markdown(lines) if markdown else columns([[a, c, b] for a, b, c in lines], left=2)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the failures that are kept (the first thousand) to a CSV file; `path` in the constructor keeps all."""
        with Path(path).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([_HEADINGS, *self.failures])

    def _append(self, path: Path, failure: Failure) -> None:
        """Opened for each failure: they are rare, and a process that is killed has lost none."""
        try:
            with path.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
                csv.writer(file).writerows([failure] if file.tell() else [_HEADINGS, failure])
        except OSError as error:
            self._writes = False
            self._warn(f"the report {path} cannot be written ({error.strerror}); failures are counted without it")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warnings:
            self._warnings.append(sentence)


def _shown(location: str) -> str:
    """A location for a table: no control characters, which a terminal would obey, and no more than fits a line."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in location)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _markdown(lines: list[list[str]]) -> str:
    cells = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in lines]
    head, *rows = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([head, "|---|---:|---|", *rows])
