import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit import arithmetic
from toolkit.architectures import ARCHITECTURES, architecture, resnet18, small_cnn, three_layers, vgg16
from toolkit.arithmetic import InputError
from toolkit.costs import Row, costs, inference_elements, memory_parts, rows_of, trace
from toolkit.layers import (
    Activation,
    Architecture,
    BatchNormalization,
    Branches,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Reshape,
    UpSampling2D,
)


def chain(*layers: object, shape: tuple[int, ...] = (8, 8, 4)) -> Architecture:
    return Architecture("chain", shape, layers)  # type: ignore[arg-type]


def test_the_course_s_first_question() -> None:
    """Three 3 × 3 convolutions, stride 2, "same": 903,400 parameters, 12,613,600 bytes for one prediction."""
    price = costs(three_layers((200, 300, 3)))
    assert price.params == 903_400
    assert price.inference_bytes == 12_613_600
    assert [row.output_shape for row in price.rows] == [(200, 300, 3), (100, 150, 100), (50, 75, 200), (25, 38, 400)]


def test_eight_bit_and_a_batch() -> None:
    one = costs(three_layers((200, 300, 3)))
    small = costs(three_layers((200, 300, 3)), batch=20, dtype="int8")
    assert small.weights_bytes == 903_400
    assert small.inference_bytes == 903_400 + 20 * (12_613_600 - one.weights_bytes) // 4


# The last-use rule, against a simulation that knows nothing of it.


def simulated_peak(rows: tuple[Row, ...]) -> int:
    """Run the network with tensors that count: a tensor's memory goes when no name holds it."""
    alive = most = 0

    class Tensor:
        def __init__(self, size: int) -> None:
            nonlocal alive, most
            self.size = size
            alive += size
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.size

    left = [sum(row.reads.count(index) for row in rows) for index in range(len(rows))]
    held: dict[int, Tensor] = {}
    for index, row in enumerate(rows):
        # Whoever reads the same memory through another name (a view) keeps it alive, too.
        for read in row.reads:
            left[read] -= 1
        reusable = [
            read
            for read in row.reads
            if rows[read].output_shape == row.output_shape
            and not any(left[other] for other, tensor in held.items() if tensor is held[read])
        ]
        if row.layer.buffer == "view":
            held[index] = held[row.reads[0]]
        elif row.layer.buffer == "in_place" and reusable:
            held[index] = held[reusable[0]]
        else:
            held[index] = Tensor(arithmetic.elements(row.output_shape))
        read_once = {read for later in rows for read in later.reads}
        for other in [other for other in held if not left[other] and other != index and other in read_once]:
            del held[other]
    peak = most
    held.clear()
    return peak


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inference_peak_is_what_counting_tensors_finds(name: str) -> None:
    rows = trace(architecture(name))
    assert inference_elements(rows) == simulated_peak(rows)


def steps() -> st.SearchStrategy[tuple[object, ...]]:
    """Random paths that keep (8, 8, 4), with residual blocks inside."""
    layer = st.sampled_from(
        (Conv2D(4, 3, padding="same"), Activation("relu"), BatchNormalization(), Dropout(0.5), Reshape((8, 8, 4)))
    )
    return st.recursive(
        st.lists(layer, max_size=4).map(tuple),
        lambda inner: st.tuples(inner, inner, inner).map(
            lambda paths: (*paths[0], Branches("add", (paths[1], paths[2])), *paths[0])
        ),
        max_leaves=6,
    )


@given(steps())
def test_inference_peak_of_random_graphs(path: tuple[object, ...]) -> None:
    rows = trace(chain(*path))
    assert inference_elements(rows) == simulated_peak(rows)


def test_the_skip_of_a_residual_block_stays_alive() -> None:
    block = Branches("add", ((Conv2D(4, 3, padding="same"), Conv2D(4, 3, padding="same")), ()))
    assert inference_elements(trace(chain(block))) == 3 * 256
    assert inference_elements(trace(chain(*block.paths[0]))) == 2 * 256


# Training.


def test_what_the_backward_pass_keeps() -> None:
    """By hand: the relu output (6 × 6 × 8) is kept once though pooling needs it too, the pooled map for the dense
    layer, the dense output for softmax; the input is told apart."""
    net = chain(Conv2D(8, 3, activation="relu"), MaxPooling2D(2), Flatten(), Dense(10, activation="softmax"))
    parts = memory_parts(net, batch=3, optimizer="momentum")
    params = 3 * 3 * 4 * 8 + 8 + (72 * 10 + 10)
    assert parts == {
        "weights": 4 * params,
        "gradients": 4 * params,
        "optimizer": 4 * params,
        "activations": 3 * 4 * (288 + 72 + 10),
        "input": 3 * 4 * 256,
    }


def test_dropout_keeps_a_byte_a_number_and_smooth_activations_their_input() -> None:
    assert memory_parts(chain(Dropout(0.5)))["activations"] == 256
    assert memory_parts(chain(Conv2D(4, 1), Activation("silu")))["activations"] == 4 * 256


def test_frozen_parameters_have_no_gradient() -> None:
    parts = memory_parts(chain(BatchNormalization()))
    assert (parts["weights"], parts["gradients"], parts["optimizer"]) == (4 * 16, 4 * 8, 2 * 4 * 8)


