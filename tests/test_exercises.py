"""The exercises: what is asked is right, what is right is paid, and what is wrong is not, and is explained."""

from __future__ import annotations

import base64
import doctest
import importlib
import inspect
import itertools
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.odd_answers import STYLES, reshaped
from toolkit.grading import building
from toolkit.grading.grader import Sandboxes, grade
from toolkit.grading.questions import Arguments, Exercise, Hint, Question, generator
from toolkit.grading.reports import Report
from toolkit.grading.sandbox import Limits

ROOT = Path(__file__).parents[1]
SOLUTIONS, EXERCISES = ROOT / "solutions", ROOT / "exercises"
STEMS = sorted(path.stem for path in SOLUTIONS.glob("ch*.py"))
SEED = 11


@cache
def exercise_of(stem: str) -> Exercise:
    found = importlib.import_module(f"solutions.checks.{stem}").EXERCISE
    assert isinstance(found, Exercise)
    return found


def with_numpy(stem: str) -> Exercise:
    """The exercise without the questions that need Keras."""
    exercise = exercise_of(stem)
    return replace(exercise, questions=tuple(each for each in exercise.questions if each.needs == "numpy"))


def with_keras(stem: str) -> Exercise:
    """The questions that need Keras."""
    exercise = exercise_of(stem)
    return replace(exercise, questions=tuple(each for each in exercise.questions if each.needs == "keras"))


def solution_text(stem: str) -> str:
    return (SOLUTIONS / f"{stem}.py").read_text("utf-8")


NUMPY_QUESTIONS = [(stem, question) for stem in STEMS for question in with_numpy(stem).questions]
PLAIN_QUESTIONS = [(stem, question) for stem, question in NUMPY_QUESTIONS if not question.call]
KERAS_STEMS = [stem for stem in STEMS if with_keras(stem).questions]


@pytest.fixture(scope="module")
def boxes() -> Iterator[Sandboxes]:
    with Sandboxes() as sandboxes:
        yield sandboxes


def graded(boxes: Sandboxes, folder: Path, exercise: Exercise, text: str, name: str = "answers.py") -> Report:
    path = folder / name
    path.write_text(text, "utf-8", newline="")
    return grade(path, exercise, seed=SEED, sandboxes=boxes)


def complaints(report: Report) -> list[str]:
    """Everything that cost points, in words."""
    failed = [question.sentence for question in report.questions if question.points < question.out_of]
    return failed + ([report.problem] if report.problem else [])


# What is asked.


@pytest.mark.parametrize("stem", STEMS)
def test_an_exercise_has_three_to_six_questions_and_ten_points(stem: str) -> None:
    exercise = exercise_of(stem)
    assert exercise.stem == stem
    assert 3 <= len(exercise.questions) <= 6
    assert exercise.points == 10
    for question in exercise.questions:
        sentences = [hint.sentence for hint in question.hints]
        assert len(set(sentences)) == len(sentences) >= 3
        assert all(sentence.endswith(".") for sentence in sentences)
    assert all(item.examples and item.cases for question in exercise.questions for item in question.items)


@pytest.mark.parametrize("stem", STEMS)
def test_the_text_promises_the_points_that_are_paid(stem: str) -> None:
    exercise, text = exercise_of(stem), solution_text(stem)
    promised = [int(points) for points in re.findall(r"^# ## \d\. .*\((\d) points?\b", text, re.MULTILINE)]
    assert promised == [question.points for question in exercise.questions]
    marked = [bool(keras) for keras in re.findall(r"^# ## \d\. .*points?(, needs Keras)?\)$", text, re.MULTILINE)]
    assert marked == [question.needs == "keras" for question in exercise.questions]
    count = {3: "Three", 4: "Four", 5: "Five", 6: "Six"}[len(exercise.questions)]
    assert f"# {count} questions, 10 points." in text
    asked = re.findall(r"^(?:def|class) (\w+)", text, re.MULTILINE)
    assert [name for name in asked if name != "make_base"] == [question.name for question in exercise.questions]


@pytest.mark.parametrize(("stem", "question"), PLAIN_QUESTIONS, ids=lambda value: getattr(value, "name", value))
def test_the_examples_of_the_text_are_those_that_are_graded_in_public(stem: str, question: Question) -> None:
    module = importlib.import_module(f"solutions.{stem}")
    asked, calls = getattr(module, question.name), []

    def recorded(*arguments: Any) -> Any:
        calls.append(key_of(arguments))
        return asked(*arguments)

    (examples,) = doctest.DocTestFinder(recurse=False).find(asked, question.name, module=False)
    examples.globs.update(vars(module), **{question.name: recorded})
    assert not doctest.DocTestRunner().run(examples).failed
    public = {key_of(arguments) for item in question.items for arguments in item.examples}
    assert calls
    assert set(calls) <= public


