"""``python -m training evaluate``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from blush_onnx.errors import InputError
from training.evaluate import cases, denoisers, scores
from training.evaluate.judge import Judged, judge, judge_noise
from training.evaluate.scores import Scores
from training.prepare.command import read_atoms
from training.prepare.structures import Atoms
from training.sources import read_model

GATE_FAILED = 3
FINEST = 3.0
"""Å: two voxels."""
ROWS = {
    "score": "score (geometric mean)",
    "error": "squared error to the truth",
    "inside": "inside the mask",
    "solvent": "in the solvent",
    "kept": "amplitude kept inside the mask",
    "sharpened_inside": "sharpened: inside the mask",
    "sharpened_kept": "sharpened: amplitude kept inside the mask",
    "fsc_lost": "missing masked FSC, (1 − after)/(1 − before)",
    "mask_iou": "mask, intersection over union",
    "weak_direction": "error in a poorly seen direction",
    "repeats": "largest error in 5 repeats over the first",
    "noise": "power left of pure noise",
    "noise_shared": "FSC of two outputs of noise",
    "random_power": "power left of phase-randomised maps, worst tenth",
    "random_shared": "power that phase-randomised outputs share, worst tenth",
}


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--structures", "source", required=True,
              type=click.Path(path_type=Path, exists=True),
              help="Folder of structures with a manifest.tsv, or a pack.")
@click.option("--split", type=click.Choice(("held_out", "validation")), default="held_out",
              show_default=True, help="Structures of this split.")
@click.option("--only", help="These structures alone, names with commas between.")
@click.option("--without", help="Not these structures.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False),
              default=Path("evaluation"), show_default=True, help="Folder of the results.")
@click.option("--resolutions", default="3.5,5,8", show_default=True,
              help="Of the inputs, 3 to 15 Å, with commas between.")
@click.option("--largest-box", type=click.IntRange(64), default=144, show_default=True,
              help="Voxels of 1.5 Å.")
@click.option("--filters/--no-filters", default=True, show_default=True,
              help="Judge the identity, a Gaussian and a Wiener filter too.")
@click.option("--repeats/--no-repeats", default=True, show_default=True,
              help="Let each MODEL denoise its own output too, four times.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Processes; more than one leave one thread to each.")
@click.option("--plot/--no-plot", default=True, show_default=True,
              help="Draw curves.png, the mean FSC with the truth.")
def evaluate(
    models: tuple[str, ...], source: Path, split: str, only: str | None, without: str | None,
    output: Path, resolutions: str, largest_box: int, filters: bool, repeats: bool, jobs: int,
    plot: bool,
) -> None:
    """Judge each MODEL (a name, folder, .onnx or checkpoint) against known truth.

    Writes cases.csv, fsc.csv, summary.json, table.md and curves.png into the output folder.
    Ends with status 3 if the first MODEL fails the gate; without a MODEL the filters alone are
    judged.
    """
    if not models and not filters:
        raise click.UsageError("name a MODEL")
    wanted, threads = read_resolutions(resolutions), denoisers.threads()
    chosen = _chosen(read_atoms(source, (split,)), only, without)
    judged = Judged(_named(models), filters, repeats, 1 if jobs > 1 else threads)
    output.mkdir(parents=True, exist_ok=True)
    rows, curves = judge(judged, cases.plan(chosen, wanted, largest_box), jobs)
    noise = judge_noise(judged)
    table = {
        name: scores.summary([row for row in rows if row["model"] == name], noise[name])
        for name in judged.names
    }
    failures = {name: gate(table[name]) for name, _ in judged.models}
    text = markdown(table) + "\n\n" + gate_in_words(failures)
    _write(output, rows, {"summary": table, "gate": failures}, text)
    _write_table(output / "fsc.csv", by_shell(curves))
    click.echo(text)
    if plot:
        from training.evaluate.plot import plot_curves

        plot_curves(curves, output / "curves.png")
    if models and failures[judged.models[0][0]]:
        raise SystemExit(GATE_FAILED)


def read_resolutions(text: str) -> list[float]:
    """Numbers with commas between, Å.

    Raises
    ------
    UsageError
        One is none, is finer than the voxels show, or leaves no shell beyond the 15 Å from
        which maps with random phases are judged.
    """
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--resolutions {text}: numbers with commas between") from error
    if not all(FINEST <= each <= cases.OUTSIDE_RESOLUTION for each in found):
        raise click.UsageError(
            f"--resolutions {text}: from {FINEST:g} to {cases.OUTSIDE_RESOLUTION:g} Å"
        )
    return found


def _named(models: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Names and paths; a model whose name is taken goes by its path."""
    found: dict[str, str] = {}
    for path in models:
        name = read_model(path).config.name
        found[path if name in found or name in denoisers.FILTERS else name] = path
    return tuple(found.items())


def gate(row: Scores) -> list[str]:
    """Why a model must not be shipped: what it makes of nothing."""
    found = []
    if row["random_shared"] > scores.FEATURELESS:
        found.append(
            f"outputs of phase-randomised maps share {row['random_shared']:.3f} of the input's "
            f"power, more than {scores.FEATURELESS}"
        )
    if row["noise_shared"] > 3 * scores.FEATURELESS:
        found.append(f"outputs of pure noise share an FSC of {row['noise_shared']:.3f}")
    if row["random_power"] > 1:
        found.append(f"phase-randomised maps gain power: ×{row['random_power']:.2f}")
    return found


def gate_in_words(failures: dict[str, list[str]]) -> str:
    """A line for each model and reason."""
    lines = []
    for name, reasons in failures.items():
        lines += [f"{name} fails the gate: {reason}" for reason in reasons]
        lines += [] if reasons else [f"{name} passes the gate"]
    return "\n".join(lines)


def markdown(table: dict[str, Scores]) -> str:
    """The summaries as a table, a column each."""
    names = list(table)
    first = table[names[0]]
    at = [key for key in first if key.endswith("A")]
    lines = ["| medians; ratios to the input | " + " | ".join(names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for key in (*ROWS, *at):
        label = ROWS.get(key) or key.replace("_", " ").replace("A", " Å")
        values = (table[name].get(key, float("nan")) for name in names)
        shown = ("" if np.isnan(v) else f"{v:.3f}" for v in values)
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def by_shell(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Curves of :func:`training.evaluate.judge.judge` as rows, one a shell.

    ``resolution`` is the input's and ``angstrom`` the shell's.
    """
    return [
        {
            "model": curve["model"], "structure": curve["structure"],
            "resolution": curve["resolution"], "shell": shell,
            "angstrom": curve["side"] * curve["voxel_size"] / shell,
            "before": before, "after": after,
        }
        for curve in curves
        for shell, (before, after) in enumerate(zip(curve["before"], curve["after"], strict=True))
        if shell
    ]


def _chosen(structures: list[Atoms], only: str | None, without: str | None) -> list[Atoms]:
    if only:
        wanted = {name.strip() for name in only.split(",")}
        structures = [a for a in structures if a.name in wanted]
    if without:
        unwanted = {name.strip() for name in without.split(",")}
        structures = [a for a in structures if a.name not in unwanted]
    if not structures:
        raise InputError("no structures are left to judge on")
    return structures


def _write(
    output: Path, rows: list[dict[str, Any]], summary: dict[str, Any], text: str
) -> None:
    _write_table(output / "cases.csv", rows)
    content = json.dumps(summary, indent=1, allow_nan=False)
    (output / "summary.json").write_text(content + "\n", encoding="utf-8")
    (output / "table.md").write_text(text + "\n", encoding="utf-8")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
            )
