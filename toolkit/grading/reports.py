"""What a grading found, as frozen data without times or dates: the same seed gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from toolkit.grading.questions import Exercise


@dataclass(frozen=True)
class Failure:
    """The first case of an item that did not pass. `expected` is None where the case is hidden."""

    arguments: str
    sentence: str
    returned: str | None = None
    expected: str | None = None


@dataclass(frozen=True)
class ItemReport:
    """A line of the rubric; it passed when nothing failed in it and it was reached."""

    what: str
    points: int
    out_of: int
    failure: Failure | None = None

    @property
    def passed(self) -> bool:
        """Whether it pays."""
        return self.points == self.out_of


@dataclass(frozen=True)
class QuestionReport:
    """One question: its items, the hint that fits, remarks that cost nothing, and what the student's code printed."""

    name: str
    items: tuple[ItemReport, ...]
    hint: str | None = None
    remarks: tuple[str, ...] = ()
    printed: str = ""
    graded: bool = True

    @property
    def points(self) -> int:
        """What was earned."""
        return sum(item.points for item in self.items)

    @property
    def out_of(self) -> int:
        """What can be earned."""
        return sum(item.out_of for item in self.items)

    @property
    def sentence(self) -> str:
        """The line that names the question and says what failed first; never empty."""
        failed = [item for item in self.items if not item.passed]
        if not self.graded:
            return f"{self.name}: not graded yet"
        if not failed:
            return f"{self.name}: all right"
        first = failed[0]
        return f"{self.name}: {first.failure.sentence if first.failure else first.what + ' was not reached'}"


@dataclass(frozen=True)
class Isolation:
    """What kept the student's code apart: `level` is a name of `sandbox.LEVELS`, `sentence` says it to people."""

    level: str
    sentence: str


@dataclass(frozen=True)
class Report:
    """One graded submission. `remarks` are about the file: statements that failed, cells that were skipped.

    `problem` says why a submission could not be graded at all (no such file, an archive that is none); all questions
    have 0 points then. `complete` is False while questions are still to come.
    """

    exercise: str
    title: str
    submission: str
    student: str
    seed: int
    questions: tuple[QuestionReport, ...]
    isolation: Isolation
    remarks: tuple[str, ...] = ()
    problem: str | None = None
    complete: bool = True

    @property
    def points(self) -> int:
        """What was earned."""
        return sum(question.points for question in self.questions)

    @property
    def out_of(self) -> int:
        """What can be earned."""
        return sum(question.out_of for question in self.questions)

    def to_json(self) -> str:
        """One JSON object on one line, keys sorted, ASCII only.

        >>> Report.from_json(EMPTY.to_json()) == EMPTY
        True
        """
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Report:
        """The report that `to_json` wrote; raises KeyError, TypeError or ValueError for any other text."""
        data = json.loads(text)
        questions = tuple(_question(entry) for entry in data.pop("questions"))
        isolation, remarks = Isolation(**data.pop("isolation")), tuple(data.pop("remarks"))
        return Report(questions=questions, isolation=isolation, remarks=remarks, **data)


EMPTY = Report("", "", "", "", 0, (), Isolation("", ""))


def _question(data: Mapping[str, Any]) -> QuestionReport:
    items = tuple(
        ItemReport(**{**item, "failure": Failure(**item["failure"]) if item["failure"] else None})
        for item in data["items"]
    )
    return QuestionReport(**{**data, "items": items, "remarks": tuple(data["remarks"])})


def zeros(exercise: Exercise, submission: str, student: str, seed: int, isolation: Isolation) -> Report:
    """The report before anything was graded: 0 points for every question."""
    questions = tuple(
        QuestionReport(
            question.name, tuple(ItemReport(item.what, 0, item.points) for item in question.items), graded=False
        )
        for question in exercise.questions
    )
    return Report(exercise.stem, exercise.title, submission, student, seed, questions, isolation, complete=False)
