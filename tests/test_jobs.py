"""The registry of trainings, with a clock that stands still and workers that say what the test tells them."""

import os
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from toolkit.architectures import small_cnn
from toolkit.costs import costs
from toolkit.datasets import DATASETS
from toolkit.errors import InputError
from toolkit.jobs import (
    CURVE_POINTS,
    FILES,
    FOLDER_PREFIX,
    FORKED_BYTES,
    VISITORS,
    Jobs,
    JobView,
    Limits,
    RunView,
    advance,
    bundle,
    check_size,
    forecast,
    own_folder,
    seconds_left,
    training_curve,
)
from toolkit.processes import can_fork
from toolkit.runtimes import predict_memory
from toolkit.system import default_execution
from toolkit.training import (
    Done,
    EpochEnd,
    Event,
    Failed,
    Memory,
    Started,
    Step,
    TrainConfig,
    TrainResult,
    network_of,
)

STARTED = Started(10, steps_per_epoch=2, epochs=1, train_images=9, validation_images=1, test_images=4)
A, B = TrainConfig(channels=2), TrainConfig(channels=4)


def step(number: int) -> Step:
    return Step(epoch=1, step=number, steps=2, loss=1.0 / number, accuracy=0.5, images_per_second=100.0)


def result(folder: Path, stopped: bool = False) -> TrainResult:
    return TrainResult(
        config=A,
        params=10,
        history={"loss": [1.0], "accuracy": [0.5], "val_loss": [1.0], "val_accuracy": [0.5]},
        test_accuracy=0.5,
        test_loss=1.0,
        tested_images=4,
        confusion=((1, 1), (1, 1)),
        per_class_accuracy={"0": 0.5, "1": 0.5},
        seconds=1.0,
        images_per_second=100.0,
        peak_memory_bytes=10**8,
        stopped=stopped,
        epochs_done=1,
        folder=folder,
    )


class FakeWorker:
    """A process that does nothing by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive = True
        self.said: list[Event] = []
        self.stops = 0
        self.obeys = True

    def poll(self) -> Iterable[Event]:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.stops += 1
        if self.obeys:
            self.finish(stopped=True)

    def kill(self) -> None:
        self.alive = False

    def finish(self, stopped: bool = False) -> None:
        self.said.append(Done(result(self.folder, stopped)))
        self.alive = False


class House:
    """A registry, its workers by (job, model) and its clock."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.now = 0.0
        self.workers: dict[Path, FakeWorker] = {}
        self.jobs = Jobs(
            limits, folder, start=self.start, clock=lambda: self.now, memory=lambda: 10**11, watchman=False
        )

    def start(self, config: TrainConfig, folder: Path) -> FakeWorker:
        self.workers[folder] = FakeWorker(folder)
        return self.workers[folder]

    def submit(self, owner: str, *configs: TrainConfig) -> str:
        job_id = self.jobs.submit(configs or (A, B), owner)
        self.settle()
        return job_id

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.jobs.tick()
        self.settle()

    def settle(self) -> None:
        """Wait for the threads that start processes."""
        for thread in threading.enumerate():
            if thread.name.startswith("launch"):
                thread.join(5)

    def of(self, job_id: str) -> list[FakeWorker]:
        return [self.workers[run.folder] for run in self.jobs.view(job_id).runs if run.folder in self.workers]

    def states(self, job_id: str) -> list[str]:
        return [run.state for run in self.jobs.view(job_id).runs]


@pytest.fixture
def house(tmp_path: Path) -> Iterable[House]:
    house = House(tmp_path / "jobs", Limits(waiting=3, kept_jobs=3))
    yield house
    house.jobs.close()


def test_both_models_of_a_job_start_at_once(house: House) -> None:
    job = house.submit("anna")
    assert house.jobs.view(job).state == "running"
    assert house.states(job) == ["starting", "starting"]
    assert len({worker.folder for worker in house.of(job)}) == 2


def test_more_than_two_runs_of_a_job_take_turns(house: House) -> None:
    job = house.submit("anna", A, B, A, B)
    assert house.states(job) == ["starting", "starting", "waiting", "waiting"]
    house.of(job)[1].finish()
    house.tick()
    assert house.states(job) == ["starting", "done", "starting", "waiting"]
    house.tick(house.jobs.limits.run_seconds - 1)
    house.of(job)[0].finish()
    house.tick()
    house.tick(2)
    assert house.states(job) == ["done", "done", "starting", "starting"]
    assert house.of(job)[2].stops == 1  # its time is over; the last one has just begun
    house.jobs.stop(job)
    house.tick()
    assert house.states(job) == ["done", "done", "stopped", "stopped"]


