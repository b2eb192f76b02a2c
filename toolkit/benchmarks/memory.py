"""Predicted memory beside measured: training and inference, three methods, and planned batches under a hard limit.

Every measurement is a process of its own that builds the network and steps. Memory pools grow as the threads happen to
run, so what is measured quickly is measured three times, and the median is the truth. What cannot be measured is a row
that says why, and counts against the promise.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import elements
from toolkit.batches import BatchPlan, plan_batches
from toolkit.benchmarks import ROOT, Check, Measured, Report, Row, readable
from toolkit.costs import Network, costs, rows_of
from toolkit.errors import InputError
from toolkit.layers import Shape
from toolkit.memory import ENVIRONMENTS, Measurable, estimate_memory, measure_memory
from toolkit.memory_command import application_and_rows
from toolkit.runtimes import predict_memory
from toolkit.system import backend, default_execution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITHIN, SHARE_WITHIN, LOWEST_RATIO = 0.10, 0.95, 0.85
INFERENCE_WITHIN, INFERENCE_BYTES = 0.15, 60_000_000
METHOD_WITHIN = 0.05
MILLISECONDS = 50
WANTED, PLANNED_SHARE = 64, 0.7
TIMEOUT = 900.0
# A training step that is measured in so many seconds is measured so many times.
CHEAP_SECONDS, TIMES = 15.0, 3
MB = 10**6
# The executions that the promise of training is about.
PROMISED = ("tensorflow", "onednn")


@dataclass(frozen=True)
class Case:
    """One step to be predicted and measured; `execution` "" is this machine's. `methods` go beside arithmetic."""

    network: str
    batch_size: int
    training: bool = True
    optimizer: str = "adam"
    dtype_policy: str = "float32"
    accumulation_steps: int = 1
    input_shape: Shape | None = None
    execution: str = ""
    methods: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The step in words.

        >>> print(Case("resnet18", 8, optimizer="sgd", execution="tensorflow"))
        resnet18 × 8, training, sgd, float32, tensorflow
        >>> print(Case("three_layers", 4, training=False, input_shape=(720, 1280, 3), execution="tensorflow"))
        three_layers 720x1280x3 × 4, inference, float32, tensorflow
        """
        size = f" {'x'.join(map(str, self.input_shape))}" if self.input_shape else ""
        kind = f"training, {self.optimizer}" if self.training else "inference"
        more = f", {self.accumulation_steps} steps accumulated" if self.accumulation_steps > 1 else ""
        return f"{self.network}{size} × {self.batch_size}, {kind}, {self.dtype_policy}, {self.execution}{more}"

    @property
    def conditions(self) -> dict[str, Any]:
        """The arguments that measuring and predicting share."""
        names = ("training", "optimizer", "dtype_policy", "accumulation_steps", "execution")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class MemoryRow(Row):
    """One case: bytes that were measured, and what says so beforehand. `median`, `least` and `most` are MB measured, in
    `n` processes; `measured_bytes` is the median.

    naive_bytes: the batch's input alone; textbook_bytes: weights, gradients, optimizer, activations and input summed.
    ratio: predicted / measured; None where nothing was measured, for the reason in `failed`.
    methods: bytes by "probing" or "compiling", where the case asks for them; 0 where there was no answer.
    """

    network: str
    batch_size: int
    training: bool
    optimizer: str
    dtype_policy: str
    accumulation_steps: int
    execution: str
    measured_bytes: int | None
    predicted_bytes: int | None
    ratio: float | None
    naive_bytes: int
    textbook_bytes: int
    methods: dict[str, int]
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class PlannedRow(Row):
    """One planned batch that was trained under a hard limit for its whole process; `median` is the peak in MB."""

    network: str
    limit_bytes: int
    batch_size: int
    accumulation_steps: int
    predicted_bytes: int
    process_bytes: int | None
    seconds: float
    failed: str = ""


# What is measured.

HD: Shape = (720, 1280, 3)
SMALL: Shape = (96, 96, 3)
TINY: Shape = (64, 64, 3)
PROBED = ("probing",)
COMPILED = ("compiling",)

QUICK = (
    Case("small_cnn", 64),
    Case("lenet5", 64),
    Case("resnet18", 2),
    Case("alexnet_32", 32),
    Case("small_cnn", 64, training=False),
)
FULL = (
    Case("small_cnn", 64),
    Case("lenet5", 64),
    Case("three_layers", 1, input_shape=HD),
    Case("three_layers", 4, input_shape=HD),
    Case("alexnet", 1),
    Case("alexnet", 32, methods=PROBED),
    Case("vgg16", 1),
    Case("vgg11", 8),
    Case("googlenet", 8),
    Case("resnet18", 1),
    Case("resnet18", 8),
    Case("resnet18", 16, methods=PROBED),
    Case("resnet50", 1),
    Case("resnet50", 8),
    Case("mobilenet_v2", 1),
    Case("mobilenet_v2", 16),
    Case("se_resnet50", 4, input_shape=SMALL),
    Case("xception", 4),
    Case("vit_tiny", 16, input_shape=SMALL),
    Case("DenseNet121", 1),
    Case("EfficientNetB0", 8),
    Case("small_cnn", 64, training=False),
    Case("alexnet", 32, training=False),
    Case("resnet50", 8, training=False),
    Case("mobilenet_v2", 16, training=False),
    Case("vgg16", 1, training=False),
    Case("DenseNet121", 8, training=False),
    Case("resnet18", 8, optimizer="sgd"),
    Case("alexnet", 8, optimizer="sgd"),
    Case("mobilenet_v2", 8, optimizer="sgd"),
    Case("resnet18", 8, dtype_policy="mixed_bfloat16"),
    Case("small_cnn", 64, dtype_policy="mixed_bfloat16"),
    Case("mobilenet_v2", 8, dtype_policy="mixed_bfloat16"),
    Case("resnet18", 8, accumulation_steps=4),
    Case("alexnet", 8, accumulation_steps=4),
    Case("resnet18", 8, execution="tensorflow"),
    Case("mobilenet_v2", 16, execution="tensorflow"),
    Case("lenet5", 64, execution="tensorflow"),
    Case("resnet18", 8, execution="jax", methods=COMPILED),
    Case("resnet50", 4, execution="jax", methods=COMPILED),
)
QUICK_PLANS = ((Case("three_layers", 4), 1_200 * MB),)
# In MB; the least of each three leaves most networks less than their wish.
TIGHT: tuple[int, ...] = (1_150, 1_300, 1_600)
FULL_PLANS = tuple(
    (Case(name, WANTED, input_shape=shape), limit * MB)
    for name, shape, limits in (
        ("small_cnn", SMALL, TIGHT),
        ("lenet5", None, TIGHT),
        ("alexnet_28", None, (1_075, 1_150, 1_300)),
        ("alexnet_32", None, TIGHT),
        ("three_layers", None, TIGHT),
        ("vit_tiny", SMALL, (2_200, 2_400, 2_700)),
        ("googlenet", TINY, (1_820, 2_000, 2_300)),
        ("resnet18", TINY, (1_690, 1_780, 2_200)),
        ("mobilenet_v2", TINY, (1_990, 2_100, 2_600)),
        ("ResNet50V2", TINY, (2_690, 2_800, 3_200)),
    )
    for limit in limits
)


def measure(quick: bool, seed: int) -> Measured:
    """Measure everything; `quick` has a few small networks and one plan. Nothing in it is drawn by chance."""
    cases = cases_here(QUICK if quick else FULL)
    plans = QUICK_PLANS if quick else FULL_PLANS
    rows = [told(predicted_and_measured(case), f"{i}/{len(cases)}") for i, case in enumerate(cases, 1)]
    planned = [told(row, f"plan {i}/{len(plans)}") for i, row in enumerate(planned_rows(plans), 1)]
    speed, speed_checks = speed_of_arithmetic(3 if quick else 10)
    checks = (*training_checks(rows), *inference_checks(rows), *method_checks(rows), *plan_checks(planned))
    return Measured((*rows, *planned, speed), (*checks, *speed_checks))


def cases_here(cases: Sequence[Case]) -> list[Case]:
    """The cases that can be executed here, each with its execution; the others are left out."""
    named = [replace(case, execution=case.execution or default_execution()) for case in cases]
    return [case for case in named if find_spec(library_of(case.execution)) is not None]


def library_of(execution: str) -> str:
    """The package that computes an execution.

    >>> library_of("onednn"), library_of("jax")
    ('tensorflow', 'jax')
    """
    return ENVIRONMENTS[execution].get("KERAS_BACKEND") or backend()


R = TypeVar("R", MemoryRow, PlannedRow)


def told(row: R, which: str) -> R:
    """The row, after a line about it on standard error: the full run takes minutes."""
    said = f"measured {readable(row.median)} {row.unit}" if row.n else "failed"
    sys.stderr.write(f"{which}: {row.what}: {said} ({row.seconds:.0f} s)\n")
    sys.stderr.flush()
    return row


# One step, predicted and measured.


@cache
def network_of(name: str, input_shape: Shape | None) -> tuple[Measurable, Network]:
    """What is built and what is priced: an architecture twice, or a model of keras.applications and its rows."""
    if name in ARCHITECTURES:
        net = architecture(name, input_shape)
        return net, net
    return application_and_rows(name, input_shape)


def predicted_and_measured(case: Case) -> MemoryRow:
    """The row of one case; whatever goes wrong is a row too, as the others still tell something."""
    begun = time.perf_counter()
    peaks: list[int] = []
    methods = dict.fromkeys(case.methods, 0)
    predicted, naive, textbook, failed = 0, 0, 0, ""
    try:
        net, priced = network_of(case.network, case.input_shape)
        predicted = predict_memory(priced, case.batch_size, **case.conditions).peak_bytes
        naive, textbook = formulas(priced, case)
        peaks = measured_peaks(net, case)
        for method in case.methods:
            estimate = estimate_memory(net, case.batch_size, method=method, timeout=TIMEOUT, **case.conditions)
            methods[method] = estimate.peak_bytes
    except Exception as error:  # a defect in one row must not cost the measurements of all others
        failed = sentence_of(error)
    measured = int(median(peaks)) if peaks else 0
    ratio = predicted / measured if measured > 0 and predicted else None
    return MemoryRow(
        **_figure(str(case), peaks, f"predicted {predicted / MB:,.0f}", failed, ratio),
        network=case.network,
        batch_size=case.batch_size,
        training=case.training,
        optimizer=case.optimizer,
        dtype_policy=case.dtype_policy,
        accumulation_steps=case.accumulation_steps,
        execution=case.execution,
        measured_bytes=measured or None,
        predicted_bytes=predicted or None,
        ratio=ratio,
        naive_bytes=naive,
        textbook_bytes=textbook,
        methods=methods,
        seconds=round(time.perf_counter() - begun, 1),
        failed=failed,
    )


def measured_peaks(net: Measurable, case: Case) -> list[int]:
    """The peak of the step in fresh processes, one or several."""
    begun, peaks = time.perf_counter(), list[int]()
    times = TIMES if case.training else 1  # a forward pass takes the same every time
    while not peaks or (len(peaks) < times and time.perf_counter() - begun <= CHEAP_SECONDS * len(peaks)):
        peaks.append(measure_memory(net, case.batch_size, timeout=TIMEOUT, **case.conditions).peak_bytes)
    return peaks


def formulas(net: Network, case: Case) -> tuple[int, int]:
    """(naive, textbook) bytes: the input of the batch, and what a course sums up for the step, in float32.

    >>> from toolkit.architectures import lenet5
    >>> formulas(lenet5(), Case("lenet5", 64))[0] == 64 * 32 * 32 * 4
    True
    """
    priced = costs(net, case.batch_size, "float32", case.optimizer)
    naive = 4 * case.batch_size * elements(rows_of(net)[0].output_shape)
    return naive, priced.training_bytes if case.training else priced.inference_bytes


def sentence_of(error: Exception) -> str:
    """What went wrong; an error that was not meant for people with its type.

    >>> sentence_of(InputError("it does not fit")), sentence_of(KeyError("x"))
    ('it does not fit', "KeyError: 'x'")
    """
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _figure(what: str, peaks: Sequence[int], more: str, failed: str, ratio: float | None = None) -> dict[str, Any]:
    """The fields that every row has."""
    sizes = [peak / MB for peak in peaks] or [0.0]
    said = more + (f" (× {ratio:.2f})" if ratio else "") if peaks else "no measurement"
    said += f"; {failed}" if failed else ""
    return {
        "what": f"{what}: {said}",
        "unit": "MB",
        "median": median(sizes),
        "least": min(sizes),
        "most": max(sizes),
        "n": len(peaks),
    }


def training_checks(rows: Sequence[MemoryRow]) -> list[Check]:
    """Training on TensorFlow's processor kernels, whatever the optimizer and policy; what failed is not within."""
    ours = [row for row in rows if row.training and row.execution in PROMISED]
    ratios = [row.ratio for row in ours if row.ratio is not None]
    if not ours:
        return []
    within = sum(holds(row, WITHIN) for row in ours) / len(ours)
    return [
        Check.at_least(f"training: share of {len(ours)} predicted within {WITHIN:.0%}", within, share_goal(len(ours))),
        Check.at_least("training: lowest prediction / measurement", min(ratios, default=0.0), LOWEST_RATIO),
    ]


