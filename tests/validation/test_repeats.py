from __future__ import annotations

import numpy as np
import pytest

from blush_onnx import Denoiser, InputError
from blush_onnx.engines.base import Array
from blush_onnx.validation.repeats import Repeats, repeat_denoising
from tests.validation.pairs import Smoothing, sound, white
from tests.validation.test_overfitting import stand_in


class Settling(Smoothing):
    """Comes to rest: takes three quarters of what is negative away, then of what is left …"""

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        del local_std
        positive = np.maximum(grid, 0)
        return (grid + 3 * positive) / 4, None


class Sharpening(Smoothing):
    """Does not: each application adds to the last."""

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        smooth, _ = super().run(grid, local_std)
        return grid + (grid - smooth), None


def repeats(engine: Smoothing, **more: float) -> Repeats:
    return repeat_denoising(sound(0)[0], 1.5, denoiser=stand_in(engine), **more)  # type: ignore[arg-type]


def test_a_network_that_comes_to_rest_passes() -> None:
    found = repeats(Settling())
    assert found.stable
    assert (np.diff(found.changes) < 0).all()
    assert found.verdict.startswith("passed: 5 applications")


def test_a_network_that_goes_on_is_flagged() -> None:
    found = repeats(Sharpening())
    assert not found.stable
    assert found.drift[-1] > 1
    assert found.norms[-1] > found.norms[0]
    assert found.verdict.startswith("flagged")


def test_the_first_result_is_where_drift_and_fsc_are_counted_from() -> None:
    found = repeats(Smoothing())
    assert found.drift[0] == 0
    assert found.norms[0] == 1
    np.testing.assert_allclose(found.fsc_with_first[0], 1, atol=1e-6)
    assert found.fsc_with_first.shape == (5, 33)


def test_a_cut_off_leaves_nothing_to_drift_beyond_it() -> None:
    found = repeats(Smoothing(), cut_off_angstrom=9.6)  # shell 10 of 96 Å
    assert found.drift[-1] < repeats(Smoothing()).drift[-1]
    # Where nothing is left, the correlation is that of rounding.
    assert np.abs(found.fsc_with_first[-1][14:-1]).max() < 0.9


def test_progress_covers_all_applications_and_a_mask_is_taken(tiny_denoiser: Denoiser) -> None:
    seen: list[tuple[int, int]] = []
    volume = sound(0)[0]
    found = repeat_denoising(
        volume, 2.0, denoiser=tiny_denoiser, mask=np.ones_like(volume), applications=2, stride=43,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(found.changes) == 2


def test_arguments_out_of_range_are_refused(tiny_denoiser: Denoiser) -> None:
    for more, message in (
        ({"applications": 1}, "applications"),
        ({"mask": np.full((64,) * 3, 0.5)}, "no inside"),
        ({"cut_off_angstrom": 1000.0}, "cut-off"),
    ):
        with pytest.raises(InputError, match=message):
            repeat_denoising(white(0), 2.0, denoiser=tiny_denoiser, **more)  # type: ignore[arg-type]
