"""The images of the streaming benchmark: crops of real photos as JPEGs of 256 pixels and about 22 kB, with classes.

The photos are those by class in the folder `photos` of what the environment variable CNN_TOOLKIT_DATA names; where
there are none, scikit-learn's two sample photos, each a class of its own. The same seed makes the same images.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 256
BYTES = 22_000
"""The size of one JPEG on average: what was measured elsewhere, and by others, had about this."""
QUALITIES = range(60, 97, 4)
DATA, INDEX = "images.bin", "index.npz"


@dataclass(frozen=True)
class ImageSet:
    """JPEGs one after the other in a file; image i is the bytes from `offsets[i]` to `offsets[i + 1]`."""

    folder: Path
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    @staticmethod
    def read(folder: Path) -> ImageSet:
        """The set that `make_image_set` wrote into a folder."""
        with np.load(folder / INDEX) as index:
            names = tuple(str(name) for name in index["class_names"])
            return ImageSet(folder, index["offsets"], index["labels"], names)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def data(self) -> bytes:
        """All JPEGs."""
        return (self.folder / DATA).read_bytes()

    def image(self, number: int) -> bytes:
        """One JPEG; a number beyond the last image begins again at the first."""
        number %= len(self)
        return self.data[self.offsets[number] : self.offsets[number + 1]]

    def labels_of(self, count: int) -> NDArray[np.int64]:
        """The classes of the images 0 to `count` - 1, (count,)."""
        return np.resize(self.labels, count)

    def write_files(self, folder: Path, count: int) -> None:
        """The first `count` images as files by class: `folder/paper/000007.jpg`."""
        for name in self.class_names:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = self.class_names[self.labels[number % len(self)]]
            (folder / name / f"{number:06}.jpg").write_bytes(self.image(number))


def make_image_set(folder: Path, count: int, seed: int = 0) -> ImageSet:
    """Write `count` JPEGs into a folder and return the set: as many of each class, in an order drawn from the seed."""
    random = np.random.default_rng(seed)
    photos = photos_by_class()
    names = tuple(sorted(photos))
    labels = random.permutation(np.arange(count, dtype=np.int64) % len(names))
    crops = [crop(photos[names[label]], random) for label in labels[:24]]
    quality = quality_for(crops, BYTES)
    lengths = []
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / DATA).open("wb") as file:
        for number, label in enumerate(labels):
            made = crops[number] if number < len(crops) else crop(photos[names[label]], random)
            lengths.append(file.write(encoded(made, quality)))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.savez(folder / INDEX, offsets=offsets, labels=labels, class_names=np.array(names))
    return ImageSet(folder, offsets, labels, names)


def photos_by_class() -> dict[str, list[Image.Image]]:
    """Photos in RAM, at most 40 a class, each at least 256 pixels high and wide."""
    root = os.environ.get("CNN_TOOLKIT_DATA")
    found = dict(_photo_folders(Path(root) / "photos")) if root else {}
    if len(found) >= 2:
        return {name: [_wide_enough(Image.open(path)) for path in paths] for name, paths in found.items()}
    from sklearn.datasets import load_sample_images

    samples = load_sample_images()
    named = zip(samples.filenames, samples.images, strict=True)
    return {Path(name).stem: [_wide_enough(Image.fromarray(pixels))] for name, pixels in named}


def _photo_folders(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """(class, some of its photos) of the folder's first data set."""
    for data_set in sorted(folder.glob("*/")):
        for classes in sorted(data_set.glob("*/")):
            if files := sorted(classes.glob("*.jpg")):
                yield classes.name, files[:40]
        return


def _wide_enough(photo: Image.Image) -> Image.Image:
    """The photo in RGB, enlarged to 1.25 times a crop where it is smaller, so that crops differ."""
    factor = max(1.25 * SIDE / min(photo.size), 1.0)
    size = (round(factor * photo.width), round(factor * photo.height))
    with photo:
        return photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def crop(photos: Sequence[Image.Image], random: np.random.Generator) -> Image.Image:
    """A square of 256 pixels from one of the photos, mirrored half the time."""
    photo = photos[int(random.integers(len(photos)))]
    left, top = (int(random.integers(side - SIDE + 1)) for side in photo.size)
    square = photo.crop((left, top, left + SIDE, top + SIDE))
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else square


def encoded(image: Image.Image, quality: int) -> bytes:
    r"""The image as a baseline JPEG.

    >>> encoded(Image.new("RGB", (8, 8)), 90)[:2]
    b'\xff\xd8'
    """
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def quality_for(images: Sequence[Image.Image], size: int) -> int:
    """The quality whose JPEGs come nearest to `size` bytes on average."""
    means = {quality: sum(len(encoded(each, quality)) for each in images) / len(images) for quality in QUALITIES}
    return min(QUALITIES, key=lambda quality: abs(means[quality] - size))
