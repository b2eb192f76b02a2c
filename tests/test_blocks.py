"""Blocks hold each row once, branches beside each other, repeats folded."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from tests.plotting import all_rows, forks, wired, wirings
from toolkit.architectures import ARCHITECTURES, googlenet, resnet50
from toolkit.blocks import Fork, Repeat, blocks_of
from toolkit.costs import trace
from toolkit.layers import Architecture, Branches, Conv2D


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_row_is_in_the_blocks_once(name: str) -> None:
    rows = trace(ARCHITECTURES[name]())
    drawn = all_rows(blocks_of(rows))
    assert sorted(row.name for row in drawn) == sorted(row.name for row in rows)
    assert sum(row.params for row in drawn) == sum(row.params for row in rows)


def test_branches_are_forks() -> None:
    found = list(forks(blocks_of(trace(googlenet()))))
    assert [len(fork.paths) for fork in found] == [4] * 9
    assert all(fork.join and fork.join.rows[0].type == "Concatenate" for fork in found)


def test_repeated_blocks_are_folded() -> None:
    """ResNet-50 has 3, 4, 6 and 3 blocks (He et al. 2016, table 1), the first of each with another shortcut."""
    chain = blocks_of(trace(resnet50()))
    assert [len(item.chains) for item in chain if isinstance(item, Repeat)] == [2, 3, 5, 2]
    residual = [fork for fork in forks(chain) if () in fork.paths]
    assert len(residual) == 4
    assert len(list(forks(chain))) == 8


def test_a_branch_inside_a_branch() -> None:
    gate = Branches("multiply", ((Conv2D(4, 1, activation="sigmoid"),), ()))
    net = Architecture("se", (8, 8, 4), (Branches("add", ((Conv2D(4, 3, padding="same"), gate), ())), Conv2D(2, 1)))
    start, outer, end = blocks_of(trace(net))
    assert isinstance(outer, Fork)
    inner = outer.paths[0][1]
    assert isinstance(inner, Fork)
    assert inner.join
    assert inner.join.rows[0].type == "Multiply"
    assert outer.paths[1] == inner.paths[1] == ()
    assert (start.rows[0].type, end.rows[0].type) == ("InputLayer", "Conv2D")


@settings(max_examples=60, deadline=None)
@given(wirings())
def test_any_wiring_has_blocks(reads: Sequence[tuple[int, ...]]) -> None:
    """Residual, tangled, with several outputs: each row is in them once."""
    rows = wired(reads)
    assert sorted(row.name for row in all_rows(blocks_of(rows))) == sorted(row.name for row in rows)
