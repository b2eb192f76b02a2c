"""MobileNetV2, or another network that knows ImageNet, on your own photos: settings, events, result, `finetune`.

A run has two phases. In the first only a new head learns, on features that the frozen base computes once for each view
of each photo. In the second the last blocks of the base learn too, at a small rate. Both happen in a process of its own
(`toolkit.transfer`); nothing here imports Keras.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar, Literal

from toolkit.arithmetic import require_choice, require_whole
from toolkit.errors import InputError
from toolkit.photos import write_list
from toolkit.processes import Ending, Launcher, follow, own_folder
from toolkit.streaming.samples import Source
from toolkit.training import RESULT_FILE, EpochEnd, Failed, Memory, Step

# How the pixels of a base want to be: from -1 to 1; from 0 to 255 in BGR less the mean colour; less the mean and over
# the deviation of ImageNet; or as they are, because the base scales them itself.
Scaling = Literal["tf", "caffe", "torch", "inside"]

BASES: Mapping[str, Scaling] = {
    **dict.fromkeys(("MobileNet", "MobileNetV2", "Xception", "InceptionV3", "InceptionResNetV2"), "tf"),
    **dict.fromkeys(("NASNetMobile", "NASNetLarge", "ResNet50V2", "ResNet101V2", "ResNet152V2"), "tf"),
    **dict.fromkeys(("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152"), "caffe"),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "torch"),
    **dict.fromkeys(("MobileNetV3Small", "MobileNetV3Large"), "inside"),
    **dict.fromkeys((f"EfficientNetB{number}" for number in range(8)), "inside"),
    **dict.fromkeys((f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")), "inside"),
    **dict.fromkeys((f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")), "inside"),
}
"""The bases of `keras.applications` by name, and how each wants its pixels."""

ALPHAS: Mapping[str, tuple[float, ...]] = {
    "MobileNet": (0.25, 0.5, 0.75, 1.0),
    "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "MobileNetV3Small": (0.75, 1.0),
    "MobileNetV3Large": (0.75, 1.0),
}
"""Bases of several widths, and those that ImageNet's weights exist for."""

AUGMENTATIONS = ("none", "flip", "light", "strong", "round")
FITS = ("stretch", "crop", "pad")
PHASES = ("head", "blocks")
CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")

