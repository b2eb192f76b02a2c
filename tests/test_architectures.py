"""The networks against what was published of them, and against `keras.applications`, layer by layer."""

import inspect
import math
import re
from collections import Counter
from typing import Any

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import InputError
from toolkit.build import build, without_weights
from toolkit.costs import Row, costs, trace
from toolkit.layers import Architecture, Conv2D, Dropout, LocalResponseNormalization, MaxPooling2D, Windowed

patiently = settings(deadline=None)


def row_of(net: Architecture, name: str) -> Row:
    return next(row for row in trace(net) if row.name == name)


# Parameters.

# name: (all parameters, trainable parameters). "By hand" means: summed over the layers of the docstring.
PUBLISHED_PARAMS = {
    "three_layers": (903_400, 903_400),  # Géron 2019, solution of exercise 14.2
    "dense_baseline": (101_770, 101_770),  # Keras's own first example, 784-128-10
    "small_cnn": (54_666, 54_666),  # by hand
    "lenet5": (61_706, 61_706),  # Dive into Deep Learning, section 7.6
    "alexnet": (60_965_224, 60_965_224),  # Caffe's bvlc_alexnet
    "alexnet_28": (367_034, 367_034),  # by hand
    "alexnet_32": (1_790_154, 1_790_154),  # by hand
    "vgg11": (132_863_336, 132_863_336),  # torchvision's vgg11
    "vgg16": (138_357_544, 138_357_544),  # keras.applications
    "googlenet": (6_998_552, 6_998_552),  # Caffe's bvlc_googlenet without the auxiliary classifiers
    "resnet18": (11_699_112, 11_689_512),  # torchvision's resnet18; its buffers make the difference
    "resnet50": (25_636_712, 25_583_592),  # keras.applications
    "se_resnet50": (28_141_144, 28_088_024),  # the authors' Caffe model, as counted in osmr/imgclsmob
    "xception": (22_910_480, 22_855_952),  # keras.applications
    "mobilenet_v2": (3_538_984, 3_504_872),  # keras.applications
    "fcn8s": (134_489_759, 134_489_759),  # Long et al. 2015, table 1: 134 M
    "vit_tiny": (5_717_032, 5_717_032),  # DeiT-Ti's 5,717,416 without class token and its position: 2 × 192 less
    "lean_cnn_28": (64_426, 64_042),  # this and the next two by hand
    "tiny_cnn_28": (9_540, 9_384),
    "lean_cnn_32": (802_554, 801_050),
    "vgg_32": (550_570, 550_570),  # by hand
    "googlenet_32": (206_638, 206_638),  # by hand
    # ResNet-20 of akamaster/pytorch_resnet_cifar10, 269,722, and two 1 × 1 convolutions with their norms
    "resnet20": (274_042, 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64),
    "se_resnet20": (278_452, 272_474 + 3 * (2 * 16 * 2 + 18 + 2 * 32 * 4 + 36 + 2 * 64 * 8 + 72)),  # gates by hand
    "xception_32": (414_282, 409_418),  # by hand
    "mobilenet_v2_32": (607_674, 590_410),  # by hand
    "vit_32": (809_098, 809_098),  # by hand
}


def test_every_network_has_a_published_count() -> None:
    assert PUBLISHED_PARAMS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_parameters_are_the_published_ones(name: str) -> None:
    price = costs(architecture(name))
    assert (price.params, price.trainable_params) == PUBLISHED_PARAMS[name]


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_the_docstring_tells_the_count(name: str) -> None:
    told = {
        int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", inspect.getdoc(ARCHITECTURES[name]) or "")
    }
    assert set(PUBLISHED_PARAMS[name]) & told


# MACs.

OSMR = "osmr/imgclsmob, pytorch/README.md, column FLOPs/2 (counts bias, normalization and activation, too)"

