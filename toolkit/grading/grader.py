"""Grading one submission: arguments go to the student's process, answers come back and are compared here."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import InputError
from toolkit.grading.compare import Judgement, clean, judge, shown, shown_call
from toolkit.grading.models import Experts, Judge, Raised, is_model, limits_for, shown_model
from toolkit.grading.questions import Arguments, Exercise, Hint, Item, Pack, Question, generator
from toolkit.grading.reports import Failure, Isolation, ItemReport, QuestionReport, Report, zeros
from toolkit.grading.sandbox import SENTENCES, DiedError, Limits, Sandbox, Student, choose
from toolkit.grading.submissions import LARGEST_FILE, SUFFIXES, require_small_file

Progress = Callable[[Report], None]

MOST_STATEMENTS = 3000
# After a call that took too long, the question's other calls get this many seconds: the next question needs the rest.
SECONDS_AFTER_LATE = 0.5


class Sandboxes:
    """The sandboxes of one level: NumPy's at once, Keras's when an exercise needs it. A context manager."""

    def __init__(
        self,
        isolation: str | None = None,
        require: str | None = None,
        limits: Limits | None = None,
        fork: bool | None = None,
    ) -> None:
        self.level = choose(isolation, require)
        self.limits = limits or Limits()
        self._fork = fork
        self._made: dict[str, Sandbox] = {}
        self._experts: list[Experts] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Sandboxes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, needs: str) -> Sandbox:
        """The sandbox whose processes have loaded what is needed; it loads in the background when it is new."""
        with self._lock:
            if needs not in self._made:
                limits = limits_for(self.limits, needs)
                self._made[needs] = Sandbox(self.level, limits, needs, self._fork)
            return self._made[needs]

    @contextlib.contextmanager
    def experts(self) -> Iterator[Experts]:
        """A process of Keras references that nobody else uses meanwhile; it lives on for the next submission."""
        with self._lock:
            found = self._experts.pop() if self._experts else Experts(lambda: self.get("keras"))
        try:
            yield found
        finally:
            self._experts.append(found)

    def close(self) -> None:
        """End them all."""
        while self._experts:
            self._experts.pop().close()
        while self._made:
            self._made.popitem()[1].close()


def grade(
    submission: Path,
    exercise: Exercise,
    *,
    seed: int = 0,
    student: str = "",
    isolation: str | None = None,
    require: str | None = None,
    public_only: bool = False,
    limits: Limits | None = None,
    pack: Pack | None = None,
    on_progress: Progress | None = None,
    sandboxes: Sandboxes | None = None,
) -> Report:
    """Grade a `.py` or `.ipynb` file. Whatever it holds, this returns a report within the time of the limits.

    `seed` and `student` decide the hidden cases: the same ones give the same report, byte for byte. `isolation` is a
    level of `sandbox.LEVELS`, the best one that the machine has otherwise; `require` is the least that will do.
    `public_only` leaves the hidden cases out. `pack` holds an instructor's further cases by question. `on_progress`
    gets the report with zeros first, and again after every question. `sandboxes` are used again and again by whoever
    grades many; isolation, require and limits are theirs then.
    Raises InputError where the machine cannot give the isolation that is demanded, and for an exercise whose reference
    fails; a submission never raises.
    """
    with contextlib.ExitStack() as stack:
        boxes = sandboxes or stack.enter_context(Sandboxes(isolation, require, limits))
        box = boxes.get(needs_of(exercise))
        level = Isolation(box.level, SENTENCES[box.level])
        report = zeros(exercise, submission.name, student, seed, level)
        progress = on_progress or (lambda _: None)
        progress(report)
        try:
            source = read_submission(submission)
        except InputError as error:
            return _told(replace(report, problem=str(error), complete=True), progress)
        rubrics = [
            _rubric(question, exercise, seed, student, public_only, pack or {}) for question in exercise.questions
        ]
        examiner = Examiner(boxes, stack.enter_context(boxes.experts()))
        stack.callback(examiner.close)
        with Attempt(box, submission.name, source, len(rubrics), examiner) as attempt:
            attempt.ready()  # before the first question's time begins
            for number, rubric in enumerate(rubrics):
                graded = _grade_question(rubric, attempt)
                questions = (*report.questions[:number], graded, *report.questions[number + 1 :])
                remarks = tuple(attempt.remarks)
                last = number == len(rubrics) - 1
                report = replace(report, questions=questions, remarks=remarks, problem=attempt.problem, complete=last)
                progress(report)
    return report


def _told(report: Report, progress: Progress) -> Report:
    progress(report)
    return report


def needs_of(exercise: Exercise) -> str:
    """What a process has to load for an exercise.

    >>> needs_of(Exercise("ch01", "One", ()))
    'numpy'
    """
    return "keras" if any(question.needs == "keras" for question in exercise.questions) else "numpy"


def read_submission(path: Path) -> bytes:
    """The bytes of a submitted file; raises InputError for anything but a regular `.py` or `.ipynb` of bounded size."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name}: a .py or .ipynb file was expected")
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}); a regular file was expected") from None
    try:
        require_small_file(path, os.fstat(file), LARGEST_FILE)
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(LARGEST_FILE)
    finally:
        os.close(file)


