"""What the page shows of memory: where predicted bytes go, a measurement beside its estimate, and plans."""

from collections.abc import Mapping

from toolkit import show
from toolkit.batches import BatchPlan
from toolkit.measurements import MeasuringView
from toolkit.memory import Measurement
from toolkit.memory_reports import Advice
from toolkit.runtimes import MemoryEstimate
from toolkit.ui.charts import Bar, Level, bar_chart
from toolkit.ui.markup import Html, cards, join, message, table, tag

# What the parts of an estimate mean, in the words of the page.
PARTS = {
    "optimizer": "optimizer's memory",
    "activations": "activations",
    "temporaries": "temporaries of the kernels",
    "workspace": "workspace of the kernels",
    "runtime": "the framework's bookkeeping",
    "pool": "gaps in the memory pool",
}
# How far a measurement is, in words.
STAGES = {"": "a new process imports Keras", "imported": "building the network", "built": "the first step"}
DOING = {"measuring": "Measuring", "probing": "Probing", "compiling": "Compiling"}
# A part has the same colour in every bar: style.css has one for each of these places and one more for all others.
PLACES = ("weights", "gradients", "optimizer", "activations", "input", "temporaries", "runtime", "workspace")


def parts_bar(caption: str, small: str, parts: Mapping[str, int], names: Mapping[str, str]) -> Html:
    """Bytes as one bar, in the order of its parts; each part and its bytes stand below it in words."""
    total = sum(parts.values()) or 1
    shown = [
        (_colour(name), f"{names.get(name, name)} {show.readable_bytes(size)}", size / total)
        for name, size in parts.items()
        if size > 0
    ]
    words = [text for _, text, _ in shown]
    bars = (tag("i", class_=colour, style=f"width:{share:.2%}", title=text) for colour, text, share in shown)
    keys = (tag("li", text, class_=f"key {colour}") for colour, text, _ in shown)
    heading = tag("figcaption", caption, tag("small", small) if small else "")
    stack = tag("div", *bars, class_="stack", role="img", aria_label=f"{caption}: {', '.join(words)}")
    return tag("figure", heading, stack, tag("ul", *keys, class_="legend"))


def _colour(name: str) -> str:
    return f"part{PLACES.index(name) if name in PLACES else len(PLACES)}"


def estimate_bar(estimate: MemoryEstimate) -> Html:
    """Where the bytes of a predicted peak go; the process before the network is told beside it."""
    what = "one training step" if estimate.training else "one prediction"
    caption = f"Predicted peak of {what}: {show.readable_bytes(estimate.peak_bytes)}"
    before = show.readable_bytes(estimate.framework_bytes)
    small = (
        f"by {estimate.method}; {show.conditions(estimate)}; {estimate.accuracy}. The process has {before} before the "
        f"network is built, {show.readable_bytes(estimate.process_bytes)} in all"
    )
    return parts_bar(caption, small, estimate.parts, PARTS)


# Measurements.


def measuring(view: MeasuringView) -> Html:
    """A measurement while it waits and runs, and what came out, beside its estimate."""
    if view.state == "failed":
        return message(view.message)
    if view.measurement is not None:
        return measured(view.estimate, view.measurement)
    if view.state == "waiting":
        where = f"in line, at place {view.place}"
    else:
        where = f"{STAGES.get(view.stage, view.stage)}, {view.seconds:.0f} s"
    return tag("p", f"{DOING[view.method]} {_asked(view.estimate)}: {where} …", class_="forecast", role="status")


def measured(estimate: MemoryEstimate, found: Measurement) -> Html:
    """Estimate, measurement and their ratio side by side."""
    ratio = estimate.peak_bytes / max(found.peak_bytes, 1)
    inside = cards(
        [
            ("Predicted", show.readable_bytes(estimate.peak_bytes), f"by {estimate.method}, before anything ran"),
            ("Measured", show.readable_bytes(found.peak_bytes), f"in a process of its own, {found.seconds:.1f} s"),
            ("Predicted / measured", f"{ratio:.2f}", "1 is a perfect prediction"),
        ]
    )
    heading = tag("figcaption", "Measured just now, on this server", tag("small", _asked(estimate)))
    return tag("figure", heading, inside, role="status")


def _asked(estimate: MemoryEstimate) -> str:
    step = "one training step" if estimate.training else "one prediction"
    return f"{step} of {estimate.network}, {show.conditions(estimate)}"


# What was found of a plan's peak, as a browser keeps it: whose peak, the method, bytes of the whole process as found
# and by arithmetic, seconds.
Finding = tuple[str, str, int, int, float]


