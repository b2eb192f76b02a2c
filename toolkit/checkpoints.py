"""What a fine-tuning has come to, as one file that is never half written. NumPy alone."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import InputError

_CURVES = ("phase", "loss", "accuracy", "val_loss", "val_accuracy")
_LISTS = ("weights", "best", "optimizer")


@dataclass
class Learned:
    """What a run has come to: all that its checkpoint holds. Arrays are the variables that learn in this phase."""

    key: str
    phase: str = "head"
    history: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _CURVES})
    seconds: dict[str, float] = field(default_factory=dict)
    best_loss: float = math.inf
    waited: int = 0
    weights: list[NDArray[Any]] = field(default_factory=list)
    best: list[NDArray[Any]] = field(default_factory=list)
    optimizer: list[NDArray[Any]] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Whole epochs of this phase."""
        return self.history["phase"].count(self.phase)


def save_checkpoint(learned: Learned, path: Path) -> None:
    """Write it down beside the old one, and put it in its place in one step: a kill leaves one or the other."""
    words = {name: value for name, value in vars(learned).items() if name not in _LISTS}
    arrays = {f"{name}{i}": array for name in _LISTS for i, array in enumerate(getattr(learned, name))}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, words=np.array(json.dumps(words)), **arrays)
    os.replace(part, path)  # noqa: PTH105 - Path.replace is the same


def load_checkpoint(path: Path) -> Learned:
    """What `save_checkpoint` wrote; raises InputError where the file is damaged or is none."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            learned = Learned(**json.loads(str(file["words"])))
            for name in _LISTS:
                count = sum(key.rstrip("0123456789") == name for key in file.files)
                setattr(learned, name, [file[f"{name}{number}"] for number in range(count)])
            return learned
    except FileNotFoundError:
        raise InputError(f"there is no {path.name} in {path.parent} to go on from; begin without resume") from None
    except Exception as error:  # damaged bytes can make a reader raise anything
        raise InputError(f"{path} is damaged ({error}); begin anew, without resume") from error
