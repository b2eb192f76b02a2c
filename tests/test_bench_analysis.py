"""The analysis of trained networks on a small one: its rows, its promises, its picture, and whose networks it takes."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from toolkit.benchmarks import Measured, Report, Row, analysis
from toolkit.benchmarks.analysis import Subject, analyse, picture, stored_subjects
from toolkit.datasets import DATASETS
from toolkit.figures import alt_text
from toolkit.loading import load_dataset
from toolkit.training import TrainConfig, TrainResult

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Two linear networks that have seen digits for a moment."""
    data = load_dataset("digits")
    folders = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), keras.layers.MaxPooling2D(4)]
        model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")])
        model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
        model.fit(data.x_train, data.y_train, batch_size=128, epochs=4, verbose=0)
        folders.append(tmp_path_factory.mktemp("run"))
        model.save(folders[-1] / "model.keras")
    return Subject("linear", data, tuple(folders), corrupted=100, attacked=50)


@pytest.fixture(scope="module")
def measured(subject: Subject) -> Measured:
    parts = list(analyse(subject, seed=0, short=True))
    return Measured(tuple(r for part in parts for r in part.rows), tuple(c for part in parts for c in part.checks))


@pytest.fixture(scope="module")
def found(measured: Measured) -> dict[str, tuple[float, float, float]]:
    return {row.what.removeprefix("linear: "): (row.median, row.least, row.most) for row in measured.rows}


def test_everything_is_measured_of_each_network(
    found: dict[str, tuple[float, float, float]], measured: Measured
) -> None:
    assert {
        *("test accuracy", "expected calibration error", "temperature", "Brier score", "ensemble of 2"),
        *("noise, 5", "blur, 3", "shift, 5", "chance, 25.5", "FGSM, 25.5", "PGD of 5 steps, 25.5"),
        *("Keras int8: weights", "all kernels int8: weights", "float32: file"),
    } <= set(found)
    assert all(row.n in (1, 2) for row in measured.rows)
    assert 0.8 < found["test accuracy"][0] <= 1
    assert found["shift, 5"][0] < found["shift, 3"][0] < found["test accuracy"][0]
    shares = [values for what, values in found.items() if what.startswith("mistakes between")]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


def test_the_promises_are_kept_by_any_network(measured: Measured) -> None:
    assert len(measured.checks) == 5
    assert [check.name for check in measured.checks if not check.ok] == []


def test_an_int8_network_has_a_byte_a_number(found: dict[str, tuple[float, float, float]]) -> None:
    """49 × 10 weights and 10 biases: with Keras's int8 also 10 scales, all of these of 4 bytes."""
    assert found["float32: weights"][0] == 2.0
    assert found["Keras int8: weights"][0] == found["all kernels int8: weights"][0] == 0.57


def test_the_picture_has_a_panel_for_each_question(measured: Measured) -> None:
    sizes = tuple(Row.of(f"linear: trained on {size} images", "share", [0.5, 0.7]) for size in (100, 800))
    figure = picture(Report("analysis", {}, {}, "", 0, 1.0, True, measured.rows + sizes, measured.checks))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert sorted(titles) == ["FGSM", "PGD", "blur", "ensemble", "images", "noise", "shift"]
    assert "noise, linear:" in alt_text(figure)
    assert "images, linear: 60.0% at 100, 60.0% at 800." in alt_text(figure)


def test_the_place_of_the_notes_pair_is_told(subject: Subject) -> None:
    info = replace(subject.data.info, class_names=DATASETS["cifar10"].class_names)
    data = replace(subject.data, info=info)
    answers = np.eye(10, dtype=np.float32)[np.where(data.y_test == 6, 4, data.y_test)]
    rows = analysis._confusion(replace(subject, data=data), [answers], data.y_test).rows
    told = {row.what: row.median for row in rows}
    assert told["linear: mistakes between deer and frog"] == 1
    assert told["linear: frog and deer: place among 45 pairs"] == 1


# Whose networks.


def write_result(folder: Path, architecture: str, accuracy: float) -> None:
    folder.mkdir(parents=True)
    config = TrainConfig(architecture=architecture, channels=2)
    result = TrainResult(
        config, 1, {"loss": [1.0]}, accuracy, 0.5, 10, ((1,),), {"0": 1.0}, 1.0, 1.0, 1, False, 1, folder
    )  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result.to_dict()), encoding="utf-8")


def test_of_the_zoo_the_best_network_and_the_best_alexnet_are_taken(tmp_path: Path) -> None:
    for name, architecture, accuracy in (
        ("lean-0", "small_cnn", 0.9), ("lean-1", "small_cnn", 0.8), ("short-0", "small_cnn", 0.84),
        ("alex-0", "alexnet_28", 0.7), ("alex_notes-0", "alexnet_28", 0.75),
    ):  # fmt: skip
        write_result(tmp_path / name, architecture, accuracy)
    (tmp_path / "unfinished-0").mkdir()
    found = stored_subjects(tmp_path)
    assert [(each.name, len(each.folders)) for each in found] == [("lean", 2), ("alex_notes", 1)]
    assert stored_subjects(tmp_path / "nothing") == ()
