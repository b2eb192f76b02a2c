"""Every form in which a network travels gives the same network back, or a sentence."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import export
from toolkit.architectures import ARCHITECTURES, architecture, resnet18, small_cnn
from toolkit.arithmetic import InputError
from toolkit.build import read_model, without_weights
from toolkit.costs import trace
from toolkit.export import (
    COLUMNS,
    LAYER_TYPES,
    from_dict,
    from_json,
    from_table,
    from_token,
    keras_code,
    share_token,
    to_dict,
    to_json,
    to_table,
)
from toolkit.layers import Architecture, Branches, Conv2D, Dense, Dropout, MaxPooling2D, Merge

ALL = [pytest.param(name, id=name) for name in ARCHITECTURES]


@pytest.mark.parametrize("name", ALL)
def test_every_form_gives_the_same_network_back(name: str) -> None:
    net = architecture(name)
    assert from_dict(to_dict(net)) == net
    assert from_json(to_json(net)) == net
    assert from_token(share_token(net)) == net
    assert from_table(net.name, net.input_shape, to_table(net)) == net


def test_a_share_link_is_short() -> None:
    assert len(share_token(small_cnn())) < 400
    assert max(len(share_token(architecture(name))) for name in ARCHITECTURES) < 6000


def test_the_table_has_only_its_columns_and_only_text() -> None:
    for row in to_table(resnet18()):
        assert tuple(row) == COLUMNS
        assert all(isinstance(cell, str) for cell in row.values())


def model_of(code: str) -> Any:
    """What a script calls `model`."""
    scope: dict[str, Any] = {}
    without_weights(lambda: exec(code, scope))
    return scope["model"]


@pytest.mark.parametrize("name", ALL)
def test_the_keras_code_builds_the_same_network(name: str) -> None:
    rows, read = trace(architecture(name)), read_model(model_of(keras_code(architecture(name))))
    assert sorted((row.type, row.output_shape, row.params, row.macs) for row in read) == sorted(
        (row.type, row.output_shape, row.params, row.macs) for row in rows
    )


def test_keras_code_keeps_names_apart_and_texts_quoted() -> None:
    evil = 'x") or __import__("os").abort() or ("'
    net = Architecture(evil, (4,), (Dense(2, name="layers"), Dense(2, name=evil), Branches("add", ((Dense(2),), ()))))
    code = keras_code(net)
    assert "layers = " not in code
    code = code.replace(json.dumps(evil), '"plain"')  # Keras refuses such names itself; what matters is the quoting
    assert model_of(code.replace('name="plain")(', 'name="other")(')).count_params() == 10 + 6 + 6


# Tables as people fill them in.


@pytest.mark.parametrize(
    ("cell", "size"), [("3", 3), (3, 3), (3.0, 3), ("1 x 7", (1, 7)), ("(1, 7)", (1, 7)), ("1×7", (1, 7)), (" 3 ", 3)]
)
def test_cells_are_read_as_people_write_them(cell: object, size: object) -> None:
    row = {
        "layer": " Conv2D ",
        "filters / units": 4.0,
        "kernel / pool size": cell,
        "strides": None,
        "options": float("nan"),
    }
    row["options"] = ""
    assert from_table("t", (9, 9, 1), [row]).layers == (Conv2D(4, size),)  # type: ignore[arg-type]


def test_empty_rows_are_passed_over() -> None:
    rows: list[dict[str, Any]] = [{"layer": ""}, {"layer": "MaxPooling2D"}, {}, {"layer": None}]
    assert from_table("t", (8, 8, 1), rows).layers == (MaxPooling2D(),)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"layer": "Conv3000"}], "row 1: there is no layer 'Conv3000'; choose one of .*Conv2D"),
        ([{}, {"layer": "Conv2D", "filters / units": 3}], "row 2: Conv2D needs 'kernel_size'"),
        ([{"layer": "Dense", "filters / units": "many"}], "row 1: filters / units must be a whole number.*'many' came"),
        ([{"layer": "Dense", "filters / units": "0"}], "row 1: Dense: units must be at least 1; 0 came"),
        ([{"layer": "Dense", "filters / units": "1e999"}], "row 1: filters / units must be a whole number"),
        ([{"layer": "Dense", "filters / units": "nan x 3"}], "row 1: filters / units must be a whole number"),
        ([{"layer": "Dense", "filters / units": "2.5"}], "row 1: filters / units must be a whole number"),
        ([{"layer": "Dense", "filters / units": "2", "options": "{"}], "row 1: options are written like"),
        ([{"layer": "Dense", "filters / units": "2", "options": '{"size": 3}'}], "row 1: Dense has no argument 'size'"),
        ([{"layer": "Dense", "filters / units": "2", "activation": "magic"}], "activation must be one of"),
        ([{"layer": "Conv2D", "filters / units": "2", "kernel / pool size": "1x2x3"}], "one whole number or two"),
        (
            [{"layer": "Dense", "filters / units": "2", "options": '{"use_bias": "no"}'}],
            "use_bias must be true or false",
        ),
        ([{"layer": "Rescaling", "options": '{"scale": "wide"}'}], "row 1: Rescaling: scale must be a number"),
        ([{"layer": "Rescaling", "options": '{"scale": Infinity}'}], "row 1: Rescaling: scale must be"),
        ([{"layer": "BatchNormalization", "options": '{"epsilon": true}'}], "epsilon must be a number such as 0.001"),
        ([{"layer": "LocalResponseNormalization", "options": '{"bias": 0}'}], "bias must be above 0"),
        ([{"layer": "BatchNormalization", "options": '{"epsilon": 0}'}], "epsilon must be above 0"),
        ([{"layer": "Branches: add"}], "row 1: these branches have no 'end of branches'"),
        ([{"layer": "Branches: add"}, {"layer": "end of branches"}], "row 1: Branches need at least two paths"),
        ([{"layer": "Branches: x"}, {"layer": "next path"}, {"layer": "end of branches"}], "row 1: Branches: mode"),
        ([{"layer": "end of branches"}], "row 1: 'end of branches' stands outside of branches"),
        ([{"layer": "Branches: add"}] * 30, "nested more than 20 deep"),
        ([{"layer": "Flatten"}] * 3000, "at most 2000 rows are read; 3000 came"),
    ],
)
def test_a_wrong_table_gets_a_sentence_that_names_the_row(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        from_table("t", (8, 8, 1), rows)


@given(st.lists(st.fixed_dictionaries({column: st.text(max_size=8) | st.integers() | st.none() for column in COLUMNS})))
def test_any_table_is_a_network_or_a_sentence(rows: list[dict[str, Any]]) -> None:
    try:
        from_table("t", (8, 8, 1), rows)
    except InputError:
        return


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(sorted(LAYER_TYPES)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(("type", "branches", "paths", "layers", "name", "input_shape", "filters", "units")),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_data_is_a_network_or_a_sentence(data: Any) -> None:
    try:
        from_dict(data)
    except InputError:
        return


# Links.


@given(st.text(max_size=200))
def test_any_token_is_a_network_or_a_sentence(token: str) -> None:
    with pytest.raises(InputError, match=r"copy the whole link again|is described by|not the JSON"):
        from_token(token)


def test_a_bomb_in_a_link_is_refused() -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000_000, 9)).decode()
    with pytest.raises(InputError, match="cut off or too large"):
        from_token(bomb)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "3", '{"name": "x"}'])
def test_what_is_no_network_in_json_gets_a_sentence(text: str) -> None:
    with pytest.raises(InputError):
        from_json(text)


def test_too_many_layers_are_refused() -> None:
    data = {"name": "x", "input_shape": [4], "layers": [{"type": "Flatten"}] * (export.MOST_LAYERS + 1)}
    with pytest.raises(InputError, match="at most 2000 layers"):
        from_dict(data)


def test_every_layer_that_people_may_write_has_a_name_of_keras() -> None:
    import keras

    own = {"LocalResponseNormalization", "PositionEmbedding"}
    assert all(hasattr(keras.layers, name) for name in LAYER_TYPES.keys() - own)
    assert not issubclass(LAYER_TYPES["Dropout"], Merge)
    assert LAYER_TYPES["Dropout"] is Dropout


@pytest.mark.parametrize("name", sorted(LAYER_TYPES.keys() - {"LocalResponseNormalization", "PositionEmbedding"}))
def test_what_is_left_out_of_the_code_is_keras_s_own_default(name: str) -> None:
    import inspect
    from dataclasses import MISSING, fields

    import keras

    theirs = inspect.signature(getattr(keras.layers, name).__init__).parameters
    same_as_none = {("strides", 0), ("value_dim", 0), ("activation", "linear")}
    for field in fields(LAYER_TYPES[name]):
        if not field.kw_only or field.default is MISSING or field.name == "name":
            continue
        default = theirs[field.name].default
        if default is None and (field.name, field.default) in same_as_none:
            continue
        assert default in (field.default, (field.default,) * 2), field.name
