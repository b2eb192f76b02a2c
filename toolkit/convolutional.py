"""Classifiers that scan: dense layers become convolutions with the same weights (Long et al. 2015, figure 2).

A dense layer behind a map of 7 × 7 is a convolution with a window of 7 × 7 at its only position. Said so, the network
takes images of any size: at the size that it was trained on it answers what it answered before, and on a larger image
it answers for every position of that size, 32 pixels apart for VGG16, for the price of one pass over the image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, overload

from toolkit.costs import Row, results, trace
from toolkit.errors import InputError
from toolkit.layers import (
    Activation,
    Architecture,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    Pooling2D,
    ReLU,
    Reshape,
    Shape,
    Softmax,
    Windowed,
)

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike, NDArray

# What a head may hold besides: each number by itself, or each pixel by itself.
_ELEMENTWISE = (Activation, Dropout, LeakyReLU, ReLU)
_PIXELWISE = (BatchNormalization, LayerNormalization, Softmax, Windowed, Pooling2D)


@overload
def to_fully_convolutional(
    network: Architecture, input_shape: Shape | None = None, *, trained_on: None = None, allocate: bool = True
) -> Architecture: ...


@overload
def to_fully_convolutional(
    network: keras.Model, input_shape: Shape | None = None, *, trained_on: Shape | None = None, allocate: bool = True
) -> keras.Model: ...


def to_fully_convolutional(
    network: Any, input_shape: Shape | None = None, *, trained_on: Shape | None = None, allocate: bool = True
) -> Any:
    """The network with a map (height, width, classes) of scores in place of its (classes,).

    Flattening goes, dense layers become convolutions that keep their names, global pools become pools of the size that
    they had. Parameters stay the same in number and, at the training size, the one score of the map is the former
    output. An `Architecture` stays one, for images of `input_shape` (the former size if None); give its weights to
    `convolutional_weights`. A Keras model becomes a new one with copies of its weights, for images of `input_shape`
    or, if None, of any size from that of training on. `trained_on` is that size where the model leaves it open.
    With `allocate=False`, for a Keras model that was built so, no weight gets memory.

    Raises InputError where something at the end has no meaning on a map, or keeps weights for each position.

    >>> from toolkit.architectures import vgg16
    >>> trace(to_fully_convolutional(vgg16(), (500, 500, 3)))[-1].output_shape
    (9, 9, 1000)
    """
    if isinstance(network, Architecture):
        return _architecture(network, input_shape or network.input_shape)
    return _keras_model(network, input_shape, trained_on, allocate)


def convolutional_weights(
    network: Architecture, weights: Mapping[str, Sequence[ArrayLike]]
) -> dict[str, list[NDArray[Any]]]:
    """The weights of a network, by layer, in the shapes that its fully convolutional form needs; nothing is copied.

    >>> from toolkit.layers import Dense
    >>> import numpy as np
    >>> net = Architecture("one", (2, 3, 4), (Flatten(), Dense(5, use_bias=False, name="score")))
    >>> convolutional_weights(net, {"score": [np.zeros((24, 5))]})["score"][0].shape
    (2, 3, 4, 5)
    """
    import numpy as np

    from toolkit.forward import weight_shapes

    rows = trace(to_fully_convolutional(network))
    shapes = {row.name: weight_shapes(row.layer, row.input_shapes[0]).values() for row in rows if row.reads}
    return {
        name: [np.asarray(array).reshape(shape) for array, shape in zip(arrays, shapes[name], strict=True)]
        for name, arrays in weights.items()
    }


# What the end of a classifier becomes.


def head_of(rows: Sequence[Row]) -> int:
    """The number of the row at which a classifier leaves the map; that of the rows where it never does.

    Looked for in the chain of rows that leads to the output without a branch.

    >>> from toolkit.architectures import se_resnet50, vgg16
    >>> [trace(net)[head_of(trace(net))].name for net in (vgg16(), se_resnet50())]
    ['flatten', 'avg_pool']
    """
    ends = results(rows)
    if len(ends) != 1:
        raise InputError(f"a classifier has one output; this network has {len(ends)}; take the part that leads to one")
    readers = Counter(read for row in rows for read in row.reads)
    at, first = ends[0], len(rows)
    while rows[at].reads:
        if isinstance(rows[at].layer, (Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D)) or _flattens(rows[at]):
            first = at
        if len(rows[at].reads) > 1 or readers[rows[at].reads[0]] > 1:
            break
        at = rows[at].reads[0]
    if first == len(rows) and len(rows[ends[0]].output_shape) != 3:
        raise InputError(
            f"the network ends in {rows[ends[0]].output_shape} without a Flatten or a global pool behind its last map, "
            "so there is no map that its classes could be read from; give one that ends in Flatten and Dense"
        )
    return first


def _flattens(row: Row) -> bool:
    """Whether a Reshape does what a Flatten does."""
    return isinstance(row.layer, Reshape) and len(row.input_shapes[0]) == 3 and len(row.output_shape) == 1


def _converted(rows: Sequence[Row]) -> list[tuple[str, Layer | None]]:
    """Name and successor of each row from the head on; None for those that only changed the shape."""
    head = head_of(rows)
    shape: Shape = rows[head].input_shapes[0] if head < len(rows) else ()
    found: list[tuple[str, Layer | None]] = []
    flat = False
    for row in rows[head:]:
        flat = flat or isinstance(row.layer, Flatten) or _flattens(row)
        layer = _on_a_map(row, shape, flat and shape[:2] != (1, 1))
        if layer is not None:
            layer = replace(layer, name=row.name)
            shape = layer.output_shape(shape)
        found.append((row.name, layer))
    return found


def _on_a_map(row: Row, shape: Shape, flat: bool) -> Layer | None:
    """What a row's layer is on a map of `shape`; `flat` where it used to read all of the map's pixels as one row."""
    match row.layer:
        case Flatten():
            return None
        case Reshape() if len(row.output_shape) == 1 or row.output_shape == shape == (1, 1, shape[-1]):
            return None
        case GlobalAveragePooling2D():
            return AveragePooling2D((shape[0], shape[1]), strides=1)
        case GlobalMaxPooling2D():
            return MaxPooling2D((shape[0], shape[1]), strides=1)
        case Dense(units=units, activation=activation, use_bias=use_bias):
            window = (shape[0], shape[1]) if flat else 1
            return Conv2D(units, window, activation=activation, use_bias=use_bias)
    if isinstance(row.layer, _ELEMENTWISE) or (isinstance(row.layer, _PIXELWISE) and not flat):
        return row.layer
    raise InputError(
        f"{row.type} {row.name!r} has no meaning on a map of scores: it sees {row.input_shapes[0]} as a whole; "
        "move it before the Flatten, or leave it out"
    )


# Architectures.


def _architecture(net: Architecture, input_shape: Shape) -> Architecture:
    converted = _converted(trace(net))
    kept = net.layers[: len(net.layers) - len(converted)]
    layers = (*kept, *(layer for _, layer in converted if layer is not None))
    there = Architecture(f"{net.name}_convolutional", net.input_shape, layers)
    found = replace(there, input_shape=input_shape)
    _require_no_positions(trace(there), trace(found))
    return found


def _require_no_positions(trained: Sequence[Row], wanted: Sequence[Row]) -> None:
    """Refuse a layer that has other weights at another size."""
    for before, after in zip(trained, wanted, strict=True):
        if before.params != after.params:
            raise InputError(
                f"{before.type} {before.name!r} keeps {before.params:,} parameters at the training size and would need "
                f"{after.params:,} at this one: one for each position; leave input_shape out or replace the layer"
            )


# Keras models.


def _keras_model(model: Any, input_shape: Shape | None, trained_on: Shape | None, allocate: bool) -> keras.Model:
    from toolkit.build import read_model, without_weights

    entries = getattr(model, "inputs", None)
    if not entries or len(entries) != 1 or len(model.outputs) != 1:
        raise InputError(
            "to_fully_convolutional takes an Architecture, or a built Sequential or Functional Keras model with one "
            f"input and one output; {type(model).__name__} came"
        )
    if None in entries[0].shape[1:] and trained_on is None:
        raise InputError(
            f"the model leaves its input open, {tuple(entries[0].shape[1:])}; say the size that its end was trained "
            "on, for example trained_on=(224, 224, 3)"
        )
    names = Counter(name for name, _ in _layers(model))
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"models within the model are unfolded, and two layers are called {twice[0]!r}; rename one")
    head = dict(_converted(read_model(model, trained_on)))
    shape = input_shape or (None, None, entries[0].shape[-1])
    if not allocate:
        return without_weights(lambda: _scanning(model, shape, head))
    found = _scanning(model, shape, head)
    _copy_weights(model, found)
    return found


def _scanning(model: keras.Model, shape: tuple[int | None, ...], head: Mapping[str, Layer | None]) -> keras.Model:
    """The model on images of `shape`, with fresh weights; models within it are unfolded in place."""
    import keras

    entry = keras.Input(shape, dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    return keras.Model(entry, _called(model, entry, "", head), name=f"{model.name}_convolutional")


def _called(model: keras.Model, entry: Any, path: str, head: Mapping[str, Layer | None]) -> Any:
    """The output of fresh copies of a model's layers, those of the head in their new form."""
    import keras

    from toolkit.build import keras_layer

    def fresh(layer: Any) -> Any:
        return layer if isinstance(layer, keras.Model) else layer.__class__.from_config(layer.get_config())

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        name = f"{path}{layer.name}"
        if isinstance(layer, keras.Model):
            return _called(layer, inputs[0], f"{name}/", head)
        if name not in head or isinstance(head[name], _ELEMENTWISE):
            return layer(*inputs, **options)
        convolution = head[name]
        return inputs[0] if convolution is None else _as_precise(keras_layer(convolution, layer.name), layer)(inputs[0])

    if isinstance(model, keras.Sequential):
        return reduce(lambda inputs, layer: call(fresh(layer), inputs), model.layers, entry)
    functional = keras.Model(model.inputs[0], model.outputs[0])  # its one input may have come in a list
    return keras.models.clone_model(functional, entry, fresh, call_function=call).outputs[0]


def _as_precise(layer: Any, former: Any) -> Any:
    """The layer, computing in the numbers of the one whose place it takes: a softmax in float32, say."""
    return layer.__class__.from_config(layer.get_config() | {"dtype": former.dtype_policy})


def _copy_weights(model: Any, found: Any) -> None:
    """Give each layer of `found` the weights of the layer of the same name, in its own shapes."""
    sources = dict(_layers(model))
    for layer in found.layers:
        if layer.weights:
            arrays = zip(sources[layer.name].get_weights(), layer.weights, strict=True)
            layer.set_weights([array.reshape(variable.shape) for array, variable in arrays])


def _layers(model: Any) -> list[tuple[str, Any]]:
    """Names and layers, those of models within the model, too."""
    inner = ((layer, _layers(layer)) if hasattr(layer, "layers") else (layer, None) for layer in model.layers)
    return [pair for layer, within in inner for pair in (within if within is not None else [(layer.name, layer)])]
