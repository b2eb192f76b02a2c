"""Folders of submissions as courses collect them: archives, notebooks and names that are out to harm, or only odd."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import trial
from tests.attacks import ALL, RIGHT_PARAMETERS, RIGHT_REST
from tests.test_grading_exports import CLASSROOM, GRADESCOPE, fits
from toolkit.grading.batch import Settings, grade_folder
from toolkit.grading.reports import Report
from toolkit.grading.sandbox import Limits

RIGHT = RIGHT_PARAMETERS + RIGHT_REST
WRONG = RIGHT_PARAMETERS.replace("+ 1", "") + RIGHT_REST
SHORT = Limits(statement_seconds=1.0, submission_seconds=6.0)
Cell = str | dict[str, Any]


def notebook(*cells: Cell, **other: Any) -> str:
    """The text of a notebook of these cells."""
    plain: dict[str, Any] = {"metadata": {}, "outputs": [], "execution_count": None}
    made = [
        {"cell_type": "code", "source": cell, **plain} if isinstance(cell, str) else {**plain, **cell} for cell in cells
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5, **other})


def zipped(path: Path, members: dict[str, bytes], **links: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name that comes twice
        for name, data in members.items():
            archive.writestr(name, data)
        for name, target in links.items():
            entry = zipfile.ZipInfo(name.replace("_py", ".py"))
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)


# What a student handed in: a function that makes it at a path without a suffix, the points, words of the reason.
Made = tuple[Callable[[Path], object], int, str]
Q1 = RIGHT_PARAMETERS


def as_file(text: str | bytes, suffix: str = ".py") -> Callable[[Path], object]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda at: Path(f"{at}{suffix}").write_bytes(data)


def as_notebook(*cells: Cell, **other: Any) -> Callable[[Path], object]:
    return as_file(notebook(*cells, **other), ".ipynb")


def as_zip(members: dict[str, bytes], **links: str) -> Callable[[Path], object]:
    return lambda at: zipped(Path(f"{at}.zip"), members, **links)


def as_folder(files: dict[str, str], **links: str) -> Callable[[Path], object]:
    def make(at: Path) -> None:
        at.mkdir()
        for name, text in files.items():
            (at / name).write_text(text)
        for name, target in links.items():
            (at / f"{name}.py").symlink_to(target)

    return make


def climbing(at: Path) -> None:
    zipped(Path(f"{at}.zip"), {str(at.parent / "absolute" / "trial.py"): RIGHT.encode()})


def cut(at: Path) -> None:
    archive = Path(f"{at}.zip")
    zipped(archive, {"trial.py": os.urandom(5000)})
    archive.write_bytes(archive.read_bytes()[:3000])


def nested(at: Path) -> None:
    archive = Path(f"{at}.zip")
    zipped(archive, {"trial.py": RIGHT.encode()})
    zipped(archive, {"inner.zip": archive.read_bytes()})


def sparse(at: Path) -> None:
    as_file("")(at)
    os.truncate(f"{at}.py", 2**36)


EXITS = "import os; os._exit(0)"
MODULES = ("numpy.py", "json.py", "conftest.py", "sitecustomize.py", "toolkit.py", "pytest.ini")
MIXED = notebook("%matplotlib inline\n!pip install numpy\nimport os", "%%time\n" + Q1, RIGHT_REST, "?pooled")
SUBMISSIONS: dict[str, Made] = {
    "a right file": (as_file(RIGHT), 10, ""),
    "a wrong file": (as_file(WRONG), 6, ""),
    "an empty file": (as_file(""), 0, ""),
    "no Python": (as_file(bytes(range(256)) * 64), 0, ""),
    "letter.docx": (as_file("see attached", ""), 0, ".py or .ipynb"),
    "a right notebook": (as_notebook(Q1, RIGHT_REST), 10, ""),
    "cells out of order": (as_notebook(RIGHT_REST, Q1), 10, ""),
    "a cell that fails": (as_notebook("1 / 0", Q1, EXITS, RIGHT_REST), 10, ""),
    "a cell that is no Python": (as_notebook("def broken(:", Q1, RIGHT_REST), 10, ""),
    "a cell that never ends": (as_notebook(Q1, "while True: pass", RIGHT_REST), 10, ""),
    "a missing cell": (as_notebook(RIGHT_REST), 6, ""),
    "magics": (as_file(MIXED, ".ipynb"), 10, ""),
    "text between": (as_notebook({"cell_type": "markdown", "source": ["# x\n", "def y"]}, Q1, RIGHT_REST), 10, ""),
    "a megabyte of outputs": (
        as_notebook({"cell_type": "code", "source": Q1, "outputs": [{"text": "x" * 10**6}]}, RIGHT_REST),
        10,
        "",
    ),
    "another kernel": (as_notebook("x <- c(1, 2)", metadata={"kernelspec": {"name": "ir", "language": "R"}}), 0, ""),
    "version 3": (
        as_file(json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": [RIGHT]}]}]}), ".ipynb"),
        10,
        "",
    ),
    "no cells": (as_notebook(), 0, ""),
    "an empty notebook": (as_file("", ".ipynb"), 0, "no notebook"),
    "a notebook that is a list": (as_file("[]", ".ipynb"), 0, "no notebook"),
    "a notebook of numbers": (as_file('{"cells": [1, null, {}]}', ".ipynb"), 0, ""),
    "a deep notebook": (as_file('{"cells":' * 10**5, ".ipynb"), 0, "no notebook"),
    "a cut notebook": (as_file(notebook(RIGHT)[:-40], ".ipynb"), 0, "no notebook"),
    "bytes in a notebook": (as_file(b"\xff\xfe\x00{", ".ipynb"), 0, "no notebook"),
    "a right archive": (as_zip({"work/trial.py": RIGHT.encode()}), 10, ""),
    "a right folder": (as_folder({"trial.py": RIGHT}), 10, ""),
    "an empty folder": (as_folder({}), 0, "trial.py"),
    "an empty archive": (as_zip({}), 0, ""),
    "an archive that is none": (as_file("PK not", ".zip"), 0, "zip"),
    "a cut archive": (cut, 0, "zip"),
    "an archive that climbs": (as_zip({"../../../climbed/trial.py": RIGHT.encode()}), 0, ""),
    "an archive with an absolute name": (climbing, 0, ""),
    "an archive with a link": (as_zip({"a.txt": b""}, trial_py=str(Path(trial.__file__))), 0, ""),
    "a bomb": (as_zip({"trial.py": b"#" * 300_000_000}), 0, ""),
    "many files": (as_zip({f"{number}.txt": b"" for number in range(6000)}), 0, ""),
    "an archive in an archive": (nested, 0, "trial.py"),
    "modules of its own": (
        as_folder({"trial.py": "import numpy, not_here\n" + WRONG, **dict.fromkeys(MODULES, EXITS)}),
        6,
        "",
    ),
    "a link to the reference": (lambda at: Path(f"{at}.py").symlink_to(trial.__file__), 0, "link"),
    "a folder with a link": (as_folder({}, trial=trial.__file__), 0, "trial.py"),
    "a folder that is a link": (lambda at: at.symlink_to(Path(trial.__file__).parent), 0, "link"),
    "a pipe": (lambda at: os.mkfifo(f"{at}.py"), 0, ""),
    "a file that is far too large": (sparse, 0, "at most"),
    "=cmd|' ' name": (as_file(WRONG), 6, ""),
    'name\nwith, "signs" \x1b[31m': (as_file(WRONG), 6, ""),
    os.fsdecode(b"na\xffme"): (as_file(RIGHT), 10, ""),
    "x" * 200: (as_file(RIGHT), 10, ""),
    "Mixed": (as_file(RIGHT), 10, ""),
    "mixed": (as_file(WRONG), 6, ""),
}

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and names that Windows does not have"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that students hand in."""
    folder = tmp_path_factory.mktemp("course") / "submissions"
    folder.mkdir()
    for name, (make, _, _) in SUBMISSIONS.items():
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def graded(folder: Path) -> dict[str, Report]:
    """The reports by student; the results are in `results` beside the folder."""
    settings = Settings(str(Path(trial.__file__)), str(folder.with_name("results")), seed=5, limits=SHORT)
    return {each.task.student: each.report for each in grade_folder(folder, settings, jobs=2)}


