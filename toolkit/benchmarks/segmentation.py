"""Why labelling pixels is hard: the same network without skips, with skips and with dilation, on digits on photos."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from toolkit.benchmarks import Check, Measured, Report, Row
from toolkit.pixel_scores import PixelScores, at_stride, count_pixels, scores
from toolkit.scenes import DIFFICULTIES, DIGIT_CLASSES, digits_on_photos
from toolkit.segmentation import SegmentationResult, SegmentConfig, Segmented, segment

# Long et al. (2015, table 2) gained 3.0 points by skips to 8s on PASCAL VOC, where things are larger than digits are.
SKIPS_GAIN, MEAN_IOU = 0.10, 0.80

FULL = SegmentConfig(epochs=16)
QUICK = SegmentConfig(
    image_size=64, channels=8, train_images=720, validation_images=8, test_images=64, epochs=4,
    difficulty=DIFFICULTIES["easy"], boundary_pixels=1,
)  # fmt: skip


def measure(quick: bool, seed: int) -> Measured:
    """Train each network on the same pictures; the quick form compares two on small ones and holds no goal of IoU."""
    networks = ("fcn32s", "fcn8s") if quick else ("fcn32s", "fcn16s", "fcn8s", "dilated")
    config = replace(QUICK if quick else FULL, seed=seed)
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as name:
        found = {network: _trained(replace(config, network=network), Path(name)) for network in networks}
    gain = found["fcn8s"].scores.mean_iou - found["fcn32s"].scores.mean_iou
    checks = [Check.at_least("mean IoU that skips to 8s add to 32s", gain, SKIPS_GAIN)]
    if not quick:
        checks.append(Check.at_least("mean IoU of FCN-8s", found["fcn8s"].scores.mean_iou, MEAN_IOU))
    rows = [row for name, result in found.items() for row in _rows(name, result)]
    return Measured((*rows, *_bounds(config)), tuple(checks))


def _trained(config: SegmentConfig, folder: Path) -> SegmentationResult:
    *_, last = segment(config, folder / config.network)
    if not isinstance(last, Segmented):
        raise RuntimeError(f"a training of the benchmark gave no result: {last}")
    return last.result


def _rows(name: str, result: SegmentationResult) -> tuple[Row, ...]:
    got = result.scores
    return (
        Row.of(f"{name}: mean IoU", "share", [got.mean_iou]),
        Row.of(f"{name}: boundary IoU, {got.boundary_pixels} pixels", "share", [got.boundary_iou]),
        Row.of(f"{name}: interior IoU", "share", [got.interior_iou]),
        Row.of(f"{name}: pixel accuracy", "share", [got.pixel_accuracy]),
        Row.of(f"{name}: training", "s", [result.seconds]),
        Row.of(f"{name}: parameters", "", [result.params]),
    )


def _bounds(config: SegmentConfig) -> Iterator[Row]:
    """The mean IoU that a network could have if it knew every class, and saw only so many pixels as one."""
    pictures = digits_on_photos(config.test_images, config.image_size, config.difficulty, config.seed, part="test")
    masks = pictures.masks
    for stride in (32, 16, 8):
        counted = count_pixels(masks, at_stride(masks, stride, len(DIGIT_CLASSES)), len(DIGIT_CLASSES))
        found = scores(counted, DIGIT_CLASSES).mean_iou
        yield Row.of(f"true masks at 1/{stride}, enlarged: mean IoU", "share", [found])


def picture(report: Report) -> Figure:
    """Boundary, mean and interior IoU of each network, from a report's rows."""
    from toolkit.plots import plot_borders

    found: dict[str, dict[str, float]] = {}
    for row in report.rows:
        name, _, figure = row.what.partition(": ")
        found.setdefault(name, {})[figure.partition(",")[0]] = row.median
    trained = {name: figures for name, figures in found.items() if "boundary IoU" in figures}
    return plot_borders({name: _scores(figures, report) for name, figures in trained.items()})


def _scores(figures: Mapping[str, float], report: Report) -> PixelScores:
    """Scores with what the picture needs."""
    width = next(row.what.split()[-2] for row in report.rows if "boundary" in row.what)
    mean, boundary, interior = (figures[f"{kind} IoU"] for kind in ("mean", "boundary", "interior"))
    return PixelScores(mean, boundary, interior, figures["pixel accuracy"], 0.0, int(width), 0, ())