CHECKPOINT_FILE = "checkpoint.npz"
RUN_FILE = "run.json"
MODEL_FILE = "model.keras"
LIST_FILE = "photos.csv"
NOTHING_LEARNED = "stopped before the first epoch was done, so there is nothing to keep"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides how a run turns out, besides the photos. What cannot be used raises InputError.

    base, alpha: a name in `BASES`, and its width where it has several.
    image_size: height and width that the base sees, in pixels; fit: how a photo of another shape gets there.
    weights: "imagenet", the path of a file that fits the base, or None for random ones.
    fractions: the shares of training, validation and test photos, where the user has no own split.
    batch_size, accumulation_steps: photos that are computed at once, and batches that make one update of the weights;
        batch normalization rests, so that four batches of 8 learn what one of 32 does, to rounding; they take less
        memory and more than twice as long.
    head_epochs, head_learning_rate: of the first phase, in which only the head learns.
    epochs, learning_rate, warmup: of the second; its rate rises for the share `warmup`, then falls along a cosine.
    unfrozen_blocks: the last blocks of the base, which learn in the second phase.
    patience: epochs without a lower validation loss after which a phase ends, 0 for never. The best epoch is kept.
    augmentation: what is done to training photos, and to them only, anew in every epoch: mirrored every other time
        ("flip"), cut out of the photo and brightened or dimmed as well ("light"), more of that, and turned ("strong"),
        or "light" with any side up ("round": for things that lie, seen from above).
    depths, head_units: from how many sizes of feature map the head reads (texture is in the larger ones), and the width
        of its hidden layer, 0 for none.
    head_views: how many views of each training photo the cached features are of: itself, and others as `augmentation`
        makes them; an epoch of the first phase takes one of them.
    class_weights: whether a photo of a rare class counts more, so that all classes count the same.
    dropout: share of what each dense layer reads that a training step leaves out.
    label_smoothing: share of certainty that a label is without.
    cache_features: whether the base sees each photo once in the first phase, or in every epoch anew.
    copies: whether the model is also saved in other forms (int8, TFLite, ONNX), as far as libraries for them are here,
        and pictures are drawn of how it fares.
    seed: decides the split, the head's first weights, the order of the photos, dropout and augmentation.

    >>> FinetuneConfig(batch_size=8, accumulation_steps=4).update_images
    32
    """

    base: str = "MobileNetV2"
    alpha: float = 1.0
    image_size: int = 224
    fit: str = "stretch"
    weights: str | None = "imagenet"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    batch_size: int = 16
    accumulation_steps: int = 1
    depths: int = 3
    head_units: int = 256
    head_views: int = 4
    head_epochs: int = 60
    head_learning_rate: float = 1e-3
    epochs: int = 12
    learning_rate: float = 1e-4
    warmup: float = 0.1
    unfrozen_blocks: int = 10
    patience: int = 8
    augmentation: str = "light"
    class_weights: bool = False
    dropout: float = 0.5
    label_smoothing: float = 0.1
    cache_features: bool = True
    copies: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("base", self.base, tuple(BASES))
        require_choice("fit", self.fit, FITS)
        require_choice("augmentation", self.augmentation, AUGMENTATIONS)
        for name in ("batch_size", "accumulation_steps", "depths", "head_views", "head_epochs"):
            require_whole(name, getattr(self, name))
        for name in ("head_units", "epochs", "unfrozen_blocks", "patience", "seed"):
            require_whole(name, getattr(self, name), least=0)
        if not 32 <= require_whole("image_size", self.image_size) <= 1024:
            raise InputError(f"image_size must be from 32 to 1024 pixels; {self.image_size} came; give one such as 224")
        for name in ("head_learning_rate", "learning_rate"):
            _require_number(name, getattr(self, name), 0, 10, open_below=True)
        for name in ("warmup", "dropout", "label_smoothing"):
            _require_number(name, getattr(self, name), 0, 1)
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2**32 = {2**32}; {self.seed} came; give a smaller number")
        object.__setattr__(self, "fractions", tuple(self.fractions))
        self._check_base()

    def _check_base(self) -> None:
        widths = ALPHAS.get(self.base, (1.0,))
        _require_number("alpha", self.alpha, 0, 3, open_below=True)
        if self.alpha not in widths and (self.base not in ALPHAS or self.weights == "imagenet"):
            raise InputError(
                f"{self.base} comes with alpha {' or '.join(map(str, widths))}; {self.alpha} came; give one of these"
            )
        if self.weights is not None and not isinstance(self.weights, str):
            raise InputError(f'weights are "imagenet", the path of a file, or None; {self.weights!r} came')

    @property
    def update_images(self) -> int:
        """Photos that one update of the weights learns from."""
        return self.batch_size * self.accumulation_steps

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain data, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"fractions": list(self.fractions)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FinetuneConfig:
        """The settings that `to_dict` described; what is left out stays at its default. Raises InputError.

        >>> FinetuneConfig.from_dict(FinetuneConfig(seed=3).to_dict()).seed
        3
        """
        known = [each.name for each in fields(cls)]
        if strange := [name for name in data if name not in known]:
            raise InputError(f"there is no setting {strange[0]!r}; the settings are {', '.join(known)}")
        return cls(**data)


def _require_number(what: str, value: object, low: float, high: float, open_below: bool = False) -> None:
    """Refuse what is not a number from `low` (or above it, `open_below`) up to, but not including, `high`."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number < high or (open_below and number == low):
        raise InputError(
            f"{what} must be a number {'above' if open_below else 'from'} {low:g} and below {high:g}; {value!r} came"
        )


# What a run reports, besides `Step`, `EpochEnd`, `Memory` and `Failed` of a training.


@dataclass(frozen=True)
class Looked:
    """The photos were looked at and split: the report as text, and how many train, validate and test."""

    report: str
    class_names: tuple[str, ...]
    train_images: int
    validation_images: int
    test_images: int


