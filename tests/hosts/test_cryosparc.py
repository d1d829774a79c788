"""The commands, in both versions of cryosparc-tools, against a stand-in for the server."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import mrcfile
import numpy as np
import pytest

from blush_onnx import Regularised
from blush_onnx.hosts.cryosparc.work import cut_off_text
from tests.cli.helpers import assert_fails, run_cli
from tests.conftest import Volume
from tests.hosts.cryosparc_client import (
    ROOT,
    SIDE,
    VOXEL_SIZE,
    Finished,
    Server,
    serving,
    texts,
)
from tests.hosts.cryosparc_server import EMAIL

OUTPUTS = ("denoised", "denoised_1", "denoised_2")
PNG = "89504e470d0a1a0a"

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def finished(
    python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finished]:
    """A job with the default options, and what the server holds after it."""
    with serving(python, tmp_path_factory.mktemp("finished"), tiny_model) as server:
        done = server.run("P3", "J42")
        assert done.returncode == 0, done.stderr
        yield server, done, server.newest()


@pytest.fixture
def shared_server(finished: Finished) -> Server:
    """One for commands that change nothing there."""
    return finished[0]


def read(path: Path) -> Volume:
    with mrcfile.open(path) as mrc:
        assert mrc.voxel_size.x == pytest.approx(VOXEL_SIZE)
        return np.array(mrc.data)


def test_the_job_is_external_and_ends_completed_in_the_workspace_of_the_refinement(
    finished: Finished,
) -> None:
    job = finished[2]
    assert (job["type"], job["status"], job["workspace"]) == ("snowflake", "completed", "W2")


def test_the_job_is_connected_to_both_half_maps_and_the_mask(finished: Finished) -> None:
    connections = finished[2]["connections"]
    assert {name: (c[0]["job"], c[0]["output"], sorted(c[0]["slots"]))
            for name, c in connections.items()} == {
        "half_maps": ("J42", "volume", ["map_half_A", "map_half_B"]),
        "mask": ("J42", "mask", ["mask"]),
    }


def test_outputs_are_volumes_that_a_refinement_takes(finished: Finished) -> None:
    server, _, job = finished
    assert set(job["outputs"]) == set(OUTPUTS)
    for name, output in job["outputs"].items():
        assert output["type"] == "volume"
        assert output["slots"] == [{"name": "map", "dtype": "blob"}]
        dataset = output["dataset"]
        assert dataset["map/shape"] == [[SIDE] * 3]
        assert dataset["map/psize_A"] == pytest.approx([VOXEL_SIZE])
        assert dataset["map/path"] == [f"{job['uid']}/{name}.mrc"]
        assert (server.project / dataset["map/path"][0]).is_file()


def test_the_maps_are_those_of_regularise_with_the_mask_for_the_fsc(
    finished: Finished, expected: Regularised
) -> None:
    server, _, job = finished
    maps = (expected.average, expected.reference_1, expected.reference_2)
    for name, wanted in zip(OUTPUTS, maps, strict=True):
        found = read(server.project / job["uid"] / f"{name}.mrc")
        # Engines with other numbers of threads sum in another order, in single precision.
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_no_title_calls_a_denoised_map_a_half_map(finished: Finished) -> None:
    for output in finished[2]["outputs"].values():
        assert "half-map" not in output["title"] or "no half-map" in output["title"]


def test_the_log_tells_progress_to_the_end(finished: Finished, version: str) -> None:
    lines = [text for text in texts(finished[2]) if text.startswith("Denoising: ")]
    assert lines[-1].endswith("100 %")
    if version == "5":  # one line, brought up to date
        assert len(lines) == 1


def test_the_log_tells_resolution_cut_off_and_model(
    finished: Finished, expected: Regularised
) -> None:
    log = "\n".join(texts(finished[2]))
    assert f"agree to {expected.fsc.resolution():.2f} Å (FSC 0.143, solvent-corrected)" in log
    assert f"cut-off at {expected.cut_off_angstrom:.2f} Å" in log
    assert "Model tiny on" in log


def test_a_cut_off_that_was_asked_for_is_told_even_beyond_the_network(
    expected: Regularised,
) -> None:
    beyond = dataclasses.replace(expected, beyond_network=True)
    assert cut_off_text(beyond, asked_for=False).startswith("No cut-off: they agree to ")
    assert "are kept up to the cut-off at " in cut_off_text(beyond, asked_for=True)


def test_the_log_shows_slices_and_the_fsc_with_its_numbers(finished: Finished) -> None:
    images = [event for event in finished[2]["events"] if event["type"] == "image"]
    fsc, slices = (event["files"] for event in images)
    assert [file["format"] for file in fsc] == ["png", "csv"]
    assert [file["format"] for file in slices] == ["png"]
    assert fsc[0]["start"] == slices[0]["start"] == PNG
    assert bytes.fromhex(fsc[1]["start"]) == b"shell,re"


def test_the_log_warns_that_both_halves_would_start_from_one_reference(
    finished: Finished, version: str
) -> None:
    # Version 4 has one mark for warnings and errors.
    warnings = texts(finished[2], "warning" if version == "5" else "error")
    assert any("no proof of a better map" in text for text in warnings)
    assert any("not half-maps" in text for text in warnings)


def test_the_report_lies_in_the_job_and_keeps_its_schema(finished: Finished) -> None:
    server, _, job = finished
    report = json.loads((server.project / job["uid"] / "report.json").read_text())
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert report["masks"]["fsc"]["path"].endswith("J42/mask.mrc")
    assert report["settings"]["voxel_size"] == VOXEL_SIZE


def test_the_terminal_shows_the_job_and_the_cut_off(
    finished: Finished, expected: Regularised
) -> None:
    _, done, job = finished
    assert f"P3 {job['uid']}, output denoised" in done.stdout
    assert f"{expected.cut_off_angstrom:.2f} Å" in done.stdout
    assert done.stderr.startswith(f"P3 {job['uid']}, an External job in W2")


def test_nothing_is_left_on_this_machine(finished: Finished) -> None:
    assert not list(finished[0].project.parent.glob("blush-onnx-*"))


@pytest.mark.parametrize(
    "folder",
    # Of the second the system raises an error, as of another user's folder for all but root.
    ["/nowhere/CS-project", f"/{300 * 'x'}"], ids=["not there", "out of reach"],
)
def test_files_that_this_machine_does_not_see_come_from_the_server(
    server: Server, folder: str
) -> None:
    server.misbehave(project_dir=folder)
    done = server.run("P3", "J42", "--no-mask")
    assert done.returncode == 0, done.stderr
    job = server.newest()
    assert job["status"] == "completed"
    assert "mask" not in job["connections"]
    assert any("FSC without a mask" in text for text in texts(job))


def test_a_missing_half_map_fails_the_job_with_the_reason(server: Server) -> None:
    (server.project / "J42" / "half_B.mrc").unlink()
    done = server.run("P3", "J42")
    assert done.returncode == 1
    job = server.newest()
    assert job["status"] == "failed"
    reason = texts(job, "error")[-1]
    assert "J42/half_B.mrc is not there" in reason
    assert done.stderr.splitlines()[-1] == f"Error: {reason}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_wrong_password_is_one_line_that_does_not_show_it(
    shared_server: Server, debug: tuple[str, ...]
) -> None:
    before = shared_server.state()["jobs"]
    done = shared_server.run("P3", "J42", *debug, CRYOSPARC_PASSWORD="not this one")  # noqa: S106
    assert done.returncode == 1
    assert f"refused the login of {EMAIL}" in done.stderr
    assert "not this one" not in done.stderr
    assert "Warning" not in done.stderr
    assert shared_server.state()["jobs"] == before


def test_without_a_password_the_command_says_where_to_put_it(shared_server: Server) -> None:
    done = shared_server.run(
        "P3", "J42", CRYOSPARC_PASSWORD="", XDG_CONFIG_HOME=str(shared_server.project.parent)
    )
    assert_fails(done, "CRYOSPARC_PASSWORD in the environment")


def test_version_5_does_with_the_login_that_its_client_has_kept(
    shared_server: Server, version: str
) -> None:
    if version != "5":
        pytest.skip("version 4 keeps no login")
    config = {"XDG_CONFIG_HOME": str(shared_server.project.parent)}
    keep = (
        "from datetime import datetime, timedelta, timezone as z; from cryosparc.auth import *;"
        "token = Token(access_token='a token', token_type='bearer');"
        "kept = InstanceAuthSessions({});"
        f"kept.insert({shared_server.url!r}, {EMAIL!r}, token, datetime.now(z.utc) + timedelta(1));"
        "kept.save()"
    )
    environment = shared_server.environment(**config)
    subprocess.run([shared_server.python, "-c", keep], env=environment, check=True)
    done = shared_server.run("P3", "J41", CRYOSPARC_PASSWORD="", **config)
    assert_fails(done, "J41 (homo_abinit) has no output with half-maps")


def test_a_cryosparc_of_another_version_is_warned_of(server: Server) -> None:
    server.misbehave(version="v4.2.0")
    done = server.run("P3", "J41")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("Warning: CryoSPARC") and "v4.2.0 may not be compatible" in warning
    assert error.startswith("Error: J41")


def test_a_server_that_is_not_there_is_one_line(server: Server) -> None:
    server.process.kill()
    server.process.wait()
    assert_fails(server.run("P3", "J42"), "does not answer")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("P3", "J41"), "J41 (homo_abinit) has no output with half-maps"),
        (("P3", "J43"), "J43 is running: give a job that has completed"),
        (("P3", "J99"), "could not find P3 J99"),
        (("P9", "J42"), "could not find the project P9"),
        (("P3", "J42", "--mask-job", "J41"), "J41 (homo_abinit) has no output of the type mask"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_job_is_created(
    shared_server: Server, words: tuple[str, ...], message: str
) -> None:
    before = set(shared_server.state()["jobs"])
    assert_fails(shared_server.run(*words), message)
    assert set(shared_server.state()["jobs"]) == before


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [(signal.SIGINT, 1, "stopped with Ctrl-C"), (signal.SIGTERM, 143, "stopped by a signal")],
)
def test_a_signal_leaves_the_job_failed_with_the_reason(
    server: Server, number: signal.Signals, status: int, reason: str
) -> None:
    server.misbehave(hold="Model tiny")
    process = server.start("P3", "J42")
    while "holding" not in server.state()["faults"]:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == status
    job = server.newest()
    assert job["status"] == "failed"
    assert reason in texts(job, "error")[-1]


def test_a_job_killed_in_cryosparc_ends_the_work_and_stays_killed(server: Server) -> None:
    server.misbehave(kill="Model tiny")
    done = server.run("P3", "J42")
    job = server.newest()
    assert_line = f"Error: {job['uid']} is killed in cryoSPARC"
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(assert_line)
    assert job["status"] == "killed"
    assert not any(output["dataset"] for output in job["outputs"].values())


def test_a_server_that_goes_away_does_not_cost_the_maps(
    server: Server, expected: Regularised
) -> None:
    server.misbehave(die="Model tiny")
    done = server.run("P3", "J42")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (kept,) = server.project.parent.glob("blush-onnx-*")
    assert f"the maps are in {kept} on this machine" in done.stderr
    assert np.abs(read(kept / "denoised.mrc") - expected.average).max() < 1e-4 * np.abs(
        expected.average
    ).max()


def test_a_server_that_takes_no_files_fails_the_job_and_does_not_cost_the_maps(
    server: Server,
) -> None:
    server.misbehave(upload="the disk is full")
    done = server.run("P3", "J42")
    assert done.returncode == 1
    job = server.newest()
    assert job["status"] == "failed"
    assert len(list(server.project.parent.glob("blush-onnx-*/denoised.mrc"))) == 1


def test_a_server_that_never_answers_does_not_stop_the_work(server: Server) -> None:
    server.misbehave(hold="Model tiny")
    done = server.run("P3", "J42", "--timeout", "1")
    assert done.returncode == 0, done.stderr
    assert "the work goes on" in done.stderr
    assert server.newest()["status"] == "completed"


def test_without_cryosparc_tools_the_command_says_what_to_install() -> None:
    if importlib.util.find_spec("cryosparc") is not None:
        pytest.skip("cryosparc-tools is installed beside the tests")
    result = run_cli("cryosparc", "P3", "J42", "--url", "http://localhost:1")
    assert_fails(result, "pip install 'blush-onnx[cryosparc]'")
    assert "blush-onnx[cryosparc5]" in result.stderr
