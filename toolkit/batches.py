"""How many images go into a batch: the most whose predicted training peak fits, and gradients accumulated for the rest.

The planner reads the predictions of `runtimes`; `find_batch_by_trying` is its referee, which really trains in processes
of its own. The course's three functions are here under their own names; what is naive in them says so. All sizes are
bytes. No framework is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import system
from toolkit.arithmetic import require_whole
from toolkit.costs import Network, Row, rows_of
from toolkit.errors import InputError
from toolkit.layers import Architecture, BatchNormalization, Dropout
from toolkit.memory import OutOfMemory, measure_memory
from toolkit.runtimes import predict_memory
from toolkit.show import readable_bytes
from toolkit.training import largest_fitting, last_fitting

SHARE = 0.7
"""The share of the memory that a plan uses: the rest is for what else runs, and for what a prediction is off."""

MOST_TRIED = 1024
MOST_CHANNELS = 1 << 16

# What `prepare_loaders` takes for one image: height and width, and maybe channels.
_IMAGE_DIMENSIONS = (2, 3)


# The planner.


@dataclass(frozen=True)
class BatchPlan:
    """Batches that fit. Their fields are those that `TrainConfig` has under the same names.

    batch_size: images that are computed at once, in training and in testing alike.
    accumulation_steps: batches whose gradients make one update of the weights.
    effective_batch: images that one update learns from, `batch_size` × `accumulation_steps`: the wish or a little more.
    predicted_bytes: the predicted peak of the whole process that trains so, the framework included.
    limit_bytes: the memory that there is; a plan stays within `share` of it.
    why: what decided, in sentences.
    """

    network: str
    wanted: int
    batch_size: int
    accumulation_steps: int
    effective_batch: int
    predicted_bytes: int
    limit_bytes: int
    share: float
    dtype_policy: str
    optimizer: str
    execution: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def plan_batches(
    net: Network,
    wanted: int,
    limit: int | None = None,
    *,
    share: float = SHARE,
    power_of_two: bool = True,
    train_size: int | None = None,
    test_size: int | None = None,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    name: str = "model",
) -> BatchPlan:
    """The largest batch whose training fits, and how many of them make an update of at least `wanted` images.

    The batch is a power of two (or any number, with `power_of_two` False) with a predicted training peak of at most
    `share` of `limit` bytes, which is by default the memory that is free now, on the GPU for the execution "gpu". It is
    not more than the training or the test images, where their numbers are given, and not more than the wish: for a
    power of two, the next one at or above it, as the course has it. Without `execution`, it is this machine's.

    Raises InputError for a wish below 1, unknown names, and where not even one image fits.

    >>> from toolkit.architectures import resnet50
    >>> plan = plan_batches(resnet50(), 300, 16 * 10**9, train_size=50_000, test_size=10_000, execution="tensorflow")
    >>> plan.effective_batch == plan.batch_size * plan.accumulation_steps >= 300
    True
    """
    require_whole("the wanted batch", wanted)
    _require_share(share)
    sizes = [require_whole(what, size) for what, size in _given(train_size, test_size)]
    execution = execution or system.default_execution()
    limit = _limit(limit, execution)
    rows = rows_of(net)
    name = net.name if isinstance(net, Architecture) else name

    @cache
    def predicted(batch: int) -> int:
        steps = math.ceil(wanted / batch)
        options = {"dtype_policy": dtype_policy, "optimizer": optimizer, "execution": execution}
        return predict_memory(rows, batch, accumulation_steps=steps, name=name, **options).process_bytes  # type: ignore[arg-type]

    most = min([next_power_of_two(wanted) if power_of_two else wanted, *sizes])
    batch = largest_fitting(lambda size: predicted(size) <= share * limit, most, power_of_two=power_of_two)
    if not batch:
        raise InputError(_does_not_fit(name, predicted(1), limit, share, execution))
    steps = math.ceil(wanted / batch)
    larger = 2 * batch if power_of_two else batch + 1
    reasons = [
        _size_reason(batch, larger, most, wanted, train_size, test_size),
        _memory_reason(predicted(batch), limit, share, (larger, predicted(larger)) if larger <= most else None),
        *_accumulation_reasons(rows, batch, steps, wanted),
    ]
    return BatchPlan(
        network=name,
        wanted=wanted,
        batch_size=batch,
        accumulation_steps=steps,
        effective_batch=batch * steps,
        predicted_bytes=predicted(batch),
        limit_bytes=limit,
        share=share,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        why=" ".join(reasons),
    )


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`.

    >>> [next_power_of_two(number) for number in (1, 48, 64, 300)]
    [1, 64, 64, 512]
    """
    return 1 << (number - 1).bit_length()


