"""Loading, held against scikit-learn, the published file formats, a real local server and hostile files."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from toolkit import loading
from toolkit.datasets import DATASETS, DatasetInfo, RemoteFile
from toolkit.errors import InputError
from toolkit.loading import (
    Dataset,
    class_counts,
    decode_image,
    load_dataset,
    prepare_image,
    take,
    train_validation_split,
)

DATA = Path(os.environ.get("CNN_TOOLKIT_DATA", "/nonexistent"))
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
Arrays = dict[str, NDArray[Any]]
Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def own_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees this machine's data, its cache or a proxy, and none waits to try again."""
    monkeypatch.delenv("CNN_TOOLKIT_DATA", raising=False)
    monkeypatch.setenv("CNN_TOOLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(loading, "_RETRIES", 0)


def real_data(monkeypatch: pytest.MonkeyPatch, name: str) -> Dataset:
    if not (DATA / f"{name}.npz").is_file():
        pytest.skip(f"CNN_TOOLKIT_DATA has no {name}.npz")
    monkeypatch.setenv("CNN_TOOLKIT_DATA", str(DATA))
    return load_dataset(name)


def assert_well_formed(dataset: Dataset) -> None:
    info = dataset.info
    for images, labels, size in (
        (dataset.x_train, dataset.y_train, info.train_size),
        (dataset.x_test, dataset.y_test, info.test_size),
    ):
        assert images.dtype == np.uint8
        assert images.shape == (size, *info.image_shape)
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        assert labels.shape == (size,)
        assert 0 <= labels.min() <= labels.max() < info.classes


# Digits


def enlarged(image: NDArray[np.float64]) -> bytes:
    """An 8 × 8 image of 0 to 16 as one of 28 × 28 from black to white."""
    grey = Image.fromarray(np.rint(image / 16 * 255).astype(np.uint8))
    return grey.resize((28, 28), Image.Resampling.BICUBIC).tobytes()


def test_digits_are_those_of_scikit_learn_each_exactly_once() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    ours = load_dataset("digits")
    assert_well_formed(ours)
    images, labels = np.concatenate([ours.x_train, ours.x_test]), np.concatenate([ours.y_train, ours.y_test])
    found = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    assert found == sorted(
        (enlarged(image), int(label)) for image, label in zip(theirs.images, theirs.target, strict=True)
    )


def test_digits_keep_their_looks_when_enlarged() -> None:
    from sklearn.datasets import load_digits

    digits = load_dataset("digits")
    ours = np.concatenate([digits.x_train, digits.x_test])[..., 0].mean(axis=0)
    theirs = load_digits().images.mean(axis=0) * (255 / 16)
    shrunk = np.asarray(Image.fromarray(ours.astype(np.float32)).resize((8, 8), Image.Resampling.BOX))
    assert np.corrcoef(shrunk.ravel(), theirs.ravel())[0, 1] > 0.99
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.02)


def test_digits_have_the_sizes_that_are_published_and_a_fifth_of_each_class_to_test() -> None:
    digits = load_dataset("digits")
    assert digits.info == DATASETS["digits"]
    train, test = np.bincount(digits.y_train), np.bincount(digits.y_test)
    assert np.abs(test - 0.2 * (train + test)).max() <= 0.5
    assert digits.x_train.max() == 255


def test_digits_are_split_the_same_way_whatever_the_seed() -> None:
    first, second = load_dataset("digits"), load_dataset("digits", seed=7)
    assert np.array_equal(first.x_test, second.x_test)
    assert np.array_equal(first.y_test, second.y_test)
    assert first.y_test[:12].tolist() == [2, 2, 0, 8, 7, 8, 3, 4, 0, 2, 1, 3]  # so on every machine


def test_digits_need_neither_scikit_learn_in_memory_nor_a_network_library() -> None:
    code = (
        "import sys; from toolkit.loading import load_dataset; load_dataset('digits'); "
        "print({'sklearn', 'scipy', 'requests', 'pooch', 'keras'} & set(sys.modules))"
    )
    assert run_python(code) == "set()"


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(loading, "distribution", missing)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        load_dataset("digits")


def run_python(code: str) -> str:
    home = Path(__file__).parents[1]
    answer = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


# The real files


def test_mnist_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist = real_data(monkeypatch, "mnist")
    assert_well_formed(mnist)
    assert mnist.info == DATASETS["mnist"]
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert list(class_counts(mnist.y_train, mnist.info.class_names).values()) == counts
    assert mnist.x_train.mean() == pytest.approx(0.1307 * 255, abs=0.02)  # the mean that everyone normalizes with


def test_cifar10_is_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = real_data(monkeypatch, "cifar10")
    assert_well_formed(cifar)
    assert cifar.info == DATASETS["cifar10"]
    assert [cifar.info.class_names[label] for label in cifar.y_train[:3]] == ["frog", "truck", "truck"]
    assert set(np.bincount(cifar.y_train)) == {5000}
    assert set(np.bincount(cifar.y_test)) == {1000}
    means = cifar.x_train.mean(axis=(0, 1, 2)) / 255  # red, green, blue, as published with many models
    assert means == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.0002)


# <name>.npz in CNN_TOOLKIT_DATA


