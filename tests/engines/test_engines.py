from __future__ import annotations

import sys
import textwrap
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from blush_onnx import (
    Denoiser,
    EngineError,
    InputError,
    conversion,
    models,
    network,
)
from blush_onnx.engines import AUTO_ORDER, create_engine, installed_providers
from blush_onnx.engines import onnxruntime as ort_engine
from blush_onnx.engines import session as ort_session
from blush_onnx.engines.base import EngineSettings
from blush_onnx.machine import available_cpus
from tests.conftest import blob_and_noise, need
from tests.python_without import run_python


def need_azure() -> None:
    """The one stand-in for a provider that is active and runs nothing; CI must not go without."""
    found = "AzureExecutionProvider" in onnxruntime.get_available_providers()
    need("azure", found, "this onnxruntime was built without the Azure provider")


def test_auto_takes_the_first_installed_one_and_says_why(tiny_model: Path) -> None:
    engine = Denoiser.load(tiny_model).engine.description
    first = next(name for name in AUTO_ORDER if name in installed_providers())
    assert engine.provider == first
    assert engine.reason.startswith("auto: the first that works of")


def test_threads_follow_the_affinity_of_the_process(tiny_model: Path) -> None:
    assert Denoiser.load(tiny_model).engine.description.threads == available_cpus()
    assert Denoiser.load(tiny_model, threads=1).engine.description.threads == 1


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "migraphx", "directml", "coreml"])
def test_a_provider_that_is_not_built_in_is_refused_with_what_to_install(
    provider: str, tiny_model: Path
) -> None:
    if provider in installed_providers():
        pytest.skip(f"{provider} is installed here")
    with pytest.raises(EngineError, match=r"has no .*ExecutionProvider.*install"):
        Denoiser.load(tiny_model, provider=provider)


def test_convolutions_that_end_on_the_cpu_are_noticed_although_the_provider_is_listed(
    tiny_model: Path,
) -> None:
    """The Azure provider comes with every CPU build, is listed as active, and runs no node."""
    content = models.load_model(tiny_model).content
    long = "AzureExecutionProvider"
    need_azure()
    session, ran_on = ort_session.open_session(content, long, 0, 1, 64)
    assert session.get_providers()[0] == long
    assert ran_on == {"CPUExecutionProvider"}


def test_such_a_session_is_an_error_that_says_so(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_azure()
    monkeypatch.setitem(ort_session.PROVIDERS, "cuda", "AzureExecutionProvider")
    content = models.load_model(tiny_model).content
    with pytest.raises(EngineError, match="the convolutions ran on CPUExecutionProvider"):
        create_engine(content, EngineSettings("cuda", threads=1), 64)
    engine = create_engine(content, EngineSettings("auto", threads=1), 64)
    assert engine.description.provider in ("openvino", "cpu")
    assert "cuda failed (cuda was asked for, but the convolutions ran on" in (
        engine.description.reason
    )


def test_the_graph_of_another_network_is_refused() -> None:
    import onnx
    from onnx import helper

    shape = ["batch", 64, 64, 64]
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(EngineError, match="not a Blush network"):
        create_engine(model.SerializeToString(), EngineSettings("cpu", threads=1), 64)


def test_a_graph_that_the_runtime_cannot_load_is_refused() -> None:
    with pytest.raises(EngineError, match="onnxruntime cannot start CPUExecutionProvider"):
        create_engine(b"no graph", EngineSettings("cpu", threads=1), 64)


@pytest.mark.openvino
def test_openvino_gives_the_same_map_whatever_the_batch(tiny_model: Path) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    cpu = Denoiser.load(tiny_model, provider="cpu").denoise(volume, 1.5)
    single, batched = (
        Denoiser.load(tiny_model, provider="openvino", batch_size=size).denoise(volume, 1.5)
        for size in (1, 4)
    )
    np.testing.assert_array_equal(single.density, batched.density)
    correction = np.linalg.norm(cpu.density - volume)
    assert np.linalg.norm(single.density - cpu.density) / correction < 5e-4


def test_the_cpu_gets_the_graph_of_2d_convolutions_and_gives_the_same_map(
    tiny_model: Path,
) -> None:
    model = models.load_model(tiny_model)
    engines = conversion.proof_engines(model.content, 64)
    volume = blob_and_noise((70, 70, 70), 0)
    maps = [
        Denoiser(model.config, engine).denoise(volume, 1.5).density for engine in engines.values()
    ]
    correction = np.linalg.norm(maps[0] - volume)
    assert 0 < np.linalg.norm(maps[1] - maps[0]) / correction < 1e-5
    content = ort_engine._in_planes(model.content, 64, only_2d=False)
    assert content != model.content  # else this test compares a graph with itself


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "provider", ["cpu", pytest.param("openvino", marks=pytest.mark.openvino)]
)
def test_patches_side_by_side_do_not_change_the_map(
    provider: str, threads: int, tiny_model: Path
) -> None:
    volume = blob_and_noise((70, 70, 70), 0)
    one, several = (
        Denoiser.load(tiny_model, provider=provider, threads=count) for count in (1, threads)
    )
    running = several.engine.description
    assert 1 <= running.side_by_side <= min(threads, 4)
    if provider == "cpu":
        assert running.side_by_side == min(threads, 4)
    expected = one.denoise(volume, 1.5).density
    found = several.denoise(volume, 1.5).density
    # OpenVINO chooses its kernels by the threads of a stream, and they round otherwise.
    tolerance = 1e-6 if provider == "cpu" else 1e-4
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < tolerance


