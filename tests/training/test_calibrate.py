"""The border of the solvent mask lies where validation volumes say."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from blush_onnx.checkpoint import read_checkpoint
from blush_onnx.errors import InputError
from tests.conftest import DATA, TINY_CHECKPOINT
from training.calibrate import OFFSETS, best_offset, calibrate
from training.prepare.dataset import TrainingPair, write_manifest, write_shard

pytestmark = pytest.mark.torch


def test_a_faint_mask_is_lifted_to_its_true_border() -> None:
    rng = np.random.default_rng(0)
    true = [(rng.random((20, 20, 20)) > share).astype(np.float32) for share in (0.3, 0.7)]
    # 0.1 outside and 0.3 inside: any border between the two is right.
    found = [0.1 + 0.2 * mask for mask in true]
    offset, before, after = best_offset(found, true)
    assert (before, after) == (0, 1)
    assert math.log(0.7 / 0.3) < offset <= math.log(0.9 / 0.1)


def test_a_mask_that_is_right_stays() -> None:
    true = [np.eye(8, dtype=np.float32)[None].repeat(8, axis=0)]
    offset, before, after = best_offset([0.02 + 0.96 * true[0]], true)
    assert (before, after) == (1, 1)
    assert offset == pytest.approx(0, abs=1e-9)


def test_only_one_bias_of_the_checkpoint_changes(toy_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "weights.ckpt"
    done = CliRunner().invoke(
        calibrate, [str(TINY_CHECKPOINT), "--data", str(toy_data), "--output", str(output)],
        catch_exceptions=False,
    )
    words = r"^1 volumes: .* ([\d.]+), with ([+-][\d.]+) on .* ([\d.]+)$"
    said = re.search(words, done.output, re.M)
    assert said, done.output
    before, offset, after = map(float, said.groups())
    assert 0 <= before <= after <= 1
    old, new = (read_checkpoint(path) for path in (TINY_CHECKPOINT, output))
    assert {k for k in old.state if not np.array_equal(old.state[k], new.state[k])} == {"outc.bias"}
    change = new.state["outc.bias"] - old.state["outc.bias"]
    np.testing.assert_allclose(change, [0, offset], atol=2e-3)
    assert offset in OFFSETS
    assert offset != 0


def test_what_cannot_be_calibrated_is_one_line(
    toy_data: Path, toy_pair: TrainingPair, tmp_path: Path
) -> None:
    def refused(model: Path, data: Path) -> InputError:
        done = CliRunner().invoke(
            calibrate, [str(model), "--data", str(data), "--output", str(tmp_path / "w.ckpt")]
        )
        assert isinstance(done.exception, InputError)
        return done.exception

    no_mask = DATA / "checkpoints" / "tiny_no_mask.ckpt"
    assert "has no solvent mask" in str(refused(no_mask, toy_data))
    folder = tmp_path / "training_alone"
    folder.mkdir()
    write_shard(folder, "one", [toy_pair])
    write_manifest(folder, ["one"], {"made": "for tests"})
    assert "none of the split validation" in str(refused(TINY_CHECKPOINT, folder))
    assert not (tmp_path / "w.ckpt").exists()