def some_arrays(n_train: int = 20, n_test: int = 10, shape: tuple[int, ...] = (28, 28), classes: int = 10) -> Arrays:
    random = np.random.default_rng(0)
    return {
        "x_train": random.integers(0, 256, (n_train, *shape), dtype=np.uint8),
        "y_train": (np.arange(n_train) % classes).astype(np.uint8),
        "x_test": random.integers(0, 256, (n_test, *shape), dtype=np.uint8),
        "y_test": (np.arange(n_test) % classes).astype(np.uint8),
    }


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("CNN_TOOLKIT_DATA", str(folder))
    return folder


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
@pytest.mark.parametrize("label_shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("label_type", ["uint8", "int32", "int64"])
def test_npz_with_or_without_a_channel_axis(
    data_folder: Path, shape: tuple[int, ...], label_shape: tuple[int, ...], label_type: str
) -> None:
    arrays = some_arrays(shape=shape)
    for key in ("y_train", "y_test"):
        arrays[key] = arrays[key].astype(label_type).reshape(label_shape)
    (data_folder / "fashion_mnist.npz").write_bytes(npz_bytes(arrays))
    loaded = load_dataset("fashion-MNIST")
    assert_well_formed(loaded)
    assert (loaded.info.train_size, loaded.info.test_size) == (20, 10)
    assert np.array_equal(loaded.x_train[..., 0], arrays["x_train"].reshape(20, 28, 28))
    assert np.array_equal(loaded.y_test, arrays["y_test"].ravel())


def test_npz_in_another_memory_order_comes_out_contiguous(data_folder: Path) -> None:
    arrays = some_arrays(shape=(32, 32, 3))
    arrays["x_train"] = np.asfortranarray(arrays["x_train"])
    (data_folder / "cifar10.npz").write_bytes(npz_bytes(arrays))
    loaded = load_dataset("cifar10")
    assert_well_formed(loaded)
    assert np.array_equal(loaded.x_train, arrays["x_train"])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("x_train", None, "it lacks x_train"),
        ("y_test", None, "it lacks y_test"),
        ("x_train", np.zeros((20, 28, 28), np.float32), "uint8 of shape .*float32"),
        ("x_train", np.zeros((20, 32, 32, 3), np.uint8), r"\(n, 28, 28, 1\).*\(20, 32, 32, 3\)"),
        ("x_test", np.zeros((10, 784), np.uint8), r"x_test in .*\(10, 784\)"),
        ("x_test", np.zeros((0, 28, 28), np.uint8), r"\(0, 28, 28\)"),
        ("x_test", np.uint8(3), "x_test in .*uint8 of shape"),
        ("y_train", np.full(20, 10), "from 0 to 9.*10"),
        ("y_train", np.full(20, -1), "-1"),
        ("y_train", np.zeros(19, int), r"\(20,\).*\(19,\)"),
        ("y_test", np.zeros(10), "whole numbers .*float64"),
        ("y_test", np.zeros((10, 10), int), r"\(10, 10\)"),
        ("y_train", np.array(["five"] * 20), "whole numbers"),
    ],
)
def test_npz_with_wrong_arrays(data_folder: Path, key: str, value: NDArray[Any] | None, words: str) -> None:
    arrays = some_arrays()
    del arrays[key]
    if value is not None:
        arrays[key] = value
    (data_folder / "mnist.npz").write_bytes(npz_bytes(arrays))
    with pytest.raises(InputError, match=words):
        load_dataset("mnist")


