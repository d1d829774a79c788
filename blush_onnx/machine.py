"""What of this machine the process may use: processors and memory.

Containers and batch systems set limits in control groups, which neither the
number of processors nor the free memory of the machine show.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from blush_onnx.errors import OutOfMemoryError

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def cpu_affinity() -> set[int]:
    """Numbers of the processors this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return set(affinity(0)) if affinity else set(range(os.cpu_count() or 1))


def available_cpus() -> int:
    """Processors this process may use: its affinity and its control groups' quota."""
    count = len(cpu_affinity())
    for folder in _own_control_groups():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            count = min(count, max(1, int(quota) // int(period)))
        except (OSError, ValueError):  # no such limit, or "max"
            continue
    return count


def processor() -> str | None:
    """What decides which instructions programs may use here: the processor and its abilities.

    None where the system does not say: Linux alone does.
    """
    wanted = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        with Path("/proc/cpuinfo").open() as file:  # a paragraph for each processor
            first = itertools.takewhile(str.strip, file)
            lines = [line for line in first if line.startswith(wanted)]
    except OSError:
        return None
    return "".join(lines) if any(line.startswith(("flags", "Features")) for line in lines) else None


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


def _own_control_groups(controller: str = "") -> Iterator[Path]:
    """Folders of this process's control groups, innermost first, to the root.

    `controller` is one of version 1, such as ``memory``; none stands for version 2.
    """
    root = _CONTROL_GROUPS / controller
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            folder = root / path.lstrip("/")
            yield folder
            yield from (p for p in folder.parents if p.is_relative_to(root))


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
    """What each control group's limit leaves, files in the page cache not counted as used."""
    versions = (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    for controller, limit, usage in versions:
        for folder in _own_control_groups(controller):
            try:
                left = int((folder / limit).read_text()) - int((folder / usage).read_text())
                yield max(left + _reclaimable_bytes(folder), 0)
            except (OSError, ValueError):  # no such limit, or "max"
                continue


def _reclaimable_bytes(folder: Path) -> int:
    rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
    values = {name: int(value) for name, value in rows}
    return values.get("active_file", 0) + values.get("inactive_file", 0)
