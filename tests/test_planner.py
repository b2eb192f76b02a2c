"""The search for a plan's peak in the planner's tab, with workers that say what the test tells them."""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.jobs import Limits
from toolkit.measurements import STOPPED, Caps, Measurements, MeasuringView, Question
from toolkit.memory import Measurement, MemoryEvent
from toolkit.ui import memory_views
from toolkit.ui.planner import METHODS, MOST_KEPT, Wish, methods_here, with_finding

WISH = Wish("small_cnn", "28x28x1", 48, 4.0, "float32", "adam")
OLD = ["lenet5, batch 64, float32, adam", "measuring", 700, 693, 5.0]


class Worker:
    """Answers with a measurement, unless it is to wait for its end."""

    def __init__(self, question: Question, waits: bool) -> None:
        peak = question.estimate.peak_bytes // 2
        found = Measurement("n", 1, True, "float32", "adam", "onednn", peak, 600, 600 + peak, (peak,), 1.0)
        self.alive, self.said = waits, [] if waits else [found]

    def poll(self) -> Iterable[MemoryEvent]:
        said, self.said = self.said, []
        return said

    def kill(self) -> None:
        self.alive = False


def followed(folder: Path, question: Question, *, waits: bool) -> list[MeasuringView]:
    """Everything that the page sees of a search, which is stopped when it is seen first if it would wait."""

    def start(question: Question, caps: Caps) -> Worker:
        return Worker(question, waits)

    async def search() -> list[MeasuringView]:
        views = []
        async for view in measurements.followed(question, "anna", 0.05):
            views.append(view)
            if waits:
                measurements.stop("anna")
        return views

    measurements = Measurements(Limits(), folder, start=start, memory=lambda: 10**11)
    try:
        return asyncio.run(search())
    finally:
        measurements.close()


def test_a_measurement_is_kept_beside_what_was_found_before(tmp_path: Path) -> None:
    question = WISH.question("by measuring")
    last = followed(tmp_path, question, waits=False)[-1]
    assert last.measurement is not None
    new = memory_views.finding(last.estimate, last.measurement, last.seconds)
    assert (new[0], new[1]) == ("small_cnn, batch 64, float32, adam", "measuring")
    assert new[3] == question.estimate.process_bytes > new[2] > 600
    kept = with_finding(new, [OLD] * 20)
    assert (kept[0], kept[1], len(kept)) == (new, OLD, MOST_KEPT)
    text = memory_views.findings(json.loads(json.dumps(kept)))
    assert "small_cnn, batch 64" in text
    assert "lenet5, batch 64" in text


def test_stop_ends_it_within_a_second(tmp_path: Path) -> None:
    begun = time.monotonic()
    *_, last = followed(tmp_path, WISH.question("by probing"), waits=True)
    assert time.monotonic() - begun < 1 + 2  # one second, and two for a busy machine
    assert (last.state, last.message, last.measurement) == ("failed", STOPPED, None)
    assert STOPPED in memory_views.measuring(last)


def test_arithmetic_beside_itself_has_no_ratio() -> None:
    estimate = WISH.question("by arithmetic").estimate
    text = memory_views.findings([list(memory_views.finding(estimate, estimate, 0.0))])
    assert "1.00" not in text
    assert "–" in text


def test_what_cannot_be_planned_is_a_sentence() -> None:
    with pytest.raises(InputError, match="the wanted batch must be"):
        replace(WISH, wanted=0).question("by measuring")


def test_the_plan_is_what_is_looked_at() -> None:
    question = replace(WISH, network="resnet50", size="224x224x3", wanted=300).question("by probing")
    assert question.batch_size * question.accumulation_steps >= 300
    assert question.accumulation_steps > 1
    assert question.method == "probing"
    assert question.estimate.process_bytes <= 0.7 * 4 * 2**30


def test_compiling_is_offered_where_a_step_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for execution, offered in (("jax", True), ("onednn", False)):
        monkeypatch.setattr("toolkit.system.default_execution", lambda execution=execution: execution)
        assert ("by compiling" in methods_here()) == offered
    assert methods_here()[0] == next(iter(METHODS))


@pytest.mark.parametrize("junk", [None, "x", [1], [["a"]], [["a", "b", 0, 1, 2.0]], [["<b>", 1, 1, 1, 1]]])
def test_what_a_browser_keeps_is_not_trusted(junk: object) -> None:
    assert memory_views.findings(junk) == ""


def test_a_name_cannot_become_markup() -> None:
    text = memory_views.findings([["<script>", "probing", 100, 110, 1.5]])
    assert "<script>" not in text
    assert "1.10" in text