class Bomb:
    """What a pickle can carry: it runs a command when it is read back."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_npz_with_objects_is_refused_and_runs_nothing(data_folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    arrays: dict[str, Any] = {**some_arrays(), "y_train": np.array([Bomb(victim)] * 20, dtype=object)}
    (data_folder / "mnist.npz").write_bytes(npz_bytes(arrays))
    with pytest.raises(InputError, match=r"mnist\.npz cannot be used .*allow_pickle"):
        load_dataset("mnist")
    assert not victim.exists()


def npy_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip at all",
        npz_bytes(some_arrays())[:-200],
        npz_bytes(some_arrays()).replace(b"'shape': (20, 28, 28)", b"'shape': (2**60,    )"),
        npy_bytes(),
        pickle.dumps({"x_train": 1}),
    ],
    ids=["empty", "text", "cut short", "nonsense shape", "npy", "pickle"],
)
def test_npz_that_is_none(data_folder: Path, content: bytes) -> None:
    (data_folder / "mnist.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"mnist\.npz cannot be used \(.+\); remove it or put a good copy there"):
        load_dataset("mnist")


# Downloads, from a real server on this machine


@dataclass
class Answer:
    """What the server says to one path; `claimed` is the Content-Length, `failures` the 503s that come first."""

    body: bytes
    status: int = 200
    claimed: int | None = None
    failures: int = 0
    stall: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    sent: int = 0


@dataclass
class Site:
    """A web site in this process."""

    address: str
    answers: dict[str, Answer]

    def publish(self, monkeypatch: pytest.MonkeyPatch, name: str, files: Mapping[str, Answer]) -> None:
        """Serve `files` and let DATASETS know them, with true checksums, as the files of a dataset."""
        self.answers.update({f"/{path}": answer for path, answer in files.items()})
        remote = tuple(self._remote(path, answer.body) for path, answer in files.items())
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=remote))

    def _remote(self, path: str, body: bytes) -> RemoteFile:
        return RemoteFile(f"{self.address}/{path}", f"md5:{hashlib.md5(body).hexdigest()}", len(body))


@pytest.fixture
def site() -> Iterator[Site]:
    answers: dict[str, Answer] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path, Answer(b"", status=404))
            answer.asked += 1
            time.sleep(answer.stall)
            self.send_response(503 if answer.asked <= answer.failures else answer.status)
            if answer.claimed != -1:
                self.send_header("Content-Length", str(answer.claimed or len(answer.body)))
            for header, value in answer.headers.items():
                self.send_header(header, value)
            self.end_headers()
            for start in range(0, len(answer.body), 1 << 16):
                self.wfile.write(answer.body[start : start + (1 << 16)])
                answer.sent += 1 << 16

        def log_message(self, *args: object) -> None:
            """A test's output is for what went wrong."""

    class QuietServer(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """The client hangs up early in some tests; that is what they are about."""

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Site(f"http://127.0.0.1:{server.server_port}", answers)
        server.shutdown()
        thread.join()


def idx_gz(array: Pixels) -> bytes:
    """The format of http://yann.lecun.com/exdb/mnist/: magic number 0x0000 08 <axes>, big-endian sizes, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return gzip.compress(header + array.tobytes())


def fashion_files(arrays: Arrays) -> dict[str, Answer]:
    names = [file.name for file in DATASETS["fashion_mnist"].files]
    return {name: Answer(idx_gz(array)) for name, array in zip(names, arrays.values(), strict=True)}


def cache_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_fashion_mnist_from_idx_files(monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path) -> None:
    arrays = some_arrays()
    files = fashion_files(arrays)
    site.publish(monkeypatch, "fashion_mnist", files)
    for _ in range(2):
        loaded = load_dataset("fashion_mnist", progress=False)
        assert_well_formed(loaded)
        assert np.array_equal(loaded.x_train[..., 0], arrays["x_train"])
        assert np.array_equal(loaded.y_train, arrays["y_train"])
        assert np.array_equal(loaded.x_test[..., 0], arrays["x_test"])
        assert np.array_equal(loaded.y_test, arrays["y_test"])
    assert [answer.asked for answer in files.values()] == [1, 1, 1, 1]
    assert cache_files(tmp_path) == sorted(files)


def test_mnist_from_an_npz(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    arrays = some_arrays()
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(npz_bytes(arrays))})
    loaded = load_dataset("mnist", progress=False)
    assert_well_formed(loaded)
    assert np.array_equal(loaded.x_test[..., 0], arrays["x_test"])


def test_local_file_wins_over_the_network(monkeypatch: pytest.MonkeyPatch, site: Site, data_folder: Path) -> None:
    answer = Answer(npz_bytes(some_arrays(n_train=30)))
    site.publish(monkeypatch, "mnist", {"mnist.npz": answer})
    (data_folder / "mnist.npz").write_bytes(npz_bytes(some_arrays(n_train=20)))
    assert load_dataset("mnist").info.train_size == 20
    assert answer.asked == 0


def test_progress_is_shown_while_downloading(
    monkeypatch: pytest.MonkeyPatch, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(npz_bytes(some_arrays()))})
    load_dataset("mnist", progress=True)
    shown = capfd.readouterr()
    assert "mnist.npz: 100%" in shown.err
    assert shown.out == ""


def test_no_progress_is_shown_unless_asked(
    monkeypatch: pytest.MonkeyPatch, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(npz_bytes(some_arrays()))})
    load_dataset("mnist", progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_gz_file_that_the_server_calls_an_encoding_arrives_as_it_lies_there(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    files = fashion_files(some_arrays())
    for answer in files.values():
        answer.headers["Content-Encoding"] = "x-gzip"
    site.publish(monkeypatch, "fashion_mnist", files)
    assert_well_formed(load_dataset("fashion_mnist", progress=False))


def test_a_download_is_tried_again(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    answer = Answer(npz_bytes(some_arrays()), failures=1)
    site.publish(monkeypatch, "mnist", {"mnist.npz": answer})
    monkeypatch.setattr(loading, "_RETRIES", 1)
    assert_well_formed(load_dataset("mnist", progress=False))
    assert answer.asked == 2


def test_a_damaged_file_in_the_cache_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path
) -> None:
    answer = Answer(npz_bytes(some_arrays()))
    site.publish(monkeypatch, "mnist", {"mnist.npz": answer})
    load_dataset("mnist", progress=False)
    (cached,) = (tmp_path / "cache").rglob("mnist.npz")
    cached.write_bytes(answer.body[:-1])
    assert_well_formed(load_dataset("mnist", progress=False))
    assert answer.asked == 2


GOOD = npz_bytes(some_arrays())


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (Answer(GOOD, status=404), "127.0.0.1 answered 404 Not Found"),
        (Answer(GOOD, status=500), "127.0.0.1 answered 500"),
        (Answer(GOOD[:-1] + b"?"), "is not the published file .*checksum"),
        (Answer(GOOD + b"more", claimed=-1), "is not the published file .*size"),
        (Answer(GOOD[:1000], claimed=len(GOOD)), "it broke off"),
        (Answer(GOOD[:1000], claimed=-1), "is not the published file"),
        (Answer(b"<html>Log in to the Wi-Fi</html>"), "is not the published file"),
        (Answer(GOOD, stall=1), "did not answer in time"),
    ],
    ids=["404", "500", "wrong byte", "too long", "cut short", "cut short unnoticed", "captive portal", "silent"],
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path, sent: Answer, words: str
) -> None:
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(GOOD)})
    site.answers["/mnist.npz"] = replace(sent)
    if sent.stall:
        monkeypatch.setattr(loading, "_TIMEOUT", (0.3, 0.3))
    with pytest.raises(InputError, match=words) as caught:
        load_dataset("mnist", progress=False)
    assert cache_files(tmp_path) == []
    assert_says_what_to_do(str(caught.value))


def test_a_stream_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(GOOD)})
    stream = site.answers["/mnist.npz"] = Answer(bytes(100_000_000), claimed=-1)
    with pytest.raises(InputError, match="is not the published file"):
        load_dataset("mnist", progress=False)
    assert stream.sent < 50_000_000


def assert_says_what_to_do(sentence: str) -> None:
    assert sentence.startswith("mnist is not on this machine and could not be downloaded: ")
    assert "connect to the internet" in sentence
    assert "put mnist.npz (arrays x_train, y_train, x_test, y_test) into the folder" in sentence
    assert "CNN_TOOLKIT_DATA" in sentence
    assert "use digits" in sentence
    assert "\n" not in sentence
    assert ". " not in sentence


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_without_a_network_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    file = replace(DATASETS["mnist"].files[0], url=f"http://{host}/mnist.npz")
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], files=(file,)))
    with pytest.raises(InputError, match=f"there is no connection to {host.partition(':')[0]}") as caught:
        load_dataset("mnist", progress=False)
    assert_says_what_to_do(str(caught.value))


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path) -> None:
    site.publish(monkeypatch, "mnist", {"mnist.npz": Answer(GOOD)})
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CNN_TOOLKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="the cache cannot be written"):
        load_dataset("mnist", progress=False)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0"), gzip.compress(b"\0\0\x08\x03\0\0"), b""],
    ids=["text", "floats", "cut short", "empty"],
)
def test_idx_files_that_are_none(monkeypatch: pytest.MonkeyPatch, site: Site, content: bytes) -> None:
    files = fashion_files(some_arrays()) | {DATASETS["fashion_mnist"].files[0].name: Answer(content)}
    site.publish(monkeypatch, "fashion_mnist", files)
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz cannot be used"):
        load_dataset("fashion_mnist", progress=False)


# CIFAR's archives of pickles


def python2_pickle(rows: Pixels, labels: Sequence[int], label_key: bytes) -> bytes:
    """The bytes that Python 2's pickle wrote for the official batches (protocol 2, byte strings, NumPy 1)."""

    def text(value: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    new_array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    new_dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype = new_dtype + b"(K\x03" + text(b"|") + b"NNN" + 2 * number(-1) + b"K\x00tb"
    shape = b"".join(number(size) for size in rows.shape) + b"\x86"
    raw = b"T" + struct.pack("<I", rows.size) + rows.tobytes()
    data = new_array + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    numbers = b"](" + b"".join(number(label) for label in labels) + b"e"
    items = text(b"batch_label") + text(b"a batch") + text(label_key) + numbers + text(b"data") + data
    return b"\x80\x02}(" + items + b"u."


def tar_gz(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def planes(images: Pixels) -> Pixels:
    """As the authors store an image: its 1,024 red pixels row by row, then the green, then the blue ones."""
    return np.concatenate([images[..., channel].reshape(-1, 1024) for channel in range(3)], axis=1)


def cifar10_members(arrays: Arrays) -> dict[str, bytes]:
    """Five training batches and the test batch in the order of the official archive, which is not 1 to 5."""
    train = [
        python2_pickle(planes(x), y.tolist(), b"labels")
        for x, y in zip(np.split(arrays["x_train"], 5), np.split(arrays["y_train"], 5), strict=True)
    ]
    test = python2_pickle(planes(arrays["x_test"]), arrays["y_test"].tolist(), b"labels")
    folder = "cifar-10-batches-py"
    return {
        f"{folder}/data_batch_4": train[3],
        f"{folder}/readme.html": b"<html></html>",
        f"{folder}/test_batch": test,
        **{f"{folder}/data_batch_{number}": train[number - 1] for number in (3, 2, 5, 1)},
    }


def cifar_arrays(classes: int = 10) -> Arrays:
    return some_arrays(n_train=15, n_test=5, shape=(32, 32, 3), classes=classes)


def assert_same(loaded: Dataset, arrays: Arrays) -> None:
    assert_well_formed(loaded)
    assert np.array_equal(loaded.x_train, arrays["x_train"])
    assert np.array_equal(loaded.y_train, arrays["y_train"])
    assert np.array_equal(loaded.x_test, arrays["x_test"])
    assert np.array_equal(loaded.y_test, arrays["y_test"])


def test_the_batches_of_these_tests_are_what_numpy_pickles() -> None:
    rows = np.arange(6144, dtype=np.uint8).reshape(2, 3072)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the old home of NumPy's internals
        batch = pickle.loads(python2_pickle(rows, [3, 4], b"labels"), encoding="bytes")
    assert batch[b"labels"] == [3, 4]
    assert np.array_equal(batch[b"data"], rows)
    assert batch[b"data"].dtype == np.uint8


def test_cifar10_from_its_archive(monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path) -> None:
    arrays = cifar_arrays()
    site.publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": Answer(tar_gz(cifar10_members(arrays)))})
    assert_same(load_dataset("cifar10", progress=False), arrays)
    assert cache_files(tmp_path) == ["cifar-10-python.tar.gz"]


def test_cifar100_has_its_fine_labels(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    arrays = cifar_arrays(classes=100)
    members = {
        f"cifar-100-python/{part}": python2_pickle(planes(arrays[f"x_{part}"]), arrays[f"y_{part}"].tolist(), key)
        for part, key in (("train", b"fine_labels"), ("test", b"fine_labels"))
    }
    site.publish(monkeypatch, "cifar100", {"cifar-100-python.tar.gz": Answer(tar_gz(members))})
    assert_same(load_dataset("cifar100", progress=False), arrays)


@pytest.mark.parametrize("protocol", [3, 4])
def test_batches_pickled_by_a_newer_python_and_numpy(
    monkeypatch: pytest.MonkeyPatch, site: Site, protocol: int
) -> None:
    arrays = cifar_arrays()
    members = cifar10_members(arrays)
    for number, (x, y) in enumerate(zip(np.split(arrays["x_train"], 5), np.split(arrays["y_train"], 5), strict=True)):
        batch = {b"data": np.ascontiguousarray(planes(x)), b"labels": y.tolist()}
        members[f"cifar-10-batches-py/data_batch_{number + 1}"] = pickle.dumps(batch, protocol)
    site.publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": Answer(tar_gz(members))})
    assert_same(load_dataset("cifar10", progress=False), arrays)


def hostile(victim: Path) -> dict[str, bytes]:
    command = f"touch {victim}".encode()
    code = f"open({str(victim)!r}, 'w')".encode()
    array = python2_pickle(np.zeros((1, 3072), np.uint8), [0], b"labels")
    return {
        "a method": pickle.dumps({b"data": Bomb(victim), b"labels": [0]}),
        "a command": b"cposix\nsystem\n(U" + bytes([len(command)]) + command + b"tR.",
        "a builtin": b"c__builtin__\neval\n(U" + bytes([len(code)]) + code + b"tR.",
        "inside numpy": b"cnumpy\nload\n(U" + bytes([len(command)]) + command + b"tR.",
        "behind an array": array[:-1] + b"0" + b"cos\nsystem\n(U" + bytes([len(command)]) + command + b"tR.",
    }


@pytest.mark.parametrize("kind", hostile(Path("victim")))
def test_a_pickle_that_wants_to_run_code_is_refused(
    monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path, kind: str
) -> None:
    victim = tmp_path / "victim"
    members = cifar10_members(cifar_arrays()) | {"cifar-10-batches-py/data_batch_3": hostile(victim)[kind]}
    site.publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": Answer(tar_gz(members))})
    with pytest.raises(InputError, match=r"it asks to run [\w.]+, which no dataset needs"):
        load_dataset("cifar10", progress=False)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (None, "it lacks cifar-10-batches-py/data_batch_3"),
        (b"", "cannot be used"),
        (pickle.dumps({b"data": 5, b"labels": [0]}), "cannot be used"),
        (pickle.dumps([1, 2]), "cannot be used"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [0], b"other")[:-9], "cannot be used"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [0], b"other"), "labels"),
        (python2_pickle(np.zeros((1, 3071), np.uint8), [0], b"labels"), "reshape"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [0, 1], b"labels"), r"shape \(13,\)"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [10], b"labels"), "from 0 to 9"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [0], b"labels").replace(b"U\x02u1", b"U\x02f8"), "bytes"),
    ],
    ids=[
        "missing",
        "empty",
        "number",
        "list",
        "cut short",
        "no labels",
        "short rows",
        "two labels",
        "label 10",
        "floats",
    ],
)
def test_damaged_batches(monkeypatch: pytest.MonkeyPatch, site: Site, member: bytes | None, words: str) -> None:
    members = cifar10_members(cifar_arrays())
    del members["cifar-10-batches-py/data_batch_3"]
    if member is not None:
        members["cifar-10-batches-py/data_batch_3"] = member
    site.publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": Answer(tar_gz(members))})
    with pytest.raises(InputError, match=words):
        load_dataset("cifar10", progress=False)


