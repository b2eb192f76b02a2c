"""What is said about memory in more than one place: both peaks of a network, and a plan beside the naive answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from toolkit import system
from toolkit.arithmetic import dtype_bytes
from toolkit.costs import Network, Rows, rows_of
from toolkit.runtimes import MemoryEstimate, predict_memory

if TYPE_CHECKING:  # pricing a network must not wait for NumPy
    from toolkit.batches import BatchPlan

# The dtypes of the cost table in which Keras trains, and its policies for them.
POLICY_OF = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# The batches of a picture: powers of two until the peak is so many times the limit, or so many of them.
BEYOND, MOST_PEAKS = 1.5, 12


@lru_cache(maxsize=1024)
def predicted(
    rows: Rows,
    batch_size: int,
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    name: str = "model",
    execution: str | None = None,
    accumulation_steps: int = 1,
) -> MemoryEstimate:
    """`predict_memory`, remembered: pages ask the same again and again. Without `execution`, it is this machine's."""
    return predict_memory(
        rows,
        batch_size,
        training=training,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution or system.default_execution(),
        accumulation_steps=accumulation_steps,
        name=name,
    )


def peaks(
    net: Network, batch_size: int = 1, dtype: str = "float32", optimizer: str = "adam", name: str = "model"
) -> tuple[MemoryEstimate, ...]:
    """The predicted peaks of inference and of a training step; none for a dtype in which Keras does not train.

    >>> from toolkit.architectures import lenet5
    >>> [each.training for each in peaks(lenet5(), 32)], peaks(lenet5(), dtype="int8")
    ([False, True], ())
    """
    if dtype not in POLICY_OF:
        return ()
    rows, policy = tuple(rows_of(net)), POLICY_OF[dtype]
    name = getattr(net, "name", name)
    return tuple(predicted(rows, batch_size, training, policy, optimizer, name) for training in (False, True))


@dataclass(frozen=True)
class Advice:
    """A plan, what its step takes, and beside it the naive answer and what would come of it.

    peaks: the predicted peak of the whole process, in bytes, for batches that are powers of two.
    """

    plan: BatchPlan
    estimate: MemoryEstimate
    naive_batch: int
    naive_bytes: int
    peaks: tuple[tuple[int, int], ...]
    total_bytes: int
    available_bytes: int

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON: the plan's fields, and `estimate`, `naive`, `peaks` and `machine`."""
        naive = {"batch_size": self.naive_batch, "predicted_bytes": self.naive_bytes}
        machine = {"total_bytes": self.total_bytes, "available_bytes": self.available_bytes}
        peaks = [{"batch_size": batch, "predicted_bytes": size} for batch, size in self.peaks]
        told = {"estimate": self.estimate.to_dict(), "naive": naive, "peaks": peaks, "machine": machine}
        return self.plan.to_dict() | told


def advise(
    net: Network,
    wanted: int,
    limit: int | None = None,
    *,
    share: float = 0.7,
    power_of_two: bool = True,
    train_size: int | None = None,
    test_size: int | None = None,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    name: str = "model",
) -> Advice:
    """`plan_batches` with what belongs to its answer; raises InputError as it does.

    >>> from toolkit.architectures import lenet5
    >>> advice = advise(lenet5(), 300, 4 * 10**9)
    >>> advice.naive_batch > advice.plan.batch_size, advice.peaks[0][0]
    (True, 1)
    """
    from toolkit.batches import calculate_max_batch_size, plan_batches

    rows = tuple(rows_of(net))
    name = getattr(net, "name", name)
    how = {"dtype_policy": dtype_policy, "optimizer": optimizer}
    plan = plan_batches(
        rows,
        wanted,
        limit,
        share=share,
        power_of_two=power_of_two,
        train_size=train_size,
        test_size=test_size,
        execution=execution,
        name=name,
        **how,
    )

    def peak(batch: int) -> MemoryEstimate:
        steps = math.ceil(wanted / batch)
        return predicted(rows, batch, name=name, execution=plan.execution, accumulation_steps=steps, **how)

    height, width, channels = (1, 1, 1, *rows[0].output_shape)[-3:]
    number = dtype_bytes(dtype_policy.removeprefix("mixed_"))
    naive = calculate_max_batch_size((height, width), channels, number, available=plan.limit_bytes)
    return Advice(
        plan=plan,
        estimate=peak(plan.batch_size),
        naive_batch=naive,
        naive_bytes=peak(max(naive, 1)).process_bytes,
        peaks=_peaks(peak, plan),
        total_bytes=system.total_memory(),
        available_bytes=system.available_memory(),
    )


def _peaks(peak: Callable[[int], MemoryEstimate], plan: BatchPlan) -> tuple[tuple[int, int], ...]:
    """The peak of the process for powers of two until well beyond the limit, and for the plan's batch."""
    found = {plan.batch_size: plan.predicted_bytes}
    for power in range(MOST_PEAKS):
        found[1 << power] = size = peak(1 << power).process_bytes
        if size > BEYOND * plan.limit_bytes:
            break
    return tuple(sorted(found.items()))
