"""What the page's jobs do with people's photos: looking at zips, pricing a fine-tuning, asking a classifier."""

import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.photo_files import picture, save_photos
from toolkit.errors import InputError
from toolkit.finetuning import (
    ClassScores,
    FinetuneConfig,
    FinetuneResult,
    FinetuneTask,
    Finished,
    Looked,
    Mistake,
    PhaseBegins,
    Progress,
)
from toolkit.jobs import Jobs, Limits, advance
from toolkit.photo_jobs import (
    MOST_PHOTOS,
    AskTask,
    AskView,
    FinetuneView,
    LookTask,
    LookView,
    PhotoAnswers,
    PhotosFound,
    ask,
    dimmed,
    finetune_forecast,
    imagenet_alphas,
    look,
)
from toolkit.processes import Context, Ending, StopFlag
from toolkit.training import EpochEnd, Failed, Memory, Step
from toolkit.zips import ZipLimits

CONFIG = FinetuneConfig(alpha=0.35, image_size=64, weights=None, epochs=2, batch_size=4)
SMALL = ZipLimits(files=500, bytes=10**7)


class Desk:
    """A context that keeps what is said."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.said: list[object] = []
        self.context = Context(folder, None, self.said.append, StopFlag())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def zipped(folder: Path, to: Path) -> str:
    with zipfile.ZipFile(to, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return str(to)


def looked_at(desk: Desk, folder: Path, limits: ZipLimits = SMALL) -> Any:
    return look(LookTask(zipped(folder, folder.with_suffix(".zip")), "waste.zip", limits), desk.context)


# Looking.


def test_a_zip_is_unpacked_and_looked_at(desk: Desk, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos")
    shutil.copyfile(photos / "blue" / "00000.jpg", photos / "blue" / "again.jpg")
    (photos / "red" / "broken.jpg").write_bytes(b"no photo")
    found = looked_at(desk, photos)
    assert isinstance(found, PhotosFound)
    assert (found.files, dict(found.counts)) == (38, {"blue": 12, "green": 12, "red": 12})
    assert sum(found.parts.values()) == found.photos == 36
    assert {each.kind for each in found.problems} == {"copy", "damaged"}
    assert all(url.startswith("data:image/jpeg") for urls in found.samples.values() for url in urls)
    assert [len(each.pictures) for each in found.problems] == [0, 2]
    assert (found.folder.name, len(list(found.folder.rglob("*.jpg")))) == ("waste", 38)
    assert Progress("looking at photos", 38, 38) in desk.said
    assert not found.unusable


def test_what_cannot_be_learned_from_is_told_without_a_path_of_the_server(desk: Desk, tmp_path: Path) -> None:
    found = looked_at(desk, save_photos(tmp_path / "photos", classes=("blue",)))
    assert found.unusable.startswith("waste.zip has one class, blue")
    assert str(tmp_path) not in str(found.to_dict())


def evil_zips(folder: Path) -> dict[str, Path]:
    """Zips that must be refused, by the words that say why."""
    folder.mkdir()
    words: dict[str, bytes | list[tuple[str, bytes]]] = {
        "is none": b"this is no zip",
        "no plain name": [("../../evil.jpg", b"x")],
        "more than 10,000,000 bytes": [("a/bomb.jpg", bytes(11 * 10**6))],
        "at most 500 files": [(f"a/{number}.jpg", b"") for number in range(600)],
        "holds no files": [],
    }
    found = {}
    for number, (said, content) in enumerate(words.items()):
        found[said] = folder / f"{number}.zip"
        if isinstance(content, bytes):
            found[said].write_bytes(content)
            continue
        with zipfile.ZipFile(found[said], "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content:
                archive.writestr(name, data)
    return found


def test_every_evil_zip_is_refused_in_a_sentence_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    limits = ZipLimits(files=500, bytes=10**7, file_bytes=2 * 10**7)
    for words, file in evil_zips(tmp_path / "zips").items():
        failed = look(LookTask(str(file), "mine.zip", limits), desk.context)
        assert isinstance(failed, Failed)
        assert words in failed.message
        assert str(tmp_path) not in failed.message
        assert list(desk.context.folder.iterdir()) == []


def test_a_stop_ends_the_look(desk: Desk) -> None:
    desk.context.stop.set()
    assert look(LookTask(None, "example"), desk.context) == Failed("stopped")


def test_a_full_disk_is_told_before_anything_is_unpacked(desk: Desk) -> None:
    failed = look(LookTask(None, "example", ZipLimits(bytes=10**18)), desk.context)
    assert isinstance(failed, Failed)
    assert "of disk left" in failed.message


def test_the_example_has_classes_and_what_people_s_folders_are_full_of(desk: Desk) -> None:
    found = look(LookTask(None, "example"), desk.context)
    assert isinstance(found, PhotosFound)
    assert set(found.counts) == {"zero", "one", "two", "three", "four"}
    assert min(found.counts.values()) >= 40
    assert {"damaged", "two classes", "copy", "alike", "tiny"} <= {each.kind for each in found.problems}
    view = advance(LookView(LookTask(None, "example"), desk.context.folder), found)
    assert (view.state, view.result) == ("done", found)


def test_a_look_that_was_killed_says_what_to_do() -> None:
    ending = Ending(Path("x"), -9, stopped=False, killed=True, log="")
    assert "fewer or smaller photos" in LookTask("a", "a").ended(ending).message


# Fine-tuning.

TASK = FinetuneTask("/srv/x/waste", CONFIG)
VIEW = FinetuneView(TASK, Path("/srv/x/a"))


def epoch(number: int) -> EpochEnd:
    return EpochEnd(number, 0.5, 0.8, 0.6, 0.7, 1.0, 1e-3)


def result(folder: Path, stopped: bool = False) -> FinetuneResult:
    names = ("blue", "red")
    return FinetuneResult(
        config=CONFIG,
        photos="/srv/x/waste",
        class_names=names,
        images={"train": 14, "validation": 4, "test": 4},
        params=400_000,
        trainable_params=2_000,
        history={"phase": ["head"], "loss": [0.5], "accuracy": [0.8], "val_loss": [0.6], "val_accuracy": [0.7]},
        test_accuracy=0.75,
        test_interval=(0.3, 0.95),
        test_loss=0.5,
        tested_images=4,
        confusion=((2, 0), (1, 1)),
        classes={name: ClassScores(0.5, 0.5, 0.5, 2) for name in names},
        mistakes=(Mistake("/srv/x/waste/red/7.jpg", "red", "blue", 0.9),),
        seconds={"preparing": 1.0},
        peak_memory_bytes=10**8,
        stopped=stopped,
        folder=folder,
        note="stopped in epoch 2" if stopped else "",
    )


def test_a_view_follows_both_phases() -> None:
    view = VIEW
    told = (
        Progress("reading photos", 1, 9),
        Looked("report", ("blue", "red"), 14, 4, 4),
        PhaseBegins("head", 10, 5, 3, 9),
        Step(1, 2, 3, 0.4, 0.5, 90.0),
        epoch(1),
        PhaseBegins("blocks", 10, 9, 3, 2),
        epoch(1),
        Memory(5, 6),
    )
    for event in told:
        view = advance(view, event)
    assert [(phase.begun.phase, len(phase.steps), len(phase.epochs)) for phase in view.phases] == [
        ("head", 1, 1),
        ("blocks", 0, 1),
    ]
    assert (view.state, view.memory, view.looked, view.progress) == ("training", Memory(5, 6), told[1], told[0])
    assert advance(view, Finished(result(Path("x")))).state == "done"
    assert advance(view, Finished(result(Path("x"), stopped=True))).state == "stopped"


def test_no_path_of_the_server_is_told() -> None:
    failed = advance(VIEW, Failed("/srv/x/waste is broken; go on from what is in /srv/x/a"))
    assert failed.message == "waste is broken; go on from what is in the run's folder"
    plain = advance(VIEW, Finished(result(Path("/srv/x/a")))).plain_result()
    assert "/srv" not in json.dumps(plain)
    assert VIEW.plain_result() is None


def test_missing_weights_are_told_with_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    missing = Failed("ImageNet's weights of MobileNetV2 cannot be had (offline); put the file into /root/.keras")
    assert "choose random weights" in advance(VIEW, missing).message
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_224_no_top.h5"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / name).touch()
    assert imagenet_alphas() == (0.75,)
    assert "choose alpha 0.75, whose weights are here, or random weights" in advance(VIEW, missing).message


def test_the_forecast_grows_with_what_is_asked() -> None:
    one = finetune_forecast(CONFIG, 100)
    assert one.params == 410_208  # of keras.applications.MobileNetV2(alpha=0.35, include_top=False)
    assert one.macs == pytest.approx(finetune_forecast(CONFIG, 200).macs / 2, rel=0.01)
    larger = finetune_forecast(replace(CONFIG, image_size=128), 100)
    assert larger.process_bytes > one.process_bytes
    assert larger.macs > 3 * one.macs
    with pytest.raises(InputError, match="python -m toolkit finetune"):
        finetune_forecast(FinetuneConfig(base="VGG16"), 100)


@pytest.mark.parametrize(
    ("limits", "words"),
    [(Limits(run_memory_bytes=10**8), "a smaller batch"), (Limits(run_macs=10**6), "fewer epochs")],
)
def test_what_the_server_does_not_allow_is_refused(tmp_path: Path, limits: Limits, words: str) -> None:
    task = FinetuneTask(str(save_photos(tmp_path / "photos", each=2)), CONFIG)
    assert FinetuneView.price(task, Limits(), 10**11) == finetune_forecast(CONFIG, 6).process_bytes
    with pytest.raises(InputError, match=words):
        FinetuneView.price(task, limits, 10**11)


# In the registry.


class Quiet:
    """A process that says nothing until it is told to."""

    def __init__(self) -> None:
        self.alive, self.said = True, list[object]()

    def poll(self) -> list[object]:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.alive = False

    def kill(self) -> None:
        self.alive = False


class House:
    """A registry with one place for trainings and one for questions, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.now, self.workers = 0.0, list[Quiet]()
        limits = Limits(slots=1, errands=1, kept_jobs=1)
        self.jobs = Jobs(
            limits, folder, start=self.start, clock=lambda: self.now, memory=lambda: 10**11, watchman=False
        )

    def start(self, task: object, folder: Path) -> Quiet:
        self.workers.append(Quiet())
        return self.workers[-1]

    def settle(self) -> None:
        """Wait for the threads that start processes, and read what those say."""
        for thread in threading.enumerate():
            if thread.name.startswith("launch"):
                thread.join(5)
        self.jobs.tick()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "jobs")
    yield house
    house.jobs.close()


