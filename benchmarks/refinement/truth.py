"""The true map and its solvent mask, from an atomic model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import mrcfile
import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume

B_FACTOR = 60.0
"""Mean B factor that the atoms are given, Å²; their differences stay."""
LOWEST_B_FACTOR = 20.0
SOLVENT = (0.6, 150.0)
"""Share and B factor (Å²) of the ice that the particle displaces, after Babinet."""
LARGEST_SHARE = 0.75
"""Of the box that a particle may take up."""
MARGIN = 6.0
"""What the particle diameter is wider than the atoms, Å."""
MASK_RADIUS, MASK_EDGE = 4.0, 8.0
"""From an atom to where the mask starts to fall, and the width of its edge, Å."""


@dataclass(frozen=True)
class Truth:
    """What the particles are projections of.

    Attributes
    ----------
    name : str
        Of the structure.
    density, mask : array, (side, side, side), float32
        Electron scattering against ice, any scale; soft solvent mask, 0…1.
    voxel_size : float
        Å.
    particle_diameter : float
        Å, for RELION and for Blush.
    """

    name: str
    density: Volume
    mask: Volume
    voxel_size: float
    particle_diameter: float


def read_truth(path: Path, side: int, voxel_size: float, solvent: bool = True) -> Truth:
    """Density and mask of an atomic model, centred in a cubic box.

    Parameters
    ----------
    path : Path
        PDB or mmCIF, also .gz; waters and hydrogens are left out.
    side : int
        Of the box, voxels, even.
    voxel_size : float
        Å.
    solvent : bool
        Whether the particle displaces ice or stands in vacuum.

    Returns
    -------
    Truth

    Raises
    ------
    InputError
        Unreadable, without atoms, or too large for the box.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable structure: {reason}") from error
    structure.remove_waters()
    structure.remove_hydrogens()
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{path} holds no atoms")
    model, length = structure[0], side * voxel_size
    diameter = _centre(structure, length) + MARGIN
    if diameter > LARGEST_SHARE * length:
        needed = diameter / LARGEST_SHARE / side
        raise InputError(
            f"{path}: the particle is {diameter:.0f} Å wide, more than {LARGEST_SHARE:.0%} of a "
            f"box of {length:.0f} Å: give a pixel size of {needed + 0.005:.2f} Å or more"
        )
    _set_b_factors(model)
    density = _density(model, side, length)
    if solvent:
        share, b_factor = SOLVENT
        frequency = np.arange(side) / length
        density = fourier.filter_by_shell(
            density, 1 - share * np.exp(-b_factor * frequency**2 / 4)
        )
    name = path.name.split(".")[0]
    return Truth(name, density, _mask(model, side, length), voxel_size, float(np.ceil(diameter)))


def low_passed(volume: Volume, voxel_size: float, resolution: float) -> Volume:
    """A map without its shells beyond a resolution (Å), with a cosine edge of four shells."""
    shells = np.arange(volume.shape[0])
    last = volume.shape[0] * voxel_size / resolution
    edge = np.clip((shells - last + 2) / 4, 0, 1)
    return fourier.filter_by_shell(volume, 0.5 + 0.5 * np.cos(np.pi * edge))


def turned(volume: Volume, rotation: npt.NDArray[np.float64]) -> Volume:
    """The volume r ↦ volume(G · r) about the middle of the box, tricubic.

    Parameters
    ----------
    volume : array, (side, side, side), float32
    rotation : array, (3, 3)
        G, on (x, y, z).

    Returns
    -------
    array like `volume`
    """
    side = volume.shape[0]
    grid = gemmi.FloatGrid(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    grid.set_unit_cell(gemmi.UnitCell(side, side, side, 90, 90, 90))
    middle = np.full(3, side // 2)
    transform = gemmi.Transform()
    transform.mat.fromlist(rotation.tolist())
    transform.vec.fromlist((middle - rotation @ middle).tolist())
    result = np.zeros((side,) * 3, dtype=np.float32)
    grid.interpolate_values(result, transform, order=3)
    return np.ascontiguousarray(result.transpose(2, 1, 0))


def write_map(path: Path, volume: Volume, voxel_size: float) -> None:
    """Write a map as MRC; replaces what is there."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume.astype(np.float32))
        mrc.voxel_size = voxel_size


def _centre(structure: gemmi.Structure, length: float) -> float:
    """Move the atoms to the middle of the box; returns the diameter around it, Å."""
    box = structure.calculate_box()
    middle = gemmi.Position(*[length / 2] * 3)
    shift = middle - (box.minimum + box.maximum) / 2
    radius = 0.0
    for site in structure[0].all():
        site.atom.pos += shift
        radius = max(radius, site.atom.pos.dist(middle))
    return 2 * radius


def _set_b_factors(model: Any) -> None:
    atoms = [site.atom for site in model.all()]
    mean = sum(atom.b_iso for atom in atoms) / len(atoms)
    for atom in atoms:
        atom.b_iso = max(atom.b_iso - mean + B_FACTOR, LOWEST_B_FACTOR)


def _density(model: Any, side: int, length: float) -> Volume:
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min = 2 * length / side
    calculator.rate = 1.0
    calculator.grid.unit_cell = gemmi.UnitCell(length, length, length, 90, 90, 90)
    calculator.grid.set_size(side, side, side)
    calculator.put_model_density_on_grid(model)
    return _volume(calculator.grid)


def _mask(model: Any, side: int, length: float) -> Volume:
    """1 up to a few Å from an atom, a cosine edge, 0 beyond."""
    grid = gemmi.FloatGrid(side, side, side)
    grid.set_unit_cell(gemmi.UnitCell(length, length, length, 90, 90, 90))
    for share in np.linspace(1, 0, 13):  # from the outside in, each over the last
        value = 0.5 + 0.5 * np.cos(np.pi * share)
        for site in model.all():
            radius = MASK_RADIUS + float(share) * MASK_EDGE
            grid.set_points_around(site.atom.pos, radius=radius, value=float(value))
    return _volume(grid)


def _volume(grid: Any) -> Volume:
    """The grid as a volume: it runs x, y, z, ours z, y, x."""
    return np.ascontiguousarray(np.array(grid, dtype=np.float32).transpose(2, 1, 0))
