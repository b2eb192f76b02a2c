"""What an exercise asks, and how an answer is judged: data that stands beside the reference solution.

Nothing of this ever enters the process that runs a student's code: arguments go in, answers come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from toolkit.errors import InputError

Arguments = tuple[Any, ...]
"""What one call gets. Plain data: numbers, text, None, lists, tuples, dictionaries and arrays of them."""

Pack = Mapping[str, Callable[[np.random.Generator], Sequence[Arguments]]]
"""An instructor's own cases by question; they join the cases of the question's last item."""


@dataclass(frozen=True)
class Compare:
    """When an answer counts as right.

    Integers, text and booleans have to be equal (np.int64, 26.0 and True are equal to 26, 26 and 1, with a remark);
    floats may differ by `atol + rtol * |expected|`. `kind="keras"`: the answer is a Keras model, whose shapes,
    parameters and layers are compared, and with `outputs` what it computes from random images with seeded weights.
    """

    rtol: float = 1e-5
    atol: float = 1e-7
    kind: Literal["value", "keras"] = "value"
    outputs: bool = True


@dataclass(frozen=True)
class Hint:
    """A common mistake: `wrong` computes it from the same arguments as the reference.

    The sentence is shown where an answer equals the mistake on all cases on which mistake and reference differ.
    """

    sentence: str
    wrong: Callable[..., Any]


@dataclass(frozen=True)
class Item:
    """A line of the rubric. It pays its points when all of its cases pass, otherwise nothing.

    `examples` are public: a failing one is shown with the expected value. `cases` makes hidden ones from a generator
    that depends on the seed, the student and the item.
    """

    what: str
    points: int
    examples: tuple[Arguments, ...] = ()
    cases: Callable[[np.random.Generator], Sequence[Arguments]] | None = None


@dataclass(frozen=True)
class Question:
    """One function or class that a student writes.

    `call` is the source of a function `call(student, *arguments)` for answers that one call cannot give; it runs in
    the student's process instead of `student.NAME(*arguments)`, where `student` holds the student's names, and returns
    plain data. `reference` gets the arguments and returns what a right answer returns, in the grader; where
    `needs="keras"`, in a sandboxed process of its own, and it may return a Keras model: it has to be a function of a
    module's top level there, and so have the hints' `wrong`. `seconds` is the time of one call.
    """

    name: str
    items: tuple[Item, ...]
    reference: Callable[..., Any]
    compare: Compare = Compare()
    hints: tuple[Hint, ...] = ()
    needs: Literal["numpy", "keras"] = "numpy"
    seconds: float = 4.0
    call: str = ""

    @property
    def points(self) -> int:
        """What the question pays in all."""
        return sum(item.points for item in self.items)


@dataclass(frozen=True)
class Exercise:
    """The questions of a chapter; `stem` is the name of its files."""

    stem: str
    title: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        names = [question.name for question in self.questions]
        if len(set(names)) < len(names):
            raise InputError(f"{self.stem}: every question needs a name of its own; {', '.join(names)} came")
        for question in self.questions:
            for item in question.items:
                if item.points < 1 or not (item.examples or item.cases):
                    raise InputError(f"{self.stem}, {question.name}: {item.what!r} needs a point and a case at least")

    @property
    def points(self) -> int:
        """What the exercise pays in all."""
        return sum(question.points for question in self.questions)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on a seed and on names (student, exercise, question, item), the same everywhere.

    >>> [int(generator(7, name).integers(1000)) for name in ("ana", "ana", "bo")]
    [1, 1, 670]
    """
    text = "\0".join((str(seed), *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big"))