# name, published MACs, relative tolerance, source. "FLOPs" of these sources are multiply-adds, that is MACs.
PUBLISHED_MACS = [
    ("alexnet", 727e6, 0.005, "albanie/convnet-burden: 727 MFLOPs at 227 × 227, a multiply-add counted once"),
    ("vgg11", 7_615.87e6, 0.002, OSMR),
    ("vgg16", 15.3e9, 0.015, "He et al. 2016, section 4.1: 15.3 billion FLOPs for VGG-16, the convolutions alone"),
    ("vgg16", 15_480.10e6, 0.001, OSMR),
    ("vgg16", (30.71e9) / 2, 0.01, "Araujo et al. 2019, table: 30.71e9 FLOPs, two a MAC, convolutions alone"),
    ("googlenet", 1.5e9, 0.06, "Szegedy et al. 2015, section 1: a budget of 1.5 billion multiply-adds"),
    ("resnet18", 1.8e9, 0.02, "He et al. 2016, table 1"),
    ("resnet18", 1_820.41e6, 0.005, OSMR),
    ("resnet50", 3.8e9, 0.02, "He et al. 2016, table 1"),
    ("resnet50", 3_877.95e6, 0.006, OSMR + ", ResNet-50, stride on the 1 × 1"),
    ("se_resnet50", 3.87e9, 0.005, "Hu et al. 2018, table 2"),
    ("se_resnet50", 3_880.49e6, 0.006, OSMR),
    ("xception", 8.4e9, 0.01, OSMR + ": 8,403.63e6"),
    ("mobilenet_v2", 300e6, 0.005, "Sandler et al. 2018, table 4"),
    ("vit_tiny", 1.3e9, 0.045, "model card of timm/deit_tiny_patch16_224: 1.3 GMACs, with one token more"),
]


@pytest.mark.parametrize(("name", "published", "tolerance", "source"), PUBLISHED_MACS)
def test_macs_are_the_published_ones(name: str, published: float, tolerance: float, source: str) -> None:
    assert costs(architecture(name)).macs == pytest.approx(published, rel=tolerance), source


@pytest.mark.parametrize(
    ("alpha", "size", "macs", "params"),
    [(1.4, 224, 582e6, 6.06e6), (1.3, 224, 509e6, 5.34e6), (1.0, 96, 56e6, 3.47e6), (0.5, 224, 97e6, 1.95e6)],
)
def test_widths_and_sizes_of_mobilenet_cost_what_its_authors_say(
    alpha: float, size: int, macs: float, params: float
) -> None:
    """The table of tensorflow/models, research/slim/nets/mobilenet, also on the page of Keras's module."""
    price = costs(architecture("mobilenet_v2", (size, size, 3), alpha=alpha))
    assert price.macs == pytest.approx(macs, rel=0.01)
    assert price.trainable_params == pytest.approx(params, rel=0.012)


# Receptive fields.

# Araujo et al. 2019 is the table in google-research/receptive_field.
PUBLISHED_FIELDS = [
    ("alexnet", "pool5", 195, "Araujo et al. 2019: alexnet_v2, pool5"),
    ("vgg16", "block5_pool", 212, "Araujo et al. 2019: vgg_16, pool5"),
    ("resnet50", "conv5_block3_out", 483, "Araujo et al. 2019: resnet_v1_50"),
    ("fcn8s", "fc7", 404, "Long et al. 2015, table 1: FCN-VGG16"),
]


@pytest.mark.parametrize(("name", "layer", "field", "source"), PUBLISHED_FIELDS)
def test_receptive_fields_are_the_published_ones(name: str, layer: str, field: int, source: str) -> None:
    row = row_of(architecture(name), layer)
    assert row.receptive_field == (field, field), source
    assert row.stride == (32, 32), source


def test_the_last_pool_of_googlenet_sees_907_pixels() -> None:
    """Long et al. 2015, table 1: FCN-GoogLeNet, 907. There the 7 × 7 pool slides; here it takes the whole 7 × 7 map."""
    before = row_of(architecture("googlenet"), "inception_5b_output")
    assert before.receptive_field[0] + (before.output_shape[0] - 1) * before.stride[0] == 907


def test_the_stride_on_the_3x3_would_make_resnet50_see_less() -> None:
    """Stride on the 1 × 1 (the paper, Keras) or in a stage's last block (Araujo's slim model): 483. On the 3 × 3 of the
    first block (torchvision): three windows of 3 slide at half the stride, 2 · (4 + 8 + 16) pixels less: 427."""
    strided = [row for row in trace(architecture("resnet50")) if re.fullmatch(r"conv[345]_block1_2_conv", row.name)]
    assert [row.stride[0] for row in strided] == [8, 16, 32]
    assert 483 - sum(2 * (row.stride[0] - row.stride[0] / 2) for row in strided) == 427


# Keras.applications.

TWINS = {"vgg16": "VGG16", "resnet50": "ResNet50", "xception": "Xception", "mobilenet_v2": "MobileNetV2"}
Facts = dict[str, tuple[Any, ...]]


def twin_facts(name: str, **options: Any) -> Facts:
    """Name, type, window, strides, output and counts of every layer with weights, as Keras itself tells them."""
    model = without_weights(lambda: getattr(keras.applications, TWINS[name])(weights=None, **options))
    return {layer.name: keras_fact(layer) for layer in model.layers if layer.count_params()}


