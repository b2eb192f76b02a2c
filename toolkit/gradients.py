"""How a number changes with a tensor, on any backend: the one thing here that Keras leaves to its backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras

from toolkit.errors import InputError

Scalar = Callable[..., Any]
"""A function of a tensor, and of others that it does not differentiate by, with one number as its value."""


def gradient(function: Scalar, at: Any, *others: Any) -> Any:
    """The slope of `function(at, *others)` by `at`, a tensor of its shape. Raises InputError for an unknown backend."""
    return _slope(function)(at, *others)


def compiled_gradient(function: Scalar) -> Callable[..., Any]:
    """`gradient` as a function of tensors, compiled where the backend compiles: for what is asked many times."""
    name, slope = keras.backend.backend(), _slope(function)
    if name == "tensorflow":
        import tensorflow as tf

        return tf.function(slope, reduce_retracing=True)  # type: ignore[no-any-return]
    return importlib.import_module("jax").jit(slope) if name == "jax" else slope


def _slope(function: Scalar) -> Callable[..., Any]:
    name = keras.backend.backend()
    slopes = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    if name not in slopes:
        raise InputError(f"gradients are known for TensorFlow, JAX and PyTorch; Keras runs on {name}")
    return slopes[name](function)


def _tensorflow(function: Scalar) -> Callable[..., Any]:
    import tensorflow as tf

    def slope(at: Any, *others: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(at, *others)
        return tape.gradient(value, at)

    return slope


def _jax(function: Scalar) -> Callable[..., Any]:
    return importlib.import_module("jax").grad(function)  # type: ignore[no-any-return]


def _torch(function: Scalar) -> Callable[..., Any]:
    torch = importlib.import_module("torch")

    def slope(at: Any, *others: Any) -> Any:
        variable = at.detach().requires_grad_(True)
        return torch.autograd.grad(function(variable, *others), variable)[0]

    return slope
