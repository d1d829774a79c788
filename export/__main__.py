"""``python -m export CHECKPOINT --output FOLDER``: needs PyTorch."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from blush_onnx import (
    BlushError,
    ModelConfig,
    ModelError,
    OutputError,
    conversion,
    masks,
    self_test,
)
from blush_onnx.checkpoint import Checkpoint, as_checkpoint, unpack
from blush_onnx.engines.base import Array
from blush_onnx.grids import Grids
from blush_onnx.models import CONFIG_FILE
from blush_onnx.registry import replace_folder
from blush_onnx.volume_io import read_map
from export.network import BlushNetwork

_PATH = click.Path(path_type=Path)
EXAMPLE_MAP = Path(__file__).parent.parent / "examples" / "half_maps" / "half_map_1.mrc.gz"


def load_checkpoint(path: Path) -> tuple[Checkpoint, BlushNetwork]:
    """Load a checkpoint with PyTorch's own restricted reader.

    Parameters
    ----------
    path : Path
        In the official layout, plain or compressed.

    Returns
    -------
    checkpoint : Checkpoint
    network : BlushNetwork
        With its weights loaded strictly.

    Raises
    ------
    ModelError
        Not such a file, or weights of another network.
    """
    raw = path.read_bytes()
    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()):
            loaded = torch.load(io.BytesIO(unpack(raw)), map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = loaded["model_state_dict"]
        arrays = {key: value.detach().numpy() for key, value in state.items()}
        network = BlushNetwork.from_state(state)
    except Exception as error:  # PyTorch raises anything at all on foreign files
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is not a Blush checkpoint: {reason[:200]}") from error
    checkpoint = as_checkpoint(
        {**loaded, "model_state_dict": arrays}, hashlib.sha256(raw).hexdigest(), str(path)
    )
    return checkpoint, network


def _numbers_of_numpy() -> list[Any]:
    """What PyTorch's restricted reader must know for voxel sizes that are NumPy's numbers."""
    scalar = np.float64(0).__reduce__()[0]
    places = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")]
    return [*((scalar, place) for place in places), np.dtype, *kinds]


def proof_patches(config: ModelConfig, example: Path) -> list[conversion.Patch]:
    """Three patches to compare on: random numbers, blobs in noise, and one of a half-map."""
    size = config.patch_size
    rng = np.random.default_rng(0)
    random: list[Array] = [
        np.abs(rng.standard_normal((size,) * 3, dtype=np.float32)) for _ in range(2)
    ]
    source = read_map(example)
    grids = Grids.of(source.data.shape, source.voxel_size, config.voxel_size)
    volume = grids.to_model(source.data)
    mean, deviation = masks.mean_and_std(volume)
    local_std = masks.local_std(volume)
    middle = (masks.centred(grids.model_side, size),) * 3
    return [
        ("random", random[0] - np.float32(0.8), random[1]),
        ("synthetic", *self_test.synthetic_patch(size)),
        (
            "half-map",
            ((volume - mean) / deviation)[middle].astype(np.float32),
            (local_std / local_std.mean())[middle].astype(np.float32),
        ),
    ]


def export(
    checkpoint_path: Path,
    output: Path,
    *,
    name: str,
    licence: str,
    training: str,
    example: Path,
    half: bool | None = None,
) -> ModelConfig:
    """Write a model folder for a checkpoint, proven against PyTorch.

    Parameters
    ----------
    checkpoint_path : Path
    output : Path
        The model's folder. One that is a model is replaced as a whole, but for its
        MODEL_CARD.md; any other must be empty.
    name, licence, training : str
        Go into the model's metadata.
    example : Path
        A half-map for the proof.
    half : bool, optional
        Store the weights in half precision; None: where that loses nothing.

    Returns
    -------
    ModelConfig

    Raises
    ------
    ModelError
        The checkpoint is not that of a Blush network, or the graph differs from it.
    OutputError
        The output folder holds something else than a model.
    """
    if output.exists() and not (output / CONFIG_FILE).is_file() and any(output.iterdir()):
        raise OutputError(f"{output} holds something else than a model: choose another folder")
    checkpoint, net = load_checkpoint(checkpoint_path)
    config, content = conversion.build_model(
        checkpoint, name, licence=licence, training=training, half=half
    )

    def reference(grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        with torch.no_grad():
            density, logit = net(torch.from_numpy(grid)[None], torch.from_numpy(local_std)[None])
        return density[0].numpy(), logit[0].numpy() if config.has_mask else None

    proof = conversion.prove(
        conversion.proof_engines(content, config.patch_size), reference,
        f"PyTorch {torch.__version__}, float32, CPU", proof_patches(config, example),
    )
    stored = self_test.answer(*reference(*self_test.synthetic_patch(config.patch_size)))
    config = dataclasses.replace(config, proof=proof, self_test=stored)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        staging = Path(folder) / output.name
        staging.mkdir()
        conversion.write_model_folder(staging, config, content)
        card = output / "MODEL_CARD.md"
        if card.is_file():
            shutil.copy(card, staging)
        replace_folder(output, staging)
    return config


def make_default(output: Path) -> None:
    """Make a model folder the default among its neighbours, and remove the one before."""
    marker = output.parent / "default"
    before = None
    if marker.is_file():
        before = output.parent / marker.read_text(encoding="utf-8").strip()
    marker.write_text(output.name + "\n", encoding="utf-8")
    if before is not None and before != output and (before / CONFIG_FILE).is_file():
        replace_folder(before, None)


@click.command(
    epilog="Example: python -m export blush.ckpt --output models/mine --licence MIT "
    "--training 'how it was made' --default",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("checkpoint", type=_PATH)
@click.option("--output", required=True, type=_PATH, help="The model's folder.")
@click.option("--name", help="Default: the folder's name.")
@click.option("--licence", help="Of the weights, one line.")
@click.option("--training", help="How they were made, one line.")
@click.option("--half", is_flag=True, help="Store in half precision although that rounds.")
@click.option(
    "--card", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A model card to put beside it.",
)
@click.option(
    "--example", type=_PATH, default=EXAMPLE_MAP, help="Half-map to compare on; the bundled one."
)
@click.option("--default", "as_default", is_flag=True, help="Make it the bundled default model.")
def main(
    checkpoint: Path, output: Path, name: str | None, licence: str | None, training: str | None,
    half: bool, card: Path | None, example: Path, as_default: bool,
) -> None:
    """Export a CHECKPOINT in the official layout to a model folder, and prove it."""
    if as_default and not (licence and training):
        raise click.UsageError("the default model needs --licence and --training.")
    try:
        config = export(
            checkpoint, output, name=name or output.name, licence=licence or "unknown",
            training=training or "unknown", example=example, half=half or None,
        )
    except (BlushError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if card is not None:
        shutil.copy(card, output / "MODEL_CARD.md")
    if as_default:
        make_default(output)
    print(f"{output}: {config.storage} weights, SHA-256 {config.sha256}")
    print(f"compared with {config.proof['reference']} ({config.proof['measure']}):")
    for row in config.proof["results"]:
        print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
