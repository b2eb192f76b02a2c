"""What the zoo's runs gave: one JSON object a line in `book/results/zoo/<dataset>.jsonl`, as frozen data.

Nothing here trains, and nothing here needs more than the standard library: the benchmark writes these records, and
pages and figures read them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from toolkit.errors import InputError

STORED = Path(__file__).parents[1] / "book" / "results" / "zoo"
"""Where the records of this repository lie."""


@dataclass(frozen=True)
class Record:
    """One finished run of an experiment.

    recipe: the whole recipe as data; recipe_name is its name. params: all of the network. macs: of one image, forward.
    training_flops: 2 × macs × 3 (forward, and twice that backward) × images that were learned from, validation left
    out. seconds: of training, validation included. peak_bytes: of the training process, Python and Keras included.
    validation_accuracy, test_accuracy, test_loss: of the trained network, each image seen once, as it is.
    augmented_test_accuracy: of the mean over the recipe's views of each test image; None where it has none.
    per_class: share that was answered rightly, in the order of class_names. confusion: rows are the true classes,
    columns the answers. history: a value for each epoch. calibration: `calibration.Calibration.to_dict` of the
    answers to the test images.
    machine, versions, backend, date (UTC) and command say where it comes from; folder holds its files, which are not
    part of the repository.
    """

    experiment: str
    dataset: str
    architecture: str
    recipe: Mapping[str, Any]
    recipe_name: str
    seed: int
    epochs: int
    train_images: int
    params: int
    macs: int
    training_flops: int
    seconds: float
    images_per_second: float
    peak_bytes: int
    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    per_class: Sequence[float]
    class_names: Sequence[str]
    confusion: Sequence[Sequence[int]]
    history: Mapping[str, Sequence[float]]
    calibration: Mapping[str, Sequence[float]]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    backend: str
    date: str
    command: str
    folder: str
    augmented_test_accuracy: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    validation_fraction: float | None = None

    @property
    def accuracy(self) -> float:
        """The accuracy that the tables show: of the test images as they are."""
        return self.test_accuracy

    @property
    def name(self) -> str:
        """Network and recipe: what tells the records of a dataset apart, but for their seed."""
        return f"{self.architecture}, {self.recipe_name}"

    @property
    def per_class_accuracy(self) -> dict[str, float]:
        """The share of each class that was answered rightly, by name."""
        return dict(zip(self.class_names, self.per_class, strict=True))

    @property
    def device(self) -> str:
        """What computed it: the graphics processor where the machine names one, else the processor."""
        return str(self.machine.get("gpu") or self.machine.get("processor") or "")

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The record that `to_dict` described; what it does not know is left out. Raises InputError."""
        known = {each.name for each in fields(cls)}
        try:
            return cls(**{name: value for name, value in data.items() if name in known})
        except TypeError as error:
            raise InputError(f"this is not the record of a run: {error}") from None


def training_flops(macs: int, images: int, epochs: int) -> int:
    """Floating-point operations of a training: 2 a MAC, three times the forward pass, for each image in each epoch.

    The backward pass takes twice the forward one: gradients of the weights, and of what came in.

    >>> training_flops(macs=10, images=100, epochs=2)
    12000
    """
    return 2 * macs * 3 * images * epochs


def read_records(folder: str | Path = STORED) -> tuple[Record, ...]:
    """The records of all `.jsonl` files in a folder, by name of the file and in the order of its lines.

    A folder that is not there has none. Raises InputError with file and line where one cannot be read.
    """
    return tuple(record for path in sorted(Path(folder).glob("*.jsonl")) for record in _read(path))


def _read(path: Path) -> Iterable[Record]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield Record.from_dict(json.loads(line))
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path}, line {number}: {error}; remove the line to have its run repeated") from None


def append_record(folder: str | Path, record: Record) -> Path:
    """Write a record behind the others of its dataset, as one line, and return the file."""
    path = Path(folder) / f"{record.dataset}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record.to_dict(), ensure_ascii=False) + "\n")
    return path
