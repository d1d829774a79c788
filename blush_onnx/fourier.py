"""Fourier transforms, shells, rescaling and the crossover filter.

Conventions (docs/numerics.md, section 2): volumes are float32 with axes
(z, y, x) and even sides; a half-spectrum is complex64 with axes (kz, ky, kx) in
FFTW order, kx from 0 to side/2. A *shell index* counts Fourier voxels and keeps
its meaning when a box is rescaled, because the box length does not change.

The transforms take the origin at the first voxel. The published implementation
shifts the volume's centre there first, which multiplies every element by
(-1)^(kz + ky + kx); rescaling and radial filters leave that factor alone, so
that it cancels on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from blush_onnx.threads import by_plane
from blush_onnx.transforms import for_side, resize_first, single

Volume = npt.NDArray[np.float32]
HalfSpectrum = npt.NDArray[np.complex64]

CROSSOVER_HALF_WIDTH = 1
"""Half the width of the crossover's cosine edge, in shells."""


def rescaled_side(side: int, voxel_size: float, target_voxel_size: float) -> int:
    """Even side whose voxel size comes nearest to a target (docs/numerics.md, section 3).

    Parameters
    ----------
    side : int
        Side of the cubic box, voxels.
    voxel_size, target_voxel_size : float
        Å per voxel now and as wanted.

    Returns
    -------
    int
        Side in voxels; the new voxel size is ``side * voxel_size / result``.
    """
    length = side * voxel_size
    nearest = round(length / target_voxel_size)
    if nearest % 2 == 0:
        return max(nearest, 2)
    below, above = nearest - 1, nearest + 1
    if below == 0:
        return above
    above_wins = abs(length / above - target_voxel_size) < abs(length / below - target_voxel_size)
    return above if above_wins else below


