from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import fft

from blush_onnx.fsc import fsc
from tests.training.conftest import SMALL, compact_chain
from training.prepare import density, noise, simulate
from training.prepare.dataset import TrainingPair


def test_a_pair_is_decided_by_its_seed(toy_pair: TrainingPair) -> None:
    again = simulate.simulate(compact_chain(), 5, SMALL)
    np.testing.assert_array_equal(again.half_1, toy_pair.half_1)
    other = simulate.simulate(compact_chain(), 6, SMALL)
    assert not np.array_equal(other.half_1, toy_pair.half_1)


@pytest.mark.parametrize("seed", range(6))
def test_the_halves_fsc_falls_at_the_wanted_resolution(seed: int) -> None:
    settings = dataclasses.replace(SMALL, resolution=(5.0, 5.0))
    pair = simulate.simulate(compact_chain(), seed, settings)
    shell = round(64 * 1.5 / 5)
    curve = fsc(pair.half_1, pair.half_2)
    # Five shells of about 4000 independent voxels each; streaks and a band limit are uneven.
    assert curve[shell - 2 : shell + 3].mean() == pytest.approx(0.143, abs=0.07)
    assert curve[2:5].min() > 0.5


def test_noise_of_the_halves_is_independent(toy_pair: TrainingPair) -> None:
    assert toy_pair.truth is not None
    first, second = toy_pair.half_1 - toy_pair.truth, toy_pair.half_2 - toy_pair.truth
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_the_mask_holds_the_density(toy_pair: TrainingPair) -> None:
    assert toy_pair.truth is not None
    strong = toy_pair.truth > 0.3 * toy_pair.truth.max()
    assert toy_pair.mask[strong].mean() > 0.95
    assert 0.01 < toy_pair.mask.mean() < 0.5


def test_membrane_proteins_get_a_belt_outside_the_mask() -> None:
    atoms = dataclasses.replace(compact_chain(), membrane=True)
    settings = dataclasses.replace(SMALL, smallest_box=96, largest_box=96)
    pair = simulate.simulate(atoms, 2, settings)
    assert pair.notes["surrounded_by"] in ("micelle", "nanodisc")
    assert pair.truth is not None
    outside = density.low_pass(pair.truth, 1.5, 15) * (pair.mask < 0.01)
    assert np.percentile(outside, 99) > 5 * abs(float(np.median(outside)))


def test_coarse_pixels_end_the_band_of_all_three() -> None:
    settings = dataclasses.replace(SMALL, resolution=(5.0, 5.0))
    for seed in range(20):
        pair = simulate.simulate(compact_chain(), seed, settings)
        if "pixel_size" not in pair.notes:
            continue
        limit = 64 * 1.5 / (2 * pair.notes["pixel_size"])
        for volume in (pair.half_1, pair.truth):
            power = np.abs(fft.rfftn(volume)) ** 2
            assert power[0, 0, int(limit) + 2 :].sum() < 1e-6 * power[0, 0].sum()
        return
    pytest.fail("no pair of 20 had coarse pixels")


def test_a_structure_wider_than_the_largest_box_is_cut_off() -> None:
    atoms = compact_chain()
    wide = dataclasses.replace(atoms, positions=atoms.positions * 8)
    pair = simulate.simulate(wide, 1, SMALL)
    assert pair.mask.shape == (64, 64, 64)
    assert np.isfinite(pair.half_1).all()


def test_noise_power_rises_with_the_radius_as_slices_spread_out() -> None:
    ratios = []
    for seed in range(12):
        pair = simulate.simulate(compact_chain(), seed, SMALL)
        if "pixel_size" in pair.notes or "streaks" in pair.notes:
            continue
        assert pair.truth is not None
        power = noise.shell_power(fft.rfftn(pair.half_1 - pair.truth), noise.shell_numbers(64))
        ratios.append(float(power[24:30].mean() / power[12:15].mean()))
    # Twice the radius; what the CTF has of it differs from pair to pair.
    assert np.median(ratios) == pytest.approx(2, rel=0.2)
