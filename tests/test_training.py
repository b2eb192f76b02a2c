"""Training runs: real ones, tiny, in processes of their own. Keras is the oracle for what they report and write."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from toolkit import export, system
from toolkit.augmenting import Augmented, augment
from toolkit.costs import trace
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.fitting import Accumulated, _require_memory, built, compiled, prepare
from toolkit.forward import forward, load_weights
from toolkit.keras_files import read_keras_file
from toolkit.layers import Architecture, Branches, Conv2D, Dense, Dropout, Flatten, Rescaling
from toolkit.loading import load_dataset
from toolkit.processes import Ending, can_fork, start_worker
from toolkit.recipes import RECIPES, Recipe
from toolkit.runtimes import predict_memory
from toolkit.training import (
    CURVES,
    ENDED,
    NOTHING_LEARNED,
    Done,
    EpochEnd,
    Event,
    Failed,
    Memory,
    Parts,
    Started,
    Step,
    TrainConfig,
    TrainResult,
    network_of,
    split_sizes,
    train,
)

ROOT = Path(__file__).parent.parent
DIGITS = DATASETS["digits"]
TINY = TrainConfig(channels=2, epochs=2, train_limit=300)
# A stop takes a second at most, as `bench training` measures; a second more where other tests run beside this one.
SOON = 2.0
ENDLESS = replace(TINY, epochs=100_000, schedule="constant")
# A fresh Python imports Keras and its backend first; a fork has them.
WAIT = 30.0 if can_fork() else 90.0

ours_is_forked = pytest.mark.skipif(not can_fork(), reason="only forked workers start quickly enough to time them")


def last(events: Iterator[Event]) -> Event:
    *_, final = events
    return final


def result_of(config: TrainConfig, folder: Path) -> TrainResult:
    final = last(train(config, folder, threads=1))
    assert isinstance(final, Done), final
    return final.result


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """The events of one tiny run."""
    return list(train(TINY, tmp_path_factory.mktemp("tiny"), threads=1))


@pytest.fixture(scope="module")
def result(told: list[Event]) -> TrainResult:
    assert isinstance(told[-1], Done), told[-1]
    return told[-1].result


# Settings.


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dataset": "mnits"}, "'mnits' is neither a dataset (digits, mnist"),
        ({"dataset": 5}, "dataset must be a name or the path of a folder; 5 came"),
        ({"dataset": "a\0b"}, "is neither a dataset"),
        ({"dataset": "x" * 5000}, "is neither a dataset"),
        ({"architecture": "resnet"}, "architecture must be one of three_layers, "),
        ({"architecture": None}, "architecture must be one of three_layers, "),
        ({"architecture": ["small_cnn"]}, "architecture must be one of three_layers, "),
        ({"optimizer": "adamw"}, "optimizer must be one of adam, sgd; 'adamw' came"),
        ({"augmentation": "rotate"}, "augmentation must be one of none, shift, flip, shift_flip; 'rotate' came"),
        ({"schedule": "step"}, "schedule must be one of constant, cosine, plateau; 'step' came"),
        ({"channels": 0}, "channels must be at least 1; 0 came; give 1 or more"),
        ({"channels": "16"}, "channels must be a whole number; '16' came"),
        ({"channels": True}, "channels must be a whole number; True came"),
        ({"channels": 1.5}, "channels must be a whole number; 1.5 came"),
        ({"dropout": 1.0}, "dropout must be a number from 0 and below 1; 1.0 came; give one such as 0.25"),
        ({"dropout": -0.1}, "dropout must be a number from 0 and below 1"),
        ({"dropout": "a lot"}, "dropout must be a number from 0 and below 1; 'a lot' came"),
        ({"momentum": 1}, "momentum must be a number from 0 and below 1; 1 came"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0 and below 100; 0 came"),
        ({"learning_rate": -0.1}, "learning_rate must be a number above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be a number above 0 and below 100; nan came"),
        ({"learning_rate": math.inf}, "learning_rate must be a number above 0 and below 100; inf came"),
        ({"learning_rate": False}, "learning_rate must be a number above 0"),
        ({"learning_rate": None}, "learning_rate must be a number above 0"),
        ({"epochs": 0}, "epochs must be at least 1; 0 came"),
        ({"epochs": "three"}, "epochs must be a whole number; 'three' came"),
        ({"batch_size": 0}, "batch_size must be at least 1; 0 came"),
        ({"batch_size": 1295}, "a batch of 1295 is larger than the 1294 training images of digits that are used"),
        ({"batch_size": 100, "train_limit": 100}, "a batch of 100 is larger than the 90 training images"),
        ({"accumulation_steps": 0}, "accumulation_steps must be at least 1; 0 came"),
        ({"accumulation_steps": "two"}, "accumulation_steps must be a whole number; 'two' came"),
        (
            {"accumulation_steps": 22},
            "22 batches of 64 in one update are more than the 1294 training images of digits that are used; give at "
            "most 21 accumulation_steps, or more images",
        ),
        (
            {"accumulation_steps": 5, "effective_batch": 321},
            "5 batches of at most 64 hold 5 to 320 images and an effective_batch of 321 came; give a number between",
        ),
        ({"accumulation_steps": 5, "effective_batch": 4}, "hold 5 to 320 images and an effective_batch of 4 came"),
        ({"effective_batch": 0}, "effective_batch must be at least 1; 0 came"),
        ({"validation_fraction": 0}, "validation_fraction must be a number above 0 and below 1; 0 came"),
        ({"validation_fraction": 1}, "validation_fraction must be a number above 0 and below 1; 1 came"),
        ({"train_limit": 0}, "train_limit must be at least 1; 0 came"),
        ({"train_limit": 9}, "train_limit must be at least 10, one image for each class; 9 came"),
        ({"train_limit": "all"}, "train_limit must be a whole number; 'all' came"),
        ({"seed": -1}, "seed must be at least 0; -1 came"),
        ({"seed": 2**32}, "seed must be below 2**32 = 4294967296"),
        ({"network": "small_cnn"}, "a network is described by its name, input_shape and layers"),
        (
            {"recipe": "leen_cifar"},
            "there is no recipe 'leen_cifar'; the nearest is 'lean_cifar'; choose one of notes, ",
        ),
        ({"recipe": 5}, "recipe must be a name or a Recipe; int came"),
        ({"recipe": {"optimiser": "sgd"}}, "a recipe has no 'optimiser'; it has name, optimizer, "),
        (
            {"recipe": "notes", "optimizer": "sgd"},
            "the recipe 'notes' decides on optimizer, momentum, schedule, augmen",
        ),
        ({"chanels": 3}, "there is no setting 'chanels'; the settings are dataset, architecture, channels"),
        ({"network": {"name": "x"}}, "a network is described by its name, input_shape and layers"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig.from_dict(settings)
    assert sentence in str(caught.value)


def test_a_network_is_a_description() -> None:
    with pytest.raises(InputError, match="network must be an Architecture or None; str came"):
        TrainConfig(network="small_cnn")  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    own = Architecture("own", (28, 28, 1), (Conv2D(3, 3), Flatten(), Dense(10, activation="softmax")))
    config = TrainConfig(dataset="Fashion-MNIST", network=own, seed=7, train_limit=500, schedule="plateau")
    config = replace(config, accumulation_steps=3, effective_batch=150)
    by_recipe = TrainConfig(recipe="lean_mnist", epochs=2)
    assert TrainConfig.from_dict(json.loads(json.dumps(by_recipe.to_dict()))) == by_recipe
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.dataset == "fashion_mnist"
    assert TrainConfig.from_dict({}) == TrainConfig()


@pytest.mark.parametrize("limit", [None, 300])
def test_foretold_sizes_are_those_of_the_arrays(limit: int | None) -> None:
    config = replace(TINY, train_limit=limit)
    data = prepare(config)
    told = split_sizes(config, DIGITS)
    assert sum(told) == len(data.x_train) + len(data.x_validation)
    assert abs(told[0] - len(data.x_train)) <= DIGITS.classes


def test_a_recipe_gives_what_is_not_given() -> None:
    recipe = RECIPES["lean_mnist"]
    config = TrainConfig(recipe=recipe, epochs=2, batch_size=32)
    assert (config.epochs, config.batch_size, config.learning_rate) == (2, 32, recipe.learning_rate)
    assert config.learning == replace(recipe, epochs=2, batch_size=32)
    assert TrainConfig(recipe="lean_mnist", learning_rate=0.5).learning.learning_rate == 0.5
    plain = TrainConfig(optimizer="sgd", momentum=0.5, schedule="plateau", epochs=4).learning
    assert plain == Recipe(
        optimizer="sgd", momentum=0.5, nesterov=False, schedule="plateau", epochs=4, learning_rate=2e-3
    )


def test_half_precision_ends_before_the_probabilities() -> None:
    net = network_of(TrainConfig(channels=2), DIGITS)
    model = built(net, 0, "mixed_bfloat16")
    kinds = {layer.name: layer.compute_dtype for layer in model.layers}
    assert (kinds["conv2"], kinds["predictions"]) == ("bfloat16", "float32")
    assert {weight.dtype for weight in model.weights} == {"float32"}
    images = load_dataset("digits").x_test[:64]
    half, full = (np.asarray(each.predict_on_batch(images)) for each in (model, built(net, 0)))
    assert half.dtype == np.float32
    assert np.abs(half.sum(axis=1) - 1).max() < 1e-5
    assert 0 < np.abs(half - full).max() < 0.02
    assert keras.config.dtype_policy().name == "float32"


class TestNetwork:
    def test_takes_the_images_as_they_are(self) -> None:
        net = network_of(TrainConfig(dataset="cifar10", channels=8), DATASETS["cifar10"])
        assert net.input_shape == (32, 32, 3)
        assert isinstance(net.layers[0], Rescaling)
        assert [row.layer.filters for row in trace(net) if isinstance(row.layer, Conv2D)] == [8, 16, 32]

    def test_channels_and_dropout_go_where_they_are_known(self) -> None:
        small = trace(network_of(TrainConfig(channels=3, dropout=0.5), DIGITS))
        assert [row.layer.rate for row in small if isinstance(row.layer, Dropout)] == [0.5]
        assert network_of(TrainConfig(architecture="dense_baseline"), DIGITS).name == "dense_baseline"

    def test_an_own_network_keeps_its_own_scaling(self) -> None:
        layers = (Rescaling(scale=2 / 255, offset=-1.0), Flatten(), Dense(10, activation="softmax"))
        own = Architecture("own", (28, 28, 1), layers)
        assert network_of(TrainConfig(network=own), DIGITS) == own

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"architecture": "vgg16"}, "vgg16: "),
            ({"architecture": "fcn8s"}, "fcn8s: "),
            (
                {"network": Architecture("own", (32, 32, 3), (Flatten(), Dense(10, activation="softmax")))},
                "own takes images of 32 × 32 × 3 and those of digits are 28 × 28 × 1",
            ),
            (
                {"network": Architecture("own", (28, 28, 1), (Flatten(), Dense(10)))},
                'it has to end in Dense(10, activation="softmax")',
            ),
            (
                {"network": Architecture("own", (28, 28, 1), (Flatten(), Dense(9, activation="softmax")))},
                "own ends in Dense with 9 numbers; to tell the 10 classes of digits apart",
            ),
            ({"network": Architecture("own", (28, 28, 1), ())}, "own ends in Rescaling with 28 × 28 × 1 numbers"),
        ],
    )
    def test_one_that_does_not_fit_is_a_sentence_before_anything_runs(
        self, settings: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            train(TrainConfig(**settings))
        assert sentence in str(caught.value)


# What a run reports.


def test_events_tell_the_run_in_order(told: list[Event]) -> None:
    started, done = told[0], told[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert (started.epochs, started.params) == (2, done.result.params)
    assert started.steps_per_epoch == math.ceil(started.train_images / TINY.batch_size)
    assert started.train_images + started.validation_images == TINY.train_limit
    kinds = Counter(type(event) for event in told)
    assert (kinds[Started], kinds[EpochEnd], kinds[Done], kinds[Failed]) == (1, 2, 1, 0)
    steps = [(event.epoch, event.step) for event in told if isinstance(event, Step)]
    assert steps == sorted(set(steps))
    assert 1 <= len(steps) <= 1 + 5 * done.result.seconds
    assert [event.epoch for event in told if isinstance(event, EpochEnd)] == [1, 2]
    assert all(0 < event.rss_bytes <= event.peak_bytes + 2**20 for event in told if isinstance(event, Memory))


def test_the_history_is_what_the_epochs_told(told: list[Event], result: TrainResult) -> None:
    ends = [event for event in told if isinstance(event, EpochEnd)]
    assert set(result.history) == set(CURVES)
    for curve in CURVES:
        assert result.history[curve] == [getattr(end, curve) for end in ends]
    assert result.epochs_done == 2
    assert not result.stopped
    assert result.note == ""


def test_the_files_hold_the_result(result: TrainResult) -> None:
    names = {"model.keras", "weights.npz", "predictions.npz", "history.csv", "result.json", "run.py"}
    assert {path.name for path in result.folder.iterdir()} == names
    assert TrainResult.load(result.folder) == result
    with (result.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert [float(row["val_loss"]) for row in rows] == result.history["val_loss"]


def test_predictions_agree_with_all_figures(result: TrainResult) -> None:
    labels = load_dataset("digits").y_test
    with np.load(result.folder / "predictions.npz") as file:
        probabilities, index = file["probabilities"], file["index"]
    assert index.tolist() == list(range(result.tested_images)) == list(range(DIGITS.test_size))
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    answers = probabilities.argmax(axis=1)
    counted = Counter(zip(labels.tolist(), answers.tolist(), strict=True))
    assert result.confusion == tuple(tuple(counted[true, said] for said in range(10)) for true in range(10))
    assert result.test_accuracy == pytest.approx((answers == labels).mean())
    assert result.test_loss == pytest.approx(-np.log(probabilities[index, labels]).mean(), rel=1e-5)
    for number, name in enumerate(DIGITS.class_names):
        assert result.per_class_accuracy[name] == pytest.approx((answers[labels == number] == number).mean())


def test_keras_measures_the_same_with_the_saved_model(result: TrainResult) -> None:
    data = load_dataset("digits")
    model = keras.saving.load_model(result.folder / "model.keras")
    loss, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    assert (loss, accuracy) == pytest.approx((result.test_loss, result.test_accuracy), rel=1e-4)
    assert model.count_params() == result.params


def test_the_saved_network_and_weights_predict_without_keras(result: TrainResult) -> None:
    rows = read_keras_file(result.folder / "model.keras")
    assert sum(row.params for row in rows) == result.params
    ours = forward(rows, load_weights(result.folder / "weights.npz"), load_dataset("digits").x_test[:50])
    with np.load(result.folder / "predictions.npz") as file:
        assert np.abs(ours - file["probabilities"][:50]).max() < 1e-5


def test_speed_time_and_memory_are_plausible(result: TrainResult) -> None:
    assert 0 < result.seconds < WAIT
    assert result.images_per_second > TINY.epochs * 200 / result.seconds  # the first step took most of the time
    assert 100e6 < result.peak_memory_bytes < 4e9
    assert result.made_with["threads"] == 1
    assert result.made_with["keras"] == keras.__version__


def test_same_seed_same_curves_and_another_seed_others(result: TrainResult, tmp_path: Path) -> None:
    again = result_of(TINY, tmp_path / "again")
    assert again.history == result.history
    assert (again.test_loss, again.confusion) == (result.test_loss, result.confusion)
    other = result_of(replace(TINY, seed=1), tmp_path / "other")
    assert other.history["loss"] != result.history["loss"]


@pytest.mark.once
def test_the_scripts_give_the_same_curves_without_the_app(tmp_path: Path) -> None:
    augmented = replace(TINY, augmentation="shift_flip", optimizer="sgd", learning_rate=0.05, schedule="plateau")
    accumulated = replace(TINY, accumulation_steps=3, effective_batch=160)
    configs = [TINY, augmented, accumulated, replace(accumulated, augmentation="shift", optimizer="sgd")]
    recipe = Recipe(optimizer="muon", schedule="one_cycle", warmup=0.3, flip="random", shift=1, label_smoothing=0.1)
    recipe = replace(recipe, precision="mixed_bfloat16", mixup=0.3, weight_averaging=0.9, weight_decay=0.01)
    configs.append(replace(TINY, recipe=recipe, learning_rate=0.01))
    results = [result_of(config, tmp_path / str(number)) for number, config in enumerate(configs)]
    code = "import json, runpy; [print(json.dumps(runpy.run_path(path)['history'].history)) for path in {paths}]"
    paths = [str(result.folder / "run.py") for result in results]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code.format(paths=paths), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    curves = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    for result, again in zip(results, curves, strict=True):
        assert {curve: again[curve] for curve in CURVES} == result.history
        assert f"test accuracy {result.test_accuracy:.4f}, test loss {result.test_loss:.4f}" in ran.stdout
    assert (tmp_path / "model.keras").is_file()


@pytest.mark.once
def test_schedules_move_the_learning_rate(told: list[Event], tmp_path: Path) -> None:
    def rates(events: Iterable[Event]) -> list[float]:
        return [event.learning_rate for event in events if isinstance(event, EpochEnd)]

    assert rates(told) == pytest.approx([TINY.learning_rate / 2, 0], abs=1e-6)  # half a cosine
    # A rate this high makes the validation loss rise in some epoch of so few.
    rough = replace(TINY, train_limit=100, schedule="plateau", epochs=6, optimizer="sgd", learning_rate=5.0)
    falling = rates(train(rough, tmp_path, threads=1))
    assert falling[0] == 5.0
    assert falling[-1] in {5.0 / 2**halvings for halvings in range(1, 6)}


# Accumulation.

# Neither batch normalization nor dropout: with these, parts of a batch are not the batch.
PLAIN = Architecture(
    "plain",
    (28, 28, 1),
    (
        Conv2D(8, 5, strides=3, activation="relu"),
        Conv2D(16, 3, strides=2, activation="relu"),
        Flatten(),
        Dense(10, activation="softmax"),
    ),
)
# Augmented images come in the same order however they are computed.
WHOLE = TrainConfig(network=PLAIN, batch_size=300, epochs=4, learning_rate=0.01, augmentation="shift")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Large batches: 1294 images in four of 300 and one of 94."""
    return result_of(WHOLE, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    [(64, 5), pytest.param(43, 7, marks=pytest.mark.tensorflow), pytest.param(3, 100, marks=pytest.mark.tensorflow)],
)
def test_accumulated_training_equals_large_batches(
    whole: TrainResult, tmp_path: Path, batch_size: int, steps: int
) -> None:
    """300 as 5 × 60, with a remainder of 94 that 5 does not divide and that is less than 100 parts."""
    config = replace(WHOLE, batch_size=batch_size, accumulation_steps=steps, effective_batch=300)
    result = result_of(config, tmp_path)
    assert result.history["loss"][-1] < 0.8 * result.history["loss"][0]
    for curve in CURVES:
        assert result.history[curve] == pytest.approx(whole.history[curve], abs=1e-5)
    assert result.test_loss == pytest.approx(whole.test_loss, abs=1e-5)
    large, small = (load_weights(folder / "weights.npz") for folder in (whole.folder, tmp_path))
    assert all(np.abs(a - b).max() < 1e-5 for name in large for a, b in zip(large[name], small[name], strict=True))


