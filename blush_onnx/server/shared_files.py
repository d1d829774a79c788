"""Volumes that lie in a file that both sides see, such as shared memory under /dev/shm."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import InputError
from blush_onnx.server.messages import bytes_of

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
    check_room(described)
    path, offset = Path(described["file"]), described.get("offset", 0)
    with _told(described), path.open("rb") as file:
        values = np.fromfile(file, "<f4", math.prod(described["shape"]), offset=offset)
    if values.size < math.prod(described["shape"]):
        raise InputError(f"{path} became shorter while {described['name']} was read")
    volume: Array = values.reshape(described["shape"]).astype(np.float32, copy=False)
    return volume


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
    check_shape(described, volume.shape)
    check_room(described)
    with _told(described), Path(described["file"]).open("r+b") as file:
        file.seek(described.get("offset", 0))
        np.ascontiguousarray(volume, dtype="<f4").tofile(file)


def check_shape(described: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse room that is not that of a result.

    Raises
    ------
    InputError
        Another shape.
    """
    if list(shape) != list(described["shape"]):
        raise InputError(
            f"the result {described['name']} has the shape {list(shape)}, the room for it in "
            f"{described['file']} {described['shape']}"
        )


def check_room(described: Mapping[str, Any]) -> None:
    """Refuse a file that is none, or too short for the volume.

    Raises
    ------
    InputError
        With the reason.
    """
    path = Path(described["file"])
    needed = described.get("offset", 0) + bytes_of(described)
    with _told(described):
        if not path.is_file():
            raise InputError(f"{path}, with the volume {described['name']}, is no file")
        if path.stat().st_size < needed:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, the volume {described['name']} ends at "
                f"{needed}"
            )


@contextlib.contextmanager
def _told(described: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{described['file']}, with the volume {described['name']}: {reason}"
        ) from error
