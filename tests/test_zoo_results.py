"""Means, deviations and differences over seeds, against NumPy and SciPy."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.zoo_records import ALEXNET, LEAN, NO_FLIP, ablation_record, record, some_records
from toolkit.errors import InputError
from toolkit.zoo_results import (
    Group,
    Spread,
    ablation,
    ablation_base,
    confusion_pairs,
    datasets_of,
    difference,
    group_records,
    is_ablation,
    place_of,
)

GROUPS = group_records(some_records())


def test_records_of_one_kind_are_one_group_over_seeds() -> None:
    assert [(group.name, len(group.records)) for group in GROUPS] == [
        ("small_cnn, lean", 3),
        ("alexnet_28, lean", 2),
        ("vit_tiny_28, notes", 1),
        ("small_cnn, lean_no_flip", 3),
        ("small_cnn, lean_mixup", 1),
    ]
    assert datasets_of(some_records()) == ("mnist",)


def test_of_records_with_one_seed_the_last_counts() -> None:
    (group,) = group_records([record(1, 0.5), record(0, 0.7), record(1, 0.9)])
    assert [(each.seed, each.test_accuracy) for each in group.records] == [(0, 0.7), (1, 0.9)]


@pytest.mark.parametrize("changes", [{"machine": {"gpu": "a GPU"}}, {"backend": "jax"}, {"params": 1}])
def test_other_devices_and_networks_are_other_groups(changes: dict[str, Any]) -> None:
    records = [record(0), record(1, **changes)]
    assert len(group_records(records)) == 2
    with pytest.raises(InputError, match="2 records of 2 kinds"):
        Group(tuple(records))


def test_a_group_without_records_is_a_sentence() -> None:
    with pytest.raises(InputError, match="0 records of 0 kinds"):
        Group(())


def test_mean_and_deviation_are_numpys() -> None:
    accuracy = GROUPS[0].accuracy
    assert accuracy.mean == pytest.approx(np.mean(LEAN))
    assert accuracy.deviation == pytest.approx(np.std(LEAN, ddof=1))
    assert accuracy.percent() == "99.20 % ± 0.20"
    assert Spread.of([0.5]) == Spread(0.5, None, 1)
    assert Spread.of([0.5]).percent() == "50.00 %"


def test_costs_over_seeds() -> None:
    assert GROUPS[0].cost("seconds") == Spread(101.0, 1.0, 3)
    assert GROUPS[1].cost("params").mean == 2_300_000
    with pytest.raises(InputError, match="there is no cost 'watts'; choose one of params"):
        GROUPS[0].cost("watts")


def test_curves_are_means_with_deviations() -> None:
    lean, vit = GROUPS[0], GROUPS[2]
    np.testing.assert_allclose(lean.history["loss"], [0.9, 0.5, 0.31])
    np.testing.assert_allclose(lean.deviations["loss"], [0, 0, 0.01], atol=1e-12)
    assert vit.deviations == {}
    assert vit.history["loss"] == [0.9, 0.5, 0.3]


def test_a_curve_that_ended_early_counts_as_far_as_it_goes() -> None:
    short = record(1, history={"loss": [0.7]})
    (group,) = group_records([record(0), short])
    np.testing.assert_allclose(group.history["loss"], [0.8, 0.5, 0.3])
    assert set(group.history) == {"loss"}


def test_classes_and_confusion_over_seeds() -> None:
    lean = GROUPS[0]
    assert lean.per_class_accuracy == pytest.approx({"cat": np.mean(LEAN), "dog": np.mean(LEAN), "ship": 1.0})
    assert lean.per_class_deviations == pytest.approx({"cat": 0.002, "dog": 0.002, "ship": 0.0})
    assert GROUPS[2].per_class_deviations == {}
    assert lean.confusion == ((270, 27, 3), (18, 282, 0), (0, 6, 294))
    assert (lean.pairs[0].one, lean.pairs[0].other, lean.pairs[0].mistakes) == ("cat", "dog", 45)
    assert lean.pairs[0].share == 45 / 54
    assert lean.calibration.count == 12


# Differences.


def test_a_difference_has_welchs_error() -> None:
    found = difference(GROUPS[0], GROUPS[1])
    test = stats.ttest_ind(LEAN, ALEXNET, equal_var=False)
    assert found.gain == pytest.approx(np.mean(LEAN) - np.mean(ALEXNET))
    assert found.gain / (found.error or 0) == pytest.approx(test.statistic)
    assert found.is_clear
    assert difference(GROUPS[0], GROUPS[2]).error is None
    assert difference(GROUPS[0], GROUPS[2]).is_clear is None


def test_ablations_find_what_they_changed() -> None:
    decoy = [record(seed, 0.5, recipe_name="other", recipe={"name": "other", "flip": "no", "x": 1}) for seed in (0, 1)]
    groups = group_records([*decoy, *some_records()])
    base = ablation_base(groups)
    assert base is not None
    assert base.name == "small_cnn, lean"
    found = ablation(groups, base)
    assert [each.name for each in found] == ["mixup", "no flip"]
    assert found[1].gain == pytest.approx(np.mean(NO_FLIP) - np.mean(LEAN))
    assert str(found[1]) == "-0.70 ± 0.13"
    assert not any(is_ablation(group) for group in groups if group.first.architecture != "small_cnn")


def test_without_ablations_there_is_no_base() -> None:
    assert ablation_base(GROUPS[:3]) is None
    assert ablation_base(group_records([ablation_record("mixup", 0, 0.9)])) is None


# Confusion.


def test_pairs_are_all_mistakes_once() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (6, 6))
    pairs = confusion_pairs(counts)
    assert len(pairs) == 15
    assert sum(pair.mistakes for pair in pairs) == counts.sum() - np.trace(counts)
    assert sum(pair.share for pair in pairs) == pytest.approx(1)
    assert [pair.mistakes for pair in pairs] == sorted((pair.mistakes for pair in pairs), reverse=True)
    assert place_of(pairs, pairs[3].other, pairs[3].one) == 4


def test_no_mistakes_are_no_division_by_zero() -> None:
    assert {pair.share for pair in confusion_pairs(np.eye(3, dtype=int))} == {0.0}


def test_what_has_no_pairs_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"2 classes is 2 × 2; \(3, 3\) came"):
        confusion_pairs(np.eye(3), "ab")
    with pytest.raises(InputError, match="no pair of 'a' and 'd' among these 3"):
        place_of(confusion_pairs(np.eye(3), "abc"), "a", "d")


def test_groups_can_be_written_down() -> None:
    """What figures take of them is plain data."""
    assert json.loads(json.dumps([GROUPS[0].history, GROUPS[0].confusion, GROUPS[0].calibration.to_dict()]))
