from __future__ import annotations

import functools
import gzip
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import Denoiser, conversion
from blush_onnx.checkpoint import Checkpoint, read_checkpoint
from tests.official import seeded_state

DATA = Path(__file__).parent / "data"
TINY_CHECKPOINT = DATA / "checkpoints" / "tiny.ckpt"
REQUIRED = os.environ.get("BLUSH_TEST_REQUIRE", "").split(",")
"""What must be there: its absence then fails a test that would otherwise be skipped."""
PROVIDER = os.environ.get("BLUSH_TEST_PROVIDER", "cpu")
"""What the goldens are held against in test_parity.py, in single precision."""

Volume = npt.NDArray[np.float32]


def need(name: str, present: bool, why: str) -> None:
    """Skip a test that lacks something, or fail it where that was promised to be there."""
    if not present and name in REQUIRED:
        pytest.fail(f"{name} is required here: {why}")
    if not present:
        pytest.skip(why)


def pytest_configure(config: pytest.Config) -> None:
    """What engines compile is kept in a folder of this run, for its child processes as well."""
    folder = tempfile.mkdtemp(prefix="blush-onnx-tests-")
    config.add_cleanup(functools.partial(shutil.rmtree, folder, ignore_errors=True))
    os.environ["BLUSH_ONNX_CACHE"] = folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torch"):
        need("torch", importlib.util.find_spec("torch") is not None, "PyTorch is not installed")
    if item.get_closest_marker("openvino"):
        found = importlib.util.find_spec("openvino") is not None
        need("openvino", found, "OpenVINO is not installed")
    if item.get_closest_marker("browser"):
        found = importlib.util.find_spec("playwright") is not None
        need("browser", found, "Playwright's Python package is not installed")
        need("browser", shutil.which("chromium") is not None, "chromium is not on PATH")
    if item.get_closest_marker("gpu"):
        import onnxruntime

        found = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        need("gpu", found, "this onnxruntime has no CUDA")


@pytest.fixture(scope="session")
def external_data() -> Path:
    """Folder of the larger test data, in $BLUSH_TEST_DATA."""
    folder = os.environ.get("BLUSH_TEST_DATA")
    need("external_data", bool(folder), "$BLUSH_TEST_DATA is not set")
    return Path(str(folder))


@pytest.fixture(autouse=True)
def _own_registry(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each test has an empty registry and locks of its own, and sees nobody's downloads."""
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setenv("BLUSH_ONNX_HOME", str(tmp_path / "registry"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("BLUSH_ONNX_MODEL", "BLUSH_ONNX_PATH"):
        monkeypatch.delenv(name, raising=False)
    yield


@pytest.fixture(scope="session")
def seeded_checkpoint() -> Checkpoint:
    """The official architecture with random weights."""
    return Checkpoint(seeded_state(), 1.5, 64, True, "0" * 64)


@pytest.fixture(scope="session")
def seeded_denoiser(
    seeded_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Denoiser:
    """Denoiser of the official architecture with random weights, on :data:`PROVIDER`."""
    folder = tmp_path_factory.mktemp("seeded")
    conversion.write_model_folder(folder, *conversion.build_model(seeded_checkpoint, "seeded"))
    return Denoiser.load(folder, provider=PROVIDER)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a very small model of the Blush kind: fast, and no denoiser to speak of."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    checkpoint = read_checkpoint(TINY_CHECKPOINT)
    conversion.write_model_folder(folder, *conversion.build_model(checkpoint, "tiny"))
    return folder


@pytest.fixture(scope="session")
def tiny_denoiser(tiny_model: Path) -> Denoiser:
    return Denoiser.load(tiny_model, provider="cpu")


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, npt.NDArray[np.float32]]]:
    """Reader of tests/data/NAME.npz."""

    def load(name: str) -> dict[str, npt.NDArray[np.float32]]:
        with np.load(DATA / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored}

    return load


def blob_and_noise(shape: tuple[int, ...], seed: int, noise: float = 0.5) -> Volume:
    """A lumpy particle in white noise; the same particle for every seed."""
    axes = [np.arange(side) - side // 2 for side in shape]
    centres = np.random.default_rng(7).uniform(-0.22, 0.22, (30, 3)) * min(shape)
    width = min(shape) / 20
    volume = np.zeros(shape)
    for centre in centres:
        z, y, x = (np.exp(-(((a - c) / width) ** 2)) for a, c in zip(axes, centre, strict=True))
        volume += z[:, None, None] * y[:, None] * x
    white = np.random.default_rng(seed).standard_normal(shape)
    return (volume + noise * white).astype(np.float32)


def write_mrc(path: Path, values: npt.NDArray[np.generic], voxel_size: float = 2.0) -> Path:
    """Plain MRC file, or a compressed one by its name."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    with mrcfile.new(plain, overwrite=True) as mrc:
        mrc.set_data(values)
        mrc.voxel_size = voxel_size
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


@pytest.fixture
def half_maps(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of 40³ voxels of 2 Å."""
    return (
        write_mrc(tmp_path / "half1.mrc", blob_and_noise((40, 40, 40), 1)),
        write_mrc(tmp_path / "half2.mrc", blob_and_noise((40, 40, 40), 2)),
    )
