from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from blush_onnx import masks
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.half_map_checks import radial_power
from tests.conftest import TINY_CHECKPOINT
from tests.training.conftest import compact_chain, write_structure
from training.evaluate import cases, command, denoisers, scores
from training.evaluate.cases import Case, Request
from training.evaluate.judge import Judged, judge
from training.evaluate.scores import Result

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def case() -> Case:
    return cases.make_case(Request(compact_chain(), 5.0, 1, True, 64))


def perfect(volume: Volume, case: Case | None) -> Result:
    return (volume * 0, None) if case is None else (case.target, case.mask)


def inventive(volume: Volume, _case: Case | None) -> Result:
    """Sees the same particle in everything."""
    axis = np.arange(volume.shape[0]) - volume.shape[0] // 2
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    pattern = np.cos(axis * 1.1)[:, None, None] * np.cos(axis * 0.9)[:, None] * np.cos(axis * 1.3)
    added = volume.std() * 3 * pattern * np.exp(-squared / 150)
    return (volume + added).astype(np.float32), None


def test_the_identity_scores_one(case: Case) -> None:
    found, curves = scores.score_case(case, denoisers.identity, repeats=True)
    for name in ("error", "inside", "solvent", "fsc_lost", "weak_direction"):
        assert found[name] == pytest.approx(1, abs=1e-6), name
    # The sphere's soft edge, applied again and again, takes a little of the noise away.
    assert 0.85 < found["repeats"] <= 1
    assert curves["before"] == curves["after"]


def test_the_truth_scores_zero(case: Case) -> None:
    found, _ = scores.score_case(case, perfect, repeats=False)
    assert found["error"] == 0
    assert found["fsc_after"] == pytest.approx(1, abs=1e-6)
    assert found["mask_iou"] == 1


def test_the_wiener_filter_is_the_best_radial_one(case: Case) -> None:
    errors = {
        name: scores.score_case(case, denoise, repeats=False)[0]["error"]
        for name, denoise in denoisers.FILTERS.items()
    }
    assert errors["wiener"] < errors["gaussian"] < 1


def test_a_case_falls_at_its_resolution_and_is_the_same_again(case: Case) -> None:
    again = cases.make_case(Request(compact_chain(), 5.0, 1, True, 64))
    np.testing.assert_array_equal(case.noisy, again.noisy)
    shell = case.last_shell
    assert shell == round(64 * 1.5 / 5)
    # One half's noise N at FSC 0.143 is six times the signal S: S/(S + N) = 0.143.
    assert case.wiener[shell - 2 : shell + 3].mean() == pytest.approx(0.143, abs=0.08)


def test_an_uneven_case_has_less_along_its_weak_direction(case: Case) -> None:
    cone = cases.weak_cone(case)
    from scipy import fft

    before, target = (np.abs(fft.rfftn(v)[cone]) for v in (case.noisy, case.target))
    even = cases.make_case(Request(compact_chain(), 5.0, 1, False, 64))
    same_noise = np.abs(fft.rfftn(even.noisy)[cone])
    assert before.sum() < 0.9 * same_noise.sum()
    assert target.sum() > 0


def test_what_is_damped_is_seen(case: Case) -> None:
    def damping(volume: Volume, given: Case | None) -> Result:
        return perfect(volume, given)[0] * np.float32(0.6) + np.float32(3.0), None

    assert scores.score_case(case, perfect, repeats=False)[0]["kept"] == pytest.approx(1)
    damped, _ = scores.score_case(case, damping, repeats=False)
    assert damped["kept"] == pytest.approx(0.6, abs=1e-4)
    assert scores.score_sharpened(case, damping)["sharpened_kept"] == pytest.approx(0.6, abs=1e-4)


