"""The terminal's side of training: `python -m toolkit train`. Bars while it runs, a table or JSON when it is done."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from toolkit import show, system
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.loading import load_dataset
from toolkit.processes import INTERRUPTED, warm_up
from toolkit.terminal import RUNS, bars, ctrl_c, unused
from toolkit.training import Done, EpochEnd, Event, Failed, Started, Step, TrainConfig, TrainResult, network_of, train


def train_command(
    config: TrainConfig, compare: Sequence[int] = (), folder: Path | None = None, as_json: bool = False
) -> int:
    """Train the network, and the same with each of the `compare` channels beside it, and return the exit status.

    The files go into `folder`, one subfolder a network, or into new folders under `runs`. Ctrl-C stops the trainings
    and keeps what they learned; pressed again, it ends them. The status is 0, 1 where a training failed, and 130
    after Ctrl-C. Raises InputError before anything runs where a network and the dataset do not fit together.
    """
    configs = [config, *(replace(config, channels=channels) for channels in compare)]
    if len(set(configs)) < len(configs):
        raise InputError("--compare needs other channels than --channels and each number once; the same came twice")
    for each in configs:
        if each.dataset in DATASETS:
            network_of(each, DATASETS[each.dataset])
    warm_up()
    load_dataset(config.dataset)  # here, where a download can show its bar; the workers then find it on the disk
    runs = [_Run(each, place) for each, place in zip(configs, _folders(configs, folder), strict=True)]
    interrupted = _follow(runs, Console(stderr=True))
    _print(runs, as_json)
    failed = any(isinstance(run.last, Failed) for run in runs)
    return INTERRUPTED if interrupted else int(failed)


def _folders(configs: Sequence[TrainConfig], folder: Path | None) -> list[Path]:
    """Where the files of each training go."""
    names = [_name(config) for config in configs]
    if folder is not None:
        return [folder] if len(names) == 1 else [folder / name for name in names]
    return [unused(RUNS / f"{Path(config.dataset).name}-{name}") for config, name in zip(configs, names, strict=True)]


def _name(config: TrainConfig) -> str:
    """A network's name in a terminal and in a path."""
    return config.network.name if config.network else f"{config.architecture}-{config.channels}"


@dataclass
class _Run:
    """One of the trainings: its bar, and the last thing it said."""

    config: TrainConfig
    folder: Path
    bar: TaskID = field(init=False)
    last: Event | None = None

    @property
    def result(self) -> TrainResult | None:
        return self.last.result if isinstance(self.last, Done) else None


def _follow(runs: Sequence[_Run], console: Console) -> bool:
    """Train them all, side by side as far as there are processors, and show how far they are; True after Ctrl-C."""
    stop = threading.Event()
    said: queue.SimpleQueue[tuple[_Run, Event | None]] = queue.SimpleQueue()
    threads = 1 if len(runs) > 1 else None

    def pursue(run: _Run) -> None:
        try:
            for event in train(run.config, run.folder, stop, threads=threads):
                said.put((run, event))
        finally:
            said.put((run, None))

    with ctrl_c(stop), bars(console) as progress, ThreadPoolExecutor(system.cpu_count()) as pool:
        for run in runs:
            run.bar = progress.add_task(_name(run.config), total=None, said="starting")
        for run in runs:
            pool.submit(pursue, run)
        try:
            _listen(said, len(runs), progress)
        except BaseException:
            stop.set()  # else the pool would wait for trainings that nobody follows any more
            raise
    return stop.is_set()


def _listen(said: queue.SimpleQueue[tuple[_Run, Event | None]], running: int, progress: Progress) -> None:
    """Draw what is said until all are done; those that were asked to stop still have something to say."""
    while running:
        try:
            run, event = said.get(timeout=0.2)  # without a timeout, Windows does not hear Ctrl-C
        except queue.Empty:
            continue
        if event is None:
            running -= 1
        else:
            run.last = event
            _draw(progress, run, event)


def _draw(progress: Progress, run: _Run, event: Event) -> None:
    """One event on the run's bar, which counts the steps of all epochs."""
    match event:
        case Started():
            progress.update(run.bar, total=event.epochs * event.steps_per_epoch, said="compiling")
        case Step():
            done = (event.epoch - 1) * event.steps + event.step
            progress.update(run.bar, completed=done, said=_step_words(event))
        case EpochEnd():
            words = f"epoch {event.epoch}: validation accuracy {event.val_accuracy:.2%}"
            progress.console.print(f"{_name(run.config)}  {words}  ({event.seconds:.1f} s)", highlight=False)
        case Done(result):
            full = not result.stopped
            total = progress.tasks[run.bar].total
            progress.update(
                run.bar, completed=total if full else None, said=f"test accuracy {result.test_accuracy:.2%}"
            )
        case Failed(message):
            progress.update(run.bar, said=f"[red]{message}")


def _step_words(step: Step) -> str:
    return f"loss {step.loss:.4f}  accuracy {step.accuracy:.2%}  {step.images_per_second:,.0f} images/s"


def _print(runs: Sequence[_Run], as_json: bool) -> None:
    if as_json:
        first, *others = (_data(run) for run in runs)
        sys.stdout.write(json.dumps(first | {"compared": others}, indent=2) + "\n")
        return
    console = Console()
    console.print(_table(runs))
    for run in runs:
        if isinstance(run.last, Failed):
            console.print(f"{_name(run.config)}: {run.last.message}", highlight=False, soft_wrap=True)
        elif run.result:
            note = f" ({run.result.note})" if run.result.note else ""
            console.print(f"{_name(run.config)}: files in {run.folder}{note}", highlight=False, soft_wrap=True)


def _data(run: _Run) -> dict[str, object]:
    """A training as plain data: its result, or the sentence that it failed with."""
    if run.result is not None:
        return run.result.to_dict() | {"folder": str(run.folder)}
    message = run.last.message if isinstance(run.last, Failed) else "no word came from the training"
    return {"config": run.config.to_dict(), "failed": message, "folder": str(run.folder)}


def _table(runs: Sequence[_Run]) -> Table:
    """What the trainings gave, a column each."""
    table = Table("")
    for run in runs:
        table.add_column(_name(run.config), justify="right", overflow="fold")
    columns = [_figures(run.result) if run.result else {} for run in runs]
    for figure in next(filter(None, columns), {"": ""}):
        table.add_row(figure, *(column.get(figure, "failed") for column in columns))
    return table


def _figures(result: TrainResult) -> dict[str, str]:
    """The figures of a result in words."""
    return {
        "test accuracy": f"{result.test_accuracy:.2%}",
        "test loss": f"{result.test_loss:.4f}",
        "parameters": f"{result.params:,}",
        "epochs": f"{result.epochs_done} of {result.config.epochs}",
        "seconds of training": f"{result.seconds:.1f}",
        "images per second": f"{result.images_per_second:,.0f}",
        "peak memory of the process": show.readable_bytes(result.peak_memory_bytes),
    }
