"""The checks of chapter 2."""

from itertools import pairwise
from typing import Any

from numpy.random import Generator

from solutions import ch02_parameters as solution
from solutions.checks.drawing import whole
from toolkit.grading.questions import Exercise, Hint, Item, Question

Layers = list[tuple[int, int, int]]
THREE: Layers = [(100, 3, 2), (200, 3, 2), (400, 3, 2)]
# The last two maps are the largest.
WIDER: Layers = [(3, 3, 1), (8, 3, 1), (20, 3, 1)]


def valid_cases(random: Generator) -> list[tuple[int, int, int, str]]:
    """Windows that fit with pixels left over, one that is as large as the image, windows of a pixel, even windows."""
    drawn = [(whole(random, 20, 400), whole(random, 2, 12), whole(random, 2, 5), "valid") for _ in range(5)]
    exact = whole(random, 2, 20)
    return [
        *drawn,
        (2 * exact + 3, 3, 2, "valid"),
        (2 * exact + 4, 3, 2, "valid"),
        (7, 7, 3, "valid"),
        (9, 1, 2, "valid"),
    ]


def same_cases(random: Generator) -> list[tuple[int, int, int, str]]:
    """Sizes that the stride divides and such that it does not, even windows, and a window larger than the image."""
    drawn = [(whole(random, 20, 400), whole(random, 2, 12), whole(random, 2, 5), "same") for _ in range(5)]
    exact = whole(random, 2, 20)
    return [*drawn, (2 * exact, 3, 2, "same"), (2 * exact + 1, 4, 2, "same"), (3, 7, 2, "same"), (5, 2, 1, "same")]


def network(random: Generator, most: int = 4) -> Layers:
    """Two layers or more, with windows and strides of all kinds."""
    return [
        (whole(random, 2, 40), whole(random, 2, 7), whole(random, 2, 3) if number == 0 else whole(random, 1, 3))
        for number in range(whole(random, 2, most))
    ]


def image(random: Generator) -> tuple[int, int, int]:
    """Sizes that no stride divides."""
    return 6 * whole(random, 10, 60) + 1, 6 * whole(random, 61, 90) + 5, whole(random, 2, 4)


def parameter_cases(random: Generator) -> list[tuple[int, Layers]]:
    """Networks of several layers, and one of one."""
    return [*((whole(random, 2, 5), network(random)) for _ in range(6)), (3, [(5, 1, 1)])]


def mac_cases(random: Generator) -> list[tuple[int, int, int, Layers]]:
    """Images that are not square, and whose sides no stride divides."""
    return [*((*image(random), network(random)) for _ in range(6)), (7, 5, 3, [(5, 1, 1)])]


def field_cases(random: Generator) -> list[tuple[Layers]]:
    """Strides in the middle and at the end, windows of one pixel, one layer."""
    drawn = [(network(random, 6),) for _ in range(6)]
    return [*drawn, ([(4, 5, 3)],), ([(4, 1, 2), (4, 3, 1)],), ([(4, 3, 2), (4, 3, 2), (4, 3, 2)],)]


def one_image(random: Generator) -> list[tuple[Any, ...]]:
    """One image, in numbers of 4, 2 and 1 bytes; layers that make the maps larger and such that make them smaller."""
    drawn = [(*image(random), network(random), (4, 2, 1)[number % 3], 1) for number in range(6)]
    return [
        *drawn,
        (5, 7, 3, [(2, 3, 1)], 4, 1),
        (33, 41, 1, [(4, 3, 1), (9, 3, 1), (2, 3, 2)], 4, 1),
        (9, 11, 2, WIDER, 1, 1),
    ]


def many_images(random: Generator) -> list[tuple[Any, ...]]:
    """Batches of 2 and more."""
    drawn = [(*image(random), network(random), (4, 1)[number % 2], whole(random, 2, 64)) for number in range(5)]
    return [*drawn, (720, 1280, 3, THREE, 1, 20), (9, 11, 2, WIDER, 4, 2)]


