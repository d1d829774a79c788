"""Patches: where they lie, which are skipped, and how they blend into a volume.

Formulas: docs/numerics.md, section 4, steps 5 and 6.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.engines.base import Origin
from blush_onnx.errors import InputError
from blush_onnx.masks import centred
from blush_onnx.threads import by_plane

STRIDES = {"reference": 20, "balanced": 32, "fast": 43}
"""Distances of the patches, voxels, by how near the map is to that of the published program."""
WINDOW_MARGIN = 9
"""Voxels at each border of a patch that (all but) do not count in the blend."""
MINIMUM_MASK_MEAN = 0.3
"""A patch with a smaller mean of the mask is skipped."""
MINIMUM_WEIGHT = 0.1
"""Where the summed windows stay below this there is no result."""
WINDOW_FLOOR = 1e-6
TIE = 1e-6
"""Means nearer than this are the same: patches that mirror each other go together."""


@dataclass(frozen=True)
class PatchPlan:
    """Which patches of a volume the network looks at.

    Attributes
    ----------
    origins : list of (z, y, x)
        First voxel of each patch that is taken, z outermost.
    skipped : int
        Number of patches that are left out.
    threshold : float
        Smallest mean of the mask that was let in: 0.3 but for particles so small
        that the patches above it would not cover them.
    window : array, (patch, patch, patch), float32
        Weight of a patch's voxels in the blend.
    weight : array, shape of the volume, float32
        Sum of the windows of the patches taken.
    """

    origins: list[Origin]
    skipped: int
    threshold: float
    window: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


def check_stride(stride: int, patch_size: int) -> None:
    """Refuse a stride that would leave holes between the windows.

    Raises
    ------
    InputError
        `stride` is not an integer from 1 to patch_size − 2·10 − 1 (43 for a patch of 64).
    """
    largest = patch_size - 2 * (WINDOW_MARGIN + 1) - 1
    whole = isinstance(stride, (int, np.integer)) and not isinstance(stride, bool)
    if not whole or not 1 <= stride <= largest:
        raise InputError(
            f"stride {stride} is out of range: give a whole number from 1 to {largest}; "
            "a larger one would leave holes between the patches"
        )


def padding(shape: tuple[int, ...], patch_size: int, stride: int) -> list[tuple[int, int]]:
    """Zeros before and after each axis: none, unless a side is not larger than a patch."""
    if min(shape) > patch_size:
        return [(0, 0)] * 3
    found = []
    for side in shape:
        padded = max(side, patch_size + stride)
        place = centred(padded, side)
        found.append((place.start, padded - place.stop))
    return found


def axis_origins(side: int, patch_size: int, stride: int) -> list[int]:
    """Origins along one axis: every `stride` voxels, and one that ends at the border."""
    last = side - patch_size
    origins = list(range(0, last, stride))
    return [*origins, last]


def blending_window(patch_size: int) -> npt.NDArray[np.float32]:
    """cos(π/2 · max(|z|, |y|, |x|)/R) inside the margin, never below 1e-6.

    Returns
    -------
    array, (patch_size, patch_size, patch_size), float32
    """
    inner = patch_size - 2 * WINDOW_MARGIN
    half = inner // 2
    # The cosine falls with the distance, so that of the largest is the smallest.
    profile = np.full(patch_size, 0.0)
    profile[WINDOW_MARGIN : WINDOW_MARGIN + inner] = np.cos(
        np.pi / 2 * np.abs(np.linspace(-half, half, inner)) / half
    )
    plane = np.minimum.outer(profile, profile)
    window = np.minimum(profile[:, None, None], plane[None, :, :])
    return np.asarray(np.maximum(window, WINDOW_FLOOR), dtype=np.float32)


def plan_patches(mask: npt.NDArray[np.float32], patch_size: int, stride: int) -> PatchPlan:
    """Choose the patches for a volume under a mask.

    A patch is taken when its mean of the mask is at least 0.3. Small particles
    would lose voxels that way: while a voxel with mask ≥ ½ that any patch could
    reach has no result, the threshold falls to the next lower mean.

    Parameters
    ----------
    mask : array, (z, y, x), float32
        In 0…1; no side smaller than `patch_size`.
    patch_size, stride : int
        Voxels.

    Returns
    -------
    PatchPlan

    Raises
    ------
    InputError
        The mask is empty.
    """
    if not mask.any():
        raise InputError("the mask for the network is empty: it must be above 0 somewhere")
    sides = [axis_origins(side, patch_size, stride) for side in mask.shape]
    origins: list[Origin] = [(z, y, x) for z, y, x in itertools.product(*sides)]
    window = blending_window(patch_size)
    means = _means(mask, sides, patch_size)

    threshold = MINIMUM_MASK_MEAN
    taken = means >= threshold
    weight = _summed_windows(mask.shape, itertools.compress(origins, taken), window)
    if not taken.all():
        of_all = _summed_windows(mask.shape, itertools.compress(origins, ~taken), window)
        of_all += weight
        wanted = (mask >= 0.5) & (of_all >= MINIMUM_WEIGHT)
        while np.any(wanted & (weight < MINIMUM_WEIGHT)):
            left = means[~taken & (means > 0)]
            if not left.size:  # the sums stop short of the limit by rounding
                break
            threshold = float(left.max())
            added = ~taken & (means >= threshold - TIE)
            weight += _summed_windows(mask.shape, itertools.compress(origins, added), window)
            taken |= added
        if not taken.any():  # a mask that is below one half everywhere
            threshold = float(means.max())
            taken = means >= threshold - TIE
            weight = _summed_windows(mask.shape, itertools.compress(origins, taken), window)
    chosen = list(itertools.compress(origins, taken))
    return PatchPlan(chosen, len(origins) - len(chosen), threshold, window, weight)


class Blend:
    """Sum of weighted patches, and the weighted mean in the end.

    Parameters
    ----------
    plan : PatchPlan
    workers : int
        Threads that share the planes of a patch; the result does not depend on them.
    pool : ThreadPoolExecutor, optional
        Whose threads those are.
    """

    def __init__(
        self, plan: PatchPlan, workers: int = 1, pool: ThreadPoolExecutor | None = None
    ) -> None:
        self._plan = plan
        self._workers, self._pool = workers, pool
        self._size = plan.window.shape[0]
        self._density = np.zeros(plan.weight.shape, dtype=np.float32)
        self._mask = np.zeros(plan.weight.shape, dtype=np.float32)
        # One for all patches: it stays in the processor's cache.
        self._scratch = np.empty_like(plan.window)

    def add(
        self,
        origin: Origin,
        density: npt.NDArray[np.float32],
        mask_logit: npt.NDArray[np.float32] | None,
    ) -> None:
        """Add one denoised patch and its solvent mask.

        Parameters
        ----------
        origin : (z, y, x)
        density : array, (patch, patch, patch), float32
        mask_logit : array like `density`, or None
            The mask before its sigmoid; None: a mask of ones.
        """
        def add(planes: range) -> None:
            part = slice(planes.start, planes.stop)
            place = _place(origin, self._size, part)
            window, scratch = self._plan.window[part], self._scratch[part]
            self._density[place] += np.multiply(density[part], window, out=scratch)
            if mask_logit is None:
                self._mask[place] += window
                return
            with np.errstate(over="ignore"):
                np.exp(np.negative(mask_logit[part], out=scratch), out=scratch)
            scratch += 1
            self._mask[place] += np.divide(window, scratch, out=scratch)

        by_plane(add, self._size, self._workers, self._pool)

    def finish(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Density and solvent mask, as :func:`weighted_mean`."""
        return weighted_mean(self._plan, self._density, self._mask)


