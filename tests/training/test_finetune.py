from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import models
from blush_onnx.errors import InputError
from tests.conftest import TINY_CHECKPOINT, write_mrc
from tests.training.conftest import compact_chain
from training.finetune.blocks import BLOCK, block_errors, divide
from training.finetune.symmetry import rotations_of, with_copies
from training.prepare import simulate
from training.prepare.dataset import TrainingPair

ROOT = Path(__file__).parent.parent.parent
STEPS = 15


@pytest.fixture(scope="module")
def pair() -> TrainingPair:
    """Large enough to hold blocks out."""
    settings = simulate.Settings(smallest_box=96, largest_box=96, resolution=(5.0, 5.0))
    atoms = compact_chain(6000, 2)
    loose = dataclasses.replace(atoms, positions=2.2 * atoms.positions)
    return simulate.simulate(loose, 10, settings)


def test_the_sets_do_not_touch(pair: TrainingPair) -> None:
    trained, stop, judge = divide(pair.mask, 1)
    assert not ((stop > 0) & (judge > 0)).any()
    held_out = (stop > 0) | (judge > 0)
    assert not (trained[held_out] > 0).any()
    from scipy import ndimage

    near = ndimage.binary_dilation(held_out, iterations=2)
    assert not (trained[near] > 0).any()
    assert 0.2 < trained[pair.mask > 0.5].mean() < 0.8
    for numbers in (stop, judge):
        assert (pair.mask[numbers > 0] > 0.5).all()
        assert len(np.unique(numbers)) - 1 >= 3


def test_the_division_is_decided_by_the_seed(pair: TrainingPair) -> None:
    assert np.array_equal(divide(pair.mask, 1)[2], divide(pair.mask, 1)[2])
    assert not np.array_equal(divide(pair.mask, 1)[2], divide(pair.mask, 2)[2])


