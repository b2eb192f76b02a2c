"""A vision transformer in small on CIFAR-10: four epochs, by a short form of the lean network's recipe.

Promises: 50.00% test accuracy (mean over seeds), 40 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_vit
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_vit",
    dataset="cifar10",
    architecture="vit_32",
    recipe=RECIPES["short_cifar"],
    promise=Promise(accuracy=0.5, minutes=40, mib=4000),
    order=4,
)
