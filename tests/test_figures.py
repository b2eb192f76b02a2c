"""Colours can be told apart, nothing global is touched, and files carry the words of their figure."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from tests.plotting import HISTORY, faults
from toolkit import figures, plots
from toolkit.architectures import lenet5
from toolkit.errors import InputError
from toolkit.figures import alt_text, contrast

# Colour and style.


@given(st.integers(0, 0xFFFFFF), st.sampled_from(["#ffffff", "#14171c", "#777777"]), st.floats(1, 4.5))
def test_readable_reaches_its_contrast(colour: int, background: str, least: float) -> None:
    assert contrast(figures.readable(f"#{colour:06x}", background, least), background) >= least


def test_contrast_is_that_of_wcag() -> None:
    """#767676 on white is the lightest grey that passes AA (4.54), #959595 the lightest of 3:1 for graphics."""
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert contrast("#777777", "#ffffff") < 4.5
    assert contrast("#949494", "#ffffff") > 3 > contrast("#959595", "#ffffff")


def test_auto_follows_matplotlib() -> None:
    with matplotlib.rc_context({"figure.facecolor": "black"}):
        assert figures.theme_of("auto") == figures.THEMES["dark"]
    with matplotlib.rc_context({"figure.facecolor": "white"}):
        assert figures.theme_of("auto") == figures.THEMES["light"]


def test_nothing_global_is_touched() -> None:
    code = (
        "import matplotlib, sys; before = matplotlib.rcParams.copy(); from toolkit import plots\n"
        f"plots.plot_history({HISTORY!r}); plots.plot_confusion_matrix([[1]]); plots.visualize_architecture(__import__("
        "'toolkit.architectures', fromlist=['x']).lenet5())\n"
        "assert matplotlib.rcParams.copy() == before and 'matplotlib.pyplot' not in sys.modules\n"
        "assert not {'keras', 'tensorflow', 'gradio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_what_cannot_be_read_is_found() -> None:
    """The judge of all figures: words that are pale, cut off or over each other, and lines that are pale."""
    figure = Figure(facecolor="white")
    figure.add_subplot().axis("off")
    figure.axes[0].plot([0, 1], color="#eeeeee")
    for x, y, word, colour in (
        (0.1, 0.5, "under", "#000000"),
        (0.11, 0.5, "over", "#000000"),
        (0.5, 0.5, "pale", "#bbbbbb"),
    ):
        figure.text(x, y, word, color=colour)
    figure.text(0.99, 0.1, "cut off", color="#000000")
    assert faults(figure, "light") == [
        "'cut off' is not wholly inside the figure",
        "'pale' hardly differs from its ground",
        "a mark of #eeeeee hardly differs from #ffffff",
        "'under' and 'over' cover each other",
    ]


# Files.


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_figures_are_saved_with_their_words(suffix: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / f"net{suffix}"
    figure = plots.visualize_architecture(lenet5(), path)
    assert path.read_bytes().startswith(start)
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.info["Description"] == alt_text(figure)
    if suffix == ".svg":
        title = re.search(r"<title>(.*?)</title>", path.read_text("utf-8"), re.DOTALL)
        assert title
        assert title.group(1) == alt_text(figure)


def test_a_notebook_shows_the_words() -> None:
    html = plots.plot_confusion_matrix([[1, 1], [0, 1]], ['"a"', "<b>"])._repr_html_() or ""
    assert "&quot;a&quot; taken for &lt;b> 1" in html
    assert html.count('"') == 4
    png = base64.b64decode(html.split("base64,")[1].removesuffix('">'))
    assert png.startswith(b"\x89PNG")


def test_saving_fails_with_a_sentence(tmp_path: Path) -> None:
    figure = plots.plot_history(HISTORY)
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        figures.save_figure(figure, tmp_path / "figure.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        figures.save_figure(figure, tmp_path / "file" / "figure.png")
