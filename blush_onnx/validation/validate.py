"""Everything that can be asked about two half-maps and their denoising, in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from blush_onnx.boxes import EvenCube, as_half_maps, as_mask, check_voxel_size
from blush_onnx.errors import InputError
from blush_onnx.fsc import CUT_OFF_THRESHOLD, FscCurves, half_map_fsc
from blush_onnx.half_map_checks import half_map_warnings
from blush_onnx.regularise import regularise
from blush_onnx.results import Regularised
from blush_onnx.validation import verdicts
from blush_onnx.validation.account import ShellAccount, account_by_shell
from blush_onnx.validation.anisotropy import anisotropy_warning, directional_fsc
from blush_onnx.validation.chance import expected_spread
from blush_onnx.validation.findings import Validation
from blush_onnx.validation.local_resolution import LocalResolution, local_resolution
from blush_onnx.validation.model_map import Point, density_fsc, model_density
from blush_onnx.validation.overfitting import (
    RandomisationTest,
    first_random_shell,
    randomisation_test,
)
from blush_onnx.validation.repeats import Repeats, repeat_denoising
from blush_onnx.validation.request import Checks, Denoising
from blush_onnx.validation.solvent_mask import MaskShape, SolventMask, solvent_mask
from blush_onnx.validation.symptoms import (
    CurveSymptoms,
    SolventCorrelation,
    curve_symptoms,
    solvent_correlation,
)

Array = npt.NDArray[np.float32]
Told = Callable[[str, int, int], object]
Result = TypeVar("Result")

SOLVENT_BEYOND = 15.0
"""Å; coarser shells of the solvent hold detergent and disordered parts."""


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
    size = check_voxel_size(voxel_size)
    halves = as_half_maps(half_map_1, half_map_2)
    density = _check(halves, size, mask, denoising, checks, origin)
    clock = _Clock(told)
    regularised = None
    if denoising is not None:
        regularised = clock.time(
            "denoise", regularise, *halves, size,
            spectral_trailing=denoising.spectral_trailing, **denoising.arguments(),
        )
    chosen, source, automatic, trouble = _choose_mask(mask, regularised, size, mask_shape)
    curves = half_map_fsc(halves[0], halves[1], size, chosen, like_relion=checks.like_relion)
    directions = directional_fsc(halves[0], halves[1], size, chosen)
    local = _local(halves, size, chosen, checks, workers, clock, trouble)
    accounts: tuple[ShellAccount, ...] = ()
    if regularised is not None:
        accounts = tuple(
            account_by_shell(before, half.map, rho=half.rho)
            for before, half in zip(halves, regularised.halves, strict=True)
        )
    symptoms = _symptoms(halves, curves, chosen)
    solvent = _solvent(halves, chosen, size)
    randomisation, repeats = _of_denoiser(halves, size, denoising, regularised, checks, clock)
    cut_off = None if denoising is None else denoising.cut_off
    warnings = [
        *trouble,
        *half_map_warnings(halves[0], halves[1], curves, cut_off=cut_off),
        *filter(None, [anisotropy_warning(directions)]),
        *(regularised.warnings if regularised is not None else ()),
    ]
    found = [verdicts.of_symptoms(symptoms), verdicts.of_solvent(solvent)]
    trailing = denoising is not None and (denoising.spectral_trailing or cut_off is not None)
    if regularised is not None:
        found.append(verdicts.of_accounts(accounts, regularised, trailing and cut_off is None))
    found.append(verdicts.of_randomisation(randomisation, denoising is not None, trailing))
    found.append(verdicts.of_repeats(repeats, denoising is not None))
    return Validation(
        fsc=curves,
        mask=chosen,
        mask_source=source,
        solvent_mask=automatic,
        anisotropy=directions,
        symptoms=symptoms,
        solvent=None if isinstance(solvent, str) else solvent,
        local_resolution=local,
        model_curve=None if density is None else density_fsc(
            0.5 * (halves[0] + halves[1]), density, chosen
        ),
        regularised=regularised,
        trailing=trailing and regularised is not None and not regularised.beyond_network,
        accounts=accounts,
        randomisation=randomisation,
        repeats=None if isinstance(repeats, str) else repeats,
        warnings=tuple(dict.fromkeys(warnings)),
        verdicts=tuple(found),
        seconds=clock.seconds,
    )


def _check(
    halves: list[Array], voxel_size: float, mask: Array | None, denoising: Denoising | None,
    checks: Checks, origin: Point,
) -> Array | None:
    """Refuse what would fail after minutes; the atomic model's density, if one is given."""
    if mask is not None:
        as_mask(mask, halves[0].shape)
    if denoising is None and (checks.randomise_beyond is not None or checks.repeats):
        raise InputError("phase randomisation and repeats test the denoiser: they need one")
    if denoising is not None and checks.randomise_beyond is not None:
        grids = denoising.denoiser.grids(halves[0].shape, voxel_size)
        first_random_shell(grids, checks.randomise_beyond)
    if checks.atomic_model is None:
        return None
    return model_density(checks.atomic_model, halves[0].shape, voxel_size, origin)


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
        return given, "given", automatic, trouble
    if automatic is None:
        return None, None, None, trouble
    if automatic.at_border:
        trouble.append(
            "the automatic mask reaches the border of the box, where its edge is cut off"
        )
    return automatic.mask, "network", automatic, trouble


