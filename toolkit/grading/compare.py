"""Whether an answer is right, and if not, one sentence about what is wrong with it. Works on plain data only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from toolkit.grading.questions import Compare

LONGEST = 300
MODEL = "keras_model"
"""The key under which a Keras model's description comes."""
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_KINDS = {bool: "a boolean", int: "an integer", float: "a number", str: "text", type(None): "None"}
_KINDS |= {list: "a list", tuple: "a tuple", dict: "a dictionary", frozenset: "a set", np.ndarray: "an array"}


@dataclass(frozen=True)
class Judgement:
    """`problem` is None for a right answer, otherwise what is wrong, as a sentence without its end."""

    problem: str | None
    remarks: tuple[str, ...] = ()


class _WrongError(Exception):
    """The answer is not right; the text says why."""


def judge(answer: Any, expected: Any, how: Compare) -> Judgement:
    """Compare an answer that was received with what the reference returned.

    >>> judge(26.0, 26, Compare())
    Judgement(problem=None, remarks=('26.0 came where an integer is meant; it is equal and counts',))
    >>> judge([1.0, float("nan")], np.array([1.0, 2.0]), Compare()).problem
    'NaN (not a number) came at [1]'
    """
    remarks: list[str] = []
    try:
        _compare(answer, plain(expected), how, "", remarks)
    except _WrongError as wrong:
        return Judgement(str(wrong))
    return Judgement(None, tuple(dict.fromkeys(remarks)))


