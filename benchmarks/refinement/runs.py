"""One run after the other: simulate, refine, judge, note down, clean up."""

from __future__ import annotations

import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from benchmarks.refinement import relion
from benchmarks.refinement.evaluate import (
    MAPS,
    Evaluation,
    crossing,
    evaluate,
    mean_beyond,
    overclaim,
)
from benchmarks.refinement.particles import REFERENCE, STACK, START, Simulation, simulate
from benchmarks.refinement.plan import Arm, Run
from benchmarks.refinement.results import (
    append_row,
    curves_file,
    is_done,
    read_rows,
    write_curves,
)
from benchmarks.refinement.truth import Truth
from blush_onnx.models import find_model

OPTIONS = "{options}"
KEPT = (*MAPS, "run_data.star")
KEPT_ENDINGS = ("_denoised.mrc", "_model.star", "_optimiser.star", "_sampling.star")


@dataclass(frozen=True)
class Bench:
    """What all runs of a call have in common.

    Attributes
    ----------
    truth : Truth
    particles : int
    randomised_beyond : float
        Å, for the arms with randomised phases.
    work, results : Path
        Folder of the runs; the results file.
    model : str or None
        Of Blush; None for the bundled one.
    command : str or None
        In place of ``blush-onnx relion {options}``; without {options} the model counts for nothing.
    padding, nice : int
        For RELION.
    arguments : tuple of str
        Further ones for RELION.
    """

    truth: Truth
    particles: int
    randomised_beyond: float
    work: Path
    results: Path
    model: str | None = None
    command: str | None = None
    padding: int = 1
    nice: int = 0
    arguments: tuple[str, ...] = ()


def run_all(bench: Bench, runs: Sequence[Run], tell: Callable[[str], None]) -> None:
    """Do the runs that the results file does not hold yet.

    Parameters
    ----------
    bench : Bench
    runs : sequence of Run
        In the order in which to do them.
    tell : callable
        Told of the progress.

    Raises
    ------
    BlushError
        RELION is missing or failed. What has been done stays.
    """
    relion.require_programs()
    release = " ".join([relion.version(), *bench.arguments])
    for number, run in enumerate(runs, 1):
        title = f"[{number}/{len(runs)}] {run.name.replace('_', ', ')}"
        row = key_row(bench, run)
        if is_done(row, read_rows(bench.results)):
            tell(f"{title}: done already")
            continue
        tell(f"{title}: {bench.particles} particles, SNR {run.snr:g}")
        iterations, seconds, evaluation = do_run(bench, run, lambda text: tell(f"  {text}"))
        row |= measured(evaluation, bench, run)
        row |= {"iterations": str(iterations), "seconds": f"{seconds:.0f}", "relion": release}
        row |= {"versions": versions(), "date": datetime.now(timezone.utc).date().isoformat()}
        write_curves(curves_file(bench.results, row["name"]), evaluation.curves)
        append_row(bench.results, row)
        clean(bench.work / row["name"])
        tell(f"  truth {row['truth_0.5']} Å at 0.5, halves {row['half_corrected_0.143']} Å, "
             f"{seconds:.0f} s")


