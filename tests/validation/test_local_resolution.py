"""Half-maps whose resolution is known: white signal, and noise whose power rises as k⁶.

At k = 1/d both have the same power, so that the FSC is 0.5 at d, and
1/(1 + (k·d)⁶) everywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import InputError, fourier
from blush_onnx.fsc import correlate
from blush_onnx.validation.band_fsc import FWHM_OF_SIGMA, band_fsc
from blush_onnx.validation.local_resolution import local_resolution
from tests.conftest import blob_and_noise

Volume = npt.NDArray[np.float32]
SIDE = 64
STEEPNESS = 6


def filtered(volume: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> Volume:
    spectrum = np.fft.rfftn(volume, axes=(0, 1, 2)) * weights
    return np.asarray(np.fft.irfftn(spectrum, volume.shape, axes=(0, 1, 2)), dtype=np.float32)


def frequency(side: int) -> npt.NDArray[np.float64]:
    """In 1/voxel, of a half-spectrum."""
    whole, half = np.fft.fftfreq(side) ** 2, np.fft.rfftfreq(side) ** 2
    return np.asarray(np.sqrt(whole[:, None, None] + whole[:, None] + half))


def known_halves(
    *regions: tuple[float, npt.NDArray[np.floating] | float], side: int = SIDE
) -> tuple[Volume, Volume]:
    """Halves of the given resolution, voxels, in each region (a weight that adds up to 1)."""
    signal = np.random.default_rng(0).standard_normal((side,) * 3)
    halves = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        half = signal.copy()
        for resolution, where in regions:
            noise = rng.standard_normal(signal.shape)
            colour = (frequency(side) * resolution) ** (STEEPNESS / 2)
            half += where * filtered(noise, colour)
        halves.append(half.astype(np.float32))
    return halves[0], halves[1]


def left_of_middle(side: int = SIDE) -> npt.NDArray[np.float64]:
    """Along x: 1 about a quarter, 0 about three quarters, soft between, periodic."""
    wave = np.cos(2 * np.pi * (np.arange(side) / side - 0.25))
    return np.asarray(np.clip((4 * wave + 1) / 2, 0, 1))


def distance_squared(point: tuple[int, ...], side: int = SIDE) -> npt.NDArray[np.float64]:
    """To a voxel, in a periodic box."""
    axes = [(np.arange(side) - p + side // 2) % side - side // 2 for p in point]
    z, y, x = (axis.astype(float) ** 2 for axis in axes)
    return np.asarray(z[:, None, None] + y[:, None] + x)


def gaussian(point: tuple[int, ...], window: float) -> npt.NDArray[np.float64]:
    return np.exp(-distance_squared(point) / (2 * (window / FWHM_OF_SIGMA) ** 2))


def windowed_fsc_crossing(
    halves: tuple[Volume, Volume], point: tuple[int, ...], window: float, threshold: float
) -> float:
    """Resolution as blocres finds it: the FSC of halves cut out by a window, voxels.

    The window's square is the Gaussian; shells are averaged over the width of the bands.
    """
    cut = np.sqrt(gaussian(point, window))
    curve = correlate(*(fourier.forward((half * cut).astype(np.float32)) for half in halves))
    width = max(round(SIDE / window), 1)
    smooth = np.convolve(curve[1:], np.ones(width) / width, "valid")
    shells = 1 + (width - 1) / 2 + np.arange(len(smooth))
    first = int(np.flatnonzero(smooth < threshold)[0])
    if first == 0:
        return float(SIDE / shells[0])
    share = (smooth[first - 1] - threshold) / (smooth[first - 1] - smooth[first])
    return float(SIDE / (shells[first - 1] + share))


@pytest.mark.parametrize("resolution", [3.0, 4.0, 6.0])
@pytest.mark.parametrize("threshold", [0.5, 0.143])
def test_a_map_alike_everywhere_has_its_known_resolution(
    resolution: float, threshold: float
) -> None:
    found = local_resolution(
        *known_halves((resolution, 1.0)), 1.0, window_angstrom=16, threshold=threshold
    )
    expected = resolution / (1 / threshold - 1) ** (1 / STEEPNESS)
    # A quarter of a band, 1/(4·window) of frequency, is a tenth at 6 voxels.
    allowed = max(0.05, expected / 2 / 2 / 16)
    assert found.quartiles[1] == pytest.approx(max(expected, 2.0), rel=allowed)


def test_each_region_has_its_own_resolution() -> None:
    # Far enough apart: at 3.5 voxels the noise on the right is 64 times that on the left, and
    # would shine through the window's tails.
    left = left_of_middle(96)
    halves = known_halves((3.5, left), (7.0, 1 - left), side=96)
    found = local_resolution(*halves, 1.0, window_angstrom=14).map
    middle_left, middle_right = found[..., 20:28], found[..., 68:76]
    assert np.median(middle_left) == pytest.approx(3.5, rel=0.05)
    # A quarter of a band, in frequency, for the resolution is half the window.
    assert 1 / np.median(middle_right) == pytest.approx(1 / 7, abs=0.25 / 14)
    assert np.percentile(middle_left, 99) < np.percentile(middle_right, 1)


def test_it_follows_the_fsc_of_halves_cut_out_by_a_window() -> None:
    left = left_of_middle()
    halves = known_halves((3.5, left), (7.0, 1 - left))
    window = 14.0
    found = local_resolution(*halves, 1.0, window_angstrom=window).map
    points = [(9, 30, x) for x in (4, 12, 20, 28, 36, 50)] + [(50, 5, 16), (31, 60, 48)]
    ours = np.array([1 / found[p] for p in points])
    theirs = np.array([1 / windowed_fsc_crossing(halves, p, window, 0.5) for p in points])
    # The bands are 1/window wide, and so are the shells averaged.
    np.testing.assert_allclose(ours, theirs, atol=0.5 / window)
    assert abs(float(np.mean(ours - theirs))) < 0.2 / window


@pytest.mark.parametrize("centre", [4.57, 13.7, 30.0])
def test_a_bands_fsc_is_that_of_band_passed_maps_under_a_gaussian(centre: float) -> None:
    halves = known_halves((4.0, 1.0))
    window, points = 14.0, 32
    width = SIDE / window
    spectra = tuple(fourier.forward(half) for half in halves)
    found = band_fsc(spectra, centre, width, points)
    offset = (frequency(SIDE) * SIDE - centre) / width
    inside = (np.abs(offset) < 1) & (frequency(SIDE) <= 0.5)
    first, second = (
        filtered(half, np.where(inside, np.cos(np.pi / 2 * offset), 0)) for half in halves
    )
    for place in [(0, 0, 0), (3, 17, 31), (20, 8, 11)]:
        under = gaussian(tuple(2 * p for p in place), window)
        cross, a, b = ((under * p).sum() for p in (first * second, first**2, second**2))
        # At Nyquist products of two plane waves alias, within a band's width of the edge.
        allowed = 0.02 if centre + width > SIDE / 2 else 2e-3
        assert found[place] == pytest.approx(cross / np.sqrt(a * b), abs=allowed)


@pytest.mark.parametrize("window", [10.0, 16.0])
def test_noise_has_no_resolution(window: float) -> None:
    first, second = (
        np.random.default_rng(seed).standard_normal((SIDE,) * 3).astype(np.float32)
        for seed in (1, 2)
    )
    found = local_resolution(first, second, 1.0, window_angstrom=window)
    assert found.coarsest == window
    # The lowest band holds about 20 independent elements: 0.5 is more than two standard
    # deviations of an FSC of 1/√20.
    assert np.mean(found.map > 0.99 * window) > 0.98


def test_halves_that_agree_up_to_nyquist_have_twice_the_voxel_size() -> None:
    signal = np.random.default_rng(0).standard_normal((SIDE,) * 3).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((SIDE,) * 3).astype(np.float32)
    found = local_resolution(signal, signal + 0.1 * noise, 1.5)
    assert found.finest == 3.0
    np.testing.assert_allclose(found.map, 3.0, rtol=1e-6)


def test_turning_the_halves_turns_the_map() -> None:
    left = left_of_middle()
    halves = known_halves((3.5, left), (7.0, 1 - left))
    found = local_resolution(*halves, 1.0, window_angstrom=12).map
    turned = local_resolution(
        *(np.ascontiguousarray(half.transpose(2, 0, 1)) for half in halves), 1.0,
        window_angstrom=12,
    ).map
    # Single precision through three transforms, and a slope of the FSC as small as 0.1 a band.
    np.testing.assert_allclose(turned.transpose(1, 2, 0), found, rtol=1e-3)


def test_a_larger_voxel_scales_every_length() -> None:
    halves = known_halves((4.0, 1.0))
    small = local_resolution(*halves, 1.0, window_angstrom=12)
    large = local_resolution(*halves, 2.5, window_angstrom=30)
    np.testing.assert_allclose(large.map, 2.5 * small.map, rtol=1e-5)
    assert large.quartiles == pytest.approx([2.5 * q for q in small.quartiles], rel=1e-5)


def test_the_grey_scale_of_the_maps_does_not_matter() -> None:
    first, second = known_halves((4.0, 1.0))
    found = local_resolution(first, second, 1.0, window_angstrom=12).map
    scaled = local_resolution(1e6 * first + 1e6, 1e-6 * second, 1.0, window_angstrom=12).map
    np.testing.assert_allclose(scaled, found, rtol=1e-3)


def test_a_colour_of_the_whole_spectrum_does_not_matter() -> None:
    halves = known_halves((4.0, 1.0))
    falling = np.exp(-40 * frequency(SIDE) ** 2)  # a B factor: power down by e⁻²⁰ at Nyquist
    found = local_resolution(*halves, 1.0, window_angstrom=12)
    coloured = local_resolution(
        *(filtered(half, falling) for half in halves), 1.0, window_angstrom=12
    )
    assert coloured.quartiles == pytest.approx(found.quartiles, rel=0.02)


@pytest.mark.parametrize("shape", [(63, 63, 63), (48, 64, 57), (64, 64, 40)])
def test_boxes_that_are_not_even_cubes_say_in_their_middle_what_the_cube_says(
    shape: tuple[int, int, int],
) -> None:
    halves = known_halves((4.0, 1.0))
    place = tuple(slice(32 - side // 2, 32 - side // 2 + side) for side in shape)
    cropped = local_resolution(*(half[place] for half in halves), 1.0, window_angstrom=10)
    assert cropped.map.shape == shape
    assert np.isfinite(cropped.map).all()
    whole = local_resolution(*halves, 1.0, window_angstrom=10).map[place]
    inner = tuple(slice(side // 2 - 4, side // 2 + 4) for side in shape)
    # The rest of the cube is constant, and changes the whitening a little.
    np.testing.assert_allclose(cropped.map[inner], whole[inner], rtol=0.05)


def test_where_the_halves_are_empty_there_is_no_resolution() -> None:
    first, second = known_halves((4.0, 1.0))
    first[:, :, 40:], second[:, :, 40:] = 0, 0
    found = local_resolution(first, second, 1.0, window_angstrom=10)
    assert np.isfinite(found.map).all()
    assert found.map.max() <= found.coarsest * (1 + 1e-6)
    assert found.map.min() >= found.finest * (1 - 1e-6)
    assert np.median(found.map[..., 8:32]) == pytest.approx(4.0, rel=0.1)


def test_the_mask_chooses_the_voxels_of_the_quartiles_and_changes_nothing_else() -> None:
    left = left_of_middle()
    halves = known_halves((3.5, left), (7.0, 1 - left))
    whole = local_resolution(*halves, 1.0, window_angstrom=14)
    mask = np.zeros((SIDE,) * 3)
    mask[..., 12:20] = 1
    mask[..., 44:52] = 0.4
    masked = local_resolution(*halves, 1.0, window_angstrom=14, mask=mask)
    np.testing.assert_array_equal(masked.map, whole.map)
    expected = np.percentile(whole.map[..., 12:20], (25, 50, 75))
    assert masked.quartiles == pytest.approx(expected)


def test_threads_do_not_change_the_result() -> None:
    halves = known_halves((4.0, 1.0))
    one, three = (local_resolution(*halves, 1.0, workers=n).map for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_the_window_follows_the_resolution_of_the_whole_halves() -> None:
    fine = local_resolution(*known_halves((2.2, 1.0), side=96), 1.0)
    # 2.2 / 5.99^(1/6) is beyond Nyquist: 2 voxels.
    assert fine.window_angstrom == pytest.approx(10)
    coarse = local_resolution(*known_halves((5.0, 1.0), side=96), 1.0)
    assert coarse.window_angstrom == pytest.approx(5 * 5 / (1 / 0.143 - 1) ** (1 / 6), rel=0.05)
    assert local_resolution(*known_halves((9.0, 1.0)), 1.0).window_angstrom == SIDE / 4


def test_progress_ends_with_all_bands_and_may_stop_the_work() -> None:
    calls: list[tuple[int, int]] = []
    halves = known_halves((4.0, 1.0))
    local_resolution(*halves, 1.0, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_resolution(*halves, 1.0, progress=stop)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.0}, "threshold"),
        ({"window_angstrom": 4.0}, "give one from 5.0 Å"),
        ({"window_angstrom": 21.0}, "to 20.0 Å"),
        ({"window_angstrom": float("nan")}, "does not fit"),
        ({"voxel_size": 0.0}, "voxel size"),
        ({"second": blob_and_noise((40, 40, 42), 2)}, "different boxes"),
        ({"second": blob_and_noise((40, 40, 40), 1)}, "same map"),
        ({"second": np.ones((40, 40, 40))}, "constant"),
        ({"first": np.full((40, 40, 40), np.nan)}, "NaN"),
        ({"mask": np.zeros((40, 40, 40))}, "empty"),
        ({"mask": np.ones((40, 40, 39))}, "shape"),
        ({"first": blob_and_noise((8,) * 3, 1), "second": blob_and_noise((8,) * 3, 2)},
         "at least 10"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, object], words: str) -> None:
    arguments = {
        "first": blob_and_noise((40, 40, 40), 1), "second": blob_and_noise((40, 40, 40), 2),
        "voxel_size": 1.0, **changed,
    }
    with pytest.raises(InputError, match=words):
        local_resolution(**arguments)  # type: ignore[arg-type]


def test_the_smallest_box_works() -> None:
    found = local_resolution(
        blob_and_noise((10,) * 3, 1), blob_and_noise((10,) * 3, 2), 2.0
    )
    assert found.map.shape == (10, 10, 10)
    assert found.window_angstrom == 10