@pytest.mark.tensorflow  # JAX compiles each size of a part anew; the test above holds the same there
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_every_update_is_that_of_the_large_batch(optimizer: str, schedule: str) -> None:
    """After each update the same weights, learned with the same rate, on images that nobody augments."""
    config = TrainConfig(network=PLAIN, batch_size=64, accumulation_steps=5, epochs=2)
    config = replace(config, optimizer=optimizer, schedule=schedule, learning_rate=0.01)
    data = prepare(config)
    data = replace(data, x_train=data.x_train[:657], y_train=data.y_train[:657])
    images, labels = data.x_train, data.y_train
    parts = config.parts(len(images))
    assert (parts.updates, parts.batches) == (3, 15)  # of 320, 320 and 17 images
    whole = Augmented(images, labels, 320, "none", config.seed)
    cut = Accumulated(Augmented(images, labels, 320, "none", config.seed), 5)
    large = compiled(replace(config, batch_size=320, accumulation_steps=1), network_of(config, DIGITS), data)
    small = compiled(config, network_of(config, DIGITS), data)
    for _ in range(config.epochs):
        for update in range(parts.updates):
            large.train_on_batch(*whole[update])
            for number in range(5):
                x, y, weights = cut[5 * update + number]
                assert len(x) <= 64
                small.train_on_batch(x, y, sample_weight=weights)
            for a, b in zip(large.get_weights(), small.get_weights(), strict=True):
                assert np.abs(a - b).max() < 1e-5
        whole.on_epoch_end()
        cut.on_epoch_end()


