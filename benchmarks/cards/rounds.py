"""Contenders measured in turn on the same patches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cards.settings import Settings, one_line
from blush_onnx import self_test
from blush_onnx.engines.base import Array

ANSWERS = "answers.npz"
CHECKED = 2
"""Patches whose outputs are compared with PyTorch's on the CPU."""
SECONDS_A_TURN = 0.1
MOST_CALLS_A_TURN = 20


@dataclass(frozen=True)
class Prepared:
    """A network that is ready for one batch: evaluate it and wait; the last densities."""

    call: Callable[[], object]
    density: Callable[[], Array] | None = None


@dataclass(frozen=True)
class Contender:
    """Something to measure.

    Attributes
    ----------
    name : str
    prepare : callable
        From (grid, local_std) to :class:`Prepared`; whatever it keeps for the next batch
        is its own business.
    largest : int or None
        Batch up to which it works.
    """

    name: str
    prepare: Callable[[Array, Array], Prepared]
    largest: int | None = None


def patches(count: int, size: int) -> tuple[Array, Array]:
    """Blobs in noise, each patch another."""
    made = [self_test.synthetic_patch(size, seed) for seed in range(1, count + 1)]
    return np.stack([grid for grid, _ in made]), np.stack([std for _, std in made])


def compare(
    settings: Settings, group: str, contenders: Sequence[Contender], batches: Sequence[int],
    size: int,
) -> None:
    """Measure contenders in alternating turns, batch by batch; a row each.

    A contender that fails has a row with the reason, and is left out from then on.
    """
    failed: set[str] = set()
    for batch in batches:
        grid, local_std = patches(batch, size)
        ready: dict[str, Prepared] = {}
        rows: dict[str, dict[str, object]] = {}
        for contender in contenders:
            if contender.name in failed or batch > (contender.largest or batch):
                continue
            if settings.seconds_left() < 0:
                settings.write(part=group, name=contender.name, batch=batch, failed="out of time")
                continue
            try:
                prepared, row = _start(settings, contender, grid, local_std)
            except Exception as error:  # each library raises what it likes
                failed.add(contender.name)
                settings.write(
                    part=group, name=contender.name, batch=batch, failed=one_line(error)
                )
                continue
            ready[contender.name], rows[contender.name] = prepared, row
        for name, seconds in _turns(settings, ready).items():
            settings.write(
                part=group, name=name, batch=batch, ms_a_patch=1e3 * seconds / batch, **rows[name]
            )
        ready.clear()


def _start(
    settings: Settings, contender: Contender, grid: Array, local_std: Array
) -> tuple[Prepared, dict[str, object]]:
    begun = time.perf_counter()
    prepared = contender.prepare(grid, local_std)
    opened = time.perf_counter()
    prepared.call()
    row: dict[str, object] = {
        "opening_s": opened - begun, "first_s": time.perf_counter() - opened,
    }
    prepared.call()
    if prepared.density is not None:
        error = _error(settings, prepared.density(), grid)
        if error is not None:
            row["error"] = error
    return prepared, row


def _error(settings: Settings, density: Array, grid: Array) -> float | None:
    """‖density − answer‖ / ‖answer − input‖ over the first patches."""
    path = Path(settings.scratch, ANSWERS)
    if not path.is_file():
        return None
    with np.load(path) as stored:
        answer = stored["density"][: len(grid)]
    count = len(answer)
    difference = np.linalg.norm(density[:count] - answer)
    return float(difference / np.linalg.norm(answer - grid[:count]))


def _turns(settings: Settings, ready: dict[str, Prepared]) -> dict[str, float]:
    """Median seconds of a call."""
    calls = {name: _calls(prepared) for name, prepared in ready.items()}
    found: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(settings.rounds):
        if turn and settings.seconds_left() < 0:
            break
        for name, prepared in ready.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                prepared.call()
            found[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _calls(prepared: Prepared) -> int:
    start = time.perf_counter()
    prepared.call()
    once = time.perf_counter() - start
    return max(1, min(MOST_CALLS_A_TURN, int(SECONDS_A_TURN / once)))
