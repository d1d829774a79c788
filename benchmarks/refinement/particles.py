"""Simulated particles: projections by RELION under a CTF, plus white noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt

from benchmarks.refinement import poses, relion
from benchmarks.refinement.stars import Particles, write_particles
from benchmarks.refinement.truth import Truth, low_passed, write_map

Images = npt.NDArray[np.float32]

DEFOCUS = (8000.0, 22000.0)  # Å
ASTIGMATISM = 300.0  # standard deviation of (U − V) / 2, Å
PER_MICROGRAPH = 50
SHIFT = 3.0
"""Standard deviation of the true shifts along x and y, Å."""
START_ANGLE = 10.0
"""From the true orientations to those that a refinement starts with, degrees."""
START_SHIFT = 1.5
"""Standard deviation of the start shifts from the true ones along x and y, Å."""
REFERENCE_RESOLUTION = 25.0
"""What is left of the true map in the reference that a refinement starts with, Å."""

STACK, START, TRUE, REFERENCE = "particles.mrcs", "start.star", "true.star", "reference.mrc"


@dataclass(frozen=True)
class Simulation:
    """How particles are simulated.

    Attributes
    ----------
    count : int
    snr : float
        Variance of the projections under their CTF over that of the noise.
    seed : int
        Of poses, noise and half-sets.
    randomised_beyond : float or None
        Resolution beyond which each particle's phases are random, Å.
    """

    count: int
    snr: float
    seed: int
    randomised_beyond: float | None = None


def simulate(folder: Path, truth: Truth, simulation: Simulation) -> None:
    """Write a stack, its start and true poses, and a reference for a refinement.

    Poses depend on the seed and the count alone, and so does the noise.

    Parameters
    ----------
    folder : Path
        Has to exist; gets particles.mrcs, start.star, true.star and reference.mrc.
    truth : Truth
    simulation : Simulation

    Raises
    ------
    BlushError
        RELION is not installed or failed.
    """
    side, pixel_size = truth.density.shape[0], truth.voxel_size
    true, start = draw(simulation.count, simulation.seed)
    for name, particles in ((TRUE, true), (START, start)):
        write_particles(folder / name, STACK, particles, side, pixel_size)
    write_map(folder / REFERENCE, truth.density, pixel_size)
    images = relion.project(folder, REFERENCE, TRUE)
    scale = np.sqrt(simulation.snr) / images.std()
    images *= scale
    rng = np.random.default_rng([simulation.seed, 1])
    images += rng.standard_normal(images.shape, dtype=np.float32)
    if simulation.randomised_beyond is not None:
        images = phases_randomised(images, pixel_size, simulation.randomised_beyond, rng)
    with mrcfile.new(folder / STACK, images, overwrite=True) as mrc:
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size
    # On the particles' own grey scale, so that RELION need not guess it.
    reference = low_passed(truth.density * np.float32(scale), pixel_size, REFERENCE_RESOLUTION)
    write_map(folder / REFERENCE, reference, pixel_size)


def draw(count: int, seed: int) -> tuple[Particles, Particles]:
    """Poses, defocus and half-sets: the true ones, and those that a refinement starts with.

    Parameters
    ----------
    count : int
    seed : int

    Returns
    -------
    true, start : Particles
    """
    rng = np.random.default_rng([seed, 0])
    rotations = poses.random_rotations(count, rng)
    shifts = rng.normal(0, SHIFT, (count, 2))
    micrograph = np.arange(count) // PER_MICROGRAPH
    micrographs = int(micrograph[-1]) + 1
    mean = rng.uniform(*DEFOCUS, micrographs)
    astigmatism = np.abs(rng.normal(0, ASTIGMATISM, micrographs))
    angle = rng.uniform(-90, 90, micrographs)
    defocus = np.stack([mean + astigmatism, mean - astigmatism, angle], axis=1)[micrograph]
    half = rng.permutation(np.arange(count) % 2) + 1
    true = Particles(poses.euler_angles(rotations), shifts, defocus, half, micrograph + 1)
    turned = poses.perturbed(rotations, START_ANGLE, rng)
    start = replace(
        true,
        angles=poses.euler_angles(turned),
        shifts=shifts + rng.normal(0, START_SHIFT, (count, 2)),
    )
    return true, start


def phases_randomised(
    images: Images, pixel_size: float, beyond: float, rng: np.random.Generator
) -> Images:
    """Images with random phases beyond a resolution, each its own; amplitudes stay.

    Parameters
    ----------
    images : array, (n, side, side), float32
    pixel_size : float
        Å.
    beyond : float
        Resolution, Å.
    rng : numpy.random.Generator

    Returns
    -------
    array like `images`, float32
    """
    side = images.shape[-1]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    outer = frequency / pixel_size > 1 / beyond
    result = np.empty_like(images)
    for number, image in enumerate(images):
        spectrum = np.fft.rfft2(image)
        noise = np.fft.rfft2(rng.standard_normal((side, side)))
        spectrum[outer] = np.abs(spectrum[outer]) * (noise[outer] / np.abs(noise[outer]))
        result[number] = np.fft.irfft2(spectrum, s=(side, side))
    return result
