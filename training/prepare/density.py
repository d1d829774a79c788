"""Electron scattering density and solvent mask of atoms on a grid."""

from __future__ import annotations

import gemmi
import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from blush_onnx.fourier import Volume

SOLVENT_SHARE = 0.6
"""Of the mean density that displaced ice takes away from a particle, after Babinet."""
SOLVENT_B = 150.0
"""How smooth the border of the displaced ice is, as a B factor, Å²."""

Floats = npt.NDArray[np.float32]


def render(
    positions: Floats, elements: npt.NDArray[np.uint8], b_factors: Floats, side: int,
    voxel_size: float,
) -> Volume:
    """Scattering density of atoms, by gemmi's electron form factors.

    Parameters
    ----------
    positions : array, (atoms, 3)
        x, y, z in Å from the middle of the box (voxel side // 2); what lies outside is left out.
    elements : array, (atoms,)
        Atomic numbers.
    b_factors : array, (atoms,)
        Å²; at least 20 at 1.5 Å a voxel, or the grid is too coarse for them.
    side : int
        Voxels.
    voxel_size : float
        Å.

    Returns
    -------
    array, (side, side, side), float32
        V/Å-like units of gemmi's form factors; in vacuum.
    """
    length = side * voxel_size
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min = 2 * voxel_size
    calculator.rate = 1.0
    calculator.grid.unit_cell = gemmi.UnitCell(length, length, length, 90, 90, 90)
    calculator.grid.set_size(side, side, side)
    middle = (side // 2) * voxel_size
    kinds = {int(number): gemmi.Element(int(number)) for number in np.unique(elements)}
    atom = gemmi.Atom()
    inside = (np.abs(positions) < middle).all(axis=1)
    for place, number, b_factor in zip(
        (positions[inside] + middle).tolist(), elements[inside].tolist(),
        b_factors[inside].tolist(), strict=True,
    ):
        atom.pos = gemmi.Position(*place)
        atom.element = kinds[number]
        atom.b_iso = b_factor
        calculator.add_atom_density_to_grid(atom)
    # The grid runs x, y, z, ours z, y, x.
    return np.ascontiguousarray(np.array(calculator.grid, dtype=np.float32).transpose(2, 1, 0))


def distance_to_atoms(positions: Floats, side: int, voxel_size: float) -> Floats:
    """Distance of every voxel to the nearest atom, Å, atoms moved to their nearest voxel.

    Parameters
    ----------
    positions : array, (atoms, 3)
        As for :func:`render`; those outside the box do not count, one must be inside.

    Returns
    -------
    array, (side, side, side), float32
    """
    voxels = np.rint(positions[:, ::-1] / voxel_size).astype(int) + side // 2
    voxels = voxels[((voxels >= 0) & (voxels < side)).all(axis=1)]
    empty = np.ones((side,) * 3, dtype=bool)
    empty[tuple(voxels.T)] = False
    return np.asarray(ndimage.distance_transform_edt(empty, voxel_size), dtype=np.float32)


def soft_mask(distance: Floats, radius: float, edge: float) -> Floats:
    """1 up to `radius` Å, a cosine edge of `edge` Å, 0 beyond."""
    share = np.clip((distance - radius) / edge, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * share), dtype=np.float32)


def squared_frequency(side: int, voxel_size: float) -> Floats:
    """|k|² of a half-spectrum in 1/Å², FFT order, (side, side, side // 2 + 1)."""
    whole = np.fft.fftfreq(side, voxel_size).astype(np.float32) ** 2
    half = np.fft.rfftfreq(side, voxel_size).astype(np.float32) ** 2
    return whole[:, None, None] + whole[None, :, None] + half[None, None, :]


def filtered(
    volume: npt.NDArray[np.floating], factor: npt.NDArray[np.floating] | npt.NDArray[np.bool_]
) -> Volume:
    """Multiply a volume's half-spectrum (FFT order, origin at element 0) by real factors."""
    spectrum = fft.rfftn(volume)
    spectrum *= factor
    return np.asarray(fft.irfftn(spectrum, volume.shape), dtype=np.float32)


def low_pass(volume: npt.NDArray[np.floating], voxel_size: float, resolution: float) -> Volume:
    """Gaussian low-pass with half its amplitude at `resolution` Å."""
    squared = squared_frequency(volume.shape[0], voxel_size)
    return filtered(volume, np.exp(-np.log(2) * squared * resolution**2))


def displace_solvent(volume: Volume, voxel_size: float) -> Volume:
    """Density against ice in place of vacuum."""
    squared = squared_frequency(volume.shape[0], voxel_size)
    return filtered(volume, 1 - SOLVENT_SHARE * np.exp(-SOLVENT_B * squared / 4))
