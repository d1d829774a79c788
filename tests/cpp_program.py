"""The program of examples/cpp as its tests call it, and input that it cannot take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt

from blush_onnx.models import MODEL_FILE
from tests.conftest import write_mrc

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "examples" / "cpp"

Array = npt.NDArray[np.float32]


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)


def denoised_by(
    program: Path, model: Path, volume: Array, folder: Path, *options: str | Path,
    voxel_size: float = 1.5,
) -> tuple[Array, Array, str]:
    """Density, solvent mask and what was printed."""
    given = write_mrc(folder / "map.mrc", volume, voxel_size)
    results = results_in(folder)
    done = run(program, model / MODEL_FILE, given, *results, "--threads", "2", *options)
    assert done.returncode == 0, done.stderr
    density, mask = (mrcfile.read(path) for path in results)
    return density, mask, done.stdout


def results_in(folder: Path) -> tuple[Path, Path]:
    return folder / "density.mrc", folder / "solvent_mask.mrc"


def damage(path: Path, fault: str) -> None:
    content = bytearray(path.read_bytes())
    if fault == "truncated":
        del content[-1:]
    if fault == "complex":
        content[12] = 4
    if fault == "axes":
        content[64], content[72] = content[72], content[64]
    if fault == "big-endian":
        content[212] = content[213] = 0x11
    path.write_bytes(content)
    if fault == "missing":
        path.unlink()


def without_metadata(path: Path, like: Path) -> None:
    import onnx

    graph = onnx.load(like)
    del graph.metadata_props[:]
    onnx.save(graph, path)
