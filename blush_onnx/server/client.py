"""A client of the server, for Python programs and for this package's own commands."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blush_onnx import errors
from blush_onnx.errors import BlushError, EngineError
from blush_onnx.server.messages import Message, ProtocolError, read_message, write_message

Array = npt.NDArray[np.float32]
Progress = Callable[[int, int], object]

ANSWER_SECONDS = 30.0
"""How long a server may take to greet."""


class Client:
    """A connection to a server; made by :meth:`connect` or :meth:`start`.

    Attributes
    ----------
    server : dict
        What it said of itself: protocol, version, model, engine.
    """

    def __init__(
        self, incoming: BinaryIO, outgoing: BinaryIO, end: Callable[[], object]
    ) -> None:
        self._incoming, self._outgoing, self._end = incoming, outgoing, end
        self._next = 0
        try:
            self.server = self._receive().header
        except BaseException:
            self.close()
            raise

    @classmethod
    def connect(cls, path: str | os.PathLike[str]) -> Client:
        """Connect to ``blush-onnx serve --socket``.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        Client

        Raises
        ------
        EngineError
            Nobody answers there, or another user does.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(os.fspath(path))
            _require_own_user(connection, path)
            client = cls(connection.makefile("rb"), connection.makefile("wb"), connection.close)
            connection.settimeout(None)
        except OSError as error:
            connection.close()
            raise EngineError(
                f"no server answers at {Path(path)} ({error.strerror or error}): start one with "
                f"blush-onnx serve --socket {path}"
            ) from error
        return client

    @classmethod
    def start(cls, arguments: Sequence[str] = ()) -> Client:
        """Start ``blush-onnx serve --stdio`` as a process of its own.

        Parameters
        ----------
        arguments : sequence of str
            Further options, such as ``--provider cpu``.

        Returns
        -------
        Client

        Raises
        ------
        EngineError
            It ended before it greeted; its words stand on stderr.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "blush_onnx", "serve", "--stdio", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        if process.stdin is None or process.stdout is None:
            raise EngineError("the server's streams could not be made")
        return cls(process.stdout, process.stdin, process.wait)  # type: ignore[arg-type]

    def call(
        self, kind: str, volumes: Mapping[str, Array] | None = None,
        *, progress: Progress | None = None, **arguments: Any,
    ) -> Message:
        """Ask for something and wait for the answer.

        Parameters
        ----------
        kind : str
            See docs/serving.md.
        volumes : mapping of str to array
        progress : callable, optional
            Called with (done, total) patches. Whatever it raises cancels the request.
        **arguments
            Of the request.

        Returns
        -------
        Message
            Its ``header["result"]`` and ``volumes``.

        Raises
        ------
        BlushError
            What the server raised, of the same class.
        EngineError
            The server is gone.
        """
        self._next += 1
        identity = self._next
        self._send({"id": identity, "do": kind, "arguments": arguments}, volumes)
        while True:
            message = self._receive()
            header = message.header
            if header.get("id") not in (identity, None):
                continue  # of a request that was given up
            if header["state"] == "progress":
                if progress:
                    try:
                        progress(header["done"], header["total"])
                    except BaseException:
                        self._cancel(identity)
                        raise
            elif header["state"] == "failed":
                kind_of_error = getattr(errors, header["error"], EngineError)
                raise kind_of_error(header["message"])
            else:
                return message

    def _cancel(self, identity: int) -> None:
        self._next += 1
        with contextlib.suppress(BlushError):
            self._send({"id": self._next, "do": "cancel", "of": identity})

    def _send(
        self, header: Mapping[str, Any], volumes: Mapping[str, Array] | None = None
    ) -> None:
        try:
            write_message(self._outgoing, header, volumes)
        except (OSError, ValueError) as error:
            raise EngineError(f"the server is gone: {error}") from error

    def _receive(self) -> Message:
        try:
            message = read_message(self._incoming)
        except (OSError, ProtocolError) as error:
            raise EngineError(f"the server cannot be understood: {error}") from error
        if message is None:
            raise EngineError("the server has ended")
        return message

    def close(self) -> None:
        """End the connection; a server that was started ends with it."""
        for stream in (self._outgoing, self._incoming):
            with contextlib.suppress(OSError):
                stream.close()
        self._end()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _require_own_user(connection: socket.socket, path: str | os.PathLike[str]) -> None:
    """In a folder that others may write to another user's server could lie in wait."""
    if hasattr(socket, "SO_PEERCRED"):
        answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        owner = struct.unpack("3i", answer)[1]
    else:
        owner = Path(path).stat().st_uid
    if owner != os.getuid():
        raise EngineError(
            f"the server at {Path(path)} belongs to another user (number {owner}): use one of "
            "your own"
        )
