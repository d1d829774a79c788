"""RELION's programs: projecting a map, refining particles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
from gemmi import cif

from blush_onnx.errors import BlushError

Images = npt.NDArray[np.float32]

REFINE, PROJECT, MPIRUN = "relion_refine_mpi", "relion_project", "mpirun"
LOG = "run.log"
OUTPUT = "Refine3D"
"""Folder of a refinement's files, in the one that RELION runs in, as in a project of its."""
MOST_SIGNIFICANT = 200
"""Poses of a particle that the finer search follows up: some have many more where there
is much noise, and would take most of the time."""
POLL = 1.0  # s
LINES_SHOWN = 3


@dataclass(frozen=True)
class Settings:
    """How a refinement is run.

    Attributes
    ----------
    particle_diameter : float
        Å.
    seed : int
        Of RELION's own random numbers.
    external : str or None
        Shell command of the external reconstruction; None for RELION's own.
    healpix_order : int
        Sampling of the first iteration, 4 for 3.7°; all searches are local, three such
        steps to either side.
    ini_high : float
        Resolution that the first iteration is limited to, Å.
    padding : int
    nice : int
        Added to the priority of the processes.
    arguments : tuple of str
        Further ones for RELION, such as ``--cpu``.
    """

    particle_diameter: float
    seed: int
    external: str | None = None
    healpix_order: int = 4
    ini_high: float = 25.0
    padding: int = 1
    nice: int = 0
    arguments: tuple[str, ...] = ()


def require_programs() -> None:
    """Raise a BlushError that names what is not on PATH."""
    for program in (REFINE, PROJECT, MPIRUN):
        if shutil.which(program) is None:
            raise BlushError(f"{program} is not on PATH: install RELION 3.1 or newer, with MPI")


def version() -> str:
    """RELION's version as it says itself, e.g. ``3.1.3``; ``unknown`` where it does not."""
    done = subprocess.run(
        [PROJECT, "--version"], capture_output=True, text=True, check=False
    )
    found = re.search(r"version:?\s*(\S+)", done.stdout)
    return found.group(1) if found else "unknown"


def project(folder: Path, volume: str, star: str) -> Images:
    """Project a map along the poses of a particle file, under its CTFs, without noise.

    Parameters
    ----------
    folder : Path
        Where RELION runs.
    volume, star : str
        Names in the folder.

    Returns
    -------
    array, (n, side, side), float32

    Raises
    ------
    BlushError
        RELION failed.
    """
    command = [PROJECT, "--i", volume, "--ang", star, "--ctf", "--o", "projections"]
    with (folder / LOG).open("a") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise _failure(PROJECT, done.returncode, folder)
    images = np.asarray(mrcfile.read(folder / "projections.mrcs"), dtype=np.float32)
    for name in ("projections.mrcs", "projections.star"):
        (folder / name).unlink()
    return images


def command_line(star: str, reference: str, settings: Settings) -> list[str]:
    """Command of a refinement with local searches from the poses given.

    Parameters
    ----------
    star, reference : str
        Names in the folder that RELION runs in.
    settings : Settings

    Returns
    -------
    list of str
    """
    order = str(settings.healpix_order)
    options = {
        "--o": f"{OUTPUT}/run",
        "--i": star,
        "--ref": reference,
        "--ini_high": f"{settings.ini_high:g}",
        "--pad": str(settings.padding),
        "--particle_diameter": f"{settings.particle_diameter:g}",
        "--oversampling": "1",
        "--healpix_order": order,
        "--auto_local_healpix_order": order,
        "--offset_range": "2",
        "--offset_step": "2",
        "--maxsig": str(MOST_SIGNIFICANT),
        "--sym": "C1",
        "--low_resol_join_halves": "40",
        "--pool": "10",
        "--j": "1",
        "--random_seed": str(settings.seed),
    }
    flags = ["--auto_refine", "--split_random_halves", "--auto_ignore_angles", "--ctf", "--norm"]
    flags += ["--scale", "--flatten_solvent", "--zero_mask", "--preread_images"]
    flags += ["--dont_combine_weights_via_disc"]
    if settings.external:
        flags.append("--external_reconstruct")
    refine = [REFINE, *(word for pair in options.items() for word in pair), *flags]
    refine += settings.arguments
    # The leader waits by asking again and again, which would take a third of two processors.
    leader = ["-n", "1", "nice", "-n", "19", *refine]
    followers = ["-n", "2", "nice", "-n", str(settings.nice), *refine]
    mpirun = [MPIRUN, "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]
    return [*mpirun, *leader, ":", *followers]


def refine(
    folder: Path, star: str, reference: str, settings: Settings, progress: Callable[[str], None]
) -> int:
    """Run a refinement to its end.

    Parameters
    ----------
    folder : Path
        Where RELION runs; gets Refine3D/run_*.
    star, reference : str
        Names in the folder.
    settings : Settings
    progress : callable
        Told of each iteration that ended.

    Returns
    -------
    int
        Number of iterations, the joined last one included.

    Raises
    ------
    BlushError
        RELION failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if os.geteuid() == 0:
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if settings.external:
        environment["RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE"] = settings.external
    (folder / OUTPUT).mkdir()
    with (folder / LOG).open("a") as log:
        process = subprocess.Popen(
            command_line(star, reference, settings),
            cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )
        try:
            ended = _watch(process, folder / OUTPUT, progress)
        finally:
            if process.poll() is None:  # interrupted; mpirun ends its processes
                process.terminate()
                process.wait()
    if process.returncode:
        raise _failure(REFINE, process.returncode, folder)
    return ended + 1


def _watch(
    process: subprocess.Popen[bytes], output: Path, progress: Callable[[str], None]
) -> int:
    """Wait, and tell of each iteration; returns how many there were."""
    ended, start = 0, time.monotonic()
    while True:
        running = process.poll() is None
        while resolution := _resolution(output / f"run_it{ended + 1:03d}_half1_model.star"):
            ended += 1
            seconds = time.monotonic() - start
            progress(f"iteration {ended}: {resolution} Å after {seconds:.0f} s")
        if not running:
            return ended
        time.sleep(POLL)


def _resolution(model: Path) -> str | None:
    """Resolution that RELION works at, Å; None where the file is not there yet, or not whole."""
    try:
        block = cif.read(str(model)).find_block("model_general")
        return f"{float(block.find_value('_rlnCurrentResolution')):.1f}"
    except (OSError, ValueError, RuntimeError, AttributeError, TypeError):
        return None


def _failure(program: str, status: int, folder: Path) -> BlushError:
    lines = [line.strip() for line in (folder / LOG).read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "error" in line.lower()] or [line for line in lines if line]
    found = " | ".join(errors[:LINES_SHOWN])
    return BlushError(f"{program} ended with status {status} in {folder} (see {LOG}): {found}")
