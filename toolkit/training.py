"""A training run from the outside: its settings, what it reports while it runs, its result, and `train` to start it.

The run itself (`toolkit.fitting`) happens in a process of its own, so that nothing here imports Keras: a page can
start, watch and stop trainings without growing or stalling.
"""

from __future__ import annotations

import csv
import inspect
import json
import math
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from toolkit import export
from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import require_whole
from toolkit.costs import trace
from toolkit.datasets import DATASETS, DatasetInfo, dataset_key
from toolkit.errors import InputError
from toolkit.layers import Architecture, Rescaling
from toolkit.processes import Ending, Launcher, follow
from toolkit.recipes import Recipe, recipe_named, require_known, require_number

OPTIMIZERS = ("adam", "sgd")
AUGMENTATIONS = ("none", "shift", "flip", "shift_flip")
SCHEDULES = ("constant", "cosine", "plateau")
CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")

RESULT_FILE = "result.json"
# Pixels go from 0 to 255 into every network of ours, and are brought to 0 … 1 inside it.
_SCALE = Rescaling(scale=1 / 255, name="rescaling")
# Of a setting that the recipe has where nobody gives it; `TrainConfig` puts the recipe's number, or this, in its place.
_GIVEN_BY_RECIPE: Any = object()
_WITHOUT_RECIPE = {"batch_size": 64, "learning_rate": 2e-3, "epochs": 3}
# What a recipe alone decides.
_OF_RECIPES = ("optimizer", "momentum", "schedule", "augmentation")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a run turns out. Values that cannot be used raise InputError with what can.

    dataset: a name in `DATASETS`, or the path of a folder of images by class.
    architecture: a name in `ARCHITECTURES`; `channels` and `dropout` count where it has such options.
    network: an own network in its place; it ends in one probability for each class.
    batch_size: images that are computed at once, which decides how much memory a run needs.
    accumulation_steps: so many batches are computed before the weights move once, by the mean of their gradients; 1
        moves them after every batch. Without batch normalization and dropout, 5 × 64 learns what one batch of 320
        does, to rounding; batch normalization sees the 64 only. (Augmented images come in the same order with and
        without accumulation; those that are not, Keras itself shuffles where nothing is accumulated.)
    effective_batch: images that one update learns from, where it shall not be batch_size × accumulation_steps: 300 in
        5 batches of at most 64 are 5 × 60.
    learning_rate, momentum: of the optimizer; momentum is SGD's only.
    schedule: the learning rate stays ("constant"), falls to 0 along half a cosine over the whole run ("cosine"), or
        halves after each epoch that does not lower the validation loss ("plateau").
    augmentation: training images are shifted by up to a fourteenth of their size ("shift"), mirrored left to right
        every other time ("flip"), or both, anew in every epoch.
    validation_fraction: the share of the training images, of each class alike, that is kept aside to validate with.
    train_limit: use no more training images than this, as many of each class; None means all of them.
    seed: decides the split, the first weights, the order of the images, dropout and augmentation.
    recipe: how the network learns, by name in `RECIPES` or as a `Recipe`. It decides on the optimizer, the schedule,
        the augmentation and all else that a recipe has; batch_size, learning_rate and epochs are the recipe's as well,
        unless they are given.

    >>> TrainConfig(channels=8).epochs
    3
    >>> TrainConfig(recipe="notes", epochs=5).learning.schedule
    'plateau'
    >>> TrainConfig(epochs=0)
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: epochs must be at least 1; 0 came; give 1 or more
    """

    dataset: str = "digits"
    architecture: str = "small_cnn"
    channels: int = 16
    dropout: float = 0.25
    batch_size: int = _GIVEN_BY_RECIPE
    accumulation_steps: int = 1
    effective_batch: int | None = None
    learning_rate: float = _GIVEN_BY_RECIPE
    optimizer: str = "adam"
    momentum: float = 0.9
    epochs: int = _GIVEN_BY_RECIPE
    seed: int = 0
    augmentation: str = "none"
    schedule: str = "cosine"
    validation_fraction: float = 0.1
    train_limit: int | None = None
    network: Architecture | None = None
    recipe: Recipe | str | None = None

    work: ClassVar[str] = "toolkit.fitting:fit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", _dataset_name(self.dataset))
        self._take_from_recipe()
        require_known("architecture", self.architecture, tuple(ARCHITECTURES))
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_known("augmentation", self.augmentation, AUGMENTATIONS)
        require_known("schedule", self.schedule, SCHEDULES)
        require_number("dropout", self.dropout, 0, 1, "0.25")
        require_number("momentum", self.momentum, 0, 1, "0.9")
        require_number("learning_rate", self.learning_rate, 0, 100, "0.001", open_below=True)
        require_number("validation_fraction", self.validation_fraction, 0, 1, "0.1", open_below=True)
        require_whole("channels", self.channels)
        require_whole("epochs", self.epochs)
        require_whole("seed", self.seed, least=0)
        require_whole("batch_size", self.batch_size)
        require_whole("accumulation_steps", self.accumulation_steps)
        if self.effective_batch is not None:
            _require_effective_batch(self.effective_batch, self.batch_size, self.accumulation_steps)
        self._check_sizes()

    def _take_from_recipe(self) -> None:
        """Find the recipe by its name, and take from it what was not given."""
        if isinstance(self.recipe, str):
            object.__setattr__(self, "recipe", recipe_named(self.recipe))
        if not isinstance(self.recipe, Recipe | None):
            raise InputError(f"recipe must be a name or a Recipe; {type(self.recipe).__name__} came")
        for name, usual in _WITHOUT_RECIPE.items():
            if getattr(self, name) is _GIVEN_BY_RECIPE:
                object.__setattr__(self, name, getattr(self.recipe, name) if self.recipe else usual)
        defaults = {each.name: each.default for each in fields(self)}
        own = [name for name in _OF_RECIPES if getattr(self, name) != defaults[name]]
        if self.recipe and own:
            raise InputError(
                f"the recipe {self.recipe.name!r} decides on {', '.join(_OF_RECIPES)}, and {own[0]} was given; leave "
                "it out, or change the recipe with dataclasses.replace"
            )

    def _check_sizes(self) -> None:
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2**32 = {2**32}; {self.seed} came; give a smaller number")
        if self.train_limit is not None:
            require_whole("train_limit", self.train_limit)
        if self.network is not None and not isinstance(self.network, Architecture):
            raise InputError(f"network must be an Architecture or None; {type(self.network).__name__} came")
        info = DATASETS.get(self.dataset)
        if info is not None:
            require_fitting_batch(self, info)

    @property
    def learning(self) -> Recipe:
        """How the network learns, as a recipe: that of the run, with the run's own numbers, or one of its settings.

        What `augmentation` does is not in it: that is written down as a share of the images' size.

        >>> TrainConfig(optimizer="sgd", epochs=5).learning.momentum
        0.9
        """
        own = {name: getattr(self, name) for name in _WITHOUT_RECIPE}
        if isinstance(self.recipe, Recipe):
            return replace(self.recipe, **own)
        return Recipe(optimizer=self.optimizer, momentum=self.momentum, nesterov=False, schedule=self.schedule, **own)

    @property
    def update_images(self) -> int:
        """Images that one update of the weights learns from; at the end of an epoch, those that are left.

        >>> TrainConfig(batch_size=64, accumulation_steps=5).update_images
        320
        """
        return self.effective_batch or self.batch_size * self.accumulation_steps

    def parts(self, images: int) -> Parts:
        """How an epoch of so many training images is cut into batches."""
        return Parts(images, self.update_images, self.accumulation_steps)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data, for JSON.

        >>> TrainConfig.from_dict(TrainConfig(epochs=5).to_dict()).epochs
        5
        """
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        recipe = self.recipe.to_dict() if isinstance(self.recipe, Recipe) else None
        return data | {"network": self.network and export.to_dict(self.network), "recipe": recipe}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """The settings that `to_dict` described; what is left out stays at its default. Raises InputError."""
        known = [each.name for each in fields(cls)]
        if strange := [name for name in data if name not in known]:
            raise InputError(f"there is no setting {strange[0]!r}; the settings are {', '.join(known)}")
        network, recipe = data.get("network"), data.get("recipe")
        made = {
            "network": network if network is None else export.from_dict(network),
            "recipe": Recipe.from_dict(recipe) if isinstance(recipe, Mapping) else recipe,
        }
        return cls(**{**data, **made})

    def ended(self, ending: Ending) -> Done | Failed:
        """The last event of a process that ended without one: what it had written down, or why there is nothing."""
        if ending.stopped or ending.killed:
            return _kept(ending.folder)
        return Failed(_cause_of_death(ending.exit_code), ending.log)


