from __future__ import annotations

import os
from pathlib import Path

import mrcfile
import pytest

from tests.cli.helpers import Halves, Options, assert_fails, assert_unwritten, listing, run_cli
from tests.conftest import need

MAP_BYTES = 1024 + 4 * 40**3


def test_an_output_folder_below_a_file_fails(
    tiny: Options, half_maps: Halves
) -> None:
    content = half_maps[0].read_bytes()
    done = run_cli("denoise", *half_maps, "--out", half_maps[0] / "out", *tiny)
    assert_fails(done, "cannot write to the folder")
    assert half_maps[0].read_bytes() == content


def test_an_output_folder_that_is_a_file_fails(tiny: Options, half_maps: Halves) -> None:
    content = half_maps[0].read_bytes()
    done = run_cli("denoise", *half_maps, "--out", half_maps[0], *tiny)
    assert_fails(done, "cannot write to the folder")
    assert half_maps[0].read_bytes() == content


def test_an_output_folder_with_too_long_a_name_fails(
    tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    done = run_cli("denoise", *half_maps, "--out", tmp_path / ("x" * 300), *tiny)
    assert_fails(done, "x" * 300)


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_an_output_folder_below_one_without_permission_fails(
    mode: int, tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=mode)
    need("permissions", not os.access(closed, os.W_OK), "this user may write everywhere")
    done = run_cli("denoise", *half_maps, "--out", closed / "out", *tiny)
    assert_fails(done, "Permission denied")
    assert str(closed) in done.stderr


def test_existing_results_are_not_replaced(
    tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    (tmp_path / "denoised_2.mrc").write_text("precious")
    before = listing(tmp_path)
    done = run_cli("denoise", *half_maps, "--out", tmp_path, *tiny)
    assert_fails(done, "denoised_2.mrc exists already")
    assert "--overwrite" in done.stderr
    assert (tmp_path / "denoised_2.mrc").read_text() == "precious"
    assert listing(tmp_path) == before


def test_existing_results_are_replaced_on_demand(
    tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    (tmp_path / "denoised_2.mrc").write_text("old")
    (tmp_path / "other.txt").write_text("of somebody else")
    done = run_cli("denoise", *half_maps, "--out", tmp_path, *tiny, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert mrcfile.validate(tmp_path / "denoised_2.mrc")
    assert (tmp_path / "other.txt").read_text() == "of somebody else"
    assert not [name for name in listing(tmp_path) if name.startswith(".")]


def test_results_are_replaced_all_or_none(
    tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "mask.mrc").mkdir(parents=True)
    for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc", "report.json"):
        (out / name).write_text("old")
    done = run_cli("denoise", *half_maps, "--out", out, *tiny, "--overwrite")
    assert_fails(done, "mask.mrc")
    assert {path.read_text() for path in out.iterdir() if path.is_file()} == {"old"}


def test_a_full_disk_leaves_nothing(tiny: Options, out: Path, half_maps: Halves) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, *tiny, largest_file=MAP_BYTES // 2)
    assert_fails(done, "cannot write")
    assert "File too large" in done.stderr
    assert_unwritten(out)


def test_a_disk_that_is_full_at_the_last_byte_leaves_nothing(
    tiny: Options, out: Path, half_maps: Halves
) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, *tiny, largest_file=MAP_BYTES - 1)
    assert_fails(done, "cannot write")
    assert_unwritten(out)


def test_a_full_disk_leaves_the_old_results(
    tiny: Options, half_maps: Halves, tmp_path: Path
) -> None:
    names = ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc", "mask.mrc", "report.json")
    out = tmp_path / "out"
    out.mkdir()
    for name in names:
        (out / name).write_text("old")
    done = run_cli(
        "denoise", *half_maps, "--out", out, *tiny, "--overwrite", largest_file=MAP_BYTES // 2
    )
    assert_fails(done, "cannot write")
    assert listing(out) == sorted(names)
    assert {(out / name).read_text() for name in names} == {"old"}


def test_a_missing_map_leaves_an_existing_folder_as_it_was(
    tiny: Options, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = listing(tmp_path)
    done = run_cli("denoise", tmp_path / "no.mrc", "--out", tmp_path, *tiny)
    assert_fails(done, "no.mrc does not exist")
    assert listing(tmp_path) == before


def test_an_output_that_would_replace_an_input_fails(
    tiny: Options, tmp_path: Path, half_maps: Halves
) -> None:
    out = tmp_path / "out"
    assert run_cli("denoise", half_maps[0], "--out", out, *tiny).returncode == 0
    done = run_cli("denoise", out / "denoised.mrc", "--out", out, *tiny, "--overwrite")
    assert_fails(done, "is an input and would be replaced")
