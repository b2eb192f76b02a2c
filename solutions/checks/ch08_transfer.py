"""The checks of chapter 8."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.random import Generator

from solutions import ch08_transfer as solution
from solutions.checks.drawing import ARRAYS, whole
from toolkit.grading.questions import Compare, Exercise, Hint, Item, Question

KERAS = Compare(kind="keras")
Numbers = list[int]


def leak_cases(random: Generator) -> list[tuple[list[str], list[str]]]:
    """Copies in both lists, none, and no photos."""
    cases = []
    for kinds in (8, 12, 20):
        names = [f"{number:08x}" for number in random.integers(0, 2**32, kinds)]
        drawn = [[names[at] for at in random.integers(0, kinds, count)] for count in (whole(random, 14, 20), 11)]
        cases.append((drawn[0], drawn[1]))
    return [*cases, (["a", "a", "b"], ["a", "c", "a", "a"]), (["a"], ["b", "B"]), ([], ["a"])]


def single_cases(random: Generator) -> list[tuple[Numbers, Numbers, int]]:
    """Every photo is a group of its own; the numbers of the groups tell nothing."""
    cases = []
    for classes, one_in in ((2, 5), (3, 4), (5, 3), (2, 2)):
        labels = [*range(classes), *range(classes), *(int(each) for each in random.integers(0, classes, 6 * classes))]
        cases.append((labels, [int(each) for each in random.permutation(len(labels))], one_in))
    return [*cases, ([0, 0, 1, 1, 1], [3, 9, 4, 1, 0], 10)]


def group_cases(random: Generator) -> list[tuple[Numbers, Numbers, int]]:
    """Groups of several photos, mixed with those of other classes."""
    cases = []
    for classes, each, one_in in ((2, 5, 2), (3, 4, 2), (4, 7, 3), (2, 3, 9)):
        groups = [int(number) for number in random.permutation(100)[: classes * each]]
        photos = [(at % classes, group) for at, group in enumerate(groups) for _ in range(whole(random, 2, 5))]
        order = random.permutation(len(photos))
        cases.append(([photos[at][0] for at in order], [photos[at][1] for at in order], one_in))
    return cases


def image_cases(random: Generator) -> list[tuple[np.ndarray]]:
    """One image, several, one number; both ends."""
    drawn = [(random.integers(0, 256, shape, np.uint8),) for shape in ((4, 5, 3), (2, 3, 3, 3), (1,))]
    return [*drawn, (np.array([0, 1, 127, 128, 254, 255], np.uint8),)]


def frozen_cases(random: Generator) -> list[tuple[int, ...]]:
    """Images and classes of other sizes."""
    return [(whole(random, 8, 12), whole(random, 13, 16), whole(random, 3, 7))]


def thawed_cases(random: Generator) -> list[tuple[int, ...]]:
    """Some layers, all of them."""
    sizes = whole(random, 8, 12), whole(random, 13, 16), whole(random, 3, 7)
    return [(*sizes, whole(random, 4, 5)), (*sizes, 6)]


# What goes wrong.


def pairs(training: list[str], validation: list[str]) -> int:
    """Every pair of equal photos."""
    return sum(one == other for one in training for other in validation)


def listed(labels: Numbers, groups: Numbers) -> dict[int, Numbers]:
    """The groups of each class in the order of their first photos."""
    found: dict[int, Numbers] = {}
    for label, group in zip(labels, groups, strict=True):
        known = found.setdefault(label, [])
        if group not in known:
            known.append(group)
    return found


def parted(groups: Numbers, held_out: set[int]) -> tuple[Numbers, Numbers]:
    """Photos of other groups, photos of these."""
    training = [number for number, group in enumerate(groups) if group not in held_out]
    return training, [number for number, group in enumerate(groups) if group in held_out]


def without_classes(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """The last groups whatever their class."""
    return solution.split_by_class([0] * len(labels), groups, one_in)


def without_groups(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """Photos instead of groups."""
    return solution.split_by_class(labels, list(range(len(labels))), one_in)


def first_ones(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """The first groups of each class."""
    chosen = [known[: max(1, len(known) // one_in)] for known in listed(labels, groups).values()]
    return parted(groups, {group for known in chosen for group in known})


def rounded_up(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """One group more where it does not divide."""
    chosen = [known[-((len(known) + one_in - 1) // one_in) :] for known in listed(labels, groups).values()]
    return parted(groups, {group for known in chosen for group in known})


def sorted_groups(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """Groups in the order of their numbers."""
    chosen = [sorted(known)[-max(1, len(known) // one_in) :] for known in listed(labels, groups).values()]
    return parted(groups, {group for known in chosen for group in known})


def class_by_class(labels: Numbers, groups: Numbers, one_in: int) -> tuple[Numbers, Numbers]:
    """The lists are not ascending: one class comes after the other."""
    by_class: dict[int, tuple[Numbers, Numbers]] = defaultdict(lambda: ([], []))
    for at, part in enumerate(solution.split_by_class(labels, groups, one_in)):
        for number in part:
            by_class[labels[number]][at].append(number)
    both = [by_class[label] for label in dict.fromkeys(labels)]
    return [each for part, _ in both for each in part], [each for _, part in both for each in part]


def overflowing(images: np.ndarray) -> np.ndarray:
    """127 subtracted in numbers of one byte, which have no sign."""
    return np.asarray((images - np.uint8(127)) / 127.5)


def classifier(what: str, height: int, width: int, classes: int, last: int) -> Any:
    """A model with the mistake `what`; `last` layers of the base can be trained."""
    import keras
    from keras import layers

    base = solution.make_base(height, width)
    for number, layer in enumerate(base.layers):
        thawed = number < last if what == "first layers" else number >= len(base.layers) - last
        batch_norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = (thawed and (what == "batch norm" or not batch_norm)) or what == "all"
        if what == "batch norm only" and batch_norm:
            layer.trainable = True
    image = keras.Input((height, width, 3))
    x = base(image)
    x = layers.Flatten()(x) if what == "flatten" else layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(classes, activation=None if what == "no softmax" else "softmax")
    head.trainable = what != "head frozen"
    return keras.Model(image, head(x))


def frozen_nothing(height: int, width: int, classes: int) -> Any:
    """Everything can be trained."""
    return classifier("all", height, width, classes, 0)


def frozen_without_batch_norm(height: int, width: int, classes: int) -> Any:
    """Batch normalization can be trained."""
    return classifier("batch norm only", height, width, classes, 0)


def frozen_head(height: int, width: int, classes: int) -> Any:
    """Nothing can be trained."""
    return classifier("head frozen", height, width, classes, 0)


def frozen_flattened(height: int, width: int, classes: int) -> Any:
    """Flatten for the pooling."""
    return classifier("flatten", height, width, classes, 0)


def frozen_logits(height: int, width: int, classes: int) -> Any:
    """No softmax."""
    return classifier("no softmax", height, width, classes, 0)


def thawed_batch_norm(height: int, width: int, classes: int, last: int) -> Any:
    """Batch normalization among the last layers can be trained."""
    return classifier("batch norm", height, width, classes, last)


def thawed_first(height: int, width: int, classes: int, last: int) -> Any:
    """The first layers can be trained."""
    return classifier("first layers", height, width, classes, last)


def thawed_all(height: int, width: int, classes: int, last: int) -> Any:
    """All layers can be trained."""
    return classifier("all", height, width, classes, last)


def thawed_nothing(height: int, width: int, classes: int, last: int) -> Any:
    """The model of phase one."""
    return classifier("", height, width, classes, 0)


EXERCISE = Exercise(
    "ch08_transfer",
    "Transfer learning",
    (
        Question(
            "leaked",
            (
                Item(
                    "photos of the validation seen in training",
                    1,
                    ((["a", "b", "b"], ["b", "c", "b"]), (["a"], ["b"])),
                    leak_cases,
                ),
            ),
            solution.leaked,
            hints=(
                Hint("Copies within the validation set count each.", lambda t, v: len(set(t) & set(v))),
                Hint(
                    "Count photos of the validation set, not of the training set.", lambda t, v: solution.leaked(v, t)
                ),
                Hint("These are pairs; each photo of the validation set counts once.", pairs),
                Hint("These are the photos that did not leak.", lambda t, v: len(v) - solution.leaked(t, v)),
            ),
        ),
        Question(
            "split_by_class",
            (
                Item("every class is in both parts", 2, (([0, 0, 0, 1, 1, 1], [5, 3, 4, 0, 2, 1], 3),), single_cases),
                Item("groups stay together", 2, (([0, 1, 0, 1, 0, 1], [5, 6, 5, 7, 8, 7], 2),), group_cases),
            ),
            solution.split_by_class,
            hints=(
                Hint("Split each class by itself: otherwise a class may be missing in one part.", without_classes),
                Hint("Photos of one group are on both sides: split the groups, not the photos.", without_groups),
                Hint("The last groups of a class go to the validation, not the first.", first_ones),
                Hint("Round down: groups // one_in, but at least one.", rounded_up),
                Hint("The groups count in the order in which they first appear, not by their number.", sorted_groups),
                Hint("The numbers have to ascend.", class_by_class),
                Hint("The training comes first, the validation second.", lambda *a: solution.split_by_class(*a)[::-1]),
            ),
        ),
        Question(
            "preprocess",
            (Item("from -1 to 1", 1, ((np.array([0, 51, 255], np.uint8),),), image_cases),),
            solution.preprocess,
            ARRAYS,
            hints=(
                Hint("These go from 0 to 1; the network knows numbers from -1 to 1.", lambda x: x / 255),
                Hint("Numbers of one byte have no sign: divide first, or make floats of them first.", overflowing),
                Hint("255 / 127 is more than 1: divide by 127.5.", lambda x: x / 127 - 1),
                Hint("These go from -0.5 to 0.5; the network knows numbers from -1 to 1.", lambda x: x / 255 - 0.5),
                Hint("The fractions are lost: `/` keeps them, `//` does not.", lambda x: x // 127.5 - 1),
            ),
        ),
        Question(
            "frozen_base",
            (Item("only the head can be trained", 2, ((8, 8, 3),), frozen_cases),),
            solution.frozen_base,
            KERAS,
            (
                Hint("The base is not frozen: set its `trainable` to False.", frozen_nothing),
                Hint("The batch normalization of the base is not frozen.", frozen_without_batch_norm),
                Hint("The head is frozen too; then nothing can be learned.", frozen_head),
                Hint("GlobalAveragePooling2D comes behind the base, not Flatten.", frozen_flattened),
                Hint('The activation "softmax" is missing.', frozen_logits),
            ),
            needs="keras",
            seconds=20,
        ),
        Question(
            "thawed_base",
            (Item("the last layers can be trained", 2, ((8, 8, 3, 3),), thawed_cases),),
            solution.thawed_base,
            KERAS,
            (
                Hint("Batch normalization has to stay frozen, also among the last layers.", thawed_batch_norm),
                Hint("The last layers should learn, not the first.", thawed_first),
                Hint("Only the last layers should learn, and no batch normalization.", thawed_all),
                Hint("No layer of the base can be trained.", thawed_nothing),
            ),
            needs="keras",
            seconds=20,
        ),
    ),
)
