"""Where the network looks in each mode (docs/numerics.md, section 5)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blush_onnx import masks
from blush_onnx.boxes import as_mask
from blush_onnx.errors import InputError
from blush_onnx.grids import Grids

Array = npt.NDArray[np.float32]


def of_half(grids: Grids, diameter: float | None, mask: npt.ArrayLike | None) -> Array:
    """Mask of a half-map at the model's voxel size: the given one, else a sphere."""
    if mask is not None:
        return grids.mask_to_model(as_mask(mask, grids.box.shape))
    return masks.refinement_sphere(grids.model_side, grids.model_voxel_size, diameter)


def of_half_on_its_grid(
    grids: Grids, diameter: float | None, mask: npt.ArrayLike | None
) -> Array:
    """Mask of a half-map in the even cube around its box: the given one, else a sphere."""
    if mask is not None:
        return grids.box.pad_mask(as_mask(mask, grids.box.shape))
    return masks.refinement_sphere(grids.side, grids.voxel_size, diameter)


def of_class(grids: Grids, diameter: float | None, mask: npt.ArrayLike | None) -> Array:
    """Mask of a class at the model's voxel size: the given one, else a sphere."""
    if mask is not None:
        return grids.mask_to_model(as_mask(mask, grids.box.shape))
    return masks.class_sphere(grids.model_side, grids.model_voxel_size, check_diameter(diameter))


def check_diameter(particle_diameter: float | None) -> float | None:
    """Refuse a particle diameter that is none.

    Parameters
    ----------
    particle_diameter : float or None
        Å; None: the largest sphere.

    Returns
    -------
    float or None
        The same.

    Raises
    ------
    InputError
        Not a length above 0.
    """
    if particle_diameter is None:
        return None
    if not (math.isfinite(particle_diameter) and particle_diameter > 0):
        raise InputError(f"particle diameter {particle_diameter:g} Å: give a length above 0")
    return float(particle_diameter)
