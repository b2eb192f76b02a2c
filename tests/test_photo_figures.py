"""Figures of photos: what answers rest on, and photos that have something in common."""

import numpy as np
import pytest

from tests.photo_files import noise, picture
from tests.plotting import STYLES, faults, pixels
from toolkit import plots
from toolkit.errors import InputError
from toolkit.figures import Style, alt_text

IMAGES = np.stack([noise(seed, 32) for seed in range(4)])
MAPS = np.zeros((4, 4, 4))
MAPS[0, 0, 0] = MAPS[1, 3, 3] = MAPS[2, 2, 2] = 1
WORDS = ("glass 99%, is metal", "a very long answer 87%, is something longer still", "paper 60%, is trash", "$5, is $6")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_explanations_can_be_read(style: Style, count: int) -> None:
    figure = plots.plot_explanations(IMAGES[:count], MAPS[:count], WORDS[:count], columns=2, style=style)
    assert faults(figure, style) == []
    assert len([axes for axes in figure.axes if axes.images]) == 2 * count


def test_explanations_tell_where_in_words() -> None:
    told = alt_text(plots.plot_explanations(IMAGES, MAPS, WORDS))
    for words in (
        "is metal: most at top left",
        "most at bottom right",
        "most at middle centre",
        "no evidence anywhere",
    ):
        assert words in told


def test_what_matters_is_light_and_the_rest_is_dark() -> None:
    white = np.full((1, 40, 40, 3), 255, np.uint8)
    figure = plots.plot_explanations(white, MAPS[:1], ["white"])
    shown = figure.axes[1].images[0].get_array()
    assert shown is not None
    assert shown[0, 0].min() > 240
    assert shown[-1, -1].max() < 50
    assert pixels(figure).shape[2] == 3


def test_grey_pictures_are_grey() -> None:
    figure = plots.plot_explanations(IMAGES[:1, ..., :1], MAPS[:1], WORDS[:1])
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (32, 32, 3)
    assert (np.ptp(shown, axis=-1) == 0).all()


@pytest.mark.parametrize(("maps", "words"), [(MAPS[:2], WORDS), (MAPS, WORDS[:3])])
def test_other_numbers_are_a_sentence(maps: np.ndarray, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="4 images need as many maps and words"):
        plots.plot_explanations(IMAGES, maps, words)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_groups_of_photos_can_be_read(style: Style, rows: int) -> None:
    photos = [np.asarray(picture(seed)) for seed in range(8)]
    groups = [("look alike", photos[:2]), ("the same file, $twice", photos[2:5]), ("damaged", photos)][:rows]
    figure = plots.plot_photo_groups(groups, style=style)
    assert faults(figure, style) == []
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == sum(min(len(found), 6) for _, found in groups)
    assert f"{rows} groups" in alt_text(figure)
