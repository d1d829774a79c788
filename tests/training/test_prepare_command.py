from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_mrc
from tests.training.conftest import compact_chain, write_structure
from training.prepare.dataset import Dataset, TrainingPair
from training.prepare.structures import unpack

ROOT = Path(__file__).parent.parent.parent


def prepare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", "prepare", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    folder = tmp_path / "structures"
    folder.mkdir()
    for seed, name in enumerate(("one", "two", "three")):
        write_structure(compact_chain(400, seed, name), folder / f"{name}.pdb")
    (folder / "manifest.tsv").write_text("pdb\tsplit\tcluster\none\theld_out\t1\n")
    return folder


def test_structures_become_volumes_but_for_the_held_out(structures: Path, tmp_path: Path) -> None:
    done = prepare(tmp_path / "data", "--structures", structures, "--largest-box", "96",
                   "--views", "2", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    made = Dataset(tmp_path / "data")
    assert sorted(r.name for r in made.records) == ["three", "three", "two", "two"]
    first, second = (made.load(r)["truth"] for r in made.records if r.name == "two")
    assert first.shape != second.shape or not np.array_equal(first, second)
    assert "4 pairs" in done.stdout


def test_it_goes_on_where_it_was_interrupted(structures: Path, tmp_path: Path) -> None:
    arguments = (tmp_path / "data", "--structures", structures, "--largest-box", "96")
    assert prepare(*arguments).returncode == 0
    (shard,) = (tmp_path / "data").glob("shard-*.npy")
    before = shard.stat().st_mtime_ns
    (tmp_path / "data" / "manifest.json").unlink()
    assert prepare(*arguments).returncode == 0
    assert shard.stat().st_mtime_ns == before
    assert len(Dataset(tmp_path / "data").records) == 2


def test_what_is_asked_for_otherwise_is_made_anew(structures: Path, tmp_path: Path) -> None:
    arguments = (tmp_path / "data", "--structures", structures, "--largest-box", "96")
    assert prepare(*arguments).returncode == 0
    first = Dataset(tmp_path / "data")
    done = prepare(*arguments, "--seed", "7")
    assert done.returncode == 0
    second = Dataset(tmp_path / "data")
    assert {r.notes["seed"] for r in first.records} == {1}
    assert {r.notes["seed"] for r in second.records} == {7}
    assert "2 pairs" in done.stdout


def test_a_pack_serves_as_well_as_the_folder(structures: Path, tmp_path: Path) -> None:
    pack = tmp_path / "atoms.npz"
    done = prepare(pack, "--structures", structures, "--pack",
                   "--split", "held_out", "--split", "train")
    assert done.returncode == 0, done.stderr
    assert sorted(a.name for a in unpack(pack)) == ["one", "three", "two"]
    done = prepare(tmp_path / "data", "--structures", pack, "--largest-box", "96")
    assert done.returncode == 0, done.stderr
    assert len(Dataset(tmp_path / "data").records) == 2


def test_half_maps_of_ones_own_join_them(
    structures: Path, toy_pair: TrainingPair, tmp_path: Path
) -> None:
    halves = [
        write_mrc(tmp_path / f"half{k}.mrc", half, 1.5)
        for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
    ]
    same = write_mrc(tmp_path / "same.mrc", toy_pair.half_1, 1.5)
    done = prepare(tmp_path / "data", "--structures", structures, "--largest-box", "96",
                   "--half-maps", *halves, "--half-maps", halves[0], same)
    assert done.returncode == 0, done.stderr
    assert "are the same map" in done.stderr
    records = Dataset(tmp_path / "data").records
    real = [r for r in records if "truth" not in r.arrays]
    assert [r.name for r in real] == ["half1"]
    # Without the structures and the pair that was not fit: only what is asked for now.
    done = prepare(tmp_path / "data", "--half-maps", *halves)
    assert [r.name for r in Dataset(tmp_path / "data").records] == ["half1"]


def test_a_contact_sheet_is_drawn(
    structures: Path, toy_pair: TrainingPair, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    real = write_mrc(tmp_path / "real.mrc", toy_pair.half_1, 1.5)
    done = prepare(tmp_path / "data", "--structures", structures, "--largest-box", "96",
                   "--sheet", tmp_path / "sheet.png", "--beside", real)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_nothing_to_prepare_is_a_usage_error(tmp_path: Path) -> None:
    done = prepare(tmp_path / "data")
    assert done.returncode == 2
    assert "give --structures, --emdb or --half-maps" in done.stderr