def _require_effective_batch(images: int, batch_size: int, steps: int) -> None:
    """Refuse an effective batch that does not give each of its parts between 1 and `batch_size` images."""
    require_whole("effective_batch", images)
    if not steps <= images <= steps * batch_size:
        raise InputError(
            f"{steps} batches of at most {batch_size} hold {steps} to {steps * batch_size} images and an "
            f"effective_batch of {images} came; give a number between, or another batch_size or accumulation_steps"
        )


def _dataset_name(name: object) -> str:
    """The dataset's name as `DATASETS` spells it, or the path of an existing folder."""
    if not isinstance(name, str):
        raise InputError(f"dataset must be a name or the path of a folder; {name!r} came; give one such as 'digits'")
    if dataset_key(name) in DATASETS:
        return dataset_key(name)
    try:
        there = Path(name).is_dir()
    except (OSError, ValueError):
        there = False
    if not there:
        raise InputError(
            f"{name!r} is neither a dataset ({', '.join(DATASETS)}) nor a folder; choose one of these names or give "
            "the path of a folder that holds a subfolder of images for each class"
        )
    return name


def split_sizes(config: TrainConfig, info: DatasetInfo) -> tuple[int, int]:
    """About how many images train and how many validate; rounding by class may move a few.

    >>> split_sizes(TrainConfig(dataset="mnist"), DATASETS["mnist"])
    (54000, 6000)
    """
    used = min(info.train_size, config.train_limit or info.train_size)
    validating = round(config.validation_fraction * used)
    return used - validating, validating


