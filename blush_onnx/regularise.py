"""References for refinement: one half-map, one class, or two half-maps.

This is what every host calls. Formulas: docs/numerics.md, section 5.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier, masks, mode_masks
from blush_onnx.boxes import as_half_maps, as_mask, as_volume
from blush_onnx.cut_off import choose_shells, shell_of
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser, Progress
from blush_onnx.errors import InputError
from blush_onnx.fsc import FscCurves, check_curve, half_map_fsc
from blush_onnx.grids import Grids
from blush_onnx.results import Regularised, RegularisedClass, RegularisedHalf

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]

NETWORK_LIMIT_IN_HALF = 3
NETWORK_LIMIT_IN_CLASS = 2
"""Shells below the end of the model's half-spectrum at which its output is no longer used."""


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
    rotations: int = 1,
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
    rotations : int
        Orientations to average over, as for :meth:`Denoiser.denoise`.
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
    grids = denoiser.grids(values.shape, voxel_size)
    curve = grids.curve_of_cube(check_curve(fsc, max(values.shape) // 2 + 1))
    return _half(
        grids, values, curve, denoiser=denoiser, particle_diameter=particle_diameter,
        regularised=regularised, mask=mask, spectral_trailing=spectral_trailing,
        cut_off=cut_off, stride=stride, rotations=rotations, progress=progress,
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
    rotations: int = 1,
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
    rotations : int
        Orientations to average over, as for :meth:`Denoiser.denoise`.
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
    grids = denoiser.grids(values.shape, voxel_size)
    volume = grids.box.pad_volume(values)
    network_mask = mode_masks.of_class(grids, particle_diameter, mask)

    network = denoiser.denoise_at_model_voxel_size(
        grids.to_model(values), network_mask, stride, progress, rotations
    )
    spectrum = grids.forward(network.density * network_mask, grids.side)
    limit = grids.model_side // 2 + 1 - NETWORK_LIMIT_IN_CLASS
    out = fourier.apply_crossover(spectrum, limit, grids.forward(volume))
    shell = limit
    if cut_off is not None:
        shell = shell_of(cut_off, grids)
        out = fourier.apply_crossover(out, shell)
    return RegularisedClass(
        map=grids.box.crop(grids.inverse(out)),
        cut_off=shell,
        cut_off_angstrom=grids.angstrom(shell),
        network=network,
        network_mask=network_mask,
        grids=grids,
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
    rotations: int = 1,
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
    rotations : int
        Orientations to average over, as for :meth:`Denoiser.denoise`.
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
    halves = as_half_maps(half_map_1, half_map_2)
    if np.array_equal(halves[0], halves[1]):
        raise InputError("the two half-maps are the same map: give the two independent halves")
    grids = denoiser.grids(halves[0].shape, voxel_size)
    curves = _curves(grids, halves, fsc_mask, fsc)
    done = [
        _half(
            grids, half, curves.decisive, denoiser=denoiser,
            particle_diameter=particle_diameter, regularised=None, mask=mask,
            spectral_trailing=spectral_trailing, cut_off=cut_off, stride=stride,
            rotations=rotations, progress=_share(progress, number),
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
    grids: Grids,
    values: Array,
    curve: npt.NDArray[np.float64],
    *,
    denoiser: Denoiser,
    particle_diameter: float | None,
    regularised: npt.ArrayLike | None,
    mask: npt.ArrayLike | None,
    spectral_trailing: bool,
    cut_off: float | None,
    stride: int,
    rotations: int,
    progress: Progress | None,
) -> RegularisedHalf:
    """One half-map; `curve` is the FSC over the shells of the even cube."""
    if cut_off is not None and not spectral_trailing:
        raise InputError("a cut-off has no meaning without spectral trailing: give one of the two")
    volume = grids.box.pad_volume(values)
    given = None if regularised is None else _same_shape(regularised, values)
    diameter = None if mask is not None else mode_masks.check_diameter(particle_diameter)
    network_mask = mode_masks.of_half(grids, diameter, mask)
    rho, shell, warnings = choose_shells(curve, cut_off, grids)
    if diameter is not None:
        box = grids.side * grids.voxel_size
        tight = masks.tight_box_warning(box, grids.model_voxel_size, diameter)
        warnings += [tight] if tight else []
    for warning in warnings:
        logger.info(warning)

    network = denoiser.denoise_at_model_voxel_size(
        grids.to_model(values), network_mask, stride, progress, rotations
    )
    spectrum = grids.forward(network.density * network_mask, grids.side)
    limit = grids.model_side // 2 + 1 - NETWORK_LIMIT_IN_HALF
    beyond_network = shell > limit
    out = spectrum
    if beyond_network:
        filtered = (
            fourier.filter_by_shell(volume, np.clip(curve, 0, 1)) if given is None
            else grids.box.pad_volume(given)
        )
        filtered = filtered * mode_masks.of_half_on_its_grid(grids, diameter, mask)
        out = fourier.apply_crossover(spectrum, limit, grids.forward(filtered))
    if cut_off is not None or (spectral_trailing and not beyond_network):
        out = fourier.apply_crossover(out, shell)
    return RegularisedHalf(
        map=grids.box.crop(grids.inverse(out)),
        rho=rho,
        rho_angstrom=grids.angstrom(rho),
        cut_off=shell,
        cut_off_angstrom=grids.angstrom(shell),
        beyond_network=beyond_network,
        network=network,
        network_mask=network_mask,
        grids=grids,
        warnings=(*network.warnings, *warnings),
    )


def _curves(
    grids: Grids, halves: list[Array], fsc_mask: npt.ArrayLike | None, fsc: npt.ArrayLike | None
) -> FscCurves:
    if fsc is not None:
        if fsc_mask is not None:
            raise InputError("an FSC is given, so that the mask for it would not be used: drop one")
        given = grids.curve_of_cube(check_curve(fsc, max(halves[0].shape) // 2 + 1))
        return FscCurves(grids.side, grids.voxel_size, given=given)
    mask = None if fsc_mask is None else as_mask(fsc_mask, halves[0].shape, "the FSC mask")
    return half_map_fsc(halves[0], halves[1], grids.voxel_size, mask)


def _share(progress: Progress | None, number: int) -> Progress | None:
    """One half's progress as a part of both: they have the same patches."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, 2 * total)


def _same_shape(regularised: npt.ArrayLike, like: Array) -> Array:
    volume = as_volume(regularised, "the regularised map")
    if volume.shape != like.shape:
        raise InputError(
            f"the regularised map has the shape {volume.shape}, the half-map {like.shape}"
        )
    return volume
