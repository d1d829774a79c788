"""OpenVINO on the CPU, reading the same ONNX file; the fastest on x86 processors."""

from __future__ import annotations

from typing import Any

from blush_onnx.engines.base import Array, EngineDescription, available_cpus
from blush_onnx.errors import EngineError


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
        request.infer({"grid": grid, "local_std": local_std})
        named = {name: request.get_tensor(name).data.copy() for name in self._outputs}
        return named["density"], named.get("mask_logit")


def create(model: bytes, *, threads: int | None, reason: str) -> OpenVinoEngine:
    """Compile the model for the CPU in single precision.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    threads : int or None
        CPU threads; None: as many processors as this process may use.
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
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    except Exception as error:
        text = str(error).strip().splitlines()
        raise EngineError(f"OpenVINO cannot run the model: {text[-1] if text else error}") from error
    library = f"openvino {openvino.__version__.split('-')[0]}"
    return OpenVinoEngine(compiled, EngineDescription("openvino", library, reason, (), count))
