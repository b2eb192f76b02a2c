"""A training run as a script of plain Keras: the network, the optimizer and `model.fit`, with nothing of the app.

From the toolkit it takes the data, in the same split and order, and the augmentation and accumulation where there are.
"""

from __future__ import annotations

import json

from toolkit.export import keras_code
from toolkit.layers import Architecture
from toolkit.training import TrainConfig

_TEMPLATE = '''\
"""Train {name} on {dataset} again: python run.py [FOLDER FOR THE MODEL]

It gives the same curves on the same machine with the same versions:
{versions}.
"""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "{backend}"  # has to be chosen before Keras is imported

{imports}
{limits}
keras.utils.set_random_seed({seed})

{model}
data = take(load_dataset({quoted}), {train_limit}, seed={seed})
train, validation = train_validation_split(data.y_train, {validation_fraction}, seed={seed})
{batches}
model.compile({optimizer}, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
{fit}
)
loss, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
print(f"test accuracy {{accuracy:.4f}}, test loss {{loss:.4f}}")
model.save(Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "model.keras")
'''

_LIMITS = """
import tensorflow

tensorflow.config.threading.set_intra_op_parallelism_threads({threads})
tensorflow.config.threading.set_inter_op_parallelism_threads({threads})
"""

_IMAGES, _LABELS = "data.x_train[train]", "data.y_train[train]"


def run_script(
    config: TrainConfig, net: Architecture, *, backend: str, threads: int | None, versions: str, validation_batch: int
) -> str:
    """The text of a script that repeats a run; `net` is that of `training.network_of`.

    `versions` is what the script says about the packages that the run was made with, in words; `threads` is the limit
    that it ran under, which decides in which order numbers are added up.

    >>> from toolkit.datasets import DATASETS
    >>> from toolkit.training import network_of
    >>> config = TrainConfig(channels=4)
    >>> net = network_of(config, DATASETS["digits"])
    >>> code = run_script(config, net, backend="jax", threads=None, versions="Keras 3", validation_batch=64)
    >>> compile(code, "run.py", "exec").co_filename
    'run.py'
    """
    imports, _, model = keras_code(net).partition("\n\n")
    own = ["from toolkit.loading import load_dataset, take, train_validation_split"]
    own += [f"from toolkit.fitting import {', '.join(_fed_with(config))}"] if _fed_with(config) else []
    return _TEMPLATE.format(
        name=net.name,
        dataset=config.dataset,
        quoted=json.dumps(config.dataset),
        versions=versions,
        backend=backend,
        imports="\n".join([*imports.splitlines(), *sorted(own)]),
        limits=_LIMITS.format(threads=threads) if threads and backend == "tensorflow" else "",
        seed=config.seed,
        model=model,
        train_limit=config.train_limit,
        validation_fraction=config.validation_fraction,
        batches=f"batches = {_batches(config)}\n" if _fed_with(config) else "",
        optimizer=_optimizer(config),
        fit="\n".join(f"    {argument}," for argument in _fit_arguments(config, validation_batch)),
    )


def _fed_with(config: TrainConfig) -> list[str]:
    """What of `toolkit.fitting` the script needs: nothing where Keras cuts the arrays into batches itself."""
    if config.accumulation_steps > 1:
        return ["Accumulated", "Augmented", "ImageMeans"]
    return ["Augmented"] if config.augmentation != "none" else []


def _batches(config: TrainConfig) -> str:
    """The expression that makes the batches, augmented or accumulated."""
    arguments = f"{_IMAGES}, {_LABELS}, {config.update_images}, {json.dumps(config.augmentation)}, seed={config.seed}"
    made = f"Augmented({arguments})"
    return f"Accumulated({made}, {config.accumulation_steps})" if config.accumulation_steps > 1 else made


def _optimizer(config: TrainConfig) -> str:
    """The expression that makes the optimizer. The cosine's length is known once the images are counted."""
    rate, steps = repr(config.learning_rate), config.accumulation_steps
    accumulated = f", gradient_accumulation_steps={steps}" if steps > 1 else ""
    if config.schedule == "cosine":
        length = f"{config.epochs} * -(-len(train) // {config.update_images})"
        # Keras's schedules count batches and not updates: see `fitting.learning_rate`.
        counted = f"{length} * {steps}, warmup_target={rate}, warmup_steps={steps - 1}" if steps > 1 else length
        rate = f"keras.optimizers.schedules.CosineDecay({rate}, {counted})"
    if config.optimizer == "sgd":
        return f"keras.optimizers.SGD({rate}, momentum={config.momentum!r}{accumulated})"
    return f"keras.optimizers.Adam({rate}{accumulated})"


def _fit_arguments(config: TrainConfig, validation_batch: int) -> list[str]:
    """The arguments of `model.fit`, one a line."""
    arrays = [_IMAGES, _LABELS, f"batch_size={config.update_images}"]
    callbacks = ["ImageMeans(batches)"] if config.accumulation_steps > 1 else []
    if config.schedule == "plateau":
        callbacks.append('keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)')
    return [
        *(["batches", "shuffle=False"] if _fed_with(config) else arrays),
        f"epochs={config.epochs}",
        "validation_data=(data.x_train[validation], data.y_train[validation])",
        f"validation_batch_size={validation_batch}",
        *([f"callbacks=[{', '.join(callbacks)}]"] if callbacks else []),
    ]
