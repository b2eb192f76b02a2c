"""The lean network on CIFAR-10 in four epochs: what the famous ones, and the ablations, are compared with.

Promises: 80.00% test accuracy (mean over seeds), 15 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_lean_short
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_lean_short",
    dataset="cifar10",
    architecture="lean_cnn_32",
    recipe=RECIPES["short_cifar"],
    promise=Promise(accuracy=0.8, minutes=15, mib=4000),
    order=4,
)