def weighted_mean(
    plan: PatchPlan, density: npt.NDArray[np.float32], mask: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Sums over the plan's windows as means, zero where the windows sum to less than 0.1.

    Parameters
    ----------
    plan : PatchPlan
    density, mask : array, (z, y, x), float32
        Overwritten.

    Returns
    -------
    density, mask : array like them
    """
    weight = np.where(plan.weight >= MINIMUM_WEIGHT, plan.weight, np.float32(np.inf))
    density /= weight
    mask /= weight
    return density, mask


def _place(
    origin: Origin, size: int, planes: slice | None = None
) -> tuple[slice, slice, slice]:
    """Where a patch lies in the volume, or some of its planes."""
    z, y, x = origin
    first, end = (planes.start, planes.stop) if planes else (0, size)
    return slice(z + first, z + end), slice(y, y + size), slice(x, x + size)


def _means(
    mask: npt.NDArray[np.float32], sides: list[list[int]], size: int
) -> npt.NDArray[np.float64]:
    """Mean of the mask in each patch, z outermost: summed along one axis after the other."""
    sums: npt.NDArray[np.float64] | npt.NDArray[np.float32] = mask
    for axis in (2, 1, 0):
        before = (slice(None),) * axis
        sums = np.stack([
            sums[before + (slice(start, start + size),)].sum(axis, dtype=np.float64)
            for start in sides[axis]
        ], axis)
    return np.asarray(sums.ravel() / size**3, dtype=np.float64)


def _summed_windows(
    shape: tuple[int, ...], origins: itertools.compress[Origin],
    window: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    total = np.zeros(shape, dtype=np.float32)
    for origin in origins:
        total[_place(origin, window.shape[0])] += window
    return total
