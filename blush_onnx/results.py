"""What denoising and regularisation return: maps, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from blush_onnx import patches
from blush_onnx.engines.base import EngineDescription
from blush_onnx.fsc import FscCurves
from blush_onnx.grids import Grids

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Denoised:
    """A denoised volume.

    Attributes
    ----------
    density : array, (z, y, x), float32
        On the input's grid and grey scale.
    mask : array like density
        The network's solvent mask, 0…1.
    model, model_sha256 : str
        Which weights.
    engine : EngineDescription
        What evaluated the network.
    patches, patches_skipped : int
        Patches that the network saw, and those outside the mask.
    mask_threshold : float
        Mean of the mask that a patch needed; below 0.3 only for small particles.
    spread : array like density, or None
        Standard deviation of the density over the orientations it was averaged over;
        None where there was but one.
    """

    density: Array
    mask: Array
    model: str
    model_sha256: str | None
    engine: EngineDescription
    patches: int
    patches_skipped: int
    mask_threshold: float
    spread: Array | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, in plain words; mostly nothing."""
        if self.mask_threshold == patches.MINIMUM_MASK_MEAN:
            return ()
        return (
            "the particle is small for the network's patches: patches with a mean of the mask "
            f"down to {self.mask_threshold:.3f} were taken to cover it",
        )


@dataclass(frozen=True)
class RegularisedHalf:
    """One half-map turned into a reference.

    Attributes
    ----------
    map : array, (z, y, x), float32
        The reference: denoised up to the cut-off.
    rho, cut_off : int
        First shell with FSC < 1/7, and the shell that the denoised map is used up
        to; in shells of the even cube around the box.
    rho_angstrom, cut_off_angstrom : float
        The same as resolutions, Å.
    beyond_network : bool
        Whether the half-map reaches further than the network, so that the
        regularised map fills the shells beyond its limit.
    network : Denoised
        Patches, model and engine; its maps are at the model's voxel size.
    network_mask : array like those
        Where the network looked.
    grids : Grids
    warnings : tuple of str
    """

    map: Array
    rho: int
    rho_angstrom: float
    cut_off: int
    cut_off_angstrom: float
    beyond_network: bool
    network: Denoised
    network_mask: Array
    grids: Grids
    warnings: tuple[str, ...]

    @cached_property
    def denoised(self) -> Array:
        """What the network returned under the mask, before the cut-off; like map."""
        spectrum = self.grids.forward(self.network.density * self.network_mask, self.grids.side)
        return self.grids.box.crop(self.grids.inverse(spectrum))

    @cached_property
    def solvent_mask(self) -> Array:
        """The network's own mask, 0…1; like map."""
        return self.grids.mask_from_model(self.network.mask)

    @cached_property
    def spread(self) -> Array | None:
        """Standard deviation of :attr:`denoised` over the orientations; None of one."""
        return _spread_on_map(self.grids, self.network, self.network_mask)


@dataclass(frozen=True)
class RegularisedClass:
    """One class map turned into a reference.

    Attributes
    ----------
    map : array, (z, y, x), float32
    cut_off, cut_off_angstrom : int, float
        Shell where the network's output hands over, and the same in Å.
    network : Denoised
        Patches, model and engine; its maps are at the model's voxel size.
    network_mask : array like those
        Where the network looked.
    grids : Grids
    warnings : tuple of str
    """

    map: Array
    cut_off: int
    cut_off_angstrom: float
    network: Denoised
    network_mask: Array
    grids: Grids
    warnings: tuple[str, ...]

    @cached_property
    def solvent_mask(self) -> Array:
        """The network's own mask, 0…1; like map."""
        return self.grids.mask_from_model(self.network.mask)

    @cached_property
    def spread(self) -> Array | None:
        """Standard deviation of the network's part over the orientations; None of one."""
        return _spread_on_map(self.grids, self.network, self.network_mask)


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

    @cached_property
    def spread(self) -> Array | None:
        """Root mean square of the spreads of the two halves; None of one orientation."""
        first, second = (half.spread for half in self.halves)
        if first is None or second is None:
            return None
        return np.sqrt(0.5 * (np.square(first) + np.square(second)))


def _spread_on_map(grids: Grids, network: Denoised, network_mask: Array) -> Array | None:
    """Spread under the mask that the density is multiplied by, on the map's grid."""
    if network.spread is None:
        return None
    return grids.spread_from_model(network.spread * network_mask)
