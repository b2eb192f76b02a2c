"""The lean network on MNIST, as the course notes trained theirs.

Promises: 99.00% test accuracy (mean over seeds), 45 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_lean_notes
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_lean_notes",
    dataset="mnist",
    architecture="lean_cnn_28",
    recipe=RECIPES["notes_shifted"],
    promise=Promise(accuracy=0.99, minutes=45, mib=3000),
    validation_fraction=0.1,
    order=2,
)
