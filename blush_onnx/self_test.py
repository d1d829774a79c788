"""A patch that every machine can make, and the answer that a model should give to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.engines.base import Array, Engine

SAMPLES = 61
TOLERANCE = 1e-3
"""Largest relative error that an engine in single precision may show; measured ones are 1e-5."""


def synthetic_patch(patch_size: int, seed: int = 1) -> tuple[Array, Array]:
    """Blobs in noise, from integer arithmetic and elementary functions alone.

    Parameters
    ----------
    patch_size : int
        Side, voxels.
    seed : int
        Another number, other blobs and noise.

    Returns
    -------
    grid, local_std : array, (patch_size, patch_size, patch_size), float32
    """
    noise = _noise(patch_size**3, seed).reshape((patch_size,) * 3)
    axis = np.linspace(-1, 1, patch_size)
    centres = 0.6 * _noise(24, seed + 1).reshape(8, 3)
    grid = 0.3 * noise
    inside = np.zeros_like(grid)
    for cz, cy, cx in centres:
        squared = [np.exp(-(((axis - c) / 0.15) ** 2)) for c in (cz, cy, cx)]
        inside += squared[0][:, None, None] * squared[1][:, None] * squared[2]
    return (grid + inside).astype(np.float32), (0.5 + np.minimum(inside, 2)).astype(np.float32)


def answer(density: Array, mask_logit: Array | None) -> dict[str, Any]:
    """Sampled outputs of one patch, as they are stored in config.json."""
    stored: dict[str, Any] = {"seed": 1, "density": _sample(density)}
    if mask_logit is not None:
        stored["mask_logit"] = _sample(mask_logit)
    return stored


def relative_error(engine: Engine, patch_size: int, stored: Mapping[str, Any]) -> float:
    """Largest relative error of an engine's outputs on the stored answer.

    Parameters
    ----------
    engine : Engine
    patch_size : int
    stored : mapping
        What :func:`answer` returned when the model was made.

    Returns
    -------
    float
        ‖engine − stored‖ / ‖stored‖ over the sampled voxels, the worse of the outputs.
    """
    grid, local_std = synthetic_patch(patch_size, int(stored["seed"]))
    density, mask_logit = engine.run(grid[None], local_std[None])
    found = answer(density[0], None if mask_logit is None else mask_logit[0])
    distances = [
        distance(np.array(found[key]), np.array(stored[key]))
        for key in ("density", "mask_logit")
        if key in stored
    ]
    return float(np.max(distances))  # NaN where any of them is


def distance(ours: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """‖ours − reference‖ / ‖reference‖."""
    reference = reference.astype(np.float64)
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def _noise(count: int, seed: int) -> npt.NDArray[np.float64]:
    """Numbers in −1…1 from a multiplicative hash: the same on every machine and release."""
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed * 2654435761)) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x45D9F3B), (16, 0x45D9F3B)):
        x = ((x ^ (x >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return np.asarray(x.astype(np.float64) / 2**31 - 1)


def _sample(values: Array) -> list[float]:
    places = np.linspace(0, values.size - 1, SAMPLES).astype(int)
    return [float(f"{v:.7g}") for v in values.ravel()[places]]
