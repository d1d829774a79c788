from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from blush_onnx.errors import InputError
from tests.training.conftest import compact_chain, write_structure
from training.prepare import structures


def test_waters_and_hydrogens_are_left_out_and_the_atoms_centred(tmp_path: Path) -> None:
    atoms = compact_chain()
    read = structures.read_structure(write_structure(atoms, tmp_path / "toy.pdb"))
    assert (read.name, len(read.elements)) == ("toy", len(atoms.elements))
    np.testing.assert_allclose(read.positions, atoms.positions, atol=2e-3)
    np.testing.assert_array_equal(read.chains, atoms.chains)
    np.testing.assert_allclose(
        read.positions.min(axis=0), -read.positions.max(axis=0), atol=1e-3
    )


def test_a_pack_keeps_positions_to_a_hundredth_of_an_angstrom(tmp_path: Path) -> None:
    chosen = [compact_chain(500, 1, "one"), compact_chain(300, 2, "two")]
    chosen[1] = dataclasses.replace(
        chosen[1], membrane=True, split="held_out", source="two.pdb", licence="CC-BY-4.0"
    )
    assert structures.pack(chosen, tmp_path / "atoms.npz") == 2
    for before, after in zip(chosen, structures.unpack(tmp_path / "atoms.npz"), strict=True):
        np.testing.assert_allclose(after.positions, before.positions, atol=0.0101)
        np.testing.assert_array_equal(after.elements, before.elements)
        np.testing.assert_allclose(after.b_factors, before.b_factors, atol=1)
        assert dataclasses.astuple(after)[5:] == dataclasses.astuple(before)[5:]
        assert after.name == before.name


def test_a_pack_from_before_provenance_is_of_unknown_licence(tmp_path: Path) -> None:
    structures.pack([compact_chain(50)], tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as stored:
        old = {k: v for k, v in stored.items() if k not in ("sources", "licences")}
    np.savez(tmp_path / "old.npz", **old)
    (read,) = structures.unpack(tmp_path / "old.npz")
    assert (read.source, read.licence) == ("toy", "unknown")


@pytest.mark.parametrize(
    ("name", "manifest", "source", "licence"),
    [
        ("1abc", "pdb\n1abc\n", "PDB 1abc", structures.PDB_LICENCE),
        ("pdb_00001abc", "pdb\npdb_00001abc\n", "PDB pdb_00001abc", structures.PDB_LICENCE),
        ("1abc", "pdb\n1ABC\n", "PDB 1abc", structures.PDB_LICENCE),
        ("1abc", "", "1abc.pdb", "unknown"),
        ("1abc", "pdb\n2abc\n", "1abc.pdb", "unknown"),
        ("mine", "pdb\nmine\n", "mine.pdb", "unknown"),
    ],
)
def test_only_what_a_manifest_names_by_a_pdb_id_is_the_pdbs(
    tmp_path: Path, name: str, manifest: str, source: str, licence: str
) -> None:
    write_structure(compact_chain(50), tmp_path / f"{name}.pdb")
    if manifest:
        (tmp_path / "manifest.tsv").write_text(manifest)
    (read,) = structures.read_folder(tmp_path)
    assert (read.source, read.licence) == (source, licence)


def test_a_cluster_is_never_divided_and_a_few_validate() -> None:
    splits = [structures.split_of(str(cluster), "train") for cluster in range(2000)]
    # 4 % of 2000 clusters, binomial: 80 ± 9.
    assert 50 < splits.count("validation") < 110
    assert structures.split_of("7", "train") == structures.split_of("7", "train")
    half = [structures.split_of(str(cluster), "train", 0.5) for cluster in range(2000)]
    assert 900 < half.count("validation") < 1100  # 1000 ± 22
    # What validates keeps doing so where more does.
    assert all(h == s for h, s in zip(half, splits, strict=True) if s == "validation")
    assert {structures.split_of(str(c), "train", 0) for c in range(200)} == {"train"}
    assert {structures.split_of(str(c), "held_out") for c in range(200)} == {"held_out"}


def test_the_manifest_says_cluster_split_and_membrane(tmp_path: Path) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    (tmp_path / "manifest.tsv").write_text(
        "pdb\tcluster\tsplit\tmembrane\ntoy\t12\theld_out\tmembrane\n"
    )
    (read,) = structures.read_folder(tmp_path)
    assert (read.cluster, read.split, read.membrane) == ("12", "held_out", True)


def test_the_manifest_in_the_documentation_holds_one_out(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (line,) = (each for each in text.splitlines() if each.strip().startswith("printf"))
    subprocess.run(["sh", "-c", line.replace("FOLDER", str(tmp_path))], check=True)
    for name in ("6nbb", "7a4m"):
        write_structure(compact_chain(50), tmp_path / f"{name}.pdb")
    assert [a.split for a in structures.read_folder(tmp_path)] == ["train", "held_out"]


def test_what_is_too_wide_is_left_out(tmp_path: Path) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    assert list(structures.read_folder(tmp_path, largest_diameter=10)) == []


@pytest.mark.parametrize("content", ["", "nonsense\n" * 5])
def test_a_file_without_atoms_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.pdb"
    path.write_text(content)
    with pytest.raises(InputError, match="broken.pdb"):
        structures.read_structure(path)


def test_other_files_are_no_pack(tmp_path: Path) -> None:
    (tmp_path / "atoms.npz").write_bytes(b"not one")
    with pytest.raises(InputError, match="atoms.npz"):
        structures.unpack(tmp_path / "atoms.npz")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no structures"):
        list(structures.read_folder(tmp_path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"name\tsplit\ntoy\ttrain\n", "has no column pdb"),
        (b"pdb,split\ntoy,train\n", "has no column pdb"),
        (b"pdb\tsplit\ntoy\theldout\n", "toy has the split 'heldout', not train, validation"),
        (b"pdb\tsplit\n\xff\ttrain\n", "is not a table"),
    ],
)
def test_a_wrong_manifest_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes, why: str
) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    (tmp_path / "manifest.tsv").write_bytes(content)
    with pytest.raises(InputError, match=f"manifest.tsv.* {why}"):
        list(structures.read_folder(tmp_path))


def test_a_spreadsheets_manifest_is_read(tmp_path: Path) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    (tmp_path / "manifest.tsv").write_bytes(b"\xef\xbb\xbfpdb\tsplit\r\ntoy\theld_out\r\n")
    (read,) = structures.read_folder(tmp_path)
    assert read.split == "held_out"
