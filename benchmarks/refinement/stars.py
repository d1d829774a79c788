"""RELION's particle files: images with their poses, CTF and half-sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gemmi import cif

from blush_onnx.errors import InputError

Array = npt.NDArray[np.float64]

VOLTAGE, SPHERICAL_ABERRATION, AMPLITUDE_CONTRAST = 300.0, 2.7, 0.1  # kV, mm, share
ANGLES = ("AngleRot", "AngleTilt", "AnglePsi")
SHIFTS = ("OriginXAngst", "OriginYAngst")


@dataclass(frozen=True)
class Particles:
    """What a particle file says of n particles, in its order.

    Attributes
    ----------
    angles : array, (n, 3)
        rot, tilt, psi, degrees.
    shifts : array, (n, 2)
        RELION's origins, Å.
    defocus : array, (n, 3)
        U and V, Å, and the angle of astigmatism, degrees.
    half : array, (n,)
        1 or 2.
    micrograph : array, (n,)
        Number of the micrograph, from 1.
    """

    angles: Array
    shifts: Array
    defocus: Array
    half: npt.NDArray[np.int64]
    micrograph: npt.NDArray[np.int64]


def write_particles(
    path: Path, stack: str, particles: Particles, side: int, pixel_size: float
) -> None:
    """Write a particle file as of RELION 3.1.

    Parameters
    ----------
    path : Path
    stack : str
        The stack's name, relative to where RELION runs.
    particles : Particles
    side : int
        Of the images, pixels.
    pixel_size : float
        Å.
    """
    document = cif.Document()
    optics = {
        "OpticsGroupName": "group1",
        "OpticsGroup": 1,
        "MicrographOriginalPixelSize": pixel_size,
        "Voltage": VOLTAGE,
        "SphericalAberration": SPHERICAL_ABERRATION,
        "AmplitudeContrast": AMPLITUDE_CONTRAST,
        "ImagePixelSize": pixel_size,
        "ImageSize": side,
        "ImageDimensionality": 2,
    }
    loop = document.add_new_block("optics").init_loop("_rln", list(optics))
    loop.add_row([str(value) for value in optics.values()])

    names = ["ImageName", "MicrographName", "OpticsGroup", "DefocusU", "DefocusV"]
    names += ["DefocusAngle", "PhaseShift", "CtfBfactor", *ANGLES, *SHIFTS, "RandomSubset"]
    loop = document.add_new_block("particles").init_loop("_rln", names)
    for number in range(len(particles.angles)):
        row = [f"{number + 1:06d}@{stack}", f"mic{particles.micrograph[number]:04d}.mrc", "1"]
        row += [f"{value:.2f}" for value in particles.defocus[number]]
        row += ["0.0", "0.0"]
        row += [f"{value:.5f}" for value in particles.angles[number]]
        row += [f"{value:.5f}" for value in particles.shifts[number]]
        loop.add_row([*row, str(particles.half[number])])
    document.write_file(str(path))


def read_poses(path: Path) -> tuple[Array, Array]:
    """Poses in a particle file, in the order of the images in their stack.

    RELION sorts the particles of what it writes in its own way.

    Parameters
    ----------
    path : Path

    Returns
    -------
    angles : array, (n, 3)
        rot, tilt, psi, degrees.
    shifts : array, (n, 2)
        Å.

    Raises
    ------
    InputError
        The file has no particles, or not all columns.
    """
    block = cif.read(str(path)).find_block("particles")
    table = None if block is None else block.find("_rln", ["ImageName", *ANGLES, *SHIFTS])
    if not table:
        raise InputError(f"{path} holds no particles with poses")
    rows = sorted(table, key=lambda row: int(row[0].split("@")[0]))
    values = np.array([[float(value) for value in list(row)[1:]] for row in rows])
    return values[:, :3], values[:, 3:]
