"""What the published implementation takes; each function runs in a process of its own."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import REFERENCE, Measured, peak_memory, processor_seconds, timed
from benchmarks.speed.ours import volume


def _module(checkout: str, name: str) -> Any:
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return importlib.import_module(name)


def _network(checkout: str, model: str, threads: int | None) -> Any:
    """The published network with a registered model's weights."""
    import onnx
    import torch

    from blush_onnx import models, network

    if threads:
        torch.set_num_threads(threads)
    found = models.load_model(model)
    weights = network.weights_of_graph(onnx.load_from_string(found.content))
    made = _module(checkout, "model.model").BlushModel()
    state = {name: torch.from_numpy(w.astype("float32")) for name, w in weights.items()}
    missing, unexpected = made.load_state_dict(state, strict=False)
    if unexpected or any("double_conv" in name for name in missing):
        raise RuntimeError(f"the weights do not fit the published network: {missing}, {unexpected}")
    made.voxel_size, made.block_size = found.config.voxel_size, found.config.patch_size
    return made.eval()


def patch(checkout: str, model: str, threads: int | None, repeats: int) -> Measured:
    """The network alone on one patch at a time."""
    import torch

    from blush_onnx import self_test

    start = time.perf_counter()
    network = _network(checkout, model, threads)
    loaded = time.perf_counter() - start
    grid, local_std = (
        torch.from_numpy(p)[None] for p in self_test.synthetic_patch(network.block_size)
    )

    def once() -> None:
        network(grid, local_std)

    found: Measured = {"loading, s": loaded}
    with torch.no_grad():
        once()
        found["one patch, s"] = timed(once, repeats)
        found["peak memory, MB"] = peak_memory()
        with torch.autocast("cpu", torch.bfloat16):
            once()
            found["in bfloat16, s"] = timed(once, repeats)
    return found


def denoise(
    checkout: str, model: str, threads: int | None, box: int, voxel_size: float, stride: int,
    folder: str,
) -> Measured:
    """A whole map, by the steps of the published refinement mode."""
    start = time.perf_counter()
    import numpy as np
    import torch

    util = _module(checkout, "relion_blush.util")
    values = volume(box)
    begun = time.perf_counter(), peak_memory()
    network = _network(checkout, model, threads)
    loaded = time.perf_counter() - begun[0]
    with torch.no_grad():
        spectrum = util.fft(values)
        coarse, _ = util.normalize_voxel_size_fourier(spectrum, voxel_size, network.voxel_size)
        coarse *= (coarse.shape[0] / box) ** 3
        side = coarse.shape[0]
        mask = util.get_radial_mask(side, (side - 6) / 2, 6)
        found, _ = util.apply_model(
            network, torch.from_numpy(util.ifft(coarse)), torch.device("cpu"), input_mask=mask,
            strides=stride, block_size=network.block_size, batch_size=1,
        )
        back = util.rescale_fourier(util.fft(found.numpy()), box) * (box / side) ** 3
        result = util.ifft(back)
    total = time.perf_counter() - begun[0]
    np.save(Path(folder, f"{REFERENCE}.npy"), np.asarray(result, dtype=np.float32))
    return {
        "imports, s": begun[0] - start, "loading, s": loaded, "denoising, s": total - loaded,
        "processor, s": processor_seconds(),
        "memory at the start, MB": begun[1], "peak memory, MB": peak_memory(),
        "peak over the start, MB": peak_memory() - begun[1],
    }


def rescale(checkout: str, box: int, voxel_size: float, target: float) -> Measured:
    """To the model's voxel size and back."""
    util = _module(checkout, "relion_blush.util")
    values = volume(box)
    at_start = peak_memory()
    start = time.perf_counter()
    spectrum = util.fft(values)
    coarse, _ = util.normalize_voxel_size_fourier(spectrum, voxel_size, target)
    small = util.ifft(coarse * (coarse.shape[0] / box) ** 3)
    there = time.perf_counter()
    util.ifft(util.rescale_fourier(util.fft(small), box) * (box / small.shape[0]) ** 3)
    back = time.perf_counter()
    return {
        "there, s": there - start, "back, s": back - there, "both, s": back - start,
        "peak over the start, MB": peak_memory() - at_start,
    }


def start(checkout: str, model: str) -> Measured:
    """From nothing to a network that is ready."""
    begun = time.perf_counter()
    _module(checkout, "relion_blush.command_line")
    _network(checkout, model, 1)
    return {
        "ready after, s": time.perf_counter() - begun, "processor, s": processor_seconds(),
        "memory, MB": peak_memory(),
    }
