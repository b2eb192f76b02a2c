"""Fine-tuning, whole runs on tiny bases: what they tell, keep, resume and refuse; and the five faults of the notes."""

import csv
import json
import math
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.datasets import load_sample_images
from sklearn.utils.class_weight import compute_class_weight

from tests.photo_files import noise, save_photos, tiny_base
from toolkit import system
from toolkit.bases import make_classifier, scaling_layers, weights_digest
from toolkit.build import read_model
from toolkit.checkpoints import load_checkpoint
from toolkit.errors import InputError
from toolkit.finetuning import (
    ALPHAS,
    CHECKPOINT_FILE,
    CURVES,
    NOTHING_LEARNED,
    Event,
    FinetuneConfig,
    FinetuneResult,
    FinetuneTask,
    Finished,
    Looked,
    PhaseBegins,
    Progress,
    finetune,
    wilson_interval,
)
from toolkit.outcomes import load_model, write_extras
from toolkit.photo_batches import PhotoBatches, Views, augment_photo, class_weights, compute_features, photo_pixels
from toolkit.photos import check_photos, split_photos, write_list
from toolkit.processes import Context, Ending, StopFlag, can_fork, start_worker
from toolkit.runtimes import predict_memory
from toolkit.streaming.samples import Source, read_source
from toolkit.training import EpochEnd, Failed, Memory, Step
from toolkit.transfer import classifier_of, transfer

TINY = FinetuneConfig(
    base="MobileNet",
    alpha=0.25,
    image_size=32,
    weights=None,
    batch_size=8,
    accumulation_steps=1,
    head_units=8,
    head_views=2,
    head_epochs=3,
    epochs=2,
    unfrozen_blocks=1,
    patience=0,
    augmentation="flip",
    copies=False,
)
HEAD_ONLY = replace(TINY, epochs=0)
IMAGENET = Path(os.environ.get("KERAS_HOME", "nowhere")) / (
    "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
)