@pytest.mark.parametrize("name", SUBMISSIONS, ids=range(len(SUBMISSIONS)))
def test_everything_that_is_handed_in_gets_its_points_and_a_sentence(name: str, graded: dict[str, Report]) -> None:
    _, points, told = SUBMISSIONS[name]
    report = graded[name]
    sentences = [report.problem or "", *(question.sentence for question in report.questions)]
    assert report.points == points, sentences
    assert report.complete
    assert told in (report.problem or "")
    assert all("Traceback" not in sentence and "\n" not in sentence for sentence in sentences)


def test_nothing_is_written_outside(folder: Path, graded: dict[str, Report]) -> None:
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "results"}
    assert len(list(folder.iterdir())) == len(SUBMISSIONS) == len(graded)


def test_every_student_has_results_and_a_row(folder: Path, graded: dict[str, Report]) -> None:
    results = folder.with_name("results")
    found = [path for path in results.iterdir() if path.is_dir()]
    assert len(found) == len(SUBMISSIONS)
    scores = []
    for path in found:
        gradescope = json.loads((path / "results.json").read_text("utf-8"))
        fits(gradescope, GRADESCOPE)
        fits(json.loads((path / "result.json").read_text("utf-8")), CLASSROOM)
        scores.append(gradescope["score"])
    rows = list(csv.DictReader((results / "grades.csv").read_text("utf-8").splitlines()))
    assert sorted(int(row["points"]) for row in rows) == sorted(scores)
    assert sorted(scores) == sorted(report.points for report in graded.values())


