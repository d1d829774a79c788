"""Whether a denoiser makes two half-maps agree where they do not (docs/numerics.md, section 15).

The phases of both halves are drawn anew beyond a resolution, each half's apart, so that
nothing there is common to them any more. Whatever agrees there after denoising was put
there. The paper's phase-randomisation test (its Fig. 2d) on one application of the
denoiser rather than on a whole refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube, as_half_maps, as_mask
from blush_onnx.cut_off import shell_of
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser, Progress
from blush_onnx.engines.base import EngineDescription
from blush_onnx.errors import InputError
from blush_onnx.fsc import DEFAULT_SEED, correlate, fsc, randomise_phases
from blush_onnx.grids import Grids
from blush_onnx.regularise import regularise
from blush_onnx.results import Regularised
from blush_onnx.validation.chance import Curve, expected_spread

Array = npt.NDArray[np.float32]

SMEARED_SHELLS = 2
"""Shells beyond the first randomised one that do not count: what a map is multiplied by smears
each shell over its neighbours (the solvent correction leaves out as many)."""
NO_ENERGY = 1e-6
"""Share of a map's energy below which it holds nothing: what agrees in it is rounding."""
SIGNIFICANT = 4.0
"""Spreads by which a shell must exceed the control; chance does so in 1 shell of 30 000."""
HARMLESS = 1 / 14
"""Excess below which nothing is said: half of the 1/7 at which a shell counts as resolved."""


@dataclass(frozen=True)
class TrailingFinding:
    """What appeared beyond the resolution, with or without spectral trailing.

    Attributes
    ----------
    curve : array, (shells,)
        FSC of the two results.
    excess : array like it
        That minus the control, in the shells that count; 0 in the others.
    limit : array like it
        Excess that a shell may have; infinite where it does not count.
    energy_beyond : float
        Share of the results' energy that lies in the shells beyond.
    shell : int or None
        The shell that comes nearest to its limit, or exceeds it most; None where none
        counts.
    excess_there : float
    mean_excess, mean_limit : float
        Over the shells that count, weighted by the results' energy.
    """

    curve: Curve
    excess: Curve
    limit: Curve
    energy_beyond: float
    shell: int | None
    excess_there: float
    mean_excess: float
    mean_limit: float

    @property
    def flagged(self) -> bool:
        """Whether a shell or the mean exceeds its limit."""
        return bool(np.any(self.excess > self.limit)) or self.mean_excess > self.mean_limit


@dataclass(frozen=True)
class RandomisationTest:
    """Outcome of :func:`randomisation_test`; curves over the shells of the even cube.

    Attributes
    ----------
    beyond_angstrom : float
    from_shell : int
        First shell with random phases.
    seed : int
    original, randomised : array, (side // 2 + 1,), float64
        FSC of the halves as they were given, and with random phases, each under what the
        results are under: it went the whole way with a network that changes nothing.
        `randomised` is the control.
    with_trailing, without_trailing : TrailingFinding
    """

    beyond_angstrom: float
    from_shell: int
    seed: int
    original: Curve
    randomised: Curve
    with_trailing: TrailingFinding
    without_trailing: TrailingFinding

    @property
    def passed(self) -> bool:
        """Whether nothing appeared with spectral trailing (or the cut-off given)."""
        return not self.with_trailing.flagged

    @property
    def verdict(self) -> str:
        """In plain words."""
        return (
            f"{'passed' if self.passed else 'flagged'}: beyond {self.beyond_angstrom:.2f} Å "
            f"{_in_words(self.with_trailing)} with spectral trailing, "
            f"and {_in_words(self.without_trailing)} without it"
        )


def randomisation_test(
    half_map_1: npt.ArrayLike,
    half_map_2: npt.ArrayLike,
    voxel_size: float,
    *,
    beyond_angstrom: float,
    denoiser: Denoiser,
    mask: npt.ArrayLike | None = None,
    fsc_mask: npt.ArrayLike | None = None,
    particle_diameter: float | None = None,
    cut_off: float | None = None,
    stride: int = DEFAULT_STRIDE,
    rotations: int = 1,
    seed: int = DEFAULT_SEED,
    progress: Progress | None = None,
) -> RandomisationTest:
    """Randomise both halves beyond a resolution, denoise them, and look for agreement there.

    The network runs once for each half; with and without spectral trailing are two
    filters of what it returns.

    Parameters
    ----------
    half_map_1, half_map_2 : array_like, (z, y, x), real
        Unfiltered half-maps of one refinement.
    voxel_size : float
        Å, from 0.3 to 8.
    beyond_angstrom : float
        Phases are random in shells finer than this. Choose it coarser than the
        resolution of the halves, so that there is something to lose.
    denoiser : Denoiser
    mask, fsc_mask, particle_diameter, cut_off, stride, rotations
        As for :func:`blush_onnx.regularise`.
    seed : int
        Of the random phases.
    progress : callable, optional
        Called with (done, total) patches of both halves; whatever it raises ends the
        work.

    Returns
    -------
    RandomisationTest

    Raises
    ------
    InputError
        Nothing lies beyond the resolution, or an argument is out of its range.
    OutOfMemoryError
        The work would not fit.
    """
    given = as_half_maps(half_map_1, half_map_2)
    grids = denoiser.grids(given[0].shape, voxel_size)
    start = first_random_shell(grids, beyond_angstrom)
    # In the even cube from the start: to cut a box out of it would smear what is there.
    halves = [EvenCube.around(half.shape).pad_volume(half) for half in given]
    way: dict[str, Any] = {
        "mask": _mask_in_cube(mask, grids.box), "stride": stride,
        "fsc_mask": _mask_in_cube(fsc_mask, grids.box), "particle_diameter": particle_diameter,
        "cut_off": cut_off,
    }
    random = [
        _randomised(half, start, np.random.default_rng([seed, number]))
        for number, half in enumerate(halves)
    ]
    unchanging = Denoiser(denoiser.config, _Unchanging())
    original = regularise(halves[0], halves[1], voxel_size, denoiser=unchanging, **way)
    control = regularise(random[0], random[1], voxel_size, denoiser=unchanging, **way)
    found = regularise(
        random[0], random[1], voxel_size, denoiser=denoiser, rotations=rotations,
        progress=progress, **way,
    )
    with_trailing = [half.map for half in found.halves]
    return RandomisationTest(
        beyond_angstrom,
        start,
        seed,
        _fsc(_without_trailing(original)),
        _fsc(_without_trailing(control)),
        _finding(with_trailing, _without_trailing(control), start),
        _finding(_without_trailing(found), _without_trailing(control), start),
    )


