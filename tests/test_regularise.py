from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import (
    Denoiser,
    InputError,
    fourier,
    masks,
    regularise,
    regularise_class,
    regularise_half,
)
from tests.conftest import blob_and_noise

SIDE, VOXEL_SIZE = 40, 2.4
FALLING = np.concatenate([np.ones(10), np.zeros(11)])


def half(seed: int, shape: tuple[int, int, int] = (SIDE,) * 3) -> np.ndarray:
    return blob_and_noise(shape, seed)


def power_by_shell(volume: np.ndarray) -> np.ndarray:
    side = volume.shape[0]
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(side, z) for z in range(side)]))
    shell = np.rint(radius).astype(int).ravel()
    return np.bincount(shell, np.abs(fourier.forward(volume)).ravel() ** 2)


def test_trailing_leaves_nothing_beyond_the_cut_off(tiny_denoiser: Denoiser) -> None:
    result = regularise_half(
        half(1), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=FALLING, particle_diameter=60
    )
    assert (result.rho, result.cut_off) == (10, 8)
    assert result.rho_angstrom == pytest.approx(SIDE * VOXEL_SIZE / 10)
    assert result.cut_off_angstrom == pytest.approx(SIDE * VOXEL_SIZE / 8)
    power = power_by_shell(result.map)
    assert power[10:].sum() < 1e-9 * power.sum()
    kept = power_by_shell(result.denoised)[:7]
    np.testing.assert_allclose(power[:7], kept, rtol=1e-3)


def test_without_trailing_the_denoised_map_is_the_reference(tiny_denoiser: Denoiser) -> None:
    result = regularise_half(
        half(1), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=FALLING, particle_diameter=60,
        spectral_trailing=False,
    )
    np.testing.assert_array_equal(result.map, result.denoised)
    assert power_by_shell(result.map)[10:].sum() > 0


def test_beyond_the_network_the_hosts_map_fills_the_shells(tiny_denoiser: Denoiser) -> None:
    side, voxel_size = 60, 0.9  # 36 at 1.5 Å: the network ends at shell 18 of 30
    unfiltered = half(1, (side,) * 3)
    curve = np.full(31, 0.5)
    flat = np.ones((side,) * 3)
    regularised = half(2, (side,) * 3)
    result = regularise_half(
        unfiltered, voxel_size, denoiser=tiny_denoiser, fsc=curve, particle_diameter=None,
        regularised=regularised, mask=flat,
    )
    assert result.beyond_network
    low = fourier.apply_crossover(fourier.forward(result.map), 14)
    filled = fourier.forward(result.map) - low
    given = fourier.forward(regularised)
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(side, z) for z in range(side)]))
    np.testing.assert_allclose(filled[radius > 18], given[radius > 18], atol=2e-2)
    # Without the host's map the half-map times its FSC does.
    own = regularise_half(
        unfiltered, voxel_size, denoiser=tiny_denoiser, fsc=curve, particle_diameter=None,
        mask=flat,
    )
    expected = 0.5 * fourier.forward(unfiltered)
    inside = (radius > 18) & (radius <= 30)
    np.testing.assert_allclose(fourier.forward(own.map)[inside], expected[inside], atol=2e-2)


def test_halves_that_hardly_agree_keep_one_shell_and_say_so(tiny_denoiser: Denoiser) -> None:
    curve = np.concatenate([[1.0], np.zeros(20)])
    result = regularise_half(
        half(1), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=curve, particle_diameter=None
    )
    assert result.cut_off == 1
    assert any("hardly agree" in warning for warning in result.warnings)
    assert np.abs(result.map).max() > 0


def test_a_cut_off_in_angstrom_replaces_the_fsc(tiny_denoiser: Denoiser) -> None:
    result = regularise_half(
        half(1), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=np.ones(21), particle_diameter=None,
        cut_off=16.0,
    )
    assert result.cut_off == 6
    assert power_by_shell(result.map)[8:].sum() < 1e-9 * power_by_shell(result.map).sum()


def test_a_class_keeps_its_shells_beyond_the_network(tiny_denoiser: Denoiser) -> None:
    side, voxel_size = 60, 0.9
    volume = half(1, (side,) * 3)
    result = regularise_class(volume, voxel_size, denoiser=tiny_denoiser, particle_diameter=30)
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(side, z) for z in range(side)]))
    beyond = radius > result.cut_off + 1
    np.testing.assert_allclose(
        fourier.forward(result.map)[beyond], fourier.forward(volume)[beyond], atol=2e-2
    )
    assert result.cut_off == 36 // 2 + 1 - 2


def test_two_half_maps_give_two_references_and_their_mean(tiny_denoiser: Denoiser) -> None:
    halves = half(1), half(2)
    result = regularise(*halves, VOXEL_SIZE, denoiser=tiny_denoiser)
    np.testing.assert_allclose(
        result.average, 0.5 * (result.reference_1 + result.reference_2), atol=1e-7
    )
    assert result.fsc.unmasked is not None
    assert result.fsc.corrected is None
    for number, one in enumerate(result.halves):
        alone = regularise_half(
            halves[number], VOXEL_SIZE, denoiser=tiny_denoiser, fsc=result.fsc.unmasked,
            particle_diameter=None,
        )
        np.testing.assert_array_equal(alone.map, one.map)


