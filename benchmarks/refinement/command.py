"""``python -m benchmarks refinement``: parsing and printing."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

import click

from benchmarks.refinement.plan import ARMS, LEVELS, planned
from benchmarks.refinement.results import markdown_table, read_rows
from blush_onnx.errors import BlushError
from blush_onnx.masks import tight_box_warning

BOX = 64
MODEL_VOXEL_SIZE = 1.5
RESULTS = "refinement.csv"


@click.command()
@click.option("--structure", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Atomic model to simulate particles of, mmCIF or PDB, also .gz.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False),
              default=Path("refinement-benchmark"), show_default=True,
              help="Folder of the runs.")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False),
              help=f"Results file; {RESULTS} in the folder of the runs by default.")
@click.option("--particles", type=click.IntRange(100), default=3000, show_default=True)
@click.option("--pixel-size", type=click.FloatRange(0.5, 10), default=2.4, show_default=True,
              help=f"Å; the images are {BOX} pixels wide.")
@click.option("--solvent/--no-solvent", default=True, show_default=True,
              help="Whether the particle displaces ice.")
@click.option("--levels", default=",".join(LEVELS), show_default=True,
              help="Noise levels in the order wanted; a signal-to-noise ratio is one too.")
@click.option("--seeds", default="1,2", show_default=True, help="Of poses, noise and half-sets.")
@click.option("--only", "arms", multiple=True, type=click.Choice(list(ARMS)),
              help="Do this arm alone; may be given more than once.")
@click.option("--randomised-beyond", type=click.FloatRange(4, 30), default=8.0, show_default=True,
              help="Resolution beyond which phases are random in the randomised arms, Å.")
@click.option("--randomised-level", default="easy", show_default=True,
              help="Noise level of the randomised arms.")
@click.option("-m", "--model", help="Model of Blush.  [default: the bundled one]")
@click.option("--command", metavar="TEXT",
              help="External reconstruction in place of 'blush-onnx relion {options}'.")
@click.option("--pad", "padding", type=click.IntRange(1, 2), default=1, show_default=True,
              help="RELION's padding.")
@click.option("--nice", type=click.IntRange(0, 19), default=0, show_default=True,
              help="Run RELION at a lower priority.")
@click.option("--relion-arguments", default="", metavar="TEXT",
              help="Further arguments for relion_refine, such as '--cpu'.")
@click.option("--table", is_flag=True, help="Print the results file as a Markdown table; no runs.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw the curves of the results file; no runs.")
def refinement(
    structure: Path | None, work: Path, results: Path | None, particles: int, pixel_size: float,
    solvent: bool, levels: str, seeds: str, arms: tuple[str, ...], randomised_beyond: float,
    randomised_level: str, model: str | None, command: str | None, padding: int, nice: int,
    relion_arguments: str, table: bool, plot: Path | None,
) -> None:
    """Refine simulated particles with RELION: plain, with Blush, and without trailing.

    A run that has ended is a line of the results file and is not done again; one
    that was interrupted starts afresh. Needs RELION 3.1 or newer with MPI.
    """
    results = results or work / RESULTS
    if table or plot:
        _show(results, table, plot)
        return
    if structure is None:
        raise click.UsageError("give --structure, or --table or --plot to see what there is")
    try:
        runs = planned(_words(levels), [int(s) for s in _words(seeds)], arms, randomised_level)
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    try:
        from benchmarks.refinement.runs import Bench, run_all
        from benchmarks.refinement.truth import read_truth
    except ImportError as error:
        raise BlushError("this benchmark needs gemmi: pip install 'blush-onnx[relion]'") from error

    truth = read_truth(structure, BOX, pixel_size, solvent)
    click.echo(
        f"{truth.name}: particle diameter {truth.particle_diameter:g} Å in a box of "
        f"{BOX * pixel_size:g} Å; {len(runs)} runs"
    )
    box = BOX * pixel_size
    if warning := tight_box_warning(box, MODEL_VOXEL_SIZE, truth.particle_diameter):
        click.echo(f"Warning: {warning}")
    results.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that RELION is ended too
    bench = Bench(
        truth, particles, randomised_beyond, work, results, model, command, padding, nice,
        tuple(shlex.split(relion_arguments)),
    )
    run_all(bench, runs, click.echo)


def _show(results: Path, table: bool, picture: Path | None) -> None:
    rows = read_rows(results)
    if table:
        click.echo(markdown_table(rows))
    if picture:
        from benchmarks.refinement.plot import plot

        plot(rows, results, picture)
        click.echo(picture)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
