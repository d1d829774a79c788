"""Calls in the course of a run: one after the other, at the same time, and ended from outside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from blush_onnx.machine import available_cpus
from blush_onnx.sharing.cores import CoreShare
from tests.cli.relion_calls import PROGRAM, accepted, call_as_relion, log_of
from tests.hosts.test_relion import made_up_job

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")


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