def test_the_runs_of_a_job_that_wait_for_their_turn_can_be_stopped(house: House) -> None:
    job = house.submit("anna", A, B, A)
    house.jobs.stop(job)
    house.tick()
    assert house.states(job) == ["stopped"] * 3
    assert len(house.of(job)) == 2


def test_events_reach_the_view(house: House) -> None:
    job = house.submit("anna")
    first, second = house.of(job)
    first.said = [STARTED, step(1), step(2), Memory(100, 120), EpochEnd(1, 0.5, 0.9, 0.6, 0.8, 1.5, 1e-3)]
    second.said = [STARTED]
    house.tick()
    run = house.jobs.view(job).runs[0]
    assert (run.state, run.started, run.step, run.memory) == ("training", STARTED, step(2), Memory(100, 120))
    assert [each.step for each in run.steps] == [1, 2]
    assert run.epochs[0].val_accuracy == 0.8
    first.finish()
    second.said = [Failed("there is no such dataset")]
    house.tick()
    assert house.states(job) == ["done", "failed"]
    assert house.jobs.view(job).runs[1].message == "there is no such dataset"
    assert house.jobs.view(job).state == "finished"


def test_the_last_words_of_a_process_that_ended_are_read(house: House) -> None:
    job = house.submit("anna", A)
    house.of(job)[0].said = [STARTED, step(1)]
    house.of(job)[0].finish()
    house.tick()
    assert house.states(job) == ["done"]


def test_a_process_that_dies_says_why(house: House) -> None:
    job = house.submit("anna", A)
    house.of(job)[0].alive = False
    house.tick()
    view = house.jobs.view(job).runs[0]
    assert view.state == "failed"
    assert "memory" in view.message


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    def refuse(config: TrainConfig, folder: Path) -> FakeWorker:
        raise OSError("no more processes")

    jobs = Jobs(Limits(), tmp_path / "jobs", start=refuse, watchman=False)
    job = jobs.submit((A,), "anna")
    wait_for(lambda: jobs.view(job).state == "finished")
    assert "no more processes" in jobs.view(job).runs[0].message
    jobs.close()


def test_two_jobs_run_and_the_others_see_their_place(house: House) -> None:
    first, second, third, fourth = (house.submit(name) for name in ("anna", "ben", "cleo", "dan"))
    assert [house.jobs.view(job).place for job in (first, second, third, fourth)] == [0, 0, 1, 2]
    assert house.states(third) == ["waiting", "waiting"]
    assert house.of(third) == []
    for worker in house.of(first):
        worker.finish()
    house.tick()
    assert [house.jobs.view(job).place for job in (third, fourth)] == [0, 1]
    assert len(house.of(third)) == 2


def test_stop_keeps_what_was_learned(house: House) -> None:
    job = house.submit("anna")
    house.jobs.stop(job)
    house.tick()
    assert house.states(job) == ["stopped", "stopped"]
    assert all(run.result is not None for run in house.jobs.view(job).runs)


def test_one_model_can_be_stopped_alone(house: House) -> None:
    job = house.submit("anna")
    house.jobs.stop(job, 1)
    house.jobs.stop(job, 1)
    house.tick()
    assert [worker.stops for worker in house.of(job)] == [0, 1]
    assert house.states(job) == ["starting", "stopped"]
    assert house.jobs.view(job).state == "running"


def test_a_worker_that_does_not_listen_is_killed_after_two_seconds(house: House) -> None:
    job = house.submit("anna", A)
    house.of(job)[0].obeys = False
    house.jobs.stop(job)
    house.tick(1.9)
    assert [worker.alive for worker in house.of(job)] == [True]
    house.tick(0.2)
    assert [worker.alive for worker in house.of(job)] == [False]
    house.tick()
    assert house.states(job) == ["stopped"]


def test_a_waiting_job_can_be_stopped(house: House) -> None:
    house.submit("anna"), house.submit("ben")
    waiting = house.submit("cleo")
    house.jobs.stop(waiting)
    assert house.states(waiting) == ["stopped", "stopped"]
    assert house.jobs.view(waiting).state == "finished"


def test_a_stop_before_the_process_exists_reaches_it(tmp_path: Path) -> None:
    gate = threading.Event()
    workers: list[FakeWorker] = []

    def slowly(config: TrainConfig, folder: Path) -> FakeWorker:
        gate.wait(5)
        workers.append(FakeWorker(folder))
        return workers[-1]

    jobs = Jobs(Limits(), tmp_path / "jobs", start=slowly, watchman=False)
    job = jobs.submit((A,), "anna")
    jobs.stop(job)
    gate.set()
    wait_for(lambda: bool(workers) and workers[0].stops == 1)
    jobs.close()


