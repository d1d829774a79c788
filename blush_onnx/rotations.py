"""The 48 orientations of a cube.

Turning a volume by the symmetries of its grid permutes and flips axes: voxels move and
nothing is interpolated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError

Array = npt.NDArray[np.float32]

MOST_ORIENTATIONS = 48
_EVEN = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
_ODD = ((0, 2, 1), (2, 1, 0), (1, 0, 2))


@dataclass(frozen=True)
class Orientation:
    """One of the 48 ways to lay a cube on itself.

    Attributes
    ----------
    axes : tuple of int
        Which axis of the volume becomes each axis of the turned one.
    flipped : tuple of bool
        Which axes of the turned volume then run backwards.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @property
    def is_proper(self) -> bool:
        """Whether it is a rotation, which keeps the hand; else a mirror is in it."""
        return (self.axes in _EVEN) == (sum(self.flipped) % 2 == 0)

    def turn(self, volume: Array) -> Array:
        """The volume in this orientation, a view; its sides follow their axes."""
        return np.flip(volume.transpose(self.axes), self._flips)

    def turn_back(self, volume: Array) -> Array:
        """What :meth:`turn` was given, a view."""
        z, y, x = (self.axes.index(axis) for axis in range(3))
        return np.asarray(np.flip(volume, self._flips).transpose(z, y, x))

    @property
    def _flips(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if self.flipped[axis])


def orientations(count: int) -> tuple[Orientation, ...]:
    """The first of the cube's 48 orientations: 24 rotations, then 24 with a mirror.

    In an order in which the first 1, 2, 4, 12, 24 and 48 are groups: as they are; half
    a turn about z; half turns about all axes; thirds of a turn about the diagonals as
    well; all rotations; everything. The average over a group does not depend on
    which of its orientations the volume came in.

    Parameters
    ----------
    count : int
        1 to 48.

    Returns
    -------
    tuple of Orientation
        The first leaves the volume as it is.

    Raises
    ------
    InputError
        `count` is not a whole number from 1 to 48.
    """
    whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
    if not whole or not 1 <= count <= MOST_ORIENTATIONS:
        raise InputError(
            f"{count} rotations: give a whole number from 1 (none) to {MOST_ORIENTATIONS}; the "
            "time grows with it"
        )
    flips = [(False, False, False), (False, True, True), (True, False, True), (True, True, False)]
    others = [(not z, not y, not x) for z, y, x in flips]
    every = itertools.chain(
        itertools.product(_EVEN, flips), itertools.product(_ODD, others),
        itertools.product(_EVEN, others), itertools.product(_ODD, flips),
    )
    return tuple(itertools.starmap(Orientation, itertools.islice(every, count)))
