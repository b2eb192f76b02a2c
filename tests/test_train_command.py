"""`train` in the terminal: what it prints, where it writes, and what Ctrl-C does to it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit import train_command as module
from toolkit.errors import InputError
from toolkit.layers import Architecture, Dense, Flatten
from toolkit.processes import INTERRUPTED
from toolkit.train_command import train_command
from toolkit.training import EpochEnd, TrainConfig, TrainResult

ROOT = Path(__file__).parent.parent
TINY = TrainConfig(channels=2, epochs=1, train_limit=100)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_network_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command(TINY, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(Path("runs/digits-small_cnn-2"))
    result = TrainResult.load(told["folder"])
    assert told["test_accuracy"] == result.test_accuracy
    assert TrainConfig.from_dict(told["config"]) == TINY
    assert told["compared"] == []


@pytest.mark.tensorflow  # three more runs, which start slowly where they are not forked
def test_networks_beside_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert train_command(TINY, compare=[3, 1], folder=tmp_path / "mine") == 0
    told = capsys.readouterr()
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"small_cnn-1", "small_cnn-2", "small_cnn-3"}
    heading = told.out.splitlines()[1]
    assert heading.index("small_cnn-2") < heading.index("small_cnn-3") < heading.index("small_cnn-1")
    accuracy = TrainResult.load(tmp_path / "mine" / "small_cnn-3").test_accuracy
    assert f"{accuracy:.2%}" in told.out
    assert told.err.count("epoch 1: validation accuracy") == 3


@pytest.mark.tensorflow
def test_a_second_run_does_not_overwrite_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/digits-small_cnn-2").mkdir(parents=True)
    assert train_command(TINY) == 0
    assert [path.name for path in Path("runs/digits-small_cnn-2").iterdir()] == []
    assert Path("runs/digits-small_cnn-2-2/result.json").is_file()


@pytest.mark.once
def test_a_failed_training_is_a_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    layers = (Dense(2**20), Dense(2**20), Flatten(), Dense(10, activation="softmax"))
    vast = replace(TINY, network=Architecture("vast", (28, 28, 1), layers))
    assert train_command(vast) == 1
    assert "vast: this run needs about " in capsys.readouterr().out
    assert train_command(vast, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["failed"].startswith("this run needs about ")


@pytest.mark.tensorflow
def test_an_accumulated_training_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(TINY, batch_size=15, accumulation_steps=3, effective_batch=40)  # 90 images: 40, 40 and 10
    assert train_command(config, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["config"]["accumulation_steps"], told["config"]["effective_batch"]) == (3, 40)
    assert TrainConfig.from_dict(told["config"]) == TrainResult.load(told["folder"]).config == config


def test_what_cannot_run_is_told_before_anything_is_made() -> None:
    with pytest.raises(InputError, match="the same came twice"):
        train_command(TINY, compare=[2])
    with pytest.raises(InputError, match="channels must be at least 1"):
        train_command(TINY, compare=[0])
    with pytest.raises(InputError, match="vgg16"):
        train_command(replace(TINY, architecture="vgg16"))
    assert not Path("runs").exists()


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as a POSIX terminal does")
def test_ctrl_c_stops_and_keeps(tmp_path: Path) -> None:
    # Whoever starts the tests in the background has Ctrl-C ignored, and children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from toolkit.training import TrainConfig; from toolkit.train_command import train_command;"
        "sys.exit(train_command(TrainConfig(channels=2, epochs=10**6, train_limit=100), as_json=True))"
    )
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **options) as process:  # type: ignore[call-overload]
        process.stderr.readline()  # the first epoch is done
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == INTERRUPTED, err
    assert time.monotonic() - begun < 5
    told = json.loads(out)
    assert told["stopped"]
    assert told["epochs_done"] >= 1
    assert TrainResult.load(tmp_path / told["folder"]).epochs_done == told["epochs_done"]


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="raises a signal as a POSIX terminal does")
def test_ctrl_c_while_something_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes at the worst moment: in the middle of our own code, not while we wait."""
    drawn = module._draw

    def interrupted(progress: Any, run: Any, event: Any) -> None:
        if isinstance(event, EpochEnd) and event.epoch == 1:
            signal.raise_signal(signal.SIGINT)
        drawn(progress, run, event)

    monkeypatch.setattr(module, "_draw", interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = train_command(TrainConfig(channels=2, epochs=10**6, train_limit=100), folder=tmp_path, as_json=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert status == INTERRUPTED
    assert json.loads(capsys.readouterr().out)["stopped"]
