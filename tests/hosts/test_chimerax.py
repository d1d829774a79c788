"""The bundle for ChimeraX without ChimeraX: what it runs, what it reads, how it is described.

$BLUSH_TEST_CHIMERAX may name a checkout of ChimeraX's source, whose own bundle builder then
builds the bundle, and in which every name is looked up that the bundle imports from it.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import mrcfile
import numpy as np
import pytest

from tests.cli.helpers import listing
from tests.conftest import Volume, blob_and_noise, need
from tests.hosts.environments import make_environment

BUNDLE = Path(__file__).parent.parent.parent / "chimerax"
CHIMERAX = os.environ.get("BLUSH_TEST_CHIMERAX", "")
SIDE = 40


@pytest.fixture(scope="session")
def bundle() -> ModuleType:
    """The bundle's part that knows nothing of ChimeraX."""
    spec = importlib.util.spec_from_file_location(
        "chimerax_denoising", BUNDLE / "src" / "denoising.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command itself, where every name of ChimeraX stands for nothing."""
    for name in ("core.commands", "core.errors", "core.triggerset", "map"):
        monkeypatch.setitem(sys.modules, f"chimerax.{name}", MagicMock())
    spec = importlib.util.spec_from_file_location("blushonnx", BUNDLE / "src" / "__init__.py")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "blushonnx", importlib.util.module_from_spec(spec))
    module = importlib.import_module("blushonnx.command")
    for name in ("blushonnx.command", "blushonnx.denoising"):
        monkeypatch.setitem(sys.modules, name, sys.modules.pop(name))
    monkeypatch.setattr(module, "_python", lambda: sys.executable)
    return module


@pytest.fixture
def grid(bundle: ModuleType) -> Callable[..., Any]:
    """Maker of maps as ChimeraX has them."""

    def make(values: Volume, path: Path | None = None, **more: Any) -> Any:
        settings: dict[str, Any] = {
            "name": path.name if path else "in memory", "path": str(path or ""),
            "file_type": "mrc" if path else "", "values": lambda: values,
            "size": values.shape[::-1], "origin": (0.0, 0.0, 0.0), "step": (2.0, 2.0, 2.0),
        }
        return bundle.Grid(**(settings | more))

    return make


def finish(bundle: ModuleType, running: Any) -> Any:
    running.process.wait(timeout=120)
    return bundle.outcome(running)


def test_two_files_come_back_as_maps_to_open_and_a_report(
    bundle: ModuleType, grid: Callable[..., Any], half_maps: tuple[Path, Path], tiny_model: Path,
    tmp_path: Path,
) -> None:
    halves = [grid(mrcfile.read(path), path) for path in half_maps]
    mask = np.zeros((SIDE,) * 3, dtype=np.float32)
    mask[6:34, 6:34, 6:34] = 1
    running = bundle.start(
        sys.executable, halves, {"mask": grid(mask), "denoise_mask": None},
        {"model": tiny_model, "particle_diameter": 60.0, "provider": "cpu", "cut_off": None},
        tmp_path / "a folder", report=True,
    )
    found = finish(bundle, running)
    assert list(found.maps) == [
        "denoised", "denoised half 1", "denoised half 2", "network's mask"
    ]
    assert all(mrcfile.read(path).shape == (SIDE,) * 3 for path in found.maps.values())
    assert [source["path"] for source in found.record["inputs"]] == list(map(str, half_maps))
    assert "solvent_corrected" in found.record["fsc"]["curves"]
    assert found.record["settings"]["particle_diameter"] == 60
    assert found.report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (found.colour_by, found.limits) == ("network's mask", (0, 1))
    assert not Path(running.inputs.name).exists()
    told = bundle.summary(found).split("<br>")
    assert f"Cut-off: {found.record['cut_off']['angstrom']:.2f} Å" in told
    assert any("not half-maps" in line for line in told)


