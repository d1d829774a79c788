"""Up to which shell a denoised map is kept (docs/numerics.md, section 5)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.fsc import CUT_OFF_THRESHOLD, cut_off_shell
from blush_onnx.grids import Grids

SHELL_ROUNDING = 1e-6
FINEST_CUT_OFF = 0.1


def choose_shells(
    curve: npt.NDArray[np.float64], cut_off: float | None, grids: Grids
) -> tuple[int, int, list[str]]:
    """Where the half-maps cease to agree, and up to where the denoised map is kept.

    Parameters
    ----------
    curve : array, (side // 2 + 1,)
        FSC over the shells of the even cube.
    cut_off : float or None
        Å; in place of the one read off the FSC.
    grids : Grids

    Returns
    -------
    rho, shell : int
    warnings : list of str

    Raises
    ------
    InputError
        The cut-off is out of range.
    """
    rho, shell = cut_off_shell(curve)
    warnings: list[str] = []
    if cut_off is not None:
        return rho, shell_of(cut_off, grids), warnings
    if rho < 3:
        warnings.append(
            f"the half-maps hardly agree (FSC below 1/7 from shell {rho}): next to nothing of the "
            "denoised map is kept"
        )
    if curve[0] < CUT_OFF_THRESHOLD:
        warnings.append(
            "the FSC is below 1/7 in shell 0 already: as in the published implementation it is "
            "taken for one that never falls, and nothing is cut off"
        )
    return rho, shell, warnings


def shell_of(cut_off: float, grids: Grids, what: str = "cut-off") -> int:
    """The last shell of the even cube that a resolution in Å includes; at least 1.

    Raises
    ------
    InputError
        It is finer than 0.1 Å or coarser than the box.
    """
    if not FINEST_CUT_OFF <= cut_off <= grids.side * grids.voxel_size:
        raise InputError(
            f"{what} {cut_off:g} Å is out of range: give a resolution from {FINEST_CUT_OFF:g} Å "
            f"up to the length of the box, {grids.side * grids.voxel_size:.1f} Å"
        )
    return max(int(grids.side * grids.voxel_size / cut_off + SHELL_ROUNDING), 1)
