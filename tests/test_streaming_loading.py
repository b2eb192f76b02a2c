"""A stream's source whole in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.image_server import Answer, ImageServer, every_image, numbers_in
from toolkit import loading
from toolkit.errors import InputError
from toolkit.loading import load_images
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.pipeline import stream_images

HERE = FetchLimits(allow_private=True, retries=0)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def test_the_arrays_are_those_of_the_stream(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status=404) if number == 7 else every_image(number)
    images, labels, report = load_images(server.urls(70), range(70), image_size=6, limits=HERE)
    assert numbers_in(images) == labels.tolist() == [number for number in range(70) if number != 7]
    assert (str(images.dtype), str(labels.dtype), report.failed) == ("uint8", "int64", 1)
    options: dict[str, Any] = {"image_size": 6, "limits": HERE, "shuffle": True, "seed": 3}
    with stream_images(server.urls(70), range(70), **options) as stream:
        expected = np.concatenate([batch for batch, _ in stream])
    np.testing.assert_array_equal(load_images(server.urls(70), range(70), **options).images, expected)


def test_what_would_not_fit_is_refused_before_anything_is_fetched(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "available_memory", lambda: 3 * 96 * 96 * 10 - 1)
    with pytest.raises(InputError, match=r"10 images of 96 × 96 pixels need 276,480 bytes.*276,479 are free.*stream"):
        load_images(server.urls(10), image_size=96, limits=HERE)
    assert not server.requests
    assert len(load_images(server.urls(9), image_size=96, limits=HERE).images) == 9


def test_shards_are_to_be_streamed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stream them instead"):
        load_images(tmp_path / "a.tar", image_size=6)
