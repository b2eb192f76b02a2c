"""What the tabs for photos and for pixels show, from plain data: well-formed, escaped, and true to the numbers."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.photo_files import save_photos
from tests.test_photo_jobs import VIEW, epoch, result
from tests.test_pixel_jobs import TINY, outcome
from tests.test_ui import EVIL, parsed
from toolkit.errors import InputError
from toolkit.finetuning import FinetuneTask, Finished, PhaseBegins, Progress
from toolkit.jobs import Jobs, JobView, Limits, TaskView, advance
from toolkit.photo_jobs import (
    AskTask,
    AskView,
    LookTask,
    LookView,
    PhotoAnswer,
    PhotoAnswers,
    PhotosFound,
    ProblemKind,
    finetune_forecast,
)
from toolkit.pixel_jobs import Labelled, LabelMap, LabelTask, Patch, SegmentView
from toolkit.segmentation import EpochScored, SegmentConfig, Segmented
from toolkit.training import Failed, Started, Step
from toolkit.ui import photo_views, pixel_views
from toolkit.ui.api import Trainings
from toolkit.ui.charts import Dots, Mark, dot_chart, line_chart
from toolkit.ui.finetuner import IMAGENET, Choice
from toolkit.ui.segmenter import Choice as PixelChoice

URL = "data:image/jpeg;base64,AA=="


def job(*runs: TaskView, state: str = "running", place: int = 0) -> Any:
    return JobView("id", state, place, 1.0, runs)  # type: ignore[arg-type]


def shown(markup: str) -> str:
    """The text of markup; raises where it is not well formed."""
    return "".join(parsed(markup.replace("></img>", "/>")).itertext())


def alternatives(markup: str) -> list[str]:
    return [image.get("alt", "") for image in parsed(markup).iter("img")]


# Photos.

FOUND = PhotosFound(
    "waste.zip",
    Path("x"),
    5,
    {"glass": 3, EVIL: 1},
    {"glass": (URL,), EVIL: ()},
    {"train": 2, "validation": 1, "test": 1},
    (ProblemKind("damaged", 4, "left out", (EVIL, "b"), (URL,)),),
)


def test_a_look_says_how_far_it_is_and_what_it_found() -> None:
    look = LookView(LookTask("a", "waste.zip"), Path("x"))
    texts = {
        "in line, at place 2": job(look, state="waiting", place=2),
        "on their way": job(look),
        "looking at photos: 3 of 9": job(advance(look, Progress("looking at photos", 3, 9))),
        "the zip file is damaged": job(advance(look, Failed("the zip file is damaged"))),
        "of 5 files in waste.zip": job(advance(look, FOUND), state="finished"),
    }
    for words, view in texts.items():
        assert words in shown(photo_views.look(view))


def test_what_was_found_is_told_with_pictures_and_escaped() -> None:
    markup = photo_views.found(FOUND)
    assert EVIL not in markup
    text = shown(markup)
    for words in ("2 / 1 / 1", "4 × damaged: left out", "and 2 more"):
        assert words in text
    assert alternatives(markup) == ["glass, photo 1", "damaged, photo 1"]
    unusable = photo_views.found(replace(FOUND, unusable=EVIL, parts={}, problems=()))
    assert "Nothing can be learned" in unusable
    assert "Nothing is wrong" in unusable
    assert EVIL not in unusable


def test_a_fine_tuning_says_where_it_is() -> None:
    head = advance(advance(VIEW, PhaseBegins("head", 10, 5, 4, 8)), Step(3, 2, 4, 0.5, 0.75, 90.0))
    blocks = advance(advance(advance(head, epoch(3)), PhaseBegins("blocks", 10, 9, 4, 2)), epoch(1))
    done = advance(blocks, Finished(result(Path("x"))))
    stopped = advance(blocks, Finished(result(Path("x"), stopped=True)))
    texts = {
        "in line, at place 3": job(VIEW, state="waiting", place=3),
        "reading photos: 1 of 9": job(advance(VIEW, Progress("reading photos", 1, 9))),
        "the head learns · epoch 3 of at most 8 · 90 photos/s": job(head),
        "the last blocks learn · epoch 2 of at most 2": job(blocks),
        "75.0% of the test photos are right (30.0% to 95.0% at 95 %)done: 1 s in all": job(done, state="finished"),
        "stopped in epoch 2: 1 s": job(stopped, state="finished"),
        "no photos": job(advance(head, Failed("no photos")), state="finished"),
    }
    for words, view in texts.items():
        assert words in shown(photo_views.live(view)), words
    shares = [photo_views.progress(run) for run in (VIEW, head, blocks, done)]
    assert shares == [0, pytest.approx(0.25 * 2.5 / 8), pytest.approx(0.25 + 0.75 / 2), 1]


def test_the_second_phase_follows_the_first_in_the_picture() -> None:
    view = VIEW
    for event in (PhaseBegins("head", 1, 1, 4, 9), epoch(1), epoch(2), PhaseBegins("blocks", 1, 1, 4, 3), epoch(1)):
        view = advance(view, event)
    root = parsed(photo_views.curves(view))
    dots = [float(dot.get("cx", "")) for dot in root.iter("circle")][:3]
    assert dots == sorted(set(dots))
    marks = [line for line in root.iter("line") if line.get("class") == "level share"]
    assert len(marks) == 2  # one a picture
    assert float(marks[0].get("x1", "")) == dots[1]


def test_results_have_every_figure_and_class() -> None:
    markup = photo_views.results(replace(result(Path("x"), stopped=True), class_names=(EVIL, "red")))
    assert EVIL not in markup
    text = shown(markup)
    for words in ("75.0%", "30.0% to 95.0%", "2,000", "stopped in epoch 2."):
        assert words in text
    assert len(list(parsed(markup).iter("table"))) == 2


def test_answers_show_probabilities_and_what_they_rest_on() -> None:
    asked = AskView(AskTask("x", ()), Path("x"))
    told = PhotoAnswers(
        (PhotoAnswer(EVIL, URL, URL, ("red", "blue"), (0.75, 0.25)), PhotoAnswer("text.jpg", failed="no photo"))
    )
    markup = photo_views.answers(job(advance(asked, told)), "The surest mistakes")
    assert EVIL not in markup
    text = shown(markup)
    assert "red 75%" in text
    assert "25.0%" in text
    assert "no photo" in text
    assert "place 2" in photo_views.answers(job(asked, place=2), "x")
    assert "gone" in photo_views.answers(job(advance(asked, Failed("gone"))), "x")


def choice(**changes: Any) -> Choice:
    values: dict[str, Any] = {
        "weights": IMAGENET,
        "alpha": 0.35,
        "image_size": 96,
        "epochs": 3,
        "augmentation": "light",
    }
    return Choice(**(values | changes))


def test_controls_describe_a_fine_tuning() -> None:
    config = choice(weights="random", blocks=3, seed=4.0).config()
    assert (config.weights, config.alpha, config.image_size, config.unfrozen_blocks, config.seed) == (
        None,
        0.35,
        96,
        3,
        4,
    )
    assert choice().config().weights == "imagenet"
    line = photo_views.forecast_line(finetune_forecast(config, 100), 10**9, "from nowhere")
    assert "from nowhere" in shown(line)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "/etc/passwd"}, "first weights are ImageNet or random"),
        ({"alpha": 7}, "alpha"),
        ({"alpha": None}, "alpha"),
        ({"image_size": 8}, "image_size must be from 32"),
        ({"image_size": "large"}, "the image size must be a whole number"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"augmentation": "magic"}, "augmentation must be one of"),
        ({"learning_rate": None}, "the learning rate must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"seed": None}, "the seed must be a whole number"),
    ],
)
def test_bad_settings_of_a_fine_tuning_get_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        choice(**changes).config()


# Pixels.

RUN = SegmentView(replace(TINY, epochs=2), Path("x"))
BEGUN = advance(advance(RUN, Started(10, 4, 2, 8, 2, 2)), Step(1, 2, 4, 0.5, 0.9, 4.0))
SCORED = advance(BEGUN, EpochScored(1, 0.5, 0.9, 0.6, 0.9, 0.25, 1.0, 1e-3))
DONE = advance(SCORED, Segmented(outcome(Path("x"))))


def test_networks_say_where_they_are() -> None:
    texts = {
        "not trained yet": pixel_views.preview([TINY]),
        "waits for its turn": job(DONE, RUN),
        "in line, at place 2": job(RUN, state="waiting", place=2),
        "the scenes are being made": job(replace(RUN, state="starting")),
        "epoch 1 of 2 · step 2 of 4 · 4 images/s · 3 s left": job(BEGUN),
        "0.250 mean IoU over the validation scenes": job(SCORED),
        "1.000 mean IoU over 1 test scenesdone: 12 s, 50 images/s": job(DONE),
        "too large": job(advance(BEGUN, Failed("too large"))),
    }
    for words, view in texts.items():
        assert words in shown(pixel_views.live(view)), words
    assert [pixel_views.progress(run) for run in (RUN, BEGUN, SCORED, DONE)] == [0, 0.25, 0.5, 1]


def test_results_compare_borders_and_insides() -> None:
    assert pixel_views.results(job(DONE, BEGUN)) == ""
    markup = pixel_views.results(job(DONE, DONE, state="finished"))
    root = parsed(markup)
    assert "A · FCN-8s has a mean IoU of 1.000 over 1 test scenes" in shown(markup)
    assert len(list(root.iter("details"))) == 2
    dots = [dot.get("class") for dot in root.iter("circle")]
    assert dots == ["boundary", "mean", "interior"] * 2


def labelled(truth: bool) -> Labelled:
    scores = outcome(Path("x")).scores if truth else None
    network = LabelMap(
        "A · FCN-8s", URL, (Patch("2", 0.5, 0.25),), {"photo": 0.75, "2": 0.25}, {"photo": 1, "2": 0.5}, scores
    )
    true = LabelMap("true mask", URL, (), {"photo": 1.0}, {}) if truth else None
    return Labelled(URL, 32, 48, true, (network,), outcome(Path("x")).class_names)


def test_a_labelled_picture_has_a_legend_and_figures() -> None:
    markup = pixel_views.answer(labelled(truth=True))
    root = parsed(markup)
    assert [key.text for key in root.iter("li")] == ["photo", "2"]
    assert "mean IoU 1.000 on this scene" in shown(markup)
    assert alternatives(markup)[-1] == "A · FCN-8s: photo 75.0%, 2 25.0%"
    (place,) = (span for span in root.iter("span") if span.get("class") == "patch")
    assert (place.text, place.get("style")) == ("2", "left:50.0%;top:25.0%")
    plain = shown(pixel_views.answer(labelled(truth=False)))
    assert "25.0%, 50%" in plain
    assert "true mask" not in plain


def pixel_choice(networks: Any = ("fcn8s",), **changes: Any) -> PixelChoice:
    values: dict[str, Any] = {"difficulty": "easy", "epochs": 3, "image_size": 64}
    return PixelChoice(networks, **(values | changes))


def test_controls_describe_one_training_a_network() -> None:
    configs = pixel_choice(["fcn32s", "unet"], channels=4.0, seed=2).configs()
    assert [config.network for config in configs] == ["fcn32s", "unet"]
    assert {(config.channels, config.seed, config.epochs) for config in configs} == {(4, 2, 3)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"networks": []}, "one to 5 networks"),
        ({"networks": None}, "one to 5 networks"),
        ({"networks": ["fcn8s"] * 6}, "one to 5 networks"),
        ({"networks": ["resnet"]}, "network must be one of"),
        ({"difficulty": "impossible"}, "the scenes must be one of easy, normal, hard"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"image_size": "large"}, "the image size must be a whole number"),
        ({"learning_rate": None}, "the learning rate must be a number"),
        ({"loss": "magic"}, "loss must be one of"),
        ({"train_images": 3}, "is larger than the 3 training images"),
    ],
)
def test_bad_settings_of_a_segmentation_get_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pixel_choice(**changes).configs()


# For programs.


class Answering:
    """A process that has said its last word already."""

    alive = False

    def __init__(self, word: object) -> None:
        self.words = [word]

    def poll(self) -> list[object]:
        said, self.words = self.words, []
        return said

    def stop(self) -> None:
        """It has ended."""

    kill = stop


@pytest.fixture
def trainings(tmp_path: Path) -> Iterator[Trainings]:
    """The endpoints over a registry whose processes answer at once, each kind with its own last word."""
    words = {
        LookTask: replace(FOUND, folder=save_photos(tmp_path / "photos", each=2)),
        FinetuneTask: Finished(result(tmp_path)),
        AskTask: PhotoAnswers((PhotoAnswer("mine.png", URL, URL, ("red", "blue"), (0.75, 0.25)),)),
        SegmentConfig: Segmented(outcome(tmp_path)),
        LabelTask: labelled(truth=False),
    }
    jobs = Jobs(Limits(), tmp_path / "jobs", start=lambda task, folder: Answering(words[type(task)]))
    yield Trainings(jobs)
    jobs.close()


def ended(trainings: Trainings, job: str) -> dict[str, Any]:
    end = time.monotonic() + 10
    while (view := trainings.job(job))["state"] != "finished":
        assert time.monotonic() < end
        time.sleep(0.01)
    return view


def request(name: str) -> gr.Request:
    return gr.Request(session_hash=name)


def test_programs_fine_tune_and_classify(trainings: Trainings, tmp_path: Path) -> None:
    photos = trainings.photos(request("anna"), "/uploads/waste.zip")
    assert ended(trainings, photos)["models"]["A"]["result"]["counts"] == FOUND.counts
    job = trainings.finetune(request("anna"), photos, {"alpha": 0.35, "image_size": 64, "weights": None})
    model = ended(trainings, job)["models"]["A"]
    assert (model["state"], model["result"]["test_accuracy"]) == ("done", 0.75)
    assert "/srv" not in json.dumps(model)
    assert asyncio.run(trainings.classify(request("ben"), job, "mine.png")) == {"red": 0.75, "blue": 0.25}
    with pytest.raises(InputError, match="no picture came"):
        asyncio.run(trainings.classify(request("ben"), job, None))
    with pytest.raises(InputError, match="no longer here"):
        asyncio.run(trainings.label(request("ben"), job, "mine.png"))


def test_programs_train_and_ask_networks_that_label_pixels(trainings: Trainings) -> None:
    job = trainings.segment(request("anna"), [{"image_size": 32, "channels": 2}, {"image_size": 32, "network": "unet"}])
    assert [model["state"] for model in ended(trainings, job)["models"].values()] == ["done", "done"]
    found = asyncio.run(trainings.label(request("anna"), job, "mine.png"))
    assert found["A · FCN-8s"] == {"shares": {"photo": 0.75, "2": 0.25}, "certainty": {"photo": 1, "2": 0.5}}


def test_an_unanswered_question_says_why(trainings: Trainings) -> None:
    job = trainings.segment(request("anna"), [{"image_size": 32, "channels": 2}])
    ended(trainings, job)
    trainings._jobs._start = lambda task, folder: Answering(Failed("the picture cannot be used"))
    with pytest.raises(InputError, match="the picture cannot be used"):
        asyncio.run(trainings.label(request("anna"), job, "mine.png"))


# Charts.


def test_marks_and_dots_lie_inside_their_pictures() -> None:
    line = parsed(line_chart("Loss", [], x_high=10, y_high=1, x_label="epoch", marks=[Mark("half", 5)]))
    (mark,) = (each for each in line.iter("line") if each.get("class") == "level share")
    assert 40 < float(mark.get("x1", "")) < 440
    rows: Sequence[Dots] = [Dots(EVIL, ((0.0, "boundary"), (1.0, "mean")))]
    markup = dot_chart("IoU", rows, ("low", "high"), x_label="share")
    assert EVIL not in markup
    places = [float(dot.get("cx", "")) for dot in parsed(markup).iter("circle")]
    assert 90 <= places[0] < places[1] <= 440
