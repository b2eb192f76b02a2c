"""Every endpoint of the app, asked by a program, with good questions and with bad ones."""

import json
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file  # type: ignore[import-untyped]
from gradio_client.exceptions import AppError  # type: ignore[import-untyped]

from tests.app_server import Server, serving
from tests.photo_files import picture, save_photos
from toolkit.architectures import lenet5, resnet50
from toolkit.batches import plan_batches
from toolkit.costs import costs
from toolkit.export import to_dict

pytestmark = pytest.mark.app

SMALL = {"epochs": 1, "train_limit": 200, "channels": 4, "batch_size": 32}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("app"), CNN_TOOLKIT_RUN_MACS="1000000000000") as server:
        yield server
        log = server.log.read_text("utf-8")
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    client = Client(server.url, verbose=False)
    yield client
    client.close()


def ask(client: Client, *arguments: Any, api_name: str) -> Any:
    return client.predict(*arguments, api_name=api_name)


def refusal(client: Client, *arguments: Any, api_name: str) -> str:
    """The sentence of an error; a traceback or no error at all fails the test."""
    with pytest.raises(AppError) as caught:
        client.predict(*arguments, api_name=api_name)
    return str(caught.value)


def finished(client: Client, job: str) -> dict[str, Any]:
    end = time.monotonic() + 90
    while (view := ask(client, job, api_name="/job"))["state"] != "finished":
        assert time.monotonic() < end, view
        time.sleep(0.2)
    return dict(view)


@pytest.fixture(scope="module")
def job(client: Client) -> str:
    """A job that has ended: a dense network and a convolutional one."""
    job = str(ask(client, {**SMALL, "architecture": "dense_baseline"}, SMALL, api_name="/train"))
    view = finished(client, job)
    assert [model["state"] for model in view["models"].values()] == ["done", "done"]
    return job


@pytest.fixture
def empty_zip(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("hello.txt", "hello")
    return tmp_path / "empty.keras"


def test_the_public_endpoints_are_those_that_are_tested_here(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    tested = {"/cost", "/cost_of_layers", "/cost_of_file", "/plan", "/train", "/job", "/stop", "/predict"}
    tested |= {"/photos", "/finetune", "/classify", "/segment", "/label"}
    assert set(endpoints) == tested


def test_cost(client: Client) -> None:
    price = ask(client, "resnet50", api_name="/cost")
    assert (price["params"], price["trainable_params"]) == (25_636_712, 25_583_592)
    assert sum(row["macs"] for row in price["rows"]) == price["macs"]
    large = ask(client, "resnet50", "448x448x3", 2, "float16", "sgd", api_name="/cost")
    assert (large["input_shape"], large["batch"]) == ([448, 448, 3], 2)
    assert large["weights_bytes"] == price["weights_bytes"] // 2


def test_cost_tells_the_predicted_peaks(client: Client) -> None:
    predicted = ask(client, "resnet50", "", 8, "float16", api_name="/cost")["predicted"]
    assert {each["dtype_policy"] for each in predicted.values()} == {"mixed_float16"}
    assert predicted["training"]["peak_bytes"] > predicted["inference"]["peak_bytes"] > 0
    assert "predicted" not in ask(client, "resnet50", "", 8, "int8", api_name="/cost")


def test_plan(client: Client) -> None:
    plan = ask(client, "resnet50", "", 300, 8, api_name="/plan")
    expected = plan_batches(resnet50(), 300, 8 * 2**30)
    assert {name: plan[name] for name in expected.to_dict()} == expected.to_dict()
    assert plan["naive"]["batch_size"] > 100 * plan["batch_size"]
    assert plan["naive"]["predicted_bytes"] > plan["limit_bytes"] >= plan["predicted_bytes"]
    here = ask(client, "small_cnn", api_name="/plan")
    assert 0 < here["limit_bytes"] <= here["machine"]["total_bytes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no such network",), "there is no network"),
        (("resnet50", "large"), "written like 224x224x3"),
        (("resnet50", "", 0), "must be at least 1"),
        (("resnet50", "", "many"), "the wish must be a whole number"),
        (("resnet50", "", 1e300), "the wish must be a whole number"),
        (("resnet50", "", 300, -1), "the memory limit must be a number of GiB"),
        (("resnet50", "", 300, "nan"), "the memory limit must be a number of GiB"),
        (("resnet50", "", 300, 1e99), "the memory limit must be a number of GiB"),
        (("vgg16", "", 300, 0.5), "give a limit of"),
        (("resnet50", "", 300, 8, "float8"), "dtype_policy must be one of"),
        (("resnet50", "", 300, 8, "float32", "magic"), "optimizer must be one of"),
        ((["resnet50"], {}, [], {}), "written like 224x224x3"),
    ],
)
def test_plan_refuses_in_words(client: Client, arguments: tuple[Any, ...], words: str) -> None:
    assert words in refusal(client, *arguments, api_name="/plan")


