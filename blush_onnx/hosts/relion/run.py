"""One job from its STAR file to the map that RELION reads back."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blush_onnx import __version__, masks, models, volume_io
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser, Progress
from blush_onnx.errors import InputError, OutputError
from blush_onnx.hosts.relion.engine_choice import EngineRequest, denoiser_for
from blush_onnx.hosts.relion.job import CLASSIFICATION, Job, read_job
from blush_onnx.hosts.relion.reconstruct import Reconstructions, reconstruct
from blush_onnx.hosts.relion.run_files import RunFacts, run_facts
from blush_onnx.hosts.relion.solve import Solution, solve
from blush_onnx.hosts.relion.treatment import compare_with_first
from blush_onnx.sharing.cores import CoreShare

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]

PUBLISHED_SMOOTHING_MASK = "blush_smoothing_mask.mrc"
"""A file that the published implementation applies wherever it lies in the working folder."""
SMOOTHING_ANGSTROM = 5.0
LABEL = "blush-onnx {}: {}"


@dataclass(frozen=True)
class JobRequest:
    """How a job is to be done.

    Attributes
    ----------
    engine : EngineRequest
    model : str or None
        As for :meth:`Denoiser.load`.
    stride : int
    spectral_trailing : bool
    pixel_size, particle_diameter : float or None
        Å; in place of what RELION wrote.
    smoothing_mask : Path or None
        Where the map is kept as it is; elsewhere it is blurred by 5 Å.
    debug : bool
        Write both reconstructions beside the result.
    """

    engine: EngineRequest = field(default_factory=EngineRequest)
    model: str | None = None
    stride: int = DEFAULT_STRIDE
    spectral_trailing: bool = True
    pixel_size: float | None = None
    particle_diameter: float | None = None
    smoothing_mask: Path | None = None
    debug: bool = False


def run_job(
    star: Path,
    request: JobRequest,
    cores: CoreShare,
    *,
    progress: Progress | None = None,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Do a job and write what the host reads.

    Parameters
    ----------
    star : Path
        ``…_external_reconstruct.star``; paths in it are relative to the current folder.
    request : JobRequest
    cores : CoreShare
        Entered already.
    progress : callable, optional
        Called with (done, total) patches; whatever it raises ends the work.
    check : callable, optional
        Called between the parts and while it waits for a card; likewise.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    InputError
        The job cannot be read or is of a kind that Blush does not support.
    EngineError, ModelError, OutOfMemoryError
        As for :meth:`Denoiser.load` and :func:`blush_onnx.regularise_half`.
    OutputError
        The result is not usable or cannot be written.
    """
    start = time.perf_counter()
    facts = run_facts(star, Path())
    job = _read(star, request, facts)
    for stale in (job.result, job.result_star, denoised_path(job)):
        stale.unlink(missing_ok=True)
    if facts.gradient:
        raise InputError(
            f"{facts.optimiser} says that this is a gradient (VDAM) run, whose steps an external "
            "reconstruction would replace: use Blush in Refine3D, Class3D or MultiBody, not in "
            "InitialModel"
        )
    smoothing = _smoothing_mask(job, request)
    model = _model(request.model)
    purpose = f"{job.star.name} in {job.star.parent.resolve()}"
    maps = reconstruct(job, threads=request.engine.threads or cores.threads()[0])
    logger.info("reconstructed after %.1f s", time.perf_counter() - start)
    check()
    with denoiser_for(model, request.engine, cores, purpose, check) as denoiser:
        solution = solve(
            job, maps, denoiser, spectral_trailing=request.spectral_trailing,
            stride=request.stride, progress=progress,
        )
    _compare_treatment(job, request, model, denoiser, facts)
    for note in solution.notes:
        logger.warning("%s", note)
    if request.debug:
        _write_reconstructions(job, maps)
    _write(job, solution, smoothing, request)
    line = (
        f"{job.star.name}: {job.mode}, {_kept(job, solution, request)}, model "
        f"{model.config.name} on {denoiser.engine.description.provider}, "
        f"{time.perf_counter() - start:.1f} s"
    )
    logger.info("done: %s", line)
    return line


def denoised_path(job: Job) -> Path:
    """Where the denoised map of a final job goes, beside RELION's own."""
    return job.result.with_name(f"{job.result.stem}_denoised.mrc")


def _read(star: Path, request: JobRequest, facts: RunFacts) -> Job:
    job = read_job(
        star,
        pixel_size=request.pixel_size,
        particle_diameter=request.particle_diameter,
        run=facts,
    )
    logger.info(
        "%s: %s, box %d, current size %d, padding %g, %g Å a voxel, particle %g Å",
        star.name, job.mode, job.box_size, job.current_size, job.padding, job.pixel_size,
        job.particle_diameter,
    )
    for source in job.found:
        logger.info("%s", source)
    return job


