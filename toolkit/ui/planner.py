"""The tab that plans batches: what fits into a memory, beside the answer that a formula of pixels gives.

A plan comes from arithmetic, at once. Its peak can then be found in other ways, in a process that can be stopped; what
was found stays in the visitor's browser.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from math import floor, isfinite
from typing import Any

import gradio as gr

from toolkit import system
from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import OPTIMIZER_SLOTS
from toolkit.costs import Network
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.measurements import STOPPED, Question
from toolkit.memory_reports import Advice, advise
from toolkit.runtimes import POLICIES
from toolkit.show import parse_shape
from toolkit.ui import memory_views
from toolkit.ui.calculator import FROM_CALCULATOR, SIZE_HINT, Calculator, Settings, size_text, whole
from toolkit.ui.components import Updates, area, at_once, message_area, visitor
from toolkit.ui.markup import message
from toolkit.ui.views import title

START = "resnet50"
GIB = 2**30
# Slider steps of a twentieth of a GiB are what people read; larger machines can be planned for, too.
LARGEST_GIB = 4096
ANY = "any images"
# What the page calls the methods of `estimate_memory`, and measuring.
METHODS = {
    "by arithmetic": "arithmetic",
    "by compiling": "compiling",
    "by probing": "probing",
    "by measuring": "measuring",
}
HINT = "arithmetic is instant, probing runs a quarter and a half of the batch, measuring runs all of it"
NO_COMPILER = "; compiling needs Keras on JAX, which compiles a whole step beforehand"
# Where a browser keeps what was found, and how much of it.
STORAGE, MOST_KEPT = "cnn-toolkit-peaks", 12


@dataclass(frozen=True)
class Wish:
    """What a visitor wants planned. `limit` is in GiB; None means what this machine has now."""

    network: str
    size: str
    wanted: float | None
    limit: float | None
    policy: str
    optimizer: str
    dataset: str = ANY
    any_number: bool = False

    def net(self, calculator: Settings | None) -> Network:
        """The network; raises InputError where it cannot be."""
        if self.network == FROM_CALCULATOR and calculator is not None:
            return calculator.net()
        return architecture(self.network, parse_shape(self.size) if self.size.strip() else None)

    def advice(self, calculator: Settings | None = None) -> Advice:
        """The plan and what belongs to it; raises InputError."""
        info = DATASETS.get(self.dataset)
        return advise(
            self.net(calculator),
            whole("the wish", self.wanted),
            None if self.limit is None else gib("the memory limit", self.limit),
            power_of_two=not self.any_number,
            train_size=info.train_size if info else None,
            test_size=info.test_size if info else None,
            dtype_policy=self.policy,
            optimizer=self.optimizer,
        )

    def question(self, method: str, calculator: Settings | None = None) -> Question:
        """How the peak of the plan is to be found; raises InputError."""
        plan = self.advice(calculator).plan
        return Question(
            self.net(calculator),
            plan.batch_size,
            dtype_policy=self.policy,
            optimizer=self.optimizer,
            name=plan.network,
            method=METHODS[method],
            accumulation_steps=plan.accumulation_steps,
        )


def methods_here() -> list[str]:
    """The methods that there are with this backend."""
    return [name for name in METHODS if name != "by compiling" or system.default_execution() == "jax"]


def with_finding(new: memory_views.Finding, kept: object) -> list[object]:
    """What a browser is to keep: one more of what was found, the newest first.

    >>> with_finding(("lenet5", "probing", 3, 4, 1.0), None)
    [('lenet5', 'probing', 3, 4, 1.0)]
    """
    return [new, *(kept if isinstance(kept, list) else [])][:MOST_KEPT]


def gib(what: str, value: float | str) -> int:
    """GiB from a page as bytes; raises InputError for text, nothing, and what no machine has.

    >>> gib("the memory limit", 1.5)
    1610612736
    """
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = 0.0
    if not isfinite(number) or not 0 < number <= LARGEST_GIB or floor(number * GIB) < 1:
        raise InputError(
            f"{what} must be a number of GiB above 0 and up to {LARGEST_GIB:,}; {str(value)[:40]!r} came; give one "
            "such as 4"
        )
    return floor(number * GIB)


class Planner:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, calculator: Calculator, tab: gr.Tab) -> None:
        self.calculator, self.tab = calculator, tab
        size = size_text(architecture(START).input_shape)
        self.start = Wish(START, size, 300, here(), "float32", "adam")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self._controls()
            with gr.Column(scale=5, min_width=320):
                self.problem = message_area(elem_id="plan-problem")
                self.plan = area(elem_id="plan")
                self._finding()
        self._wire()

    def _finding(self) -> None:
        """Where the peak of the plan is found in another way."""
        here = methods_here()
        hint = HINT + ("" if "by compiling" in here else NO_COMPILER)
        self.method = gr.Radio(here, value=here[-1], label="Find the peak of this plan", info=hint, elem_id="method")
        with gr.Row(elem_classes="measure"):
            self.find = gr.Button("Find it now", size="sm", elem_id="find")
            self.stop = gr.Button("Stop", size="sm", variant="stop", interactive=False, elem_id="stop-finding")
        self.progress = area(elem_id="finding")
        self.kept = gr.BrowserState([], storage_key=STORAGE, secret=STORAGE)  # it is no secret, and outlives the server
        self.found = area(elem_id="found")

    def _controls(self) -> None:
        names = [(title(name), name) for name in ARCHITECTURES]
        choices = [*names, (FROM_CALCULATOR, FROM_CALCULATOR)]
        self.network = gr.Dropdown(choices, value=START, label="Network to train", elem_id="plan-network")
        self.size = gr.Textbox(self.start.size, label="Image size", info=SIZE_HINT, max_lines=1, elem_id="plan-size")
        self.wanted = gr.Number(300, label="Wished batch", precision=0, minimum=1, elem_id="wanted")
        self.limit = gr.Number(
            self.start.limit, label="Memory limit in GiB", info="this machine's free memory, to begin with",
            minimum=0.01, maximum=LARGEST_GIB, step=0.25, elem_id="limit",
        )  # fmt: skip
        with gr.Row():
            self.policy = gr.Dropdown(list(POLICIES), value="float32", label="dtype policy", min_width=150)
            self.optimizer = gr.Dropdown(list(OPTIMIZER_SLOTS), value="adam", label="Trained with", min_width=110)
        with gr.Accordion("More", open=False):
            data = [(info.title, name) for name, info in DATASETS.items()]
            self.dataset = gr.Dropdown([(ANY, ANY), *data], value=ANY, label="No more images than those of")
            self.any_number = gr.Checkbox(False, label="Any number, not only powers of two")

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of `Wish`, in its order."""
        return [
            *(self.network, self.size, self.wanted, self.limit, self.policy, self.optimizer),
            *(self.dataset, self.any_number),
        ]

    def _wire(self) -> None:
        looks = [*self.inputs, *self.calculator.inputs]
        results = [self.problem, self.plan]
        changes = [
            *(self.size.change, self.wanted.input, self.limit.input, self.policy.input),
            *(self.optimizer.input, self.dataset.input, self.any_number.input, self.tab.select),
        ]
        at_once(changes, self._answer, looks, results)
        at_once(self.network.input, self._choose, looks, [self.size, *results])
        at_once(self.tab.select, memory_views.findings, self.kept, self.found)
        self.find.click(
            self._find,
            [self.method, self.kept, *looks],
            [self.progress, self.kept, self.found, self.find, self.stop],
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=None,
        )
        at_once(self.stop.click, self._stop, None, [self.progress, self.find, self.stop])

    # Handlers.

    async def _find(self, request: gr.Request, method: str, kept: Any, *values: Any) -> AsyncIterator[Updates]:
        """The search for a peak as it goes on; whatever becomes of it, what was found before stays."""
        own = len(self.inputs)
        wish, settings = Wish(*values[:own]), Settings(*values[own:])
        try:
            question = await asyncio.to_thread(wish.question, method, settings)
            if question.method == "arithmetic":
                yield self._keep(memory_views.finding(question.estimate, question.estimate, 0.0), kept)
                return
            async for view in self.calculator.measurements.followed(question, visitor(request)):
                if answer := view.measurement or view.estimated:
                    yield self._keep(memory_views.finding(view.estimate, answer, view.seconds), kept)
                else:
                    yield {self.progress: memory_views.measuring(view), **self._buttons(busy=not view.ended)}
        except InputError as error:
            yield {self.progress: message(str(error)), **self._buttons(busy=False)}

    def _buttons(self, busy: bool) -> Updates:
        return {self.find: gr.Button(interactive=not busy), self.stop: gr.Button(interactive=busy)}

    def _keep(self, new: memory_views.Finding, kept: Any) -> Updates:
        everything = with_finding(new, kept)
        found = memory_views.findings(everything)
        return {self.progress: "", self.kept: everything, self.found: found, **self._buttons(busy=False)}

    def _stop(self, request: gr.Request) -> Updates:
        """End the search; it says so itself, too, when it looks the next time."""
        self.calculator.measurements.stop(visitor(request))
        return {self.progress: message(STOPPED), **self._buttons(busy=False)}

    def _answer(self, *values: Any) -> Updates:
        own = len(self.inputs)
        return self._planned(Wish(*values[:own]), Settings(*values[own:]))

    def _choose(self, *values: Any) -> Updates:
        """Plan for another network, with its own image size."""
        own = len(self.inputs)
        wish, settings = Wish(*values[:own]), Settings(*values[own:])
        if wish.network in ARCHITECTURES:
            wish = replace(wish, size=size_text(architecture(wish.network).input_shape))
        else:
            wish = replace(wish, size=settings.size)
        return {self.size: wish.size, **self._planned(wish, settings)}

    def _planned(self, wish: Wish, settings: Settings) -> Updates:
        """The plan, or the sentence that says why there is none."""
        try:
            return {self.problem: "", self.plan: memory_views.advice(wish.advice(settings))}
        except InputError as error:
            return {self.problem: message(str(error)), self.plan: ""}


def here() -> float:
    """The free memory of this machine in GiB, rounded down to what a person would type."""
    return max(0.25, floor(4 * system.available_memory() / GIB) / 4)
