"""Pictures with masks: those made here are exact, folders are read as they say, and what is broken is said."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit import scenes
from toolkit.errors import InputError
from toolkit.pixel_scores import VOID
from toolkit.scenes import (
    DIFFICULTIES,
    PARTS,
    Difficulty,
    SceneData,
    digits_on_photos,
    load_masks,
    load_pets,
    load_scenes,
)

PLAIN = Difficulty(digits=(1, 1), scale=(0.6, 0.8), overlap=0.0, contrast=0.5, noise=0.0, rotation=0.0)


# Digits on photos.


def test_a_mask_is_exactly_what_a_digit_covers_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a plain ground, how far a pixel is on its way from the ground's colour to the digit's is what is covered."""
    monkeypatch.setattr(scenes, "_grounds", lambda *_: [np.full((200, 300, 3), 90, np.uint8)])
    made = digits_on_photos(20, 96, PLAIN, seed=1, part="test")
    for image, mask in zip(made.images, made.masks, strict=True):
        (number,) = set(np.unique(mask).tolist()) - {0}
        assert 1 <= number <= 10
        change = np.abs(image.astype(int) - 90).max(axis=2)
        assert change.max() >= 0.5 * 255  # the contrast that was asked for
        share = change / change.max()
        assert not ((share > 0.51) & (mask == 0)).any()
        assert not ((share < 0.49) & (mask > 0)).any()
        assert not change[:, 0].any() or mask[:, :3].any()  # nothing is painted far from the mask


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_the_same_seed_gives_the_same_pictures_and_a_part_its_own(name: str) -> None:
    first, again = (digits_on_photos(3, 64, DIFFICULTIES[name], seed=4) for _ in range(2))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.masks, again.masks)
    others = [digits_on_photos(3, 64, DIFFICULTIES[name], seed=5)]
    others += [digits_on_photos(3, 64, DIFFICULTIES[name], seed=4, part=part) for part in ("validation", "test")]
    assert all(not np.array_equal(first.images, other.images) for other in others)


def test_no_digit_and_no_part_of_a_photo_is_in_two_parts() -> None:
    digits = [{ink.tobytes() for ink in scenes._inks("digits", part)[0]} for part in PARTS]
    assert not digits[0] & digits[1]
    assert not digits[0] & digits[2]
    assert not digits[1] & digits[2]
    widths = [[photo.shape[1] for photo in scenes._grounds(None, part, 64)] for part in PARTS]
    assert np.sum(widths, axis=0).tolist() == [640, 640]


def test_harder_pictures_have_more_smaller_and_fainter_digits() -> None:
    easy, hard = (digits_on_photos(30, 96, DIFFICULTIES[name]) for name in ("easy", "hard"))
    several = [np.mean([len(np.unique(mask)) - 1 for mask in made.masks]) for made in (easy, hard)]
    assert several[1] > 1.5 * several[0]
    sizes = [np.mean([np.bincount(mask[mask > 0]).max() for mask in made.masks if mask.any()]) for made in (easy, hard)]
    assert sizes[1] < 0.7 * sizes[0]


def test_overlap_is_as_much_as_may_be() -> None:
    """Where digits may not overlap, fewer find a place."""
    crowded = Difficulty(digits=(8, 8), scale=(0.3, 0.5), overlap=0.0, noise=0.0)
    apart, over = (digits_on_photos(10, 96, replace(crowded, overlap=share)) for share in (0.0, 1.0))
    kinds = [np.mean([len(np.unique(mask)) for mask in made.masks]) for made in (apart, over)]
    assert kinds[0] < kinds[1]