def test_the_same_seed_gives_the_same_bytes_and_the_same_command_goes_on(
    folder: Path, graded: dict[str, Report], tmp_path: Path
) -> None:
    """A second run takes what is there; one into another folder writes the same files."""
    results = folder.with_name("results")
    begun = time.monotonic()
    again = Settings(str(Path(trial.__file__)), str(results), seed=5, limits=SHORT)
    assert {each.task.student: each.report for each in grade_folder(folder, again, jobs=2)} == graded
    assert time.monotonic() - begun < 10
    few = tmp_path / "few"
    few.mkdir()
    for name in ("a wrong file.py", "a cell that fails.ipynb", "a bomb.zip"):
        (few / name).write_bytes((folder / name).read_bytes())
    other = Settings(str(Path(trial.__file__)), str(tmp_path / "other"), seed=5, limits=SHORT)
    assert len(list(grade_folder(few, other))) == 3
    for path in (tmp_path / "other").rglob("*.*"):
        if path.parent != tmp_path / "other":
            assert path.read_bytes() == (results / path.relative_to(tmp_path / "other")).read_bytes(), path


def test_a_killed_run_leaves_zeros_or_whole_grades_and_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle: every file is there and can be read, no grade is wrong, and the next run does the rest."""
    submissions, results = tmp_path / "submissions", tmp_path / "results"
    submissions.mkdir()
    for number in range(40):
        (submissions / f"s{number}.py").write_text("import time; time.sleep(0.1)\n" + (RIGHT if number % 2 else WRONG))
    settings = Settings(str(Path(trial.__file__)), str(results), limits=SHORT)
    code = f"""
import sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from toolkit.grading.batch import *
for each in grade_folder(Path({str(submissions)!r}), {settings!r}, jobs=2): print(each.done, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            while int(process.stdout.readline()) < 5:
                pass
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    found = {
        path.name: json.loads((path / "results.json").read_text("utf-8")) for path in results.iterdir() if path.is_dir()
    }
    assert len(found) == 40
    for name, result in found.items():
        most = 10 if int(name[1:]) % 2 else 6
        assert result["score"] <= most
        assert result["score"] in (most, *((0, 4, 6) if most == 10 else (0, 4)))
    assert sum(result["score"] > 0 for result in found.values()) >= 5
    assert sum(result["score"] == 0 for result in found.values()) >= 5
    reports = [each.report for each in grade_folder(submissions, settings, jobs=2)]
    assert sorted(report.points for report in reports) == [6] * 20 + [10] * 20


def test_all_points_are_what_the_trial_pays() -> None:
    assert sum(ALL.values()) == trial.TRIAL.points == 10
