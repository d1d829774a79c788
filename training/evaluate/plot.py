"""Curves of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.prepare.pictures import pyplot

POINTS = 60


def plot_curves(curves: Sequence[dict[str, Any]], picture: Path) -> None:
    """Draw the mean masked FSC to the truth, a panel a resolution, a line for each model.

    Parameters
    ----------
    curves : sequence of dict
        Of :func:`training.evaluate.judge.judge`.
    picture : Path
    """
    plt = pyplot()
    resolutions = sorted({curve["resolution"] for curve in curves})
    names = list(dict.fromkeys(curve["model"] for curve in curves))
    frequency = np.linspace(1 / 60, 1 / 3, POINTS)
    figure, axes = plt.subplots(
        1, len(resolutions), figsize=(4.2 * len(resolutions), 3.6), sharey=True, squeeze=False,
        layout="constrained",
    )
    for axis, resolution in zip(axes[0], resolutions, strict=True):
        here = [curve for curve in curves if curve["resolution"] == resolution]
        for name in names:
            mean = np.mean(
                [_on(frequency, c, "after") for c in here if c["model"] == name], axis=0
            )
            axis.plot(frequency, mean, label=name, linewidth=1.4)
        axis.axvline(1 / resolution, color="0.6", linewidth=0.8, linestyle="--")
        ticks = np.array([20, 8, 5, 4, 3.5, 3])
        axis.set_xticks(1 / ticks, [f"{t:g}" for t in ticks])
        axis.set(title=f"inputs of {resolution:g} Å", xlabel="resolution (Å)", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("masked FSC with the truth")
    axes[0, -1].legend(fontsize=8)
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def _on(frequency: np.ndarray[Any, Any], curve: dict[str, Any], which: str) -> Any:
    values = np.asarray(curve[which])
    own = np.arange(len(values)) / (curve["side"] * curve["voxel_size"])
    return np.interp(frequency, own, values)
