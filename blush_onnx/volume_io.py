"""MRC maps in and out, with every check on the way in.

Arrays are (z, y, x) float32 whatever the file's axis order; what is written
back has the order, origin, start and cell of the map it was made from.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.boxes import as_mask, as_volume, check_voxel_size
from blush_onnx.errors import InputError, OutputError

VOXEL_SIZE_TOLERANCE = 1e-3
"""Relative difference between two voxel sizes that is taken for rounding."""
MASK_VOXEL_SIZE_TOLERANCE = 0.01
COMPLEX_MODES = (3, 4)
VOLUME_STACK_GROUPS = range(401, 631)
LABEL_LENGTH = 80
LARGEST_NUMBER_OF_LABELS = 10

_KEPT_FIELDS = (
    "nxstart", "nystart", "nzstart", "mx", "my", "mz", "cella", "cellb",
    "mapc", "mapr", "maps", "origin",
)  # fmt: skip


@dataclass(frozen=True)
class MapFile:
    """A map as it was read.

    Attributes
    ----------
    path : Path
    data : array, (z, y, x), float32
    voxel_size : float
        Å; the header's, or the caller's in its place.
    sha256 : str
        Of the file.
    header : dict
        Header fields that are written back, NumPy records as mrcfile has them.
    labels : tuple of str
    axes : tuple of int
        For (z, y, x), which axis of the file's array it was.
    voxel_size_given : bool
        Whether the voxel size is the caller's and not the header's.
    """

    path: Path
    data: npt.NDArray[np.float32]
    voxel_size: float
    sha256: str
    header: dict[str, Any]
    labels: tuple[str, ...]
    axes: tuple[int, ...]
    voxel_size_given: bool = False


def read_map(path: str | Path, voxel_size: float | None = None) -> MapFile:
    """Read a density map: MRC or CCP4, plain, .gz or .bz2, any real mode and byte order.

    Parameters
    ----------
    path : path
    voxel_size : float, optional
        Å; in place of the header's.

    Returns
    -------
    MapFile

    Raises
    ------
    InputError
        Missing, unreadable, truncated, not an MRC volume, complex, not finite,
        constant, or a voxel size that is zero, absurd or unequal along the axes.
    """
    path = Path(path)
    array, header, labels = _read(path)
    axes = _axes(path, header)
    data = np.ascontiguousarray(as_volume(array.transpose(axes), str(path)))
    if voxel_size is None:
        size = _voxel_size(path, header)
    else:
        size = check_voxel_size(voxel_size)
        _set_voxel_size(header, data.shape, size)
    return MapFile(path, data, size, _sha256(path), header, labels, axes, voxel_size is not None)


def read_mask(path: str | Path, like: MapFile) -> tuple[npt.NDArray[np.float32], str]:
    """Read a mask for a map.

    Parameters
    ----------
    path : path
    like : MapFile
        The map it belongs to.

    Returns
    -------
    mask : array, (z, y, x), float32
        Clipped to 0…1.
    sha256 : str
        Of the file.

    Raises
    ------
    InputError
        Unreadable, another box or voxel size than the map, or empty. The voxel size
        is not looked at where it is unset or the map's was given by the caller.
    """
    path = Path(path)
    array, header, _ = _read(path)
    mask = as_mask(array.transpose(_axes(path, header)), like.data.shape, f"the mask {path}")
    size = _header_voxel_size(header)[0]
    differs = abs(size - like.voxel_size) > MASK_VOXEL_SIZE_TOLERANCE * like.voxel_size
    if size > 0 and differs and not like.voxel_size_given:  # 0: its program did not write any
        raise InputError(
            f"the mask {path} has the voxel size {size:g} Å, the map {like.voxel_size:g} Å: "
            "give a mask of this map, or the right voxel size of both with --voxel-size"
        )
    return mask, _sha256(path)


def read_mask_of_box(path: str | Path, side: int) -> npt.NDArray[np.float32]:
    """Read a mask for a cubic map of which nothing but the box is known.

    Parameters
    ----------
    path : path
    side : int
        Voxels.

    Returns
    -------
    array, (side, side, side), float32
        Clipped to 0…1.

    Raises
    ------
    InputError
        Unreadable, of another box, or empty.
    """
    path = Path(path)
    array, header, _ = _read(path)
    return as_mask(array.transpose(_axes(path, header)), (side,) * 3, f"the mask {path}")


def read_values(path: str | Path) -> npt.NDArray[np.float32]:
    """Values of a map that this package wrote, without any check of what they are.

    Raises
    ------
    InputError
        Missing or unreadable.
    """
    array, _, _ = _read(Path(path))
    return np.asarray(array, dtype=np.float32)


def write_map(
    path: str | Path, data: npt.NDArray[np.float32], like: MapFile, label: str
) -> None:
    """Write a map in single precision on the grid and in the axis order of another.

    Parameters
    ----------
    path : path
        Written in place: give a temporary name and move it when all is done.
    data : array, (z, y, x), float32
    like : MapFile
        Where voxel size, origin, start and axis order come from.
    label : str
        What was done; added to the labels, at most 80 ASCII characters.

    Raises
    ------
    OutputError
        The file cannot be written, for instance because the disk is full.
    """
    labels = (*like.labels, label)
    _write(path, data.transpose(np.argsort(like.axes)), like.header, labels)


def write_new_map(
    path: str | Path, data: npt.NDArray[np.float32], voxel_size: float, label: str
) -> None:
    """Write a map in single precision with its origin at 0, for a program that asked for it.

    Parameters
    ----------
    path : path
        As for :func:`write_map`.
    data : array, (z, y, x), float32
    voxel_size : float
        Å.
    label : str
        As for :func:`write_map`.

    Raises
    ------
    OutputError
        The file cannot be written, for instance because the disk is full.
    """
    z, y, x = (side * voxel_size for side in data.shape)
    _write(path, data, {"cella": (x, y, z)}, (label,))


def _write(
    path: str | Path, data: npt.NDArray[np.float32], header: dict[str, Any], labels: tuple[str, ...]
) -> None:
    import mrcfile

    try:
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(np.ascontiguousarray(data))
            mrc.set_volume()
            for name, value in header.items():
                mrc.header[name] = value
            labels = labels[-LARGEST_NUMBER_OF_LABELS:]
            for i, text in enumerate(labels):
                mrc.header.label[i] = text.encode("ascii", "replace")[:LABEL_LENGTH]
            mrc.header.nlabl = len(labels)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path) -> tuple[npt.NDArray[Any], dict[str, Any], tuple[str, ...]]:
    """Array in the file's own axis order, header fields and labels of a real MRC volume."""
    import mrcfile

    try:
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            with mrcfile.open(path, mode="r", header_only=True) as mrc:
                _check_kind(path, mrc.header)
            with mrcfile.open(path, mode="r") as mrc:
                array = mrc.data
                header = {name: mrc.header[name].copy() for name in _KEPT_FIELDS}
                count = min(max(int(mrc.header.nlabl), 0), LARGEST_NUMBER_OF_LABELS)
                labels = tuple(
                    bytes(text).decode("ascii", "replace").rstrip("\0 ")
                    for text in mrc.header.label[:count]
                )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # on damaged files mrcfile and the decompressors raise anything
        raise InputError(f"{path} is not a readable MRC map: {error}") from error
    for warning in noticed:
        if "larger than expected" in str(warning.message):
            raise InputError(f"{path} does not fit its header: {warning.message}")
    return array, header, labels


