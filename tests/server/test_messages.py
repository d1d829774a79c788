from __future__ import annotations

import contextlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blush_onnx.server.messages import (
    LARGEST_HEADER,
    MAGIC,
    START,
    ProtocolError,
    read_message,
    write_message,
)


def raw(header: object, payload: bytes = b"", magic: bytes = MAGIC) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(START.pack(magic, len(text), len(payload)) + text + payload)


def test_a_message_comes_out_as_it_went_in() -> None:
    volumes = {
        "map": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "mask": np.ones((2, 2, 2), dtype=np.float32)[::-1, :, ::-1],
    }
    stream = io.BytesIO()
    write_message(stream, {"id": 1, "do": "denoise", "of": "Å"}, volumes)
    write_message(stream, {"id": 2})
    stream.seek(0)
    first, second = read_message(stream), read_message(stream)
    assert first is not None
    assert second is not None
    assert first.header["of"] == "Å"
    for name, volume in volumes.items():
        np.testing.assert_array_equal(first.volumes[name], volume)
        assert first.volumes[name].dtype == np.float32
    assert second.header == {"id": 2}
    assert read_message(stream) is None


def test_the_bytes_are_those_of_the_documentation() -> None:
    stream = io.BytesIO()
    write_message(stream, {"id": 1}, {"v": np.full((1, 1, 2), 1.5, dtype=">f4")})
    content = stream.getvalue()
    assert content[:8] == b"BLUSH\0\0\x01"
    header_bytes, payload_bytes = struct.unpack("<IQ", content[8:20])
    assert payload_bytes == 8
    assert json.loads(content[20 : 20 + header_bytes]) == {
        "id": 1, "volumes": [{"name": "v", "shape": [1, 1, 2]}]
    }
    assert content[20 + header_bytes :] == struct.pack("<ff", 1.5, 1.5)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (raw({}, magic=b"GET / HT"), "starts with"),
        (raw({}, magic=MAGIC[:-1] + b"\x02"), "protocol 2: this is protocol 1"),
        (raw(b"{"), "no JSON"),
        (raw(b"\xff\xfe{}"), "no JSON"),
        (raw(b"[" * 100_000), "no JSON"),
        (raw([1]), "no JSON object"),
        (raw({"volumes": 3}), "list of objects"),
        (raw({"volumes": [{"name": "a"}]}), "list of objects"),
        (raw({"volumes": [{"name": "a", "shape": [0, 1, 1]}]}), "list of objects"),
        (raw({"volumes": [{"name": "a", "shape": [2.0, 1, 1]}]}), "list of objects"),
        (raw({"volumes": [{"name": "a", "shape": [10**9] * 3}]}), "list of objects"),
        (raw({"volumes": [{"name": "a", "shape": [1, 1, 1]}]}), "4 bytes, 0 follow"),
        (raw({}, b"1234"), "0 bytes, 4 follow"),
        (raw({"volumes": [{"name": "a", "shape": [1], "file": 7}]}), "list of objects"),
        (raw({"volumes": [{"name": "a", "shape": [1], "file": "x", "offset": -4}]}), "list of"),
        (raw({"volumes": [{"name": "a", "shape": [1]}] * 2}, bytes(8)), "listed twice"),
        (io.BytesIO(START.pack(MAGIC, LARGEST_HEADER + 1, 0)), "at most"),
        (io.BytesIO(START.pack(MAGIC, 10, 0) + b"{}"), "ended 8 bytes before"),
        (io.BytesIO(b"BLU"), "ended 17 bytes before"),
    ],
)
def test_what_is_no_message_is_refused(stream: io.BytesIO, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        read_message(stream)


def test_volumes_that_are_too_large_are_refused_before_they_are_read() -> None:
    stream = io.BytesIO(START.pack(MAGIC, 2, 2**40) + b"{}")
    with pytest.raises(ProtocolError, match=f"{2**40} bytes; at most 100"):
        read_message(stream, 100)
    assert stream.tell() == START.size


@given(st.binary(max_size=200))
def test_no_bytes_at_all_end_in_another_error(content: bytes) -> None:
    """Whatever comes, after a right start or without one."""
    for stream in (io.BytesIO(content), io.BytesIO(START.pack(MAGIC, 20, 8) + content)):
        with contextlib.suppress(ProtocolError):
            read_message(stream)
