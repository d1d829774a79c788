from __future__ import annotations

import itertools

import numpy as np
import pytest

from blush_onnx import InputError
from blush_onnx.averaging import average
from blush_onnx.rotations import MOST_ORIENTATIONS, orientations

ALL = orientations(MOST_ORIENTATIONS)


def numbered(shape: tuple[int, int, int] = (3, 4, 5)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def key(volume: np.ndarray) -> bytes:
    return np.ascontiguousarray(volume).tobytes()


def matrix(number: int) -> np.ndarray:
    """What an orientation does to coordinates, found by moving one voxel of each axis."""
    result = np.zeros((3, 3), dtype=int)
    for axis in range(3):
        mark = np.zeros((3, 3, 3), dtype=np.float32)
        place = [1, 1, 1]
        place[axis] = 2
        mark[tuple(place)] = 1
        where = np.argwhere(ALL[number].turn(mark))[0]
        result[:, axis] = where - 1
    return result


def test_they_are_48_different_ones_and_the_first_changes_nothing() -> None:
    cube = numbered((3, 3, 3))
    assert len({key(turn.turn(cube)) for turn in ALL}) == 48
    np.testing.assert_array_equal(ALL[0].turn(cube), cube)


def test_the_first_24_are_rotations_and_the_others_have_a_mirror() -> None:
    determinants = [round(np.linalg.det(matrix(i))) for i in range(48)]
    assert determinants == [1] * 24 + [-1] * 24
    assert [turn.is_proper for turn in ALL] == [True] * 24 + [False] * 24


@pytest.mark.parametrize("count", [1, 2, 4, 12, 24, 48])
def test_these_many_are_a_group(count: int) -> None:
    found = {key(matrix(i)) for i in range(count)}
    products = {
        key(matrix(i) @ matrix(j)) for i, j in itertools.product(range(count), repeat=2)
    }
    assert products == found


def test_turning_back_undoes_turning_in_a_box_with_three_sides() -> None:
    volume = numbered()
    for turn in ALL:
        turned = turn.turn(volume)
        assert turned.shape == tuple(volume.shape[axis] for axis in turn.axes)
        np.testing.assert_array_equal(turn.turn_back(turned), volume)


def test_turning_a_volume_is_turning_its_coordinates() -> None:
    for number, turn in enumerate(ALL):
        volume = numbered((4, 4, 4))
        turned = turn.turn(volume)
        for place in ((0, 1, 3), (2, 0, 1)):
            moved = matrix(number) @ (np.array(place) - 1.5) + 1.5
            assert turned[tuple(moved.astype(int))] == volume[place]


@pytest.mark.parametrize("count", [0, 49, -1, 2.0, True])
def test_other_numbers_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="1 .none. to 48"):
        orientations(count)


def test_the_average_is_the_mean_and_the_standard_deviation() -> None:
    rng = np.random.default_rng(0)
    # A large offset: a sum of squares in single precision would lose the deviation.
    results = [(rng.standard_normal((2, 2, 4, 4)) + 1000).astype(np.float32) for _ in range(7)]
    stack = np.array(results, dtype=np.float64)
    density, mask, spread = average((r[0].copy(), r[1]) for r in results)
    assert spread is not None
    # Rounding of numbers near 1000 in single precision: 6e-5 each.
    np.testing.assert_allclose(density, stack[:, 0].mean(axis=0), atol=3e-4)
    np.testing.assert_allclose(mask, stack[:, 1].mean(axis=0), atol=3e-4)
    np.testing.assert_allclose(spread, stack[:, 0].std(axis=0, ddof=1), atol=3e-4)


def test_one_result_is_its_own_average_and_has_no_spread() -> None:
    only = numbered(), numbered() + 1
    density, mask, spread = average([only])
    assert density is only[0]
    assert mask is only[1]
    assert spread is None


def test_equal_results_have_no_spread_at_all() -> None:
    _, _, spread = average([(numbered() / 7, numbered())] + [(numbered() / 7, numbered())] * 4)
    assert (spread == 0).all()
