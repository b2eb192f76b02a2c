"""Training images as they might have been as well: batches in a new order each epoch, shifted, mirrored, mixed.

What NumPy can do on bytes it does there; rotation, RandAugment, erasing, MixUp and CutMix are Keras's own layers, run
on each batch before it reaches the network. Every batch is the same for the same seed, whoever asks when.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.loading import Pixels
from toolkit.recipes import Recipe

# Images shift by up to this share of their size: 2 pixels of 28.
SHIFT_SHARE = 1 / 14

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


def augment(images: Pixels, kind: str, rng: np.random.Generator) -> Pixels:
    """Shift and mirror each image (n, height, width, channels) at random, as `kind` says; edges are repeated.

    >>> digit = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1)
    >>> sorted({tuple(augment(digit, "flip", np.random.default_rng(seed)).ravel().tolist()) for seed in range(9)})
    [(0, 1, 2, 3), (3, 2, 1, 0)]
    """
    if kind == "none":
        return images
    count, height, width, _ = images.shape
    rows = np.broadcast_to(np.arange(height), (count, height))
    columns = np.broadcast_to(np.arange(width), (count, width))
    if "shift" in kind:
        rows, columns = (np.clip(at + _shifts(at.shape, rng), 0, at.shape[1] - 1) for at in (rows, columns))
    if "flip" in kind:
        columns = np.where(rng.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    return images[np.arange(count)[:, np.newaxis, np.newaxis], rows[:, :, np.newaxis], columns[:, np.newaxis, :]]


def _shifts(shape: tuple[int, ...], rng: np.random.Generator) -> Labels:
    count, size = shape
    most = round(size * SHIFT_SHARE)
    return rng.integers(-most, most, (count, 1), endpoint=True)


class Augmented(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of augmented images in a new order each epoch, the same for the same seed whoever asks when.

    With the kind "none" the images come as they are.
    """

    def __init__(self, images: Pixels, labels: Labels, batch_size: int, kind: str, seed: int) -> None:
        super().__init__()
        self.size, self.batch_size = len(images), batch_size
        self._images, self._labels = images, labels
        self._kind, self._seed = kind, seed
        self._epoch = -1
        self._begin_epoch()

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Pixels, Labels]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng((self._seed, self._epoch, index))
        return augment(self._images[chosen], self._kind, rng), self._labels[chosen]

    def on_epoch_end(self) -> None:
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._order = np.random.default_rng((self._seed, self._epoch)).permutation(self.size)


class RecipeBatches(Augmented):
    """Batches as a recipe makes them: images uint8 (or float32, still 0 … 255, where layers of Keras made them) and
    labels as whole numbers, or as a share for each class (n, classes) where the recipe mixes or smooths them.

    >>> x, y = np.zeros((5, 8, 8, 1), np.uint8), np.arange(5)
    >>> images, labels = RecipeBatches(x, y, Recipe(batch_size=4, label_smoothing=0.1), classes=10, seed=0)[0]
    >>> images.dtype.name, labels.shape, labels.sum(axis=1).round(6).tolist()
    ('uint8', (4, 10), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(
        self, images: Pixels, labels: Labels, recipe: Recipe, classes: int, seed: int, batch_size: int | None = None
    ) -> None:
        self._recipe, self._classes = recipe, classes
        self._padded = padded(images, recipe.shift, recipe.padding)
        self._coins = np.random.default_rng((seed, 2**31)).random(len(images)) < 0.5
        super().__init__(images, labels, batch_size or recipe.batch_size, "none", seed)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng((self._seed, self._epoch, index))
        size, mirrored = self._images.shape[1:3], self._mirrored(chosen, rng)
        images: Any = cut(self._padded, chosen, size, self._recipe.shift, mirrored, rng)
        labels = self._labels[chosen]
        if self._layers.any:
            images = self._layers.changed(images, int(rng.integers(2**31)))
        return (images, labels) if not self._recipe.mixes else self._mixed(images, labels, rng)

    def _mirrored(self, chosen: Labels, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which of the images are mirrored this time."""
        if self._recipe.flip == "alternating":
            return self._coins[chosen] ^ bool(self._epoch % 2)
        return rng.random(len(chosen)) < (0.5 if self._recipe.flip == "random" else 0.0)

    def _mixed(self, images: Any, labels: Labels, rng: np.random.Generator) -> tuple[Any, Floats]:
        """Images of which each may be of two, and what share of each class they are."""
        shares = smoothed(labels, self._classes, self._recipe.label_smoothing)
        kinds = [kind for kind in ("mixup", "cutmix") if getattr(self._recipe, kind)]
        if not kinds:
            return images, shares
        kind = kinds[int(rng.integers(len(kinds)))]
        return self._layers.mixed(kind, images, shares, int(rng.integers(2**31)))

    @cached_property
    def _layers(self) -> KerasLayers:
        return KerasLayers(self._recipe)


