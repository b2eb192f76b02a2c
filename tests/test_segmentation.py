"""Training to label pixels: real runs, tiny, in processes of their own; and labelling images with what they gave."""

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from toolkit import segmenting, system
from toolkit.build import build
from toolkit.checkpoints import Learned, save_checkpoint
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.forward import save_weights, weights_of
from toolkit.pixel_networks import NETWORKS
from toolkit.pixel_scores import count_pixels, scores
from toolkit.processes import Ending, StopFlag, can_fork, start_worker
from toolkit.scenes import DIFFICULTIES, load_scenes
from toolkit.segmentation import (
    PIXEL_CURVES,
    EpochScored,
    Event,
    Labeller,
    SegmentationResult,
    SegmentConfig,
    Segmented,
    begun_with,
    network_of,
    segment,
)
from toolkit.training import Failed, Memory, Started, Step

TINY = SegmentConfig(
    network="fcn4s", base="three_layers", image_size=32, train_images=9, validation_images=3, test_images=5,
    batch_size=4, epochs=2,
)  # fmt: skip
SMALL = replace(TINY, network="fcn8s", base="small_base", channels=2)
ENDLESS = replace(TINY, epochs=100_000)


def last(events: Iterator[Event]) -> Event:
    *_, final = events
    return final


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """The events of one tiny run."""
    return list(segment(TINY, tmp_path_factory.mktemp("tiny"), threads=1))


@pytest.fixture(scope="module")
def result(told: list[Event]) -> SegmentationResult:
    assert isinstance(told[-1], Segmented), told[-1]
    return told[-1].result


def assert_same_history(one: SegmentationResult, other: SegmentationResult) -> None:
    assert one.history.keys() == other.history.keys()
    for curve, values in one.history.items():
        assert values == pytest.approx(other.history[curve], rel=1e-4), curve


# Settings.


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"network": "fcn64s"}, "network must be one of fcn32s, fcn16s, fcn8s, fcn4s, dilated, unet; 'fcn64s' came"),
        ({"network": None}, "network must be one of"),
        ({"base": "vgg"}, "base must be one of small_base, three_layers"),
        ({"digits": "letters"}, "digits must be one of digits, mnist; 'letters' came"),
        ({"loss": "hinge"}, "loss must be one of cross_entropy, focal, dice, cross_entropy_dice; 'hinge' came"),
        ({"difficulty": "brutal"}, "difficulty must be one of easy, normal, hard; 'brutal' came"),
        ({"difficulty": 3}, "difficulty must be a Difficulty or one of easy, normal, hard"),
        ({"image_size": 8}, "image_size must be at least 16; 8 came"),
        ({"epochs": 0}, "epochs must be at least 1; 0 came"),
        ({"train_images": 2.5}, "train_images must be a whole number; 2.5 came"),
        ({"validation_images": 0}, "validation_images must be at least 1"),
        ({"test_images": -1}, "test_images must be at least 1"),
        ({"channels": "16"}, "channels must be a whole number; '16' came"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"boundary_pixels": 0}, "boundary_pixels must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0 and below 10; 0 came"),
        ({"learning_rate": "high"}, "learning_rate must be a number above 0 and below 10; 'high' came"),
        ({"batch_size": 3001}, "a batch of 3001 is larger than the 3000 training images"),
        ({"weights": "imagenet"}, "ImageNet's weights are for the base mobilenet_v2; fcn8s on small_base came"),
        ({"seed": 2**32}, "seed must be below"),
        ({"source": None}, "source must be the name of a folder or a file; None came"),
        ({"weights": 3}, "weights must be the name of a folder or a file; 3 came"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        SegmentConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": 100}, "multiples of that; 100 × 100 came; give 96 × 96"),
        ({"image_size": 40, "network": "unet"}, "multiples of 16; 40 × 40 came; give 32 × 32"),
        ({"base": "lenet5"}, "cuts the borders off its maps"),
        ({"base": "fcn8s"}, "enlarges its maps again"),
        ({"base": "vit_tiny", "image_size": 224}, "where a map .* was expected"),
    ],
)
def test_networks_that_cannot_be_are_refused_before_anything_starts(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        segment(replace(SMALL, **settings))


def test_settings_travel_as_plain_data() -> None:
    config = replace(TINY, difficulty=DIFFICULTIES["hard"], weights=Path("some.npz"), boundary_pixels=2)  # type: ignore[arg-type]
    assert SegmentConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert SegmentConfig(difficulty="easy").difficulty == DIFFICULTIES["easy"]  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no setting 'lerning_rate'"):
        SegmentConfig.from_dict({"lerning_rate": 1})
    with pytest.raises(InputError, match="difficulty has no 'colour'; it has digits, scale"):
        SegmentConfig.from_dict({"difficulty": {"colour": 1}})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_the_pixels_as_they_are(name: str) -> None:
    rows = trace(network_of(replace(SMALL, network=name), 11))
    assert [rows[1].type, rows[-1].output_shape] == ["Rescaling", (32, 32, 11)]
    assert [row.type for row in rows].count("Rescaling") == 1


def test_a_pretrained_base_gets_the_pixels_that_it_learned_from() -> None:
    net = network_of(replace(TINY, base="mobilenet_v2", weights="imagenet"), 11)
    model, ours = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None), build(net)
    names = {layer.name for layer in ours.layers}
    assert {layer.name for layer in model.layers if layer.weights} <= names
    pixels = np.array([0, 127.5, 255], np.float32).reshape(1, 1, 1, 3) * np.ones((1, 32, 32, 1), np.float32)
    assert np.asarray(ours.get_layer("rescaling")(pixels))[0, 0, 0].tolist() == [-1, 0, 1]