@pytest.fixture(scope="module", autouse=True)
def quick_base() -> Iterator[None]:
    """In this process, a base of three blocks, not compiled by XLA, and no pictures where they are not asked for.

    Workers have all of that.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
        patch.setattr(keras.applications, "MobileNet", tiny_base)
        patch.setattr("toolkit.transfer.write_extras", lambda result, *_: result)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), each=14)


@dataclass
class Here:
    """A run in this very process: what it told, and a stop at an event where that is wanted."""

    folder: Path
    stop_at: Callable[[object], bool] = lambda event: False
    told: list[Any] = field(default_factory=list)
    stop: StopFlag = field(default_factory=StopFlag)

    def send(self, event: object) -> None:
        self.told.append(event)
        if self.stop_at(event):
            self.stop.set()

    def run(self, photos: Path, config: FinetuneConfig, resume: bool = False) -> Event:
        context = Context(self.folder, None, self.send, self.stop)
        self.told.append(transfer(FinetuneTask(str(photos), config, resume), context))
        last: Event = self.told[-1]
        return last

    def result(self, photos: Path, config: FinetuneConfig, resume: bool = False) -> FinetuneResult:
        last = self.run(photos, config, resume)
        assert isinstance(last, Finished), last
        return last.result


def weights_in(folder: Path) -> list[Any]:
    model, _ = load_model(folder)
    found: list[Any] = model.get_weights()
    return found


def assert_same_weights(one: Path, other: Path, tolerance: float) -> None:
    for a, b in zip(weights_in(one), weights_in(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


# Settings.


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base": "MobileNetV4"}, "base must be one of MobileNet, MobileNetV2"),
        ({"base": "mobilenet_v2"}, "base must be one of"),
        ({"alpha": 0.3}, "MobileNetV2 comes with alpha 0.35 or 0.5 or 0.75 or 1.0 or 1.3 or 1.4; 0.3 came"),
        ({"base": "ResNet50", "alpha": 0.5}, "ResNet50 comes with alpha 1.0; 0.5 came"),
        ({"alpha": 0}, "alpha must be a number above 0"),
        ({"alpha": "wide"}, "alpha must be a number above 0 and below 3; 'wide' came"),
        ({"image_size": 31}, "image_size must be from 32 to 1024 pixels; 31 came"),
        ({"image_size": 2000}, "image_size must be from 32 to 1024 pixels; 2000 came"),
        ({"image_size": (96, 96)}, "image_size must be a whole number"),
        ({"fit": "fill"}, "fit must be one of stretch, crop, pad"),
        ({"weights": 5}, 'weights are "imagenet", the path of a file, or None; 5 came'),
        ({"augmentation": "heavy"}, "augmentation must be one of none, flip, light, strong, round"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"accumulation_steps": 0}, "accumulation_steps must be at least 1"),
        ({"head_epochs": 0}, "head_epochs must be at least 1"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"unfrozen_blocks": 1.5}, "unfrozen_blocks must be a whole number"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0 and below 10; 0 came"),
        ({"learning_rate": math.nan}, "learning_rate must be a number above 0"),
        ({"head_learning_rate": -1}, "head_learning_rate must be a number above 0"),
        ({"dropout": 1}, "dropout must be a number from 0 and below 1; 1 came"),
        ({"warmup": 1.0}, "warmup must be a number from 0 and below 1"),
        ({"label_smoothing": "some"}, "label_smoothing must be a number from 0"),
        ({"depths": 0}, "depths must be at least 1"),
        ({"head_views": 0}, "head_views must be at least 1"),
        ({"head_units": -1}, "head_units must be at least 0"),
        ({"seed": 2**32}, "seed must be below 2**32"),
        ({"epohcs": 3}, "there is no setting 'epohcs'; the settings are base, alpha"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        FinetuneConfig.from_dict(settings)
    assert sentence in str(caught.value)


def test_settings_survive_json() -> None:
    config = FinetuneConfig(alpha=0.35, weights="a.h5", fractions=(0.5, 0.25, 0.25), class_weights=True)
    assert FinetuneConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert FinetuneConfig(base="MobileNetV2", alpha=0.2, weights=None).alpha == 0.2  # any width from the start
    assert set(ALPHAS) == {"MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"}


@pytest.mark.parametrize(("right", "tested"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (124, 141), (5000, 9999)])
def test_the_interval_is_wilsons(right: int, tested: int) -> None:
    expected = binomtest(right, tested).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, tested) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("right", "tested"), [(0, 0), (2, 1), (-1, 3)])
def test_an_interval_of_nothing_is_a_sentence(right: int, tested: int) -> None:
    with pytest.raises(InputError):
        wilson_interval(right, tested)


# Photos on their way to the base.


@pytest.mark.parametrize("kind", ["none", "flip", "light", "strong", "round"])
def test_augmentation_keeps_the_form_and_repeats(kind: str) -> None:
    photo = noise(0, 24)
    once, again = (augment_photo(photo, kind, np.random.default_rng(3)) for _ in range(2))
    assert (once.shape, once.dtype) == (photo.shape, photo.dtype)
    np.testing.assert_array_equal(once, again)
    seen = {augment_photo(photo, kind, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert len(seen) == {"none": 1, "flip": 2}.get(kind, 20)


def test_flipping_mirrors_and_nothing_else() -> None:
    photo = noise(1, 24)
    seen = {augment_photo(photo, "flip", np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert seen == {photo.tobytes(), np.ascontiguousarray(photo[:, ::-1]).tobytes()}


def test_round_has_any_side_up() -> None:
    """A photo that is bright at one edge: in the corners' means that edge may be anywhere."""
    photo = np.zeros((24, 24, 3), np.uint8)
    photo[:6] = 200
    sides: dict[str, Any] = {"top": np.s_[:4], "bottom": np.s_[-4:], "left": np.s_[:, :4], "right": np.s_[:, -4:]}
    seen = set()
    for seed in range(40):
        turned = augment_photo(photo, "round", np.random.default_rng(seed))
        seen.add(max(sides, key=lambda side: turned[sides[side]].mean()))
    assert seen == set(sides)


def test_a_cut_shows_a_part_and_no_border() -> None:
    """A picture of one colour has only that colour after it was cut; brightness and contrast move it as a whole."""
    photo = np.full((24, 24, 3), 100, np.uint8)
    for seed in range(20):
        assert np.ptp(augment_photo(photo, "strong", np.random.default_rng(seed)).reshape(-1, 3), axis=0).max() == 0


