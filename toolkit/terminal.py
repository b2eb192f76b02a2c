"""What the commands have in common in a terminal: Ctrl-C, bars, silence, and a new folder for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

RUNS = Path("runs")
"""Where runs go that were given no folder."""


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3 … that does not exist."""
    number = 2
    found = path
    while found.exists():
        found = path.with_name(f"{path.name}-{number}")
        number += 1
    return found


@contextlib.contextmanager
def ctrl_c(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets `stop`, wherever the main thread is at that moment; the second one interrupts it.

    Where Ctrl-C is ignored, as in a job in the background of a shell, it stays so.
    """

    def heard(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN
    before = signal.signal(signal.SIGINT, heard) if ours else None
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def bars(console: Console) -> Progress:
    """Bars that say a name, how much is done, the time, and the words of the field `said`."""
    columns = ("[progress.description]{task.description}", "{task.fields[said]}")
    name, words = (TextColumn(column) for column in columns)
    return Progress(name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words, console=console)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """In this block nothing is written to standard error: TensorFlow greets there when it is imported."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
