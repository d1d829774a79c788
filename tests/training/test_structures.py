from __future__ import annotations

import dataclasses
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
    chosen[1] = dataclasses.replace(chosen[1], membrane=True, split="held_out")
    assert structures.pack(chosen, tmp_path / "atoms.npz") == 2
    for before, after in zip(chosen, structures.unpack(tmp_path / "atoms.npz"), strict=True):
        np.testing.assert_allclose(after.positions, before.positions, atol=0.0101)
        np.testing.assert_array_equal(after.elements, before.elements)
        np.testing.assert_allclose(after.b_factors, before.b_factors, atol=1)
        assert (after.name, after.split, after.membrane) == (
            before.name, before.split, before.membrane
        )


def test_a_cluster_is_never_divided_and_a_few_validate() -> None:
    splits = [structures.split_of(str(cluster), "train") for cluster in range(2000)]
    # 4 % of 2000 clusters, binomial: 80 ± 9.
    assert 50 < splits.count("validation") < 110
    assert structures.split_of("7", "train") == structures.split_of("7", "train")
    assert {structures.split_of(str(c), "held_out") for c in range(200)} == {"held_out"}


def test_the_manifest_says_cluster_split_and_membrane(tmp_path: Path) -> None:
    write_structure(compact_chain(), tmp_path / "toy.pdb")
    (tmp_path / "manifest.tsv").write_text(
        "pdb\tcluster\tsplit\tmembrane\ntoy\t12\theld_out\tmembrane\n"
    )
    (read,) = structures.read_folder(tmp_path)
    assert (read.cluster, read.split, read.membrane) == ("12", "held_out", True)


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
