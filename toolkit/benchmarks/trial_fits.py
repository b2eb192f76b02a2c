"""The inside of the book's small experiments: what their worker does. It imports Keras, and only workers import it."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from toolkit.architectures import architecture
from toolkit.benchmarks.trials import Trial, Tried
from toolkit.build import build
from toolkit.fitting import Labels, Split, compiled, evaluation_batch, fit_arguments, limit_threads, prepare
from toolkit.loading import Pixels
from toolkit.processes import Context
from toolkit.shifting import agreement, blur_weights, directions, move, shuffle_pixels
from toolkit.training import network_of

if TYPE_CHECKING:
    from toolkit.benchmarks.architectures import Passes
    from toolkit.benchmarks.trials import Trials

# Layers of this name hold a blur that is set and not learned.
BLUR = "blur"


def run(task: Trials, context: Context) -> None:
    """Send a `Tried` for every trial."""
    limit_threads(context.threads)
    for trial in task.trials:
        context.send(tried(trial))
        keras.utils.clear_session()


def tried(trial: Trial) -> Tried:
    """Train and test as the trial says."""
    config = trial.config
    data = shuffled(prepare(config), config.seed) if trial.shuffled else prepare(config)
    model = compiled(config, network_of(config, data.info), data)
    model.jit_compile = False  # in trainings as short as these, compiling takes longer than it saves
    set_blurs(model)
    clock = _CpuClock()
    arguments = fit_arguments(config, data)
    history = model.fit(**{**arguments, "callbacks": [*arguments["callbacks"], clock]}).history
    images, labels = some_of(data.x_test, data.y_test, trial.tested)
    ways = [(pixels, way) for pixels in (0, *trial.moves) for way in directions(pixels)]
    shown = np.concatenate([move(images, *way) for _, way in ways])
    answers = _classes(model, shown, evaluation_batch(config)).reshape(len(ways), len(images))
    moved = {by: [each for (pixels, _), each in zip(ways, answers, strict=True) if pixels == by] for by in trial.moves}
    return Tried(
        trial.name,
        config.seed,
        model.count_params(),
        float(history["accuracy"][-1]),
        agreement(answers[0], labels),
        {by: mean(agreement(each, labels) for each in found) for by, found in moved.items()},
        {by: mean(agreement(each, answers[0]) for each in found) for by, found in moved.items()},
        tuple(clock.seconds[1:]),
    )


def shuffled(data: Split, seed: int) -> Split:
    """The same data, the pixels of all images in the same other order."""
    train, validation, test = (
        np.ascontiguousarray(shuffle_pixels(images, seed)) for images in (data.x_train, data.x_validation, data.x_test)
    )
    return replace(data, x_train=train, x_validation=validation, x_test=test)


def set_blurs(model: keras.Model) -> None:
    """Give the layers called `blur…` the weights of a blur, and keep training from changing them."""
    for layer in model.layers:
        if layer.name.startswith(BLUR):
            size, _, channels, _ = layer.kernel.shape
            layer.set_weights([blur_weights(channels, size)])
            layer.trainable = False


def some_of(images: Pixels, labels: Labels, most: int | None) -> tuple[Pixels, Labels]:
    """At most so many images and their labels, evenly from all of them."""
    chosen = np.linspace(0, len(images) - 1, min(most or len(images), len(images))).astype(int)
    return images[chosen], labels[chosen]


def _classes(model: keras.Model, images: Pixels, batch: int) -> Labels:
    answers: Labels = np.asarray(model.predict(images, batch_size=batch, verbose=0)).argmax(axis=-1)
    return answers


class _CpuClock(keras.callbacks.Callback):  # type: ignore[misc]
    """CPU seconds of the training steps of each epoch, over all threads; the validation between them is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begun = time.process_time()

    def on_test_begin(self, logs: Any = None) -> None:
        self.seconds.append(time.process_time() - self._begun)


def pass_forward(task: Passes, context: Context) -> None:
    """Send (name, seconds of each forward pass of a batch) for every network, its weights random."""
    limit_threads(context.threads)
    rng = np.random.default_rng(0)
    for name in task.networks:
        net = architecture(name)
        images = rng.random((task.batch, *net.input_shape), np.float32)
        context.send((name, _passes(build(net, seed=0), images, task.passes)))
        keras.utils.clear_session()


def _passes(model: keras.Model, images: Any, passes: int) -> list[float]:
    """CPU seconds of so many predictions of one batch, behind one in which the backend compiles."""
    model.jit_compile = False
    model.predict_on_batch(images)
    seconds = []
    for _ in range(passes):
        begun = time.process_time()
        model.predict_on_batch(images)
        seconds.append(time.process_time() - begun)
    return seconds