def test_neither_half_sees_the_other(tiny_denoiser: Denoiser) -> None:
    results = [
        regularise(half(1), half(other), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=FALLING)
        for other in (2, 3)
    ]
    np.testing.assert_array_equal(results[0].reference_1, results[1].reference_1)
    assert not np.array_equal(results[0].reference_2, results[1].reference_2)


def test_an_fsc_mask_corrects_the_fsc_and_touches_nothing_else(tiny_denoiser: Denoiser) -> None:
    mask = masks.radial_mask(SIDE, 12, 6)
    with_mask = regularise(
        half(1), half(2), VOXEL_SIZE, denoiser=tiny_denoiser, fsc_mask=mask, cut_off=12.0
    )
    without = regularise(half(1), half(2), VOXEL_SIZE, denoiser=tiny_denoiser, cut_off=12.0)
    assert with_mask.fsc.corrected is not None
    assert with_mask.fsc.seed is not None
    np.testing.assert_array_equal(with_mask.reference_1, without.reference_1)


@pytest.mark.parametrize("shape", [(41, 41, 41), (36, 44, 39)])
def test_boxes_that_are_not_even_cubes_come_back_on_their_own_grid(
    shape: tuple[int, int, int], tiny_denoiser: Denoiser
) -> None:
    result = regularise(
        half(1, shape), half(2, shape), VOXEL_SIZE, denoiser=tiny_denoiser,
        fsc_mask=np.ones(shape), particle_diameter=80,
    )
    assert result.reference_1.shape == result.solvent_mask.shape == shape
    longest = max(shape)
    given = regularise(
        half(1, shape), half(2, shape), VOXEL_SIZE, denoiser=tiny_denoiser,
        fsc=np.linspace(1, 0, longest // 2 + 1),
    )
    # FSC = 1/7 lies at the same frequency in the box and in the cube around it, give a shell.
    falls_at = (6 / 7) * (longest // 2) / (longest * VOXEL_SIZE)
    assert 1 / given.rho_angstrom == pytest.approx(falls_at, abs=1 / (longest * VOXEL_SIZE))


def test_progress_runs_over_both_halves(tiny_denoiser: Denoiser) -> None:
    seen: list[tuple[int, int]] = []
    result = regularise(
        half(1), half(2), VOXEL_SIZE, denoiser=tiny_denoiser,
        progress=lambda done, total: seen.append((done, total)),
    )
    patches = result.halves[0].network.patches
    assert {total for _, total in seen} == {2 * patches}
    assert [done for done, _ in seen] == [*range(patches + 1), *range(patches, 2 * patches + 1)]


def test_a_users_mask_confines_the_reference(tiny_denoiser: Denoiser) -> None:
    mask = masks.radial_mask(SIDE, 9, 4)
    result = regularise_half(
        half(1), VOXEL_SIZE, denoiser=tiny_denoiser, fsc=np.ones(21), particle_diameter=60,
        mask=mask, spectral_trailing=False,
    )
    outside = masks.radial_mask(SIDE, 14, 2) == 0
    assert np.abs(result.map[outside]).max() < 0.05 * np.abs(result.map).max()


def test_arguments_that_do_not_fit_are_refused(tiny_denoiser: Denoiser) -> None:
    one, d = half(1), tiny_denoiser
    calls = [
        (lambda: regularise(one, one.copy(), 2.0, denoiser=d), "same map"),
        (lambda: regularise(one, half(2)[1:], 2.0, denoiser=d), "different boxes"),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, fsc=np.ones(20)), "21 values"),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, fsc=np.full(21, np.nan)), "NaN"),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, cut_off=0), "cut-off"),
        (
            lambda: regularise(
                one, half(2), 2.0, denoiser=d, cut_off=9, spectral_trailing=False
            ),
            "without spectral trailing",
        ),
        (
            lambda: regularise(one, half(2), 2.0, denoiser=d, fsc=FALLING, fsc_mask=one > 0),
            "would not be used",
        ),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, cut_off=500), "cut-off"),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, particle_diameter=-1), "diameter"),
        (lambda: regularise(one, half(2), 2.0, denoiser=d, fsc_mask=0 * one), "empty"),
        (lambda: regularise(one, half(2), 9.0, denoiser=d), "voxel size"),
        (
            lambda: regularise_half(
                one, 2.0, denoiser=d, fsc=FALLING, particle_diameter=None, regularised=one[1:]
            ),
            "regularised map has the shape",
        ),
    ]
    for call, message in calls:
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize(("diameter", "warns"), [(60.0, False), (90.0, True), (None, False)])
def test_a_particle_that_fills_its_box_is_warned_of(
    tiny_denoiser: Denoiser, diameter: float | None, warns: bool
) -> None:
    half = blob_and_noise((64, 64, 64), 1)  # 64 voxels of 2 Å: one half at 83 Å
    result = regularise_half(
        half, 2.0, fsc=np.linspace(1, 0, 33), denoiser=tiny_denoiser, particle_diameter=diameter,
        stride=43,
    )
    assert any("is tight for a particle" in warning for warning in result.warnings) == warns
