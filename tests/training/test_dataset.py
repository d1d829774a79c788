from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blush_onnx.errors import InputError
from training.prepare import dataset
from training.prepare.dataset import Dataset, TrainingPair


def test_what_is_written_is_read_back_to_half_precision(
    toy_pair: TrainingPair, tmp_path: Path
) -> None:
    dataset.write_shard(tmp_path, "key", [toy_pair, toy_pair])
    made = dataset.write_manifest(tmp_path, ["key"], {})
    record = made.records[1]
    arrays = made.load(record)
    assert toy_pair.truth is not None
    inside = arrays["truth"][toy_pair.mask > 0.5].astype(np.float32)
    assert inside.std() == pytest.approx(1, abs=2e-3)
    scale = float(np.std(toy_pair.truth[toy_pair.mask > 0.5]))
    np.testing.assert_allclose(
        arrays["half_2"] * scale, toy_pair.half_2, rtol=2e-3, atol=1e-2 * scale
    )
    np.testing.assert_allclose(arrays["mask"], toy_pair.mask, atol=1e-3)
    assert isinstance(arrays["half_1"].base, np.memmap) or isinstance(arrays["half_1"], np.memmap)
    assert (record.name, record.licence) == ("toy", "unknown")  # no entry of the PDB
    assert record.notes == toy_pair.notes


def test_splits_are_told_apart(toy_data: Path) -> None:
    made = Dataset(toy_data)
    assert [r.name for r in made.of_split("train")] == ["toy0", "toy1", "toy2", "toy3"]
    assert [r.name for r in made.of_split("validation")] == ["toy4"]


def test_a_shard_counts_only_when_its_list_is_there(
    toy_pair: TrainingPair, tmp_path: Path
) -> None:
    dataset.write_shard(tmp_path, "key", [toy_pair])
    assert dataset.is_written(tmp_path, "key")
    assert not dataset.is_written(tmp_path, "another")
    dataset.shard_path(tmp_path, "key").with_suffix(".json").unlink()
    assert not dataset.is_written(tmp_path, "key")
    with pytest.raises(InputError, match="no training volumes"):
        dataset.write_manifest(tmp_path, [], {})


def test_an_unfinished_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="python -m training prepare"):
        Dataset(tmp_path)


def test_damage_is_named(toy_pair: TrainingPair, tmp_path: Path) -> None:
    dataset.write_shard(tmp_path, "key", [toy_pair])
    dataset.write_manifest(tmp_path, ["key"], {})
    path = dataset.shard_path(tmp_path, "key")
    np.save(path, np.load(path)[:-5])
    with pytest.raises(InputError, match="too short for toy"):
        Dataset(tmp_path)
    path.write_bytes(b"rubbish")
    with pytest.raises(InputError, match=path.name):
        Dataset(tmp_path)
    manifest = tmp_path / dataset.MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": "another"}))
    with pytest.raises(InputError, match="another"):
        Dataset(tmp_path)
    manifest.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Dataset(tmp_path)
