"""report.json: everything a run depended on and what it found (docs/report.schema.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blush_onnx.denoiser import Denoiser
from blush_onnx.diagnostics import versions
from blush_onnx.fsc import FscCurves, resolution
from blush_onnx.models import Model
from blush_onnx.results import Regularised, RegularisedClass
from blush_onnx.volume_io import MapFile

SCHEMA = "blush-onnx report 1"
NOT_HALF_MAPS = (
    "The denoised maps are references for refinement. They are not half-maps: do not deposit "
    "them as such, and do not take an FSC between them as a resolution."
)


def denoise_record(
    *,
    inputs: Sequence[MapFile],
    masks: Mapping[str, tuple[str, str]],
    settings: Mapping[str, Any],
    denoiser: Denoiser,
    model: Model,
    result: Regularised | RegularisedClass,
    files: Sequence[str],
    seconds: Mapping[str, float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The report of one ``denoise`` run.

    Parameters
    ----------
    inputs : sequence of MapFile
        One map or two half-maps.
    masks : mapping
        Role (``fsc`` or ``network``) to path and SHA-256.
    settings : mapping
        Every option as it was used.
    denoiser : Denoiser
    model : Model
    result : Regularised or RegularisedClass
    files : sequence of str
        Names of the files written.
    seconds : mapping
        Wall time of each part, s.
    warnings : sequence of str

    Returns
    -------
    dict
        Ready for JSON; no NaN, infinities are null.
    """
    halves = isinstance(result, Regularised)
    network = result.network
    engine = denoiser.engine.description
    cut_off: dict[str, Any] = {
        "shell": result.cut_off,
        "angstrom": result.cut_off_angstrom,
        "source": "fsc" if halves else "network limit",
    }
    if settings["cut_off"] is not None:
        cut_off["source"] = "option"
    if isinstance(result, Regularised):
        cut_off |= {
            "rho_shell": result.rho,
            "rho_angstrom": result.rho_angstrom,
            "beyond_network": result.beyond_network,
            "spectral_trailing": settings["cut_off"] is not None
            or (settings["spectral_trailing"] and not result.beyond_network),
        }
    record = {
        "schema": SCHEMA,
        "kind": "half-maps" if halves else "map",
        "note": NOT_HALF_MAPS,
        "inputs": [_input(m) for m in inputs],
        "masks": {
            role: {"path": path, "sha256": digest} for role, (path, digest) in masks.items()
        },
        "settings": dict(settings),
        "fsc": _curves(result.fsc) if isinstance(result, Regularised) else None,
        "cut_off": cut_off,
        "patches": {
            "count": network.patches * (2 if halves else 1),
            "skipped": network.patches_skipped * (2 if halves else 1),
            "mask_threshold": network.mask_threshold,
        },
        "model": {
            "name": model.config.name,
            "path": str(model.path),
            "sha256": model.sha256,
            "source_sha256": model.config.source_sha256,
            "licence": model.config.licence,
            "training": model.config.training,
        },
        "engine": {
            "provider": engine.provider,
            "library": engine.library,
            "reason": engine.reason,
            "convolutions_on": list(engine.convolutions_on),
            "threads": engine.threads,
            "precision": engine.precision,
            "batch_size": denoiser.batch_size,
        },
        "versions": versions(),
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "files": list(files),
        "warnings": list(warnings),
    }
    cleaned: dict[str, Any] = _finite(record)
    return cleaned


def as_json(record: Mapping[str, Any]) -> str:
    """A report as the text of its file."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def curve_rows(curves: FscCurves) -> tuple[list[str], list[list[float]]]:
    """FSC curves as a table: names of the columns, and a row a shell.

    Returns
    -------
    columns : list of str
        ``shell``, ``resolution_angstrom`` and one for each curve there is.
    rows : list of list of float
    """
    named = _named_curves(curves)
    length = curves.box_size * curves.voxel_size
    rows = [
        [shell, length / shell if shell else math.inf, *(float(c[shell]) for c in named.values())]
        for shell in range(curves.box_size // 2 + 1)
    ]
    return ["shell", "resolution_angstrom", *named], rows


def _named_curves(curves: FscCurves) -> dict[str, Any]:
    every = {
        "given": curves.given,
        "unmasked": curves.unmasked,
        "masked": curves.masked,
        "phase_randomised": curves.randomised,
        "solvent_corrected": curves.corrected,
    }
    return {name: curve for name, curve in every.items() if curve is not None}


def _curves(curves: FscCurves) -> dict[str, Any]:
    return {
        "box_size": curves.box_size,
        "voxel_size_angstrom": curves.voxel_size,
        "curves": {
            name: [round(float(v), 6) for v in curve]
            for name, curve in _named_curves(curves).items()
        },
        "resolution_angstrom": {
            name: {
                str(threshold): resolution(curve, curves.box_size, curves.voxel_size, threshold)
                for threshold in (0.143, 0.5)
            }
            for name, curve in _named_curves(curves).items()
            if name != "phase_randomised"
        },
        "randomised_from_shell": curves.randomised_from,
        "seed": curves.seed,
    }


def _input(source: MapFile) -> dict[str, Any]:
    return {
        "path": str(source.path),
        "sha256": source.sha256,
        "box": list(source.data.shape),
        "voxel_size_angstrom": source.voxel_size,
        "mean": float(np.mean(source.data, dtype=np.float64)),
        "standard_deviation": float(np.std(source.data, dtype=np.float64)),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
