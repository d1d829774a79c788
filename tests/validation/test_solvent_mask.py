from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import InputError, fsc
from blush_onnx.validation.solvent_mask import solvent_mask
from tests.conftest import blob_and_noise
from tests.python_without import run_python

Volume = npt.NDArray[np.float32]


def ball(
    shape: tuple[int, ...], radius: float, centre: tuple[float, ...] | None = None
) -> Volume:
    """1 inside, 0 outside, about the middle unless said otherwise; voxels."""
    centre = centre or tuple(side / 2 for side in shape)
    z, y, x = np.ogrid[tuple(slice(side) for side in shape)]
    squared = sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True))
    return np.asarray(squared <= radius**2, dtype=np.float32)


def soft_ball(side: int, voxel_size: float, radius: float) -> Volume:
    """Falls through one half at `radius` Å, over 10 Å, as a network's mask does."""
    squared = ((np.arange(side) - side // 2) * voxel_size) ** 2
    distance = np.sqrt(squared[:, None, None] + squared[:, None] + squared)
    return np.asarray(np.clip(0.5 + (radius - distance) / 10, 0, 1), dtype=np.float32)


def test_the_mask_is_one_up_to_the_extension_and_zero_beyond_the_soft_edge() -> None:
    found = solvent_mask(
        soft_ball(64, 2.0, 25), 2.0, extend_angstrom=5, soft_edge_angstrom=10
    ).mask
    distance = np.abs(np.arange(64) - 32) * 2.0
    along = found[32, 32]
    # The surface of the thresholded ball lies within half a voxel of 25 Å.
    assert (along[distance <= 29] == 1).all()
    assert (along[distance >= 41] == 0).all()
    assert along[distance == 36] == pytest.approx(0.5, abs=0.25)
    assert (np.diff(along[32:]) <= 0).all()


@pytest.mark.parametrize("voxel_size", [0.8, 1.5, 4.0])
def test_lengths_are_in_angstrom_whatever_the_voxel_size(voxel_size: float) -> None:
    side = 2 * round(60 / voxel_size)
    found = solvent_mask(
        soft_ball(side, voxel_size, 25), voxel_size, extend_angstrom=4, soft_edge_angstrom=8
    )
    # A ball of 29 Å with a cosine edge of 8 Å, integrated; half a voxel of 4 Å at its
    # surface would be a fifth of the volume.
    r = np.linspace(0, 37, 10_000)
    edge = 0.5 + 0.5 * np.cos(np.pi * np.clip((r - 29) / 8, 0, 1))
    expected = np.sum(4 * np.pi * r**2 * edge) * (r[1] - r[0])
    assert found.volume == pytest.approx(expected, rel=0.06)
    assert found.fraction_of_box == pytest.approx(found.volume / (side * voxel_size) ** 3)


def test_without_extension_and_edge_the_mask_is_what_is_above_the_threshold() -> None:
    values = soft_ball(32, 2.0, 20)
    found = solvent_mask(
        values, 2.0, threshold=0.3, extend_angstrom=0, soft_edge_angstrom=0
    )
    np.testing.assert_array_equal(found.mask, values > 0.3)
    assert found.mask.dtype == np.float32


def test_small_parts_are_dropped_and_large_ones_kept() -> None:
    shape = (40, 48, 56)
    parts = (
        ball(shape, 8, (14, 14, 14)) + ball(shape, 6, (24, 30, 40)) + ball(shape, 2, (34, 6, 50))
    )
    found = solvent_mask(parts, 2.0, extend_angstrom=0, soft_edge_angstrom=0, smallest_part=0.1)
    assert (found.parts_kept, found.parts_dropped) == (2, 1)
    assert found.mask[14, 14, 14] == found.mask[24, 30, 40] == 1
    assert found.mask[34, 6, 50] == 0
    everything = solvent_mask(parts, 2.0, smallest_part=0.0)
    assert (everything.parts_kept, everything.parts_dropped) == (3, 0)


def test_the_soft_edge_of_a_part_that_was_kept_covers_one_that_was_dropped() -> None:
    shape = (32, 32, 32)
    parts = ball(shape, 8) + ball(shape, 1, (16, 16, 27))
    found = solvent_mask(parts, 2.0, extend_angstrom=8, soft_edge_angstrom=4)
    assert found.parts_dropped == 1
    assert found.mask[16, 16, 27] == pytest.approx(solvent_mask(
        ball(shape, 8), 2.0, extend_angstrom=8, soft_edge_angstrom=4).mask[16, 16, 27])


def test_closed_holes_are_filled_and_open_ones_are_not() -> None:
    shell = ball((48, 48, 48), 16) - ball((48, 48, 48), 10)
    closed = solvent_mask(shell, 2.0, extend_angstrom=0, soft_edge_angstrom=2)
    assert closed.mask[24, 24, 24] == 1
    shell[24:, 22:27, 22:27] = 0
    assert solvent_mask(shell, 2.0, extend_angstrom=0, soft_edge_angstrom=2).mask[24, 24, 24] == 0


def test_a_hole_that_only_the_extension_closes_is_filled() -> None:
    shell = ball((48, 48, 48), 16) - ball((48, 48, 48), 10)
    shell[24:, 24, 24] = 0
    found = solvent_mask(shell, 2.0, extend_angstrom=3, soft_edge_angstrom=2)
    assert found.mask[24, 24, 24] == 1


def test_a_mask_at_the_border_does_not_come_in_again_on_the_other_side() -> None:
    found = solvent_mask(ball((40, 40, 40), 9, (0, 20, 20)), 2.0, soft_edge_angstrom=10)
    assert found.at_border
    assert found.mask[0, 20, 20] == 1
    assert found.mask[20:].max() == 0
    assert not solvent_mask(ball((40, 40, 40), 9), 2.0, soft_edge_angstrom=10).at_border


@pytest.mark.parametrize("shape", [(31, 31, 31), (24, 40, 33), (16, 12, 60)])
def test_boxes_of_any_shape_give_a_mask_of_that_shape(shape: tuple[int, int, int]) -> None:
    particle = ball(shape, 5)
    found = solvent_mask(particle, 2.0)
    assert found.mask.shape == shape
    assert (found.mask[particle > 0] == 1).all()
    # The soft edge ends 8 Å beyond the last voxel's side, 0.5 voxels further out.
    assert found.mask[ball(shape, 9.6) == 0].max() == 0


def test_the_networks_mask_is_left_as_it_was() -> None:
    values = ball((32, 32, 32), 8) + ball((32, 32, 32), 1, (4, 4, 4))
    before = values.copy()
    solvent_mask(values, 2.0)
    np.testing.assert_array_equal(values, before)


def test_a_mask_of_ones_is_refused_with_what_it_comes_from() -> None:
    with pytest.raises(InputError, match="without a mask output.*give a mask"):
        solvent_mask(np.ones((24, 24, 24), dtype=np.float32), 2.0)


def test_a_mask_that_the_extension_makes_the_whole_box_is_refused() -> None:
    with pytest.raises(InputError, match="covers the whole box"):
        solvent_mask(ball((24, 24, 24), 11), 4.0, extend_angstrom=60)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_mask_that_is_nowhere_above_the_threshold_is_refused(level: float) -> None:
    with pytest.raises(InputError, match="empty|nowhere above 0.5"):
        solvent_mask(np.full((24, 24, 24), level, dtype=np.float32), 2.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": -0.1}, "threshold"),
        ({"extend_angstrom": -1.0}, "extension"),
        ({"soft_edge_angstrom": float("nan")}, "soft edge"),
        ({"smallest_part": 1.5}, "smallest part"),
        ({"voxel_size": 20.0}, "voxel size"),
        ({"network_mask": np.full((8, 8, 8), np.nan)}, "not finite"),
        ({"network_mask": np.ones((8, 8))}, "three axes"),
    ],
)
def test_arguments_out_of_range_are_refused(changed: dict[str, object], words: str) -> None:
    arguments = {"network_mask": ball((24, 24, 24), 8), "voxel_size": 2.0, **changed}
    with pytest.raises(InputError, match=words):
        solvent_mask(**arguments)  # type: ignore[arg-type]


def test_the_mask_does_not_itself_correlate_noise() -> None:
    """Its edge is soft enough: with random phases the masked FSC is that of noise."""
    side = 48
    halves = [blob_and_noise((side,) * 3, seed, 0.3) for seed in (1, 2)]
    mask = solvent_mask(ball((side,) * 3, 14), 2.0).mask
    curves = fsc.solvent_corrected(halves[0], halves[1], mask, 2.0)
    assert curves.randomised is not None
    assert curves.randomised_from is not None
    tail = curves.randomised[curves.randomised_from + 2 :]
    # Shells of 1000 to 7000 independent elements, a tenth of them in the mask.
    assert abs(float(tail.mean())) < 0.05


def test_without_scipy_the_error_says_what_to_install() -> None:
    done = run_python(
        "import numpy as np\n"
        "from blush_onnx.validation.solvent_mask import solvent_mask\n"
        "values = np.zeros((16, 16, 16)); values[6:10, 6:10, 6:10] = 1\n"
        "solvent_mask(values, 2.0)\n",
        without=["scipy"],
    )
    assert 'BlushError: making a solvent mask needs SciPy: pip install "blush-onnx[report]"' in (
        done.stderr
    )
