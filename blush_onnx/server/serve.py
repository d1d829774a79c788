"""Where clients come from: the standard streams, or a socket of this machine's user alone."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from blush_onnx.denoiser import Denoiser
from blush_onnx.errors import InputError, OutputError
from blush_onnx.server.connection import Connection
from blush_onnx.server.messages import LARGEST_PAYLOAD, ProtocolError

logger = logging.getLogger(__name__)

LONGEST_SOCKET_PATH = 107
"""Bytes; what the kernel's address has room for."""
MOST_CLIENTS = 64
SEND_SECONDS = 30.0
"""How long a client may not listen."""
PAUSE_SECONDS = 1.0
STOP_SECONDS = 10.0
"""How long a client's last patch may take when the server ends."""


def serve_stdio(
    incoming: BinaryIO, outgoing: BinaryIO, denoiser: Denoiser,
    largest_payload: int = LARGEST_PAYLOAD,
) -> None:
    """Serve one client over two streams, until it ends its own.

    Parameters
    ----------
    incoming, outgoing : binary files
    denoiser : Denoiser
    largest_payload : int
        Bytes of volumes within a message.

    Raises
    ------
    ProtocolError
        What came is no message.
    """
    Connection(incoming, outgoing, denoiser, threading.Lock(), largest_payload).serve()


@contextlib.contextmanager
def own_stdio() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The standard streams for messages alone: what libraries print goes to stderr instead.

    Yields
    ------
    incoming, outgoing : binary files
    """
    with (
        os.fdopen(os.dup(0), "rb") as incoming,
        os.fdopen(os.dup(1), "wb") as outgoing,
    ):
        sys.stdout.flush()
        os.dup2(2, 1)
        yield incoming, outgoing


def serve_socket(
    path: Path, denoiser: Denoiser, largest_payload: int = LARGEST_PAYLOAD,
    ready: Callable[[], object] | None = None,
) -> None:
    """Serve any number of clients on a socket in the file system, until SIGTERM or SIGINT.

    Requests are worked on one at a time, over all clients in the order in which they
    come to it. Nobody but the user who started it can connect.

    Parameters
    ----------
    path : Path
        Made with the mode 0600, removed at the end; one that a dead server left is replaced.
    denoiser : Denoiser
    largest_payload : int
        Bytes of volumes within a message.
    ready : callable, optional
        Called when clients can connect.

    Raises
    ------
    InputError
        The path is too long, is another kind of file, or another server answers there.
    OutputError
        The socket cannot be made.
    """
    clients = _Clients(denoiser, largest_payload)
    with _listening(path) as listener:
        logger.info("serving at %s", path)
        if ready is not None:
            ready()
        with _stopped_by_signals() as (stopped, woken):
            while True:
                select.select([listener, woken], [], [])
                if stopped.is_set():
                    break
                try:
                    client, _ = listener.accept()
                except BlockingIOError:  # it has gone again, or another signal woke us
                    continue
                except OSError as error:  # no more files, as a rule
                    logger.warning("no client can be taken now: %s", error)
                    stopped.wait(PAUSE_SECONDS)
                    continue
                client.setblocking(True)
                clients.welcome(client)
    clients.stop()


class _Clients:
    """Those that are connected, each with a thread of its own."""

    def __init__(self, denoiser: Denoiser, largest_payload: int) -> None:
        self._denoiser, self._largest_payload = denoiser, largest_payload
        self._turn = threading.Lock()
        self._connected: dict[threading.Thread, tuple[socket.socket, Connection]] = {}

    def welcome(self, client: socket.socket) -> None:
        """Serve a client, unless there are too many."""
        if len(self._connected) >= MOST_CLIENTS:
            logger.warning("more than %d clients: one was turned away", MOST_CLIENTS)
            client.close()
            return
        # One that does not listen is given up: it would hold up what it asked for.
        seconds = struct.pack("ll", int(SEND_SECONDS), 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        connection = Connection(
            client.makefile("rb"), client.makefile("wb"), self._denoiser, self._turn,
            self._largest_payload,
        )
        thread = threading.Thread(target=self._serve, args=(client, connection), daemon=True)
        self._connected[thread] = client, connection
        thread.start()

    def _serve(self, client: socket.socket, connection: Connection) -> None:
        try:
            connection.serve()
        except (ProtocolError, OSError) as error:
            logger.warning("a client was dropped: %s", error)
        except Exception:  # whatever it sent, the others go on
            logger.exception("a client was dropped")
        finally:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()
            self._connected.pop(threading.current_thread(), None)

    def stop(self) -> None:
        """End what is under way: threads that still compute would abort the process's end."""
        for thread, (client, connection) in list(self._connected.items()):
            connection.stop()
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            thread.join(STOP_SECONDS)


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    if not hasattr(socket, "AF_UNIX"):
        raise InputError("this system has no sockets in the file system: use --stdio")
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise InputError(
            f"{path} is too long for a socket: at most {LONGEST_SOCKET_PATH} bytes"
        )
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)  # 0600 from the first moment on
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        made = path.stat().st_ino
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OutputError(f"cannot make the socket {path}: {error.strerror or error}") from error
    try:
        yield listener
    finally:
        listener.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == made:  # not one that another server put there since
                path.unlink()


def _make_room(path: Path) -> None:
    """Remove a socket that nobody answers at."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(f"{path} exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be used: {error.strerror or error}") from error
        else:
            raise InputError(f"another server answers at {path}: use it, or choose another path")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, socket.socket]]:
    """What SIGTERM and SIGINT set, and a socket that they make readable.

    A signal can come before the wait for clients or in another thread, where it would
    not end that wait. Outside the main thread signals are left alone.
    """
    stopped = threading.Event()
    woken, wake = socket.socketpair()
    with woken, wake:
        if threading.current_thread() is not threading.main_thread():
            yield stopped, woken
            return
        wake.setblocking(False)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            stopped.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        waker = signal.set_wakeup_fd(wake.fileno())
        try:
            yield stopped, woken
        finally:
            signal.set_wakeup_fd(waker)
            for number, handler in before.items():
                signal.signal(number, handler)
