"""The terminal's side of labelling pixels: `python -m toolkit segment`, to train and compare, and to label images."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from toolkit import show
from toolkit.errors import InputError
from toolkit.loading import Pixels, decode_image
from toolkit.pixel_scores import PixelScores, score_cells, wide
from toolkit.processes import INTERRUPTED, warm_up
from toolkit.scenes import DIGIT_CLASSES
from toolkit.segmentation import (
    CHECKPOINT_FILE,
    EpochScored,
    Event,
    LabelledImage,
    Labeller,
    SegmentationResult,
    SegmentConfig,
    Segmented,
    at_most,
    begun_with,
    network_of,
    segment,
)
from toolkit.terminal import RUNS, bars, ctrl_c, unused
from toolkit.training import Failed, Started, Step

MOST_PICTURES = 6
LARGEST = 512


@dataclass
class _Run:
    """One of the trainings, and the last thing that it said."""

    config: SegmentConfig
    folder: Path
    last: Event | None = None
    bar: TaskID = field(init=False)

    @property
    def result(self) -> SegmentationResult | None:
        return self.last.result if isinstance(self.last, Segmented) else None


def segment_command(
    config: SegmentConfig,
    compare: Sequence[str] = (),
    folder: Path | None = None,
    as_json: bool = False,
    *,
    resume: bool = False,
) -> int:
    """Train the network, and each of `compare` after it on the same pictures, and return the exit status.

    The files go into `folder`, one subfolder a network, or into new folders under `runs`; the labelled test pictures
    and, of several networks, borders.png go there, too. Ctrl-C stops and keeps what was learned. The status is 0, 1
    where a training failed, and 130 after Ctrl-C. Raises InputError before anything runs where a network cannot be.
    """
    configs = [config, *(replace(config, network=network) for network in compare)]
    if len({each.network for each in configs}) < len(configs):
        raise InputError("--compare needs other networks than --network and each name once; the same came twice")
    for each in configs:
        network_of(each, len(DIGIT_CLASSES))
    warm_up()
    home = folder or unused(RUNS / f"{Path(config.source).name}-{'-'.join(each.network for each in configs)}")
    runs = [_Run(each, home if len(configs) == 1 else home / each.network) for each in configs]
    interrupted = _follow(runs, Console(stderr=True), resume)
    results = {run.config.network: run.result for run in runs if run.result}
    pictures = _draw_results(results, home) if results else []
    if as_json:
        sys.stdout.write(json.dumps({"runs": [_data(run) for run in runs]}, indent=2) + "\n")
    else:
        _print(runs, pictures)
    return INTERRUPTED if interrupted else int(any(isinstance(run.last, Failed) for run in runs))


def _follow(runs: Sequence[_Run], console: Console, resume: bool) -> bool:
    """Train one after the other and show how far they are; True after Ctrl-C, which leaves out those to come."""
    stop = threading.Event()
    with ctrl_c(stop), bars(console) as progress:
        for run in runs:
            run.bar = progress.add_task(run.config.network, total=None, said="waiting")
        for run in runs:
            if stop.is_set():
                break
            progress.update(run.bar, said="starting")
            for event in segment(run.config, run.folder, stop, resume=resume):
                run.last = event
                _draw(progress, run, event)
    return stop.is_set()


def _draw(progress: Progress, run: _Run, event: Event) -> None:
    """One event on the run's bar, which counts the steps of all epochs."""
    match event:
        case Started():
            progress.update(run.bar, total=event.epochs * event.steps_per_epoch, said="compiling")
        case Step():
            words = f"loss {event.loss:.4f}  pixels {event.accuracy:.2%}  {event.images_per_second:,.0f} images/s"
            progress.update(run.bar, completed=(event.epoch - 1) * event.steps + event.step, said=words)
        case EpochScored():
            words = f"epoch {event.epoch}: validation mean IoU {event.val_mean_iou:.3f}  ({event.seconds:.1f} s)"
            progress.console.print(f"{run.config.network}  {words}", highlight=False)
        case Segmented(result):
            total = None if result.stopped else progress.tasks[run.bar].total
            progress.update(run.bar, completed=total, said=f"test mean IoU {result.scores.mean_iou:.3f}")
        case Failed(message):
            progress.update(run.bar, said=f"[red]{message}")


