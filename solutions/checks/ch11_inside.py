"""The checks of chapter 11."""

import numpy as np
from numpy.random import Generator

from solutions import ch11_inside as solution
from solutions.checks.drawing import ARRAYS, normal, whole
from toolkit.grading.questions import Exercise, Hint, Item, Question

Quantized = tuple[np.ndarray, np.ndarray]


def cam_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps of numbers above 0, as behind ReLU, of other ones, and such that nothing spoke for the class."""
    shapes = (4, 5, 6), (3, 7, 2), (2, 3, 8)
    drawn = [(normal(random, *shape) + 0.5, normal(random, *shape)) for shape in shapes]
    nothing = np.abs(normal(random, 3, 4, 2))
    return [*drawn, (nothing, -np.abs(normal(random, 3, 4, 2))), (0 * nothing, normal(random, 3, 4, 2))]


def adversarial_cases(random: Generator) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Images and rows of numbers, with gradients of 0, black and white pixels."""
    cases = []
    for shape in ((4, 5, 3), (3, 6, 1), (8,)):
        image = random.random(shape)
        image[0] = whole(random, 0, 1)
        gradient = np.where(random.random(shape) < 0.15, 0, normal(random, *shape))
        cases.append((image, gradient, float(random.uniform(0.05, 0.3))))
    return cases


def kernel_cases(random: Generator) -> list[tuple[np.ndarray]]:
    """Kernels of convolutions and of dense layers; filters of very different sizes; one whose largest is negative."""
    cases = []
    for shape in ((3, 3, 2, 4), (5, 3), (1, 1, 6, 2)):
        kernel = normal(random, *shape) * 10.0 ** random.uniform(-2, 1, shape[-1])
        kernel[..., 0] = -np.abs(kernel[..., 0])
        cases.append((away_from_halves(kernel),))
    return cases


def away_from_halves(kernel: np.ndarray) -> np.ndarray:
    """The kernel with what lies between two whole numbers moved a little, so that float32 rounds it the same way."""
    _, scales = solution.quantize(kernel)
    parts = np.modf(np.abs(kernel / scales))[0]
    return np.where(np.abs(parts - 0.5) < 0.02, kernel + 0.05 * scales, kernel)


def zero_cases(random: Generator) -> list[tuple[np.ndarray]]:
    """A filter of zeros among others."""
    kernel = normal(random, 3, 2, 4)
    kernel[..., whole(random, 0, 3)] = 0
    return [(kernel,), (np.zeros((3, 3, 1, 2)),)]


def ensemble_cases(random: Generator) -> list[tuple[np.ndarray]]:
    """One network, several, and a minority that is so sure that it wins."""
    cases = [
        (random.dirichlet(np.full(classes, 0.4), (networks, 12)),)
        for networks, classes in ((3, 4), (5, 3), (1, 5), (4, 10))
    ]
    sure = np.array([[[0.0, 0.0, 1.0]], [[0.4, 0.35, 0.25]], [[0.4, 0.35, 0.25]]])
    return [*cases, (sure,), (random.permutation(np.array([[[0.9, 0.1]], [[0.45, 0.55]], [[0.4, 0.6]]])),)]


# What goes wrong.


def cam(what: str, maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Grad-CAM with the mistake `what`."""
    weights = gradients.mean(axis=(0, 1))
    weights = {"absolute": np.abs(weights), "unweighted": np.ones_like(weights)}.get(what, weights)
    seen = (maps * gradients).sum(axis=2) if what == "each place" else maps @ weights
    if what == "no ReLU":
        return np.asarray(seen / seen.max() if seen.max() > 0 else seen)
    seen = np.maximum(seen, 0)
    if what == "not divided":
        return np.asarray(seen)
    if what == "sum":
        return np.asarray(seen / seen.sum() if seen.any() else seen)
    return np.asarray(seen / seen.max() if seen.any() else seen)


def quantized(kernel: np.ndarray, what: str) -> Quantized:
    """Eight bits with the mistake `what`."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    largest = flat.max(axis=0) if what == "signed" else np.abs(flat).max(axis=0)
    if what == "one scale":
        largest = np.full_like(largest, largest.max())
    scales = np.where(largest != 0, largest / {"128": 128, "255": 255}.get(what, 127), 1.0)
    rounded = np.trunc if what == "cut" else np.rint
    return np.asarray(rounded(kernel / scales)), scales


def upside_down(kernel: np.ndarray) -> Quantized:
    """127 divided by the largest."""
    numbers, scales = solution.quantize(kernel)
    return numbers, 1 / scales


def nan_scales(kernel: np.ndarray) -> Quantized:
    """A filter of zeros divided by zero; the scale is 0 then."""
    numbers, scales = solution.quantize(kernel)
    return numbers, np.where(np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) > 0, scales, 0)