def require_fitting_batch(config: TrainConfig, info: DatasetInfo) -> None:
    """Raise InputError where the images do not fill one batch, or do not reach for all classes."""
    if config.train_limit is not None and config.train_limit < info.classes:
        raise InputError(
            f"train_limit must be at least {info.classes}, one image for each class; {config.train_limit} came"
        )
    images, _ = split_sizes(config, info)
    if config.batch_size > images:
        raise InputError(
            f"a batch of {config.batch_size} is larger than the {images} training images of {info.name} that are "
            f"used; give a batch_size of at most {images}, or more images"
        )
    if (config.accumulation_steps - 1) * config.batch_size >= images:
        most = math.ceil(images / config.batch_size)
        raise InputError(
            f"{config.accumulation_steps} batches of {config.batch_size} in one update are more than the {images} "
            f"training images of {info.name} that are used; give at most {most} accumulation_steps, or more images"
        )


# Batches and memory.


@dataclass(frozen=True)
class Part:
    """A batch that is computed at once: `size` images from `begin` on, of the images of update number `update`.

    `weight`, on the loss of each image, makes the mean over an update's batches that over its images. A part may have
    no image (`size` 0), because the optimizer counts on as many batches in every update.
    """

    update: int
    begin: int
    size: int
    weight: float


@dataclass(frozen=True)
class Parts:
    """How an epoch is cut: into updates of `effective_batch` images, and each of these into `accumulation_steps` parts.

    The last update has the images that are left. Every update has the same number of parts, as even as can be.

    >>> parts = Parts(images=1294, effective_batch=320, accumulation_steps=5)
    >>> parts.updates, parts.batches, [parts[number].size for number in range(15, 25)]
    (5, 25, [64, 64, 64, 64, 64, 3, 3, 3, 3, 2])
    """

    images: int
    effective_batch: int
    accumulation_steps: int

    @property
    def updates(self) -> int:
        """How often the weights move in one epoch."""
        return math.ceil(self.images / self.effective_batch)

    @property
    def batches(self) -> int:
        """Parts in one epoch, the empty ones, too."""
        return self.updates * self.accumulation_steps

    def __getitem__(self, number: int) -> Part:
        """Part `number` of the epoch, from 0 to `batches` - 1."""
        update, at = divmod(number, self.accumulation_steps)
        images = min(self.effective_batch, self.images - update * self.effective_batch)
        least, larger = divmod(images, self.accumulation_steps)
        size = least + (at < larger)
        return Part(update, at * least + min(at, larger), size, size * self.accumulation_steps / images)


def largest_fitting(fits: Callable[[int], bool], most: int, *, power_of_two: bool = False) -> int:
    """The largest number from 1 to `most` (or power of two among them) that fits; 0 where not even 1 does.

    `fits` is true up to some number and false above it; it is asked seldom: first for the largest, then by halving.

    >>> [largest_fitting(lambda number: number <= 100, 1000, power_of_two=two) for two in (False, True)]
    [100, 64]
    """
    sizes: Sequence[int] = [1 << power for power in range(most.bit_length())] if power_of_two else range(1, most + 1)
    if fits(sizes[-1]):
        return sizes[-1]
    at = last_fitting(lambda number: fits(sizes[number]), -1, len(sizes) - 1)
    return sizes[at] if at >= 0 else 0


