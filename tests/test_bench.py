"""The form that all benchmarks share, on a benchmark made up here; and the parts of the real one, on tiny work."""

import json
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit import benchmarks
from toolkit.benchmarks import Check, Measured, Row, bench_command, in_turn, median_ratio, run
from toolkit.benchmarks import training as bench_training
from toolkit.errors import InputError
from toolkit.training import TrainConfig

TINY = TrainConfig(channels=2, epochs=1, train_limit=200, schedule="constant")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[types.ModuleType]:
    """A benchmark called `made_up` whose one promise is kept with seed 0 only, in a repository of its own."""
    module = types.ModuleType("toolkit.benchmarks.made_up")

    def measure(quick: bool, seed: int) -> Measured:
        rows = (Row.of("work", "s", [1.0, 3.0, 2.0] if quick else [1.0]),)
        return Measured(rows, (Check.at_most("work", float(seed), 0.5),))

    module.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "made_up", "nothing")
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(benchmarks, "ROOT", tmp_path)
    return module


def test_the_json_has_the_agreed_fields(made_up: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_command("made_up", quick=True, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"name", "machine", "versions", "date", "seed", "rows", "checks"} <= set(told)
    assert told["rows"] == [{"what": "work", "unit": "s", "median": 2.0, "least": 1.0, "most": 3.0, "n": 3}]
    assert told["checks"] == [{"name": "work", "value": 0.0, "goal": "at most 0.5", "ok": True}]
    assert told["machine"]["cpus"] >= 1
    assert "keras" in told["versions"]


def test_a_broken_promise_is_an_exit_status(made_up: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_command("made_up", quick=True, seed=1) == 1
    told = capsys.readouterr().out
    assert "NO" in told
    assert "at most 0.5" in told


def test_only_the_full_run_is_written_into_the_book(
    made_up: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "book" / "results" / "made_up.json"
    bench_command("made_up", quick=True)
    assert not written.exists()
    bench_command("made_up", as_json=True)
    told = capsys.readouterr().out
    assert written.read_text() == told[told.index("{\n") :]


def test_an_unknown_benchmark_is_a_sentence() -> None:
    with pytest.raises(InputError, match="there is no benchmark 'tempo'; choose one of training"):
        run("tempo")


def test_every_benchmark_has_its_module() -> None:
    found = {path.stem for path in Path(benchmarks.__file__).parent.glob("*.py")}
    assert set(benchmarks.BENCHMARKS) <= found


@pytest.mark.parametrize(("value", "ok"), [(1.05, True), (1.06, False)])
def test_limits_include_themselves(value: float, ok: bool) -> None:
    assert Check.at_most("", value, 1.05).ok == ok
    assert Check.at_least("", -value, -1.05).ok == ok


def test_peers_take_turns_and_swap_places() -> None:
    order: list[str] = []

    def measure(who: str, value: float) -> float:
        order.append(who)
        return value

    found = in_turn(lambda: measure("a", 1.0), lambda: measure("b", 2.0), 4, seconds=60)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert found == ([1.0] * 4, [2.0] * 4)
    assert median_ratio(*found) == 0.5


def test_time_ends_the_pairs_but_not_before_five() -> None:
    begun = time.monotonic()
    found = in_turn(lambda: 1.0, lambda: 1.0, 10**9, seconds=0.05)
    assert time.monotonic() - begun < 1
    assert len(found[0]) >= 5
    assert len(in_turn(lambda: 1.0, lambda: 1.0, 10**9, seconds=-1)[0]) == 5


@pytest.mark.tensorflow  # without the fork server each of its many runs takes seconds to start
class TestTraining:
    """That the real benchmark measures what it says; whether promises hold is for the real run to tell."""

    def test_overhead(self, tmp_path: Path) -> None:
        measured = bench_training._overhead(TINY, tmp_path, pairs=2, seconds=0)
        ours, bare, cpu, wall = measured.rows
        assert ours.n == bare.n == cpu.n == wall.n == 2
        assert 0.2 < ours.median / bare.median < 5
        assert cpu.least <= measured.checks[0].value <= cpu.most

    def test_runs_beside_processes(self, tmp_path: Path) -> None:
        ours, bare = bench_training._processes(TINY, tmp_path, pairs=1).rows
        assert 0.1 < ours.median / bare.median < 10

    def test_starts_stops_and_growth(self, tmp_path: Path) -> None:
        measured = bench_training._starts_and_stops(replace(TINY, epochs=10**6), tmp_path, runs=3)
        begun, first_step, stop = measured.rows[:3]
        assert 0 < begun.median < first_step.median
        assert 0 < stop.most < 3
        assert [check.name for check in measured.checks][:2] == [
            "slowest stop, seconds",
            "growth of the parent a run, MiB",
        ]

    def test_side_by_side(self, tmp_path: Path) -> None:
        together, in_sequence = bench_training._side_by_side(TINY, tmp_path, pairs=1).rows
        assert together.median > 0
        assert in_sequence.median > 0
