"""What reports of every kind hold: inputs, curves, model, engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from blush_onnx.denoiser import Denoiser
from blush_onnx.fsc import FscCurves, resolution
from blush_onnx.models import Model
from blush_onnx.report.fsc_files import named_curves
from blush_onnx.volume_io import MapFile


def of_input(source: MapFile) -> dict[str, Any]:
    """A map: where it lies, its checksum, box and values."""
    return {
        "path": str(source.path),
        "sha256": source.sha256,
        "box": list(source.data.shape),
        "voxel_size_angstrom": source.voxel_size,
        "mean": float(np.mean(source.data, dtype=np.float64)),
        "standard_deviation": float(np.std(source.data, dtype=np.float64)),
    }


def of_masks(masks: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Path and SHA-256 of masks by their role."""
    return {role: {"path": path, "sha256": digest} for role, (path, digest) in masks.items()}


def of_curves(curves: FscCurves) -> dict[str, Any]:
    """FSC curves and the resolutions read off them."""
    return {
        "box_size": curves.box_size,
        "voxel_size_angstrom": curves.voxel_size,
        "curves": {
            name: [round(float(v), 6) for v in curve]
            for name, curve in named_curves(curves).items()
        },
        "resolution_angstrom": {
            name: {
                str(threshold): resolution(curve, curves.box_size, curves.voxel_size, threshold)
                for threshold in (0.143, 0.5)
            }
            for name, curve in named_curves(curves).items()
            if name != "phase_randomised"
        },
        "randomised_from_shell": curves.randomised_from,
        "seed": curves.seed,
    }


def of_model(model: Model) -> dict[str, Any]:
    """Which weights."""
    return {
        "name": model.config.name,
        "path": str(model.path),
        "sha256": model.sha256,
        "source_sha256": model.config.source_sha256,
        "licence": model.config.licence,
        "training": model.config.training,
    }


def of_engine(denoiser: Denoiser) -> dict[str, Any]:
    """What evaluated the network."""
    engine = denoiser.engine.description
    return {
        "provider": engine.provider,
        "library": engine.library,
        "reason": engine.reason,
        "convolutions_on": list(engine.convolutions_on),
        "threads": engine.threads,
        "precision": engine.precision,
        "batch_size": denoiser.batch_size,
    }


def of_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Wall times, s."""
    return {key: round(value, 3) for key, value in seconds.items()}


def finite(record: dict[str, Any]) -> dict[str, Any]:
    """A record ready for JSON: numbers that are not finite are null, sequences lists."""
    cleaned: dict[str, Any] = _finite(record)
    return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
