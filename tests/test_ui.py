"""The parts of the page that need no browser: texts, links, drawings and what visitors type."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.answers import Answer
from toolkit.architectures import ARCHITECTURES
from toolkit.costs import Costs, costs, trace
from toolkit.errors import InputError
from toolkit.jobs import JobView, RunView, advance, forecast
from toolkit.layers import Architecture, Dense
from toolkit.measurements import MeasuringState, MeasuringView
from toolkit.memory import Measurement
from toolkit.show import parse_shape, readable_bytes
from toolkit.training import Done, EpochEnd, Failed, Started, Step, TrainConfig, TrainResult
from toolkit.ui import memory_views, run_views, views
from toolkit.ui.answer_views import Tile, album, answers
from toolkit.ui.calculator import (
    FROM_CALCULATOR,
    OPENED,
    OWN,
    Settings,
    exported,
    from_query,
    link,
    query,
    table_of,
    whole,
)
from toolkit.ui.charts import Bar, Curve, Level, bar_chart, line_chart, ticks
from toolkit.ui.drawing import boxes, network_drawing
from toolkit.ui.markup import Html, join, message, table, tag
from toolkit.ui.planner import Wish, here

EVIL = "<img src=x onerror=alert(1)>"


def parsed(markup: str) -> ElementTree.Element:
    """The markup as a tree; raises where it is not well formed."""
    return ElementTree.fromstring(f"<div>{markup}</div>")


# Markup.


@given(st.text(), st.text())
def test_text_never_becomes_markup(inside: str, attribute: str) -> None:
    made = tag("p", inside, title=attribute)
    assert made.count("<") == 2
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', made, re.DOTALL)


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert join(["a", Html("<br>"), "b"]) == "a<br>b"
    assert EVIL not in message(EVIL)
    assert EVIL not in table(["a"], [[EVIL, EVIL]], caption=EVIL)


def test_names_that_visitors_gave_are_escaped_everywhere() -> None:
    net = Architecture(EVIL, (4,), (Dense(2, name=EVIL),))
    price = costs(net)
    shown = views.totals(price) + views.layer_table(price) + network_drawing(price.name, price.rows)
    assert EVIL not in shown
    parsed(shown)


# The calculator.


def settings(network: str = "lenet5", size: str = "32x32x1", **changes: object) -> Settings:
    values: dict[str, object] = {"batch": 1, "dtype": "float32", "optimizer": "adam", "table": [], "file": None}
    return Settings(network, size, **{**values, **changes})  # type: ignore[arg-type]


def priced(chosen: Settings) -> Costs:
    return chosen.price(chosen.net())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_can_be_shown_edited_shared_and_exported(name: str) -> None:
    chosen = settings(name, "")
    net = chosen.net()
    price = chosen.price(net)
    parsed(views.totals(price) + views.layer_table(price) + network_drawing(price.name, price.rows))
    own = settings(OWN, "x".join(map(str, price.input_shape)), table=table_of(net))
    assert priced(own).params == price.params
    shared = from_query(query(own, own.net()))
    assert shared is not None
    assert priced(shared).to_dict() == priced(own).to_dict()
    assert all(exported(price, net, form) for form in ("JSON", "Markdown", "Keras code", "Text diagram"))


def test_links_bring_every_setting_back() -> None:
    chosen = settings("resnet50", "112x112x3", batch=20, dtype="float16", optimizer="sgd")
    assert from_query(query(chosen, chosen.net())) == chosen
    assert from_query({}) is None
    assert from_query({"network": "resnet50"}) == settings("resnet50", "224x224x3")
    assert link({"network": "a b"}, None) == "?network=a+b"


def test_links_on_a_space_lead_to_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/cnn")
    assert link({"network": "lenet5"}, None) == "https://huggingface.co/spaces/someone/cnn?network=lenet5"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (settings(size="large"), "written like 224x224x3"),
        (settings(size="4x4x1"), "does not fit"),
        (settings(batch=None), "must be a whole number"),
        (settings(batch=0), "at least 1"),
        (settings(batch=1e400), "at most 1,000,000,000"),
        (settings(size="9" * 5000), "written like 224x224x3"),
        (settings(OWN, ""), "need an input size"),
        (settings(OWN, "8x8x1", table=[["Conv2D", "0", "3"]]), "row 1: Conv2D: filters must be at least 1"),
        (settings(OPENED), "no file is open"),
        (settings("nothing"), "no network 'nothing'"),
    ],
)
def test_bad_settings_get_a_sentence(chosen: Settings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        priced(chosen)


def test_numbers_and_sizes_as_people_write_them() -> None:
    assert parse_shape(" (224, 224, 3) ") == parse_shape("224×224×3") == (224, 224, 3)
    assert whole("the batch", "32") == whole("the batch", 32.0) == 32
    with pytest.raises(InputError, match=r"'2\.5' came"):
        whole("the batch", 2.5)


def test_an_opened_file_is_neither_shared_nor_edited() -> None:
    with pytest.raises(InputError, match="cannot be shared"):
        query(settings(OPENED, "", file="mine.keras"), trace(ARCHITECTURES["lenet5"]()))
    with pytest.raises(InputError, match="not edited"):
        table_of(trace(ARCHITECTURES["lenet5"]()))


# Pictures.


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    marks = ticks(low, low + span)
    assert 2 <= len(marks) <= 11
    assert all(low - 1e-6 * span <= mark <= low + span * (1 + 1e-6) for mark in marks)


def test_curves_lie_inside_the_picture_and_are_named_at_their_ends() -> None:
    curves = [
        Curve("A (x)", "a", ((0, 0.1), (1, 0.9), (2, 7.0)), dots=True),
        Curve("B (x)", "b", ((1, 0.5),), dots=True),
    ]
    root = parsed(line_chart("Accuracy", curves, x_high=2, y_high=1, x_label="epoch"))
    for line in root.iter("polyline"):
        for x, y in (map(float, pair.split(",")) for pair in line.get("points", "").split()):
            assert 0 <= x <= 440
            assert 0 <= y <= 250
    assert [text.text for text in root.iter("text") if "name" in text.get("class", "")] == ["A", "B"]
    assert len(list(root.iter("circle"))) == 4


def test_a_drawing_has_a_box_for_each_loud_layer_and_follows_the_branches() -> None:
    rows = trace(ARCHITECTURES["resnet50"]())
    found = boxes(rows)
    loud = [row for row in rows if row.type not in ("BatchNormalization", "Activation")]
    assert [box.label for box in found] == [row.name for row in loud]
    assert all(found[source].level < box.level for box in found for source in box.reads)
    joins = [box for box in found if box.type == "Add"]
    assert len(joins) == 16
    assert {len(box.reads) for box in joins} == {2}
    assert {box.lane for box in found} == {0, 1}


# Memory.


def test_the_calculator_shows_predicted_peaks_where_there_are_some() -> None:
    chosen = settings("resnet50", "", batch=4)
    net = chosen.net()
    inference, training = chosen.peaks(net)
    text = "".join(parsed(views.totals(chosen.price(net), (inference, training))).itertext())
    assert f"Peak to predict{readable_bytes(inference.peak_bytes)}" in text
    assert f"Peak to train{readable_bytes(training.peak_bytes)}" in text
    assert training.accuracy in text
    whole_numbers = settings("resnet50", "", dtype="int8")
    assert whole_numbers.peaks(net) == ()
    assert "Memory to train" in views.totals(whole_numbers.price(net), ())
    with pytest.raises(InputError, match="int8 cannot be measured"):
        whole_numbers.question(True)


def test_bars_of_bytes_say_in_words_what_they_draw() -> None:
    (_, estimate) = settings("resnet50", "").peaks(ARCHITECTURES["resnet50"]())
    root = parsed(memory_views.estimate_bar(estimate))
    widths = [float(part.get("style", "").removeprefix("width:").removesuffix("%")) for part in root.iter("i")]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    (spoken,) = [part.get("aria-label", "") for part in root.iter("div") if part.get("role") == "img"]
    assert all(readable_bytes(size) in spoken for size in estimate.parts.values())
    assert len(list(root.iter("li"))) == len(widths) == sum(size > 0 for size in estimate.parts.values())


def measuring(state: MeasuringState, measurement: Measurement | None = None, message: str = "") -> MeasuringView:
    (_, estimate) = settings("small_cnn", "", batch=8).peaks(ARCHITECTURES["small_cnn"]())
    return MeasuringView(estimate, state, 2, "built", 3.2, measurement, message)


def test_a_measurement_says_how_far_it_is_and_what_came_out() -> None:
    assert "in line, at place 2" in memory_views.measuring(measuring("waiting"))
    assert "the first step, 3 s" in memory_views.measuring(measuring("running"))
    assert EVIL not in memory_views.measuring(measuring("failed", message=EVIL))
    peak = 4 * measuring("done").estimate.peak_bytes
    found = Measurement("small_cnn", 8, True, "float32", "adam", "tensorflow", peak, 0, peak, (peak,), 2.0)
    text = "".join(parsed(memory_views.measuring(measuring("done", found))).itertext())
    assert f"Measured{readable_bytes(peak)}" in text
    assert "Predicted / measured0.25" in text


def wish(network: str = "resnet50", size: str = "", wanted: object = 300, limit: object = 4, **more: object) -> Wish:
    values: dict[str, object] = {"policy": "float32", "optimizer": "adam", **more}
    return Wish(network, size, wanted, limit, **values)  # type: ignore[arg-type]


def test_a_plan_has_both_answers_and_a_picture_with_the_limit() -> None:
    advice = wish().advice()
    root = parsed(memory_views.advice(advice))
    text = "".join(root.itertext())
    plan = advice.plan
    assert plan.why in text
    assert f"{plan.batch_size} × {plan.accumulation_steps} = {plan.effective_batch}" in text
    assert f"{advice.naive_batch:,} images a step" in text
    verdicts = [bar.get("class", "").split()[1] for bar in root.iter("rect")]
    assert verdicts.count("chosen") == 1
    assert verdicts == sorted(verdicts, key=["fits", "chosen", "near", "over"].index)
    assert len(verdicts) == len(advice.peaks)
    assert [line.get("class") for line in root.iter("line") if line.get("class")] == ["level limit", "level share"]


def test_bars_stay_inside_the_picture() -> None:
    bars = [Bar(str(number), number**3, "fits") for number in range(1, 9)]
    root = parsed(bar_chart("Peaks", bars, [Level("limit", 100, "limit")], y_high=130, x_label="images"))
    for bar in root.iter("rect"):
        left, top, width, height = (float(bar.get(name, "")) for name in ("x", "y", "width", "height"))
        assert left >= 0
        assert left + width <= 440
        assert top >= 0
        assert top + height <= 250
    assert sum(text.text == "↑" for text in root.iter("text")) == 3
    assert "8 512, limit 100" in next(root.iter("svg")).get("aria-label", "")


def test_a_plan_can_take_the_calculator_s_network_and_the_images_of_a_dataset() -> None:
    own = wish(FROM_CALCULATOR, wanted=10_000, dataset="digits").advice(settings("lenet5"))
    assert own.plan.network == "lenet5"
    assert own.plan.batch_size <= 359
    assert wish("lenet5", wanted=100, any_number=True).advice().plan.batch_size == 100


@pytest.mark.parametrize(
    ("wished", "words"),
    [
        (wish("nothing"), "no network 'nothing'"),
        (wish(size="large"), "written like 224x224x3"),
        (wish(wanted=None), "the wish must be a whole number"),
        (wish(wanted=0), "at least 1"),
        (wish(wanted=2.5), "the wish must be a whole number"),
        (wish(limit=0), "the memory limit must be a number of GiB"),
        (wish(limit=float("nan")), "the memory limit must be a number of GiB"),
        (wish(limit=float("inf")), "the memory limit must be a number of GiB"),
        (wish(limit="much"), "the memory limit must be a number of GiB"),
        (wish(limit=1e-12), "the memory limit must be a number of GiB"),
        (wish(limit=0.1), "resnet50 needs about"),
        (wish(policy="int8"), "dtype_policy must be one of"),
        (wish(optimizer="magic"), "optimizer must be one of"),
    ],
)
def test_bad_wishes_get_a_sentence(wished: Wish, words: str) -> None:
    with pytest.raises(InputError, match=words):
        wished.advice()


def test_what_this_machine_has_is_a_number_that_people_read() -> None:
    assert 4 * here() == int(4 * here()) > 0


# Training.


def test_a_forecast_shows_its_plan_within_the_limit() -> None:
    ahead = forecast(TrainConfig(batch_size=64, accumulation_steps=5))
    text = "".join(parsed(run_views.forecast_line(ahead, 2 * ahead.process_bytes)).itertext())
    assert "batch 64 × 5 steps = 320" in text
    assert f"predicted peak {readable_bytes(ahead.process_bytes)}, 50% of the" in text


def test_the_true_peak_stands_beside_what_was_predicted() -> None:
    done = [advance(TRAINING, Done(result(*figures))) for figures in ((0.9, 10), (0.8, 40))]
    rows = [["".join(cell.itertext()) for cell in row] for row in parsed(comparison_of(done)).iter("tr")]
    predicted = forecast(TrainConfig()).process_bytes
    assert ["Predicted beforehand", *[readable_bytes(predicted)] * 2] in rows
    assert ["Predicted / peak", *[f"{predicted / (4 * 10**8):.2f}"] * 2] in rows


def comparison_of(runs: list[RunView]) -> str:
    return run_views.results(job(*runs, state="finished"), "abc")


def result(accuracy: float, params: int, classes: int = 3, stopped: bool = False) -> TrainResult:
    confusion = tuple(tuple(8 if i == j else i + j for j in range(classes)) for i in range(classes))
    config = TrainConfig()
    return TrainResult(
        config, params, {}, accuracy, 0.1, 100, confusion, {}, 12.0, 900.0, 4 * 10**8, stopped, 3, Path("a"), note=EVIL
    )


def job(*runs: RunView, state: str = "running", place: int = 0) -> JobView[RunView]:
    return JobView("id", state, place, 1.0, runs)  # type: ignore[arg-type]


RUN = RunView(TrainConfig(epochs=2), Path("a"))
TRAINING = advance(advance(RUN, Started(10, 4, 2, 100, 10, 10)), Step(1, 2, 4, 0.5, 0.75, 50.0))


def test_a_run_says_where_it_is() -> None:
    texts = {
        "ready": job(RUN, state="waiting"),
        "in line, at place 3": job(RUN, state="waiting", place=3),
        "epoch 1 of 2 · step 2 of 4 · 50 images/s · 3 s left": job(TRAINING),
        "done: 12.0 s, 900 images/s": job(advance(TRAINING, Done(result(0.9, 10)))),
        "no such data": job(advance(TRAINING, Failed("no such data"))),
    }
    for words, view in texts.items():
        assert words in "".join(parsed(run_views.live(view)).itertext())


def test_the_accuracy_is_the_best_founded_one() -> None:
    validated = advance(TRAINING, EpochEnd(1, 0.4, 0.8, 0.5, 0.7, 1.0, 1e-3))
    tested = advance(validated, Done(result(0.65, 10)))
    accuracies = [run_views.accuracy_text(run)[0] for run in (RUN, TRAINING, validated, tested)]
    assert accuracies == ["–", "75.0%", "70.0%", "65.0%"]
    assert [run_views.progress(run) for run in (RUN, TRAINING, tested)] == [0, 0.25, 1]


def test_messages_of_runs_are_escaped() -> None:
    failed = advance(TRAINING, Failed(EVIL))
    stopped = advance(TRAINING, Done(result(0.5, 10, stopped=True)))
    assert EVIL not in run_views.live(job(failed, stopped))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((0.9, 10), (0.8, 40), "Model A is right about 90.0% of the test images, model B about 80.0%; model B has 4.0"),
        ((0.8, 40), (0.9, 10), "Model B is right about 90.0% of the test images, model A about 80.0%; model A has 4.0"),
        ((0.9, 10), (0.9, 10), "Both models are right about 90.0% of the test images; both have 10 parameters"),
    ],
)
def test_the_summary_says_who_is_better_and_larger(a: tuple[float, int], b: tuple[float, int], words: str) -> None:
    assert run_views.summary(result(*a), result(*b)).startswith(words)


def test_results_wait_for_both_models_and_mark_the_better_one() -> None:
    done = [advance(TRAINING, Done(result(*figures))) for figures in ((0.9, 10), (0.8, 40))]
    assert run_views.results(job(done[0], TRAINING), "abc") == ""
    root = parsed(run_views.results(job(*done, state="finished"), "abc"))
    best = [cell.text for cell in root.iter("span") if cell.get("class") == "best"]
    assert best == ["90.00%", "10"]
    assert len(list(root.iter("table"))) == 3


def test_many_classes_are_told_by_their_frequent_mistakes() -> None:
    names = [f"class {number}" for number in range(30)]
    root = parsed(run_views.confusion("Model A", result(0.5, 10, classes=30).confusion, names, "a"))
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    assert rows[1] in (["class 29", "class 28", "57"], ["class 28", "class 29", "57"])
    assert len(rows) == 13


def test_an_album_tells_wrong_answers_only() -> None:
    import numpy as np

    images = np.zeros((2, 28, 28, 1), np.uint8)
    root = parsed(album(images, [Tile(4, "seven", ("seven", "one")), Tile(9, EVIL, (None, None))], "nothing"))
    texts = ["".join(button.itertext()) for button in root.iter("button")]
    assert texts == ["sevenB: one", EVIL]
    assert "nothing" in album(images, [], "nothing")


def test_an_answer_shows_its_classes_and_whether_it_is_right() -> None:
    import numpy as np

    image = np.zeros((28, 28, 1), np.uint8)
    given = [("A", Answer(("7", "1"), (0.75, 0.25))), ("B", Answer(("1", "7"), (0.5, 0.5)))]
    text = "".join(parsed(answers(image, "7", given).replace('class_="seen">', 'class_="seen"/>')).itertext())
    assert "7 ✓" in text
    assert "1 ✗" in text
    assert "75.0%" in text
