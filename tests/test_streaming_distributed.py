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

from toolkit import processes
from toolkit.distributed_command import Service, service_command, train_workers_command
from toolkit.errors import InputError
from toolkit.streaming.distributed import (
    Images,
    epochs_done,
    free_ports,
    padded,
    parts_for,
    read_service,
    saved_model,
    service_dataset,
)
from toolkit.streaming.settings import StreamSettings

SIDE, COUNT = 16, 90


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


def settings() -> StreamSettings:
    return StreamSettings(SIDE, 4)


@given(st.integers(0, 10**7), st.integers(1, 512), st.integers(1, 64))
def test_an_epoch_is_cut_into_parts_that_are_not_empty(images: int, batch_size: int, workers: int) -> None:
    parts = parts_for(images, batch_size, workers)
    assert 1 <= parts <= max(images, 1)
    assert parts >= min(workers, images)


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
def test_a_service_gives_each_image_once_and_outlives_a_killed_worker(listed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with Service(Images(str(listed), settings()), 2, 2, folder=tmp_path, said=said.append) as service:
        pids = [worker.pid for worker in service.processes if worker]
        found = list(read_service(service.address))
        assert sorted(label for _, labels in found for label in labels) == list(range(COUNT))
        assert all((images[:, 0, 0, 0] == labels).all() for images, labels in found)
        assert found[0][0].dtype == np.uint8

        labels = list(_labels_while_one_is_killed(service))
        assert len(set(labels)) == len(labels), "no image twice, even so"
        part = -(-COUNT // parts_for(COUNT, 4, 2))
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


@pytest.mark.tensorflow
@pytest.mark.once
def test_a_silent_service_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"grpc://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address} sent nothing for 0.2 s: it or one of its workers is gone"):
            next(read_service(address, silence_seconds=0.2))


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
