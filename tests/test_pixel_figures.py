"""Figures of labelled pixels: they hold what they were given, can be read, and say it in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.plotting import STYLES, faults, pixels
from toolkit.benchmarks import Report, Row, segmentation
from toolkit.errors import InputError
from toolkit.figures import Style, alt_text
from toolkit.pixel_scores import VOID, count_pixels, scores
from toolkit.plots import class_colours, plot_borders, plot_segmentation

NAMES = ("ground", "cat", "a class with a very long name that nobody reads to its end")
IMAGES = np.full((2, 20, 30, 3), 120, np.uint8)
TRUTH = np.zeros((2, 20, 30), np.uint8)
TRUTH[:, 4:16, 4:14] = 1
TRUTH[1, 4:16, 18:28] = 2
TRUTH[0, :2] = VOID
ANSWERS = np.where(TRUTH == VOID, 0, np.roll(TRUTH, 1, axis=2)).astype(np.uint8)
SCORES = scores(count_pixels(TRUTH, ANSWERS, 3, 1), NAMES)

FIGURES: dict[str, Callable[[Style], Figure]] = {
    "pictures": lambda style: plot_segmentation(IMAGES, {"true": TRUTH, "net": ANSWERS}, NAMES, style=style),
    "borders": lambda style: plot_borders({"fcn32s": SCORES, "fcn8s": SCORES}, style=style),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", FIGURES)
def test_it_can_be_read(name: str, style: Style) -> None:
    assert not faults(FIGURES[name](style), style)


def test_colours_differ() -> None:
    colours = class_colours(19)
    distances = np.abs(colours[:, np.newaxis] - colours).max(axis=2) + np.eye(19)
    assert distances.min() > 0.05
    assert class_colours(0).shape == (0,) or len(class_colours(0)) == 0
    assert np.array_equal(class_colours(300)[1], class_colours(300)[19])


def test_each_patch_carries_its_class() -> None:
    figure = plot_segmentation(IMAGES, {"true": TRUTH}, NAMES, style="light")
    written = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert written[:2] == [[], ["cat"]]
    assert written[2] == []
    assert written[3][0] == "cat"
    assert len(written[3]) == 2
    assert [axes.get_title() for axes in figure.axes] == ["image", "true", "", ""]


def test_colours_lie_where_the_labels_are() -> None:
    figure = plot_segmentation(IMAGES, {"true": TRUTH}, NAMES, style="light")
    (shown,) = figure.axes[3].get_images()
    array = np.asarray(shown.get_array())
    assert np.ptp(array[TRUTH[1] == 1], axis=0).max() == 0
    assert np.abs(array[10, 10] - array[10, 20]).max() > 0.2
    assert array[TRUTH[1] == 0].mean() < 120 / 255


def test_words_say_the_shares() -> None:
    words = alt_text(FIGURES["pictures"]("light"))
    assert words.startswith("Labelled pixels, 2 images. true: ground ")
    assert f"cat {100 * (TRUTH == 1).mean():.1f}%" in words
    assert f"fcn8s: boundary {SCORES.boundary_iou:.3f}, mean {SCORES.mean_iou:.3f}" in alt_text(
        FIGURES["borders"]("light")
    )


def test_the_marks_stand_at_the_scores() -> None:
    (axes,) = FIGURES["borders"]("light").axes
    values = [np.asarray(line.get_xdata()).tolist() for line in axes.get_lines()]
    assert values == [[score] * 2 for score in (SCORES.boundary_iou, SCORES.mean_iou, SCORES.interior_iou)]


def test_the_benchmarks_picture_is_drawn_from_its_rows() -> None:
    figures = {"mean IoU": 0.5, "boundary IoU, 4 pixels": 0.25, "interior IoU": 0.75, "pixel accuracy": 0.9}
    rows = [
        Row.of(f"{net}: {what}", "share", [value]) for net in ("fcn32s", "fcn8s") for what, value in figures.items()
    ]
    rows.append(Row.of("true masks at 1/8, enlarged: mean IoU", "share", [0.9]))
    words = alt_text(segmentation.picture(Report("segmentation", {}, {}, "", 0, 1.0, False, tuple(rows), ())))
    assert "fcn8s: boundary 0.250, mean 0.500, interior 0.750" in words
    assert ": 2 networks." in words


def test_no_images_yet() -> None:
    figure = plot_segmentation(IMAGES[:0], {"true": TRUTH[:0]}, NAMES, style="light")
    assert pixels(figure).size
    assert "0 images" in alt_text(figure)


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        (TRUTH[:1], "label maps of these images are whole numbers of shape"),
        (TRUTH.astype(float), "label maps of these images are whole numbers"),
        (np.full_like(TRUTH, 3), "label maps hold numbers from 0 to 2, or 255 for no class; 3 came"),
    ],
)
def test_maps_that_do_not_fit(masks: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        plot_segmentation(IMAGES, {"true": masks}, NAMES)
    with pytest.raises(InputError, match="at least one network's scores"):
        plot_borders({})
