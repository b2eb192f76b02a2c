"""A training run from the inside: what happens in the worker. It imports Keras, and only workers import it.

Training is Keras's own `model.fit`. Around it: images stay uint8 in RAM, a thin callback reports and listens, and what
was learned is written into a folder, now and then and at the end.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import psutil
from numpy.typing import NDArray
from sklearn import metrics

from toolkit import optimizing, system
from toolkit.augmenting import Augmented, RecipeBatches, smoothed, views
from toolkit.build import build
from toolkit.datasets import DatasetInfo
from toolkit.errors import InputError
from toolkit.forward import save_weights, weights_of
from toolkit.layers import Architecture
from toolkit.loading import Pixels, load_dataset, take, train_validation_split
from toolkit.processes import Context
from toolkit.recipes import memory_slots
from toolkit.runtimes import predict_memory
from toolkit.show import readable_bytes
from toolkit.train_script import run_script
from toolkit.training import (
    CURVES,
    NEED_LESS_MEMORY,
    NOTHING_LEARNED,
    RESULT_FILE,
    Done,
    EpochEnd,
    Event,
    Failed,
    Memory,
    Parts,
    Started,
    Step,
    TrainConfig,
    TrainResult,
    failure_sentence,
    files_beside,
    largest_fitting,
    network_of,
    require_fitting_batch,
    write_history,
)

# Five reports a second look alive, and cost nothing that can be measured.
REPORT_SECONDS = 0.2
MEMORY_SECONDS = 1.0
# A stopped run tests for this long at most: the answer to Stop has to come within a second.
STOPPED_TEST_SECONDS = 0.3
# What was learned is written down between two epochs when that takes less than this share of the time since last time.
CHECKPOINT_SHARE = 0.02
# A batch for computing without training needs less memory than one for training, and is faster when it is not tiny.
LEAST_TEST_BATCH, MOST_TEST_BATCH = 32, 256

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


class Stopped(Exception):  # noqa: N818 - it is no error
    """Leaves `model.fit` at once, where `stop_training` would validate first."""


class Diverged(Exception):  # noqa: N818 - it is told to people as a result
    """The loss is no number any more."""


def fit(config: TrainConfig, context: Context) -> Event:
    """Train as `config` says and return the last event; whatever goes wrong becomes a sentence."""
    try:
        return Done(_fit(config, context))
    except KeyboardInterrupt:
        return Failed(NOTHING_LEARNED)
    except InputError as error:
        return Failed(str(error))
    except Exception as error:
        return Failed(failure_sentence(error, "the training", NEED_LESS_MEMORY), traceback.format_exc())


def _fit(config: TrainConfig, context: Context) -> TrainResult:
    with ExitStack() as until_first_step:
        until_first_step.enter_context(context.stop.interrupting())
        (context.folder / RESULT_FILE).unlink(missing_ok=True)
        limit_threads(context.threads)
        data = prepare(config)
        net = network_of(config, data.info)
        _require_memory(config, net, data)
        run = Run(config, context, net, data, compiled(config, net, data))
        train_model(run, until_first_step.close)
    return _result(run)


def limit_threads(threads: int | None) -> None:
    """Give one operation at most so many threads. Has to come before TensorFlow computes anything.

    The other backends read their limit from the environment, which `processes` has set.
    """
    if threads is not None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


# Data.


@dataclass(frozen=True, eq=False)
class Split:
    """The arrays of a run: images uint8 (n, height, width, channels), labels int64 (n,)."""

    info: DatasetInfo
    x_train: Pixels
    y_train: Labels
    x_validation: Pixels
    y_validation: Labels
    x_test: Pixels
    y_test: Labels


def prepare(config: TrainConfig) -> Split:
    """Load the dataset and keep the validation images aside. Raises InputError where they do not fill a batch."""
    loaded = take(load_dataset(config.dataset, progress=False), config.train_limit, config.seed)
    require_fitting_batch(config, loaded.info)
    train, validation = train_validation_split(loaded.y_train, config.validation_fraction, config.seed)
    x, y = loaded.x_train, loaded.y_train
    return Split(loaded.info, x[train], y[train], x[validation], y[validation], loaded.x_test, loaded.y_test)


class Accumulated(keras.utils.PyDataset):  # type: ignore[misc]
    """Each batch of `batches` in `steps` parts, weighted so that an optimizer which accumulates their gradients
    (`gradient_accumulation_steps=steps`) moves as it would for the whole batch: for the smaller last batch, too.

    The weights distort the loss that Keras reports; `ImageMeans` puts it right.

    >>> x, y = np.zeros((14, 2, 2, 1), np.uint8), np.zeros(14, np.int64)
    >>> parts = Accumulated(Augmented(x, y, batch_size=10, kind="none", seed=0), steps=5)
    >>> [len(parts[number][0]) for number in range(len(parts))]
    [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    >>> [float(parts[number][2][0]) for number in (0, 5, 9)]
    [1.0, 1.25, 0.0]
    """

    def __init__(self, batches: Augmented, steps: int) -> None:
        super().__init__()
        self.parts = Parts(batches.size, batches.batch_size, steps)
        self._batches = batches
        self._whole: tuple[int, Pixels, Labels] | None = None

    def __len__(self) -> int:
        return self.parts.batches

    def __getitem__(self, index: int) -> tuple[Pixels, Labels, Floats]:
        part = self.parts[index]
        images, labels = self._batch(part.update)
        # Where a part has no image, one whose loss counts nothing stands in: Keras cannot compute with none.
        chosen = slice(part.begin, part.begin + part.size) if part.size else slice(0, 1)
        return images[chosen], labels[chosen], np.full(max(part.size, 1), part.weight, np.float32)

    def on_epoch_end(self) -> None:
        self._batches.on_epoch_end()
        self._whole = None

    def _batch(self, number: int) -> tuple[Pixels, Labels]:
        """The whole batch, of which all parts are asked for one after the other."""
        whole = self._whole
        if whole is None or whole[0] != number:
            self._whole = whole = (number, *self._batches[number])
        return whole[1:]


class ImageMeans(keras.callbacks.Callback):  # type: ignore[misc]
    """Makes loss and accuracy of accumulated batches means over the images, each of which counts once.

    Keras's own means follow the weights and count what stands in for missing images. This has to be the first of the
    callbacks: it corrects the logs that the others read.
    """

    def __init__(self, batches: Accumulated) -> None:
        super().__init__()
        self._parts = batches.parts

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._computed = self._images = 0
        self._keras = {"loss": 0.0, "accuracy": 0.0}
        self._sums = dict(self._keras)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        part = self._parts[batch]
        self._computed += max(part.size, 1)
        self._images += part.size
        for curve, before in self._keras.items():
            self._keras[curve] = float(logs[curve]) * self._computed
            if part.size:
                weight = part.weight if curve == "loss" else 1.0
                self._sums[curve] += (self._keras[curve] - before) / weight
        self._correct(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._correct(logs)

    def _correct(self, logs: Any) -> None:
        logs.update({curve: total / self._images for curve, total in self._sums.items()})


def fit_arguments(config: TrainConfig, data: Split) -> dict[str, Any]:
    """What `model.fit` is given: the images, how they are fed, what validates, and what acts between steps."""
    fed: dict[str, Any]
    callbacks = optimizing.schedule_callbacks(config.learning)
    if config.recipe is None and config.augmentation == "none" and config.accumulation_steps == 1:
        fed = {"x": data.x_train, "y": data.y_train, "batch_size": config.update_images}
    else:
        batches = augmented(config, data.x_train, data.y_train, data.info.classes)
        fed = {"x": batches, "shuffle": False}
        if config.accumulation_steps > 1:
            fed["x"] = parts = Accumulated(batches, config.accumulation_steps)
            callbacks.insert(0, ImageMeans(parts))
    validating = {
        "validation_data": (data.x_validation, targets(config, data.y_validation, data.info.classes)),
        "validation_batch_size": evaluation_batch(config),
    }
    return {**fed, **validating, "epochs": config.epochs, "callbacks": callbacks, "verbose": 0}


def augmented(config: TrainConfig, images: Pixels, labels: Labels, classes: int) -> Augmented:
    """The batches of a run that Keras does not cut by itself, one for each update."""
    if config.recipe is None:
        return Augmented(images, labels, config.update_images, config.augmentation, config.seed)
    return RecipeBatches(images, labels, config.learning, classes, config.seed, config.update_images)


def targets(config: TrainConfig, labels: Labels, classes: int) -> Labels | Floats:
    """Labels as the loss of a run takes them: as they are, or as 1 for their class and 0 for the others.

    >>> targets(TrainConfig(recipe="lean_cifar"), np.array([1]), 3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return smoothed(labels, classes, 0.0) if config.learning.mixes else labels


def evaluation_batch(config: TrainConfig) -> int:
    """Images that are computed together where nothing is learned.

    >>> evaluation_batch(TrainConfig(batch_size=1)), evaluation_batch(TrainConfig(batch_size=64))
    (32, 64)
    """
    return min(max(config.batch_size, LEAST_TEST_BATCH), MOST_TEST_BATCH)


# Model.


def compiled(config: TrainConfig, net: Architecture, data: Split) -> keras.Model:
    """The Keras model with its first weights, optimizer and loss, the same each time for the same seed."""
    recipe, parts = config.learning, config.parts(len(data.x_train))
    model = built(net, config.seed, recipe.precision)
    model.compile(
        optimizing.optimizer(recipe, recipe.epochs * parts.updates, config.accumulation_steps),
        loss="categorical_crossentropy" if recipe.mixes else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile={"on": True, "off": False}.get(recipe.jit_compile, "auto"),
    )
    return model


def built(net: Architecture, seed: int, precision: str = "float32") -> keras.Model:
    """The Keras model; in half precision its last layer computes in float32 all the same.

    A probability in bfloat16 has three digits, too few for the logarithm of the loss.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = build(net, seed=seed, name=net.name)
    finally:
        keras.config.set_dtype_policy(before)
    if precision != "float32":
        model.layers[-1].dtype_policy = "float32"
    return model


def _require_memory(config: TrainConfig, net: Architecture, data: Split) -> None:
    """Refuse a run that cannot fit before it takes the memory of others.

    The framework is in this process already, and the images are; what comes is the network, and a copy of the images
    that the framework makes.
    """
    free, images = system.available_memory(), data.x_train.nbytes

    def needed(batch: int, steps: int) -> int:
        slots = memory_slots(config.learning)
        execution = system.default_execution()
        estimate = predict_memory(net, batch, optimizer=slots, execution=execution, accumulation_steps=steps)
        return estimate.peak_bytes + images

    wanted = needed(config.batch_size, config.accumulation_steps)
    if wanted > free:
        smaller = largest_fitting(
            lambda batch: needed(batch, math.ceil(config.update_images / batch)) <= free,
            config.batch_size,
            power_of_two=True,
        )
        raise InputError(
            f"this run needs about {readable_bytes(wanted)} of memory and {readable_bytes(free)} are free; "
            + _what_fits(config, smaller)
        )


def _what_fits(config: TrainConfig, batch: int) -> str:
    """What to do where memory is short and so many images (none: 0) can be computed at once.

    >>> _what_fits(TrainConfig(batch_size=300), 64)
    'it would fit with batch_size=64, accumulation_steps=5, effective_batch=300'
    """
    if not batch:
        return f"not even one image at a time would fit; {NEED_LESS_MEMORY}"
    steps = math.ceil(config.update_images / batch)
    exact = f", effective_batch={config.update_images}" if batch * steps != config.update_images else ""
    return f"it would fit with batch_size={batch}, accumulation_steps={steps}{exact}"


# The run.


@dataclass(eq=False)
class Run:
    """A run on its way: what it works with, and what it has come to."""

    config: TrainConfig
    context: Context
    net: Architecture
    data: Split
    model: keras.Model
    history: dict[str, list[float]] = field(default_factory=lambda: {curve: [] for curve in CURVES})
    seconds: float = 0.0
    images_per_second: float = 0.0
    note: str = ""

    @property
    def epochs_done(self) -> int:
        """Whole epochs, validation included."""
        return len(self.history["loss"])


def train_model(run: Run, first_step_done: Callable[[], object]) -> None:
    """Run `model.fit` to its end, or to where it was stopped or went astray; `run` then holds what it came to."""
    data = run.data
    sizes = len(data.x_train), len(data.x_validation), len(data.x_test)
    batches = run.config.parts(len(data.x_train)).batches
    run.context.send(Started(run.model.count_params(), batches, run.config.epochs, *sizes))
    arguments, reporter = fit_arguments(run.config, data), Reporter(run, first_step_done)
    try:
        run.model.fit(**arguments | {"callbacks": [*arguments["callbacks"], reporter]})
    except (Stopped, Diverged) as reason:
        run.note = str(reason)
    reporter.finish()


class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the progress of a fit, ends it at the stop flag or when the loss is no number, and saves now and then."""

    def __init__(self, run: Run, first_step_done: Callable[[], object]) -> None:
        super().__init__()
        self._run, self._first_step_done = run, first_step_done
        self._stop, self._send = run.context.stop, run.context.send
        self._parts = run.config.parts(len(run.data.x_train))
        self._steps = self._parts.batches
        self._clock = _Clock()
        self._process = psutil.Process()
        self._epoch = 1
        self._memory_due = 0.0
        self._checkpoints = _Checkpoints()
        self._sound_weights: list[NDArray[Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self._sound_weights = self.model.get_weights()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1
        self._clock.begin_epoch()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = batch + 1
        self._clock.step(self._parts[batch].size)
        if self._clock.steps == 1:
            self._first_step_done()
        if not math.isfinite(logs["loss"]):
            self._diverge(step)
        if self._stop.is_set():
            self._leave(f"stopped in epoch {self._epoch} after step {step} of {self._steps}")
        if self._clock.report_due():
            rate = self._clock.report()
            self._send(Step(self._epoch, step, self._steps, float(logs["loss"]), float(logs["accuracy"]), rate))
            self._report_memory()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._stop.is_set():
            self._leave(f"stopped after the steps of epoch {self._epoch}, before its validation was done")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not all(math.isfinite(logs[curve]) for curve in CURVES):
            self._diverge(self._steps)
        values = {curve: float(logs[curve]) for curve in CURVES}
        for curve, value in values.items():
            self._run.history[curve].append(value)
        seconds = self._clock.epoch_seconds()
        self._send(EpochEnd(self._epoch, **values, seconds=seconds, learning_rate=self._learning_rate()))
        self._keep()

    def finish(self) -> None:
        """Note the run's time and speed, and report its memory a last time."""
        self._run.seconds = self._clock.seconds()
        self._run.images_per_second = self._clock.images_per_second()
        self._memory_due = 0.0
        self._report_memory()

    def _learning_rate(self) -> float:
        """That of the update to come."""
        config, parts = self._run.config, self._parts
        rate = optimizing.learning_rate(config.learning, config.epochs * parts.updates, parts.accumulation_steps)
        if callable(rate):
            found = rate(self._epoch * parts.batches + parts.accumulation_steps - 1)
        else:
            found = self.model.optimizer.learning_rate  # which a callback may have lowered
        return float(keras.ops.convert_to_numpy(found))

    def _keep(self) -> None:
        """Keep the weights of a sound epoch, and write them down when it is time."""
        self._synchronize()
        self._sound_weights = self.model.get_weights()
        if self._run.epochs_done < self._run.config.epochs:
            self.finish()
            self._checkpoints.write_if_due(self._run)

    def _diverge(self, step: int) -> None:
        self._synchronize()
        self.model.set_weights(self._sound_weights)
        raise Diverged(
            f"the loss was no longer a number after step {step} of epoch {self._epoch}, so the training ended and this "
            f"is its state before that epoch; {_lower_rate(self._run.config)}"
        )

    def _leave(self, note: str) -> None:
        self._synchronize()
        raise Stopped(note)

    def _synchronize(self) -> None:
        """With JAX, `fit` keeps the weights to itself until it is asked for them."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

    def _report_memory(self) -> None:
        now = time.monotonic()
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_SECONDS
            self._send(Memory(self._process.memory_info().rss, system.peak_memory()))


def _lower_rate(config: TrainConfig) -> str:
    """The advice for a network whose numbers ran away."""
    rate = config.learning_rate
    return f"the learning rate {rate:g} is too high here, try {min(rate / 10, 0.01):g}"


class _Clock:
    """Times a fit. The first step is left out of its speed, because the backend compiles the network in it."""

    def __init__(self) -> None:
        self.steps = 0
        self._begun = self._mark = self._epoch_begun = self._reported = time.monotonic()
        self._done = self._done_first = self._done_reported = _Work()

    def begin_epoch(self) -> None:
        self._mark = self._epoch_begun = time.monotonic()

    def step(self, images: int) -> None:
        now = time.monotonic()
        self._done = _Work(self._done.images + images, self._done.seconds + now - self._mark)
        self._mark = now
        self.steps += 1
        if self.steps == 1:
            self._done_first = self._done

    def report_due(self) -> bool:
        return self._mark - self._reported >= REPORT_SECONDS

    def report(self) -> float:
        """Images per second since the last report."""
        speed = self._done.speed_since(self._done_reported)
        self._reported, self._done_reported = self._mark, self._done
        return speed

    def images_per_second(self) -> float:
        return self._done.speed_since(self._done_first if self.steps > 1 else _Work())

    def epoch_seconds(self) -> float:
        return time.monotonic() - self._epoch_begun

    def seconds(self) -> float:
        return time.monotonic() - self._begun


@dataclass(frozen=True)
class _Work:
    """Images that were learned from, and the seconds that their steps took."""

    images: int = 0
    seconds: float = 0.0

    def speed_since(self, earlier: _Work) -> float:
        seconds = self.seconds - earlier.seconds
        return (self.images - earlier.images) / seconds if seconds > 0 else 0.0


class _Checkpoints:
    """Writes a whole result between epochs, in case the run is killed, and takes little of its time for that."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._cost = 0.2

    def write_if_due(self, run: Run) -> None:
        begun = time.monotonic()
        if self._cost < CHECKPOINT_SHARE * (begun - self._last):
            _result(run, test_seconds=0.1)
            self._last = time.monotonic()
            self._cost = self._last - begun


# The result.


def _result(run: Run, test_seconds: float | None = None) -> TrainResult:
    """Test the network and write everything down. A stopped run tests for `STOPPED_TEST_SECONDS` only."""
    index, probabilities = _test(run, test_seconds)
    labels, classes = run.data.y_test[index], range(run.data.info.classes)
    finished = test_seconds is None and not run.note
    augmented = _answer_by_views(run) if finished and run.config.learning.views > 1 else None
    answers = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, answers, labels=classes)
    result = TrainResult(
        config=run.config,
        params=run.model.count_params(),
        history={curve: list(values) for curve, values in run.history.items()},
        test_accuracy=float(metrics.accuracy_score(labels, answers)),
        test_loss=float(metrics.log_loss(labels, probabilities.astype(np.float64), labels=classes)),
        tested_images=len(index),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        per_class_accuracy=_per_class(run.data.info.class_names, confusion.tolist()),
        seconds=run.seconds,
        images_per_second=run.images_per_second,
        peak_memory_bytes=system.peak_memory(),
        stopped=run.epochs_done < run.config.epochs,
        epochs_done=run.epochs_done,
        folder=run.context.folder,
        note=run.note,
        validation_accuracy=_validation_accuracy(run, finished),
        augmented_test_accuracy=None
        if augmented is None
        else float((augmented.argmax(axis=1) == run.data.y_test).mean()),
        made_with=_made_with(run.context.threads),
    )
    answered = {"index": index, "probabilities": probabilities}
    _write(result, run, answered if augmented is None else answered | {"augmented_probabilities": augmented})
    return result


def _validation_accuracy(run: Run, finished: bool) -> float | None:
    """That of the last epoch; where the trained network has mean weights, which it had not then, it validates again."""
    if not (finished and run.config.learning.weight_averaging):
        return next(reversed(run.history["val_accuracy"]), None)
    images, batch = run.data.x_validation, evaluation_batch(run.config)
    parts = [_answers(run.model, images[at : at + batch], batch) for at in range(0, len(images), batch)]
    return float((np.concatenate(parts).argmax(axis=1) == run.data.y_validation).mean())


def _answer_by_views(run: Run) -> Floats:
    """Probabilities (n, classes) of all test images: the means over the recipe's views of each."""
    batch, images = evaluation_batch(run.config), run.data.x_test
    parts = []
    for at in range(0, len(images), batch):
        seen = views(images[at : at + batch], run.config.learning)
        parts.append(np.mean([_answers(run.model, view, batch) for view in seen], axis=0))
    return np.concatenate(parts)


def _per_class(names: Sequence[str], confusion: list[list[int]]) -> dict[str, float]:
    """The share of each class's images that were answered rightly; classes without an image are left out.

    >>> _per_class(("cat", "dog", "fox"), [[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    {'cat': 0.75, 'dog': 1.0}
    """
    return {name: row[i] / sum(row) for i, (name, row) in enumerate(zip(names, confusion, strict=True)) if sum(row)}


def _made_with(threads: int | None) -> dict[str, str | int | None]:
    """What else the numbers depend on."""
    backend = keras.backend.backend()
    packages = ("tensorflow-cpu", "tensorflow") if backend == "tensorflow" else (backend,)
    versions = system.package_versions("keras", "numpy", *packages)
    return {"backend": backend, "threads": threads, **versions}


_NO_VERSIONS = ("backend", "threads")


def _test(run: Run, seconds: float | None) -> tuple[Labels, Floats]:
    """Numbers of the tested images, ascending, and their probabilities (n, classes).

    The order takes the classes in turn, so that a test that is cut short has met them all.
    """
    order, images, batch = _in_turn(run.data.y_test), run.data.x_test, evaluation_batch(run.config)
    found: list[Floats] = []
    tested, end = 0, math.inf if seconds is None else time.monotonic() + seconds
    while tested < len(order) and (tested < run.data.info.classes or time.monotonic() < end):
        chosen = order[tested : tested + batch]
        found.append(_answers(run.model, images[chosen], batch))
        tested += len(chosen)
        if run.context.stop.is_set():
            end = min(end, time.monotonic() + STOPPED_TEST_SECONDS)
    ascending = np.argsort(order[:tested])
    probabilities = np.concatenate(found)[ascending]
    if not np.isfinite(probabilities).all():
        raise InputError(f"the trained network does not answer with numbers; {_lower_rate(run.config)}")
    return order[:tested][ascending], probabilities


def _answers(model: keras.Model, images: Pixels, batch: int) -> Floats:
    """Probabilities of at most `batch` images, filled up to `batch` so that no backend compiles for another size."""
    filled = np.concatenate([images, np.zeros((batch - len(images), *images.shape[1:]), images.dtype)])
    return np.asarray(model.predict_on_batch(filled))[: len(images)]


def _in_turn(labels: Labels) -> Labels:
    """The items' numbers: the first of each class, then the second of each, and so on.

    >>> _in_turn(np.array([7, 7, 7, 8, 9])).tolist()
    [0, 3, 4, 1, 2]
    """
    by_class = np.argsort(labels, kind="stable")
    ranks = np.empty_like(labels)
    ranks[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.lexsort((labels, ranks))


def _write(result: TrainResult, run: Run, answered: dict[str, Any]) -> None:
    """Write all files beside the folder's, then move them in, the result last: who finds it finds all the others."""
    with files_beside(result.folder) as part:
        run.model.save(part / "model.keras")
        save_weights(part / "weights.npz", weights_of(run.model))
        np.savez(part / "predictions.npz", **answered)
        write_history(part / "history.csv", result.history, CURVES)
        (part / "run.py").write_text(_script(run, result), encoding="utf-8")
        (part / RESULT_FILE).write_text(json.dumps(result.to_dict(), indent=2), encoding="utf-8")


def _script(run: Run, result: TrainResult) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in result.made_with.items() if name not in _NO_VERSIONS)
    return run_script(
        run.config,
        run.net,
        backend=keras.backend.backend(),
        threads=run.context.threads,
        versions=versions,
        validation_batch=evaluation_batch(run.config),
    )
