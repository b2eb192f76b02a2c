"""Labelling every pixel, from the outside: settings, what a training reports, its result, and labels for a new image.

The training itself (`toolkit.segmenting`) happens in a process of its own, as in `training`; a new image is labelled
with NumPy (`forward`). Nothing here imports Keras.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import require_choice, require_whole
from toolkit.checkpoints import load_checkpoint
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.forward import check_weights, forward, load_weights
from toolkit.layers import Architecture, Rescaling
from toolkit.loading import Pixels
from toolkit.pixel_networks import HEADS, LOSSES, NETWORKS, small_base, unet
from toolkit.pixel_scores import PixelScores
from toolkit.processes import Ending, Launcher, follow
from toolkit.scenes import DIFFICULTIES, DIGIT_CLASSES, DIGITS, DIGITS_ON_PHOTOS, Difficulty
from toolkit.training import RESULT_FILE, Failed, Memory, Started, Step

SMALL_BASE = "small_base"
PIXEL_CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "val_mean_iou")
WEIGHTS_FILE = "weights.npz"
CHECKPOINT_FILE = "checkpoint.npz"
LESS_MEMORY = "choose a smaller batch_size or image_size, fewer channels, or fewer train_images"
# ImageNet's weights of MobileNetV2 have learned from pixels between -1 and 1.
_SCALES = {"mobilenet_v2": Rescaling(scale=1 / 127.5, offset=-1.0, name="rescaling")}
_SCALE = Rescaling(scale=1 / 255, name="rescaling")


@dataclass(frozen=True)
class SegmentConfig:
    """Everything that decides how a run turns out. Values that cannot be used raise InputError with what can.

    source: "digits_on_photos", or a folder (`scenes.load_pets`, `scenes.load_masks`).
    network: one of `NETWORKS`; fcn32s has no skips, fcn8s those from strides 16 and 8; dilated none, but maps that
        stay at 1/8; unet brings its own base.
    base: "small_base", or a name in `ARCHITECTURES` whose maps lie on the image evenly.
    channels: of the first stage of small_base and of unet. alpha: the width of mobilenet_v2.
    weights: None learns from scratch; "imagenet" begins with those of mobilenet_v2; or a file of `save_weights`, of
        which the layers with the same names and shapes are taken. Normalization that was given stays as it was.
    image_size: pixels of a side. train_images, validation_images, test_images: so many (of a folder, at most).
    difficulty, digits, photos: of digits on photos, as `scenes.digits_on_photos` takes them; or a difficulty's name.
    loss: one of `pixel_networks.LOSSES`. learning_rate: Adam's highest; it rises over the first twentieth of the steps
        and falls to 0 along half a cosine. flip: training images are mirrored every other time (not for digits).
    boundary_pixels: how wide a mask's border is; None takes 2 % of the diagonal (Cheng et al. 2021).
    seed: decides the pictures or the split, the first weights and the order.

    >>> SegmentConfig(network="fcn16s").base
    'small_base'
    >>> SegmentConfig(network="fcn64s")
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: network must be one of fcn32s, fcn16s, fcn8s, fcn4s, dilated, unet; 'fcn64s' came
    """

    source: str = DIGITS_ON_PHOTOS
    network: str = "fcn8s"
    base: str = SMALL_BASE
    channels: int = 16
    alpha: float = 0.35
    weights: str | None = None
    digits: str = "digits"
    photos: str | None = None
    image_size: int = 128
    train_images: int = 3000
    validation_images: int = 60
    test_images: int = 200
    difficulty: Difficulty = DIFFICULTIES["normal"]
    loss: str = "cross_entropy_dice"
    batch_size: int = 8
    epochs: int = 6
    learning_rate: float = 4e-3
    flip: bool = False
    boundary_pixels: int | None = None
    seed: int = 0

    work: ClassVar[str] = "toolkit.segmenting:segment"

    def __post_init__(self) -> None:
        if isinstance(self.difficulty, str):
            require_choice("difficulty", self.difficulty, tuple(DIFFICULTIES))
            object.__setattr__(self, "difficulty", DIFFICULTIES[self.difficulty])
        if not isinstance(self.difficulty, Difficulty):
            raise InputError(f"difficulty must be a Difficulty or one of {', '.join(DIFFICULTIES)}")
        for what, choices in (("network", NETWORKS), ("base", (SMALL_BASE, *ARCHITECTURES)), ("loss", LOSSES)):
            require_choice(what, str(getattr(self, what)), choices)
        for what in ("source", "photos", "weights"):
            self._as_text(what)
        for what in ("channels", "train_images", "validation_images", "test_images", "batch_size", "epochs"):
            require_whole(what, getattr(self, what))
        require_choice("digits", str(self.digits), DIGITS)
        require_whole("image_size", self.image_size, least=16)
        if require_whole("seed", self.seed, least=0) >= 2**32:
            raise InputError(f"seed must be below 2**32 = {2**32}; {self.seed} came; give a smaller number")
        if self.boundary_pixels is not None:
            require_whole("boundary_pixels", self.boundary_pixels)
        self._check_rest()

    def _as_text(self, what: str) -> None:
        """A place as text, so that the settings can be written down."""
        place = getattr(self, what)
        if place is None and what != "source":
            return
        if not isinstance(place, (str, os.PathLike)):
            raise InputError(f"{what} must be the name of a folder or a file; {place!r} came")
        object.__setattr__(self, what, os.fspath(place))

    def _check_rest(self) -> None:
        if not isinstance(self.learning_rate, (int, float)) or not 0 < self.learning_rate < 10:
            raise InputError(f"learning_rate must be a number above 0 and below 10; {self.learning_rate!r} came")
        if self.batch_size > self.train_images:
            raise InputError(
                f"a batch of {self.batch_size} is larger than the {self.train_images} training images; give a smaller "
                "batch_size or more train_images"
            )
        if self.weights == "imagenet" and (self.base not in _SCALES or self.network == "unet"):
            raise InputError(
                f"ImageNet's weights are for the base mobilenet_v2; {self.network} on {self.base} came; choose that "
                "base, or leave the weights out"
            )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images to train, to validate and to test with."""
        return self.train_images, self.validation_images, self.test_images

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data, for JSON.

        >>> SegmentConfig.from_dict(SegmentConfig(epochs=5).to_dict()).epochs
        5
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SegmentConfig:
        """The settings that `to_dict` described; what is left out stays at its default. Raises InputError."""
        known = [each.name for each in fields(cls)]
        if strange := [name for name in data if name not in known]:
            raise InputError(f"there is no setting {strange[0]!r}; the settings are {', '.join(known)}")
        difficulty = data.get("difficulty", DIFFICULTIES["normal"])
        if isinstance(difficulty, dict):
            parts = [each.name for each in fields(Difficulty)]
            if strange := [name for name in difficulty if name not in parts]:
                raise InputError(f"difficulty has no {strange[0]!r}; it has {', '.join(parts)}")
            difficulty = Difficulty(**difficulty)
        return cls(**{**data, "difficulty": difficulty})

    def ended(self, ending: Ending) -> Segmented | Failed:
        """The last event of a process that ended without one: what it had written down, or why there is nothing."""
        try:
            result = SegmentationResult.load(ending.folder)
        except InputError:
            return Failed(_cause(ending), ending.log)
        note = f"the training was ended from outside; this is its state after epoch {result.epochs_done}"
        return Segmented(replace(result, stopped=True, note=note))


