"""What this machine has: memory, processors, and the words that describe it in a benchmark.

Only this module reads the machine. Costs and batch plans get bytes passed in, so that they give the same
answer everywhere. Inside a container the limit of its control group counts, not the memory of the host.
All sizes are bytes.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

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


def _processor() -> str:
    """The processor's name. Linux keeps it in a file; `platform.processor` knows it on the other systems."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


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
