"""The benchmarks of chapters: one tiny training each way, and that rows and promises say what was measured."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import keras
import numpy as np
import pytest

from toolkit.architectures import dense_baseline
from toolkit.benchmarks import Measured, architectures, lrn, pooling, trial_fits, trials, why
from toolkit.benchmarks.trials import Trial, Tried, more, try_out
from toolkit.build import build
from toolkit.costs import costs
from toolkit.fitting import prepare
from toolkit.layers import BatchNormalization, LocalResponseNormalization
from toolkit.shifting import blur_weights, shuffle_pixels
from toolkit.training import TrainConfig

TINY = TrainConfig(epochs=2, train_limit=120, batch_size=32)


def blurred(seed: int = 0) -> Trial:
    net = pooling.halving_cnn(pooling.BLURRED_MAX, (28, 28, 1), channels=2)
    return Trial("blurred", replace(TINY, network=net, seed=seed), moves=(1, 2), tested=50)


@pytest.fixture(scope="module")
def tiny() -> Tried:
    return trial_fits.tried(blurred())


def test_a_trial_tells_what_it_found(tiny: Tried) -> None:
    assert tiny.params == costs(blurred().config.network).params  # type: ignore[arg-type]
    assert 0 <= tiny.test_accuracy <= 1
    assert set(tiny.moved) == set(tiny.agreed) == {1, 2}
    assert len(tiny.epoch_cpu) == TINY.epochs - 1
    assert tiny.epoch_cpu[0] > 0
    assert round(50 * tiny.test_accuracy) == pytest.approx(50 * tiny.test_accuracy)


def test_a_blur_is_set_and_does_not_learn() -> None:
    net = blurred().config.network
    assert net is not None
    model = build(net, seed=0)
    trial_fits.set_blurs(model)
    images = np.random.default_rng(0).random((16, 28, 28, 1), np.float32)
    model.compile(keras.optimizers.SGD(1.0), loss="sparse_categorical_crossentropy")
    before = model.get_layer("conv1").get_weights()[0]
    model.fit(images, np.zeros(16, int), verbose=0)
    assert (model.get_layer("conv1").get_weights()[0] != before).any()
    for name, channels in (("blur1", 2), ("blur2", 4)):
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], blur_weights(channels))


def test_shuffled_data_are_shuffled_alike() -> None:
    data = prepare(TINY)
    mixed = trial_fits.shuffled(data, seed=3)
    for name in ("x_train", "x_validation", "x_test"):
        assert (getattr(mixed, name) == shuffle_pixels(getattr(data, name), 3)).all()
    assert (mixed.y_train == data.y_train).all()


def test_test_images_are_taken_evenly() -> None:
    images, labels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10)
    assert trial_fits.some_of(images, labels, 4)[1].tolist() == [0, 3, 6, 9]
    assert trial_fits.some_of(images, labels, None)[1].tolist() == list(range(10))
    assert trial_fits.some_of(images, labels, 99)[0].ravel().tolist() == list(range(10))


@pytest.mark.once
def test_trials_run_in_a_worker(tiny: Tried, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = try_out([blurred()])
    assert (found.test_accuracy, found.params) == (tiny.test_accuracy, tiny.params)
    assert "1/1 blurred, seed 0" in capsys.readouterr().err


def test_a_worker_that_dies_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "follow", lambda *_: iter(["the process ended (1): out of luck"]))
    with pytest.raises(RuntimeError, match="out of luck"):
        try_out([blurred()])


# What the reports say, on results made up here.


def made_up(trial: Trial) -> Tried:
    """The accuracy of a trial is decided by its name: better for convolutions, blurs, batch norms and shortcuts."""
    good = ("convolutional", "blurred", "batch", "with shortcuts")
    better = any(word in trial.name for word in good) and not trial.shuffled
    accuracy = 0.9 + 0.05 * better + 0.001 * trial.config.seed
    moved = {pixels: accuracy - (0.05 if better else 0.2) * pixels for pixels in trial.moves}
    seconds = (2.0, 2.0) if "LRN" in trial.name else (1.0, 1.0)
    return Tried(trial.name, trial.config.seed, 100, accuracy, accuracy, moved, moved, seconds)


@pytest.fixture
def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(wanted: Iterable[Trial]) -> tuple[Tried, ...]:
        return tuple(map(made_up, wanted))

    def passed(task: architectures.Passes, folder: object) -> Iterator[tuple[str, list[float]]]:
        return ((name, [0.1, 0.2, 0.3]) for name in task.networks)

    for bench in (why, pooling, lrn, architectures):
        monkeypatch.setattr(bench, "try_out", answered)
    monkeypatch.setattr(architectures, "follow", passed)


def medians(measured: Measured) -> dict[str, float]:
    return {row.what: row.median for row in measured.rows}


@pytest.mark.usefixtures("without_training")
class TestReports:
    def test_why(self) -> None:
        measured = why.measure(quick=False, seed=0)
        found = medians(measured)
        assert found["mnist, convolutional: test accuracy"] == pytest.approx(0.951)
        assert found["cifar10, dense, shuffled pixels: test accuracy"] == pytest.approx(0.901)
        assert found["mnist, dense: test accuracy, moved by 4"] == pytest.approx(0.101)
        added, left, moved, *_ = measured.checks
        assert (added.value, left.value, moved.value) == pytest.approx((0.05, 0.0, 0.5))
        assert all(check.ok for check in measured.checks)
        assert {row.n for row in measured.rows} == {why.SEEDS}

    def test_pooling(self) -> None:
        measured = pooling.measure(quick=False, seed=0)
        assert medians(measured)["max pooling: same answer, moved by 1"] == pytest.approx(0.701)
        left, lost = measured.checks
        assert left.value == pytest.approx((1 - 0.901) / (1 - 0.701))
        assert lost.value == pytest.approx(-0.05)

    def test_lrn(self) -> None:
        measured = lrn.measure(quick=False, seed=0)
        found = medians(measured)
        assert found["LRN: an epoch over one without"] == 2
        assert found["batch normalization: an epoch over one without"] == 1
        assert measured.checks[0].value == pytest.approx(0.05)

    def test_architectures(self) -> None:
        measured = architectures.measure(quick=False, seed=0)
        found = medians(measured)
        assert found["vgg16: forward pass of an image"] == pytest.approx(1000 * 0.2 / 2)
        assert found["vgg16: speed"] == pytest.approx(15.47 / 0.1, rel=0.01)
        assert found["26 layers with shortcuts: training accuracy"] == pytest.approx(0.951)
        assert measured.checks[1].value == pytest.approx(0.05)

    @pytest.mark.parametrize("bench", [why, pooling, lrn, architectures])
    def test_the_quick_form_needs_no_data_from_elsewhere(self, bench: object, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Trial] = []

        def answered(wanted: Iterable[Trial]) -> tuple[Tried, ...]:
            asked.extend(wanted)
            return tuple(map(made_up, asked))

        monkeypatch.setattr(bench, "try_out", answered)
        assert bench.measure(quick=True, seed=7).checks  # type: ignore[attr-defined]
        assert {(trial.config.dataset, trial.config.seed) for trial in asked} == {("digits", 7)}


def test_a_network_without_passes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "follow", lambda *_: iter([("the process ended (1)", [])]))
    with pytest.raises(RuntimeError, match="gave no result"):
        architectures._passes(architectures.Passes(("alexnet",), 1, 1))


def test_differences_are_paired_by_seed() -> None:
    tried = [Tried("a", seed, 0, 0, 0.5 + seed / 10) for seed in (2, 0, 1)]
    tried += [Tried("b", seed, 0, 0, 0.25 + seed / 10) for seed in range(3)]
    found = more(tried, "a", "b", trials.accuracy, "a over b")
    assert (found.least, found.median, found.most) == pytest.approx((0.25, 0.25, 0.25))
    assert (found.what, found.n) == ("a over b", 3)


# The networks.


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_dense_networks_have_as_many_parameters(shape: tuple[int, int, int]) -> None:
    nets = why.networks(shape, 10)
    conv, dense = costs(nets[why.CONV]).params, costs(nets[why.DENSE]).params
    one_unit = costs(dense_baseline(shape, 10, 1)).params
    assert abs(conv - dense) <= one_unit / 2


def test_the_ways_to_halve_differ_in_the_halving_only() -> None:
    learned = {
        way: sum(row.params for row in costs(pooling.halving_cnn(way)).rows if not row.name.startswith("blur"))
        for way in pooling.WAYS
    }
    assert len(set(learned.values())) == 1
    for way in pooling.WAYS:
        maps = [row.output_shape for row in costs(pooling.halving_cnn(way)).rows if row.name == "conv3"]
        assert maps == [(7, 7, 32)]


def test_normalizations_stand_where_alexnet_has_them() -> None:
    kinds = {
        kind: [type(layer) for layer in lrn.normalized_cnn(kind).layers if layer.name.startswith("norm")]
        for kind in lrn.KINDS
    }
    assert kinds == {
        lrn.NONE: [],
        lrn.PAPER: [LocalResponseNormalization] * 2,
        lrn.SCALED: [LocalResponseNormalization] * 2,
        lrn.BATCH: [BatchNormalization] * 2,
    }
    scaled = lrn.normalized_cnn(lrn.SCALED).layers[1]
    assert isinstance(scaled, LocalResponseNormalization)
    assert scaled.alpha == pytest.approx(6.5025)


@pytest.mark.parametrize("depth", [8, 26])
def test_deep_networks_are_as_deep_as_they_say(depth: int) -> None:
    with_, without = (costs(architectures.deep_cnn(depth, shortcuts)) for shortcuts in (True, False))
    for price in (with_, without):
        assert sum(row.type == "Conv2D" for row in price.rows) == depth
    assert (with_.params, with_.macs) == (without.params, without.macs)
    assert sum(row.type == "Add" for row in with_.rows) == depth // 2 - 1
