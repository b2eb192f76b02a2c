"""A training run as a script of plain Keras: the network, the optimizer and `model.fit`, with nothing of the app.

From the toolkit it takes the data, in the same split and order, and the augmentation and accumulation where there are.
A recipe stands in it as its numbers; what they mean to Keras, and the half precision of a network, the toolkit knows.
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
{policy}keras.utils.set_random_seed({seed})

{model}
{recipe}data = take(load_dataset({quoted}), {train_limit}, seed={seed})
train, validation = train_validation_split(data.y_train, {validation_fraction}, seed={seed})
{batches}
model.compile({compilation})
history = model.fit(
{fit}
)
loss, accuracy = model.evaluate(data.x_test, {tested}, verbose=0)
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
    recipe = config.learning
    return _TEMPLATE.format(
        name=net.name,
        dataset=config.dataset,
        quoted=json.dumps(config.dataset),
        versions=versions,
        backend=backend,
        imports="\n".join([*imports.splitlines(), *_own_imports(config)]),
        limits=_LIMITS.format(threads=threads) if threads and backend == "tensorflow" else "",
        seed=config.seed,
        model=model if recipe.precision == "float32" else f"{model}\n{_WIDE}",
        policy="" if recipe.precision == "float32" else f'keras.config.set_dtype_policy("{recipe.precision}")\n',
        recipe=f"recipe = {recipe}\n" if config.recipe else "",
        train_limit=config.train_limit,
        validation_fraction=config.validation_fraction,
        batches=f"batches = {_batches(config)}\n" if _fed_with(config) else "",
        compilation=_compilation(config),
        fit="\n".join(f"    {argument}," for argument in _fit_arguments(config, validation_batch)),
        tested=_targets(config, "data.y_test"),
    )


# A probability in half precision has too few digits for the logarithm of the loss.
_WIDE = 'model.layers[-1].dtype_policy = "float32"\nkeras.config.set_dtype_policy("float32")\n'


def _own_imports(config: TrainConfig) -> list[str]:
    """What the script takes from the toolkit."""
    fed = _fed_with(config)
    augmenting = [name for name in fed if name in ("Augmented", "RecipeBatches")]
    augmenting += ["smoothed"] if config.learning.mixes else []
    wanted: dict[str, list[str]] = {
        "augmenting": augmenting,
        "fitting": [name for name in fed if name not in augmenting],
        "loading": ["load_dataset", "take", "train_validation_split"],
        "optimizing": ["optimizer"] if config.recipe else [],
        "recipes": ["Recipe"] if config.recipe else [],
    }
    return [f"from toolkit.{module} import {', '.join(names)}" for module, names in wanted.items() if names]


def _fed_with(config: TrainConfig) -> list[str]:
    """What makes the batches: nothing of ours where Keras cuts the arrays into batches itself."""
    if config.recipe is None and config.augmentation == "none" and config.accumulation_steps == 1:
        return []
    made = ["RecipeBatches" if config.recipe else "Augmented"]
    return [*made, "Accumulated", "ImageMeans"] if config.accumulation_steps > 1 else made


def _batches(config: TrainConfig) -> str:
    """The expression that makes the batches, augmented or accumulated."""
    images, kind = config.update_images, json.dumps(config.augmentation)
    if config.recipe:
        made = f"RecipeBatches({_IMAGES}, {_LABELS}, recipe, {_CLASSES}, seed={config.seed}, batch_size={images})"
    else:
        made = f"Augmented({_IMAGES}, {_LABELS}, {images}, {kind}, seed={config.seed})"
    return f"Accumulated({made}, {config.accumulation_steps})" if config.accumulation_steps > 1 else made


_CLASSES = "data.info.classes"


def _targets(config: TrainConfig, labels: str) -> str:
    """The expression of labels as the loss takes them."""
    return f"smoothed({labels}, {_CLASSES}, 0.0)" if config.learning.mixes else labels


def _compilation(config: TrainConfig) -> str:
    """The arguments of `model.compile`."""
    recipe = config.learning
    loss = "categorical_crossentropy" if recipe.mixes else "sparse_categorical_crossentropy"
    compiled = {"on": ", jit_compile=True", "off": ", jit_compile=False"}.get(recipe.jit_compile, "")
    return f'{_optimizer(config)}, loss="{loss}", metrics=["accuracy"]{compiled}'


def _optimizer(config: TrainConfig) -> str:
    """The expression that makes the optimizer. The cosine's length is known once the images are counted."""
    if config.recipe:
        updates = f"{config.epochs} * -(-len(train) // {config.update_images})"
        return f"optimizer(recipe, {updates}, {config.accumulation_steps})"
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
    if config.learning.schedule == "plateau":
        callbacks.append('keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)')
    return [
        *(["batches", "shuffle=False"] if _fed_with(config) else arrays),
        f"epochs={config.epochs}",
        f"validation_data=(data.x_train[validation], {_targets(config, 'data.y_train[validation]')})",
        f"validation_batch_size={validation_batch}",
        *([f"callbacks=[{', '.join(callbacks)}]"] if callbacks else []),
    ]