def forward(
    volume: npt.NDArray[np.floating], side: int | None = None, workers: int = 1
) -> HalfSpectrum:
    """Half-spectrum of a cubic volume on a box of `side`, amplitudes kept.

    A smaller `side` crops the spectrum axis by axis, so that nothing which is
    thrown away gets transformed; a larger one pads it with zeros. Elements are
    copied by index: the planes kx = side/2 and kz, ky = -side/2 of the smaller
    box are neither halved nor mirrored (docs/numerics.md, section 3).

    Parameters
    ----------
    volume : array, (z, y, x), real
        Cubic, even side.
    side : int, optional
        Even side of the box the spectrum is meant for; that of the volume by default.
    workers : int
        Threads; the result does not depend on them.

    Returns
    -------
    array, (side, side, side // 2 + 1), complex64
    """
    old = volume.shape[0]
    new = old if side is None else side
    kept = min(old, new)
    lines = for_side(max(old, new))
    # One plane or row of planes at a time: that stays in the processor's cache.
    partial = np.empty((old, kept, kept // 2 + 1), dtype=np.complex64)

    def along_x_and_y(planes: range) -> None:
        for z in planes:
            along_x = single(lines.rfft(volume[z], axis=1)[:, : kept // 2 + 1])
            partial[z] = resize_first(single(lines.fft(along_x, axis=0)), kept)

    by_plane(along_x_and_y, old, workers)
    scale = np.float32((new / old) ** 3)
    if new <= old:  # each row is read before it is written: there is no need of another array

        def along_z_in_place(rows: range) -> None:
            for y in rows:
                row = resize_first(single(lines.fft(partial[:, y], axis=0)), new)
                partial[:new, y] = row if new == old else row * scale

        by_plane(along_z_in_place, kept, workers)
        return partial[:new]
    spectrum = np.zeros((new, new, new // 2 + 1), dtype=np.complex64)

    def along_z(rows: range) -> None:
        for y in rows:
            row = resize_first(single(lines.fft(partial[:, y], axis=0)), kept)
            row = resize_first(row, new)
            row *= scale
            spectrum[:, y if y < kept // 2 else y - kept, : kept // 2 + 1] = row

    by_plane(along_z, kept, workers)
    return spectrum


def inverse(
    spectrum: HalfSpectrum, side: int | None = None, workers: int = 1, factor: float = 1.0,
    *, overwrite: bool = False,
) -> Volume:
    """Volume of a half-spectrum: complex inverse over z and y, then complex-to-real over x.

    The order matters where the plane kx = 0 is not quite Hermitian: it is then
    averaged with its mate (docs/numerics.md, section 2).

    Parameters
    ----------
    spectrum : array, (n, n, n // 2 + 1), complex64
    side : int, optional
        Even side of the volume, n or more; n by default. A larger one stands for a
        spectrum padded with zeros, which are not transformed; amplitudes fall by
        (n / side)³.
    workers : int
        Threads; the result does not depend on them.
    factor : float
        The volume is multiplied by it.
    overwrite : bool
        Whether the spectrum may be lost, which saves a box's memory where the side stays.

    Returns
    -------
    array, (side, side, side), float32
    """
    old = spectrum.shape[0]
    new = old if side is None else side
    lines = for_side(new)
    volume = np.empty((new, new, new), dtype=np.float32)
    if new > old:  # a plane of it has room for the plane of the spectrum that it is made of
        room = volume.reshape(new, -1)[:, : 2 * math.prod(spectrum.shape[1:])]
        partial = room.view(np.complex64).reshape(new, *spectrum.shape[1:])
    else:
        partial = spectrum if overwrite else np.empty_like(spectrum)

    def along_z(rows: range) -> None:
        for y in rows:
            partial[:, y] = lines.ifft(resize_first(spectrum[:, y], new), axis=0)

    def along_y_and_x(planes: range) -> None:
        for z in planes:
            along_y = single(lines.ifft(resize_first(partial[z], new), axis=0))
            plane = lines.irfft(along_y, n=new, axis=1)  # pads kx with zeros by itself
            np.multiply(plane, np.float32(factor), out=volume[z], casting="same_kind")

    by_plane(along_z, old, workers)
    by_plane(along_y_and_x, new, workers)
    return volume


def rescale(volume: npt.NDArray[np.floating], side: int, workers: int = 1) -> Volume:
    """Resample a cubic volume to another even side by cropping or padding its spectrum.

    Parameters
    ----------
    volume : array, (z, y, x), real
        Cubic, even side.
    side : int
        Even side to resample to, voxels.
    workers : int
        Threads; the result does not depend on them.

    Returns
    -------
    array, (side, side, side), float32
        A copy when the side does not change.
    """
    old = volume.shape[0]
    if side == old:
        return np.array(volume, dtype=np.float32)
    if side < old:
        return inverse(forward(volume, side, workers), workers=workers, overwrite=True)
    return inverse(forward(volume, workers=workers), side, workers, (side / old) ** 3)


def squared_radius_of_plane(side: int, index: int) -> npt.NDArray[np.int64]:
    """Squared shell indices of one kz plane of a half-spectrum.

    Working plane by plane keeps a grid of radii from ever standing in memory whole.

    Parameters
    ----------
    side : int
        Side of the box, voxels.
    index : int
        The plane's place along kz, FFTW order.

    Returns
    -------
    array, (side, side // 2 + 1), int64
        kz² + ky² + kx².
    """
    frequency = np.fft.fftfreq(side, 1 / side).astype(np.int64)
    kx = np.arange(side // 2 + 1, dtype=np.int64)
    return np.asarray(frequency[index] ** 2 + frequency[:, None] ** 2 + kx[None, :] ** 2)


def sum_by_shell(
    side: int, *planes: Callable[[int], npt.NDArray[np.floating]]
) -> npt.NDArray[np.float64]:
    """Sums over the shells of a half-spectrum, shell = round(r), in double precision.

    The plane kx = 0 counts once, the others twice, as in the whole spectrum.

    Parameters
    ----------
    side : int
        Side of the box, voxels.
    *planes : callable
        From the place of a kz plane to its values, (side, side // 2 + 1).

    Returns
    -------
    array, (len(planes), side // 2 + 1), float64
        One row each; corners beyond side/2 are left out.
    """
    last = side // 2
    sums = np.zeros((len(planes), last + 1))
    multiplicity = np.full(last + 1, 2.0)
    multiplicity[0] = 1.0
    for plane in range(side):
        shell = np.rint(np.sqrt(squared_radius_of_plane(side, plane))).astype(np.intp)
        inside = shell <= last
        weight = np.broadcast_to(multiplicity, shell.shape)[inside]
        for row, values in zip(sums, planes, strict=True):
            product = values(plane)[inside].astype(np.float64) * weight
            row += np.bincount(shell[inside], product, minlength=last + 1)
    return sums


def crossover(radius: npt.ArrayLike, cut_off: float, side: int) -> npt.NDArray[np.float32]:
    """Weight C of the denoised spectrum at a shell index (docs/numerics.md, section 5).

    Parameters
    ----------
    radius : array_like
        Shell indices, any shape.
    cut_off : float
        Shell index in the middle of the cosine edge.
    side : int
        Side of the box that the spectrum belongs to.

    Returns
    -------
    array, shape of `radius`, float32
        1 below the edge, 0 beyond it.
    """
    r = np.asarray(radius, dtype=np.float64)
    last = side // 2 + 1
    low = np.clip(cut_off - CROSSOVER_HALF_WIDTH, 0, last)
    high = np.clip(cut_off + CROSSOVER_HALF_WIDTH, 0, last)
    weight = (r < low).astype(np.float64)
    if high > low:
        edge = (r >= low) & (r <= high)
        weight[edge] = 0.5 + 0.5 * np.cos(np.pi * (r[edge] - low) / (high - low))
    return np.asarray(weight, dtype=np.float32)


def apply_crossover(
    denoised: HalfSpectrum, cut_off: float, beyond: HalfSpectrum | None = None
) -> HalfSpectrum:
    """Mix two spectra: denoised · C(cut_off) + beyond · (1 − C(cut_off)).

    Parameters
    ----------
    denoised : array, (side, side, side // 2 + 1), complex64
    cut_off : float
        Shell index in the middle of the edge.
    beyond : array like `denoised`, optional
        What fills the shells beyond the edge; nothing by default.

    Returns
    -------
    array like `denoised`, complex64
    """
    side = denoised.shape[0]
    result = np.empty_like(denoised)
    for plane in range(side):
        weight = crossover(np.sqrt(squared_radius_of_plane(side, plane)), cut_off, side)
        np.multiply(denoised[plane], weight, out=result[plane])
        if beyond is not None:
            result[plane] += beyond[plane] * (1 - weight)
    return result


def filter_by_shell(volume: Volume, weights: npt.NDArray[np.floating]) -> Volume:
    """Multiply a volume's spectrum by a radial curve, linear between shells.

    Parameters
    ----------
    volume : array, (side, side, side), float32
    weights : array, (shells,)
        One factor a shell index from 0; beyond the last the factor is 0.

    Returns
    -------
    array, (side, side, side), float32
    """
    spectrum = forward(volume)
    side = volume.shape[0]
    shells = np.arange(len(weights))
    for plane in range(side):
        radius = np.sqrt(squared_radius_of_plane(side, plane))
        spectrum[plane] *= np.interp(radius, shells, weights, right=0.0).astype(np.float32)
    return inverse(spectrum, overwrite=True)
