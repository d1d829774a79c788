"""``blush-onnx fsc``: the FSC of two half-maps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.options import like_relion_option
from blush_onnx.cli.output_folder import OutputFolder
from blush_onnx.cli.terminal import echo, plot_fsc

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blush_onnx.fsc import Curve, FscCurves
    from blush_onnx.volume_io import MapFile

_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples:
  blush-onnx fsc half1.mrc half2.mrc --mask mask.mrc --out fsc.csv
  blush-onnx fsc half1.mrc half2.mrc --mask mask.mrc --xml fsc.xml --atomic-model model.cif
"""
)
@click.argument("half1", type=_PATH)
@click.argument("half2", type=_PATH)
@click.option(
    "--mask", type=_PATH, metavar="MRC",
    help="Solvent mask; the FSC under it is corrected by phase randomisation.",
)
@click.option(
    "--atomic-model", type=_PATH, metavar="FILE",
    help="PDB or mmCIF, in the map's coordinates: adds the FSC of both halves' mean to it.",
)
@click.option("--voxel-size", type=float, metavar="Å", help="In place of the files' headers.")
@like_relion_option()
@click.option(
    "--out", type=_PATH, metavar="CSV", default=Path("fsc.csv"), show_default=True,
    help="Table of the curves.",
)
@click.option("--xml", type=_PATH, metavar="FILE", help="Write the FSC to deposit for EMDB.")
@click.option("--table", is_flag=True, help="Print the curves as a table too.")
@click.option(
    "--quiet", is_flag=True,
    help="Print no plot, only the resolutions, and do without the FSC by direction.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@debug_option
def fsc(
    half1: Path, half2: Path, mask: Path | None, atomic_model: Path | None,
    voxel_size: float | None, like_relion: bool, out: Path, xml: Path | None, table: bool,
    quiet: bool, overwrite: bool,
) -> None:
    """FSC of two half-maps: plot the curves and write them as CSV.

    With --mask also the masked, the phase-randomised and the solvent-corrected
    curve. Never give it denoised maps: their FSC says nothing about resolution.
    """
    from blush_onnx import half_map_checks, volume_io
    from blush_onnx.fsc import half_map_fsc
    from blush_onnx.report.fsc_files import as_csv, as_emdb_xml, curve_rows, named_curves

    inputs = [path for path in (half1, half2, mask, atomic_model) if path is not None]
    outputs = [path for path in (out, xml) if path is not None]
    with _outputs(outputs, overwrite, inputs) as folders:
        first, second = (volume_io.read_map(path, voxel_size) for path in (half1, half2))
        half_map_checks.check_halves(first, second)
        values = None if mask is None else volume_io.read_mask(mask, first)[0]
        curves = half_map_fsc(
            first.data, second.data, first.voxel_size, values, like_relion=like_relion
        )
        model = None if atomic_model is None else _model_curve(first, second, values, atomic_model)
        named = named_curves(curves, model)
        columns, rows = curve_rows(named, curves.box_size * curves.voxel_size)
        folders[out].write_text(out.name, as_csv(columns, rows))
        if xml is not None:
            folders[xml].write_text(xml.name, as_emdb_xml(curves))
    for warning in _warnings(first, second, curves, values, directions=not quiet):
        click.echo(f"Warning: {warning}", err=True)
    if table:
        _print_table(columns, rows)
    if not quiet:
        plot_fsc(curves, named)
    _print_resolutions(curves, model)
    click.echo(f"Written to {' and '.join(map(str, outputs))}")


@contextlib.contextmanager
def _outputs(
    paths: list[Path], overwrite: bool, inputs: list[Path]
) -> Iterator[dict[Path, OutputFolder]]:
    """Folders of the files to be written, by path."""
    if len(set(paths)) < len(paths):
        raise click.UsageError("--out and --xml are the same file.")
    folders: dict[Path, OutputFolder] = {}
    with contextlib.ExitStack() as stack:
        for parent in dict.fromkeys(path.parent for path in paths):
            names = [path.name for path in paths if path.parent == parent]
            folders[parent] = stack.enter_context(OutputFolder(parent, names, overwrite))
            folders[parent].require_other_than(inputs)
        yield {path: folders[path.parent] for path in paths}


def _model_curve(
    first: MapFile, second: MapFile, mask: npt.NDArray[np.float32] | None, path: Path
) -> Curve:
    """FSC of the mean of both halves to an atomic model."""
    from blush_onnx.validation.model_map import model_fsc, origin_of

    mean = 0.5 * (first.data + second.data)
    return model_fsc(mean, first.voxel_size, path, origin_of(first), mask=mask)


def _warnings(
    first: MapFile, second: MapFile, curves: FscCurves, mask: npt.NDArray[np.float32] | None,
    *, directions: bool,
) -> list[str]:
    from blush_onnx import half_map_checks
    from blush_onnx.validation.anisotropy import anisotropy_warning, directional_fsc

    by_direction = []
    if directions:  # seconds in a large box
        found = directional_fsc(first.data, second.data, first.voxel_size, mask)
        by_direction = [anisotropy_warning(found)]
    return [
        *filter(None, map(half_map_checks.denoised_already, (first, second))),
        *half_map_checks.half_map_warnings(first.data, second.data, curves),
        *filter(None, by_direction),
    ]


def _print_table(columns: list[str], rows: list[list[float]]) -> None:
    echo("  ".join(f"{name:>19}" for name in columns))
    for row in rows:
        cells = [f"{int(row[0]):>19}", f"{row[1]:>19.2f}", *(f"{v:>19.4f}" for v in row[2:])]
        echo("  ".join(cells))


def _print_resolutions(curves: FscCurves, model: Curve | None) -> None:
    from blush_onnx.fsc import resolution
    from blush_onnx.resolution import in_angstrom

    kind = "unmasked" if curves.corrected is None else "solvent-corrected"
    for threshold in (0.143, 0.5):
        echo(f"Resolution at {threshold:g}: {in_angstrom(curves.resolution(threshold))} ({kind})")
    if model is not None:
        reached = resolution(model, curves.box_size, curves.voxel_size, 0.5)
        echo(f"Map to model at 0.5: {in_angstrom(reached)}")
    if curves.randomised_from is not None:
        echo(f"Phases randomised from shell {curves.randomised_from} on, seed {curves.seed}")
