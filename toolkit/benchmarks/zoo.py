"""Networks, recipes and seeds on real images: accuracy beside parameters, operations, seconds and memory.

`python -m toolkit bench zoo` trains every experiment of `toolkit.benchmarks.experiments` with each seed, in processes
of their own, and writes each finished run down as one line of `book/results/zoo/<dataset>.jsonl`. A run whose line is
there with equal settings is not repeated, so it may be stopped and started again as one likes. From the lines come the
table, `book/results/zoo.json` and what the book's figures show. `--quick` lets every experiment learn a few digits.
"""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from statistics import mean, median, stdev
from typing import ClassVar

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from toolkit import system
from toolkit.benchmarks import PACKAGES, ROOT, Check, Measured, Report, Row
from toolkit.benchmarks.experiment import Experiment
from toolkit.benchmarks.experiments import EXPERIMENTS
from toolkit.calibration import reliability
from toolkit.costs import costs
from toolkit.errors import InputError
from toolkit.loading import Dataset, load_dataset
from toolkit.processes import INTERRUPTED, Ending, start_worker, warm_up
from toolkit.recipes import Recipe
from toolkit.records import Record, append_record, read_records, training_flops
from toolkit.show import readable_bytes, readable_count
from toolkit.terminal import RUNS, bars, ctrl_c
from toolkit.training import Done, EpochEnd, Event, Failed, Started, Step, TrainResult, network_of, train

SEEDS = 3
RESULTS = Path("book") / "results"
# experiment: least mean accuracy, most parameters, most floating-point operations of a run
GOALS: dict[str, tuple[float, int, float | None]] = {
    "mnist_lean": (0.9960, 85_000, None),
    "mnist_tiny": (0.9940, 10_000, None),
    "cifar10_lean": (0.91, 1_000_000, 0.3e15),
}


@dataclass(frozen=True)
class Job:
    """One run that is wanted."""

    experiment: Experiment
    seed: int

    @property
    def name(self) -> str:
        """As bars and folders have it."""
        return f"{self.experiment.name}-{self.seed}"

    @property
    def command(self) -> str:
        """The command that makes this run, with those of smaller seeds."""
        backend = system.backend()
        other = "" if backend == "tensorflow" else f" --backend {backend}"
        return f"python -m toolkit bench zoo --models {self.experiment.name} --seeds {self.seed + 1}{other}"


def chosen(datasets: Sequence[str] = (), models: Sequence[str] = ()) -> list[Experiment]:
    """The experiments on these datasets (all, where none is named) that the `models` name.

    Each is the name of an experiment, what several begin with, or a network. Raises InputError where nothing is left.

    >>> [experiment.name for experiment in chosen(["mnist"], ["mnist_tiny", "lenet5"])]
    ['mnist_tiny', 'mnist_lenet5']
    """
    found = [
        each
        for each in EXPERIMENTS.values()
        if (not datasets or each.dataset in datasets) and (not models or any(_named(each, name) for name in models))
    ]
    if not found:
        raise InputError(
            f"no experiment fits --dataset {' '.join(datasets) or '(any)'} and --models {' '.join(models) or '(any)'}; "
            f"the experiments are {', '.join(EXPERIMENTS)}"
        )
    return found


def _named(experiment: Experiment, name: str) -> bool:
    if name in EXPERIMENTS:
        return experiment.name == name
    return experiment.name.startswith(name) or experiment.architecture == name


def jobs(experiments: Iterable[Experiment], seeds: int, first: int = 0) -> list[Job]:
    """Every experiment with each seed: by the experiments' order, all of one order with a seed before the next."""
    wanted = [Job(each, seed) for each in experiments for seed in range(first, first + seeds)]
    return sorted(wanted, key=lambda job: (job.experiment.order, job.seed))


def missing(wanted: Sequence[Job], records: Iterable[Record]) -> list[Job]:
    """The jobs that no record has done with equal settings, on this backend."""
    done = [_done(record) for record in records]
    return [job for job in wanted if _wanted(job) not in done]


def _wanted(job: Job) -> tuple[object, ...]:
    """What decides how a run turns out; `_done` says the same of a record."""
    each = job.experiment
    settings = (each.recipe.to_dict(), dict(each.options), each.validation_fraction)
    return each.name, each.dataset, each.architecture, job.seed, each.params, system.backend(), *settings


