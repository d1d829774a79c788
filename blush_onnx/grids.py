"""One box on two grids: as it was given, and at the model's voxel size.

Formulas: docs/numerics.md, sections 3 (rescaling), 6 (boxes that are not even
cubes) and 9 (memory).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import SMALLEST_SIDE, EvenCube, check_voxel_size
from blush_onnx.engines.base import BYTES_OF_PATCH
from blush_onnx.errors import InputError
from blush_onnx.machine import require_memory
from blush_onnx.resolution import shell_to_angstrom
from blush_onnx.threads import keep_freed_blocks

Array = npt.NDArray[np.float32]

BYTES_A_VOXEL_IN = 48
BYTES_A_VOXEL_AT_MODEL_SIZE = 56
BYTES_OF_NETWORK = 256 << 20
"""What the work takes a voxel of the input box, a voxel at the model's voxel size, and for the
network but for its patches; measured, see docs/numerics.md, section 9."""


@dataclass(frozen=True)
class Grids:
    """A box, the even cube around it, and that cube at the model's voxel size.

    Attributes
    ----------
    box : EvenCube
    voxel_size, model_voxel_size : float
        Å.
    model_side : int
        Side of the cube at the model's voxel size, voxels.
    workers : int
        Threads that the transforms are done by.
    """

    box: EvenCube
    voxel_size: float
    model_voxel_size: float
    model_side: int
    workers: int = 1

    @classmethod
    def of(
        cls, shape: tuple[int, ...], voxel_size: float, model_voxel_size: float,
        *, side_by_side: int = 1, workers: int = 1,
    ) -> Grids:
        """Grids for a volume of that shape, if the work on it is possible at all.

        Parameters
        ----------
        shape : tuple of int
            (z, y, x), voxels.
        voxel_size, model_voxel_size : float
            Å.
        side_by_side : int
            Patches that the engine works on at a time, for the estimate of the memory.
        workers : int
            As in the attributes.

        Returns
        -------
        Grids

        Raises
        ------
        InputError
            The voxel size is out of range, or the box too short for the network to
            see anything.
        OutOfMemoryError
            The work would not fit in memory; the message has the estimate.
        """
        voxel_size = check_voxel_size(voxel_size)
        box = EvenCube.around(shape)
        side = fourier.rescaled_side(box.side, voxel_size, model_voxel_size)
        if side < SMALLEST_SIDE:
            raise InputError(
                f"the box is {box.side * voxel_size:.1f} Å long: at least "
                f"{SMALLEST_SIDE * model_voxel_size:.1f} Å are needed"
            )
        require_memory(
            BYTES_A_VOXEL_IN * box.side**3
            + BYTES_A_VOXEL_AT_MODEL_SIZE * side**3
            + BYTES_OF_NETWORK
            + BYTES_OF_PATCH * side_by_side,
            f"a box of {box.side} voxels ({side} at the model's voxel size)",
        )
        keep_freed_blocks()
        return cls(box, voxel_size, model_voxel_size, side, workers)

    @property
    def side(self) -> int:
        """Side of the even cube around the box, voxels."""
        return self.box.side

    def to_model(self, volume: Array) -> Array:
        """A volume on the box at the model's voxel size."""
        return fourier.rescale(self.box.pad_volume(volume), self.model_side, self.workers)

    def from_model(self, volume: Array) -> Array:
        """A volume at the model's voxel size back on the box."""
        return self.box.crop(fourier.rescale(volume, self.side, self.workers))

    def mask_to_model(self, mask: Array) -> Array:
        """A mask on the box at the model's voxel size, within 0…1."""
        padded = self.box.pad_mask(mask)
        return _clipped(fourier.rescale(padded, self.model_side, self.workers))

    def mask_from_model(self, mask: Array) -> Array:
        """A mask at the model's voxel size back on the box, within 0…1."""
        return self.box.crop(_clipped(fourier.rescale(mask, self.side, self.workers)))

    def spread_from_model(self, spread: Array | None) -> Array | None:
        """A spread at the model's voxel size back on the box, nowhere negative; None stays."""
        if spread is None:
            return None
        return np.maximum(self.from_model(spread), 0)

    def forward(self, volume: Array, side: int | None = None) -> fourier.HalfSpectrum:
        """:func:`blush_onnx.fourier.forward`, by the threads there are."""
        return fourier.forward(volume, side, self.workers)

    def inverse(self, spectrum: fourier.HalfSpectrum) -> Array:
        """:func:`blush_onnx.fourier.inverse`, by the threads there are."""
        return fourier.inverse(spectrum, workers=self.workers)

    def curve_of_cube(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A curve over the shells of the box as one over those of the even cube."""
        longest = max(self.box.shape)
        if longest == self.side:
            return values
        shells = np.arange(self.side // 2 + 1) * longest / self.side
        return np.interp(shells, np.arange(len(values)), values)

    def angstrom(self, shell: int) -> float:
        """Resolution of a shell, Å."""
        return shell_to_angstrom(shell, self.side, self.voxel_size)


def _clipped(mask: Array) -> Array:
    return np.clip(mask, 0, 1, out=mask)
