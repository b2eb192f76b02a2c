"""Losses for labelled pixels against their formulas in NumPy, and against Keras's own."""

from typing import Any

import keras
import numpy as np
import pytest

from toolkit.errors import InputError
from toolkit.pixel_losses import PixelLoss, pixel_accuracy
from toolkit.pixel_networks import LOSSES
from toolkit.pixel_scores import VOID

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 4, (2, 5, 6)).astype(np.uint8)
TRUTH[RNG.random(TRUTH.shape) < 0.2] = VOID
LOGITS = RNG.normal(size=(2, 5, 6, 4)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
KNOWN = TRUTH != VOID
RIGHT = np.take_along_axis(PROBABILITIES, np.minimum(TRUTH, 3)[..., np.newaxis], axis=-1)[..., 0]


def loss(kind: str, truth: Any = TRUTH, probabilities: Any = PROBABILITIES) -> float:
    return float(PixelLoss(kind)(truth, probabilities))


def test_cross_entropy_is_that_of_keras() -> None:
    ours = loss("cross_entropy")
    assert ours == pytest.approx(-np.log(RIGHT[KNOWN]).mean(), rel=1e-5)
    theirs = keras.losses.SparseCategoricalCrossentropy(ignore_class=VOID, reduction="sum")(TRUTH, PROBABILITIES)
    assert ours == pytest.approx(float(theirs) / KNOWN.sum(), rel=1e-5)


def test_focal_loss_is_its_formula() -> None:
    expected = -((1 - RIGHT[KNOWN]) ** 2 * np.log(RIGHT[KNOWN])).mean()
    assert loss("focal") == pytest.approx(expected, rel=1e-5)
    assert loss("focal") < loss("cross_entropy")


def test_dice_is_its_formula() -> None:
    shares = [
        (2 * PROBABILITIES[KNOWN & (number == TRUTH), number].sum() + 1)
        / (PROBABILITIES[KNOWN, number].sum() + np.count_nonzero(number == TRUTH) + 1)
        for number in range(4)
    ]
    assert loss("dice") == pytest.approx(1 - np.mean(shares), rel=1e-5)
    assert loss("cross_entropy_dice") == pytest.approx(loss("cross_entropy") + loss("dice"), rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_what_lies_under_void_is_nothing(kind: str) -> None:
    other = np.where(KNOWN[..., np.newaxis], PROBABILITIES, np.array([0.7, 0.1, 0.1, 0.1], np.float32))
    assert loss(kind, TRUTH, other) == pytest.approx(loss(kind), rel=1e-6)
    assert np.isfinite(loss(kind, np.full_like(TRUTH, VOID)))


@pytest.mark.parametrize("kind", LOSSES)
def test_the_truth_is_the_best_answer_and_impossible_is_finite(kind: str) -> None:
    perfect = np.eye(4, dtype=np.float32)[np.minimum(TRUTH, 3)]
    assert loss(kind, TRUTH, perfect) == pytest.approx(0, abs=1e-6)
    assert 0.5 < loss(kind, TRUTH, np.roll(perfect, 1, axis=-1)) < 20


def test_dice_minds_a_rare_class_more_than_cross_entropy_does() -> None:
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, 0, :4] = 1
    missed = np.tile(np.array([0.999, 0.001], np.float32), (1, 20, 20, 1))
    assert loss("cross_entropy", truth, missed) < 0.08
    assert loss("dice", truth, missed) > 0.3


def test_accuracy_counts_known_pixels() -> None:
    expected = (PROBABILITIES.argmax(axis=-1) == TRUTH)[KNOWN].mean()
    assert float(pixel_accuracy(TRUTH, PROBABILITIES)) == pytest.approx(expected)
    assert float(pixel_accuracy(np.full_like(TRUTH, VOID), PROBABILITIES)) == 0


def test_a_loss_travels_in_a_saved_model() -> None:
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(PixelLoss("dice")))
    assert isinstance(again, PixelLoss)
    assert float(again(TRUTH, PROBABILITIES)) == loss("dice")


def test_another_loss_is_refused() -> None:
    with pytest.raises(InputError, match="loss must be one of cross_entropy, focal, dice, cross_entropy_dice"):
        PixelLoss("hinge")
