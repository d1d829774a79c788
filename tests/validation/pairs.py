"""Pairs of half-maps that are sound and such that share noise, and stand-ins for a network."""

from __future__ import annotations

import numpy as np

from blush_onnx import fourier
from blush_onnx.engines.base import Array, EngineDescription
from blush_onnx.masks import radial_mask
from tests.conftest import Volume, blob_and_noise

Pair = tuple[Volume, Volume]

SIDE = 64
VOXEL_SIZE = 2.0
LENGTH = SIDE * VOXEL_SIZE


def high_pass(volume: Volume, start: int) -> Volume:
    spectrum = fourier.forward(volume)
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(SIDE, z) for z in range(SIDE)]))
    spectrum[np.rint(radius) < start] = 0
    return fourier.inverse(spectrum)


def white(seed: int) -> Volume:
    return np.random.default_rng([11, seed]).standard_normal((SIDE,) * 3).astype(np.float32)


def sound(seed: int, noise: float = 0.5) -> Pair:
    """One particle in noise that each half has for itself."""
    first, second = (blob_and_noise((SIDE,) * 3, 2 * seed + i, noise) for i in (0, 1))
    return first, second


def in_a_sphere(pair: Pair) -> Pair:
    """As reconstructions are that were masked by the particle's diameter: no noise outside."""
    sphere = radial_mask(SIDE, SIDE * 0.3, 6)
    return pair[0] * sphere, pair[1] * sphere


def overfitted(seed: int, share: float = 0.5, start: int = 16) -> Pair:
    """A sound pair with noise in common beyond a shell, as from one noisy reference."""
    first, second = sound(seed)
    common = high_pass(np.float32(share) * white(seed), start)
    return first + common, second + common


class Smoothing:
    """A sound network: a mean over neighbours, which knows nothing but its patch."""

    description = EngineDescription("stand-in", "smoothing", "a test")

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        del local_std
        for axis in (1, 2, 3):
            grid = 0.5 * grid + 0.25 * (np.roll(grid, 1, axis) + np.roll(grid, -1, axis))
        return grid, None


class Inventing:
    """A network that sees the same pattern in whatever it is given."""

    description = EngineDescription("stand-in", "inventing", "a test")

    def __init__(self, strength: float) -> None:
        pattern = np.random.default_rng(3).standard_normal((64, 64, 64))
        self._pattern = (strength * pattern).astype(np.float32)

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        del local_std
        return grid + self._pattern, None
