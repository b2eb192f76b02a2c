"""Grading one file: how it is taken apart, run, compared and told."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trial import TRIAL
from toolkit.errors import InputError
from toolkit.grading import models
from toolkit.grading.compare import clean, judge, shown, shown_call
from toolkit.grading.grader import Sandboxes, grade
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question
from toolkit.grading.reports import Report
from toolkit.grading.running import NotASubmissionError, Program, chunks, statements
from toolkit.grading.sandbox import Limits

RIGHT = """
import numpy as np

def parameters(channels, filters, size):
    return filters * (channels * size * size + 1)

def pooled(image, window):
    rows, columns = image.shape[0] // window, image.shape[1] // window
    cut = image[: rows * window, : columns * window]
    return cut.reshape(rows, window, columns, window).max(axis=(1, 3))

def halved(shape):
    return tuple(side // 2 for side in shape)
"""
BOX = """class Box:
    def __init__(self):
        self.all = []
    def put(self, word):
        self.all.append(word)
        return len(self.all)
"""
LIMITS = Limits(statement_seconds=1.0, submission_seconds=5.0)


@pytest.fixture(scope="module")
def boxes() -> Iterator[Sandboxes]:
    with Sandboxes(limits=LIMITS) as made:
        yield made


@pytest.fixture
def graded(boxes: Sandboxes, tmp_path: Path) -> Any:
    """Grades a text."""

    def run(source: str, name: str = "trial.py", exercise: Exercise = TRIAL, **options: Any) -> Report:
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        return grade(path, exercise, sandboxes=boxes, **options)

    return run


def points(report: Report) -> list[int]:
    return [question.points for question in report.questions]


def notebook(*cells: str, **more: Any) -> str:
    written = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "# T"}, *written], "nbformat": 4, **more})


# Files.


def places(text: str, name: str = "a.py") -> list[str]:
    return [each.where for each in statements(chunks(name, text.encode()))]


def test_a_broken_function_costs_itself_only(graded: Any) -> None:
    for broken in ("def parameters(:\n    return 1\n", "def parameters(a, b, c):\n  return (a\n", "x = '''open\n"):
        report = graded(RIGHT.replace("def parameters", "def parameters_of") + broken)
        assert points(report)[0] == 0
        report = graded(broken + RIGHT.replace("def parameters", "def parameters_of"))
        assert points(report)[1:] == [4, 2], broken
        assert "SyntaxError" in report.remarks[0]
        assert "parameters is not defined" not in report.questions[0].sentence  # it is said once, with its cause
        assert report.questions[0].sentence.startswith("parameters: is not defined (line ")


def test_statements_that_fail_hang_or_end_cost_themselves_only(graded: Any) -> None:
    report = graded("1 / 0\nimport os\n" + RIGHT + "raise SystemExit\nos._exit(0)\nwhile True: pass\n")
    assert report.points == 10
    assert report.complete
    assert "ZeroDivisionError: division by zero (line 1)" in report.remarks
    assert any("took longer than its time, so it was left out" in remark for remark in report.remarks)
    assert any("ended the process (exit status 0), so it was left out" in remark for remark in report.remarks)


def test_a_notebook_is_graded_cell_by_cell(graded: Any) -> None:
    cells = RIGHT.strip().split("\n\n")
    magics = "%matplotlib inline\n!pip install nothing\nhelp?"
    text = notebook(magics, *cells[1:], "def broken(:", "%%html\n<b>", "%%time\nused = 1", "1 / 0", cells[0])
    report = graded(text, "trial.ipynb")
    assert report.points == 10
    assert len(report.remarks) == 2
    assert report.remarks[0].startswith("cell 6, line 1: SyntaxError")
    assert "(cell 9, line 1)" in report.remarks[1]
    assert graded(notebook(RIGHT, metadata={"kernelspec": {"language": "R"}}), "trial.ipynb").points == 10


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 1}', "[" * 100_000, '{"cells": [1, {}]}'])
def test_what_is_no_notebook_is_said(graded: Any, text: str) -> None:
    report = graded(text, "trial.ipynb")
    assert report.points == 0
    assert report.complete
    assert (report.problem is None) == (text == '{"cells": [1, {}]}')


def test_old_notebooks_and_odd_texts() -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}]}
    assert places(json.dumps(old), "a.ipynb") == ["cell 1, line 1", "cell 1, line 2"]
    assert places("x = 1\r\ny = 2\r\n") == ["line 1", "line 2"]
    assert places("\ufeffx = 1") == ["line 1"]
    assert [each.where for each in statements(chunks("a.py", b"# coding: latin-1\nx = '\xe9'"))] == ["line 2"]
    assert "null" in statements(chunks("a.py", b"x = 1\0"))[0].error
    assert statements(chunks("a.py", b"x = '\xff'"))[0].error == ""
    with pytest.raises(NotASubmissionError, match="no list of cells"):
        chunks("a.ipynb", b"{}")


def test_a_future_import_holds_for_the_rest_of_the_file() -> None:
    program = Program("futures.py", b"from __future__ import annotations\ndef f(x: nothing): return x\n")
    assert [program.run(number) for number in range(2)] == [None, None]
    assert program.get("f")(3) == 3


def test_what_comes_too_late_in_the_file_is_tried_again(graded: Any) -> None:
    assert graded("LIMIT = np.inf\n@decorated\ndef f(): pass\ndef decorated(f): return f\n" + RIGHT).remarks == ()


def test_files_that_are_none(boxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to(tmp_path / "trial.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "large.py").write_bytes(bytes(17 * 2**20))
    for name, said in (
        ("missing.py", "cannot be read"),
        ("link.py", "cannot be read"),
        ("folder.py", "is no regular file"),
        ("large.py", "at most"),
        ("answers.txt", "a .py or .ipynb file was expected"),
    ):
        report = grade(tmp_path / name, TRIAL, sandboxes=boxes)
        assert said in str(report.problem)
        assert (report.points, report.complete) == (0, True)


# Points and what is said.


def test_hidden_values_stay_hidden_and_public_ones_are_shown(graded: Any) -> None:
    report = graded(RIGHT.replace("+ 1)", ")").replace("// 2", "// 2 + 1"))
    failed = report.questions[0].items[0].failure
    assert failed is not None
    assert (failed.arguments, failed.returned, failed.expected) == ("parameters(3, 8, 5)", "600", "608")
    assert report.questions[0].hint == "every filter has a bias"
    hidden = graded(RIGHT.replace("max(", "min("), seed=5).questions[1].items[0].failure
    assert hidden is not None
    assert hidden.expected is None
    assert hidden.sentence.endswith("wrong, the first at [0, 0]")


def test_an_item_pays_when_all_of_its_cases_pass(graded: Any) -> None:
    known = "def parameters(a, b, c): return {(3, 8, 5): 608, (1, 6, 3): 60}.get((a, b, c), 0)\n"
    assert points(graded(RIGHT + known)) == [0, 4, 2]
    assert points(graded(RIGHT + known, public_only=True)) == [4, 4, 2]


def test_a_hint_has_to_fit_every_answer(graded: Any) -> None:
    sometimes = RIGHT + "def parameters(c, f, s): return f * c * s * s if f == 8 else 0\n"
    assert graded(sometimes).questions[0].hint is None
    raising = (Hint("a window of 0 is none", lambda a, b, c: 1 / (a * 0)),)
    exercise = replace(TRIAL, questions=(replace(TRIAL.questions[0], hints=raising), *TRIAL.questions[1:]))
    assert graded(RIGHT + "def parameters(a, b, c): return 1 / 0", exercise=exercise).questions[0].hint is not None
    assert graded(RIGHT + "def parameters(a, b, c): return int('x')", exercise=exercise).questions[0].hint is None


def test_the_same_seed_gives_the_same_bytes(graded: Any) -> None:
    wrong = RIGHT.replace("max(", "min(") + "print({'a', 'b', object()})\n"
    one, same, other = (graded(wrong, seed=seed, student="ana").to_json() for seed in (4, 4, 5))
    assert one == same != other
    assert graded(wrong, seed=4, student="bo").to_json().replace('"bo"', '"ana"') != one


def test_a_report_with_zeros_comes_first_and_one_after_every_question(graded: Any) -> None:
    seen: list[Report] = []
    graded(RIGHT, on_progress=seen.append)
    assert [(report.points, report.complete) for report in seen] == [(0, False), (4, False), (8, False), (10, True)]
    assert Report.from_json(seen[-1].to_json()) == seen[-1]


def test_a_pack_adds_cases(graded: Any) -> None:
    only_small = RIGHT.replace("filters * (", "(filters < 1000) * filters * (")
    assert graded(only_small).points == 10
    assert points(graded(only_small, pack={"parameters": lambda rng: [(1, int(rng.integers(2000, 9000)), 1)]})) == [
        0,
        4,
        2,
    ]


def test_one_question_that_hangs_leaves_time_for_the_others(graded: Any) -> None:
    report = graded(RIGHT + "def parameters(a, b, c):\n    while True: pass\n")
    assert points(report) == [0, 4, 2]
    assert report.questions[0].sentence == "parameters: took longer than its time"


def test_what_one_question_breaks_the_next_one_gets_whole(graded: Any) -> None:
    breaking = "def parameters(a, b, c):\n    global pooled, halved\n    pooled = halved = None\n    return 0\n"
    assert points(graded(RIGHT + breaking)) == [0, 4, 2]
    guessing = (
        "tries = []\ndef parameters(a, b, c): tries.append(1)\ndef halved(shape): return shape if tries else (1,)\n"
    )
    assert points(graded(RIGHT + guessing))[2] == 0  # a wrong answer is never asked for again


def test_stubs_are_called_stubs(graded: Any) -> None:
    report = graded("def parameters(a, b, c):\n    raise NotImplementedError('write')\n")
    assert report.questions[0].sentence == "parameters: is not written yet"
    assert report.questions[1].sentence == "pooled: is not defined"


def test_adapters_run_on_the_student_s_side(graded: Any) -> None:
    """A class is driven by the question's own source; the reference returns plain data."""
    call = "def call(student, words):\n    box = student.Box()\n    return [box.put(word) for word in words]\n"
    cases = Item("in order", 1, examples=((["a", "b"],),))
    question = Question("Box", (cases,), lambda words: list(range(1, len(words) + 1)), call=call)
    exercise = Exercise("box", "Box", (question,))
    right = BOX
    assert graded(right, exercise=exercise).points == 1
    report = graded(right.replace("return len(self.all)", "return self.nothing"), exercise=exercise)
    assert "AttributeError" in report.questions[0].sentence
    assert "(line 6)" in report.questions[0].sentence


def test_a_broken_exercise_is_said(graded: Any) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("no")

    exercise = replace(TRIAL, questions=(replace(TRIAL.questions[0], reference=broken),))
    with pytest.raises(InputError, match="the reference of parameters fails: KeyError"):
        graded(RIGHT, exercise=exercise)
    with pytest.raises(InputError, match="needs a point and a case"):
        Exercise("a", "A", (Question("f", (Item("nothing", 1),), len),))
    with pytest.raises(InputError, match="a name of its own"):
        Exercise("a", "A", (TRIAL.questions[0], TRIAL.questions[0]))


# Comparison.

A = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("answer", "expected", "remark"),
    [
        (26, 26, ""),
        (26.0, 26, "26.0 came where an integer is meant"),
        (True, 1, "True came"),
        (np.asarray(np.int64(26)), 26, "a NumPy int64 came"),
        (np.asarray(np.float32(0.5)), 0.5, ""),
        (np.ones((1, 1)), 1, "an array of one number"),
        (26, 26.0, ""),
        (0.1 + 0.2, 0.3, ""),
        (math.nan, math.nan, ""),
        (math.inf, math.inf, ""),
        ([1, 2], (1, 2), "a list came where a tuple is meant"),
        (np.array([1, 2]), (1, 2), "an array came where a tuple is meant"),
        ((1.0, 2), [1, 2], "a tuple came"),
        (A.tolist(), A, "a list came where an array is meant"),
        (A.astype(np.float32), A, ""),
        (A, A.astype(int), ""),
        (np.array([math.nan, 1]), np.array([math.nan, 1]), ""),
        ({"a": 1, 2: [3]}, {"a": 1, 2: (3,)}, "a list came"),
        ([3, 1], {1, 3}, "a list came where a set is meant"),
        (frozenset({1}), {1}, ""),
        ("a", "a", ""),
        (None, None, ""),
        (10**400, 10**400, ""),
    ],
)
def test_equal_values_count(answer: Any, expected: Any, remark: str) -> None:
    found = judge(answer, expected, Compare())
    assert found.problem is None
    assert remark in "".join(found.remarks)
    assert bool(found.remarks) == bool(remark)


