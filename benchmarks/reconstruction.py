"""One reconstruction job without its network: seconds and peak memory, beside the reference's.

Each measurement is a process of its own, and the network is replaced by one that
returns its input. What is counted: reading the job and its arrays, the
reconstructions, rescaling, masks, local standard deviation, patches, and the
way back to a written map. Imports are counted apart. NumPy and the packages
under test are imported inside functions, so that their import can be timed.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring import (
    OURS,
    REFERENCE,
    Measured,
    Side,
    alternating,
    in_new_process,
    machine,
    peak_memory,
    processor_seconds,
    table,
)

ROOT = "run_it010_half1_class001"
STAR = f"{ROOT}_external_reconstruct.star"
MODEL_VOXEL_SIZE, PATCH_SIZE, STRIDE = 1.5, 64, 20
AGREEMENT = 0.8
"""Share of the current size at which the made-up FSC falls below 1/7."""

@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for the job.")
@click.option("--reference", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Checkout of github.com/3dem/relion-blush (needs torch, loguru, mrcfile).")
@click.option("--box", default=256, show_default=True, help="Side of the box, voxels; even.")
@click.option("--padding", default=2.0, show_default=True, help="RELION's padding factor.")
@click.option("--current-size", type=int, help="Voxels; default: that of the box.")
@click.option("--pixel-size", default=1.3, show_default=True, help="Å a voxel.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True,
              help="Measurements of each.")
def reconstruction(
    work: Path, reference: Path | None, box: int, padding: float, current_size: int | None,
    pixel_size: float, repeats: int,
) -> None:
    """Time and memory of one reconstruction job, without the network."""
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    in_new_process(__name__, "write_job", str(work), box, padding, current_size or box, pixel_size)
    sides: dict[str, Side] = {OURS: (__name__, "measure_ours", [str(work)])}
    if reference is not None:
        sides[REFERENCE] = (__name__, "measure_reference", [str(work), str(reference.resolve())])
    measured = alternating(sides, repeats)
    for line in (machine(), *table(measured)):
        click.echo(line)
    if reference is not None:
        click.echo(f"the maps differ by {_difference(work):.1e} (relative norm)")


def write_job(work: str, box: int, padding: float, current_size: int, pixel_size: float) -> None:
    """Make up a job: random sums, weights that fall with the frequency, plane by plane.

    Parameters
    ----------
    work : str
        Existing folder to write it to.
    box, current_size : int
        Voxels.
    padding : float
    pixel_size : float
        Å.
    """
    import mrcfile
    import numpy as np

    padded = round(padding * box)
    k = np.fft.fftfreq(padded, 1 / padded)
    in_plane = k[:, None] ** 2 + np.arange(padded // 2 + 1) ** 2
    random = np.random.default_rng(1)
    names = {part: f"{ROOT}_external_reconstruct_{part}.mrc"
             for part in ("data_real", "data_imag", "weight")}
    shape = (padded, *in_plane.shape)
    maps = [mrcfile.new_mmap(Path(work, name), shape, mrc_mode=2, overwrite=True)
            for name in names.values()]
    for plane in range(padded):
        radius = np.sqrt(k[plane] ** 2 + in_plane)
        inside = radius <= current_size * padding / 2
        weight = inside * random.uniform(0.5, 1.5, radius.shape) * 3e3 / (1 + radius)
        for file, factor in zip(maps, (1 / (1 + radius), 1 / (1 + radius), None), strict=True):
            noise = 1 if factor is None else random.standard_normal(radius.shape) * factor
            file.data[plane] = weight * noise
    for file in maps:
        file.close()

    fields = {
        "ExtReconsDataReal": names["data_real"], "ExtReconsDataImag": names["data_imag"],
        "ExtReconsWeight": names["weight"], "ExtReconsResult": f"{ROOT}.mrc",
        "ExtReconsResultStarfile": f"{ROOT}_out.star", "Tau2FudgeFactor": 1,
        "PaddingFactor": padding, "ReferenceDimensionality": 3, "OriginalImageSize": box,
        "CurrentImageSize": current_size, "PixelSize": pixel_size,
        "ParticleDiameter": 0.6 * box * pixel_size,
    }
    lines = ["data_external_reconstruct_general", ""]
    lines += [f"_rln{name} {value}" for name, value in fields.items()]
    lines += ["", "data_external_reconstruct_tau2", "", "loop_", "_rlnSpectralIndex #1",
              "_rlnReferenceTau2 #2", "_rlnGoldStandardFsc #3"]
    end = AGREEMENT * current_size / 2
    for shell in range(box // 2 + 1):
        fsc = max(0.0, 1 - (shell / end) ** 2 * 6 / 7)
        lines.append(f"{shell} {1e-3 / (1 + shell):.6e} {fsc:.6f}")
    Path(work, STAR).write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_ours(work: str) -> Measured:
    """Do the job in this process with ours."""
    os.chdir(work)
    start = time.perf_counter()
    import numpy as np

    from blush_onnx.denoiser import Denoiser
    from blush_onnx.engines.base import EngineDescription
    from blush_onnx.hosts.relion import read_job, reconstruct, solve
    from blush_onnx.model_config import ModelConfig
    from blush_onnx.volume_io import write_new_map

    class Identity:
        description = EngineDescription("cpu", "identity", "stands in for the network")

        def run(self, grid: Any, _local_std: Any) -> tuple[Any, Any]:
            return grid, np.zeros_like(grid)

    denoiser = Denoiser(
        ModelConfig("identity", MODEL_VOXEL_SIZE, PATCH_SIZE, has_mask=True), Identity()
    )
    imported = time.perf_counter(), peak_memory()
    job = read_job(STAR)
    maps = reconstruct(job)
    reconstructed = time.perf_counter() - imported[0]
    solution = solve(job, maps, denoiser, stride=STRIDE)
    write_new_map(job.result, solution.result, job.pixel_size, "benchmark")
    Path(job.result).replace(Path(work, f"{OURS}.mrc"))
    return _measured(start, imported, reconstructed)


def measure_reference(work: str, checkout: str) -> Measured:
    """Do the job in this process with the published implementation."""
    os.chdir(work)
    sys.path.insert(0, checkout)
    start = time.perf_counter()
    import torch

    reference: Any = importlib.import_module("relion_blush.command_line")

    class Identity:
        voxel_size, block_size = MODEL_VOXEL_SIZE, PATCH_SIZE

        def __call__(self, grid: Any, _local_std: Any) -> tuple[Any, Any]:
            return grid, torch.zeros_like(grid)

    reconstruct_time = _timed(reference, "get_reconstructions")
    imported = time.perf_counter(), peak_memory()
    data = reference.load_input_data(STAR)
    read = time.perf_counter()
    reference.refine3d(data, Identity(), torch.device("cpu"), strides=STRIDE, batch_size=1)
    Path(f"{ROOT}.mrc").replace(f"{REFERENCE}.mrc")
    return _measured(start, imported, read - imported[0] + reconstruct_time())


def _timed(module: Any, name: str) -> Callable[[], float]:
    """Let a module's function note the time it takes."""
    function = getattr(module, name)
    seconds = []

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **named)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(module, name, timed)
    return lambda: sum(seconds)


def _measured(
    start: float, imported: tuple[float, float], reconstructed: float
) -> Measured:
    total = time.perf_counter() - imported[0]
    return {
        "imports, s": imported[0] - start,
        "reading and reconstruction, s": reconstructed,
        "the rest, s": total - reconstructed,
        "outside the network, s": total,
        "processor, s": processor_seconds(),
        "memory after the imports, MB": imported[1],
        "peak memory, MB": peak_memory(),
    }


def _difference(work: Path) -> float:
    import mrcfile
    import numpy as np

    ours, reference = (mrcfile.read(work / f"{side}.mrc") for side in (OURS, REFERENCE))
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))
