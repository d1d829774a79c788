from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import mrcfile
import numpy as np

from tests.conftest import blob_and_noise, write_mrc

COMMAND = (sys.executable, "-c", "from blush_onnx.cli import main; main()")
Options = tuple[str | Path, ...]
Halves = tuple[Path, Path]
DATA_STARTS = 1024
"""Bytes of the header of an MRC file without extended header."""


def run_cli(
    *args: str | Path | bytes,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    largest_file: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run blush-onnx in a process of its own.

    `env` comes on top of the environment; a file that grows beyond `largest_file` bytes fails
    to be written as on a full disk.
    """

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file or 0, largest_file or 0))

    return subprocess.run(
        [*COMMAND, *args], env={**os.environ, **(env or {})}, cwd=cwd,
        preexec_fn=None if largest_file is None else limit, capture_output=True, text=True,
        encoding="utf-8", errors="backslashreplace", timeout=300,
    )


def start_cli(*args: str | Path) -> subprocess.Popen[str]:
    """Start blush-onnx and leave it running, as from a terminal.

    Whoever runs the tests in the background has Ctrl-C ignored, and so would the child.
    """
    return subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_unwritten(out: Path) -> None:
    """Neither the folder nor the one above it, which is not there either, was made."""
    assert not out.exists()
    assert not out.parent.exists()


def assert_fails(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Status 1, nothing on stdout, and one line that says what was wrong and is no defect's."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().split("\n")) == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert "defect of blush-onnx" not in result.stderr
    assert message in result.stderr


def patch_bytes(path: Path, offset: int, form: str, *values: object) -> None:
    """Overwrite a few bytes of a file with packed values."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _first_value(value: float) -> Callable[[Path], None]:
    return lambda path: patch_bytes(path, DATA_STARTS, "<f", value)


def _voxel_size(size: float) -> Callable[[Path], None]:
    return lambda path: patch_bytes(path, 40, "<fff", *[size * 40] * 3)


def _replace(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fields(*patches: tuple[int, str, int | float]) -> Callable[[Path], None]:
    def patch(path: Path) -> None:
        for offset, form, value in patches:
            patch_bytes(path, offset, form, value)

    return patch


def _images(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(blob_and_noise((24, 40, 40), 1))
        mrc.set_image_stack()
        mrc.voxel_size = 2


def _one_image(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(blob_and_noise((40, 40, 40), 1)[0])


def _volumes(path: Path) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.stack([blob_and_noise((16, 16, 16), seed) for seed in (1, 2)]))
        mrc.voxel_size = 2


def _complex(path: Path) -> None:
    write_mrc(path, blob_and_noise((40, 40, 40), 1).astype(np.complex64))


def _constant(path: Path) -> None:
    write_mrc(path, np.full((40, 40, 40), 3, dtype=np.float32))


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8

BAD_MAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "does not exist"),
    "directory": (_directory, "Is a directory"),
    "truncated": (_truncate, "Expected 256000 bytes"),
    "header_only": (lambda p: p.write_bytes(p.read_bytes()[:DATA_STARTS]), "256000 bytes"),
    "half_a_header": (lambda p: p.write_bytes(p.read_bytes()[:500]), "not a readable MRC map"),
    "empty": (_replace(b""), "not a readable MRC map"),
    "text": (_replace(b"no map at all\n" * 200), "not a readable MRC map"),
    "png": (_replace(PNG), "not a readable MRC map"),
    "rubbish_like_gzip": (_replace(b"\x1f\x8b\x08\0" + PNG), "not a readable MRC map"),
    "rubbish_like_bzip2": (_replace(b"BZ" + PNG), "Invalid data stream"),
    "no_map_word": (_fields((208, "<i", 0)), "Map ID string not found"),
    "machine_stamp": (_fields((212, "<i", 0)), "machine stamp"),
    "mode_3": (_fields((12, "<i", 3)), "mode"),
    "mode_101": (_fields((12, "<i", 101)), "mode '101'"),
    "huge_nx": (_fields((0, "<i", 2_000_000_000)), "not a readable MRC map"),
    "huge_box": (_fields(*[(4 * i, "<i", 2_000_000_000) for i in range(3)]), "not a readable"),
    "negative_nx": (_fields((0, "<i", -40)), "not a readable MRC map"),
    "zero_nx": (_fields((0, "<i", 0)), "claims the box (40, 40, 0)"),
    "extended_header_longer_than_file": (_fields((92, "<i", 2_000_000)), "extended header"),
    "axis_order": (_fields((64, "<i", 2)), "axis order"),
    "image_stack": (_images, "stack of 24 images"),
    "one_image": (_one_image, "expected a volume, not an image"),
    "volume_stack": (_volumes, "stack"),
    "volume_stack_of_another_group": (_fields((88, "<i", 402)), "stack"),
    "volume_stack_of_nothing": (_fields((88, "<i", 401), (36, "<i", 0)), "stack"),
    "complex": (_complex, "complex values (mode 4)"),
    "nan": (_first_value(float("nan")), "1 values that are NaN or infinite"),
    "infinite": (_first_value(float("-inf")), "1 values that are NaN or infinite"),
    "constant": (_constant, "constant (3 everywhere)"),
    "small": (lambda p: write_mrc(p, blob_and_noise((7, 40, 40), 1)), "at least 8 voxels"),
    "voxel_size_0": (_voxel_size(0), "voxel size 0 Å is out of range"),
    "voxel_size_0.1": (_voxel_size(0.1), "voxel size 0.1 Å is out of range"),
    "voxel_size_20": (_voxel_size(20), "voxel size 20 Å is out of range"),
    "voxel_size_negative": (_voxel_size(-2), "voxel size -2 Å is out of range"),
    "voxel_size_nan": (_voxel_size(float("nan")), "voxel size"),
    "voxel_size_nan_along_y": (_fields((44, "<f", float("nan"))), "voxel size"),
    "voxel_sizes_unequal": (_fields((48, "<f", 120)), "differs along the axes (2, 2, 3 Å)"),
}
"""Ways to spoil a good map of 40³ voxels of 2 Å, and what the error says."""


def bad_map(name: str, folder: Path) -> Path:
    """A file that is spoiled in one way of BAD_MAPS."""
    path = write_mrc(folder / f"{name}.mrc", blob_and_noise((40, 40, 40), 1))
    BAD_MAPS[name][0](path)
    return path


def listing(folder: Path) -> list[str]:
    """Names in a folder, hidden ones too; empty where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in folder.iterdir())
    return []