class TestBatches:
    pixels = np.stack([noise(seed, 4) for seed in range(20)])
    labels = np.arange(20) % 3
    places = np.arange(1, 18)

    def batches(self, **options: Any) -> PhotoBatches:
        settings = {"effective": 6, "augmentation": "none", **options}
        return PhotoBatches(self.pixels, self.places, self.labels, np.ones(3, np.float32), **settings)

    def numbers(self, batches: PhotoBatches) -> list[int]:
        """Which photos come, told by their pixels."""
        known = {photo.tobytes(): number for number, photo in enumerate(self.pixels)}
        return [known[image.tobytes()] for i in range(len(batches)) for image in batches[i][0]]

    def test_every_photo_comes_once_in_an_epoch_and_in_another_order_in_the_next(self) -> None:
        batches = self.batches(seed=5)
        first = self.numbers(batches)
        batches.on_epoch_end()
        second = self.numbers(batches)
        assert sorted(first) == sorted(second) == self.places.tolist()
        assert first != second
        assert self.numbers(self.batches(seed=5, epoch=1)) == second

    def test_an_epoch_takes_one_view_of_each_photo(self) -> None:
        """Also where views were made before: every photo comes once, as itself or as another view."""
        views = Views(self.pixels, self.places, 3, "light", seed=0)
        arrays, rows = np.stack(list(views)), views.rows
        assert len({array.tobytes() for array in arrays}) == len(arrays) == 20 + 3 * 17
        batches = PhotoBatches(arrays, self.places, self.labels, np.ones(3, np.float32), effective=6, rows=rows)
        known = {array.tobytes(): number for number, array in enumerate(arrays)}
        whose = {int(row): place for place in self.places for row in rows[:, place]}
        taken = []
        for _ in range(2):
            found = [known[image.tobytes()] for i in range(len(batches)) for image in batches[i][0]]
            assert sorted(whose[row] for row in found) == self.places.tolist()
            taken.append(found)
            batches.on_epoch_end()
        assert taken[0] != taken[1]
        assert len({rows[:, place].tolist().index(row) for row in taken[0] for place in [whose[row]]}) == 4

    def test_validation_keeps_its_order(self) -> None:
        assert self.numbers(self.batches(augmentation=None)) == self.places.tolist()

    def test_parts_weigh_what_the_whole_does(self) -> None:
        """The mean over the parts of an update is that over its photos, however few its last has."""
        losses = np.random.default_rng(0).random(20).astype(np.float32)
        whole, parts = self.batches(seed=1), self.batches(seed=1, steps=4)
        known = {photo.tobytes(): number for number, photo in enumerate(self.pixels)}

        def mean(batch: tuple[Any, Any, Any]) -> float:
            images, _, weights = batch
            return float(np.mean(losses[[known[image.tobytes()] for image in images]] * weights))

        for update in range(len(whole)):
            in_parts = np.mean([mean(parts[4 * update + i]) for i in range(4)])
            assert in_parts == pytest.approx(mean(whole[update]), rel=1e-5)

    def test_targets_are_the_classes(self) -> None:
        _, targets, weights = self.batches(augmentation=None)[0]
        assert targets.argmax(1).tolist() == self.labels[1:7].tolist()
        assert weights.tolist() == [1.0] * 6


def test_class_weights_are_scikit_learns() -> None:
    labels = np.array([0] * 30 + [1] * 5 + [2] * 11)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3), expected, rtol=1e-6)
    assert np.mean(class_weights(labels, 3)[labels]) == pytest.approx(1)


