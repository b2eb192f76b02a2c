"""Calibration against what it means: bins counted one by one, and temperatures that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from toolkit.calibration import (
    Calibration,
    best_temperature,
    brier_score,
    cross_entropy,
    reliability,
    tempered,
)
from toolkit.errors import InputError

Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]


def answers(seed: int = 0, count: int = 4000, classes: int = 5) -> Arrays:
    """Probabilities, and labels drawn from them: calibrated but for chance."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, 0.4), count)
    return shares, (shares.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_bins_are_those_of_a_loop(bins: int) -> None:
    shares, labels = answers(count=500)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    total = 0.0
    for number, found in enumerate(reliability(shares, labels, bins).bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        assert found.count == inside.sum()
        if found.count:
            assert found.confidence == pytest.approx(confidence[inside].mean())
            assert found.accuracy == pytest.approx(right[inside].mean())
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert reliability(shares, labels, bins).ece == pytest.approx(total)


def test_what_is_calibrated_has_no_error_and_what_is_too_sure_has() -> None:
    shares, labels = answers(count=40_000)
    assert reliability(shares, labels).ece < 0.01
    assert reliability(tempered(shares, 0.4), labels).ece > 0.05
    sure = reliability(np.tile([[1.0, 0.0]], (4, 1)), [0, 0, 1, 1])
    assert (sure.ece, sure.mce, sure.bins[-1].gap) == (0.5, 0.5, 0.5)


def test_edges_belong_to_the_lower_bin() -> None:
    shares = np.array([[k / 15, *np.full(14, (1 - k / 15) / 14)] for k in range(2, 16)])
    counts = [each.count for each in reliability(shares, np.zeros(14, int)).bins]
    assert counts == [0, *[1] * 14]


def test_calibrations_are_written_and_put_together() -> None:
    shares, labels = answers(count=300)
    whole = reliability(shares, labels)
    parts = [reliability(shares[part], labels[part]) for part in (slice(100), slice(100, None))]
    assert Calibration.from_dict(whole.to_dict()) == whole
    together = Calibration.together(parts)
    assert together.count == 300
    assert together.ece == pytest.approx(whole.ece)
    assert Calibration.together([]).ece == 0
    with pytest.raises(InputError, match="same number of bins"):
        Calibration.together([whole, reliability(shares, labels, 3)])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(temperature: float) -> None:
    shares, labels = answers()
    found = best_temperature(tempered(shares, 1 / temperature), labels)
    assert found == pytest.approx(temperature, rel=0.1)


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_a_temperature_changes_no_answer(temperature: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(8, 4))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    wanted = np.exp(scores / temperature) / np.exp(scores / temperature).sum(axis=1, keepdims=True)
    found = tempered(shares, temperature)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert (found.argmax(axis=1) == scores.argmax(axis=1)).all()


def test_losses_are_sklearns() -> None:
    shares, labels = answers(count=200)
    assert cross_entropy(shares, labels) == pytest.approx(log_loss(labels, shares, labels=range(5)), rel=1e-6)
    assert brier_score(shares, labels) == pytest.approx(((shares - np.eye(5)[labels]) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("shares", "labels", "words"),
    [
        ([[0.5, 0.5]], [0, 1], "a whole number for each"),
        ([0.5, 0.5], [0, 1], "a whole number for each"),
        ([[0.5, 0.5]], [0.5], "a whole number for each"),
        (np.zeros((0, 2)), np.zeros(0, int), "a whole number for each"),
        ([[2.0, -1.0]], [0], "apply softmax first"),
        ([[0.5, 0.5]], [2], "labels between 0 and 1"),
        ([[np.nan, 0.5]], [0], "probabilities lie between 0 and 1"),
    ],
)
def test_what_is_no_answer_is_a_sentence(shares: object, labels: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        reliability(shares, labels)  # type: ignore[arg-type]


def test_other_numbers_are_sentences() -> None:
    with pytest.raises(InputError, match="a temperature is above 0; -1 came"):
        tempered([[0.5, 0.5]], -1)
    with pytest.raises(InputError, match="bins must be at least 1"):
        reliability([[0.5, 0.5]], [0], bins=0)
