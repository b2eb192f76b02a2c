"""The terminal's side of grading: one submission for a student, a folder of them for an instructor."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toolkit.errors import InputError
from toolkit.grading import exports
from toolkit.grading.batch import TABLE, Graded, Grader, Settings, grade_folder
from toolkit.grading.grader import Sandboxes, grade, needs_of
from toolkit.grading.reports import Report
from toolkit.grading.submissions import Task, load_exercise, load_pack, stem_of, student_of

STOPPED = 130
LARGEST_SEED = 2**31


def grade_command(
    submission: Path,
    exercise: str = "",
    *,
    out: Path | None = None,
    jobs: int = 0,
    seed: int | None = None,
    student: str = "",
    isolation: str = "",
    require: str = "",
    public_only: bool = False,
    pack: Path | None = None,
) -> int:
    """Grade a file, or a folder of submissions where `out` is given; the exit status is 0 whatever the points are.

    Without a seed, a file alone gets other hidden cases every time, and a folder seed 0. Raises InputError for a
    submission that is not there, an exercise that is none, and isolation that the machine does not have.
    """
    if not submission.exists() and not submission.is_symlink() and out is None:
        raise InputError(f"there is no {str(submission)!r}; give a .py or .ipynb file, or a folder of submissions")
    stem = exercise or stem_of(submission)
    if submission.is_dir() and out is None:
        raise InputError(f"{submission} is a folder: say with --out where its results shall go")
    settings = Settings(
        exercise=stem,
        out=str(out or ""),
        seed=seed or 0,
        isolation=isolation or None,
        require=require or None,
        public_only=public_only,
        pack=str(pack or ""),
    )
    if submission.is_dir():
        return _grade_folder(submission, settings, jobs)
    if out is not None:
        return _grade_into(submission, settings, student)
    return _grade_alone(submission, settings, seed, student)


def _grade_alone(submission: Path, settings: Settings, seed: int | None, student: str) -> int:
    """Print what a student wants to know."""
    chosen = secrets.randbelow(LARGEST_SEED) if seed is None else seed
    with Sandboxes(settings.isolation, settings.require, settings.limits) as boxes:
        if not settings.exercise.endswith(".py"):
            boxes.get("numpy")  # it loads while the checks are imported
        exercise = load_exercise(settings.exercise).exercise
        boxes.get(needs_of(exercise))
        report = grade(
            submission,
            exercise,
            seed=chosen,
            student=student,
            public_only=settings.public_only,
            pack=load_pack(Path(settings.pack)) if settings.pack else None,
            sandboxes=boxes,
        )
    sys.stdout.write(exports.text(report))
    return 0


def _grade_into(submission: Path, settings: Settings, student: str) -> int:
    """Grade one submission and leave its results in a folder, as services that run one at a time want them."""
    out = Path(settings.out)
    with Grader(settings) as grader:
        name = student or student_of(submission, grader.exercise.stem)
        task = Task(name, out.name, (submission,))
        report = grader.grade(task, out, os.environ)
    sys.stdout.write(exports.text(report))
    return 0


# A folder.


def _grade_folder(folder: Path, settings: Settings, jobs: int) -> int:
    """Grade all submissions with a bar, and say how they came out."""
    from rich.console import Console

    from toolkit.terminal import bars, ctrl_c

    console, stop = Console(stderr=True), threading.Event()
    graded: list[Graded] = []
    with ctrl_c(stop), bars(console) as progress:
        bar = progress.add_task("graded", total=None, said="")
        for each in grade_folder(folder, settings, jobs or processors(), stop):
            graded.append(each)
            progress.update(bar, completed=each.done, total=each.total, said=each.task.student)
            if each.report.problem:
                console.print(problem_text(each), markup=False, highlight=False, soft_wrap=True)
    sys.stdout.write(summary([each.report for each in graded], Path(settings.out) / TABLE) + "\n")
    if stop.is_set():
        console.print(f"stopped after {len(graded)} submissions; the same command goes on", highlight=False)
    return STOPPED if stop.is_set() else 0


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def problem_text(graded: Graded) -> str:
    """The line about a submission that could not be graded."""
    return f"{exports.line(graded.task.student)}: {exports.line(str(graded.report.problem))}"


def summary(reports: Sequence[Report], table: Path) -> str:
    """How many submissions earned how many points, and what went wrong most often.

    >>> print(summary([], Path("results/grades.csv")))
    0 submissions graded; results/grades.csv
    """
    count, which = len(reports), "submission" if len(reports) == 1 else "submissions"
    lines = [f"{count} {which} graded; {table}"]
    for points, times in sorted(Counter(report.points for report in reports).items(), reverse=True):
        lines.append(f"  {points:>3} points  {times:>4}  {'█' * max(1, round(40 * times / count))}")
    hints = Counter(question.hint for report in reports for question in report.questions if question.hint)
    lines += [f"  {times} × {exports.line(hint)}" for hint, times in hints.most_common(3)]
    return "\n".join(lines)


# Exercises.


def build_command() -> int:
    """Write the exercises out of their solutions, and say which files changed."""
    from toolkit.grading.building import build

    changed = build()
    for path in changed:
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(f"{len(changed)} files written\n")
    return 0