def test_an_archive_writes_nothing_outside_the_cache(
    monkeypatch: pytest.MonkeyPatch, site: Site, tmp_path: Path
) -> None:
    arrays = cifar_arrays()
    members = cifar10_members(arrays) | {"../../escaped": b"!", str(tmp_path / "absolute"): b"!"}
    site.publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": Answer(tar_gz(members))})
    assert_same(load_dataset("cifar10", progress=False), arrays)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["cifar-10-python.tar.gz"]


# Names


@pytest.mark.parametrize("name", ["mnits", "no/such/folder", "~nobody", "x" * 5000, "nul\0"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"is neither a dataset \(digits, mnist, .* nor a folder; choose"):
        load_dataset(name)


def test_a_path_object_is_a_folder_even_under_the_name_of_a_dataset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nor a folder"):
        load_dataset(Path("digits"))


def test_named_datasets_have_one_size() -> None:
    with pytest.raises(InputError, match=r"digits have 28 × 28 pixels: leave image_size out"):
        load_dataset("digits", image_size=32)


# Folders


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def fill(folder: Path, counts: Mapping[str, int], suffix: str = ".jpg") -> Path:
    """Class folders with plain images; the colour tells the class."""
    colours = {"blue": BLUE, "green": GREEN, "red": RED}
    for name, count in counts.items():
        for number in range(count):
            save(folder / name / f"{number}{suffix}", colours[name], (40 + number, 30))
    return folder


def assert_colours_match(images: Pixels, labels: NDArray[np.int64], names: Sequence[str]) -> None:
    channel = {"red": 0, "green": 1, "blue": 2}
    means = images.mean(axis=(1, 2))
    assert [channel[names[label]] for label in labels] == means.argmax(axis=1).tolist()
    assert means.max(axis=1).min() > 250


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".ppm", ".JPEG"])
def test_a_folder_of_classes_is_split_by_class(tmp_path: Path, suffix: str) -> None:
    loaded = load_dataset(str(fill(tmp_path / "zoo", {"red": 10, "blue": 5}, suffix)), image_size=16, progress=False)
    assert_well_formed(loaded)
    info = loaded.info
    assert (info.name, info.class_names, info.image_shape) == ("zoo", ("blue", "red"), (16, 16, 3))
    assert info.source == str(tmp_path / "zoo")
    assert class_counts(loaded.y_train, info.class_names) == {"blue": 4, "red": 8}
    assert class_counts(loaded.y_test, info.class_names) == {"blue": 1, "red": 2}
    assert_colours_match(loaded.x_train, loaded.y_train, info.class_names)
    assert_colours_match(loaded.x_test, loaded.y_test, info.class_names)
    assert loaded.skipped == ()


