"""What the page's jobs do with networks that label pixels: prices, views, and labels as coloured pictures."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photo_files import picture
from tests.test_photo_jobs import Desk
from toolkit.errors import InputError
from toolkit.jobs import Limits, advance
from toolkit.pictures import PNG_URL
from toolkit.pixel_jobs import (
    COLOURS,
    LARGEST,
    Labelled,
    LabelTask,
    LabelView,
    Scene,
    SegmentView,
    label,
    painted,
    patches,
    segment_forecast,
)
from toolkit.pixel_scores import VOID, count_pixels, scores
from toolkit.scenes import DIFFICULTIES, DIGIT_CLASSES, digits_on_photos
from toolkit.segmentation import EpochScored, Labeller, SegmentationResult, SegmentConfig, Segmented, network_of
from toolkit.training import Failed, Started, Step

TINY = SegmentConfig(image_size=32, channels=2, train_images=8, validation_images=2, test_images=2, batch_size=2)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def outcome(folder: Path, stopped: bool = False) -> SegmentationResult:
    truth = np.zeros((1, 32, 32), np.uint8)
    truth[:, 8:24, 8:24] = 3
    found = scores(count_pixels(truth, truth, len(DIGIT_CLASSES)), DIGIT_CLASSES)
    history = {name: [0.5] for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_mean_iou")}
    return SegmentationResult(
        TINY, DIGIT_CLASSES, 1000, 10**6, history, found, 12.0, 50.0, 10**8, stopped, 1, folder, "note"
    )


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix(PNG_URL)))))


# Training.


def test_a_view_follows_a_training() -> None:
    view = SegmentView(TINY, Path("x"))
    for event in (Started(10, 4, 15, 8, 2, 2), Step(1, 2, 4, 0.5, 0.9, 50.0), EpochScored(1, 1, 1, 1, 1, 0.3, 1, 1)):
        view = advance(view, event)
    assert (view.state, len(view.steps), view.epochs[0].val_mean_iou) == ("training", 1, 0.3)
    assert advance(view, Segmented(outcome(Path("x")))).state == "done"
    assert advance(view, Segmented(outcome(Path("x"), stopped=True))).state == "stopped"
    assert advance(view, Failed("too large")).message == "too large"


def test_the_forecast_is_that_of_the_network() -> None:
    ahead = segment_forecast(TINY)
    assert ahead.macs == TINY.epochs * ahead.costs.macs * (3 * 8 + 4)
    assert segment_forecast(replace(TINY, network="unet")).costs.params > 0


@pytest.mark.parametrize(
    ("config", "limits", "words"),
    [
        (TINY, Limits(run_memory_bytes=10**8), "smaller image size"),
        (TINY, Limits(run_macs=10**6), "fewer epochs"),
        (replace(TINY, image_size=40), Limits(), "multiples"),
        (replace(TINY, source="/etc"), Limits(), "python -m toolkit segment"),
        (replace(TINY, photos="/etc"), Limits(), "python -m toolkit segment"),
        (replace(TINY, weights="/etc/passwd"), Limits(), "python -m toolkit segment"),
    ],
)
def test_what_the_server_does_not_allow_is_refused(config: SegmentConfig, limits: Limits, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SegmentView.price(config, limits, 10**11)


# Labels as pictures.


def test_things_are_coloured_and_the_rest_is_darkened() -> None:
    image, labels = np.full((2, 2, 3), 200, np.uint8), np.array([[0, 1], [VOID, 10]], np.uint8)
    found = painted(image, labels, share=1.0)
    assert found[0, 0].tolist() == found[1, 0].tolist() == [100, 100, 100]
    assert ["#" + bytes(found[place]).hex() for place in ((0, 1), (1, 1))] == [COLOURS[1], COLOURS[10]]


def test_names_stand_inside_their_patches() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:15, 5:45] = 4
    labels[20:38, 30:50] = 7
    labels[0, 0] = 9  # too small for a name
    found = {patch.name: (int(patch.y * 40), int(patch.x * 60)) for patch in patches(labels, DIGIT_CLASSES)}
    assert {name: DIGIT_CLASSES[labels[place]] for name, place in found.items()} == {"3": "3", "6": "6"}
    assert 22 <= found["6"][0] < 36


# Asking networks.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that learned nothing: random weights."""
    from toolkit.build import build
    from toolkit.forward import save_weights, weights_of

    folder = tmp_path_factory.mktemp("trained")
    save_weights(folder / "weights.npz", weights_of(build(network_of(TINY, len(DIGIT_CLASSES)))))
    (folder / "result.json").write_text(json.dumps(outcome(folder).to_dict()), encoding="utf-8")
    return folder


def test_a_scene_is_labelled_and_scored(trained: Path, desk: Desk) -> None:
    scene = Scene(7, 32, DIFFICULTIES["easy"])
    found = label(LabelTask((("A", str(trained)), ("B", str(trained))), scene), desk.context)
    assert isinstance(found, Labelled)
    expected = digits_on_photos(1, 32, DIFFICULTIES["easy"], 7, part="test")
    assert (pixels(found.image) == expected.images[0]).all()
    assert found.truth is not None
    assert (pixels(found.truth.picture) == painted(expected.images[0], expected.masks[0])).all()
    labels = Labeller.load(trained)(expected.images[0]).labels
    true = scores(count_pixels(expected.masks, labels[np.newaxis], len(DIGIT_CLASSES)), DIGIT_CLASSES)
    assert [each.scores for each in found.maps] == [true, true]
    assert sum(found.maps[0].shares.values()) == pytest.approx(1)
    assert advance(LabelView(LabelTask((), scene), desk.context.folder), found).result == found


def test_a_picture_of_any_size_is_labelled(trained: Path, desk: Desk, tmp_path: Path) -> None:
    picture(3, size=(2 * LARGEST, 100)).save(tmp_path / "wide.jpg")
    found = label(LabelTask((("A", str(trained)),), str(tmp_path / "wide.jpg")), desk.context)
    assert isinstance(found, Labelled)
    assert (found.width, found.height, found.truth) == (LARGEST, 50, None)
    assert found.maps[0].scores is None
    assert set(found.maps[0].certainty) == set(found.maps[0].shares)


def test_what_is_no_picture_gets_a_sentence(trained: Path, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    failed = label(LabelTask((("A", str(trained)),), str(tmp_path / "text.png")), desk.context)
    assert isinstance(failed, Failed)
    assert "cannot be used" in failed.message
    assert str(tmp_path) not in failed.message
    desk.context.stop.set()
    assert label(LabelTask((("A", str(trained)),), "x"), desk.context) == Failed("stopped")
