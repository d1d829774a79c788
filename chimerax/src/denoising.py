"""What the command does apart from ChimeraX: run ``blush-onnx denoise`` and read its results."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READABLE = ("mrc", "ccp4")
"""ChimeraX's names of the file types that blush-onnx reads."""
STEP_TOLERANCE = 1e-3
NAMES = {
    "denoised.mrc": "denoised", "denoised_1.mrc": "denoised half 1",
    "denoised_2.mrc": "denoised half 2", "mask.mrc": "network's mask",
    "spread.mrc": "spread over orientations",
}
"""File to name of its model, in the order in which they are opened."""
GREY, BLUE, ORANGE = "#999999", "#0072b2", "#e69f00"


class Failure(Exception):
    """The command cannot go on; the message says why, in one line."""


@dataclass(frozen=True)
class Grid:
    """A map as ChimeraX has it.

    Attributes
    ----------
    name, path, file_type : str
        The path is empty, or of no file, where the map is in memory alone.
    values : callable
        Returns the array, (z, y, x).
    size : tuple of int
        Along x, y, z.
    origin, step, angles : tuple of float
        Å, Å and degrees, along x, y, z.
    rotation : tuple
        3 by 3.
    """

    name: str
    path: str
    file_type: str
    values: Callable[[], Any]
    size: tuple[int, ...]
    origin: tuple[float, ...]
    step: tuple[float, ...]
    angles: tuple[float, ...] = (90.0, 90.0, 90.0)
    rotation: tuple[tuple[float, ...], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True)
