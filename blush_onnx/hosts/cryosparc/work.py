"""The work of one job on this machine: half-maps read, denoised, written and shown in its log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import __version__, half_map_checks, volume_io
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser
from blush_onnx.hosts.cryosparc import pictures
from blush_onnx.hosts.cryosparc.running import JobLog
from blush_onnx.models import OFFICIAL_MODEL, Model
from blush_onnx.regularise import regularise
from blush_onnx.report.record import as_json, denoise_record
from blush_onnx.resolution import agree_to
from blush_onnx.results import Regularised
from blush_onnx.volume_io import MapFile

Array = npt.NDArray[np.float32]

REPORT = "report.json"
LABEL = "blush-onnx {}: denoised reference, no half-map; not for deposition or FSC"


@dataclass(frozen=True)
class Request:
    """How half-maps are to be denoised.

    Attributes
    ----------
    load : callable
        Returns the model and the denoiser; called once a job, so that no card is held between.
    settings : mapping
        Every option, as the report names it.
    particle_diameter, cut_off : float or None
        As for :func:`blush_onnx.regularise`.
    stride, rotations : int
        Likewise.
    """

    load: Callable[[], tuple[Model, Denoiser]]
    settings: Mapping[str, Any]
    particle_diameter: float | None = None
    cut_off: float | None = None
    stride: int = DEFAULT_STRIDE
    rotations: int = 1


@dataclass(frozen=True)
class Inputs:
    """Files of a job.

    Attributes
    ----------
    halves : (Path, Path)
    voxel_size : float
        Å, as the job's dataset has it.
    mask : Path or None
        For the FSC.
    """

    halves: tuple[Path, Path]
    voxel_size: float
    mask: Path | None


@dataclass(frozen=True)
class Work:
    """What came out.

    Attributes
    ----------
    result : Regularised
    box : tuple of int
        (z, y, x), voxels.
    voxel_size : float
        Å.
    files : tuple of str
        Names in the folder: a map for each output, and the report.
    warnings : tuple of str
    slices : bytes
        PNG of slices before and after.
    """

    result: Regularised
    box: tuple[int, ...]
    voxel_size: float
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    slices: bytes


def denoise_files(
    inputs: Inputs, request: Request, log: JobLog, folder: Path, names: tuple[str, str, str]
) -> Work:
    """Denoise two half-maps into files, and show the work in a job's log.

    Parameters
    ----------
    inputs : Inputs
    request : Request
    log : JobLog
    folder : Path
        Where the files go.
    names : tuple of str
        Of the maps, without ``.mrc``: the mean of the two references, and each.

    Returns
    -------
    Work

    Raises
    ------
    InputError, ModelError, EngineError, OutOfMemoryError, OutputError
        As for ``blush-onnx denoise``.
    EndedElsewhere
        Somebody ended the job in cryoSPARC.
    """
    start = time.perf_counter()
    halves, found = _read(inputs)
    mask, digest = volume_io.read_mask(inputs.mask, halves[0]) if inputs.mask else (None, "")
    seconds = {"read": time.perf_counter() - start}

    start = time.perf_counter()
    model, denoiser = request.load()
    found += _model_warnings(model, request.settings)
    engine = denoiser.engine.description
    log.line(f"Model {model.config.name} on {engine.provider} ({engine.reason})")
    seconds["load"] = time.perf_counter() - start

    start = time.perf_counter()
    first, second = (half.data for half in halves)
    result = regularise(
        first, second, inputs.voxel_size, denoiser=denoiser, fsc_mask=mask,
        particle_diameter=request.particle_diameter, cut_off=request.cut_off,
        stride=request.stride, rotations=request.rotations, progress=log.progress,
    )
    seconds["denoise"] = time.perf_counter() - start
    found += half_map_checks.half_map_warnings(
        first, second, result.fsc, cut_off=request.cut_off
    )
    found += result.warnings
    for warning in found:
        log.line(warning, "warning")

    files = _write(halves, result, folder, names)
    settings = {
        **request.settings, "voxel_size": inputs.voxel_size,
        "mask": None if inputs.mask is None else str(inputs.mask),
    }
    record = denoise_record(
        inputs=halves, masks={"fsc": (str(inputs.mask), digest)} if inputs.mask else {},
        settings=settings, denoiser=denoiser, model=model, result=result,
        files=(*files, REPORT), seconds=seconds, warnings=found,
    )
    (folder / REPORT).write_text(as_json(record), encoding="utf-8")
    slices = _show(
        np.float32(0.5) * (first + second), result, inputs.voxel_size, log, request.cut_off
    )
    return Work(
        result, first.shape, inputs.voxel_size, (*files, REPORT), tuple(found), slices
    )


def _read(inputs: Inputs) -> tuple[tuple[MapFile, MapFile], list[str]]:
    first, second = (volume_io.read_map(path, inputs.voxel_size) for path in inputs.halves)
    half_map_checks.check_halves(first, second)
    return (first, second), [
        text for half in (first, second) if (text := half_map_checks.denoised_already(half))
    ]


def _model_warnings(model: Model, settings: Mapping[str, Any]) -> list[str]:
    chosen = settings["model"] or os.environ.get("BLUSH_ONNX_MODEL")
    if chosen or model.config.name == OFFICIAL_MODEL:
        return []
    return [
        f"the official weights are not registered: using {model.config.name}, a model for trials; "
        f"for work to be published run once: blush-onnx models fetch {OFFICIAL_MODEL}"
    ]


def _write(
    halves: tuple[MapFile, MapFile], result: Regularised, folder: Path,
    names: tuple[str, str, str],
) -> tuple[str, ...]:
    maps = (result.average, result.reference_1, result.reference_2)
    files = tuple(f"{name}.mrc" for name in names)
    for file, data, like in zip(files, maps, (halves[0], *halves), strict=True):
        volume_io.write_map(folder / file, data, like, LABEL.format(__version__))
    return files


def _show(
    before: Array, result: Regularised, voxel_size: float, log: JobLog, cut_off: float | None
) -> bytes:
    """Lines and pictures on what was done; returns the picture of slices."""
    kind = "solvent-corrected" if result.fsc.corrected is not None else "unmasked"
    log.line(
        f"The half-maps {agree_to(result.fsc.resolution())} (FSC 0.143, {kind}). "
        f"{cut_off_text(result, asked_for=cut_off is not None)}"
    )
    curve = pictures.fsc_plot(
        result.fsc, result.cut_off_angstrom, f"cut-off {result.cut_off_angstrom:.2f} Å"
    )
    log.plot(
        pictures.as_png(curve), "FSC of the half-maps and cut-off", pictures.fsc_csv(result.fsc)
    )
    slices = pictures.as_png(pictures.slices(before, result.average, voxel_size))
    log.plot(slices, "Slices before and after denoising")
    return slices


def cut_off_text(result: Regularised, *, asked_for: bool) -> str:
    """Up to where the denoised maps were kept, in a sentence; the user may have asked for it."""
    angstrom = f"{result.cut_off_angstrom:.2f} Å"
    if result.beyond_network and not asked_for:
        return (
            f"No cut-off: they agree to {angstrom}, further than the network reaches, and fill "
            "the finest shells themselves."
        )
    return f"The denoised maps are kept up to the cut-off at {angstrom}; nothing is beyond."


__all__ = ["Inputs", "Request", "Work", "cut_off_text", "denoise_files"]
