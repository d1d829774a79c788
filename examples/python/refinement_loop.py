"""A complete refinement that uses Blush regularisation, in one page of NumPy.

    python examples/python/refinement_loop.py

The smallest real refinement there is: noisy copies of one volume, each shifted by
an unknown vector. Two halves of the data are refined apart. Each iteration aligns
every particle to its half's reference by cross-correlation, averages, and turns
the two averages into the next references. What a host does in its place is in
align() and average(); the one call that concerns blush-onnx is in regularise().
Everything is simulated here, so that the error of the shifts is known.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from blush_onnx import Denoiser, Regularised, regularise

SIDE, VOXEL_SIZE, DIAMETER = 48, 2.6, 90.0  # voxels, Å, Å
PARTICLES, LARGEST_SHIFT, NOISE = 60, 5, 12.0  # a half, voxels, standard deviations of the signal
ITERATIONS = 4

Volume = npt.NDArray[np.float32]
Shifts = npt.NDArray[np.int64]


def simulate(rng: np.random.Generator) -> tuple[Volume, Volume, Shifts]:
    """The true volume, its noisy shifted copies, and by how much each is shifted."""
    grid = np.stack(np.meshgrid(*[np.arange(SIDE) - SIDE // 2] * 3, indexing="ij"))
    truth = np.zeros((SIDE,) * 3)
    for centre in rng.normal(0, 5.5, (60, 3)):
        truth += np.exp(-((grid - centre[:, None, None, None]) ** 2).sum(axis=0) / 5)
    shifts = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (2 * PARTICLES, 3))
    shifts[:, :] -= np.rint(shifts.mean(axis=0)).astype(int)
    particles = np.stack([np.roll(truth, s, axis=(0, 1, 2)) for s in shifts]).astype(np.float32)
    particles += NOISE * truth.std() * rng.standard_normal(particles.shape, dtype=np.float32)
    return truth.astype(np.float32), particles, shifts


def align(particles: Volume, reference: Volume) -> Shifts:
    """The shift of each particle with the best cross-correlation, among the allowed ones."""
    near = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE)) <= LARGEST_SHIFT
    allowed = near[:, None, None] & near[:, None] & near
    conjugate = np.fft.rfftn(reference).conj()
    found = []
    for particle in particles:
        scores = np.fft.irfftn(np.fft.rfftn(particle) * conjugate, axes=(0, 1, 2))
        best = np.unravel_index(np.where(allowed, scores, -np.inf).argmax(), scores.shape)
        found.append([b if b <= SIDE // 2 else b - SIDE for b in best])
    return np.array(found)


def average(particles: Volume, shifts: Shifts) -> Volume:
    """Mean of the particles, each shifted back: an unfiltered half-map."""
    back = [np.roll(p, -s, axis=(0, 1, 2)) for p, s in zip(particles, shifts, strict=True)]
    return np.mean(back, axis=0)


def error(found: Shifts, true: Shifts) -> float:
    """Mean distance in voxels between found and true shifts, a common offset aside."""
    difference = found - true
    return float(np.linalg.norm(difference - np.median(difference, axis=0), axis=1).mean())


def main(model: str | None = None) -> list[float]:
    """Refine, and return the error of the shifts after each iteration, voxels."""
    _, particles, true = simulate(np.random.default_rng(1))
    denoiser = Denoiser.load(model)  # once: every iteration uses it again
    shifts = np.zeros_like(true)
    halves = slice(0, PARTICLES), slice(PARTICLES, None)
    errors = [error(shifts, true)]
    print(f"start: shifts off by {errors[0]:.2f} voxels; model {denoiser.config.name}")
    for iteration in range(1, ITERATIONS + 1):
        half_maps = [average(particles[half], shifts[half]) for half in halves]
        result: Regularised = regularise(
            *half_maps, VOXEL_SIZE, denoiser=denoiser, particle_diameter=DIAMETER
        )
        for half, reference in zip(
            halves, (result.reference_1, result.reference_2), strict=True
        ):
            shifts[half] = align(particles[half], reference)
        errors.append(float(np.mean([error(shifts[half], true[half]) for half in halves])))
        print(
            f"iteration {iteration}: half-maps agree to {result.fsc.resolution():.1f} Å, "
            f"references cut off at {result.cut_off_angstrom:.1f} Å, "
            f"shifts off by {errors[-1]:.2f} voxels"
        )
    return errors


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
