"""Keras models read as data: from the configuration that Keras writes to our rows, without Keras or its code.

A `.keras` file is a zip archive whose `config.json` describes the network. Only that text is read here, so a file that
wants to run code has nothing to run it with. `toolkit.build.read_model` gives the same reader a living model.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from toolkit import layers
from toolkit.arithmetic import InputError
from toolkit.costs import Row, Rows, make_row
from toolkit.layers import InputLayer, Layer, Merge, MultiHeadAttention, Other, Shape

Config = Mapping[str, Any]
# Asked about a layer that this reader has no word for: (names from the outermost model inwards, its configuration).
Unknown = Callable[[tuple[str, ...], Config], Other | None]

LARGEST_CONFIG = 64 * 2**20

# Keras's layers that have the same name and the same arguments here.
_KNOWN = {
    kind.__name__: kind
    for kind in (
        *(layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose, layers.Dense),
        *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
        *(layers.GlobalAveragePooling1D, layers.BatchNormalization, layers.LayerNormalization),
        *(layers.GroupNormalization, layers.LocalResponseNormalization, layers.PositionEmbedding, layers.Activation),
        *(layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.Softmax, layers.Dropout, layers.Rescaling),
        *(layers.Flatten, layers.Reshape, layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D),
        MultiHeadAttention,
    )
}
_MERGES = {mode.capitalize(): mode for mode in layers.MERGES}
# What has no matrix product and works number by number, whatever its arguments.
_ELEMENTWISE = (
    *(
        "ActivityRegularization",
        "AlphaDropout",
        "ELU",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "SpatialDropout2D",
    ),
    *("CustomScaleLayer", "StochasticDepth", "RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom"),
    *("RandomContrast", "RandomBrightness", "UnitNormalization", "Activation"),
)
# Operations of keras.ops on one tensor, perhaps with a number: the same shape comes out.
_ELEMENTWISE_OPERATIONS = (
    *("Abs", "Add", "Clip", "Divide", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSilu", "HardSwish", "LeakyRelu", "Log"),
    *("Maximum", "Minimum", "Multiply", "Negative", "Power", "Relu", "Relu6", "Rsqrt", "Sigmoid", "Silu", "Softmax"),
    *("Sqrt", "Square", "Subtract", "Swish", "Tanh", "TrueDivide"),
)
# Operations of keras.ops that multiply matrices: their MACs are not known.
_PRODUCTS = ("Conv", "ConvTranspose", "DepthwiseConv", "Dot", "Einsum", "Matmul", "SeparableConv", "Tensordot", "Vdot")
# Arguments whose other values mean another layer than ours, with the values that we mean.
_MEANT: Mapping[str, Any] = {
    "data_format": ("channels_last",),
    "axis": (-1, (-1,), 3, (3,)),
    "attention_axes": (None, (1,)),
    "use_gate": (False,),
    "output_shape": (None,),
    "shared_axes": (None,),
    "threshold": (0.0,),
    "rms_scaling": (False,),
    "output_padding": (None,),
}


def read_keras_file(path: str | Path, input_shape: Shape | None = None) -> Rows:
    """The rows of the model in a `.keras` file; `input_shape` is needed where the file leaves it open.

    Raises InputError for a file that is no such archive, a model that is neither Sequential nor Functional, a layer
    that is not known here, and sizes that do not fit.
    """
    config = _read_config(Path(path))
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise InputError(
            f"{Path(path).name}: its config.json does not describe a Keras model; save one with model.save"
        )
    try:
        return rows_from_config(config["config"], input_shape)
    except InputError as error:
        raise InputError(f"{Path(path).name}: {error}") from None
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{Path(path).name}: its configuration is not one that Keras 3 writes ({type(error).__name__}: {error}); "
            "load the model in Keras and save it again"
        ) from None


def _read_config(path: Path) -> Any:
    """The parsed `config.json` of a `.keras` archive."""
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}; give a .keras file or the name of an architecture")
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("config.json").file_size
            if size > LARGEST_CONFIG:
                raise InputError(f"{path.name}: its description has {size} bytes; at most {LARGEST_CONFIG} are read")
            return json.loads(archive.read("config.json"))
    except InputError:
        raise
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path.name} is not a .keras model (a zip archive with a config.json): {error}; save one with model.save"
        ) from None


def rows_from_config(config: Config, input_shape: Shape | None = None, unknown: Unknown | None = None) -> Rows:
    """The rows of a Sequential or Functional model's `get_config()`; `unknown` answers for layers not known here.

    Raises InputError as `read_keras_file` does.

    >>> dense = {"class_name": "Dense", "config": {"name": "d", "units": 2}}
    >>> [row.params for row in rows_from_config({"layers": [dense], "build_input_shape": [None, 3]})]
    [0, 8]
    """
    rows = _Reader(input_shape, unknown).read(config)
    if not rows:
        raise InputError("the model has no input; give it one, for example keras.Input((224, 224, 3))")
    return tuple(rows)


class _Reader:
    """Collects rows while it follows a configuration; nested models are unfolded in place."""

    def __init__(self, input_shape: Shape | None, unknown: Unknown | None) -> None:
        self.rows: list[Row] = []
        self._input_shape = input_shape
        self._unknown = unknown
        self._priced: set[tuple[str, ...]] = set()
        self._used: set[str] = set()
        self._resized = False

    def read(self, config: Config) -> list[Row]:
        self._model(config, (), None)
        return self.rows

    def _model(self, config: Config, path: tuple[str, ...], feeds: Sequence[int] | None) -> list[int]:
        """Append a model's rows; return the numbers of its outputs. `feeds` are None for the outermost model."""
        if "layers" not in config:
            raise InputError("only Sequential and Functional models can be read; this one is a class of its own")
        if "input_layers" in config:
            return self._functional(config, path, feeds)
        return self._sequential(config, path, feeds)

    # The two kinds of model.

    def _sequential(self, config: Config, path: tuple[str, ...], feeds: Sequence[int] | None) -> list[int]:
        steps = [step for step in config["layers"] if step["class_name"] != "InputLayer"]
        if feeds is None:
            entries = [step for step in config["layers"] if step["class_name"] == "InputLayer"]
            shape = entries[0]["config"]["batch_shape"] if entries else config.get("build_input_shape")
            feeds = [self._enter(entries[0]["config"]["name"] if entries else "input_layer", shape)]
        for step in steps:
            feeds = self._layer(step, (*path, step["config"]["name"]), list(feeds), None, {})[:1]
        return list(feeds)

    def _functional(self, config: Config, path: tuple[str, ...], feeds: Sequence[int] | None) -> list[int]:
        recorded = dict(_recorded_shapes(config["layers"]))
        outputs: dict[tuple[str, int], list[int]] = {}
        for position, entry in enumerate(_references(config["input_layers"])):
            shapes = [step["config"]["batch_shape"] for step in config["layers"] if step["name"] == entry[0]]
            fed = self._enter(entry[0], shapes[0]) if feeds is None else feeds[position]
            outputs[entry[0], 0] = [fed]
        waiting = [
            (step, number, node) for step in config["layers"] for number, node in enumerate(step["inbound_nodes"])
        ]
        while waiting:
            later = []
            for step, number, call in waiting:
                reads = list(_tensors(call))
                if all((name, node) in outputs for name, node, _ in reads):
                    fed_by = [outputs[name, node][tensor] for name, node, tensor in reads]
                    shape = recorded.get((step["name"], number))
                    outputs[step["name"], number] = self._layer(
                        step, (*path, step["name"]), fed_by, shape, call.get("kwargs", {})
                    )
                else:
                    later.append((step, number, call))
            if len(later) == len(waiting):
                raise InputError(f"layer {later[0][0]['name']!r} reads something that the model does not have")
            waiting = later
        return [outputs[name, node][tensor] for name, node, tensor in _references(config["output_layers"])]

    # One row.

    def _enter(self, name: str, batch_shape: Sequence[int | None] | None) -> int:
        given = tuple(batch_shape[1:]) if batch_shape else ()
        shape = tuple(size for size in self._input_shape or given if size is not None)
        if not shape or len(shape) < len(given):
            raise InputError(
                f"the model leaves its input open ({given or 'not built'}); "
                "say it, for example with --input 224x224x3 (in Python: input_shape=(224, 224, 3))"
            )
        self._resized = self._resized or shape != given
        layer = InputLayer(shape=shape)
        self.rows.append(make_row(self._name(name), layer, (), self.rows))
        return len(self.rows) - 1

    def _layer(
        self, step: Config, path: tuple[str, ...], feeds: list[int], recorded: Shape | None, options: Config
    ) -> list[int]:
        """Append the row or rows of one call of a layer; return the numbers of its outputs.

        `options` are the call's named arguments.
        """
        config = step["config"]
        if "layers" in config:
            return self._model(config, path, feeds)
        reads = tuple(feeds)
        plain = True
        if step["class_name"] == "MultiHeadAttention":
            reads, plain = tuple(dict.fromkeys(feeds)), _is_plain_attention(feeds, options)
        shapes = [self.rows[index].output_shape for index in reads]
        known = layer_from_config(step["class_name"], config, shapes) if plain else None
        layer = replace(known, name="/".join(path)) if known else self._other(step, path, recorded)
        row = make_row(self._name("/".join(path)), layer, reads, self.rows)
        self.rows.append(self._priced_once(row, path, bool(config.get("trainable", True))))
        return [len(self.rows) - 1] * 8  # a layer with several outputs is one row; all of them are read from it

    def _priced_once(self, row: Row, path: tuple[str, ...], trainable: bool) -> Row:
        """The row with the parameters of a frozen layer moved, and those of a shared layer counted the first time."""
        if path in self._priced:
            return replace(row, trainable_params=0, non_trainable_params=0)
        self._priced.add(path)
        return row if trainable else replace(row, trainable_params=0, non_trainable_params=row.params)

    def _name(self, name: str) -> str:
        """`name`, with a number behind it when it comes again."""
        candidate, number = name, 0
        while candidate in self._used:
            number += 1
            candidate = f"{name}_{number}"
        self._used.add(candidate)
        return candidate

    def _other(self, step: Config, path: tuple[str, ...], recorded: Shape | None) -> Other:
        """What can be said of a layer that this reader has no word for."""
        if self._resized:
            raise InputError(
                f"layer {path[-1]!r} is of the type {step['class_name']!r}, whose shape is known only for the model's "
                "own input size; leave the input size out"
            )
        other = _operation(step, recorded) or (self._unknown(path, step) if self._unknown else None)
        if other is None:
            raise InputError(_what_to_do(step["class_name"], path[-1]))
        return replace(other, shape=recorded) if recorded else other


