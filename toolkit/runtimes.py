"""What a process that trains really needs: the requests of `steps`, and what each runtime adds to them.

The requests say how many bytes are in use at once. A process needs more: memory pools that cannot use every gap, copies
that a kernel lays out anew, the compiler and the graph itself. How much more was measured once for each runtime, in
fresh processes on two cores (Keras 3.15, TensorFlow 2.21, JAX 0.11), and stands in `RUNTIMES` with its meaning.
`python -m toolkit bench memory` repeats the comparison. Nothing here needs a framework or reads the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from toolkit import arithmetic
from toolkit.arithmetic import require_choice, require_whole
from toolkit.costs import Network, Row, Rows, rows_of
from toolkit.layers import Architecture, Conv2D, InputLayer
from toolkit.steps import FLOAT, KINDS, Step, Tape

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
MB = 10**6


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What one runtime adds. Bytes, or a factor of the bytes that it stands before.

    `framework`: the process before any network exists. `base`, `per_variable`, `per_row`: the graph, its optimizer and
    what runs it, for each trainable variable and each layer. `pool`: memory held for each byte in use, above 1 for the
    gaps. `largest_map`: copies of the largest feature map, `largest_kernel` of the largest convolution's weights, which
    kernels lay out anew. `grouped`: the compiler that grouped convolutions call; `unfolded`: bytes of their windows
    laid out side by side. `weights`: copies of all weights. `cast`: weights in the 16-bit type, for mixed precision.
    `inference` is the same as `pool` for a forward pass. `columns`: buffers of windows laid out as columns (im2col),
    of which TensorFlow's own kernels make as many at once as fill the processor's cache. `heap`: what the C library
    keeps beside each byte of the buffers that are too small for it to map one by one. `accuracy` is how far all this
    was off for training, `inference_accuracy` for inference.
    """

    accuracy: str
    inference_accuracy: str = "inference was not compared with measurements"
    pool: float
    framework: int = 0
    base: int = 0
    per_variable: int = 0
    per_row: int = 0
    largest_map: float = 0.0
    largest_kernel: float = 0.0
    grouped: int = 0
    unfolded: float = 0.0
    weights: float = 0.0
    cast: float = 1.25
    inference: float = 1.6
    columns: float = 0.0
    heap: float = 0.0


# "tensorflow": the graph with TensorFlow's own kernels. "onednn": the graph with oneDNN's kernels and their pool, which
# TensorFlow takes by itself on processors with AVX-512 VNNI and the like. "xla": `jit_compile=True` on the processor.
# "jax": Keras on JAX. "gpu": a GPU, whose memory is counted alone.
RUNTIMES: Mapping[str, Runtime] = {
    "tensorflow": Runtime(
        framework=650 * MB,
        base=30 * MB,
        per_variable=1_810_000,
        per_row=574_000,
        pool=0.83,
        heap=0.31,
        largest_map=1.48,
        columns=1.44,
        grouped=349 * MB,
        unfolded=1.23,
        accuracy="training within 10 % for 11 of the 14 runs that it was fitted to, the worst 19 % too low",
    ),
    "onednn": Runtime(
        framework=650 * MB,
        base=25 * MB,
        per_variable=1_810_000,
        per_row=574_000,
        pool=1.11,
        largest_map=0.75,
        largest_kernel=1.35,
        grouped=185 * MB,
        unfolded=1.23,
        accuracy="within 10 % for 65 of the 71 runs that it was fitted to, from 15 % too low to 25 % too high",
        inference_accuracy="inference within 14 % or 60 MB for the 6 networks that `bench memory` measures",
    ),
    "xla": Runtime(
        framework=650 * MB,
        base=168 * MB,
        per_row=6_200_000,
        pool=0.6,
        largest_map=10.0,
        weights=5.0,
        accuracy="training within 31 % for the 15 runs that it was fitted to; compile memory varies",
        inference_accuracy="inference was compared with one small network only, 10 MB off",
    ),
    "jax": Runtime(
        framework=340 * MB,
        base=162 * MB,
        per_row=4_500_000,
        pool=1.1,
        largest_map=6.7,
        weights=4.2,
        accuracy="training within 19 % for the 15 runs that it was fitted to; compile memory varies",
        inference_accuracy="inference was compared with one small network only, 26 MB off",
    ),
    "gpu": Runtime(
        pool=1.05,
        accuracy="compared with one network on one GPU only (MobileNetV2, within 1 %); kernel selection can add 2 GB",
    ),
}
EXECUTIONS = tuple(RUNTIMES)
# Compiled steps keep what the backward pass reads and fuse the rest: only activations grow with the batch.
COMPILED = ("xla", "jax")
# The order in which an estimate tells its parts.
ORDER = (*KINDS, "workspace", "pool", "runtime")
# The graph of an optimizer without slots has fewer nodes.
PLAIN_OPTIMIZER = 0.35
# glibc maps at the latest what is as large as this, and gives it back at once.
MAPPED = 32 * 2**20
# The processor's last cache, where nobody says otherwise.
CACHE = 32 * 2**20
PER_VARIABLE_IN_INFERENCE = 400_000
# What compiling a forward pass takes of what compiling a training step takes: its program is half as long.
SHORTER_PROGRAM = 0.5
# Keras accumulates gradients in a branch of the graph, one for each variable.
PER_VARIABLE_IN_ACCUMULATION = 1_500_000
BUILDING = 1.1


