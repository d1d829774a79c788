from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import (
    BAD_MAPS,
    Halves,
    Options,
    assert_fails,
    assert_unwritten,
    bad_map,
    patch_bytes,
    run_cli,
)
from tests.conftest import blob_and_noise, need, write_mrc


@pytest.mark.parametrize("name", BAD_MAPS)
def test_a_bad_map_fails_in_one_line_and_writes_nothing(
    name: str, tiny: Options, out: Path, tmp_path: Path
) -> None:
    path = bad_map(name, tmp_path)
    done = run_cli("denoise", path, "--out", out, *tiny)
    assert_fails(done, BAD_MAPS[name][1])
    assert str(path) in done.stderr
    assert_unwritten(out)


@pytest.mark.parametrize("name", ["missing", "truncated", "nan", "complex"])
def test_a_bad_second_half_fails(
    name: str, tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    path = bad_map(name, tmp_path)
    done = run_cli("denoise", half_maps[0], path, "--out", out, *tiny)
    assert_fails(done, str(path))
    assert_unwritten(out)


@pytest.mark.parametrize("option", ["--mask", "--denoise-mask"])
@pytest.mark.parametrize("name", ["missing", "truncated", "text", "nan", "image_stack"])
def test_a_bad_mask_fails(
    name: str, option: str, tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    path = bad_map(name, tmp_path)
    done = run_cli("denoise", *half_maps, option, path, "--out", out, *tiny)
    assert_fails(done, str(path))
    assert_unwritten(out)


@pytest.mark.parametrize("option", ["--mask", "--denoise-mask"])
def test_a_mask_of_another_shape_fails(
    option: str, tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    mask = write_mrc(tmp_path / "mask.mrc", np.ones((40, 40, 42), dtype=np.float32))
    done = run_cli("denoise", *half_maps, option, mask, "--out", out, *tiny)
    assert_fails(done, "has the shape (40, 40, 42), the map (40, 40, 40)")
    assert_unwritten(out)


@pytest.mark.parametrize("option", ["--mask", "--denoise-mask"])
def test_an_empty_mask_fails(
    option: str, tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    mask = write_mrc(tmp_path / "mask.mrc", np.zeros((40, 40, 40), dtype=np.float32))
    done = run_cli("denoise", *half_maps, option, mask, "--out", out, *tiny)
    assert_fails(done, "is empty: no voxel is above 0")
    assert_unwritten(out)


def test_halves_of_different_boxes_fail(
    tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    other = write_mrc(tmp_path / "other.mrc", blob_and_noise((40, 40, 42), 2))
    done = run_cli("denoise", half_maps[0], other, "--out", out, *tiny)
    assert_fails(done, "(40, 40, 42)")
    assert_unwritten(out)


def test_halves_of_different_voxel_sizes_fail(
    tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    other = write_mrc(tmp_path / "other.mrc", blob_and_noise((40, 40, 40), 2), 2.1)
    done = run_cli("denoise", half_maps[0], other, "--out", out, *tiny)
    assert_fails(done, "2.1 Å: the halves of one map have the same")
    assert_unwritten(out)


def test_the_same_file_twice_fails(tiny: Options, out: Path, half_maps: Halves) -> None:
    done = run_cli("denoise", half_maps[0], half_maps[0], "--out", out, *tiny)
    assert_fails(done, "are the same map")
    assert_unwritten(out)


def test_the_same_map_under_two_names_fails(
    tiny: Options, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    copy = shutil.copy(half_maps[0], tmp_path / "copy.mrc")
    done = run_cli("denoise", half_maps[0], copy, "--out", out, *tiny)
    assert_fails(done, "are the same map")
    assert_unwritten(out)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--voxel-size", "0", "voxel size 0 Å is out of range: expected 0.3 to 8 Å"),
        ("--voxel-size", "20", "voxel size 20 Å is out of range"),
        ("--voxel-size", "nan", "voxel size nan Å is out of range"),
        ("--stride", "0", "stride 0 is out of range: give a whole number from 1 to 43"),
        ("--stride", "44", "stride 44 is out of range"),
        ("--batch-size", "0", "batch size 0: give 1 to"),
        ("--batch-size", "9" * 30, "batch size"),
        ("--threads", "0", "0 threads: give 1 to"),
        ("--threads", "99999999999", "threads"),
        ("--precision", "bfloat16", "computes in float32 with cpu, not in bfloat16"),
        ("--device", "-1", "devices -1: give each card's number once"),
        ("--cut-off", "0", "cut-off 0 Å is out of range"),
        ("--cut-off", "-4", "cut-off -4 Å is out of range"),
        ("--cut-off", "nan", "cut-off nan Å is out of range"),
        ("--cut-off", "81", "up to the length of the box, 80.0 Å"),
        ("--cut-off", "1e-320", "cut-off"),
        ("--particle-diameter", "0", "particle diameter 0 Å: give a length above 0"),
        ("--particle-diameter", "inf", "particle diameter inf Å"),
    ],
)
def test_a_value_out_of_range_fails(
    option: str, value: str, message: str, tiny: Options, out: Path, half_maps: Halves
) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, *tiny, option, value)
    assert_fails(done, message)
    assert_unwritten(out)


def test_a_box_too_short_for_the_network_fails(
    tiny: Options, out: Path, tmp_path: Path
) -> None:
    path = write_mrc(tmp_path / "small.mrc", blob_and_noise((12, 12, 12), 1), 0.5)
    done = run_cli("denoise", path, "--out", out, *tiny)
    assert_fails(done, "the box is 6.0 Å long")
    assert_unwritten(out)


def test_a_map_without_permission_fails(tiny: Options, out: Path, half_maps: Halves) -> None:
    half_maps[1].chmod(0)
    need("permissions", not os.access(half_maps[1], os.R_OK), "this user may read everything")
    done = run_cli("denoise", *half_maps, "--out", out, *tiny)
    assert_fails(done, "Permission denied")
    assert_unwritten(out)


def test_debug_shows_the_traceback(tiny: Options, out: Path, tmp_path: Path) -> None:
    done = run_cli("denoise", tmp_path / "no.mrc", "--out", out, *tiny, "--debug")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.rstrip().endswith("no.mrc does not exist")
    assert_unwritten(out)


def test_a_header_that_lies_about_the_number_of_sections_fails(
    tiny: Options, out: Path, half_maps: Halves
) -> None:
    patch_bytes(half_maps[0], 8, "<i", 20)
    done = run_cli("denoise", half_maps[0], "--out", out, *tiny)
    assert_fails(done, "half1.mrc")
    assert_unwritten(out)


def test_an_unknown_command_is_wrong_usage() -> None:
    done = run_cli("denoize")
    assert done.returncode == 2
    assert "No such command 'denoize'" in done.stderr
    assert "Traceback" not in done.stderr


def test_maps_that_were_denoised_already_get_a_warning(
    tiny: Options, tmp_path: Path, half_maps: Halves
) -> None:
    assert run_cli("denoise", *half_maps, "--out", tmp_path / "a", *tiny).returncode == 0
    again = [tmp_path / "a" / f"denoised_{i}.mrc" for i in (1, 2)]
    for command in (
        ("denoise", *again, "--out", tmp_path / "b", *tiny),
        ("fsc", *again, "--out", tmp_path / "fsc.csv"),
    ):
        done = run_cli(*command)
        assert done.returncode == 0
        assert done.stderr.count("was denoised by blush-onnx already") == 2