@pytest.mark.parametrize(
    ("answer", "expected", "problem"),
    [
        (27, 26, "the value is wrong"),
        (26.5, 26, "the value is wrong"),
        (10**400, 0.5, "the value is wrong"),
        (math.nan, 1.0, "NaN .not a number. came"),
        (math.inf, 1, "infinity came"),
        (1.0, math.nan, "the value is wrong"),
        (None, 26, "None came; is a `return` missing"),
        ([1, None], [1, 2], "None came at .1."),
        ("26", 26, "an integer was expected, text came"),
        ([26], 26, "an integer was expected, a list came"),
        ((1, 2, 3), (1, 2), "2 values were expected, 3 came"),
        (A.T, A, "an array of the shape 2 × 3 was expected, 3 × 2 came"),
        (A + 1, A, "6 of 6 numbers are wrong, the first at .0, 0."),
        (np.where(A == 4, math.nan, A), A, "NaN .not a number. came at .1, 1."),
        (np.full((2, 3), math.inf), A, "infinity came 6 times, first at .0, 0."),
        ([[1.0], [1, 2]], A, "rows differ in length"),
        ([["a"]], A, "of other things"),
        ([10**400], A, "of other things"),
        ("a", A, "an array was expected, text came"),
        ({"a": 1}, {"a": 1, "b": 2}, "the key 'b' is missing"),
        ({"a": 1, "c": 2}, {"a": 1}, "the key 'c' is one too many"),
        ([1, 1], {1, 2}, "the value is wrong"),
        (1, "a", "text was expected, an integer came"),
        (0, None, "the value is wrong"),
        ({"keras_model": "{}"}, 1, "an integer was expected, a Keras model came"),
        (np.zeros((0, 3)), A, "2 × 3 was expected, 0 × 3 came"),
    ],
)
def test_what_is_wrong_is_said(answer: Any, expected: Any, problem: str) -> None:
    found = judge(answer, expected, Compare()).problem
    assert found is not None
    assert re.search(problem, found), found


