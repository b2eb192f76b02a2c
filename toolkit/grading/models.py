"""Keras models as answers. They travel as Keras's own description (`to_json`), are priced as data by our arithmetic,
and only one of a bounded size is built again, in a sandboxed process, to see what it computes.

Weights are drawn from the name and the shape of a variable, not from the order of the layers, so that two descriptions
of one function give the same numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import InputError
from toolkit.grading.compare import MODEL, Judgement, judge, shown_shape
from toolkit.grading.questions import Arguments, Compare, generator
from toolkit.grading.sandbox import DiedError, Limits, Sandbox, Student

if TYPE_CHECKING:
    from toolkit.costs import Rows

LARGEST_TEXT = 4 * 2**20
MOST_CALLS = 2000
MOST_PARAMS, MOST_MACS, MOST_VALUES = 50_000_000, 20_000_000_000, 20_000_000
# The height and width where a model leaves them open.
OPEN_SIDE = 64
IMAGES = 2
SECONDS = 60.0
# Single precision, added up in another order.
RTOL, ATOL = 1e-3, 1e-4
STARTS = 3


class ModelError(Exception):
    """A model that cannot be judged; the text is a sentence."""


@dataclass(frozen=True)
class Model:
    """A model's description and its rows."""

    text: str
    rows: Rows

    @property
    def inputs(self) -> list[tuple[int, ...]]:
        """The shapes of its inputs, without the batch."""
        return [row.output_shape for row in self.rows if not row.reads]

    @property
    def outputs(self) -> list[tuple[int, ...]]:
        """The shapes of what no layer reads."""
        read = {index for row in self.rows for index in row.reads}
        return [row.output_shape for index, row in enumerate(self.rows) if index not in read]


def is_model(value: Any) -> bool:
    """Whether a value that came from a process stands for a Keras model.

    >>> is_model({"keras_model": "{}"}), is_model({"a": 1})
    (True, False)
    """
    return isinstance(value, dict) and list(value) == [MODEL] and isinstance(value[MODEL], str)


def shown_model(value: Any) -> str:
    """A model in a few words.

    >>> shown_model({"keras_model": "{"})
    'a Keras model'
    """
    try:
        model = read_model(value)
    except ModelError:
        return "a Keras model"
    ends = (" and ".join(map(shown_shape, shapes)) for shapes in (model.inputs, model.outputs))
    return f"a Keras model from {' to '.join(ends)} with {sum(row.params for row in model.rows):,} parameters"


# Read and priced as data.


