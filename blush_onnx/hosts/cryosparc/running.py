"""An External job while it runs: its log, its progress, and its end, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from blush_onnx.errors import BlushError
from blush_onnx.hosts.cryosparc.connect import CryosparcError, Session, asking

RUNNING = "running"
PROGRESS_SECONDS = 10.0
PAUSE_AFTER_FAILURE = 300.0
"""Seconds without progress in the log after the server did not take it, and has retried already."""


class EndedElsewhere(CryosparcError):
    """The job was killed, cleared or deleted in cryoSPARC."""


@contextmanager
def running(session: Session, job: Any, prepare: Callable[[], None]) -> Iterator[None]:
    """Mark a job as running, and in the end as completed, or as failed with the reason.

    The client's own ``job.run()`` is not used: it takes Ctrl-C and signals for success.

    Parameters
    ----------
    session : Session
    job : object
        The client's External job.
    prepare : callable
        Connects its inputs and adds its outputs, while it is being built.
    """
    try:
        prepare()
        with asking(f"start {job.uid}"):
            job.start(RUNNING)
        yield
        with asking(f"mark {job.uid} as completed"):
            session.tools.complete(job)
    except EndedElsewhere:
        raise
    except BaseException as error:
        _mark_failed(session, job, reason_of(error))
        raise


def reason_of(error: BaseException) -> str:
    """Why the work ended, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BlushError):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "stopped with Ctrl-C (SIGINT)"
    if isinstance(error, MemoryError):
        return f"out of memory: {text}".rstrip(": ")
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {text} (a defect of blush-onnx)"
    return "stopped by a signal (SIGTERM or SIGHUP)"


class JobLog:
    """Lines and progress for a job's log, and a look at whether it is still wanted.

    Failures to write a line are no reason to lose the work: the first is told at the terminal.
    """

    def __init__(self, session: Session, job: Any) -> None:
        self._session, self._job = session, job
        self._next = 0.0
        self._told = False

    def line(self, text: str, level: str = "text") -> None:
        """A line: text, warning or error."""
        self._try(lambda: self._job.log(text, level=level))

    def plot(self, picture: bytes, text: str, csv: str | None = None) -> None:
        """A picture, the content of a PNG file, with the numbers that it shows."""
        self._try(lambda: self._job.log_plot(
            self._session.tools.picture(picture), text, formats=["png"], raw_data=csv,
            raw_data_format=None if csv is None else "csv",
        ))

    def progress(self, done: int, total: int) -> None:
        """Take note of (done, total) patches; from time to time tell the server."""
        now = time.monotonic()
        if now < self._next and done < total:
            return
        self._next = now + PROGRESS_SECONDS
        share = 100 * done // max(total, 1)
        text = f"Denoising: {done} of {total} patches, {share} %"
        if not self._try(lambda: self._session.tools.log_progress(self._job, text)):
            self._next = time.monotonic() + PAUSE_AFTER_FAILURE
            return
        self.check_wanted()

    def check_wanted(self) -> None:
        """Raise :class:`EndedElsewhere` when somebody has ended the job in cryoSPARC."""
        if self._try(self._job.refresh) and self._job.status != RUNNING:
            raise EndedElsewhere(
                f"{self._job.uid} is {self._job.status} in cryoSPARC: ended there, nothing saved"
            )

    def _try(self, call: Any) -> bool:
        try:
            with asking(f"take a line for the log of {self._job.uid}"):
                call()
        except CryosparcError as error:
            if not self._told:
                self._session.say(f"{error}; the work goes on")
            self._told = True
            return False
        return True


def _mark_failed(session: Session, job: Any, reason: str) -> None:
    try:
        with asking(f"mark {job.uid} as failed"):
            session.tools.fail(job, reason)
    except CryosparcError as error:
        session.say(f"{error}; it may look as if it were running: clear it in cryoSPARC")