@given(st.sampled_from(sorted(ARCHITECTURES)), st.integers(1, 64), st.sampled_from(("float32", "bfloat16", "int8")))
def test_costs_grow_as_they_should(name: str, batch: int, dtype: str) -> None:
    net = architecture(name)
    price, twice = costs(net, batch, dtype), costs(net, 2 * batch, dtype)
    fixed = price.weights_bytes
    assert twice.inference_bytes - fixed == 2 * (price.inference_bytes - fixed)
    assert twice.training_bytes > price.training_bytes > price.inference_bytes - 1 or dtype == "int8"
    assert price.params == sum(row.params for row in price.rows)
    assert price.training_bytes == sum(price.training_parts.values())
    assert (twice.params, twice.macs) == (price.params, price.macs)


@pytest.mark.parametrize(("optimizer", "slots"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_optimizer_slots(optimizer: str, slots: int) -> None:
    price = costs(vgg16(), optimizer=optimizer)
    assert price.training_parts["optimizer"] == slots * 4 * 138_357_544


# Receptive fields.


def brute_field(net: Architecture) -> int:
    """Follow one output pixel back through a chain of windows along one axis, "valid" padding."""
    seen = {net_output_middle(net)}
    for row in reversed(trace(net)[1:]):
        layer = row.layer
        if isinstance(layer, Conv2D):
            seen = {place * layer.step[0] + tap * layer.dilation[0] for place in seen for tap in range(layer.window[0])}
        elif isinstance(layer, MaxPooling2D):
            seen = {place * layer.step[0] + tap for place in seen for tap in range(layer.window[0])}
    return max(seen) - min(seen) + 1


def net_output_middle(net: Architecture) -> int:
    return trace(net)[-1].output_shape[0] // 2


windows = st.one_of(
    st.builds(lambda k, s: Conv2D(1, k, strides=s), st.integers(1, 5), st.integers(1, 3)),
    st.builds(lambda k, d: Conv2D(1, k, dilation_rate=d), st.integers(1, 3), st.integers(1, 3)),
    st.builds(lambda k, s: MaxPooling2D(k, strides=s), st.integers(1, 3), st.integers(1, 3)),
)


@given(st.lists(windows, max_size=4))
def test_receptive_field_is_what_a_pixel_sees(layers: list[object]) -> None:
    net = chain(*layers, shape=(600, 600, 1))
    assert trace(net)[-1].receptive_field == (brute_field(net),) * 2


def test_global_layers_see_the_whole_image() -> None:
    rows = trace(chain(GlobalAveragePooling2D(), Dense(2), shape=(32, 16, 3)))
    assert [row.receptive_field for row in rows] == [(1, 1), (32, 16), (32, 16)]


def test_enlarging_makes_steps_smaller() -> None:
    rows = trace(chain(MaxPooling2D(4), Conv2DTranspose(4, 4, strides=2, padding="same"), UpSampling2D(2)))
    assert [row.stride[0] for row in rows] == [1, 4, 2, 1]
    assert rows[2].receptive_field == (8, 8)


# Rows.


def test_names_are_keras_s_and_unique() -> None:
    rows = trace(chain(Conv2D(4, 1), Conv2D(4, 1), Conv2D(4, 1, name="conv2d_2"), Conv2D(4, 1)))
    assert [row.name for row in rows] == ["input_layer", "conv2d", "conv2d_1", "conv2d_2", "conv2d_3"]


def test_reads_name_what_feeds_a_row() -> None:
    rows = trace(resnet18())
    for index, row in enumerate(rows):
        assert all(read < index for read in row.reads)
        assert row.input_shapes == tuple(rows[read].output_shape for read in row.reads)


def test_the_dictionary_is_json_and_has_what_is_promised() -> None:
    data = json.loads(json.dumps(costs(small_cnn(), batch=2).to_dict()))
    promised = "name input_shape batch dtype optimizer params trainable_params macs weights_bytes inference_bytes"
    assert set(promised.split()) | {"training_bytes", "rows"} <= data.keys()
    of_a_row = "name type output_shape params macs activation_bytes receptive_field"
    assert all(set(of_a_row.split()) <= row.keys() for row in data["rows"])
    assert data["rows"][0]["activation_bytes"] == 2 * 28 * 28 * 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: costs(small_cnn(), batch=0), "batch must be at least 1; 0 came"),
        (lambda: costs(small_cnn(), batch="many"), "batch must be a whole number; 'many' came"),  # type: ignore[arg-type]
        (lambda: costs(small_cnn(), dtype="int4"), "dtype must be one of .*'int4' came"),
        (lambda: costs(small_cnn(), optimizer="magic"), "optimizer must be one of .*'magic' came"),
        (lambda: costs(()), "needs at least its input"),
        (lambda: trace(chain(Conv2D(4, 9))), "a window of 9 does not fit into 8 pixels; use padding"),
        (lambda: trace(chain(Flatten(), Conv2D(4, 1))), "needs an image"),
        (lambda: trace(chain(Dense(2, name="a"), Dense(2, name="a"))), "two layers are called 'a'"),
        (lambda: trace(chain(Branches("add", ((Conv2D(5, 1),), ())))), "the paths end in .*must be equal"),
        (lambda: trace(chain(Branches("concatenate", ((MaxPooling2D(),), ())))), "all but the channels"),
        (lambda: trace(chain(Branches("add", ((Flatten(),), ())))), "different ranks"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(make: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()  # type: ignore[operator]


def test_rows_are_taken_as_they_are() -> None:
    rows = trace(small_cnn())
    assert rows_of(list(rows)) == rows
    assert costs(rows, name=Path("net.keras").stem).name == "net"