def training_one(random: Generator) -> list[tuple[Any, ...]]:
    """One image, with all optimizers."""
    return [(*case, number % 3) for number, case in enumerate(one_image(random))]


def training_many(random: Generator) -> list[tuple[Any, ...]]:
    """Batches, with all optimizers."""
    return [(*case, number % 3) for number, case in enumerate(many_images(random))]


# What goes wrong.


def up(size: int, stride: int) -> int:
    """Positions with "same" padding."""
    return -(-size // stride)


def not_rounded(size: int, window: int, stride: int, padding: str) -> float:
    """Division without rounding."""
    return size / stride if padding == "same" else (size - window) / stride + 1


def without_stride(size: int, window: int, stride: int, padding: str) -> int:
    """As if the stride were 1."""
    return solution.output_size(size, window, 1, padding)


def other_padding(size: int, window: int, stride: int, padding: str) -> int:
    """The paddings mixed up."""
    return solution.output_size(size, window, stride, "valid" if padding == "same" else "same")


def one_less(size: int, window: int, stride: int, padding: str) -> int:
    """The first position is not counted, or a part of a stride is not."""
    return size // stride if padding == "same" else (size - window) // stride


def half_window(size: int, window: int, stride: int, padding: str) -> int:
    """Half a window of zeros on both sides, and then "valid"."""
    zeros = window // 2 if padding == "same" else 0
    return (size + 2 * zeros - window) // stride + 1


def parameters_one_channel(channels: int, layers: Layers) -> int:
    """Every filter reads one channel, and there are no biases: 6,300 for the three layers."""
    return sum(window * window * filters for filters, window, _ in layers)


def parameters_of_image(channels: int, layers: Layers) -> int:
    """Every layer reads the image."""
    return sum((window * window * channels + 1) * filters for filters, window, _ in layers)


def parameters_without_bias(channels: int, layers: Layers) -> int:
    """Weights alone."""
    return solution.network_parameters(channels, layers) - sum(filters for filters, _, _ in layers)


def parameters_flat_window(channels: int, layers: Layers) -> int:
    """Windows of one row."""
    before = [channels, *(filters for filters, _, _ in layers)]
    return sum((window * count + 1) * filters for (filters, window, _), count in zip(layers, before, strict=False))


def macs(height: int, width: int, channels: int, layers: Layers, *, floor: bool = False, first: bool = False) -> int:
    """MACs with sizes rounded down, or counted on the input of each layer."""
    total = 0
    for filters, window, stride in layers:
        after = (height // stride, width // stride) if floor else (up(height, stride), up(width, stride))
        counted = (height, width) if first else after
        total += counted[0] * counted[1] * filters * window * window * channels
        (height, width), channels = after, filters
    return total


def macs_with_biases(height: int, width: int, channels: int, layers: Layers) -> int:
    """The biases counted as well."""
    total = solution.network_macs(height, width, channels, layers)
    for filters, _, stride in layers:
        height, width = up(height, stride), up(width, stride)
        total += height * width * filters
    return total


def macs_without_stride(height: int, width: int, channels: int, layers: Layers) -> int:
    """As if all strides were 1."""
    return solution.network_macs(height, width, channels, [(filters, window, 1) for filters, window, _ in layers])


def field_without_stride(layers: Layers) -> int:
    """As if all strides were 1."""
    return 1 + sum(window - 1 for _, window, _ in layers)


def field_own_stride(layers: Layers) -> int:
    """A layer's own stride counts for its own window."""
    field, jump = 1, 1
    for _, window, stride in layers:
        jump *= stride
        field += (window - 1) * jump
    return field


def field_sum(layers: Layers) -> int:
    """The windows added up."""
    return sum(window for _, window, _ in layers)


def field_last_stride(layers: Layers) -> int:
    """Only the stride of the layer before counts, not those of all layers before."""
    strides = [1, *(stride for _, _, stride in layers)]
    return 1 + sum((window - 1) * stride for (_, window, _), stride in zip(layers, strides, strict=False))


def maps_of(height: int, width: int, channels: int, layers: Layers) -> list[int]:
    """Numbers in the image and in every layer's output."""
    maps = [height * width * channels]
    for filters, _, stride in layers:
        height, width = up(height, stride), up(width, stride)
        maps.append(height * width * filters)
    return maps


def inference(what: str, h: int, w: int, c: int, layers: Layers, size: int, batch: int) -> int:
    """The bytes of a prediction with the mistake `what`."""
    weights, maps = solution.network_parameters(c, layers), maps_of(h, w, c, layers)
    alive = max(before + after for before, after in pairwise(maps))
    return {
        "weights only": size * weights,
        "maps only": size * batch * alive,
        "all maps": size * (weights + batch * sum(maps)),
        "largest map": size * (weights + batch * max(maps)),
        "weights for each image": size * batch * (weights + alive),
        "always 4 bytes": 4 * (weights + batch * alive),
        "one image": size * (weights + alive),
    }[what]


def training(what: str, h: int, w: int, c: int, layers: Layers, size: int, batch: int, slots: int) -> int:
    """The bytes of a training step with the mistake `what`."""
    weights, maps = solution.network_parameters(c, layers), maps_of(h, w, c, layers)
    return {
        "no gradients": size * ((1 + slots) * weights + batch * sum(maps)),
        "no optimizer": size * (2 * weights + batch * sum(maps)),
        "no images": size * ((2 + slots) * weights + batch * sum(maps[1:])),
        "weights for each image": size * batch * ((2 + slots) * weights + sum(maps)),
        "as a prediction": solution.inference_bytes(h, w, c, layers, size, batch),
        "two maps": size * (1 + slots) * weights + solution.inference_bytes(h, w, c, layers, size, batch),
        "one image": size * ((2 + slots) * weights + sum(maps)),
    }[what]


EXERCISE = Exercise(
    "ch02_parameters",
    "Parameters, operations and memory",
    (
        Question(
            "output_size",
            (
                Item('"valid" padding', 1, ((227, 11, 4, "valid"), (8, 3, 2, "valid")), valid_cases),
                Item('"same" padding', 1, ((225, 3, 2, "same"), (5, 3, 2, "same")), same_cases),
            ),
            solution.output_size,
            hints=(
                Hint("A number of positions is whole: `/` gives parts of one; round down or up.", not_rounded),
                Hint("The stride is missing.", without_stride),
                Hint('"valid" and "same" are mixed up.', other_padding),
                Hint(
                    '"valid": the first position counts too (+ 1). "same": a part of a stride counts (round up).',
                    one_less,
                ),
                Hint(
                    'Half a window on both sides is one zero too many for even windows; "same" is ceil(size / stride).',
                    half_window,
                ),
            ),
        ),
        Question(
            "network_parameters",
            (Item("weights and biases of all layers", 1, ((3, THREE), (1, [(8, 5, 1), (4, 2, 1)])), parameter_cases),),
            solution.network_parameters,
            hints=(
                Hint("The biases are missing: each filter has one.", parameters_without_bias),
                Hint("A filter reads all channels of the layer before, and has a bias.", parameters_one_channel),
                Hint(
                    "Only the first layer reads the image; each other reads the channels of the layer before it.",
                    parameters_of_image,
                ),
                Hint(
                    "A window has as many rows as columns: window × window weights for each channel.",
                    parameters_flat_window,
                ),
            ),
        ),
        Question(
            "network_macs",
            (
                Item(
                    "multiply-accumulates of one image",
                    2,
                    ((28, 28, 1, [(8, 3, 1), (16, 3, 2)]), (5, 4, 2, [(3, 3, 2)])),
                    mac_cases,
                ),
            ),
            solution.network_macs,
            hints=(
                Hint(
                    "These are FLOPs: a multiplication and an addition are one MAC.",
                    lambda h, w, c, n: 2 * solution.network_macs(h, w, c, n),
                ),
                Hint("The strides are missing: they make the maps smaller.", macs_without_stride),
                Hint(
                    '"same" padding rounds up: a stride of 2 makes 3 pixels of 5.',
                    lambda h, w, c, n: macs(h, w, c, n, floor=True),
                ),
                Hint(
                    "A layer works once for each number of its output, not of its input.",
                    lambda h, w, c, n: macs(h, w, c, n, first=True),
                ),
                Hint("The additions of biases are not counted.", macs_with_biases),
            ),
        ),
        Question(
            "receptive_field",
            (
                Item(
                    "input pixels along one axis",
                    1,
                    (([(8, 3, 1), (8, 3, 1)],), ([(8, 3, 2), (8, 3, 2)],)),
                    field_cases,
                ),
            ),
            solution.receptive_field,
            hints=(
                Hint(
                    "The strides are missing: behind a stride of 2, neighbours lie 2 input pixels apart.",
                    field_without_stride,
                ),
                Hint("A layer's stride counts for the layers behind it, not for its own window.", field_own_stride),
                Hint("Windows overlap: each layer adds window - 1, times the strides before it.", field_sum),
                Hint("The strides of all layers before count, multiplied, not only the last one.", field_last_stride),
            ),
        ),
        Question(
            "inference_bytes",
            (
                Item("one image", 1, ((720, 1280, 3, THREE, 4, 1), (720, 1280, 3, THREE, 1, 1)), one_image),
                Item("a mini-batch", 1, ((720, 1280, 3, THREE, 4, 20), (9, 9, 1, [(2, 3, 2)], 1, 3)), many_images),
            ),
            solution.inference_bytes,
            hints=(
                Hint(
                    "These are the weights alone; the feature maps are what takes the memory.",
                    lambda *a: inference("weights only", *a),
                ),
                Hint("The weights are missing.", lambda *a: inference("maps only", *a)),
                Hint(
                    "A map is freed when the layer that reads it is done: only two are alive at once.",
                    lambda *a: inference("all maps", *a),
                ),
                Hint(
                    "While a layer works, its input is in memory too, not only the largest map.",
                    lambda *a: inference("largest map", *a),
                ),
                Hint(
                    "The weights are there once, however many images there are.",
                    lambda *a: inference("weights for each image", *a),
                ),
                Hint(
                    "Every number takes `number_bytes` bytes, and not always 4.",
                    lambda *a: inference("always 4 bytes", *a),
                ),
                Hint("The maps are there for each image of the batch.", lambda *a: inference("one image", *a)),
            ),
        ),
        Question(
            "training_bytes",
            (
                Item("one image", 1, ((720, 1280, 3, THREE, 4, 1, 2), (5, 4, 1, [(2, 3, 2)], 4, 1, 0)), training_one),
                Item(
                    "a mini-batch", 1, ((720, 1280, 3, THREE, 4, 20, 2), (5, 4, 1, [(2, 3, 2)], 1, 3, 1)), training_many
                ),
            ),
            solution.training_bytes,
            hints=(
                Hint("The gradients are missing: one number for each weight.", lambda *a: training("no gradients", *a)),
                Hint("What the optimizer remembers is missing.", lambda *a: training("no optimizer", *a)),
                Hint(
                    "The images are missing: the first layer needs them on the way back.",
                    lambda *a: training("no images", *a),
                ),
                Hint(
                    "Weights, gradients and optimizer are there once, however many images there are.",
                    lambda *a: training("weights for each image", *a),
                ),
                Hint(
                    "This is a prediction; a training step has gradients and an optimizer, and keeps every map.",
                    lambda *a: training("as a prediction", *a),
                ),
                Hint(
                    "In training no map is freed before the way back: all are kept, not the largest two.",
                    lambda *a: training("two maps", *a),
                ),
                Hint("The maps are there for each image of the batch.", lambda *a: training("one image", *a)),
            ),
        ),
    ),
)
