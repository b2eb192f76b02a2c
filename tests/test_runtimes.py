"""Predicted memory against peaks that were measured, and against what has to hold for every network."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.architectures import ARCHITECTURES, alexnet, architecture, resnet18, resnet50, small_cnn, vgg11
from toolkit.costs import memory_parts, trace
from toolkit.errors import InputError
from toolkit.layers import Architecture, BatchNormalization, Conv2D, Dense, Dropout, Flatten
from toolkit.runtimes import EXECUTIONS, alive_at_peak, predict_memory
from toolkit.steps import Step, Tape, footprint, variables

# (network, input, batch, MB over the state before building): `train_on_batch` with Adam, three steps in a fresh
# process, TensorFlow 2.21 with oneDNN on two cores of an AMD EPYC (32 MB L3); one run each.
MEASURED = [
    ("small_cnn", (28, 28, 1), 64, 59),
    ("lenet5", None, 64, 50),
    ("lenet5", None, 1024, 126),
    ("three_layers", (720, 1280, 3), 1, 451),
    ("three_layers", (720, 1280, 3), 8, 3784),
    ("alexnet", None, 1, 1609),
    ("alexnet", None, 32, 1896),
    ("vgg16", None, 1, 3485),
    ("vgg16", None, 16, 4467),
    ("resnet50", None, 1, 1007),
    ("resnet50", None, 4, 1293),
    ("resnet50", None, 32, 3870),
    ("resnet50", None, 64, 6912),
    ("mobilenet_v2", None, 1, 510),
    ("mobilenet_v2", None, 16, 1467),
    ("mobilenet_v2", None, 64, 4784),
    ("vit_tiny", None, 1, 583),
    ("vit_tiny", None, 16, 1583),
    ("googlenet", None, 1, 427),
    ("googlenet", None, 32, 1755),
    ("resnet18", None, 1, 415),
    ("resnet18", None, 32, 1318),
    ("se_resnet50", None, 8, 1923),
    ("xception", None, 1, 1055),
    ("xception", None, 8, 3019),
    ("fcn8s", None, 1, 4344),
    ("fcn8s", None, 4, 5533),
    ("vgg11", None, 8, 3188),
]


def ratios() -> list[float]:
    found = []
    for name, shape, batch, measured in MEASURED:
        estimate = predict_memory(architecture(name, shape), batch, execution="onednn")
        found.append(estimate.peak_bytes / 1e6 / measured)
    return found


def test_training_is_predicted_within_a_tenth() -> None:
    within = [abs(ratio - 1) <= 0.1 for ratio in ratios()]
    # VGG-11's peak jumps from run to run by 13 %; the 3-layer net is 10.4 % too high at batch 1.
    assert sum(within) >= len(within) - 2
    assert min(ratios()) > 0.9
    assert max(ratios()) < 1.15


def test_the_textbooks_sum_is_no_such_prediction() -> None:
    """What the model is for: without the runtime, most of the same table is off by more than a tenth."""
    sums = [sum(memory_parts(architecture(n, shape), batch).values()) / 1e6 / mb for n, shape, batch, mb in MEASURED]
    assert sum(abs(ratio - 1) > 0.1 for ratio in sums) > len(sums) / 2


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_network_has_an_estimate_whose_parts_sum(name: str, execution: str) -> None:
    net = architecture(name)
    for training in (True, False):
        estimate = predict_memory(net, 4, training=training, execution=execution)
        assert sum(estimate.parts.values()) == estimate.peak_bytes > 0
        assert all(part >= 0 for part in estimate.parts.values())
        assert estimate.process_bytes == estimate.framework_bytes + estimate.peak_bytes
        assert estimate.accuracy


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("training", [True, False])
def test_a_larger_batch_never_needs_less(execution: str, training: bool) -> None:
    for make in (small_cnn, alexnet, resnet18):
        peaks = [
            predict_memory(make(), batch, training=training, execution=execution).peak_bytes
            for batch in (1, 2, 4, 8, 16, 32, 64)
        ]
        assert peaks == sorted(peaks)


def test_what_an_option_costs() -> None:
    net = vgg11()
    adam = predict_memory(net, 2)
    assert adam.parts["weights"] == 4 * 132_863_336
    assert adam.parts["optimizer"] >= 2 * adam.parts["weights"]
    assert predict_memory(net, 2, optimizer="sgd").peak_bytes < adam.peak_bytes - adam.parts["weights"]
    assert predict_memory(net, 2, accumulation_steps=4).peak_bytes > adam.peak_bytes + 0.9 * adam.parts["weights"]
    assert predict_memory(net, 2, training=False).peak_bytes < adam.peak_bytes / 2


def test_mixed_precision_halves_the_kept_maps_and_keeps_a_second_set_of_weights() -> None:
    net = Architecture(
        "convolutions", (64, 64, 3), (Conv2D(64, 3, activation="relu"), Conv2D(64, 3), Flatten(), Dense(9))
    )
    whole, half = (predict_memory(net, 64, dtype_policy=policy) for policy in ("float32", "mixed_float16"))
    assert half.parts["activations"] == whole.parts["activations"] // 2
    assert half.parts["workspace"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"accumulation_steps": 0}, "accumulation_steps must be at least 1"),
        ({"execution": "abacus"}, "execution must be one of"),
        ({"dtype_policy": "float99"}, "dtype_policy must be one of"),
        ({"optimizer": "hope"}, "optimizer must be one of"),
    ],
)
def test_bad_input_gets_a_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        predict_memory(small_cnn(), **options)  # type: ignore[arg-type]


def test_resnet50_takes_milliseconds_and_no_framework() -> None:
    code = (
        "import sys, time; from toolkit.runtimes import predict_memory; from toolkit.architectures import resnet50;"
        "net = resnet50(); times = []\n"
        "for batch in range(1, 6):\n"
        "    begun = time.process_time(); predict_memory(net, batch); times.append(time.process_time() - begun)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch', 'numpy'} & set(sys.modules); print(min(times))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert float(answer.stdout) < 0.05


# The tape.


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_the_peak_of_a_tape_is_that_of_a_plain_count(sizes: list[int]) -> None:
    tape, most, now, held = Tape(), 0, 0, []
    for index, size in enumerate(sizes):
        held.append((tape.take("activations", size), size))
        now += size
        most = max(most, now)
        if index % 3 == 2:
            number, gone = held.pop(index % len(held))
            tape.drop(number)
            now -= gone
    assert sum(tape.sizes[number] for number in alive_at_peak(tape)) == most


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_gives_everything_back_but_weights_and_slots(name: str) -> None:
    step = Step(trace(architecture(name)), 2, "onednn", slots=2)
    step.build()
    step.slots_for_all()
    step.train(16, 0)
    first = held(step.tape)
    step.train(16, 0)
    assert held(step.tape) == first
    rows = step.rows
    assert first == {
        "weights": 4 * sum(row.params for row in rows),
        "optimizer": 8 * sum(row.trainable_params for row in rows),
    }


def held(tape: Tape) -> dict[str, int]:
    """Bytes by kind that nobody has given back."""
    found: dict[str, int] = {}
    for number, holders in enumerate(tape.holders):
        if holders:
            found[tape.kinds[number]] = found.get(tape.kinds[number], 0) + tape.sizes[number]
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_variables_hold_every_parameter(name: str) -> None:
    for row in trace(architecture(name)):
        trainable, others = variables(row)
        assert sum(trainable) == row.trainable_params
        assert sum(others) == row.non_trainable_params


def test_relu_and_dropout_write_over_their_input_and_normalization_does_not() -> None:
    net = Architecture("chain", (8, 8, 4), (Conv2D(4, 3), BatchNormalization(), Dropout(0.5), Flatten(), Dense(2)))
    rows = trace(net)
    assert footprint(rows[2], "onednn").keeps_input
    assert footprint(rows[3], "onednn").over
    assert footprint(rows[3], "onednn").keeps == (6 * 6 * 4,)


def test_a_gpus_memory_is_counted_alone() -> None:
    assert predict_memory(resnet50(), 2, execution="gpu").framework_bytes == 0
