"""Copies of a classifier for other places: int8 weights, TFLite, ONNX; each with its size and its own test accuracy.

A copy whose library is not installed is left out, and says so nowhere but in the absence of its file. Imports Keras.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.finetuning import Export

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]
COPIES = ("model-int8.keras", "model.tflite", "model.onnx")
"""The files that there may be."""

_BATCH = 16
# What Keras needs for ONNX on each backend.
_ONNX = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnxscript"}


def export_copies(file: Path, core: keras.Model, images: Pixels, labels: Numbers, folder: Path) -> dict[str, Export]:
    """Every copy that can be made here, by name, written into `folder`.

    `file` is the saved model, `core` the same from pixels of its own size on. `images` (n, size, size, 3) with `labels`
    are what each copy is tested with. A copy that its library cannot make is an entry without a file that says why.
    """
    makers: dict[str, Callable[[], Export]] = {"int8": lambda: int8_copy(file, images, labels, folder)}
    if keras.backend.backend() == "tensorflow":
        makers["tflite"] = lambda: tflite_copy(core, images, labels, folder)
    if importlib.util.find_spec(_ONNX.get(keras.backend.backend(), "onnx")):
        makers["onnx"] = lambda: onnx_copy(core, folder)
    return {name: _tried(make) for name, make in makers.items()}


def _tried(make: Callable[[], Export]) -> Export:
    """A copy, or an entry that says why there is none: the run has done its work without it."""
    try:
        return make()
    except Exception as error:  # converters raise whatever they like
        first_line = next(iter(str(error).splitlines()), "")
        return Export("", 0, None, f"could not be made: {type(error).__name__}: {first_line}"[:200])


def int8_copy(file: Path, images: Pixels, labels: Numbers, folder: Path) -> Export:
    """A copy with int8 weights where Keras has them: in dense layers, which here is the head (Keras 3.15)."""
    model = keras.saving.load_model(file, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every layer that it leaves as it is
        model.quantize("int8")
    target = folder / COPIES[0]
    model.save(target)
    found = np.concatenate([model.predict_on_batch(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)])
    whole = sum(int(np.prod(weight.shape)) for weight in model.weights)
    small = sum(int(np.prod(weight.shape)) for weight in model.weights if weight.dtype == "int8")
    note = f"Keras's own: {small / whole:.1%} of the weights, those of dense layers, are int8"
    return Export(target.name, target.stat().st_size, accuracy(found, labels), note)


def accuracy(probabilities: NDArray[Any], labels: Numbers) -> float:
    """The share of right answers.

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    return float((probabilities.argmax(axis=1) == labels).mean())


def tflite_copy(core: keras.Model, images: Pixels, labels: Numbers, folder: Path) -> Export:
    """A TFLite file whose weights are int8 with a scale a channel; it takes one float32 photo of the base's size."""
    import tensorflow as tf

    target = folder / COPIES[1]
    signature = [keras.InputSpec(shape=(1, *core.input_shape[1:]), dtype="float32")]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the interpreter announces its own move to another package
        core.export(
            target,
            format="litert",
            input_signature=signature,
            verbose=False,
            optimizations=[tf.lite.Optimize.DEFAULT],
        )
        interpreter = tf.lite.Interpreter(str(target))
    interpreter.allocate_tensors()
    place, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for image in images:
        interpreter.set_tensor(place, image[np.newaxis].astype(np.float32))
        interpreter.invoke()
        found.append(interpreter.get_tensor(answer)[0].copy())
    note = (
        f"TensorFlow Lite, int8 weights; takes float32 {core.input_shape[1]} × {core.input_shape[2]} × 3 from 0 to 255"
    )
    return Export(target.name, target.stat().st_size, accuracy(np.stack(found), labels), note)


def onnx_copy(core: keras.Model, folder: Path) -> Export:
    """An ONNX file of the classifier from pixels of the base's size on."""
    target = folder / COPIES[2]
    core.export(target, format="onnx", verbose=False)
    note = f"ONNX; takes float32 {core.input_shape[1]} × {core.input_shape[2]} × 3 from 0 to 255"
    return Export(target.name, target.stat().st_size, None, note)
