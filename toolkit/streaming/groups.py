"""A group of samples on its way to be one batch, and what becomes of the bad ones among them."""

from __future__ import annotations

import math
import mmap
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError
from toolkit.streaming.failures import Cause, Failure, SampleError

OnError = Literal["skip", "replace", "fail"]
ON_ERROR: tuple[OnError, ...] = ("skip", "replace", "fail")

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Group:
    """Samples that become one batch: each thread that has one ready writes it to its place and says so.

    numbers: int64 (n,), in the source (-1: it has none). locations: n addresses. labels: int64 (n,).
    images: uint8 (n, height, width, 3); a page of it takes memory once it is written. first: the place of its first
    sample in the order. through: of tar shards, `shards`, `done` and `ahead` of the position after this group.
    """

    def __init__(
        self,
        numbers: NDArray[np.int64],
        locations: Sequence[str],
        labels: NDArray[np.int64],
        shape: tuple[int, int, int],
        first: int = 0,
    ) -> None:
        self.first = first
        self.through: tuple[int, int, tuple[int, ...]] = (0, 0, ())
        self.numbers = numbers
        self.locations = list(locations)
        self.labels = labels
        self.images = blank((len(numbers), *shape))
        self.failures: dict[int, Failure] = {}
        self.abandoned = False
        self._open = len(numbers)
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._then: list[Callable[[Group], None]] = []

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def finished(self) -> bool:
        """Whether every sample is there or has failed."""
        return self._finished.is_set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the group is finished; raises the error of `give_up`, and TimeoutError after these seconds."""
        if not self._finished.wait(seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error

    def then(self, call: Callable[[Group], None]) -> None:
        """Call this with the group, in any thread, when it is finished."""
        with self._lock:
            if not self.finished:
                self._then.append(call)
                return
        call(self)

    def done(self, place: int) -> None:
        """The image of this place is written."""
        self._close(1)

    def fail(self, place: int, error: Exception) -> None:
        """The sample of this place cannot be used."""
        cause, sentence = _explained(error)
        self.failures[place] = Failure(int(self.numbers[place]), self.locations[place], cause, sentence)
        _forget(error)
        self._close(1)

    def cut(self, length: int) -> None:
        """No more than `length` samples come."""
        missing = len(self) - length
        self.numbers, self.labels, self.images = self.numbers[:length], self.labels[:length], self.images[:length]
        self._close(missing)

    def give_up(self, error: BaseException) -> None:
        """Whoever waits for this group gets the error."""
        with self._lock:
            if self._open > 0:
                self._open, self._error = 0, error
                self._finish()

    def abandon(self) -> None:
        """Nobody waits for it any more: what was not begun is left, and who holds it until it is finished lets go."""
        self.abandoned = True
        self.give_up(InputError("the batch was abandoned"))

    def batch(self, on_error: OnError) -> Batch:
        """The finished group as arrays: bad samples left out ("skip") or replaced by good ones ("replace").

        Raises InputError for "fail" and a bad sample. A group that has no good sample gives an empty batch.
        """
        if not self.failures:
            return self.images, self.labels
        if on_error == "fail":
            raise InputError(stops(self.failures[min(self.failures)]))
        good = np.setdiff1d(np.arange(len(self)), list(self.failures))
        chosen = _replaced(good, len(self)) if on_error == "replace" else good
        return self.images[chosen], self.labels[chosen]

    def _close(self, samples: int) -> None:
        with self._lock:
            self._open -= samples
            if self._open == 0:
                self._finish()

    def _finish(self) -> None:
        # The list is emptied, because what it calls may know the group: images must go when nobody uses them any more,
        # not when the garbage collector finds that only a circle holds them.
        calls, self._then = self._then, []
        self._finished.set()
        for call in calls:
            call(self)


def blank(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Zeros, uint8, in memory that goes back to the system as soon as nobody holds the array.

    From the C library's heap, batches would leave gaps among all that lives longer: a process that streamed 50,000
    images held half as much again as after 1,000.

    >>> blank((2, 3)).tolist()
    [[0, 0, 0], [0, 0, 0]]
    """
    size = math.prod(shape)
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8, size).reshape(shape)


def _replaced(good: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """For each place the last good one up to it; before the first one, the last of the group.

    >>> _replaced(np.array([1, 2]), 4).tolist()
    [2, 1, 2, 2]
    """
    if not len(good):
        return good
    return good[np.searchsorted(good, np.arange(length), side="right") - 1]


def _explained(error: Exception) -> tuple[Cause, str]:
    if isinstance(error, SampleError):
        return error.cause, error.sentence
    return Cause.UNEXPECTED, f"it could not be used: {type(error).__name__}: {error}"


def _forget(error: BaseException | None) -> None:
    """Let go of what the frames hold that the error went through, such as the 20 MB of an image that has no end.

    An error and its frames know each other, so that they would stay until the garbage collector comes by.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def stops(failure: Failure) -> str:
    """What `on_error="fail"` says of the first failure.

    >>> stops(Failure(-1, "a.tar#000", Cause.EMPTY, "0 bytes came"))[:42]
    'a.tar#000 cannot be used: 0 bytes came; me'
    """
    what = failure.location if failure.number < 0 else f"sample {failure.number} ({failure.location})"
    return f'{what} cannot be used: {failure.sentence}; mend or remove it, or go on without it with on_error="skip"'
