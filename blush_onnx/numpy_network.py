"""The Blush U-net in plain NumPy: slow, and independent of every inference engine.

It answers for the graph where PyTorch is not at hand: `blush-onnx models import`
compares an engine with it, and the self-test's stored answers come from it.
Architecture: docs/numerics.md, section 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx.network import (
    NORM_EPSILON,
    STANDARD_DEVIATION_FLOOR,
    Block,
    State,
    architecture,
)

Array = npt.NDArray[np.float32]


def evaluate(state: State, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
    """Run the network on one patch.

    Parameters
    ----------
    state : mapping of str to array
        Weights under their state-dict names.
    grid, local_std : array, (patch, patch, patch), float32

    Returns
    -------
    density : array, (patch, patch, patch), float32
    mask_logit : array like density, or None where the network has no second output
    """
    net = architecture(state)
    mean = grid.mean(dtype=np.float64)
    deviation = grid.std(dtype=np.float64, ddof=1) + STANDARD_DEVIATION_FLOOR
    standardised = ((grid - mean) / deviation).astype(np.float32)

    x = _double_convolution(state, net.first, np.stack([standardised, local_std]))
    skips = [x]
    for block in net.down:
        x = _double_convolution(state, block, _halve(x))
        skips.append(x)
    for block, skip in zip(net.up, skips[-2::-1], strict=True):
        x = _double_convolution(state, block, np.concatenate([skip, _double(x)]))
    weight = state["outc.weight"].astype(np.float32)[:, :, 0, 0, 0]
    x = np.tensordot(weight, x, 1) + state["outc.bias"].astype(np.float32)[:, None, None, None]
    density = (standardised - x[0]) * deviation + mean
    return density.astype(np.float32), x[1] if len(x) == 2 else None


def _double_convolution(state: State, block: Block, x: Array) -> Array:
    for i in (1, 2):
        x = _convolve(x, state[f"{block.prefix}.conv{i}.weight"].astype(np.float32))
        # The bias of a convolution before a norm is taken out again by its mean.
        mean = x.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
        variance = x.var(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
        scale = state[f"{block.prefix}.norm{i}.weight"].astype(np.float64)[:, None, None, None]
        shift = state[f"{block.prefix}.norm{i}.bias"].astype(np.float64)[:, None, None, None]
        factor = scale / np.sqrt(variance + NORM_EPSILON)
        x = x * factor.astype(np.float32) + (shift - mean * factor).astype(np.float32)
        with np.errstate(over="ignore"):  # exp(-x) may overflow; x / inf is the right 0
            x /= 1 + np.exp(-x)
    return x


def _convolve(x: Array, weight: Array) -> Array:
    """3×3×3 convolution with zeros around, as 27 matrix products."""
    channels, *sides = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1)))
    result = np.zeros((weight.shape[0], int(np.prod(sides))), dtype=np.float32)
    for k, j, i in np.ndindex(3, 3, 3):
        shifted = padded[:, k : k + sides[0], j : j + sides[1], i : i + sides[2]]
        result += np.ascontiguousarray(weight[:, :, k, j, i]) @ shifted.reshape(channels, -1)
    return result.reshape(-1, *sides)


def _halve(x: Array) -> Array:
    channels, z, y, w = x.shape
    blocks = x.reshape(channels, z // 2, 2, y // 2, 2, w // 2, 2)
    return np.asarray(blocks.max(axis=(2, 4, 6)))


def _double(x: Array) -> Array:
    """Trilinear, twice the side, corners on corners."""
    for axis in (1, 2, 3):
        side = x.shape[axis]
        place = np.arange(2 * side) * (side - 1) / (2 * side - 1)
        below = np.minimum(place.astype(int), max(side - 2, 0))
        above = np.minimum(below + 1, side - 1)
        shape = [1] * 4
        shape[axis] = -1
        share = (place - below).astype(np.float32).reshape(shape)
        x = np.take(x, below, axis) * (1 - share) + np.take(x, above, axis) * share
    return x
