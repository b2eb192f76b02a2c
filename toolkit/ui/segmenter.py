"""The tab that labels pixels: networks with and without skips are trained, compared, and asked about pictures."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import gradio as gr

from toolkit.arithmetic import InputError, require_choice
from toolkit.jobs import Jobs, JobView, bundle, memory_limit
from toolkit.pixel_jobs import MOST_NETWORKS, LabelTask, LabelView, Scene, SegmentView, segment_forecast
from toolkit.pixel_networks import LOSSES
from toolkit.scenes import DIFFICULTIES
from toolkit.segmentation import SegmentConfig
from toolkit.ui import pixel_views
from toolkit.ui.calculator import whole
from toolkit.ui.components import Updates, area, at_once, message_area, typed_in, visitor
from toolkit.ui.markup import Html, message, tag
from toolkit.ui.watching import follow, followed, recall, recalled, remember, stopped

KEY = "cnn-toolkit-segmenting"
NETWORKS = ("fcn32s", "fcn16s", "fcn8s", "dilated", "unet")
SIZES = (64, 96, 128)
# What one network learns in about a minute on one core.
USUAL = SegmentConfig(
    image_size=64,
    channels=8,
    train_images=500,
    validation_images=40,
    test_images=100,
    batch_size=8,
    epochs=18,
    difficulty=DIFFICULTIES["easy"],
)
BEGIN = ("fcn32s", "fcn8s")
INVITATION = (
    "Nothing is trained yet, and nothing was trained beforehand: press Train. Two small networks learn to find digits "
    "on photos in about a minute on an idle machine; then they label scenes, and pictures of yours."
)


@dataclass(frozen=True)
class Choice:
    """What the controls say, in their order."""

    networks: Sequence[str]
    difficulty: str
    epochs: float
    image_size: float
    channels: float = USUAL.channels
    train_images: float = USUAL.train_images
    learning_rate: float | None = USUAL.learning_rate
    loss: str = USUAL.loss
    seed: float | None = 0

    def configs(self) -> list[SegmentConfig]:
        """The trainings that they describe, one a network; raises InputError where they cannot be."""
        if not isinstance(self.networks, Sequence) or not 1 <= len(self.networks) <= MOST_NETWORKS:
            raise InputError(f"one to {MOST_NETWORKS} networks are trained together; choose some")
        if self.learning_rate is None:
            raise InputError("the learning rate must be a number; nothing came; give a number such as 0.004")
        one = replace(
            USUAL,
            difficulty=DIFFICULTIES[require_choice("the scenes", str(self.difficulty), tuple(DIFFICULTIES))],
            epochs=whole("epochs", self.epochs),
            image_size=whole("the image size", self.image_size),
            channels=whole("channels", self.channels),
            train_images=whole("the training scenes", self.train_images),
            learning_rate=self.learning_rate,
            loss=self.loss,
            seed=whole("the seed", self.seed),
        )
        return [replace(one, network=str(network)) for network in self.networks]


class Segmenter:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, jobs: Jobs, tab: gr.Tab) -> None:
        self.jobs, self.tab = jobs, tab
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self._settings()
            with gr.Column(scale=6, min_width=320, elem_classes="stage"):
                self._stage()
        with gr.Column(visible=False) as self.room:
            self._room()
        self.results = area(elem_id="segment-results")
        with gr.Column(visible=False) as self.downloads:
            self.files = [self._downloads(letter) for letter in pixel_views.LETTERS[:MOST_NETWORKS]]
        self.job = gr.Textbox(visible=False, elem_id="segmenting")
        self.question = gr.Textbox(visible=False)
        self._wire()

    def _settings(self) -> None:
        with gr.Group(elem_classes="model-a"):
            names = [(pixel_views.TITLES[name], name) for name in NETWORKS]
            self.networks = gr.CheckboxGroup(names, value=list(BEGIN), label="Networks", elem_id="networks")
            self.difficulty = gr.Radio(list(DIFFICULTIES), value="easy", label="How hard the scenes are")
            self.epochs = gr.Slider(1, 40, USUAL.epochs, step=1, label="Epochs", elem_id="segment-epochs")
            with gr.Accordion("More", open=False):
                sizes = [(f"{size} × {size}", size) for size in SIZES]
                self.image_size = gr.Dropdown(sizes, value=USUAL.image_size, label="Image size")
                self.channels = gr.Slider(2, 32, USUAL.channels, step=2, label="Channels of the first stage")
                self.train_images = gr.Slider(100, 2000, USUAL.train_images, step=100, label="Training scenes")
                self.learning_rate = gr.Number(USUAL.learning_rate, label="Learning rate", step=0.001)
                self.loss = gr.Dropdown(list(LOSSES), value=USUAL.loss, label="Loss")
                self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            self.forecast = area(elem_id="segment-forecast", padding=True)
        area(pixel_views.hints(NETWORKS))

    def _stage(self) -> None:
        with gr.Row():
            self.train = gr.Button("Train", variant="primary", scale=3, min_width=120, elem_id="segment")
            self.stop = gr.Button("Stop", interactive=False, scale=1, min_width=64, elem_id="segment-stop")
        self.problem = message_area(elem_id="segment-problem")
        self.invitation = area(tag("p", INVITATION, class_="message note"), elem_id="segment-invitation")
        start = [replace(USUAL, network=network) for network in BEGIN]
        self.live = area(pixel_views.live(pixel_views.preview(start)), elem_id="segment-live")

    def _room(self) -> None:
        area(tag("h3", "Label a picture", class_="photo-heading"))
        with gr.Row():
            with gr.Column(scale=2, min_width=240):
                self.another = gr.Button("Another scene", elem_id="another-scene")
                self.picture = gr.File(
                    label="Or a picture of yours (JPEG, PNG, …)",
                    file_types=["image"],
                    elem_id="pixel-upload",
                    height=120,
                )
            with gr.Column(scale=7, min_width=320):
                self.labels = area(elem_id="labels")

    def _downloads(self, letter: str) -> list[gr.DownloadButton]:
        names = (f"{letter}: all files", *SegmentView.files)
        with gr.Row(elem_classes="downloads"):
            return [gr.DownloadButton(name, size="sm", min_width=110) for name in names]

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of `Choice`, in its order."""
        return [
            *(self.networks, self.difficulty, self.epochs, self.image_size, self.channels, self.train_images),
            *(self.learning_rate, self.loss, self.seed),
        ]

    def _wire(self) -> None:
        changes = [typed_in(component) for component in self.inputs]
        at_once([*changes, self.tab.select], self._forecast, self.inputs, self.forecast)
        self.forecast.value = self._forecast(*(component.value for component in self.inputs))
        begun = at_once(self.train.click, self._begin, self.inputs, [self.problem, self.job])
        begun.then(None, self.job, None, js=remember(KEY), queue=False, api_visibility="private")
        self._watched_after(begun)
        at_once(self.stop.click, self._stop, self.job, self.problem)
        for event in (
            at_once(self.another.click, self._another, self.job, [self.labels, self.question]),
            at_once(self.picture.upload, self._uploaded, [self.job, self.picture], [self.labels, self.question]),
        ):
            follow(event, self._watch_question, self.question, self.labels)

    def wire_page(self, page: gr.Blocks) -> None:
        """Find the tab's training again after a reload."""
        opened = page.load(
            self._recall,
            self.job,
            self.job,
            js=recall(KEY),
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        self._watched_after(opened)

    def _watched_after(self, event: Any) -> None:
        """Show the training until it ends, then what the networks say of a scene."""
        shown = [
            *(self.problem, self.invitation, self.live, self.results, self.room, self.labels, self.train, self.stop),
            *(self.downloads, *chain(*self.files)),
        ]
        ended = follow(event, self._watch, self.job, shown)
        asked = ended.then(
            self._another,
            self.job,
            [self.labels, self.question],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        follow(asked, self._watch_question, self.question, self.labels)

    # Handlers.

    def _forecast(self, *values: Any) -> Html:
        try:
            ahead = [(config.network, segment_forecast(config)) for config in Choice(*values).configs()]
        except InputError as error:
            return message(str(error))
        return pixel_views.forecast_lines(ahead, memory_limit(self.jobs.limits))

    def _begin(self, request: gr.Request, *values: Any) -> Updates:
        try:
            return {
                self.problem: "",
                self.job: self.jobs.submit(Choice(*values).configs(), visitor(request), SegmentView),
            }
        except InputError as error:
            return {self.problem: message(str(error))}

    def _stop(self, job: str) -> str:
        return stopped(self.jobs, job)

    def _recall(self, request: gr.Request, job: str) -> str:
        return recalled(self.jobs, job, SegmentView, visitor(request))

    def _another(self, request: gr.Request, job: str) -> Updates:
        """Ask about a scene that nobody has seen; nothing where there is no network to ask."""
        if not self._trained(job):
            return {self.question: ""}
        config = self.jobs.view(job, SegmentView).runs[0].config
        return self._asked(request, job, Scene(secrets.randbelow(10**6), config.image_size, config.difficulty))

    def _uploaded(self, request: gr.Request, job: str, file: str | None) -> Updates:
        if file is None or not self._trained(job):
            return {self.labels: message("there is no network to ask yet; train one first")}
        return self._asked(request, job, file)

    def _asked(self, request: gr.Request, job: str, image: Scene | str) -> Updates:
        task = LabelTask(tuple(self._trained(job)), image)
        try:
            return {self.question: self.jobs.submit([task], visitor(request), LabelView, [job])}
        except InputError as error:
            return {self.labels: message(str(error)), self.question: ""}

    def _trained(self, job: str) -> list[tuple[str, str]]:
        """The networks of the job that have learned something: what they are called, and their folders."""
        if not self.jobs.knows(job, SegmentView):
            return []
        return [
            (f"{letter} · {pixel_views.title(run.config)}", str(run.folder))
            for letter, run in pixel_views.named(self.jobs.view(job, SegmentView))
            if run.result is not None
        ]

    async def _watch(self, job: str) -> AsyncIterator[Updates]:
        """The training as it is, whenever it has changed, until it has ended."""
        nothing: Updates = {self.train: gr.update(interactive=True)}
        async for updates in followed(self.jobs, job, SegmentView, self._shown, nothing):
            yield updates

    async def _watch_question(self, question: str) -> AsyncIterator[Updates]:
        def shown(job: JobView[LabelView]) -> Updates:
            return {self.labels: pixel_views.labelled(job)}

        async for updates in followed(self.jobs, question, LabelView, shown, {self.labels: gr.update()}):
            yield updates

    # What there is to show.

    def _shown(self, job: JobView[SegmentView]) -> Updates:
        finished = job.state == "finished"
        learned = finished and any(run.result is not None for run in job.runs)
        return {
            self.invitation: "",
            self.live: pixel_views.live(job),
            self.results: pixel_views.results(job),
            self.room: gr.update(visible=learned),
            self.labels: "",
            self.train: gr.update(interactive=finished),
            self.stop: gr.update(interactive=not finished),
            **self._bundles(job),
        }

    def _bundles(self, job: JobView[SegmentView]) -> Updates:
        """Every network's files, once all have ended; one that learned nothing has none."""
        found = [bundle(run) if job.state == "finished" else [] for run in job.runs]
        updates: Updates = {self.downloads: gr.update(visible=any(found))}
        for number, buttons in enumerate(self.files):
            files = found[number] if number < len(found) else []
            for button, file in zip_longest(buttons, map(str, files)):
                updates[button] = gr.update(value=file, visible=file is not None)
        return updates
