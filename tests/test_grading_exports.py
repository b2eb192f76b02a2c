"""Exports are held against the schemas of those who read them, whatever a submission returned, raised or printed."""

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trial import TRIAL
from toolkit.grading import exports
from toolkit.grading.reports import EMPTY, Failure, Isolation, ItemReport, QuestionReport, Report, zeros

SAFE = Isolation("landlock", "Landlock, seccomp and limits")
BLANK = zeros(TRIAL, "ana.py", "ana", 7, SAFE)

TEXT: dict[str, Any] = {"type": str}
NUMBER: dict[str, Any] = {"type": (int, float), "minimum": 0}
COUNT: dict[str, Any] = {"type": int, "minimum": 0}
NAME: dict[str, Any] = {"type": str, "pattern": r"(?s).+"}
FORMAT: dict[str, Any] = {"enum": ("text", "html", "simple_format", "md", "ansi")}
VISIBILITY: dict[str, Any] = {"enum": ("hidden", "after_due_date", "after_published", "visible")}

# https://gradescope-autograders.readthedocs.io/en/latest/specs/
GRADESCOPE: dict[str, Any] = {
    "required": {"score", "tests"},
    "properties": {
        "score": NUMBER,
        "execution_time": NUMBER,
        "output": TEXT,
        "output_format": FORMAT,
        "test_output_format": FORMAT,
        "test_name_format": FORMAT,
        "visibility": VISIBILITY,
        "stdout_visibility": VISIBILITY,
        "extra_data": {"type": dict},
        "tests": {
            "items": {
                "required": {"score", "max_score"},
                "properties": {
                    "score": NUMBER,
                    "max_score": NUMBER,
                    "status": {"enum": ("passed", "failed")},
                    "name": NAME,
                    "name_format": FORMAT,
                    "number": TEXT,
                    "output": TEXT,
                    "output_format": FORMAT,
                    "tags": {"items": TEXT},
                    "visibility": VISIBILITY,
                    "extra_data": {"type": dict},
                },
            }
        },
        "leaderboard": {"items": {}},
    },
}

