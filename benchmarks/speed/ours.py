"""What blush-onnx takes; each function runs in a process of its own."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    Measured,
    peak_memory,
    processor_joules,
    processor_seconds,
    timed,
)


def volume(box: int) -> Any:
    """Made-up map: noise, and a ball of more of it; what it shows does not change the time."""
    import numpy as np

    values = np.random.default_rng(1).standard_normal((box, box, box), dtype=np.float32)
    axis = np.linspace(-1, 1, box, dtype=np.float32) ** 2
    values += 3 * (axis[:, None, None] + axis[:, None] + axis < 0.4)
    return values


def name_of(provider: str, precision: str) -> str:
    """File of the map that an engine gave."""
    return (provider if precision == "float32" else f"{provider}-{precision}") + ".npy"


def patch(model: str, provider: str, precision: str, threads: int, repeats: int) -> Measured:
    """The network alone on many patches, as many at a time as the engine works on."""
    from concurrent.futures import ThreadPoolExecutor

    from blush_onnx import Denoiser, self_test

    denoiser = Denoiser.load(model, provider=provider, precision=precision, threads=threads)
    engine, size = denoiser.engine, denoiser.config.patch_size
    grid, local_std = (p[None] for p in self_test.synthetic_patch(size))
    workers = engine.description.side_by_side
    with ThreadPoolExecutor(workers) as pool:

        def several() -> None:
            for each in [pool.submit(engine.run, grid, local_std) for _ in range(2 * workers)]:
                each.result()

        several()
        seconds = timed(several, repeats) / (2 * workers)
    return {
        "seconds a patch": seconds, "GFLOP/s": 1e-9 * operations(model) / seconds,
        "peak memory, MB": peak_memory(),
    }


def operations(model: str) -> int:
    """Multiplications and additions of a patch, as the network is written down."""
    import onnx

    from blush_onnx import models, network

    found = models.load_model(model)
    weights = network.weights_of_graph(onnx.load_from_string(found.content))
    return network.architecture(weights).operations(found.config.patch_size)


def matrix_product(side: int) -> Measured:
    """What NumPy's single-precision matrix product reaches, for scale."""
    import numpy as np

    a = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    a @ a
    return {"GFLOP/s": 2e-9 * side**3 / timed(lambda: a @ a, 5)}


def denoise(
    model: str, provider: str, precision: str, threads: int, box: int, voxel_size: float,
    stride: int, folder: str,
) -> Measured:
    """A whole map: model, engine, rescaling, patches and back."""
    begun = time.perf_counter()
    import numpy as np

    from blush_onnx import Denoiser

    denoiser = Denoiser.load(model, provider=provider, precision=precision, threads=threads)
    ready = time.perf_counter() - begun
    values = volume(box)
    energy = processor_joules()
    start = time.perf_counter()
    result = denoiser.denoise(values, voxel_size, stride=stride)
    seconds = time.perf_counter() - start
    energy = None if energy is None else (processor_joules() or 0) - energy
    np.save(Path(folder, name_of(provider, precision)), result.density)
    return {
        "ready after, s": ready, "denoising, s": seconds, "both, s": ready + seconds,
        "processor, s": processor_seconds(), "patches": float(result.patches),
        "peak memory, MB": peak_memory(), **({} if energy is None else {"energy, J": energy}),
    }


class NoNetwork:
    """An engine that gives back what it gets: what a map takes besides the network."""

    def __init__(self, threads: int) -> None:
        from blush_onnx.engines.base import EngineDescription

        self.description = EngineDescription("cpu", "none", "to measure", threads=threads)

    def run(self, grid: Any, local_std: Any) -> tuple[Any, Any]:
        """The input."""
        return grid, local_std


def around(
    model: str, threads: int, box: int, voxel_size: float, stride: int
) -> Measured:
    """A whole map without its network: rescaling, local deviation, patches, blending, back."""
    from blush_onnx import Denoiser, models

    denoiser = Denoiser(models.load_model(model).config, NoNetwork(threads))
    values = volume(box)
    at_start = peak_memory()
    start = time.perf_counter()
    denoiser.denoise(values, voxel_size, stride=stride)
    return {
        "seconds": time.perf_counter() - start,
        "peak over the start, MB": peak_memory() - at_start,
    }


def rescale(threads: int, box: int, voxel_size: float, target: float) -> Measured:
    """To the model's voxel size and back."""
    from blush_onnx.grids import Grids

    values = volume(box)
    at_start = peak_memory()
    grids = Grids.of(values.shape, voxel_size, target, workers=threads)
    start = time.perf_counter()
    small = grids.to_model(values)
    there = time.perf_counter()
    grids.from_model(small)
    back = time.perf_counter()
    return {
        "there, s": there - start, "back, s": back - there, "both, s": back - start,
        "peak over the start, MB": peak_memory() - at_start,
    }


def job(model: str, provider: str, precision: str, folder: str) -> Measured:
    """The whole of ``blush-onnx relion`` on a reconstruction, and of it the network."""
    from benchmarks.reconstruction import STAR
    from blush_onnx.cli import group

    denoiser: Any = importlib.import_module("blush_onnx.denoiser")
    spent = [0.0]
    create = denoiser.create_engine

    def watched(*args: Any, **kwargs: Any) -> Any:
        engine: Any = create(*args, **kwargs)
        run = engine.run

        def timed_run(*patches: Any) -> Any:
            begun = time.process_time()
            result = run(*patches)
            spent[0] += time.process_time() - begun
            return result

        engine.run = timed_run
        return engine

    denoiser.create_engine = watched
    begun = time.perf_counter()
    os.chdir(folder)
    group.main(["relion", STAR, "--model", model, "--provider", provider,
                "--precision", precision, "--threads", "1"], standalone_mode=False)
    seconds, processor = time.perf_counter() - begun, processor_seconds()
    return {
        "whole, s": seconds, "processor, s": processor, "of it the network, s": spent[0],
        "the rest, processor, s": processor - spent[0], "peak memory, MB": peak_memory(),
    }


def start(model: str, provider: str, precision: str) -> Measured:
    """From nothing to an engine that is ready."""
    begun = time.perf_counter()
    from blush_onnx import Denoiser

    Denoiser.load(model, provider=provider, precision=precision, threads=1)
    return {
        "ready after, s": time.perf_counter() - begun, "processor, s": processor_seconds(),
        "peak memory, MB": peak_memory(),
    }


def start_without(model: str, variable: str, off: str) -> Measured:
    """The same with ONNX Runtime where no graph is kept, and none is written."""
    os.environ[variable] = off
    return start(model, "cpu", "float32")
