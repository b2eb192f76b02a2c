"""A Keras model built from its description, with weights that depend on nothing but a variable's name and shape."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def computed(description: str, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The outputs of the model for these images (batch first), with drawn weights, as at prediction."""
    import keras

    model = keras.models.model_from_json(description)
    for variable in model.weights:
        variable.assign(weights(variable.path.rpartition("/")[2], tuple(variable.shape)))
    found = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(found)]


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Numbers for a variable: neither all alike nor so large that they explode. Sides of 1 make no difference.

    >>> bool((weights("kernel", (1, 1, 3, 4)) == weights("kernel", (3, 4))).all())
    True
    """
    sides = [side for side in shape if side != 1]
    drawn = np.random.default_rng([zlib.crc32(name.encode()), *sides]).normal(size=shape)
    if "variance" in name:
        values = 0.5 + np.abs(drawn)
    elif "gamma" in name:
        values = 1 + 0.2 * drawn
    elif len(sides) > 1:
        values = drawn / np.sqrt(np.prod(sides[:-1]))
    else:
        values = 0.2 * drawn
    return values.astype(np.float32)
