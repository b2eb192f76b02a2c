"""A network that labels pixels, trained: what happens in the worker. It imports Keras, and only workers import it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import psutil
from numpy.typing import NDArray

from toolkit import system
from toolkit.bases import load_base
from toolkit.build import build
from toolkit.checkpoints import Learned, load_checkpoint, save_checkpoint
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.fitting import MEMORY_SECONDS, REPORT_SECONDS, STOPPED_TEST_SECONDS, Diverged, Stopped, limit_threads
from toolkit.forward import load_weights, save_weights, weights_of
from toolkit.layers import Architecture
from toolkit.loading import Pixels
from toolkit.pixel_losses import PixelLoss, pixel_accuracy
from toolkit.pixel_networks import interpolating_weights
from toolkit.pixel_scores import Counts, boundary_pixels, count_pixels, scores
from toolkit.processes import Context
from toolkit.runtimes import predict_memory
from toolkit.scenes import SceneData, Scenes, load_scenes
from toolkit.segmentation import (
    CHECKPOINT_FILE,
    LESS_MEMORY,
    PIXEL_CURVES,
    WEIGHTS_FILE,
    EpochScored,
    Event,
    SegmentationResult,
    SegmentConfig,
    Segmented,
    network_of,
)
from toolkit.show import readable_bytes
from toolkit.training import (
    NOTHING_LEARNED,
    RESULT_FILE,
    Failed,
    Memory,
    Started,
    Step,
    failure_sentence,
    files_beside,
    largest_fitting,
    write_history,
)

EXAMPLES = 8
# Pixels of a side for which Keras publishes every width of MobileNetV2; the weights fit all sizes.
MOBILENET_SIZE = 224
# The learning rate rises over this share of the steps.
WARM_UP = 0.05

Floats = NDArray[np.float32]


def segment(config: SegmentConfig, context: Context) -> Event:
    """Train as `config` says and return the last event; whatever goes wrong becomes a sentence."""
    try:
        return Segmented(_segment(config, context))
    except KeyboardInterrupt:
        return Failed(NOTHING_LEARNED)
    except InputError as error:
        return Failed(str(error))
    except Exception as error:
        return Failed(failure_sentence(error, "the training", LESS_MEMORY), traceback.format_exc())


def _segment(config: SegmentConfig, context: Context) -> SegmentationResult:
    with ExitStack() as until_first_step:
        until_first_step.enter_context(context.stop.interrupting())
        limit_threads(context.threads)
        data = scene_data(config)
        net = network_of(config, len(data.class_names))
        _require_memory(config, net, data)
        run = _Run(config, context, net, data, network(config, net))
        _train(run, until_first_step.close)
    result = _result(run)
    if not result.stopped:
        _checkpoint(run).unlink(missing_ok=True)
    return result


def scene_data(config: SegmentConfig) -> SceneData:
    """The pictures of a run."""
    return load_scenes(
        config.source,
        config.image_size,
        counts=config.counts,
        difficulty=config.difficulty,
        seed=config.seed,
        photos=config.photos,
        digits=config.digits,
    )


def _require_memory(config: SegmentConfig, net: Architecture, data: SceneData) -> None:
    """Refuse a run that cannot fit before it takes the memory of others."""
    if config.batch_size > len(data.train):
        raise InputError(
            f"a batch of {config.batch_size} is larger than the {len(data.train)} training images that there are; "
            f"give a batch_size of at most {len(data.train)}"
        )

    free = system.available_memory()

    def needed(batch: int) -> int:
        return predict_memory(net, batch, execution=system.default_execution()).peak_bytes

    if needed(config.batch_size) > free:
        fitting = largest_fitting(lambda batch: needed(batch) <= free, config.batch_size, power_of_two=True)
        advice = f"it would fit with batch_size={fitting}" if fitting else f"no batch would fit; {LESS_MEMORY}"
        raise InputError(
            f"this run needs about {readable_bytes(needed(config.batch_size))} of memory and {readable_bytes(free)} "
            f"are free; {advice}"
        )


# Model.


def network(config: SegmentConfig, net: Architecture) -> keras.Model:
    """The Keras model with its first weights: what enlarges scores interpolates, and the base is as `config` says."""
    model = build(net, seed=config.seed, name=net.name)
    given = _matching(model, _given_weights(config), config) if config.weights else {}
    for name, arrays in (interpolating_weights(net) | given).items():
        layer = model.get_layer(name)
        layer.set_weights(arrays)
        # Few pictures would spoil what a normalization has measured over many.
        layer.trainable = not (name in given and isinstance(layer, keras.layers.BatchNormalization))
    return model


def _given_weights(config: SegmentConfig) -> dict[str, list[Floats]]:
    """The weights that training shall begin with, by layer."""
    if config.weights != "imagenet":
        return load_weights(str(config.weights))
    return weights_of(load_base("MobileNetV2", config.alpha, MOBILENET_SIZE, "imagenet"))


def _matching(model: keras.Model, given: Mapping[str, list[Floats]], config: SegmentConfig) -> dict[str, list[Floats]]:
    """Those of the given weights whose layer the model has, in the same shapes."""
    shapes = {layer.name: [tuple(each.shape) for each in layer.weights] for layer in model.layers if layer.weights}
    found = {name: arrays for name, arrays in given.items() if shapes.get(name) == [each.shape for each in arrays]}
    if not found:
        raise InputError(
            f"{config.weights} has no layer in common with {config.network} on {config.base}; give weights of that base"
        )
    return found


def _compiled(run: _Run) -> keras.Model:
    """The model with optimizer and loss, around the same layers: the saved one needs neither."""
    steps = run.config.epochs * run.steps
    rate = keras.optimizers.schedules.CosineDecay(
        run.config.learning_rate / 20,
        decay_steps=max(1, steps - round(WARM_UP * steps)),
        warmup_target=run.config.learning_rate,
        warmup_steps=max(1, round(WARM_UP * steps)),
    )
    trained = keras.Model(run.model.input, run.model.output)
    trained.compile(keras.optimizers.Adam(rate), PixelLoss(run.config.loss), metrics=[pixel_accuracy])
    return trained


# The run.


@dataclass(eq=False)
class _Run:
    """A run on its way: what it works with, and what it has come to."""

    config: SegmentConfig
    context: Context
    net: Architecture
    data: SceneData
    model: keras.Model
    history: dict[str, list[float]] = field(default_factory=lambda: {curve: [] for curve in PIXEL_CURVES})
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    seconds_before: float = 0.0
    step_seconds: float = 0.0
    timed_steps: int = 0
    note: str = ""

    @property
    def steps(self) -> int:
        """Whole batches in an epoch; what is left over comes another time, because the order changes."""
        return len(self.data.train) // self.config.batch_size

    @property
    def epochs_done(self) -> int:
        return len(self.history["loss"])

    @property
    def images_per_second(self) -> float:
        return self.timed_steps * self.config.batch_size / self.step_seconds if self.step_seconds else 0.0


def _train(run: _Run, first_step_done: Callable[[], object]) -> None:
    """Train to the end, or to where it was stopped or went astray; `run` then holds what it came to."""
    trained, reporter = _compiled(run), _Reporter(run, first_step_done)
    sizes = len(run.data.train), len(run.data.validation), len(run.data.test)
    run.context.send(Started(run.model.count_params(), run.steps, run.config.epochs, *sizes))
    _resume(run, trained)
    run.begun = time.monotonic()
    try:
        for epoch in range(run.epochs_done + 1, run.config.epochs + 1):
            _epoch(run, trained, epoch, reporter)
            if epoch < run.config.epochs:  # in case the run is killed
                _keep(run, trained)
                if run.context.stop.is_set():
                    raise Stopped(f"stopped after epoch {epoch}")
                _result(run, STOPPED_TEST_SECONDS)
    except (Stopped, Diverged) as reason:
        run.note = str(reason)
    run.seconds = run.seconds_before + time.monotonic() - run.begun


# Checkpoints.


def _checkpoint(run: _Run) -> Path:
    return run.context.folder / CHECKPOINT_FILE


def _key(run: _Run) -> str:
    return json.dumps(run.config.to_dict())


def _keep(run: _Run, trained: keras.Model) -> None:
    """Write down the state after an epoch, so that the run can go on from there."""
    optimizer = [np.array(keras.ops.convert_to_numpy(each)) for each in trained.optimizer.variables]
    learned = Learned(
        _key(run), "pixels", run.history, {"pixels": run.seconds}, weights=run.model.get_weights(), optimizer=optimizer
    )
    save_checkpoint(learned, _checkpoint(run))


def _resume(run: _Run, trained: keras.Model) -> None:
    """Go on from a checkpoint, where the folder holds one of the same settings."""
    if not _checkpoint(run).is_file():
        return
    learned = load_checkpoint(_checkpoint(run))
    if learned.key != _key(run):
        raise InputError(f"{run.context.folder} holds a run with other settings; resume it with those")
    run.model.set_weights(learned.weights)
    trained.optimizer.build(trained.trainable_variables)
    for variable, array in zip(trained.optimizer.variables, learned.optimizer, strict=True):
        variable.assign(array)
    run.history, run.seconds_before = learned.history, learned.seconds["pixels"]


def _epoch(run: _Run, trained: keras.Model, epoch: int, reporter: _Reporter) -> None:
    """Learn from every image once, validate, and note and report both."""
    begun = time.monotonic()
    logs = _learned(run, trained, epoch, reporter)
    rate = float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate))
    loss, counted = _validated(run, epoch)
    found = scores(counted, run.data.class_names)
    values = logs["loss"], logs["pixel_accuracy"], loss, found.pixel_accuracy, found.mean_iou
    for curve, value in zip(PIXEL_CURVES, values, strict=True):
        run.history[curve].append(value)
    run.seconds = run.seconds_before + time.monotonic() - run.begun
    run.context.send(EpochScored(epoch, *values, seconds=time.monotonic() - begun, learning_rate=rate))


def _learned(run: _Run, trained: keras.Model, epoch: int, reporter: _Reporter) -> Mapping[str, float]:
    """The steps of an epoch; returns the means over them."""
    sound = run.model.get_weights()
    totals, means = dict.fromkeys(("loss", "pixel_accuracy"), 0.0), dict[str, float]()
    for step, (images, masks) in enumerate(_batches(run, epoch), 1):
        marked = time.monotonic()
        logs = trained.train_on_batch(images, masks, return_dict=True)  # of this batch alone
        if not math.isfinite(logs["loss"]):
            run.model.set_weights(sound)
            rate = run.config.learning_rate
            raise Diverged(
                f"the loss was no longer a number in epoch {epoch}, so the training ended and this is its state before "
                f"that epoch; the learning rate {rate:g} is too high here, try {rate / 10:g}"
            )
        totals = {name: total + float(logs[name]) for name, total in totals.items()}
        means = {name: total / step for name, total in totals.items()}
        reporter.step(epoch, step, means, time.monotonic() - marked)
    return means


def _batches(run: _Run, epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Whole batches of images and masks in an order of this epoch's own."""
    rng, size = np.random.default_rng((run.config.seed, epoch)), run.config.batch_size
    order = rng.permutation(len(run.data.train))
    for step in range(run.steps):
        part = run.data.train[order[step * size : (step + 1) * size]]
        mirrored = rng.random(size) < 0.5 if run.config.flip else np.zeros(size, bool)
        yield _mirrored(part.images, mirrored), _mirrored(part.masks, mirrored)


