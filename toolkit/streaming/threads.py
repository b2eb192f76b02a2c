"""A pool of threads that nobody has to wait for.

The standard library's pool is joined when Python ends: one look-up of a name, or one read from a network drive that
never comes back, would keep the program alive. These threads are daemons: the program ends and they end with it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Work = tuple[Future[Any], Callable[[], Any]]


class DaemonPool(Executor):
    """Runs calls in at most `threads` daemon threads, which are started as they are needed.

    >>> with DaemonPool(2) as pool:
    ...     pool.submit(len, "four").result()
    4
    """

    def __init__(self, threads: int, name: str = "pool") -> None:
        self._most, self._name = threads, name
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # calls that were given and are not finished
        self._closed = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call `fn` in one of the threads; raises RuntimeError after `shutdown`."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._busy += 1
            self._work.put((future, lambda: fn(*args, **kwargs)))
            if self._busy > len(self._threads) < self._most:
                self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `cancel_futures`, drop those that did not begin; with `wait`, let the rest end."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._drop()
            for _ in self._threads:
                self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _drop(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                work = self._work.get_nowait()
                if work:
                    work[0].cancel()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while work := self._work.get():
            _perform(*work)
            del work  # or the last call's arguments and result would live until the next call
            with self._lock:
                self._busy -= 1


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
