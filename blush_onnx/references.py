"""What regularisation returns: maps to align particles to, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.denoiser import Denoised
from blush_onnx.fsc import FscCurves

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RegularisedHalf:
    """One half-map turned into a reference.

    Attributes
    ----------
    map : array, (z, y, x), float32
        The reference: denoised up to the cut-off.
    denoised : array like map
        What the network returned under the mask, before the cut-off.
    rho, cut_off : int
        First shell with FSC < 1/7, and the shell that the denoised map is used up
        to; in shells of the even cube around the box.
    rho_angstrom, cut_off_angstrom : float
        The same as resolutions, Å.
    beyond_network : bool
        Whether the half-map reaches further than the network, so that the
        regularised map fills the shells beyond its limit.
    solvent_mask : array like map
        The network's own mask, 0…1.
    network : Denoised
        Patches, model and engine; its maps are at the model's voxel size.
    warnings : tuple of str
    """

    map: Array
    denoised: Array
    rho: int
    rho_angstrom: float
    cut_off: int
    cut_off_angstrom: float
    beyond_network: bool
    solvent_mask: Array
    network: Denoised
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RegularisedClass:
    """One class map turned into a reference.

    Attributes
    ----------
    map : array, (z, y, x), float32
    solvent_mask : array like map
    cut_off, cut_off_angstrom : int, float
        Shell where the network's output hands over, and the same in Å.
    network : Denoised
        Patches, model and engine; its maps are at the model's voxel size.
    warnings : tuple of str
    """

    map: Array
    solvent_mask: Array
    cut_off: int
    cut_off_angstrom: float
    network: Denoised
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Regularised:
    """Two half-maps turned into two references.

    Attributes
    ----------
    reference_1, reference_2 : array, (z, y, x), float32
        One of each half; not independent half-maps any more, never to be deposited
        as such, nor to be compared with each other by FSC.
    average : array like them
        Their mean.
    fsc : FscCurves
        Of the half-maps as they were given.
    rho, cut_off : int
    rho_angstrom, cut_off_angstrom : float
        As in :class:`RegularisedHalf`.
    beyond_network : bool
    solvent_mask : array
        Mean of the network's masks of the two halves.
    halves : tuple of RegularisedHalf
    warnings : tuple of str
    """

    reference_1: Array
    reference_2: Array
    average: Array
    fsc: FscCurves
    rho: int
    rho_angstrom: float
    cut_off: int
    cut_off_angstrom: float
    beyond_network: bool
    solvent_mask: Array
    halves: tuple[RegularisedHalf, RegularisedHalf]
    warnings: tuple[str, ...]

    @property
    def network(self) -> Denoised:
        """Patches, model and engine of the first half; those of the second are the same."""
        return self.halves[0].network
