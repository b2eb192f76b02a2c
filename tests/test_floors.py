"""The house rules that a machine holds: imports go down the floors, heavy libraries stay where they are named."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "toolkit"

FLOORS = {
    "arithmetic": 0,
    "errors": 0,
    "layers": 1,
    "architectures": 2,
    "costs": 2,
    "datasets": 2,
    "system": 2,
    "blocks": 3,
    "drawings": 3,
    "export": 3,
    "figures": 3,
    "keras_files": 3,
    "plots": 3,
    "runtimes": 3,
    "steps": 3,
    "show": 3,
    "pixel_networks": 3,
    "pixel_scores": 3,
    "calibration": 3,
    "charts": 3,
    "curves": 3,
    "ensembles": 3,
    "records": 3,
    "zoo_plots": 3,
    "zoo_results": 3,
    "build": 4,
    "forward": 4,
    "keras_layers": 4,
    "loading": 4,
    "streaming": 4,
    "zips": 4,
    "photos": 4,
    "bases": 4,
    "explaining": 4,
    "convolutional": 4,
    "pixel_losses": 4,
    "attacks": 4,
    "book_support": 4,
    "corruptions": 4,
    "gradients": 4,
    "recipes": 4,
    "shifting": 4,
    "fitting": 5,
    "memory": 5,
    "probes": 5,
    "pictures": 5,
    "processes": 5,
    "train_script": 5,
    "training": 5,
    "checkpoints": 5,
    "photo_batches": 5,
    "scenes": 5,
    "terminal": 5,
    "augmenting": 5,
    "optimizing": 5,
    "quantizing": 5,
    "benchmarks": 6,
    "answers": 6,
    "batches": 6,
    "distributed_command": 6,
    "measurements": 6,
    "memory_command": 6,
    "memory_reports": 6,
    "jobs": 6,
    "stream_command": 6,
    "train_command": 6,
    "finetuning": 6,
    "transfer": 6,
    "outcomes": 6,
    "deploying": 6,
    "finetune_command": 6,
    "segmentation": 6,
    "segmenting": 6,
    "segment_command": 6,
    "grading": 6,
    "grade_command": 6,
    "photo_jobs": 6,
    "pixel_jobs": 6,
    "ui": 7,
    "__init__": 8,
    "__main__": 8,
}
HEAVY = {
    "keras": {
        "streaming.pipeline",
        "streaming.outputs",
        "streaming.distributed",
        "build",
        "keras_layers",
        "fitting",
        "probes",
        "memory_command",
        "benchmarks",
        "bases",
        "convolutional",
        "deploying",
        "explaining",
        "finetune_command",
        "outcomes",
        "photo_batches",
        "pixel_losses",
        "segmenting",
        "transfer",
        "grading.rebuilding",
        "attacks",
        "augmenting",
        "gradients",
        "optimizing",
        "quantizing",
    },
    "tensorflow": {
        "streaming.pipeline",
        "streaming.outputs",
        "streaming.distributed",
        "fitting",
        "probes",
        "gradients",
        "deploying",
    },
    "matplotlib": {"charts", "curves", "drawings", "figures", "plots", "zoo_plots", "benchmarks"},
    "gradio": {"ui"},
    "aiohttp": {"streaming"},
}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(top-level package, part of the toolkit or "") for each import of a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports from the root, `from toolkit.x import y`"
            module = node.module or ""
            names = [f"{module}.{alias.name}" if module == "toolkit" else module for alias in node.names]
        else:
            continue
        for name in names:
            yield name.split(".")[0], name.split(".")[1] if name.startswith("toolkit.") else ""


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = part_of(path)
    for _, other in imports(path):
        if other:
            assert FLOORS[other] <= FLOORS[here], (
                f"{here} (floor {FLOORS[here]}) imports {other} (floor {FLOORS[other]})"
            )


def test_no_two_modules_import_each_other() -> None:
    edges = {(part_of(path), other) for path in files() for _, other in imports(path) if other}
    loops = {(a, b) for a, b in edges if (b, a) in edges and a != b}
    assert not loops


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_where_they_are_named(path: Path) -> None:
    for package, _ in imports(path):
        names = {part_of(path), f"{part_of(path)}.{path.stem}"}
        assert names & HEAVY.get(package, names), f"{path.name} imports {package}"


def test_every_module_has_a_floor_and_every_floor_a_module() -> None:
    assert {part_of(path) for path in files()} == set(FLOORS)


def test_arithmetic_runs_alone() -> None:
    """The book runs this file under MicroPython: no import at all, nothing but functions, one error and tables."""
    tree = ast.parse((PACKAGE / "arithmetic.py").read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["InputError"]
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Match, ast.AsyncFunctionDef))]


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")


def spent(code: str) -> tuple[float, float, list[str]]:
    """CPU seconds that `code` takes, peak MiB of its process, and the heavy modules that it loaded."""
    measure = f"""
import re, resource, sys
def cpu(): used = resource.getrusage(resource.RUSAGE_SELF); return used.ru_utime + used.ru_stime
before = cpu()
{code}
names = [name for name in ("numpy", "keras", "tensorflow", "gradio", "matplotlib", "pandas") if name in sys.modules]
used = cpu() - before
peak = int(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(used, peak, *names)
"""
    out = subprocess.run([sys.executable, "-c", measure], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, memory, *loaded = out.split()
    return float(seconds), float(memory), loaded


@needs_proc
def test_importing_the_toolkit_is_cheap() -> None:
    runs = [spent("import toolkit") for _ in range(3)]
    assert min(seconds for seconds, _, _ in runs) <= 0.15
    assert min(memory for _, memory, _ in runs) <= 25
    assert runs[0][2] == []


@needs_proc
def test_public_names_load_on_first_use() -> None:
    light = "assert all(getattr(toolkit, name) for name in dir(toolkit) if name != 'read_model')"
    _, _, loaded = spent(f"import toolkit\n{light}")
    assert not {"keras", "tensorflow", "gradio", "matplotlib"} & set(loaded)


def test_no_public_name_hides_a_module() -> None:
    import toolkit

    assert not set(dir(toolkit)) & set(FLOORS)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(toolkit, "nothing")  # noqa: B009


@needs_proc
def test_pricing_a_network_needs_no_framework() -> None:
    code = """
import io, contextlib
from toolkit.__main__ import app
with contextlib.redirect_stdout(io.StringIO()):
    app(["cost", "resnet50", "--json"], standalone_mode=False)
"""
    runs = [spent(code) for _ in range(3)]
    assert min(seconds for seconds, _, _ in runs) <= 0.5
    assert runs[0][2] == []
