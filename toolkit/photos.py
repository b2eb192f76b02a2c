"""A folder of photos, looked at before anything learns from it, and cut into training, validation and test photos.

What would spoil a training without a word is found here: files that are no images, copies (of the same bytes, or alike
to the eye) that would stand on both sides of a split, the same photo under two classes, classes with too few photos.
Two photos are alike by a perceptual hash: 255 bits that say which of the lowest frequencies of the picture are above
their median (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.arithmetic import require_whole
from toolkit.errors import InputError
from toolkit.show import columns
from toolkit.streaming.decoding import MAX_PIXELS, whole_image
from toolkit.streaming.failures import SampleError
from toolkit.streaming.locations import scheme
from toolkit.streaming.samples import Source, read_source
from toolkit.system import cpu_count
from toolkit.zips import new_folder

Numbers = NDArray[np.int64]
Bits = NDArray[np.uint64]
Pixels = NDArray[np.uint8]
Told = Callable[[int, int], object]

PARTS = ("train", "validation", "test")
_PART_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}

TINY = 64
"""A photo with a shorter side than this, in pixels, shows a network that takes 224 little."""

FEW = 10
"""Photos of a class below which a figure about it means little."""

IMBALANCE = 4
"""How many times the smallest class the largest may have before it is told."""

ALIKE = 48
"""Two photos are alike when so many of their 255 bits differ, or fewer.

