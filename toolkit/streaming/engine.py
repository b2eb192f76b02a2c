"""What turns groups of samples into images: a network thread, a few threads that decode, and the cache.

A group's life: a decoding thread looks for its samples in the cache and among local files; the network fetches the
others; each is decoded into its place by whichever thread is free; the last one finishes the group. No thread ever
waits for another one's result, so nothing can wait in a circle.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.streaming.decoding import Pixels
from toolkit.streaming.groups import Group
from toolkit.streaming.network import Feed, Network
from toolkit.streaming.shelves import Shelf
from toolkit.streaming.threads import DaemonPool
from toolkit.system import cpu_count

if TYPE_CHECKING:
    from toolkit.streaming.limits import FetchLimits
_running: set[Engine] = set()


@atexit.register
def _close_all() -> None:
    """A program that ends leaves no half-open connection."""
    for engine in list(_running):
        engine.close()


_CLOSED = "the stream was closed while a batch was waited for; begin a new loop over it"


class Engine:
    """Fetches and decodes groups of samples until it is closed.

    decode: bytes of a file -> uint8 (height, width, 3); raises SampleError. read: path -> bytes of a local file, or
    None for what the network has to fetch; raises SampleError. shelf: the cache, or None.
    """

    def __init__(
        self,
        limits: FetchLimits,
        decode: Callable[[bytes], Pixels],
        read: Callable[[str], bytes | None],
        shelf: Shelf | None = None,
    ) -> None:
        self._limits, self._decode, self._read, self.shelf = limits, decode, read, shelf
        self._pool = DaemonPool(max(2, cpu_count()), "toolkit-decode")
        self._groups: set[Group] = set()
        self._lock = threading.Lock()
        self._network: Network | None = None
        self._closed = False
        _running.add(self)

    @property
    def in_flight(self) -> int:
        """Downloads that go on now."""
        return self._network.in_flight if self._network else 0

    @property
    def groups(self) -> int:
        """Groups that are worked on."""
        return len(self._groups)

    def start(self, feed: Feed) -> Future[None]:
        """Begin to read from a feed; cancelling what comes back ends it."""
        return self._online().start(feed)

    def submit_to(self, feed: Feed, group: Group) -> None:
        """Let the feed fill this group."""
        self._watch(group)
        self._online().call(feed.wants, group)

    def restore(self, group: Group, place: int, otherwise: Callable[[], None]) -> None:
        """Take this sample from the cache; where it is not there any more, call `otherwise`, in any thread."""
        with suppress(RuntimeError):  # the pool is closed: so is the stream
            self._pool.submit(self._restore, group, place, otherwise)

    def submit(self, group: Group) -> None:
        """Begin to work on this group; those that came before are served first."""
        self._watch(group)
        try:
            self._pool.submit(self._begin, group)
        except RuntimeError as error:  # closed in this very moment
            raise InputError(_CLOSED) from error

    def close_elsewhere(self) -> None:
        """Close in a thread of its own: the garbage collector calls this in any thread, and it may hold our locks."""
        threading.Thread(target=self.close, name="toolkit-close", daemon=True).start()

    def close(self) -> None:
        """End all threads; whoever waits for a group gets an InputError. A second time does nothing."""
        with self._lock:
            self._closed, groups = True, list(self._groups)
        _running.discard(self)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._network:
            self._network.close()
        if self.shelf:
            self.shelf.close()
        for group in groups:
            group.give_up(InputError(_CLOSED))

    def _watch(self, group: Group) -> None:
        """Remember the group until it is finished, so that nobody waits for it after the end."""
        with self._lock:
            if self._closed:
                raise InputError(_CLOSED)
            self._groups.add(group)
        group.then(self._groups.discard)

    def _begin(self, group: Group) -> None:
        """Whatever needs no network is done here; the rest is asked for."""
        try:
            wanted = [place for place in range(len(group)) if place not in group.failures]
            missing = [place for place in wanted if not self._at_hand(group, place)]
            if missing:
                self._online().fetch(group, missing)
        except BaseException as error:  # whoever waits for the group gets it
            group.give_up(error)

    def _at_hand(self, group: Group, place: int) -> bool:
        if group.abandoned or self._on_shelf(group, place):
            return True
        try:
            data = self._read(group.locations[place])
        except Exception as error:  # a bad sample is a failure in the report
            group.fail(place, error)
            return True
        if data is not None:
            self._finish(group, place, data)
        return data is not None

    def _on_shelf(self, group: Group, place: int) -> bool:
        found = self.shelf is not None and self.shelf.restore(group.locations[place], group.images[place])
        if found:
            group.done(place)
        return found

    def _restore(self, group: Group, place: int, otherwise: Callable[[], None]) -> None:
        try:
            if not group.abandoned and not self._on_shelf(group, place):
                otherwise()
        except BaseException as error:  # whoever waits for the group gets it
            group.give_up(error)

    def _online(self) -> Network:
        with self._lock:
            if self._closed:
                raise InputError(_CLOSED)
            if self._network is None:
                self._network = Network(self._limits, self._deliver, self._broken)
            return self._network

    def _deliver(self, group: Group, place: int, data: bytes, release: Callable[[], None]) -> None:
        """Called by the network, which must not be kept: a decoding thread takes over."""
        with suppress(RuntimeError):  # the pool is closed: so is the stream
            self._pool.submit(self._receive, group, place, data, release)

    def _receive(self, group: Group, place: int, data: bytes, release: Callable[[], None]) -> None:
        if not group.abandoned:
            self._finish(group, place, data)
        release()

    def _finish(self, group: Group, place: int, data: bytes) -> None:
        try:
            group.images[place] = image = self._decode(data)
            if self.shelf:
                self.shelf.keep(group.locations[place], data, image)
        except Exception as error:  # damaged bytes can make a decoder raise anything
            group.fail(place, error)
        else:
            group.done(place)

    def _broken(self, error: BaseException) -> None:
        with self._lock:
            self._network, groups = None, list(self._groups)
        for group in groups:
            group.give_up(error)
