"""Picture of a results file: FSC curves for each noise level, a colour for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.refinement.results import Row, curves_file, read_curves
from blush_onnx.errors import BlushError, InputError

COLOURS = {"plain": "tab:grey", "blush": "tab:blue", "blush-no-trailing": "tab:red"}
PANELS = {
    "truth": "FSC with the truth",
    "half_corrected": "half-map FSC,\nsolvent-corrected",
}
THRESHOLDS = {"truth": 0.5, "half_corrected": 0.143}
RANDOMISED = "randomised-"


def plot(rows: Sequence[Row], results: Path, picture: Path) -> None:
    """Draw the curves of all runs; each seed is a thin line, their mean a thick one.

    Parameters
    ----------
    rows : sequence of mappings
        Of the results file.
    results, picture : Path
        The results file, beside which the curves lie; PNG, SVG or PDF.

    Raises
    ------
    InputError
        There are no runs.
    BlushError
        matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise BlushError("a plot needs matplotlib: pip install 'blush-onnx[report]'") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    if not rows:
        raise InputError(f"{results} holds no finished runs to plot")
    groups = list(dict.fromkeys(_group(row) for row in rows))
    figure, axes = plt.subplots(
        len(PANELS), len(groups), figsize=(3.6 * len(groups) + 0.6, 6), sharex=True, sharey=True,
        squeeze=False, layout="constrained",
    )
    for column, group in enumerate(groups):
        members = [row for row in rows if _group(row) == group]
        axes[0, column].set_title(_title(members[0]), fontsize=10)
        for line, panel in enumerate(PANELS):
            _draw(axes[line, column], members, results, panel)
        axes[-1, column].set_xlabel("resolution (Å)")
    for line, text in enumerate(PANELS.values()):
        axes[line, 0].set_ylabel(text)
    figure.legend(*_legend(axes), loc="outside lower center", ncols=len(COLOURS), frameon=False)
    figure.savefig(picture, dpi=150)
    plt.close(figure)


def _group(row: Row) -> tuple[str, ...]:
    names = ("structure", "particles", "box", "pixel_size", "snr", "randomised_beyond")
    return tuple(row[name] for name in names)


def _title(row: Row) -> str:
    title = f"{row['structure']}, {row['level']} (SNR {row['snr']}), {row['pixel_size']} Å a pixel"
    beyond = row["randomised_beyond"]
    return f"{title}\nphases random beyond {beyond} Å" if beyond else title


def _draw(axis: Any, rows: Sequence[Row], results: Path, panel: str) -> None:
    length = float(rows[0]["box"]) * float(rows[0]["pixel_size"])
    for arm, colour in COLOURS.items():
        curves = [
            read_curves(curves_file(results, row["name"]))[panel]
            for row in rows
            if row["arm"].removeprefix(RANDOMISED) == arm
        ]
        for curve in curves:
            axis.plot(np.arange(len(curve)), curve, color=colour, linewidth=0.6, alpha=0.7)
        if curves:
            axis.plot(np.mean(curves, axis=0), color=colour, linewidth=1.8, label=arm)
    axis.axhline(THRESHOLDS[panel], color="black", linewidth=0.5, linestyle=":")
    axis.axhline(0, color="black", linewidth=0.5)
    if rows[0]["randomised_beyond"]:
        axis.axvline(length / float(rows[0]["randomised_beyond"]), color="black", linewidth=0.8)
    nyquist = 2 * float(rows[0]["pixel_size"])
    shown = [resolution for resolution in (20, 12, 8, 6, 5, 4) if resolution >= nyquist]
    axis.set_xticks([length / resolution for resolution in shown], [str(r) for r in shown])
    axis.set(ylim=(-0.1, 1.02), xlim=(0, None))


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    """One entry for each arm, whichever panel has it."""
    entries: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
