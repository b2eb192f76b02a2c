"""The description against Keras, in both directions. Models that only tell shapes are built without weights."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import psutil
import pytest
from keras import layers as kl

from toolkit.architectures import ARCHITECTURES, architecture, small_cnn
from toolkit.arithmetic import InputError
from toolkit.build import build, read_model, without_weights
from toolkit.costs import Rows, costs, trace
from toolkit.layers import MultiHeadAttention, Other, ZeroPadding2D

APPLICATIONS = sorted(name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name)))


def numbers(weights: list[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def graph(rows: Rows) -> set[tuple[Any, ...]]:
    """What does not depend on the order in which the layers were written down."""
    return {
        (row.name, row.layer, tuple(rows[index].name for index in row.reads), row.output_shape, row.params, row.macs)
        for row in rows
    }


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_model_of_keras_applications_is_read_as_keras_counts_it(name: str) -> None:
    model = without_weights(lambda: getattr(keras.applications, name)(weights=None))
    shape = model.input_shape[1:] if None not in model.input_shape[1:] else (224, 224, 3)
    rows = read_model(model, shape)
    price = costs(rows)
    assert price.params == model.count_params()
    assert price.trainable_params == numbers(model.trainable_weights)
    assert price.uncounted == ()
    assert price.macs > 5e7
    shapes = {row.name: row.output_shape for row in rows}
    for layer in model.layers:
        if None not in layer.output.shape[1:] and layer.name in shapes:
            assert shapes[layer.name] == layer.output.shape[1:], layer.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_built_network_has_the_counts_and_shapes_that_were_promised(name: str) -> None:
    rows = trace(architecture(name))
    model = build(rows, allocate=False)
    assert model.count_params() == sum(row.params for row in rows)
    assert numbers(model.trainable_weights) == sum(row.trainable_params for row in rows)
    for row in rows:
        layer = model.get_layer(row.name)
        assert layer.output.shape[1:] == row.output_shape, row.name
        assert layer.count_params() == row.params, row.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_building_and_reading_back_changes_nothing(name: str) -> None:
    rows = trace(architecture(name))
    rows = tuple(replace(row, layer=replace(row.layer, name=row.name)) for row in rows)
    read = read_model(build(rows, allocate=False))
    read = tuple(replace(row, layer=replace(row.layer, name=row.name)) for row in read)
    assert graph(read) == graph(rows)


def test_a_seed_makes_the_weights_repeatable() -> None:
    one, two, other = (build(small_cnn(channels=2), seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_nothing_is_allocated_where_it_is_not_asked_for() -> None:
    before = psutil.Process().memory_info().rss
    model = build(architecture("vgg16"), allocate=False)
    assert psutil.Process().memory_info().rss - before < 100e6
    with keras.StatelessScope():
        pass  # at its end Keras fills in every weight that it knows to be without memory
    assert psutil.Process().memory_info().rss - before < 100e6
    assert 4 * model.count_params() > 500e6


# Models made elsewhere.


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((6, 6, 4)), kl.Conv2D(8, 3), kl.ReLU()], name="inner")
    inputs = keras.Input((8, 8, 3))
    hidden = inner(kl.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, kl.Dense(2)(kl.Flatten()(hidden)))


def shared() -> keras.Model:
    dense, inputs = kl.Dense(4), keras.Input((4,))
    return keras.Model(inputs, dense(dense(inputs)))


def frozen() -> keras.Model:
    model = keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(4, 3), kl.BatchNormalization(), kl.Dense(2)])
    model.layers[0].trainable = False
    return model


def two_inputs_and_outputs() -> keras.Model:
    left, right = keras.Input((8,)), keras.Input((8,))
    joined = kl.Add()([kl.Dense(3)(left), kl.Dense(3)(right)])
    return keras.Model([left, right], [joined, kl.Dense(1)(joined)])


def functions_of_keras() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    hidden = keras.ops.relu(kl.Conv2D(3, 3, padding="same")(inputs) * 2.0)
    return keras.Model(inputs, kl.GlobalMaxPooling2D()(hidden + inputs))


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((10, 8)), kl.LSTM(16), kl.Dense(2)])


def cross_attention() -> keras.Model:
    query, value = keras.Input((5, 8)), keras.Input((9, 12))
    return keras.Model([query, value], kl.MultiHeadAttention(2, 4)(query, value))


def every_other_option() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((16, 16, 4)),
            kl.Conv2D(8, 3, groups=2, padding="same", activation="swish", use_bias=False),
            kl.SeparableConv2D(6, 3, depth_multiplier=2, dilation_rate=2),
            kl.BatchNormalization(center=False),
            kl.Conv2DTranspose(5, 4, strides=3, padding="same"),
            kl.LeakyReLU(),
            kl.PReLU(),
            kl.PReLU(shared_axes=[1, 2]),
            kl.GroupNormalization(groups=5),
            kl.AveragePooling2D((2, 3), strides=2, padding="same"),
            kl.UpSampling2D(2, interpolation="bilinear"),
            kl.Cropping2D(1),
            kl.ZeroPadding2D((1, 2)),
            kl.SpatialDropout2D(0.2),
            kl.GaussianNoise(0.1),
            kl.Normalization(),
            kl.RandomFlip(),
            kl.Conv2D(3, 1, activation="softsign"),
            kl.Softmax(),
        ]
    )


MODELS = (
    *(nested, shared, frozen, two_inputs_and_outputs, functions_of_keras, recurrent, cross_attention),
    every_other_option,
)


@pytest.mark.parametrize("make", MODELS)
def test_models_made_elsewhere_count_as_keras_counts(make: Callable[[], keras.Model]) -> None:
    model = make()
    rows = read_model(model)
    assert sum(row.params for row in rows) == model.count_params()
    assert sum(row.trainable_params for row in rows) == numbers(model.trainable_weights)
    outputs = [tensor.shape[1:] for tensor in model.outputs]
    assert {row.output_shape for row in rows} >= set(outputs)
    assert rows[-1].output_shape in outputs


def test_nested_models_are_unfolded_under_their_names() -> None:
    assert "inner/re_lu" in {row.name.rstrip("_0123456789") for row in read_model(nested())}


def test_a_shared_layer_pays_its_parameters_once_and_its_macs_each_time() -> None:
    rows = read_model(shared())
    assert [row.params for row in rows[1:]] == [20, 0]
    assert [row.macs for row in rows[1:]] == [16, 16]


def test_what_has_no_word_here_is_named_as_not_counted() -> None:
    price = costs(read_model(recurrent()))
    assert price.uncounted == ("LSTM",)
    assert isinstance(price.rows[1].layer, Other)


class Custom(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), trainable=False)

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


class Silent(Custom):
    def __init__(self, secret: int) -> None:
        super().__init__()
        self.secret = secret

    def get_config(self) -> Any:
        raise NotImplementedError("no configuration")


def test_custom_layers_keep_keras_s_count() -> None:
    rows = read_model(keras.Sequential([keras.Input((8, 8, 3)), Custom(), kl.Conv2D(2, 1)]))
    assert (rows[1].type, rows[1].params, rows[1].non_trainable_params) == ("Custom", 3, 3)


def subclassed() -> keras.Model:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    return Own()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (subclassed, "only Sequential and Functional models can be read"),
        (lambda: keras.Sequential([kl.Dense(2)]), "leaves its input open"),
        (lambda: keras.Sequential([keras.Input((None, None, 3)), kl.Conv2D(2, 3)]), "leaves its input open"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), Silent(3)]), "cannot describe itself"),
    ],
)
def test_models_that_cannot_be_read_get_a_sentence(make: Callable[[], keras.Model], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_model(make())


def test_an_open_input_can_be_given() -> None:
    model = keras.Sequential([keras.Input((None, None, 3)), kl.Conv2D(2, 3), kl.GlobalAveragePooling2D()])
    assert [row.output_shape for row in read_model(model, (20, 10, 3))] == [(20, 10, 3), (18, 8, 2), (2,)]


def test_another_input_size_where_the_shape_is_only_keras_s_is_refused() -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), Custom(), kl.Conv2D(2, 1)])
    with pytest.raises(InputError, match="leave the input size out"):
        read_model(model, (16, 16, 3))


def test_what_only_keras_knows_cannot_be_built_again() -> None:
    with pytest.raises(InputError, match="of which only the costs are known"):
        build(read_model(recurrent()))


# What must not be read as something else.


def attention(*feeds: str, **options: Any) -> Rows:
    tensors = {name: keras.Input((5, 8), name=name) for name in dict.fromkeys(feeds)}
    output = kl.MultiHeadAttention(2, 4)(*(tensors[name] for name in feeds), **options)
    return read_model(keras.Model(list(tensors.values()), output))


@pytest.mark.parametrize(
    ("feeds", "options", "plain"),
    [
        (("q", "q"), {}, True),
        (("q", "v"), {}, True),
        (("q", "v", "v"), {}, True),
        (("q", "v", "k"), {}, False),
        (("q", "v", "q"), {}, False),
        (("q", "q"), {"use_causal_mask": True}, False),
    ],
)
def test_attention_is_ours_only_where_it_means_the_same(feeds: Any, options: Any, plain: bool) -> None:
    row = attention(*feeds, **options)[-1]
    assert isinstance(row.layer, MultiHeadAttention) == plain
    assert row.params == 4 * 8 * 8 + 4 * 8
    assert (row.macs > 0) == plain


def test_every_row_of_a_sequential_model_reads_one_other() -> None:
    rows = read_model(keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(4, 3), kl.ReLU(), kl.Flatten()]))
    assert [row.reads for row in rows] == [(), (0,), (1,), (2,)]


def test_uneven_padding_keeps_its_sides() -> None:
    rows = read_model(keras.Sequential([keras.Input((8, 8, 3)), kl.ZeroPadding2D(((0, 1), (0, 1)))]))
    assert rows[1].layer == ZeroPadding2D(((0, 1), (0, 1)), name=rows[1].name)


def test_the_second_call_of_a_shared_layer_takes_no_other_layer_s_name() -> None:
    inputs, shared = keras.Input((4,)), kl.Dense(4, name="a")
    rows = read_model(keras.Model(inputs, kl.Dense(4, name="a_1")(shared(shared(inputs)))))
    assert len({row.name for row in rows}) == len(rows) == 4
