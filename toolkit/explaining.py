"""What a classifier looked at: Grad-CAM, a map of where in a photo an answer comes from. Imports Keras.

R. R. Selvaraju et al., Grad-CAM (2017): each channel of the last feature map counts as much as the answer's score would
change with it; what the channels then show, summed and without what speaks against the answer, is the map. Gradients
are the one thing here that Keras leaves to its backend, so that each has a few lines of its own; the maps are the same.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError

Floats = NDArray[np.float32]


def grad_cam(model: keras.Model, images: NDArray[Any], classes: Sequence[int], layer: str | None = None) -> Floats:
    """Where in each image the evidence for a class lies: float32 (n, h, w) of the feature map's size, from 0 to 1.

    `images` (n, height, width, 3) is what the model takes, `classes` the class that is asked about for each. The
    feature map is the output of `layer`, by default the smallest that a layer reads, the last of several. The
    score is what goes into the softmax where the model ends in a dense layer with one, and the model's output
    elsewhere. A map without any evidence is all 0. Raises InputError where the model has no such layer, and for classes
    that it does not have.
    """
    most = model.output_shape[-1]
    if len(classes) != len(images) or not all(0 <= number < most for number in classes):
        raise InputError(
            f"a class from 0 to {most - 1} was expected for each of {len(images)} images; {list(classes)} came"
        )
    before, after = _halves(model, layer)
    found = [_map(before, after, images[i : i + 1], classes[i]) for i in range(len(images))]
    return np.stack(found) if found else np.zeros((0, 1, 1), np.float32)


def _halves(model: keras.Model, layer: str | None) -> tuple[keras.Model, keras.Model]:
    """The model up to its feature map, and from the image and this map to its scores. Raises InputError."""
    # In a copy every layer has one input and one output, where the model's own may be part of other models.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    plain = [each for each in copy.layers if not isinstance(each, keras.Model | keras.layers.InputLayer)]
    read = [each.input for each in plain if _is_map(each.input)]
    if not read:
        raise InputError(f"{model.name} has no layer with a height and a width, so no place in an image can be shown")
    given = {each.name: each.output for each in plain if _is_map(each.output)}
    if layer is not None and layer not in given:
        raise InputError(f"{model.name} has no feature map {layer!r}; those it has are {', '.join(list(given)[-10:])}")
    smallest = min(reversed(read), key=lambda tensor: math.prod(side or math.inf for side in tensor.shape[1:3]))
    features = smallest if layer is None else given[layer]
    # Scores may also read maps before this one: for these the second half needs the image again.
    return keras.Model(copy.inputs[0], features), keras.Model([copy.inputs[0], features], _scores(copy))


def _is_map(tensor: Any) -> bool:
    return len(getattr(tensor, "shape", ())) == 4


def _scores(model: keras.Model) -> Any:
    """What goes into the last softmax, or the output of a model that ends otherwise."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.softmax:
        return model.outputs[0]
    linear = keras.layers.Dense(last.units, use_bias=last.use_bias, name="scores")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    return scores


def _map(before: keras.Model, after: keras.Model, image: NDArray[Any], number: int) -> Floats:
    """The map of one image."""
    image = keras.ops.convert_to_tensor(image, before.inputs[0].dtype)
    features = before(image, training=False)
    slope = _gradient(lambda maps: after([image, maps], training=False)[0, number], features)
    gradient = keras.ops.convert_to_numpy(slope)[0]
    weights = gradient.mean(axis=(0, 1))
    found = np.maximum(keras.ops.convert_to_numpy(features)[0] @ weights, 0)
    return np.asarray(found / (found.max() or 1), np.float32)


def _gradient(function: Callable[[Any], Any], at: Any) -> Any:
    """How a scalar function of a tensor changes with it, in the words of the backend."""
    name = keras.backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(at)
        return tape.gradient(value, at)
    if name == "jax":
        return importlib.import_module("jax").grad(function)(at)
    if name == "torch":
        torch = importlib.import_module("torch")
        variable = at.detach().requires_grad_(True)
        return torch.autograd.grad(function(variable), variable)[0]
    raise InputError(f"gradients are known for TensorFlow, JAX and PyTorch; Keras runs on {name}")
