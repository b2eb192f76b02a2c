"""That the benchmark of grading measures what it says; whether its promises hold is for the real run to tell."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.benchmarks import grading, otter
from toolkit.grading.questions import Exercise, Item, Question
from toolkit.grading.submissions import load_exercise

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not (grading.ROOT / "solutions").is_dir(), reason="the solutions are the submissions"),
]


def fake_otter(folder: Path, printed: str) -> Path:
    """An environment whose Python prints a version or a result, whatever it is asked."""
    folder.mkdir()
    (folder / "otter").write_text("#!/bin/sh\n")
    (folder / "python").write_text(f'#!/bin/sh\ncase "$2" in *version*) echo 9.9;; *) echo "{printed}";; esac\n')
    for name in ("otter", "python"):
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="the fake otter is a shell script")
def test_both_grade_the_same_exercise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = fake_otter(tmp_path / "tools", "2.0 10.0 10.0")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    measured = grading._beside_otter(tmp_path, 0, students=3, notebooks=2, pairs=1)
    ours, others, ratio = measured.rows
    assert ours.median > 0
    assert others.what.startswith("otter-grader 9.9")
    assert others.median == pytest.approx((os.cpu_count() or 1) * 2 / 2.0 * 60)
    assert ratio.median == pytest.approx(ours.median / others.median)
    assert [check.goal for check in measured.checks] == ["at least 1000", "at least 20"]
    assert len(list((tmp_path / "notebooks").rglob("*.ipynb"))) == 2


def test_where_otter_is_absent_so_are_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "find_otter", lambda: None)
    measured = grading._beside_otter(tmp_path, 0, students=2, notebooks=1, pairs=1)
    assert len(measured.rows) == len(measured.checks) == 1


def test_a_submission_that_loses_points_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "_solution", lambda exercise: "")
    with pytest.raises(RuntimeError, match="not every right submission got 10 points"):
        grading._beside_otter(tmp_path, 0, students=1, notebooks=1, pairs=1)
    with pytest.raises(RuntimeError, match="there is no exercise 'ch99'"):
        grading._grade([str(tmp_path), "--exercise", "ch99", "--out", str(tmp_path)])


@pytest.mark.skipif(os.name == "nt", reason="the fake otter is a shell script")
def test_an_otter_that_gives_no_full_marks_is_no_peer(tmp_path: Path) -> None:
    python = fake_otter(tmp_path / "tools", "2.0 8.0 10.0") / "python"
    with pytest.raises(RuntimeError, match="no full marks"):
        otter.seconds_of(otter.start_otter(python, tmp_path, [tmp_path]))


def test_a_students_check_is_timed_for_both_forms(tmp_path: Path) -> None:
    measured = grading._checks(tmp_path, 2)
    assert [row.what for row in measured.rows] == ["a student's check, .py", "a student's check, .ipynb"]
    assert all(0.05 < row.least <= row.most for row in measured.rows)
    assert [check.goal for check in measured.checks] == ["at most 1", "at most 1.5"]


def inside(archive: Path) -> dict[str, dict[str, Any]]:
    """The tests of an archive of otter's, by name."""
    found = {}
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if name.startswith("tests/"):
                space: dict[str, Any] = {}
                exec(opened.read(name).decode(), space)
                assert space["OK_FORMAT"]
                found[space["test"]["name"]] = space["test"]
    return found


def test_otter_gets_our_cases_and_points(tmp_path: Path) -> None:
    exercise = load_exercise(grading.EXERCISE).exercise
    otter.write_archive(exercise, 3, tmp_path / "a.zip")
    found = inside(tmp_path / "a.zip")
    assert {name: test["points"] for name, test in found.items()} == {q.name: q.points for q in exercise.questions}
    solution: dict[str, Any] = {"__name__": "solution"}
    exec((grading.ROOT / "solutions" / f"{grading.EXERCISE}.py").read_text("utf-8"), solution)
    for question in exercise.questions:
        (suite,) = found[question.name]["suites"]
        assert len(suite["cases"]) >= 5
        for case in suite["cases"]:
            call, right = case["code"].removeprefix(">>> ").split("\n")
            assert right == "True"
            assert eval(call, solution) is True


def test_hidden_cases_come_from_the_seed(tmp_path: Path) -> None:
    def drawn(rng: np.random.Generator) -> list[tuple[int]]:
        return [(int(rng.integers(10**9)),)]

    exercise = Exercise("one", "One", (Question("same", (Item("it", 1, ((7,),), drawn),), lambda x: x),))
    codes = []
    for number, seed in enumerate((1, 1, 2)):
        otter.write_archive(exercise, seed, tmp_path / f"{number}.zip")
        codes.append([case["code"] for case in inside(tmp_path / f"{number}.zip")["same"]["suites"][0]["cases"]])
    assert codes[0] == codes[1] != codes[2]
    assert codes[0][0] == codes[2][0] == ">>> same(*(7,)) == 7\nTrue"


def test_keras_submissions_are_timed_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an exercise that needs no Keras, which takes a tenth of the time."""
    monkeypatch.setattr(grading, "KERAS_EXERCISE", grading.EXERCISE)
    measured = grading._keras(tmp_path, 2)
    assert measured.rows[0].median == measured.checks[0].value > 0
    assert measured.checks[0].goal == "at least 30"
