"""The Fourier shell correlation of two half-maps, and what is read off it.

Formulas: docs/numerics.md, sections 5 (cut-off) and 8 (FSC), where it is also said what
`like_relion` does: exactly what ``relion_postprocess`` does, for comparison with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.errors import InputError
from blush_onnx.fourier import HalfSpectrum, Volume
from blush_onnx.resolution import shell_to_angstrom

Curve = npt.NDArray[np.float64]

CUT_OFF_THRESHOLD = 1 / 7
RANDOMISE_BELOW = 0.8
DEFAULT_SEED = 20240611


@dataclass(frozen=True)
class FscCurves:
    """FSC of two half-maps; a curve has box_size // 2 + 1 values, one a shell.

    Attributes
    ----------
    box_size, voxel_size : int, float
        Side of the even cube the curves were taken in, voxels; Å.
    unmasked : array or None
        Of the whole boxes; None where the caller gave a curve of its own.
    masked, randomised, corrected : array or None
        Under the mask; the same with randomised phases; solvent-corrected. None
        without a mask.
    randomised_from, seed : int or None
        First shell with randomised phases, and the seed of these.
    given : array or None
        The caller's own curve.
    """

    box_size: int
    voxel_size: float
    unmasked: Curve | None = None
    masked: Curve | None = None
    randomised: Curve | None = None
    corrected: Curve | None = None
    randomised_from: int | None = None
    seed: int | None = None
    given: Curve | None = None

    @property
    def decisive(self) -> Curve:
        """The curve that decides: the caller's, else the corrected, else the unmasked one."""
        for curve in (self.given, self.corrected, self.unmasked):
            if curve is not None:
                return curve
        raise ValueError("no curve at all")

    def resolution(self, threshold: float = 0.143) -> float:
        """Resolution of the decisive curve, Å; infinite where the first shell is below."""
        return resolution(self.decisive, self.box_size, self.voxel_size, threshold)


def correlate(first: HalfSpectrum, second: HalfSpectrum, *, like_relion: bool = False) -> Curve:
    """FSC of two half-spectra.

    Shell = round(r) up to side/2; of the half-spectrum the plane kx = 0 counts
    once, the others twice. Shell 0, the mean, carries no resolution and is set to 1.

    Parameters
    ----------
    first, second : array, (side, side, side // 2 + 1), complex64
    like_relion : bool
        Count all elements of the half-spectrum alike, the plane kx = 0 thus double.

    Returns
    -------
    array, (side // 2 + 1,), float64
        0 in a shell where one of the two is zero throughout.
    """
    a, b = first, second
    factor = np.ones(first.shape[-1])
    factor[0] = 2.0 if like_relion else 1.0
    product, first_power, second_power = fourier.sum_by_shell(
        first.shape[0],
        lambda z: (a[z].astype(np.complex128) * b[z].conj()).real * factor,
        lambda z: np.square(np.abs(a[z]), dtype=np.float64) * factor,
        lambda z: np.square(np.abs(b[z]), dtype=np.float64) * factor,
    )
    norm = np.sqrt(first_power * second_power)
    curve = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
    curve[0] = 1.0
    return np.asarray(curve)


def fsc(
    first: Volume, second: Volume, mask: Volume | None = None, *, like_relion: bool = False
) -> Curve:
    """FSC of two maps in even cubic boxes, optionally under a mask.

    Parameters
    ----------
    first, second : array, (side, side, side), float32
    mask : array like them, optional
        Multiplied into both.
    like_relion : bool
        As for :func:`correlate`.

    Returns
    -------
    array, (side // 2 + 1,), float64
    """
    if mask is not None:
        first, second = first * mask, second * mask
    return correlate(fourier.forward(first), fourier.forward(second), like_relion=like_relion)


def half_map_fsc(
    first: Volume, second: Volume, voxel_size: float, mask: Volume | None = None,
    *, like_relion: bool = False,
) -> FscCurves:
    """FSC of two half-maps: of the whole boxes, and with a mask also solvent-corrected.

    Parameters
    ----------
    first, second : array, (z, y, x), float32
        Half-maps; boxes that are not even cubes are put into one.
    voxel_size : float
        Å.
    mask : array like them, optional
        Soft solvent mask, 0…1.
    like_relion : bool
        As for :func:`correlate` and :func:`solvent_corrected`.

    Returns
    -------
    FscCurves
    """
    box = EvenCube.around(first.shape)
    first, second = box.pad_volume(first), box.pad_volume(second)
    if mask is None:
        return FscCurves(box.side, voxel_size, fsc(first, second, like_relion=like_relion))
    mask = box.pad_mask(mask)
    return solvent_corrected(first, second, mask, voxel_size, like_relion=like_relion)


