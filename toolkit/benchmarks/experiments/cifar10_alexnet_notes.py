"""AlexNet at the course notes' size on CIFAR-10, as the notes trained it.

Promises: 75.00% test accuracy (mean over seeds), 300 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_alexnet_notes
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_alexnet_notes",
    dataset="cifar10",
    architecture="alexnet_32",
    recipe=RECIPES["notes_augmented"],
    promise=Promise(accuracy=0.75, minutes=300, mib=4000),
    options=(("units", 600),),
    validation_fraction=0.1,
    order=2,
)
