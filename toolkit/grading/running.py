"""A student's file taken apart: a `.py` file statement by statement, a notebook cell by cell, in the student's process.

A statement that fails costs itself and nothing else. Notebooks are read as the JSON that they are, without Jupyter.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import io
import json
import linecache
import re
import sys
import tokenize
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FEATURES = 0
for _name in __future__.all_feature_names:
    _FEATURES |= getattr(__future__, _name).compiler_flag
LONGEST_LINE = 300
_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|.*[?]\s*|\w+\s*=\s*[!%].*)$")
# Cell magics whose cell is Python all the same.
_PYTHON_CELLS = {"time", "timeit", "capture", "prun", "python", "python3"}
_BLOCK = re.compile(r"^(?:def|class|async|import|from|@|#\s*%%|if\b|for\b|while\b|with\b|try\b)")


class NotASubmissionError(Exception):
    """The file is no Python and no notebook; the text is a sentence."""


@dataclass(frozen=True)
class Chunk:
    """A piece of the file that is compiled alone: its file name for error messages, and its text."""

    file: str
    where: str
    text: str
    first_line: int = 1


@dataclass(frozen=True)
class Statement:
    """One statement of the top level, or the error that a chunk has instead of statements."""

    file: str
    where: str
    node: ast.stmt | None
    error: str = ""


def chunks(name: str, source: bytes) -> list[Chunk]:
    """The cells of a notebook, or a Python file as one piece; raises NotASubmissionError for anything else."""
    if name.endswith(".ipynb"):
        return list(_cells(name, source))
    return [Chunk(name, "", _text(source))]


def _text(source: bytes) -> str:
    """A Python file's text, by the encoding that it declares, with what cannot be read replaced."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        text = source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        text = source.decode("utf-8-sig", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(name: str, source: bytes) -> Iterator[Chunk]:
    try:
        notebook = json.loads(source.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NotASubmissionError(f"{name} is no notebook that can be read ({error})") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if cells is None and isinstance(notebook, dict):  # version 3 of the format
        sheets = notebook.get("worksheets")
        cells = sheets[0].get("cells") if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else None
    if not isinstance(cells, list):
        raise NotASubmissionError(f"{name} is no notebook: it has no list of cells")
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            written = cell.get("source", cell.get("input", ""))
            text = "".join(map(str, written)) if isinstance(written, list) else str(written)
            yield Chunk(f"cell {number}", f"cell {number}", _without_magics(text.replace("\r\n", "\n")))


def _without_magics(text: str) -> str:
    r"""A cell as Python: `%matplotlib inline`, `!pip install …` and `name?` become `pass`.

    >>> _without_magics("%time x = 1\nprint(x)")
    'pass\nprint(x)'
    """
    first, _, rest = text.lstrip().partition("\n")
    if first.startswith("%%"):
        return f"\n{_without_magics(rest)}" if first[2:].split(" ")[0].strip() in _PYTHON_CELLS else ""
    if _parsed(text) is not None:
        return text
    return "\n".join(_MAGIC.sub(r"\1pass", line) for line in text.split("\n"))


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def statements(found: list[Chunk]) -> list[Statement]:
    r"""All statements of the top level, in order. Where a chunk cannot be parsed, its blocks are tried one by one.

    >>> [each.where for each in statements([Chunk("a.py", "", "x = 1\ndef f(:\n    pass\ndef g(): return 2\n")])]
    ['line 1', 'line 2', 'line 4']
    """
    return [statement for chunk in found for statement in _statements(chunk, split=True)]


def _statements(chunk: Chunk, split: bool) -> Iterator[Statement]:
    linecache.cache[chunk.file] = (len(chunk.text), None, chunk.text.splitlines(keepends=True), chunk.file)
    padded = "\n" * (chunk.first_line - 1) + chunk.text
    try:
        tree = ast.parse(padded, chunk.file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        blocks = _blocks(chunk) if split else []
        if len(blocks) > 1:
            for block in blocks:
                yield from _statements(block, split=False)
            linecache.cache[chunk.file] = (len(chunk.text), None, chunk.text.splitlines(keepends=True), chunk.file)
            return
        line = getattr(error, "lineno", None) or chunk.first_line
        yield Statement(chunk.file, place(chunk.file, line), None, sentence(error))
        return
    for node in tree.body:
        yield Statement(chunk.file, place(chunk.file, node.lineno), node)


def _blocks(chunk: Chunk) -> list[Chunk]:
    """A chunk cut before every line that begins a block at the margin; decorators stay with what they decorate."""
    lines = chunk.text.split("\n")
    starts = [0]
    for number, line in enumerate(lines):
        if number and _BLOCK.match(line) and not lines[number - 1].startswith("@"):
            starts.append(number)
    return [
        Chunk(chunk.file, chunk.where, "\n".join(lines[start:end]), start + 1)
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def place(file: str, line: int) -> str:
    """Where a line is, as people say it.

    >>> place("ch02.py", 4), place("cell 3", 2)
    ('line 4', 'cell 3, line 2')
    """
    return f"{file}, line {line}" if file.startswith("cell ") else f"line {line}"


def sentence(error: BaseException) -> str:
    """An exception in one line: its type and what it says.

    >>> sentence(ValueError("no"))
    'ValueError: no'
    """
    try:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        said = ""
    said = " ".join(str(said).split())[:LONGEST_LINE]
    name = type(error).__name__
    if isinstance(error, MemoryError) and not said:
        said = "it needs more memory than the limit"
    return f"{name}: {said}" if said else name


def explained(error: BaseException, files: set[str]) -> str:
    """An exception in one line, with the last line of the student's own file that it passed through."""
    told = sentence(error)
    try:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    except BaseException:
        frames = []
    if isinstance(error, EOFError) and "reading a line" in told:
        told += "; input() cannot be used, nobody is there to answer"
    return f"{told} ({place(frames[-1].filename, frames[-1].lineno or 0)})" if frames else told


class Program:
    """A student's file at work: its statements and the module that they fill."""

    def __init__(self, name: str, source: bytes, module: str = "") -> None:
        self.statements = statements(chunks(name, source))
        self.files = {each.file for each in self.statements}
        self._flags = 0
        self.module = types.ModuleType(module or name.rpartition(".")[0] or name)
        self.module.__dict__.update(__file__=name, __builtins__=sys.modules.get("builtins", builtins))
        sys.modules[self.module.__name__] = self.module

    def run(self, number: int) -> str | None:
        """Run one statement; None where it went well, otherwise what was wrong, in one line."""
        statement = self.statements[number]
        if statement.node is None:
            return statement.error
        try:
            tree = ast.Module([statement.node], [])
            code = compile(tree, statement.file, "exec", self._flags, dont_inherit=True)
            self._flags |= code.co_flags & _FEATURES
            exec(code, self.module.__dict__)  # noqa: S102 - what this process is for
        except BaseException as error:
            return self.explain(error)
        return None

    def explain(self, error: BaseException) -> str:
        """An exception in one line, whatever the student's code did to those that read tracebacks."""
        try:
            return explained(error, self.files)
        except BaseException:
            return type(error).__name__

    def get(self, name: str) -> Any:
        """What the student calls by this name; raises KeyError."""
        return self.module.__dict__[name]


def own_builtins() -> None:
    """Give what is imported from now on a copy of the builtins: a student who replaces some does not replace ours."""
    copy = types.ModuleType("builtins")
    copy.__dict__.update(builtins.__dict__)
    sys.modules["builtins"] = copy


def load_adapter(source: str) -> Any:
    """The function `call` that a question's source defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "<question>", "exec"), names)  # noqa: S102 - the question's own
    return names["call"]
