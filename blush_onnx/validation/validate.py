"""Everything that can be asked about two half-maps and their denoising, in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from blush_onnx.boxes import EvenCube
from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser
from blush_onnx.errors import InputError
from blush_onnx.fsc import CUT_OFF_THRESHOLD, Curve, FscCurves, half_map_fsc
from blush_onnx.half_map_checks import half_map_warnings
from blush_onnx.regularise import regularise
from blush_onnx.results import Regularised
from blush_onnx.validation import verdicts
from blush_onnx.validation.account import ShellAccount, account_by_shell
from blush_onnx.validation.anisotropy import Anisotropy, anisotropy_warning, directional_fsc
from blush_onnx.validation.chance import expected_spread
from blush_onnx.validation.local_resolution import LocalResolution, local_resolution
from blush_onnx.validation.model_map import Point, model_fsc
from blush_onnx.validation.overfitting import RandomisationTest, randomisation_test
from blush_onnx.validation.repeats import Repeats, repeat_denoising
from blush_onnx.validation.solvent_mask import MaskShape, SolventMask, solvent_mask
from blush_onnx.validation.symptoms import (
    CurveSymptoms,
    SolventCorrelation,
    curve_symptoms,
    solvent_correlation,
)
from blush_onnx.validation.verdicts import Verdict

Array = npt.NDArray[np.float32]
Told = Callable[[str, int, int], object]
Result = TypeVar("Result")

SOLVENT_BEYOND = 15.0
"""Å; coarser shells of the solvent hold detergent and disordered parts."""


@dataclass(frozen=True)
class Checks:
    """What is to be looked at beside the FSC.

    Attributes
    ----------
    local_resolution : bool
    randomise_beyond : float or None
        Å; the phase-randomisation test of the denoiser.
    repeats : bool
        Whether denoising comes to rest.
    atomic_model : Path or None
        For the FSC of the mean of both halves to it.
    """

    local_resolution: bool = True
    randomise_beyond: float | None = None
    repeats: bool = False
    atomic_model: Path | None = None


@dataclass(frozen=True)
class Denoising:
    """How the half-maps are denoised.

    Attributes
    ----------
    denoiser : Denoiser
    mask, fsc_mask : array like the half-maps, or None
    particle_diameter, cut_off : float or None
        Å.
    spectral_trailing : bool
    stride, rotations : int
        All as for :func:`blush_onnx.regularise`.
    """

    denoiser: Denoiser
    mask: Array | None = None
    fsc_mask: Array | None = None
    particle_diameter: float | None = None
    cut_off: float | None = None
    spectral_trailing: bool = True
    stride: int = DEFAULT_STRIDE
    rotations: int = 1

    def arguments(self) -> dict[str, Any]:
        """What several functions have in common."""
        return {
            "denoiser": self.denoiser, "mask": self.mask, "fsc_mask": self.fsc_mask,
            "particle_diameter": self.particle_diameter, "cut_off": self.cut_off,
            "stride": self.stride, "rotations": self.rotations,
        }


@dataclass(frozen=True)
class Validation:
    """All that was found; None for what was not looked at.

    Attributes
    ----------
    fsc : FscCurves
    mask : array or None
        What the FSC was taken under.
    mask_source : {"given", "network"} or None
    solvent_mask : SolventMask or None
        Made of the network's mask.
    anisotropy : Anisotropy
    symptoms : CurveSymptoms
        Of the curve that decides.
    solvent : SolventCorrelation or None
    local_resolution : LocalResolution or None
    model_curve : array or None
        FSC of the mean of both halves to the atomic model.
    regularised : Regularised or None
        The halves denoised.
    accounts : tuple of ShellAccount
        What the denoiser changed in each half.
    randomisation : RandomisationTest or None
    repeats : Repeats or None
    warnings : tuple of str
    verdicts : tuple of Verdict
    seconds : dict of str to float
        Of each part.
    """

    fsc: FscCurves
    mask: Array | None
    mask_source: Literal["given", "network"] | None
    solvent_mask: SolventMask | None
    anisotropy: Anisotropy
    symptoms: CurveSymptoms
    solvent: SolventCorrelation | None
    local_resolution: LocalResolution | None
    model_curve: Curve | None
    regularised: Regularised | None
    accounts: tuple[ShellAccount, ...]
    randomisation: RandomisationTest | None
    repeats: Repeats | None
    warnings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def flagged(self) -> bool:
        """Whether a test was not passed."""
        return any(verdict.outcome == "flagged" for verdict in self.verdicts)


def validate(
    half_map_1: Array,
    half_map_2: Array,
    voxel_size: float,
    *,
    mask: Array | None = None,
    denoising: Denoising | None = None,
    checks: Checks = Checks(),  # noqa: B008 - frozen
    mask_shape: MaskShape = MaskShape(),  # noqa: B008
    origin: Point = (0.0, 0.0, 0.0),
    workers: int = 1,
    told: Told = lambda _part, _done, _total: None,
) -> Validation:
    """Validate two half-maps, and what a denoiser makes of them.

    Without a mask one is made of the network's own, for the FSC alone: it is never
    given back to the network.

    Parameters
    ----------
    half_map_1, half_map_2 : array, (z, y, x), float32
        Unfiltered and unmasked, of one refinement.
    voxel_size : float
        Å.
    mask : array like them, optional
        Soft solvent mask for the FSC.
    denoising : Denoising, optional
        None: the half-maps alone are looked at.
    checks : Checks
    mask_shape : MaskShape
        Of the mask that is made of the network's.
    origin : (float, float, float)
        Position of the first voxel, (x, y, z) in Å, for the atomic model.
    workers : int
        Threads of what needs no network.
    told : callable
        Called with (part, done, total); whatever it raises ends the work.

    Returns
    -------
    Validation

    Raises
    ------
    InputError
        A test needs a network and there is none, or an argument is out of its range.
    BlushError
        A package is missing, or as for :func:`blush_onnx.regularise`.
    """
    if denoising is None and (checks.randomise_beyond is not None or checks.repeats):
        raise InputError("phase randomisation and repeats test the denoiser: they need one")
    clock = _Clock(told)
    regularised = None
    if denoising is not None:
        found = clock.time(
            "denoise", regularise, half_map_1, half_map_2, voxel_size,
            spectral_trailing=denoising.spectral_trailing, **denoising.arguments(),
        )
        regularised = found
    chosen, source, automatic, trouble = _choose_mask(mask, regularised, voxel_size, mask_shape)
    curves = half_map_fsc(half_map_1, half_map_2, voxel_size, chosen)
    directions = directional_fsc(half_map_1, half_map_2, voxel_size, chosen)
    symptoms = _symptoms(half_map_1, half_map_2, curves, chosen)
    solvent = _solvent(half_map_1, half_map_2, chosen, voxel_size)
    local = None
    if checks.local_resolution:
        local = clock.time(
            "local resolution", local_resolution, half_map_1, half_map_2, voxel_size,
            mask=chosen, workers=workers,
        )
    model_curve = None
    if checks.atomic_model is not None:
        model_curve = model_fsc(
            0.5 * (half_map_1 + half_map_2), voxel_size, checks.atomic_model, origin, mask=chosen
        )
    randomisation, repeats = _tests_of_denoiser(
        half_map_1, half_map_2, voxel_size, denoising, regularised, checks, clock
    )
    accounts: tuple[ShellAccount, ...] = ()
    if regularised is not None:
        accounts = tuple(
            account_by_shell(before, half.map, rho=half.rho)
            for before, half in zip((half_map_1, half_map_2), regularised.halves, strict=True)
        )
    warnings = [
        *trouble,
        *half_map_warnings(
            half_map_1, half_map_2, curves,
            cut_off=None if denoising is None else denoising.cut_off,
        ),
        *filter(None, [anisotropy_warning(directions)]),
        *(regularised.warnings if regularised is not None else ()),
    ]
    return Validation(
        curves, chosen, source, automatic, directions, symptoms, solvent, local, model_curve,
        regularised, accounts, randomisation, repeats, tuple(dict.fromkeys(warnings)),
        _verdicts(symptoms, solvent, accounts, regularised, denoising, randomisation, repeats),
        clock.seconds,
    )


class _Clock:
    """Runs the long parts, tells of their progress, and notes how long each took."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.seconds: dict[str, float] = {}

    def time(self, part: str, work: Callable[..., Result], *args: Any, **named: Any) -> Result:
        start = time.perf_counter()
        result = work(*args, progress=lambda d, t: self._told(part, d, t), **named)
        self.seconds[part] = time.perf_counter() - start
        return result


