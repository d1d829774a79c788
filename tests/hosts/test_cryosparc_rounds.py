"""Rounds of refinements from denoised maps, against a stand-in for the server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from blush_onnx import Regularised
from blush_onnx.hosts.cryosparc.rounds import low_pass
from tests.hosts.cryosparc_client import Finished, Server, serving, texts

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def two_rounds(
    python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finished]:
    with serving(python, tmp_path_factory.mktemp("rounds"), tiny_model) as server:
        done = server.run(
            "rounds", "P3", "J42", "--rounds", "2", "--lane", "gpu", "--poll", "0.1",
        )
        assert done.returncode == 0, done.stderr
        yield server, done, server.state()["jobs"]


def test_a_round_refines_from_the_denoised_map_at_the_cut_off(
    two_rounds: Finished, expected: Regularised
) -> None:
    first = two_rounds[2]["J45"]
    assert first["type"] == "nonuniform_refine_new"
    volume = first["connections"]["volume"]
    assert [(c["job"], c["output"]) for c in volume] == [("J44", "denoised")]
    low = first["parameters"]["refine_res_init"]
    assert expected.cut_off_angstrom <= low < expected.cut_off_angstrom + 0.01


def test_a_round_keeps_all_else_of_the_first_refinement(two_rounds: Finished) -> None:
    first = two_rounds[2]["J45"]
    assert first["parameters"] | {"refine_res_init": None} == {
        "refine_symmetry": "D2", "refine_res_init": None, "random_seed": 7,
    }
    (particles,) = first["connections"]["particles"]
    assert (particles["job"], particles["output"]) == ("J40", "particles")
    assert particles["slots"]["blob"] == ["J39", "particles", "blob"]


def test_each_round_denoises_what_the_refinement_before_left(two_rounds: Finished) -> None:
    jobs = two_rounds[2]
    sources = [jobs[uid]["connections"]["half_maps"][0]["job"] for uid in ("J44", "J46")]
    assert sources == ["J42", "J45"]
    assert [jobs[uid]["status"] for uid in ("J44", "J45", "J46", "J47")] == ["completed"] * 4
    assert jobs["J46"]["connections"]["mask"][0]["job"] == "J45"


def test_rounds_say_that_a_better_fsc_is_no_proof(two_rounds: Finished) -> None:
    _, done, jobs = two_rounds
    assert "no proof of a better map" in done.stdout
    for uid in ("J44", "J46"):
        assert any("no proof of a better map" in text for text in texts(jobs[uid]))
    assert "no proof" in jobs["J45"]["description"]


def test_rounds_end_where_a_refinement_fails(server: Server) -> None:
    server.misbehave(refinement="failed")
    done = server.run("rounds", "P3", "J42", "--rounds", "2", "--poll", "0.1")
    assert done.returncode == 1
    assert "J45, the refinement from the denoised map, is failed" in done.stderr
    assert set(server.state()["jobs"]) == {*(f"J{n}" for n in range(39, 46))}


def test_the_reason_is_in_the_servers_own_words(server: Server) -> None:
    server.misbehave(create="no such parameter")
    done = server.run("rounds", "P3", "J42", "--rounds", "1")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: cryoSPARC could not create a refinement like J42: ")
    assert "no such parameter" in error


@pytest.mark.parametrize("cut_off", [4.0, 3.14159, 6.999, 100 / 3])
def test_the_low_pass_is_never_finer_than_the_cut_off(cut_off: float) -> None:
    assert cut_off - 1e-6 <= low_pass(cut_off) < cut_off + 0.01
    assert math.isclose(low_pass(cut_off) * 100, round(low_pass(cut_off) * 100))
