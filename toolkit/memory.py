"""The memory of one step, measured or estimated: a fresh process builds the network and steps, and the kernel counts.

What is measured is told apart from what is calculated: `measure_memory` runs the very step, `estimate_memory` says
beforehand what it will need, by one of three methods. Nothing here imports Keras: `toolkit.probes` does, in a process
of its own that ends with the measurement.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from toolkit.arithmetic import OPTIMIZER_SLOTS, InputError, require_choice, require_whole
from toolkit.costs import Network, Rows, rows_of
from toolkit.layers import Architecture
from toolkit.processes import Ending, Worker, own_folder, spawn, start_worker
from toolkit.runtimes import EXECUTIONS, POLICIES, MemoryEstimate, predict_memory
from toolkit.system import available_memory, backend, default_execution

# An architecture, rows that can be built, or a `keras.Model`, which has no name here as Keras is not imported.
Measurable = Network | Any
METHODS = ("arithmetic", "compiling", "probing")
STEPS = 3
TIMEOUT_SECONDS = 600.0
# The exit status of a worker that ran out of time where the kernel has no clock for it.
TIMED_OUT = 124
# What the environment of the child says for each execution, before a framework is imported.
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "tensorflow": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "onednn": {"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "1"},
    "xla": {"KERAS_BACKEND": "tensorflow"},
    "jax": {"KERAS_BACKEND": "jax"},
    "gpu": {},
}
# Batches up to this are measured and not drawn from smaller ones, whose peak is that of other things than the batch.
DIRECT_BATCH = 8
MEASURED = "a batch this small is measured: two measurements of one step differed by 2 %, of VGG-11's by 13 %"
PROBED = (
    "training, batches of 16 to 64, on a busy machine: within 3 % for MobileNetV2, GoogLeNet and ResNet-18, within 6 % "
    "for a small network, and up to 20 % off for ResNet-50 and VGG-11, whose measured peaks jumped between two steps"
)
COMPILED = (
    "with JAX, training on a processor, batches of 1 to 16: within 5 % for ResNet-18, ResNet-50 and VGG-11, from which "
    "its constant comes, 4 to 9 % off for MobileNetV2 and 6 % low for GoogLeNet, from which it does not, "
    "and up to 40 MB off for tiny networks; with TensorFlow's jit_compile compared with one tiny network, 31 MB low; "
    "inference of a tiny network was 20 MB low; on a graphics processor it leaves out what XLA takes for a moment to "
    "choose its kernels, which for ResNet-18 was 2.2 GB"
)
LESS = "take a smaller batch, smaller images or a narrower network"


class OutOfMemory(InputError):  # noqa: N818 - it is told to people as a result
    """A step did not fit into the memory there was."""


# What a worker is asked, and what it answers.


@dataclass(frozen=True)
class Probe:
    """One step to be measured, as it travels to the worker. `net` is what `build` takes, or a Keras model as JSON."""

    net: Architecture | Rows | str
    network: str
    batch_size: int
    training: bool
    dtype_policy: str
    optimizer: str
    execution: str
    accumulation_steps: int = 1
    steps: int = STEPS
    limit_bytes: int | None = None
    seconds: float = TIMEOUT_SECONDS
    compiling: bool = False

    @property
    def work(self) -> str:
        """The function that does it."""
        return "toolkit.probes:compile_step" if self.compiling else "toolkit.probes:measure"

    @property
    def step(self) -> str:
        """The step in words."""
        return (
            f"{'a training step' if self.training else 'inference'} of {self.network} with batches of {self.batch_size}"
        )

    def ended(self, ending: Ending) -> Failed:
        """The last event of a worker that ended without one."""
        if ending.stopped or ending.killed:
            return Failed("the measurement was stopped before it was done")
        return _death(self, ending)


@dataclass(frozen=True)
class Progress:
    """How far a measurement is: "imported", "built", "step 1" …, and the process's resident bytes then, at the peak."""

    stage: str
    resident_bytes: int


