"""The page's answers for programs: plain data in, plain data out, and a sentence where something is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.events import api

from toolkit import export, show
from toolkit.answers import ask
from toolkit.arithmetic import InputError
from toolkit.costs import costs
from toolkit.finetuning import FinetuneConfig, FinetuneTask
from toolkit.jobs import Jobs, RunView, TaskView
from toolkit.keras_files import read_keras_file
from toolkit.photo_jobs import AskTask, AskView, FinetuneView, LookTask, LookView
from toolkit.pictures import uploaded
from toolkit.pixel_jobs import MOST_NETWORKS, LabelTask, LabelView, SegmentView
from toolkit.segmentation import SegmentConfig
from toolkit.training import TrainConfig
from toolkit.ui.calculator import START, Settings, whole
from toolkit.ui.components import visitor
from toolkit.ui.planner import Wish
from toolkit.ui.run_views import LETTERS
from toolkit.zips import ZipLimits

P = ParamSpec("P")
R = TypeVar("R")
Plain = dict[str, Any]


def in_words(answer: Callable[P, R]) -> Callable[P, R]:
    """The same function, but what a person got wrong goes to the caller as a sentence, not into the log."""

    @wraps(answer)
    def told(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return answer(*arguments, **named)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return told


def awaited_in_words(answer: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """`in_words` for a function that waits."""

    @wraps(answer)
    async def told(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return await answer(*arguments, **named)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return told


@in_words
def cost(
    network: str = START, input_size: str = "", batch: int = 1, dtype: str = "float32", optimizer: str = "adam"
) -> Plain:
    """What a network with a name costs: parameters, MACs, bytes and its layers. `input_size` is written 224x224x3."""
    settings = Settings(str(network), str(input_size), batch, str(dtype), str(optimizer), [], None)
    net = settings.net()
    return show.told(settings.price(net), *settings.peaks(net))


@in_words
def plan(
    network: str = START,
    input_size: str = "",
    wanted: int = 300,
    limit_gib: float | None = None,
    dtype_policy: str = "float32",
    optimizer: str = "adam",
) -> Plain:
    """The largest batch whose training fits into a memory, and the accumulation steps for the wish; the naive answer.

    Without `limit_gib`, the limit is the memory that is free on this server.
    """
    wish = Wish(str(network), str(input_size), wanted, limit_gib, str(dtype_policy), str(optimizer))
    return wish.advice().to_dict()


@in_words
def cost_of_layers(net: Plain, batch: int = 1, dtype: str = "float32", optimizer: str = "adam") -> Plain:
    """What a network costs that is described by its name, input_shape and layers (see toolkit.export.to_dict)."""
    return costs(export.from_dict(net), whole("the batch", batch), str(dtype), str(optimizer)).to_dict()


@in_words
def cost_of_file(file: str | None) -> Plain:
    """What the network in a .keras file costs; only its description is read, its code is never run."""
    if file is None:
        raise InputError("no file came; give a .keras file")
    return costs(read_keras_file(file)).to_dict()


class Trainings:
    """The endpoints that need the registry of trainings."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def train(self, request: gr.Request, model_a: Plain, model_b: Plain) -> str:
        """Train two models side by side; the settings are those of TrainConfig. Returns the id of the job."""
        configs = [self._config(model_a), self._config(model_b)]
        return self._jobs.submit(configs, visitor(request))

    def job(self, job: str) -> Plain:
        """How a job is getting on: its state, its place in line and its models (or the photos that it looks at)."""
        view = self._jobs.view(str(job), TaskView)
        runs = {letter: _run(run) for letter, run in zip(ascii_uppercase, view.runs, strict=False)}
        return {"state": view.state, "place": view.place, "seconds": view.seconds, "models": runs}

    def stop(self, job: str) -> Plain:
        """Stop all models of a job; what they learned is kept."""
        self._jobs.stop(str(job))
        return self.job(job)

    def predict(self, job: str, file: str | None) -> Plain:
        """What both models of a job say to a picture: the probability of each class."""
        if file is None:
            raise InputError("no picture came; give a JPEG or PNG file")
        answers = {}
        for letter, run in zip(LETTERS, self._jobs.view(str(job)).runs, strict=False):
            if run.result is None:
                raise InputError(f"model {letter} has not learned anything yet; ask again when the job is finished")
            answer = ask(run.result, uploaded(file, run.image_shape))
            answers[letter] = dict(zip(answer.classes, answer.probabilities, strict=True))
        return answers

    def photos(self, request: gr.Request, file: str | None) -> str:
        """Look at a zip with a folder of photos for each class. Returns the id of the job, for /job and /finetune."""
        if file is None:
            raise InputError("no photos came; give a zip with a folder for each class")
        limits = self._jobs.limits
        task = LookTask(file, Path(file).name, ZipLimits(files=limits.photos, bytes=limits.photo_bytes))
        return self._jobs.submit([task], visitor(request), LookView)

    def finetune(self, request: gr.Request, photos: str, settings: Plain) -> str:
        """Fine-tune MobileNetV2 on photos that were looked at; the settings are those of FinetuneConfig.

        Returns the id of the job.
        """
        (found,) = self._jobs.view(str(photos), LookView).runs
        if found.result is None or found.result.unusable:
            why = found.result.unusable if found.result else found.message or "the look at them has not ended yet"
            raise InputError(f"these photos cannot be used: {why}")
        config = FinetuneConfig.from_dict(_settings(settings))
        if config.weights not in ("imagenet", None):
            raise InputError('the first weights are "imagenet" or null; files are for the command line')
        task = FinetuneTask(str(found.result.folder), config)
        return self._jobs.submit([task], visitor(request), FinetuneView, [str(photos)])

    async def classify(self, request: gr.Request, job: str, file: str | None) -> Plain:
        """What a fine-tuned network says of a photo: the probability of each class."""
        (run,) = self._jobs.view(str(job), FinetuneView).runs
        task = AskTask(str(_learned(run)), ((_given(file), Path(file or "").name),))
        (answer,) = (await self._answered(request, task, AskView, job)).result.answers
        if answer.failed:
            raise InputError(answer.failed)
        return dict(zip(answer.classes, answer.probabilities, strict=True))

    def segment(self, request: gr.Request, models: list[Plain]) -> str:
        """Train networks that label pixels; the settings of each are those of SegmentConfig.

        Returns the id of the job.
        """
        if not isinstance(models, list) or not 1 <= len(models) <= MOST_NETWORKS:
            raise InputError(f"a list of the settings of 1 to {MOST_NETWORKS} networks was expected")
        configs = [SegmentConfig.from_dict(_settings(settings)) for settings in models]
        return self._jobs.submit(configs, visitor(request), SegmentView)

    async def label(self, request: gr.Request, job: str, file: str | None) -> Plain:
        """What each network of a job finds in a picture: every class's share of the pixels and mean probability."""
        runs = zip(ascii_uppercase, self._jobs.view(str(job), SegmentView).runs, strict=False)
        task = LabelTask(tuple((letter, str(_learned(run))) for letter, run in runs), _given(file))
        found = (await self._answered(request, task, LabelView, job)).result
        return {each.name: {"shares": each.shares, "certainty": each.certainty} for each in found.maps}

    async def _answered(self, request: gr.Request, task: Any, kind: type[TaskView], job: str) -> Any:
        """The run of a question, once it has ended well; raises InputError where it did not."""
        question = self._jobs.submit([task], visitor(request), kind, [str(job)])
        while (view := self._jobs.view(question, kind)).state != "finished":
            await asyncio.sleep(0.1)
        if view.runs[0].result is None:
            raise InputError(view.runs[0].message)
        return view.runs[0]

    @staticmethod
    def _config(settings: Mapping[str, Any]) -> TrainConfig:
        return TrainConfig.from_dict(_settings(settings))


