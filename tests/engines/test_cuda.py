"""On a card: the CPU's map within stated tolerances, and convolutions that ran where they should.

Distances are shares of the correction, ‖map − the CPU's‖ / ‖the CPU's − input‖, with the bundled
model. Tolerances: in single precision that of the goldens; with TF32 and float16 some twenty times
what an H200 showed (4.5e-5 and 2.2e-4 for a map; 4e-5 and 7e-4 between batches).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoised, Denoiser, EngineError, models, self_test
from blush_onnx.engines import create_engine
from blush_onnx.engines import onnxruntime as ort_engine
from blush_onnx.engines.base import BlendingEngine, EngineSettings
from blush_onnx.engines.team import Team
from tests.cli.helpers import run_cli
from tests.conftest import Volume, blob_and_noise

pytestmark = pytest.mark.gpu

TOLERANCES = {"float32": 5e-4, "tf32": 1e-3, "float16": 5e-3}
SIDE = 90
"""Voxels of 1.5 Å: 27 patches."""
CUDA = "CUDAExecutionProvider"
MODEL = models.bundled_default()

Load = Callable[[str], Denoiser]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return blob_and_noise((SIDE,) * 3, 0)


@pytest.fixture(scope="module")
def on_cpu(volume: Volume) -> Denoised:
    return Denoiser.load(MODEL, provider="cpu").denoise(volume, 1.5)


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """The bundled model on the card, once for each precision."""
    loaded: dict[str, Denoiser] = {}

    def get(precision: str) -> Denoiser:
        if precision not in loaded:
            loaded[precision] = Denoiser.load(MODEL, provider="cuda", precision=precision)
        return loaded[precision]

    yield get
    loaded.clear()


def distance(found: Volume, expected: Volume, start: Volume) -> float:
    away = float(np.linalg.norm(found - expected) / np.linalg.norm(expected - start))
    print(f"  {away:.1e} of the correction")  # shown with pytest -s
    return away


def test_the_card_gives_the_stored_answer(load: Load) -> None:
    model = models.load_model(MODEL)
    assert model.config.self_test
    error = self_test.relative_error(
        load("float32").engine, model.config.patch_size, model.config.self_test
    )
    assert error < 1e-4


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_map_is_that_of_the_cpu(
    precision: str, load: Load, volume: Volume, on_cpu: Denoised
) -> None:
    found = load(precision).denoise(volume, 1.5)
    assert distance(found.density, on_cpu.density, volume) < TOLERANCES[precision]
    assert np.abs(found.mask - on_cpu.mask).max() < 10 * TOLERANCES[precision]
    assert found.engine.precision == precision


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_convolutions_ran_on_the_card(precision: str, load: Load) -> None:
    assert load(precision).engine.description.convolutions_on == (CUDA,)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_flat_patch_stays_flat(precision: str, load: Load) -> None:
    flat = np.full((1, 64, 64, 64), 0.25, dtype=np.float32)
    density, _ = load(precision).engine.run(flat, 0 * flat)
    np.testing.assert_allclose(density, 0.25, atol=1e-6)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_patch_does_not_depend_on_its_batch(precision: str, load: Load) -> None:
    engine = load(precision).engine
    grids, stds = (
        np.stack(arrays)
        for arrays in zip(*(self_test.synthetic_patch(64, k) for k in range(1, 9)), strict=True)
    )
    together, _ = engine.run(grids, stds)
    for size in (1, 3):
        few, _ = engine.run(grids[:size], stds[:size])
        # Another batch may get other kernels, which add up in another order.
        tolerance = TOLERANCES[precision] / 5
        assert distance(few, together[:size], grids[:size]) < tolerance


def test_the_same_map_twice(load: Load, volume: Volume) -> None:
    first, second = (load("float32").denoise(volume, 1.5).density for _ in range(2))
    print(f"  to the bit: {np.array_equal(first, second)}")
    assert distance(first, second, volume) < 1e-5


def test_two_engines_on_one_card_share_the_patches_and_give_the_same_map(
    load: Load, volume: Volume
) -> None:
    model = models.load_model(MODEL)
    settings = EngineSettings("cuda")
    twins = [
        ort_engine.create(model.content, settings, patch_size=64, reason="test") for _ in range(2)
    ]
    team = Denoiser(model.config, Team(twins))
    assert team.patches_at_a_time == 2
    alone = load("float32").denoise(volume, 1.5).density
    shared = team.denoise(volume, 1.5).density
    print(f"  to the bit: {np.array_equal(alone, shared)}")
    assert distance(shared, alone, volume) < 1e-5


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_map_is_the_same_where_it_stays_on_the_card(
    precision: str, load: Load, volume: Volume
) -> None:
    kept = Denoiser.load(MODEL, provider="cuda", precision=precision, on_card=True)
    assert isinstance(kept.engine, BlendingEngine)
    first, second = (kept.denoise(volume, 1.5) for _ in range(2))
    print(f"  twice, to the bit: {np.array_equal(first.density, second.density)}")
    expected = load(precision).denoise(volume, 1.5)
    assert distance(first.density, expected.density, volume) < TOLERANCES[precision] / 5
    assert np.abs(first.mask - expected.mask).max() < 2 * TOLERANCES[precision]


def test_so_it_is_where_batches_are_halved(
    load: Load, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Denoiser.load(MODEL, provider="cuda", batch_size=32, card_memory=2, on_card=True)
    with caplog.at_level(logging.WARNING):
        found = kept.denoise(volume, 1.5)
    assert halved(caplog)
    expected = load("float32").denoise(volume, 1.5)
    assert distance(found.density, expected.density, volume) < TOLERANCES["float32"]


def test_auto_takes_the_card(tiny_model: Path) -> None:
    engine = Denoiser.load(tiny_model).engine.description
    assert engine.provider == "cuda"
    assert engine.is_gpu
    assert engine.convolutions_on == (CUDA,)


def test_a_card_that_is_not_there_is_refused_in_one_line(tiny_model: Path) -> None:
    content = models.load_model(tiny_model).content
    with pytest.raises(EngineError) as raised:
        create_engine(content, EngineSettings("cuda", devices=(63,)), 64)
    print(f"  {raised.value}")
    assert "\n" not in str(raised.value)


def test_the_command_denoises_on_the_card(
    half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    done = run_cli(
        "denoise", *half_maps, "--model", tiny_model, "--provider", "cuda",
        "--out", tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["engine"]["provider"] == "cuda"
    assert report["engine"]["convolutions_on"] == [CUDA]


def test_doctor_finds_the_card() -> None:
    done = run_cli("doctor")  # its status also tells of other problems of the installation
    print(done.stdout)
    assert any("cuda" in line and "self-test passed" in line for line in done.stdout.splitlines())


def halved(caplog: pytest.LogCaptureFixture) -> bool:
    return any("out of memory: going on with batches of" in m for m in caplog.messages)


def test_where_the_cards_memory_is_limited_batches_are_halved(
    load: Load, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    denoiser = Denoiser.load(MODEL, provider="cuda", batch_size=32, card_memory=2)
    with caplog.at_level(logging.WARNING):
        found = denoiser.denoise(volume, 1.5)
    assert halved(caplog)
    expected = load("float32").denoise(volume, 1.5)
    assert distance(found.density, expected.density, volume) < TOLERANCES["float32"]


def test_where_others_hold_the_cards_memory_batches_are_halved(
    volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    denoiser = Denoiser.load(MODEL, provider="cuda", batch_size=32)
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(free - (3 << 30) // 2, 1), dtype=torch.uint8, device="cuda")
    try:
        with caplog.at_level(logging.WARNING):
            found = denoiser.denoise(volume, 1.5)
    finally:
        del held
        torch.cuda.empty_cache()
    assert halved(caplog)
    assert np.isfinite(found.density).all()
