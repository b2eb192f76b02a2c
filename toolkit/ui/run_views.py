"""What the page shows of a training: both models while they learn, and what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from toolkit import show
from toolkit.jobs import Forecast, JobView, RunView, forecast, seconds_left, training_curve
from toolkit.training import Step, TrainConfig, TrainResult
from toolkit.ui.charts import Curve, line_chart
from toolkit.ui.markup import Html, bar, join, table, tag
from toolkit.ui.views import title

LETTERS = ("A", "B")
# Above this many classes a confusion matrix is too large to read; the most frequent mistakes say it better.
READABLE_CLASSES = 20
# The share of its colour that a cell of the matrix takes at most: more would swallow the number in it.
DARKEST = 50


def forecast_line(ahead: Forecast, limit_bytes: int) -> Html:
    """What a run will take, beside its controls: its size, its plan and its predicted peak within the limit."""
    price, estimate = ahead.costs, ahead.estimate
    size = tag("p", tag("b", f"{price.params:,}"), f" parameters · {show.readable_count(ahead.macs)} MACs in all")
    share = ahead.process_bytes / max(limit_bytes, 1)
    peak = tag("b", show.readable_bytes(ahead.process_bytes))
    of = f"of the {show.readable_bytes(limit_bytes)} that it may have"
    label = f"Predicted peak: {share:.0%} {of}"
    parts = (
        f"framework {show.readable_bytes(ahead.framework_bytes)}, network and its step "
        f"{show.readable_bytes(estimate.peak_bytes)}, images {show.readable_bytes(ahead.data_bytes)}"
    )
    plan = tag("p", "Plan: ", tag("b", plan_text(ahead)), ", predicted peak ", peak, f", {share:.0%} {of}")
    return tag("div", size, plan, bar(share, label=label), tag("small", parts), class_="forecast")


def plan_text(ahead: Forecast) -> str:
    """How many images are computed at once, and how often before the weights move."""
    batch, steps = ahead.estimate.batch_size, ahead.accumulation_steps
    return f"batch {batch} × {steps} steps = {batch * steps}" if steps > 1 else f"batch {batch}"


def preview(configs: Sequence[TrainConfig]) -> JobView[RunView]:
    """A job that nobody has submitted: what the page shows before the first training."""
    return JobView("", "waiting", 0, 0.0, tuple(RunView(config, Path()) for config in configs))


def live(job: JobView[RunView]) -> Html:
    """Both models while they train: where they are, and their curves in one picture."""
    cards = (run_card(job, run, index) for index, run in enumerate(job.runs))
    return join([tag("div", *cards, class_="runs"), curves(job.runs)])


def run_card(job: JobView[RunView], run: RunView, index: int) -> Html:
    """One model: its accuracy so far, its progress and a line about it."""
    letter = LETTERS[index]
    share = progress(run)
    filled = bar(share, label=f"Model {letter}: {share:.0%} of the training", class_=letter.lower())
    state = (
        tag("p", run.message, class_="message problem") if run.state == "failed" else tag("p", progress_text(job, run))
    )
    accuracy, measured_on = accuracy_text(run)
    figure = tag("p", accuracy, tag("small", measured_on), class_="figure")
    heading = tag("h3", f"{letter} · {network_title(run.config)}")
    return tag("section", heading, figure, filled, state, class_=f"run {letter.lower()}", aria_label=f"Model {letter}")


def network_title(config: TrainConfig) -> str:
    """The network of a run in a few words."""
    if config.network is not None:
        return config.network.name
    channels = f", {config.channels} channels" if config.architecture == "small_cnn" else ""
    return title(config.architecture) + channels


def progress(run: RunView) -> float:
    """How much of a run is over, from 0 to 1."""
    if run.state == "done":
        return 1.0
    if run.step is None:
        return 0.0
    return (run.step.epoch - 1 + run.step.step / run.step.steps) / run.config.epochs


def accuracy_text(run: RunView) -> tuple[str, str]:
    """The best-founded accuracy that is known by now, and on which images."""
    if run.result is not None:
        return f"{run.result.test_accuracy:.1%}", " of the test images are right"
    if run.epochs:
        return f"{run.epochs[-1].val_accuracy:.1%}", " of the validation images are right"
    if run.step is not None:
        return f"{run.step.accuracy:.1%}", " of the training images are right"
    return "–", ""


def progress_text(job: JobView[RunView], run: RunView) -> str:
    """Where a run is, in one line."""
    if run.state == "waiting":
        return f"in line, at place {job.place}" if job.place else "ready"
    if run.result is not None:
        how = run.message or run.result.note or "stopped" if run.state == "stopped" else "done"
        return f"{how}: {run.result.seconds:.1f} s, {run.result.images_per_second:,.0f} images/s"
    if run.step is None or run.ended:
        return run.message or run.state
    rss = run.memory.rss_bytes if run.memory is not None else None
    return step_text(run.step, run.config.epochs, seconds_left(run), rss)


def step_text(step: Step, epochs: int, left: float | None, rss_bytes: int | None) -> str:
    """How far a run is, how fast, for how many seconds yet, and how much memory its process has."""
    parts = [
        f"epoch {step.epoch} of {epochs}",
        f"step {step.step} of {step.steps}",
        f"{step.images_per_second:,.0f} images/s",
        f"{left:.0f} s left" if left is not None else "",
        show.readable_bytes(rss_bytes) if rss_bytes is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def curves(runs: Sequence[RunView]) -> Html:
    """Accuracy and loss of all runs over the epochs, in one picture each."""
    epochs = max(run.config.epochs for run in runs)
    accuracy = [curve for index, run in enumerate(runs) for curve in run_curves(run, index, "accuracy")]
    loss = [curve for index, run in enumerate(runs) for curve in run_curves(run, index, "loss")]
    top = max([point[1] for curve in loss for point in curve.points if point[0] > 0.2] or [1.0])
    names = [tag("li", f"Model {LETTERS[index]}", class_=f"key {LETTERS[index].lower()}") for index in range(len(runs))]
    thin = tag("li", "thin: training images, as it goes; thick with dots: validation images, after each epoch")
    pictures = (
        line_chart("Accuracy", accuracy, x_high=epochs, y_high=1.0, x_label="epoch", show_y="{:.0%}".format),
        line_chart("Loss", loss, x_high=epochs, y_high=max(top * 1.05, 0.1), x_label="epoch", show_y="{:.2g}".format),
    )
    return join([tag("div", *pictures, class_="pair"), tag("ul", *names, thin, class_="legend")])


def run_curves(run: RunView, index: int, what: str) -> list[Curve]:
    """The training curve and the validation curve of one run."""
    letter = LETTERS[index]
    steps = tuple((point.epochs, float(getattr(point, what))) for point in training_curve(run.steps, run.epochs))
    epochs = tuple((float(end.epoch), float(getattr(end, f"val_{what}"))) for end in run.epochs)
    return [
        Curve(f"{letter} (training)", letter.lower(), steps),
        Curve(f"{letter} (validation)", letter.lower(), epochs, dots=True),
    ]


# Results.


def results(job: JobView[RunView], class_names: Sequence[str]) -> Html:
    """What came out: a sentence, the comparison and both confusion matrices; nothing while a model still trains."""
    ended = [(LETTERS[index], run.result) for index, run in enumerate(job.runs) if run.result is not None]
    if job.state != "finished" or not ended:
        return Html("")
    shown = (confusion(f"Model {name}", result.confusion, class_names, name.lower()) for name, result in ended)
    matrices = tag("div", *shown, class_="pair")
    sentence = [tag("p", summary(ended[0][1], ended[1][1]), class_="summary")] if len(ended) == len(LETTERS) else []
    return join([*sentence, comparison(ended), matrices])


def summary(a: TrainResult, b: TrainResult) -> str:
    """Who is better, and what it costs, in a sentence."""
    if a.test_accuracy == b.test_accuracy:
        first = f"Both models are right about {a.test_accuracy:.1%} of the test images"
    else:
        name, other = ("A", "B") if a.test_accuracy > b.test_accuracy else ("B", "A")
        high, low = sorted((a.test_accuracy, b.test_accuracy), reverse=True)
        first = f"Model {name} is right about {high:.1%} of the test images, model {other} about {low:.1%}"
    small, large = sorted((a.params, b.params))
    if small == large:
        return f"{first}; both have {small:,} parameters."
    larger = "B" if b.params > a.params else "A"
    return f"{first}; model {larger} has {large / small:.1f} times as many parameters."


def comparison(ended: Sequence[tuple[str, TrainResult]]) -> Html:
    """The measures side by side; the better one of each line is marked."""
    predicted = [forecast(result.config).process_bytes for _, result in ended]
    lines = [
        _compared("Test accuracy", [result.test_accuracy for _, result in ended], "{:.2%}", max),
        _compared("Test loss", [result.test_loss for _, result in ended], "{:.4f}", min),
        _compared("Parameters", [result.params for _, result in ended], "{:,}", min),
        _compared("Training time", [result.seconds for _, result in ended], "{:.1f} s", min),
        _compared("Images per second", [result.images_per_second for _, result in ended], "{:,.0f}", max),
        _compared(
            "Peak memory of the process", [result.peak_memory_bytes / 1e6 for _, result in ended], "{:,.0f} MB", min
        ),
        ["Predicted beforehand", *(show.readable_bytes(peak) for peak in predicted)],
        ["Predicted / peak", *(_ratio(peak, result) for peak, (_, result) in zip(predicted, ended, strict=True))],
        ["Epochs", *(f"{result.epochs_done} of {result.config.epochs}" for _, result in ended)],
    ]
    return table(["", *(f"Model {letter}" for letter, _ in ended)], lines, caption="Both models compared")


def _ratio(predicted: int, result: TrainResult) -> str:
    return f"{predicted / result.peak_memory_bytes:.2f}"


def _compared(what: str, values: Sequence[float], form: str, best: Callable[[Sequence[float]], float]) -> list[str]:
    differ = len(set(values)) > 1
    cells = (
        tag("span", form.format(value), class_="best" if differ and value == best(values) else None) for value in values
    )
    return [what, *cells]


def confusion(who: str, matrix: Sequence[Sequence[int]], class_names: Sequence[str], class_: str) -> Html:
    """How often each class (row) was taken for each other (column) by `who`, in the colour of a class."""
    caption = tag("figcaption", f"{who}: what it took for what", tag("small", "true class down, answer across"))
    if len(class_names) > READABLE_CLASSES:
        return tag("figure", caption, frequent_mistakes(matrix, class_names))
    lines = [
        [class_names[true], *(_count(count, sum(counts)) for count in counts)] for true, counts in enumerate(matrix)
    ]
    head = ["", *class_names]
    return tag(
        "figure",
        caption,
        table(head, lines, caption=f"Confusion matrix of {who[0].lower()}{who[1:]}", class_=f"confusion {class_}"),
    )


def _count(count: int, total: int) -> Html:
    """A cell as dark as its share of the row."""
    return tag("span", str(count) if count else "", style=f"--share:{round(DARKEST * count / max(total, 1))}%")


def frequent_mistakes(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> Html:
    """The dozen most frequent confusions."""
    pairs = [
        (count, true, answer)
        for true, counts in enumerate(matrix)
        for answer, count in enumerate(counts)
        if true != answer and count
    ]
    lines = [
        [class_names[true], class_names[answer], str(count)] for count, true, answer in sorted(pairs, reverse=True)[:12]
    ]
    return table(["true class", "answer", "images"], lines, caption="The most frequent mistakes")