def padded(images: Pixels, pixels: int, padding: str) -> Pixels:
    """The images (n, height, width, channels) with so many pixels more on every side.

    >>> padded(np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1), 1, "edge")[0, 1, :, 0].tolist()
    [0, 0, 1, 2, 2]
    """
    if not pixels:
        return images
    mode = {"zero": "constant"}.get(padding, padding)
    return np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode=mode)  # type: ignore[call-overload,no-any-return]


def cut(
    images: Pixels,
    chosen: Labels,
    size: tuple[int, ...],
    shift: int,
    mirrored: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Pixels:
    """Windows of `size` (height, width) out of the chosen ones of padded images, each at a place of its own by chance.

    `images` have `shift` pixels more than `size` on every side. Where `mirrored`, left and right are exchanged.

    >>> image = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1)
    >>> cut(image, np.array([0]), (1, 3), 0, np.array([True]), np.random.default_rng(0)).ravel().tolist()
    [2, 1, 0]
    """
    if not shift and not mirrored.any():
        return images[chosen]
    corners = rng.integers(0, 2 * shift, (2, len(chosen)), endpoint=True)
    rows, columns = (corner[:, np.newaxis] + np.arange(length) for corner, length in zip(corners, size, strict=True))
    columns = np.where(mirrored[:, np.newaxis], columns[:, ::-1], columns)
    window: Pixels = images[chosen[:, np.newaxis, np.newaxis], rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
    return window


def smoothed(labels: Labels, classes: int, smoothing: float) -> Floats:
    """The share of each class (n, classes): the label's, and `smoothing` spread over all of them alike.

    >>> smoothed(np.array([1]), 2, 0.5).tolist()
    [[0.25, 0.75]]
    """
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    return np.asarray(one_hot * (1 - smoothing) + smoothing / classes, np.float32)


def views(images: Pixels, recipe: Recipe) -> list[Pixels]:
    """What a recipe lets the trained network answer from: the images; mirrored; moved to two corners; and both.

    >>> image = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1)
    >>> [view.ravel().tolist() for view in views(image, Recipe(test_flip=True))]
    [[0, 1, 2], [2, 1, 0]]
    """
    moved = [images]
    if by := recipe.test_shift:
        wide = padded(images, by, recipe.padding)
        height, width = images.shape[1:3]
        moved += [wide[:, at : at + height, at : at + width] for at in (0, 2 * by)]
    return [*moved, *(each[:, :, ::-1] for each in moved)] if recipe.test_flip else moved


class KerasLayers:
    """Keras's augmenting layers of a recipe. Their results follow from the seed that each call brings."""

    def __init__(self, recipe: Recipe) -> None:
        layers, fill = keras.layers, {"edge": "nearest", "zero": "constant"}.get(recipe.padding, recipe.padding)
        self._each: list[Any] = []
        if recipe.rotation:
            self._each.append(layers.RandomRotation(recipe.rotation / 360, fill_mode=fill, seed=0))
        if recipe.randaugment:
            self._each.append(layers.RandAugment((0, 255), factor=recipe.randaugment, seed=0))
        if recipe.random_erasing:
            self._each.append(layers.RandomErasing(recipe.random_erasing, value_range=(0, 255), seed=0))
        self._mixing = {
            "mixup": layers.MixUp(alpha=recipe.mixup or 1.0, seed=0),
            "cutmix": layers.CutMix(factor=recipe.cutmix, seed=0),
        }

    @property
    def any(self) -> bool:
        """Whether there are layers that change images one by one."""
        return bool(self._each)

    def changed(self, images: Pixels, seed: int) -> Floats:
        """Each image as the layers change it, float32, still 0 … 255."""
        found: Any = images.astype(np.float32)
        for number, layer in enumerate(self._each):
            _reseed(layer, seed + number)
            found = layer(found, training=True)
        return np.asarray(keras.ops.convert_to_numpy(found), np.float32)

    def mixed(self, kind: str, images: Any, shares: Floats, seed: int) -> tuple[Floats, Floats]:
        """Images in which each two of the batch are mixed, and the shares of the classes in them."""
        layer = self._mixing[kind]
        _reseed(layer, seed)
        batch = {"images": np.asarray(images, np.float32), "labels": shares}
        found = layer(batch, training=True)
        return tuple(np.asarray(keras.ops.convert_to_numpy(found[key]), np.float32) for key in batch)  # type: ignore[return-value]


def _reseed(layer: Any, seed: int) -> None:
    """Let a layer, and those within it, draw what follows from the seed."""
    for number, part in enumerate(layer._flatten_layers()):
        generator = getattr(part, "generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed % 2**31, number], generator.state.dtype))
