"""A dataset into arrays in RAM: uint8 images (n, height, width, channels) and int64 class numbers (n,).

`digits` comes with scikit-learn. The other names are looked for as `<name>.npz` in the folder that the environment
variable CNN_TOOLKIT_DATA names, then in the user's cache (CNN_TOOLKIT_CACHE moves it), and are downloaded last.
A path is a folder of images by class. Nothing that comes from outside is unpickled with the power to run code.
"""

import gzip
import os
import pickle
import struct
import tarfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from toolkit.arithmetic import require_choice, require_whole
from toolkit.datasets import DATASETS, DatasetInfo, RemoteFile, dataset_key
from toolkit.errors import InputError
from toolkit.streaming.decoding import MAX_PIXELS, DecodeLimits, fitted, whole_image
from toolkit.streaming.decoding import decode_image as decode_small
from toolkit.streaming.failures import Cause, Report, SampleError
from toolkit.streaming.pillow import as_rgb, unreadable
from toolkit.system import available_memory

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Fit = Literal["crop", "pad"]
_Arrays = Mapping[str, NDArray[Any]]
_T = TypeVar("_T")

FOLDER_IMAGE_SIZE = 64
"""Height and width that images from a folder get when nobody says otherwise."""

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_TEST_SHARE = 0.2
_VALIDATION = ("val", "valid", "validation")
# Bytes of an image in a folder: sixteen bits each of red, green, blue and alpha, stored plainly.
_LARGEST_FILE = 8 * MAX_PIXELS
_ANY_MEMORY = DecodeLimits(MAX_PIXELS, 16 * MAX_PIXELS)  # a user's own files are decoded one after the other
_RETRIES = 2
_TIMEOUT = (10, 60)  # seconds to connect, seconds of silence
_CHUNK = 1 << 18


class Skipped(NamedTuple):
    """A file of a folder that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in RAM; `info` tells what they are, with the sizes that were loaded.

    x_train, x_test: uint8 (n, height, width, channels), C-contiguous. y_train, y_test: int64 (n,), numbers of
    `info.class_names`. `skipped`: files of a folder that could not be read.
    """

    info: DatasetInfo
    x_train: Pixels = field(repr=False)
    y_train: Labels = field(repr=False)
    x_test: Pixels = field(repr=False)
    y_test: Labels = field(repr=False)
    skipped: tuple[Skipped, ...] = ()


