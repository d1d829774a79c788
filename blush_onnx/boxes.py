"""Volumes as arguments: what is accepted, and boxes that are not even cubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.masks import centred

SMALLEST_VOXEL_SIZE = 0.3
LARGEST_VOXEL_SIZE = 8.0
SMALLEST_SIDE = 8
LARGEST_VALUE = 1e15
SMALLEST_RANGE = 1e-15
SMALLEST_MASK_MAXIMUM = 0.01


def as_volume(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Check a density and return it as float32.

    Parameters
    ----------
    values : array_like, (z, y, x), real
    name : str
        What to call it in an error.

    Returns
    -------
    array, (z, y, x), float32
        Not a copy where the input is float32 already.

    Raises
    ------
    InputError
        Not three real axes of at least 8 voxels, values that are not finite, all
        the same, or beyond what single precision can square (1e15).
    """
    array = np.asarray(values)
    if array.ndim != 3 or min(array.shape, default=0) < SMALLEST_SIDE:
        raise InputError(
            f"{name} has the shape {array.shape}: expected three axes (z, y, x) of at least "
            f"{SMALLEST_SIDE} voxels"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {array.dtype} values: expected real numbers")
    with np.errstate(over="ignore"):  # what overflows is refused below
        volume = array.astype(np.float32, copy=False)
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(volume)))
        raise InputError(f"{name} has {bad} values that are NaN or infinite")
    if low == high:
        raise InputError(f"{name} is constant ({low:g} everywhere): there is nothing to denoise")
    if max(abs(low), abs(high)) > LARGEST_VALUE or high - low < SMALLEST_RANGE:
        raise InputError(
            f"{name} has values from {low:g} to {high:g}, which single precision cannot square: "
            "multiply the map by a factor that brings them near 1"
        )
    return volume


def as_mask(
    values: npt.ArrayLike, shape: tuple[int, ...], name: str = "the mask"
) -> npt.NDArray[np.float32]:
    """Check a mask against the volume it belongs to and clip it to 0…1.

    Parameters
    ----------
    values : array_like, (z, y, x), real or boolean
    shape : tuple of int
        Of the volume.
    name : str
        What to call it in an error.

    Returns
    -------
    array, `shape`, float32
        A new array.

    Raises
    ------
    InputError
        Another shape than the volume, values that are not finite, or nowhere above 0.01.
    """
    array = np.asarray(values)
    if array.shape != tuple(shape):
        raise InputError(f"{name} has the shape {array.shape}, the map {tuple(shape)}")
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise InputError(f"{name} has values that are not finite real numbers")
    mask = np.clip(array.astype(np.float32), 0, 1)
    if mask.max() < SMALLEST_MASK_MAXIMUM:
        raise InputError(f"{name} is empty: no voxel is above {SMALLEST_MASK_MAXIMUM:g}")
    return mask


def check_voxel_size(voxel_size: float) -> float:
    """Refuse voxel sizes that no single-particle map has.

    Parameters
    ----------
    voxel_size : float
        Å.

    Returns
    -------
    float
        The same.

    Raises
    ------
    InputError
        Not from 0.3 to 8 Å.
    """
    size = float(voxel_size)
    if not SMALLEST_VOXEL_SIZE <= size <= LARGEST_VOXEL_SIZE:
        raise InputError(
            f"voxel size {size:g} Å is out of range: expected {SMALLEST_VOXEL_SIZE:g} to "
            f"{LARGEST_VOXEL_SIZE:g} Å; if the file's header is wrong, give the right voxel size"
        )
    return size


def as_half_maps(
    first: npt.ArrayLike, second: npt.ArrayLike
) -> list[npt.NDArray[np.float32]]:
    """Two half-maps as the work takes them.

    Parameters
    ----------
    first, second : array_like, (z, y, x), real

    Returns
    -------
    list of array, float32
        The two.

    Raises
    ------
    InputError
        One is no volume to work on, or their boxes differ.
    """
    halves = [as_volume(half, f"half-map {i}") for i, half in enumerate((first, second), 1)]
    if halves[0].shape != halves[1].shape:
        raise InputError(
            f"the half-maps have different boxes, {halves[0].shape} and {halves[1].shape}"
        )
    return halves


@dataclass(frozen=True)
class EvenCube:
    """The smallest even cube around a box, centre voxel on centre voxel.

    Attributes
    ----------
    shape : tuple of int
        The box, (z, y, x).
    side : int
        The cube's side, voxels.
    """

    shape: tuple[int, int, int]
    side: int

    @classmethod
    def around(cls, shape: tuple[int, ...]) -> EvenCube:
        """Cube for a box of that shape."""
        z, y, x = shape
        longest = max(shape)
        return cls((z, y, x), longest + longest % 2)

    @property
    def is_box(self) -> bool:
        """Whether the box is an even cube itself."""
        return self.shape == (self.side,) * 3

    def pad_volume(self, volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The volume in the cube, the rest filled with the median of the volume's border."""
        return self._pad(volume, None)

    def pad_mask(self, mask: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The mask in the cube, the rest zero."""
        return self._pad(mask, 0.0)

    def crop(self, cube: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The box out of the cube, a copy where that is smaller."""
        return cube if self.is_box else np.ascontiguousarray(cube[self._place()])

    def _place(self) -> tuple[slice, ...]:
        return tuple(centred(self.side, length) for length in self.shape)

    def _pad(
        self, values: npt.NDArray[np.float32], fill: float | None
    ) -> npt.NDArray[np.float32]:
        if self.is_box:
            return values
        cube = np.full(
            (self.side,) * 3, border_median(values) if fill is None else fill, dtype=np.float32
        )
        cube[self._place()] = values
        return cube


def border_median(volume: npt.NDArray[np.float32]) -> float:
    """Median of the outermost layer of voxels."""
    inside = np.zeros(volume.shape, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = True
    return float(np.median(volume[~inside]))