def first_random_shell(grids: Grids, beyond_angstrom: float) -> int:
    """The first shell with random phases beyond a resolution.

    Parameters
    ----------
    grids : Grids
    beyond_angstrom : float

    Returns
    -------
    int
        Of the even cube.

    Raises
    ------
    InputError
        The resolution is out of range, or nothing lies beyond.
    """
    start = shell_of(beyond_angstrom, grids, "resolution") + 1
    if start + SMEARED_SHELLS >= grids.side // 2:
        raise InputError(
            f"nothing of the maps lies beyond {beyond_angstrom:g} Å: give a coarser resolution"
        )
    return start


def _randomised(half: Array, start: int, rng: np.random.Generator) -> Array:
    """A half-map in an even cube with random phases from a shell on."""
    spectrum = fourier.forward(half)
    randomise_phases(spectrum, start, rng)
    return fourier.inverse(spectrum)


def _mask_in_cube(mask: npt.ArrayLike | None, box: EvenCube) -> Array | None:
    return None if mask is None else box.pad_mask(as_mask(mask, box.shape))


def _without_trailing(result: Regularised) -> list[Array]:
    """Both references as they would be without spectral trailing."""
    return [half.map if half.beyond_network else half.denoised for half in result.halves]


def _fsc(maps: Sequence[Array]) -> Curve:
    return fsc(maps[0], maps[1])


def _finding(maps: Sequence[Array], control: Sequence[Array], start: int) -> TrailingFinding:
    """What two results share beyond `start` that the control does not."""
    spectra = [fourier.forward(values) for values in maps]
    side = maps[0].shape[0]
    curve = correlate(spectra[0], spectra[1])
    energy = fourier.sum_by_shell(
        side, *(lambda z, s=s: np.square(np.abs(s[z]), dtype=np.float64) for s in spectra)
    )
    share = (energy / np.maximum(energy.sum(axis=1, keepdims=True), 1e-300)).min(axis=0)
    beyond = np.arange(side // 2 + 1) >= start + SMEARED_SHELLS
    counted = beyond & (share > NO_ENERGY / np.count_nonzero(beyond))
    counted[-1] = False  # Nyquist, where the half-spectrum counts planes twice
    excess = np.where(counted, curve - _fsc(control), 0.0)
    chance = _chance_of_excess(maps, control, start)
    limit = np.where(counted, np.maximum(SIGNIFICANT * chance, HARMLESS), np.inf)
    mean, mean_limit, largest = 0.0, np.inf, None
    if counted.any():
        weight = np.where(counted, share, 0) / share[counted].sum()
        mean = float((excess * weight).sum())
        of_mean = float(np.linalg.norm(np.where(counted, chance, 0) * weight))
        mean_limit = max(SIGNIFICANT * of_mean, HARMLESS)
        largest = int(np.argmax(np.where(counted, excess - limit, -np.inf)))
    return TrailingFinding(
        curve, excess, limit, float(share[beyond].sum()), largest,
        0.0 if largest is None else float(excess[largest]), mean, mean_limit,
    )


def _chance_of_excess(maps: Sequence[Array], control: Sequence[Array], start: int) -> Curve:
    """Spread by chance of an FSC minus the control's, where the maps share nothing.

    Both contain the same noise as far as a result is still its control: with q their
    correlation in a shell, that share of the noise drops out of the difference.
    """
    kept = np.clip(fsc(maps[0], control[0]) * fsc(maps[1], control[1]), 0, 1)
    spread = expected_spread(maps[0], maps[1], start)
    return np.asarray(np.sqrt(2 * (1 - kept)) * spread)


def _in_words(finding: TrailingFinding) -> str:
    if finding.shell is None:
        return f"the results hold nothing ({finding.energy_beyond:.0e} of their energy)"
    how = "agree by more than" if finding.flagged else "agree no more than"
    return (
        f"the results {how} the randomised halves and chance explain (FSC by "
        f"{finding.excess_there:+.2f} in shell {finding.shell}, limit "
        f"{finding.limit[finding.shell]:.2f}; on average by {finding.mean_excess:+.2f}, limit "
        f"{finding.mean_limit:.2f})"
    )


class _Unchanging:
    """An engine whose network returns what it is given."""

    description = EngineDescription("none", "no network", "the control of a test")

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """The patches as they are; there is no mask."""
        del local_std
        return grid, None
