"""Refinements by a real RELION that calls this program in every iteration.

RELION's programs are looked up on PATH; $BLUSH_TEST_RELION5 may name a folder with those
of RELION 5, for what only it does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx.hosts.relion.wrapper import install_wrappers
from tests.conftest import blob_and_noise, need, write_mrc

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")

BOX, PIXEL_SIZE, DIAMETER = 32, 4.0, 90
PARTICLE_RADIUS = 170 / 2 / 3.0
"""Of the larger set's particles, voxels."""
RELION_5 = os.environ.get("BLUSH_TEST_RELION5", "")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# What an MPI set-up does to its children; ours must not obey it.
ENVIRONMENT = {**os.environ, **AS_ROOT, "OMP_NUM_THREADS": "1"}
COMMON = [
    "--ref", "truth.mrc", "--firstiter_cc", "--ini_high", "30", "--pad", "1",
    "--dont_combine_weights_via_disc", "--preread_images", "--flatten_solvent", "--zero_mask",
    "--oversampling", "1", "--healpix_order", "2", "--offset_range", "3", "--offset_step", "2",
    "--sym", "C1", "--norm", "--scale", "--j", "1", "--random_seed", "7",
    "--particle_diameter", str(DIAMETER), "--i", "particles.star",
]  # fmt: skip
AUTO_REFINE = [
    "--auto_refine", "--split_random_halves", "--auto_local_healpix_order", "2",
    "--low_resol_join_halves", "40",
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with 120 particles, simulated by relion_project, and our programs."""
    need("relion", shutil.which("relion_refine_mpi") is not None, "RELION is not installed")
    folder = tmp_path_factory.mktemp("project")
    write_mrc(folder / "truth.mrc", blob_and_noise((BOX,) * 3, 0, 0.0), PIXEL_SIZE)
    subprocess.run(
        ["relion_project", "--i", "truth.mrc", "--o", "particles", "--nr_uniform", "120",
         "--angpix", str(PIXEL_SIZE), "--add_noise", "--white_noise", "2"],
        cwd=folder, check=True, capture_output=True,
    )
    install_wrappers(folder / "bin")
    return folder


def refine(
    project: Path, out: str, *arguments: str, program: str = "relion_refine_mpi", ours: str = "",
    relion: str = "",
) -> subprocess.CompletedProcess[str]:
    (project / out).mkdir(exist_ok=True)
    call = [program, "--o", f"{out}/run", *arguments]
    if program.endswith("_mpi"):
        call = ["mpirun", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-n", "3", *call]
    environment = dict(ENVIRONMENT)
    environment["PATH"] = os.pathsep.join(filter(None, [
        str(project / "bin"), relion, environment["PATH"]
    ]))
    environment["RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE"] = f"relion_blush_external {ours}"
    environment["RELION_BLUSH_ARGS"] = ours
    environment["BLUSH_ONNX_LOCKS"] = str(project)
    return subprocess.run(
        call, cwd=project, env=environment, capture_output=True, text=True, timeout=800
    )


def logs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.log"))}


@pytest.mark.relion
@pytest.mark.slow
def test_auto_refine_of_two_iterations_and_the_joined_one(
    project: Path, tiny_model: Path
) -> None:
    ours = f"--model {tiny_model} --stride 30"
    done = refine(
        project, "auto", *COMMON, *AUTO_REFINE, "--external_reconstruct", "--auto_iter_max", "2",
        ours=ours,
    )
    assert done.returncode == 0, done.stderr
    folder = project / "auto"
    halves = logs(folder)
    assert len(halves) == 4, list(halves)
    for text in halves.values():
        assert "pixel size 4 Å, from the model file" in text
        assert "done:" in text
    assert "blush-onnx: run_it001_half1_class001" in done.stdout
    result = mrcfile.read(folder / "run_it002_half1_class001_external_reconstruct.mrc")
    assert result.shape == (BOX,) * 3
    # The optimiser file of the second iteration is there: go on from it, to the joined one.
    done = refine(
        project, "auto", "--continue", "auto/run_it002_optimiser.star", "--force_converge",
        "--external_reconstruct", ours=ours,
    )
    assert done.returncode == 0, done.stderr
    joined = "run_it003_class001_external_reconstruct"
    assert "refine_final" in logs(folder)[f"{joined}.log"]
    assert (folder / f"{joined}_denoised.mrc").exists()
    assert (folder / "run_class001.mrc").exists()


@pytest.mark.relion
@pytest.mark.slow
def test_classification_of_two_iterations(project: Path, tiny_model: Path) -> None:
    done = refine(
        project, "classes", *COMMON, "--K", "2", "--iter", "2", "--external_reconstruct",
        program="relion_refine", ours=f"--model {tiny_model} --stride 30",
    )
    assert done.returncode == 0, done.stderr
    found = logs(project / "classes")
    assert len(found) >= 2
    assert all(": classification," in text for text in found.values())


@pytest.mark.relion
@pytest.mark.slow
def test_our_error_reaches_the_user_of_relion(project: Path) -> None:
    done = refine(
        project, "failing", *COMMON, *AUTO_REFINE, "--external_reconstruct", "--auto_iter_max", "1",
        ours="--gpu 0",
    )
    assert done.returncode != 0
    assert "Error: --gpu 0 was asked for, but no engine for cards is installed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not RELION_5, reason="$BLUSH_TEST_RELION5 names no folder")
@pytest.mark.slow
def test_relion_5_with_blush(project: Path, tiny_model: Path) -> None:
    done = refine(
        project, "blush", *COMMON, *AUTO_REFINE, "--blush", "--auto_iter_max", "2",
        program=f"{RELION_5}/relion_refine_mpi", ours=f"--debug --model {tiny_model} -s 30",
    )
    assert done.returncode == 0, done.stderr
    found = logs(project / "blush")
    assert len(found) == 4
    assert all("done:" in text and "--gpu -1" in text for text in found.values())
    done = refine(
        project, "vdam", *COMMON, "--blush", "--grad", "--denovo_3dref", "--iter", "2",
        program=f"{RELION_5}/relion_refine", ours=f"--model {tiny_model}",
    )
    assert done.returncode != 0
    assert "gradient (VDAM) run" in done.stderr
    assert "Something went wrong in the external Python call" in done.stderr


@pytest.fixture(scope="module")
def larger_project(external_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 simulated particles of 136 kDa, with our programs."""
    need("relion", shutil.which("relion_refine_mpi") is not None, "RELION is not installed")
    folder = tmp_path_factory.mktemp("larger")
    for path in (external_data / "relion" / "dataset").iterdir():
        shutil.copy(path, folder)
    install_wrappers(folder / "bin")
    return folder


def correlation(found: Path, truth: Path) -> float:
    """Inside the particle's sphere: RELION damps the corners of its own final map, and reads
    one that was reconstructed for it as it is."""
    maps = [mrcfile.read(path) for path in (found, truth)]
    x = np.arange(len(maps[0])) - len(maps[0]) // 2
    inside = x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 < PARTICLE_RADIUS**2
    return float(np.corrcoef(*(values[inside] for values in maps))[0, 1])


@pytest.mark.whole_run
@pytest.mark.timeout(0)
@pytest.mark.relion
@pytest.mark.openvino
def test_a_whole_auto_refine_converges_and_is_no_worse_than_a_plain_one(
    larger_project: Path,
) -> None:
    found = {}
    for arm in ("plain", "ext"):
        done = subprocess.run(
            ["bash", "refine.sh", arm, "s64_start.star", arm], cwd=larger_project,
            capture_output=True, text=True, env={
                **ENVIRONMENT,
                "RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE": "bin/relion_blush_external",
            },
        )
        assert done.returncode == 0, done.stderr
        assert "Auto-refine: Refinement has converged, stopping now" in done.stdout
        found[arm] = correlation(
            larger_project / arm / "run_class001.mrc", larger_project / "truth_full_64.mrc"
        )
    print("correlation with the truth:", found)
    assert found["ext"] > found["plain"] - 0.01


@pytest.mark.whole_run
@pytest.mark.timeout(0)
@pytest.mark.relion
@pytest.mark.openvino
def test_a_whole_classification_ends_and_is_no_worse_than_a_plain_one(
    larger_project: Path,
) -> None:
    found = {}
    for arm, extra in (("plain", []), ("ext", ["--external_reconstruct"])):
        (larger_project / f"classes_{arm}").mkdir()
        done = subprocess.run(
            ["relion_refine", "--o", f"classes_{arm}/run", "--i", "s64_start.star", "--ref",
             "truth_full_64.mrc", "--ini_high", "40", "--pad", "1", "--ctf", "--K", "2", "--iter",
             "5", "--tau2_fudge", "4", "--particle_diameter", "170", "--zero_mask",
             "--flatten_solvent", "--oversampling", "1", "--healpix_order", "3", "--sigma_ang",
             "5", "--offset_range", "4", "--offset_step", "2", "--norm", "--scale", "--pool", "10",
             "--preread_images", "--dont_combine_weights_via_disc", "--random_seed", "7", "--j",
             "2", *extra],
            cwd=larger_project, capture_output=True, text=True, env={
                **ENVIRONMENT,
                "RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE": "bin/relion_blush_external",
            },
        )
        assert done.returncode == 0, done.stderr
        found[arm] = max(
            correlation(path, larger_project / "truth_full_64.mrc")
            for path in (larger_project / f"classes_{arm}").glob("run_it005_class???.mrc")
        )
    print("correlation of the better class with the truth:", found)
    assert found["ext"] > found["plain"] - 0.01
