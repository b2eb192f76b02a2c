"""The first tab: what a network costs, at once, while its layers and settings change."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, nan
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

import gradio as gr

from toolkit import export, show
from toolkit.architectures import ARCHITECTURES, architecture
from toolkit.arithmetic import DTYPE_BYTES, OPTIMIZER_SLOTS
from toolkit.costs import Costs, Network, costs, rows_of
from toolkit.errors import InputError
from toolkit.keras_files import read_keras_file
from toolkit.layers import Architecture, Shape
from toolkit.measurements import Measurements, Question
from toolkit.memory_reports import POLICY_OF, peaks
from toolkit.runtimes import MemoryEstimate
from toolkit.show import parse_shape
from toolkit.ui import memory_views, views
from toolkit.ui.components import Updates, area, at_once, message_area, visitor
from toolkit.ui.drawing import network_drawing
from toolkit.ui.markup import message

START = "small_cnn"
LARGEST = 10**9
SECONDS_BETWEEN_VIEWS = 0.5
OWN, OPENED = "own layers", "opened file"
# What other tabs call the network that is set here.
FROM_CALCULATOR = "the Calculator's network"
EDITOR = "Edit"
SHARING = "Share"
DETAILS = ("Layers", "Drawing", EDITOR, SHARING)
# What can be taken away, and the language in which it is coloured.
FORMATS: dict[str, Literal["json", "markdown", "python"] | None] = {
    "JSON": "json",
    "Markdown": "markdown",
    "Keras code": "python",
    "Text diagram": None,
}


@dataclass(frozen=True)
class Settings:
    """What a visitor has chosen. `network` is a name of `ARCHITECTURES`, `OWN` (then `table` counts) or `OPENED`."""

    network: str
    size: str
    batch: float | None
    dtype: str
    optimizer: str
    table: Sequence[Sequence[Any]]
    file: str | None

    def net(self) -> Network:
        """The network itself; raises InputError where it cannot be."""
        if self.network == OWN:
            rows = [dict(zip(export.COLUMNS, row, strict=False)) for row in self.table]
            return export.from_table("own network", _own_shape(self.size), rows)
        if self.network == OPENED:
            return read_keras_file(self._opened(), parse_shape(self.size) if self.size.strip() else None)
        return architecture(self.network, parse_shape(self.size) if self.size.strip() else None)

    def price(self, net: Network) -> Costs:
        """What it costs; raises InputError."""
        return costs(net, whole("the batch", self.batch), self.dtype, self.optimizer, name=self._name())

    def peaks(self, net: Network) -> tuple[MemoryEstimate, ...]:
        """The predicted peaks of inference and training; raises InputError."""
        return peaks(net, whole("the batch", self.batch), self.dtype, self.optimizer, self._name())

    def question(self, training: bool) -> Question:
        """What to measure; raises InputError where Keras does not train in the chosen dtype."""
        if self.dtype not in POLICY_OF:
            raise InputError(f"{self.dtype} cannot be measured: Keras trains in {', '.join(POLICY_OF)}; choose one")
        batch = whole("the batch", self.batch)
        return Question(self.net(), batch, training, POLICY_OF[self.dtype], self.optimizer, self._name())

    def _name(self) -> str:
        return Path(self.file).name if self.network == OPENED and self.file else "model"

    def _opened(self) -> str:
        if not self.file:
            raise InputError("no file is open; open a .keras file with the button, or choose a network by its name")
        return self.file


def _own_shape(size: str) -> Shape:
    if not size.strip():
        raise InputError("own layers need an input size, such as 28x28x1")
    return parse_shape(size)


def whole(what: str, value: float | str | None) -> int:
    """A number from a page as a whole number; raises InputError for text, fractions and nothing.

    >>> whole("the batch", 32.0)
    32
    """
    try:
        number = float(value if value is not None else "nothing")
    except (ValueError, TypeError):
        number = nan
    if not abs(number) <= LARGEST or number != floor(number):
        raise InputError(
            f"{what} must be a whole number of at most {LARGEST:,}; {str(value)[:40]!r} came; give one such as 32"
        )
    return int(number)


# Texts.


def exported(price: Costs, net: Network, form: str, peaks: Sequence[MemoryEstimate] = ()) -> str:
    """The network or its costs as text in one of `FORMATS`."""
    match form:
        case "Markdown":
            return show.markdown(price, *peaks)
        case "Keras code":
            return export.keras_code(net, price.name)
        case "Text diagram":
            return show.diagram(net)
        case _:
            return show.to_json(price, *peaks)


def table_of(net: Network) -> list[list[str]]:
    """The rows of the editor; raises InputError for a network that was read from a file."""
    if not isinstance(net, Architecture):
        raise InputError("the layers of an opened file can be priced but not edited; start from a network by its name")
    return [list(row.values()) for row in export.to_table(net)]


def query(settings: Settings, net: Network) -> dict[str, str]:
    """The settings as the parameters of a link. An opened file stays on the machine of its owner."""
    asked = {"batch": str(whole("the batch", settings.batch)), "dtype": settings.dtype, "optimizer": settings.optimizer}
    if not isinstance(net, Architecture):
        raise InputError("an opened file cannot be shared by a link; share the file itself")
    if settings.network == OWN:
        return {"design": export.share_token(net), **asked}
    return {"network": settings.network, "input": settings.size.replace(" ", ""), **asked}


def link(parameters: Mapping[str, str], request: gr.Request | None) -> str:
    """The address of this page with these settings. On a Space the visitor's address is that of the Space's page."""
    space = os.environ.get("SPACE_ID")
    page = f"https://huggingface.co/spaces/{space}" if space else _address(request)
    return f"{page}?{urlencode(parameters)}"


def _address(request: gr.Request | None) -> str:
    """Where the visitor's browser says it is, without parameters."""
    referer = dict(request.headers).get("referer", "") if request is not None else ""
    parts = urlsplit(referer)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")) if parts.scheme in ("http", "https") else ""


