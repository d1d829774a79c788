from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from blush_onnx import (
    Denoiser,
    EngineError,
    InputError,
    ModelConfig,
    ModelError,
    OutOfMemoryError,
    conversion,
    fourier,
    models,
)
from blush_onnx.boxes import border_median
from tests.conftest import blob_and_noise


@pytest.mark.parametrize(
    ("shape", "voxel_size"),
    [
        ((40, 40, 40), 2.0),
        ((41, 41, 41), 2.0),
        ((30, 44, 37), 2.2),
        ((70, 70, 70), 1.5),
        ((70, 66, 75), 1.5),
        ((200, 200, 200), 0.3),
        ((20, 20, 20), 8.0),
        ((8, 8, 8), 8.0),
    ],
)
def test_any_box_and_voxel_size_comes_back_on_its_own_grid(
    shape: tuple[int, int, int], voxel_size: float, tiny_denoiser: Denoiser
) -> None:
    volume = blob_and_noise(shape, 0)
    result = tiny_denoiser.denoise(volume, voxel_size)
    assert result.density.shape == result.mask.shape == shape
    assert result.density.dtype == result.mask.dtype == np.float32
    assert np.isfinite(result.density).all()
    assert result.mask.min() >= 0
    assert result.mask.max() <= 1
    assert result.patches > 0