def _mirrored(arrays: Pixels, which: NDArray[np.bool_]) -> Pixels:
    """The arrays (n, height, width, …), some of them mirrored left to right."""
    if which.any():
        arrays = arrays.copy()
        arrays[which] = arrays[which, :, ::-1]
    return arrays


class _Reporter:
    """Reports the progress, and ends the training at the stop flag."""

    def __init__(self, run: _Run, first_step_done: Callable[[], object]) -> None:
        self._run, self._first_step_done = run, first_step_done
        self._process = psutil.Process()
        self._done = 0
        self._report_due = self._memory_due = 0.0

    def step(self, epoch: int, step: int, logs: Mapping[str, float], seconds: float) -> None:
        """A step is done and took so many seconds."""
        run, now = self._run, time.monotonic()
        self._done += 1
        if self._done == 1:
            self._first_step_done()
        else:
            run.step_seconds += seconds
            run.timed_steps += 1
        if run.context.stop.is_set():
            raise Stopped(f"stopped in epoch {epoch} after step {step} of {run.steps}")
        if now >= self._report_due:
            self._report_due = now + REPORT_SECONDS
            speed = run.config.batch_size / seconds
            run.context.send(Step(epoch, step, run.steps, logs["loss"], logs["pixel_accuracy"], speed))
        if now >= self._memory_due:
            self._memory_due = now + MEMORY_SECONDS
            rss = self._process.memory_info().rss
            run.context.send(Memory(rss, max(rss, system.peak_memory())))


