from __future__ import annotations

import dataclasses
from pathlib import Path

import gemmi
import numpy as np
import pytest

from training.prepare import simulate
from training.prepare.dataset import TrainingPair, write_manifest, write_shard
from training.prepare.structures import Atoms


def compact_chain(atoms: int = 900, seed: int = 3, name: str = "toy") -> Atoms:
    """A made-up protein: a random walk folded into a ball, carbons, nitrogens and oxygens."""
    rng = np.random.default_rng(seed)
    positions = np.zeros((atoms, 3))
    for i in range(1, atoms):
        step = rng.standard_normal(3) - 0.06 * positions[i - 1]
        positions[i] = positions[i - 1] + 1.5 * step / np.linalg.norm(step)
    positions -= (positions.min(axis=0) + positions.max(axis=0)) / 2
    return Atoms(
        name,
        positions.astype(np.float32),
        rng.choice(np.array([6, 6, 6, 7, 8], dtype=np.uint8), atoms),
        rng.uniform(10, 40, atoms).astype(np.float32),
        np.repeat(np.arange(2, dtype=np.int16), [atoms // 2, atoms - atoms // 2]),
        False,
        name,
        "train",
    )


def write_structure(atoms: Atoms, path: Path) -> Path:
    """The atoms as a PDB file, with a water and a hydrogen that do not belong."""
    structure, model = gemmi.Structure(), gemmi.Model(1)
    for number in np.unique(atoms.chains):
        chain = gemmi.Chain("AB"[number])
        for i in np.flatnonzero(atoms.chains == number):
            residue = gemmi.Residue()
            residue.name, residue.seqid = "GLY", gemmi.SeqId(str(i % 9999 + 1))
            residue.add_atom(_atom("CA", atoms.elements[i], atoms.positions[i], atoms.b_factors[i]))
            if i == 0:
                residue.add_atom(_atom("H", 1, atoms.positions[i] + 1, 20.0))
            chain.add_residue(residue)
        model.add_chain(chain)
    waters, water = gemmi.Chain("W"), gemmi.Residue()
    water.name, water.seqid = "HOH", gemmi.SeqId("1")
    water.add_atom(_atom("O", 8, np.array([90.0, 0, 0]), 20.0))
    waters.add_residue(water)
    model.add_chain(waters)
    structure.add_model(model)
    structure.setup_entities()
    structure.write_pdb(str(path))
    return path


def _atom(name: str, number: int, place: np.ndarray, b_factor: float) -> gemmi.Atom:
    atom = gemmi.Atom()
    atom.name, atom.element = name, gemmi.Element(int(number))
    atom.pos, atom.b_iso = gemmi.Position(*(float(p) for p in place)), float(b_factor)
    return atom


SMALL = simulate.Settings(smallest_box=64, largest_box=64)


@pytest.fixture(scope="session")
def toy_pair() -> TrainingPair:
    return simulate.simulate(compact_chain(), 5, SMALL)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small volumes to train on and one to validate with."""
    folder = tmp_path_factory.mktemp("volumes")
    pairs = [simulate.simulate(compact_chain(600, s, f"toy{s}"), 1, SMALL) for s in range(5)]
    pairs[4] = dataclasses.replace(pairs[4], split="validation")
    write_shard(folder, "one", pairs[:3])
    write_shard(folder, "two", pairs[3:])
    write_manifest(folder, ["one", "two"], {"made": "for tests"})
    return folder