def finish(house: House, event: object) -> None:
    house.settle()
    house.workers[-1].said.append(event)
    house.settle()


def test_photos_are_kept_as_long_as_a_training_needs_them(house: House, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", each=2)
    found = PhotosFound("waste", photos, 6, {}, {}, {}, ())
    looks = house.jobs.submit([LookTask("a", "a")], "anna", LookView)
    finish(house, found)
    run = house.jobs.submit([FinetuneTask(str(photos), CONFIG)], "anna", FinetuneView, [looks])
    house.jobs.leave("anna", looks)
    house.now += 100
    for name in ("ben", "cleo", "dan"):  # more looks than are kept
        house.jobs.submit([LookTask("a", "a")], name, LookView)
        finish(house, found)
    house.settle()
    assert house.jobs.knows(looks, LookView)
    house.jobs.leave("anna")
    house.now += 100
    house.settle()
    house.settle()
    assert not house.jobs.knows(run, FinetuneView)
    assert not house.jobs.knows(looks, LookView)


def test_a_question_does_not_wait_for_a_training_nor_take_its_place(house: House, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", each=2)
    run = house.jobs.submit([FinetuneTask(str(photos), CONFIG)], "anna", FinetuneView)
    question = house.jobs.submit([LookTask("a", "a")], "anna", LookView)
    house.settle()
    assert [house.jobs.view(job, kind).state for job, kind in ((run, FinetuneView), (question, LookView))] == [
        "running",
        "running",
    ]
    house.now += 100
    house.settle()
    assert house.jobs.knows(run, FinetuneView)  # anna looks at both
    with pytest.raises(InputError, match="last question is still being answered"):
        house.jobs.submit([LookTask("a", "a")], "anna", LookView)
    waiting = house.jobs.submit([LookTask("a", "a")], "ben", LookView)
    assert house.jobs.view(waiting, LookView).place == 1


def test_a_job_of_another_kind_is_not_found(house: House) -> None:
    look_id = house.jobs.submit([LookTask("a", "a")], "anna", LookView)
    assert not house.jobs.knows(look_id)
    for kind in (FinetuneView, AskView):
        with pytest.raises(InputError, match="no longer here"):
            house.jobs.view(look_id, kind)
    with pytest.raises(InputError, match="no longer here"):
        house.jobs.submit([LookTask("a", "a")], "ben", LookView, ["a guess"])


# Asking.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fine-tuning that learned nothing: random weights, but a whole model."""
    from toolkit.finetuning import MODEL_FILE
    from toolkit.outcomes import save_model
    from toolkit.transfer import classifier_of

    folder = tmp_path_factory.mktemp("trained")
    save_model(classifier_of(CONFIG, 2).model, ("blue", "red"), folder / MODEL_FILE)
    (folder / "result.json").write_text(json.dumps(result(folder).to_dict()), encoding="utf-8")
    return folder


def test_a_classifier_is_asked_about_photos(trained: Path, desk: Desk, tmp_path: Path) -> None:
    from toolkit.outcomes import classify, load_model

    picture(5).save(tmp_path / "photo.png")
    (tmp_path / "text.jpg").write_text("no photo")
    photos = ((str(tmp_path / "photo.png"), "my photo"), (str(tmp_path / "text.jpg"), "my text"))
    found = ask(AskTask(str(trained), photos), desk.context)
    assert isinstance(found, PhotoAnswers)
    photo, text = found.answers
    model, names = load_model(trained)
    expected = dict(zip(names, classify(model, np.asarray(picture(5))), strict=True))
    assert dict(zip(photo.classes, photo.probabilities, strict=True)) == pytest.approx(expected, abs=0.02)
    assert list(photo.probabilities) == sorted(photo.probabilities, reverse=True)
    assert photo.picture != photo.evidence
    assert (text.name, text.classes) == ("my text", ())
    assert "none of JPEG" in text.failed


def test_a_question_has_a_classifier_and_few_photos(desk: Desk) -> None:
    failed = ask(AskTask(str(desk.context.folder), (("a", "a"),)), desk.context)
    assert isinstance(failed, Failed)
    assert str(desk.context.folder) not in failed.message
    for count in (0, MOST_PHOTOS + 1):
        with pytest.raises(InputError, match="1 to 12 photos"):
            AskView.price(AskTask("x", (("a", "a"),) * count), Limits(), 10**11)


def test_evidence_lights_its_place() -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    shown = dimmed(white, np.array([[1, 0], [0, 0]], np.float32))
    assert shown[0, 0, 0] > 240
    assert shown[7, 7, 0] == 51
    assert Image.fromarray(shown).size == (8, 8)