@dataclass(frozen=True)
class MemoryEstimate:
    """The predicted peak of one process. `parts` say where the bytes over the state before building go; they sum to
    `peak_bytes`. `framework_bytes` is the process itself before any network is built; `accuracy` says in words how far
    such an estimate was off when it was measured.
    """

    network: str
    batch_size: int
    training: bool
    dtype_policy: str
    optimizer: str
    execution: str
    method: str
    parts: Mapping[str, int]
    framework_bytes: int
    accuracy: str

    @property
    def peak_bytes(self) -> int:
        """The peak over the state before the network was built: what `measure` measures."""
        return sum(self.parts.values())

    @property
    def process_bytes(self) -> int:
        """The peak of the whole process: what has to fit into the machine."""
        return self.framework_bytes + self.peak_bytes

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        totals = {"peak_bytes": self.peak_bytes, "process_bytes": self.process_bytes}
        return {**self.__dict__, "parts": dict(self.parts), **totals}


def predict_memory(
    net: Network,
    batch_size: int = 1,
    *,
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str = "onednn",
    accumulation_steps: int = 1,
    name: str = "model",
) -> MemoryEstimate:
    """The peak of one step, by arithmetic alone: no framework, milliseconds. `name` is for rows.

    The loss is that of classes for (classes,) outputs and the squared error of every number otherwise. Raises
    InputError for sizes below 1 and unknown names.

    >>> from toolkit.architectures import resnet50
    >>> estimate = predict_memory(resnet50(), 32)
    >>> 3.5e9 < estimate.peak_bytes < 4.3e9, sum(estimate.parts.values()) == estimate.peak_bytes
    (True, True)
    """
    require_whole("batch_size", batch_size)
    require_whole("accumulation_steps", accumulation_steps)
    runtime = RUNTIMES[require_choice("execution", execution, EXECUTIONS)]
    require_choice("dtype_policy", dtype_policy, POLICIES)
    slots = arithmetic.optimizer_slots(optimizer)
    rows = rows_of(net)
    size = FLOAT if dtype_policy == "float32" else FLOAT // 2
    step = Step(rows, batch_size, execution, slots, size, accumulation_steps > 1)
    step.build()
    parts = _training_parts(step, runtime, execution) if training else _inference_parts(step, runtime)
    return MemoryEstimate(
        network=net.name if isinstance(net, Architecture) else name,
        batch_size=batch_size,
        training=training,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        method="arithmetic",
        parts=_whole(parts),
        framework_bytes=runtime.framework,
        accuracy=runtime.accuracy if training else runtime.inference_accuracy,
    )


def _whole(parts: Mapping[str, float]) -> dict[str, int]:
    """Whole bytes. A pool that gives back more than it wastes lessens the temporaries and activations instead."""
    found = {kind: int(bytes_) for kind, bytes_ in parts.items()}
    saved = max(-found.get("pool", 0), 0)
    for kind in ("temporaries", "gradients", "activations", "weights"):
        taken = min(saved, found.get(kind, 0))
        found[kind] = found.get(kind, 0) - taken
        saved -= taken
    return {kind: found[kind] for kind in sorted(found, key=ORDER.index) if found[kind] > 0}


def alive_at_peak(tape: Tape) -> list[int]:
    """The numbers of the buffers in use at the moment when most bytes are.

    >>> tape = Tape()
    >>> first = tape.take("weights", 3); tape.pass_through(5); second = tape.take("input", 1)
    >>> [tape.kinds[number] for number in alive_at_peak(tape)]
    ['weights', 'temporaries']
    """
    now = most = end = 0
    for index, (number, size) in enumerate(tape.events):
        now += size if size >= 0 else -tape.sizes[number]
        if now > most:
            most, end = now, index
    alive: dict[int, None] = {}
    for number, size in tape.events[: end + 1]:
        if size >= 0:
            alive[number] = None
        else:
            del alive[number]
    return list(alive)


def _by_kind(tape: Tape, alive: list[int]) -> Counter[str]:
    """Bytes of each kind in these buffers."""
    found: Counter[str] = Counter()
    for number in alive:
        found[tape.kinds[number]] += tape.sizes[number]
    return found


def _most_of(tape: Tape, kind: str) -> int:
    """The most bytes of one kind that are in use at once."""
    now = most = 0
    for number, size in tape.events:
        if tape.kinds[number] == kind:
            now += size if size >= 0 else -tape.sizes[number]
            most = max(most, now)
    return most


def _largest(tape: Tape, kind: str) -> int:
    """The largest request of one kind."""
    sizes = (size for size, each in zip(tape.sizes, tape.kinds, strict=True) if each == kind)
    return max(sizes, default=0)