def plain(value: Any) -> Any:
    """NumPy's scalars as Python's, and sets as frozen ones; containers keep what they hold."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return frozenset(value) if isinstance(value, set) else list(value) if isinstance(value, range) else value


def _compare(answer: Any, expected: Any, how: Compare, at: str, remarks: list[str]) -> None:
    """Raise _WrongError where two values differ; `at` is where in the whole answer they are."""
    if isinstance(answer, np.ndarray) and answer.ndim == 0 and not isinstance(expected, np.ndarray):
        if answer.dtype.kind != "f" or not isinstance(expected, float):
            remarks.append(f"a NumPy {answer.dtype.name} came where {_kind(expected)} is meant; it is equal and counts")
        answer = answer.item()
    if answer is None and expected is not None:
        raise _WrongError(f"None came{_at(at)}; is a `return` missing?")
    if isinstance(expected, np.ndarray):
        _compare_arrays(answer, expected, how, at, remarks)
    elif isinstance(expected, (list, tuple)):
        _compare_sequences(answer, expected, how, at, remarks)
    elif isinstance(expected, dict):
        _compare_dicts(answer, expected, how, at, remarks)
    elif isinstance(expected, (bool, int, float)):
        _compare_numbers(answer, expected, how, at, remarks)
    elif isinstance(expected, frozenset) and isinstance(answer, (list, tuple)):
        _compare_set(answer, expected, at, remarks)
    else:
        _need_kind(answer, expected, at)
        _need(answer == expected, at)


def _at(at: str) -> str:
    return f" at {at}" if at else ""


def _need(right: bool, at: str) -> None:
    if not right:
        raise _WrongError(f"the value{_at(at)} is wrong")


def _kind(value: Any) -> str:
    if isinstance(value, dict) and list(value) == [MODEL]:
        return "a Keras model"
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), type(value).__name__)


def _need_kind(answer: Any, expected: Any, at: str) -> None:
    if type(answer) is not type(expected) and expected is not None:
        raise _WrongError(f"{_kind(expected)} was expected{_at(at)}, {_kind(answer)} came")


# Numbers.


def _compare_numbers(answer: Any, expected: int | float, how: Compare, at: str, remarks: list[str]) -> None:
    if not isinstance(answer, (bool, int, float)):
        if isinstance(answer, np.ndarray) and answer.size == 1:
            _compare_numbers(answer.reshape(()).item(), expected, how, at, remarks)
            remarks.append(f"an array of one number came where {_kind(expected)} is meant; it is equal and counts")
            return
        raise _WrongError(f"{_kind(expected)} was expected{_at(at)}, {_kind(answer)} came")
    if isinstance(answer, float) and not math.isfinite(answer) and math.isfinite(expected):
        raise _WrongError(f"{_not_finite(answer)} came{_at(at)}")
    _need(_is_close(answer, expected, how), at)
    if type(answer) is not type(expected) and not (isinstance(expected, float) and type(answer) is int):
        remarks.append(f"{shown(answer)} came where {_kind(expected)} is meant; it is equal and counts")


def _is_close(answer: int | float, expected: int | float, how: Compare) -> bool:
    if isinstance(expected, int):
        return answer == expected
    if math.isnan(expected):
        return answer != answer  # noqa: PLR0124 - which only NaN is not
    try:
        return answer == expected or abs(float(answer) - expected) <= how.atol + how.rtol * abs(expected)
    except OverflowError:
        return False


def _not_finite(number: float) -> str:
    return "NaN (not a number)" if math.isnan(number) else "infinity"


# Arrays.


def _compare_arrays(answer: Any, expected: np.ndarray[Any, Any], how: Compare, at: str, remarks: list[str]) -> None:
    array = answer if isinstance(answer, np.ndarray) else _array_of(answer, at)
    if array.shape != expected.shape:
        wanted, came = shown_shape(expected.shape), shown_shape(array.shape)
        raise _WrongError(f"an array of the shape {wanted} was expected{_at(at)}, {came} came")
    with np.errstate(all="ignore"):
        _need_finite(array, expected, at)
        right = _close_elements(array, expected, how)
    if not right.all():
        wrong = np.argwhere(~right)
        many = f"{len(wrong):,} of {right.size:,} numbers{_at(at)} {'are' if len(wrong) > 1 else 'is'} wrong"
        raise _WrongError(f"{many}, the first at {shown_index(wrong[0])}")
    if not isinstance(answer, np.ndarray):
        remarks.append(f"{_kind(answer)} came where an array is meant; its values are equal and count")


def _array_of(answer: Any, at: str) -> np.ndarray[Any, Any]:
    """A nested list of numbers as an array."""
    if not isinstance(answer, (list, tuple, int, float)):
        raise _WrongError(f"an array was expected{_at(at)}, {_kind(answer)} came")
    try:
        array = np.array(answer)
    except (ValueError, OverflowError, TypeError):
        raise _WrongError(f"{_kind(answer)}{_at(at)} came whose rows differ in length; an array was expected") from None
    if array.dtype.kind not in "biuf":
        raise _WrongError(f"an array of numbers was expected{_at(at)}, {_kind(answer)} of other things came")
    return array


def _need_finite(array: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], at: str) -> None:
    if array.dtype.kind != "f":
        return
    meant = np.isfinite(expected) if expected.dtype.kind == "f" else np.ones(expected.shape, bool)
    for found, name in ((np.isnan(array), "NaN (not a number)"), (np.isinf(array), "infinity")):
        bad = np.argwhere(found & meant)
        if len(bad):
            where = f"{at}{shown_index(bad[0])}"
            many = f"{name} came {len(bad):,} times, first at {where}"
            raise _WrongError(many if len(bad) > 1 else f"{name} came at {where}")


def _close_elements(array: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], how: Compare) -> Any:
    if expected.dtype.kind != "f":
        return array == expected
    a, b = array.astype(np.float64), expected.astype(np.float64)
    near = np.abs(a - b) <= how.atol + how.rtol * np.abs(b)
    return (a == b) | near | (np.isnan(a) & np.isnan(b))


# Containers.


def _compare_sequences(answer: Any, expected: Any, how: Compare, at: str, remarks: list[str]) -> None:
    if not isinstance(answer, (list, tuple, np.ndarray)):
        raise _WrongError(f"{_kind(expected)} was expected{_at(at)}, {_kind(answer)} came")
    if type(answer) is not type(expected):
        remarks.append(f"{_kind(answer)} came where {_kind(expected)} is meant; its values are equal and count")
    values = answer.tolist() if isinstance(answer, np.ndarray) else answer
    if not isinstance(values, (list, tuple)) or len(values) != len(expected):
        came = len(values) if isinstance(values, (list, tuple)) else 1
        raise _WrongError(f"{len(expected):,} values were expected{_at(at)}, {came:,} came")
    for number, (value, wanted) in enumerate(zip(values, expected, strict=True)):
        _compare(value, plain(wanted), how, f"{at}[{number}]", remarks)


def _compare_dicts(answer: Any, expected: dict[Any, Any], how: Compare, at: str, remarks: list[str]) -> None:
    _need_kind(answer, expected, at)
    wanted = {plain(key): value for key, value in expected.items()}
    missing = [key for key in wanted if key not in answer]
    more = [key for key in answer if key not in wanted]
    if missing:
        raise _WrongError(f"the key {shown(missing[0])}{_at(at)} is missing")
    if more:
        raise _WrongError(f"the key {shown(more[0])}{_at(at)} is one too many")
    for key, value in wanted.items():
        _compare(answer[key], plain(value), how, f"{at}[{shown(key)}]", remarks)


def _compare_set(answer: Any, expected: frozenset[Any], at: str, remarks: list[str]) -> None:
    _need(len(answer) == len(expected) and all(plain(value) in expected for value in answer if _hashable(value)), at)
    _need(len(frozenset(plain(value) for value in answer if _hashable(value))) == len(expected), at)
    remarks.append(f"{_kind(answer)} came where a set is meant; its values are equal and count")


def _hashable(value: Any) -> bool:
    return not isinstance(plain(value), (list, dict, np.ndarray))


# Words for values.


def shown_shape(shape: Iterable[int]) -> str:
    """A shape as people write it.

    >>> shown_shape((3, 4)), shown_shape((5,)), shown_shape(())
    ('3 × 4', '(5,)', '()')
    """
    sizes = tuple(int(size) for size in shape)
    return " × ".join(map(str, sizes)) if len(sizes) > 1 else str(sizes)


def shown_index(index: Iterable[int]) -> str:
    """A place in an array.

    >>> shown_index([0, 2])
    '[0, 2]'
    """
    return str([int(number) for number in index])


def clean(text: str, longest: int = 4 * LONGEST) -> str:
    r"""Text of a student's without control characters, memory addresses and what no file can hold; cut where long.

    >>> clean("a\x1b[31m<f at 0x7f01aabbccdd>")
    'a�[31m<f at 0x…>'
    """
    cut = text[: longest + 1]
    shown_text = "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in cut)
    shown_text = _ADDRESS.sub("0x…", shown_text)
    return shown_text if len(cut) <= longest else shown_text[: longest - 1] + "…"


def shown(value: Any, longest: int = LONGEST) -> str:
    """A value of plain data in a line, cut where it is long.

    >>> shown([1, 2.5, "x"]), shown(np.zeros((2, 3)))
    ("[1, 2.5, 'x']", 'array of 2 × 3 float64: [[0. 0. 0.] [0. 0. 0.]]')
    """
    text = ""
    for part in _parts(plain(value), 0):
        text += part
        if len(text) > longest:
            return clean(text)[: longest - 1] + "…"
    return clean(text, longest)


def _parts(value: Any, depth: int) -> Iterator[str]:
    """The pieces of a value's text, so that a long one need not be written to its end."""
    if isinstance(value, np.ndarray):
        listed = np.array2string(value, threshold=20, edgeitems=2, precision=6, max_line_width=10**9)
        yield f"array of {shown_shape(value.shape)} {value.dtype.name}: {' '.join(listed.split())}"
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        yield f"an integer of {value.bit_length():,} bits"
    elif isinstance(value, (str, bytes)):
        yield repr(value[: 2 * LONGEST])
    elif isinstance(value, (list, tuple, frozenset)):
        brackets = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        members = sorted(value, key=lambda member: "".join(_parts(member, 0))) if brackets == "{}" else value
        yield brackets[0]
        for number, member in enumerate(members):
            yield ", " if number else ""
            yield from _parts(plain(member), depth + 1)
        yield ",)" if brackets == "()" and len(members) == 1 else brackets[1]
    elif isinstance(value, dict):
        yield "{"
        for number, (key, member) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _parts(plain(key), depth + 1)
            yield ": "
            yield from _parts(plain(member), depth + 1)
        yield "}"
    else:
        yield repr(value)


def shown_call(name: str, arguments: Iterable[Any]) -> str:
    """A call as a student would write it, with long arguments cut.

    >>> shown_call("f", (1, [2, 3]))
    'f(1, [2, 3])'
    """
    return f"{name}({', '.join(shown(argument, 160) for argument in arguments)})"
