"""``python -m training calibrate MODEL``: where the solvent mask's logit has its zero.

A short training gives a mask of the right shape that is too faint: no voxel reaches one half.
The offset that makes one half its border is found on validation volumes and added to the last
layer's bias; nothing else of the network changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from blush_onnx import Denoiser
from blush_onnx.engines.base import EngineSettings
from blush_onnx.errors import InputError
from blush_onnx.models import Model
from training.checkpoints import VOXEL_SIZE, network_of, save_weights
from training.prepare.dataset import Dataset
from training.sources import read_model

Array = npt.NDArray[np.float32]

OFFSETS = sorted((round(0.05 * k, 2) for k in range(-80, 81)), key=abs)
"""Small ones first: of those that do as well the nearest to nothing is taken."""
STRIDE = 32


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--data", required=True,
              type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Prepared volumes; those of the split validation are used.")
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="The weights to write, a checkpoint.")
def calibrate(model: str, data: Path, output: Path) -> None:
    """Shift the logit of MODEL's solvent mask to where it agrees best at one half.

    The mean intersection over union with the true masks of validation volumes decides.
    """
    source = read_model(model)
    if not source.config.has_mask:
        raise InputError(f"{source.config.name} has no solvent mask")
    if source.config.voxel_size != VOXEL_SIZE:
        raise InputError(f"{source.config.name} has voxels of {source.config.voxel_size:g} Å")
    found, true = masks_of(source, Dataset(data))
    offset, before, _ = best_offset(found, true)
    network = network_of(source)
    state = network.state_dict()
    state["outc.bias"][1] += offset
    output.parent.mkdir(parents=True, exist_ok=True)
    save_weights(state, output, source.config.patch_size)
    after = agreement(masks_of(read_model(str(output)), Dataset(data))[0], true)
    click.echo(
        f"{len(found)} volumes: intersection over union {before:.3f}, with {offset:+.2f} on the "
        f"mask's logit {after:.3f}\n{output}"
    )


def masks_of(source: Model, dataset: Dataset) -> tuple[list[Array], list[Array]]:
    """The network's masks of the validation volumes' first halves, and the true ones.

    Raises
    ------
    InputError
        There are none.
    """
    records = dataset.of_split("validation")
    if not records:
        raise InputError("the prepared volumes hold none of the split validation")
    denoiser = Denoiser.from_model(source, EngineSettings())
    found, true = [], []
    for record in records:
        arrays = dataset.load(record)
        half = np.asarray(arrays["half_1"], dtype=np.float32)
        found.append(denoiser.denoise_at_model_voxel_size(half, stride=STRIDE).mask)
        true.append(np.asarray(arrays["mask"], dtype=np.float32))
    return found, true


def best_offset(
    found: Sequence[Array], true: Sequence[Array]
) -> tuple[float, float, float]:
    """Offset of the logit with the largest mean intersection over union, both at one half.

    Parameters
    ----------
    found, true : sequences of array, in 0…1
        Masks of the network, and what they should be.

    Returns
    -------
    offset : float
    before, after : float
        Intersection over union without it, and what is to be expected with it: patches overlap,
        and the offset is added before they are blended.
    """
    by_offset = [agreement(found, true, 1 / (1 + math.exp(offset))) for offset in OFFSETS]
    best = int(np.argmax(by_offset))
    return OFFSETS[best], by_offset[0], by_offset[best]


def agreement(found: Sequence[Array], true: Sequence[Array], border: float = 0.5) -> float:
    """Mean intersection over union of what lies above a border and the true masks."""
    pairs = zip((mask > border for mask in found), (mask > 0.5 for mask in true), strict=True)
    return float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs]))