# A run.


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Here:
    here = Here(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.transfer.write_extras", write_extras)
        here.result(photos, replace(TINY, copies=True))
    return here


@pytest.fixture(scope="module")
def result(run: Here) -> FinetuneResult:
    found: FinetuneResult = run.told[-1].result
    return found


@pytest.mark.once
class TestRun:
    def test_events_come_in_order(self, run: Here) -> None:
        kinds = [type(event) for event in run.told]
        assert kinds[-1] is Finished
        assert [event.phase for event in run.told if isinstance(event, PhaseBegins)] == ["head", "blocks"]
        assert [event.epoch for event in run.told if isinstance(event, EpochEnd)] == [1, 2, 3, 1, 2]
        whats = list(dict.fromkeys(event.what for event in run.told if isinstance(event, Progress)))
        assert whats == ["looking at photos", "loading the base", "reading photos", "computing features"]
        looked = next(event for event in run.told if isinstance(event, Looked))
        assert (looked.train_images, looked.validation_images, looked.test_images) == (30, 6, 6)
        assert kinds.index(Looked) < kinds.index(PhaseBegins) < kinds.index(EpochEnd)
        assert any(isinstance(event, Memory) and event.peak_bytes > 10**8 for event in run.told)
        assert all(0 < event.step <= event.steps for event in run.told if isinstance(event, Step))

    def test_first_the_head_learns_then_the_last_block_too(self, run: Here) -> None:
        head, blocks = (event for event in run.told if isinstance(event, PhaseBegins))
        assert head.params == blocks.params
        assert head.trainable_params == (16 + 32 + 48) * 8 + 8 + 8 * 3 + 3
        assert head.trainable_params < blocks.trainable_params < blocks.params

    def test_the_history_is_what_the_epochs_told(self, run: Here, result: FinetuneResult) -> None:
        ends = [event for event in run.told if isinstance(event, EpochEnd)]
        assert result.history["phase"] == ["head"] * 3 + ["blocks"] * 2
        for curve in CURVES:
            assert result.history[curve] == [getattr(end, curve) for end in ends]
        assert result.epochs_done == {"head": 3, "blocks": 2}

    def test_a_folder_gives_the_result_back(self, result: FinetuneResult) -> None:
        assert FinetuneResult.load(result.folder) == result

    def test_figures_are_those_of_the_answers(self, result: FinetuneResult) -> None:
        with (result.folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        true, answers = ([row[name] for row in rows] for name in ("true", "answer"))
        assert len(rows) == result.tested_images == result.images["test"] == 6
        assert result.test_accuracy == pytest.approx(metrics.accuracy_score(true, answers))
        assert result.test_interval == wilson_interval(round(result.test_accuracy * 6), 6)
        expected = metrics.confusion_matrix(true, answers, labels=list(result.class_names))
        assert [list(row) for row in result.confusion] == expected.tolist()
        report = metrics.classification_report(true, answers, output_dict=True, zero_division=0.0)
        for name, scores in result.classes.items():
            assert scores.recall == pytest.approx(report[name]["recall"])
            assert scores.precision == pytest.approx(report[name]["precision"])
        wrong = [row["path"] for row in rows if row["true"] != row["answer"]]
        assert sorted(mistake.path for mistake in result.mistakes) == sorted(wrong)

    def test_the_saved_model_gives_these_answers(self, result: FinetuneResult) -> None:
        model, names = load_model(result.folder)
        assert names == result.class_names
        with (result.folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        pixels = np.stack([photo_pixels(Path(row["path"]), 32, "stretch") for row in rows])
        found = np.asarray(model.predict_on_batch(pixels))
        expected = np.array([[float(row[name]) for name in names] for row in rows])
        np.testing.assert_allclose(found, expected, atol=2e-3)

    def test_the_folder_has_all_and_nothing_half_done(self, result: FinetuneResult) -> None:
        names = {path.name for path in result.folder.iterdir()}
        always = {"model.keras", "history.csv", "predictions.csv", "photos.md", "README.md", "result.json", "run.json"}
        pictures = {"history.png", "confusion.png"} | ({"mistakes.png"} if result.mistakes else set())
        copies = {export.file for export in result.exports.values() if export.file}
        assert names == always | pictures | copies | {CHECKPOINT_FILE}

    def test_the_card_tells_how_good_and_what_not_for(self, result: FinetuneResult) -> None:
        card = (result.folder / "README.md").read_text("utf-8")
        assert f"**{result.test_accuracy:.1%} of 6 test photos**" in card
        assert "MobileNet, alpha 0.25" in card
        assert "## What it is not for" in card
        assert "| blue | 10 | 2 | 2 |" in card
        for line in card.splitlines():
            assert "None" not in line

    def test_copies_tell_their_size_and_their_accuracy(self, result: FinetuneResult) -> None:
        whole = (result.folder / "model.keras").stat().st_size
        small = result.exports["int8"]
        assert small.bytes == (result.folder / small.file).stat().st_size < whole
        assert small.test_accuracy == pytest.approx(result.test_accuracy, abs=1 / 6)
        assert "those of dense layers" in small.note

    @pytest.mark.tensorflow
    def test_the_tflite_copy_answers_the_same(self, result: FinetuneResult) -> None:
        copy = result.exports["tflite"]
        assert copy.bytes == (result.folder / copy.file).stat().st_size
        assert "int8 weights; takes float32 32 × 32 × 3 from 0 to 255" in copy.note
        assert copy.test_accuracy == pytest.approx(result.test_accuracy, abs=1 / 6)


@pytest.mark.once
def test_cached_features_are_those_that_the_base_computes_in_every_epoch(photos: Path, tmp_path: Path) -> None:
    config = replace(HEAD_ONLY, dropout=0.0, augmentation="none")
    cached = Here(tmp_path / "cached")
    plain = Here(tmp_path / "plain")
    for here in (cached, plain):
        here.folder.mkdir()
    one = cached.result(photos, config)
    other = plain.result(photos, replace(config, cache_features=False))
    for curve in CURVES:
        np.testing.assert_allclose(one.history[curve], other.history[curve], atol=2e-3)
    assert one.test_accuracy == other.test_accuracy


def test_features_do_not_depend_on_their_neighbours() -> None:
    pooled = make_classifier("MobileNet", 2, scaling="tf", alpha=0.25, image_size=32, weights=None).pooled
    pixels = np.stack([noise(seed, 32) for seed in range(40)])
    together = compute_features(pooled, pixels)
    assert together.shape == (40, 48)
    np.testing.assert_allclose(compute_features(pooled, pixels[35:]), together[35:], atol=1e-5)


@pytest.mark.once
def test_accumulated_parts_learn_what_the_whole_batch_does(photos: Path, tmp_path: Path) -> None:
    """Batch normalization rests, so that this is exact; with the notes' it would not be."""
    config = replace(TINY, head_epochs=1, epochs=1, dropout=0.0)
    for name, batch, steps in (("whole", 8, 1), ("parts", 2, 4)):
        (tmp_path / name).mkdir()
        Here(tmp_path / name).result(photos, replace(config, batch_size=batch, accumulation_steps=steps))
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", 2e-4)


# Stopping and going on.


def at_epoch(phase: str, epoch: int) -> Callable[[object], bool]:
    """Whether an event is the end of this epoch of this phase."""
    seen: list[str] = []

    def happened(event: object) -> bool:
        if isinstance(event, PhaseBegins):
            seen.append(event.phase)
        return isinstance(event, EpochEnd) and event.epoch == epoch and seen[-1] == phase

    return happened


@pytest.mark.once
@pytest.mark.parametrize(("phase", "epoch"), [("head", 2), ("blocks", 1)])
def test_a_stopped_run_goes_on_to_the_weights_that_it_would_have_had(
    photos: Path, run: Here, tmp_path: Path, phase: str, epoch: int
) -> None:
    stopped = Here(tmp_path, stop_at=at_epoch(phase, epoch)).result(photos, TINY)
    assert stopped.stopped
    assert f"stopped in epoch {epoch + 1}" in stopped.note
    assert FinetuneResult.load(tmp_path).epochs_done[phase] == epoch
    resumed = Here(tmp_path).result(photos, TINY, resume=True)
    assert not resumed.stopped
    assert resumed.history["phase"] == ["head"] * 3 + ["blocks"] * 2
    assert_same_weights(tmp_path, run.folder, 1e-5)


@pytest.mark.once
def test_a_finished_run_goes_on_to_what_it_was(photos: Path, run: Here, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "again")
    again = Here(tmp_path / "again")
    assert again.result(photos, replace(TINY, copies=True), resume=True).history == run.told[-1].result.history
    assert not any(isinstance(event, EpochEnd) for event in again.told)
    assert_same_weights(tmp_path / "again", run.folder, 1e-6)


@pytest.mark.parametrize("at", [Progress, Looked])
def test_a_run_that_is_stopped_at_its_start_has_nothing(photos: Path, tmp_path: Path, at: type) -> None:
    last = Here(tmp_path, stop_at=lambda event: isinstance(event, at)).run(photos, HEAD_ONLY)
    assert last == Failed(NOTHING_LEARNED)
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "result.json").exists()


@pytest.mark.once
@pytest.mark.skipif(not can_fork(), reason="needs a process that starts quickly")
def test_a_stop_from_outside_is_answered_soon(photos: Path, tmp_path: Path) -> None:
    stop, since = threading.Event(), 0.0
    config = replace(TINY, head_epochs=10**6)
    for event in finetune(photos, config, tmp_path, stop):
        if isinstance(event, EpochEnd) and event.epoch == 3:
            stop.set()
            since = time.monotonic()
    assert isinstance(event, Finished), event
    assert event.result.stopped
    assert event.result.tested_images == 6
    assert time.monotonic() - since < 5  # a second on an idle machine: `bench finetuning` tells


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_killed_run_loses_one_epoch_at_most(photos: Path, tmp_path: Path) -> None:
    """As soon as the parent has heard of an epoch, the checkpoint has it; the next sitting begins with the next."""
    config = replace(HEAD_ONLY, head_epochs=400)
    worker = start_worker(FinetuneTask(str(photos), config), tmp_path)
    ended = 0
    for event in worker.events():
        if isinstance(event, EpochEnd) and worker.pid and not ended:
            ended = event.epoch
            os.kill(worker.pid, signal.SIGKILL)
    assert isinstance(event, Failed)
    assert "go on from it with resume" in event.message
    assert load_checkpoint(tmp_path / CHECKPOINT_FILE).epochs_done >= ended
    first = next(event for event in finetune(photos, config, tmp_path, resume=True) if isinstance(event, PhaseBegins))
    assert first.epochs_done >= ended


def broken_checkpoint(path: Path, how: str) -> None:
    if how == "pickle":
        np.savez(path, words=np.array([{"key": 1}], object), allow_pickle=True)
    elif how == "no words":
        np.savez(path, weights0=np.zeros(2))
    elif how == "other words":
        np.savez(path, words=np.array(json.dumps({"kez": 1})))
    elif how == "text":
        path.write_bytes(b"checkpoint")
    elif how == "cut":
        np.savez(path, words=np.array(json.dumps({"key": "1"})), weights0=np.zeros(2000))
        path.write_bytes(path.read_bytes()[:900])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "python":
        path.write_bytes(pickle.dumps({"key": 1}))


@pytest.mark.parametrize("how", ["missing", "empty", "text", "cut", "pickle", "python", "no words", "other words"])
def test_a_broken_checkpoint_is_a_sentence(tmp_path: Path, how: str) -> None:
    path = tmp_path / CHECKPOINT_FILE
    broken_checkpoint(path, how)
    with pytest.raises(InputError, match="begin without resume" if how == "missing" else "is damaged") as caught:
        load_checkpoint(path)
    assert "Traceback" not in str(caught.value)


@pytest.mark.once
def test_only_the_same_run_goes_on(photos: Path, run: Here, tmp_path: Path) -> None:
    last_folder = shutil.copytree(run.folder, tmp_path / "other")
    last = Here(last_folder).run(photos, replace(TINY, seed=1), resume=True)
    assert isinstance(last, Failed)
    assert "is a run with other photos, settings or weights" in last.message
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (run.folder, last_folder)
    )
    assert before == after


# What cannot be run.


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (replace(HEAD_ONLY, weights="nowhere.h5"), "there is no file nowhere.h5"),
        (replace(HEAD_ONLY, base="Xception", alpha=1.0, image_size=48), "Xception cannot be built for 48 × 48 pixels"),
        (replace(TINY, unfrozen_blocks=99), "has 3 blocks and 99 were to learn"),
        (replace(HEAD_ONLY, fractions=(0.98, 0.01, 0.02)), "the fractions of training, validation and test"),
    ],
)
@pytest.mark.once
def test_what_cannot_be_run_is_a_sentence(photos: Path, tmp_path: Path, config: FinetuneConfig, sentence: str) -> None:
    last = Here(tmp_path).run(photos, config)
    assert isinstance(last, Failed)
    assert sentence in last.message
    assert not (tmp_path / "result.json").exists()
    assert not list(tmp_path.glob(".part-*"))


