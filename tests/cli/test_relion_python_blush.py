from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx import InputError
from blush_onnx.cli.relion.job_options import job_request
from blush_onnx.cli.relion.python_blush import relion_python_blush
from blush_onnx.machine import available_cpus
from blush_onnx.models import bundled_default
from blush_onnx.sharing.cores import CoreShare
from tests.hosts.test_relion import BOX, FSC, PIXEL_SIZE, made_up_job

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")

PROGRAM = f"{shlex.quote(sys.executable)} -m blush_onnx.cli.relion.python_blush"
"""In place of the name that RELION looks up on PATH."""


def call_as_relion(
    arguments: str, folder: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """What RELION 5 does: a line for the shell, with its own working folder, all stdout read."""
    return subprocess.run(
        f"{PROGRAM} {arguments}", shell=True, cwd=folder, capture_output=True, text=True,
        env={**os.environ, **env}, timeout=120,
    )


def accepted(done: subprocess.CompletedProcess[str]) -> bool:
    """RELION's own test: the trimmed stdout; the exit status is thrown away."""
    return done.stdout.strip() == "success"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """A project folder; the model is the tiny one."""
    monkeypatch.setenv("BLUSH_ONNX_MODEL", str(tiny_model))
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def log_of(star: Path) -> str:
    return star.with_suffix(".log").read_text(encoding="utf-8")


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


ANY_CARD = ["", "--gpu", "--gpu ", '--gpu ""', "--gpu -1", "--gpu=-1", "-g -1", "--gpu , "]
LISTS = {
    "--gpu 0": [0], "-g 0": [0], "--gpu=0": [0], "--gpu 0,1, ": [0, 1], "--gpu 0:1": [0, 1],
    "--gpu 1,1,0": [1, 0],
    # RELION adds its own words behind those of the user.
    "--gpu 1 --gpu -1 ": [1], "--gpu 1 --gpu 0, ": [0],
}  # fmt: skip


@pytest.mark.parametrize(("words", "cards"), [*((w, None) for w in ANY_CARD), *LISTS.items()])
def test_all_forms_of_gpu_are_understood(words: str, cards: list[int] | None) -> None:
    for line in (f"run.star {words}", f"run.star {words} --debug", f"{words} -s 5 run.star"):
        context = relion_python_blush.make_context("relion_python_blush", shlex.split(line))
        assert context.params["star"] == ("run.star",)
        request = job_request(context.params).engine
        assert request.card_numbers() == cards


@pytest.mark.parametrize("words", ["--gpu=all", "--gpu 0,x", "--gpu 0-3", "--gpu 0,-1"])
def test_what_is_no_list_of_cards_is_an_error(words: str) -> None:
    context = relion_python_blush.make_context("relion_python_blush", ["a.star", *words.split()])
    with pytest.raises(InputError, match="give numbers of cards, such as 0,1, or -1 alone"):
        job_request(context.params)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run.star --nope", "No such option"),
        ("run.star --stride many", "not a valid integer"),
        ('""  --gpu -1', "nothing to denoise"),
        ("run.star other.star", "one STAR file is expected, not 2"),
    ],
)
def test_wrong_usage_is_one_line_too(words: str, message: str, project: Path) -> None:
    done = call_as_relion(words, project)
    assert not accepted(done)
    assert message in done.stderr + done.stdout
    assert (done.stderr + done.stdout).count("Error") <= 1
    assert done.stderr.count("\n") <= 1


def test_a_hang_up_does_not_end_a_run_under_nohup(project: Path) -> None:
    star = made_up_job(project)
    process = subprocess.Popen(
        f"trap '' HUP; exec {PROGRAM} {star.name} -s 4", shell=True, cwd=project,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    while "model tiny on" not in (log_of(star) if star.with_suffix(".log").exists() else ""):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60)[0] == "success\n"


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


def test_without_a_card_any_card_is_the_cpu(project: Path) -> None:
    star = made_up_job(project)
    done = call_as_relion(f"{star.name} --gpu  ", project)
    assert accepted(done), done.stderr
    assert "WARNING running on the CPU: " in log_of(star)


def test_a_list_of_cards_without_an_engine_for_them_is_an_error(project: Path) -> None:
    star = made_up_job(project)
    done = call_as_relion(f"{star.name} --gpu 0,1, ", project)
    assert not accepted(done)
    assert done.returncode == 1
    assert 'RELION_BLUSH_ARGS="--provider cpu"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Traceback" in log_of(star)
    assert not star.with_suffix(".mrc").exists()


@pytest.mark.gpu
def test_two_jobs_take_turns_on_one_card(project: Path) -> None:
    stars = [made_up_job(project, tag) for tag in ("_half1", "_half2")]
    running = [
        subprocess.Popen(
            f"{PROGRAM} {star.name} --gpu 0, ", shell=True, cwd=project, text=True,
            stdout=subprocess.PIPE,
        )
        for star in stars
    ]
    assert [process.communicate()[0] for process in running] == ["success\n"] * 2
    assert all("card 0 (GPU-" in log_of(star) for star in stars)


