"""What RELION asks for: one ``*_external_reconstruct.star`` and the arrays it names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import BlushError, InputError

Curve = npt.NDArray[np.float64]

GENERAL = "external_reconstruct_general"
SPECTRA = "external_reconstruct_tau2"
REFINE, REFINE_FINAL, CLASSIFICATION = "refine", "refine_final", "classification"


@dataclass(frozen=True)
class Job:
    """One reconstruction that RELION wants done.

    Attributes
    ----------
    star : Path
    data_real, data_imag, weight : Path
        MRC files of half-complex arrays (P, P, P // 2 + 1), FFTW order.
    result : Path
        Where the host reads the map from.
    result_star : Path
        If such a file is left there the host reads it too and replaces its spectra.
    mode : str
        ``refine``, ``refine_final`` or ``classification``.
    box_size, current_size : int
        Voxels.
    padding, tau2_fudge : float
    pixel_size, particle_diameter : float
        Å.
    tau2, fsc : array, (box_size // 2 + 1,)
    """

    star: Path
    data_real: Path
    data_imag: Path
    weight: Path
    result: Path
    result_star: Path
    mode: str
    box_size: int
    current_size: int
    padding: float
    tau2_fudge: float
    pixel_size: float
    particle_diameter: float
    tau2: Curve
    fsc: Curve


def read_job(
    star: str | Path,
    *,
    folder: str | Path = ".",
    pixel_size: float | None = None,
    particle_diameter: float | None = None,
) -> Job:
    """Read a job's STAR file and check that it can be done.

    Parameters
    ----------
    star : path
        ``…_external_reconstruct.star``; the mode is read from its name and its FSC.
    folder : path
        The host's working folder, which the paths in the file are relative to.
    pixel_size, particle_diameter : float, optional
        Å; in place of what the file says. RELION 3.1 and 4.0.0 write neither.

    Returns
    -------
    Job

    Raises
    ------
    InputError
        Unreadable, not such a file, 2-D, or without a pixel size or diameter.
    BlushError
        gemmi, which reads STAR files, is not installed.
    """
    try:
        from gemmi import cif
    except ImportError as error:
        raise BlushError(
            "reading RELION's jobs needs gemmi: pip install 'blush-onnx[relion]'"
        ) from error

    star = Path(star)
    try:
        document = cif.read(str(star))
    except FileNotFoundError as error:
        raise InputError(f"{star} does not exist") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{star} is not a readable STAR file: {reason}") from error
    general, spectra = document.find_block(GENERAL), document.find_block(SPECTRA)
    if general is None or spectra is None:
        raise InputError(f"{star} is not a reconstruction job: it lacks data_{GENERAL} or _tau2")
    fields = _Fields(star, general)
    if fields.integer("ReferenceDimensionality") != 3:
        raise InputError(f"{star} is about 2-D references: Blush regularises 3-D ones alone")
    box_size = fields.integer("OriginalImageSize")
    fsc = _curve(star, spectra, "GoldStandardFsc", box_size)
    return Job(
        star=star,
        data_real=Path(folder) / fields.text("ExtReconsDataReal"),
        data_imag=Path(folder) / fields.text("ExtReconsDataImag"),
        weight=Path(folder) / fields.text("ExtReconsWeight"),
        result=Path(folder) / fields.text("ExtReconsResult"),
        result_star=Path(folder) / fields.text("ExtReconsResultStarfile"),
        mode=mode_of(star, fsc),
        box_size=box_size,
        current_size=fields.integer("CurrentImageSize"),
        padding=fields.positive("PaddingFactor"),
        tau2_fudge=fields.positive("Tau2FudgeFactor"),
        pixel_size=fields.positive("PixelSize", pixel_size),
        particle_diameter=fields.positive("ParticleDiameter", particle_diameter),
        tau2=_curve(star, spectra, "ReferenceTau2", box_size),
        fsc=fsc,
    )


def mode_of(star: Path, fsc: Curve) -> str:
    """What the host is doing, from the file's name (not its folder's) and the FSC.

    Parameters
    ----------
    star : Path
    fsc : array

    Returns
    -------
    str
        One half: ``refine``; no half, but an FSC: ``refine_final``; else ``classification``.
    """
    if re.search(r"half[12]", star.name):
        return REFINE
    return REFINE_FINAL if np.any(fsc) else CLASSIFICATION


class _Fields:
    """The list block of a job, with errors that name the label."""

    def __init__(self, star: Path, block: Any) -> None:
        self._star, self._block = star, block

    def text(self, label: str, given: object = None) -> str:
        value = self._block.find_value(f"_rln{label}") if given is None else str(given)
        if value is None:
            raise InputError(
                f"{self._star} lacks rln{label}; RELION 3.1 and 4.0.0 write neither the pixel size "
                "nor the particle diameter: give them"
            )
        return str(value).strip("'\"")

    def positive(self, label: str, given: float | None = None) -> float:
        text = self.text(label, given)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{self._star}: rln{label} is {text}, expected a number above 0")
        return value

    def integer(self, label: str) -> int:
        return int(self.positive(label))


def _curve(star: Path, block: Any, label: str, box_size: int) -> Curve:
    values = [float(v) for v in block.find_loop(f"_rln{label}")]
    if len(values) != box_size // 2 + 1 or not np.isfinite(values).all():
        raise InputError(
            f"{star}: rln{label} has {len(values)} values, expected {box_size // 2 + 1} numbers"
        )
    return np.array(values)
