"""Read a PyTorch checkpoint without PyTorch, and without running anything in it.

A checkpoint in the official layout (docs/models.md) is a pickle with its arrays
beside it. Pickles can name any function to be called; this reader resolves the
handful of names that a state dict consists of to functions of its own and
refuses every other. The Python source in ``model_definition`` is text to it.
"""

from __future__ import annotations

import bz2
import collections
import gzip
import hashlib
import io
import pickle  # noqa: S403  # only through the restricted reader below
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import ModelError

MAXIMUM_BYTES = 1 << 30
"""Largest checkpoint that is read, unpacked; the official one has 52 MB."""

State = dict[str, npt.NDArray[np.floating]]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint in the official layout holds.

    Attributes
    ----------
    state : dict of str to array
        Weights under their state-dict names, in the precision they were stored in.
    voxel_size : float
        Å per voxel that the network was trained at.
    patch_size : int
        Side of the network's patches, voxels.
    has_mask : bool
        Whether the network predicts a solvent mask.
    sha256 : str
        Of the file as it is on disk.
    """

    state: State
    voxel_size: float
    patch_size: int
    has_mask: bool
    sha256: str


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file, plain or compressed with gzip or bzip2.

    Parameters
    ----------
    path : path
        File written by ``torch.save``, in its zip or its older format.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        The file is missing, damaged, larger than 1 GiB, names code to run, or is
        not in the official layout.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = unpack(raw)
        loaded = _load(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged pickles raise anything at all
        raise ModelError(
            f"{path} is not a readable PyTorch checkpoint ({type(error).__name__}: {error})"
        ) from error
    return as_checkpoint(loaded, hashlib.sha256(raw).hexdigest(), str(path))


def as_checkpoint(loaded: object, sha256: str, name: str) -> Checkpoint:
    """Check the official layout of an already loaded dictionary.

    Parameters
    ----------
    loaded : object
        A dictionary with ``model_state_dict``, ``voxel_size``, ``block_size`` and
        optionally ``no_mask``; arrays are NumPy's.
    sha256 : str
        Checksum of the file it came from.
    name : str
        What to call it in an error.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        Something is missing or of the wrong kind.
    """
    missing = ["model_state_dict", "voxel_size", "block_size"]
    if isinstance(loaded, Mapping):
        missing = [key for key in missing if key not in loaded]
    if not isinstance(loaded, Mapping) or missing:
        raise ModelError(
            f"{name} is not a Blush checkpoint: it should be a dictionary with "
            f"{', '.join(missing)}"
        )
    state = loaded["model_state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) for key, value in state.items()
    ):
        raise ModelError(f"{name}: model_state_dict should map names to arrays")
    for key, value in state.items():
        if not np.issubdtype(value.dtype, np.floating) or not np.isfinite(value).all():
            raise ModelError(f"{name}: the weights {key} are not finite real numbers")
    try:
        voxel_size, block_size = float(loaded["voxel_size"]), float(loaded["block_size"])
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name}: voxel_size and block_size should be numbers") from error
    if not 0.1 <= voxel_size <= 20 or not 32 <= block_size <= 512 or block_size % 1:
        raise ModelError(
            f"{name}: voxel size {voxel_size} Å and patch side {block_size} voxels make no sense"
        )
    return Checkpoint(
        dict(state), voxel_size, int(block_size), not bool(loaded.get("no_mask", False)), sha256
    )


def unpack(raw: bytes) -> bytes:
    """Undo gzip or bzip2 where the first bytes tell of it, up to 1 GiB.

    Raises
    ------
    ModelError
        What comes out is larger than that.
    """
    opened: io.BufferedIOBase
    if raw[:2] == b"\x1f\x8b":
        opened = gzip.GzipFile(fileobj=io.BytesIO(raw))
    elif raw[:3] == b"BZh":
        opened = bz2.BZ2File(io.BytesIO(raw))
    else:
        opened = io.BytesIO(raw)
    content = opened.read(MAXIMUM_BYTES + 1)
    if len(content) > MAXIMUM_BYTES:
        raise ModelError(f"unpacks to more than {MAXIMUM_BYTES >> 20} MiB")
    return content


def _load(content: bytes) -> object:
    if content[:4] != b"PK\x03\x04":
        return _load_legacy(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(item.file_size for item in archive.infolist()) > MAXIMUM_BYTES:
            raise ModelError(f"unpacks to more than {MAXIMUM_BYTES >> 20} MiB")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ModelError("is a zip file, but not one that torch.save wrote")
        root = pickles[0][: -len("data.pkl")]
        if f"{root}byteorder" in archive.namelist():
            order = archive.read(f"{root}byteorder")
            if order != b"little":
                raise ModelError(f"is stored in {order.decode(errors='replace')}-endian order")

        def storage(dtype: np.dtype[Any], key: str, length: int) -> npt.NDArray[Any]:
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype=dtype, count=length)

        return _Reader(io.BytesIO(archive.read(pickles[0])), storage).load()


def _load_legacy(content: bytes) -> object:
    """The format before PyTorch 1.6: five pickles, then the arrays in the order of a list."""
    stream = io.BytesIO(content)
    pending: dict[str, npt.NDArray[Any]] = {}

    def storage(dtype: np.dtype[Any], key: str, length: int) -> npt.NDArray[Any]:
        if length * dtype.itemsize > len(content):
            raise ModelError("names arrays larger than itself")
        return pending.setdefault(key, np.zeros(length, dtype=dtype))

    def next_pickle() -> object:
        return _Reader(stream, storage).load()

    if next_pickle() != _LEGACY_MAGIC:
        raise ModelError("is not a PyTorch checkpoint")
    next_pickle()  # protocol version
    next_pickle()  # sizes of C types
    loaded = next_pickle()
    keys = next_pickle()
    if not isinstance(keys, list):
        raise ModelError("is damaged: the list of its arrays is missing")
    for key in keys:
        (length,) = np.frombuffer(stream.read(8), dtype="<i8")
        array = pending[key]
        if length != array.size:
            raise ModelError("is damaged: an array has not the length it claims")
        array[:] = np.frombuffer(stream.read(array.nbytes), dtype=array.dtype)
    return loaded


class _Reader(pickle.Unpickler):
    """Unpickler that knows tensors, ordered dictionaries and NumPy numbers, nothing else."""

    def __init__(
        self,
        stream: io.BytesIO,
        storage: Callable[[np.dtype[Any], str, int], npt.NDArray[Any]],
    ) -> None:
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        known = _KNOWN.get((module, name))
        if known is None:
            raise ModelError(
                f"names {module}.{name}, which a checkpoint of weights has no use for; "
                "nothing of it was run. Do not load this file elsewhere unless you trust it"
            )
        return known

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise ModelError("is damaged: an array is not described as PyTorch does")
        _, code, key, _, length = pid[:5]
        if code not in _STORAGE_TYPES.values() or not isinstance(length, int) or length < 0:
            raise ModelError("is damaged: an array has no type or length")
        return self._storage(np.dtype(code), str(key), length)


def _tensor(
    storage: npt.NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...],
    *_: object,
) -> npt.NDArray[Any]:
    """View of a storage; NumPy's own bounds check stands between it and the memory."""
    item = storage.itemsize
    if any(s < 0 for s in (*size, *stride)) or offset < 0 or len(size) != len(stride):
        raise ModelError("is damaged: a tensor has a negative size")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    elements = 1
    for n in size:
        elements *= n
    if elements > storage.size or (elements and last >= storage.size):
        raise ModelError("is damaged: a tensor reaches beyond its array")
    view: npt.NDArray[Any] = np.ndarray(
        size, storage.dtype, buffer=storage.data, offset=offset * item,
        strides=tuple(s * item for s in stride),
    )
    return view