Measured with 937 photos of waste: saved at quality 30, halved, or brightened by a fifth, a photo differs from itself in
28 bits at most; without 2 % at each edge, in 30 (the median; 54 in the worst 5 %). Of the 438,516 pairs of different
photos one was nearer than 52 bits: the same lid twice.
"""

# How the kinds of problems are called, the gravest first, and what is done about them.
KINDS: Mapping[str, str] = {
    "one class": "nothing can be learned",
    "empty class": "nothing can be learned",
    "damaged": "left out",
    "two classes": "left out: nobody knows which is right",
    "copy": "left out, but for the first",
    "across": "left out where it is not the test's",
    "alike": "kept, all on one side of the split",
    "alike in two classes": "kept, all on one side of the split; look at them",
    "few": "kept; figures of so few photos mean little",
    "imbalance": "kept; class weights help",
    "tiny": "kept; they show little",
}
_FATAL = ("one class", "empty class")

_SIDE, _LOWEST = 32, 16
_COSINES = np.cos(np.pi / (2 * _SIDE) * np.arange(_LOWEST)[:, None] * (2 * np.arange(_SIDE) + 1)).astype(np.float32)
_BLOCK = 512  # photos that are compared with all others at once


@dataclass(frozen=True)
class Photo:
    """One photo that can be used. `part` is where the user put it, "" where nobody did; photos that look alike have the
    same `group`, and files of the same bytes the same `digest`.
    """

    path: Path
    label: int
    part: str
    group: int
    digest: str


@dataclass(frozen=True)
class Problem:
    """What is wrong with some of the files, or with a class (`paths` is empty), in a sentence."""

    kind: str
    paths: tuple[Path, ...]
    sentence: str


@dataclass(frozen=True)
class PhotoReport:
    """What a look at the photos found. `photos` can be used; `problems` has the gravest kind first.

    place: the folder or file that was looked at. files: how many there were.
    """

    place: str
    class_names: tuple[str, ...]
    photos: tuple[Photo, ...]
    problems: tuple[Problem, ...]
    files: int

    @property
    def counts(self) -> dict[str, int]:
        """Photos that can be used, by class."""
        found = Counter(photo.label for photo in self.photos)
        return {name: found[number] for number, name in enumerate(self.class_names)}

    @property
    def labels(self) -> Numbers:
        """The class of each photo: int64 (n,)."""
        return np.array([photo.label for photo in self.photos], np.int64)

    def of_kind(self, kind: str) -> tuple[Problem, ...]:
        """The problems of one of `KINDS`."""
        return tuple(problem for problem in self.problems if problem.kind == kind)

    def require_usable(self) -> None:
        """Raise InputError where nothing can be learned from the photos."""
        fatal = next((problem for problem in self.problems if problem.kind in _FATAL), None)
        if fatal is not None:
            damaged = self.of_kind("damaged")
            first = f"; {len(damaged)} files could not be used, the first: {damaged[0].sentence}" if damaged else ""
            raise InputError(fatal.sentence + first)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        problems = [
            {"kind": each.kind, "paths": [str(path) for path in each.paths], "sentence": each.sentence}
            for each in self.problems
        ]
        return {"place": self.place, "files": self.files, "counts": self.counts, "problems": problems}

    def table(self, markdown: bool = False) -> str:
        """Photos by class, then what is wrong: the kind, how often, what is done about it and an example."""
        kinds = Counter(problem.kind for problem in self.problems)
        found = [[kind, str(kinds[kind]), KINDS[kind], self.of_kind(kind)[0].sentence] for kind in KINDS if kinds[kind]]
        classes = [["class", "photos"], *([name, f"{count:,}"] for name, count in self.counts.items())]
        problems = [["problem", "count", "what is done", "example"], *found]
        written = _markdown if markdown else columns
        return "\n\n".join(written(lines) for lines in (classes, problems) if len(lines) > 1)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    head, *rows = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *rows])


# Looking.


def check_photos(place: str | os.PathLike[str] | Source, *, progress: Told | None = None) -> PhotoReport:
    """Look at every photo of a folder by class, of a list with labels (.csv, .jsonl …), or of a `Source`.

    A folder holds a subfolder for each class; or `train` with `val` or `test` or both, and in each a subfolder for each
    class: that split is then kept. `progress` hears how many files of how many were looked at.
    Raises InputError where there is no such thing; what is wrong with single files is in the report.
    """
    files, names, where = _listed(place)
    looked = _looked_at(files, progress)
    problems = [
        Problem("damaged", (Path(file.path),), f"{_short(file.path)}: {look}")
        for file, look in zip(files, looked, strict=True)
        if isinstance(look, str)
    ]
    sound = [_Seen(*pair) for pair in zip(files, looked, strict=True) if not isinstance(pair[1], str)]
    kept, doubled = _without_copies(sound, names)
    groups = _grouped(_bits([seen.look.bits for seen in kept]))
    kept, groups, near = _without_crossings(kept, groups, names)
    photos = tuple(
        Photo(Path(seen.file.path), seen.file.label, seen.file.part, int(group), seen.look.digest.hex())
        for seen, group in zip(kept, groups, strict=True)
    )
    problems += doubled + near + _tiny(kept) + _about_classes(photos, names, where)
    order = list(KINDS)
    return PhotoReport(where, names, photos, tuple(sorted(problems, key=lambda p: order.index(p.kind))), len(files))


@dataclass(frozen=True)
class _File:
    path: str
    label: int
    part: str


@dataclass(frozen=True)
class _Look:
    """What one look at a photo gives: what it is by its bytes and to the eye, and its shorter side in pixels."""

    digest: bytes
    bits: bytes
    side: int


@dataclass(frozen=True)
class _Seen:
    file: _File
    look: Any


def _listed(place: str | os.PathLike[str] | Source) -> tuple[list[_File], tuple[str, ...], str]:
    """The files, the names of their classes, and what the place is called. Raises InputError."""
    where = place.name if isinstance(place, Source) else os.fspath(place)
    if not isinstance(place, Source):
        place = _root(Path(place))
    parts = {} if isinstance(place, Source) else _parts(place)
    sources = {part: _read(folder) for part, folder in parts.items()} or {"": _read(place)}
    names = _common_names(where, sources)
    files = [
        _File(location, int(label), part)
        for part, source in sources.items()
        for location, label in zip(source.locations, source.labels, strict=True)
    ]
    remote = next((file.path for file in files if scheme(file.path)), None)
    if remote is not None:
        raise InputError(
            f"{where} names photos on the internet, such as {_short(remote)}; fetch them first, with "
            "toolkit.photos.fetch_photos, or let finetune do so"
        )
    return files, names, where


def _parts(folder: Path) -> dict[str, Path]:
    """The user's own split: part to folder; empty where the folder has none."""
    found = {each.name.lower(): each for each in _subfolders(folder)}
    if "train" not in found or len(found) < 2 or not found.keys() <= _PART_NAMES.keys():
        return {}
    parts = {_PART_NAMES[name]: each for name, each in found.items()}
    if len(parts) < len(found):
        raise InputError(f"{folder} holds {', '.join(found)}, two of which are validation photos; keep one of them")
    return {part: parts[part] for part in PARTS if part in parts}