# https://github.com/foundation50/classroom50/blob/main/schemas/result-v1.schema.json
CLASSROOM: dict[str, Any] = {
    "required": {
        *("schema", "classroom", "assignment", "assignment_type", "owner", "submission", "commit", "release"),
        *("review", "datetime", "score", "max-score", "tests"),
    },
    "properties": {
        "schema": {"enum": ("classroom50/result/v1",)},
        **dict.fromkeys(("classroom", "assignment", "owner", "commit", "release", "review"), NAME),
        "assignment_type": {"enum": ("individual", "group", "team")},
        "submission": {"type": str, "pattern": r"(?s)submit/.*"},
        "datetime": {"type": str, "pattern": r"\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"},
        "score": COUNT,
        "max-score": COUNT,
        "tests": {
            "most": 100,
            "items": {
                "required": {"test-name", "passed", "score", "max-score"},
                "properties": {
                    "test-name": NAME,
                    "passed": {"type": bool},
                    "score": COUNT,
                    "max-score": COUNT,
                    "message": TEXT,
                },
            },
        },
    },
}


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Assert that a value of JSON fits a schema, which is written as JSON Schema is."""
    if "type" in schema:
        assert isinstance(value, schema["type"])
        assert not isinstance(value, bool) or schema["type"] is bool
    assert value in schema.get("enum", (value,))
    assert re.fullmatch(schema["pattern"], value) if "pattern" in schema else True
    assert value >= schema["minimum"] if "minimum" in schema else True
    if "properties" in schema:
        assert schema["required"] <= set(value) <= set(schema["properties"])
        for key, part in value.items():
            fits(part, schema["properties"][key])
    if "items" in schema:
        assert len(value) <= schema.get("most", len(value))
        for part in value:
            fits(part, schema["items"])


# junit-10.xsd of https://github.com/jenkinsci/xunit-plugin: an element's attributes, those it needs, its children
JUNIT = {
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"},
        {"name", "tests", "failures", "errors"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "classname", "time", "status"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}


def fits_junit(element: ElementTree.Element) -> None:
    allowed, needed, children = JUNIT[element.tag]
    assert needed <= set(element.attrib) <= allowed
    for child in element:
        assert child.tag in children
        fits_junit(child)


def read_all(report: Report) -> tuple[dict[str, Any], dict[str, Any], ElementTree.Element, str, list[list[str]]]:
    """Every export of a report, read as its reader would and held against its schema."""
    made = {name: make(report).encode("utf-8") for name, make in exports.EXPORTS.items()}
    gradescope, classroom = json.loads(made["results.json"]), json.loads(made["result.json"])
    fits(gradescope, GRADESCOPE)
    fits(classroom, CLASSROOM)
    suite = ElementTree.fromstring(made["junit.xml"])
    fits_junit(suite)
    told = made["report.txt"].decode()
    for text in (told, gradescope["output"], *(test["output"] for test in gradescope["tests"])):
        assert not re.search(r"[^\n\t\x20-\x7e\xa1-\U0010ffff]", text)
    rows = list(csv.reader(io.StringIO(exports.grades(TRIAL, [report]))))
    assert len(rows) == 2
    assert len(rows[0]) == len(set(rows[0])) == len(rows[1])
    return gradescope, classroom, suite, told, rows


def marked(report: Report, number: int, passed: bool, failure: Failure | None = None) -> Report:
    """The report with one question graded."""
    question = report.questions[number]
    items = tuple(replace(item, points=item.out_of * passed, failure=failure) for item in question.items)
    done = replace(question, items=items, graded=True)
    return replace(report, questions=(*report.questions[:number], done, *report.questions[number + 1 :]))


def graded(report: Report = BLANK) -> Report:
    failure = Failure("(3, 8, 5)", "it returned 600 for (3, 8, 5)", "600", "608")
    report = marked(marked(marked(report, 0, False, failure), 1, True), 2, True)
    return replace(report, complete=True)


def test_points_are_the_same_in_every_form() -> None:
    gradescope, classroom, suite, told, rows = read_all(graded())
    assert gradescope["score"] == classroom["score"] == 6
    assert classroom["max-score"] == 10
    assert (
        [test["score"] for test in gradescope["tests"]] == [test["score"] for test in classroom["tests"]] == [0, 4, 2]
    )
    assert [test["status"] for test in gradescope["tests"]] == ["failed", "passed", "passed"]
    assert [test["passed"] for test in classroom["tests"]] == [False, True, True]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    assert "6 of 10 points" in told
    assert dict(zip(*rows, strict=True)) == {
        "submission": "ana.py",
        "student": "ana",
        "points": "6",
        "out_of": "10",
        "isolation": "landlock",
        "parameters": "0",
        "pooled": "4",
        "halved": "2",
        "remark": "parameters: it returned 600 for (3, 8, 5)",
    }


def test_a_failure_is_told_whole() -> None:
    gradescope, classroom, suite, told, _ = read_all(graded())
    case = next(suite.iter("failure"))
    for text in (gradescope["tests"][0]["output"], case.text or "", told):
        for part in ("it returned 600 for (3, 8, 5)", "returned    600", "expected    608"):
            assert part in text
    assert case.get("message") == classroom["tests"][0]["message"] == "it returned 600 for (3, 8, 5)"
    assert "--seed 7" in told
    assert SAFE.sentence in told


def test_the_report_reads_like_this() -> None:
    question = replace(graded().questions[0], hint="every filter has a bias", remarks=("a float",), printed="hello\n")
    report = replace(graded(), questions=(question, *graded().questions[1:]), remarks=("cell 3 failed",))
    assert exports.text(report) == (
        "Trial: ana.py, ana\n6 of 10 points\n  cell 3 failed\n\n"
        "parameters  0/4\n  -- 0/4  some layers\n     it returned 600 for (3, 8, 5)\n"
        "     called with (3, 8, 5)\n     returned    600\n     expected    608\n"
        "  hint: every filter has a bias\n  remark: a float\n  it printed:\n    hello\n\n"
        "pooled  4/4\n  ok 4/4  some images\n\nhalved  2/2\n  ok 2/2  some shapes\n\n"
        "Isolation: Landlock, seccomp and limits\nThe same cases again: --seed 7\n"
    )


def test_hidden_cases_are_told_without_what_was_expected() -> None:
    report = marked(BLANK, 1, False, Failure("an image", "wrong", "3", None))
    for text in (make(report) for make in exports.EXPORTS.values()):
        assert "expected" not in text


def test_zeros_say_that_nothing_was_graded() -> None:
    gradescope, classroom, suite, told, rows = read_all(BLANK)
    assert gradescope["score"] == classroom["score"] == 0
    assert not any(test["passed"] for test in classroom["tests"])
    assert (suite.get("failures"), suite.get("errors")) == ("0", "3")
    assert "not graded to the end" in told
    assert rows[1][2] == "0"


def test_a_problem_is_told_and_costs_everything() -> None:
    report = replace(BLANK, complete=True, problem="ana.zip is no zip archive; hand in a .py or .ipynb file")
    gradescope, _, _, told, rows = read_all(report)
    assert "ana.zip is no zip archive" in gradescope["output"]
    assert "ana.zip is no zip archive" in told
    assert rows[1][-1] == report.problem


NASTY = (
    "\x00\x08\x1b[2J\x1b]0;x\x07\x7f\x85\x9b",
    "\ud800\udfff\ufffe\uffff\U0001ffff",
    "]]></failure></testcase><testcase name='forged'/>",
    "<!DOCTYPE x [<!ENTITY a 'b'>]>&a;&#0;",
    '","score":10,"tests":[]}',
    "=cmd|' /C calc'!A0",
    "line\r\nparameters,4\u2028next\u2029\x0b\x0c",
    "\u202eright to left\u2066 \u200f",
    "\ufeff",
    " ",
    "x" * 1_000_000,
    "\n" * 100_000,
    "\x00" * 1_000_000,
)


@pytest.mark.parametrize("nasty", NASTY, ids=range(len(NASTY)))
def test_no_text_of_a_submission_breaks_an_export(nasty: str) -> None:
    read_all(hostile(nasty))


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_no_text_at_all_breaks_an_export(text: str) -> None:
    read_all(hostile(text))


def hostile(text: str) -> Report:
    """A report in which everything that a submission decides is this text."""
    item = ItemReport("some layers", 0, 4, Failure(text, text, text, text))
    question = QuestionReport("parameters", (item,), text, (text, text), text)
    return replace(
        graded(),
        submission=text,
        student=text,
        questions=(question, *graded().questions[1:]),
        remarks=(text,),
        problem=text or None,
    )


def test_exports_of_floods_stay_small() -> None:
    assert max(len(make(hostile("\x00" * 10**6))) for make in exports.EXPORTS.values()) < 1_000_000


def test_nothing_forges_a_test_or_a_column() -> None:
    for nasty in NASTY:
        gradescope, classroom, suite, _, rows = read_all(hostile(nasty))
        assert len(gradescope["tests"]) == len(classroom["tests"]) == len(list(suite.iter("testcase"))) == 3
        assert gradescope["score"] == classroom["score"] == 6
        assert not rows[1][0].startswith("=")


def test_a_result_with_more_items_than_classroom_50_takes_has_a_test_a_question() -> None:
    item = ItemReport("one", 1, 1)
    many = replace(graded(), questions=(QuestionReport("first", (item,) * 150), *graded().questions))
    _, classroom, *_ = read_all_but_the_table(many)
    assert [test["max-score"] for test in classroom["tests"]] == [150, 4, 4, 2]
    more = replace(graded(), questions=tuple(QuestionReport(f"q{number}", (item,)) for number in range(250)))
    _, classroom, *_ = read_all_but_the_table(more)
    assert len(classroom["tests"]) == 100
    assert sum(test["score"] for test in classroom["tests"]) == classroom["score"] == 250


def read_all_but_the_table(report: Report) -> tuple[dict[str, Any], dict[str, Any]]:
    gradescope, classroom = json.loads(exports.gradescope(report)), json.loads(exports.classroom50(report))
    fits(gradescope, GRADESCOPE)
    fits(classroom, CLASSROOM)
    return gradescope, classroom


def test_the_runner_of_classroom_50_says_who_it_is() -> None:
    said = {
        "CLASSROOM": "cnn-2027",
        "ASSIGNMENT": "ch02",
        "OWNER": "ana",
        "ASSIGNMENT_TYPE": "group",
        "SUBMISSION_TAG": "submit/2027-01-02T03-04-05Z-a1b2c3d",
        "COMMIT_URL": "https://c",
        "RELEASE_URL": "https://r",
    }
    found = json.loads(exports.classroom50(graded(), exports.Classroom.of(graded(), said)))
    fits(found, CLASSROOM)
    assert (found["owner"], found["assignment_type"], found["review"]) == ("ana", "group", "https://c")
    assert found["submission"] == said["SUBMISSION_TAG"]


def test_even_nothing_can_be_exported() -> None:
    read_all_but_the_table(EMPTY)
    fits_junit(ElementTree.fromstring(exports.junit(EMPTY)))
    assert exports.text(EMPTY)


def test_the_same_report_gives_the_same_bytes() -> None:
    for make in exports.EXPORTS.values():
        assert make(graded()) == make(Report.from_json(graded().to_json()))
