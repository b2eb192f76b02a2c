"""The terminal's side of grading: one file for a student, a folder for an instructor."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.test_grading import RIGHT
from toolkit.errors import InputError
from toolkit.grade_command import build_command, grade_command, summary
from toolkit.grading import exports, submissions
from toolkit.grading.batch import Settings, grade_folder, read_report, write_whole
from toolkit.grading.sandbox import levels
from toolkit.grading.submissions import load_exercise, load_pack, stem_of, tasks

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checks(tmp_path: Path) -> str:
    """A file of checks of our own."""
    path = tmp_path / "trial.py"
    path.write_text("from tests.trial import TRIAL as EXERCISE\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three students."""
    made = tmp_path / "handed in"
    (made / "cy" / "deep").mkdir(parents=True)
    (made / "ana_trial.py").write_text(RIGHT, encoding="utf-8")
    (made / "cy" / "deep" / "trial.py").write_text(RIGHT.replace("+ 1)", ")"), encoding="utf-8")
    with zipfile.ZipFile(made / "bo.zip", "w") as archive:
        archive.writestr("work/trial.py", RIGHT.replace("max(", "min("))
        archive.writestr("work/other.py", "1 / 0")
    return made


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "grades.csv").read_text("utf-8"))))


def test_a_student_sees_points_inputs_answers_and_hints(
    checks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(RIGHT.replace("+ 1)", ")"), encoding="utf-8")
    assert grade_command(path, checks, seed=3, student="ana") == 0
    said = capsys.readouterr().out
    assert "6 of 10 points" in said
    assert "called with parameters(3, 8, 5)" in said
    assert "hint: every filter has a bias" in said
    assert "--seed 3" in said
    assert grade_command(path, checks, seed=3, student="ana") == 0
    assert capsys.readouterr().out == said
    grade_command(path, checks)
    grade_command(path, checks)
    seeds = [line for line in capsys.readouterr().out.splitlines() if "--seed" in line]
    assert seeds[0] != seeds[1]


def test_one_submission_with_results_in_a_folder(checks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = tmp_path / "mine.py", tmp_path / "out"
    path.write_text(RIGHT, encoding="utf-8")
    monkeypatch.setenv("ASSIGNMENT", "week-3")
    assert grade_command(path, checks, out=out, student="ana") == 0
    assert {*exports.EXPORTS, "report.json"} <= {each.name for each in out.iterdir()}
    assert '"week-3"' in (out / "result.json").read_text("utf-8")
    assert grade_command(tmp_path / "missing.py", checks, out=tmp_path / "none") == 0
    report = read_report(tmp_path / "none")
    assert report is not None
    assert report.problem == "there is no missing.py; a .py or .ipynb file was expected"


def test_a_folder_is_graded_and_not_graded_again(
    checks: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    assert grade_command(folder, checks, out=out, jobs=2) == 0
    said = capsys.readouterr().out
    assert "3 submissions graded" in said
    assert [(row["student"], row["points"], row["pooled"]) for row in rows(out)] == [
        ("ana", "10", "4"),
        ("bo", "6", "0"),
        ("cy", "6", "4"),
    ]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*/*")}
    assert grade_command(folder, checks, out=out, jobs=1) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*/*")} == before
    (folder / "ana_trial.py").write_text("", encoding="utf-8")
    assert grade_command(folder, checks, out=out, jobs=1) == 0
    assert [row["points"] for row in rows(out)] == ["0", "6", "6"]
    assert not list(temporary.iterdir())


def test_the_better_of_two_files_counts(checks: str, folder: Path, tmp_path: Path) -> None:
    (folder / "ana_trial.ipynb").write_text('{"cells": []}', encoding="utf-8")
    found = {each.task.student: each.report for each in grade_folder(folder, Settings(checks, str(tmp_path / "out")))}
    assert found["ana"].points == 10
    assert "2 files were handed in; ana_trial.py counts" in found["ana"].remarks[-1]


def test_zeros_are_there_before_anything_is_graded_and_a_stopped_run_keeps_them(
    checks: str, folder: Path, tmp_path: Path
) -> None:
    stop, out = threading.Event(), tmp_path / "out"
    stop.set()
    assert list(grade_folder(folder, Settings(checks, str(out)), stop=stop)) == []
    assert [row["points"] for row in rows(out)] == ["0", "0", "0"]
    for student in ("ana", "bo", "cy"):
        assert {*exports.EXPORTS} <= {path.name for path in (out / student).iterdir()}
    assert len(list(grade_folder(folder, Settings(checks, str(out))))) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_ends_it_after_what_it_has(checks: str, folder: Path, tmp_path: Path) -> None:
    for number in range(6):
        (folder / f"s{number}_trial.py").write_text("import time\ntime.sleep(0.8)\n" + RIGHT, encoding="utf-8")
    code = "import sys; from pathlib import Path; from toolkit.grade_command import grade_command as g; "
    code += f"sys.exit(g(Path({str(folder)!r}), {checks!r}, out=Path({str(tmp_path / 'out')!r}), jobs=1))"
    options: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    reset = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    with subprocess.Popen([sys.executable, "-c", reset + code], **options) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list((tmp_path / "out").glob("*/graded.txt")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in errors
    assert "Traceback" not in errors
    assert 1 <= int(said.split()[0]) < 9
    assert [row["points"] for row in rows(tmp_path / "out")].count("10") >= 1


def test_what_cannot_be_graded_is_said(checks: str, folder: Path, tmp_path: Path) -> None:
    for arguments, options, said in (
        ((tmp_path / "no.py", checks), {}, "there is no .*no.py"),
        ((folder, checks), {}, "say with --out"),
        ((folder,), {"out": tmp_path / "o"}, "say which exercise it is, as in --exercise ch01"),
        ((folder, "ch99_nothing"), {"out": tmp_path / "o"}, "there is no exercise 'ch99_nothing'; there are ch01"),
        ((folder, checks), {"out": tmp_path / "o", "isolation": "magic"}, "isolation is one of"),
        ((folder, checks), {"out": tmp_path / "o", "pack": tmp_path / "no.py"}, "there is no pack"),
    ):
        with pytest.raises(InputError, match=said):
            grade_command(*arguments, **options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no submission"):
        grade_command(tmp_path / "empty", checks, out=tmp_path / "o")
    if "bubblewrap" not in levels():
        with pytest.raises(InputError, match="'bubblewrap' is required"):
            grade_command(folder, checks, out=tmp_path / "o", require="bubblewrap")


def test_exercises_and_packs_are_read_from_files(tmp_path: Path) -> None:
    path = tmp_path / "checks.py"
    for text, said in (
        ("x = 1", "defines no EXERCISE"),
        ("1 / 0", "ZeroDivisionError"),
        ("import nothing_x", "Module"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            load_exercise(str(path))
    path.write_text("PACK = {'f': 3}", encoding="utf-8")
    with pytest.raises(InputError, match="from a question's name"):
        load_pack(path)
    path.write_text("PACK = {'f': lambda rng: [(1,)]}", encoding="utf-8")
    assert list(load_pack(path)) == ["f"]
    assert load_exercise("ch02_parameters").exercise.points == 10
    assert stem_of(Path("bo_ch02_parameters.ipynb")) == "ch02_parameters"


def test_students_are_told_apart(tmp_path: Path) -> None:
    names = [
        "Ana_ch02_parameters.py",
        "ana-ch02_parameters.py",
        "ch02_parameters-ana.zip",
        "bo_ch03_pooling.py",
        "ö.py",
    ]
    for name in (*names, ".hidden"):
        (tmp_path / name).write_text("", encoding="utf-8")
    found = tasks(tmp_path, "ch02_parameters")
    assert [(task.student, task.folder) for task in found] == [("Ana", "Ana"), ("ana", "ana-2"), ("ö", "student")]
    assert len(found[1].paths) == 2


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "one")

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "two")
    assert path.read_text("utf-8") == "one"


def test_the_summary_counts() -> None:
    assert summary([], Path("a.csv")) == "0 submissions graded; a.csv"


def test_exercises_are_built_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "solutions").mkdir()
    source = "# %%\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n"
    (tmp_path / "solutions" / "ch01_a.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert build_command() == 0
    assert "2 files written" in capsys.readouterr().out
    assert sorted(path.name for path in Path("exercises").iterdir()) == ["ch01_a.ipynb", "ch01_a.py"]
    assert build_command() == 0
    assert "0 files written" in capsys.readouterr().out


def test_links_and_hidden_files_are_no_submissions(tmp_path: Path) -> None:
    inside = tmp_path / "ana"
    (inside / ".ipynb_checkpoints").mkdir(parents=True)
    (inside / ".ipynb_checkpoints" / "trial.ipynb").write_text("", encoding="utf-8")
    (inside / "trial.py").symlink_to(ROOT / "tests" / "trial.py")
    with pytest.raises(InputError, match=r"ana holds no trial.py and no trial.ipynb"):
        submissions.candidates(inside, "trial", tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.py")
        with pytest.raises(InputError, match="no regular file"):
            submissions.candidates(tmp_path / "pipe.py", "trial", tmp_path)
