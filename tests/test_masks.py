from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import fsc, masks


def test_the_radial_mask_is_one_inside_and_zero_outside() -> None:
    mask = masks.radial_mask(40, 12, 6)
    assert mask[20, 20, 20] == 1
    assert mask[0, 0, 0] == 0
    assert mask.min() == 0
    assert mask.max() == 1
    np.testing.assert_array_equal(mask, mask[::-1, ::-1, ::-1])


def test_a_negative_radius_with_a_wide_edge_leaves_what_the_edge_reaches() -> None:
    mask = masks.radial_mask(20, -5, 30)
    assert 0 < mask.max() < 1


@pytest.mark.parametrize("shape", [(40, 40, 40), (40, 30, 36), (31, 40, 35)])
def test_the_default_mask_is_the_sphere_of_the_longest_side(shape: tuple[int, int, int]) -> None:
    mask = masks.default_mask(shape)
    assert mask.shape == shape
    cube = masks.radial_mask(40, 17, 6)
    z, y, x = (masks.centred(40, side) for side in shape)
    np.testing.assert_array_equal(mask, cube[z, y, x])


@pytest.mark.parametrize(("outer", "inner"), [(84, 48), (84, 49), (85, 48), (85, 49), (64, 64)])
def test_centred_puts_centre_voxel_on_centre_voxel(outer: int, inner: int) -> None:
    place = masks.centred(outer, inner)
    assert place.stop - place.start == inner
    assert place.start + inner // 2 == outer // 2
    assert place.start >= 0
    assert place.stop <= outer


def test_mean_and_standard_deviation_hold_under_a_large_offset() -> None:
    values = np.random.default_rng(0).standard_normal((20, 21, 22))
    volume = (values + 1e4).astype(np.float32)
    mean, deviation = masks.mean_and_std(volume)
    assert mean == pytest.approx(float(volume.astype(np.float64).mean()), rel=1e-12)
    assert deviation == pytest.approx(float(volume.astype(np.float64).std(ddof=1)), rel=1e-9)


def local_std_by_hand(volume: np.ndarray) -> np.ndarray:
    """The definition, in double precision and voxel by voxel along each axis."""
    u = np.linspace(-1.5, 1.5, 21)
    kernel = np.exp(-(u**2)) / np.exp(-(u**2)).sum()
    averages = []
    for power in (1, 2):
        values = volume.astype(np.float64) ** power
        for axis in range(3):
            values = np.apply_along_axis(np.convolve, axis, np.pad(
                values, [(10, 10) if a == axis else (0, 0) for a in range(3)]), kernel, "valid")
        averages.append(values)
    return np.sqrt(np.maximum(averages[1] - averages[0] ** 2, 0))


@pytest.mark.parametrize("offset", [0, 300])
def test_local_standard_deviation_follows_its_definition(offset: float) -> None:
    volume = np.random.default_rng(1).standard_normal((24, 15, 30)).astype(np.float32) + np.float32(
        offset
    )
    expected = local_std_by_hand(volume)
    np.testing.assert_allclose(masks.local_std(volume), expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("diameter", [80.0, 110.0, 150.0])
def test_a_box_is_tight_where_the_refinement_sphere_is_below_one_half(diameter: float) -> None:
    for side in range(64, 200, 4):
        sphere = masks.refinement_sphere(side, 1.5, diameter)
        # The published coordinates are stretched by side/(side − 1): one voxel of leeway.
        edge = side // 2 + round(diameter / 3)
        if edge >= side - 1:
            continue
        middle = sphere[side // 2, side // 2]
        warning = masks.tight_box_warning(1.5 * side, 1.5, diameter)
        if warning:
            assert middle[edge + 1] < 0.5
        else:
            assert middle[edge - 1] >= 0.5


def test_the_warning_of_a_tight_box_says_which_one_to_take() -> None:
    warning = masks.tight_box_warning(128.0, 1.5, 94.0)
    assert warning is not None
    assert "at least 139 Å, better 184 Å" in warning


def test_a_tight_box_costs_low_frequencies_and_a_roomy_one_nothing() -> None:
    """A particle of 94 Å put through the spheres, once as input and twice as output."""
    rng = np.random.default_rng(0)
    lowest = {}
    for side in (86, 102, 132):
        axis = np.arange(132) - 66
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        particle = rng.standard_normal((132,) * 3) * (radius < 44 / 1.5)
        place = (masks.centred(132, side),) * 3
        particle = particle[place].astype(np.float32)
        sphere = masks.refinement_sphere(side, 1.5, 94.0)
        through = fsc.fsc(particle, particle * sphere**3)
        lowest[side] = through[1 : side // 4].min()
    assert lowest[86] < 0.9  # 129 Å: warned of
    assert lowest[102] > 0.97  # 153 Å
    assert lowest[132] > 0.9999  # 198 Å, more than 90 Å wider
