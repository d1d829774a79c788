"""What a page shows of a map before and after denoising."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.fsc import FscCurves
from blush_onnx.half_map_checks import radial_power
from blush_onnx.report import curves, pictures
from blush_onnx.report.content import Section
from blush_onnx.report.surface import coloured_surface
from blush_onnx.report.viewer import orthoslices

Array = npt.NDArray[np.float32]

CURVES = {
    "corrected": "solvent-corrected", "given": "given by the caller", "unmasked": "unmasked",
    "masked": "masked", "randomised": "phases randomised, masked",
}
"""Attributes of FscCurves and what they are called here, the one that decides first."""
COARSER = 3
"""Times the cut-off: how coarse the density is that colours a surface."""


@dataclass(frozen=True)
class ReportMaps:
    """The maps that a page shows.

    Attributes
    ----------
    before, after : array, (z, y, x), float32
        The map, or the mean of the half-maps, and what became of it.
    voxel_size : float
        Å.
    solvent_mask : array like them
        The network's, 0…1.
    cut_off_angstrom : float
        Up to where the network's part was used, or would have been; finite.
    cut_off_applied : bool
        Whether nothing of the result lies beyond.
    fsc_mask : array like them, optional
        What the FSC was taken under.
    fsc : FscCurves, optional
        Of the half-maps.
    local_resolution : array like them, optional
        Å; NaN where there is none.
    spread : array like them, optional
        Standard deviation of the result over orientations.
    """

    before: Array
    after: Array
    voxel_size: float
    solvent_mask: Array
    cut_off_angstrom: float
    cut_off_applied: bool = True
    fsc_mask: Array | None = None
    fsc: FscCurves | None = None
    local_resolution: Array | None = None
    spread: Array | None = None


def map_sections(maps: ReportMaps) -> tuple[Section, ...]:
    """Sections on what became of a map; those of ``denoise``, and the first of ``validate``.

    Parameters
    ----------
    maps : ReportMaps

    Returns
    -------
    tuple of Section
        Slices, viewer, FSC where there is one, radial power, histogram, surface, and spread
        over orientations where it was taken.
    """
    fsc = None if maps.fsc is None else fsc_section(maps.fsc, _applied(maps))
    every = [
        _slices(maps), _viewer(maps), fsc, _power(maps), _histogram(maps),
        _surface(maps), _spread(maps),
    ]
    return tuple(section for section in every if section is not None)


def _slices(maps: ReportMaps) -> Section:
    shown = {
        "before": maps.before, "after": maps.after, "after − before": maps.after - maps.before
    }
    outlines = {"solvent mask of the network": maps.solvent_mask}
    if maps.fsc_mask is not None:
        outlines["mask of the FSC"] = maps.fsc_mask
    scale = "One grey scale for all nine: black is {low}, white is {high}."
    return Section(
        "slices", "Slices and projections",
        text=[f"Before is {_what(maps)}; after is what denoising made of it."],
        figures=[
            pictures.picture_grid(
                shown, maps.voxel_size, "slice", outlines=outlines,
                alt="Central slices along z, y and x, before and after denoising, and their "
                "difference, with the outlines of the masks.",
                caption=f"Central slices. {scale} Lines in the first column: where a mask is 0.5.",
            ),
            pictures.picture_grid(
                shown, maps.voxel_size, "projection", bar_label="mean density",
                alt="Projections along z, y and x, before and after denoising, and their "
                "difference.",
                caption=f"Projections: the mean density along each axis. {scale}",
            ),
        ],
    )


def _viewer(maps: ReportMaps) -> Section:
    return Section(
        "viewer", "Slice viewer",
        orthoslices=orthoslices((maps.before, maps.after), ("before", "after"), maps.voxel_size),
    )


def fsc_section(found: FscCurves, cut_off_angstrom: float | None = None) -> Section:
    """Section on the FSC of two half-maps.

    Parameters
    ----------
    found : FscCurves
    cut_off_angstrom : float, optional
        Å, to be marked.

    Returns
    -------
    Section
    """
    cut_off = cut_off_mark(cut_off_angstrom)
    caption = "Dashed lines: 0.143 and 0.5."
    if cut_off:
        caption += " Upright line: the cut-off of the denoised maps."
    named = {
        label: getattr(found, name)
        for name, label in CURVES.items() if getattr(found, name) is not None
    }
    read = {label: c for label, c in named.items() if label != CURVES["randomised"]}
    return Section(
        "fsc", "Fourier shell correlation of the half-maps",
        text=[
            "Of the half-maps as they came, before any denoising. An FSC of denoised maps says "
            "nothing about resolution, and none is shown."
        ],
        figures=[curves.fsc_figure(
            named, found.box_size, found.voxel_size, marks=cut_off, caption=caption,
            alt="FSC of the half-maps against spatial frequency; the table below has the "
            "resolutions at 0.143 and 0.5.",
        )],
        tables=[
            curves.resolution_table(read, found.box_size, found.voxel_size),
            curves.shell_table("The curves in numbers", named, found.box_size, found.voxel_size),
        ],
    )


def cut_off_mark(cut_off_angstrom: float | None) -> dict[str, float]:
    """The line of a plot that says where the denoised maps end, if they do."""
    return {} if cut_off_angstrom is None else {"cut-off": cut_off_angstrom}


def _applied(maps: ReportMaps) -> float | None:
    return maps.cut_off_angstrom if maps.cut_off_applied else None


def _power(maps: ReportMaps) -> Section:
    side = EvenCube.around(maps.before.shape).side
    power = {"before": radial_power(maps.before), "after": radial_power(maps.after)}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(power["after"] / power["before"])
    return Section(
        "power", "Radial power",
        text=["The mean power of each shell, and of the amplitudes what is left after denoising."],
        figures=[
            curves.shell_figure(
                power, side, maps.voxel_size, ylabel="mean power", logarithmic=True,
                marks=cut_off_mark(_applied(maps)),
                alt="Mean power against spatial frequency, before and after denoising.",
                caption="Mean power of the shells. A curve ends where there is nothing left.",
            ),
            curves.shell_figure(
                {"after / before": ratio}, side, maps.voxel_size, ylabel="amplitude ratio",
                marks=cut_off_mark(_applied(maps)),
                alt="Ratio of the amplitudes after and before denoising, against frequency.",
                caption="Amplitudes after, divided by those before.",
            ),
        ],
        tables=[curves.shell_table(
            "Power and amplitude ratio in numbers", {**power, "after / before": ratio}, side,
            maps.voxel_size,
        )],
    )


def _histogram(maps: ReportMaps) -> Section | None:
    mask, name = (
        (maps.solvent_mask, "the network's solvent mask") if maps.fsc_mask is None
        else (maps.fsc_mask, "the mask of the FSC")
    )
    inside = mask > 0.5
    if not inside.any():
        return None
    values = {"before": maps.before[inside], "after": maps.after[inside]}
    return Section(
        "histogram", "Densities inside the mask",
        text=[f"All voxels where {name} is above 0.5, {int(inside.sum()):,} in number."],
        figures=[curves.histogram_figure(
            values, xlabel="density", wide=True,
            alt="Histograms of the density inside the mask, before and after denoising.",
            caption="The outermost bins hold all that is beyond them.",
        )],
        tables=[curves.statistics_table("Densities inside the mask", values)],
    )


def _surface(maps: ReportMaps) -> Section | None:
    if maps.local_resolution is not None:
        colour, label = maps.local_resolution, "local resolution (Å)"
        text = "The colours are the local resolution of the half-maps, before any denoising."
        larger_is_better = False
    else:
        coarse = COARSER * maps.cut_off_angstrom
        colour, label = _low_passed(maps, coarse), f"density before, up to {coarse:.1f} Å"
        text = (
            "The colours are the density before denoising at the same place, low-pass filtered "
            f"at {coarse:.1f} Å, {COARSER} times the cut-off. Orange parts are weak in the data; "
            "they may be seldom there, moving, or only at the rim."
        )
        larger_is_better = True
    surface = coloured_surface(
        maps.after, maps.voxel_size, colour, label=label, mask=maps.solvent_mask,
        larger_is_better=larger_is_better,
        alt="Surface of the denoised map from three sides, in colours.",
        caption="Surface of the denoised map at the density {level}, which parts the voxels inside "
        "the solvent mask best into two classes (Otsu).",
    )
    if surface is None:
        return None
    return Section("surface", "Surface", text=[text], surface=surface)


def _spread(maps: ReportMaps) -> Section | None:
    if maps.spread is None:
        return None
    inside = maps.solvent_mask > 0.5
    values = {"after": maps.after[inside], "spread": maps.spread[inside]}
    return Section(
        "spread", "Where the answer depends on how you look",
        text=[
            "The maps were denoised in several orientations and averaged. The spread is the "
            "standard deviation over these: where it is large beside the density, the network is "
            "not sure. It says nothing about what the network is always wrong about."
        ],
        figures=[pictures.picture_grid(
            {"after": maps.after, "spread": maps.spread}, maps.voxel_size, "slice",
            alt="Central slices of the denoised map and of its spread over orientations.",
            caption="Central slices. One grey scale for all six: black is {low}, white is {high}.",
        )],
        tables=[curves.statistics_table("Inside the solvent mask", values)],
    )


def _low_passed(maps: ReportMaps, angstrom: float) -> Array:
    cube = EvenCube.around(maps.before.shape)
    spectrum = fourier.forward(cube.pad_volume(maps.before))
    shell = max(cube.side * maps.voxel_size / angstrom, 1)
    return cube.crop(fourier.inverse(fourier.apply_crossover(spectrum, shell)))


def _what(maps: ReportMaps) -> str:
    return "the map as it came" if maps.fsc is None else "the mean of the two half-maps"
