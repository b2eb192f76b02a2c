"""Groups of samples, finished one after the other: in their order, or whichever is first."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

from toolkit.streaming.groups import Group

Submit = Callable[[Group], None]


def in_order(groups: Iterable[Group], submit: Submit, ahead: int) -> Generator[Group]:
    """The finished groups in their order; `ahead` of them are worked on while the caller has one.

    What is still worked on when the caller stops is abandoned.
    """
    supply = iter(groups)
    waiting: deque[Group] = deque()
    try:
        waiting.extend(_submitted(islice(supply, ahead), submit))
        while waiting:
            waiting[0].wait()
            group = waiting.popleft()
            waiting.extend(_submitted(islice(supply, 1), submit))
            yield group
    finally:
        for group in waiting:
            group.abandon()


def as_completed(groups: Iterable[Group], submit: Submit, ahead: int) -> Generator[Group]:
    """The finished groups, whichever is first; `ahead` of them are worked on at any time."""
    supply = iter(groups)
    finished: queue.SimpleQueue[Group] = queue.SimpleQueue()
    waiting: set[Group] = set()
    try:
        while True:
            for group in _submitted(islice(supply, ahead - len(waiting)), submit):
                waiting.add(group)
                group.then(finished.put)
            if not waiting:
                return
            group = finished.get()
            waiting.discard(group)
            group.wait()
            yield group
    finally:
        for group in waiting:
            group.abandon()


def _submitted(groups: Iterable[Group], submit: Submit) -> Iterator[Group]:
    for group in groups:
        submit(group)
        yield group
