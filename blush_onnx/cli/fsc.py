"""``blush-onnx fsc``: the FSC of two half-maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.output_folder import OutputFolder

if TYPE_CHECKING:
    from blush_onnx.fsc import FscCurves

_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="Example: blush-onnx fsc half1.mrc half2.mrc --mask mask.mrc --out fsc.csv"
)
@click.argument("half1", type=_PATH)
@click.argument("half2", type=_PATH)
@click.option(
    "--mask", type=_PATH, metavar="MRC",
    help="Solvent mask; the FSC under it is corrected by phase randomisation.",
)
@click.option("--voxel-size", type=float, metavar="Å", help="In place of the files' headers.")
@click.option(
    "--out", type=_PATH, metavar="CSV", default=Path("fsc.csv"), show_default=True,
    help="Table of the curves.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing table.")
@debug_option
def fsc(
    half1: Path, half2: Path, mask: Path | None, voxel_size: float | None, out: Path,
    overwrite: bool,
) -> None:
    """FSC of two half-maps: print the curves and write them as CSV.

    With --mask also the masked, the phase-randomised and the solvent-corrected
    curve. Never give it denoised maps: their FSC says nothing about resolution.
    """
    from blush_onnx import half_map_checks, volume_io
    from blush_onnx.fsc import half_map_fsc
    from blush_onnx.report.record import curve_rows

    with OutputFolder(out.parent, [out.name], overwrite) as folder:
        first, second = (volume_io.read_map(path, voxel_size) for path in (half1, half2))
        half_map_checks.check_halves(first, second)
        values = None if mask is None else volume_io.read_mask(mask, first)[0]
        curves = half_map_fsc(first.data, second.data, first.voxel_size, values)
        columns, rows = curve_rows(curves)
        lines = [",".join(columns)]
        lines += [",".join(f"{value:.6g}" for value in row) for row in rows]
        folder.write_text(out.name, "\n".join(lines) + "\n")
    for warning in filter(None, map(half_map_checks.denoised_already, (first, second))):
        click.echo(f"Warning: {warning}", err=True)
    _print(curves, columns, rows)
    click.echo(f"Written to {out}")


def _print(curves: FscCurves, columns: list[str], rows: list[list[float]]) -> None:
    click.echo("  ".join(f"{name:>19}" for name in columns))
    for row in rows:
        cells = [f"{int(row[0]):>19}", f"{row[1]:>19.2f}", *(f"{v:>19.4f}" for v in row[2:])]
        click.echo("  ".join(cells))
    kind = "unmasked" if curves.corrected is None else "solvent-corrected"
    for threshold in (0.143, 0.5):
        click.echo(f"Resolution at {threshold:g}: {curves.resolution(threshold):.2f} Å ({kind})")
    if curves.randomised_from is not None:
        click.echo(
            f"Phases randomised from shell {curves.randomised_from} on, seed {curves.seed}"
        )