def share_goal(count: int) -> float:
    """The share of `count` rows that has to be within: 95 %, or all but one of four and more, as the truth jumps, too.

    >>> share_goal(2), share_goal(4), share_goal(40)
    (0.95, 0.75, 0.95)
    """
    return min(SHARE_WITHIN, 1 - 1 / count) if count >= 4 else SHARE_WITHIN


def inference_checks(rows: Sequence[MemoryRow]) -> list[Check]:
    """Inference on TensorFlow's processor kernels, within a share or a size, whichever is more."""
    ours = [row for row in rows if not row.training and row.execution in PROMISED]
    if not ours:
        return []
    goal = f"inference: share of {len(ours)} predicted within {INFERENCE_WITHIN:.0%} or {INFERENCE_BYTES // MB} MB"
    within = sum(holds(row, INFERENCE_WITHIN, INFERENCE_BYTES) for row in ours) / len(ours)
    return [Check.at_least(goal, within, 1.0)]


def holds(row: MemoryRow, share: float, size: int = 0) -> bool:
    """Whether a row was measured, and predicted within a share of that or within `size` bytes, whichever is more."""
    if row.measured_bytes is None or row.predicted_bytes is None:
        return False
    return abs(row.predicted_bytes - row.measured_bytes) <= max(share * row.measured_bytes, size)