def _model(name: str | None) -> models.Model:
    model = models.load_model(name)
    logger.info("model %s, %s, SHA-256 %s", model.config.name, model.path, model.sha256)
    chosen = name or os.environ.get("BLUSH_ONNX_MODEL")
    if not chosen and model.config.name != models.OFFICIAL_MODEL:
        logger.warning(
            "the official weights are not registered: using %s, a model for trials; for work "
            "to be published run once: blush-onnx models fetch %s",
            model.config.name, models.OFFICIAL_MODEL,
        )
    return model


def _smoothing_mask(job: Job, request: JobRequest) -> Array | None:
    if request.smoothing_mask is None:
        if Path(PUBLISHED_SMOOTHING_MASK).exists():
            logger.warning(
                "%s lies in the working folder; the published implementation would apply it, this "
                "one does so only when told to: --smoothing-mask %s",
                PUBLISHED_SMOOTHING_MASK, PUBLISHED_SMOOTHING_MASK,
            )
        return None
    if job.mode == CLASSIFICATION:
        logger.warning("the smoothing mask has no effect in a 3D classification")
        return None
    return volume_io.read_mask_of_box(request.smoothing_mask, job.box_size)


def _compare_treatment(
    job: Job, request: JobRequest, model: models.Model, denoiser: Denoiser, facts: RunFacts
) -> None:
    engine = denoiser.engine.description
    treatment = {
        "program": f"blush-onnx {__version__}",
        "engine": f"{engine.provider}, {engine.library}",
        "precision": engine.precision,
        "model": f"{model.config.name}, SHA-256 {model.sha256}",
        "spectral trailing": request.spectral_trailing,
        "stride": request.stride,
        "smoothing mask": None if request.smoothing_mask is None else str(request.smoothing_mask),
    }
    compare_with_first(job.result.parent, treatment, facts.started)


def _write(
    job: Job, solution: Solution, smoothing: Array | None, request: JobRequest
) -> None:
    result, denoised = solution.result, solution.denoised
    if smoothing is not None:
        sigma = int(SMOOTHING_ANGSTROM / job.pixel_size)
        if denoised is None:
            result = masks.smooth_outside(result, smoothing, sigma)
        else:
            denoised = masks.smooth_outside(denoised, smoothing, sigma)
        logger.info("smoothing mask %s, Gaussian of %d voxels", request.smoothing_mask, sigma)
    what = "RELION's own map, not denoised" if denoised is not None else "reference, no half-map"
    if denoised is not None:
        _write_checked(denoised_path(job), denoised, job, "denoised map, not for deposition")
    _write_checked(job.result, result, job, what)


def _write_reconstructions(job: Job, maps: Reconstructions) -> None:
    for name, volume in (("unfiltered", maps.unfiltered), ("regularised", maps.regularised)):
        if volume is not None:
            path = job.result.with_name(f"{job.result.stem}_debug_{name}.mrc")
            _write_checked(path, volume, job, f"{name} reconstruction")


def _write_checked(path: Path, volume: Array, job: Job, what: str) -> None:
    """Write a map under another name, look at what stands there, then give it its own."""
    _check(volume, job, "the map")
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        volume_io.write_new_map(staged, volume, job.pixel_size, LABEL.format(__version__, what))
        _check(volume_io.read_values(staged), job, f"what was written to {path.parent}")
        staged.replace(path)
    except OSError as error:
        reason = str(error.strerror or error).replace(str(staged), str(path))
        raise OutputError(
            reason if isinstance(error, OutputError) else f"cannot write {path}: {reason}"
        ) from error
    finally:
        staged.unlink(missing_ok=True)
    logger.info("wrote %s", path)


def _check(volume: Array, job: Job, what: str) -> None:
    """RELION takes any map: one of a wrong box or with NaN ruins the run an iteration later."""
    if volume.shape != (job.box_size,) * 3:
        raise OutputError(f"{what} has the box {volume.shape}, expected {(job.box_size,) * 3}")
    if not np.isfinite(volume).all():
        raise OutputError(f"{what} has values that are NaN or infinite")
    if not volume.any():
        raise OutputError(f"{what} is zero everywhere")


def _kept(job: Job, solution: Solution, request: JobRequest) -> str:
    """Up to where the denoised map was kept."""
    regularised = solution.regularised
    shell = f"{regularised.cut_off_angstrom:.2f} Å (shell {regularised.cut_off})"
    if job.mode == CLASSIFICATION:
        return f"denoised up to {shell}, the map itself beyond"
    if getattr(regularised, "beyond_network", False):
        return f"half-maps agree to {shell}, beyond the network's reach"
    if not request.spectral_trailing:
        return f"no spectral trailing, it would cut at {shell}"
    return f"kept up to {shell}"
