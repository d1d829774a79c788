"""Volumes for the page's orthoslice viewer: small, 8 bits, one grey scale."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.report.content import Orthoslices
from blush_onnx.report.pictures import scale_of

Array = npt.NDArray[np.float32]

LARGEST_SIDE = 128
"""Voxels; two volumes of this side take about 5 MB of a page."""


def orthoslices(
    volumes: tuple[Array, Array], labels: tuple[str, str], voxel_size: float,
    largest_side: int = LARGEST_SIDE,
) -> Orthoslices:
    """Two maps for the viewer.

    Parameters
    ----------
    volumes : tuple of array, (z, y, x), float32
        Of one shape.
    labels : tuple of str
    voxel_size : float
        Å.
    largest_side : int
        Longer boxes are rescaled in Fourier space to this side, an even number.

    Returns
    -------
    Orthoslices
        Black and white are those of :func:`blush_onnx.report.pictures.scale_of` both maps.
    """
    z, y, x = volumes[0].shape
    small = tuple(shrink(volume, largest_side) for volume in volumes)
    low, high = scale_of(list(small))
    first, second = (_to_8_bits(volume, low, high) for volume in small)
    steps = [
        length * voxel_size / shown for length, shown in zip((z, y, x), first.shape, strict=True)
    ]
    return Orthoslices(
        labels, (first, second), low, high, (steps[0], steps[1], steps[2]), (z, y, x)
    )


def shrink(volume: Array, largest_side: int) -> Array:
    """A volume rescaled in Fourier space, unless it is small enough already.

    Parameters
    ----------
    volume : array, (z, y, x), float32
    largest_side : int
        Even.

    Returns
    -------
    array, float32
        Its longest side is not above `largest_side`; the sides keep their proportions
        within a voxel.
    """
    longest = max(volume.shape)
    if longest <= largest_side:
        return volume
    cube = EvenCube.around(volume.shape)
    small = fourier.rescale(cube.pad_volume(volume), largest_side)
    z, y, x = (max(round(length * largest_side / cube.side), 1) for length in volume.shape)
    return EvenCube((z, y, x), largest_side).crop(small)


def as_base64(volume: npt.NDArray[np.uint8]) -> str:
    """Voxels in the order of the array, compressed (zlib), as text.

    Parameters
    ----------
    volume : array, (z, y, x), uint8

    Returns
    -------
    str
    """
    return base64.b64encode(zlib.compress(volume.tobytes(), 9)).decode("ascii")


def _to_8_bits(volume: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    share = np.clip((volume - low) / (high - low), 0, 1)
    return np.asarray(np.rint(share * 255), dtype=np.uint8)
