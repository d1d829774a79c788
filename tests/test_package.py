"""What an embedder gets from the package as such."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import blush_onnx
from tests.python_without import run_python

ROOT = Path(__file__).parent.parent


def test_importing_loads_no_runtime_and_no_file_reader() -> None:
    done = run_python(
        "import sys, blush_onnx; print(' '.join(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {"onnxruntime", "openvino", "mrcfile", "onnx", "torch", "pooch", "tqdm"}


def test_nothing_needs_torch() -> None:
    done = run_python(
        "import blush_onnx; blush_onnx.Denoiser.load(provider='cpu'); import blush_onnx.fetch",
        without=["torch"],
    )
    assert done.returncode == 0, done.stderr


def test_no_module_of_the_runtime_names_torch() -> None:
    for path in (ROOT / "blush_onnx").rglob("*.py"):
        assert "import torch" not in path.read_text(), path


def test_the_public_names_are_there() -> None:
    for name in blush_onnx.__all__:
        assert hasattr(blush_onnx, name)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_are_fast(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    best = float("inf")
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-c", "from blush_onnx.cli import main; main()", *arguments],
            check=True, stdout=subprocess.DEVNULL, timeout=60,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
        best, before = min(best, seconds), after
    assert best < 0.4


def test_data_flows_one_way() -> None:
    """No module of the numerics knows of hosts or the command line, and there is no cycle."""
    imports = {
        path.stem: {
            line.split()[1].split(".")[-1] if line.startswith("from blush_onnx.") else
            line.split(" import ")[1].split(",")[0].strip()
            for line in path.read_text().splitlines()
            if line.startswith(("from blush_onnx.", "from blush_onnx import "))
        }
        for path in (ROOT / "blush_onnx").glob("*.py")
        if path.stem != "__init__"
    }
    order = ["errors", "fourier", "masks", "boxes", "patches", "fsc", "machine", "grids",
             "model_config", "models", "denoiser", "references", "regularise"]
    for place, module in enumerate(order):
        later = set(order[place + 1 :]) | {"cli", "hosts", "report"}
        assert not imports[module] & later, module


def test_versions_and_extras_are_stated_once() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert not any("onnxruntime" in d or "torch" in d for d in project["dependencies"])
    for name, needs in project["optional-dependencies"].items():
        twins = {d.split("[")[0].split(">")[0] for d in needs if d.startswith("onnxruntime")}
        assert len(twins) <= 1, name


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {blush_onnx.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.skipif(os.name == "nt", reason="no such shell")
def test_no_word_names_a_place_of_the_developers() -> None:
    done = subprocess.run(
        ["git", "grep", "-lIE", r"/(work|root|home/[a-z]+)/", "--", ":!tests/test_package.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.stdout == ""
