"""A network's numbers in a byte each: what Keras makes int8, what it leaves, and what both cost. Imports Keras.

`model.quantize("int8")` turns dense layers and embeddings into int8 and leaves convolutions as they are (Keras 3.15),
so that most of a convolutional network stays float32. What rounding all of its kernels would do is told beside it:
R. Krishnamoorthi, Quantizing deep convolutional networks for efficient inference (2018), symmetric, a scale a channel.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.explaining import copied
from toolkit.photo_batches import in_full_batches

Pixels = NDArray[Any]
Labels = NDArray[Any]

BATCH = 256
_LARGEST = 127


@dataclass(frozen=True)
class Copy:
    """A copy of a network: bytes of its weights and of its file (None where there is no such file), share of int8,
    test accuracy.
    """

    name: str
    weights_bytes: int
    file_bytes: int | None
    int8_share: float
    accuracy: float


def compare_int8(model: keras.Model, images: Pixels, labels: Labels) -> tuple[Copy, ...]:
    """The model as it is, after `model.quantize("int8")`, and with every kernel rounded; the model stays unchanged.

    `images` are what the model takes, `labels` their classes.
    """
    quantized = quantize_int8(model)
    rounded, rounded_bytes, share = round_kernels(model)
    return (
        Copy("float32", weights_bytes(model), _file_bytes(model), 0.0, accuracy_of(model, images, labels)),
        Copy(
            "Keras int8",
            weights_bytes(quantized),
            _file_bytes(quantized),
            int8_share(quantized),
            accuracy_of(quantized, images, labels),
        ),
        Copy("all kernels int8", rounded_bytes, None, share, accuracy_of(rounded, images, labels)),
    )


def quantize_int8(model: keras.Model) -> keras.Model:
    """A copy that Keras has quantized; layers that it cannot quantize are as they were."""
    copy = copied(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every layer that it leaves as it is
        copy.quantize("int8")
    return copy


def round_kernels(model: keras.Model) -> tuple[keras.Model, int, float]:
    """A copy whose kernels have the values that int8 has, the bytes that it would take, and the share that is int8.

    It computes in float32: what changes is what the kernels can say. A scale, float32, belongs to each output channel,
    or to each channel of a depthwise convolution.
    """
    copy = copied(model)
    small = scales = total = 0
    for weight in copy.weights:
        values = keras.ops.convert_to_numpy(weight)
        total += values.size
        if values.ndim >= 2:
            rounded, count = _rounded(values)
            weight.assign(rounded)
            small, scales = small + values.size, scales + count
    return copy, small + 4 * (total - small + scales), small / max(1, total)


def _rounded(kernel: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """A kernel in 255 steps a channel, and how many channels there are.

    >>> _rounded(np.array([[1.0, 0.0], [0.5, 0.0]]))[0].round(3).tolist()
    [[1.0, 0.0], [0.504, 0.0]]
    """
    kept = 2 if kernel.ndim == 4 and kernel.shape[-1] == 1 else 1  # a depthwise kernel is (h, w, channels, 1)
    axes = tuple(range(kernel.ndim - kept))
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / _LARGEST
    steps = np.rint(kernel / np.where(scale > 0, scale, 1))
    return (steps * scale).astype(kernel.dtype), scale.size


def weights_bytes(model: keras.Model) -> int:
    """Bytes of all weights in memory."""
    return sum(int(keras.ops.convert_to_numpy(weight).nbytes) for weight in model.weights)


def int8_share(model: keras.Model) -> float:
    """The share of a model's numbers that are int8."""
    sizes = [(int(np.prod(weight.shape)), weight.dtype == "int8") for weight in model.weights]
    return sum(size for size, small in sizes if small) / max(1, sum(size for size, _ in sizes))


def accuracy_of(model: keras.Model, images: Pixels, labels: Labels) -> float:
    """The share of right answers."""
    return float((probabilities(model, images).argmax(axis=1) == labels).mean())


def probabilities(model: keras.Model, images: Pixels) -> NDArray[np.float32]:
    """What the model answers, (n, classes)."""
    pixels = np.asarray(images, np.float32)
    return np.concatenate([in_full_batches(model, pixels[i : i + BATCH], BATCH) for i in range(0, len(pixels), BATCH)])


def _file_bytes(model: keras.Model) -> int:
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-int8-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.stat().st_size
