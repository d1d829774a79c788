"""One job, from the STAR file to the map, the log and what RELION reads."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx.models import bundled_default
from tests.cli.relion_calls import accepted, call_as_relion, log_of
from tests.hosts.test_relion import BOX, FSC, PIXEL_SIZE, made_up_job

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")


@pytest.mark.parametrize("tag", ["_half1", "_half2", ""])
def test_a_job_is_answered_with_success_and_a_map(tag: str, project: Path) -> None:
    star = made_up_job(project, tag)
    done = call_as_relion(f"{star.name}  --gpu -1 ", project)
    assert (done.stdout, done.returncode, done.stderr) == ("success\n", 0, "")
    with mrcfile.open(star.with_suffix(".mrc")) as mrc:
        assert mrc.data.shape == (BOX,) * 3
        assert mrc.data.dtype == np.float32
        assert np.isfinite(mrc.data).all()
        assert mrc.data.any()
        assert mrc.voxel_size.x == pytest.approx(PIXEL_SIZE)
        assert mrc.header.origin.item() == (0, 0, 0)
    assert star.with_name(f"{star.stem}_denoised.mrc").exists() == (tag == "")
    log = log_of(star)
    for part in ("model tiny", "SHA-256", "running on the CPU", "network:", "done:"):
        assert part in log


@pytest.mark.parametrize("how", ["full disk", "folder"])
def test_a_log_that_cannot_be_written_stops_nothing(how: str, project: Path) -> None:
    star = made_up_job(project)
    if how == "folder":
        star.with_suffix(".log").mkdir()
    else:
        star.with_suffix(".log").symlink_to("/dev/full")
    done = call_as_relion(star.name, project)
    assert accepted(done), done.stderr
    assert star.with_suffix(".mrc").exists()
    assert done.stderr.count("\n") < 5
    assert "log" in done.stderr
    if how == "folder":  # what is loud is still heard
        assert "Warning: running on the CPU" in done.stderr


def test_the_bundled_model_is_named_loudly(project: Path) -> None:
    star = made_up_job(project)
    done = call_as_relion(f"{star.name} -s 43", project, BLUSH_ONNX_MODEL="")
    assert accepted(done), done.stderr
    warning = f"WARNING the official weights are not registered: using {bundled_default()}"
    assert warning in log_of(star)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PixelSize": 0}, "rlnPixelSize is 0"),
        ({"ReferenceDimensionality": 2}, "2-D references"),
        ({"PixelSize": None}, "give --pixel-size"),
        ({"ExtReconsWeight": "gone.mrc"}, "gone.mrc does not exist"),
    ],
)
def test_a_job_that_cannot_be_done_says_why_in_one_line(
    change: dict[str, object], message: str, project: Path
) -> None:
    star = made_up_job(project, **change)
    done = call_as_relion(star.name, project)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert f"(more in {star.stem}.log)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_job_is_an_error_without_a_log(project: Path) -> None:
    done = call_as_relion("none/run.star", project)
    assert not accepted(done)
    assert done.stderr.startswith("Error: none/run.star does not exist (the current folder is ")
    assert not (project / "none").exists()


def test_stale_results_and_spectra_are_gone_before_work_starts(project: Path) -> None:
    star = made_up_job(project, ExtReconsWeight="gone.mrc")
    stale = [star.with_suffix(".mrc"), star.with_name(f"{star.stem}_out.star")]
    for path in stale:
        path.write_text("of an earlier run")
    assert not accepted(call_as_relion(star.name, project))
    assert not any(path.exists() for path in stale)


@pytest.mark.filterwarnings("ignore:Data array contains")
def test_a_map_that_would_ruin_the_run_is_not_written(project: Path) -> None:
    star = made_up_job(project, "")  # joined: RELION's own map is the result
    for part in ("data_real", "data_imag"):
        path = star.with_name(f"{star.stem}_{part}.mrc")
        with mrcfile.open(path, mode="r+") as mrc:
            mrc.data[:] = 0
    done = call_as_relion(star.name, project)
    assert not accepted(done)
    assert not star.with_suffix(".mrc").exists()


def test_a_folder_called_half1_does_not_change_the_mode(project: Path) -> None:
    folder = project / "half1_test"
    star = made_up_job(folder, "", fsc=0 * FSC)
    done = call_as_relion(star.name, folder)
    assert accepted(done), done.stderr
    assert f"{star.name}: classification" in log_of(star)


def test_what_libraries_print_does_not_reach_relion(project: Path) -> None:
    star = made_up_job(project)
    noisy = project / "noisy"
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(
        "import atexit, os\natexit.register(os.write, 1, b'bye')\n"
        "import mrcfile\nreal = mrcfile.mmap\n"
        "def mmap(*a, **k):\n    print('hello'); os.write(1, b'from C'); return real(*a, **k)\n"
        "mrcfile.mmap = mmap\n"
    )
    done = call_as_relion(star.name, project, PYTHONPATH=str(noisy))
    assert done.stdout == "success\n"
    assert "from C" in done.stderr


def test_the_published_smoothing_mask_is_applied_only_when_asked_for(project: Path) -> None:
    star = made_up_job(project)
    assert accepted(call_as_relion(star.name, project))
    plain = mrcfile.read(star.with_suffix(".mrc"))
    mask = np.zeros((BOX,) * 3, dtype=np.float32)
    mask[: BOX // 2] = 1
    with mrcfile.new(project / "blush_smoothing_mask.mrc") as mrc:
        mrc.set_data(mask)
    assert accepted(call_as_relion(star.name, project))
    assert "WARNING blush_smoothing_mask.mrc lies in the working folder" in log_of(star)
    np.testing.assert_array_equal(mrcfile.read(star.with_suffix(".mrc")), plain)
    done = call_as_relion(f"{star.name} --smoothing-mask blush_smoothing_mask.mrc", project)
    assert accepted(done), done.stderr
    smooth = mrcfile.read(star.with_suffix(".mrc"))
    np.testing.assert_array_equal(smooth[: BOX // 2], plain[: BOX // 2])
    assert smooth[BOX // 2 :].std() < 0.9 * plain[BOX // 2 :].std()
