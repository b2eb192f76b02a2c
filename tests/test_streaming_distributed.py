"""Several workers: a service that deals out parts, training in step, and what happens when one of them is killed."""

import contextlib
import csv
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.image_server import ImageServer
from tests.test_streaming_shards import tar
from toolkit import processes
from toolkit.distributed_command import (
    Finished,
    Lost,
    Service,
    _epochs,
    epoch_text,
    service_command,
    train_workers_command,
)
from toolkit.errors import InputError
from toolkit.streaming.distributed import (
    Images,
    PartResult,
    WorkerPlan,
    _known,
    dataset_id,
    epochs_done,
    free_ports,
    padded,
    parts_for,
    read_service,
    saved_model,
    service_dataset,
)
from toolkit.streaming.settings import StreamSettings

SIDE, COUNT, SHARDS = 16, 90, 8


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of images, each a plain colour that tells its number, which is its label as well."""
    folder = tmp_path_factory.mktemp("images")
    with (folder / "list.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label"])
        for number in range(COUNT):
            path = folder / f"{number}.png"
            Image.new("RGB", (SIDE, SIDE), (number, 2 * number, 7)).save(path)
            lines.writerow([path, number])
    return folder / "list.csv"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, listed: Path) -> str:
    """The same images in eight tar shards."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(SHARDS):
        numbers = range(shard, COUNT, SHARDS)
        image = {number: (listed.parent / f"{number}.png").read_bytes() for number in numbers}
        files = [pair for n in numbers for pair in ((f"{n}.png", image[n]), (f"{n}.cls", str(n).encode()))]
        (folder / f"{shard}.tar").write_bytes(tar(files))
    return str(folder / f"{{0..{SHARDS - 1}}}.tar")


def settings() -> StreamSettings:
    return StreamSettings(SIDE, 4)


@given(st.integers(0, 10**7), st.integers(1, 512), st.integers(1, 64))
def test_an_epoch_is_cut_into_parts_that_are_not_empty(images: int, batch_size: int, workers: int) -> None:
    parts = parts_for(images, batch_size, workers)
    assert 1 <= parts <= max(images, 1)
    assert parts >= min(workers, images)