def _cause(ending: Ending) -> str:
    if ending.stopped or ending.killed:
        return "the training was ended before it had written anything down"
    code = "an unknown exit status" if ending.exit_code is None else f"exit status {ending.exit_code}"
    return f"the training process ended with {code}, perhaps for want of memory; {LESS_MEMORY}"


def network_of(config: SegmentConfig, classes: int) -> Architecture:
    """The network of a run for so many classes; the step from pixels of 0 … 255 to its numbers is its first layer.

    Raises InputError where the base does not divide the images evenly.

    >>> net = network_of(SegmentConfig(), 11)
    >>> net.name, trace(net)[-1].output_shape
    ('fcn8s', (128, 128, 11))
    """
    shape = (config.image_size, config.image_size, 3)
    if config.network == "unet":
        net = unet(shape, classes, config.channels)
        return replace(net, layers=(_SCALE, *net.layers))
    base = _base(config, shape)
    scaled = replace(base, layers=(_SCALES.get(config.base, _SCALE), *base.layers))
    return HEADS[config.network](scaled, classes)


def _base(config: SegmentConfig, shape: tuple[int, int, int]) -> Architecture:
    if config.base == SMALL_BASE:
        return small_base(shape, config.channels)
    if config.base == "mobilenet_v2":
        return architecture(config.base, shape, alpha=config.alpha)
    return architecture(config.base, shape)


