"""What the published implementation takes; each function runs in a process of its own."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    REFERENCE,
    Measured,
    peak_memory,
    processor_joules,
    processor_seconds,
    timed,
)
from benchmarks.speed.ours import name_of, volume

VOXEL_SIZE, PATCH_SIZE = 1.5, 64


def _module(checkout: str, name: str) -> Any:
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return importlib.import_module(name)


def write_weights(model: str, path: str) -> Measured:
    """A registered model's weights as a file of PyTorch's."""
    import onnx
    import torch

    from blush_onnx import models, network

    weights = network.weights_of_graph(onnx.load_from_string(models.load_model(model).content))
    torch.save({n: torch.from_numpy(w.astype("float32")) for n, w in weights.items()}, path)
    return {}


def _network(checkout: str, weights: str, threads: int) -> Any:
    """The published network with these weights."""
    import torch

    torch.set_num_threads(threads)
    made = _module(checkout, "model.model").BlushModel()
    state = torch.load(weights, weights_only=True)
    missing, unexpected = made.load_state_dict(state, strict=False)
    if unexpected or any("double_conv" in name for name in missing):
        raise RuntimeError(f"the weights do not fit the published network: {missing}, {unexpected}")
    made.voxel_size, made.block_size = VOXEL_SIZE, PATCH_SIZE
    return made.eval()


def patch(checkout: str, weights: str, precision: str, threads: int, repeats: int) -> Measured:
    """The network alone, one patch after the other, as the program calls it by default."""
    import torch

    from blush_onnx import self_test

    network = _network(checkout, weights, threads)
    grid, local_std = (torch.from_numpy(p)[None] for p in self_test.synthetic_patch(PATCH_SIZE))

    def once() -> None:
        network(grid, local_std)

    with _computing_in(precision):
        once()
        seconds = timed(once, repeats)
    count = 1e-9 * operations_of(weights, torch)
    return {
        "seconds a patch": seconds, "GFLOP/s": count / seconds, "peak memory, MB": peak_memory(),
    }


def operations_of(weights: str, torch: Any) -> int:
    """Multiplications and additions of a patch."""
    from blush_onnx import network

    state = torch.load(weights, weights_only=True)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    return network.architecture(arrays).operations(PATCH_SIZE)


def matrix_product(precision: str, threads: int, side: int) -> Measured:
    """What PyTorch's matrix product reaches, for scale."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(side, side, dtype=getattr(torch, precision))
    a @ a
    return {"GFLOP/s": 2e-9 * side**3 / timed(lambda: a @ a, 5)}


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    import torch

    enabled = precision == "bfloat16"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        yield


def denoise(
    checkout: str, weights: str, precision: str, threads: int, box: int, voxel_size: float,
    stride: int, folder: str,
) -> Measured:
    """A whole map, by the steps of the published refinement mode."""
    begun = time.perf_counter()
    import numpy as np

    util = _module(checkout, "relion_blush.util")
    network = _network(checkout, weights, threads)
    ready = time.perf_counter() - begun
    values = volume(box)
    energy = processor_joules()
    start = time.perf_counter()
    result = _denoised(util, network, values, voxel_size, stride, precision)
    seconds = time.perf_counter() - start
    energy = None if energy is None else (processor_joules() or 0) - energy
    np.save(Path(folder, name_of(REFERENCE, precision)), np.asarray(result, dtype=np.float32))
    return {
        "ready after, s": ready, "denoising, s": seconds, "both, s": ready + seconds,
        "processor, s": processor_seconds(), "peak memory, MB": peak_memory(),
        **({} if energy is None else {"energy, J": energy}),
    }


def _denoised(
    util: Any, network: Any, values: Any, voxel_size: float, stride: int, precision: str
) -> Any:
    """A map through the published functions."""
    import torch

    box = values.shape[0]
    with torch.no_grad():
        coarse, _ = util.normalize_voxel_size_fourier(util.fft(values), voxel_size, VOXEL_SIZE)
        coarse *= (coarse.shape[0] / box) ** 3
        side = coarse.shape[0]
        mask = util.get_radial_mask(side, (side - 6) / 2, 6)
        with _computing_in(precision):
            found, _ = util.apply_model(
                network, torch.from_numpy(util.ifft(coarse)), torch.device("cpu"),
                input_mask=mask, strides=stride, block_size=PATCH_SIZE, batch_size=1,
            )
        back = util.rescale_fourier(util.fft(found.float().numpy()), box) * (box / side) ** 3
        return util.ifft(back)


def around(checkout: str, threads: int, box: int, voxel_size: float, stride: int) -> Measured:
    """A whole map without its network."""
    import torch

    util = _module(checkout, "relion_blush.util")
    torch.set_num_threads(threads)
    values = volume(box)
    at_start = peak_memory()
    start = time.perf_counter()
    _denoised(util, lambda grid, std: (grid, std), values, voxel_size, stride, "float32")
    return {
        "seconds": time.perf_counter() - start,
        "peak over the start, MB": peak_memory() - at_start,
    }


def rescale(
    checkout: str, threads: int, box: int, voxel_size: float, target: float
) -> Measured:
    """To the model's voxel size and back."""
    import torch

    torch.set_num_threads(threads)
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


def job(checkout: str, weights: str, _precision: str, folder: str) -> Measured:
    """A reconstruction by the published functions, and of it the network."""
    import os

    from benchmarks.reconstruction import STAR, STRIDE

    begun = time.perf_counter()
    os.chdir(folder)
    import torch

    program = _module(checkout, "relion_blush.command_line")
    network = _network(checkout, weights, 1)
    spent = [0.0]

    def watched(*patches: Any) -> Any:
        start = time.process_time()
        with torch.no_grad():
            result = network(*patches)
        spent[0] += time.process_time() - start
        return result

    watched.voxel_size, watched.block_size = VOXEL_SIZE, PATCH_SIZE  # type: ignore[attr-defined]
    data = program.load_input_data(STAR)
    program.refine3d(data, watched, torch.device("cpu"), strides=STRIDE, batch_size=1)
    seconds, processor = time.perf_counter() - begun, processor_seconds()
    return {
        "whole, s": seconds, "processor, s": processor, "of it the network, s": spent[0],
        "the rest, processor, s": processor - spent[0], "peak memory, MB": peak_memory(),
    }


def start(checkout: str, weights: str, _precision: str) -> Measured:
    """From nothing to a network that is ready."""
    begun = time.perf_counter()
    _module(checkout, "relion_blush.command_line")
    _network(checkout, weights, 1)
    return {
        "ready after, s": time.perf_counter() - begun, "processor, s": processor_seconds(),
        "peak memory, MB": peak_memory(),
    }
