"""A stream as what Keras and TensorFlow take. Only this module of the package imports them, when it is asked."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError
from toolkit.streaming.groups import Batch
from toolkit.streaming.shards import ShardSource

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from toolkit.streaming.pipeline import ImageStream

_LOOKS = 3
"""Batches that Keras 3.15 asks for, and throws away, before it trains: two to learn TensorFlow's shapes, or one and two
read ahead to build a model on JAX."""


def full_epoch(stream: ImageStream, epoch: int) -> Generator[Batch]:
    """`len(stream)` batches: Keras counts them, so that the last one comes again for each that had no good sample.

    Those of tar shards are not counted. Raises InputError where all samples failed.
    """
    given, batch = 0, None
    for batch in stream.batches(epoch):
        given += 1
        yield batch
    if batch is None:
        raise InputError(f"none of the samples could be used:\n{stream.report.table()}")
    for _ in range(given, _count(stream) or 0):
        yield batch


def _count(stream: ImageStream) -> int | None:
    return None if isinstance(stream.source, ShardSource) else len(stream)


def pydataset(stream: ImageStream, **options: Any) -> keras.utils.PyDataset:
    """The stream as a `keras.utils.PyDataset`, which `fit`, `evaluate` and `predict` take on any backend.

    Each pass over it is an epoch of the stream, in the stream's order, whatever numbers Keras asks for: they are
    shuffled already, and only an order that is known beforehand can be fetched ahead. The stream works in threads of
    its own; `options` are those of PyDataset, whose own threads are not needed. `position` is not moved.
    How many batches tar shards have nobody knows beforehand: to Keras they are without end, epoch after epoch, and it
    wants `steps_per_epoch` and `shuffle=False` (`fit`), or `steps` (`evaluate`, `predict`).
    """
    count = _count(stream)
    import keras

    class StreamDataset(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(**options)
            self.epoch = stream.epoch
            self._lock = threading.Lock()
            self._given = self._asked = 0  # batches of this pass, and since Keras last ended an epoch
            self._batches = full_epoch(stream, self.epoch)

        @property
        def num_batches(self) -> int | None:
            return count

        def __len__(self) -> int:
            return len(stream)

        def __getitem__(self, number: int) -> Batch:
            with self._lock:
                self._asked += 1
                batch = next(self._batches, None)
                if batch is None:
                    self._begin(self.epoch + 1)
                    batch = next(self._batches)
                self._given += 1
                return batch

        def on_epoch_end(self) -> None:
            """Keras also calls this after its first looks; a pass that was left later goes on."""
            with self._lock:
                if self._given == count:
                    self._begin(self.epoch + 1)
                elif self._asked <= _LOOKS:
                    self._begin(self.epoch)
                self._asked = 0

        def _begin(self, epoch: int) -> None:
            self._batches.close()
            self.epoch, self._given = epoch, 0
            self._batches = full_epoch(stream, epoch)

    return StreamDataset()


def batch_spec(shape: tuple[int, int, int], size: int | None = None) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    """What TensorFlow has to know of a batch: uint8 (size, height, width, 3), int64 (size,); None is any size."""
    import tensorflow as tf

    return tf.TensorSpec((size, *shape), tf.uint8), tf.TensorSpec((size,), tf.int64)


def tf_dataset(stream: ImageStream) -> tf.data.Dataset:
    """The stream as a `tf.data.Dataset` of (uint8 images, int64 labels): a whole epoch each time that it is iterated.

    An epoch that was left is begun again, as Keras looks at a batch before it trains. Say `shuffle=False` to `fit`.
    The shapes are static but for the number of images of a batch, and that is too where nothing can change it:
    with `on_error="replace"` and `drop_remainder=True`. `position` is not moved.
    """
    import tensorflow as tf

    settings = stream.settings
    size = settings.batch_size if settings.on_error == "replace" and settings.drop_remainder else None
    epoch = stream.epoch

    def batches() -> Iterator[Batch]:
        nonlocal epoch
        yield from full_epoch(stream, epoch)
        epoch += 1

    made = tf.data.Dataset.from_generator(batches, output_signature=batch_spec(settings.shape, size))
    count = _count(stream)
    return (made if count is None else made.apply(tf.data.experimental.assert_cardinality(count))).prefetch(1)
