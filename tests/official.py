"""The official architecture with weights that anyone can make again (tests/data/README.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx.network import Architecture, Block

WIDTHS = (16, 32, 64, 128, 256, 256)
UP = ((512, 256, 128), (256, 128, 64), (128, 64, 32), (64, 32, 16), (32, 16, 16))


def official_architecture() -> Architecture:
    """The published network, written out."""
    return Architecture(
        first=Block("inc.double_conv", (2, 16, 16)),
        down=tuple(
            Block(f"down.{i}.double_conv", (WIDTHS[i], WIDTHS[i + 1], WIDTHS[i + 1]))
            for i in range(5)
        ),
        up=tuple(Block(f"up.{i}.conv.double_conv", channels) for i, channels in enumerate(UP)),
        outputs=2,
    )


def seeded_state() -> dict[str, npt.NDArray[np.floating]]:
    """Random weights: one generator a key, in sorted order."""
    state: dict[str, npt.NDArray[np.floating]] = {}
    for place, (name, shape) in enumerate(sorted(official_architecture().shapes().items())):
        values = np.random.default_rng(place).normal(size=shape)
        if len(shape) == 5:
            values *= np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(".weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        state[name] = (values * (0.1 if name == "outc.weight" else 1)).astype(np.float32)
    return state
