"""Training volumes on disk: shards of half-precision numbers, mapped into memory, and a manifest.

A folder holds shards (``shard-….npy``, one-dimensional, float16) with a ``.json`` beside each
that lists its volumes, and ``manifest.json``, which joins the lists. A shard is named after
what was asked for and written whole or not at all, so preparing goes on where it was
interrupted, and what was asked for otherwise is made anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume

MANIFEST = "manifest.json"
FORMAT = "blush-onnx training volumes, version 1"
SPLITS = ("train", "validation", "held_out")

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class TrainingPair:
    """Two half-maps at the model's voxel size with their mask.

    Attributes
    ----------
    name : str
    half_1, half_2, mask : array, (side, side, side), float32
        Even side; the mask in 0…1 around what is ordered.
    truth : array like them, or None
        What both halves are noisy versions of, where it is known.
    voxel_size : float
        Å.
    resolution : float
        Where the halves' FSC falls to 0.143, Å.
    cluster, split : str
        Of similar sequences; train, validation or held_out.
    source, licence : str
        One line each.
    notes : dict
        How it was made.
    """

    name: str
    half_1: Volume
    half_2: Volume
    mask: Volume
    truth: Volume | None
    voxel_size: float
    resolution: float
    cluster: str
    split: str
    source: str
    licence: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One line of the manifest: a pair without its numbers.

    Attributes
    ----------
    shard : str
        File name.
    offset : int
        First element in the shard.
    side : int
        Voxels.
    arrays : tuple of str
        What is stored, in this order: half_1, half_2, mask and, where known, truth.
    """

    name: str
    shard: str
    offset: int
    side: int
    arrays: tuple[str, ...]
    voxel_size: float
    resolution: float
    cluster: str
    split: str
    source: str
    licence: str
    notes: dict[str, Any]


class Dataset:
    """Prepared volumes of a folder.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    records : list of Record
    fingerprint : str
        SHA-256 of the manifest, which holds the shards' own checksums.

    Raises
    ------
    InputError
        The folder holds no finished data set, or a shard is missing or too short.
    """

    def __init__(self, folder: Path) -> None:
        try:
            raw = (folder / MANIFEST).read_bytes()
            content = json.loads(raw)
            if (found := content["format"]) != FORMAT:
                raise InputError(f"{folder / MANIFEST}: format {found!r}, not {FORMAT!r}")
            self.records = [_record(entry) for entry in content["volumes"]]
        except FileNotFoundError as error:
            raise InputError(
                f"{folder} holds no finished training volumes: run python -m training prepare"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder / MANIFEST} is damaged: {error!r}") from error
        self.fingerprint = hashlib.sha256(raw).hexdigest()
        self._shards: dict[str, Halves] = {}
        for name in sorted({record.shard for record in self.records}):
            try:
                self._shards[name] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise InputError(f"{folder / name} is missing or damaged: {error}") from error
        for record in self.records:
            end = record.offset + len(record.arrays) * record.side**3
            if end > len(self._shards[record.shard]):
                raise InputError(f"{folder / record.shard} is too short for {record.name}")

    def of_split(self, split: str) -> list[Record]:
        """The records of a split."""
        return [record for record in self.records if record.split == split]

    def load(self, record: Record) -> dict[str, Halves]:
        """Arrays of a record, (side, side, side) float16, mapped and not read yet."""
        size, side = record.side**3, record.side
        stored = self._shards[record.shard]
        return {
            name: stored[record.offset + i * size : record.offset + (i + 1) * size].reshape(
                side, side, side
            )
            for i, name in enumerate(record.arrays)
        }


def key_of(request: object) -> str:
    """Name of the shard that answers a request; anything that JSON can write."""
    text = json.dumps(request, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shard_path(folder: Path, key: str) -> Path:
    """File of a shard."""
    return folder / f"shard-{key}.npy"


def is_written(folder: Path, key: str) -> bool:
    """Whether a shard is there, whole: its list is written last."""
    return shard_path(folder, key).with_suffix(".json").is_file()


def write_shard(folder: Path, key: str, pairs: Iterable[TrainingPair]) -> int:
    """Write pairs as one shard, whole or not at all.

    Each pair is divided by the standard deviation of its truth (of the halves' mean where
    there is none) inside the mask, so that half precision fits it.

    Parameters
    ----------
    folder : Path
        Exists.
    key : str
        Of :func:`key_of`.
    pairs : iterable of TrainingPair

    Returns
    -------
    int
        Number of pairs.
    """
    path = shard_path(folder, key)
    pieces: list[Halves] = []
    entries: list[dict[str, Any]] = []
    offset = 0
    for pair in pairs:
        arrays = {"half_1": pair.half_1, "half_2": pair.half_2, "mask": pair.mask}
        if pair.truth is not None:
            arrays["truth"] = pair.truth
        side = pair.mask.shape[0]
        clean = (pair.half_1 + pair.half_2) / 2 if pair.truth is None else pair.truth
        scale = 1 / max(float(clean[pair.mask > 0.5].std()), 1e-30)
        for name, values in arrays.items():
            factor = 1.0 if name == "mask" else scale
            pieces.append((values * np.float32(factor)).astype(np.float16).ravel())
        kept = [f.name for f in dataclasses.fields(pair) if f.name not in (*arrays, "truth")]
        entries.append(
            {key: getattr(pair, key) for key in kept}
            | {"shard": path.name, "offset": offset, "side": side, "arrays": list(arrays)}
        )
        offset += len(arrays) * side**3
    content = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float16)
    partial = path.with_suffix(".part.npy")
    np.save(partial, content)
    partial.replace(path)
    listing = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "volumes": entries}
    partial = path.with_suffix(".part.json")
    partial.write_text(json.dumps(listing, indent=1, ensure_ascii=False), encoding="utf-8")
    partial.replace(path.with_suffix(".json"))
    return len(entries)


def write_manifest(folder: Path, keys: Sequence[str], made_with: dict[str, Any]) -> Dataset:
    """Join the shards' lists to the manifest.

    Parameters
    ----------
    folder : Path
    keys : sequence of str
        Of the shards that belong to it; others in the folder do not count.
    made_with : dict
        Settings and versions, for the record.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        No volume was written.
    """
    volumes: list[dict[str, Any]] = []
    checksums = {}
    for key in keys:
        listing = shard_path(folder, key).with_suffix(".json")
        content = json.loads(listing.read_text(encoding="utf-8"))
        checksums[listing.with_suffix(".npy").name] = content["sha256"]
        volumes += content["volumes"]
    if not volumes:
        raise InputError(f"no training volumes were made in {folder}")
    content = {
        "format": FORMAT, "made_with": made_with, "sha256": checksums, "volumes": volumes,
    }
    path = folder / MANIFEST
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    partial.replace(path)
    return Dataset(folder)


def _record(entry: dict[str, Any]) -> Record:
    names = [f.name for f in dataclasses.fields(Record)]
    return Record(**{name: entry[name] for name in names} | {"arrays": tuple(entry["arrays"])})
