"""What tar shards hold, as an earlier epoch found it: with it and a cache no shard is read a second time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.streaming.failures import Cause, Failure, SampleError
from toolkit.streaming.settings import StreamSettings
from toolkit.streaming.shards import Kept, ShardSample, ShardSource, member
from toolkit.streaming.shelves import Shelf

_FORM = 1


class Contents:
    """The contents of shards, kept on a shelf; `lost` holds samples that could not be decoded, by their names."""

    def __init__(
        self, shelf: Shelf, source: ShardSource, settings: StreamSettings, lost: Mapping[str, Failure]
    ) -> None:
        self._shelf, self._lost = shelf, lost
        # What decides which labels a shard has, and which of its samples are bad.
        self._mark = f"\0{(_FORM, source.class_names, settings.limits.max_bytes)}"

    def samples(self, shard: str) -> list[ShardSample] | None:
        """The samples of a shard in its order, if the cache has the image of each that is good."""
        note = self._shelf.note(member(shard, self._mark))
        found = [self._found(shard, sample) for sample in unpacked(note)] if note else None
        return None if found is None or None in found else [sample for sample in found if sample]

    def keep(self, shard: str, samples: Sequence[ShardSample]) -> None:
        """Keep what a shard holds that was read to its end; two samples of one name would be taken for each other."""
        if len({sample.key for sample in samples}) == len(samples):
            self._shelf.keep_note(member(shard, self._mark), packed(samples))

    def _found(self, shard: str, sample: ShardSample) -> ShardSample | None:
        name = member(shard, sample.key)
        if isinstance(sample.data, SampleError) or self._shelf.has(name):
            return sample
        lost = self._lost.get(name)
        return ShardSample(sample.key, -1, SampleError(lost.cause, lost.sentence)) if lost else None


def packed(samples: Sequence[ShardSample]) -> bytes:
    """Samples without their bytes, to be kept."""
    return json.dumps([_fields(sample) for sample in samples]).encode()


def _fields(sample: ShardSample) -> list[Any]:
    if isinstance(sample.data, SampleError):
        return [sample.key, sample.data.cause.name, sample.data.sentence]
    return [sample.key, sample.label, sample.size]


def unpacked(data: bytes) -> list[ShardSample]:
    """What `packed` made bytes of.

    >>> unpacked(packed([ShardSample("000", 7, b"image")]))
    [ShardSample(key='000', label=7, data=Kept(size=5))]
    """
    return [
        ShardSample(key, -1, SampleError(Cause[label], rest)) if isinstance(label, str) else
        ShardSample(key, label, Kept(rest))
        for key, label, rest in json.loads(data)
    ]  # fmt: skip
