"""The order of an epoch, and positions in it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.streaming.order import Order, Position, shuffled


@given(st.integers(1, 400), st.integers(0, 5), st.integers(0, 2**40), st.integers(1, 50))
def test_every_sample_comes_once_in_each_epoch(samples: int, epoch: int, seed: int, size: int) -> None:
    order = Order(samples, shuffle=True, seed=seed)
    groups = order.groups(size, drop_remainder=False)
    places = [order.places(epoch, first * size, (first + 1) * size) for first in range(groups)]
    assert sorted(np.concatenate(places).tolist()) == list(range(samples))
    assert all(len(group) == size for group in places[:-1])
    assert order.groups(size, drop_remainder=True) == sum(len(group) == size for group in places)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return list(Order(1000, shuffle=True, seed=seed).places(epoch, 0, 1000))

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_without_shuffling_samples_come_as_they_are_numbered() -> None:
    assert Order(10, shuffle=False, seed=3).places(7, 8, 16).tolist() == [8, 9]


@pytest.mark.parametrize("samples", [255, 256, 65_536, 70_000])
def test_the_largest_number_fits(samples: int) -> None:
    places = Order(samples, shuffle=True, seed=0).places(0, 0, samples)
    assert places.dtype == np.int64
    assert (places.min(), places.max()) == (0, samples - 1)


@given(
    st.builds(
        Position,
        epoch=st.integers(0, 9),
        batches=st.integers(0, 9),
        done=st.integers(0, 99),
        ahead=st.lists(st.integers(0, 99)).map(tuple),
        shards=st.integers(0, 9),
        stream=st.text(max_size=5),
    )
)
def test_a_position_survives_json(position: Position) -> None:
    assert Position.from_dict(json.loads(json.dumps(position.to_dict()))) == position


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epoch": 1},
        {**Position().to_dict(), "done": "many"},
        {**Position().to_dict(), "epoch": -1},
        {"ahead": None},
    ],
)
def test_what_is_no_position_is_refused_with_a_sentence(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"position.*save it anew"):
        Position.from_dict(fields)


def test_shuffled_keeps_every_item() -> None:
    items = [f"shard-{number}" for number in range(20)]
    assert sorted(shuffled(items, 0, 1)) == sorted(items)
    assert shuffled(items, 0, 1) == shuffled(items, 0, 1) != shuffled(items, 0, 2)
