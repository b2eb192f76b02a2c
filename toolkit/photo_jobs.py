"""Fine-tuning for a page with many visitors: what its jobs do besides the training itself, and how they stand.

Three kinds of jobs (see `jobs`): to unpack somebody's zip of photos and look at it, to fine-tune on it, and to ask the
result about photos, with the place in each that the answer rests on. Every one runs in a process of its own, because
photos of strangers are decoded in it; what comes back is plain data with pictures as data URLs.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit import show, system
from toolkit.architectures import mobilenet_v2
from toolkit.costs import costs
from toolkit.errors import InputError
from toolkit.finetuning import (
    ALPHAS,
    FinetuneConfig,
    FinetuneResult,
    FinetuneTask,
    Finished,
    Looked,
    PhaseBegins,
    Progress,
)
from toolkit.jobs import Lane, Limits, TaskView, check_memory, check_work, framework_bytes, thinned
from toolkit.pictures import jpeg_url
from toolkit.pixel_networks import features
from toolkit.processes import Context, Ending
from toolkit.runtimes import predict_memory
from toolkit.training import EpochEnd, Failed, Step
from toolkit.zips import ZipLimits, unpack_zip

if TYPE_CHECKING:
    from toolkit.photos import PhotoReport

Pixels = NDArray[np.uint8]

BASE = "MobileNetV2"
EXAMPLE = "example-digits"
# Sides of small pictures in pixels, and how many there are of each class, of each kind of problem, and in one question.
THUMBNAIL, PICTURE = 96, 192
SAMPLES, SHOWN_PROBLEMS, MOST_PHOTOS = 6, 3, 12
_REPORT_SECONDS = 0.2


# Looking at photos.


@dataclass(frozen=True)
class LookTask:
    """Unpack a zip of photos, or make the prepared example (None), and look at what is in it."""

    zip_file: str | None
    name: str
    limits: ZipLimits = field(default_factory=ZipLimits)

    work: ClassVar[str] = "toolkit.photo_jobs:look"

    @property
    def folder_name(self) -> str:
        """The name of the folder that the photos go into.

        >>> LookTask("/tmp/1", "../My photos.zip").folder_name
        'My photos'
        """
        stem = Path(self.name).stem
        return "".join(letter for letter in stem if letter.isalnum() or letter in " -_")[:40].strip() or "photos"

    def ended(self, ending: Ending) -> Failed:
        """The last event of a process that ended without one."""
        if ending.stopped or ending.killed:
            return Failed("the look at the photos was ended; give fewer or smaller photos")
        return Failed("the process that looked at the photos crashed; give fewer or smaller photos", ending.log)


@dataclass(frozen=True)
class ProblemKind:
    """What is wrong with some photos: how often, what is done about it, some sentences, some pictures (data URLs)."""

    kind: str
    count: int
    done: str
    sentences: tuple[str, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class PhotosFound:
    """What a look at a zip of photos found. `folder` holds them; `unusable` says why nothing can be learned from them.

    counts: usable photos by class. samples: some of each class as data URLs. parts: how many train, validate and test
    where the split is the default one.
    """

    name: str
    folder: Path
    files: int
    counts: Mapping[str, int]
    samples: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, int]
    problems: tuple[ProblemKind, ...]
    unusable: str = ""

    @property
    def photos(self) -> int:
        """Photos that can be used."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """What was found as plain data, without pictures and without a path of this server."""
        problems = [{"kind": each.kind, "count": each.count, "sentences": each.sentences} for each in self.problems]
        plain = {"name": self.name, "files": self.files, "counts": dict(self.counts), "parts": dict(self.parts)}
        return plain | {"problems": problems, "unusable": self.unusable}


def look(task: LookTask, context: Context) -> PhotosFound | Failed:
    """Do what the task says; whatever is wrong with the zip becomes a sentence."""
    from toolkit.photos import check_photos

    home = context.folder / task.folder_name
    try:
        with context.stop.interrupting():
            _require_disk(context.folder, task.limits)
            context.send(Progress("unpacking", 0, 1))
            if task.zip_file is None:
                write_example(home)
            else:
                unpack_zip(task.zip_file, home, task.limits)
            return _found(task, home, check_photos(home, progress=_teller(context, "looking at photos")))
    except KeyboardInterrupt:
        return Failed("stopped")
    except InputError as error:
        return Failed(_without(home, task.name, str(error)))


def _require_disk(folder: Path, limits: ZipLimits) -> None:
    free = shutil.disk_usage(folder).free
    if free < 2 * limits.bytes:
        raise InputError(
            f"this server has {show.readable_bytes(free)} of disk left, too little to unpack photos; try again later"
        )


def _teller(context: Context, what: str) -> Callable[[int, int], None]:
    """Reports progress five times a second."""
    due = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due or done == total:
            due = time.monotonic() + _REPORT_SECONDS
            context.send(Progress(what, done, total))

    return tell


def _without(folder: Path, name: str, sentence: str) -> str:
    """A sentence that calls a folder of the server by the name that its visitor knows.

    >>> _without(Path("/tmp/x/photos"), "cats.zip", "/tmp/x/photos has one class")
    'cats.zip has one class'
    """
    return sentence.replace(str(folder), name)


def _found(task: LookTask, home: Path, report: PhotoReport) -> PhotosFound:
    from toolkit.photos import split_photos

    parts, unusable = {}, ""
    try:
        parts = {part: len(numbers) for part, numbers in split_photos(report).parts.items()}
    except InputError as error:
        unusable = _without(home, task.name, str(error))
    samples: dict[str, list[Path]] = {name: [] for name in report.class_names}
    for photo in report.photos:
        of_class = samples[report.class_names[photo.label]]
        if len(of_class) < SAMPLES:
            of_class.append(photo.path)
    return PhotosFound(
        task.name,
        home,
        report.files,
        report.counts,
        {name: tuple(map(_thumbnail, paths)) for name, paths in samples.items()},
        parts,
        _problems(task, home, report),
        unusable,
    )


def _problems(task: LookTask, home: Path, report: PhotoReport) -> tuple[ProblemKind, ...]:
    """Each kind of problem that there is, the gravest first."""
    from toolkit.photos import KINDS, problem_pictures

    pictures: dict[str, list[str]] = {}
    for kind, images in problem_pictures(report, most=4, side=THUMBNAIL):
        pictures.setdefault(kind, []).extend(map(jpeg_url, images))
    found = []
    for kind, done in KINDS.items():
        if problems := report.of_kind(kind):
            sentences = (_without(home, task.name, each.sentence) for each in problems[:SHOWN_PROBLEMS])
            found.append(
                ProblemKind(kind, len(problems), done, tuple(sentences), tuple(pictures.get(kind, ())[:SAMPLES]))
            )
    return tuple(found)


def _thumbnail(path: Path) -> str:
    from toolkit.streaming.decoding import whole_image

    image = whole_image(path, near=THUMBNAIL)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return jpeg_url(np.asarray(image))


def write_example(folder: Path, each: int = 50, size: int = 96, seed: int = 0) -> None:
    """Photos by class for visitors without any: handwritten digits on crops of real photos, made here.

    Some files are what people's folders are full of: one damaged, one a copy, one under two classes, one tiny.
    """
    from toolkit.scenes import Difficulty, digits_on_photos

    names = ("zero", "one", "two", "three", "four")
    one_digit = Difficulty(digits=(1, 1), scale=(0.75, 0.95), overlap=0.0, contrast=0.6, noise=2.0, rotation=8.0)
    scenes = digits_on_photos(3 * each * len(names), size, one_digit, seed)
    numbers = scenes.masks.reshape(len(scenes), -1).max(axis=1).astype(int) - 1
    for digit, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(scenes.images[numbers == digit][:each]):
            Image.fromarray(image).save(folder / name / f"{number:03}.jpg", quality=92)
    first = (folder / names[0] / "000.jpg").read_bytes()
    (folder / names[0] / "damaged.jpg").write_bytes(first[: len(first) // 3])
    (folder / names[0] / "copy.jpg").write_bytes(first)
    shutil.copyfile(folder / names[1] / "001.jpg", folder / names[2] / "by-mistake.jpg")
    Image.open(folder / names[3] / "002.jpg").resize((24, 24)).save(folder / names[3] / "tiny.png")


@dataclass(frozen=True)
class LookView(TaskView):
    """How a look at photos stands."""

    config: LookTask
    progress: Progress | None = None
    result: PhotosFound | None = None

    lane: ClassVar[Lane] = "errand"

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        match event:
            case Progress():
                return {"state": "training", "progress": event}
            case PhotosFound():
                return {"state": "done", "result": event}
        return super().news(event)


# Fine-tuning.


def imagenet_alphas(environment: Mapping[str, str] = os.environ) -> tuple[float, ...]:
    """The widths of MobileNetV2 whose ImageNet weights lie on this machine, in Keras's folder.

    >>> imagenet_alphas({"KERAS_HOME": "/nowhere"})
    ()
    """
    models = Path(environment.get("KERAS_HOME") or Path("~/.keras").expanduser()) / "models"
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
    return tuple(alpha for alpha in ALPHAS[BASE] if (models / name.format(alpha)).is_file())


@dataclass(frozen=True)
class FinetuneForecast:
    """What a fine-tuning will take: the base's parameters, MACs of the whole run at most, the peak of its process."""

    params: int
    photos: int
    macs: int
    process_bytes: int


