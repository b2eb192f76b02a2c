"""What the page shows of a training: both models while they learn, and what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from toolkit import show
from toolkit.jobs import Forecast, JobView, RunView
from toolkit.training import TrainConfig, TrainResult
from toolkit.ui.charts import Curve, line_chart
from toolkit.ui.markup import Html, bar, join, table, tag
from toolkit.ui.views import title

LETTERS = ("A", "B")
# Above this many classes a confusion matrix is too large to read; the most frequent mistakes say it better.
READABLE_CLASSES = 20


def forecast_line(ahead: Forecast) -> Html:
    """What a run will take, beside its controls."""
    price = ahead.costs
    figures = (tag("b", f"{price.params:,}"), " parameters · ", tag("b", show.readable_bytes(price.training_bytes)))
    work = f" to train with a batch of {price.batch} · {show.readable_count(ahead.macs)} MACs in all"
    return tag("p", *figures, work, class_="forecast")


def preview(configs: Sequence[TrainConfig]) -> JobView:
    """A job that nobody has submitted: what the page shows before the first training."""
    return JobView("", "waiting", 0, 0.0, tuple(RunView(config, Path()) for config in configs))


def live(job: JobView) -> Html:
    """Both models while they train: where they are, and their curves in one picture."""
    cards = (run_card(job, run, index) for index, run in enumerate(job.runs))
    return join([tag("div", *cards, class_="runs"), curves(job.runs)])


def run_card(job: JobView, run: RunView, index: int) -> Html:
    """One model: its accuracy so far, its progress and a line about it."""
    letter = LETTERS[index]
    word = tag("span", state_word(job, run), class_="wrong" if run.state == "failed" else None)
    head = tag("h3", f"Model {letter} · {network_title(run.config)} · ", word)
    share = progress(run)
    filled = bar(share, label=f"Model {letter}: {share:.0%} of the training", class_=letter.lower())
    body = (tag("p", accuracy_text(run), class_="figure"), filled, tag("p", progress_text(job, run)))
    problem = tag("p", run.message, class_="message problem") if run.state == "failed" else ""
    return tag("section", head, *body, problem, class_=f"run {letter.lower()}", aria_label=f"Model {letter}")


def state_word(job: JobView, run: RunView) -> str:
    """What a run is doing, in a word or two."""
    if run.state == "waiting":
        return "in line" if job.place else "ready"
    return run.state


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


def accuracy_text(run: RunView) -> str:
    """The best-founded accuracy that is known by now."""
    if run.result is not None:
        return f"{run.result.test_accuracy:.1%} of the test images"
    if run.epochs:
        return f"{run.epochs[-1].val_accuracy:.1%} of the validation images"
    return f"{run.step.accuracy:.1%} of the training images" if run.step is not None else "–"


def progress_text(job: JobView, run: RunView) -> str:
    """Where a run is, in one line."""
    if run.state == "waiting":
        return f"place {job.place} in line" if job.place else "press Train"
    if run.result is not None:
        note = f"{run.message} after" if run.state == "stopped" and run.message else "trained for"
        return f"{note} {run.result.seconds:.1f} s, {run.result.images_per_second:,.0f} images/s"
    if run.step is None or run.state == "failed":
        return run.message if run.state == "stopped" else ""
    step = run.step
    memory = f" · {show.readable_bytes(run.memory.rss_bytes)}" if run.memory is not None else ""
    place = f"epoch {step.epoch} of {run.config.epochs} · step {step.step} of {step.steps}"
    return f"{place} · {step.images_per_second:,.0f} images/s{memory}"


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
    steps = tuple((step.epoch - 1 + step.step / step.steps, float(getattr(step, what))) for step in run.steps)
    epochs = tuple((float(end.epoch), float(getattr(end, f"val_{what}"))) for end in run.epochs)
    return [
        Curve(f"{letter} (training)", letter.lower(), steps),
        Curve(f"{letter} (validation)", letter.lower(), epochs, dots=True),
    ]


# ---- results ---------------------------------------------------------------------------------------------------------


def results(job: JobView, class_names: Sequence[str]) -> Html:
    """What came out: a sentence, the comparison and both confusion matrices; nothing while a model still trains."""
    ended = [(LETTERS[index], run.result) for index, run in enumerate(job.runs) if run.result is not None]
    if job.state != "finished" or not ended:
        return Html("")
    matrices = tag("div", *(confusion(letter, result, class_names) for letter, result in ended), class_="pair")
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
    lines = [
        _compared("Test accuracy", [result.test_accuracy for _, result in ended], "{:.2%}", max),
        _compared("Test loss", [result.test_loss for _, result in ended], "{:.4f}", min),
        _compared("Parameters", [result.params for _, result in ended], "{:,}", min),
        _compared("Training time", [result.seconds for _, result in ended], "{:.1f} s", min),
        _compared("Images per second", [result.images_per_second for _, result in ended], "{:,.0f}", max),
        _compared(
            "Peak memory of the process", [result.peak_memory_bytes / 1e6 for _, result in ended], "{:,.0f} MB", min
        ),
        ["Epochs", *(f"{result.epochs_done} of {result.config.epochs}" for _, result in ended)],
    ]
    return table(["", *(f"Model {letter}" for letter, _ in ended)], lines, caption="Both models compared")


def _compared(what: str, values: Sequence[float], form: str, best: Callable[[Sequence[float]], float]) -> list[str]:
    differ = len(set(values)) > 1
    cells = (
        tag("span", form.format(value), class_="best" if differ and value == best(values) else None) for value in values
    )
    return [what, *cells]


def confusion(letter: str, result: TrainResult, class_names: Sequence[str]) -> Html:
    """How often each class was taken for each other."""
    caption = tag(
        "figcaption", f"Model {letter}: what it took for what", tag("small", "true class down, answer across")
    )
    if len(class_names) > READABLE_CLASSES:
        return tag("figure", caption, frequent_mistakes(result, class_names))
    lines = [
        [class_names[true], *(_count(count, sum(counts)) for count in counts)]
        for true, counts in enumerate(result.confusion)
    ]
    head = ["", *class_names]
    return tag(
        "figure",
        caption,
        table(head, lines, caption=f"Confusion matrix of model {letter}", class_=f"confusion {letter.lower()}"),
    )


def _count(count: int, total: int) -> Html:
    """A cell as dark as its share of the row."""
    return tag("span", str(count) if count else "", style=f"--share:{round(85 * count / max(total, 1))}%")


def frequent_mistakes(result: TrainResult, class_names: Sequence[str]) -> Html:
    """The dozen most frequent confusions."""
    pairs = [
        (count, true, answer)
        for true, counts in enumerate(result.confusion)
        for answer, count in enumerate(counts)
        if true != answer and count
    ]
    lines = [
        [class_names[true], class_names[answer], str(count)] for count, true, answer in sorted(pairs, reverse=True)[:12]
    ]
    return table(["true class", "answer", "images"], lines, caption="The most frequent mistakes")