def test_whatever_can_be_streamed_can_be_shared_out(listed: Path, sharded: str, tmp_path: Path) -> None:
    lines = [json.dumps({"url": str(listed.parent / f"{number}.png"), "label": number}) for number in range(9)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    for source, count in ((str(tmp_path / "list.jsonl"), 9), (str(listed), COUNT), (sharded, COUNT)):
        images = Images(source, settings())
        found = []
        for part in range(parts := images.parts(2)):
            with images.open(part, parts) as stream:
                found += [int(label) for _, labels in stream for label in labels]
        assert sorted(found) == list(range(count))
    assert (Images(str(listed), settings()).classes(), images.classes(COUNT)) == (COUNT, COUNT)
    assert Images(sharded, settings(), ("a", "b")).classes() == 2
    with pytest.raises(InputError, match="known when they end; say it with --classes 10"):
        images.classes()
    with pytest.raises(InputError, match="8 shards cannot be divided among 9"):
        images.open(0, 9)


@given(st.lists(st.integers(0, 4), max_size=6))
def test_padding_keeps_every_image_once(sizes: list[int]) -> None:
    """Batches of any size become full ones; the weights say which images came, and after the last batch none did."""
    total = sum(sizes)
    images = np.arange(1, total + 1, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)
    ends = np.cumsum([0, *sizes])
    batches = [(images[a:b], np.arange(a, b)) for a, b in pairwise(ends)]
    filled = padded(batches, 4, (2, 2, 3))
    found = [next(filled) for _ in range(len(sizes) + 2)]
    assert all(x.shape == (4, 2, 2, 3) and y.shape == (4,) and w.shape == (4,) for x, y, w in found)
    assert [label for _, y, w in found for label in y[w == 1]] == list(range(total))
    assert [pixel for x, _, w in found for pixel in x[w == 1][:, 0, 0, 0]] == list(range(1, total + 1))
    assert not any(w.any() for _, _, w in found[len(sizes) :])


def test_the_newest_model_counts(tmp_path: Path) -> None:
    for name in ("epochs-0002.keras", "epochs-0010.keras", "unfinished.keras", "epochs-x.keras"):
        (tmp_path / name).touch()
    assert epochs_done(tmp_path) == 10
    assert saved_model(tmp_path, 10).exists()


# The service.


@pytest.mark.parametrize("address", ["localhost:5050", "grpc://localhost", "grpc://:80", "http://localhost:80"])
def test_an_address_has_a_form(address: str) -> None:
    with pytest.raises(InputError, match="has an address such as grpc://localhost:5050"):
        service_dataset(address)


def test_nobody_there_is_a_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(
        InputError, match=f"nobody answers at grpc://127.0.0.1:{port}.*python -m toolkit stream-service"
    ):
        next(read_service(f"grpc://127.0.0.1:{port}"))


def test_other_backends_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    images = Images("no-such-file.csv", settings())
    with pytest.raises(InputError, match="stream-service needs TensorFlow, and Keras computes with jax"):
        service_command(images, 2, 1, 0, "localhost", "")
    with pytest.raises(InputError, match="train-workers needs TensorFlow, and Keras computes with jax"):
        train_workers_command(images, "small_cnn", 1, 1e-3, 2, tmp_path)


@pytest.mark.tensorflow
@pytest.mark.once
def test_a_service_gives_each_image_once_and_outlives_a_killed_worker(sharded: str, tmp_path: Path) -> None:
    said: list[str] = []
    with Service(Images(sharded, settings()), 2, 2, folder=tmp_path, said=said.append) as service:
        pids = [worker.pid for worker in service.processes if worker]
        found = list(read_service(service.address))
        assert sorted(label for _, labels in found for label in labels) == list(range(COUNT))
        assert all((images[:, 0, 0, 0] == labels).all() for images, labels in found)
        assert found[0][0].dtype == np.uint8

        labels = list(_labels_while_one_is_killed(service))
        assert len(set(labels)) == len(labels), "no image twice, even so"
        part = -(-COUNT // SHARDS)
        assert COUNT - 2 * part <= len(labels) <= COUNT
        assert [line.partition(";")[0] for line in said] == ["worker 2 is gone (it ended with signal 9)"]

        with pytest.raises(InputError, match="has no epoch 2; start it with more --epochs"):
            next(read_service(service.address, 2))
    psutil.wait_procs([psutil.Process(pid) for pid in pids if pid and psutil.pid_exists(pid)], timeout=5)
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)


def _labels_while_one_is_killed(service: Service) -> Iterator[int]:
    victim = service.processes[2]
    assert victim
    assert victim.pid
    for number, (_, labels) in enumerate(read_service(service.address, 1, silence_seconds=60)):
        yield from labels.tolist()
        if number == 0:
            os.kill(victim.pid, signal.SIGKILL)
            while victim.alive:
                time.sleep(0.01)
        service.look()


def test_who_does_not_speak_is_no_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"nobody answers at {address} \(timed out\)"):
            next(read_service(address, silence_seconds=0.1))
    with ImageServer() as images:
        address = f"grpc://127.0.0.1:{images.port}"
        with pytest.raises(InputError, match=rf"nobody answers at {address} \((something else|Connection reset)"):
            next(read_service(address))


@pytest.mark.tensorflow
@pytest.mark.once
def test_a_service_that_dies_in_mid_epoch_is_a_sentence_and_leaves_no_thread() -> None:
    import tensorflow as tf
    from tensorflow.data.experimental import service

    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    worker = service.WorkerServer(service.WorkerConfig(dispatcher.target.partition("://")[2]))
    images = tf.zeros((100, 2, 2, 3), tf.uint8)
    endless = tf.data.Dataset.from_tensor_slices((images, tf.range(100, dtype=tf.int64))).batch(5)
    service.register_dataset(dispatcher.target, endless, dataset_id=dataset_id(0))
    batches = read_service(dispatcher.target, silence_seconds=1.0)
    assert next(batches)[1].tolist() == [0, 1, 2, 3, 4]
    address = dispatcher.target
    worker._stop()
    dispatcher._stop()
    with pytest.raises(InputError, match=rf"{address} sent nothing for 1 s: it or one of its workers is gone"):
        list(batches)
    end = time.monotonic() + 10
    while any(thread.name == "tf.data service" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)


# Training.


