"""Labelling pixels for a page with many visitors: how its trainings stand, and labels for a scene or a picture.

Two kinds of jobs (see `jobs`): to train networks on digits on photos, and to let those that were trained label one
image. Both run in processes of their own; a label map comes back as a coloured picture and plain figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from toolkit import system
from toolkit.costs import Costs, costs
from toolkit.errors import InputError
from toolkit.jobs import Lane, Limits, TaskView, check_memory, check_work, framework_bytes, thinned
from toolkit.pictures import png_url
from toolkit.pixel_scores import VOID, PixelScores, count_pixels, interior, scores
from toolkit.processes import Context, Ending
from toolkit.runtimes import predict_memory
from toolkit.scenes import DIGIT_CLASSES, DIGITS_ON_PHOTOS, Difficulty, digits_on_photos
from toolkit.segmentation import (
    EpochScored,
    LabelledImage,
    Labeller,
    SegmentationResult,
    SegmentConfig,
    Segmented,
    network_of,
)
from toolkit.training import Failed, Started, Step

Pixels = NDArray[np.uint8]

# The first class, the photo, is only darkened. The others are Okabe and Ito's colours, once lighter and once darker;
# nobody can tell ten colours apart with certainty, so that every patch has its name, too.
COLOURS = (
    *("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"),
    *("#56b4e9", "#f0e442", "#8c3b00", "#00543d", "#7b3f68"),
)
MOST_NETWORKS = 5
"""Networks that one job may train."""
LARGEST = 384
"""Pixels of the longer side at which a visitor's picture is labelled."""
_FEWEST_NAMED = 25  # pixels of a patch below which its name would hide it


# Training.


@dataclass(frozen=True)
class SegmentForecast:
    """What one network's training will take: its price, MACs of the whole run, and the peak of its process."""

    costs: Costs
    macs: int
    process_bytes: int


def segment_forecast(config: SegmentConfig) -> SegmentForecast:
    """Predict it; a step takes three times the MACs of a prediction (Kaplan et al. 2020, section 2.1).

    Raises InputError where the network cannot be built for images of this size.
    """
    net = network_of(config, len(DIGIT_CLASSES))
    price, estimate = costs(net), predict_memory(net, config.batch_size, execution=system.default_execution())
    data = sum(config.counts) * config.image_size**2 * 4
    trained, looked_at = config.train_images, config.validation_images + config.test_images
    return SegmentForecast(
        price,
        config.epochs * price.macs * (3 * trained + looked_at),
        framework_bytes(estimate) + estimate.peak_bytes + data,
    )


@dataclass(frozen=True)
class SegmentView(TaskView):
    """How the training of one network stands."""

    config: SegmentConfig
    started: Started | None = None
    steps: tuple[Step, ...] = ()
    epochs: tuple[EpochScored, ...] = ()
    result: SegmentationResult | None = None

    files: ClassVar[tuple[str, ...]] = ("model.keras", "weights.npz", "history.csv", "result.json")
    stop_seconds: ClassVar[float | None] = 8.0

    @classmethod
    def price(cls, config: SegmentConfig, limits: Limits, available: int) -> int:
        """Predicted bytes of the process; raises InputError where the server does not allow them, or so much work."""
        if config.source != DIGITS_ON_PHOTOS or config.weights or config.photos:
            raise InputError("this page trains on digits on photos; for folders use python -m toolkit segment")
        ahead = segment_forecast(config)
        check_memory(ahead.process_bytes, limits, available, "choose a smaller image size or batch, or fewer channels")
        check_work(ahead.macs, limits, "choose fewer epochs, fewer images or a smaller image size")
        return ahead.process_bytes

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        match event:
            case Started():
                return {"state": "training", "started": event}
            case Step():
                return {"steps": thinned((*self.steps, event))}
            case EpochScored():
                return {"epochs": (*self.epochs, event)}
            case Segmented(result):
                return {"state": "stopped" if result.stopped else "done", "result": result}
        return super().news(event)


# Labelling one image.


@dataclass(frozen=True)
class Scene:
    """An example to label: a scene of digits on photos that no training has seen, with its true mask."""

    seed: int
    size: int
    difficulty: Difficulty


@dataclass(frozen=True)
class LabelTask:
    """Let trained networks, (name, folder of the training), label a scene or the picture in a file."""

    networks: tuple[tuple[str, str], ...]
    image: Scene | str

    work: ClassVar[str] = "toolkit.pixel_jobs:label"

    def ended(self, ending: Ending) -> Failed:
        """The last event of a process that ended without one."""
        return Failed("the process that labelled the picture ended without an answer; try a smaller one", ending.log)