@dataclass(frozen=True)
class Progress:
    """How far the preparation is: `what` is done, such as "reading photos", for so many of them."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class PhaseBegins:
    """A phase begins, after `epochs_done` of its epochs where the run was resumed. A step computes one batch."""

    phase: str
    params: int
    trainable_params: int
    steps_per_epoch: int
    epochs: int
    epochs_done: int = 0


@dataclass(frozen=True)
class Finished:
    """The run is over, or was stopped, and this is what it gave."""

    result: FinetuneResult


Event = Looked | Progress | PhaseBegins | Step | EpochEnd | Memory | Finished | Failed


@dataclass(frozen=True)
class Mistake:
    """A test photo that was answered wrongly, and how sure the answer was."""

    path: str
    true: str
    answer: str
    probability: float


@dataclass(frozen=True)
class ClassScores:
    """How one class fared: shares of its photos that were found (recall) and of its answers that were right."""

    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Export:
    """A copy of the model in another form: its file, bytes, and test accuracy (None where it was not tested)."""

    file: str
    bytes: int
    test_accuracy: float | None
    note: str = ""


@dataclass(frozen=True)
class FinetuneResult:
    """What a run gave. Its files lie in `folder`.

    test_accuracy, with its interval (Wilson's score interval at 95 %: where the accuracy on all such photos lies, as
        far as so few can tell), test_loss (mean cross-entropy), confusion (rows: true class, columns: answer), classes
        (scores by name) are over `tested_images` test photos: all of them, or, where a run was stopped, as many as
        there was time for.
    mistakes: the surest wrong answers first. history: a value for each epoch of both phases, under "phase" and
        `CURVES`.
    seconds: wall time by part of the run, earlier sittings of a resumed one included.
    exports: what other forms the model has. weights_sha256: of all weights of the base as the run found them.
    stopped: whether the run ended before its last epoch; `note` then says why.

    The folder holds model.keras (takes uint8 photos of any size; its classes are in it as classes.json), history.csv,
    predictions.csv, photos.md (what was found wrong with the photos), README.md (the model card), pictures, the
    exports, run.json and checkpoint.npz (to go on from), and result.json, written last.
    """

    config: FinetuneConfig
    photos: str
    class_names: tuple[str, ...]
    images: Mapping[str, int]
    params: int
    trainable_params: int
    history: Mapping[str, list[Any]]
    test_accuracy: float
    test_interval: tuple[float, float]
    test_loss: float
    tested_images: int
    confusion: tuple[tuple[int, ...], ...]
    classes: Mapping[str, ClassScores]
    mistakes: tuple[Mistake, ...]
    seconds: Mapping[str, float]
    peak_memory_bytes: int
    stopped: bool
    folder: Path
    note: str = ""
    exports: Mapping[str, Export] = field(default_factory=dict)
    weights_sha256: str = ""
    made_with: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def epochs_done(self) -> dict[str, int]:
        """Whole epochs by phase."""
        return {phase: self.history["phase"].count(phase) for phase in PHASES}

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data; the folder is left out, so that it can be moved."""
        data = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "folder"}
        plain = {
            "config": self.config.to_dict(),
            "classes": {name: vars(scores) for name, scores in self.classes.items()},
            "mistakes": [vars(mistake) for mistake in self.mistakes],
            "exports": {name: vars(export) for name, export in self.exports.items()},
        }
        return data | plain

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FinetuneResult:
        """The result in a folder; raises InputError where there is none."""
        path = Path(folder) / RESULT_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["config"] = FinetuneConfig.from_dict(data["config"])
            data["class_names"] = tuple(data["class_names"])
            data["test_interval"] = tuple(data["test_interval"])
            data["confusion"] = tuple(tuple(row) for row in data["confusion"])
            data["classes"] = {name: ClassScores(**scores) for name, scores in data["classes"].items()}
            data["mistakes"] = tuple(Mistake(**mistake) for mistake in data["mistakes"])
            data["exports"] = {name: Export(**export) for name, export in data["exports"].items()}
            return cls(**data, folder=Path(folder))
        except FileNotFoundError:
            raise InputError(f"{folder} holds no {RESULT_FILE}; give the folder of a finished fine-tuning") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is not the result of a fine-tuning: {error}") from None


