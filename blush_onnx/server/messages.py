"""Messages of the server's protocol: a fixed start, a JSON header, and raw volumes.

The format stands in docs/serving.md. Everything is little-endian; volumes are float32, axes
(z, y, x), the last one fastest.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blush_onnx.errors import BlushError

Array = npt.NDArray[np.float32]

PROTOCOL = 1
MAGIC = b"BLUSH\x00\x00\x01"
"""The last byte is the number of the protocol."""
START = struct.Struct("<8sIQ")
LARGEST_HEADER = 2**20
LARGEST_PAYLOAD = 2**32
LARGEST_SIDE = 4096


class ProtocolError(BlushError, ValueError):
    """What came is no message of this protocol; the connection is of no more use."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes
    ----------
    header : dict
    volumes : dict of str to array
        Those that travelled within the message, float32.
    """

    header: dict[str, Any]
    volumes: dict[str, Array] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of the volumes that travelled within it."""
        return sum(volume.nbytes for volume in self.volumes.values())


def write_message(
    stream: BinaryIO, header: Mapping[str, Any], volumes: Mapping[str, Array] | None = None
) -> None:
    """Send a message; its volumes travel within it.

    Parameters
    ----------
    stream : binary file
    header : mapping
        Without ``volumes``, unless that lists some that lie in files.
    volumes : mapping of str to array, optional

    Raises
    ------
    OSError
        The other side is gone.
    """
    send(stream, encode_start(header, volumes or {}), volumes or {})


def encode_start(header: Mapping[str, Any], volumes: Mapping[str, Array]) -> bytes:
    """A message up to its volumes.

    Raises
    ------
    ValueError
        The header is not for JSON.
    """
    listed = [{"name": name, "shape": list(volume.shape)} for name, volume in volumes.items()]
    complete = dict(header)
    if listed:
        complete["volumes"] = [*listed, *complete.get("volumes", [])]
    text = json.dumps(complete, ensure_ascii=False, allow_nan=False).encode()
    payload = sum(bytes_of(each) for each in listed)
    return START.pack(MAGIC, len(text), payload) + text


def send(stream: BinaryIO, start: bytes, volumes: Mapping[str, Array]) -> None:
    """Send a message whose start is encoded.

    Raises
    ------
    OSError
        The other side is gone.
    """
    stream.write(start)
    for volume in volumes.values():
        values = np.ascontiguousarray(volume, dtype="<f4")
        stream.write(values.reshape(-1).view(np.uint8).data)
    stream.flush()


def read_message(stream: BinaryIO, largest_payload: int = LARGEST_PAYLOAD) -> Message | None:
    """Receive a message.

    Parameters
    ----------
    stream : binary file
    largest_payload : int
        Bytes; what announces more is not read.

    Returns
    -------
    Message or None
        None where the stream ended before a message began.

    Raises
    ------
    ProtocolError
        It is no message, too large, or ends early.
    """
    first = stream.read(1)
    if not first:
        return None
    start = first + _read(stream, START.size - 1)
    magic, header_bytes, payload_bytes = START.unpack(start)
    if magic[:-1] != MAGIC[:-1]:
        raise ProtocolError(f"a message starts with {MAGIC[:5]!r}, not with {magic[:5]!r}")
    if magic != MAGIC:
        raise ProtocolError(f"the message is of protocol {magic[-1]}: this is protocol {PROTOCOL}")
    if header_bytes > LARGEST_HEADER:
        raise ProtocolError(f"a header of {header_bytes} bytes; at most {LARGEST_HEADER}")
    if payload_bytes > largest_payload:
        raise ProtocolError(f"volumes of {payload_bytes} bytes; at most {largest_payload}")
    header = _parse(_read(stream, header_bytes))
    inline = [each for each in listed_volumes(header) if "file" not in each]
    sizes = [bytes_of(each) for each in inline]
    if sum(sizes) != payload_bytes:
        raise ProtocolError(
            f"the volumes of the header have {sum(sizes)} bytes, {payload_bytes} follow"
        )
    volumes = {}
    for each, size in zip(inline, sizes, strict=True):
        values = np.frombuffer(_read(stream, size), dtype="<f4").astype(np.float32, copy=False)
        volumes[each["name"]] = values.reshape(each["shape"])
    return Message(header, volumes)


def bytes_of(described: Mapping[str, Any]) -> int:
    """Of a volume in a list."""
    return 4 * int(math.prod(described["shape"]))


def listed_volumes(header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The header's list of volumes, if it is one.

    Raises
    ------
    ProtocolError
        Not a list of objects with a name and a shape of one to four sides.
    """
    listed = header.get("volumes", [])
    if not isinstance(listed, list) or not all(_is_volume(each) for each in listed):
        raise ProtocolError(
            "volumes must be a list of objects with a name, a shape of one to four sides and, for "
            "those in a file, file and offset"
        )
    names = [each["name"] for each in listed]
    if len(set(names)) < len(names):
        raise ProtocolError(f"a volume is listed twice: {', '.join(names)}")
    return listed


def _is_volume(each: Any) -> bool:
    return (
        isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("shape"), list)
        and 1 <= len(each["shape"]) <= 4
        and all(type(n) is int and 1 <= n <= LARGEST_SIDE for n in each["shape"])
        and ("file" not in each or isinstance(each["file"], str))
        and type(each.get("offset", 0)) is int
        and each.get("offset", 0) >= 0
    )


def _parse(text: bytearray) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:  # also what is no UTF-8
        raise ProtocolError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ProtocolError("the header is no JSON object")
    return header


def _read(stream: BinaryIO, count: int) -> bytearray:
    """Exactly so many bytes, as they come: nothing is set aside for what may never arrive."""
    content = bytearray()
    while missing := count - len(content):
        part = stream.read(min(missing, 2**24))
        if not part:
            raise ProtocolError(f"the stream ended {missing} bytes before the message did")
        content += part
    return content
