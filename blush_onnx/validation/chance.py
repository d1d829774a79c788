"""How far an FSC strays from its expectation by chance (docs/numerics.md, section 15)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.fourier import HalfSpectrum, Volume

Curve = npt.NDArray[np.float64]


def shell_counts(side: int) -> Curve:
    """Fourier voxels of each shell of the whole transform, (side // 2 + 1,)."""
    ones = np.ones((side, side // 2 + 1))
    return np.asarray(fourier.sum_by_shell(side, lambda _: ones)[0])


def expected_spread(first: Volume, second: Volume, start: int) -> Curve:
    """Standard deviation of the FSC of two maps that share nothing, for each shell.

    1/√n for n voxels of white noise that fills the box. Noise that fills only a part
    of it, as under a mask or in a sphere, has fewer independent voxels; how many is
    read off where the two maps hold their energy beyond a shell.

    Parameters
    ----------
    first, second : array, (side, side, side), float32
        As they are correlated: under their mask.
    start : int
        First shell of the noise.

    Returns
    -------
    array, (side // 2 + 1,), float64
        Infinite where a map holds nothing beyond `start`.
    """
    side = first.shape[0]
    energies = [np.square(_beyond(fourier.forward(v), start)) for v in (first, second)]
    sums = [float(e.sum(dtype=np.float64)) for e in energies]
    if min(sums) <= 0:
        return np.full(side // 2 + 1, np.inf)
    together = float(np.vdot(energies[0].astype(np.float64), energies[1]))
    concentration = max(side**3 * together / (sums[0] * sums[1]), 1.0)
    return np.asarray(np.sqrt(concentration / shell_counts(side)))


def pooled(values: Curve, spread: Curve) -> tuple[float, float]:
    """Mean of some shells, each weighted by how sure it is, and that mean's spread.

    Parameters
    ----------
    values, spread : array, (shells,)
        At least one.

    Returns
    -------
    mean, spread : float
    """
    weight = 1 / np.square(spread)
    total = float(weight.sum())
    if total <= 0:
        return 0.0, float("inf")
    return float((values * weight).sum() / total), total**-0.5


def _beyond(spectrum: HalfSpectrum, start: int) -> Volume:
    """The part of a map from a shell to Nyquist; the spectrum is overwritten."""
    side = spectrum.shape[0]
    for plane in range(side):
        shell = np.rint(np.sqrt(fourier.squared_radius_of_plane(side, plane)))
        spectrum[plane][(shell < start) | (shell > side // 2)] = 0
    return fourier.inverse(spectrum)
