"""The lean network of 802,554 parameters on CIFAR-10, by the recipe that is made for it.

Promises: 91.00% test accuracy (mean over seeds), 60 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_lean
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_lean",
    dataset="cifar10",
    architecture="lean_cnn_32",
    recipe=RECIPES["lean_cifar"],
    promise=Promise(accuracy=0.91, minutes=60, mib=4000),
    order=0,
)
