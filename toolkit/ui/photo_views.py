"""What the page shows of people's photos: what a look at them found, a fine-tuning as it goes, and what came out."""

from collections.abc import Sequence
from pathlib import Path

from toolkit import show
from toolkit.finetuning import FinetuneResult, Mistake, class_table
from toolkit.jobs import JobView, training_curve
from toolkit.photo_jobs import (
    AskView,
    FinetuneForecast,
    FinetuneView,
    LookView,
    PhaseView,
    PhotoAnswer,
    PhotosFound,
    ProblemKind,
)
from toolkit.ui.answer_views import probabilities
from toolkit.ui.charts import Curve, Mark, line_chart
from toolkit.ui.markup import Html, bar, cards, join, message, table, tag
from toolkit.ui.run_views import confusion

PHASES = {"head": "the head learns", "blocks": "the last blocks learn"}
# A name of a file longer than this would push the page apart.
LONGEST_NAME = 40


# A look at photos.


def look(job: JobView[LookView]) -> Html:
    """A look at photos: how far it is, what it found, or why it found nothing."""
    (run,) = job.runs
    if run.result is not None:
        return found(run.result)
    if run.state == "failed":
        return message(run.message)
    if run.progress is None:
        return _waiting(f"in line, at place {job.place}" if job.place else "the photos are on their way", 0.0)
    done, total = run.progress.done, run.progress.total
    return _waiting(f"{run.progress.what}: {done:,} of {total:,}", done / max(total, 1))


def _waiting(text: str, share: float) -> Html:
    return tag("div", tag("p", text), bar(share, label=text, class_="a"), class_="forecast", role="status")


def found(photos: PhotosFound) -> Html:
    """What a look found: figures, every class with some of its photos, and what is wrong."""
    figures = [
        ("Photos that can be used", f"{photos.photos:,}", f"of {photos.files:,} files in {_short(photos.name)}"),
        ("Classes", f"{len(photos.counts)}", "one folder each"),
        ("Train / validate / test", _parts(photos), "by class; photos that look alike stay on one side"),
    ]
    unusable = [message(f"Nothing can be learned from these photos: {photos.unusable}")] if photos.unusable else []
    return join([*unusable, cards(figures), _classes(photos), _problems(photos.problems)])


def _parts(photos: PhotosFound) -> str:
    return " / ".join(f"{count:,}" for count in photos.parts.values()) or "–"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _classes(photos: PhotosFound) -> Html:
    lines = [
        [_short(name), f"{count:,}", tag("span", *_pictures(photos.samples[name], name), class_="strip-of-photos")]
        for name, count in photos.counts.items()
    ]
    return table(["class", "photos", "some of them"], lines, caption="Photos by class", class_="photo-classes")


def _pictures(urls: Sequence[str], of: str) -> list[Html]:
    return [tag("img", src=url, alt=f"{_short(of)}, photo {number}") for number, url in enumerate(urls, 1)]


def _problems(problems: Sequence[ProblemKind]) -> Html:
    """Every kind of problem, what is done about it, and examples."""
    if not problems:
        return tag("p", "Nothing is wrong with them.", class_="summary")
    heading = tag("h3", "What is wrong, and what is done about it", class_="photo-heading")
    return tag("section", heading, *map(_problem, problems), class_="problems", aria_label="Problems of the photos")


def _problem(problem: ProblemKind) -> Html:
    sentences = [tag("li", sentence) for sentence in problem.sentences]
    rest = problem.count - len(problem.sentences)
    more = [tag("li", f"and {rest:,} more")] if rest > 0 else []
    told = tag("p", tag("b", f"{problem.count:,} × {problem.kind}"), f": {problem.done}")
    pictures = tag("div", *_pictures(problem.pictures, problem.kind), class_="strip-of-photos")
    return tag("div", told, tag("ul", *sentences, *more), *([pictures] if problem.pictures else []), class_="problem")


# A fine-tuning.


def forecast_line(ahead: FinetuneForecast, limit_bytes: int, weights: str) -> Html:
    """What a fine-tuning will take, beside its controls, and where its first weights come from."""
    share = ahead.process_bytes / max(limit_bytes, 1)
    of = f"of the {show.readable_bytes(limit_bytes)} that it may have"
    work = f" · at most {show.readable_count(ahead.macs)} MACs" if ahead.photos else ""
    size = tag("p", tag("b", f"{ahead.params:,}"), f" parameters in the base{work}")
    peak = tag("p", "Predicted peak ", tag("b", show.readable_bytes(ahead.process_bytes)), f", {share:.0%} {of}")
    return tag(
        "div", size, peak, bar(share, label=f"Predicted peak: {share:.0%} {of}"), tag("p", weights), class_="forecast"
    )


