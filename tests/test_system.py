"""What the machine has: read against psutil, the kernel's own files, and control groups written by hand."""

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from toolkit import system
from toolkit.errors import InputError
from toolkit.system import backend

GIB = 2**30
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")


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


class TestPeakMemory:
    @pytest.mark.parametrize("exact", [pytest.param(True, marks=linux), False])
    def test_it_follows_an_allocation_and_keeps_it(self, tmp_path: Path, exact: bool) -> None:
        missing = tmp_path / "missing" / "clear_refs"
        peak = system.PeakMemory() if exact else system.PeakMemory(clear=missing)
        assert peak.exact == exact
        block = mmap.mmap(-1, 64 * 2**20)
        block[:] = bytes(len(block))
        if not exact:
            time.sleep(0.05)  # until the thread has looked
        block.close()
        assert 60 * 2**20 < peak.read() - peak.before < 200 * 2**20

    @linux
    def test_a_new_one_forgets(self) -> None:
        block = mmap.mmap(-1, 64 * 2**20)
        block[:] = bytes(len(block))
        block.close()
        peak = system.PeakMemory()
        assert peak.read() - peak.before < 16 * 2**20


class TestExecution:
    """How a plain `model.fit` computes."""

    def told(self, tmp_path: Path, flags: str = "", **environment: str) -> str:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} avx2\n")
        return system.default_execution({"KERAS_BACKEND": "tensorflow", **environment}, tmp_path / "cpuinfo")

    def test_jax_is_jax(self, tmp_path: Path) -> None:
        assert self.told(tmp_path, "avx512_vnni", KERAS_BACKEND="jax", TF_ENABLE_ONEDNN_OPTS="1") == "jax"

    @pytest.mark.parametrize("flag", ["avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"])
    def test_the_processor_decides(self, tmp_path: Path, flag: str) -> None:
        assert self.told(tmp_path, flag) == "onednn"

    def test_an_older_processor_has_none(self, tmp_path: Path) -> None:
        assert self.told(tmp_path, "avx512f") == "tensorflow"
        assert system.default_execution({"KERAS_BACKEND": "tensorflow"}, tmp_path / "missing") == "tensorflow"

    @pytest.mark.parametrize(("wish", "found"), [("1", "onednn"), ("true", "onednn"), ("0", "tensorflow")])
    def test_the_environment_overrules(self, tmp_path: Path, wish: str, found: str) -> None:
        assert self.told(tmp_path, "avx_vnni" * (found == "tensorflow"), TF_ENABLE_ONEDNN_OPTS=wish) == found

    @pytest.mark.tensorflow
    @linux
    def test_tensorflow_itself_agrees(self) -> None:
        code = "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
        command = [sys.executable, "-c", code]
        out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        environment = {"KERAS_BACKEND": "tensorflow", **os.environ}
        assert (system.default_execution(environment) == "onednn") == (out.strip() == "True")


class TestGpus:
    @pytest.fixture
    def smi(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        monkeypatch.setenv("PATH", str(tmp_path))

        def write_program(lines: str) -> None:
            program = tmp_path / "nvidia-smi"
            program.write_text(f"#!{sys.executable}\n{lines}\n")
            program.chmod(0o755)

        return write_program

    def test_none_without_the_program(self, smi: Callable[[str], None]) -> None:
        assert system.gpus() == ()

    @linux
    def test_each_line_is_one(self, smi: Callable[[str], None]) -> None:
        smi(
            "import sys; assert sys.argv[1:] == "
            "['--query-gpu=name,memory.total,memory.free', '--format=csv,noheader,nounits']\n"
            "print('NVIDIA H100 80GB HBM3, 81559, 81000\\nTesla T4, 15360, 0\\nGraphics, [N/A], [N/A]')"
        )
        first, second = system.gpus()
        assert first == system.Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20, 81000 * 2**20)
        assert (second.name, second.available_bytes) == ("Tesla T4", 0)

    @linux
    @pytest.mark.parametrize("lines", ["import sys; sys.exit(9)", "print('No devices were found')"])
    def test_none_where_it_fails(self, smi: Callable[[str], None], lines: str) -> None:
        smi(lines)
        assert system.gpus() == ()


class TestBackend:
    def test_the_environment_decides(self, tmp_path: Path) -> None:
        (tmp_path / "keras.json").write_text('{"backend": "torch"}')
        assert backend({"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path)}) == "jax"

    def test_then_the_users_settings(self, tmp_path: Path) -> None:
        (tmp_path / "keras.json").write_text('{"backend": "torch"}')
        assert backend({"KERAS_HOME": str(tmp_path)}) == "torch"

    @pytest.mark.parametrize("text", [None, "", "[]", "{", "{}"])
    def test_then_what_is_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
        if text is not None:
            (tmp_path / "keras.json").write_text(text)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "jax")
        assert backend({"KERAS_HOME": str(tmp_path)}) == "jax"

    def test_nothing_installed_is_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(InputError, match="none is installed"):
            backend({"KERAS_HOME": str(tmp_path)})
