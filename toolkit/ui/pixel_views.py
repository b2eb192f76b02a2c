"""What the page shows of networks that label pixels: how they learn, how they compare, and the labels of one image."""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from toolkit import show
from toolkit.jobs import JobView, training_curve
from toolkit.pixel_jobs import COLOURS, Labelled, LabelMap, LabelView, SegmentForecast, SegmentView
from toolkit.pixel_scores import score_cells
from toolkit.segmentation import SegmentationResult, SegmentConfig
from toolkit.ui.charts import Curve, Dots, dot_chart, line_chart
from toolkit.ui.markup import Html, bar, join, message, table, tag
from toolkit.ui.run_views import step_text

TITLES = {
    "fcn32s": "FCN-32s",
    "fcn16s": "FCN-16s",
    "fcn8s": "FCN-8s",
    "fcn4s": "FCN-4s",
    "dilated": "dilated",
    "unet": "U-Net",
}
HINTS = {
    "fcn32s": "no skips: scores from maps 1/32 as large as the image",
    "fcn16s": "a skip from the maps at 1/16",
    "fcn8s": "skips from the maps at 1/16 and 1/8",
    "fcn4s": "skips from the maps at 1/16, 1/8 and 1/4",
    "dilated": "no skips, but maps that stay at 1/8, by dilation",
    "unet": "skips at every size, each with convolutions of its own",
}
LETTERS = ascii_uppercase
KEYS = ("boundary IoU", "mean IoU", "interior IoU")


def forecast_lines(forecasts: Sequence[tuple[str, SegmentForecast]], limit_bytes: int) -> Html:
    """What the training of each network will take, beside the controls."""
    lines = [
        [
            TITLES[name],
            f"{ahead.costs.params:,}",
            show.readable_count(ahead.macs),
            show.readable_bytes(ahead.process_bytes),
        ]
        for name, ahead in forecasts
    ]
    head = ["network", "parameters", "MACs in all", "predicted peak"]
    limit = tag("small", f"each may have {show.readable_bytes(limit_bytes)} of memory; two train at a time")
    return tag("div", table(head, lines, caption="What the trainings will take"), limit, class_="forecast")


def hints(networks: Sequence[str]) -> Html:
    """What sets each network apart, in a line."""
    lines = (tag("li", tag("b", TITLES[name]), f": {HINTS[name]}") for name in networks)
    return tag("ul", *lines, class_="hints")


def title(config: SegmentConfig) -> str:
    """The name of a network as people write it."""
    return TITLES[config.network]


def named(job: JobView[SegmentView]) -> list[tuple[str, SegmentView]]:
    """The runs of a job with their letters."""
    return list(zip(LETTERS, job.runs, strict=False))


def preview(configs: Sequence[SegmentConfig]) -> JobView[SegmentView]:
    """A job that nobody has submitted: what the page shows before the first training."""
    return JobView("", "waiting", 0, 0.0, tuple(SegmentView(config, Path()) for config in configs))


# Training.


def live(job: JobView[SegmentView]) -> Html:
    """All networks while they train: where they are, and their curves in one picture."""
    cards = (_card(job, letter, run) for letter, run in named(job))
    return join([tag("div", *cards, class_="runs"), curves(job)])


def _card(job: JobView[SegmentView], letter: str, run: SegmentView) -> Html:
    share = progress(run)
    failed = run.state == "failed"
    figure, measured_on = iou_text(run)
    return tag(
        "section",
        tag("h3", f"{letter} · {title(run.config)}"),
        tag("p", figure, tag("small", measured_on), class_="figure"),
        bar(share, label=f"{title(run.config)}: {share:.0%} of the training", class_=letter.lower()),
        tag("p", run.message, class_="message problem") if failed else tag("p", progress_text(job, run)),
        class_=f"run {letter.lower()}",
        aria_label=f"Network {letter}, {title(run.config)}",
    )


def progress(run: SegmentView) -> float:
    """How much of a run is over, from 0 to 1."""
    if run.state == "done":
        return 1.0
    steps = [step.epoch - 1 + step.step / step.steps for step in run.steps[-1:]]
    return max([0.0, *steps, *(float(end.epoch) for end in run.epochs[-1:])]) / run.config.epochs


def iou_text(run: SegmentView) -> tuple[str, str]:
    """The best-founded mean IoU that is known by now, and on which scenes."""
    if run.result is not None:
        return f"{run.result.scores.mean_iou:.3f}", f" mean IoU over {run.result.scores.images} test scenes"
    if run.epochs:
        return f"{run.epochs[-1].val_mean_iou:.3f}", " mean IoU over the validation scenes"
    return "–", ""