# Scores and files.


def _answers(run: _Run, scenes: Scenes, start: int) -> Floats:
    """Probabilities for a batch of scenes from `start` on; filled up, so that no backend compiles another size."""
    size = run.config.batch_size
    images = scenes.images[start : start + size]
    filled = np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), np.uint8)])
    return np.asarray(run.model.predict_on_batch(filled))[: len(images)]


def _counted(run: _Run, masks: Pixels, probabilities: Floats) -> Counts:
    width = run.config.boundary_pixels or boundary_pixels(*masks.shape[1:])
    answers = probabilities.argmax(axis=-1).astype(np.uint8)
    return count_pixels(masks, answers, len(run.data.class_names), width)


def _validated(run: _Run, epoch: int) -> tuple[float, Counts]:
    """The loss over the validation images, and their counts."""
    scenes, losses, counted = run.data.validation, [], None
    for start in range(0, len(scenes), run.config.batch_size):
        probabilities = _answers(run, scenes, start)
        masks = scenes.masks[start : start + len(probabilities)]
        losses += [float(PixelLoss(run.config.loss)(masks, probabilities))] * len(masks)
        part = _counted(run, masks, probabilities)
        counted = part if counted is None else counted + part
        if run.context.stop.is_set():
            raise Stopped(f"stopped after the steps of epoch {epoch}, before its validation was done")
    assert counted is not None  # noqa: S101 - there is at least one validation image
    return float(np.mean(losses)), counted


