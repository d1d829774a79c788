"""A pair of real half-maps, from files, as a training pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from blush_onnx import fsc
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.grids import Grids
from blush_onnx.half_map_checks import check_halves, half_map_warnings
from blush_onnx.volume_io import read_map, read_mask
from training.prepare.dataset import TrainingPair
from training.prepare.density import low_pass, soft_mask

MODEL_VOXEL_SIZE = 1.5
MASK_RESOLUTION = 15.0
MASK_SIGMAS = 5.0
"""Of the noise at that resolution, above which density belongs to a molecule."""
MASK_SHARE = 0.12
"""Of the strongest density (its 99.9th percentile), below which it never does."""
SMALLEST_PART = 0.05
"""Of the largest part, below which a part is left out of the mask."""
MASK_RADIUS, MASK_EDGE = 3.0, 8.0


@dataclass(frozen=True)
class PairOfFiles:
    """Where a pair lies and what is known of it.

    Attributes
    ----------
    name : str
    half_1, half_2 : Path
        MRC, also compressed.
    mask : Path or None
        Around what is ordered; None: found in the maps.
    source, licence : str
        One line each.
    """

    name: str
    half_1: Path
    half_2: Path
    mask: Path | None = None
    source: str = "local files"
    licence: str = "unknown"


def read_pair(files: PairOfFiles, worst_resolution: float = 4.0) -> TrainingPair:
    """Read, check and rescale a pair.

    Parameters
    ----------
    files : PairOfFiles
    worst_resolution : float
        Å, by the halves' unmasked FSC at 0.143; worse ones are refused.

    Returns
    -------
    TrainingPair

    Raises
    ------
    InputError
        Not two halves of one map; masked, filtered or sharpened; too poor a resolution;
        no molecule found.
    """
    first, second = read_map(files.half_1), read_map(files.half_2)
    check_halves(first, second)
    grids = Grids.of(first.data.shape, first.voxel_size, MODEL_VOXEL_SIZE)
    curves = fsc.half_map_fsc(first.data, second.data, first.voxel_size)
    if problems := half_map_warnings(first.data, second.data, curves):
        raise InputError(f"{files.name} is not fit for training: {'; '.join(problems)}")
    resolution = fsc.resolution(curves.decisive, curves.box_size, curves.voxel_size, 0.143)
    if resolution > worst_resolution:
        raise InputError(
            f"{files.name} has {resolution:.1f} Å by its halves' FSC: better than "
            f"{worst_resolution:g} Å is wanted"
        )
    halves = grids.to_model(first.data), grids.to_model(second.data)
    if files.mask is not None:
        mask = grids.mask_to_model(read_mask(files.mask, first)[0])
    else:
        mask = find_mask(*halves, grids.model_voxel_size, files.name)
    return TrainingPair(
        files.name, *halves, mask, None, grids.model_voxel_size, resolution, files.name,
        "train", files.source, files.licence,
        {"box": list(first.data.shape), "voxel_size": first.voxel_size,
         "sha256": [first.sha256, second.sha256]},
    )


def find_mask(half_1: Volume, half_2: Volume, voxel_size: float, name: str) -> Volume:
    """Soft mask around the density that stands out of the noise at 15 Å.

    Parameters
    ----------
    half_1, half_2 : array, (side, side, side), float32
    voxel_size : float
        Å.
    name : str
        For the error.

    Returns
    -------
    array like the halves
        0…1.

    Raises
    ------
    InputError
        Nothing stands out.
    """
    smooth = low_pass((half_1 + half_2) / 2, voxel_size, MASK_RESOLUTION)
    noise = float(low_pass((half_1 - half_2) / 2, voxel_size, MASK_RESOLUTION).std())
    background = float(np.median(smooth))
    strongest = float(np.percentile(smooth, 99.9)) - background
    inside = smooth - background > max(MASK_SIGMAS * noise, MASK_SHARE * strongest)
    labels, count = ndimage.label(inside)
    if not count:
        raise InputError(f"{name}: no density stands out of the noise at {MASK_RESOLUTION:g} Å")
    sizes: npt.NDArray[np.intp] = np.bincount(labels.ravel())[1:]
    kept = np.isin(labels, np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()) + 1)
    distance = ndimage.distance_transform_edt(~kept, voxel_size)
    return soft_mask(np.asarray(distance, dtype=np.float32), MASK_RADIUS, MASK_EDGE)