# What a run reports, besides training's Started, Step, Memory and Failed.


@dataclass(frozen=True)
class EpochScored:
    """One epoch is done. Accuracies are shares of pixels; `seconds` is wall time, validation included."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_mean_iou: float
    seconds: float
    learning_rate: float


@dataclass(frozen=True)
class Segmented:
    """The run is over, or was stopped, and this is what it gave."""

    result: SegmentationResult


Event = Started | Step | EpochScored | Memory | Segmented | Failed


@dataclass(frozen=True)
class SegmentationResult:
    """What a run gave. Its files lie in `folder`.

    history: a value for each whole epoch under loss, accuracy, val_loss, val_accuracy and val_mean_iou.
    scores: over the test images: all of them, or as many as there was time for when the run was stopped.
    macs: for one image. seconds: wall time of the training, validation included. images_per_second: without the first
        step, in which the backend compiles the network. peak_memory_bytes: highest resident size of the process.
    stopped: whether the run ended before its last epoch; `note` then says why in a sentence.

    The folder holds model.keras, weights.npz, history.csv, examples.npz (`images`, `masks` and `answers` of some test
    images) and result.json, written last; where it was stopped, checkpoint.npz, to go on from.
    """

    config: SegmentConfig
    class_names: tuple[str, ...]
    params: int
    macs: int
    history: Mapping[str, list[float]]
    scores: PixelScores
    seconds: float
    images_per_second: float
    peak_memory_bytes: int
    stopped: bool
    epochs_done: int
    folder: Path
    note: str = ""
    made_with: Mapping[str, str | int | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data; the folder is left out, so that it can be moved."""
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "folder"}
        return data | {"config": self.config.to_dict(), "scores": self.scores.to_dict()}

    @classmethod
    def load(cls, folder: str | Path) -> SegmentationResult:
        """The result in a folder; raises InputError where there is none."""
        path = Path(folder) / RESULT_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            config, scores = SegmentConfig.from_dict(data.pop("config")), PixelScores.from_dict(data.pop("scores"))
            names = tuple(data.pop("class_names"))
            return cls(**data, config=config, scores=scores, class_names=names, folder=Path(folder))
        except FileNotFoundError:
            raise InputError(f"{folder} holds no {RESULT_FILE}; give the folder of a finished training") from None
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise InputError(f"{path} is not the result of a segmentation: {error}") from None


# Starting one.