def live(job: JobView[FinetuneView]) -> Html:
    """A fine-tuning as it goes: where it is, and its curves over both phases."""
    (run,) = job.runs
    share = progress(run)
    figure, measured_on = accuracy_text(run)
    failed = run.state == "failed"
    state = tag("p", run.message, class_="message problem") if failed else tag("p", progress_text(job, run))
    card = tag(
        "section",
        tag("h3", network_title(run)),
        tag("p", figure, tag("small", measured_on), class_="figure"),
        bar(share, label=f"{share:.0%} of the training", class_="a"),
        state,
        class_="run a",
        aria_label="Fine-tuning",
    )
    return join([card, curves(run)])


def network_title(run: FinetuneView) -> str:
    """The network of a run in a few words."""
    config = run.config.config
    weights = "ImageNet's weights" if config.weights == "imagenet" else "random weights"
    return f"{config.base}, alpha {config.alpha:g}, {config.image_size} × {config.image_size} pixels, {weights}"


def progress(run: FinetuneView) -> float:
    """About how much of a run is over, from 0 to 1: the head is a quarter of it, if it may take all its epochs."""
    if run.state == "done":
        return 1.0
    if not run.phases:
        return 0.0
    config = run.config.config
    begins, width = (0.0, 0.25 if config.epochs else 1.0) if len(run.phases) == 1 else (0.25, 0.75)
    return begins + width * _over(run.phases[-1]) / max(run.phases[-1].begun.epochs, 1)


def _over(phase: PhaseView) -> float:
    """Epochs of a phase that are over."""
    ends = [end.epoch for end in phase.epochs]
    steps = [step.epoch - 1 + step.step / step.steps for step in phase.steps]
    return max([0.0, *ends[-1:], *steps[-1:]])


def accuracy_text(run: FinetuneView) -> tuple[str, str]:
    """The best-founded accuracy that is known by now, and on which photos."""
    if run.result is not None:
        low, high = run.result.test_interval
        return f"{run.result.test_accuracy:.1%}", f" of the test photos are right ({low:.1%} to {high:.1%} at 95 %)"
    epochs = [end for phase in run.phases for end in phase.epochs]
    if epochs:
        return f"{epochs[-1].val_accuracy:.1%}", " of the validation photos are right"
    return "–", ""


def progress_text(job: JobView[FinetuneView], run: FinetuneView) -> str:
    """Where a run is, in one line."""
    if run.state == "waiting":
        return f"in line, at place {job.place}"
    if run.result is not None:
        how = run.message or run.result.note or "stopped" if run.state == "stopped" else "done"
        return f"{how}: {sum(run.result.seconds.values()):.0f} s in all"
    if run.ended:
        return run.message or run.state
    if not run.phases:
        return _preparing(run)
    return _phase_text(run)


def _preparing(run: FinetuneView) -> str:
    if run.progress is None:
        return "starting"
    many = f": {run.progress.done:,} of {run.progress.total:,}" if run.progress.total > 1 else ""
    return f"{run.progress.what}{many}"


