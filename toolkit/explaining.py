"""What a classifier looked at: Grad-CAM, saliency and feature maps. Imports Keras.

R. R. Selvaraju et al., Grad-CAM (2017): each channel of the last feature map counts as much as the answer's score would
change with it; what the channels then show, summed and without what speaks against the answer, is the map.
K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks (2013): how much the score would change with
each pixel. D. Smilkov et al., SmoothGrad (2017): the mean of that over the picture with noise, which is less grainy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError
from toolkit.gradients import gradient

Floats = NDArray[np.float32]


def grad_cam(model: keras.Model, images: NDArray[Any], classes: Sequence[int], layer: str | None = None) -> Floats:
    """Where in each image the evidence for a class lies: float32 (n, h, w) of the feature map's size, from 0 to 1.

    `images` (n, height, width, 3) is what the model takes, `classes` the class that is asked about for each. The
    feature map is the output of `layer`, by default the smallest that a layer reads, the last of several. The
    score is what goes into the softmax where the model ends in one, and the model's output elsewhere. A map without
    any evidence is all 0. Raises InputError where the model has no such layer, and for classes that it does not have.
    """
    _require_classes(model, images, classes)
    before, after = _halves(model, layer)
    found = [_map(before, after, images[i : i + 1], classes[i]) for i in range(len(images))]
    return np.stack(found) if found else np.zeros((0, 1, 1), np.float32)


def _require_classes(model: keras.Model, images: NDArray[Any], classes: Sequence[int]) -> None:
    most = model.output_shape[-1]
    if len(classes) != len(images) or not all(0 <= number < most for number in classes):
        raise InputError(
            f"a class from 0 to {most - 1} was expected for each of {len(images)} images; {list(classes)} came"
        )


def saliency(
    model: keras.Model,
    images: NDArray[Any],
    classes: Sequence[int],
    *,
    samples: int = 1,
    noise: float = 0.1,
    seed: int = 0,
) -> Floats:
    """How much each pixel counts for a class: float32 (n, height, width), 0 to 1, the largest slope of its channels.

    With more than one of `samples` it is SmoothGrad: the mean over so many copies of the image with Gaussian noise of
    a deviation of `noise` times the image's own range of values. The score is the one that `grad_cam` uses. A map
    without any slope is all 0. Raises InputError for classes that the model does not have and for less than 1 sample.
    """
    _require_classes(model, images, classes)
    require_whole("samples", samples)
    if not len(images):
        return np.zeros((0, *images.shape[1:3]), np.float32)
    scores, rng = scores_model(model), np.random.default_rng(seed)
    chosen = keras.ops.one_hot(np.asarray(classes, np.int32), model.output_shape[-1])
    plain = np.asarray(images, np.float32)
    scale = noise * np.ptp(plain, axis=(1, 2, 3), keepdims=True)
    found = np.zeros(plain.shape[:3])
    for _ in range(samples):
        noisy = plain if samples == 1 else plain + scale * rng.normal(size=plain.shape).astype(np.float32)
        found += _slopes(scores, noisy, chosen)
    return np.asarray(found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-30), np.float32)


def _slopes(scores: keras.Model, images: NDArray[np.float32], chosen: Any) -> NDArray[Any]:
    """The largest slope of the chosen scores over the channels of each pixel, (n, height, width)."""

    def score(pixels: Any) -> Any:
        return keras.ops.sum(keras.ops.cast(scores(pixels, training=False), "float32") * chosen)

    slope = keras.ops.convert_to_numpy(gradient(score, keras.ops.convert_to_tensor(images)))
    return np.asarray(np.abs(slope).max(axis=-1))


def feature_maps(model: keras.Model, images: NDArray[Any], layers: Sequence[str] = ()) -> dict[str, Floats]:
    """What layers make of images: for each float32 (n, height, width, channels), by name and in the model's order.

    By default those of every convolution. Raises InputError for a layer that the model lacks or that has no map.
    """
    copy = copied(model)
    given = {each.name: each for each in copy.layers if _is_map(each.output)}
    names = [*layers] or [name for name, each in given.items() if "Conv" in type(each).__name__]
    if strange := [name for name in names if name not in given]:
        raise InputError(f"{model.name} has no feature map {strange[0]!r}; those it has are {', '.join(given)}")
    if not names:
        raise InputError(f"{model.name} has no convolution; name the layers whose maps are wanted")
    found = keras.Model(copy.inputs[0], [given[name].output for name in names]).predict_on_batch(images)
    maps = found if isinstance(found, list | tuple) else [found]
    return {name: np.asarray(each, np.float32) for name, each in zip(names, maps, strict=True)}


def scores_model(model: keras.Model) -> keras.Model:
    """A copy of a classifier that gives what goes into its softmax; another model's output stays as it is."""
    copy = copied(model)
    return keras.Model(copy.inputs[0], _scores(copy))


def copied(model: keras.Model) -> keras.Model:
    """A copy in which every layer has one input and one output, where the model's own may be part of other models."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _halves(model: keras.Model, layer: str | None) -> tuple[keras.Model, keras.Model]:
    """The model up to its feature map, and from the image and this map to its scores. Raises InputError."""
    copy = copied(model)
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
    if isinstance(last, keras.layers.Softmax) or (_ends_in_softmax(last) and isinstance(last, keras.layers.Activation)):
        return last.input
    if not (_ends_in_softmax(last) and isinstance(last, keras.layers.Dense)):
        return model.outputs[0]
    linear = keras.layers.Dense(last.units, use_bias=last.use_bias, name="scores")
    scores = linear(last.input)
    linear.set_weights(last.get_weights())
    return scores


def _ends_in_softmax(layer: keras.layers.Layer) -> bool:
    return getattr(layer, "activation", None) is keras.activations.softmax


def _map(before: keras.Model, after: keras.Model, image: NDArray[Any], number: int) -> Floats:
    """The map of one image."""
    image = keras.ops.convert_to_tensor(image, before.inputs[0].dtype)
    features = before(image, training=False)
    slope = gradient(lambda maps: after([image, maps], training=False)[0, number], features)
    weights = keras.ops.convert_to_numpy(slope)[0].mean(axis=(0, 1))
    found = np.maximum(keras.ops.convert_to_numpy(features)[0] @ weights, 0)
    return np.asarray(found / (found.max() or 1), np.float32)
