"""Stages add up to the whole, and growth is told straight from bent."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.growth import growth, straightness
from benchmarks.speed.command import speed
from benchmarks.speed.ours import volume
from benchmarks.stages import NETWORK, STAGES, measured
from blush_onnx import Denoiser, masks


def test_every_stage_is_seen_and_they_are_most_of_the_whole(tiny_model: Path) -> None:
    denoiser = Denoiser.load(tiny_model, provider="cpu", threads=1)
    before = masks.local_std
    whole, seconds, patches = measured(denoiser, volume(100), 1.2, 20)
    assert patches == 8
    assert seconds.keys() == {NETWORK, *STAGES}
    assert min(seconds.values()) > 0
    assert 0.8 * whole < sum(seconds.values()) < 1.3 * whole  # patches run beside the rest
    assert masks.local_std is before


def test_a_line_is_found_and_what_is_off_it_told() -> None:
    slope, offset, worst = straightness([(n, 0.5 * n + 2) for n in (1, 8, 27)])
    assert (slope, offset, worst) == pytest.approx((0.5, 2, 0), abs=1e-9)
    assert straightness([(n, n**1.5) for n in (1, 8, 27, 64)])[2] > 0.1


def test_growth_has_a_line_for_each_case(tiny_model: Path) -> None:
    done = CliRunner().invoke(
        growth,
        ["--model", str(tiny_model), "--provider", "cpu", "--boxes", "64,90", "--voxel-sizes",
         "1.5,3", "--batches", "1", "--repeats", "1"],
        catch_exceptions=False,
    )
    rows = [line.split() for line in done.output.splitlines()[3:-1]]
    assert {(row[0], row[1]) for row in rows} == {("64", "1.50"), ("90", "1.50"), ("44", "3.00")}
    assert all(float(row[5]) > 0 for row in rows)
    assert "off that line" in done.output


def test_what_is_around_the_network_is_measured_without_it(tiny_model: Path) -> None:
    done = CliRunner().invoke(
        speed, ["--only", "around", "--model", str(tiny_model), "--box", "72", "--repeats", "1"],
        catch_exceptions=False,
    )
    row = next(line for line in done.output.splitlines() if line.startswith("seconds"))
    assert 0 < float(row.split()[1]) < 5