@pytest.mark.tensorflow
@pytest.mark.once
@pytest.mark.skipif(not processes.can_fork(), reason="finds the workers below the fork server")
def test_two_workers_train_in_step_and_a_killed_one_ends_it_with_a_sentence(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(epochs: int) -> None:
        train_workers_command(Images(str(listed), settings()), "small_cnn", epochs, 1e-3, 2, tmp_path, as_json=True)

    killer = threading.Thread(target=_kill_one_after_some_epochs, args=(tmp_path,))
    killer.start()
    with pytest.raises(InputError, match=r"the training stopped: worker . of 2: ") as stopped:
        train(10_000)
    killer.join()
    done = epochs_done(tmp_path)
    sentence = (
        f"{saved_model(tmp_path, done)} holds the model after epoch {done}, and the same command goes on from there"
    )
    assert str(stopped.value).endswith(sentence)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(rf"epoch 1: loss .*, {COUNT} images \({COUNT // 2} \+ {COUNT // 2}\), .* s\n", err), err
    assert not _workers()

    train(done + 1)
    out, err = capsys.readouterr()
    assert err.startswith(f"going on after epoch {done}, from {saved_model(tmp_path, done)}\nepoch {done + 1}: loss")
    ((first, second),) = json.loads(out)["epochs"]
    assert first["weights"] == second["weights"] > 0
    assert (first["images"], second["images"], first["all_images"]) == (COUNT // 2, COUNT // 2, COUNT)
    assert (first["epoch"], first["loss"]) == (done, second["loss"])


def _workers() -> list[psutil.Process]:
    """The processes that the fork server has made and that still run, the oldest first."""
    server = processes.launcher()
    assert isinstance(server, processes.ForkServer)
    below = psutil.Process(server.pid).children()
    return sorted(below, key=lambda worker: worker.create_time())


def _kill_one_after_some_epochs(folder: Path) -> None:
    """Not the first one: that is saved a moment before the parent has heard of it and said so."""
    while epochs_done(folder) < 3:
        time.sleep(0.02)
    _workers()[-1].kill()


class Quoted:
    """A worker as its parent sees it, that says this, look after look."""

    def __init__(self, *said: list[object]) -> None:
        self._said = list(said)

    @property
    def alive(self) -> bool:
        return bool(self._said)

    def poll(self) -> list[object]:
        return self._said.pop(0) if self._said else []


def test_no_finished_epoch_goes_untold_when_a_worker_is_lost(tmp_path: Path) -> None:
    def told(epoch: int) -> PartResult:
        return PartResult(epoch, 5, 0, 10, 1.0, 0.5, 7.0, 1.0)

    images = Images("list.csv", settings())
    plans = [WorkerPlan(images, "small_cnn", 2, 9, 1e-3, number, 2, tmp_path) for number in range(2)]
    step, killed = Finished("a step failed"), Lost("it ended with signal 9", wanted=False)
    for first, expected in (
        (Quoted([told(0)], [told(1)], [step]), [[told(0), told(0)], [told(1)]]),
        (Quoted([], [], [told(0), step]), [[told(0), told(0)]]),
        (Quoted([step], []), [[told(0)]]),
    ):
        second, found = Quoted([], [told(0), killed]), list[list[PartResult]]()
        with pytest.raises(InputError, match="stopped: worker 2 of 2: it ended with signal 9; no epoch was finished"):
            found.extend(_epochs([first, second], plans))  # type: ignore[list-item]
        assert found == expected
    assert "10 images (5 + ?)" in epoch_text([told(1)], 2)
    done = [Quoted([told(0)], [Finished("")]), Quoted([], [told(0), Finished("")])]
    assert list(_epochs(done, plans)) == [[told(0), told(0)]]  # type: ignore[arg-type]


def test_a_label_that_no_class_has_is_a_sentence() -> None:
    batches = [(np.zeros((1, 2, 2, 3), np.uint8), np.array([label])) for label in (1, 2)]
    with pytest.raises(InputError, match=r"labels should be below 2.*2 came; say how many there are with --classes"):
        list(_known(batches, 2))


def test_what_does_not_belong_together_is_refused(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    images = Images(str(listed), settings())

    def train(**options: object) -> None:
        train_workers_command(images, "small_cnn", 3, 1e-3, 2, tmp_path, **options)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="--cluster and --index belong together"):
        train(cluster=["a:1", "b:1"])
    with pytest.raises(InputError, match="--index is from 0 to 1, one for each address of --cluster; 2 came"):
        train(cluster=["a:1", "b:1"], index=2)
    saved_model(tmp_path, 3).touch()
    with pytest.raises(InputError, match="was trained for 3 epochs already"):
        train()


def test_free_ports_are_free() -> None:
    for port in free_ports(2):
        with contextlib.closing(socket.create_server(("127.0.0.1", port))) as server:
            assert server.getsockname()[1] == port
