"""The tab for people's own photos: a zip in, what is wrong with it, a fine-tuned network, its mistakes, its answers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import gradio as gr

from toolkit.arithmetic import InputError
from toolkit.finetuning import ALPHAS, AUGMENTATIONS, FinetuneConfig, FinetuneTask
from toolkit.jobs import Jobs, JobView, bundle, memory_limit
from toolkit.photo_jobs import (
    BASE,
    EXAMPLE,
    MOST_PHOTOS,
    AskTask,
    AskView,
    FinetuneView,
    LookTask,
    LookView,
    PhotosFound,
    finetune_forecast,
    imagenet_alphas,
)
from toolkit.show import readable_bytes
from toolkit.ui import photo_views
from toolkit.ui.calculator import whole
from toolkit.ui.components import Updates, area, at_once, message_area, typed_in, visitor
from toolkit.ui.markup import Html, message, tag
from toolkit.ui.watching import follow, followed, recall, recalled, remember, stopped
from toolkit.zips import ZipLimits

LOOK_KEY, JOB_KEY = "cnn-toolkit-photos", "cnn-toolkit-finetuning"
IMAGENET, RANDOM = "ImageNet", "random"
SIZES = (96, 128, 160, 192, 224)
EXPLAINED = 6
USUAL = FinetuneConfig(alpha=0.35, image_size=160, epochs=8)
NO_PHOTOS = "there are no photos yet; upload a zip with a folder for each class, or take the prepared example"


@dataclass(frozen=True)
class Choice:
    """What the controls say, in their order."""

    weights: str
    alpha: float
    image_size: float
    epochs: float
    augmentation: str
    blocks: float = USUAL.unfrozen_blocks
    learning_rate: float | None = USUAL.learning_rate
    batch_size: float = USUAL.batch_size
    class_weights: bool = False
    seed: float | None = 0

    def config(self) -> FinetuneConfig:
        """The settings that they describe; raises InputError where they cannot be."""
        if self.learning_rate is None:
            raise InputError("the learning rate must be a number; nothing came; give a number such as 0.0003")
        if self.weights not in (IMAGENET, RANDOM):
            raise InputError(f"the first weights are {IMAGENET} or {RANDOM}; {str(self.weights)[:40]!r} came")
        return FinetuneConfig(
            base=BASE,
            alpha=self.alpha,
            image_size=whole("the image size", self.image_size),
            weights="imagenet" if self.weights == IMAGENET else None,
            epochs=whole("epochs", self.epochs),
            augmentation=self.augmentation,
            unfrozen_blocks=whole("the blocks that learn", self.blocks),
            learning_rate=self.learning_rate,
            batch_size=whole("the batch size", self.batch_size),
            class_weights=bool(self.class_weights),
            seed=whole("the seed", self.seed),
        )


class Finetuner:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, jobs: Jobs, tab: gr.Tab) -> None:
        self.jobs, self.tab = jobs, tab
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self._photos()
                self._settings()
            with gr.Column(scale=6, min_width=320, elem_classes="stage"):
                self._stage()
        self.results = area(elem_id="finetune-results")
        self.mistakes = area(elem_id="mistakes")
        with gr.Column(visible=False) as self.room:
            self._room()
        self.look = gr.Textbox(visible=False, elem_id="look")
        self.job = gr.Textbox(visible=False, elem_id="finetuning")
        self.question = gr.Textbox(visible=False)
        self._wire()

    def _photos(self) -> None:
        limits = self.jobs.limits
        told = (
            f"A zip with a folder for each class, at most {readable_bytes(limits.upload_bytes)} and "
            f"{limits.photos:,} photos. They stay on this server while this tab is open, and nobody else sees them."
        )
        area(tag("p", told, class_="forecast"))
        self.zip = gr.File(label="Your photos (.zip)", file_types=[".zip"], elem_id="photos-zip", height=120)
        self.example = gr.Button("Take the prepared example", size="sm", elem_id="photos-example")

    def _settings(self) -> None:
        with gr.Group(elem_classes="model-a"):
            self.weights = gr.Radio([IMAGENET, RANDOM], value=IMAGENET, label="First weights", elem_id="first-weights")
            with gr.Row():
                widths = [(f"{alpha:g}", alpha) for alpha in ALPHAS[BASE]]
                self.alpha = gr.Dropdown(widths, value=USUAL.alpha, label="Width (alpha)", min_width=100)
                sizes = [(f"{size} × {size}", size) for size in SIZES]
                self.image_size = gr.Dropdown(sizes, value=USUAL.image_size, label="Image size", min_width=100)
            self.epochs = gr.Slider(
                0, 40, USUAL.epochs, step=1, label="Epochs of the last blocks", info="0: only the new head learns"
            )
            self.augmentation = gr.Dropdown(list(AUGMENTATIONS), value=USUAL.augmentation, label="Augmentation")
            with gr.Accordion("More", open=False):
                self.blocks = gr.Slider(0, 17, USUAL.unfrozen_blocks, step=1, label="Blocks that learn")
                self.learning_rate = gr.Number(USUAL.learning_rate, label="Learning rate", step=0.0001)
                self.batch_size = gr.Dropdown([4, 8, 16, 32], value=USUAL.batch_size, label="Batch size")
                self.class_weights = gr.Checkbox(False, label="Photos of rare classes count more")
                self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            self.forecast = area(elem_id="finetune-forecast", padding=True)

    def _stage(self) -> None:
        with gr.Row():
            self.train = gr.Button("Train", variant="primary", scale=3, min_width=120, elem_id="finetune")
            self.stop = gr.Button("Stop", interactive=False, scale=1, min_width=64, elem_id="finetune-stop")
        self.problem = message_area(elem_id="finetune-problem")
        self.live = area(elem_id="finetune-live")
        with gr.Accordion("What was found in the photos", open=True) as self.folded:
            note = tag("p", f"{NO_PHOTOS[0].upper()}{NO_PHOTOS[1:]}.", class_="message note")
            self.report = area(note, elem_id="report")

    def _room(self) -> None:
        area(tag("h3", "Try other photos, and take the network home", class_="photo-heading"))
        with gr.Row():
            self.photos = gr.File(
                label=f"Photos to ask about (at most {MOST_PHOTOS})",
                file_types=["image"],
                file_count="multiple",
                elem_id="try-photos",
                height=140,
            )
            with gr.Column(min_width=300):
                names = ("All files", *FinetuneView.files)
                with gr.Row(elem_classes="downloads"):
                    self.files = [gr.DownloadButton(name, size="sm", min_width=110) for name in names]
        self.answers = area(elem_id="photo-answers")

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of `Choice`, in its order."""
        return [
            *(self.weights, self.alpha, self.image_size, self.epochs, self.augmentation),
            *(self.blocks, self.learning_rate, self.batch_size, self.class_weights, self.seed),
        ]

    def _wire(self) -> None:
        asked = [self.look, *self.inputs]
        changes = [typed_in(component) for component in self.inputs]
        at_once([*changes, self.tab.select], self._forecast, asked, self.forecast)
        self.forecast.value = self._forecast("", *(component.value for component in self.inputs))
        for event in (
            at_once(self.zip.upload, self._look_at, self.zip, [self.problem, self.look, self.folded]),
            at_once(self.example.click, self._look_at_example, None, [self.problem, self.look, self.folded]),
        ):
            event.then(None, self.look, None, js=remember(LOOK_KEY), queue=False, api_visibility="private")
            self._look_watched(event).then(
                self._forecast, asked, self.forecast, queue=False, show_progress="hidden", api_visibility="private"
            )
        begun = at_once(self.train.click, self._begin, asked, [self.problem, self.job, self.folded])
        begun.then(None, self.job, None, js=remember(JOB_KEY), queue=False, api_visibility="private")
        self._job_watched(begun)
        at_once(self.stop.click, self._stop, self.job, self.problem)
        asked_about = at_once(self.photos.upload, self._ask, [self.job, self.photos], [self.answers, self.question])
        follow(asked_about, self._watch_question, self.question, self.answers)

    def wire_page(self, page: gr.Blocks) -> None:
        """Find the tab's photos and training again after a reload."""
        ids = [self.look, self.job]
        opened = page.load(
            self._recall,
            ids,
            ids,
            js=recall(LOOK_KEY, JOB_KEY),
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        self._look_watched(opened)
        self._job_watched(opened)

    def _look_watched(self, event: Any) -> Any:
        return follow(event, self._watch_look, self.look, self.report)

    def _job_watched(self, event: Any) -> None:
        """Show the training until it ends, then what its surest mistakes rest on."""
        shown = [self.problem, self.live, self.results, self.mistakes, self.room, self.train, self.stop, *self.files]
        follow(follow(event, self._watch, self.job, shown), self._explain, self.job, self.mistakes)

    # Handlers.

    def _forecast(self, look: str, *values: Any) -> Html:
        try:
            config = Choice(*values).config()
            found = self._found(look)
            ahead = finetune_forecast(config, found.photos if found else 0)
        except InputError as error:
            return message(str(error))
        return photo_views.forecast_line(ahead, memory_limit(self.jobs.limits), _weights_line(config))

    def _look_at(self, request: gr.Request, file: str | None) -> Updates:
        return self._looked(request, file, Path(file or "photos.zip").name)

    def _look_at_example(self, request: gr.Request) -> Updates:
        return self._looked(request, None, EXAMPLE)

    def _looked(self, request: gr.Request, file: str | None, name: str) -> Updates:
        limits = self.jobs.limits
        task = LookTask(file, name, ZipLimits(files=limits.photos, bytes=limits.photo_bytes))
        try:
            look = self.jobs.submit([task], visitor(request), LookView)
            return {self.problem: "", self.look: look, self.folded: gr.update(open=True)}
        except InputError as error:
            return {self.problem: message(str(error))}

    def _begin(self, request: gr.Request, look: str, *values: Any) -> Updates:
        try:
            config, found = Choice(*values).config(), self._found(look)
            if found is None or found.unusable:
                raise InputError(found.unusable if found else NO_PHOTOS)
            task = FinetuneTask(str(found.folder), config)
            job = self.jobs.submit([task], visitor(request), FinetuneView, [look])
            return {self.problem: "", self.job: job, self.folded: gr.update(open=False)}
        except InputError as error:
            return {self.problem: message(str(error))}

    def _stop(self, job: str) -> str:
        return stopped(self.jobs, job)

    def _recall(self, request: gr.Request, look: str, job: str) -> tuple[str, str]:
        name = visitor(request)
        return recalled(self.jobs, look, LookView, name), recalled(self.jobs, job, FinetuneView, name)

    def _ask(self, request: gr.Request, job: str, files: list[str] | None) -> Updates:
        photos = tuple((file, Path(file).name) for file in files or ())
        try:
            return {self.answers: "", self.question: self._asked(request, job, photos)}
        except InputError as error:
            return {self.answers: message(str(error))}

    def _asked(self, request: gr.Request, job: str, photos: tuple[tuple[str, str], ...]) -> str:
        (run,) = self.jobs.view(job, FinetuneView).runs
        if run.result is None:
            raise InputError("there is no network to ask yet; train one first")
        return self.jobs.submit([AskTask(str(run.folder), photos)], visitor(request), AskView, [job])

    async def _watch_look(self, look: str) -> AsyncIterator[Updates]:
        nothing: Updates = {self.report: gr.update()}
        async for updates in followed(
            self.jobs, look, LookView, lambda job: {self.report: photo_views.look(job)}, nothing
        ):
            yield updates

    async def _watch(self, job: str) -> AsyncIterator[Updates]:
        """The training as it is, whenever it has changed, until it has ended."""
        nothing: Updates = {self.train: gr.update(interactive=True)}
        async for updates in followed(self.jobs, job, FinetuneView, self._shown, nothing):
            yield updates

    async def _watch_question(self, question: str) -> AsyncIterator[Updates]:
        def shown(job: JobView[AskView]) -> Updates:
            return {self.answers: photo_views.answers(job, "What the network says")}

        async for updates in followed(self.jobs, question, AskView, shown, {self.answers: gr.update()}):
            yield updates

    async def _explain(self, request: gr.Request, job: str) -> AsyncIterator[Updates]:
        """The surest mistakes, and what they rest on, once the training has ended."""
        nothing: Updates = {self.mistakes: gr.update()}
        try:
            photos = self._mistakes(job)
            question = self._asked(request, job, photos) if photos else ""
        except InputError:  # the training is gone, or has learned nothing; it says so itself
            question = ""

        def shown(asked: JobView[AskView]) -> Updates:
            return {self.mistakes: photo_views.answers(asked, "The surest mistakes")}

        async for updates in followed(self.jobs, question, AskView, shown, nothing):
            yield updates

    def _mistakes(self, job: str) -> tuple[tuple[str, str], ...]:
        (run,) = self.jobs.view(job, FinetuneView).runs
        mistakes = run.result.mistakes[:EXPLAINED] if run.result is not None else ()
        return tuple((mistake.path, photo_views.mistake_name(mistake)) for mistake in mistakes)

    # What there is to show.

    def _found(self, look: str) -> PhotosFound | None:
        """What the look found, once it has ended well."""
        if not self.jobs.knows(look, LookView):
            return None
        return self.jobs.view(look, LookView).runs[0].result

    def _shown(self, job: JobView[FinetuneView]) -> Updates:
        (run,) = job.runs
        result = run.result if run.ended else None
        return {
            self.live: photo_views.live(job),
            self.results: photo_views.results(result) if result is not None else "",
            self.mistakes: "",
            self.room: gr.update(visible=result is not None),
            self.train: gr.update(interactive=run.ended),
            self.stop: gr.update(interactive=not run.ended),
            **self._downloads(run),
        }

    def _downloads(self, run: FinetuneView) -> Updates:
        files = bundle(run) if run.ended else []
        named = {"All files": files[0], **{file.name: file for file in files[1:]}} if files else {}
        updates: Updates = {}
        for button, name in zip_longest(self.files, ("All files", *FinetuneView.files)):
            file = named.get(name)
            updates[button] = gr.update(value=str(file) if file else None, visible=file is not None)
        return updates


def _weights_line(config: FinetuneConfig) -> str:
    """Where the first weights come from, in a sentence."""
    if config.weights is None:
        return "Random first weights: the network has seen nothing yet, and learns much less from few photos."
    here = imagenet_alphas()
    if config.alpha in here:
        return f"ImageNet's weights for alpha {config.alpha:g} are on this machine."
    others = f" On this machine: those for alpha {' and '.join(f'{alpha:g}' for alpha in here)}." if here else ""
    return f"ImageNet's weights for alpha {config.alpha:g} will be fetched from the internet once.{others}"
