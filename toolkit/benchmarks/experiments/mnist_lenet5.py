"""LeNet-5 on MNIST, by the lean network's recipe.

Promises: 98.50% test accuracy (mean over seeds), 20 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_lenet5
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_lenet5",
    dataset="mnist",
    architecture="lenet5",
    recipe=RECIPES["lean_mnist"],
    promise=Promise(accuracy=0.985, minutes=20, mib=3000),
    order=3,
)