def test_cost_of_layers(client: Client) -> None:
    price = ask(client, to_dict(lenet5()), 4, api_name="/cost_of_layers")
    assert price["training_bytes"] == costs(lenet5(), batch=4).training_bytes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no such network",), "there is no network"),
        (("resnet50", "large"), "written like 224x224x3"),
        (("lenet5", "4x4x1"), "a window of"),
        (("lenet5", "0x0x1"), "at least 1"),
        (("lenet5", "", 0), "batch must be at least 1"),
        (("lenet5", "", "many"), "batch must be a whole number"),
        (("lenet5", "", 2.5), "batch must be a whole number"),
        (("lenet5", "", "nan"), "batch must be a whole number"),
        (("lenet5", "", 1, "float3"), "float32"),
        (("lenet5", "", 1, "float32", "magic"), "adam"),
        ((["lenet5"], "", 1), "there is no network"),
    ],
)
def test_cost_refuses_in_words(client: Client, arguments: tuple[Any, ...], words: str) -> None:
    assert words in refusal(client, *arguments, api_name="/cost")


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("text", "one of these is missing"),
        ({"name": "x", "input_shape": [8, 8, 1], "layers": [{"type": "Magic"}]}, "there is no layer 'Magic'"),
        (
            {"name": "x", "input_shape": [8, 8, 1], "layers": [{"type": "Conv2D", "filters": 0, "kernel_size": 3}]},
            "filters must be at least 1",
        ),
        (
            {"name": "x", "input_shape": [8, 8, 1], "layers": [{"type": "Conv2D", "filters": 4, "kernel_size": 11}]},
            "a window of 11 does not fit into 8 pixels",
        ),
    ],
)
def test_cost_of_layers_refuses_in_words(client: Client, net: Any, words: str) -> None:
    assert words in refusal(client, net, api_name="/cost_of_layers")


def test_cost_of_a_file_that_is_no_model(client: Client, tmp_path: Path, empty_zip: Path) -> None:
    text = tmp_path / "text.keras"
    text.write_text("this is no model")
    assert "text.keras is not a .keras model" in refusal(client, handle_file(text), api_name="/cost_of_file")
    assert "is not a .keras model" in refusal(client, handle_file(empty_zip), api_name="/cost_of_file")
    assert "no file came" in refusal(client, None, api_name="/cost_of_file")


def test_a_file_that_wants_to_run_code_is_not_obeyed(client: Client, tmp_path: Path) -> None:
    evil, mark = tmp_path / "evil.keras", tmp_path / "mark"
    code = {"class_name": "__lambda__", "config": {"code": f"open({str(mark)!r}, 'w')"}}
    layer = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "evil", "function": code}}
    entry = {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 4]}}
    with zipfile.ZipFile(evil, "w") as archive:
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [entry, layer]}}
        archive.writestr("config.json", json.dumps(config))
    assert "never run" in refusal(client, handle_file(evil), api_name="/cost_of_file")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 0}, "channels must be at least 1"),
        ({"channels": "many"}, "channels must be a whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"colour": "red"}, "there is no setting 'colour'"),
        ({"dataset": "/etc"}, "folders are for the command line"),
        ({"architecture": "resnet50", "epochs": 1000}, "fewer epochs"),
        ("text", "described by its settings"),
    ],
)
def test_train_refuses_in_words(client: Client, settings: Any, words: str) -> None:
    assert words in refusal(client, {}, settings, api_name="/train")


def test_train_and_job(client: Client, job: str) -> None:
    view = ask(client, job, api_name="/job")
    results = {letter: model["result"] for letter, model in view["models"].items()}
    assert (view["place"], len(view["models"]["A"]["epochs"])) == (0, 1)
    assert results["A"]["config"]["architecture"] == "dense_baseline"
    assert 0.1 < results["B"]["test_accuracy"] <= 1
    assert sum(map(sum, results["B"]["confusion"])) == results["B"]["tested_images"] == 359
    assert str(Path.home()) not in str(view)


