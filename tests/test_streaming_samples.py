"""Sources, held against csv, json and pyarrow themselves and against a folder on the disk."""

import csv
import json
import pickle
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import InputError
from toolkit.streaming.pipeline import stream_images
from toolkit.streaming.samples import Lines, Source, read_source

ROWS = [("https://a.org/1.jpg", "dog"), ("https://a.org/ü 2.jpg", "cat"), ("/data/3.jpg", "dog"), ("s3://b/4", "eel")]
NAMES = ("cat", "dog", "eel")
NUMBERS = [1, 0, 1, 2]


def written(path: Path, rows: list[tuple[str, Any]] = ROWS, heads: tuple[str, str] = ("url", "label")) -> Path:
    match path.suffix:
        case ".txt":
            path.write_text("".join(f"{url}\t{label}\n" for url, label in rows), "utf-8")
        case ".csv" | ".tsv":
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t").writerows([heads, *rows])
        case ".jsonl":
            path.write_text("".join(json.dumps(dict(zip(heads, row, strict=True))) + "\n" for row in rows), "utf-8")
        case ".parquet":
            arrow = pytest.importorskip("pyarrow", reason="pyarrow, which writes Parquet, is not installed")
            parquet = pytest.importorskip("pyarrow.parquet")
            columns = dict(zip(heads, map(list, zip(*rows, strict=True)), strict=True))
            parquet.write_table(arrow.table({"width": [1] * len(rows), **columns}), path)
    return path


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "parquet"])
def test_each_kind_of_file_says_the_same(tmp_path: Path, kind: str) -> None:
    source = read_source(written(tmp_path / f"birds.{kind}"))
    assert list(source.locations) == [url for url, _ in ROWS]
    assert source.labels.tolist() == NUMBERS
    assert source.labels.dtype == np.int64
    assert (source.class_names, source.name, len(source)) == (NAMES, "birds", 4)
    chosen = read_source(str(tmp_path / f"birds.{kind}"), class_names=("eel", "dog", "cat", "fly"))
    assert chosen.labels.tolist() == [1, 2, 1, 0]
    with pytest.raises(InputError, match=r"labels should be among class_names \(dog, cat\); 'eel' came"):
        read_source(tmp_path / f"birds.{kind}", class_names=("dog", "cat"))


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_labels_that_are_numbers_stay_numbers(tmp_path: Path, kind: str) -> None:
    rows: list[tuple[str, Any]] = [("a.jpg", 7), ("b.jpg", 0), ("c.jpg", 7)]
    path = written(tmp_path / f"numbers.{kind}", rows)
    assert read_source(path).labels.tolist() == [7, 0, 7]
    assert read_source(path).class_names == ()
    assert read_source(path, class_names="abcdefgh").class_names == tuple("abcdefgh")
    with pytest.raises(InputError, match="labels should be below 3, the number of class_names; 7 came"):
        read_source(path, class_names="abc")
    assert read_source(path, class_names=("7", "0")).labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_can_be_named(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"odd.{kind}", heads=("Where", "What"))
    source = read_source(path, url_column="where", label_column="What")
    assert source.labels.tolist() == NUMBERS
    with pytest.raises(InputError, match=r"line 1 of .*one of url, .*url_column says which.*Where, What came"):
        read_source(path)
    with pytest.raises(InputError, match="should have the column which, which label_column names"):
        read_source(path, url_column="Where", label_column="which")
    assert not read_source(path, url_column="Where").labels.any()