def _is_plain_attention(feeds: Sequence[int], options: Config) -> bool:
    """Whether attention is called as (x, x), (query, value) or with the value as its key, and sees everything."""
    keyed_by_value = len(feeds) == 2 or (len(feeds) == 3 and feeds[1] == feeds[2])
    return keyed_by_value and not options.get("use_causal_mask")


def _what_to_do(kind: str, name: str) -> str:
    """The sentence about a layer that cannot be read."""
    if kind == "Lambda":
        return f"layer {name!r} is a Lambda: it holds Python code, which is never run here; replace it by Keras layers"
    return (
        f"layer {name!r} is of the type {kind!r}, which cannot be priced from a file; "
        "load the model in Python and use toolkit.build.read_model(model)"
    )


# Keras's words for the graph.


def _references(value: Any) -> Iterator[tuple[str, int, int]]:
    """The (layer, call, output) triples of `input_layers` or `output_layers`, which may be nested or a single one."""
    if isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str):
        yield value[0], value[1], value[2]
        return
    for inner in value.values() if isinstance(value, dict) else value:
        yield from _references(inner)


def _keras_tensors(value: Any) -> Iterator[Config]:
    """Every tensor named in a node's arguments, in order."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value["config"]
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _keras_tensors(inner)


def _tensors(node: Any) -> Iterator[tuple[str, int, int]]:
    """The (layer, call, output) triples that feed one call of a layer."""
    for tensor in _keras_tensors(node):
        name, call, output = tensor["keras_history"]
        yield name, call, output


def _recorded_shapes(steps: Iterable[Config]) -> Iterator[tuple[tuple[str, int], Shape]]:
    """The fixed output shapes that Keras wrote down, by (layer, call)."""
    for step in steps:
        for tensor in _keras_tensors(step["inbound_nodes"]):
            name, call, _ = tensor["keras_history"]
            if None not in tensor["shape"][1:]:
                yield (name, call), tuple(tensor["shape"][1:])


# Keras's words for layers.


def layer_from_config(kind: str, config: Config, shapes: Sequence[Shape]) -> Layer | None:
    """Our layer for Keras's class name and configuration; None where there is none that means the same.

    >>> layer_from_config("Dense", {"units": 10, "activation": "softmax"}, [(64,)])
    Dense(name='', activation='softmax', use_bias=True, units=10)
    """
    if any(layers.tupled(config[key]) not in meant for key, meant in _MEANT.items() if key in config):
        return None
    if kind in _MERGES and len(shapes) > 1:
        return Merge(_MERGES[kind]) if len({len(shape) for shape in shapes}) == 1 else None
    if kind == "MultiHeadAttention" and (len(set(shapes)) != 1 or len(shapes) > 2):
        return None
    if kind in _KNOWN and _activation(config) in (*layers.ACTIVATIONS, None):
        return _KNOWN[kind](**dict(_arguments(_KNOWN[kind], config)))
    return _without_product(kind, config, shapes)


def _activation(config: Config) -> str | None:
    """The name of the activation, whether Keras wrote it as text or as an object."""
    value = config.get("activation")
    if isinstance(value, dict):
        value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
    return value.lower() if isinstance(value, str) else None


def _arguments(kind: type[Layer], config: Config) -> Iterator[tuple[str, Any]]:
    """The arguments of ours that Keras's configuration gives."""
    for field in fields(kind):
        if field.name == "name" or config.get(field.name) is None:
            continue
        value = _activation(config) if field.name == "activation" else layers.tupled(config[field.name])
        value = value if field.name == "target_shape" else _shortest(value)
        if (field.name, value) not in ((key, _shortest(layers.tupled(config.get(other)))) for key, other in _FOLLOWS):
            yield field.name, value


