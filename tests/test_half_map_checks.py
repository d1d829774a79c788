from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import InputError
from blush_onnx.boxes import EvenCube
from blush_onnx.fsc import FscCurves, fsc, solvent_corrected
from blush_onnx.half_map_checks import check_halves, half_map_warnings, radial_power
from blush_onnx.masks import radial_mask
from blush_onnx.volume_io import MapFile, read_map
from tests.conftest import Volume, blob_and_noise, write_mrc

SIDE, VOXEL_SIZE = 64, 1.5
SHAPE = (SIDE,) * 3
Halves = tuple[Volume, Volume]


def halves(noise: float, shape: tuple[int, ...] = SHAPE) -> Halves:
    return blob_and_noise(shape, 1, noise), blob_and_noise(shape, 2, noise)


def warnings_of(pair: Halves) -> list[str]:
    box = EvenCube.around(pair[0].shape)
    curve = fsc(box.pad_volume(pair[0]), box.pad_volume(pair[1]))
    return half_map_warnings(*pair, FscCurves(box.side, VOXEL_SIZE, unmasked=curve))


def filtered(volume: Volume, gain: npt.NDArray[np.float64]) -> Volume:
    """A volume whose shells are multiplied by `gain`, the last one's beyond Nyquist."""
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    shell = np.minimum(np.rint(radius).astype(int), SIDE // 2)
    return np.fft.ifftn(np.fft.fftn(volume) * gain[shell]).real.astype(np.float32)


def ball(radius: float) -> Volume:
    index = np.arange(SIDE) - SIDE // 2
    distance = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    return np.clip(radius - distance, 0, 1).astype(np.float32)


@pytest.mark.parametrize("noise", [2, 0.5, 0.1, 0.01])
def test_honest_halves_raise_no_warning(noise: float) -> None:
    assert warnings_of(halves(noise)) == []


@pytest.mark.parametrize("shape", [(40, 56, 48), (41, 41, 41)])
def test_honest_halves_in_an_odd_box_raise_no_warning(shape: tuple[int, ...]) -> None:
    assert warnings_of(halves(0.1, shape)) == []


def test_an_offset_and_another_unit_raise_no_warning() -> None:
    first, second = halves(0.1)
    assert warnings_of((1e-4 * first - 3, 1e-4 * second - 3)) == []


def test_masked_halves_are_noticed() -> None:
    first, second = (half * ball(24) for half in halves(0.5))
    found = warnings_of((first, second))
    assert [text[:10] for text in found if "looks masked" in text] == ["half-map 1", "half-map 2"]


def test_one_masked_half_is_named() -> None:
    first, second = halves(0.5)
    found = [text for text in warnings_of((first, second * ball(24))) if "masked" in text]
    assert len(found) == 1
    assert found[0].startswith("half-map 2 looks masked: 78% of its voxels")


def test_low_pass_filtered_halves_are_noticed() -> None:
    gain = np.where(np.arange(SIDE // 2 + 1) < 20, 1.0, 0.0)
    first, second = (filtered(half, gain) for half in halves(0.1))
    found = [text for text in warnings_of((first, second)) if "low-pass filtered" in text]
    assert [text[:10] for text in found] == ["half-map 1", "half-map 2"]


def test_a_soft_low_pass_filter_is_noticed() -> None:
    gain = np.exp(-((np.arange(SIDE // 2 + 1) / 8) ** 2))
    first, second = (filtered(half, gain) for half in halves(0.1))
    assert any("low-pass filtered" in text for text in warnings_of((first, second)))


def test_sharpened_halves_are_noticed() -> None:
    first, second = halves(0.001)
    gain = np.exp(8 * (np.arange(SIDE // 2 + 1) / (SIDE // 2)) ** 2)
    gain /= np.sqrt(radial_power(first) / radial_power(first)[1])
    pair = filtered(first, gain), filtered(second, gain)
    found = [text for text in warnings_of(pair) if "looks sharpened" in text]
    assert [text[:10] for text in found] == ["half-map 1", "half-map 2"]
    assert "B = -" in found[0]


def test_an_fsc_that_never_falls_is_noticed() -> None:
    curves = FscCurves(SIDE, VOXEL_SIZE, unmasked=np.full(SIDE // 2 + 1, 0.9))
    found = half_map_warnings(*halves(0.5), curves)
    assert any("does not fall below 0.143 before Nyquist (3.00 Å)" in text for text in found)


def test_halves_that_share_their_noise_are_noticed() -> None:
    first, second = halves(0.5)
    found = warnings_of((first, first + 0.1 * second))
    assert any("does not fall below 0.143" in text for text in found)


def test_the_decisive_curve_decides() -> None:
    falling = np.linspace(1, -0.5, SIDE // 2 + 1)
    curves = FscCurves(
        SIDE, VOXEL_SIZE, unmasked=np.full(SIDE // 2 + 1, 0.9), corrected=falling
    )
    assert not any("Nyquist" in text for text in half_map_warnings(*halves(0.5), curves))


def masked_warnings(pair: Halves, mask: Volume) -> list[str]:
    return half_map_warnings(*pair, solvent_corrected(*pair, mask, VOXEL_SIZE))


def thresholded(pair: Halves, share: float) -> Volume:
    """1 in the voxels of the highest density, as by a threshold that was set too high."""
    mean = filtered(pair[0] + pair[1], np.exp(-((np.arange(SIDE // 2 + 1) / 12) ** 2)))
    return (mean > np.quantile(mean, 1 - share)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.05, 0.3, 1])
@pytest.mark.parametrize("radius", [22, 26])
def test_a_soft_wide_mask_raises_no_warning(noise: float, radius: float) -> None:
    assert masked_warnings(halves(noise), radial_mask(SIDE, radius, 8)) == []


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("share", [0.01, 0.03])
def test_a_mask_that_follows_the_density_is_noticed(noise: float, share: float) -> None:
    pair = halves(noise)
    found = masked_warnings(pair, thresholded(pair, share))
    assert any(text.startswith("the mask is too tight or its edge too sharp") for text in found)


def test_a_mask_beside_the_particle_is_noticed() -> None:
    mask = np.roll(radial_mask(SIDE, 10, 6), 26, axis=(0, 1, 2))
    found = masked_warnings(halves(0.2), mask)
    assert any("does not lie on it" in text for text in found)


@pytest.mark.parametrize(("factor", "warned"), [(0.8, True), (0.999, False), (1.3, False)])
def test_a_cut_off_beyond_the_half_maps_resolution_is_noticed(
    factor: float, warned: bool
) -> None:
    pair = halves(0.2)
    curves = FscCurves(SIDE, VOXEL_SIZE, unmasked=fsc(*pair))
    supported = curves.resolution()
    found = half_map_warnings(*pair, curves, cut_off=factor * supported)
    assert any("is better than the half-maps support" in text for text in found) is warned
    assert half_map_warnings(*pair, curves) == []


def test_the_power_of_white_noise_is_the_same_in_every_shell() -> None:
    noise = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(radial_power(noise)[8:] / noise.size, 1, rtol=0.1)


def half_and_place(folder: Path) -> tuple[MapFile, Path]:
    first = write_mrc(folder / "half1.mrc", blob_and_noise((16, 16, 16), 1))
    return read_map(first), folder / "half2.mrc"


def test_two_independent_halves_pass(tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    check_halves(first, read_map(write_mrc(path, blob_and_noise((16, 16, 16), 2))))


def test_the_same_path_twice_is_refused(tmp_path: Path) -> None:
    first, _ = half_and_place(tmp_path)
    with pytest.raises(InputError, match="are the same map"):
        check_halves(first, read_map(first.path))


def test_the_same_values_under_another_name_are_refused(tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    with pytest.raises(InputError, match="are the same map"):
        check_halves(first, read_map(write_mrc(path, first.data, 2.1)))


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_to_the_other_half_is_refused(link: object, tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    link(path, first.path)  # type: ignore[operator]
    with pytest.raises(InputError, match="are the same map"):
        check_halves(first, read_map(path))


def test_halves_of_different_boxes_are_refused(tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    with pytest.raises(InputError, match=r"\(16, 16, 16\).*\(16, 16, 18\)"):
        check_halves(first, read_map(write_mrc(path, blob_and_noise((16, 16, 18), 2))))


def test_halves_of_different_voxel_sizes_are_refused(tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    with pytest.raises(InputError, match=r"2 Å.*2\.1 Å.*--voxel-size"):
        check_halves(first, read_map(write_mrc(path, blob_and_noise((16, 16, 16), 2), 2.1)))


def test_voxel_sizes_that_differ_by_rounding_pass(tmp_path: Path) -> None:
    first, path = half_and_place(tmp_path)
    check_halves(first, read_map(write_mrc(path, blob_and_noise((16, 16, 16), 2), 2.001)))
