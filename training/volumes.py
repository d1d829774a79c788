"""Prepared volumes as tensors, with the shell powers that the noise is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from training.prepare.dataset import Dataset, Record

SMOOTHING_SHELLS = 2
COARSE = 8
"""Voxels a side of the cells from which patches are drawn."""


@dataclass(frozen=True)
class LoadedVolume:
    """A pair on the device where batches are made.

    Attributes
    ----------
    record : Record
    half_1, half_2, mask : Tensor, (side, side, side), float16
    truth : Tensor or None
    signal, noise : Tensor, (shells,)
        Mean power in each shell: of what the halves share, and of what they do not; on the
        CPU, where they are looked at number by number.
    coarse : Tensor, (side // 8, side // 8, side // 8)
        Means of the mask over cells of 8 voxels; on the CPU as well.
    counted : Tensor or None
        0…1, where targets count; None: everywhere.
    """

    record: Record
    half_1: Tensor
    half_2: Tensor
    mask: Tensor
    truth: Tensor | None
    signal: Tensor
    noise: Tensor
    coarse: Tensor
    counted: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the mask holds nothing."""
        return not bool(self.coarse.any())


def load_volumes(
    dataset: Dataset, records: Sequence[Record], device: torch.device
) -> list[LoadedVolume]:
    """Read records onto a device, all at once, so that no step waits for the disk."""
    return [_load(dataset, record, device) for record in records]


def sampling_weights(volumes: Sequence[LoadedVolume]) -> Tensor:
    """How often each volume is drawn: by the cube root of the mask's voxels.

    Large complexes have more to show than small ones, but not in proportion.
    """
    return torch.tensor(
        [float(v.mask.float().sum()) ** (1 / 3) for v in volumes], dtype=torch.float64
    )


@lru_cache(maxsize=64)
def frequency(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Shell coordinates (kz, ky, kx) of a half-spectrum in FFT order, ready to broadcast."""
    whole = torch.fft.fftfreq(side, 1 / side, device=device)
    half = torch.fft.rfftfreq(side, 1 / side, device=device)
    return whole[:, None, None], whole[None, :, None], half[None, None, :]


@lru_cache(maxsize=64)
def radius(side: int, device: torch.device) -> Tensor:
    """Shell index of every element of a half-spectrum, (side, side, side // 2 + 1), float32."""
    z, y, x = frequency(side, device)
    return torch.sqrt(z**2 + y**2 + x**2)


def by_shell(curve: Tensor, side: int) -> Tensor:
    """A radial curve spread over a half-spectrum, linear between shells, constant beyond."""
    r = radius(side, curve.device).clamp(max=len(curve) - 1.001)
    low = r.long()
    share = r - low
    return curve[low] * (1 - share) + curve[low + 1] * share


def shell_means(power: Tensor) -> Tensor:
    """Means of a real half-spectrum over shells 0…Nyquist, smoothed over five of them."""
    side = power.shape[0]
    shells = torch.round(radius(side, power.device)).long().flatten()
    count = torch.bincount(shells)[: side // 2 + 1]
    total = torch.bincount(shells, power.flatten().double())[: side // 2 + 1]
    means = (total / count).float().clamp(min=1e-12)
    width = 2 * SMOOTHING_SHELLS + 1
    padded = torch.nn.functional.pad(means[None, None], (SMOOTHING_SHELLS,) * 2, mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(padded.log(), width, stride=1).exp()[0, 0]
    smooth[0] = means[0]
    return smooth


def as_volume(
    record: Record, arrays: Mapping[str, Tensor], counted: Tensor | None = None
) -> LoadedVolume:
    """Measure a pair's shell powers; arrays are half_1, half_2, mask and perhaps truth."""
    half_1, half_2 = arrays["half_1"].float(), arrays["half_2"].float()
    difference = torch.fft.rfftn((half_1 - half_2) / math.sqrt(2))
    noise = shell_means(difference.abs() ** 2)
    if "truth" in arrays:
        signal = shell_means(torch.fft.rfftn(arrays["truth"].float()).abs() ** 2)
    else:
        cross = torch.fft.rfftn(half_1) * torch.fft.rfftn(half_2).conj()
        signal = shell_means(cross.real)
    coarse = torch.nn.functional.avg_pool3d(arrays["mask"].float()[None, None], COARSE)[0, 0]
    return LoadedVolume(
        record, arrays["half_1"], arrays["half_2"], arrays["mask"], arrays.get("truth"),
        signal.cpu(), noise.cpu(), coarse.cpu(), counted,
    )


def _load(dataset: Dataset, record: Record, device: torch.device) -> LoadedVolume:
    return as_volume(record, {
        name: torch.from_numpy(values.copy()).to(device)
        for name, values in dataset.load(record).items()
    })
