"""Records of trainings: one line each, read back as they were, and a sentence for what is none."""

from pathlib import Path

import pytest

from tests.zoo_records import record, some_records
from toolkit.errors import InputError
from toolkit.records import append_record, read_records


def test_records_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = [*some_records(), record(dataset="digits")]
    for each in written:
        append_record(tmp_path / "zoo", each)
    assert sorted(path.name for path in (tmp_path / "zoo").iterdir()) == ["digits.jsonl", "mnist.jsonl"]
    read = read_records(tmp_path / "zoo")
    assert [each.name for each in read] == [written[-1].name, *(each.name for each in written[:-1])]
    assert read[1].to_dict() | {"class_names": ()} == written[0].to_dict() | {"class_names": ()}
    assert read[1].per_class_accuracy == {"cat": 0.990, "dog": 0.990, "ship": 1.0}


def test_what_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "zoo") == ()


@pytest.mark.parametrize("line", ["{", "[1]", '{"experiment": "a"}'])
def test_a_damaged_line_is_a_sentence_with_its_place(tmp_path: Path, line: str) -> None:
    append_record(tmp_path, record())
    with (tmp_path / "mnist.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(InputError, match=r"mnist\.jsonl, line 3"):
        read_records(tmp_path)


def test_the_device_is_the_graphics_processor_where_there_is_one() -> None:
    assert record().device == "a processor"
    assert record(machine={"processor": "a processor", "gpu": "a GPU"}).device == "a GPU"