def _root(folder: Path) -> Path:
    """The folder that holds the classes or parts: zips often have one more around it."""
    inner = _subfolders(folder)
    while len(inner) == 1 and _subfolders(inner[0]):
        folder, inner = inner[0], _subfolders(inner[0])
    return folder


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out; none where there is no folder."""
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return []
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__")))
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); choose a folder that you may open") from error


def _common_names(where: str, sources: Mapping[str, Source]) -> tuple[str, ...]:
    """The names of the classes, which every part has to have."""
    first = next(iter(sources.values())).class_names
    for part, source in sources.items():
        differ = sorted(set(source.class_names) ^ set(first))
        if differ:
            raise InputError(f"train and {part} in {where} should hold the same classes; they differ in {differ[0]!r}")
    return first


def _read(place: Any) -> Source:
    """A source whose classes all have names: where it has none, the numbers that occur."""
    source = read_source(place)
    if source.class_names:
        return source
    numbers, labels = np.unique(source.labels, return_inverse=True)
    return Source(source.locations, labels.astype(np.int64), tuple(map(str, numbers.tolist())), source.name)


def _looked_at(files: Sequence[_File], progress: Told | None) -> list[_Look | str]:
    """A look at each file, or the sentence that says why there is none; decoders work beside each other."""
    found: list[_Look | str] = []
    with ThreadPoolExecutor(cpu_count()) as pool:
        for look in pool.map(lambda file: _look(file.path), files):
            found.append(look)
            if progress is not None:
                progress(len(found), len(files))
    return found


def _look(path: str) -> _Look | str:
    try:
        size = Path(path).stat().st_size
        if size > 8 * MAX_PIXELS:
            return f"a photo of at most {8 * MAX_PIXELS:,} bytes was expected; it has {size:,}"
        data = Path(path).read_bytes()
        image = whole_image(data, near=_SIDE)
    except SampleError as error:
        return error.sentence
    except (OSError, ValueError) as error:
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return _Look(hashlib.blake2b(data, digest_size=16).digest(), look_of(image), min(image.size))


def look_of(image: Image.Image) -> bytes:
    """The perceptual hash of a picture: 32 bytes, of whose 255 bits few differ between pictures that look alike.

    >>> grey = Image.linear_gradient("L")
    >>> look_of(grey) == look_of(grey.resize((100, 100)))
    True
    """
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    lowest = (_COSINES @ grey @ _COSINES.T).ravel()[1:]  # the first is the mean brightness
    # Rounded, because what is 0 by symmetry would otherwise be above or below the median by an accident of arithmetic.
    rounded = np.rint(lowest)
    return np.packbits(rounded > np.median(rounded)).tobytes()


def problem_pictures(report: PhotoReport, most: int = 6, side: int = 160) -> list[tuple[str, list[Pixels]]]:
    """Small pictures of the photos that have a problem, for `plots.plot_photo_groups`: (what it is, uint8 (h, w, 3)).

    Of each problem up to `most` photos are read, and of each kind three problems. Damaged files have no picture.
    """
    found = []
    for kind in KINDS:
        for problem in report.of_kind(kind)[:3] if kind != "damaged" else ():
            pictures = [np.asarray(_small(path, side)) for path in problem.paths[:most]]
            found += [(kind, pictures)] if pictures else []
    return found


def _small(path: Path, side: int) -> Image.Image:
    image = whole_image(path, near=side)
    image.thumbnail((side, side))
    return image


# Copies.


def _without_copies(seen: Sequence[_Seen], names: Sequence[str]) -> tuple[list[_Seen], list[Problem]]:
    """Leave out all but one file of the same bytes, and all of them where they have different classes."""
    same: dict[bytes, list[_Seen]] = {}
    for each in seen:
        same.setdefault(each.look.digest, []).append(each)
    kept, problems = [], []
    for group in same.values():
        classes = sorted({each.file.label for each in group})
        if len(classes) > 1:
            named = " and ".join(names[label] for label in classes)
            problems.append(_about("two classes", group, f"are the same file, once as {named}"))
            continue
        # The test's own copy stays where there is one: what training loses then costs no honest figure.
        kept.append(max(group, key=lambda each: PARTS.index(each.file.part) if each.file.part else 0))
        if len(group) > 1:
            across = len({each.file.part for each in group}) > 1
            problems.append(_about("across" if across else "copy", group, "are the same file"))
    order = {id(each): place for place, each in enumerate(seen)}
    return sorted(kept, key=lambda each: order[id(each)]), problems


def _about(kind: str, seen: Sequence[_Seen], what: str) -> Problem:
    """A problem with some files, of which a sentence names three."""
    paths = tuple(Path(each.file.path) for each in seen)
    named = ", ".join(_short(path) for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return Problem(kind, paths, f"{named} {what}")


def _short(path: str | Path) -> str:
    """A path's last two names, on one printable line.

    >>> _short("/photos/waste/glass/1.jpg")
    'glass/1.jpg'
    """
    text = "/".join(Path(path).parts[-2:])
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[-80:]


def _bits(looks: Sequence[bytes]) -> Bits:
    return np.frombuffer(b"".join(looks), np.uint64).reshape(len(looks), 4)


def _grouped(bits: Bits) -> Numbers:
    """A number for each photo, the same for photos that are alike, and for those that these are alike to."""
    leaders = list(range(len(bits)))

    def leader(place: int) -> int:
        while leaders[place] != place:
            leaders[place] = place = leaders[leaders[place]]
        return place

    for begin in range(0, len(bits), _BLOCK):
        block = bits[begin : begin + _BLOCK]
        distances = sum(
            np.bitwise_count(block[:, None, word] ^ bits[None, begin:, word]).astype(np.uint16) for word in range(4)
        )
        for one, other in np.argwhere(np.triu(np.asarray(distances) <= ALIKE, 1)).tolist():
            first, second = sorted((leader(begin + one), leader(begin + other)))
            leaders[second] = first
    return np.unique([leader(place) for place in range(len(bits))], return_inverse=True)[1].astype(np.int64)


def _without_crossings(
    seen: Sequence[_Seen], groups: Numbers, names: Sequence[str]
) -> tuple[list[_Seen], Numbers, list[Problem]]:
    """Tell of photos that are alike; in the user's own split, leave out those that the test, or else the validation,
    has a like of.
    """
    problems: list[Problem] = []
    left_out: set[int] = set()
    for group in np.flatnonzero(np.bincount(groups, minlength=1) > 1):
        places = np.flatnonzero(groups == group).tolist()
        alike = [seen[place] for place in places]
        parts = {each.file.part for each in alike}
        classes = sorted({each.file.label for each in alike})
        if len(parts) > 1:
            last = max(parts, key=PARTS.index)
            left_out.update(place for place in places if seen[place].file.part != last)
            problems.append(_about("across", alike, f"look alike and lie in {' and '.join(sorted(parts))}"))
        elif len(classes) > 1:
            named = " and ".join(names[label] for label in classes)
            problems.append(_about("alike in two classes", alike, f"look alike and are called {named}"))
        else:
            problems.append(_about("alike", alike, "look alike"))
    staying = [place for place in range(len(seen)) if place not in left_out]
    return [seen[place] for place in staying], groups[staying], problems


# Classes.


def _tiny(seen: Iterable[_Seen]) -> list[Problem]:
    small = [each for each in seen if each.look.side < TINY]
    return [_about("tiny", [each], f"has a side of {each.look.side} pixels") for each in small]


def _about_classes(photos: Sequence[Photo], names: Sequence[str], where: str) -> list[Problem]:
    """What is wrong with the numbers of photos by class."""
    if len(names) < 2:
        return [Problem("one class", (), f"{where} has one class, {', '.join(names)}; two are the least to tell apart")]
    counts = Counter(photo.label for photo in photos)
    by_name = {name: counts[number] for number, name in enumerate(names)}
    empty = [
        Problem("empty class", (), f"class {name!r} in {where} has no photo that can be used; add some or remove it")
        for name, count in by_name.items()
        if not count
    ]
    few = [
        Problem("few", (), f"class {name!r} has {count} photos; {FEW} or more were expected")
        for name, count in by_name.items()
        if 0 < count < FEW
    ]
    most, least = max(by_name, key=by_name.__getitem__), min(by_name, key=by_name.__getitem__)
    if 0 < by_name[least] * IMBALANCE < by_name[most]:
        sentence = f"{most!r} has {by_name[most]:,} photos and {least!r} has {by_name[least]:,}"
        return [*empty, *few, Problem("imbalance", (), sentence)]
    return [*empty, *few]


# Splitting.


@dataclass(frozen=True)
class Split:
    """Which photos train, validate and test: ascending numbers of `report.photos`, int64."""

    report: PhotoReport
    train: Numbers
    validation: Numbers
    test: Numbers

    @property
    def parts(self) -> dict[str, Numbers]:
        """The numbers by the name of the part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def table(self) -> str:
        """Photos of each class in each part, as text."""
        labels, names = self.report.labels, self.report.class_names
        counts = [np.bincount(labels[part], minlength=len(names)).tolist() for part in self.parts.values()]
        rows = [[name, *map(str, row)] for name, row in zip(names, zip(*counts, strict=True), strict=True)]
        return columns([["class", *PARTS], *rows, ["all", *(str(sum(each)) for each in counts)]])


