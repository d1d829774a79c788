"""Matplotlib's figures as SVG that takes on the page's colours, light or dark.

Text stays text. Some colours are placeholders, which become CSS variables or the
colour of the surrounding text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

INK = "#010203"
"""The colour of the text around."""
FAINT = "#010204"
"""Grid lines."""
SERIES = ("#010205", "#010206", "#010207", "#010208", "#010209", "#01020a")
"""Curves that can be told apart by the colour-blind, by day and by night."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
"""A line style for each of them, for those who print in grey."""

WIDTH_INCHES = 5.6
FULL_WIDTH_INCHES = 6.2
FONT_SIZE = 10
ID_PREFIX = "svg-of-this-page-"

_VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)},
}


@contextmanager
def drawing(height_inches: float, width_inches: float = WIDTH_INCHES) -> Iterator[Drawing]:
    """A Matplotlib figure in the page's manner.

    Parameters
    ----------
    height_inches, width_inches : float
        Of the figure; it is scaled to the page.

    Yields
    ------
    matplotlib.figure.Figure
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing

    style = {
        "svg.fonttype": "none", "svg.hashsalt": "blush-onnx", "svg.image_inline": True,
        "font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE, "legend.fontsize": FONT_SIZE - 1,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK,
        "xtick.color": INK, "ytick.color": INK, "grid.color": FAINT, "grid.linewidth": 0.6,
        "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False,
        "axes.spines.right": False, "axes.axisbelow": True, "lines.linewidth": 1.6,
        "image.interpolation": "none", "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.03, "axes.unicode_minus": True,
    }
    with mpl.rc_context(style):
        yield Drawing(figsize=(width_inches, height_inches), layout="constrained")


def as_svg(figure: Drawing) -> str:
    """SVG of a figure, to stand inside a page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    str
        An ``svg`` element without prologue, metadata or links; its ids start with
        :data:`ID_PREFIX`, in whose place a page with several puts one prefix for each.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None}, dpi=144)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="', f'id="{ID_PREFIX}', text)
    text = re.sub(r"url\(#", f"url(#{ID_PREFIX}", text)
    text = re.sub(r'href="#', f'href="#{ID_PREFIX}', text)
    for placeholder, colour in _VARIABLES.items():
        text = text.replace(placeholder, colour)
    return text.strip()
