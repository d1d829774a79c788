"""Rotations of volumes."""

from __future__ import annotations

import itertools
from typing import Protocol

import torch
from torch import Tensor

CUBE_ROTATIONS = tuple(
    (axes, flips)
    for axes in itertools.permutations((0, 1, 2))
    for flips in itertools.product((False, True), repeat=3)
    # A rotation has an even number of swaps and flips taken together.
    if (sum(a > b for a, b in itertools.combinations(axes, 2)) + sum(flips)) % 2 == 0
)


class Turn(Protocol):
    """A rotation of volumes about their middle."""

    def __call__(self, volume: Tensor) -> Tensor:
        """The volume, (side, side, side), turned."""

    def place(self, voxel: tuple[int, int, int], side: int) -> tuple[int, int, int]:
        """Where a voxel of the volume comes to lie, to the nearest one."""


class CubeTurn:
    """One of the cube's own rotations: voxels change places, nothing is lost.

    Parameters
    ----------
    axes : tuple of int
        Which axis goes where.
    flips : tuple of bool
        Which axes then run backwards.
    """

    def __init__(self, axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
        self.axes = axes
        self.flips = [axis for axis in range(3) if flips[axis]]

    def __call__(self, volume: Tensor) -> Tensor:
        """The volume, turned; a view of it where nothing runs backwards."""
        return volume.permute(self.axes).flip(self.flips)

    def place(self, voxel: tuple[int, int, int], side: int) -> tuple[int, int, int]:
        """See :class:`Turn`."""
        z, y, x = (
            side - 1 - voxel[axis] if to in self.flips else voxel[axis]
            for to, axis in enumerate(self.axes)
        )
        return z, y, x


class AnyTurn:
    """Any rotation, trilinear in a volume resampled twice as fine, so that little is lost.

    Parameters
    ----------
    matrix : Tensor, (3, 3)
        On (z, y, x).
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __call__(self, volume: Tensor) -> Tensor:
        """The volume, turned about voxel side // 2; beyond its border it goes on as it ends."""
        side = volume.shape[0]
        spectrum = torch.fft.fftshift(torch.fft.rfftn(volume), dim=(0, 1))
        pad = side // 2
        fine = torch.nn.functional.pad(spectrum, (0, pad, pad, pad, pad, pad))
        doubled = torch.fft.irfftn(torch.fft.ifftshift(fine, dim=(0, 1)), (2 * side,) * 3) * 8
        axis = torch.arange(side, device=volume.device, dtype=torch.float32) - side // 2
        places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        matrix = self.matrix.to(volume.device, non_blocking=True)
        places = places @ matrix.T + side // 2
        # grid_sample wants x, y, z in −1…1 between the centres of the outer voxels.
        wanted = (2 * places / (2 * side - 1) * 2 - 1).flip(-1)
        return torch.nn.functional.grid_sample(
            doubled[None, None], wanted[None], align_corners=True, padding_mode="border"
        )[0, 0]

    def place(self, voxel: tuple[int, int, int], side: int) -> tuple[int, int, int]:
        """See :class:`Turn`."""
        offset = torch.tensor(voxel, dtype=torch.float32) - side // 2
        # A voxel o of the result is taken from matrix · o.
        z, y, x = (round(n) + side // 2 for n in (self.matrix.T @ offset).tolist())
        return z, y, x


def random_turn(kind: str, generator: torch.Generator) -> Turn:
    """Draw a rotation.

    Parameters
    ----------
    kind : str
        any or cube.
    generator : torch.Generator
        On the CPU.
    """
    if kind == "cube":
        return CubeTurn(*CUBE_ROTATIONS[int(torch.randint(24, (), generator=generator))])
    q = torch.randn(4, generator=generator, dtype=torch.float64)
    w, x, y, z = (q / q.norm()).tolist()
    return AnyTurn(torch.tensor([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ], dtype=torch.float32))
