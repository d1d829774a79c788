"""The network's answer averaged over orientations, and how far the answers lie apart.

A network that was not built to be invariant to rotations answers a little differently
for each orientation. The mean of the answers is steadier, and their spread says where
the answer depends on how one looks. Formulas: docs/numerics.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.engines.base import Engine
from blush_onnx.evaluation import blend_patches
from blush_onnx.patches import PatchPlan, plan_patches
from blush_onnx.rotations import Orientation

Array = npt.NDArray[np.float32]
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Averaged:
    """What the network made of a volume in one orientation or more.

    Attributes
    ----------
    density, mask : array, (z, y, x), float32
        Means over the orientations.
    spread : array like them, or None
        Standard deviation of the density over the orientations; None of one.
    patches, skipped : int
        Of all orientations together.
    threshold : float
        Smallest mean of the mask that a patch was let in with.
    """

    density: Array
    mask: Array
    spread: Array | None
    patches: int
    skipped: int
    threshold: float


def blend_orientations(
    engine: Engine,
    volume: Array,
    local_std: Array,
    mask: Array,
    turns: Sequence[Orientation],
    stride: int,
    *,
    patch_size: int,
    batch_size: int = 1,
    at_a_time: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Averaged:
    """Run the network over a volume in each orientation, and average what it answers.

    Patches lie anew for each orientation, and are added in their plan's order.

    Parameters
    ----------
    engine : Engine
    volume, local_std, mask : array, (z, y, x), float32
        Standardised density, local standard deviation, and where the network looks; no
        side smaller than a patch.
    turns : sequence of Orientation
        At least one.
    stride : int
        Voxels.
    patch_size, batch_size, at_a_time, workers : int
        As for :func:`blush_onnx.evaluation.blend_patches`.
    progress : callable, optional
        Called with (done, total) patches of all orientations; whatever it raises ends
        the work.

    Returns
    -------
    Averaged
    """
    def plan_of(turn: Orientation) -> PatchPlan:
        return plan_patches(turn.turn(mask), patch_size, stride)

    # A plan holds a volume: with several orientations they are made twice rather than kept.
    total = sum(len(plan_of(t).origins) for t in turns) if progress and len(turns) > 1 else None
    plans: list[tuple[int, int, float]] = []

    def answers() -> Iterator[tuple[Array, Array]]:
        for turn in turns:
            plan = plan_of(turn)
            density, solvent_mask = blend_patches(
                engine, turn.turn(volume), turn.turn(local_std), plan, batch_size=batch_size,
                at_a_time=at_a_time, workers=workers,
                progress=_part(progress, sum(p[0] for p in plans), total),
            )
            plans.append((len(plan.origins), plan.skipped, plan.threshold))
            yield turn.turn_back(density), turn.turn_back(solvent_mask)

    density, solvent_mask, spread = average(answers())
    patches, skipped, thresholds = zip(*plans, strict=True)
    return Averaged(density, solvent_mask, spread, sum(patches), sum(skipped), min(thresholds))


def average(results: Iterable[tuple[Array, Array]]) -> tuple[Array, Array, Array | None]:
    """Mean density, mean mask, and the density's spread, one result at a time.

    Running means (Welford), so that no more than one result is held besides them.

    Parameters
    ----------
    results : iterable of (density, mask)
        Each (z, y, x), float32, turned back already; the first pair is overwritten.

    Returns
    -------
    density, mask : array, (z, y, x), float32
        Of a single result: that result, to the bit.
    spread : array like them, or None
        Standard deviation over the results (over their number − 1); None of one.
    """
    pairs = iter(results)
    density, mask = next(pairs)
    squares: Array | None = None
    number = 1
    for number, (another, another_mask) in enumerate(pairs, 2):
        if squares is None:
            squares = np.zeros_like(density)
        for plane in range(len(density)):
            difference = another[plane] - density[plane]
            density[plane] += difference / np.float32(number)
            squares[plane] += difference * (another[plane] - density[plane])
            mask[plane] += (another_mask[plane] - mask[plane]) / np.float32(number)
    if squares is not None:
        squares /= np.float32(number - 1)
        np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
    return density, mask, squares


def _part(progress: Progress | None, before: int, total: int | None) -> Progress | None:
    """One orientation's progress as a part of all; of a single one it is the whole."""
    if progress is None or total is None:
        return progress
    return lambda done, _: progress(before + done, total)