def from_query(parameters: Mapping[str, str]) -> Settings | None:
    """The settings of a link, or None for a link without any; raises InputError for a damaged one."""
    if "design" not in parameters and "network" not in parameters:
        return None
    table: list[list[str]] = []
    network, size = parameters.get("network", START), parameters.get("input", "")
    if "design" in parameters:
        net = export.from_token(parameters["design"])
        network, size, table = OWN, size_text(net.input_shape), table_of(net)
    elif not size:
        size = size_text(architecture(network).input_shape)
    batch = whole("the batch", parameters.get("batch", "1"))
    dtype, optimizer = parameters.get("dtype", "float32"), parameters.get("optimizer", "adam")
    return Settings(network, size, batch, dtype, optimizer, table, None)


def size_text(shape: Shape) -> str:
    """A shape for the field of the input size.

    >>> size_text((28, 28, 1))
    '28x28x1'
    """
    return "x".join(str(size) for size in shape)


# The page.

SIZE_HINT = "height x width x channels"
OPEN_LABEL = "Open a .keras file (its code is never run)"
EDITOR_HINT = """Write over any cell; the numbers above follow. The menu of a cell adds and removes rows. Sizes are
written `3` or `1 x 7`. Branches stand between the rows `Branches: add` (or `concatenate`, `multiply`), `next path` and
`end of branches`. Whatever else a layer takes is JSON in the last column, such as `{"use_bias": false}`."""


