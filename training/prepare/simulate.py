"""A pair of half-maps simulated from an atomic model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from blush_onnx.fourier import Volume
from training.prepare import density, noise, surroundings
from training.prepare.dataset import TrainingPair
from training.prepare.structures import Atoms

Floats = npt.NDArray[np.float32]

MASK_RADIUS, MASK_EDGE = 5.0, 8.0
"""From an atom to where the mask starts to fall, and the width of its edge, Å."""
ORDERED_BELOW = 180.0
"""B factor from which on an atom is disorder and not part of the mask, Å²."""


@dataclass(frozen=True)
class Settings:
    """What is drawn for each pair; ranges are uniform.

    Attributes
    ----------
    voxel_size : float
        Å.
    smallest_box, largest_box : int
        Voxels. What a structure larger than the box has outside is cut off.
    box_to_diameter : (float, float)
    mean_b : (float, float)
        Mean B factor with the images' envelope in it, Å².
    resolution : (float, float)
        Where the halves' FSC falls to 0.143, Å.
    """

    voxel_size: float = 1.5
    smallest_box: int = 96
    largest_box: int = 192
    box_to_diameter: tuple[float, float] = (1.25, 2.2)
    mean_b: tuple[float, float] = (30.0, 150.0)
    resolution: tuple[float, float] = (2.8, 4.5)


def simulate(atoms: Atoms, seed: int, settings: Settings) -> TrainingPair:
    """Make a pair in a random orientation.

    Parameters
    ----------
    atoms : Atoms
    seed : int
        With the structure's name it decides everything that is drawn.
    settings : Settings

    Returns
    -------
    TrainingPair
    """
    rng = np.random.default_rng([seed, *atoms.name.encode()])
    voxel_size = settings.voxel_size
    side = _box(atoms.diameter / voxel_size, settings, rng)
    atoms_xyz = (atoms.positions @ _random_rotation(rng).T).astype(np.float32)
    notes: dict[str, Any] = {"seed": seed}

    b_factors = _b_factors(atoms, atoms_xyz, settings, rng, notes)
    clean = _ensemble(atoms, atoms_xyz, b_factors, side, voxel_size, rng, notes)
    near = density.distance_to_atoms(atoms_xyz, side, voxel_size)
    protein = density.soft_mask(near, 1.0, 3.0)
    unit = float(clean[near < 2].mean())
    if atoms.membrane or rng.random() < 0.08:
        disc = bool(rng.random() < 0.4)
        body = surroundings.belt(atoms_xyz, side, voxel_size, rng, disc=disc)
        clean += unit * body * (1 - protein)
        notes["surrounded_by"] = "nanodisc" if disc else "micelle"
    if rng.random() < 0.3:
        tails = surroundings.appendages(atoms_xyz, side, voxel_size, rng)
        clean += unit * tails * (1 - protein)
        notes["disordered_tails"] = True
    clean = density.displace_solvent(clean, voxel_size)

    ordered = atoms_xyz[b_factors < ORDERED_BELOW]
    if len(ordered) < len(atoms_xyz):
        near = density.distance_to_atoms(
            ordered if len(ordered) else atoms_xyz, side, voxel_size
        )
    mask = density.soft_mask(near, MASK_RADIUS, MASK_EDGE)
    resolution = float(rng.uniform(*settings.resolution))
    band = _band_limit(side, voxel_size, resolution, rng, notes)
    if band is not None:
        clean = density.filtered(clean, band)
    half_1, half_2 = _halves(clean, near, voxel_size, resolution, band, rng, notes)
    return TrainingPair(
        atoms.name, half_1, half_2, mask, clean, voxel_size, resolution, atoms.cluster,
        atoms.split, f"simulated from {atoms.source or atoms.name}", atoms.licence, notes,
    )


def _box(diameter: float, settings: Settings, rng: np.random.Generator) -> int:
    wanted = diameter * rng.uniform(*settings.box_to_diameter)
    side = int(np.clip(wanted, settings.smallest_box, settings.largest_box))
    return 2 * int(fft.next_fast_len(side // 2))


def _random_rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Even over all orientations, from a random unit quaternion."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])


def _b_factors(
    atoms: Atoms, positions: Floats, settings: Settings, rng: np.random.Generator,
    notes: dict[str, Any],
) -> Floats:
    """The model's own, spread around a drawn mean, rising outwards, with a floppy region."""
    own = np.clip(atoms.b_factors, 1, 200)
    mean = rng.uniform(*settings.mean_b)
    radius = np.linalg.norm(positions, axis=1)
    b_factors = np.asarray(mean * (0.4 + 0.6 * own / own.mean()))
    b_factors += rng.uniform(0, 60) * (radius / max(float(radius.max()), 1.0)) ** 2
    if rng.random() < 0.3:
        centre = positions[rng.integers(len(positions))]
        reach = min(rng.uniform(10, 25), 0.4 * float(radius.max()))
        near = np.linalg.norm(positions - centre, axis=1) / reach
        b_factors += rng.uniform(80, 350) * np.exp(-(near**2))
        notes["floppy_region"] = True
    notes["mean_b"] = round(float(b_factors.mean()), 1)
    return np.asarray(np.clip(b_factors, 20, 500), dtype=np.float32)


