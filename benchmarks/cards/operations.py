"""Single operations of the network at its finest level: where the time of a patch goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.cards.rounds import Contender, Prepared
from benchmarks.cards.sessions import OURS, TF32, bound, open_session
from benchmarks.cards.settings import Settings
from blush_onnx.engines.base import Array
from blush_onnx.graph_writer import IR_VERSION, OPSET
from blush_onnx.network import NORM_EPSILON

CHANNELS = 16
Nodes = tuple[list[onnx.NodeProto], dict[str, np.ndarray], int, int]
"""Nodes from x to y, their constants, channels of x, and the side of y over that of x."""


def contenders(settings: Settings, size: int) -> list[Contender]:
    """Each operation in single and in half precision."""
    made: dict[str, Callable[[], Nodes]] = {
        "convolution 16 to 16": lambda: _convolution(CHANNELS),
        "convolution 32 to 16": lambda: _convolution(2 * CHANNELS),
        "InstanceNormalization": _norm,
        "norm by means": _norm_by_means,
        "SiLU": _silu,
        "Resize": _resize,
        "MaxPool": _max_pool,
    }
    return [
        Contender(f"{name}, {kind}", _preparing(settings, nodes, kind, size))
        for name, nodes in made.items()
        for kind in ("float32", "tf32", "float16")
        if kind != "tf32" or "convolution" in name
    ]


def _preparing(
    settings: Settings, nodes: Callable[[], Nodes], kind: str, size: int
) -> Callable[[Array, Array], Prepared]:
    def prepare(grid: Array, _local_std: Array) -> Prepared:
        dtype: type[np.floating] = np.float16 if kind == "float16" else np.float32
        written, constants, channels, scale = nodes()
        side = size if scale == 1 else size // 2
        shape = (len(grid), channels, side, side, side)
        options = OURS if kind == "float32" else TF32
        session = open_session(settings, _model(written, constants, shape, dtype), options)
        x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype)
        inputs: dict[str, np.ndarray] = {"x": x}
        return Prepared(bound(settings, session, inputs).call)

    return prepare


def _model(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], shape: Sequence[int],
    dtype: type[np.floating],
) -> bytes:
    """The nodes as a model whose output's shape is known."""
    kind = onnx.TensorProto.FLOAT16 if dtype == np.float16 else onnx.TensorProto.FLOAT
    stored = [
        numpy_helper.from_array(v if name == "scales" else v.astype(dtype), name)
        for name, v in constants.items()
    ]
    x, y = (
        helper.make_tensor_value_info(name, kind, sides) for name, sides in
        (("x", shape), ("y", None))
    )
    model = helper.make_model(
        helper.make_graph(list(nodes), "operation", [x], [y], stored),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
    )
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def _convolution(inputs: int) -> Nodes:
    kernel = np.random.default_rng(1).standard_normal((CHANNELS, inputs, 3, 3, 3)) / 10
    node = helper.make_node("Conv", ["x", "kernel"], ["y"], kernel_shape=[3] * 3, pads=[1] * 6)
    return [node], {"kernel": kernel}, inputs, 1


def _norm() -> Nodes:
    node = helper.make_node(
        "InstanceNormalization", ["x", "weight", "bias"], ["y"], epsilon=NORM_EPSILON
    )
    return [node], {"weight": np.ones(CHANNELS), "bias": np.zeros(CHANNELS)}, CHANNELS, 1


def _norm_by_means() -> Nodes:
    axes = [2, 3, 4]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["variance"], axes=axes, keepdims=1),
        helper.make_node("Add", ["variance", "epsilon"], ["floored"]),
        helper.make_node("Sqrt", ["floored"], ["deviation"]),
        helper.make_node("Div", ["weight", "deviation"], ["factor"]),
        helper.make_node("Mul", ["difference", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["y"]),
    ]
    per_channel = (CHANNELS, 1, 1, 1)
    constants = {"epsilon": np.array(NORM_EPSILON), "weight": np.ones(per_channel),
                 "bias": np.zeros(per_channel)}
    return nodes, constants, CHANNELS, 1


def _silu() -> Nodes:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"]),
    ]
    return nodes, {}, CHANNELS, 1


def _resize() -> Nodes:
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], mode="linear",
        coordinate_transformation_mode="align_corners",
    )
    return [node], {"scales": np.array([1, 1, 2, 2, 2], dtype=np.float32)}, CHANNELS, 2


def _max_pool() -> Nodes:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2] * 3, strides=[2] * 3)
    return [node], {}, CHANNELS, 1
