"""Writes the folder of an assignment: python grading-templates/classroom50/bundle.py EXERCISE FOLDER."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NO_CACHE = shutil.ignore_patterns("__pycache__")


def bundle(exercise: str, folder: Path) -> None:
    """Put the autograder, the toolkit and the solutions with their checks into a folder."""
    if not (ROOT / "solutions" / "checks" / f"{exercise}.py").is_file():
        sys.exit(f"there is no exercise {exercise!r}; the names are those of the files in solutions/checks")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("toolkit", "solutions"):
        shutil.copytree(ROOT / name, folder / name, ignore=NO_CACHE, dirs_exist_ok=True)
    shutil.copyfile(ROOT / "requirements.txt", folder / "requirements.txt")
    shutil.copyfile(HERE / "autograder.py", folder / "autograder.py")
    (folder / "exercise.txt").write_text(exercise + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bundle(sys.argv[1], Path(sys.argv[2]))