@settings(max_examples=50)
@given(images=st.integers(1, 600), effective=st.integers(1, 200), steps=st.integers(1, 60))
def test_every_image_is_in_one_part_and_weighs_the_same(images: int, effective: int, steps: int) -> None:
    parts = Parts(images, effective, steps)
    every = [parts[number] for number in range(parts.batches)]
    seen = [part.update * effective + part.begin + at for part in every for at in range(part.size)]
    assert seen == list(range(images))
    for update in range(parts.updates):
        own = [part for part in every if part.update == update]
        size = sum(part.size for part in own)
        assert len(own) == steps
        assert max(part.size for part in own) == math.ceil(size / steps)
        # Keras's loss of a part is a mean over it and its gradient a mean over the parts: each image weighs 1 / size.
        for part in own:
            assert part.size == 0 or part.weight / part.size / steps == pytest.approx(1 / size)
            assert part.size or not part.weight


@pytest.mark.once
def test_parts_are_steps_and_updates_follow_the_cosine(tmp_path: Path) -> None:
    config = replace(TINY, accumulation_steps=3, batch_size=40)
    events = list(train(config, tmp_path, threads=1))
    started = events[0]
    assert isinstance(started, Started)
    assert started.steps_per_epoch == 3 * math.ceil(started.train_images / 120)
    assert max(event.step for event in events if isinstance(event, Step)) <= started.steps_per_epoch
    rates = [event.learning_rate for event in events if isinstance(event, EpochEnd)]
    assert rates == pytest.approx([TINY.learning_rate / 2, 0], abs=1e-6)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert saved.optimizer.gradient_accumulation_steps == 3
    assert int(saved.optimizer.iterations) == TINY.epochs * started.steps_per_epoch / 3


