"""``python -m training finetune MODEL HALF1 HALF2``."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from blush_onnx import Denoiser, conversion, fourier, registry
from blush_onnx.errors import BlushError
from blush_onnx.fourier import Volume
from blush_onnx.fsc import fsc, randomise_phases
from blush_onnx.models import Model
from training.checkpoints import network_of, save_weights
from training.finetune.blocks import block_errors, divide
from training.finetune.symmetry import rotations_of
from training.finetune.tune import Settings, Tuned, apply, tune, volume_of, whole
from training.prepare.dataset import TrainingPair
from training.prepare.half_maps import PairOfFiles, read_pair
from training.sources import read_model
from training.team import find_device

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
NOT_INDEPENDENT = (
    "This model has seen both half-maps. The FSC between half-maps that it denoised is no "
    "independent measure of resolution any more: judge by a model of the structure, or by "
    "half-maps of particles that were not used here."
)
SIGNIFICANT = 2.0
"""Standard errors that the gain on the judging blocks must exceed."""


@click.command()
@click.argument("model")
@click.argument("half_1", type=FILE)
@click.argument("half_2", type=FILE)
@click.option("--mask", type=FILE, help="Soft mask around what is ordered.  [default: found]")
@click.option("--name", help="What to register the result as.  [default: MODEL-HALF1]")
@click.option("--overwrite", is_flag=True, help="Replace a registered model of that name.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False),
              default=Path("finetuned"), show_default=True, help="Folder of the report.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=10.0,
              show_default=True, help="Of training, at most.")
@click.option("--steps", type=click.IntRange(0), default=0, help="At most; a step is four "
              "patches.  [default: what there is time for]")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=1e-4,
              show_default=True)
@click.option("--symmetry", default="C1", show_default=True, metavar="Cn|Dn|O",
              help="What the half-maps were symmetrised with, in RELION's setting: copies of a "
              "place have the same noise, so that they must not judge each other.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Decides the blocks and the patches.")
@click.option("--precision", type=click.Choice(("bfloat16", "float32")), default="bfloat16",
              show_default=True)
@click.option("--device", help="Such as cuda or cpu.  [default: a card if there is one]")
def finetune(
    model: str, half_1: Path, half_2: Path, mask: Path | None, name: str | None, overwrite: bool,
    output: Path, minutes: float, steps: int, learning_rate: float, symmetry: str, seed: int,
    precision: str, device: str | None,
) -> None:
    """Train MODEL (a registered name, folder or checkpoint) further on two half-maps.

    The result is registered only if it is better on parts of the map that it was not
    trained on. A report says so either way.
    """
    source = read_model(model)
    chosen = name or f"{source.config.name}-{half_1.name.split('.')[0]}"
    registry.check_free(chosen, overwrite=overwrite)
    rotations_of(symmetry)
    pair = read_pair(PairOfFiles(half_1.name, half_1, half_2, mask), worst_resolution=math.inf)
    settings = Settings(
        minutes=minutes, steps=steps, learning_rate=learning_rate, seed=seed,
        precision=precision, symmetry=symmetry,
    )
    place = find_device(device)
    click.echo(f"half-maps: {pair.resolution:.1f} Å, {pair.mask.shape[0]} voxels of "
               f"{pair.voxel_size:.3f} Å")
    report, tuned = tune_pair(source, pair, settings, place)
    output.mkdir(parents=True, exist_ok=True)
    if report["kept"]:
        path = output / "weights.ckpt"
        save_weights(tuned.network.state_dict(), path, source.config.patch_size)
        report |= phase_randomised(source, path, pair)
        folder = conversion.import_checkpoint(
            path, chosen, licence=source.config.licence, overwrite=overwrite,
            training=f"{source.config.name}, fine-tuned on {half_1.name} and {half_2.name}",
        )
        report["registered"] = {"name": chosen, "folder": str(folder)}
    write_report(output, report)
    click.echo(verdict(report))
    click.echo(output / "report.md")
    if not report["kept"]:
        raise SystemExit(3)


def tune_pair(
    source: Model, pair: TrainingPair, settings: Settings, place: torch.device
) -> tuple[dict[str, Any], Tuned]:
    """Fine-tune and judge; see :func:`finetune`.

    Returns
    -------
    report : dict
        ``kept``, the errors before and after on the judging blocks, their gain with its
        standard error, the history, the settings.
    tuned : Tuned
    """
    network = network_of(source)
    trained, stop, judge = divide(pair.mask, settings.seed, settings.symmetry)
    volume = volume_of(pair, trained, place)
    size = source.config.patch_size
    tuned = tune(network, volume, stop, size, settings, lambda text: click.echo(f"  {text}"))
    halves = whole(volume)
    before = block_errors(apply(network.to(place), volume, size), halves, judge)
    after = block_errors(apply(tuned.network.to(place), volume, size), halves, judge)
    untouched = block_errors(halves, halves, judge)
    report: dict[str, Any] = {**gain(before, after, untouched)}
    report["kept"] = bool(
        tuned.best_step > 0 and report["gain"] > SIGNIFICANT * report["gain_standard_error"]
    )
    report |= {
        "model": source.config.name, "model_sha256": source.sha256, "pair": pair.notes,
        "resolution_angstrom": pair.resolution, "steps": tuned.steps,
        "best_step": tuned.best_step, "history": tuned.history,
        "settings": dataclasses.asdict(settings), "blocks": len(judge_blocks(judge)),
    }
    tuned.network.to("cpu")
    return report, tuned


def gain(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64],
    untouched: npt.NDArray[np.float64],
) -> dict[str, float]:
    """What fine-tuning gained on the judging blocks, in units of one half's noise there.

    Parameters
    ----------
    before, after, untouched : array, (blocks,)
        Squared difference from the other half: of the model as it was, as it is, and of
        the half-map itself (twice the noise's power).

    Returns
    -------
    dict of str to float
        The noise that is left before and after, as a share; the gain and its standard
        error over blocks.
    """
    noise = untouched.mean() / 2
    left_before, left_after = (before - noise) / noise, (after - noise) / noise
    difference = left_before - left_after
    return {
        "noise_left_before": float(left_before.mean()),
        "noise_left_after": float(left_after.mean()),
        "gain": float(difference.mean()),
        "gain_standard_error": float(difference.std(ddof=1) / math.sqrt(len(difference))),
    }


def judge_blocks(judge: npt.NDArray[np.int16]) -> list[int]:
    """Numbers of the blocks that judge."""
    return [int(n) for n in np.unique(judge) if n]


def phase_randomised(source: Model, tuned: Path, pair: TrainingPair) -> dict[str, Any]:
    """Whether either model makes correlation out of halves with random phases.

    Both halves get random phases, each its own, beyond 1.5 times the resolution in Å: from
    two thirds of its shell on. What FSC their denoised maps have beyond it was put there by
    the model.
    """
    side = pair.mask.shape[0]
    last = round(side * pair.voxel_size / pair.resolution)
    start = max(round(2 * last / 3), 3)
    halves: list[Volume] = []
    for seed, half in ((1, pair.half_1), (2, pair.half_2)):
        spectrum = fourier.forward(half)
        randomise_phases(spectrum, start, np.random.default_rng(seed))
        halves.append(fourier.inverse(spectrum))
    found = {"input": _mean_fsc(halves[0], halves[1], start + 3, last)}
    for name, model in (("before", source), ("after", read_model(str(tuned)))):
        denoiser = Denoiser.from_model(model)
        outputs = [denoiser.denoise_at_model_voxel_size(h, stride=32).density for h in halves]
        found[name] = _mean_fsc(outputs[0], outputs[1], start + 3, last)
    beyond = side * pair.voxel_size / start
    return {"phase_randomised": {"beyond_angstrom": beyond, "mean_fsc": found}}


def _mean_fsc(first: Volume, second: Volume, start: int, last: int) -> float:
    return float(fsc(first, second)[start : max(last, start) + 1].mean())


def verdict(report: dict[str, Any]) -> str:
    """The outcome in words."""
    numbers = (
        f"of a half-map's noise inside the mask the model left {report['noise_left_before']:.1%}, "
        f"now {report['noise_left_after']:.1%} (gain {report['gain']:.1%} ± "
        f"{report['gain_standard_error']:.1%} on {report['blocks']} held-out blocks)"
    )
    if not report["kept"]:
        return f"Not kept: {numbers}. Go on with {report['model']}."
    return f"Kept as {report['registered']['name']}: {numbers}.\n{NOT_INDEPENDENT}"


def symmetry_in_words(report: dict[str, Any]) -> str:
    """Which places the verdict took for independent."""
    symmetry = report["settings"]["symmetry"]
    if symmetry.upper() == "C1":
        return (
            "The half-maps were taken to have no symmetry (C1). If they were symmetrised, held-out "
            "blocks have copies that were trained on, and the gain means nothing: give --symmetry."
        )
    return f"Copies by {symmetry} of the held-out blocks were held out with them."


def randomised(test: dict[str, Any]) -> str:
    """What the models make of maps whose phases are random, in words."""
    fsc = test["mean_fsc"]
    return (
        f"Both halves with random phases beyond {test['beyond_angstrom']:.1f} Å share a mean FSC "
        f"there of {fsc['input']:.3f}; denoised by the model as it was {fsc['before']:.3f}, "
        f"fine-tuned {fsc['after']:.3f}. What is shared beyond the first figure comes from the "
        f"model and not from the map; fine-tuning made it "
        f"{'more' if fsc['after'] > fsc['before'] else 'no more'}."
    )


def write_report(output: Path, report: dict[str, Any]) -> None:
    """Write report.json and report.md, whole.

    Raises
    ------
    BlushError
        The folder cannot be written.
    """
    lines = ["# Fine-tuning", "", verdict(report), "", symmetry_in_words(report), ""]
    if "phase_randomised" in report:
        lines += [randomised(report["phase_randomised"]), ""]
    lines += ["| step | error of the blocks for early stopping |", "|---|---|"]
    lines += [f"| {step} | {error:.4f} |" for step, error in report["history"]]
    try:
        with tempfile.TemporaryDirectory(dir=output) as folder:
            for name, text in (
                ("report.md", "\n".join(lines) + "\n"),
                ("report.json", json.dumps(report, indent=1) + "\n"),
            ):
                (Path(folder) / name).write_text(text, encoding="utf-8")
                (Path(folder) / name).replace(output / name)
    except OSError as error:
        raise BlushError(f"{output} cannot be written: {error}") from error