def finetune_forecast(config: FinetuneConfig, photos: int) -> FinetuneForecast:
    """Predict it for so many photos; raises InputError for another base than MobileNetV2.

    The base sees every photo once, and every training photo once in each epoch of the second phase, at three times the
    MACs of a prediction (Kaplan et al. 2020, section 2.1); the memory is that of a base all of which learns: both are
    upper bounds. Pixels are mapped from a file and count as if they were in memory.
    """
    if config.base != BASE:
        raise InputError(f"this page fine-tunes {BASE}; for {config.base} use python -m toolkit finetune")
    net = mobilenet_v2((config.image_size, config.image_size, 3), 10, alpha=config.alpha)
    estimate = predict_memory(
        net,
        config.batch_size,
        execution=system.default_execution(),
        accumulation_steps=config.accumulation_steps,
    )
    price = costs(net)
    training = round(config.fractions[0] * photos)
    return FinetuneForecast(
        costs(replace(net, layers=features(net))).params,
        photos,
        price.macs * (photos + 3 * training * config.epochs),
        framework_bytes(estimate) + estimate.peak_bytes + photos * config.image_size**2 * 3,
    )


@dataclass(frozen=True)
class PhaseView:
    """One phase of a fine-tuning: how it began, and its curves so far."""

    begun: PhaseBegins
    steps: tuple[Step, ...] = ()
    epochs: tuple[EpochEnd, ...] = ()


