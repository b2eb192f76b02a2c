"""The drawing of a network shows its blocks where the words are, and says the same in words."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.patches import FancyBboxPatch

from tests.plotting import STYLES, draw, faults, wired, wirings
from toolkit.architectures import googlenet, lenet5, resnet50
from toolkit.costs import trace
from toolkit.drawings import visualize_architecture
from toolkit.errors import InputError
from toolkit.figures import Style, alt_text
from toolkit.layers import Architecture


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("make", [lenet5, googlenet, resnet50])
def test_it_can_be_read(make: Callable[[], Architecture], style: Style) -> None:
    """Each word stands out from the pixels behind it, nothing is outside the figure or over other words."""
    assert not faults(visualize_architecture(make(), style=style), style)


def test_boxes_are_where_the_words_are() -> None:
    """Each box encloses its own text, and no two boxes touch."""
    figure = visualize_architecture(googlenet())
    draw(figure)
    axes = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == sum(1 for row in trace(googlenet()) if row.type != "Dropout")
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    words = [text.get_window_extent() for text in axes.texts[:-2]]
    assert all(any(b.x0 <= w.x0 and w.x1 <= b.x1 and b.y0 <= w.y0 and w.y1 <= b.y1 for b in boxes) for w in words)


@settings(max_examples=60, deadline=None)
@given(wirings())
def test_any_wiring_can_be_drawn(reads: Sequence[tuple[int, ...]]) -> None:
    """Residual, tangled, with several outputs: the page is finite."""
    figure = visualize_architecture(wired(reads))
    assert np.all(np.isfinite(figure.get_size_inches()))
    assert "parameters" in alt_text(figure)


def test_what_cannot_be_untangled_says_so() -> None:
    rows = wired([(), (0,), (0,), (1, 2), (1, 2), (3, 4)])
    figure = visualize_architecture(rows)
    assert "wired too densely to draw" in [text.get_text() for text in figure.axes[0].texts]


def test_the_network_in_words() -> None:
    words = alt_text(visualize_architecture(lenet5()))
    assert words.startswith("lenet5: 9 layers, 61,706 parameters, input 32×32×1. From input to output: InputLayer")
    assert words.endswith("Dense 84 (84); Dense 10 (10).")
    assert "5 times [2 branches [" in alt_text(visualize_architecture(resnet50()))


def test_keras_models_are_read() -> None:
    keras = pytest.importorskip("keras")
    entry = keras.Input((8, 8, 3))
    side = keras.layers.Conv2D(3, 3, padding="same", name="inside")(entry)
    model = keras.Model(entry, keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Add()([side, entry]))))
    words = alt_text(visualize_architecture(model))
    assert f"{model.count_params():,} parameters" in words
    assert "2 branches [Conv2D 3×3, 3 (8×8×3) | identity] into Add (8×8×3)" in words


@pytest.mark.parametrize(("model", "sentence"), [("vgg16", "str came"), ((), "tuple came")])
def test_what_is_no_network_gets_a_sentence(model: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        visualize_architecture(model)
