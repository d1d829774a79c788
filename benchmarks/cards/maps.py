"""Whole maps: ours, and the published program on the same card with the same weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cards import ours
from benchmarks.cards.memory import CardMemory
from benchmarks.cards.settings import Settings, one_line
from benchmarks.speed import published
from benchmarks.speed.ours import volume
from blush_onnx import Denoiser
from blush_onnx.engines.base import Array, Engine

ROUND = 1e-9
Result = tuple[Array, dict[str, float]]
Denoise = Callable[[Array, int], Result]


class Watched:
    """An engine, and the seconds that it was at work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.description = engine.description
        self.seconds = 0.0

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """As the engine does."""
        start = time.perf_counter()
        try:
            return self._engine.run(grid, local_std)
        finally:
            self.seconds += time.perf_counter() - start


def measure_ours(settings: Settings, precision: str) -> None:
    """Maps in one precision, by batch and box; a row each."""
    denoiser = ours.load(settings, precision)
    watched = Watched(denoiser.engine)
    denoiser.engine = watched

    def denoise(values: Array, batch: int) -> Result:
        denoiser.batch_size = batch
        watched.seconds = 0.0
        result = denoiser.denoise(values, settings.voxel_size, stride=settings.stride)
        return result.density, {"network_s": watched.seconds, "patches": result.patches}

    for box in settings.boxes:
        _rescaling(settings, box, denoiser)
    kept = ours.load(settings, precision, on_card=True)

    def denoise_there(values: Array, batch: int) -> Result:
        kept.batch_size = batch
        result = kept.denoise(values, settings.voxel_size, stride=settings.stride)
        return result.density, {"patches": result.patches}

    cases: list[tuple[str, int, Denoise]] = [
        case for batch in settings.map_batches for case in (
            (f"ours {precision}", batch, denoise),
            (f"ours {precision} on the card", batch, denoise_there),
        )
    ]
    _measure(settings, cases)


def _rescaling(settings: Settings, box: int, denoiser: Denoiser) -> None:
    """What the transforms to the model's voxel size and back take of a map's time."""
    values = volume(box)
    grids = denoiser.grids(values.shape, settings.voxel_size)
    start = time.perf_counter()
    grids.from_model(grids.to_model(values))
    settings.write(part="rescaling", box=box, seconds=time.perf_counter() - start)


def measure_published(settings: Settings) -> None:
    """The published program: as it is called, without TF32, and with larger batches.

    With batches above 1 it leaves out up to a batch of patches where the last places are
    outside the mask.
    """
    import torch

    from benchmarks.cards.pytorch import allow_tf32

    checkout, weights = str(settings.reference), str(Path(settings.scratch, "weights.pt"))
    published.write_weights(settings.model, weights)
    util = published._module(checkout, "relion_blush.util")
    network = published._network(checkout, weights, torch.get_num_threads())
    network = network.to(settings.torch_device)

    def with_tf32(allowed: bool) -> Denoise:
        def denoise(values: Array, batch: int) -> Result:
            allow_tf32(allowed)
            with torch.no_grad():
                return _published(settings, util, network, values, batch), {}

        return denoise

    cases = [("published float32", 1, with_tf32(False)), ("published tf32", 1, with_tf32(True))]
    cases += [("published tf32", b, with_tf32(True)) for b in settings.map_batches if b == 8]
    _measure(settings, cases)


def _published(settings: Settings, util: Any, network: Any, values: Array, batch: int) -> Array:
    """The steps of the published refinement mode; the network and its sums on the card."""
    import torch

    place, box = torch.device(settings.torch_device), values.shape[0]
    coarse, _ = util.normalize_voxel_size_fourier(
        util.fft(values), settings.voxel_size, published.VOXEL_SIZE
    )
    coarse *= (coarse.shape[0] / box) ** 3
    side = coarse.shape[0]
    found, _ = util.apply_model(
        network, torch.from_numpy(util.ifft(coarse)).to(place), place,
        input_mask=util.get_radial_mask(side, (side - 6) / 2, 6).to(place),
        strides=settings.stride, block_size=published.PATCH_SIZE, batch_size=batch,
    )
    back = util.rescale_fourier(util.fft(found.float().cpu().numpy()), box) * (box / side) ** 3
    return np.asarray(util.ifft(back), dtype=np.float32)


def _measure(settings: Settings, cases: list[tuple[str, int, Denoise]]) -> None:
    with CardMemory(settings.device) as memory:
        for box in settings.boxes:
            values = volume(box)
            # The patches of the first box have warmed up for all.
            runs = 1 + settings.rounds if box == settings.boxes[0] else 1
            for name, batch, denoise in cases:
                if settings.seconds_left() < 0:
                    settings.write(
                        part="maps", name=name, batch=batch, box=box, failed="out of time"
                    )
                    continue
                try:
                    memory.reset()
                    row = _row(settings, name, values, denoise, batch, runs)
                except Exception as error:  # each library raises what it likes
                    settings.write(
                        part="maps", name=name, batch=batch, box=box, failed=one_line(error)
                    )
                    continue
                if memory.peak is not None:
                    row["card_MB"] = memory.peak / 1e6
                settings.write(part="maps", name=name, batch=batch, box=box, **row)


def _row(
    settings: Settings, name: str, values: Array, denoise: Denoise, batch: int, runs: int
) -> dict[str, Any]:
    seconds: list[float] = []
    around: list[float] = []
    facts: dict[str, float] = {}
    density = values
    for _ in range(runs):
        if len(seconds) > 1 and settings.seconds_left() < 0:
            break
        start = time.perf_counter()
        density, facts = denoise(values, batch)
        seconds.append(time.perf_counter() - start)
        around.append(seconds[-1] - facts.get("network_s", 0.0))
    row: dict[str, Any] = {"seconds": statistics.median(seconds[1:] or seconds)}
    if len(seconds) > 1:
        row["first_s"] = seconds[0]
    if "network_s" in facts:
        row["not_network_s"] = statistics.median(around[1:] or around)
    if "patches" in facts:
        row["patches"] = facts["patches"]
    for against, path in _maps(settings, values.shape[0], name):
        base = np.load(path)
        correction = np.linalg.norm(base - values)
        row[f"from_{against}"] = float(np.linalg.norm(density - base) / max(correction, ROUND))
    path = _path(settings, name, values.shape[0])
    if name.endswith("float32") and not path.is_file():
        np.save(path, density)
    return row


def _maps(settings: Settings, box: int, name: str) -> Iterator[tuple[str, Path]]:
    """What a map is compared with: the published program's and ours in single precision."""
    for who in ("published", "ours"):
        path = _path(settings, f"{who} float32", box)
        if path.is_file() and name != f"{who} float32":
            yield who, path


def _path(settings: Settings, name: str, box: int) -> Path:
    return Path(settings.scratch, f"{name.replace(' ', '_')}_{box}.npy")