def _given(train_size: int | None, test_size: int | None) -> list[tuple[str, int]]:
    sizes = (("train_size", train_size), ("test_size", test_size))
    return [(what, size) for what, size in sizes if size is not None]


def _require_share(share: float) -> None:
    number = share if isinstance(share, int | float) and not isinstance(share, bool) else math.nan
    if not 0 < number <= 1:
        raise InputError(f"share must be a number above 0 and up to 1; {share!r} came; give one such as {SHARE}")


def _limit(limit: int | None, execution: str) -> int:
    """The limit in bytes: the one that is given, or what is free now where the network will be computed."""
    if limit is not None:
        return require_whole("the memory limit in bytes", limit)
    if execution != "gpu":
        return system.available_memory()
    free = [gpu.available_bytes for gpu in system.gpus()]
    if not free:
        raise InputError("no GPU was found on this machine; give the bytes of its memory as the limit")
    return max(free)


def _does_not_fit(name: str, least: int, limit: int, share: float, execution: str) -> str:
    """The sentence for a network that does not even train with one image."""
    where = "of GPU memory" if execution == "gpu" else "in all"
    return (
        f"{name} needs about {readable_bytes(least)} {where} to train with one image at a time and "
        f"{_allowed(limit, share)} may be used; give a limit of {_enough(least, share)} or more, fewer channels or "
        "smaller images"
    )


def _allowed(limit: int, share: float) -> str:
    """How much may be used, for people.

    >>> _allowed(4 * 10**9, 0.7)
    '2.80 GB (70 % of 4.00 GB)'
    """
    used = readable_bytes(math.floor(share * limit))
    return used if share == 1 else f"{used} ({100 * share:g} % of {readable_bytes(limit)})"


def _enough(needed: int, share: float) -> str:
    """A limit, for people, of which `share` is enough: rounded up, so that it can be typed in.

    >>> _enough(2_801_000_000, 0.7)
    '4.01 GB'
    """
    limit = needed / share
    digit = 10 ** max(math.floor(math.log10(limit)) - 2, 0)
    return readable_bytes(math.ceil(limit / digit) * digit)


def _size_reason(batch: int, larger: int, most: int, wanted: int, train_size: int | None, test_size: int | None) -> str:
    """What kept the batch from being larger."""
    said = f"A batch of {batch}: "
    if larger <= most:
        return f"{said}the largest that fits into the memory."
    if batch >= wanted:
        return said + ("the wish." if batch == wanted else f"the power of two next to the wish of {wanted}.")
    what, size = min(_given(train_size, test_size), key=lambda pair: pair[1])
    kind = "training" if what == "train_size" else "test"
    return f"{said}there are {size} {kind} images, and training and test batches are the same."


def _memory_reason(predicted: int, limit: int, share: float, larger: tuple[int, int] | None) -> str:
    """What was predicted against what there is, and what the next larger batch would need."""
    peak = readable_bytes(predicted)
    said = f"Training is predicted to take {peak} at its peak and {_allowed(limit, share)} may be used"
    return f"{said}; {larger[0]} would take {readable_bytes(larger[1])}." if larger else f"{said}."


def _accumulation_reasons(rows: Sequence[Row], batch: int, steps: int, wanted: int) -> list[str]:
    """What accumulation does, and what it does not."""
    if steps == 1:
        return []
    more = "" if batch * steps == wanted else f", {batch * steps - wanted} more than the wish of {wanted}"
    reasons = [f"The gradients of {steps} batches make one update, which learns from {batch * steps} images{more}."]
    if any(isinstance(row.layer, BatchNormalization) for row in rows):
        reasons.append(f"Batch normalization sees only {batch} of them at a time: it is not the same as one batch.")
    else:
        drawn = " and the draws of dropout" if any(isinstance(row.layer, Dropout) for row in rows) else ""
        reasons.append(f"Without batch normalization that is the same as one batch, to rounding{drawn}.")
    return reasons


# The course's functions, as the course has them.