def test_photos_are_varied_to_train_with_and_left_as_they_are_to_test_with(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = np.zeros((64, 64, 3), np.uint8)
    ground[:32] = 40, 80, 160
    monkeypatch.setattr(scenes, "_grounds", lambda *_: [ground])
    plain = replace(PLAIN, digits=(0, 0))
    varied, tested = (digits_on_photos(40, 64, plain, part=part).images for part in ("train", "test"))
    assert all(np.array_equal(image, ground) for image in tested)
    brightest = varied.reshape(40, -1, 3).max(axis=1).astype(float)
    sums = brightest.sum(axis=1)
    assert np.allclose(np.sort(brightest / sums[:, np.newaxis]), [1 / 7, 2 / 7, 4 / 7], atol=0.01)
    assert 0.69 * 280 < sums.min() < 0.8 * 280 < 1.2 * 280 < sums.max() < 1.31 * 280
    assert len({tuple(order) for order in np.argsort(brightest)}) == 6
    places = {(image[:32].any(), image[32:].any(), image[:, :32].any(), image[:, 32:].any()) for image in varied}
    assert len(places) == 4


def test_photos_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_varied", lambda canvas, _: canvas)
    for index in range(8):
        Image.new("RGB", (80, 60), (index * 30, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no")
    reds = [
        set(digits_on_photos(20, 32, replace(PLAIN, digits=(0, 0)), photos=tmp_path, part=part).images[..., 0].ravel())
        for part in PARTS
    ]
    assert not (reds[0] & reds[1]) | (reds[0] & reds[2]) | (reds[1] & reds[2])
    assert all(reds)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: digits_on_photos(0), "count must be at least 1; 0 came"),
        (lambda: digits_on_photos(1, 8), "size must be at least 16; 8 came"),
        (lambda: digits_on_photos(1, part="dev"), "part must be one of train, validation, test; 'dev' came"),  # type: ignore[arg-type]
        (lambda: digits_on_photos(1, digits="letters"), "digits must be one of digits, mnist"),
        (lambda: digits_on_photos(1, seed=-1), "seed must be at least 0"),
        (lambda: digits_on_photos(10**9, 4096), "pictures of 4096 × 4096 pixels .* free; choose fewer or smaller"),
        (lambda: Difficulty(digits=(4, 1)), r"digits must be two numbers, the smaller first; \(4, 1\) came"),
        (lambda: Difficulty(digits=(1, 2, 3)), "digits must be two numbers"),  # type: ignore[arg-type]
        (lambda: Difficulty(digits=(0.5, 2)), "digits must be a whole number; 0.5 came"),  # type: ignore[arg-type]
        (lambda: Difficulty(scale=(0, 2)), "scale must be a number from 0.02 to 1; 0 came"),
        (lambda: Difficulty(noise=-1), "noise must be a number from 0 to 255; -1 came"),
        (lambda: Difficulty(contrast=True), "contrast must be a number from 0 to 1; True came"),
        (lambda: Difficulty(rotation="a bit"), "rotation must be a number from 0 to 180"),  # type: ignore[arg-type]
    ],
)
def test_pictures_that_cannot_be_made(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_folder_without_photos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should hold photos, at least one for each of train, validation, test"):
        digits_on_photos(1, photos=tmp_path)


# Folders of images and masks.


def square(number: int, size: tuple[int, int] = (40, 30)) -> Any:
    """A mask (height, width) with a square of a class in its middle."""
    mask = np.zeros(size, np.uint8)
    mask[10:20, 10:20] = number
    return mask


def write_pairs(home: Path, count: int = 12, classes: int = 3) -> Path:
    """Images whose red channel is ten times their mask."""
    for name in ("images", "masks"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        mask = square(1 + index % (classes - 1))
        image = np.stack([mask * 10, mask * 0, mask * 0 + index], axis=2)
        Image.fromarray(image).save(home / "images" / f"{index:02}.png")
        Image.fromarray(mask).save(home / "masks" / f"{index:02}.png")
    return home


def everything(data: SceneData) -> tuple[Any, Any]:
    parts = (data.train, data.validation, data.test)
    return np.concatenate([part.images for part in parts]), np.concatenate([part.masks for part in parts])


def test_masks_lie_on_their_images(tmp_path: Path) -> None:
    data = load_masks(write_pairs(tmp_path), size=30)
    images, masks = everything(data)
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 1, 2)
    assert np.array_equal(images[..., 0], masks * 10)  # 30 × 30 of 40 × 30: cut, and not resized
    assert sorted(set(images[:, 0, 0, 2].tolist())) == list(range(12))  # each image in one part
    assert data.class_names == ("0", "1", "2")
    assert data.skipped == ()


def test_a_split_and_a_limit(tmp_path: Path) -> None:
    write_pairs(tmp_path, 20)
    first, again, other = (load_masks(tmp_path, 30, seed=seed).train.images[:, 0, 0, 2].tolist() for seed in (0, 0, 1))
    assert first == again != other
    few = load_scenes(tmp_path, 30, counts=(3, 1, 2))
    assert [len(part) for part in (few.train, few.validation, few.test)] == [3, 1, 2]


def test_enlarged_masks_hold_no_number_between_two_classes(tmp_path: Path) -> None:
    _, masks = everything(load_masks(write_pairs(tmp_path, classes=6), size=77))
    assert set(np.unique(masks).tolist()) == set(range(6))


def test_palettes_names_and_masks_of_one_class(tmp_path: Path) -> None:
    write_pairs(tmp_path / "palette", classes=3)
    for path in (tmp_path / "palette" / "masks").iterdir():
        mask = Image.fromarray(np.asarray(Image.open(path)), "L").convert("P")
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        mask.putdata(np.asarray(Image.open(path)).ravel().tolist())
        mask.save(path)
    (tmp_path / "palette" / "classes.txt").write_text("ground\ncat\n\ndog\n", encoding="utf-8")
    data = load_masks(tmp_path / "palette", 30)
    assert data.class_names == ("ground", "cat", "dog")
    assert set(np.unique(data.train.masks).tolist()) == {0, 1, 2}
    write_pairs(tmp_path / "binary", classes=2)
    for path in (tmp_path / "binary" / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
    assert set(np.unique(load_masks(tmp_path / "binary", 30).train.masks).tolist()) == {0, 1}


def test_single_files_that_cannot_be_used_are_skipped(tmp_path: Path) -> None:
    write_pairs(tmp_path, 16)
    Image.fromarray(square(1, (41, 30))).save(tmp_path / "masks" / "00.png")
    Image.new("RGB", (30, 40)).save(tmp_path / "masks" / "01.png")
    (tmp_path / "masks" / "02.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "images" / "03.png").write_bytes(b"")
    Image.new("L", (30, 40)).save(tmp_path / "masks" / "04.png", format="JPEG")
    Image.new("I;16", (30, 40)).save(tmp_path / "masks" / "05.png")
    Image.fromarray(square(0)).convert("1").resize((8000, 8000)).save(tmp_path / "masks" / "06.png")
    Image.fromarray(square(1)).save(tmp_path / "masks" / "07.png", format="TIFF")
    (tmp_path / "images" / "alone.png").write_bytes((tmp_path / "images" / "10.png").read_bytes())
    data = load_masks(tmp_path, 30)
    reasons = {Path(skipped.path).stem: skipped.reason for skipped in data.skipped}
    assert len(everything(data)[0]) == 9
    assert sorted(reasons) == ["00", "01", "02", "03", "04", "05", "06"]
    assert "should be as large as its image, 30 × 40; 30 × 41 came" in reasons["00"]
    assert "01.png is RGB; save it as grey" in reasons["01"]
    assert "02.png cannot be read" in reasons["02"]
    assert reasons["03"].startswith("the image cannot be used: ")
    assert "04.png is a JPEG, which changes class numbers; save it as a PNG" in reasons["04"]
    assert "05.png is I;16; save it as grey" in reasons["05"]
    assert "06.png has more than 50,000,000 pixels; make it smaller" in reasons["06"]


def nothing(home: Path) -> None:
    """Leaves the folder as it is."""


def no_masks(home: Path) -> None:
    for path in (home / "masks").iterdir():
        path.unlink()
    (home / "masks").rmdir()


def too_few(home: Path) -> None:
    for path in sorted((home / "images").iterdir())[3:]:
        path.unlink()


def a_strange_number(home: Path) -> None:
    (home / "classes.txt").write_text("ground\ncat\ndog\n", encoding="utf-8")
    Image.fromarray(square(9)).save(home / "masks" / "03.png")


def too_many_names(home: Path) -> None:
    (home / "classes.txt").write_text("\n".join(map(str, range(300))), encoding="utf-8")


def no_images(home: Path) -> None:
    (home / "images").rename(home / "pictures")


def other_names(home: Path) -> None:
    for path in (home / "masks").iterdir():
        path.rename(path.with_name(f"mask_{path.name}"))


def folders_for_masks(home: Path) -> None:
    for path in (home / "masks").iterdir():
        path.unlink()
        path.mkdir()


def too_few_names(home: Path) -> None:
    (home / "classes.txt").write_text("ground\n", encoding="utf-8")


def names_that_are_none(home: Path) -> None:
    (home / "classes.txt").write_bytes(b"\xff\xfe\xff")


def all_broken(home: Path) -> None:
    for path in (home / "images").iterdir():
        path.write_bytes(b"broken")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_masks, "should hold the folders images/ and masks/; masks/ is missing"),
        (too_few, "at least 10 images with a mask of the same name; 3 images, 12 masks and 3 pairs came"),
        (too_few_names, "names 1 classes and the masks hold numbers up to 2"),
        (a_strange_number, "names 3 classes and the masks hold numbers up to 9"),
        (too_many_names, "names 300 classes .* name from 3 to 254"),
        (no_images, "should hold the folders images/ and masks/; images/ is missing"),
        (other_names, "12 images, 12 masks and 0 pairs came"),
        (folders_for_masks, "because the mask .* cannot be read"),
        (names_that_are_none, "classes.txt cannot be read"),
        (all_broken, "too few came, the first of 12 that cannot be used because the image cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(write_pairs(tmp_path))
    with pytest.raises(InputError, match=sentence):
        load_scenes(tmp_path, 30)


@pytest.mark.parametrize("source", ["nowhere", "a\0b", "x" * 5000])
def test_a_source_that_is_none(source: str) -> None:
    with pytest.raises(InputError, match="is neither 'digits_on_photos' nor a folder"):
        load_scenes(source)


# Oxford-IIIT Pet.


def write_pets(home: Path, training: int = 20, testing: int = 6) -> Path:
    """A small data set of its format: a pet is a bright square with a border of a pixel."""
    (home / "images").mkdir(parents=True)
    (home / "annotations" / "trimaps").mkdir(parents=True)
    listed: dict[str, list[str]] = {"trainval.txt": [], "test.txt": []}
    for index in range(training + testing):
        species = 1 + index % 2
        name = f"{'Abyssinian' if species == 1 else 'beagle'}_{index}"
        trimap = np.full((60, 50), 2, np.uint8)
        trimap[19:41, 19:41], trimap[20:40, 20:40] = 3, 1
        Image.fromarray(np.repeat((trimap == 1)[..., np.newaxis], 3, axis=2).astype(np.uint8) * 250).save(
            home / "images" / f"{name}.jpg", quality=95
        )
        Image.fromarray(trimap).save(home / "annotations" / "trimaps" / f"{name}.png")
        (home / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"what a Mac leaves in archives")
        listed["trainval.txt" if index < training else "test.txt"].append(f"{name} {1 + index % 37} {species} 1")
    for file, lines in listed.items():
        (home / "annotations" / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home


def test_pets_are_read_as_their_lists_say(tmp_path: Path) -> None:
    data = load_scenes(write_pets(tmp_path), 50)
    assert data.class_names == ("background", "cat", "dog")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 2, 6]
    images, masks = everything(data)
    assert set(np.unique(masks).tolist()) == {0, 1, 2, VOID}
    assert images[(masks == 1) | (masks == 2)].min() > 200
    assert images[masks == 0].max() < 50
    assert (masks == VOID).any(axis=(1, 2)).all()
    assert sorted(int(mask[masks.shape[1] // 2, 25]) for mask in data.test.masks) == [1, 1, 1, 2, 2, 2]


def test_broken_pets_are_skipped(tmp_path: Path) -> None:
    home = write_pets(tmp_path)
    (home / "images" / "Abyssinian_20.jpg").write_bytes(b"GIF89a, and nothing more")
    (home / "images" / "beagle_21.jpg").unlink()
    Image.fromarray(np.zeros((60, 50), np.uint8)).save(home / "annotations" / "trimaps" / "Abyssinian_22.png")
    data = load_pets(home, 50)
    assert len(data.test) == 3
    reasons = " ".join(skipped.reason for skipped in data.skipped)
    assert "a trimap holds 1 (pet), 2 (background) and 3 (border) only" in reasons
    assert len(data.skipped) == 3


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("test.txt", None, "test.txt cannot be read"),
        ("trainval.txt", "Abyssinian_0 1\n", 'a line says "NAME breed species number", species 1 or 2'),
        ("trainval.txt", "Abyssinian_0 1 3 1\n", "species 1 or 2; 'Abyssinian_0 1 3 1' came"),
        ("test.txt", "../../etc/passwd 1 1 1\n", "a line says"),
        ("test.txt", "", "too few came"),
    ],
)
def test_lists_of_pets_that_cannot_be_used(tmp_path: Path, file: str, text: str | None, sentence: str) -> None:
    path = write_pets(tmp_path) / "annotations" / file
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        load_pets(tmp_path, 50)


def test_nothing_heavy_is_imported_for_pictures() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from toolkit.scenes import digits_on_photos; digits_on_photos(1, 32);"
        "print({'keras', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "set()"
