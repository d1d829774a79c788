"""How the map changes with the distance of the patches, and what that saves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from blush_onnx import Denoiser, Regularised, fourier, fsc, regularise
from blush_onnx.fourier import Volume
from blush_onnx.volume_io import read_map


@click.command()
@click.argument("halves", nargs=2, type=click.Path(path_type=Path, exists=True),
                metavar="HALF1 HALF2")
@click.option("--model", default=None, metavar="NAME|PATH", help="Default: the default model.")
@click.option("--provider", default="auto", show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--strides", default="20,24,28,32,36,40,43", show_default=True, metavar="N,N,…",
              help="The first is what the others are held against.")
@click.option("--truth", type=click.Path(path_type=Path, exists=True), metavar="MRC",
              help="The map without noise, if it is known.")
def quality(
    halves: tuple[Path, Path], model: str | None, provider: str, precision: str, strides: str,
    truth: Path | None,
) -> None:
    """Difference of the references with each stride, as a share of the correction.

    The correction is what denoising changes: the distance of the references from the
    half-maps, cut off alike. The half-maps must be even cubes. With --truth also the mean
    FSC with it up to the cut-off.
    """
    maps = [read_map(path) for path in halves]
    truth_map = None if truth is None else read_map(truth).data
    denoiser = Denoiser.load(model, provider=provider, precision=precision)
    click.echo(f"{denoiser.config.name} on {denoiser.engine.description.in_words()}")
    click.echo("stride  patches  seconds  difference  largest  FSC with the truth")
    first: Regularised | None = None
    for stride in _numbers(strides):
        start = time.perf_counter()
        found = regularise(
            maps[0].data, maps[1].data, maps[0].voxel_size, denoiser=denoiser, stride=stride
        )
        seconds = time.perf_counter() - start
        first = first or found
        difference, largest = _difference(first, found, maps[0].data)
        line = f"{stride:6d}  {2 * found.network.patches:7d}  {seconds:7.1f}"
        line += f"  {difference:10.4f}  {largest:7.4f}"
        if truth_map is not None:
            curve = fsc.fsc(found.average, truth_map)[1 : found.cut_off]
            line += f"  {curve.mean():18.4f}"
        click.echo(line)


def _numbers(text: str) -> Sequence[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers with commas between them") from None


def _difference(first: Regularised, other: Regularised, half_map: Volume) -> tuple[float, float]:
    """Norm and largest voxel of the change, each over those of the first's correction."""
    shells = np.arange(half_map.shape[0])
    kept = fourier.filter_by_shell(half_map, (shells <= first.cut_off).astype(float))
    correction = first.reference_1 - kept
    change = other.reference_1 - first.reference_1
    return (
        float(np.linalg.norm(change) / np.linalg.norm(correction)),
        float(np.abs(change).max() / np.abs(correction).max()),
    )
