"""Small checkpoints as PyTorch writes them: python -m tests.data.make_checkpoints.

A network of the Blush kind with few channels and random weights, in the official
layout: in the zip format, in the older format, compressed, with NumPy numbers in
place of Python's, without a mask, and one whose pickle asks for a shell command.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import torch

from export.network import BlushNetwork

FOLDER = Path(__file__).parent / "checkpoints"


class Malicious:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch blush-onnx-was-here",)


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(1)
    network = BlushNetwork((2, 3, 4, 4, 4, 4))
    state = network.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            if value.ndim == 1:
                value += 0.1 * torch.randn_like(value)
            value.copy_(value.half().float())
            if key == "outc.weight":
                value *= 0.25
    official = {
        "model_state_dict": state,
        "model_definition": "raise RuntimeError('this text must never be executed')",
        "voxel_size": 1.5,
        "block_size": 64.0,
        "no_mask": False,
    }
    torch.save(official, FOLDER / "tiny.ckpt")
    torch.save(official, FOLDER / "tiny_legacy.ckpt", _use_new_zipfile_serialization=False)
    torch.save(
        {**official, "voxel_size": np.float64(1.5), "block_size": np.float32(64)},
        FOLDER / "tiny_numpy_numbers.ckpt",
    )
    torch.save({**official, "no_mask": True}, FOLDER / "tiny_no_mask.ckpt")
    torch.save({**official, "voxel_size": Malicious()}, FOLDER / "malicious.ckpt")
    torch.save(
        {**official, "voxel_size": Malicious()}, FOLDER / "malicious_legacy.ckpt",
        _use_new_zipfile_serialization=False,
    )
    content = (FOLDER / "tiny.ckpt").read_bytes()
    (FOLDER / "tiny.ckpt.gz").write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    main()
