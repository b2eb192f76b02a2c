"""The line that tells how a stream goes."""

import io

import numpy as np
import pytest
from rich.console import Console

from tests.image_server import Answer, ImageServer, png
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.pipeline import Progress, stream_images
from toolkit.streaming.progress import describe, with_progress

HERE = FetchLimits(allow_private=True, retries=0)


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(0, 0, 10, 0.0, 0, 0, 0, 80_000_000, None), "0 of 10 images, 0 images/s, 0 downloads, 0 batches"),
        (Progress(1, 1500, None, 99.6, 3, 2, 1, 1, None), "1,500 images, 100 images/s, 3 downloads, 2 batches, 1 f"),
        (Progress(1, 1, 2, 1, 3, 2, 1, 1, 3725.2), "1 B, 1:02:05 left"),
    ],
)
def test_the_line_says_what_there_is_to_say(progress: Progress, words: str) -> None:
    assert words in describe(progress)


def test_a_terminal_sees_the_line_while_a_batch_is_waited_for() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=160)
    with (
        ImageServer(lambda number: Answer(body=png(number), delay=0.7 if number > 7 else 0)) as server,
        stream_images(server.urls(16), image_size=4, batch_size=8, shuffle=False, limits=HERE) as images,
    ):
        assert sum(len(labels) for _, labels in with_progress(images, console)) == 16
    assert "8 of 16 images" in written.getvalue()
    assert "8 downloads" in written.getvalue()


def test_a_file_gets_nothing() -> None:
    written = io.StringIO()
    with (
        ImageServer() as server,
        stream_images(server.urls(9), np.arange(9), image_size=4, limits=HERE) as images,
    ):
        assert [len(labels) for _, labels in with_progress(images, Console(file=written))] == [9]
    assert written.getvalue().strip() == ""
