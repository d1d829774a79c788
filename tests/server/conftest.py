from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blush_onnx import Denoiser
from blush_onnx.server.client import Client
from blush_onnx.server.connection import Connection
from blush_onnx.server.messages import ProtocolError


@pytest.fixture
def denoiser(tiny_model: Path) -> Denoiser:
    return Denoiser.load(tiny_model, provider="cpu", threads=1)


@pytest.fixture
def client(denoiser: Denoiser) -> Iterator[Client]:
    """Connected to a server in a thread of this process."""
    ours, theirs = socket.socketpair()
    connection = Connection(
        theirs.makefile("rb"), theirs.makefile("wb"), denoiser, threading.Lock(), 2**22
    )

    def serve() -> None:
        with contextlib.suppress(ProtocolError):
            connection.serve()
        theirs.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with Client(ours.makefile("rb"), ours.makefile("wb"), lambda: None) as client:
        yield client
    ours.close()
    thread.join(30)
    theirs.close()
    assert not thread.is_alive(), "the connection did not end with its client"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="blush-") as folder:
        yield Path(os.path.realpath(folder))
