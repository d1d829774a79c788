"""Averaging over orientations as a caller sees it: denoiser, references, command."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import mrcfile
import numpy as np
import pytest

from blush_onnx import Denoiser, InputError, regularise, regularise_class, regularise_half
from blush_onnx.rotations import orientations
from tests.cli.helpers import listing, run_cli
from tests.conftest import blob_and_noise, write_mrc

SCHEMA = Path(__file__).parent.parent / "docs" / "report.schema.json"
ROUNDING = 1e-5
"""Of single precision through a network of this size, relative to the map."""


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


@pytest.mark.parametrize("shape", [(66, 66, 66), (67, 72, 75), (40, 52, 70)])
def test_it_is_the_mean_of_what_each_orientation_gives(
    shape: tuple[int, int, int], tiny_denoiser: Denoiser
) -> None:
    volume = blob_and_noise(shape, 0)
    mask = np.clip(blob_and_noise(shape, 1, 0), 0, 1) * 0.5 + np.float32(0.5)
    single = np.array([
        turn.turn_back(
            tiny_denoiser.denoise_at_model_voxel_size(
                turn.turn(volume), turn.turn(mask)
            ).density
        )
        for turn in orientations(3)
    ])
    found = tiny_denoiser.denoise_at_model_voxel_size(volume, mask, rotations=3)
    assert found.spread is not None
    assert found.spread.shape == shape
    assert found.spread.dtype == np.float32
    assert apart(found.density, single.mean(axis=0)) < ROUNDING
    # A small difference of large numbers.
    assert apart(found.spread, single.std(axis=0, ddof=1)) < 1e-3
    assert found.spread.max() > 0


def test_without_rotations_nothing_changes_and_there_is_no_spread(
    tiny_denoiser: Denoiser,
) -> None:
    volume = blob_and_noise((40, 44, 48), 0)
    plain = tiny_denoiser.denoise(volume, 2.0)
    one = tiny_denoiser.denoise(volume, 2.0, rotations=1)
    np.testing.assert_array_equal(one.density, plain.density)
    assert one.spread is None


@pytest.mark.parametrize("count", [2, 12])
def test_the_average_over_a_group_follows_the_volume(count: int, tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((66, 66, 66), 0)
    turn = orientations(count)[-1]
    here = tiny_denoiser.denoise_at_model_voxel_size(volume, stride=43, rotations=count)
    there = tiny_denoiser.denoise_at_model_voxel_size(
        turn.turn(volume), stride=43, rotations=count
    )
    alone = tiny_denoiser.denoise_at_model_voxel_size(volume, stride=43).density
    turned_alone = tiny_denoiser.denoise_at_model_voxel_size(turn.turn(volume), stride=43).density
    assert apart(turn.turn_back(there.density), here.density) < ROUNDING
    assert apart(turn.turn_back(turned_alone), alone) > 10 * ROUNDING


def test_progress_and_the_count_of_patches_cover_all_orientations(
    tiny_denoiser: Denoiser,
) -> None:
    seen: list[tuple[int, int]] = []
    volume = blob_and_noise((90, 66, 66), 0)
    one = tiny_denoiser.denoise_at_model_voxel_size(volume)
    many = tiny_denoiser.denoise_at_model_voxel_size(
        volume, progress=lambda done, total: seen.append((done, total)), rotations=4
    )
    assert many.patches == 4 * one.patches
    assert seen[0] == (0, many.patches)
    assert seen[-1] == (many.patches, many.patches)
    assert {total for _, total in seen} == {many.patches}
    done = [number for number, _ in seen]
    assert done == sorted(done)
    assert set(done) == set(range(many.patches + 1))


def test_outside_the_mask_all_orientations_agree(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    mask = np.zeros_like(volume)
    mask[15:55, 15:55, 15:55] = 1
    spread = tiny_denoiser.denoise(volume, 1.5, mask=mask, rotations=2).spread
    assert spread is not None
    assert (spread[mask == 0] == 0).all()
    assert spread[mask == 1].mean() > 0


def test_the_spread_has_the_maps_grid_and_grey_scale(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((40, 37, 45), 0)
    spread = tiny_denoiser.denoise(volume, 2.0, rotations=2).spread
    scaled = tiny_denoiser.denoise(50 * volume, 2.0, rotations=2).spread
    assert spread is not None
    assert scaled is not None
    assert spread.shape == volume.shape
    assert spread.min() >= 0
    assert apart(scaled, 50 * spread) < 1e-3  # a small difference of large ones


def test_references_carry_the_spread_of_their_halves(tiny_denoiser: Denoiser) -> None:
    halves = [blob_and_noise((40, 40, 40), seed) for seed in (1, 2)]
    found = regularise(*halves, 2.4, denoiser=tiny_denoiser, rotations=2)
    spreads = [half.spread for half in found.halves]
    assert found.spread is not None
    np.testing.assert_allclose(
        found.spread, np.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2), rtol=1e-6
    )
    single = regularise_half(
        halves[0], 2.4, denoiser=tiny_denoiser, fsc=found.fsc.decisive, particle_diameter=None,
        rotations=2,
    )
    np.testing.assert_array_equal(single.map, found.reference_1)
    assert regularise(*halves, 2.4, denoiser=tiny_denoiser).spread is None


def test_a_class_carries_its_spread(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((40, 40, 40), 1)
    found = regularise_class(
        volume, 2.4, denoiser=tiny_denoiser, particle_diameter=60, rotations=2
    )
    assert found.spread is not None
    assert found.spread.shape == volume.shape


def test_numbers_out_of_range_are_refused(tiny_denoiser: Denoiser) -> None:
    for count in (0, 49):
        with pytest.raises(InputError, match="rotations"):
            tiny_denoiser.denoise(blob_and_noise((40, 40, 40), 1), 2.0, rotations=count)


def test_the_command_writes_the_spread_and_says_the_cost(
    half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("--model", tiny_model, "--provider", "cpu", "--quality", "fast")
    done = run_cli("denoise", *half_maps, "--rotations", "2", "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    assert "spread.mrc" in listing(out)
    assert "2 orientations averaged, 2 times the time of one" in done.stdout
    with mrcfile.open(out / "spread.mrc") as mrc:
        assert mrc.data.shape == (40, 40, 40)
        assert mrc.data.min() >= 0
        assert mrc.data.max() > 0
        assert "standard deviation over orientations" in mrc.get_labels()[-1]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert report["settings"]["rotations"] == 2
    assert "spread.mrc" in report["files"]


def test_the_command_refuses_other_numbers(half_maps: tuple[Path, Path], tmp_path: Path) -> None:
    done = run_cli("denoise", *half_maps, "--rotations", "49", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--rotations" in done.stderr


def test_one_map_gets_a_spread_too(tiny_model: Path, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "class.mrc", blob_and_noise((40, 40, 40), 1))
    done = run_cli(
        "denoise", path, "--rotations", "2", "--out", tmp_path / "out", "--model", tiny_model,
        "--provider", "cpu", "--quality", "fast",
    )
    assert done.returncode == 0, done.stderr
    assert "spread.mrc" in listing(tmp_path / "out")
