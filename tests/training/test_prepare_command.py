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


def test_masks_go_with_their_pairs(toy_pair: TrainingPair, tmp_path: Path) -> None:
    masks = []
    given: list[str | Path] = []
    for name, radius in (("a", 12), ("b", 24)):
        (tmp_path / name).mkdir()
        given += ["--half-maps"]
        given += [
            write_mrc(tmp_path / name / f"half{k}.mrc", half, 1.5)
            for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
        ]
        axis = np.arange(64) - 32
        ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= radius**2
        masks.append(ball.astype(np.float32))
        given += ["--mask", write_mrc(tmp_path / name / "mask.mrc", masks[-1], 1.5)]
    done = prepare(tmp_path / "data", *given)
    assert done.returncode == 0, done.stderr
    made = Dataset(tmp_path / "data")
    assert [r.name for r in made.records] == ["a/half1", "b/half1"]
    for record, mask in zip(made.records, masks, strict=True):
        assert made.load(record)["mask"].sum(dtype=np.float64) == mask.sum(dtype=np.float64)
    done = prepare(tmp_path / "data", *given[:-2])
    assert done.returncode == 2
    assert "1 --mask for 2 --half-maps" in done.stderr


def test_real_pairs_can_validate(toy_pair: TrainingPair, tmp_path: Path) -> None:
    given: list[str | Path] = []
    for name in ("a", "b"):
        given += ["--half-maps"]
        given += [
            write_mrc(tmp_path / f"{name}{k}.mrc", half, 1.5)
            for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
        ]
    for share, expected in (
        # By the SHA-256 of the names, which begin with 0xf5 and 0x7d: above and below a half.
        ("0.5", {"a1": "train", "b1": "validation"}),
        ("1", {"a1": "validation", "b1": "validation"}),
        ("0", {"a1": "train", "b1": "train"}),
    ):
        done = prepare(tmp_path / "data", *given, "--validation-share", share)
        assert done.returncode == 0, done.stderr
        splits = {r.name: r.split for r in Dataset(tmp_path / "data").records}
        assert splits == expected
        assert f"{list(splits.values()).count('validation')} of them for validation" in done.stdout


def test_the_licence_is_that_of_ones_own_files_alone(
    structures: Path, toy_pair: TrainingPair, tmp_path: Path
) -> None:
    halves = [
        write_mrc(tmp_path / f"half{k}.mrc", half, 1.5)
        for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1)
    ]
    write_structure(compact_chain(400, 5, "1abc"), structures / "1abc.pdb")
    with (structures / "manifest.tsv").open("a") as manifest:
        manifest.write("1abc\ttrain\t2\ntwo\ttrain\t3\nthree\theld_out\t4\n")
    arguments: list[str | Path] = [
        tmp_path / "data", "--structures", structures, "--largest-box", "96",
        "--half-maps", *halves,
    ]
    for licence in ("unknown", "CC-BY-4.0"):
        option = [] if licence == "unknown" else ["--licence", licence]
        done = prepare(*arguments, *option)
        assert done.returncode == 0, done.stderr
        assert {(r.name, r.source, r.licence) for r in Dataset(tmp_path / "data").records} == {
            ("1abc", "simulated from PDB 1abc", "CC0-1.0 (wwPDB)"),
            ("two", "simulated from two.pdb", licence),
            ("half1", "half1.mrc, half2.mrc", licence),
        }


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


def test_a_pack_needs_structures_and_a_file_s_name(structures: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    for name in ("atoms", "folder.npz"):
        done = prepare(tmp_path / name, "--structures", structures, "--pack")
        assert (done.returncode, "ends in .npz" in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.glob("atoms*"))
    (tmp_path / "list").write_text("")
    done = prepare(tmp_path / "atoms.npz", "--emdb", tmp_path / "list", "--pack")
    assert (done.returncode, "--pack needs --structures" in done.stderr) == (2, True), done.stderr


def test_a_file_in_the_place_of_the_folder_is_one_line(structures: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    done = prepare(tmp_path / "data", "--structures", structures)
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path / 'data'} cannot be a folder: File exists\n"
