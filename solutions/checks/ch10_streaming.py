"""The checks of chapter 10."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.random import Generator

from solutions import ch10_streaming as solution
from solutions.checks.drawing import whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question

Steps = list[list[Any]]

# What the student's class gives where it is asked; steps are ["put", key, value] or ["get", key].
USE_CACHE = """
def call(student, capacity, steps):
    cache = student.LruCache(capacity)
    found = []
    for step in steps:
        if step[0] == "put":
            cache.put(step[1], step[2])
        else:
            found.append(cache.get(step[1]))
    return found
"""

# What happens in which order: items are taken from the source and given out.
WATCH_PREFETCH = """
def call(student, count, ahead, wanted):
    events = []

    def source():
        number = 0
        while count is None or number < count:
            events.append(["taken", number])
            yield number
            number += 1

    items = iter(student.prefetched(source(), ahead))
    events.append(["asked"])
    for _ in range(wanted):
        try:
            events.append(["given", next(items)])
        except StopIteration:
            events.append(["end"])
            break
    return events
"""


def used_cache(cache: type) -> Callable[[int, Steps], list[Any]]:
    """What a class of caches gives for the steps."""

    def call(capacity: int, steps: Steps) -> list[Any]:
        entries = cache(capacity)
        found = []
        for step in steps:
            if step[0] == "put":
                entries.put(step[1], step[2])
            else:
                found.append(entries.get(step[1]))
        return found

    return call


def watched(prefetch: Callable[[Iterable[Any], int], Iterator[Any]]) -> Callable[..., list[Any]]:
    """What happens in which order."""

    def call(count: int | None, ahead: int, wanted: int) -> list[Any]:
        events: list[Any] = []

        def source() -> Iterator[int]:
            number = 0
            while count is None or number < count:
                events.append(["taken", number])
                yield number
                number += 1

        items = iter(prefetch(source(), ahead))
        events.append(["asked"])
        for _ in range(wanted):
            try:
                events.append(["given", next(items)])
            except StopIteration:
                events.append(["end"])
                break
        return events

    return call


def pause_cases(random: Generator) -> list[tuple[int, float, float]]:
    """The longest pause is met, is not met, is the first one; one attempt; many."""
    drawn = [(whole(random, 5, 12), whole(random, 1, 8) / 4, whole(random, 9, 90) / 4) for _ in range(4)]
    return [*drawn, (4, 0.5, 1000.0), (5, 2.0, 2.0), (1, 0.5, 8.0), (2, 0.5, 8.0), (60, 1.0, 30.0)]


def shuffle_cases(random: Generator) -> list[tuple[list[int], int, list[int]]]:
    """More items than places, fewer, one place, as many as items, none."""
    cases = []
    for count, capacity in ((12, 4), (9, 3), (5, 8), (7, 1), (6, 6), (0, 3)):
        items = [int(item) for item in random.permutation(100)[:count]]
        cases.append((items, capacity, [int(pick) for pick in random.integers(0, 50, count)]))
    return cases


def store_cases(random: Generator) -> list[tuple[int, Steps]]:
    """Nothing has to go: entries are found, replaced, or were never there."""
    cases = []
    for capacity in (3, 5):
        steps: Steps = []
        for _ in range(20):
            key = f"image{whole(random, 0, capacity - 1)}"
            steps.append(["put", key, whole(random, 0, 99)] if random.random() < 0.5 else ["get", key])
        cases.append((capacity, steps))
    full = [["put", number, number] for number in range(4)] + [["get", number] for number in range(4)]
    return [
        *cases,
        (4, full),
        (2, [["get", "a"], ["put", "a", 0], ["get", "a"], ["put", "a", 2], ["put", "a", 3], ["get", "a"]]),
    ]


def forget_cases(random: Generator) -> list[tuple[int, Steps]]:
    """More keys than places, one place, and a key that is stored again instead of asked for."""
    cases = []
    for capacity in (1, 2, 3, 5):
        steps: Steps = []
        for _ in range(40):
            key = whole(random, 0, capacity + 2)
            steps.append(["put", key, whole(random, 0, 999)] if random.random() < 0.5 else ["get", key])
        cases.append((capacity, steps))
    stored_again = [["put", 1, 1], ["put", 2, 2], ["put", 1, 3], ["put", 4, 4], ["get", 1], ["get", 2], ["get", 4]]
    missed = [["put", 1, 1], ["put", 2, 2], ["get", 9], ["get", 1], ["put", 3, 3], ["get", 1], ["get", 2], ["get", 3]]
    return [*cases, (2, stored_again), (2, missed)]


def order_cases(random: Generator) -> list[tuple[int | None, int, int]]:
    """Sources of some length, read to their end."""
    drawn = [(whole(random, 6, 12), whole(random, 1, 4), 20) for _ in range(3)]
    return [*drawn, (whole(random, 3, 5), 0, 9), (2, 5, 5), (0, 3, 2)]


def bound_cases(random: Generator) -> list[tuple[int | None, int, int]]:
    """An endless source, and one that is not read to its end."""
    return [(None, whole(random, 1, 5), whole(random, 3, 8)), (None, 0, 3), (30, whole(random, 2, 6), 4), (None, 4, 0)]


# What goes wrong.


def pauses_without_limit(attempts: int, first: float, longest: float) -> list[float]:
    """They grow for ever."""
    return [first * 2**number for number in range(attempts - 1)]


def even_pauses(attempts: int, first: float, longest: float) -> list[float]:
    """Longer by `first` each time."""
    return [min(longest, first * (number + 1)) for number in range(attempts - 1)]


def late_pauses(attempts: int, first: float, longest: float) -> list[float]:
    """The first is doubled already."""
    return [min(longest, first * 2 ** (number + 1)) for number in range(attempts - 1)]


def shuffle(how: str, items: Iterable[Any], capacity: int, picks: list[int]) -> list[Any]:
    """A buffer with the mistake `how`."""
    stream = deque(items)
    if how == "whole":
        capacity = len(stream)
    buffer = [stream.popleft() for _ in range(min(capacity, len(stream)))]
    order = []
    for pick in picks:
        place = pick % len(buffer)
        order.append(buffer[place])
        if how == "appended" or not stream:
            if how == "last moves" and len(buffer) > 1:
                buffer[place] = buffer[-1]
                place = len(buffer) - 1
            del buffer[place]
            if stream:
                buffer.append(stream.popleft())
        else:
            buffer[place] = stream.popleft()
    return order


def shuffled_in_blocks(items: Iterable[Any], capacity: int, picks: list[int]) -> list[Any]:
    """The buffer is emptied before it is filled again."""
    rest, order, numbers = list(items), list[Any](), iter(picks)
    while rest:
        block, rest = rest[:capacity], rest[capacity:]
        while block:
            order.append(block.pop(next(numbers) % len(block)))
    return order


class FirstInFirstOut(solution.LruCache):
    """Asking is no use."""

    def get(self, key: Any) -> Any:
        """What was stored."""
        return self.entries.get(key)


class NeverForgets(solution.LruCache):
    """No bound."""

    def put(self, key: Any, value: Any) -> None:
        """Store without a bound."""
        self.entries[key] = value


class ForgetsNewest(solution.LruCache):
    """The one goes that was used last."""

    def put(self, key: Any, value: Any) -> None:
        """Make room at the wrong end."""
        if key not in self.entries and len(self.entries) >= self.capacity:
            self.entries.popitem(last=True)
        self.entries[key] = value
        self.entries.move_to_end(key)


class OneTooFew(solution.LruCache):
    """Room for one less."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity - 1)


