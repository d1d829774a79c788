"""A solvent mask from the network's own mask output.

For the FSC and for pictures; it is never given back to the network by itself. Formulas:
docs/numerics.md, section 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.boxes import as_mask, check_voxel_size
from blush_onnx.errors import BlushError, InputError

Array = npt.NDArray[np.float32]
Inside = npt.NDArray[np.bool_]

THRESHOLD = 0.5
EXTEND = 0.0
SOFT_EDGE = 8.0
SMALLEST_PART = 0.1
MAKE_ONE = "give a mask made another way, or go without"


@dataclass(frozen=True)
class MaskShape:
    """How a solvent mask is made; as for :func:`solvent_mask`."""

    threshold: float = THRESHOLD
    extend_angstrom: float = EXTEND
    soft_edge_angstrom: float = SOFT_EDGE
    smallest_part: float = SMALLEST_PART


@dataclass(frozen=True)
class SolventMask:
    """A soft mask around what the network takes for ordered structure.

    Attributes
    ----------
    mask : array, (z, y, x), float32
        0…1.
    threshold : float
        Of the network's mask.
    parts_kept, parts_dropped : int
        Connected parts above the threshold: in the mask, and too small for it.
    volume : float
        Å³, the soft edge by its values.
    fraction_of_box : float
        Mean of the mask.
    at_border : bool
        Whether the mask reaches the box's border, where its soft edge is cut off.
    """

    mask: Array
    threshold: float
    parts_kept: int
    parts_dropped: int
    volume: float
    fraction_of_box: float
    at_border: bool


def solvent_mask(
    network_mask: npt.ArrayLike,
    voxel_size: float,
    *,
    threshold: float = THRESHOLD,
    extend_angstrom: float = EXTEND,
    soft_edge_angstrom: float = SOFT_EDGE,
    smallest_part: float = SMALLEST_PART,
) -> SolventMask:
    """Make a solvent mask of the network's mask: threshold, parts, extension, soft edge.

    Lengths are in Å from the middle between the last voxel inside and the first outside,
    so that the mask is the same for fine and coarse voxels. Closed holes are filled.

    Parameters
    ----------
    network_mask : array_like, (z, y, x), real
        0…1: :attr:`blush_onnx.Regularised.solvent_mask`, the mean of both halves'.
    voxel_size : float
        Å, from 0.3 to 8.
    threshold : float
        What is above belongs to the structure; from 0 to below 1.
    extend_angstrom : float
        How far the mask stays 1 beyond that, Å.
    soft_edge_angstrom : float
        Width of the raised cosine from 1 to 0, Å.
    smallest_part : float
        Connected parts (by faces) with less than this share of the largest one's voxels
        are left out; 0…1.

    Returns
    -------
    SolventMask

    Raises
    ------
    InputError
        Nothing is above the threshold, the mask would cover the whole box (as that of a
        network without a mask output does), or an argument is out of its range.
    BlushError
        SciPy is not installed.
    """
    voxel_size = check_voxel_size(voxel_size)
    _check(threshold, extend_angstrom, soft_edge_angstrom, smallest_part)
    values = np.asarray(network_mask)
    if values.ndim != 3:
        raise InputError(
            f"the network's mask has the shape {values.shape}: expected three axes (z, y, x)"
        )
    inside = as_mask(values, values.shape, "the network's mask") > threshold
    if not inside.any():
        raise InputError(
            f"the network's mask is nowhere above {threshold:g}: it sees no structure in these "
            f"maps; lower the threshold, or {MAKE_ONE}"
        )
    kept, dropped = _largest_parts(inside, smallest_part)
    mask = _softened(inside, voxel_size, extend_angstrom, soft_edge_angstrom)
    if mask.min() == 1:
        raise InputError(
            "the network's mask covers the whole box, so that it is no solvent mask (a model "
            f"without a mask output says so of every map): {MAKE_ONE}"
        )
    return SolventMask(
        mask=mask,
        threshold=float(threshold),
        parts_kept=kept,
        parts_dropped=dropped,
        volume=float(mask.sum(dtype=np.float64)) * voxel_size**3,
        fraction_of_box=float(mask.mean(dtype=np.float64)),
        at_border=_reaches_border(mask > 0),
    )


def _check(threshold: float, extend: float, soft_edge: float, smallest_part: float) -> None:
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold:g}: give one from 0 to below 1")
    for name, length in (("extension", extend), ("soft edge", soft_edge)):
        if not 0 <= length < np.inf:
            raise InputError(f"{name} of {length:g} Å: give a length of 0 Å or more")
    if not 0 <= smallest_part <= 1:
        raise InputError(f"smallest part {smallest_part:g}: give a share from 0 to 1")


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError:
        raise BlushError(
            'making a solvent mask needs SciPy: pip install "blush-onnx[report]"'
        ) from None
    return ndimage


def _largest_parts(inside: Inside, smallest: float) -> tuple[int, int]:
    """Leave small connected parts out, in place; how many are kept and dropped."""
    labels, count = _ndimage().label(inside)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= max(smallest * sizes.max(), 1)
    np.take(keep, labels, out=inside)
    kept = int(np.count_nonzero(keep))
    return kept, count - kept


def _softened(inside: Inside, voxel_size: float, extend: float, soft_edge: float) -> Array:
    """1 up to `extend` Å beyond what is inside, holes filled, a cosine edge, 0 beyond."""
    ndimage = _ndimage()
    reach = int(np.ceil((extend + soft_edge) / voxel_size)) + 2
    place = tuple(
        slice(max(part.start - reach, 0), part.stop + reach)
        for part in ndimage.find_objects(inside.view(np.int8))[0]
    )
    part = inside[place]
    distance = ndimage.distance_transform_edt(~part, sampling=voxel_size).astype(np.float32)
    beyond = distance - np.float32(voxel_size / 2 + extend)  # of the surface, not of a centre
    whole = _without_holes(part | (beyond <= 0))
    if soft_edge > 0:
        soft = 0.5 + 0.5 * np.cos(np.pi * np.clip(beyond / soft_edge, 0, 1))
    else:
        soft = np.zeros_like(beyond)
    mask = np.zeros(inside.shape, dtype=np.float32)
    mask[place] = np.where(whole, 1, soft)
    return mask


def _without_holes(inside: Inside) -> Inside:
    """Fill what is outside but has no way out of the box."""
    labels, count = _ndimage().label(~inside)
    way_out = np.zeros(count + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            way_out[np.unique(np.take(labels, end, axis=axis))] = True
    way_out[0] = False
    return np.asarray(~way_out[labels])


def _reaches_border(inside: Inside) -> bool:
    return any(
        bool(np.take(inside, end, axis=axis).any()) for axis in range(3) for end in (0, -1)
    )
