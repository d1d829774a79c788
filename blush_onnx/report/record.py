"""report.json: everything a run depended on and what it found (docs/report.schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from blush_onnx.denoiser import Denoiser
from blush_onnx.diagnostics import versions
from blush_onnx.models import Model
from blush_onnx.report import parts
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
        "inputs": [parts.of_input(source) for source in inputs],
        "masks": parts.of_masks(masks),
        "settings": dict(settings),
        "fsc": parts.of_curves(result.fsc) if isinstance(result, Regularised) else None,
        "cut_off": cut_off,
        "patches": {
            "count": network.patches * (2 if halves else 1),
            "skipped": network.patches_skipped * (2 if halves else 1),
            "mask_threshold": network.mask_threshold,
        },
        "model": parts.of_model(model),
        "engine": parts.of_engine(denoiser),
        "versions": versions(),
        "seconds": parts.of_seconds(seconds),
        "files": list(files),
        "warnings": list(warnings),
    }
    return parts.finite(record)


def as_json(record: Mapping[str, Any]) -> str:
    """A report as the text of its file."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
