"""Work on a volume plane by plane, by several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np

MOST_WORKERS = 8
"""Planes soon wait for the memory, and for Python, and not for a processor."""
FEWEST_PLANES = 16
"""A thread is not started for fewer."""
KEPT_BLOCK = 24 << 20
"""Bytes; see keep_freed_blocks."""


def by_plane(
    work: Callable[[range], None], count: int, workers: int = 1,
    pool: ThreadPoolExecutor | None = None,
) -> None:
    """Call a function on planes 0 … count − 1, each thread on neighbours.

    Parameters
    ----------
    work : callable
        Is given a range of planes. What it writes for one plane must not depend on the others:
        then the result does not depend on the number of threads.
    count : int
        Planes.
    workers : int
        Threads, at most.
    pool : ThreadPoolExecutor, optional
        Whose threads to use, where there are many calls; by default new ones.
    """
    workers = max(1, min(workers, MOST_WORKERS, count // FEWEST_PLANES))
    if workers == 1:
        work(range(count))
        return
    bounds = [count * k // workers for k in range(workers + 1)]
    shares = [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
    with nullcontext(pool) if pool else ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(work, shares):
            pass  # raises what a thread raised


def keep_freed_blocks() -> None:
    """Let the C library keep freed blocks for the next, if it is glibc.

    Work by plane allocates and frees the same few arrays over and over. At first glibc
    hands blocks of 128 KiB back to the system at once, which then clears each page anew,
    and that takes as long as the transforms. Freeing one larger block, up to 32 MiB,
    raises that limit to its size. Elsewhere this does nothing.
    """
    np.empty(KEPT_BLOCK, dtype=np.uint8)
