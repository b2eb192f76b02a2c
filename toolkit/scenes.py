"""Pictures with a class for every pixel: digits on photos made here, Oxford-IIIT Pet, folders of images and masks.

Images are uint8 RGB (n, size, size, 3), masks uint8 (n, size, size) of class numbers, `VOID` where no class counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.arithmetic import require_choice, require_whole
from toolkit.errors import InputError
from toolkit.loading import Pixels, Skipped, decode_image, load_dataset
from toolkit.pixel_scores import VOID
from toolkit.show import readable_bytes
from toolkit.streaming.decoding import MAX_PIXELS
from toolkit.streaming.pillow import FORMATS, quiet_pillow
from toolkit.system import available_memory

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
DIGIT_CLASSES = ("photo", *map(str, range(10)))
DIGITS_ON_PHOTOS = "digits_on_photos"
DIGITS = ("digits", "mnist")

# Where each part's crops come from: a strip of each photo's width, and, of a folder, a range of its files.
_STRIPS = {"train": (0.0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1.0)}
_PHOTOS = ("china.jpg", "flower.jpg")
_MOST_PHOTOS = 200
# Enlarged digits fade over several pixels: where the ink is this strong is their edge, and it gets so much steeper.
_EDGE, _SHARPNESS = 0.35, 3.0
_BRIGHTNESS = (0.7, 1.3)
# How often a place or a colour is drawn anew before the best so far is taken.
_TRIES = 20
_IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
_MOST_CLASSES = 254


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images (n, size, size, 3) uint8 and masks (n, size, size) uint8, numbers of `class_names` or VOID."""

    class_names: tuple[str, ...]
    images: Pixels = field(repr=False)
    masks: Pixels = field(repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: Any) -> Scenes:
        return Scenes(self.class_names, self.images[chosen], self.masks[chosen])