@dataclass(frozen=True)
class Patch:
    """Where a class's name stands on a label map, as shares of its width and height."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class LabelMap:
    """A label map as a coloured picture (a data URL) with the places for the names of its classes.

    shares and certainty: of each class that is there, its share of the pixels and its mean probability over them
    (empty for a true mask). scores: against the true mask, where there is one.
    """

    name: str
    picture: str
    patches: tuple[Patch, ...]
    shares: dict[str, float]
    certainty: dict[str, float]
    scores: PixelScores | None = None


@dataclass(frozen=True)
class Labelled:
    """An image (a data URL; height and width in pixels) as networks labelled it, its true mask first where known."""

    image: str
    height: int
    width: int
    truth: LabelMap | None
    maps: tuple[LabelMap, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class LabelView(TaskView):
    """How a question about one image stands."""

    config: LabelTask
    result: Labelled | None = None

    lane: ClassVar[Lane] = "errand"

    def news(self, event: object) -> dict[str, Any]:
        """The fields that an event changes."""
        if isinstance(event, Labelled):
            return {"state": "done", "result": event}
        return super().news(event)


def label(task: LabelTask, context: Context) -> Labelled | Failed:
    """Do what the task says; a file that is no picture becomes a sentence."""
    try:
        with context.stop.interrupting():
            image, truth = _image(task.image)
            labellers = {name: Labeller.load(folder) for name, folder in task.networks}
            found = {name: labeller(image, LARGEST) for name, labeller in labellers.items()}
            return _labelled(found, truth)
    except KeyboardInterrupt:
        return Failed("stopped")
    except InputError as error:
        return Failed(str(error))


def _image(source: Scene | str) -> tuple[Pixels, Pixels | None]:
    """An image (height, width, 3), and its true mask where that is known."""
    from toolkit.loading import decode_image

    if isinstance(source, str):
        return decode_image(source, near=LARGEST), None
    scenes = digits_on_photos(1, source.size, source.difficulty, source.seed, part="test")
    return scenes.images[0], scenes.masks[0]


def _labelled(found: dict[str, LabelledImage], truth: Pixels | None) -> Labelled:
    first = next(iter(found.values()))
    names, (height, width, _) = first.class_names, first.image.shape
    maps = [
        _map(name, each.image, each.labels, names, each.shares(), each.certainty(), _against(truth, each.labels, names))
        for name, each in found.items()
    ]
    true = None if truth is None else _map("true mask", first.image, truth, names, _shares(truth, names), {}, None)
    return Labelled(png_url(first.image), height, width, true, tuple(maps), names)


def _against(truth: Pixels | None, labels: Pixels, names: Sequence[str]) -> PixelScores | None:
    if truth is None or truth.shape != labels.shape:
        return None
    return scores(count_pixels(truth[np.newaxis], labels[np.newaxis], len(names)), names)


def _shares(labels: Pixels, names: Sequence[str]) -> dict[str, float]:
    counts = np.bincount(labels[labels != VOID], minlength=len(names)) / labels.size
    return {names[number]: float(counts[number]) for number in np.argsort(-counts) if counts[number]}


def _map(
    name: str,
    image: Pixels,
    labels: Pixels,
    names: Sequence[str],
    shares: dict[str, float],
    certainty: dict[str, float],
    against: PixelScores | None,
) -> LabelMap:
    return LabelMap(name, png_url(painted(image, labels)), patches(labels, names), shares, certainty, against)


def painted(image: Pixels, labels: Pixels, share: float = 0.75) -> Pixels:
    """An image (h, w, 3) under the colours of its label map (h, w); class 0 and VOID only darken it.

    >>> painted(np.zeros((1, 2, 3), np.uint8), np.uint8([[0, 1]]), share=1.0)[0].tolist()
    [[0, 0, 0], [0, 114, 178]]
    """
    colours = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in COLOURS], np.float32)
    thing = (labels > 0) & (labels != VOID)
    paint = colours[np.where(thing, 1 + (labels.astype(int) - 1) % (len(COLOURS) - 1), 0)]
    strength = np.where(thing, share, 0.0)[..., np.newaxis]
    return np.asarray(np.rint((1 - strength) * 0.5 * image + strength * paint), np.uint8)


def patches(labels: Pixels, names: Sequence[str]) -> tuple[Patch, ...]:
    """For each class that is there, except the first, a place deep inside its largest part.

    >>> patches(np.pad(np.full((6, 6), 2, np.uint8), 2), ("photo", "0", "1"))
    (Patch(name='1', x=0.45, y=0.45),)
    """
    height, width = labels.shape
    found = []
    for number in np.unique(labels[(labels != VOID) & (labels > 0)]).tolist():
        if (labels == number).sum() >= _FEWEST_NAMED:
            row, column = _deepest(labels == number)
            found.append(Patch(names[number], (column + 0.5) / width, (row + 0.5) / height))
    return tuple(found)


def _deepest(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) of a pixel of a mask that is farthest from its border."""
    left, depth = mask, 1
    while (inner := mask & interior(mask[np.newaxis].astype(np.uint8), depth)[0]).any():
        left, depth = inner, depth + 1
    row, column = np.argwhere(left)[0]
    return int(row), int(column)
