"""Plans beside naive answers: their numbers belong together, and come from the planner."""

import json

import pytest

from toolkit.architectures import ARCHITECTURES, lenet5, resnet18
from toolkit.batches import plan_batches
from toolkit.costs import costs
from toolkit.errors import InputError
from toolkit.memory_reports import POLICY_OF, advise, peaks
from toolkit.runtimes import predict_memory
from toolkit.system import default_execution

GB = 10**9


def test_both_peaks_are_those_of_this_machine() -> None:
    found = peaks(lenet5(), 8, "float16", "sgd")
    expected = [
        predict_memory(
            lenet5(),
            8,
            training=training,
            dtype_policy="mixed_float16",
            optimizer="sgd",
            execution=default_execution(),
        )
        for training in (False, True)
    ]
    assert [each.peak_bytes for each in found] == [each.peak_bytes for each in expected]
    assert [each.network for each in found] == ["lenet5", "lenet5"]


@pytest.mark.parametrize("dtype", ["int8", "float64", "float8"])
def test_there_is_no_peak_for_what_keras_does_not_train_in(dtype: str) -> None:
    assert dtype not in POLICY_OF
    assert peaks(lenet5(), dtype=dtype) == ()


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "vit_tiny"])
@pytest.mark.parametrize("power_of_two", [True, False])
def test_an_advice_is_the_plan_and_what_belongs_to_it(name: str, power_of_two: bool) -> None:
    net = ARCHITECTURES[name]()
    advice = advise(net, 300, 3 * GB, power_of_two=power_of_two, train_size=1000, test_size=200)
    plan = plan_batches(net, 300, 3 * GB, power_of_two=power_of_two, train_size=1000, test_size=200)
    assert advice.plan == plan
    assert advice.estimate.process_bytes == plan.predicted_bytes
    assert dict(advice.peaks)[plan.batch_size] == plan.predicted_bytes
    batches = [batch for batch, _ in advice.peaks]
    assert batches == sorted(set(batches))
    assert advice.total_bytes >= advice.available_bytes > 0


def test_the_naive_answer_forgets_all_but_the_pixels() -> None:
    advice = advise(resnet18((224, 224, 3)), 300, 4 * GB)
    assert advice.naive_batch == int(0.7 * 4 * GB) // (224 * 224 * 3 * 4)
    assert advice.naive_bytes > 10 * 4 * GB
    half = advise(resnet18((224, 224, 3)), 300, 4 * GB, dtype_policy="mixed_bfloat16")
    assert half.naive_batch == int(0.7 * 4 * GB) // (224 * 224 * 3 * 2)


def test_as_plain_data_it_is_json() -> None:
    told = json.loads(json.dumps(advise(lenet5(), 100, 2 * GB).to_dict()))
    assert told["batch_size"] * told["accumulation_steps"] == told["effective_batch"]
    assert sum(told["estimate"]["parts"].values()) == told["estimate"]["peak_bytes"]
    assert told["peaks"][0] == {"batch_size": 1, "predicted_bytes": advise(lenet5(), 100, 2 * GB).peaks[0][1]}
    assert set(told["naive"]) == {"batch_size", "predicted_bytes"}


def test_what_cannot_be_planned_is_a_sentence() -> None:
    weights = costs(ARCHITECTURES["vgg16"]()).weights_bytes
    with pytest.raises(InputError, match="vgg16 needs about"):
        advise(ARCHITECTURES["vgg16"](), 300, weights)
    with pytest.raises(InputError, match="must be at least 1"):
        advise(lenet5(), 0)
