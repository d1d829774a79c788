from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import pytest

from blush_onnx.hosts.relion import external
from tests.cli.helpers import COMMAND, listing, run_cli
from tests.conftest import blob_and_noise, write_mrc

cif = pytest.importorskip("gemmi", reason="gemmi reads the STAR files").cif

RESULTS = {"denoised.mrc", "denoised_1.mrc", "denoised_2.mrc", "mask.mrc", "report.json"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A project with the half-maps of a refinement, named as RELION names them."""
    monkeypatch.setenv("BLUSH_ONNX_MODEL", str(tiny_model))
    for half in (1, 2):
        name = f"run_half{half}_class001_unfil.mrc"
        write_mrc(tmp_path / name, blob_and_noise((40, 40, 40), half))
    return tmp_path


def run_external(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run_cli("relion", "external", "--o", "External/job007/", *args, cwd=project)


def nodes(project: Path) -> dict[str, tuple[str, str]]:
    document = cif.read(str(project / "External" / "job007" / external.OUTPUT_NODES))
    table = document.find_block("output_nodes").find(
        ["_rlnPipeLineNodeName", "_rlnPipeLineNodeTypeLabel", "_rlnPipeLineNodeType"]
    )
    return {row[0]: (row[1], row[2]) for row in table}


def test_a_half_map_brings_its_other_half(project: Path) -> None:
    done = run_external(
        project, "--in_3dref", "run_half2_class001_unfil.mrc", "--particle_diameter", "60",
        "--j", "1",
    )
    assert done.returncode == 0, done.stderr
    folder = project / "External" / "job007"
    assert set(listing(folder)) == RESULTS | {external.SUCCESS, external.OUTPUT_NODES}
    found = nodes(project)
    assert found["External/job007/denoised_1.mrc"] == ("DensityMap.mrc", "6")
    assert found["External/job007/mask.mrc"] == ("Mask3D.mrc", "7")
    assert len(found) == 4
    assert not any("halfmap" in label for label, _ in found.values())
    with mrcfile.open(folder / "denoised_1.mrc") as mrc:
        assert "no half-map" in str(mrc.get_labels())
    assert "patches" in done.stdout


def test_both_halves_may_be_named_and_unknown_flags_are_left_alone(project: Path) -> None:
    write_mrc(project / "a.mrc", blob_and_noise((40, 40, 40), 1))
    write_mrc(project / "b.mrc", blob_and_noise((40, 40, 40), 2))
    done = run_external(
        project, "--half1", "a.mrc", "--half2", "b.mrc", "--in_parts", "particles.star",
        "--future-flag", "--another", "3", "--j", "2",
    )
    assert done.returncode == 0, done.stderr
    assert "left alone: --in_parts particles.star --future-flag --another 3" in done.stdout
    assert "External/job007/denoised_2.mrc" in nodes(project)


def test_one_map_is_denoised_as_a_class(project: Path) -> None:
    write_mrc(project / "class001.mrc", blob_and_noise((40, 40, 40), 1))
    write_mrc(project / "mask.mrc", abs(blob_and_noise((40, 40, 40), 1)).clip(0, 1))
    done = run_external(project, "--in_3dref", "class001.mrc", "--in_mask", "mask.mrc")
    assert done.returncode == 0, done.stderr
    assert "mask.mrc is not used" in done.stdout
    assert set(nodes(project)) == {"External/job007/denoised.mrc", "External/job007/mask.mrc"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--in_3dref", "gone.mrc"], "gone.mrc does not exist"),
        (["--in_3dref", "lone_half1.mrc"], "lone_half2.mrc does not exist"),
        ([], "give a half-map or a map as --in_3dref"),
    ],
)
def test_a_failure_is_told_to_the_pipeline(
    args: list[str], message: str, project: Path
) -> None:
    write_mrc(project / "lone_half1.mrc", blob_and_noise((40, 40, 40), 1))
    done = run_external(project, *args)
    assert done.returncode != 0
    assert message in done.stderr
    assert listing(project / "External" / "job007") == [external.FAILURE]


@pytest.mark.parametrize(
    "args", [["--particle_diameter", "--j", "1"], ["--stride", "abc"], ["--provider", "gpu"]]
)
def test_wrong_usage_is_told_to_the_pipeline_too(args: list[str], project: Path) -> None:
    done = run_external(project, "--in_3dref", "run_half1_class001_unfil.mrc", *args)
    assert done.returncode == 2
    assert listing(project / "External" / "job007") == [external.FAILURE]


def test_what_an_earlier_run_left_does_not_stay(project: Path) -> None:
    run_external(project, "--in_3dref", "run_half1_class001_unfil.mrc", "--gpu", "0,1")
    folder = project / "External" / "job007"
    assert "denoised_1.mrc" in listing(folder)
    run_external(project, "--in_3dref", "gone.mrc")
    assert listing(folder) == [external.FAILURE]


def test_a_second_attempt_clears_the_first(project: Path) -> None:
    run_external(project, "--in_3dref", "gone.mrc")
    done = run_external(project, "--in_3dref", "run_half1_class001_unfil.mrc")
    assert done.returncode == 0
    assert external.FAILURE not in listing(project / "External" / "job007")


@pytest.mark.parametrize("how", ["file", "signal"])
def test_an_abort_ends_the_job(how: str, project: Path) -> None:
    folder = project / "External" / "job007"
    process = subprocess.Popen(
        [*COMMAND, "relion", "external", "--o", "External/job007/", "--in_3dref",
         "run_half1_class001_unfil.mrc", "--stride", "1"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while "patches" not in (line := process.stdout.readline()):
        assert line, process.communicate()[1]
    if how == "file":
        (folder / external.ABORT_NOW).touch()
        expected, status = external.ABORTED, 1
    else:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        expected, status = external.FAILURE, 128 + signal.SIGTERM
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert listing(folder) == [expected]


def test_it_runs_on_the_python_it_was_installed_for() -> None:
    """`python -m blush_onnx` is the same program, for a GUI that has no PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "blush_onnx", "relion", "external", "--help"],
        capture_output=True, text=True, check=True,
    )
    assert "Input 3D reference" in done.stdout
