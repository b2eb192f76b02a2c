"""The tab that plans batches: what fits into a memory, beside the answer that a formula of pixels gives."""

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
from toolkit.memory_reports import Advice, advise
from toolkit.runtimes import POLICIES
from toolkit.show import parse_shape
from toolkit.ui import memory_views
from toolkit.ui.calculator import FROM_CALCULATOR, SIZE_HINT, Calculator, Settings, size_text, whole
from toolkit.ui.components import Updates, area, at_once, message_area
from toolkit.ui.markup import message
from toolkit.ui.views import title

START = "resnet50"
GIB = 2**30
# Slider steps of a twentieth of a GiB are what people read; larger machines can be planned for, too.
LARGEST_GIB = 4096
ANY = "any images"


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
        self._wire()

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

    # Handlers.

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
