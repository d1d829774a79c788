"""The radial mask, the local standard deviation, and the statistics of a volume.

Formulas: docs/numerics.md, section 4.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blush_onnx.threads import by_plane

LOCAL_STD_TAPS = 21
LOCAL_STD_EXTENT = 1.5
REFINEMENT_EDGE = 20
CLASS_EDGE_ANGSTROM = 10


def radial_mask(side: int, radius: float, edge: float) -> npt.NDArray[np.float32]:
    """Soft sphere in the middle of a cubic box.

    The coordinates run from −side/2 to side/2 with both ends included, and the
    cosine divides by `edge` although it spans 2·⌊edge/2⌋: both are the published
    implementation's and shape its results.

    Parameters
    ----------
    side : int
        Side of the box, voxels.
    radius : float
        Radius at which the soft edge is centred, voxels. May be negative.
    edge : float
        Nominal width of the edge, voxels, above 0.

    Returns
    -------
    array, (side, side, side), float32
        In 0…1.
    """
    squared = np.linspace(-side / 2, side / 2, side, dtype=np.float64) ** 2
    low = radius - edge // 2
    high = radius + edge // 2
    in_plane = squared[:, None] + squared[None, :]
    mask = np.empty((side, side, side), dtype=np.float32)
    for plane in range(side):
        r = np.sqrt(squared[plane] + in_plane)
        mask[plane] = r < low
        soft = (r >= low) & (r <= high)
        mask[plane][soft] = 0.5 + 0.5 * np.cos(np.pi * (r[soft] - low) / edge)
    return mask


def refinement_sphere(
    side: int, voxel_size: float, particle_diameter: float | None
) -> npt.NDArray[np.float32]:
    """Mask of mode refine (docs/numerics.md, section 5).

    The formula adds Å² to voxels. It is the published one, and the maps follow it:
    but for fine voxels it is the largest sphere in the box.

    Parameters
    ----------
    side : int
        Voxels.
    voxel_size : float
        Å.
    particle_diameter : float or None
        Å; None: the largest sphere.

    Returns
    -------
    array, (side, side, side), float32
    """
    edge = REFINEMENT_EDGE * voxel_size
    radius = (side - edge) / 2
    if particle_diameter is not None:
        radius = min(particle_diameter * voxel_size + edge / 2, radius)
    return radial_mask(side, radius, edge)


def tight_box_warning(box: float, voxel_size: float, particle_diameter: float) -> str | None:
    """A warning for a particle that reaches beyond where :func:`refinement_sphere` is one half.

    The network's input and twice its output are multiplied by that sphere, so that a
    particle in a tight box loses its outer parts at all frequencies.

    Parameters
    ----------
    box : float
        Å.
    voxel_size : float
        The model's, Å.
    particle_diameter : float
        Å.

    Returns
    -------
    str or None
    """
    edge = REFINEMENT_EDGE * voxel_size * voxel_size
    if particle_diameter <= box - edge:
        return None
    return (
        f"the box of {box:.0f} Å is tight for a particle of {particle_diameter:.0f} Å: the soft "
        f"sphere of the published method falls to one half at {max(box - edge, 0):.0f} Å across "
        f"and damps the particle's outer parts; extract particles in a box of at least "
        f"{particle_diameter + edge:.0f} Å, better {particle_diameter + 2 * edge:.0f} Å"
    )


def class_sphere(
    side: int, voxel_size: float, particle_diameter: float | None
) -> npt.NDArray[np.float32]:
    """Mask of mode classification (docs/numerics.md, section 5).

    Parameters
    ----------
    side : int
        Voxels.
    voxel_size : float
        The model's, Å.
    particle_diameter : float or None
        Å; None: the largest sphere.

    Returns
    -------
    array, (side, side, side), float32
    """
    edge = int(CLASS_EDGE_ANGSTROM / voxel_size)
    radius = (side - edge) / 2 + 1
    if particle_diameter is not None:
        radius = min(particle_diameter / (2 * voxel_size) + edge / 2, radius)
    return radial_mask(side, radius, edge)


def default_mask(shape: tuple[int, ...], edge: int = 6) -> npt.NDArray[np.float32]:
    """The mask that the network gets when none is given: the largest soft sphere.

    Parameters
    ----------
    shape : tuple of int
        Sides of the volume at the model's voxel size, (z, y, x). The sphere is
        that of the cube over the longest side, cut to the box about its centre.
    edge : int
        Width of the edge, voxels.

    Returns
    -------
    array, `shape`, float32
    """
    side = max(shape)
    cube = radial_mask(side, (side - edge) / 2, edge)
    return cube[tuple(centred(side, length) for length in shape)]


def centred(outer: int, inner: int) -> slice:
    """Where a short axis lies centred in a long one, centre voxel side // 2 on side // 2.

    Parameters
    ----------
    outer, inner : int
        Lengths, voxels; `inner` is not the longer one.

    Returns
    -------
    slice
        Of `inner` voxels.
    """
    start = outer // 2 - inner // 2
    return slice(start, start + inner)


def mean_and_std(volume: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean and unbiased standard deviation (n − 1), summed plane by plane in double.

    Parameters
    ----------
    volume : array, (z, y, x), float32

    Returns
    -------
    mean, standard_deviation : float
        In the volume's unit.
    """
    count = volume.size
    mean = float(np.add.reduce(volume, axis=None, dtype=np.float64)) / count
    squares = 0.0
    for plane in volume:
        squares += float(np.square(plane.astype(np.float64) - mean).sum())
    return mean, math.sqrt(squares / (count - 1))


