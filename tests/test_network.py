from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from blush_onnx import ModelError, network, numpy_network
from blush_onnx.checkpoint import Checkpoint, read_checkpoint
from tests.conftest import TINY_CHECKPOINT
from tests.official import official_architecture, random_state


def graph_of(checkpoint: Checkpoint, half: bool = False) -> onnx.ModelProto:
    return network.build_graph(
        checkpoint.state, patch_size=64, has_mask=True, half=half, metadata={}
    )


def test_the_official_architecture_is_read_off_its_weights(seeded_checkpoint: Checkpoint) -> None:
    assert network.architecture(seeded_checkpoint.state) == official_architecture()
    assert sum(w.size for w in seeded_checkpoint.state.values()) == 12_974_578
    assert len(seeded_checkpoint.state) == 90


def test_weights_can_be_read_back_under_their_names(seeded_checkpoint: Checkpoint) -> None:
    back = network.weights_of_graph(graph_of(seeded_checkpoint))
    assert back.keys() == seeded_checkpoint.state.keys()
    for name, weights in back.items():
        np.testing.assert_array_equal(weights, seeded_checkpoint.state[name])


def test_half_precision_is_used_only_where_it_loses_nothing(seeded_checkpoint: Checkpoint) -> None:
    tiny = read_checkpoint(TINY_CHECKPOINT).state
    assert network.fits_half_precision(tiny)
    assert not network.fits_half_precision(seeded_checkpoint.state)
    assert not network.fits_half_precision({"a": np.array([1e6], dtype=np.float32)})


def test_every_supported_runtime_can_load_the_graph() -> None:
    graph = graph_of(read_checkpoint(TINY_CHECKPOINT), half=True)
    assert graph.ir_version <= 10
    assert graph.opset_import[0].version == 17
    assert len(graph.opset_import) == 1  # the standard operators alone


def test_inputs_and_outputs_have_their_names_and_a_free_batch() -> None:
    graph = graph_of(read_checkpoint(TINY_CHECKPOINT)).graph
    assert [t.name for t in graph.input] == ["grid", "local_std"]
    assert [t.name for t in graph.output] == ["density", "mask_logit"]
    for tensor in (*graph.input, *graph.output):
        batch, *sides = tensor.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"
        assert [d.dim_value for d in sides] == [64, 64, 64]


@pytest.mark.parametrize("lost", ["inc.double_conv.norm1.bias", "down.3.double_conv.conv2.weight",
                                  "up.4.conv.double_conv.conv1.bias", "outc.weight"])
def test_missing_weights_are_named(lost: str) -> None:
    state = dict(read_checkpoint(TINY_CHECKPOINT).state)
    del state[lost]
    with pytest.raises(ModelError, match=lost):
        network.architecture(state)


def test_unknown_and_misshapen_weights_are_named() -> None:
    state = read_checkpoint(TINY_CHECKPOINT).state
    with pytest.raises(ModelError, match=r"extra\.weight"):
        network.architecture({**state, "extra.weight": np.ones(3)})
    with pytest.raises(ModelError, match=r"inc\.double_conv\.norm2\.bias"):
        network.architecture({**state, "inc.double_conv.norm2.bias": np.ones(17)})
    with pytest.raises(ModelError, match="not a Blush network"):
        network.architecture({"a": np.ones(3)})


def test_a_patch_that_cannot_be_halved_often_enough_is_refused() -> None:
    state = read_checkpoint(TINY_CHECKPOINT).state
    with pytest.raises(ModelError, match="cannot be halved"):
        network.build_graph(state, patch_size=48, has_mask=True, half=False, metadata={})


@pytest.mark.torch
def test_the_network_in_numpy_agrees_with_pytorch() -> None:
    import torch

    from export.network import BlushNetwork

    state = read_checkpoint(TINY_CHECKPOINT).state
    net = BlushNetwork.from_state({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    rng = np.random.default_rng(0)
    grid, std = (rng.standard_normal((64, 64, 64)).astype(np.float32) + 2 for _ in range(2))
    with torch.no_grad():
        both = net(torch.from_numpy(grid)[None], torch.from_numpy(std)[None])
    theirs = [t[0].numpy() for t in both]
    for ours, expected in zip(numpy_network.evaluate(state, grid, std), theirs, strict=True):
        assert ours is not None
        np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_half_precision_rounds_the_network_and_not_the_map(scale: float) -> None:
    """Evaluated by ONNX's own reference: a runtime without half precision casts around it."""
    rng = np.random.default_rng(0)
    state = random_state([2, 3])
    stored = network.build_graph(state, patch_size=8, has_mask=True, half=False, metadata={})
    feed = {
        "grid": np.float32(scale) * rng.standard_normal((1, 8, 8, 8), dtype=np.float32),
        "local_std": np.ones((1, 8, 8, 8), dtype=np.float32),
    }
    exact, rounded = (
        ReferenceEvaluator(graph).run(["density"], feed)[0]
        for graph in (stored, network.in_half_precision(stored, 8))
    )
    assert rounded.dtype == np.float32
    difference = np.linalg.norm(rounded - exact) / np.linalg.norm(exact - feed["grid"])
    assert 1e-6 < difference < 1e-2


def test_operations_are_those_of_the_graphs_convolutions(seeded_checkpoint: Checkpoint) -> None:
    model = network.build_graph(
        seeded_checkpoint.state, patch_size=64, has_mask=True, half=False, metadata={}
    )
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    counted = sum(
        2 * math.prod(weights[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
        for node in inferred.node if node.op_type == "Conv"
    )
    found = network.architecture(seeded_checkpoint.state).operations(64)
    assert found == counted
    assert found == pytest.approx(28.6e9, rel=2e-3)
