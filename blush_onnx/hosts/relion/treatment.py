"""How a run's jobs are treated, kept beside them: all halves and iterations must be alike."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FILE_NAME = "blush_onnx_treatment.json"
PRECISION = "float32"


def compare_with_first(
    folder: Path, treatment: dict[str, Any], started: float | None = None
) -> None:
    """Store a job's treatment if it is the run's first; else say what differs from it.

    Parameters
    ----------
    folder : Path
        Of the run.
    treatment : dict
        Engine, model and settings; ready for JSON.
    started : float, optional
        When the run began, seconds since the epoch: what is older was of another run.

    Every difference is logged as a warning.
    """
    path = folder / FILE_NAME
    if started is not None and path.exists() and path.stat().st_mtime < started:
        path.unlink(missing_ok=True)
    first = _read(path)
    if first is None:
        # Two halves start at the same moment: the one that links its file first is the first.
        staged = path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            staged.write_text(json.dumps(treatment, indent=1) + "\n", encoding="utf-8")
            os.link(staged, path)
        except OSError as error:
            if not isinstance(error, FileExistsError):
                logger.warning("cannot keep %s: %s", path, error)
        finally:
            staged.unlink(missing_ok=True)
        first = _read(path) or treatment
    for name, value in treatment.items():
        if name in first and first[name] != value:
            logger.warning(
                "%s is %s, but the first call of this run had %s (%s): both halves and all "
                "iterations must be treated alike", name, value, first[name], path,
            )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
