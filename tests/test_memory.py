"""Memory, measured and estimated: the processes are real, the networks small; Keras's own step is the oracle."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from toolkit import memory, system
from toolkit.architectures import architecture
from toolkit.arithmetic import InputError
from toolkit.costs import trace
from toolkit.layers import Architecture, Conv2D, Dense, Flatten, MaxPooling2D
from toolkit.memory import Failed, Measurement, OutOfMemory, Probe, Progress, estimate_memory, measure_memory
from toolkit.processes import Ending
from toolkit.runtimes import MemoryEstimate
from toolkit.system import default_execution

ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the peak, and holds limits, on Linux")
on_jax = pytest.mark.skipif(system.backend() != "jax", reason="XLA's analysis is asked through JAX")
TINY = Architecture("tiny", (28, 28, 1), (Conv2D(8, 3), MaxPooling2D(2), Flatten(), Dense(10, activation="softmax")))
WIDE = Architecture("wide", (96, 96, 3), (Conv2D(32, 3, activation="relu"), Flatten(), Dense(2)))
MB = 10**6

# What anybody would write to measure the same: nothing of the toolkit but the network's builder.
PLAIN = """
import gc, json, re
import keras, numpy as np
from toolkit.build import build
from toolkit.layers import Architecture, Conv2D, Dense, Flatten

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

gc.collect()
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
wide = (Conv2D(32, 3, activation="relu"), Flatten(), Dense(2))
model = build(Architecture("wide", (96, 96, 3), wide))
model.compile("adam", loss="sparse_categorical_crossentropy", jit_compile=JIT)
rng = np.random.default_rng(0)
images, labels = rng.random((96, 96, 96, 3), dtype=np.float32), rng.integers(0, 2, 96)
for step in range(3):
    model.train_on_batch(images, labels)
