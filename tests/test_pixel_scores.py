"""Scores of labelled pixels against scikit-learn, and against published definitions written out with SciPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn import metrics

from toolkit.errors import InputError
from toolkit.pixel_scores import (
    VOID,
    Labels,
    PixelScores,
    at_stride,
    boundary_pixels,
    count_pixels,
    interior,
    score_cells,
    scores,
)

NAMES = ("ground", "a", "b", "c")
RNG = np.random.default_rng(0)


def blobs(seed: int, count: int = 3, size: int = 24) -> Labels:
    """Label maps with patches of four classes."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random((count, size, size)), (0, 3, 3))
    steps = np.quantile(smooth, [0.5, 0.7, 0.85])
    return np.asarray(np.digitize(smooth, steps), np.uint8)


def border_of(mask: Any, pixels: int) -> Any:
    """Cheng et al. 2021: the mask less its erosion by so many steps of 3 × 3; outside the image there is no mask."""
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=pixels)


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_the_border_of_every_class_is_the_published_one(pixels: int) -> None:
    for labels in blobs(1):
        inside = interior(labels[np.newaxis], pixels)[0]
        for number in range(4):
            mask = labels == number
            assert np.array_equal(mask & ~inside, border_of(mask, pixels))


def test_confusion_and_iou_are_those_of_scikit_learn() -> None:
    truth, answers = blobs(2), blobs(3)
    counts = count_pixels(truth, answers, 4, 2)
    found = scores(counts, NAMES)
    flat = truth.ravel(), answers.ravel()
    assert np.array_equal(counts.confusion, metrics.confusion_matrix(*flat, labels=range(4)))
    ious = metrics.jaccard_score(*flat, average=None)
    assert [each.iou for each in found.classes] == pytest.approx(ious)
    assert found.mean_iou == pytest.approx(ious.mean())
    assert found.pixel_accuracy == pytest.approx(metrics.accuracy_score(*flat))
    assert found.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(*flat))
    assert [each.pixels for each in found.classes] == np.bincount(flat[0]).tolist()


@pytest.mark.parametrize("pixels", [1, 3])
def test_boundary_iou_is_that_of_the_paper(pixels: int) -> None:
    """Equation 2: |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|, over all images of a class."""
    truth, answers = blobs(4), blobs(5)
    found = scores(count_pixels(truth, answers, 4, pixels), NAMES)
    for number, each in enumerate(found.classes):
        borders = [np.stack([border_of(labels == number, pixels) for labels in maps]) for maps in (truth, answers)]
        expected = (borders[0] & borders[1]).sum() / (borders[0] | borders[1]).sum()
        assert each.boundary_iou == pytest.approx(expected)


def test_interior_iou_counts_only_what_is_far_from_true_borders() -> None:
    truth, answers = blobs(6), blobs(7)
    far = np.ones(truth.shape, bool)
    for index, labels in enumerate(truth):
        for number in range(4):
            far[index] &= ~border_of(labels == number, 2)
    ious = metrics.jaccard_score(truth[far], answers[far], average=None, labels=range(4))
    found = scores(count_pixels(truth, answers, 4, 2), NAMES)
    assert [each.interior_iou for each in found.classes] == pytest.approx(ious)


def test_a_shift_hurts_borders_more_than_insides() -> None:
    truth = np.zeros((1, 60, 60), np.uint8)
    truth[0, 15:45, 15:45] = 1
    found = scores(count_pixels(truth, np.roll(truth, 2, axis=2), 2, 2), ("ground", "square"))
    assert found.boundary_iou < 0.7 < 0.9 < found.mean_iou < found.interior_iou == 1.0


@given(hnp.arrays(np.uint8, (2, 6, 7), elements=st.integers(0, 3)))
def test_a_perfect_answer_scores_1_wherever_there_is_something(truth: Labels) -> None:
    found = scores(count_pixels(truth, truth, 4, 1), NAMES)
    for each in found.classes:
        assert {each.iou, each.boundary_iou, each.accuracy} == ({1.0} if each.pixels else {None})
    assert found.mean_iou == found.pixel_accuracy == found.boundary_iou == 1.0