def test_an_even_cube_at_the_models_voxel_size_is_not_rescaled(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    direct = tiny_denoiser.denoise_at_model_voxel_size(volume)
    result = tiny_denoiser.denoise(volume, 1.5)
    np.testing.assert_array_equal(result.density, direct.density)
    np.testing.assert_array_equal(result.mask, direct.mask)


def test_another_box_is_the_even_cube_around_it_cropped(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((40, 37, 38), 0)
    cube = np.full((40, 40, 40), border_median(volume), dtype=np.float32)
    cube[:, 2:39, 1:39] = volume  # 40//2 - 37//2 = 2, 40//2 - 38//2 = 1
    expected = tiny_denoiser.denoise(cube, 2.0).density[:, 2:39, 1:39]
    np.testing.assert_array_equal(tiny_denoiser.denoise(volume, 2.0).density, expected)


@pytest.mark.parametrize("shape", [(66, 66, 66), (48, 48, 48), (49, 51, 70), (66, 84, 72)])
def test_the_result_does_not_depend_on_the_batch_size(
    shape: tuple[int, int, int], tiny_model: Path
) -> None:
    volume = blob_and_noise(shape, 0)
    results = [
        Denoiser.load(tiny_model, provider="cpu", batch_size=size).denoise_at_model_voxel_size(
            volume
        )
        for size in (1, 3, 100)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other.density, results[0].density)
        np.testing.assert_array_equal(other.mask, results[0].mask)


def test_real_batches_of_the_stored_graph_agree_within_rounding(
    tiny_denoiser: Denoiser, tiny_model: Path
) -> None:
    volume = blob_and_noise((84, 66, 66), 0)
    as_stored = conversion.proof_engines(models.load_model(tiny_model).content, 64)["as stored"]
    batched = Denoiser(tiny_denoiser.config, as_stored, 5)
    expected = tiny_denoiser.denoise_at_model_voxel_size(volume).density
    found = batched.denoise_at_model_voxel_size(volume).density
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-6


def test_two_runs_and_two_denoisers_agree_to_the_bit(tiny_model: Path) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    first, second = (
        Denoiser.load(tiny_model, provider="cpu", threads=2).denoise(volume, 1.7) for _ in range(2)
    )
    np.testing.assert_array_equal(first.density, second.density)


def test_threads_share_a_denoiser(tiny_denoiser: Denoiser) -> None:
    volumes = [blob_and_noise((40, 40, 40), seed) for seed in range(4)]
    expected = [tiny_denoiser.denoise(v, 2.0).density for v in volumes]
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = tiny_denoiser.denoise(volumes[number], 2.0).density

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, density in found.items():
        np.testing.assert_array_equal(density, expected[number])
    assert len(found) == 4


def test_the_grey_scale_carries_through(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    plain = tiny_denoiser.denoise(volume, 1.5).density
    changed = tiny_denoiser.denoise(50 * volume - 7, 1.5).density
    assert np.linalg.norm(changed - (50 * plain - 7)) / np.linalg.norm(50 * plain) < 1e-3


def test_outside_the_mask_the_density_is_the_mean(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((70, 70, 70), 0) + np.float32(3)
    mask = np.zeros_like(volume)
    mask[15:55, 15:55, 15:55] = 1
    result = tiny_denoiser.denoise(volume, 1.5, mask=mask)
    np.testing.assert_allclose(result.density[mask == 0], volume.mean(), rtol=1e-5)
    assert (result.mask[mask == 0] == 0).all()


def test_a_small_particle_is_covered_and_the_result_says_so(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((84, 84, 84), 0)
    mask = np.zeros_like(volume)
    mask[36:48, 36:48, 36:48] = 1
    result = tiny_denoiser.denoise_at_model_voxel_size(volume, mask)
    assert result.mask_threshold < 0.3
    assert "small" in result.warnings[0]
    assert result.density[36:48, 36:48, 36:48].std() > 0
    assert tiny_denoiser.denoise_at_model_voxel_size(volume).warnings == ()


def test_progress_counts_every_patch_and_may_cancel(tiny_denoiser: Denoiser) -> None:
    seen: list[tuple[int, int]] = []
    volume = blob_and_noise((90, 66, 66), 0)
    result = tiny_denoiser.denoise_at_model_voxel_size(
        volume, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(i, result.patches) for i in range(result.patches + 1)]

    class Cancelled(Exception):
        pass

    def cancel(done: int, _total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        tiny_denoiser.denoise_at_model_voxel_size(volume, progress=cancel)


def test_the_input_is_left_as_it_was(tiny_denoiser: Denoiser) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    mask = np.ones_like(volume)
    before = volume.copy()
    tiny_denoiser.denoise(volume, 1.5, mask=mask)
    np.testing.assert_array_equal(volume, before)
    assert (mask == 1).all()


@pytest.mark.parametrize("dtype", ["float64", "float16", "int16", ">f4"])
def test_other_number_types_are_taken(dtype: str, tiny_denoiser: Denoiser) -> None:
    volume = (100 * blob_and_noise((40, 40, 40), 0)).astype(dtype)
    assert tiny_denoiser.denoise(volume, 2.0).density.dtype == np.float32


def test_arguments_out_of_range_are_refused(tiny_denoiser: Denoiser, tiny_model: Path) -> None:
    volume = blob_and_noise((40, 40, 40), 0)
    for call, message in (
        (lambda: tiny_denoiser.denoise(volume, 0), "voxel size"),
        (lambda: tiny_denoiser.denoise(volume, 2.0, stride=44), "stride"),
        (lambda: tiny_denoiser.denoise(volume, 2.0, mask=volume[1:]), "shape"),
        (lambda: tiny_denoiser.denoise(volume * np.nan, 2.0), "NaN"),
        (lambda: Denoiser.load(tiny_model, batch_size=0), "batch size"),
        (lambda: Denoiser.load(tiny_model, threads=0), "threads"),
        (lambda: Denoiser.load(tiny_model, device=-1), "device"),
        (lambda: Denoiser.load(tiny_model, provider="abacus"), "unknown provider"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_what_would_not_fit_in_memory_is_refused_with_the_estimate(
    tiny_denoiser: Denoiser,
) -> None:
    volume = np.broadcast_to(blob_and_noise((8, 1, 1), 0), (8, 4096, 4096))
    with pytest.raises(OutOfMemoryError, match=r"GiB of memory, and .* GiB are available"):
        tiny_denoiser.denoise(volume, 1.5)


def test_a_hosts_own_session_works_with_and_without_a_description(tiny_model: Path) -> None:
    model = models.load_model(tiny_model)
    session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
    volume = blob_and_noise((70, 70, 70), 0)
    expected = Denoiser.load(tiny_model, provider="cpu").denoise(volume, 1.5).density
    described: list[object] = [None, model.config, {**model.config.__dict__}]
    for config in described:
        denoiser = Denoiser.from_session(session, config)  # type: ignore[arg-type]
        assert isinstance(denoiser.config, ModelConfig)
        found = denoiser.denoise(volume, 1.5)
        assert np.linalg.norm(found.density - expected) / np.linalg.norm(expected) < 1e-5
        assert found.engine.reason == "the caller made the session"


def test_a_description_of_another_graph_is_refused(tiny_model: Path) -> None:
    model = models.load_model(tiny_model)
    session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
    for change in ({"patch_size": 96}, {"has_mask": False}):
        other = dataclasses.replace(model.config, **change)
        with pytest.raises(ModelError, match="is not that of the session's graph"):
            Denoiser.from_session(session, other)


def test_an_engine_that_fails_is_an_engine_error(tiny_denoiser: Denoiser) -> None:
    wrong = np.zeros((1, 8, 8, 8), dtype=np.float32)
    with pytest.raises(EngineError, match="failed on a batch of 1 patches"):
        tiny_denoiser.engine.run(wrong, wrong)


def test_rescaling_there_and_back_does_not_move_the_particle() -> None:
    volume = blob_and_noise((50, 50, 50), 0, 0.0)
    side = fourier.rescaled_side(50, 1.3, 1.5)
    back = fourier.rescale(fourier.rescale(volume, side), 50)
    centre = [np.average(np.arange(50), weights=v.sum(axis=(1, 2))) for v in (volume, back)]
    assert centre[0] == pytest.approx(centre[1], abs=1e-3)
