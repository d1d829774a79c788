"""The Blush U-net as an ONNX graph, built from a dictionary of weights.

The architecture is docs/numerics.md, section 1; depth and widths are read off
the weights, so that smaller networks of the same kind work too. The graph keeps
every weight under its state-dict name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import ModelError
from blush_onnx.graph_writer import CONSTANTS, GraphWriter

if TYPE_CHECKING:
    import onnx

NORM_EPSILON = 1e-5
STANDARD_DEVIATION_FLOOR = 1e-12

State = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Block:
    """Two convolutions with their norms: prefix of their names, and channels in, between, out."""

    prefix: str
    channels: tuple[int, int, int]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight."""
        found: dict[str, tuple[int, ...]] = {}
        for i in (1, 2):
            inputs, outputs = self.channels[i - 1 : i + 1]
            found[f"{self.prefix}.conv{i}.weight"] = (outputs, inputs, 3, 3, 3)
            for name in (f"conv{i}.bias", f"norm{i}.weight", f"norm{i}.bias"):
                found[f"{self.prefix}.{name}"] = (outputs,)
        return found


@dataclass(frozen=True)
class Architecture:
    """The blocks of one U-net.

    Attributes
    ----------
    first : Block
    down, up : tuple of Block
        From the finest level to the coarsest, and back.
    outputs : int
        1 (density alone) or 2 (density and mask).
    """

    first: Block
    down: tuple[Block, ...]
    up: tuple[Block, ...]
    outputs: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight."""
        found: dict[str, tuple[int, ...]] = {}
        for block in (self.first, *self.down, *self.up):
            found |= block.shapes()
        found["outc.weight"] = (self.outputs, self.up[-1].channels[2], 1, 1, 1)
        found["outc.bias"] = (self.outputs,)
        return found

    def operations(self, patch_size: int) -> int:
        """Multiplications and additions in the convolutions of one patch.

        Parameters
        ----------
        patch_size : int
            Voxels.
        """
        shapes = self.shapes()
        levels = [self.first, *self.down, *self.up]
        depth = len(self.down)
        halvings = [*range(depth + 1), *range(depth - 1, -1, -1)]
        total = 2 * math.prod(shapes["outc.weight"]) * patch_size**3
        for block, times in zip(levels, halvings, strict=True):
            weights = sum(
                math.prod(shapes[f"{block.prefix}.conv{i}.weight"]) for i in "12"
            )
            total += 2 * weights * (patch_size >> times) ** 3
        return total


def architecture(state: State) -> Architecture:
    """Read depth and widths off the weights and check that everything fits.

    Parameters
    ----------
    state : mapping of str to array
        Weights under their state-dict names.

    Returns
    -------
    Architecture

    Raises
    ------
    ModelError
        A weight is missing, unknown, or of another shape than its neighbours ask for.
    """
    depth = len({m[1] for name in state if (m := re.match(r"down\.(\d+)\.", name))})
    try:
        first = _block(state, "inc.double_conv", 2)
        down: list[Block] = []
        for i in range(depth):
            previous = (down[-1] if down else first).channels[2]
            down.append(_block(state, f"down.{i}.double_conv", previous))
        skips = [first.channels[2], *(block.channels[2] for block in down)]
        up: list[Block] = []
        below = skips[-1]
        for i in range(depth):
            up.append(_block(state, f"up.{i}.conv.double_conv", skips[-2 - i] + below))
            below = up[-1].channels[2]
        found = Architecture(first, tuple(down), tuple(up), state["outc.weight"].shape[0])
        if not depth:
            raise KeyError("down.0.double_conv.conv1.weight")
    except KeyError as error:
        raise ModelError(f"the weights {error} are missing: not a Blush network") from error
    expected = found.shapes()
    for name in sorted(expected.keys() | state.keys()):
        have = state[name].shape if name in state else None
        if have != expected.get(name):
            raise ModelError(
                f"the weights {name} have the shape {have}, expected {expected.get(name)}: "
                "not a Blush network"
            )
    if found.outputs not in (1, 2):
        raise ModelError(f"the network has {found.outputs} outputs, expected 1 or 2")
    return found


def _block(state: State, prefix: str, inputs: int) -> Block:
    return Block(
        prefix,
        (inputs, state[f"{prefix}.conv1.weight"].shape[0],
         state[f"{prefix}.conv2.weight"].shape[0]),
    )


def fits_half_precision(state: State) -> bool:
    """Whether every weight survives storage in half precision unchanged."""
    with np.errstate(over="ignore"):
        return all(
            np.array_equal(w.astype(np.float16).astype(np.float64), w.astype(np.float64))
            for w in state.values()
        )


def build_graph(
    state: State, *, patch_size: int, has_mask: bool, half: bool, metadata: Mapping[str, Any],
    compute_half: bool = False,
) -> onnx.ModelProto:
    """The network as an ONNX model with a dynamic batch.

    Inputs ``grid`` and ``local_std``, outputs ``density`` and (unless there is no
    mask) ``mask_logit``, all (batch, patch, patch, patch) float32.

    Parameters
    ----------
    state : mapping of str to array
    patch_size : int
        Side of a patch, voxels; a multiple of 2 to the power of the depth.
    has_mask : bool
        Whether the second channel is an output.
    half : bool
        Store the weights in half precision.
    metadata : mapping
        Written to the model as JSON, one entry a key.
    compute_half : bool
        Let the U-net compute in half precision; the standardisation before it and the
        difference after it stay in single.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModelError
        The weights are not those of a Blush network.
    """
    import onnx

    net = architecture(state)
    if patch_size % 2 ** len(net.down):
        raise ModelError(f"a patch of {patch_size} cannot be halved {len(net.down)} times")
    if has_mask and net.outputs < 2:
        raise ModelError("the network has no mask output although the checkpoint says so")
    graph = GraphWriter(state, half, compute_half)
    _write_network(graph, net, patch_size, has_mask)
    model = graph.model(
        "blush", ["grid", "local_std"], ["density", "mask_logit"][: 1 + has_mask],
        ["batch", patch_size, patch_size, patch_size],
    )
    onnx.helper.set_model_props(model, {key: json.dumps(v) for key, v in metadata.items()})
    return model


def in_half_precision(model: onnx.ModelProto, patch_size: int) -> onnx.ModelProto:
    """The same network with its U-net computing in half precision.

    Parameters
    ----------
    model : onnx.ModelProto
        As :func:`build_graph` made it.
    patch_size : int
        Side of its patches, voxels.

    Returns
    -------
    onnx.ModelProto
        The same inputs and outputs, float32.

    Raises
    ------
    ModelError
        The graph does not hold the weights of a Blush network.
    """
    return build_graph(
        weights_of_graph(model), patch_size=patch_size,
        has_mask="mask_logit" in {output.name for output in model.graph.output},
        half=True, metadata={}, compute_half=True,
    )


def weights_of_graph(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.floating]]:
    """Weights of a graph under their state-dict names, as they were stored."""
    import onnx

    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if not tensor.name.startswith(CONSTANTS)
    }


def _write_network(graph: GraphWriter, net: Architecture, patch_size: int, has_mask: bool) -> None:
    standardised, mean, deviation = write_standardisation(graph, patch_size)
    channel = graph.constant("channel", np.array([1], dtype=np.int64))
    x = graph.node(
        "Concat",
        [graph.node("Unsqueeze", [name, channel]) for name in (standardised, "local_std")],
        axis=1,
    )
    x = _double_convolution(graph, net.first, graph.computing(x))
    skips = [x]
    for block in net.down:
        x = graph.node("MaxPool", [x], kernel_shape=[2, 2, 2], strides=[2, 2, 2])
        x = _double_convolution(graph, block, x)
        skips.append(x)
    scales = graph.constant("scales", np.array([1, 1, 2, 2, 2], dtype=np.float32))
    for block, skip in zip(net.up, skips[-2::-1], strict=True):
        x = graph.node(
            "Resize", [x, "", scales], mode="linear",
            coordinate_transformation_mode="align_corners",
        )
        x = graph.node("Concat", [skip, x], axis=1)
        x = _double_convolution(graph, block, x)
    x = graph.node("Conv", [x, graph.weight("outc.weight"), graph.weight("outc.bias")])
    x = graph.single(x)

    outputs = graph.split(x, 2) if net.outputs == 2 else [x]
    removed = graph.node("Squeeze", [outputs[0], channel])
    write_density(graph, standardised, removed, mean, deviation)
    if has_mask:
        graph.node("Squeeze", [outputs[1], channel], output="mask_logit")


def write_standardisation(graph: GraphWriter, patch_size: int) -> tuple[str, str, str]:
    """Nodes that standardise ``grid``; returns the standardised patch, its mean and deviation."""
    voxels = patch_size**3
    unbiased = graph.constant("unbiased", np.array(voxels / (voxels - 1), dtype=np.float32))
    floor = graph.constant("floor", np.array(STANDARD_DEVIATION_FLOOR, dtype=np.float32))
    mean = _mean_of_patch(graph, "grid")
    difference = graph.node("Sub", ["grid", mean])
    variance = _mean_of_patch(graph, graph.node("Mul", [difference, difference]))
    deviation = graph.node("Sqrt", [graph.node("Mul", [variance, unbiased])])
    deviation = graph.node("Add", [deviation, floor])
    return graph.node("Div", [difference, deviation]), mean, deviation


def write_density(
    graph: GraphWriter, standardised: str, removed: str, mean: str, deviation: str
) -> None:
    """Nodes that take away what the network found and undo the standardisation."""
    restored = graph.node("Mul", [graph.node("Sub", [standardised, removed]), deviation])
    graph.node("Add", [restored, mean], output="density")


def _mean_of_patch(graph: GraphWriter, x: str) -> str:
    """Mean axis by axis: one long sum in single precision drifts where many values are alike."""
    for axis in (3, 2, 1):
        x = graph.node("ReduceMean", [x], axes=[axis], keepdims=1)
    return x


def _double_convolution(graph: GraphWriter, block: Block, x: str) -> str:
    for i in (1, 2):
        conv, norm = f"{block.prefix}.conv{i}", f"{block.prefix}.norm{i}"
        x = graph.node(
            "Conv", [x, graph.weight(f"{conv}.weight"), graph.weight(f"{conv}.bias")],
            kernel_shape=[3, 3, 3], pads=[1] * 6,
        )
        x = graph.node(
            "InstanceNormalization",
            [x, graph.weight(f"{norm}.weight"), graph.weight(f"{norm}.bias")],
            epsilon=NORM_EPSILON,
        )
        x = graph.node("Mul", [x, graph.node("Sigmoid", [x])])
    return x
