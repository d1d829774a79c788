"""The tables of everything a run depended on, from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blush_onnx.report.content import Section, Table

GROUPS = {
    "settings": "Settings", "cut_off": "Cut-off", "patches": "Patches", "model": "Model",
    "engine": "Engine", "versions": "Versions", "seconds": "Times (s)",
}


def settings_section(record: Mapping[str, Any]) -> Section:
    """Inputs with their checksums, settings, model, engine, versions and times.

    Parameters
    ----------
    record : mapping
        As :func:`blush_onnx.report.record.denoise_record` makes it; parts that are missing
        are left out.

    Returns
    -------
    Section
    """
    tables = [_files(record)]
    tables += [
        Table(caption, ("Name", "Value"), _rows(record[key]))
        for key, caption in GROUPS.items() if record.get(key)
    ]
    return Section(
        "settings", "Settings and checksums",
        text=["The same is in report.json, for programs to read."], tables=tables,
    )


def _files(record: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"input {number}", source["path"],
            " × ".join(str(length) for length in source["box"][::-1]),
            f"{source['voxel_size_angstrom']:g} Å", source["sha256"],
        )
        for number, source in enumerate(record.get("inputs", ()), 1)
    ]
    rows += [
        (f"mask ({role})", mask["path"], "", "", mask["sha256"])
        for role, mask in record.get("masks", {}).items()
    ]
    rows += [("written", name, "", "", "") for name in record.get("files", ())]
    return Table("Files", ("", "File", "Box (x × y × z)", "Voxel size", "SHA-256"), rows)


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += _rows(value, f"{name}: ")
        else:
            rows.append((name, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value)
