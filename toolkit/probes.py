"""A measurement of memory from the inside: what happens in the worker. It imports Keras, and only workers import it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from toolkit.build import build, one_or_all
from toolkit.errors import InputError
from toolkit.memory import (
    TIMED_OUT,
    Compiled,
    Failed,
    Measurement,
    MemoryEvent,
    Probe,
    Progress,
    does_not_fit,
    tells_of_memory,
)
from toolkit.processes import Context
from toolkit.system import PeakMemory, process_memory

Array = NDArray[Any]
# Keras's `jit_compile` for each execution; "auto" is what it chooses where nobody says anything.
JIT: dict[str, bool | str] = {"tensorflow": False, "onednn": False, "xla": True, "jax": True, "gpu": "auto"}
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda **options: keras.optimizers.SGD(momentum=0.9, **options),
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
}
# What XLA's kernels for processors take beside what the compiler planned, as a share of its temporaries. Measured on
# ResNet-18, ResNet-50 and VGG-11 at batches of 1 to 16: 0.04 to 0.15 (JAX 0.10.2, two processors).
WORKSPACE = 0.11


class TooMuch(Exception):  # noqa: N818 - it is told to people as a result
    """The resident peak went above the limit."""


def measure(probe: Probe, context: Context) -> MemoryEvent:
    """Step as `probe` says and return the last event; whatever goes wrong becomes a sentence."""
    return told(probe, context, _measure)


def told(probe: Probe, context: Context, work: Callable[[Probe, Context], MemoryEvent]) -> MemoryEvent:
    """What `work` answers within the time allowed, or the sentence for what went wrong."""
    end_after(probe.seconds)
    try:
        with context.stop.interrupting():
            return work(probe, context)
    except KeyboardInterrupt:
        return Failed("the measurement was stopped before it was done")
    except InputError as error:
        return Failed(str(error))
    except Exception as error:
        name, text = type(error).__name__, str(error)
        if isinstance(error, TooMuch) or tells_of_memory(f"{name}: {text}"):
            return does_not_fit(probe, text)
        first_line = next(iter(text.splitlines()), "")
        return Failed(f"{probe.step} failed: {name}: {first_line}", detail=traceback.format_exc())


def end_after(seconds: float) -> None:
    """End this process after so many seconds, whatever it is doing then."""
    if sys.platform == "win32":
        clock = threading.Timer(seconds, os._exit, [TIMED_OUT])
        clock.daemon = True
        clock.start()
    else:  # the kernel's own clock needs no thread that gets its turn
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _measure(probe: Probe, context: Context) -> Measurement:
    framework = framework_memory(context)
    on_gpu = probe.execution == "gpu"
    begun = time.monotonic()
    with limited(probe.limit_bytes) as limited_by:
        reader = device_peak() if on_gpu else framework
        step = prepared(probe)
        context.send(Progress("built", reader.read()))
        peaks = list(_stepped(probe, context, step, reader))
    before = 0 if on_gpu else framework.before
    return Measurement(
        network=probe.network,
        batch_size=probe.batch_size,
        training=probe.training,
        dtype_policy=probe.dtype_policy,
        optimizer=probe.optimizer,
        execution=probe.execution,
        peak_bytes=peaks[-1] - before,
        framework_bytes=before,
        process_bytes=peaks[-1],
        step_peaks=tuple(peak - before for peak in peaks),
        seconds=round(time.monotonic() - begun, 3),
        accumulation_steps=probe.accumulation_steps,
        exact=on_gpu or framework.exact,
        limited_by=limited_by,
    )


def framework_memory(context: Context) -> PeakMemory:
    """The state that everything is measured from: the framework is imported and nothing is built."""
    gc.collect()
    peak = PeakMemory()
    context.send(Progress("imported", peak.before))
    return peak


class Reader(Protocol):
    """Knows the highest use of memory so far."""

    def read(self) -> int:
        """Bytes."""


def _stepped(probe: Probe, context: Context, step: Callable[[], object], reader: Reader) -> Iterator[int]:
    """The peak after each step."""
    steps = probe.steps if probe.accumulation_steps == 1 else 2 * probe.steps
    for number in range(1, steps + 1):
        step()
        peak = reader.read()
        if probe.limit_bytes is not None and peak > probe.limit_bytes:
            raise TooMuch(f"{peak} bytes were resident")
        context.send(Progress(f"step {number}", peak))
        yield peak


# Graphics processors.


class _TensorFlowGpu:
    """What TensorFlow's allocator on the first graphics processor has handed out at most."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._experimental = tf.config.experimental
        self._experimental.reset_memory_stats("GPU:0")

    def read(self) -> int:
        return int(self._experimental.get_memory_info("GPU:0")["peak"])