def last_fitting(fits: Callable[[int], bool], fitting: int, failing: int) -> int:
    """The last number that fits, from `fitting`, which does, to before `failing`, which does not: by halving.

    >>> last_fitting(lambda number: number <= 100, 64, 128)
    100
    """
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting


def network_of(config: TrainConfig, info: DatasetInfo) -> Architecture:
    """The network of a run, with the pixels' step from 0 … 255 to 0 … 1 as its first layer.

    So a saved model takes the same uint8 images as the training did. Raises InputError where the network and the
    dataset do not fit together.

    >>> network_of(TrainConfig(channels=8), DATASETS["digits"]).layers[0].name
    'rescaling'
    """
    net = config.network or _by_name(config, info)
    if net.input_shape != info.image_shape:
        raise InputError(
            f"{net.name} takes images of {_size(net.input_shape)} and those of {info.name} are "
            f"{_size(info.image_shape)}; change the network's input size or the dataset"
        )
    if not net.layers or not isinstance(net.layers[0], Rescaling):
        net = Architecture(net.name, net.input_shape, (_SCALE, *net.layers))
    last = trace(net)[-1]
    ending = {getattr(last.layer, "activation", ""), last.type.lower()}
    if last.output_shape != (info.classes,) or "softmax" not in ending:
        raise InputError(
            f"{net.name} ends in {last.type} with {_size(last.output_shape)} numbers; to tell the {info.classes} "
            f'classes of {info.name} apart it has to end in Dense({info.classes}, activation="softmax")'
        )
    return net


def _by_name(config: TrainConfig, info: DatasetInfo) -> Architecture:
    """The named architecture for the dataset's images, with those of our options that it has."""
    known = inspect.signature(ARCHITECTURES[config.architecture]).parameters
    wanted = {"channels": config.channels, "dropout": config.dropout}
    options = {name: value for name, value in wanted.items() if name in known}
    return architecture(config.architecture, info.image_shape, info.classes, **options)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


# What a run reports.


@dataclass(frozen=True)
class Started:
    """Training begins: the data are in memory and the network is built. Epochs and steps count from 1.

    A step computes one batch; with accumulation, the weights move once in `accumulation_steps` of them.
    """

    params: int
    steps_per_epoch: int
    epochs: int
    train_images: int
    validation_images: int
    test_images: int


@dataclass(frozen=True)
class Step:
    """How it stands, at most five times a second. Loss and accuracy are means over the epoch so far, as in Keras."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class EpochEnd:
    """One epoch is done. `seconds` is its wall time, validation included."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    learning_rate: float


@dataclass(frozen=True)
class Memory:
    """Resident bytes of the training process: now, and its highest so far."""

    rss_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Done:
    """The run is over, or was stopped, and this is what it gave."""

    result: TrainResult


@dataclass(frozen=True)
class Failed:
    """The run is over and gave nothing. `message` is for people; `detail`, if any, is the text of the error."""

    message: str
    detail: str = ""


Event = Started | Step | EpochEnd | Memory | Done | Failed