def shaded(folder: Path) -> Path:
    for name in ("a", "b"):
        for number in range(20):
            save(folder / name / f"{number}.png", (10 * number, 0, 0))
    return folder


def test_the_seed_decides_the_split_of_a_folder(tmp_path: Path) -> None:
    folder = shaded(tmp_path / "shades")
    first, again, other = (load_dataset(folder, image_size=4, seed=seed, progress=False) for seed in (1, 1, 2))
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)
    everything = np.concatenate([first.x_train, first.x_test])[:, 0, 0, 0]
    assert Counter(everything.tolist()) == Counter([10 * number for number in range(20)] * 2)


@pytest.mark.parametrize(
    ("parts", "train", "test"),
    [
        ({"train": 4, "test": 2}, 4, 2),
        ({"train": 4, "val": 3}, 4, 3),
        ({"train": 4, "val": 3, "test": 2}, 7, 2),
        ({"Train": 4, "Test": 1}, 4, 1),
        ({"train": 4, "valid": 3, "test": 2}, 7, 2),
        ({"train": 4, "Validation": 3}, 4, 3),
        ({"train": 10}, 8, 2),
    ],
)
def test_parts_of_a_folder(tmp_path: Path, parts: Mapping[str, int], train: int, test: int) -> None:
    for part, count in parts.items():
        fill(tmp_path / part, {"red": count, "green": count})
    (tmp_path / "LICENSE").write_text("a file beside the parts")
    loaded = load_dataset(tmp_path, progress=False)
    assert_well_formed(loaded)
    assert loaded.info.class_names == ("green", "red")
    assert loaded.info.image_shape == (64, 64, 3)
    assert np.bincount(loaded.y_train).tolist() == [train, train]
    assert np.bincount(loaded.y_test).tolist() == [test, test]
    assert_colours_match(loaded.x_test, loaded.y_test, loaded.info.class_names)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png", RED)
    assert load_dataset(tmp_path, progress=False).info.class_names == ("bus", "train")


def test_subfolders_of_a_class_count_and_hidden_things_do_not(tmp_path: Path) -> None:
    fill(tmp_path, {"red": 2, "green": 2})
    save(tmp_path / "red" / "more" / "deep.png", RED)
    (tmp_path / "red" / ".DS_Store").write_bytes(b"junk")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    loaded = load_dataset(tmp_path, progress=False)
    assert loaded.info.class_names == ("green", "red")
    assert class_counts(np.concatenate([loaded.y_train, loaded.y_test]), ("green", "red")) == {"green": 2, "red": 3}
    assert loaded.skipped == ()


def test_image_size_may_be_height_and_width(tmp_path: Path) -> None:
    loaded = load_dataset(fill(tmp_path, {"red": 2, "blue": 2}), image_size=(10, 24), progress=False)
    assert loaded.info.image_shape == (10, 24, 3)
    assert loaded.x_train.shape == (2, 10, 24, 3)


