"""`python -m toolkit` as people type it: real processes for what only a process shows, typer's runner for the rest."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from toolkit.__main__ import finetune, main, segment, train
from toolkit.architectures import ARCHITECTURES, resnet50
from toolkit.arithmetic import InputError
from toolkit.batches import plan_batches
from toolkit.finetuning import FinetuneConfig
from toolkit.segmentation import SegmentConfig
from toolkit.show import parse_shape, readable_bytes
from toolkit.training import TrainConfig

ROOT = Path(__file__).parent.parent


def typed(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command line."""
    monkeypatch.setattr(sys, "argv", ["toolkit", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_cost_as_json_has_what_is_promised(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = "cost three_layers --input 720x1280x3 --batch 20 --dtype int8 --optimizer sgd --json"
    status, out, err = typed(command, monkeypatch, capsys)
    data = json.loads(out)
    assert (status, err) == (0, "")
    assert (data["params"], data["input_shape"], data["batch"]) == (903_400, [720, 1280, 3], 20)
    assert (data["dtype"], data["optimizer"], data["weights_bytes"]) == ("int8", "sgd", 903_400)
    assert data["rows"][1]["activation_bytes"] == 20 * 360 * 640 * 100


@pytest.mark.parametrize(
    ("form", "start"),
    [("", "vgg16, input 224 × 224 × 3"), ("--markdown", "### vgg16"), ("--diagram", "●  "), ("--json", "{")],
)
def test_every_form_of_cost(
    form: str, start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = typed(f"cost vgg16 {form}", monkeypatch, capsys)
    assert status == 0
    assert out.startswith(start)
    assert "block5_conv3" in out


def test_cost_tells_the_predicted_peaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed("cost lenet5 --batch 32 --json", monkeypatch, capsys)
    predicted = json.loads(out)["predicted"]
    assert sum(predicted["training"]["parts"].values()) == predicted["training"]["peak_bytes"]
    _, out, _ = typed("cost lenet5 --batch 32", monkeypatch, capsys)
    assert f"training peak  {readable_bytes(predicted['training']['peak_bytes'])} predicted (batch 32" in out
    _, out, _ = typed("cost lenet5 --dtype int8", monkeypatch, capsys)
    assert "predicted" not in out


def test_plan_as_json_is_the_planner_s(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = "plan resnet50 --wanted 300 --limit 4GiB --share 0.8 --any-integer --optimizer sgd --json"
    status, out, err = typed(command, monkeypatch, capsys)
    plan = plan_batches(resnet50(), 300, 2**32, share=0.8, power_of_two=False, optimizer="sgd")
    data = json.loads(out)
    assert (status, err) == (0, "")
    assert {name: data[name] for name in plan.to_dict()} == plan.to_dict()
    assert data["naive"]["batch_size"] > 100 * plan.batch_size


def test_plan_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = "plan resnet50 --wanted 300 --limit 8GB --input 224x224x3 --train-size 9000 --test-size 1000"
    status, out, _ = typed(command, monkeypatch, capsys)
    plan = plan_batches(resnet50(), 300, 8 * 10**9, train_size=9000, test_size=1000)
    assert status == 0
    steps = f"batch {plan.batch_size} × {plan.accumulation_steps} accumulation steps = {plan.effective_batch}"
    assert out.startswith(f"resnet50, input 224 × 224 × 3: {steps}, for a wish of 300\n\n{plan.why}\n")
    for words in ("activations", "the naive answer", "times the limit", "limit 8.00 GB; this machine has"):
        assert words in out
    assert max(len(line) for line in out.splitlines() if line != plan.why) <= 120


def test_networks_lists_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = typed("networks", monkeypatch, capsys)
    assert [line.split()[0] for line in out.splitlines()] == list(ARCHITECTURES)
    assert "138,357,544 parameters" in out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("cost resnet5", "the nearest is 'resnet50'"),
        ("cost lenet5 --batch 0", "batch must be at least 1; 0 came"),
        ("cost lenet5 --batch many", "Invalid value for '--batch'"),
        ("cost lenet5 --input 28x28", "image"),
        ("cost lenet5 --input axbxc", "a size is written like 224x224x3 (height x width x channels); 'axbxc' came"),
        ("cost lenet5 --input 0x28x1", "each size must be at least 1; 0 came"),
        ("cost alexnet --input 8x8x3", "a window of 11 does not fit into 8 pixels; use padding"),
        ("cost lenet5 --dtype float13", "dtype must be one of"),
        ("cost lenet5 --optimizer magic", "optimizer must be one of"),
        ("cost lenet5 --json --diagram", "exclude each other"),
        ("cost nothing.keras", "there is no file 'nothing.keras'"),
        ("cost Makefile.keras", "there is no file"),
        ("price lenet5", "No such command 'price'"),
        ("train 5", "5 came without an option; write --compare before it"),
        ("train --channels 0", "channels must be at least 1; 0 came"),
        ("train --channels wide", "Invalid value for '--channels'"),
        ("train --epochs 0", "epochs must be at least 1; 0 came"),
        ("train --batch-size 0", "batch_size must be at least 1; 0 came"),
        ("train --dropout 1", "dropout must be a number from 0 and below 1; 1.0 came"),
        ("train --learning-rate -1", "learning_rate must be a number above 0"),
        ("train --dataset nothing", "'nothing' is neither a dataset"),
        ("train --architecture vgg16", "vgg16"),
        ("train --channels 8 --compare 8", "--compare needs other channels"),
        ("plan resnet5", "the nearest is 'resnet50'"),
        ("plan resnet50 --wanted 0", "must be at least 1; 0 came"),
        ("plan resnet50 --wanted many", "Invalid value for '--wanted'"),
        ("plan resnet50 --limit much", "memory is written like 4GiB (2^30 bytes each) or 800MB (10^6 each); 'much'"),
        ("plan resnet50 --limit -4GiB", "memory is written like 4GiB"),
        ("plan vgg16 --limit 500MB", "give a limit of"),
        ("plan resnet50 --share 0", "share must be a number above 0 and up to 1; 0.0 came"),
        ("plan resnet50 --share nan", "share must be a number above 0"),
        ("plan resnet50 --input 8x8", "image"),
        ("plan resnet50 --optimizer magic", "optimizer must be one of"),
        ("plan resnet50 --dtype-policy int8", "dtype_policy must be one of"),
        ("plan resnet50 --execution magic", "execution must be one of"),
        ("plan resnet50 --train-size 0", "train_size must be at least 1; 0 came"),
        ("plan nothing.keras", "there is no file 'nothing.keras'"),
        ("measure resnet5", "the nearest is 'resnet50'"),
        ("measure lenet5 --batch 0", "must be at least 1; 0 came"),
        ("measure lenet5 --execution magic", "execution must be one of"),
        ("measure lenet5 --limit much", "memory is written like 4GiB"),
        ("measure lenet5 --accumulation-steps 0", "accumulation_steps must be at least 1; 0 came"),
        ("train --accumulation-steps 0", "accumulation_steps must be at least 1; 0 came"),
        ("train --effective-batch 0", "effective_batch must be at least 1; 0 came"),
        ("bench nothing", "there is no benchmark 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(
    command: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status, out, err = typed(command, monkeypatch, capsys)
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("text", ["", "x", "3x", "-3x4x1", "3x4x5x6x7", "1" * 30, "3.5x4x1"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="a size is written like"):
        parse_shape(text)


def test_as_a_module_in_a_process_of_its_own() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "toolkit", "cost", "lenet5", "--batch", "-1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: batch must be at least 1; -1 came; give 1 or more\n"


@pytest.mark.parametrize(
    ("command", "config", "without"),
    [
        (train, TrainConfig, {"network"}),
        (finetune, FinetuneConfig, {"fractions", "warmup", "label_smoothing", "cache_features"}),
        (segment, SegmentConfig, {"boundary_pixels", "difficulty"}),
    ],
)
def test_defaults_are_those_of_the_configuration(
    command: Callable[..., None], config: type[TrainConfig | FinetuneConfig | SegmentConfig], without: set[str]
) -> None:
    options = inspect.signature(command, eval_str=True).parameters
    usual = config()
    for field in fields(config):
        if field.name in without:
            continue
        option, default = options[field.name], getattr(usual, field.name)
        if option.default is None and default is not None:  # a recipe may decide
            (told,) = option.annotation.__metadata__
            assert told.help.endswith(f"; {default} without a recipe."), field.name
        else:
            assert option.default == default, field.name