@dataclass(frozen=True)
class Measurement:
    """What one step really took. `peak_bytes` is the highest resident size less `framework_bytes`, the process with its
    framework before the network was built; `process_bytes` is the whole. `step_peaks` are the peaks after each step.

    On a graphics processor the peak is that of the device's allocator, and there is no framework in it. `exact` says
    whether the kernel kept the peak; elsewhere it was sampled. `seconds` is the time of building and stepping.
    `limited_by` says what held the process within a limit, "" where there was none: "RLIMIT_DATA" (the kernel refused
    more data, and the resident peak was watched), or "resident size" (it was only watched, after each step).
    """

    network: str
    batch_size: int
    training: bool
    dtype_policy: str
    optimizer: str
    execution: str
    peak_bytes: int
    framework_bytes: int
    process_bytes: int
    step_peaks: tuple[int, ...]
    seconds: float
    accumulation_steps: int = 1
    exact: bool = True
    limited_by: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {**self.__dict__, "step_peaks": list(self.step_peaks)}


@dataclass(frozen=True)
class Compiled:
    """What a compiler says that its program needs: bytes by kind, and the process before the network was built."""

    parts: Mapping[str, int]
    framework_bytes: int


@dataclass(frozen=True)
class Failed:
    """There is no measurement, for the reason in `message`; `detail`, if any, is the text of the error."""

    message: str
    out_of_memory: bool = False
    detail: str = ""


MemoryEvent = Progress | Measurement | Compiled | MemoryEstimate | Failed


def _death(probe: Probe, ending: Ending) -> Failed:
    """A sentence for a worker that went without a word."""
    code = ending.exit_code
    if code is None:
        return Failed("the measuring process could not be started, or was lost; try again")
    if code in (TIMED_OUT, -getattr(signal, "SIGALRM", 14)):
        return Failed(f"{probe.step} was not done after {probe.seconds:.0f} s; {LESS}, or allow more time")
    refused = code < 0 and probe.limit_bytes is not None  # C++ ends a process that is refused memory by a signal
    if refused or code == -getattr(signal, "SIGKILL", 9) or tells_of_memory(ending.log):
        return does_not_fit(probe, ending.log)
    name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return Failed(f"the measuring process crashed ({name})", detail=ending.log)


def does_not_fit(probe: Probe, detail: str = "") -> Failed:
    """The answer for a step without enough memory."""
    limit = "the memory that is free" if probe.limit_bytes is None else f"{probe.limit_bytes / 1e9:.2f} GB"
    return Failed(f"{probe.step} does not fit into {limit}; {LESS}", out_of_memory=True, detail=detail)


def tells_of_memory(text: str) -> bool:
    """Whether an error's text is that of an allocator.

    >>> tells_of_memory("terminate called after throwing an instance of 'std::bad_alloc'")
    True
    """
    words = r"bad_alloc|MemoryError|RESOURCE_?EXHAUSTED|OOM when allocating|out of memory|cannot allocate memory"
    return re.search(words, text, re.IGNORECASE) is not None


# Measuring.


def measure_memory(
    net: Measurable,
    batch_size: int = 1,
    *,
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
    steps: int = STEPS,
    limit_bytes: int | None = None,
    timeout: float = TIMEOUT_SECONDS,
    progress: Callable[[Progress], object] | None = None,
) -> Measurement:
    """Build a network in a fresh process, take `steps` steps on random images, and return the peak of its memory.

    A step is Keras's own `train_on_batch` or `predict_on_batch`. With `accumulation_steps` above 1 the weights change
    every second step, which takes the same memory, and twice as many steps are taken. `execution` is one of
    `EXECUTIONS`, by default what `model.fit` would use here. A Keras model is built again from its configuration.

    `limit_bytes` is for the whole process: the kernel refuses it more data (`RLIMIT_DATA` on Linux, set when the
    framework is imported), and a resident peak above it counts as not fitting. After `timeout` seconds the process is
    ended, and so it is by Ctrl-C. `progress` hears how far it is.

    Raises OutOfMemory where a step does not fit, InputError for what cannot be measured.
    """
    probe = make_probe(
        net,
        batch_size,
        training=training,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        accumulation_steps=accumulation_steps,
        steps=steps,
        limit_bytes=limit_bytes,
        seconds=timeout,
    )
    answer: Measurement = _answer(probe, progress)
    return answer


