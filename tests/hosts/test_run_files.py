from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from blush_onnx.hosts.relion.job import mode_of
from blush_onnx.hosts.relion.run_files import run_facts
from blush_onnx.hosts.relion.treatment import FILE_NAME, compare_with_first

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")


def optimiser(folder: Path, name: str, diameter: float, gradient: int = 0) -> Path:
    path = folder / f"{name}_optimiser.star"
    path.write_text(
        "data_optimiser_general\n\n"
        f"_rlnModelStarFile Refine3D/job001/{name}_half1_model.star\n"
        f"_rlnParticleDiameter {diameter}\n_rlnDoStochasticGradientDescent {gradient}\n"
    )
    return path


def model(folder: Path, name: str, pixel_size: float) -> None:
    (folder / f"{name}_half1_model.star").write_text(
        f"data_model_general\n\n_rlnPixelSize {pixel_size}\n"
    )


def job(folder: Path, root: str) -> Path:
    return folder / f"{root}_class001_external_reconstruct.star"


def test_the_newest_files_up_to_the_iteration_count(tmp_path: Path) -> None:
    for iteration, diameter in ((0, 100), (3, 130), (9, 190)):
        optimiser(tmp_path, f"run_it{iteration:03}", diameter)
        model(tmp_path, f"run_it{iteration:03}", 1 + iteration)
    facts = run_facts(job(tmp_path, "run_it004_half1"), Path())
    assert (facts.particle_diameter, facts.pixel_size) == (130, 4)
    assert facts.started == (tmp_path / "run_it000_optimiser.star").stat().st_mtime


def test_a_continued_run_finds_what_it_goes_on_from(tmp_path: Path) -> None:
    optimiser(tmp_path, "run_it012", 120)
    optimiser(tmp_path, "run_it014", 140)
    other = optimiser(tmp_path, "vdam_it200", 50, gradient=1)
    os.utime(other, (2e9, 2e9))
    facts = run_facts(job(tmp_path, "run_ct12_it013_half2"), Path())
    assert (facts.particle_diameter, facts.gradient) == (120, False)


def test_another_runs_gradient_is_not_ours(tmp_path: Path) -> None:
    optimiser(tmp_path, "vdam_it200", 50, gradient=1)
    assert not run_facts(job(tmp_path, "run_it001_half1"), Path()).gradient
    assert run_facts(job(tmp_path, "vdam_it201"), Path()).gradient


def test_without_files_nothing_is_known(tmp_path: Path) -> None:
    facts = run_facts(job(tmp_path, "run_it001_half1"), Path())
    assert (facts.optimiser, facts.particle_diameter, facts.pixel_size) == (None, None, None)
    (tmp_path / "run_it000_optimiser.star").write_text("half a fi")
    assert run_facts(job(tmp_path, "run_it001_half1"), Path()).particle_diameter is None


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("run_it003_half1_class001_external_reconstruct.star", "refine"),
        ("run_ct7_it1003_half2_body012_external_reconstruct.star", "refine"),
        ("run_half1_class001_external_reconstruct.star", "refine"),
        ("run_it003_class001_external_reconstruct.star", "refine_final"),
        ("half1_it003_class001_external_reconstruct.star", "refine_final"),
        ("renamed_half2.star", "refine"),
    ],
)
def test_the_half_is_read_where_relion_writes_it(name: str, mode: str) -> None:
    assert mode_of(Path("half2") / name, np.ones(9)) == mode


def test_two_halves_of_a_new_run_agree_on_a_first(tmp_path: Path) -> None:
    """A record of an earlier run lies there, and both want to replace it at the same moment."""
    failures: list[BaseException] = []

    def first_call(stride: int, barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            compare_with_first(tmp_path, {"stride": stride}, 2.0)
        except BaseException as error:
            failures.append(error)

    for _ in range(50):
        (tmp_path / FILE_NAME).write_text('{"stride": 1, "run started": 1.0}')
        barrier = threading.Barrier(2)
        halves = [threading.Thread(target=first_call, args=(20, barrier)) for _ in range(2)]
        for half in halves:
            half.start()
        for half in halves:
            half.join()
        assert '"stride": 20' in (tmp_path / FILE_NAME).read_text()
    assert failures == []


def test_a_folder_closed_to_us_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compare_with_first(tmp_path / "gone", {"stride": 20})
    assert "cannot keep" in caplog.text
