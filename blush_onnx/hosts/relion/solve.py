"""The maps that a job gets back: the three modes (docs/numerics.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser, Progress
from blush_onnx.hosts.relion.job import REFINE, REFINE_FINAL, Job
from blush_onnx.hosts.relion.reconstruct import Reconstructions
from blush_onnx.regularise import regularise_class, regularise_half
from blush_onnx.results import RegularisedClass, RegularisedHalf

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Solution:
    """What a job gets back.

    Attributes
    ----------
    result : array, (box, box, box), float32
        The map that the host reads.
    denoised : array like result, or None
        For final jobs, whose result is the host's own map, the denoised one beside it.
    regularised : RegularisedHalf or RegularisedClass
        How the denoised map came about.
    notes : tuple of str
        What was out of the ordinary, for the log.
    """

    result: Array
    denoised: Array | None
    regularised: RegularisedHalf | RegularisedClass
    notes: tuple[str, ...]


def solve(
    job: Job,
    maps: Reconstructions,
    denoiser: Denoiser,
    *,
    spectral_trailing: bool = True,
    stride: int = DEFAULT_STRIDE,
    progress: Progress | None = None,
) -> Solution:
    """Do a job whose maps are reconstructed: denoise and cut off.

    Parameters
    ----------
    job : Job
    maps : Reconstructions
        Of this job.
    denoiser : Denoiser
    spectral_trailing : bool
        Cut the denoised map off where the half-maps cease to agree.
    stride : int
        Distance of the patches, voxels at the model's voxel size.
    progress : callable, optional
        Called with (done, total) patches; whatever it raises ends the work.

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        The job's arrays do not fit it.
    """
    notes = list(maps.notes)
    if maps.unfiltered is None:  # a classification
        of_class = regularise_class(
            maps.regularised, job.pixel_size, denoiser=denoiser,
            particle_diameter=job.particle_diameter, stride=stride, progress=progress,
        )
        return Solution(of_class.map, None, of_class, (*notes, *of_class.warnings))

    fsc = job.fsc
    if job.mode == REFINE and not np.any(fsc):
        fsc = (np.arange(len(fsc)) < job.current_size // 2).astype(np.float64)
        notes.append("the FSC is zero in every shell: cut off two shells below the current size")
    half = regularise_half(
        maps.unfiltered, job.pixel_size, denoiser=denoiser, fsc=fsc,
        particle_diameter=job.particle_diameter, regularised=maps.regularised,
        spectral_trailing=spectral_trailing, stride=stride, progress=progress,
    )
    notes += half.warnings
    if job.mode == REFINE_FINAL:
        return Solution(maps.regularised, half.map, half, tuple(notes))
    return Solution(half.map, None, half, tuple(notes))
