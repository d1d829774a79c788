"""Draw the bundled half-map before and after: python picture.py DENOISED_FOLDER PNG."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import mrcfile
import numpy as np


def main(folder: Path, png: Path) -> None:
    """One row of central slices, one of projections, one grey scale for each."""
    here = Path(__file__).parent
    report = json.loads((folder / "report.json").read_text())
    maps = {
        "half-map 1": mrcfile.read(here / "half_map_1.mrc.gz"),
        f"denoised, cut off at {report['cut_off']['angstrom']:.1f} Å": mrcfile.read(
            folder / "denoised_1.mrc"
        ),
        "solvent mask by the network": mrcfile.read(folder / "mask.mrc"),
    }
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
    for row, (what, view) in enumerate(
        (("slice", lambda v: v[len(v) // 2]), ("projection", lambda v: v.mean(axis=0)))
    ):
        pictures = [view(volume) for volume in maps.values()]
        low, high = np.percentile(pictures[row], (0.5, 99.9))  # the slice's noise would hide all
        for column, (title, picture) in enumerate(zip(maps, pictures, strict=True)):
            limits = (0, 1) if column == 2 else (low, high)
            axes[row, column].imshow(picture, cmap="gray", vmin=limits[0], vmax=limits[1])
            axes[row, column].set(xticks=[], yticks=[])
            if row == 0:
                axes[row, column].set_title(title, fontsize=10)
        axes[row, 0].set_ylabel(what, fontsize=10)
    voxel_size = report["inputs"][0]["voxel_size_angstrom"]
    axes[1, 0].plot([5, 5 + 50 / voxel_size], [90, 90], color="white", linewidth=3)
    axes[1, 0].text(5, 87, "50 Å", color="white", fontsize=9)
    figure.savefig(png, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
