"""Slopes against those of a school book, on whatever backend runs."""

import keras
import numpy as np
import pytest

from toolkit.errors import InputError
from toolkit.gradients import compiled_gradient, gradient

AT = np.array([[1.0, -2.0, 3.0]], np.float32)


def test_the_slope_of_a_cube_is_three_squares() -> None:
    tensor = keras.ops.convert_to_tensor(AT)
    found = keras.ops.convert_to_numpy(gradient(lambda x: keras.ops.sum(x**3), tensor))
    np.testing.assert_allclose(found, 3 * AT**2, rtol=1e-6)


def test_other_tensors_are_not_differentiated_by() -> None:
    slope = compiled_gradient(lambda x, weights: keras.ops.sum(weights * x * x))
    weights = np.array([[1.0, 10.0, 100.0]], np.float32)
    for at in (AT, AT + 1):
        found = keras.ops.convert_to_numpy(slope(*map(keras.ops.convert_to_tensor, (at, weights))))
        np.testing.assert_allclose(found, 2 * weights * at, rtol=1e-6)


def test_an_unknown_backend_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(InputError, match="Keras runs on openvino"):
        gradient(keras.ops.sum, AT)
