"""A report in the forms that others read: Gradescope, Classroom 50, JUnit XML, a table of grades, and text for people.

A submission decides what it prints, returns and raises, so every text is made harmless first: what no terminal, XML
parser or spreadsheet should see is written as an escape, and what is long is cut.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from toolkit.grading.questions import Exercise
from toolkit.grading.reports import Failure, ItemReport, QuestionReport, Report

LONGEST_LINE, LONGEST_TEXT = 500, 4000
MOST_TESTS = 100
"""What Classroom 50 takes in one result."""


def harmless(text: str, longest: int = LONGEST_TEXT) -> str:
    r"""Text that is valid in UTF-8, XML and a terminal: other characters as escapes, a long one cut.

    >>> harmless("a\x1b[2Jb\ud800")
    'a\\x1b[2Jb\\ud800'
    >>> harmless("x" * 12, longest=10)
    'xxxxxxxxxx … (2 more characters)'
    """
    rest, text = len(text) - longest, text[:longest]
    if not text.isprintable():
        text = "".join(_escape(character) for character in text)
    return f"{text} … ({rest:,} more characters)" if rest > 0 else text


def _escape(character: str) -> str:
    fine = character.isprintable() or character in "\n\t"
    return character if fine else character.encode("unicode_escape").decode("ascii")


def line(text: str) -> str:
    r"""Harmless text on one line.

    >>> line("two\nlines")
    'two lines'
    """
    return harmless(" ".join(text[: 2 * LONGEST_LINE].split()), LONGEST_LINE)


# Text for people.


def text(report: Report) -> str:
    """The whole report as text."""
    parts = [_head(report), *(_question(report, each) for each in report.questions), _foot(report)]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(report: Report) -> list[str]:
    who = f", {line(report.student)}" if report.student else ""
    lines = [f"{report.title}: {line(report.submission)}{who}", f"{report.points} of {report.out_of} points"]
    if report.problem:
        lines.append(line(report.problem))
    elif not report.complete:
        lines.append("not graded to the end")
    return lines + [f"  {line(remark)}" for remark in report.remarks]


def _question(report: Report, question: QuestionReport) -> list[str]:
    lines = [f"{question.name}  {question.points}/{question.out_of}"]
    for item in question.items:
        lines += _item(report, question, item)
    if question.hint:
        lines.append(f"  hint: {line(question.hint)}")
    lines += [f"  remark: {line(remark)}" for remark in question.remarks]
    if question.printed:
        printed = harmless(question.printed).splitlines()
        lines += ["  it printed:", *(f"    {part}" for part in printed)]
    return lines


def _item(report: Report, question: QuestionReport, item: ItemReport) -> list[str]:
    lines = [f"  {'ok' if item.passed else '--'} {item.points}/{item.out_of}  {line(item.what)}"]
    return lines + [f"     {part}" for part in _why(report, question, item)]


def _why(report: Report, question: QuestionReport, item: ItemReport) -> list[str]:
    """Why an item did not pass."""
    if item.failure:
        return _failure(item.failure)
    if item.passed:
        return []
    return ["not reached" if question.graded else line(report.problem or "") or "not graded yet"]


def _failure(failure: Failure) -> list[str]:
    told = (("called with", failure.arguments), ("returned", failure.returned), ("expected", failure.expected))
    return [line(failure.sentence), *(f"{what:11} {line(value)}" for what, value in told if value)]


def _foot(report: Report) -> list[str]:
    return [f"Isolation: {report.isolation.sentence}", f"The same cases again: --seed {report.seed}"]


# Gradescope: https://gradescope-autograders.readthedocs.io/en/latest/specs/


def gradescope(report: Report) -> str:
    """Gradescope's `results.json`: a test for every item, and the whole report's head as its output."""
    tests = [
        {
            "name": line(f"{question.name}: {item.what}"),
            "name_format": "text",
            "number": f"{number}.{part}",
            "score": item.points,
            "max_score": item.out_of,
            "status": "passed" if item.passed else "failed",
            "output": harmless("\n".join(_why(report, question, item))),
            "output_format": "text",
        }
        for number, question in enumerate(report.questions, 1)
        for part, item in enumerate(question.items, 1)
    ]
    found = {
        "score": report.points,
        "output": harmless("\n".join([*_head(report), *_hints(report), *_foot(report)])),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    return _json(found)


def _hints(report: Report) -> list[str]:
    """What is told about a question as a whole."""
    lines = []
    for question in report.questions:
        if question.hint:
            lines.append(line(f"{question.name}, hint: {question.hint}"))
        lines += [line(f"{question.name}, remark: {remark}") for remark in question.remarks]
    return lines


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


# Classroom 50: the schema classroom50/result/v1


@dataclass(frozen=True)
class Classroom:
    """Who handed in what, as Classroom 50's runner says it; texts that are empty are filled in by `of`."""

    classroom: str
    assignment: str
    owner: str
    submission: str
    commit: str
    release: str
    review: str
    datetime: str
    assignment_type: str = "individual"

    @staticmethod
    def of(report: Report, environment: Mapping[str, str] | None = None) -> Classroom:
        """From the runner's environment, with what the report knows where that says nothing.

        >>> from toolkit.grading.reports import EMPTY
        >>> Classroom.of(EMPTY, {"CLASSROOM": "cnn", "OWNER": "ana"}).owner
        'ana'
        """
        said = environment or {}

        def told(*names: str, otherwise: str) -> str:
            return next((line(said[name]) for name in names if said.get(name)), otherwise)

        commit = told("COMMIT_URL", otherwise="local")
        return Classroom(
            classroom=told("CLASSROOM", otherwise="local"),
            assignment=told("ASSIGNMENT", otherwise=line(report.exercise) or "local"),
            owner=told("OWNER", "USERNAME", otherwise=line(report.student or report.submission) or "local"),
            submission=told("SUBMISSION_TAG", otherwise="submit/local"),
            commit=commit,
            release=told("RELEASE_URL", otherwise="local"),
            review=told("REVIEW_URL", otherwise=commit),
            datetime=told("SUBMITTED_AT", otherwise="1970-01-01T00:00:00Z"),
            assignment_type=told("ASSIGNMENT_TYPE", otherwise="individual"),
        )


