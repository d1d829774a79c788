"""What prepared volumes look like, beside real maps: slices and radial power."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import BlushError
from blush_onnx.fourier import Volume
from blush_onnx.grids import Grids
from blush_onnx.half_map_checks import radial_power
from blush_onnx.volume_io import read_map
from training.prepare.dataset import Dataset, Record


def pyplot() -> Any:
    """Matplotlib without a screen.

    Raises
    ------
    BlushError
        Not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise BlushError("pictures need matplotlib: pip install 'blush-onnx[report]'") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def contact_sheet(
    dataset: Dataset, real_maps: Sequence[Path], picture: Path, count: int = 6
) -> None:
    """Draw central slices of prepared pairs and of real maps, and everybody's radial power.

    Parameters
    ----------
    dataset : Dataset
    real_maps : sequence of Path
        MRC files to compare with.
    picture : Path
        PNG, SVG or PDF.
    count : int
        Prepared pairs to show, spread over the data set.
    """
    plt = pyplot()
    last = len(dataset.records) - 1
    chosen = [dataset.records[i] for i in np.linspace(0, last, min(count, last + 1), dtype=int)]
    shown = {path.name: read_map(path) for path in real_maps}
    columns = max(len(chosen), len(shown))
    figure = plt.figure(figsize=(2.1 * columns, 11.5), layout="constrained")
    grid = figure.add_gridspec(5, columns, height_ratios=[1, 1, 1, 1, 1.4])
    rows = ("half-map", "truth or mean", "mask", "real maps")
    for column, record in enumerate(chosen):
        for row, volume in enumerate(_to_show(dataset, record)):
            axis = figure.add_subplot(grid[row, column])
            _slice(axis, volume, rows[row] if column == 0 else "")
            if row == 0:
                axis.set_title(f"{record.name}\n{record.resolution:.1f} Å, {record.side} voxels",
                               fontsize=8)
    for column, (name, source) in enumerate(shown.items()):
        axis = figure.add_subplot(grid[3, column])
        _slice(axis, np.asarray(source.data), rows[3] if column == 0 else "")
        axis.set_title(f"{name[:16]}\n{source.voxel_size:.2f} Å a voxel", fontsize=8)
    axis = figure.add_subplot(grid[4, :])
    for record in chosen:
        half = dataset.load(record)["half_1"].astype(np.float32)
        _power(axis, half, record.voxel_size, record.name, ":" )
    for name, source in shown.items():
        grids = Grids.of(source.data.shape, source.voxel_size, 1.5)
        _power(axis, grids.to_model(source.data), grids.model_voxel_size, name, "-",
               2 * source.voxel_size)
    axis.set(xlabel="resolution (Å)", ylabel="radial power, 1 at 20 Å", yscale="log",
             ylim=(1e-6, 1e2))
    ticks = np.array([20, 10, 7, 5, 4, 3.5, 3])
    axis.set_xticks(1 / ticks, [f"{t:g}" for t in ticks])
    axis.legend(fontsize=7, ncols=2)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _to_show(dataset: Dataset, record: Record) -> list[npt.NDArray[np.float32]]:
    arrays = {name: a.astype(np.float32) for name, a in dataset.load(record).items()}
    mean = np.asarray((arrays["half_1"] + arrays["half_2"]) / 2, dtype=np.float32)
    return [arrays["half_1"], arrays.get("truth", mean), arrays["mask"]]


def _slice(axis: Any, volume: Volume, label: str) -> None:
    middle = volume[volume.shape[0] // 2]
    low, high = np.percentile(middle, (0.5, 99.8))
    axis.imshow(middle, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower")
    axis.set(xticks=[], yticks=[], ylabel=label)


def _power(
    axis: Any, volume: Volume, voxel_size: float, label: str, style: str, finest: float = 0.0
) -> None:
    power = radial_power(volume)
    frequency = np.arange(len(power)) / (volume.shape[0] * voxel_size)
    reference = float(np.interp(1 / 20, frequency, power))
    seen = (frequency > 1 / 60) & (frequency < 1 / max(finest, 2 * voxel_size))
    axis.plot(frequency[seen], power[seen] / reference, style, label=label, linewidth=1.2)
