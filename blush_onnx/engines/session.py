"""Sessions of ONNX Runtime on one provider, and the proof of where they compute.

A session that was asked for a GPU can quietly run on the CPU, and its list of
providers does not tell: a provider may be loaded and be given no node. So the
first patch on every provider but the CPU is recorded with ONNX Runtime's
profiler, and the provider that ran the convolutions is read from the record.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from blush_onnx.engines import compiled
from blush_onnx.engines.base import GPU_BATCH_SIZE, GPU_PROVIDERS
from blush_onnx.errors import EngineError

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_ON_CARDS = {PROVIDERS[name] for name in GPU_PROVIDERS}


def open_session(
    model: bytes | Path, long: str, device: int, threads: int, patch_size: int,
    precision: str = "float32", card_memory: float | None = None,
    *, optimised_to: Path | None = None, probe: Mapping[str, Any] | None = None,
    operators: Sequence[str] = ("Conv",),
) -> tuple[Any, set[str]]:
    """Open a session; on any provider but the CPU also see where its convolutions run.

    Parameters
    ----------
    model : bytes or Path
        A graph; a file is one that was written to `optimised_to`, and stays as it is.
    long : str
        Execution provider as ONNX Runtime names it.
    device, threads, patch_size : int
    precision : str
    card_memory : float, optional
        GiB; CUDA alone takes notice.
    optimised_to : Path, optional
        File for the graph as ONNX Runtime optimised it for this very processor.
    probe : mapping of str to array, optional
        Inputs of the recorded run; a made-up patch by default.
    operators : sequence of str
        What is looked for in its record.

    Returns
    -------
    session : onnxruntime.InferenceSession
    ran_on : set of str
        Execution providers that ran those operators; for the CPU this is not looked at.

    Raises
    ------
    EngineError
        ONNX Runtime refused the model or the provider.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # On the CPU it would take a second block of memory, the size of all that a patch needs, as
    # soon as the first patch is done; DirectML has none.
    options.enable_mem_pattern = long not in (PROVIDERS["cpu"], PROVIDERS["directml"])
    options.log_severity_level = 4  # what matters is raised below, in one line
    if isinstance(model, Path):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimised_to is not None:
        options.optimized_model_filepath = str(optimised_to)
    if long in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        _preload()
    on_cpu = long == "CPUExecutionProvider"
    providers: list[Any] = [(long, provider_options(long, device, precision, card_memory))]
    if not on_cpu:
        providers.append("CPUExecutionProvider")
    try:
        with contextlib.ExitStack() as stack:
            if long == PROVIDERS["tensorrt"] and isinstance(model, bytes):
                details = *_what_tensorrt_depends_on(device), precision
                kept = stack.enter_context(compiled.kept_folder("tensorrt", model, *details))
                providers[0][1].update(_keeping(kept, patch_size))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="blush-onnx-"))
            if not on_cpu:
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder) / "profile")
            # Without its fallback ONNX Runtime raises what it would print, and a session whose
            # card fails later does not move to the CPU behind our back.
            session = onnxruntime.InferenceSession(
                str(model) if isinstance(model, Path) else model, options,
                providers=providers, enable_fallback=0,
            )
            ran_on = set() if on_cpu else _where_they_run(
                session, _made_up(patch_size) if probe is None else probe, operators
            )
    except Exception as error:  # ONNX Runtime raises a family of its own for each failure
        raise EngineError(f"onnxruntime cannot start {long}: {first_line(error)}") from error
    return session, ran_on


def _preload() -> str:
    """Load the CUDA libraries that pip installed; what ONNX Runtime prints about it is returned."""
    import onnxruntime

    said = io.StringIO()
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload:
        with contextlib.redirect_stdout(said):
            preload()
    return " ".join(said.getvalue().split())


def why_not(long: str) -> str:
    """Why a provider that is built in did not start, as far as loading its library tells."""
    import onnxruntime

    guess = "its libraries or its device are missing or do not fit"
    name = long.removesuffix("ExecutionProvider").lower()
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    if not library.is_file():
        return guess
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"{guess} ({error})"
    return guess


def provider_options(
    long: str, device: int, precision: str, card_memory: float | None = None
) -> dict[str, str]:
    """What a provider is told besides the model."""
    if long == "CoreMLExecutionProvider":
        # The neural engine computes in half precision alone: it is left out.
        return {
            "ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU",
            "RequireStaticInputShapes": "1",
        }
    if long not in _ON_CARDS:
        return {}
    options = {"device_id": str(device)}
    if long == "CUDAExecutionProvider":
        # TF32 rounds factors to ten bits; without it float16 has no tensor cores either. An
        # exhaustive search costs seconds at start-up.
        options |= {
            "use_tf32": "0" if precision == "float32" else "1",
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        if card_memory is not None:
            options |= {"gpu_mem_limit": str(int(card_memory * 2**30))}
    if long == "TensorrtExecutionProvider" and precision == "float16":
        options |= {"trt_fp16_enable": "1"}
    return options


def _what_tensorrt_depends_on(device: int) -> list[object]:
    """ONNX Runtime, TensorRT as pip knows it, and the very card."""
    import onnxruntime

    from blush_onnx.sharing.cards import cuda_cards

    libraries = sorted(
        f"{found.metadata['Name']} {found.version}" for found in metadata.distributions()
        if (found.metadata["Name"] or "").lower().startswith("tensorrt")
    )
    cards = [card.key for card in cuda_cards() if card.number == device]
    return [onnxruntime.__version__, *libraries, *(cards or [f"card {device}"])]


def _keeping(folder: Path, patch_size: int) -> dict[str, str]:
    """Options of TensorRT: a folder for its engine, and batches that need no other one."""
    def shapes(batch: int) -> str:
        sides = "x".join([str(patch_size)] * 3)
        return ",".join(f"{name}:{batch}x{sides}" for name in ("grid", "local_std"))

    return {
        "trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder),
        "trt_profile_min_shapes": shapes(1), "trt_profile_opt_shapes": shapes(GPU_BATCH_SIZE),
        "trt_profile_max_shapes": shapes(GPU_BATCH_SIZE),
    }


def _made_up(patch_size: int) -> dict[str, Any]:
    patch = np.zeros((1, patch_size, patch_size, patch_size), dtype=np.float32)
    patch[0, ::2] = 1
    return {"grid": patch, "local_std": patch}


def _where_they_run(
    session: Any, probe: Mapping[str, Any], operators: Sequence[str]
) -> set[str]:
    session.run(None, dict(probe))
    events = json.loads(Path(session.end_profiling()).read_text())
    return {
        event["args"]["provider"]
        for event in events
        if any(name in event.get("args", {}).get("op_name", "") for name in operators)
        and event["args"].get("provider")
    } or {provider for provider in session.get_providers()[:1] if _compiled_whole(events, provider)}


def _compiled_whole(events: list[dict[str, Any]], provider: str) -> bool:
    """Whether a provider such as TensorRT took the graph as one node of its own."""
    return any(event.get("args", {}).get("provider") == provider for event in events)


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
