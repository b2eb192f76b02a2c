"""The lean network on CIFAR-10, as the course notes trained theirs.

Promises: 82.00% test accuracy (mean over seeds), 180 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_lean_notes
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_lean_notes",
    dataset="cifar10",
    architecture="lean_cnn_32",
    recipe=RECIPES["notes_augmented"],
    promise=Promise(accuracy=0.82, minutes=180, mib=4000),
    validation_fraction=0.1,
    order=2,
)
