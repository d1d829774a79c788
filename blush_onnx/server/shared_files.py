"""Volumes that lie in a file that both sides see, such as shared memory under /dev/shm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError

Array = npt.NDArray[np.float32]


def read_volume(described: Mapping[str, Any]) -> Array:
    """A copy of a volume out of a file.

    Parameters
    ----------
    described : mapping
        ``name``, ``shape``, ``file`` and perhaps ``offset`` in bytes; checked already.

    Returns
    -------
    array, float32

    Raises
    ------
    InputError
        The file cannot be read or is too short.
    """
    return np.array(_mapped(described, "r"), dtype=np.float32)


def write_volume(described: Mapping[str, Any], volume: Array) -> None:
    """Put a result into a file that is there and large enough.

    Parameters
    ----------
    described : mapping
        As for :func:`read_volume`.
    volume : array of its shape

    Raises
    ------
    InputError
        The file cannot be written, is too short, or the result has another shape.
    """
    if list(volume.shape) != list(described["shape"]):
        raise InputError(
            f"the result {described['name']} has the shape {list(volume.shape)}, the room for it "
            f"in {described['file']} {described['shape']}"
        )
    mapped = _mapped(described, "r+")
    mapped[...] = volume
    mapped.flush()


def _mapped(described: Mapping[str, Any], mode: Any) -> Any:
    path, offset = Path(described["file"]), described.get("offset", 0)
    needed = offset + 4 * math.prod(described["shape"])
    try:
        if not path.is_file():
            raise InputError(f"{path}, with the volume {described['name']}, is no file")
        if path.stat().st_size < needed:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, the volume {described['name']} ends at "
                f"{needed}"
            )
        return np.memmap(path, "<f4", mode, offset, tuple(described["shape"]))
    except OSError as error:
        raise InputError(
            f"{path}, with the volume {described['name']}: {error.strerror or error}"
        ) from error