def start_measuring(
    net: Measurable,
    batch_size: int = 1,
    *,
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
    limit_bytes: int | None = None,
    timeout: float = 120.0,
    folder: str | Path | None = None,
) -> Worker:
    """`measure_memory` without waiting, for a page: the worker's events are `Progress`, and last of all a `Measurement`
    or a `Failed`.

    It ends itself after `timeout` seconds, and takes no more memory than is free now, or than `limit_bytes`, if that is
    less. `folder` is for its log, by default one that goes when this Python ends. Raises InputError for what cannot be
    measured.
    """
    probe = make_probe(
        net,
        batch_size,
        training=training,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        accumulation_steps=accumulation_steps,
        limit_bytes=_free(limit_bytes),
        seconds=timeout,
    )
    return _start(probe, Path(folder) if folder else own_folder())


def _free(limit_bytes: int | None) -> int:
    """What is free now, or the limit, if that is less."""
    free = available_memory()
    return free if limit_bytes is None else min(limit_bytes, free)


def start_estimating(
    net: Measurable,
    batch_size: int = 1,
    *,
    method: str,
    limit_bytes: int | None = None,
    timeout: float = 120.0,
    folder: str | Path | None = None,
    **conditions: Any,
) -> Estimating:
    """`estimate_memory` by "compiling" or "probing" without waiting: its last event is a `MemoryEstimate` or `Failed`.

    `conditions` are those of `start_measuring`, and so are the limits. Raises InputError as `estimate_memory` does.
    """
    require_choice("method", method, METHODS[1:])
    probe = make_probe(net, batch_size, limit_bytes=_free(limit_bytes), seconds=timeout, **conditions)
    where = Path(folder) if folder else own_folder()
    probes = (_compiling(probe),) if method == "compiling" else _probes(probe)
    return Estimating(probes, probe, lambda each: _start(each, where / str(each.batch_size)))


class Asked(Protocol):
    """A question under way, as a page follows it."""

    @property
    def alive(self) -> bool:
        """Whether more events may come."""

    def poll(self) -> Iterable[MemoryEvent]:
        """What arrived since the last call; never blocks."""

    def kill(self) -> None:
        """End it now."""


class Estimating:
    """An estimate by processes that run one after the other, each for one of `probes`. What `Asked` says.

    `poll` passes on what they say; after the last one it says the `MemoryEstimate` for `asked`.
    """

    def __init__(self, probes: Sequence[Probe], asked: Probe, start: Callable[[Probe], Asked]) -> None:
        self._left, self._asked, self._start = list(probes), asked, start
        self._answers: list[Measurement | Compiled] = []
        self._worker: Asked | None = None
        self._ended = False
        self._next()

    @property
    def alive(self) -> bool:
        """Whether more events may come."""
        return not self._ended

    def poll(self) -> list[MemoryEvent]:
        """What arrived since the last call; never blocks."""
        if self._worker is None or self._ended:
            return []
        alive = self._worker.alive  # asked before reading, so that the last words are read
        events = list(self._worker.poll())
        answers = [event for event in events if isinstance(event, Measurement | Compiled)]
        said: list[MemoryEvent] = [event for event in events if isinstance(event, Progress | Failed)]
        if answers:
            self._answers += answers
            if not self._next():
                self._ended = True
                said.append(_estimated(self._asked, self._answers))
        elif not alive or any(isinstance(event, Failed) for event in events):
            self._ended = True
        return said

    def _next(self) -> bool:
        """Start what comes next; False where nothing is left."""
        if not self._left:
            return False
        self._worker = self._start(self._left.pop(0))
        return True

    def kill(self) -> None:
        """End it now."""
        self._ended = True
        if self._worker is not None:
            self._worker.kill()