def finding(estimate: MemoryEstimate, answer: Measurement | MemoryEstimate, seconds: float) -> Finding:
    """What was found, beside the arithmetic in `estimate`."""
    method = answer.method if isinstance(answer, MemoryEstimate) else "measuring"
    step = f"{estimate.network}, batch {estimate.batch_size:,}, {estimate.dtype_policy}, {estimate.optimizer}"
    return step, method, answer.process_bytes, estimate.process_bytes, round(seconds, 1)


def findings(kept: object) -> Html:
    """A table of what was found, the newest first. What a browser has kept and is none of ours is left out."""
    lines = [_finding_cells(*row) for row in kept if _is_finding(row)] if isinstance(kept, list) else []
    head = ("training step", "method", "peak", "arithmetic", "ratio", "time")
    return table(head, lines, caption="Peaks of the process that were found") if lines else Html("")


def _is_finding(row: object) -> bool:
    match row:
        case [str(), str(), int(found), int(), float() | int()]:
            return found > 0
    return False


def _finding_cells(what: str, method: str, found: int, said: int, seconds: float) -> list[str]:
    ratio = "–" if method == "arithmetic" else f"{said / found:.2f}"
    return [what, method, show.readable_bytes(found), show.readable_bytes(said), ratio, f"{seconds:.1f} s"]


# Plans.


def advice(given: Advice) -> Html:
    """A plan: its sentence, the naive answer beside the real one, the peaks in a picture and where the bytes go."""
    plan = given.plan
    pair = tag("div", _naive(given), _real(given), class_="runs")
    why = tag("p", plan.why, class_="summary")
    return join([why, pair, peaks_chart(given), estimate_bar(given.estimate)])


def _naive(given: Advice) -> Html:
    limit = given.plan.limit_bytes
    times = given.naive_bytes / limit
    what = f"would reach {show.readable_bytes(given.naive_bytes)}, "
    what += f"{times:,.1f} times the limit" if times > 1 else f"{times:.0%} of the limit"
    text = "memory over the bytes of one image: weights, activations and the framework are forgotten"
    return _answer("Naive answer", f"{given.naive_batch:,}", "images a step", text, what, "naive", times > 1)


def _real(given: Advice) -> Html:
    plan = given.plan
    steps = f" × {plan.accumulation_steps} = {plan.effective_batch:,}" if plan.accumulation_steps > 1 else ""
    words = "images a step × accumulation steps = effective batch" if steps else "images a step, no accumulation"
    share = plan.predicted_bytes / plan.limit_bytes
    what = f"reaches {show.readable_bytes(plan.predicted_bytes)}, {share:.0%} of the limit"
    text = "the largest batch whose predicted peak leaves a margin"
    return _answer("Real answer", f"{plan.batch_size:,}{steps}", words, text, what, "real", False)


def _answer(name: str, number: str, unit: str, how: str, what: str, class_: str, bad: bool) -> Html:
    figure = tag("p", number, tag("small", f" {unit}"), class_="figure")
    verdict = tag("p", what, class_="wrong" if bad else "right")
    return tag("section", tag("h3", name), figure, verdict, tag("p", how), class_=f"run {class_}", aria_label=name)


def peaks_chart(given: Advice) -> Html:
    """The predicted peak of the process over batch sizes, with the limit and the share of it that a plan may take."""
    plan = given.plan
    bars = [Bar(str(batch), size, _verdict(batch, size, plan)) for batch, size in given.peaks]
    levels = [
        Level(
            f"limit {plan.limit_bytes / 2**30:,.4g} GiB = {show.readable_bytes(plan.limit_bytes)}",
            plan.limit_bytes,
            "limit",
        ),
        Level(f"{plan.share:.0%} of it", plan.share * plan.limit_bytes, "share"),
    ]
    picture = bar_chart(
        "Predicted peak of the training process over the batch size",
        bars,
        levels,
        y_high=1.3 * plan.limit_bytes,
        x_label="images a step",
        show_y=lambda size: show.readable_bytes(int(size)),
    )
    keys = {"chosen": "the plan", "fits": "fits with a margin", "near": "fits, without one", "over": "does not fit"}
    used = [tag("li", text, class_=f"key {name}") for name, text in keys.items() if any(b.class_ == name for b in bars)]
    return tag("div", picture, tag("ul", *used, class_="legend"), class_="peaks")


def _verdict(batch: int, size: int, plan: BatchPlan) -> str:
    if batch == plan.batch_size:
        return "chosen"
    if size > plan.limit_bytes:
        return "over"
    return "fits" if size <= plan.share * plan.limit_bytes else "near"
