"""Processors shared between jobs that run at the same time."""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType

from blush_onnx.errors import BlushError
from blush_onnx.machine import available_cpus, cpu_affinity
from blush_onnx.sharing.locks import LockedFile, living, machine_folder

logger = logging.getLogger(__name__)


class CoreShare:
    """Context in which this job is counted among those that use the processors.

    Only jobs that may use the same processors share them: two that a batch system
    has bound to different ones do not. Where the jobs cannot be counted, each takes
    all it may use.
    """

    def __init__(self) -> None:
        self._entry: LockedFile | None = None

    def __enter__(self) -> CoreShare:
        cpus = " ".join(map(str, sorted(cpu_affinity())))
        try:
            entry = machine_folder("cores") / f"{os.getpid()}-{time.monotonic_ns()}"
            self._entry = LockedFile.announced(entry, cpus)
        except (BlushError, OSError) as error:
            logger.warning("jobs at the same time are not counted: %s", error)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._entry is not None:
            self._entry.release(remove=True)

    def threads(self) -> tuple[int, int]:
        """Threads for this job now, and the number of jobs that share with it.

        Returns
        -------
        threads : int
            At least 1.
        jobs : int
            Jobs on these processors, this one among them.
        """
        if self._entry is None:
            return available_cpus(), 1
        mine = cpu_affinity()
        others = [cpus for cpus in _others(self._entry) if cpus & mine]
        parts = sum(1 / (1 + sum(cpu in cpus for cpus in others)) for cpu in mine)
        usable = available_cpus() / len(mine)  # below 1 where a container's quota is smaller
        return max(int(parts * usable + 0.5), 1), 1 + len(others)


def _others(mine: LockedFile) -> list[set[int]]:
    """Processors of each other job."""
    found = []
    for path in living(mine.path.parent):
        if path == mine.path:
            continue
        try:
            found.append({int(number) for number in path.read_text().split()})
        except (OSError, ValueError):  # ended meanwhile
            continue
    return found