@dataclass(frozen=True)
class FinetuneView(TaskView):
    """How a fine-tuning stands: its preparation, then its phases."""

    config: FinetuneTask
    progress: Progress | None = None
    looked: Looked | None = None
    phases: tuple[PhaseView, ...] = ()
    result: FinetuneResult | None = None

    # What holds a path of this server (result.json, predictions.csv) stays here.
    files: ClassVar[tuple[str, ...]] = (
        *("model.keras", "model-int8.keras", "model.tflite", "model.onnx", "README.md", "photos.md", "history.csv"),
        *("history.png", "confusion.png", "mistakes.png"),
    )
    stop_seconds: ClassVar[float | None] = 15.0

    @classmethod
    def price(cls, config: FinetuneTask, limits: Limits, available: int) -> int:
        """Predicted bytes of the process; raises InputError where the server does not allow them, or so much work."""
        photos = sum(len(names) for _, _, names in os.walk(config.photos))
        ahead = finetune_forecast(config.config, photos)
        check_memory(ahead.process_bytes, limits, available, "choose a smaller batch, image size or alpha")
        check_work(ahead.macs, limits, "choose fewer epochs, a smaller image size or alpha, or fewer photos")
        return ahead.process_bytes

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        match event:
            case Progress():
                return {"state": "training", "progress": event}
            case Looked():
                return {"state": "training", "looked": event}
            case PhaseBegins() | Step() | EpochEnd():
                return {"state": "training", "phases": _grown(self.phases, event)}
            case Finished(result):
                return {"state": "stopped" if result.stopped else "done", "result": result}
            case Failed(message):
                return {"state": "failed", "message": self._said(message)}
        return super().news(event)

    def plain_result(self) -> dict[str, Any] | None:
        """The result as plain data, without a path of this server; None before there is one."""
        if self.result is None:
            return None
        # Gradio's clients would take a "path" for a file that they may fetch.
        mistakes = [
            {"photo": Path(each.path).name, "true": each.true, "answer": each.answer, "probability": each.probability}
            for each in self.result.mistakes
        ]
        return self.result.to_dict() | {"photos": Path(self.config.photos).name, "mistakes": mistakes}

    def _said(self, message: str) -> str:
        """A message without the paths of this server, and with what can be done on a page."""
        if message.startswith("ImageNet's weights"):
            return _no_weights(self.config.config.alpha)
        photos = Path(self.config.photos)
        return _without(photos, photos.name, _without(self.folder.resolve(), "the run's folder", message))


