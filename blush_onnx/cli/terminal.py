"""What the commands print beyond lines of text, for terminals of all kinds."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from blush_onnx.fsc import Curve, FscCurves


def plot_fsc(curves: FscCurves, named: dict[str, Curve]) -> None:
    """Draw FSC curves with characters, as wide as the terminal."""
    from blush_onnx.report.text_plot import fsc_plot

    # The curve that decides first: it lies on top.
    ordered = dict(sorted(named.items(), key=lambda item: item[1] is not curves.decisive))
    width = shutil.get_terminal_size((80, 24)).columns
    length = curves.box_size * curves.voxel_size
    echo(fsc_plot(ordered, length, width=width, unicode=is_unicode()))


def is_unicode() -> bool:
    """Whether stdout takes more than ASCII."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()


def echo(text: str) -> None:
    """Print; where the terminal knows no Å, an A."""
    click.echo(text if is_unicode() else text.replace("Å", "A"))
