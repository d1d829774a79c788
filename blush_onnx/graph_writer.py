"""Writes an ONNX graph node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""Resize of later opsets has no CUDA kernel in some releases of ONNX Runtime."""
IR_VERSION = 8
CONSTANTS = "constant/"
"""Begins the names of everything that is stored in a graph and is no weight."""


class GraphWriter:
    """A model as it is written, with names made on the way.

    Weights go straight into the model: ONNX's helpers would copy them several times, which took
    half of the time of writing a graph.

    Parameters
    ----------
    state : mapping of str to array
        Weights under their state-dict names.
    half : bool
        Store the weights in half precision.
    compute_half : bool
        Compute with them in half precision, too; else in single.
    """

    def __init__(
        self, state: Mapping[str, npt.NDArray[np.floating]], half: bool = False,
        compute_half: bool = False,
    ) -> None:
        import onnx

        self._model = onnx.ModelProto()
        self._graph = self._model.graph
        self._state = state
        self._half = half
        self._compute_half = compute_half
        self._constants: set[str] = set()

    def node(
        self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one output; returns the output's name."""
        import onnx

        name = output or f"{kind}_{len(self._graph.node)}"
        node = onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        self._graph.node.append(node)
        return name

    def split(self, x: str, parts: int, axis: int = 1) -> list[str]:
        """Cut a tensor into equal parts."""
        import onnx

        names = [f"Split_{len(self._graph.node)}_{i}" for i in range(parts)]
        node = onnx.helper.make_node("Split", [x], names, name=names[0], axis=axis)
        self._graph.node.append(node)
        return names

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Store an array; the same name stands for the same array and is stored once."""
        if name not in self._constants:
            self._constants.add(name)
            self._store(CONSTANTS + name, np.asarray(value))
        return CONSTANTS + name

    def reshape(self, x: str, *shape: int) -> str:
        """The same values in another shape."""
        name = "x".join(str(side) for side in shape)
        return self.node("Reshape", [x, self.constant(name, np.array(shape, dtype=np.int64))])

    def weight(self, name: str) -> str:
        """Store a weight as it is, under its own name."""
        import onnx

        dtype = np.float16 if self._half else np.float32
        self._store(name, np.asarray(self._state[name], dtype))
        if self._half == self._compute_half:
            return name
        if self._compute_half:
            return self.node("Cast", [name], f"{name}/float16", to=onnx.TensorProto.FLOAT16)
        return self.node("Cast", [name], f"{name}/float32", to=onnx.TensorProto.FLOAT)

    def computing(self, x: str) -> str:
        """A tensor in the precision that is computed in."""
        import onnx

        if not self._compute_half:
            return x
        return self.node("Cast", [x], to=onnx.TensorProto.FLOAT16)

    def single(self, x: str) -> str:
        """What :meth:`computing` gave, back in single precision."""
        import onnx

        return self.node("Cast", [x], to=onnx.TensorProto.FLOAT) if self._compute_half else x

    def model(
        self, name: str, inputs: list[str], outputs: list[str], shape: list[int | str],
        *, checked: bool = True,
    ) -> onnx.ModelProto:
        """The whole as a model whose inputs and outputs are float32 of one shape; ask once.

        Raises
        ------
        onnx.checker.ValidationError
            `checked`, and the graph is not sound.
        """
        import onnx

        def describe(field: Any, names: list[str]) -> None:
            field.extend(
                onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in names
            )

        model = self._model
        model.graph.name = name
        describe(model.graph.input, inputs)
        describe(model.graph.output, outputs)
        model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        model.ir_version = IR_VERSION
        model.producer_name = "blush-onnx"
        if checked:
            onnx.checker.check_model(model, full_check=True)
        return model

    def _store(self, name: str, value: npt.NDArray[np.generic]) -> None:
        """Add an initializer; bytes lie as ONNX wants them, little end first."""
        import onnx

        tensor = self._graph.initializer.add()
        tensor.name = name
        tensor.dims.extend(value.shape)
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.raw_data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