def split_photos(
    report: PhotoReport, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0
) -> Split:
    """Split by class with a seed, photos that look alike on one side; or as the user did.

    Each class gives `fractions` of its photos, rounded to whole ones and at least one to every part. Of a user's own
    split, what is missing (validation or test) is taken from the training photos. The same report, fractions and seed
    give the same split. Raises InputError for fractions that are not above 0 and 1 in all, and for a class that cannot
    give a photo to every part.
    """
    _require_fractions(fractions)
    rng = np.random.default_rng(require_whole("seed", seed, least=0))
    report.require_usable()
    own = np.array([photo.part for photo in report.photos])
    parts = np.where(own == "", "train", own).astype("<U10")
    missing = {part: share for part, share in zip(PARTS, fractions, strict=True) if part not in parts}
    for part, share in missing.items():
        among = sum(share for other, share in zip(PARTS, fractions, strict=True) if other in {"train", *missing})
        parts[_drawn(report, own, parts, part, share / among, rng)] = part
    _require_all(report, parts)
    train, validation, test = (np.flatnonzero(parts == part) for part in PARTS)
    return Split(report, train, validation, test)


def _require_fractions(fractions: tuple[float, float, float]) -> None:
    numbers = all(isinstance(share, int | float) and share > 0 for share in fractions)
    if len(fractions) != 3 or not numbers or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            f"the fractions of training, validation and test photos are three numbers above 0 that make 1; {fractions} "
            "came; give them as (0.7, 0.15, 0.15)"
        )


