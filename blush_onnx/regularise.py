"""References for refinement: one half-map, one class, or two half-maps.

This is what every host calls. Formulas: docs/numerics.md, section 5.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier, masks
from blush_onnx.boxes import EvenCube, as_mask, as_volume, check_voxel_size
from blush_onnx.denoiser import (
    DEFAULT_STRIDE,
    Denoised,
    Denoiser,
    Progress,
    model_side,
)
from blush_onnx.errors import InputError
from blush_onnx.fsc import (
    CUT_OFF_THRESHOLD,
    FscCurves,
    check_curve,
    cut_off_shell,
    solvent_corrected,
)
from blush_onnx.fsc import fsc as correlation

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]

NETWORK_LIMIT_IN_HALF = 3
NETWORK_LIMIT_IN_CLASS = 2
"""Shells below the end of the model's half-spectrum at which its output is no longer used."""
MASK_EDGE_PER_VOXEL_SIZE = 20
CLASS_MASK_EDGE_ANGSTROM = 10
SHELL_ROUNDING = 1e-6


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


def regularise_half(
    unfiltered: npt.ArrayLike,
    voxel_size: float,
    *,
    denoiser: Denoiser,
    fsc: npt.ArrayLike,
    particle_diameter: float | None,
    regularised: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    spectral_trailing: bool = True,
    cut_off: float | None = None,
    stride: int = DEFAULT_STRIDE,
    progress: Progress | None = None,
) -> RegularisedHalf:
    """Denoise one half-map and keep it up to where the half-maps agree.

    Parameters
    ----------
    unfiltered : array_like, (z, y, x), real
        The unfiltered half-map.
    voxel_size : float
        Å, from 0.3 to 8.
    denoiser : Denoiser
    fsc : array_like, (N // 2 + 1,)
        FSC of the two half-maps, one value a shell; N the longest side.
    particle_diameter : float or None
        Å; None: the largest sphere.
    regularised : array_like, like `unfiltered`, optional
        The host's Wiener-filtered map, which fills the shells that the network
        cannot reach. None: the half-map times the FSC.
    mask : array_like, like `unfiltered`, optional
        Replaces the spherical masks.
    spectral_trailing : bool
        Cut the denoised map off where the half-maps cease to agree.
    cut_off : float, optional
        Å; replaces the cut-off read off the FSC, and nothing is kept beyond it.
    stride : int
        Distance of the patches, voxels at the model's voxel size.
    progress : callable, optional
        Called with (done, total) patches; whatever it raises ends the work.

    Returns
    -------
    RegularisedHalf

    Raises
    ------
    InputError
        An argument is out of its range.
    OutOfMemoryError
        The work would not fit.
    """
    values = as_volume(unfiltered, "the half-map")
    job = _Job.of(values, voxel_size, denoiser)
    curve = job.curve(check_curve(fsc, max(values.shape) // 2 + 1))
    return _half(
        job, values, curve, denoiser, particle_diameter, regularised, mask, spectral_trailing,
        cut_off, stride, progress,
    )


def regularise_class(
    regularised: npt.ArrayLike,
    voxel_size: float,
    *,
    denoiser: Denoiser,
    particle_diameter: float | None,
    mask: npt.ArrayLike | None = None,
    cut_off: float | None = None,
    stride: int = DEFAULT_STRIDE,
    progress: Progress | None = None,
) -> RegularisedClass:
    """Denoise one map that has no other half, such as a 3-D class.

    There is no FSC and so no spectral trailing; beyond the network's limit the
    map itself fills the shells, so that nothing is lost.

    Parameters
    ----------
    regularised : array_like, (z, y, x), real
        The Wiener-filtered map.
    voxel_size : float
        Å, from 0.3 to 8.
    denoiser : Denoiser
    particle_diameter : float or None
        Å; None: the largest sphere.
    mask : array_like, like `regularised`, optional
        Replaces the spherical mask.
    cut_off : float, optional
        Å; low-pass the result there, with nothing beyond.
    stride : int
        Distance of the patches, voxels at the model's voxel size.
    progress : callable, optional
        Called with (done, total) patches; whatever it raises ends the work.

    Returns
    -------
    RegularisedClass

    Raises
    ------
    InputError
        An argument is out of its range.
    OutOfMemoryError
        The work would not fit.
    """
    values = as_volume(regularised, "the map")
    job = _Job.of(values, voxel_size, denoiser)
    volume = job.box.pad_volume(values)
    if mask is None:
        edge = int(CLASS_MASK_EDGE_ANGSTROM / job.model_voxel_size)
        radius = (job.model_side - edge) / 2 + 1
        if particle_diameter is not None:
            wanted = _check_diameter(particle_diameter) / (2 * job.model_voxel_size) + edge / 2
            radius = min(wanted, radius)
        network_mask = masks.radial_mask(job.model_side, radius, edge)
    else:
        network_mask = job.rescaled_mask(as_mask(mask, values.shape))

    network = denoiser.denoise_at_model_voxel_size(
        fourier.rescale(volume, job.model_side), network_mask, stride, progress
    )
    spectrum = fourier.forward(network.density * network_mask, job.side)
    limit = job.model_side // 2 + 1 - NETWORK_LIMIT_IN_CLASS
    out = fourier.apply_crossover(spectrum, limit, fourier.forward(volume))
    shell = limit
    if cut_off is not None:
        shell = _shell_of(cut_off, job)
        out = fourier.apply_crossover(out, shell)
    return RegularisedClass(
        map=job.box.crop(fourier.inverse(out)),
        solvent_mask=job.solvent_mask(network),
        cut_off=shell,
        cut_off_angstrom=fourier.shell_to_angstrom(shell, job.side, job.voxel_size),
        network=network,
        warnings=network.warnings,
    )


def regularise(
    half_map_1: npt.ArrayLike,
    half_map_2: npt.ArrayLike,
    voxel_size: float,
    *,
    denoiser: Denoiser,
    mask: npt.ArrayLike | None = None,
    fsc_mask: npt.ArrayLike | None = None,
    fsc: npt.ArrayLike | None = None,
    particle_diameter: float | None = None,
    spectral_trailing: bool = True,
    cut_off: float | None = None,
    stride: int = DEFAULT_STRIDE,
    progress: Progress | None = None,
) -> Regularised:
    """Denoise two half-maps apart and keep each up to where they agree.

    Neither half ever sees the other, but for the FSC curve.

    Parameters
    ----------
    half_map_1, half_map_2 : array_like, (z, y, x), real
        Unfiltered half-maps of one refinement.
    voxel_size : float
        Å, from 0.3 to 8.
    denoiser : Denoiser
    mask : array_like, like the half-maps, optional
        Where the network looks; None: a sphere.
    fsc_mask : array_like, like the half-maps, optional
        Solvent mask for the FSC alone, which is then corrected by phase
        randomisation.
    fsc : array_like, (N // 2 + 1,), optional
        The host's own FSC; None: it is computed.
    particle_diameter : float, optional
        Å; None: the largest sphere.
    spectral_trailing : bool
        Cut the denoised maps off where the half-maps cease to agree.
    cut_off : float, optional
        Å; replaces the cut-off read off the FSC, and nothing is kept beyond it.
    stride : int
        Distance of the patches, voxels at the model's voxel size.
    progress : callable, optional
        Called with (done, total) patches of both halves; whatever it raises ends
        the work.

    Returns
    -------
    Regularised

    Raises
    ------
    InputError
        The halves differ in shape or are the same map, or an argument is out of
        its range.
    OutOfMemoryError
        The work would not fit.
    """
    halves = [as_volume(h, f"half-map {i}") for i, h in enumerate((half_map_1, half_map_2), 1)]
    if halves[0].shape != halves[1].shape:
        raise InputError(
            f"the half-maps have different boxes, {halves[0].shape} and {halves[1].shape}"
        )
    if np.array_equal(halves[0], halves[1]):
        raise InputError("the two half-maps are the same map: give the two independent halves")
    job = _Job.of(halves[0], voxel_size, denoiser)
    curves = _curves(job, halves, fsc_mask, fsc)
    done = [
        _half(
            job, half, curves.decisive, denoiser, particle_diameter, None, mask,
            spectral_trailing, cut_off, stride, _share(progress, number),
        )
        for number, half in enumerate(halves)
    ]
    first, second = done
    average = 0.5 * (first.map + second.map)
    return Regularised(
        reference_1=first.map,
        reference_2=second.map,
        average=average,
        fsc=curves,
        rho=first.rho,
        rho_angstrom=first.rho_angstrom,
        cut_off=first.cut_off,
        cut_off_angstrom=first.cut_off_angstrom,
        beyond_network=first.beyond_network,
        solvent_mask=0.5 * (first.solvent_mask + second.solvent_mask),
        halves=(first, second),
        warnings=tuple(dict.fromkeys(first.warnings + second.warnings)),
    )


def _half(
    job: _Job,
    values: Array,
    curve: npt.NDArray[np.float64],
    denoiser: Denoiser,
    particle_diameter: float | None,
    regularised: npt.ArrayLike | None,
    mask: npt.ArrayLike | None,
    spectral_trailing: bool,
    cut_off: float | None,
    stride: int,
    progress: Progress | None,
) -> RegularisedHalf:
    """One half-map; `curve` is the FSC over the shells of the even cube."""
    if cut_off is not None and not spectral_trailing:
        raise InputError("a cut-off has no meaning without spectral trailing: give one of the two")
    volume = job.box.pad_volume(values)
    given = None if regularised is None else _same_shape(regularised, values)
    network_mask, map_mask = _masks(job, particle_diameter, mask)
    warnings: list[str] = []
    rho, shell = _cut_off(curve, cut_off, job, warnings)
    for warning in warnings:
        logger.warning(warning)

    network = denoiser.denoise_at_model_voxel_size(
        fourier.rescale(volume, job.model_side), network_mask, stride, progress
    )
    spectrum = fourier.forward(network.density * network_mask, job.side)
    limit = job.model_side // 2 + 1 - NETWORK_LIMIT_IN_HALF
    beyond_network = shell > limit
    out = spectrum
    if beyond_network:
        filtered = (
            fourier.filter_by_shell(volume, np.clip(curve, 0, 1)) if given is None
            else job.box.pad_volume(given)
        )
        out = fourier.apply_crossover(spectrum, limit, fourier.forward(filtered * map_mask))
    if cut_off is not None or (spectral_trailing and not beyond_network):
        out = fourier.apply_crossover(out, shell)
    return RegularisedHalf(
        map=job.box.crop(fourier.inverse(out)),
        denoised=job.box.crop(fourier.inverse(spectrum)),
        rho=rho,
        rho_angstrom=fourier.shell_to_angstrom(rho, job.side, job.voxel_size),
        cut_off=shell,
        cut_off_angstrom=fourier.shell_to_angstrom(shell, job.side, job.voxel_size),
        beyond_network=beyond_network,
        solvent_mask=job.solvent_mask(network),
        network=network,
        warnings=(*network.warnings, *warnings),
    )


@dataclass(frozen=True)
class _Job:
    """Geometry of one piece of work: the even cube, and its side at the model's voxel size."""

    box: EvenCube
    voxel_size: float
    model_voxel_size: float
    model_side: int

    @classmethod
    def of(cls, values: Array, voxel_size: float, denoiser: Denoiser) -> _Job:
        voxel_size = check_voxel_size(voxel_size)
        box = EvenCube.around(values.shape)
        model_voxel_size = denoiser.config.voxel_size
        side = model_side(box, voxel_size, model_voxel_size)
        return cls(box, voxel_size, model_voxel_size, side)

    @property
    def side(self) -> int:
        return self.box.side

    def curve(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A curve over the shells of the box as one over those of the even cube around it."""
        longest = max(self.box.shape)
        if longest == self.side:
            return values
        shells = np.arange(self.side // 2 + 1) * longest / self.side
        return np.interp(shells, np.arange(len(values)), values)

    def rescaled_mask(self, mask: Array) -> Array:
        padded = self.box.pad_mask(mask)
        return np.clip(fourier.rescale(padded, self.model_side), 0, 1)

    def solvent_mask(self, network: Denoised) -> Array:
        return self.box.crop(np.clip(fourier.rescale(network.mask, self.side), 0, 1))


def _masks(
    job: _Job, particle_diameter: float | None, mask: npt.ArrayLike | None
) -> tuple[Array, Array]:
    """Masks of a half-map at the model's voxel size and on its own grid."""
    if mask is not None:
        own = as_mask(mask, job.box.shape)
        return job.rescaled_mask(own), job.box.pad_mask(own)
    diameter = None if particle_diameter is None else _check_diameter(particle_diameter)

    def sphere(side: int, voxel_size: float) -> Array:
        # The formula adds Å² to voxels; that is the published one, and the maps follow it.
        edge = MASK_EDGE_PER_VOXEL_SIZE * voxel_size
        radius = (side - edge) / 2
        if diameter is not None:
            radius = min(diameter * voxel_size + edge / 2, radius)
        return masks.radial_mask(side, radius, edge)

    return sphere(job.model_side, job.model_voxel_size), sphere(job.side, job.voxel_size)


def _cut_off(
    curve: npt.NDArray[np.float64], cut_off: float | None, job: _Job, warnings: list[str]
) -> tuple[int, int]:
    rho, shell = cut_off_shell(curve)
    if cut_off is not None:
        return rho, _shell_of(cut_off, job)
    if rho < 3:
        warnings.append(
            f"the half-maps hardly agree (FSC below 1/7 from shell {rho}): next to nothing of the "
            "denoised map is kept"
        )
    if curve[0] < CUT_OFF_THRESHOLD:
        warnings.append(
            "the FSC is below 1/7 in shell 0 already: as in the published implementation it is "
            "taken for one that never falls, and nothing is cut off"
        )
    return rho, shell


def _shell_of(cut_off: float, job: _Job) -> int:
    if not (math.isfinite(cut_off) and 0 < cut_off <= job.side * job.voxel_size):
        raise InputError(
            f"cut-off {cut_off:g} Å is out of range: give a resolution above 0 and up to the "
            f"length of the box, {job.side * job.voxel_size:.1f} Å"
        )
    return max(int(job.side * job.voxel_size / cut_off + SHELL_ROUNDING), 1)


def _curves(
    job: _Job, halves: list[Array], fsc_mask: npt.ArrayLike | None, fsc: npt.ArrayLike | None
) -> FscCurves:
    if fsc is not None:
        given = job.curve(check_curve(fsc, max(halves[0].shape) // 2 + 1))
        return FscCurves(job.side, job.voxel_size, given=given)
    first, second = (job.box.pad_volume(half) for half in halves)
    if fsc_mask is None:
        return FscCurves(job.side, job.voxel_size, unmasked=correlation(first, second))
    mask = job.box.pad_mask(as_mask(fsc_mask, halves[0].shape, "the FSC mask"))
    return solvent_corrected(first, second, mask, job.voxel_size)


def _share(progress: Progress | None, number: int) -> Progress | None:
    """One half's progress as a part of both: they have the same patches."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, 2 * total)


def _check_diameter(particle_diameter: float) -> float:
    if not (math.isfinite(particle_diameter) and particle_diameter > 0):
        raise InputError(f"particle diameter {particle_diameter:g} Å: give a length above 0")
    return float(particle_diameter)


def _same_shape(regularised: npt.ArrayLike, like: Array) -> Array:
    volume = as_volume(regularised, "the regularised map")
    if volume.shape != like.shape:
        raise InputError(
            f"the regularised map has the shape {volume.shape}, the half-map {like.shape}"
        )
    return volume
