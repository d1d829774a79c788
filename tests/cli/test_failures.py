from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx.engines import installed_providers
from tests.cli.helpers import (
    BAD_MAPS,
    Options,
    assert_fails,
    assert_unwritten,
    bad_map,
    listing,
    patch_bytes,
    run_cli,
)
from tests.conftest import TINY_CHECKPOINT, blob_and_noise, need, write_mrc

Halves = tuple[Path, Path]
MAP_BYTES = 1024 + 4 * 40**3


def copied_model(tiny_model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(tiny_model, folder / "model"))


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


@pytest.mark.parametrize("name", ["no-such-model", "~nobody-of-this-name", "x" * 300])
def test_an_unknown_model_fails(name: str, out: Path, half_maps: Halves) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, "--model", name)
    assert_fails(done, name)
    assert_unwritten(out)


def test_a_checkpoint_as_model_fails_and_says_how_to_import_it(
    out: Path, half_maps: Halves
) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, "--model", TINY_CHECKPOINT)
    assert_fails(done, "blush-onnx models import")
    assert_unwritten(out)


def test_a_model_with_a_wrong_checksum_fails(
    tiny_model: Path, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    model = copied_model(tiny_model, tmp_path)
    content = bytearray((model / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "model.onnx").write_bytes(content)
    done = run_cli("denoise", *half_maps, "--out", out, "--model", model, "--provider", "cpu")
    assert_fails(done, "the file is damaged or was changed")
    assert_unwritten(out)


def test_a_model_without_graph_fails(
    tiny_model: Path, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    model = copied_model(tiny_model, tmp_path)
    (model / "model.onnx").unlink()
    done = run_cli("denoise", *half_maps, "--out", out, "--model", model)
    assert_fails(done, "cannot read the model")
    assert_unwritten(out)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe\0", b'{"name":'])
def test_a_model_with_a_broken_description_fails(
    content: bytes, tiny_model: Path, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    model = copied_model(tiny_model, tmp_path)
    (model / "config.json").write_bytes(content)
    done = run_cli("denoise", *half_maps, "--out", out, "--model", model, "--provider", "cpu")
    assert_fails(done, "config.json")
    assert_unwritten(out)


@pytest.mark.parametrize(
    ("key", "value"),
    [("voxel_size", "1.5"), ("patch_size", 64.5), ("patch_size", "64"), ("sha256", 5)],
)
def test_a_model_with_a_value_of_the_wrong_kind_fails(
    key: str, value: object, tiny_model: Path, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    model = copied_model(tiny_model, tmp_path)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, key: value}), encoding="utf-8")
    done = run_cli("denoise", *half_maps, "--out", out, "--model", model, "--provider", "cpu")
    assert_fails(done, "config.json")
    assert_unwritten(out)


@pytest.mark.parametrize("content", [b"", b"no graph at all"])
def test_an_onnx_file_that_is_none_fails(
    content: bytes, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    (tmp_path / "some.onnx").write_bytes(content)
    done = run_cli("denoise", *half_maps, "--out", out, "--model", tmp_path / "some.onnx")
    assert_fails(done, "some.onnx")
    assert_unwritten(out)


def test_an_onnx_file_of_another_network_fails(
    tiny_model: Path, out: Path, half_maps: Halves, tmp_path: Path
) -> None:
    import hashlib

    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    model = copied_model(tiny_model, tmp_path)
    (model / "model.onnx").write_bytes(content)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["sha256"] = hashlib.sha256(content).hexdigest()
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = run_cli("denoise", *half_maps, "--out", out, "--model", model, "--provider", "cpu")
    assert_fails(done, "not a Blush network")
    assert_unwritten(out)


def test_a_required_gpu_that_is_not_taken_fails(
    tiny: Options, out: Path, half_maps: Halves
) -> None:
    done = run_cli("denoise", *half_maps, "--out", out, *tiny, "--require-gpu")
    assert_fails(done, "--require-gpu, but cpu was taken")
    assert_unwritten(out)


def test_a_provider_that_is_not_installed_fails_and_says_what_to_install(
    tiny_model: Path, out: Path, half_maps: Halves
) -> None:
    if "cuda" in installed_providers():
        pytest.skip("CUDA is installed")
    done = run_cli(
        "denoise", *half_maps, "--out", out, "--model", tiny_model, "--provider", "cuda"
    )
    assert_fails(done, "pip install 'blush-onnx[gpu]'")
    assert_unwritten(out)


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


def test_a_map_without_permission_fails(tiny: Options, out: Path, half_maps: Halves) -> None:
    half_maps[1].chmod(0)
    need("permissions", not os.access(half_maps[1], os.R_OK), "this user may read everything")
    done = run_cli("denoise", *half_maps, "--out", out, *tiny)
    assert_fails(done, "Permission denied")
    assert_unwritten(out)


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


def test_an_output_that_would_replace_an_input_fails(
    tiny: Options, tmp_path: Path, half_maps: Halves
) -> None:
    out = tmp_path / "out"
    assert run_cli("denoise", half_maps[0], "--out", out, *tiny).returncode == 0
    done = run_cli("denoise", out / "denoised.mrc", "--out", out, *tiny, "--overwrite")
    assert_fails(done, "is an input and would be replaced")


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
