from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blush_onnx import InputError, patches


@given(side=st.integers(65, 400), stride=st.integers(1, 43))
def test_origins_cover_an_axis_to_its_end(side: int, stride: int) -> None:
    origins = patches.axis_origins(side, 64, stride)
    assert origins[0] == 0
    assert origins[-1] == side - 64
    assert all(0 < b - a <= stride for a, b in zip(origins, origins[1:], strict=False))


@given(side=st.integers(65, 130), stride=st.integers(1, 43))
@settings(max_examples=30, deadline=None)
def test_no_stride_that_is_let_through_leaves_a_hole(side: int, stride: int) -> None:
    patches.check_stride(stride, 64)
    line = np.zeros(side)
    for origin in patches.axis_origins(side, 64, stride):
        line[origin : origin + 64] += patches.blending_window(64)[32, 32]
    assert (line[10:-10] > 0).all()
    # In the corner between eight patches the window's smallest value still counts.
    assert (line[10:-10] > 1e-3).all()


@pytest.mark.parametrize("stride", [0, -1, 44, 64, 2.5, 20.0, True])
def test_strides_that_leave_holes_are_refused(stride: float) -> None:
    with pytest.raises(InputError, match="from 1 to 43"):
        patches.check_stride(stride, 64)  # type: ignore[arg-type]


def test_the_window_is_highest_in_the_middle_and_never_zero() -> None:
    window = patches.blending_window(64)
    assert window.max() == window[32, 32, 32]
    assert window.min() == np.float32(1e-6)
    assert (window[:9] == np.float32(1e-6)).all()
    np.testing.assert_allclose(window, window.transpose(2, 0, 1))
    np.testing.assert_allclose(window, window[::-1])


def test_patches_outside_the_mask_are_skipped() -> None:
    mask = np.zeros((128, 64 + 20, 64 + 20), dtype=np.float32)
    mask[:64] = 1
    plan = patches.plan_patches(mask, 64, 20)
    assert plan.skipped > 0
    assert plan.threshold == 0.3
    assert max(z for z, _, _ in plan.origins) == 40  # of 0, 20, 40, 60, 64 the last with 24/64


def test_a_small_particle_lowers_the_threshold_until_it_is_covered() -> None:
    mask = np.zeros((96, 96, 96), dtype=np.float32)
    mask[40:56, 40:56, 40:56] = 1
    plan = patches.plan_patches(mask, 64, 20)
    assert 0 < plan.threshold < 0.3
    assert (plan.weight[mask >= 0.5] >= 0.1).all()
    assert plan.origins


def test_a_faint_mask_still_gets_its_best_patch() -> None:
    plan = patches.plan_patches(np.full((84, 84, 84), 0.2, dtype=np.float32), 64, 20)
    assert len(plan.origins) >= 1


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        patches.plan_patches(np.zeros((84, 84, 84), dtype=np.float32), 64, 20)


def test_blending_equal_patches_gives_them_back_inside_the_margin() -> None:
    plan = patches.plan_patches(np.ones((100, 84, 84), dtype=np.float32), 64, 20)
    blend = patches.Blend(plan)
    patch = np.full((64, 64, 64), 3.0, dtype=np.float32)
    for origin in plan.origins:
        blend.add(origin, patch, np.full_like(patch, np.log(3)))  # the sigmoid of it is 3/4
    density, mask = blend.finish()
    np.testing.assert_allclose(density[11:-11, 11:-11, 11:-11], 3, rtol=1e-5)
    np.testing.assert_allclose(mask[11:-11, 11:-11, 11:-11], 0.75, rtol=1e-5)
    assert (density[0] == 0).all()


@pytest.mark.parametrize("with_mask", [True, False])
def test_threads_that_share_a_patch_add_up_the_same_to_the_bit(with_mask: bool) -> None:
    plan = patches.plan_patches(np.ones((90, 84, 84), dtype=np.float32), 64, 20)
    rng = np.random.default_rng(1)
    given = [rng.standard_normal((2, 64, 64, 64), dtype=np.float32) for _ in plan.origins]

    def blended(workers: int) -> tuple[np.ndarray, np.ndarray]:
        with ThreadPoolExecutor(workers) as pool:
            blend = patches.Blend(plan, workers, pool)
            for origin, (density, logit) in zip(plan.origins, given, strict=True):
                blend.add(origin, density, logit if with_mask else None)
        return blend.finish()

    alone = blended(1)
    assert alone[0].any()
    for workers in (2, 3, 8):
        for found, expected in zip(blended(workers), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_network_without_a_mask_gives_ones_and_a_sure_one_its_limits() -> None:
    plan = patches.plan_patches(np.ones((84, 84, 84), dtype=np.float32), 64, 20)
    patch = np.ones((64, 64, 64), dtype=np.float32)
    for logit, expected in ((None, 1), (200 * patch, 1), (-200 * patch, 0)):
        blend = patches.Blend(plan)
        for origin in plan.origins:
            blend.add(origin, patch, logit)
        mask = blend.finish()[1]
        np.testing.assert_allclose(mask[11:-11, 11:-11, 11:-11], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("shape", [(64, 64, 64), (90, 71, 133)])
def test_patches_are_chosen_by_the_mean_of_their_mask(shape: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(1).random(shape, dtype=np.float32)
    mask *= np.linspace(0, 1.2, shape[2], dtype=np.float32).clip(0, 1)
    plan = patches.plan_patches(mask, 64, 20)
    origins = itertools.product(*(patches.axis_origins(side, 64, 20) for side in shape))
    means = {
        (z, y, x): mask[z : z + 64, y : y + 64, x : x + 64].mean(dtype=np.float64)
        for z, y, x in origins
    }
    least = plan.threshold - patches.TIE
    assert plan.origins == [origin for origin, mean in means.items() if mean >= least]
    assert plan.skipped == len(means) - len(plan.origins)


def test_the_stated_weight_is_the_sum_of_the_windows() -> None:
    mask = np.ones((90, 84, 84), dtype=np.float32)
    plan = patches.plan_patches(mask, 64, 20)
    total = np.zeros(mask.shape)
    for z, y, x in plan.origins:
        total[z : z + 64, y : y + 64, x : x + 64] += plan.window
    np.testing.assert_allclose(plan.weight, total, rtol=1e-5)
