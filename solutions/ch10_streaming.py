# %% [markdown]
# # Chapter 10: images from far away
#
# Four questions, 10 points. Replace each `raise NotImplementedError` by your answer; do not rename anything.
# You may add functions and cells of your own. Check yourself with `python -m toolkit grade` and the name of this file.

# %%
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

# %% [markdown]
# ## 1. Trying again (1 point)
#
# A server that is busy is asked again, after longer and longer pauses.


# %%
def pauses(attempts: int, first: float, longest: float) -> list[float]:
    """The seconds to wait between `attempts` attempts: `first`, then twice as long each time, at most `longest`.

    Between n attempts there are n - 1 pauses. `attempts` is at least 1.

    >>> pauses(6, 0.5, 3.0)
    [0.5, 1.0, 2.0, 3.0, 3.0]
    """
    ### BEGIN SOLUTION
    return [min(longest, first * 2**number) for number in range(attempts - 1)]
    ### END SOLUTION


# %% [markdown]
# ## 2. Shuffling what does not fit (2 points)
#
# A stream cannot be shuffled as a whole. A small buffer mixes what is near.


# %%
def shuffled(items: Iterable[Any], capacity: int, picks: list[int]) -> list[Any]:
    """The items in the order in which a buffer of `capacity` places gives them out.

    The buffer is filled with the first items, as many as it has places, or as there are. Then, with one number p of
    `picks` after the other: the item at place p % (number of items in the buffer) is given out; the next item of the
    stream takes its place; where the stream has ended, the items behind that place move up by one. This ends when the
    buffer is empty. There are as many picks as items.

    >>> shuffled([1, 2, 3, 4], 2, [1, 1, 0, 0])
    [2, 3, 1, 4]
    """
    ### BEGIN SOLUTION
    stream = iter(items)
    buffer = [item for _, item in zip(range(capacity), stream, strict=False)]
    order = []
    for pick in picks:
        place = pick % len(buffer)
        order.append(buffer[place])
        try:
            buffer[place] = next(stream)
        except StopIteration:
            del buffer[place]
    return order
    ### END SOLUTION


# %% [markdown]
# ## 3. A cache that forgets (4 points)
#
# Images that were fetched are kept, as many as there is room for. When a new one comes and there is no room, the one
# goes that nobody has asked for or stored for the longest time ("least recently used").


# %%
class LruCache:
    """Keeps at most `capacity` entries, at least one.

    >>> cache = LruCache(2)
    >>> cache.put("a", 1); cache.put("b", 2)
    >>> cache.get("a"), cache.get("x")
    (1, None)
    >>> cache.put("c", 3)  # "b" has to go: "a" was asked for after it was stored
    >>> cache.get("b"), cache.get("a"), cache.get("c")
    (None, 1, 3)
    """

    def __init__(self, capacity: int) -> None:
        ### BEGIN SOLUTION
        self.capacity = capacity
        self.entries: OrderedDict[Any, Any] = OrderedDict()
        ### END SOLUTION

    def get(self, key: Any) -> Any:
        """What was stored last under `key`, or None where there is nothing; this counts as a use of it."""
        ### BEGIN SOLUTION
        if key not in self.entries:
            return None
        self.entries.move_to_end(key)
        return self.entries[key]
        ### END SOLUTION

    def put(self, key: Any, value: Any) -> None:
        """Store `value` under `key`, in place of what was there; this counts as a use of it. No value is None."""
        ### BEGIN SOLUTION
        self.entries[key] = value
        self.entries.move_to_end(key)
        if len(self.entries) > self.capacity:
            self.entries.popitem(last=False)
        ### END SOLUTION


# %% [markdown]
# ## 4. Fetching ahead, with a bound (3 points)
#
# The next images are fetched while the network works on this one. Without a bound they would fill the memory.


# %%
def prefetched(source: Iterable[Any], ahead: int) -> Iterator[Any]:
    """The items of `source` in their order, taken from it `ahead` items in advance.

    Nothing is taken before the first item is asked for. When an item is given out, the `ahead` items behind it have
    been taken already, and no more; or all that are left, where the source has fewer. With `ahead` 0 every item is
    taken when it is asked for. The source may be endless.

    >>> list(prefetched("abc", 2))
    ['a', 'b', 'c']
    """
    ### BEGIN SOLUTION
    waiting: deque[Any] = deque()
    for item in source:
        waiting.append(item)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
    ### END SOLUTION