@pytest.mark.parametrize(("stem", "question"), NUMPY_QUESTIONS, ids=lambda value: getattr(value, "name", value))
def test_cases_depend_on_the_seed_and_on_nothing_else(stem: str, question: Question) -> None:
    keys = [[key_of(case) for case in cases_of(stem, question, seed)] for seed in (1, 1, 2)]
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


# What is right.


@pytest.mark.parametrize("stem", STEMS)
def test_a_solution_gets_all_points_and_its_exercise_none(stem: str, boxes: Sandboxes, tmp_path: Path) -> None:
    exercise, text = with_numpy(stem), solution_text(stem)
    book = building.notebook_text(building.split_cells(text))
    for name, answers in (("answers.py", text), ("answers.ipynb", book)):
        report = graded(boxes, tmp_path, exercise, answers, name)
        assert report.points == exercise.points, complaints(report)
        assert not any(question.remarks for question in report.questions)
    for suffix in (".py", ".ipynb"):
        report = grade(EXERCISES / f"{stem}{suffix}", exercise, seed=SEED, sandboxes=boxes)
        assert report.points == 0
        assert complaints(report) == [f"{question.name}: is not written yet" for question in exercise.questions]


@pytest.mark.parametrize("stem", STEMS)
def test_a_right_answer_is_right_however_it_is_written(stem: str, boxes: Sandboxes, tmp_path: Path) -> None:
    exercise = with_numpy(stem)
    functions = [each.name for each in exercise.questions if not each.name[0].isupper()]
    lost = {}
    for style, write in STYLES.items():
        suffix, text = write(solution_text(stem), functions)
        report = graded(boxes, tmp_path, exercise, text, f"answers{suffix}")
        if report.points < exercise.points:
            lost[style] = complaints(report)
    assert not lost
    assert len(STYLES) > 10


# What is wrong.


def cases_of(stem: str, question: Question, seed: int = SEED) -> list[Arguments]:
    """The cases that the grader draws."""
    found: list[Arguments] = []
    for item in question.items:
        found += item.examples
        found += item.cases(generator(seed, "", stem, question.name, item.what)) if item.cases else ()
    return found


def key_of(value: Any) -> Any:
    """Arguments as something that can be looked up, the same before and after their way to the student's process."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    return tuple(key_of(each) for each in value) if isinstance(value, (list, tuple)) else value


def by_heart(name: str, table: dict[Any, Any]) -> str:
    """A function that looks its answers up."""
    return f'{name} = remembered("{base64.b64encode(pickle.dumps(table)).decode()}")\n'


def remembered(stem: str, question: Question, hint: Hint) -> str:
    """A function that knows the mistake's answers to all cases by heart."""
    return by_heart(question.name, {key_of(each): hint.wrong(*each) for each in cases_of(stem, question)})


def rewritten(question: Question, hint: Hint) -> str:
    """A class or generator with the mistake, from the source beside the checks, on top of the solution's."""
    (mistake,) = (cell.cell_contents for cell in hint.wrong.__closure__ or ())
    source = inspect.getsource(mistake).replace(f"solution.{question.name}", "reference")
    return f"reference = {question.name}\n{source}\n{question.name} = {mistake.__name__}\n"


MEMORY = f"""
import base64, pickle
import numpy as np

{inspect.getsource(key_of).replace(": Any) -> Any", ")")}

def remembered(packed):
    table = pickle.loads(base64.b64decode(packed))
    return lambda *arguments: table.get(key_of(arguments), 0)

"""


def wrong_file(stem: str, mistakes: dict[str, tuple[Question, Hint]]) -> str:
    """The solution with one mistake in each question."""
    parts = [solution_text(stem), MEMORY]
    for question, hint in mistakes.values():
        parts.append(rewritten(question, hint) if question.call else remembered(stem, question, hint))
    return "\n".join(parts)


@pytest.mark.parametrize("stem", STEMS)
def test_who_knows_the_public_answers_by_heart_earns_nothing(stem: str, boxes: Sandboxes, tmp_path: Path) -> None:
    exercise = with_numpy(stem)
    exercise = replace(exercise, questions=tuple(each for each in exercise.questions if not each.call))
    parts = [MEMORY]
    for question in exercise.questions:
        examples = [arguments for item in question.items for arguments in item.examples]
        parts.append(by_heart(question.name, {key_of(each): question.reference(*each) for each in examples}))
    path = tmp_path / "answers.py"
    path.write_text("\n".join(parts), "utf-8")
    assert grade(path, exercise, sandboxes=boxes, public_only=True).points == exercise.points
    assert grade(path, exercise, sandboxes=boxes).points == 0


