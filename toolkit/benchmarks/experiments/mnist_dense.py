"""One hidden dense layer on MNIST, by the lean network's recipe: what a network without convolutions reaches.

Promises: 95.00% test accuracy (mean over seeds), 20 minutes a run on two cores, 3,000 MiB.

    python -m toolkit bench zoo --models mnist_dense
"""

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

EXPERIMENT = Experiment(
    name="mnist_dense",
    dataset="mnist",
    architecture="dense_baseline",
    recipe=RECIPES["lean_mnist"],
    promise=Promise(accuracy=0.95, minutes=20, mib=3000),
    order=3,
)
