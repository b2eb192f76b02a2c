"""The terminal's side of streaming: `python -m toolkit stream`, which reads every image once and says what failed."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from toolkit.errors import InputError
from toolkit.processes import INTERRUPTED
from toolkit.show import readable_bytes
from toolkit.streaming.failures import Report
from toolkit.streaming.pipeline import ImageStream, open_stream
from toolkit.streaming.progress import with_progress
from toolkit.streaming.settings import StreamSettings
from toolkit.system import PeakMemory


@dataclass(frozen=True)
class EpochRead:
    """One epoch that was read, wholly or until Ctrl-C; `peak_bytes` are over what the process had at the start."""

    epoch: int
    images: int
    batches: int
    failures: int
    seconds: float
    peak_bytes: int

    @property
    def images_per_second(self) -> float:
        """Delivered images over wall time."""
        return self.images / max(self.seconds, 1e-9)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width as people write them; raises InputError for anything else.

    >>> parse_size("96"), parse_size("96x128")
    ((96, 96), (96, 128))
    """
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:[x×]\s*([0-9]{1,5})\s*)?", text.lower())
    if not found:
        raise InputError(f"a size is written like 96, or like 96x128 (height x width); {text[:60]!r} came")
    return int(found[1]), int(found[2] or found[1])


def parse_part(text: str) -> tuple[int, int]:
    """Which part of how many, the first being 0; raises InputError for anything else.

    >>> parse_part("0/2")
    (0, 2)
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
    if not found or not int(found[1]) < int(found[2]):
        raise InputError(f"a part is written like 0/2 and 1/2, the two halves; {text[:60]!r} came")
    return int(found[1]), int(found[2])


def stream_command(
    source: str,
    settings: StreamSettings,
    epochs: int = 1,
    part: tuple[int, int] = (0, 1),
    report: Path | None = None,
    as_json: bool = False,
    class_names: Sequence[str] | None = None,
) -> int:
    """Read the images of a source, print what failed, and return the exit status: 0, or 130 after Ctrl-C.

    `report`: a CSV file for all failures. `class_names`: what labels that are names mean, by number. Raises InputError
    for a source that cannot be read, and where so much fails that the stream stops, after the report was printed.
    """
    console, peak = Console(stderr=True), PeakMemory()
    read: list[EpochRead] = []
    interrupted, stopped = False, None
    with open_stream(source, settings, class_names=class_names, part=part, report=report) as stream:
        try:
            while len(read) < epochs:
                _read_epoch(stream, console, peak, read)
        except KeyboardInterrupt:
            interrupted = True
        except InputError as error:
            stopped = error
        told = as_json_object(source, stream, read, interrupted) if as_json else report_text(stream.report, read)
    sys.stdout.write(told + "\n")
    if stopped:
        raise stopped
    if interrupted:
        console.print(stopped_text(read), highlight=False, soft_wrap=True)
    return INTERRUPTED if interrupted else 0


def _read_epoch(stream: ImageStream, console: Console, peak: PeakMemory, read: list[EpochRead]) -> None:
    """Read one epoch, and put what was read into the list even where it is left in the middle."""
    begun, epoch, failures = time.monotonic(), stream.epoch, stream.report.failed
    images = batches = 0
    try:
        for _, labels in with_progress(stream, console):
            images += len(labels)
            batches += 1
    finally:
        taken = peak.read() - peak.before
        seconds = time.monotonic() - begun
        read.append(EpochRead(epoch, images, batches, stream.report.failed - failures, seconds, taken))
    console.print(epoch_text(read[-1]), highlight=False, soft_wrap=True)


def epoch_text(read: EpochRead) -> str:
    """One epoch in a line.

    >>> epoch_text(EpochRead(0, 5000, 157, 1, 12.5, 36_000_000))
    'epoch 1: 5,000 images in 157 batches, 1 failure, 12.5 s, 400 images/s, 36.0 MB over the start'
    """
    failures = f"{read.failures:,} failure{'s' * (read.failures != 1)}"
    return (
        f"epoch {read.epoch + 1}: {read.images:,} images in {read.batches:,} batches, {failures}, "
        f"{read.seconds:.1f} s, {read.images_per_second:,.0f} images/s, "
        f"{readable_bytes(read.peak_bytes)} over the start"
    )


def stopped_text(read: Sequence[EpochRead]) -> str:
    """What was done when Ctrl-C came.

    >>> stopped_text([EpochRead(2, 640, 20, 0, 2.0, 0)])
    'stopped in epoch 3 after 640 images; nothing is left running'
    """
    last = read[-1] if read else EpochRead(0, 0, 0, 0, 0.0, 0)
    return f"stopped in epoch {last.epoch + 1} after {last.images:,} images; nothing is left running"


def report_text(report: Report, read: Sequence[EpochRead]) -> str:
    """The report for people: failures by cause, what else is to be known, and where all failures are written."""
    total = sum(epoch.images for epoch in read)
    lines = [report.table(), *report.warnings]
    if report.failed and report.path is not None:
        lines.append(f"all failures are in {report.path}")
    if report.failed:
        lines.append(f"{total:,} images were delivered")
    return "\n".join(lines)


def as_json_object(source: str, stream: ImageStream, read: Sequence[EpochRead], interrupted: bool) -> str:
    """The report for programs; bytes are integers."""
    told: dict[str, Any] = {
        "source": source,
        "samples": stream.progress().total,
        "delivered": stream.report.delivered,
        "failed": stream.report.failed,
        "interrupted": interrupted,
        "epochs": [{**asdict(epoch), "images_per_second": round(epoch.images_per_second, 1)} for epoch in read],
        "causes": [
            {
                "cause": str(cause),
                "count": count,
                "number": example.number,
                "example": example.location,
                "sentence": example.sentence,
            }
            for cause, count, example in stream.report.causes
        ],
        "warnings": list(stream.report.warnings),
        "position": stream.position.to_dict(),
    }
    return json.dumps(told, indent=2, ensure_ascii=False)