# What a run reports and leaves behind.


def test_the_events_come_in_order(told: list[Event]) -> None:
    assert told[0] == Started(told[0].params, 2, 2, 9, 3, 5)  # type: ignore[union-attr]
    assert [event.epoch for event in told if isinstance(event, EpochScored)] == [1, 2]
    steps = [event for event in told if isinstance(event, Step)]
    assert steps
    assert all(1 <= step.step <= 2 == step.steps and step.images_per_second > 0 for step in steps)
    assert any(isinstance(event, Memory) and event.rss_bytes <= event.peak_bytes for event in told)
    assert isinstance(told[-1], Segmented)


def test_the_result_is_what_was_reported(told: list[Event], result: SegmentationResult) -> None:
    ends = [event for event in told if isinstance(event, EpochScored)]
    assert result.history == {curve: [getattr(end, curve) for end in ends] for curve in PIXEL_CURVES}
    assert (result.epochs_done, result.stopped, result.note, result.scores.images) == (2, False, "", 5)
    assert result.params == sum(row.params for row in trace(network_of(TINY, 11)))
    assert ends[-1].learning_rate < ends[0].learning_rate
    assert SegmentationResult.load(result.folder) == result


def test_the_files_agree_with_each_other(result: SegmentationResult) -> None:
    """Keras's model, our NumPy and the stored answers label the test images alike, and give the reported scores."""
    test = load_scenes(TINY.source, 32, counts=TINY.counts).test
    with np.load(result.folder / "examples.npz") as file:
        stored = dict(file)
    assert np.array_equal(stored["images"], test.images)
    assert np.array_equal(stored["masks"], test.masks)
    model = keras.models.load_model(result.folder / "model.keras")
    probabilities = np.asarray(model.predict(test.images, verbose=0))
    answers = probabilities.argmax(axis=-1).astype(np.uint8)
    assert (answers == stored["answers"]).mean() > 0.999
    found = scores(count_pixels(test.masks, stored["answers"], 11), result.class_names)
    assert found == result.scores
    labelled = Labeller.load(result.folder)(test.images[0])
    assert np.abs(labelled.probabilities - probabilities[0]).max() < 1e-4
    with (result.folder / "history.csv").open(encoding="utf-8") as file:
        assert next(iter(csv.reader(file))) == ["epoch", *PIXEL_CURVES]
    assert {path.name for path in result.folder.iterdir()} == {
        *("model.keras", "weights.npz", "history.csv", "examples.npz", "result.json")
    }


# Ends.


@pytest.mark.tensorflow
def test_a_stopped_run_keeps_what_it_learned(tmp_path: Path) -> None:
    stop, asked = threading.Event(), 0.0
    for event in segment(ENDLESS, tmp_path, stop, threads=1):
        if isinstance(event, EpochScored) and not stop.is_set():
            stop.set()
            asked = time.monotonic()
    assert time.monotonic() - asked < 3.0  # a second on an idle machine
    assert isinstance(event, Segmented), event
    assert event.result.stopped
    assert event.result.note.startswith(("stopped", "the training was ended from outside"))  # that, on a busy machine
    assert event.result.epochs_done >= 1
    assert Labeller.load(tmp_path).class_names == event.result.class_names
    assert begun_with(tmp_path) == ENDLESS