def test_void_counts_nowhere() -> None:
    truth, answers = blobs(8), blobs(9)
    void = RNG.random(truth.shape) < 0.3
    marked = np.where(void, np.uint8(VOID), truth)
    one, other = (count_pixels(marked, labels, 4, 1) for labels in (answers, np.where(void, np.uint8(3), answers)))
    assert one.confusion.sum() == (~void).sum()
    assert np.array_equal(one.confusion, other.confusion)
    assert np.array_equal(one.confusion, metrics.confusion_matrix(truth[~void], answers[~void]))
    assert not scores(count_pixels(np.full_like(truth, VOID), answers, 4), NAMES).mean_iou


def test_images_add_up() -> None:
    truth, answers = blobs(10, 4), blobs(11, 4)
    whole = count_pixels(truth, answers, 4, 2)
    added = count_pixels(truth[:1], answers[:1], 4, 2) + count_pixels(truth[1:], answers[1:], 4, 2)
    assert scores(added, NAMES) == scores(whole, NAMES)
    assert added.images == 4


def test_the_width_of_a_border_is_2_percent_of_the_diagonal() -> None:
    assert [boundary_pixels(*size) for size in ((300, 400), (128, 128), (3, 3))] == [10, 4, 1]
    assert scores(count_pixels(blobs(1), blobs(2), 4), NAMES).boundary_pixels == 1


def test_scores_survive_json() -> None:
    found = scores(count_pixels(blobs(1), blobs(2), 5), (*NAMES, "absent"))
    assert PixelScores.from_dict(found.to_dict()) == found
    assert found.classes[-1].iou is None


def test_the_table_has_a_line_a_class_and_the_means() -> None:
    found = scores(count_pixels(blobs(1), blobs(2), 5), (*NAMES, "absent"))
    heading, *lines, means = score_cells(found)
    assert {len(line) for line in (heading, *lines, means)} == {6}
    assert [line[0] for line in lines] == [*NAMES, "absent"]
    assert lines[-1][1:] == ["–", "–", "–", "–", "0"]
    assert means[1] == f"{found.mean_iou:.3f}"
    assert means[-1] == f"{sum(int(line[-1].replace(',', '')) for line in lines):,}"


def test_coarse_maps_lose_what_is_thin() -> None:
    truth = np.zeros((1, 32, 32), np.uint8)
    truth[0, 2:15, 6:27] = 1
    truth[0, 21, :] = 2
    ious = [
        [each.iou or 0.0 for each in scores(count_pixels(truth, at_stride(truth, stride, 3), 3, 1), NAMES[:3]).classes]
        for stride in (1, 4, 8)
    ]
    assert ious[0] == [1.0, 1.0, 1.0]
    assert [each[2] for each in ious] == [1.0, 0.0, 0.0]
    assert 1 > ious[1][1] > ious[2][1] > 0.3


@pytest.mark.parametrize(
    ("truth", "answers", "options", "sentence"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), {}, "whole numbers of shape .n, height, width"),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), np.uint8), {}, "true label maps are whole numbers"),
        (np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int), {}, "true label maps are whole numbers"),
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 5), int), {}, "must have the same shape"),
        (np.full((1, 4, 4), 3), np.zeros((1, 4, 4), int), {}, "from 0 to 2; 3 came, in 16 pixels"),
        (np.full((1, 4, 4), -1), np.zeros((1, 4, 4), int), {}, "from 0 to 2; -1 came"),
        (np.zeros((1, 4, 4), int), np.full((1, 4, 4), VOID), {}, "answered label maps .* 255 came"),
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), int), {"pixels": 0}, "pixels must be at least 1"),
    ],
)
def test_what_is_no_label_map_is_said(truth: Any, answers: Any, options: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        count_pixels(truth, answers, 3, **options)


def test_names_and_blocks_have_to_fit() -> None:
    with pytest.raises(InputError, match="4 classes need as many names; 2 came"):
        scores(count_pixels(blobs(1), blobs(1), 4), NAMES[:2])
    with pytest.raises(InputError, match="blocks of 5 do not divide 24 pixels evenly"):
        at_stride(blobs(1), 5, 4)