def photo_bytes(kind: str = "JPEG", size: tuple[int, int] = (400, 300)) -> bytes:
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size)
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A valid start of a 1-bit PNG of any size in 70 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_unusable_files_are_named_and_the_others_loaded(tmp_path: Path) -> None:
    fill(tmp_path, {"red": 3, "blue": 3})
    unusable = {
        "cut.jpg": (photo_bytes()[:-3000], "damaged"),
        "empty.png": (b"", "none of JPEG, PNG"),
        "notes.txt": (b"no image", "none of JPEG, PNG"),
        "web.jpg": (b"<html>404</html>", "none of JPEG, PNG"),
        "huge.png": (png_header(20_000, 10_000), "more than 50,000,000 pixels"),
        "large.png": (png_header(10_000, 10_000), "more than 50,000,000 pixels"),
        "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "none of JPEG, PNG"),
    }
    for name, (content, _) in unusable.items():
        (tmp_path / "red" / name).write_bytes(content)
    loaded = load_dataset(tmp_path, progress=False)
    assert_well_formed(loaded)
    assert loaded.info.train_size + loaded.info.test_size == 6
    assert_colours_match(loaded.x_train, loaded.y_train, loaded.info.class_names)
    assert [Path(path).name for path, _ in loaded.skipped] == sorted(unusable)
    for path, reason in loaded.skipped:
        assert unusable[Path(path).name][1] in reason


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "subfolder of images for each of at least two classes; 0 came"),
        ({"red": 5}, "at least two classes; 1 came"),
        ({"red": 5, "blue": 1}, r"class 'blue' in .* at least 2 images \(one to train and one to test\); 1 came"),
    ],
)
def test_too_few_images_or_classes(tmp_path: Path, counts: Mapping[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_dataset(fill(tmp_path, counts), progress=False)


def test_a_class_whose_images_are_all_damaged(tmp_path: Path) -> None:
    fill(tmp_path, {"red": 2})
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"class 'blue' .*; 0 came; 1 could not be read, the first because"):
        load_dataset(tmp_path, progress=False)


def test_a_folder_without_a_single_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("later")
    with pytest.raises(InputError, match=r"class 'a' .*; 0 came; 2 could not be read"):
        load_dataset(tmp_path, progress=False)


def test_a_folder_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def closed(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); choose a folder"):
        load_dataset(tmp_path)


def test_parts_must_have_the_same_classes(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"red": 2, "blue": 2})
    fill(tmp_path / "test", {"red": 2, "green": 2})
    with pytest.raises(InputError, match="should hold the same class folders; they differ in blue, green"):
        load_dataset(tmp_path, progress=False)


def test_a_test_part_needs_every_class(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"red": 2, "blue": 2})
    fill(tmp_path / "test", {"red": 2})
    (tmp_path / "test" / "blue").mkdir()
    with pytest.raises(InputError, match=r"class 'blue' in .*test should have at least 1 images \(to test\); 0 came"):
        load_dataset(tmp_path, progress=False)


@pytest.mark.parametrize("size", [0, -3, 1025, True, 32.5, "64", (64, 0)])
def test_impossible_image_sizes(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InputError, match=r"image_size \((height|width)\) must be"):
        load_dataset(fill(tmp_path, {"red": 2, "blue": 2}), image_size=size, progress=False)


def test_a_folder_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = fill(tmp_path, {"red": 2, "blue": 2})
    monkeypatch.setattr(loading, "available_memory", lambda: 2 * 4 * 64 * 64 * 3)
    assert load_dataset(folder, progress=False).info.train_size == 2
    monkeypatch.setattr(loading, "available_memory", lambda: 2 * 4 * 64 * 64 * 3 - 1)
    with pytest.raises(InputError, match=r"4 images of 64 × 64 pixels .* need 98,304 bytes .*98,303 are free"):
        load_dataset(folder, progress=False)


def test_reading_a_folder_shows_progress_when_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path, {"red": 2, "blue": 2})
    load_dataset(folder, progress=False)
    assert capfd.readouterr() == ("", "")
    load_dataset(folder, progress=True)
    assert "4/4" in capfd.readouterr().err


def test_photos_of_waste() -> None:
    folder = DATA / "photos" / "trashnet6"
    if not folder.is_dir():
        pytest.skip("CNN_TOOLKIT_DATA has no photos/trashnet6")
    loaded = load_dataset(folder, image_size=32, progress=False)
    assert_well_formed(loaded)
    everything = np.concatenate([loaded.y_train, loaded.y_test])
    waste = {"cardboard": 160, "glass": 160, "metal": 160, "paper": 160, "plastic": 160, "trash": 137}
    assert class_counts(everything, loaded.info.class_names) == waste
    assert np.bincount(loaded.y_test).tolist() == [32, 32, 32, 32, 32, 27]
    assert loaded.skipped == ()


# Single images


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette_image(transparency: int | None) -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *GREEN])
    return encoded(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


def grey16(value: int) -> Image.Image:
    return Image.fromarray(np.full((4, 4), value, np.uint16))


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (encoded(Image.new("RGB", (4, 4), GREEN), "PNG"), GREEN),
        (encoded(Image.new("L", (4, 4), 77), "PNG"), (77, 77, 77)),
        (encoded(Image.new("1", (4, 4), 1), "PNG"), WHITE),
        (palette_image(transparency=None), GREEN),
        (palette_image(transparency=1), WHITE),
        (palette_image(transparency=0), GREEN),
        (encoded(Image.new("RGBA", (4, 4), (*RED, 255)), "PNG"), RED),
        (encoded(Image.new("RGBA", (4, 4), (*RED, 0)), "PNG"), WHITE),
        (encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "WEBP", lossless=True), (127, 127, 127)),
        (encoded(Image.new("LA", (4, 4), (0, 0)), "PNG"), WHITE),
        (encoded(Image.new("RGB", (4, 4), BLUE), "PNG", transparency=BLUE), WHITE),
        (encoded(grey16(0x8000), "PNG"), (128, 128, 128)),
        (encoded(grey16(0xFFFF), "TIFF"), WHITE),
        (encoded(grey16(0x00FF), "PNG"), BLACK),
        (encoded(Image.new("I", (4, 4), 0x4000), "TIFF"), (64, 64, 64)),
        (encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), RED),
        (encoded(Image.new("CMYK", (16, 16), (255, 255, 0, 0)), "JPEG", quality=100), BLUE),
        (encoded(Image.new("RGB", (4, 4), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4))]), RED),
    ],
)
def test_images_look_as_a_person_sees_them(data: bytes, seen: tuple[int, int, int]) -> None:
    image = decode_image(data)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert np.abs(image.reshape(-1, 3).astype(int) - seen).max() <= 1


