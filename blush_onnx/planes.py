"""The network written with 2-D convolutions, for runtimes that are slow at 3-D ones.

A volume is a batch of slices, (z, channels, y, x). A 3×3×3 convolution becomes one of
Winograd's short convolutions along z: the slices are combined into products (`gather`),
each product is a 3×3 convolution with its own kernel, and the results are combined into
the output's slices (`scatter`). Six products for four slices do the work of twelve.
Formulas: docs/numerics.md, section 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import ModelError
from blush_onnx.graph_writer import GraphWriter
from blush_onnx.network import (
    NORM_EPSILON,
    Architecture,
    Block,
    State,
    architecture,
    weights_of_graph,
    write_density,
    write_standardisation,
)

if TYPE_CHECKING:
    import onnx

FORM = 1
"""Number of the graph's form: with another, graphs that are kept from before are not used."""
LARGEST_DENSE_SIDE = 32
"""Slices up to which combining them by one dense matrix product is the faster way."""
SMALLEST_FOUR = 8
"""Slices from which four outputs are made at a time: there are many weights below, and little
to compute, so that their larger kernels would not pay."""

_GATHER = {
    2: np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=float),
    4: np.array([
        [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ], dtype=float),
}
_KERNEL = {
    2: np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    4: np.array([
        [6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24],
    ]) / 24,
}
_SCATTER = {
    2: np.array([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=float),
    4: np.array([
        [1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1],
    ], dtype=float),
}


def of_model(
    model: onnx.ModelProto, patch_size: int, *, only_2d: bool = False
) -> onnx.ModelProto:
    """The same network with 2-D convolutions, for one patch at a time.

    Parameters
    ----------
    model : onnx.ModelProto
        As :func:`blush_onnx.network.build_graph` made it.
    patch_size : int
        Side of its patches, voxels.
    only_2d : bool
        See :func:`build_planes`.

    Returns
    -------
    onnx.ModelProto
        The same inputs and outputs, (1, patch, patch, patch) float32.

    Raises
    ------
    ModelError
        The graph does not hold the weights of a Blush network.
    """
    has_mask = "mask_logit" in {output.name for output in model.graph.output}
    made = build_planes(
        weights_of_graph(model), patch_size=patch_size, has_mask=has_mask, only_2d=only_2d
    )
    made.metadata_props.extend(model.metadata_props)
    return made


def build_planes(
    state: State, *, patch_size: int, has_mask: bool, only_2d: bool = False,
    checked: bool = False,
) -> onnx.ModelProto:
    """Write the graph from a dictionary of weights.

    Parameters
    ----------
    state : mapping of str to array
    patch_size : int
        Side of a patch, voxels; a multiple of 2 to the power of the depth and one more,
        so that the coarsest level has an even number of slices.
    has_mask : bool
        Whether the second channel is an output.
    only_2d : bool
        Also where a level is so small that 3-D convolutions are as fast, and need less
        memory: for runtimes that have none.
    checked : bool
        Let ONNX check the graph, which takes about as long as writing it.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModelError
        The weights are not those of a Blush network, or the patch does not fit it.
    """
    net = architecture(state)
    if patch_size % 2 ** (len(net.down) + 1):
        raise ModelError(
            f"a patch of {patch_size} cannot be halved {len(net.down)} times into even numbers "
            "of slices"
        )
    graph = GraphWriter(state, half=all(w.dtype == np.float16 for w in state.values()))
    _write_network(graph, net, patch_size, has_mask, only_2d)
    return graph.model(
        "blush_planes", ["grid", "local_std"], ["density", "mask_logit"][: 1 + has_mask],
        [1, patch_size, patch_size, patch_size], checked=checked,
    )


def _write_network(
    graph: GraphWriter, net: Architecture, side: int, has_mask: bool, only_2d: bool
) -> None:
    patch = (1, side, side, side)
    standardised, mean, deviation = write_standardisation(graph, side)
    slices = [graph.reshape(name, side, 1, side, side) for name in (standardised, "local_std")]
    x = _double_convolution(graph, net.first, graph.node("Concat", slices, axis=1), side, only_2d)
    skips = [x]
    for block in net.down:
        side //= 2
        x = _halve(graph, x, block.channels[0], side)
        x = _double_convolution(graph, block, x, side, only_2d)
        skips.append(x)
    below = net.down[-1].channels[2]
    for block, skip in zip(net.up, skips[-2::-1], strict=True):
        x = _double(graph, x, below, side)
        side *= 2
        x = graph.node("Concat", [skip, x], axis=1)
        x = _double_convolution(graph, block, x, side, only_2d)
        below = block.channels[2]

    channels = net.up[-1].channels[2]
    kernel = graph.reshape(graph.weight("outc.weight"), net.outputs, channels, 1, 1)
    x = graph.node("Conv", [x, kernel, graph.weight("outc.bias")])
    outputs = graph.split(x, 2) if net.outputs == 2 else [x]
    removed = graph.reshape(outputs[0], *patch)
    write_density(graph, standardised, removed, mean, deviation)
    if has_mask:
        shape = graph.constant("x".join(map(str, patch)), np.array(patch, dtype=np.int64))
        graph.node("Reshape", [outputs[1], shape], output="mask_logit")


def _double_convolution(
    graph: GraphWriter, block: Block, x: str, side: int, only_2d: bool
) -> str:
    for i in (1, 2):
        inputs, outputs = block.channels[i - 1 : i + 1]
        # Its bias is left out: the norm takes it away again with the mean.
        x = _convolution(graph, f"{block.prefix}.conv{i}", x, (inputs, outputs), side, only_2d)
        norm = f"{block.prefix}.norm{i}"
        x = graph.node("Transpose", [x], perm=[1, 0, 2, 3])
        x = graph.reshape(x, 1, outputs, side, side**2)
        x = graph.node(
            "InstanceNormalization",
            [x, graph.weight(f"{norm}.weight"), graph.weight(f"{norm}.bias")],
            epsilon=NORM_EPSILON,
        )
        x = graph.reshape(x, outputs, side, side, side)
        x = graph.node("Transpose", [x], perm=[1, 0, 2, 3])
        x = graph.node("Mul", [x, graph.node("Sigmoid", [x])])
    return x


def _convolution(
    graph: GraphWriter, name: str, x: str, channels: tuple[int, int], side: int, only_2d: bool
) -> str:
    if side > LARGEST_DENSE_SIDE:
        return _convolution_by_slices(graph, name, x, channels, side)
    inputs, outputs = channels
    if side < SMALLEST_FOUR and not only_2d:
        x = graph.node("Transpose", [x], perm=[1, 0, 2, 3])
        x = graph.reshape(x, 1, inputs, side, side, side)
        kernel = graph.weight(f"{name}.weight")
        x = graph.node("Conv", [x, kernel], kernel_shape=[3, 3, 3], pads=[1] * 6)
        x = graph.reshape(x, outputs, side, side, side)
        return graph.node("Transpose", [x], perm=[1, 0, 2, 3])
    at_once = 4 if side >= SMALLEST_FOUR and side % 4 == 0 else 2
    gather, scatter = _matrices(side, at_once)
    products, groups = len(gather), at_once + 2
    x = graph.node(
        "MatMul",
        [graph.constant(f"gather{side}", gather), graph.reshape(x, side, inputs * side**2)],
    )
    x = graph.reshape(x, products // groups, groups * inputs, side, side)
    x = _conv(graph, x, _kernels(graph, name, channels, at_once), groups)
    x = graph.reshape(x, products, outputs * side**2)
    x = graph.node("MatMul", [graph.constant(f"scatter{side}", scatter), x])
    return graph.reshape(x, side, outputs, side, side)


def _convolution_by_slices(
    graph: GraphWriter, name: str, x: str, channels: tuple[int, int], side: int
) -> str:
    """Two slices of the output at a time, combined by sums of every second slice."""
    inputs, outputs = channels
    border = graph.constant(
        f"border{inputs}x{side}", np.zeros((1, inputs, side, side), dtype=np.float32)
    )

    def every_second(first: int, end: int) -> str:
        bounds = [_integer(graph, n) for n in (first, end, 0, 2)]
        return graph.node("Slice", [x, *bounds])

    d = [
        graph.node("Concat", [border, every_second(1, side - 1)], axis=0),
        every_second(0, side), every_second(1, side),
        graph.node("Concat", [every_second(2, side), border], axis=0),
    ]
    combined = [
        graph.node("Sub", [d[0], d[2]]), graph.node("Add", [d[1], d[2]]),
        graph.node("Sub", [d[2], d[1]]), graph.node("Sub", [d[1], d[3]]),
    ]
    kernels = graph.split(_kernels(graph, name, channels, 2), 4, axis=0)
    m = [_conv(graph, v, kernel, 1) for v, kernel in zip(combined, kernels, strict=True)]
    even = graph.node("Add", [m[0], graph.node("Add", [m[1], m[2]])])
    odd = graph.node("Sub", [graph.node("Sub", [m[1], m[2]]), m[3]])
    pairs = [graph.reshape(y, side // 2, 1, outputs * side, side) for y in (even, odd)]
    return graph.reshape(graph.node("Concat", pairs, axis=1), side, outputs, side, side)


def _kernels(graph: GraphWriter, name: str, channels: tuple[int, int], at_once: int) -> str:
    """The products' kernels, (products · channels out, channels in, 3, 3).

    Left to the runtime, which does it once when it loads the graph: so the graph holds the
    weights as they are stored, and no larger ones.
    """
    inputs, outputs = channels
    x = graph.reshape(graph.weight(f"{name}.weight"), outputs, inputs, 3, 9)
    x = graph.node("Transpose", [x], perm=[2, 0, 1, 3])
    x = graph.reshape(x, 3, outputs * inputs * 9)
    kernel = graph.constant(f"kernel{at_once}", _KERNEL[at_once].astype(np.float32))
    x = graph.node("MatMul", [kernel, x])
    return graph.reshape(x, (at_once + 2) * outputs, inputs, 3, 3)


def _integer(graph: GraphWriter, value: int) -> str:
    return graph.constant(f"integer{value}", np.array([value], dtype=np.int64))


def _conv(graph: GraphWriter, x: str, kernel: str, groups: int) -> str:
    return graph.node("Conv", [x, kernel], kernel_shape=[3, 3], pads=[1] * 4, group=groups)


def _matrices(
    side: int, at_once: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gather, (products, side), and scatter, (side, products), for a zero-padded volume."""
    tiles, products = side // at_once, at_once + 2
    gather = np.zeros((tiles, products, side + 2))
    scatter = np.zeros((tiles, at_once, tiles, products))
    for t in range(tiles):
        gather[t, :, t * at_once : t * at_once + products] = _GATHER[at_once]
        scatter[t, :, t] = _SCATTER[at_once]
    return (
        gather[:, :, 1:-1].reshape(tiles * products, side).astype(np.float32),
        scatter.reshape(side, tiles * products).astype(np.float32),
    )


def _halve(graph: GraphWriter, x: str, channels: int, side: int) -> str:
    """Maximum of 2×2×2 voxels; `side` is that of the result."""
    x = graph.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = graph.reshape(x, side, 2, channels * side, side)
    x = graph.node("ReduceMax", [x], axes=[1], keepdims=0)
    return graph.reshape(x, side, channels, side, side)


def _double(graph: GraphWriter, x: str, channels: int, side: int) -> str:
    """Trilinear, corners on corners, one axis at a time; `side` is that of the input."""
    matrix = _doubling(side)
    double = graph.constant(f"double{side}", matrix)
    x = graph.node("MatMul", [double, graph.reshape(x, side, channels * side**2)])
    x = graph.reshape(x, 2 * side, channels, side, side)
    x = graph.node("MatMul", [x, graph.constant(f"double{side}t", matrix.T)])
    return graph.node("MatMul", [double, x])


def _doubling(side: int) -> npt.NDArray[np.float32]:
    place = np.arange(2 * side) * (side - 1) / (2 * side - 1)
    distance = np.abs(place[:, None] - np.arange(side))
    return np.asarray(np.maximum(1 - distance, 0), dtype=np.float32)