def load_dataset(
    name_or_folder: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Dataset:
    """Load a dataset by its name in `DATASETS`, or a folder of images by class.

    A folder holds one subfolder for each class, or `train` and `test` (or `val`) with one for each class in both;
    with all three, `val` joins the training images. Without `test` and `val`, a fifth of each class becomes the
    test set, chosen by `seed`. Its images come out as RGB, `image_size` (64 by default, or (height, width)) large,
    cut to that shape around their centre; what cannot be read is in `skipped`. A `str` that names a dataset is
    never a folder; a `Path` always is. The named datasets have one fixed
    split and size, whatever the seed, so that models trained with different seeds meet the same test images.

    Raises InputError: unknown name, no network, damaged file, too few images or classes, too little memory.

    >>> load_dataset("digits").x_train.shape
    (1438, 28, 28, 1)
    """
    info = _known(name_or_folder)
    if info is None:
        return _load_folder(_folder(name_or_folder), image_size, seed, progress)
    if image_size is not None:
        height, width, _ = info.image_shape
        raise InputError(
            f"image_size is for folders of images; the images of {info.name} have {height} × {width} pixels: "
            "leave image_size out"
        )
    return _load_named(info, progress)


def _known(name: str | os.PathLike[str]) -> DatasetInfo | None:
    return DATASETS.get(dataset_key(name)) if isinstance(name, str) else None


def _folder(name: str | os.PathLike[str]) -> Path:
    folder = Path(name)
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise InputError(
            f"{os.fspath(name)!r} is neither a dataset ({', '.join(DATASETS)}) nor a folder; choose one of these "
            "names or give the path of a folder that holds a subfolder of images for each class"
        )
    return folder


def _load_named(info: DatasetInfo, progress: bool) -> Dataset:
    if info.name == "digits":
        return _checked(info, _read_digits(), "scikit-learn's digits")
    local = _local_file(info)
    if local is not None:
        return _checked(info, _read(local, _read_npz), str(local))
    paths = _download(info, progress)
    return _checked(info, _READERS[info.name](paths), str(paths[0]))


def _local_file(info: DatasetInfo) -> Path | None:
    folder = os.environ.get("CNN_TOOLKIT_DATA")
    path = Path(folder or "") / f"{info.name}.npz"
    return path if folder and path.is_file() else None


# What a dataset must look like


def _checked(info: DatasetInfo, arrays: _Arrays, where: str) -> Dataset:
    """Arrays from outside as a Dataset, or an InputError that says what is wrong with them."""
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise InputError(f"{where} should hold the arrays {', '.join(_KEYS)}; it lacks {', '.join(missing)}")
    x_train, x_test = (_checked_images(arrays[x], info, f"{x} in {where}") for x in ("x_train", "x_test"))
    y_train = _checked_labels(arrays["y_train"], len(x_train), info.class_names, f"y_train in {where}")
    y_test = _checked_labels(arrays["y_test"], len(x_test), info.class_names, f"y_test in {where}")
    info = replace(info, train_size=len(x_train), test_size=len(x_test))
    return Dataset(info, x_train, y_train, x_test, y_test)


def _checked_images(images: NDArray[Any], info: DatasetInfo, what: str) -> Pixels:
    height, width, channels = info.image_shape
    with_axis = images[..., np.newaxis] if images.ndim == 3 else images
    if images.dtype != np.uint8 or with_axis.shape[1:] != info.image_shape or not len(images):
        raise InputError(
            f"{what} should be uint8 of shape (n, {height}, {width}, {channels}), pixels from 0 to 255; "
            f"{images.dtype} of shape {images.shape} came; convert it, or remove the file to have it downloaded"
        )
    return np.ascontiguousarray(with_axis)


def _checked_labels(labels: NDArray[Any], count: int, class_names: Sequence[str], what: str) -> Labels:
    if labels.dtype.kind not in "iu" or labels.shape not in {(count,), (count, 1)}:
        raise InputError(
            f"{what} should be whole numbers of shape ({count},), one for each image; "
            f"{labels.dtype} of shape {labels.shape} came"
        )
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise InputError(
            f"{what} should count from 0 to {len(class_names) - 1}, one number for each of the {len(class_names)} "
            f"classes; numbers from {labels.min()} to {labels.max()} came"
        )
    return labels.reshape(count).astype(np.int64)


# Files


def _read(path: Path, reader: Callable[[Path], _T]) -> _T:
    """What `reader` makes of the file; whatever a damaged file makes it raise becomes one sentence."""
    try:
        return reader(path)
    except Exception as error:  # damaged bytes can make a decoder raise anything
        raise InputError(
            f"{path} cannot be used ({error or type(error).__name__}); remove it or put a good copy there"
        ) from error


def _read_digits() -> _Arrays:
    """The 1,797 digits from the file inside scikit-learn, 8 × 8 pixels of 0 to 16 enlarged to 28 × 28 of 0 to 255.

    The file is read directly, because importing scikit-learn costs a second and 110 MB.
    """
    try:
        path = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    except PackageNotFoundError as error:
        raise InputError("digits comes with scikit-learn, which is not installed; pip install scikit-learn") from error
    rows = _read(Path(str(path)), lambda path: np.loadtxt(path, np.uint8, delimiter=","))
    small = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    large = np.stack([_resized(Image.fromarray(image), 28, 28) for image in small])
    train, test = train_validation_split(rows[:, 64], _TEST_SHARE, seed=0)
    return {"x_train": large[train], "y_train": rows[train, 64], "x_test": large[test], "y_test": rows[test, 64]}


def _resized(image: Image.Image, height: int, width: int) -> Pixels:
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def _read_npz(path: Path) -> _Arrays:
    # Opened here, because np.load leaves the file open when it turns out to be no archive.
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        return {key: file[key] for key in _KEYS if key in file}


def _read_idx(path: Path) -> Pixels:
    """The format of the original MNIST files: 0, 0, 8 for uint8, the number of axes, big-endian sizes, the bytes."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\0\0\x08":
        raise ValueError("it is no idx file of bytes")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy()


class _StandIn:
    """Stands for each name that a pickled array mentions: numpy's ndarray, dtype and _reconstruct.

    It keeps what it is given. NumPy itself never sees the pickled state, only the pixels cut out of it.
    """

    def __init__(self, *args: object) -> None:
        self.args = args
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def bytes_array(self) -> Pixels:
        """The array of bytes that was pickled: the state of an ndarray is (version, shape, dtype, fortran, data)."""
        _, shape, dtype, fortran_order, data = self.state
        if dtype.args[0] not in {"u1", b"u1"} or fortran_order:
            raise ValueError("it should hold an array of bytes, row after row")
        return np.frombuffer(data, np.uint8).reshape(shape)


class _CifarUnpickler(pickle.Unpickler):
    """Reads plain data and arrays of bytes; a pickle that asks for anything else is refused before it gets it."""

    _allowed = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module: str, name: str, /) -> type[_StandIn]:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no dataset needs")
        return _StandIn


_Batch = tuple[Pixels, list[int]]


def _read_cifar(path: Path, train: Sequence[str], test: str, label_key: bytes) -> _Arrays:
    batches = _cifar_batches(path, {*train, test}, label_key)
    x_train, y_train = _joined([batches[name] for name in train])
    x_test, y_test = _joined([batches[test]])
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _cifar_batches(path: Path, wanted: Collection[str], label_key: bytes) -> dict[str, _Batch]:
    """The wanted members of the archive, read as a stream; nothing is unpacked to the disk."""
    batches = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name in wanted else None
            if file is not None:
                batches[member.name] = _cifar_batch(file, label_key)
    missing = set(wanted) - batches.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return batches


def _cifar_batch(file: IO[bytes], label_key: bytes) -> _Batch:
    """Images (n, 32, 32, 3) as a view on the stored rows of 1,024 red, 1,024 green and 1,024 blue pixels."""
    batch = _CifarUnpickler(file, encoding="bytes").load()
    return batch[b"data"].bytes_array().reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), batch[label_key]


def _joined(batches: Sequence[_Batch]) -> tuple[Pixels, Labels]:
    """`out` fixes the order of the axes in memory; NumPy would keep that of the views."""
    images = np.empty((sum(len(x) for x, _ in batches), 32, 32, 3), np.uint8)
    np.concatenate([x for x, _ in batches], out=images)
    return images, np.array([label for _, labels in batches for label in labels], np.int64)


def _read_cifar10(path: Path) -> _Arrays:
    folder = "cifar-10-batches-py"
    train = [f"{folder}/data_batch_{number}" for number in range(1, 6)]
    return _read_cifar(path, train, f"{folder}/test_batch", b"labels")


def _read_cifar100(path: Path) -> _Arrays:
    return _read_cifar(path, ["cifar-100-python/train"], "cifar-100-python/test", b"fine_labels")


# How the files of a downloaded dataset become arrays; the files come in the order of DatasetInfo.files.
_READERS: dict[str, Callable[[Sequence[Path]], _Arrays]] = {
    "mnist": lambda paths: _read(paths[0], _read_npz),
    "fashion_mnist": lambda paths: {key: _read(path, _read_idx) for key, path in zip(_KEYS, paths, strict=True)},
    "cifar10": lambda paths: _read(paths[0], _read_cifar10),
    "cifar100": lambda paths: _read(paths[0], _read_cifar100),
}


# The network


def _download(info: DatasetInfo, progress: bool) -> list[Path]:
    """The dataset's files in the user's cache, each with the right checksum; those that lack it are fetched."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # its line for each file would break the progress bar
    files = {f"{info.name}/{file.name}": file for file in info.files}
    cache = pooch.create(
        path=pooch.os_cache("cnn-toolkit"),
        env="CNN_TOOLKIT_CACHE",
        base_url="",
        registry={key: file.hash for key, file in files.items()},
        urls={key: file.url for key, file in files.items()},
        retry_if_failed=_RETRIES,
    )
    try:
        return [Path(cache.fetch(key, downloader=_downloader(file, progress))) for key, file in files.items()]
    except (requests.RequestException, ValueError, OSError) as error:
        raise InputError(
            f"{info.name} is not on this machine and could not be downloaded: {_why(error, info)}; connect to the "
            f"internet and try again, or put {info.name}.npz (arrays {', '.join(_KEYS)}) into the folder that the "
            "environment variable CNN_TOOLKIT_DATA names, or use digits, which needs no network"
        ) from error


def _downloader(file: RemoteFile, progress: bool) -> Callable[[str, str, object], None]:
    """The function with which pooch fetches one file.

    It takes the bytes as they lie on the server: some servers call a .gz file an encoding of something else, and
    pooch's own downloader would unpack it on the way and then find a wrong checksum.
    """
    import requests
    import urllib3
    from tqdm import tqdm

    def download(url: str, path: str, _pooch: object) -> None:
        with (
            tqdm(total=file.bytes, desc=file.name, unit="B", unit_scale=True, disable=not progress) as bar,
            requests.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as answer,
            Path(path).open("wb") as target,
        ):
            answer.raise_for_status()
            try:
                while chunk := answer.raw.read(_CHUNK, decode_content=False):
                    target.write(chunk)
                    bar.update(len(chunk))
                    if target.tell() > file.bytes:
                        raise ValueError(f"more than the {file.bytes} bytes of {file.name} came")
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from error

    return download


def _why(error: Exception, info: DatasetInfo) -> str:
    import requests

    host = urlsplit(info.files[0].url).hostname
    match error:
        case requests.HTTPError(response=requests.Response() as answer):
            return f"{host} answered {answer.status_code} {answer.reason}"
        case requests.Timeout():
            return f"{host} did not answer in time"
        case requests.RequestException():
            return f"there is no connection to {host}, or it broke off"
        case OSError():
            return f"the cache cannot be written ({error})"
        case _:
            return f"what {host} sent is not the published file (its checksum or its size is wrong)"


# A folder of images


class _Listing(NamedTuple):
    """Files of one part of a folder with their class numbers."""

    paths: list[Path]
    labels: list[int]


def _load_folder(folder: Path, image_size: int | tuple[int, int] | None, seed: int, progress: bool) -> Dataset:
    shape = _folder_shape(image_size)
    train_roots, test_roots = _parts(folder)
    names = _class_names(folder, [*train_roots, *test_roots])
    listings = [_listing(roots, names) for roots in (train_roots, test_roots)]
    _require_memory(folder, sum(len(listing.paths) for listing in listings), shape)
    (x, y, skipped), (x_test, y_test, skipped_test) = (_read_images(listing, shape, progress) for listing in listings)
    skipped += skipped_test
    arrays: _Arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    if test_roots:
        _require_images(folder, y, names, 1, "to train", skipped)
        _require_images(test_roots[0], y_test, names, 1, "to test", skipped)
    else:
        _require_images(folder, y, names, 2, "one to train and one to test", skipped)
        train, test = train_validation_split(y, _TEST_SHARE, seed)
        arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    return replace(_checked(_folder_info(folder, shape, names), arrays, str(folder)), skipped=skipped)


def _folder_shape(image_size: int | tuple[int, int] | None) -> tuple[int, int, int]:
    size = FOLDER_IMAGE_SIZE if image_size is None else image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    for what, value in (("height", height), ("width", width)):
        if require_whole(f"image_size ({what})", value) > 1024:
            raise InputError(f"image_size ({what}) must be at most 1024 pixels; {value} came; choose a smaller size")
    return height, width, 3


def _subfolders(folder: Path) -> list[Path]:
    hidden = (".", "__")  # .git, .ipynb_checkpoints, __MACOSX
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden))
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); choose a folder that you may open") from error


