"""Classroom 50's runner starts this in the student's checkout; it leaves result.json and release-body.md there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXERCISE = (HERE / "exercise.txt").read_text("utf-8").strip()
PACKAGES = ["numpy", "rich", "typer"]  # for Keras questions also: "keras", "tensorflow-cpu"


def main() -> int:
    """Install what the grader needs, grade, and hand over; only an error of the set-up is an exit status."""
    checkout, results = Path.cwd(), HERE / "results"
    if "--no-install" not in sys.argv:
        python("pip", "install", "--quiet", "--constraint", "requirements.txt", *PACKAGES)
    submission = min(answers(checkout), key=lambda path: (len(path.parts), path), default=checkout / f"{EXERCISE}.py")
    student = os.environ.get("OWNER") or os.environ.get("USERNAME", "")
    demands = ("--exercise", EXERCISE, "--student", student, "--require", "landlock", "--out", str(results))
    python("toolkit", "grade", str(submission), *demands)
    leave(checkout / "result.json", (results / "result.json").read_text("utf-8"))
    leave(checkout / "release-body.md", f"````text\n{(results / 'report.txt').read_text('utf-8')}````\n")
    return 0


def python(*arguments: str) -> None:
    """Run a module here, never in the checkout: a file of the student's could take the place of a module there."""
    subprocess.run([sys.executable, "-m", *arguments], cwd=HERE, check=True)  # noqa: S603


def answers(checkout: Path) -> Iterator[Path]:
    """The files that may be the submission; a link out of the checkout, to the solutions say, is none."""
    for path in checkout.rglob(f"{EXERCISE}.*"):
        inside = path.resolve().is_relative_to(checkout.resolve())
        if path.suffix in (".py", ".ipynb") and path.is_file() and inside:
            yield path


def leave(path: Path, text: str) -> None:
    """Write a file in the checkout, in place of a link that the student may have put there."""
    path.unlink(missing_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
