"""The FSC of a map to an atomic model: what the model's density has in common with the map.

Formulas: docs/numerics.md, section 11. gemmi makes the density and is imported on use.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.boxes import EvenCube
from blush_onnx.errors import BlushError, InputError
from blush_onnx.fourier import Volume
from blush_onnx.fsc import Curve, fsc
from blush_onnx.volume_io import MapFile

logger = logging.getLogger(__name__)

FEWEST_INSIDE = 0.9
"""Share of the atoms that must lie inside the box."""
SAMPLED_B = 8 * np.pi**2 / 1.1
"""B factor over the squared voxel size at which an atom is wide enough to be sampled without
aliasing; as gemmi and Refmac have it (Murshudov et al. 2011, 10.1107/S0907444911001314)."""

Point = tuple[float, float, float]


def origin_of(source: MapFile) -> Point:
    """Where the first voxel of a map lies in the coordinates of its models, (x, y, z) in Å.

    The header's ORIGIN, or where that is 0 its NSTART times the voxel size; the two are
    different ways to say the same, and programs fill in either (MRC2014 format,
    10.1016/j.jsb.2015.04.002).
    """
    header = source.header
    origin = tuple(float(header["origin"][axis]) for axis in "xyz")
    if any(origin):
        x, y, z = origin
        return x, y, z
    # The starts are those of the file's sections, rows and columns, whatever axis these are.
    starts = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]
    z, y, x = (starts[axis] * source.voxel_size for axis in source.axes)
    return x, y, z


def model_density(
    structure_path: str | Path,
    shape: tuple[int, ...],
    voxel_size: float,
    origin: Point = (0.0, 0.0, 0.0),
    b_factor: float | None = None,
) -> Volume:
    """Electron scattering density of an atomic model on the grid of a map.

    Parameters
    ----------
    structure_path : path
        PDB or mmCIF, also .gz; its first model, with all its atoms.
    shape : tuple of int
        Box of the map, (z, y, x), voxels.
    voxel_size : float
        Å.
    origin : tuple of float
        Position of the first voxel in the model's coordinates, (x, y, z), Å.
    b_factor : float, optional
        Å², for every atom; None: those of the file.

    Returns
    -------
    array, `shape`, float32
        In vacuum; atoms outside the box are left out.

    Raises
    ------
    InputError
        Unreadable, without atoms, or less than nine tenths of them inside the box.
    BlushError
        gemmi is not installed.
    """
    gemmi = _gemmi()
    path = Path(structure_path)
    model = _first_model(gemmi, path)
    atoms = [site.atom for site in model.all()]
    positions = np.array([atom.pos.tolist() for atom in atoms]).reshape(-1, 3)
    inside = _inside(positions, origin, shape, voxel_size)
    _require_inside(path, positions, inside, origin, shape, voxel_size)

    calculator = gemmi.DensityCalculatorE()
    calculator.d_min, calculator.rate = 2 * voxel_size, 1.0
    z, y, x = (side * voxel_size for side in shape)
    calculator.grid.unit_cell = gemmi.UnitCell(x, y, z, 90, 90, 90)
    calculator.grid.set_size(*shape[::-1])
    kept = [atom for atom, is_inside in zip(atoms, inside, strict=True) if is_inside]
    for atom in kept:
        atom.pos -= gemmi.Position(*origin)
        if b_factor is not None:
            atom.aniso, atom.b_iso = gemmi.SMat33f(0, 0, 0, 0, 0, 0), b_factor
    narrowest = min(atom.b_iso for atom in kept)
    calculator.blur = max(SAMPLED_B * voxel_size**2 - narrowest, 0.0)
    for atom in kept:
        calculator.add_atom_density_to_grid(atom)
    # The grid runs x, y, z; ours z, y, x.
    density = np.array(calculator.grid, dtype=np.float32).transpose(2, 1, 0)
    return _without_blur(density, calculator.blur, voxel_size)


def model_fsc(
    volume: Volume,
    voxel_size: float,
    structure_path: str | Path,
    origin: Point = (0.0, 0.0, 0.0),
    *,
    mask: Volume | None = None,
    b_factor: float | None = None,
) -> Curve:
    """FSC of a map to an atomic model.

    Parameters
    ----------
    volume : array, (z, y, x), float32
        Boxes that are not even cubes are put into one.
    voxel_size, structure_path, origin, b_factor
        As for :func:`model_density`; :func:`origin_of` reads the origin off a map file.
    mask : array like `volume`, optional
        Multiplied into both.

    Returns
    -------
    array, (side // 2 + 1,), float64
        side that of the even cube.

    Raises
    ------
    InputError, BlushError
        As for :func:`model_density`.
    """
    density = model_density(structure_path, volume.shape, voxel_size, origin, b_factor)
    return density_fsc(volume, density, mask)


def density_fsc(volume: Volume, density: Volume, mask: Volume | None = None) -> Curve:
    """FSC of a map to the density that :func:`model_density` made on its grid.

    Parameters
    ----------
    volume, density : array, (z, y, x), float32
    mask : array like them, optional
        Multiplied into both.

    Returns
    -------
    array, (side // 2 + 1,), float64
        side that of the even cube.
    """
    box = EvenCube.around(volume.shape)
    cube_mask = None if mask is None else box.pad_mask(mask)
    return fsc(box.pad_volume(volume), box.pad_mask(density), cube_mask)


def _gemmi() -> Any:
    try:
        import gemmi
    except ImportError as error:
        raise BlushError(
            "the density of an atomic model needs gemmi: pip install 'blush-onnx[report]'"
        ) from error
    return gemmi


def _first_model(gemmi: Any, path: Path) -> Any:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable atomic model: {reason}") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{path} holds no atoms: give a PDB or mmCIF file of the model")
    return structure[0]


def _inside(
    positions: npt.NDArray[np.float64], origin: Point, shape: tuple[int, ...], voxel_size: float
) -> npt.NDArray[np.bool_]:
    place = (positions - np.array(origin)) / voxel_size
    return np.asarray(((place >= 0) & (place < np.array(shape[::-1]))).all(axis=1))


def _require_inside(
    path: Path, positions: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_],
    origin: Point, shape: tuple[int, ...], voxel_size: float,
) -> None:
    share = float(inside.mean())
    if share >= FEWEST_INSIDE:
        if share < 1:
            logger.info("%s: %d atoms outside the box are left out", path, (~inside).sum())
        return
    at_zero = any(origin) and _inside(positions, (0, 0, 0), shape, voxel_size).mean() == 1
    box = ", ".join(
        f"{axis} {start:.0f} to {start + side * voxel_size:.0f}"
        for axis, start, side in zip("xyz", origin, shape[::-1], strict=True)
    )
    middle = ", ".join(f"{value:.0f}" for value in positions.mean(axis=0))
    what = (
        "with the map's origin at 0 they would: the origin in its header is wrong, or the model "
        "was placed by a program that ignores it"
        if at_zero else
        "fit the model into this map and save it in the map's coordinates, or give a map whose "
        "header has the origin that the model was built in"
    )
    raise InputError(
        f"{path}: only {share:.0%} of its atoms lie inside the box of the map ({box} Å; the model "
        f"is around {middle}); {what}"
    )


def _without_blur(
    density: npt.NDArray[np.float32], blur: float, voxel_size: float
) -> Volume:
    """Take away what was added to all B factors; beyond Nyquist no more than at Nyquist."""
    if blur == 0:
        return np.ascontiguousarray(density)
    z, y, x = (np.fft.fftfreq(side, voxel_size) ** 2 for side in density.shape)
    squared = z[:, None, None] + y[:, None] + x[: density.shape[2] // 2 + 1]
    squared = np.minimum(squared, (0.5 / voxel_size) ** 2)
    spectrum = np.fft.rfftn(density) * np.exp(blur * squared / 4)
    return np.asarray(np.fft.irfftn(spectrum, density.shape, (0, 1, 2)), dtype=np.float32)
