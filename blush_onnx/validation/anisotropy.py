"""Whether two half-maps agree equally far in every direction: conical FSC.

Formulas: docs/numerics.md, section 12. After Tan et al., *Nature Methods* 2017
(10.1038/nmeth.4347), whose cones these are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.fourier import HalfSpectrum, Volume
from blush_onnx.fsc import Curve, correlate, resolution

DIRECTIONS = 48
HALF_ANGLE = 20.0
"""Of a cone, degrees."""
THRESHOLD = 0.143
POOLED = 2
"""Shells on either side that a resolution is read off together with, cones being small."""
FEWEST_VOXELS = 8
"""In a cone's shell of the half-spectrum; below, the FSC of the whole shell stands in."""
FEWEST_POOLED = 100
"""The same for a resolution, which a single bad value would decide."""
REACH = 1.5
"""How many times further than the whole FSC the areas go."""
PARTICLE_SHARE = 0.05
"""Of the box that the particle takes where there is no mask to tell."""
WORST_AREA = 2 / 3
"""Of the best area."""
CERTAINTY = 6.0
"""How many standard deviations of one cone's area the worst must lie below the best."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Anisotropy:
    """Conical FSC of two half-maps, and what it comes to.

    Attributes
    ----------
    directions : array, (directions, 3)
        Unit vectors (x, y, z), of half a sphere; a cone and its opposite are the same.
    curves : array, (directions, side // 2 + 1)
        FSC in each cone.
    resolutions : array, (directions,)
        Å at 0.143, each shell pooled with its neighbours.
    areas : array, (directions,)
        Area under each curve, over that under the whole FSC.
    area_error : float
        Standard deviation of such an area, were the noise and the particle isotropic.
    """

    directions: Array
    curves: Array
    resolutions: Array
    areas: Array
    area_error: float

    @property
    def best(self) -> float:
        """The best resolution, Å."""
        return float(self.resolutions.min())

    @property
    def worst(self) -> float:
        """The worst resolution, Å."""
        return float(self.resolutions.max())

    @property
    def area_ratio(self) -> float:
        """Smallest area over the largest: 1 for a sphere, near 0 where a direction is missing."""
        return float(max(self.areas.min(), 0) / self.areas.max())

    @property
    def is_anisotropic(self) -> bool:
        """Whether the worst direction is much worse, beyond what chance does."""
        sure = self.areas.max() - self.areas.min() > CERTAINTY * self.area_error
        return bool(sure and self.area_ratio < WORST_AREA)


def directional_fsc(
    first: Volume, second: Volume, voxel_size: float, mask: Volume | None = None,
    *, directions: int = DIRECTIONS,
) -> Anisotropy:
    """FSC of two half-maps in cones of 20° around directions that cover the sphere.

    Parameters
    ----------
    first, second : array, (z, y, x), float32
        Half-maps; boxes that are not even cubes are put into one.
    voxel_size : float
        Å.
    mask : array like them, optional
        Multiplied into both.
    directions : int
        How many.

    Returns
    -------
    Anisotropy
    """
    box = EvenCube.around(first.shape)
    halves = [box.pad_volume(half) for half in (first, second)]
    share, noise_share = PARTICLE_SHARE, 1.0
    if mask is not None:
        cube_mask = box.pad_mask(mask)
        halves = [half * cube_mask for half in halves]
        share = noise_share = _effective_share(cube_mask)
    a, b = (fourier.forward(half) for half in halves)
    whole = correlate(a, b)
    axes = hemisphere(directions)
    sums = _cone_sums(a, b, axes)
    curves = _ratio(sums[0], sums[1], sums[2])
    few = sums[3] < FEWEST_VOXELS
    curves[few] = np.broadcast_to(whole, curves.shape)[few]
    pooled = _ratio(*(_pooled(values) for values in sums[:3]))
    few = _pooled(sums[3]) < FEWEST_POOLED
    pooled[few] = np.broadcast_to(whole, curves.shape)[few]
    resolutions = np.array([resolution(c, box.side, voxel_size, THRESHOLD) for c in pooled])
    reach = _reach(whole)
    area = float(np.sum(whole[1:reach]))
    if area <= 0:  # halves that share nothing: no direction is worse than another
        return Anisotropy(axes, curves, resolutions, np.ones(directions), np.inf)
    error = _area_error(whole, sums[3].mean(axis=0), share, noise_share)[1:reach]
    return Anisotropy(
        axes, curves, resolutions, curves[:, 1:reach].sum(axis=1) / area,
        float(np.sqrt(np.sum(error**2))) / area,
    )


def anisotropy_warning(found: Anisotropy) -> str | None:
    """A sentence for the user where the resolution depends on the direction; else None."""
    if not found.is_anisotropic:
        return None
    x, y, z = found.directions[int(np.argmin(found.areas))]
    reach = f"{found.best:.1f} Å at best, {found.worst:.1f} Å at worst; " if (
        found.worst > found.best
    ) else ""
    return (
        f"the resolution depends on the direction: {reach}along ({x:.2f}, {y:.2f}, {z:.2f}) in "
        f"x, y, z the area under the FSC is {found.area_ratio:.0%} of that along the best: look "
        "for missing views, unless the particle is a rod or fibre, and do not quote the one "
        "resolution of the whole FSC alone"
    )


def hemisphere(count: int) -> Array:
    """Unit vectors (x, y, z) spread evenly over half a sphere, on a Fibonacci spiral.

    Parameters
    ----------
    count : int

    Returns
    -------
    array, (count, 3), float64
    """
    z = (np.arange(count) + 0.5) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def _cone_sums(a: HalfSpectrum, b: HalfSpectrum, axes: Array) -> Array:
    """Product, both powers and the number of voxels, (4, directions, shells)."""
    side, shells = a.shape[0], a.shape[0] // 2 + 1
    frequency = np.fft.fftfreq(side, 1 / side).astype(np.float32)
    sums = np.zeros((4, len(axes), shells))
    offset = shells * np.arange(len(axes))
    for z in range(side):
        radius = np.sqrt(fourier.squared_radius_of_plane(side, z).astype(np.float32))
        inside = (np.rint(radius) < shells) & (radius > 0)
        inside[:, 0] &= _kept_of_pairs(frequency, z)
        y, x = np.nonzero(inside)
        r = radius[y, x]
        place = np.stack([x.astype(np.float32), frequency[y], np.full_like(r, frequency[z])])
        near = np.abs(axes.astype(np.float32) @ place) >= np.float32(
            np.cos(np.deg2rad(HALF_ANGLE))
        ) * r
        cone, voxel = np.nonzero(near)
        target = offset[cone] + np.rint(r).astype(np.intp)[voxel]
        first, second = a[z][y, x], b[z][y, x]
        values = ((first * second.conj()).real, np.abs(first) ** 2, np.abs(second) ** 2)
        for row, value in zip(sums[:3], values, strict=True):
            row += np.bincount(target, value[voxel], row.size).reshape(row.shape)
        sums[3] += np.bincount(target, minlength=sums[3].size).reshape(sums[3].shape)
    return sums


def _kept_of_pairs(frequency: npt.NDArray[np.float32], z: int) -> npt.NDArray[np.bool_]:
    """Of the plane kx = 0, whose elements stand there with their mates, one of each pair."""
    kept = (frequency[z] > 0) | ((frequency[z] == 0) & (frequency > 0))
    return np.asarray(kept)


def _ratio(product: Array, first: Array, second: Array) -> Array:
    norm = np.sqrt(first * second)
    return np.asarray(np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0))


def _pooled(values: Array) -> Array:
    """Sums over neighbouring shells, along the last axis."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(POOLED, POOLED)])
    last = values.shape[-1]
    return np.asarray(sum(padded[..., k : k + last] for k in range(2 * POOLED + 1)))


def _reach(whole: Curve) -> int:
    below = np.flatnonzero(whole[1:] < THRESHOLD) + 1
    first = int(below[0]) if below.size else len(whole)
    return min(max(int(REACH * first), 2), len(whole))


def _area_error(whole: Curve, voxels: Array, share: float, noise_share: float) -> Array:
    """Standard deviation of a cone's FSC about the whole one, shell by shell."""
    f = np.clip(whole, 0, 1)
    count = np.maximum(voxels, 1)
    variance = (1 - f**2) ** 2 / (2 * count * noise_share) + (f * (1 - f)) ** 2 / (count * share)
    variance[voxels < FEWEST_VOXELS] = 0
    return np.asarray(np.sqrt(variance))


def _effective_share(mask: Volume) -> float:
    """Share of the box that a soft mask leaves independent."""
    squared = np.square(mask, dtype=np.float64)
    return float(squared.sum() ** 2 / np.square(squared).sum() / mask.size)
