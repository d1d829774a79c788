"""``python -m training prepare``."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

import blush_onnx
from blush_onnx.errors import BlushError, InputError, OutputError
from blush_onnx.machine import available_cpus
from training.prepare import dataset, emdb, half_maps, simulate, structures
from training.prepare.half_maps import PairOfFiles
from training.processes import single_threaded_pool

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
PAIRS_IN_SHARD = 8
RECIPE = 2
"""Raised when pairs are made another way, so that old shards are not taken for new ones."""


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--structures", "source", type=click.Path(path_type=Path, exists=True),
              help="Simulate from this folder of mmCIF or PDB files, or from a pack.")
@click.option("--emdb", "emdb_list", type=FILE,
              help="Download the half-maps of this list of EMDB ids, one a line.")
@click.option("--downloads", type=FOLDER, default=Path("emdb-downloads"), show_default=True,
              help="Folder that --emdb downloads to and takes from again.")
@click.option("--half-maps", "pairs", type=(FILE, FILE), multiple=True, metavar="HALF1 HALF2",
              help="Take this pair; may be given more than once.")
@click.option("--mask", "masks", type=FILE, multiple=True,
              help="Around what is ordered in the pair of --half-maps, once for each of them and "
              "in their order.  [default: found in the maps]")
@click.option("--validation-share", type=click.FloatRange(0, 1), default=0, show_default=True,
              help="Of the real pairs, to watch a training by; a pair's name decides, so the same "
              "ones again.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of what is drawn. View v of a structure, from 0, is drawn with seed + v: "
              "seeds closer than --views have views in common.")
@click.option("--views", type=click.IntRange(1), default=1, show_default=True,
              help="Pairs to simulate from each structure.")
@click.option("--largest-diameter", type=click.FloatRange(20), default=400, show_default=True,
              help="Leave out wider structures, Å.")
@click.option("--largest-box", type=click.IntRange(64), default=192, show_default=True,
              help="Voxels of 1.5 Å.")
@click.option("--split", "splits", multiple=True, type=click.Choice(dataset.SPLITS),
              default=("train", "validation"), show_default=True,
              help="Simulate from structures of this split; may be given more than once.")
@click.option("--licence", default=structures.UNKNOWN, show_default=True, metavar="TEXT",
              help="Of your own structures and half-maps, one line for the manifest; what comes "
              "from the PDB or the EMDB is CC0.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one a core]")
@click.option("--pack", is_flag=True,
              help="Only write the structures' atoms into OUTPUT, a small .npz file that serves "
              "as --structures elsewhere.")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw a contact sheet of the result.")
@click.option("--beside", multiple=True, type=FILE,
              help="A real map to show on it; may be given more than once.")
def prepare(
    output: Path, source: Path | None, emdb_list: Path | None, downloads: Path,
    pairs: tuple[tuple[Path, Path], ...], masks: tuple[Path, ...], validation_share: float,
    seed: int, views: int, largest_diameter: float, largest_box: int, splits: tuple[str, ...],
    licence: str, jobs: int | None, pack: bool, sheet: Path | None, beside: tuple[Path, ...],
) -> None:
    """Make training volumes at 1.5 Å a voxel in the folder OUTPUT.

    Goes on where it was interrupted. What is given together ends in one data set.
    """
    if source is None and emdb_list is None and not pairs:
        raise click.UsageError("give --structures, --emdb or --half-maps")
    _check_usage(output, source, pairs, masks, pack)
    start = time.monotonic()
    _make_folder(output.parent if pack else output)
    atoms = read_atoms(source, splits, largest_diameter) if source else []
    atoms = [_licensed(each, licence) for each in atoms]
    if pack:
        count = structures.pack(atoms, output)
        click.echo(f"{count} structures in {output}, {output.stat().st_size / 1e6:.1f} MB")
        return
    settings = simulate.Settings(largest_box=largest_box)
    work = [(each, seed + view) for view in range(views) for each in atoms]
    simulated = [(output, part, settings) for part in _parts(work)]
    _run(simulated, jobs or available_cpus())
    keys = [key_of_job(job) for job in simulated]
    failed: list[str] = []
    downloaded = emdb.pairs(emdb.read_list(emdb_list), downloads, failed) if emdb_list else ()
    for files in itertools.chain(downloaded, _own_pairs(pairs, masks, licence)):
        split = structures.split_of(files.name, "train", validation_share)
        keys += _write_real(output, dataclasses.replace(files, split=split))
    if failed and not keys:
        raise InputError(f"no training volumes were made in {output}: {_in_words(failed)}")
    made = dataset.write_manifest(output, keys, {
        "blush_onnx": blush_onnx.__version__, "numpy": np.__version__, "seed": seed,
        "views": views, "settings": dataclasses.asdict(settings),
    })
    size = sum(dataset.shard_path(output, key).stat().st_size for key in keys)
    click.echo(
        f"{len(made.records)} pairs in {output}, {len(made.of_split('validation'))} of them for "
        f"validation, {size / 1e9:.2f} GB, {time.monotonic() - start:.0f} s"
    )
    if sheet is not None:
        from training.prepare.pictures import contact_sheet

        contact_sheet(made, beside, sheet)
        click.echo(sheet)
    if failed:
        raise InputError(_in_words(failed))


def _check_usage(
    output: Path, source: Path | None, pairs: tuple[tuple[Path, Path], ...],
    masks: tuple[Path, ...], pack: bool,
) -> None:
    if masks and len(masks) != len(pairs):
        raise click.UsageError(
            f"{len(masks)} --mask for {len(pairs)} --half-maps: give one for each, or none"
        )
    if pack and source is None:
        raise click.UsageError("--pack needs --structures")
    if pack and (output.suffix != ".npz" or output.is_dir()):
        raise click.UsageError("--pack writes one file: give OUTPUT a name that ends in .npz")


def _licensed(atoms: structures.Atoms, licence: str) -> structures.Atoms:
    known = atoms.licence != structures.UNKNOWN
    return atoms if known else dataclasses.replace(atoms, licence=licence)


def _in_words(failed: list[str]) -> str:
    downloads = "1 download" if len(failed) == 1 else f"{len(failed)} downloads"
    return f"{downloads} failed: run the command again to go on"


def read_atoms(
    source: Path, splits: Sequence[str], largest_diameter: float = np.inf
) -> list[structures.Atoms]:
    """Structures of a folder or a pack that belong to the splits.

    Raises
    ------
    InputError
        There are none.
    """
    found = structures.read_folder(source) if source.is_dir() else structures.unpack(source)
    chosen = [a for a in found if a.split in splits and a.diameter <= largest_diameter]
    if not chosen:
        narrow = f" and at most {largest_diameter:g} Å wide" if largest_diameter < np.inf else ""
        raise InputError(
            f"{source} holds no structure of the split {' or '.join(splits)}{narrow}; a "
            f"{structures.MANIFEST} with the columns pdb and split says which belongs where, and "
            "without one all are for training"
        )
    return chosen


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be a folder: {error.strerror}") from error


Job = tuple[Path, list[tuple[structures.Atoms, int]], simulate.Settings]


def key_of_job(job: Job) -> str:
    """Name of the shard of a job: the same for the same structures, seeds and settings."""
    _, part, settings = job
    names = [
        (a.name, len(a.elements), a.split, a.cluster, a.source, a.licence, seed)
        for a, seed in part
    ]
    return dataset.key_of([RECIPE, names, dataclasses.asdict(settings)])


def simulate_shard(job: Job) -> int:
    """Simulate and write one shard; returns how many pairs it has."""
    output, part, settings = job
    key = key_of_job(job)
    if dataset.is_written(output, key):
        return len(part)
    made = (simulate.simulate(atoms, seed, settings) for atoms, seed in part)
    return dataset.write_shard(output, key, made)


def _parts(
    work: list[tuple[structures.Atoms, int]]
) -> Iterator[list[tuple[structures.Atoms, int]]]:
    for start in range(0, len(work), PAIRS_IN_SHARD):
        yield work[start : start + PAIRS_IN_SHARD]


def _run(jobs: list[Job], processes: int) -> None:
    """Largest first, each process on one thread."""
    if not jobs:
        return
    jobs = sorted(jobs, key=lambda job: -sum(len(atoms.elements) for atoms, _ in job[1]))
    with (
        single_threaded_pool(min(processes, len(jobs))) as pool,
        tqdm(total=sum(len(job[1]) for job in jobs), unit="pair", disable=None) as bar,
    ):
        for count in pool.imap_unordered(simulate_shard, jobs):
            bar.update(count)


def _own_pairs(
    pairs: tuple[tuple[Path, Path], ...], masks: tuple[Path, ...], licence: str
) -> list[PairOfFiles]:
    """Named after their first files, and where that is not enough after the folders too."""
    names = list({first.resolve(): first.name.split(".")[0] for first, _ in pairs}.values())

    def name_of(first: Path) -> str:
        name = first.name.split(".")[0]
        return name if names.count(name) == 1 else f"{first.resolve().parent.name}/{name}"

    return [
        PairOfFiles(
            name_of(first), first, second, mask, f"{first.name}, {second.name}", licence
        )
        for (first, second), mask in zip(pairs, masks or (None,) * len(pairs), strict=True)
    ]


def _write_real(output: Path, files: PairOfFiles) -> list[str]:
    """Write one real pair as a shard; its key, or nothing where it is not fit."""
    paths = [path for path in (files.half_1, files.half_2, files.mask) if path is not None]
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime) for path in paths]
    key = dataset.key_of([RECIPE, files.name, stamps, files.source, files.licence, files.split])
    if dataset.is_written(output, key):
        return [key]
    try:
        pair = half_maps.read_pair(files)
    except BlushError as error:
        click.echo(f"{files.name} is left out: {error}", err=True)
        return []
    dataset.write_shard(output, key, [pair])
    return [key]
