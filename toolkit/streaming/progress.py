"""A line in the terminal that tells how a stream goes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from toolkit.show import readable_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from toolkit.streaming.groups import Batch
    from toolkit.streaming.pipeline import ImageStream, Progress

_SECONDS = 0.2  # between two looks


def describe(progress: Progress) -> str:
    """What a progress line says, in words.

    >>> from toolkit.streaming.pipeline import Progress
    >>> describe(Progress(0, 640, 1000, 320.0, 16, 4, 2, 150_000_000, 1.125))
    '640 of 1,000 images, 320 images/s, 16 downloads, 4 batches, 2 failures, 150 MB, 0:00:01 left'
    """
    left = "" if progress.seconds_left is None else f", {timedelta(seconds=int(progress.seconds_left))} left"
    total = f" of {progress.total:,}" if progress.total else ""
    return (
        f"{progress.images:,}{total} images, {progress.images_per_second:,.0f} images/s, "
        f"{progress.in_flight} downloads, {progress.queued} batches, {progress.failures:,} failures, "
        f"{readable_bytes(progress.memory_bytes)}{left}"
    )


def with_progress(stream: ImageStream, console: Console | None = None) -> Iterator[Batch]:
    """One epoch of the stream with a line that shows how it goes; a console that is no terminal shows nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Look(ProgressColumn):
        max_refresh = _SECONDS  # drawn by a thread of rich's, so that it goes on while a batch is waited for

        def render(self, task: Task) -> Text:
            return Text(describe(stream.progress()))

    console = console or Console(stderr=True)
    with Bars(BarColumn(20), Look(), console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=stream.progress().total)
        for batch in stream:
            bars.update(task, completed=stream.position.done)
            yield batch