def test_a_job_forgotten_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()
    workers: list[FakeWorker] = []
    clock = [0.0]

    def slowly(config: TrainConfig, folder: Path) -> FakeWorker:
        begun.set()
        gate.wait(5)
        workers.append(FakeWorker(folder))
        return workers[-1]

    jobs = Jobs(Limits(), tmp_path / "jobs", start=slowly, clock=lambda: clock[0], watchman=False)
    job = jobs.submit((A, B), "anna")
    assert begun.wait(5)
    jobs.leave("anna")
    clock[0] = 61.0
    jobs.tick()
    gate.set()
    wait_for(lambda: bool(workers) and not workers[0].alive)
    jobs.tick()
    assert not (tmp_path / "jobs" / job).exists()
    assert len(workers) == 1  # the second model was never started
    jobs.close()


def test_nobody_watches_for_a_minute_and_the_job_is_gone(house: House, tmp_path: Path) -> None:
    job = house.submit("anna")
    workers = house.of(job)
    (workers[0].folder / "model.keras").write_bytes(b"1")
    house.jobs.leave("anna")
    house.tick(59)
    assert house.jobs.knows(job)
    assert all(worker.alive for worker in workers)
    house.tick(2)
    assert not house.jobs.knows(job)
    assert not any(worker.alive for worker in workers)
    assert not (tmp_path / "jobs" / job).exists()
    with pytest.raises(InputError, match="no longer here"):
        house.jobs.view(job)


def test_a_reload_within_the_grace_keeps_the_job(house: House) -> None:
    job = house.submit("anna")
    house.jobs.watch(job, "anna after the reload")
    house.jobs.leave("anna")
    house.tick(3600 - 1)
    assert house.jobs.knows(job)
    house.jobs.leave("anna after the reload")
    house.tick(30)
    house.jobs.watch(job, "anna again")
    house.tick(3600)
    assert house.jobs.knows(job)


def test_every_run_has_a_limit_of_time_and_memory(tmp_path: Path) -> None:
    house = House(tmp_path / "jobs", Limits(run_seconds=300, run_memory_bytes=10**9))
    job = house.submit("anna")
    slow, large = house.of(job)
    large.said = [Memory(2 * 10**9, 2 * 10**9)]
    house.tick(299)
    assert (slow.stops, large.stops) == (0, 1)
    house.tick(2)
    assert slow.stops == 1
    house.tick()
    assert ["300 seconds" in run.message for run in house.jobs.view(job).runs] == [True, False]
    assert "memory limit" in house.jobs.view(job).runs[1].message
    house.jobs.close()


def test_sizes_are_refused_before_anything_runs(tmp_path: Path) -> None:
    house = House(tmp_path / "jobs", Limits(run_macs=10**6))
    with pytest.raises(InputError, match="fewer epochs"):
        house.submit("anna")
    assert not house.workers
    house.jobs.close()
    small = Limits(run_memory_bytes=10**4)
    house = House(tmp_path / "jobs", small)
    with pytest.raises(InputError, match="not even a batch of 1 would fit"):
        house.submit("anna")
    house.jobs.close()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(optimizer: str) -> None:
    large = TrainConfig(dataset="cifar10", architecture="resnet18", batch_size=512, optimizer=optimizer)
    limit = forecast(large).process_bytes - 1
    with pytest.raises(InputError, match="would fit") as refused:
        check_size(large, Limits(run_macs=10**18), limit)
    found = re.search(r"a batch of (\d+) with (\d+) accumulation steps", str(refused.value))
    assert found is not None
    batch, steps = map(int, found.groups())
    assert batch * steps >= 512
    smaller = replace(large, batch_size=batch, accumulation_steps=steps)
    assert check_size(smaller, Limits(run_macs=10**18), limit).process_bytes <= limit
    server = Limits(run_macs=10**18, run_memory_bytes=limit)
    with pytest.raises(InputError, match="would fit"):
        check_size(large, server, 2 * limit)


def test_models_that_fit_alone_but_not_together_are_refused(tmp_path: Path) -> None:
    free = forecast(A).process_bytes + forecast(B).process_bytes - 1
    jobs = Jobs(Limits(), tmp_path / "jobs", start=lambda config, folder: finished(folder), memory=lambda: free)
    with pytest.raises(InputError, match="memory together and"):
        jobs.submit((A, B), "anna")
    assert jobs.knows(jobs.submit((A,), "anna"))
    jobs.close()


