from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blush_onnx import InputError
from blush_onnx.boxes import EvenCube, as_mask, as_volume, border_median, check_voxel_size

SIDES = st.tuples(*[st.integers(8, 20)] * 3)


@given(shape=SIDES)
@settings(deadline=None)
def test_cropping_undoes_padding(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    box = EvenCube.around(shape)
    cube = box.pad_volume(volume)
    assert cube.shape == (box.side,) * 3
    assert box.side % 2 == 0
    assert box.side - max(shape) in (0, 1)
    np.testing.assert_array_equal(box.crop(cube), volume)


@given(shape=SIDES)
@settings(deadline=None)
def test_padding_keeps_the_centre_voxel_in_the_centre(shape: tuple[int, int, int]) -> None:
    volume = np.zeros(shape, dtype=np.float32)
    volume[tuple(side // 2 for side in shape)] = 1
    box = EvenCube.around(shape)
    assert box.pad_volume(volume)[(box.side // 2,) * 3] == 1


def test_padding_fills_with_the_median_of_the_border_and_masks_with_zero() -> None:
    volume = np.full((9, 8, 8), 2.0, dtype=np.float32)
    volume[3:5, 3:5, 3:5] = 100
    box = EvenCube.around(volume.shape)
    assert border_median(volume) == 2
    assert box.pad_volume(volume)[0, 0, 0] == 2
    assert box.pad_mask(np.ones((9, 8, 8), dtype=np.float32))[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((10, 10)), "three axes"),
        (np.zeros((10, 10, 7)), "at least 8"),
        (np.zeros((10, 10, 10)), "constant"),
        (np.ones((10, 10, 10), dtype=complex), "real numbers"),
        (np.where(np.arange(1000).reshape(10, 10, 10) == 3, np.nan, 1.0), "1 values that are NaN"),
        (np.where(np.arange(1000).reshape(10, 10, 10) == 3, np.inf, 1.0), "NaN or infinite"),
    ],
)
def test_volumes_that_make_no_sense_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_volume(values, "the volume")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((10, 10, 9)), "shape"),
        (np.zeros((10, 10, 10)), "empty"),
        (np.full((10, 10, 10), -1.0), "empty"),
        (np.full((10, 10, 10), np.nan), "finite"),
    ],
)
def test_masks_that_make_no_sense_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_mask(values, (10, 10, 10))


def test_masks_are_clipped_and_may_be_boolean() -> None:
    assert as_mask(np.full((8, 8, 8), 7.0), (8, 8, 8)).max() == 1
    assert as_mask(np.ones((8, 8, 8), dtype=bool), (8, 8, 8)).dtype == np.float32


@pytest.mark.parametrize("voxel_size", [0, -1, 0.29, 8.1, float("nan"), float("inf")])
def test_absurd_voxel_sizes_are_refused(voxel_size: float) -> None:
    with pytest.raises(InputError, match=r"0\.3 to 8"):
        check_voxel_size(voxel_size)
