"""What stands around a structure without being one: micelles, nanodiscs, disordered parts.

All densities are in units of a protein's own, which is 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx.fourier import Volume
from training.prepare.density import low_pass

Floats = npt.NDArray[np.float32]


def principal_axes(positions: Floats) -> Floats:
    """Rows: the directions (x, y, z) in which atoms spread, widest first."""
    centred = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centred[:: max(len(centred) // 2000, 1)], full_matrices=False)
    return np.asarray(axes, dtype=np.float32)


def belt(
    positions: Floats, side: int, voxel_size: float, rng: np.random.Generator, *, disc: bool
) -> Volume:
    """Detergent micelle or lipid nanodisc around the middle of a membrane protein.

    An ellipsoidal (micelle) or flat (nanodisc) body about the protein's longest axis:
    head groups make a dense shell, tails a core not much denser than ice, and the shell
    is uneven, as detergent is. The protein is not cut out.

    Parameters
    ----------
    positions : array, (atoms, 3)
        Å from the middle of the box.
    side : int
        Voxels.
    voxel_size : float
        Å.
    rng : Generator
    disc : bool
        Whether it is a nanodisc.

    Returns
    -------
    array, (side, side, side), float32
        Protein's density 1.
    """
    axis = principal_axes(positions)[0 if rng.random() < 0.7 else 2]
    along = positions @ axis
    middle = float(np.median(along)) + rng.uniform(-8, 8)
    inside = np.abs(along - middle) < 15
    across = positions - np.outer(along, axis)
    centre = across[inside].mean(axis=0) if inside.any() else across.mean(axis=0)
    spread = np.linalg.norm(across - centre, axis=1)
    protein = float(np.percentile(spread[inside], 90)) if inside.any() else float(spread.mean())

    coordinates = (np.arange(side, dtype=np.float32) - side // 2) * np.float32(voxel_size)
    height = (
        coordinates[:, None, None] * axis[2]
        + coordinates[None, :, None] * axis[1]
        + coordinates[None, None, :] * axis[0]
        - np.float32(middle)
    )
    squared = sum(
        (coordinates.reshape([-1 if i == place else 1 for i in range(3)]) - shift) ** 2
        for place, shift in enumerate((centre + middle * axis)[::-1])
    )
    radius = np.sqrt(np.maximum(squared - height**2, 0))
    if disc:
        outer, thickness, power = protein + rng.uniform(18, 30), rng.uniform(18, 23), 8.0
    else:
        outer, thickness, power = protein + rng.uniform(12, 24), rng.uniform(17, 26), 2.4
    shape = ((radius / outer) ** power + (np.abs(height) / thickness) ** power) ** (1 / power)
    depth = (1 - shape) * min(outer, thickness)
    heads, tails = rng.uniform(0.6, 1.1), rng.uniform(0.0, 0.35)
    shell = rng.uniform(5, 9)
    density = np.where(depth > 0, np.where(depth < shell, heads, tails), 0).astype(np.float32)
    unevenness = low_pass(rng.standard_normal(density.shape, dtype=np.float32), voxel_size, 25)
    density *= 1 + rng.uniform(0.05, 0.25) * unevenness / unevenness.std()
    return low_pass(density, voxel_size, rng.uniform(8, 14))


def appendages(
    positions: Floats, side: int, voxel_size: float, rng: np.random.Generator
) -> Volume:
    """One to four tails that are there but not ordered: smeared random walks from the surface.

    Parameters
    ----------
    positions : array, (atoms, 3)
        Å from the middle of the box.
    side : int
        Voxels.
    voxel_size : float
        Å.
    rng : Generator

    Returns
    -------
    array, (side, side, side), float32
        Protein's density 1.
    """
    density = np.zeros((side,) * 3, dtype=np.float32)
    radius = np.linalg.norm(positions, axis=1)
    surface = positions[radius > np.percentile(radius, 70)]
    for _ in range(rng.integers(1, 5)):
        start = surface[rng.integers(len(surface))]
        steps = rng.standard_normal((int(rng.integers(20, 150)), 3))
        steps += rng.uniform(0.2, 0.6) * start / max(float(np.linalg.norm(start)), 1.0)
        steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
        # Each residue is smeared over the walks that it takes in other particles.
        walks = np.cumsum(steps, axis=0) + start
        voxels = np.rint(walks[:, ::-1] / voxel_size).astype(int) + side // 2
        voxels = voxels[((voxels >= 2) & (voxels < side - 2)).all(axis=1)]
        np.add.at(density, tuple(voxels.T), 130 / voxel_size**3 * rng.uniform(0.4, 1.0))
    return low_pass(density, voxel_size, rng.uniform(10, 22))