@dataclass(frozen=True, eq=False)
class SceneData:
    """Scenes to train, to validate and to test with; `skipped` are files that could not be used, and why."""

    train: Scenes
    validation: Scenes
    test: Scenes
    skipped: tuple[Skipped, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.train.class_names


# Digits on photos.


@dataclass(frozen=True)
class Difficulty:
    """How hard the digits on photos are.

    digits: fewest and most digits in a picture. scale: smallest and largest height of a digit, as a share of the
    picture's. overlap: the largest share of a digit that may lie over others. contrast: how far a digit's colour is
    from the photo behind it at least, in its most different channel, as a share of 255. noise: standard deviation of
    the noise over everything, in grey levels of 255. rotation: degrees to either side.

    >>> Difficulty(overlap=1.5)
    Traceback (most recent call last):
    toolkit.arithmetic.InputError: overlap must be a number from 0 to 1; 1.5 came
    """

    digits: tuple[int, int] = (1, 3)
    scale: tuple[float, float] = (0.55, 0.85)
    overlap: float = 0.1
    contrast: float = 0.35
    noise: float = 4.0
    rotation: float = 10.0

    def __post_init__(self) -> None:
        for what, most in (("overlap", 1.0), ("contrast", 1.0), ("noise", 255.0), ("rotation", 180.0)):
            _require_between(what, getattr(self, what), 0.0, most)
        for what, low, most in (("digits", 0, 50), ("scale", 0.02, 1.0)):
            self._check_pair(what, low, most)

    def _check_pair(self, what: str, low: float, most: float) -> None:
        value = getattr(self, what)
        if not isinstance(value, (tuple, list)) or len(value) != 2 or value[0] > value[1]:
            raise InputError(f"{what} must be two numbers, the smaller first; {value!r} came")
        for number in value:
            require_whole(what, number, least=0) if what == "digits" else None
            _require_between(what, number, low, most)
        object.__setattr__(self, what, tuple(value))


def _require_between(what: str, value: object, low: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= most:
        raise InputError(f"{what} must be a number from {low:g} to {most:g}; {value!r} came")


DIFFICULTIES = {
    "easy": Difficulty(digits=(1, 2), scale=(0.6, 0.9), overlap=0.0, contrast=0.6, noise=0.0, rotation=0.0),
    "normal": Difficulty(),
    "hard": Difficulty(digits=(3, 8), scale=(0.15, 0.5), overlap=0.4, contrast=0.15, noise=16.0, rotation=30.0),
}


def digits_on_photos(
    count: int,
    size: int = 128,
    difficulty: Difficulty = DIFFICULTIES["normal"],
    seed: int = 0,
    *,
    part: Part = "train",
    photos: str | os.PathLike[str] | None = None,
    digits: str = "digits",
) -> Scenes:
    """`count` pictures of handwritten digits on crops of real photos, with exact masks: a task without downloads.

    A digit's ink covers the photo with one colour, as thick as it was written; its pixels are those that it covers by
    half or more, and a later digit hides an earlier one. `part` decides whose digits and whose photos: no digit and no
    pixel of a photo is in two parts. To train, the photos are turned, brightened or dimmed, and their colours swapped,
    because two photos show little of the world; to validate and to test, they are as they are.

    `photos` is a folder of images; None takes the two that come with scikit-learn. `digits` is "digits" (scikit-learn's
    8 × 8, enlarged) or "mnist". The same arguments give the same pictures.

    Raises InputError for sizes that cannot be, unknown names, and a folder without photos.

    >>> scenes = digits_on_photos(2, size=64)
    >>> scenes.images.shape, scenes.masks.shape, scenes.class_names[:3]
    ((2, 64, 64, 3), (2, 64, 64), ('photo', '0', '1'))
    """
    require_whole("count", count)
    require_whole("size", size, least=16)
    require_choice("part", part, PARTS)
    require_choice("digits", digits, DIGITS)
    _require_memory(count, size)
    rng = np.random.default_rng((require_whole("seed", seed, least=0), PARTS.index(part)))
    grounds, (inks, numbers) = _grounds(photos, part, size), _inks(digits, part)
    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.zeros((count, size, size), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        canvas = _crop(grounds[rng.integers(len(grounds))], size, rng).astype(np.float32)
        canvas = _varied(canvas, rng) if part == "train" else canvas
        for _ in range(rng.integers(*difficulty.digits, endpoint=True)):
            which = rng.integers(len(inks))
            _write(canvas, mask, inks[which], int(numbers[which]) + 1, difficulty, rng)
        noise = rng.normal(0, difficulty.noise, canvas.shape) if difficulty.noise else 0.0
        image[:] = np.clip(np.rint(canvas + noise), 0, 255)
    return Scenes(DIGIT_CLASSES, images, masks)


def _require_memory(count: int, size: int) -> None:
    needed, free = count * size * size * 4, available_memory()
    if needed > free:
        raise InputError(
            f"{count:,} pictures of {size} × {size} pixels with their masks need {readable_bytes(needed)} of memory "
            f"and {readable_bytes(free)} are free; choose fewer or smaller ones"
        )


def _inks(name: str, part: Part) -> tuple[Pixels, NDArray[np.int64]]:
    """The digits (n, 28, 28) of a part and their numbers: a tenth of the training digits validates."""
    data = load_dataset(name, progress=False)
    images, labels = (data.x_test, data.y_test) if part == "test" else (data.x_train, data.y_train)
    validating = np.arange(len(labels)) % 10 == 0
    chosen = {"train": ~validating, "validation": validating, "test": np.ones(len(labels), bool)}[part]
    return images[chosen][..., 0], labels[chosen]


def _grounds(folder: str | os.PathLike[str] | None, part: Part, size: int) -> list[Pixels]:
    """What crops are cut from: a strip of each photo, or a range of a folder's files."""
    low, high = _STRIPS[part]
    if folder is None:
        photos = [decode_image(path) for path in _sample_photos()]
        return [photo[:, round(low * photo.shape[1]) : round(high * photo.shape[1])] for photo in photos]
    paths = sorted(_images_in(Path(folder)))
    chosen = paths[round(low * len(paths)) : round(high * len(paths))][:_MOST_PHOTOS]
    photos = [photo for path in chosen if (photo := _photo(path, 2 * size)) is not None]
    if not photos:
        raise InputError(
            f"{os.fspath(folder)!r} should hold photos, at least one for each of {', '.join(PARTS)}; none came for "
            f"{part!r} of {len(paths)} files; leave it out to use scikit-learn's"
        )
    return photos


def _sample_photos() -> list[Path]:
    """The photos that come with scikit-learn, found without importing it."""
    try:
        home = distribution("scikit-learn")
    except PackageNotFoundError as error:
        raise InputError(
            "the photos come with scikit-learn, which is not installed; give a folder of photos"
        ) from error
    return [Path(str(home.locate_file(f"sklearn/datasets/images/{name}"))) for name in _PHOTOS]


def _photo(path: Path, near: int) -> Pixels | None:
    try:
        return decode_image(path, near=near)
    except InputError:  # a ground is as good as another
        return None


def _images_in(folder: Path) -> Iterator[Path]:
    """The images in a folder itself and below it."""
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(_IMAGE_NAMES)


def _crop(photo: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random square of a photo, mirrored every other time, at this size."""
    height, width, _ = photo.shape
    most = min(height, width)
    side = int(rng.integers(min(size, most), most, endpoint=True))
    top, left = (int(rng.integers(length - side, endpoint=True)) for length in (height, width))
    square = Image.fromarray(np.ascontiguousarray(photo[top : top + side, left : left + side]))
    sized = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return sized[:, ::-1] if rng.random() < 0.5 else sized


def _varied(canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A square photo by quarters of a turn, brighter or darker, its red, green and blue in any order."""
    turned = np.rot90(canvas, int(rng.integers(4)))[..., rng.permutation(3)]
    return np.asarray(np.clip(turned * np.float32(rng.uniform(*_BRIGHTNESS)), 0, 255))


def _write(
    canvas: NDArray[np.float32],
    mask: Pixels,
    ink: Pixels,
    number: int,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> None:
    """Write one digit into a picture and its mask, where it lies over others no more than it may, or not at all."""
    cover = _resized(ink, round(len(mask) * rng.uniform(*difficulty.scale)), rng.uniform(-1, 1) * difficulty.rotation)
    there = cover >= 0.5
    if not there.any() or max(cover.shape) > len(mask):
        return
    for _ in range(_TRIES):
        top, left = (int(rng.integers(len(mask) - side, endpoint=True)) for side in cover.shape)
        place = slice(top, top + cover.shape[0]), slice(left, left + cover.shape[1])
        if (mask[place][there] > 0).mean() <= difficulty.overlap:
            break
    else:
        return
    colour = _colour(canvas[place][there].mean(axis=0), difficulty.contrast, rng)
    canvas[place] += cover[..., np.newaxis] * (colour - canvas[place])
    mask[place][there] = number


def _resized(ink: Pixels, height: int, degrees: float) -> NDArray[np.float32]:
    """A digit's ink, cut to what is written, as high as wanted and turned: the share of each pixel that it covers."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    written = Image.fromarray(np.pad(cut, 2))  # else strokes that reach the edge of their picture would end square
    size = max(1, round(height * written.width / written.height)), max(1, height)
    turned = written.resize(size, Image.Resampling.BICUBIC).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    return np.clip(0.5 + _SHARPNESS * (np.asarray(turned, np.float32) / 255 - _EDGE), 0, 1)


def _colour(behind: NDArray[np.float32], contrast: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random colour far enough from what is behind; the farthest of those tried where none is."""
    tried = rng.uniform(0, 255, (_TRIES, 3)).astype(np.float32)
    distances = np.abs(tried - behind).max(axis=1)
    enough = np.flatnonzero(distances >= 255 * contrast)
    return np.asarray(tried[enough[0] if enough.size else distances.argmax()])


# Files.


class _Pair(NamedTuple):
    """An image's file, its mask's, and what makes class numbers of the mask's pixels."""

    image: Path
    mask: Path
    classes: Callable[[Pixels], Pixels]


def load_scenes(
    source: str | os.PathLike[str],
    size: int = 128,
    *,
    counts: tuple[int, int, int] = (600, 100, 100),
    difficulty: Difficulty = DIFFICULTIES["normal"],
    seed: int = 0,
    photos: str | os.PathLike[str] | None = None,
    digits: str = "digits",
) -> SceneData:
    """Scenes by name ("digits_on_photos", `counts` of them) or from a folder: Oxford-IIIT Pet, or images and masks.

    `counts` limits what is taken from a folder, too; `difficulty`, `photos` and `digits` are for digits on photos. See
    `load_pets` and `load_masks` for what folders look like.
    Raises InputError as they do, and for a source that is neither.

    >>> load_scenes("digits_on_photos", 32, counts=(3, 1, 2)).test.images.shape
    (2, 32, 32, 3)
    """
    if source == DIGITS_ON_PHOTOS:
        train, validation, test = (
            digits_on_photos(count, size, difficulty, seed, part=part, photos=photos, digits=digits)
            for part, count in zip(PARTS, counts, strict=True)
        )
        return SceneData(train, validation, test)
    folder = Path(source)
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise InputError(
            f"{os.fspath(source)!r} is neither {DIGITS_ON_PHOTOS!r} nor a folder; give that name, or a folder that "
            "holds images/ and masks/, or the Oxford-IIIT Pet data set's"
        )
    if (folder / "annotations" / "trimaps").is_dir():
        return load_pets(folder, size, counts=counts, seed=seed)
    return load_masks(folder, size, counts=counts, seed=seed)


PET_CLASSES = ("background", "cat", "dog")


def load_pets(
    folder: str | os.PathLike[str],
    size: int = 128,
    *,
    counts: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> SceneData:
    """The Oxford-IIIT Pet data set (Parkhi et al. 2012) as background, cat and dog, from its two unpacked archives.

    The folder holds `images/NAME.jpg`, `annotations/trimaps/NAME.png` (1 the pet, 2 background, 3 the border between
    them, which becomes VOID) and `annotations/trainval.txt` and `test.txt` with lines "NAME breed species number"
    (species: 1 cat, 2 dog). A tenth of trainval, chosen by `seed`, validates. `counts` limits each part.

    Raises InputError where a list or too many files are missing; single files that cannot be used are skipped.
    """
    home, skipped = Path(folder), list[Skipped]()
    training, testing = (_shuffled(_pet_pairs(home, name), seed) for name in ("trainval.txt", "test.txt"))
    most = counts or (len(training), len(training), len(testing))
    known = _scenes(training, PET_CLASSES, size, most[0] + most[1], skipped)
    tested = _scenes(testing, PET_CLASSES, size, most[2], skipped)
    validating = min(most[1], max(1, len(training) // 10))
    return _data(known[validating:][: most[0]], known[:validating], tested, skipped, home)


def _pet_pairs(home: Path, name: str) -> list[_Pair]:
    path = home / "annotations" / name
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); unpack the annotations of the data set anew") from None
    return [_pet_pair(home, line, path) for line in lines if line.strip() and not line.startswith("#")]


def _pet_pair(home: Path, line: str, path: Path) -> _Pair:
    words = line.split()
    if len(words) < 3 or words[2] not in ("1", "2") or Path(words[0]).name != words[0]:
        raise InputError(f'{path}: a line says "NAME breed species number", species 1 or 2; {line[:80]!r} came')
    species = int(words[2])

    def classes(trimap: Pixels) -> Pixels:
        if not np.isin(trimap, (1, 2, 3)).all():
            raise InputError("a trimap holds 1 (pet), 2 (background) and 3 (border) only")
        return np.select([trimap == 1, trimap == 2], [np.uint8(species), np.uint8(0)], np.uint8(VOID))

    trimap = home / "annotations" / "trimaps" / f"{words[0]}.png"
    return _Pair(home / "images" / f"{words[0]}.jpg", trimap, classes)


def load_masks(
    folder: str | os.PathLike[str],
    size: int = 128,
    *,
    counts: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> SceneData:
    """A folder of images and masks: `images/NAME.jpg` (or .png …) beside `masks/NAME.png`, and `classes.txt`.

    A mask is a grey or palette PNG as large as its image, its pixels class numbers from 0, 255 for no class; masks of
    0 and 255 alone mean background and one class. `classes.txt` names the classes, a line each; without it they are
    numbered. A tenth validates and a fifth tests, chosen by `seed`. `counts` limits each part.

    Raises InputError where the folder is none, or fewer than ten pairs can be used; single files are skipped.
    """
    home = Path(folder)
    for name in ("images", "masks"):
        if not (home / name).is_dir():
            raise InputError(
                f"{home} should hold the folders images/ and masks/; {name}/ is missing; put the photos into images/ "
                "and a PNG of class numbers with the same name into masks/"
            )
    images = {path.stem: path for path in sorted((home / "images").iterdir()) if _is_image(path.name)}
    masks = {path.stem: path for path in sorted((home / "masks").iterdir()) if _is_image(path.name)}
    both = sorted(images.keys() & masks.keys())
    if len(both) < 10:
        raise InputError(
            f"{home} should hold at least 10 images with a mask of the same name; {len(images)} images, {len(masks)} "
            f"masks and {len(both)} pairs came"
        )
    as_classes, names = _mask_classes([masks[name] for name in both], home)
    pairs = _shuffled([_Pair(images[name], masks[name], as_classes) for name in both], seed)
    most, skipped = counts or (len(pairs),) * 3, list[Skipped]()
    known = _scenes(pairs, names, size, sum(most), skipped)
    validating, testing = min(most[1], max(1, len(pairs) // 10)), min(most[2], max(1, len(pairs) // 5))
    rest = known[validating + testing :][: most[0]]
    return _data(rest, known[:validating], known[validating : validating + testing], skipped, home)


def _mask_classes(paths: Sequence[Path], home: Path) -> tuple[Callable[[Pixels], Pixels], tuple[str, ...]]:
    """What makes class numbers of these masks' pixels, and the classes' names."""
    seen: set[int] = set()
    for path in paths:
        try:
            seen |= set(np.unique(_mask(path)).tolist())
        except InputError:  # it will be skipped with its reason
            continue
    binary = seen == {0, VOID}
    highest = 1 if binary else max(seen - {VOID}, default=0)
    names = _class_names(home / "classes.txt", highest + 1)

    def classes(mask: Pixels) -> Pixels:
        return np.asarray(mask == VOID, np.uint8) if binary else mask

    return classes, names


def _class_names(path: Path, least: int) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(map(str, range(max(least, 2))))
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); write the classes' names into it, a line each") from None
    if not max(least, 2) <= len(names) <= _MOST_CLASSES:
        raise InputError(
            f"{path} names {len(names)} classes and the masks hold numbers up to {least - 1}; name from "
            f"{max(least, 2)} to {_MOST_CLASSES}, a line each, that of number 0 first"
        )
    return names


def _shuffled(pairs: Sequence[_Pair], seed: int) -> list[_Pair]:
    order = np.random.default_rng(require_whole("seed", seed, least=0)).permutation(len(pairs))
    return [pairs[index] for index in order]


def _scenes(pairs: Sequence[_Pair], names: tuple[str, ...], size: int, most: int, skipped: list[Skipped]) -> Scenes:
    """The first `most` pairs that can be used; the others before them join `skipped`."""
    count = min(most, len(pairs))
    _require_memory(count, require_whole("size", size, least=16))
    images, masks = np.empty((count, size, size, 3), np.uint8), np.empty((count, size, size), np.uint8)
    used = 0
    for pair in pairs:
        if used == count:
            break
        try:
            images[used], masks[used] = _scene(pair, len(names), size)
        except InputError as error:
            skipped.append(Skipped(str(pair.image), str(error)))
        else:
            used += 1
    return Scenes(names, images[:used], masks[:used])


def _data(train: Scenes, validation: Scenes, test: Scenes, skipped: Sequence[Skipped], home: Path) -> SceneData:
    """The three parts, none of which may be empty."""
    if not all(map(len, (train, validation, test))):
        why = f", the first of {len(skipped)} that cannot be used because {skipped[0].reason}" if skipped else ""
        raise InputError(
            f"{home} should hold images with masks to train, to validate and to test with; too few came{why}"
        )
    return SceneData(train, validation, test, tuple(skipped))


def _scene(pair: _Pair, classes: int, size: int) -> tuple[Pixels, Pixels]:
    """An image and its mask, both cut to the same square around the centre and brought to this size."""
    image, mask = decode_image(pair.image), pair.classes(_mask(pair.mask))
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"the mask {pair.mask.name} should be as large as its image, {image.shape[1]} × {image.shape[0]}; "
            f"{mask.shape[1]} × {mask.shape[0]} came"
        )
    strange = mask[(mask >= classes) & (mask != VOID)]
    if strange.size:
        raise InputError(f"the mask {pair.mask.name} holds the number {strange[0]} and there are {classes} classes")
    side = min(mask.shape)
    left, top = (mask.shape[1] - side) / 2, (mask.shape[0] - side) / 2
    box = (left, top, left + side, top + side)
    shown = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    labelled = Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST, box=box)
    return np.asarray(shown), np.asarray(labelled)


def _mask(path: Path) -> Pixels:
    """The numbers in a grey or palette image, as they are stored."""
    try:
        with quiet_pillow(), Image.open(path, formats=FORMATS) as file:
            if file.format == "JPEG":
                raise InputError(f"the mask {path.name} is a JPEG, which changes class numbers; save it as a PNG")
            if file.width * file.height > MAX_PIXELS:
                raise InputError(f"the mask {path.name} has more than {MAX_PIXELS:,} pixels; make it smaller")
            if file.mode not in ("L", "P", "1"):
                raise InputError(
                    f"a mask is a grey or palette PNG of class numbers; {path.name} is {file.mode}; save it as grey"
                )
            return np.asarray(file.convert("L") if file.mode == "1" else file, np.uint8)
    except InputError:
        raise
    except Exception as error:  # damaged bytes can make a decoder raise anything
        raise InputError(f"the mask {path.name} cannot be read ({error}); save it anew as a PNG") from None