def test_a_forecast_counts_framework_step_and_images() -> None:
    ahead = forecast(TrainConfig(dataset="mnist", batch_size=64, accumulation_steps=2))
    assert ahead.data_bytes == (60_000 + 10_000 + 54_000) * 28 * 28
    estimate = predict_memory(
        network_of(TrainConfig(), DATASETS["mnist"]), 64, execution=default_execution(), accumulation_steps=2
    )
    assert ahead.estimate == estimate
    assert ahead.process_bytes == ahead.framework_bytes + estimate.peak_bytes + ahead.data_bytes
    assert ahead.framework_bytes == (FORKED_BYTES if can_fork() else estimate.framework_bytes)


def test_one_training_for_each_visitor_and_a_line_that_ends(house: House) -> None:
    house.submit("anna")
    with pytest.raises(InputError, match="press Stop first"):
        house.submit("anna")
    for name in ("ben", "cleo", "dan", "eve"):
        house.submit(name)
    with pytest.raises(InputError, match="5 trainings are in line"):
        house.submit("finn")


def test_the_oldest_results_go_first(house: House) -> None:
    jobs = []
    for number in range(5):
        jobs.append(house.submit(f"visitor {number}", A))
        house.of(jobs[-1])[0].finish()
        house.tick(1)
    assert [house.jobs.knows(job) for job in jobs] == [False, False, True, True, True]


def test_a_new_training_takes_the_place_of_the_last(house: House) -> None:
    first = house.submit("anna", A)
    house.jobs.watch(first, "a second tab")
    house.of(first)[0].finish()
    house.tick()
    second = house.submit("anna", B)
    house.tick(61)
    assert house.jobs.knows(first)
    house.jobs.leave("a second tab")
    house.tick(61)
    assert [house.jobs.knows(job) for job in (first, second)] == [False, True]


def test_results_do_not_stay_for_ever(house: House) -> None:
    job = house.submit("anna", A)
    house.of(job)[0].finish()
    house.tick()
    house.tick(house.jobs.limits.kept_seconds + 1)
    assert not house.jobs.knows(job)


def test_job_ids_cannot_be_guessed_and_jobs_do_not_mix(house: House) -> None:
    first, second = house.submit("anna", A), house.submit("ben", B)
    assert min(len(first), len(second)) >= 22
    house.jobs.stop(first)
    house.tick()
    assert house.states(second) == ["starting"]
    assert [house.jobs.view(job).runs[0].config for job in (first, second)] == [A, B]


def test_closing_ends_processes_and_removes_folders(tmp_path: Path) -> None:
    house = House(tmp_path / "jobs", Limits())
    workers = house.of(house.submit("anna"))
    house.jobs.close()
    assert not any(worker.alive for worker in workers)
    assert not (tmp_path / "jobs").exists()


def test_the_watchman_does_the_same_by_himself(tmp_path: Path) -> None:
    workers: list[FakeWorker] = []

    def start(config: TrainConfig, folder: Path) -> FakeWorker:
        workers.append(FakeWorker(folder))
        workers[-1].finish()
        return workers[-1]

    jobs = Jobs(Limits(grace_seconds=0.1), tmp_path / "jobs", start=start)
    job = jobs.submit((A, B), "anna")
    wait_for(lambda: jobs.view(job).state == "finished")
    jobs.leave("anna")
    wait_for(lambda: not jobs.knows(job))
    jobs.close()


def test_many_visitors_at_once(tmp_path: Path) -> None:
    jobs = Jobs(Limits(), tmp_path / "jobs", start=lambda config, folder: finished(folder))
    seen: list[JobView[RunView]] = []

    def visit(number: int) -> None:
        job = jobs.submit((replace(A, seed=number),), f"visitor {number}")
        wait_for(lambda: jobs.view(job).state == "finished", 20)
        seen.append(jobs.view(job))

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(view.runs[0].config.seed for view in seen) == list(range(20))
    jobs.close()


def test_long_curves_are_thinned(tmp_path: Path) -> None:
    run = RunView(A, tmp_path)
    for number in range(1, 3000):
        run = advance(run, step(number))
    assert CURVE_POINTS / 2 <= len(run.steps) <= CURVE_POINTS
    assert run.steps[0].step == 1
    assert run.step is not None
    assert run.step.step == 2999


