from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import Denoiser, InputError, fourier, regularise
from blush_onnx.validation.account import account_by_shell
from tests.conftest import blob_and_noise
from tests.validation.pairs import SIDE, high_pass, sound, white


def test_a_map_that_did_not_change_keeps_everything() -> None:
    found = account_by_shell(white(0), white(0))
    np.testing.assert_allclose(found.amplitude_ratio, 1, rtol=1e-6)
    np.testing.assert_allclose(found.phase_change_degrees, 0, atol=1e-3)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-6)
    assert found.share_beyond_rho is None
    assert found.keeps_to_rho is None


def test_a_factor_for_each_shell_is_the_amplitude_ratio_and_turns_no_phase() -> None:
    factors = np.linspace(1, 0.1, SIDE // 2 + 1)
    found = account_by_shell(white(0), fourier.filter_by_shell(white(0), factors))
    # Within a shell, half a shell to each side, the factor is not constant.
    inside = slice(2, SIDE // 2)  # the shell at Nyquist reaches beyond the last factor
    np.testing.assert_allclose(found.amplitude_ratio[inside], factors[inside], rtol=0.03)
    np.testing.assert_allclose(found.phase_change_degrees[1:], 0, atol=1e-2)


def test_phases_that_were_turned_are_found_turned() -> None:
    spectrum = fourier.forward(white(0))
    turned = spectrum * np.exp(1j * np.radians(30)).astype(np.complex64)
    turned[:, :, 0] = spectrum[:, :, 0]  # its own mates: a real map could not hold them
    turned[:, :, -1] = spectrum[:, :, -1]
    found = account_by_shell(white(0), fourier.inverse(turned))
    share = 1 - 0.5 / np.arange(8, 32)  # of a shell outside the plane kx = 0: 2πr of 4πr²
    np.testing.assert_allclose(found.phase_change_degrees[8:32], 30 * share, atol=0.7)


def test_unrelated_maps_differ_by_ninety_degrees() -> None:
    found = account_by_shell(white(0), white(1))
    # Of n values between 0 and 180° the mean strays by 52°/√n: 1° at 2000 and more voxels.
    np.testing.assert_allclose(found.phase_change_degrees[16:32], 90, atol=5)
    np.testing.assert_allclose(found.correlation[16:32], 0, atol=0.1)


def test_the_shares_are_those_of_the_energy() -> None:
    found = account_by_shell(white(0), white(1), rho=20)
    beyond = high_pass(white(1), 20).astype(np.float64)
    expected = np.square(beyond).sum() / np.square(white(1).astype(np.float64)).sum()
    assert found.share_beyond_rho == pytest.approx(expected, rel=1e-5)
    assert found.keeps_to_rho is False
    inside = np.square(white(1).astype(np.float64)).sum() - np.square(
        high_pass(white(1), 31).astype(np.float64)
    ).sum()
    total = np.square(white(1).astype(np.float64)).sum()
    assert found.energy_share[:31].sum() == pytest.approx(inside / total, rel=1e-3)


@pytest.mark.parametrize("shape", [(64, 64, 64), (40, 51, 47)])
def test_a_reference_holds_next_to_nothing_beyond_rho(
    shape: tuple[int, int, int], tiny_denoiser: Denoiser
) -> None:
    halves = [blob_and_noise(shape, seed) for seed in (1, 2)]
    with_trailing = regularise(*halves, 2.0, denoiser=tiny_denoiser)
    rho = with_trailing.rho
    found = account_by_shell(halves[0], with_trailing.reference_1, rho=rho)
    without = account_by_shell(halves[0], with_trailing.halves[0].denoised, rho=rho)
    assert without.share_beyond_rho is not None
    assert found.share_beyond_rho is not None
    if max(shape) == min(shape):  # a box that was cropped out of its cube cuts waves off
        assert found.share_beyond_rho < 1e-12
        assert found.keeps_to_rho
        assert without.share_beyond_rho > 1e-6
    else:
        assert found.share_beyond_rho < without.share_beyond_rho


def test_nothing_at_all_is_no_division_by_zero() -> None:
    found = account_by_shell(sound(0)[0], np.zeros((SIDE,) * 3, dtype=np.float32), rho=5)
    assert found.share_beyond_rho == 0
    assert (found.amplitude_ratio == 0).all()
    assert np.isnan(found.phase_change_degrees).all()


def test_maps_of_different_boxes_are_refused() -> None:
    with pytest.raises(InputError, match="different boxes"):
        account_by_shell(white(0), white(0)[1:])