def _outside(step: Step, training: bool) -> int:
    """Bytes of the batch as it lies outside the runtime: images, and the answers that training needs."""
    entries = (row.output_shape for row in step.rows if isinstance(row.layer, InputLayer))
    images = FLOAT * step.batch * sum(arithmetic.elements(shape) for shape in entries)
    return images + (_answers(step) if training else 0)


def _answers(step: Step) -> int:
    """Bytes of the answers where there is one for each number of the output; a class for each image is next to none."""
    shape = step.rows[-1].output_shape
    return FLOAT * step.batch * arithmetic.elements(shape) if len(shape) > 1 else 0


def _training_parts(step: Step, runtime: Runtime, execution: str) -> dict[str, float]:
    rows, weights = step.rows, FLOAT * sum(row.params for row in step.rows)
    step.slots_for_all()
    answers = _answers(step)
    step.train(answers or 2 * FLOAT * step.batch, answers)
    tape = step.tape
    variables = sum(len(trainable) for trainable, _ in step.variables) * (1 if step.slots else PLAIN_OPTIMIZER)
    parts: dict[str, float]
    if execution in COMPILED:
        slots = FLOAT * sum(row.trainable_params for row in rows) * (step.slots + int(step.accumulates))
        parts = {"weights": weights, "optimizer": slots, "activations": runtime.pool * _most_of(tape, "activations")}
        parts["temporaries"] = max(runtime.weights * weights - weights - slots, weights)
    else:
        alive = alive_at_peak(tape)
        parts = dict(_by_kind(tape, alive))
        small = sum(tape.sizes[number] for number in alive if tape.sizes[number] < MAPPED)
        parts["pool"] = (runtime.pool - 1) * sum(parts.values()) + runtime.heap * small
    parts["input"] = parts.get("input", 0) + _outside(step, training=True)
    parts["workspace"] = (
        runtime.largest_map * _largest(tape, "activations")
        + runtime.largest_kernel * _largest_kernel(rows)
        + runtime.unfolded * step.batch * _unfolded(rows)
        + runtime.columns * _columns(rows, step.batch)
        + (runtime.cast * weights if step.size < FLOAT else 0)
    )
    parts["runtime"] = runtime.base + runtime.per_variable * variables + runtime.per_row * len(rows)
    if step.accumulates and runtime.per_variable:
        parts["runtime"] += PER_VARIABLE_IN_ACCUMULATION * variables
    parts["runtime"] += runtime.grouped if any(_is_grouped(row) for row in rows) else 0
    return parts


def _inference_parts(step: Step, runtime: Runtime) -> dict[str, float]:
    """A forward pass, unless building the network needed more."""
    begun, building = len(step.tape.events), sum(step.tape.sizes[number] for number in alive_at_peak(step.tape))
    weights = FLOAT * sum(row.params for row in step.rows)
    step.forward(training=False)
    later = Tape(step.tape.events[begun:], step.tape.kinds, step.tape.sizes)
    parts: dict[str, float] = {"weights": weights, **_by_kind(later, alive_at_peak(later))}
    moving = runtime.inference if runtime.base else runtime.pool
    parts["pool"] = (moving - 1) * (sum(parts.values()) - weights)
    parts["input"] = parts.get("input", 0) + _outside(step, training=False)
    variables = sum(len(trainable) for trainable, _ in step.variables)
    grouped = any(_is_grouped(row) for row in step.rows)
    if step.kernels in COMPILED:
        parts["runtime"] = SHORTER_PROGRAM * (runtime.base + runtime.per_row * len(step.rows))
    elif runtime.base:
        parts["temporaries"] = parts.get("temporaries", 0) + max(BUILDING * building - sum(parts.values()), 0)
        parts["runtime"] = 25 * MB + PER_VARIABLE_IN_INFERENCE * variables + (runtime.grouped if grouped else 0)
    return parts


def _is_grouped(row: Row) -> bool:
    return isinstance(row.layer, Conv2D) and row.layer.groups > 1


def _largest_kernel(rows: Rows) -> int:
    """Bytes of the largest convolution's weights."""
    return max((FLOAT * row.params for row in rows if isinstance(row.layer, Conv2D)), default=0)


def _columns(rows: Rows, batch: int) -> int:
    """Bytes of the largest im2col buffer: as many images as fit into the cache, and at least one."""
    sizes = (
        FLOAT
        * arithmetic.elements(row.layer.window)
        * row.input_shapes[0][-1]
        * arithmetic.elements(row.output_shape[:2])
        for row in rows
        if isinstance(row.layer, Conv2D) and row.layer.groups == 1 and max(row.layer.window) > 1
    )
    return max((max(size, min(batch * size, CACHE)) for size in sizes), default=0)


def _unfolded(rows: Rows) -> int:
    """Bytes of the windows of the largest convolution with a group for each channel, there and back, for one image."""
    sizes = (
        arithmetic.elements(row.layer.window) * arithmetic.elements(row.output_shape)
        for row in rows
        if isinstance(row.layer, Conv2D) and 1 < row.layer.groups == row.input_shapes[0][-1]
    )
    return 2 * FLOAT * max(sizes, default=0)
