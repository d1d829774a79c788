from __future__ import annotations

from pathlib import Path

import gemmi
import pytest


@pytest.fixture
def structure(tmp_path: Path) -> Path:
    """A chain of carbon atoms, 40 Å long."""
    made = gemmi.Structure()
    made.add_model(gemmi.Model("1") if gemmi.__version__ < "0.7" else gemmi.Model(1))
    chain = gemmi.Chain("A")
    for number in range(11):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(number + 1, " ")
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos, atom.b_iso, atom.occ = gemmi.Position(4 * number, 100, 0), 30, 1
        residue.add_atom(atom)
        chain.add_residue(residue)
    made[0].add_chain(chain)
    made.setup_entities()
    path = tmp_path / "toy.cif"
    made.make_mmcif_document().write_file(str(path))
    return path
