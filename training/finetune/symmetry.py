"""The copies of a place in a symmetric map, whose noise is the same noise."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from blush_onnx.errors import InputError

Places = npt.NDArray[np.bool_]


def rotations_of(symmetry: str) -> npt.NDArray[np.float64]:
    """Rotations of a point group, the identity first.

    Parameters
    ----------
    symmetry : str
        Cn (about z), Dn (z, and a twofold axis along x) or O (along the axes), as RELION
        names and places them.

    Returns
    -------
    array, (rotations, 3, 3), float64
        Of coordinates (x, y, z) about the centre of the box.

    Raises
    ------
    InputError
        Another group, or no group's name.
    """
    name = symmetry.strip().upper()
    if not re.fullmatch(r"[CD][1-9]\d?|O", name):
        raise InputError(
            f"symmetry {symmetry!r}: give Cn, Dn or O; for other groups give C1 and a mask around "
            "one asymmetric unit"
        )
    matrices = Rotation.create_group(name, axis="Z").as_matrix()
    order = np.argsort([not np.allclose(m, np.eye(3)) for m in matrices], kind="stable")
    return np.asarray(matrices[order])


def with_copies(places: Places, symmetry: str) -> Places:
    """Places of a box and every voxel that their copies touch.

    Parameters
    ----------
    places : array, (side, side, side), bool
        Axes (z, y, x); the symmetry's centre is the voxel side // 2.
    symmetry : str
        As for :func:`rotations_of`.

    Returns
    -------
    array like `places`
    """
    found: Places = places.copy()
    side = places.shape[0]
    # Eight points of each voxel, so that no copy has gaps.
    corners = np.stack(np.meshgrid(*[[-0.25, 0.25]] * 3), axis=-1).reshape(-1, 3)
    points = (np.argwhere(places)[:, None] - side // 2 + corners).reshape(-1, 3)
    for matrix in rotations_of(symmetry)[1:]:
        turned = matrix[::-1, ::-1]  # for (z, y, x)
        copies = np.rint(points @ turned.T).astype(int) + side // 2
        inside = ((copies >= 0) & (copies < side)).all(axis=1)
        found[tuple(copies[inside].T)] = True
    return found
