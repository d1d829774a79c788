"""What RELION asks for: one ``*_external_reconstruct.star`` and the arrays it names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.hosts.relion.run_files import RunFacts
from blush_onnx.hosts.relion.star import read_star, text_of

Curve = npt.NDArray[np.float64]

GENERAL = "external_reconstruct_general"
SPECTRA = "external_reconstruct_tau2"
_OPTIONS = {"PixelSize": "--pixel-size", "ParticleDiameter": "--particle-diameter"}
_JOB = re.compile(r"(?P<half>_half[12])?_(?:class|body)\d+_external_reconstruct")
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
    found : tuple of str
        What the job itself did not say, and where it was found instead.
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
    found: tuple[str, ...] = ()


def read_job(
    star: str | Path,
    *,
    folder: str | Path = ".",
    pixel_size: float | None = None,
    particle_diameter: float | None = None,
    run: RunFacts | None = None,
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
    run : RunFacts, optional
        What the run's own files say, for what neither the job nor the caller does.

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
    star = Path(star)
    document = read_star(star)
    general, spectra = document.find_block(GENERAL), document.find_block(SPECTRA)
    if general is None or spectra is None:
        raise InputError(f"{star} is not a reconstruction job: it lacks data_{GENERAL} or _tau2")
    fields = _Fields(star, general)
    if fields.integer("ReferenceDimensionality") != 3:
        raise InputError(f"{star} is about 2-D references: Blush regularises 3-D ones alone")
    box_size = fields.integer("OriginalImageSize")
    found = []
    if run is not None and run.optimiser is not None:
        if pixel_size is None and not fields.has("PixelSize") and run.pixel_size:
            pixel_size = run.pixel_size
            found.append(f"pixel size {pixel_size:g} Å, from the model file of {run.optimiser}")
        if particle_diameter is None and not fields.has("ParticleDiameter"):
            particle_diameter = run.particle_diameter
            found.append(f"particle diameter {particle_diameter} Å, from {run.optimiser}")
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
        found=tuple(found),
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
    found = _JOB.search(star.name)
    if found["half"] if found else "half1" in star.name or "half2" in star.name:
        return REFINE
    return REFINE_FINAL if np.any(fsc) else CLASSIFICATION


class _Fields:
    """The list block of a job, with errors that name the label."""

    def __init__(self, star: Path, block: Any) -> None:
        self._star, self._block = star, block

    def has(self, label: str) -> bool:
        return text_of(self._block, label) is not None

    def text(self, label: str, given: object = None) -> str:
        value = text_of(self._block, label) if given is None else str(given)
        if value is None:
            hint = ""
            if label in _OPTIONS:
                hint = (
                    "; RELION 3.1 and 4.0.0 do not write it, and no optimiser file of the run was "
                    f"found beside it that tells: give {_OPTIONS[label]}"
                )
            raise InputError(f"{self._star} lacks rln{label}{hint}")
        return value

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
    texts = list(block.find_loop(f"_rln{label}"))
    if len(texts) != box_size // 2 + 1:
        raise InputError(
            f"{star}: rln{label} has {len(texts)} values, expected {box_size // 2 + 1}"
        )
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise InputError(f"{star}: rln{label} holds something else than numbers") from error
    if not np.isfinite(values).all():
        raise InputError(f"{star}: rln{label} has values that are NaN or infinite")
    return values
