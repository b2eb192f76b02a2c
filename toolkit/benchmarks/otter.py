"""otter-grader as a peer: the same exercise and cases in its own form, graded by its own Python.

It is used where its command `otter` is on the PATH, from an environment of its own with ipykernel:
`python -m venv otter; otter/bin/pip install otter-grader ipykernel numpy; PATH=$PWD/otter/bin:$PATH`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.grading.questions import Exercise, Question, generator

# Its fastest documented way without containers: one process that grades one submission after the other, its imports
# and its first submission not counted.
_GRADE = """
import sys, time
from otter.api import grade_submission
archive, *submissions = sys.argv[1:]
grade_submission(submissions[0], archive, quiet=True)
begun = time.perf_counter()
for submission in submissions:
    found = grade_submission(submission, archive, quiet=True)
print(time.perf_counter() - begun, found.total, found.possible)
"""
_CONFIG = {"show_stdout": False, "show_hidden": True}


def find_otter() -> Path | None:
    """The Python that has otter-grader, None where there is none."""
    command = shutil.which("otter")
    python = Path(command).parent / "python" if command else None
    return python if python is not None and python.exists() else None


def otter_version(python: Path) -> str:
    """The version of otter-grader that this Python has."""
    command = [str(python), "-c", "from importlib.metadata import version; print(version('otter-grader'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def write_archive(exercise: Exercise, seed: int, path: Path) -> None:
    """The exercise as an autograder of otter: a test for every question, each with our cases."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("otter_config.json", json.dumps(_CONFIG))
        for question in exercise.questions:
            archive.writestr(f"tests/{question.name}.py", _test(exercise, question, seed))


def _test(exercise: Exercise, question: Question, seed: int) -> str:
    """A test file in its format "OK". The answers have to be numbers, text or tuples of them."""
    cases = [
        {"code": f">>> {question.name}(*{arguments!r}) == {question.reference(*arguments)!r}\nTrue", "hidden": False}
        for arguments in _cases(exercise, question, seed)
    ]
    suite = {"cases": cases, "scored": True, "setup": "", "teardown": "", "type": "doctest"}
    test = {"name": question.name, "points": question.points, "suites": [suite]}
    return f"OK_FORMAT = True\n\ntest = {test!r}\n"


def _cases(exercise: Exercise, question: Question, seed: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for item in question.items:
        found += item.examples
        if item.cases is not None:
            found += item.cases(generator(seed, exercise.stem, question.name, item.what))
    return found


def start_otter(python: Path, archive: Path, submissions: Sequence[Path]) -> subprocess.Popen[str]:
    """Begin to grade notebooks one after the other in one process."""
    command = [str(python), "-c", _GRADE, str(archive), *map(str, submissions)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603


def seconds_of(process: subprocess.Popen[str]) -> float:
    """Seconds that such a process took; raises RuntimeError where a right submission did not get all its points."""
    out, _ = process.communicate()
    words = out.split()
    if process.returncode or len(words) != 3 or words[1] != words[2]:
        raise RuntimeError(f"otter-grader gave no full marks: {out.strip()[-200:]!r}, status {process.returncode}")
    return float(words[0])
