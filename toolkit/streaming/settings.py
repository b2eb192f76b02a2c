"""How a stream turns samples into batches: one frozen description."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal

from toolkit.arithmetic import require_choice, require_whole
from toolkit.errors import InputError
from toolkit.streaming.caching import CacheKind
from toolkit.streaming.decoding import DecodeLimits, Fit
from toolkit.streaming.groups import ON_ERROR, OnError
from toolkit.streaming.limits import FetchLimits

LOOK_AHEAD_BYTES = 8_000_000
"""Decoded images that may wait for the consumer: 9 batches of 32 at 96 × 96 pixels."""

_LEAST_AHEAD = 3  # batches, however large they are
_MOST_AHEAD = 64
_MOST_SIDE = 4096

SampleOrder = Literal["source", "completion"]


@dataclass(frozen=True)
class StreamSettings:
    """How samples become batches.

    image_size: height and width in pixels, or one number for both. fit: how an image of another shape gets there.
    order: "source" gives the same batches whatever the network did, "completion" fills each with what is ready (and
    reads several tar shards at once).
    on_error: a bad sample is left out ("skip"), replaced by a good one of its batch, or stops the stream ("fail").
    max_failed_share: of the samples, and of the tar shards; more stop the stream, too. drop_remainder: leave a smaller
    last batch out.
    shuffle_block: encoded samples of a tar shard that are shuffled together. cache: what is kept for later epochs:
    nothing ("none"), files as they came ("bytes") or decoded images ("tensors"), in `cache_folder` (None: the user's)
    and at most `cache_bytes` of it. Raises InputError for what cannot be.

    >>> StreamSettings(image_size=96).shape
    (96, 96, 3)
    """

    image_size: int | tuple[int, int]
    batch_size: int = 32
    shuffle: bool = True
    seed: int = 0
    order: SampleOrder = "source"
    on_error: OnError = "skip"
    fit: Fit = "crop"
    drop_remainder: bool = False
    max_failed_share: float = 0.5
    shuffle_block: int = 256
    cache: CacheKind = "none"
    cache_folder: str | PathLike[str] | None = None
    cache_bytes: int = 10_000_000_000
    limits: FetchLimits = field(default_factory=FetchLimits)
    decode_limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        for side in self.shape[:2]:
            if require_whole("image_size", side) > _MOST_SIDE:
                raise InputError(f"image_size must be at most {_MOST_SIDE} pixels; {side} came; choose a smaller size")
        for name in ("batch_size", "shuffle_block", "cache_bytes"):
            require_whole(name, getattr(self, name))
        require_whole("seed", self.seed, least=0)
        require_choice("order", self.order, ("source", "completion"))
        require_choice("on_error", self.on_error, ON_ERROR)
        require_choice("fit", self.fit, ("crop", "pad", "stretch"))
        require_choice("cache", self.cache, ("none", "bytes", "tensors"))
        if not 0 <= self.max_failed_share <= 1:
            raise InputError(f"max_failed_share is a share from 0 to 1; {self.max_failed_share} came")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of an image."""
        size = self.image_size
        if isinstance(size, tuple) and len(size) != 2:
            raise InputError(f"image_size is one number or (height, width); {size} came")
        height, width = size if isinstance(size, tuple) else (size, size)
        return height, width, 3

    @property
    def ahead(self) -> int:
        """Batches that are worked on while the consumer has one: as many as fit, but three, and at most 64."""
        return min(max(_LEAST_AHEAD, LOOK_AHEAD_BYTES // (self.batch_size * math.prod(self.shape))), _MOST_AHEAD)