def _drawn(
    report: PhotoReport,
    own: NDArray[np.str_],
    parts: NDArray[np.str_],
    part: str,
    share: float,
    rng: np.random.Generator,
) -> list[int]:
    """Photos for one part: of each class its share, in whole groups; one that would make it more only as the first."""
    labels, groups = report.labels, np.array([photo.group for photo in report.photos])
    chosen: list[int] = []
    for label in range(len(report.class_names)):
        of_class = np.flatnonzero(labels == label)
        wanted = max(1, round(share * int(np.isin(own[of_class], ("", "train")).sum())))
        has = int((labels[chosen] == label).sum()) if chosen else 0
        free = rng.permutation([place for place in of_class if parts[place] == "train" and place not in chosen]).astype(
            int
        )
        by_group: dict[int, list[int]] = {}
        for place in free.tolist():
            by_group.setdefault(int(groups[place]), []).append(place)
        for group, members in sorted(by_group.items(), key=lambda pair: len(pair[1]) > wanted):
            if has + len(members) <= wanted or not has:
                chosen += [place for place in np.flatnonzero(groups == group).tolist() if parts[place] == "train"]
                has += len(members)
    return chosen


def _require_all(report: PhotoReport, parts: NDArray[np.str_]) -> None:
    """Raise InputError unless every class has a photo in every part."""
    labels = report.labels
    for number, name in enumerate(report.class_names):
        lacking = [part for part in PARTS if not ((labels == number) & (parts == part)).any()]
        if lacking:
            count = int((labels == number).sum())
            raise InputError(
                f"class {name!r} has {count} photos and none of them for {lacking[0]}: every part needs one, and "
                "photos that look alike stay together; add other photos of the class, or remove it"
            )