def keras_fact(layer: Any) -> tuple[Any, ...]:
    trainable = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
    window, strides = getattr(layer, "kernel_size", None), getattr(layer, "strides", None)
    return type(layer).__name__, window, strides, layer.output.shape[1:], trainable, layer.count_params()


def own_facts(net: Architecture) -> Facts:
    return {row.name: own_fact(row) for row in trace(net) if row.params}


def own_fact(row: Row) -> tuple[Any, ...]:
    window, strides = (row.layer.window, row.layer.step) if isinstance(row.layer, Windowed) else (None, None)
    return row.type, window, strides, row.output_shape, row.trainable_params, row.params


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "mobilenet_v2"])
def test_layers_with_weights_are_keras_s_by_name(name: str) -> None:
    assert own_facts(architecture(name)) == twin_facts(name)


def test_xception_is_keras_s_where_names_tell() -> None:
    """Keras leaves the convolutions on the shortcuts unnamed, so these are compared as a bag."""
    own, twin = own_facts(architecture("xception")), twin_facts("xception")
    named = {name: fact for name, fact in twin.items() if name.startswith("block")}
    assert named.items() <= own.items()
    assert Counter(own.values()) == Counter(twin.values())


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.556, 0.75, 1.3, 1.4])
def test_every_width_of_mobilenet_is_keras_s(alpha: float) -> None:
    net = architecture("mobilenet_v2", (96, 96, 3), alpha=alpha)
    assert own_facts(net) == twin_facts("mobilenet_v2", input_shape=(96, 96, 3), alpha=alpha)


@pytest.mark.parametrize("size", [33, 95, 193])
def test_same_padding_is_the_padding_that_keras_writes_out(size: int) -> None:
    """MobileNetV2 there pads by hand before its strided windows, at odd and even sizes alike."""
    assert own_facts(architecture("mobilenet_v2", (size, size, 3))) == twin_facts(
        "mobilenet_v2", input_shape=(size, size, 3)
    )


# What the papers draw.


def test_googlenet_has_the_sizes_of_table_1() -> None:
    net = architecture("googlenet")
    rows = {row.name: row.output_shape for row in trace(net)}
    channels = {
        name: rows[f"inception_{name}_output"] for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    }
    assert channels == {
        "3a": (28, 28, 256),
        "3b": (28, 28, 480),
        "4a": (14, 14, 512),
        "4b": (14, 14, 512),
        "4c": (14, 14, 512),
        "4d": (14, 14, 528),
        "4e": (14, 14, 832),
        "5a": (7, 7, 832),
        "5b": (7, 7, 1024),
    }
    assert rows["pool1_3x3_s2"] == (56, 56, 64)
    assert rows["pool5_7x7_s1"] == (1024,)


def test_alexnet_has_the_sizes_of_figure_2() -> None:
    shapes = [
        row.output_shape for row in trace(architecture("alexnet")) if isinstance(row.layer, (Conv2D, MaxPooling2D))
    ]
    assert shapes == [
        *((55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256)),
        *((13, 13, 384), (13, 13, 384), (13, 13, 256), (6, 6, 256)),
    ]


def test_alexnet_s_layers_cost_what_the_paper_s_two_cards_hold() -> None:
    """Krizhevsky et al. 2012, section 3.5: kernels of 5 × 5 × 48, 3 × 3 × 256, 3 × 3 × 192 and 3 × 3 × 192."""
    params = {row.name: row.params for row in trace(architecture("alexnet")) if isinstance(row.layer, Conv2D)}
    assert params["conv2"] == 256 * (5 * 5 * 48 + 1)
    assert params["conv3"] == 384 * (3 * 3 * 256 + 1)
    assert params["conv4"] == 384 * (3 * 3 * 192 + 1)
    assert params["conv5"] == 256 * (3 * 3 * 192 + 1)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_28", "alexnet_32"])
def test_normalization_can_be_left_out_and_costs_no_parameters(name: str) -> None:
    plain, normalized = architecture(name, lrn=False), architecture(name, lrn=True)
    assert architecture(name) == normalized
    assert costs(plain).params == costs(normalized).params
    assert [
        sum(isinstance(layer, LocalResponseNormalization) for layer in net.layers) for net in (plain, normalized)
    ] == [
        0,
        2,
    ]


def test_resnet50_has_the_sizes_and_blocks_of_table_1() -> None:
    rows = [row for row in trace(architecture("resnet50")) if row.type == "Add"]
    expected = {(56, 56, 256): 3, (28, 28, 512): 4, (14, 14, 1024): 6, (7, 7, 2048): 3}
    assert Counter(row.output_shape for row in rows) == expected


