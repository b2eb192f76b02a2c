"""Networks that know ImageNet, from `keras.applications`, and the classifier that is built on one. Imports Keras.

What a base expects of its pixels is part of the model, so that it takes uint8 photos of any size and nobody can scale
them wrongly. Its batch normalization rests for good, also in the blocks that learn: the statistics of a batch of 8
photos would ruin what the weights rest on. Calling the base with `training=False`, as guides advise, is not enough for
that: in Keras 3.15 `fit` says True to every layer, whatever the graph says. A layer that is not trainable does rest.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError

# Mean and deviation of ImageNet's pixels from 0 to 255, as `keras.applications.imagenet_utils` has them.
_TORCH_MEAN, _TORCH_VARIANCE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)
# The size that ImageNet's weights are asked for: those of MobileNetV2 exist for some sizes only, and fit all.
_USUAL_SIZE = 224
_PADDINGS = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
_JOINTS = (keras.layers.Add, keras.layers.Concatenate)
_BLOCK = re.compile(
    r"conv\d+_block\d+|stage_\d+_block_\d+|(?<!downsampling_)block_?\d+[a-z]?|expanded_conv(_\d+)?|conv_dw_\d+"
)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A base with a new head, and the same layers seen in three ways.

    model: uint8 photos (n, any, any, 3) to probabilities (n, classes); it is what is saved.
    core: the same from pixels (n, size, size, 3), from 0 to 255, on; it is what learns in the second phase.
    pooled: from the same pixels to features (n, d), the means over feature maps of several depths.
    head: from features to probabilities; it is what learns in the first phase.
    """

    model: keras.Model
    core: keras.Model
    pooled: keras.Model
    head: keras.Model
    base: keras.Model


def make_classifier(
    base: str,
    classes: int,
    *,
    scaling: str,
    alpha: float | None = None,
    image_size: int = 224,
    fit: str = "stretch",
    weights: str | None = "imagenet",
    depths: int = 1,
    head_units: int = 0,
    dropout: float = 0.0,
    seed: int = 0,
) -> Classifier:
    """A base of `keras.applications` with a softmax over `classes` on its mean features.

    `scaling` is what `finetuning.BASES` says of it, `alpha` its width where it has several (None: it has none). The
    features are those of the last `depths` sizes of map (see `maps_of`), standardized by what `standardize` was told;
    `head_units` is the width of a hidden layer between them and the softmax, 0 for none. The same seed gives the same
    head, and the same base where `weights` is None. Raises InputError for sizes and weights that do not fit, and where
    ImageNet's weights are neither on this machine nor to be had.
    """
    keras.utils.set_random_seed(seed)
    trunk = load_base(base, alpha, image_size, weights)
    trunk.trainable = False
    maps = keras.Model(trunk.input, maps_of(trunk, depths), name="maps")
    first = keras.layers.Resizing(
        image_size,
        image_size,
        antialias=True,
        crop_to_aspect_ratio=fit == "crop",
        pad_to_aspect_ratio=fit == "pad",
        name="resizing",
    )
    scales = scaling_layers(scaling)
    # Each map has a layer of its own, so that Grad-CAM can ask about it.
    marks = [keras.layers.Identity(name=f"map_{number}") for number in range(len(maps.outputs))]
    pools = [keras.layers.GlobalAveragePooling2D(name=f"pooling_{number}") for number in range(len(marks))]
    join = keras.layers.Concatenate(name="features")
    head = _head_layers(classes, head_units, dropout, seed)

    def features(pixels: Any) -> Any:
        found = [
            pool(mark(each)) for pool, mark, each in zip(pools, marks, maps(_through(scales, pixels)), strict=True)
        ]
        return join(found) if len(found) > 1 else found[0]

    photos = keras.Input((None, None, 3), dtype="uint8", name="photos")
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    found = keras.Input((sum(output.shape[-1] for output in maps.outputs),), name="pooled")
    # As floating-point numbers: Keras 3.15 cannot pad whole ones.
    resized = first(keras.ops.cast(photos, "float32"))
    return Classifier(
        model=keras.Model(photos, _through(head, features(resized)), name="classifier"),
        core=keras.Model(pixels, _through(head, features(pixels)), name="core"),
        pooled=keras.Model(pixels, features(pixels), name="pooled"),
        head=keras.Model(found, _through(head, found), name="head"),
        base=trunk,
    )


def _through(layers: Sequence[Any], tensor: Any) -> Any:
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def _head_layers(classes: int, units: int, dropout: float, seed: int) -> list[keras.layers.Layer]:
    """Features standardized, a hidden layer where it has units, and a softmax; each dense layer after dropout.

    The standardization is a batch normalization that never learns: it has no statistics but those that it is told.
    """
    standard = keras.layers.BatchNormalization(center=False, scale=False, trainable=False, name="standardized")
    hidden = [keras.layers.Dense(units, activation="relu", name="hidden")] if units else []
    dense = [*hidden, keras.layers.Dense(classes, activation="softmax", name="classes")]
    drops = [
        keras.layers.Dropout(dropout, seed=seed + number, name=f"dropout_{number}") for number in range(len(dense))
    ]
    return [standard, *(layer for pair in zip(drops, dense, strict=True) for layer in pair)]


def standardize(classifier: Classifier, features: NDArray[np.float32]) -> None:
    """Let the head see features as these (n, d) with a mean of 0 and a deviation of 1: training photos' only."""
    layer = classifier.head.get_layer("standardized")
    layer.moving_mean.assign(features.mean(axis=0, dtype=np.float64))
    layer.moving_variance.assign(features.var(axis=0, dtype=np.float64))


