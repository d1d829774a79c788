"""Pictures for a job's log, as Matplotlib figures: cryoSPARC wants PNG files, not pages."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import BlushError
from blush_onnx.fsc import FscCurves
from blush_onnx.report.fsc_files import as_csv, curve_rows, named_curves
from blush_onnx.report.maps import CURVES
from blush_onnx.report.pictures import AXES, nice_length, reduce, scale_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float32]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Blue, vermilion, green and purple of the palette of Okabe and Ito."""
THRESHOLDS = (0.143, 0.5)


def require_matplotlib() -> None:
    """Refuse to begin what could not be shown.

    Raises
    ------
    BlushError
        Matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise BlushError(
            "pictures for cryoSPARC need matplotlib: pip install 'blush-onnx[cryosparc]', or "
            "'blush-onnx[cryosparc5]'"
        ) from None


def slices(before: Array, after: Array, voxel_size: float) -> Figure:
    """Central slices before and after denoising and their difference, on one grey scale.

    Parameters
    ----------
    before, after : array, (z, y, x), float32
    voxel_size : float
        Å.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    shown = {"before": before, "after": after, "after − before": after - before}
    grid = [
        [reduce(np.take(volume, volume.shape[axis] // 2, axis)) for volume in shown.values()]
        for axis in range(3)
    ]
    low, high = scale_of([picture for row in grid for picture in row])
    figure = Figure(figsize=(8.0, 8.4), layout="constrained")
    panels = figure.subplots(3, 3)
    for axis, row in enumerate(grid):
        for panel, picture in zip(panels[axis], row, strict=True):
            panel.imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower")
            panel.set(xticks=[], yticks=[])
        panels[axis, 0].set_ylabel(f"along {AXES[axis][0]}")
        width = before.shape[2 if axis < 2 else 1] * voxel_size
        _scale_bar(panels[axis, 0], row[0].shape[1], width)
    for panel, label in zip(panels[0], shown, strict=True):
        panel.set_title(label)
    return figure


def fsc_plot(found: FscCurves, cut_off_angstrom: float, cut_off_label: str) -> Figure:
    """The half-maps' FSC with the cut-off.

    Parameters
    ----------
    found : FscCurves
    cut_off_angstrom : float
        Å.
    cut_off_label : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    length = found.box_size * found.voxel_size
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    panel = figure.subplots()
    curves = {
        label: curve for name, label in CURVES.items()
        if (curve := getattr(found, name)) is not None
    }
    for (label, curve), colour in zip(curves.items(), COLOURS, strict=False):
        panel.plot(np.arange(1, len(curve)) / length, curve[1:], label=label, color=colour)
    for threshold in THRESHOLDS:
        panel.axhline(threshold, color="0.5", linewidth=0.8, linestyle="--")
    panel.axhline(0, color="black", linewidth=0.6)
    panel.axvline(1 / cut_off_angstrom, color="black", linewidth=1, label=cut_off_label)
    panel.set(
        xlim=(0, found.box_size // 2 / length), ylim=(-0.1, 1.04),
        xlabel="spatial frequency (1/Å)", ylabel="FSC of the half-maps, before denoising",
    )
    panel.legend()
    return figure


def fsc_csv(found: FscCurves) -> str:
    """The curves as a table, for whoever wants to draw them anew.

    Parameters
    ----------
    found : FscCurves

    Returns
    -------
    str
    """
    return as_csv(*curve_rows(named_curves(found), found.box_size * found.voxel_size))


def as_png(figure: Figure) -> bytes:
    """A figure as the content of a file, drawn once for all its uses.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    bytes
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _scale_bar(panel: Any, columns: int, width_angstrom: float) -> None:
    length = nice_length(width_angstrom / 3)
    pixels = length / width_angstrom * columns
    left = 0.05 * columns
    panel.plot([left, left + pixels], [left, left], color="white", linewidth=2.5)
    panel.annotate(
        f"{length:g} Å", (left + pixels / 2, left), xytext=(0, 4), textcoords="offset points",
        ha="center", color="white", fontsize=9,
    )
