"""The registry of measurements, with a clock that stands still and workers that say what the test tells them."""

import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.architectures import resnet50, small_cnn
from toolkit.errors import InputError
from toolkit.jobs import Limits
from toolkit.measurements import Caps, Measurements, Question
from toolkit.memory import Failed, Measurement, MemoryEvent, Progress

FOUND = Measurement("small_cnn", 32, True, "float32", "adam", "tensorflow", 50, 600, 650, (49, 50, 50), 0.5)
SMALL = Question(small_cnn(), 32)


class FakeWorker:
    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.alive = True
        self.said: list[MemoryEvent] = []
        caps.folder.mkdir(parents=True)

    def poll(self) -> Iterable[MemoryEvent]:
        said, self.said = self.said, []
        return said

    def kill(self) -> None:
        self.alive = False

    def say(self, *events: MemoryEvent, last: bool = False) -> None:
        self.said += events
        self.alive = not last


class House:
    """A registry, its workers in the order of their start, and its clock."""

    def __init__(self, folder: Path, limits: Limits, free: int = 10**11) -> None:
        self.now, self.free = 0.0, free
        self.workers: list[FakeWorker] = []
        self.all = Measurements(
            limits, folder, start=self.start, clock=lambda: self.now, memory=lambda: self.free, watchman=False
        )

    def start(self, question: Question, caps: Caps) -> FakeWorker:
        self.workers.append(FakeWorker(caps))
        return self.workers[-1]

    def submit(self, owner: str, question: Question = SMALL) -> str:
        asked = self.all.submit(question, owner)
        self.settle()
        return asked

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.all.tick()
        self.settle()

    def settle(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "measure":
                thread.join(5)

    def state(self, asked: str) -> str:
        return self.all.view(asked).state


@pytest.fixture
def house(tmp_path: Path) -> Iterable[House]:
    house = House(tmp_path, Limits(waiting=2, measure_seconds=60, run_memory_bytes=2 * 10**9))
    yield house
    house.all.close()


def test_a_measurement_goes_from_its_stages_to_its_numbers(house: House, tmp_path: Path) -> None:
    asked = house.submit("anna")
    house.workers[0].say(Progress("imported", 600))
    house.tick(3)
    view = house.all.view(asked)
    assert (view.state, view.stage, view.seconds, view.measurement) == ("running", "imported", 3.0, None)
    house.workers[0].say(FOUND, last=True)
    house.tick()
    view = house.all.view(asked)
    assert (view.state, view.measurement, view.ended) == ("done", FOUND, True)
    assert view.estimate == SMALL.estimate
    assert list(tmp_path.iterdir()) == []


def test_it_has_the_server_s_caps(house: House) -> None:
    house.submit("anna")
    caps = house.workers[0].caps
    assert (caps.memory_bytes, caps.seconds) == (2 * 10**9, 60)
    house.all.leave("anna")
    house.tick()
    house.free = 10**9
    house.submit("ben")
    assert house.workers[1].caps.memory_bytes == 10**9


def test_one_at_a_time_and_the_others_see_their_place(house: House) -> None:
    first, second, third = (house.submit(name) for name in ("anna", "ben", "cleo"))
    assert [house.state(asked) for asked in (first, second, third)] == ["running", "waiting", "waiting"]
    assert [house.all.view(asked).place for asked in (first, second, third)] == [0, 1, 2]
    house.workers[0].say(FOUND, last=True)
    house.tick()
    assert [house.all.view(asked).place for asked in (second, third)] == [0, 1]
    assert len(house.workers) == 2
    house.submit("dan")
    with pytest.raises(InputError, match="3 measurements are in line"):
        house.submit("eve")


def test_one_for_each_visitor(house: House) -> None:
    house.submit("anna")
    with pytest.raises(InputError, match="still running"):
        house.submit("anna")


def test_what_is_predicted_too_big_is_refused_before_anything_runs(house: House) -> None:
    with pytest.raises(InputError, match=r"predicted to reach .* a measurement may have 2\.00 GB; choose a smaller"):
        house.submit("anna", Question(resnet50(), 512))
    assert house.workers == []
    house.free = SMALL.estimate.process_bytes - 1
    with pytest.raises(InputError, match="predicted to reach"):
        house.submit("anna")


def test_it_ends_at_its_time(house: House) -> None:
    asked = house.submit("anna")
    house.tick(59)
    assert house.state(asked) == "running"
    house.tick(2)
    assert "stopped after 60 seconds" in house.all.view(asked).message
    assert not house.workers[0].alive


def test_who_leaves_takes_it_along(house: House) -> None:
    asked, waiting = house.submit("anna"), house.submit("ben")
    house.all.leave("ben")
    house.all.leave("anna")
    house.tick()
    assert [house.state(each) for each in (asked, waiting)] == ["failed", "failed"]
    assert [worker.alive for worker in house.workers] == [False]


def test_a_stop_ends_it_at_once(house: House) -> None:
    done, asked, other = house.submit("anna"), "", house.submit("ben")
    house.workers[0].say(FOUND, last=True)
    house.tick()
    asked = house.submit("anna")
    house.all.stop("anna")
    assert [house.state(each) for each in (done, asked)] == ["done", "failed"]
    assert house.all.view(asked).message == "stopped before it was done"
    assert house.state(other) == "running"
    house.all.stop("ben")
    assert not house.workers[1].alive


def test_an_estimate_is_found_in_the_same_way(house: House) -> None:
    asked = house.submit("anna", replace(SMALL, method="probing"))
    found = replace(SMALL.estimate, method="probing")
    house.tick(4)
    house.workers[0].say(found, last=True)
    house.tick()
    view = house.all.view(asked)
    assert (view.state, view.estimated, view.measurement, view.seconds) == ("done", found, None, 4.0)
    assert view.method == "probing"


def test_probing_needs_the_memory_of_half_the_batch_and_compiling_of_one_image(house: House) -> None:
    whole = Question(small_cnn((224, 224, 3)), 64)
    methods = {method: replace(whole, method=method) for method in ("measuring", "probing", "compiling")}
    assert {method: question.largest_step for method, question in methods.items()} == {
        "measuring": 64,
        "probing": 32,
        "compiling": 1,
    }
    house.free = replace(whole, batch_size=32).estimate.process_bytes
    with pytest.raises(InputError, match="predicted to reach"):
        house.submit("anna", whole)
    assert house.state(house.submit("anna", methods["probing"])) == "running"


def test_failures_come_as_their_sentence(house: House) -> None:
    asked = house.submit("anna")
    house.workers[0].say(Failed("it does not fit", out_of_memory=True), last=True)
    house.tick()
    assert house.all.view(asked).message == "it does not fit"
    silent = house.submit("ben")
    house.workers[1].say(last=True)
    house.tick()
    assert "without a word" in house.all.view(silent).message


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    def refuse(question: Question, caps: Caps) -> FakeWorker:
        raise OSError("no more processes")

    measurements = Measurements(Limits(), tmp_path, start=refuse, memory=lambda: 10**11)
    asked = measurements.submit(SMALL, "anna")
    end = time.monotonic() + 10
    while not (view := measurements.view(asked)).ended:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "no more processes" in view.message
    with pytest.raises(InputError, match="measure again"):
        measurements.view("unknown")
    measurements.close()


@pytest.mark.tensorflow
def test_a_real_one_by_the_watchman(tmp_path: Path) -> None:
    measurements = Measurements(Limits(), tmp_path)
    asked = measurements.submit(SMALL, "anna")
    end = time.monotonic() + 120
    while not (view := measurements.view(asked)).ended:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert view.measurement is not None, view.message
    assert 0.3 < view.estimate.process_bytes / view.measurement.process_bytes < 3
    while any(tmp_path.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    measurements.close()
