"""What models are judged on: inputs of known truth, and inputs without any."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from blush_onnx import fourier
from blush_onnx.fourier import Volume
from blush_onnx.fsc import randomise_phases
from training.prepare import density, noise, simulate
from training.prepare.structures import Atoms

RESOLUTIONS = (3.5, 5.0, 8.0)
OUTSIDE_RESOLUTION = 15.0
CONE_RATIO = 1.6
"""How much narrower an uneven case's filter is along its weak direction."""
SHARPENING = 2.0
"""ln of the factor on the amplitudes at the resolution, in a sharpened case."""
CASE_SEED = 710_000
EMPTY_SIDE = 96


@dataclass(frozen=True)
class Case:
    """One input with its truth.

    Attributes
    ----------
    name : str
    resolution : float
        Where the FSC of two such inputs falls to 0.143, Å.
    noisy, target, mask : array, (side, side, side), float32
        The input; the truth with its outside low-passed, under the input's radial
        filter; the mask of what is ordered.
    wiener : array, (side // 2 + 1,)
        Best radial weights: signal over signal and noise in each shell.
    weak_direction : array, (3,), or None
        (z, y, x) along which the input is filtered more, in uneven cases.
    voxel_size : float
        Å.
    """

    name: str
    resolution: float
    noisy: Volume
    target: Volume
    mask: Volume
    wiener: npt.NDArray[np.floating]
    weak_direction: npt.NDArray[np.float64] | None
    voxel_size: float

    @property
    def last_shell(self) -> int:
        """Shell of the resolution."""
        return int(round(self.mask.shape[0] * self.voxel_size / self.resolution))


@dataclass(frozen=True)
class Request:
    """A case that is not simulated yet.

    Attributes
    ----------
    atoms : Atoms
    resolution : float
        Å.
    seed : int
    uneven : bool
        Whether it is filtered unevenly.
    largest_box : int
        Voxels.
    """

    atoms: Atoms
    resolution: float
    seed: int
    uneven: bool
    largest_box: int = 144


def plan(
    structures: Sequence[Atoms], resolutions: Sequence[float] = RESOLUTIONS,
    largest_box: int = 144,
) -> list[Request]:
    """Every structure at every resolution, always the same; every third one unevenly.

    Parameters
    ----------
    structures : sequence of Atoms
    resolutions : sequence of float
        Å.
    largest_box : int
        Voxels; a structure that needs more to have room gets more.

    Returns
    -------
    list of Request
    """
    tightest, voxel_size = simulate.Settings.box_to_diameter[0], simulate.Settings.voxel_size
    return [
        Request(
            atoms, resolution, CASE_SEED + place, (number + place) % 3 == 0,
            max(largest_box, math.ceil(tightest * atoms.diameter / voxel_size)),
        )
        for number, atoms in enumerate(structures)
        for place, resolution in enumerate(resolutions)
    ]


def make_case(request: Request) -> Case:
    """Simulate one case."""
    atoms, resolution, seed = request.atoms, request.resolution, request.seed
    settings = simulate.Settings(
        largest_box=request.largest_box, resolution=(resolution, resolution),
        mean_b=(40.0, 140.0),
    )
    pair = simulate.simulate(atoms, seed, settings)
    if pair.truth is None:
        raise ValueError("simulated pairs have a truth")
    side, voxel_size = pair.mask.shape[0], pair.voxel_size
    squared = density.squared_frequency(side, voxel_size)
    shape = np.exp(-math.log(2) * squared * (0.9 * resolution) ** 2)
    rng = np.random.default_rng([seed, *atoms.name.encode()])
    direction, narrow = None, np.float32(1)
    if request.uneven:
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        along = _along(side, direction) / (side * voxel_size)
        narrow = np.exp(-math.log(2) * (CONE_RATIO**2 - 1) * (along * resolution) ** 2)
    outside = density.low_pass(pair.truth, voxel_size, OUTSIDE_RESOLUTION)
    target = density.filtered(pair.truth * pair.mask + outside * (1 - pair.mask), shape)
    noisy = density.filtered(pair.half_1, shape * narrow)
    shells = noise.shell_numbers(side)
    signal = noise.shell_power(fft.rfftn(target), shells)
    left = noise.shell_power(fft.rfftn(noisy - target), shells)
    unit = np.float32(1 / target[pair.mask > 0.5].std())
    return Case(
        atoms.name, resolution, noisy * unit, target * unit, pair.mask,
        signal / (signal + left), direction, voxel_size,
    )


def sharpened(case: Case) -> Case:
    """A case as people sharpen maps: a negative B factor, then nothing beyond the resolution."""
    shells = np.arange(case.mask.shape[0] // 2 + 1) / case.last_shell
    curve = np.where(shells <= 1, np.exp(SHARPENING * shells**2), 0)
    return dataclasses.replace(
        case, noisy=fourier.filter_by_shell(case.noisy, curve),
        target=fourier.filter_by_shell(case.target, curve),
    )


def pure_noise(count: int = 4) -> Iterator[tuple[str, Volume, Volume]]:
    """Pairs of independent volumes of nothing but noise, from red to blue.

    Yields
    ------
    name : str
    first, second : array, (96, 96, 96), float32
    """
    frequency = np.sqrt(density.squared_frequency(EMPTY_SIDE, 1.5)) * EMPTY_SIDE * 1.5
    for number, slope in enumerate(np.linspace(-1.5, 1.5, count)):
        rng = np.random.default_rng(CASE_SEED + number)
        shape = np.maximum(frequency, 1) ** (slope / 2)
        shape = shape * (frequency < EMPTY_SIDE * 1.5 / (3.5 + 1.5 * number))
        pair = [
            np.asarray(
                fft.irfftn(noise.white_noise(EMPTY_SIDE, rng) * shape, (EMPTY_SIDE,) * 3),
                dtype=np.float32,
            )
            for _ in range(2)
        ]
        yield f"slope {slope:+.1f}", pair[0], pair[1]


def phase_randomised(case: Case, beyond: float = 20.0) -> tuple[Volume, Volume]:
    """A case's input twice, with its own random phases beyond a resolution (Å) each."""
    side = case.noisy.shape[0]
    start = round(side * case.voxel_size / beyond)
    found = []
    for seed in (1, 2):
        spectrum = fourier.forward(case.noisy)
        randomise_phases(spectrum, start, np.random.default_rng(CASE_SEED + seed))
        found.append(fourier.inverse(spectrum))
    return found[0], found[1]


def _along(side: int, direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    whole, half = np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side)
    return np.asarray(
        whole[:, None, None] * direction[0] + whole[None, :, None] * direction[1]
        + half[None, None, :] * direction[2]
    )


def weak_cone(case: Case) -> npt.NDArray[np.bool_]:
    """Elements of the half-spectrum about a case's weak direction, from 20 Å to its resolution."""
    side = case.mask.shape[0]
    if case.weak_direction is None:
        raise ValueError(f"{case.name} has no weak direction")
    radius = np.sqrt(density.squared_frequency(side, 1.0)) * side
    cosine = np.abs(_along(side, case.weak_direction)) / np.maximum(radius, 1)
    first = side * case.voxel_size / 20
    return np.asarray((cosine > 0.8) & (radius >= first) & (radius <= case.last_shell))
