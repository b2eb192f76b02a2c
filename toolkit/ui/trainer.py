"""The second tab: two models, trained side by side, in one picture."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any

import gradio as gr

from toolkit.arithmetic import InputError
from toolkit.datasets import DATASETS
from toolkit.jobs import FILES, Forecast, Jobs, JobView, RunView, bundle, check_size, forecast, memory_limit
from toolkit.layers import Architecture
from toolkit.training import AUGMENTATIONS, OPTIMIZERS, SCHEDULES, TrainConfig
from toolkit.ui import run_views
from toolkit.ui.calculator import FROM_CALCULATOR, Calculator, Settings, whole
from toolkit.ui.components import Updates, area, at_once, message_area, typed_in, visitor
from toolkit.ui.markup import Html, message
from toolkit.ui.views import title
from toolkit.ui.watching import follow, followed, recall, recalled, remember, stopped

NETWORKS = ("small_cnn", "dense_baseline", "lenet5", "alexnet_28", "alexnet_32", "vit_tiny", "mobilenet_v2", "resnet18")
USUAL = TrainConfig()
KEY = "cnn-toolkit-job"


@dataclass(frozen=True)
class Choice:
    """What the controls of one model say, in their order."""

    architecture: str
    channels: float
    dropout: float
    batch_size: float
    learning_rate: float | None
    optimizer: str
    epochs: float
    augmentation: str
    schedule: str
    accumulation_steps: float
    seed: float | None

    def config(self, dataset: str, network: Architecture | None) -> TrainConfig:
        """The run that they describe; raises InputError where they cannot be."""
        if self.learning_rate is None:
            raise InputError("the learning rate must be a number; nothing came; give a number such as 0.001")
        return TrainConfig(
            dataset=dataset,
            architecture="small_cnn" if self.architecture == FROM_CALCULATOR else self.architecture,
            network=network,
            channels=whole("channels", self.channels),
            dropout=self.dropout,
            batch_size=whole("the batch size", self.batch_size),
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            epochs=whole("epochs", self.epochs),
            augmentation=self.augmentation,
            schedule=self.schedule,
            accumulation_steps=whole("the accumulation steps", self.accumulation_steps),
            seed=whole("the seed", self.seed),
        )


class ModelControls:
    """The controls of one model, and its forecast."""

    def __init__(self, letter: str, network: str) -> None:
        networks = [*((title(name), name) for name in NETWORKS), (FROM_CALCULATOR, FROM_CALCULATOR)]
        with gr.Column(min_width=190), gr.Group(elem_classes=f"model-{letter.lower()}"):
            self.architecture = gr.Dropdown(networks, value=network, label=f"Model {letter}")
            small = network == "small_cnn"
            self.channels = gr.Slider(2, 64, 16, step=2, label="Channels", visible=small)
            self.dropout = gr.Slider(0, 0.8, 0.25, step=0.05, label="Dropout", visible=small)
            self.epochs = gr.Slider(1, 30, 8, step=1, label="Epochs")
            self.batch_size = gr.Dropdown([8, 16, 32, 64, 128, 256], value=32, label="Batch size")
            self.learning_rate = gr.Number(USUAL.learning_rate, label="Learning rate", step=0.0001)
            self.optimizer = gr.Dropdown(list(OPTIMIZERS), value=USUAL.optimizer, label="Optimizer")
            with gr.Accordion("More", open=False):
                self._rare_controls()
            self.forecast = area(elem_id=f"forecast-{letter.lower()}", padding=True)

    def _rare_controls(self) -> None:
        self.augmentation = gr.Dropdown(list(AUGMENTATIONS), value="none", label="Augmentation")
        self.schedule = gr.Dropdown(list(SCHEDULES), value=USUAL.schedule, label="Schedule")
        self.accumulation_steps = gr.Slider(
            1, 32, 1, step=1, label="Accumulation steps", info="batches that the weights move once for"
        )
        self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of `Choice`, in its order."""
        return [
            *(self.architecture, self.channels, self.dropout, self.batch_size, self.learning_rate),
            *(self.optimizer, self.epochs, self.augmentation, self.schedule, self.accumulation_steps),
            self.seed,
        ]

    def start(self) -> Choice:
        """What they say when the page opens."""
        return Choice(*(component.value for component in self.inputs))