def _choose_mask(
    given: Array | None, regularised: Regularised | None, voxel_size: float, shape: MaskShape
) -> tuple[Array | None, Literal["given", "network"] | None, SolventMask | None, list[str]]:
    """The mask of the FSC, whose it is, the automatic one, and why there is none."""
    automatic, trouble = None, []
    if regularised is not None:
        try:
            automatic = solvent_mask(regularised.solvent_mask, voxel_size, **asdict(shape))
        except InputError as error:
            trouble.append(f"no mask could be made of the network's: {error}")
    if given is not None:
        return given, "given", automatic, []
    if automatic is None:
        return None, None, None, trouble
    if automatic.at_border:
        trouble.append(
            "the automatic mask reaches the border of the box, where its edge is cut off"
        )
    return automatic.mask, "network", automatic, trouble


def _symptoms(
    half_map_1: Array, half_map_2: Array, curves: FscCurves, mask: Array | None
) -> CurveSymptoms:
    """Of the curve that decides, with the spread of the maps that it was taken of."""
    curve = curves.decisive
    box = EvenCube.around(half_map_1.shape)
    cubes = [box.pad_volume(half) for half in (half_map_1, half_map_2)]
    if mask is not None:
        weights = box.pad_mask(mask)
        cubes = [cube * weights for cube in cubes]
    below = np.flatnonzero(curve[1:] < CUT_OFF_THRESHOLD) + 1
    start = int(below[0]) if below.size else len(curve) - 1 - len(curve) // 4
    spread = expected_spread(cubes[0], cubes[1], start)
    return curve_symptoms(curve, spread, box.side * curves.voxel_size)