def classroom50(report: Report, identity: Classroom | None = None) -> str:
    """Classroom 50's `result.json`: a test for every item, or for every question where items are more than 100."""
    tests = [
        _test(f"{question.name}: {item.what}", (item,)) for question in report.questions for item in question.items
    ]
    if len(tests) > MOST_TESTS:
        tests = [_test(question.name, question.items) for question in report.questions[: MOST_TESTS - 1]]
        rest = tuple(item for question in report.questions[MOST_TESTS - 1 :] for item in question.items)
        tests += [_test("the other questions", rest)] if rest else []
    found = {
        "schema": "classroom50/result/v1",
        **asdict(identity or Classroom.of(report)),
        "score": report.points,
        "max-score": report.out_of,
        "tests": tests,
    }
    return _json(found)


def _test(name: str, items: Sequence[ItemReport]) -> dict[str, Any]:
    points, out_of = sum(item.points for item in items), sum(item.out_of for item in items)
    told = next((line(item.failure.sentence) for item in items if item.failure), "")
    return {
        "test-name": line(name),
        "passed": points == out_of,
        "score": points,
        "max-score": out_of,
        "message": told,
    }


# JUnit XML: the form of Jenkins, https://github.com/jenkinsci/xunit-plugin (junit-10.xsd)


def junit(report: Report) -> str:
    """JUnit XML: a suite for the submission, a case for every item; what was never graded is an error."""
    cases = [(question, item) for question in report.questions for item in question.items]
    counts = {
        "tests": len(cases),
        "failures": sum(question.graded and not item.passed for question, item in cases),
        "errors": sum(not question.graded for question, _ in cases),
        "skipped": 0,
    }
    attributes = {key: str(value) for key, value in counts.items()}
    suite = ElementTree.Element("testsuite", {"name": line(f"{report.exercise} {report.submission}"), **attributes})
    for question, item in cases:
        suite.append(_case(report, question, item))
    ElementTree.SubElement(suite, "system-out").text = harmless(text(report), 10 * LONGEST_TEXT)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _case(report: Report, question: QuestionReport, item: ItemReport) -> ElementTree.Element:
    names = {"classname": f"{report.exercise}.{question.name}", "name": line(item.what)}
    case = ElementTree.Element("testcase", names)
    if not item.passed:
        kind = "failure" if question.graded else "error"
        told = _why(report, question, item)
        ElementTree.SubElement(case, kind, {"message": told[0]}).text = harmless("\n".join(told))
    return case


# The table of grades


def header(exercise: Exercise) -> list[str]:
    """The columns of `grades.csv`, one for every question."""
    return ["submission", "student", "points", "out_of", *(q.name for q in exercise.questions), "isolation", "remark"]


def row(report: Report) -> list[str]:
    """A submission's row of `grades.csv`: its points, and in the last column the first thing that went wrong."""
    wrong = (question.sentence for question in report.questions if question.points < question.out_of)
    told = report.problem or next(wrong, "")
    points = [str(question.points) for question in report.questions]
    names, level = (report.submission, report.student), report.isolation.level
    return [*map(cell, names), str(report.points), str(report.out_of), *points, level, cell(told)]


def cell(value: str) -> str:
    """Text for a spreadsheet, which takes what begins with `=` for a formula.

    >>> cell("=1+1"), cell("ana")
    ("'=1+1", 'ana')
    """
    value = line(value)
    return f"'{value}" if value[:1] in set("=+-@") else value


def grades(exercise: Exercise, reports: Iterable[Report]) -> str:
    """The text of `grades.csv`."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header(exercise), *map(row, reports)])
    return out.getvalue()


EXPORTS: Mapping[str, Callable[[Report], str]] = {
    "results.json": gradescope,
    "result.json": classroom50,
    "junit.xml": junit,
    "report.txt": text,
}
"""The files of one submission: what makes their text."""