class Trainer:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, jobs: Jobs, calculator: Calculator, tab: gr.Tab) -> None:
        self.jobs, self.calculator, self.tab = jobs, calculator, tab
        with gr.Row():
            with gr.Column(scale=4, min_width=330):
                names = [(info.title, name) for name, info in DATASETS.items()]
                self.dataset = gr.Dropdown(names, value="digits", label="Dataset", elem_id="dataset")
                with gr.Row():
                    self.models = [ModelControls("A", "dense_baseline"), ModelControls("B", "small_cnn")]
            with gr.Column(scale=6, min_width=320, elem_classes="stage"):
                self._stage()
        self.results = area(elem_id="results")
        with gr.Column(visible=False) as self.downloads:
            self.files = [self._downloads(letter) for letter in run_views.LETTERS]
        self.job = gr.Textbox(visible=False, elem_id="job")
        self._wire()

    def _stage(self) -> None:
        with gr.Row():
            self.train = gr.Button("Train both", variant="primary", scale=3, min_width=120, elem_id="train")
            self.stops = [
                gr.Button(text, interactive=False, scale=1, min_width=64, elem_id=text.lower().replace(" ", "-"))
                for text in ("Stop A", "Stop B", "Stop both")
            ]
        self.problem = message_area(elem_id="train-problem")
        starts = [model.start().config("digits", None) for model in self.models]
        self.live = area(run_views.live(run_views.preview(starts)), elem_id="live")

    def _downloads(self, letter: str) -> list[gr.DownloadButton]:
        """A button for each file of one model."""
        names = (f"Model {letter}: all files", *FILES)
        with gr.Row(elem_classes="downloads"):
            return [gr.DownloadButton(name, size="sm", min_width=110) for name in names]

    def _wire(self) -> None:
        for model in self.models:
            changes = [typed_in(component) for component in (self.dataset, *model.inputs)]
            outputs = [model.forecast, model.channels, model.dropout]
            at_once([*changes, self.tab.select], partial(self._forecast, model), self._asked(model), outputs)
            model.forecast.value = self._told(forecast(model.start().config("digits", None)))
        for button, model_number in zip(self.stops, (0, 1, None), strict=True):
            at_once(button.click, partial(self._stop, model_number), self.job, self.problem)

    def begin_with(self, button: gr.Button) -> Any:
        """Start the training that the controls describe; return the event of its end."""
        begun = at_once(button.click, self._begin, self._asked(*self.models), [self.problem, self.job])
        begun.then(None, self.job, None, js=remember(KEY), queue=False, api_visibility="private")
        return self._watched_after(begun)

    def wire_page(self, page: gr.Blocks) -> Any:
        """Find the tab's training again after a reload; note when the tab closes."""
        page.unload(self._leave)
        opened = page.load(
            self._recall,
            self.job,
            self.job,
            js=recall(KEY),
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        return self._watched_after(opened)

    def _watched_after(self, event: Any) -> Any:
        """Show the job until it ends."""
        shown = [self.problem, self.live, self.results, self.downloads, *chain(*self.files), self.train, *self.stops]
        return follow(event, self._watch, self.job, shown)

    def _asked(self, *models: ModelControls) -> list[gr.components.Component]:
        return [self.dataset, *self.calculator.inputs, *(each for model in models for each in model.inputs)]

    # Handlers.

    def _forecast(self, model: ModelControls, dataset: str, *values: Any) -> Updates:
        """What the run will take, and the controls that its network has."""
        small = values[len(self.calculator.inputs)] == "small_cnn"
        own = {control: gr.update(visible=small) for control in (model.channels, model.dropout)}
        try:
            (config,) = self._configs(dataset, values)
            return {model.forecast: self._told(check_size(config, self.jobs.limits)), **own}
        except InputError as error:
            return {model.forecast: message(str(error)), **own}

    def _told(self, ahead: Forecast) -> Html:
        return run_views.forecast_line(ahead, memory_limit(self.jobs.limits))

    def _begin(self, request: gr.Request, dataset: str, *values: Any) -> Updates:
        try:
            job = self.jobs.submit(self._configs(dataset, values), visitor(request))
            return {self.problem: "", self.job: job}
        except InputError as error:
            return {self.problem: message(str(error))}

    def _stop(self, model: int | None, job: str) -> str:
        return stopped(self.jobs, job, model)

    def _recall(self, request: gr.Request, job: str) -> str:
        return recalled(self.jobs, job, RunView, visitor(request))

    def _leave(self, request: gr.Request) -> None:
        self.jobs.leave(visitor(request))

    async def _watch(self, job: str) -> AsyncIterator[Updates]:
        """The job as it is, whenever it has changed, until it has ended."""
        nothing = {self.train: gr.update(interactive=True)}
        async for updates in followed(self.jobs, job, RunView, self._shown, nothing):
            yield updates

    def _shown(self, job: JobView[RunView]) -> Updates:
        training = [not run.ended for run in job.runs]
        stops = dict(zip(self.stops, (*training, any(training)), strict=True))
        buttons = {button: gr.update(interactive=active) for button, active in stops.items()}
        info = DATASETS[job.runs[0].config.dataset]
        return {
            self.live: run_views.live(job),
            self.results: run_views.results(job, info.class_names),
            self.train: gr.update(interactive=not any(training)),
            **buttons,
            **self._files(job),
        }

    def _files(self, job: JobView[RunView]) -> Updates:
        """Every model's files, once both have ended; a model that learned nothing has none."""
        bundles = [bundle(run) if job.state == "finished" else [] for run in job.runs]
        updates: Updates = {self.downloads: gr.update(visible=any(bundles))}
        for buttons, files in zip(self.files, bundles, strict=True):
            for button, file in zip_longest(buttons, map(str, files)):
                updates[button] = gr.update(value=file, visible=file is not None)
        return updates

    # What the controls say.

    def _configs(self, dataset: str, values: Sequence[Any]) -> list[TrainConfig]:
        """The runs that the calculator's and the models' values describe; raises InputError."""
        own, size = len(self.calculator.inputs), len(fields(Choice))
        settings = Settings(*values[:own])
        choices = [Choice(*values[start : start + size]) for start in range(own, len(values), size)]
        return [choice.config(dataset, _own_network(choice, settings, dataset)) for choice in choices]


def _own_network(choice: Choice, settings: Settings, dataset: str) -> Architecture | None:
    """The Calculator's network for the images of the dataset, where that was chosen."""
    if choice.architecture != FROM_CALCULATOR:
        return None
    net = settings.net()
    if not isinstance(net, Architecture):
        raise InputError("an opened file cannot be trained here; choose a network by its name or change its layers")
    return replace(net, input_shape=DATASETS[dataset].image_shape)
