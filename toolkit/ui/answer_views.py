"""What the page shows of predictions: an album to pick from, and both models' answers side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.answers import Answer
from toolkit.loading import Pixels
from toolkit.pictures import png_url, sheet
from toolkit.ui.markup import Html, bar, tag
from toolkit.ui.run_views import LETTERS

COLUMNS = 9
SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Tile:
    """One image of an album: its number, its true class, and what each model answered (None: not known)."""

    number: int
    truth: str
    answers: tuple[str | None, ...]


def album(images: Pixels, tiles: Sequence[Tile], nothing: str) -> Html:
    """Buttons with the images, all cut from one sheet; a sentence where there are none."""
    if not tiles:
        return tag("p", nothing, class_="message note")
    rows = -(-len(tiles) // COLUMNS)
    buttons = (_tile(tile, position, rows) for position, tile in enumerate(tiles))
    style = f"--sheet:url({png_url(sheet(images, COLUMNS))});--size:{100 * COLUMNS}% {100 * rows}%"
    return tag("div", *buttons, class_="album", style=style, role="group", aria_label="Images to choose from")


def _tile(tile: Tile, position: int, rows: int) -> Html:
    row, column = divmod(position, COLUMNS)
    place = f"background-position:{_percent(column, COLUMNS)} {_percent(row, rows)}"
    picture = tag("i", style=place)
    said = [
        tag("small", f"{letter}: {answer}", class_=_rightness(answer, tile.truth)) for letter, answer in _given(tile)
    ]
    spoken = ", ".join(
        [f"image of {tile.truth}", *(f"model {letter} says {answer}" for letter, answer in _given(tile))]
    )
    truth = tag("small", tile.truth, class_="truth")
    return tag("button", picture, truth, *said, type="button", data_index=tile.number, aria_label=spoken)


def _given(tile: Tile) -> list[tuple[str, str]]:
    """The wrong answers alone: a right one would say what the true class says already."""
    pairs = zip(LETTERS, tile.answers, strict=False)
    return [(letter, answer) for letter, answer in pairs if answer is not None and answer != tile.truth]


def _percent(position: int, count: int) -> str:
    return f"{100 * position / max(count - 1, 1):.2f}%"


def _rightness(answer: str, truth: str | None) -> str | None:
    if truth is None:
        return None
    return "right" if answer == truth else "wrong"


def answers(image: Pixels, truth: str | None, given: Sequence[tuple[str, Answer]]) -> Html:
    """What the networks see, and what each of them says to it."""
    seen = tag("img", src=png_url(image), alt="the image as the networks see it", class_="seen")
    size = " × ".join(str(side) for side in image.shape)
    about = [tag("p", "true class: ", tag("b", truth))] if truth is not None else []
    caption = tag("div", *about, tag("p", f"This is what the networks see: {size} numbers.", class_="forecast"))
    columns = (_answer(letter, answer, truth) for letter, answer in given)
    return Html(tag("div", seen, caption, class_="seen-row") + tag("div", *columns, class_="answers"))


def _answer(letter: str, answer: Answer, truth: str | None) -> Html:
    best = answer.classes[0]
    mark = {"right": " ✓", "wrong": " ✗", None: ""}[_rightness(best, truth)]
    figure = tag("p", best + mark, class_=f"figure {_rightness(best, truth) or ''}")
    heading = tag("h3", f"Model {letter}")
    return tag(
        "section",
        heading,
        figure,
        probabilities(answer.classes, answer.probabilities, letter),
        class_=f"run {letter.lower()}",
    )


def probabilities(classes: Sequence[str], shares: Sequence[float], letter: str) -> Html:
    """The likeliest classes with their probabilities as bars."""
    pairs = zip(classes[:SHOWN_CLASSES], shares, strict=False)
    return tag("table", tag("tbody", *(_line(name, share, letter) for name, share in pairs)))


def _line(name: str, probability: float, letter: str) -> Html:
    filled = bar(probability, label=f"{name}: {probability:.1%}", class_=letter.lower())
    return tag("tr", tag("th", name, scope="row"), tag("td", filled), tag("td", f"{probability:.1%}"))