def method_checks(rows: Sequence[MemoryRow]) -> list[Check]:
    """How far the other methods were off at most."""
    off: dict[str, list[float]] = {}
    for row in rows:
        for method, size in row.methods.items():
            off.setdefault(method, []).append(abs(size / (row.measured_bytes or 1) - 1))
    return [
        Check.at_most(f"by {method}: most that it is off", max(found), METHOD_WITHIN) for method, found in off.items()
    ]


# Plans under a hard limit.


def planned_rows(plans: Iterable[tuple[Case, int]]) -> Iterator[PlannedRow]:
    """The rows of plans. What trained under a limit is not trained again under a wider one that has the same plan."""
    trained: dict[tuple[Case, int, int], PlannedRow] = {}
    for case, limit in plans:
        before = trained.get(_key(case, limit))
        if before and before.limit_bytes <= limit:
            what = f"{case.network} within {limit / MB:,.0f} MB: the same plan as within {before.limit_bytes / MB:,.0f}"
            yield replace(before, what=what, limit_bytes=limit, seconds=0.0)
            continue
        row = planned_and_trained(case, limit)
        if not row.failed and row.batch_size:
            trained[case, row.batch_size, row.accumulation_steps] = row
        yield row


def _key(case: Case, limit: int) -> tuple[Case, int, int]:
    """The step that is planned; batch 0 where none is."""
    with contextlib.suppress(Exception):  # it is told when the row is made
        plan, _ = planned(network_of(case.network, case.input_shape)[1], case, limit)
        return (case, plan.batch_size, plan.accumulation_steps) if plan else (case, 0, 0)
    return case, 0, 0


