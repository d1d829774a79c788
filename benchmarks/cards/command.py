"""``python -m benchmarks cards``: what the network and whole maps take on one card."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.cards.report import tables
from benchmarks.cards.settings import Settings, read_rows
from blush_onnx.models import bundled_default

PARTS = {
    "network": ("network",),
    "maps": ("maps published", "maps float32", "maps tf32", "maps float16"),
    "ort": ("half", "search", "binding", "operations", "graphs"),
    "torch": ("torch",),
    "compile": ("compile",),
}
DEFAULT_PARTS = "network,maps,ort,torch"
GRACE_S = 15
SMALL: dict[str, tuple[int, ...]] = {
    "batches": (1, 2), "few_batches": (2,), "map_batches": (1,), "boxes": (96,),
}


def _numbers(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter("give numbers with commas between them") from None


def _parts(_context: click.Context, _option: click.Parameter, text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}: choose from {', '.join(PARTS)}")
    return chosen


@click.command()
@click.option("--parts", default=DEFAULT_PARTS, show_default=True, callback=_parts,
              help=f"Of {', '.join(PARTS)}, in that order.")
@click.option("--reference", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Checkout of github.com/3dem/relion-blush.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False),
              default=Path("cards.jsonl"), show_default=True,
              help="JSON, a line a measurement, added to as they come.")
@click.option("--seconds", type=click.FloatRange(1), default=600, show_default=True,
              help="Nothing new is begun after these.")
@click.option("--model", default=bundled_default, show_default="the bundled one",
              help="A registered model or a folder.")
@click.option("--provider", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True,
              help="cpu to try the benchmark without a card.")
@click.option("--device", default=0, show_default=True, help="Number of the card.")
@click.option("--batches", default="1,4,8,16,32", show_default=True, callback=_numbers,
              help="Patches at a time, for our engine and PyTorch.")
@click.option("--few-batches", default="1,8", show_default=True, callback=_numbers,
              help="The same for the variants.")
@click.option("--map-batches", default="1,8,16", show_default=True, callback=_numbers,
              help="The same for whole maps.")
@click.option("--boxes", default="128,256", show_default=True, callback=_numbers,
              help="Of the maps, voxels.")
@click.option("--voxel-size", default=1.06, show_default=True, help="Of the maps, Å.")
@click.option("--stride", default=20, show_default=True, help="Of the maps' patches, voxels.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True,
              help="Turns of alternating measurements.")
@click.option("--small", is_flag=True, help="Few and small, to try it.")
def cards(
    parts: Sequence[str], reference: Path | None, output: Path, seconds: float, model: str,
    provider: str, device: int, batches: tuple[int, ...], few_batches: tuple[int, ...],
    map_batches: tuple[int, ...], boxes: tuple[int, ...], voxel_size: float, stride: int,
    rounds: int, small: bool,
) -> None:
    """Time of the network and of maps on a card: ours, ONNX Runtime's options, PyTorch's.

    Each group of measurements is a process of its own and may fail without the others.
    """
    sizes = {"batches": batches, "few_batches": few_batches, "map_batches": map_batches,
             "boxes": boxes}
    with tempfile.TemporaryDirectory(prefix="blush-onnx-cards-") as scratch:
        settings = Settings(
            model=str(Path(model).resolve()) if Path(model).is_dir() else model,
            provider=provider, device=device, voxel_size=voxel_size, stride=stride,
            rounds=1 if small else rounds, deadline=time.time() + seconds,
            output=str(output.resolve()), scratch=scratch,
            reference=None if reference is None else str(reference.resolve()),
            **(SMALL if small else sizes),
        )
        before = len(read_rows(output))
        groups = [group for part in PARTS if part in parts for group in PARTS[part]]
        for group in ("machine", "answers", *groups):
            if group != "maps published" or reference is not None:
                _run(group, settings)
        for line in tables(read_rows(output)[before:]):
            click.echo(line)


def _run(group: str, settings: Settings) -> None:
    """One group in a process of its own, ended where it outlasts the deadline."""
    left = settings.seconds_left()
    if left < 0:
        settings.write(part=group, failed="out of time")
        return
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cards.group", group, settings.dump()],
            cwd=Path(__file__).resolve().parents[2], stderr=subprocess.PIPE, text=True,
            timeout=left + GRACE_S, check=False,
        )
    except subprocess.TimeoutExpired:
        settings.write(part=group, failed="ended: it outlasted the time given")
        return
    click.echo(done.stderr, err=True, nl=False)
    click.echo(f"{group}: {time.perf_counter() - start:.0f} s", err=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        settings.write(part=group, failed=f"exit status {done.returncode}: {last[:200]}")
