"""The results file: a line for each finished run, its curves in a file of their own."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError

Row = Mapping[str, str]
Curve = npt.NDArray[np.float64]

KEY = (
    "structure", "particles", "box", "pixel_size", "snr", "randomised_beyond", "seed", "arm",
    "model", "command",
)
"""What makes a run another one."""
MEASURED = (
    "iterations", "seconds", "half_unmasked_0.143", "half_corrected_0.143",
    "truth_0.5", "truth_0.143", "truth_final_0.5", "overclaim", "half_fsc_beyond",
    "pose_error_degrees", "drift_degrees", "shift_error_angstrom",
)
COLUMNS = ("name", "level", *KEY, *MEASURED, "relion", "versions", "date")
TABLE = (
    "iterations", "seconds", "half_corrected_0.143", "truth_0.5", "truth_0.143",
    "truth_final_0.5", "overclaim", "half_fsc_beyond", "pose_error_degrees",
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Lines of a results file; none where it does not exist.

    Raises
    ------
    InputError
        It has other columns than this version writes.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(f"{path} has other columns than this version writes: move it away")
    return rows


def append_row(path: Path, row: Row) -> None:
    """Add a line; the file is made where there is none."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def is_done(row: Row, rows: Sequence[Row]) -> bool:
    """Whether a run with the same key is among the lines."""
    return any(all(other[name] == row[name] for name in KEY) for other in rows)


def curves_file(path: Path, name: str) -> Path:
    """Where the curves of a run lie, beside the results file."""
    return path.parent / f"{path.stem}_curves" / f"{name}.csv"


def write_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Write FSC curves, a line for each shell from 0; replaces what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["shell", *curves])
        for shell, values in enumerate(zip(*curves.values(), strict=True)):
            writer.writerow([shell, *(f"{value:.4f}" for value in values)])


def read_curves(path: Path) -> dict[str, Curve]:
    """Curves by name, the column ``shell`` among them."""
    with path.open(newline="", encoding="utf-8") as stream:
        names, *lines = list(csv.reader(stream))
    columns = np.array([[float(value) for value in line] for line in lines]).T
    return dict(zip(names, columns, strict=True))


def markdown_table(rows: Sequence[Row]) -> str:
    """A table with a line for each level and arm, averaged over the seeds.

    Parameters
    ----------
    rows : sequence of mappings
        As read by `read_rows`.

    Returns
    -------
    str
        Resolutions are in Å; a range in brackets where the seeds differ.
    """
    names = ("structure", "particles", "pixel_size", "snr", "level", "arm", "model")
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    header = [*names, "seeds", *TABLE]
    lines = [header, ["---"] * len(names) + ["---:"] * (len(header) - len(names))]
    for key, group in groups.items():
        lines.append([*key, str(len(group)), *(_averaged(group, name) for name in TABLE)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _averaged(rows: Sequence[Row], name: str) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    if not values:
        return ""
    digits = {"iterations": 1, "seconds": 0, "overclaim": 3, "half_fsc_beyond": 3}.get(name, 2)
    low, mean, high = (f"{f(values):.{digits}f}" for f in (min, np.mean, max))
    return mean if low == high else f"{mean} ({low}–{high})"
