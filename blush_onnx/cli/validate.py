"""``blush-onnx validate``: whether two half-maps and their denoising can be believed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.options import denoising_options, like_relion_option
from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.cli.page import PAGE
from blush_onnx.cli.validate_run import LABELS, ValidateRun

FLAGGED = 3
OF_THE_HALVES = {
    "mask", "like_relion", "atomic_model", "local_resolution", "no_network", "voxel_size",
    "threads",
}
"""Options that mean something without a network."""
_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples:
  blush-onnx validate half1.mrc half2.mrc --out validation
  blush-onnx validate half1.mrc half2.mrc --phase-randomise 8 --repeats --out validation
  blush-onnx validate half1.mrc half2.mrc --mask mask.mrc --no-network --out validation
"""
)
@click.argument("half1", type=_PATH)
@click.argument("half2", type=_PATH)
@click.option("--out", required=True, type=_PATH, metavar="DIR", help="Folder for the results.")
@click.option(
    "--mask", type=_PATH, metavar="MRC",
    help="Solvent mask for the FSC. Default: one made of the network's own mask.",
)
@click.option(
    "--mask-threshold", type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True,
    metavar="0…1", help="Of the network's mask, for the one made of it.",
)
@click.option(
    "--mask-extend", type=click.FloatRange(0, 100), default=0.0, show_default=True, metavar="Å",
    help="How far that mask reaches beyond the threshold.",
)
@click.option(
    "--mask-soft-edge", type=click.FloatRange(0, 100), default=8.0, show_default=True,
    metavar="Å", help="Width of its soft edge.",
)
@click.option(
    "--phase-randomise", "randomise_beyond", type=float, metavar="Å",
    help="Randomise the phases of both halves beyond this resolution and look whether denoising "
    "makes them agree there: as much time again as denoising.",
)
@click.option(
    "--repeats", is_flag=True,
    help="Denoise the first half five times over, within the largest sphere or --denoise-mask, and "
    "look whether it comes to rest: two and a half times the time of denoising.",
)
@like_relion_option()
@click.option(
    "--atomic-model", type=_PATH, metavar="FILE",
    help="mmCIF or PDB in the map's frame, for the FSC of map and model.",
)
@click.option(
    "--local-resolution/--no-local-resolution", default=True, show_default=True,
    help="Map of the local resolution.",
)
@click.option(
    "--no-network", is_flag=True, help="Look at the half-maps alone; denoise nothing."
)
@click.option(
    "--denoise-mask", type=_PATH, metavar="MRC",
    help="Where the network looks, in place of a sphere.",
)
@denoising_options
@click.option(
    "--no-spectral-trailing", is_flag=True,
    help="Validate a denoising that keeps what lies beyond the cut-off.",
)
@click.option(
    "--strict", is_flag=True, help=f"Exit with {FLAGGED} where a test is flagged."
)
@click.option("--quiet", is_flag=True, help="No progress bar and no table.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@debug_option
@click.pass_context
def validate(
    ctx: click.Context, /, half1: Path, half2: Path, out: Path, strict: bool, quiet: bool,
    overwrite: bool, **options: Any,
) -> None:
    """Validate two half-maps, and what a denoiser makes of them.

    FSC (unmasked, masked, phase-randomised, solvent-corrected, by direction), an
    automatic solvent mask, local resolution, and tests for overfitting; see
    docs/validation.md. Writes report.html to look at, report.json, fsc.csv, fsc.xml
    (for a deposition in the EMDB), solvent_mask.mrc and local_resolution.mrc.
    """
    _check_usage(ctx, options)
    from blush_onnx.report.page import require_packages

    require_packages()
    with OutputFolder(out, _names(options), overwrite, [PAGE, *LABELS]) as folder:
        given = (half1, half2, *(options[o] for o in ("mask", "denoise_mask", "atomic_model")))
        folder.require_other_than([path for path in given if path])
        run = ValidateRun((half1, half2), options)
        folder.require_space(4 * run.inputs[0].data.size * len(folder.names))
        with _Progress(quiet) as progress:
            run.compute(progress)
        run.write(folder)
    for warning in run.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not quiet:
        run.print_table(folder)
    if strict and run.found.flagged:
        raise SystemExit(FLAGGED)


def _check_usage(ctx: click.Context, options: dict[str, Any]) -> None:
    if not options["no_network"]:
        return
    for name in sorted(set(options) - OF_THE_HALVES):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flag = next(p.opts[0] for p in ctx.command.params if p.name == name)
            raise click.UsageError(f"{flag} is about the denoiser: leave --no-network away.")


def _names(options: dict[str, Any]) -> list[str]:
    names = [PAGE, "report.json", "fsc.csv", "fsc.xml"]
    if not options["no_network"]:
        names.append("solvent_mask.mrc")
    if options["local_resolution"]:
        names.append("local_resolution.mrc")
    if options["rotations"] > 1:
        names.append("spread.mrc")
    return names


class _Progress:
    """A bar for each long part, on stderr, where that is a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._part = ""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, part: str, done: int, total: int) -> None:
        if part != self._part:
            from tqdm import tqdm

            if self._bar is not None:
                self._bar.close()
            self._part = part
            self._bar = tqdm(
                total=total, desc=part.capitalize(), leave=False,
                disable=True if self._quiet or sys.stderr is None else None,
            )
        self._bar.update(done - self._bar.n)
