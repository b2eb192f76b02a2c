"""An `Architecture` in the forms in which it travels: plain data, JSON, a link, an editable table, Keras code."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from keyword import iskeyword
from typing import Any

from toolkit import layers
from toolkit.arithmetic import InputError
from toolkit.costs import Network, Row, rows_of
from toolkit.layers import Architecture, Branches, InputLayer, Layer, Merge, MultiHeadAttention, Other, Path

# Guards against input made to exhaust: a description beyond these is refused.
MOST_LAYERS = 2000
MOST_TOKEN_BYTES = 200_000
DEEPEST_NESTING = 20

# The layers that people may write, by Keras's name.
LAYER_TYPES: Mapping[str, type[Layer]] = {
    kind.__name__: kind
    for kind in vars(layers).values()
    if isinstance(kind, type)
    and issubclass(kind, Layer)
    and kind.__name__
    not in ("Layer", "InputLayer", "Activated", "Windowed", "Pooling2D", "GlobalPooling2D", "Scaled", "Other", "Merge")
}


# Plain data.


def to_dict(net: Architecture) -> dict[str, Any]:
    """The architecture as plain data; arguments at their defaults are left out.

    >>> to_dict(Architecture("one", (28, 28, 1), (layers.Dense(10),)))
    {'name': 'one', 'input_shape': [28, 28, 1], 'layers': [{'type': 'Dense', 'units': 10}]}
    """
    return {"name": net.name, "input_shape": list(net.input_shape), "layers": _path_data(net.layers)}


def _path_data(path: Path) -> list[dict[str, Any]]:
    """The layers of a path as plain data."""
    return [_branch_data(step) if isinstance(step, Branches) else _layer_data(step) for step in path]


def _branch_data(branches: Branches) -> dict[str, Any]:
    """Branches as plain data."""
    data: dict[str, Any] = {"branches": branches.mode, "paths": [_path_data(path) for path in branches.paths]}
    return data | ({"name": branches.name} if branches.name else {})


def _layer_data(layer: Layer) -> dict[str, Any]:
    """One layer as plain data."""
    return {"type": layer.type} | {key: _listed(value) for key, value in given_arguments(layer)}


def given_arguments(layer: Layer) -> Iterator[tuple[str, Any]]:
    """The arguments of a layer that differ from their defaults, in the order of its definition.

    >>> list(given_arguments(layers.Conv2D(8, 3, strides=2)))
    [('strides', 2), ('filters', 8), ('kernel_size', 3)]
    """
    for field in fields(layer):
        value = getattr(layer, field.name)
        if field.default is MISSING or value != field.default:
            yield field.name, value


def _listed(value: Any) -> Any:
    """Tuples as the lists of JSON."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def from_dict(data: Any) -> Architecture:
    """The architecture that `to_dict` described; raises InputError for anything else.

    >>> from_dict({"name": "one", "input_shape": [4], "layers": [{"type": "Dense", "units": 2}]}).input_shape
    (4,)
    """
    if not isinstance(data, dict) or not {"name", "input_shape", "layers"} <= data.keys():
        raise InputError("a network is described by its name, input_shape and layers; one of these is missing")
    layers_left = [MOST_LAYERS]
    return Architecture(
        str(data["name"])[:100], layers.tupled(data["input_shape"]), _path(data["layers"], layers_left, 0)
    )


def _path(data: Any, layers_left: list[int], depth: int) -> Path:
    """A path from plain data; `layers_left` counts down over the whole network."""
    if not isinstance(data, (list, tuple)):
        raise InputError(f"a path is a list of layers; {type(data).__name__} came")
    layers_left[0] -= len(data)
    if layers_left[0] < 0 or depth > DEEPEST_NESTING:
        raise InputError(
            f"at most {MOST_LAYERS} layers, nested {DEEPEST_NESTING} deep, are read; make the network smaller"
        )
    return tuple(_step(item, layers_left, depth) for item in data)


def _step(data: Any, layers_left: list[int], depth: int) -> Layer | Branches:
    """One layer, or branches, from plain data."""
    if not isinstance(data, dict):
        raise InputError(f"a layer is described by a table with its type; {type(data).__name__} came")
    if "branches" in data:
        paths = data.get("paths")
        if not isinstance(paths, (list, tuple)):
            raise InputError("branches need their paths, a list of lists of layers")
        read = tuple(_path(path, layers_left, depth + 1) for path in paths)
        return Branches(str(data["branches"]), read, name=str(data.get("name", "")))
    return make_layer(data.get("type"), {key: value for key, value in data.items() if key != "type"})


