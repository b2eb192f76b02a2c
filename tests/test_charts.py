"""The book's charts: what is drawn is what was given, and the description says it in words."""

import numpy as np
import pytest

from toolkit.arithmetic import InputError
from toolkit.charts import plot_dots, plot_lines, plot_pictures, plot_scatter
from toolkit.figures import alt_text


def test_lines_have_marks_dashes_and_bands() -> None:
    series = {"a": {0.0: (0.5, 0.4, 0.6), 1.0: (0.25, 0.2, 0.3)}, "b": {0.0: (0.1, 0.1, 0.1)}}
    figure = plot_lines(series, "Title", x_label="pixels", y_label="share")
    (axes,) = figure.axes
    first, second = axes.lines
    assert np.array_equal(first.get_ydata(), [0.5, 0.25])
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_marker() != second.get_marker()
    assert len(axes.collections) == 2
    assert alt_text(figure) == "Title: share by pixels. a: 50.0 % at 0, 25.0 % at 1. b: 10.0 % at 0."


def test_dots_stand_at_the_median() -> None:
    figure = plot_dots({"one": (2.0, 1.0, 4.0)}, "Time", x_label="seconds", form="{:.1f} s".format)
    line, dot = figure.axes[0].lines
    assert np.array_equal(line.get_xdata(), [1.0, 4.0])
    assert np.array_equal(dot.get_xdata(), [2.0])
    assert alt_text(figure) == "Time: seconds, median (least to most). one: 2.0 s (1.0 s to 4.0 s)."


def test_scatters_are_logarithmic_and_say_so_where_that_fails() -> None:
    figure = plot_scatter({"vgg": (15e9, 300.0)}, "Cost", x_label="MACs", y_label="ms")
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert "vgg: 15,000,000,000 and 300" in alt_text(figure)
    with pytest.raises(InputError, match="logarithmic axes have no 0"):
        plot_scatter({"nothing": (0.0, 1.0)})


def test_pictures_share_a_scale_where_asked() -> None:
    maps = [("dark", np.zeros((4, 5))), ("bright", np.full((4, 5, 1), 2.0))]
    figure = plot_pictures(maps, "Maps", columns=2, one_scale=True, words="One is brighter.")
    shown = [axes.images[0] for axes in figure.axes]
    assert {image.get_clim() for image in shown} == {(0.0, 2.0)}
    assert np.asarray(shown[1].get_array()).shape == (4, 5)
    assert alt_text(figure) == "Maps. One is brighter. Pictures: dark; bright."
    with pytest.raises(InputError, match="a picture is"):
        plot_pictures([("four channels", np.zeros((4, 5, 4)))])


@pytest.mark.parametrize("plot", [plot_lines, plot_dots, plot_scatter])
def test_nothing_measured_is_an_empty_chart(plot) -> None:  # type: ignore[no-untyped-def]
    assert alt_text(plot({}, "Nothing")).startswith("Nothing:")
