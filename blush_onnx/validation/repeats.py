"""Whether denoising comes to rest when its result is denoised again and again.

In a refinement every reference has been denoised before. A denoiser that goes on
changing what it made itself drifts away from the data (docs/numerics.md, section 15).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier, masks
from blush_onnx.boxes import as_mask, as_volume
from blush_onnx.cut_off import shell_of
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser, Progress
from blush_onnx.errors import InputError
from blush_onnx.fsc import correlate

Array = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]

APPLICATIONS = 5
INSIDE = 0.99
"""Of the mask: nearer to its edge the mask itself, multiplied anew each time, changes the map."""
LARGEST_DRIFT = 1.0
"""The further applications together may change the map as much as the first one did: from there on
the result would be more the denoiser's repeats than its answer to the data."""


@dataclass(frozen=True)
class Repeats:
    """What each application of the denoiser did to a map; norms inside the mask.

    Attributes
    ----------
    changes : array, (applications,), float64
        ‖xₖ − xₖ₋₁‖/‖xₖ₋₁‖ of each; the first is the change of the half-map itself.
    drift : array, (applications,), float64
        ‖xₖ − x₁‖ in units of what the first application changed, ‖x₁ − x₀‖.
    norms : array, (applications,), float64
        ‖xₖ‖/‖x₁‖.
    fsc_with_first : array, (applications, shells), float64
        At the model's voxel size.
    """

    changes: Curve
    drift: Curve
    norms: Curve
    fsc_with_first: npt.NDArray[np.float64]

    @property
    def stable(self) -> bool:
        """Whether the changes do not grow, and stay below the first together."""
        return bool(self.drift[-1] <= LARGEST_DRIFT and self.changes[-1] <= self.changes[1])

    @property
    def verdict(self) -> str:
        """In plain words."""
        changes = ", ".join(f"{change:.1%}" for change in self.changes)
        return (
            f"{'passed' if self.stable else 'flagged'}: {len(self.changes)} applications change "
            f"the map by {changes}; those after the first move it {self.drift[-1]:.2f} times as "
            f"far as the first did (at most {LARGEST_DRIFT:g}, in steps that do not grow)"
        )


def repeat_denoising(
    half_map: npt.ArrayLike,
    voxel_size: float,
    *,
    denoiser: Denoiser,
    cut_off_angstrom: float | None = None,
    mask: npt.ArrayLike | None = None,
    rotations: int = 1,
    applications: int = APPLICATIONS,
    stride: int = DEFAULT_STRIDE,
    progress: Progress | None = None,
) -> Repeats:
    """Denoise a half-map, then the result, and so on.

    Between applications the map is set to 0 outside the mask and cut off, as
    references are.

    Parameters
    ----------
    half_map : array_like, (z, y, x), real
        An unfiltered half-map.
    voxel_size : float
        Å, from 0.3 to 8.
    denoiser : Denoiser
    cut_off_angstrom : float, optional
        Resolution that each result is cut off at, as of a :class:`RegularisedHalf`; None:
        no spectral trailing.
    mask : array_like, like `half_map`, optional
        Where the network looks. None: the largest sphere, with an edge of 6 voxels. (That of
        a refinement is so soft that its edge alone would change the map each time; there
        each reference comes from a new half-map.)
    rotations : int
        As for :func:`blush_onnx.regularise_half`.
    applications : int
        2 or more.
    stride : int
        Distance of the patches, voxels at the model's voxel size.
    progress : callable, optional
        Called with (done, total) patches of all applications; whatever it raises ends
        the work.

    Returns
    -------
    Repeats

    Raises
    ------
    InputError
        An argument is out of its range, or nothing is left inside the mask.
    OutOfMemoryError
        The work would not fit.
    """
    if applications < 2:
        raise InputError(f"{applications} applications: give 2 or more")
    values = as_volume(half_map, "the half-map")
    grids = denoiser.grids(values.shape, voxel_size)
    side = grids.model_side
    look = (
        masks.default_mask((side, side, side)) if mask is None
        else grids.mask_to_model(as_mask(mask, values.shape))
    )
    inside = look >= INSIDE
    if not inside.any():
        raise InputError(f"the mask is nowhere above {INSIDE}: there is no inside to compare")
    shell = None if cut_off_angstrom is None else shell_of(cut_off_angstrom, grids)
    maps = [grids.to_model(values)]
    for number in range(applications):
        found = denoiser.denoise_at_model_voxel_size(
            maps[-1], look, stride, _share(progress, number, applications), rotations
        )
        result = found.density * look
        if shell is not None:
            spectrum = fourier.apply_crossover(grids.forward(result), shell)
            result = grids.inverse(spectrum)
        maps.append(result)
    return _compared(maps, inside)


def _compared(maps: list[Array], inside: npt.NDArray[np.bool_]) -> Repeats:
    """`maps`: the half-map and the result of each application."""
    before = [values[inside].astype(np.float64) for values in maps]
    norm = np.linalg.norm
    first = norm(before[1] - before[0])
    spectra = [fourier.forward(values) for values in maps[1:]]
    return Repeats(
        np.array([_share_of(norm(b - a), norm(a)) for a, b in pairwise(before)]),
        np.array([_share_of(norm(b - before[1]), first) for b in before[1:]]),
        np.array([_share_of(norm(b), norm(before[1])) for b in before[1:]]),
        np.array([correlate(spectra[0], spectrum) for spectrum in spectra]),
    )


def _share_of(part: np.floating, whole: np.floating) -> float:
    """A ratio; of two nothings 0."""
    return float(part / whole) if whole > 0 else 0.0


def _share(progress: Progress | None, number: int, applications: int) -> Progress | None:
    """One application's progress as a part of all: they have the same patches."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, applications * total)
