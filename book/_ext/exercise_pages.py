"""The exercises as the book shows them: made from the solutions, so that nothing is written twice."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit.grading.building import split_cells, without_answers

BOOK = Path(__file__).parents[1]
SOLUTIONS = BOOK.parent / "solutions"
WIDTH = 76
_MARKER = re.compile(r"^[ ]*### (BEGIN|END) SOLUTION\n", re.MULTILINE)
_HEADING = re.compile(r"## (\d+)\. (.+?) \((\d+) points?(?:, (.+?))?\)\n?")


@dataclass(frozen=True)
class Question:
    """One question: number, title, points, what is said before it, and its code with the solution."""

    number: int
    title: str
    points: int
    text: str
    code: str


def questions(text: str) -> tuple[str, list[Question]]:
    """What a file of solutions says at its top, without the title, and its questions."""
    intro, found = "", list[Question]()
    for cell in split_cells(text):
        heading = _HEADING.match(cell.source) if cell.kind == "markdown" else None
        if heading:
            said = cell.source[heading.end() :].strip()
            found.append(Question(int(heading[1]), heading[2], int(heading[3]), said, ""))
        elif cell.kind == "markdown" and not found:
            intro = cell.source.partition("\n")[2].strip()
        elif cell.kind == "code" and found:
            found[-1] = replace(found[-1], code=f"{found[-1].code}\n\n\n{cell.source}".strip())
    return intro, found


def formatted(codes: Iterable[str]) -> dict[str, str]:
    """Each piece of code in lines of at most 76 characters where ruff is there, so that a phone need not scroll far."""
    pieces = list(dict.fromkeys(codes))
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.py") for number in range(len(pieces))]
        for file, piece in zip(files, pieces, strict=True):
            file.write_text(piece, encoding="utf-8")
        command = [sys.executable, "-m", "ruff", "format", "--quiet", "--isolated", "--line-length", str(WIDTH), folder]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        return {piece: file.read_text("utf-8").strip("\n") for file, piece in zip(files, pieces, strict=True)}


def parts(code: str) -> tuple[str, str, str]:
    """(what is given, what the docstring says, the solution) of a question's code; a class is given as its stub."""
    marker = next(number for number, line in enumerate(code.splitlines(), 1) if line.strip() == "### BEGIN SOLUTION")
    asked = next(node for node in ast.parse(code).body if node.lineno <= marker <= (node.end_lineno or 0))
    solution = _MARKER.sub("", f"{code}\n")
    if not isinstance(asked, ast.FunctionDef):
        return without_answers(code), "", solution
    lines, docstring = code.splitlines(), asked.body[0]
    head = "\n".join(lines[: docstring.lineno - 1])
    rest = [*lines[: docstring.lineno - 1], *lines[docstring.end_lineno :]]
    return f"{head}\n    ...", ast.get_docstring(asked) or "", _MARKER.sub("", "\n".join(rest) + "\n")


def told(docstring: str) -> str:
    """A docstring as Markdown: its paragraphs, and its examples as code."""
    return "\n\n".join(
        f"```pycon\n{block}\n```" if block.startswith(">>>") else " ".join(block.split("\n"))
        for block in re.split(r"\n\s*\n", docstring.strip())
    )


def shown(question: Question, chapter: str, tidy: Mapping[str, str]) -> str:
    """A question as an exercise with its folded solution."""
    given, docstring, solution = parts(question.code)
    label = f"{chapter}-q{question.number}"
    points = "1 point" if question.points == 1 else f"{question.points} points"
    body = "\n\n".join(filter(None, [question.text, f"```python\n{tidy[given]}\n```", told(docstring)]))
    return (
        f"::::{{exercise}} {question.title} · {points}\n:label: {label}\n\n{body}\n::::\n\n"
        f"::::{{solution}} {label}\n:label: {label}-solution\n:class: dropdown\n\n"
        f"```python\n{tidy[solution]}\n```\n::::\n"
    )


def fragment(stem: str, intro: str, found: list[Question], tidy: Mapping[str, str]) -> str:
    """What a chapter includes: how to work on its exercise, and every question with its solution."""
    intro = re.sub(r"\w+ questions, \d+ points\. |Check yourself with [^.]+\.\s*", "", intro)
    total = sum(question.points for question in found)
    command = (
        f"{len(found)} questions, {total} points. Write your answers into `exercises/{stem}.py`, or into the notebook "
        f"of the same name, and let them be graded:\n\n```sh\npython -m toolkit grade exercises/{stem}.py\n```\n"
    )
    chapter = stem.partition("_")[0]
    return "\n".join([command, intro, "", *(shown(question, chapter, tidy) for question in found)])


def overview(exercises: Mapping[str, list[Question]]) -> Iterator[str]:
    """A section for each chapter: a link to the chapter, and one to every question."""
    for stem, found in exercises.items():
        chapter = stem.partition("_")[0]
        yield f"## Chapter {int(chapter[2:])}\n"
        yield f"{{ref}}`{chapter}` · `exercises/{stem}.py` and `.ipynb`\n"
        for question in found:
            yield f"{question.number}. {{ref}}`{question.title} <{chapter}-q{question.number}>`"
        yield ""


def fragments() -> dict[str, str]:
    """The files that pages include, by name."""
    read = {path.stem: questions(path.read_text("utf-8")) for path in sorted(SOLUTIONS.glob("ch*.py"))}
    codes = [parts(question.code) for _, found in read.values() for question in found]
    tidy = formatted(code for given, _, solution in codes for code in (given, solution))
    made = {f"{stem}_exercises.md": fragment(stem, intro, found, tidy) for stem, (intro, found) in read.items()}
    pages = set(re.findall(r"file: (ch\d\d_\w+)", (BOOK / "_toc.yml").read_text("utf-8")))
    return made | {
        "exercise_list.md": "\n".join(overview({stem: found for stem, (_, found) in read.items() if stem in pages}))
    }