@pytest.mark.parametrize(("symmetry", "count"), [("C1", 1), ("c4", 4), ("D2", 4), ("O", 24)])
def test_a_group_has_its_rotations(symmetry: str, count: int) -> None:
    found = rotations_of(symmetry)
    assert len(found) == count
    np.testing.assert_allclose(found[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(found), 1)


def test_copies_lie_where_the_field_puts_them() -> None:
    """Cn about z through the voxel side // 2; the twofold axis of Dn along x."""
    places = np.zeros((20, 20, 20), dtype=bool)
    places[10 + 3, 10 + 2, 10 + 1] = True  # x 1, y 2, z 3
    found = {tuple(place - 10) for place in np.argwhere(with_copies(places, "C4"))[:, ::-1]}
    assert found == {(1, 2, 3), (-2, 1, 3), (-1, -2, 3), (2, -1, 3)}
    found = {tuple(place - 10) for place in np.argwhere(with_copies(places, "D2"))[:, ::-1]}
    assert found == {(1, 2, 3), (-1, -2, 3), (1, -2, -3), (-1, 2, -3)}


def test_what_is_held_out_has_no_copy_that_is_trained_on(pair: TrainingPair) -> None:
    trained, stop, judge = divide(pair.mask, 1, "C2")
    for own, other in ((judge, stop), (stop, judge)):
        copies = with_copies(own > 0, "C2")
        assert not (trained[copies] > 0).any()
        assert not (other[copies] > 0).any()
    for number in np.unique(judge)[1:]:
        copies = with_copies(judge == number, "C2")
        assert set(np.unique(judge[copies])) <= {0, number}
    alone, _, judge_alone = divide(pair.mask, 1)
    assert (alone[with_copies(judge_alone > 0, "C2")] > 0).any()  # else nothing was shown


def test_other_groups_are_refused_with_a_way_out() -> None:
    for name in ("I", "T", "H", "C0", ""):
        with pytest.raises(InputError, match="a mask around one asymmetric unit"):
            rotations_of(name)


def test_a_molecule_of_a_few_blocks_is_refused() -> None:
    mask = np.zeros((64, 64, 64), dtype=np.float32)
    mask[24 : 24 + BLOCK, 24 : 24 + BLOCK, 24 : 24 + BLOCK] = 1
    with pytest.raises(InputError, match="too few to hold"):
        divide(mask, 1)


def test_the_error_to_the_other_half_orders_as_the_error_to_the_truth(pair: TrainingPair) -> None:
    assert pair.truth is not None
    _, _, judge = divide(pair.mask, 1)
    halves = pair.half_1, pair.half_2
    truth = pair.truth, pair.truth
    mean = block_errors(halves, halves, judge).mean() / 2
    half_way = tuple((h + pair.truth) / 2 for h in halves)
    errors = [
        block_errors(outputs, halves, judge).mean()
        for outputs in (truth, (half_way[0], half_way[1]), halves)
    ]
    # With noise N in each half: N, N + N/4, 2N. Blocks of up to 1700 voxels, six and more.
    np.testing.assert_allclose(np.array(errors) / mean, [1, 1.25, 2], rtol=0.05)


def test_only_a_gain_beyond_its_error_counts() -> None:
    pytest.importorskip("torch")
    from training.finetune.command import gain

    rng = np.random.default_rng(0)
    untouched = np.full(20, 2.0)
    before = 1.5 + 0.1 * rng.standard_normal(20)
    report = gain(before, before - 0.2, untouched)
    assert report["gain"] == pytest.approx(0.2)
    assert report["gain_standard_error"] < 1e-9
    assert report["noise_left_before"] == pytest.approx(0.5, abs=0.1)
    noisy = gain(before, before + 0.1 * rng.standard_normal(20), untouched)
    assert abs(noisy["gain"]) < 3 * noisy["gain_standard_error"]


@pytest.mark.torch
def test_it_stops_after_some_looks_without_a_better_one_and_keeps_the_best(
    pair: TrainingPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from export.network import BlushNetwork
    from training.finetune import tune as tuning

    errors = iter([5, 4, 4.5, 4.2, 3.9, 4, 4, 4])
    seen: list[float] = []

    def look(network: BlushNetwork, *_: object) -> tuple[None, None]:
        seen.append(float(next(network.parameters()).detach().sum()))
        return None, None

    monkeypatch.setattr(tuning, "apply", look)
    monkeypatch.setattr(tuning, "block_errors", lambda *_: np.array([next(errors)]))
    trained, stop, _ = divide(pair.mask, 1)
    volume = tuning.volume_of(pair, trained, torch.device("cpu"))
    settings = tuning.Settings(
        minutes=60, check_every=1, patience=3, precision="float32", learning_rate=1e-2
    )
    tuned = tuning.tune(BlushNetwork((2, 4)), volume, stop, 32, settings, lambda _: None)
    assert (tuned.steps, tuned.best_step) == (7, 4)
    assert [step for step, _ in tuned.history] == list(range(8))
    assert float(next(tuned.network.parameters()).detach().sum()) == seen[4]
    assert len(set(seen)) == len(seen)


@pytest.fixture
def files(pair: TrainingPair, tmp_path: Path) -> list[str]:
    halves = (pair.half_1, pair.half_2)
    found = [
        str(write_mrc(tmp_path / f"half{k}.mrc", half, 1.5)) for k, half in enumerate(halves, 1)
    ]
    return [*found, "--mask", str(write_mrc(tmp_path / "mask.mrc", pair.mask, 1.5))]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", "finetune", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )


@pytest.mark.torch
@pytest.mark.slow
def test_a_model_that_got_better_is_registered(files: list[str], tmp_path: Path) -> None:
    """The tiny network knows nothing, so that a pair of half-maps teaches it something."""
    done = run(
        str(TINY_CHECKPOINT), *files, "--name", "mine", "--output", str(tmp_path / "report"),
        "--minutes", "30", "--steps", str(STEPS), "--learning-rate", "0.01",
        "--precision", "float32",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Kept as mine" in done.stdout
    assert "no independent measure" in " ".join(done.stdout.split())
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["gain"] > 2 * report["gain_standard_error"] > 0
    assert report["steps"] <= STEPS
    assert set(report["phase_randomised"]["mean_fsc"]) == {"input", "before", "after"}
    assert models.load_model("mine").config.training.startswith("tiny, fine-tuned on half1.mrc")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "random phases" in text
    assert "| 0 |" in text


@pytest.mark.torch
@pytest.mark.slow
def test_a_model_that_did_not_get_better_is_not_kept(files: list[str], tmp_path: Path) -> None:
    done = run(
        str(TINY_CHECKPOINT), *files, "--name", "mine", "--output", str(tmp_path / "report"),
        "--minutes", "0.1", "--learning-rate", "1e-9", "--precision", "float32",
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Not kept" in done.stdout
    assert [m.name for m in models.registered_models() if m.origin == "user"] == []
    assert json.loads((tmp_path / "report" / "report.json").read_text())["kept"] is False


@pytest.mark.torch
@pytest.mark.parametrize(("after", "words"), [(0.2, "made it more."), (0.05, "made it no more.")])
def test_the_report_says_whether_more_is_made_up(after: float, words: str) -> None:
    from training.finetune.command import randomised

    text = randomised(
        {"beyond_angstrom": 8.0, "mean_fsc": {"input": 0.0, "before": 0.1, "after": after}}
    )
    assert text.endswith(words)


def test_a_taken_name_is_refused_before_any_work(files: list[str], tmp_path: Path) -> None:
    (models.home() / "mine").mkdir(parents=True)
    done = run(str(TINY_CHECKPOINT), *files, "--name", "mine", "--output", str(tmp_path / "r"))
    assert done.returncode == 1
    assert "registered already" in done.stderr
