"""Grad-CAM against what it has to be: where a network ends in a mean and a dense layer, it is CAM, in closed form.

Saliency and feature maps against networks whose weights say what they are.
"""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.photo_files import noise
from toolkit.bases import make_classifier
from toolkit.errors import InputError
from toolkit.explaining import feature_maps, grad_cam, saliency


def small(ends: list[keras.layers.Layer]) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="first")
    layers = [keras.Input((16, 16, 3)), first, keras.layers.Conv2D(5, 3, name="second")]
    return keras.Sequential([*layers, *ends])


def class_activation(model: keras.Model, images: NDArray[np.float32], classes: list[int]) -> NDArray[np.float32]:
    """CAM (B. Zhou et al., 2016): the channels weighted as the dense layer weighs them."""
    features = keras.Model(model.inputs[0], model.get_layer("second").output).predict_on_batch(images)
    kernel = model.layers[-1].get_weights()[0]
    maps = np.maximum(np.einsum("nhwc,cn->nhw", features, kernel[:, classes]), 0)
    return np.asarray(maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30), np.float32)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_it_is_cam_where_the_network_ends_in_a_mean_and_a_dense_layer(
    images: NDArray[np.float32], activation: str | None
) -> None:
    model = small([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation=activation)])
    maps = grad_cam(model, images, [0, 1, 2, 0])
    assert maps.shape == (4, 5, 5)
    np.testing.assert_allclose(maps, class_activation(model, images, [0, 1, 2, 0]), atol=1e-4)


def test_sure_answers_have_maps_too() -> None:
    """The softmax of a sure answer has no slope; what goes into it has."""
    model = small([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")])
    model.layers[-1].set_weights([np.tile([[300.0, -300.0]], (5, 1)), np.zeros(2)])
    image = 50 * np.random.default_rng(1).normal(size=(1, 16, 16, 3)).astype(np.float32)
    answer = int(model.predict_on_batch(image)[0].argmax())
    assert grad_cam(model, image, [answer]).max() == 1


def test_it_points_at_the_evidence() -> None:
    """A network that looks for red and says where: the map is where the red is."""
    layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(1, 4, strides=4, use_bias=False, name="red")]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(1, use_bias=False)])
    kernel = np.zeros((4, 4, 3, 1))
    kernel[..., 0, 0] = 1
    model.get_layer("red").set_weights([kernel])
    model.layers[-1].set_weights([np.ones((64, 1))])
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[0, 20:24, 8:12, 0] = 1
    assert np.unravel_index(grad_cam(model, image, [0])[0].argmax(), (8, 8)) == (5, 2)


def test_any_feature_map_may_be_asked_about(images: NDArray[np.float32]) -> None:
    model = small([keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")])
    maps = grad_cam(model, images[:1], [1], layer="first")
    assert maps.shape == (1, 7, 7)
    assert 0 <= maps.min() <= maps.max() <= 1


def test_a_classifier_on_a_base_is_explained() -> None:
    """Also where its head reads maps of several sizes: the smallest is the one that is asked about."""
    for depths in (1, 3):
        classifier = make_classifier(
            "MobileNet", 3, scaling="tf", alpha=0.25, image_size=64, weights=None, depths=depths, head_units=5
        )
        photos = np.stack([noise(0, 64), noise(1, 64)])
        maps = grad_cam(classifier.core, photos, [0, 2])
        assert maps.shape == (2, 2, 2)
        # The saved model, which takes photos of any size, says the same.
        np.testing.assert_allclose(grad_cam(classifier.model, photos, [0, 2]), maps, atol=1e-3)


def test_no_images_have_no_maps() -> None:
    model = small([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    assert len(grad_cam(model, np.zeros((0, 16, 16, 3), np.float32), [])) == 0


@pytest.mark.parametrize(
    ("classes", "layer", "sentence"),
    [
        ([0], None, "for each of 4 images"),
        ([0, 1, 2, 3], None, "a class from 0 to 2 was expected"),
        ([0, 1, 2, -1], None, "a class from 0 to 2 was expected"),
        ([0, 1, 2, 0], "third", "has no feature map 'third'; those it has are first, second"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    images: NDArray[np.float32], classes: list[int], layer: str | None, sentence: str
) -> None:
    model = small([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    with pytest.raises(InputError) as caught:
        grad_cam(model, images, classes, layer)
    assert sentence in str(caught.value)


def test_a_network_without_feature_maps_is_a_sentence() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="no layer with a height and a width"):
        grad_cam(model, np.zeros((1, 4), np.float32), [0])


# Saliency.


def linear(end: keras.layers.Layer | None) -> keras.Model:
    keras.utils.set_random_seed(2)
    dense = keras.layers.Dense(3, activation="softmax" if end is None else None)
    return keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Flatten(), dense, *([end] if end else [])])


@pytest.mark.parametrize("end", [None, keras.layers.Softmax(), keras.layers.Activation("softmax")])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_saliency_of_a_linear_network_is_its_weights(end: keras.layers.Layer | None, samples: int) -> None:
    model, pixels = linear(end), np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    slopes = np.abs(model.layers[1].get_weights()[0][:, [2, 0]].T.reshape(2, 4, 5, 3)).max(axis=-1)
    found = saliency(model, pixels, [2, 0], samples=samples)
    np.testing.assert_allclose(found, slopes / slopes.max(axis=(1, 2), keepdims=True), rtol=1e-4)


def test_saliency_is_where_a_network_looks() -> None:
    """A network that only sees one corner: no other pixel counts, whatever noise is on them."""
    cut = keras.layers.Cropping2D(((5, 0), (0, 6)))
    layers = [keras.Input((8, 8, 1)), cut, keras.layers.Conv2D(2, 2)]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(2)])
    found = saliency(model, np.full((1, 8, 8, 1), 9, np.uint8), [1], samples=2, noise=1.0)
    assert found[0, 5:, :2].max() == 1
    assert np.count_nonzero(found) == np.count_nonzero(found[0, 5:, :2]) > 0


def test_saliency_of_nothing_and_of_what_cannot_be(images: NDArray[np.float32]) -> None:
    model = linear(None)
    assert saliency(model, np.zeros((0, 4, 5, 3)), []).shape == (0, 4, 5)
    with pytest.raises(InputError, match="a class from 0 to 2 was expected for each of 1 images"):
        saliency(model, np.zeros((1, 4, 5, 3)), [3])
    with pytest.raises(InputError, match="samples must be at least 1"):
        saliency(model, np.zeros((1, 4, 5, 3)), [0], samples=0)


# Feature maps.


def test_feature_maps_are_what_the_layers_give(images: NDArray[np.float32]) -> None:
    model = small([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    maps = feature_maps(model, images)
    assert {name: each.shape for name, each in maps.items()} == {"first": (4, 7, 7, 6), "second": (4, 5, 5, 5)}
    pooled = maps["second"].mean(axis=(1, 2))
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(pooled @ kernel + bias, model.predict_on_batch(images), atol=1e-4)
    np.testing.assert_array_equal(feature_maps(model, images, ["second"])["second"], maps["second"])


def test_maps_that_are_not_there_are_a_sentence(images: NDArray[np.float32]) -> None:
    model = small([keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="no feature map 'third'; those it has are first, second"):
        feature_maps(model, images, ["third"])
    flat = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="no convolution; name the layers"):
        feature_maps(flat, np.zeros((1, 4, 4, 1)))
