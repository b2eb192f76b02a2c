"""A group becomes a batch: what is skipped, replaced, and refused."""

import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.streaming.failures import Cause, SampleError
from toolkit.streaming.groups import Group, OnError
from toolkit.system import process_memory

SHAPE = (2, 3, 3)


def finished(fails: list[bool]) -> Group:
    """Sample i has label 10 i and an image full of i + 1."""
    numbers = np.arange(len(fails))
    group = Group(numbers + 100, [f"http://a.org/{number}" for number in numbers], 10 * numbers, SHAPE)
    for place, bad in enumerate(fails):
        if bad:
            group.fail(place, SampleError(Cause.EMPTY, "0 bytes came"))
        else:
            group.images[place] = place + 1
            group.done(place)
    return group


def is_finished(group: Group) -> bool:
    return group.finished


def taken(group: Group, on_error: OnError) -> list[int]:
    """The places of the samples in the batch; image and label must belong together."""
    images, labels = group.batch(on_error)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.shape == (len(labels), *SHAPE)
    places = [int(label) // 10 for label in labels]
    assert all((image == place + 1).all() for image, place in zip(images, places, strict=True))
    return places


def nearest_before(fails: list[bool]) -> list[int]:
    """The oracle, as a loop: walk back, around the end, to a good sample."""
    length, places = len(fails), []
    for place in range(length):
        back = place
        while fails[back % length]:
            back -= 1
        places.append(back % length)
    return places


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_skip_keeps_the_good_ones_in_order(fails: list[bool]) -> None:
    assert taken(finished(fails), "skip") == [place for place, bad in enumerate(fails) if not bad]


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(lambda fails: not all(fails)))
def test_replace_takes_the_good_one_before(fails: list[bool]) -> None:
    assert taken(finished(fails), "replace") == nearest_before(fails)


def test_a_group_without_a_good_sample_is_an_empty_batch() -> None:
    assert taken(finished([True, True]), "replace") == []


def test_fail_names_the_first_bad_sample() -> None:
    assert taken(finished([False, False]), "fail") == [0, 1]
    with pytest.raises(InputError, match=r"sample 101 \(http://a.org/1\) cannot be used: 0 bytes came; mend"):
        finished([False, True, True]).batch("fail")


def test_a_good_group_is_not_copied() -> None:
    group = finished([False, False])
    assert group.batch("skip")[0] is group.images


def test_an_unexpected_error_keeps_its_name() -> None:
    group = Group(np.array([7]), ["a"], np.array([0]), SHAPE)
    group.fail(0, ZeroDivisionError("by zero"))
    assert group.failures[0].cause is Cause.UNEXPECTED
    assert group.failures[0].sentence == "it could not be used: ZeroDivisionError: by zero"


def test_it_is_finished_when_the_last_of_many_threads_is_done() -> None:
    group = Group(np.arange(64), [""] * 64, np.zeros(64, np.int64), SHAPE)
    assert not is_finished(group)
    threads = [threading.Thread(target=group.done, args=(place,)) for place in range(64)]
    for thread in threads[:-1]:
        thread.start()
    for thread in threads[:-1]:
        thread.join()
    assert not is_finished(group)
    threads[-1].start()
    group.wait(10)
    threads[-1].join()


def test_a_group_can_be_cut_to_what_came() -> None:
    group = Group(np.arange(4), [""] * 4, np.arange(4), SHAPE)
    group.done(0)
    group.cut(2)
    assert not is_finished(group)
    group.done(1)
    assert is_finished(group)
    assert len(group.batch("skip")[1]) == 2


def test_who_waits_gets_the_error_that_ends_the_stream() -> None:
    group = Group(np.arange(2), [""] * 2, np.arange(2), SHAPE)
    group.give_up(InputError("the stream is closed"))
    group.done(0)
    group.done(1)
    with pytest.raises(InputError, match="closed"):
        group.wait(1)


@pytest.mark.skipif(sys.platform != "linux", reason="counts what the C library of Linux gives back")
def test_the_memory_of_batches_goes_back_to_the_system() -> None:
    """Even where small things that live on lie between them, and larger ones were freed before."""

    def group() -> Group:
        made = Group(np.arange(8), [""] * 8, np.zeros(8, np.int64), (96, 96, 3))
        made.images[...] = 7
        return made

    del (first := [np.ones(4_000_000, np.uint8)])[:]
    before = process_memory()
    groups, small = [], []
    for number in range(100):
        groups.append(group())
        small.append(bytes(1000 + number))
    size = sum(each.images.nbytes for each in groups)
    assert process_memory() - before > 0.9 * size
    groups.clear()
    assert process_memory() - before < 0.1 * size
    assert (len(small), first) == (100, [])
