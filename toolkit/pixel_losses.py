"""Losses for networks that label every pixel, written with `keras.ops` so that every Keras backend runs them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from toolkit.arithmetic import require_choice
from toolkit.pixel_networks import LOSSES
from toolkit.pixel_scores import VOID

# Lin et al. 2017, section 5.1: how much less an easy pixel counts.
FOCUS = 2.0


@keras.saving.register_keras_serializable(package="cnn_toolkit")
class PixelLoss(keras.losses.Loss):  # type: ignore[misc]
    """The loss of probabilities (n, height, width, classes) for label maps (n, height, width); VOID counts nowhere.

    "cross_entropy": the mean over pixels of -log p of the true class. "focal": the same, times (1 - p)², so that
    pixels which are right already count less (Lin et al. 2017, equation 4). "dice": 1 less the mean over classes of
    2 |P T| / (|P| + |T|), to which a rare class contributes as much as a frequent one (Milletari et al. 2016).
    "cross_entropy_dice": the sum of both.

    >>> import numpy as np
    >>> truth, right = np.array([[[0, 255]]]), np.array([[[[1.0, 0.0], [0.5, 0.5]]]], np.float32)
    >>> [round(float(PixelLoss(kind)(truth, right)), 4) for kind in LOSSES]
    [0.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, kind: str = "cross_entropy", **options: Any) -> None:
        super().__init__(**{"name": kind, **options})
        self.kind = require_choice("loss", kind, LOSSES)

    def call(self, truth: Any, probabilities: Any) -> Any:
        known = ops.cast(ops.not_equal(ops.cast(truth, "int32"), VOID), probabilities.dtype)
        # A pixel without a class has no mark in any of the classes' maps.
        marks = ops.one_hot(ops.cast(truth, "int32"), probabilities.shape[-1], dtype=probabilities.dtype)
        if self.kind == "dice":
            return _dice(marks, probabilities, known)
        focus = FOCUS if self.kind == "focal" else 0.0
        loss = _cross_entropy(marks, probabilities, known, focus)
        return loss + _dice(marks, probabilities, known) if self.kind == "cross_entropy_dice" else loss

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind}


def _cross_entropy(marks: Any, probabilities: Any, known: Any, focus: float) -> Any:
    """The mean over known pixels of -(1 - p)^focus log p."""
    right = ops.clip(ops.sum(marks * probabilities, axis=-1), keras.config.epsilon(), 1.0)
    loss = -ops.log(right) * known
    if focus:
        loss = loss * (1.0 - right) ** focus
    return ops.sum(loss) / ops.maximum(ops.sum(known), 1.0)


def _dice(marks: Any, probabilities: Any, known: Any) -> Any:
    """1 - mean of 2 |P T| / (|P| + |T|) over the classes; one more pixel in both, so that a class may be missing."""
    answered = probabilities * known[..., None]
    both = ops.sum(marks * answered, axis=(0, 1, 2))
    each = ops.sum(marks, axis=(0, 1, 2)) + ops.sum(answered, axis=(0, 1, 2))
    return 1.0 - ops.mean((2.0 * both + 1.0) / (each + 1.0))


def pixel_accuracy(truth: Any, probabilities: Any) -> Any:
    """The share of known pixels whose most probable class is the true one.

    >>> import numpy as np
    >>> float(pixel_accuracy(np.array([[[0, 255]]]), np.array([[[[0.6, 0.4], [0.5, 0.5]]]], np.float32)))
    1.0
    """
    labels = ops.cast(truth, "int32")
    known = ops.cast(ops.not_equal(labels, VOID), "float32")
    right = ops.cast(ops.equal(ops.cast(ops.argmax(probabilities, axis=-1), "int32"), labels), "float32")
    return ops.sum(right * known) / ops.maximum(ops.sum(known), 1.0)