# From the internet.


def fetch_photos(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    image_size: int = 320,
    fit: str = "stretch",
    progress: Told | None = None,
) -> Path:
    """Fetch every photo of a list of URLs once, as JPEG into a new folder by class, which is returned.

    `source` is what `toolkit.streaming.read_source` takes; every photo is kept at `image_size` × `image_size` pixels,
    brought there by `fit`. What fails is left out; the stream's report lies in the folder as `failures.csv`. Nothing is
    left where it is interrupted. Raises InputError where the source cannot be read, the folder exists, or more than
    half of the photos fail.
    """
    from toolkit.streaming.pipeline import stream_images

    target = Path(folder)
    found = _read(source)
    with new_folder(target) as part:
        homes = [part / name for name in _folder_names(found.class_names)]
        for home in homes:
            home.mkdir()
        done = 0
        options: dict[str, Any] = {"image_size": image_size, "fit": fit, "shuffle": False}
        with stream_images(found, report=part / "failures.csv", **options) as stream:
            for images, labels in stream:
                for number, (image, label) in enumerate(zip(images, labels, strict=True), done):
                    Image.fromarray(np.asarray(image)).save(homes[int(label)] / f"{number:06}.jpg", quality=95)
                done += len(labels)
                if progress is not None:
                    progress(done, len(found))
    return target


def _folder_names(names: Sequence[str]) -> list[str]:
    """The names of classes as those of folders, whatever is in them, no two the same to any system.

    >>> _folder_names(["../cat", "dog", "cat", "Dog", "?"])
    ['cat', 'dog', 'cat 2', 'Dog 2', '_']
    """
    found: list[str] = []
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in " -_" else "_" for letter in name)[:100].strip("_ ")
        wanted, number = plain or "_", 1
        while (wanted if number == 1 else f"{wanted} {number}").lower() in {each.lower() for each in found}:
            number += 1
        found.append(wanted if number == 1 else f"{wanted} {number}")
    return found


def write_list(source: Source, path: str | os.PathLike[str]) -> Path:
    """Write a source down as a list that `check_photos` reads (.csv with the columns path and label); returns its path.

    Files are named by their whole paths. The list appears whole or not at all. Raises InputError where it cannot be
    written.
    """
    target, found = Path(path), _read(source)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            for location, label in zip(found.locations, found.labels.tolist(), strict=True):
                whole = location if scheme(location) else Path(location).absolute()
                writer.writerow([whole, found.class_names[label]])
        part.replace(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error
    return target
