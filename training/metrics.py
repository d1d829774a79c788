"""What a training shows while it runs: CSV files, TensorBoard, a progress bar, pictures."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from blush_onnx.errors import BlushError
from training.augment import Batch

COLUMNS = (
    "step", "progress", "minutes", "learning_rate", "loss", "error", "inside", "outside",
    "low_frequency", "mask", "gradient", "skipped", "patches_a_second",
)


class Sums:
    """Means of what steps report, kept on the device until somebody asks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._since = time.monotonic()

    def __len__(self) -> int:
        """Steps since the means were last asked for."""
        return self._count

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a step's figures."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def rate(self) -> float:
        """Steps a second since the means were last asked for."""
        return self._count / max(time.monotonic() - self._since, 1e-9)

    def means(self) -> dict[str, float]:
        """Means since the last call."""
        found = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count, self._since = {}, 0, time.monotonic()
        return found


class Metrics:
    """``metrics.csv``, ``validation.csv``, a progress bar, TensorBoard where it is installed.

    Parameters
    ----------
    output : Path
        The run's folder.
    step : int
        Where the training stands: lines of steps beyond it, of a call that was cut off
        after its last state, are taken out.
    quiet : bool
        Whether another process does it.
    """

    def __init__(self, output: Path, step: int, *, quiet: bool) -> None:
        self.output, self.step, self.quiet = output, step, quiet
        self.bar: Any = None
        self.board: Any = None

    def __enter__(self) -> Metrics:
        """Open what there is."""
        if not self.quiet:
            for name in ("metrics.csv", "validation.csv"):
                _cut_back(self.output / name, self.step)
            self.bar = tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {postfix}")
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.output))
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        for each in (self.bar, self.board):
            if each is not None:
                each.close()

    def write(self, values: dict[str, float]) -> None:
        """One line of the training's own figures."""
        if self.quiet:
            return
        self._append("metrics.csv", COLUMNS, values)
        self.bar.update(100 * values["progress"] - self.bar.n)
        self.bar.set_postfix_str(
            f"step {values['step']}, loss {values['loss']:.3f}, inside ×{values['inside']:.2f}, "
            f"{values['patches_a_second']:.1f} patches/s"
        )

    def validation(self, step: int, results: dict[str, Any]) -> None:
        """One line for each depth of recycling."""
        for depth in ("step_0", "step_5"):
            values = {"step": step, "recycled": depth[5:], **results[depth]}
            self._append("validation.csv", tuple(values), values)

    def _append(self, name: str, columns: tuple[str, ...], values: dict[str, Any]) -> None:
        path = self.output / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow({
                k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()
            })
        if self.board is not None:
            kind = f"{path.stem}{values.get('recycled', '')}"
            for key, value in values.items():
                if key not in ("step", "recycled"):
                    self.board.add_scalar(f"{kind}/{key}", value, values["step"])


def _cut_back(path: Path, step: int) -> None:
    """Take lines of later steps out of a file."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    kept = [row for row in rows if int(row[0]) <= step]
    if len(kept) < len(rows):
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *kept])


def draw_validation(results: dict[str, Any], path: Path) -> None:
    """Draw central slices of a validation batch: input, output, target, mask.

    Nothing is drawn where matplotlib is not installed: pictures are a courtesy.

    Parameters
    ----------
    results : dict
        Of :func:`training.train.validate`.
    path : Path
    """
    from training.prepare.pictures import pyplot

    try:
        plt = pyplot()
    except BlushError:
        return
    batch: Batch = results["pictures"][0]
    shown = (batch.grid, results["pictures"][1], batch.target, results["pictures"][2].sigmoid())
    count = min(4, len(batch.grid))
    figure, axes = plt.subplots(count, 4, figsize=(8, 2 * count + 0.3), squeeze=False,
                                layout="constrained")
    for row in range(count):
        sample = batch.target[row].flatten()[::7].cpu()
        low, high = torch.quantile(sample, torch.tensor([0.01, 0.999])).tolist()
        for column, (name, values) in enumerate(
            zip(("input", "output", "target", "mask"), shown, strict=True)
        ):
            image = values[row, values.shape[1] // 2].float().cpu().numpy()
            limits = (0, 1) if name == "mask" else (low, max(high, low + 1e-3))
            axes[row, column].imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1])
            axes[row, column].set(xticks=[], yticks=[])
            if row == 0:
                axes[row, column].set_title(name)
    figure.savefig(path, dpi=100)
    plt.close(figure)
