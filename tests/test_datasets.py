"""What `DATASETS` says, held against the installed Keras source and the figures that the authors publish."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.datasets import DATASETS, DatasetInfo, dataset_info
from toolkit.errors import InputError

FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
EVERY = pytest.mark.parametrize("info", DATASETS.values(), ids=DATASETS)


def keras_source(module: str) -> str:
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        pytest.skip("Keras is not installed")
    return (Path(spec.origin).parent / "src" / "datasets" / f"{module}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "shape", "classes", "train", "test"),
    [
        ("digits", (28, 28, 1), 10, 1438, 359),
        ("mnist", (28, 28, 1), 10, 60_000, 10_000),
        ("fashion_mnist", (28, 28, 1), 10, 60_000, 10_000),
        ("cifar10", (32, 32, 3), 10, 50_000, 10_000),
        ("cifar100", (32, 32, 3), 100, 50_000, 10_000),
    ],
)
def test_published_sizes(name: str, shape: tuple[int, int, int], classes: int, train: int, test: int) -> None:
    info = DATASETS[name]
    assert (info.image_shape, info.classes, info.train_size, info.test_size) == (shape, classes, train, test)


def test_the_default_comes_first_and_every_entry_stands_under_its_name() -> None:
    assert list(DATASETS) == ["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    assert all(name == info.name for name, info in DATASETS.items())


@EVERY
def test_class_names_are_distinct_words(info: DatasetInfo) -> None:
    assert len(set(info.class_names)) == info.classes
    assert all(re.fullmatch(r"[\w/ -]+", name) for name in info.class_names)


def test_class_numbers_mean_what_keras_documents() -> None:
    for module in ("fashion_mnist", "cifar10"):
        table = re.findall(r"^    \|\s+(\d)\s+\| (.+?)\s+\|$", keras_source(module), flags=re.MULTILINE)
        assert [name for _, name in table] == list(DATASETS[module].class_names)


def test_cifar100_numbers_its_fine_classes_in_alphabetical_order() -> None:
    names = DATASETS["cifar100"].class_names
    assert list(names) == sorted(names)
    assert [names[number] for number in (0, 1, 49, 99)] == ["apple", "aquarium_fish", "mountain", "worm"]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_address_and_checksum_are_those_of_keras(name: str) -> None:
    (file,) = DATASETS[name].files
    source = keras_source(name)
    folder, _, file_name = file.url.rpartition("/")
    assert folder + "/" in source
    assert file_name in source
    assert f'"{file.hash.removeprefix("sha256:")}"' in source


def test_fashion_mnist_has_keras_addresses_and_the_authors_checksums() -> None:
    source = keras_source("fashion_mnist")
    for file in DATASETS["fashion_mnist"].files:
        assert file.url.removesuffix(file.name) in source
        assert f'"{file.name}"' in source
        assert file.hash == f"md5:{FASHION_MD5[file.name]}"


@EVERY
def test_files_come_encrypted_and_with_a_checksum(info: DatasetInfo) -> None:
    for file in info.files:
        assert file.url.startswith("https://")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.hash)
        assert file.bytes > 5000


@EVERY
def test_says_whose_it_is(info: DatasetInfo) -> None:
    assert info.licence
    assert info.source.startswith("http")
    assert re.search(r"(19|20)\d\d", info.citation)


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DATASETS["mnist"].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["cifar10", "CIFAR10", " Cifar10 "])
def test_case_is_forgiven(name: str) -> None:
    assert dataset_info(name) is DATASETS["cifar10"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'mnits' is not a dataset; choose one of digits, mnist, fashion_mnist"):
        dataset_info("mnits")


def test_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, toolkit.datasets; print({'numpy', 'PIL', 'pooch', 'keras'} & set(sys.modules))"
    home = Path(__file__).parents[1]
    answer = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
