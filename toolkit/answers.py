"""What trained models answer, and where their answers are worth a look. NumPy alone: no Keras, no process.

Probabilities are (images, classes); labels and indices are whole numbers (images,).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.costs import Rows, trace
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.forward import forward, load_weights
from toolkit.training import TrainResult, network_of

Probabilities = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """One model's answer to one image: its classes with probabilities, the likeliest first."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def ask(result: TrainResult, image: npt.NDArray[np.uint8]) -> Answer:
    """The answer of a trained model to one uint8 image (height, width, channels); raises InputError if it cannot."""
    info = DATASETS[result.config.dataset]
    rows = _rows(result)
    if image.shape != rows[0].output_shape:
        raise InputError(f"the model takes images of {rows[0].output_shape}; one of {image.shape} came; resize it")
    probabilities = forward(rows, load_weights(result.folder / "weights.npz"), image[np.newaxis])[0]
    order = np.argsort(-probabilities, kind="stable")
    return Answer(tuple(info.class_names[i] for i in order), tuple(float(probabilities[i]) for i in order))


def _rows(result: TrainResult) -> Rows:
    return trace(network_of(result.config, DATASETS[result.config.dataset]))


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's probabilities for the test images whose numbers are in `index`, in rising order."""

    index: Numbers
    probabilities: Probabilities

    @property
    def classes(self) -> Numbers:
        """The likeliest class of each image."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> Probabilities:
        """The probability of the likeliest class of each image."""
        return np.asarray(self.probabilities.max(axis=1), np.float32)

    def only(self, numbers: Numbers) -> "Predictions":
        """Those for some of the test images."""
        kept = np.isin(self.index, numbers)
        return Predictions(self.index[kept], self.probabilities[kept])


@lru_cache(maxsize=4)
def predictions(folder: Path) -> Predictions:
    """What a training predicted for its test images; raises InputError where its folder does not say."""
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as file:
            return Predictions(file["index"].astype(np.int64), file["probabilities"].astype(np.float32))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"this training left no predictions ({error}); train again") from None


def worst_mistakes(model: Predictions, labels: Numbers) -> Numbers:
    """Numbers of the test images that the model got wrong, the surest answers first.

    >>> model = Predictions(np.array([0, 1, 2]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], np.float32))
    >>> worst_mistakes(model, np.array([1, 1, 1])).tolist()
    [0, 1]
    """
    wrong = model.classes != labels[model.index]
    return _surest_first(model.index[wrong], model.confidence[wrong])


def disagreements(a: Predictions, b: Predictions) -> Numbers:
    """Numbers of the test images for which two models give different answers, the surest pairs first.

    >>> a = Predictions(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]], np.float32))
    >>> b = Predictions(np.array([1, 2]), np.array([[0.2, 0.8], [1.0, 0.0]], np.float32))
    >>> disagreements(a, b).tolist()
    [1]
    """
    common = np.intersect1d(a.index, b.index)
    a, b = a.only(common), b.only(common)
    differ = a.classes != b.classes
    return _surest_first(common[differ], (a.confidence + b.confidence)[differ])


def _surest_first(numbers: Numbers, confidence: Probabilities) -> Numbers:
    order = np.argsort(-confidence, kind="stable")
    return np.asarray(numbers[order], np.int64)