def test_without_labels_all_are_0_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# photos\r\nhttps://a.org/1.jpg\r\n\r\n  sub/2.jpg  \r\n/3.jpg")
    source = read_source(path)
    assert list(source.locations) == ["https://a.org/1.jpg", str(tmp_path / "sub/2.jpg"), "/3.jpg"]
    assert source.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "should have a URL or path a line; it has none"),
        ("a.txt", b"a.jpg\tcat\nb.jpg\n", "line 2 of .* should have a label as the others"),
        ("a.txt", b"a.jpg\nb.jpg\tcat\n", "line 2 of .* none as the others; 'cat' came"),
        ("a.txt", b"a.jpg\n\tcat\n", "line 2 of .* should have a URL or path; '' came"),
        ("a.txt", b"a.jpg\tcat\nb.jpg\t\n", "line 2 of .* should have a label that is"),
        ("a.txt", b"a.jpg\nb\xff.jpg\n", "line 2 of .* should have text in UTF-8"),
        ("a.txt", b"a" * 100_000, "line 1 of .* should have at most 65,536 bytes; more came"),
        ("a.txt", b"a.jpg\t-1", "labels are numbers from 0; -1 came"),
        ("a.csv", b"", "line 1 of .* nothing came"),
        ("a.csv", b"a.jpg,1\nb.jpg,2\n", "line 1 of .* a name for the column of locations .*a.jpg, 1 came"),
        ("a.csv", b"id,url,label\n1,a.jpg,x\n\n2,b.jpg\n", "line 4 of .* as many columns as the first line; 2 came"),
        ("a.csv", b'url,label\n"a.jpg,x\n', "line 2 of .* cells as CSV has them"),
        ("a.csv", b"url,label\n,x\n", "line 2 of .* a URL or path; '' came"),
        ("a.jsonl", b'{"url": "a.jpg"}\n[1]\n', "line 2 of .* a JSON object"),
        ("a.jsonl", b'{"url": "a.jpg"}\n{"url": \n', "line 2 of .* a JSON object"),
        ("a.jsonl", b"[" * 60_000, "line 1 of .* a JSON object"),
        ("a.jsonl", b'{"urls": "a.jpg"}\n', "line 1 of .* a name for the column of locations"),
        ("a.jsonl", b'{"url": 7}\n', "line 1 of .* a URL or path; 7 came"),
        ("a.jsonl", b'{"url": "a", "label": 0.5}\n', "line 1 of .* a label that is a whole number or a name; 0.5 came"),
        ("a.jsonl", b'{"url": "a", "label": true}\n', "line 1 of .* a label that .* True came"),
        ("a.jsonl", b'{"url": "a", "label": 1}\n{"url": "b", "label": null}\n', "line 2 of .* a label as the others"),
        ("a.xlsx", b"", r"should be a folder of images by class or a file of locations \(.txt, .*such a file is there"),
    ],
)
def test_files_that_are_wrong_get_a_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_source(path)


def test_a_file_that_is_no_parquet_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="should be a Parquet file; it is none, or damaged"):
        read_source(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no/such/folder", "should be a folder .* nothing is there"),
        ("https://a.org/urls.csv", "the URL 'https://a.org/urls.csv' came; put a single image into a list"),
        (["a.jpg", 7], "number 1 \\(from 0\\) is 7"),
    ],
)
def test_things_that_are_no_sources(what: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_source(what)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0], "a label for each of the 2 images was expected"),
        ([0, 1, 2], "a label for each of the 2 images"),
        ([[0], [1]], "a label for each of the 2 images"),
        ([0, -1], "labels are numbers from 0; -1 came"),
        ([0.5, 1.0], "labels are whole numbers or names; float64 such as"),
        ([0, "cat"], None),
        (["cat", None], "labels are whole numbers or names"),
    ],
)
def test_labels_of_a_list(labels: Any, words: str | None) -> None:
    if words is None:
        assert read_source(["a", "b"], labels).class_names == ("0", "cat")
        return
    with pytest.raises(InputError, match=words):
        read_source(["a", "b"], labels)


def test_lists_of_all_sorts() -> None:
    urls = ["https://a.org/1.jpg", "b.jpg"]
    source = read_source(urls, np.array([3, 1], np.uint8))
    assert source.locations is urls  # the user's list is not copied
    assert source.labels.tolist() == [3, 1]
    assert read_source(source) is source
    assert read_source(urls, ["b", "a"], class_names=["a", "b", "c"]).labels.tolist() == [1, 0]
    others: list[Any] = [map(str, urls), np.array(urls), [Path("b.jpg"), urls[0]]]
    for other in others:
        assert sorted(read_source(other).locations) == sorted(urls)
    with pytest.raises(InputError, match="a file or folder brings its own: leave labels out"):
        read_source(source, [0, 1])
    assert len(read_source([])) == 0


# Folders


