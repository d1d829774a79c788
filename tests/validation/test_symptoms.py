from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import InputError
from blush_onnx.fsc import fsc
from blush_onnx.masks import radial_mask
from blush_onnx.validation.chance import expected_spread, pooled, shell_counts
from blush_onnx.validation.symptoms import (
    CurveSymptoms,
    curve_symptoms,
    solvent_correlation,
)
from tests.validation.pairs import (
    LENGTH,
    SIDE,
    VOXEL_SIZE,
    Pair,
    in_a_sphere,
    overfitted,
    sound,
    white,
)

SEEDS = range(6)
MOLECULE = radial_mask(SIDE, SIDE * 0.3, 6)


def symptoms(pair: Pair, mask: np.ndarray | None = None) -> CurveSymptoms:
    first, second = pair if mask is None else (pair[0] * mask, pair[1] * mask)
    curve = fsc(first, second)
    return curve_symptoms(curve, expected_spread(first, second, 16), LENGTH)


def solvent(pair: Pair, mask: np.ndarray = MOLECULE) -> bool:
    found = solvent_correlation(*pair, mask, VOXEL_SIZE, beyond_angstrom=LENGTH / 15)
    assert found.from_shell == 16
    assert found.verdict.startswith("flagged" if found.flagged else "passed")
    return found.flagged


def test_the_counts_are_those_of_the_whole_transform() -> None:
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    expected = np.bincount(np.rint(radius).astype(int).ravel())[: SIDE // 2]
    np.testing.assert_array_equal(shell_counts(SIDE)[:-1], expected)


@pytest.mark.parametrize("radius", [None, 26, 14])
def test_the_spread_is_how_far_the_fsc_of_noise_strays(radius: int | None) -> None:
    mask = np.float32(1) if radius is None else radial_mask(SIDE, radius, 6)
    deviations, of_means = [], []
    for seed in range(12):
        first, second = white(2 * seed) * mask, white(2 * seed + 1) * mask
        curve, spread = fsc(first, second), expected_spread(first, second, 8)
        deviations.append(curve[8:32] / spread[8:32])
        mean, chance = pooled(curve[8:32], spread[8:32])
        of_means.append(mean / chance)
    # 12 draws give a standard deviation to 20 %; three of those. Of single shells it may be
    # less than stated: what a mask smears along the radius is counted as if along the shell.
    assert 0.4 < np.std(deviations) < 1.2
    assert 0.4 < np.sqrt(np.mean(np.square(of_means))) < 1.6


@pytest.mark.parametrize("noise", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sound_pair_has_no_symptoms(seed: int, noise: float) -> None:
    pair = sound(seed, noise)
    assert symptoms(pair).findings == ()
    assert symptoms(pair, MOLECULE).findings == ()
    assert not solvent(pair)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sound_pair_without_noise_outside_a_sphere_has_none_either(seed: int) -> None:
    pair = in_a_sphere(sound(seed))
    assert symptoms(pair).findings == ()
    assert not solvent(pair, radial_mask(SIDE, SIDE * 0.2, 6))


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_in_common_is_flagged_by_the_curve_and_in_the_solvent(seed: int) -> None:
    found = symptoms(overfitted(seed))
    assert found.flagged
    assert any("stays at" in finding or "before Nyquist" in finding for finding in found.findings)
    assert solvent(overfitted(seed))


def test_noise_in_common_beyond_a_fall_is_a_rise() -> None:
    found = symptoms(overfitted(0, 0.5, start=22))
    assert found.rho is not None
    assert found.rho < 16
    assert found.rise_shell is not None
    assert found.rise_shell >= 21
    assert found.rise > 0.3  # a quarter of noise in common makes 1/2 of equal parts
    assert any("rises again" in finding for finding in found.findings)


def test_noise_in_common_inside_the_molecule_alone_shows_under_its_mask_only() -> None:
    first, second = sound(0)
    common = 0.7 * white(0) * radial_mask(SIDE, 12, 4)
    pair = first + common, second + common
    assert not solvent(pair)
    assert symptoms(pair).plateau < 0.1
    assert symptoms(pair, radial_mask(SIDE, 14, 6)).flagged


def test_a_curve_that_still_falls_is_no_plateau() -> None:
    shells = np.arange(33)
    falling = np.exp(-((shells / 14) ** 2))
    spread = np.full(33, 1e-3)
    found = curve_symptoms(falling, spread, LENGTH)
    assert found.plateau > 5 * found.plateau_spread
    assert found.findings == ()
    assert curve_symptoms(np.maximum(falling, 0.12), spread, LENGTH).flagged
    # The largest tail seen in a refinement whose halves never met.
    assert not curve_symptoms(np.maximum(falling, 0.064), spread, LENGTH).flagged


def test_a_curve_that_never_falls_is_flagged() -> None:
    found = curve_symptoms(np.full(33, 0.9), np.full(33, 0.01), LENGTH)
    assert found.rho is None
    assert "before Nyquist" in found.findings[0]


def test_too_few_shells_beyond_the_fall_are_not_judged() -> None:
    curve = np.ones(33)
    curve[29:] = 0.14
    found = curve_symptoms(curve, np.full(33, 1e-4), LENGTH)
    assert not found.judged
    assert not found.flagged


def test_a_mask_that_leaves_a_part_of_the_molecule_out_is_flagged_too() -> None:
    molecule = white(2) * radial_mask(SIDE, 20, 6)
    halves = [molecule + 0.5 * white(i) for i in (0, 1)]
    whole, part = (
        solvent_correlation(
            halves[0], halves[1], radial_mask(SIDE, radius, 6), VOXEL_SIZE, beyond_angstrom=8
        )
        for radius in (26, 14)
    )
    assert not whole.flagged
    found = part
    assert found.flagged
    assert "leaves a part of the molecule out" in found.verdict


def test_no_solvent_and_no_shells_are_errors() -> None:
    first, second = sound(0)
    with pytest.raises(InputError, match="leaves no solvent"):
        solvent_correlation(first, second, np.ones_like(first), 2.0, beyond_angstrom=8)
    with pytest.raises(InputError, match="nothing of the maps lies beyond"):
        solvent_correlation(first, second, MOLECULE, 2.0, beyond_angstrom=4.0)


def test_other_boxes_are_taken() -> None:
    first, second = (half[:61, 3:, :50] for half in sound(0))
    found = solvent_correlation(
        first, second, MOLECULE[:61, 3:, :50], VOXEL_SIZE, beyond_angstrom=8
    )
    assert len(found.curve) == 32
    assert not found.flagged
