"""What an experiment of the zoo is: a network, a dataset, a recipe, and what is promised of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.costs import costs
from toolkit.datasets import DATASETS, DatasetInfo
from toolkit.layers import Architecture
from toolkit.recipes import Recipe
from toolkit.records import training_flops
from toolkit.training import TrainConfig, split_sizes

# The smoke form: so few digits, so few at once, one epoch, and networks so narrow that have a width.
SMOKE_IMAGES, SMOKE_BATCH, SMOKE_WIDTH = 40, 20, 3


@dataclass(frozen=True)
class Promise:
    """What an experiment's file promises, on two processor cores.

    accuracy: the least mean test accuracy over seeds. minutes: the most that one run takes. mib: the most memory that
    its process takes, in MiB.
    """

    accuracy: float
    minutes: float
    mib: float


@dataclass(frozen=True)
class Experiment:
    """A network that learns a dataset by a recipe.

    options: of the architecture, as (name, value) pairs. order: experiments with a smaller one run first.
    validation_fraction: the share of the training images that only watches.
    """

    name: str
    dataset: str
    architecture: str
    recipe: Recipe
    promise: Promise
    options: tuple[tuple[str, object], ...] = ()
    validation_fraction: float = 0.02
    order: int = 1

    def network(self, info: DatasetInfo | None = None) -> Architecture:
        """The network for the experiment's images, or for those of another dataset."""
        info = info or DATASETS[self.dataset]
        return architecture(self.architecture, info.image_shape, info.classes, **dict(self.options))

    def config(self, seed: int = 0) -> TrainConfig:
        """The settings of one run."""
        return TrainConfig(
            dataset=self.dataset,
            architecture=self.architecture,
            network=self.network(),
            recipe=self.recipe,
            validation_fraction=self.validation_fraction,
            seed=seed,
        )

    def smoke(self, seed: int = 0) -> TrainConfig:
        """The same network, narrow where it has a width, and recipe on a few digits: it shows that everything runs."""
        has_width = "width" in inspect.signature(ARCHITECTURES[self.architecture]).parameters
        narrow = replace(self, options=tuple(dict(self.options, width=SMOKE_WIDTH).items())) if has_width else self
        return replace(
            self.config(seed),
            dataset="digits",
            network=narrow.network(DATASETS["digits"]),
            recipe=replace(self.recipe, batch_size=SMOKE_BATCH, epochs=1),
            batch_size=SMOKE_BATCH,
            epochs=1,
            validation_fraction=0.1,
            train_limit=SMOKE_IMAGES,
        )

    @property
    def params(self) -> int:
        """All parameters of the network."""
        return costs(self.network()).params

    @property
    def training_flops(self) -> int:
        """Floating-point operations of one run, before it is run: see `records.training_flops`."""
        images, _ = split_sizes(self.config(), DATASETS[self.dataset])
        return training_flops(costs(self.network()).macs, images, self.recipe.epochs)
