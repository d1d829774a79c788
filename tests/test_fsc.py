from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import InputError, fourier
from blush_onnx.fsc import (
    FscCurves,
    check_curve,
    cut_off_shell,
    fsc,
    randomise_phases,
    resolution,
    solvent_corrected,
)
from blush_onnx.masks import radial_mask
from tests.conftest import blob_and_noise

SIDE = 32


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE,) * 3).astype(np.float32)


def test_a_map_agrees_with_itself_and_disagrees_with_its_negative() -> None:
    np.testing.assert_allclose(fsc(noise(0), noise(0)), 1, atol=1e-6)
    np.testing.assert_allclose(fsc(noise(0), -noise(0))[1:], -1, atol=1e-6)


def test_the_fsc_follows_its_definition_over_the_whole_transform() -> None:
    a, b = np.fft.fftn(noise(1)), np.fft.fftn(noise(2) + noise(1))
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    ours = fsc(noise(1), noise(2) + noise(1))
    for shell in range(1, SIDE // 2):  # at Nyquist the half-spectrum counts a plane twice
        s = np.rint(radius) == shell
        expected = (a[s] * b[s].conj()).real.sum() / np.sqrt(
            (abs(a[s]) ** 2).sum() * (abs(b[s]) ** 2).sum()
        )
        assert ours[shell] == pytest.approx(expected, abs=1e-5)


def test_like_relion_every_element_of_the_half_spectrum_counts_once() -> None:
    a, b = np.fft.rfftn(noise(1)), np.fft.rfftn(noise(2) + noise(1))
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    radius = np.sqrt(
        index[:, None, None] ** 2 + index[:, None] ** 2 + np.arange(SIDE // 2 + 1) ** 2
    )
    ours = fsc(noise(1), noise(2) + noise(1), like_relion=True)
    for shell in range(1, SIDE // 2 + 1):
        s = np.rint(radius) == shell
        expected = (a[s] * b[s].conj()).real.sum() / np.sqrt(
            (abs(a[s]) ** 2).sum() * (abs(b[s]) ** 2).sum()
        )
        assert ours[shell] == pytest.approx(expected, abs=1e-5)


def test_the_zeroth_shell_is_one_whatever_the_means() -> None:
    assert fsc(noise(0) + 5, noise(1) - 5)[0] == 1


def test_independent_noise_does_not_correlate() -> None:
    assert np.abs(fsc(noise(0), noise(1))[8:]).max() < 0.15


def test_randomised_phases_keep_amplitudes_and_low_shells_of_a_real_map() -> None:
    before = fourier.forward(noise(3))
    after = before.copy()
    randomise_phases(after, 6, np.random.default_rng(0))
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(SIDE, z) for z in range(SIDE)]))
    np.testing.assert_array_equal(after[np.rint(radius) < 6], before[np.rint(radius) < 6])
    np.testing.assert_allclose(abs(after), abs(before), rtol=1e-4, atol=1e-4)
    # The inverse is the map whose spectrum this is: nothing was lost to a broken symmetry.
    np.testing.assert_allclose(fourier.forward(fourier.inverse(after)), after, atol=2e-3)
    beyond = fsc(noise(3), fourier.inverse(after))[8:]
    assert np.abs(beyond).max() < 0.2


def test_a_part_of_the_first_shell_can_keep_its_phases() -> None:
    before = fourier.forward(noise(3))
    after = before.copy()
    randomise_phases(after, 6, np.random.default_rng(0), whole_shells=False)
    radius = np.sqrt(np.stack([fourier.squared_radius_of_plane(SIDE, z) for z in range(SIDE)]))
    np.testing.assert_array_equal(after[radius < 6], before[radius < 6])
    changed = np.abs(after - before) > 1e-3 * np.abs(before)
    # Of random phases one in a thousand is as good as unchanged.
    assert changed[radius >= 6].mean() > 0.99


def test_a_tight_mask_on_noise_correlates_and_the_correction_takes_it_out() -> None:
    rng = np.random.default_rng(0)
    mask = (rng.random((SIDE,) * 3) < 0.02).astype(np.float32)  # sharp: leaks into every shell
    shared = 0.05 * blob_and_noise((SIDE,) * 3, 5, 0)
    halves = [shared + noise(i) + 3 for i in (1, 2)]
    curves = solvent_corrected(halves[0], halves[1], mask, 2.0)
    assert curves.masked is not None
    assert curves.corrected is not None
    assert curves.masked[8:].mean() > 0.5
    assert abs(curves.corrected[8:].mean()) < 0.2


def test_the_correction_leaves_shells_before_the_randomised_ones_alone() -> None:
    halves = [blob_and_noise((SIDE,) * 3, i, 0.3) for i in (1, 2)]
    curves = solvent_corrected(halves[0], halves[1], radial_mask(SIDE, 10, 4), 2.0)
    assert curves.randomised_from is not None
    start = curves.randomised_from
    assert curves.masked is not None
    assert curves.corrected is not None
    np.testing.assert_array_equal(curves.corrected[: start + 2], curves.masked[: start + 2])
    again = solvent_corrected(halves[0], halves[1], radial_mask(SIDE, 10, 4), 2.0)
    np.testing.assert_array_equal(again.corrected, curves.corrected)


def test_a_curve_that_stays_above_0_8_is_not_corrected() -> None:
    a = blob_and_noise((SIDE,) * 3, 0, 0.01)
    curves = solvent_corrected(a, a + 0.001 * noise(1), radial_mask(SIDE, 10, 4), 2.0)
    assert curves.randomised_from is None
    np.testing.assert_array_equal(curves.corrected, curves.masked)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([1, 0.9, 0.5, 0.2, 0.1, 0.3, 0.0], 3),  # the first fall counts
        ([1, 0.1, 0.5, 0.2, 0.1, 0.3, 0.0], 0),
        ([0.0, 0.9, 0.9, 0.1, 0.1, 0.3, 0.0], 2),  # shell 0 does not
        ([1] * 7, 6),
    ],
)
def test_resolution_is_the_last_shell_before_the_first_fall(
    curve: list[float], expected: int
) -> None:
    found = resolution(np.array(curve), 12, 2.0, 0.143)
    assert found == (24 / expected if expected else float("inf"))


@pytest.mark.parametrize(
    ("curve", "rho", "cut_off"),
    [
        ([1, 0.9, 0.5, 0.2, 0.1, 0.3, 0.0], 4, 2),
        ([1, 0.9, 0.1, 0.2, 0.1, 0.3, 0.0], 2, 1),  # would be 0: one shell is always kept
        ([1, 0.1, 0.1, 0.2, 0.1, 0.3, 0.0], 1, 1),
        ([1] * 7, 7, 5),
    ],
)
def test_the_cut_off_is_two_shells_below_the_first_under_a_seventh(
    curve: list[float], rho: int, cut_off: int
) -> None:
    assert cut_off_shell(curve) == (rho, cut_off)


def test_the_callers_curve_decides_over_the_corrected_over_the_unmasked() -> None:
    a, b, c = np.zeros(3), np.ones(3), np.full(3, 0.5)
    assert FscCurves(4, 1.0, unmasked=a).decisive is a
    assert FscCurves(4, 1.0, unmasked=a, corrected=b).decisive is b
    assert FscCurves(4, 1.0, unmasked=a, corrected=b, given=c).decisive is c


@pytest.mark.parametrize("curve", [[1.0] * 5, [1, 1, 1, float("nan")], [[1.0] * 4]])
def test_curves_of_another_length_or_with_nan_are_refused(curve: list[float]) -> None:
    with pytest.raises(InputError, match="FSC"):
        check_curve(curve, 4)