print(status("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def measured() -> tuple[Measurement, list[Progress]]:
    """One training step of a small network, and what was told meanwhile."""
    told: list[Progress] = []
    return measure_memory(TINY, 32, progress=told.append), told


@pytest.fixture(scope="module")
def wide() -> Measurement:
    """One training step of a network whose batch is nearly all that it needs."""
    return measure_memory(WIDE, 96)


class TestMeasuring:
    def test_what_it_says_of_itself(self, measured: tuple[Measurement, list[Progress]]) -> None:
        found, _ = measured
        assert (found.network, found.batch_size, found.training, found.optimizer) == ("tiny", 32, True, "adam")
        assert (found.dtype_policy, found.execution) == ("float32", default_execution())
        assert found.process_bytes == found.framework_bytes + found.peak_bytes
        assert 100 * MB < found.framework_bytes < 2000 * MB
        assert 0 < found.seconds < 300
        assert json.loads(json.dumps(found.to_dict()))["step_peaks"] == list(found.step_peaks)

    def test_the_peak_never_falls(self, measured: tuple[Measurement, list[Progress]]) -> None:
        found, _ = measured
        assert len(found.step_peaks) == 3
        assert sorted(found.step_peaks) == list(found.step_peaks)
        assert found.step_peaks[-1] == found.peak_bytes

    def test_progress_is_told(self, measured: tuple[Measurement, list[Progress]]) -> None:
        found, told = measured
        assert [event.stage for event in told] == ["imported", "built", "step 1", "step 2", "step 3"]
        assert told[0].resident_bytes == found.framework_bytes
        assert told[-1].resident_bytes == found.process_bytes

    @linux
    def test_it_agrees_with_a_plain_script(self, wide: Measurement) -> None:
        code = PLAIN.replace("JIT", str(system.backend() == "jax"))
        command = [sys.executable, "-c", code]
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=250).stdout
        assert wide.exact
        assert wide.peak_bytes == pytest.approx(int(out), rel=0.25)  # on a busy machine two runs differ by up to 20 %

    @pytest.mark.once
    def test_a_large_batch_is_seen(self) -> None:
        """The batch alone is known to the byte: at least what 400 MB more of images take, twice where it is copied."""
        one, many = (measure_memory(TINY, batch, training=False) for batch in (1, 20_000))
        images = 20_000 * 28 * 28 * 4
        assert images < many.peak_bytes - one.peak_bytes < 40 * images

    @pytest.mark.once
    def test_rows_and_accumulation(self) -> None:
        found = measure_memory(trace(TINY), 4, accumulation_steps=16, optimizer="sgd")
        assert (found.network, found.accumulation_steps) == ("model", 16)
        assert len(found.step_peaks) == 6  # gradients are added up and used in turn


class TestKerasModels:
    """They travel as their configuration."""

    def test_a_model_is_built_again(self) -> None:
        from toolkit.build import build

        model = build(TINY, name="mine")
        found = measure_memory(model, 4, training=False)
        assert (found.network, found.batch_size) == ("mine", 4)
        assert estimate_memory(model, 4).parts == estimate_memory(TINY, 4).parts

    def test_an_open_input_is_a_sentence(self) -> None:
        import keras

        model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)], name="open")
        with pytest.raises(InputError, match=r"open must have a fixed input size; its input is .None, None, None, 3"):
            measure_memory(model)
        with pytest.raises(InputError):
            estimate_memory(model)

    def test_a_model_without_input_is_a_sentence(self) -> None:
        import keras

        with pytest.raises(InputError, match="it has no input yet"):
            measure_memory(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.tensorflow  # the mechanism is the same for every framework, and XLA takes its time
@linux
class TestLimits:
    def test_what_does_not_fit_is_told(self) -> None:
        with pytest.raises(
            OutOfMemory, match=r"a training step of tiny with batches of 30000 does not fit into 1.00 GB"
        ):
            measure_memory(TINY, 30_000, limit_bytes=10**9)

    def test_what_fits_is_measured(self, measured: tuple[Measurement, list[Progress]]) -> None:
        found, _ = measured
        # RLIMIT_DATA counts what is reserved and never used, too; XLA's compiler reserves much.
        limit = found.process_bytes + (1_500 if system.backend() == "jax" else 300) * MB
        held = measure_memory(TINY, 32, limit_bytes=limit)
        assert held.process_bytes <= limit
        assert (held.limited_by, found.limited_by) == ("RLIMIT_DATA", "")

    def test_a_limit_below_the_framework_is_told(self) -> None:
        with pytest.raises(OutOfMemory, match=r"0.05 GB"):
            measure_memory(TINY, limit_bytes=50 * MB)


@pytest.mark.tensorflow
class TestEnding:
    def test_a_timeout_is_a_sentence(self) -> None:
        begun = time.monotonic()
        with pytest.raises(InputError, match="was not done after 1 s; take a smaller batch"):
            measure_memory(architecture("resnet50"), 32, timeout=1)
        assert time.monotonic() - begun < 60

    def test_a_worker_can_be_watched_and_stopped(self, tmp_path: Path) -> None:
        worker = memory.start_measuring(architecture("resnet50"), 64, folder=tmp_path)
        for event in worker.events():
            if isinstance(event, Progress):
                break
        pid = worker.pid
        worker.close(0)
        worker.close()
        last = worker.poll()[-1]
        assert last == Failed("the measurement was stopped before it was done")
        assert pid is not None
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def test_a_worker_answers(self, tmp_path: Path) -> None:
        worker = memory.start_measuring(TINY, 2, folder=tmp_path)
        events = [event for event in worker.events() if event is not None]
        assert isinstance(events[-1], Measurement)
        assert list(tmp_path.iterdir()) == []

    @linux
    def test_ctrl_c_ends_the_process(self) -> None:
        """As in a terminal: the measuring process has a session of its own and hears nothing."""
        parent = threading.get_ident()
        others = set(psutil.Process().children())  # the fork server of other tests, which stays
        children: list[psutil.Process] = []

        def interrupt(event: Progress) -> None:
            if event.stage == "imported":
                children.extend(set(psutil.Process().children()) - others)
                signal.pthread_kill(parent, signal.SIGINT)

        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                measure_memory(architecture("resnet50"), 64, progress=interrupt)
        finally:
            signal.signal(signal.SIGINT, previous)
        assert children
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not [
            child for child in alive if child.status() != psutil.STATUS_ZOMBIE and "toolkit" in child.cmdline()[-1]
        ]


class TestWhatADeathMeans:
    probe = Probe("", "net", 8, True, "float32", "adam", "tensorflow")

    def told(self, code: int | None, log: str = "", limit: int | None = None, killed: bool = False) -> Failed:
        ending = Ending(Path(), code, stopped=False, killed=killed, log=log)
        return replace(self.probe, limit_bytes=limit).ended(ending)

    def test_the_kernel_kills_where_memory_ends(self) -> None:
        assert self.told(-signal.SIGKILL) == Failed(
            "a training step of net with batches of 8 does not fit into the memory that is free; take a smaller batch, "
            "smaller images or a narrower network",
            out_of_memory=True,
        )

    @pytest.mark.parametrize("log", ["std::bad_alloc", "RESOURCE_EXHAUSTED: Out of memory allocating", "MemoryError"])
    def test_what_it_printed_tells(self, log: str) -> None:
        assert self.told(-signal.SIGABRT, log).out_of_memory
        assert self.told(1, log).out_of_memory

    def test_under_a_limit_a_signal_is_a_refusal(self) -> None:
        assert self.told(-signal.SIGSEGV, limit=10**9).out_of_memory
        assert not self.told(-signal.SIGSEGV).out_of_memory

    def test_other_ends(self) -> None:
        assert self.told(3, "no luck") == Failed("the measuring process crashed (exit status 3)", detail="no luck")
        assert "SIGABRT" in self.told(-signal.SIGABRT).message
        assert "could not be started" in self.told(None).message
        assert "was not done after 600 s" in self.told(memory.TIMED_OUT).message
        assert "stopped" in self.told(-signal.SIGKILL, killed=True).message


class TestEstimating:
    def test_arithmetic_needs_no_framework(self) -> None:
        code = (
            "import sys; from toolkit.memory import estimate_memory; from toolkit.architectures import architecture;"
            "estimate_memory(architecture('resnet50'), 32);"
            "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

    def test_a_small_batch_is_measured_by_probing(self, measured: tuple[Measurement, list[Progress]]) -> None:
        found = estimate_memory(TINY, 8, method="probing")
        assert (found.method, found.batch_size, found.execution) == ("probing", 8, default_execution())
        assert found.peak_bytes == pytest.approx(measured[0].peak_bytes, abs=60 * MB)

    @pytest.mark.tensorflow
    def test_a_line_is_drawn_through_two_batches(self, wide: Measurement) -> None:
        found = estimate_memory(WIDE, 96, method="probing")
        assert found.peak_bytes == pytest.approx(wide.peak_bytes, rel=0.3)
        assert set(found.parts) == {"whatever the batch", "for the batch"}
        assert found.framework_bytes == pytest.approx(wide.framework_bytes, rel=0.02)

    @on_jax
    def test_xla_tells_what_its_program_needs(self, wide: Measurement) -> None:
        found = estimate_memory(WIDE, 96, method="compiling")
        assert found.peak_bytes == pytest.approx(wide.peak_bytes, rel=0.3)
        params = sum(row.params for row in trace(WIDE))
        assert found.parts["weights"] == pytest.approx(4 * params, rel=0.001)
        assert found.parts["input"] == 96 * 96 * 96 * 3 * 4 + 96 * 8  # the labels are int64
        assert found.parts["optimizer"] == pytest.approx(8 * params, rel=0.001)

    @pytest.mark.tensorflow
    def test_xla_tells_it_through_tensorflow_too(self) -> None:
        """The convolution's map, what pooling makes of it and their gradients are in the program's own plan."""
        found = estimate_memory(TINY, 64, method="compiling", execution="xla")
        params, feature_map = sum(row.params for row in trace(TINY)), 64 * 26 * 26 * 8 * 4
        assert (found.method, found.execution) == ("compiling", "xla")
        assert found.parts["weights"] == 4 * params
        assert 8 * params <= found.parts["optimizer"] <= 8 * params + 200  # Adam's two, and a few counters
        assert found.parts["input"] == 64 * 28 * 28 * 4 + 64 * 8
        assert feature_map < found.parts["activations and temporaries"] < 10 * feature_map
        assert found.peak_bytes == sum(found.parts.values())

    @pytest.mark.tensorflow
    def test_a_graph_is_not_planned_beforehand(self) -> None:
        with pytest.raises(InputError, match="programs of XLA only"):
            estimate_memory(TINY, method="compiling", execution="onednn")


class Saying:
    """A worker that says at once what it was given."""

    def __init__(self, *events: memory.MemoryEvent) -> None:
        self.events, self.alive, self.killed = list(events), False, False

    def poll(self) -> list[memory.MemoryEvent]:
        said, self.events = self.events, []
        return said

    def kill(self) -> None:
        self.killed = True


class TestEstimatingWithoutWaiting:
    """Processes one after the other, followed as a page does it."""

    probe = Probe("", "net", 32, True, "float32", "adam", "tensorflow")

    def peak(self, batch: int, peak: int) -> Measurement:
        return Measurement("net", batch, True, "float32", "adam", "tensorflow", peak, 600, 600 + peak, (peak,), 1.0)

    def asked(self, *workers: Saying) -> memory.Estimating:
        left = iter(workers)
        probes = [replace(self.probe, batch_size=batch) for batch in memory.probe_batches(32)]
        return memory.Estimating(probes, self.probe, lambda probe: next(left))

    def test_two_peaks_make_a_line(self) -> None:
        asked = self.asked(Saying(Progress("built", 1), self.peak(8, 300)), Saying(self.peak(16, 500)))
        assert asked.poll() == [Progress("built", 1)]
        (found,) = asked.poll()
        assert isinstance(found, MemoryEstimate)
        assert (found.peak_bytes, found.framework_bytes, found.method) == (900, 600, "probing")
        assert not asked.alive
        assert asked.poll() == []

    def test_what_one_cannot_tell_ends_it(self) -> None:
        asked = self.asked(Saying(Failed("no")))
        assert asked.poll() == [Failed("no")]
        assert not asked.alive

    def test_it_is_killed_with_its_worker(self) -> None:
        worker = Saying()
        worker.alive = True
        asked = self.asked(worker)
        assert (asked.poll(), asked.alive) == ([], True)
        asked.kill()
        assert (worker.killed, asked.alive) == (True, False)

    def test_an_unknown_method_is_a_sentence(self) -> None:
        with pytest.raises(InputError, match="method must be one of compiling, probing"):
            memory.start_estimating(TINY, method="arithmetic")


WRONG = [
    ({"batch_size": 0}, "batch_size must be at least 1; 0 came"),
    ({"batch_size": -3}, "batch_size must be at least 1"),
    ({"batch_size": 1.5}, "batch_size must be a whole number"),
    ({"dtype_policy": "float31"}, "dtype_policy must be one of float32, mixed_bfloat16"),
    ({"optimizer": "adamant"}, "optimizer must be one of sgd"),
    ({"execution": "abacus"}, "execution must be one of tensorflow"),
    ({"accumulation_steps": 0}, "accumulation_steps must be at least 1"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
@pytest.mark.parametrize("method", ["arithmetic", "probing"])
def test_what_cannot_be_estimated_is_a_sentence(wrong: dict[str, object], sentence: str, method: str) -> None:
    with pytest.raises(InputError, match=sentence):
        estimate_memory(TINY, **{"method": method, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        *WRONG,
        ({"steps": 0}, "steps must be at least 1"),
        ({"limit_bytes": -1}, "limit_bytes must be at least 1"),
        ({"timeout": 0}, "must be above 0 seconds"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        measure_memory(TINY, **wrong)  # type: ignore[arg-type]


def test_an_unknown_method_is_a_sentence() -> None:
    with pytest.raises(InputError, match="method must be one of arithmetic, compiling, probing; 'guessing' came"):
        estimate_memory(TINY, method="guessing")


def test_a_library_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="execution 'jax' needs jax, which is not installed"):
        measure_memory(TINY, execution="jax")


def test_weights_that_no_machine_holds_are_a_sentence() -> None:
    huge = Architecture("huge", (4,), (Dense(2**45),))  # 700 TB of weights
    with pytest.raises(OutOfMemory, match="inference of huge with batches of 1 does not fit"):
        measure_memory(huge, training=False)