def read_model(value: Any) -> Model:
    """The model that came as an answer; raises ModelError for what is none, or is larger than any answer is."""
    if not is_model(value):
        raise ModelError("a Keras model was expected, something else came")
    text = value[MODEL]
    if len(text) > LARGEST_TEXT:
        raise ModelError(f"the model's description has {len(text):,} characters; at most {LARGEST_TEXT:,} are read")
    try:
        return _priced(Model(text, _rows(text)))
    except InputError as error:
        raise ModelError(f"the model cannot be judged: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelError(f"the model's description is not one that Keras writes ({type(error).__name__})") from None


def _rows(text: str) -> Rows:
    from toolkit.keras_files import rows_from_config

    config = json.loads(text)["config"]
    if _calls(config) > MOST_CALLS:
        raise ModelError(f"the model calls more than {MOST_CALLS:,} layers")
    return rows_from_config(config, _filled(config))


def _calls(config: Any) -> int:
    """How many calls of layers there are when nested models are unfolded."""
    total = 0
    for step in config["layers"]:
        inner = _calls(step["config"]) if "layers" in step["config"] else 1
        total += inner * max(1, len(step.get("inbound_nodes", ())))
    return total


def _filled(config: Any) -> tuple[int, ...] | None:
    """The size of an image for a model that leaves it open, None for one that does not."""
    shapes = [step["config"]["batch_shape"] for step in config["layers"] if step["class_name"] == "InputLayer"]
    shape = shapes[0] if shapes else config.get("build_input_shape")
    if not shape or None not in shape[1:]:
        return None
    return tuple(OPEN_SIDE if size is None else int(size) for size in shape[1:])


def _priced(model: Model) -> Model:
    params, macs = sum(row.params for row in model.rows), sum(row.macs for row in model.rows)
    values = max(_size(row.output_shape) for row in model.rows)
    for count, most, what in (
        (params, MOST_PARAMS, "parameters"),
        (macs, MOST_MACS, "multiply-accumulates for one image"),
        (values, MOST_VALUES, "values in one layer"),
    ):
        if count > most:
            raise ModelError(f"the model has {count:,} {what}; no right answer has more than {most:,}")
    return model


def _size(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


# Compared.


def structure_problem(model: Model, expected: Model, how: Compare) -> str | None:
    """What is wrong with a model as far as its description tells, None where nothing is."""
    for shapes, meant, end in ((model.inputs, expected.inputs, "input"), (model.outputs, expected.outputs, "output")):
        if shapes != meant:
            came, wanted = (" and ".join(map(shown_shape, each)) for each in (shapes, meant))
            return f"the model's {end} is {came} where {wanted} is expected"
    for kind, word in (("params", "parameters"), ("trainable_params", "parameters that can be trained")):
        came_count, meant_count = (sum(getattr(row, kind) for row in each.rows) for each in (model, expected))
        if came_count != meant_count:
            return f"the model has {came_count:,} {word}, which is too {'many' if came_count > meant_count else 'few'}"
    if not how.outputs and _graph(model) != _graph(expected):
        return "the model has other layers, or they are connected otherwise"
    return None


def _graph(model: Model) -> list[str]:
    """A signature of every output: what computes it, and what that reads, without names and what changes no shape."""
    signs: list[str] = []
    for row in model.rows:
        reads = [signs[index] for index in row.reads]
        silent = len(reads) == 1 and not row.params and not row.macs and row.input_shapes[0] == row.output_shape
        ordered = reads if "oncat" in row.type else sorted(reads)
        told = f"{row.type}{row.output_shape}{row.trainable_params}+{row.non_trainable_params}({','.join(ordered)})"
        signs.append(reads[0] if silent and "ool" not in row.type else str(generator(0, told).integers(2**62)))
    read = {index for row in model.rows for index in row.reads}
    return sorted(sign for index, sign in enumerate(signs) if index not in read)


class Experts:
    """The process that knows what is right: it runs references and common mistakes, never a student's code.

    It works for one submission after the other. `spent` are the seconds that it and what is built again took so far.
    """

    def __init__(self, sandbox: Callable[[], Sandbox]) -> None:
        self._sandbox = sandbox
        self._process: Student | None = None
        self._modules: set[str] = set()
        self.spent = 0.0

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._modules.clear()

    def apply(self, function: Callable[..., Any], cases: Sequence[Arguments]) -> list[Any]:
        """What a function of ours returns; a DiedError's sentence as `ModelError`, an exception as a Raised."""
        name = _name(function)
        request = {"do": "apply", "module": function.__module__, "name": name, "cases": [list(case) for case in cases]}
        with self._timed():
            for _ in range(STARTS - 1):
                try:
                    return self._apply(function, request)
                except DiedError:
                    self.close()
            try:
                return self._apply(function, request)
            except DiedError as died:
                self.close()
                raise InputError(f"the reference {name} {died}") from None

    def _apply(self, function: Callable[..., Any], request: dict[str, Any]) -> list[Any]:
        process = self._started()
        for module in _modules_of(function):
            self._tell(process, module)
        answers = process.ask_many(request, len(request["cases"]), SECONDS, time.monotonic() + 10 * SECONDS)
        return [Raised(**answer["raised"]) if "raised" in answer else answer["value"] for answer in answers]

    def outputs(self, model: Model) -> list[Any]:
        """What a model of ours computes."""
        with self._timed():
            try:
                return rebuilt(self._started(), [model])[0]
            except DiedError:  # it has worked for long enough to use up its CPU time
                self.close()
                return rebuilt(self._started(), [model])[0]

    def _started(self) -> Student:
        if self._process is None:
            self._process = self._sandbox().start()
        return self._process

    def _tell(self, process: Student, module: ModuleType) -> None:
        if module.__name__ in self._modules:
            return
        source = _source(module)
        request = {"do": "module", "module": module.__name__, "name": f"{module.__name__}.py", "source": source}
        process.ask(request, time.monotonic() + SECONDS)
        self._modules.add(module.__name__)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spent += time.monotonic() - begun


@dataclass(frozen=True)
class Raised:
    """An exception of ours: the name of its type, and what it says."""

    kind: str
    text: str


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", "")
    if not name.isidentifier():
        raise InputError(
            f"{name or function!r} has to be a function of a module's top level: it runs in another process"
        )
    return str(name)


def _modules_of(function: Callable[..., Any]) -> list[ModuleType]:
    """The module of a function, after the solutions that this module imports by name."""
    import sys

    home = sys.modules[function.__module__]
    needed = [each for each in vars(home).values() if isinstance(each, ModuleType)]
    return [*(each for each in needed if each.__name__.startswith("solutions.")), home]


def _source(module: ModuleType) -> bytes:
    from pathlib import Path

    return Path(str(module.__file__)).read_bytes()


def rebuilt(process: Student, models: Sequence[Model], seconds: float = SECONDS) -> list[list[Any]]:
    """What models compute from random images, built in this process; raises DiedError or ModelError."""
    cases = [{"model": model.text, "inputs": images(model)} for model in models]
    request = {"do": "rebuild", "cases": cases}
    found = []
    for answer in process.ask_many(request, len(cases), seconds, time.monotonic() + seconds):
        if not isinstance(answer.get("value"), list):
            raise ModelError("the model cannot be built again from its description")
        found.append(answer["value"])
    return found


def images(model: Model) -> list[np.ndarray[Any, Any]]:
    """Random images for every input of a model, the same for the same shapes."""
    return [
        generator(0, f"image {number} {shape}").normal(size=(IMAGES, *shape)).astype(np.float32)
        for number, shape in enumerate(model.inputs)
    ]


class Judge:
    """Compares the models of one submission; builds them in a process that only this submission uses."""

    def __init__(self, sandbox: Callable[[], Sandbox], experts: Experts) -> None:
        self._sandbox, self._experts = sandbox, experts
        self._process: Student | None = None
        self._outputs: dict[str, list[Any]] = {}
        self._ours: dict[str, list[Any]] = {}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def judge(self, answer: Any, expected: Any, how: Compare) -> Judgement:
        """Compare what came from a student with what came from a reference; both are plain data."""
        try:
            model, right = read_model(answer), read_model(expected)
            problem = structure_problem(model, right, how)
            if problem or not how.outputs:
                return Judgement(problem)
            return self._judge_outputs(model, right, how)
        except ModelError as error:
            return Judgement(str(error))

    def _judge_outputs(self, model: Model, right: Model, how: Compare) -> Judgement:
        if right.text not in self._ours:
            self._ours[right.text] = self._experts.outputs(right)
        meant = self._ours[right.text]
        near = replace(how, rtol=max(how.rtol, RTOL), atol=max(how.atol, ATOL))
        for came, wanted in zip(self._built(model), meant, strict=True):
            if (problem := judge(came, wanted, near).problem) is not None:
                return Judgement(f"the model has the right size but computes something else ({problem})")
        return Judgement(None)

    def _built(self, model: Model) -> list[Any]:
        if model.text not in self._outputs:
            begun = time.monotonic()
            try:
                self._process = self._process or self._sandbox().start()
                (self._outputs[model.text],) = rebuilt(self._process, [model], SECONDS / 2)
            except DiedError as died:
                self._process = None
                raise ModelError(f"building the model again {died}") from None
            finally:
                self._experts.spent += time.monotonic() - begun
        return self._outputs[model.text]


def limits_for(limits: Limits, needs: str) -> Limits:
    """The limits of a submission that needs more than NumPy: Keras takes seconds to begin with.

    >>> limits_for(Limits(), "keras").submission_seconds > Limits().submission_seconds
    True
    """
    if needs != "keras":
        return limits
    return replace(
        limits,
        submission_seconds=limits.keras_seconds,
        statement_seconds=max(limits.statement_seconds, limits.keras_seconds / 4),
        memory_bytes=limits.keras_memory_bytes,
        cpu_seconds=int(5 * limits.keras_seconds),
        processes=8 * limits.processes,
    )
