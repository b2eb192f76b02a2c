"""Writes the file to upload: python grading-templates/gradescope/bundle.py EXERCISE autograder.zip."""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def files() -> Iterator[tuple[Path, str]]:
    """The files of the archive and their names in it: Gradescope wants its two scripts at the top."""
    for name in ("setup.sh", "run_autograder"):
        yield HERE / name, name
    yield ROOT / "requirements.txt", "requirements.txt"
    for folder in ("toolkit", "solutions"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path, path.relative_to(ROOT).as_posix()


def bundle(exercise: str, archive: Path) -> None:
    """Write the archive; the scripts stay executable in it."""
    if not (ROOT / "solutions" / "checks" / f"{exercise}.py").is_file():
        sys.exit(f"there is no exercise {exercise!r}; the names are those of the files in solutions/checks")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path, name in files():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            made.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        made.writestr("exercise.txt", exercise + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bundle(sys.argv[1], Path(sys.argv[2]))
