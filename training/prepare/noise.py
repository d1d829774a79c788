"""Noise as reconstruction leaves it: the CTF's colour, uneven views, streaks, an FSC that falls.

A reconstruction divides the sum of CTF-modulated Fourier slices by the sum of squared
CTFs. White noise in the images so becomes noise whose power is one over that sum: it
rises where the CTFs are weak (towards zero frequency), where few views have a slice, and
with the radius, for all slices pass through the origin and spread out from there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from blush_onnx.fourier import Volume
from training.prepare.density import squared_frequency

HALF_MAP_FSC = 0.143
HIGHEST_ORDER = 12
"""Of the Legendre series for a cluster of views."""
THINNEST_COVERAGE = 0.03
"""Of the mean; where views are fewer, reconstructions fall back on their own floor."""

Floats = npt.NDArray[np.float32]


def ctf_weight(
    frequency: npt.NDArray[np.floating], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Mean squared CTF over a data set's defocus, relative to its plateau of one half.

    Parameters
    ----------
    frequency : array
        1/Å.
    rng : Generator
        Draws 200 or 300 kV, a range of defocus and the amplitude contrast.

    Returns
    -------
    array like `frequency`
    """
    wavelength, aberration = [(0.0197, 2.7e7), (0.0251, 2.7e7)][rng.integers(2)]
    lowest = rng.uniform(4e3, 1.2e4)
    defocus = rng.uniform(lowest, lowest + rng.uniform(5e3, 2e4), 200)[:, None]
    amplitude = rng.uniform(0.07, 0.12)
    squared = np.square(np.asarray(frequency, dtype=np.float64)).ravel()
    spherical = np.pi / 2 * aberration * wavelength**3 * squared**2
    phase = np.pi * wavelength * defocus * squared - spherical
    value = np.mean(np.sin(phase + np.arcsin(amplitude)) ** 2, axis=0)
    return np.asarray((value / 0.5).reshape(np.shape(frequency)))


def coverage(side: int, rng: np.random.Generator, evenness: float | None = None) -> Floats:
    """How often each direction of Fourier space is covered by the views' slices.

    Views are spread evenly in part and else gathered in one to three clusters (von
    Mises–Fisher). A cluster's coverage is the mean over great circles of its density (the
    Funk transform), which in Legendre polynomials multiplies order l by P_l(0).

    Parameters
    ----------
    side : int
        Of the box, voxels.
    rng : Generator
    evenness : float, optional
        Share of the views that is spread evenly; drawn by default.

    Returns
    -------
    array, (side, side, side // 2 + 1), float32
        Mean about 1, FFT order; symmetric under inversion.
    """
    if evenness is None:
        evenness = rng.beta(1.2, 1.2)
    whole, half = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    z, y, x = whole[:, None, None], whole[None, :, None], half[None, None, :]
    length = np.sqrt(z**2 + y**2 + x**2)
    length[0, 0, 0] = 1
    weights = rng.dirichlet(np.ones(rng.integers(1, 4)))
    total = np.full(length.shape, evenness)
    for weight in weights:
        axis = rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        cosine = (z * axis[0] + y * axis[1] + x * axis[2]) / length
        total += (1 - evenness) * weight * _cluster_coverage(cosine, rng.uniform(1, 15))
    return np.maximum(total, THINNEST_COVERAGE).astype(np.float32)


def _cluster_coverage(
    cosine: npt.NDArray[np.float64], concentration: float
) -> npt.NDArray[np.float64]:
    """Coverage by views gathered about an axis, at an angle to that axis."""
    coefficients = np.zeros(HIGHEST_ORDER + 1)
    # Order l of a von Mises–Fisher density is a ratio of modified Bessel functions.
    bessel = special.ive(np.arange(HIGHEST_ORDER + 1) + 0.5, concentration)
    for order in range(0, HIGHEST_ORDER + 1, 2):
        at_zero = special.eval_legendre(order, 0.0)
        coefficients[order] = (2 * order + 1) * at_zero * bessel[order] / bessel[0]
    return np.asarray(np.polynomial.legendre.legval(cosine, coefficients))


def white_noise(side: int, rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    """Half-spectrum of unit white noise, as it would be of a real volume."""
    return np.asarray(fft.rfftn(rng.standard_normal((side,) * 3, dtype=np.float32)))


def streaks(side: int, rng: np.random.Generator) -> Volume:
    """Overfitted noise: constant along rays from the middle, fading with the distance.

    Particles aligned to their own noise build it up in all views that agree about an
    axis; in the map it shows as radial streaks around the particle.

    Parameters
    ----------
    side : int
        Voxels.
    rng : Generator

    Returns
    -------
    array, (side, side, side), float32
        Standard deviation 1 where they are strongest.
    """
    source = rng.standard_normal((side,) * 3, dtype=np.float32)
    coordinates = np.arange(side, dtype=np.float32) - side // 2
    z, y, x = coordinates[:, None, None], coordinates[None, :, None], coordinates[None, None, :]
    radius = np.sqrt(z**2 + y**2 + x**2)
    shell = np.float32(side * rng.uniform(0.12, 0.3))
    scale = shell / np.maximum(radius, 1)
    index = [np.rint(axis * scale).astype(np.int16) + side // 2 for axis in (z, y, x)]
    fading = np.exp(-(((radius - shell) / (0.15 * side)) ** 2))
    return np.asarray(source[index[0], index[1], index[2]] * fading, dtype=np.float32)


def shell_power(spectrum: npt.NDArray[np.complexfloating], shells: npt.NDArray[np.intp]) -> Floats:
    """Mean power in each shell of a half-spectrum, from 0 to Nyquist.

    Parameters
    ----------
    spectrum : array, (side, side, side // 2 + 1), complex
    shells : array like `spectrum`, int
        From :func:`shell_numbers`.

    Returns
    -------
    array, (side // 2 + 1,), float32
    """
    last = spectrum.shape[0] // 2
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    total = np.bincount(shells.ravel(), power.ravel(), minlength=last + 1)[: last + 1]
    count = np.bincount(shells.ravel(), minlength=last + 1)[: last + 1]
    return np.asarray(total / count, dtype=np.float32)


def shell_numbers(side: int) -> npt.NDArray[np.intp]:
    """Nearest shell of every element of a half-spectrum, FFT order."""
    return np.asarray(np.rint(np.sqrt(squared_frequency(side, 1.0)) * side), dtype=np.intp)


def noise_scale(signal: Floats, noise: Floats, shell: float) -> float:
    """Amplitude that noise must be multiplied with for the FSC to be 0.143 at a shell.

    The half-maps' FSC is S/(S + N), their powers S and N taken as means over the five
    shells about `shell`.

    Parameters
    ----------
    signal, noise : array, (shells,)
        Mean power in each shell.
    shell : float
        Index.

    Returns
    -------
    float
    """
    middle = int(np.clip(round(shell), 2, len(signal) - 3))
    around = slice(middle - 2, middle + 3)
    wanted = (1 / HALF_MAP_FSC - 1) * float(np.mean(signal[around]))
    return float(np.sqrt(wanted / max(float(np.mean(noise[around])), 1e-30)))
