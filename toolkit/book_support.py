"""What the full benchmarks measured, read back from `book/results`: the dear numbers of the book's pages.

A result that is not there yet is no error: a page says so in its place, and is built all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.show import readable_bytes

RESULTS = Path(__file__).parents[1] / "book" / "results"
NOT_YET = "(not measured yet)"


@dataclass(frozen=True)
class Result:
    """The report of one benchmark; `report` is None where nobody has measured it yet, and then it counts as False."""

    name: str
    report: Mapping[str, Any] | None

    def __bool__(self) -> bool:
        return self.report is not None

    @property
    def command(self) -> str:
        """The command that measures it."""
        return f"python -m toolkit bench {self.name}"

    @property
    def origin(self) -> str:
        """Where the numbers come from, as a sentence."""
        if self.report is None:
            return f"Nobody has measured this yet; the command is {self.command}."
        machine, versions = self.report["machine"], self.report["versions"]
        day = datetime.fromisoformat(self.report["date"])
        libraries = (f"{name} {versions[name]}" for name in ("keras", "tensorflow-cpu", "jax") if name in versions)
        memory = readable_bytes(machine["memory_bytes"])
        where = f"{machine['processor']}, {machine['cpus']} processors, {memory} of memory"
        software = ", ".join([f"Python {machine['python']}", *libraries])
        return f"Measured on {day.day} {day:%B %Y} ({self.command}; {where}; {software})."

    def rows(self, start: str = "", **fields: object) -> list[Mapping[str, Any]]:
        """The rows whose `what` begins with `start` and which have these fields; none where nothing was measured."""
        rows = self.report["rows"] if self.report else []
        return [
            row
            for row in rows
            if row["what"].startswith(start) and all(row.get(key) == value for key, value in fields.items())
        ]

    def row(self, start: str = "", **fields: object) -> Mapping[str, Any]:
        """The first of `rows`; raises InputError where the report has none."""
        rows = self.rows(start, **fields)
        if not rows:
            raise InputError(f"{self.name}.json has no row {start!r} {fields or ''}; look what its rows are called")
        return rows[0]

    def text(self, start: str, form: str = "{:,.3g}", field: str = "median", **fields: object) -> str:
        """A figure as `form` writes it, or that it is not measured yet.

        >>> Result("never", None).text("an epoch")
        '(not measured yet)'
        """
        return form.format(self.row(start, **fields)[field]) if self else NOT_YET

    def check(self, start: str) -> Mapping[str, Any]:
        """The first promise whose name begins so; raises InputError where the report has none."""
        checks: list[Mapping[str, Any]] = self.report["checks"] if self.report else []
        for check in checks:
            if check["name"].startswith(start):
                return check
        raise InputError(f"{self.name}.json has no promise {start!r}; look what its promises are called")


def measured(name: str, folder: Path = RESULTS) -> Result:
    """What the full run of a benchmark found.

    >>> bool(measured("never"))
    False
    """
    path = folder / f"{name}.json"
    return Result(name, json.loads(path.read_text("utf-8")) if path.is_file() else None)


def all_measured(folder: Path = RESULTS) -> list[Result]:
    """Every result that is there, by name.

    >>> [result.name for result in all_measured() if not result]
    []
    """
    return [measured(path.stem, folder) for path in sorted(folder.glob("*.json"))]
