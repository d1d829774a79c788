"""STAR files, read with gemmi."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from blush_onnx.errors import BlushError, InputError


def star_reader() -> Any:
    """The module gemmi.cif.

    Raises
    ------
    BlushError
        gemmi is not installed.
    """
    try:
        from gemmi import cif
    except ImportError as error:
        raise BlushError(
            "reading RELION's jobs needs gemmi: pip install 'blush-onnx[relion]'"
        ) from error
    return cif


def read_star(path: Path) -> Any:
    """Read a STAR file.

    Returns
    -------
    gemmi.cif.Document

    Raises
    ------
    InputError
        Missing or unreadable.
    BlushError
        gemmi is not installed.
    """
    reader = star_reader()
    try:
        return reader.read(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable STAR file: {reason}") from error


def text_of(block: Any, label: str) -> str | None:
    """Value of ``_rln<label>`` in a list block, without quotes; None where there is none."""
    value = block.find_value(f"_rln{label}")
    return None if value is None else str(value).strip("'\"")


def number_of(block: Any, label: str) -> float | None:
    """Value of ``_rln<label>`` as a number; None where it is absent or not a finite one."""
    try:
        value = float(text_of(block, label) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
