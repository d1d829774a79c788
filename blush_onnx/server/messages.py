"""Messages of the server's protocol: a fixed start, a JSON header, and raw volumes.

The format stands in docs/serving.md. Everything is little-endian; volumes are float32, axes
(z, y, x), the last one fastest.
"""

from __future__ import annotations

import json
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
    given = [np.ascontiguousarray(v, dtype="<f4") for v in (volumes or {}).values()]
    listed = [
        {"name": name, "shape": list(volume.shape)}
        for name, volume in zip(volumes or {}, given, strict=True)
    ]
    complete = dict(header)
    if listed:
        complete["volumes"] = [*listed, *complete.get("volumes", [])]
    text = json.dumps(complete, ensure_ascii=False, allow_nan=False).encode()
    stream.write(START.pack(MAGIC, len(text), sum(v.nbytes for v in given)))
    stream.write(text)
    for volume in given:
        stream.write(volume.reshape(-1).view(np.uint8).data)
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
    start = stream.read(1)
    if not start:
        return None
    start += _read(stream, START.size - 1)
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
    sizes = [4 * int(np.prod(each["shape"], dtype=object)) for each in inline]
    if sum(sizes) != payload_bytes:
        raise ProtocolError(
            f"the volumes of the header have {sum(sizes)} bytes, {payload_bytes} follow"
        )
    volumes = {}
    for each, size in zip(inline, sizes, strict=True):
        values = np.frombuffer(_read(stream, size), dtype="<f4").astype(np.float32, copy=False)
        volumes[each["name"]] = values.reshape(each["shape"])
    return Message(header, volumes)


def listed_volumes(header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The header's list of volumes, if it is one.

    Raises
    ------
    ProtocolError
        Not a list of objects with a name and a shape of three sides.
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


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:  # also what is no UTF-8
        raise ProtocolError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ProtocolError("the header is no JSON object")
    return header


def _read(stream: BinaryIO, count: int) -> bytes:
    """Exactly so many bytes, as they come: nothing is set aside for what may never arrive."""
    parts, missing = [], count
    while missing:
        part = stream.read(min(missing, 2**24))
        if not part:
            raise ProtocolError(f"the stream ended {missing} bytes before the message did")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
