"""What the denoiser changed, shell by shell (docs/numerics.md, section 15)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.errors import InputError
from blush_onnx.fourier import HalfSpectrum, Volume

Curve = npt.NDArray[np.float64]

LARGEST_SHARE_BEYOND = 1e-6
"""Of a reference's energy, at ρ and beyond, with spectral trailing."""


@dataclass(frozen=True)
class ShellAccount:
    """Before and after, one value a shell of the even cube around the box.

    Attributes
    ----------
    amplitude_ratio : array, (side // 2 + 1,), float64
        Root of the shell's energy after over that before; 0 where there was none.
    phase_change_degrees : array like it
        Mean change of the phase, 0…180, weighted by the amplitudes before and after; 90
        is what unrelated phases give. NaN where a map holds nothing.
    correlation : array like it
        Fourier shell correlation of before and after.
    energy_share : array like it
        Of the energy of the map after, what the shell holds.
    rho : int or None
        First shell beyond which the halves do not agree.
    share_beyond_rho : float or None
        Of the energy of the map after, what lies in shell ρ and beyond, the corners of
        the box included.
    """

    amplitude_ratio: Curve
    phase_change_degrees: Curve
    correlation: Curve
    energy_share: Curve
    rho: int | None
    share_beyond_rho: float | None

    @property
    def keeps_to_rho(self) -> bool | None:
        """Whether next to nothing (1e-6) lies beyond ρ; None where no ρ was given."""
        if self.share_beyond_rho is None:
            return None
        return self.share_beyond_rho <= LARGEST_SHARE_BEYOND


def account_by_shell(before: Volume, after: Volume, *, rho: int | None = None) -> ShellAccount:
    """Compare a map before and after denoising, shell by shell.

    Parameters
    ----------
    before, after : array, (z, y, x), float32
        A half-map and the reference made of it.
    rho : int, optional
        Shell of the even cube around the box.

    Returns
    -------
    ShellAccount

    Raises
    ------
    InputError
        The maps have different boxes.
    """
    if before.shape != after.shape:
        raise InputError(f"the maps have different boxes, {before.shape} and {after.shape}")
    box = EvenCube.around(before.shape)
    # Around a reference there is nothing; the median of its border would be a step.
    b, a = fourier.forward(box.pad_volume(before)), fourier.forward(box.pad_mask(after))
    old, new, product, weight, turned = fourier.sum_by_shell(
        box.side,
        lambda z: np.square(np.abs(b[z]), dtype=np.float64),
        lambda z: np.square(np.abs(a[z]), dtype=np.float64),
        lambda z: _product(a, b, z).real,
        lambda z: np.abs(_product(a, b, z)),
        lambda z: np.abs(_product(a, b, z)) * np.abs(np.angle(_product(a, b, z))),
    )
    total, beyond = _energy(a, len(old) if rho is None else rho)
    return ShellAccount(
        np.sqrt(_over(new, old, 0)),
        np.degrees(_over(turned, weight, np.nan)),
        _over(product, np.sqrt(old * new), 0),
        _over(new, np.full_like(new, total), 0),
        rho,
        None if rho is None else beyond / total if total > 0 else 0.0,
    )


def _product(a: HalfSpectrum, b: HalfSpectrum, plane: int) -> npt.NDArray[np.complex128]:
    return np.asarray(a[plane].astype(np.complex128) * b[plane].conj())


def _over(above: Curve, below: Curve, otherwise: float) -> Curve:
    return np.divide(above, below, out=np.full_like(above, otherwise), where=below > 0)


def _energy(spectrum: HalfSpectrum, shell: int) -> tuple[float, float]:
    """Energy of a map, and what of it lies in a shell and beyond, corners included."""
    side = spectrum.shape[0]
    total = beyond = 0.0
    for plane in range(side):
        energy = np.square(np.abs(spectrum[plane]), dtype=np.float64)
        energy[:, 1:-1] *= 2  # their mates with negative kx
        radius = np.rint(np.sqrt(fourier.squared_radius_of_plane(side, plane)))
        total += float(energy.sum())
        beyond += float(energy[radius >= shell].sum())
    return total, beyond
