"""The tab that compares stored results: its pictures and tables from records, and a sentence where there are none."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.zoo_records import ALEXNET, LEAN, record, some_records
from toolkit.records import append_record
from toolkit.ui.compare_views import COSTS, comparison, points_chart
from toolkit.ui.comparer import stored
from toolkit.zoo_results import group_records

EVIL = "<img src=x onerror=alert(1)>"
GROUPS = group_records(some_records())


def parsed(markup: str) -> ElementTree.Element:
    """The markup as a tree; raises where it is not well formed."""
    return ElementTree.fromstring(f"<div>{markup}</div>")


def words(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_every_cost_has_a_picture_with_all_networks_and_their_table() -> None:
    tree = parsed(comparison(GROUPS))
    pictures = tree.findall(".//svg")
    assert [picture.get("aria-label", "").split(":")[0] for picture in pictures] == [
        f"Test accuracy over {name}" for name in COSTS.values()
    ]
    for picture in pictures:
        assert len(picture.findall("circle")) == 2
        assert len(picture.findall("rect")) == 1
        assert [text.text for text in picture.findall("text")] == ["1", "2", "3"]
    (results, changes) = tree.findall(".//table")
    rows = [[words(cell) for cell in row] for row in results.findall("tbody/tr")]
    assert rows[0][:4] == ["1. Small CNN, lean", "3", "99.20 % ± 0.20", "85,000"]
    assert rows[2][:3] == ["3. vit tiny 28, notes", "1", "93.00 %"]
    assert [words(cell) for cell in changes.findall("tbody/tr")[1]] == [
        "no flip",
        "98.50 % ± 0.10",
        "-0.70 ± 0.13",
        "yes",
    ]
    assert "Small CNN, lean takes for each other, most often first: cat and dog (83% of all mistakes)" in words(tree)
    assert "6 trainings on MNIST, 2026-01-02, on a processor (tensorflow)" in words(tree)


def test_error_bars_are_one_deviation_to_each_side() -> None:
    """The picture is logarithmic in the errors, so heights are told by those of the points."""
    picture = parsed(points_chart(GROUPS[:3], "params")).find(".//svg")
    assert picture is not None
    upright = [line for line in picture.findall("line") if line.get("x1") == line.get("x2")]
    assert len(upright) == 2  # one seed has none
    place = float(picture.findall("circle")[0].get("cy") or 0)
    low, high = (float(upright[0].get(end) or 0) for end in ("y1", "y2"))
    assert high < place < low
    square = picture.findall("rect")[0]
    assert square.get("style") == "fill:var(--b)"
    assert ALEXNET[0] < LEAN[0]
    assert float(square.get("y") or 0) > place


def test_one_network_alone_can_be_drawn() -> None:
    for group in GROUPS[:3]:
        parsed(comparison([group]))


def test_numbers_keep_apart() -> None:
    crowd = group_records(
        record(experiment=f"e{i}", recipe_name=f"r{i}", test_accuracy=0.9 + i / 1000) for i in range(8)
    )
    picture = parsed(points_chart(crowd, "params")).find(".//svg")
    assert picture is not None
    places = [(float(each.get("x") or 0), float(each.get("y") or 0)) for each in picture.findall("text")]
    assert len(set(places)) == 8


def test_names_are_escaped() -> None:
    evil = group_records([record(architecture=EVIL, recipe_name=EVIL, class_names=(EVIL, "b", "c"), date=EVIL)])
    shown = comparison(evil)
    assert EVIL not in shown
    parsed(shown)


# What is stored.


def test_the_chosen_dataset_is_shown_and_the_first_where_it_is_unknown(tmp_path: Path) -> None:
    for each in (record(), record(dataset="cifar10", architecture="vgg11")):
        append_record(tmp_path, each)
    assert stored(tmp_path, "mnist")[:2] == (("cifar10", "mnist"), "mnist")
    known, chosen, shown = stored(tmp_path, "imagenet")
    assert (known, chosen) == (("cifar10", "mnist"), "cifar10")
    assert "VGG-11" in shown
    assert "Small CNN" not in shown


def test_without_results_a_sentence_says_how_they_are_made(tmp_path: Path) -> None:
    known, chosen, shown = stored(tmp_path / "nothing", None)
    assert (known, chosen) == ((), None)
    assert re.search("no stored results yet.*python -m toolkit bench zoo", words(parsed(shown)))
    assert words(parsed(comparison([]))) == words(parsed(shown))


@pytest.mark.parametrize("line", ["{", '{"experiment": "a"}'])
def test_a_damaged_file_is_a_sentence(tmp_path: Path, line: str) -> None:
    (tmp_path / "mnist.jsonl").write_text(line, encoding="utf-8")
    known, _, shown = stored(tmp_path, None)
    assert known == ()
    assert "mnist.jsonl, line 1" in words(parsed(shown))
