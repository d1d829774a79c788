"""Stills of a surface, shaded and in colours, for paper and where there is no WebGL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.report.pictures import AXES, nice_length
from blush_onnx.report.svg import FULL_WIDTH_INCHES, INK, as_svg, drawing

Array = npt.NDArray[np.float32]

LIGHT = np.array([0.35, 0.45, 0.82])
"""Where the light comes from: right, up, and towards the reader."""
STILL_SIDE = 220
"""Pixels that the stills should have, about; interpolated in Fourier space."""
RIM = 4
"""Voxels around the surface that a still shows."""


@dataclass(frozen=True)
class Solid:
    """What has a surface.

    Attributes
    ----------
    volume : array, (z, y, x), float32
        Nothing outside a mask is above the level.
    level : float
    colour_by : array like volume
    voxel_size : float
        Å.
    """

    volume: Array
    level: float
    colour_by: Array
    voxel_size: float


def stills(
    solid: Solid, limits: tuple[float, float], label: str, colours: Sequence[str]
) -> str:
    """A surface as seen along z, y and x.

    Parameters
    ----------
    solid : Solid
    limits : (float, float)
        Ends of the colours.
    label : str
        What they mean.
    colours : sequence of str
        From the lower end to the upper.

    Returns
    -------
    str
        SVG.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    scale = Normalize(*limits, clip=True)
    palette = LinearSegmentedColormap.from_list("support", colours)
    fine = _finer(solid)
    with drawing(3.0, FULL_WIDTH_INCHES) as figure:
        panels = figure.subplots(1, 3)
        for axis, panel in enumerate(panels):
            values, brightness = shaded_view(fine, axis)
            hit = np.isfinite(values)
            picture = palette(scale(np.where(hit, values, limits[0])))
            picture[..., :3] *= brightness[..., None]
            picture[..., 3] = hit
            panel.imshow(picture, origin="lower", interpolation="none")
            panel.set(xticks=[], yticks=[], title=f"along {AXES[axis][0]}")
            panel.spines[:].set_visible(False)
        _scale_bar(panels[0], fine.volume.shape[2], fine.voxel_size)
        bar = figure.colorbar(
            ScalarMappable(scale, palette), ax=panels, location="bottom", shrink=0.5, aspect=40
        )
        bar.set_label(label)
        bar.outline.set_visible(False)
        return as_svg(figure)


def shaded_view(
    solid: Solid, axis: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A surface as seen along an axis, with the directions of ``pictures.AXES``.

    With x to the right and z upwards the reader stands at small y, with the other two at the
    far end: from elsewhere the hand would be the wrong one.

    Parameters
    ----------
    solid : Solid
    axis : int
        Of the array.

    Returns
    -------
    values : array, (rows, columns)
        What the visible surface is coloured by; NaN where there is none.
    brightness : array like values
        0…1, by the angle between surface and light.
    """
    away = 1 if axis == 1 else -1
    seen = np.moveaxis(solid.volume, axis, 0)[::away]
    colour = np.moveaxis(solid.colour_by, axis, 0)[::away]
    above = seen > solid.level
    first = above.argmax(axis=0)
    hit = above.any(axis=0)
    rows, columns = np.indices(hit.shape)
    before = np.maximum(first - 1, 0)
    behind, ahead = seen[first, rows, columns], seen[before, rows, columns]
    share = np.clip((solid.level - ahead) / np.where(behind > ahead, behind - ahead, 1), 0, 1)
    gradient = np.gradient(seen)
    normal = np.stack(
        [
            -(g[before, rows, columns] * (1 - share) + g[first, rows, columns] * share)
            for g in (gradient[2], gradient[1], gradient[0])
        ]
    )
    normal[2] *= -1  # depth runs away from the reader
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    lambert = np.clip(np.tensordot(LIGHT / np.linalg.norm(LIGHT), normal, 1), 0, 1)
    depth = first / max(len(seen) - 1, 1)
    values = colour[before, rows, columns] * (1 - share) + colour[first, rows, columns] * share
    return np.where(hit, values, np.nan), (0.45 + 0.55 * lambert) * (1 - 0.3 * depth)


def _finer(solid: Solid) -> Solid:
    """Cut to a cube around the surface, on a grid fine enough for a picture."""
    above = np.argwhere(solid.volume > solid.level)
    low, high = above.min(axis=0) - RIM, above.max(axis=0) + RIM + 1
    cut = tuple(slice(max(start, 0), end) for start, end in zip(low, high, strict=True))
    cube = EvenCube.around(solid.volume[cut].shape)
    side = max(cube.side, STILL_SIDE)
    volume, colour_by = (
        fourier.rescale(cube.pad_volume(values[cut]), side)
        for values in (solid.volume, solid.colour_by)
    )
    return Solid(volume, solid.level, colour_by, solid.voxel_size * cube.side / side)


def _scale_bar(panel: Any, columns: int, voxel_size: float) -> None:
    length = nice_length(columns * voxel_size / 3)
    panel.plot([1, 1 + length / voxel_size], [1, 1], color=INK, linewidth=2, clip_on=False)
    panel.annotate(f"{length:g} Å", (1, 1), xytext=(0, 3), textcoords="offset points", fontsize=9)
