from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from blush_onnx.engines import installed_providers
from tests.cli.helpers import Halves, Options, assert_fails, assert_unwritten, run_cli
from tests.conftest import TINY_CHECKPOINT


def copied_model(tiny_model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(tiny_model, folder / "model"))


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
