"""The third tab: what both models say to images from the dataset, from a file or drawn by hand."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np

from toolkit.answers import Numbers, Predictions, ask, disagreements, predictions, worst_mistakes
from toolkit.arithmetic import InputError
from toolkit.jobs import Jobs
from toolkit.loading import Dataset, Pixels
from toolkit.pictures import Shelf, drawn_digit, uploaded
from toolkit.training import TrainResult
from toolkit.ui import answer_views
from toolkit.ui.answer_views import Tile
from toolkit.ui.components import Updates, area, at_once, message_area
from toolkit.ui.markup import message, tag
from toolkit.ui.pad import drawing_pad
from toolkit.ui.run_views import LETTERS

DISAGREE, WORST_A, WORST_B, ALL = "They disagree", "A's worst mistakes", "B's worst mistakes", "All, in order"
TEST, TRAINING = "test images", "training images"
EVERY_CLASS = "every class"
PAGE = 36
PICK = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-index]');
  if (!button) return;
  for (const other of element.querySelectorAll('[aria-pressed]')) other.removeAttribute('aria-pressed');
  button.setAttribute('aria-pressed', 'true');
  trigger('select', { index: Number(button.dataset.index), value: button.getAttribute('aria-label') });
});
"""
INVITATION = "There is nothing to ask yet: train two models first. The small ones take about a quarter of a minute."