class _JaxGpu:
    """The same of JAX's allocator."""

    def __init__(self) -> None:
        jax = importlib.import_module("jax")
        self._device = jax.local_devices()[0]

    def read(self) -> int:
        return int((self._device.memory_stats() or {}).get("peak_bytes_in_use", 0))


def device_peak() -> Reader:
    """The reader for this backend's graphics processor; raises InputError where it sees none."""
    name = keras.backend.backend()
    readers: dict[str, Callable[[], Reader]] = {"tensorflow": _TensorFlowGpu, "jax": _JaxGpu}
    if name not in readers or not keras.distribution.list_devices("gpu"):
        raise InputError(f"{name} sees no graphics processor here; measure with another execution")
    return readers[name]()


# Limits.


@contextlib.contextmanager
def limited(limit: int | None) -> Iterator[str]:
    """In this block the kernel refuses this process more than `limit` bytes of data: heap, private writable mappings
    and stacks, touched or not (setrlimit(2), RLIMIT_DATA). Where the system has no such limit nothing is refused.

    Gives what holds the limit (`Measurement.limited_by`). A control group would count the pages that are touched, but
    only who owns the group above it may make one, which in a container or an ordinary account nobody does; the limit of
    the group that this process is in already holds anyway (`system.available_memory`).
    """
    if limit is None or sys.platform != "linux":
        yield "" if limit is None else "resident size"
        return
    import resource  # exists on POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield "RLIMIT_DATA"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


# The step.


def prepared(probe: Probe) -> Callable[[], object]:
    """Build and compile the model; the answer takes one step with it, always on the same random images."""
    model = made(probe)
    x = one_or_all([images(tensor, probe.batch_size) for tensor in model.inputs])
    if not probe.training:
        model.compile(jit_compile=JIT[probe.execution])
        return lambda: model.predict_on_batch(x)
    y = one_or_all([target(tensor, probe.batch_size) for tensor in model.outputs])
    return lambda: model.train_on_batch(x, y)


def made(probe: Probe) -> keras.Model:
    """The model, compiled for training where it is to train."""
    keras.config.set_dtype_policy(probe.dtype_policy)
    model = _model(probe)
    if probe.training:
        loss = one_or_all([loss_of(tensor) for tensor in model.outputs])
        model.compile(optimizer_of(probe), loss=loss, jit_compile=JIT[probe.execution])
    return model


def _model(probe: Probe) -> keras.Model:
    if not isinstance(probe.net, str):
        return build(probe.net)
    import toolkit.keras_layers  # noqa: F401 - a configuration may name our own layers

    config = with_policy(json.loads(probe.net), probe.dtype_policy)
    try:
        return keras.models.model_from_json(json.dumps(config))
    except (TypeError, ValueError) as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise InputError(f"{probe.network} cannot be built again from its configuration: {first_line}") from None