class Calculator:
    """The tab: its components, and what happens when one of them changes."""

    def __init__(self, measurements: Measurements) -> None:
        self.measurements = measurements
        self.start = Settings(START, size_text(architecture(START).input_shape), 1, "float32", "adam", [], None)
        self.shown = gr.State(DETAILS[0])
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self._controls()
            with gr.Column(scale=5, min_width=320):
                self.problem = message_area(elem_id="price-problem")
                net = self.start.net()
                self.totals = area(views.totals(self.start.price(net), self.start.peaks(net)), elem_id="totals")
                with gr.Row(elem_classes="measure"):
                    self.measure_training = gr.Button("Measure a training step now", size="sm", elem_id="measure")
                    self.measure_prediction = gr.Button("Measure a prediction now", size="sm")
                self.measured = area(elem_id="measured")
        self._details()
        self._wire()

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components of `Settings`, in its order."""
        return [self.network, self.size, self.batch, self.dtype, self.optimizer, self.table, self.file]

    def _controls(self) -> None:
        names = [(views.title(name), name) for name in ARCHITECTURES]
        self.network = gr.Dropdown(
            [*names, (OWN, OWN), (OPENED, OPENED)], value=START, label="Network", elem_id="network"
        )
        self.size = gr.Textbox(self.start.size, label="Input size", info=SIZE_HINT, max_lines=1, elem_id="size")
        with gr.Row():
            self.batch = gr.Number(1, label="Batch", precision=0, minimum=1, min_width=100, elem_id="batch")
            self.dtype = gr.Dropdown(list(DTYPE_BYTES), value="float32", label="dtype", min_width=130)
        self.optimizer = gr.Dropdown(list(OPTIMIZER_SLOTS), value="adam", label="Optimizer")
        self.file = gr.UploadButton(OPEN_LABEL, file_types=[".keras"], size="sm", elem_id="keras-file")

    def _details(self) -> None:
        price = self.start.price(self.start.net())
        with gr.Tabs() as self.tabs:
            with gr.Tab(DETAILS[0]):
                self.layers = area(views.layer_table(price), elem_id="layers")
            with gr.Tab(DETAILS[1]):
                self.drawing = area(elem_id="drawing")
            with gr.Tab(DETAILS[2]):
                gr.Markdown(EDITOR_HINT)
                self.table = gr.Dataframe(
                    headers=list(export.COLUMNS), datatype="str", type="array", interactive=True, elem_id="editor"
                )
            with gr.Tab(DETAILS[3]):
                self.link = gr.Textbox(
                    label="Link to exactly this", buttons=["copy"], interactive=False, max_lines=1, elem_id="link"
                )
                self.form = gr.Radio(list(FORMATS), value="JSON", label="Format")
                self.code = gr.Code(interactive=False, lines=16, max_lines=30, elem_id="export")

    def _wire(self) -> None:
        looks = [self.shown, self.form, *self.inputs]
        results = [self.problem, self.totals, self.layers, self.drawing, self.code, self.link]
        everything = [*results, *self.inputs]
        # A text's own `input` misses what is pasted; `change` sees everything, our own changes too, which do no harm.
        settings = [self.size.change, self.batch.input, self.dtype.input, self.optimizer.input, self.form.input]
        at_once(settings, self._answer, looks, results)
        at_once(self.network.input, self._choose, looks, everything)
        at_once(self.table.input, self._edit, looks, everything)
        at_once(self.file.upload, self._open, looks, everything)
        for button, measure in (
            (self.measure_training, self._measure_training),
            (self.measure_prediction, self._measure_prediction),
        ):
            button.click(
                measure,
                self.inputs,
                self.measured,
                show_progress="hidden",
                api_visibility="private",
                concurrency_limit=None,
            )
        at_once(self.tabs.select, self._look, looks, [*everything, self.shown])

    def wire_page(self, page: gr.Blocks) -> None:
        """Read the settings of a link when the page opens; end the tab's measurement when it closes."""
        page.unload(self._leave)
        shown = [self.problem, *self.inputs, self.totals, self.layers, self.link]
        at_once(page.load, self._load, [self.shown, self.form], shown)

    # Handlers. Each returns the components that change; a problem changes the message alone.

    def _answer(self, request: gr.Request, shown: str, form: str, *values: Any) -> Updates:
        return self._priced(shown, form, Settings(*values), request)

    def _choose(self, request: gr.Request, shown: str, form: str, *values: Any) -> Updates:
        settings = Settings(*values)
        if settings.network not in ARCHITECTURES:
            return self._priced(shown, form, settings, request)
        net = architecture(settings.network)
        settings = replace(settings, size=size_text(net.input_shape))
        table = {self.table: table_of(net)} if shown == EDITOR else {}
        return {self.size: settings.size, **table, **self._priced(shown, form, settings, request)}

    def _edit(self, request: gr.Request, shown: str, form: str, *values: Any) -> Updates:
        settings = replace(Settings(*values), network=OWN)
        return {self.network: OWN, **self._priced(shown, form, settings, request)}

    def _open(self, request: gr.Request, shown: str, form: str, *values: Any) -> Updates:
        settings = replace(Settings(*values), network=OPENED, size="")
        updates = self._priced(shown, form, settings, request)
        if self.totals in updates:
            updates[self.size] = size_text(rows_of(settings.net())[0].output_shape)
        return {self.size: "", self.network: OPENED, **updates}

    def _look(self, request: gr.Request, event: gr.SelectData, _: str, form: str, *values: Any) -> Updates:
        """Fill the part of the page that is being opened; the others are filled when they are looked at."""
        settings, shown = Settings(*values), str(event.value)
        updates = {self.shown: shown, **self._priced(shown, form, settings, request)}
        if shown == EDITOR and settings.network != OWN:
            try:
                updates[self.table] = table_of(settings.net())
            except InputError as error:
                updates |= {self.table: [], self.problem: message(str(error))}
        return updates

    def _load(self, request: gr.Request, shown: str, form: str) -> Updates:
        try:
            settings = from_query(dict(request.query_params))
        except InputError as error:
            return {self.problem: message(str(error))}
        if settings is None:
            return {self.link: link(query(self.start, self.start.net()), request)}
        updates = self._priced(shown, form, settings, request)
        controls = dict(zip(self.inputs, vars(settings).values(), strict=True)) if self.totals in updates else {}
        return {**controls, **updates}

    async def _measure_training(self, request: gr.Request, *values: Any) -> AsyncIterator[str]:
        async for shown in self._measure(Settings(*values), True, visitor(request)):
            yield shown

    async def _measure_prediction(self, request: gr.Request, *values: Any) -> AsyncIterator[str]:
        async for shown in self._measure(Settings(*values), False, visitor(request)):
            yield shown

    async def _measure(self, settings: Settings, training: bool, owner: str) -> AsyncIterator[str]:
        """A measurement as it goes on. It costs a coroutine and no thread while it waits."""
        try:
            question = await asyncio.to_thread(settings.question, training)
            asked = await asyncio.to_thread(self.measurements.submit, question, owner)
            while not (view := self.measurements.view(asked)).ended:
                yield memory_views.measuring(view)
                await asyncio.sleep(SECONDS_BETWEEN_VIEWS)
            yield memory_views.measuring(view)
        except InputError as error:
            yield message(str(error))

    def _leave(self, request: gr.Request) -> None:
        self.measurements.leave(visitor(request))

    def _priced(self, shown: str, form: str, settings: Settings, request: gr.Request) -> Updates:
        """The totals, the link, and the one detail that is open; or the sentence that says why not."""
        try:
            net = settings.net()
            price = settings.price(net)
            address = link(query(settings, net), request) if settings.network != OPENED else ""
            peaks = settings.peaks(net)
            detail = self._detail(shown, form, price, net, peaks)
            return {self.problem: "", self.totals: views.totals(price, peaks), self.link: address, **detail}
        except InputError as error:
            return {self.problem: message(str(error))}

    def _detail(self, shown: str, form: str, price: Costs, net: Network, peaks: Sequence[MemoryEstimate]) -> Updates:
        match shown:
            case "Layers":
                return {self.layers: views.layer_table(price)}
            case "Drawing":
                return {self.drawing: network_drawing(price.name, price.rows)}
            case "Share":
                return {self.code: gr.Code(exported(price, net, form, peaks), language=FORMATS[form])}
            case _:
                return {}
