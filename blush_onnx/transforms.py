"""Fourier transforms of many lines at once: NumPy's, or SciPy's for large boxes."""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

SCIPY_FROM = 320
"""Side of a box, voxels, from which SciPy's transforms gain more than its import takes."""


def for_side(side: int) -> Any:
    """The module that transforms lines of a box of this side.

    Both hold the same algorithm. SciPy's transforms several lines of single precision in one
    go, which takes 0.4 of the time, but some 0.3 s to import. They differ by rounding alone.

    Parameters
    ----------
    side : int
        The larger, where a box is cropped or padded; voxels.

    Returns
    -------
    module
        ``fft``, ``ifft``, ``rfft`` and ``irfft``, called as NumPy's.
    """
    return _scipy() if side >= SCIPY_FROM else np.fft


@functools.cache
def _scipy() -> Any:
    try:
        return importlib.import_module("scipy.fft")
    except ModuleNotFoundError:
        return np.fft
    except Exception as error:  # made for another NumPy, which shows as many kinds of errors
        logger.warning("NumPy transforms, because SciPy does not start: %s", error)
        return np.fft


def single(spectrum: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.complex64]:
    """A spectrum in single precision, itself where it is; NumPy before 2 gives double."""
    return spectrum.astype(np.complex64, copy=False)


def resize_first(spectrum: npt.NDArray[np.complex64], side: int) -> npt.NDArray[np.complex64]:
    """Crop or zero-pad the first axis in FFTW order, −k/2 … k/2 − 1 of the smaller side."""
    old = spectrum.shape[0]
    if old == side:
        return spectrum
    half = min(old, side) // 2
    result = np.zeros((side, *spectrum.shape[1:]), dtype=np.complex64)
    result[:half], result[-half:] = spectrum[:half], spectrum[-half:]
    return result
