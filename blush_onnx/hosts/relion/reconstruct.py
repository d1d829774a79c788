"""From RELION's Fourier sums to maps: unfiltered and regularised, gridding-corrected.

Formulas: docs/numerics.md, section 10. The stored arrays are read plane by plane
and inside the sphere of the current size alone, and the inverse transform keeps
the central box after each axis, so that a padded array never stands in memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.hosts.relion.job import CLASSIFICATION, Job
from blush_onnx.machine import available_cpus, require_memory
from blush_onnx.threads import keep_freed_blocks
from blush_onnx.transforms import for_side, single

MARGIN = 0.001
"""Share of a shell's mean weight that is added to the weights of the unfiltered map."""
TINY = 1e-30

Array = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
Integers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Reconstructions:
    """The maps of a job, (box, box, box) float32.

    Attributes
    ----------
    unfiltered : array, or None for a classification, which has no use for it
        Without a prior but for a margin that keeps empty voxels from blowing up.
    regularised : array
        With the host's own prior, a Wiener filter by tau2.
    notes : tuple of str
        What was out of the ordinary.
    """

    unfiltered: Array | None
    regularised: Array
    notes: tuple[str, ...] = ()


def reconstruct(job: Job, *, threads: int | None = None) -> Reconstructions:
    """Reconstruct a job's unfiltered and regularised map.

    Parameters
    ----------
    job : Job
    threads : int, optional
        CPU threads; by default as many processors as this process may use. The
        result does not depend on them.

    Returns
    -------
    Reconstructions

    Raises
    ------
    InputError
        An array is missing, not an MRC file, not half-complex, of another size
        than the job says, not finite, or a weight below zero; the current size
        is larger than the box.
    OutOfMemoryError
        It would not fit.
    """
    if job.current_size > job.box_size:
        raise InputError(
            f"{job.star}: rlnCurrentImageSize is {job.current_size}, "
            f"larger than the box of {job.box_size}"
        )
    sphere = _Sphere.of(job)
    held = sphere.side * len(sphere.planes) * (sphere.reach + 1) * 8
    maps_held = (1 if job.mode == CLASSIFICATION else 2) * sphere.side**3 * 4
    require_memory(held + maps_held, f"the reconstruction of a box of {job.box_size} voxels")
    weight, real, imag = (
        _Stored.open(path, sphere.padded) for path in (job.weight, job.data_real, job.data_imag)
    )
    keep_freed_blocks()
    with ThreadPoolExecutor(threads or available_cpus()) as pool:
        margin = sphere.tabulate(MARGIN * _shell_means(weight, sphere, pool)[sphere.shells])
        regulariser, notes = margin, tuple[str, ...]()
        if np.any(job.tau2):
            prior = 1 / (job.tau2 * job.tau2_fudge * job.padding**3 + 1e-20)
            indices = np.arange(len(prior)) * job.padding
            regulariser = sphere.tabulate(np.interp(sphere.radii, indices, prior))
        else:
            notes = ("tau2 is zero in every shell: the margin of the weights took its place",)
        added = [regulariser] if job.mode == CLASSIFICATION else [margin, regulariser]
        partial = np.zeros((sphere.side, len(sphere.planes), sphere.reach + 1), np.complex64)
        maps = []
        for table in added:
            _divide(weight, real, imag, table, sphere, partial, pool)
            maps.append(_finish(partial, job, sphere, pool))
    return Reconstructions(maps[0] if len(maps) > 1 else None, maps[-1], notes)


