"""Inputs and targets from prepared volumes, drawn anew each time (docs/training.md).

Everything is done to whole volumes, as inference sees them, and patches are cut last: the
local standard deviation and the standardisation then are those of the whole map. It runs
on the device of the volumes, so that a card never waits for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from blush_onnx import masks
from training.config import Augmentation
from training.local_std import local_standard_deviation, shared_local_standard_deviation
from training.turns import Turn, random_turn
from training.volumes import COARSE, LoadedVolume, by_shell, frequency, radius

HALF_MAP_FSC = 0.143
SHARPENED_TO = 1.2
"""Where sharpening levels off, in units of the resolution's frequency."""
OFF_CENTRE = 24
"""How far a patch may lie from the voxel of the mask that it was drawn for, voxels."""
ANYWHERE = 0.15
"""Share of the patches that are drawn without a look at the mask."""


@dataclass(frozen=True)
class Batch:
    """Patches, (batch, side, side, side) float32; the two halves of a patch are neighbours.

    Attributes
    ----------
    grid, local_std : Tensor
        What the network gets.
    target, mask : Tensor
        What it should give.
    counted : Tensor
        0…1, where the target counts.
    std_scale : Tensor, (batch,)
        Mean local standard deviation of what the whole targets share, in units of the
        grid: what that of a denoised patch is divided by before it is an input again.
    input_error, target_variance : Tensor, (batch,)
        Of the whole map: the input's mean squared error, and the target's mean square
        inside the mask.
    """

    grid: Tensor
    local_std: Tensor
    target: Tensor
    mask: Tensor
    counted: Tensor
    std_scale: Tensor
    input_error: Tensor
    target_variance: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class Draw:
    """Random numbers: few on the CPU, many on the device, from one seed.

    Parameters
    ----------
    seed : int
    device : torch.device
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.cpu = torch.Generator().manual_seed(seed)
        self.device = torch.Generator(device).manual_seed(seed)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from low to high."""
        return low + (high - low) * float(torch.rand((), generator=self.cpu))

    def integer(self, end: int) -> int:
        """A whole number from 0 to end − 1."""
        return int(torch.randint(end, (), generator=self.cpu))

    def choice(self, weights: Tensor) -> int:
        """An index, as often as its weight says."""
        return int(torch.multinomial(weights, 1, generator=self.cpu))

    def direction(self) -> tuple[float, float, float]:
        """A unit vector, even over the sphere."""
        v = torch.randn(3, generator=self.cpu, dtype=torch.float64)
        z, y, x = (v / v.norm()).tolist()
        return z, y, x

    def white(self, side: int) -> Tensor:
        """Half-spectrum of real white noise of unit variance."""
        noise = torch.randn(
            (side,) * 3, generator=self.device, device=self.device.device, dtype=torch.float32
        )
        return torch.fft.rfftn(noise)


def make_batch(
    volumes: Sequence[LoadedVolume], weights: Tensor, settings: Augmentation, draw: Draw,
    *, count: int, patches: int, patch_size: int,
) -> Batch:
    """Draw volumes and patches of them.

    Parameters
    ----------
    volumes : sequence of LoadedVolume
    weights : Tensor, (volumes,)
    settings : Augmentation
    draw : Draw
    count : int
        Volumes.
    patches : int
        Of each, each in both halves: the batch has 2·count·patches.
    patch_size : int
        Voxels.

    Returns
    -------
    Batch
    """
    parts = [
        patches_of(volumes[draw.choice(weights)], settings, draw, patches, patch_size)
        for _ in range(count)
    ]
    return Batch(*(torch.cat([getattr(p, n) for p in parts]) for n in Batch.__dataclass_fields__))