def _settings(settings: object) -> Mapping[str, Any]:
    if not isinstance(settings, Mapping):
        raise InputError('a model is described by its settings, such as {"seed": 1}')
    return settings


def _given(file: str | None) -> str:
    if file is None:
        raise InputError("no picture came; give a JPEG or PNG file")
    return file


def _learned(run: TaskView) -> Path:
    """The folder of a run that has learned something."""
    if run.result is None:
        raise InputError("the network has not learned anything yet; ask again when the job is finished")
    return run.folder


def _run(run: TaskView) -> Plain:
    """A run as plain data, without a path of this server."""
    told: Plain = {"state": run.state, "message": run.message, "result": None}
    match run:
        case RunView() | SegmentView():
            told["epochs"] = [vars(end) for end in run.epochs]
            told["result"] = run.result.to_dict() if run.result is not None else None
        case FinetuneView():
            told["epochs"] = [{"phase": each.begun.phase} | vars(end) for each in run.phases for end in each.epochs]
            told["result"] = run.plain_result()
        case LookView() if run.result is not None:
            told["result"] = run.result.to_dict()
    return told


def add_endpoints(jobs: Jobs) -> None:
    """Put the endpoints on the page that is being built."""
    trainings = Trainings(jobs)
    for function in (
        cost,
        cost_of_layers,
        plan,
        in_words(trainings.job),
        in_words(trainings.stop),
        in_words(trainings.train),
        in_words(trainings.finetune),
        in_words(trainings.segment),
    ):
        api(function, queue=False)
    _file_endpoints(trainings)


def _file_endpoints(trainings: Trainings) -> None:
    """Files come through components, which hold uploads apart from the server's own files."""
    with gr.Row(visible=False):
        job, file, told = gr.Textbox(label="job"), gr.File(label="file"), gr.JSON()
        gr.Button().click(cost_of_file, file, told, api_name="cost_of_file", queue=False)
        gr.Button().click(in_words(trainings.predict), [job, file], told, api_name="predict", queue=False)
        gr.Button().click(in_words(trainings.photos), file, job, api_name="photos", queue=False)
        for name, function in (("classify", trainings.classify), ("label", trainings.label)):
            gr.Button().click(awaited_in_words(function), [job, file], told, api_name=name, queue=False)
