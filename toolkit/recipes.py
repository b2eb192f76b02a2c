"""How a network learns, as frozen data: optimizer, schedule, augmentation and the rest, by name in `RECIPES`.

Nothing here imports Keras. `toolkit.optimizing` and `toolkit.augmenting` make Keras's objects of it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from toolkit.arithmetic import require_choice, require_whole
from toolkit.errors import InputError

OPTIMIZERS = ("sgd", "adam", "adamw", "lion", "muon")
SCHEDULES = ("constant", "cosine", "one_cycle", "plateau")
FLIPS = ("none", "random", "alternating")
PADDINGS = ("edge", "reflect", "zero")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
COMPILATIONS = ("auto", "on", "off")


@dataclass(frozen=True)
class Recipe:
    """How a network learns. Values that cannot be used raise InputError with what can.

    optimizer: "sgd" (with momentum, Nesterov's unless `nesterov` is False), "adam", "adamw", "lion" or "muon" (Keras's,
        for convolutions too; what is no matrix, and the last layer, learns by Adam within it).
    learning_rate: the highest. weight_decay: per update and unit of learning rate, of kernels only, 0 for none.
    schedule: the learning rate stays ("constant"), falls to `final_rate` along half a cosine ("cosine") or a line
        ("one_cycle"), or halves after each epoch that does not lower the validation loss ("plateau"). `warmup` is the
        share of all updates in which it rises from 0 along a line first.
    label_smoothing: the share of a label that is spread over all classes (Szegedy et al. 2016, section 7).
    flip: every image is mirrored left to right every other time by chance ("random"), or by chance in the first epoch
        and every other epoch from there ("alternating", Jordan 2024, section 3.6).
    shift: up to so many pixels each way; what comes in from outside is `padding`: "edge", "reflect" or "zero".
    rotation: up to so many degrees each way. randaugment: its strength, 0 … 1 (Cubuk et al. 2020). random_erasing:
        the share of images with a rectangle of noise (Zhong et al. 2020). mixup, cutmix: Keras's `alpha` and `factor`
        (Zhang et al. 2018, Yun et al. 2019), 0 for none; with both, each batch has one of the two.
    weight_averaging: how much of the mean over updates stays at each update (0.99), 0 for none; the trained network
        has the mean.
    test_flip, test_shift: at the end, also answer by the mean over mirrored images, and over those that are moved so
        many pixels to the upper left and the lower right.
    clip_norm: the longest gradient of all weights together, 0 for none.
    precision: of the computation; weights stay float32. jit_compile: by XLA "on", "off", or as Keras sees fit.

    >>> Recipe(learning_rate=0.1).schedule
    'cosine'
    >>> Recipe(flip="always")
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: flip must be one of none, random, alternating; 'always' came
    """

    name: str = "own"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    final_rate: float = 0.0
    batch_size: int = 64
    epochs: int = 10
    label_smoothing: float = 0.0
    flip: str = "none"
    shift: int = 0
    padding: str = "edge"
    rotation: float = 0.0
    randaugment: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    weight_averaging: float = 0.0
    test_flip: bool = False
    test_shift: int = 0
    clip_norm: float = 0.0
    precision: str = "float32"
    jit_compile: str = "auto"

    def __post_init__(self) -> None:
        for what, choices in _CHOICES.items():
            require_known(what, getattr(self, what), choices)
        for what, (low, high, example) in _NUMBERS.items():
            require_number(what, getattr(self, what), low, high, example)
        require_number("learning_rate", self.learning_rate, 0, 100, "0.001", open_below=True)
        for what, least in (("batch_size", 1), ("epochs", 1), ("shift", 0), ("test_shift", 0)):
            require_whole(what, getattr(self, what), least=least)
        if self.schedule == "plateau" and self.warmup:
            raise InputError(
                'schedule="plateau" has no warm-up: the validation decides on its rate; leave warmup out, or take '
                'schedule="one_cycle"'
            )

    @property
    def views(self) -> int:
        """How many views of an image the answer at the end is the mean of; 1 is the image alone."""
        return (2 if self.test_flip else 1) * (3 if self.test_shift else 1)

    @property
    def mixes(self) -> bool:
        """Whether an image may belong to several classes, so that its label is a share for each."""
        return bool(self.label_smoothing or self.mixup or self.cutmix)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, whole."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_dict` described; what is left out stays at its default. Raises InputError.

        >>> Recipe.from_dict({"optimizer": "sgd"}).optimizer
        'sgd'
        """
        known = [each.name for each in fields(cls)]
        if strange := [name for name in data if name not in known]:
            raise InputError(f"a recipe has no {strange[0]!r}; it has {', '.join(known)}")
        return cls(**data)