@pytest.mark.once
def test_a_resumed_run_ends_where_it_would_have_ended(result: SegmentationResult, tmp_path: Path) -> None:
    """The same seed gives the same pictures, weights and order, and nothing is lost between the two sittings."""
    stop = threading.Event()
    for event in segment(TINY, tmp_path, stop, threads=1):
        if isinstance(event, EpochScored):
            stop.set()
    assert isinstance(event, Segmented)
    assert (event.result.epochs_done, event.result.stopped) == (1, True)
    *_, final = told = list(segment(TINY, tmp_path, resume=True, threads=1))
    assert [event.epoch for event in told if isinstance(event, EpochScored)] == [2]
    assert isinstance(final, Segmented), final
    assert_same_history(final.result, result)
    assert final.result.scores.mean_iou == pytest.approx(result.scores.mean_iou)
    assert final.result.seconds > event.result.seconds
    with np.load(tmp_path / "weights.npz") as ours, np.load(result.folder / "weights.npz") as theirs:
        assert all(np.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs.files)
    with pytest.raises(InputError, match=r"there is no checkpoint.npz in .* to go on from"):
        segment(TINY, tmp_path, resume=True)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    for key, sentence in (
        ("no settings", "is not the checkpoint of a segmentation"),
        (json.dumps(replace(TINY, seed=1).to_dict()), "is a run with other settings"),
    ):
        save_checkpoint(Learned(key), path)
        with pytest.raises(InputError, match=sentence):
            segment(TINY, tmp_path, resume=True)
    final = segmenting.segment(TINY, Listener(tmp_path))  # type: ignore[arg-type]
    assert isinstance(final, Failed)
    assert "holds a run with other settings" in final.message
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="is damaged"):
        segment(TINY, tmp_path, resume=True)
    with pytest.raises(InputError, match="give the folder"):
        segment(TINY, resume=True)
    with pytest.raises(InputError, match=r"checkpoint.npz is a file; give a folder"):
        segment(TINY, path)


@pytest.mark.tensorflow
def test_a_run_that_is_stopped_at_once_says_so(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    final = last(segment(ENDLESS, tmp_path, stop, threads=1))
    assert isinstance(final, Failed | Segmented)
    if isinstance(final, Failed):
        assert "nothing to keep" in final.message or "before it had written anything" in final.message


@pytest.mark.skipif(not can_fork() or not hasattr(signal, "SIGKILL"), reason="needs a worker that begins soon")
def test_a_killed_run_keeps_its_last_epoch(tmp_path: Path) -> None:
    worker = start_worker(ENDLESS, tmp_path, threads=1)
    done = 0
    for event in worker.events():
        done = event.epoch if isinstance(event, EpochScored) else done
        if done == 3 and worker.pid:
            os.kill(worker.pid, signal.SIGKILL)
            break
    *_, final = worker.events()
    assert isinstance(final, Segmented), final
    assert final.result.epochs_done >= 2
    assert "ended from outside" in final.result.note
    assert final.result.scores.images != 0


def test_what_ended_without_a_word_is_told(tmp_path: Path) -> None:
    ended = TINY.ended(Ending(tmp_path, -9, stopped=False, killed=False, log="the log"))
    assert isinstance(ended, Failed)
    assert "exit status -9, perhaps for want of memory" in ended.message
    assert ended.detail == "the log"
    stopped = TINY.ended(Ending(tmp_path, None, stopped=True, killed=True, log=""))
    assert isinstance(stopped, Failed)
    assert "before it had written anything down" in stopped.message


class Listener:
    """A context whose worker is this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.threads, self.stop, self.told = folder, None, StopFlag(), list[object]()
        self.send = self.told.append


def failure(config: SegmentConfig, folder: Path) -> str:
    final = segmenting.segment(config, Listener(folder))  # type: ignore[arg-type]
    assert isinstance(final, Failed), final
    assert not list(folder.iterdir())
    return final.message


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"weights": "nowhere.npz"}, "nowhere.npz holds no weights"),
        ({"source": "nowhere"}, "'nowhere' is neither 'digits_on_photos' nor a folder"),
    ],
)
def test_failures_are_sentences(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert sentence in failure(replace(TINY, **settings), tmp_path)


def test_weights_of_another_network_are_refused_and_those_of_the_same_are_taken(tmp_path: Path) -> None:
    model = segmenting.network(SMALL, network_of(SMALL, 11))
    weights = {name: [array + 1 for array in arrays] for name, arrays in weights_of(model).items()}
    save_weights(tmp_path / "own.npz", weights)
    config = replace(SMALL, weights=str(tmp_path / "own.npz"), network="fcn16s", seed=3)
    taken = segmenting.network(config, network_of(config, 11))
    begun = weights_of(taken)
    assert not taken.get_layer("block1_norm1").trainable
    assert taken.get_layer("block1_conv1").trainable
    assert np.array_equal(begun["block1_conv1"][0], weights["block1_conv1"][0])
    assert not np.array_equal(begun["enlarge16"][0], weights_of(model)["enlarge8"][0])
    save_weights(tmp_path / "other.npz", {"elsewhere": [np.zeros(3)]})
    with pytest.raises(InputError, match=r"other.npz has no layer in common with fcn8s on small_base"):
        segmenting.network(replace(SMALL, weights=str(tmp_path / "other.npz")), network_of(SMALL, 11))


def test_imagenets_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    config = replace(TINY, base="mobilenet_v2", weights="imagenet")
    with pytest.raises(
        InputError, match=r"ImageNet's weights of MobileNetV2 cannot be had \(no route to host\); connect"
    ):
        segmenting.network(config, network_of(config, 11))


def test_a_run_that_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system, "available_memory", lambda *_: 10**6)
    message = failure(TINY, tmp_path)
    assert message.startswith("this run needs about ")
    assert "1.00 MB are free; " in message


def test_the_loss_may_run_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The state before the epoch in which it happened is kept."""
    real = keras.Model.train_on_batch
    calls = list[float]()

    def spoiled(self: Any, *args: Any, **options: Any) -> Any:
        logs = real(self, *args, **options)
        calls.append(float(logs["loss"]))
        return logs | {"loss": float("nan")} if len(calls) == 3 else logs

    monkeypatch.setattr(keras.Model, "train_on_batch", spoiled)
    final = segmenting.segment(TINY, Listener(tmp_path))  # type: ignore[arg-type]
    assert isinstance(final, Segmented)
    assert (final.result.epochs_done, final.result.stopped) == (1, True)
    assert final.result.history["loss"] == [pytest.approx(np.mean(calls[:2]))]
    assert "no longer a number in epoch 2" in final.result.note
    assert "try 0.0004" in final.result.note


def test_flipped_images_have_flipped_masks() -> None:
    images = np.arange(2 * 2 * 3 * 1, dtype=np.uint8).reshape(2, 2, 3, 1)
    which = np.array([True, False])
    flipped = segmenting._mirrored(images, which)
    assert np.array_equal(flipped[0], images[0, :, ::-1])
    assert np.array_equal(flipped[1], images[1])
    assert np.array_equal(segmenting._mirrored(images[..., 0], which), flipped[..., 0])


# Results that are none, and new images.


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": {"epochs": 0}}', "\0"])
def test_a_folder_without_a_result(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"holds no result.json; give the folder of a finished training"):
        Labeller.load(tmp_path)
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"is not the result of a segmentation|epochs must be"):
        SegmentationResult.load(tmp_path)


