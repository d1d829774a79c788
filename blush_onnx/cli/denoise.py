"""``blush-onnx denoise``: two half-maps, or one map, into references."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

import click

from blush_onnx.cli.denoise_run import SPREAD_FILE, DenoiseRun
from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.loading import MASKS
from blush_onnx.cli.options import denoising_options
from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.cli.page import PAGE

HALF_FILES = ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc", "mask.mrc", "report.json")
MAP_FILES = ("denoised.mrc", "mask.mrc", "report.json")

_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples:
  blush-onnx denoise run_half1_unfil.mrc run_half2_unfil.mrc --out denoised
  blush-onnx denoise half1.mrc half2.mrc --mask mask.mrc --particle-diameter 120 --out denoised
  blush-onnx denoise class001.mrc --out denoised_class
"""
)
@click.argument("maps", nargs=-1, required=True, type=_PATH, metavar="HALF1 HALF2 | MAP")
@click.option("--out", required=True, type=_PATH, metavar="DIR", help="Folder for the results.")
@click.option(
    "--mask", type=_PATH, metavar="MRC",
    help="Solvent mask for the FSC only, which is then corrected by phase randomisation.",
)
@click.option(
    "--denoise-mask", type=_PATH, metavar="MRC",
    help="Where the network looks, in place of a sphere.",
)
@denoising_options
@click.option(
    "--no-spectral-trailing", is_flag=True,
    help="Keep the denoised halves beyond their cut-off: risks overfitting in a refinement.",
)
@click.option(
    "--cut-off", type=float, metavar="Å",
    help="Cut the denoised maps off at this resolution, in place of the one read off the FSC.",
)
@click.option(
    "--report", is_flag=True,
    help="Also write report.html: one page of pictures, curves, settings and warnings.",
)
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@debug_option
def denoise(
    maps: tuple[Path, ...], out: Path, report: bool, quiet: bool, overwrite: bool, **options: Any
) -> None:
    """Denoise two unfiltered half-maps into two references for refinement, or one map.

    Each half is denoised on its own and kept up to the resolution where the
    halves agree (spectral trailing). A single MAP is treated as a 3-D class: the
    network's part up to its limit of 3 Å, the map itself beyond.

    Writes denoised_1.mrc, denoised_2.mrc and their mean denoised.mrc (for one map
    denoised.mrc alone), mask.mrc, the solvent mask that the network sees, and
    report.json. The results are references, not half-maps: never deposit them as
    half-maps, and never take an FSC between them.
    """
    run_denoise(
        maps, out, options, _Progress(quiet), overwrite=overwrite, table=not quiet, report=report
    )


def run_denoise(
    maps: tuple[Path, ...],
    out: Path,
    options: dict[str, Any],
    progress: ProgressContext,
    *,
    overwrite: bool,
    table: bool,
    report: bool = False,
) -> list[str]:
    """Denoise two half-maps or one map into a folder.

    Parameters
    ----------
    maps : tuple of Path
        One or two.
    out : Path
    options : dict
        Of the command ``denoise``.
    progress : ProgressContext
        Told of the progress; whatever it raises ends the work.
    overwrite : bool
        Whether existing results may be replaced.
    table : bool
        Print a few lines on what was done.
    report : bool
        Also write a page to look at.

    Returns
    -------
    list of str
        Names of the files in `out`.
    """
    _check_usage(maps, options)
    names = HALF_FILES if len(maps) == 2 else MAP_FILES
    if options["rotations"] > 1:
        names = (*names, SPREAD_FILE)
    if report:
        from blush_onnx.report.page import require_packages

        require_packages()
        names = (*names, PAGE)
    with OutputFolder(out, names, overwrite, (*HALF_FILES, SPREAD_FILE, PAGE)) as folder:
        folder.require_other_than([*maps, *(options[m] for m in MASKS.values() if options[m])])
        run = DenoiseRun(maps, options)
        folder.require_space(4 * run.inputs[0].data.size * len(folder.names))
        with progress:
            run.compute(progress)
        run.write(folder)
    for warning in run.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if table:
        run.print_table(folder)
    return folder.names


def _check_usage(maps: tuple[Path, ...], options: dict[str, Any]) -> None:
    if options["cut_off"] is not None and options["no_spectral_trailing"]:
        raise click.UsageError("--cut-off has no meaning with --no-spectral-trailing.")
    if len(maps) > 2:
        raise click.UsageError(f"{len(maps)} maps given: two half-maps, or one map.")
    if len(maps) == 1:
        for name in ("mask", "no_spectral_trailing"):
            if options[name]:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for two half-maps; a single map has no FSC."
                )


class ProgressContext(Protocol):
    """A progress callback that is entered before the work and left after it."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def __call__(self, done: int, total: int) -> object:
        """Take note of it."""


class _Progress:
    """Progress bar with the time left, on stderr, where that is a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc="Denoising", unit="patch", leave=False,
                disable=True if self._quiet or sys.stderr is None else None,  # only on a terminal
            )
        self._bar.update(done - self._bar.n)
