"""What the processes of one run on a card share: settings in, rows of results out."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes
    ----------
    model : str
        A registered model or a folder.
    provider : str
        cuda, or cpu to try the benchmark where there is no card.
    device : int
        Number of the card.
    batches, few_batches, map_batches : tuple of int
        Patches at a time: of our engine, of the variants, of whole maps.
    boxes : tuple of int
        Of the made-up maps, voxels.
    voxel_size : float
        Of the maps, Å.
    stride : int
        Of their patches, voxels.
    rounds : int
        Turns of alternating measurements; repeats of a map.
    deadline : float
        Seconds since the epoch after which nothing new is begun.
    output, scratch : str
        File of the rows; folder of what the processes hand on.
    reference : str or None
        Checkout of the published program.
    """

    model: str
    provider: str
    device: int
    batches: tuple[int, ...]
    few_batches: tuple[int, ...]
    map_batches: tuple[int, ...]
    boxes: tuple[int, ...]
    voxel_size: float
    stride: int
    rounds: int
    deadline: float
    output: str
    scratch: str
    reference: str | None = None

    @property
    def on_card(self) -> bool:
        """Whether this is a measurement, not a try."""
        return self.provider != "cpu"

    @property
    def torch_device(self) -> str:
        """The device as PyTorch names it."""
        return f"cuda:{self.device}" if self.on_card else "cpu"

    def seconds_left(self) -> float:
        """Until the deadline."""
        return self.deadline - time.time()

    def write(self, **row: object) -> None:
        """Add a row to the file at once, and say it."""
        with Path(self.output).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        click.echo(", ".join(f"{key} {_short(value)}" for key, value in row.items()), err=True)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, text: str) -> Settings:
        """From :meth:`dump`."""
        values: dict[str, Any] = json.loads(text)
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


def read_rows(path: Path) -> list[Row]:
    """What was written so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def one_line(error: BaseException) -> str:
    """An error in a line that fits a table."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:300].replace("|", "/")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
