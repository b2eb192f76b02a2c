"""Networks for every pixel: their shapes and counts against Keras, and what their parts promise against NumPy."""

from collections import Counter

import numpy as np
import pytest

from toolkit.architectures import architecture
from toolkit.build import build
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.forward import conv2d_transpose, forward, interpolate, weights_of
from toolkit.layers import Architecture, Branches, Conv2D, DepthwiseConv2D, MaxPooling2D
from toolkit.pixel_networks import (
    HEADS,
    bilinear_kernel,
    dilate,
    dilated,
    fcn,
    features,
    interpolating_weights,
    small_base,
    stages,
    unet,
)

BASES = ("vgg16", "resnet18", "resnet50", "se_resnet50", "mobilenet_v2")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("stride", [32, 16, 8, 4])
def test_any_base_gives_every_pixel_its_classes(base: str, stride: int) -> None:
    rows = trace(fcn(architecture(base, (96, 160, 3)), classes=21, stride=stride))
    kinds = Counter(row.type for row in rows if row.name.startswith(("fuse", "enlarge", "score")))
    skips = {32: 0, 16: 1, 8: 2, 4: 3}[stride]
    assert rows[-1].output_shape == (96, 160, 21)
    assert kinds == {"Conv2D": skips + 1, "Conv2DTranspose": skips + 1, **({"Add": skips} if skips else {})}


@pytest.mark.parametrize(
    "net", [HEADS[name](small_base((64, 96, 3), 4), 5) for name in HEADS] + [unet((64, 96, 3), 5, 4)]
)
def test_keras_counts_the_same(net: Architecture) -> None:
    rows, model = trace(net), build(net, allocate=False)
    assert model.count_params() == sum(row.params for row in rows)
    assert model.output_shape == (None, *rows[-1].output_shape) == (None, 64, 96, 5)


def test_a_skip_reads_the_last_map_of_its_resolution() -> None:
    net = fcn(small_base(), classes=3, stride=8)
    rows = {row.name: row for row in trace(net)}
    names = list(rows)
    read = {name: names[rows[name].reads[0]] for name in ("score8", "score16", "score32")}
    assert read == {"score8": "block4_relu2", "score16": "block5_relu2", "score32": "block6_relu1"}
    assert rows["score8"].input_shapes[0] == (16, 16, 96)


def test_a_base_is_cut_into_all_of_its_layers() -> None:
    base = architecture("mobilenet_v2", (64, 64, 3))
    parts = stages(base)
    assert [stride for stride, _ in parts] == [1, 2, 4, 8, 16, 32]
    assert tuple(step for _, part in parts for step in part) == features(base) == base.layers[:-2]


@pytest.mark.parametrize("times", [2, 4, 8])
def test_a_transposed_convolution_begins_as_bilinear_interpolation(times: int) -> None:
    maps = np.random.default_rng(0).random((2, 6, 5, 3), np.float32)
    larger = conv2d_transpose(maps, bilinear_kernel(times, 3), strides=(times, times), padding="same")
    inner = slice(times, -times)  # at the very edge, interpolation repeats the outermost pixels
    assert np.abs(larger - interpolate(maps, (times, times)))[:, inner, inner].max() < 1e-6


def test_every_layer_that_enlarges_scores_has_its_first_weights() -> None:
    net = fcn(small_base(channels=2), classes=3, stride=4)
    begun, model = interpolating_weights(net), build(net, seed=0)
    assert sorted(begun) == ["enlarge16", "enlarge32", "enlarge4", "enlarge8"]
    for name, arrays in begun.items():
        model.get_layer(name).set_weights(arrays)
    assert interpolating_weights(unet()) == {}