# Arguments that follow another one where they are not given: Keras writes the value down, we leave it out.
_FOLLOWS = (("strides", "pool_size"), ("value_dim", "key_dim"))


def _shortest(value: Any) -> Any:
    """Pairs of equal numbers as the one that people write; ((0, 1), (0, 1)) says more than one number and stays."""
    if not isinstance(value, tuple):
        return value
    shorter = tuple(_shortest(item) for item in value)
    alike = len(shorter) == 2 and shorter[0] == shorter[1] and not isinstance(shorter[0], tuple)
    return shorter[0] if alike else shorter


def _without_product(kind: str, config: Config, shapes: Sequence[Shape]) -> Other | None:
    """Keras's layers that only scale or pass on: their MACs are 0 by the usual convention."""
    if not shapes:
        return None
    channels = shapes[0][-1]
    if kind == "Normalization":
        kept = 0 if config.get("mean") is not None else 2 * channels + 1
        return Other(kind=kind, shape=shapes[0], non_trainable=kept, counted=True)
    if kind == "LayerScale":
        return Other(kind=kind, shape=shapes[0], trainable=channels, counted=True)
    if kind in _ELEMENTWISE or (kind in _ELEMENTWISE_OPERATIONS and len(shapes) == 1):
        return Other(kind=kind, shape=shapes[0], counted=True)
    return None


def _operation(step: Config, recorded: Shape | None) -> Other | None:
    """An operation of `keras.ops`, which has no weights, with the shape that Keras wrote down."""
    if not str(step.get("module", "")).startswith("keras.src.ops.") or recorded is None:
        return None
    return Other(kind=step["class_name"], shape=recorded, counted=step["class_name"] not in _PRODUCTS)
