"""Which voxels of a map are trained on, which decide when to stop, which judge in the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from training.finetune.symmetry import Places, with_copies

BLOCK = 12
"""Side of a block, voxels."""
GAP = 3
"""Voxels about a held-out block that no set has: their noise is its noise in part."""
STOP_SHARE, JUDGE_SHARE = 0.15, 0.2
FEWEST = 3
SMALLEST_FILLING = 0.1
"""Share of a block inside the mask from which on it can be held out."""
SMALLEST_TRAINED = 0.1
"""Share of the mask that must be left to train on."""


def divide(
    mask: Volume, seed: int, symmetry: str = "C1"
) -> tuple[Volume, npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Divide a map into blocks for training, for early stopping and for the verdict.

    Parameters
    ----------
    mask : array, (side, side, side), float32
        Around what is ordered; only blocks that hold some of it are held out.
    seed : int
    symmetry : str
        Of the half-maps; the copies of what is held out are held out too, and of copies only
        one judges.

    Returns
    -------
    trained : array like mask
        1 where targets count in training.
    stop, judge : array like mask, int16
        The number of the block from 1 inside the mask, 0 elsewhere.

    Raises
    ------
    InputError
        The molecule is too small to hold blocks out, or there is no such symmetry.
    """
    side = mask.shape[0]
    index = np.arange(side) // BLOCK
    count = int(index[-1]) + 1
    blocks = (index[:, None, None] * count + index[None, :, None]) * count + index[None, None, :]
    filling = ndimage.mean(mask > 0.5, blocks, np.arange(count**3))
    filled = np.flatnonzero(filling > SMALLEST_FILLING)
    stop_count = max(round(STOP_SHARE * len(filled)), FEWEST)
    judge_count = max(round(JUDGE_SHARE * len(filled)), FEWEST)
    if len(filled) < 2 * (stop_count + judge_count):
        raise InputError(
            f"the molecule fills {len(filled)} blocks of {BLOCK} voxels: too few to hold some "
            "out, so that nobody could tell whether fine-tuning helped"
        )
    drawn = np.random.default_rng(seed).permutation(filled)
    judging, taken = _without_copies(blocks, drawn, judge_count, symmetry)
    stopping, taken = _without_copies(blocks, drawn, stop_count, symmetry, taken)
    if min(len(judging), len(stopping)) < FEWEST:
        raise InputError(
            f"with the symmetry {symmetry} too few blocks of {BLOCK} voxels differ: nobody could "
            "tell whether fine-tuning helped"
        )
    trained = ~ndimage.binary_dilation(taken, iterations=GAP)
    if trained[mask > SMALLEST_FILLING].mean() < SMALLEST_TRAINED:
        raise InputError(f"with the symmetry {symmetry} nearly nothing is left to train on")
    stop, judge = (_numbered(blocks, chosen, mask) for chosen in (stopping, judging))
    return trained.astype(np.float32), stop, judge


def _without_copies(
    blocks: npt.NDArray[np.intp], candidates: npt.NDArray[np.intp], count: int, symmetry: str,
    taken: Places | None = None,
) -> tuple[npt.NDArray[np.intp], Places]:
    """The first blocks none of which touches a copy of another, and all places they and it take."""
    taken = np.zeros(blocks.shape, dtype=bool) if taken is None else taken
    chosen: list[int] = []
    for block in candidates:
        if len(chosen) == count:
            break
        places = blocks == block
        if not (taken & places).any():
            chosen.append(int(block))
            taken = taken | with_copies(places, symmetry)
    return np.array(chosen, dtype=np.intp), taken


def _numbered(
    blocks: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp], mask: Volume
) -> npt.NDArray[np.int16]:
    number = np.zeros(int(blocks.max()) + 1, dtype=np.int16)
    number[chosen] = np.arange(1, len(chosen) + 1)
    return np.where(mask > 0.5, number[blocks], 0).astype(np.int16)


def block_errors(
    outputs: tuple[Volume, Volume], halves: tuple[Volume, Volume],
    numbers: npt.NDArray[np.int16],
) -> npt.NDArray[np.float64]:
    """Mean squared difference of each denoised half from the *other* half, block by block.

    The noise of the two halves is independent, so that in expectation this is the error
    to the truth plus a constant: whatever lowers it is nearer to the truth.

    Parameters
    ----------
    outputs, halves : pairs of array, (side, side, side), float32
    numbers : array like them, int
        Of :func:`divide`.

    Returns
    -------
    array, (blocks,), float64
    """
    error = np.square(outputs[0] - halves[1]) + np.square(outputs[1] - halves[0])
    return np.asarray(ndimage.mean(error, numbers, np.arange(1, int(numbers.max()) + 1)) / 2)