def do_run(
    bench: Bench, run: Run, progress: Callable[[str], None]
) -> tuple[int, float, Evaluation]:
    """Simulate, refine and judge in a fresh folder; returns iterations, seconds, the judgement."""
    folder = bench.work / key_row(bench, run)["name"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    beyond = bench.randomised_beyond if run.arm.randomised else None
    simulate(folder, bench.truth, Simulation(bench.particles, run.snr, run.seed, beyond))
    settings = relion.Settings(
        particle_diameter=bench.truth.particle_diameter,
        seed=run.seed,
        external=external_command(bench, run.arm),
        padding=bench.padding,
        nice=bench.nice,
        arguments=bench.arguments,
    )
    start = time.monotonic()
    iterations = relion.refine(folder, START, REFERENCE, settings, progress)
    seconds = time.monotonic() - start
    return iterations, seconds, evaluate(folder, bench.truth)


def external_command(bench: Bench, arm: Arm) -> str | None:
    """Shell command of an arm's external reconstruction; None for RELION's own."""
    if not arm.blush:
        return None
    options = ["--pixel-size", f"{bench.truth.voxel_size:g}"]
    options += ["--particle-diameter", f"{bench.truth.particle_diameter:g}"]
    # RELION runs elsewhere: a relative path would lead nowhere.
    options += ["--model", str(find_model(bench.model).resolve())] if bench.model else []
    options += [] if arm.trailing else ["--skip-spectral-trailing"]
    program = str(Path(sys.executable).parent / "blush-onnx")
    command = bench.command or f"{shlex.quote(program)} relion {OPTIONS}"
    return command.replace(OPTIONS, shlex.join(options))


def model_name(model: str | None) -> str:
    """Name that a model goes by in the results, whichever way it was chosen."""
    path = find_model(model)
    return path.stem if path.suffix == ".onnx" else path.name


def key_row(bench: Bench, run: Run) -> dict[str, str]:
    """What makes a run another one, and its name."""
    truth = bench.truth
    command = (bench.command or "") if run.arm.blush else ""
    model = model_name(bench.model) if run.arm.blush and OPTIONS in (command or OPTIONS) else ""
    name = f"{truth.name}_{bench.particles}_{truth.voxel_size:g}A_{run.name}"
    name += f"_{model or 'external'}" if run.arm.blush else ""
    return {
        "name": name,
        "level": run.level,
        "structure": truth.name,
        "particles": str(bench.particles),
        "box": str(truth.density.shape[0]),
        "pixel_size": f"{truth.voxel_size:g}",
        "snr": f"{run.snr:g}",
        "randomised_beyond": f"{bench.randomised_beyond:g}" if run.arm.randomised else "",
        "seed": str(run.seed),
        "arm": run.arm.name,
        "model": model,
        "command": command,
    }


def measured(evaluation: Evaluation, bench: Bench, run: Run) -> dict[str, str]:
    """Numbers of a judgement, as they go into the results file."""
    length = bench.truth.density.shape[0] * bench.truth.voxel_size
    curves, errors = evaluation.curves, evaluation.pose_errors

    def resolution(curve: str, threshold: float) -> str:
        return f"{crossing(curves[curve], threshold, length):.2f}"

    beyond = ""
    if run.arm.randomised:
        mean = mean_beyond(curves["half_unmasked"], bench.randomised_beyond, length)
        beyond = f"{mean:.4f}"
    return {
        "half_unmasked_0.143": resolution("half_unmasked", 0.143),
        "half_corrected_0.143": resolution("half_corrected", 0.143),
        "truth_0.5": resolution("truth", 0.5),
        "truth_0.143": resolution("truth", 0.143),
        "truth_final_0.5": resolution("truth_final", 0.5),
        "overclaim": f"{overclaim(curves['half_corrected'], curves['truth']):.3f}",
        "half_fsc_beyond": beyond,
        "pose_error_degrees": f"{errors.rotation:.2f}",
        "drift_degrees": f"{errors.drift:.2f}",
        "shift_error_angstrom": f"{errors.shift:.2f}",
    }


def versions() -> str:
    """Versions of what takes part, in one line."""
    names = ("blush-onnx", "numpy", "onnxruntime", "openvino")
    found = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def clean(folder: Path) -> None:
    """Delete the images and all of RELION's files but the final maps and its last settings."""
    (folder / STACK).unlink()
    output = folder / relion.OUTPUT
    last = max(path.name[:9] for path in output.glob("run_it???_optimiser.star"))
    for path in output.iterdir():
        final = path.name.startswith(last) or not path.name.startswith("run_it")
        if path.name not in KEPT and not (final and path.name.endswith(KEPT_ENDINGS)):
            path.unlink()
