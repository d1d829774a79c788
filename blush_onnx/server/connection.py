"""One client of the server: requests in, progress and answers out, until the client leaves."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blush_onnx.denoiser import Denoiser, Progress
from blush_onnx.errors import BlushError, InputError
from blush_onnx.server import shared_files
from blush_onnx.server.messages import (
    LARGEST_PAYLOAD,
    Message,
    ProtocolError,
    bytes_of,
    encode_start,
    listed_volumes,
    read_message,
    send,
)
from blush_onnx.server.requests import answer, describe, request_of

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]

MOST_WAITING = 8
PROGRESS_SECONDS = 0.1


class _Cancelled(Exception):
    """The client wants no more of the request, or is gone."""


@dataclass
class _Job:
    """A request that was accepted."""

    id: Any
    message: Message
    cancelled: threading.Event = field(default_factory=threading.Event)


class Connection:
    """A client.

    Parameters
    ----------
    incoming, outgoing : binary files
    denoiser : Denoiser
    turn : lock
        Held while a request is worked on, so that one is at a time over all clients.
    largest_payload : int
        Bytes of volumes: within a message, of one in a file, and of all that wait.
    """

    def __init__(
        self, incoming: BinaryIO, outgoing: BinaryIO, denoiser: Denoiser,
        turn: contextlib.AbstractContextManager[Any], largest_payload: int = LARGEST_PAYLOAD,
    ) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._denoiser, self._turn = denoiser, turn
        self._largest_payload = largest_payload
        self._writing = threading.Lock()
        self._waiting: queue.Queue[_Job | None] = queue.Queue()
        self._jobs: dict[Any, _Job] = {}
        self._gone = threading.Event()

    def serve(self) -> None:
        """Greet the client and do what it asks, until it ends its side of the stream.

        Raises
        ------
        ProtocolError
            What came is no message; the client was told.
        """
        self._say({"state": "hello", **describe(self._denoiser)})
        worker = threading.Thread(target=self._work, name="blush-onnx-server", daemon=True)
        worker.start()
        try:
            while (message := read_message(self._incoming, self._largest_payload)) is not None:
                self._take(message)
        except ProtocolError as error:
            self._say({"id": None, **_failure(error)})
            raise
        except BaseException:  # the connection broke, or this process is to end
            self.stop()
            raise
        finally:
            # Nobody reads the answers of a client that is gone; one that ended its side alone
            # still waits for those of what it sent.
            self._waiting.put(None)
            worker.join()

    def stop(self) -> None:
        """Let go of everything that is under way."""
        self._gone.set()

    def _take(self, message: Message) -> None:
        header = message.header
        identity = header.get("id")
        if not isinstance(identity, (int, str)):
            self._refuse(None, "a request needs an id, number or text")
        elif header.get("do") == "cancel":
            of = header.get("of")
            job = self._jobs.get(of) if isinstance(of, (int, str)) else None
            if job is not None:
                job.cancelled.set()
            self._say({"id": identity, "state": "done", "result": {"cancelled": job is not None}})
        elif identity in self._jobs:
            self._refuse(identity, f"the id {identity!r} belongs to a request that is not done yet")
        elif len(self._jobs) >= MOST_WAITING:
            self._refuse(identity, f"{MOST_WAITING} requests wait already: send it again later")
        elif self._held() + message.nbytes > self._largest_payload:
            self._refuse(
                identity, f"the requests that wait would hold more than {self._largest_payload} "
                "bytes: send it again later"
            )
        else:
            job = self._jobs[identity] = _Job(identity, message)
            self._waiting.put(job)

    def _held(self) -> int:
        return sum(job.message.nbytes for job in list(self._jobs.values()))

    def _refuse(self, identity: Any, why: str) -> None:
        self._say({"id": identity, **_failure(InputError(why))})

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            volumes: dict[str, Array] = {}
            try:
                with self._turn:
                    reply, volumes = self._do(job)
            except _Cancelled:
                reply = {"state": "cancelled"}
            except BlushError as error:
                reply = _failure(error)
            except Exception as error:
                logger.exception("request %s", job.id)
                reply = _failure(error)
            # It is done when the client can know; and a client that is slow to listen keeps
            # nobody else waiting.
            self._jobs.pop(job.id, None)
            self._say({"id": job.id, **reply}, volumes)

    def _do(self, job: _Job) -> tuple[dict[str, Any], dict[str, Array]]:
        """The answer's header and what of it travels inline."""
        kind, arguments, rooms = _parts(job.message.header)
        volumes = dict(job.message.volumes)
        for described in listed_volumes(job.message.header):
            if "file" in described:
                if bytes_of(described) > self._largest_payload:
                    raise InputError(
                        f"the volume {described['name']} has {bytes_of(described)} bytes; at most "
                        f"{self._largest_payload}"
                    )
                volumes[described["name"]] = shared_files.read_volume(described)
        progress = self._progress(job)
        progress(0, 1)  # it may be cancelled already
        done = answer(kind, self._denoiser, volumes, arguments, progress)
        elsewhere = [rooms[name] for name in done.volumes if name in rooms]
        for room in elsewhere:
            shared_files.write_volume(room, done.volumes[room["name"]])
        inline = {name: v for name, v in done.volumes.items() if name not in rooms}
        reply = {"state": "done", "result": _finite(done.result)}
        return reply | ({"volumes": elsewhere} if elsewhere else {}), inline

    def _progress(self, job: _Job) -> Progress:
        last = -math.inf

        def progress(done: int, total: int) -> None:
            nonlocal last
            if job.cancelled.is_set() or self._gone.is_set():
                raise _Cancelled
            if done and (done == total or time.monotonic() - last >= PROGRESS_SECONDS):
                last = time.monotonic()
                self._say({"id": job.id, "state": "progress", "done": done, "total": total})

        return progress

    def _say(self, header: Mapping[str, Any], volumes: Mapping[str, Array] | None = None) -> None:
        """Send something; a client that is gone is not an error here, but ends its requests."""
        if self._gone.is_set():
            return
        try:
            start = encode_start(header, volumes or {})
        except ValueError as error:  # half a surrogate pair in an id
            logger.warning("an answer could not be written as JSON: %s", error)
            start = encode_start({"id": None, **_failure(error)}, {})
            volumes = {}
        try:
            with self._writing:
                send(self._outgoing, start, volumes or {})
        except (OSError, ValueError):  # ValueError: the stream was closed by another thread
            self._gone.set()


def _parts(header: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, dict[str, Any]]]:
    """What is asked for, its arguments, and where the client wants results put."""
    kind, arguments = header.get("do"), header.get("arguments", {})
    if not isinstance(kind, str) or not isinstance(arguments, dict):
        raise InputError('a request has "do", a text, and perhaps "arguments", an object')
    unknown = set(header) - {"id", "do", "arguments", "volumes", "results"}
    if unknown:
        raise InputError(f"a request has no {', '.join(sorted(map(repr, unknown)))}")
    rooms = {each["name"]: each for each in listed_volumes({"volumes": header.get("results", [])})}
    known = request_of(kind).results
    for name, room in rooms.items():
        if name not in known:
            raise InputError(f"{kind} has no result {name!r}: {', '.join(known) or 'none'}")
        if "file" not in room:
            raise InputError("results lists volumes with a file each")
        shared_files.check_room(room)
    return kind, arguments, rooms


def _failure(error: Exception) -> dict[str, Any]:
    return {"state": "failed", "error": type(error).__name__, "message": str(error)}


def _finite(value: Any) -> Any:
    """JSON has no infinity: null stands for it."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
