"""Pairs of half-maps from the EMDB: the paper's selection, and downloads that resume."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from blush_onnx.errors import InputError, OutputError
from training.prepare.half_maps import PairOfFiles

logger = logging.getLogger(__name__)

ENTRY_ADDRESS = "https://www.ebi.ac.uk/emdb/api/entry/EMD-{number}"
FILE_ADDRESS = (
    "https://ftp.ebi.ac.uk/pub/databases/emdb/structures/EMD-{number}/other/{file}"
)
LICENCE = "CC0-1.0 (EMDB)"
CHECKSUMS = "sha256.json"
WORST_RESOLUTION = 4.0
TIMEOUT = 60
CHUNK = 1 << 16
"""Bytes; what of one has come when a download breaks off is lost."""


@dataclass(frozen=True)
class Entry:
    """What the EMDB says of an entry.

    Attributes
    ----------
    number : str
    resolution : float or None
        As reported, Å.
    half_maps : tuple of str
        File names.
    """

    number: str
    resolution: float | None
    half_maps: tuple[str, ...]


def read_list(path: Path) -> list[str]:
    """Entry numbers of a list: one EMD-1234 (or 1234) a line, # starts a comment.

    Raises
    ------
    InputError
        A line is something else.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = re.fullmatch(r"(?:EMD-)?(\d{4,6})", text, re.IGNORECASE)
        if not match:
            raise InputError(f"{path}: {text!r} is no EMDB id such as EMD-11638")
        found.append(match[1])
    return found


def read_entry(number: str, address: str = ENTRY_ADDRESS) -> Entry:
    """Ask the EMDB for an entry's resolution and half-maps.

    Parameters
    ----------
    number : str
    address : str
        With {number}.

    Returns
    -------
    Entry

    Raises
    ------
    InputError
        No answer, or not an entry.
    """
    url = address.format(number=number)
    try:
        answer = requests.get(url, timeout=TIMEOUT)
        answer.raise_for_status()
        content = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise InputError(f"EMD-{number}: no entry at {url}: {error}") from error
    resolutions = [
        float(value["valueOf_"])
        for value in _values(content, "resolution")
        if isinstance(value, dict) and _is_number(value.get("valueOf_"))
    ]
    files = [
        str(half["file"])
        for halves in _values(content, "half_map")
        for half in (halves if isinstance(halves, list) else [halves])
        if isinstance(half, dict) and "file" in half
    ]
    return Entry(number, min(resolutions, default=None), tuple(files))


def why_not(entry: Entry, worst_resolution: float = WORST_RESOLUTION) -> str | None:
    """Reason to leave an entry out, after the paper's rules; None: it is taken."""
    if len(entry.half_maps) != 2:
        return f"{len(entry.half_maps)} half-maps are deposited, two are wanted"
    if entry.resolution is None:
        return "no resolution is reported"
    if entry.resolution >= worst_resolution:
        return f"{entry.resolution:g} Å is reported, better than {worst_resolution:g} Å is wanted"
    return None


def download(url: str, path: Path, checksums: dict[str, str]) -> None:
    """Download a file, going on where an earlier attempt ended; check what is known of it.

    It goes on only if the file on the server is still the same by its ETag, or its date where
    it has none; else it starts again.

    Parameters
    ----------
    url : str
    path : Path
        Written under another name until it is whole.
    checksums : dict
        SHA-256 by file name; a file that is not in it is added.

    Raises
    ------
    InputError
        The download failed or the checksum differs from an earlier one.
    OutputError
        The folder cannot be written.
    """
    known = checksums.get(path.name)
    if path.is_file():
        if known is None or _sha256(path) == known:
            checksums.setdefault(path.name, _sha256(path))
            return
        path.unlink()
    partial, version = (path.with_name(path.name + end) for end in (".part", ".version"))
    try:
        _fetch(url, partial, version)
    except requests.RequestException as error:
        raise InputError(f"{url}: the download failed, run again to go on: {error}") from error
    except OSError as error:
        raise OutputError(f"{partial} cannot be written: {error}") from error
    found = _sha256(partial)
    version.unlink(missing_ok=True)
    if known not in (None, found):
        partial.unlink()
        raise InputError(f"{url}: SHA-256 {found}, {known} was recorded: it changed on the server")
    checksums[path.name] = found
    partial.replace(path)


def _fetch(url: str, partial: Path, version: Path) -> None:
    """Complete a partial file; what it is a part of stands beside it."""
    # As it lies on the server: ranges are of the compressed file.
    headers = {"Accept-Encoding": "identity"}
    same = version.read_text(encoding="utf-8") if version.is_file() else ""
    if same and partial.is_file() and (have := partial.stat().st_size):
        headers |= {"Range": f"bytes={have}-", "If-Range": same}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is missing
            return
        answer.raise_for_status()
        goes_on = answer.status_code == 206
        if not goes_on:
            partial.unlink(missing_ok=True)
            version.write_text(_version(answer), encoding="utf-8")
        with partial.open("ab") as stream:
            for chunk in answer.iter_content(CHUNK):
                stream.write(chunk)


def _version(answer: requests.Response) -> str:
    """What tells a file from a later one of its name; empty: nothing does."""
    tag = answer.headers.get("ETag", "")
    # Weak tags hold for files that only mean the same: no part may be joined by them.
    return str(tag if tag.startswith('"') else answer.headers.get("Last-Modified", ""))


def pairs(
    numbers: list[str], folder: Path, failed: list[str],
    worst_resolution: float = WORST_RESOLUTION, entry_address: str = ENTRY_ADDRESS,
    file_address: str = FILE_ADDRESS,
) -> Iterator[PairOfFiles]:
    """Download the pairs of a list, one after the other; say why others are left out.

    Checksums of the first download are kept in the folder's ``sha256.json`` and hold for
    every later one.

    Parameters
    ----------
    numbers : list of str
    folder : Path
        Of the downloads.
    failed : list of str
        Gets the numbers of what did not come, as told from what the rules leave out.
    worst_resolution : float
        Å.
    entry_address, file_address : str
        Of a mirror, with {number} and {file}.

    Yields
    ------
    PairOfFiles
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / CHECKSUMS
    checksums: dict[str, str] = json.loads(store.read_text()) if store.is_file() else {}
    for number in numbers:
        try:
            entry = read_entry(number, entry_address)
            if reason := why_not(entry, worst_resolution):
                logger.warning("EMD-%s is left out: %s", number, reason)
                continue
            files = []
            for name in sorted(entry.half_maps):
                path = folder / Path(name).name
                download(file_address.format(number=number, file=name), path, checksums)
                files.append(path)
        except InputError as error:
            logger.warning("EMD-%s failed: %s", number, error)
            failed.append(number)
            continue
        finally:
            store.write_text(json.dumps(checksums, indent=1, sort_keys=True), encoding="utf-8")
        yield PairOfFiles(
            f"EMD-{number}", files[0], files[1], source=f"EMD-{number}", licence=LICENCE
        )


def _values(tree: Any, key: str) -> Iterator[Any]:
    """All values under a key, however deep."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value, key)


def _is_number(value: object) -> bool:
    try:
        return float(str(value)) > 0
    except ValueError:
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