def planned_and_trained(case: Case, limit: int) -> PlannedRow:
    """Plan a batch for a limit, and train three steps, or updates, in a process that gets no more memory than that.

    Where the planner refuses because one image does not fit, one image is measured without a limit: it was right where
    that takes more than the share that a plan may use.
    """
    begun = time.perf_counter()
    plan: BatchPlan | None = None
    peak, failed = 0, ""
    try:
        net, priced = network_of(case.network, case.input_shape)
        plan, refusal = planned(priced, case, limit)
        conditions: dict[str, Any]
        if plan:
            conditions = {"execution": plan.execution, "accumulation_steps": plan.accumulation_steps}
            peak = measure_memory(net, plan.batch_size, limit_bytes=limit, timeout=TIMEOUT, **conditions).process_bytes
        else:
            conditions = {"execution": case.execution or None, "accumulation_steps": case.batch_size}
            peak = measure_memory(net, 1, timeout=TIMEOUT, **conditions).process_bytes
            failed = "" if peak > PLANNED_SHARE * limit else refusal
    except Exception as error:  # as above
        failed = sentence_of(error)
    predicted = plan.predicted_bytes if plan else 0
    batch, steps = (plan.batch_size, plan.accumulation_steps) if plan else (0, 0)
    what = f"{case.network} within {limit / MB:,.0f} MB: {batch} × {steps} planned"
    more = f"predicted {predicted / MB:,.0f}, trained" if plan else "refused, and one image took more than it may"
    return PlannedRow(
        **_figure(what, [peak] if peak else [], more, failed),
        network=case.network,
        limit_bytes=limit,
        batch_size=batch,
        accumulation_steps=steps,
        predicted_bytes=predicted,
        process_bytes=peak or None,
        seconds=round(time.perf_counter() - begun, 1),
        failed=failed,
    )


