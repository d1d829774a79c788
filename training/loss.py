"""What a training step minimises, and the recycling before it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from blush_onnx.masks import LOCAL_STD_TAPS
from training.augment import Batch
from training.config import Loss
from training.local_std import local_standard_deviation

LOW_FREQUENCY_WINDOW = 8
LOW_FREQUENCY_FLOOR = 0.01


class Network(Protocol):
    """Anything that is called like the network."""

    def __call__(self, grid: Tensor, local_std: Tensor) -> tuple[Tensor, Tensor]:
        """Density and mask logit."""


def recycled(network: Network, batch: Batch, times: int) -> tuple[Tensor, Tensor]:
    """The batch's inputs after the network ran on its own output some times; no gradients.

    Parameters
    ----------
    network : Network
        Should not drop anything here: inference does not.
    batch : Batch
    times : int

    Returns
    -------
    grid, local_std : Tensor, (batch, side, side, side)
    """
    grid, local_std = batch.grid, batch.local_std
    with torch.no_grad():
        for _ in range(times):
            grid = network(grid, local_std)[0].float()
            with torch.autocast(grid.device.type, enabled=False):
                local_std = local_std_of_patches(grid) / batch.std_scale[:, None, None, None]
    return grid, local_std


def local_std_of_patches(grid: Tensor) -> Tensor:
    """Local standard deviation of patches, as if they went on beyond their borders."""
    border = LOCAL_STD_TAPS // 2
    wide = functional.pad(grid[:, None], (border,) * 6, mode="replicate")
    inner = slice(border, -border)
    return local_standard_deviation(wide)[:, 0, inner, inner, inner]


def loss_of(
    density: Tensor, mask_logit: Tensor, batch: Batch, settings: Loss
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch, and its parts.

    The squared error, inside the mask more than outside, as a share of what is easily
    had: the input's own error, or for very noisy inputs that of an empty map. Plus the
    same of low frequencies alone, plus the cross-entropy of the mask.

    Parameters
    ----------
    density, mask_logit : Tensor, (batch, side, side, side)
        The network's.
    batch : Batch
    settings : Loss

    Returns
    -------
    loss : Tensor, scalar
    parts : dict of str to Tensor
        error, inside, outside, low_frequency, mask; without gradients.
    """
    difference = (density - batch.target) * batch.counted
    error = difference.square()
    weight = (1 + (settings.inside_weight - 1) * batch.mask) * batch.counted
    unit = torch.minimum(batch.input_error, batch.target_variance)
    unit = unit + settings.error_floor * batch.target_variance
    counted = weight.mean(dim=(1, 2, 3)).clamp(min=1e-3)
    share = (error * weight).mean(dim=(1, 2, 3)) / counted / unit

    low = _low(difference).square().mean(dim=(1, 2, 3))
    low_before = _low((batch.grid - batch.target) * batch.counted).square().mean(dim=(1, 2, 3))
    low_share = low / (low_before + LOW_FREQUENCY_FLOOR * batch.target_variance)

    cross_entropy = functional.binary_cross_entropy_with_logits(mask_logit.float(), batch.mask)
    loss = (
        share.mean()
        + settings.low_frequency_weight * low_share.mean()
        + settings.mask_weight * cross_entropy
    )
    with torch.no_grad():
        parts = {
            "error": share.mean(),
            "inside": _ratio(error, batch, batch.mask * batch.counted),
            "outside": _ratio(error, batch, (1 - batch.mask) * batch.counted),
            "low_frequency": low_share.mean(),
            "mask": cross_entropy.detach(),
        }
    return loss, parts


def _ratio(error: Tensor, batch: Batch, where: Tensor) -> Tensor:
    """Median over the batch of the error's ratio to the input's own, within a mask."""
    before = ((batch.grid - batch.target).square() * where).sum(dim=(1, 2, 3))
    after = (error * where).sum(dim=(1, 2, 3))
    return (after / before.clamp(min=1e-6)).median()


def _low(volume: Tensor) -> Tensor:
    return functional.avg_pool3d(
        volume[:, None], LOW_FREQUENCY_WINDOW, stride=LOW_FREQUENCY_WINDOW // 2
    )[:, 0]
