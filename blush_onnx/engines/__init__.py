"""Inference engines: which there are, and which one a request gets."""

from __future__ import annotations

from importlib.util import find_spec

from blush_onnx.engines.base import GPU_PROVIDERS, Engine
from blush_onnx.errors import EngineError, InputError

PROVIDER_NAMES = ("auto", "cuda", "tensorrt", "openvino", "migraphx", "directml", "cpu")

AUTO_ORDER = ("cuda", "migraphx", "directml", "openvino", "cpu")
"""Fastest first. TensorRT is left out: it builds for minutes before the first patch."""

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
    return [name for name in (*AUTO_ORDER, "tensorrt") if name in found], broken


def create_engine(
    model: bytes,
    provider: str,
    *,
    device: int,
    threads: int | None,
    patch_size: int,
    cards: bool = True,
) -> Engine:
    """Engine for a provider, or for ``auto`` the first of :data:`AUTO_ORDER` that works.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    provider : str
        One of :data:`PROVIDER_NAMES`.
    device : int
        Card number.
    threads : int or None
        CPU threads; None: as many processors as this process may use.
    patch_size : int
        Side of a patch, voxels.
    cards : bool
        Whether ``auto`` may take a graphics card.

    Returns
    -------
    Engine
        Its description says which it is and why.

    Raises
    ------
    InputError
        Unknown provider, negative device, or threads below 1.
    EngineError
        What was asked for is not installed or does not work here.
    """
    if provider not in PROVIDER_NAMES:
        raise InputError(f"unknown provider {provider!r}: choose from {', '.join(PROVIDER_NAMES)}")
    if device < 0:
        raise InputError(f"device {device} is negative: cards are numbered from 0")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError(f"{threads} threads: give 1 to {MOST_THREADS}")
    installed, broken = _look()
    if not installed:
        raise EngineError(broken[0] if broken else NO_RUNTIME)
    if provider != "auto":
        return _create(model, provider, device, threads, patch_size, "asked for by name")

    passed_over: list[str] = []
    if not cards:
        installed = [name for name in installed if name not in GPU_PROVIDERS]
    for candidate in (name for name in AUTO_ORDER if name in installed):
        try:
            return _create(
                model, candidate, device, threads, patch_size, _auto_reason(installed, passed_over)
            )
        except EngineError as error:
            passed_over.append(f"{candidate} failed ({error})")
    reason = "; ".join(passed_over) or "none of them computes on the processors"
    raise EngineError(f"no installed provider works: {reason}")


def _auto_reason(installed: list[str], passed_over: list[str]) -> str:
    reason = f"auto: the first that works of {', '.join(installed)}"
    return "; ".join([reason, *passed_over])


def _create(
    model: bytes, provider: str, device: int, threads: int | None, patch_size: int, reason: str
) -> Engine:
    if provider == "openvino":
        from blush_onnx.engines import openvino

        return openvino.create(
            model, threads=threads, patch_size=patch_size, reason=reason
        )
    if not find_spec("onnxruntime"):
        raise EngineError(f"{provider} needs onnxruntime: {NO_RUNTIME}")
    from blush_onnx.engines import onnxruntime

    return onnxruntime.create(
        model, provider, device=device, threads=threads, patch_size=patch_size, reason=reason
    )
