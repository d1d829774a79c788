from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blush_onnx import fourier

EVEN = st.integers(4, 12).map(lambda k: 2 * k)


def noise(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((side,) * 3).astype(np.float32)


@given(side=EVEN)
@settings(max_examples=10, deadline=None)
def test_inverse_undoes_forward(side: int) -> None:
    volume = noise(side)
    np.testing.assert_allclose(fourier.inverse(fourier.forward(volume)), volume, atol=1e-5)


@given(side=EVEN, smaller=EVEN)
@settings(max_examples=15, deadline=None)
def test_cropping_axis_by_axis_equals_cropping_the_whole_transform(side: int, smaller: int) -> None:
    if smaller > side:
        side, smaller = smaller, side
    volume = noise(side)
    whole = np.fft.rfftn(volume)
    index = np.fft.ifftshift(np.arange(-smaller // 2, smaller // 2))
    expected = whole[np.ix_(index, index, range(smaller // 2 + 1))] * (smaller / side) ** 3
    np.testing.assert_allclose(fourier.forward(volume, smaller), expected, atol=1e-3)


@given(side=EVEN, larger=EVEN)
@settings(max_examples=15, deadline=None)
def test_padding_a_spectrum_and_inverting_it_equals_rescaling(side: int, larger: int) -> None:
    if larger < side:
        side, larger = larger, side
    volume = noise(side)
    ours = fourier.inverse(fourier.forward(volume, larger))
    np.testing.assert_allclose(ours, fourier.rescale(volume, larger), atol=1e-5)


@given(side=EVEN, larger=EVEN)
@settings(max_examples=15, deadline=None)
def test_a_band_limited_volume_survives_there_and_back(side: int, larger: int) -> None:
    if larger < side:
        side, larger = larger, side
    spectrum = fourier.forward(noise(side))
    band_limited = fourier.inverse(fourier.apply_crossover(spectrum, side // 2 - 2))
    back = fourier.rescale(fourier.rescale(band_limited, larger), side)
    np.testing.assert_allclose(back, band_limited, atol=1e-4)


def test_rescaling_keeps_the_grey_scale() -> None:
    axis = np.cos(2 * np.pi * np.arange(24) / 24)
    wave = (3 + axis[:, None, None] + 0 * noise(24)).astype(np.float32)
    finer = 3 + np.cos(2 * np.pi * np.arange(36) / 36)
    np.testing.assert_allclose(fourier.rescale(wave, 36)[:, 5, 7], finer, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "voxel_size", "expected"),
    [
        (100, 1.5, 100),
        (64, 1.06, 46),  # 45.2 rounds to the odd 45; 46 gives 1.475 Å, 44 gives 1.542 Å
        (50, 1.3, 44),  # 43.3 rounds to 43; 44 gives 1.477 Å, 42 gives 1.548 Å
        (32, 3.1, 66),  # 66.1
        (600, 0.394, 158),  # 157.6
    ],
)
def test_the_even_side_nearest_to_the_models_voxel_size(
    side: int, voxel_size: float, expected: int
) -> None:
    assert fourier.rescaled_side(side, voxel_size, 1.5) == expected


@given(side=EVEN, voxel_size=st.floats(0.3, 8))
def test_no_even_side_is_nearer_than_the_chosen_one(side: int, voxel_size: float) -> None:
    length = side * voxel_size
    chosen = fourier.rescaled_side(side, voxel_size, 1.5)
    assert chosen % 2 == 0
    assert chosen >= 2
    nearest = round(length / 1.5)
    if nearest % 2 and chosen > 2:
        other = chosen + 2 if chosen < nearest else chosen - 2
        assert abs(length / chosen - 1.5) <= abs(length / max(other, 1) - 1.5) + 1e-12


@pytest.mark.parametrize("side", [24, 26, 40])
def test_a_spectrum_is_lost_only_where_that_is_allowed(side: int) -> None:
    """26 is the smallest box in whose memory the planes of the spectrum lie meanwhile."""
    spectrum = fourier.forward(np.random.default_rng(3).standard_normal((24, 24, 24)))
    before = spectrum.copy()
    volume = fourier.inverse(spectrum, side, workers=2)
    np.testing.assert_array_equal(spectrum, before)
    wide = np.zeros((side, side, side // 2 + 1), dtype=np.complex128)
    place = np.r_[0:12, -12:0]
    wide[np.ix_(place, place, np.arange(13))] = before
    expected = np.fft.irfft(np.fft.ifftn(wide, axes=(0, 1)), n=side, axis=2)
    np.testing.assert_allclose(volume, expected, atol=1e-6 * np.abs(expected).max())
    again = fourier.inverse(spectrum, side, overwrite=True)
    np.testing.assert_array_equal(again, volume)


def test_the_crossover_falls_from_one_to_zero_over_two_shells() -> None:
    np.testing.assert_allclose(
        fourier.crossover([0, 8.9, 9, 10, 11, 11.1, 30], 10, 48), [1, 1, 1, 0.5, 0, 0, 0], atol=1e-7
    )


def test_a_crossover_beyond_the_box_keeps_all_but_the_corners() -> None:
    assert fourier.crossover(25.0, 40, 48) == 0
    assert fourier.crossover(24.9, 40, 48) == 1


def test_crossing_over_takes_low_shells_from_one_and_high_shells_from_the_other() -> None:
    low, high = fourier.forward(noise(16, 1)), fourier.forward(noise(16, 2))
    mixed = fourier.apply_crossover(low, 4, high)
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(16, z) for z in range(16)]))
    np.testing.assert_array_equal(mixed[radius < 3], low[radius < 3])
    np.testing.assert_array_equal(mixed[radius > 5], high[radius > 5])


def test_radii_of_planes_are_those_of_the_whole_grid() -> None:
    z, y, x = np.meshgrid(*[np.fft.fftfreq(10, 0.1)] * 2, np.arange(6), indexing="ij")
    planes = np.stack([fourier.squared_radius_of_plane(10, k) for k in range(10)])
    np.testing.assert_allclose(planes, z**2 + y**2 + x**2, atol=1e-9)
