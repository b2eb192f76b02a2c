"""Several networks together: every subset once, and never worse in cross-entropy than their members are on average."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit import ensembles as module
from toolkit.ensembles import average, ensembles
from toolkit.errors import InputError


def members(seed: int, count: int = 4) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=40)
    shares = [rng.dirichlet(np.ones(3), 40) * 0.6 + 0.4 * np.eye(3)[labels] for _ in range(count)]
    return shares, labels


def test_all_subsets_of_a_size_are_asked() -> None:
    shares, labels = members(0)
    found = {each.size: each for each in ensembles(shares, labels)}
    assert sorted(found) == [1, 2, 3, 4]
    wanted = [float((np.mean(pair, axis=0).argmax(axis=1) == labels).mean()) for pair in combinations(shares, 2)]
    assert found[2].accuracies == pytest.approx(wanted)
    assert found[2].accuracy == pytest.approx(np.mean(wanted))


@given(st.integers(0, 10**6))
def test_an_ensembles_cross_entropy_is_not_above_its_members(seed: int) -> None:
    """By Jensen's inequality, whatever the members say."""
    losses = [each.cross_entropy for each in ensembles(*members(seed))]
    assert all(more <= less + 1e-9 for less, more in pairwise(losses))


def test_many_subsets_are_told_by_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SUBSETS", 3)
    assert len(ensembles(*members(0), sizes=(2,))[0].accuracies) == 3


def test_what_is_no_ensemble_is_a_sentence() -> None:
    with pytest.raises(InputError, match="at least one member and all answer for the same images; none came"):
        average([])
    with pytest.raises(InputError, match=r"\(1, 2\), \(2, 2\) came"):
        average([np.ones((1, 2)), np.ones((2, 2))])