def test_the_gates_of_se_resnet50_scale_every_block() -> None:
    """Hu et al. 2018, section 4: 2 / r Σ N C² weights more than ResNet-50, and the biases of the dense layers."""
    gates = [row for row in trace(architecture("se_resnet50")) if row.type == "Multiply"]
    assert len(gates) == 16
    channels = [row.output_shape[-1] for row in gates]
    more = sum(2 * c * c // 16 + c // 16 + c for c in channels)
    assert costs(architecture("se_resnet50")).trainable_params - more == 25_557_032  # torchvision's ResNet-50
    assert all(shape[-1] == channels[index] for index, row in enumerate(gates) for shape in row.input_shapes)
    assert all(row.input_shapes[1][:2] == (1, 1) for row in gates)


@patiently
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30))
def test_fcn8s_gives_every_pixel_its_classes(height: int, width: int, classes: int) -> None:
    net = architecture("fcn8s", (32 * height, 32 * width, 3), classes)
    rows = trace(net)
    assert rows[-1].output_shape == (32 * height, 32 * width, classes)
    assert {row.name: row.output_shape for row in rows}["fuse_pool3"] == (4 * height, 4 * width, classes)


def test_vit_tiny_has_a_token_for_each_patch() -> None:
    rows = {row.name: row.output_shape for row in trace(architecture("vit_tiny", (28, 42, 1), 10, patch_size=7))}
    assert rows["positions"] == (4 * 6, 192)
    assert rows["predictions"] == (10,)


def test_deit_ti_differs_by_its_class_token() -> None:
    """Touvron et al. 2021, DeiT-Ti: 5,717,416 parameters; here no class token (192), nor its position (192)."""
    assert costs(architecture("vit_tiny")).params == 5_717_416 - 192 - 192


@pytest.mark.parametrize(
    ("name", "options", "params"),
    [("alexnet_28", {"width": 48, "units": 936}, 2.3e6), ("alexnet_32", {"units": 600}, 2.0e6)],
)
def test_small_alexnets_come_at_the_notes_sizes(name: str, options: dict[str, Any], params: float) -> None:
    assert costs(architecture(name, **options)).params == pytest.approx(params, rel=0.01)


@pytest.mark.parametrize(("name", "params"), [("lean_cnn_28", 85e3), ("tiny_cnn_28", 10e3), ("lean_cnn_32", 1.0e6)])
def test_lean_networks_stay_under_their_limits(name: str, params: float) -> None:
    assert costs(architecture(name)).params <= params


def test_resnet20_has_the_sizes_of_its_paper() -> None:
    """He et al. 2016, section 4.2: 7 layers at 32 × 32 with 16 filters, 6 at 16 × 16 with 32, 6 at 8 × 8 with 64."""
    rows = trace(architecture("resnet20"))
    shapes = Counter(r.output_shape for r in rows if isinstance(r.layer, Conv2D) and r.layer.window == (3, 3))
    assert shapes == {(32, 32, 16): 7, (16, 16, 32): 6, (8, 8, 64): 6}


@pytest.mark.parametrize(
    "name", ["lean_cnn_28", "lean_cnn_32", "googlenet_32", "se_resnet20", "mobilenet_v2_32", "vit_32"]
)
def test_small_networks_are_built_as_they_are_counted(name: str) -> None:
    """Keras itself is asked for shapes and counts, layer by layer, at a size that is not the usual one."""
    net = architecture(name, (28, 28, 1), 7)
    model = build(net, allocate=False)
    assert model.count_params() == costs(net).params
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == costs(net).trainable_params
    built = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert built == {row.name: row.output_shape for row in trace(net)}


@pytest.mark.parametrize("channels", [1, 4, 16, 20])
def test_small_cnn_doubles_its_channels_and_stays_small(channels: int) -> None:
    rows = trace(architecture("small_cnn", channels=channels))
    assert [row.output_shape[-1] for row in rows if row.type == "Conv2D"] == [channels, 2 * channels, 4 * channels]
    assert costs(rows).params <= 85_000


def test_dropout_of_small_cnn_is_an_option() -> None:
    (layer,) = (layer for layer in architecture("small_cnn", dropout=0.4).layers if isinstance(layer, Dropout))
    assert layer.rate == 0.4


# By name.


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_and_defaults_hold_together(name: str) -> None:
    net = architecture(name)
    assert net == ARCHITECTURES[name]()
    assert net.name == name


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"three_layers"}))
def test_networks_end_in_probabilities_of_so_many_classes(name: str) -> None:
    last = trace(architecture(name, classes=7))[-1]
    assert last.output_shape[-1] == 7
    assert getattr(last.layer, "activation", "") == "softmax"


