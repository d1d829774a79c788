"""What of this machine the process may use: processors and memory.

Containers and batch systems set limits in control groups, which neither the
number of processors nor the free memory of the machine show.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from blush_onnx.errors import OutOfMemoryError

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Processors this process may use: its affinity and its control groups' quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    for folder in _own_control_groups():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            count = min(count, max(1, int(quota) // int(period)))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return count


def available_bytes() -> int | None:
    """Memory this process could still take, or None where the system does not say.

    The smaller of what the system has free and what the process's control groups
    (a container, a batch job) are still allowed.
    """
    limits = [value for value in (_system_bytes(), *_control_group_bytes()) if value is not None]
    return min(limits) if limits else None


def require_memory(needed: int, what: str) -> None:
    """Refuse work that would not fit.

    Parameters
    ----------
    needed : int
        Estimate, bytes.
    what : str
        What the memory is for, to stand before "needs about".

    Raises
    ------
    OutOfMemoryError
        With the estimate and what there is.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{what} needs about {needed / 2**30:.1f} GiB of memory, and "
            f"{available / 2**30:.1f} GiB are available: bin or crop the map, "
            "or use a machine with more memory"
        )


def _own_control_groups() -> Iterator[Path]:
    """The folders of this process's control groups (version 2), innermost first, to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, path = line.split(":", 2)
        if number == "0":
            folder = _CONTROL_GROUPS / path.lstrip("/")
            yield folder
            yield from (p for p in folder.parents if p.is_relative_to(_CONTROL_GROUPS))


def _system_bytes() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _control_group_bytes() -> Iterator[int]:
    places = [(folder / "memory.max", folder / "memory.current")
              for folder in _own_control_groups()]
    first = _CONTROL_GROUPS / "memory"  # version 1
    places.append((first / "memory.limit_in_bytes", first / "memory.usage_in_bytes"))
    for limit, usage in places:
        try:
            yield max(int(limit.read_text()) - int(usage.read_text()), 0)
        except (OSError, ValueError):
            continue
