"""How much memory a piece of work needs, and whether it is there."""

from __future__ import annotations

import os
from pathlib import Path

from blush_onnx.errors import OutOfMemoryError


def available_bytes() -> int | None:
    """Memory this process could still take, or None where the system does not say.

    The smaller of what the system has free and what the process's control group
    (a container, a batch job) is still allowed.
    """
    limits = [value for value in (_system_bytes(), *_control_group_bytes()) if value is not None]
    return min(limits) if limits else None


def require(needed: int, what: str) -> None:
    """Refuse work that would not fit.

    Parameters
    ----------
    needed : int
        Estimate, bytes.
    what : str
        What the memory is for, to follow "… needs about".

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


def _control_group_bytes() -> list[int]:
    root = Path("/sys/fs/cgroup")
    found = []
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int((root / limit).read_text()) - int((root / usage).read_text()))
        except (OSError, ValueError):
            continue
    return [max(value, 0) for value in found]