def _solvent(
    half_map_1: Array, half_map_2: Array, mask: Array | None, voxel_size: float
) -> SolventCorrelation | None:
    """None without a mask, or where that leaves next to nothing to look at."""
    if mask is None:
        return None
    try:
        return solvent_correlation(
            half_map_1, half_map_2, mask, voxel_size, beyond_angstrom=SOLVENT_BEYOND
        )
    except InputError:
        return None


def _tests_of_denoiser(
    half_map_1: Array, half_map_2: Array, voxel_size: float, denoising: Denoising | None,
    regularised: Regularised | None, checks: Checks, clock: _Clock,
) -> tuple[RandomisationTest | None, Repeats | None]:
    if denoising is None or regularised is None:
        return None, None
    randomisation, repeats = None, None
    if checks.randomise_beyond is not None:
        randomisation = clock.time(
            "phase randomisation", randomisation_test, half_map_1, half_map_2, voxel_size,
            beyond_angstrom=checks.randomise_beyond, **denoising.arguments(),
        )
    if checks.repeats:
        trailing = denoising.spectral_trailing and not regularised.beyond_network
        cut_off = regularised.cut_off_angstrom if trailing else None
        repeats = clock.time(
            "repeats", repeat_denoising, half_map_1, voxel_size, denoiser=denoising.denoiser,
            cut_off_angstrom=cut_off, mask=denoising.mask, stride=denoising.stride,
        )
    return randomisation, repeats


def _verdicts(
    symptoms: CurveSymptoms, solvent: SolventCorrelation | None,
    accounts: tuple[ShellAccount, ...], regularised: Regularised | None,
    denoising: Denoising | None, randomisation: RandomisationTest | None, repeats: Repeats | None,
) -> tuple[Verdict, ...]:
    found = [verdicts.of_symptoms(symptoms), verdicts.of_solvent(solvent)]
    networked = denoising is not None
    if regularised is not None and denoising is not None:
        trailing = denoising.cut_off is None and denoising.spectral_trailing
        found.append(verdicts.of_accounts(accounts, regularised, trailing))
    found.append(verdicts.of_randomisation(randomisation, networked))
    found.append(verdicts.of_repeats(repeats, networked))
    return tuple(found)