def test_photos_that_are_nowhere_are_told_at_once(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", "x" * 5000):
        with pytest.raises(InputError, match="there is nothing at"):
            finetune(place)


@pytest.mark.once
def test_a_batch_that_does_not_fit_comes_in_parts_that_learn_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, head_epochs=1, epochs=1, dropout=0.0)
    rows = read_model(classifier_of(config, 3).base, (32, 32, 3))
    parts = predict_memory(rows, 2, execution=system.default_execution(), accumulation_steps=4).process_bytes
    for name, room in (("whole", 10**12), ("parts", parts)):
        monkeypatch.setattr("toolkit.transfer._room", lambda room=room: room)
        (tmp_path / name).mkdir()
        result = Here(tmp_path / name).result(photos, config)
        assert result.made_with["photos_at_once"] == {"whole": 8, "parts": 2}[name]
        assert result.config == config
    assert_same_weights(tmp_path / "whole", tmp_path / "parts", 2e-4)


@pytest.mark.once
def test_a_run_without_memory_for_one_photo_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.transfer._room", lambda: 10**6)
    last = Here(tmp_path).run(photos, TINY)
    assert isinstance(last, Failed)
    assert last.message.startswith("MobileNet needs about")
    assert "in all to train with one image at a time and 1.00 MB may be used" in last.message