def test_a_sharpened_case_is_the_same_map_raised_and_cut_off(case: Case) -> None:
    raised = cases.sharpened(case)
    for before, after in ((case.noisy, raised.noisy), (case.target, raised.target)):
        at = case.last_shell
        power = radial_power(after) / np.maximum(radial_power(before), 1e-30)
        assert power[1] == pytest.approx(np.exp(2 * cases.SHARPENING / at**2), rel=0.02)
        assert power[at] / power[at // 2] == pytest.approx(
            np.exp(2 * cases.SHARPENING * (1 - 0.25)), rel=0.3
        )
        assert radial_power(after)[at + 2 :].max() < 1e-6 * radial_power(after).max()


def test_repeats_that_drift_are_seen(case: Case) -> None:
    def blurring(volume: Volume, given: Case | None) -> Result:
        return denoisers.gaussian(volume, given)

    found, _ = scores.score_case(case, blurring, repeats=True)
    assert found["repeats"] > 1.02


def test_repeats_start_with_the_sphere_s_outside_at_0(case: Case) -> None:
    corners: list[float] = []

    def mean_outside(volume: Volume, _case: Case | None) -> Result:
        corners.append(float(volume[0, 0, 0]))
        return np.full_like(volume, 5.0), None

    scores.score_case(case, mean_outside, repeats=True)
    assert corners[1:] == [0.0] * (scores.REPEATS - 1)


def test_a_structure_never_fills_its_box() -> None:
    small, large = compact_chain(), compact_chain()
    large = dataclasses.replace(large, positions=large.positions * 130 / large.diameter)
    sides = [
        cases.make_case(request).mask.shape[0]
        for request in cases.plan([small, large], [5.0], largest_box=64)
    ]
    assert sides[0] == 64
    assert sides[1] * 1.5 >= 1.24 * 130


def test_invention_fails_the_gate(case: Case) -> None:
    row = scores.score_noise(inventive) | scores.score_phase_randomised(case, inventive)
    assert command.gate(row)
    for harmless in (denoisers.identity, perfect):
        row = scores.score_noise(harmless) | scores.score_phase_randomised(case, harmless)
        assert command.gate(row) == []


def test_the_sphere_is_no_merit(case: Case) -> None:
    """Blanking the corners, as every model does, is worth nothing by itself."""
    def blanking(volume: Volume, _case: Case | None) -> Result:
        z, y, x = volume.shape
        return volume * (masks.default_mask((z, y, x)) > 0), None

    found, _ = scores.score_case(case, blanking, repeats=False)
    assert found["error"] == pytest.approx(1, abs=1e-6)
    assert scores.score_noise(blanking)["noise"] == pytest.approx(1, abs=1e-6)


def test_random_phases_keep_amplitudes_and_low_frequencies(case: Case) -> None:
    from blush_onnx import fourier

    first, second = cases.phase_randomised(case)
    original = fourier.forward(case.noisy)
    for volume in (first, second):
        spectrum = fourier.forward(volume)
        np.testing.assert_allclose(
            np.abs(spectrum), np.abs(original), atol=1e-3 * np.abs(original).max()
        )
        assert spectrum[1, 1, 1] == pytest.approx(original[1, 1, 1], rel=1e-3)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.999


def test_the_score_is_the_geometric_mean_of_its_rows() -> None:
    row: dict[str, float | str] = {
        "resolution": 5.0, "error": 0.25, "inside": 0.5, "solvent": 0.125, "fsc_lost": 0.5,
        "fsc_before": 0.9, "fsc_after": 0.95, "repeats": 2.0,
    }
    row |= {"random_power": 0.5, "random_shared": 0.0}
    found = scores.summary([row], {"noise": 0.5, "noise_shared": 0.0})
    expected = (0.25 * 0.5 * 0.5 * 0.125 * 0.5 * 0.5 * 2.0) ** (1 / 7)
    assert found["score"] == pytest.approx(expected)
    assert found["fsc_not_worse_5A"] == 1