def progress_text(job: JobView[SegmentView], run: SegmentView) -> str:
    """Where a run is, in one line."""
    if run.state == "waiting":
        if job.place:
            return f"in line, at place {job.place}"
        return "waits for its turn" if job.id else "not trained yet"
    if run.result is not None:
        how = run.message or run.result.note or "stopped" if run.state == "stopped" else "done"
        return f"{how}: {run.result.seconds:.0f} s, {run.result.images_per_second:,.0f} images/s"
    if run.ended:
        return run.message or run.state
    if not run.steps:
        return "the scenes are being made" if run.started is None else "compiling"
    rss = run.memory.rss_bytes if run.memory is not None else None
    return step_text(run.steps[-1], run.config.epochs, seconds_left(run), rss)


def seconds_left(run: SegmentView) -> float | None:
    """How long a run will still train at its present speed; None where that cannot be said yet."""
    if run.started is None or not run.steps or not run.steps[-1].images_per_second:
        return None
    over = progress(run) * run.config.epochs
    return (run.config.epochs - over) * run.started.train_images / run.steps[-1].images_per_second


def curves(job: JobView[SegmentView]) -> Html:
    """Mean IoU over the validation scenes, and both losses, over the epochs."""
    epochs = max(run.config.epochs for run in job.runs)
    iou = [
        Curve(letter, letter.lower(), tuple((float(end.epoch), end.val_mean_iou) for end in run.epochs), dots=True)
        for letter, run in named(job)
    ]
    loss = [curve for letter, run in named(job) for curve in _losses(letter, run)]
    top = max([point[1] for curve in loss for point in curve.points if point[0] > 0.2] or [1.0])
    pictures = (
        line_chart("Mean IoU of the validation scenes", iou, x_high=epochs, y_high=1.0, x_label="epoch"),
        line_chart("Loss", loss, x_high=epochs, y_high=max(1.05 * top, 0.1), x_label="epoch", show_y="{:.2g}".format),
    )
    names = [tag("li", f"{letter} · {title(run.config)}", class_=f"key {letter.lower()}") for letter, run in named(job)]
    thin = tag("li", "thin: training scenes, as it goes; thick with dots: validation scenes, after each epoch")
    return join([tag("div", *pictures, class_="pair"), tag("ul", *names, thin, class_="legend")])


def _losses(letter: str, run: SegmentView) -> list[Curve]:
    steps = tuple((point.epochs, point.loss) for point in training_curve(run.steps, run.epochs))
    epochs = tuple((float(end.epoch), end.val_loss) for end in run.epochs)
    return [
        Curve(f"{letter} (training)", letter.lower(), steps),
        Curve(f"{letter} (validation)", letter.lower(), epochs, dots=True),
    ]


# Results.


def results(job: JobView[SegmentView]) -> Html:
    """What came out: borders against insides, the figures side by side, and the scores of each class."""
    ended = [(letter, run.result) for letter, run in named(job) if run.result is not None]
    if job.state != "finished" or not ended:
        return Html("")
    picture = tag("div", borders(ended), _figures(ended), class_="pair")
    return join([tag("p", summary(ended), class_="summary"), picture, *(_classes(*each) for each in ended)])


def summary(ended: Sequence[tuple[str, SegmentationResult]]) -> str:
    """Who is best, and what its borders cost, in a sentence."""
    letter, best = max(ended, key=lambda each: each[1].scores.mean_iou)
    found = best.scores
    first = f"{letter} · {title(best.config)} has a mean IoU of {found.mean_iou:.3f} over {found.images} test scenes"
    gap = (
        f"within {found.boundary_pixels} pixels of a border it is {found.boundary_iou:.3f}, further inside "
        f"{found.interior_iou:.3f}"
    )
    return f"{first}; {gap}."


def borders(ended: Sequence[tuple[str, SegmentationResult]]) -> Html:
    """Boundary IoU, mean IoU and interior IoU of every network on one line each."""
    rows = [
        Dots(
            f"{letter} · {title(result.config)}",
            (
                (result.scores.boundary_iou, "boundary"),
                (result.scores.mean_iou, "mean"),
                (result.scores.interior_iou, "interior"),
            ),
        )
        for letter, result in ended
    ]
    key = [tag("li", name, class_=f"key {name.split()[0]}") for name in KEYS]
    drawn = dot_chart("At the borders, and away from them", rows, KEYS, x_label="intersection over union")
    return tag("div", drawn, tag("ul", *key, class_="legend"))


