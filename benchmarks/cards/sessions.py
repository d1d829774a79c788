"""ONNX Runtime by its own interface: what our engine does not use, or not yet."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from benchmarks.cards.rounds import Contender, Prepared
from benchmarks.cards.settings import Settings
from blush_onnx import models, network, planes
from blush_onnx.engines.base import Array

LONG_NAMES = {
    "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
OURS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
"""What our engine asks of CUDA, in single precision."""
TF32 = OURS | {"use_tf32": "1"}


@dataclass(frozen=True)
class Variant:
    """A way to open and to feed a session.

    Attributes
    ----------
    name : str
    options : dict of str to str
        Of the provider.
    graph : str
        stored, half (float16), planes (2-D convolutions), or unbiased: the convolutions
        without their biases, which the norms take away again.
    where : str
        host: NumPy arrays in and out; device: tensors that stay on the card; copied: such
        tensors, filled from the host and read back each time.
    fixed : bool
        The batch is part of the graph, and each has a session of its own.
    provider : str
        cuda or tensorrt.
    """

    name: str
    options: dict[str, str] = field(default_factory=lambda: dict(OURS))
    graph: str = "stored"
    where: str = "host"
    fixed: bool = False
    provider: str = "cuda"


GROUPS: dict[str, tuple[Variant, ...]] = {
    "search": (
        Variant("float32 HEURISTIC"),
        Variant("float32 EXHAUSTIVE", OURS | {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
        Variant("float32 DEFAULT", OURS | {"cudnn_conv_algo_search": "DEFAULT"}),
        Variant("tf32 HEURISTIC", TF32),
        Variant("tf32 EXHAUSTIVE", TF32 | {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    ),
    "half": (
        Variant("float16, use_tf32=0", graph="half"),
        Variant("float16, use_tf32=1", TF32, graph="half"),
        Variant("float16, use_tf32=1, EXHAUSTIVE",
                TF32 | {"cudnn_conv_algo_search": "EXHAUSTIVE"}, graph="half"),
        Variant("float16, use_tf32=1, on the card", TF32, graph="half", where="device"),
        Variant("tf32, on the card", TF32, where="device"),
    ),
    "binding": (
        Variant("float32"),
        Variant("float32, on the card", where="device"),
        Variant("float32, bound and copied", where="copied"),
        Variant("float32, fixed batch", fixed=True),
        Variant("float32, biases fused", OURS | {"fuse_conv_bias": "1"}),
        Variant("float32, without biases", graph="unbiased"),
        Variant("float32, small workspace", OURS | {"cudnn_conv_use_max_workspace": "0"}),
        Variant("float32, prefer_nhwc", OURS | {"prefer_nhwc": "1"}),
        Variant("float32, 2-D convolutions", graph="planes"),
        Variant("tf32, 2-D convolutions", TF32, graph="planes"),
    ),
    "graphs": (
        Variant("float32, CUDA graph", OURS | {"enable_cuda_graph": "1"}, where="device",
                fixed=True),
        Variant("float32, CUDA graph, copied", OURS | {"enable_cuda_graph": "1"}, where="copied",
                fixed=True),
        Variant("float16, CUDA graph", TF32 | {"enable_cuda_graph": "1"}, graph="half",
                where="device", fixed=True),
        Variant("TensorRT float32", {}, provider="tensorrt"),
        Variant("TensorRT float16", {"trt_fp16_enable": "1"}, provider="tensorrt"),
    ),
}


def contenders(settings: Settings, group: str) -> list[Contender]:
    """The variants of a group."""
    model = models.load_model(settings.model)
    size = model.config.patch_size

    @functools.cache
    def content(graph: str) -> bytes:
        if graph == "stored":
            return model.content
        proto = onnx.load_from_string(model.content)
        write = {"half": network.in_half_precision, "planes": planes.of_model,
                 "unbiased": _without_biases}[graph]
        return bytes(write(proto, size).SerializeToString())

    return [
        Contender(
            variant.name, _preparing(settings, variant, content),
            1 if variant.graph == "planes" else None,
        )
        for variant in GROUPS[group]
    ]


def _without_biases(model: onnx.ModelProto, _size: int) -> onnx.ModelProto:
    normed = {node.input[0] for node in model.graph.node if node.op_type == "InstanceNormalization"}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] in normed:
            del node.input[2:]
    return model


def _preparing(
    settings: Settings, variant: Variant, content: Callable[[str], bytes]
) -> Callable[[Array, Array], Prepared]:
    opened: dict[int | None, Any] = {}

    def prepare(grid: Array, local_std: Array) -> Prepared:
        batch = len(grid) if variant.fixed else None
        if batch not in opened:
            opened.clear()
            opened[batch] = open_session(
                settings, content(variant.graph), variant.options, variant.provider, batch
            )
        inputs: dict[str, np.ndarray] = {"grid": grid, "local_std": local_std}
        if variant.where == "host":
            return _on_host(opened[batch], inputs)
        return bound(settings, opened[batch], inputs, copied=variant.where == "copied")

    return prepare


def open_session(
    settings: Settings, content: bytes, options: dict[str, str], provider: str = "cuda",
    batch: int | None = None,
) -> Any:
    """A session on the card, or on the CPU where that is tried.

    Raises
    ------
    RuntimeError
        The provider did not start.
    """
    import onnxruntime

    asked = provider if settings.on_card else "cpu"
    with contextlib.redirect_stdout(io.StringIO()):
        getattr(onnxruntime, "preload_dlls", lambda: None)()
    made = onnxruntime.SessionOptions()
    made.log_severity_level = 4
    if batch is not None:
        made.add_free_dimension_override_by_name("batch", batch)
    given = {"device_id": str(settings.device)} | options if settings.on_card else {}
    providers: list[Any] = [(LONG_NAMES[asked], given)]
    if settings.on_card:
        providers.append(LONG_NAMES["cpu"])
    session = onnxruntime.InferenceSession(content, made, providers=providers, enable_fallback=0)
    if LONG_NAMES[asked] not in session.get_providers():
        raise RuntimeError(f"{asked} is not available")
    return session


def _on_host(session: Any, inputs: Mapping[str, np.ndarray]) -> Prepared:
    last: list[Array] = []

    def call() -> None:
        last[:] = session.run(["density"], dict(inputs))

    return Prepared(call, lambda: last[0])


def bound(
    settings: Settings, session: Any, inputs: Mapping[str, np.ndarray], *, copied: bool = False
) -> Prepared:
    """Inputs and outputs in tensors that stay where they are.

    Parameters
    ----------
    settings : Settings
    session : onnxruntime.InferenceSession
        Its outputs have the shape of the first input, or one that the session knows.
    inputs : dict of str to array
    copied : bool
        Fill the inputs from the host and read the first output back at each call.
    """
    import onnxruntime

    value = onnxruntime.OrtValue
    place = ("cuda", settings.device) if settings.on_card else ("cpu", 0)
    binding = session.io_binding()
    values = {name: value.ortvalue_from_numpy(array, *place) for name, array in inputs.items()}
    for name, tensor in values.items():
        binding.bind_ortvalue_input(name, tensor)
    first = next(iter(inputs.values()))
    outputs = []
    for output in session.get_outputs():
        known = all(isinstance(side, int) for side in output.shape)
        shape = list(output.shape) if known else list(first.shape)
        kind = np.float16 if "float16" in output.type else np.float32
        outputs.append(value.ortvalue_from_shape_and_type(shape, kind, *place))
        binding.bind_ortvalue_output(output.name, outputs[-1])
    last: list[Array] = []

    def call() -> None:
        if copied:
            for name, tensor in values.items():
                tensor.update_inplace(inputs[name])
        session.run_with_iobinding(binding)
        if copied:
            last[:] = [outputs[0].numpy()]

    return Prepared(call, lambda: np.asarray(outputs[0].numpy()))
