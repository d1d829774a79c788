"""OpenVINO on the CPU, reading the same ONNX file; the fastest on x86 processors."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blush_onnx.engines.base import Array, EngineDescription, EngineSettings
from blush_onnx.errors import EngineError
from blush_onnx.machine import available_cpus

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"bfloat16": "BF16", "float16": "FP16"}


class OpenVinoEngine:
    """One compiled model.

    Parameters
    ----------
    compiled : openvino.CompiledModel
        For one patch at a time.
    description : EngineDescription
    """

    def __init__(self, compiled: Any, description: EngineDescription) -> None:
        inputs, outputs = (
            [value.any_name for value in values] for values in (compiled.inputs, compiled.outputs)
        )
        # Whatever looks up types in OpenVINO's Python layer is done here, by one thread: when two
        # did so for the first time at once, each waited for the other without end (2026.4).
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(description.side_by_side):
            request = compiled.create_infer_request()
            arrays = [
                {name: request.get_tensor(name).data for name in names}
                for names in (inputs, outputs)
            ]
            self._free.put(_Slot(request, *arrays))
        self._starting = threading.Lock()
        self._outputs = outputs
        self.description = description

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; see :class:`blush_onnx.engines.base.Engine`."""
        named = {name: np.empty_like(grid) for name in self._outputs}
        slot = self._free.get()
        try:
            for i in range(len(grid)):
                slot.inputs["grid"][0] = grid[i]
                slot.inputs["local_std"][0] = local_std[i]
                with self._starting:
                    slot.request.start_async()
                slot.request.wait()
                for name, values in named.items():
                    values[i] = slot.outputs[name][0]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a patch: {_last_line(error)}") from error
        finally:
            self._free.put(slot)
        return named["density"], named.get("mask_logit")


@dataclass(frozen=True)
class _Slot:
    """A request, and the memory that it reads and writes."""

    request: Any
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


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
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise EngineError(f"the installed OpenVINO cannot be imported ({error})") from error
        raise EngineError(
            "OpenVINO is not installed: pip install 'blush-onnx[openvino]'"
        ) from error
    except Exception as error:  # left-over folders and missing libraries raise anything
        raise EngineError(f"the installed OpenVINO cannot be imported ({error})") from error
    threads = settings.threads or available_cpus()
    properties = {
        # Left to itself it takes bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": _PRECISIONS.get(settings.precision, ""),
        "INFERENCE_NUM_THREADS": threads,
        # One patch at a time: several, with fewer threads each, are no faster, and its norms add up
        # each thread's part in one long sum, which with one thread drifts three times as far.
        "NUM_STREAMS": 1,
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
        # It takes no more than there are processors.
        threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(f"OpenVINO cannot run the model: {_last_line(error)}") from error
    library = f"openvino {openvino.__version__.split('-')[0]}"
    return OpenVinoEngine(
        compiled,
        EngineDescription("openvino", library, reason, (), threads, settings.precision),
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
