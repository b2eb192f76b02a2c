"""`plan` and `measure` in the terminal: real measurements, Keras's own networks, and what Ctrl-C does."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from toolkit.architectures import small_cnn
from toolkit.errors import InputError
from toolkit.memory import Measurement
from toolkit.memory_command import application, application_rows, measurement_json, measurement_text
from toolkit.memory_reports import peaks
from toolkit.processes import INTERRUPTED

ROOT = Path(__file__).parent.parent


def toolkit(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "toolkit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


def measurement(peak: int) -> Measurement:
    return Measurement("small_cnn", 8, True, "float32", "adam", "tensorflow", peak, 600, peak + 600, (peak,), 0.5)


def test_a_measurement_stands_beside_its_estimate() -> None:
    (_, estimate) = peaks(small_cnn(), 8)
    found = measurement(2 * estimate.peak_bytes)
    told = json.loads(measurement_json(found, estimate))
    assert told["ratio"] == 0.5
    assert {name: told[name] for name in found.to_dict()} == found.to_dict()
    assert told["estimate"]["peak_bytes"] == estimate.peak_bytes
    line = next(line for line in measurement_text(found, estimate).splitlines() if line.startswith("peak over"))
    assert line.endswith("0.50")


def test_a_measurement_of_nothing_has_no_ratio() -> None:
    (_, estimate) = peaks(small_cnn(), 8)
    assert "peak over the start" in measurement_text(measurement(0), estimate)
    assert json.loads(measurement_json(measurement(0), estimate))["ratio"] > 0


def test_what_held_a_limit_is_told() -> None:
    (_, estimate) = peaks(small_cnn(), 8)
    text = measurement_text(replace(measurement(80), limited_by="RLIMIT_DATA"), estimate)
    assert "held within the limit by the kernel, which refuses more data (RLIMIT_DATA)" in text
    assert "limit" not in measurement_text(measurement(80), estimate)


@pytest.mark.tensorflow
def test_a_real_measurement_as_json() -> None:
    run = toolkit("measure", "small_cnn", "--batch", "16", "--train", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["network"], told["batch_size"], told["training"]) == ("small_cnn", 16, True)
    assert told["process_bytes"] == told["framework_bytes"] + told["peak_bytes"]
    assert told["ratio"] == pytest.approx(told["estimate"]["peak_bytes"] / told["peak_bytes"], abs=1e-3)
    assert "step 1" in run.stderr


@pytest.mark.tensorflow
def test_what_does_not_fit_is_a_sentence() -> None:
    run = toolkit("measure", "small_cnn", "--batch", "16", "--limit", "100MB")
    assert (run.returncode, run.stdout) == (2, "")
    assert "does not fit into" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_networks_of_keras_applications_are_known_by_their_names() -> None:
    assert sum(row.params for row in application_rows("MobileNet")) == 4_253_864
    small = application_rows("MobileNetV2", (96, 96, 3))
    assert small[0].output_shape == (96, 96, 3)
    assert application("VGG16").count_params() == 138_357_544
    with pytest.raises(InputError, match="no model 'DenseNet12'; the nearest is 'DenseNet121'"):
        application("DenseNet12")
    with pytest.raises(InputError, match="VGG16 cannot be built for this input size"):
        application("VGG16", (2, 2, 3))


@pytest.mark.tensorflow
def test_a_network_of_keras_applications_is_planned_and_measured() -> None:
    run = toolkit("plan", "MobileNet", "--limit", "4GiB", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)["network"] == "MobileNet"
    run = toolkit("measure", "MobileNet", "--batch", "1", "--input", "64x64x3", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["peak_bytes"] > 10**7


@pytest.mark.tensorflow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as a POSIX terminal does")
def test_ctrl_c_ends_the_measurement() -> None:
    # Whoever starts the tests in the background has Ctrl-C ignored, and children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.argv = ['toolkit', 'measure', 'vgg16', '--batch', '64', '--train'];"
        "from toolkit.__main__ import main; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert "imported" in process.stderr.readline()
        below = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == INTERRUPTED, err
    assert (out, "Traceback" in err) == ("", False)
    assert time.monotonic() - begun < 8
    assert below
    psutil.wait_procs(below, timeout=5)
    assert not any(child.is_running() for child in below)