def majority(probabilities: np.ndarray) -> np.ndarray:
    """One network, one vote; the first class of the most voted."""
    votes = probabilities.argmax(axis=2)
    return np.array([np.bincount(image).argmax() for image in votes.T])


EXERCISE = Exercise(
    "ch11_inside",
    "Looking inside",
    (
        Question(
            "grad_cam",
            (
                Item(
                    "where the network looked",
                    3,
                    (
                        (np.array([[[1.0, 0.0], [4.0, 1.0]]]), np.array([[[1.0, -2.0], [3.0, -6.0]]])),
                        (np.array([[[1.0], [2.0]]]), np.array([[[-1.0], [0.0]]])),
                    ),
                    cam_cases,
                ),
            ),
            solution.grad_cam,
            ARRAYS,
            hints=(
                Hint("What is negative spoke against the class: 0 takes its place.", lambda *a: cam("no ReLU", *a)),
                Hint("The largest number should be 1: divide by it.", lambda *a: cam("not divided", *a)),
                Hint("A channel has one weight: the mean of its gradients.", lambda *a: cam("each place", *a)),
                Hint("Divide by the largest number, not by the sum.", lambda *a: cam("sum", *a)),
                Hint("The weights keep their sign.", lambda *a: cam("absolute", *a)),
                Hint("The maps have to be weighted by their gradients.", lambda *a: cam("unweighted", *a)),
            ),
        ),
        Question(
            "adversarial",
            (
                Item(
                    "a step of the same size for every pixel",
                    2,
                    ((np.array([0.5, 0.5, 0.95]), np.array([0.02, -7.0, 3.0]), 0.1),),
                    adversarial_cases,
                ),
            ),
            solution.adversarial,
            ARRAYS,
            hints=(
                Hint("Only the sign of the gradient counts, not its size.", lambda x, g, e: np.clip(x + e * g, 0, 1)),
                Hint("The result has to stay from 0 to 1.", lambda x, g, e: x + e * np.sign(g)),
                Hint("The loss should become larger: add the step.", lambda x, g, e: np.clip(x - e * np.sign(g), 0, 1)),
                Hint(
                    "Where the gradient is 0, nothing changes.",
                    lambda x, g, e: np.clip(x + np.where(g >= 0, e, -e), 0, 1),
                ),
                Hint("epsilon is missing.", lambda x, g, e: np.clip(x + np.sign(g), 0, 1)),
            ),
        ),
        Question(
            "quantize",
            (
                Item("whole numbers and scales", 2, ((np.array([[0.5, 2.54], [-1.27, 0.1]]),),), kernel_cases),
                Item("a filter of zeros", 1, ((np.array([[0.0, 1.27], [0.0, 0.5]]),),), zero_cases),
            ),
            solution.quantize,
            ARRAYS,
            hints=(
                Hint("Each filter has its own scale, along the last axis.", lambda k: quantized(k, "one scale")),
                Hint("Round to the nearest number; here the fractions were cut off.", lambda k: quantized(k, "cut")),
                Hint(
                    "The largest weight is the one farthest from 0: take absolute numbers.",
                    lambda k: quantized(k, "signed"),
                ),
                Hint("Divide by 127: the numbers go from -127 to 127.", lambda k: quantized(k, "128")),
                Hint("Divide by 127: half of 255 numbers lie on each side of 0.", lambda k: quantized(k, "255")),
                Hint("The scale is the largest weight / 127, not the other way round.", upside_down),
                Hint("A filter of zeros has the scale 1; one cannot divide by 0.", nan_scales),
                Hint("The order is (q, scales).", lambda k: solution.quantize(k)[::-1]),
            ),
        ),
        Question(
            "ensemble",
            (
                Item(
                    "the largest mean probability",
                    2,
                    ((np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]]),),),
                    ensemble_cases,
                ),
            ),
            solution.ensemble,
            hints=(
                Hint(
                    "This is a vote; a network that is sure counts more than one that is not: take the mean first.",
                    majority,
                ),
                Hint(
                    "This is the class of the most certain network; take the mean over the networks.",
                    lambda p: p.max(axis=0).argmax(axis=1),
                ),
                Hint(
                    "These are the mean probabilities; the number of the largest is wanted (argmax).",
                    lambda p: p.mean(axis=0),
                ),
                Hint("Only the first network was asked.", lambda p: p[0].argmax(axis=1)),
                Hint(
                    "The product of the probabilities is another rule; take the mean.",
                    lambda p: p.prod(axis=0).argmax(axis=1),
                ),
            ),
        ),
    ),
)
