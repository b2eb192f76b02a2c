"""What a look at photos finds, and how they are split: every kind of fault is made here, none is only described."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.photo_files import picture, save_photos
from toolkit.errors import InputError
from toolkit.photos import (
    ALIKE,
    KINDS,
    PARTS,
    Photo,
    PhotoReport,
    check_photos,
    fetch_photos,
    look_of,
    problem_pictures,
    split_photos,
    write_list,
)
from toolkit.streaming.samples import Source, read_source

TRASH = Path(os.environ.get("CNN_TOOLKIT_DATA", "nowhere")) / "photos" / "trashnet6"


def difference(one: Image.Image, other: Image.Image) -> int:
    pairs = zip(look_of(one), look_of(other), strict=True)
    return sum((a ^ b).bit_count() for a, b in pairs)


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def by_kind(report: PhotoReport) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in report.problems))


# Alike to the eye.


@pytest.fixture(scope="module")
def cuts() -> list[Image.Image]:
    """Forty cuts of two real photos."""
    rng = np.random.default_rng(0)
    found = []
    for photo in load_sample_images().images:
        for _ in range(20):
            top, left = rng.integers(0, photo.shape[0] - 200), rng.integers(0, photo.shape[1] - 200)
            found.append(Image.fromarray(photo[top : top + 200, left : left + 200]))
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved(image, 30),
        lambda image: image.resize((80, 80)),
        lambda image: image.resize((500, 400)),
        lambda image: image.point(lambda level: min(255, round(level * 1.15))),
        lambda image: image.convert("L"),
    ],
    ids=["saved at quality 30", "smaller", "larger and stretched", "brighter", "grey"],
)
def test_a_changed_photo_is_like_itself(cuts: list[Image.Image], change: Callable[[Image.Image], Image.Image]) -> None:
    assert max(difference(cut, change(cut)) for cut in cuts) <= ALIKE


def test_photos_of_the_same_place_are_told_apart(cuts: list[Image.Image]) -> None:
    apart = [difference(one, other) for i, one in enumerate(cuts) for other in cuts[:i]]
    assert np.mean(np.array(apart) > ALIKE) > 0.99


@pytest.mark.skipif(not TRASH.is_dir(), reason="needs the photos of waste")
def test_real_photos_have_one_pair() -> None:
    report = check_photos(TRASH)
    assert by_kind(report) == {"alike": 1}
    assert {path.name for path in report.of_kind("alike")[0].paths} == {"metal50.jpg", "metal120.jpg"}
    assert sum(report.counts.values()) == report.files == 937


# Faults.


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save_photos(tmp_path / "photos")


def test_good_photos_have_no_problems(good: Path) -> None:
    heard: list[tuple[int, int]] = []
    report = check_photos(good, progress=lambda done, total: heard.append((done, total)))
    assert report.problems == ()
    assert report.counts == {"blue": 12, "green": 12, "red": 12}
    assert report.table() == "class  photos\nblue       12\ngreen      12\nred        12"
    assert heard[-1] == (36, 36)
    report.require_usable()


def png(mode: str = "RGB", size: tuple[int, int] = (80, 80)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def jpeg() -> bytes:
    file = io.BytesIO()
    picture(5).save(file, "JPEG")
    return file.getvalue()


BROKEN = {
    "empty": b"",
    "text": b"not a photo",
    "web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n",
    "photoshop": b"8BPS\0\1" + bytes(50),
    "heif": b"\0\0\0\x18ftypheic" + bytes(50),
    "zip": b"PK\3\4" + bytes(50),
    "only a beginning": jpeg()[:20],
    "half a jpeg": jpeg()[: len(jpeg()) // 2],
    "half a png": png()[: len(png()) // 2],
    "png with a broken chunk": png().replace(b"IDAT", b"IDAX"),
    "too many pixels": png(size=(1, 1)).replace(
        png(size=(1, 1))[8:33],
        b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0\0\0\0",
    ),
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_left_out_with_a_sentence(good: Path, name: str) -> None:
    (good / "red" / "broken.jpg").write_bytes(BROKEN[name])
    report = check_photos(good)
    (problem,) = report.problems
    assert problem.kind == "damaged"
    assert problem.sentence.startswith("red/broken.jpg: ")
    assert "Error" not in problem.sentence
    assert len(problem.sentence) < 250
    assert report.counts["red"] == 12


def test_a_file_that_may_not_be_read_is_damaged(good: Path) -> None:
    (good / "red" / "gone.jpg").symlink_to(good / "nothing.jpg")
    assert "red/gone.jpg: " in check_photos(good).of_kind("damaged")[0].sentence


def copy(file: Path, target: Path) -> None:
    target.write_bytes(file.read_bytes())


def test_copies_are_used_once(good: Path) -> None:
    first = min((good / "red").iterdir())
    for number in range(4):
        copy(first, good / "red" / f"copy{number}.jpg")
    report = check_photos(good)
    assert by_kind(report) == {"copy": 1}
    assert report.counts["red"] == 12
    assert report.problems[0].sentence.endswith("and 2 more are the same file")


def test_the_same_file_in_two_classes_is_used_in_none(good: Path) -> None:
    copy(min((good / "red").iterdir()), good / "blue" / "other.jpg")
    report = check_photos(good)
    assert by_kind(report) == {"two classes": 1}
    assert "the same file, once as blue and red" in report.problems[0].sentence
    assert (report.counts["red"], report.counts["blue"]) == (11, 12)


def test_photos_that_look_alike_have_one_group(good: Path) -> None:
    first = min((good / "red").iterdir())
    with Image.open(first) as image:
        image.save(good / "red" / "again.jpg", quality=40)
        image.resize((300, 200)).save(good / "blue" / "large.png")
    report = check_photos(good)
    assert by_kind(report) == {"alike in two classes": 1}
    groups = {photo.path.name: photo.group for photo in report.photos}
    assert groups["again.jpg"] == groups["large.png"] == groups[first.name]
    assert max(Counter(groups.values()).values()) == 3


def test_few_tiny_and_uneven_are_told(tmp_path: Path) -> None:
    save_photos(tmp_path, ("blue",), each=40)
    save_photos(tmp_path, ("red",), each=9, first=5000)
    picture(9999, size=(60, 63)).save(tmp_path / "blue" / "small.png")
    assert by_kind(check_photos(tmp_path)) == {"few": 1, "imbalance": 1, "tiny": 1}


def test_problems_have_pictures(good: Path) -> None:
    (good / "red" / "broken.jpg").write_bytes(b"")
    for number in range(9):
        copy(min((good / "red").iterdir()), good / "red" / f"copy{number}.jpg")
    ((kind, pictures),) = problem_pictures(check_photos(good), most=4, side=50)
    assert kind == "copy"
    assert [picture.shape for picture in pictures] == [(38, 50, 3)] * 4


def test_a_folder_around_the_classes_does_not_matter(tmp_path: Path) -> None:
    save_photos(tmp_path / "photos" / "mine" / "all")
    (tmp_path / "photos" / "__MACOSX").mkdir()
    assert check_photos(tmp_path / "photos").counts == {"blue": 12, "green": 12, "red": 12}


def test_the_gravest_problem_comes_first_and_a_table_has_all(good: Path) -> None:
    (good / "red" / "a|b.jpg").write_bytes(b"")
    copy(min((good / "red").iterdir()), good / "red" / "copy.jpg")
    picture(1, size=(20, 20)).save(good / "blue" / "tiny.png")
    report = check_photos(good)
    order = [list(KINDS).index(problem.kind) for problem in report.problems]
    assert order == sorted(order)
    told = report.table(markdown=True)
    assert "a\\|b.jpg" in told
    assert all(line.startswith("|") for line in told.splitlines() if line)
    assert [problem["kind"] for problem in report.to_dict()["problems"]] == [each.kind for each in report.problems]


def with_a_broken_class(folder: Path) -> None:
    (save_photos(folder) / "sad").mkdir()
    (folder / "sad" / "x.jpg").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: save_photos(folder, ("red",)), "has one class, red; two are the least to tell apart"),
        (lambda folder: (save_photos(folder) / "sad").mkdir(), "class 'sad' in"),
        (
            with_a_broken_class,
            "1 files could not be used, the first: sad/x.jpg: ",
        ),
    ],
)
def test_what_nothing_can_be_learned_from_is_a_sentence(
    tmp_path: Path, make: Callable[[Path], object], sentence: str
) -> None:
    make(tmp_path / "photos")
    with pytest.raises(InputError, match="class") as caught:
        split_photos(check_photos(tmp_path / "photos"))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "nothing is there"),
        (lambda folder: folder.mkdir(), "should hold a subfolder of images for each class; it holds none"),
        (lambda folder: (folder / "red").mkdir(parents=True), "they are empty"),
        (lambda folder: folder.write_bytes(b"x"), "should be a folder of images by class or a file of locations"),
        (
            lambda folder: [save_photos(folder / part) for part in ("train", "val", "valid")],
            "two of which are validation photos",
        ),
        (
            lambda folder: [save_photos(folder / "train"), save_photos(folder / "test", ("blue", "green"))],
            "train and test in",
        ),
    ],
)
def test_a_place_without_photos_is_a_sentence(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    make(tmp_path / "photos")
    with pytest.raises(InputError) as caught:
        check_photos(tmp_path / "photos")
    assert sentence in str(caught.value)


# Lists.


def write_list_of(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def test_a_list_is_as_good_as_a_folder(good: Path) -> None:
    rows = [(str(path.relative_to(good)), path.parent.name) for path in sorted(good.rglob("*.jpg"))]
    listed, walked = check_photos(write_list_of(good / "photos.csv", rows)), check_photos(good)
    assert (listed.class_names, listed.counts) == (walked.class_names, walked.counts)
    assert [photo.digest for photo in listed.photos] == [photo.digest for photo in walked.photos]
    assert check_photos(read_source(good / "photos.csv")).counts == walked.counts


def test_photos_on_the_internet_have_to_be_fetched(tmp_path: Path) -> None:
    place = write_list_of(
        tmp_path / "photos.csv", [("https://example.org/a.jpg", "a"), ("https://example.org/b.jpg", "b")]
    )
    with pytest.raises(InputError, match=r"names photos on the internet, such as example.org/a.jpg; fetch them first"):
        check_photos(place)


def test_labels_that_are_numbers_are_names(good: Path) -> None:
    """Whatever the numbers: there are as many classes as occur."""
    numbers = {"blue": "7", "red": "900000000000", "green": "12"}
    rows = [(str(path.relative_to(good)), numbers[path.parent.name]) for path in sorted(good.rglob("*.jpg"))]
    assert check_photos(write_list_of(good / "numbers.csv", rows)).counts == {"7": 12, "12": 12, "900000000000": 12}


def test_a_source_can_be_written_down(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_source(good)
    monkeypatch.chdir(good)
    near = Source([str(Path(each).relative_to(good)) for each in found.locations], found.labels, found.class_names)
    place = write_list(near, tmp_path / "elsewhere" / "photos.csv")
    monkeypatch.chdir(tmp_path)
    assert check_photos(place).counts == {"blue": 12, "green": 12, "red": 12}
    assert [path.name for path in place.parent.iterdir()] == ["photos.csv"]
    with pytest.raises(InputError, match="cannot be written"):
        write_list(near, place / "photos.csv")


def test_fetched_photos_lie_by_class(good: Path, tmp_path: Path) -> None:
    rows = [(str(path.relative_to(good)), path.parent.name) for path in sorted(good.rglob("*.jpg"))]
    place = write_list_of(good / "photos.csv", [*rows, ("missing.jpg", "red")])
    folder = fetch_photos(place, tmp_path / "fetched", image_size=96)
    assert check_photos(folder).counts == {"blue": 12, "green": 12, "red": 12}
    assert "missing.jpg" in (folder / "failures.csv").read_text()
    with pytest.raises(InputError, match="exists already"):
        fetch_photos(place, tmp_path / "fetched")


def test_classes_whose_names_are_no_folders_stay_apart(good: Path, tmp_path: Path) -> None:
    names = {"blue": "../a", "green": "a", "red": "A"}
    rows = [(str(path.relative_to(good)), names[path.parent.name]) for path in sorted(good.rglob("*.jpg"))]
    folder = fetch_photos(write_list_of(good / "photos.csv", rows), tmp_path / "fetched", image_size=64, fit="pad")
    assert check_photos(folder).counts == {"a": 12, "A 2": 12, "a 3": 12}
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "fetched"}


def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path) -> None:
    place = write_list_of(tmp_path / "photos.csv", [("missing1.jpg", "a"), ("missing2.jpg", "b")])
    with pytest.raises(InputError, match="2 of 2 samples cannot be used"):
        fetch_photos(place, tmp_path / "fetched")
    assert {path.name for path in tmp_path.iterdir()} == {"photos.csv"}


# Splitting.


def made_up(labels: list[int], groups: list[int], parts: list[str] | None = None) -> PhotoReport:
    """A report of photos that nobody took."""
    names = tuple("abcdefgh"[: max(labels) + 1])
    rows = zip(labels, groups, parts or [""] * len(labels), strict=True)
    photos = tuple(Photo(Path(f"{i}.jpg"), label, part, group, str(i)) for i, (label, group, part) in enumerate(rows))
    return PhotoReport("made up", names, photos, (), len(photos))


@given(
    sizes=st.lists(st.integers(8, 30), min_size=2, max_size=4),
    pairs=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=6),
    seed=st.integers(0, 1000),
)
def test_a_split_has_every_photo_once_and_no_likes_on_two_sides(
    sizes: list[int], pairs: list[tuple[int, int]], seed: int
) -> None:
    labels = [number for number, size in enumerate(sizes) for _ in range(size)]
    groups = list(range(len(labels)))
    for one, other in pairs:
        a, b = groups[one % len(labels)], groups[other % len(labels)]
        groups = [a if group == b else group for group in groups]
    split = split_photos(made_up(labels, groups), seed=seed)
    assert sorted(np.concatenate(list(split.parts.values())).tolist()) == list(range(len(labels)))
    sides: dict[int, set[str]] = {group: set() for group in groups}
    for part, numbers in split.parts.items():
        for number in numbers:
            sides[groups[number]].add(part)
    assert all(len(found) == 1 for found in sides.values())
    for label in range(len(sizes)):
        assert all((np.array(labels)[numbers] == label).any() for numbers in split.parts.values())


@pytest.mark.parametrize("seed", range(5))
def test_each_class_gives_its_share(seed: int) -> None:
    split = split_photos(made_up([0] * 100 + [1] * 40, list(range(140))), (0.6, 0.1, 0.3), seed)
    labels = split.report.labels
    assert {part: np.bincount(labels[numbers]).tolist() for part, numbers in split.parts.items()} == {
        "train": [60, 24],
        "validation": [10, 4],
        "test": [30, 12],
    }


def test_seeds_repeat_and_differ() -> None:
    report = made_up([0] * 30 + [1] * 30, list(range(60)))
    once, again, other = (split_photos(report, seed=seed).test.tolist() for seed in (1, 1, 2))
    assert once == again != other


def test_a_large_group_goes_to_one_side_and_no_part_is_empty() -> None:
    split = split_photos(made_up([0] * 12 + [1] * 12, [0] * 4 + [1] * 4 + [2] * 4 + list(range(3, 15))))
    assert split.table().splitlines()[1].split() == ["a", "4", "4", "4"]


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1), ("a", 0.5, 0.5), (float("nan"),) * 3]
)
def test_fractions_that_cannot_be_are_a_sentence(fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="three numbers above 0 that make 1"):
        split_photos(made_up([0] * 9 + [1] * 9, list(range(18))), fractions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "groups"), [([0, 0, 1, 1, 1], [0, 1, 2, 3, 4]), ([0] * 9 + [1] * 3, [0] * 9 + [1, 2, 3])]
)
def test_a_class_that_cannot_be_everywhere_is_a_sentence(labels: list[int], groups: list[int]) -> None:
    with pytest.raises(InputError, match=r"class 'a' has \d photos and none of them for"):
        split_photos(made_up(labels, groups))


class TestOwnSplit:
    """A folder with train, val and test keeps the split that its owner made."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        for number, part in enumerate(("train", "val", "test")):
            save_photos(tmp_path / part, each=12, first=100 * number)
        return tmp_path

    def test_it_is_taken_as_it_is(self, own: Path) -> None:
        split = split_photos(check_photos(own))
        for part, folder in zip(PARTS, ("train", "val", "test"), strict=True):
            numbers = split.parts[part]
            assert len(numbers) == 36
            assert {split.report.photos[number].path.parent.parent.name for number in numbers} == {folder}

    @pytest.mark.parametrize(("folder", "part"), [("val", "validation"), ("test", "test")])
    def test_what_is_missing_comes_from_the_training_photos(self, own: Path, folder: str, part: str) -> None:
        for path in (own / folder).rglob("*.jpg"):
            path.unlink()
        for path in sorted((own / folder).rglob("*"), reverse=True):
            path.rmdir()
        (own / folder).rmdir()
        split = split_photos(check_photos(own))
        assert {split.report.photos[number].path.parent.parent.name for number in split.parts[part]} == {"train"}
        assert len(split.parts[part]) == 6  # 0.15 of 0.85 of twelve are two of each class
        assert sum(map(len, split.parts.values())) == 72

    def test_copies_across_it_stay_in_the_test_alone(self, own: Path) -> None:
        copy(min((own / "test" / "red").iterdir()), own / "train" / "red" / "leak.jpg")
        with Image.open(max((own / "test" / "blue").iterdir())) as image:
            image.save(own / "val" / "blue" / "alike.jpg", quality=50)
        report = check_photos(own)
        assert by_kind(report) == {"across": 2}
        names = {photo.path.name for photo in report.photos}
        assert not names & {"leak.jpg", "alike.jpg"}
        assert len(split_photos(report).test) == 36