def _done(record: Record) -> tuple[object, ...]:
    recipe = {**Recipe().to_dict(), **record.recipe}  # what a recipe had not yet when it ran was as it is by default
    settings = (recipe, dict(record.options), record.validation_fraction)
    return (
        *(record.experiment, record.dataset, record.architecture, record.seed, record.params, record.backend),
        *settings,
    )


# Running.


def zoo_command(
    datasets: Sequence[str] = (),
    models: Sequence[str] = (),
    seeds: int = SEEDS,
    budget_minutes: float | None = None,
    quick: bool = False,
    as_json: bool = False,
    seed: int = 0,
) -> int:
    """Make the runs that are missing, print the table, write the report, and return the exit status.

    No run is begun that, by what its experiment promises, would not be done within `budget_minutes`. The status is 1
    where a promise that was measured is not kept, and 130 after Ctrl-C, which keeps the finished runs. Raises
    InputError where no experiment fits.
    """
    experiments = chosen(datasets, models)
    begun, date = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    if quick:
        measured, interrupted = measure(True, seed), False
    else:
        folder = _results_folder()
        todo = missing(jobs(experiments, seeds, seed), read_records(folder / "zoo"))
        interrupted = _make(todo, folder / "zoo", budget_minutes)
        records = read_records(folder / "zoo")
        measured = summarized(records)
    seconds = round(time.monotonic() - begun, 1)
    machine, versions = system.describe_machine(), system.package_versions(*PACKAGES)
    report = Report("zoo", machine, versions, date, seed, seconds, quick, measured.rows, measured.checks)
    if not quick:
        (folder / "zoo.json").write_text(report.to_json() + "\n", encoding="utf-8")
        _draw_figures(records, folder / "zoo")
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        sys.stdout.write((_quick_table(report) if quick else table(records)) + "\n")
        sys.stdout.write("\n" + checks_table(report.checks) + "\n")
    return INTERRUPTED if interrupted else int(not report.ok)


def _draw_figures(records: Sequence[Record], folder: Path) -> None:
    """The figures of the stored runs, beside them; matplotlib is loaded for them only."""
    from toolkit.zoo_plots import save_zoo_figures

    if records:
        save_zoo_figures(records, folder)


def _results_folder() -> Path:
    """`book/results` of the repository, or of the current folder where the toolkit was installed without one."""
    home = ROOT if (ROOT / "pyproject.toml").is_file() else Path()
    (home / RESULTS).mkdir(parents=True, exist_ok=True)
    return home / RESULTS


def _make(todo: Sequence[Job], folder: Path, budget_minutes: float | None) -> bool:
    """Run the jobs one after the other, each with all processors, and write them down; True after Ctrl-C."""
    stop = threading.Event()
    end = time.monotonic() + 60 * budget_minutes if budget_minutes is not None else float("inf")
    warm_up()
    with ctrl_c(stop), bars(Console(stderr=True)) as progress:
        all_runs = progress.add_task("runs", total=len(todo), said="")
        for job in todo:
            if time.monotonic() + 60 * job.experiment.promise.minutes > end:
                progress.console.print(f"{job.name}: not begun, it may take longer than is left", highlight=False)
                continue
            record = _run(job, stop, progress)
            if stop.is_set():
                break
            if record is not None:
                append_record(folder, record)
            progress.advance(all_runs)
    return stop.is_set()


def _run(job: Job, stop: threading.Event, progress: Progress) -> Record | None:
    """Train, and say how it went; None where it failed or was stopped."""
    config = job.experiment.config(job.seed)
    load_dataset(config.dataset)  # here, where a download can show its bar; the worker then finds it on the disk
    bar = progress.add_task(job.name, total=None, said="starting")
    started, last = Started(0, 0, 0, 0, 0, 0), None
    for last in train(config, RUNS / "zoo" / job.name, stop):
        started = last if isinstance(last, Started) else started
        _draw(progress, bar, last)
    progress.remove_task(bar)
    if isinstance(last, Done) and not last.result.stopped:
        record = recorded(job, last.result, started.train_images)
        words = f"test accuracy {record.test_accuracy:.2%} in {record.seconds / 60:.1f} minutes"
        progress.console.print(f"{job.name}: {words}", highlight=False)
        return record
    reason = last.message if isinstance(last, Failed) else last.result.note if isinstance(last, Done) else "no word"
    progress.console.print(f"{job.name}: {reason}", highlight=False)
    return None