def test_three_layers_gets_a_head_where_classes_are_asked_for() -> None:
    assert trace(architecture("three_layers"))[-1].type == "Conv2D"
    assert trace(architecture("three_layers", classes=7))[-1].output_shape == (7,)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_larger_image_and_other_classes_keep_the_layers_and_their_names(name: str) -> None:
    height, width, channels = architecture(name).input_shape
    small, large = (trace(architecture(name, (size * height, size * width, channels), 5)) for size in (1, 2))
    assert [(row.name, row.type, row.reads) for row in small] == [(row.name, row.type, row.reads) for row in large]
    assert sum(row.macs for row in large) > 2 * sum(row.macs for row in small)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "resnet5",
            {},
            "there is no network 'resnet5'; the nearest is 'resnet50'; choose one of three_layers, .*vit_tiny",
        ),
        ("ResNet-50", {}, "there is no network 'ResNet-50'; the nearest is 'resnet50'; choose"),
        ("VGG 16", {}, "there is no network 'VGG 16'; the nearest is 'vgg16'; choose"),
        ("transformer!", {}, "there is no network 'transformer!'; choose one of three_layers"),
        ("vgg16", {"alpha": 1}, "vgg16 has no option 'alpha'; it has no options besides input_shape and classes"),
        ("small_cnn", {"width": 1}, "small_cnn has no option 'width'; its options are channels, dropout"),
        (
            "alexnet",
            {"input_shape": (28, 28, 3)},
            'alexnet: layer .pool2.: a window of 3 does not fit into 2 pixels; use padding="same"',
        ),
        ("vgg16", {"input_shape": (16, 16, 3)}, "vgg16: layer .block5_pool.: a window of 2 does not fit into 1 pixels"),
        ("resnet50", {"input_shape": (224,)}, r"resnet50: .*needs an image \(height, width, channels\); \(224,\) came"),
        ("resnet50", {"input_shape": (0, 8, 3)}, "resnet50: input_shape: each size must be at least 1; 0 came"),
        ("resnet50", {"input_shape": [8, 8, 3]}, r"resnet50: input_shape must be a tuple .*\[8, 8, 3\] came"),
        ("resnet18", {"classes": 0}, "resnet18: classes must be at least 1; 0 came"),
        ("fcn8s", {"classes": "all"}, "fcn8s: classes must be a whole number; 'all' came"),
        ("three_layers", {"classes": -1}, "three_layers: classes must be at least 0; -1 came"),
        (
            "fcn8s",
            {"input_shape": (100, 200, 3)},
            "fcn8s: the five pools need a height and a width that are multiples of 32; 100 × 200 came; give 96 × 192",
        ),
        ("fcn8s", {"input_shape": (8, 8, 3)}, "fcn8s: .*8 × 8 came; give 32 × 32"),
        ("fcn8s", {"input_shape": (8,)}, "fcn8s: .*needs an image"),
        ("vit_tiny", {"input_shape": (300, 300, 3)}, "vit_tiny: .*multiples of 16; 300 × 300 came; give 304 × 304"),
        ("vit_tiny", {"heads": 5}, "vit_tiny: channels must be a multiple of heads; 192 and 5 came"),
        ("vit_tiny", {"depth": 0}, "vit_tiny: depth must be at least 1; 0 came"),
        ("alexnet_28", {"width": 25}, "alexnet_28: width must be a multiple of 3, as 96 is; 25 came; give 24"),
        ("mobilenet_v2_32", {"alpha": -1}, "mobilenet_v2_32: alpha must be a number above 0; -1 came"),
        ("mobilenet_v2", {"alpha": 0}, "mobilenet_v2: alpha must be a number above 0; 0 came"),
        ("mobilenet_v2", {"alpha": "wide"}, "mobilenet_v2: alpha must be a number above 0; 'wide' came"),
        ("mobilenet_v2", {"alpha": float("nan")}, "mobilenet_v2: alpha must be a number above 0; nan came"),
        ("small_cnn", {"channels": 0}, "small_cnn: channels must be at least 1; 0 came"),
        ("small_cnn", {"channels": "16"}, "small_cnn: channels must be a whole number; '16' came"),
        ("small_cnn", {"dropout": 1.0}, "small_cnn: .*rate must be a number from 0 to below 1; 1.0 came"),
        ("dense_baseline", {"units": 2.5}, "dense_baseline: .*units must be a whole number; 2.5 came"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        architecture(name, **options)
