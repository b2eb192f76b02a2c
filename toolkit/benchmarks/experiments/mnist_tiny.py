"""A network of 9,540 parameters on MNIST.

Promises: 99.40% test accuracy (mean over seeds), 45 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_tiny
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_tiny",
    dataset="mnist",
    architecture="tiny_cnn_28",
    recipe=RECIPES["lean_mnist_tiny"],
    promise=Promise(accuracy=0.994, minutes=45, mib=3000),
    order=0,
)
