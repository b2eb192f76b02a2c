"""`segment` in the terminal: what it prints and writes, and what Ctrl-C does to it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import InputError
from toolkit.processes import INTERRUPTED, can_fork
from toolkit.segment_command import label_command, resume_command, segment_command
from toolkit.segmentation import EpochScored, SegmentationResult, SegmentConfig, segment

ROOT = Path(__file__).parent.parent
TINY = SegmentConfig(
    network="fcn4s", base="three_layers", image_size=32, train_images=8, validation_images=2, test_images=3,
    batch_size=4, epochs=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a tiny training, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.redirect_stdout(io.StringIO()) as words:
        assert segment_command(TINY, folder=folder) == 0
    return folder, words.getvalue()


@pytest.fixture(scope="module")
def trained(told: tuple[Path, str]) -> Path:
    return told[0]


def picture(path: Path) -> Image.Image:
    with Image.open(path) as file:
        file.load()
    return file


def test_one_network_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert segment_command(TINY, as_json=True) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["folder"] == str(Path("runs/digits_on_photos-fcn4s"))
    result = SegmentationResult.load(told["folder"])
    assert told["scores"]["mean_iou"] == result.scores.mean_iou
    assert SegmentConfig.from_dict(told["config"]) == TINY
    assert picture(Path(told["folder"]) / "labelled.png").size[0] > 300


@pytest.mark.once
def test_networks_one_after_the_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert segment_command(TINY, ["fcn8s", "dilated"], tmp_path / "mine") == 0
    told = capsys.readouterr()
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        *("fcn4s", "fcn8s", "dilated", "labelled.png", "borders.png")
    }
    heading = told.out.splitlines()[1]
    assert heading.index("fcn4s") < heading.index("fcn8s") < heading.index("dilated")
    for name in ("fcn4s", "fcn8s", "dilated"):
        found = SegmentationResult.load(tmp_path / "mine" / name).scores
        assert f"{found.mean_iou:.3f}" in told.out
        assert f"{name}  epoch 1: validation mean IoU" in told.err
    assert "fcn4s: boundary" in picture(tmp_path / "mine" / "borders.png").info["Description"]


def test_one_network_is_told_class_by_class(told: tuple[Path, str]) -> None:
    _, words = told
    assert "3 test images; borders are 1 pixel wide" in words
    assert "interior IoU" in words
    assert "photo" in words


@pytest.mark.parametrize("compare", [["fcn4s"], ["unet", "unet"]])
def test_a_network_twice_is_refused(compare: list[str]) -> None:
    with pytest.raises(InputError, match="each name once; the same came twice"):
        segment_command(TINY, compare)
    assert not Path("runs").exists()


def test_a_network_that_cannot_be_is_refused_before_the_first_runs() -> None:
    with pytest.raises(InputError, match="network must be one of"):
        segment_command(TINY, ["fcn3s"])
    with pytest.raises(InputError, match="multiples of 16; 40 × 40 came"):
        segment_command(replace(TINY, image_size=40), ["unet"])
    assert not Path("runs").exists()


@pytest.mark.once
def test_a_stopped_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, stop = replace(TINY, epochs=2), threading.Event()
    for event in segment(config, tmp_path / "run", stop):
        if isinstance(event, EpochScored):
            stop.set()
    assert resume_command(tmp_path / "run") == 0
    told = capsys.readouterr()
    assert "epoch 2: validation mean IoU" in told.err
    assert "epoch 1: validation mean IoU" not in told.err
    assert "to go on" not in told.out
    with pytest.raises(InputError, match=r"there is no checkpoint.npz in .*run to go on from"):
        resume_command(tmp_path / "run")


def test_a_failure_is_a_sentence_and_an_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert segment_command(replace(TINY, source="nowhere")) == 1
    assert "'nowhere' is neither 'digits_on_photos' nor a folder" in capsys.readouterr().out
    assert segment_command(replace(TINY, source="nowhere"), as_json=True) == 1
    assert "neither" in json.loads(capsys.readouterr().out)["runs"][0]["failed"]


@pytest.mark.skipif(not can_fork(), reason="a fresh worker takes long to begin")
def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace;"
        "from tests.test_segment_command import TINY, segment_command;"
        f"sys.exit(segment_command(replace(TINY, epochs=10**5), ['unet'], Path({str(tmp_path)!r}), as_json=True))"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert command.stderr
    for line in command.stderr:
        if "epoch 2" in line:
            command.send_signal(signal.SIGINT)
            break
    out, _ = command.communicate(timeout=60)
    assert command.returncode == INTERRUPTED
    first, second = json.loads(out)["runs"]
    assert first["stopped"]
    assert first["epochs_done"] >= 2
    assert second["failed"] == "it was not begun"


# Labelling images.


def test_images_are_labelled(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    for name in ("one.png", "two.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    files = [tmp_path / "one.png", tmp_path / "two.jpg"]
    assert label_command(files, trained, tmp_path / "out", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["images"]
    assert [Path(each["image"]).name for each in told] == ["one.png", "two.jpg"]
    labels = np.asarray(picture(tmp_path / "out" / "one-labels.png"))
    assert labels.shape == (50, 70)
    names = SegmentationResult.load(trained).class_names
    counted = {names[number]: float((labels == number).mean()) for number in np.unique(labels)}
    assert told[0]["shares"] == pytest.approx(counted)
    assert "labels: " in picture(tmp_path / "out" / "two-labelled.png").info["Description"]


def test_labels_go_beside_the_image_and_into_a_table(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 40), (9, 99, 9)).save(tmp_path / "green.png")
    assert label_command([tmp_path / "green.png"], trained) == 0
    assert "share of the pixels" in capsys.readouterr().out
    assert (tmp_path / "green-labels.png").is_file()


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_file_that_is_no_image_leaves_nothing_behind(trained: Path, tmp_path: Path, content: Any) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="the image cannot be used"):
        label_command([tmp_path / "good.png", tmp_path / "bad.png"], trained)
    assert sorted(tmp_path.iterdir()) == before


def test_no_file_is_written_twice_or_over_an_image(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("one.png", "one.jpg", "one-labels.png", "sub/one.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    for names, folder in (
        (("one.png", "one.jpg"), None),
        (("one.png", "one-labels.png"), None),
        (("one.png", "sub/one.png"), tmp_path),
    ):
        with pytest.raises(InputError, match=r"one-label(s|led).png would be written twice, or over one of the images"):
            label_command([tmp_path / name for name in names], trained, folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written(trained: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"one-labelled.png could not be written .*; choose a folder that you may"):
        label_command([tmp_path / "one.png"], trained, tmp_path / "one.png")
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_a_large_image_gets_labels_as_large(trained: Path, tmp_path: Path) -> None:
    Image.new("RGB", (700, 30)).save(tmp_path / "wide.png")
    assert label_command([tmp_path / "wide.png"], trained, as_json=True) == 0
    assert picture(tmp_path / "wide-labels.png").size == (700, 30)


def test_a_folder_that_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no result.json"):
        label_command([], tmp_path)
