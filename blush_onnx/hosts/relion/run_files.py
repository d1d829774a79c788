"""What a run's own files say about it: optimiser and model STAR files beside a job's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blush_onnx.errors import InputError
from blush_onnx.hosts.relion.star import number_of, read_star, text_of

_JOB_NAME = re.compile(
    r"(?P<root>.*?)(?:_it(?P<iteration>\d+))?(?:_half[12])?_(?:class|body)\d+_external_reconstruct"
)
_ITERATION = re.compile(r"_it(\d+)_optimiser$")
_CONTINUED = re.compile(r"_ct\d+$")


@dataclass(frozen=True)
class RunFacts:
    """What could be found; None where it could not.

    Attributes
    ----------
    optimiser : Path or None
        The file it was read from.
    gradient : bool
        Whether the run refines by gradient descent (VDAM, SGD).
    particle_diameter : float or None
        Å.
    pixel_size : float or None
        Å.
    started : float or None
        When the run began, by its first optimiser file: seconds since the epoch.
    """

    optimiser: Path | None = None
    gradient: bool = False
    particle_diameter: float | None = None
    pixel_size: float | None = None
    started: float | None = None


def run_facts(star: Path, folder: Path) -> RunFacts:
    """Read the run's newest optimiser file, and the model file that it names.

    Parameters
    ----------
    star : Path
        A job's STAR file; the run's files lie beside it.
    folder : Path
        The host's working folder, which paths in the files are relative to.

    Returns
    -------
    RunFacts
        All unknown where there is no optimiser file or it cannot be read.
    """
    optimiser, own = _optimiser(star)
    if optimiser is None:
        return RunFacts()
    general = _block(optimiser, "optimiser_general")
    if general is None:
        return RunFacts()
    gradient = own and any(
        number_of(general, label) not in (None, 0)
        for label in ("DoGradientRefine", "DoStochasticGradientDescent")
    )
    name = text_of(general, "ModelStarFile")
    pixel_size = None
    if name is not None:
        stored = Path(name)
        # The folder may have been moved since: the file beside the optimiser counts first.
        for model in (optimiser.parent / stored.name, folder / stored):
            block = _block(model, "model_general")
            if block is not None:
                pixel_size = number_of(block, "PixelSize")
                break
    first = optimiser.with_name(_ITERATION.sub("_it000_optimiser", optimiser.stem) + ".star")
    return RunFacts(
        optimiser=optimiser,
        gradient=gradient,
        particle_diameter=number_of(general, "ParticleDiameter"),
        pixel_size=pixel_size,
        started=first.stat().st_mtime if first.exists() else None,
    )


def _optimiser(star: Path) -> tuple[Path | None, bool]:
    """The run's newest optimiser file up to this iteration, and whether it is the run's own.

    A run that was continued under another name (run_ct12) has files of its own from its
    second iteration on; in its first one those that it was continued from must do.
    """
    found = _JOB_NAME.match(star.name)
    root = found["root"] if found else ""
    last = int(found["iteration"]) if found and found["iteration"] else math.inf
    files = []
    for path in star.parent.glob("*_optimiser.star"):
        iteration = _ITERATION.search(path.stem)
        number = int(iteration[1]) if iteration else -1
        name = _ITERATION.sub("", path.stem)
        same = _CONTINUED.sub("", name) == _CONTINUED.sub("", root)
        files.append((number <= last and same, name == root, number, path))
    own, _, _, best = max(files, default=(False, False, 0, None))
    return best, own


def _block(path: Path, name: str) -> Any:
    try:
        return read_star(path).find_block(name)
    except InputError:  # absent, or being written
        return None