def calculate_max_batch_size(
    image_size: int | tuple[int, int], channels: int, dtype_size: int, *, available: int | None = None
) -> int:
    """How many images alone would fill 70 % of the free memory: a *naive* bound.

    It counts the pixels that go in and nothing else: no activations, weights, gradients, optimizer or framework, which
    together need tens to hundreds of times as much. `plan_batches` gives the real answer. `image_size` is (height,
    width), or one number for both; `dtype_size` the bytes of a pixel's number; `available` stands in for the bytes that
    are free now.

    >>> calculate_max_batch_size((224, 224), 3, 4, available=16 * 10**9)
    18601
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    sizes = {"height": height, "width": width, "channels": channels, "dtype_size": dtype_size}
    sample = math.prod(require_whole(what, size) for what, size in sizes.items())
    free = system.available_memory() if available is None else require_whole("available", available)
    return math.floor(SHARE * free) // sample


def closest_valid_batch_size(test_data_size: int, memory_based_max: int, user_input_batch_size: int) -> int:
    """The power of two nearest to the wish from above, or the largest one that memory and test images allow.

    >>> closest_valid_batch_size(10_000, 18_601, 300), closest_valid_batch_size(10_000, 100, 300)
    (512, 64)
    """
    require_whole("user_input_batch_size", user_input_batch_size)
    bounds = {"test_data_size": test_data_size, "memory_based_max": memory_based_max}
    most = min(require_whole(what, size) for what, size in bounds.items())
    return min(next_power_of_two(user_input_batch_size), 1 << (most.bit_length() - 1))


def prepare_loaders(
    train_dataset: Any, test_dataset: Any, user_input_batch_size: int, *, available: int | None = None
) -> tuple[int, int]:
    """(max_possible_batch, accumulation_steps) for a wish, by the *naive* bound of `calculate_max_batch_size`.

    No network is given, so none is counted: `plan_batches` gives the real answer. A dataset is what has a length and
    numbered items (an image, or a tuple that begins with one), a `tf.data.Dataset` of single images, or a tuple of
    arrays (images, labels). The batch is not larger than either dataset, and `accumulation_steps` of it reach the wish.

    >>> pixels = np.zeros((10_000, 28, 28, 1), np.float32)
    >>> prepare_loaders((pixels, None), (pixels[:2000], None), 300, available=10**9)
    (512, 1)
    """
    image, test_image = _first_image(train_dataset), _first_image(test_dataset)
    if image.shape != test_image.shape:
        raise InputError(
            f"training images are {image.shape} and test images {test_image.shape}; give two datasets of one size"
        )
    height, width, channels = (*image.shape, 1)[:3]
    fitting = calculate_max_batch_size((height, width), channels, image.itemsize, available=available)
    if not fitting:
        raise InputError(f"not even one image of {image.nbytes} bytes fits into the free memory; give smaller images")
    data_size = min(_size(train_dataset), _size(test_dataset))
    batch = closest_valid_batch_size(data_size, fitting, user_input_batch_size)
    return batch, math.ceil(user_input_batch_size / batch)


def _arrays(dataset: Any) -> Any:
    """The images of a tuple (images, labels), or the dataset as it is."""
    return dataset[0] if isinstance(dataset, tuple) and dataset and hasattr(dataset[0], "shape") else dataset


def _size(dataset: Any) -> int:
    """The number of items; raises InputError where nobody knows it, or there is none."""
    try:
        size = len(_arrays(dataset))
    except TypeError:  # Python's word for a tf.data.Dataset of unknown or endless length, too
        size = -1
    if size < 1:
        raise InputError("a dataset must have a known number of items, at least one; give one with a length")
    return size


def _first_image(dataset: Any) -> NDArray[Any]:
    """The first image as an array (height, width) or with channels."""
    _size(dataset)
    items = _arrays(dataset)
    item = items[0] if hasattr(items, "__getitem__") else next(iter(items))
    image = np.asarray(item[0] if isinstance(item, tuple | list) else item)
    if image.ndim not in _IMAGE_DIMENSIONS or not image.size or image.dtype == object:
        raise InputError(
            f"an item of a dataset must be one image of height × width × channels, or a tuple that begins with one; an "
            f"array of shape {image.shape} came; give single images, not batches"
        )
    return image


# The referee.


@dataclass(frozen=True)
class Trial:
    """One batch that was tried. `process_bytes` is the measured peak of its process, where it was measured."""

    batch_size: int
    fits: bool
    process_bytes: int | None = None


@dataclass(frozen=True)
class FoundBatch:
    """The largest batch that trained, and all that were tried, in order. `most` is the largest that might have been."""

    batch_size: int
    trials: tuple[Trial, ...]
    most: int

    @property
    def refused(self) -> int | None:
        """The smallest batch that did not train; None where all did."""
        return min((trial.batch_size for trial in self.trials if not trial.fits), default=None)


def find_batch_by_trying(
    net: Any,
    *,
    most: int = MOST_TRIED,
    power_of_two: bool = True,
    limit: int | None = None,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
    steps: int = 3,
    fits: Callable[[int], bool] | None = None,
    progress: Callable[[Trial], object] | None = None,
) -> FoundBatch:
    """Train a few steps with 1, 2, 4 … images until that fails; the largest batch up to `most` that does not.

    With `power_of_two` False, the numbers between the last that fits and the first that does not are halved until one
    is left. Each try is a process of its own under a limit of `limit` bytes (what is free now, by default), so that a
    failure harms nobody; each takes seconds. `net` is all that `measure_memory` takes. `progress` hears of every trial;
    `fits` stands in for the trying. Raises InputError where not even one image fits.

    >>> found = find_batch_by_trying(None, most=500, power_of_two=False, fits=lambda batch: batch <= 100)
    >>> found.batch_size, found.refused, [trial.batch_size for trial in found.trials][:8]
    (100, 101, [1, 2, 4, 8, 16, 32, 64, 128])
    """
    require_whole("most", most)
    options: dict[str, Any] = {"dtype_policy": dtype_policy, "optimizer": optimizer, "execution": execution}
    options |= {"accumulation_steps": accumulation_steps, "steps": steps}
    bound = 0 if fits else _limit(limit, execution or system.default_execution())
    attempt = (lambda batch: Trial(batch, fits(batch))) if fits else _measuring(net, bound, options)
    trials: list[Trial] = []

    def tried(batch: int) -> bool:
        trial = attempt(batch)
        trials.append(trial)
        if progress:
            progress(trial)
        return trial.fits

    best = _doubled(tried, most)
    if not best:
        within = f" in {readable_bytes(bound)} of memory" if bound else ""
        raise InputError(f"not even one image at a time can be trained{within}; give more memory or a smaller network")
    if not power_of_two:
        refused = next((trial.batch_size for trial in trials if not trial.fits), most + 1)
        best = last_fitting(tried, best, refused)
    return FoundBatch(best, tuple(trials), most)


def _measuring(net: Any, limit: int, options: dict[str, Any]) -> Callable[[int], Trial]:
    """Tries a batch by training with it in a process of its own."""
    # What a GPU has says nothing about the memory that its process may take from the machine.
    enforced = None if options["execution"] == "gpu" else limit

    def attempt(batch: int) -> Trial:
        try:
            peak = measure_memory(net, batch, limit_bytes=enforced, **options).process_bytes
        except OutOfMemory:
            return Trial(batch, False)
        return Trial(batch, peak <= limit, peak)

    return attempt


def _doubled(fits: Callable[[int], bool], most: int) -> int:
    """The largest of 1, 2, 4 … up to `most` before the first that does not fit; 0 where 1 does not."""
    best = 0
    while (batch := max(1, 2 * best)) <= most and fits(batch):
        best = batch
    return best


# The other way round: the network for the batch.


def largest_channels(
    make_net: Callable[[int], Network],
    batch_size: int = 1,
    limit: int | None = None,
    *,
    share: float = SHARE,
    most: int = MOST_CHANNELS,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
) -> int:
    """As wide as the memory allows: the most channels with which `make_net(channels)` trains within `share` of `limit`.

    By the same prediction as `plan_batches`. Raises InputError where not even one channel fits.

    >>> from toolkit.architectures import small_cnn
    >>> wide = largest_channels(lambda channels: small_cnn(channels=channels), 64, 4 * 10**9, execution="tensorflow")
    >>> narrow = largest_channels(lambda channels: small_cnn(channels=channels), 512, 4 * 10**9, execution="tensorflow")
    >>> wide > narrow > 1
    True
    """
    require_whole("most", most)
    _require_share(share)
    execution = execution or system.default_execution()
    limit = _limit(limit, execution)

    def predicted(channels: int) -> int:
        return predict_memory(
            make_net(channels),
            batch_size,
            dtype_policy=dtype_policy,
            optimizer=optimizer,
            execution=execution,
            accumulation_steps=accumulation_steps,
        ).process_bytes

    def fits(channels: int) -> bool:
        return predicted(channels) <= share * limit

    narrow = _doubled(fits, most)
    if not narrow:
        least = predicted(1)
        raise InputError(
            f"with one channel this network needs about {readable_bytes(least)} to train with a batch of {batch_size} "
            f"and {_allowed(limit, share)} may be used; give a smaller batch, or a limit of {_enough(least, share)} or "
            "more"
        )
    return last_fitting(fits, narrow, min(2 * narrow, most + 1))
