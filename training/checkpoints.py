"""What a training leaves: a state to go on from, and weights in the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from blush_onnx.errors import InputError
from blush_onnx.models import Model
from blush_onnx.network import weights_of_graph
from export.network import BlushNetwork
from training import config
from training.sources import read_model

VOXEL_SIZE = 1.5
NO_DEFINITION = 'raise RuntimeError("these weights carry no program: read them with blush-onnx")\n'


def network_of(model: Model) -> BlushNetwork:
    """A model's network in PyTorch, its weights read from the ONNX file."""
    state = weights_of_graph(onnx.load_model_from_string(model.content))
    return BlushNetwork.from_state(
        {key: torch.from_numpy(np.array(value, dtype=np.float32)) for key, value in state.items()}
    )


def new_network(settings: config.Model) -> BlushNetwork:
    """The network at its start: the identity, or the weights that the settings name.

    Raises
    ------
    ModelError
        The model to start from is unknown or unreadable.
    InputError
        It has other widths or another patch.
    """
    if not settings.start_from:
        network = BlushNetwork(settings.widths, settings.dropout)
        nn.init.zeros_(network.outc.weight)
        nn.init.zeros_(network.outc.bias)
        return network
    source = read_model(settings.start_from)
    network = network_of(source)
    blocks = (network.inc, *network.down)
    found = tuple(len(block.double_conv["conv2"].bias) for block in blocks)
    if (found, source.config.patch_size) != (settings.widths, settings.patch_size):
        raise InputError(
            f"{settings.start_from} has the widths {found} and patches of "
            f"{source.config.patch_size}, the configuration {settings.widths} and "
            f"{settings.patch_size}"
        )
    network.dropout = nn.Dropout3d(settings.dropout)
    network.train()
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
