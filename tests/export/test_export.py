from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, models, network
from blush_onnx.conversion import import_checkpoint
from tests.conftest import DATA, TINY_CHECKPOINT, blob_and_noise

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parent.parent.parent


def run_export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    done = run_export(TINY_CHECKPOINT, "--output", tmp_path / "models" / "tiny")
    assert done.returncode == 0, done.stderr
    assert "half-map" in done.stdout
    return tmp_path / "models" / "tiny"


def test_the_proof_covers_random_and_real_patches_alone_and_in_a_batch(exported: Path) -> None:
    proof = json.loads((exported / "config.json").read_text())["proof"]
    assert proof["reference"].startswith("PyTorch")
    assert {(row["patch"], row["batch"]) for row in proof["results"]} == {
        (kind, batch) for kind in ("random", "synthetic", "half-map") for batch in (1, 3)
    }
    assert max(row["density"] for row in proof["results"]) <= 1e-4


def test_the_import_without_torch_gives_the_same_graph_and_numbers(exported: Path) -> None:
    imported = import_checkpoint(TINY_CHECKPOINT, "tiny")
    ours, theirs = models.load_model(imported), models.load_model(exported)
    assert ours.sha256 == theirs.sha256
    volume = blob_and_noise((70, 70, 70), 0)
    maps = [
        Denoiser.load(folder, provider="cpu").denoise(volume, 1.5).density
        for folder in (imported, exported)
    ]
    np.testing.assert_array_equal(*maps)
    np.testing.assert_allclose(
        ours.config.self_test["density"], theirs.config.self_test["density"], atol=1e-4
    )


def test_exporting_again_replaces_the_model_and_keeps_its_card(exported: Path) -> None:
    (exported / "MODEL_CARD.md").write_text("a card")
    (exported / "left_over").touch()
    assert run_export(TINY_CHECKPOINT, "--output", exported).returncode == 0
    assert (exported / "MODEL_CARD.md").read_text() == "a card"
    assert not (exported / "left_over").exists()


def test_a_new_default_takes_the_place_of_the_old_one(exported: Path) -> None:
    told = ("--licence", "MIT", "--training", "none")
    for name in ("first", "second"):
        done = run_export(TINY_CHECKPOINT, "--output", exported.parent / name, *told, "--default")
        assert done.returncode == 0, done.stderr
    assert (exported.parent / "default").read_text() == "second\n"
    assert sorted(p.name for p in exported.parent.iterdir() if p.is_dir()) == ["second", "tiny"]
    assert run_export(TINY_CHECKPOINT, "--output", exported, "--default").returncode == 2


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    done = run_export(TINY_CHECKPOINT, "--output", tmp_path / "data")
    assert done.returncode == 1
    assert "something else than a model" in done.stderr
    assert (tmp_path / "data" / "precious").exists()


def test_half_precision_that_rounds_too_much_is_refused_by_the_proof(tmp_path: Path) -> None:
    import torch

    loaded = torch.load(TINY_CHECKPOINT, weights_only=True)
    state = loaded["model_state_dict"]
    state["outc.weight"] = state["outc.weight"] * 1.0003
    torch.save(loaded, tmp_path / "fine.ckpt")
    assert run_export(tmp_path / "fine.ckpt", "--output", tmp_path / "single").returncode == 0
    config = json.loads((tmp_path / "single" / "config.json").read_text())
    assert config["storage"] == "float32"
    state["outc.weight"] = state["outc.weight"] * 1e-6  # below what half precision resolves
    state["outc.bias"] = state["outc.bias"] * 0
    torch.save(loaded, tmp_path / "fine.ckpt")
    done = run_export(tmp_path / "fine.ckpt", "--output", tmp_path / "half", "--half")
    assert done.returncode == 1
    assert "differs from the network" in done.stderr


def test_every_guise_of_a_checkpoint_is_exported(tmp_path: Path) -> None:
    for name in ("tiny.ckpt.gz", "tiny_legacy.ckpt", "tiny_numpy_numbers.ckpt"):
        done = run_export(DATA / "checkpoints" / name, "--output", tmp_path / name)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["malicious.ckpt", "malicious_legacy.ckpt"])
def test_a_malicious_checkpoint_is_not_run(name: str, tmp_path: Path) -> None:
    done = run_export(DATA / "checkpoints" / name, "--output", tmp_path / "model")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
    assert not (ROOT / "blush-onnx-was-here").exists()


def test_weights_are_loaded_strictly(tmp_path: Path) -> None:
    import torch

    loaded = torch.load(TINY_CHECKPOINT, weights_only=True)
    loaded["model_state_dict"]["extra.weight"] = torch.zeros(3)
    torch.save(loaded, tmp_path / "more.ckpt")
    done = run_export(tmp_path / "more.ckpt", "--output", tmp_path / "model")
    assert done.returncode == 1
    assert "extra.weight" in done.stderr
    assert not (tmp_path / "model").exists()


def test_the_official_network_has_its_published_size() -> None:
    from export.network import BlushNetwork
    from tests.official import official_architecture

    state = BlushNetwork().state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == official_architecture().shapes()


def test_the_exported_weights_are_the_checkpoints(external_data: Path) -> None:
    import onnx
    import torch

    checkpoint = external_data / "models" / "starter.ckpt"
    folder = import_checkpoint(checkpoint, "first")
    state = torch.load(checkpoint, weights_only=True)["model_state_dict"]
    back = network.weights_of_graph(onnx.load(folder / "model.onnx"))
    assert back.keys() == state.keys()
    for name, weights in back.items():
        np.testing.assert_array_equal(weights, state[name].numpy())
    shutil.rmtree(models.home(), ignore_errors=True)
