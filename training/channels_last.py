"""The network of ``export.network`` as a card likes it, with channels innermost throughout.

PyTorch's own norms, pooling and upsampling turn a batch back to channels first, and its
trilinear upsampling adds up its gradients one by one. Here norms are means over places,
pooling is a maximum over pairs, and upsampling a product with a matrix along each axis; all
of it is plain enough for ``torch.compile`` to join with its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blush_onnx.network import NORM_EPSILON, STANDARD_DEVIATION_FLOOR
from export.network import BlushNetwork, DoubleConv

LAYOUT = torch.channels_last_3d
ALIGNED_CHANNELS = 8
"""Tensor cores take channels by eights; the first convolution has two."""


class ChannelsLast(nn.Module):
    """A network's own weights behind another way to evaluate them.

    Parameters
    ----------
    network : BlushNetwork
        Shared, not copied: training this trains that.
        The biases before its norms, which change nothing, are left as they are.
    patch_size : int
        Voxels.
    """

    def __init__(self, network: BlushNetwork, patch_size: int) -> None:
        super().__init__()
        self.network = network.to(memory_format=LAYOUT)
        for block in network.modules():
            if isinstance(block, DoubleConv):
                for i in "12":  # a norm takes them away again: they are not evaluated
                    block.double_conv[f"conv{i}"].bias.requires_grad_(False)
        place = network.outc.weight.device
        for level in range(1, len(network.down) + 1):
            side = patch_size >> level
            self.register_buffer(_name(side), _upsampling(side).to(place), persistent=False)

    def forward(self, grid: Tensor, local_std: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`export.network.BlushNetwork.forward`."""
        network = self.network
        mean = grid.mean(dim=(1, 2, 3), keepdim=True)
        deviation = grid.std(dim=(1, 2, 3), keepdim=True) + STANDARD_DEVIATION_FLOOR
        standardised = (grid - mean) / deviation
        empty = grid.new_zeros((*grid.shape, ALIGNED_CHANNELS - 2))
        x = torch.cat([torch.stack([standardised, local_std], dim=-1), empty], dim=-1)
        x = _double_conv(network.inc, x.permute(0, 4, 1, 2, 3))
        skips = [x]
        for down in network.down:
            x = _double_conv(down, _halved(x))
            skips.append(x)
        if network.training and network.dropout.p > 0:
            x = network.dropout(x)
        for up, skip in zip(network.up, skips[-2::-1], strict=True):
            doubled = _doubled(x, getattr(self, _name(x.shape[-1])))
            x = _double_conv(up.conv, torch.cat([skip, doubled], dim=1))
        x = nn.functional.conv3d(x, network.outc.weight, network.outc.bias).float()
        return (standardised - x[:, 0]) * deviation + mean, x[:, 1]


def _double_conv(block: DoubleConv, x: Tensor) -> Tensor:
    for i in "12":
        conv, norm = block.double_conv[f"conv{i}"], block.double_conv[f"norm{i}"]
        kernel = conv.weight
        if x.shape[1] > kernel.shape[1]:
            missing = x.shape[1] - kernel.shape[1]
            kernel = nn.functional.pad(kernel, (0, 0, 0, 0, 0, 0, 0, missing))
        x = nn.functional.conv3d(x, kernel.contiguous(memory_format=LAYOUT), padding=1)
        x = _norm_and_silu(x, norm.weight, norm.bias)
    return x


def _norm_and_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Instance norm and SiLU, computed in float32 and kept in the input's own type."""
    wide = x.float()
    variance, mean = torch.var_mean(wide, dim=(2, 3, 4), correction=0, keepdim=True)
    factor = torch.rsqrt(variance + NORM_EPSILON) * weight.view(-1, 1, 1, 1)
    return nn.functional.silu((wide - mean) * factor + bias.view(-1, 1, 1, 1)).to(x.dtype)


def _halved(x: Tensor) -> Tensor:
    """Maximum of each 2 × 2 × 2."""
    batch, channels, z, y, x_side = x.shape
    pairs = x.permute(0, 2, 3, 4, 1).reshape(batch, z // 2, 2, y // 2, 2, x_side // 2, 2, channels)
    # Not amax: its gradient looks for what equals the maximum, and in a compiled network the
    # values computed again for it are no longer rounded to bfloat16 and none does.
    pairs = torch.maximum(pairs[:, :, 0], pairs[:, :, 1])
    pairs = torch.maximum(pairs[:, :, :, 0], pairs[:, :, :, 1])
    pairs = torch.maximum(pairs[:, :, :, :, 0], pairs[:, :, :, :, 1])
    return pairs.permute(0, 4, 1, 2, 3)


def _name(side: int) -> str:
    return f"doubling_{side}"


def _doubled(x: Tensor, matrix: Tensor) -> Tensor:
    """Trilinear upsampling with aligned corners, one axis at a time."""
    batch, channels, side = x.shape[:3]
    matrix = matrix.to(x.dtype)
    inner = x.permute(0, 2, 3, 4, 1)
    for before in (2, 1, 0):
        rows = batch * side**before
        inner = torch.matmul(matrix, inner.reshape(rows, side, -1))
    return inner.reshape(batch, 2 * side, 2 * side, 2 * side, channels).permute(0, 4, 1, 2, 3)


def _upsampling(side: int) -> Tensor:
    """Matrix, (2·side, side), of linear interpolation between aligned ends."""
    place = torch.linspace(0, side - 1, 2 * side, dtype=torch.float64)
    distance = (place[:, None] - torch.arange(side)[None, :]).abs()
    return (1 - distance).clamp(min=0).float()
