"""What has to be there before the book is built, whichever engine does it: `python book/_ext/prepare.py`.

Into `_build/book-static`, which git does not know: the toolkit's arithmetic, MicroPython to run it in the reader's
browser, MathJax, and the data of the calculators. Into `book/_generated`: the exercises as pages include them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import exercise_pages  # noqa: E402 - found beside this file

from toolkit.architectures import architecture  # noqa: E402
from toolkit.runtimes import predict_memory  # noqa: E402

BOOK = ROOT / "book"
BUILD = ROOT / "_build"
STATIC = BUILD / "book-static"
GENERATED = BOOK / "_generated"
# Where the book's own buttons lead; on GitHub the workflow says it.
REPOSITORY = os.environ.get("BOOK_REPOSITORY", "")
REGISTRY = "https://registry.npmjs.org"
EXECUTED_WITH = ("keras", "numpy", "matplotlib", "scikit-learn", "ipykernel", "myst-nb")


# The key of the execution cache.


def key() -> str:
    """A name for all that a page's cells import and read: the toolkit, the solutions, the results and the versions."""
    digest = hashlib.sha256()
    for path in sorted(_read_by_cells()):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    for name in EXECUTED_WITH:
        digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()[:16]


def _read_by_cells() -> Iterator[Path]:
    """The files that can change what a cell gives; the app and the grader are not among them."""
    for path in (ROOT / "toolkit").rglob("*.py"):
        if not {"ui", "grading"} & set(path.relative_to(ROOT / "toolkit").parts):
            yield path
    yield from (BOOK / "results").rglob("*.json*")
    yield ROOT / "requirements.txt"


def cache_folder(name: str) -> Path:
    """The execution cache of this key, made; those of other keys are removed."""
    caches = Path(os.environ.get("BOOK_CACHE") or BUILD / "book-cache")
    caches.mkdir(parents=True, exist_ok=True)
    for other in caches.iterdir():
        if other.name != name:
            shutil.rmtree(other)
    folder = caches / name
    folder.mkdir(exist_ok=True)
    return folder


# Others' code, fetched and checked, never committed.


@dataclass(frozen=True)
class Package:
    """A package of npm: its version, the hash that npm publishes, and which of its files go where in the site."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]

    @property
    def address(self) -> str:
        """Where the registry keeps the archive."""
        return f"{REGISTRY}/{self.name}/-/{self.name.split('/')[-1]}-{self.version}.tgz"


PACKAGES = (
    Package(
        "mathjax",
        "3.2.2",
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        {"es5/tex-chtml.js": "mathjax/tex-chtml.js", "es5/output/chtml/fonts/": "mathjax/output/chtml/fonts/"},
    ),
    Package(
        "@micropython/micropython-webassembly-pyscript",
        "1.27.0",
        "DnXx4EqxgkeaFESrS3uKrL7mLMk4mRTd0mMzaOd3HUSiZUOAE7t11uLnjf3ftF87N2xm4knHnWEKcVK4IYIUDA==",
        {"micropython.mjs": "micropython/micropython.mjs", "micropython.wasm": "micropython/micropython.wasm"},
    ),
)


# Only the checks of the built site need it.
AXE = Package(
    "axe-core",
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    {"axe.min.js": "axe.min.js"},
)


def archive(package: Package) -> bytes | None:
    """The archive from the cache or the registry; None without a network. Raises ValueError for another content."""
    kept = BUILD / "npm" / f"{package.name.split('/')[-1]}-{package.version}.tgz"
    if not kept.is_file():
        try:
            with urllib.request.urlopen(package.address, timeout=60) as answer:  # noqa: S310 - the address is ours
                content = answer.read()
        except (urllib.error.URLError, TimeoutError):
            return None
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    content = kept.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
        kept.unlink()
        raise ValueError(f"{package.address} is not what was published as {package.name} {package.version}")
    return content


def unpack(package: Package, content: bytes, folder: Path = STATIC) -> None:
    """Write the wanted files of an archive into a folder, by default that of what the pages load."""
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        for member in files.getmembers():
            inner = member.name.removeprefix("package/")
            for start, target in package.files.items():
                if member.isfile() and (inner == start or (start.endswith("/") and inner.startswith(start))):
                    path = folder / (target + inner.removeprefix(start))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(files.extractfile(member).read())  # type: ignore[union-attr]


def vendored() -> list[str]:
    """Fetch the packages; returns the names of those that are not to be had now."""
    missing = []
    for package in PACKAGES:
        content = archive(package)
        if content is None:
            missing.append(package.name)
        else:
            unpack(package, content)
    return missing


# What the calculators run and know.

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PLANNED = (
    "three_layers",
    "alexnet",
    "vgg16",
    "googlenet",
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "xception",
    "vit_tiny",
)


def planner_data() -> dict[str, object]:
    """What the planner in the page chooses from: by network, optimizer and batch, predicted peaks of the process."""
    return {name: {"shape": architecture(name).input_shape, **peaks(name)} for name in PLANNED}


def peaks(name: str) -> dict[str, dict[str, list[int]]]:
    """By optimizer: the peaks of steps that update the weights at once, and of steps that accumulate first."""
    net = architecture(name)

    def by_batch(optimizer: str, steps: int) -> list[int]:
        return [
            predict_memory(net, batch, optimizer=optimizer, accumulation_steps=steps).process_bytes for batch in BATCHES
        ]

    return {name: {"once": by_batch(name, 1), "accumulated": by_batch(name, 2)} for name in ("sgd", "adam")}


def static() -> None:
    """Put the toolkit's arithmetic and the planner's data where the pages find them."""
    STATIC.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "toolkit" / "arithmetic.py", STATIC / "arithmetic.py")
    data = {"batches": BATCHES, "networks": planner_data()}
    (STATIC / "planner.json").write_text(json.dumps(data), encoding="utf-8")


def main() -> list[str]:
    """Make everything; returns the names of packages that could not be fetched."""
    static()
    GENERATED.mkdir(exist_ok=True)
    for name, text in exercise_pages.fragments().items():
        write(GENERATED / name, text)
    return vendored()


def write(path: Path, text: str) -> None:
    """Write a file unless it says that already: the engines look at the time of its last change."""
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    absent = main()
    if absent:
        sys.stderr.write(f"could not be fetched: {', '.join(absent)}; the calculators and formulae need them\n")