def _parts(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders of training and of test images; without the latter, the training images are to be split."""
    named = {path.name.lower(): path for path in _subfolders(folder)}
    if "train" not in named or not named.keys() <= {"train", "test", *_VALIDATION}:
        return [folder], []
    train, validation = [named["train"]], [named[name] for name in _VALIDATION if name in named]
    return (train + validation, [named["test"]]) if "test" in named else (train, validation)


def _class_names(folder: Path, roots: Sequence[Path]) -> tuple[str, ...]:
    found = [tuple(path.name for path in _subfolders(root)) for root in roots]
    for root, names in zip(roots, found, strict=True):
        differ = sorted(set(names) ^ set(found[0]))
        if differ:
            raise InputError(
                f"{roots[0]} and {root} should hold the same class folders; they differ in {', '.join(differ)}"
            )
    if len(found[0]) < 2:
        raise InputError(
            f"{folder} should hold a subfolder of images for each of at least two classes; "
            f"{len(found[0])} came; put the images of each class into a folder of its own"
        )
    return found[0]


def _listing(roots: Sequence[Path], names: Sequence[str]) -> _Listing:
    """All files below the class folders, in an order that is the same on every machine."""
    pairs = [(path, number) for root in roots for number, name in enumerate(names) for path in _files(root / name)]
    return _Listing([path for path, _ in pairs], [number for _, number in pairs])


def _files(folder: Path) -> list[Path]:
    walk = ((Path(root), names) for root, _, names in os.walk(folder))
    found = chain.from_iterable((root / name for name in names) for root, names in walk)
    return sorted(path for path in found if not path.name.startswith("."))


def _require_memory(folder: Path, images: int, shape: tuple[int, int, int]) -> None:
    needed = 2 * images * int(np.prod(shape))  # splitting copies once
    free = available_memory()
    if needed > free:
        raise InputError(
            f"{images} images of {shape[0]} × {shape[1]} pixels from {folder} need {needed:,} bytes of memory "
            f"while they are loaded; {free:,} are free; choose a smaller image_size or fewer images"
        )


def _read_images(
    files: _Listing, shape: tuple[int, int, int], progress: bool
) -> tuple[Pixels, Labels, tuple[Skipped, ...]]:
    from tqdm import tqdm

    count = len(files.paths)
    images = np.empty((count, *shape), np.uint8)
    labels: list[int] = []
    skipped = []
    pairs = zip(files.paths, files.labels, strict=True)
    for path, label in tqdm(pairs, total=count, desc="images", unit="", disable=not (progress and count)):
        try:
            images[len(labels)] = _image_file(path, shape)
        except InputError as error:
            skipped.append(Skipped(str(path), str(error)))
        else:
            labels.append(label)
    return images[: len(labels)], np.array(labels, np.int64), tuple(skipped)


def _image_file(path: Path, shape: tuple[int, int, int]) -> Pixels:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise InputError(f"a file of at most {_LARGEST_FILE:,} bytes was expected; it has {size:,}")
        return decode_small(path.read_bytes(), *shape[:2], limits=_ANY_MEMORY)
    except OSError as error:
        raise _unusable(unreadable(error, path, MAX_PIXELS)) from error
    except SampleError as error:
        raise _unusable(error) from error


def _require_images(
    folder: Path, labels: Labels, names: Sequence[str], least: int, purpose: str, skipped: Sequence[Skipped]
) -> None:
    for name, count in zip(names, np.bincount(labels, minlength=len(names)), strict=True):
        if count < least:
            unread = f"; {len(skipped)} could not be read, the first because {skipped[0].reason}" if skipped else ""
            raise InputError(
                f"class {name!r} in {folder} should have at least {least} images ({purpose}); "
                f"{count} came{unread}; add images or remove the class folder"
            )


def _folder_info(folder: Path, shape: tuple[int, int, int], names: tuple[str, ...]) -> DatasetInfo:
    path = folder.resolve()
    return DatasetInfo(
        name=path.name,
        title=path.name,
        image_shape=shape,
        class_names=names,
        train_size=0,
        test_size=0,
        licence="unknown: that of the images in the folder",
        source=str(path),
        citation="",
    )


# Single images


def decode_image(
    data: bytes | str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS, near: int | None = None
) -> Pixels:
    """An image, from its file's bytes or path, as a person sees it: uint8 RGB (height, width, 3), not to be written.

    It is turned as its EXIF tag says; transparency lies on white; 16-bit greys keep their upper eight bits;
    an animation gives its first frame. Colour profiles are ignored, as training sets ignore them.
    With `near`, the size that the image is wanted for, a JPEG may come out smaller, but no side below twice that:
    a photo of 48 megapixels then takes a few megabytes instead of 460, and a fraction of the time.
    Raises InputError when the file is damaged, is no JPEG, PNG, WebP, GIF, BMP, TIFF or PPM, or has more than
    `max_pixels` pixels (or more than Pillow allows), which is known from its header before memory is taken.

    >>> decode_image(b"P6 1 1 255 " + bytes([255, 0, 0])).tolist()
    [[[255, 0, 0]]]
    """
    return np.asarray(_decoded(data, max_pixels, near))


def prepare_image(image: Pixels, image_shape: tuple[int, int, int], *, fit: Fit = "crop") -> Pixels:
    """An image as a network for `image_shape` (height, width, channels) takes it: uint8 of exactly that shape.

    `image` is uint8 grey (h, w), (h, w, 1), RGB (h, w, 3) or RGBA (h, w, 4). It keeps its proportions: "crop" fills
    the shape and cuts what hangs over evenly on both sides, as for folders of images; "pad" shows all of it between
    black bars. Channels 1 is the grey of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), channels 3 is RGB.
    Raises InputError for any other array or shape.

    >>> prepare_image(np.zeros((100, 200, 3), np.uint8), (28, 28, 1)).shape
    (28, 28, 1)
    """
    require_choice("fit", fit, ("crop", "pad"))
    if len(image_shape) != 3 or image_shape[2] not in {1, 3} or min(image_shape) < 1:
        raise InputError(f"image_shape should be (height, width, 1) or (height, width, 3); {image_shape} came")
    height, width, channels = image_shape
    rgb = fitted(np.asarray(as_rgb(_from_array(image))), height, width, fit)
    return np.array(rgb if channels == 3 else Image.fromarray(rgb).convert("L")).reshape(image_shape)


def _from_array(image: Pixels) -> Image.Image:
    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    channels_fit = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in {3, 4})
    if image.dtype != np.uint8 or not channels_fit or not image.size:
        raise InputError(
            "an image should be uint8 of shape (height, width) or (height, width, 1, 3 or 4); "
            f"{image.dtype} of shape {image.shape} came"
        )
    return Image.fromarray(flat)


def _decoded(source: bytes | str | os.PathLike[str], max_pixels: int, near: int | None) -> Image.Image:
    try:
        return whole_image(source, max_pixels=max_pixels, near=near)
    except SampleError as error:
        raise _unusable(error) from error


def _unusable(error: SampleError) -> InputError:
    if error.cause is Cause.TOO_MANY_PIXELS:
        return InputError(error.sentence)
    return InputError(f"the image cannot be used: {error}; choose another or save it anew")


# Labels


def class_counts(labels: ArrayLike, classes: Sequence[str]) -> dict[str, int]:
    """How many of the labels belong to each class, by the name of the class.

    Raises InputError for labels that are no class numbers.

    >>> class_counts([0, 0, 2], ("cat", "dog", "fox"))
    {'cat': 2, 'dog': 0, 'fox': 1}
    """
    counts = np.bincount(_class_numbers(labels), minlength=len(classes))
    if len(counts) > len(classes):
        raise InputError(f"labels should be below {len(classes)}, the number of classes; {len(counts) - 1} came")
    return dict(zip(classes, counts.tolist(), strict=True))


def train_validation_split(y: ArrayLike, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Split by class: indices (int64, ascending) of the items to train with and of those to validate with.

    Each class gives the same `fraction`, rounded to whole items; unless the fraction is 0, that is at least one
    item, but never the last of its class. The same labels, fraction and seed give the same split.
    Raises InputError unless 0 ≤ fraction < 1 and the seed is a whole number from 0.

    >>> train, validation = train_validation_split([0] * 5 + [1] * 10, 0.2, seed=0)
    >>> len(train), len(validation)
    (12, 3)
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the fraction should be from 0 up to, but not including, 1; {fraction} came")
    labels = _class_numbers(y)
    counts = np.bincount(labels)
    least = np.minimum(counts - 1, 1 if fraction else 0)
    wanted = np.clip(np.rint(fraction * counts), least, counts - 1)
    held_out = _ranks(labels, seed) < wanted[labels]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def take(dataset: Dataset, train_limit: int | None, seed: int) -> Dataset:
    """The dataset with at most `train_limit` training images, as many of each class as there are; None means all.

    Classes differ by one image at most, unless a class has run out. A smaller limit with the same seed takes a part
    of what a larger one takes, as a learning curve wants it. Test images stay as they are.
    Raises InputError for a limit below the number of classes.

    >>> small = take(load_dataset("digits"), 50, seed=0)
    >>> set(class_counts(small.y_train, small.info.class_names).values())
    {5}
    """
    if train_limit is None:
        return dataset
    require_whole("train_limit", train_limit, least=dataset.info.classes)
    # By rank and then by class: the first image of every class, the second of every class …
    order = np.lexsort((dataset.y_train, _ranks(dataset.y_train, seed)))
    chosen = np.sort(order[:train_limit])
    info = replace(dataset.info, train_size=len(chosen))
    return replace(dataset, info=info, x_train=dataset.x_train[chosen], y_train=dataset.y_train[chosen])


def _class_numbers(labels: ArrayLike) -> Labels:
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu" or array.min() < 0:
        raise InputError(
            "labels should be whole numbers from 0 in one row, at least one of them; "
            f"{array.dtype} of shape {array.shape} came"
        )
    return array.astype(np.int64)


def _ranks(labels: Labels, seed: int) -> Labels:
    """The place of each item in a random order of its own class: 0, 1, 2 … in every class."""
    shuffled = np.random.default_rng(require_whole("seed", seed, least=0)).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


# The source of a stream, whole


class LoadedImages(NamedTuple):
    """What `load_images` gives: uint8 (n, height, width, 3), int64 (n,), and the report of what failed."""

    images: Pixels
    labels: Labels
    report: Report


def load_images(
    source: Any, labels: Any = None, *, image_size: int | tuple[int, int], shuffle: bool = False, **options: Any
) -> LoadedImages:
    """All images of a source in RAM: the first epoch of `stream_images` with these arguments, as two arrays.

    They come in the order of the source, unless `shuffle` is true; what cannot be used is left out and in the report.
    Raises InputError as `stream_images` does, for tar shards, whose number of images nobody knows beforehand, and
    when the images would not fit into the memory that is free now: height × width × 3 bytes each.

    >>> images, labels, report = load_images([], image_size=8)
    >>> images.shape, report.failed
    ((0, 8, 8, 3), 0)
    """
    from toolkit.streaming.pipeline import stream_images

    with stream_images(source, labels, image_size=image_size, shuffle=shuffle, **options) as stream:
        count = stream.progress().total
        if count is None:
            raise InputError("how many images tar shards hold is known when they end; stream them instead")
        _require_room(count, stream.settings.shape)
        images, numbers = np.empty((count, *stream.settings.shape), np.uint8), np.empty(count, np.int64)
        done = 0
        for batch, batch_labels in stream:
            images[done : done + len(batch)], numbers[done : done + len(batch)] = batch, batch_labels
            done += len(batch)
    return LoadedImages(images[:done], numbers[:done], stream.report)


def _require_room(count: int, shape: tuple[int, int, int]) -> None:
    needed, free = count * int(np.prod(shape)), available_memory()
    if needed > free:
        raise InputError(
            f"{count:,} images of {shape[0]} × {shape[1]} pixels need {needed:,} bytes of memory; {free:,} are free; "
            "choose a smaller image_size, or stream them: stream_images takes the same arguments"
        )
