"""``denoise`` as the tests run it, and what they read of its results."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import mrcfile
import numpy as np
import numpy.typing as npt

from tests.cli.helpers import run_cli
from tests.conftest import Volume

HALF_FILES = ["denoised.mrc", "denoised_1.mrc", "denoised_2.mrc", "mask.mrc", "report.json"]
MAP_FILES = ["denoised.mrc", "mask.mrc", "report.json"]
SIDE, VOXEL_SIZE = 40, 2.0

Report = dict[str, Any]


def read(path: Path) -> Volume:
    with mrcfile.open(path) as mrc:
        return np.array(mrc.data)


def read_report(folder: Path) -> Report:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    text = (folder / "report.json").read_text(encoding="utf-8")
    report: Report = json.loads(text, parse_constant=refuse)
    return report


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def power(volume: Volume) -> npt.NDArray[np.float64]:
    """Power of each shell."""
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    shell = np.rint(np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2))
    return np.bincount(
        shell.astype(int).ravel(), np.abs(np.fft.fftn(volume)).ravel() ** 2
    )[: SIDE // 2 + 1]


class Runner:
    """The command with the tiny model on the CPU, its results in one folder."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.out = folder / "out"

    def __call__(self, *args: str | Path, out: str = "out") -> Path:
        done = self.complete(*args, "--out", self.folder / out)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return self.folder / out

    def complete(self, *args: str | Path, **where: Any) -> subprocess.CompletedProcess[str]:
        return run_cli("denoise", *args, "--model", self.model, "--provider", "cpu", **where)