def maps_of(base: keras.Model, depths: int) -> list[Any]:
    """The last feature map of each of the last `depths` sizes, the largest first; fewer where a base has fewer.

    What is made of a thing shows earlier in a network than what it is called: its texture is in the larger maps.
    """
    last: dict[Any, Any] = {}
    for layer in base.layers:
        if not isinstance(layer, _PADDINGS) and len(getattr(layer.output, "shape", ())) == 4:
            last.pop(layer.output.shape[1:3], None)
            last[layer.output.shape[1:3]] = layer.output
    return list(last.values())[-depths:]


def scaling_layers(scaling: str) -> list[Any]:
    """What brings pixels from 0 to 255 into the range that a base was trained on, as layers that a file can keep."""
    if scaling == "tf":
        return [keras.layers.Rescaling(1 / 127.5, offset=-1, name="scaling")]
    if scaling == "torch":
        mean, variance = [255 * m for m in _TORCH_MEAN], [(255 * s) ** 2 for s in _TORCH_VARIANCE]
        return [keras.layers.Normalization(mean=mean, variance=variance, name="scaling")]
    if scaling == "caffe":
        scale = keras.layers.Normalization(mean=_CAFFE_MEAN, variance=(1.0, 1.0, 1.0), name="scaling")
        return [lambda pixels: keras.ops.flip(pixels, axis=-1), scale]
    return []


# Weights.


def load_base(name: str, alpha: float | None, size: int, weights: str | None) -> keras.Model:
    """The base without its top: with ImageNet's weights, those of a file, or random ones (None). Raises InputError."""
    if weights == "imagenet":
        return _with_imagenet(name, alpha, size)
    base = _built(name, alpha, size)
    if weights is not None:
        _load_file(base, Path(weights))
    return base


def _made(name: str, alpha: float | None, size: int, weights: str | None) -> keras.Model:
    options = {} if alpha is None else {"alpha": alpha}
    make = getattr(keras.applications, name)
    return make(input_shape=(size, size, 3), include_top=False, weights=weights, **options)


def _built(name: str, alpha: float | None, size: int) -> keras.Model:
    """The base with random weights; raises InputError for a size that it cannot have."""
    try:
        return _made(name, alpha, size, None)
    except ValueError as error:
        raise InputError(f"{name} cannot be built for {size} × {size} pixels: {_first_line(error)}") from None


def _with_imagenet(name: str, alpha: float | None, size: int) -> keras.Model:
    """ImageNet's weights for any size: those for 224 pixels, which every size can have.

    Keras looks for the file in its folder and downloads it where it is not there; where Keras publishes a hash of it
    (not for MobileNetV2), it checks that, too.
    """
    try:
        known = _made(name, alpha, _USUAL_SIZE, "imagenet")
    except Exception as error:  # urllib's errors, a proxy's, those of a damaged file
        raise InputError(
            f"ImageNet's weights of {name} cannot be had ({_first_line(error)}); connect to the internet once, put the "
            f"file into {_models_folder()}, give weights=PATH of a file that fits, or "
            "weights=None to begin with random ones, which learn much less from few photos"
        ) from error
    if size == _USUAL_SIZE:
        return known
    base = _built(name, alpha, size)
    base.set_weights(known.get_weights())
    return base


def _models_folder() -> Path:
    """Where Keras keeps the weights that it downloads."""
    return Path(os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()) / "models"


def _load_file(base: keras.Model, path: Path) -> None:
    """The weights in a file of Keras's (.h5, .weights.h5, .keras) into the base. Raises InputError."""
    if not path.is_file():
        raise InputError(
            f"there is no file {path}; give a file of weights for {base.name}, made with include_top=False"
        )
    try:
        base.load_weights(path)
    except Exception as error:  # damaged bytes can make a reader raise anything
        raise InputError(
            f"{path} holds no weights that fit {base.name} ({_first_line(error)}); give a file of the same base, width "
            "and Keras, made with include_top=False"
        ) from error
    if not all(np.isfinite(array).all() for array in base.get_weights()):
        raise InputError(f"{path} holds weights that are no numbers; give another copy of the file")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__


def weights_digest(model: keras.Model) -> str:
    """The SHA-256 of all weights of a model, whatever file they came from."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# Blocks.


def blocks_of(base: keras.Model) -> list[list[keras.layers.Layer]]:
    """The layers of a base by block, the first block with what comes before it, the last with what comes after it.

    Blocks are told by the names that Keras gives their layers (block_3_expand, conv4_block2_add …); where there are
    no such names (Inception, NASNet), each addition or concatenation ends one.
    """
    keys = [match[0] if (match := _BLOCK.search(layer.name)) else "" for layer in base.layers]
    if len(set(keys)) <= 2:
        ends = np.cumsum([isinstance(layer, _JOINTS) for layer in base.layers])
        keys = [str(before) for before in [0, *ends[:-1].tolist()]]
    blocks: dict[str, list[keras.layers.Layer]] = {}
    last = next((key for key in keys if key), "")
    for key, layer in zip(keys, base.layers, strict=True):
        last = key or last
        blocks.setdefault(last, []).append(layer)
    return list(blocks.values())


def unfreeze(base: keras.Model, blocks: int) -> None:
    """Let the last so many blocks of a base learn, except their batch normalization, and no others.

    Raises InputError where there are fewer blocks.
    """
    found = blocks_of(base)
    if blocks > len(found):
        raise InputError(f"{base.name} has {len(found)} blocks and {blocks} were to learn; give at most {len(found)}")
    base.trainable = bool(blocks)
    for number, block in enumerate(found):
        for layer in block:
            rests = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = number >= len(found) - blocks and not rests
