from __future__ import annotations

import numpy as np
import pytest

from blush_onnx.masks import radial_mask
from blush_onnx.validation.anisotropy import (
    HALF_ANGLE,
    anisotropy_warning,
    directional_fsc,
    hemisphere,
)
from tests.conftest import Volume, blob_and_noise

SIDE, VOXEL_SIZE = 48, 1.5
AXES = {"z": 0, "y": 1, "x": 2}


def directional_noise(
    seed: int, axis: str, gain: float, angle: float, side: int = SIDE
) -> Volume:
    """White noise, `gain` times as strong within a cone around an axis."""
    spectrum = np.fft.rfftn(np.random.default_rng(seed).standard_normal((side,) * 3))
    index = np.fft.fftfreq(side, 1 / side)
    places = np.meshgrid(index, index, np.arange(side // 2 + 1), indexing="ij")
    radius = np.sqrt(sum(place**2 for place in places))
    near = np.abs(places[AXES[axis]]) > np.cos(np.deg2rad(angle)) * radius
    spectrum[near] *= gain
    return np.fft.irfftn(spectrum, (side,) * 3, (0, 1, 2)).astype(np.float32)


def halves_with_bad_direction(
    axis: str, noise: float = 0.2, gain: float = 10, angle: float = 30
) -> list[Volume]:
    particle = blob_and_noise((SIDE,) * 3, 0, 0)
    return [
        particle + np.float32(noise) * directional_noise(seed, axis, gain, angle)
        for seed in (1, 2)
    ]


def test_directions_are_unit_vectors_that_leave_no_gap() -> None:
    axes = hemisphere(48)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1)
    anywhere = np.random.default_rng(0).standard_normal((2000, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1)[:, None]
    nearest = np.abs(anywhere @ axes.T).max(axis=1)
    assert np.rad2deg(np.arccos(nearest.min())) < HALF_ANGLE


def test_a_cone_holds_the_fsc_of_its_voxels() -> None:
    """Against a sum over the whole transform."""
    first, second = (blob_and_noise((24,) * 3, seed, 0.1) for seed in (1, 2))
    found = directional_fsc(first, second, VOXEL_SIZE, directions=5)
    a, b = np.fft.fftn(first), np.fft.fftn(second)
    index = np.fft.fftfreq(24, 1 / 24)
    z, y, x = np.meshgrid(index, index, index, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    radius[0, 0, 0] = np.inf
    for axis, curve in zip(found.directions, found.curves, strict=True):
        near = np.abs(axis[0] * x + axis[1] * y + axis[2] * z) >= np.cos(
            np.deg2rad(HALF_ANGLE)
        ) * radius
        for shell in range(7, 12):  # Nyquist stands once in one transform, twice in the other
            s = near & (np.rint(radius) == shell)
            expected = (a[s] * b[s].conj()).real.sum() / np.sqrt(
                (abs(a[s]) ** 2).sum() * (abs(b[s]) ** 2).sum()
            )
            assert curve[shell] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("side", [24, 33, 64])
@pytest.mark.parametrize("noise", [0.02, 0.3, 2])
def test_isotropic_noise_raises_no_warning(side: int, noise: float) -> None:
    for seed in range(5):
        halves = [blob_and_noise((side,) * 3, 2 * seed + half, noise) for half in (1, 2)]
        assert anisotropy_warning(directional_fsc(halves[0], halves[1], VOXEL_SIZE)) is None


@pytest.mark.parametrize("shape", [(40, 56, 48), (41, 41, 41), (16, 48, 48)])
def test_a_box_that_is_no_even_cube_raises_no_warning(shape: tuple[int, ...]) -> None:
    halves = [blob_and_noise(shape, seed, 0.3) for seed in (1, 2)]
    assert anisotropy_warning(directional_fsc(halves[0], halves[1], VOXEL_SIZE)) is None


@pytest.mark.parametrize("radius", [8, 14])
def test_a_mask_raises_no_warning_by_itself(radius: float) -> None:
    mask = radial_mask(SIDE, radius, 6)
    for seed in range(5):
        halves = [blob_and_noise((SIDE,) * 3, 2 * seed + half, 0.5) for half in (1, 2)]
        found = directional_fsc(halves[0], halves[1], VOXEL_SIZE, mask)
        assert anisotropy_warning(found) is None


def test_halves_that_share_nothing_raise_no_warning() -> None:
    halves = [np.random.default_rng(s).standard_normal((SIDE,) * 3).astype("f4") for s in (1, 2)]
    found = directional_fsc(halves[0], halves[1], VOXEL_SIZE)
    assert anisotropy_warning(found) is None
    assert np.isfinite(found.areas).all()


def test_a_map_and_its_negative_raise_no_warning() -> None:
    half = blob_and_noise((SIDE,) * 3, 1)
    found = directional_fsc(half, -half, VOXEL_SIZE)
    assert anisotropy_warning(found) is None
    np.testing.assert_array_equal(found.areas, 1)


def test_the_same_map_twice_is_isotropic() -> None:
    half = blob_and_noise((SIDE,) * 3, 1)
    found = directional_fsc(half, half, VOXEL_SIZE)
    np.testing.assert_allclose(found.areas, 1, atol=1e-4)
    assert (found.best, found.worst, found.area_ratio) == pytest.approx((3, 3, 1), abs=1e-4)
    assert not found.is_anisotropic


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_a_bad_direction_is_noticed_and_named(axis: str) -> None:
    first, second = halves_with_bad_direction(axis)
    found = directional_fsc(first, second, VOXEL_SIZE)
    warning = anisotropy_warning(found)
    assert warning is not None
    assert warning.startswith("the resolution depends on the direction")
    worst = found.directions[int(np.argmin(found.areas))]
    assert np.abs(worst["xyz".index(axis)]) > np.cos(np.deg2rad(40))  # its cone is in there


def test_a_bad_direction_has_a_worse_resolution() -> None:
    first, second = halves_with_bad_direction("z")
    found = directional_fsc(first, second, VOXEL_SIZE)
    along = found.resolutions[np.argmax(np.abs(found.directions[:, 2]))]
    across = np.median(found.resolutions[np.abs(found.directions[:, 2]) < 0.5])
    assert along > 1.3 * across


def test_a_bad_direction_is_noticed_under_a_mask() -> None:
    first, second = halves_with_bad_direction("y")
    mask = radial_mask(SIDE, 18, 6)
    assert directional_fsc(first, second, VOXEL_SIZE, mask).is_anisotropic


def test_the_error_is_that_of_areas_over_many_isotropic_maps() -> None:
    """Within a factor of two: the signal's part is an assumption on the particle's size."""
    areas = []
    errors = []
    for seed in range(8):
        halves = [blob_and_noise((40,) * 3, 2 * seed + half, 0.5) for half in (1, 2)]
        found = directional_fsc(halves[0], halves[1], VOXEL_SIZE)
        areas.append(found.areas)
        errors.append(found.area_error)
    assert 0.5 < np.std(areas) / np.mean(errors) < 2
