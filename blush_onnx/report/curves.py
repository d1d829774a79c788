"""Plots over shells and histograms, and the numbers that are read off them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blush_onnx import fsc
from blush_onnx.report.content import Figure, Table, number_text
from blush_onnx.report.svg import (
    FAINT,
    FULL_WIDTH_INCHES,
    INK,
    LINES,
    SERIES,
    WIDTH_INCHES,
    as_svg,
    drawing,
)
from blush_onnx.resolution import in_angstrom

if TYPE_CHECKING:
    from collections.abc import Callable

Curve = npt.NDArray[np.float64]

THRESHOLDS = (0.143, 0.5)
NICE_ANGSTROM = (
    100, 50, 30, 20, 15, 12, 10, 9, 8, 7, 6, 5.5, 5, 4.5, 4, 3.7, 3.5, 3.2, 3, 2.8, 2.6, 2.4, 2.2,
    2, 1.9, 1.8, 1.7, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9, 0.8, 0.7, 0.6,
)
HISTOGRAM_BINS = 120


def fsc_figure(
    curves: Mapping[str, Curve],
    box_size: int,
    voxel_size: float,
    *,
    alt: str,
    caption: str,
    marks: Mapping[str, float] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    wide: bool = True,
) -> Figure:
    """Correlation curves with thresholds.

    Parameters
    ----------
    curves : mapping
        Label to values, (box_size // 2 + 1,); the first is drawn strongest.
    box_size : int
        Voxels.
    voxel_size : float
        Å.
    alt, caption : str
    marks : mapping, optional
        Label to a resolution in Å, drawn as an upright line.
    thresholds : sequence of float
    wide : bool

    Returns
    -------
    Figure
    """

    def finish(axes: Any) -> None:
        lowest = min(float(np.nanmin(c)) for c in curves.values())
        axes.set(ylim=(min(-0.08, max(lowest - 0.05, -1)), 1.04), ylabel="correlation")
        axes.axhline(0, color=INK, linewidth=0.6)
        for threshold in thresholds:
            axes.axhline(threshold, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
            axes.annotate(
                f"{threshold:g}", (1, threshold), xycoords=("axes fraction", "data"),
                xytext=(3, 0), textcoords="offset points", va="center", fontsize=9,
            )

    return shell_figure(
        curves, box_size, voxel_size, alt=alt, caption=caption, marks=marks, wide=wide,
        finish=finish,
    )


def shell_figure(
    curves: Mapping[str, Curve],
    box_size: int,
    voxel_size: float,
    *,
    alt: str,
    caption: str,
    ylabel: str = "",
    logarithmic: bool = False,
    marks: Mapping[str, float] | None = None,
    wide: bool = False,
    finish: Callable[[Any], None] | None = None,
) -> Figure:
    """Curves over the shells of a box, with resolutions along the top.

    Parameters
    ----------
    curves : mapping
        Label to values, (box_size // 2 + 1,). Shell 0 is left out; NaN leaves a gap.
    box_size : int
        Voxels.
    voxel_size : float
        Å.
    alt, caption, ylabel : str
    logarithmic : bool
        Of the values.
    marks : mapping, optional
        Label to a resolution in Å, drawn as an upright line.
    wide : bool
    finish : callable, optional
        Called with the axes before they are drawn.

    Returns
    -------
    Figure
    """
    length = box_size * voxel_size
    with drawing(3.9, FULL_WIDTH_INCHES if wide else WIDTH_INCHES) as figure:
        axes = figure.subplots()
        for number, (label, values) in enumerate(curves.items()):
            shells = np.arange(1, len(values))
            shown = np.asarray(values[1:], dtype=np.float64)
            if logarithmic:  # after spectral trailing there is nothing beyond the cut-off
                largest = max(float(np.nanmax(c[1:])) for c in curves.values())
                shown = np.where(shown > 1e-9 * largest, shown, np.nan)
            axes.plot(
                shells / length, shown, label=label, color=SERIES[number % len(SERIES)],
                linestyle=LINES[number % len(LINES)], linewidth=2.2 if number == 0 else 1.5,
                zorder=3 - number / 10,
            )
        axes.set(xlim=(0, box_size // 2 / length), xlabel="spatial frequency (1/Å)")
        axes.grid(color=FAINT)
        if logarithmic:
            axes.set_yscale("log")
        if ylabel:
            axes.set_ylabel(ylabel)
        if finish is not None:
            finish(axes)
        _resolution_axis(axes, box_size, voxel_size)
        _draw_marks(axes, marks or {})
        figure.legend(loc="outside lower center", ncols=2, handlelength=3)
        return Figure(as_svg(figure), alt, caption, wide)


def resolution_table(
    curves: Mapping[str, Curve], box_size: int, voxel_size: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Table:
    """Resolution of each curve at each threshold.

    Parameters
    ----------
    curves : mapping
        Label to values, (box_size // 2 + 1,).
    box_size : int
        Voxels.
    voxel_size : float
        Å.
    thresholds : sequence of float

    Returns
    -------
    Table
    """
    return Table(
        "Resolution at the thresholds",
        ("Curve", *(f"at {threshold:g}" for threshold in thresholds)),
        [
            (label, *(in_angstrom(fsc.resolution(c, box_size, voxel_size, t)) for t in thresholds))
            for label, c in curves.items()
        ],
    )


def shell_table(
    caption: str, curves: Mapping[str, Curve], box_size: int, voxel_size: float, shells: int = 9
) -> Table:
    """Values of curves at some shells, evenly spaced.

    Parameters
    ----------
    caption : str
    curves : mapping
        Label to values, (box_size // 2 + 1,).
    box_size : int
        Voxels.
    voxel_size : float
        Å.
    shells : int
        How many rows.

    Returns
    -------
    Table
    """
    chosen = np.unique(np.linspace(1, box_size // 2, shells).round().astype(int))
    rows = [
        (
            f"{box_size * voxel_size / shell:.2f} Å (shell {shell})",
            *(number_text(curve[shell]) for curve in curves.values()),
        )
        for shell in chosen
    ]
    return Table(caption, ("Resolution", *curves), rows, folded=True)


def histogram_figure(
    values: Mapping[str, npt.NDArray[np.floating]], *, alt: str, caption: str, xlabel: str,
    wide: bool = False,
) -> Figure:
    """Histograms as steps, on one set of bins.

    Parameters
    ----------
    values : mapping
        Label to numbers, any shape, at least one each. Outliers, one in a thousand at either
        end, are counted in the outermost bins.
    alt, caption, xlabel : str
    wide : bool

    Returns
    -------
    Figure
    """
    ends = [np.percentile(v, (0.1, 99.9)) for v in values.values()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    with drawing(3.9, FULL_WIDTH_INCHES if wide else WIDTH_INCHES) as figure:
        axes = figure.subplots()
        for number, (label, data) in enumerate(values.items()):
            counts, _ = np.histogram(np.clip(data, edges[0], edges[-1]), edges)
            axes.stairs(
                counts / max(data.size, 1) * 100, edges, label=label, color=SERIES[number],
                linestyle=LINES[number], linewidth=1.8,
            )
        axes.set(xlabel=xlabel, ylabel="voxels (%)", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)
        axes.grid(color=FAINT)
        figure.legend(loc="outside lower center", ncols=2, handlelength=3)
        return Figure(as_svg(figure), alt, caption, wide)


def statistics_table(
    caption: str, values: Mapping[str, npt.NDArray[np.floating]]
) -> Table:
    """Mean, spread and range of some numbers.

    Parameters
    ----------
    caption : str
    values : mapping
        Label to numbers, any shape; where there are none, their row is left out.

    Returns
    -------
    Table
    """
    rows = [
        (
            label,
            *(
                number_text(float(number), 4)
                for number in (
                    data.mean(dtype=np.float64), data.std(dtype=np.float64), data.min(),
                    np.median(data), data.max(),
                )
            ),
        )
        for label, data in values.items() if data.size
    ]
    return Table(caption, ("", "mean", "standard deviation", "least", "median", "most"), rows)


def _draw_marks(axes: Any, marks: Mapping[str, float]) -> None:
    for label, angstrom in marks.items():
        if not (math.isfinite(angstrom) and 1 / angstrom <= axes.get_xlim()[1]):
            continue
        axes.axvline(1 / angstrom, color=INK, linewidth=1)
        leftwards = 1 / angstrom > 0.6 * axes.get_xlim()[1]
        axes.annotate(
            f"{label} {angstrom:.2f} Å", (1 / angstrom, 0.98), xycoords=("data", "axes fraction"),
            xytext=(-4 if leftwards else 4, 0), textcoords="offset points", va="top",
            ha="right" if leftwards else "left", fontsize=9,
        )


def _resolution_axis(axes: Any, box_size: int, voxel_size: float) -> None:
    last = box_size // 2 / (box_size * voxel_size)
    chosen: list[float] = []
    for angstrom in NICE_ANGSTROM:
        if 1 / angstrom <= last and (not chosen or 1 / angstrom - 1 / chosen[-1] > 0.085 * last):
            chosen.append(angstrom)
    top = axes.secondary_xaxis("top")
    top.set_xticks([1 / angstrom for angstrom in chosen], [f"{a:g}" for a in chosen])
    top.set_xlabel("resolution (Å)")