def test_stop_keeps_what_was_learned(client: Client) -> None:
    job = ask(client, {"epochs": 500, "channels": 4}, {"epochs": 500, "channels": 4}, api_name="/train")
    assert "press Stop first" in refusal(client, {}, {}, api_name="/train")
    end = time.monotonic() + 60
    while not all(model["epochs"] for model in ask(client, job, api_name="/job")["models"].values()):
        assert time.monotonic() < end
        time.sleep(0.2)
    ask(client, job, api_name="/stop")
    view = finished(client, job)
    for model in view["models"].values():
        assert model["state"] == "stopped"
        assert 1 <= model["result"]["epochs_done"] < 500


@pytest.fixture(scope="module")
def photos(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Photos that were uploaded and looked at."""
    folder = save_photos(tmp_path_factory.mktemp("photos") / "colours", each=6)
    archive = shutil.make_archive(str(folder.with_name("colours")), "zip", folder)
    photos = str(ask(client, handle_file(archive), api_name="/photos"))
    found = finished(client, photos)["models"]["A"]["result"]
    assert found["counts"] == {"blue": 6, "green": 6, "red": 6}
    assert found["name"] == "colours.zip"
    return photos


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base": "VGG16"}, "this page fine-tunes MobileNetV2"),
        ({"weights": "/etc/passwd"}, "files are for the command line"),
        ({"image_size": 9}, "image_size must be from 32"),
        ({"colour": "red"}, "there is no setting 'colour'"),
        ({"epochs": 10**9}, "fewer epochs"),
        ("text", "described by its settings"),
    ],
)
def test_finetune_refuses_in_words(client: Client, photos: str, settings: Any, words: str) -> None:
    assert words in refusal(client, photos, settings, api_name="/finetune")


def test_photos_refuses_in_words(client: Client, tmp_path: Path) -> None:
    assert "no photos came" in refusal(client, None, api_name="/photos")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.jpg", "x")
    failed = finished(client, ask(client, handle_file(tmp_path / "evil.zip"), api_name="/photos"))
    assert "no plain name" in failed["models"]["A"]["message"]
    assert "no longer here" in refusal(client, "a guess", {}, api_name="/finetune")


def test_networks_that_are_not_there_are_not_asked(client: Client, photos: str, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "picture.png")
    for endpoint in ("/classify", "/label"):
        for job in (photos, "a guess"):
            assert "no longer here" in refusal(client, job, handle_file(tmp_path / "picture.png"), api_name=endpoint)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([], "1 to 5 networks"),
        ({}, "1 to 5 networks"),
        ([{}] * 6, "1 to 5 networks"),
        (["text"], "described by its settings"),
        ([{"network": "magic"}], "network must be one of"),
        ([{"source": "/etc"}], "python -m toolkit segment"),
        ([{"weights": "/etc/passwd"}], "python -m toolkit segment"),
        ([{"image_size": 40}], "multiples"),
        ([{"epochs": 10**6}], "fewer epochs"),
    ],
)
def test_segment_refuses_in_words(client: Client, models: Any, words: str) -> None:
    assert words in refusal(client, models, api_name="/segment")


def test_jobs_of_others_cannot_be_guessed(client: Client) -> None:
    for endpoint in ("/job", "/stop"):
        assert "no longer here" in refusal(client, "AAAAAAAAAAAAAAAAAAAAAA", api_name=endpoint)


def test_predict(client: Client, job: str, tmp_path: Path) -> None:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(picture).line([(60, 40), (150, 40), (90, 170)], "black", 18)
    picture.save(tmp_path / "seven.png")
    answers = ask(client, job, handle_file(tmp_path / "seven.png"), api_name="/predict")
    for probabilities in answers.values():
        assert set(probabilities) == set("0123456789")
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


def test_predict_refuses_in_words(client: Client, job: str, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    assert "cannot be used" in refusal(client, job, handle_file(corrupt), api_name="/predict")
    begin = time.monotonic()
    assert "pixels" in refusal(client, job, handle_file(bomb(tmp_path)), api_name="/predict")
    assert time.monotonic() - begin < 5
    assert "no picture came" in refusal(client, job, None, api_name="/predict")


def test_other_visitors_go_on_after_bad_questions(server: Server, client: Client) -> None:
    refusal(client, "lenet5", "", 0, api_name="/cost")
    newcomer = Client(server.url, verbose=False)
    assert ask(newcomer, "lenet5", api_name="/cost")["params"] == 61_706
    newcomer.close()


def bomb(folder: Path) -> Path:
    """A PNG of 20,000 × 10,000 black pixels, 200 megapixels in 25 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000 * (1 + 20_000 // 8)), 9))
    file = folder / "bomb.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    return file
