from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, ModelError, conversion, models, numpy_network, self_test
from blush_onnx.checkpoint import read_checkpoint
from blush_onnx.engines.base import Array, EngineDescription
from tests.conftest import DATA, TINY_CHECKPOINT


def test_an_imported_model_carries_the_proof_that_it_agrees() -> None:
    folder = conversion.import_checkpoint(TINY_CHECKPOINT, "mine", licence="MIT")
    config = json.loads((folder / "config.json").read_text())
    assert config["licence"] == "MIT"
    assert config["storage"] == "float16"
    results = config["proof"]["results"]
    assert {row["batch"] for row in results} == {1, 3}
    assert {row["patch"] for row in results} == {"synthetic", "random"}
    assert {row["graph"] for row in results} == {"as stored", "2-D convolutions"}
    assert all(row["density"] <= 1e-4 and row["mask_logit"] <= 1e-4 for row in results)


def test_the_proof_fails_when_the_graph_is_another_network() -> None:
    checkpoint = read_checkpoint(TINY_CHECKPOINT)
    state = dict(checkpoint.state)
    state["up.4.conv.double_conv.norm2.bias"] = state["up.4.conv.double_conv.norm2.bias"] + 0.01
    _, content = conversion.build_model(dataclasses.replace(checkpoint, state=state), "other")
    with pytest.raises(ModelError, match="differs from the network"):
        conversion.prove(
            conversion.proof_engines(content, 64),
            lambda grid, std: numpy_network.evaluate(checkpoint.state, grid, std),
            "NumPy",
            [("synthetic", *self_test.synthetic_patch(64))],
        )


class Nothing:
    """An engine whose mask is not a number."""

    description = EngineDescription("cpu", "none", "a test")

    def run(self, grid: Array, _local_std: Array) -> tuple[Array, Array]:
        return grid, np.full_like(grid, np.nan)


def test_what_is_no_number_passes_neither_the_proof_nor_the_self_test() -> None:
    patch = self_test.synthetic_patch(64)
    with pytest.raises(ModelError, match="differs from the network by nan"):
        conversion.prove({"as stored": Nothing()}, lambda grid, std: (grid, std), "none",
                         [("synthetic", *patch)])
    stored = self_test.answer(*patch)
    assert not self_test.relative_error(Nothing(), 64, stored) <= self_test.TOLERANCE


def test_a_failed_import_leaves_nothing_behind() -> None:
    with pytest.raises(ModelError):
        conversion.import_checkpoint(DATA / "checkpoints" / "malicious.ckpt", "bad")
    assert not models.home().exists() or not list(models.home().iterdir())


def test_a_model_without_a_mask_has_a_solvent_mask_of_one() -> None:
    folder = conversion.import_checkpoint(DATA / "checkpoints" / "tiny_no_mask.ckpt", "plain")
    denoiser = Denoiser.load(folder, provider="cpu")
    volume = np.random.default_rng(0).standard_normal((90, 90, 90)).astype(np.float32)
    result = denoiser.denoise_at_model_voxel_size(volume, np.ones_like(volume))
    assert (result.mask == 1).all()


def test_the_same_checkpoint_always_gives_the_same_file() -> None:
    checkpoint = read_checkpoint(TINY_CHECKPOINT)
    first, second = (conversion.build_model(checkpoint, "mine")[1] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in models.bundled_folder().glob("*/config.json"))
)
def test_a_bundled_model_answers_its_own_self_test(name: str) -> None:
    model = models.load_model(models.bundled_folder() / name)
    assert model.config.name == name
    denoiser = Denoiser.load(model.path, provider="cpu")
    error = self_test.relative_error(
        denoiser.engine, model.config.patch_size, model.config.self_test
    )
    assert error < 1e-4
    assert model.path.stat().st_size < 30e6
    assert (model.path.parent / "MODEL_CARD.md").is_file()


def test_a_wrong_answer_fails_the_self_test(tiny_model: Path) -> None:
    denoiser = Denoiser.load(tiny_model, provider="cpu")
    stored = models.load_model(models.bundled_default()).config.self_test
    assert self_test.relative_error(denoiser.engine, 64, stored) > 0.01