def _phase_text(run: FinetuneView) -> str:
    phase = run.phases[-1]
    step = phase.steps[-1] if phase.steps else None
    parts = [
        PHASES.get(phase.begun.phase, phase.begun.phase),
        f"epoch {min(int(_over(phase)) + 1, phase.begun.epochs)} of at most {phase.begun.epochs}",
        f"{step.images_per_second:,.0f} photos/s" if step is not None else "",
        show.readable_bytes(run.memory.rss_bytes) if run.memory is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def curves(run: FinetuneView) -> Html:
    """Accuracy and loss over the epochs of both phases."""
    offsets, over = [], 0.0
    for phase in run.phases:
        offsets.append(over)
        over += phase.epochs[-1].epoch if phase.epochs else 0
    pairs = list(zip(run.phases, offsets, strict=True))
    accuracy, loss = (_curves(pairs, what) for what in ("accuracy", "loss"))
    top = max([point[1] for curve in loss for point in curve.points] or [1.0])
    high = max(over, 1.0) if run.ended else over + _expected(run)
    marks = [Mark("last blocks", offset) for offset in offsets[1:]]
    pictures = (
        line_chart("Accuracy", accuracy, x_high=high, y_high=1.0, x_label="epoch", show_y="{:.0%}".format, marks=marks),
        line_chart(
            "Loss",
            loss,
            x_high=high,
            y_high=max(1.05 * top, 0.1),
            x_label="epoch",
            show_y="{:.2g}".format,
            marks=marks,
        ),
    )
    key = tag("li", "thin: training photos, as it goes; thick with dots: validation photos, after each epoch")
    return join([tag("div", *pictures, class_="pair"), tag("ul", key, class_="legend")])


def _expected(run: FinetuneView) -> float:
    """Epochs that are still to come at most, for the width of the picture."""
    config = run.config.config
    if not run.phases:
        return config.head_epochs + config.epochs
    phase = run.phases[-1]
    left = phase.begun.epochs - (phase.epochs[-1].epoch if phase.epochs else 0)
    return max(1.0, left + (config.epochs if phase.begun.phase == "head" else 0))


def _curves(pairs: Sequence[tuple[PhaseView, float]], what: str) -> list[Curve]:
    steps, epochs = [], []
    for phase, offset in pairs:
        points = training_curve(phase.steps, phase.epochs)
        steps += [(offset + point.epochs, float(getattr(point, what))) for point in points]
        epochs += [(offset + end.epoch, float(getattr(end, f"val_{what}"))) for end in phase.epochs]
    return [Curve("training", "a", tuple(steps)), Curve("validation", "a", tuple(epochs), dots=True)]


# Results.


def results(result: FinetuneResult) -> Html:
    """What came out: the test accuracy with its interval, the confusion matrix, every class, the surest mistakes."""
    low, high = result.test_interval
    figures = [
        (
            "Test accuracy",
            f"{result.test_accuracy:.1%}",
            f"{low:.1%} to {high:.1%} for all such photos, as far as {result.tested_images} tell (Wilson, 95 %)",
        ),
        ("Test photos", f"{result.tested_images:,}", "that no epoch has seen"),
        (
            "Parameters that learned",
            f"{result.trainable_params:,}",
            f"of {result.params:,}; {result.epochs_done['head']} epochs the head, {result.epochs_done['blocks']} the "
            "last blocks",
        ),
    ]
    note = [tag("p", f"{result.note}.", class_="message note")] if result.note else []
    names = [_short(name) for name in result.class_names]
    heading, *rows = class_table(result)
    scores = tag(
        "figure",
        tag("figcaption", "Every class", tag("small", "precision: right answers; recall: photos that were found")),
        table(heading, [[_short(row[0]), *row[1:]] for row in rows], caption="Scores of every class"),
    )
    pair = tag("div", confusion("The network", result.confusion, names, "a"), scores, class_="pair")
    return join([*note, cards(figures), pair, _copies(result)])


def _copies(result: FinetuneResult) -> Html:
    """The other forms of the model: how large they are and how good."""
    rows = [
        [name, show.readable_bytes(each.bytes), _share(each.test_accuracy), each.note]
        for name, each in result.exports.items()
    ]
    if not rows:
        return Html("")
    lines = table(["copy", "size", "test accuracy", "what it is"], rows, caption="Copies of the model", class_="copies")
    return tag("figure", tag("figcaption", "Copies of the model"), lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def mistake_name(mistake: Mistake) -> str:
    """What a visitor knows a mistaken photo by: its file, and which class it is of."""
    return f"{_short(Path(mistake.path).name)}, is {_short(mistake.true)}"


def answers(job: JobView[AskView], heading: str) -> Html:
    """What the network says of photos, and what it says that on; or how the question stands."""
    (run,) = job.runs
    if run.state == "failed":
        return message(run.message)
    if run.result is None:
        text = f"in line, at place {job.place}" if job.place else "the network looks at the photos …"
        return tag("p", text, class_="forecast", role="status")
    shown = tag("div", *map(_answer, run.result.answers), class_="photo-answers")
    note = "Right: the same photo, dark where the answer does not rest on it (Grad-CAM)."
    return tag(
        "section",
        tag("h3", heading, class_="photo-heading"),
        tag("p", note, class_="forecast"),
        shown,
        aria_label=heading,
    )


def _answer(answer: PhotoAnswer) -> Html:
    name = tag("h4", answer.name)
    if answer.failed:
        return tag("div", name, message(answer.failed), class_="photo-answer")
    pictures = tag(
        "div",
        tag("img", src=answer.picture, alt=f"{answer.name}, as the network sees it"),
        tag("img", src=answer.evidence, alt=f"{answer.name}, lit where the answer {answer.classes[0]} rests on it"),
        class_="photo-pair",
    )
    said = tag("p", answer.classes[0], tag("small", f" {answer.probabilities[0]:.0%}"), class_="figure")
    return tag(
        "div", name, pictures, said, probabilities(answer.classes, answer.probabilities, "A"), class_="photo-answer"
    )