def local_std(
    volume: npt.NDArray[np.float32], workers: int = 1
) -> npt.NDArray[np.float32]:
    """Local standard deviation under a small Gaussian window, not yet normalised.

    With k the separable window (21 taps, exp(−u²), u from −1.5 to 1.5, sum 1)
    and zeros outside the box, l = √max(k∗v² − (k∗v)², 0). The volume's mean is
    taken out first and its share added back in closed form, so that single
    precision does not lose the variance under a large offset.

    Parameters
    ----------
    volume : array, (z, y, x), float32
    workers : int
        Threads; the result does not depend on them.

    Returns
    -------
    array, shape of `volume`, float32
        Same unit as the volume.
    """
    offset = float(np.mean(volume, dtype=np.float64))
    u = np.linspace(-LOCAL_STD_EXTENT, LOCAL_STD_EXTENT, LOCAL_STD_TAPS)
    kernel = np.exp(-(u**2))
    kernel /= kernel.sum()
    cz, cy, cx = (_coverage(side, kernel) for side in volume.shape)
    coverage_in_plane = cy[:, None] * cx[None, :]

    centred_volume = volume - np.float32(offset)
    average = _convolve(centred_volume, kernel, workers)
    np.square(centred_volume, out=centred_volume)
    variance = _convolve(centred_volume, kernel, workers)
    variance -= np.square(average)
    for plane in range(volume.shape[0]):
        coverage = cz[plane] * coverage_in_plane
        missing = 1 - coverage
        share = missing * (2 * offset * average[plane] + offset**2 * coverage)
        variance[plane] += share.astype(np.float32)
    return np.sqrt(np.maximum(variance, 0, out=variance), out=variance)


def smooth_outside(
    volume: npt.NDArray[np.float32], mask: npt.NDArray[np.float32], sigma: int
) -> npt.NDArray[np.float32]:
    """Keep a volume where a mask is 1 and blur it with a Gaussian where the mask is 0.

    Source: docs/numerics.md, section 5 (the published implementation's smoothing
    mask, made for amyloids). Its window has 5·sigma taps, made odd, zeros outside.

    Parameters
    ----------
    volume, mask : array, (z, y, x), float32
    sigma : int
        Standard deviation, voxels; 0 leaves the volume as it is.

    Returns
    -------
    array like `volume`
    """
    if sigma < 1:
        return volume
    taps = 5 * sigma + (sigma + 1) % 2
    t = np.linspace(-(taps // 2 + 1), taps // 2 + 1, taps)
    kernel = np.exp(-((t / sigma) ** 2) / 2)
    blurred = _convolve(volume, kernel / kernel.sum())
    return volume * mask + blurred * (1 - mask)


def _coverage(side: int, kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the window that lies inside the box, along one axis."""
    half = len(kernel) // 2
    return np.convolve(np.ones(side), kernel)[half : half + side]


def _convolve(
    volume: npt.NDArray[np.float32], kernel: npt.NDArray[np.float64], workers: int = 1
) -> npt.NDArray[np.float32]:
    """Convolution with a symmetric window along each axis, zeros outside, plane by plane.

    Not as products with banded matrices: those run in threads that wait for each other,
    plane after plane, which takes many times longer where a host runs jobs side by side.
    """
    half, (depth, height, width) = len(kernel) // 2, volume.shape
    zeros = np.zeros((height, width), dtype=np.float32)
    result = np.empty(volume.shape, dtype=np.float32)

    def convolve(of_result: range) -> None:
        in_y = np.zeros((height + 2 * half, width), dtype=np.float32)
        in_x = np.zeros((height, width + 2 * half), dtype=np.float32)
        for z in of_result:
            around = range(z - half, z + half + 1)
            planes = [volume[k] if 0 <= k < depth else zeros for k in around]
            in_y[half : half + height] = _weighted_sum(planes, kernel)
            shifted = [in_y[k : k + height] for k in range(len(kernel))]
            in_x[:, half : half + width] = _weighted_sum(shifted, kernel)
            shifted = [in_x[:, k : k + width] for k in range(len(kernel))]
            result[z] = _weighted_sum(shifted, kernel)

    by_plane(convolve, depth, workers)
    return result


def _weighted_sum(
    planes: list[npt.NDArray[np.float32]], kernel: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Sum of the planes times a symmetric window's weights."""
    half, weights = len(kernel) // 2, kernel.astype(np.float32)
    total = np.asarray(planes[half] * weights[half])
    pair = np.empty_like(total)
    for k in range(half):
        np.add(planes[k], planes[-1 - k], out=pair)
        pair *= weights[k]
        total += pair
    return total