def test_tolerances() -> None:
    wide = Compare(rtol=0.1, atol=0.0)
    assert judge(1.05, 1.0, wide).problem is None
    assert judge(1.2, 1.0, wide).problem is not None
    assert judge(np.array([1.05]), np.array([1.0]), wide).problem is None
    assert judge(11, 10, wide).problem is not None  # an integer is exact


def test_long_values_are_cut_and_odd_ones_made_harmless() -> None:
    assert len(shown("x" * 10**6)) <= 300
    assert len(shown([[1] * 1000] * 1000)) <= 300
    assert shown(10**5000) == "an integer of 16,610 bits"
    assert "16,610 bits" in shown({10**5000: frozenset({10**5000})})
    assert shown("\ud800") == "'\\ud800'"
    assert clean("\x1b]0;owned\x07 \ud800") == "�]0;owned� �"
    assert shown_call("f", (np.zeros((300, 300)), (1,))).startswith("f(array of 300 × 300 float64: ")
    assert shown_call("f", ((1,),)) == "f((1,))"


# Keras models as data, without Keras.


def description(*layers: dict[str, Any]) -> dict[str, str]:
    shape = {"batch_shape": [None, 8, 8, 3]}
    entry = {"class_name": "InputLayer", "config": {"name": "in", **shape}}
    return {"keras_model": json.dumps({"class_name": "Sequential", "config": {"layers": [entry, *layers]}})}