@pytest.mark.tensorflow
def test_what_does_not_fit_is_told_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    # Wide maps and few variables: the batch is most of what it needs, so that smaller ones help.
    wide = (Conv2D(256, 1, activation="relu"), Flatten(), Dense(10, activation="softmax"))
    config = replace(WHOLE, network=Architecture("wide", DIGITS.image_shape, wide))
    data = prepare(config)
    net = network_of(config, DIGITS)

    def needed(batch: int, steps: int) -> int:
        execution = system.default_execution()
        estimate = predict_memory(net, batch, optimizer="adam", execution=execution, accumulation_steps=steps)
        return estimate.peak_bytes + data.x_train.nbytes

    monkeypatch.setattr(system, "available_memory", lambda: needed(300, 1))
    _require_memory(config, net, data)
    monkeypatch.setattr(system, "available_memory", lambda: needed(64, 5))
    with pytest.raises(InputError, match=r"it would fit with batch_size=64, accumulation_steps=5, effective_batch=300"):
        _require_memory(config, net, data)
    _require_memory(replace(config, batch_size=64, accumulation_steps=5, effective_batch=300), net, data)
    monkeypatch.setattr(system, "available_memory", lambda: 10_000)
    with pytest.raises(InputError, match=r"are free; not even one image at a time would fit; choose "):
        _require_memory(config, net, data)


