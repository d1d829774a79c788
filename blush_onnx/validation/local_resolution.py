"""Local resolution of two half-maps, by their FSC in a moving window.

The method of Cardone, Heymann & Steven, *J. Struct. Biol.* 184 (2013) 226–236 (blocres),
with window and filter exchanged: instead of the shells of many windowed maps, a window
over the products of two band-passed maps. Formulas: docs/numerics.md, section 14.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier, fsc
from blush_onnx.boxes import EvenCube, as_mask, as_volume, check_voxel_size
from blush_onnx.errors import InputError
from blush_onnx.fourier import HalfSpectrum, Volume
from blush_onnx.machine import require_memory
from blush_onnx.threads import keep_freed_blocks
from blush_onnx.validation.band_fsc import band_fsc, fast_even

Array = npt.NDArray[np.float32]
Progress = Callable[[int, int], object]

WINDOW_TO_RESOLUTION = 5.0
"""Window by default, over the resolution of the whole halves."""
SMALLEST_WINDOW, USUAL_SMALLEST_WINDOW = 5, 10
"""Voxels; of the window as given, and by default."""
LARGEST_WINDOW, USUAL_LARGEST_WINDOW = 0.5, 0.25
"""Shares of the box; likewise."""
WHOLE_THRESHOLD = 0.143
"""Of the FSC of the whole halves that the default window follows."""
BANDS_A_WIDTH = 2
POINTS_A_WINDOW = 6
SMALLEST_SHELL_POWER = 1e-12
"""Of the strongest shell's, below which there is only rounding."""
BYTES_A_VOXEL = 40


@dataclass(frozen=True)
class LocalResolution:
    """Resolution at every voxel.

    Attributes
    ----------
    map : array, (z, y, x), float32
        Å, on the half-maps' grid; finite everywhere.
    voxel_size : float
        Å.
    window_angstrom : float
        Width of the window at half its height, Å.
    threshold : float
        Of the local FSC.
    coarsest, finest : float
        Å; what the map says where the halves do not agree even in the lowest band, and
        where they agree up to Nyquist.
    quartiles : tuple of float
        25th, 50th and 75th percentile under the mask, Å.
    """

    map: Array
    voxel_size: float
    window_angstrom: float
    threshold: float
    coarsest: float
    finest: float
    quartiles: tuple[float, float, float]


def local_resolution(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    voxel_size: float,
    *,
    mask: npt.ArrayLike | None = None,
    window_angstrom: float | None = None,
    threshold: float = 0.5,
    workers: int = 1,
    progress: Progress | None = None,
) -> LocalResolution:
    """Resolution of two half-maps at every voxel.

    The window decides what is seen. A wide one averages over more of the structure, so
    that its FSC is less noisy but smears borders between good and poor regions; a narrow
    one follows them, but has so few Fourier elements that noise passes the threshold by
    chance. Small windows go with 0.5, not with 0.143.

    Parameters
    ----------
    first, second : array_like, (z, y, x), real
        Unmasked, unfiltered half-maps.
    voxel_size : float
        Å, from 0.3 to 8.
    mask : array_like, like the half-maps, optional
        Where the quartiles are taken, at and above half its maximum; it does not change
        the map.
    window_angstrom : float, optional
        Width at half height of the Gaussian window, Å, from 5 voxels to half the box.
        None: five times the resolution of the whole halves (unmasked FSC of 0.143), but
        not less than 10 voxels and not more than a quarter of the box.
    threshold : float
        Of the local FSC, above 0 and below 1.
    workers : int
        Threads; the result does not depend on them.
    progress : callable, optional
        Called with (done, total) bands; whatever it raises ends the work.

    Returns
    -------
    LocalResolution

    Raises
    ------
    InputError
        The halves differ in shape or are the same map, or an argument is out of its range.
    OutOfMemoryError
        The work would not fit.
    """
    voxel_size = check_voxel_size(voxel_size)
    if not 0 < threshold < 1:
        raise InputError(f"threshold {threshold:g}: give one between 0 and 1, as a rule 0.5")
    halves = _checked(first, second)
    weights = None if mask is None else as_mask(mask, halves[0].shape)
    box = EvenCube.around(halves[0].shape)
    require_memory(BYTES_A_VOXEL * box.side**3, f"local resolution in a box of {box.side} voxels")
    keep_freed_blocks()
    spectra = tuple(_whitened(box.pad_volume(half), workers) for half in halves)
    window = _window(window_angstrom, spectra, voxel_size)
    width = box.side * voxel_size / window
    shells = resolution_shells(spectra, width, threshold, workers, progress)
    del spectra
    found = box.crop(_stretched(shells, box.side))
    np.divide(np.float32(box.side * voxel_size), found, out=found)
    inside = found if weights is None else found[weights >= 0.5 * weights.max()]
    low, middle, high = (float(q) for q in np.percentile(inside, (25, 50, 75)))
    return LocalResolution(
        found, voxel_size, window, threshold, window, 2 * voxel_size, (low, middle, high)
    )


