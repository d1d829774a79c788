"""Where the time of a map goes, stage by stage."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np

from benchmarks.measuring import machine
from benchmarks.speed.ours import volume
from blush_onnx import Denoiser

STAGES = {
    "rescaling to the model's voxels": ("blush_onnx.grids:Grids.to_model",),
    "spherical mask": ("blush_onnx.masks:default_mask",),
    "local standard deviation": ("blush_onnx.masks:local_std",),
    "mean and deviation": ("blush_onnx.masks:mean_and_std",),
    "choosing patches": ("blush_onnx.averaging:plan_patches",),
    "cutting patches out": ("blush_onnx.evaluation:_stack",),
    "blending": ("blush_onnx.patches:Blend.add", "blush_onnx.patches:Blend.finish"),
    "rescaling back": (
        "blush_onnx.grids:Grids.from_model", "blush_onnx.grids:Grids.mask_from_model",
    ),
}
"""Functions, none of which calls another."""
NETWORK = "network"


@click.command()
@click.option("--model", default=None, metavar="NAME|PATH", help="Default: the default model.")
@click.option("--provider", default="auto", show_default=True)
@click.option("--precision", default="float32", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Default: the processors at hand.")
@click.option("--box", default=256, show_default=True, help="Of the map, voxels.")
@click.option("--voxel-size", default=1.06, show_default=True, help="Å.")
@click.option("--stride", default=20, show_default=True, help="Of the patches, voxels.")
def stages(
    model: str | None, provider: str, precision: str, threads: int | None, box: int,
    voxel_size: float, stride: int,
) -> None:
    """Seconds of each stage of denoising a made-up map, and its share of the whole.

    Stages that run beside each other, as the patches of ONNX Runtime do, count each their own
    time: together they can be more than the whole.
    """
    click.echo(machine())
    denoiser = Denoiser.load(model, provider=provider, precision=precision, threads=threads)
    click.echo(f"{denoiser.config.name} on {denoiser.engine.description.in_words()}")
    whole, seconds, patches = measured(denoiser, volume(box), voxel_size, stride)
    click.echo(f"{patches} patches, {whole:.2f} s")
    click.echo(f"{'stage':34s}{'s':>9s}{'share':>9s}")
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        click.echo(f"{name:34s}{spent:9.3f}{spent / whole:9.1%}")
    rest = whole - sum(seconds.values())
    click.echo(f"{'everything else':34s}{rest:9.3f}{rest / whole:9.1%}")


def measured(
    denoiser: Denoiser, values: Any, voxel_size: float, stride: int
) -> tuple[float, dict[str, float], int]:
    """Seconds in all and by stage, and how many patches there were."""
    seconds = dict.fromkeys((NETWORK, *STAGES), 0.0)
    with _watched(seconds, denoiser):
        start = time.perf_counter()
        result = denoiser.denoise(np.asarray(values), voxel_size, stride=stride)
        whole = time.perf_counter() - start
    return whole, seconds, result.patches


@contextmanager
def _watched(seconds: dict[str, float], denoiser: Denoiser) -> Iterator[None]:
    """Context in which the stages' functions add up their time."""
    undo: list[tuple[Any, str, Any]] = []

    def watch(owner: Any, name: str, stage: str) -> None:
        original = getattr(owner, name)
        undo.append((owner, name, original))
        setattr(owner, name, _adding_up(original, seconds, stage))

    try:
        for stage, functions in STAGES.items():
            for function in functions:
                module, _, path = function.partition(":")
                owner: Any = importlib.import_module(module)
                *inner, name = path.split(".")
                for part in inner:
                    owner = getattr(owner, part)
                watch(owner, name, stage)
        watch(denoiser.engine, "run", NETWORK)
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


def _adding_up(function: Callable[..., Any], seconds: dict[str, float], stage: str) -> Any:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[stage] += time.perf_counter() - start

    return timed
