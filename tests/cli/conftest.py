from __future__ import annotations

from pathlib import Path

import mrcfile
import pytest

from tests.cli.denoising import SIDE, Runner
from tests.cli.helpers import Options
from tests.conftest import blob_and_noise, write_mrc


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results would go; nothing is there."""
    return tmp_path / "results" / "out"


@pytest.fixture
def tiny(tiny_model: Path) -> Options:
    """Options for the tiny model on the CPU."""
    return "--model", tiny_model, "--provider", "cpu"


@pytest.fixture
def denoise(tiny_model: Path, tmp_path: Path) -> Runner:
    return Runner(tiny_model, tmp_path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two half-maps with an origin, a start and a label."""
    folder = tmp_path_factory.mktemp("inputs")
    paths = [
        write_mrc(folder / f"half{seed}.mrc", blob_and_noise((SIDE,) * 3, seed))
        for seed in (1, 2)
    ]
    for path in paths:
        with mrcfile.open(path, mode="r+") as mrc:
            mrc.header.origin = (10.5, -20.5, 30.5)
            mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = 3, -4, 5
            mrc.add_label("made by a refinement")
    return paths[0], paths[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A project folder; the model is the tiny one."""
    monkeypatch.setenv("BLUSH_ONNX_MODEL", str(tiny_model))
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))
    folder = tmp_path / "project"
    folder.mkdir()
    return folder
