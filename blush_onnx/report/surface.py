"""A map's surface in colours: one to turn in the page, and stills of three sides for paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx.report.content import Figure, Surface, number_text
from blush_onnx.report.pictures import DIRECTIONS
from blush_onnx.report.stills import Solid, stills
from blush_onnx.report.viewer import shrink

Array = npt.NDArray[np.float32]

SIDES = (112, 96, 80, 64, 48, 32)
"""Voxels; larger boxes are rescaled, until there are not too many triangles."""
MOST_TRIANGLES = 100_000
"""They take 2.7 MB of a page."""
LIGHTING = {
    "ambient": 0.55, "diffuse": 1.0, "specular": 0.3, "roughness": 0.5, "fresnel": 0.1
}
COLOURS = ("#1f5fa8", "#86b5de", "#e9e6e1", "#f0a868", "#c4500a")
"""From good to poor: blue over grey to orange, told apart by the colour-blind too."""


@dataclass(frozen=True)
class Mesh:
    """A triangulated surface.

    Attributes
    ----------
    vertices : array, (n, 3), float32
        (x, y, z), Å.
    triangles : array, (m, 3), int32
    values : array, (n,), float32
        What it is coloured by.
    """

    vertices: Array
    triangles: npt.NDArray[np.int32]
    values: Array


def coloured_surface(
    volume: Array,
    voxel_size: float,
    colour_by: Array,
    *,
    label: str,
    alt: str,
    caption: str,
    mask: Array | None = None,
    limits: tuple[float, float] | None = None,
    larger_is_better: bool = False,
) -> Surface | None:
    """The surface of a map, coloured by another volume.

    Parameters
    ----------
    volume : array, (z, y, x), float32
    voxel_size : float
        Å.
    colour_by : array like volume
        NaN, where nothing is known, is taken as the median.
    label : str
        What the colours mean, with its unit.
    alt, caption : str
        Of the stills; the caption may hold ``{level}``.
    mask : array like volume, 0…1, optional
        Where to choose the level, and where the surface is looked for.
    limits : (float, float), optional
        Ends of the colours; by default percentiles 2 and 98 of the values on the surface.
    larger_is_better : bool
        Whether large values are blue rather than orange.

    Returns
    -------
    Surface or None
        None where there is no surface to speak of.
    """
    colour_by = np.nan_to_num(colour_by, nan=_median(colour_by))
    for side in SIDES:
        solid = _cut_out(volume, colour_by, mask, voxel_size, side)
        if solid is None:
            return None
        mesh = triangulate(solid)
        if len(mesh.triangles) <= MOST_TRIANGLES:
            break
    else:
        return None
    low, high = limits or _ends(mesh.values)
    colours = COLOURS[::-1] if larger_is_better else COLOURS
    text = f"{caption.replace('{level}', number_text(solid.level))} {DIRECTIONS}"
    return Surface(
        plot=_plotly_json(mesh, label, (low, high), colours),
        still=Figure(stills(solid, (low, high), label, colours), alt, text, wide=True),
        label=label,
    )


def _cut_out(
    volume: Array, colour_by: Array, mask: Array | None, voxel_size: float, side: int
) -> Solid | None:
    """What is inside the mask, on a box of at most that side; None where nothing stands out."""
    small = shrink(volume, side)
    region = np.ones(small.shape, bool) if mask is None else shrink(mask, side) > 0.5
    level = surface_level(small[region]) if region.any() else math.nan
    inside = np.where(region, small, np.minimum(small, np.float32(level)))
    if not (math.isfinite(level) and inside.min() < level < inside.max()):
        return None
    step = max(volume.shape) * voxel_size / max(small.shape)
    return Solid(inside, level, shrink(colour_by, side), step)


def surface_level(values: Array) -> float:
    """Density that parts a map best into two classes of voxels (Otsu, 1979).

    Parameters
    ----------
    values : array, any shape
        As a rule the voxels inside a mask.

    Returns
    -------
    float
        NaN where all values are the same.
    """
    from skimage.filters import threshold_otsu

    if values.min() == values.max():
        return math.nan
    return float(threshold_otsu(values))


def triangulate(solid: Solid) -> Mesh:
    """The surface as triangles, by marching cubes.

    Parameters
    ----------
    solid : Solid

    Returns
    -------
    Mesh
    """
    from scipy.ndimage import map_coordinates
    from skimage.measure import marching_cubes

    vertices, triangles, _, _ = marching_cubes(solid.volume, solid.level)
    values = map_coordinates(solid.colour_by, vertices.T, order=1, mode="nearest")
    return Mesh(
        (vertices[:, ::-1] * solid.voxel_size).astype(np.float32), triangles.astype(np.int32),
        values.astype(np.float32),
    )


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else 0.0


def _ends(values: Array) -> tuple[float, float]:
    low, high = (float(end) for end in np.percentile(values, (2, 98)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _plotly_json(
    mesh: Mesh, label: str, limits: tuple[float, float], colours: Sequence[str]
) -> str:
    import plotly.graph_objects as go

    kind = np.uint16 if len(mesh.vertices) < 1 << 16 else np.int32
    i, j, k = (np.ascontiguousarray(mesh.triangles[:, n], dtype=kind) for n in range(3))
    x, y, z = (np.ascontiguousarray(mesh.vertices[:, n]) for n in range(3))
    surface = go.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, intensity=mesh.values, cmin=limits[0], cmax=limits[1],
        colorscale=[[n / (len(colours) - 1), colour] for n, colour in enumerate(colours)],
        colorbar={"title": {"text": label, "side": "right"}, "len": 0.8},
        lighting=LIGHTING, lightposition={"x": 3000, "y": 5000, "z": 10000},
        hovertemplate="x %{x:.0f}, y %{y:.0f}, z %{z:.0f} Å<br>%{intensity:.3g}<extra></extra>",
    )
    axis = {"visible": False, "showspikes": False}
    layout = go.Layout(
        scene={
            "xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "data",
            "dragmode": "orbit",
            "camera": {"eye": {"x": 0, "y": 0, "z": 1.9}, "up": {"x": 0, "y": 1, "z": 0}},
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0}, paper_bgcolor="rgba(0,0,0,0)", template="none",
    )
    return str(go.Figure([surface], layout).to_json())
