"""Resolutions: of a shell, and in words."""

from __future__ import annotations

import math


def shell_to_angstrom(shell: float, side: int, voxel_size: float) -> float:
    """Resolution of a shell.

    Parameters
    ----------
    shell : float
        Shell index.
    side : int
        Side of the box, voxels.
    voxel_size : float
        Å.

    Returns
    -------
    float
        Å; infinite for shell 0.
    """
    return side * voxel_size / shell if shell > 0 else float("inf")


def in_angstrom(angstrom: float | None) -> str:
    """A resolution for people: ``4.34 Å``, or none where it is infinite or not known."""
    return "none" if angstrom is None or not math.isfinite(angstrom) else f"{angstrom:.2f} Å"


def agree_to(angstrom: float) -> str:
    """What two half-maps do, in a sentence: ``agree to 4.34 Å``, or ``agree at no resolution``."""
    return f"agree to {angstrom:.2f} Å" if math.isfinite(angstrom) else "agree at no resolution"