def _parameter(tensor: npt.NDArray[Any], *_: object) -> npt.NDArray[Any]:
    return tensor


class _NumberType:
    """Stands for a pickled numpy.dtype: the state that follows is its byte order."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "fiub":
            raise ModelError(f"holds a NumPy value of the type {code}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


def _number_type(code: str, *_: object) -> _NumberType:
    return _NumberType(code)


def _number(kind: _NumberType, content: bytes | str) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(raw, dtype=kind.dtype, count=1)[0].item()


def _encode(text: str, *_: object) -> bytes:
    return text.encode("latin1")


class _Callable:
    """A function that a pickle may call and can do nothing else with.

    Pickles can set attributes on what they name; here that is refused.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> None:
        raise ModelError("tries to change what it is read with; nothing of it was run")


_KNOWN: dict[tuple[str, str], _Callable] = {
    ("collections", "OrderedDict"): _Callable(collections.OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): _Callable(_tensor),
    ("torch._utils", "_rebuild_tensor"): _Callable(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Callable(_parameter),
    ("numpy", "dtype"): _Callable(_number_type),
    ("numpy.core.multiarray", "scalar"): _Callable(_number),
    ("numpy._core.multiarray", "scalar"): _Callable(_number),
    ("_codecs", "encode"): _Callable(_encode),
}
