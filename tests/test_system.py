"""What the machine has: read against psutil, the kernel's own files, and control groups written by hand."""

import mmap
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from toolkit import system

GIB = 2**30


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_a_container_the_machine_counts(tmp_path: Path) -> None:
    assert system.total_memory(tmp_path, "0::/") == psutil.virtual_memory().total
    assert system.cpu_count(tmp_path, "0::/") == len(psutil.Process().cpu_affinity() or [0])


def test_version_2_limit_counts_and_file_cache_is_free(tmp_path: Path) -> None:
    cache = f"inactive_file {GIB // 4}"
    write(tmp_path / "box", memory__max=f"{GIB}", memory__current=f"{GIB // 2}", memory__stat=cache)
    assert system.total_memory(tmp_path, "0::/box") == GIB
    assert system.available_memory(tmp_path, "0::/box") == GIB - GIB // 4


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    write(tmp_path / "outer", memory__max=f"{GIB}", memory__current="0")
    write(tmp_path / "outer" / "inner", memory__max="max", memory__current="0")
    assert system.total_memory(tmp_path, "0::/outer/inner") == GIB
    assert system.total_memory(tmp_path, "0::/elsewhere") == psutil.virtual_memory().total


def test_version_1_limit_counts_and_its_huge_number_means_none(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    write(memory, memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="5")
    assert system.total_memory(tmp_path, "4:memory:/box\n0::/") == psutil.virtual_memory().total
    write(memory / "box", memory__limit_in_bytes=f"{GIB}", memory__usage_in_bytes=f"{GIB // 2}")
    assert system.available_memory(tmp_path, "4:memory:/box\n0::/") == GIB // 2


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    write(tmp_path, memory__max="1000", memory__current="2000")
    assert system.available_memory(tmp_path, "0::/") == 0


@pytest.mark.parametrize("quota", ["50000 100000", "100000 100000", "max 100000"])
def test_a_share_of_the_processors_is_at_least_one(tmp_path: Path, quota: str) -> None:
    write(tmp_path, cpu__max=quota)
    whole = system.cpu_count(tmp_path / "nowhere", "0::/")
    assert system.cpu_count(tmp_path, "0::/") == (whole if quota.startswith("max") else 1)


def test_version_1_share(tmp_path: Path) -> None:
    write(tmp_path / "cpu", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    assert system.cpu_count(tmp_path, "3:cpu:/") == 1


def test_memory_of_this_process_follows_an_allocation() -> None:
    before, peak_before = system.process_memory(), system.peak_memory()
    block = mmap.mmap(-1, 64 * 2**20)  # pages of its own: an array may find its place in memory that was freed before
    block[:] = bytes(len(block))
    assert 60 * 2**20 < system.process_memory() - before < 200 * 2**20
    slack = 2**20  # the kernel adds pages to its counters in batches
    assert system.peak_memory() + slack >= max(peak_before, system.process_memory())
    block.close()


def test_memory_of_another_process() -> None:
    code = "print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert 10**6 < system.process_memory(child.pid) < 10**9
    finally:
        child.communicate(b"\n", timeout=20)


def test_a_machine_is_described_in_plain_values() -> None:
    machine = system.describe_machine()
    assert machine["cpus"] == system.cpu_count()
    assert machine["memory_bytes"] == system.total_memory()
    assert all(isinstance(value, str | int) and value for value in machine.values())


def test_versions_are_read_without_importing() -> None:
    code = (
        "import sys; from toolkit.system import package_versions;"
        "print(package_versions('scikit-learn', 'no-such-thing'));"
        "assert 'sklearn' not in sys.modules and 'numpy' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.startswith("{'scikit-learn': '1.")
