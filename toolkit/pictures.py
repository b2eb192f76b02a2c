"""Pictures from people: a drawing made into what a network for digits has learned, and datasets to leaf through.

Networks only recognise what looks like their training data, so a drawing is prepared in the way in which the digits of
the dataset were prepared.
"""

import base64
import binascii
import threading
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.arithmetic import InputError
from toolkit.datasets import DatasetInfo
from toolkit.loading import Dataset, Pixels, decode_image, load_dataset, prepare_image

LARGEST_DRAWING = 200_000  # characters of a data URL; a 280 × 280 drawing has some 10,000
PNG_URL = "data:image/png;base64,"
JPEG_URL = "data:image/jpeg;base64,"
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def drawing(url: str) -> Pixels:
    """The ink of a drawing that a browser sent as a PNG data URL: uint8 (height, width), 0 where nothing was drawn.

    Raises InputError for anything else, and for a drawing without ink.
    """
    if not url.startswith(PNG_URL) or len(url) > LARGEST_DRAWING:
        raise InputError("a drawing comes as a PNG of the drawing area; clear it and draw again")
    try:
        data = base64.b64decode(url.removeprefix(PNG_URL), validate=True)
    except binascii.Error:
        raise InputError("the drawing arrived damaged; clear it and draw again") from None
    ink: Pixels = decode_image(data, max_pixels=1_000_000).max(axis=2)
    if not ink.any():
        raise InputError("nothing is drawn yet; draw a digit with the mouse or a finger")
    return ink


def like_mnist(ink: Pixels, size: int = 28) -> Pixels:
    """The ink as MNIST has its digits: uint8 (size, size).

    The digit is scaled into a box of 20/28 of the size, its proportions kept, and its centre of mass is put to pixel 14
    of 28 (LeCun et al. 1998, section III.A). MNIST's own digits, enlarged, come out as they are.

    >>> dot = np.zeros((100, 100), np.uint8)
    >>> dot[5:15, 5:15] = 255
    >>> [int(axis.mean().round()) for axis in np.nonzero(like_mnist(dot))]
    [14, 14]
    """
    small = _fit(_cropped(ink), round(size * 20 / 28))
    total = small.sum(dtype=np.int64)
    row = (small.sum(axis=1, dtype=np.int64) @ np.arange(small.shape[0])) / total
    column = (small.sum(axis=0, dtype=np.int64) @ np.arange(small.shape[1])) / total
    return _placed(small, size, round(size / 2 - row), round(size / 2 - column))


def like_uci(ink: Pixels, size: int = 28) -> Pixels:
    """The ink as scikit-learn's digits come out of `load_dataset`: uint8 (size, size).

    The digit fills a bitmap of 32 × 32, whose blocks of 4 × 4 are counted (Alpaydin and Kaynak 1998); the 8 × 8 counts
    are enlarged again.

    >>> like_uci(np.full((50, 20), 255, np.uint8)).max()
    np.uint8(255)
    """
    small = _fit(_cropped(ink), 32)
    bitmap = _placed(small, 32, (32 - small.shape[0]) // 2, (32 - small.shape[1]) // 2)
    blocks = bitmap.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    counts = np.rint(np.rint(blocks * (16 / 255)) * (255 / 16)).astype(np.uint8)
    return np.array(Image.fromarray(counts).resize((size, size), Image.Resampling.BICUBIC))


def drawn_digit(url: str, dataset: str, image_shape: tuple[int, int, int]) -> Pixels:
    """A drawing as one image (height, width, channels) for a network that learned `dataset`; raises InputError."""
    if image_shape[0] != image_shape[1]:
        raise InputError(f"a drawing is square and this network takes {image_shape}; choose a test image")
    ink = drawing(url)
    image = like_uci(ink, image_shape[0]) if dataset == "digits" else like_mnist(ink, image_shape[0])
    return np.repeat(image[..., np.newaxis], image_shape[2], axis=2)


def uploaded(file: str | Path, image_shape: tuple[int, int, int]) -> Pixels:
    """A picture from a file as one image for a network; raises InputError where it is none, or too large.

    The grey datasets show bright things on black. A grey picture with a bright border is therefore turned into its
    negative.
    """
    image = prepare_image(decode_image(file), image_shape)
    if image_shape[2] == 1 and _border(image).mean() > 127:
        return 255 - image
    return image


def _border(image: Pixels) -> Pixels:
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def png_url(image: Pixels) -> str:
    """An image (height, width, 1 or 3) as a data URL.

    >>> png_url(np.zeros((1, 1, 1), np.uint8))[:22]
    'data:image/png;base64,'
    """
    file = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return PNG_URL + base64.b64encode(file.getvalue()).decode()


def jpeg_url(image: Pixels) -> str:
    """A photo (height, width, 3) as a data URL, small rather than exact.

    >>> jpeg_url(np.zeros((8, 8, 3), np.uint8))[:23]
    'data:image/jpeg;base64,'
    """
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=82)
    return JPEG_URL + base64.b64encode(file.getvalue()).decode()


def sheet(images: Pixels, columns: int) -> Pixels:
    """Images (n, height, width, channels) side by side in rows of `columns`; what is left of the last row is black.

    >>> sheet(np.zeros((5, 28, 28, 1), np.uint8), columns=4).shape
    (56, 112, 1)
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    whole = np.zeros((rows * columns, height, width, channels), np.uint8)
    whole[:count] = images
    tiles = whole.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width, channels)


def _cropped(ink: Pixels) -> Pixels:
    """The part that has ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: Pixels, box: int) -> Pixels:
    """Scaled so that the longer side fills the box; every source pixel counts (area averaging)."""
    height, width = (max(1, round(side * box / max(ink.shape))) for side in ink.shape)
    return np.array(Image.fromarray(ink).resize((width, height), Image.Resampling.BOX))


def _placed(small: Pixels, size: int, top: int, left: int) -> Pixels:
    """The image on an empty square; what would hang over is moved inside."""
    height, width = small.shape
    top, left = min(max(top, 0), size - height), min(max(left, 0), size - width)
    image = np.zeros((size, size), np.uint8)
    image[top : top + height, left : left + width] = small
    return image


# Datasets on disk.


class Shelf:
    """Datasets that stay on disk: only the images that are looked at take memory. Each is unpacked once.

    The unpacking, which needs the whole dataset in memory, happens in a process of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Dataset] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> Dataset:
        """The dataset with arrays mapped from files; raises InputError where it cannot be loaded."""
        with self._lock:
            if name not in self._open:
                self._open[name] = _mapped(name, self._folder / name)
            return self._open[name]


def _mapped(name: str, folder: Path) -> Dataset:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        told = process.submit(_unpack, name, folder).result()
    return Dataset(told, **{key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in ARRAYS})


def _unpack(name: str, folder: Path) -> DatasetInfo:
    """Write the arrays of a dataset as files and return what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_dataset(name, progress=False)
    for key in ARRAYS:
        np.save(folder / f"{key}.npy", getattr(data, key))
    return data.info
