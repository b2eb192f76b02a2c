"""The hidden cases notice every small slip: each reference with one thing changed has to lose points.

A mutant is a reference with another operator, comparison or function, a number one off, or a statement left out.
"""

from __future__ import annotations

import ast
import copy
import importlib
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.grading.compare import judge
from toolkit.grading.questions import Exercise, Question, generator

SOLUTIONS = Path(__file__).parents[1] / "solutions"
STEMS = sorted(path.stem for path in SOLUTIONS.glob("ch*.py"))
OPERATORS: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Div(),
    ast.Mod: ast.Add(),
    ast.Pow: ast.Mult(),
}
COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
OTHERS = {
    "max": "min",
    "min": "max",
    "sum": "mean",
    "mean": "sum",
    "rint": "floor",
    "maximum": "minimum",
    "floor": "ceil",
}
# Loops that a mutant would never leave, and a generator.
LEFT_OUT = {"accumulation", "prefetched"}
# What is right all the same: any negative size is reshape's unknown one, a window of one more axis is not read,
# 2.0 is 2, odd windows halve alike, and a scale common to all numbers makes no difference to the largest.
EQUIVALENT = {
    "image.reshape(-2, image.shape[2])",
    "kernel.reshape(height, width, -2, kernel.shape[1])",
    "seen.reshape(-2)",
    "activations.reshape(parts, -2, activations.shape[1])",
    "np.abs(kernel).reshape(-2, kernel.shape[-1])",
    "kernel.shape[:3]",
    "(window - 1) / 2",
    "(window - 0) // 2",
    "gradients.sum(axis=(0, 1))",
    "probabilities.sum(axis=0)",
}


def changed(node: ast.AST) -> Iterator[Callable[[Any], None]]:
    """All small changes of one node, as functions that make them in a copy of it."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield lambda copied: setattr(copied, "op", OPERATORS[type(copied.op)])
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield lambda copied: setattr(copied, "ops", [COMPARISONS[type(copied.ops[0])], *copied.ops[1:]])
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        yield lambda copied: setattr(copied, "value", copied.value + 1)
        yield lambda copied: setattr(copied, "value", copied.value - 1)
    for field in ("attr", "id"):
        if getattr(node, field, None) in OTHERS:
            yield partial(_rename, field)
    if isinstance(node, (ast.FunctionDef, ast.For, ast.If)):
        for place, statement in enumerate(node.body):
            if len(node.body) > 1 and not isinstance(statement, ast.Expr):
                yield partial(_leave_out, place)


def _rename(field: str, node: Any) -> None:
    setattr(node, field, OTHERS[getattr(node, field)])


def _leave_out(place: int, node: Any) -> None:
    del node.body[place]


def mutants(function: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Each mutant of a function or class with the words for what was changed."""
    for place, node in enumerate(ast.walk(function)):
        for change in changed(node):
            mutant = copy.deepcopy(function)
            part = list(ast.walk(mutant))[place]
            before = ast.unparse(function).splitlines()
            change(part)
            ast.fix_missing_locations(mutant)
            after = ast.unparse(mutant).splitlines()
            different = [line for line in after if line not in before]
            yield (different[0] if different else f"without line {getattr(part, 'lineno', 0)}"), mutant


def answers_right(question: Question, rubric: list[tuple[Any, Any]], answer: Any) -> bool:
    """Whether an answer is right in all cases; an error is a wrong answer."""
    called = answer
    if question.call:
        names: dict[str, Any] = {}
        exec(question.call, names)
        student = types.SimpleNamespace(**{question.name: answer})
        called = lambda *given: names["call"](student, *given)  # noqa: E731
    for arguments, expected in rubric:
        try:
            value = called(*copy.deepcopy(arguments))
        except Exception:
            return False
        if judge(np.asarray(value) if isinstance(value, np.generic) else value, expected, question.compare).problem:
            return False
    return True


@pytest.mark.parametrize("stem", STEMS)
def test_the_cases_notice_a_small_slip(stem: str) -> None:
    module, exercise = importlib.import_module(f"solutions.{stem}"), exercise_of(stem)
    written = {
        getattr(node, "name", ""): node for node in ast.parse((SOLUTIONS / f"{stem}.py").read_text("utf-8")).body
    }
    survivors, tried = [], 0
    for question in exercise.questions:
        if question.needs == "keras" or question.name in LEFT_OUT:
            continue
        rubric = [(each, question.reference(*copy.deepcopy(each))) for each in cases_of(stem, question)]
        assert answers_right(question, rubric, getattr(module, question.name))
        for words, mutant in mutants(written[question.name]):
            names = dict(vars(module))
            exec(compile(ast.Module([mutant], []), "mutant", "exec"), names)
            tried += 1
            with np.errstate(all="ignore"):
                if answers_right(question, rubric, names[question.name]):
                    survivors.append(f"{question.name}: {words.strip()}")
    assert tried >= 10
    assert [each for each in survivors if not any(known in each for known in EQUIVALENT)] == []


def exercise_of(stem: str) -> Exercise:
    found = importlib.import_module(f"solutions.checks.{stem}").EXERCISE
    assert isinstance(found, Exercise)
    return found


def cases_of(stem: str, question: Question) -> Iterator[tuple[Any, ...]]:
    for item in question.items:
        yield from item.examples
        for seed in (1, 2):
            assert item.cases is not None
            yield from item.cases(generator(seed, stem, question.name, item.what))