def make_probe(
    net: Measurable,
    batch_size: int = 1,
    *,
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
    steps: int = STEPS,
    limit_bytes: int | None = None,
    seconds: float = TIMEOUT_SECONDS,
) -> Probe:
    """The task for a worker, with everything in it looked at. Raises InputError."""
    for what, number in (("batch_size", batch_size), ("accumulation_steps", accumulation_steps), ("steps", steps)):
        require_whole(what, number)
    if limit_bytes is not None:
        require_whole("limit_bytes", limit_bytes)
    if not seconds > 0:
        raise InputError(f"the time allowed must be above 0 seconds; {seconds!r} came")
    require_choice("dtype_policy", dtype_policy, POLICIES)
    require_choice("optimizer", optimizer, OPTIMIZER_SLOTS)
    chosen = require_choice("execution", execution or default_execution(), EXECUTIONS)
    _require_backend(chosen)
    return Probe(
        _portable(net),
        getattr(net, "name", "model"),
        batch_size,
        training,
        dtype_policy,
        optimizer,
        chosen,
        accumulation_steps,
        steps,
        limit_bytes,
        seconds,
    )


def _require_backend(execution: str) -> None:
    """Raise InputError where the library that computes so is not installed."""
    name = ENVIRONMENTS[execution].get("KERAS_BACKEND") or backend()
    if importlib.util.find_spec(name) is None:
        raise InputError(f"execution {execution!r} needs {name}, which is not installed; install it, or choose another")


def is_keras_model(net: object) -> bool:
    """Whether this is a `keras.Model`, found without importing Keras."""
    return any(kind.__name__ == "Model" and kind.__module__.startswith("keras.") for kind in type(net).__mro__)


def _portable(net: Measurable) -> Architecture | Rows | str:
    """The network as it can travel: as it is, or a Keras model as JSON. Raises InputError."""
    if isinstance(net, Architecture):
        return net
    if not is_keras_model(net):
        return rows_of(net)
    model: Any = net
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if not shapes or any(None in shape[1:] for shape in shapes):
        came = f"its input is {shapes[0]}" if shapes else "it has no input yet"
        raise InputError(f"{model.name} must have a fixed input size; {came}; give it one: keras.Input((224, 224, 3))")
    try:
        return str(model.to_json())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(f"{model.name} cannot be built again from its configuration: {error}") from None


def _start(probe: Probe, folder: Path) -> Worker:
    return start_worker(probe, folder, threads=None, launch=spawn, environment=ENVIRONMENTS[probe.execution])


def _answer(probe: Probe, progress: Callable[[Progress], object] | None = None) -> Any:
    """What a worker has to say at last: a Measurement, or Compiled. Whatever leaves this early ends the worker."""
    with tempfile.TemporaryDirectory(prefix="cnn-toolkit-") as folder, _running(probe, Path(folder)) as worker:
        for event in worker.events():
            if isinstance(event, Progress) and progress is not None:
                progress(event)
            elif isinstance(event, Failed):
                raise (OutOfMemory if event.out_of_memory else InputError)(event.message)
            elif isinstance(event, Measurement | Compiled):
                return event
    raise InputError("the measuring process ended without an answer; try again")


@contextlib.contextmanager
def _running(probe: Probe, folder: Path) -> Iterator[Worker]:
    worker = _start(probe, folder)
    try:
        yield worker
    finally:
        worker.close(grace=0)
        worker.close()


# Estimating.