def dense(units: int, name: str = "d", **config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": name, "units": units, **config}}


def test_models_are_priced_before_anything_is_built() -> None:
    model = models.read_model(description(dense(4)))
    assert (model.inputs, model.outputs) == ([(8, 8, 3)], [(8, 8, 4)])
    for layer, said in (
        (dense(10**9), "4,000,000,000 parameters; no right answer"),
        (dense(10**1000), "parameters; no right answer|not one that Keras writes"),
        ({"class_name": "Lambda", "config": {"name": "l"}}, "is a Lambda"),
        ({"class_name": "Dense", "config": {"name": "d", "units": "4"}}, "cannot be judged|not one that Keras writes"),
        ({"class_name": "Dense"}, "not one that Keras writes"),
        (
            {"class_name": "UpSampling2D", "config": {"name": "u", "size": 10**4}},
            "values in one layer|cannot be judged",
        ),
    ):
        with pytest.raises(models.ModelError, match=said):
            models.read_model(description(layer))
    for text in ("", "{", "[]", '{"config": {}}', "[" * 10**5, " " * (models.LARGEST_TEXT + 1)):
        with pytest.raises(models.ModelError):
            models.read_model({"keras_model": text})
    with pytest.raises(models.ModelError, match="a Keras model was expected"):
        models.read_model(7)


def test_models_that_unfold_without_end_are_refused_at_once() -> None:
    inner: dict[str, Any] = dense(3)
    for level in range(30):
        twice = [{**inner, "inbound_nodes": [{}, {}]}]
        inner = {"class_name": "Functional", "config": {"name": f"m{level}", "layers": twice}}
    with pytest.raises(models.ModelError, match="calls more than 2,000 layers"):
        models.read_model(description(inner))


def test_models_are_compared_by_what_they_are() -> None:
    right = models.read_model(description(dense(4, "a"), dense(2, "b")))
    for layers, said in (
        ((dense(4), dense(2, "e", activation="relu")), None),
        ((dense(4), dense(3, "e")), "output is 8 × 8 × 3 where 8 × 8 × 2 is expected"),
        ((dense(5), dense(2, "e")), "parameters, which is too many"),
        ((dense(4, use_bias=False), dense(2, "e")), "parameters, which is too few"),
        ((dense(4, trainable=False), dense(2, "e")), "that can be trained, which is too few"),
    ):
        found = models.structure_problem(models.read_model(description(*layers)), right, Compare(kind="keras"))
        assert (found is None) == (said is None)
        assert said is None or said in str(found)
    only = Compare(kind="keras", outputs=False)
    turned = models.read_model(description(dense(2, "a"), dense(3, "b"), dense(2, "c")))
    assert models.structure_problem(turned, right, only) is not None
    same = models.read_model(description(dense(4, "x"), {"class_name": "ReLU", "config": {"name": "r"}}, dense(2, "y")))
    assert models.structure_problem(same, right, only) is None
