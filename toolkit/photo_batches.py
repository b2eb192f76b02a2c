"""Photos as the arrays that a base learns from: read, augmented, in batches, turned into features. Imports Keras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from toolkit import system
from toolkit.errors import InputError
from toolkit.show import readable_bytes
from toolkit.streaming.decoding import whole_image
from toolkit.training import Parts

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]
Told = Callable[[int, int], object]

# Photos that are computed together where nothing is learned: few, because a stop waits for them.
FORWARD_BATCH = 16
_BILINEAR = Image.Resampling.BILINEAR


def read_pixels(paths: Sequence[Path], size: int, fit: str, tell: Told | None = None) -> Pixels:
    """Every photo as the base sees it: uint8 (n, size, size, 3). `tell` hears how many of how many are read.

    Raises InputError where they would take more than half of the free memory.
    """
    needed, free = len(paths) * size * size * 3, system.available_memory()
    if needed > free // 2:
        raise InputError(
            f"{len(paths):,} photos of {size} × {size} pixels take {readable_bytes(needed)} of memory while they are "
            f"read and {readable_bytes(free)} are free; choose a smaller image_size or fewer photos"
        )
    pixels = np.empty((len(paths), size, size, 3), np.uint8)
    with ThreadPoolExecutor(system.cpu_count()) as pool:
        for number, image in enumerate(pool.map(lambda path: photo_pixels(path, size, fit), paths)):
            pixels[number] = image
            if tell is not None:
                tell(number + 1, len(paths))
    return pixels


def photo_pixels(path: Path, size: int, fit: str) -> Pixels:
    """A photo as the base sees it, uint8 (size, size, 3): to a level or two what the model's first layer gives."""
    image = whole_image(path, near=size)
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return np.asarray(image.resize((size, size), _BILINEAR, (left, top, left + side, top + side)))
    if fit == "pad":
        side = max(width, height)
        canvas = Image.new("RGB", (side, side))
        canvas.paste(image, ((side - width) // 2, (side - height) // 2))
        image = canvas
    return np.asarray(image.resize((size, size), _BILINEAR))


def compute_features(pooled: keras.Model, pixels: Sequence[Pixels] | Pixels, tell: Told | None = None) -> Floats:
    """The features of each photo, once and for all: float32 (n, d)."""
    found = []
    for begin in range(0, len(pixels), FORWARD_BATCH):
        some = np.asarray(pixels[begin : begin + FORWARD_BATCH])
        found.append(in_full_batches(pooled, some, FORWARD_BATCH))
        if tell is not None:
            tell(min(begin + FORWARD_BATCH, len(pixels)), len(pixels))
    return np.concatenate(found)


@dataclass(frozen=True)
class Views(Sequence[Pixels]):
    """Every photo as it is and, after all of them, `more` other views of each of `places`, made when asked for.

    >>> photos = np.zeros((5, 8, 8, 3), np.uint8)
    >>> views = Views(photos, np.array([1, 3]), 2, "flip", seed=0)
    >>> len(views), views.rows.tolist()
    (9, [[0, 1, 2, 3, 4], [0, 5, 2, 6, 4], [0, 7, 2, 8, 4]])
    """

    pixels: Pixels
    places: Numbers
    more: int
    augmentation: str
    seed: int

    def __len__(self) -> int:
        return len(self.pixels) + self.more * len(self.places)

    @property
    def rows(self) -> Numbers:
        """Where each view of each photo is: int64 (1 + more, n); photos without other views are where they are."""
        found = np.tile(np.arange(len(self.pixels)), (1 + self.more, 1))
        found[1:, self.places] = np.arange(len(self.pixels), len(self)).reshape(self.more, len(self.places))
        return found

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index < len(self.pixels):
            return np.asarray(self.pixels[index])
        view, rank = divmod(index - len(self.pixels), len(self.places))
        place = int(self.places[rank])
        return augment_photo(self.pixels[place], self.augmentation, np.random.default_rng((self.seed, view, place)))


def in_full_batches(model: keras.Model, images: NDArray[Any], batch: int) -> Floats:
    """What a model says of at most `batch` images, filled up so that no backend compiles for another size."""
    filled = np.zeros((batch, *images.shape[1:]), images.dtype)
    filled[: len(images)] = images
    return np.asarray(model.predict_on_batch(filled), np.float32)[: len(images)]


# Of what share of a photo's area a cut shows at least, how much light and colour change, and how far it turns.
_STRENGTHS = {"flip": (1.0, 0.0, 0.0), "light": (0.5, 0.2, 0.0), "strong": (0.25, 0.4, 20.0), "round": (0.5, 0.2, 0.0)}
_QUARTERS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def augment_photo(pixels: Pixels, kind: str, rng: np.random.Generator) -> Pixels:
    """A photo, uint8 (size, size, 3), as it might have been taken as well; see `FinetuneConfig.augmentation`.

    >>> photo = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    >>> sorted({int(augment_photo(photo, "flip", np.random.default_rng(seed))[0, 0, 0]) for seed in range(9)})
    [0, 3]
    """
    if kind == "none":
        return pixels
    least_area, light, turn = _STRENGTHS[kind]
    image = Image.fromarray(pixels)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "round" and (quarter := _QUARTERS[rng.integers(4)]) is not None:
        image = image.transpose(quarter)
    if turn:
        mean = tuple(int(value) for value in pixels.mean((0, 1)))
        image = image.rotate(rng.uniform(-turn, turn), _BILINEAR, fillcolor=mean)
    if least_area < 1:
        image = image.resize(image.size, _BILINEAR, _cut(image.size[0], least_area, rng))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color) if light else ():
        image = change(image).enhance(rng.uniform(1 - light, 1 + light))
    return np.asarray(image)


def _cut(size: int, least_area: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A part of a square photo, of proportions from 3:4 to 4:3."""
    side, stretch = size * math.sqrt(rng.uniform(least_area, 1)), math.sqrt(math.exp(rng.uniform(-0.288, 0.288)))
    width, height = min(side * stretch, size), min(side / stretch, size)
    left, top = rng.uniform(0, size - width), rng.uniform(0, size - height)
    return left, top, left + width, top + height


class PhotoBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of (images or features, classes as one-hot, weights) in a new order each epoch, the same for a seed.

    An update of `effective` photos comes in `steps` parts, weighted so that their gradients make that of the whole (see
    `fitting.Accumulated`). `counts` is how much a photo of each class counts. `augmentation` None keeps the order, too:
    that is for validation. `rows` (views, n) says where views of each photo are in the arrays: an epoch takes one.
    """

    def __init__(
        self,
        arrays: NDArray[Any],
        places: Numbers,
        labels: Numbers,
        counts: Floats,
        *,
        effective: int,
        steps: int = 1,
        augmentation: str | None = None,
        rows: Numbers | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.parts = Parts(len(places), effective, steps)
        self._arrays, self._places, self._labels, self._counts = arrays, places, labels, counts
        self._augmentation, self._rows, self._seed, self._epoch = augmentation, rows, seed, epoch

    def __len__(self) -> int:
        return self.parts.batches

    def __getitem__(self, index: int) -> tuple[NDArray[Any], Floats, Floats]:
        part = self.parts[index]
        begin = part.update * self.parts.effective_batch + part.begin
        # Where a part has no photo, one whose loss counts nothing stands in: Keras cannot compute with none.
        chosen = self._order()[begin : begin + part.size] if part.size else self._places[:1]
        labels = self._labels[chosen]
        targets = np.eye(len(self._counts), dtype=np.float32)[labels]
        return self._images(chosen), targets, self._counts[labels] * np.float32(part.weight)

    def on_epoch_end(self) -> None:
        self._epoch += 1

    def _order(self) -> Numbers:
        if self._augmentation is None:
            return self._places
        return np.random.default_rng((self._seed, self._epoch)).permutation(self._places)

    def _images(self, chosen: Numbers) -> NDArray[Any]:
        if self._rows is not None:
            count, photos = self._rows.shape
            views: Numbers = np.random.default_rng((self._seed, self._epoch, 1)).integers(0, count, (photos,))
            chosen = self._rows[views[chosen], chosen]
        kind = self._augmentation or "none"
        if kind == "none":
            return np.ascontiguousarray(self._arrays[chosen])
        seeds = ((self._seed, self._epoch, int(place)) for place in chosen)
        pairs = zip(chosen, seeds, strict=True)
        return np.stack([augment_photo(self._arrays[p], kind, np.random.default_rng(s)) for p, s in pairs])


def class_weights(labels: Numbers, classes: int) -> Floats:
    """How much a photo of each class counts where all classes shall count the same; the mean over photos is 1.

    >>> class_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * counts)).astype(np.float32)
