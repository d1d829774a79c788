"""Models that a training starts from or an evaluation judges, wherever they are kept."""

from __future__ import annotations

from pathlib import Path

from blush_onnx.checkpoint import read_checkpoint
from blush_onnx.conversion import build_model
from blush_onnx.models import Model, load_model

CHECKPOINTS = (".ckpt", ".pt", ".gz")
WEIGHTS_OF_A_RUN = "weights"


def read_model(model: str) -> Model:
    """Read a model of the registry, a folder, an .onnx file, or an official checkpoint.

    Parameters
    ----------
    model : str
        Name or path. The weights of a training's folder go by the folder's name.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        Unknown or unreadable.
    """
    path = Path(model)
    if path.suffix not in CHECKPOINTS:
        return load_model(model)
    name = path.name.split(".")[0]
    if name == WEIGHTS_OF_A_RUN:
        name = path.resolve().parent.name
    config, content = build_model(read_checkpoint(path), name)
    return Model(config, content, path, str(config.sha256))