def with_policy(config: Any, policy: str) -> Any:
    """A model's configuration with this dtype policy in every layer.

    >>> with_policy({"dtype": {"class_name": "DTypePolicy", "config": {"name": "float32"}}}, "mixed_bfloat16")
    {'dtype': {'class_name': 'DTypePolicy', 'config': {'name': 'mixed_bfloat16'}}}
    """
    if isinstance(config, list):
        return [with_policy(each, policy) for each in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return config | {"config": {"name": policy}}
    return {key: with_policy(value, policy) for key, value in config.items()}


def optimizer_of(probe: Probe) -> keras.optimizers.Optimizer:
    """The optimizer; where gradients are added up, the weights change every second step."""
    options = {} if probe.accumulation_steps == 1 else {"gradient_accumulation_steps": 2}
    return OPTIMIZERS[probe.optimizer](**options)


def images(tensor: Any, batch_size: int) -> Array:
    """A random batch for one input of a model."""
    shape = (batch_size, *tensor.shape[1:])
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return np.zeros(shape, "int32")
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def tells_classes(tensor: Any) -> bool:
    """Whether an output is one row of numbers for each image."""
    return len(tensor.shape) == 2


def target(tensor: Any, batch_size: int) -> Array:
    """What one output of a model is compared with."""
    if tells_classes(tensor):
        return np.random.default_rng(1).integers(0, tensor.shape[-1], batch_size)
    return np.zeros((batch_size, *tensor.shape[1:]), np.float32)


def loss_of(tensor: Any) -> str:
    """The loss for one output of a model."""
    return "sparse_categorical_crossentropy" if tells_classes(tensor) else "mse"


# Compiling.


@dataclass(frozen=True)
class Program:
    """What XLA planned for one step, in bytes: temporaries, and results that lie beside what was given.

    held: the state that it was given. fed: the batch. patches: see `grouped_patches`.
    """

    temporaries: int
    results: int
    held: int
    fed: int
    patches: int


def compile_step(probe: Probe, context: Context) -> MemoryEvent:
    """Compile the step with XLA, run nothing, and return what its program will need."""
    return told(probe, context, _compile)


def _compile(probe: Probe, context: Context) -> Compiled:
    framework = framework_memory(context)
    model = made(probe)
    if probe.training:
        made_ready(model)
    context.send(Progress("built", framework.read()))
    program = (_jax_program if keras.backend.backend() == "jax" else _tensorflow_program)(model, probe)
    context.send(Progress("compiled", highest := framework.read()))
    now, reached = process_memory() - framework.before, highest - framework.before
    weights = sum(map(variable_bytes, model.weights))
    parts = {
        "weights": weights,
        "optimizer": program.held - weights,
        "input": program.fed,
        "activations and temporaries": program.temporaries,
        "results": program.results,
    }
    if probe.execution == "gpu":
        return Compiled(parts, 0)
    parts["compiler and runtime"] = max(now - program.held, 0)
    parts["workspace"] = round(WORKSPACE * program.temporaries) + program.patches
    # Building and compiling was done here for real: where that took more, the step does not come into it.
    parts["building and compiling"] = max(reached - sum(parts.values()), 0)
    return Compiled(parts, framework.before)


def made_ready(model: keras.Model) -> None:
    """Make the metrics and the optimizer's variables, as the first `train_on_batch` does."""
    model._symbolic_build(data_batch=tuple(_batch(model, 1)))
    model.optimizer.build(model.trainable_variables)


def _batch(model: keras.Model, batch_size: int) -> Iterator[Any]:
    """Images, and what the outputs are compared with."""
    yield one_or_all([images(tensor, batch_size) for tensor in model.inputs])
    yield one_or_all([target(tensor, batch_size) for tensor in model.outputs])


def _fed(model: keras.Model, probe: Probe) -> tuple[Any, ...]:
    """What a step is given."""
    batch = tuple(_batch(model, probe.batch_size))
    return batch if probe.training else batch[:1]


def variable_bytes(variable: Any) -> int:
    """Bytes of one variable, whatever the backend.

    >>> variable_bytes(keras.Variable(np.zeros((3, 4)), dtype="float16"))
    24
    """
    digits = re.search(r"\d+", variable.dtype)
    return int(math.prod(variable.shape)) * (int(digits[0]) // 8 if digits else 1)


def _nbytes(tree: Any) -> int:
    return sum(int(leaf.nbytes) for leaf in keras.tree.flatten(tree) if leaf is not None)


def _jax_program(model: keras.Model, probe: Probe) -> Program:
    """What JAX's own analysis says (`jax.stages.Compiled.memory_analysis`)."""
    jax = importlib.import_module("jax")
    step, state, data = (_training_step if probe.training else _inference_step)(model, _fed(model, probe))
    absent = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), data)
    program = jax.jit(step, donate_argnums=0).lower(state, absent).compile()
    analysis = program.memory_analysis()
    return Program(
        temporaries=int(analysis.temp_size_in_bytes),
        results=max(int(analysis.output_size_in_bytes - analysis.alias_size_in_bytes), 0),
        held=_nbytes(state),
        fed=_nbytes(data),
        patches=grouped_patches(program.as_text()),
    )


