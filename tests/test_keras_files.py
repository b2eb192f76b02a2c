"""Reading `.keras` files without Keras: the same rows as from the living model, and nothing in a file is ever run."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers as kl

from toolkit.architectures import architecture, small_cnn
from toolkit.arithmetic import InputError
from toolkit.build import build, read_model
from toolkit.costs import Rows, trace
from toolkit.keras_files import read_keras_file


def archive(path: Path, config: Any) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
    return path


def graph(rows: Rows) -> set[tuple[Any, ...]]:
    """What does not depend on the order in which the layers were written down."""
    return {
        (row.name, row.type, tuple(rows[index].name for index in row.reads), row.output_shape, row.params, row.macs)
        for row in rows
    }


@pytest.mark.parametrize(
    ("name", "shape"), [("small_cnn", None), ("alexnet_28", None), ("resnet18", (32, 32, 3)), ("vit_tiny", (32, 32, 3))]
)
def test_a_saved_model_has_the_rows_that_it_was_built_from(name: str, shape: Any, tmp_path: Path) -> None:
    rows = trace(architecture(name, shape))
    build(rows).save(tmp_path / "net.keras")
    read = read_keras_file(tmp_path / "net.keras")
    assert graph(read) == graph(rows)


def test_nested_and_shared_layers_are_read_as_from_the_living_model(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6, 6, 4)), kl.Conv2D(8, 3), kl.BatchNormalization()])
    inputs, dense = keras.Input((8, 8, 3)), kl.Dense(4)
    hidden = inner(dense(dense(kl.Conv2D(4, 3)(inputs)))) * 2.0
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(hidden))
    model.save(tmp_path / "net.keras")
    assert read_keras_file(tmp_path / "net.keras") == read_model(model)


def test_keras_is_not_loaded(tmp_path: Path) -> None:
    build(small_cnn(channels=2)).save(tmp_path / "net.keras")
    code = (
        "import sys; from toolkit.keras_files import read_keras_file; "
        f"read_keras_file({str(tmp_path / 'net.keras')!r}); "
        "print([name for name in ('keras', 'tensorflow', 'numpy', 'h5py') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_lambda_is_refused_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    model = keras.Sequential(
        [keras.Input((4,)), kl.Lambda(lambda x, path=str(witness): (x, Path(path).write_text(""))[0])]
    )
    model.save(tmp_path / "net.keras")
    witness.unlink(missing_ok=True)
    with pytest.raises(InputError, match="is a Lambda: it holds Python code, which is never run here"):
        read_keras_file(tmp_path / "net.keras")
    assert not witness.exists()


def test_a_module_named_in_a_file_is_never_imported(tmp_path: Path) -> None:
    layer = {"module": "os", "class_name": "system", "config": {"name": "x", "command": f"touch {tmp_path / 'ran'}"}}
    config = {"name": "m", "layers": [layer], "build_input_shape": [None, 4]}
    path = archive(tmp_path / "net.keras", {"class_name": "Sequential", "config": config})
    with pytest.raises(InputError, match="type 'system', which cannot be priced from a file"):
        read_keras_file(path)
    assert not (tmp_path / "ran").exists()


DEEP: Any = []
for _ in range(20):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "config",
    [
        "no json",
        b"\xff\xfe\x00",
        "[" * 100_000,
        "[]",
        "{}",
        {"config": 3},
        {"config": {}},
        {"config": {"layers": 3, "build_input_shape": [None, 4]}},
        {"config": {"layers": [3], "build_input_shape": [None, 4]}},
        {"config": {"layers": [{"class_name": "Dense"}], "build_input_shape": [None, 4]}},
        {"config": {"layers": [], "build_input_shape": "wide"}},
        {"config": {"layers": [], "build_input_shape": [None, None]}},
        {
            "config": {
                "layers": [{"class_name": "Dense", "config": {"name": "d", "units": 0}}],
                "build_input_shape": [0, 4],
            }
        },
        {
            "config": {
                "layers": [{"class_name": "Dense", "config": {"name": "d", "units": "x"}}],
                "build_input_shape": [0, 4],
            }
        },
        {"config": {"layers": [{"class_name": "Dense", "config": {"name": "d"}}], "build_input_shape": [0, 4]}},
        {"config": {"layers": [], "input_layers": DEEP, "output_layers": []}},
        {"config": {"layers": [], "input_layers": [["a", 0, 0]], "output_layers": [["a", 0, 0]]}},
    ],
)
def test_what_is_no_model_gets_a_sentence(config: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^net\.keras"):
        read_keras_file(archive(tmp_path / "net.keras", config))


def test_files_that_are_no_archives_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"PK\x03\x04 but no archive")
    (tmp_path / "b.keras").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as out:
        out.writestr("other.json", "{}")
    for name in "abc":
        with pytest.raises(InputError, match=r"is not a \.keras model"):
            read_keras_file(tmp_path / f"{name}.keras")
    with pytest.raises(InputError, match="there is no file"):
        read_keras_file(tmp_path / "d.keras")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("config.json", b" " * (65 * 2**20))
    (tmp_path / "net.keras").write_bytes(bomb.getvalue())
    with pytest.raises(InputError, match="at most 67108864 are read"):
        read_keras_file(tmp_path / "net.keras")


def test_a_model_whose_graph_goes_round_is_refused(tmp_path: Path) -> None:
    def reads(name: str) -> list[Any]:
        tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, 0, 0]}}
        return [{"args": [tensor], "kwargs": {}}]

    layers = [
        {"class_name": "InputLayer", "name": "i", "config": {"batch_shape": [None, 4]}, "inbound_nodes": []},
        {"class_name": "Dense", "name": "a", "config": {"units": 4}, "inbound_nodes": reads("b")},
        {"class_name": "Dense", "name": "b", "config": {"units": 4}, "inbound_nodes": reads("a")},
    ]
    config = {"layers": layers, "input_layers": [["i", 0, 0]], "output_layers": [["b", 0, 0]]}
    with pytest.raises(InputError, match="reads something that the model does not have"):
        read_keras_file(archive(tmp_path / "net.keras", {"config": config}))