def _tested(run: _Run, seconds: float | None) -> tuple[Counts, Pixels]:
    """Counts over the test images, as many batches as there is time for, and the first ones' answers."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    counted, examples = None, np.zeros((0, *run.data.test.masks.shape[1:]), np.uint8)
    for start in range(0, len(run.data.test), run.config.batch_size):
        probabilities = _answers(run, run.data.test, start)
        part = _counted(run, run.data.test.masks[start : start + len(probabilities)], probabilities)
        counted = part if counted is None else counted + part
        if len(examples) < EXAMPLES:
            examples = np.concatenate([examples, probabilities.argmax(axis=-1).astype(np.uint8)])[:EXAMPLES]
        if run.context.stop.is_set():
            end = min(end, time.monotonic() + STOPPED_TEST_SECONDS)
        if time.monotonic() > end:
            break
    assert counted is not None  # noqa: S101 - there is at least one test image
    return counted, examples


def _result(run: _Run, seconds: float | None = None) -> SegmentationResult:
    """Test the network and write everything down."""
    counted, answers = _tested(run, seconds)
    backend = keras.backend.backend()
    packages = ("tensorflow-cpu", "tensorflow") if backend == "tensorflow" else (backend,)
    result = SegmentationResult(
        config=run.config,
        class_names=run.data.class_names,
        params=run.model.count_params(),
        macs=sum(row.macs for row in trace(run.net)),
        history={curve: list(values) for curve, values in run.history.items()},
        scores=scores(counted, run.data.class_names),
        seconds=run.seconds,
        images_per_second=run.images_per_second,
        peak_memory_bytes=system.peak_memory(),
        stopped=run.epochs_done < run.config.epochs,
        epochs_done=run.epochs_done,
        folder=run.context.folder,
        note=run.note,
        made_with={
            "backend": backend,
            "threads": run.context.threads,
            **system.package_versions("keras", "numpy", *packages),
        },
    )
    _write(result, run, answers)
    return result


def _write(result: SegmentationResult, run: _Run, answers: Pixels) -> None:
    """Write all files beside the folder's, then move them in, the result last: who finds it finds all the others."""
    shown = run.data.test[: len(answers)]
    with files_beside(result.folder) as part:
        run.model.save(part / "model.keras")
        save_weights(part / WEIGHTS_FILE, weights_of(run.model))
        np.savez_compressed(part / "examples.npz", images=shown.images, masks=shown.masks, answers=answers)
        write_history(part / "history.csv", result.history, PIXEL_CURVES)
        (part / RESULT_FILE).write_text(json.dumps(result.to_dict(), indent=2), encoding="utf-8")