def test_a_map_in_memory_keeps_its_place_and_is_treated_as_a_class(
    bundle: ModuleType, grid: Callable[..., Any], tiny_model: Path, tmp_path: Path
) -> None:
    moved = grid(blob_and_noise((SIDE,) * 3, 1).astype(np.float64), origin=(-40.0, 10.0, 2.5))
    found = finish(bundle, bundle.start(
        sys.executable, [moved], {}, {"model": tiny_model, "rotations": 2, "provider": "cpu"},
        tmp_path, report=False,
    ))
    assert list(found.maps) == ["denoised", "network's mask", "spread over orientations"]
    with mrcfile.open(found.maps["denoised"]) as mrc:
        assert mrc.header.origin.tolist() == (-40.0, 10.0, 2.5)
        assert mrc.voxel_size.x == pytest.approx(2)
    assert found.report is None
    assert found.colour_by == "spread over orientations"
    assert found.limits[0] == 0 < found.limits[1]
    assert "Resolution" not in bundle.summary(found)


def test_what_the_program_says_reaches_the_user(
    bundle: ModuleType, grid: Callable[..., Any], half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    half = grid(mrcfile.read(half_maps[0]), half_maps[0])
    running = bundle.start(
        sys.executable, [half, half], {}, {}, tmp_path / "out", report=False
    )
    with pytest.raises(bundle.Failure, match=r"^.*half1.mrc and .* are the same map"):
        finish(bundle, running)


def test_a_run_that_is_stopped_leaves_its_log_alone(
    bundle: ModuleType, grid: Callable[..., Any], half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    halves = [grid(mrcfile.read(path), path) for path in half_maps]
    running = bundle.start(
        sys.executable, halves, {}, {"stride": 1}, tmp_path / "out", report=False
    )
    deadline = time.monotonic() + 60
    while len(listing(tmp_path / "out")) < 2 and time.monotonic() < deadline:
        assert bundle.outcome(running) is None
        time.sleep(0.1)
    bundle.stop(running)
    assert listing(tmp_path / "out") == ["blush-onnx.log"]
    bundle.stop(running)  # as when ChimeraX quits after all is done


def test_maps_that_are_closed_meanwhile_do_not_cost_the_results(
    command: ModuleType, half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    origin, step = (3.0, 4.0, 5.0), (2.0, 2.0, 2.0)
    maps = [
        SimpleNamespace(
            name=path.name, deleted=False, scene_position="there", full_matrix=None,
            data=SimpleNamespace(
                path=str(path), file_type="mrc", size=(SIDE,) * 3, origin=origin, step=step,
                cell_angles=(90.0,) * 3, rotation=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
            ),
        ) for path in half_maps
    ]
    opened: list[MagicMock] = []

    def run(_session: Any, text: str, **_: Any) -> list[MagicMock]:
        if text.startswith("open "):
            opened.append(MagicMock(deleted=False))
        return opened[-1:]

    monkeypatch.setattr(command, "run", run)
    session = MagicMock()
    handlers: dict[str, Any] = {}
    session.triggers.add_handler = handlers.__setitem__
    command.blush(session, maps, model=str(tiny_model), output_folder=str(tmp_path), report=False)
    for closed in maps:
        closed.data, closed.deleted = None, True  # as Volume.delete leaves them
    deadline = time.monotonic() + 60
    while handlers["new frame"]() is not command.DEREGISTER:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(opened) == 4
    for model in opened:
        model.data.set_origin.assert_called_once_with(origin)
        assert model.position == "there"
    assert [model.display for model in opened] == [True, False, False, False]


def test_a_folder_that_cannot_be_written_to_is_refused_in_one_line(
    bundle: ModuleType, grid: Callable[..., Any], half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    halves = [grid(mrcfile.read(path), path) for path in half_maps]
    (tmp_path / "file").touch()
    with pytest.raises(bundle.Failure, match=r"nothing can be written to .*: Not a directory"):
        bundle.start(sys.executable, halves, {}, {}, tmp_path / "file" / "out", report=False)


def test_results_are_found_from_another_folder_than_the_one_they_were_asked_for_in(
    bundle: ModuleType, grid: Callable[..., Any], half_maps: tuple[Path, Path], tiny_model: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    halves = [grid(mrcfile.read(path), path) for path in half_maps]
    running = bundle.start(
        sys.executable, halves, {}, {"model": tiny_model}, Path("out"), report=False
    )
    monkeypatch.chdir(tmp_path / "elsewhere")  # ChimeraX's command cd
    assert finish(bundle, running).maps["denoised"].is_file()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"step": (2.0, 2.0, 2.1)}, "different voxel sizes"),
        ({"angles": (90.0, 90.0, 120.0)}, "skewed or rotated"),
        ({"rotation": ((0, 1, 0), (-1, 0, 0), (0, 0, 1))}, "skewed or rotated"),
        ({"size": (SIDE, SIDE, 32)}, "40 x 40 x 32 voxels"),
        ({"step": (1.5, 1.5, 1.5)}, "voxels of 1.5 Å"),
    ],
)
def test_maps_that_do_not_fit_are_refused_before_anything_runs(
    bundle: ModuleType, grid: Callable[..., Any], change: dict[str, Any], why: str
) -> None:
    values = blob_and_noise((SIDE,) * 3, 1)
    with pytest.raises(bundle.Failure, match=why):
        bundle.check([grid(values), grid(values, **change)])


def description() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    text = (BUNDLE / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)
    return found


def test_the_bundle_leaves_chimeraxs_own_packages_alone() -> None:
    project = description()["project"]
    others = [d for d in project["dependencies"] if not d.startswith("ChimeraX-")]
    assert others == ["blush-onnx[cpu,report]"]


def test_the_words_of_the_command_are_the_arguments_of_its_function() -> None:
    tree = ast.parse((BUNDLE / "src" / "command.py").read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "blush")
    arguments = [a.arg for a in (*function.args.args[1:], *function.args.kwonlyargs)]
    (call,) = (
        n for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "CmdDesc"
    )
    words = [
        pair.elts[0].value
        for keyword in call.keywords if isinstance(keyword.value, ast.List)
        for pair in keyword.value.elts
        if isinstance(pair, ast.Tuple) and isinstance(pair.elts[0], ast.Constant)
    ]
    assert words == arguments
    help_page = (BUNDLE / "src" / "docs" / "user" / "commands" / "blush.html").read_text()
    for word in words[1:]:
        first, *rest = str(word).split("_")
        assert f"<b>{first + ''.join(map(str.capitalize, rest))}</b>" in help_page


@pytest.mark.hosts
def test_chimeraxs_own_builder_builds_the_bundle(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    need("chimerax", bool(CHIMERAX), "$BLUSH_TEST_CHIMERAX is not set")
    builder, copy = tmp_path / "builder", tmp_path / "bundle"
    shutil.copytree(Path(CHIMERAX) / "src" / "bundles" / "bundle_builder", builder)
    shutil.copytree(BUNDLE, copy)
    python = make_environment(
        "bundle_builder", str(builder), "setuptools<81", "wheel", "cython", "numpy", "packaging",
        temporary=tmp_path_factory,
    )
    done = subprocess.run(
        [python, "-c", "import logging\nfrom chimerax.bundle_builder.bundle_builder_toml import "
         "Bundle\nBundle.from_path(logging.getLogger(), '.').build_wheel()"],
        cwd=copy, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (n for n in names if n.endswith("/METADATA"))
        headers = Parser().parsestr(archive.read(metadata).decode())
    for name in ("__init__.py", "command.py", "denoising.py", "docs/user/commands/blush.html"):
        assert f"chimerax/blushonnx/{name}" in names
    classifiers = headers.get_all("Classifier") or []
    assert any(c.startswith("ChimeraX :: Command :: blush :: Volume Data ::") for c in classifiers)
    assert any(c.startswith("ChimeraX :: Bundle :: Volume Data :: 1,1 ::") for c in classifiers)
    assert "numpy" not in " ".join(headers.get_all("Requires-Dist") or []).lower()


@pytest.mark.hosts
def test_every_name_that_is_taken_from_chimerax_is_there() -> None:
    need("chimerax", bool(CHIMERAX), "$BLUSH_TEST_CHIMERAX is not set")
    bundles = Path(CHIMERAX) / "src" / "bundles"
    for source in (BUNDLE / "src").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("chim"):
                continue
            _, bundle_name, *rest = str(node.module).split(".")
            place = bundles.joinpath(bundle_name, "src", *rest)
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            text = file.read_text(encoding="utf-8")
            for alias in node.names:
                assert alias.name in text, f"{node.module}.{alias.name}"
