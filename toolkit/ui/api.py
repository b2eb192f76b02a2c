"""The page's answers for programs: plain data in, plain data out, and a sentence where something is wrong."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.events import api

from toolkit import export, show
from toolkit.answers import ask
from toolkit.arithmetic import InputError
from toolkit.costs import costs
from toolkit.jobs import Jobs, RunView
from toolkit.keras_files import read_keras_file
from toolkit.pictures import uploaded
from toolkit.training import TrainConfig
from toolkit.ui.calculator import START, Settings, whole
from toolkit.ui.components import visitor
from toolkit.ui.planner import Wish
from toolkit.ui.run_views import LETTERS

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
        """How a job is getting on: its state, its place in line and both models."""
        view = self._jobs.view(str(job))
        runs = {letter: _run(run) for letter, run in zip(LETTERS, view.runs, strict=False)}
        return {"state": view.state, "place": view.place, "seconds": view.seconds, "models": runs}

    def stop(self, job: str) -> Plain:
        """Stop both models of a job; what they learned is kept."""
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

    @staticmethod
    def _config(settings: Mapping[str, Any]) -> TrainConfig:
        if not isinstance(settings, Mapping):
            raise InputError('a model is described by its settings, such as {"channels": 16}')
        return TrainConfig.from_dict(settings)


def _run(run: RunView) -> Plain:
    told = {"state": run.state, "message": run.message, "epochs": [vars(end) for end in run.epochs]}
    return told | {"result": run.result.to_dict() if run.result is not None else None}


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
    ):
        api(function, queue=False)
    _file_endpoints(trainings)


def _file_endpoints(trainings: Trainings) -> None:
    """Files come through components, which hold uploads apart from the server's own files."""
    with gr.Row(visible=False):
        job, file, told = gr.Textbox(label="job"), gr.File(label="file"), gr.JSON()
        gr.Button().click(cost_of_file, file, told, api_name="cost_of_file", queue=False)
        gr.Button().click(in_words(trainings.predict), [job, file], told, api_name="predict", queue=False)