def _draw(progress: Progress, bar: TaskID, event: Event) -> None:
    match event:
        case Started():
            progress.update(bar, total=event.epochs * event.steps_per_epoch, said="compiling")
        case Step():
            done = (event.epoch - 1) * event.steps + event.step
            progress.update(bar, completed=done, said=f"loss {event.loss:.3f}  {event.images_per_second:,.0f} images/s")
        case EpochEnd():
            progress.update(bar, said=f"epoch {event.epoch}: validation accuracy {event.val_accuracy:.2%}")


def recorded(job: Job, result: TrainResult, train_images: int) -> Record:
    """The record of a finished run, from its result and the files in its folder."""
    experiment, config = job.experiment, result.config
    data = _dataset(config.dataset)
    macs = costs(network_of(config, data.info)).macs
    with np.load(result.folder / "predictions.npz") as found:
        probabilities, index = found["probabilities"], found["index"]
    return Record(
        experiment=experiment.name,
        dataset=config.dataset,
        architecture=experiment.architecture,
        options=dict(experiment.options),
        recipe=config.learning.to_dict(),
        recipe_name=experiment.recipe.name,
        seed=job.seed,
        epochs=result.epochs_done,
        train_images=train_images,
        validation_fraction=config.validation_fraction,
        params=result.params,
        macs=macs,
        training_flops=training_flops(macs, train_images, result.epochs_done),
        seconds=round(result.seconds, 2),
        images_per_second=round(result.images_per_second, 1),
        peak_bytes=result.peak_memory_bytes,
        validation_accuracy=result.validation_accuracy or 0.0,
        test_accuracy=result.test_accuracy,
        test_loss=result.test_loss,
        augmented_test_accuracy=result.augmented_test_accuracy,
        per_class=[result.per_class_accuracy.get(name, 0.0) for name in data.info.class_names],
        class_names=list(data.info.class_names),
        confusion=[list(row) for row in result.confusion],
        history={curve: [round(value, 5) for value in values] for curve, values in result.history.items()},
        calibration=reliability(probabilities, data.y_test[index]).to_dict(),
        machine=system.describe_machine(),
        versions=system.package_versions(*PACKAGES),
        backend=system.backend(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=job.command,
        folder=str(result.folder),
    )


@lru_cache(maxsize=1)
def _dataset(name: str) -> Dataset:
    return load_dataset(name)


# What the records say.


def by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each experiment, in the order in which they are run; what is no experiment any more comes last."""
    found: dict[str, list[Record]] = {name: [] for name in EXPERIMENTS}
    for record in records:
        found.setdefault(record.experiment, []).append(record)
    return {name: group for name, group in found.items() if group}


def summarized(records: Sequence[Record]) -> Measured:
    """Rows and checks from the stored runs. A promise of an experiment that was not run is left out."""
    groups = by_experiment(records)
    rows = [row for name, group in groups.items() for row in _rows(name, group)]
    checks = [check for name, goal in GOALS.items() for check in _goal_checks(name, groups.get(name, []), *goal)]
    checks += [check for name, group in groups.items() if name in EXPERIMENTS for check in _promise_checks(name, group)]
    return Measured(tuple(rows), tuple(checks))


def _rows(name: str, group: Sequence[Record]) -> list[Row]:
    views = [record.augmented_test_accuracy for record in group if record.augmented_test_accuracy is not None]
    return [
        Row.of(f"{name}: test accuracy", "share", [record.accuracy for record in group]),
        *([Row.of(f"{name}: test accuracy, mean of views", "share", views)] if views else []),
        Row.of(f"{name}: parameters", "", [record.params for record in group]),
        Row.of(f"{name}: training operations", "PFLOP", [record.training_flops / 1e15 for record in group]),
        Row.of(f"{name}: training", "s", [record.seconds for record in group]),
        Row.of(f"{name}: peak memory", "MiB", [record.peak_bytes / 2**20 for record in group]),
    ]


def _goal_checks(name: str, group: Sequence[Record], accuracy: float, params: int, flops: float | None) -> list[Check]:
    """The zoo's own promises. Accuracy is held against the mean of at least three seeds; with fewer there is none."""
    checks = [Check.at_most(f"{name}: parameters", EXPERIMENTS[name].params, params)]
    if flops is not None:
        spent = max([record.training_flops for record in group] or [EXPERIMENTS[name].training_flops])
        checks.append(Check.at_most(f"{name}: PFLOP of training", spent / 1e15, flops / 1e15))
    if len(group) >= SEEDS:
        found = mean(record.accuracy for record in group)
        checks.append(Check.at_least(f"{name}: mean test accuracy of {len(group)} seeds", found, accuracy))
    return checks


def _promise_checks(name: str, group: Sequence[Record]) -> list[Check]:
    """What the experiment's own file promises."""
    promise = EXPERIMENTS[name].promise
    return [
        Check.at_least(f"{name}: promised accuracy", mean(record.accuracy for record in group), promise.accuracy),
        Check.at_most(f"{name}: minutes", median(record.seconds for record in group) / 60, promise.minutes),
        Check.at_most(f"{name}: MiB", max(record.peak_bytes for record in group) / 2**20, promise.mib),
    ]


def table(records: Sequence[Record]) -> str:
    """The stored runs as a Markdown table: an experiment a line, means and standard deviations over its seeds."""
    lines = [
        "| experiment | network | recipe | test accuracy | seeds | parameters | MACs | training | time | peak memory |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_table_line(name, group) for name, group in by_experiment(records).items()]
    return "\n".join(lines)


def _table_line(name: str, group: Sequence[Record]) -> str:
    first = group[0]
    cells = (
        name,
        first.architecture,
        first.recipe_name,
        spread([record.accuracy for record in group]),
        str(len(group)),
        f"{first.params:,}",
        readable_count(first.macs),
        f"{mean(record.training_flops for record in group) / 1e15:.3f} PFLOP",
        f"{median(record.seconds for record in group):,.0f} s",
        readable_bytes(max(record.peak_bytes for record in group), "MiB"),
    )
    return f"| {' | '.join(cells)} |"


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation (of a sample) in per cent; of a single one there is no deviation.

    >>> spread([0.99, 0.98, 0.97]), spread([0.5])
    ('98.00 ± 1.00 %', '50.00 %')
    """
    deviation = f" ± {100 * stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.2f}{deviation} %"


def checks_table(checks: Sequence[Check]) -> str:
    """The promises as a Markdown table."""
    lines = ["| promise | measured | goal | kept |", "|---|---:|---|---|"]
    lines += [f"| {c.name} | {c.value:,.4g} | {c.goal} | {'yes' if c.ok else 'NO'} |" for c in checks]
    return "\n".join(lines)


# The quick form.


@dataclass(frozen=True)
class Smoke:
    """A task for a worker: the smoke form of these experiments; returns (seconds, training loss) of each by name."""

    names: tuple[str, ...]
    seed: int

    work: ClassVar[str] = "toolkit.benchmarks.fits:smoke"

    def ended(self, ending: Ending) -> object:
        raise RuntimeError(f"the benchmark's process ended: {ending}")


def measure(quick: bool, seed: int) -> Measured:
    """The stored runs; `quick` instead lets every experiment learn a few digits, and holds what needs no training: the
    promises on parameters and operations.
    """
    if not quick:
        return summarized(read_records(_results_folder() / "zoo"))
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-bench-", ignore_cleanup_errors=True) as folder:
        worker = start_worker(Smoke(tuple(EXPERIMENTS), seed), Path(folder))
        *_, found = (event for event in worker.events() if event is not None)
    rows = [Row.of(f"{name}: on a few digits", "s", [seconds]) for name, (seconds, _) in found.items()]
    finite = sum(math.isfinite(loss) for _, loss in found.values())
    checks = [Check.at_least("experiments that learn", finite, len(EXPERIMENTS))]
    checks += [check for name, goal in GOALS.items() for check in _goal_checks(name, [], *goal)]
    return Measured(tuple(rows), tuple(checks))


def _quick_table(report: Report) -> str:
    lines = ["| measured | unit | value |", "|---|---|---:|"]
    lines += [f"| {row.what} | {row.unit} | {row.median:.3g} |" for row in report.rows]
    return "\n".join(lines)