class Running:
    """The program at work.

    Attributes
    ----------
    process : subprocess.Popen
    folder : Path
        Of the results.
    inputs : tempfile.TemporaryDirectory
        Of the maps that had no file; goes when the program has ended.
    since : float
        Of ``time.monotonic``.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    inputs: tempfile.TemporaryDirectory[str]
    since: float

    @property
    def seconds(self) -> float:
        """How long it has been at it, s."""
        return time.monotonic() - self.since


@dataclass(frozen=True)
class Outcome:
    """What the program left.

    Attributes
    ----------
    maps : mapping
        Name of a model to its file, in the order in which they are opened.
    report : Path or None
        The page to look at.
    record : mapping
        report.json.
    colour_by : str
        Name of the map that the surface is coloured by.
    palette : str
        ChimeraX's palette for it, from its lowest to its highest value.
    limits : (float, float)
        Those values.
    """

    maps: Mapping[str, Path]
    report: Path | None
    record: Mapping[str, Any]
    colour_by: str
    palette: str
    limits: tuple[float, float]


def check(grids: Sequence[Grid]) -> None:
    """Refuse maps that are no plain boxes, or not alike.

    Parameters
    ----------
    grids : sequence of Grid
        The half-maps or the map first, then masks.

    Raises
    ------
    Failure
    """
    first = grids[0]
    for grid in grids:
        steps = grid.step
        if max(steps) - min(steps) > STEP_TOLERANCE * steps[0]:
            raise Failure(f"{grid.name} has different voxel sizes along its axes: {steps} Å")
        right = all(abs(angle - 90) < STEP_TOLERANCE for angle in grid.angles)
        straight = all(
            abs(value - (row == column)) < STEP_TOLERANCE
            for row, values in enumerate(grid.rotation) for column, value in enumerate(values)
        )
        if not right or not straight:
            raise Failure(f"{grid.name} lies on a skewed or rotated grid: resample it first")
        if tuple(grid.size) != tuple(first.size):
            raise Failure(
                f"{grid.name} has {' x '.join(map(str, grid.size))} voxels, {first.name} "
                f"{' x '.join(map(str, first.size))}: give maps of one box"
            )
        if abs(steps[0] - first.step[0]) > STEP_TOLERANCE * first.step[0]:
            raise Failure(
                f"{grid.name} has voxels of {steps[0]:g} Å, {first.name} of {first.step[0]:g} Å"
            )


def file_of(grid: Grid, folder: Path) -> Path:
    """A map's own file, or a new one with its values.

    Parameters
    ----------
    grid : Grid
    folder : Path
        Where a new file is put.

    Returns
    -------
    Path
    """
    if grid.file_type in READABLE and grid.path and Path(grid.path).is_file():
        return Path(grid.path)
    import mrcfile

    path = folder / f"{len(list(folder.iterdir()))}.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(grid.values().astype("float32"))
        mrc.set_volume()
        mrc.voxel_size = tuple(grid.step)
        mrc.header.origin = tuple(grid.origin)
    return path


def start(
    python: str,
    maps: Sequence[Grid],
    masks: Mapping[str, Grid | None],
    options: Mapping[str, Any],
    out: Path,
    *,
    report: bool,
) -> Running:
    """Start ``blush-onnx denoise`` in a process of its own.

    Parameters
    ----------
    python : str
        Interpreter; it finds what this one finds.
    maps : sequence of Grid
        Two half-maps, or one map.
    masks : mapping
        Option (``mask``, ``denoise_mask``) to mask.
    options : mapping
        Other options, by their names in Python; None is left away.
    out : Path
        Folder for the results.
    report : bool
        Also write a page.

    Returns
    -------
    Running

    Raises
    ------
    Failure
    """
    given = {name: grid for name, grid in masks.items() if grid is not None}
    check([*maps, *given.values()])
    inputs = tempfile.TemporaryDirectory(prefix="blush-onnx-inputs-")
    folder = Path(inputs.name)
    arguments = [str(file_of(grid, folder)) for grid in maps]
    values = {name: str(file_of(grid, folder)) for name, grid in given.items()}
    values |= {name: str(value) for name, value in options.items() if value is not None}
    values["voxel_size"] = repr(float(maps[0].step[0]))
    for name, value in values.items():
        arguments += [f"--{name.replace('_', '-')}", value]
    arguments += ["--report"] if report else []
    out = out.absolute()  # ChimeraX may be somewhere else in the end
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / "blush-onnx.log").open("wb")
    except OSError as error:
        raise Failure(f"nothing can be written to {out}: {error.strerror}") from None
    with file as log:
        process = subprocess.Popen(
            [python, "-m", "blush_onnx", "denoise", *arguments, "--out", str(out), "--overwrite"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    return Running(process, out, inputs, time.monotonic())


def outcome(running: Running) -> Outcome | None:
    """What the program left; None while it is at work.

    Parameters
    ----------
    running : Running

    Returns
    -------
    Outcome or None

    Raises
    ------
    Failure
        With the program's own last line.
    """
    status = running.process.poll()
    if status is None:
        return None
    running.inputs.cleanup()
    if status:
        log = (running.folder / "blush-onnx.log").read_text(encoding="utf-8", errors="replace")
        lines = log.strip().splitlines() or [f"blush-onnx ended with the status {status}"]
        raise Failure(lines[-1].removeprefix("Error: "))
    record = json.loads((running.folder / "report.json").read_text(encoding="utf-8"))
    files = record["files"]
    spread = "spread.mrc" in files
    page = running.folder / "report.html"
    return Outcome(
        maps={name: running.folder / file for file, name in NAMES.items() if file in files},
        report=page if page.name in files else None,
        record=record,
        colour_by=NAMES["spread.mrc" if spread else "mask.mrc"],
        palette=f"{BLUE}:{ORANGE}" if spread else f"{GREY}:{BLUE}",
        limits=_spread_limits(running.folder) if spread else (0.0, 1.0),
    )


def stop(running: Running) -> None:
    """End the program if it is still at work, which then leaves no results behind."""
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(timeout=30)
    running.inputs.cleanup()


def summary(found: Outcome) -> str:
    """What was found, as lines of HTML for ChimeraX's log.

    Parameters
    ----------
    found : Outcome

    Returns
    -------
    str
    """
    record = found.record
    cut_off = record["cut_off"]
    lines = []
    for name, values in ((record["fsc"] or {}).get("resolution_angstrom") or {}).items():
        value = "none" if values["0.143"] is None else f"{values['0.143']:.2f} Å"
        lines.append(f"Resolution before (FSC 0.143, {name.replace('_', ' ')}): {value}")
    trailing = cut_off.get("spectral_trailing", cut_off["source"] == "option")
    lines.append(f"Cut-off: {cut_off['angstrom']:.2f} Å" if trailing else "Cut-off: none")
    lines.append(f"Model: {record['model']['name']}")
    lines += [f"Warning: {warning}" for warning in record["warnings"]]
    lines.append(record["note"])
    return "<br>".join(html.escape(line) for line in lines)


def _spread_limits(folder: Path) -> tuple[float, float]:
    """From none to what only a hundredth of the particle's voxels exceed."""
    import mrcfile
    import numpy as np

    spread = mrcfile.read(folder / "spread.mrc")
    inside = spread[mrcfile.read(folder / "mask.mrc") > 0.5]
    values = inside if inside.size else spread
    return 0.0, float(np.percentile(values, 99)) or 1.0
