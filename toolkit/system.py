"""What this machine has: memory, processors, and the words that describe it in a benchmark.

Only this module reads the machine. Costs and batch plans get bytes passed in, so that they give the same
answer everywhere. Inside a container the limit of its control group counts, not the memory of the host.
All sizes are bytes.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from toolkit.errors import InputError

# Keras can run on these; the order is the order of preference where nobody chose.
BACKENDS = ("tensorflow", "jax", "torch")
# With one of these, TensorFlow takes oneDNN's kernels unasked (its `util/port.cc` tests for them).
ONEDNN_FLAGS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Version 1 of the kernel's control groups writes a number near 2**63 for "no limit".
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class _Files:
    """The names that one version of control groups gives to a limit, the use, and the file cache in it."""

    limit: str
    usage: str
    cache: str


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def _text(path: Path) -> str:
    """The stripped text of a small kernel file, or "" where it is missing or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def _memberships() -> str:
    return _text(Path("/proc/self/cgroup"))


def _group_folders(controller: str, root: Path, memberships: str) -> Iterator[Path]:
    """The folders of this process's group and of all groups above it, whose limits hold for it too."""
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and folder.is_dir():
                yield folder


def _file_cache(folder: Path, name: str) -> int:
    """Bytes of file cache in a group that the kernel gives back when memory gets short."""
    entries = (line.split() for line in _text(folder / "memory.stat").splitlines())
    return next((int(value) for key, value in entries if key == name), 0)


def _group_memory(root: Path, memberships: str) -> Iterator[tuple[int, int]]:
    """(limit, free) of every control group with a limit that holds this process."""
    for folder in _group_folders("memory", root, memberships):
        for files in (_V1, _V2):
            limit, usage = _number(folder / files.limit), _number(folder / files.usage)
            if limit is not None:
                used = max((usage or 0) - _file_cache(folder, files.cache), 0)
                yield limit, max(limit - used, 0)


def total_memory(root: Path = CGROUP_ROOT, memberships: str | None = None) -> int:
    """Bytes of memory that this process may use: the machine's, or the limit of its container.

    >>> total_memory() > 0
    True
    """
    groups = _group_memory(root, _memberships() if memberships is None else memberships)
    return min([psutil.virtual_memory().total, *(limit for limit, _ in groups)])


def available_memory(root: Path = CGROUP_ROOT, memberships: str | None = None) -> int:
    """Bytes that can be used now without swapping, on the machine and within every limit of the container.

    File cache that the kernel can drop counts as free.

    >>> 0 < available_memory() <= total_memory()
    True
    """
    groups = _group_memory(root, _memberships() if memberships is None else memberships)
    return min([psutil.virtual_memory().available, *(free for _, free in groups)])


def process_memory(pid: int | None = None) -> int:
    """Resident bytes (RSS) of a process, this one by default: its pages in RAM now, shared ones included.

    >>> process_memory() > 1_000_000
    True
    """
    return int(psutil.Process(pid).memory_info().rss)


def peak_memory() -> int:
    """The highest resident size (RSS, bytes) of this process so far, as the operating system reports it.

    A forked process starts with the pages of its parent, so its peak includes what the two share. The kernel
    counts in batches of pages: expect an error of a few hundred kilobytes.

    >>> peak_memory() > 1_000_000
    True
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # exists on POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


class PeakMemory:
    """The highest resident size (RSS) of this process since this object was made.

    The kernel keeps it (`VmHWM`) and forgets it on request (Linux 4.0 and newer; `exact` is then true). Elsewhere a
    thread looks every few milliseconds and may miss a short peak.

    >>> import mmap
    >>> peak = PeakMemory()
    >>> pages = mmap.mmap(-1, 100_000_000)
    >>> for _ in range(100):
    ...     _ = pages.write(bytes(1_000_000))
    >>> peak.read() - peak.before > 50_000_000
    True
    """

    def __init__(self, interval: float = 0.002, clear: Path = Path("/proc/self/clear_refs")) -> None:
        self.exact = _forget_peak(clear)
        self.before = self._highest = process_memory()
        if not self.exact:
            threading.Thread(target=self._watch, args=(interval,), daemon=True, name="peak memory").start()

    def read(self) -> int:
        """Bytes at the highest point so far."""
        peak = _status_bytes("VmHWM") if self.exact else None
        return peak if peak is not None else self._look()

    def _look(self) -> int:
        self._highest = max(self._highest, process_memory())
        return self._highest

    def _watch(self, interval: float) -> None:
        pause = threading.Event()
        while not pause.wait(interval):
            self._look()


def _forget_peak(clear: Path) -> bool:
    """Let the kernel count this process's peak anew; False where it cannot (proc(5), `clear_refs`, 5)."""
    try:
        clear.write_text("5", encoding="ascii")
    except OSError:
        return False
    return _status_bytes("VmHWM") is not None