@dataclass(frozen=True)
class _Sphere:
    """What of the stored arrays is used: r < current_size · padding / 2.

    Everything radial is a table over the squared radius, which is an integer.

    Attributes
    ----------
    padded : int
        Side of the padded box, voxels.
    limit : float
        Radius of the sphere, padded Fourier voxels.
    reach : int
        Largest index inside it, and its last shell ⌊r⌋.
    side : int
        Side of the box that is kept, voxels.
    """

    padded: int
    limit: float
    reach: int
    side: int

    @classmethod
    def of(cls, job: Job) -> _Sphere:
        padded = round(job.padding * job.box_size)
        limit = job.current_size * job.padding / 2
        side = padded
        if job.padding > 1:
            side = round(padded / job.padding)
            side += side % 2
        return cls(padded, limit, min(math.ceil(limit) - 1, (padded - 1) // 2), side)

    @property
    def radii(self) -> npt.NDArray[np.float64]:
        """The radius of each squared radius up to the end of the last shell."""
        return np.sqrt(np.arange((self.reach + 1) ** 2))

    @property
    def shells(self) -> Integers:
        """The integer shell ⌊r⌋ of each."""
        return self.radii.astype(np.intp)

    @property
    def planes(self) -> range:
        """The kz that are used."""
        return range(-self.reach, self.reach + 1)

    @property
    def before(self) -> int:
        """Voxels of the kept box in front of the origin."""
        return self.side // 2

    def tabulate(self, added: npt.NDArray[np.float64]) -> Array:
        """What a reconstruction adds to the weights; infinite outside, so that nothing is left."""
        inside = np.where(self.radii < self.limit, added + TINY, np.inf)
        return np.append(inside, np.inf).astype(np.float32)

    def extent(self, kz: int) -> int:
        """Largest |ky| and kx that a plane has in the shells up to the last."""
        return math.isqrt((self.reach + 1) ** 2 - 1 - kz * kz)

    def squared_radii(self, kz: int) -> Integers:
        """Of a plane's elements |ky|, kx ≤ extent, FFTW order; some lie beyond the tables."""
        extent = self.extent(kz)
        squares = np.r_[0 : extent + 1, -extent:0] ** 2
        return np.asarray(kz * kz + squares[:, None] + squares[None, : extent + 1])


@dataclass(frozen=True)
class _Stored:
    """A half-complex array (padded, padded, padded // 2 + 1) in an MRC file, FFTW order."""

    path: Path
    dtype: np.dtype[np.generic]
    offset: int
    padded: int

    @classmethod
    def open(cls, path: Path, padded: int) -> _Stored:
        import mrcfile

        expected = (padded, padded, padded // 2 + 1)
        try:
            with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
                stored = mrc.data
                shape = None if stored is None else stored.shape
                if shape != expected:
                    raise InputError(f"{path} has the shape {shape}, the job asks for {expected}")
                if stored.dtype.kind not in "fiu":
                    raise InputError(f"{path} has {stored.dtype} values, expected real ones")
                return cls(path, stored.dtype, stored.offset, padded)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist") from error
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a readable MRC file: {error}") from error

    def plane(self, kz: int, extent: int) -> Array:
        """The part |ky|, kx ≤ extent of a plane, which is mapped for that long alone."""
        shape = (self.padded, self.padded // 2 + 1)
        size = math.prod(shape) * self.dtype.itemsize
        start = self.offset + kz % self.padded * size
        before = start % mmap.ALLOCATIONGRANULARITY
        values = np.empty((2 * extent + 1, extent + 1), dtype=np.float32)
        with self.path.open("rb") as file:
            view = mmap.mmap(
                file.fileno(), before + size, access=mmap.ACCESS_READ, offset=start - before
            )
            stored = np.ndarray(shape, self.dtype, view, before)
            values[: extent + 1] = stored[: extent + 1, : extent + 1]
            values[extent + 1 :] = stored[self.padded - extent :, : extent + 1]
        if not np.isfinite(values).all():
            raise InputError(f"{self.path} has values that are NaN or infinite")
        return values


def _shell_means(
    weight: _Stored, sphere: _Sphere, pool: ThreadPoolExecutor
) -> npt.NDArray[np.float64]:
    """Mean weight of each integer shell ⌊r⌋, each stored element counted once."""
    shell_of = np.append(sphere.shells, sphere.reach + 1)

    def sums_of(kz: int) -> npt.NDArray[np.float64]:
        values = weight.plane(kz, sphere.extent(kz))
        if values.min() < 0:
            raise InputError(f"{weight.path} has values below zero: expected weights")
        shell = shell_of.take(sphere.squared_radii(kz), mode="clip").ravel()
        length = sphere.reach + 2
        return np.stack([
            np.bincount(shell, values.ravel(), length), np.bincount(shell, minlength=length)
        ])

    total = np.zeros((2, sphere.reach + 2))
    for sums in pool.map(sums_of, sphere.planes):
        total += sums
    weights, count = total[:, :-1]
    return np.asarray(weights / count)


def _divide(
    weight: _Stored, real: _Stored, imag: _Stored, added: Array, sphere: _Sphere,
    partial: Spectrum, pool: ThreadPoolExecutor,
) -> None:
    """Fill (y, kz, kx) with data / (weight + added), transformed and cropped along y.

    What lies beyond a plane's extent is never touched and has to be zero.
    """

    def divide(kz: int) -> None:
        extent = sphere.extent(kz)
        factor = added.take(sphere.squared_radii(kz), mode="clip")
        factor += weight.plane(kz, extent)
        np.reciprocal(factor, out=factor)
        divided = np.empty(factor.shape, dtype=np.complex64)
        np.multiply(real.plane(kz, extent), factor, out=divided.real)
        np.multiply(imag.plane(kz, extent), factor, out=divided.imag)
        partial[:, kz, : extent + 1] = _inverse_along_first(divided, sphere)

    _for_each(divide, sphere.planes, pool)


def _finish(partial: Spectrum, job: Job, sphere: _Sphere, pool: ThreadPoolExecutor) -> Array:
    """The transform along z and x, and the corrections: a map."""
    side, before = sphere.side, sphere.before
    squares = (np.arange(side) - before) ** 2
    radii = np.sqrt(np.arange(3 * int(squares.max()) + 1))
    # The linear interpolation that filled the arrays had the transform sinc².
    correction = (sphere.padded / job.padding) ** 2 / np.sinc(
        radii / (job.box_size * job.padding)
    ) ** 2
    correction = correction.astype(np.float32)
    volume = np.empty((side,) * 3, dtype=np.float32)
    lines = for_side(sphere.padded)

    def finish(y: int) -> None:
        rows = lines.irfft(_inverse_along_first(partial[y], sphere), sphere.padded, axis=1)
        factor = correction.take(squares[y] + squares[:, None] + squares)
        np.multiply(rows[:, -before:], factor[:, :before], out=volume[:, y, :before])
        np.multiply(rows[:, : side - before], factor[:, before:], out=volume[:, y, before:])

    _for_each(finish, range(side), pool)
    return volume


def _inverse_along_first(values: Spectrum, sphere: _Sphere) -> Spectrum:
    """Inverse transform of side `padded` along the first axis, its kept middle."""
    extent, before = values.shape[0] // 2, sphere.before
    wide = np.zeros((sphere.padded, values.shape[1]), dtype=np.complex64)
    wide[: extent + 1] = values[: extent + 1]
    wide[sphere.padded - extent :] = values[extent + 1 :]
    inverse = for_side(sphere.padded).ifft(wide, axis=0)
    kept = np.concatenate([inverse[-before:], inverse[: sphere.side - before]])
    return single(kept)


def _for_each(work: Callable[[int], None], items: range, pool: ThreadPoolExecutor) -> None:
    """Do all, and raise what the first of them that failed raised."""
    for _ in pool.map(work, items):
        pass
