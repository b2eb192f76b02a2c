"""MobileNetV2 in small on CIFAR-10: four epochs, by a short form of the lean network's recipe.

Promises: 70.00% test accuracy (mean over seeds), 40 minutes a run on two cores, 4,000 MiB.

    python -m toolkit bench zoo --models cifar10_mobilenet_v2
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="cifar10_mobilenet_v2",
    dataset="cifar10",
    architecture="mobilenet_v2_32",
    recipe=RECIPES["short_cifar"],
    promise=Promise(accuracy=0.7, minutes=40, mib=4000),
    order=4,
)