@pytest.mark.parametrize(
    ("provider", "precision"), [("cpu", "bfloat16"), ("cpu", "float16"), ("openvino", "tf32")]
)
def test_a_precision_that_the_engine_does_not_have_is_refused(
    provider: str, precision: str, tiny_model: Path
) -> None:
    if provider not in installed_providers():
        pytest.skip(f"{provider} is not installed")
    with pytest.raises(EngineError, match=precision):
        Denoiser.load(tiny_model, provider=provider, precision=precision)


def test_an_unknown_precision_or_device_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="unknown precision 'int8'"):
        Denoiser.load(tiny_model, precision="int8")
    with pytest.raises(InputError, match="cpu has no cards"):
        Denoiser.load(tiny_model, provider="cpu", device=(0, 1))
    assert Denoiser.load(tiny_model, provider="cpu", device=np.int64(0)).engine is not None
    for devices in ((), (-1,), (0, 0)):
        with pytest.raises(InputError, match="each card's number once"):
            Denoiser.load(tiny_model, device=devices)


@pytest.mark.parametrize("broken", ["raise OSError('libfoo.so: no such file')", "import no_such"])
def test_auto_passes_over_a_broken_openvino(broken: str, tiny_model: Path, tmp_path: Path) -> None:
    package = tmp_path / "openvino"
    package.mkdir()
    (package / "__init__.py").write_text(broken + "\n")
    done = run_python(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(tmp_path)!r})
            from blush_onnx import Denoiser
            print(Denoiser.load({str(tiny_model)!r}).engine.description.reason)
        """),
        without=[],
    )
    assert "openvino failed (the installed OpenVINO cannot be imported (" in done.stdout


@pytest.mark.openvino
def test_bfloat16_changes_the_map_by_less_than_a_hundredth_of_the_correction(
    tiny_model: Path,
) -> None:
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        pytest.skip("this processor has no bfloat16")
    volume = blob_and_noise((70, 70, 70), 0)
    single, brief = (
        Denoiser.load(tiny_model, provider="openvino", precision=precision).denoise(volume, 1.5)
        for precision in ("float32", "bfloat16")
    )
    correction = np.linalg.norm(single.density - volume)
    difference = np.linalg.norm(brief.density - single.density) / correction
    assert 1e-5 < difference < 2e-2
    assert brief.engine.precision == "bfloat16"


def test_a_flat_patch_stays_flat_in_half_precision(tiny_model: Path) -> None:
    model = onnx.load_from_string(models.load_model(tiny_model).content)
    half = network.in_half_precision(model, 64).SerializeToString()
    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    flat = np.full((1, 64, 64, 64), 0.25, dtype=np.float32)
    (density,) = session.run(["density"], {"grid": flat, "local_std": 0 * flat})
    np.testing.assert_allclose(density, 0.25, atol=1e-6)


def test_running_out_of_memory_is_told_from_other_failures() -> None:
    for text in (
        "Failed to allocate memory for requested buffer of size 123",
        "CUDA failure 2: out of memory ; GPU=0", "std::bad_alloc",
        "BFCArena::AllocateRawInternal Available memory of 1 is smaller than requested bytes of 2",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert ort_engine.is_lack_of_memory(RuntimeError(text))
    assert not ort_engine.is_lack_of_memory(RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"))


def test_no_runtime_at_all_is_one_line_that_names_the_extras(tiny_model: Path) -> None:
    done = run_python(
        textwrap.dedent(f"""
            from blush_onnx import BlushError, Denoiser
            try:
                Denoiser.load({str(tiny_model)!r})
            except BlushError as error:
                print(error)
        """),
        without=["onnxruntime", "openvino"],
    )
    assert done.stdout.count("\n") == 1
    for extra in ("blush-onnx[cpu]", "gpu", "gpu-cuda12", "openvino"):
        assert extra in done.stdout


def test_only_one_of_the_twins_is_installed_here() -> None:
    names = {d.metadata["Name"].lower() for d in metadata.distributions()}
    assert not {"onnxruntime", "onnxruntime-gpu"} <= names, sys.prefix


def test_tensor_cores_are_barred_in_single_precision_alone() -> None:
    allowed = {
        precision: ort_session.provider_options("CUDAExecutionProvider", 0, precision)["use_tf32"]
        for precision in ("float32", "tf32", "float16")
    }
    assert allowed == {"float32": "0", "tf32": "1", "float16": "1"}


def test_cuda_is_told_how_much_memory_it_may_take() -> None:
    def limit(card_memory: float | None) -> str | None:
        options = ort_session.provider_options("CUDAExecutionProvider", 0, "float32", card_memory)
        return options.get("gpu_mem_limit")

    assert limit(None) is None
    assert limit(1.5) == str(3 << 29)


def test_a_limit_of_nothing_is_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="card memory 0 GiB: give more than 0"):
        Denoiser.load(tiny_model, provider="cpu", card_memory=0)


CORE_ML_OPERATORS = {
    "Add", "Cast", "Concat", "Conv", "Div", "InstanceNormalization", "MatMul", "MaxPool", "Mul",
    "ReduceMax", "ReduceMean", "Reshape", "Sigmoid", "Slice", "Split", "Sqrt", "Sub", "Transpose",
}
"""Of those that the documentation of ONNX Runtime's Core ML provider lists for ML programs."""


def test_core_ml_gets_a_graph_of_operators_that_it_has(tiny_model: Path, tmp_path: Path) -> None:
    """No Mac runs these tests: this is what can be said about the graph without one."""
    content = models.load_model(tiny_model).content
    options = onnxruntime.SessionOptions()
    # Providers choose their nodes after these optimisations, which fold the weights' own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(
        ort_engine._in_planes(content, 64, only_2d=True), options,
        providers=["CPUExecutionProvider"],
    )
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "folded.onnx"))
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    }
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        assert node.op_type in CORE_ML_OPERATORS
        for name in (*node.input, *node.output):
            assert name in constants or (0 not in shapes[name] and len(shapes[name]) <= 5), name
        if node.op_type == "Conv":
            assert set(node.input[1:]) <= constants
            assert len(shapes[node.input[0]]) == 4
        if node.op_type == "Slice":
            assert set(node.input[1:]) <= constants
