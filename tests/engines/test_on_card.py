"""Patches cut out and added up where the network computes: tried without a card, on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blush_onnx import Denoiser, EngineError, InputError, conversion, masks, models
from blush_onnx.checkpoint import read_checkpoint
from blush_onnx.engines import create_engine, on_card
from blush_onnx.engines import onnxruntime as ort_engine
from blush_onnx.engines.base import BlendingEngine, EngineSettings
from blush_onnx.evaluation import blend_patches
from blush_onnx.patches import plan_patches
from tests.conftest import TINY_CHECKPOINT, blob_and_noise

SHAPE = (104, 90, 84)
CPU = EngineSettings("cpu", threads=2)


def content_of(folder: Path) -> bytes:
    return models.load_model(folder).content


@pytest.fixture(scope="module")
def without_mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a network that has no solvent mask."""
    checkpoint = read_checkpoint(TINY_CHECKPOINT)
    folder = tmp_path_factory.mktemp("models") / "bare"
    folder.mkdir()
    bare = type(checkpoint)(
        checkpoint.state, checkpoint.voxel_size, checkpoint.patch_size, False, checkpoint.sha256
    )
    conversion.write_model_folder(folder, *conversion.build_model(bare, "bare"))
    return folder


def blended(engine: object, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    volume = blob_and_noise(SHAPE, 1)
    mask = masks.default_mask(SHAPE)
    mask[60:] = 0  # so that some patches are skipped
    local_std = masks.local_std(volume)
    return blend_patches(
        engine, volume, local_std / local_std.mean(), plan_patches(mask, 64, 20),
        batch_size=batch_size,
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("kind", ["tiny_model", "without_mask"])
def test_the_sums_are_those_of_patches_that_travel(
    kind: str, batch_size: int, request: pytest.FixtureRequest
) -> None:
    """18 patches: the last batch of 8 is not full. Tolerance: both round in single precision."""
    content = content_of(request.getfixturevalue(kind))
    usual = ort_engine.create(content, CPU, patch_size=64, reason="test", as_stored=True)
    resident = on_card.create(content, CPU, 0, patch_size=64, reason="test")
    assert isinstance(resident, BlendingEngine)
    assert not isinstance(usual, BlendingEngine)
    for found, expected in zip(blended(resident, batch_size), blended(usual, 1), strict=True):
        assert expected.max() > 0.5
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_same_volume_twice_and_another_between_give_the_same_to_the_bit(
    tiny_model: Path,
) -> None:
    engine = on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")
    first, _ = blended(engine, 4)
    blend_patches(
        engine, *(np.ones((84, 84, 84), dtype=np.float32),) * 2,
        plan_patches(masks.default_mask((84, 84, 84)), 64, 20), batch_size=2,
    )  # fmt: skip
    again, _ = blended(engine, 4)
    np.testing.assert_array_equal(first, again)


def test_a_whole_map_is_that_of_the_usual_engine(tiny_model: Path) -> None:
    volume = blob_and_noise((70, 80, 76), 2)
    usual = Denoiser.load(tiny_model, provider="cpu")
    resident = Denoiser(
        usual.config, on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")
    )
    expected = usual.denoise(volume, 1.7, rotations=2)
    found = resident.denoise(volume, 1.7, rotations=2)
    correction = np.linalg.norm(expected.density - volume)
    assert np.linalg.norm(found.density - expected.density) < 1e-5 * correction
    np.testing.assert_allclose(found.mask, expected.mask, atol=1e-5)
    assert found.patches == expected.patches


def test_batches_that_do_not_fit_are_halved_and_the_next_volume_begins_there(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A card's memory ends where the session is opened, for that runs a batch to look at it."""
    engine = on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")
    expected, _ = blended(engine, 2)
    opened: list[int] = []
    really_open = on_card.open_session

    def open_session(*args: Any, probe: dict[str, np.ndarray], **kwargs: Any) -> Any:
        opened.append(len(probe["starts"]))
        if opened[-1] > 2:
            try:
                raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
            except RuntimeError as error:
                raise EngineError("onnxruntime cannot start") from error
        return really_open(*args, probe=probe, **kwargs)

    monkeypatch.setattr(on_card, "open_session", open_session)
    with caplog.at_level(logging.WARNING):
        found, _ = blended(engine, 8)
    assert opened == [8, 4, 2]
    assert engine.largest_batch == 2
    assert "going on with batches of 2" in caplog.text
    np.testing.assert_array_equal(found, expected)
    blended(engine, 8)
    assert opened == [8, 4, 2]  # the last one is open still


def test_another_failure_to_open_is_that_failure(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")

    def open_session(*_: Any, **__: Any) -> Any:
        raise EngineError("onnxruntime cannot start") from RuntimeError("no kernel")

    monkeypatch.setattr(on_card, "open_session", open_session)
    with pytest.raises(EngineError, match="cannot start"):
        blended(engine, 8)
    assert engine.largest_batch is None


def test_single_patches_are_denoised_as_by_any_engine(tiny_model: Path) -> None:
    engine = on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")
    usual = ort_engine.create(content_of(tiny_model), CPU, patch_size=64, reason="test")
    patch = blob_and_noise((64, 64, 64), 3)[None]
    np.testing.assert_array_equal(engine.run(patch, patch)[0], usual.run(patch, patch)[0])


def test_what_is_not_finite_is_an_error(tiny_model: Path) -> None:
    engine = on_card.create(content_of(tiny_model), CPU, 0, patch_size=64, reason="test")
    volume = np.full((84, 84, 84), np.inf, dtype=np.float32)
    plan = plan_patches(masks.default_mask(volume.shape), 64, 20)
    with pytest.raises(EngineError, match="not finite"):
        blend_patches(engine, volume, volume, plan)


@pytest.mark.parametrize(
    "settings",
    [EngineSettings("cpu", on_card=True), EngineSettings("openvino", on_card=True),
     EngineSettings("cuda", devices=(0, 1), on_card=True)],
)
def test_it_is_refused_without_cuda_and_on_several_cards(
    settings: EngineSettings, tiny_model: Path
) -> None:
    with pytest.raises(InputError, match="kept on the card by CUDA alone, and on one"):
        create_engine(content_of(tiny_model), settings, 64)
