"""Classifiers as scanners. Keras and the classifier itself, moved over the image by hand, are the oracles."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from toolkit.architectures import ARCHITECTURES, alexnet_28, lenet5, small_cnn, vgg16
from toolkit.build import build, without_weights
from toolkit.convolutional import convolutional_weights, head_of, to_fully_convolutional
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.forward import forward, weights_of
from toolkit.layers import (
    Activation,
    Architecture,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    PReLU,
    Reshape,
)

VGG16_PARAMS = 138_357_544  # Simonyan and Zisserman 2015, table 2: 138 million
IMAGE = (12, 10, 2)
ENDS: dict[str, tuple[Any, ...]] = {
    "flatten": (Flatten(), Dense(5, activation="relu"), Dropout(0.5), Dense(3, activation="softmax")),
    "reshape": (Reshape((-1,)), Dense(3)),
    "average": (GlobalAveragePooling2D(), Dense(3), Activation("softmax")),
    "maximum": (GlobalMaxPooling2D(keepdims=True), Reshape((4,)), Dense(3)),
    "pixels first": (Dense(6, activation="relu"), BatchNormalization(), Flatten(), Dense(3)),
    "normalized behind": (Flatten(), Dense(5, use_bias=False), BatchNormalization(), Activation("relu"), Dense(3)),
    "a convolution as the head": (GlobalAveragePooling2D(keepdims=True), Conv2D(3, 1), Flatten()),
}


def with_end(end: tuple[Any, ...]) -> Architecture:
    return Architecture("small", IMAGE, (Conv2D(4, 3, strides=2, activation="relu"), *end))


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, np.float32)


# Architectures.


@pytest.mark.parametrize("end", ENDS)
def test_the_score_at_the_training_size_is_the_answer(end: str) -> None:
    net = with_end(ENDS[end])
    weights, images = weights_of(build(net, seed=1)), numbers(3, *IMAGE)
    scanner = to_fully_convolutional(net)
    scores = forward(trace(scanner), convolutional_weights(net, weights), images)
    assert scores.shape == (3, 1, 1, 3)
    assert np.abs(scores[:, 0, 0] - forward(trace(net), weights, images)).max() < 1e-5


# No classifier, or one whose classes are read from no map.
WITHOUT_MAP = ("three_layers", "fcn8s", "vit_tiny", "vit_32")


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in WITHOUT_MAP])
def test_every_classifier_keeps_its_parameters(name: str) -> None:
    net = ARCHITECTURES[name]()
    rows, classifier = trace(to_fully_convolutional(net)), trace(net)
    assert sum(row.params for row in rows) == sum(row.params for row in classifier)
    assert sum(row.macs for row in rows) == sum(row.macs for row in classifier)
    assert rows[-1].output_shape == (1, 1, *classifier[-1].output_shape)
    assert not {"Dense", "Flatten"} & {row.type for row in rows[head_of(classifier) :]}


def test_each_score_of_a_larger_image_is_the_answer_for_its_part() -> None:
    """LeNet-5 pads nothing, so that its map at (4 i, 4 j) has seen exactly the part of 32 × 32 pixels from there on."""
    net = lenet5()
    weights, image = weights_of(build(net, seed=2)), numbers(1, 44, 40, 1)
    rows = trace(to_fully_convolutional(net, (44, 40, 1)))
    scores = forward(rows, convolutional_weights(net, weights), image)[0]
    assert scores.shape == (4, 3, 10)
    for (i, j), score in zip(np.ndindex(4, 3), scores.reshape(-1, 10), strict=True):
        part = image[:, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]
        assert np.abs(forward(trace(net), weights, part)[0] - score).max() < 1e-5


def test_a_network_that_gives_a_map_stays_as_it_is() -> None:
    net = Architecture("map", (8, 8, 3), (Conv2D(4, 3),))
    assert to_fully_convolutional(net).layers == net.layers


def test_vgg16_turns_500_pixels_into_9() -> None:
    rows = trace(to_fully_convolutional(vgg16(), (500, 500, 3)))
    assert rows[-1].output_shape == (9, 9, 1000)
    assert sum(row.params for row in rows) == VGG16_PARAMS


@pytest.mark.parametrize(
    ("end", "input_shape", "sentence"),
    [
        ((Flatten(), BatchNormalization(), Dense(3)), None, "BatchNormalization 'batch_normalization' has no meaning"),
        ((Reshape((20, 4)), Dense(3)), None, r"ends in \(20, 3\) without a Flatten"),
        ((Flatten(), Reshape((10, 8)), Flatten(), Dense(3)), None, "Reshape 'reshape' has no meaning on a map"),
        ((PReLU(), Flatten(), Dense(3)), (20, 20, 2), "PReLU 'p_re_lu' keeps 80 parameters at the training size and"),
        ((Flatten(), Dense(3)), (4, 4, 2), "there is no room|does not fit"),
        ((Flatten(), Dense(3)), (12, 10, 1), "keeps .* parameters at the training size"),
    ],
)
def test_what_cannot_scan_is_said(end: tuple[Any, ...], input_shape: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        to_fully_convolutional(with_end(end), input_shape)


def test_a_transformer_has_no_map() -> None:
    with pytest.raises(InputError, match=r"the network ends in \(1000,\) without a Flatten or a global pool"):
        to_fully_convolutional(ARCHITECTURES["vit_tiny"]())


# Keras models.


def sequential() -> keras.Model:
    base = keras.Sequential([keras.Input((16, 16, 3)), kl.Conv2D(4, 3, strides=2), kl.BatchNormalization()])
    head = keras.Sequential([kl.Flatten(), kl.Dense(6, activation="relu"), kl.Dense(5, activation="softmax")])
    model = keras.Sequential([keras.Input((16, 16, 3)), kl.Rescaling(1 / 255), base, head])
    model(np.zeros((1, 16, 16, 3)))
    return model


def functional() -> keras.Model:
    """Two paths, one operation that is no layer, a nested model, and inputs in a list."""
    entry = keras.Input((16, 16, 3))
    inner = keras.Sequential([keras.Input((16, 16, 3)), kl.Conv2D(4, 3, padding="same", name="inside")])
    x = kl.Concatenate()([inner(entry), kl.Conv2D(4, 1)(entry)]) * 2.0
    x = kl.Dropout(0.2)(kl.GlobalAveragePooling2D()(x))
    return keras.Model([entry], kl.Dense(5)(x))


@pytest.mark.parametrize("make", [sequential, functional])
def test_keras_models_answer_as_before_and_scan(make: Callable[[], keras.Model]) -> None:
    model = make()
    model.set_weights([np.random.default_rng(3).random(weight.shape) for weight in model.get_weights()])
    scanner, images = to_fully_convolutional(model), numbers(2, 16, 16, 3)
    assert scanner.count_params() == model.count_params()
    answers = np.asarray(model(images if isinstance(model, keras.Sequential) else [images]))
    assert np.abs(np.asarray(scanner(images))[:, 0, 0] - answers).max() < 1e-5
    assert tuple(scanner(numbers(1, 40, 24, 3)).shape)[1:3] in ((13, 5), (25, 9))


def test_a_head_computes_in_the_numbers_that_it_had() -> None:
    policy = keras.DTypePolicy("mixed_float16")
    layers = [kl.Conv2D(4, 3, dtype=policy), kl.Flatten(dtype=policy), kl.Dense(3, activation="softmax")]
    scanner = to_fully_convolutional(keras.Sequential([keras.Input((8, 8, 3)), *layers]))
    assert [layer.compute_dtype for layer in scanner.layers[1:]] == ["float16", "float32"]
    half = keras.Sequential([keras.Input((8, 8, 3)), kl.Flatten(), kl.Dense(3, dtype=policy)])
    assert to_fully_convolutional(half).layers[-1].compute_dtype == "float16"


def test_a_copy_shares_nothing_with_its_model() -> None:
    model = build(small_cnn(channels=2), seed=0)
    before = model.get_weights()
    scanner = to_fully_convolutional(model)
    scanner.set_weights([weight + 1 for weight in scanner.get_weights()])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_two_forms_agree() -> None:
    """The Keras model of the converted description is the converted Keras model of the description."""
    net = alexnet_28(lrn=False)
    weights, image = weights_of(build(net, seed=4)), numbers(1, 40, 44, 1)
    ours = build(to_fully_convolutional(net, (40, 44, 1)))
    for name, arrays in convolutional_weights(net, weights).items():
        ours.get_layer(name).set_weights(arrays)
    model = build(net, seed=4)
    theirs = to_fully_convolutional(model, (40, 44, 1))
    assert np.allclose(ours(image), theirs(image), atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "size", "scores"),
    [
        ("VGG16", 500, 9),
        ("MobileNet", 320, 4),
        ("MobileNetV2", 320, 4),
        ("ConvNeXtTiny", 320, 4),
        ("Xception", 395, 4),
    ],
)
def test_models_of_keras_applications_scan(name: str, size: int, scores: int) -> None:
    model = without_weights(lambda: getattr(keras.applications, name)(weights=None))
    scanner = to_fully_convolutional(model, (size, size, 3), allocate=False)
    assert scanner.output_shape == (None, scores, scores, 1000)
    assert scanner.count_params() == model.count_params()
    if name == "VGG16":
        assert scanner.count_params() == VGG16_PARAMS


def test_an_open_input_needs_the_size_of_training() -> None:
    model = keras.Sequential([keras.Input((None, None, 3)), kl.Conv2D(4, 3), kl.GlobalMaxPooling2D(), kl.Dense(2)])
    with pytest.raises(InputError, match=r"leaves its input open.*trained_on="):
        to_fully_convolutional(model)
    assert to_fully_convolutional(model, (20, 20, 3), trained_on=(10, 10, 3)).output_shape == (None, 11, 11, 2)


def two_of_a_name() -> keras.Model:
    inner = keras.Sequential([keras.Input((4, 4, 3)), kl.Conv2D(3, 1, name="same")])
    return keras.Sequential([keras.Input((4, 4, 3)), inner, kl.Conv2D(3, 1, name="same"), kl.Flatten(), kl.Dense(2)])


def two_inputs() -> keras.Model:
    entries = keras.Input((4,)), keras.Input((4,))
    return keras.Model(entries, kl.Dense(2)(kl.Add()(entries)))


def tokens() -> keras.Model:
    return keras.Sequential([keras.Input((4, 4)), kl.LSTM(3), kl.Dense(2)])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (two_of_a_name, "two layers are called 'same'; rename one"),
        (two_inputs, "with one input and one output; Functional came"),
        (tokens, "without a Flatten or a global pool"),
        (lambda: keras.Sequential([kl.Dense(2)]), "a built Sequential or Functional Keras model"),
        (lambda: "vgg16", "takes an Architecture, or .* str came"),
    ],
)
def test_models_that_cannot_scan_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        to_fully_convolutional(make())
