"""AlexNet at the course notes' size on MNIST, by the lean network's recipe.

Promises: 99.30% test accuracy (mean over seeds), 90 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_alexnet
"""

from dataclasses import replace

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_alexnet",
    dataset="mnist",
    architecture="alexnet_28",
    recipe=replace(RECIPES["lean_mnist"], name="lean_mnist_alexnet", learning_rate=1e-3),
    promise=Promise(accuracy=0.993, minutes=90, mib=3000),
    options=(
        ("width", 48),
        ("units", 936),
    ),
    order=2,
)
