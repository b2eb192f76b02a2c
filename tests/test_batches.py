"""Batch plans: against a search through every size, against the predictions, and against the course's arithmetic."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import batches as module
from toolkit import system
from toolkit.architectures import lenet5, resnet18, small_cnn
from toolkit.batches import (
    BatchPlan,
    FoundBatch,
    Trial,
    calculate_max_batch_size,
    closest_valid_batch_size,
    find_batch_by_trying,
    largest_channels,
    next_power_of_two,
    plan_batches,
    prepare_loaders,
)
from toolkit.costs import trace
from toolkit.errors import InputError
from toolkit.layers import Architecture, Conv2D, Dense, Flatten
from toolkit.memory import OutOfMemory
from toolkit.runtimes import predict_memory

ROOT = Path(__file__).parent.parent
GB = 10**9


def predicted(net: Any, batch: int, wanted: int, execution: str = "tensorflow") -> int:
    steps = math.ceil(wanted / batch)
    return predict_memory(net, batch, execution=execution, accumulation_steps=steps).process_bytes


# The planner.


@pytest.mark.parametrize("make", [lenet5, small_cnn, resnet18])
@pytest.mark.parametrize(
    ("wanted", "power_of_two"), [(1, True), (48, True), (300, True), (1, False), (7, False), (48, False)]
)
def test_the_plan_is_the_largest_batch_that_fits(
    make: Callable[[], Architecture], wanted: int, power_of_two: bool
) -> None:
    """The oracle tries every size."""
    net, share = make(), 0.7
    most = next_power_of_two(wanted) if power_of_two else wanted
    sizes = [size for size in range(1, most + 1) if not power_of_two or size & (size - 1) == 0]
    needs = {size: predicted(net, size, wanted) for size in sizes}
    for batch in {1, sizes[len(sizes) // 2], sizes[-1]}:
        limit = math.ceil(needs[batch] / share) + 1
        plan = plan_batches(net, wanted, limit, share=share, power_of_two=power_of_two, execution="tensorflow")
        assert plan.batch_size == max(size for size in sizes if needs[size] <= share * limit)
        assert plan.predicted_bytes == needs[plan.batch_size] <= share * plan.limit_bytes
        assert plan.accumulation_steps == math.ceil(wanted / plan.batch_size)
        assert plan.effective_batch == plan.batch_size * plan.accumulation_steps >= wanted


@settings(max_examples=40)
@given(
    wanted=st.integers(1, 3000),
    train_size=st.none() | st.integers(1, 3000),
    test_size=st.none() | st.integers(1, 3000),
    power_of_two=st.booleans(),
)
def test_a_plan_stays_within_the_data_and_reaches_the_wish(
    wanted: int, train_size: int | None, test_size: int | None, power_of_two: bool
) -> None:
    plan = plan_batches(
        lenet5(),
        wanted,
        10**15,
        power_of_two=power_of_two,
        train_size=train_size,
        test_size=test_size,
        execution="tensorflow",
    )
    data = min(size for size in (train_size, test_size, math.inf) if size is not None)
    assert plan.batch_size <= data
    if power_of_two:
        assert plan.batch_size == closest_valid_batch_size(int(min(data, 10**9)), 10**9, wanted)
    else:
        assert plan.batch_size == min(wanted, data)
    assert plan.effective_batch - plan.batch_size < wanted <= plan.effective_batch


def test_few_predictions_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(net: Any, batch: int, **options: Any) -> Any:
        asked.append(batch)
        return predict_memory(net, batch, **options)

    monkeypatch.setattr(module, "predict_memory", counting)
    plan_batches(lenet5(), 1024, 10**12, execution="tensorflow")
    assert asked == [1024]
    limit = 2 * predict_memory(lenet5(), 64, execution="tensorflow").process_bytes
    asked.clear()
    plan_batches(lenet5(), 100_000, limit, execution="tensorflow")
    assert len(asked) == len(set(asked)) <= 7


def test_the_plan_tells_why() -> None:
    net = resnet18()
    limit = math.ceil(predicted(net, 16, 300) / 0.7) + 1
    why = plan_batches(net, 300, limit, execution="tensorflow").why
    assert why.startswith("A batch of 16: the largest that fits into the memory. Training is predicted to take ")
    assert "; 32 would take " in why
    assert "19 batches make one update, which learns from 304 images, 4 more than the wish of 300." in why
    assert why.endswith("Batch normalization sees only 16 of them at a time: it is not the same as one batch.")
    plain = plan_batches(lenet5(), 300, 10**12, test_size=100, execution="tensorflow").why
    assert plain.startswith("A batch of 64: there are 100 test images, and training and test batches are the same.")
    assert plain.endswith("Without batch normalization that is the same as one batch, to rounding.")
    roomy = plan_batches(lenet5(), 48, 10**12, execution="tensorflow").why
    assert roomy.startswith("A batch of 64: the power of two next to the wish of 48.")
    assert "update" not in roomy
    assert plan_batches(lenet5(), 64, 10**12, execution="tensorflow").why.startswith("A batch of 64: the wish.")


def test_the_limit_is_what_is_free_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "available_memory", lambda: 5 * GB)
    monkeypatch.setattr(system, "default_execution", lambda: "xla")
    plan = plan_batches(lenet5(), 10)
    assert (plan.limit_bytes, plan.execution) == (5 * GB, "xla")
    monkeypatch.setattr(system, "gpus", lambda: (SimpleNamespace(available_bytes=3 * GB),))
    assert plan_batches(lenet5(), 10, execution="gpu").limit_bytes == 3 * GB
    monkeypatch.setattr(system, "gpus", tuple)
    with pytest.raises(InputError, match="no GPU was found on this machine; give the bytes of its memory as the limit"):
        plan_batches(lenet5(), 10, execution="gpu")


def test_rows_are_planned_like_their_architecture_and_become_plain_data() -> None:
    options: dict[str, Any] = {"limit": 16 * GB, "execution": "tensorflow"}
    plan = plan_batches(lenet5(), 300, **options)
    assert plan_batches(trace(lenet5()), 300, name="lenet5", **options) == plan
    assert BatchPlan(**plan.to_dict()) == plan
    assert plan.to_dict() == asdict(plan)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"wanted": 0}, "the wanted batch must be at least 1; 0 came"),
        ({"wanted": -300}, "the wanted batch must be at least 1; -300 came"),
        ({"wanted": "many"}, "the wanted batch must be a whole number; 'many' came"),
        ({"limit": -1}, "the memory limit in bytes must be at least 1; -1 came"),
        ({"limit": 1.5}, "the memory limit in bytes must be a whole number; 1.5 came"),
        ({"share": 0}, "share must be a number above 0 and up to 1; 0 came; give one such as 0.7"),
        ({"share": 70}, "share must be a number above 0 and up to 1; 70 came"),
        ({"share": True}, "share must be a number above 0 and up to 1; True came"),
        ({"train_size": 0}, "train_size must be at least 1; 0 came"),
        ({"test_size": -5}, "test_size must be at least 1; -5 came"),
        ({"dtype_policy": "float3"}, "dtype_policy must be one of float32, "),
        ({"optimizer": "magic"}, "optimizer must be one of sgd, "),
        ({"execution": "abacus"}, "execution must be one of tensorflow, "),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_batches(lenet5(), **{"wanted": 300, "limit": GB, "execution": "tensorflow", **options})
    assert sentence in str(caught.value)


def test_a_limit_below_the_weights_says_what_would_do() -> None:
    net = Architecture("large", (1000,), (Dense(1000), Dense(10)))
    with pytest.raises(InputError) as caught:
        plan_batches(net, 300, 10**6, execution="tensorflow")
    message = str(caught.value)
    assert message.startswith("large needs about ")
    assert " to train with one image at a time and 700 kB (70 % of 1.00 MB) may be used; give a limit of " in message
    advice = re.search(r"a limit of ([0-9.]+) (GB|MB) or more, fewer channels or smaller images", message)
    assert advice is not None
    advised = float(advice[1]) * {"GB": 10**9, "MB": 10**6}[advice[2]]
    assert plan_batches(net, 300, round(advised), execution="tensorflow").batch_size >= 1
    assert 0.7 * advised < 1.02 * predicted(net, 1, 300)


# The course's functions.


def test_the_naive_bound_is_seventy_percent_over_the_bytes_of_the_pixels() -> None:
    assert calculate_max_batch_size((720, 1280), 3, 4, available=16 * GB) == int(0.7 * 16 * GB / (720 * 1280 * 3 * 4))
    assert calculate_max_batch_size(28, 1, 1, available=10**6) == 892
    assert calculate_max_batch_size(1000, 3, 4, available=10**6) == 0
    free = system.available_memory()
    now = calculate_max_batch_size((100, 100), 3, 4) * 100 * 100 * 3 * 4
    assert now == pytest.approx(0.7 * free, rel=0.5)


@pytest.mark.parametrize(
    ("test_data_size", "memory_based_max", "wish", "batch"),
    [
        (10_000, 10_000, 300, 512),
        (10_000, 10_000, 256, 256),
        (10_000, 500, 300, 256),
        (400, 10_000, 300, 256),
        (10_000, 10_000, 1, 1),
        (1, 1, 300, 1),
        (512, 512, 300, 512),
        (511, 512, 300, 256),
    ],
)
def test_the_closest_valid_batch(test_data_size: int, memory_based_max: int, wish: int, batch: int) -> None:
    assert closest_valid_batch_size(test_data_size, memory_based_max, wish) == batch


class Items:
    """A dataset as PyTorch has them: a length and numbered (image, label) pairs."""

    def __init__(self, size: int, image: Any) -> None:
        self._size, self._image = size, image

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= self._size:
            raise IndexError(index)
        return self._image, 0


def test_the_example_of_the_notes_runs_as_printed() -> None:
    image = np.zeros((1, 28, 28), np.float32)  # channels first, as the notes' framework has them
    train_dataset, test_dataset = Items(60_000, image), Items(10_000, image)
    max_batch_size, accumulation_steps = prepare_loaders(train_dataset, test_dataset, 300)
    assert (max_batch_size, accumulation_steps) == (512, 1)
    little = 100 * image.nbytes * 10 // 7 + 1
    assert prepare_loaders(train_dataset, test_dataset, 300, available=little) == (64, 5)


def test_loaders_take_arrays_lists_and_streams_that_know_their_length() -> None:
    colour = np.zeros((200, 8, 8, 3), np.uint8)
    for dataset in (colour, (colour, np.zeros(200)), list(colour), [(image, 1) for image in colour]):
        assert prepare_loaders(dataset, dataset, 300, available=GB) == (128, 3)
    grey = Items(50, np.zeros((8, 8), np.uint8))
    assert prepare_loaders(Items(40, grey[0][0]), grey, 300, available=GB) == (32, 10)


@pytest.mark.tensorflow
def test_loaders_take_tensorflow_datasets() -> None:
    import tensorflow as tf

    images = tf.data.Dataset.from_tensor_slices((np.zeros((100, 8, 8, 1), np.float32), np.zeros(100)))
    assert prepare_loaders(images, images, 48, available=GB) == (64, 1)
    with pytest.raises(InputError, match="give one with a length"):
        prepare_loaders(images.repeat(), images, 48)
    with pytest.raises(InputError, match=r"of shape \(10, 8, 8, 1\) came; give single images, not batches"):
        prepare_loaders(images.batch(10), images, 48)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: calculate_max_batch_size((0, 5), 3, 4), "height must be at least 1; 0 came"),
        (lambda: calculate_max_batch_size(28, -1, 4), "channels must be at least 1; -1 came"),
        (lambda: calculate_max_batch_size(28, 1, 0), "dtype_size must be at least 1; 0 came"),
        (lambda: calculate_max_batch_size(28, 1, 4, available=0), "available must be at least 1; 0 came"),
        (lambda: closest_valid_batch_size(100, 100, 0), "user_input_batch_size must be at least 1; 0 came"),
        (lambda: closest_valid_batch_size(0, 100, 5), "test_data_size must be at least 1; 0 came"),
        (lambda: closest_valid_batch_size(100, 0, 5), "memory_based_max must be at least 1; 0 came"),
        (lambda: prepare_loaders([], [], 5), "a dataset must have a known number of items, at least one"),
        (lambda: prepare_loaders(iter([1]), [1], 5), "a dataset must have a known number of items"),
        (lambda: prepare_loaders([1], [1], 5), "must be one image of height × width × channels"),
        (lambda: prepare_loaders(["a"], ["b"], 5), "must be one image of height × width × channels"),
        (
            lambda: prepare_loaders(np.zeros((3, 8, 8)), np.zeros((3, 8, 9)), 5),
            "training images are (8, 8) and test images (8, 9); give two datasets of one size",
        ),
        (
            lambda: prepare_loaders(np.zeros((3, 8, 8)), np.zeros((3, 8, 8)), 5, available=100),
            "not even one image of 512 bytes fits into the free memory",
        ),
    ],
)
def test_what_the_course_functions_cannot_use_is_a_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert sentence in str(caught.value)


# The referee.


@given(largest=st.integers(1, 200), most=st.integers(1, 300), power_of_two=st.booleans())
def test_trying_finds_the_largest_that_fits(largest: int, most: int, power_of_two: bool) -> None:
    found = find_batch_by_trying(None, most=most, power_of_two=power_of_two, fits=lambda batch: batch <= largest)
    best = min(largest, most)
    assert found.batch_size == (1 << (best.bit_length() - 1) if power_of_two else best)
    assert all(trial.fits == (trial.batch_size <= largest) for trial in found.trials)
    assert all(trial.batch_size <= most for trial in found.trials)
    tried = [trial.batch_size for trial in found.trials]
    assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
    assert found.refused is None or found.refused > found.batch_size


def test_trying_tells_what_it_tries_as_it_goes() -> None:
    heard: list[Trial] = []
    found = find_batch_by_trying(None, fits=lambda batch: batch < 5, progress=heard.append)
    assert tuple(heard) == found.trials == (Trial(1, True), Trial(2, True), Trial(4, True), Trial(8, False))
    assert found == FoundBatch(4, found.trials, most=1024)
    with pytest.raises(InputError, match="not even one image at a time can be trained"):
        find_batch_by_trying(None, fits=lambda batch: False)
    with pytest.raises(InputError, match="most must be at least 1; 0 came"):
        find_batch_by_trying(None, most=0, fits=bool)


def test_trying_measures_in_processes_under_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement has its own tests; here a fake, whose process takes a GB and 100 MB for each image."""
    asked: list[tuple[int, int]] = []

    def fake(net: Any, batch: int, *, limit_bytes: int, **options: Any) -> SimpleNamespace:
        assert net is network
        assert options == {**given_options, "accumulation_steps": 2, "steps": 3}
        asked.append((batch, limit_bytes))
        if batch > 20:
            raise OutOfMemory("it does not fit")
        return SimpleNamespace(process_bytes=GB + batch * GB // 10)

    network = lenet5()
    given_options = {"dtype_policy": "float32", "optimizer": "sgd", "execution": "tensorflow"}
    monkeypatch.setattr(module, "measure_memory", fake)
    found = find_batch_by_trying(network, limit=2 * GB, accumulation_steps=2, **given_options)  # type: ignore[arg-type]
    assert asked == [(batch, 2 * GB) for batch in (1, 2, 4, 8, 16)]
    assert found.trials[-2:] == (Trial(8, True, 1_800_000_000), Trial(16, False, 2_600_000_000))
    assert find_batch_by_trying(network, limit=9 * GB, accumulation_steps=2, **given_options).trials[-1] == Trial(  # type: ignore[arg-type]
        32, False
    )


def test_trying_on_a_gpu_leaves_the_memory_of_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(net: Any, batch: int, *, limit_bytes: int | None, **options: Any) -> SimpleNamespace:
        assert limit_bytes is None
        return SimpleNamespace(process_bytes=batch * GB)

    monkeypatch.setattr(module, "measure_memory", fake)
    assert find_batch_by_trying(lenet5(), limit=5 * GB, execution="gpu").batch_size == 4


# Width.


@pytest.mark.parametrize("limit", [2 * GB, 4 * GB, 8 * GB])
def test_the_widest_network_fits_and_the_next_does_not(limit: int) -> None:
    channels = largest_channels(lambda width: small_cnn(channels=width), 32, limit, execution="tensorflow")
    needs = [
        predict_memory(small_cnn(channels=width), 32, execution="tensorflow").process_bytes
        for width in (channels, channels + 1)
    ]
    assert needs[0] <= 0.7 * limit < needs[1]


def test_the_widest_network_has_bounds() -> None:
    def wide(channels: int) -> Architecture:
        return Architecture("wide", (8, 8, 1), (Conv2D(channels, 3), Flatten(), Dense(2)))

    assert largest_channels(wide, 1, 10**15, most=100, execution="tensorflow") == 100
    assert largest_channels(wide, 1, 10**15, most=1, execution="tensorflow") == 1
    with pytest.raises(InputError, match=r"with one channel this network needs .* give a smaller batch, or a limit"):
        largest_channels(wide, 1, 10**6, execution="tensorflow")
    with pytest.raises(InputError, match="share must be a number above 0"):
        largest_channels(wide, 1, GB, share=2, execution="tensorflow")


def test_planning_needs_no_framework() -> None:
    code = (
        "import sys; from toolkit.batches import plan_batches; from toolkit.architectures import resnet50; "
        "print(plan_batches(resnet50(), 300).batch_size, "
        "[name for name in ('keras', 'tensorflow', 'jax') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith(" []\n")