def _draw_results(results: dict[str, SegmentationResult], home: Path) -> list[Path]:
    """Save the test pictures as each network labelled them and, of several, their borders; returns the files."""
    from toolkit.plots import plot_borders, plot_segmentation, save_figure

    shown = [_examples(result.folder) for result in results.values()]
    count = min(MOST_PICTURES, *(len(each["answers"]) for each in shown))  # a stopped run may have tested few
    answers = {name: each["answers"][:count] for name, each in zip(results, shown, strict=True)}
    masks = {"true": shown[0]["masks"][:count], **answers}
    names = next(iter(results.values())).class_names
    figure = plot_segmentation(shown[0]["images"][:count], masks, names, style="light")
    files = [save_figure(figure, home / "labelled.png")]
    if len(results) > 1:
        found = {name: result.scores for name, result in results.items()}
        files.append(save_figure(plot_borders(found, style="light"), home / "borders.png"))
    return files


def _examples(folder: Path) -> dict[str, Pixels]:
    """The first test images, with their masks and answers."""
    with np.load(folder / "examples.npz") as file:
        return {name: file[name] for name in ("images", "masks", "answers")}


def _data(run: _Run) -> dict[str, object]:
    """A training as plain data: its result, or the sentence that it failed with."""
    if run.result is not None:
        return run.result.to_dict() | {"folder": str(run.folder)}
    message = run.last.message if isinstance(run.last, Failed) else "it was not begun"
    return {"config": run.config.to_dict(), "failed": message, "folder": str(run.folder)}


def _print(runs: Sequence[_Run], pictures: Sequence[Path]) -> None:
    console = Console()
    results = {run.config.network: run.result for run in runs if run.result}
    if len(results) == 1:
        console.print(_class_table(next(iter(results.values())).scores))
    if results:
        console.print(_table(results))
    for run in runs:
        if isinstance(run.last, Failed):
            console.print(f"{run.config.network}: {run.last.message}", highlight=False, soft_wrap=True)
        elif run.result:
            note = f" ({run.result.note})" if run.result.note else ""
            console.print(f"{run.config.network}: files in {run.folder}{note}", highlight=False, soft_wrap=True)
        if (run.folder / CHECKPOINT_FILE).is_file():
            words = f"{run.config.network}: to go on, say python -m toolkit segment --resume {run.folder}"
            console.print(words, highlight=False, soft_wrap=True)
    for path in pictures:
        console.print(f"picture: {path}", highlight=False, soft_wrap=True)


def _class_table(found: PixelScores) -> Table:
    """The scores of each class."""
    heading, *lines = score_cells(found)
    table = Table(heading[0], title=f"{found.images} test images; borders are {wide(found.boundary_pixels)}")
    for name in heading[1:]:
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(*line)
    return table


def _table(results: dict[str, SegmentationResult]) -> Table:
    """What the trainings gave, a column each."""
    table = Table("")
    columns = [_figures(result) for result in results.values()]
    for name in results:
        table.add_column(name, justify="right", overflow="fold")
    for figure in columns[0]:
        table.add_row(figure, *(column[figure] for column in columns))
    return table