def solvent_corrected(
    first: Volume, second: Volume, mask: Volume, voxel_size: float, *,
    seed: int = DEFAULT_SEED, like_relion: bool = False,
) -> FscCurves:
    """Unmasked, masked, phase-randomised and solvent-corrected FSC.

    The phases of both halves are randomised from the first shell whose unmasked FSC is
    below 0.8; what correlation the mask makes is taken out two shells further on and beyond.

    Parameters
    ----------
    first, second : array, (side, side, side), float32
        Half-maps in even cubic boxes.
    mask : array like them
        Soft solvent mask, 0…1.
    voxel_size : float
        Å.
    seed : int
        Of the random phases.
    like_relion : bool
        As for :func:`correlate`; and randomise where r itself reaches the first shell.

    Returns
    -------
    FscCurves
    """
    side = first.shape[0]
    spectra = fourier.forward(first), fourier.forward(second)
    unmasked = correlate(*spectra, like_relion=like_relion)
    masked = fsc(first, second, mask, like_relion=like_relion)
    below = np.flatnonzero(unmasked[1:] < RANDOMISE_BELOW) + 1
    if below.size == 0:
        return FscCurves(side, voxel_size, unmasked, masked, None, masked.copy(), None, seed)
    start = int(below[0])
    for number, spectrum in enumerate(spectra):
        rng = np.random.default_rng([seed, number])
        randomise_phases(spectrum, start, rng, whole_shells=not like_relion)
    halves = [fourier.inverse(spectrum) for spectrum in spectra]
    randomised = fsc(halves[0], halves[1], mask, like_relion=like_relion)
    corrected = _without(randomised, masked, start + 2)
    return FscCurves(side, voxel_size, unmasked, masked, randomised, corrected, start, seed)


def _without(noise: Curve, masked: Curve, start: int) -> Curve:
    """The masked FSC less the correlation that is the mask's, from a shell on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = np.where(noise > masked, 0.0, (masked - noise) / (1 - noise))
    corrected[~np.isfinite(corrected)] = 0.0
    corrected[:start] = masked[:start]
    return np.asarray(corrected)


def randomise_phases(
    spectrum: HalfSpectrum, start: int, rng: np.random.Generator, *, whole_shells: bool = True
) -> None:
    """Replace the phases from a shell on by random ones, in place; amplitudes stay.

    The phases are those of white noise in real space: the result is that of a real map.

    Parameters
    ----------
    spectrum : array, (side, side, side // 2 + 1), complex64
    start : int
        First shell, round(r).
    rng : numpy.random.Generator
    whole_shells : bool
        False: only where r itself is `start` or more.
    """
    side = spectrum.shape[0]
    noise = fourier.forward(rng.standard_normal((side,) * 3, dtype=np.float32))
    for plane in range(side):
        radius = np.sqrt(fourier.squared_radius_of_plane(side, plane))
        beyond = (np.rint(radius) if whole_shells else radius) >= start
        direction = noise[plane][beyond]
        size = np.abs(direction)
        direction = np.where(size > 0, direction / np.where(size > 0, size, 1), 1)
        spectrum[plane][beyond] = np.abs(spectrum[plane][beyond]) * direction


def resolution(curve: Curve, box_size: int, voxel_size: float, threshold: float) -> float:
    """Resolution in Å at the last shell before a curve first falls below a threshold.

    Parameters
    ----------
    curve : array, (box_size // 2 + 1,)
    box_size, voxel_size : int, float
        Voxels; Å.
    threshold : float
        0.143 or 0.5, as a rule.

    Returns
    -------
    float
        Nyquist where the curve never falls; infinite where shell 1 is below already.
    """
    below = np.flatnonzero(np.asarray(curve)[1:] < threshold) + 1
    shell = int(below[0]) - 1 if below.size else len(curve) - 1
    return shell_to_angstrom(shell, box_size, voxel_size)


def cut_off_shell(curve: npt.ArrayLike) -> tuple[int, int]:
    """Shells ρ and c of spectral trailing (docs/numerics.md, section 5).

    Parameters
    ----------
    curve : array_like, (box_size // 2 + 1,)
        FSC of the half-maps.

    Returns
    -------
    rho : int
        First shell with FSC < 1/7; the number of shells where there is none or it is shell 0.
    cut_off : int
        ρ − 2, not less than 1.
    """
    values = np.asarray(curve, dtype=np.float64)
    below = np.flatnonzero(values < CUT_OFF_THRESHOLD)
    rho = int(below[0]) if below.size and below[0] > 0 else len(values)
    return rho, max(rho - 2, 1)


def check_curve(values: npt.ArrayLike, shells: int) -> Curve:
    """A caller's FSC as an array.

    Parameters
    ----------
    values : array_like, (shells,)
    shells : int
        How many values it should have.

    Returns
    -------
    array, (shells,), float64

    Raises
    ------
    InputError
        Another number of values than shells, or values that are not finite.
    """
    curve = np.asarray(values, dtype=np.float64)
    if curve.shape != (shells,):
        raise InputError(
            f"the FSC has the shape {curve.shape}: expected {shells} values, one for each shell "
            "from 0 to half the box"
        )
    if not np.isfinite(curve).all():
        raise InputError("the FSC has values that are NaN or infinite")
    return curve
