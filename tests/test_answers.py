"""What the app asks trained models, held against the NumPy forward pass and against counting by hand."""

from pathlib import Path

import numpy as np
import pytest

from toolkit.answers import Predictions, ask, disagreements, predictions, worst_mistakes
from toolkit.costs import trace
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.forward import forward, save_weights, weight_shapes
from toolkit.training import TrainConfig, TrainResult, network_of

RNG = np.random.default_rng(7)


@pytest.fixture
def trained(tmp_path: Path) -> TrainResult:
    """A result whose weights are drawn by lot."""
    config = TrainConfig(channels=2)
    rows = trace(network_of(config, DATASETS["digits"]))
    weights = {
        row.name: [
            RNG.normal(size=shape).astype(np.float32)
            for shape in weight_shapes(row.layer, row.input_shapes[0]).values()
        ]
        for row in rows[1:]
        if row.params
    }
    save_weights(tmp_path / "weights.npz", weights)
    return TrainResult(config, 1, {}, 0.5, 1.0, 4, ((4,),), {}, 1.0, 1.0, 1, False, 1, tmp_path)


def test_an_answer_is_the_forward_pass_in_the_order_of_its_probabilities(trained: TrainResult) -> None:
    from toolkit.forward import load_weights

    image = RNG.integers(0, 256, (28, 28, 1), np.uint8)
    rows = trace(network_of(trained.config, DATASETS["digits"]))
    expected = forward(rows, load_weights(trained.folder / "weights.npz"), image[np.newaxis])[0]
    answer = ask(trained, image)
    assert sorted(answer.probabilities, reverse=True) == list(answer.probabilities)
    assert dict(zip(answer.classes, answer.probabilities, strict=True)) == pytest.approx(
        {str(digit): float(expected[digit]) for digit in range(10)}
    )


def test_an_image_of_another_size_is_refused(trained: TrainResult) -> None:
    with pytest.raises(InputError, match="resize it"):
        ask(trained, np.zeros((32, 32, 3), np.uint8))


def test_a_folder_without_predictions_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train again"):
        predictions(tmp_path)


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    index, probabilities = np.array([3, 5]), np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    np.savez(tmp_path / "predictions.npz", index=index, probabilities=probabilities)
    read = predictions(tmp_path)
    assert (read.index == index).all()
    assert read.classes.tolist() == [1, 0]
    assert read.confidence.tolist() == [0.75, 0.5]


def random_predictions(images: int, tested: int) -> Predictions:
    index = np.sort(RNG.choice(images, tested, replace=False))
    return Predictions(index, RNG.dirichlet(np.ones(4), tested).astype(np.float32))


def test_orders_against_counting_by_hand() -> None:
    labels = RNG.integers(0, 4, 60)
    a, b = random_predictions(60, 40), random_predictions(60, 50)
    of_a, of_b = ({int(n): row for n, row in zip(m.index, m.probabilities, strict=True)} for m in (a, b))
    wrong = [n for n in of_a if of_a[n].argmax() != labels[n]]
    assert worst_mistakes(a, labels).tolist() == sorted(wrong, key=lambda n: -of_a[n].max())
    differ = [n for n in of_a if n in of_b and of_a[n].argmax() != of_b[n].argmax()]
    assert disagreements(a, b).tolist() == sorted(differ, key=lambda n: -(of_a[n].max() + of_b[n].max()))
    assert disagreements(a, a).size == 0
