"""What an installation has, and whether it works: the facts behind ``blush-onnx doctor``."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from blush_onnx import models, self_test
from blush_onnx.engines import (
    AUTO_ORDER,
    NO_RUNTIME,
    broken_runtimes,
    create_engine,
    installed_providers,
)
from blush_onnx.engines.base import EngineSettings
from blush_onnx.engines.compiled import cache_folder, kept_bytes
from blush_onnx.errors import BlushError
from blush_onnx.machine import available_bytes, available_cpus

TWINS = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml",
    "onnxruntime-migraphx",
)  # fmt: skip
LIBRARIES = (
    "blush-onnx", "numpy", "scipy", "mrcfile", "onnx", *TWINS, "openvino", "torch",
)  # fmt: skip
RELION_COMMAND = "relion_python_blush"


def versions() -> dict[str, str]:
    """Version of Python and of each library that is installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def examine() -> dict[str, Any]:
    """Look at everything and run the self-test on every provider.

    Returns
    -------
    dict
        ``versions``, ``machine``, ``models`` (with the result of each checksum),
        ``default_model``, ``providers`` (with the self-test of each), ``cache`` (folder of
        what engines compiled, and its bytes),
        ``relion_python_blush`` (first of that name on PATH, or None), ``notes`` and
        ``problems``, sentences that say what to know and what to do.
    """
    problems: list[str] = []
    notes: list[str] = []
    twins = [name for name in TWINS if name in _installed()]
    if len(twins) > 1:
        problems.append(
            f"{' and '.join(twins)} are installed together and share one import name: "
            f"uninstall both, then install one (pip uninstall {' '.join(twins)})"
        )
    default, registered = _examine_models(problems)
    return {
        "versions": versions(),
        "machine": {
            "system": platform.platform(),
            "processors": available_cpus(),
            "available_memory_bytes": available_bytes(),
        },
        "default_model": None if default is None else default.config.name,
        "models": registered,
        "providers": _examine_providers(default, problems, notes),
        "cache": _examine_cache(),
        RELION_COMMAND: _examine_relion_command(notes),
        "notes": notes,
        "problems": problems,
    }


def _installed() -> set[str]:
    return {d.metadata["Name"].lower() for d in metadata.distributions() if d.metadata["Name"]}


def _examine_models(problems: list[str]) -> tuple[models.Model | None, list[dict[str, Any]]]:
    rows = []
    for entry in models.registered_models():
        row: dict[str, Any] = {
            "name": entry.name, "origin": entry.origin, "folder": str(entry.folder)
        }
        try:
            row |= {"sha256": models.load_model(entry.folder).sha256, "checksum": "good"}
        except BlushError as error:
            row |= {"checksum": "bad"}
            problems.append(str(error))
        rows.append(row)
    try:
        return models.load_model(), rows
    except BlushError as error:
        problems.append(f"no default model: {error}")
        return None, rows


def _examine_providers(
    default: models.Model | None, problems: list[str], notes: list[str]
) -> list[dict[str, Any]]:
    names = installed_providers()
    problems += broken_runtimes()
    if not names:
        problems.append(NO_RUNTIME)
    rows = []
    for name in names:
        # What nobody gets without asking for it is no problem of the installation.
        complaints = problems if name in AUTO_ORDER else notes
        row: dict[str, Any] = {"provider": name}
        rows.append(row)
        if default is None or name == "tensorrt":  # builds its engine for minutes
            row["self_test"] = "not run"
            continue
        size = default.config.patch_size
        try:
            engine = create_engine(default.content, EngineSettings(name), size)
            row["library"] = engine.description.library
            row["convolutions_on"] = list(engine.description.convolutions_on) or [name]
            if not default.config.self_test:
                row["self_test"] = "not run: the model carries no stored answer"
                continue
            distance = self_test.relative_error(engine, size, default.config.self_test)
            row["relative_error"] = distance
            passed = distance <= self_test.TOLERANCE
        except Exception as error:  # the doctor must survive what ails the patient
            row |= {"self_test": "failed", "reason": str(error)}
            complaints.append(f"{name}: {error}")
            continue
        row["self_test"] = "passed" if passed else "failed"
        if not passed:
            complaints.append(
                f"{name} answers the self-test with a relative error of {distance:.1e} "
                f"(allowed {self_test.TOLERANCE:.0e}): do not use it"
            )
    return rows


def _examine_cache() -> dict[str, Any]:
    folder = cache_folder()
    return {"folder": None if folder is None else str(folder), "bytes": kept_bytes()}


def _examine_relion_command(notes: list[str]) -> str | None:
    """The relion_python_blush that a RELION started from here would call."""
    first = shutil.which(RELION_COMMAND)
    if first is None:
        return None
    try:
        ours = "blush_onnx" in Path(first).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes.append(f"{first} cannot be read ({error.strerror}): whose it is is not known")
        return first
    if not ours:
        notes.append(
            f"another {RELION_COMMAND} is first on PATH ({first}): RELION calls that one"
        )
    return first