def _no_weights(alpha: float) -> str:
    here = " or ".join(map(str, imagenet_alphas()))
    others = f"choose alpha {here}, whose weights are here, or" if here else "choose"
    return (
        f"ImageNet's weights for alpha {alpha:g} are neither on this machine nor could they be fetched from the "
        f"internet; {others} random weights, which learn much less from few photos"
    )


def _grown(phases: tuple[PhaseView, ...], event: PhaseBegins | Step | EpochEnd) -> tuple[PhaseView, ...]:
    if isinstance(event, PhaseBegins):
        return (*phases, PhaseView(event))
    *before, last = phases
    if isinstance(event, Step):
        return (*before, replace(last, steps=thinned((*last.steps, event))))
    return (*before, replace(last, epochs=(*last.epochs, event)))


# Asking the result.


@dataclass(frozen=True)
class AskTask:
    """Ask the classifier in the folder of a fine-tuning about photos: (file, what its visitor calls it)."""

    model: str
    photos: tuple[tuple[str, str], ...]

    work: ClassVar[str] = "toolkit.photo_jobs:ask"

    def ended(self, ending: Ending) -> Failed:
        """The last event of a process that ended without one."""
        return Failed("the process that asked the classifier ended without an answer; try again", ending.log)


@dataclass(frozen=True)
class PhotoAnswer:
    """What a classifier says of one photo, the likeliest class first; or why it says nothing.

    picture: the photo as the network sees it; evidence: the same, dimmed where the answer does not rest on it
    (Grad-CAM); both data URLs.
    """

    name: str
    picture: str = ""
    evidence: str = ""
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class PhotoAnswers:
    """The answers to all photos of a question, in its order."""

    answers: tuple[PhotoAnswer, ...]


@dataclass(frozen=True)
class AskView(TaskView):
    """How a question to a classifier stands."""

    config: AskTask
    result: PhotoAnswers | None = None

    lane: ClassVar[Lane] = "errand"

    @classmethod
    def price(cls, config: AskTask, limits: Limits, available: int) -> int:
        """Predicted bytes of the process; raises InputError for more photos than one question may have."""
        if not 1 <= len(config.photos) <= MOST_PHOTOS:
            raise InputError(f"a question is about 1 to {MOST_PHOTOS} photos; {len(config.photos)} came; give fewer")
        return super().price(config, limits, available)

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        if isinstance(event, PhotoAnswers):
            return {"state": "done", "result": event}
        return super().news(event)


def ask(task: AskTask, context: Context) -> PhotoAnswers | Failed:
    """Do what the task says; a photo that cannot be read is an answer that says why."""
    from toolkit.fitting import limit_threads
    from toolkit.outcomes import load_model

    try:
        with context.stop.interrupting():
            limit_threads(context.threads)
            config = FinetuneResult.load(task.model).config
            model, names = load_model(Path(task.model))
            return PhotoAnswers(tuple(_answer(model, names, config, *photo) for photo in task.photos))
    except KeyboardInterrupt:
        return Failed("stopped")
    except InputError as error:
        return Failed(_without(Path(task.model), "this training", str(error)))


def _answer(model: Any, names: Sequence[str], config: FinetuneConfig, file: str, name: str) -> PhotoAnswer:
    from toolkit.explaining import grad_cam
    from toolkit.outcomes import classify
    from toolkit.photo_batches import photo_pixels
    from toolkit.streaming.failures import SampleError

    try:
        pixels = photo_pixels(Path(file), config.image_size, config.fit)
    except SampleError as error:
        return PhotoAnswer(name, failed=error.sentence)
    shares = classify(model, pixels)
    order = np.argsort(-shares, kind="stable").tolist()
    evidence = grad_cam(model, pixels[np.newaxis], order[:1])[0]
    return PhotoAnswer(
        name,
        jpeg_url(_sized(pixels)),
        jpeg_url(dimmed(_sized(pixels), evidence)),
        tuple(names[number] for number in order),
        tuple(float(shares[number]) for number in order),
    )


def _sized(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE, PICTURE))
    return np.asarray(image)


def dimmed(image: Pixels, evidence: NDArray[np.float32]) -> Pixels:
    """An image (height, width, 3), dark where the evidence, from 0 to 1 and of any size, is weak.

    >>> dimmed(np.full((2, 2, 3), 100, np.uint8), np.zeros((1, 1), np.float32))[0, 0].tolist()
    [20, 20, 20]
    """
    size = image.shape[1], image.shape[0]
    strength = np.asarray(Image.fromarray(evidence.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    return np.asarray(image * (0.2 + 0.8 * np.clip(strength, 0, 1)[..., np.newaxis]), np.uint8)
