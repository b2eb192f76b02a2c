"""`finetune` and `predict` in the terminal: what they print, where they write, what Ctrl-C leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.photo_files import picture, save_photos
from tests.test_finetuning import HEAD_ONLY
from toolkit.errors import InputError
from toolkit.finetune_command import check_command, finetune_command, predict_command, result_text
from toolkit.finetuning import FinetuneConfig, FinetuneResult
from toolkit.processes import INTERRUPTED

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"), each=14)


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that the command made."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    assert finetune_command(photos, replace(HEAD_ONLY, copies=True), folder) == 0
    return folder


def test_a_check_tells_what_it_finds(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command(photos) == 0
    assert capsys.readouterr().out.splitlines()[0] == "class  photos"
    save_photos(tmp_path, ("red",))
    assert check_command(tmp_path, as_json=True, pictures=tmp_path / "problems.png") == 1
    assert (tmp_path / "problems.png").is_file()
    told = capsys.readouterr()
    assert json.loads(told.out)["problems"][0]["kind"] == "one class"
    assert told.err.endswith("two are the least to tell apart\n")


@pytest.mark.once
class TestFinetune:
    def test_a_result_for_people_has_the_figures(self, finished: Path) -> None:
        result = FinetuneResult.load(finished)
        lines = result_text(result).splitlines()
        assert lines[0].startswith(f"test accuracy {result.test_accuracy:.1%} of 6 photos (")
        assert lines[2].split() == ["class", "precision", "recall", "F1", "photos"]
        assert any(line.startswith("  model-int8.keras: ") for line in lines)
        assert len([line for line in lines if ", is " in line]) == min(len(result.mistakes), 5)

    def test_a_run_shows_how_far_it_is_and_ends_with_its_result(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert finetune_command(photos, HEAD_ONLY, as_json=True) == 0
        told = capsys.readouterr()
        data = json.loads(told.out)
        assert data["folder"] == str(Path("runs") / f"{photos.name}-MobileNet")
        assert data["test_accuracy"] == FinetuneResult.load(data["folder"]).test_accuracy
        assert told.err.count("the head learns, epoch") == 3
        assert "green      14" in told.err

    def test_a_failed_run_is_a_sentence_and_a_status(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = replace(HEAD_ONLY, weights="nowhere.h5")
        assert finetune_command(photos, config, tmp_path / "run", as_json=True) == 1
        assert "there is no file nowhere.h5" in json.loads(capsys.readouterr().out)["failed"]

    def test_a_finished_run_can_be_resumed_by_its_folder(
        self, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = FinetuneResult.load(finished)
        assert finetune_command(None, resume=finished, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["history"] == before.history

    @pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as a POSIX terminal does")
    def test_ctrl_c_keeps_the_best_epoch(self, photos: Path, tmp_path: Path) -> None:
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "from dataclasses import replace; from pathlib import Path;"
            "from tests.test_finetuning import HEAD_ONLY; from toolkit.finetune_command import finetune_command;"
            f"config = replace(HEAD_ONLY, head_epochs=10**6);"
            f"sys.exit(finetune_command(Path({str(photos)!r}), config, Path('run'), as_json=True))"
        )
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=tmp_path, **options) as process:  # type: ignore[call-overload]
            for line in process.stderr:
                if "epoch 3" in line:
                    break
            os.killpg(process.pid, signal.SIGINT)
            begun = time.monotonic()
            try:
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert process.returncode == INTERRUPTED, err
        assert time.monotonic() - begun < 8
        told = json.loads(out)
        assert told["stopped"]
        assert FinetuneResult.load(tmp_path / "run").epochs_done["head"] >= 3
        assert (tmp_path / "run" / "model.keras").is_file()


def test_nothing_to_begin_with_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a folder with a subfolder of photos for each class"):
        finetune_command(None)
    with pytest.raises(InputError, match="there is nothing at"):
        finetune_command(tmp_path / "nowhere", FinetuneConfig(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "is not the folder of a fine-tuning"),
        ("", "is not the folder of a fine-tuning"),
        ("[]", "is not the folder of a fine-tuning"),
        ('{"photos": "x", "config": {"bas": 1}}', "there is no setting 'bas'"),
        (json.dumps({"photos": "x", "config": {}}), "had not finished its first epoch"),
    ],
)
def test_nothing_to_go_on_with_is_a_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError) as caught:
        finetune_command(None, resume=tmp_path)
    assert sentence in str(caught.value)


# Predicting.


@pytest.mark.once
class TestPredict:
    def test_answers_come_for_files_and_folders(
        self, finished: Path, photos: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = [photos / "red", min((photos / "blue").iterdir())]
        assert predict_command(finished, files, top=2, as_json=True) == 0
        told = json.loads(capsys.readouterr().out)
        assert [Path(each["path"]).parent.name for each in told] == ["red"] * 14 + ["blue"]
        for each in told:
            assert len(each["classes"]) == 2
            assert each["probabilities"] == sorted(each["probabilities"], reverse=True)
        assert predict_command(finished / "model.keras", files[1:]) == 0
        assert "%" in capsys.readouterr().out

    def test_a_file_that_is_no_photo_is_told_among_the_others(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        picture(1, size=(300, 40)).save(tmp_path / "wide.png")
        (tmp_path / "notes.txt").write_text("no photo")
        files = [tmp_path / "notes.txt", tmp_path / "gone.jpg", tmp_path / "wide.png"]
        assert predict_command(finished, files, as_json=True) == 1
        notes, gone, wide = json.loads(capsys.readouterr().out)
        assert "it is none of JPEG" in notes["failed"]
        assert "cannot be" in gone["failed"]
        assert wide["failed"] == ""
        assert sum(wide["probabilities"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("files", "top", "sentence"),
    [
        ([], 3, "give at least one photo"),
        ([Path("a.jpg")], 0, "top must be at least 1"),
        ([Path("a.jpg")], 1, "no model"),
    ],
)
def test_what_cannot_be_predicted_is_a_sentence(files: list[Path], top: int, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        predict_command(tmp_path, files, top)