# The cases.


@dataclass(frozen=True)
class Case:
    """One call, and whether the student may see what is right."""

    arguments: Arguments
    public: bool


@dataclass(frozen=True)
class Rubric:
    """A question with the cases of each of its items."""

    question: Question
    items: tuple[tuple[Item, tuple[Case, ...]], ...]


def _rubric(question: Question, exercise: Exercise, seed: int, student: str, public_only: bool, pack: Pack) -> Rubric:
    items = []
    for item in question.items:
        cases = [Case(arguments, True) for arguments in item.examples]
        if not public_only and item.cases is not None:
            random = generator(seed, student, exercise.stem, question.name, item.what)
            cases += [Case(arguments, False) for arguments in item.cases(random)]
        if not public_only and item is question.items[-1] and question.name in pack:
            random = generator(seed, student, exercise.stem, question.name, item.what, "pack")
            cases += [Case(tuple(arguments), False) for arguments in pack[question.name](random)]
        items.append((item, tuple(cases)))
    return Rubric(question, tuple(items))


# The student's process, again and again.


@dataclass(frozen=True)
class Outcome:
    """What one call brought: a value, or an error in a sentence. `kind` is the name of the student's exception."""

    value: Any = None
    error: str | None = None
    kind: str = ""
    died: bool = False


