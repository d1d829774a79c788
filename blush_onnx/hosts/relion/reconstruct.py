"""From RELION's Fourier sums to maps: unfiltered and regularised, gridding-corrected.

Formulas: docs/numerics.md, section 10. Only the cube around the sphere of the
current size is ever in memory, and the inverse transform goes axis by axis and
keeps the central box alone, so that a padded array never stands there whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.hosts.relion.job import Job

MARGIN = 0.001
"""Share of a shell's mean weight that is added to the weights of the unfiltered map."""
TINY = 1e-30

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reconstructions:
    """The two maps of a job, (box, box, box) float32.

    Attributes
    ----------
    unfiltered : array
        Without a prior but for a margin that keeps empty voxels from blowing up.
    regularised : array
        With the host's own prior, a Wiener filter by tau2.
    notes : tuple of str
        What was out of the ordinary.
    """

    unfiltered: Array
    regularised: Array
    notes: tuple[str, ...] = ()


def reconstruct(job: Job) -> Reconstructions:
    """Reconstruct a job's unfiltered and regularised map.

    Parameters
    ----------
    job : Job

    Returns
    -------
    Reconstructions

    Raises
    ------
    InputError
        An array is missing, not an MRC file, not half-complex, of another size
        than the job says, or not finite.
    """
    padded = round(job.padding * job.box_size)
    limit = job.current_size * job.padding / 2
    reach = min(math.ceil(limit) - 1, padded // 2 - 1)
    weight = _read_cube(job.weight, padded, reach)
    data = _read_cube(job.data_real, padded, reach).astype(np.complex64)
    data.imag = _read_cube(job.data_imag, padded, reach)

    radius = _radii(reach)
    data[radius >= limit] = 0
    data *= np.float32((padded / job.padding) ** 2)
    margin = _shell_means(weight, radius) * MARGIN
    floor = margin[radius.astype(np.intp)].astype(np.float32)
    notes: tuple[str, ...] = ()
    if np.any(job.tau2):
        prior = 1 / (job.tau2 * job.tau2_fudge * job.padding**3 + 1e-20)
        shells = np.arange(len(prior)) * job.padding
        regulariser = np.interp(radius, shells, prior)
    else:
        regulariser = floor.astype(np.float64)
        notes = ("tau2 is zero in every shell: the margin of the weights took its place",)
    unfiltered = data / (weight + floor + np.float32(TINY))
    regularised = (data / (weight + regulariser + TINY)).astype(np.complex64)
    return Reconstructions(
        _to_box(unfiltered, padded, job), _to_box(regularised, padded, job), notes
    )


def _read_cube(path: Path, padded: int, reach: int) -> Array:
    """The part |kz|, |ky|, kx ≤ reach of a stored array, in FFTW order."""
    import mrcfile

    try:
        with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
            stored = mrc.data
            if stored is None or stored.shape != (padded, padded, padded // 2 + 1):
                shape = None if stored is None else stored.shape
                raise InputError(
                    f"{path} has the shape {shape}, the job asks for "
                    f"{(padded, padded, padded // 2 + 1)}"
                )
            index = np.r_[0 : reach + 1, padded - reach : padded]
            cube = np.array(stored[index][:, index, : reach + 1], dtype=np.float32)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a readable MRC file: {error}") from error
    if not np.isfinite(cube).all():
        raise InputError(f"{path} has values that are NaN or infinite")
    return cube


def _radii(reach: int) -> npt.NDArray[np.float64]:
    """Distance from the origin of each element of such a cube, in padded Fourier voxels."""
    k = np.r_[0 : reach + 1, -reach:0].astype(np.float64)
    squared = k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(reach + 1.0) ** 2
    return np.asarray(np.sqrt(squared))


def _shell_means(
    weight: Array, radius: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean weight of each integer shell ⌊r⌋, each stored element counted once."""
    shell = radius.astype(np.intp).ravel()
    count = np.bincount(shell)
    return np.asarray(np.bincount(shell, weight.ravel()) / np.maximum(count, 1))


def _to_box(cube: npt.NDArray[np.complex64], padded: int, job: Job) -> Array:
    """Inverse transform of side `padded`, its central box, corrected for gridding."""
    side = padded
    if job.padding > 1:
        side = round(padded / job.padding)
        side += side % 2
    partial: npt.NDArray[np.complexfloating] = cube
    reach = cube.shape[2] - 1
    kept = np.r_[padded - side // 2 : padded, 0 : side // 2]  # the centre is at element 0
    for axis in (0, 1):
        shape = list(partial.shape)
        shape[axis] = padded
        wide = np.zeros(shape, dtype=np.complex64)
        low = [slice(None)] * 3
        high = [slice(None)] * 3
        low[axis], high[axis] = slice(0, reach + 1), slice(padded - reach, padded)
        wide[tuple(low)] = np.take(partial, range(reach + 1), axis)
        wide[tuple(high)] = np.take(partial, range(reach + 1, 2 * reach + 1), axis)
        partial = np.take(np.fft.ifft(wide, axis=axis).astype(np.complex64), kept, axis)
    volume = np.fft.irfft(partial, n=padded, axis=2).astype(np.float32)[:, :, kept]
    _correct_gridding(volume, job.box_size * job.padding)
    return volume


def _correct_gridding(volume: Array, length: float) -> None:
    """Divide by sinc²(r / length), the transform of the linear interpolation, in place."""
    side = len(volume)
    squared = (np.arange(side) - side // 2) ** 2
    in_plane = squared[:, None] + squared[None, :]
    for plane in range(side):
        volume[plane] /= np.sinc(np.sqrt(squared[plane] + in_plane) / length) ** 2
