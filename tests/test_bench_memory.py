"""The memory benchmark on measurements made up here: its rows, its checks, and that a failure costs one row only."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from toolkit import benchmarks
from toolkit.benchmarks import Report, memory
from toolkit.benchmarks.memory import FULL, FULL_PLANS, Case, MemoryRow, cases_here, predicted_and_measured
from toolkit.figures import alt_text
from toolkit.memory import Measurement, OutOfMemory
from toolkit.runtimes import MemoryEstimate, predict_memory

MB = 10**6
LENET = Case("lenet5", 64, execution="tensorflow")


def measurement(network: str, batch_size: int, peak: int, process: int) -> Measurement:
    return Measurement(
        network, batch_size, True, "float32", "adam", "tensorflow", peak, process - peak, process, (peak,) * 3, 1.0
    )


def answering(peak: Callable[[int], int]) -> Callable[..., Measurement]:
    """Stands in for `measure_memory`: the peak is a function of what arithmetic says."""

    def measure(net: Any, batch_size: int, **options: Any) -> Measurement:
        kept = ("training", "optimizer", "dtype_policy", "accumulation_steps", "execution")
        said = predict_memory(net, batch_size, **{name: options[name] for name in kept if name in options}).peak_bytes
        return measurement(net.name, batch_size, peak(said), peak(said) + 600 * MB)

    return measure


def failing(*_: Any, **__: Any) -> Measurement:
    raise OutOfMemory("a training step does not fit")


def row(case: Case, measured: int, predicted: int, **methods: int) -> MemoryRow:
    """What `predicted_and_measured` would find for such numbers."""
    return MemoryRow(
        **memory._figure(str(case), [measured] if measured else [], "", "", None),
        network=case.network,
        batch_size=case.batch_size,
        training=case.training,
        optimizer=case.optimizer,
        dtype_policy=case.dtype_policy,
        accumulation_steps=1,
        execution=case.execution,
        measured_bytes=measured or None,
        predicted_bytes=predicted,
        ratio=predicted / measured if measured else None,
        naive_bytes=1,
        textbook_bytes=1,
        methods=methods,
        seconds=1.0,
    )


def test_a_row_has_the_measurement_and_all_that_was_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", answering(lambda said: 2 * said))
    found = predicted_and_measured(LENET)
    assert found.ratio == 0.5
    assert found.measured_bytes == 2 * (found.predicted_bytes or 0)
    assert found.median == found.measured_bytes / MB
    assert found.naive_bytes == 64 * 32 * 32 * 4
    assert found.textbook_bytes > 4 * 4 * 61_706
    assert "lenet5 × 64, training, adam, float32, tensorflow: predicted" in found.what


def test_a_failure_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", failing)
    found = predicted_and_measured(LENET)
    assert found.failed == "a training step does not fit"
    assert found.what.endswith("no measurement; a training step does not fit")
    assert (found.n, found.measured_bytes, found.ratio) == (0, None, None)
    assert found.predicted_bytes
    json.dumps(found.__dict__, allow_nan=False)


def test_a_network_that_does_not_exist_is_a_row_too() -> None:
    assert "nothing" in predicted_and_measured(replace(LENET, network="nothing")).failed


def test_a_method_without_an_answer_is_not_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", answering(lambda said: said))
    monkeypatch.setattr(memory, "estimate_memory", failing)
    found = predicted_and_measured(replace(LENET, methods=("probing",)))
    assert found.measured_bytes
    assert "does not fit" in found.what
    (check,) = memory.method_checks([found])
    assert (check.value, check.ok) == (1.0, False)


def test_methods_are_told_beside_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    def probed(net: Any, batch_size: int, *, method: str, timeout: float, **conditions: Any) -> MemoryEstimate:
        return replace(predict_memory(net, batch_size, **conditions), method=method, parts={"measured": 77})

    monkeypatch.setattr(memory, "measure_memory", answering(lambda said: said))
    monkeypatch.setattr(memory, "estimate_memory", probed)
    assert predicted_and_measured(replace(LENET, methods=("probing",))).methods == {"probing": 77}


@pytest.mark.parametrize(
    ("predicted", "share", "lowest", "ok"),
    [
        ((95, 105, 110), 1.0, 0.95, (True, True)),
        ((95, 105, 111), 2 / 3, 0.95, (False, True)),
        ((84, 100, 100), 2 / 3, 0.84, (False, False)),
    ],
)
def test_training_is_held_within_ten_percent_and_never_far_below(
    predicted: tuple[int, ...], share: float, lowest: float, ok: tuple[bool, bool]
) -> None:
    others = [row(replace(LENET, training=False), 100, 500), row(replace(LENET, execution="jax"), 100, 500)]
    checks = memory.training_checks([*(row(LENET, 100, each) for each in predicted), *others])
    assert [check.value for check in checks] == [share, lowest]
    assert tuple(check.ok for check in checks) == ok


def test_what_was_not_measured_is_not_within() -> None:
    checks = memory.training_checks([row(LENET, 100, 100), row(LENET, 0, 100)])
    assert checks[0].value == 0.5
    assert not memory.inference_checks([row(replace(LENET, training=False), 0, 100)])[0].ok


@pytest.mark.parametrize(
    ("measured", "predicted", "ok"),
    [(100, 160, True), (100, 161, False), (1000, 1150, True), (1000, 849, False), (1000, 850, True)],
)
def test_inference_is_held_within_a_share_or_a_size(measured: int, predicted: int, ok: bool) -> None:
    (check,) = memory.inference_checks([row(replace(LENET, training=False), measured * MB, predicted * MB)])
    assert check.ok == ok


def test_the_worst_of_each_method_counts() -> None:
    rows = [row(LENET, 100, 100, probing=104), row(LENET, 100, 100, probing=98, compiling=94)]
    probing, compiling = memory.method_checks(rows)
    assert (round(probing.value, 6), probing.ok) == (0.04, True)
    assert (round(compiling.value, 6), compiling.ok) == (0.06, False)
    assert memory.method_checks([row(LENET, 100, 100)]) == []


def test_a_plan_is_trained_under_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measure(net: Any, batch_size: int, **options: Any) -> Measurement:
        asked.update(options, batch_size=batch_size)
        return measurement(net.name, batch_size, 100 * MB, 700 * MB)

    monkeypatch.setattr(memory, "measure_memory", measure)
    found = memory.planned_and_trained(replace(LENET, batch_size=16), 3000 * MB)
    assert asked["limit_bytes"] == found.limit_bytes == 3000 * MB
    assert asked["batch_size"] == found.batch_size == 16
    assert asked["accumulation_steps"] == 1
    assert found.predicted_bytes <= 0.7 * 3000 * MB
    assert memory.plan_checks([found])[0].ok


def test_a_plan_that_does_not_train_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", failing)
    trained = memory.planned_and_trained(LENET, 3000 * MB)
    assert "does not fit" in trained.failed
    monkeypatch.setattr(memory, "measure_memory", lambda net, batch_size, **_: measurement("lenet5", 1, MB, 5 * MB))
    unplanned = memory.planned_and_trained(LENET, 10 * MB)  # where one image takes 5 MB
    assert "limit of" in unplanned.failed
    assert unplanned.batch_size == 0
    check = memory.plan_checks([trained, unplanned, replace(trained, failed="")])[0]
    assert (round(check.value, 3), check.ok) == (0.333, False)


def test_a_plan_is_trained_once_for_all_limits_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(net: Any, batch_size: int, **options: Any) -> Measurement:
        asked.append(options["limit_bytes"])
        return measurement(net.name, batch_size, 100 * MB, 700 * MB)

    monkeypatch.setattr(memory, "measure_memory", measure)
    rows = list(memory.planned_rows([(LENET, 3000 * MB), (LENET, 4000 * MB), (replace(LENET, batch_size=8), 10**10)]))
    assert asked == [3000 * MB, 10**10]
    assert [row.limit_bytes for row in rows] == [3000 * MB, 4000 * MB, 10**10]
    assert rows[1].what == "lenet5 within 4,000 MB: the same plan as within 3,000"
    assert memory.plan_checks(rows)[0].value == 1


def test_a_refusal_that_was_right_breaks_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda net, batch_size, **_: measurement("lenet5", 1, MB, 650 * MB))
    refused = memory.planned_and_trained(LENET, 900 * MB)
    assert (refused.batch_size, refused.failed, refused.process_bytes) == (0, "", 650 * MB)
    assert "refused" in refused.what


def test_what_is_quickly_measured_is_measured_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([300, 100, 200, 400])
    monkeypatch.setattr(memory, "measure_memory", lambda *_, **__: measurement("lenet5", 64, next(peaks) * MB, 10**9))
    found = predicted_and_measured(LENET)
    assert (found.n, found.measured_bytes, found.least, found.most) == (3, 200 * MB, 100.0, 300.0)
    monkeypatch.setattr(memory, "CHEAP_SECONDS", -1.0)
    assert predicted_and_measured(LENET).n == 1


def test_executions_without_their_library_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_spec", lambda name: None if name == "jax" else name)
    monkeypatch.setattr(memory, "default_execution", lambda: "onednn")
    found = cases_here([Case("lenet5", 1), Case("lenet5", 1, execution="jax"), LENET])
    assert [case.execution for case in found] == ["onednn", "tensorflow"]


def test_the_full_table_is_as_large_as_promised() -> None:
    training = [case for case in FULL if case.training]
    assert len({case.network for case in training}) >= 12
    assert {1, 64} <= {case.batch_size for case in training}
    assert {"adam", "sgd"} <= {case.optimizer for case in training}
    assert len(set(FULL)) == len(FULL)
    assert len({case.network for case, _ in FULL_PLANS}) == 10
    assert len(FULL_PLANS) == 30


def test_arithmetic_is_timed_in_an_interpreter_of_its_own() -> None:
    row, (milliseconds, frameworks) = memory.speed_of_arithmetic(2)
    assert row.n == 2
    assert milliseconds.value == row.median > 0
    assert frameworks.ok


def test_everything_comes_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The full run with two cases: lines of progress, a report with the rows' own fields, and a picture in words."""
    monkeypatch.setattr(memory, "measure_memory", answering(lambda said: said))
    monkeypatch.setattr(memory, "FULL", (LENET, replace(LENET, network="nothing")))
    monkeypatch.setattr(memory, "FULL_PLANS", ((LENET, 3000 * MB),))
    monkeypatch.setattr(memory, "cases_here", list)
    monkeypatch.setattr(benchmarks, "ROOT", tmp_path)
    monkeypatch.setattr(memory, "speed_of_arithmetic", lambda runs: (benchmarks.Row.of("speed", "ms", [5.0]), ()))
    (tmp_path / "pyproject.toml").touch()
    assert benchmarks.bench_command("memory", as_json=True) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == ["1/2", "2/2", "plan 1/1"]
    told = json.loads(out)
    assert told == json.loads((tmp_path / "book" / "results" / "memory.json").read_text())
    assert [each.get("ratio") for each in told["rows"]] == [1.0, None, None, None]
    assert told["rows"][1]["failed"]
    assert (tmp_path / "book" / "results" / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_training_that_was_measured() -> None:
    rows = (row(LENET, 100, 95), row(replace(LENET, training=False), 100, 5), row(LENET, 0, 100))
    words = alt_text(memory.picture(Report("memory", {}, {}, "", 0, 1.0, False, rows, ())))
    assert "1 steps" in words
    assert "by arithmetic: 1 of 1 within 10%" in words
