"""Between the description and Keras: an `Architecture` becomes a `keras.Model`, and any `keras.Model` becomes rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, TypeVar

import keras

from toolkit import keras_layers
from toolkit.arithmetic import InputError
from toolkit.costs import Network, Row, Rows, results, rows_of
from toolkit.keras_files import Config, rows_from_config
from toolkit.layers import InputLayer, Layer, Merge, MultiHeadAttention, Other, Pooling2D, Shape

Built = TypeVar("Built")


def build(net: Network, *, seed: int | None = None, allocate: bool = True, name: str | None = None) -> keras.Model:
    """The Keras model of a network; its layers are called as the rows are.

    `seed` makes the weights repeatable. With `allocate=False` no weight gets memory: such a model tells shapes and
    counts, and cannot compute. Raises InputError for layers that only Keras knew (`Other`).
    """
    rows = rows_of(net)
    if not allocate:
        return without_weights(lambda: build(rows, name=name))
    if seed is not None:
        keras.utils.set_random_seed(seed)
    tensors: list[Any] = []
    for row in rows:
        tensors.append(_apply(row, [tensors[index] for index in row.reads]))
    entries = [tensor for tensor, row in zip(tensors, rows, strict=True) if isinstance(row.layer, InputLayer)]
    return keras.Model(one_or_all(entries), one_or_all([tensors[index] for index in results(rows)]), name=name)


def without_weights(make: Callable[[], Built]) -> Built:
    """The model or layer that `make` builds, with shapes and counts and no memory for its weights: it cannot compute.

    Keras lists such weights and fills them in when the next stateless scope ends. The list belongs to a thread, so the
    model is built in one of its own, and the list goes with it.

    >>> model = without_weights(lambda: keras.Sequential([keras.Input((10**5,)), keras.layers.Dense(10**5)]))
    >>> model.count_params()  # 40 GB, if they were there
    10000100000
    """
    policy = keras.config.dtype_policy()

    def made() -> Built:
        keras.config.set_dtype_policy(policy)
        with keras.StatelessScope(initialize_variables=False):
            return make()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(made).result()


def one_or_all(tensors: list[Any]) -> Any:
    """The tensor or array itself where there is only one, as Keras takes them.

    >>> one_or_all(["x"]), one_or_all(["x", "y"])
    ('x', ['x', 'y'])
    """
    return tensors[0] if len(tensors) == 1 else tensors


def _apply(row: Row, inputs: list[Any]) -> Any:
    """The output of one row's Keras layer."""
    if isinstance(row.layer, InputLayer):
        return keras.Input(row.layer.shape, name=row.name)
    layer = keras_layer(row.layer, row.name)
    if isinstance(row.layer, MultiHeadAttention):
        return layer(inputs[0], inputs[-1])
    return layer(inputs if isinstance(row.layer, Merge) else inputs[0])


def keras_layer(layer: Layer, name: str) -> keras.layers.Layer:
    """One Keras layer, called `name`; raises InputError where Keras has none for it."""
    if isinstance(layer, Other):
        raise InputError(f"layer {name!r} is of the type {layer.kind!r}, of which only the costs are known")
    if isinstance(layer, Merge):
        return getattr(keras.layers, layer.type)(name=name)
    home = keras_layers if hasattr(keras_layers, layer.type) else keras.layers
    return getattr(home, layer.type)(**keras_arguments(layer), name=name)


def keras_arguments(layer: Layer) -> dict[str, Any]:
    """The arguments of Keras's layer of the same type; our 0 for "the same as" is Keras's None."""
    arguments = {field.name: getattr(layer, field.name) for field in fields(layer) if field.name != "name"}
    if isinstance(layer, Pooling2D):
        arguments["strides"] = layer.strides or None
    if isinstance(layer, MultiHeadAttention):
        arguments["value_dim"] = layer.value
    return arguments


def read_model(model: keras.Model, input_shape: Shape | None = None) -> Rows:
    """The rows of any Sequential or Functional Keras model; `input_shape` is needed where the model leaves it open.

    Layers that this description has no word for keep Keras's own shape and count, and their MACs are not counted.
    Raises InputError for subclassed models, and for layers that cannot write their configuration down.
    """
    try:
        config = model.get_config()
    except NotImplementedError as error:
        raise InputError(f"a layer of {model.name!r} cannot describe itself: {error}; give it a get_config") from None
    return rows_from_config(config, input_shape, lambda path, step: _unknown_layer(model, path, step))


def _unknown_layer(model: keras.Model, path: tuple[str, ...], step: Config) -> Other | None:
    """What Keras itself says of a layer or an operation."""
    found: Any = model
    for name in path:
        found = next((part for part in _parts(found) if part.name == name), None)
        if found is None:
            return None
    return Other(
        kind=step["class_name"],
        shape=_first_output_shape(found),
        trainable=_count(getattr(found, "trainable_weights", ())),
        non_trainable=_count(getattr(found, "non_trainable_weights", ())),
    )


def _parts(model: Any) -> list[Any]:
    """The layers and operations of a model."""
    return list(getattr(model, "operations", None) or model.layers)


def _first_output_shape(part: Any) -> Shape:
    """The shape of what a layer or operation gives, without the batch."""
    output = part.outputs if hasattr(part, "outputs") else part.output
    while isinstance(output, (list, tuple, dict)):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    if None in output.shape[1:]:
        raise InputError(f"layer {part.name!r} gives {output.shape}; its sizes must be fixed to be priced")
    return tuple(output.shape[1:])


def _count(weights: Any) -> int:
    """Numbers in a list of Keras variables."""
    total = 0
    for weight in weights:
        size = 1
        for length in weight.shape:
            size *= length
        total += size
    return total