def _local(
    halves: list[Array], voxel_size: float, mask: Array | None, checks: Checks, workers: int,
    clock: _Clock, trouble: list[str],
) -> LocalResolution | None:
    if not checks.local_resolution:
        return None
    try:
        return clock.time(
            "local resolution", local_resolution, halves[0], halves[1], voxel_size, mask=mask,
            workers=workers,
        )
    except InputError as error:  # a box too small for any window
        trouble.append(f"there is no local resolution: {error}")
        return None


def _symptoms(halves: list[Array], curves: FscCurves, mask: Array | None) -> CurveSymptoms:
    """Of the curve that decides, with the spread of the maps that it was taken of."""
    curve = curves.decisive
    box = EvenCube.around(halves[0].shape)
    cubes = [box.pad_volume(half) for half in halves]
    if mask is not None:
        weights = box.pad_mask(mask)
        cubes = [cube * weights for cube in cubes]
    below = np.flatnonzero(curve[1:] < CUT_OFF_THRESHOLD) + 1
    start = int(below[0]) if below.size else len(curve) - 1 - len(curve) // 4
    spread = expected_spread(cubes[0], cubes[1], start)
    return curve_symptoms(curve, spread, box.side * curves.voxel_size)


def _solvent(
    halves: list[Array], mask: Array | None, voxel_size: float
) -> SolventCorrelation | str:
    """What it came to, or why there is no telling."""
    if mask is None:
        return "it needs a mask"
    try:
        return solvent_correlation(
            halves[0], halves[1], mask, voxel_size, beyond_angstrom=SOLVENT_BEYOND
        )
    except InputError as error:
        return str(error)


def _of_denoiser(
    halves: list[Array], voxel_size: float, denoising: Denoising | None,
    regularised: Regularised | None, checks: Checks, clock: _Clock,
) -> tuple[RandomisationTest | None, Repeats | str | None]:
    if denoising is None or regularised is None:
        return None, None
    randomisation: RandomisationTest | None = None
    if checks.randomise_beyond is not None:
        randomisation = clock.time(
            "phase randomisation", randomisation_test, halves[0], halves[1], voxel_size,
            beyond_angstrom=checks.randomise_beyond, **denoising.arguments(),
        )
    if not checks.repeats:
        return randomisation, None
    applied = denoising.spectral_trailing and not regularised.beyond_network
    try:
        repeats = clock.time(
            "repeats", repeat_denoising, halves[0], voxel_size, denoiser=denoising.denoiser,
            cut_off_angstrom=regularised.cut_off_angstrom if applied else None,
            mask=denoising.mask, rotations=denoising.rotations, stride=denoising.stride,
        )
    except InputError as error:  # a mask without an inside
        return randomisation, str(error)
    return randomisation, repeats
