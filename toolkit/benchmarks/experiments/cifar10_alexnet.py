"""AlexNet at the course notes' size (2 million parameters) on CIFAR-10, by the lean network's recipe.

Promises: 75.00% test accuracy (mean over seeds), 120 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_alexnet
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_alexnet",
    dataset="cifar10",
    architecture="alexnet_32",
    recipe=RECIPES["lean_cifar"],
    promise=Promise(accuracy=0.75, minutes=120, mib=4000),
    options=(("units", 600),),
    order=1,
)