def resolution_shells(
    spectra: tuple[HalfSpectrum, ...], width: float, threshold: float, workers: int = 1,
    progress: Progress | None = None,
) -> Array:
    """Shell at which the local FSC first falls below a threshold, linear between bands.

    Bands above that in which the last point has fallen are not looked at.

    Parameters
    ----------
    spectra : two arrays, (side, side, side // 2 + 1), complex64
    width : float
        Half the width of a band, shells: the length of the box over the window's.
    threshold : float
    workers : int
    progress : callable, optional

    Returns
    -------
    array, (n, n, n), float32
        On a coarse grid over the box; the lowest band's middle where that is below
        already, half the side where no band is.
    """
    side = spectra[0].shape[0]
    centres = np.arange(width, side / 2, width / BANDS_A_WIDTH)
    points = min(side, fast_even(POINTS_A_WINDOW * width))
    found = np.full((points,) * 3, side / 2)
    above = np.ones(found.shape, dtype=bool)
    before = np.ones(found.shape)
    for number, centre in enumerate(centres):
        curve = band_fsc(spectra, float(centre), width, points, workers)
        fallen = above & (curve < threshold)
        drop = before[fallen] - curve[fallen]
        share = (before[fallen] - threshold) / drop if number else 1.0
        found[fallen] = centre + (share - 1) * width / BANDS_A_WIDTH
        above &= ~fallen
        before = curve
        done = number + 1 if above.any() else len(centres)
        if progress is not None:
            progress(done, len(centres))
        if done == len(centres):
            break
    return found.astype(np.float32)


def _checked(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Array, Array]:
    a, b = as_volume(first, "half-map 1"), as_volume(second, "half-map 2")
    if a.shape != b.shape:
        raise InputError(f"the half-maps have different boxes, {a.shape} and {b.shape}")
    if np.array_equal(a, b):
        raise InputError("the two half-maps are the same map: give the two independent halves")
    return a, b


def _whitened(half: Volume, workers: int) -> HalfSpectrum:
    """Spectrum of a half-map with the mean power of every shell brought to 1.

    Within a band no shell then outweighs the others, as it would where the power falls
    steeply; a local FSC does not depend on such factors but for that. Corners become 0.
    """
    spectrum = fourier.forward(half, workers=workers)
    side = spectrum.shape[0]
    power, count = fourier.sum_by_shell(
        side,
        lambda z: np.square(np.abs(spectrum[z]), dtype=np.float64),
        lambda z: np.ones(spectrum[z].shape),
    )
    power /= count
    power = np.maximum(power, SMALLEST_SHELL_POWER * power[1:].max())
    radius = np.sqrt(np.arange(3 * (side // 2) ** 2 + 1))
    shells = np.arange(len(power))
    factor = np.interp(radius, shells, power**-0.5, right=0).astype(np.float32)
    for z in range(side):
        spectrum[z] *= factor[fourier.squared_radius_of_plane(side, z)]
    return spectrum


def _window(
    given: float | None, spectra: tuple[HalfSpectrum, ...], voxel_size: float
) -> float:
    """Width of the window at half height, Å."""
    side = spectra[0].shape[0]
    length = side * voxel_size
    least, most = SMALLEST_WINDOW * voxel_size, LARGEST_WINDOW * length
    if least > most:
        raise InputError(
            f"the box of {side} voxels is too small for local resolution: at least "
            f"{math.ceil(SMALLEST_WINDOW / LARGEST_WINDOW)} are needed"
        )
    if given is not None:
        if not least <= given <= most:
            raise InputError(
                f"a window of {given:g} Å does not fit this map: give one from {least:.1f} Å "
                f"(5 voxels) to {most:.1f} Å (half the box)"
            )
        return float(given)
    whole = fsc.resolution(fsc.correlate(*spectra), side, voxel_size, WHOLE_THRESHOLD)
    wanted = max(WINDOW_TO_RESOLUTION * whole, USUAL_SMALLEST_WINDOW * voxel_size)
    return float(max(min(wanted, USUAL_LARGEST_WINDOW * length), least))


def _stretched(coarse: Array, side: int) -> Array:
    """A periodic coarse grid on a box of `side`, linear between its points along each axis."""
    points = coarse.shape[0]
    place = np.arange(side) * (points / side)
    low = place.astype(int)
    share = (place - low).astype(np.float32)
    high = (low + 1) % points
    rows = coarse[:, low] * (1 - share)[:, None] + coarse[:, high] * share[:, None]
    planes = rows[:, :, low] * (1 - share) + rows[:, :, high] * share
    fine = np.empty((side,) * 3, dtype=np.float32)
    for z in range(side):
        fine[z] = planes[low[z]] * (1 - share[z]) + planes[high[z]] * share[z]
    return fine
