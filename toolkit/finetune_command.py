"""The terminal's side of fine-tuning: `python -m toolkit finetune` and `python -m toolkit predict`."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from toolkit import show
from toolkit.errors import InputError
from toolkit.finetuning import (
    CHECKPOINT_FILE,
    RUN_FILE,
    Event,
    Export,
    FinetuneConfig,
    FinetuneResult,
    Finished,
    Looked,
    PhaseBegins,
    class_table,
    finetune,
)
from toolkit.finetuning import Progress as Told
from toolkit.loading import decode_image
from toolkit.photos import check_photos, problem_pictures
from toolkit.processes import INTERRUPTED, warm_up
from toolkit.terminal import RUNS, bars, ctrl_c, silence, unused
from toolkit.training import EpochEnd, Failed, Step

if TYPE_CHECKING:
    import keras

_SHOWN_MISTAKES = 5


def check_command(photos: Path, as_json: bool = False, pictures: Path | None = None) -> int:
    """Print what a look at the photos finds, and return 0, or 1 where nothing can be learned from them.

    `pictures` is a file (.png, .svg, .pdf) for pictures of the photos that have a problem.
    """
    report = check_photos(photos)
    if pictures is not None:
        from toolkit.plots import plot_photo_groups, save_figure

        save_figure(plot_photo_groups(problem_pictures(report), style="light"), pictures)
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report.table()
    sys.stdout.write(text + "\n")
    try:
        report.require_usable()
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def finetune_command(
    photos: Path | None,
    config: FinetuneConfig | None = None,
    folder: Path | None = None,
    *,
    resume: Path | None = None,
    as_json: bool = False,
) -> int:
    """Fine-tune, print the result, and return 0, 1 where it failed, or 130 after Ctrl-C.

    The files go into `folder`, or into a new one under `runs`. Ctrl-C ends the run and keeps its best epoch; pressed
    again, it ends it at once. `resume` is the folder of a run to go on with: its photos and settings are those that it
    had. Raises InputError where there is nothing to begin or to go on with.
    """
    if resume is not None:
        photos, config = _begun_with(resume)
        folder = resume
    elif photos is None:
        raise InputError("give a folder with a subfolder of photos for each class, or --resume and the folder of a run")
    config = config or FinetuneConfig()
    folder = folder or unused(RUNS / f"{photos.stem}-{config.base}")
    console = Console(stderr=True)
    warm_up()
    stop = threading.Event()
    last: Event | None = None
    with ctrl_c(stop), _Bars(console) as bars:
        for event in finetune(photos, config, folder, stop, resume=resume is not None):
            bars.draw(event)
            last = event
    _print(last, folder, as_json)
    return INTERRUPTED if stop.is_set() else int(not isinstance(last, Finished))


def _begun_with(folder: Path) -> tuple[Path, FinetuneConfig]:
    """The photos and the settings of a run; raises InputError where there is no run to go on with."""
    try:
        told = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        config = FinetuneConfig.from_dict(told["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not the folder of a fine-tuning ({error}); give one that was begun") from error
    if not (folder / CHECKPOINT_FILE).is_file():
        raise InputError(f"the run in {folder} had not finished its first epoch; begin it anew, without --resume")
    return Path(told["photos"]), config


class _Bars:
    """What a run says, as bars: one for each kind of preparation, one for each phase."""

    def __init__(self, console: Console) -> None:
        self._progress = bars(console)
        self._bars: dict[str, TaskID] = {}
        self._phase = ""

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def draw(self, event: Event) -> None:
        """One event on its bar."""
        match event:
            case Told(what, done, total):
                self._progress.update(self._bar(what), completed=done, total=total)
            case Looked():
                self._progress.console.print(escape(event.report), highlight=False)
            case PhaseBegins():
                self._phase = {"head": "the head learns", "blocks": "the last blocks learn"}[event.phase]
                steps = event.steps_per_epoch
                bar = self._bar(self._phase)
                self._progress.update(bar, total=event.epochs * steps, completed=event.epochs_done * steps)
            case Step():
                done = (event.epoch - 1) * event.steps + event.step
                words = f"loss {event.loss:.3f}  accuracy {event.accuracy:.1%}  {event.images_per_second:,.0f} photos/s"
                self._progress.update(self._bar(self._phase), completed=done, said=words)
            case EpochEnd():
                words = f"epoch {event.epoch}: validation accuracy {event.val_accuracy:.1%}, loss {event.val_loss:.3f}"
                self._progress.console.print(f"{self._phase}, {words}  ({event.seconds:.1f} s)", highlight=False)
            case Finished(result):
                self._progress.update(self._bar(self._phase), said=f"test accuracy {result.test_accuracy:.1%}")
            case Failed(message):
                self._progress.console.print(f"[red]{escape(message)}", highlight=False)

    def _bar(self, name: str) -> TaskID:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=None, said="")
        return self._bars[name]


def _print(last: Event | None, folder: Path, as_json: bool) -> None:
    if isinstance(last, Finished):
        told = last.result.to_dict() | {"folder": str(folder)}
        text = json.dumps(told, indent=2, ensure_ascii=False) if as_json else result_text(last.result)
    else:
        message = last.message if isinstance(last, Failed) else "no word came from the fine-tuning"
        text = json.dumps({"failed": message, "folder": str(folder)}, indent=2) if as_json else ""
    sys.stdout.write(text + "\n" if text else "")


def result_text(result: FinetuneResult) -> str:
    """A result for people: how good, on which classes, where it was surest and wrong, which files."""
    low, high = result.test_interval
    heading = (
        f"test accuracy {result.test_accuracy:.1%} of {result.tested_images} photos ({low:.1%} to {high:.1%} at 95 %)"
    )
    mistakes = [
        f"  {each.answer} {each.probability:.0%}, is {each.true}: {each.path}"
        for each in result.mistakes[:_SHOWN_MISTAKES]
    ]
    files = [f"  {_export_words(export)}" for export in result.exports.values()]
    parts = [
        heading + (f"; {result.note}" if result.note else ""),
        show.columns(class_table(result)),
        "\n".join(["the surest mistakes", *mistakes]) if mistakes else "",
        "\n".join([f"files in {result.folder}", *files]),
    ]
    return "\n\n".join(filter(None, parts))


def _export_words(export: Export) -> str:
    tested = "" if export.test_accuracy is None else f", test accuracy {export.test_accuracy:.1%}"
    return f"{export.file}: {show.readable_bytes(export.bytes)}{tested} ({export.note})" if export.file else export.note


# Predicting.


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file: the likeliest classes with their probabilities; or why it says nothing."""

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    failed: str = ""


