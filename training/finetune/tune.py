"""The training of a fine-tuning: noise2noise between two halves, with early stopping."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from blush_onnx import masks, patches
from blush_onnx.fourier import Volume
from export.network import BlushNetwork
from training.augment import Draw, patches_of
from training.config import Augmentation, Loss
from training.finetune.blocks import block_errors
from training.loss import loss_of, recycled
from training.prepare.dataset import Record, TrainingPair
from training.volumes import LoadedVolume, as_volume

STRIDE = 32
LOOKS = 5
"""At least so many in the time or the steps given."""


@dataclass(frozen=True)
class Settings:
    """How to fine-tune.

    Attributes
    ----------
    minutes : float
        Of training, at most.
    steps : int
        At most; 0: what there is time for.
    learning_rate : float
    averaging : float
        Decay of the weights' moving average.
    check_every : int
        Steps between looks at the blocks for early stopping.
    patience : int
        Looks without a better one after which it stops.
    seed : int
    precision : str
        bfloat16 or float32.
    symmetry : str
        Of the half-maps; see :func:`training.finetune.symmetry.rotations_of`.
    """

    minutes: float = 10.0
    steps: int = 0
    learning_rate: float = 1e-4
    averaging: float = 0.98
    check_every: int = 25
    patience: int = 4
    seed: int = 1
    precision: str = "bfloat16"
    symmetry: str = "C1"


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes
    ----------
    network : BlushNetwork
        The best by the blocks for early stopping; the first one where none was better.
    steps, best_step : int
    history : list of (step, error)
        Of the blocks for early stopping, the first at step 0.
    """

    network: BlushNetwork
    steps: int
    best_step: int
    history: list[tuple[int, float]]


def volume_of(pair: TrainingPair, counted: Volume, device: torch.device) -> LoadedVolume:
    """A pair of half-maps on a device, scaled to a standard deviation of 1 in the mask."""
    mean = (pair.half_1 + pair.half_2) / 2
    unit = np.float32(1 / float(mean[pair.mask > 0.5].std()))
    record = Record(
        pair.name, "", 0, pair.mask.shape[0], ("half_1", "half_2", "mask"), pair.voxel_size,
        pair.resolution, pair.cluster, pair.split, pair.source, pair.licence, {},
    )
    arrays = {
        "half_1": torch.from_numpy(pair.half_1 * unit).to(device),
        "half_2": torch.from_numpy(pair.half_2 * unit).to(device),
        "mask": torch.from_numpy(pair.mask).to(device),
    }
    return as_volume(record, arrays, torch.from_numpy(counted).to(device))


def tune(
    network: BlushNetwork, volume: LoadedVolume, stop: npt.NDArray[np.int16], patch_size: int,
    settings: Settings, tell: Callable[[str], None],
) -> Tuned:
    """Train on a pair's own halves until the blocks for early stopping get no better.

    Parameters
    ----------
    network : BlushNetwork
        Not changed.
    volume : LoadedVolume
    stop : array, int16
        Of :func:`training.finetune.blocks.divide`.
    patch_size : int
        Voxels.
    settings : Settings
    tell : callable
        Told of progress, a line at a time.

    Returns
    -------
    Tuned
    """
    device = volume.mask.device
    trained = copy.deepcopy(network).to(device)
    average = copy.deepcopy(trained).eval()
    best = copy.deepcopy(average)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=settings.learning_rate)
    limit = 1 / volume.record.resolution
    augmentation = dataclasses.replace(
        Augmentation(), resolution_angstrom=(1 / limit, 2.0 / limit), stored_noise=0.0, sphere=0.2,
        filter_shares={"unfiltered": 0.7, "sharp": 0.3, "gaussian": 0.0, "wiener": 0.0},
        anisotropy=0.3, sharpened=0.0,
    )
    loss_settings = Loss(low_frequency_weight=0.2)
    halves = whole(volume)
    history = [(0, float(np.mean(block_errors(apply(best, volume, patch_size), halves, stop))))]
    tell(f"step 0: error of the blocks for early stopping {history[0][1]:.4f}")
    step, stale, best_step, began = 0, 0, 0, time.monotonic()
    spent = 0.0
    while stale < settings.patience and spent < 1:
        torch.manual_seed(settings.seed * 1_000_003 + step)
        draw = Draw(settings.seed * 1_000_003 + step, device)
        with torch.no_grad():
            batch = patches_of(volume, augmentation, draw, 2, patch_size)
        with torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"
        ):
            trained.eval()
            grid, local_std = recycled(trained, batch, draw.integer(2))
            trained.train()
            density, logit = trained(grid, local_std)
        loss, _ = loss_of(density.float(), logit, batch, loss_settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        if math.isfinite(float(norm)):
            optimiser.step()
            # Short at first, so that the average follows from the start.
            _average(average, trained, min(settings.averaging, (1 + step) / (10 + step)))
        step += 1
        minutes = (time.monotonic() - began) / 60
        spent = max(minutes / settings.minutes, step / settings.steps if settings.steps else 0)
        # Slow machines get looks too: some within the time, one at its end.
        due = spent >= min(len(history) / LOOKS, 1)
        if due or step % settings.check_every == 0:
            error = float(np.mean(block_errors(apply(average, volume, patch_size), halves, stop)))
            history.append((step, error))
            stale += 1
            if error < min(e for _, e in history[:-1]):
                best, best_step, stale = copy.deepcopy(average), step, 0
            tell(f"step {step}: {error:.4f}, {minutes:.1f} minutes")
    return Tuned(best.to("cpu"), step, best_step, history)


def whole(volume: LoadedVolume) -> tuple[Volume, Volume]:
    """The two halves as arrays."""
    first, second = (h.float().cpu().numpy() for h in (volume.half_1, volume.half_2))
    return first, second


def apply(network: BlushNetwork, volume: LoadedVolume, patch_size: int) -> tuple[Volume, Volume]:
    """Denoise both halves patch by patch, as inference does, in float32.

    Returns
    -------
    pair of array, (side, side, side), float32
    """
    side = volume.mask.shape[0]
    sphere = masks.default_mask((side, side, side))
    plan = patches.plan_patches(sphere, patch_size, min(STRIDE, patch_size // 2))
    m = torch.from_numpy(sphere).to(volume.mask.device)
    found: list[Volume] = []
    for half in (volume.half_1.float(), volume.half_2.float()):
        mean, deviation = half.mean(), half.std()
        local_std = torch.from_numpy(masks.local_std(half.cpu().numpy())).to(half.device)
        grid, local_std = (half - mean) / deviation * m, local_std / local_std.mean() * m
        blend = patches.Blend(plan)
        for origin in plan.origins:
            place = tuple(slice(o, o + patch_size) for o in origin)
            with torch.no_grad():
                density, _ = network(grid[place][None], local_std[place][None])
            blend.add(origin, density[0].cpu().numpy(), None)
        density_map = blend.finish()[0] * sphere
        found.append(density_map * np.float32(deviation.item()) + np.float32(mean.item()))
    return found[0], found[1]


def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    own: dict[str, Tensor] = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in average.named_parameters():
            value.lerp_(own[name], 1 - decay)
