"""Make the bundled pair of half-maps from an atomic model; needs gemmi.

    python examples/half_maps/make.py 3EIY.cif.gz

Two noisy maps of one density, as an unfiltered pair looks before sharpening: the
electron density of the model under its B factors and bulk solvent, plus noise
that is drawn apart for each half and grows with the spatial frequency. Every
number is below; the seed makes the noise the same on every machine with the same
NumPy. Not experimental data.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import numpy.typing as npt

from blush_onnx import fourier

SIDE = 96
VOXEL_SIZE = 1.4  # Å
B_FACTOR = 90.0  # Å², added to the model's own; a map before sharpening
SOLVENT = (0.8, 150.0)  # scale and B factor (Å²) of the bulk solvent, after Babinet
RESOLUTION = 4.2  # Å, where the FSC of the whole boxes is 1/7
NOISE_SLOPE = 1.0  # noise power is 1 + slope · shell / (SIDE / 2)
SEED = 20240611
MASK_RADIUS, MASK_EDGE = 4.0, 6.0  # Å
MANTISSA_BITS = 10

Volume = npt.NDArray[np.float32]


def density(structure: gemmi.Structure) -> Volume:
    """Electron scattering density of a model, its centre in the middle of the box."""
    length = SIDE * VOXEL_SIZE
    model = structure[0]
    box = structure.calculate_box()
    shift = gemmi.Position(*[length / 2] * 3) - (box.minimum + box.maximum) / 2
    for atom in model.all():
        atom.atom.pos += shift
        atom.atom.b_iso += B_FACTOR
    calculator = gemmi.DensityCalculatorE()
    calculator.d_min = 2 * VOXEL_SIZE
    calculator.rate = 1.0
    calculator.grid.unit_cell = gemmi.UnitCell(length, length, length, 90, 90, 90)
    calculator.grid.set_size(SIDE, SIDE, SIDE)
    calculator.put_model_density_on_grid(model)
    # gemmi's grid runs x, y, z; ours z, y, x.
    return np.ascontiguousarray(np.array(calculator.grid, dtype=np.float32).transpose(2, 1, 0))


def radial(curve: npt.NDArray[np.float64], volume: Volume) -> Volume:
    """Volume times a curve with a value for each shell, up to the corners of the box."""
    return fourier.filter_by_shell(volume, curve)


def molecule_mask(structure: gemmi.Structure) -> Volume:
    """Soft mask: 1 up to a few Å from an atom, a cosine edge, 0 beyond."""
    length = SIDE * VOXEL_SIZE
    grid = gemmi.FloatGrid(SIDE, SIDE, SIDE)
    grid.set_unit_cell(gemmi.UnitCell(length, length, length, 90, 90, 90))
    steps = np.linspace(0, 1, 13)
    for share in steps[::-1]:  # from the outside in, each over the last
        value = 0.5 + 0.5 * np.cos(np.pi * share)
        for atom in structure[0].all():
            grid.set_points_around(
                atom.atom.pos, radius=MASK_RADIUS + share * MASK_EDGE, value=float(value)
            )
    return np.ascontiguousarray(np.array(grid, dtype=np.float32).transpose(2, 1, 0))


def power(volume: Volume) -> npt.NDArray[np.float64]:
    """Mean power a shell, shells counted to the corners of the box."""
    spectrum = np.abs(fourier.forward(volume).astype(np.complex128)) ** 2
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(SIDE, z) for z in range(SIDE)]))
    shell = np.rint(radius).astype(int)
    return np.bincount(shell.ravel(), spectrum.ravel()) / np.bincount(shell.ravel())


def write(path: Path, volume: Volume) -> None:
    """Compressed MRC; values rounded to what the noise leaves of them."""
    mantissa, exponent = np.frexp(volume)
    scale = 2.0**MANTISSA_BITS
    rounded = np.ldexp(np.rint(mantissa * scale) / scale, exponent).astype(np.float32)
    plain = path.with_suffix("")
    with mrcfile.new(plain, overwrite=True) as mrc:
        mrc.set_data(rounded)
        mrc.voxel_size = VOXEL_SIZE
        mrc.header.label[:] = b""
        mrc.header.label[0] = b"simulated for blush-onnx from PDB 3EIY; not experimental"
        mrc.header.nlabl = 1
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as stream:
        stream.write(plain.read_bytes())
    plain.unlink()


def main(model: str) -> None:
    """Write the two half-maps and the mask beside this file."""
    folder = Path(__file__).parent
    structure = gemmi.read_structure(model)
    structure.remove_waters()
    truth = density(structure)
    shells = np.arange(len(power(truth)))
    frequency = shells / (SIDE * VOXEL_SIZE)
    scale, b_solvent = SOLVENT
    truth = radial(1 - scale * np.exp(-b_solvent * frequency**2 / 4), truth)

    signal = power(truth)
    shape = 1 + NOISE_SLOPE * shells / (SIDE / 2)
    at = round(SIDE * VOXEL_SIZE / RESOLUTION)
    level = signal[at] * (1 - 1 / 7) * 7 / shape[at]  # FSC = S / (S + N) = 1/7 in that shell
    rng = np.random.default_rng(SEED)
    for half in (1, 2):
        white = rng.standard_normal((SIDE,) * 3, dtype=np.float32)
        noise = radial(np.sqrt(level * shape / SIDE**3), white)
        # A common grey scale: background noise of standard deviation about 0.01.
        write(folder / f"half_map_{half}.mrc.gz", (truth + noise) * np.float32(0.01 / noise.std()))
    write(folder / "mask.mrc.gz", molecule_mask(structure))


if __name__ == "__main__":
    main(sys.argv[1])
