from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blush_onnx.errors import InputError
from tests.conftest import write_mrc
from tests.training.conftest import SMALL, compact_chain
from training.prepare import simulate
from training.prepare.dataset import TrainingPair
from training.prepare.half_maps import PairOfFiles, find_mask, read_pair


@pytest.fixture
def files(toy_pair: TrainingPair, tmp_path: Path) -> PairOfFiles:
    halves = [
        write_mrc(tmp_path / f"half{k}.mrc", half, 1.5)
        for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
    ]
    return PairOfFiles("mine", halves[0], halves[1], source="a microscope", licence="CC-BY-4.0")


def test_a_real_pair_has_no_truth_and_keeps_its_halves(
    files: PairOfFiles, toy_pair: TrainingPair
) -> None:
    pair = read_pair(files, worst_resolution=6)
    assert pair.truth is None
    assert (pair.source, pair.licence) == ("a microscope", "CC-BY-4.0")
    kept = pair.half_1[10:74, 10:74, 10:74]  # a box of one patch is padded
    np.testing.assert_allclose(kept, toy_pair.half_1, atol=1e-4 * toy_pair.half_1.std())
    assert pair.resolution == pytest.approx(toy_pair.resolution, rel=0.15)


@pytest.mark.parametrize(
    ("seed", "surrounded_by"), [(5, "nanodisc"), (10, None)], ids=["in a nanodisc", "alone"]
)
def test_the_mask_that_is_found_is_about_the_molecule(
    seed: int, surrounded_by: str | None
) -> None:
    pair = simulate.simulate(compact_chain(), seed, SMALL)
    assert pair.notes.get("surrounded_by") == surrounded_by
    found = find_mask(pair.half_1, pair.half_2, 1.5, "toy")
    mine, true = found > 0.5, pair.mask > 0.5
    assert (mine & true).sum() / (mine | true).sum() > 0.6


def test_a_mask_can_be_given(files: PairOfFiles, toy_pair: TrainingPair, tmp_path: Path) -> None:
    mask = write_mrc(tmp_path / "mask.mrc", toy_pair.mask, 1.5)
    given = PairOfFiles("mine", files.half_1, files.half_2, mask)
    mask_read = read_pair(given, 6).mask[10:74, 10:74, 10:74]
    np.testing.assert_allclose(mask_read, toy_pair.mask, atol=1e-4)


def test_too_poor_a_resolution_is_refused(files: PairOfFiles) -> None:
    with pytest.raises(InputError, match=r"better than\s+3 Å is wanted"):
        read_pair(files, worst_resolution=3)


def test_masked_halves_are_refused(toy_pair: TrainingPair, tmp_path: Path) -> None:
    halves = [
        write_mrc(tmp_path / f"half{k}.mrc", half * (toy_pair.mask > 0.5), 1.5)
        for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
    ]
    with pytest.raises(InputError, match="looks masked"):
        read_pair(PairOfFiles("mine", *halves), worst_resolution=20)


def test_nothing_but_noise_has_no_mask() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((48, 48, 48), dtype=np.float32) for _ in range(2))
    with pytest.raises(InputError, match="no molecule stands out"):
        find_mask(first, second, 1.5, "noise")


def test_small_boxes_get_the_zeros_that_inference_gives_them(
    toy_pair: TrainingPair, tmp_path: Path
) -> None:
    inner = (slice(4, 60),) * 3
    halves = [
        write_mrc(tmp_path / f"small{k}.mrc", half[inner].copy(), 1.5)
        for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
    ]
    pair = read_pair(PairOfFiles("mine", *halves), worst_resolution=10)
    assert pair.half_1.shape == (84, 84, 84)
    np.testing.assert_allclose(pair.half_1[14:70, 14:70, 14:70], toy_pair.half_1[inner], atol=1e-5)
    assert not pair.half_1[:14].any()
