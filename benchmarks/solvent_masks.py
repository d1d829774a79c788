"""How the solvent mask made from the network's own compares with one made from the atoms."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import click
import numpy as np

from blush_onnx import Denoiser, fsc, regularise
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.validation import solvent_mask as masks
from training.prepare import simulate
from training.prepare.dataset import TrainingPair
from training.prepare.structures import read_structure

STRUCTURES = ("11AS", "1VFB", "1CMA", "1GZM", "3EIY", "4QK8")
"""None was trained on. The default threshold was settled on these."""
IN_MEMBRANES = ("1GZM", "2VPZ")
SEED = 710_000
STRIDE = 32
LARGEST_BOX = 120
WHOLE = 0.9999
"""The simulated mask is 1 up to 5 Å from an atom: about 3 Å beyond its van der Waals radius."""
RESOLUTION_AT = 0.143

Row = dict[str, str | float]


@click.command("solvent-masks")
@click.option("--structures", required=True,
              type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder with NAME.cif.gz of each.")
@click.option("--names", default=",".join(STRUCTURES), show_default=True, metavar="NAME,NAME,…")
@click.option("--model", default=None, metavar="NAME|PATH", help="Default: the default model.")
@click.option("--resolutions", default="3.5,5,8", show_default=True, metavar="Å,Å,…",
              help="Where the unmasked FSC of the simulated halves falls to 0.143.")
@click.option("--thresholds", default="0.5,0.7,0.9", show_default=True, metavar="T,T,…",
              help="Of the network's mask.")
@click.option("--extend", default=masks.EXTEND, show_default=True, metavar="Å")
@click.option("--soft-edge", default=masks.SOFT_EDGE, show_default=True, metavar="Å",
              help="Of both masks.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), show_default=True,
              default=Path("benchmarks/results/solvent_masks.csv"))
def solvent_masks(
    structures: Path, names: str, model: str | None, resolutions: str, thresholds: str,
    extend: float, soft_edge: float, output: Path,
) -> None:
    """Simulated half-maps of known atoms: overlap of the masks, and the FSC under each.

    Per case and threshold: intersection over union of the voxels above one half; what the
    mask lacks of 1, on average, within 5 Å of an atom (core missed); volumes; resolution
    without a mask and under both; the FSC with random phases, mean of three shells about
    that resolution, which is near 0 where a mask is fine.
    """
    denoiser = Denoiser.load(model)
    rows: list[Row] = []
    for name in names.split(","):
        path = structures / f"{name}.cif.gz"
        atoms = read_structure(path, membrane=name in IN_MEMBRANES, split="held_out")
        for number, resolution in enumerate(_numbers(resolutions)):
            settings = simulate.Settings(
                largest_box=LARGEST_BOX, resolution=(resolution, resolution),
                mean_b=(40.0, 140.0),
            )
            pair = simulate.simulate(atoms, SEED + number, settings)
            start = time.perf_counter()
            done = regularise(
                pair.half_1, pair.half_2, pair.voxel_size, denoiser=denoiser, stride=STRIDE
            )
            click.echo(f"{name} {resolution:g} Å: {time.perf_counter() - start:.0f} s", err=True)
            rows += [
                {"structure": name, "simulated": resolution, "box": pair.mask.shape[0],
                 "model": denoiser.config.name, "threshold": threshold, "extend": extend,
                 "soft_edge": soft_edge,
                 **_compared(pair, done.solvent_mask, threshold, extend, soft_edge)}
                for threshold in _numbers(thresholds)
            ]
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _print(rows)


def _compared(
    pair: TrainingPair, network: Volume, threshold: float, extend: float, soft_edge: float
) -> Row:
    """Figures of one pair under the mask of its atoms and that of the network."""
    atoms = masks.solvent_mask(
        pair.mask, pair.voxel_size, threshold=WHOLE, extend_angstrom=0,
        soft_edge_angstrom=soft_edge, smallest_part=0,
    )
    unmasked = fsc.half_map_fsc(pair.half_1, pair.half_2, pair.voxel_size)
    row: Row = {"unmasked": round(unmasked.resolution(RESOLUTION_AT), 2)}
    row |= _under(pair, atoms, "atoms")
    try:
        ours = masks.solvent_mask(
            network, pair.voxel_size, threshold=threshold, extend_angstrom=extend,
            soft_edge_angstrom=soft_edge,
        )
    except InputError as error:
        raise click.ClickException(f"{pair.name} at {threshold:g}: {error}") from error
    row |= _under(pair, ours, "network")
    a, b, core = atoms.mask > 0.5, ours.mask > 0.5, atoms.mask == 1
    row["iou"] = round(float((a & b).sum() / (a | b).sum()), 3)
    row["core_missed"] = round(float(1 - ours.mask[core].mean()), 4)
    row["parts_kept"], row["parts_dropped"] = ours.parts_kept, ours.parts_dropped
    return row


def _under(pair: TrainingPair, mask: masks.SolventMask, name: str) -> Row:
    curves = fsc.half_map_fsc(pair.half_1, pair.half_2, pair.voxel_size, mask.mask)
    resolution = curves.resolution(RESOLUTION_AT)
    shell = max(round(curves.box_size * curves.voxel_size / resolution), 1)
    randomised = 0.0 if curves.randomised is None else curves.randomised[shell - 1 : shell + 2]
    return {
        f"{name}_volume": round(mask.volume), f"{name}_resolution": round(resolution, 2),
        f"{name}_randomised": round(float(np.mean(randomised)), 3),
    }


def _print(rows: list[Row]) -> None:
    click.echo("threshold  IoU median, least  core missed median, most  resolution over the atoms'")
    for threshold in dict.fromkeys(row["threshold"] for row in rows):
        chosen = [row for row in rows if row["threshold"] == threshold]
        iou, missed, network, atoms = (
            np.array([row[key] for row in chosen], dtype=float)
            for key in ("iou", "core_missed", "network_resolution", "atoms_resolution")
        )
        ratio = network / atoms
        click.echo(
            f"{threshold:>9}  {np.median(iou):10.2f}, {iou.min():5.2f}"
            f"  {np.median(missed):18.3f}, {missed.max():5.3f}"
            f"  {ratio.min():.2f} … {np.median(ratio):.2f} … {ratio.max():.2f}"
        )


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers with commas between them") from None