def predict(model: keras.Model, class_names: Sequence[str], paths: Sequence[Path], top: int = 3) -> list[Prediction]:
    """The `top` answers of a saved classifier to each photo; one that cannot be read is a prediction that says why."""
    from toolkit.outcomes import classify

    found = []
    for path in paths:
        try:
            image = decode_image(path, near=512)
        except InputError as error:
            found.append(Prediction(str(path), failed=str(error)))
            continue
        shares = classify(model, image)
        order = np.argsort(-shares, kind="stable")[:top].tolist()
        best = tuple(class_names[i] for i in order), tuple(float(shares[i]) for i in order)
        found.append(Prediction(str(path), *best))
    return found


def predict_command(model: Path, files: Sequence[Path], top: int = 3, as_json: bool = False) -> int:
    """Print what a saved classifier says of photos, and return 0, or 1 where one of them could not be read.

    `model` is a .keras file or the folder of a run; a folder among `files` stands for the files in it. Raises
    InputError where there is no model.
    """
    if top < 1:
        raise InputError(f"top must be at least 1; {top} came")
    paths = [path for file in files for path in (sorted(file.iterdir()) if file.is_dir() else [file])]
    if not paths:
        raise InputError("give at least one photo")
    with silence():
        from toolkit.outcomes import load_model

        classifier, names = load_model(model)
    found = predict(classifier, names, paths, top)
    if as_json:
        sys.stdout.write(json.dumps([vars(each) for each in found], indent=2, ensure_ascii=False) + "\n")
    else:
        Console().print(_table(found))
    return int(any(each.failed for each in found))


def _table(found: Sequence[Prediction]) -> Table:
    table = Table("photo", "answers")
    for each in found:
        pairs = zip(each.classes, each.probabilities, strict=True)
        answers = ", ".join(f"{name} {share:.1%}" for name, share in pairs)
        table.add_row(escape(each.path), f"[red]{escape(each.failed)}" if each.failed else escape(answers))
    return table