@dataclass(frozen=True)
class TrainResult:
    """What a run gave. Its files lie in `folder`.

    history: a value for each whole epoch under loss, accuracy, val_loss, val_accuracy.
    test_accuracy, test_loss (mean cross-entropy), confusion (rows: true class, columns: answer) and
        per_class_accuracy (by name) are over the `tested_images` test images: all of them, or as many as there was
        time for when the run was stopped. A class without a tested image has no entry in per_class_accuracy.
    seconds: wall time from the first step to the end of the last epoch, validation included.
    images_per_second: training images over the time spent in training steps; the first step, in which the backend
        compiles the network, and validation are left out of both.
    peak_memory_bytes: the highest resident size of the training process. Nothing is subtracted: it includes Python,
        Keras with its backend (some 400 to 700 MB) and the dataset.
    validation_accuracy: of the network as it is written down, which is None where it validated after no epoch.
    augmented_test_accuracy: where the recipe has views of the test images, the accuracy of the mean over them, and None
        where it has not, or where the run was stopped.
    stopped: whether the run ended before its last epoch; `note` then says why in a sentence.

    The folder holds model.keras, weights.npz (for `forward.load_weights`), history.csv, predictions.npz
    (`probabilities` of the test images whose numbers are in `index`, and `augmented_probabilities` where the recipe has
    views), run.py and result.json, written last.
    """

    config: TrainConfig
    params: int
    history: Mapping[str, list[float]]
    test_accuracy: float
    test_loss: float
    tested_images: int
    confusion: tuple[tuple[int, ...], ...]
    per_class_accuracy: Mapping[str, float]
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    stopped: bool
    epochs_done: int
    folder: Path
    note: str = ""
    validation_accuracy: float | None = None
    augmented_test_accuracy: float | None = None
    made_with: Mapping[str, str | int | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data; the folder is left out, so that it can be moved."""
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "folder"}
        return data | {"config": self.config.to_dict()}

    @classmethod
    def load(cls, folder: str | Path) -> TrainResult:
        """The result in a folder; raises InputError where there is none."""
        path = Path(folder) / RESULT_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            confusion = tuple(tuple(row) for row in data.pop("confusion"))
            config = TrainConfig.from_dict(data.pop("config"))
            return cls(**data, config=config, confusion=confusion, folder=Path(folder))
        except FileNotFoundError:
            raise InputError(f"{folder} holds no {RESULT_FILE}; give the folder of a finished training") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is not the result of a training: {error}") from None


NOTHING_LEARNED = "stopped before the first step was done, so there is nothing to keep"
ENDED = "the training did not stop by itself and was ended before it had written anything down"
NEED_LESS_MEMORY = "choose a smaller batch, fewer channels, smaller images or fewer of them (train_limit)"


def _kept(folder: Path) -> Done | Failed:
    """What a killed run had written down last."""
    try:
        result = TrainResult.load(folder)
    except InputError:
        return Failed(ENDED)
    note = f"the training did not stop by itself and was ended; this is its state after epoch {result.epochs_done}"
    return Done(replace(result, stopped=True, note=note))


def _cause_of_death(exit_code: int | None) -> str:
    """A sentence for a process that ended by itself, without a word."""
    if exit_code is None:
        return "the training process could not be started, or was lost; try again"
    if exit_code == -getattr(signal, "SIGKILL", 9):
        return f"the operating system ended the training process, most likely for want of memory; {NEED_LESS_MEMORY}"
    name = signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"
    return f"the training process crashed ({name}); the files of this run keep what it printed"


# Starting one.


def train(
    config: TrainConfig,
    folder: str | Path | None = None,
    stop: threading.Event | None = None,
    *,
    threads: int | None = None,
    launch: Launcher | None = None,
) -> Iterator[Event]:
    """Train in a process of its own and yield what it reports; the last event is `Done` or `Failed`.

    The files go into `folder`, or into one that is removed when this Python ends. Setting `stop` ends the run within a
    second and keeps what it learned; so does closing the generator (where the process does not end within two seconds,
    it is killed, and what it wrote down last counts). `threads` limits the threads of one operation; None takes
    every processor. The process begins when the first event is asked for.

    Raises InputError, at once, where the network and the dataset do not fit together.

    >>> for event in train(TrainConfig(channels=2, epochs=1, train_limit=100)):
    ...     if isinstance(event, Done):
    ...         print(event.result.epochs_done, len(event.result.history["val_accuracy"]))
    1 1
    """
    info = DATASETS.get(config.dataset)
    if info is not None:
        network_of(config, info)
    return follow(config, folder, stop, threads, launch)


# What every run does at its end.


def failure_sentence(error: Exception, what: str, less_memory: str) -> str:
    """What to tell of an error that nobody foresaw; `less_memory` says what to do where it was for want of memory.

    >>> failure_sentence(ArithmeticError("seven is not eight"), "the training", NEED_LESS_MEMORY)
    'the training failed: ArithmeticError: seven is not eight'
    """
    if isinstance(error, MemoryError) or "ResourceExhausted" in type(error).__name__:
        return f"{what} ran out of memory; {less_memory}"
    first_line = next(iter(str(error).splitlines()), "")
    return f"{what} failed: {type(error).__name__}: {first_line}"


@contextmanager
def files_beside(folder: Path) -> Iterator[Path]:
    """A folder whose files go into `folder` when the block ends, and nowhere where it fails.

    The result goes last: who finds it finds all the others.
    """
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        yield part
        for path in sorted(part.iterdir(), key=lambda path: path.name == RESULT_FILE):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_history(path: Path, history: Mapping[str, Sequence[float]], curves: Sequence[str]) -> None:
    """Write a CSV file with a line for each epoch."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *curves])
        columns = zip(*(history[curve] for curve in curves), strict=True)
        writer.writerows([epoch, *values] for epoch, values in enumerate(columns, 1))
