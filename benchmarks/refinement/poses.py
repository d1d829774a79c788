"""Particle orientations: RELION's Euler angles, random rotations, errors against the truth.

RELION's angles (rot, tilt, psi) in degrees stand for the matrix
A = Rz(psi) · Ry(tilt) · Rz(rot) of passive rotations, which takes the
coordinates of the map to those of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoseErrors:
    """Refined poses against true ones.

    Attributes
    ----------
    rotation : float
        Mean angle between the two, degrees, the drift taken out.
    drift : float
        Angle of the one rotation that all of them have in common, degrees.
    shift : float
        Mean distance between the two in the plane of the image, Å.
    """

    rotation: float
    drift: float
    shift: float


def matrices(angles: Array) -> Array:
    """Rotation matrices of Euler angles.

    Parameters
    ----------
    angles : array, (n, 3)
        rot, tilt, psi, degrees.

    Returns
    -------
    array, (n, 3, 3)
    """
    rot, tilt, psi = np.radians(angles).T
    return np.asarray(_about_z(psi) @ _about_y(tilt) @ _about_z(rot))


def euler_angles(rotations: Array) -> Array:
    """Euler angles of rotation matrices; at the poles of tilt, rot is 0.

    Parameters
    ----------
    rotations : array, (n, 3, 3)

    Returns
    -------
    array, (n, 3)
        rot, tilt, psi, degrees.
    """
    a = rotations
    tilt = np.arccos(np.clip(a[:, 2, 2], -1, 1))
    pole = np.sin(tilt) < 1e-7
    rot = np.where(pole, 0.0, np.arctan2(a[:, 2, 1], a[:, 2, 0]))
    at_pole = np.arctan2(a[:, 0, 1], a[:, 1, 1])
    psi = np.where(pole, at_pole, np.arctan2(a[:, 1, 2], -a[:, 0, 2]))
    return np.asarray(np.degrees(np.stack([rot, tilt, psi], axis=1)))


def random_rotations(count: int, rng: np.random.Generator) -> Array:
    """Uniformly distributed rotation matrices, (count, 3, 3), by way of quaternions."""
    quaternions = rng.standard_normal((count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    axes = quaternions[:, 1:]
    sines = np.linalg.norm(axes, axis=1)
    return _about_axes(axes / sines[:, None], 2 * np.arctan2(sines, quaternions[:, 0]))


def perturbed(rotations: Array, degrees: float, rng: np.random.Generator) -> Array:
    """Turn each rotation by the same angle about a random axis of its own.

    Parameters
    ----------
    rotations : array, (n, 3, 3)
    degrees : float
    rng : numpy.random.Generator

    Returns
    -------
    array, (n, 3, 3)
    """
    axes = rng.standard_normal((len(rotations), 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return _about_axes(axes, np.full(len(rotations), np.radians(degrees))) @ rotations


def angles_between(first: Array, second: Array) -> Array:
    """Angle of the rotation from each of `first` to each of `second`, degrees, (n,)."""
    # The chord, not the trace, whose arc cosine is blunt near 0.
    chord = np.linalg.norm(first - second, axis=(1, 2)) / np.sqrt(8)
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(chord, 0, 1))))


def drift_of(refined: Array, true: Array) -> Array:
    """Rotation G that refined poses have in common: nearest to the mean of trueᵀ · refined.

    Nothing holds a refined map to the frame of the true one. What refined poses
    reconstruct is the map r ↦ true map(G · r).

    Parameters
    ----------
    refined, true : array, (n, 3, 3)

    Returns
    -------
    array, (3, 3)
    """
    u, _, v = np.linalg.svd(np.einsum("nji,njk->ik", true, refined))
    return np.asarray(u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v)


def pose_errors(
    refined: Array, true: Array, refined_shifts: Array, true_shifts: Array
) -> PoseErrors:
    """Errors of refined poses, rotations against true · drift.

    Parameters
    ----------
    refined, true : array, (n, 3, 3)
    refined_shifts, true_shifts : array, (n, 2)
        Å.

    Returns
    -------
    PoseErrors
    """
    drift = drift_of(refined, true)
    return PoseErrors(
        rotation=float(angles_between(refined, true @ drift).mean()),
        drift=float(angles_between(drift[None], np.eye(3)[None])[0]),
        shift=float(np.linalg.norm(refined_shifts - true_shifts, axis=1).mean()),
    )


def _about_z(radians: Array) -> Array:
    c, s, o, i = np.cos(radians), np.sin(radians), np.zeros_like(radians), np.ones_like(radians)
    return np.stack([c, s, o, -s, c, o, o, o, i], axis=-1).reshape(-1, 3, 3)


def _about_y(radians: Array) -> Array:
    c, s, o, i = np.cos(radians), np.sin(radians), np.zeros_like(radians), np.ones_like(radians)
    return np.stack([c, o, -s, o, i, o, s, o, c], axis=-1).reshape(-1, 3, 3)


def _about_axes(axes: Array, radians: Array) -> Array:
    """Rodrigues' formula."""
    x, y, z = axes.T
    o = np.zeros_like(x)
    cross = np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(-1, 3, 3)
    sine, cosine = np.sin(radians)[:, None, None], np.cos(radians)[:, None, None]
    return np.asarray(np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross))