@pytest.mark.parametrize("stem", STEMS)
def test_a_common_mistake_is_not_paid_and_gets_its_hint(stem: str, boxes: Sandboxes, tmp_path: Path) -> None:
    exercise = with_numpy(stem)
    unpaid = dict.fromkeys((question.name for question in exercise.questions), 0)
    for number in range(max(len(question.hints) for question in exercise.questions)):
        mistakes = {each.name: (each, each.hints[number]) for each in exercise.questions if number < len(each.hints)}
        report = graded(boxes, tmp_path, exercise, wrong_file(stem, mistakes))
        for question in report.questions:
            if question.name not in mistakes:
                assert question.points == question.out_of, question.sentence
                continue
            assert question.points < question.out_of, mistakes[question.name][1].sentence
            assert question.hint == mistakes[question.name][1].sentence
            unpaid[question.name] += question.points == 0
    assert min(unpaid.values()) >= 3, unpaid


# With Keras. A process with TensorFlow is dear, so one file holds all answers to a question, under names of their own.


def asked_often(stem: str, times: dict[str, int]) -> Exercise:
    """Each question that needs Keras as often as there are answers to it: `residual_block_0`, `residual_block_1` …"""
    exercise = with_keras(stem)
    questions = [
        replace(question, name=f"{question.name}_{number}")
        for question in exercise.questions
        for number in range(times[question.name])
    ]
    return replace(exercise, questions=tuple(questions))


@pytest.fixture(scope="module")
def patient() -> Iterator[Sandboxes]:
    with Sandboxes(limits=Limits(submission_seconds=250, keras_seconds=250)) as sandboxes:
        yield sandboxes


@pytest.mark.tensorflow
@pytest.mark.parametrize("stem", KERAS_STEMS)
def test_a_model_is_right_however_it_is_built(stem: str, patient: Sandboxes, tmp_path: Path) -> None:
    names = [question.name for question in with_keras(stem).questions]
    texts = [solution_text(stem), *reshaped(stem, solution_text(stem))]
    named = [f"{name}_{number} = {name}" for number in range(len(texts)) for name in names]
    parts = itertools.chain(*zip(texts, batched_lines(named, len(names)), strict=True))
    exercise = asked_often(stem, dict.fromkeys(names, len(texts)))
    report = graded(patient, tmp_path, exercise, "\n\n".join(parts))
    assert report.points == exercise.points, complaints(report)


def batched_lines(lines: list[str], size: int) -> list[str]:
    return ["\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]


@pytest.mark.tensorflow
@pytest.mark.parametrize("stem", KERAS_STEMS)
def test_a_wrong_model_is_not_paid_and_gets_its_hint(stem: str, patient: Sandboxes, tmp_path: Path) -> None:
    questions = with_keras(stem).questions
    exercise = asked_often(stem, {question.name: len(question.hints) for question in questions})
    mistakes = [(question, hint) for question in questions for hint in question.hints]
    checks = importlib.import_module(f"solutions.checks.{stem}")
    functions = [
        each for each in vars(checks).values() if inspect.isfunction(each) and each.__module__ == checks.__name__
    ]
    parts = [solution_text(stem), "Pair = tuple\nGenerator = Any\nNumbers = list\nimport numpy as np\n"]
    parts += [inspect.getsource(each).replace("solution.make_base", "make_base") for each in functions]
    parts += [
        f"{asked.name} = {hint.wrong.__name__}" for asked, (_, hint) in zip(exercise.questions, mistakes, strict=True)
    ]
    report = graded(patient, tmp_path, exercise, "\n\n".join(parts))
    unpaid = dict.fromkeys((question.name for question in questions), 0)
    for found, (question, hint) in zip(report.questions, mistakes, strict=True):
        assert found.points < found.out_of, hint.sentence
        assert found.hint == hint.sentence
        unpaid[question.name] += found.points == 0
    assert min(unpaid.values()) >= 3, unpaid


@pytest.mark.tensorflow
@pytest.mark.parametrize("stem", KERAS_STEMS)
def test_an_exercise_with_keras_begins_with_nothing(stem: str, patient: Sandboxes) -> None:
    report = grade(EXERCISES / f"{stem}.ipynb", with_keras(stem), sandboxes=patient)
    assert complaints(report) == [f"{question.name}: is not written yet" for question in with_keras(stem).questions]


# What is written about them.


@pytest.mark.parametrize("stem", STEMS)
def test_the_readme_names_every_exercise_and_its_points_for_keras(stem: str) -> None:
    points = with_keras(stem).points
    row = rf"\| `{stem}` \| [^|]+ \| {points or ''} ?\|"
    assert re.search(row, (EXERCISES / "README.md").read_text("utf-8"))
