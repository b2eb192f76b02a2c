"""Messages between the grader and a student's process: what goes in comes out, and nothing else gets through."""

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.grading import protocol
from toolkit.grading.protocol import EndedError, LateError, Line, ProtocolError, ThreadedLine, decode, encode

NUMBER = struct.Struct(">I").pack
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.none() | st.booleans() | st.integers() | st.text()
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_comes_back_the_same(value: Any) -> None:
    found = decode(encode(value))
    assert found == value
    assert repr(found) == repr(value)  # types too: True is no 1, a tuple no list


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        value = decode(data)
        assert repr(decode(encode(value))) == repr(value)


@pytest.mark.parametrize("dtype", sorted(protocol.DTYPES))
def test_arrays_keep_type_shape_and_values(dtype: str) -> None:
    for array in (np.arange(6).reshape(2, 3).astype(dtype), np.ones((), dtype), np.zeros((0, 5), dtype)):
        found = decode(encode(array))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert (found == array).all()


def test_arrays_of_other_orders_and_kinds() -> None:
    turned = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert (decode(encode(turned)) == turned).all()
    assert decode(encode(np.longdouble(0.5))).dtype == np.float64
    assert decode(encode(np.array(["a", "b"]))) == ["a", "b"]
    assert decode(encode(np.array([[1, 2], None], object))) == [[1, 2], None]


def test_numbers_of_other_types() -> None:
    big = -(10**5000)
    assert decode(encode(big)) == big
    assert decode(encode([Fraction(6, 3), Fraction(1, 2), Decimal("608"), Decimal("0.5")])) == [2, 0.5, 608, 0.5]
    assert np.isnan(decode(encode(Decimal("nan"))))
    assert decode(encode({3, 1})) == frozenset({1, 3})
    assert decode(encode(range(3))) == [0, 1, 2]
    assert decode(encode("\ud800")) == "\ud800"


def test_what_says_that_it_is_an_array_is_one() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.ones(3)

    assert decode(encode(Tensor())).tolist() == [1.0, 1.0, 1.0]


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "of the type object cannot be read"),
        (1j, "of the type complex"),
        (np.zeros(2, complex), "type complex128"),
        (np.zeros(2, "datetime64[s]"), "datetime64"),
        (deep(), "nested deeper"),
        (circle(), "nested deeper"),
        (int, "of the type type"),
        (np.broadcast_to(np.float64(1), (2**24,)), "bytes; at most"),
    ],
)
def test_what_is_no_plain_data_is_refused(value: Any, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        encode(value)


ARRAY = b"a" + NUMBER(7) + b"float64"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ends 1 bytes early"),
        (b"x", "no value begins"),
        (b"NN", "1 bytes follow"),
        (b"s" + NUMBER(9) + b"abc", "ends 6 bytes early"),
        (b"i" + NUMBER(2) + b"_1", "base 16"),
        (b"i" + NUMBER(0), "base 16"),
        (b"l" * 50, "ends|levels"),
        (b"l" + NUMBER(2**32 - 1), "early"),
        ((b"l" + NUMBER(1)) * 60 + b"N", "levels"),
        (b"m" + NUMBER(1) + b"l" + NUMBER(0) + b"N", "no key"),
        (b"e" + NUMBER(5000), "2,000 keys"),
        (b"m" + NUMBER(5000), "2,000 keys"),
        (b"l" + NUMBER(20) + (b"e" + NUMBER(2000) + b"N" * 2000) * 20, "2,000 keys"),
        (b"a" + NUMBER(6) + b"object" + b"\0" + bytes(8), "not read"),
        (ARRAY + b"\1" + (2**40).to_bytes(8, "big") + (8).to_bytes(8, "big") + bytes(8), "shape does not fit"),
        (ARRAY + b"\2" + (2**63).to_bytes(8, "big") * 2 + bytes(8), "shape does not fit"),
        (ARRAY + b"\2" + bytes(8) + (2**63).to_bytes(8, "big") + bytes(8), "cannot be read"),
        (b"s" + NUMBER(1) + b"\xff", "cannot be read"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode(data)


def test_keys_that_all_have_the_same_hash_cost_little() -> None:
    same = [number * (2**61 - 1) for number in range(2000)]
    message = encode([dict.fromkeys(same, 0)] * 10)
    begun = time.process_time()
    assert len(decode(message)) == 10
    assert time.process_time() - begun < 10
    with pytest.raises(ProtocolError, match="2,000 keys"):
        decode(encode(dict.fromkeys([*same, 1], 0)))


# Lines.


@pytest.fixture(params=[Line, ThreadedLine])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int, int]]:
    """A line of the grader's, and the file descriptors at its other end (to read, to write)."""
    theirs_in, outbox = os.pipe()
    inbox, theirs_out = os.pipe()
    line = request.param(inbox, outbox)
    yield line, theirs_in, theirs_out
    line.close()
    for file in (theirs_in, theirs_out):
        with contextlib.suppress(OSError):
            os.close(file)


def soon() -> float:
    return time.monotonic() + 20


def test_a_question_and_its_answer(ends: tuple[Any, int, int]) -> None:
    line, theirs_in, theirs_out = ends
    big = np.arange(200_000)

    def answer() -> None:
        protocol.send(theirs_out, protocol.receive(theirs_in))

    other = threading.Thread(target=answer)
    other.start()
    line.send([1, big], soon())
    one, array = line.receive(soon())
    other.join()
    assert one == 1
    assert (array == big).all()


def test_nothing_waits_longer_than_it_is_told(ends: tuple[Any, int, int]) -> None:
    line, _, theirs_out = ends
    begun = time.monotonic()
    with pytest.raises(LateError):
        line.receive(begun + 0.05)
    os.write(theirs_out, b"\0\0")  # a trickle is no message
    with pytest.raises(LateError):
        line.receive(time.monotonic() + 0.05)
    assert time.monotonic() - begun < 10


def test_the_end_of_a_line(ends: tuple[Any, int, int]) -> None:
    line, _, theirs_out = ends
    os.write(theirs_out, b"\0\0\0")
    os.close(theirs_out)
    with pytest.raises(EndedError):
        line.receive(soon())


def test_a_message_that_announces_too_much_is_not_waited_for(ends: tuple[Any, int, int]) -> None:
    line, _, theirs_out = ends
    os.write(theirs_out, (2**40).to_bytes(8, "big"))
    with pytest.raises(ProtocolError, match="is announced"):
        line.receive(soon())


def test_a_reader_that_never_reads_stops_a_line_in_time() -> None:
    theirs_in, outbox = os.pipe()
    inbox, theirs_out = os.pipe()
    line = Line(inbox, outbox)
    with pytest.raises(LateError):
        line.send(bytes(2**20), time.monotonic() + 0.05)
    os.close(theirs_in)
    with pytest.raises(EndedError):
        line.send(bytes(2**20), soon())
    line.close()
    os.close(theirs_out)


def test_frames_that_are_too_large_are_not_sent() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        protocol.send_bytes(1, bytes(protocol.LARGEST_FRAME + 1))