def patches_of(
    volume: LoadedVolume, settings: Augmentation, draw: Draw, patches: int, patch_size: int
) -> Batch:
    """One pair of inputs and their targets from a volume, cut into random patches."""
    if settings.empty and volume.truth is not None and draw.uniform() < settings.empty:
        volume = _emptied(volume)
    side, device = volume.mask.shape[0], volume.mask.device
    shells_per_inverse_angstrom = side * volume.record.voxel_size
    low, high = settings.resolution_angstrom
    cut_off = shells_per_inverse_angstrom * draw.uniform(1 / high, 1 / low)
    turn = random_turn(settings.rotation, draw.cpu)
    mask = turn(volume.mask.float()).clamp(0, 1)
    counted = torch.ones_like(mask) if volume.counted is None else turn(volume.counted)
    inputs, cleans, fsc = _noisy(volume, turn, cut_off, settings, draw)

    shape = _filter(fsc, cut_off, side, settings, draw, device)
    narrowing = draw.uniform(0, settings.anisotropy) if draw.uniform() < 0.6 else 0.0
    narrow_in = _narrowed(narrowing, cut_off, side, draw, device)
    target_narrowing = draw.uniform(0, min(settings.target_anisotropy, narrowing))
    shape_out = shape * _narrowed(target_narrowing, cut_off, side, draw, device)
    outside = shells_per_inverse_angstrom / settings.outside_resolution_angstrom
    smooth = torch.exp(-math.log(2) * (radius(side, device) / outside) ** 2)

    sphere = _sphere(side, draw.uniform() < settings.sphere, device)
    origins = _origins(volume, turn, draw, patches, patch_size)
    # Where the truth is known both halves have one target.
    targets = []
    for clean in cleans:
        blurred = _inverse(torch.fft.rfftn(clean) * smooth, side)
        joined = clean * mask + blurred * (1 - mask)
        targets.append(_inverse(torch.fft.rfftn(joined) * shape_out, side))
    something = not volume.is_empty
    # Of real pairs each target is noisy; what both share has the local deviation of the truth.
    shared_std = shared_local_standard_deviation(
        targets[0] - targets[0].mean(), targets[-1] - targets[-1].mean()
    ).mean()
    grids, stds, wanted = [], [], []
    of_map: list[list[Tensor]] = [[], [], []]
    for k in range(2):
        grid = _inverse(inputs[k] * shape * narrow_in, side)
        mean, deviation = grid.mean(), grid.std()
        local_std = local_standard_deviation(grid)
        target = (targets[k % len(targets)] - mean) / deviation
        grid = (grid - mean) / deviation
        error = (grid - target).square().mean()
        # Where nothing is, all of the input is error and the target has no scale of its own.
        of_map[0].append(
            shared_std / deviation if something else local_standard_deviation(grid).mean()
        )
        of_map[1].append(error)
        of_map[2].append((target.square() * mask).sum() / mask.sum() if something else error)
        grids.append(grid * sphere)
        stds.append(local_std / local_std.mean() * sphere)
        wanted.append(target * sphere)

    def cut(pair: list[Tensor]) -> Tensor:
        return torch.stack([
            each[z : z + patch_size, y : y + patch_size, x : x + patch_size]
            for z, y, x in origins for each in pair
        ])

    return Batch(
        cut(grids), cut(stds), cut(wanted), cut([mask * sphere] * 2), cut([counted] * 2),
        *(torch.stack(pair).repeat(patches) for pair in of_map),
    )


def _emptied(volume: LoadedVolume) -> LoadedVolume:
    """A map that holds nothing: its noise alone, to be taken away."""
    noises = [
        half.float() - volume.truth.float() if volume.truth is not None else half
        for half in (volume.half_1, volume.half_2)
    ]
    nothing = torch.zeros_like(volume.mask)
    return dataclasses.replace(
        volume, half_1=noises[0], half_2=noises[1], truth=nothing, mask=nothing,
        coarse=torch.zeros_like(volume.coarse),
    )