def test_folders_of_crashed_processes_are_removed(tmp_path: Path) -> None:
    dead = next(pid for pid in range(10**6, 10**7) if not psutil.pid_exists(pid))
    old, fresh, ours = (tmp_path / f"{FOLDER_PREFIX}{pid}-x" for pid in (dead, dead + 1, os.getpid()))
    for folder in (old, fresh, ours):
        folder.mkdir()
    an_hour_ago = time.time() - 3700
    for folder in (old, ours):
        os.utime(folder, (an_hour_ago, an_hour_ago))
    created = own_folder(tmp_path)
    assert not old.exists()
    assert fresh.exists()
    assert ours.exists()
    assert created.stat().st_mode & 0o077 == 0


def test_the_forecast_is_that_of_the_calculator() -> None:
    ahead = forecast(TrainConfig(dataset="mnist", channels=16, batch_size=20, epochs=2))
    price = costs(small_cnn(channels=16), batch=20)
    assert ahead.costs.params == price.params
    assert ahead.images == 2 * 54_000
    assert ahead.macs == 3 * ahead.images * price.macs
    assert forecast(TrainConfig(dataset="mnist", train_limit=100, epochs=3)).images == 3 * 90  # a tenth validates


def test_the_environment_changes_limits() -> None:
    assert Limits.here({}) == Limits()
    assert Limits.here({"SPACE_ID": "a/b"}) == VISITORS
    assert VISITORS.run_macs < Limits().run_macs
    changed = Limits.here({"CNN_TOOLKIT_GRACE_SECONDS": "2.5", "CNN_TOOLKIT_WAITING": "7"})
    assert (changed.grace_seconds, changed.waiting) == (2.5, 7)
    with pytest.raises(InputError, match="CNN_TOOLKIT_SLOTS must be a number; 'two' came"):
        Limits.here({"CNN_TOOLKIT_SLOTS": "two"})


def test_curves_have_no_teeth_where_an_epoch_begins() -> None:
    """Reports are means over their epoch so far; the curve shows the means of the single stretches."""
    stretches = {(1, 10): 1.0, (1, 20): 0.5, (2, 5): 0.4, (2, 20): 0.2}
    run = RunView(A, Path("nowhere"))
    total = before = 0.0
    for (epoch, number), loss in stretches.items():
        total, before = (0.0, 0.0) if epoch == 2 and before == 20 else (total, before)
        total += loss * (number - before)
        before = number
        run = advance(run, Step(epoch, number, 20, total / number, total / number, 100.0))
    curve = training_curve(run.steps, run.epochs)
    assert [point.epochs for point in curve] == [0.5, 1.0, 1.25, 2.0]
    assert [point.loss for point in curve] == pytest.approx(list(stretches.values()))
    assert [point.accuracy for point in curve] == pytest.approx(list(stretches.values()))


def test_stretches_of_a_few_images_are_left_out_of_curves() -> None:
    run = RunView(A, Path("nowhere"))
    for number in (50, 52, 100):
        run = advance(run, Step(1, number, 100, 1.0, 0.5, 100.0))
    assert [point.epochs for point in training_curve(run.steps, run.epochs)] == [0.5, 1.0]


def test_epochs_too_short_for_a_report_have_their_mean() -> None:
    run = RunView(A, Path("nowhere"))
    for event in (
        EpochEnd(1, 0.9, 0.5, 0, 0, 0.1, 1e-3),
        Step(2, 9, 10, 0.4, 0.8, 1.0),
        EpochEnd(2, 0.4, 0.8, 0, 0, 0, 0),
    ):
        run = advance(run, event)
    assert [(point.epochs, point.loss) for point in training_curve(run.steps, run.epochs)] == [(1, 0.9), (1.9, 0.4)]


def test_the_time_that_is_left_follows_from_the_speed() -> None:
    run = RunView(replace(A, epochs=2), Path("nowhere"))
    assert seconds_left(run) is None
    run = advance(advance(run, replace(STARTED, train_images=1000)), Step(1, 5, 10, 1.0, 0.5, 100.0))
    assert seconds_left(run) == pytest.approx(1.5 * 1000 / 100)


def test_a_bundle_holds_what_a_visitor_may_take_home(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in (*FILES, "log.txt"):
        (folder / name).write_text(name)
    run = RunView(A, folder)
    assert bundle(run) == []
    files = bundle(advance(run, Done(result(folder))))
    assert [file.name for file in files] == ["model-a.zip", *FILES]
    with zipfile.ZipFile(files[0]) as archive:
        assert archive.namelist() == [f"model-a/{name}" for name in FILES]


def finished(folder: Path) -> FakeWorker:
    worker = FakeWorker(folder)
    worker.finish()
    return worker


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
