"""A pair of real half-maps, from files, as a training pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from blush_onnx import fsc, patches
from blush_onnx.denoiser import DEFAULT_STRIDE
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.grids import Grids
from blush_onnx.half_map_checks import check_halves, half_map_warnings
from blush_onnx.volume_io import read_map, read_mask
from training.prepare.dataset import TrainingPair
from training.prepare.density import low_pass, soft_mask

MODEL_VOXEL_SIZE = 1.5
PATCH_SIZE = 64
COARSEST_DETAIL, FINEST_DETAIL = 12.0, 5.0
"""Å. Ordered parts have power in this band; micelles and disordered parts have little."""
WINDOW = 12.0
"""Å, over which that power is averaged."""
NOISE_SIGMAS = 5.0
"""Of the noise's power, above which detail belongs to a molecule."""
DETAIL_SHARE = 0.06
"""Of the strongest detail (its 99.9th percentile), below which it never does."""
SMALLEST_PART = 0.05
"""Of the largest part, below which a part is left out of the mask."""
SMALLEST_MOLECULE = 1500.0
"""Å³ of strong detail; about that of 4 kDa."""
MASK_RADIUS, MASK_EDGE = 2.0, 8.0


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
    split : str
        train or validation.
    """

    name: str
    half_1: Path
    half_2: Path
    mask: Path | None = None
    source: str = "unknown"
    licence: str = "unknown"
    split: str = "train"


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
    # Small boxes get the zeros around them that inference gives them.
    around = patches.padding(mask.shape, PATCH_SIZE, DEFAULT_STRIDE)
    half_1, half_2, mask = (np.pad(each, around) for each in (*halves, mask))
    return TrainingPair(
        files.name, half_1, half_2, mask, None, grids.model_voxel_size, resolution, files.name,
        files.split, files.source, files.licence,
        {"box": list(first.data.shape), "voxel_size": first.voxel_size,
         "sha256": [first.sha256, second.sha256]},
    )


def find_mask(half_1: Volume, half_2: Volume, voxel_size: float, name: str) -> Volume:
    """Soft mask around what shows detail, from 12 to 5 Å, that both halves share.

    The local power of the mean's detail less that of the difference's is that of the
    signal. A micelle is strong but smooth, and so is left out; where it is as uneven as
    a small protein, a mask made by hand is better.

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
    def power(volume: npt.NDArray[np.floating]) -> Volume:
        detail = low_pass(volume, voxel_size, FINEST_DETAIL)
        detail -= low_pass(volume, voxel_size, COARSEST_DETAIL)
        return low_pass(np.square(detail), voxel_size, WINDOW)

    noise = power((half_1 - half_2) / 2)
    signal = power((half_1 + half_2) / 2) - noise
    strongest = float(np.percentile(signal, 99.9))
    inside = signal > max(NOISE_SIGMAS * float(noise.std()), DETAIL_SHARE * strongest)
    labels, count = ndimage.label(inside)
    sizes: npt.NDArray[np.intp] = np.bincount(labels.ravel(), minlength=2)[1:]
    if not count or sizes.max() < SMALLEST_MOLECULE / voxel_size**3:
        raise InputError(f"{name}: no molecule stands out of the noise: give a mask")
    kept = np.isin(labels, np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()) + 1)
    distance = ndimage.distance_transform_edt(~kept, voxel_size)
    return soft_mask(np.asarray(distance, dtype=np.float32), MASK_RADIUS, MASK_EDGE)
