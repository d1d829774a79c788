"""OpenVINO on the CPU, reading the same ONNX file; the fastest on x86 processors."""

from __future__ import annotations

from typing import Any

import numpy as np

from blush_onnx.engines.base import Array, EngineDescription
from blush_onnx.errors import EngineError
from blush_onnx.machine import available_cpus


class OpenVinoEngine:
    """One compiled model.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    description : EngineDescription
    """

    def __init__(self, compiled: Any, description: EngineDescription) -> None:
        self._compiled = compiled
        self._outputs = [output.any_name for output in compiled.outputs]
        self.description = description

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; see :class:`blush_onnx.engines.base.Engine`."""
        request = self._compiled.create_infer_request()  # one a call: safe among threads
        named = {name: np.empty_like(grid) for name in self._outputs}
        try:
            for i in range(len(grid)):
                request.infer({"grid": grid[i : i + 1], "local_std": local_std[i : i + 1]})
                for name, values in named.items():
                    values[i] = request.get_tensor(name).data[0]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a patch: {_last_line(error)}") from error
        return named["density"], named.get("mask_logit")


def create(model: bytes, *, threads: int | None, patch_size: int, reason: str) -> OpenVinoEngine:
    """Compile the model for the CPU in single precision.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    threads : int or None
        CPU threads; None: as many processors as this process may use.
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
        OpenVINO is not installed or cannot compile the model.
    """
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            "OpenVINO is not installed: pip install 'blush-onnx[openvino]'"
        ) from error
    count = threads or available_cpus()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # processors with bfloat16 would take that by themselves
        "INFERENCE_NUM_THREADS": count,
        "ENABLE_CPU_PINNING": False,  # it puts jobs that run side by side on the same cores
    }
    try:
        core = openvino.Core()
        network = core.read_model(model)
        # Patches go one at a time: batches gain nothing, round differently, and a fixed shape
        # lets the compiler choose its kernels once.
        network.reshape({name: [1, *([patch_size] * 3)] for name in ("grid", "local_std")})
        compiled = core.compile_model(network, "CPU", settings)
    except Exception as error:
        raise EngineError(f"OpenVINO cannot run the model: {_last_line(error)}") from error
    library = f"openvino {openvino.__version__.split('-')[0]}"
    return OpenVinoEngine(compiled, EngineDescription("openvino", library, reason, (), count))


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
