"""How the map changes with the distance of the patches, and what that saves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from blush_onnx import Denoiser, fourier, fsc, regularise
from blush_onnx.fourier import Volume
from blush_onnx.volume_io import MapFile, read_map


@click.command()
@click.argument("maps", nargs=-1, required=True,
                type=click.Path(path_type=Path, exists=True), metavar="MAP | HALF1 HALF2")
@click.option("--model", default=None, metavar="NAME|PATH", help="Default: the default model.")
@click.option("--provider", default="auto", show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--strides", default="20,24,28,32,36,40,43", show_default=True, metavar="N,N,…",
              help="The first is what the others are held against.")
@click.option("--truth", type=click.Path(path_type=Path, exists=True), metavar="MRC",
              help="The map without noise, if it is known; for half-maps.")
def quality(
    maps: tuple[Path, ...], model: str | None, provider: str, precision: str, strides: str,
    truth: Path | None,
) -> None:
    """Difference of the result with each stride, as a share of the correction.

    The correction is what denoising changes: the distance of the references from the
    half-maps, cut off alike, or of a single map from itself denoised. Half-maps must be even
    cubes. With --truth also the mean FSC with it up to the cut-off.
    """
    if len(maps) > 2 or (truth and len(maps) == 1):
        raise click.UsageError("give one map, or two half-maps; --truth goes with two")
    files = [read_map(path) for path in maps]
    truth_map = None if truth is None else read_map(truth).data
    denoiser = Denoiser.load(model, provider=provider, precision=precision)
    click.echo(f"{denoiser.config.name} on {denoiser.engine.description.in_words()}")
    click.echo("stride  patches  seconds  difference  largest  FSC with the truth")
    first: _Seen | None = None
    for stride in _numbers(strides):
        found = _denoised(denoiser, files, stride, truth_map)
        first = first or found
        correction, change = first.density - first.before, found.density - first.density
        difference = np.linalg.norm(change) / np.linalg.norm(correction)
        largest = np.abs(change).max() / np.abs(correction).max()
        line = f"{stride:6d}  {found.patches:7d}  {found.seconds:7.1f}"
        line += f"  {difference:10.4f}  {largest:7.4f}"
        if found.fsc is not None:
            line += f"  {found.fsc:18.4f}"
        click.echo(line)


@dataclass(frozen=True)
class _Seen:
    """What came of one stride; `before` is the map as it would be without the network."""

    before: Volume
    density: Volume
    patches: int
    seconds: float
    fsc: float | None = None


def _denoised(
    denoiser: Denoiser, files: Sequence[MapFile], stride: int, truth: Volume | None
) -> _Seen:
    values, voxel_size = files[0].data, files[0].voxel_size
    start = time.perf_counter()
    if len(files) == 1:
        single = denoiser.denoise(values, voxel_size, stride=stride)
        seconds = time.perf_counter() - start
        return _Seen(values, single.density, single.patches, seconds)
    found = regularise(values, files[1].data, voxel_size, denoiser=denoiser, stride=stride)
    seconds = time.perf_counter() - start
    shells = np.arange(values.shape[0])
    return _Seen(
        fourier.filter_by_shell(values, (shells <= found.cut_off).astype(float)),
        found.reference_1, 2 * found.network.patches, seconds,
        None if truth is None
        else float(fsc.fsc(found.average, truth)[1 : found.cut_off].mean()),
    )


def _numbers(text: str) -> Sequence[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers with commas between them") from None
