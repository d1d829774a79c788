from __future__ import annotations

from pathlib import Path

import pytest

from blush_onnx import models
from tests.cli.helpers import run_cli
from tests.conftest import DATA, TINY_CHECKPOINT


def test_import_show_list_verify_and_remove_go_together() -> None:
    done = run_cli("models", "import", str(TINY_CHECKPOINT), "--name", "mine", "--licence", "MIT")
    assert done.returncode == 0, done.stderr
    assert "Compared with the network in NumPy on 3 patches, batch 1 and 3: at most" in done.stdout
    shown = run_cli("models", "show", "mine")
    assert '"licence": "MIT"' in shown.stdout
    listed = run_cli("models", "list").stdout
    assert "mine" in listed
    assert f"* {models.bundled_default()}" in listed
    verified = run_cli("models", "verify", "mine")
    assert verified.stdout.startswith("good  mine")
    assert run_cli("models", "remove", "mine").returncode == 0
    assert "mine" not in run_cli("models", "list").stdout


def test_verify_without_a_name_checks_every_model_and_fails_on_a_bad_one(tmp_path: Path) -> None:
    assert run_cli("models", "verify").returncode == 0
    run_cli("models", "import", str(TINY_CHECKPOINT), "--name", "mine")
    path = tmp_path / "registry" / "mine" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = run_cli("models", "verify")
    assert done.returncode == 1
    assert "bad" in done.stdout
    assert "SHA-256" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", str(DATA / "checkpoints" / "malicious.ckpt"), "--name", "m"], "nothing of it"),
        (["import", "nowhere.ckpt", "--name", "m"], "nowhere.ckpt"),
        (["import", str(TINY_CHECKPOINT), "--name", "../m"], "cannot be a model's name"),
        (["import", str(TINY_CHECKPOINT), "--name", "v1.0"], "models fetch v1.0 --from"),
        (["show", "nothing"], "unknown model"),
        (["remove", models.bundled_default()], "not yours to remove"),
        (["fetch", "v9"], "known are v1.0"),
        (["fetch", "v1.0", "--from", "http://127.0.0.1:9/x"], "cannot download"),
        (["fetch", "v1.0", "--from", str(DATA / "checkpoints" / "tiny.ckpt.gz")], "SHA-256"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run_cli("models", *arguments)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    registry = tmp_path / "registry"
    assert not registry.exists() or not any(p.is_dir() for p in registry.iterdir())


def test_fetching_shows_the_licence_before_anything_else() -> None:
    done = run_cli("models", "fetch", "v1.0", "--from", "http://127.0.0.1:9/x")
    assert "Licence: " in done.stdout
    assert "zenodo.org/records/10072731" in done.stdout
