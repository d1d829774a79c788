"""How a run's jobs are treated, kept beside them: all halves and iterations must be alike."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FILE_NAME = "blush_onnx_treatment.json"
_STARTED = "run started"


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
        When the run began, seconds since the epoch: a treatment of another was of
        another run.

    Every difference is logged as a warning.
    """
    path = folder / FILE_NAME
    mine = {**treatment, _STARTED: started}
    first = _read(path)
    try:
        if first is None:
            # Two halves start at the same moment: who makes the file is the first.
            with path.open("x", encoding="utf-8") as stream:
                stream.write(_text(mine))
        elif started is not None and first.get(_STARTED) != started:  # of an earlier run
            path.write_text(_text(mine), encoding="utf-8")
        first = _read(path) or mine
    except FileExistsError:
        first = _read(path) or mine
    except OSError as error:
        logger.warning("cannot keep %s: %s", path, error.strerror or error)
        first = mine
    for name, value in treatment.items():
        if name in first and first[name] != value:
            logger.warning(
                "%s is %s, but the first call of this run had %s (%s): both halves and all "
                "iterations must be treated alike", name, value, first[name], path,
            )


def _text(treatment: dict[str, Any]) -> str:
    return json.dumps(treatment, indent=1) + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
