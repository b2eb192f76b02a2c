"""The terminal's side of memory: `python -m toolkit plan` and `python -m toolkit measure`."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from toolkit import show
from toolkit.architectures import ARCHITECTURES
from toolkit.costs import Network, Rows, rows_of
from toolkit.errors import InputError
from toolkit.layers import Shape
from toolkit.memory import Measurement, Progress, measure_memory
from toolkit.memory_reports import Advice, advise
from toolkit.processes import INTERRUPTED
from toolkit.runtimes import MemoryEstimate, predict_memory
from toolkit.system import default_execution
from toolkit.terminal import silence

if TYPE_CHECKING:
    import keras


# Networks that Keras brings.


def is_application(name: str) -> bool:
    """Whether this may be a model of `keras.applications`: those are CamelCase, ours are not; Keras is not asked.

    >>> is_application("DenseNet121"), is_application("resnet50"), is_application("Mine.keras")
    (True, False, False)
    """
    return name.isidentifier() and name[0].isupper() and name not in ARCHITECTURES


def application(name: str, input_shape: Shape | None = None) -> keras.Model:
    """A model of `keras.applications` without memory for its weights; raises InputError where there is none."""
    with silence():
        import keras

        from toolkit.build import without_weights

        make = getattr(keras.applications, name, None)
        if not callable(make):
            names = [each for each in dir(keras.applications) if is_application(each)]
            near = difflib.get_close_matches(name, names, 1, 0)[0]
            raise InputError(f"keras.applications has no model {name!r}; the nearest is {near!r}")
        try:
            return without_weights(lambda: make(weights=None, input_shape=input_shape))
        except ValueError as error:
            raise InputError(f"{name} cannot be built for this input size: {str(error).splitlines()[0]}") from None


def application_and_rows(name: str, input_shape: Shape | None = None) -> tuple[keras.Model, Rows]:
    """A model of `keras.applications`, to be measured, and its rows, to be priced."""
    model = application(name, input_shape)
    from toolkit.build import read_model

    return model, read_model(model)


def application_rows(name: str, input_shape: Shape | None = None) -> Rows:
    """The rows of a model of `keras.applications`; raises InputError where there is none."""
    return application_and_rows(name, input_shape)[1]


# Planning.


def plan_text(advice: Advice, input_shape: Shape) -> str:
    """A plan for people: what to do and why, where the bytes go, the naive answer, and what the machine has."""
    plan = advice.plan
    steps = f" × {plan.accumulation_steps} accumulation steps = {plan.effective_batch:,}"
    heading = f"{plan.network}, input {show.readable_shape(input_shape)}: batch {plan.batch_size:,}"
    times = advice.naive_bytes / plan.limit_bytes
    facts = [
        ["the real answer", f"{plan.batch_size:,} images", _share(plan.predicted_bytes, plan.limit_bytes)],
        ["the naive answer", f"{advice.naive_batch:,} images", _share(advice.naive_bytes, plan.limit_bytes)],
    ]
    naive = "naive: 70 % of the limit over the bytes of one image; it forgets weights, activations and the framework"
    lines = [
        heading + (steps if plan.accumulation_steps > 1 else "") + f", for a wish of {plan.wanted:,}",
        "",
        plan.why,
        "",
        f"where the bytes go at the peak ({show.conditions(advice.estimate)})",
        show.columns(show.memory_cells(advice.estimate)),
        f"by arithmetic, {advice.estimate.accuracy}",
        "",
        show.columns(facts, left=1),
        naive if times > 1 else f"{naive}; here it fits all the same",
        "",
        f"limit {show.readable_bytes(plan.limit_bytes)}; this machine has "
        f"{show.readable_bytes(advice.available_bytes)} free of {show.readable_bytes(advice.total_bytes)}",
    ]
    return "\n".join(lines)


def _share(size: int, limit: int) -> str:
    of = f"{size / limit:.0%} of the limit" if size <= limit else f"{size / limit:,.1f} times the limit"
    return f"a peak of {show.readable_bytes(size)}, {of}"


def plan_command(
    net: Network,
    wanted: int,
    limit: int | None,
    *,
    share: float,
    any_integer: bool,
    optimizer: str,
    dtype_policy: str,
    execution: str | None,
    train_size: int | None,
    test_size: int | None,
    name: str,
    as_json: bool,
) -> None:
    """Print the plan. Raises InputError where there is none."""
    advice = advise(
        net,
        wanted,
        limit,
        share=share,
        power_of_two=not any_integer,
        train_size=train_size,
        test_size=test_size,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        name=name,
    )
    text = json.dumps(advice.to_dict(), indent=2) if as_json else plan_text(advice, rows_of(net)[0].output_shape)
    sys.stdout.write(text + "\n")


# Measuring.


def measure_command(
    net: Network | keras.Model,
    rows: Network,
    batch_size: int,
    *,
    training: bool,
    optimizer: str,
    dtype_policy: str,
    execution: str | None,
    accumulation_steps: int,
    limit: int | None,
    name: str,
    as_json: bool,
) -> int:
    """Measure in a fresh process, print the measurement beside its estimate, and return the exit status.

    `rows` are what the estimate reads, `net` what is built. Raises InputError where nothing can be measured.
    """
    execution = execution or default_execution()
    estimate = predict_memory(
        rows,
        batch_size,
        training=training,
        dtype_policy=dtype_policy,
        optimizer=optimizer,
        execution=execution,
        accumulation_steps=accumulation_steps,
        name=name,
    )
    console = Console(stderr=True)
    try:
        with console.status("a fresh process imports Keras") as status:

            def told(progress: Progress) -> None:
                status.update(f"{progress.stage}: {show.readable_bytes(progress.resident_bytes)} resident at the peak")
                if not console.is_terminal:
                    console.print(f"{progress.stage}: {show.readable_bytes(progress.resident_bytes)}", highlight=False)

            found = measure_memory(
                net,
                batch_size,
                training=training,
                dtype_policy=dtype_policy,
                optimizer=optimizer,
                execution=execution,
                accumulation_steps=accumulation_steps,
                limit_bytes=limit,
                progress=told,
            )
    except KeyboardInterrupt:
        console.print("stopped; the measuring process has ended")
        return INTERRUPTED
    sys.stdout.write((measurement_json if as_json else measurement_text)(found, estimate) + "\n")
    return 0


# What held the limit that was given, as `Measurement.limited_by` has it.
HELD = {
    "RLIMIT_DATA": "held within the limit by the kernel, which refuses more data (RLIMIT_DATA), touched or not",
    "resident size": "this system has no limit for a process: the resident size was compared with it after each step",
}


def measurement_json(found: Measurement, estimate: MemoryEstimate) -> str:
    """The measurement as one JSON object, with its estimate and their ratio; bytes are integers."""
    told = {"estimate": estimate.to_dict(), "ratio": round(estimate.peak_bytes / max(found.peak_bytes, 1), 4)}
    return json.dumps(found.to_dict() | told, indent=2)


def measurement_text(found: Measurement, estimate: MemoryEstimate) -> str:
    """The measurement for people: measured, predicted and their ratio, line by line."""
    lines = [
        ["", "measured", "predicted", "predicted / measured"],
        _compared("peak over the start", found.peak_bytes, estimate.peak_bytes),
        _compared("the process at its start", found.framework_bytes, estimate.framework_bytes),
        _compared("peak of the process", found.process_bytes, estimate.process_bytes),
    ]
    steps = ", ".join(show.readable_bytes(peak) for peak in found.step_peaks)
    what = "one training step" if found.training else "one prediction"
    return "\n".join(
        [
            f"{what} of {found.network}, {show.conditions(estimate)}, in a process of its own ({found.seconds:.1f} s)",
            "",
            show.columns(lines),
            "",
            f"after each step: {steps}",
            *([HELD[found.limited_by]] if found.limited_by else []),
            f"predicted by arithmetic, {estimate.accuracy}",
        ]
    )


def _compared(what: str, measured: int, predicted: int) -> list[str]:
    ratio = f"{predicted / measured:.2f}" if measured > 0 else ""
    return [what, show.readable_bytes(measured), show.readable_bytes(predicted), ratio]


def name_of(net: str) -> str:
    """What a network from the command line is called where it has no name of its own.

    >>> name_of("models/mine.keras"), name_of("DenseNet121")
    ('mine', 'DenseNet121')
    """
    return Path(net).stem
