"""The zoo on a few digits: what is run, what is written down, what is not repeated, and what the table says."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from toolkit.benchmarks import experiments, fits, zoo
from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.benchmarks.experiments import EXPERIMENTS
from toolkit.benchmarks.zoo import (
    GOALS,
    Job,
    Smoke,
    chosen,
    jobs,
    missing,
    spread,
    summarized,
    table,
    zoo_command,
)
from toolkit.costs import costs
from toolkit.errors import InputError
from toolkit.loading import load_dataset
from toolkit.processes import Context, StopFlag
from toolkit.recipes import Recipe
from toolkit.records import Record, append_record, read_records
from toolkit.training import network_of

TINY = Experiment(
    name="digits_tiny",
    dataset="digits",
    architecture="small_cnn",
    options=(("channels", 2),),
    recipe=Recipe(name="quick", learning_rate=0.01, batch_size=100, epochs=1, test_flip=True),
    promise=Promise(accuracy=0.2, minutes=5, mib=20_000),
)


@pytest.fixture(scope="class")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the zoo takes for its repository, with one experiment, in which one run was made."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "EXPERIMENTS", {TINY.name: TINY})
        patch.setattr(zoo, "GOALS", {TINY.name: (0.0, 10**6, 1e15)})
        patch.setattr(zoo, "ROOT", folder)
        patch.chdir(folder)
        assert zoo_command(seeds=1) == 0
        patch.setattr(zoo, "_draw_figures", lambda records, folder: None)  # they were drawn once
        yield folder


@pytest.fixture
def record(home: Path) -> Record:
    (record,) = read_records(home / "book" / "results" / "zoo")
    return record


class TestRuns:
    """What one run leaves behind, in a folder that the zoo takes for its repository."""

    def test_a_run_is_one_line_with_what_it_was(self, home: Path, record: Record) -> None:
        assert (record.experiment, record.dataset, record.seed, record.epochs) == ("digits_tiny", "digits", 0, 1)
        assert record.architecture == "small_cnn"
        assert Recipe.from_dict(record.recipe) == TINY.recipe
        assert record.params == TINY.params
        assert record.macs == costs(network_of(TINY.config(), load_dataset("digits").info)).macs
        assert record.training_flops == 6 * record.macs * record.train_images
        assert 1400 < record.train_images < 1438
        assert record.seconds > 0
        assert record.machine["cpus"] >= 1
        assert record.command == "python -m toolkit bench zoo --models digits_tiny --seeds 1" + (
            "" if record.backend == "tensorflow" else f" --backend {record.backend}"
        )

    def test_its_figures_are_those_of_its_files(self, home: Path, record: Record) -> None:
        labels = load_dataset("digits").y_test
        with np.load(home / record.folder / "predictions.npz") as found:
            answers, seen_twice = found["probabilities"], found["augmented_probabilities"]
        assert record.test_accuracy == pytest.approx((answers.argmax(axis=1) == labels).mean())
        assert record.augmented_test_accuracy == pytest.approx((seen_twice.argmax(axis=1) == labels).mean())
        confusion = np.array(record.confusion)
        assert confusion.sum() == len(labels)
        assert record.per_class == pytest.approx((confusion.diagonal() / confusion.sum(axis=1)).tolist())
        assert sum(record.calibration["counts"]) == len(labels)
        weighted = np.dot(record.calibration["counts"], record.calibration["accuracy"]) / len(labels)
        assert weighted == pytest.approx(record.test_accuracy, abs=1e-4)
        assert record.validation_accuracy == pytest.approx(record.history["val_accuracy"][-1], abs=1e-4)

    def test_views_are_answered_by_their_mean(self, home: Path, record: Record) -> None:
        import keras

        model = keras.saving.load_model(home / record.folder / "model.keras", compile=False)
        images = load_dataset("digits").x_test[:40]
        both = [model.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
        with np.load(home / record.folder / "predictions.npz") as found:
            assert np.allclose(found["augmented_probabilities"][:40], np.mean(both, axis=0), atol=1e-5)

    def test_a_run_that_is_there_is_not_repeated(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = home / "book" / "results" / "zoo" / "digits.jsonl"
        before = file.read_text()
        assert zoo_command(seeds=1) == 0
        assert file.read_text() == before
        told = capsys.readouterr().out
        assert "| digits_tiny | small_cnn | quick |" in told
        report = json.loads((home / "book" / "results" / "zoo.json").read_text())
        assert {"name", "machine", "versions", "date", "seed", "rows", "checks"} <= set(report)
        assert (file.parent / "digits-params.png").is_file()

    def test_what_differs_in_anything_is_missing(self, record: Record) -> None:
        done = Job(TINY, 0)
        assert missing([done], [record]) == []
        for other in (
            Job(TINY, 1),
            Job(replace(TINY, recipe=replace(TINY.recipe, shift=1)), 0),
            Job(replace(TINY, options=(("channels", 3),)), 0),
            Job(replace(TINY, validation_fraction=0.5), 0),
        ):
            assert missing([other], [record]) == [other]
        assert missing([done], [replace(record, backend="other")]) == [done]

    def test_a_broken_promise_is_an_exit_status(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        greedy = replace(TINY, promise=Promise(accuracy=1.0, minutes=5, mib=20_000))
        monkeypatch.setattr(zoo, "EXPERIMENTS", {TINY.name: greedy})
        assert zoo_command(seeds=1) == 1
        assert "| digits_tiny: promised accuracy |" in capsys.readouterr().out
        assert zoo_command(seeds=1, as_json=True) == 1
        checks = {check["name"]: check["ok"] for check in json.loads(capsys.readouterr().out)["checks"]}
        assert checks["digits_tiny: promised accuracy"] is False
        assert checks["digits_tiny: parameters"] is True
        assert not [name for name in checks if "seeds" in name]  # of one seed nothing is said of three

    def test_no_run_is_begun_that_may_not_be_done_in_time(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert zoo_command(seeds=2, budget_minutes=1) == 0
        assert "digits_tiny-1: not begun" in capsys.readouterr().err
        assert len(read_records(home / "book" / "results" / "zoo")) == 1

    def test_means_of_three_seeds_are_held_against_the_goal(self, record: Record) -> None:
        group = [replace(record, seed=seed, test_accuracy=0.5 + seed / 10) for seed in range(3)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zoo, "GOALS", {TINY.name: (0.601, 1, 1.0)})
            checks = {check.name: check for check in summarized(group).checks}
        assert not checks["digits_tiny: parameters"].ok
        assert not checks["digits_tiny: PFLOP of training"].ok
        reached = checks["digits_tiny: mean test accuracy of 3 seeds"]
        assert reached.value == pytest.approx(0.6)
        assert not reached.ok
        assert "60.00 ± 10.00 %" in table(group)
        assert spread([0.25]) == "25.00 %"

    def test_records_survive_their_file(self, record: Record, tmp_path: Path) -> None:
        append_record(tmp_path, record)
        append_record(tmp_path, replace(record, seed=1))
        assert read_records(tmp_path) == (record, replace(record, seed=1))
        (tmp_path / "digits.jsonl").write_text("{}\n")
        with pytest.raises(InputError, match=r"digits.jsonl, line 1: .* is not the record of a run"):
            read_records(tmp_path)


# The experiments.


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda each: each.name)
def test_a_file_promises_what_its_data_says(experiment: Experiment) -> None:
    folder = Path(experiments.__path__[0])
    file = folder / f"{experiment.name}.py"
    text = (file if file.is_file() else folder / f"{experiment.name.split('_ablation')[0]}_ablations.py").read_text()
    promise = experiment.promise
    told = re.search(
        r"Promises.*?: ([\d.]+)% test accuracy .*?, ([\d.]+) minutes a run on two cores, ([\d,]+) MiB", text
    )
    assert told
    assert float(told[1]) / 100 == pytest.approx(promise.accuracy)
    assert (float(told[2]), int(told[3].replace(",", ""))) == (promise.minutes, promise.mib)
    assert "python -m toolkit bench zoo --models" in text


def test_the_goals_can_be_reached_by_what_is_planned() -> None:
    """Parameters and operations are known before anything is trained."""
    for name, (_, params, flops) in GOALS.items():
        assert EXPERIMENTS[name].params <= params
        assert flops is None or EXPERIMENTS[name].training_flops <= flops


def test_experiments_are_chosen_by_dataset_name_and_network() -> None:
    assert {each.dataset for each in chosen(["mnist"])} == {"mnist"}
    assert {each.architecture for each in chosen([], ["alexnet_32"])} == {"alexnet_32"}
    assert chosen([], ["cifar10_lean"])[0].name == "cifar10_lean"
    with pytest.raises(
        InputError, match=r"no experiment fits --dataset mnist and --models cifar10; the experiments are"
    ):
        chosen(["mnist"], ["cifar10"])


def test_what_counts_most_runs_first() -> None:
    order = [job.name for job in jobs(chosen(), 3)]
    assert len(order) == len(set(order)) == 3 * len(EXPERIMENTS)
    first = order[: 3 * len(GOALS)]
    assert {name.rsplit("-", 1)[0] for name in first} == set(GOALS)


@pytest.mark.once
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_learns_a_few_digits(name: str, tmp_path: Path) -> None:
    ((found, (seconds, loss)),) = fits.smoke(Smoke((name,), 0), Context(tmp_path, None, print, StopFlag())).items()
    assert found == name
    assert seconds > 0
    assert 0.1 < loss < 30
