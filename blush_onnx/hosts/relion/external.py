"""A job of RELION's type External: its folder's exit files and output nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from blush_onnx.errors import BlushError, InputError

SUCCESS, FAILURE, ABORTED = (
    f"RELION_JOB_EXIT_{how}" for how in ("SUCCESS", "FAILURE", "ABORTED")
)
ABORT_NOW = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"

MAP_NODE, MASK_NODE = ("DensityMap.mrc", 6), ("Mask3D.mrc", 7)
"""Type of an output: its label, for RELION 4 and 5, and its number, for 3.1."""


class Aborted(BlushError):
    """The user asked RELION to abort the job."""


class ExternalJob:
    """The folder of a job, ``External/jobNNN/``.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; exit files of an earlier run are removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in (SUCCESS, FAILURE, ABORTED, OUTPUT_NODES):
            (folder / name).unlink(missing_ok=True)

    def end(self, how: str) -> None:
        """Write the exit file; the GUI waits for it."""
        if how == ABORTED:
            (self.folder / ABORT_NOW).unlink(missing_ok=True)
        (self.folder / how).touch()

    def check_abort(self) -> None:
        """Raise :class:`Aborted` when the user has asked for it."""
        if (self.folder / ABORT_NOW).exists():
            raise Aborted(f"aborted by the user ({self.folder / ABORT_NOW})")

    def write_output_nodes(self, nodes: Mapping[str, tuple[str, int]]) -> None:
        """Tell RELION's pipeline what the job has made.

        Parameters
        ----------
        nodes : mapping
            Names of files in the folder, and the type of each.
        """
        rows = [f"{self.folder / name} {label} {number}" for name, (label, number) in nodes.items()]
        header = [
            "data_output_nodes", "", "loop_", "_rlnPipeLineNodeName #1",
            "_rlnPipeLineNodeTypeLabel #2", "_rlnPipeLineNodeType #3",
        ]  # fmt: skip
        text = "\n".join(["", *header, *rows, ""]) + "\n"
        (self.folder / OUTPUT_NODES).write_text(text, encoding="utf-8")


def other_half(half_map: Path) -> Path | None:
    """The other half of a half-map, by RELION's names; None where the name is of no half.

    Parameters
    ----------
    half_map : Path
        Such as ``run_half1_class001_unfil.mrc``.

    Raises
    ------
    InputError
        The name is of a half, and the other one is not there.
    """
    found = re.search(r"half([12])", half_map.name)
    if found is None:
        return None
    number = "2" if found[1] == "1" else "1"
    name = half_map.name[: found.start(1)] + number + half_map.name[found.end(1) :]
    other = half_map.with_name(name)
    if not other.exists():
        raise InputError(f"{half_map} is a half-map by its name, but {other} does not exist")
    return other
