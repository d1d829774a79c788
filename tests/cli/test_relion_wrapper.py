from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blush_onnx.hosts.relion.wrapper import PROGRAMS
from tests.cli.helpers import assert_fails, listing, run_cli


def test_both_programs_run_whatever_python_is_active(tmp_path: Path) -> None:
    folder = tmp_path / "bin of relion"
    done = run_cli("relion", "install-wrapper", folder)
    assert done.returncode == 0, done.stderr
    assert listing(folder) == sorted(PROGRAMS)
    assert f"export PATH='{folder}':$PATH" in done.stdout
    # A broken Python that comes first, and settings of another environment.
    (tmp_path / "other").mkdir()
    for name in ("python", "python3"):
        (tmp_path / "other" / name).write_text("#!/bin/sh\nexit 3\n")
        (tmp_path / "other" / name).chmod(0o755)
    (tmp_path / "blush_onnx.py").write_text("raise SystemExit('the wrong one')\n")
    environment = {
        "PATH": f"{folder}:{tmp_path / 'other'}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path), "HOME": str(tmp_path),
    }
    for line, text in (
        ("relion_python_blush", "is in place"), ("relion_blush_external --help", "Usage:")
    ):
        call = subprocess.run(
            line, shell=True, env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert call.returncode == 0, call.stderr
        assert text in call.stdout


def test_the_registry_of_the_day_is_pinned(tmp_path: Path) -> None:
    home = tmp_path / "mod els"
    environment = {"BLUSH_ONNX_HOME": str(home)}
    done = run_cli("relion", "install-wrapper", tmp_path / "bin", env=environment)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bin" / "relion_python_blush").read_text()
    assert f"export BLUSH_ONNX_HOME='{home}'" in text
    assert sys.executable in text


def test_the_folder_of_compiled_graphs_is_pinned_and_numpy_starts_no_threads(
    tmp_path: Path,
) -> None:
    environment = {"BLUSH_ONNX_CACHE": str(tmp_path / "cache")}
    done = run_cli("relion", "install-wrapper", tmp_path / "bin", env=environment)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bin" / "relion_python_blush").read_text()
    before_python = text.rpartition("exec ")[0]
    for given, expected in ((None, "1"), ("3", "3")):
        call = subprocess.run(
            ["sh", "-c", before_python + "env"], capture_output=True, text=True, check=True,
            env={"PATH": "/usr/bin:/bin"} | ({"OPENBLAS_NUM_THREADS": given} if given else {}),
        )
        assert f"BLUSH_ONNX_CACHE={tmp_path / 'cache'}" in call.stdout.splitlines()
        assert f"OPENBLAS_NUM_THREADS={expected}" in call.stdout.splitlines()


@pytest.mark.parametrize(
    ("given", "pinned"), [("off", "off"), ("graphs", "{cwd}/graphs"), ("~/graphs", "{home}/graphs")]
)
def test_that_folder_is_pinned_as_what_it_means_here(
    given: str, pinned: str, tmp_path: Path
) -> None:
    (tmp_path / "off").write_text("a file of that name")
    done = run_cli(
        "relion", "install-wrapper", "bin", cwd=tmp_path,
        env={"BLUSH_ONNX_CACHE": given, "HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bin" / "relion_python_blush").read_text()
    value = pinned.format(cwd=tmp_path, home=tmp_path / "home")
    assert f"export BLUSH_ONNX_CACHE={value}\n" in text


def test_relative_settings_are_pinned_as_what_they_mean_here(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = run_cli(
        "relion", "install-wrapper", "bin", env={"BLUSH_ONNX_HOME": "models"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bin" / "relion_python_blush").read_text()
    assert f"export BLUSH_ONNX_HOME={tmp_path / 'models'}" in text
    assert str(tmp_path / "bin" / "relion_blush_external") in done.stdout


def test_nothing_is_written_where_it_would_not_work(tmp_path: Path) -> None:
    env = {"BLUSH_ONNX_MODEL": "gone"}
    assert_fails(run_cli("relion", "install-wrapper", tmp_path / "bin", env=env), "unknown model")
    assert listing(tmp_path) == []


def test_programs_of_others_are_not_replaced_unasked(tmp_path: Path) -> None:
    other = tmp_path / "relion_python_blush"
    other.write_text("#!/bin/sh\n# of RELION, not blush_onnx\n")
    assert_fails(run_cli("relion", "install-wrapper", tmp_path), "was not written by blush-onnx")
    assert listing(tmp_path) == ["relion_python_blush"]
    assert run_cli("relion", "install-wrapper", tmp_path, "--overwrite").returncode == 0
    assert run_cli("relion", "install-wrapper", tmp_path).returncode == 0


def test_it_says_when_it_is_first_on_path_already(tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = run_cli("relion", "install-wrapper", tmp_path, env={"PATH": path})
    assert "in front of RELION" not in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert_fails(run_cli("relion", "install-wrapper", tmp_path / "bin"), "cannot write to")