def _figures(result: SegmentationResult) -> dict[str, str]:
    """The figures of a result in words."""
    found = result.scores
    return {
        "mean IoU": f"{found.mean_iou:.3f}",
        "boundary IoU": f"{found.boundary_iou:.3f}",
        "interior IoU": f"{found.interior_iou:.3f}",
        "pixel accuracy": f"{found.pixel_accuracy:.2%}",
        "parameters": f"{result.params:,}",
        "MACs of an image": show.readable_count(result.macs),
        "epochs": f"{result.epochs_done} of {result.config.epochs}",
        "seconds of training": f"{result.seconds:.1f}",
        "images per second": f"{result.images_per_second:,.1f}",
        "peak memory of the process": show.readable_bytes(result.peak_memory_bytes),
    }


def resume_command(folder: Path, as_json: bool = False) -> int:
    """Go on with the run in `folder`, which was stopped or killed, as `segment_command` does."""
    return segment_command(begun_with(folder), (), folder, as_json, resume=True)


# Labelling images.


def label_command(files: Sequence[Path], model: Path, folder: Path | None = None, as_json: bool = False) -> int:
    """Label images with the network of a finished training in the folder `model`, and return the exit status, 0.

    For each image, NAME-labels.png (class numbers, grey, as large as the image) and NAME-labelled.png (colours over the
    image, with a key) go into `folder`, or beside the image. An image with a side above `LARGEST` pixels is labelled
    smaller. Raises InputError, before any file is written, for an image that cannot be read, and where two would be
    written into the same file.
    """
    labeller = Labeller.load(model)
    places = [_Places.of(path, folder or path.parent) for path in files]
    _require_places(files, places)
    images = [_read(path) for path in files]  # before any file is written
    told = []
    for path, place, (image, size) in zip(files, places, images, strict=True):
        found = labeller(image, LARGEST)
        written = _write(found, place, path.name, size)
        shares = {"shares": found.shares(), "certainty": found.certainty()}
        told.append({"image": str(path), "files": list(map(str, written)), **shares})
        if not as_json:
            _print_labels(found, path, written)
    if as_json:
        sys.stdout.write(json.dumps({"images": told}, indent=2) + "\n")
    return 0


class _Places(NamedTuple):
    """Where an image's class numbers go, and its coloured picture."""

    plain: Path
    drawn: Path

    @staticmethod
    def of(image: Path, folder: Path) -> _Places:
        return _Places(folder / f"{image.stem}-labels.png", folder / f"{image.stem}-labelled.png")


def _require_places(files: Sequence[Path], places: Sequence[_Places]) -> None:
    """Refuse what would write one file twice, or over an image."""
    targets = Counter(path.resolve() for place in places for path in place)
    targets.update({path.resolve() for path in files} & targets.keys())
    if twice := [path for path, times in targets.items() if times > 1]:
        raise InputError(
            f"{twice[0].name} would be written twice, or over one of the images; label images of the same name one by "
            "one, each with a --folder of its own"
        )


def _read(path: Path) -> tuple[Pixels, tuple[int, int]]:
    """An image no larger than it is labelled, and its own (height, width)."""
    image = decode_image(path)
    return at_most(image, LARGEST), (image.shape[0], image.shape[1])


def _write(found: LabelledImage, place: _Places, name: str, size: tuple[int, int]) -> list[Path]:
    """Write the label map, at the size (height, width) of the image, and the coloured picture; returns the files."""
    from toolkit.plots import plot_segmentation, save_figure

    figure = plot_segmentation(
        found.image[np.newaxis], {"labels": found.labels[np.newaxis]}, found.class_names, name, style="light"
    )
    save_figure(figure, place.drawn)
    Image.fromarray(found.labels).resize((size[1], size[0]), Image.Resampling.NEAREST).save(place.plain)
    return list(place)


def _print_labels(found: LabelledImage, path: Path, written: Sequence[Path]) -> None:
    table = Table("class", title=path.name)
    for name in ("share of the pixels", "mean probability"):
        table.add_column(name, justify="right")
    certainty = found.certainty()
    for name, share in found.shares().items():
        table.add_row(name, f"{share:.2%}", f"{certainty[name]:.2%}")
    console = Console()
    console.print(table)
    console.print(f"files: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)
