"""The network in one graph with what is around it: patches cut out of a volume, and summed up.

For cards: what goes in and out of each call are places alone, the volume and the sums stay
where the network computes. Formulas: docs/numerics.md, section 4, steps 5 and 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

INPUTS = ("volume", "deviations", "offsets", "window", "starts", "shares", "sums")
OUTPUT = "sums_with_these"


def of_model(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A network's graph for batches of one size, between its patches and their volume.

    Volumes and patches are flat, x fastest; a voxel's place is its index.

    ================== ============================ ==========================================
    input              shape                        what it is
    ================== ============================ ==========================================
    volume, deviations (voxels,)                    standardised density, local deviation
    offsets            (patch³,) int64              of a patch's voxels from its first one
    window             (patch³,)                    weight of its voxels in the blend
    starts             (batch,) int64               first voxel of each patch
    shares             (batch,)                     1, or 0 for a patch that only fills up
    sums               (voxels, 1 or 2)             density · window and, where the network
                                                    has one, mask · window, summed so far
    ================== ============================ ==========================================

    The output are the sums with these patches, added one after the other in their order:
    within a patch each voxel is there once, so that the order of threads cannot matter.

    Parameters
    ----------
    model : onnx.ModelProto
        From ``grid`` and ``local_std``, (batch, patch, patch, patch), to ``density`` and
        perhaps ``mask_logit``; a free batch. It is changed.
    batch : int
        Patches of a call.

    Returns
    -------
    onnx.ModelProto
    """
    import onnx

    graph = model.graph
    patch_size = graph.input[0].type.tensor_type.shape.dim[-1].dim_value
    columns = len(graph.output)
    before, after = _Nodes("before"), _Nodes("after")

    places = before.add("Add", before.add("Unsqueeze", "starts", before.ints(1)), "offsets")
    shape = before.ints(batch, patch_size, patch_size, patch_size)
    for source, name in (("volume", "grid"), ("deviations", "local_std")):
        before.add("Reshape", before.add("Gather", source, places), shape, output=name)

    flat = after.ints(batch, patch_size**3)
    last = after.ints(2)
    weight = after.add("Mul", after.add("Unsqueeze", "shares", after.ints(1)), "window")
    parts = [after.add("Reshape", "density", flat)]
    if columns == 2:
        parts.append(after.add("Sigmoid", after.add("Reshape", "mask_logit", flat)))
    weighted = [after.add("Unsqueeze", after.add("Mul", part, weight), last) for part in parts]
    added = after.add("Concat", *weighted, axis=2) if columns == 2 else weighted[0]
    rows = after.add("Unsqueeze", places, last)
    sums = "sums"
    for k in range(batch):
        index = after.store(np.array(k, dtype=np.int64))
        of_patch = [after.add("Gather", whole, index, axis=0) for whole in (rows, added)]
        sums = after.add(
            "ScatterND", sums, *of_patch, reduction="add",
            output=OUTPUT if k == batch - 1 else None,
        )

    network = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before.nodes, *network, *after.nodes])
    graph.initializer.extend([*before.stored, *after.stored])
    whole, single = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    shapes: dict[str, tuple[int, list[int | str]]] = {
        "volume": (single, ["voxels"]), "deviations": (single, ["voxels"]),
        "offsets": (whole, [patch_size**3]), "window": (single, [patch_size**3]),
        "starts": (whole, [batch]), "shares": (single, [batch]),
        "sums": (single, ["voxels", columns]), OUTPUT: (single, ["voxels", columns]),
    }
    described = {n: onnx.helper.make_tensor_value_info(n, *s) for n, s in shapes.items()}
    graph.input.extend(described[name] for name in INPUTS)
    graph.output.append(described[OUTPUT])
    return model


def offsets(shape: tuple[int, ...], patch_size: int) -> npt.NDArray[np.int64]:
    """Places of a patch's voxels in a flat volume, from that of its first one.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x) of the volume.
    patch_size : int

    Returns
    -------
    array, (patch_size³,), int64
    """
    _, height, width = shape
    along = np.arange(patch_size, dtype=np.int64)
    return np.asarray(
        (along[:, None, None] * height * width + along[:, None] * width + along).ravel()
    )


class _Nodes:
    """Nodes and constants as they are added, under names of their own."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def add(
        self, kind: str, *inputs: str, output: str | None = None, **attributes: int | str
    ) -> str:
        import onnx

        name = output or f"{self._prefix}/{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def ints(self, *values: int) -> str:
        return self.store(np.array(values, dtype=np.int64))

    def store(self, value: npt.NDArray[np.int64]) -> str:
        import onnx

        name = f"{self._prefix}/constant_{len(self.stored)}"
        self.stored.append(onnx.numpy_helper.from_array(value, name))
        return name
