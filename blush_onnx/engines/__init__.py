"""Inference engines: which there are, and which one a request gets."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

from blush_onnx.engines.base import GPU_PROVIDERS, PRECISIONS, Engine, EngineSettings
from blush_onnx.errors import EngineError, InputError

PROVIDER_NAMES = ("auto", "cuda", "tensorrt", "openvino", "migraphx", "directml", "coreml", "cpu")

AUTO_ORDER = ("cuda", "migraphx", "directml", "openvino", "cpu")
"""Fastest first. TensorRT is left out: it builds for minutes before the first patch; and Core ML:
nobody has seen it run."""

MOST_THREADS = 1024

NO_RUNTIME = (
    "no inference runtime is installed: pip install 'blush-onnx[cpu]', or one of the extras "
    "gpu, gpu-cuda12, openvino"
)


def installed_providers() -> list[str]:
    """Short names of the providers that can be asked for here, in the order of `auto`.

    Returns
    -------
    list of str
        Empty where no runtime is installed.
    """
    return _look()[0]


def broken_runtimes() -> list[str]:
    """Runtimes that are installed and cannot be imported, each with the reason."""
    return _look()[1]


def _look() -> tuple[list[str], list[str]]:
    found: set[str] = set()
    broken: list[str] = []
    if find_spec("onnxruntime"):
        from blush_onnx.engines import onnxruntime

        try:
            found |= set(onnxruntime.available_providers())
        except Exception as error:  # left-over folders and missing libraries raise anything
            broken.append(
                f"the installed onnxruntime cannot be imported ({error}): uninstall every package "
                "of that name, then install one"
            )
    if find_spec("openvino"):
        found.add("openvino")
    return [name for name in (*AUTO_ORDER, "tensorrt", "coreml") if name in found], broken


def create_engine(model: bytes, settings: EngineSettings, patch_size: int) -> Engine:
    """Engine for a provider, or for ``auto`` the first of :data:`AUTO_ORDER` that works.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    settings : EngineSettings
    patch_size : int
        Side of a patch, voxels.

    Returns
    -------
    Engine
        Its description says which it is and why.

    Raises
    ------
    InputError
        Unknown provider or precision, a negative or repeated device, or threads below 1.
    EngineError
        What was asked for is not installed or does not work here.
    """
    _check(settings)
    installed, broken = _look()
    if not installed:
        raise EngineError(broken[0] if broken else NO_RUNTIME)
    if settings.on_card:
        chosen = dataclasses.replace(settings, provider="cuda")
        return _create(model, chosen, patch_size, "the map is kept on the card")
    if settings.provider != "auto":
        return _create(model, settings, patch_size, "asked for by name")

    passed_over: list[str] = []
    if not settings.cards:
        installed = [name for name in installed if name not in GPU_PROVIDERS]
    for candidate in (name for name in AUTO_ORDER if name in installed):
        reason = "; ".join([f"auto: the first that works of {', '.join(installed)}", *passed_over])
        try:
            chosen = dataclasses.replace(settings, provider=candidate)
            return _create(model, chosen, patch_size, reason)
        except EngineError as error:
            passed_over.append(f"{candidate} failed ({error})")
    reason = "; ".join(passed_over) or "none of them computes on the processors"
    raise EngineError(f"no installed provider works: {reason}")


def _check(settings: EngineSettings) -> None:
    for kind, value, known in (
        ("provider", settings.provider, PROVIDER_NAMES),
        ("precision", settings.precision, PRECISIONS),
    ):
        if value not in known:
            raise InputError(f"unknown {kind} {value!r}: choose from {', '.join(known)}")
    devices = settings.devices
    if not devices or min(devices) < 0 or len(set(devices)) < len(devices):
        given = ", ".join(map(str, devices))
        raise InputError(f"devices {given}: give each card's number once; they count from 0")
    if devices != (0,) and settings.provider in ("cpu", "openvino", "coreml"):
        raise InputError(f"device {', '.join(map(str, devices))}: {settings.provider} has no cards")
    if settings.on_card and (settings.provider not in ("auto", "cuda") or len(devices) > 1):
        raise InputError("the map is kept on the card by CUDA alone, and on one: give no other "
                         "provider and one device")
    if settings.card_memory is not None and not settings.card_memory > 0:
        raise InputError(f"card memory {settings.card_memory:g} GiB: give more than 0")
    if settings.threads is not None and not 1 <= settings.threads <= MOST_THREADS:
        raise InputError(f"{settings.threads} threads: give 1 to {MOST_THREADS}")


def _create(model: bytes, settings: EngineSettings, patch_size: int, reason: str) -> Engine:
    if settings.provider == "openvino":
        from blush_onnx.engines import openvino

        return openvino.create(model, settings, patch_size=patch_size, reason=reason)
    if not find_spec("onnxruntime"):
        raise EngineError(
            f"{settings.provider} needs onnxruntime: pip install 'blush-onnx[cpu]', or one of the "
            "extras gpu, gpu-cuda12"
        )
    from blush_onnx.engines import on_card, onnxruntime
    from blush_onnx.engines.team import Team

    if settings.on_card:
        (device,) = settings.devices
        return on_card.create(model, settings, device, patch_size=patch_size, reason=reason)
    if settings.provider not in GPU_PROVIDERS:
        return onnxruntime.create(model, settings, patch_size=patch_size, reason=reason)
    engines = [
        onnxruntime.create(model, settings, device, patch_size=patch_size, reason=reason)
        for device in settings.devices
    ]
    return engines[0] if len(engines) == 1 else Team(engines)
