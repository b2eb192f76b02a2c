"""How well pixels are labelled: accuracy, intersection over union, and both at the borders and away from them.

A label map holds class numbers (n, height, width); `VOID` marks pixels that count nowhere. Everything is counted over
all images first and divided last, as the benchmarks of the field do (Everingham et al. 2015, section 4.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError

# The number that PASCAL VOC gave to pixels of no class.
VOID = 255
# Cheng et al. 2021, section 3.3: the border's width as a share of the image's diagonal.
BOUNDARY_SHARE = 0.02

Labels = NDArray[np.uint8]
Counted = NDArray[np.int64]
Marks = NDArray[np.bool_]


def boundary_pixels(height: int, width: int, share: float = BOUNDARY_SHARE) -> int:
    """How wide the border of a mask is in pixels, at least 1: a share of the image's diagonal (Cheng et al. 2021).

    >>> boundary_pixels(480, 640), boundary_pixels(28, 28)
    (16, 1)
    """
    return max(1, round(share * math.hypot(height, width)))


def wide(pixels: int) -> str:
    """The width of a border in words.

    >>> wide(1), wide(4)
    ('1 pixel wide', '4 pixels wide')
    """
    return f"{pixels} pixel{'s' if pixels > 1 else ''} wide"


def interior(labels: Labels, pixels: int) -> Marks:
    """Which pixels of label maps (n, height, width) lie more than `pixels` away from another class and from the edge.

    The distance counts diagonal steps as one. The other pixels of a class are the border of its mask, as the published
    code of Cheng et al. (2021) has it, for all classes at once.

    >>> interior(np.ones((1, 5, 5), np.uint8), 1)[0].astype(int).tolist()[1]
    [0, 1, 1, 1, 0]
    """
    low = high = np.pad(labels.astype(np.int16), ((0, 0), (pixels, pixels), (pixels, pixels)), constant_values=-1)
    for axis in (1, 2):
        low = np.lib.stride_tricks.sliding_window_view(low, 2 * pixels + 1, axis).min(axis=-1)
        high = np.lib.stride_tricks.sliding_window_view(high, 2 * pixels + 1, axis).max(axis=-1)
    return np.asarray(low == high)


@dataclass(frozen=True, eq=False)
class Counts:
    """Counted pixels; those of several images are added up.

    confusion: (classes, classes) pixels of true class (row) and answer (column).
    inside: the same for the pixels that lie more than `pixels` away from every border between true classes.
    borders: (classes, 2) pixels in the intersection and in the union of the borders of true and answered masks.
    """

    confusion: Counted
    inside: Counted
    borders: Counted
    pixels: int
    images: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.confusion + other.confusion,
            self.inside + other.inside,
            self.borders + other.borders,
            self.pixels,
            self.images + other.images,
        )


def count_pixels(truth: Labels, answers: Labels, classes: int, pixels: int | None = None) -> Counts:
    """Count true and answered label maps (n, height, width) of `classes` classes; borders are `pixels` wide.

    None takes `boundary_pixels`. Raises InputError for other shapes, and for numbers that are no class.

    >>> count_pixels(np.zeros((1, 2, 2), np.uint8), np.uint8([[[0, 1], [0, 0]]]), 2).confusion.tolist()
    [[3, 1], [0, 0]]
    """
    require_whole("classes", classes)
    truth, answers = _checked("true", truth, classes), _checked("answered", answers, classes)
    if truth.shape != answers.shape:
        raise InputError(f"true and answered label maps must have the same shape; {truth.shape}, {answers.shape} came")
    width = boundary_pixels(*truth.shape[1:]) if pixels is None else require_whole("pixels", pixels)
    known, within = truth != VOID, interior(truth, width)
    borders = known & ~within, known & ~interior(answers, width)
    return Counts(
        _confusion(truth, answers, known, classes),
        _confusion(truth, answers, known & within, classes),
        _overlaps(truth, answers, borders, classes),
        width,
        len(truth),
    )


def _checked(what: str, labels: Labels, classes: int) -> Labels:
    array = np.asarray(labels)
    if array.ndim != 3 or array.dtype.kind not in "iu" or not array.size:
        raise InputError(
            f"{what} label maps are whole numbers of shape (n, height, width); {array.dtype} {array.shape} came"
        )
    wrong = (array < 0) | (array >= classes)
    wrong &= (array != VOID) if what == "true" else True
    if wrong.any():
        raise InputError(
            f"{what} label maps hold class numbers from 0 to {classes - 1}; {array[wrong][0]} came, in "
            f"{int(wrong.sum()):,} pixels; pixels of no class are {VOID} in true maps"
        )
    return array.astype(np.uint8)


def _confusion(truth: Labels, answers: Labels, where: Marks, classes: int) -> Counted:
    pairs = truth[where].astype(np.int64) * classes + answers[where]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _overlaps(truth: Labels, answers: Labels, borders: tuple[Marks, Marks], classes: int) -> Counted:
    """(classes, 2): pixels that are border of both masks of a class, and of at least one of them."""
    there, answered = borders
    both = np.bincount(truth[there & answered & (truth == answers)], minlength=classes)
    each = np.bincount(truth[there], minlength=classes) + np.bincount(answers[answered], minlength=classes)
    return np.stack([both, each - both], axis=1)


def at_stride(truth: Labels, stride: int, classes: int) -> Labels:
    """Label maps (n, height, width) as the best network with maps at 1/`stride` of the size could give them.

    Each class's share of every stride × stride block, interpolated bilinearly; the largest wins. Scored against the
    truth it tells what resolution alone costs (Long et al. 2015, section 6, "upper bounds on IU"). VOID is no class.

    >>> edge = np.uint8([[[0, 0, 0, 1]] * 4])
    >>> at_stride(edge, 2, 2)[0, 0].tolist()
    [0, 0, 0, 0]
    """
    best, found = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.uint8)
    rows, columns = (_interpolation(length, stride) for length in truth.shape[1:])
    for number in range(classes):
        blocks = (truth == number).reshape(len(truth), rows.shape[1], stride, columns.shape[1], stride)
        share = rows @ blocks.mean(axis=(2, 4), dtype=np.float32) @ columns.T
        found[share > best] = number
        best = np.maximum(best, share)
    return found


def _interpolation(length: int, stride: int) -> NDArray[np.float32]:
    """The matrix (length, length / stride) that interpolates between the middles of blocks."""
    require_whole("stride", stride)
    if length % stride:
        raise InputError(f"blocks of {stride} do not divide {length} pixels evenly; choose another stride")
    count = length // stride
    places = np.clip((np.arange(length) + 0.5) / stride - 0.5, 0, count - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(count))), np.float32)


# Scores.


@dataclass(frozen=True)
class ClassScore:
    """One class: intersection over union of its masks, of their borders and away from borders; its recall and size.

    A share of nothing (a class that is neither there nor answered) is None.
    """

    name: str
    iou: float | None
    boundary_iou: float | None
    interior_iou: float | None
    accuracy: float | None
    pixels: int


@dataclass(frozen=True)
class PixelScores:
    """Scores over all counted images; means over classes leave out those without a share.

    mean_iou: of the classes' |truth ∩ answer| / |truth ∪ answer|.
    boundary_iou: the same of masks reduced to their border, `boundary_pixels` wide (Cheng et al. 2021, equation 2).
    interior_iou: mean IoU over the pixels that lie further than that from every true border (the complement of the
        "trimap" of Kohli et al. 2009).
    pixel_accuracy: share of pixels answered rightly; mean_accuracy: mean of the classes' shares.
    """

    mean_iou: float
    boundary_iou: float
    interior_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    boundary_pixels: int
    images: int
    classes: tuple[ClassScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PixelScores:
        """The scores that `to_dict` described."""
        classes = tuple(ClassScore(**each) for each in data["classes"])
        return cls(**{**data, "classes": classes})


def scores(counts: Counts, class_names: Sequence[str]) -> PixelScores:
    """The scores of counted pixels; raises InputError for another number of names.

    >>> truth, answers = np.uint8([[[0, 0], [1, 1]]]), np.uint8([[[0, 1], [1, 1]]])
    >>> found = scores(count_pixels(truth, answers, 2), ("ground", "thing"))
    >>> [round(each.iou, 3) for each in found.classes], found.pixel_accuracy
    ([0.5, 0.667], 0.75)
    """
    if len(class_names) != len(counts.confusion):
        raise InputError(f"{len(counts.confusion)} classes need as many names; {len(class_names)} came")
    ious, inside = _ious(counts.confusion), _ious(counts.inside)
    borders = [_share(both, either) for both, either in counts.borders.tolist()]
    there = counts.confusion.sum(axis=1).tolist()
    right = [_share(hit, of) for hit, of in zip(np.diag(counts.confusion).tolist(), there, strict=True)]
    return PixelScores(
        mean_iou=_mean(ious),
        boundary_iou=_mean(borders),
        interior_iou=_mean(inside),
        pixel_accuracy=_mean([_share(int(np.trace(counts.confusion)), sum(there))]),
        mean_accuracy=_mean(right),
        boundary_pixels=counts.pixels,
        images=counts.images,
        classes=tuple(map(ClassScore, class_names, ious, borders, inside, right, there)),
    )


def _ious(confusion: Counted) -> list[float | None]:
    """Diagonal over row plus column less diagonal."""
    hits = np.diag(confusion)
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return [_share(hit, union) for hit, union in zip(hits.tolist(), unions.tolist(), strict=True)]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(shares: Sequence[float | None]) -> float:
    """The mean of those that are there; 0 where none is."""
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else 0.0


def score_cells(found: PixelScores) -> list[list[str]]:
    """The per-class table in words, its heading first and the means last.

    >>> truth = np.zeros((1, 4, 4), np.uint8)
    >>> score_cells(scores(count_pixels(truth, truth, 2), ("ground", "thing")))[1]
    ['ground', '1.000', '1.000', '1.000', '100.0%', '16']
    """
    lines = [
        [each.name, *_cells(each.iou, each.boundary_iou, each.interior_iou, each.accuracy)] for each in found.classes
    ]
    sizes = [f"{each.pixels:,}" for each in found.classes]
    means = ["mean", *_cells(found.mean_iou, found.boundary_iou, found.interior_iou, found.mean_accuracy)]
    heading = ["class", "IoU", "boundary IoU", "interior IoU", "found", "pixels"]
    total = f"{sum(each.pixels for each in found.classes):,}"
    return [heading, *([*line, size] for line, size in zip(lines, sizes, strict=True)), [*means, total]]


def _cells(*shares: float | None) -> list[str]:
    *ious, accuracy = shares
    words = ["–" if share is None else f"{share:.3f}" for share in ious]
    return [*words, "–" if accuracy is None else f"{accuracy:.1%}"]
