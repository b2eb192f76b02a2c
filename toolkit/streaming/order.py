"""In which order the samples of an epoch come, and where in it a stream stands.

The order is made from the numbers of the samples before anything is fetched, so that it is the same whatever the
network does, and nothing that is decoded has to wait in a shuffle buffer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError


@dataclass(frozen=True)
class Position:
    """Where a stream stands between two batches: plain numbers, which JSON can keep.

    epoch: from 0. batches: delivered in this epoch. done: so many samples at the beginning of the epoch's order are
    through, delivered or failed. ahead: places after those that are through as well (in completion order only).
    shards: so many tar shards at the beginning of the epoch's order are through; `done` is then about the next one,
    and `ahead` has a number of samples for each shard after that. stream: stands for the settings that the order
    depends on; another stream refuses the position.

    >>> Position.from_dict(Position(epoch=2, batches=10, done=320).to_dict()).done
    320
    """

    epoch: int = 0
    batches: int = 0
    done: int = 0
    ahead: tuple[int, ...] = ()
    shards: int = 0
    stream: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "ahead": list(self.ahead)}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Position:
        """The position that `to_dict` wrote; raises InputError for anything else."""
        try:
            epoch, batches, done, shards = (int(fields[name]) for name in ("epoch", "batches", "done", "shards"))
            ahead = tuple(int(place) for place in fields["ahead"])
            stream = str(fields["stream"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"a position is what `stream.position.to_dict()` gave; {str(fields)[:80]} came; save it anew"
            ) from error
        if min(epoch, batches, done, shards, *ahead) < 0:
            raise InputError(f"the numbers of a position are 0 or more; {str(fields)[:80]} came; save it anew")
        return Position(epoch, batches, done, ahead, shards, stream)


@dataclass(frozen=True)
class Order:
    """The order of `samples` samples: as they are numbered or, with `shuffle`, a new permutation in each epoch.

    The permutation depends on `seed` and the epoch only.

    >>> Order(4, shuffle=False, seed=0).places(epoch=0, start=1, stop=3).tolist()
    [1, 2]
    """

    samples: int
    shuffle: bool
    seed: int

    def places(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """The numbers of the samples at these places of the epoch's order."""
        stop = min(stop, self.samples)
        if not self.shuffle:
            return np.arange(start, stop)
        return _permutation(self.samples, self.seed, epoch)[start:stop].astype(np.int64)

    def groups(self, batch_size: int, drop_remainder: bool) -> int:
        """How many groups of `batch_size` samples an epoch has; `drop_remainder` leaves a smaller last one out."""
        return self.samples // batch_size if drop_remainder else math.ceil(self.samples / batch_size)


@lru_cache(maxsize=4)
def _permutation(samples: int, seed: int, epoch: int) -> NDArray[np.unsignedinteger[Any]]:
    """Four bytes a sample, below 2^32 of them: less than the sample's own description takes."""
    return np.random.default_rng((seed, epoch)).permutation(np.arange(samples, dtype=np.min_scalar_type(samples)))


def shuffled(items: Sequence[Any], *seeds: int) -> list[Any]:
    """The items in an order that depends on these numbers only.

    >>> sorted(shuffled("abc", 0, 1))
    ['a', 'b', 'c']
    """
    return [items[place] for place in np.random.default_rng(seeds).permutation(len(items))]