def folder_of(tmp_path: Path) -> Path:
    for name in ("dog/b.jpg", "dog/a.jpg", "dog/puppy/c.jpg", "cat/z.jpg", ".git/x.jpg", "cat/.hidden", "cat/a b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_comes_in_an_order_that_is_always_the_same(tmp_path: Path) -> None:
    source = read_source(folder_of(tmp_path))
    names = [str(Path(each).relative_to(tmp_path)) for each in source.locations]
    assert names == ["cat/a b.png", "cat/z.jpg", "dog/a.jpg", "dog/b.jpg", "dog/puppy/c.jpg"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.class_names == ("cat", "dog")
    assert read_source(str(tmp_path), class_names=("dog", "cat")).labels.tolist() == [1, 1, 0, 0, 0]


def test_a_folder_in_an_object_store_is_one_like_others(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    names = ["cat/1.jpg", "cat/deep/2.jpg", "dog/1.jpg", "dog/.hidden", ".git/x", "readme.txt"]
    for name in names:
        store.pipe_file(f"/photos/{name}", b"x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    try:
        for url in ("memory://photos", "memory://photos/"):
            found, expected = read_source(url, stores=True), read_source(tmp_path)
            assert (found.class_names, found.labels.tolist()) == (expected.class_names, expected.labels.tolist())
            assert [store.exists(location) for location in found.locations] == [True] * 3
            assert {each.removeprefix("memory://photos/") for each in found.locations} == set(names[:3])
            assert read_source(url, class_names=["dog", "cat"], stores=True).labels.tolist() == [1, 1, 0]
        for wrong, words in (
            ("memory://photos/cat", r"among class_names \(cat\); 'deep' came"),
            ("memory://nothing", "it holds none"),
            ("no-such-store://a/b", "cannot be listed"),
        ):
            with pytest.raises(InputError, match=words):
                read_source(wrong, class_names=["cat"], stores=True)
        with pytest.raises(InputError, match="listed only where a script says allow_private=True"):
            stream_images("memory://photos", image_size=4)
        with pytest.raises(InputError, match="the URL 'file:///etc' came"):
            read_source("file:///etc")
    finally:
        store.rm("/photos", recursive=True)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should hold a subfolder of images for each class; it holds none"):
        read_source(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"holds train; choose one of them, such as .*train"):
        read_source(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="should hold images; they are empty"):
        read_source(tmp_path)


# Parts


@given(st.integers(0, 60), st.integers(1, 9), st.booleans())
def test_parts_hold_every_sample_once_and_are_even(n: int, count: int, compact: bool) -> None:
    texts = [f"{number}.jpg" for number in range(n)]
    source = Source(Lines(texts) if compact else texts, np.arange(n))
    parts = [source.part(index, count) for index in range(count)]
    assert Counter(place for part in parts for place in part.locations) == Counter(texts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part in parts:
        assert [f"{label}.jpg" for label in part.labels] == list(part.locations)
        assert list(part.numbers) == part.labels.tolist()
        if len(part):
            assert part.part(0, 1).locations[-1] == part.locations[-1]
            assert part.part(len(part) - 1, len(part)).numbers == part.numbers[-1:]


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0), (0.5, 2)])
def test_parts_that_are_none(index: Any, count: int) -> None:
    with pytest.raises(InputError):
        read_source(["a"]).part(index, count)


@given(st.lists(st.text(max_size=20), max_size=20), st.slices(20))
def test_lines_are_a_list_of_texts(texts: list[str], some: slice) -> None:
    lines = pickle.loads(pickle.dumps(Lines(texts)))
    assert len(lines) == len(texts)
    assert list(lines) == texts
    assert list(lines[some]) == texts[some]
    assert list(lines[some][::-1]) == texts[some][::-1]
    assert [lines[-1]] == texts[-1:] if texts else True


def test_lines_end() -> None:
    with pytest.raises(IndexError):
        Lines(["a"])[1]


def test_many_urls_are_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "urls.csv"
    with path.open("w") as file:
        file.write("url,label\n")
        file.writelines(
            f"https://example.org/images/{number:08d}.jpg,class {number % 100}\n" for number in range(20_000)
        )
    tracemalloc.start()
    source = read_source(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert source.locations[19_999] == "https://example.org/images/00019999.jpg"
    as_objects = 20_000 * (sys.getsizeof(source.locations[0]) + 8)
    assert kept < 0.8 * as_objects
    assert peak < 2_400_000