def make_layer(kind: Any, arguments: Mapping[str, Any]) -> Layer:
    """A layer from Keras's name for it and its arguments; raises InputError with what there is otherwise.

    >>> make_layer("Dropout", {"rate": 0.5})
    Dropout(name='', rate=0.5)
    """
    if not isinstance(kind, str) or kind not in LAYER_TYPES:
        raise InputError(f"there is no layer {kind!r}; choose one of {', '.join(sorted(LAYER_TYPES))}")
    known = {field.name: field for field in fields(LAYER_TYPES[kind])}
    if strange := sorted(arguments.keys() - known.keys()):
        raise InputError(f"{kind} has no argument {strange[0]!r}; it takes {', '.join(known)}")
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in arguments]:
        raise InputError(f"{kind} needs {missing[0]!r}; give it a value")
    for name, value in arguments.items():
        _require_kind(f"{kind}: {name}", str(known[name].type), value)
    try:
        return LAYER_TYPES[kind](**{key: layers.tupled(value) for key, value in arguments.items()})
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{kind} cannot be made with {dict(arguments)}: {error}") from None


# What an argument of this annotation may be, and how people write it.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "float": ((int, float), "a number such as 0.001"),
    "float | None": ((int, float, type(None)), "a number such as 6.0"),
    "str": ((str,), 'a text such as "same"'),
}


def _require_kind(what: str, annotation: str, value: Any) -> None:
    """Raise InputError where a value from outside is of another kind than its argument."""
    kinds, form = _KINDS.get(annotation, ((object,), ""))
    wrong_flag = isinstance(value, bool) and bool not in kinds and object not in kinds
    endless = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, kinds) or wrong_flag or endless:
        raise InputError(f"{what} must be {form or 'finite'}; {value!r} came")


def to_json(net: Architecture) -> str:
    """The architecture as indented JSON.

    >>> from_json(to_json(Architecture("one", (4,), (layers.Dense(2),)))).name
    'one'
    """
    return json.dumps(to_dict(net), indent=2, ensure_ascii=False)


def from_json(text: str) -> Architecture:
    """The architecture that `to_json` wrote; raises InputError for anything else."""
    try:
        return from_dict(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"this is not the JSON of a network: {error}") from None


def share_token(net: Architecture) -> str:
    """The architecture as a short text for a link.

    >>> net = Architecture("one", (4,), (layers.Dense(2),))
    >>> from_token(share_token(net)) == net
    True
    """
    text = json.dumps(to_dict(net), separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def from_token(token: str) -> Architecture:
    """The architecture of a `share_token`; raises InputError for anything else and what is too large."""
    try:
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, MOST_TOKEN_BYTES)
        if not unpacker.eof:
            raise ValueError("it is cut off or too large")
        return from_json(text.decode())
    except InputError:
        raise
    except (ValueError, zlib.error) as error:
        raise InputError(f"this link does not hold a network: {error}; copy the whole link again") from None


# The table that people edit.

COLUMNS = ("layer", "filters / units", "kernel / pool size", "strides", "padding", "activation", "options")
# Which arguments stand in which column; what is left stands in "options" as JSON.
_COLUMN_OF = {
    "filters": "filters / units",
    "units": "filters / units",
    "kernel_size": "kernel / pool size",
    "pool_size": "kernel / pool size",
    "strides": "strides",
    "padding": "padding",
    "activation": "activation",
}
_OPEN, _NEXT, _CLOSE = "Branches: ", "next path", "end of branches"


def to_table(net: Architecture) -> list[dict[str, str]]:
    """The layers as rows of text for `COLUMNS`; branches stand between marker rows.

    >>> to_table(Architecture("one", (8, 8, 1), (layers.Conv2D(4, (1, 3)),)))[0]["kernel / pool size"]
    '1 x 3'
    """
    return list(_table_rows(net.layers))


