"""The Blush U-net in PyTorch (docs/numerics.md, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from blush_onnx.network import NORM_EPSILON, STANDARD_DEVIATION_FLOOR

WIDTHS = (16, 32, 64, 128, 256, 256)
SMALLEST_IN_BFLOAT16 = 2
"""Voxels a side up to which a CPU computes in single precision even under autocast."""


class DoubleConv(nn.Module):
    """Convolution, norm and SiLU, twice.

    Parameters
    ----------
    inputs, between, outputs : int
        Channels.
    """

    def __init__(self, inputs: int, between: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.ModuleDict(
            {
                "conv1": nn.Conv3d(inputs, between, 3, padding=1),
                "norm1": nn.InstanceNorm3d(between, eps=NORM_EPSILON, affine=True),
                "conv2": nn.Conv3d(between, outputs, 3, padding=1),
                "norm2": nn.InstanceNorm3d(outputs, eps=NORM_EPSILON, affine=True),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, z, y, x) to (batch, outputs, z, y, x)."""
        with _safe_precision(x):
            for i in "12":
                x = self.double_conv[f"norm{i}"](self.double_conv[f"conv{i}"](x))
                x = nn.functional.silu(x)
        return x


def _safe_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context without autocast where bfloat16 cannot be trusted.

    On a CPU PyTorch (2.13, with avx512_bf16) now and then takes the gradient of a kernel from
    memory that nobody wrote to, where a volume has two voxels a side.
    """
    if x.device.type == "cpu" and x.shape[-1] <= SMALLEST_IN_BFLOAT16:
        single: AbstractContextManager[object] = torch.autocast("cpu", enabled=False)
        return single
    return nullcontext()


class Down(DoubleConv):
    """Half the side by max pooling, then a DoubleConv."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, z, y, x) to (batch, outputs, z/2, y/2, x/2)."""
        return super().forward(nn.functional.max_pool3d(x, 2))


class Up(nn.Module):
    """Twice the side by trilinear interpolation, joined with the skip, then a DoubleConv."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = DoubleConv(inputs, inputs // 2, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join x, at half the side of skip, with skip."""
        x = nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
        joined: Tensor = self.conv(torch.cat([skip, x], dim=1))
        return joined


class BlushNetwork(nn.Module):
    """The denoising network: what it predicts is what is taken away.

    Parameters
    ----------
    widths : sequence of int
        Channels of each level, finest first.
    dropout : float
        Share of the coarsest level's channels that is dropped in training; leaves no
        trace in the weights.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(dropout)
        self.inc = DoubleConv(2, widths[0], widths[0])
        self.down = nn.ModuleList(
            Down(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        up = []
        below = widths[-1]
        for level in range(len(widths) - 2, -1, -1):
            outputs = widths[max(level - 1, 0)]
            up.append(Up(widths[level] + below, outputs))
            below = outputs
        self.up = nn.ModuleList(up)
        self.outc = nn.Conv3d(below, 2, 1)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], dropout: float = 0.0) -> BlushNetwork:
        """Network with the widths and the weights of a state dict, loaded strictly."""
        depth = len({key.split(".")[1] for key in state if key.startswith("down.")})
        prefixes = ["inc", *(f"down.{i}" for i in range(depth))]
        widths = tuple(len(state[f"{p}.double_conv.conv2.bias"]) for p in prefixes)
        network = cls(widths, dropout)
        network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True)
        network.eval()
        return network

    def forward(self, grid: Tensor, local_std: Tensor) -> tuple[Tensor, Tensor]:
        """Denoise a batch of patches.

        Parameters
        ----------
        grid, local_std : Tensor, (batch, patch, patch, patch)

        Returns
        -------
        density, mask_logit : Tensor, like grid
        """
        mean = grid.mean(dim=(1, 2, 3), keepdim=True)
        deviation = grid.std(dim=(1, 2, 3), keepdim=True) + STANDARD_DEVIATION_FLOOR
        standardised = (grid - mean) / deviation
        x = self.inc(torch.stack([standardised, local_std], dim=1))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.dropout(x)
        for up, skip in zip(self.up, skips[-2::-1], strict=True):
            x = up(x, skip)
        x = self.outc(x)
        return (standardised - x[:, 0]) * deviation + mean, x[:, 1]