def test_weights_that_are_not_those_of_the_result(result: SegmentationResult, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes((result.folder / "result.json").read_bytes())
    save_weights(tmp_path / "weights.npz", {"conv1": [np.zeros(3)]})
    with pytest.raises(InputError, match=r"layer 'conv1' .Conv2D. needs kernel"):
        Labeller.load(tmp_path)


@pytest.mark.parametrize("size", [(32, 32), (50, 70), (1, 200), (100, 31)])
def test_images_of_any_size_are_labelled(result: SegmentationResult, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = Labeller.load(result.folder)(image)
    assert found.labels.shape == size
    assert np.array_equal(found.image, image)
    assert found.probabilities.sum(axis=-1) == pytest.approx(np.ones(size), abs=1e-4)
    assert sum(found.shares().values()) == pytest.approx(1)
    assert list(found.shares().values()) == sorted(found.shares().values(), reverse=True)
    assert found.certainty().keys() == found.shares().keys()
    assert all(1 / 11 <= share <= 1 for share in found.certainty().values())


def test_a_large_image_is_made_smaller(result: SegmentationResult) -> None:
    found = Labeller.load(result.folder)(np.zeros((60, 120, 3), np.uint8), largest=64)
    assert found.labels.shape == (32, 64)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_what_is_no_image_is_said(result: SegmentationResult, image: Any) -> None:
    with pytest.raises(InputError, match="an image is uint8 of shape"):
        Labeller.load(result.folder)(image)


def test_it_learns_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Two classes from files, as easy as can be; who calls everything background has a mean IoU below 0.45."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for index in range(20):
        mask = np.zeros((40, 40), np.uint8)
        mask[8:32, index : 20 + index] = 1
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{index}.png")
        Image.fromarray(np.repeat(mask[..., np.newaxis] * 200, 3, axis=2)).save(
            tmp_path / "data" / "images" / f"{index}.png"
        )
    config = replace(TINY, source=str(tmp_path / "data"), flip=True, train_images=14, epochs=10)
    (tmp_path / "run").mkdir()
    final = segmenting.segment(config, Listener(tmp_path / "run"))  # type: ignore[arg-type]
    assert isinstance(final, Segmented), final
    assert final.result.class_names == ("0", "1")
    assert final.result.history["loss"][-1] < 0.5 * final.result.history["loss"][0]
    assert final.result.scores.mean_iou > 0.7
    assert Labeller.load(tmp_path / "run").class_names == ("0", "1")