def _table_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of one path."""
    for step in path:
        if isinstance(step, Layer):
            yield _table_row(step)
            continue
        options = json.dumps({"name": step.name}) if step.name else ""
        yield _blank_row(_OPEN + step.mode) | {"options": options}
        for number, inner in enumerate(step.paths):
            if number:
                yield _blank_row(_NEXT)
            yield from _table_rows(inner)
        yield _blank_row(_CLOSE)


def _blank_row(kind: str) -> dict[str, str]:
    """A row that says only what it is."""
    return dict.fromkeys(COLUMNS, "") | {"layer": kind}


def _table_row(layer: Layer) -> dict[str, str]:
    """The row of one layer."""
    row, options = _blank_row(layer.type), {}
    plain = {field.name: getattr(layer, field.name) for field in fields(layer) if not field.kw_only}
    for key, value in (plain | dict(given_arguments(layer))).items():
        column = _COLUMN_OF.get(key)
        if column is None or not _fits_a_cell(value):
            options[key] = _listed(value)
        else:
            row[column] = " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return row | {"options": json.dumps(options) if options else ""}


def _fits_a_cell(value: Any) -> bool:
    """Whether a value is one number, one word, or a pair of numbers."""
    return isinstance(value, (int, str)) or (isinstance(value, tuple) and all(isinstance(item, int) for item in value))


def from_table(name: str, input_shape: layers.Shape, rows: Sequence[Mapping[str, Any]]) -> Architecture:
    """The architecture of an edited table; empty rows are passed over. Raises InputError that names the row.

    >>> from_table("one", (4,), [{"layer": "Dense", "filters / units": 2}]).layers
    (Dense(name='', activation='linear', use_bias=True, units=2),)
    """
    written = [(number, row) for number, row in enumerate(rows, 1) if str(row.get("layer") or "").strip()]
    if len(written) > MOST_LAYERS:
        raise InputError(f"at most {MOST_LAYERS} rows are read; {len(written)} came")
    path, rest = _read_path(written, 0)
    if rest:
        raise InputError(f"row {rest[0][0]}: {rest[0][1]['layer']!r} stands outside of branches; take it away")
    return Architecture(name, tuple(input_shape), path)


_Numbered = list[tuple[int, Mapping[str, Any]]]


def _read_path(rows: _Numbered, depth: int) -> tuple[Path, _Numbered]:
    """The path at the start of `rows`, and the rows from the marker that ends it."""
    path: list[Layer | Branches] = []
    while rows:
        number, row = rows[0]
        kind = str(row["layer"]).strip()
        if kind in (_NEXT, _CLOSE):
            break
        if kind.startswith(_OPEN.strip()):
            branches, rows = _read_branches(rows, depth + 1)
            path.append(branches)
            continue
        path.append(_named_row(number, lambda kind=kind, row=row: make_layer(kind, _row_arguments(kind, row))))
        rows = rows[1:]
    return tuple(path), rows


def _read_branches(rows: _Numbered, depth: int) -> tuple[Branches, _Numbered]:
    """The branches that open at the first of `rows`, and the rows behind their end."""
    number, opening = rows[0]
    if depth > DEEPEST_NESTING:
        raise InputError(f"row {number}: branches are nested more than {DEEPEST_NESTING} deep; make them flatter")
    paths: list[Path] = []
    rows = rows[1:]
    while True:
        path, rows = _read_path(rows, depth)
        paths.append(path)
        if not rows:
            raise InputError(f"row {number}: these branches have no {_CLOSE!r}; add that row behind their last layer")
        closing, rows = str(rows[0][1]["layer"]).strip(), rows[1:]
        if closing == _CLOSE:
            break
    mode = str(opening["layer"]).strip().removeprefix(_OPEN.strip()).strip()
    name = str(_row_options(opening).get("name", ""))
    return _named_row(number, lambda: Branches(mode, tuple(paths), name=name)), rows


def _named_row(number: int, make: Any) -> Any:
    """What `make` gives; an InputError of it names the row."""
    try:
        return make()
    except InputError as error:
        raise InputError(f"row {number}: {error}") from None


def _row_options(row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of the options column."""
    text = str(row.get("options") or "").strip()
    try:
        options = json.loads(text) if text else {}
    except (json.JSONDecodeError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise InputError(f'options are written like {{"use_bias": false}}; {text[:80]!r} came')
    return options


def _row_arguments(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a row gives to its layer."""
    known = {field.name for field in fields(LAYER_TYPES[kind])} if kind in LAYER_TYPES else set()
    arguments = _row_options(row)
    for key, column in _COLUMN_OF.items():
        cell = "" if row.get(column) is None else str(row[column]).strip()
        if key in known and cell and cell != "nan":
            arguments[key] = (
                cell if key in ("padding", "activation") and not cell[0].isdigit() else _cell_number(column, cell)
            )
    return arguments


def _cell_number(column: str, cell: str) -> int | tuple[int, ...]:
    """A cell such as 3, 3.0 or 1 x 7 as a number or a pair."""
    try:
        numbers = [float(part) for part in cell.lower().replace("×", "x").replace(",", "x").strip("()[] ").split("x")]
        if any(number != int(number) for number in numbers):
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(f"{column} must be a whole number, or two such as 1 x 7; {cell[:40]!r} came") from None
    return int(numbers[0]) if len(numbers) == 1 else tuple(map(int, numbers))


# Keras code.


def keras_code(net: Network, name: str = "model") -> str:
    """A Python script that builds the same network with Keras alone; a chain becomes `keras.Sequential`.

    >>> print(keras_code(Architecture("one", (4,), (layers.Dense(2, activation="softmax"),))))
    import keras
    from keras import layers
    <BLANKLINE>
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(2, activation="softmax"),
        ],
        name="one",
    )
    <BLANKLINE>
    """
    rows = rows_of(net)
    title = net.name if isinstance(net, Architecture) else name
    head = ["import keras", "from keras import layers"]
    own = sorted({row.type for row in rows if row.type in OWN_LAYERS})
    head += [f"from toolkit.keras_layers import {', '.join(own)}"] if own else []
    chain = all(row.reads == (index - 1,) for index, row in enumerate(rows) if index)
    body = _sequential_code(rows, title) if chain else _functional_code(rows, title)
    return "\n".join([*head, "", *body, ""])


# What Keras lacks and `toolkit.keras_layers` has.
OWN_LAYERS = ("LocalResponseNormalization", "PositionEmbedding")


def _sequential_code(rows: Sequence[Row], title: str) -> list[str]:
    """The lines of a `keras.Sequential`."""
    if any(isinstance(row.layer, MultiHeadAttention) for row in rows):
        return _functional_code(rows, title)
    steps = [f"        keras.Input({rows[0].output_shape}),", *(f"        {_call(row)}," for row in rows[1:])]
    return ["model = keras.Sequential(", "    [", *steps, "    ],", f"    name={_quoted(title)},", ")"]


def _functional_code(rows: Sequence[Row], title: str) -> list[str]:
    """The lines of a functional model: a variable a row."""
    names = _variables(rows)
    lines = []
    for row, variable in zip(rows, names, strict=True):
        feeds = [names[index] for index in row.reads]
        if isinstance(row.layer, InputLayer):
            lines.append(f"{variable} = keras.Input({row.output_shape})")
        elif isinstance(row.layer, Merge):
            lines.append(f"{variable} = {_call(row)}([{', '.join(feeds)}])")
        else:
            fed = f"{feeds[0]}, {feeds[-1]}" if isinstance(row.layer, MultiHeadAttention) else feeds[0]
            lines.append(f"{variable} = {_call(row)}({fed})")
    return [*lines, f"model = keras.Model({names[0]}, {names[-1]}, name={_quoted(title)})"]


def _call(row: Row) -> str:
    """The expression that makes a row's Keras layer."""
    if isinstance(row.layer, Other):
        raise InputError(f"layer {row.name!r} is of the type {row.layer.kind!r}, of which only the costs are known")
    home = "" if row.type in OWN_LAYERS else "layers."
    if isinstance(row.layer, Merge):
        return f"{home}{row.type}()"
    leading = [field.name for field in fields(row.layer) if not field.kw_only]
    named = {key: value for key, value in given_arguments(row.layer) if key not in leading}
    plain = [_literal(getattr(row.layer, key)) for key in leading]
    return f"{home}{row.type}({', '.join(plain + [f'{key}={_literal(value)}' for key, value in named.items()])})"


def _literal(value: Any) -> str:
    """A value in Python's words, texts in double quotes."""
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A text in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _variables(rows: Sequence[Row]) -> list[str]:
    """A Python variable for each row, none of them twice."""
    taken = {"keras", "layers", "model", *OWN_LAYERS}
    variables = []
    for row in rows:
        word = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in row.name)
        word = f"_{word}" if not word or word[0].isdigit() or iskeyword(word) else word
        while word in taken:
            word += "_"
        taken.add(word)
        variables.append(word)
    return variables