def segment(
    config: SegmentConfig,
    folder: str | Path | None = None,
    stop: threading.Event | None = None,
    *,
    resume: bool = False,
    threads: int | None = None,
    launch: Launcher | None = None,
) -> Iterator[Event]:
    """Train in a process of its own and yield what it reports; the last event is `Segmented` or `Failed`.

    The files go into `folder`, or into one that is removed when this Python ends. Setting `stop` ends the run within a
    second and keeps what it learned; so does closing the generator. A run that is killed keeps its last whole epoch.
    After every epoch but the last there is a checkpoint in the folder, from which `resume` goes on, with the same
    settings, to the very weights that the run would have had. `threads` limits the threads of one operation; None takes
    every processor.

    Raises InputError, at once, where the network cannot be built for images of this size, or where there is nothing to
    resume.

    >>> small = {"image_size": 32, "train_images": 4, "batch_size": 2, "test_images": 1, "epochs": 1}
    >>> for event in segment(SegmentConfig(network="fcn4s", base="three_layers", **small)):
    ...     if isinstance(event, Segmented):
    ...         print(event.result.epochs_done, len(event.result.scores.classes))
    1 11
    """
    network_of(config, len(DIGIT_CLASSES))
    if resume and folder is None:
        raise InputError("resume goes on with the run in a folder; give the folder")
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder} is a file; give a folder for the files of the run")
    if resume and begun_with(str(folder)) != config:
        raise InputError(f"{folder} is a run with other settings; resume it with those that it was begun with")
    if folder is not None:
        for old in (RESULT_FILE, *(() if resume else (CHECKPOINT_FILE,))):
            (Path(folder) / old).unlink(missing_ok=True)
    return follow(config, folder, stop, threads, launch)


def begun_with(folder: str | Path) -> SegmentConfig:
    """The settings of a run that was stopped or killed; raises InputError where there is none to go on with."""
    path = Path(folder) / CHECKPOINT_FILE
    try:
        return SegmentConfig.from_dict(json.loads(load_checkpoint(path).key))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not the checkpoint of a segmentation ({error}); begin anew") from None


# Labelling a new image.


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image as it was labelled, uint8 (h, w, 3), with a class for each pixel (h, w) and probabilities (h, w, c)."""

    image: Pixels
    labels: Pixels
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]

    def shares(self) -> dict[str, float]:
        """What share of the pixels each class that is there has, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names)) / self.labels.size
        order = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
        return {self.class_names[number]: float(counts[number]) for number in order}

    def certainty(self) -> dict[str, float]:
        """The mean probability of each class that is there over the pixels that were given to it."""
        best = self.probabilities.max(axis=-1)
        return {name: float(best[self.labels == self.class_names.index(name)].mean()) for name in self.shares()}


@dataclass(frozen=True, eq=False)
class Labeller:
    """A trained network that labels images of any size; NumPy computes it."""

    network: Architecture
    weights: Mapping[str, list[NDArray[np.float32]]]
    class_names: tuple[str, ...]

    @classmethod
    def load(cls, folder: str | Path) -> Labeller:
        """The network in the folder of a finished training; raises InputError where there is none."""
        result = SegmentationResult.load(folder)
        net, weights = network_of(result.config, len(result.class_names)), load_weights(Path(folder) / WEIGHTS_FILE)
        check_weights(trace(net), weights)
        return cls(net, weights, result.class_names)

    @property
    def stride(self) -> int:
        """Sides have to be multiples of this."""
        return max(round(row.stride[0]) for row in trace(self.network))

    def __call__(self, image: Pixels, largest: int = 512) -> LabelledImage:
        """Label an RGB image, uint8 (height, width, 3); one with a side above `largest` pixels is made smaller first.

        Raises InputError for any other array.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"an image is uint8 of shape (height, width, 3); {image.dtype} of {image.shape} came")
        shown = at_most(image, largest)
        height, width, _ = shown.shape
        sides = [(0, -height % self.stride), (0, -width % self.stride), (0, 0)]
        padded = np.pad(shown, sides, mode="edge")
        rows = trace(replace(self.network, input_shape=padded.shape))
        found = forward(rows, self.weights, padded[np.newaxis])[0, :height, :width]
        return LabelledImage(shown, found.argmax(axis=-1).astype(np.uint8), found, self.class_names)


def at_most(image: Pixels, largest: int) -> Pixels:
    """An image (height, width, 3) with no side above `largest` pixels, its proportions kept.

    >>> at_most(np.zeros((60, 120, 3), np.uint8), 64).shape
    (32, 64, 3)
    """
    require_whole("largest", largest)
    height, width, _ = image.shape
    share = largest / max(height, width)
    if share >= 1:
        return image
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