class Predictor:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, jobs: Jobs, shelf: Shelf, job: gr.Textbox) -> None:
        self.jobs, self.shelf, self.job = jobs, shelf, job
        self.problem = message_area(elem_id="predict-problem")
        with gr.Column(elem_id="invitation") as self.invitation:
            area(tag("p", INVITATION, class_="message note"))
            self.train = gr.Button("Train two small models on digits", variant="primary", elem_id="train-now")
        with gr.Row(visible=False) as self.room:
            with gr.Column(scale=6, min_width=320):
                self._sources()
            with gr.Column(scale=5, min_width=320):
                self.answers = area(elem_id="answers")
        self._wire()

    def _sources(self) -> None:
        with gr.Tabs():
            with gr.Tab("Pick"):
                with gr.Row():
                    self.part = gr.Dropdown([TEST, TRAINING], value=TEST, label="From the", min_width=120)
                    self.kind = gr.Dropdown([DISAGREE, WORST_A, WORST_B, ALL], label="Which", min_width=150)
                    self.only = gr.Dropdown([EVERY_CLASS], value=EVERY_CLASS, label="Of class", min_width=120)
                self.album = area(js_on_load=PICK, elem_id="album")
                self.page = gr.State(0)
                with gr.Row():
                    self.back = gr.Button("Back", size="sm")
                    self.more = gr.Button("More", size="sm")
            with gr.Tab("Draw"):
                self.pad = drawing_pad()
            with gr.Tab("Upload"):
                self.file = gr.File(label="A picture (JPEG, PNG, WebP, …)", file_types=["image"], elem_id="upload")

    def _wire(self) -> None:
        choices = [self.job, self.part, self.kind, self.only]
        shown = [self.album, self.page, self.problem]
        at_once([self.part.input, self.kind.input, self.only.input], self._first_page, choices, shown)
        at_once(self.back.click, lambda page, *choices: self._turn(page - 1, *choices), [self.page, *choices], shown)
        at_once(self.more.click, lambda page, *choices: self._turn(page + 1, *choices), [self.page, *choices], shown)
        at_once(self.album.select, self._picked, [self.job, self.part], [self.answers, self.problem])
        at_once(self.pad.input, self._drawn, [self.job, self.pad], [self.answers, self.problem])
        at_once(self.file.upload, self._uploaded, [self.job, self.file], [self.answers, self.problem])

    def open_after(self, event: Any) -> None:
        """Show the album when a training has ended."""
        event.then(
            self._open,
            self.job,
            [self.invitation, self.room, self.kind, self.only, self.album, self.page, self.answers, self.problem],
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=8,
        )

    # Handlers.

    def _open(self, job: str) -> Updates:
        """The room with its first album and its first answer, once there are models to ask."""
        results = self._results(job)
        if not results:
            return {self.invitation: gr.update(visible=True), self.room: gr.update(visible=False)}
        try:
            data = self._data(results)
            kind = DISAGREE if len(results) > 1 and len(self._numbers(results, data, TEST, DISAGREE)) else WORST_A
            numbers = self._numbers(results, data, TEST, kind)
            first = int(numbers[0]) if len(numbers) else 0
            return {
                self.invitation: gr.update(visible=False),
                self.room: gr.update(visible=True),
                self.kind: kind,
                self.only: gr.update(choices=[EVERY_CLASS, *data.info.class_names], value=EVERY_CLASS),
                self.answers: self._answers(results, data.x_test[first], data.info.class_names[data.y_test[first]]),
                **self._turn(0, job, TEST, kind, EVERY_CLASS),
            }
        except InputError as error:
            return {self.problem: message(str(error))}

    def _first_page(self, *choices: str) -> Updates:
        return self._turn(0, *choices)

    def _turn(self, page: int, job: str, part: str, kind: str, only: str) -> Updates:
        """Another page of the album."""
        try:
            results = self._required(job)
            data = self._data(results)
            numbers = self._numbers(results, data, part, kind)
            if only in data.info.class_names:
                numbers = numbers[_labels(data, part)[numbers] == data.info.class_names.index(only)]
            page = min(max(page, 0), max(len(numbers) - 1, 0) // PAGE)
            album = self._album(results, data, part, numbers[page * PAGE : (page + 1) * PAGE])
            return {self.album: album, self.page: page, self.problem: ""}
        except InputError as error:
            return {self.problem: message(str(error))}

    def _picked(self, event: gr.SelectData, job: str, part: str) -> Updates:
        def image(results: Sequence[tuple[str, TrainResult]]) -> tuple[Pixels, str | None]:
            data = self._data(results)
            number = int(event.index) % len(_labels(data, part))
            return _images(data, part)[number], data.info.class_names[_labels(data, part)[number]]

        return self._answered(job, image)

    def _drawn(self, job: str, url: str) -> Updates:
        def image(results: Sequence[tuple[str, TrainResult]]) -> tuple[Pixels, str | None]:
            info = self._data(results).info
            return drawn_digit(url or "", info.name, info.image_shape), None

        return self._answered(job, image)

    def _uploaded(self, job: str, file: str) -> Updates:
        def image(results: Sequence[tuple[str, TrainResult]]) -> tuple[Pixels, str | None]:
            return uploaded(file, self._data(results).info.image_shape), None

        return self._answered(job, image)

    def _answered(self, job: str, image_of: Any) -> Updates:
        try:
            results = self._required(job)
            return {self.answers: self._answers(results, *image_of(results)), self.problem: ""}
        except InputError as error:
            return {self.problem: message(str(error))}

    # What there is to show.

    def _results(self, job: str) -> list[tuple[str, TrainResult]]:
        """The models of the job that have learned something, with their letters."""
        if not self.jobs.knows(job):
            return []
        runs = zip(LETTERS, self.jobs.view(job).runs, strict=False)
        return [(letter, run.result) for letter, run in runs if run.result is not None]

    def _required(self, job: str) -> list[tuple[str, TrainResult]]:
        results = self._results(job)
        if not results:
            raise InputError("there are no trained models here; train two models first")
        return results

    def _data(self, results: Sequence[tuple[str, TrainResult]]) -> Dataset:
        return self.shelf.take(results[0][1].config.dataset)

    def _answers(self, results: Sequence[tuple[str, TrainResult]], image: Pixels, truth: str | None) -> str:
        return answer_views.answers(image, truth, [(letter, ask(result, image)) for letter, result in results])

    def _numbers(self, results: Sequence[tuple[str, TrainResult]], data: Dataset, part: str, kind: str) -> Numbers:
        """The images of a part in the order that was chosen; only test images have been predicted beforehand."""
        models = {letter: predictions(result.folder) for letter, result in results}
        if part == TEST and kind == DISAGREE and len(models) > 1:
            return disagreements(*models.values())
        letter = {WORST_A: "A", WORST_B: "B"}.get(kind)
        if part == TEST and letter in models:
            return worst_mistakes(models[letter], data.y_test)
        return np.arange(len(_labels(data, part)))

    def _album(self, results: Sequence[tuple[str, TrainResult]], data: Dataset, part: str, numbers: Numbers) -> str:
        names, labels = data.info.class_names, _labels(data, part)
        known = [_said(predictions(result.folder)) if part == TEST else {} for _, result in results]
        tiles = [
            Tile(int(n), names[labels[n]], tuple(names[said[n]] if n in said else None for said in known))
            for n in numbers
        ]
        return answer_views.album(_images(data, part)[numbers], tiles, NOTHING)


NOTHING = "There are no such images: the models agree, or make no such mistake."


def _said(model: Predictions) -> dict[int, int]:
    """The answer of a model by the number of the test image."""
    return dict(zip(model.index.tolist(), model.classes.tolist(), strict=True))


def _images(data: Dataset, part: str) -> Pixels:
    return data.x_test if part == TEST else data.x_train


def _labels(data: Dataset, part: str) -> Numbers:
    return data.y_test if part == TEST else data.y_train
