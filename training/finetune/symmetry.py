"""The copies of a place in a symmetric map, whose noise is the same noise."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from scipy import ndimage
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
    """Places of a box and all their copies, to the nearest voxel.

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
    centre = np.full(3, places.shape[0] // 2, dtype=float)
    for matrix in rotations_of(symmetry)[1:]:
        turned = matrix[::-1, ::-1]  # for (z, y, x)
        found |= ndimage.affine_transform(
            places.astype(np.uint8), turned, centre - turned @ centre, order=0
        ).astype(bool)
    return found
