"""Density, surroundings and noise of simulated pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from blush_onnx.fsc import fsc
from tests.training.conftest import compact_chain
from training.prepare import density, noise, surroundings

CARBON_AT_ZERO = 2.5088
"""Electron scattering factor of carbon at zero angle, Å (International Tables C, 4.3.2.2)."""


def one_carbon(place: tuple[float, float, float], b_factor: float = 60.0) -> np.ndarray:
    return density.render(
        np.array([place], dtype=np.float32), np.array([6], dtype=np.uint8),
        np.array([b_factor], dtype=np.float32), 48, 1.5,
    )


def test_an_atom_has_its_form_factor_at_zero_angle() -> None:
    total = float(one_carbon((0, 0, 0)).sum()) * 1.5**3
    # gemmi cuts the tails at 1e-5 of the peak.
    assert total == pytest.approx(CARBON_AT_ZERO, rel=0.02)


def test_an_atom_lies_where_its_position_says() -> None:
    volume = one_carbon((3.0, -6.0, 9.0))
    z, y, x = np.unravel_index(volume.argmax(), volume.shape)
    assert (x - 24, y - 24, z - 24) == (2, -4, 6)


def test_displaced_solvent_takes_three_fifths_of_the_mean() -> None:
    volume = one_carbon((0, 0, 0))
    left = density.displace_solvent(volume, 1.5).sum() / volume.sum()
    assert left == pytest.approx(1 - density.SOLVENT_SHARE, abs=1e-4)


def test_the_mask_falls_from_one_to_zero_over_its_edge() -> None:
    positions = np.zeros((1, 3), dtype=np.float32)
    mask = density.soft_mask(density.distance_to_atoms(positions, 48, 1.5), 6.0, 6.0)
    along = mask[24, 24, 24:]
    assert (along[:5] == 1).all()
    assert along[6] == pytest.approx(0.5, abs=1e-6)
    assert (along[8:] == 0).all()
    assert mask.min() == 0
    assert mask.max() == 1


def test_a_gaussian_low_pass_has_half_its_amplitude_at_the_resolution() -> None:
    white = np.random.default_rng(0).standard_normal((48, 48, 48), dtype=np.float32)
    ratio = fft.rfftn(density.low_pass(white, 1.5, 9.0)) / fft.rfftn(white)
    assert abs(ratio[0, 0, 8]) == pytest.approx(0.5, rel=1e-4)  # 48 · 1.5 / 9 = 8


@pytest.mark.parametrize("disc", [False, True])
def test_a_belt_lies_around_the_middle_and_not_at_the_border(disc: bool) -> None:
    positions = compact_chain().positions
    body = surroundings.belt(positions, 96, 1.5, np.random.default_rng(1), disc=disc)
    axes = [np.abs(np.arange(96) - 48)] * 3
    far = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2) > 46
    assert body.mean() > 10 * abs(body[far].mean())
    assert 0.3 < np.percentile(body, 99.9) < 1.6


def test_tails_are_smooth() -> None:
    tails = surroundings.appendages(compact_chain().positions, 64, 1.5, np.random.default_rng(1))
    power = noise.shell_power(fft.rfftn(tails), noise.shell_numbers(64))
    assert power[20:].max() < 1e-3 * power[1]  # nothing beyond 4.8 Å


def test_views_along_an_axis_leave_that_axis_uncovered() -> None:
    """The series against a count of great circles through many drawn views."""
    rng = np.random.default_rng(0)
    concentration = 6.0
    # Views about z by the inverse distribution of the von Mises–Fisher density.
    u = rng.random(400_000)
    cosine = 1 + np.log(u + (1 - u) * np.exp(-2 * concentration)) / concentration
    angle = rng.uniform(0, 2 * np.pi, len(u))
    sine = np.sqrt(1 - cosine**2)
    views = np.stack([cosine, sine * np.cos(angle), sine * np.sin(angle)], axis=1)
    for degrees in (0, 30, 60, 90):
        k = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0])
        counted = float(np.mean(np.abs(views @ k) < 0.02)) / 0.02
        series = float(noise._cluster_coverage(np.cos(np.radians(degrees)), concentration))
        # Counting: 1 % or 0.005; the series ends at order 12.
        assert series == pytest.approx(counted, rel=0.04, abs=0.02), degrees


def test_even_views_cover_evenly() -> None:
    covered = noise.coverage(24, np.random.default_rng(1), evenness=1.0)
    np.testing.assert_allclose(covered, 1, atol=1e-6)


def test_ctfs_are_weak_towards_zero_frequency_and_level_off() -> None:
    weight = noise.ctf_weight(np.linspace(0, 0.3, 200), np.random.default_rng(2))
    assert weight[0] < 0.05
    assert weight[100:].mean() == pytest.approx(1, abs=0.15)


def test_streaks_are_constant_along_rays() -> None:
    volume = noise.streaks(64, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    directions = rng.standard_normal((3000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    near, far = (
        volume[tuple(np.rint(r * directions).astype(int).T + 32)] for r in (11.0, 15.0)
    )
    across = volume[tuple(np.rint(11 * np.roll(directions, 1, axis=0)).astype(int).T + 32)]
    # Rays are followed to the nearest voxel, which costs some of the correlation.
    assert np.corrcoef(near, far)[0, 1] > 0.25
    assert abs(np.corrcoef(near, across)[0, 1]) < 0.1


def test_noise_is_scaled_to_an_fsc_of_0_143_at_the_wanted_shell() -> None:
    rng = np.random.default_rng(5)
    shells = noise.shell_numbers(64)
    atoms = compact_chain()
    clean = density.render(atoms.positions, atoms.elements, atoms.b_factors + 60, 64, 1.5)
    signal = noise.shell_power(fft.rfftn(clean), shells)
    white = [rng.standard_normal(clean.shape, dtype=np.float32) for _ in range(2)]
    power = noise.shell_power(fft.rfftn(white[0]), shells)
    scale = noise.noise_scale(signal, power, 16)
    curve = fsc(*(clean + np.float32(scale) * w for w in white))
    # Shell 16 has 3200 voxels, five of them 16 000: the mean FSC is good to 0.01.
    assert curve[14:19].mean() == pytest.approx(0.143, abs=0.04)


def test_what_lies_outside_the_box_is_left_out() -> None:
    assert float(np.abs(one_carbon((0, 0, 40.0))).max()) == 0  # the box ends at 36 Å
