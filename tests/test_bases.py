"""Bases and the classifier on one, held against `keras.applications` itself; all with random weights, most tiny."""

import importlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.photo_files import noise, picture
from toolkit.bases import (
    Classifier,
    blocks_of,
    load_base,
    make_classifier,
    maps_of,
    scaling_layers,
    standardize,
    unfreeze,
    weights_digest,
)
from toolkit.build import without_weights
from toolkit.errors import InputError
from toolkit.finetuning import ALPHAS, BASES
from toolkit.outcomes import CLASSES_FILE, classify, load_model, save_model
from toolkit.photo_batches import photo_pixels

# Where Keras keeps the preprocessing of each base: the module that its name begins like.
MODULES = {
    "ConvNeXt": "convnext",
    "DenseNet": "densenet",
    "EfficientNetV2": "efficientnet_v2",
    "EfficientNetB": "efficientnet",
    "InceptionResNetV2": "inception_resnet_v2",
    "InceptionV3": "inception_v3",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3",
    "MobileNet": "mobilenet",
    "NASNet": "nasnet",
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "Xception": "xception",
}


def preprocessing(name: str) -> Callable[[object], object]:
    if name.startswith("ResNet"):
        module = "resnet_v2" if name.endswith("V2") else "resnet"
    else:
        module = next(module for start, module in MODULES.items() if name.startswith(start))
    found: Callable[[object], object] = importlib.import_module(f"keras.applications.{module}").preprocess_input
    return found


def tiny(classes: int = 3, **options: object) -> Classifier:
    settings = {"scaling": "tf", "alpha": 0.25, "image_size": 32, "weights": None, **options}
    return make_classifier("MobileNet", classes, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return tiny()


def test_every_base_of_keras_is_known() -> None:
    applications = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(BASES) == applications
    assert set(ALPHAS) <= applications


@pytest.mark.parametrize("name", BASES)
def test_pixels_are_scaled_as_the_base_was_trained(name: str) -> None:
    pixels = noise(0, 8)[np.newaxis].astype(np.float32)
    expected = np.array(preprocessing(name)(pixels.copy()))
    found = pixels
    for layer in scaling_layers(BASES[name]):
        found = layer(found)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("MobileNetV2", 17, "block_16_expand"),
        ("MobileNet", 13, "conv_dw_13"),
        ("ResNet50", 16, "conv5_block3_1_conv"),
        ("VGG16", 5, "block5_conv1"),
        ("EfficientNetB0", 16, "block7a_expand_conv"),
        ("DenseNet121", 58, "conv5_block16_0_bn"),
        ("Xception", 14, "block14_sepconv1"),
        ("MobileNetV3Small", 11, "expanded_conv_10_expand"),
        ("ConvNeXtTiny", 18, "convnext_tiny_stage_3_block_2_depthwise_conv"),
    ],
)
def test_blocks_are_those_of_the_paper(name: str, count: int, last: str) -> None:
    base = without_weights(lambda: getattr(keras.applications, name)(weights=None, include_top=False))
    blocks = blocks_of(base)
    assert len(blocks) == count
    assert last in {layer.name for layer in blocks[-1]}
    assert [layer for block in blocks for layer in block] == base.layers


def test_bases_without_names_have_blocks_too() -> None:
    base = without_weights(lambda: keras.applications.InceptionV3(weights=None, include_top=False))
    assert len(blocks_of(base)) >= 11  # the paper's modules; one or two of them join twice


