"""How fast submissions are graded: a class, one student's check, Keras questions; and otter-grader beside it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from toolkit.benchmarks import Check, Measured, Row
from toolkit.benchmarks.otter import find_otter, otter_version, seconds_of, start_otter, write_archive
from toolkit.grading.submissions import load_exercise

A_MINUTE, KERAS_A_MINUTE = 1000, 30
CHECK_SECONDS, NOTEBOOK_SECONDS = 1.0, 1.5
TIMES_OTTER = 20
EXERCISE, KERAS_EXERCISE = "ch02_parameters", "ch05_architectures"
ROOT = Path(__file__).parents[2]


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` does it on fewer submissions. Needs a clone: the solutions are the submissions."""
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        parts = [
            _checks(folder, 6 if quick else 40),
            _beside_otter(folder, seed, 150 if quick else 1000, 1 if quick else 8, 1 if quick else 3),
            _keras(folder, 10 if quick else 60),
        ]
    rows = tuple(row for part in parts for row in part.rows)
    return Measured(rows, tuple(check for part in parts for check in part.checks))


# A class


def _solution(exercise: str) -> str:
    return (ROOT / "solutions" / f"{exercise}.py").read_text("utf-8")


def _as_notebook(source: str) -> str:
    """The source as the one cell of a notebook."""
    cell: dict[str, object] = {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 2})


def _class(folder: Path, exercise: str, students: int, suffix: str = ".py") -> Path:
    """A folder with a right submission of every student."""
    source = _solution(exercise)
    text = _as_notebook(source) if suffix == ".ipynb" else source
    for number in range(students):
        where = folder / f"student{number:04}"
        where.mkdir(parents=True)
        (where / f"{exercise}{suffix}").write_text(text, "utf-8")
    return folder


def _grade(arguments: list[str]) -> float:
    """Seconds of `python -m toolkit grade …`, its start included; raises RuntimeError where it failed."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "toolkit", "grade", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"grading failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - begun


def _batch(submissions: Path, exercise: str, out: Path, students: int) -> float:
    """Submissions a minute; raises RuntimeError unless every one of them got all points."""
    jobs = str(os.cpu_count() or 1)
    seconds = _grade([str(submissions), "--exercise", exercise, "--out", str(out), "--jobs", jobs])
    lines = (out / "grades.csv").read_text("utf-8").splitlines()
    points = lines[0].split(",").index("points")
    if len(lines) != students + 1 or {line.split(",")[points] for line in lines[1:]} != {"10"}:
        raise RuntimeError(f"not every right submission got 10 points: {lines[:3]}")
    return students / seconds * 60


def _keras(folder: Path, students: int) -> Measured:
    submissions = _class(folder / "keras", KERAS_EXERCISE, students)
    rate = _batch(submissions, KERAS_EXERCISE, folder / "keras-results", students)
    row = Row.of(f"Keras submissions ({KERAS_EXERCISE}), start included", "a minute", [rate])
    return Measured((row,), (Check.at_least("Keras submissions a minute", rate, KERAS_A_MINUTE),))


# One student


def _checks(folder: Path, times: int) -> Measured:
    """What a student waits for, the start of Python included."""
    rows, checks = [], []
    for suffix, limit in ((".py", CHECK_SECONDS), (".ipynb", NOTEBOOK_SECONDS)):
        submission = _class(folder / f"one{suffix}", EXERCISE, 1, suffix) / "student0000" / f"{EXERCISE}{suffix}"
        _grade([str(submission)])
        found = [_grade([str(submission)]) for _ in range(times)]
        slow = statistics.quantiles(found, n=20, method="inclusive")[-1]
        rows.append(Row.of(f"a student's check, {suffix}", "s", found))
        checks.append(Check.at_most(f"a student's check, {suffix}, 95th percentile, seconds", slow, limit))
    return Measured(tuple(rows), tuple(checks))


# otter-grader


def _beside_otter(folder: Path, seed: int, students: int, notebooks: int, pairs: int) -> Measured:
    """A class by us, and a smaller one by otter-grader on as many processors, in turn."""
    ours_of, python = _ours(folder, students), find_otter()
    others_of = _otter(python, folder, seed, notebooks) if python else None
    ours: list[float] = []
    others: list[float] = []
    for pair in range(pairs):
        ours.append(ours_of(pair))
        if others_of is not None:
            others.append(others_of())
    rows = [Row.of(f"submissions ({EXERCISE}), start included", "a minute", ours)]
    checks = [Check.at_least("submissions a minute", statistics.median(ours), A_MINUTE)]
    if python:
        times = [a / b for a, b in zip(ours, others, strict=True)]
        name = f"otter-grader {otter_version(python)}, start not included"
        rows += [Row.of(name, "a minute", others), Row.of("we / otter-grader", "ratio", times)]
        checks.append(Check.at_least("times otter-grader's throughput", statistics.median(times), TIMES_OTTER))
    return Measured(tuple(rows), tuple(checks))


def _ours(folder: Path, students: int) -> Callable[[int], float]:
    submissions = _class(folder / "class", EXERCISE, students)
    return lambda pair: _batch(submissions, EXERCISE, folder / f"results{pair}", students)


def _otter(python: Path, folder: Path, seed: int, notebooks: int) -> Callable[[], float]:
    """Notebooks a minute of otter-grader, one process a processor."""
    archive = folder / "otter.zip"
    write_archive(load_exercise(EXERCISE).exercise, seed, archive)
    paths = sorted(_class(folder / "notebooks", EXERCISE, notebooks, ".ipynb").rglob("*.ipynb"))
    processors = os.cpu_count() or 1

    def rate() -> float:
        running = [start_otter(python, archive, paths) for _ in range(processors)]
        return processors * len(paths) / max(map(seconds_of, running)) * 60

    return rate
