"""The report of a stream: counts, examples, its CSV file and its table."""

import csv
import pickle
import threading
from pathlib import Path

import pytest

from toolkit.streaming.failures import MOST_KEPT, Cause, Failure, Report, SampleError


def failure(number: int, cause: Cause = Cause.NOT_FOUND, location: str = "http://a.org/b.jpg") -> Failure:
    return Failure(number, location, cause, "an image was expected; 404 came")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_counts_are_exact_when_many_threads_add() -> None:
    report = Report()

    def work(cause: Cause) -> None:
        for number in range(500):
            report.add(failure(number, cause))
            report.deliver(2)

    threads = [threading.Thread(target=work, args=(cause,)) for cause in (Cause.EMPTY, Cause.TIMED_OUT) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report.counts == {Cause.EMPTY: 2000, Cause.TIMED_OUT: 2000}
    assert (report.failed, report.delivered, report.attempted) == (4000, 8000, 12000)


def test_memory_is_bounded_and_the_file_gets_all(tmp_path: Path) -> None:
    report = Report(tmp_path / "failures.csv")
    for number in range(MOST_KEPT + 7):
        report.add(failure(number))
    assert len(report.failures) == MOST_KEPT
    written = rows(tmp_path / "failures.csv")
    assert written[0] == ["number", "location", "cause", "sentence"]
    assert [int(row[0]) for row in written[1:]] == list(range(MOST_KEPT + 7))


def test_a_second_run_appends_without_a_second_heading(tmp_path: Path) -> None:
    for number in range(2):
        Report(tmp_path / "failures.csv").add(failure(number))
    assert [row[0] for row in rows(tmp_path / "failures.csv")] == ["number", "0", "1"]


def test_a_report_that_cannot_be_written_warns_once_and_counts_on(tmp_path: Path) -> None:
    report = Report(tmp_path / "nowhere" / "failures.csv")
    for number in range(3):
        report.add(failure(number))
    assert report.failed == 3
    assert len(report.warnings) == 1
    assert "cannot be written (No such file or directory)" in report.warnings[0]


def test_the_table_has_the_commonest_cause_first_and_obeys_no_control_characters() -> None:
    report = Report()
    report.deliver(5)
    report.add(failure(0, Cause.EMPTY))
    for number in (1, 2):
        report.add(failure(number, Cause.TOO_SLOW, f"http://a.org/\x1b[2J{number}|" + "x" * 100))
    shown = "http://a.org/�[2J1|" + "x" * 40 + "…"
    assert report.table().splitlines() == [
        f"cause     {'example':60}  count",
        f"too slow  {shown}      2",
        f"empty     {'http://a.org/b.jpg':60}      1",
        f"all       {'of 8':60}      3",
    ]
    assert report.table(markdown=True).splitlines()[:3] == [
        "| cause | count | example |",
        "|---|---:|---|",
        "| too slow | 2 | " + shown.replace("|", "\\|") + " |",
    ]


def test_what_is_kept_can_be_written_later(tmp_path: Path) -> None:
    report = Report()
    report.add(failure(4, location="http://a.org/\udcff"))
    report.to_csv(tmp_path / "kept.csv")
    assert rows(tmp_path / "kept.csv")[1][:3] == ["4", "http://a.org/\\udcff", "not found"]


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(SampleError(Cause.EMPTY, "0 bytes came")))
    assert (error.cause, error.sentence, str(error)) == (Cause.EMPTY, "0 bytes came", "0 bytes came")


def test_every_cause_reads_as_words() -> None:
    assert len({cause.value for cause in Cause}) == len(Cause)
    assert not [cause for cause in Cause if "_" in cause.value]


@pytest.mark.parametrize("markdown", [False, True])
def test_no_failures_is_a_sentence(markdown: bool) -> None:
    report = Report()
    report.deliver(1200)
    assert report.table(markdown) == "1,200 images, no failures"
