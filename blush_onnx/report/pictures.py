"""Slices and projections of volumes, on one scale and with a scale bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blush_onnx.report.content import Figure, number_text
from blush_onnx.report.svg import FULL_WIDTH_INCHES, as_svg, drawing

Array = npt.NDArray[np.float32]
View = Literal["slice", "projection"]

AXES = (("z", "x", "y"), ("y", "x", "z"), ("x", "y", "z"))
"""Along each array axis: its name, and what runs to the right and upwards in the picture."""
DIRECTIONS = " ".join(
    f"Along {name}: {right} to the right, {up} upwards." for name, right, up in AXES
)
LARGEST_PICTURE = 192
"""Pixels; larger pictures are averaged over squares of voxels."""
LARGEST_PANEL_INCHES = 3.2
PERCENTILES = (0.5, 99.8)
OUTLINES = ("#e69f00", "#56b4e9", "#cc79a7")
"""Orange, sky blue and purple of the palette of Okabe and Ito: seen on any grey."""


def picture_grid(
    volumes: Mapping[str, Array],
    voxel_size: float,
    view: View,
    *,
    alt: str,
    caption: str,
    limits: tuple[float, float] | None = None,
    colours: str = "gray",
    bar_label: str = "density",
    outlines: Mapping[str, Array] | None = None,
) -> Figure:
    """Central slices or projections of volumes along all three axes, on one scale.

    Parameters
    ----------
    volumes : mapping
        Label to volume, (z, y, x), all of one shape. A column each; NaN is left blank.
    voxel_size : float
        Å.
    view : {"slice", "projection"}
        The central slice, or the mean along the axis.
    alt, caption : str
        The caption may hold ``{low}`` and ``{high}``, the ends of the scale.
    limits : (float, float), optional
        Ends of the scale; by default of :func:`scale_of` all the pictures.
    colours : str
        Matplotlib's name of a colour map.
    bar_label : str
        What the scale is of.
    outlines : mapping, optional
        Label to mask, 0…1, drawn at 0.5 over the slices of the first volume.

    Returns
    -------
    Figure
    """
    from matplotlib.ticker import MaxNLocator

    grid = [[_picture(v, axis, view) for v in volumes.values()] for axis in range(3)]
    low, high = limits or scale_of([p for row in grid for p in row])
    columns = len(volumes)
    heights = [max(row[0].shape[0] / row[0].shape[1], 0.2) for row in grid]
    panel = min((FULL_WIDTH_INCHES - 0.45) / columns - 0.06, LARGEST_PANEL_INCHES)
    width = columns * (panel + 0.06) + 0.45
    rest = 1.0 + (0.3 if outlines else 0)
    with drawing(panel * sum(heights) + rest, width) as figure:
        axes = figure.subplots(
            3, columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        image: Any = None
        for axis, row in enumerate(grid):
            for column, picture in enumerate(row):
                image = _draw(axes[axis, column], picture, (low, high), colours)
            axes[axis, 0].set_ylabel(f"along {AXES[axis][0]}")
            across = next(iter(volumes.values())).shape[2 if axis < 2 else 1]
            _scale_bar(axes[axis, 0], row[0].shape, across * voxel_size)
        for column, label in enumerate(volumes):
            axes[0, column].set_title(label)
        _draw_outlines(figure, axes, outlines or {})
        scale = figure.colorbar(
            image, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01,
            ticks=MaxNLocator(4),
        )
        scale.set_label(bar_label)
        scale.outline.set_visible(False)
        text = caption.replace("{low}", number_text(low)).replace("{high}", number_text(high))
        return Figure(as_svg(figure), alt, f"{text} {DIRECTIONS}", wide=columns > 1)


def scale_of(pictures: list[npt.NDArray[Any]]) -> tuple[float, float]:
    """Ends of one grey scale for pictures, without their outliers.

    Parameters
    ----------
    pictures : list of array
        NaN is passed over.

    Returns
    -------
    low, high : float
        Percentiles 0.5 and 99.8 of all of them together; one apart where they are the same.
    """
    every = np.concatenate([np.ravel(p)[np.isfinite(np.ravel(p))] for p in pictures])
    if not every.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(every, PERCENTILES))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def nice_length(longest: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above a length.

    Parameters
    ----------
    longest : float
        Above 0.

    Returns
    -------
    float
    """
    power = 10.0 ** math.floor(math.log10(longest))
    return next(f * power for f in (5.0, 2.0, 1.0) if f * power <= longest * (1 + 1e-9))


def reduce(picture: npt.NDArray[Any], largest: int = LARGEST_PICTURE) -> npt.NDArray[Any]:
    """A picture averaged over squares until its longer side is not above a length.

    Parameters
    ----------
    picture : array, (rows, columns)
    largest : int
        Pixels.

    Returns
    -------
    array
        What is left over at the far edges is cut off.
    """
    factor = math.ceil(max(picture.shape) / largest)
    if factor == 1:
        return picture
    rows, columns = (max(length // factor, 1) for length in picture.shape)
    cut = picture[: rows * factor, : columns * factor]
    blocks = cut.reshape(rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _picture(volume: Array, axis: int, view: View) -> npt.NDArray[Any]:
    if view == "slice":
        return reduce(np.take(volume, volume.shape[axis] // 2, axis))
    return reduce(volume.mean(axis=axis, dtype=np.float64))


def _draw(axes: Any, picture: npt.NDArray[Any], limits: tuple[float, float], colours: str) -> Any:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes.imshow(
        np.ma.masked_invalid(picture), cmap=colours, vmin=limits[0], vmax=limits[1],
        origin="lower", aspect="equal",
    )


def _scale_bar(axes: Any, shape: tuple[int, ...], width_angstrom: float) -> None:
    length = nice_length(width_angstrom / 3)
    pixels = length / width_angstrom * shape[1]
    left, bottom = 0.05 * shape[1], 0.06 * shape[0]
    for width, colour in ((5.0, "black"), (2.5, "white")):
        axes.plot(
            [left, left + pixels], [bottom, bottom], color=colour, linewidth=width,
            solid_capstyle="butt",
        )
    axes.annotate(
        f"{length:g} Å", (left + pixels / 2, bottom), xytext=(0, 4), textcoords="offset points",
        ha="center", va="bottom", color="white", fontsize=9,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "black", "edgecolor": "none",
              "alpha": 0.55},
    )


def _draw_outlines(figure: Any, axes: Any, outlines: Mapping[str, Array]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for (label, mask), colour in zip(outlines.items(), OUTLINES, strict=False):
        for axis in range(3):
            picture = _picture(mask, axis, "slice")
            if picture.min() < 0.5 < picture.max():
                axes[axis, 0].contour(picture, [0.5], colors=[colour], linewidths=0.9)
        handles.append(Line2D([], [], color=colour, label=label))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
