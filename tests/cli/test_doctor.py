from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from blush_onnx import diagnostics
from tests.cli.helpers import run_cli


def test_a_sound_installation_passes_on_every_provider() -> None:
    done = run_cli("doctor", "--json")
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert done.returncode == 0
    assert found["versions"]["blush-onnx"]
    tested = {row["provider"]: row for row in found["providers"]}
    assert tested["cpu"]["self_test"] == "passed"
    assert tested["cpu"]["relative_error"] < 1e-4
    assert all(row["checksum"] == "good" for row in found["models"])


def test_the_plain_text_says_the_same() -> None:
    done = run_cli("doctor")
    assert "self-test passed" in done.stdout
    assert "No problems found." in done.stdout
    assert f"MiB in {os.environ['BLUSH_ONNX_CACHE']}" in done.stdout


def test_where_nothing_is_kept_it_says_so() -> None:
    done = run_cli("doctor", env={**os.environ, "BLUSH_ONNX_CACHE": "off"})
    assert "Compiled graphs: not kept" in done.stdout


def test_a_damaged_model_is_a_problem(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "registry" / "mine"
    shutil.copytree(tiny_model, folder)
    (folder / "model.onnx").write_bytes(b"damaged")
    done = run_cli("doctor")
    assert done.returncode == 1
    assert "checksum bad" in done.stdout
    assert "Problems:" in done.stdout


def test_a_model_that_answers_wrongly_is_a_problem() -> None:
    from blush_onnx.conversion import import_checkpoint
    from tests.conftest import TINY_CHECKPOINT

    folder = import_checkpoint(TINY_CHECKPOINT, "mine")
    description = json.loads((folder / "config.json").read_text())
    description["self_test"]["density"] = [1.0] * len(description["self_test"]["density"])
    (folder / "config.json").write_text(json.dumps(description))
    done = run_cli("doctor", env={**os.environ, "BLUSH_ONNX_MODEL": "mine"})
    assert done.returncode == 1
    assert "do not use it" in done.stdout


def test_another_relion_python_blush_first_on_path_is_noted(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "relion_python_blush"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    done = run_cli("doctor", env={**os.environ, "PATH": path})
    assert done.returncode == 0
    assert f"first on PATH ({command})" in done.stdout


@pytest.mark.parametrize(("provider", "kind"), [("coreml", "notes"), ("cuda", "problems")])
def test_a_provider_that_fails_is_a_problem_where_auto_might_take_it(
    provider: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "installed_providers", lambda: [provider])
    found = diagnostics.examine()
    assert found["providers"][0]["self_test"] == "failed"
    assert any(text.startswith(f"{provider}: ") for text in found[kind])
    other = "problems" if kind == "notes" else "notes"
    assert not any(text.startswith(f"{provider}: ") for text in found[other])