# Where the stored top left corner belongs, for each value of the tag: the EXIF standard's "0th row, 0th column".
CORNERS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("top", "left"),
    6: ("top", "right"),
    7: ("bottom", "right"),
    8: ("bottom", "left"),
}


@pytest.mark.parametrize("orientation", CORNERS)
def test_photos_stand_upright(orientation: int) -> None:
    stored = Image.new("RGB", (64, 32))
    stored.paste(RED, (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, "JPEG", exif=exif, quality=95))
    assert image.shape == ((32, 64, 3) if orientation <= 4 else (64, 32, 3))
    vertical, horizontal = CORNERS[orientation]
    corner = image[2 if vertical == "top" else -3, 2 if horizontal == "left" else -3]
    assert corner.astype(int) == pytest.approx(RED, abs=12)
    assert (image[..., 0] > 128).mean() == pytest.approx(1 / 16, abs=0.02)


def test_a_path_is_as_good_as_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo_bytes())
    assert np.array_equal(decode_image(path), decode_image(path.read_bytes()))
    assert np.array_equal(decode_image(str(path)), decode_image(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it is empty"), (b"<html>404</html>", "it is a web page"), (b"no image", "none of JPEG")],
)
def test_bytes_and_file_are_told_by_the_same_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as of_bytes:
        decode_image(content)
    with pytest.raises(InputError) as of_file:
        decode_image(path)
    assert str(of_bytes.value) == str(of_file.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "none of JPEG"),
        (b"GIF89a", "none of JPEG"),
        (photo_bytes()[:500], "damaged"),
        (photo_bytes("PNG")[:-400], "damaged"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
        (Path("no/such/file.png"), "No such file"),
    ],
)
def test_unusable_images_get_a_sentence(data: bytes | Path, words: str) -> None:
    with pytest.raises(InputError, match=f"^the image cannot be used: .*{words}.*; choose another"):
        decode_image(data)


@pytest.mark.parametrize("width", [5001, 9000, 17_000, 20_000, 2_000_000])
def test_images_beyond_the_limit_are_refused_by_their_header(width: int) -> None:
    with pytest.raises(InputError, match="the image has more than 50,000,000 pixels; make it smaller"):
        decode_image(png_header(width, 10_000))


def test_the_limit_is_exact_and_can_be_chosen() -> None:
    data = encoded(Image.new("RGB", (20, 10)), "PNG")
    assert decode_image(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(InputError, match="more than 199 pixels"):
        decode_image(data, max_pixels=199)


def test_a_200_megapixel_image_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(path)
    assert path.stat().st_size < 100_000
    grown = run_python(
        "from toolkit.loading import decode_image, load_dataset\n"
        "from toolkit.system import peak_memory\n"
        "load_dataset('digits')\n"
        "before = peak_memory()\n"
        "try:\n"
        f"    decode_image({str(path)!r})\n"
        "except ValueError:\n"
        "    print(peak_memory() - before)\n"
    )
    assert int(grown) < 5_000_000


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_bytes_raise_anything_but_input_error(data: st.DataObject) -> None:
    good = bytearray(data.draw(st.sampled_from(SMALL_IMAGES)))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(good[: data.draw(st.integers(0, len(good)))]) if data.draw(st.booleans()) else bytes(good)
    with suppress(InputError):
        image = decode_image(content, max_pixels=100_000)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert image.size <= 3 * 100_000


SMALL_IMAGES = [
    *(photo_bytes(kind, (12, 9)) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")),
    palette_image(transparency=1),
    encoded(grey16(300), "PNG"),
]


def test_decoding_in_many_threads_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(decode_image, [photo_bytes()] * 40))
    assert warnings.filters == before
    assert all(np.array_equal(image, images[0]) for image in images)


def test_a_large_photo_may_come_out_smaller_when_it_is_wanted_small() -> None:
    data = photo_bytes(size=(1600, 1200))
    full, small = decode_image(data), decode_image(data, near=100)
    assert full.shape == (1200, 1600, 3)
    assert 200 <= small.shape[0] < 1200
    difference = prepare_image(full, (75, 100, 3)).astype(int) - prepare_image(small, (75, 100, 3))
    assert np.abs(difference).max() <= 3
    assert decode_image(data, near=600).shape == full.shape


def thirds() -> Pixels:
    """Red, green and blue side by side, 90 × 30."""
    image = np.zeros((30, 90, 3), np.uint8)
    for part in range(3):
        image[:, 30 * part : 30 * (part + 1), part] = 255
    return image


def test_cropping_keeps_the_middle_and_the_proportions() -> None:
    wide, tall = thirds(), np.ascontiguousarray(thirds().transpose(1, 0, 2))
    for image in (wide, tall):
        fitted = prepare_image(image, (10, 10, 3))
        assert fitted[2:-2, 2:-2].reshape(-1, 3).tolist() == [[0, 255, 0]] * 36


def test_padding_shows_all_of_it_between_black_bars() -> None:
    fitted = prepare_image(thirds(), (30, 30, 3), fit="pad")
    assert not fitted[:10].any()
    assert not fitted[20:].any()
    assert [fitted[15, column].tolist() for column in (4, 14, 24)] == [list(RED), list(GREEN), list(BLUE)]


def test_grey_is_weighted_as_in_bt601() -> None:
    for colour, grey in ((RED, 76), (GREEN, 150), (BLUE, 29), (WHITE, 255)):
        image = np.full((8, 8, 3), colour, np.uint8)
        assert np.unique(prepare_image(image, (8, 8, 1))).tolist() == [grey]


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize("wanted", [(28, 28, 1), (32, 32, 3), (5, 9, 3), (64, 1, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_every_kind_of_image_gets_the_shape_asked_for(
    shape: tuple[int, ...], wanted: tuple[int, int, int], fit: loading.Fit
) -> None:
    fitted = prepare_image(np.full(shape, 200, np.uint8), wanted, fit=fit)
    assert fitted.dtype == np.uint8
    assert fitted.shape == wanted
    assert fitted.flags.c_contiguous


def test_an_image_that_fits_already_is_left_as_it_is() -> None:
    digits = load_dataset("digits")
    assert np.array_equal(prepare_image(digits.x_test[0], (28, 28, 1)), digits.x_test[0])
    photo = decode_image(photo_bytes(size=(32, 32)))
    assert np.array_equal(prepare_image(photo, (32, 32, 3)), photo)


def test_transparent_pixels_lie_on_white() -> None:
    assert np.unique(prepare_image(np.zeros((8, 8, 4), np.uint8), (4, 4, 1))).tolist() == [255]


def test_an_upload_is_prepared_as_the_folder_was(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            path = tmp_path / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(photo_bytes(size=(1600, 1200)))
    from_folder = load_dataset(tmp_path, image_size=48, progress=False).x_test[0]
    uploaded = prepare_image(decode_image(photo_bytes(size=(1600, 1200))), (48, 48, 3))
    assert np.abs(from_folder.astype(int) - uploaded).max() <= 3


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(16, np.uint8), r"\(16,\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
    ],
)
def test_arrays_that_are_no_images(image: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"an image should be uint8 .*{words}"):
        prepare_image(image, (28, 28, 1))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 2), (0, 28, 1)])
