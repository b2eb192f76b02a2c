"""AlexNet at the course notes' size (2.3 million parameters) on MNIST, as the notes trained it.

Promises: 99.00% test accuracy (mean over seeds), 90 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_alexnet_notes
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_alexnet_notes",
    dataset="mnist",
    architecture="alexnet_28",
    recipe=RECIPES["notes_shifted"],
    promise=Promise(accuracy=0.99, minutes=90, mib=3000),
    options=(
        ("width", 48),
        ("units", 936),
    ),
    validation_fraction=0.1,
    order=2,
)