def _check_kind(path: Path, header: Any) -> None:
    mode, group = int(header.mode), int(header.ispg)
    shape = tuple(int(header[name]) for name in ("nz", "ny", "nx"))
    if min(shape) < 1:
        raise InputError(f"{path} is not a readable MRC map: its header claims the box {shape}")
    if mode in COMPLEX_MODES:
        raise InputError(f"{path} holds complex values (mode {mode}): expected a density map")
    # Old programs write volumes with space group 0 as well; then mz tells, or a cube.
    mz = int(header.mz)
    stack = group == 0 and shape[0] > 1 and (mz == 1 or (mz != shape[0] and len(set(shape)) > 1))
    endings = (".mrcs", ".mrcs.gz", ".mrcs.bz2")
    if stack or group in VOLUME_STACK_GROUPS or path.name.lower().endswith(endings):
        raise InputError(f"{path} is a stack of {shape[0]} images or volumes: expected one volume")
    if shape[0] == 1:
        raise InputError(f"{path} has the shape {shape}: expected a volume, not an image")


def _axes(path: Path, header: dict[str, Any]) -> tuple[int, ...]:
    """For (z, y, x), which axis of the file's array it is."""
    order = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    if sorted(order) != [1, 2, 3]:
        raise InputError(f"{path}: the header's axis order {order} makes no sense")
    return tuple(order.index(axis) for axis in (3, 2, 1))


def _header_voxel_size(header: dict[str, Any]) -> tuple[float, float, float]:
    cell = header["cella"]
    x, y, z = (
        float(cell[axis]) / max(int(header[count]), 1)
        for axis, count in (("x", "mx"), ("y", "my"), ("z", "mz"))
    )
    return x, y, z


def _voxel_size(path: Path, header: dict[str, Any]) -> float:
    sizes = _header_voxel_size(header)
    finite = all(math.isfinite(size) for size in sizes)
    if not finite or max(sizes) - min(sizes) > VOXEL_SIZE_TOLERANCE * abs(sizes[0]):
        x, y, z = sizes
        raise InputError(
            f"{path}: the voxel size differs along the axes ({x:g}, {y:g}, {z:g} Å): give the "
            "right one with --voxel-size"
        )
    try:
        return check_voxel_size(sizes[0])
    except InputError as error:
        raise InputError(f"{path}: {error} with --voxel-size") from error


def _set_voxel_size(header: dict[str, Any], shape: tuple[int, ...], size: float) -> None:
    """Make the header's cell that of the box, (z, y, x), at a voxel size."""
    for axis, count in zip("zyx", shape, strict=True):
        header[f"m{axis}"][...] = count
        header["cella"][axis] = count * size


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