def _status_bytes(name: str, status: Path = Path("/proc/self/status")) -> int | None:
    """One line of the kernel's account of this process, in bytes."""
    lines = (line.split() for line in _text(status).splitlines() if line.startswith(f"{name}:"))
    return next((int(words[1]) * 1024 for words in lines), None)


def _cpu_quota(root: Path, memberships: str) -> Iterator[float]:
    """Processors that the control groups grant this process: time allowed in each period over the period."""
    for folder in _group_folders("cpu", root, memberships):
        allowed, _, period = _text(folder / "cpu.max").partition(" ")
        if not allowed:
            allowed, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if allowed.isdigit() and period.isdigit():
            yield int(allowed) / int(period)


def cpu_count(root: Path = CGROUP_ROOT, memberships: str | None = None) -> int:
    """Processors that this process may use: at least 1, those it is bound to, within its container's share.

    >>> cpu_count() >= 1
    True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = _cpu_quota(root, _memberships() if memberships is None else memberships)
    return max(1, int(min([bound, *quotas])))


def _cpuinfo(field: str, path: Path) -> str:
    """What Linux says of the first processor under this heading, or ""."""
    lines = (line.partition(":") for line in _text(path).splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == field), "")


CPUINFO = Path("/proc/cpuinfo")


def _processor() -> str:
    """The processor's name. Linux keeps it in a file; `platform.processor` knows it on the other systems."""
    return _cpuinfo("model name", CPUINFO) or platform.processor() or platform.machine()


def backend(environment: Mapping[str, str] = os.environ) -> str:
    """The library that Keras will compute with, found without importing anything.

    As Keras has it: the environment, then the user's `keras.json`; after that the first one that is installed. Raises
    InputError where none is.

    >>> backend({"KERAS_BACKEND": "jax"})
    'jax'
    """
    chosen = environment.get("KERAS_BACKEND") or _configured_backend(environment)
    installed = (name for name in BACKENDS if importlib.util.find_spec(name))
    found = chosen or next(installed, None)
    if found is None:
        raise InputError(
            f"Keras computes with one of {', '.join(BACKENDS)} and none is installed; "
            "install one, for example with: pip install tensorflow-cpu"
        )
    return found


def _configured_backend(environment: Mapping[str, str]) -> str | None:
    home = Path(environment.get("KERAS_HOME") or Path("~/.keras").expanduser())
    try:
        name = json.loads((home / "keras.json").read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
    return str(name) if name else None


def default_execution(environment: Mapping[str, str] = os.environ, cpuinfo: Path = CPUINFO) -> str:
    """How a plain `model.fit` computes here, in the words of `predict_memory`, found without importing anything.

    "jax" where Keras runs on JAX; "onednn" where TensorFlow takes oneDNN's kernels, because the processor has
    instructions that they use or TF_ENABLE_ONEDNN_OPTS asks for them; else "tensorflow". PyTorch, which has no model
    of its own here, is taken for "tensorflow", too. A graphics processor counts only where it is asked for.

    >>> default_execution({"KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"})
    'tensorflow'
    """
    if backend(environment) == "jax":
        return "jax"
    wish = environment.get("TF_ENABLE_ONEDNN_OPTS", "").strip().lower()
    fits = not ONEDNN_FLAGS.isdisjoint(_cpuinfo("flags", cpuinfo).split())
    return "onednn" if wish in {"1", "true"} or (fits and wish not in {"0", "false"}) else "tensorflow"


@dataclass(frozen=True)
class Gpu:
    """A graphics processor and its memory: all of it, and what nobody uses now."""

    name: str
    total_bytes: int
    available_bytes: int


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA's graphics processors, as `nvidia-smi` lists them; none where that program is missing or fails.

    >>> all(0 <= gpu.available_bytes <= gpu.total_bytes for gpu in gpus())
    True
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(found for line in answer.splitlines() if (found := _gpu(line)))


def _gpu(line: str) -> Gpu | None:
    """One line of `nvidia-smi`: name, MiB in total, MiB free; None for what it cannot tell ("[N/A]")."""
    name, _, sizes = line.partition(",")
    numbers = [size.strip() for size in sizes.split(",")]
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return Gpu(name.strip(), *(int(number) * 2**20 for number in numbers))


def describe_machine() -> dict[str, str | int]:
    """The machine in the words that a benchmark's JSON carries: system, processor, processors, memory_bytes.

    >>> sorted(describe_machine())
    ['available_bytes', 'cpus', 'memory_bytes', 'processor', 'python', 'system']
    """
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cpus": cpu_count(),
        "memory_bytes": total_memory(),
        "available_bytes": available_memory(),
    }


def package_versions(*names: str) -> dict[str, str]:
    """Installed versions of the named distributions, without importing them; missing ones are left out.

    >>> list(package_versions("numpy", "no-such-distribution"))
    ['numpy']
    """
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
