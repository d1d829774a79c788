"""The graph of 2-D convolutions is the same network."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest

from blush_onnx import ModelError, network, numpy_network, planes, self_test
from blush_onnx.checkpoint import Checkpoint, read_checkpoint
from tests.conftest import TINY_CHECKPOINT
from tests.official import random_state

Array = np.ndarray


def run(model: onnx.ModelProto, grid: Array, local_std: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"grid": grid[None], "local_std": local_std[None]}))


@pytest.mark.parametrize(
    ("widths", "patch_size"),
    [([4, 8], 64), ([4, 8], 8), ([3, 5, 7], 24), ([2, 3, 4, 5, 6, 7], 64), ([4, 6], 80),
     ([3, 4], 20), ([2, 3, 4], 40)],
)
@pytest.mark.parametrize("only_2d", [False, True])
def test_it_agrees_with_the_network_in_numpy(
    widths: list[int], patch_size: int, only_2d: bool
) -> None:
    """Sides of 80 to 2 slices: sums of slices, four and two outputs at a time."""
    state = random_state(widths)
    grid, local_std = self_test.synthetic_patch(patch_size)
    model = planes.build_planes(
        state, patch_size=patch_size, has_mask=True, only_2d=only_2d, checked=True
    )
    found = run(model, grid, local_std)
    for ours, expected in zip(
        found, numpy_network.evaluate(state, grid, local_std), strict=True
    ):
        assert ours.shape == (1, *grid.shape)
        assert expected is not None
        assert self_test.distance(ours[0], expected) < 1e-5


def test_it_agrees_with_the_stored_graph_of_the_official_size(
    seeded_checkpoint: Checkpoint,
) -> None:
    stored = network.build_graph(
        seeded_checkpoint.state, patch_size=64, has_mask=True, half=False, metadata={}
    )
    patch = self_test.synthetic_patch(64)
    for ours, expected in zip(
        run(planes.of_model(stored, 64), *patch), run(stored, *patch), strict=True
    ):
        assert self_test.distance(ours, expected) < 1e-5


def test_it_can_do_without_operators_of_three_dimensions() -> None:
    state = read_checkpoint(TINY_CHECKPOINT).state
    model = planes.build_planes(state, patch_size=64, has_mask=True, only_2d=True)
    inferred = onnx.shape_inference.infer_shapes(model)
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim) for value in inferred.graph.value_info
    }
    for node in model.graph.node:
        of_weights = any(name.endswith(".weight") for name in node.input)
        assert of_weights or max(ranks.get(name, 0) for name in node.input) <= 4, node.name


FORMS = {1: "012376ecf9b0bf57"}
"""Digest of some graphs in each form there was."""


def test_another_graph_has_another_number() -> None:
    """Graphs are kept under that number: with an old one they would not be written anew."""
    digest = hashlib.sha256()
    for widths, patch_size, precision, only_2d in (
        ([2, 3, 4, 5, 6, 7], 64, np.float32, False), ([2, 3, 4, 5, 6, 7], 64, np.float16, False),
        ([2, 3, 4], 40, np.float32, False), ([2, 3, 4], 40, np.float32, True),
    ):
        state = {  # sums of such weights are exact, in whatever order
            name: (np.rint(w) * 24).astype(precision) for name, w in random_state(widths).items()
        }
        model = planes.build_planes(
            state, patch_size=patch_size, has_mask=True, only_2d=only_2d
        )
        digest.update(repr((model.ir_version, [o.version for o in model.opset_import])).encode())
        for node in model.graph.node:
            values = [(a.name, onnx.helper.get_attribute_value(a)) for a in node.attribute]
            written = (node.op_type, list(node.input), list(node.output), sorted(values))
            digest.update(repr(written).encode())
        for tensor in model.graph.initializer:
            stored = onnx.numpy_helper.to_array(tensor) + 0  # no negative zeros
            digest.update(repr((tensor.name, tensor.data_type, stored.shape)).encode())
            digest.update(stored.tobytes())
    assert FORMS[planes.FORM] == digest.hexdigest()[:16], (
        "the graph changed: raise planes.FORM, and add its digest here"
    )


def test_the_models_description_comes_along() -> None:
    state = read_checkpoint(TINY_CHECKPOINT).state
    stored = network.build_graph(
        state, patch_size=64, has_mask=True, half=True, metadata={"name": "tiny"}
    )
    assert planes.of_model(stored, 64).metadata_props == stored.metadata_props


def test_a_model_without_a_mask_has_one_output() -> None:
    state = read_checkpoint(TINY_CHECKPOINT).state
    stored = network.build_graph(state, patch_size=64, has_mask=False, half=True, metadata={})
    model = planes.of_model(stored, 64)
    assert [output.name for output in model.graph.output] == ["density"]
    patch = self_test.synthetic_patch(64)
    (ours,), (expected,) = run(model, *patch), run(stored, *patch)
    assert self_test.distance(ours, expected) < 1e-5


def test_weights_of_another_network_are_refused() -> None:
    model = network.build_graph(
        read_checkpoint(TINY_CHECKPOINT).state, patch_size=64, has_mask=True, half=True,
        metadata={},
    )
    names = [tensor.name for tensor in model.graph.initializer]
    del model.graph.initializer[names.index("inc.double_conv.conv1.weight")]
    with pytest.raises(ModelError, match="not a Blush network"):
        planes.of_model(model, 64)


def test_a_patch_that_ends_on_one_slice_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be halved"):
        planes.build_planes(
            read_checkpoint(TINY_CHECKPOINT).state, patch_size=32, has_mask=True
        )


@pytest.mark.parametrize("at_once", [2, 4])
def test_short_convolutions_are_convolutions(at_once: int) -> None:
    """Winograd's identity, in double precision, borders of zeros included."""
    rng = np.random.default_rng(0)
    signal, kernel = rng.standard_normal(24), rng.standard_normal(3)
    gather, scatter = (m.astype(np.float64) for m in planes._matrices(24, at_once))
    products = np.tile(planes._KERNEL[at_once] @ kernel, 24 // at_once)
    found = scatter @ (products * (gather @ signal))
    np.testing.assert_allclose(found, np.convolve(signal, kernel[::-1], "same"), atol=1e-12)
