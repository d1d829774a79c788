"""``python -m benchmarks speed``: one table a subject, ours against the published program."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.measuring import (
    OURS,
    REFERENCE,
    Side,
    alternating,
    in_new_process,
    machine,
    table,
)
from blush_onnx.engines.compiled import FOLDER_VARIABLE, OFF
from blush_onnx.machine import available_cpus
from blush_onnx.models import bundled_default

OUR_MODULE, THEIR_MODULE = "benchmarks.speed.ours", "benchmarks.speed.published"
PATCHES = 5
SUBJECTS = ("patch", "denoise", "around", "rescale", "start", "job", "size")
NUMPY, PYTORCH = "NumPy", "PyTorch"
"""Matrix products beside the patches, for scale."""
NOTHING_KEPT = "cpu, nothing kept"
"""ONNX Runtime where no graph is kept, and none is written."""
PRODUCT_SIDE = 2048
SMALL_JOB = 96, 2.0, 96, 1.5
"""Box, padding, current size, Å a voxel."""
ENGINES = ("openvino", "cpu", "openvino-bfloat16")


@click.command()
@click.option("--reference", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Checkout of github.com/3dem/relion-blush (needs torch, loguru, mrcfile).")
@click.option("--only", multiple=True, type=click.Choice(SUBJECTS),
              help="Subjects; all of them by default.")
@click.option("--engine", "engines", multiple=True, default=ENGINES, show_default=True,
              metavar="PROVIDER[-PRECISION]", help="Ours.")
@click.option("--model", default=bundled_default, show_default="the bundled one",
              help="A registered model.")
@click.option("--box", default=128, show_default=True, help="Of the map to denoise, voxels.")
@click.option("--rescale-box", default=256, show_default=True,
              help="Of the map to rescale, voxels.")
@click.option("--voxel-size", default=1.06, show_default=True, help="Of both, Å.")
@click.option("--stride", default=20, show_default=True, help="Of the patches, voxels.")
@click.option("--threads", type=click.IntRange(1), help="Default: the processors at hand.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True,
              help="Measurements of each.")
def speed(
    reference: Path | None, only: Sequence[str], engines: Sequence[str], model: str, box: int,
    rescale_box: int, voxel_size: float, stride: int, threads: int | None, repeats: int,
) -> None:
    """Time and memory beside the published program, in alternating runs.

    Each measurement is a process of its own. A ratio (x) is that of the published program's
    figure in the same precision to ours, the median over the repeats.
    """
    count = threads or available_cpus()
    click.echo(machine())
    with tempfile.TemporaryDirectory(prefix="blush-onnx-benchmark-") as folder:
        theirs = None
        if reference is not None:
            weights = str(Path(folder, "weights.pt"))
            in_new_process(THEIR_MODULE, "write_weights", model, weights)
            theirs = str(reference.resolve()), weights
        arguments: dict[str, list[object]] = {
            "patch": [count, PATCHES],
            "denoise": [count, box, voxel_size, stride, folder],
            "around": [count, box, voxel_size, stride],
            "rescale": [count, rescale_box, voxel_size, 1.5],
            "start": [],
            "job": [str(Path(folder, "job"))],
        }
        # NumPy's own threads; PyTorch and our engines are told theirs.
        environment = {
            "OPENBLAS_NUM_THREADS": str(count), FOLDER_VARIABLE: str(Path(folder, "cache"))
        }
        if "cpu" in engines:  # so that its graph is kept, as it is from the second start on
            in_new_process(OUR_MODULE, "start", model, "cpu", "float32", environment=environment)
        for subject in only or SUBJECTS:
            click.echo(f"\n{subject}")
            if subject == "job":
                write_small_job(Path(folder, "job"))
            if subject == "size":
                _print_sizes(with_reference=theirs is not None)
                continue
            sides = _sides(subject, model, engines, arguments[subject], theirs)
            if subject == "start" and "cpu" in engines:
                sides[NOTHING_KEPT] = (OUR_MODULE, "start_without", [model, FOLDER_VARIABLE, OFF])
            measured = alternating(sides, repeats, environment)
            for line in table(measured, _reference_of):
                click.echo(line)
            if subject == "denoise" and measured:
                _print_differences(Path(folder), list(measured))


def write_small_job(folder: Path) -> None:
    """A reconstruction so small that little but the start of a process is in its time."""
    folder.mkdir()
    in_new_process("benchmarks.reconstruction", "write_job", str(folder), *SMALL_JOB)


def _sides(
    subject: str, model: str, engines: Sequence[str], arguments: list[object],
    theirs: tuple[str, str] | None,
) -> dict[str, Side]:
    """What to call for a subject: ours on each engine, and the published program."""
    if subject in ("rescale", "around"):
        own = [model, *arguments] if subject == "around" else arguments
        sides: dict[str, Side] = {OURS: (OUR_MODULE, subject, own)}
        if theirs is not None:
            sides[REFERENCE] = (THEIR_MODULE, subject, [theirs[0], *arguments])
        return sides
    sides = {}
    for name in engines:
        provider, _, precision = name.partition("-")
        sides[name] = (OUR_MODULE, subject, [model, provider, precision or "float32", *arguments])
    if subject == "patch":
        sides[NUMPY] = (OUR_MODULE, "matrix_product", [PRODUCT_SIDE])
        if theirs is not None:
            for precision in sorted({name.partition("-")[2] or "float32" for name in engines}):
                side = PYTORCH if precision == "float32" else f"{PYTORCH}-{precision}"
                sides[side] = (
                    THEIR_MODULE, "matrix_product", [precision, arguments[0], PRODUCT_SIDE]
                )
    if theirs is not None:
        for side in sorted({_reference_of(name) for name in engines}):
            precision = side.partition("-")[2] or "float32"
            if precision == "float32" or subject not in ("start", "job"):
                sides[side] = (THEIR_MODULE, subject, [*theirs, precision, *arguments])
    return sides


def _reference_of(side: str) -> str:
    """The published program in the same precision."""
    precision = side.partition("-")[2]
    return f"{REFERENCE}-{precision}" if precision else REFERENCE


def _print_differences(folder: Path, sides: Sequence[str]) -> None:
    """How far the maps are from the published one, or from the first; share of the correction."""
    import numpy as np

    from benchmarks.speed.ours import volume

    maps = {side: np.load(folder / f"{side}.npy") for side in sides}
    base = REFERENCE if REFERENCE in maps else sides[0]
    correction = np.linalg.norm(maps[base] - volume(maps[base].shape[0]))
    for side in sides:
        if side != base:
            difference = np.linalg.norm(maps[side] - maps[base]) / correction
            click.echo(f"{side} differs from {base} by {difference:.1e} of the correction")


def _print_sizes(*, with_reference: bool) -> None:
    """Bytes that pip installs for each, as far as they are installed here."""
    wanted = {"ours, cpu": ["blush-onnx", "onnxruntime"],
              "ours, openvino": ["blush-onnx", "openvino"]}
    if with_reference:
        wanted[REFERENCE] = ["torch", "numpy"]
    for side, names in wanted.items():
        total = 0
        for name in sorted(_closure(names)):
            try:
                files = importlib.metadata.files(name) or []
            except importlib.metadata.PackageNotFoundError:
                click.echo(f"{side}: {name} is not installed here", err=True)
                continue
            paths = (Path(str(file.locate())) for file in files)
            total += sum(path.stat().st_size for path in paths if path.is_file())
        click.echo(f"{side:20s} {total / 1e6:8.0f} MB")


def _closure(names: Sequence[str]) -> set[str]:
    """The packages and all that they require without extras, as far as they are installed."""
    import re

    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [
            m[0] for text in required
            if "extra ==" not in text and (m := re.match(r"[A-Za-z0-9_.-]+", text))
        ]
    return found
