"""How the time of a map grows with its box, its voxel size, the threads and the batch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import numpy as np

from benchmarks.measuring import machine
from benchmarks.speed.ours import volume
from blush_onnx import Denoiser
from blush_onnx.machine import available_cpus

HEADER = f"{'box':>5s}{'Å':>7s}{'threads':>9s}{'batch':>7s}{'patches':>9s}{'s':>9s}{'s/patch':>9s}"


@click.command()
@click.option("--model", default=None, metavar="NAME|PATH", help="Default: the default model.")
@click.option("--provider", default="auto", show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--boxes", default="64,84,104,124,144,164", show_default=True, metavar="N,N,…",
              help="At the model's voxel size, voxels.")
@click.option("--voxel-sizes", default="0.75,1.06,1.5,2.25", show_default=True, metavar="Å,Å,…",
              help="Of one map as large as the middle one of the boxes.")
@click.option("--batches", default="1,4", show_default=True, metavar="N,N,…",
              help="Patches at a time; on a processor they are taken one by one all the same.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True,
              help="Runs of each, in turn; the median counts.")
def growth(
    model: str | None, provider: str, precision: str, boxes: str, voxel_sizes: str, batches: str,
    repeats: int,
) -> None:
    """Seconds of denoising made-up maps; a line for each, and how straight their growth is."""
    click.echo(machine())
    counts = sorted({1, available_cpus()})
    denoisers = {
        (threads, batch): Denoiser.load(
            model, provider=provider, precision=precision, threads=threads, batch_size=batch
        )
        for threads in counts for batch in _numbers(batches)
    }
    usual = (counts[-1], _numbers(batches)[0])
    click.echo(f"{denoisers[usual].config.name} on "
               f"{denoisers[usual].engine.description.in_words()}")
    target = denoisers[usual].config.voxel_size
    sides = _numbers(boxes)
    middle = sides[len(sides) // 2]
    cases = [(side, target, *usual) for side in sides]
    cases += [
        (2 * round(middle * target / size / 2), size, *usual) for size in _floats(voxel_sizes)
    ]
    cases += [(middle, target, *key) for key in denoisers]
    found = _measured(denoisers, list(dict.fromkeys(cases)), repeats)
    click.echo(HEADER)
    for (box, size, threads, batch), (patches, seconds) in found.items():
        click.echo(f"{box:5d}{size:7.2f}{threads:9d}{batch:7d}{patches:9d}{seconds:9.2f}"
                   f"{seconds / patches:9.3f}")
    grown = [found[case] for case in cases[: len(sides)]]
    slope, offset, worst = straightness(grown)
    line = f"boxes: {slope:.3f} s a patch and {offset:.2f} s"
    click.echo(f"{line}; at most {worst:.0%} off that line")


def _measured(
    denoisers: dict[tuple[int, int], Denoiser], cases: Sequence[tuple[int, float, int, int]],
    repeats: int,
) -> dict[tuple[int, float, int, int], tuple[int, float]]:
    """Patches and median seconds of each case; the cases take turns."""
    seconds: dict[tuple[int, float, int, int], list[float]] = {case: [] for case in cases}
    patches = {}
    for denoiser in denoisers.values():  # the first patch of an engine takes longer
        denoiser.denoise(volume(64), denoiser.config.voxel_size)
    for _ in range(repeats):
        for case in cases:
            box, size, *key = case
            values = volume(box)
            start = time.perf_counter()
            result = denoisers[key[0], key[1]].denoise(values, size)
            seconds[case].append(time.perf_counter() - start)
            patches[case] = result.patches
    return {case: (patches[case], float(np.median(seconds[case]))) for case in cases}


def straightness(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """A line through points of patches and seconds: slope, offset, largest relative distance."""
    patches, seconds = np.array(points, dtype=float).T
    design = np.stack([patches, np.ones_like(patches)], axis=1) / seconds[:, None]
    (slope, offset), *_ = np.linalg.lstsq(design, np.ones_like(patches), rcond=None)
    worst = np.abs((slope * patches + offset) / seconds - 1).max()
    return float(slope), float(offset), float(worst)


def _numbers(text: str) -> list[int]:
    return [int(value) for value in _floats(text)]


def _floats(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers with commas between them") from None