def test_a_dilated_network_sees_what_the_strided_one_sees() -> None:
    """Without padding, every fourth pixel of the dilated map is the strided map, with the same weights."""
    path = (
        Conv2D(4, 3, strides=2, activation="relu", name="a"),
        Conv2D(5, 3, strides=2, activation="relu", name="b"),
        Branches("add", ((DepthwiseConv2D(3, padding="same", name="c"), Conv2D(5, 1, name="d")), ())),
        Conv2D(6, 3, strides=2, name="e"),
        Conv2D(3, 2, name="f"),
    )
    net = Architecture("strided", (47, 47, 2), path)
    wide = dilate(net, 2)
    weights, image = weights_of(build(net, seed=5)), np.random.default_rng(1).random((1, 47, 47, 2), np.float32)
    narrow, dense = forward(trace(net), weights, image), forward(trace(wide), weights, image)
    # "same" padding of the branch meets the edge elsewhere, so that only what is far from it must agree
    assert dense.shape[1] > 4 * (narrow.shape[1] - 1)
    assert np.abs(dense[:, ::4, ::4][:, 1:-1, 1:-1] - narrow[:, 1:-1, 1:-1]).max() < 1e-5
    assert sum(row.params for row in trace(wide)) == sum(row.params for row in trace(net))


@pytest.mark.parametrize(("base", "stride"), [("vgg16", 8), ("resnet50", 16), ("mobilenet_v2", 8), ("mobilenet_v2", 4)])
def test_dilation_keeps_maps_large(base: str, stride: int) -> None:
    net = architecture(base, (96, 96, 3))
    rows = trace(dilated(net, 21, stride))
    scores = next(row for row in rows if row.name.startswith("score"))
    assert scores.output_shape == (96 // stride, 96 // stride, 21)
    assert (
        scores.receptive_field[0]
        >= next(row for row in trace(fcn(net, 21, 32)) if row.name == "score32").receptive_field[0] - 2 * 32
    )  # a pool that does not step any more sees a little less


def test_a_pool_that_may_not_step_keeps_its_window() -> None:
    net = Architecture("pools", (16, 16, 1), (MaxPooling2D(2), MaxPooling2D(3, strides=2), Conv2D(2, 3)))
    assert dilate(net, 2).layers[1:] == (MaxPooling2D(3, strides=1, padding="same"), Conv2D(2, 3, dilation_rate=(2, 2)))


def test_unet_joins_every_resolution() -> None:
    rows = trace(unet((96, 64, 3), classes=7, channels=8, depth=3))
    assert [row.output_shape for row in rows if row.type == "Concatenate"] == [
        (24, 16, 64),
        (48, 32, 32),
        (96, 64, 16),
    ]
    assert rows[-1].output_shape == (96, 64, 7)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fcn(architecture("vgg16", (100, 200, 3)), 21), "multiples of that; 100 × 200 came; give 96 × 192"),
        (lambda: fcn(architecture("xception"), 21), 'choose a base with "same" padding|give 288'),
        (lambda: fcn(architecture("lenet5"), 21), "cuts the borders off its maps"),
        (lambda: fcn(architecture("dense_baseline"), 21, 1), r"gives \(28, 28, 1\) where a map .* was expected"),
        (lambda: fcn(architecture("vit_tiny"), 21), "where a map .* was expected"),
        (lambda: fcn(small_base(), 21, 64), "maps at strides 1, 2, 4, 8, 16, 32; there is no skip at 64"),
        (lambda: fcn(small_base(), 1), "classes must be at least 2; 1 came"),
        (lambda: dilated(small_base((50, 50, 3)), 3), "multiples of that; 50 × 50 came; give 48 × 48"),
        (lambda: dilate(small_base(), 0), "stride must be at least 1; 0 came"),
        (lambda: unet((100, 64, 3)), "a U-Net with 4 pools needs .* multiples of 16; 100 × 64 came; give 96 × 64"),
        (lambda: unet(depth=0), "depth must be at least 1"),
        (lambda: small_base(channels=0), "channels must be at least 1"),
        (lambda: bilinear_kernel(0, 3), "times must be at least 1"),
    ],
)
def test_what_cannot_be_is_said(make: object, sentence: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=sentence):
        make()