def _tensorflow_program(model: keras.Model, probe: Probe) -> Program:
    """What XLA planned for a `tf.function(jit_compile=True)`: the buffers that its compiled program carries.

    `experimental_get_compiler_ir` gives the program with its buffer assignment (xla/service/hlo.proto); what is neither
    a parameter, nor a constant, nor a result is temporary.
    """
    tf = importlib.import_module("tensorflow")
    messages = importlib.import_module("tensorflow.compiler.xla.service.hlo_pb2")
    data = _fed(model, probe)
    method = model.train_step if probe.training else model.predict_step
    step = tf.function(lambda *given: method(given), jit_compile=True)
    specs = keras.tree.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), data)
    serialized = step.experimental_get_compiler_ir(*specs)(stage="optimized_hlo_proto_serialized")
    program = messages.HloProto.FromString(serialized)
    inner = [
        each
        for each in program.buffer_assignment.buffer_allocations
        if not (each.is_entry_computation_parameter or each.is_constant)
    ]
    variables = (*model.variables, *(model.optimizer.variables if probe.training else ()))  # some of them are in both
    return Program(
        temporaries=sum(each.size for each in inner if not each.maybe_live_out),
        results=sum(each.size for each in inner if each.maybe_live_out),
        held=sum(map(variable_bytes, {id(each): each for each in variables}.values())),
        fed=_nbytes(data),
        patches=_tensorflow_patches(program.hlo_module),
    )


# `PrimitiveType` of xla_data.proto: the 16-bit ones; the others count as four bytes.
HALF_TYPES = (10, 16)


def _tensorflow_patches(module: Any) -> int:
    """`grouped_patches` of a program in XLA's own form."""
    found = (
        (each.shape.dimensions, [size.size for size in each.window.dimensions], each.shape.element_type in HALF_TYPES)
        for computation in module.computations
        for each in computation.instructions
        if each.opcode == "convolution" and each.feature_group_count > 1
    )
    return max((_patch(shape, window, half) for shape, window, half in found), default=0)


def _patch(shape: Iterable[int], window: Iterable[int], half: bool) -> int:
    """Bytes of the windows of a convolution laid out side by side."""
    return math.prod(shape) * math.prod(window) * (2 if half else 4)


def grouped_patches(program: str) -> int:
    """Bytes of the largest im2col matrix of a convolution in groups in XLA's text of a program for a processor.

    XLA's convolutions write it into memory that its analysis does not know.

    >>> grouped_patches("f32[1,4,4,8]{3,2,1,0} convolution(%a, %b), window={size=3x3}, feature_group_count=8")
    4608
    """
    found = re.findall(r"(f32|f16|bf16)\[([\d,]+)\]\S* convolution\(.*size=(\d+)x(\d+).*feature_group_count=", program)
    sizes = (
        _patch(map(int, shape.split(",")), (int(height), int(width)), kind != "f32")
        for kind, shape, height, width in found
    )
    return max(sizes, default=0)


Step = tuple[Callable[..., object], tuple[list[Any], ...], tuple[Any, ...]]


def _training_step(model: keras.Model, data: tuple[Any, ...]) -> Step:
    """The function that `train_on_batch` compiles, the state that it is given, and the batch."""
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return model.train_step, _values(groups), (*data, None)


def _inference_step(model: keras.Model, data: tuple[Any, ...]) -> Step:
    """The same of `predict_on_batch`."""

    def step(state: tuple[list[Any], ...], data: tuple[Any, ...]) -> tuple[object, tuple[object, ...]]:
        outputs, non_trainable = model.predict_step(state, data)
        return outputs, (state[0], non_trainable)

    return step, _values((model.trainable_variables, model.non_trainable_variables)), data


def _values(groups: tuple[list[Any], ...]) -> tuple[list[Any], ...]:
    return tuple([variable.value for variable in group] for group in groups)
