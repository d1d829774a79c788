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


def random_state(widths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a network with these widths, finest first."""
    rng = np.random.default_rng(seed)
    blocks = [("inc.double_conv", 2, widths[0])]
    blocks += [
        (f"down.{i}.double_conv", widths[i], widths[i + 1]) for i in range(len(widths) - 1)
    ]
    below = widths[-1]
    for i, skip in enumerate(widths[-2::-1]):
        blocks.append((f"up.{i}.conv.double_conv", skip + below, skip))
        below = skip
    state = {}
    for prefix, inputs, outputs in blocks:
        for i, channels in ((1, inputs), (2, outputs)):
            scale = 1 / np.sqrt(27 * channels)
            state[f"{prefix}.conv{i}.weight"] = scale * rng.standard_normal(
                (outputs, channels, 3, 3, 3)
            )
            state[f"{prefix}.conv{i}.bias"] = rng.standard_normal(outputs)
            state[f"{prefix}.norm{i}.weight"] = rng.uniform(0.5, 2, outputs)
            state[f"{prefix}.norm{i}.bias"] = rng.standard_normal(outputs)
    state["outc.weight"] = rng.standard_normal((2, widths[0], 1, 1, 1))
    state["outc.bias"] = rng.standard_normal(2)
    return {name: values.astype(np.float32) for name, values in state.items()}
