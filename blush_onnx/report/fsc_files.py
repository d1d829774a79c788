"""FSC curves as files: a table (CSV), and the XML that EMDB takes with a deposited map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

import numpy as np

from blush_onnx.fsc import Curve, FscCurves

MAP_TO_MODEL = "map_to_model"


def named_curves(curves: FscCurves, model: Curve | None = None) -> dict[str, Curve]:
    """The curves that there are, by the names that files and reports have for them.

    Parameters
    ----------
    curves : FscCurves
    model : array, optional
        FSC to an atomic model, in the same shells.

    Returns
    -------
    dict
    """
    every = {
        "given": curves.given,
        "unmasked": curves.unmasked,
        "masked": curves.masked,
        "phase_randomised": curves.randomised,
        "solvent_corrected": curves.corrected,
        MAP_TO_MODEL: model,
    }
    return {name: curve for name, curve in every.items() if curve is not None}


def curve_rows(
    named: Mapping[str, Curve], box_length: float
) -> tuple[list[str], list[list[float]]]:
    """FSC curves as a table: names of the columns, and a row a shell.

    Parameters
    ----------
    named : mapping
        Name to values, (shells,).
    box_length : float
        Side of the even cube, Å.

    Returns
    -------
    columns : list of str
        ``shell``, ``resolution_angstrom`` and one for each curve.
    rows : list of list of float
        The first with an infinite resolution.
    """
    shells = len(next(iter(named.values())))
    rows = [
        [shell, box_length / shell if shell else math.inf, *(float(c[shell]) for c in
                                                             named.values())]
        for shell in range(shells)
    ]
    return ["shell", "resolution_angstrom", *named], rows


def as_csv(columns: list[str], rows: list[list[float]]) -> str:
    """A table as the text of a CSV file, six digits a value."""
    lines = [",".join(columns)]
    lines += [",".join(f"{value:.6g}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def as_emdb_xml(curves: FscCurves) -> str:
    """The FSC to deposit, as the text of the file that EMDB takes.

    It is the curve that decides: solvent-corrected where there is a mask, else
    unmasked. EMDB encourages to upload one such file with the half-maps, "as XML and
    output from common 3D reconstruction softwares" (EMDB general deposition guide,
    https://www.ebi.ac.uk/emdb/pages/documentation/deposition/general); the elements and
    the names of the axes are those of RELION's ``postprocess_fsc.xml``.

    Parameters
    ----------
    curves : FscCurves

    Returns
    -------
    str
        One coordinate a shell from 0 on: spatial frequency in 1/Å and FSC.
    """
    kind = "solvent-corrected" if curves.decisive is curves.corrected else "unmasked"
    length = curves.box_size * curves.voxel_size
    title = quoteattr(f"FSC of the half-maps, {kind}")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<fsc title={title} xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">',
    ]
    frequencies = np.arange(len(curves.decisive)) / length
    for frequency, value in zip(frequencies, curves.decisive, strict=True):
        lines += [
            "  <coordinate>",
            f"    <x>{frequency:.6f}</x>",
            f"    <y>{value:.6f}</y>",
            "  </coordinate>",
        ]
    return "\n".join([*lines, "</fsc>"]) + "\n"
