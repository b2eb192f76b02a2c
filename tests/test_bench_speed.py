"""The race of the lean network: who learns the same, and what is made of the seconds. Whether it is won is for the real
run to tell.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.architectures import architecture
from toolkit.benchmarks import fits, speed
from toolkit.benchmarks.speed import (
    BATCH,
    NAMES,
    Race,
    TorchPeer,
    fast_precision,
    summarized,
    torch_python,
    trained_params,
)
from toolkit.errors import InputError
from toolkit.processes import Context, StopFlag


@pytest.mark.once
def test_each_takes_its_time_in_every_round(tmp_path: Path) -> None:
    race = Race(images=BATCH, rounds=2, seed=0, precision="float32", network="dense_baseline")
    said: list[object] = []
    seconds = fits.race(race, Context(tmp_path, None, said.append, StopFlag()))
    assert set(seconds) == {"ours", "float32", "bare"}
    assert all(len(found) == 2 and min(found) > 0 for found in seconds.values())
    measured = summarized(race, seconds)
    assert [check.name for check in measured.checks] == ["speed, ours / a bare model.fit"]
    assert len(measured.rows) == 3


def test_ratios_are_medians_of_pairs() -> None:
    race = Race(images=300, rounds=3, seed=0, precision="mixed_bfloat16")
    seconds = {"ours": [1.0, 2.0, 3.0], "bare": [1.1, 2.0, 6.0], "torch": [0.5, 4.0, 1.5], "float32": [3.0, 3.0, 3.0]}
    measured = summarized(race, seconds)
    bare, torch = measured.checks
    assert (bare.name, bare.ok) == ("speed, ours / a bare model.fit", True)
    assert bare.value == pytest.approx(1.1)
    assert (torch.name, torch.ok) == ("speed, ours / PyTorch", False)
    assert torch.value == pytest.approx(0.5)
    rows = {row.what: row.median for row in measured.rows}
    assert rows["lean_cnn_32, ours (mixed_bfloat16)"] == 150
    assert len(rows) == len(NAMES)


def test_half_precision_is_for_processors_that_have_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("flags : fpu sse2 avx512f\n")
    (tmp_path / "new").write_text("flags : fpu avx512f avx512_bf16\n")
    assert fast_precision(tmp_path / "old") == "float32"
    assert fast_precision(tmp_path / "new") == "mixed_bfloat16"
    assert fast_precision(tmp_path / "none") == "float32"


def test_a_python_without_torch_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(speed.PYTHON, raising=False)
    assert torch_python() is None
    monkeypatch.setenv(speed.PYTHON, "false")
    with pytest.raises(InputError, match="CNN_TOOLKIT_TORCH names false, which cannot import torch; install it there"):
        torch_python()


def test_the_peer_is_told_the_same_layers() -> None:
    net = architecture("lean_cnn_32")
    layers, channels = speed._torch_layers(net.layers, 3)
    assert channels == 192
    kinds = [each[0] for each in layers]
    assert (kinds.count("conv"), kinds.count("add"), kinds[-2:]) == (5, 2, ["mean", "dense"])
    with pytest.raises(InputError, match="PyTorch's peer has no Flatten; it knows the lean networks only"):
        speed._torch_layers(architecture("small_cnn").layers[5:], 1)


def has_torch() -> bool:
    return not subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode


@pytest.mark.skipif(not has_torch(), reason="PyTorch is not installed")
def test_pytorch_s_network_has_as_many_parameters() -> None:
    net = architecture("lean_cnn_28")
    with TorchPeer(sys.executable, net, BATCH, threads=1) as peer:
        assert peer.params == trained_params(net)
        assert peer.epoch() > 0
