"""Both versions of cryosparc-tools, each in an environment of its own, and a server for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blush_onnx import Denoiser, Regularised, regularise
from tests.conftest import blob_and_noise
from tests.hosts.cryosparc_client import SIDE, VOXEL_SIZE, Server, serving, sphere
from tests.hosts.environments import make_environment

REQUIREMENTS = {"4.7": "cryosparc-tools>=4.7,<5", "5": "cryosparc-tools>=5,<6"}


@pytest.fixture(scope="module", params=list(REQUIREMENTS))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment that has this version of cryosparc-tools."""
    return make_environment(
        f"cryosparc-{version}", REQUIREMENTS[version], temporary=tmp_path_factory,
        above_this_one=True,
    )


@pytest.fixture
def server(python: Path, tmp_path: Path, tiny_model: Path) -> Iterator[Server]:
    with serving(python, tmp_path, tiny_model) as made:
        yield made


@pytest.fixture(scope="module")
def expected(tiny_denoiser: Denoiser) -> Regularised:
    """What the halves become without any cryoSPARC."""
    halves = [blob_and_noise((SIDE,) * 3, seed) for seed in (1, 2)]
    return regularise(*halves, VOXEL_SIZE, denoiser=tiny_denoiser, fsc_mask=sphere())