@pytest.mark.once
def test_a_folder_of_images_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(level + rng.normal(0, 20, (20, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    config = TrainConfig(str(tmp_path / "images"), channels=2, batch_size=4, epochs=10, learning_rate=0.01)
    result = result_of(config, tmp_path / "run")
    assert list(result.per_class_accuracy) == ["dark", "light"]
    assert result.test_accuracy == 1.0
    failed = last(train(replace(config, batch_size=20), tmp_path / "run2"))
    assert isinstance(failed, Failed)
    assert failed.message.startswith("a batch of 20 is larger than the ")


@pytest.mark.once
def test_a_network_of_ones_own_trains(tmp_path: Path) -> None:
    own = Architecture("own", (28, 28, 1), (Conv2D(2, 5, strides=4), Flatten(), Dense(10, activation="softmax")))
    result = result_of(replace(TINY, network=own, epochs=1), tmp_path)
    assert result.params == sum(row.params for row in trace(own))
    assert TrainResult.load(tmp_path).config.network == own


# How a run ends early.


def stopped_after(events: Iterator[Event], stop: threading.Event, steps: int) -> tuple[Event, float]:
    """The last event of a run that is stopped after so many Step events, and the seconds from the stop to it."""
    begun = 0.0
    for event in events:
        steps -= isinstance(event, Step)
        if steps <= 0 and not stop.is_set():
            stop.set()
            begun = time.monotonic()
    return event, time.monotonic() - begun


# XLA compiles anew what tests a stopped network, which on two busy processors takes longer than a stop may.
@pytest.mark.tensorflow
@pytest.mark.parametrize("steps", [1, 12])
def test_a_stop_ends_it_within_a_second_and_keeps_what_it_learned(tmp_path: Path, steps: int) -> None:
    stop = threading.Event()
    final, seconds = stopped_after(train(ENDLESS, tmp_path, stop), stop, steps)
    assert isinstance(final, Done), final
    assert seconds < SOON
    assert final.result.stopped
    assert final.result.note.startswith("stopped ")
    assert len(final.result.history["loss"]) == final.result.epochs_done < ENDLESS.epochs
    assert final.result.tested_images >= DIGITS.classes
    assert TrainResult.load(tmp_path) == final.result


@ours_is_forked
@pytest.mark.tensorflow
def test_a_stop_while_the_network_is_compiled_is_quick_too(tmp_path: Path) -> None:
    """A ResNet takes its backend many seconds; nothing is learned before that is done."""
    config = TrainConfig(architecture="resnet18", train_limit=100, batch_size=10)
    stop, begun = threading.Event(), 0.0
    for event in train(config, tmp_path, stop):
        if isinstance(event, Started):
            time.sleep(0.5)
            stop.set()
            begun = time.monotonic()
    assert event == Failed(NOTHING_LEARNED)
    assert time.monotonic() - begun < SOON
    assert list(tmp_path.iterdir()) == []


def test_a_stop_before_it_begins(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    ending = last(train(ENDLESS, tmp_path, stop))
    # Where it takes longer to start than a stop may take, it is ended.
    assert isinstance(ending, Done) or ending in (Failed(NOTHING_LEARNED), Failed(ENDED))


@ours_is_forked
@pytest.mark.tensorflow
def test_closing_the_generator_ends_the_process(tmp_path: Path) -> None:
    events = train(ENDLESS, tmp_path)
    assert isinstance(next(events), Started)
    while not isinstance(next(events), Step):
        pass
    before = set(psutil.Process().children(recursive=True))
    begun = time.monotonic()
    events.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < SOON
    gone, _ = psutil.wait_procs(before, timeout=1)
    assert len(gone) == 1
    assert TrainResult.load(tmp_path).stopped


@pytest.mark.tensorflow  # test_processes has it for workers that are not forked
def test_one_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    worker = start_worker(ENDLESS, tmp_path)
    while not any(isinstance(event, Step) for event in worker.poll()):
        time.sleep(0.01)
    os.kill(worker.pid or 0, signal.SIGSTOP)
    begun = time.monotonic()
    worker.close()
    assert 2 <= time.monotonic() - begun < 3
    final = worker.poll()[-1]
    assert isinstance(final, Failed)
    assert "was ended before it had written anything down" in final.message


def test_a_killed_run_gives_what_it_wrote_down_last(result: TrainResult, tmp_path: Path) -> None:
    end = Ending(result.folder, -9, stopped=True, killed=True, log="")
    final = TINY.ended(end)
    assert isinstance(final, Done)
    assert final.result.stopped
    assert "its state after epoch 2" in final.result.note
    assert final.result.test_loss == result.test_loss
    assert isinstance(TINY.ended(replace(end, folder=tmp_path)), Failed)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (-9, "most likely for want of memory; choose a smaller batch"),
        (-11, "the training process crashed (SIGSEGV)"),
        (3, "the training process crashed (exit status 3)"),
        (None, "could not be started"),
    ],
)
def test_a_death_is_a_sentence(tmp_path: Path, code: int | None, sentence: str) -> None:
    final = TINY.ended(Ending(tmp_path, code, stopped=False, killed=False, log="Killed\n"))
    assert isinstance(final, Failed)
    assert sentence in final.message
    assert final.detail == "Killed\n"


@pytest.mark.tensorflow  # test_processes has it for workers that are not forked
def test_a_real_kill_from_outside_is_told(tmp_path: Path) -> None:
    worker = start_worker(ENDLESS, tmp_path)
    while not any(isinstance(event, Step) for event in worker.poll()):
        time.sleep(0.01)
    os.kill(worker.pid or 0, signal.SIGKILL)
    final = [event for event in worker.events() if event is not None][-1]
    assert isinstance(final, Failed)
    assert "want of memory" in final.message


@pytest.mark.once
def test_a_run_whose_numbers_run_away_keeps_its_last_sound_state(tmp_path: Path) -> None:
    square = Branches("multiply", ((), ()))  # the eighth power soon leaves the range of float32
    own = Architecture("own", (28, 28, 1), (Flatten(), Dense(64), *[square] * 3, Dense(10, activation="softmax")))
    config = replace(TINY, network=own, optimizer="sgd", learning_rate=99.0, schedule="constant", epochs=50)
    result = result_of(config, tmp_path)
    assert result.stopped
    assert result.note.startswith("the loss was no longer a number after step ")
    assert result.note.endswith("the learning rate 99 is too high here, try 0.01")
    assert math.isfinite(result.test_loss)
    assert all(
        np.isfinite(array).all() for arrays in load_weights(tmp_path / "weights.npz").values() for array in arrays
    )


def test_too_little_memory_is_a_sentence_before_it_hurts(tmp_path: Path) -> None:
    layers = (Dense(2**20), Dense(2**20), Flatten(), Dense(10, activation="softmax"))
    final = last(train(TrainConfig(network=Architecture("vast", (28, 28, 1), layers)), tmp_path))
    assert isinstance(final, Failed)
    assert final.message.startswith("this run needs about ")


@pytest.mark.tensorflow  # test_processes has it for workers that are not forked
def test_two_runs_do_not_mix(tmp_path: Path) -> None:
    configs = [replace(TINY, channels=channels) for channels in (2, 3)]
    found: dict[int, Event] = {}

    def run(config: TrainConfig) -> None:
        found[config.channels] = last(train(config, tmp_path / str(config.channels), threads=1))

    threads = [threading.Thread(target=run, args=(config,)) for config in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    for config in configs:
        final = found[config.channels]
        assert isinstance(final, Done), final
        assert final.result.config == config
        assert final.result.params == sum(row.params for row in trace(network_of(config, DIGITS)))


def test_the_parent_stays_light_and_the_terminal_clean() -> None:
    code = (
        "import sys; from toolkit.training import *; "
        "*_, last = train(TrainConfig(channels=2, epochs=1, train_limit=100)); "
        "print(type(last).__name__, [name for name in ('keras', 'tensorflow', 'jax') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("Done []\n", "")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": {}, "confusion": 3}', '{"config": {}, "confusion": []}'])
def test_a_folder_without_a_result_is_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"holds no result\.json; give the folder of a finished training"):
        TrainResult.load(tmp_path)
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match="is not the result of a training"):
        TrainResult.load(tmp_path)


# Augmentation.


def numbered(count: int, size: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 2), dtype=np.uint8)


