"""Atomic models to simulate from: read once, packed small, split by sequence cluster."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from training.prepare.dataset import SPLITS

MANIFEST = "manifest.tsv"
SUFFIXES = (".cif", ".cif.gz", ".pdb", ".pdb.gz", ".ent", ".ent.gz")
PACKED_STEP = 0.02
"""Positions in a pack are rounded to this, Å."""
VALIDATION_SHARE = 0.04
"""Of the training clusters that are set aside to watch the training by."""
PDB_LICENCE = "CC0-1.0 (wwPDB)"
PDB_ID = re.compile(r"[1-9][a-z0-9]{3}|pdb_[a-z0-9]{8}", re.IGNORECASE)
UNKNOWN = "unknown"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Atoms:
    """An atomic model without waters and hydrogens.

    Attributes
    ----------
    name : str
        PDB id or file name.
    positions : array, (atoms, 3), float32
        x, y, z in Å, about the middle of their box.
    elements : array, (atoms,), uint8
        Atomic numbers.
    b_factors : array, (atoms,), float32
        Å².
    chains : array, (atoms,), int16
        Number of the chain.
    membrane : bool
        Whether it sits in a membrane.
    cluster : str
        Of similar sequences; never divided between splits.
    split : str
        train, validation or held_out.
    source, licence : str
        One line each; the source is the name where none is given.
    """

    name: str
    positions: Floats
    elements: npt.NDArray[np.uint8]
    b_factors: Floats
    chains: npt.NDArray[np.int16]
    membrane: bool
    cluster: str
    split: str
    source: str = ""
    licence: str = UNKNOWN

    @property
    def diameter(self) -> float:
        """Of the sphere about the middle of the box that holds all atoms, Å."""
        return 2 * float(np.sqrt(np.square(self.positions).sum(axis=1).max()))


def read_structure(
    path: Path, *, membrane: bool = False, cluster: str = "", split: str = "train",
    from_pdb: bool = False,
) -> Atoms:
    """Read one structure.

    Parameters
    ----------
    path : Path
        PDB or mmCIF, also .gz; its first model is taken.
    membrane, cluster, split
        See :class:`Atoms`; the cluster is the name where none is given.
    from_pdb : bool
        Whether it is the entry of the PDB that it is named after.

    Returns
    -------
    Atoms

    Raises
    ------
    InputError
        Unreadable or without atoms.
    """
    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable structure: {reason}") from error
    structure.remove_waters()
    structure.remove_hydrogens()
    rows = []
    if len(structure):
        for number, chain in enumerate(structure[0]):
            for residue in chain:
                rows += [
                    (*atom.pos.tolist(), atom.element.atomic_number, atom.b_iso, number)
                    for atom in residue
                ]
    if not rows:
        raise InputError(f"{path} holds no atoms")
    table = np.array(rows, dtype=np.float64)
    positions = table[:, :3] - (table[:, :3].min(axis=0) + table[:, :3].max(axis=0)) / 2
    name = path.name.split(".")[0]
    return Atoms(
        name,
        positions.astype(np.float32),
        table[:, 3].astype(np.uint8),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int16),
        membrane,
        cluster or name,
        split,
        f"PDB {name}" if from_pdb else path.name,
        PDB_LICENCE if from_pdb else UNKNOWN,
    )


def read_folder(folder: Path, largest_diameter: float = np.inf) -> Iterator[Atoms]:
    """Read the structures of a folder, with its manifest.tsv where there is one.

    The manifest's columns pdb, cluster, split and membrane count; a few clusters of the
    split ``train`` become ``validation``, always the same ones. What it names by a PDB id is
    taken for that entry of the PDB, anything else for somebody's own file. Capital letters
    make no difference.

    Parameters
    ----------
    folder : Path
    largest_diameter : float
        Leave out what is wider, Å.

    Yields
    ------
    Atoms
        In the order of their names.

    Raises
    ------
    InputError
        The folder holds no structures, or one or the manifest is unreadable.
    """
    files = {
        path.name.split(".")[0]: path
        for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)
    }
    if not files:
        raise InputError(f"{folder} holds no structures ({', '.join(SUFFIXES)})")
    rows = _read_manifest(folder / MANIFEST)
    for name, path in files.items():
        row = rows.get(name.lower(), {})
        cluster = row.get("cluster") or name
        atoms = read_structure(
            path,
            membrane=row.get("membrane") == "membrane",
            cluster=cluster,
            split=split_of(cluster, row.get("split") or "train"),
            from_pdb=bool(row) and PDB_ID.fullmatch(name) is not None,
        )
        if atoms.diameter <= largest_diameter:
            yield atoms


def split_of(cluster: str, split: str, validation_share: float = VALIDATION_SHARE) -> str:
    """Split of a cluster: a fixed few of the training ones are for validation."""
    if split != "train":
        return split
    number = int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big") / 2**32
    return "validation" if number < validation_share else "train"


def pack(structures: Iterable[Atoms], path: Path) -> int:
    """Write structures into one small file, positions to 0.02 Å and B factors to 1 Å².

    Parameters
    ----------
    structures : iterable of Atoms
        Up to 655 Å wide.
    path : Path
        .npz

    Returns
    -------
    int
        Number of structures.
    """
    chosen = list(structures)
    np.savez_compressed(
        path,
        names=np.array([a.name for a in chosen]),
        clusters=np.array([a.cluster for a in chosen]),
        splits=np.array([a.split for a in chosen]),
        sources=np.array([a.source for a in chosen]),
        licences=np.array([a.licence for a in chosen]),
        membranes=np.array([a.membrane for a in chosen]),
        counts=np.array([len(a.elements) for a in chosen]),
        # Differences along a chain are small numbers and compress well.
        steps=np.concatenate([
            np.diff(np.rint(a.positions / PACKED_STEP).astype(np.int16), axis=0, prepend=0)
            for a in chosen
        ]),
        elements=np.concatenate([a.elements for a in chosen]),
        b_factors=np.concatenate([np.clip(a.b_factors, 0, 255).astype(np.uint8) for a in chosen]),
        chains=np.concatenate([a.chains for a in chosen]),
    )
    return len(chosen)


def unpack(path: Path) -> list[Atoms]:
    """Read what :func:`pack` wrote.

    Raises
    ------
    InputError
        Not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {name: stored[name] for name in stored.files}
        ends = np.cumsum(data["counts"])
        # The first packs had neither.
        data.setdefault("sources", data["names"])
        data.setdefault("licences", np.full(len(ends), UNKNOWN))
        found = []
        for i, end in enumerate(ends):
            place = slice(end - data["counts"][i], end)
            # int16 sums wrap around as the differences did.
            whole = np.cumsum(data["steps"][place], axis=0, dtype=np.int16)
            found.append(
                Atoms(
                    str(data["names"][i]), whole.astype(np.float32) * np.float32(PACKED_STEP),
                    data["elements"][place], data["b_factors"][place].astype(np.float32),
                    data["chains"][place], bool(data["membranes"][i]),
                    str(data["clusters"][i]), str(data["splits"][i]),
                    str(data["sources"][i]), str(data["licences"][i]),
                )
            )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a pack of structures: {error}") from error
    return found


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        # Spreadsheets put a byte order mark before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = {row["pdb"].lower(): row for row in csv.DictReader(stream, delimiter="\t")}
    except KeyError as error:
        raise InputError(
            f"{path} has no column pdb: its first line names the columns, with tabs between"
        ) from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table with tabs between: {error}") from error
    for row in rows.values():
        if (split := row.get("split") or "train") not in SPLITS:
            raise InputError(
                f"{path}: {row['pdb']} has the split {split!r}, not {', '.join(SPLITS)}"
            )
    return rows