def _ensemble(
    atoms: Atoms, positions: Floats, b_factors: Floats, side: int, voxel_size: float,
    rng: np.random.Generator, notes: dict[str, Any],
) -> Volume:
    """Density, now and then the mean of a few in which a part of the particle swings."""
    if rng.random() > 0.35:
        return density.render(positions, atoms.elements, b_factors, side, voxel_size)
    chain = rng.choice(np.unique(atoms.chains))
    part = atoms.chains == chain
    if part.all():  # one chain: what lies on one side of a plane
        normal = _random_rotation(rng)[0]
        height = positions @ normal
        part = height > np.quantile(height, rng.uniform(0.5, 0.85))
    hinge = positions[part][np.linalg.norm(positions[part], axis=1).argmin()]
    sway, count = rng.uniform(1, 6), int(rng.integers(3, 6))
    notes["swings_degrees"] = round(float(sway), 1)
    still = density.render(
        positions[~part], atoms.elements[~part], b_factors[~part], side, voxel_size
    )
    for _ in range(count):
        turn = _small_rotation(np.radians(sway) * rng.standard_normal(3))
        moved = ((positions[part] - hinge) @ turn.T + hinge).astype(np.float32)
        still += density.render(
            moved, atoms.elements[part], b_factors[part], side, voxel_size
        ) / np.float32(count)
    return still


def _small_rotation(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation by |vector| radians about it (Rodrigues)."""
    angle = float(np.linalg.norm(vector)) or 1e-12
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _band_limit(
    side: int, voxel_size: float, resolution: float, rng: np.random.Generator,
    notes: dict[str, Any],
) -> npt.NDArray[np.bool_] | None:
    """What of the half-spectrum a map on coarser pixels had; None: pixels finer than ours."""
    if rng.random() > 0.35:
        return None
    pixel_size = rng.uniform(voxel_size, max(resolution / 2.1, voxel_size + 0.05))
    notes["pixel_size"] = round(float(pixel_size), 2)
    inside = np.abs(np.fft.fftfreq(side, voxel_size)) <= 1 / (2 * pixel_size)
    half = inside[: side // 2 + 1]
    return np.asarray(inside[:, None, None] & inside[None, :, None] & half[None, None, :])


def _halves(
    clean: Volume, near: Floats, voxel_size: float, resolution: float,
    band: npt.NDArray[np.bool_] | None, rng: np.random.Generator, notes: dict[str, Any],
) -> tuple[Volume, Volume]:
    """Add to each half its own noise, of one colour."""
    side = clean.shape[0]
    shells = noise.shell_numbers(side)
    frequency = np.arange(shells.max() + 1) / (side * voxel_size)
    weight = np.maximum(noise.ctf_weight(frequency, rng), 0.02)[shells]
    # Slices through the origin lie the thinner the further out.
    colour = np.sqrt(np.maximum(shells, 1) / weight)
    if rng.random() < 0.7:
        covered = noise.coverage(side, rng)
        colour = colour / np.sqrt(covered)
        notes["thinnest_coverage"] = round(float(covered.min()), 2)
    if band is not None:
        colour = colour * band
    overfitted = rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0
    if overfitted:
        notes["streaks"] = round(float(overfitted), 2)
    # RELION blanks the corners of its images: noise then ends around the particle.
    blanked = rng.random() < 0.4
    fading = density.soft_mask(near, rng.uniform(15, 40), 20) if blanked else None
    shell = side * voxel_size / resolution
    signal = noise.shell_power(fft.rfftn(clean), shells)

    halves = []
    for _ in range(2):
        spectrum = noise.white_noise(side, rng)
        if overfitted:
            high = np.clip(shells / (0.6 * shell) - 0.5, 0, 1).astype(np.float32)
            rays = fft.rfftn(noise.streaks(side, rng)) * high
            strength = noise.noise_scale(
                noise.shell_power(spectrum, shells), noise.shell_power(rays, shells), shell
            ) / np.sqrt(1 / noise.HALF_MAP_FSC - 1)
            spectrum += overfitted * strength * rays
        spectrum *= colour
        added = np.asarray(fft.irfftn(spectrum, clean.shape), dtype=np.float32)
        if fading is not None:
            added *= fading
        power = noise.shell_power(fft.rfftn(added), shells)
        halves.append(clean + np.float32(noise.noise_scale(signal, power, shell)) * added)
    return halves[0], halves[1]