class TestClassifier:
    def test_it_takes_photos_of_any_size(self, classifier: Classifier) -> None:
        for height, width in ((32, 32), (50, 90), (7, 200)):
            photo = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
            shares = np.asarray(classifier.model(photo, training=False))
            assert shares.shape == (1, 3)
            assert shares.sum() == pytest.approx(1, abs=1e-5)

    def test_its_views_are_the_same_network(self, classifier: Classifier) -> None:
        photos = np.stack([noise(seed, 32) for seed in range(3)])
        whole = np.asarray(classifier.model.predict_on_batch(photos))
        np.testing.assert_allclose(classifier.core.predict_on_batch(photos), whole, atol=1e-6)
        features = classifier.pooled.predict_on_batch(photos)
        np.testing.assert_allclose(classifier.head.predict_on_batch(features), whole, atol=1e-6)

    def test_black_is_minus_one_and_white_is_one(self, classifier: Classifier) -> None:
        """The base's first layer sees what the notes' [0, 1] never gives it."""
        scaling = classifier.core.get_layer("scaling")
        for level, expected in ((0, -1), (255, 1)):
            pixels = np.full((1, 32, 32, 3), level, np.float32)
            np.testing.assert_allclose(keras.ops.convert_to_numpy(scaling(pixels)), expected, atol=1e-6)

    def test_dropout_and_batch_normalization_rest_where_nothing_learns(self) -> None:
        classifier = tiny(dropout=0.5)
        photos = np.stack([noise(seed, 32) for seed in range(4)])
        before = weights_digest(classifier.base)
        once = np.asarray(classifier.model(photos, training=False))
        np.testing.assert_array_equal(np.asarray(classifier.model(photos, training=False)), once)
        np.testing.assert_array_equal(
            np.asarray(classifier.pooled(photos, training=True)), np.asarray(classifier.pooled(photos, training=False))
        )
        assert weights_digest(classifier.base) == before

    def test_the_same_seed_gives_the_same_network(self) -> None:
        once, again, other = (tiny(seed=seed) for seed in (1, 1, 2))
        assert weights_digest(once.core) == weights_digest(again.core) != weights_digest(other.core)

    @pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
    @pytest.mark.parametrize("size", [(150, 100), (64, 200), (32, 32)])
    def test_photos_are_read_as_the_model_resizes_them(self, fit: str, size: tuple[int, int], tmp_path: Path) -> None:
        picture(3, size=size).save(tmp_path / "photo.png")
        first = tiny(fit=fit).model.get_layer("resizing")
        pixels = np.asarray(picture(3, size=size), np.float32)[np.newaxis]
        inside = keras.ops.convert_to_numpy(first(pixels))[0].astype(float)
        difference = np.abs(photo_pixels(tmp_path / "photo.png", 32, fit) - inside)
        assert difference.mean() < 0.6
        assert difference.max() <= 2.5

    def test_the_head_reads_maps_of_several_sizes(self) -> None:
        deep = tiny(image_size=64, depths=3, head_units=7)
        names = [tensor.shape[1:] for tensor in maps_of(deep.base, 3)]
        assert names == [(8, 8, 64), (4, 4, 128), (2, 2, 256)]
        assert deep.pooled.output_shape == (None, 64 + 128 + 256)
        photos = np.stack([noise(seed, 64) for seed in range(3)])
        last = deep.base.predict_on_batch(photos / 127.5 - 1)
        features = np.asarray(deep.pooled.predict_on_batch(photos))
        np.testing.assert_allclose(features[:, -256:], np.asarray(last).mean((1, 2)), atol=1e-5)
        np.testing.assert_allclose(deep.head.predict_on_batch(features), deep.model.predict_on_batch(photos), atol=1e-5)
        assert [layer.units for layer in deep.head.layers if isinstance(layer, keras.layers.Dense)] == [7, 3]

    @pytest.mark.parametrize(
        ("name", "layers"),
        [
            ("MobileNetV2", ["block_6_expand_relu", "block_13_expand_relu", "out_relu"]),
            ("ResNet50", ["conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]),
            ("VGG16", ["block4_conv3", "block5_conv3", "block5_pool"]),
        ],
    )
    def test_maps_are_the_last_of_their_size(self, name: str, layers: list[str]) -> None:
        make = getattr(keras.applications, name)
        base = without_weights(lambda: make(weights=None, include_top=False, input_shape=(224, 224, 3)))
        outputs = {id(layer.output): layer.name for layer in base.layers}
        assert [outputs[id(tensor)] for tensor in maps_of(base, 3)] == layers
        assert len(maps_of(base, 99)) <= 6

    def test_the_head_sees_standardized_features(self) -> None:
        classifier = tiny(depths=2)
        rng = np.random.default_rng(0)
        features = rng.normal(5, 3, (50, classifier.head.input_shape[1])).astype(np.float32)
        standardize(classifier, features)
        seen = keras.ops.convert_to_numpy(classifier.head.get_layer("standardized")(features, training=True))
        np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)
        assert all("standardized" not in variable.path for variable in classifier.core.trainable_variables)

    def test_only_the_last_blocks_learn(self) -> None:
        base = tiny().base
        unfreeze(base, 2)
        learning = {layer.name for layer in base.layers if layer.trainable and layer.weights}
        assert learning == {"conv_dw_12", "conv_pw_12", "conv_dw_13", "conv_pw_13"}
        unfreeze(base, 0)
        assert base.trainable_weights == []
        with pytest.raises(InputError, match="has 13 blocks and 14 were to learn; give at most 13"):
            unfreeze(base, 14)


class TestFiles:
    def test_a_saved_model_answers_the_same_and_knows_its_classes(self, classifier: Classifier, tmp_path: Path) -> None:
        names = ("cat", "größer Hund", "fox")
        save_model(classifier.model, names, tmp_path / "model.keras")
        model, found = load_model(tmp_path)
        assert found == names
        photo = np.asarray(picture(1))
        expected = np.asarray(classifier.model(photo[np.newaxis], training=False))[0]
        np.testing.assert_allclose(np.asarray(model(photo[np.newaxis], training=False))[0], expected, atol=1e-6)
        np.testing.assert_allclose(classify(model, photo), expected, atol=0.02)
        assert keras.saving.load_model(tmp_path / "model.keras").name == "classifier"

    def test_a_loaded_base_still_rests(self, classifier: Classifier, tmp_path: Path) -> None:
        """What does not learn is part of the file."""
        save_model(classifier.model, ("a", "b", "c"), tmp_path / "model.keras")
        model, _ = load_model(tmp_path)
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        photos = np.stack([noise(seed, 32) for seed in range(4)])
        before = weights_digest(model)
        model.fit(photos, np.array([0, 1, 2, 0]), verbose=0)
        assert weights_digest(model) == before

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (None, "there is no model at"),
            (b"", "is no model that can be loaded"),
            (b"no zip", "is no model that can be loaded"),
            ("half", "is no model that can be loaded"),
            ("another", "a classifier was expected"),
        ],
    )
    def test_what_is_no_model_is_a_sentence(self, data: bytes | str | None, sentence: str, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        another = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        if isinstance(data, str):
            another.save(path)
        if data == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if isinstance(data, bytes):
            path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            load_model(path)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_model_of_another_hand_has_numbers_for_names(self, tmp_path: Path) -> None:
        layers = [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
        keras.Sequential(layers).save(tmp_path / "model.keras")
        assert load_model(tmp_path / "model.keras")[1] == ("0", "1")
        assert CLASSES_FILE == "classes.json"


# Weights.


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights that fits."""
    path = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    load_base("MobileNet", 0.25, 32, None).save_weights(path)
    return path


def test_weights_of_a_file_are_taken(weights: Path) -> None:
    once = load_base("MobileNet", 0.25, 32, str(weights))
    again = load_base("MobileNet", 0.25, 48, str(weights))  # another size, the same weights
    assert weights_digest(once) == weights_digest(again) != weights_digest(load_base("MobileNet", 0.25, 32, None))


def nan_weights(path: Path) -> None:
    base = load_base("MobileNet", 0.25, 32, None)
    base.set_weights([np.full_like(array, np.nan) for array in base.get_weights()])
    base.save_weights(path)


BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda path, good: None, "there is no file"),
    "a folder": (lambda path, good: path.mkdir(), "there is no file"),
    "empty": (lambda path, good: path.write_bytes(b""), "holds no weights that fit"),
    "text": (lambda path, good: path.write_bytes(b"weights"), "holds no weights that fit"),
    "cut": (lambda path, good: path.write_bytes(good.read_bytes()[:5000]), "holds no weights that fit"),
    "zeros": (lambda path, good: path.write_bytes(bytes(good.stat().st_size)), "holds no weights that fit"),
    "another width": (
        lambda path, good: load_base("MobileNet", 0.5, 32, None).save_weights(path),
        "holds no weights that fit",
    ),
    "another network": (
        lambda path, good: keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path),
        "holds no weights that fit",
    ),
    "no numbers": (lambda path, good: nan_weights(path), "weights that are no numbers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_weights_are_a_sentence(name: str, weights: Path, tmp_path: Path) -> None:
    make, sentence = BROKEN[name]
    path = tmp_path / "broken.weights.h5"
    make(path, weights)
    with pytest.raises(InputError) as caught:
        load_base("MobileNet", 0.25, 32, str(path))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_an_unknown_kind_are_a_sentence(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(weights.read_bytes())
    with pytest.raises(InputError, match="holds no weights that fit"):
        load_base("MobileNet", 0.25, 32, str(path))


def test_without_a_network_there_are_choices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*args: object, **options: object) -> None:
        raise OSError("URL fetch failure on https://example.org/weights.h5: None -- no route to host")

    monkeypatch.setattr(keras.applications, "MobileNet", unreachable)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_base("MobileNet", 0.25, 32, "imagenet")
    for choice in (
        "no route to host",
        "connect to the internet",
        str(tmp_path / "models"),
        "weights=PATH",
        "weights=None",
    ):
        assert choice in str(caught.value)


def test_a_size_that_a_base_cannot_have_is_a_sentence() -> None:
    with pytest.raises(InputError, match="Xception cannot be built for 40 × 40 pixels"):
        load_base("Xception", None, 40, None)
