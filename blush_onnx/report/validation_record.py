"""report.json of ``validate``: everything it depended on and what it found.

The file's schema is docs/validation.schema.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from blush_onnx.denoiser import Denoiser
from blush_onnx.diagnostics import versions
from blush_onnx.fsc import resolution
from blush_onnx.models import Model
from blush_onnx.report import parts
from blush_onnx.report.record import NOT_HALF_MAPS
from blush_onnx.validation.account import ShellAccount
from blush_onnx.validation.findings import Validation
from blush_onnx.validation.overfitting import RandomisationTest, TrailingFinding
from blush_onnx.volume_io import MapFile

SCHEMA = "blush-onnx validation 1"
DIGITS = 6


def validation_record(
    *,
    inputs: Sequence[MapFile],
    masks: Mapping[str, tuple[str, str]],
    settings: Mapping[str, Any],
    denoiser: Denoiser | None,
    model: Model | None,
    found: Validation,
    files: Sequence[str],
    seconds: Mapping[str, float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The report of one ``validate`` run.

    Parameters
    ----------
    inputs : sequence of MapFile
        The two half-maps.
    masks : mapping
        Role (``fsc`` or ``network``) to path and SHA-256.
    settings : mapping
        Every option as it was used.
    denoiser, model : Denoiser and Model, or None
        None without a network.
    found : Validation
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
    regularised = found.regularised
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "validation",
        "note": NOT_HALF_MAPS,
        "inputs": [parts.of_input(source) for source in inputs],
        "masks": parts.of_masks(masks),
        "settings": dict(settings),
        "flagged": found.flagged,
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        "fsc": parts.of_curves(found.fsc),
        "mask_of_fsc": found.mask_source,
        "solvent_mask": _solvent_mask(found),
        "model_map_fsc": _model_map(found),
        "anisotropy": {
            "area_ratio": found.anisotropy.area_ratio,
            "best_angstrom": found.anisotropy.best,
            "worst_angstrom": found.anisotropy.worst,
            "anisotropic": found.anisotropy.is_anisotropic,
        },
        "local_resolution": _local_resolution(found),
        "cut_off": None if regularised is None else {
            "shell": regularised.cut_off,
            "angstrom": regularised.cut_off_angstrom,
            "rho_shell": regularised.rho,
            "rho_angstrom": regularised.rho_angstrom,
            "beyond_network": regularised.beyond_network,
        },
        "account": [_account(account) for account in found.accounts],
        "phase_randomisation": (
            None if found.randomisation is None else _randomisation(found.randomisation)
        ),
        "repeats": None if found.repeats is None else {
            "changes": _rounded(found.repeats.changes),
            "drift": _rounded(found.repeats.drift),
            "stable": found.repeats.stable,
        },
        "model": None if model is None else parts.of_model(model),
        "engine": None if denoiser is None else parts.of_engine(denoiser),
        "versions": versions(),
        "seconds": parts.of_seconds(seconds),
        "files": list(files),
        "warnings": list(warnings),
    }
    return parts.finite(record)


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def _solvent_mask(found: Validation) -> dict[str, Any] | None:
    mask = found.solvent_mask
    if mask is None:
        return None
    return {
        "threshold": mask.threshold, "parts_kept": mask.parts_kept,
        "parts_dropped": mask.parts_dropped, "volume_cubic_angstrom": mask.volume,
        "fraction_of_box": mask.fraction_of_box, "at_border": mask.at_border,
    }


def _model_map(found: Validation) -> dict[str, Any] | None:
    if found.model_curve is None:
        return None
    box, voxel_size = found.fsc.box_size, found.fsc.voxel_size
    return {
        "curve": _rounded(found.model_curve),
        "resolution_angstrom": {
            str(threshold): resolution(found.model_curve, box, voxel_size, threshold)
            for threshold in (0.143, 0.5)
        },
    }


def _local_resolution(found: Validation) -> dict[str, Any] | None:
    local = found.local_resolution
    if local is None:
        return None
    return {
        "window_angstrom": local.window_angstrom, "threshold": local.threshold,
        "quartiles_angstrom": list(local.quartiles),
    }


def _account(account: ShellAccount) -> dict[str, Any]:
    return {
        "amplitude_ratio": _rounded(account.amplitude_ratio),
        "phase_change_degrees": _rounded(account.phase_change_degrees),
        "correlation": _rounded(account.correlation),
        "share_beyond_rho": account.share_beyond_rho,
    }


def _randomisation(found: RandomisationTest) -> dict[str, Any]:
    return {
        "beyond_angstrom": found.beyond_angstrom, "from_shell": found.from_shell,
        "seed": found.seed, "passed": found.passed,
        "original": _rounded(found.original), "randomised": _rounded(found.randomised),
        "with_trailing": _finding(found.with_trailing),
        "without_trailing": _finding(found.without_trailing),
    }


def _finding(finding: TrailingFinding) -> dict[str, Any]:
    return {
        "curve": _rounded(finding.curve), "energy_beyond": finding.energy_beyond,
        "mean_excess": finding.mean_excess, "mean_limit": finding.mean_limit,
        "shell": finding.shell, "excess_there": finding.excess_there, "flagged": finding.flagged,
    }