def test_words_of_the_user_come_before_those_of_relion(project: Path) -> None:
    star = made_up_job(project)
    assert accepted(call_as_relion(f"{star.name} --provider cpu --gpu 0,", project))
    done = call_as_relion(f"{star.name} --require-gpu --gpu -1 ", project)
    assert "--require-gpu, but " in done.stderr


def test_all_arguments_of_the_published_program_are_taken(project: Path, tiny_model: Path) -> None:
    star = made_up_job(project)
    words = (
        f"-m {tiny_model} -s 30 -b 2 --device_timeout 5 --debug --skip-spectral-trailing --gpu -1"
    )
    assert accepted(call_as_relion(f"{star.name} {words}", project))
    long = words.replace("-m ", "--model_name ").replace("-s ", "--strides ")
    long = long.replace("-b ", "--batch_size ")
    assert accepted(call_as_relion(f"{star.name} {long}", project))
    assert "no spectral trailing" in log_of(star)
    for name in ("unfiltered", "regularised"):
        assert star.with_name(f"{star.stem}_debug_{name}.mrc").exists()


def test_without_a_job_the_model_is_checked(project: Path) -> None:
    done = call_as_relion("", project)
    assert (done.returncode, done.stderr) == (0, "")
    assert "model tiny is in place" in done.stdout
    done = call_as_relion("-m v9", project)
    assert done.returncode == 1
    assert "unknown model 'v9'" in done.stderr


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


def test_a_path_with_blanks_comes_in_pieces_and_is_put_together(project: Path) -> None:
    star = made_up_job(project)
    folder = project / "my job"
    folder.mkdir()
    moved = Path(shutil.move(star, folder / star.name))
    done = call_as_relion(f"my job/{star.name} --gpu -1", project)
    assert accepted(done), done.stderr
    assert "done:" in log_of(moved)
    done = call_as_relion("my other.star --gpu -1", project)
    assert done.returncode == 2
    assert "one STAR file is expected, not 2" in done.stderr


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


def test_later_calls_that_differ_are_warned_of_on_stderr(project: Path) -> None:
    star = made_up_job(project)
    assert call_as_relion(star.name, project).stderr == ""
    treatment = json.loads((project / "blush_onnx_treatment.json").read_text())
    assert treatment["precision"] == "float32"
    assert "tiny" in treatment["model"]
    other = made_up_job(project, "_half2")
    done = call_as_relion(f"{other.name} -s 30", project)
    assert accepted(done)
    assert "Warning: stride is 30, but the first call of this run had 20" in done.stderr
    assert "WARNING stride is 30" in log_of(other)


def test_a_call_that_failed_sets_no_example(project: Path) -> None:
    star = made_up_job(project)
    assert not accepted(call_as_relion(f"{star.name} -s 99", project))
    assert call_as_relion(star.name, project).stderr == ""


def test_a_new_run_in_the_same_folder_starts_afresh(project: Path) -> None:
    star = made_up_job(project)
    assert call_as_relion(star.name, project).stderr == ""
    later = time.time() + 10
    optimiser = project / "run_it000_optimiser.star"
    optimiser.write_text("data_optimiser_general\n\n_rlnDoStochasticGradientDescent 0\n")
    os.utime(optimiser, (later, later))
    done = call_as_relion(f"{star.name} -s 30", project)
    assert (accepted(done), done.stderr) == (True, "")


def test_a_gradient_run_is_refused(project: Path) -> None:
    star = made_up_job(project)
    (project / "run_it002_optimiser.star").write_text(
        "data_optimiser_general\n\n_rlnDoGradientRefine 1\n_rlnDoStochasticGradientDescent 0\n"
    )
    done = call_as_relion(star.name, project)
    assert not accepted(done)
    assert "gradient (VDAM) run" in done.stderr


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


def test_the_work_ends_when_relion_has_gone(project: Path) -> None:
    star = made_up_job(project)
    process = subprocess.Popen(
        [*shlex.split(PROGRAM), star.name, "-s", "1"], cwd=project, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not star.with_suffix(".mrc").exists()
    assert "stopped" in log_of(star)


def test_jobs_at_the_same_time_share_the_processors(project: Path) -> None:
    star = made_up_job(project)
    with CoreShare():  # the other half
        done = call_as_relion(f"{star.name} --gpu -1", project, OMP_NUM_THREADS="1")
    assert accepted(done)
    assert "jobs sharing the processors: 2" in log_of(star)
    assert accepted(call_as_relion(f"{star.name} --gpu -1", project, OMP_NUM_THREADS="1"))
    alone = f"jobs sharing the processors: 1, threads of this one: {available_cpus()}"
    assert alone in log_of(star)