def planned(net: Network, case: Case, limit: int) -> tuple[BatchPlan | None, str]:
    """The plan; or none, and why one image does not fit.

    >>> from toolkit.architectures import lenet5
    >>> planned(lenet5(), Case("lenet5", 64), 10**6)[1].startswith("lenet5 needs about")
    True
    """
    try:
        plan = plan_batches(
            net, case.batch_size, limit, share=PLANNED_SHARE, execution=case.execution or None, name=case.network
        )
    except InputError as error:
        return None, str(error)
    return plan, ""


def plan_checks(rows: Sequence[PlannedRow]) -> list[Check]:
    """Every planned batch trains, and one image that is refused needs more than it may."""
    trained = sum(not row.failed for row in rows) / max(len(rows), 1)
    return [Check.at_least(f"share of {len(rows)} planned batches that trained under a hard limit", trained, 1.0)]


# Arithmetic alone.

ALONE = """
import sys, time
from toolkit.architectures import resnet50
from toolkit.runtimes import predict_memory
begun = time.perf_counter()
predict_memory(resnet50(), 32)
milliseconds = 1000 * (time.perf_counter() - begun)
print(milliseconds, sum(name in sys.modules for name in ("keras", "tensorflow", "jax", "torch")))
"""


def speed_of_arithmetic(runs: int) -> tuple[Row, tuple[Check, ...]]:
    """Milliseconds of the first prediction of a fresh interpreter, ResNet-50 traced and all; and who was imported."""
    answers = []
    for _ in range(runs):
        process = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
        answers.append([float(word) for word in process.stdout.split()])
    row = Row.of(
        "ResNet-50 by arithmetic, first answer of a fresh interpreter", "ms", [answer[0] for answer in answers]
    )
    loaded = max(answer[1] for answer in answers)
    return row, (
        Check.at_most("ResNet-50 by arithmetic, milliseconds", row.median, MILLISECONDS),
        Check.at_most("frameworks that this imports", loaded, 0),
    )


# The picture.


def picture(report: Report) -> Figure:
    """Training as measured, and what each way of predicting said of it."""
    from toolkit.plots import plot_memory_predictions

    rows = [row for row in report.rows if isinstance(row, MemoryRow) and row.training and row.measured_bytes]
    return plot_memory_predictions(
        [row.measured_bytes or 0 for row in rows],
        {
            "by arithmetic": [row.predicted_bytes or 0 for row in rows],
            "textbook sum": [row.textbook_bytes for row in rows],
            "input alone": [row.naive_bytes for row in rows],
        },
        "Peak memory of a training step",
        style="light",
    )
