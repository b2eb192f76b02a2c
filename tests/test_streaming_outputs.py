"""Streams in Keras and TensorFlow: the same weights as from memory, static shapes, several epochs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.image_server import Answer, ImageServer, every_image, numbers_in, png
from tests.test_streaming_shards import tar
from toolkit.errors import InputError
from toolkit.streaming.limits import FetchLimits
from toolkit.streaming.pipeline import ImageStream, stream_images
from toolkit.system import backend

HERE = FetchLimits(allow_private=True, retries=0)
CLASSES = 3


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


def stream(server: ImageServer, count: int = 20, **options: Any) -> ImageStream:
    """Labels from 0 to 2, batches of 6."""
    settings = {"image_size": 4, "batch_size": 6, "limits": HERE, **options}
    return stream_images(server.urls(count), np.arange(count) % CLASSES, **settings)


def model() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    net = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return net


def weights(net: Any) -> list[Any]:
    return [np.asarray(value) for value in net.get_weights()]


def test_fit_gets_the_weights_that_memory_gives(server: ImageServer) -> None:
    with stream(server) as images:
        epochs = [list(images) for _ in range(2)]
    expected = model()
    for batches in epochs:
        for x, y in batches:
            expected.train_on_batch(x, y)
    with stream(server) as images:
        net = model()
        history = net.fit(images.as_pydataset(), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    for found, wanted in zip(weights(net), weights(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_evaluate_and_predict_see_every_sample(server: ImageServer) -> None:
    net = model()
    with stream(server, shuffle=False) as images:
        x, y = (np.concatenate(parts) for parts in zip(*images, strict=True))
        loss, accuracy = net.evaluate(images.as_pydataset(), verbose=0)
        assert net.predict(images.as_pydataset(), verbose=0).shape == (20, CLASSES)
    assert (loss, accuracy) == pytest.approx(net.evaluate(x, y, verbose=0), rel=1e-5)


def test_each_pass_is_an_epoch_whatever_numbers_are_asked_for(server: ImageServer) -> None:
    with stream(server) as images:
        epochs = [[numbers_in(x) for x, _ in images.batches(epoch)] for epoch in range(3)]
        data = images.as_pydataset()
        assert [numbers_in(data[number][0]) for number in (2, 0, 3, 1)] == epochs[0]
        data.on_epoch_end()
        data[0], data[1]  # a look at the first batches, as Keras takes it, begins the epoch again
        data.on_epoch_end()
        assert [numbers_in(data[number][0]) for number in range(8)] == epochs[1] + epochs[2]
        assert images.epoch == 0


def test_fewer_steps_than_batches_go_on_where_they_stopped(server: ImageServer) -> None:
    with stream(server, 48) as images:
        expected = [numbers_in(x) for epoch in range(2) for x, _ in images.batches(epoch)]
        data, found = images.as_pydataset(), []
        for _ in range(3):
            found += [numbers_in(data[number][0]) for number in range(5)]
            data.on_epoch_end()
    assert found == expected[:15]


def test_keras_gets_a_batch_again_for_one_without_a_good_sample(server: ImageServer) -> None:
    server.answer = lambda number: Answer(status=404) if 6 <= number < 12 else every_image(number)
    with stream(server, shuffle=False) as images:
        data = images.as_pydataset()
        batches = [numbers_in(data[number][0]) for number in range(4)]
        assert batches == [list(range(6)), list(range(12, 18)), [18, 19], [18, 19]]
        assert model().fit(data, verbose=0).history["loss"]
    server.answer = lambda number: Answer(status=404)
    with stream(server, max_failed_share=1.0) as images, pytest.raises(InputError, match="none of the samples"):
        images.as_pydataset()[0]


@pytest.mark.tensorflow
def test_a_tf_dataset_has_static_shapes_and_one_epoch_each_time(server: ImageServer) -> None:
    import tensorflow as tf

    with stream(server) as images:
        data = images.as_tf_dataset()
        assert data.element_spec == (tf.TensorSpec((None, 4, 4, 3), tf.uint8), tf.TensorSpec((None,), tf.int64))
        epochs = [[numbers_in(x.numpy()) for x, _ in data] for _ in range(2)]
    assert [sorted(number for batch in epoch for number in batch) for epoch in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]
    with stream(server, on_error="replace", drop_remainder=True) as images:
        spec = images.as_tf_dataset().element_spec
        assert spec == (tf.TensorSpec((6, 4, 4, 3), tf.uint8), tf.TensorSpec((6,), tf.int64))
        assert [len(y) for _, y in images.as_tf_dataset()] == [6, 6, 6]


@pytest.mark.tensorflow
@pytest.mark.skipif(backend() != "tensorflow", reason="Keras on another backend does not take a tf.data.Dataset")
def test_fit_takes_the_tf_dataset(server: ImageServer) -> None:
    with stream(server) as images:
        assert len(model().fit(images.as_tf_dataset(), epochs=2, shuffle=False, verbose=0).history["loss"]) == 2


def test_shards_are_epochs_without_end_for_keras(server: ImageServer, tmp_path: Path) -> None:
    for number in range(2):
        files = [(f"{n}.{kind}", png(n) if kind == "png" else b"%d" % (n % CLASSES))
                 for n in range(10 * number, 10 * number + 10) for kind in ("png", "cls")]  # fmt: skip
        (tmp_path / f"{number}.tar").write_bytes(tar(files))
    with stream_images(str(tmp_path / "{0..1}.tar"), image_size=4, batch_size=6) as images:
        epochs = [[numbers_in(x) for x, _ in images.batches(epoch)] for epoch in range(3)]
        data = images.as_pydataset()
        assert data.num_batches is None
        assert [numbers_in(data[number][0]) for number in range(12)] == [batch for each in epochs for batch in each]
        expected = model()
        for epoch in range(2):
            for x, y in images.batches(epoch):
                expected.train_on_batch(x, y)
        net = model()
        net.fit(images.as_pydataset(), steps_per_epoch=4, epochs=2, shuffle=False, verbose=0)
        for found, wanted in zip(weights(net), weights(expected), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert net.evaluate(images.as_pydataset(), steps=4, verbose=0)