# Of each field, what it may be: words; or numbers from the first to before the second, and one of them.
_CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "flip": FLIPS,
    "padding": PADDINGS,
    "precision": PRECISIONS,
    "jit_compile": COMPILATIONS,
}
_NUMBERS = {
    "momentum": (0, 1, "0.9"),
    "weight_decay": (0, 100, "0.0005"),
    "warmup": (0, 1, "0.2"),
    "final_rate": (0, 1, "0.01"),
    "label_smoothing": (0, 1, "0.1"),
    "rotation": (0, 181, "10"),
    "randaugment": (0, 1.001, "0.3"),
    "random_erasing": (0, 1.001, "0.5"),
    "mixup": (0, 100, "0.2"),
    "cutmix": (0, 1.001, "1.0"),
    "weight_averaging": (0, 1, "0.99"),
    "clip_norm": (0, 1e6, "1.0"),
}


def require_known(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise InputError where the value is none of the choices.

    >>> require_known("flip", "random", FLIPS)
    """
    if not isinstance(value, str):
        raise InputError(f"{what} must be one of {', '.join(choices)}; {value!r} came")
    require_choice(what, value, choices)


def require_number(what: str, value: object, low: float, high: float, example: str, open_below: bool = False) -> None:
    """Refuse what is not a number from `low` (or above it, `open_below`) up to, but not including, `high`.

    >>> require_number("warmup", 0.2, 0, 1, "0.2")
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number < high or (open_below and number == low):
        bounds = f"{'above' if open_below else 'from'} {low:g} and below {high:g}"
        raise InputError(f"{what} must be a number {bounds}; {value!r} came; give one such as {example}")


_NOTES = Recipe(name="notes", learning_rate=1e-3, schedule="plateau", batch_size=64, epochs=15)
_LEAN_MNIST = Recipe(
    name="lean_mnist",
    optimizer="adamw",
    learning_rate=6e-3,
    weight_decay=0.02,
    schedule="one_cycle",
    warmup=0.2,
    final_rate=0.002,
    batch_size=128,
    epochs=20,
    label_smoothing=0.05,
    shift=2,
    padding="zero",
    rotation=10.0,
)
_LEAN_CIFAR = Recipe(
    name="lean_cifar",
    optimizer="muon",
    learning_rate=0.02,
    weight_decay=0.05,
    schedule="one_cycle",
    warmup=0.2,
    final_rate=0.01,
    batch_size=500,
    epochs=12,
    label_smoothing=0.1,
    flip="alternating",
    shift=2,
    padding="reflect",
    test_flip=True,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _NOTES,
        replace(_NOTES, name="notes_augmented", flip="random", shift=3, epochs=30),
        replace(_NOTES, name="notes_shifted", shift=2),
        _LEAN_MNIST,
        replace(_LEAN_MNIST, name="lean_mnist_tiny", epochs=30, rotation=8.0, label_smoothing=0.0),
        _LEAN_CIFAR,
        replace(_LEAN_CIFAR, name="short_cifar", epochs=4),
        replace(
            _LEAN_CIFAR, name="lean_cifar_sgd", optimizer="sgd", learning_rate=0.3, momentum=0.9, weight_decay=5e-4
        ),
    )
}
"""The recipes by name: the course notes' way ("notes…"), and those of the lean networks ("lean…")."""


def recipe_named(name: str) -> Recipe:
    """The recipe of this name; raises InputError with the nearest name otherwise.

    >>> recipe_named("notes").schedule
    'plateau'
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(str(name), RECIPES, n=1)
    nearest = f"the nearest is {close[0]!r}; " if close else ""
    raise InputError(f"there is no recipe {name!r}; {nearest}choose one of {', '.join(RECIPES)}")


def memory_slots(recipe: Recipe) -> str:
    """The optimizer as `costs` knows it: by how many numbers it keeps for each weight.

    >>> memory_slots(Recipe(optimizer="sgd")), memory_slots(Recipe(optimizer="muon", weight_averaging=0.99))
    ('momentum', 'adam')
    """
    kept = {"sgd": 1 if recipe.momentum else 0, "lion": 1, "muon": 1}.get(recipe.optimizer, 2)
    return ("sgd", "momentum", "adam", "adam")[kept + bool(recipe.weight_averaging)]