def test_shifted_images_are_the_same_pixels_moved() -> None:
    images = numbered(40)
    shifted = augment(images, "shift", np.random.default_rng(1))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    found = set()
    for image, window in zip(shifted, padded, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if (window[y : y + 28, x : x + 28] == image).all()]
        assert len(places) == 1
        found.update(places)
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))


def test_flipped_images_are_mirrored_left_to_right_half_of_the_time() -> None:
    images = numbered(400, size=4)
    flipped = augment(images, "flip", np.random.default_rng(1))
    mirrored = [(now == before[:, ::-1]).all() for now, before in zip(flipped, images, strict=True)]
    kept = [(now == before).all() for now, before in zip(flipped, images, strict=True)]
    assert [a or b for a, b in zip(mirrored, kept, strict=True)] == [True] * 400
    assert 160 < sum(mirrored) < 240


def test_an_epoch_holds_every_image_once_in_a_new_order_each_time() -> None:
    images, labels = numbered(50, size=4), np.arange(50)
    batches = Augmented(images, labels, 8, "shift_flip", seed=3)
    first = [batches[index] for index in range(len(batches))]
    assert [len(x) for x, _ in first] == [8] * 6 + [2]
    order = np.concatenate([y for _, y in first])
    assert sorted(order) == labels.tolist()
    assert (batches[4][0] == first[4][0]).all()  # whoever asks when
    batches.on_epoch_end()
    second = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert sorted(second) == labels.tolist()
    assert order.tolist() != second.tolist()
    again = Augmented(images, labels, 8, "shift_flip", seed=3)
    assert all((again[index][0] == first[index][0]).all() for index in range(7))


# The promise on real images.

MNIST = Path(os.environ.get("CNN_TOOLKIT_DATA", "/nowhere")) / "mnist.npz"


@pytest.mark.once
@pytest.mark.skipif(not MNIST.is_file(), reason="CNN_TOOLKIT_DATA names no folder with mnist.npz")
def test_one_epoch_of_mnist(tmp_path: Path) -> None:
    final = last(train(TrainConfig(dataset="mnist", architecture="small_cnn", channels=16, epochs=1), tmp_path))
    assert isinstance(final, Done), final
    assert final.result.test_accuracy >= 0.975
    assert export.to_dict(network_of(final.result.config, DATASETS["mnist"]))["input_shape"] == [28, 28, 1]