@dataclass
class Attempt:
    """A submission at work: its process, started again after it died, and the time that is left."""

    sandbox: Sandbox
    name: str
    source: bytes
    questions: int
    examiner: Examiner
    remarks: list[str] = field(default_factory=list)
    problem: str | None = None
    printed: str = ""

    def __post_init__(self) -> None:
        self.until = self.now() + self.sandbox.limits.submission_seconds
        self._begun = False
        self._starts = self.sandbox.limits.starts
        self._seconds = self.sandbox.limits.statement_seconds
        self._skipped: set[int] = set()
        self._student: Student | None = None
        self._failed: dict[int, str] = {}
        self._answered = False

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._student is not None:
            self._student.stop()
            self._student = None

    @property
    def is_used(self) -> bool:
        """Whether the process has answered before: what it did then may change its answers."""
        return self._student is not None and self._answered

    def renew(self) -> None:
        """Go on in a new process, which loads the file again."""
        self._stop()
        self._starts = max(self._starts, 1)
        self.printed = ""

    @property
    def left(self) -> float:
        """Seconds that are left for the whole submission."""
        return self.until - self.now()

    def now(self) -> float:
        """A clock that stands still while our own processes work on Keras models."""
        return time.monotonic() - self.examiner.spent

    def calls(self, question: Question, cases: Sequence[Case], seconds: float, until: float) -> Iterator[Outcome]:
        """Call the student's function in a process that has loaded the file; ends with a call that ended that."""
        if not self.ready():
            yield Outcome(error=self.problem or "was not run: the file used up its time", died=True)
            return
        self._answered = True
        arguments = [list(case.arguments) for case in cases]
        request = {"do": "call", "name": question.name, "call": question.call, "cases": arguments}
        try:
            for answer in self._ask_many(request, len(cases), seconds, until):
                yield self._outcome(answer)
        except DiedError as died:
            yield Outcome(error=str(died), died=True)

    def _outcome(self, answer: Mapping[str, Any]) -> Outcome:
        if answer.get("missing") is True:
            return Outcome(error=f"is not defined{self._because()}", kind="missing")
        if isinstance(error := answer.get("error"), str):
            return Outcome(error=clean(error), kind=clean(str(answer.get("kind", ""))))
        if "value" not in answer:
            return Outcome(error="gave an answer that cannot be read")
        return Outcome(answer["value"])

    def _because(self) -> str:
        return f" ({next(iter(self._failed.values()))})" if self._failed else ""

    def _ask_many(
        self, request: Mapping[str, Any], count: int, seconds: float, until: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Answers, with what was printed noted; raises DiedError, after which there is no process."""
        assert self._student is not None  # noqa: S101 - `ready` says so
        last = min(until or self.until, self.until) + self.examiner.spent
        try:
            for answer in self._student.ask_many(request, count, seconds, last):
                if isinstance(printed := answer.get("printed"), str):
                    self.printed += clean(printed, 4000)
                yield answer
        except DiedError:
            self._student = None
            raise

    # Loading.

    def ready(self) -> bool:
        """Whether there is a process that has loaded the file; starts one where there is none."""
        while self._student is None:
            if self.problem or not self._starts or self.left <= 0:
                return False
            self._starts -= 1
            self._student = self.sandbox.start()
            self._answered = False
            if not self._begun:
                self._begun = True
                self.until = self.now() + self.sandbox.limits.submission_seconds
            try:
                self._load()
            except DiedError as died:
                if self._running is None:
                    self.problem = f"{self.name} cannot be read: it {died}"
                else:
                    self._give_up(self._running, str(died))
        return True

    def _give_up(self, number: int, how: str) -> None:
        """Leave a statement out from now on: it ended the process."""
        self._skipped.add(number)
        self._note(number, f"it {how}, so it was left out")
        self._seconds /= 2

    def _load(self) -> None:
        self._running: int | None = None
        (answer,) = self._ask_many({"do": "load", "name": self.name, "source": self.source}, 1, self._seconds)
        if isinstance(problem := answer.get("problem"), str):
            self.problem = clean(problem)
            self._stop()
            return
        self._places = [clean(str(place), 60) for place in answer.get("statements", [])]
        if len(self._places) > MOST_STATEMENTS:
            self.problem = f"{self.name} has {len(self._places):,} statements; at most {MOST_STATEMENTS:,} are run"
            self._stop()
            return
        self._run_all()

    def _run_all(self) -> None:
        """Run every statement, then those again that met a name before its definition."""
        self._failed = {number: told for number, told in self._failed.items() if number in self._skipped}
        self._run([number for number in range(len(self._places)) if number not in self._skipped])
        later = [number for number, told in self._failed.items() if "NameError: " in told]
        for number in later:
            del self._failed[number]
        self._run(later)
        for number, told in sorted(self._failed.items()):
            self._note(number, told)

    def _run(self, numbers: Sequence[int]) -> None:
        """Run statements and keep what went wrong."""
        if not numbers:
            return
        self._running = numbers[0]
        answers = self._ask_many({"do": "run", "numbers": list(numbers)}, len(numbers), self._seconds)
        for answer, number, following in zip(answers, numbers, [*numbers[1:], None], strict=True):
            self._running = following
            if isinstance(error := answer.get("error"), str):
                self._failed[number] = clean(error)

    def _note(self, number: int, told: str) -> None:
        self._failed[number] = told if told.endswith(f"({self._places[number]})") else f"{self._places[number]}: {told}"
        if self._failed[number] not in self.remarks and len(self.remarks) < 20:
            self.remarks.append(self._failed[number])


# One question.


@dataclass(frozen=True)
class Answered:
    """A case with what came back and what was right."""

    case: Case
    outcome: Outcome
    expected: Any
    judgement: Judgement


def _grade_question(rubric: Rubric, attempt: Attempt) -> QuestionReport:
    question = rubric.question
    share = attempt.left / max(1, attempt.questions)
    attempt.questions -= 1
    until = attempt.now() + share
    used, attempt.printed = attempt.is_used, ""
    answered = _answered(rubric, attempt, until, share)
    if used and _is_silent(answered):  # perhaps because of what another question did to the process
        attempt.renew()
        answered = _answered(rubric, attempt, until, share)
    items = [
        _item_report(question, item, found, len(cases))
        for (item, cases), found in zip(rubric.items, answered, strict=True)
    ]
    every = [each for found in answered for each in found]
    remarks = dict.fromkeys(remark for each in every for remark in each.judgement.remarks)
    hint = None if all(item.passed for item in items) else _hint(question, every, attempt.examiner)
    return QuestionReport(question.name, tuple(items), hint, tuple(remarks), attempt.printed[:4000])


def _answered(rubric: Rubric, attempt: Attempt, until: float, share: float) -> list[list[Answered]]:
    """The cases of every item, answered and judged."""
    found: list[list[Answered]] = []
    seconds = min(rubric.question.seconds, share)
    for _, cases in rubric.items:
        found.append(list(_answers(rubric.question, cases, attempt, until, seconds)))
        if any(each.outcome.died for each in found[-1]):
            seconds = min(seconds, SECONDS_AFTER_LATE)
    return found


def _is_silent(answered: Sequence[Sequence[Answered]]) -> bool:
    """Whether the first case that failed gave no answer. One that gave a wrong answer is never asked a second time:
    it could give another one then.
    """
    first = next((each.outcome for found in answered for each in found if each.judgement.problem), None)
    return first is not None and bool(first.error) and first.kind not in ("missing", "NotImplementedError")


def _answers(
    question: Question, cases: Sequence[Case], attempt: Attempt, until: float, seconds: float
) -> Iterator[Answered]:
    """Every case answered and judged, up to one that ended the process."""
    outcomes = attempt.calls(question, cases, seconds, until)
    if question.needs == "keras":  # whose answers are judged for seconds, while the student's time would go on
        outcomes = iter(list(outcomes))
    expected = attempt.examiner.results(question, question.reference, cases)
    for case, outcome, wanted in zip(cases, outcomes, expected, strict=False):
        if isinstance(wanted, Raised):
            raise InputError(f"the reference of {question.name} fails: {wanted.text}")
        yield Answered(case, outcome, wanted, attempt.examiner.judge_outcome(question, outcome, wanted))


class Examiner:
    """Knows what is right: in this process, or for Keras in processes of its own."""

    def __init__(self, boxes: Sandboxes, experts: Experts) -> None:
        self._experts = experts
        self._judge = Judge(lambda: boxes.get("keras"), experts)

    def close(self) -> None:
        """End the process in which a submission's models are built again."""
        self._judge.close()

    @property
    def spent(self) -> float:
        """Seconds that processes of ours took, which are not the student's."""
        return self._experts.spent

    def results(self, question: Question, function: Callable[..., Any], cases: Sequence[Case]) -> Iterator[Any]:
        """What a reference or a mistake returns for each case; a `Raised` where it raises."""
        if question.needs == "keras":
            yield from self._experts.apply(function, [case.arguments for case in cases])
            return
        for case in cases:
            try:
                yield function(*copy.deepcopy(case.arguments))
            except Exception as error:
                yield Raised(type(error).__name__, f"{type(error).__name__}: {error}")

    def judge_outcome(self, question: Question, outcome: Outcome, expected: Any) -> Judgement:
        """Whether the outcome of a call is right."""
        return Judgement(outcome.error) if outcome.error else self.judge(question, outcome.value, expected)

    def judge(self, question: Question, answer: Any, expected: Any) -> Judgement:
        """Whether one value counts as the other."""
        if question.compare.kind == "keras":
            return self._judge.judge(answer, expected, question.compare)
        return judge(answer, expected, question.compare)


def _item_report(question: Question, item: Item, found: Sequence[Answered], cases: int) -> ItemReport:
    failed = next((each for each in found if each.judgement.problem), None)
    if failed is None and len(found) == cases:
        return ItemReport(item.what, item.points, item.points)
    return ItemReport(item.what, 0, item.points, _failure(question, failed) if failed else None)


def _failure(question: Question, answered: Answered) -> Failure:
    outcome, problem = answered.outcome, str(answered.judgement.problem)
    call = shown_call(question.name, answered.case.arguments)
    expected = _shown(answered.expected) if answered.case.public else None
    if outcome.kind == "NotImplementedError":
        return Failure(call, "is not written yet", expected=expected)
    if outcome.error:
        raised = f"raised {problem}" if outcome.kind and outcome.kind != "missing" else problem
        return Failure(call, raised, expected=expected)
    return Failure(call, problem, _shown(outcome.value), expected)


def _hint(question: Question, answered: Sequence[Answered], examiner: Examiner) -> str | None:
    return next((hint.sentence for hint in question.hints if _fits(question, hint, answered, examiner)), None)


def _fits(question: Question, hint: Hint, answered: Sequence[Answered], examiner: Examiner) -> bool:
    """Whether the answers equal the mistake on every case, and at least one, on which it is one."""
    matched = False
    mistakes = examiner.results(question, hint.wrong, [each.case for each in answered])
    for each, wrong in zip(answered, mistakes, strict=True):
        if isinstance(wrong, Raised):
            same = each.outcome.kind == wrong.kind
        elif examiner.judge(question, _received(wrong), each.expected).problem is None:
            continue
        else:
            same = not each.outcome.error and examiner.judge(question, each.outcome.value, wrong).problem is None
        if not same:
            return False
        matched = True
    return matched


def _received(value: Any) -> Any:
    """A value of ours as it would have come from a student's process."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    return frozenset(value) if isinstance(value, set) else value


def _shown(value: Any) -> str:
    return shown_model(value) if is_model(value) else shown(value)
