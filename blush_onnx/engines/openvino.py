"""OpenVINO on the CPU, reading the same ONNX file; the fastest on x86 processors."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np

from blush_onnx.engines.base import (
    Array,
    EngineDescription,
    EngineSettings,
    side_by_side,
)
from blush_onnx.errors import EngineError
from blush_onnx.machine import available_cpus

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16"}


class OpenVinoEngine:
    """One compiled model.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    description : EngineDescription
    """

    def __init__(self, compiled: Any, description: EngineDescription) -> None:
        self._outputs = [output.any_name for output in compiled.outputs]
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(description.side_by_side):
            self._requests.put(compiled.create_infer_request())
        self.description = description

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; see :class:`blush_onnx.engines.base.Engine`."""
        named = {name: np.empty_like(grid) for name in self._outputs}
        request = self._requests.get()
        try:
            for i in range(len(grid)):
                request.infer({"grid": grid[i : i + 1], "local_std": local_std[i : i + 1]})
                for name, values in named.items():
                    values[i] = request.get_tensor(name).data[0]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a patch: {_last_line(error)}") from error
        finally:
            self._requests.put(request)
        return named["density"], named.get("mask_logit")


def create(
    model: bytes, settings: EngineSettings, *, patch_size: int, reason: str
) -> OpenVinoEngine:
    """Compile the model for the CPU.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    settings : EngineSettings
    patch_size : int
        Side of a patch, voxels.
    reason : str
        Why this engine was asked for.

    Returns
    -------
    OpenVinoEngine

    Raises
    ------
    EngineError
        OpenVINO is not installed, cannot compile the model, or the processor does not
        compute in the precision.
    """
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            "OpenVINO is not installed: pip install 'blush-onnx[openvino]'"
        ) from error
    threads = settings.threads or available_cpus()
    streams = side_by_side(threads)
    properties = {
        # Left to itself it takes bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": _PRECISIONS.get(settings.precision, ""),
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # it puts jobs that run side by side on the same cores
    }
    try:
        core = openvino.Core()
        _require_precision(core, settings.precision)
        network = core.read_model(model)
        # Patches go one at a time: batches gain nothing, round differently, and a fixed shape
        # lets the compiler choose its kernels once.
        network.reshape({name: [1, *([patch_size] * 3)] for name in ("grid", "local_std")})
        compiled = core.compile_model(network, "CPU", properties)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"OpenVINO cannot run the model: {_last_line(error)}") from error
    library = f"openvino {openvino.__version__.split('-')[0]}"
    return OpenVinoEngine(
        compiled,
        EngineDescription(
            "openvino", library, reason, (), threads, settings.precision, streams
        ),
    )


def _require_precision(core: Any, precision: str) -> None:
    """Refuse what the processor would emulate or OpenVINO would quietly ignore."""
    if precision == "float32":
        return
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES.get(precision) not in able:
        raise EngineError(
            f"this processor does not compute in {precision} with OpenVINO (it has "
            f"{', '.join(sorted(able))}): leave --precision at float32"
        )


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
