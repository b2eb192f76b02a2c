"""Pictures changed so little that nobody sees it, and so that a network is wrong: FGSM and PGD. Imports Keras.

I. J. Goodfellow, J. Shlens, C. Szegedy: Explaining and Harnessing Adversarial Examples (2014); A. Madry, A. Makelov,
L. Schmidt, D. Tsipras, A. Vladu: Towards Deep Learning Models Resistant to Adversarial Attacks (2017).

Every pixel moves by `epsilon` at most, in the units of the pixels, 0 to 255: what papers call 8/255 is 8 here.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError
from toolkit.explaining import scores_model
from toolkit.gradients import compiled_gradient

Floats = NDArray[np.float32]
Labels = NDArray[Any]

BRIGHTEST = 255.0


class Attacker:
    """Who knows a network wholly, its weights too, and looks for pictures that it gets wrong.

    `model` takes pixels from 0 to 255 and ends in a softmax, or in scores. A batch of `batch_size` is computed at once.
    What comes back is float32 of the images' shape, within `epsilon` of them and from 0 to 255. Raises InputError where
    images and labels do not fit each other, and for an `epsilon` below 0.
    """

    def __init__(self, model: keras.Model, batch_size: int = 128) -> None:
        require_whole("batch_size", batch_size)
        self._batch_size = batch_size
        scores = scores_model(model)

        def loss(pixels: Any, labels: Any) -> Any:
            found = keras.ops.cast(scores(pixels, training=False), "float32")
            return keras.ops.sum(keras.losses.sparse_categorical_crossentropy(labels, found, from_logits=True))

        self._slope = compiled_gradient(loss)

    def fgsm(self, images: NDArray[Any], labels: Labels, epsilon: float) -> Floats:
        """The fast gradient sign method: one step of `epsilon` in the direction in which the loss grows."""
        _require_attackable(images, labels, epsilon)
        plain = np.asarray(images, np.float32)
        return _clipped(plain + epsilon * self._signs(plain, labels), plain, epsilon)

    def pgd(
        self,
        images: NDArray[Any],
        labels: Labels,
        epsilon: float,
        *,
        steps: int = 10,
        step_size: float | None = None,
        seed: int = 0,
    ) -> Floats:
        """Projected gradient descent: `steps` such steps from a random start, each taken back to `epsilon`.

        `step_size` is 2.5 × epsilon / steps by default, so that the edge can be reached from anywhere (Madry et al.).
        """
        _require_attackable(images, labels, epsilon)
        require_whole("steps", steps)
        size = 2.5 * epsilon / steps if step_size is None else step_size
        plain = np.asarray(images, np.float32)
        start = np.random.default_rng(seed).uniform(-epsilon, epsilon, plain.shape).astype(np.float32)
        found = _clipped(plain + start, plain, epsilon)
        for _ in range(steps):
            found = _clipped(found + size * self._signs(found, labels), plain, epsilon)
        return found

    def _signs(self, images: Floats, labels: Labels) -> Floats:
        """The sign of the loss's slope by each value of the images."""
        found = np.zeros(images.shape, np.float32)
        for begin in range(0, len(images), self._batch_size):
            some = slice(begin, begin + self._batch_size)
            pixels, true = self._filled(images[some]), self._filled(labels[some].astype(np.int32))
            found[some] = np.sign(keras.ops.convert_to_numpy(self._slope(pixels, true)))[: len(images[some])]
        return found

    def _filled(self, part: NDArray[Any]) -> Any:
        """A tensor of a whole batch, the end of which is 0, so that nothing is compiled for another size."""
        missing = self._batch_size - len(part)
        return keras.ops.convert_to_tensor(np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)))


def _clipped(found: Floats, plain: Floats, epsilon: float) -> Floats:
    """Within `epsilon` of the plain images, and pixels again."""
    return np.clip(found, np.maximum(plain - epsilon, 0), np.minimum(plain + epsilon, BRIGHTEST)).astype(np.float32)


def _require_attackable(images: NDArray[Any], labels: Labels, epsilon: float) -> None:
    if images.ndim != 4 or labels.shape != (len(images),):
        raise InputError(
            f"images (n, height, width, channels) and n labels were expected; {images.shape} and {labels.shape} came"
        )
    if not epsilon >= 0:
        raise InputError(
            f"epsilon is 0 or more, in the units of pixels from 0 to 255; {epsilon!r} came; give one like 8"
        )
