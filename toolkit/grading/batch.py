"""A folder of submissions graded by several processes; what is done stays done, whatever ends the run.

Every result file is there with zeros before the first submission is graded, and is replaced as a whole after every
question. A result that is complete and belongs to the same file, exercise and seed is not graded again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.grading import exports
from toolkit.grading.grader import Sandboxes, grade
from toolkit.grading.questions import Exercise, Pack
from toolkit.grading.reports import Isolation, Report, zeros
from toolkit.grading.sandbox import SENTENCES, Limits, choose
from toolkit.grading.submissions import Task, candidates, digest, load_exercise, load_pack, tasks

REPORT, FINGERPRINT, TABLE = "report.json", "graded.txt", "grades.csv"
# A process of ours that says nothing for so long is started again; no submission takes a third of it.
SILENT_SECONDS = 120.0
TABLE_SECONDS = 1.0
# Among many submissions, `report.json` is replaced after every question, the forms made of it not more often than this.
FORMS_SECONDS = 0.5


@dataclass(frozen=True)
class Settings:
    """How all submissions of a folder are graded; `exercise` is a stem or a file of checks, `pack` a file or ""."""

    exercise: str
    out: str
    seed: int = 0
    isolation: str | None = None
    require: str | None = None
    public_only: bool = False
    pack: str = ""
    limits: Limits = field(default_factory=Limits)


# Result files.


def write_results(folder: Path, report: Report, environment: Mapping[str, str] | None = None) -> None:
    """Write a report in all its forms, each file as a whole; `environment` is that of Classroom 50's runner."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, export in exports.EXPORTS.items():
        text = export(report)
        if environment is not None and name == "result.json":
            text = exports.classroom50(report, exports.Classroom.of(report, environment))
        write_whole(folder / name, text)
    write_whole(folder / REPORT, report.to_json())


def write_progress(folder: Path, report: Report) -> None:
    """Write only what the others are made of."""
    write_whole(folder / REPORT, report.to_json())


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, so that nobody ever reads a part of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(path)


def read_report(folder: Path) -> Report | None:
    """The report in a folder of results, None where there is none that can be read."""
    try:
        return Report.from_json((folder / REPORT).read_text("utf-8"))
    except (OSError, KeyError, TypeError, ValueError):
        return None


# One submission, in a process that grades many.