class KeepsFirstValue(solution.LruCache):
    """A key that is there already keeps its value."""

    def put(self, key: Any, value: Any) -> None:
        """Store what is not there."""
        super().put(key, self.entries.get(key, value))


class StoringIsNoUse(solution.LruCache):
    """A key that is stored again keeps its place."""

    def put(self, key: Any, value: Any) -> None:
        """Store in the old place."""
        self.entries: OrderedDict[Any, Any]
        self.entries[key] = value
        if len(self.entries) > self.capacity:
            self.entries.popitem(last=False)


class RaisesNothing(solution.LruCache):
    """Gives 0 where there is nothing."""

    def get(self, key: Any) -> Any:
        """What was stored, or 0."""
        found = super().get(key)
        return 0 if found is None else found


def prefetched_not(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Nothing in advance."""
    yield from source


def prefetched_one_less(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """One less in advance."""
    return solution.prefetched(source, max(0, ahead - 1))


def prefetched_one_more(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """One more in advance."""
    return solution.prefetched(source, ahead + 1)


def prefetched_blocks(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """A whole block, then nothing until it is used up."""
    block: list[Any] = []
    for item in source:
        block.append(item)
        if len(block) > ahead:
            yield from block
            block = []
    yield from block


def prefetched_at_once(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """Taken before anybody asks."""
    stream = iter(source)
    waiting = deque(item for _, item in zip(range(ahead + 1), stream, strict=False))

    def rest() -> Iterator[Any]:
        while waiting:
            yield waiting.popleft()
            waiting.extend(item for _, item in zip(range(1), stream, strict=False))

    return rest()


def prefetched_without_end(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """What is still waiting at the end is lost."""
    waiting: deque[Any] = deque()
    for item in source:
        waiting.append(item)
        if len(waiting) > ahead:
            yield waiting.popleft()


EXERCISE = Exercise(
    "ch10_streaming",
    "Images from far away",
    (
        Question(
            "pauses",
            (Item("twice as long each time", 1, ((6, 0.5, 3.0), (1, 0.5, 3.0)), pause_cases),),
            solution.pauses,
            Compare(rtol=1e-9, atol=0),
            hints=(
                Hint("No pause is longer than `longest`.", pauses_without_limit),
                Hint("Each pause is twice as long as the one before, not longer by the same time.", even_pauses),
                Hint("The first pause is `first` itself.", late_pauses),
                Hint("Between n attempts there are n - 1 pauses.", lambda n, f, m: solution.pauses(n + 1, f, m)),
            ),
        ),
        Question(
            "shuffled",
            (
                Item(
                    "in the order of the buffer",
                    2,
                    (([1, 2, 3, 4], 2, [1, 1, 0, 0]), ([1, 2, 3], 3, [0, 0, 0])),
                    shuffle_cases,
                ),
            ),
            solution.shuffled,
            hints=(
                Hint(
                    "The next item takes the place of the one that went, not the last place.",
                    lambda *a: shuffle("appended", *a),
                ),
                Hint(
                    "At the end the items behind the place move up; here the last one jumped there.",
                    lambda *a: shuffle("last moves", *a),
                ),
                Hint("The buffer has `capacity` places, and not one for every item.", lambda *a: shuffle("whole", *a)),
                Hint("A new item comes in for each that goes; here the buffer was emptied first.", shuffled_in_blocks),
                Hint("The picks are not used.", lambda items, n, p: list(items)),
            ),
        ),
        Question(
            "LruCache",
            (
                Item(
                    "keeps and finds",
                    1,
                    ((2, [["put", "a", 1], ["get", "a"], ["put", "a", 2], ["get", "a"], ["get", "x"]]),),
                    store_cases,
                ),
                Item(
                    "the least recently used goes",
                    3,
                    (
                        (
                            2,
                            [
                                ["put", "a", 1],
                                ["put", "b", 2],
                                ["get", "a"],
                                ["put", "c", 3],
                                ["get", "b"],
                                ["get", "a"],
                            ],
                        ),
                    ),
                    forget_cases,
                ),
            ),
            used_cache(solution.LruCache),
            hints=(
                Hint("Entries never go: there is room for `capacity` of them.", used_cache(NeverForgets)),
                Hint(
                    "The one goes that was used longest ago, not the one that was used last.", used_cache(ForgetsNewest)
                ),
                Hint("Asking for an entry is a use of it: it must not be the next to go.", used_cache(FirstInFirstOut)),
                Hint("There is room for `capacity` entries, and not for one less.", used_cache(OneTooFew)),
                Hint("What is stored under a key takes the place of what was there.", used_cache(KeepsFirstValue)),
                Hint("Storing under a key that is there already is a use of it.", used_cache(StoringIsNoUse)),
                Hint("Where there is nothing, the answer is None.", used_cache(RaisesNothing)),
            ),
            call=USE_CACHE,
        ),
        Question(
            "prefetched",
            (
                Item("in order, to the end", 1, ((4, 2, 9),), order_cases),
                Item("never more than `ahead` in advance", 2, ((None, 2, 3),), bound_cases),
            ),
            watched(solution.prefetched),
            hints=(
                Hint("Nothing is taken in advance.", watched(prefetched_not)),
                Hint("One item too few is taken in advance.", watched(prefetched_one_less)),
                Hint("One item too many is taken in advance.", watched(prefetched_one_more)),
                Hint(
                    "One more is taken for each that is given out, not a whole block at a time.",
                    watched(prefetched_blocks),
                ),
                Hint("Nothing is taken before the first item is asked for.", watched(prefetched_at_once)),
                Hint(
                    "What is still waiting when the source ends has to be given out too.",
                    watched(prefetched_without_end),
                ),
            ),
            call=WATCH_PREFETCH,
        ),
    ),
)