def _noisy(
    volume: LoadedVolume, turn: Turn, cut_off: float, settings: Augmentation, draw: Draw
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Spectra of two noisy inputs, their clean or other-half volumes, and the inputs' FSC."""
    side, device = volume.mask.shape[0], volume.mask.device
    wanted = (1 / HALF_MAP_FSC - 1) * _at(volume.signal, cut_off)
    if draw.uniform() < 1 / 3:
        wanted *= draw.uniform(1, settings.excess_noise) ** 2
    slope = draw.uniform(*settings.noise_slope)
    r = radius(side, device)
    fresh_power = side**3 * torch.arange(len(volume.signal)).clamp(min=1) ** slope
    fresh_shape = r.clamp(min=1) ** (slope / 2) * _uneven(side, draw, device)

    if volume.truth is None:
        halves = [turn(volume.half_1.float()), turn(volume.half_2.float())]
        missing = max(wanted - _at(volume.noise, cut_off), 0.0)
        scale = math.sqrt(missing / _at(fresh_power, cut_off))
        spectra = [torch.fft.rfftn(h) + scale * draw.white(side) * fresh_shape for h in halves]
        noise = volume.noise + scale**2 * fresh_power
        return spectra, halves[::-1], volume.signal / (volume.signal + noise)

    truth = turn(volume.truth.float())
    clean = torch.fft.rfftn(truth)
    if draw.uniform() < settings.stored_noise:
        # Turned another way than the signal, it is new to it each time.
        other = random_turn("cube", draw.cpu)
        noises = [
            torch.fft.rfftn(other(h.float() - volume.truth.float()))
            for h in (volume.half_1, volume.half_2)
        ]
        power = volume.noise
    else:
        noises = [draw.white(side) * fresh_shape for _ in range(2)]
        power = fresh_power
    scale = math.sqrt(wanted / _at(power, cut_off))
    sign = 1 if draw.uniform() < 0.5 else -1
    spectra = [clean + sign * scale * n for n in noises]
    return spectra, [truth], volume.signal / (volume.signal + scale**2 * power)


def _at(curve: Tensor, shell: float) -> float:
    return float(curve[min(round(shell), len(curve) - 1)])


def _filter(
    fsc: Tensor, cut_off: float, side: int, settings: Augmentation, draw: Draw,
    device: torch.device,
) -> Tensor:
    """Radial filter that input and target share, on the half-spectrum."""
    shares = settings.filter_shares
    kind = list(shares)[draw.choice(torch.tensor(list(shares.values()), dtype=torch.float64))]
    r = radius(side, device)
    if kind == "unfiltered":  # nobody sharpens what no filter ends
        return torch.ones_like(r)
    if kind == "sharp":
        shape = (r <= cut_off + draw.uniform(2, 14)).float()
    elif kind == "gaussian":
        shape = torch.exp(-math.log(2) * (r / (cut_off * draw.uniform(0.9, 1.5))) ** 2)
    else:
        shape = by_shell(fsc.to(device, non_blocking=True), side)
    return shape * _sharpening(cut_off, side, settings, draw, device)


def _sharpening(
    cut_off: float, side: int, settings: Augmentation, draw: Draw, device: torch.device
) -> Tensor:
    """Rise of the amplitudes as a negative B factor makes it, on the half-spectrum."""
    if not settings.sharpened:
        return torch.ones_like(radius(side, device))
    rise = draw.uniform(*settings.sharpening)
    if draw.uniform() >= settings.sharpened:
        rise = 0.0
    return torch.exp(rise * (radius(side, device) / cut_off).clamp(max=SHARPENED_TO) ** 2)


def _narrowed(
    ratio: float, cut_off: float, side: int, draw: Draw, device: torch.device
) -> Tensor:
    """Gaussian that narrows a filter along one direction by 1 + ratio at the cut-off."""
    along = _along(side, draw.direction(), device)
    return torch.exp(-math.log(2) * ((1 + ratio) ** 2 - 1) * (along / cut_off) ** 2)


def _uneven(side: int, draw: Draw, device: torch.device) -> Tensor:
    """Amplitude of noise that is stronger about one direction, where few views have a slice."""
    excess = draw.uniform(0, 1.5) if draw.uniform() < 0.5 else 0.0
    cosine = _along(side, draw.direction(), device) / radius(side, device).clamp(min=1)
    amplitude = torch.exp(excess * cosine.square())
    return amplitude / amplitude.square().mean().sqrt()


def _along(side: int, direction: tuple[float, float, float], device: torch.device) -> Tensor:
    z, y, x = frequency(side, device)
    return z * direction[0] + y * direction[1] + x * direction[2]


@lru_cache(maxsize=64)
def _sphere(side: int, refinement: bool, device: torch.device) -> Tensor:
    """The soft sphere of a refinement, or the largest one in the box."""
    sphere = (
        masks.refinement_sphere(side, 1.5, None) if refinement
        else masks.default_mask((side, side, side))
    )
    return torch.from_numpy(sphere).to(device)


def _origins(
    volume: LoadedVolume, turn: Turn, draw: Draw, count: int, size: int
) -> list[tuple[int, int, int]]:
    """First voxels of patches of the turned volume, most of them near a voxel of the mask."""
    side = volume.mask.shape[0]
    last, cells = side - size, volume.coarse.shape[0]
    weights = volume.coarse.flatten().double() + 1e-9
    shift = size // 2 + OFF_CENTRE
    found = []
    for _ in range(count):
        if draw.uniform() < ANYWHERE:
            z, y, x = (draw.integer(last + 1) for _ in range(3))
        else:
            # Cells are looked up unturned, on the CPU: a look at the card would wait for it.
            cell = draw.choice(weights)
            index = (cell // cells**2, cell // cells % cells, cell % cells)
            near = turn.place(_middle(index), side)
            first = (n - shift + draw.integer(2 * OFF_CENTRE + 1) for n in near)
            z, y, x = (min(max(n, 0), last) for n in first)
        found.append((z, y, x))
    return found


def _middle(cell: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = (COARSE * n + COARSE // 2 for n in cell)
    return z, y, x


def _inverse(spectrum: Tensor, side: int) -> Tensor:
    return torch.fft.irfftn(spectrum, (side,) * 3)
