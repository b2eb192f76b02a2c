"""The reference solutions against what is right by other means: the toolkit, Keras, scikit-learn, SciPy, plain loops.

Every question is checked on its own cases, public and hidden, of several seeds.
"""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage, special
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score
from sklearn.preprocessing import StandardScaler

from toolkit import arithmetic, costs, forward
from toolkit.grading.questions import Arguments, Exercise, Question, generator
from toolkit.layers import Architecture, Conv2D

SOLUTIONS = Path(__file__).parents[1] / "solutions"
STEMS = sorted(path.stem for path in SOLUTIONS.glob("ch*.py"))
Layers = list[tuple[int, int, int]]
Array = np.ndarray


def exercise_of(stem: str) -> Exercise:
    found = importlib.import_module(f"solutions.checks.{stem}").EXERCISE
    assert isinstance(found, Exercise)
    return found


QUESTIONS = {
    f"{stem}.{question.name}": (stem, question)
    for stem in STEMS
    for question in exercise_of(stem).questions
    if question.needs == "numpy"
}


def cases_of(stem: str, question: Question) -> Iterator[Arguments]:
    for item in question.items:
        yield from item.examples
        for seed in range(5):
            assert item.cases is not None
            yield from item.cases(generator(seed, stem, question.name, item.what))


@pytest.mark.parametrize("stem", STEMS)
def test_the_examples_of_the_texts_are_true(stem: str) -> None:
    found = doctest.testmod(importlib.import_module(f"solutions.{stem}"))
    assert found.attempted >= 1
    assert not found.failed


# Oracles: functions of the arguments that give the right answer on another way …


@cache
def network(height: int, width: int, channels: int, layers: tuple[tuple[int, int, int], ...]) -> Architecture:
    convolutions = tuple(Conv2D(f, k, strides=s, padding="same", activation="relu") for f, k, s in layers)
    return Architecture("answer", (height, width, channels), convolutions)


def priced(h: int, w: int, c: int, layers: Layers, size: int = 4, batch: int = 1, slots: int = 0) -> costs.Costs:
    dtype, optimizer = {4: "float32", 2: "float16", 1: "int8"}[size], ("sgd", "momentum", "adam")[slots]
    return costs.costs(network(h, w, c, tuple(layers)), batch, dtype, optimizer)


def field(layers: Layers) -> int:
    rows = costs.trace(network(4096, 4096, 1, tuple(layers)))
    return rows[-1].receptive_field[0]


def filters(budget: int, window: int, channels: int) -> int:
    count = 0
    while arithmetic.conv_params(window, window, channels, count + 1) <= budget:
        count += 1
    return count


def moved(image: Array, down: int, right: int) -> Array:
    return np.asarray(ndimage.shift(image, (down, right, 0), order=0, prefilter=False))


def permuted(image: Array, order: Array) -> Array:
    result = np.empty_like(image)
    for place, (row, column) in zip(order, np.ndindex(image.shape[:2]), strict=True):
        result[row, column] = image[divmod(int(place), image.shape[1])]
    return result


def convolved(image: Array, kernel: Array, bias: Array, stride: int, padding: str) -> Array:
    found = forward.conv2d(np.asarray(image[None], float), kernel, bias, strides=(stride, stride), padding=padding)
    return np.asarray(found[0])


def pooled(pool: Callable[..., Array]) -> Callable[..., Array]:
    return lambda image, window, stride: pool(np.asarray(image[None], float), (window, window), (stride, stride))[0]


def blurred(image: Array, stride: int) -> Array:
    once = ndimage.correlate1d(np.asarray(image, float), [0.25, 0.5, 0.25], axis=0, mode="nearest")
    return np.asarray(ndimage.correlate1d(once, [0.25, 0.5, 0.25], axis=1, mode="nearest"))[::stride, ::stride]


def squared(activations: Array, radius: int) -> Array:
    near = np.ones(2 * radius + 1)
    return np.asarray(ndimage.correlate1d(activations**2, near, axis=-1, mode="constant"))


