"""The local FSC of two maps in one band of shells, fast. Formulas: docs/numerics.md, section 14."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.fourier import HalfSpectrum, Volume
from blush_onnx.threads import by_plane

Array = npt.NDArray[np.float32]

ALIASING_MARGIN = 1.5
"""Widths of a band; the window's transform has fallen to 3e-4 there."""
FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))
SMALLEST_POWER = 1e-6
"""Of the largest local power in a band, below which there is nothing to correlate."""


def band_fsc(
    spectra: tuple[HalfSpectrum, ...], centre: float, width: float, points: int,
    workers: int = 1,
) -> npt.NDArray[np.float64]:
    """Local FSC of one band, on a coarse grid: Σ f₁f₂ / √(Σ f₁² · Σ f₂²).

    f₁ and f₂ are the halves under a cosine band, the sums are under a Gaussian window.
    The band lives in a box no larger than its products need.

    Parameters
    ----------
    spectra : two arrays, (side, side, side // 2 + 1), complex64
        With as much power in every shell (to be read alike across the band).
    centre, width : float
        Middle of the band, and from there to where it is zero, shells.
    points : int
        Side of the coarse grid, even.
    workers : int

    Returns
    -------
    array, (points, points, points), float64
        −1…1; 0 where one half is next to nothing.
    """
    side = spectra[0].shape[0]
    reach = min(centre + width, side / 2)
    kept = min(side, 2 * int(reach) + 2)
    room = min(side, fast_even(max(kept, 2 * reach + ALIASING_MARGIN * width)))
    band = _band(centre, width, reach)
    first, second = (_band_passed(s, band, kept, room, workers) for s in spectra)
    cross = _smoothed(first * second, width, points, workers)
    power = [
        _smoothed(np.square(half, out=half), width, points, workers) for half in (first, second)
    ]
    norm = np.ones(cross.shape)
    for each in power:
        norm *= np.maximum(each, 0)
    enough = (power[0] > SMALLEST_POWER * power[0].max()) & (
        power[1] > SMALLEST_POWER * power[1].max()
    )
    curve = np.divide(cross, np.sqrt(norm), out=np.zeros(cross.shape), where=enough)
    return np.asarray(np.clip(curve, -1, 1))


def fast_even(least: float) -> int:
    """Smallest even side that is not less and whose half has no prime factor above 7.

    Transforms of such sides are fast.

    Parameters
    ----------
    least : float
        Voxels.

    Returns
    -------
    int
    """
    half = max(math.ceil(least / 2), 1)
    while True:
        rest = half
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return 2 * half
        half += 1


def _band(centre: float, width: float, reach: float) -> Array:
    """Weights of a band by the squared shell index; the last one, 0, is that of all beyond."""
    radius = np.sqrt(np.arange(int(reach**2) + 2))
    offset = (radius - centre) / width
    inside = (np.abs(offset) < 1) & (radius <= reach)
    return np.where(inside, np.cos(np.pi / 2 * offset), 0).astype(np.float32)


def _band_passed(
    spectrum: HalfSpectrum, band: Array, kept: int, side: int, workers: int
) -> Volume:
    """What a band leaves of a map, on a box of `side`; nothing is beyond ± `kept` / 2."""
    old, half = spectrum.shape[0], kept // 2
    index = np.r_[0:half, old - half : old]
    weighted = np.empty((kept, kept, half + 1), dtype=np.complex64)

    def weigh(planes: range) -> None:
        for z in planes:
            squared = fourier.squared_radius_of_plane(kept, z)
            weight = band[np.minimum(squared, len(band) - 1)]
            np.multiply(spectrum[index[z]][index, : half + 1], weight, out=weighted[z])

    by_plane(weigh, kept, workers)
    return fourier.inverse(weighted, side, workers)


def _smoothed(product: Volume, width: float, points: int, workers: int) -> Volume:
    """A product under the window, on the coarse grid."""
    spectrum = fourier.forward(product, points, workers)
    decay = 2 * (np.pi / (FWHM_OF_SIGMA * width)) ** 2
    for z in range(points):
        squared = fourier.squared_radius_of_plane(points, z)
        spectrum[z] *= np.exp(-decay * squared).astype(np.float32)
    return fourier.inverse(spectrum, workers=workers)
