from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import Options


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results would go; nothing is there."""
    return tmp_path / "results" / "out"


@pytest.fixture
def tiny(tiny_model: Path) -> Options:
    """Options for the tiny model on the CPU."""
    return "--model", tiny_model, "--provider", "cpu"