def wilson_interval(right: int, tested: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Where the true share lies, as far as `right` of `tested` tell (E. B. Wilson, JASA 22, 1927).

    Unlike the textbook's ± it stays between 0 and 1 and is no point where all were right. Raises InputError where
    there are not 0 to `tested` right ones of at least one.

    >>> [round(bound, 3) for bound in wilson_interval(124, 141)]
    [0.815, 0.923]
    """
    require_whole("tested", tested)
    if not 0 <= require_whole("right", right, least=0) <= tested:
        raise InputError(f"of {tested} tested, 0 to {tested} can be right; {right} came")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = right / tested, z * z / tested
    centre = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * math.sqrt(share * (1 - share) / tested + weight / (4 * tested))
    return max(0.0, centre - reach), min(1.0, centre + reach)


# Starting one.


@dataclass(frozen=True)
class FinetuneTask:
    """A run as it travels to its worker. `begun` is when: a result in its folder that is older is another run's."""

    photos: str
    config: FinetuneConfig
    resume: bool = False
    begun: float = math.inf

    work: ClassVar[str] = "toolkit.transfer:transfer"

    def ended(self, ending: Ending) -> Failed | Finished:
        """The last event of a worker that ended without one: its result where it had written that, as when a stop comes
        while it makes copies of the model; else what there is to go on from, if anything.
        """
        result = ending.folder / RESULT_FILE
        if result.is_file() and result.stat().st_mtime >= self.begun:
            return Finished(FinetuneResult.load(ending.folder))
        kept = _kept(ending.folder)
        if ending.stopped or ending.killed:
            return Failed(f"the fine-tuning did not stop by itself and was ended; {kept}")
        if ending.exit_code is not None and ending.exit_code < 0:
            why = f"by signal {-ending.exit_code}, most likely for want of memory; choose a smaller batch_size"
            return Failed(f"the operating system ended the fine-tuning {why}; {kept}", ending.log)
        return Failed(f"the process of the fine-tuning crashed; {kept}", ending.log)


def _kept(folder: Path) -> str:
    """What of a killed run is left."""
    if (folder / CHECKPOINT_FILE).is_file():
        return f"what it had learned by its last whole epoch is in {folder}: go on from it with resume"
    return "it had not finished its first epoch, so there is nothing to go on from"


def finetune(
    photos: str | os.PathLike[str] | Source,
    config: FinetuneConfig | None = None,
    run_folder: str | os.PathLike[str] | None = None,
    stop: threading.Event | None = None,
    *,
    resume: bool = False,
    threads: int | None = None,
    launch: Launcher | None = None,
) -> Iterator[Event]:
    """Fine-tune a base on photos in a process of its own and yield what it reports; the last is `Finished` or `Failed`.

    `photos` is a folder of photos by class, a file that lists them (see `check_photos`), or a `Source` of paths and
    URLs; what lies on the internet is fetched first, once. The files go into `run_folder`, or into one that is removed
    when this Python ends. Setting `stop` ends the run and keeps its best epoch; so does closing the generator. After
    every epoch there is a checkpoint, from which `resume` goes on, with the same photos and settings, to the very
    weights that the run would have had. `threads` limits the threads of one operation. Raises InputError, at once,
    where the photos' place does not exist.
    """
    folder = Path(run_folder) if run_folder else own_folder()
    place = write_list(photos, folder / LIST_FILE) if isinstance(photos, Source) else Path(photos)
    if not os.path.exists(place):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise InputError(
            f"there is nothing at {str(place)[:200]!r}; give a folder with a subfolder of photos for each class, or a "
            "list such as photos.csv"
        )
    task = FinetuneTask(str(place.absolute()), config or FinetuneConfig(), resume, time.time())
    return follow(task, folder, stop, threads, launch)


def class_table(result: FinetuneResult) -> Sequence[Sequence[str]]:
    """The scores of each class as cells of text, headings first."""
    rows = [
        [name, f"{each.precision:.1%}", f"{each.recall:.1%}", f"{each.f1:.3f}", str(each.images)]
        for name, each in result.classes.items()
    ]
    return [["class", "precision", "recall", "F1", "photos"], *rows]
