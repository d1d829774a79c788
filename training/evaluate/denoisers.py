"""What is judged: models, and the filters that they must beat."""

from __future__ import annotations

import os

import numpy as np

from blush_onnx import Denoiser, fourier
from blush_onnx.engines.base import EngineSettings
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.models import Model
from training.evaluate.cases import Case
from training.evaluate.scores import Denoise, Result

STRIDE = 32
THREADS = "BLUSH_TRAINING_THREADS"


def network(model: Model, threads: int | None = None) -> Denoise:
    """A model's own denoising, as in `Denoiser`."""
    denoiser = Denoiser.from_model(model, EngineSettings(threads=threads))

    def denoise(volume: Volume, _case: Case | None) -> Result:
        result = denoiser.denoise_at_model_voxel_size(volume, stride=STRIDE)
        return result.density, result.mask

    return denoise


def identity(volume: Volume, _case: Case | None) -> Result:
    """The input."""
    return volume, None


def gaussian(volume: Volume, case: Case | None) -> Result:
    """Gaussian low-pass with half its amplitude at the true resolution."""
    if case is None:
        return volume, None
    shells = np.arange(volume.shape[0])
    weights = np.exp(-np.log(2) * (shells / case.last_shell) ** 2)
    return fourier.filter_by_shell(volume, weights), None


def wiener(volume: Volume, case: Case | None) -> Result:
    """The best radial filter there is, made from the truth: no program could know it."""
    if case is None:
        return volume, None
    return fourier.filter_by_shell(volume, case.wiener), None


FILTERS: dict[str, Denoise] = {"identity": identity, "gaussian": gaussian, "wiener": wiener}


def threads() -> int | None:
    """``$BLUSH_TRAINING_THREADS``, to leave processors to others; None: all.

    Raises
    ------
    InputError
        It is no number of at least 1.
    """
    value = os.environ.get(THREADS)
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"{THREADS}={value}: give a number of threads, at least 1")
    return number