def estimate_memory(
    net: Measurable,
    batch_size: int = 1,
    *,
    method: str = "arithmetic",
    training: bool = True,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
    execution: str | None = None,
    accumulation_steps: int = 1,
    timeout: float = TIMEOUT_SECONDS,
) -> MemoryEstimate:
    """The peak memory of one step, before it is taken. The answer says how far off such an estimate was.

    method: "arithmetic" reads it off the rows, in milliseconds and without a framework (`predict_memory`).
        "compiling" lets XLA compile the step in a process of its own and asks what its program will need; no step is
        taken. It exists where XLA compiles ("xla" and "jax", and "gpu" with JAX), and takes seconds.
        "probing" takes steps with a quarter and with half of the batch in processes of their own, and draws a line
        through the two; batches up to 8 are measured as they are.
    execution: one of `EXECUTIONS`, by default what `model.fit` would use here.

    Raises InputError, and OutOfMemory where not even the steps of "probing" fit.

    >>> from toolkit.architectures import architecture
    >>> estimate_memory(architecture("lenet5"), 64).method
    'arithmetic'
    """
    require_choice("method", method, METHODS)
    require_whole("accumulation_steps", accumulation_steps)
    conditions: dict[str, Any] = {
        "training": training,
        "dtype_policy": dtype_policy,
        "optimizer": optimizer,
        "execution": execution or default_execution(),
        "accumulation_steps": accumulation_steps,
    }
    if method == "arithmetic":
        name = getattr(net, "name", "model")
        return predict_memory(_rows(net), batch_size, name=name, **conditions)
    probe = make_probe(net, batch_size, seconds=timeout, **conditions)
    probes = (_compiling(probe),) if method == "compiling" else _probes(probe)
    return _estimated(probe, [_answer(each) for each in probes])


def _rows(net: Measurable) -> Network:
    """What arithmetic reads; a Keras model has imported Keras already."""
    if not is_keras_model(net):
        return net if isinstance(net, Architecture) else rows_of(net)
    from toolkit.build import read_model

    return read_model(net)


def _estimate(
    probe: Probe, method: str, parts: Mapping[str, int], framework_bytes: int, accuracy: str
) -> MemoryEstimate:
    return MemoryEstimate(
        network=probe.network,
        batch_size=probe.batch_size,
        training=probe.training,
        dtype_policy=probe.dtype_policy,
        optimizer=probe.optimizer,
        execution=probe.execution,
        method=method,
        parts=parts,
        framework_bytes=framework_bytes,
        accuracy=accuracy,
    )


def _estimated(probe: Probe, answers: Sequence[Measurement | Compiled]) -> MemoryEstimate:
    """The estimate that the answers of processes make."""
    peaks = [answer for answer in answers if isinstance(answer, Measurement)]
    if peaks:
        return _drawn(probe, peaks)
    (found,) = (answer for answer in answers if isinstance(answer, Compiled))
    return _estimate(probe, "compiling", found.parts, found.framework_bytes, COMPILED)


def _probes(probe: Probe) -> tuple[Probe, ...]:
    """The smaller steps that tell of this one."""
    return tuple(replace(probe, batch_size=batch) for batch in probe_batches(probe.batch_size))


def _drawn(probe: Probe, peaks: Sequence[Measurement]) -> MemoryEstimate:
    """The line through the peaks of two smaller batches, at this one."""
    if len(peaks) == 1:
        return _estimate(probe, "probing", {"measured": peaks[0].peak_bytes}, peaks[0].framework_bytes, MEASURED)
    low, high = peaks
    image = max(high.peak_bytes - low.peak_bytes, 0) / (high.batch_size - low.batch_size)
    total = high.peak_bytes + round(image * (probe.batch_size - high.batch_size))
    batch = min(round(image * probe.batch_size), total)
    parts = {"whatever the batch": total - batch, "for the batch": batch}
    return _estimate(probe, "probing", parts, high.framework_bytes, PROBED)


def probe_batches(batch_size: int) -> tuple[int, ...]:
    """The batches whose peaks tell that of a larger one: a quarter and a half; a small one is measured itself.

    >>> probe_batches(64), probe_batches(9), probe_batches(8)
    ((16, 32), (3, 5), (8,))
    """
    return (-(-batch_size // 4), -(-batch_size // 2)) if batch_size > DIRECT_BATCH else (batch_size,)


def _compiling(probe: Probe) -> Probe:
    """The task for a worker that compiles the step; raises InputError where nothing is compiled."""
    if probe.execution not in ("xla", "jax", "gpu") or (probe.execution == "gpu" and backend() != "jax"):
        raise InputError(
            "by compiling there is an answer for programs of XLA only: the executions 'xla' and 'jax', and 'gpu' with "
            f'JAX; {probe.execution!r} came, whose graph nobody plans beforehand; take method="probing"'
        )
    return replace(probe, compiling=True)
