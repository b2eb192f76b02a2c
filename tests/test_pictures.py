"""Drawings and uploads become what the networks have learned from."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import InputError
from toolkit.loading import Pixels, load_dataset
from toolkit.pictures import PNG_URL, Shelf, drawing, drawn_digit, like_mnist, like_uci, png_url, sheet, uploaded


def enlarged(image: Pixels, times: int) -> Pixels:
    return np.kron(image, np.ones((times, times), np.uint8))


def stroke(rows: slice, columns: slice) -> Pixels:
    ink = np.zeros((280, 280), np.uint8)
    ink[rows, columns] = 255
    return ink


def similarity(a: Pixels, b: Pixels) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def test_mnists_own_digits_come_out_as_they_are() -> None:
    """The oracle of the preparation: a digit of MNIST, drawn ten times as large and off the centre, is itself again."""
    try:
        digits = load_dataset("mnist", progress=False).x_test[:200, ..., 0]
    except InputError:
        pytest.skip("MNIST is not on this machine")
    moved = np.zeros((200, 320, 320), np.uint8)
    moved[:, 37:317, 3:283] = [enlarged(digit, 10) for digit in digits]
    assert min(similarity(like_mnist(ink), digit) for ink, digit in zip(moved, digits, strict=True)) > 0.999


def test_the_uci_digits_come_out_as_they_are() -> None:
    digits = load_dataset("digits", progress=False).x_test[..., 0]
    likeness = [similarity(like_uci(enlarged(digit, 10)), digit) for digit in digits]
    assert np.median(likeness) > 0.9


@pytest.mark.parametrize(("rows", "columns"), [((0, 30), (0, 200)), ((250, 280), (10, 20)), ((100, 101), (100, 101))])
def test_a_drawing_is_centred_by_its_mass_wherever_it_was(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    image = like_mnist(stroke(slice(*rows), slice(*columns))).astype(float)
    centre = [(image.sum(axis=axis) @ np.arange(28)) / image.sum() for axis in (1, 0)]
    assert centre == pytest.approx([14, 14], abs=0.51)
    assert max(np.ptp(axis) + 1 for axis in np.nonzero(image)) == 20


def test_a_drawing_comes_as_a_data_url() -> None:
    ink = stroke(slice(40, 200), slice(120, 150))
    url = png_url(ink[..., np.newaxis])
    assert (drawing(url) == ink).all()
    assert drawn_digit(url, "mnist", (28, 28, 1)).shape == (28, 28, 1)
    assert drawn_digit(url, "cifar10", (32, 32, 3)).shape == (32, 32, 3)
    assert (drawn_digit(url, "digits", (28, 28, 1))[..., 0] == like_uci(ink)).all()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "comes as a PNG"),
        ("data:image/svg+xml,<svg/>", "comes as a PNG"),
        (PNG_URL + "A" * 300_000, "comes as a PNG"),
        (PNG_URL + "%%%", "arrived damaged"),
        (PNG_URL + base64.b64encode(b"no picture").decode(), "cannot be used"),
        (png_url(np.zeros((28, 28, 1), np.uint8)), "nothing is drawn yet"),
    ],
)
def test_what_is_no_drawing_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        drawing(url)


def test_a_dark_digit_on_paper_is_turned_into_its_negative(tmp_path: Path) -> None:
    paper = np.full((100, 100), 240, np.uint8)
    paper[20:80, 45:55] = 10
    Image.fromarray(paper).save(tmp_path / "paper.png")
    Image.fromarray(255 - paper).save(tmp_path / "board.png")
    grey = uploaded(tmp_path / "paper.png", (28, 28, 1))
    assert grey[0, 0, 0] < 30
    assert grey[14, 14, 0] > 200
    assert (grey == uploaded(tmp_path / "board.png", (28, 28, 1))).all()
    assert uploaded(tmp_path / "paper.png", (32, 32, 3))[0, 0].tolist() == [240] * 3


def test_a_sheet_holds_every_image_in_its_place() -> None:
    images = np.arange(5 * 3 * 2 * 1, dtype=np.uint8).reshape(5, 3, 2, 1)
    whole = sheet(images, columns=2)
    assert whole.shape == (9, 4, 1)
    for number, image in enumerate(images):
        row, column = divmod(number, 2)
        assert (whole[3 * row : 3 * row + 3, 2 * column : 2 * column + 2] == image).all()
    assert not whole[6:, 2:].any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_in_the_page_is_the_picture(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, channels), np.uint8)
    data = base64.b64decode(png_url(image).removeprefix(PNG_URL))
    assert (np.array(Image.open(BytesIO(data))).reshape(image.shape) == image).all()


def test_datasets_on_the_shelf_stay_on_disk(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    data, loaded = shelf.take("digits"), load_dataset("digits", progress=False)
    assert isinstance(data.x_train, np.memmap)
    for key in ("x_train", "y_train", "x_test", "y_test"):
        assert (getattr(data, key) == getattr(loaded, key)).all()
    assert data.info == loaded.info
    assert shelf.take("digits") is data
    with pytest.raises(InputError, match="neither a dataset"):
        shelf.take("no such thing")
