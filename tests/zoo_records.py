"""Records of trainings that never were, for tests of what reads them."""

from typing import Any

import numpy as np

from toolkit.calibration import reliability
from toolkit.records import Record

CLASSES = ("cat", "dog", "ship")


def record(seed: int = 0, accuracy: float = 0.9, **changes: Any) -> Record:
    """One record; its confusion matrix takes cats and dogs for each other."""
    shares = np.array([[accuracy, 1 - accuracy, 0.0]])
    told: dict[str, Any] = {
        "experiment": "mnist_lean",
        "dataset": "mnist",
        "architecture": "small_cnn",
        "recipe": {"name": "lean", "flip": "random"},
        "recipe_name": "lean",
        "seed": seed,
        "epochs": 3,
        "train_images": 60,
        "params": 85_000,
        "macs": 4_000_000,
        "training_flops": 3 * 10**13,
        "seconds": 100.0 + seed,
        "images_per_second": 700.0,
        "peak_bytes": 10**9,
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_loss": 0.3,
        "per_class": [accuracy, accuracy, 1.0],
        "class_names": CLASSES,
        "confusion": [[90, 9, 1], [6, 94, 0], [0, 2, 98]],
        "history": {
            "loss": [0.9, 0.5, 0.3 + seed / 100],
            "accuracy": [0.5, 0.7, accuracy],
            "val_loss": [0.8, 0.6, 0.4],
            "val_accuracy": [0.5, 0.7, accuracy - seed / 50],
        },
        "calibration": reliability(np.repeat(shares, 4, axis=0), np.array([0, 0, 0, 1])).to_dict(),
        "machine": {"processor": "a processor", "cpus": 2},
        "versions": {"keras": "3.15.1"},
        "backend": "tensorflow",
        "date": "2026-01-02T03:04:05+00:00",
        "command": "python -m toolkit bench zoo --models mnist_lean",
        "folder": f"runs/zoo/mnist_lean-{seed}",
    }
    return Record(**told | changes)


def ablation_record(name: str, seed: int, accuracy: float, **recipe: Any) -> Record:
    """A record of the lean network with something changed."""
    called = f"lean_{name}"
    settings = {"name": called, "flip": "random"} | recipe
    return record(seed, accuracy, experiment=f"mnist_ablation_{name}", recipe=settings, recipe_name=called)


LEAN = (0.990, 0.992, 0.994)
ALEXNET = (0.980, 0.981)
NO_FLIP = (0.985, 0.986, 0.984)


def some_records() -> list[Record]:
    """A lean network with three seeds, an AlexNet with two, a ViT with one, and two ablations."""
    alexnet = {"experiment": "mnist_alexnet", "architecture": "alexnet_28", "params": 2_300_000}
    vit = {"experiment": "mnist_vit", "architecture": "vit_tiny_28", "params": 300_000, "recipe_name": "notes"}
    return [
        *(record(seed, accuracy) for seed, accuracy in enumerate(LEAN)),
        *(record(seed, accuracy, **alexnet, seconds=400.0) for seed, accuracy in enumerate(ALEXNET)),
        record(0, 0.93, **vit, seconds=900.0),
        *(ablation_record("no_flip", seed, accuracy, flip="none") for seed, accuracy in enumerate(NO_FLIP)),
        ablation_record("mixup", 0, 0.993, mixup=0.2),
    ]
