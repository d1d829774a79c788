"""What a page is made of, whatever the science: sections of text, figures and tables.

Whoever has something to show builds :class:`Section`; :func:`blush_onnx.report.page.write_page`
lays it out and knows nothing of what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["ok", "warning", "failed"]


def number_text(value: float, digits: int = 3) -> str:
    """A number for the reader: some digits that matter, and a minus sign that is one."""
    return f"{value:.{digits}g}".replace("-", "−")


@dataclass(frozen=True)
class Figure:
    """A picture or a plot.

    Attributes
    ----------
    image : str or bytes
        SVG text, as :func:`blush_onnx.report.svg.as_svg` writes it, or the bytes of a PNG.
    alt : str
        What is to be seen, for those who do not see it.
    caption : str
    wide : bool
        Take the whole width rather than half of it.
    """

    image: str | bytes
    alt: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of words and numbers, formatted already.

    Attributes
    ----------
    caption : str
    columns : sequence of str
        Headings; the first column names the rows.
    rows : sequence of sequences of str
    folded : bool
        Show the caption alone until the reader opens it.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False


@dataclass(frozen=True)
class Orthoslices:
    """Two volumes to scroll through in step (:func:`blush_onnx.report.viewer.orthoslices`).

    Attributes
    ----------
    labels : tuple of str
        Of the volumes.
    volumes : tuple of array, (z, y, x), uint8
        Of one shape and on one grey scale.
    low, high : float
        Density that is black (0) and white (255).
    voxel_size : tuple of float
        Å a voxel along z, y and x, as shown.
    shape : tuple of int
        Of the map as it is, voxels; what is shown may be coarser.
    """

    labels: tuple[str, str]
    volumes: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    low: float
    high: float
    voxel_size: tuple[float, float, float]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Surface:
    """A coloured surface to turn, and what stands in for it on paper.

    Attributes
    ----------
    plot : str
        JSON of a Plotly figure.
    still : Figure
        The same surface without WebGL.
    label : str
    """

    plot: str
    still: Figure
    label: str


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes
    ----------
    id : str
        Unique on the page: small letters, digits and hyphens, a letter first.
    title : str
    text : sequence of str
        Paragraphs.
    verdict : {"ok", "warning", "failed"} or None
        Of the test that the section is about.
    verdict_text : str
        The verdict in a few words.
    figures, tables : sequence
    orthoslices : Orthoslices or None
    surface : Surface or None
    """

    id: str
    title: str
    text: Sequence[str] = ()
    verdict: Verdict | None = None
    verdict_text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    orthoslices: Orthoslices | None = None
    surface: Surface | None = None


@dataclass(frozen=True)
class ReportContent:
    """A whole page.

    Attributes
    ----------
    title, subtitle : str
    facts : sequence of (str, str)
        The few numbers that matter: what, and how much.
    summary : sequence of str
        Paragraphs on what was done.
    notice : str
        What must not be overlooked.
    warnings : sequence of str
        Sentences; an empty one means that nothing was noticed.
    sections : sequence of Section
    footer : str
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    summary: Sequence[str]
    notice: str
    warnings: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)
    footer: str = ""
