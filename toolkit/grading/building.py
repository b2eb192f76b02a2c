"""The exercises out of their solutions: a file is one solution without its answers, a notebook the same cells.

A solution is plain Python in the percent format: `# %%` begins a cell of code, `# %% [markdown]` one of text, whose
lines are comments. What stands between `### BEGIN SOLUTION` and `### END SOLUTION` is left out of the exercise.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.arithmetic import InputError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
PLACEHOLDER = 'raise NotImplementedError("write your answer here")'
CODE, MARKDOWN = "# %%", "# %% [markdown]"
SOLUTIONS, EXERCISES = Path("solutions"), Path("exercises")
# Cell ids may have 64 characters; these are enough to be different.
ID_CHARACTERS = 12


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook: `kind` is "code" or "markdown", `source` its text without a newline at the end."""

    kind: str
    source: str


# From a solution to an exercise.


def without_answers(text: str, name: str = "the solution") -> str:
    r"""The text of a solution with a placeholder for each answer; raises InputError where the markers do not match.

    >>> print(without_answers("def one():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"), end="")
    def one():
        raise NotImplementedError("write your answer here")
    """
    kept: list[str] = []
    opened = 0
    for number, line in enumerate(text.splitlines(), 1):
        marker = line.strip()
        if marker == BEGIN:
            _require_marker(not opened, name, number, f"{BEGIN} comes before the {END} of line {opened}")
            opened = number
            kept.append(line[: line.index("#")] + PLACEHOLDER)
        elif marker == END:
            _require_marker(bool(opened), name, number, f"{END} comes without a {BEGIN}")
            opened = 0
        elif not opened:
            kept.append(line)
    _require_marker(not opened, name, opened, f"{BEGIN} has no {END}")
    return "\n".join(kept) + "\n"


def _require_marker(fine: bool, name: str, line: int, problem: str) -> None:
    if not fine:
        raise InputError(f"{name}, line {line}: {problem}; every answer needs one of each, in this order")


def split_cells(text: str) -> tuple[Cell, ...]:
    r"""The cells of a file in percent format; what comes before the first is a cell of code, and empty cells are none.

    >>> split_cells("# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nimport math\n")
    (Cell(kind='markdown', source='# Title\n\nText.'), Cell(kind='code', source='import math'))
    """
    return tuple(cell for cell in _all_cells(text) if cell.source)


def _all_cells(text: str) -> Iterator[Cell]:
    kind, lines = "code", list[str]()
    for line in text.splitlines():
        if line.rstrip() in (CODE, MARKDOWN):
            yield _cell(kind, lines)
            kind, lines = "code" if line.rstrip() == CODE else "markdown", []
        else:
            lines.append(line)
    yield _cell(kind, lines)


def _cell(kind: str, lines: Sequence[str]) -> Cell:
    if kind == "markdown":
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    return Cell(kind, "\n".join(lines).strip("\n"))


def notebook(cells: Sequence[Cell]) -> dict[str, Any]:
    """A notebook (nbformat 4.5) of these cells, for any Python 3, without outputs.

    >>> [cell["cell_type"] for cell in notebook([Cell("markdown", "# Title"), Cell("code", "1 + 1")])["cells"]]
    ['markdown', 'code']
    """
    return {
        "cells": [_notebook_cell(cell, name) for cell, name in zip(cells, _ids(cells), strict=True)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _notebook_cell(cell: Cell, name: str) -> dict[str, Any]:
    both = {"cell_type": cell.kind, "id": name, "metadata": {}, "source": cell.source.splitlines(keepends=True)}
    return both if cell.kind == "markdown" else both | {"execution_count": None, "outputs": []}


def _ids(cells: Sequence[Cell]) -> Iterator[str]:
    """A name for each cell that depends on nothing but its content, so that an edit changes no other cell."""
    seen: Counter[str] = Counter()
    for cell in cells:
        digest = hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:ID_CHARACTERS]
        seen[digest] += 1
        yield digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


# Files.


def generate(solutions: Path = SOLUTIONS) -> dict[str, str]:
    """The text of every exercise by the name of its file, two for each solution; raises InputError where none are."""
    sources = sorted(solutions.glob("ch*.py"))
    if not sources:
        raise InputError(f"no solution (ch….py) lies in {solutions}; go to the top of the project or name the folder")
    texts: dict[str, str] = {}
    for path in sources:
        stub = without_answers(path.read_text("utf-8"), path.name)
        texts[path.name] = stub
        texts[f"{path.stem}.ipynb"] = notebook_text(split_cells(stub))
    return texts


def notebook_text(cells: Sequence[Cell]) -> str:
    """The notebook as the text of its file: the same cells give the same bytes."""
    return json.dumps(notebook(cells), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def build(solutions: Path = SOLUTIONS, exercises: Path = EXERCISES) -> list[Path]:
    """Write the exercises that are not yet what their solutions generate; return the files that changed."""
    exercises.mkdir(parents=True, exist_ok=True)
    changed = stale(generate(solutions), exercises)
    for path, text in changed.items():
        path.write_text(text, "utf-8", newline="\n")
    return list(changed)


def stale(texts: Mapping[str, str], exercises: Path = EXERCISES) -> dict[Path, str]:
    """The files of `exercises` that are absent or hold another text than they should, with what they should hold."""
    wanted = {exercises / name: text for name, text in texts.items()}
    return {path: text for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode()}
