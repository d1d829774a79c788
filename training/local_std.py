"""The network's second input in PyTorch, as :func:`blush_onnx.masks.local_std` makes it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from blush_onnx import masks


def local_standard_deviation(volume: Tensor) -> Tensor:
    """As :func:`blush_onnx.masks.local_std`, for one volume or a batch whose mean is about 0.

    Parameters
    ----------
    volume : Tensor, (…, z, y, x)

    Returns
    -------
    Tensor like `volume`
    """
    return (_smoothed(volume.square()) - _smoothed(volume).square()).clamp(min=0).sqrt()


def shared_local_standard_deviation(one: Tensor, other: Tensor) -> Tensor:
    """The local standard deviation of what two volumes share, negative where they disagree.

    Where they share nothing it is as often negative as positive, so that independent noise
    averages out of its mean.

    Parameters
    ----------
    one, other : Tensor, (…, z, y, x)
        Of a mean of about 0.

    Returns
    -------
    Tensor like `one`
    """
    covariance = _smoothed(one * other) - _smoothed(one) * _smoothed(other)
    return covariance.sign() * covariance.abs().sqrt()


def _smoothed(volume: Tensor) -> Tensor:
    """Convolution with the window along each axis, zeros outside, as products with bands."""
    z, y, x = (_band(side, volume.device) for side in volume.shape[-3:])
    volume = y @ (volume @ x)
    return (z @ volume.flatten(-2)).reshape(volume.shape)


@lru_cache(maxsize=64)
def _band(side: int, device: torch.device) -> Tensor:
    """Symmetric matrix that convolves an axis with the window of the local std."""
    taps = masks.LOCAL_STD_TAPS
    u = torch.linspace(-masks.LOCAL_STD_EXTENT, masks.LOCAL_STD_EXTENT, taps)
    kernel = torch.exp(-u.square())
    padded = torch.nn.functional.pad(kernel / kernel.sum(), (0, 1))
    index = torch.arange(side)
    distance = index[:, None] - index[None, :] + taps // 2
    return padded[distance.clamp(-1, taps)].to(device)