def _figures(ended: Sequence[tuple[str, SegmentationResult]]) -> Html:
    columns = [_column(result) for _, result in ended]
    lines = [[name, *(column[name] for column in columns)] for name in columns[0]]
    head = ["", *(f"{letter} · {title(result.config)}" for letter, result in ended)]
    caption = tag("figcaption", "Side by side", tag("small", "over the same test scenes, which no training has seen"))
    return tag("figure", caption, table(head, lines, caption="The networks compared"))


def _column(result: SegmentationResult) -> dict[str, str]:
    found = result.scores
    return {
        "Mean IoU": f"{found.mean_iou:.3f}",
        "Boundary IoU": f"{found.boundary_iou:.3f}",
        "Interior IoU": f"{found.interior_iou:.3f}",
        "Pixels that are right": f"{found.pixel_accuracy:.1%}",
        "Parameters": f"{result.params:,}",
        "MACs of one image": show.readable_count(result.macs),
        "Epochs": f"{result.epochs_done} of {result.config.epochs}",
        "Training time": f"{result.seconds:.0f} s",
        "Peak memory of the process": show.readable_bytes(result.peak_memory_bytes),
    }


def _classes(letter: str, result: SegmentationResult) -> Html:
    head, *rows = score_cells(result.scores)
    name = f"{letter} · {title(result.config)}"
    inside = table(head, rows, caption=f"Scores of every class, {name}")
    return tag("details", tag("summary", f"Every class, {name}"), inside, class_="classes")


# One image.


def labelled(job: JobView[LabelView]) -> Html:
    """An image as the networks labelled it, or how the question stands."""
    (run,) = job.runs
    if run.state == "failed":
        return message(run.message)
    if run.result is None:
        text = f"in line, at place {job.place}" if job.place else "the networks label the picture …"
        return tag("p", text, class_="forecast", role="status")
    return answer(run.result)


def answer(found: Labelled) -> Html:
    """The image, its true mask where that is known, every network's labels; the legend; every class."""
    plain = tag("img", src=found.image, alt="the picture as the networks see it", width=found.width)
    first = tag("figure", tag("figcaption", "the picture"), tag("div", plain, class_="map"))
    maps = [*([found.truth] if found.truth else []), *found.maps]
    there = {name for each in maps for name in each.shares}
    parts = [
        tag("div", first, *map(_map, maps), class_="maps"),
        _legend([name for name in found.class_names if name in there], found.class_names),
        _shares(found, there),
    ]
    return join(parts)


def _map(labels: LabelMap) -> Html:
    places = (
        tag("span", patch.name, style=f"left:{100 * patch.x:.1f}%;top:{100 * patch.y:.1f}%", class_="patch")
        for patch in labels.patches
    )
    found = ", ".join(f"{name} {share:.1%}" for name, share in labels.shares.items())
    picture = tag("img", src=labels.picture, alt=f"{labels.name}: {found}")
    score = tag("small", f"mean IoU {labels.scores.mean_iou:.3f} on this scene") if labels.scores else ""
    return tag("figure", tag("figcaption", labels.name, score), tag("div", picture, *places, class_="map"))


def _legend(names: Sequence[str], all_names: Sequence[str]) -> Html:
    keys = (tag("li", name, class_="key", style=f"--swatch:{_colour(all_names.index(name))}") for name in names)
    return tag("ul", *keys, class_="legend", aria_label="Colours of the classes")


def _colour(number: int) -> str:
    return COLOURS[0] if number == 0 else COLOURS[1 + (number - 1) % (len(COLOURS) - 1)]


def _shares(found: Labelled, there: set[str]) -> Html:
    """Every class that is there: its IoU where the true mask is known, else its share and how sure the network is."""
    names = [name for name in found.class_names if name in there]
    cell, what = (_iou, "IoU on this scene") if found.truth else (_sure, "share of the pixels, mean probability")
    lines = [[name, *(cell(each, name) for each in found.maps)] for name in names]
    head = ["class", *(each.name for each in found.maps)]
    caption = tag("figcaption", "Every class on this picture", tag("small", what))
    return tag("figure", caption, table(head, lines, caption="Every class on this picture"))


def _iou(labels: LabelMap, name: str) -> str:
    iou = next((each.iou for each in labels.scores.classes if each.name == name), None) if labels.scores else None
    return "–" if iou is None else f"{iou:.3f}"


def _sure(labels: LabelMap, name: str) -> str:
    if name not in labels.shares:
        return "–"
    return f"{labels.shares[name]:.1%}, {labels.certainty[name]:.0%}"