def test_blurring_what_is_clean_already_counts_as_worse(case: Case) -> None:
    nearly = case.target + 0.01 * (case.noisy - case.target)
    found, _ = scores.score_case(
        dataclasses.replace(case, noisy=nearly), denoisers.gaussian, repeats=False
    )
    assert found["inside"] > 10
    assert found["error"] > 10


def test_the_command_writes_table_rows_and_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "structures").mkdir()
    write_structure(compact_chain(), tmp_path / "structures" / "toy.pdb")
    (tmp_path / "structures" / "manifest.tsv").write_text("pdb\tsplit\ntoy\theld_out\n")
    done = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", str(TINY_CHECKPOINT), "--structures",
         str(tmp_path / "structures"), "--resolutions", "5,8", "--largest-box", "64",
         "--output", str(tmp_path / "out"), "--no-repeats"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )
    # What the tiny network does with random phases decides between 0 and 3.
    assert done.returncode in (0, 3), done.stderr
    assert "| squared error to the truth | 1.000 |" in done.stdout
    # Filters know what is noise and are not repeated: they count as 1, or not at all.
    assert "| power left of pure noise | 1.000 | 1.000 | 1.000 |" in done.stdout
    assert "| largest error in 5 repeats over the first |  |  |  |  |" in done.stdout
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(content["summary"]) == ["identity", "gaussian", "wiener", "tiny"]
    assert "tiny" in content["gate"]
    assert "repeats" not in content["summary"]["tiny"]
    assert content["summary"]["tiny"]["score"] > 0
    assert (tmp_path / "out" / "cases.csv").read_text().count("\n") == 1 + 2 * 4
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000
    with (tmp_path / "out" / "fsc.csv").open(newline="") as stream:
        shells = list(csv.DictReader(stream))
    assert len(shells) == 2 * 4 * 32  # two cases of 64 voxels, four that are judged
    same = [row for row in shells if row["model"] == "identity"]
    assert all(row["before"] == row["after"] for row in same)
    mine = [row for row in shells if (row["model"], row["resolution"]) == ("tiny", "5")]
    assert [float(row["angstrom"]) for row in mine[:2]] == [96, 48]
    with (tmp_path / "out" / "cases.csv").open(newline="") as stream:
        (case,) = [r for r in csv.DictReader(stream)
                   if (r["model"], r["resolution"]) == ("tiny", "5")]
    up_to = [float(row["after"]) for row in mine if float(row["angstrom"]) > 4.95]
    assert np.mean(up_to) == pytest.approx(float(case["fsc_after"]), rel=1e-4)


def test_several_processes_judge_alike() -> None:
    before = dict(os.environ)
    requests = [Request(compact_chain(), resolution, 1, False, 64) for resolution in (5.0, 8.0)]
    judged = Judged((("tiny", str(TINY_CHECKPOINT)),), repeats=False, threads=1)
    alone, beside = judge(judged, requests), judge(judged, requests, jobs=2)
    assert dict(os.environ) == before
    assert len(alone[0]) == len(alone[1]) == 2 * 4
    for one, other in zip(alone[0], beside[0], strict=True):
        for key, value in one.items():
            expected = value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-6)
            assert other[key] == expected, key


def test_a_split_without_structures_is_an_error(tmp_path: Path) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    done = subprocess.run(
        [sys.executable, "-m", "training", "evaluate", "--structures", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "held_out" in done.stderr


@pytest.mark.parametrize("text", ["0", "5,nan", "inf", "-5", "2.9", "20", "5;8", ""])
def test_resolutions_that_cannot_be_judged_are_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="--resolutions"):
        command.read_resolutions(text)
    assert command.read_resolutions("3, 5.5,15") == [3.0, 5.5, 15.0]


@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5"])
def test_threads_that_are_no_number_are_one_line(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(denoisers.THREADS, value)
    with pytest.raises(InputError, match=f"BLUSH_TRAINING_THREADS={value}: give a number"):
        denoisers.threads()
    monkeypatch.setenv(denoisers.THREADS, "2")
    assert denoisers.threads() == 2