class Grader:
    """Grades one task after the other with the same sandboxes; a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = load_exercise(settings.exercise)
        self._pack: Pack = load_pack(Path(settings.pack)) if settings.pack else {}
        packed = digest([Path(settings.pack)]) if settings.pack else ""
        self._key = f"{self._source.digest} {packed} {settings.seed} {settings.public_only}"
        self._boxes = Sandboxes(settings.isolation, settings.require, settings.limits)

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self._boxes.close()

    @property
    def exercise(self) -> Exercise:
        """What is graded."""
        return self._source.exercise

    def grade(self, task: Task, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Report:
        """Grade a task and write its results, or take those that are there; `folder` is another place for them."""
        folder = folder or Path(self._settings.out, task.folder)
        with tempfile.TemporaryDirectory(prefix="submission-") as scratch:
            files, problem = self._files(task, Path(scratch))
            mark = f"{self._key} {task.student!a} {digest(files)} {problem!a}\n"
            if (done := _done(folder, mark)) is not None:
                return done
            return self._graded(task, files, problem, folder, mark, environment)

    def _files(self, task: Task, scratch: Path) -> tuple[list[Path], str]:
        """The files that may be the answer, and a sentence where there is none."""
        found: list[Path] = []
        problems = []
        for number, path in enumerate(task.paths):
            try:
                found += candidates(path, self.exercise.stem, scratch / str(number))
            except (InputError, OSError) as error:
                problems.append(str(error))
        return found, "" if found else "; ".join(problems)

    def _graded(
        self,
        task: Task,
        files: Sequence[Path],
        problem: str,
        folder: Path,
        mark: str,
        environment: Mapping[str, str] | None,
    ) -> Report:
        level = Isolation(self._boxes.level, SENTENCES[self._boxes.level])
        name = task.paths[0].name
        best = zeros(self.exercise, name, task.student, self._settings.seed, level)
        if read_report(folder) != best:
            write_results(folder, best, environment)
        if not files:
            best = replace(best, problem=problem, complete=True)
        for path in files:
            best = self._better(best, path, task, folder, environment)
        if len(files) > 1:
            said = f"{len(files)} files were handed in; {best.submission} counts, which has the most points"
            best = replace(best, remarks=(*best.remarks, said))
        write_results(folder, best, environment)
        write_whole(folder / FINGERPRINT, mark)
        return best

    def _better(
        self, best: Report, path: Path, task: Task, folder: Path, environment: Mapping[str, str] | None
    ) -> Report:
        """The report of a file, or the best one so far where that has more points."""
        written = time.monotonic()

        def keep(report: Report) -> None:
            nonlocal written
            if report.points <= best.points:
                return
            if environment is None and time.monotonic() - written < FORMS_SECONDS:
                write_progress(folder, replace(report, complete=False))
            else:
                write_results(folder, replace(report, complete=False), environment)
                written = time.monotonic()

        report = grade(
            path,
            self.exercise,
            seed=self._settings.seed,
            student=task.student,
            public_only=self._settings.public_only,
            pack=self._pack,
            on_progress=keep,
            sandboxes=self._boxes,
        )
        return report if report.points > best.points or not best.complete else best


def _done(folder: Path, mark: str) -> Report | None:
    """The complete results of just this submission, if they are there."""
    with contextlib.suppress(OSError):
        if (folder / FINGERPRINT).read_text("utf-8") == mark and all(
            (folder / name).is_file() for name in exports.EXPORTS
        ):
            report = read_report(folder)
            return report if report is not None and report.complete else None
    return None


# Many submissions.


def work() -> None:
    """A process that grades: settings and then tasks come in as lines of JSON, reports go out the same way."""
    sys.stdout.reconfigure(newline="\n")  # type: ignore[union-attr]
    told = json.loads(sys.stdin.readline())
    with Grader(Settings(**{**told, "limits": Limits(**told["limits"])})) as grader:
        for line in sys.stdin:
            asked = json.loads(line)
            task = Task(asked["student"], asked["folder"], tuple(map(Path, asked["paths"])))
            sys.stdout.write(json.dumps(grader.grade(task).to_json()) + "\n")
            sys.stdout.flush()


class _Job:
    """One such process as its parent sees it, started again when it ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def grade(self, task: Task) -> Report | None:
        """The report of a task; None where the process ended over it, twice."""
        for _ in range(2):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                return self._ask(task)
            self.close(at_once=True)
        return None

    def _ask(self, task: Task) -> Report:
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        watch = threading.Timer(SILENT_SECONDS, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps({**asdict(task), "paths": [str(path) for path in task.paths]}) + "\n")
            process.stdin.flush()
            return Report.from_json(json.loads(process.stdout.readline()))
        finally:
            watch.cancel()

    def _start(self) -> subprocess.Popen[str]:
        code = f"import sys; sys.path[:] = {sys.path!r}; from toolkit.grading.batch import work; work()"
        options: dict[str, Any] = {"start_new_session": True}  # no Ctrl-C of the terminal comes here
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        process = subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **one},
            **options,
        )
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(json.dumps(asdict(self._settings)) + "\n")
        return process

    def close(self, at_once: bool = False) -> None:
        """Let the process end: after what it has, or at once."""
        process, self._process = self._process, None
        if process is None:
            return
        if at_once:
            process.kill()
        with contextlib.suppress(OSError, ValueError):  # a thread of ours may still be talking to it
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(0 if at_once else SILENT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@dataclass(frozen=True)
class Graded:
    """One submission that is done; `done` of `total` are."""

    task: Task
    report: Report
    done: int
    total: int


def grade_folder(
    folder: Path, settings: Settings, jobs: int = 1, stop: threading.Event | None = None
) -> Iterator[Graded]:
    """Grade all submissions in a folder with so many processes, and yield each that is done.

    Writes `OUT/STUDENT/` for each and `OUT/grades.csv`. Setting `stop` ends it after the submissions at work.
    Raises InputError for a folder without submissions, an exercise or a pack that cannot be read, and isolation that
    the machine does not have.
    """
    level = choose(settings.isolation, settings.require)
    settings = replace(settings, isolation=level)
    exercise = load_exercise(settings.exercise).exercise
    if settings.pack:
        load_pack(Path(settings.pack))
    wanted = tasks(folder, exercise.stem)
    table = _Table(exercise, settings, level, wanted)
    stop = stop or threading.Event()
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in wanted:
        waiting.put(task)
    done: queue.SimpleQueue[tuple[Task, Report | None] | None] = queue.SimpleQueue()
    pool = [_Job(settings) for _ in range(max(1, min(jobs, len(wanted))))]
    threads = [threading.Thread(target=_work_off, args=(job, waiting, done, stop), daemon=True) for job in pool]
    for thread in threads:
        thread.start()
    try:
        yield from _collected(table, done, len(threads))
    finally:
        while not waiting.empty():  # nobody goes on where this was left early
            with contextlib.suppress(queue.Empty):
                waiting.get_nowait()
        for job in pool:
            job.close()
        table.write()


def _work_off(
    job: _Job,
    waiting: queue.SimpleQueue[Task],
    done: queue.SimpleQueue[tuple[Task, Report | None] | None],
    stop: threading.Event,
) -> None:
    try:
        while not stop.is_set():
            task = waiting.get_nowait()
            done.put((task, job.grade(task)))
    except queue.Empty:
        pass
    finally:
        done.put(None)


def _collected(
    table: _Table, done: queue.SimpleQueue[tuple[Task, Report | None] | None], working: int
) -> Iterator[Graded]:
    count = 0
    while working:
        found = done.get()
        if found is None:
            working -= 1
            continue
        count += 1
        yield Graded(found[0], table.enter(*found), count, len(table.reports))


class _Table:
    """`grades.csv`: a row for every submission from the beginning on."""

    def __init__(self, exercise: Exercise, settings: Settings, level: str, wanted: Sequence[Task]) -> None:
        self._exercise, self._out = exercise, Path(settings.out)
        self._out.mkdir(parents=True, exist_ok=True)
        self._written = 0.0
        self.reports: dict[str, Report] = {}
        isolation = Isolation(level, SENTENCES[level])
        for task in wanted:
            nothing = zeros(exercise, task.paths[0].name, task.student, settings.seed, isolation)
            there = read_report(self._out / task.folder)
            if there is None:
                write_results(self._out / task.folder, nothing)
            ours = there is not None and (there.exercise, there.seed) == (exercise.stem, settings.seed)
            self.reports[task.folder] = there if there is not None and ours else nothing
        self.write()

    def enter(self, task: Task, report: Report | None) -> Report:
        """Take a report in; without one, the grader itself failed, and the row says so."""
        if report is None:
            said = "the grader ended over this submission, twice; grade it alone to see why"
            report = replace(self.reports[task.folder], problem=said)
            write_results(self._out / task.folder, report)
        self.reports[task.folder] = report
        if time.monotonic() - self._written > TABLE_SECONDS:
            self.write()
        return report

    def write(self) -> None:
        """Replace the file."""
        write_whole(self._out / TABLE, exports.grades(self._exercise, self.reports.values()))
        self._written = time.monotonic()