def batch_normalized(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    weights = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
    return forward.batch_normalization(x, weights, epsilon)


def stacked(window: int, channels: int) -> tuple[int, int]:
    layers, seen = 0, 1.0
    while seen < window:
        layers, seen = layers + 1, arithmetic.receptive_field(seen, 1, 3)
    return layers, layers * arithmetic.conv_params(3, 3, channels, channels, bias=False)


def bottleneck(channels: int, reduced: int) -> int:
    steps = ((1, channels, reduced), (3, reduced, reduced), (1, reduced, channels))
    return sum(arithmetic.conv_params(window, window, before, after, bias=False) for window, before, after in steps)


def saving(window: int, channels: int, filters: int) -> float:
    separable = arithmetic.separable_params(window, window, channels, filters, bias=False)
    return arithmetic.conv_macs(1, 1, window, window, channels, filters) / separable


def loss(logits: Array, labels: Array) -> float:
    return -float(np.mean([special.log_softmax(row)[label] for row, label in zip(logits, labels, strict=True)]))


def cropped(images: Array, size: int, tops: Array, lefts: Array, flipped: Array) -> Array:
    result = np.empty((len(images), size, size, images.shape[3]))
    for image, row, column in np.ndindex(result.shape[:3]):
        across = size - 1 - column if flipped[image] else column
        result[image, row, column] = images[image, tops[image] + row, lefts[image] + across]
    return result


def rate(step: int, steps: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return float(np.interp(step, [0, max(warmup - 1, 1)], [peak / warmup, peak]))
    schedule = keras.optimizers.schedules.CosineDecay(peak, steps - warmup)
    return float(ops.convert_to_numpy(schedule(step - warmup)))


def recalls(matrix: Array) -> Array:
    pairs = [(true, answer) for true, answer in np.ndindex(matrix.shape) for _ in range(matrix[true, answer])]
    truth, answers = zip(*pairs, strict=True)
    return np.asarray(recall_score(truth, answers, labels=range(len(matrix)), average=None, zero_division=0))


def as_dense(kernel: Array, height: int, width: int) -> Array:
    result = np.empty((height, width, len(kernel) // (height * width), kernel.shape[1]))
    for row, column, channel in np.ndindex(result.shape[:3]):
        result[row, column, channel] = kernel[np.ravel_multi_index((row, column, channel), result.shape[:3])]
    return result


def scores(features: Array, kernel: Array, bias: Array, height: int, width: int) -> Array:
    return np.asarray(forward.conv2d(features[None], as_dense(kernel, height, width), bias)[0])


def smooth(maps: Array, factor: int) -> Array:
    layer = keras.layers.UpSampling2D(factor, interpolation="bilinear")
    return np.asarray(ops.convert_to_numpy(layer(maps[None].astype(np.float32)))[0])


def mean_iou(truth: Array, answers: Array, classes: int) -> float:
    known = truth != 255
    seen = [each for each in range(classes) if each in truth[known] or each in answers[known]]
    return float(jaccard_score(truth[known], answers[known], labels=seen, average="macro", zero_division=0))


def equal_parts(wanted: int, largest: int) -> tuple[int, int]:
    steps = next(each for each in range(1, wanted + 1) if wanted % each == 0 and wanted // each <= largest)
    return wanted // steps, steps


def normalized(activations: Array, parts: int, epsilon: float) -> Array:
    spread = [np.sqrt(part.var(axis=0) / (part.var(axis=0) + epsilon)) for part in np.split(activations, parts)]
    scaled = [StandardScaler().fit_transform(part) for part in np.split(activations, parts)]
    return np.concatenate([one * other for one, other in zip(scaled, spread, strict=True)])


def halved(parameters: int, activations: int, batch: int) -> float:
    numbers = [parameters] * 4 + [activations] * batch
    narrow = [parameters * 4] * 4 + [activations * 2] * batch
    return 1 - sum(narrow) / (4 * sum(numbers))


def waits(attempts: int, first: float, longest: float) -> list[float]:
    doubled = itertools.accumulate(itertools.repeat(2.0, max(attempts - 2, 0)), lambda a, b: a * b, initial=first)
    return [min(each, longest) for each in doubled][: attempts - 1]


def shuffled(items: Sequence[Any], capacity: int, picks: list[int]) -> list[Any]:
    buffer, order, taken = list(items[:capacity]), [], capacity
    for pick in picks:
        at = pick % len(buffer)
        order.append(buffer[at])
        buffer[at : at + 1] = items[taken : taken + 1]
        taken += 1
    return order


def cached(capacity: int, steps: list[list[Any]]) -> list[Any]:
    """Every use has its time; the entry with the oldest use goes."""
    values: dict[Any, Any] = {}
    used: dict[Any, int] = {}
    found = []
    for time, (what, key, *value) in enumerate(steps):
        if what == "put" and key not in values and len(values) == capacity:
            oldest = min(values, key=used.__getitem__)
            del values[oldest]
        values.update({key: value[0]} if what == "put" else {})
        used[key] = time
        found += [] if what == "put" else [values.get(key)]
    return found


def fetched(count: int | None, ahead: int, wanted: int) -> list[Any]:
    """What the text of the question says, event by event."""
    events: list[Any] = [["asked"]]
    taken = 0
    for number in range(wanted):
        while taken <= number + ahead and (count is None or taken < count):
            events.append(["taken", taken])
            taken += 1
        if count is not None and number >= count:
            return [*events, ["end"]]
        events.append(["given", number])
    return events


def cam(maps: Array, gradients: Array) -> Array:
    seen = np.zeros(maps.shape[:2])
    for channel in range(maps.shape[2]):
        seen += maps[:, :, channel] * gradients[:, :, channel].sum() / (maps.shape[0] * maps.shape[1])
    seen[seen < 0] = 0
    return np.asarray(seen / max(seen.max(), 1e-300))


def stepped(image: Array, gradient: Array, epsilon: float) -> Array:
    pairs = zip(image.ravel(), gradient.ravel(), strict=True)
    return np.reshape([min(max(x + epsilon * (int(g > 0) - int(g < 0)), 0), 1) for x, g in pairs], image.shape)


def voted(probabilities: Array) -> list[int]:
    networks, images, classes = probabilities.shape
    sums = [[sum(probabilities[n, i, c] for n in range(networks)) for c in range(classes)] for i in range(images)]
    return [row.index(max(row)) for row in sums]


ORACLES: dict[str, Callable[..., Any]] = {
    "ch01_why_cnns.dense_parameters": lambda h, w, c, u: arithmetic.dense_params(arithmetic.elements((h, w, c)), u),
    "ch01_why_cnns.conv_parameters": arithmetic.conv_params,
    "ch01_why_cnns.filters_for_budget": filters,
    "ch01_why_cnns.shift": moved,
    "ch01_why_cnns.permute_pixels": permuted,
    "ch02_parameters.output_size": arithmetic.output_size,
    "ch02_parameters.network_parameters": lambda c, layers: priced(9, 9, c, layers).params,
    "ch02_parameters.network_macs": lambda *case: priced(*case).macs,
    "ch02_parameters.receptive_field": field,
    "ch02_parameters.inference_bytes": lambda *case: priced(*case).inference_bytes,
    "ch02_parameters.training_bytes": lambda *case: priced(*case).training_bytes,
    "ch03_pooling.max_pool": pooled(forward.max_pool),
    "ch03_pooling.average_pool": pooled(forward.average_pool),
    "ch03_pooling.convolve": convolved,
    "ch03_pooling.blur_pool": blurred,
    "ch04_lrn.squared_sums": squared,
    "ch04_lrn.local_response_normalization": forward.local_response_normalization,
    "ch04_lrn.tensorflow_settings": lambda size, alpha: ((size - 1) / 2, alpha * (1 / size)),
    "ch04_lrn.batch_normalization": batch_normalized,
    "ch05_architectures.stacked": stacked,
    "ch05_architectures.bottleneck_weights": bottleneck,
    "ch05_architectures.separable_saving": saving,
    "ch06_training.cross_entropy": loss,
    "ch06_training.crop_and_flip": cropped,
    "ch06_training.learning_rate": rate,
    "ch06_training.confusion_matrix": lambda t, a, n: confusion_matrix(t, a, labels=range(n)),
    "ch06_training.per_class_accuracy": recalls,
    "ch07_fcn.dense_to_convolution": as_dense,
    "ch07_fcn.score_map": scores,
    "ch07_fcn.upsample_nearest": lambda maps, factor: forward.repeat(maps[None], (factor, factor))[0],
    "ch07_fcn.upsample_bilinear": smooth,
    "ch07_fcn.mean_iou": mean_iou,
    "ch08_transfer.leaked": lambda t, v: int(np.isin(v, t).sum()),
    "ch08_transfer.preprocess": lambda x: keras.applications.mobilenet_v2.preprocess_input(x.astype(np.float32)),
    "ch09_memory.largest_batch": lambda m, f, p: max((n for n in range((m // p) + 1) if f + n * p <= m), default=0),
    "ch09_memory.accumulation": equal_parts,
    "ch09_memory.accumulated_gradient": lambda g, n: np.repeat(g, n, axis=0).mean(axis=0),
    "ch09_memory.normalize_in_parts": normalized,
    "ch09_memory.mixed_precision_saving": halved,
    "ch10_streaming.pauses": waits,
    "ch10_streaming.shuffled": shuffled,
    "ch10_streaming.LruCache": cached,
    "ch10_streaming.prefetched": fetched,
    "ch11_inside.grad_cam": cam,
    "ch11_inside.adversarial": stepped,
    "ch11_inside.ensemble": voted,
}
# … and what any right answer has, where there is no other way to it.
PROPERTIES = {"ch08_transfer.split_by_class", "ch11_inside.quantize"}


def test_every_question_has_an_oracle() -> None:
    assert set(ORACLES) | PROPERTIES == set(QUESTIONS)


@pytest.mark.parametrize("name", ORACLES)
def test_a_reference_gives_what_its_oracle_gives(name: str) -> None:
    stem, question = QUESTIONS[name]
    for arguments in cases_of(stem, question):
        found, expected = question.reference(*arguments), ORACLES[name](*arguments)
        if isinstance(found, list) and found and isinstance(found[0], list):
            assert found == expected
        elif isinstance(found, (int, str, list)) or (isinstance(found, tuple) and isinstance(found[1], int)):
            assert found == expected, arguments
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
            assert np.shape(found) == np.shape(expected)


def test_a_split_leaks_nothing_and_leaves_no_class_out() -> None:
    stem, question = QUESTIONS["ch08_transfer.split_by_class"]
    for labels, groups, one_in in cases_of(stem, question):
        training, validation = question.reference(labels, groups, one_in)
        assert sorted(training + validation) == list(range(len(labels)))
        assert training == sorted(training)
        assert validation == sorted(validation)
        assert not {groups[each] for each in training} & {groups[each] for each in validation}
        for label in set(labels):
            of_class = {group for group, other in zip(groups, labels, strict=True) if other == label}
            held_out = {groups[each] for each in validation if labels[each] == label}
            assert len(held_out) == max(1, len(of_class) // one_in)
            first = {group: groups.index(group) for group in of_class}
            assert min(first[group] for group in held_out) > max(first[group] for group in of_class - held_out)


def test_eight_bits_are_as_near_as_they_can_be() -> None:
    stem, question = QUESTIONS["ch11_inside.quantize"]
    for (kernel,) in cases_of(stem, question):
        numbers, scales = question.reference(kernel)
        assert numbers.dtype == np.int8
        assert numbers.min() >= -127
        assert (np.abs(numbers * scales - kernel) <= scales / 2 * (1 + 1e-9)).all()
        for channel, scale in enumerate(scales):
            most = np.abs(kernel[..., channel]).max()
            assert math.isclose(scale * 127, most) if most else scale == 1
