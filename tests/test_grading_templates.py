"""The templates for GitHub Actions, Classroom 50 and Gradescope, run as far as a machine without those services can."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.test_grading_exports import CLASSROOM, GRADESCOPE, fits, fits_junit
from toolkit.grading.sandbox import levels

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "grading-templates"
EXERCISE = "ch02_parameters"
SOLUTION = ROOT / "solutions" / f"{EXERCISE}.py"
STUB = ROOT / "exercises" / f"{EXERCISE}.py"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif("landlock" not in levels(), reason="the templates demand Landlock, which this machine lacks"),
]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; fails where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def autograder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gradescope's folders with our archive unpacked in them."""
    folder = tmp_path_factory.mktemp("gradescope")
    run(sys.executable, TEMPLATES / "gradescope" / "bundle.py", EXERCISE, folder / "a.zip", cwd=folder)
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder / "source")
    return folder


class TestGradescope:
    def grade(self, folder: Path, submission: dict[str, bytes]) -> dict[str, Any]:
        for name in ("submission", "results", "grading"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        for name, data in submission.items():
            (folder / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "submission" / name).write_bytes(data)
        run("bash", folder / "source" / "run_autograder", cwd=folder, AUTOGRADER=str(folder), PYTHON=sys.executable)
        found: dict[str, Any] = json.loads((folder / "results" / "results.json").read_text("utf-8"))
        fits(found, GRADESCOPE)
        return found

    def test_scripts_stand_at_the_top_and_are_executable(self, autograder: Path) -> None:
        with zipfile.ZipFile(autograder / "a.zip") as archive:
            rights = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        assert rights["setup.sh"] & rights["run_autograder"] & stat.S_IXUSR
        assert not any("__pycache__" in name for name in rights)

    def test_a_right_submission_gets_all_points(self, autograder: Path) -> None:
        (autograder / "submission_metadata.json").write_text('{"users": [{"email": "ana@example.org"}]}')
        found = self.grade(autograder, {"work/" + SOLUTION.name: SOLUTION.read_bytes()})
        assert found["score"] == 10
        assert "ana@example.org" in found["output"]

    def test_files_beside_it_take_no_place_of_ours(self, autograder: Path) -> None:
        evil = b"import os; os._exit(0)"
        names = ("toolkit.py", "json.py", "numpy.py", "sitecustomize.py", "conftest.py", "toolkit/__init__.py")
        found = self.grade(autograder, {STUB.name: STUB.read_bytes(), **dict.fromkeys(names, evil)})
        assert found["score"] == 0

    def test_an_empty_submission_is_a_sentence(self, autograder: Path) -> None:
        found = self.grade(autograder, {"notes.txt": b"sorry"})
        assert found["score"] == 0
        assert f"{EXERCISE}.py" in found["output"]

    def test_setting_up_installs_what_the_grader_needs(self, autograder: Path) -> None:
        tools, log = autograder / "tools", autograder / "log"
        script(tools / "apt-get", f'echo "apt-get $*" >> {log}')
        made = f"printf '#!/bin/sh\\necho \"$0 $*\" >> {log}\\n' > $3/bin/python; chmod +x $3/bin/python"
        script(
            tools / "python3", f'if [ "$2" = venv ]; then mkdir -p $3/bin; {made}; else exec {sys.executable} "$@"; fi'
        )
        path = f"{tools}:{os.environ['PATH']}"
        run("bash", autograder / "source" / "setup.sh", cwd=autograder, AUTOGRADER=str(autograder), PATH=path)
        told = log.read_text().splitlines()
        assert "apt-get install -y -qq python3 python3-venv" in told
        assert told[-1].startswith(f"{autograder}/venv/bin/python -m pip install")
        assert told[-1].endswith("source/requirements.txt numpy rich typer")


SAID = {
    "CLASSROOM": "cnn-2027",
    "ASSIGNMENT": "parameters",
    "OWNER": "ana",
    "ASSIGNMENT_TYPE": "individual",
    "SUBMISSION_TAG": "submit/2027-01-02T03-04-05Z-a1b2c3d",
    "COMMIT_URL": "https://github.com/course/parameters-ana/commit/a1b2c3d",
    "RELEASE_URL": "https://github.com/course/parameters-ana/releases/tag/x",
    "REVIEW_URL": "https://github.com/course/parameters-ana/compare/x...y",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classroom50") / "bundle"
    run(sys.executable, TEMPLATES / "classroom50" / "bundle.py", EXERCISE, folder, cwd=folder.parent)
    return folder


class TestClassroom50:
    def grade(self, bundle: Path, checkout: Path) -> dict[str, Any]:
        run(sys.executable, bundle / "autograder.py", "--no-install", cwd=checkout, **SAID)
        found: dict[str, Any] = json.loads((checkout / "result.json").read_text("utf-8"))
        fits(found, CLASSROOM)
        return found

    def test_a_right_submission_gets_all_points(self, bundle: Path, tmp_path: Path) -> None:
        shutil.copy(SOLUTION, tmp_path)
        found = self.grade(bundle, tmp_path)
        assert (found["score"], found["max-score"], found["owner"]) == (10, 10, "ana")
        assert found["submission"] == SAID["SUBMISSION_TAG"]
        assert found["review"] == SAID["REVIEW_URL"]
        assert "10 of 10 points" in (tmp_path / "release-body.md").read_text("utf-8")

    def test_links_and_modules_of_the_checkout_gain_nothing(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / SOLUTION.name).symlink_to(bundle / "solutions" / SOLUTION.name)
        (tmp_path / "result.json").symlink_to(bundle / "exercise.txt")
        (tmp_path / "toolkit.py").write_text("raise SystemExit(0)")
        assert self.grade(bundle, tmp_path)["score"] == 0
        assert (bundle / "exercise.txt").read_text() == f"{EXERCISE}\n"

    def test_an_unknown_exercise_is_a_sentence(self, tmp_path: Path) -> None:
        command = [sys.executable, str(TEMPLATES / "classroom50" / "bundle.py"), "ch99", str(tmp_path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("there is no exercise 'ch99'")


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    yaml: Any = pytest.importorskip("yaml")
    workflow: dict[str, Any] = yaml.safe_load((TEMPLATES / "github-actions" / "grade.yml").read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    return {"env": workflow["env"], **workflow["jobs"]["grade"]}


class TestGitHubActions:
    def test_its_steps_grade_and_report(self, job: dict[str, Any], tmp_path: Path) -> None:
        checkout, temporary, tools = tmp_path / "checkout", tmp_path / "temporary", tmp_path / "tools"
        temporary.mkdir()
        (checkout / "exercises").mkdir(parents=True)
        shutil.copy(SOLUTION, checkout / "exercises")
        parts = " ".join(str(ROOT / name) for name in ("toolkit", "solutions", "requirements.txt"))
        script(tools / "git", f"mkdir course && cp -r {parts} course")
        script(
            tools / "python", f'if [ "$2" = pip ]; then echo "$*" > {tmp_path}/pip; else exec {sys.executable} "$@"; fi'
        )
        environment = {
            **job["env"],
            "PATH": f"{tools}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(temporary),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_REPOSITORY_OWNER": "ana",
        }
        for step in job["steps"]:
            if "run" in step:
                run("bash", "-eo", "pipefail", "-c", step["run"], cwd=checkout, **environment)
        assert "10 of 10 points" in (tmp_path / "summary.md").read_text("utf-8")
        assert "numpy rich typer" in (tmp_path / "pip").read_text()
        results = temporary / "results"
        fits(json.loads((results / "results.json").read_text("utf-8")), GRADESCOPE)
        fits_junit(ElementTree.fromstring((results / "junit.xml").read_text("utf-8")))
