"""Measurements of what the project promises, all in one form: `python -m toolkit bench NAME [--quick] [--json]`.

A benchmark is a module here with a function `measure(quick, seed) -> Measured`. It measures peers in the same run and
in turn, compares medians, leaves out what a machine cannot give, and says for each promise whether it was kept.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit import system
from toolkit.errors import InputError

# name -> what it measures
BENCHMARKS = {
    "training": "our training against a bare model.fit; how fast a run starts and stops; what it leaves behind",
    "memory": "predicted memory beside measured; planned batches under a hard limit; how fast the arithmetic is",
    "streaming": "training on streamed images beside training on images in RAM; the loader's memory; other loaders",
    "finetuning": "MobileNetV2 on photos: test accuracy by width over three splits, time, what cached features save",
    "segmentation": "digits on photos labelled pixel by pixel: what skip connections bring, at borders and inside",
    "grading": "submissions a minute, a student's check, Keras questions; otter-grader in the same run where it is",
    "zoo": "networks, recipes and seeds on real images: accuracy beside parameters, operations, seconds, memory",
    "speed": "images per second of the lean network: ours, a bare model.fit, the same network in PyTorch",
    "analysis": "what networks know: calibration, confusion, robustness, int8, ensembles, transfer, training sizes",
    "why": "a convolutional network beside dense ones of equal parameters: on images, moved ones, shuffled pixels",
    "pooling": "five ways to halve feature maps: accuracy, and how often a moved image gets another answer",
    "lrn": "local response normalization beside none and beside batch normalization: accuracy and cost",
    "architectures": "how long a forward pass takes beside its MACs; what shortcuts are for in deep networks",
}
PACKAGES = (
    "cnn-toolkit",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "numpy",
    "aiohttp",
    "simplejpeg",
    "requests",
    "gradio",
)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One figure: its unit, and the median, least and most of `n` measurements."""

    what: str
    unit: str
    median: float
    least: float
    most: float
    n: int

    @staticmethod
    def of(what: str, unit: str, values: Sequence[float]) -> Row:
        """The row of some measurements.

        >>> Row.of("stop", "s", [0.3, 0.1, 0.2]).median
        0.2
        """
        return Row(what, unit, statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Check:
    """One promise: the measured value, the goal in words, and whether it was kept."""

    name: str
    value: float
    goal: str
    ok: bool

    @staticmethod
    def at_most(name: str, value: float, limit: float) -> Check:
        """The promise that a value is not above a limit.

        >>> Check.at_most("overhead", 1.01, 1.05).ok
        True
        """
        return Check(name, value, f"at most {limit:g}", value <= limit)

    @staticmethod
    def at_least(name: str, value: float, limit: float) -> Check:
        """The promise that a value is not below a limit.

        >>> Check.at_least("accuracy", 0.98, 0.985).ok
        False
        """
        return Check(name, value, f"at least {limit:g}", value >= limit)


@dataclass(frozen=True)
class Measured:
    """What a benchmark found."""

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Report:
    """What a benchmark found, and where and when."""

    name: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    date: str
    seed: int
    seconds: float
    quick: bool
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def run(name: str, quick: bool = False, seed: int = 0) -> Report:
    """Run one benchmark of `BENCHMARKS`; raises InputError for another name."""
    if name not in BENCHMARKS:
        raise InputError(f"there is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
    date, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    measured: Measured = importlib.import_module(f"toolkit.benchmarks.{name}").measure(quick, seed)
    seconds = round(time.monotonic() - begun, 1)
    machine, versions = system.describe_machine(), system.package_versions(*PACKAGES)
    return Report(name, machine, versions, date, seed, seconds, quick, measured.rows, measured.checks)


def bench_command(name: str, quick: bool = False, as_json: bool = False, seed: int = 0) -> int:
    """Run one benchmark, print it, write the full run's report into the book, and return the exit status."""
    report = run(name, quick, seed)
    if not quick and (ROOT / "pyproject.toml").is_file():
        results = ROOT / "book" / "results"
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{name}.json").write_text(report.to_json() + "\n", encoding="utf-8")
        draw_into(results, report)
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        show(report, Console())
    return 0 if report.ok else 1


def draw_into(results: Path, report: Report) -> None:
    """Save the picture of a benchmark that has one, a function `picture(report)`, beside its report."""
    picture = getattr(importlib.import_module(f"toolkit.benchmarks.{report.name}"), "picture", None)
    if picture is not None:
        from toolkit.figures import save_figure

        save_figure(picture(report), results / f"{report.name}.png")


def show(report: Report, console: Console) -> None:
    """Print a report for people."""
    rows = Table("measured", "unit", "median", "least", "most", "n", title=f"{report.name}, {report.seconds:.0f} s")
    for row in report.rows:
        rows.add_row(row.what, row.unit, *map(readable, (row.median, row.least, row.most)), str(row.n))
    checks = Table("promise", "measured", "goal", "kept")
    for check in report.checks:
        checks.add_row(check.name, readable(check.value), check.goal, "yes" if check.ok else "NO")
    machine = report.machine
    where = f"{machine['processor']}, {machine['cpus']} processors, {machine['system']}, {report.date}"
    for part in (rows, checks, where):
        console.print(part)


def readable(value: float) -> str:
    """A figure with three digits that count, and all of those before the point.

    >>> readable(0.012345), readable(1.0123), readable(12345.6)
    ('0.0123', '1.012', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"


def in_turn(
    ours: Callable[[], float], peer: Callable[[], float], pairs: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Measure two things in turn, each pair in the other order than the last, so that a drift of the machine hits both.

    Stops after `pairs` pairs, or when there are at least five and `seconds` have passed.
    """
    found: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds
    for pair in range(pairs):
        if pair >= 5 and time.monotonic() > end:
            break
        for which, measure in ((0, ours), (1, peer)) if pair % 2 else ((1, peer), (0, ours)):
            found[which].append(measure())
    return found


def median_ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """The median over pairs of ours / peer.

    >>> median_ratio([2, 3, 4], [2, 2, 2])
    1.5
    """
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))