@pytest.mark.once
def test_numbers_that_run_away_end_the_run_and_the_best_epoch_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a loss is no number, the weights after it are none: those of the best epoch before are the result."""
    plain = PhotoBatches.__getitem__
    told: list[str | None] = []  # the second phase alone augments; its first epoch ends with its validation

    def broken(batches: PhotoBatches, index: int) -> tuple[Any, Any, Any]:
        images, targets, weights = plain(batches, index)
        if told or batches._augmentation == "flip":
            told.append(batches._augmentation)
        spoilt = batches._augmentation == "flip" and None in told
        return images, targets, weights * np.float32(np.nan) if spoilt else weights

    monkeypatch.setattr(PhotoBatches, "__getitem__", broken)
    result = Here(tmp_path).result(photos, TINY)
    assert result.stopped
    assert result.note.startswith("the loss was no longer a number in epoch 2, so the run ended")
    assert result.note.endswith("the learning rate 0.0001 is too high here, try 1e-05")
    assert result.epochs_done == {"head": 3, "blocks": 1}
    assert all(np.isfinite(array).all() for array in weights_in(tmp_path))
    assert FinetuneResult.load(tmp_path) == result


@pytest.mark.once
def test_numbers_that_run_away_at_once_leave_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.transfer.class_weights", lambda labels, classes: np.full(classes, np.nan, np.float32))
    last = Here(tmp_path).run(photos, replace(HEAD_ONLY, class_weights=True))
    assert isinstance(last, Failed)
    assert "the loss was no longer a number in epoch 1" in last.message
    assert not (tmp_path / "result.json").exists()


# A folder that something else lies in.


@pytest.mark.once
def test_files_of_others_are_not_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    last = Here(tmp_path).run(photos, HEAD_ONLY)
    assert isinstance(last, Failed)
    assert "holds a README.md that is of no fine-tuning" in last.message
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"README.md": "mine"}


@pytest.mark.once
def test_a_new_run_in_the_folder_of_an_old_one_leaves_nothing_of_it(photos: Path, run: Here, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "again")
    (tmp_path / "again" / ".part-killed").mkdir()
    (tmp_path / "again" / f"{CHECKPOINT_FILE}.part").write_bytes(b"half")
    config = replace(HEAD_ONLY, weights="nowhere.h5")
    assert isinstance(Here(tmp_path / "again").run(photos, config), Failed)
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"run.json"}


@pytest.mark.once
def test_a_stop_while_copies_are_made_keeps_the_result(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(tmp_path)

    def stopped_meanwhile(*_: object) -> None:
        here.stop.set()
        time.sleep(10)

    monkeypatch.setattr("toolkit.transfer.write_extras", write_extras)
    monkeypatch.setattr("toolkit.outcomes.export_copies", stopped_meanwhile)
    result = here.result(photos, replace(HEAD_ONLY, head_epochs=1, copies=True))
    assert here.stop.is_set()
    assert not result.stopped
    assert result == FinetuneResult.load(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("model.keras", "history.csv", "predictions.csv", "photos.md", "README.md", "result.json", "run.json"),
        CHECKPOINT_FILE,
    }


def test_a_run_that_was_ended_after_its_result_has_it(run: Here, photos: Path) -> None:
    """As when it is killed while it makes copies; the result of an earlier run in the same folder is not taken."""
    ending = Ending(run.folder, -9, stopped=True, killed=True, log="")
    last = FinetuneTask(str(photos), TINY, begun=0.0).ended(ending)
    assert isinstance(last, Finished)
    assert last.result == FinetuneResult.load(run.folder)
    for task in (FinetuneTask(str(photos), TINY), FinetuneTask(str(photos), TINY, begun=time.time() + 60)):
        assert isinstance(task.ended(ending), Failed)


# Photos that lie elsewhere.


@pytest.mark.once
def test_a_list_of_photos_on_the_internet_is_fetched_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_source(photos)
    fetched: list[Path] = []

    def fetch(source: Source, folder: Path, **options: object) -> Path:
        fetched.append(folder)
        assert options["image_size"] == 32
        assert options["fit"] == "pad"
        return shutil.copytree(photos, folder)

    monkeypatch.setattr("toolkit.transfer.fetch_photos", fetch)
    urls = [f"https://example.org/{number}.jpg" for number in range(len(found))]
    source = write_list(Source(urls, found.labels, found.class_names), tmp_path / "urls.csv")
    config = replace(HEAD_ONLY, head_epochs=1, fit="pad")
    (tmp_path / "run").mkdir()
    Here(tmp_path / "run", stop_at=at_epoch("head", 1)).result(source, config)
    Here(tmp_path / "run").result(source, config, resume=True)
    assert len(fetched) == 1


# The five faults of the notes: the damage that each does, and that ours has not.


class TestNotes:
    """The notes' code, as far as it runs, beside ours."""

    def test_the_number_of_classes_comes_from_the_photos(self, photos: Path) -> None:
        notes = "keras.layers.Dense(num_classes, activation='softmax')"
        with pytest.raises(NameError, match="num_classes"):
            eval(notes, {"keras": keras})
        names = check_photos(photos).class_names
        assert names == ("blue", "green", "red")
        assert make_classifier(
            "MobileNet", len(names), scaling="tf", alpha=0.25, image_size=32, weights=None
        ).model.output_shape == (None, 3)

    def test_halved_contrast_is_not_what_the_base_learned_from(self) -> None:
        """What a convolution with batch normalization has come to expect of [-1, 1] is half as strong on [0, 1]."""
        pixels = np.stack([noise(seed, 32) for seed in range(32)]).astype(np.float32)
        (ours,) = scaling_layers("tf")
        right, notes = keras.ops.convert_to_numpy(ours(pixels)), pixels / 255
        layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(momentum=0.0)]
        layer = keras.Sequential(layers)
        layer(right, training=True)  # as the base met its photos
        spread = {
            name: float(np.asarray(layer(x, training=False)).std((0, 1, 2)).mean())
            for name, x in (("us", right), ("them", notes))
        }
        assert spread["us"] == pytest.approx(1, abs=0.05)
        assert spread["them"] == pytest.approx(0.5, abs=0.05)

    @pytest.mark.skipif(not IMAGENET.is_file(), reason="needs ImageNet's weights")
    @pytest.mark.once
    def test_on_the_wrong_scale_mobilenet_sees_other_things(self) -> None:
        rng, photos = np.random.default_rng(0), load_sample_images().images
        corners = [(rng.integers(0, 200), rng.integers(0, 400)) for _ in range(8)]
        cuts = [photo[top : top + 224, left : left + 224] for photo in photos for top, left in corners]
        pixels = np.stack(cuts).astype(np.float32)
        model = keras.applications.MobileNetV2(weights="imagenet")
        expected = keras.applications.mobilenet_v2.preprocess_input(pixels.copy())
        (ours,) = scaling_layers("tf")
        answers = [
            np.asarray(model.predict(x, verbose=0)).argmax(1)
            for x in (expected, keras.ops.convert_to_numpy(ours(pixels)), pixels / 255)
        ]
        assert (answers[0] == answers[1]).all()
        assert (answers[0] == answers[2]).mean() < 0.9

    def test_validation_photos_stay_as_they_are(self, photos: Path) -> None:
        report = check_photos(photos)
        split = split_photos(report)
        pixels = np.stack([photo_pixels(photo.path, 32, "stretch") for photo in report.photos])
        plain = np.ones(3, np.float32)
        validation = PhotoBatches(pixels, split.validation, report.labels, plain, effective=6)
        train = PhotoBatches(pixels, split.train, report.labels, plain, effective=30, augmentation="light")
        looks = [validation[0][0].copy(), train[0][0].copy()]
        for batches in (validation, train):
            batches.on_epoch_end()
        np.testing.assert_array_equal(validation[0][0], looks[0])
        np.testing.assert_array_equal(looks[0], pixels[split.validation])
        assert not np.array_equal(np.sort(train[0][0], axis=0), np.sort(looks[1], axis=0))
        # The notes' one generator does to validation what it does to training: two looks at it differ.
        notes = keras.layers.RandomRotation(0.2, seed=0)
        assert not np.array_equal(
            np.asarray(notes(looks[0].astype(np.float32), training=True)),
            np.asarray(notes(looks[0].astype(np.float32), training=True)),
        )

    @pytest.mark.tensorflow
    def test_no_folder_lies_unused_and_no_photo_is_in_two_parts(self, tmp_path: Path) -> None:
        for number, part in enumerate(("train", "val")):
            save_photos(tmp_path / part, each=20, first=100 * number)
        with_notes = keras.utils.image_dataset_from_directory(
            tmp_path / "train", validation_split=0.2, subset="validation", seed=0, image_size=(32, 32), verbose=False
        )
        assert not any("val" in Path(path).parts for path in with_notes.file_paths)  # the damage: 60 photos unused
        split = split_photos(check_photos(tmp_path))
        numbers = np.concatenate(list(split.parts.values()))
        assert sorted(numbers.tolist()) == list(range(120))
        assert {split.report.photos[number].path.parts[-3] for number in split.validation} == {"val"}
        assert len(split.validation) == 60

    @pytest.mark.once
    def test_batch_normalization_of_the_base_rests_also_while_its_blocks_learn(
        self, photos: Path, tmp_path: Path
    ) -> None:
        """With the rate at next to nothing, a run must not change what the base computes; the notes' does."""
        pixels = np.stack([noise(seed, 32) for seed in range(16)])
        keras.utils.set_random_seed(0)
        base = tiny_base((32, 32, 3), 0.25, False, None)
        entry = keras.Input((32, 32, 3))
        # training=False, which guides advise for this, changes nothing: in Keras 3.15 `fit` says True to every layer.
        features = keras.layers.GlobalAveragePooling2D()(base(entry, training=False))
        notes = keras.Model(entry, keras.layers.Dense(3, activation="softmax")(features))
        base.trainable = True
        notes.compile(keras.optimizers.SGD(1e-12), "sparse_categorical_crossentropy")
        before = notes.predict(pixels / 255, verbose=0)
        notes.fit(pixels / 255, np.arange(16) % 3, epochs=2, verbose=0)
        assert np.abs(notes.predict(pixels / 255, verbose=0) - before).max() > 1e-4  # the damage

        config = replace(
            TINY, learning_rate=1e-12, unfrozen_blocks=3, epochs=1, head_learning_rate=1e-12, head_epochs=1
        )
        untouched = make_classifier("MobileNet", 3, scaling="tf", alpha=0.25, image_size=32, weights=None)
        Here(tmp_path).result(photos, config)
        model, _ = load_model(tmp_path)

        def statistics(of: keras.Model) -> dict[tuple[str, ...], NDArray[Any]]:
            """By the names of a layer and of what it keeps; the standardized features of the head are none of these."""
            kept = {tuple(each.path.split("/")[-2:]): np.asarray(each) for each in of.variables}
            return {name: array for name, array in kept.items() if name[1].startswith("moving_")}

        before_it, after_it = statistics(untouched.base), statistics(model)
        assert len(before_it) > 2
        for name, array in before_it.items():
            np.testing.assert_array_equal(after_it[name], array)
        assert len(weights_digest(model)) == 64


@pytest.mark.once
def test_a_run_in_its_own_process_tells_the_same(photos: Path, tmp_path: Path) -> None:
    *_, last = finetune(read_source(photos), HEAD_ONLY, tmp_path, threads=1)
    assert isinstance(last, Finished), last
    assert last.result.folder == tmp_path
    assert last.result.made_with["threads"] == 1
    assert (tmp_path / "model.keras").is_file()
    assert not (tmp_path / "log.txt").exists()
