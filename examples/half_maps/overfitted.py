"""Overfit the bundled pair on purpose, and draw what the tests of ``validate`` see.

    python examples/half_maps/overfitted.py docs/images/overfitted.png

Two halves that were aligned to one noisy reference carry some of its noise in common. Here
common noise is simply added to both, beyond 8 Å. Needs matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.validation.findings import Validation
from blush_onnx.validation.request import Checks
from blush_onnx.validation.validate import validate
from blush_onnx.volume_io import read_map

Array = npt.NDArray[np.float32]

FOLDER = Path(__file__).parent
BEYOND = 8.0
SHARE = 0.5


def read_pair() -> tuple[Array, Array, Array, float]:
    """The bundled half-maps, their mask, and the voxel size in Å."""
    first, second, mask = (
        read_map(FOLDER / f"{name}.mrc.gz") for name in ("half_map_1", "half_map_2", "mask")
    )
    return first.data, second.data, mask.data, first.voxel_size


def sharing_noise(
    first: Array, second: Array, voxel_size: float, share: float = SHARE
) -> tuple[Array, Array]:
    """Both halves with the same white noise beyond 8 Å, `share` times as strong as their own."""
    own = float((0.5**0.5 * (first - second)).std())  # what the halves do not share: noise alone
    white = np.random.default_rng(5).normal(0, own, first.shape).astype(np.float32)
    shell = first.shape[0] * voxel_size / BEYOND
    low = fourier.inverse(fourier.apply_crossover(fourier.forward(white), shell))
    common = np.float32(share) * (white - low)
    return first + common, second + common


def draw(found: dict[str, Validation], path: Path) -> None:
    """FSC and agreement of the solvent, of the sound and the overfitted pair."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for (name, one), colour in zip(found.items(), ("#0072b2", "#d55e00"), strict=True):
        length = one.fsc.box_size * one.fsc.voxel_size
        shells = np.arange(1, one.fsc.box_size // 2)
        _curve(axes[0], shells / length, one.fsc.decisive[shells], name, colour)
        if one.solvent is not None:
            _curve(axes[1], shells / length, one.solvent.curve[shells], name, colour)
    axes[0].axhline(0.143, color="grey", linestyle=":", linewidth=1)
    axes[0].set(title="half-maps, under the mask, corrected", ylabel="FSC")
    axes[1].set(title="solvent: the half-maps outside the mask")
    for each in axes:
        each.axhline(0, color="grey", linewidth=0.6)
        each.set(xlabel="spatial frequency (1/Å)", ylim=(-0.1, 1.03))
        each.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _curve(axes: Any, x: Any, y: Any, name: str, colour: str) -> None:
    axes.plot(x, y, label=name, color=colour)


def main(path: Path) -> None:
    """Print the verdicts and draw the picture."""
    first, second, mask, voxel_size = read_pair()
    pairs = {
        "sound": (first, second),
        "overfitted": sharing_noise(first, second, voxel_size),
    }
    found = {
        name: validate(*pair, voxel_size, mask=mask, checks=Checks(local_resolution=False))
        for name, pair in pairs.items()
    }
    for name, one in found.items():
        print(f"{name}: {one.fsc.resolution():.2f} Å")
        for verdict in one.verdicts:
            print(f"  {verdict.test}: {verdict.outcome}: {verdict.text}")
    draw(found, path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "overfitted.png"))
