"""What an embedder gets from the package as such."""

from __future__ import annotations

import ast
import os
import re
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
        assert not re.search(r"^\s*(import|from) torch", path.read_text(), re.MULTILINE), path


def test_the_public_names_are_there() -> None:
    for name in blush_onnx.__all__:
        assert hasattr(blush_onnx, name)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_are_fast(arguments: list[str]) -> None:
    resource = pytest.importorskip("resource", reason="this system does not tell CPU times")
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


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "blush_onnx":
            found |= {f"blush_onnx.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blush_onnx."):
            found |= {str(node.module), *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def test_data_flows_one_way() -> None:
    """Nothing below the command line knows of it, and no module leads back to itself."""
    package = ROOT / "blush_onnx"
    modules = {
        "blush_onnx." + ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    arrows = {name: imports_of(path) & modules.keys() for name, path in modules.items()}
    for name, targets in arrows.items():
        if not name.startswith("blush_onnx.cli."):
            assert not any(t.startswith("blush_onnx.cli.") for t in targets), name

    def reach(name: str, seen: set[str]) -> set[str]:
        for target in arrows[name] - seen:
            reach(target, seen | {target})
            seen.add(target)
        return seen

    for name in modules:
        assert name not in reach(name, set()), name


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
    assert done.returncode == 1, done.stdout + done.stderr  # 1: looked and found nothing
