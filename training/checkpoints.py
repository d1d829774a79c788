"""What a training leaves: a state to go on from, and weights in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blush_onnx.errors import InputError
from export.__main__ import load_checkpoint
from export.network import BlushNetwork
from training.config import Model

VOXEL_SIZE = 1.5
NO_DEFINITION = 'raise RuntimeError("these weights carry no program: read them with blush-onnx")\n'


def new_network(settings: Model) -> BlushNetwork:
    """The network at its start: the identity, or the weights that the settings name.

    Raises
    ------
    ModelError
        The weights are unreadable.
    InputError
        They have other widths.
    """
    if settings.start_from:
        _, network = load_checkpoint(Path(settings.start_from))
        found = tuple(
            len(block.double_conv["conv2"].bias) for block in (network.inc, *network.down)
        )
        if found != settings.widths:
            raise InputError(
                f"{settings.start_from} has the widths {found}, the configuration {settings.widths}"
            )
        network.dropout = nn.Dropout3d(settings.dropout)
        network.train()
        return network
    network = BlushNetwork(settings.widths, settings.dropout)
    nn.init.zeros_(network.outc.weight)
    nn.init.zeros_(network.outc.bias)
    return network


def save_weights(state: Mapping[str, Tensor], path: Path, patch_size: int) -> None:
    """Write weights as a checkpoint in the official layout, in half precision.

    Parameters
    ----------
    state : mapping of str to Tensor
    path : Path
        Replaced at once.
    patch_size : int
        Voxels.
    """
    content: dict[str, Any] = {
        "model_state_dict": {key: value.detach().cpu().half() for key, value in state.items()},
        "model_definition": NO_DEFINITION,
        "voxel_size": VOXEL_SIZE,
        "block_size": float(patch_size),
        "no_mask": False,
    }
    save(content, path)


def save(content: object, path: Path) -> None:
    """Write with torch, under another name first: never half a file."""
    partial = path.with_name(path.name + ".part")
    torch.save(content, partial)
    partial.replace(path)