def test_shapes_that_are_no_image_shapes(shape: Any) -> None:
    with pytest.raises(InputError, match=r"image_shape should be \(height, width, 1\)"):
        prepare_image(np.zeros((4, 4), np.uint8), shape)


# Labels

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=200)
SEEDS = st.integers(0, 2**32)


@given(LABELS, st.floats(0, 1, exclude_max=True), SEEDS)
def test_a_split_is_disjoint_complete_by_class_and_reproducible(y: list[int], fraction: float, seed: int) -> None:
    train, validation = train_validation_split(y, fraction, seed)
    assert train.dtype == validation.dtype == np.int64
    assert sorted([*train, *validation]) == list(range(len(y)))
    assert train.tolist() == sorted(train.tolist())
    assert validation.tolist() == sorted(validation.tolist())
    everyone, held_out = Counter(y), Counter(y[index] for index in validation)
    for label, count in everyone.items():
        least = 0 if fraction == 0 or count == 1 else 1
        wanted = min(max(fraction * count, least), count - 1)
        assert abs(held_out[label] - wanted) <= 0.5
        assert least <= held_out[label] < count
    for again, first in zip(train_validation_split(np.array(y), fraction, seed), (train, validation), strict=True):
        assert np.array_equal(again, first)


@given(SEEDS)
def test_another_seed_gives_another_split(seed: int) -> None:
    y = np.arange(400) % 4
    _, first = train_validation_split(y, 0.25, seed)
    _, second = train_validation_split(y, 0.25, seed + 1)
    assert not np.array_equal(first, second)


def test_every_item_has_the_same_chance_to_be_held_out() -> None:
    y = np.zeros(10, int)
    times = np.zeros(10)
    for seed in range(1000):
        times[train_validation_split(y, 0.3, seed)[1]] += 1
    assert np.abs(times - 300).max() < 5 * np.sqrt(1000 * 0.3 * 0.7)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_impossible_fractions(fraction: float) -> None:
    with pytest.raises(InputError, match="the fraction should be from 0 up to"):
        train_validation_split([0, 1], fraction, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_impossible_seeds(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be"):
        train_validation_split([0, 1], 0.5, seed)


@pytest.mark.parametrize("labels", [[], [[0, 1]], [0.5], [-1, 0], ["a"]])
def test_impossible_labels(labels: Any) -> None:
    with pytest.raises(InputError, match="labels should be whole numbers from 0"):
        train_validation_split(labels, 0.5, 0)


def numbered(labels: Sequence[int]) -> Dataset:
    """A dataset whose pixels say which image it is."""
    n = len(labels)
    pixels = np.stack([np.arange(n) // 256, np.arange(n) % 256], axis=1).astype(np.uint8).reshape(n, 1, 2, 1)
    info = DatasetInfo("n", "n", (1, 2, 1), tuple("abcdefg"), n, n, "", "", "")
    y = np.array(labels, np.int64)
    return Dataset(info, pixels, y, pixels, y)


def numbers(images: Pixels) -> list[int]:
    return [256 * int(image[0, 0, 0]) + int(image[0, 1, 0]) for image in images]


@given(st.lists(st.integers(0, 6), min_size=40, max_size=200), st.integers(7, 100), SEEDS)
def test_a_subset_is_balanced_nested_and_keeps_images_with_their_labels(y: list[int], limit: int, seed: int) -> None:
    dataset = numbered(y)
    small, larger = take(dataset, limit, seed), take(dataset, limit + 1, seed)
    chosen = numbers(small.x_train)
    assert len(chosen) == min(limit, len(y)) == small.info.train_size
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(numbers(larger.x_train))
    assert [y[index] for index in chosen] == small.y_train.tolist()
    everyone, taken = Counter(y), Counter(small.y_train.tolist())
    unexhausted = [taken[label] for label in everyone if taken[label] < everyone[label]]
    assert all(count >= max(taken.values()) - 1 for count in unexhausted)
    assert small.x_test is dataset.x_test
    assert numbers(take(dataset, limit, seed).x_train) == chosen


def test_no_limit_takes_everything() -> None:
    dataset = numbered([0, 1, 2])
    assert take(dataset, None, 0) is dataset
    assert numbers(take(dataset, 1000, 0).x_train) == [0, 1, 2]


@pytest.mark.parametrize("limit", [0, -1, 6, 2.5, "many"])
def test_a_limit_leaves_no_class_out(limit: Any) -> None:
    with pytest.raises(InputError, match="train_limit must be"):
        take(numbered([0] * 20), limit, 0)


@given(LABELS)
def test_counts_are_those_of_a_counter(y: list[int]) -> None:
    counter = Counter(y)
    assert class_counts(y, "abcdefg") == {name: counter[label] for label, name in enumerate("abcdefg")}


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(InputError, match="labels should be below 2, the number of classes; 2 came"):
        class_counts([0, 1, 2], ("cat", "dog"))
